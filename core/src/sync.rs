//! The sync protocol without IO: frames, the session of one topic, retry policy.
//!
//! Not here: sockets (the driver's), SQL (the store's), cryptography of operations (`ops`).

pub mod backoff;
pub mod frame;
pub mod history;
pub mod outbox;
pub mod proof;
pub mod session;
