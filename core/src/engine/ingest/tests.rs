//! What becomes of operations, whatever order they come in.

mod forks;
mod logs;
mod read_model;
pub(crate) mod support;
