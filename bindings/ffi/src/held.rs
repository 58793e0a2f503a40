//! What a device holds: operations on their way, counts, bytes.

use std::time::SystemTime;

use delta_core::identity::{LogId, OperationId};
use delta_core::store::{self, OutboxCounts, OutboxRowState, QueuedOperation};
use delta_core::topic::TopicId;

use crate::message::time;

/// An operation on its way out.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct OutboxRow {
    /// Order of arrival: to be handed back for the rows after it.
    pub row: i64,
    /// The operation.
    pub operation: OperationId,
    /// Its length as it is sent, bytes.
    pub bytes: u32,
    /// Whether this device wrote it; otherwise a server lost what somebody else did.
    pub own: bool,
    /// Where it stands.
    pub state: OutboxState,
    /// Attempts so far.
    pub tries: u32,
    /// Not to be sent (again) before this instant.
    pub not_before: SystemTime,
}

/// Where an operation on its way stands.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum OutboxState {
    /// Waiting for its turn.
    Queued,
    /// On its way.
    Sent,
    /// Nothing is tried until the reason is gone, or `retry` is called.
    Parked {
        /// Stable name.
        reason: String,
    },
}

impl From<QueuedOperation> for OutboxRow {
    fn from(row: QueuedOperation) -> Self {
        let QueuedOperation { id, operation, len, own, state, tries, not_before, .. } = row;
        let state = match state {
            OutboxRowState::Queued => OutboxState::Queued,
            OutboxRowState::Sent => OutboxState::Sent,
            OutboxRowState::Parked { reason } => OutboxState::Parked { reason },
        };
        Self { row: id, operation, bytes: len, own, state, tries, not_before: time(not_before) }
    }
}

/// How an operation was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Cancelled {
    /// It is gone without a trace: it had never left this device.
    Removed,
    /// It is deleted by a further operation: others may see it until that arrives.
    Deleted {
        /// That operation.
        operation: OperationId,
    },
}

impl From<delta_client::Cancelled> for Cancelled {
    fn from(cancelled: delta_client::Cancelled) -> Self {
        match cancelled {
            delta_client::Cancelled::Removed => Self::Removed,
            delta_client::Cancelled::Deleted(operation) => Self::Deleted { operation },
        }
    }
}

/// What a device holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Statistics {
    /// Topics that are open.
    pub topics: u64,
    /// Operations stored.
    pub operations: u64,
    /// Own operations waiting for their turn.
    pub queued: u64,
    /// Own operations on their way.
    pub sent: u64,
    /// Own operations that nothing is tried for.
    pub parked: u64,
    /// Bytes of these three.
    pub outbox_bytes: u64,
    /// Length of the database and its write-ahead log.
    pub stored_bytes: u64,
}

impl From<delta_client::Statistics> for Statistics {
    fn from(statistics: delta_client::Statistics) -> Self {
        let delta_client::Statistics { topics, operations, outbox, outbox_bytes, stored_bytes } = statistics;
        let OutboxCounts { queued, sent, parked } = outbox;
        Self { topics, operations, queued, sent, parked, outbox_bytes, stored_bytes }
    }
}

/// What the database takes on the disk.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct StorageUse {
    /// Length of the database file, its free pages included.
    pub file_bytes: u64,
    /// Of these, pages that hold nothing and are used before the file grows.
    pub free_bytes: u64,
    /// Each conversation, the largest first.
    pub topics: Vec<TopicUse>,
}

/// What one conversation holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct TopicUse {
    /// Its stable name.
    pub log: LogId,
    /// Its topic, if it is open on this device.
    pub topic: Option<TopicId>,
    /// Operations stored.
    pub operations: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl From<store::StorageUse> for StorageUse {
    fn from(used: store::StorageUse) -> Self {
        let store::StorageUse { file_bytes, free_bytes, logs } = used;
        let topic =
            |store::LogUse { log, topic, operations, bytes }| TopicUse { log, topic, operations, bytes };
        Self { file_bytes, free_bytes, topics: logs.into_iter().map(topic).collect() }
    }
}
