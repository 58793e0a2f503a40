//! Messages by other ways than their order in a conversation: whose they are, when they were received, whom they mention.

use std::time::SystemTime;

use delta_core::identity::Author;
use delta_core::store::{Arrival, Times};
use delta_core::topic::TopicId;

use super::{Delta, MAX_PAGE};
use crate::error::DeltaError;
use crate::message::{Mention, Message, MessagePage, ReceiptPlace, ReceivedPage, millis};

#[uniffi::export]
impl Delta {
    /// A page of one author's messages in a topic, oldest first, tombstones included; at most 1000. With `since` and
    /// `until` only those that a server received in that time.
    #[uniffi::method(default(since = None, until = None))]
    pub async fn messages_by(
        &self,
        topic: TopicId,
        author: Author,
        page: MessagePage,
        limit: u32,
        since: Option<SystemTime>,
        until: Option<SystemTime>,
    ) -> Result<Vec<Message>, DeltaError> {
        let (log, times) = (self.log(topic).await?, times(since, until));
        let limit = limit.min(MAX_PAGE) as usize;
        let rows =
            self.query(move |reader| reader.messages_by(&log, &author, times, page.into(), limit)).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// A page of the messages of a topic that a server received from `since` on and before `until`, in that order; at
    /// most 1000. A server's clock may go back: it is not the order in which messages are shown. The next page goes on
    /// at this one's `next`.
    #[uniffi::method(default(since = None, until = None, after = None))]
    pub async fn messages_received(
        &self,
        topic: TopicId,
        limit: u32,
        since: Option<SystemTime>,
        until: Option<SystemTime>,
        after: Option<ReceiptPlace>,
    ) -> Result<ReceivedPage, DeltaError> {
        let (log, times) = (self.log(topic).await?, times(since, until));
        let (limit, after) = (limit.min(MAX_PAGE) as usize, after.map(Into::into));
        Ok(self.query(move |reader| reader.messages_received(&log, times, after, limit)).await?.into())
    }

    /// A page of the messages that mention somebody, in one topic or all: what came last to this device first, at most
    /// 1000. The next page begins `before` the `arrival` of the last.
    #[uniffi::method(default(topic = None, before = None))]
    pub async fn mentions(
        &self,
        who: Author,
        limit: u32,
        topic: Option<TopicId>,
        before: Option<i64>,
    ) -> Result<Vec<Mention>, DeltaError> {
        let log = match topic {
            Some(topic) => Some(self.log(topic).await?),
            None => None,
        };
        let (limit, before) = (limit.min(MAX_PAGE) as usize, before.map(Arrival));
        let rows = self.query(move |reader| reader.mentions(&who, log.as_ref(), before, limit)).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}

fn times(since: Option<SystemTime>, until: Option<SystemTime>) -> Times {
    Times { since: since.map(millis), until: until.map(millis) }
}
