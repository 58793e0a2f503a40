//! Onion packets: how an operation reaches its sync server without telling who sent it.
//!
//! [`v3`] is the default: packets of five constant sizes, one fresh key per hop, and the sync server as the last
//! layer, so no relay sees a topic or an operation. What the server finds inside is [`deliver`] content, signed
//! with the topic's write key. [`v2`] is the original format, taken only where an operator says so; [`sealed`] hides
//! the sender of an operation to one recipient. The [`directory`] says which nodes there are, [`route`] draws some.
//!
//! Everything here is pure: keys, packets and randomness come in as arguments. Sockets, replay sets and clocks
//! live with the relays, the servers and the client. `docs/wire.md` is the normative description.

mod class;
pub mod control;
pub(crate) mod curve;
pub mod deliver;
pub mod directory;
mod envelope;
mod identity_key;
mod packet;
pub mod route;
pub mod sealed;
pub mod v2;
pub mod v3;

pub use class::PacketClass;
pub use identity_key::{IdentityKey, IdentityKeyError, IdentitySecret};
pub use packet::{BuildError, Layer, PeelLayerError, PeelSecret, Target, build_packet, peel_layer};
