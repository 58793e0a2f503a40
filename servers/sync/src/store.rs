//! SQLite: topic logs on disk. The only part of the server that speaks SQL.
//!
//! One connection writes (on its own thread), others only read. WAL mode, `synchronous = FULL`: a commit is on the
//! disk before it returns. Checkpoints are made by hand between commits, because automatic ones halve the speed of
//! inserts. An evicted operation's row stays, without its bytes: dedup and the chain never forget.

mod log;
mod schema;
mod search;
#[cfg(test)]
mod tests;
mod topics;
mod upkeep;

use std::path::{Path, PathBuf};

use delta_core::topic::Seq;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use thiserror::Error;

pub use schema::SCHEMA_VERSION;
pub use search::{ERASE_PAGE, FIND_STEPS, Index, LAST_INDEXED, Listed, Position};
pub use topics::{Channel, TopicSize};
pub use upkeep::Report;

/// Rows up to a quarter of a page stay whole in the tree; larger ones take pages of their own. Counts only for a new
/// file.
const PAGE_SIZE: i64 = 8192;
/// Page cache of the writer, KiB.
const WRITER_CACHE_KIB: i64 = 64 * 1024;
/// How much of the file readers map into memory, bytes.
const READER_MMAP: i64 = 1 << 30;
/// How long a connection waits for another one's lock, milliseconds.
const BUSY_MS: u64 = 5_000;
/// How long writing waits for readers so that the log can start over, milliseconds: more than a page takes.
const RESTART_MS: u64 = 250;

/// The database cannot be used. Nothing was half-written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The disk (or the configured size) is full: make room, the server goes on by itself.
    #[error("{}: no room left for the database", path.display())]
    Full {
        /// The database file.
        path: PathBuf,
    },
    /// The file is damaged or no database of ours. Restore it from a backup; nothing is recreated silently.
    #[error("{}: the database is damaged or of another kind ({why})", path.display())]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A newer version of the server wrote the file.
    #[error("{}: the database has schema {found}, this program knows {SCHEMA_VERSION}; use the newer program", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
    },
    /// A question takes more than it may. Ask for less.
    #[error("{}: the question takes too long", path.display())]
    TooLong {
        /// The database file.
        path: PathBuf,
    },
    /// Anything else: permissions, a failing disk.
    #[error("{}: {source}", path.display())]
    Other {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// The write-ahead log after a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// How long it is, from its beginning.
    pub bytes: u64,
    /// Pages of it that are not in the database file yet.
    pub left: u64,
}

/// A connection to the database.
#[derive(Debug)]
pub struct Sql {
    connection: Connection,
    path: PathBuf,
}

