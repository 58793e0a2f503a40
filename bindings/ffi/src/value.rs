//! Keys and their values.

use std::time::SystemTime;

use delta_core::identity::{Author, OperationId};
use delta_core::ops;
use delta_core::store::ValueRow;

use crate::message::time;

/// A key in a collection.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ValueKey {
    /// The collection, 1 to 64 bytes.
    pub collection: String,
    /// The key, 1 to 256 bytes.
    pub key: String,
}

impl From<ValueKey> for ops::ValueKey {
    fn from(at: ValueKey) -> Self {
        Self::new(at.collection, at.key)
    }
}

impl From<ops::ValueKey> for ValueKey {
    fn from(at: ops::ValueKey) -> Self {
        Self { collection: at.collection, key: at.key }
    }
}

/// The value of a key.
#[derive(Clone, uniffi::Record)]
pub struct Value {
    /// Of which key.
    pub at: ValueKey,
    /// The value.
    pub value: Vec<u8>,
    /// Who wrote it.
    pub author: Author,
    /// The operation.
    pub id: OperationId,
    /// What decided that it stands: the writer's clock as a rule, not always.
    pub written_at: SystemTime,
}

impl From<ValueRow> for Value {
    fn from(row: ValueRow) -> Self {
        let ValueRow { at, value, author, id, time: at_time } = row;
        Self { at: at.into(), value, author, id, written_at: time(at_time.millis()) }
    }
}
