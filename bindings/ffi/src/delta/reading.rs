//! What is read back: messages, reactions, profiles, search. Queries run beside everything else.

use delta_core::identity::{Author, Identity, OperationId};
use delta_core::projector::Position;
use delta_core::topic::TopicId;

use super::{Delta, MAX_PAGE};
use crate::error::DeltaError;
use crate::message::{Found, Message, MessagePage, Profile, Reaction, SearchWords, Unread, Version};

#[uniffi::export]
impl Delta {
    /// A page of a topic's messages, oldest first, tombstones included; at most 1000.
    pub async fn messages(
        &self,
        topic: TopicId,
        page: MessagePage,
        limit: u32,
    ) -> Result<Vec<Message>, DeltaError> {
        let limit = limit.min(MAX_PAGE) as usize;
        let log = self.log(topic).await?;
        let rows = self.query(move |reader| reader.messages(&log, page.into(), limit)).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// One message.
    pub async fn message(&self, id: OperationId) -> Result<Option<Message>, DeltaError> {
        Ok(self.query(move |reader| reader.message(&id)).await?.map(Into::into))
    }

    /// Every text a message had, as sent first; nothing for a tombstone.
    pub async fn message_history(&self, id: OperationId) -> Result<Vec<Version>, DeltaError> {
        let rows = self.query(move |reader| reader.message_history(&id)).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// The reactions that stand on one message, by emoji, then author.
    pub async fn reactions(&self, message: OperationId) -> Result<Vec<Reaction>, DeltaError> {
        let rows = self.query(move |reader| reader.reactions(&message)).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// The person behind a device (an author) in a topic, as the space it belongs to was told; otherwise the device is a person of its
    /// own.
    pub async fn person(&self, topic: TopicId, author: Author) -> Result<Identity, DeltaError> {
        let log = self.log(topic).await?;
        self.query(move |reader| reader.person(&log, &author)).await
    }

    /// An author's profile in one conversation.
    pub async fn profile(&self, topic: TopicId, author: Author) -> Result<Option<Profile>, DeltaError> {
        let log = self.log(topic).await?;
        Ok(self.query(move |reader| reader.profile(&author, &log)).await?.map(Into::into))
    }

    /// An author's profiles in all conversations.
    pub async fn profiles(&self, author: Author) -> Result<Vec<Profile>, DeltaError> {
        let rows = self.query(move |reader| reader.profiles(&author)).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Messages with all the words, those that came last first; at most 1000. Without a word nothing is found.
    pub async fn search(&self, search: SearchWords, limit: u32) -> Result<Vec<Found>, DeltaError> {
        let log = match search.topic {
            Some(topic) => Some(self.log(topic).await?),
            None => None,
        };
        let (search, limit) = (search.within(log), limit.min(MAX_PAGE) as usize);
        let rows = self.query(move |reader| reader.search(&search, limit)).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// What of a topic's messages has not been read, counted from `set_read`.
    pub async fn unread(&self, topic: TopicId) -> Result<Unread, DeltaError> {
        let (log, author) = (self.log(topic).await?, self.author());
        Ok(self.query(move |reader| reader.unread(&log, &author)).await?.into())
    }

    /// Notes how far a topic was read: up to this message's position. It never goes back.
    pub async fn set_read(&self, topic: TopicId, upto: Position) -> Result<(), DeltaError> {
        let log = self.log(topic).await?;
        self.on(async move |client| client.set_read(log, upto).await).await
    }
}
