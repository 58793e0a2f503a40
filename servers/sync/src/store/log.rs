//! Topic logs on SQLite: the storage contract of `delta-topic-log`.

use delta_core::identity::{EnvelopeHash, Millis};
use delta_core::topic::{Chain, Seq, TopicId};
use delta_topic_log::{
    Closed, Inserted, LogReader, LogState, LogStorage, NewRow, Order, StoredOp, TopicFacts,
};
use rusqlite::{OptionalExtension, params};

use super::{Sql, StoreError, damaged, integer, seq_of};

pub(super) const WALK: &str = "SELECT seq, received, chain, op FROM operations
    WHERE topic = ?1 AND seq > ?2 AND seq < ?3 AND op IS NOT NULL ORDER BY seq";
pub(super) const WALK_BACK: &str = "SELECT seq, received, chain, op FROM operations
    WHERE topic = ?1 AND seq > ?2 AND seq < ?3 AND op IS NOT NULL ORDER BY seq DESC";

impl LogReader for Sql {
    type Error = StoreError;

    fn state(&self, topic: &TopicId) -> Result<Option<LogState>, StoreError> {
        let mut last = self.statement(
            "SELECT seq, received, chain, total FROM operations WHERE topic = ?1 ORDER BY seq DESC LIMIT 1",
        )?;
        let last = last.query_row([&topic.0], |row| {
            Ok(LogState {
                head: seq_of(row, 0)?,
                received: millis_of(row, 1)?,
                chain: Some(Chain(row.get(2)?)),
                bytes: row.get::<_, i64>(3)?.unsigned_abs(),
                ..LogState::EMPTY
            })
        });
        let last = last.optional().map_err(|source| self.error(source))?;
        let mut facts = self.statement("SELECT signed, tail, closed FROM topics WHERE topic = ?1")?;
        let facts = facts.query_row([&topic.0], |row| {
            Ok((row.get::<_, i64>(0)? != 0, seq_of(row, 1)?, closed_of(row, 2)?))
        });
        let facts = facts.optional().map_err(|source| self.error(source))?;
        if last.is_none() && facts.is_none() {
            return Ok(None);
        }
        let (signed, tail, closed) = facts.unwrap_or((false, Seq(1), None));
        Ok(Some(LogState { tail, signed, closed, ..last.unwrap_or(LogState::EMPTY) }))
    }

    fn facts(&self, topic: &TopicId) -> Result<TopicFacts, StoreError> {
        let mut statement =
            self.statement("SELECT counter, read_key, metadata, closed FROM topics WHERE topic = ?1")?;
        let facts = statement.query_row([&topic.0], |row| {
            let counter = row.get::<_, i64>(0)?.unsigned_abs();
            let (read_key, metadata) = (row.get(1)?, row.get(2)?);
            Ok(TopicFacts { counter, read_key, metadata, closed: closed_of(row, 3)? })
        });
        facts.optional().map(Option::unwrap_or_default).map_err(|source| self.error(source))
    }

    fn find(&self, topic: &TopicId, hash: &EnvelopeHash) -> Result<Option<Seq>, StoreError> {
        let mut statement = self.statement("SELECT seq FROM operations WHERE topic = ?1 AND hash = ?2")?;
        let found = statement.query_row(params![&topic.0, &hash.0], |row| seq_of(row, 0)).optional();
        found.map_err(|source| self.error(source))
    }

    fn mark(&self, topic: &TopicId, seq: Seq) -> Result<Option<(Chain, Millis)>, StoreError> {
        let mut statement =
            self.statement("SELECT chain, received FROM operations WHERE topic = ?1 AND seq = ?2")?;
        let found = statement
            .query_row(params![&topic.0, integer(seq)], |row| Ok((Chain(row.get(0)?), millis_of(row, 1)?)));
        found.optional().map_err(|source| self.error(source))
    }

