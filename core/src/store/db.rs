//! One SQLite connection: every statement is cached, every error names the file.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::ffi::{Error, SQLITE_BUSY};
use rusqlite::{CachedStatement, Connection, OpenFlags, Params, Row, Rows, params};

use super::error::StoreError;
use super::pending::PendingLimits;
use super::secrets::{StoreKey, Vault};
use super::spaces::Spaces;
use crate::identity::{Author, Instance, Millis};

/// A connection to the device database and every query on it. [`super::Store`], [`super::Tx`] and
/// [`super::Reader`] all dereference to it: what they add is who may write.
pub struct Db {
    conn: Connection,
    file: DbFile,
    /// How much may wait.
    pub(super) pending: PendingLimits,
    /// What the writer knows of spaces.
    pub(super) spaces: RefCell<Spaces>,
    /// Whose database it is: claims and requests count in this device's inbox.
    pub(super) device: Cell<Option<Author>>,
    /// What secret columns are sealed with.
    pub(super) vault: Vault,
}

/// The file behind a connection, or the name of a database that lives in memory.
#[derive(Clone, Debug)]
pub(super) enum DbFile {
    Path(Arc<Path>),
    /// Shared by all connections with the same name for as long as the token lives.
    Memory(Arc<()>),
}

impl DbFile {
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.to_path_buf(),
            Self::Memory(_) => PathBuf::from(":memory:"),
        }
    }

    /// What SQLite opens. The address of the token makes names in memory unique within the process.
    fn name(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.to_path_buf(),
            Self::Memory(token) => PathBuf::from(format!("file:/delta-{:p}?vfs=memdb", Arc::as_ptr(token))),
        }
    }
}

/// Statements kept prepared per connection: more than there are in this module.
const STATEMENTS: usize = 192;
/// How long a statement waits for a lock another connection holds, e.g. while a checkpoint ends.
const BUSY_MS: u64 = 5_000;

/// Binds a query's parameters and begins it.
type Query<'q> = dyn for<'s> FnMut(&'s mut CachedStatement<'_>) -> rusqlite::Result<Rows<'s>> + 'q;
/// Takes a row; whether more are wanted.
type Take<'t> = dyn FnMut(&Row<'_>) -> rusqlite::Result<bool> + 't;

impl Db {
    pub(super) fn open(file: &DbFile, flags: OpenFlags) -> Result<Self, StoreError> {
        let fail = |source| StoreError::from_sqlite(file.path(), source);
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let conn = Connection::open_with_flags(file.name(), flags).map_err(fail)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        // Without it a statement near a partial index is compiled again whenever a value is bound to it.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(fail)?;
        conn.busy_timeout(Duration::from_millis(BUSY_MS)).map_err(fail)?;
        Ok(Self {
            conn,
            file: file.clone(),
            pending: PendingLimits::default(),
            spaces: RefCell::default(),
            device: Cell::default(),
            vault: Vault::default(),
        })
    }

    /// Says whose database it is.
    pub(crate) fn set_device(&self, device: Author) {
        self.device.set(Some(device));
    }

    pub(super) fn file(&self) -> &DbFile {
        &self.file
    }

    pub(super) fn fail(&self, source: rusqlite::Error) -> StoreError {
        StoreError::from_sqlite(self.file.path(), source)
    }

    /// A row that must be there is not.
    pub(super) fn missing_row(&self, table: &str) -> StoreError {
        StoreError::Corrupt { path: self.file.path(), detail: format!("a row of `{table}` is missing") }
    }

    pub(super) fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, StoreError> {
        #[cfg(test)]
        super::tests::record(sql);
        self.conn.prepare_cached(sql).map_err(|source| self.fail(source))
    }

    /// Runs a statement; gives the number of rows it changed.
    #[inline(never)]
    pub(super) fn run(&self, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        let mut params = Some(params);
        self.run_by(sql, &mut |statement| params.take().map_or(Ok(0), |params| statement.execute(params)))
    }

    /// [`Self::run`] without the kind of its parameters: those are bound by `execute`, called once.
    #[inline(never)]
    fn run_by(
        &self,
        sql: &str,
        execute: &mut dyn FnMut(&mut CachedStatement<'_>) -> rusqlite::Result<usize>,
    ) -> Result<usize, StoreError> {
        let mut statement = self.statement(sql)?;
        execute(&mut statement).map_err(|source| self.fail(source))
    }

    /// The first row of a query, if there is one.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let (mut map, mut found) = (Some(map), None);
        self.rows(sql, params, &mut |row| {
            if let Some(map) = map.take() {
                found = Some(map(row)?);
            }
            Ok(false)
        })?;
        Ok(found)
    }

