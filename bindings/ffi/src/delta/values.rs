//! Values of keys: what a conversation's members keep together, where the last writer wins.

use delta_core::identity::OperationId;
use delta_core::store::ValuePage;
use delta_core::topic::TopicId;

use super::{Delta, MAX_PAGE};
use crate::error::DeltaError;
use crate::value::{Value, ValueKey};

#[uniffi::export]
impl Delta {
    /// Sets the value of a key over whatever this device knows of it; returns once that is durable here. Refused as
    /// `publish` is.
    pub async fn put_value(
        &self,
        topic: TopicId,
        at: ValueKey,
        value: Vec<u8>,
    ) -> Result<OperationId, DeltaError> {
        self.on(async move |client| client.put_value(topic, at.into(), value).await).await
    }

    /// Deletes a key. Those who hold the conversation keep the operation that set it.
    pub async fn delete_value(&self, topic: TopicId, at: ValueKey) -> Result<OperationId, DeltaError> {
        self.on(async move |client| client.delete_value(topic, at.into()).await).await
    }

    /// The value of a key.
    pub async fn value(&self, topic: TopicId, at: ValueKey) -> Result<Option<Value>, DeltaError> {
        Ok(self.on(async move |client| client.value(topic, at.into()).await).await?.map(Into::into))
    }

    /// The values of a collection in the order of their keys' bytes: at most `limit` (1000) of those whose keys begin with
    /// `prefix` and come after `after`.
    #[uniffi::method(default(prefix = "", after = None))]
    pub async fn values(
        &self,
        topic: TopicId,
        collection: String,
        limit: u32,
        prefix: String,
        after: Option<String>,
    ) -> Result<Vec<Value>, DeltaError> {
        let (limit, page) = (limit.min(MAX_PAGE) as usize, ValuePage { prefix, after });
        let rows = self.on(async move |client| client.values(topic, collection, page, limit).await).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}
