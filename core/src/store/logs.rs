//! The logs a transaction touches, in memory: an author's log grows by hundreds of operations in one transaction, and
//! its end is read for each of them and written once.
//!
//! While a transaction is open, the table `heads` may be behind: whatever reads or writes it there goes through
//! [`Tx::write_heads`] first.

use rusqlite::params;

use super::error::StoreError;
use super::operations::{Head, NewOperation};
use super::pending::WaitingForPredecessor;
use super::tx::Tx;
use crate::identity::{Author, LogId};
use crate::ops::LogHead;
use crate::projector::Place;
use crate::tree::Map;

/// By author and log, so that heads are written in the order of their table.
pub(super) type Logs = Map<(Author, LogId), Known>;

/// What a transaction knows of one log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    head: Option<Head>,
    /// The head is not written yet.
    changed: bool,
    /// Operations of the log may wait for their predecessor. Once true it stays, whatever becomes of them.
    waiting: bool,
}

impl Tx<'_> {
    /// The end of an author's log.
    pub fn head(&self, author: &Author, log: &LogId) -> Result<Option<Head>, StoreError> {
        Ok(self.known(author, log)?.head)
    }

    /// What the next operation of a log must follow.
    pub fn log_head(&self, author: &Author, log: &LogId) -> Result<Option<LogHead>, StoreError> {
        let head = self.head(author, log)?;
        Ok(head.map(|head| LogHead { author: *author, log: *log, seq_num: head.seq_num, id: head.id }))
    }

    /// Operations of one log with `from <= seq_num <= to` that wait for their predecessor.
    pub(crate) fn waiting_operations(
        &self,
        author: &Author,
        log: &LogId,
        from: u32,
        to: u32,
    ) -> Result<Vec<WaitingForPredecessor>, StoreError> {
        if self.known(author, log)?.waiting {
            self.read_waiting(author, log, from, to)
        } else {
            Ok(Vec::new())
        }
    }

    /// Moves the end of a log to `op` unless it is further already.
    pub(crate) fn raise_head(
        &self,
        op: &NewOperation<'_>,
        position: Place,
        ended: bool,
    ) -> Result<(), StoreError> {
        let known = self.known(&op.author, &op.log)?;
        if known.head.is_none_or(|head| head.seq_num < op.seq_num) {
            let head = Some(Head { seq_num: op.seq_num, id: op.id, position, ended });
            self.logs.borrow_mut().insert((op.author, op.log), Known { head, changed: true, ..known });
        }
        Ok(())
    }

    /// An operation of the log waits from now on.
    pub(super) fn note_waiting(&self, author: &Author, log: &LogId) {
        if let Some(known) = self.logs.borrow_mut().get_mut(&(*author, *log)) {
            known.waiting = true;
        }
    }

    /// Brings `heads` up to date.
    pub(super) fn write_heads(&self) -> Result<(), StoreError> {
        for ((author, log), known) in self.logs.borrow_mut().iter_mut().filter(|(_, known)| known.changed) {
            let Some(head) = known.head else { continue };
            self.run(
                "INSERT INTO heads (author, log, seq_num, hash, pos, ended) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (author, log) DO UPDATE SET seq_num = excluded.seq_num, hash = excluded.hash,
                     pos = excluded.pos, ended = excluded.ended",
                params![author.0, log.0, head.seq_num, head.id.0, head.position.to_bytes(), head.ended],
            )?;
            known.changed = false;
        }
        Ok(())
    }

    /// The head of a log is going to be changed in its table.
    pub(super) fn release_head(&self, author: &Author, log: &LogId) -> Result<(), StoreError> {
        self.write_heads()?;
        self.logs.borrow_mut().remove(&(*author, *log));
        Ok(())
    }

    /// Nothing of a conversation is as it was.
    pub(super) fn forget_log(&self, log: &LogId) {
        self.logs.borrow_mut().retain(|(_, known), _| known != log);
        self.moved.borrow_mut().retain(|(_, known), _| known != log);
    }

    fn known(&self, author: &Author, log: &LogId) -> Result<Known, StoreError> {
        if let Some(known) = self.logs.borrow().get(&(*author, *log)) {
            return Ok(*known);
        }
        let waiting = self.one(
            "SELECT 1 FROM pending WHERE author = ?1 AND log = ?2 AND author IS NOT NULL LIMIT 1",
            [author.0, log.0],
            |_| Ok(()),
        )?;
        let head = self.stored_head(author, log)?;
        let known = Known { head, changed: false, waiting: waiting.is_some() };
        self.logs.borrow_mut().insert((*author, *log), known);
        Ok(known)
    }
}