    /// All rows of a query. Callers bound them with LIMIT or by what the table can hold.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        self.rows(sql, params, &mut |row| {
            found.push(map(row)?);
            Ok(true)
        })?;
        Ok(found)
    }

    /// Gives the rows of a query, one after the other, as long as more are wanted. Not compiled for each query anew.
    #[inline(never)]
    fn rows(&self, sql: &str, params: impl Params, take: &mut Take<'_>) -> Result<(), StoreError> {
        let mut params = Some(params);
        self.rows_by(
            sql,
            &mut |statement| match params.take() {
                Some(params) => statement.query(params),
                None => Ok(statement.raw_query()),
            },
            take,
        )
    }

    /// [`Self::rows`] without the kind of its parameters: those are bound by `query`, called once.
    #[inline(never)]
    fn rows_by(&self, sql: &str, query: &mut Query<'_>, take: &mut Take<'_>) -> Result<(), StoreError> {
        let mut statement = self.statement(sql)?;
        let mut each = || -> rusqlite::Result<()> {
            let mut rows = query(&mut statement)?;
            while let Some(row) = rows.next()? {
                if !take(row)? {
                    break;
                }
            }
            Ok(())
        };
        each().map_err(|source| self.fail(source))
    }

    /// Several statements at once, not cached: schema and pragmas.
    pub(super) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        self.conn.execute_batch(sql).map_err(|source| self.fail(source))
    }

    /// Writes everything that is committed now into a new database (an empty file, or none). Where the secrets are sealed
    /// here they are sealed with `key` there: whether they are. No device takes it for its own: what this one does from
    /// now on is not in it, also where nobody opens this one again.
    pub fn copy_to(&self, path: &Path, key: &StoreKey) -> Result<bool, StoreError> {
        // It keeps a reader from writing any database, the new one too; this one was opened for reading alone.
        let query_only: i64 = self.pragma("PRAGMA query_only")?;
        self.batch("PRAGMA query_only = OFF")?;
        let copied = self.vacuum_into(path);
        self.batch(&format!("PRAGMA query_only = {query_only}"))?;
        copied?;
        self.disown_copy(path)?;
        self.reseal_copy(path, key)
    }

    pub(super) fn vacuum_into(&self, path: &Path) -> Result<(), StoreError> {
        let name = path.to_str().ok_or_else(|| StoreError::Io {
            path: path.to_path_buf(),
            source: std::io::ErrorKind::InvalidInput.into(),
        })?;
        self.run("VACUUM INTO ?1", [name]).map(drop)
    }

    /// Takes every page from another database, in one transaction.
    pub(super) fn replace_by(&mut self, path: &Path) -> Result<(), StoreError> {
        let other = Self::open(&DbFile::Path(Arc::from(path)), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let fail = |source| StoreError::from_sqlite(self.file.path(), source);
        let backup = Backup::new(&other.conn, &mut self.conn).map_err(fail)?;
        match backup.step(-1).map_err(fail)? {
            StepResult::Done => Ok(()),
            _ => Err(fail(rusqlite::Error::SqliteFailure(Error::new(SQLITE_BUSY), None))),
        }
    }

    fn disown_copy(&self, path: &Path) -> Result<(), StoreError> {
        let copy = Self::open(&DbFile::Path(Arc::from(path)), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        copy.run(
            "UPDATE setting SET value = ?2 WHERE name = ?1",
            params![Instance::SETTING, Instance::NOBODYS.to_bytes()],
        )?;
        copy.disown()
    }

    /// One value of a pragma.
    pub(super) fn pragma<T: rusqlite::types::FromSql>(&self, sql: &str) -> Result<T, StoreError> {
        self.conn.query_row(sql, [], |row| row.get(0)).map_err(|source| self.fail(source))
    }

    pub(super) fn last_insert_rowid(&self) -> i64 {
        self.conn.last_insert_rowid()
    }

    pub(super) fn configure(&self, setting: DbConfig, on: bool) -> Result<(), StoreError> {
        self.conn.set_db_config(setting, on).map(drop).map_err(|source| self.fail(source))
    }

    /// Moves the whole write-ahead log into the file and cuts it off, if nobody reads what was before; waits for nobody.
    /// Whether it is empty now.
    pub(super) fn empty_log(&self) -> Result<bool, StoreError> {
        let wait = |ms| self.conn.busy_timeout(Duration::from_millis(ms)).map_err(|source| self.fail(source));
        wait(0)?;
        let done = self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
        wait(BUSY_MS)?;
        done.map(|(busy, ..)| busy == 0)
    }

    /// Runs a checkpoint pragma: (1 when it could not finish, pages in the log, pages moved).
    pub(super) fn checkpoint(&self, sql: &str) -> Result<(i64, u64, u64), StoreError> {
        let row = self
            .conn
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)));
        row.map(|(busy, pages, moved)| (busy, uint(pages), uint(moved))).map_err(|source| self.fail(source))
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Db").field(&self.file.path()).finish()
    }
}

/// SQLite's integers are signed: counters above the largest one are stored as it.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The inverse of [`int`]; a negative number in the file counts as 0.
pub(super) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(super) fn millis(value: Option<i64>) -> Option<Millis> {
    value.map(|ms| Millis(uint(ms)))
}