impl Sql {
    /// Opens the database for writing; makes it when it is missing. `max_bytes` 0 means no limit.
    ///
    /// # Errors
    /// The file cannot be opened, or is not ours.
    pub fn writer(path: &Path, max_bytes: u64) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let this = Self::open(path, flags)?;
        // The log stays when the last connection closes: where it is missing, commits are.
        let keep = this.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        keep.map_err(|source| error(path, source))?;
        this.prepare(max_bytes).map_err(|source| error(path, source))?;
        this.migrate()?;
        Ok(this)
    }

    /// Opens the database for reading only, after a writer has.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn reader(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let this = Self::open(path, flags)?;
        let mapped = this.connection.pragma_update(None, "mmap_size", READER_MMAP);
        mapped.map_err(|source| error(path, source))?;
        Ok(this)
    }

    fn open(path: &Path, flags: OpenFlags) -> Result<Self, StoreError> {
        let open = || {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(std::time::Duration::from_millis(BUSY_MS))?;
            connection.set_prepared_statement_cache_capacity(32);
            Ok(connection)
        };
        let connection = open().map_err(|source| error(path, source))?;
        Ok(Self { connection, path: path.to_owned() })
    }

    fn prepare(&self, max_bytes: u64) -> Result<(), rusqlite::Error> {
        let pragma = |name, value: &dyn rusqlite::ToSql| {
            self.connection.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(ignore_no_row)
        };
        pragma("page_size", &PAGE_SIZE)?;
        pragma("journal_mode", &"WAL")?;
        pragma("synchronous", &"FULL")?;
        pragma("fullfsync", &1)?;
        pragma("wal_autocheckpoint", &0)?;
        pragma("cache_size", &-WRITER_CACHE_KIB)?;
        if max_bytes > 0 {
            let page: i64 = self.connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
            pragma("max_page_count", &(i64::try_from(max_bytes).unwrap_or(i64::MAX) / page).max(1))?;
        }
        Ok(())
    }

    /// Runs reads in one snapshot of the database.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn snapshot<T>(&self, read: impl FnOnce(&Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.run("BEGIN")?;
        let result = read(self);
        let ended = self.run("COMMIT");
        let value = result?;
        ended.map(|()| value)
    }

    /// Moves committed pages from the log into the database file, as far as readers allow.
    ///
    /// # Errors
    /// The disk is full or failing; the log stays, nothing is lost.
    pub fn checkpoint(&self) -> Result<Log, StoreError> {
        let mut statement = self.statement("PRAGMA wal_checkpoint(PASSIVE)")?;
        let (log, moved): (i64, i64) = statement
            .query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
            .map_err(|source| self.error(source))?;
        let pages = |count: i64| u64::try_from(count).unwrap_or(0);
        Ok(Log { bytes: pages(log) * PAGE_SIZE.unsigned_abs(), left: pages(log - moved) })
    }

    /// The same, waiting a moment for readers, so that the next commit writes the log from its beginning: whether it
    /// will. Writing waits meanwhile.
    ///
    /// # Errors
    /// The disk is full or failing; the log stays, nothing is lost.
    pub fn restart_log(&self) -> Result<bool, StoreError> {
        let wait = |ms| {
            let set = self.connection.busy_timeout(std::time::Duration::from_millis(ms));
            set.map_err(|source| self.error(source))
        };
        wait(RESTART_MS)?;
        let mut statement = self.statement("PRAGMA wal_checkpoint(RESTART)")?;
        let busy = statement.query_row([], |row| row.get::<_, i64>(0)).map_err(|source| self.error(source));
        wait(BUSY_MS)?;
        Ok(busy? == 0)
    }

    /// Moves all committed pages into the database file and empties the log, unless somebody reads just now.
    ///
    /// # Errors
    /// The disk is full or failing; the log stays, nothing is lost.
    pub fn empty_log(&self) -> Result<(), StoreError> {
        // A reader that stays (a backup) would be waited for: what it reads stays in the log.
        self.connection.busy_timeout(std::time::Duration::ZERO).map_err(|source| self.error(source))?;
        let mut statement = self.statement("PRAGMA wal_checkpoint(TRUNCATE)")?;
        statement.query_row([], |_| Ok(())).map_err(|source| self.error(source))
    }

    /// Changes when another connection has committed something.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn data_version(&self) -> Result<i64, StoreError> {
        let mut statement = self.statement("PRAGMA data_version")?;
        statement.query_row([], |row| row.get(0)).map_err(|source| self.error(source))
    }

    fn statement(&self, sql: &str) -> Result<rusqlite::CachedStatement<'_>, StoreError> {
        self.connection.prepare_cached(sql).map_err(|source| self.error(source))
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.statement(sql)?.execute([]).map(drop).map_err(|source| self.error(source))
    }

    fn error(&self, source: rusqlite::Error) -> StoreError {
        error(&self.path, source)
    }

    /// The steps in which a query is answered.
    #[cfg(test)]
    fn plan(&self, query: &str) -> String {
        let mut statement = self.statement(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let (mut rows, mut steps) = (statement.raw_query(), Vec::new());
        while let Some(row) = rows.next().unwrap() {
            steps.push(row.get::<_, String>(3).unwrap());
        }
        steps.join("; ")
    }
}

fn seq_of(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Seq> {
    row.get::<_, i64>(column).map(|seq| Seq(seq.unsigned_abs()))
}

/// SQLite's integers are signed; seqs end at the largest of them.
fn integer(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

fn ignore_no_row(error: rusqlite::Error) -> rusqlite::Result<()> {
    match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        error => Err(error),
    }
}

fn damaged(path: &Path, why: &str) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), why: why.to_owned() }
}

fn error(path: &Path, source: rusqlite::Error) -> StoreError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { path: path.to_owned() },
        Some(ErrorCode::OperationInterrupted) => StoreError::TooLong { path: path.to_owned() },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation) => {
            damaged(path, &source.to_string())
        }
        // A value that no version of this program wrote.
        None if is_misread(&source) => damaged(path, &source.to_string()),
        _ => StoreError::Other { path: path.to_owned(), source },
    }
}

fn is_misread(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    matches!(
        error,
        Error::FromSqlConversionFailure(..)
            | Error::InvalidColumnType(..)
            | Error::IntegralValueOutOfRange(..)
    )
}
