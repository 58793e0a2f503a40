//! Envelopes on their way out, first in, first out, until their echo acknowledges them. When a row is sent and
//! when it is tried again is decided in [`crate::sync::outbox`]; here it is written down.

use rusqlite::{Params, Row, params};

use super::db::{Db, int, uint};
use super::error::{LimitReached, StoreError};
use super::operations::StoredOperation;
use super::tx::Tx;
use crate::identity::{EnvelopeHash, LogId, Millis, OperationId};
use crate::limits::{MAX_OUTBOX_BYTES, MAX_OUTBOX_ROWS};
use crate::sync::outbox::{Requeued, RowId};
use crate::topic::TopicId;
use crate::tree::Set;

/// Why an envelope is being delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This device wrote it.
    Own,
    /// A server lost it; whose it is does not matter.
    Redelivery,
}

/// An envelope to deliver.
#[derive(Clone, Copy, Debug)]
pub struct NewOutboxRow<'a> {
    /// Where to.
    pub topic: TopicId,
    /// Which operation is inside.
    pub operation: OperationId,
    /// BLAKE3 of the envelope.
    pub hash: EnvelopeHash,
    /// The exact bytes: every attempt is a new packet around the same envelope.
    pub envelope: &'a [u8],
    /// Why.
    pub origin: Origin,
    /// Not to be sent before this instant.
    pub not_before: Millis,
}

/// A row as the delivery policy needs it: without its envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Where to.
    pub topic: TopicId,
    /// Order of arrival; never used twice.
    pub id: RowId,
    /// BLAKE3 of the envelope.
    pub hash: EnvelopeHash,
    /// Length of the envelope in bytes.
    pub len: u32,
    /// Attempts so far.
    pub tries: u32,
    /// Whether it may have left this device before.
    pub maybe_sent: bool,
    /// Not to be sent (again) before this instant.
    pub not_before: Millis,
    /// Whether nothing is tried at present.
    pub parked: bool,
}

/// An operation on its way out, as an app is shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedOperation {
    /// Order of arrival; never used twice.
    pub id: RowId,
    /// Which operation is inside.
    pub operation: OperationId,
    /// BLAKE3 of the envelope.
    pub hash: EnvelopeHash,
    /// Length of the envelope in bytes.
    pub len: u32,
    /// Whether this device made the row for an operation of its own; else a server lost it.
    pub own: bool,
    /// Where it stands.
    pub state: OutboxRowState,
    /// Attempts so far.
    pub tries: u32,
    /// Not to be sent (again) before this instant.
    pub not_before: Millis,
}

/// Where a row stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxRowState {
    /// Waiting for its turn.
    Queued,
    /// On its way.
    Sent,
    /// Nothing is tried until the reason is gone.
    Parked {
        /// Why: a name that stays the same in all versions.
        reason: String,
    },
}

/// What left the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxRemoved {
    /// Which operation was inside.
    pub operation: OperationId,
    /// Why it was delivered.
    pub origin: Origin,
    /// Length of the envelope in bytes.
    pub len: u32,
}

/// Rows of a topic by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    /// Waiting for their turn.
    pub queued: u64,
    /// On their way.
    pub sent: u64,
    /// Parked: nothing is tried until the reason is gone.
    pub parked: u64,
}

const OWN: i64 = 1;
const REDELIVERY: i64 = 2;
const QUEUED: i64 = 0;
const SENT: i64 = 1;
const PARKED: i64 = 2;

macro_rules! select_queued {
    ($rest:literal) => {
        concat!(
            "SELECT id, operation, hash, length(envelope), origin, state, tries, due_ms, reason FROM outbox ",
            $rest
        )
    };
}

impl Db {
    /// Every row, oldest first: how the policy's memory is filled at start.
    pub fn outbox_entries(&self) -> Result<Vec<OutboxEntry>, StoreError> {
        self.all(
            "SELECT topic, id, hash, length(envelope), tries, state, due_ms FROM outbox ORDER BY id",
            [],
            entry_row,
        )
    }

    /// The envelope of a row.
    pub fn outbox_envelope(&self, id: RowId) -> Result<Option<Vec<u8>>, StoreError> {
        self.one("SELECT envelope FROM outbox WHERE id = ?1", [id], |row| row.get(0))
    }

    /// The row with this envelope.
    pub fn outbox_by_hash(
        &self,
        topic: TopicId,
        hash: EnvelopeHash,
    ) -> Result<Option<OutboxEntry>, StoreError> {
        self.one(
            "SELECT topic, id, hash, length(envelope), tries, state, due_ms FROM outbox
             WHERE topic = ?1 AND hash = ?2",
            params![topic.0, hash.0],
            entry_row,
        )
    }

