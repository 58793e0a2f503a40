//! (in progress)

pub mod frame;
