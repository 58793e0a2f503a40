//! What waits to be delivered: an app's view of it, and what it may do about it.

use delta_core::engine::{Cancelled, Command, Reply};
use delta_core::identity::OperationId;
use delta_core::store::QueuedOperation;
use delta_core::sync::outbox::RowId;
use delta_core::topic::TopicId;

use crate::client::{Client, unexpected};
use crate::error::ClientError;

impl Client {
    /// Operations of a topic that are not acknowledged yet, oldest first: at most `limit` of those after row `after`.
    pub async fn outbox(
        &self,
        topic: TopicId,
        after: Option<RowId>,
        limit: usize,
    ) -> Result<Vec<QueuedOperation>, ClientError> {
        self.read(move |reader| reader.outbox_rows(reader.living_in(topic)?, after, limit)).await
    }

    /// Puts the parked operations of a topic back in the queue and gives how many there were; those that wait for
    /// another attempt go now. Where the server still says that the topic is gone, they are parked again.
    pub async fn retry(&self, topic: TopicId) -> Result<u64, ClientError> {
        match self.command(Command::Retry { topic }).await? {
            Reply::Retried(parked) => Ok(parked),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes an operation of this device back. The newest of its log is removed when it never left this device. Any
    /// other message is deleted by a further operation, which goes the way of everything published: others may see the
    /// message until it arrives.
    ///
    /// # Errors
    /// `not_cancellable` when it is no message and may have left this device.
    pub async fn cancel(&self, topic: TopicId, operation: OperationId) -> Result<Cancelled, ClientError> {
        match self.command(Command::Cancel { topic, operation }).await? {
            Reply::Cancelled(cancelled) => Ok(cancelled),
            other => Err(unexpected(&other)),
        }
    }
}
