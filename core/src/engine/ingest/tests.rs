//! What becomes of operations, whatever order they come in.

mod logs;
pub(crate) mod support;
