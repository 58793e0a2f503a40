//! Onion packets: how an operation reaches its sync server without telling who sent it.
//!
//! [`v3`] is the default: packets of five constant sizes, one fresh key per hop, and the sync server as the last
//! layer, so no relay sees a topic or an operation. What the server finds inside is [`deliver`] content, signed
//! with the topic's write key.
//!
//! Everything here is pure: keys, packets and randomness come in as arguments. Sockets, replay sets and clocks
//! live with the relays, the servers and the client. `docs/wire.md` is the normative description.

mod class;
mod curve;
pub mod deliver;
pub mod directory;
pub mod route;
pub mod v3;

pub use class::PacketClass;
