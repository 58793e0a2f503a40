//! Tickets: one line of text from which a topic is opened.
//!
//! Unprefixed lower-case z-base-32 of `version u8 | log_id[32] | epoch u32 | write[32] | secret[32]`. A ticket is a
//! secret: it prints through `Display` only, because handing it over is what it is for.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::VerifyingKey;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::epoch::EpochKeys;
use super::keys::{Sealing, TopicKeys};
use super::membership::Hidden;
use super::own::TicketBytes;
use crate::codec::{DecodeError, Reader};
use crate::entropy::{Entropy, EntropyError};
use crate::identity::{Author, LogId};
use crate::topic::{TopicId, WriteKey, WriteVerifyingKey};

const LEN: usize = 1 + 32 + 4 + 32 + 32;
/// Without log id and epoch.
const HANDOVER: usize = LEN - 32 - 4;
/// Letters of the text: five bits each.
const TEXT_LEN: usize = (LEN * 8).div_ceil(5);

const PRIVATE_WRITE: u8 = 1;
const PRIVATE_READ: u8 = 2;
const PUBLIC_WRITE: u8 = 3;
const PUBLIC_READ: u8 = 4;
/// Kept by devices for themselves, never handed over.
const INBOX: u8 = 5;
const DIRECT: u8 = 6;

/// What it takes to open a topic: read it, and write to it when the ticket says so.
#[derive(Clone)]
pub struct Ticket {
    log: LogId,
    epoch: u32,
    access: Access,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Private(Secret),
    Public,
    Inbox,
    Direct,
}

#[derive(Clone)]
enum Access {
    Write(WriteKey),
    Read(WriteVerifyingKey),
}

#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct Secret([u8; 32]);

impl Ticket {
    /// Bytes of every ticket.
    pub(crate) const LEN: usize = LEN;

    /// A fresh private topic: random log id, write seed and secret, epoch 0.
    pub fn generate_private(entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        let mut random = Zeroizing::new([[0; 32]; 3]);
        for part in random.iter_mut() {
            entropy.fill(part)?;
        }
        // By reference: what is moved out of `random` would not be wiped.
        let [log, seed, secret] = &*random;
        let access = Access::Write(WriteKey::from_seed(*seed));
        Ok(Self { log: LogId(*log), epoch: 0, access, kind: Kind::Private(Secret(*secret)) })
    }

