//! Operations: what a device signs, how it is sealed for a topic, and how foreign bytes become values to trust.
//!
//! Everything here is a pure function of its arguments. The way out is [`create`] → [`TopicKeys::seal`]; the way in
//! is [`KeyRing::open`] → [`OpenedEnvelope::verify`]. Only those two ways (and the device's own database) make a
//! [`VerifiedOperation`], so whoever holds one need not check it again. Whether an operation continues its
//! author's log is a question to the store, asked with [`VerifiedOperation::follows`].
//!
//! A server reads the plain operations of public topics with [`read_public`].
//!
//! The signed format is p2panda 0.7's; docs/wire.md has the layouts.

mod blob;
mod body;
#[cfg(feature = "device")]
mod contact;
mod content;
#[cfg(feature = "device")]
mod create;
mod document;
#[cfg_attr(not(feature = "device"), allow(dead_code, reason = "servers open plain envelopes only"))]
mod envelope;
mod epoch;
mod handover;
mod header;
#[cfg(feature = "device")]
mod inbox;
mod key_value;
#[cfg(feature = "device")]
mod keys;
mod membership;
mod own;
mod payload;
mod public;
#[cfg(feature = "device")]
mod signal;
mod signature;
mod texts;
mod thread;
#[cfg(feature = "device")]
mod ticket;
mod told;
mod verify;

pub use blob::Manifest;
#[cfg(feature = "device")]
pub(crate) use blob::check_blob;
pub use body::{Body, BodyError, EncodeError, MAX_AUTH_HEADS, ObservedHead};
#[cfg(feature = "device")]
pub use contact::{Contact, ContactError};
pub use content::{BlobId, Content};
#[cfg(feature = "device")]
pub use create::{CreateError, DeviceKey, create, create_introducing};
pub use document::DocumentPart;
pub use envelope::{EnvelopeError, KeyId, OpenedEnvelope, SealError, padded_len};
#[cfg(feature = "device")]
pub(crate) use envelope::{split_padded, write_padded};
pub use epoch::{EpochKeys, HandedKey};
#[cfg(feature = "device")]
pub(crate) use handover::BLOCK_CONTENT;
pub use handover::{BLOCK_LEN, Block, KeyBundle, LogEnd, Rotation, RotationPart, SessionId};
pub use header::{Extensions, Peek, peek};
#[cfg(feature = "device")]
pub use inbox::{InboxError, inbox_log, open_inbox, seal_inbox};
pub use key_value::{HybridTime, KeyValue, ValueKey};
#[cfg(feature = "device")]
pub use keys::{KeyRing, TopicKeys};
pub use membership::{Action, FAMILIES, Hidden, InviteTerms, Level, RoomKeys, is_renewal, room_id, space_id};
pub use own::{OwnDevices, TicketBytes};
pub use payload::{Flaw, LimitError};
pub use public::{PublicError, PublicOperation, read_public};
#[cfg(feature = "device")]
pub use signal::{Signal, SignalError};
#[cfg(feature = "device")]
pub use signature::{AuthorKeys, MAX_AUTHOR_KEYS};
pub use texts::{RoomText, SpaceText};
pub use thread::{OwnPast, OwnThread, SignedBytes, Stage, ThreadPlace};
#[cfg(feature = "device")]
pub use ticket::{NextEpochError, Ticket, TicketError};
pub use told::{DeviceTell, ToldOperation};
#[cfg(feature = "device")]
pub use verify::verify;
pub use verify::{ChainError, LogHead, Rejected, VerifiedOperation};
