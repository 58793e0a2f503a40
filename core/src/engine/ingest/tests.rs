//! What becomes of operations, whatever order they come in.

mod forks;
mod logs;
mod read_model;
mod spaces;
pub(crate) mod support;
