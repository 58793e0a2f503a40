//! Operations that wait: for a key, or for their predecessor. Bounded; what does not fit is noted to be read again.

use rusqlite::{Row, params};

use super::db::{Db, int, uint};
use super::error::StoreError;
use super::operations::NewOperation;
use super::secrets::Column;
use super::topics::SeqRange;
use super::tx::Tx;
use crate::identity::{Author, LogId, Millis, OperationId};
use crate::limits::{MAX_PENDING_BYTES, MAX_PENDING_KEY_BYTES, MAX_PENDING_PER_AUTHOR};
use crate::projector::Place;
use crate::topic::{Generation, Seq, TopicId};

/// What an operation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PendingReason {
    /// A key that opens its envelope.
    Key,
    /// The operation before it in its author's log.
    Predecessor,
    /// Room: it was let go and is noted to be read again from history.
    Refetch,
}

/// Where and when something was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// In which topic.
    pub topic: TopicId,
    /// In which copy of its log.
    pub generation: Generation,
    /// At which place.
    pub place: Place,
    /// When, by the server's clock.
    pub received: Millis,
}

/// An envelope that no key opens yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingForKey {
    /// Where and when it came; [`Place::epoch`] is not kept and 0 here.
    pub receipt: Receipt,
    /// The envelope.
    pub envelope: Vec<u8>,
}

/// A verified operation whose predecessor is missing.
#[derive(Clone, PartialEq, Eq)]
pub struct WaitingForPredecessor {
    /// Where and when it came.
    pub receipt: Receipt,
    /// BLAKE3 of the header.
    pub id: OperationId,
    /// Who signed it.
    pub author: Author,
    /// In which conversation.
    pub log: LogId,
    /// Its number in the author's log.
    pub seq_num: u32,
    /// The operation it waits for, unless that one waits too.
    pub backlink: Option<OperationId>,
    /// The encoded header.
    pub header: Vec<u8>,
    /// The encoded body.
    pub body: Vec<u8>,
}

/// Names the operation and shows nothing of its content.
impl std::fmt::Debug for WaitingForPredecessor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WaitingForPredecessor")
            .field("receipt", &self.receipt)
            .field("id", &self.id)
            .field("seq_num", &self.seq_num)
            .finish_non_exhaustive()
    }
}

impl WaitingForPredecessor {
    /// The operation itself.
    pub fn operation(&self) -> NewOperation<'_> {
        NewOperation {
            id: self.id,
            author: self.author,
            log: self.log,
            seq_num: self.seq_num,
            backlink: self.backlink,
            header: &self.header,
            body: &self.body,
        }
    }
}

/// How much of a topic waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingCount {
    /// Envelopes without a key.
    pub key: u64,
    /// Operations without their predecessor.
    pub predecessor: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingLimits {
    /// Bytes of one topic.
    pub bytes: u64,
    /// Operations of one author and log that wait for their predecessor.
    pub per_author: usize,
}

impl Default for PendingLimits {
    fn default() -> Self {
        Self { bytes: MAX_PENDING_BYTES, per_author: MAX_PENDING_PER_AUTHOR }
    }
}

/// Bytes of a topic that wait, by what they wait for.
#[derive(Clone, Copy, Default)]
struct PendingSize {
    key: u64,
    predecessor: u64,
}

const KEY: i64 = 1;
const PREDECESSOR: i64 = 2;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT topic, generation, resets, seq, received_ms, place, hash, author, log, seq_num, backlink, header, \
             bytes FROM pending ",
            $rest
        )
    };
}

impl Db {
    /// Envelopes of a topic that wait for this key, oldest first.
    pub fn waiting_for_key(
        &self,
        topic: TopicId,
        key_id: &[u8],
        limit: usize,
    ) -> Result<Vec<WaitingForKey>, StoreError> {
        self.all(
            "SELECT generation, resets, seq, received_ms, bytes FROM pending
             WHERE topic = ?1 AND key_id = ?2 AND key_id IS NOT NULL ORDER BY resets, seq LIMIT ?3",
            params![topic.0, key_id, int(limit as u64)],
            |row| Ok(WaitingForKey { receipt: key_receipt(topic, row)?, envelope: row.get(4)? }),
        )
    }

