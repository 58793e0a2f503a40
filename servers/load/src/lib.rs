//! Load and faults for a sync server.
//!
//! A real server process on loopback is given prepared work ([`bench`], figures for `cargo xtask bench`) or is killed,
//! starved and wiped while it works ([`chaos`], `cargo xtask chaos`). Both believe nothing: whatever the server
//! answers or pushes is compared with what was sent and with what it holds afterwards.
//!
//! What this is not: a client. It speaks just enough of the protocol to measure and to check.

pub mod bench;
pub mod chaos;
pub mod http;
pub mod process;
pub mod server;
pub mod subscriber;
pub mod view;
pub mod workload;
