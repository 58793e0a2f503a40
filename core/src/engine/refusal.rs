//! Why something is not done: a command refused, a topic that cannot be read, operations that wait.

use std::sync::Arc;

use thiserror::Error;

use super::ingest::PublishError;
use super::sending::SendingError;
use crate::crypto::{CryptoError, DirectError, RotationError};
use crate::entropy::EntropyError;
use crate::identity::{CertificateError, Millis};
use crate::onion::control::ControlError;
use crate::onion::route::RouteError;
use crate::ops::{CreateError, InboxError, SealError, SignalError};
use crate::space::Refusal;
use crate::store::StoreError;

/// Why a server does not let this device read a topic. Tried again from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// The server asks readers for a proof, and there is no read key here.
    #[error("the server asks for a proof of the topic's read key, which this device does not have")]
    NoReadKey,
    /// The server did not take the proof: the topic has another read key.
    #[error("the server does not take the proof of the topic's read key: it has another one")]
    WrongReadKey,
    /// The topic was deleted, or blocked by the server's operator.
    #[error("the topic was deleted, or is blocked by the server's operator")]
    Gone,
}

/// Why queued operations are not sent. They stay queued; a shorter or direct route is never taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Blocked {
    /// No network is configured yet.
    #[error("no relays and sync server are configured: call init_sync")]
    NoNetwork,
    /// There is no route now.
    #[error(transparent)]
    Route(RouteError),
    /// The ticket allows reading only.
    #[error("the ticket of this topic allows reading only")]
    ReadOnly,
    /// The topic was deleted or blocked: its rows are parked until the server takes it again.
    #[error("the topic was deleted, or is blocked by the server's operator: nothing of it is sent")]
    Gone,
    /// The server takes only packets of version 2, which this app did not agree to.
    #[error(
        "the server takes only packets of version 2, which show position and size to every relay and the topic to the \
         last: allow them with accept_v2, or use a server that speaks version 3"
    )]
    Version2,
    /// Signals, control messages and shared packets do not exist in version 2.
    #[error("the server takes only packets of version 2, which carry single operations and nothing else")]
    NotInVersion2,
    /// The other relays speak another version than the server.
    #[error(
        "{need} usable relays of distinct operators that speak the server's version of packets are needed, the \
         directory has {have}; the others speak another version, and a route never mixes them"
    )]
    MixedVersions {
        /// Distinct operators with a usable relay of the server's version.
        have: usize,
        /// Relays asked for.
        need: usize,
    },
    /// The records are so old that relays have erased the keys in them. New ones are asked for.
    #[error(
        "the relays' records are from {as_of} (Unix epoch), and could not be renewed: their keys are no longer used"
    )]
    StaleRecords {
        /// When they were collected.
        as_of: Millis,
    },
    /// The topic closed: the conversation goes on in another one, of which this device has no key, or may not write.
    #[error("the conversation moved on to a topic in which this device cannot write")]
    Closed,
    /// The random source failed; tried again soon.
    #[error("the platform's random source failed")]
    Entropy,
}

impl From<RouteError> for Blocked {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::Entropy(_) => Self::Entropy,
            other => Self::Route(other),
        }
    }
}

