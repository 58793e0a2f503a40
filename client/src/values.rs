//! Values of keys: what a conversation's members keep together, where the last writer wins.

use bytes::Bytes;
use delta_core::engine::{Command, CommandError, Reply};
use delta_core::identity::{LogId, OperationId};
use delta_core::ops::ValueKey;
use delta_core::store::{ValuePage, ValueRow};
use delta_core::topic::TopicId;

use crate::client::{Client, unexpected};
use crate::error::ClientError;

impl Client {
    /// Sets the value of a key, at most [`MAX_VALUE`](delta_core::limits::MAX_VALUE) bytes, over whatever this device
    /// knows of the key. Like [`Client::publish`] it returns once that is durable here.
    pub async fn put_value(
        &self,
        topic: TopicId,
        at: ValueKey,
        value: impl Into<Bytes>,
    ) -> Result<OperationId, ClientError> {
        self.write_value(topic, at, Some(value.into())).await
    }

    /// Deletes a key. (Those who hold the conversation keep the operation that set it.)
    pub async fn delete_value(&self, topic: TopicId, at: ValueKey) -> Result<OperationId, ClientError> {
        self.write_value(topic, at, None).await
    }

    async fn write_value(
        &self,
        topic: TopicId,
        at: ValueKey,
        value: Option<Bytes>,
    ) -> Result<OperationId, ClientError> {
        match self.command(Command::PutValue { topic, at, value }).await? {
            Reply::Published(operation) => Ok(operation),
            other => Err(unexpected(&other)),
        }
    }

    /// The value of a key.
    pub async fn value(&self, topic: TopicId, at: ValueKey) -> Result<Option<ValueRow>, ClientError> {
        let log = self.log_of(topic).await?;
        self.read(move |reader| reader.value(&log, &at)).await
    }

    /// A page of at most `limit` values of a collection, by key.
    pub async fn values(
        &self,
        topic: TopicId,
        collection: impl Into<String>,
        page: ValuePage,
        limit: usize,
    ) -> Result<Vec<ValueRow>, ClientError> {
        let (log, collection) = (self.log_of(topic).await?, collection.into());
        self.read(move |reader| reader.values(&log, &collection, &page, limit)).await
    }

    /// The conversation of a topic.
    pub(crate) async fn log_of(&self, topic: TopicId) -> Result<LogId, ClientError> {
        let row = self.read(move |reader| reader.topic(topic)).await?;
        row.map(|row| row.ticket.log()).ok_or(ClientError::Command(CommandError::UnknownTopic))
    }
}