    /// Operations of one log with `from <= seq_num <= to` that wait for their predecessor.
    pub(super) fn read_waiting(
        &self,
        author: &Author,
        log: &LogId,
        from: u32,
        to: u32,
    ) -> Result<Vec<WaitingForPredecessor>, StoreError> {
        let rows = self.all(
            select!(
                "WHERE author = ?1 AND log = ?2 AND seq_num BETWEEN ?3 AND ?4 AND author IS NOT NULL
                 ORDER BY seq_num, place"
            ),
            params![author.0, log.0, from, to],
            waiting_row,
        )?;
        let unseal = |mut row: WaitingForPredecessor| {
            row.body = self.unseal_body(Column::PendingBody, &row.id, row.body)?;
            Ok(row)
        };
        rows.into_iter().map(unseal).collect()
    }

    /// Which operations of a log wait for their predecessor: authors and numbers in order, at most `limit`.
    pub(crate) fn waiting_in_order(
        &self,
        log: &LogId,
        limit: usize,
    ) -> Result<Vec<(Author, u32)>, StoreError> {
        self.all(
            "SELECT DISTINCT author, seq_num FROM pending WHERE log = ?1 AND author IS NOT NULL
             ORDER BY author, seq_num LIMIT ?2",
            params![log.0, int(limit as u64)],
            |row| Ok((Author(row.get(0)?), row.get(1)?)),
        )
    }

    /// How much of a topic waits, and for what.
    pub fn pending_count(&self, topic: TopicId) -> Result<PendingCount, StoreError> {
        let rows = self.all(
            "SELECT reason, count(*) FROM pending WHERE topic = ?1 GROUP BY reason",
            [topic.0],
            |row| Ok((row.get::<_, i64>(0)?, uint(row.get(1)?))),
        )?;
        let size = self.pending_size(topic)?;
        let mut count = PendingCount { bytes: size.key + size.predecessor, ..PendingCount::default() };
        for (reason, rows) in rows {
            match reason {
                KEY => count.key = rows,
                _ => count.predecessor = rows,
            }
        }
        Ok(count)
    }

    fn pending_size(&self, topic: TopicId) -> Result<PendingSize, StoreError> {
        let size = self.one(
            "SELECT key_bytes, bytes - key_bytes FROM pending_size WHERE topic = ?1",
            [topic.0],
            |row| Ok(PendingSize { key: uint(row.get(0)?), predecessor: uint(row.get(1)?) }),
        )?;
        Ok(size.unwrap_or_default())
    }

    fn oldest_waiting_for_key(&self, topic: TopicId) -> Result<Option<Receipt>, StoreError> {
        self.one(
            "SELECT generation, resets, seq, received_ms FROM pending
             WHERE topic = ?1 AND key_id IS NOT NULL ORDER BY resets, seq LIMIT 1",
            [topic.0],
            |row| key_receipt(topic, row),
        )
    }
}

