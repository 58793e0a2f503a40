//! Deterministic simulation: devices, relays and a sync server on a virtual clock, in one thread, with seeded faults.
//!
//! [`RelayActor`] and [`ServerActor`] run the logic that the real relays and servers run. They take bytes and instants
//! and misbehave as their [`script`] says; behind real sockets they are mocks for other crates' tests.

pub mod directory;
mod relay;
mod rng;
pub mod script;
mod server;

pub use directory::{DirectoryTexts, NodeIdentity};
pub use relay::{RelayActor, outcome};
pub use rng::Rng;
pub use server::{Backup, ServerActor, ServerOutput};
