//! Delta's deterministic core.
//!
//! No sockets, no clock, no randomness of its own and no global state: bytes and time come in as arguments,
//! effects go out as values. With the default feature `device` it is everything an app's device needs
//! (operations, store, engine); without it only what servers share with devices: wire formats, onion packets,
//! topic keys, and reading the operations of public topics.
//!
//! Imports point down only: engine → store → sync, space, projector → ops, onion, topic → cbor, codec, identity, limits.

#[cfg_attr(not(feature = "device"), allow(dead_code, reason = "control messages need a part of it"))]
mod cbor;
pub mod codec;
#[cfg(feature = "device")]
pub mod crypto;
pub mod entropy;
#[cfg(feature = "device")]
pub mod export;
pub mod identity;
pub mod limits;

pub mod onion;
mod processor;
pub mod topic;
pub mod tree;

pub mod sync;

#[cfg(feature = "device")]
pub mod engine;
pub mod ops;
#[cfg(feature = "device")]
pub mod pairing;
#[cfg(feature = "device")]
pub mod projector;
#[cfg(feature = "device")]
pub mod push;
#[cfg(feature = "device")]
pub mod space;
#[cfg(feature = "device")]
pub mod store;

pub use entropy::{Entropy, EntropyError};
pub use identity::{EnvelopeHash, NodeId, OperationId};
pub use topic::{Chain, Generation, Seq, TopicId};
