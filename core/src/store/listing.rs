//! Everything at once: what an engine starts from, and how two devices compare what they hold.

use rusqlite::params;

use super::db::{Db, int};
use super::error::StoreError;
use super::evidence::Equivocation;
use super::outbox::{OutboxCounts, OutboxEntry};
use super::pending::PendingCount;
use super::topics::{SeqRange, TopicRow};
use crate::identity::{Author, LogId, OperationId};
use crate::sync::session::Cursor;
use crate::topic::{Generation, TopicId};

/// What an engine starts from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// All topics.
    pub topics: Vec<TopicRow>,
    /// The whole outbox, oldest first, without the envelopes.
    pub outbox: Vec<OutboxEntry>,
}

/// One operation in a comparison of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListedOperation {
    /// Who signed it.
    pub author: Author,
    /// In which conversation.
    pub log: LogId,
    /// Its number in the author's log.
    pub seq_num: u32,
    /// The operation.
    pub id: OperationId,
}

/// How a topic stands.
#[derive(Clone, Debug)]
pub struct TopicStanding {
    /// Where this device stands in the log; `None` before the first connection.
    pub cursor: Option<Cursor>,
    /// What was evicted before it could be read.
    pub gaps: Vec<SeqRange>,
    /// What must be read again, with the generation it was counted in.
    pub refetches: Vec<(Generation, SeqRange)>,
    /// Heads that contradict the log as this device was shown it.
    pub equivocations: Vec<Equivocation>,
    /// What is on its way out.
    pub outbox: OutboxCounts,
    /// Why rows are parked.
    pub parked: Vec<(String, u64)>,
    /// What waits for a key or a predecessor.
    pub pending: PendingCount,
    /// What was dropped or skipped, by reason.
    pub dropped: Vec<(String, u64)>,
}

impl Db {
    /// What an engine starts from.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        Ok(Loaded { topics: self.topics()?, outbox: self.outbox_entries()? })
    }

    /// How a topic stands.
    pub fn standing(&self, topic: TopicId) -> Result<TopicStanding, StoreError> {
        Ok(TopicStanding {
            cursor: self.cursor(topic)?,
            gaps: self.gaps(topic)?,
            refetches: self.refetches(topic)?,
            equivocations: self.equivocations(topic)?,
            outbox: self.outbox_counts(topic)?,
            parked: self.outbox_parked(topic)?,
            pending: self.pending_count(topic)?,
            dropped: self.dropped(topic)?,
        })
    }

    /// Stored operations after `after` in the order (author, log, seq_num), at most `limit`: equal lists on two
    /// devices mean equal logs.
    pub fn list_operations(
        &self,
        after: Option<&ListedOperation>,
        limit: usize,
    ) -> Result<Vec<ListedOperation>, StoreError> {
        let (author, log, seq_num) = match after {
            Some(last) => (last.author.0.to_vec(), last.log.0.to_vec(), i64::from(last.seq_num)),
            None => (Vec::new(), Vec::new(), -1),
        };
        self.all(
            "SELECT author, log, seq_num, hash FROM operations WHERE (author, log, seq_num) > (?1, ?2, ?3)
             ORDER BY author, log, seq_num LIMIT ?4",
            params![author, log, seq_num, int(limit as u64)],
            |row| {
                let (author, log) = (Author(row.get(0)?), LogId(row.get(1)?));
                Ok(ListedOperation { author, log, seq_num: row.get(2)?, id: OperationId(row.get(3)?) })
            },
        )
    }

    /// How many operations are stored.
    pub fn count_operations(&self) -> Result<u64, StoreError> {
        let count = self.one("SELECT count(*) FROM operations", [], |row| row.get::<_, i64>(0))?;
        Ok(super::db::uint(count.unwrap_or(0)))
    }

    /// The end of every author's log in a conversation.
    pub fn log_heads(&self, log: &LogId) -> Result<Vec<ListedOperation>, StoreError> {
        self.all("SELECT author, seq_num, hash FROM heads WHERE log = ?1 ORDER BY author", [log.0], |row| {
            let author = Author(row.get(0)?);
            Ok(ListedOperation { author, log: *log, seq_num: row.get(1)?, id: OperationId(row.get(2)?) })
        })
    }

    /// Whether every stored header still hashes to its operation's id.
    pub(super) fn check_hashes(&self) -> Result<(), StoreError> {
        let mut after: Option<ListedOperation> = None;
        loop {
            let page = self.list_operations(after.as_ref(), 256)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(*last);
            for listed in page {
                let header = self.one(
                    "SELECT header FROM operations WHERE substr(hash, 1, 8) = substr(?1, 1, 8) AND hash = ?1",
                    [listed.id.0],
                    |row| row.get::<_, Vec<u8>>(0),
                )?;
                let header = header.ok_or_else(|| self.missing_row("operations"))?;
                if *blake3::hash(&header).as_bytes() != listed.id.0 {
                    let detail = format!("the header of operation {} is not what it was", listed.id);
                    return Err(StoreError::Corrupt { path: self.file().path(), detail });
                }
            }
        }
    }
}
