//! Black-box tests of the sync protocol: they need a base URL and nothing else.
//!
//! Written from `docs/wire.md` alone, so that a server is compared with the document and not with itself: frames,
//! chain, signed heads and records are read by code of this crate. Only onion packets are built with `delta-core`
//! (the server is their one layer); a few broken ones are sealed by hand in [`packet`]. [`client`] is the other way round: it
//! holds a client program to the protocol, with operations that `delta-core` makes.
//!
//! Every check works on topics of its own with random keys, so checks run side by side and against a server that is
//! in use. What it is not: a load test, or a test of anything a client cannot see.

pub mod checks;
pub mod client;
pub mod control;
pub mod conversation;
pub mod failure;
pub mod frame;
pub mod http;
pub mod liar;
pub mod packet;
pub mod random;
pub mod report;
pub mod run;
pub mod socket;
pub mod spawn;
pub mod target;
pub mod topic;
pub mod view;

pub use failure::{Checked, Failure};
pub use report::Report;
pub use run::{Options, run};
pub use target::Settings;
