//! Deterministic simulation: devices, relays and a sync server on a virtual clock, in one thread, with seeded faults.
//!
//! The devices run the engine that the client runs, the relays and the server run the logic that the real ones run;
//! only clock, network, disk faults and chance are simulated. [`run()`] plays a [`Config`] and checks along the way
//! that nothing is seen outside a device before it is durable there and that no cursor goes back, and in the end,
//! when all trouble is over, that all devices hold the same operations and rows, that each published operation
//! exists exactly once, and that nothing else does.
//!
//! In a town ([`Config::town`]) people share a space: they come by invitation, speak, are promoted, demoted, removed and
//! banned, leave and come again, while the network is in trouble; then everything works again, and all devices must
//! agree on who is there, and each must read what a simple reference says it must, and hold no key that it says it must
//! not; and so on, round after round.
//!
//! [`RelayActor`] and [`ServerActor`] take bytes and instants and misbehave as their [`script`] says; behind real
//! sockets they are mocks for other crates' tests.

mod check;
mod config;
mod device;
pub mod directory;
mod disk;
mod faults;
mod model;
mod net;
mod relay;
mod rng;
mod rows;
mod run;
mod schedule;
pub mod script;
mod server;
mod steps;
mod stream;
mod town;
mod trace;
mod violation;
mod world;

pub use config::Config;
pub use directory::{DirectoryTexts, NodeIdentity};
pub use faults::{Fault, UnknownFault};
pub use relay::{RelayActor, outcome};
pub use rng::Rng;
pub use run::{Failure, Summary, run};
pub use server::{Backup, ServerActor, ServerOutput};
pub use violation::Violation;
