//! The device database: the only place that sees SQLite.
//!
//! One writer ([`Store`], whose [`Tx`] is the only thing that changes rows) and any number of [`Reader`]s beside it
//! (write-ahead log). What belongs together commits together: an operation, its place, the cursor, the outbox and
//! the read model. This module holds rows and SQL; which operation is accepted is decided in
//! [`crate::engine::ingest`], what it does to the read model in [`crate::projector`].

mod blobs;
mod db;
mod direct;
mod documents;
mod epoch_keys;
mod error;
mod evidence;
mod forks;
mod inbox;
mod key_values;
mod listing;
mod lock;
mod logs;
mod operations;
mod outbox;
mod own;
mod owner;
mod p2panda;
mod pairings;
mod pending;
mod positions;
mod queries;
mod read_model;
mod reading;
mod requests;
mod retired;
mod rotation;
mod schema;
mod sealing;
mod search;
mod secrets;
mod space_rows;
mod spaces;
mod staged;
mod storage;
mod topics;
mod tx;

#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use rusqlite::OpenFlags;
use rusqlite::config::DbConfig;

pub(crate) use blobs::BlobRow;
pub use blobs::{Attachment, BlobState, BlobStatus};
pub use db::Db;
pub(crate) use direct::StuckSession;
pub use direct::{ThreadRow, ThreadState};
pub use documents::{DocumentRow, PartRow};
pub(crate) use epoch_keys::is_for_managers;
pub use epoch_keys::{Handed, Holders};
pub use error::{LimitReached, StoreError};
pub use evidence::{Equivocation, MAX_EQUIVOCATIONS};
pub use forks::{ForkProof, LogHole};
pub use inbox::{ClaimRow, InboxRow};
pub use key_values::{ValuePage, ValueRow};
pub use listing::{ListedOperation, Loaded, TopicStanding};
pub(crate) use operations::PastOperation;
pub use operations::{Head, NewOperation, StoredOperation, StoredPlace};
pub use outbox::{
    NewOutboxRow, Origin, OutboxCounts, OutboxEntry, OutboxRemoved, OutboxRowState, QueuedOperation,
};
pub use pairings::OpenPairing;
pub use pending::{
    PendingCount, PendingLimits, PendingReason, Receipt, WaitingForKey, WaitingForPredecessor,
};
pub use queries::{MessageEdit, MessageRow, Page, ProfileRow, ReactionRow};
pub use reading::{Arrival, Receipted, Times};
pub(crate) use requests::UnansweredRow;
pub use requests::{KeyRequest, RequestRow};
pub use rotation::{StoredRotation, TopicClose};
pub use schema::SCHEMA_VERSION;
pub use search::{Found, Search};
pub use secrets::StoreKey;
pub use space_rows::{AuditRow, InviteRow, MemberRow, RoomRow, RoomState, SpaceRow, Unread};
pub use spaces::Belongs;
pub use staged::{Staged, sweep};
pub use storage::{LogUse, PruneAt, Pruned, StorageUse};
pub use topics::{SeqRange, TopicRow};
pub use tx::{Durability, Tx};

use db::DbFile;
use lock::{Lock, beside};

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Make the database when there is none. Otherwise a missing file is an error.
    pub create: bool,
    /// Whether commits are synced to disk at all. Off is for simulations: a crash of the machine may damage the file.
    pub sync: bool,
    /// Most pages (of 4096 bytes) the database may grow to; beyond, writes fail with [`StoreError::DiskFull`].
    pub max_pages: Option<u32>,
    /// How much may wait. Below the defaults it is for simulations, which would take long to fill those.
    pub pending: PendingLimits,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { create: true, sync: true, max_pages: None, pending: PendingLimits::default() }
    }
}

/// The device database, open for writing. There is one per file: a second process gets [`StoreError::Locked`].
#[derive(Debug)]
pub struct Store {
    db: Db,
    lock: Option<Lock>,
    sync: bool,
    synchronous: Option<&'static str>,
    /// The file was made when it was opened, and nothing written to it since.
    fresh: bool,
    /// Its write-ahead log may hold what is not to be there any more.
    log_to_empty: bool,
}

/// What a checkpoint did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Pages in the write-ahead log.
    pub pages: u64,
    /// How many of them are in the database file now.
    pub moved: u64,
}

