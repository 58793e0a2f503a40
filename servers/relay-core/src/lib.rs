//! What a relay decides, without sockets, clock or randomness of its own.
//!
//! A packet passes four stations: [`gate`] checks the length, opens the seal and names the next node; the replay
//! set, between opening and reading, drops what was seen before; the [`Mixer`] delays, shuffles, queues and
//! retries. The server (`delta-relay`) wires them to sockets and threads; [`Relay`] wires them to each other on
//! one thread, for the simulation and for tests.

pub mod counters;
pub mod gate;
pub mod keys;
pub mod mixer;
pub mod relay;

pub use counters::{Counters, Event};
pub use gate::{LengthRefusal, Routed, check_length};
pub use keys::{KeyRing, KeyRingError};
pub use mixer::{Forward, Limits, Mixer, Outcome};
pub use relay::Relay;