impl Tx<'_> {
    /// For every author of whose log nothing is stored, the waiting operation with the lowest number.
    pub(crate) fn first_waiting(&self, log: &LogId) -> Result<Vec<(Author, u32)>, StoreError> {
        self.write_heads()?;
        self.all(
            "SELECT author, min(seq_num) FROM pending WHERE author IS NOT NULL AND log = ?1 AND NOT EXISTS
                 (SELECT 1 FROM heads WHERE heads.author = pending.author AND heads.log = ?1)
             GROUP BY author ORDER BY author",
            [log.0],
            |row| Ok((Author(row.get(0)?), row.get(1)?)),
        )
    }

    /// Keeps an envelope until a key opens it.
    pub(crate) fn await_key(
        &self,
        receipt: &Receipt,
        key_id: &[u8],
        envelope: &[u8],
    ) -> Result<PendingReason, StoreError> {
        // A budget of its own: these are unverified bytes that anyone who may write can make up. The oldest give way,
        // so that made-up ones cannot hold the room for good.
        let room = MAX_PENDING_KEY_BYTES.saturating_sub(envelope.len() as u64);
        while self.pending_size(receipt.topic)?.key > room {
            let Some(oldest) = self.oldest_waiting_for_key(receipt.topic)? else { break };
            self.remove_pending(&oldest)?;
            self.let_go(&oldest)?;
        }
        self.run(
            "INSERT INTO pending (topic, resets, seq, generation, received_ms, reason, key_id, bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
            params![
                receipt.topic.0,
                receipt.place.resets,
                int(receipt.place.seq.0),
                receipt.generation.0,
                int(receipt.received.0),
                KEY,
                key_id,
                envelope,
            ],
        )?;
        Ok(PendingReason::Key)
    }

    /// Keeps a verified operation until its predecessor is there.
    pub(crate) fn await_predecessor(
        &self,
        receipt: &Receipt,
        op: &NewOperation<'_>,
    ) -> Result<PendingReason, StoreError> {
        let len = (op.header.len() + op.body.len()) as u64;
        let full = self.one(
            "SELECT 1 FROM pending WHERE author = ?1 AND log = ?2 AND author IS NOT NULL LIMIT 1 OFFSET ?3",
            params![op.author.0, op.log.0, int((self.pending.per_author as u64).saturating_sub(1))],
            |_| Ok(()),
        )?;
        if full.is_some()
            || self.pending_size(receipt.topic)?.predecessor.saturating_add(len) > self.pending.bytes
        {
            return self.let_go(receipt);
        }
        self.run(
            "INSERT INTO pending (topic, resets, seq, generation, received_ms, reason, author, log, seq_num, hash,
                 backlink, place, header, bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) ON CONFLICT DO NOTHING",
            params![
                receipt.topic.0,
                receipt.place.resets,
                int(receipt.place.seq.0),
                receipt.generation.0,
                int(receipt.received.0),
                PREDECESSOR,
                op.author.0,
                op.log.0,
                op.seq_num,
                op.id.0,
                op.backlink.map(|id| id.0),
                receipt.place.to_bytes(),
                op.header,
                self.seal_body(Column::PendingBody, &op.id, op.body)?,
            ],
        )?;
        self.note_waiting(&op.author, &op.log);
        Ok(PendingReason::Predecessor)
    }

    /// Removes what waited at a place.
    pub fn remove_pending(&self, receipt: &Receipt) -> Result<(), StoreError> {
        self.run(
            "DELETE FROM pending WHERE topic = ?1 AND resets = ?2 AND seq = ?3",
            params![receipt.topic.0, receipt.place.resets, int(receipt.place.seq.0)],
        )
        .map(drop)
    }

    /// Removes what waits of a log at or after the place a fork ended it at.
    pub(crate) fn remove_pending_from(
        &self,
        author: &Author,
        log: &LogId,
        end: Place,
    ) -> Result<(), StoreError> {
        self.run(
            "DELETE FROM pending WHERE author = ?1 AND log = ?2 AND author IS NOT NULL AND place >= ?3",
            params![author.0, log.0, end.to_bytes()],
        )
        .map(drop)
    }

    fn let_go(&self, receipt: &Receipt) -> Result<PendingReason, StoreError> {
        let Receipt { topic, generation, place, .. } = *receipt;
        self.add_refetch(
            topic,
            generation,
            SeqRange { resets: place.resets, from: place.seq, to: place.seq },
        )?;
        Ok(PendingReason::Refetch)
    }
}

fn key_receipt(topic: TopicId, row: &Row<'_>) -> rusqlite::Result<Receipt> {
    let place = Place { epoch: 0, resets: row.get(1)?, seq: Seq(uint(row.get(2)?)) };
    Ok(Receipt { topic, generation: Generation(row.get(0)?), place, received: Millis(uint(row.get(3)?)) })
}

fn waiting_row(row: &Row<'_>) -> rusqlite::Result<WaitingForPredecessor> {
    let receipt = Receipt {
        topic: TopicId(row.get(0)?),
        generation: Generation(row.get(1)?),
        place: Place::from_bytes(row.get(5)?),
        received: Millis(uint(row.get(4)?)),
    };
    Ok(WaitingForPredecessor {
        receipt,
        id: OperationId(row.get(6)?),
        author: Author(row.get(7)?),
        log: LogId(row.get(8)?),
        seq_num: row.get(9)?,
        backlink: row.get::<_, Option<[u8; 32]>>(10)?.map(OperationId),
        header: row.get(11)?,
        body: row.get(12)?,
    })
}