    /// The operation inside the row with this envelope.
    pub fn outbox_operation(
        &self,
        topic: TopicId,
        hash: EnvelopeHash,
    ) -> Result<Option<OperationId>, StoreError> {
        self.one(
            "SELECT operation FROM outbox WHERE topic = ?1 AND hash = ?2",
            params![topic.0, hash.0],
            |row| row.get(0).map(OperationId),
        )
    }

    /// Rows of a topic after `after`, oldest first, at most `limit`.
    pub fn outbox_rows(
        &self,
        topic: TopicId,
        after: Option<RowId>,
        limit: usize,
    ) -> Result<Vec<QueuedOperation>, StoreError> {
        self.all(
            select_queued!("WHERE topic = ?1 AND id > ?2 ORDER BY id LIMIT ?3"),
            params![topic.0, after.unwrap_or(0), int(limit as u64)],
            queued_row,
        )
    }

    /// The row an operation goes out in.
    pub fn outbox_row(
        &self,
        topic: TopicId,
        operation: &OperationId,
    ) -> Result<Option<QueuedOperation>, StoreError> {
        self.one(
            select_queued!("WHERE topic = ?1 AND operation = ?2"),
            params![topic.0, operation.0],
            queued_row,
        )
    }

    /// Rows of a topic by state.
    pub fn outbox_counts(&self, topic: TopicId) -> Result<OutboxCounts, StoreError> {
        self.counts("SELECT state, count(*) FROM outbox WHERE topic = ?1 GROUP BY state", [topic.0])
    }

    /// Rows of all topics by state.
    pub fn outbox_totals(&self) -> Result<OutboxCounts, StoreError> {
        self.counts("SELECT state, count(*) FROM outbox GROUP BY state", [])
    }

    fn counts(&self, sql: &str, params: impl Params) -> Result<OutboxCounts, StoreError> {
        let rows = self.all(sql, params, |row| Ok((row.get::<_, i64>(0)?, uint(row.get(1)?))))?;
        let mut counts = OutboxCounts::default();
        for (state, count) in rows {
            match state {
                QUEUED => counts.queued = count,
                SENT => counts.sent = count,
                _ => counts.parked = count,
            }
        }
        Ok(counts)
    }

    /// Why rows of a topic are parked, with how many for each reason.
    pub fn outbox_parked(&self, topic: TopicId) -> Result<Vec<(String, u64)>, StoreError> {
        self.all(
            "SELECT ifnull(reason, ''), count(*) FROM outbox WHERE topic = ?1 AND state = 2
             GROUP BY reason ORDER BY reason",
            [topic.0],
            |row| Ok((row.get(0)?, uint(row.get(1)?))),
        )
    }

    /// All rows and all envelope bytes of the outbox.
    pub fn outbox_size(&self) -> Result<(u64, u64), StoreError> {
        let size = self.one("SELECT outbox_rows, outbox_bytes FROM tally", [], |row| {
            Ok((uint(row.get(0)?), uint(row.get(1)?)))
        })?;
        Ok(size.unwrap_or_default())
    }
}

