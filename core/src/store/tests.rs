//! The database file, its rows and its limits.

mod cleaning;
mod files;
mod inboxes;
mod plans;
mod rotations;
mod rows;
mod sealing;
mod secrets;
mod storage;
mod traits;

pub(in crate::store) use plans::record;