    fn walk(
        &self,
        topic: &TopicId,
        after: Seq,
        before: Seq,
        order: Order,
        visit: &mut dyn FnMut(StoredOp<'_>) -> bool,
    ) -> Result<(), StoreError> {
        let mut statement = self.statement(match order {
            Order::Ascending => WALK,
            Order::Descending => WALK_BACK,
        })?;
        let mut read = || {
            let mut rows = statement.query(params![&topic.0, integer(after), integer(before)])?;
            while let Some(row) = rows.next()? {
                let stored = StoredOp {
                    seq: seq_of(row, 0)?,
                    received: millis_of(row, 1)?,
                    chain: Chain(row.get(2)?),
                    op: row.get_ref(3)?.as_blob()?,
                };
                if !visit(stored) {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|source| self.error(source))
    }
}

impl LogStorage for Sql {
    fn begin(&mut self) -> Result<(), StoreError> {
        self.run("BEGIN IMMEDIATE")
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.run("COMMIT")
    }

    fn rollback(&mut self) {
        // SQLite may have rolled back by itself (a full disk); a transaction that is still open after this fails
        // the next `begin`, visibly.
        if !self.connection.is_autocommit()
            && let Err(error) = self.run("ROLLBACK")
        {
            tracing::error!("cannot roll back: {error}");
        }
    }

    fn insert(&mut self, topic: &TopicId, row: &NewRow<'_>) -> Result<Inserted, StoreError> {
        let mut statement = self.statement(
            "INSERT INTO operations (topic, seq, received, hash, chain, op, total)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (topic, hash) DO NOTHING",
        )?;
        let received = i64::try_from(row.received.0).unwrap_or(i64::MAX);
        let total = i64::try_from(row.bytes).unwrap_or(i64::MAX);
        let values = params![&topic.0, integer(row.seq), received, &row.hash.0, &row.chain.0, row.op, total];
        if statement.execute(values).map_err(|source| self.error(source))? == 1 {
            return Ok(Inserted::Fresh);
        }
        let seq = self.find(topic, &row.hash)?;
        seq.map(Inserted::Duplicate).ok_or_else(|| damaged(&self.path, "the index of hashes is broken"))
    }

    fn mark_signed(&mut self, topic: &TopicId) -> Result<(), StoreError> {
        let mut statement = self.statement(
            "INSERT INTO topics (topic, signed) VALUES (?1, 1) ON CONFLICT (topic) DO UPDATE SET signed = 1",
        )?;
        statement.execute([&topic.0]).map(drop).map_err(|source| self.error(source))
    }

    fn set_facts(&mut self, topic: &TopicId, facts: &TopicFacts) -> Result<(), StoreError> {
        let mut statement = self.statement(
            "INSERT INTO topics (topic, counter, read_key, metadata, closed) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (topic) DO UPDATE SET counter = ?2, read_key = ?3, metadata = ?4, closed = ?5",
        )?;
        let counter = i64::try_from(facts.counter).unwrap_or(i64::MAX);
        let closed = match facts.closed {
            None => 0,
            Some(Closed::Deleted) => DELETED,
            Some(Closed::Blocked) => BLOCKED,
        };
        let values = params![&topic.0, counter, facts.read_key, facts.metadata, closed];
        statement.execute(values).map(drop).map_err(|source| self.error(source))
    }

    fn evict(&mut self, topic: &TopicId, up_to: Seq) -> Result<(), StoreError> {
        let mut drop_ops = self.statement(
            "UPDATE operations SET op = NULL
             WHERE topic = ?1 AND seq <= ?2 AND seq >= coalesce((SELECT tail FROM topics WHERE topic = ?1), 1)",
        )?;
        drop_ops.execute(params![&topic.0, integer(up_to)]).map_err(|source| self.error(source))?;
        let mut move_tail = self.statement(
            "INSERT INTO topics (topic, tail) VALUES (?1, ?2) ON CONFLICT (topic) DO UPDATE SET tail = ?2",
        )?;
        let tail = Seq(up_to.0.saturating_add(1));
        move_tail.execute(params![&topic.0, integer(tail)]).map(drop).map_err(|source| self.error(source))
    }
}

const DELETED: i64 = 1;
const BLOCKED: i64 = 2;

pub(super) fn closed_of(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Closed>> {
    Ok(match row.get(column)? {
        0 => None,
        DELETED => Some(Closed::Deleted),
        // Whatever a damaged row says: a topic that may not be shown is not shown.
        _ => Some(Closed::Blocked),
    })
}

fn millis_of(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Millis> {
    row.get::<_, i64>(column).map(|time| Millis(time.unsigned_abs()))
}