    /// A fresh public topic: a random write seed; the log id is the topic id.
    pub fn generate_public(entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed)?;
        let key = WriteKey::from_seed(*seed);
        Ok(Self { log: LogId(key.topic().0), epoch: 0, access: Access::Write(key), kind: Kind::Public })
    }

    /// A private topic from its parts (a room's next epoch, a welcome).
    pub const fn private(log: LogId, epoch: u32, write: WriteKey, secret: [u8; 32]) -> Self {
        Self { log, epoch, access: Access::Write(write), kind: Kind::Private(Secret(secret)) }
    }

    /// An inbox: what stands there is sealed to the key of the device it belongs to. Its log id is its topic id.
    pub fn inbox(write: WriteKey) -> Self {
        Self { log: LogId(write.topic().0), epoch: 0, access: Access::Write(write), kind: Kind::Inbox }
    }

    /// The topic of a direct thread: what stands there is sealed over two-party sessions.
    pub const fn direct(log: LogId, write: WriteKey) -> Self {
        Self { log, epoch: 0, access: Access::Write(write), kind: Kind::Direct }
    }

    /// What reads an epoch that is over (`key.past`).
    pub(crate) fn past(
        log: LogId,
        epoch: u32,
        write: [u8; 32],
        secret: [u8; 32],
    ) -> Result<Self, TicketError> {
        let access = Access::Read(checked_key(write)?);
        if epoch == u32::MAX {
            Err(TicketError::Epoch)
        } else {
            Ok(Self { log, epoch, access, kind: Kind::Private(Secret(secret)) })
        }
    }

    /// What `key.past` says of this epoch; `None` where no secret opens it.
    pub(crate) fn as_past(&self) -> Option<EpochKeys> {
        let Kind::Private(secret) = &self.kind else { return None };
        let secret = Hidden(secret.0);
        Some(EpochKeys::Past { epoch: self.epoch, write: self.write_verifying_key().0, secret })
    }

    /// The same conversation's next topic: a random write seed and secret.
    ///
    /// # Errors
    /// A public topic, or one at the last epoch, has none.
    pub fn next_epoch(&self, entropy: &mut dyn Entropy) -> Result<Self, NextEpochError> {
        let epoch = self.epoch.checked_add(1).filter(|&epoch| epoch < u32::MAX);
        let private = matches!(self.kind, Kind::Private(_));
        let epoch = epoch.filter(|_| private).ok_or(NextEpochError::None)?;
        let fresh = Self::generate_private(entropy)?;
        Ok(Self { log: self.log, epoch, ..fresh })
    }

    /// What makes a ticket of a known conversation and epoch: version u8 | write[32] | secret[32].
    pub(crate) fn handover(&self) -> Zeroizing<Vec<u8>> {
        let bytes = self.to_bytes();
        let mut out = Zeroizing::new(Vec::with_capacity(HANDOVER));
        out.extend(bytes.first());
        out.extend_from_slice(bytes.get(1 + 32 + 4..).unwrap_or_default());
        out
    }

    /// What a rotation says of the ticket it hands over, so that all who get one get the same, and a copy of a part of
    /// it is worth nothing under another name or in another log.
    pub(crate) fn commitment(&self, rotator: &Author) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("delta epoch commitment v1");
        hasher.update(self.secret().map_or(&[], |secret| &secret[..]));
        hasher.update(&self.topic().0).update(&self.log.0).update(&self.epoch.to_be_bytes());
        *hasher.update(&rotator.0).finalize().as_bytes()
    }

    /// The inverse of [`Ticket::handover`], for a private topic.
    pub(crate) fn from_handover(log: LogId, epoch: u32, bytes: &[u8]) -> Result<Self, TicketError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("version")?;
        if !matches!(version, PRIVATE_WRITE | PRIVATE_READ) {
            return Err(TicketError::Version { found: version });
        }
        let mut all = Zeroizing::new(Vec::with_capacity(LEN));
        all.push(version);
        all.extend_from_slice(&log.0);
        all.extend_from_slice(&epoch.to_be_bytes());
        all.extend_from_slice(reader.rest());
        Self::from_bytes(&all)
    }

    /// Reads a ticket's text. Nothing but the one canonical text of a ticket is accepted.
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        Self::from_bytes(&Self::decode(text)?)
    }

    /// Reads what this device has written for itself: tickets of inboxes and direct threads, too.
    pub(crate) fn parse_own(text: &str) -> Result<Self, TicketError> {
        Self::from_own_bytes(&Self::decode(text)?)
    }

    fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, TicketError> {
        if text.len() != TEXT_LEN {
            return Err(TicketError::Length { found: text.len() });
        }
        let bytes = Zeroizing::new(z32::decode(text.as_bytes()).map_err(|_| TicketError::Alphabet)?);
        // The last letter carries two bits beyond the last byte; z32 drops them.
        if Zeroizing::new(z32::encode(&bytes)).as_str() != text {
            return Err(TicketError::UnusedBits);
        }
        Ok(bytes)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, TicketError> {
        match bytes.first() {
            Some(&found @ (INBOX | DIRECT)) => Err(TicketError::Version { found }),
            _ => Self::from_own_bytes(bytes),
        }
    }

    fn from_own_bytes(bytes: &[u8]) -> Result<Self, TicketError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8("version")?;
        let log = LogId(reader.array("log_id")?);
        let epoch = reader.u32("epoch")?;
        let write = Zeroizing::new(reader.array::<32>("write")?);
        let secret = Secret(reader.array("secret")?);
        reader.finish()?;
        // The last epoch is the place of what no server has placed yet.
        if epoch == u32::MAX {
            return Err(TicketError::Epoch);
        }

        let access = match version {
            PRIVATE_WRITE | PUBLIC_WRITE | INBOX | DIRECT => Access::Write(WriteKey::from_seed(*write)),
            PRIVATE_READ | PUBLIC_READ => Access::Read(checked_key(*write)?),
            _ => return Err(TicketError::Version { found: version }),
        };
        let bare = secret.0 == [0; 32] && epoch == 0;
        let kind = match version {
            PRIVATE_WRITE | PRIVATE_READ => Kind::Private(secret),
            INBOX => Kind::Inbox,
            DIRECT => Kind::Direct,
            _ => Kind::Public,
        };
        let ticket = Self { log, epoch, access, kind };
        let named = log.0 == ticket.topic().0;
        match ticket.kind {
            Kind::Public | Kind::Inbox if !(bare && named) => Err(TicketError::Public),
            Kind::Direct if !bare => Err(TicketError::Public),
            _ => Ok(ticket),
        }
    }

    /// Whether it is a device's note to itself, of its inbox or a direct thread: another device can do nothing with it.
    pub const fn is_of_one_device(&self) -> bool {
        matches!(self.kind, Kind::Inbox | Kind::Direct)
    }

    /// Whether it is of an inbox, of this device or another one.
    pub const fn is_inbox(&self) -> bool {
        matches!(self.kind, Kind::Inbox)
    }

    const fn version(&self) -> u8 {
        match (&self.access, &self.kind) {
            (Access::Write(_), Kind::Private(_)) => PRIVATE_WRITE,
            (Access::Read(_), Kind::Private(_)) => PRIVATE_READ,
            (Access::Write(_), Kind::Public) => PUBLIC_WRITE,
            (Access::Read(_), Kind::Public) => PUBLIC_READ,
            (_, Kind::Inbox) => INBOX,
            (_, Kind::Direct) => DIRECT,
        }
    }

    const fn secret(&self) -> Option<&[u8; 32]> {
        match &self.kind {
            Kind::Private(secret) => Some(&secret.0),
            Kind::Public | Kind::Inbox | Kind::Direct => None,
        }
    }

    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LEN));
        bytes.push(self.version());
        bytes.extend_from_slice(&self.log.0);
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(match &self.access {
            Access::Write(key) => key.seed(),
            Access::Read(key) => &key.0,
        });
        bytes.extend_from_slice(self.secret().unwrap_or(&[0; 32]));
        bytes
    }

    /// As it travels in a body.
    pub(crate) fn bytes(&self) -> TicketBytes {
        let bytes = self.to_bytes();
        TicketBytes(bytes.as_slice().try_into().unwrap_or([0; LEN]))
    }

    /// The same topic without the right to write.
    #[must_use]
    pub fn read_only(&self) -> Self {
        Self { access: Access::Read(self.write_verifying_key()), ..self.clone() }
    }

    /// Where the conversation lives.
    pub fn topic(&self) -> TopicId {
        TopicId::of(&self.write_verifying_key())
    }

    /// The conversation.
    pub const fn log(&self) -> LogId {
        self.log
    }

    /// Which of the conversation's topics this is, from 0.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether everyone who knows the topic id can read it.
    pub const fn is_public(&self) -> bool {
        matches!(self.kind, Kind::Public)
    }

    /// Whether the ticket allows writing.
    pub const fn can_write(&self) -> bool {
        matches!(self.access, Access::Write(_))
    }

    /// The verifying half of the topic's write key.
    pub fn write_verifying_key(&self) -> WriteVerifyingKey {
        match &self.access {
            Access::Write(key) => key.verifying_key(),
            Access::Read(key) => *key,
        }
    }

    /// The topic's keys, ready for use.
    pub fn keys(&self) -> TopicKeys {
        let write = match &self.access {
            Access::Write(key) => Some(key.clone()),
            Access::Read(_) => None,
        };
        let (vk, sealing) = (
            self.write_verifying_key(),
            match &self.kind {
                Kind::Private(secret) => Sealing::topic(&secret.0, &self.topic()),
                Kind::Public => Sealing::Plain,
                Kind::Inbox => Sealing::Inbox(None),
                Kind::Direct => Sealing::Direct,
            },
        );
        TopicKeys::new(self.log, self.epoch, vk, write, sealing)
    }
}

