//! What becomes of operations, whatever order they come in.

mod documents;
mod forks;
mod key_values;
mod logs;
mod read_model;
mod reading;
pub(crate) mod spaces;
pub(crate) mod support;
