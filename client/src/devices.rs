//! A person's devices: pairing a further one, revoking one, what they share (docs/wire.md, section 12.3).

use std::sync::Arc;
use std::time::Duration;

use delta_core::engine::{Command, CommandError, Reply};
use delta_core::entropy::Entropy;
use delta_core::identity::{
    Author, Certificate, Identity, IdentityKey, LogId, Millis, OperationId, Revocation,
};
use delta_core::ops::{Body, Content, OwnDevices, Ticket};
use delta_core::pairing::{Code, PAIRING_LIFETIME_MS, Pairing, Welcome, WelcomeError};
use delta_core::store::{Reader, StoreError};
use delta_core::topic::TopicId;
use delta_core::tree::{Arrange, IntoTree};
use thiserror::Error;

use crate::client::{Client, unexpected};
use crate::error::ClientError;
use crate::keystore::{DeviceSource, KeyStore, KeyStoreError, certify_device, device_key, identity_key};
use crate::platform::PlatformEntropy;
use crate::subscription::Subscription;

/// How often it is looked whether the other device has said something, beside the news of it.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Most that is looked at of one device in a pairing's topic: nobody has more to say in it.
const MAX_SAID: usize = 8;

/// Two devices do not become one person's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PairingFailure {
    /// A text is good for ten minutes, by the clock of each of the two devices. Begin again, with another one.
    #[error("the pairing's ten minutes are over: begin again, with another text")]
    Expired,
    /// The device of the text has answered another one: somebody else has the text.
    #[error("another device was answered: somebody else has this text, so confirm nothing and begin again")]
    Taken,
    /// Its person did not confirm the code. Nothing was handed over; begin again, with another text.
    #[error("the other device refused: nothing was handed over; begin again, with another text")]
    Refused,
    /// What it sent is not what makes this device the person's.
    #[error(transparent)]
    Welcome(WelcomeError),
    /// The person's words are on another device.
    #[error("only the device that holds the identity's words can do this: it is another one")]
    NotTheIdentity,
}

/// A device of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnDevice {
    /// Which.
    pub device: Author,
    /// It is this one.
    pub this: bool,
    /// It was revoked.
    pub revoked: bool,
}

/// A pairing on the device that shows its text.
#[derive(Debug)]
pub struct PairingHost {
    client: Client,
    identity: IdentityKey,
    meeting: Meeting,
}

/// A device that asks to be paired, on the device that decides.
#[derive(Debug)]
pub struct PairingRequest {
    host: PairingHost,
    device: Author,
    answer: OperationId,
    code: Code,
}

/// What was said to a new device in the end, on its way there.
#[derive(Debug)]
pub struct PairingHandover {
    client: Client,
    meeting: Meeting,
}

/// A pairing on the device that was given its text.
#[derive(Debug)]
pub struct PairingGuest {
    client: Client,
    meeting: Meeting,
    ask: OperationId,
}

/// The topic of a pairing.
#[derive(Debug)]
struct Meeting {
    pairing: Pairing,
    topic: TopicId,
    updates: Subscription,
    /// From when on the text is worth nothing.
    until: Millis,
}

/// What somebody said in a pairing's topic.
struct SaidThere {
    id: OperationId,
    author: Author,
    said: OwnDevices,
}

impl Client {
    /// Whose device this is.
    pub async fn identity(&self) -> Result<Identity, ClientError> {
        match self.command(Command::WhoAmI).await? {
            Reply::Identity(identity) => Ok(identity),
            other => Err(unexpected(&other)),
        }
    }

    /// Begins to pair a further device. Its text ([`PairingHost::text`]) is for one device, for ten minutes.
    ///
    /// # Errors
    /// `not_the_identity` where this device cannot certify another: the person's words are elsewhere.
    pub async fn pair(&self) -> Result<PairingHost, ClientError> {
        let identity = identity_key(self.keystore()?.as_ref(), self.identity().await?)?;
        self.own_topic(None).await?;
        let pairing = Pairing::generate(self.author(), &mut PlatformEntropy)?;
        let meeting = self.meet(pairing).await?;
        Ok(PairingHost { client: self.clone(), identity, meeting })
    }