impl Tx<'_> {
    /// Queues an envelope. The same envelope in the same topic is one row: then that row's id is given.
    ///
    /// # Errors
    /// [`StoreError::Limit`] when the outbox is full; nothing was queued.
    pub fn outbox_push(&self, row: &NewOutboxRow<'_>) -> Result<RowId, StoreError> {
        let (rows, bytes) = self.outbox_size()?;
        if rows >= MAX_OUTBOX_ROWS as u64 {
            return Err(LimitReached::OutboxRows.into());
        }
        if bytes.saturating_add(row.envelope.len() as u64) > MAX_OUTBOX_BYTES {
            return Err(LimitReached::OutboxBytes.into());
        }
        let origin = match row.origin {
            Origin::Own => OWN,
            Origin::Redelivery => REDELIVERY,
        };
        let added = self.run(
            "INSERT INTO outbox (topic, operation, hash, envelope, origin, state, due_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6) ON CONFLICT (topic, hash) DO NOTHING",
            params![row.topic.0, row.operation.0, row.hash.0, row.envelope, origin, int(row.not_before.0)],
        )?;
        if added > 0 {
            return Ok(self.last_insert_rowid());
        }
        let present = self.outbox_by_hash(row.topic, row.hash)?;
        present.map(|present| present.id).ok_or_else(|| self.missing_row("outbox"))
    }

    /// Notes that rows left in one packet: their `tries` so far, and when to try again, should no echo come.
    pub fn outbox_sent(
        &self,
        rows: &[RowId],
        tries: u32,
        now: Millis,
        due: Millis,
    ) -> Result<(), StoreError> {
        for row in rows {
            self.run(
                "UPDATE outbox SET state = 1, tries = ?2, sent_ms = ?3, due_ms = ?4, reason = NULL WHERE id = ?1",
                params![row, tries, int(now.0), int(due.0)],
            )?;
        }
        Ok(())
    }

    /// Puts rows back in the queue, at their old turn.
    pub fn outbox_requeue(&self, rows: &[Requeued]) -> Result<(), StoreError> {
        for row in rows {
            self.run(
                "UPDATE outbox SET state = 0, tries = ?2, due_ms = ?3, reason = NULL WHERE id = ?1",
                params![row.id, row.tries, int(row.not_before.0)],
            )?;
        }
        Ok(())
    }

    /// Takes back every own operation that no packet ever held: the database went on elsewhere, where its number may be
    /// another operation's by now, or the conversation is going. Gives how many.
    pub fn forget_unsent(&self, only: Option<&LogId>) -> Result<u64, StoreError> {
        let rows = self.all(
            "SELECT id, operation FROM outbox WHERE origin = ?1 AND tries = 0 AND state <> ?2 ORDER BY id DESC",
            [OWN, SENT],
            |row| Ok((row.get::<_, RowId>(0)?, OperationId(row.get(1)?))),
        )?;
        let (mut logs, mut count) = (Set::new(), 0);
        for (id, operation) in rows {
            let Some(stored) = self.operation(&operation)? else { continue };
            let StoredOperation { author, log, seq_num, .. } = stored;
            if only.is_some_and(|only| *only != log) {
                continue;
            }
            // With a later one that was sent its number is taken for good.
            if self.head(&author, &log)?.is_none_or(|head| head.id != operation) {
                continue;
            }
            self.outbox_remove(id)?;
            self.run("DELETE FROM rotation WHERE operation = ?1 AND resets IS NULL", [operation.0])?;
            self.remove_operation(&author, &log, seq_num)?;
            self.recount_head(&author, &log, false)?;
            logs.insert((author, log));
            count += 1;
        }
        for (author, log) in logs {
            self.rebuild_log(&author, &log)?;
        }
        // Chunks were among them, too.
        if only.is_none() {
            self.send_blobs_again()?;
        }
        Ok(count)
    }

    /// Parks a row: nothing is tried until it is requeued.
    pub fn outbox_park(&self, id: RowId, reason: &str) -> Result<(), StoreError> {
        self.run("UPDATE outbox SET state = 2, reason = ?2 WHERE id = ?1", params![id, reason]).map(drop)
    }

    /// Parks all rows of a topic.
    pub fn outbox_park_topic(&self, topic: TopicId, reason: &str) -> Result<(), StoreError> {
        self.run(
            "UPDATE outbox SET state = 2, reason = ?2 WHERE topic = ?1 AND state <> 2",
            params![topic.0, reason],
        )
        .map(drop)
    }

    /// Puts the parked rows of a topic back in the queue; gives how many.
    pub fn outbox_unpark_topic(&self, topic: TopicId) -> Result<u64, StoreError> {
        let rows = self.run(
            "UPDATE outbox SET state = 0, reason = NULL WHERE topic = ?1 AND state = 2",
            params![topic.0],
        )?;
        Ok(rows as u64)
    }

    /// Removes a row, because its echo came or because nothing more can come of it.
    pub fn outbox_remove(&self, id: RowId) -> Result<Option<OutboxRemoved>, StoreError> {
        self.one(
            "DELETE FROM outbox WHERE id = ?1 RETURNING operation, origin, length(envelope)",
            [id],
            |row| {
                let origin = if row.get::<_, i64>(1)? == OWN { Origin::Own } else { Origin::Redelivery };
                Ok(OutboxRemoved { operation: OperationId(row.get(0)?), origin, len: row.get(2)? })
            },
        )
    }
}

fn queued_row(row: &Row<'_>) -> rusqlite::Result<QueuedOperation> {
    let state = match row.get(5)? {
        QUEUED => OutboxRowState::Queued,
        SENT => OutboxRowState::Sent,
        _ => OutboxRowState::Parked { reason: row.get::<_, Option<String>>(8)?.unwrap_or_default() },
    };
    Ok(QueuedOperation {
        id: row.get(0)?,
        operation: OperationId(row.get(1)?),
        hash: EnvelopeHash(row.get(2)?),
        len: row.get(3)?,
        own: row.get::<_, i64>(4)? == OWN,
        state,
        tries: row.get(6)?,
        not_before: Millis(uint(row.get(7)?)),
    })
}

fn entry_row(row: &Row<'_>) -> rusqlite::Result<OutboxEntry> {
    let (tries, state) = (row.get(4)?, row.get::<_, i64>(5)?);
    Ok(OutboxEntry {
        topic: TopicId(row.get(0)?),
        id: row.get(1)?,
        hash: EnvelopeHash(row.get(2)?),
        len: row.get(3)?,
        tries,
        maybe_sent: tries > 0 || state == SENT,
        not_before: Millis(uint(row.get(6)?)),
        parked: state == PARKED,
    })
}
