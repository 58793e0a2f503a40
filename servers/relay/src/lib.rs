//! The onion relay: takes packets, peels one layer of each, and sends what is left to the next node.
//!
//! What it decides is in `delta-relay-core`; this crate gives it sockets, threads, files and clocks. A packet's
//! way: [`http`] (length, 202) → [`peel`] (threads: seal, replay set, slot) → [`forward`] (delay, shuffle, queue) →
//! [`link`] (keep-alive connection to the next node).
//!
//! Logs and metrics hold counters and the operator's own settings only: no peer's address, no key, no tag, no size
//! of a packet.

pub mod budget;
#[cfg(feature = "dht")]
pub mod dht;
pub mod forward;
pub mod http;
pub mod limits;
pub mod link;
pub mod metrics;
pub mod options;
pub mod peel;
pub mod record;
pub mod run;
pub mod tunnel;
pub mod v2;

pub use options::{Cli, Options, Settings};
pub use run::{RunError, run};