    /// Asks to become a device of the person whose device shows this text. One that was left behind when what
    /// its person's devices share moved to new keys asks to be told anew where everything lives.
    /// (Its certificate is then of the same person, or [`PairingGuest::joined`] fails.)
    ///
    /// # Errors
    /// `certified` when it is somebody's already, and was not left behind. All that follows fails with `pairing_expired` after ten minutes.
    pub async fn join(&self, pairing: Pairing) -> Result<PairingGuest, ClientError> {
        self.keystore()?;
        if self.identity().await? != self.author().into() && !self.is_left_behind().await? {
            return Err(ClientError::Command(CommandError::Certified));
        }
        let meeting = self.meet(pairing).await?;
        let ask = meeting.say(self, OwnDevices::Ask).await?;
        Ok(PairingGuest { client: self.clone(), meeting, ask })
    }

    /// The person's devices, as far as this one has heard of them.
    pub async fn own_devices(&self) -> Result<Vec<OwnDevice>, ClientError> {
        let (identity, this) = (self.identity().await?, self.author());
        self.read(move |reader| {
            let revoked = reader.revoked_devices()?;
            let known = reader.devices_of(&identity)?.into_iter().chain([this]);
            let devices = known.chain(revoked.iter().copied()).into_set();
            let row = |device| OwnDevice { device, this: device == this, revoked: revoked.contains(&device) };
            Ok(devices.into_iter().map(row).collect())
        })
        .await
    }

    /// Revokes a device of this person, for good: its keys are worth nothing from the next rotation on, which every
    /// conversation that this device may rotate gets now, and the others by their managers.
    ///
    /// # Errors
    /// `not_the_identity` where the person's words are on another device; `not_own_device`.
    pub async fn revoke_device(&self, device: Author) -> Result<(), ClientError> {
        let identity = identity_key(self.keystore()?.as_ref(), self.identity().await?)?;
        let revocation = Box::new(Revocation::sign(&identity, device, self.now()));
        self.command(Command::Revoke { revocation }).await.map(drop)
    }

    /// Whether the topic that the person's devices share has moved to where this one has no key.
    async fn is_left_behind(&self) -> Result<bool, ClientError> {
        let newest = self.read(|reader| {
            let Some(own) = reader.own_topic()? else { return Ok(None) };
            reader.living_in(own.topic()).map(Some)
        });
        let Some(topic) = newest.await? else { return Ok(false) };
        Ok(self.status(topic).await?.awaiting_key.is_some())
    }

    fn keystore(&self) -> Result<Arc<dyn KeyStore>, ClientError> {
        match &self.shared.device {
            DeviceSource::KeyStore(keystore) => Ok(Arc::clone(keystore)),
            DeviceSource::Key(_) => Err(KeyStoreError::Failed("none is configured".to_owned()).into()),
        }
    }

    /// The topic that the person's devices share.
    async fn own_topic(&self, ticket: Option<Ticket>) -> Result<Ticket, ClientError> {
        match self.command(Command::OwnTopic { ticket }).await? {
            Reply::Ticket(ticket) => Ok(ticket),
            other => Err(unexpected(&other)),
        }
    }

    async fn meet(&self, pairing: Pairing) -> Result<Meeting, ClientError> {
        let ticket = pairing.ticket();
        let (topic, until) = (ticket.topic(), self.now().plus(PAIRING_LIFETIME_MS));
        self.command(Command::BeginPairing { ticket }).await?;
        let updates = self.subscribe(topic).await?;
        Ok(Meeting { pairing, topic, updates, until })
    }
}

impl PairingHost {
    /// What to show, as text or QR code. A secret: whoever has it may ask to be paired.
    pub fn text(&self) -> String {
        self.meeting.pairing.to_string()
    }

    /// Waits for the first device that asks. Show its [`PairingRequest::code`], and accept it when the new device
    /// shows the same.
    ///
    /// # Errors
    /// `pairing_expired` when none does in time.
    pub async fn asked(mut self) -> Result<PairingRequest, ClientError> {
        let host = self.client.author();
        let (ask, device) = loop {
            let there = self.meeting.said(&self.client).await?;
            let asks = there.into_iter().filter(|it| it.said == OwnDevices::Ask && it.author != host);
            if let Some(first) = asks.map(|it| (it.id, it.author)).next() {
                break first;
            }
            self.meeting.wait().await?;
        };
        let (answer, nonce) = self.meeting.answer(&self.client, ask).await?;
        let code = self.meeting.pairing.code(ask, &nonce);
        Ok(PairingRequest { host: self, device, answer, code })
    }
}

