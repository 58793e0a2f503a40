//! Topics that ended and are retired: their rows stay, because places are counted by them, and the newest of their keys,
//! for who asks late. Nothing is read of them any more, and they do not count among the topics that are open.

use rusqlite::params;

use super::db::{Db, int, uint};
use super::error::StoreError;
use super::tx::Tx;
use crate::identity::{LogId, Millis};
use crate::limits::MAX_RETIRED_KEYS;
use crate::topic::TopicId;

impl Db {
    /// The topics that are retired, with their logs and epochs.
    pub(crate) fn retired_topics(&self) -> Result<Vec<(TopicId, LogId, u32)>, StoreError> {
        self.all("SELECT topic, log, epoch FROM topic WHERE retired_ms IS NOT NULL", [], |row| {
            Ok((TopicId(row.get(0)?), LogId(row.get(1)?), row.get(2)?))
        })
    }

    /// When a topic was opened, by this device's clock.
    pub(crate) fn opened_at(&self, topic: TopicId) -> Result<Option<Millis>, StoreError> {
        self.one("SELECT added_ms FROM topic WHERE topic = ?1", [topic.0], |row| {
            row.get(0).map(uint).map(Millis)
        })
    }
}

impl Tx<'_> {
    /// Retires a topic. Of its conversation the keys of the newest [`MAX_RETIRED_KEYS`] retired epochs stay; what waited for
    /// others will not open any more.
    pub(crate) fn retire_topic(&self, topic: TopicId, log: &LogId, now: Millis) -> Result<(), StoreError> {
        self.run("UPDATE topic SET retired_ms = ?2 WHERE topic = ?1", params![topic.0, int(now.0)])?;
        self.run("DELETE FROM pending WHERE topic = ?1", [topic.0])?;
        self.run("DELETE FROM refetch WHERE topic = ?1", [topic.0])?;
        let oldest: Option<u32> = self.one(
            "SELECT epoch FROM topic WHERE log = ?1 AND retired_ms IS NOT NULL
             ORDER BY epoch DESC LIMIT 1 OFFSET ?2",
            params![log.0, MAX_RETIRED_KEYS],
            |row| row.get(0),
        )?;
        let Some(oldest) = oldest else { return Ok(()) };
        // One more is retired each time, whichever: it, or the one that is now beyond them.
        self.run(
            "UPDATE topic SET ticket = x'', read_key = NULL
             WHERE log = ?1 AND epoch = ?2 AND retired_ms IS NOT NULL",
            params![log.0, oldest],
        )?;
        self.run(
            "UPDATE topic SET ticket = x'', read_key = NULL WHERE topic = ?1 AND epoch <= ?2",
            params![topic.0, oldest],
        )
        .map(drop)
    }
}
