//! The replay set of relays and sync servers: which packet tags an onion key has already opened.
//!
//! [`ReplaySet`] is the pure set, [`ReplayFile`] the set with its append-only file, [`Replay`] the shared handle a
//! server uses: it admits tags from many threads and makes the file durable every 10 ms in batches.
//!
//! A tag is in the file before its packet is acted on, so a process killed at any point forgets nothing while the
//! machine stays up. After a reboot without a clean stop the file may lack its end: then it is not trusted, and the
//! server starts a new onion key, under which old packets cannot be opened at all.

mod boot;
mod file;
mod set;
mod shared;

pub use boot::BootId;
pub use file::{Opened, ReplayError, ReplayFile, Untrusted};
pub use set::{Admission, ReplaySet};
pub use shared::{Replay, SYNC_EVERY};