impl PairingRequest {
    /// The key of the device that asks.
    pub const fn device(&self) -> Author {
        self.device
    }

    /// To be compared with what the new device shows.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Certifies the device, and hands it the person's topics: it is on its way when this returns.
    ///
    /// # Errors
    /// `pairing_expired` when this took too long: nothing was handed over.
    pub async fn accept(self) -> Result<PairingHandover, ClientError> {
        let Self { host: PairingHost { client, identity, meeting }, device, answer, .. } = self;
        meeting.in_time(&client)?;
        let certificate = Certificate::sign(&identity, device, client.now());
        // Where it lives now: it may have moved since the text was shown.
        let own = client.own_topic(None).await?;
        let own_log = own.log();
        let tickets = client.read(move |reader| tickets(reader, own_log)).await?;
        let welcome = Welcome { certificate, own, tickets };
        let sealed = welcome.seal(&client.author(), &mut PlatformEntropy).map_err(PairingFailure::Welcome)?;
        meeting.say(&client, OwnDevices::Welcome { answer, sealed }).await?;
        // What it cannot open of what was said.
        client.command(Command::HandPast { to: device }).await?;
        Ok(PairingHandover { client, meeting })
    }

    /// Says that the device is not to be this person's: it is on its way there when this returns. (A request that is only
    /// dropped lets it wait for the end of the ten minutes.)
    pub async fn refuse(self) -> Result<PairingHandover, ClientError> {
        let Self { host: PairingHost { client, mut meeting, .. }, answer, .. } = self;
        // Packets overtake each other: before the answer this would look like one to somebody else.
        meeting.sent(&client).await?;
        meeting.answer(&client, answer).await?;
        Ok(PairingHandover { client, meeting })
    }
}

impl PairingHandover {
    /// Waits until the server has it; then nothing is left of the pairing here. (Without waiting it goes when its time is
    /// over.)
    ///
    /// # Errors
    /// `pairing_expired`: the other device may not have become the person's. Revoke it if it is not to.
    pub async fn delivered(mut self) -> Result<(), ClientError> {
        self.meeting.sent(&self.client).await?;
        self.meeting.end(&self.client).await
    }
}

impl PairingGuest {
    /// Waits for the device of the text. Show the code: its person compares it there.
    ///
    /// # Errors
    /// `pairing_taken` when another device was answered: somebody else has the text. Do not confirm anything.
    pub async fn code(&mut self) -> Result<Code, ClientError> {
        self.answer().await.map(|(_, code)| code)
    }

    async fn answer(&mut self) -> Result<(OperationId, Code), ClientError> {
        let host = self.meeting.pairing.host;
        loop {
            let there = self.meeting.said(&self.client).await?;
            let answers = there.into_iter().filter(|it| it.author == host).map(|it| (it.id, it.said));
            for (id, said) in answers {
                match said {
                    OwnDevices::Answer { ask, nonce } if ask == self.ask => {
                        return Ok((id, self.meeting.pairing.code(ask, &nonce)));
                    }
                    OwnDevices::Answer { .. } => {
                        self.meeting.end(&self.client).await?;
                        return Err(PairingFailure::Taken.into());
                    }
                    _ => {}
                }
            }
            self.meeting.wait().await?;
        }
    }

    /// Waits until the other device has accepted, and becomes a device of its person: with the person's topics, which
    /// fill as they are read.
    ///
    /// # Errors
    /// `pairing_refused` when it has not.
    ///
    /// It is certified last: stopped in the middle, it is nobody's, and can join with another text.
    pub async fn joined(mut self) -> Result<Identity, ClientError> {
        let (answer, _) = self.answer().await?;
        let host = self.meeting.pairing.host;
        let sealed = loop {
            let there = self.meeting.said(&self.client).await?;
            let end = there.into_iter().filter(|it| it.author == host).find_map(|it| match it.said {
                OwnDevices::Welcome { answer: to, sealed } if to == answer => Some(Some(sealed)),
                OwnDevices::Answer { ask: to, .. } if to == answer => Some(None),
                _ => None,
            });
            match end {
                Some(Some(sealed)) => break sealed,
                Some(None) => {
                    self.meeting.end(&self.client).await?;
                    return Err(PairingFailure::Refused.into());
                }
                None => self.meeting.wait().await?,
            }
        };
        let client = self.client.clone();
        let keystore = client.keystore()?;
        let key = device_key(keystore.as_ref(), client.author())?;
        let Welcome { certificate, own, tickets } =
            Welcome::open(&key, &host, sealed).map_err(PairingFailure::Welcome)?;
        // The others hear with their first word of it where it is written to.
        client.open_inbox().await?;
        // What the other devices say counts for the engine from here on; what lasts is the keystore's, and comes last.
        client.command(Command::Certify { certificate }).await?;
        client.own_topic(Some(own)).await?;
        for ticket in &tickets {
            // The newest of each conversation first: where it lives. One that is open here in another place stays there.
            match client.command(Command::Meet { ticket: ticket.clone() }).await {
                Ok(_) | Err(ClientError::Command(CommandError::LogTaken | CommandError::TicketConflict)) => {}
                Err(error) => return Err(error),
            }
        }
        certify_device(keystore.as_ref(), certificate)?;
        self.meeting.end(&client).await?;
        Ok(certificate.identity)
    }
}

