//! What waits to be sent, and what an app may do about it.

use delta_core::identity::OperationId;
use delta_core::topic::TopicId;

use super::{Delta, MAX_PAGE};
use crate::error::DeltaError;
use crate::held::{Cancelled, OutboxRow};

#[uniffi::export]
impl Delta {
    /// Operations of a topic that are not acknowledged yet, oldest first: at most `limit` (1000) of those after row
    /// `after`.
    #[uniffi::method(default(after = None))]
    pub async fn outbox(
        &self,
        topic: TopicId,
        limit: u32,
        after: Option<i64>,
    ) -> Result<Vec<OutboxRow>, DeltaError> {
        let limit = limit.min(MAX_PAGE) as usize;
        let rows = self.on(async move |client| client.outbox(topic, after, limit).await).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Puts the parked operations of a topic back in the queue and says how many there were; those that wait for
    /// another attempt go now.
    pub async fn retry(&self, topic: TopicId) -> Result<u64, DeltaError> {
        self.on(async move |client| client.retry(topic).await).await
    }

    /// Takes back an operation of this device: removed, when it never left; otherwise, if it is a message, deleted by a
    /// further operation. Anything else is refused with the code `not_cancellable`; what somebody else wrote with
    /// `not_own_operation`, what is not there with `unknown_operation`.
    pub async fn cancel(&self, topic: TopicId, operation: OperationId) -> Result<Cancelled, DeltaError> {
        self.on(async move |client| client.cancel(topic, operation).await).await.map(Into::into)
    }
}
