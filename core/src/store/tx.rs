//! The write transaction: the only thing that changes rows.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;

use rusqlite::{CachedStatement, Params};

use super::db::{Db, uint};
use super::error::StoreError;
use super::lock::Lock;
use super::logs::Logs;
use crate::identity::{Author, LogId};
use crate::tree::Map;

/// What a commit promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Synced to disk when `commit` returns: for what this device wrote itself. Losing it after sending would fork
    /// its log.
    Full,
    /// Survives a crash of the process, perhaps not of the machine: for what can be fetched again.
    Normal,
}

/// An open write transaction; dropped without [`Tx::commit`], it leaves nothing behind.
pub struct Tx<'a> {
    db: &'a Db,
    lock: Option<&'a mut Lock>,
    durability: Durability,
    done: bool,
    /// Logs whose positions must be computed again, from and up to (at least) which seq_num.
    pub(super) moved: RefCell<Map<(Author, LogId), (u32, u32)>>,
    /// What is known of the logs touched so far.
    pub(super) logs: RefCell<Logs>,
    /// Statements that run for every operation: kept at hand, not looked up each time.
    kept: [RefCell<Option<CachedStatement<'a>>>; Kept::COUNT],
}

/// Names a statement that is kept at hand, by what it adds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kept {
    Operation,
    Placement,
    Message,
}

impl Kept {
    const COUNT: usize = 3;
}

impl<'a> Tx<'a> {
    pub(super) fn begin(
        db: &'a Db,
        lock: Option<&'a mut Lock>,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        db.run("BEGIN IMMEDIATE", [])?;
        Ok(Self {
            db,
            lock,
            durability,
            done: false,
            moved: RefCell::default(),
            logs: RefCell::default(),
            kept: Default::default(),
        })
    }

    /// Makes everything durable and visible at once. Positions still to be moved are moved first; take them with
    /// [`Tx::settle_positions`] before, to learn what changed.
    pub fn commit(mut self) -> Result<(), StoreError> {
        self.settle_positions()?;
        self.write_spaces()?;
        self.write_heads()?;
        let count = match (&self.lock, self.durability) {
            (Some(_), Durability::Full) => Some(self.count_commit()?),
            _ => None,
        };
        self.db.run("COMMIT", [])?;
        self.done = true;
        if let (Some(lock), Some(count)) = (self.lock.as_mut(), count) {
            // The commit stands whatever becomes of the mark: without it only a lost log would go unnoticed.
            let _ = lock.mark_open(count);
        }
        Ok(())
    }

    /// [`Db::run`] of a statement that is kept at hand. A name stands for one text.
    pub(super) fn run_kept(&self, kept: Kept, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        let [a, b, c] = &self.kept;
        let slot = match kept {
            Kept::Operation => a,
            Kept::Placement => b,
            Kept::Message => c,
        };
        let mut slot = slot.borrow_mut();
        let statement = match &mut *slot {
            Some(statement) => statement,
            empty => empty.insert(self.db.statement(sql)?),
        };
        statement.execute(params).map_err(|source| self.fail(source))
    }

    fn count_commit(&self) -> Result<u64, StoreError> {
        let count =
            self.db.one("UPDATE tally SET commits = commits + 1 RETURNING commits", [], |row| row.get(0))?;
        count.map(uint).ok_or_else(|| self.db.missing_row("tally"))
    }

    /// Runs `work` so that its writes stand or fall together: an error undoes them and nothing else.
    pub fn savepoint<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        // What it may undo is not to take along what came before it.
        self.write_spaces()?;
        // SQLite finds the innermost savepoint of a name, so nesting needs no names.
        self.db.run("SAVEPOINT work", [])?;
        let logs = self.logs.borrow().clone();
        let (changes, news) = self.spaces.borrow().told();
        let result = work(self);
        if result.is_err() {
            self.logs.replace(logs);
            self.spaces.borrow_mut().forget(changes, news);
            // Fails only when SQLite has rolled the whole transaction back: then the first error says why.
            let _ = self.db.run("ROLLBACK TO work", []);
            let _ = self.db.run("RELEASE work", []);
        } else {
            self.db.run("RELEASE work", [])?;
        }
        result
    }
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("db", &self.db)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

impl Deref for Tx<'_> {
    type Target = Db;
    fn deref(&self) -> &Db {
        self.db
    }
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        if !self.done {
            // Fails only when SQLite has rolled back by itself already (disk full, I/O error).
            let _ = self.db.run("ROLLBACK", []);
            self.db.spaces.borrow_mut().forget(Vec::new(), Default::default());
        }
    }
}
