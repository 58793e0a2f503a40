//! Handing a conversation on to new keys, without those who are to leave.

use delta_core::crypto::{
    CryptoError, GroupCrypto, PreparedRotation, Recipient, Rotator, TwoParty, prepare_rotation,
};
use delta_core::engine::{Command, CommandError, Reply};
use delta_core::identity::{Author, Millis, OperationId};
use delta_core::store::{Reader, StoreError};
use delta_core::topic::TopicId;

use crate::client::{Client, unexpected};
use crate::error::ClientError;
use crate::platform::PlatformEntropy;

/// How often a rotation is prepared again because something came in between.
const ATTEMPTS: usize = 3;

/// A device that stays in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Which.
    pub device: Author,
    /// Whether it may write.
    pub may_write: bool,
}

/// A rotation that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Its operation. The conversation moves once that stands in the topic, before any other rotation.
    pub operation: OperationId,
    /// Devices that get no key with it: no usable key bundle of theirs is known.
    pub left_out: Vec<Author>,
}

impl Client {
    /// Names the devices that may rotate the keys of a conversation. They replace those named before.
    pub async fn set_rotators(&self, topic: TopicId, devices: Vec<Author>) -> Result<(), ClientError> {
        self.command(Command::SetRotators { topic, devices }).await.map(drop)
    }

    /// Publishes a fresh key bundle of this device, with which others hand it keys while it is away. Again when half of
    /// its time is over ([`delta_core::crypto::PREKEY_LIFETIME_MS`]).
    pub async fn publish_bundle(&self, topic: TopicId) -> Result<OperationId, ClientError> {
        let now = self.now();
        // On a blocking thread: the library draws from the operating system, and curves take their time.
        let secrets = self.read(move |reader| {
            Ok(match reader.device_secrets()? {
                Some(secrets) => TwoParty.rotate_prekey(&secrets, now),
                None => TwoParty.generate(now, &mut PlatformEntropy),
            })
        });
        let secrets = Box::new(secrets.await?.map_err(CommandError::from)?);
        match self.command(Command::PublishBundle { topic, secrets }).await? {
            Reply::Published(operation) => Ok(operation),
            other => Err(unexpected(&other)),
        }
    }

    /// Hands the conversation's next keys to these devices (this one is always among them) and moves it to a new topic.
    /// Whoever is not named reads and writes nothing from then on.
    ///
    /// # Errors
    /// `not_rotator` when this device was not named as one that may; `stale_rotation` when too much happened meanwhile.
    pub async fn rotate(&self, topic: TopicId, remaining: Vec<Remaining>) -> Result<Rotated, ClientError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (now, author, to) = (self.now(), self.author(), remaining.clone());
            let prepared = self.read(move |reader| prepare(reader, topic, author, &to, now)).await??;
            let left_out = prepared.left_out.iter().map(|(device, _)| *device).collect();
            match self.command(Command::Rotate { topic, prepared: Box::new(prepared) }).await {
                Ok(Reply::Published(operation)) => return Ok(Rotated { operation, left_out }),
                Err(ClientError::Command(CommandError::StaleRotation)) if attempts < ATTEMPTS => {}
                Ok(other) => return Err(unexpected(&other)),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Seals the next epoch for every device, from its bundle.
fn prepare(
    reader: &Reader,
    topic: TopicId,
    author: Author,
    remaining: &[Remaining],
    now: Millis,
) -> Result<Result<PreparedRotation, ClientError>, StoreError> {
    let refused = |error| Ok(Err(ClientError::Command(error)));
    let Some(known) = reader.topic(topic)? else { return refused(CommandError::UnknownTopic) };
    let log = known.ticket.log();
    let Some(current) = reader.topic(reader.living_in(topic)?)? else {
        return refused(CommandError::UnknownTopic);
    };
    let Some(secrets) = reader.device_secrets()? else { return refused(CommandError::NoKey) };
    let (mut bundles, mut unknown) = (Vec::new(), Vec::new());
    for to in remaining.iter().filter(|to| to.device != author) {
        match reader.device_bundle(&to.device)? {
            Some(bundle) => bundles.push((bundle, to.may_write)),
            None => unknown.push((to.device, CryptoError::NoBundle)),
        }
    }
    let recipients: Vec<Recipient<'_>> =
        bundles.iter().map(|(bundle, may_write)| Recipient { bundle, may_write: *may_write }).collect();
    let ends = reader.log_ends(&log)?;
    let (mut entropy, rotator) = (PlatformEntropy, Rotator { device: author, secrets: &secrets });
    let prepared =
        prepare_rotation(&TwoParty, rotator, &current.ticket, &recipients, ends, now, &mut entropy);
    Ok(match prepared {
        Ok(mut prepared) => {
            prepared.left_out.extend(unknown);
            Ok(prepared)
        }
        Err(error) => Err(ClientError::Command(CommandError::Rotation(error))),
    })
}