/// What is left of the write-ahead log's file when it begins anew after a checkpoint.
const WAL_KEPT_BYTES: u32 = 4 * 1024 * 1024;
/// Page cache of the writer, KiB.
const WRITER_CACHE_KIB: u32 = 8 * 1024;
/// Page cache of a reader, KiB.
const READER_CACHE_KIB: u32 = 2 * 1024;
/// What one page takes in the write-ahead log, with its header.
const WAL_FRAME_BYTES: u64 = 4096 + 24;

impl Store {
    /// Opens (or makes) the database at `path`, locks it against other processes and brings it to the newest schema.
    ///
    /// # Errors
    /// A locked, newer, foreign, damaged or truncated file is refused with an error that names it; nothing is
    /// recreated.
    pub fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<Self, StoreError> {
        let path = path.as_ref();
        if !options.create && !path.exists() {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(StoreError::Io { path: path.to_path_buf(), source });
        }
        let lock = Lock::take(path)?;
        sweep(path);
        Self::start(&DbFile::Path(Arc::from(path)), Some(lock), &options)
    }

    /// A database that lives as long as this store and its readers.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::start(
            &DbFile::Memory(Arc::new(())),
            None,
            &StoreOptions { sync: false, ..StoreOptions::default() },
        )
    }

    fn start(file: &DbFile, lock: Option<Lock>, options: &StoreOptions) -> Result<Self, StoreError> {
        let mut db = Db::open(file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        db.pending = options.pending;
        let version = schema::identify(&db)?;
        // Checkpoints are ours, also the one at close: a log that vanishes is noticed (see `lock`).
        db.configure(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        if lock.is_some() {
            let _mode: String = db.pragma("PRAGMA journal_mode = WAL")?;
        }
        db.batch(&format!(
            "PRAGMA wal_autocheckpoint = 0; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY;
             PRAGMA journal_size_limit = {WAL_KEPT_BYTES}; PRAGMA cache_size = -{WRITER_CACHE_KIB};"
        ))?;
        if cfg!(target_vendor = "apple") {
            db.batch("PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;")?;
        }
        if !options.sync {
            db.batch("PRAGMA synchronous = OFF")?;
        }
        if options.max_pages.is_some() {
            limit_pages(&db, options.max_pages)?;
        }
        // Without the lock it leaves no trace when a check fails: it does not note a clean close.
        let (sync, fresh) = (options.sync, version == 0);
        let mut store = Self { db, lock: None, sync, synchronous: None, fresh, log_to_empty: false };
        store.check_length()?;
        schema::migrate(&store.db, version)?;
        store.db.vault = store.db.look_at_vault()?;
        store.touch_tables()?;
        if let Some(lock) = &lock {
            store.check_commits(lock)?;
        }
        store.lock = lock;
        Ok(store)
    }

    /// Begins the write transaction. `durability` is what its commit promises.
    pub fn begin(&mut self, durability: Durability) -> Result<Tx<'_>, StoreError> {
        self.fresh = false;
        if self.sync {
            let wanted = match durability {
                Durability::Full => "PRAGMA synchronous = FULL",
                Durability::Normal => "PRAGMA synchronous = NORMAL",
            };
            if self.synchronous != Some(wanted) {
                self.db.batch(wanted)?;
                self.synchronous = Some(wanted);
            }
        }
        // What is not synced promises nothing that could be missed later.
        let lock = if self.sync { self.lock.as_mut() } else { None };
        Tx::begin(&self.db, lock, durability)
    }

    /// A read-only connection of its own; it sees what was committed when each of its queries begins.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        let mut db = Db::open(self.db.file(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.vault = self.db.vault.clone();
        db.batch(&format!("PRAGMA query_only = ON; PRAGMA cache_size = -{READER_CACHE_KIB};"))?;
        Ok(Reader { db })
    }

    /// Moves the write-ahead log into the database file, as far as readers allow, and starts the log anew. Nothing
    /// does this by itself: call it when the writer is idle, or when [`Store::wal_bytes`] grows large.
    pub fn checkpoint(&mut self) -> Result<Checkpoint, StoreError> {
        self.run_checkpoint("PRAGMA wal_checkpoint(PASSIVE)")
    }

    /// Bytes of the write-ahead log that are not in the database file yet. (Not the length of its file: a log that was
    /// moved whole keeps that until it is written anew from its beginning.)
    pub fn wal_bytes(&self) -> u64 {
        // A log that cannot be looked at now is looked at again later.
        let (_, pages, moved) = self.db.checkpoint("PRAGMA wal_checkpoint(NOOP)").unwrap_or_default();
        pages.saturating_sub(moved).saturating_mul(WAL_FRAME_BYTES)
    }

    /// Reads the whole database and compares it with its own redundancy: slow, for diagnosis.
    pub fn check(&self) -> Result<(), StoreError> {
        let found: String = self.db.pragma("PRAGMA integrity_check(1)")?;
        if found != "ok" {
            return Err(StoreError::Corrupt { path: self.db.file().path(), detail: found });
        }
        self.db.check_hashes()
    }

    /// Checkpoints, releases the files and the lock. Dropping a store does the same, but cannot report an error.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.shut()
    }

    fn shut(&mut self) -> Result<(), StoreError> {
        if self.lock.is_some() {
            // What is not done now is done when it is opened again.
            let _ = self.clean_log();
        }
        let Some(lock) = self.lock.as_mut() else { return Ok(()) };
        let all = {
            let (busy, ..) = self.db.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)")?;
            busy == 0
        };
        if all {
            lock.mark_closed()?;
        }
        self.lock = None;
        Ok(())
    }

    /// From now on the limit of [`StoreOptions::max_pages`] is this, but never below what the database already has.
    /// `None`: none.
    pub fn limit_pages(&mut self, pages: Option<u32>) -> Result<(), StoreError> {
        limit_pages(&self.db, pages)
    }

    fn run_checkpoint(&mut self, sql: &str) -> Result<Checkpoint, StoreError> {
        let (_busy, pages, moved) = self.db.checkpoint(sql)?;
        Ok(Checkpoint { pages, moved })
    }

    /// A file shorter than its page count was cut. SQLite notices by itself only without a write-ahead log.
    fn check_length(&mut self) -> Result<(), StoreError> {
        let DbFile::Path(path) = self.db.file().clone() else { return Ok(()) };
        if std::fs::metadata(beside(&path, "-wal")).is_ok_and(|log| log.len() > 0) {
            self.db.checkpoint("PRAGMA wal_checkpoint(PASSIVE)")?;
        }
        let pages: i64 = self.db.pragma("PRAGMA page_count")?;
        let size: i64 = self.db.pragma("PRAGMA page_size")?;
        let expected = db::uint(pages.saturating_mul(size));
        let found =
            std::fs::metadata(&path).map_err(|source| StoreError::Io { path: path.to_path_buf(), source })?;
        if found.len() < expected {
            let detail = format!("the file has {} bytes instead of {expected}", found.len());
            return Err(StoreError::Corrupt { path: path.to_path_buf(), detail });
        }
        Ok(())
    }

    /// A database with fewer durable commits than were noted has lost the log that held them. (Somebody else may
    /// have moved that log into the file and removed it: then nothing is missing.)
    fn check_commits(&self, lock: &Lock) -> Result<(), StoreError> {
        let found = self.db.one("SELECT commits FROM tally", [], |row| row.get(0))?;
        if db::uint(found.unwrap_or(0)) < lock.commits() {
            let (path, lock) = (self.db.file().path(), lock.path().to_path_buf());
            return Err(StoreError::WalMissing { path, lock });
        }
        Ok(())
    }

    /// Reads a first row of every table, so that a damaged root is found now and not by the first write.
    fn touch_tables(&self) -> Result<(), StoreError> {
        let tables = self.db.all(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
            [],
            |row| row.get::<_, String>(0),
        )?;
        for table in tables {
            self.db.one(&format!("SELECT 1 FROM \"{table}\" LIMIT 1"), [], |_| Ok(()))?;
        }
        Ok(())
    }
}

/// SQLite's own limit stands for none.
fn limit_pages(db: &Db, pages: Option<u32>) -> Result<(), StoreError> {
    let pages = pages.unwrap_or(u32::MAX - 1);
    db.pragma::<i64>(&format!("PRAGMA max_page_count = {pages}")).map(drop)
}

impl Deref for Store {
    type Target = Db;
    fn deref(&self) -> &Db {
        &self.db
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Nothing is lost when this fails: the log stays, and the next open reads it.
        let _ = self.shut();
    }
}

/// A read-only view of the database, for one thread at a time.
#[derive(Debug)]
pub struct Reader {
    db: Db,
}

impl Deref for Reader {
    type Target = Db;
    fn deref(&self) -> &Db {
        &self.db
    }
}