/// A command that could not be done. Nothing of it was stored.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The topic was never opened.
    #[error("the topic is not open on this device: open it from its ticket first")]
    UnknownTopic,
    /// The ticket allows reading only.
    #[error("the ticket of this topic allows reading only")]
    ReadOnly,
    /// The server no longer takes anything for the topic.
    #[error("the topic was deleted, or is blocked by the server's operator: nothing can be published in it")]
    TopicGone,
    /// The device has as many topics as it may have.
    #[error("this device already has {} topics, the most there may be", crate::limits::MAX_TOPICS)]
    TooManyTopics,
    /// Another ticket for a topic that is open: it names another conversation, epoch or secret.
    #[error("the ticket contradicts the one this topic was opened with: one of the two is forged or damaged")]
    TicketConflict,
    /// A ticket for another topic that claims the conversation of one that is open.
    #[error(
        "the ticket claims a conversation that is already open in another topic; if it has moved on, catch up with it \
         first, then try again"
    )]
    LogTaken,
    /// The conversation moved on to a topic of which this device has no key.
    #[error(
        "the conversation moved on to a topic of which this device has no key: wait for it, or ask a manager"
    )]
    TopicClosed,
    /// This device was not named as one that may.
    #[error("this device may not rotate the keys of this conversation")]
    NotRotator,
    /// Something happened since the rotation was prepared.
    #[error("the rotation was prepared from an older state: prepare it again")]
    StaleRotation,
    /// The conversation's keys cannot be rotated.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// Key material is damaged, or cannot be made now.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The signal is too long, or empty.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// It cannot be sent now, and what cannot be sent now is not kept.
    #[error("it cannot be sent now: {0}")]
    NotSent(Blocked),
    /// Only public topics are controlled.
    #[error(
        "only public topics take control messages: whoever may write to a private one could end it for all"
    )]
    NotPublic,
    /// The control message breaks a limit.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The device has no such key of the topic.
    #[error("this device does not have the key to prove")]
    NoKey,
    /// No server is configured.
    #[error("no relays and sync server are configured: call init_sync")]
    NoNetwork,
    /// The operation is not stored here, or belongs to another topic.
    #[error("there is no such operation in this topic on this device")]
    UnknownOperation,
    /// Somebody else wrote it.
    #[error("only what this device wrote can be taken back by it")]
    NotOwnOperation,
    /// It may have left this device, or others stand on it, and it is no message; or it is a delete, or deleted.
    #[error(
        "the operation cannot be taken back any more: only messages can be deleted; undo it by what says the opposite"
    )]
    NotCancellable,
    /// The device has no inbox.
    #[error("this device has no inbox yet: open it first")]
    NoInbox,
    /// Nobody has said where the other device is written to.
    #[error(
        "it is not known where that device is written to: its contact is needed, or a space that both are in"
    )]
    NotReachable,
    /// Claims and requests are said to one device alone.
    #[error("this is said in an inbox, to one device alone, and not in a topic")]
    InboxOnly,
    /// No such direct thread.
    #[error("there is no such direct thread on this device")]
    UnknownThread,
    /// The thread does not stand where it would have to.
    #[error("the direct thread is not open (yet), was accepted before, or was closed")]
    ThreadState,
    /// Something happened since this was prepared.
    #[error("what was prepared was made from keys of before: prepare it again")]
    StaleKeys,
    /// An operation cannot be sealed for the other device.
    #[error(transparent)]
    Direct(#[from] DirectError),
    /// An operation cannot be sealed for another device's inbox.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// The conversation is no space.
    #[error("this conversation is no space, or is not known as one on this device yet")]
    NotASpace,
    /// A room goes with its space.
    #[error("this is a room of a space: wipe the space, or prune the room")]
    RoomOfSpace,
    /// The space would not count it.
    #[error("the space does not allow this: {0}")]
    Refused(Refusal),
    /// The device's person may not write there.
    #[error(
        "this device may not write here: it is no member, may only read, is muted, or the room is closed"
    )]
    MayNotWrite,
    /// The room wants a pause between two messages of a member.
    #[error("this room wants a pause between messages: {left_ms} ms of it are left")]
    Cooldown {
        /// How much of it is left, milliseconds.
        left_ms: u64,
    },
    /// A manager of the space did what this version does not understand.
    #[error("a newer version of the app is needed to take part in this space")]
    UpdateRequired,
    /// Nobody could manage the space any more.
    #[error("the last manager cannot leave the others: make somebody else a manager first (transfer)")]
    LastManager,
    /// The key that is to make a publish happen once is empty or too long.
    #[error("the key of a publish has {len} bytes, 1 to {} are allowed", crate::limits::MAX_IDEMPOTENCY_KEY)]
    IdempotencyKey {
        /// Its length.
        len: usize,
    },
    /// Nothing here says where to get it.
    #[error("no message on this device names this blob, and it was not made here")]
    UnknownBlob,
    /// Not all of it is on this device.
    #[error("the blob is not on this device: fetch it, and wait until it is here")]
    BlobNotHere,
    /// The chunks of a blob do not make what was said.
    #[error("the blob does not have the size that was said, or its chunks did not come in order")]
    BlobChunk,
    /// Another topic is shared by the person's devices already.
    #[error("this device shares another topic with the devices of its person")]
    OwnTopic,
    /// It is the topic of the person's devices.
    #[error("the topic that the devices of a person share is always read, and goes with the device")]
    OwnTopicStays,
    /// The topic is no pairing's, or its time is over.
    #[error("the pairing's ten minutes are over: begin again, with another text")]
    PairingOver,
    /// It is somebody's already.
    #[error("this device belongs to an identity already: begin with a new database and keystore")]
    Certified,
    /// The certificate is another device's, or what the identity is said to have signed does not hold.
    #[error(transparent)]
    Certificate(CertificateError),
    /// It is this device, or another person's.
    #[error("only another device of the same identity can be revoked")]
    NotOwnDevice,
    /// The outbox is full.
    #[error("the outbox is full: wait until the network took some of it")]
    OutboxFull,
    /// The device's log cannot grow any more.
    #[error(transparent)]
    Log(PublishError),
    /// The content breaks a limit.
    #[error("the content cannot become an operation: {0}")]
    Content(#[from] CreateError),
    /// The envelope could not be sealed.
    #[error("the operation cannot be sealed: {0}")]
    Seal(#[from] SealError),
    /// The sync server's id is not an Ed25519 key.
    #[error("the sync server's id is not an Ed25519 key: check the part of its URL after `#`")]
    ServerKey,
    /// The path length is not 1–5.
    #[error("a route has 1 to 5 relays")]
    PathLength,
    /// Cover or delays outside their bounds.
    #[error(transparent)]
    Sending(#[from] SendingError),
    /// The random source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The database failed; the whole batch was rolled back.
    #[error(transparent)]
    Store(Arc<StoreError>),
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<PublishError> for CommandError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Store(error) => error.into(),
            other => Self::Log(other),
        }
    }
}
