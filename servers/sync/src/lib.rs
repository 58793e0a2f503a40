//! The sync server: keeps one log of opaque operations per topic, takes packets as their last onion layer, and
//! pushes to whoever subscribes. It reads no operation and never learns who sent one.
//!
//! What it decides is in `delta-topic-log`; this crate gives it sockets, threads, files and a clock. A packet's way:
//! [`http`] (length, 202) → [`ingress`] (threads: seal, replay set, write signature) → [`writer`] (one thread: one
//! commit for all that waits) → [`live`] (encoded once, shared) → [`socket`] (each subscriber a cursor).
//!
//! Logs and metrics hold counters and the operator's own settings only: no peer's address, no topic, key or hash.

pub mod app;
pub mod data;
pub mod download;
pub mod export;
pub mod health;
pub mod http;
pub mod ingress;
pub mod limits;
pub mod live;
pub mod maintain;
pub mod metrics;
pub mod options;
pub mod proof;
pub mod queue;
pub mod readers;
pub mod refusal;
pub mod retention;
pub mod run;
pub mod search;
pub mod socket;
pub mod status;
pub mod store;
pub mod topics;
pub mod wire;
pub mod writer;

pub use options::{Cli, Options, Settings};
pub use run::{RunError, run};