/// A key nobody can sign with, or everybody, names no topic.
fn checked_key(bytes: [u8; 32]) -> Result<WriteVerifyingKey, TicketError> {
    match VerifyingKey::from_bytes(&bytes) {
        Ok(key) if !key.is_weak() => Ok(WriteVerifyingKey(bytes)),
        _ => Err(TicketError::WriteKey),
    }
}

/// The ticket's text. It holds the topic's secrets: show it only to hand it over.
impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Zeroizing::new(z32::encode(&self.to_bytes())))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("topic", &self.topic()).finish_non_exhaustive()
    }
}

impl FromStr for Ticket {
    type Err = TicketError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// A topic has no next epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NextEpochError {
    /// Public topics do not move, and the last epoch is no topic's.
    #[error("this topic has no next epoch")]
    None,
    /// The random source failed; try again later.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// A text is no ticket. Whoever gave it is at fault; nothing was opened. (No variant repeats the text: it may hold
/// a secret with a typing error.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TicketError {
    /// Not as long as every ticket is.
    #[error("a ticket has {TEXT_LEN} letters, this text has {found}")]
    Length {
        /// Its length in bytes.
        found: usize,
    },
    /// A letter outside lower-case z-base-32.
    #[error("a ticket consists of lower-case z-base-32 letters only")]
    Alphabet,
    /// The last letter carries bits that stand for nothing.
    #[error("the ticket's last letter has unused bits set")]
    UnusedBits,
    /// A version this program does not know.
    #[error("the ticket's version {found} is not known; a newer program may read it")]
    Version {
        /// The version.
        found: u8,
    },
    /// A read-only ticket's key is not an Ed25519 key.
    #[error("the ticket's write key is not a valid key")]
    WriteKey,
    /// A public ticket with a secret, an epoch, or a log id that is not its topic id.
    #[error("a public ticket has no secret, epoch 0 and its topic id as log id")]
    Public,
    /// The last epoch is no topic's.
    #[error("the ticket's epoch is {}, which no topic has", u32::MAX)]
    Epoch,
    /// The bytes do not have a ticket's form.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}
