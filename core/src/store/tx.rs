//! The write transaction: the only thing that changes rows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Deref;

use super::db::Db;
use super::error::StoreError;
use super::lock::Lock;
use crate::identity::{Author, LogId};

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
#[derive(Debug)]
pub struct Tx<'a> {
    db: &'a Db,
    lock: Option<&'a mut Lock>,
    durability: Durability,
    done: bool,
    /// Logs whose positions must be computed again, from and up to (at least) which seq_num.
    pub(super) moved: RefCell<BTreeMap<(Author, LogId), (u32, u32)>>,
}

impl<'a> Tx<'a> {
    pub(super) fn begin(
        db: &'a Db,
        lock: Option<&'a mut Lock>,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        db.run("BEGIN IMMEDIATE", [])?;
        Ok(Self { db, lock, durability, done: false, moved: RefCell::default() })
    }

    /// Makes everything durable and visible at once. Positions still to be moved are moved first; take them with
    /// [`Tx::settle_positions`] before, to learn what changed.
    pub fn commit(mut self) -> Result<(), StoreError> {
        self.settle_positions()?;
        self.db.run("COMMIT", [])?;
        self.done = true;
        match self.lock.as_mut() {
            // The commit stands whatever happens to the mark; without it only a lost log goes unnoticed.
            Some(lock) if self.durability == Durability::Full => lock.mark_open().or(Ok(())),
            _ => Ok(()),
        }
    }

    /// Runs `work` so that its writes stand or fall together: an error undoes them and nothing else.
    pub fn savepoint<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        // SQLite finds the innermost savepoint of a name, so nesting needs no names.
        self.db.run("SAVEPOINT work", [])?;
        let result = work(self);
        if result.is_err() {
            // Fails only when SQLite has rolled the whole transaction back: then the first error says why.
            let _ = self.db.run("ROLLBACK TO work", []);
            let _ = self.db.run("RELEASE work", []);
        } else {
            self.db.run("RELEASE work", [])?;
        }
        result
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
        }
    }
}
