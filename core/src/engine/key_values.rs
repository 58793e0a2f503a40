//! Setting and deleting the values of keys: what is written stands over whatever this device knows of the key.

use bytes::Bytes;

use super::io::{Output, Reply};
use super::refusal::CommandError;
use super::state::State;
use crate::identity::Millis;
use crate::limits::MAX_REPLACED;
use crate::ops::{Content, KeyValue, ValueKey};
use crate::store::Tx;
use crate::topic::TopicId;

impl State {
    pub(super) fn put_value(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        topic: TopicId,
        at: ValueKey,
        value: Option<Bytes>,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let log = self.topics.get(&topic).ok_or(CommandError::UnknownTopic)?.keys.log();
        // One more than can be replaced: its time is what the new one is to exceed.
        let mut standing = tx.standing_values(&log, &at, MAX_REPLACED + 1)?;
        // Somebody wrote more than that for the far future: nothing would stand over it, so that goes first.
        while standing.len() > MAX_REPLACED && KeyValue::all_too_far(now, &standing) {
            let clear = KeyValue::over(now, at.clone(), None, &standing);
            self.publish(tx, now, topic, Content::KeyValue(Box::new(clear)), staged)?;
            standing = tx.standing_values(&log, &at, MAX_REPLACED + 1)?;
        }
        let write = KeyValue::over(now, at, value.map(Vec::from), &standing);
        self.publish(tx, now, topic, Content::KeyValue(Box::new(write)), staged)
    }
}
