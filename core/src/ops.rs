//! Operations: what a device signs, how it is sealed for a topic, and how foreign bytes become values to trust.
//!
//! Everything here is a pure function of its arguments. The way out is [`create`] → [`TopicKeys::seal`]; the way in
//! is [`KeyRing::open`] → [`OpenedEnvelope::verify`]. Only those two ways (and the device's own database) make a
//! [`VerifiedOperation`], so whoever holds one need not check it again. Whether an operation continues its
//! author's log is a question to the store, asked with [`VerifiedOperation::follows`].
//!
//! The signed format is p2panda 0.7's; docs/wire.md has the layouts.

mod body;
mod content;
mod create;
mod envelope;
mod header;
mod keys;
mod ticket;
mod verify;

pub use body::{Body, BodyError, EncodeError, MAX_AUTH_HEADS, ObservedHead};
pub use content::{BlobId, Content, Flaw, LimitError};
pub use create::{CreateError, DeviceKey, create};
pub use envelope::{EnvelopeError, KeyId, OpenedEnvelope, SealError, padded_len};
pub use header::{Extensions, Peek, peek};
pub use keys::{KeyRing, TopicKeys};
pub use ticket::{Ticket, TicketError};
pub use verify::{ChainError, LogHead, Rejected, VerifiedOperation, verify};
