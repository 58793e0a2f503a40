//! Deterministic simulation: devices, relays and a sync server on a virtual clock, in one thread, with seeded faults.
//!
//! The devices run the engine that the client runs, the relays and the server run the logic that the real ones run;
//! only clock, network, disk faults and chance are simulated. [`run()`] plays a [`Config`] and checks along the way
//! that nothing is seen outside a device before it is durable there and that no cursor goes back, and in the end,
//! when all trouble is over, that all devices hold the same operations and rows, that each published operation
//! exists exactly once, and that nothing else does.
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
