//! SQLite: topic logs on disk. The only part of the server that speaks SQL.
//!
//! One connection writes (on its own thread), others only read. WAL mode, `synchronous = FULL`: a commit is on the
//! disk before it returns. Checkpoints are made by hand between commits, because automatic ones halve the speed of
//! inserts. An evicted operation's row stays, without its bytes: dedup and the chain never forget.

mod upkeep;

use std::path::{Path, PathBuf};

use delta_core::identity::{EnvelopeHash, Millis};
use delta_core::topic::{Chain, Seq, TopicId};
use delta_topic_log::{Closed, Inserted, LogReader, LogState, LogStorage, NewRow, StoredOp, TopicFacts};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use thiserror::Error;

pub use upkeep::Report;

/// "DLsy": marks the file as a sync server's database.
const APPLICATION_ID: i64 = 0x444c_7379;
/// Rises with every migration, and is the number of [`MIGRATIONS`].
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;
/// What makes each schema version from the one before. Never edited, only added to.
const MIGRATIONS: [&str; 2] = [V1, V2];
const V1: &str = "
    CREATE TABLE operations (
        topic    BLOB    NOT NULL,
        seq      INTEGER NOT NULL,
        received INTEGER NOT NULL,
        hash     BLOB    NOT NULL,
        chain    BLOB    NOT NULL,
        op       BLOB,
        PRIMARY KEY (topic, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX operations_hash ON operations (topic, hash);
    CREATE TABLE topics (
        topic  BLOB    NOT NULL PRIMARY KEY,
        signed INTEGER NOT NULL DEFAULT 0,
        tail   INTEGER NOT NULL DEFAULT 1
    ) STRICT, WITHOUT ROWID;
";
/// `closed`: 0 open, 1 deleted, 2 blocked.
const V2: &str = "
    ALTER TABLE topics ADD COLUMN closed   INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE topics ADD COLUMN counter  INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE topics ADD COLUMN read_key BLOB;
    ALTER TABLE topics ADD COLUMN metadata BLOB;
";
/// Rows up to a quarter of a page stay whole in the tree; larger ones take pages of their own. Counts only for a new
/// file.
const PAGE_SIZE: i64 = 8192;
/// Page cache of the writer, KiB.
const WRITER_CACHE_KIB: i64 = 64 * 1024;
/// How much of the file readers map into memory, bytes.
const READER_MMAP: i64 = 1 << 30;
/// How long a connection waits for another one's lock, milliseconds.
const BUSY_MS: u64 = 5_000;

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
    /// Anything else: permissions, a failing disk.
    #[error("{}: {source}", path.display())]
    Other {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
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

    fn migrate(&self) -> Result<(), StoreError> {
        let wrap = |source| error(&self.path, source);
        let get = |sql| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(wrap);
        let version = get("PRAGMA user_version")?;
        if version > SCHEMA_VERSION {
            return Err(StoreError::Newer { path: self.path.clone(), found: version });
        }
        if version == 0 && get("SELECT count(*) FROM sqlite_schema")? != 0 {
            return Err(damaged(&self.path, "its tables are another program's"));
        }
        if version > 0 && get("PRAGMA application_id")? != APPLICATION_ID {
            return Err(damaged(&self.path, "its application id is another program's"));
        }
        let missing = MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0));
        let steps: String = missing.copied().collect();
        if steps.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {steps} \
             PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        );
        self.connection.execute_batch(&sql).map_err(wrap)
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

    /// Moves committed pages from the log into the database file and reports how many are left in the log.
    ///
    /// # Errors
    /// The disk is full or failing; the log stays, nothing is lost.
    pub fn checkpoint(&self) -> Result<u64, StoreError> {
        let mut statement = self.statement("PRAGMA wal_checkpoint(PASSIVE)")?;
        let (log, moved): (i64, i64) = statement
            .query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
            .map_err(|source| self.error(source))?;
        Ok(u64::try_from(log.saturating_sub(moved)).unwrap_or(0))
    }

    /// The next topic after `after` in byte order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn topic_after(&self, after: &TopicId) -> Result<Option<TopicId>, StoreError> {
        let mut statement =
            self.statement("SELECT topic FROM operations WHERE topic > ?1 ORDER BY topic LIMIT 1")?;
        let row = statement.query_row([&after.0], |row| row.get(0).map(TopicId)).optional();
        row.map_err(|source| self.error(source))
    }

    /// The topics with most retained operations, and how many; a walk over all topics.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn largest_topics(&self, count: usize) -> Result<Vec<(TopicId, u64)>, StoreError> {
        let mut largest: Vec<(TopicId, u64)> = Vec::new();
        let mut topic = TopicId([0; 32]);
        while let Some(next) = self.topic_after(&topic)? {
            let state = self.state(&next)?.unwrap_or(LogState::EMPTY);
            let kept = (state.head.0 + 1).saturating_sub(state.tail.0);
            if kept > 0 {
                let place = largest.partition_point(|(_, more)| *more >= kept);
                largest.insert(place, (next, kept));
                largest.truncate(count);
            }
            topic = next;
        }
        Ok(largest)
    }

    /// Changes when another connection has committed something.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn data_version(&self) -> Result<i64, StoreError> {
        let mut statement = self.statement("PRAGMA data_version")?;
        statement.query_row([], |row| row.get(0)).map_err(|source| self.error(source))
    }

    /// All closed topics.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn closed_topics(&self) -> Result<Vec<TopicId>, StoreError> {
        let mut statement = self.statement("SELECT topic FROM topics WHERE closed <> 0")?;
        let rows = statement.query_map([], |row| row.get(0).map(TopicId));
        let topics = rows.and_then(Iterator::collect);
        topics.map_err(|source| self.error(source))
    }

    /// The highest seq whose eviction leaves at most `max_bytes` of operations; 0 when all fit.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn evict_for_bytes(&self, topic: &TopicId, max_bytes: u64) -> Result<Seq, StoreError> {
        let mut statement = self.statement(
            "SELECT seq FROM (SELECT seq, sum(length(op)) OVER (ORDER BY seq DESC) AS total
             FROM operations WHERE topic = ?1 AND op IS NOT NULL) WHERE total > ?2 ORDER BY seq DESC LIMIT 1",
        )?;
        let max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        let row = statement.query_row(params![&topic.0, max_bytes], |row| seq_of(row, 0)).optional();
        row.map(Option::unwrap_or_default).map_err(|source| self.error(source))
    }

    fn statement(&self, sql: &str) -> Result<rusqlite::CachedStatement<'_>, StoreError> {
        self.connection.prepare_cached(sql).map_err(|source| self.error(source))
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.statement(sql)?.execute([]).map(drop).map_err(|source| self.error(source))
    }

    fn visit(
        &self,
        sql: &str,
        topic: &TopicId,
        after: Seq,
        before: Seq,
        visit: &mut dyn FnMut(StoredOp<'_>) -> bool,
    ) -> Result<(), StoreError> {
        let mut statement = self.statement(sql)?;
        let mut read = || {
            let mut rows = statement.query(params![&topic.0, integer(after), integer(before)])?;
            while let Some(row) = rows.next()? {
                let stored = StoredOp {
                    seq: seq_of(row, 0)?,
                    received: Millis(row.get::<_, i64>(1)?.unsigned_abs()),
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

    fn error(&self, source: rusqlite::Error) -> StoreError {
        error(&self.path, source)
    }
}

impl LogReader for Sql {
    type Error = StoreError;

    fn state(&self, topic: &TopicId) -> Result<Option<LogState>, StoreError> {
        let mut last = self.statement(
            "SELECT seq, received, chain FROM operations WHERE topic = ?1 ORDER BY seq DESC LIMIT 1",
        )?;
        let last = last.query_row([&topic.0], |row| {
            Ok((seq_of(row, 0)?, Millis(row.get::<_, i64>(1)?.unsigned_abs()), Chain(row.get(2)?)))
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
        let (head, received) = last.map_or((Seq(0), Millis(0)), |(head, received, _)| (head, received));
        let chain = last.map(|(_, _, chain)| chain);
        Ok(Some(LogState { head, tail, chain, received, signed, closed }))
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
        let found = statement.query_row(params![&topic.0, integer(seq)], |row| {
            Ok((Chain(row.get(0)?), Millis(row.get::<_, i64>(1)?.unsigned_abs())))
        });
        found.optional().map_err(|source| self.error(source))
    }

    fn ascend(
        &self,
        topic: &TopicId,
        after: Seq,
        before: Seq,
        visit: &mut dyn FnMut(StoredOp<'_>) -> bool,
    ) -> Result<(), StoreError> {
        const SQL: &str = "SELECT seq, received, chain, op FROM operations
            WHERE topic = ?1 AND seq > ?2 AND seq < ?3 AND op IS NOT NULL ORDER BY seq";
        self.visit(SQL, topic, after, before, visit)
    }

    fn descend(
        &self,
        topic: &TopicId,
        after: Seq,
        before: Seq,
        visit: &mut dyn FnMut(StoredOp<'_>) -> bool,
    ) -> Result<(), StoreError> {
        const SQL: &str = "SELECT seq, received, chain, op FROM operations
            WHERE topic = ?1 AND seq > ?2 AND seq < ?3 AND op IS NOT NULL ORDER BY seq DESC";
        self.visit(SQL, topic, after, before, visit)
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
            "INSERT INTO operations (topic, seq, received, hash, chain, op) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (topic, hash) DO NOTHING",
        )?;
        let received = i64::try_from(row.received.0).unwrap_or(i64::MAX);
        let values = params![&topic.0, integer(row.seq), received, &row.hash.0, &row.chain.0, row.op];
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

fn closed_of(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Closed>> {
    Ok(match row.get(column)? {
        0 => None,
        DELETED => Some(Closed::Deleted),
        // Whatever a damaged row says: a topic that may not be shown is not shown.
        _ => Some(Closed::Blocked),
    })
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
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(path, &source.to_string()),
        _ => StoreError::Other { path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use delta_topic_log::{GenerationSecret, MemoryStorage, TopicLogs, Write};

    use super::*;

    const TOPIC: TopicId = TopicId([7; 32]);

    fn logs(path: &Path) -> TopicLogs<Sql> {
        TopicLogs::new(Sql::writer(path, 0).unwrap(), GenerationSecret::from_bytes([0; 32]))
    }

    fn seqs<R: LogReader>(reader: &R, after: u64, before: u64, up: bool) -> Vec<(u64, Vec<u8>)>
    where
        R::Error: std::fmt::Debug,
    {
        let mut found = Vec::new();
        let mut visit = |op: StoredOp<'_>| {
            found.push((op.seq.0, op.op.to_vec()));
            found.len() < 3
        };
        let (after, before) = (Seq(after), Seq(before));
        match up {
            true => reader.ascend(&TOPIC, after, before, &mut visit).unwrap(),
            false => reader.descend(&TOPIC, after, before, &mut visit).unwrap(),
        }
        found
    }

    /// The same steps on SQLite and in memory give the same answers.
    #[test]
    fn sqlite_keeps_the_storage_contract() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let mut disk = logs(&path);
        let mut memory = TopicLogs::new(MemoryStorage::new(), GenerationSecret::from_bytes([0; 32]));
        assert_eq!(disk.storage().state(&TOPIC).unwrap(), None);
        let mut places = (Vec::new(), Vec::new());
        let ops: Vec<Vec<u8>> = (0..8u8).map(|n| vec![n % 6; 3]).collect();
        let ops: Vec<&[u8]> = ops.iter().map(Vec::as_slice).collect();
        for (time, batch) in ops.chunks(3).enumerate() {
            let now = Millis(100 - time as u64);
            disk.append(now, &TOPIC, batch, Write::Signed, &mut places.0).unwrap();
            memory.append(now, &TOPIC, batch, Write::Signed, &mut places.1).unwrap();
            disk.commit().unwrap();
            memory.commit().unwrap();
        }
        disk.append(Millis(0), &TOPIC, &[b"undone"], Write::Signed, &mut Vec::new()).unwrap();
        disk.rollback();
        disk.evict(&TOPIC, Seq(2)).unwrap();
        disk.commit().unwrap();
        memory.evict(&TOPIC, Seq(2)).unwrap();
        assert_eq!(places.0, places.1);
        drop(disk);
        let _writer = Sql::writer(&path, 0).unwrap();
        let disk = Sql::reader(&path).unwrap();
        let memory = memory.storage();
        assert_eq!(disk.state(&TOPIC).unwrap(), memory.state(&TOPIC).unwrap());
        for seq in 0..9 {
            assert_eq!(disk.mark(&TOPIC, Seq(seq)).unwrap(), memory.mark(&TOPIC, Seq(seq)).unwrap());
        }
        for op in ops.iter().chain([&&b"undone"[..]]) {
            let hash = EnvelopeHash::of(op);
            assert_eq!(disk.find(&TOPIC, &hash).unwrap(), memory.find(&TOPIC, &hash).unwrap());
        }
        for (after, before) in [(0, u64::MAX), (0, 4), (3, 100), (3, 4), (9, 1)] {
            for up in [true, false] {
                assert_eq!(seqs(&disk, after, before, up), seqs(memory, after, before, up));
            }
        }
        assert_eq!(disk.topic_after(&TopicId([0; 32])).unwrap(), Some(TOPIC));
        assert_eq!(disk.topic_after(&TOPIC).unwrap(), None);
        assert_eq!(disk.evict_for_bytes(&TOPIC, 100).unwrap(), Seq(0));
        assert_eq!(disk.evict_for_bytes(&TOPIC, 7).unwrap(), Seq(4), "two of three bytes each fit");
    }

    #[test]
    fn a_foreign_a_damaged_and_a_newer_file_are_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        assert!(matches!(Sql::writer(&path, 0), Err(StoreError::Damaged { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 8192]);

        let path = dir.path().join("foreign");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        assert!(matches!(Sql::writer(&path, 0), Err(StoreError::Damaged { .. })));

        let path = dir.path().join("newer");
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        assert!(matches!(Sql::writer(&path, 0), Err(StoreError::Newer { found: 99, .. })));
    }

    /// A file as schema version 1 left it opens, keeps its rows, and knows what version 2 added.
    #[test]
    fn a_database_of_the_first_schema_is_migrated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let old = Connection::open(&path).unwrap();
        let row = "INSERT INTO operations VALUES (zeroblob(32), 1, 5, x'aa', zeroblob(32), x'bb');
                   INSERT INTO topics VALUES (zeroblob(32), 1, 1);";
        let sql = format!("PRAGMA application_id = {APPLICATION_ID}; {V1} {row} PRAGMA user_version = 1");
        old.execute_batch(&sql).unwrap();
        drop(old);
        let mut storage = Sql::writer(&path, 0).unwrap();
        let topic = TopicId([0; 32]);
        let state = storage.state(&topic).unwrap().unwrap();
        assert_eq!((state.head, state.signed, state.closed), (Seq(1), true, None));
        assert_eq!(storage.facts(&topic).unwrap(), TopicFacts::default());
        let facts = TopicFacts {
            counter: u64::MAX >> 1,
            read_key: Some([1; 32]),
            metadata: Some(vec![2]),
            closed: Some(Closed::Deleted),
        };
        storage.set_facts(&topic, &facts).unwrap();
        assert_eq!(storage.facts(&topic).unwrap(), facts);
        let state = storage.state(&topic).unwrap().unwrap();
        assert_eq!((state.head, state.signed, state.closed), (Seq(1), true, Some(Closed::Deleted)));
        assert_eq!(storage.closed_topics().unwrap(), [topic]);
    }

    #[test]
    fn a_full_database_is_told_apart_and_what_was_committed_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let storage = Sql::writer(&path, 256 * 1024).unwrap();
        let mut logs = TopicLogs::new(storage, GenerationSecret::from_bytes([0; 32]));
        let mut stored = 0;
        let error = loop {
            let op = [stored; 1000];
            let appended = logs.append(Millis(0), &TOPIC, &[&op], Write::Signed, &mut Vec::new());
            match appended
                .map_err(|error| error.to_string())
                .and_then(|()| logs.commit().map_err(|e| e.to_string()))
            {
                Ok(()) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(error.contains("no room left"), "{error}");
        assert!(stored > 10);
        assert_eq!(logs.view(&TOPIC).unwrap().head, Seq(stored.into()));
    }

    /// Readers of history and replay go straight to their rows.
    #[test]
    fn queries_use_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let sql = Sql::writer(&dir.path().join("db"), 0).unwrap();
        for (query, index) in [
            (
                "SELECT seq FROM operations WHERE topic = x'00' AND seq > 1 AND seq < 5 AND op IS NOT NULL ORDER BY seq",
                "PRIMARY KEY (topic=? AND seq>? AND seq<?)",
            ),
            (
                "SELECT seq FROM operations WHERE topic = x'00' ORDER BY seq DESC LIMIT 1",
                "PRIMARY KEY (topic=?)",
            ),
            (
                "SELECT seq FROM operations WHERE topic = x'00' AND hash = x'00'",
                "operations_hash (topic=? AND hash=?)",
            ),
        ] {
            let plan: String = sql
                .connection
                .query_row(&format!("EXPLAIN QUERY PLAN {query}"), [], |row| row.get(3))
                .unwrap();
            assert!(plan.contains(index) && !plan.contains("TEMP"), "{query}: {plan}");
        }
    }
}
