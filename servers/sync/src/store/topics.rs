//! What the server asks about all its topics: which there are, which are closed or public, what they keep.

use delta_core::topic::{Seq, TopicId};
use delta_topic_log::{Closed, LogReader, LogState};
use rusqlite::{OptionalExtension, params};

use super::log::closed_of;
use super::{Sql, StoreError, integer, seq_of};

/// `counter > 0` as in the index.
pub(super) const CHANNELS: &str = "SELECT topic, tail, closed,
        ifnull((SELECT seq FROM operations o WHERE o.topic = t.topic ORDER BY seq DESC LIMIT 1), 0)
    FROM topics t WHERE counter > 0 ORDER BY topic";

/// What a topic keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSize {
    /// The topic.
    pub topic: TopicId,
    /// How many operations.
    pub operations: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A public channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// The topic.
    pub topic: TopicId,
    /// The last seq.
    pub head: Seq,
    /// The lowest retained seq.
    pub tail: Seq,
    /// Whether it was deleted or blocked.
    pub closed: Option<Closed>,
}

impl Sql {
    /// The next topic after `after` in byte order, or the first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn topic_after(&self, after: Option<&TopicId>) -> Result<Option<TopicId>, StoreError> {
        let mut statement =
            self.statement("SELECT topic FROM operations WHERE topic > ?1 ORDER BY topic LIMIT 1")?;
        // Before every id stands the empty one.
        let after = after.map_or(&[][..], |topic| &topic.0);
        let row = statement.query_row([after], |row| row.get(0).map(TopicId)).optional();
        row.map_err(|source| self.error(source))
    }

    /// How many topics have had operations; a walk over all topics.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn count_topics(&self) -> Result<u64, StoreError> {
        let (mut topic, mut count) = (None, 0);
        while let Some(next) = self.topic_after(topic.as_ref())? {
            (topic, count) = (Some(next), count + 1);
        }
        Ok(count)
    }

    /// The topics that keep most bytes, most first; a walk over all topics.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn largest_topics(&self, count: usize) -> Result<Vec<TopicSize>, StoreError> {
        let mut largest: Vec<TopicSize> = Vec::new();
        let mut topic = None;
        while let Some(next) = self.topic_after(topic.as_ref())? {
            let state = self.state(&next)?.unwrap_or(LogState::EMPTY);
            let operations = (state.head.0 + 1).saturating_sub(state.tail.0);
            if operations > 0 {
                let bytes = state.bytes.saturating_sub(self.bytes_up_to(&next, state.tail.previous())?);
                let place = largest.partition_point(|more| more.bytes >= bytes);
                largest.insert(place, TopicSize { topic: next, operations, bytes });
                largest.truncate(count);
            }
            topic = Some(next);
        }
        Ok(largest)
    }

    /// All closed topics.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn closed_topics(&self) -> Result<Vec<TopicId>, StoreError> {
        let mut statement = self.statement("SELECT topic FROM topics WHERE closed <> 0")?;
        let rows = statement.query_map([], |row| row.get(0).map(TopicId));
        let topics = rows.and_then(Iterator::collect);
        topics.map_err(|source| self.error(source))
    }

    /// The public channels, and where their logs are.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn channels(&self) -> Result<Vec<Channel>, StoreError> {
        let mut statement = self.statement(CHANNELS)?;
        let rows = statement.query_map([], |row| {
            let closed = closed_of(row, 2)?;
            Ok(Channel { topic: TopicId(row.get(0)?), tail: seq_of(row, 1)?, head: seq_of(row, 3)?, closed })
        });
        rows.and_then(Iterator::collect).map_err(|source| self.error(source))
    }

    /// The lowest seq whose eviction leaves at most `max_bytes` of operations; 0 when all fit.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn evict_for_bytes(&self, topic: &TopicId, max_bytes: u64) -> Result<Seq, StoreError> {
        let state = self.state(topic)?.unwrap_or(LogState::EMPTY);
        let fits = |seq| Ok(state.bytes.saturating_sub(self.bytes_up_to(topic, seq)?) <= max_bytes);
        let (mut low, mut high) = (state.tail.previous(), state.head);
        if low >= high || fits(low)? {
            return Ok(Seq(0));
        }
        // What is left after `low` does not fit, after `high` it does: nothing is left there.
        while high.0 - low.0 > 1 {
            let middle = Seq(low.0 + (high.0 - low.0) / 2);
            if fits(middle)? {
                high = middle;
            } else {
                low = middle;
            }
        }
        Ok(high)
    }

    /// Bytes of a topic's operations up to and with a seq; only differences from the tail on mean something.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn bytes_up_to(&self, topic: &TopicId, seq: Seq) -> Result<u64, StoreError> {
        let mut statement = self.statement("SELECT total FROM operations WHERE topic = ?1 AND seq = ?2")?;
        let total = statement.query_row(params![&topic.0, integer(seq)], |row| row.get::<_, i64>(0));
        let total = total.optional().map_err(|source| self.error(source))?;
        Ok(total.map_or(0, i64::unsigned_abs))
    }
}