impl Meeting {
    fn in_time(&self, client: &Client) -> Result<(), PairingFailure> {
        if client.now() < self.until { Ok(()) } else { Err(PairingFailure::Expired) }
    }

    /// What was said so far, in the order of the server's places.
    async fn said(&self, client: &Client) -> Result<Vec<SaidThere>, ClientError> {
        self.in_time(client)?;
        let log = self.pairing.ticket().log();
        client.read(move |reader| said_in(reader, log)).await
    }

    async fn say(&self, client: &Client, said: OwnDevices) -> Result<OperationId, ClientError> {
        client.publish(self.topic, Content::OwnDevices(Box::new(said))).await
    }

    /// Answers an ask. An answer to the answer before refuses what that one asked for.
    async fn answer(&self, client: &Client, to: OperationId) -> Result<(OperationId, [u8; 32]), ClientError> {
        let mut nonce = [0; 32];
        PlatformEntropy.fill(&mut nonce)?;
        let answer = self.say(client, OwnDevices::Answer { ask: to, nonce }).await?;
        Ok((answer, nonce))
    }

    /// Waits until the server has everything that was said here.
    async fn sent(&mut self, client: &Client) -> Result<(), ClientError> {
        loop {
            self.in_time(client)?;
            if client.outbox(self.topic, None, 1).await?.is_empty() {
                return Ok(());
            }
            self.wait().await?;
        }
    }

    /// Nothing is left of it on this device.
    async fn end(&self, client: &Client) -> Result<(), ClientError> {
        client.command(Command::EndPairing { topic: self.topic }).await.map(drop)
    }

    async fn wait(&mut self) -> Result<(), ClientError> {
        tokio::select! {
            update = self.updates.next() => update.map(drop).ok_or(ClientError::Closed),
            () = tokio::time::sleep(LOOK_EVERY) => Ok(()),
        }
    }
}

fn said_in(reader: &Reader, log: LogId) -> Result<Vec<SaidThere>, StoreError> {
    let mut there = Vec::new();
    for head in reader.log_heads(&log)? {
        for stored in reader.log_entries(&head.author, &log, 0, u32::MAX, MAX_SAID)? {
            let Some(Ok(body)) = stored.body.as_deref().map(Body::decode) else { continue };
            let Content::OwnDevices(said) = body.content else { continue };
            let place = reader.place_of(&stored.id)?.map(|stored| stored.place);
            there.push((place, SaidThere { id: stored.id, author: stored.author, said: *said }));
        }
    }
    there.arrange_by_key(|(place, it)| (*place, it.id));
    Ok(there.into_iter().map(|(_, it)| it).collect())
}

/// Everything that a device of the person is to have, but not this and other pairings; of each conversation the newest
/// first.
fn tickets(reader: &Reader, own: LogId) -> Result<Vec<Ticket>, StoreError> {
    let left_out = reader.pairings()?.into_iter().map(|it| it.log).chain([own]).into_set();
    let mut tickets: Vec<_> = reader.topics()?.into_iter().map(|row| row.ticket).collect();
    tickets.retain(|ticket| !left_out.contains(&ticket.log()) && !ticket.is_of_one_device());
    tickets.arrange_by_key(|ticket| (ticket.log(), std::cmp::Reverse(ticket.epoch())));
    Ok(tickets)
}
