//! The index of public channels: a database of its own beside the logs, derived from them and made again when it is
//! lost. The logs' writer never waits for it.
//!
//! An entry's *place* is its channel's number and its seq in one integer, so that a channel, and a range of its seqs,
//! is a range of places: in the table of entries, in the index of authors and in the index of words. What it has
//! indexed is committed together with how far it is ([`Position`]), and the chain value there tells whether the log
//! is still the one that was indexed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use delta_core::identity::{Author, OperationId};
use delta_core::topic::{Chain, Seq, TopicId};
use delta_topic_log::{Entry, Said, SearchQuery};
use rusqlite::{OpenFlags, OptionalExtension, params};

use super::{Sql, StoreError, damaged, error, integer, seq_of};

/// "DLsx": marks the file as a sync server's index.
const APPLICATION_ID: i64 = 0x444c_7378;
/// An index of another version is made again.
const VERSION: i64 = 2;
const SCHEMA: &str = "
    CREATE TABLE channels (
        number INTEGER PRIMARY KEY,
        topic  BLOB    NOT NULL UNIQUE,
        seq    INTEGER NOT NULL,
        chain  BLOB    NOT NULL,
        tail   INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE entries (
        place  INTEGER PRIMARY KEY,
        author BLOB    NOT NULL,
        id     BLOB    NOT NULL,
        target BLOB,
        erases INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX entries_author ON entries (author, place);
    CREATE INDEX entries_id ON entries (id);
    CREATE INDEX entries_edits ON entries (target, author) WHERE target IS NOT NULL AND NOT erases;
    CREATE INDEX entries_erased ON entries (target, author) WHERE target IS NOT NULL AND erases;
    CREATE VIRTUAL TABLE texts USING fts5 (
        author, text, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
    );
";
/// Bits of a place that hold the seq. Operations behind 2^40 of one channel are not indexed.
const SEQ_BITS: u32 = 40;
/// The last seq that is indexed.
pub const LAST_INDEXED: Seq = Seq((1 << SEQ_BITS) - 1);
/// Most channels that are indexed: their numbers take the other bits.
pub const MAX_CHANNELS: i64 = (1 << (63 - SEQ_BITS)) - 1;
/// Page cache of the writer, KiB.
const CACHE_KIB: i64 = 16 * 1024;
/// Entries removed in one transaction.
const REMOVE_PAGE: i64 = 1000;
/// Edits whose words a transaction takes out at most, because their message was deleted.
pub const ERASE_PAGE: i64 = 1000;
/// Steps of SQLite's machine that the answer to a question may take. A page of the index of words, about a thousand
/// entries of any channel, costs less than ten; a full answer about three thousand.
pub const FIND_STEPS: u64 = 100_000;
/// They are counted in these, so that counting costs nothing.
const STEPS_AT_ONCE: i32 = 100;

pub(super) const BY_WORDS: &str = "SELECT rowid FROM texts WHERE texts MATCH ?1 AND rowid > ?2 AND rowid < ?3
    ORDER BY rowid LIMIT ?4";
pub(super) const BY_WORDS_NEWEST: &str = "SELECT rowid FROM texts
    WHERE texts MATCH ?1 AND rowid > ?2 AND rowid < ?3 ORDER BY rowid DESC LIMIT ?4";
pub(super) const BY_AUTHOR: &str = "SELECT place FROM entries WHERE author = ?1 AND place > ?2 AND place < ?3
    ORDER BY place LIMIT ?4";
pub(super) const BY_AUTHOR_NEWEST: &str = "SELECT place FROM entries
    WHERE author = ?1 AND place > ?2 AND place < ?3 ORDER BY place DESC LIMIT ?4";
pub(super) const BY_PLACE: &str = "SELECT place FROM entries WHERE place > ?1 AND place < ?2
    ORDER BY place LIMIT ?3";
pub(super) const BY_PLACE_NEWEST: &str = "SELECT place FROM entries
    WHERE place > ?1 AND place < ?2 ORDER BY place DESC LIMIT ?3";

pub(super) const ERASED: &str = "SELECT 1 FROM entries
    WHERE target = ?1 AND author = ?2 AND erases AND place >= ?3 AND place <= ?4 LIMIT 1";
pub(super) const MESSAGES: &str = "SELECT place FROM entries
    WHERE id = ?1 AND author = ?2 AND place >= ?3 AND place <= ?4 LIMIT ?5";
pub(super) const EDITS: &str = "SELECT place FROM entries
    WHERE target = ?1 AND author = ?2 AND NOT erases AND place >= ?3 AND place <= ?4 LIMIT ?5";

/// How far a channel is indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    number: i64,
    /// The last seq that was looked at.
    pub seq: Seq,
    /// The log's chain value there.
    pub chain: Chain,
    /// Entries below were removed.
    pub tail: Seq,
}

impl Position {
    /// Whether both speak of the same entries.
    pub fn is_same_channel(&self, other: &Self) -> bool {
        self.number == other.number
    }

    fn place(&self, seq: Seq) -> i64 {
        (self.number << SEQ_BITS) | integer(seq.min(LAST_INDEXED))
    }
}

/// A connection to the index, and the steps that are left to what it does, where they are counted.
#[derive(Debug)]
pub struct Index(Sql, Arc<AtomicU64>);

impl Index {
    /// Opens the index for writing. One that is missing, damaged or of another version is made anew; tells whether
    /// it was.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn writer(path: &Path) -> Result<(Self, bool), StoreError> {
        match Self::open_writer(path) {
            Ok(Some(index)) => Ok((index, false)),
            Ok(None) | Err(StoreError::Damaged { .. }) => {
                Self::remove(path)?;
                let index = Self::create(path)?;
                Ok((index, true))
            }
            Err(other) => Err(other),
        }
    }

    /// Opens the index for reading, after a writer has.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn reader(path: &Path) -> Result<Self, StoreError> {
        Sql::reader(path).map(|sql| Self(sql, unbounded()))
    }

    /// Counts steps from now on, so that [`Self::find`] is ended after as many as it may take.
    ///
    /// # Errors
    /// SQLite does not take it.
    pub fn bounded(mut self) -> Result<Self, StoreError> {
        let left = Arc::clone(&self.1);
        let spend = move || {
            let spent = |left: u64| left.checked_sub(STEPS_AT_ONCE.unsigned_abs().into());
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).is_err()
        };
        let counted = self.0.connection.progress_handler(STEPS_AT_ONCE, Some(spend));
        counted.map_err(|source| error(&self.0.path, source))?;
        Ok(self)
    }

    /// Removes an index that is damaged; the next start makes it again from the logs.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove(path: &Path) -> Result<(), StoreError> {
        for suffix in ["", "-wal", "-shm"] {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            match std::fs::remove_file(&name) {
                Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                    return Err(damaged(path, &format!("it cannot be removed: {why}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `None` when the file is empty, or of another version.
    fn open_writer(path: &Path) -> Result<Option<Self>, StoreError> {
        let sql = Sql::open(path, Self::flags())?;
        let get = |pragma| {
            let value = sql.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
            value.map_err(|source| error(path, source))
        };
        if get("PRAGMA application_id")? != APPLICATION_ID || get("PRAGMA user_version")? != VERSION {
            return Ok(None);
        }
        Self::prepare(sql).map(Some)
    }

    fn create(path: &Path) -> Result<Self, StoreError> {
        let this = Self::prepare(Sql::open(path, Self::flags())?)?;
        let sql = format!(
            "BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {SCHEMA} PRAGMA user_version = {VERSION};
             COMMIT;"
        );
        this.0.connection.execute_batch(&sql).map_err(|source| this.0.error(source))?;
        Ok(this)
    }

    fn flags() -> OpenFlags {
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE
    }

    /// `synchronous = NORMAL`: a crash may cost the newest entries, together with the position that says so.
    fn prepare(sql: Sql) -> Result<Self, StoreError> {
        let pragmas = format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -{CACHE_KIB};"
        );
        sql.connection.execute_batch(&pragmas).map_err(|source| sql.error(source))?;
        Ok(Self(sql, unbounded()))
    }

    /// Runs reads in one snapshot of the index.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn snapshot<T>(&self, read: impl FnOnce(&Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.0.snapshot(|_| read(self))
    }

    /// Runs writes in one transaction; nothing of them stays when they fail.
    ///
    /// # Errors
    /// Nothing was changed.
    pub fn transaction<T>(
        &self,
        write: impl FnOnce(&Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.0.run("BEGIN IMMEDIATE")?;
        let written = write(self).and_then(|value| self.0.run("COMMIT").map(|()| value));
        if written.is_err() && !self.0.connection.is_autocommit() {
            let _ = self.0.run("ROLLBACK");
        }
        written
    }

    /// How far a channel is indexed; `None` for an unknown one.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn position(&self, topic: &TopicId) -> Result<Option<Position>, StoreError> {
        let mut statement =
            self.0.statement("SELECT number, seq, chain, tail FROM channels WHERE topic = ?1")?;
        let row = statement.query_row([&topic.0], |row| {
            Ok(Position {
                number: row.get(0)?,
                seq: seq_of(row, 1)?,
                chain: Chain(row.get(2)?),
                tail: seq_of(row, 3)?,
            })
        });
        row.optional().map_err(|source| self.0.error(source))
    }

    /// All channels of the index.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn channels(&self) -> Result<Vec<TopicId>, StoreError> {
        let mut statement = self.0.statement("SELECT topic FROM channels ORDER BY number")?;
        let rows = statement.query_map([], |row| row.get(0).map(TopicId));
        rows.and_then(Iterator::collect).map_err(|source| self.0.error(source))
    }

    /// A place in the index for a channel whose log begins behind `seq`; `None` when there are too many.
    ///
    /// # Errors
    /// The index cannot be written.
    pub fn add(&self, topic: &TopicId, seq: Seq, chain: Chain) -> Result<Option<Position>, StoreError> {
        let mut statement = self.0.statement(
            "INSERT INTO channels (topic, seq, chain, tail)
             SELECT ?1, ?2, ?3, ?4 WHERE (SELECT ifnull(max(number), 0) FROM channels) < ?5",
        )?;
        let tail = Seq(seq.0.saturating_add(1));
        let values = params![&topic.0, integer(seq), &chain.0, integer(tail), MAX_CHANNELS];
        statement.execute(values).map_err(|source| self.0.error(source))?;
        self.position(topic)
    }

    /// Says how far a channel is indexed now.
    ///
    /// # Errors
    /// The index cannot be written.
    pub fn advance(&self, position: &Position) -> Result<(), StoreError> {
        let mut statement =
            self.0.statement("UPDATE channels SET seq = ?2, chain = ?3, tail = ?4 WHERE number = ?1")?;
        let Position { number, seq, chain, tail } = position;
        let values = params![number, integer(*seq), &chain.0, integer(*tail)];
        statement.execute(values).map(drop).map_err(|source| self.0.error(source))
    }

    /// Puts an operation into the index. `room` is how many edits may still be erased in this transaction; `false`
    /// when they are more: the operation is to be put in again, in the next one.
    ///
    /// # Errors
    /// The index cannot be written.
    pub fn insert(
        &self,
        position: &Position,
        seq: Seq,
        entry: &Entry,
        room: &mut i64,
    ) -> Result<bool, StoreError> {
        let (target, text) = match &entry.said {
            Said::Text(text) => (None, Some(text)),
            Said::Edit(target, text) => (Some(target), Some(text)),
            Said::Delete(target) => (Some(target), None),
            Said::Nothing => (None, None),
        };
        let erases = matches!(entry.said, Said::Delete(_));
        let erased = match target.or(text.map(|_| &entry.id)) {
            Some(message) => self.is_erased(position, &entry.author, message)?,
            None => false,
        };
        if let Some(message) = target.filter(|_| erases && !erased)
            && !self.erase(position, &entry.author, message, room)?
        {
            return Ok(false);
        }
        // An edit whose words are not kept is nothing to erase later.
        let target = target.filter(|_| erases || !erased);
        let place = position.place(seq);
        let mut row = self.0.statement(
            "INSERT INTO entries (place, author, id, target, erases) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let values = params![place, &entry.author.0, &entry.id.0, target.map(|id| id.0), erases];
        row.execute(values).map_err(|source| self.0.error(source))?;
        if let Some(text) = text.filter(|text| !erased && !text.is_empty()) {
            let mut words =
                self.0.statement("INSERT INTO texts (rowid, author, text) VALUES (?1, ?2, ?3)")?;
            let values = params![place, hex::encode(entry.author.0), text];
            words.execute(values).map_err(|source| self.0.error(source))?;
        }
        Ok(true)
    }

    /// Whether an author has deleted a message of the channel.
    fn is_erased(
        &self,
        position: &Position,
        author: &Author,
        message: &OperationId,
    ) -> Result<bool, StoreError> {
        let mut statement = self.0.statement(ERASED)?;
        let (first, last) = (position.place(Seq(0)), position.place(LAST_INDEXED));
        let found = statement.query_row(params![&message.0, &author.0, first, last], |_| Ok(()));
        found.optional().map(|found| found.is_some()).map_err(|source| self.0.error(source))
    }

    /// Takes the words of a message and of its edits out; only their author's, and at most `room` of them. Tells
    /// whether all are out. What is out is no target any more, so that it is never walked again.
    fn erase(
        &self,
        position: &Position,
        author: &Author,
        message: &OperationId,
        room: &mut i64,
    ) -> Result<bool, StoreError> {
        let (first, last) = (position.place(Seq(0)), position.place(LAST_INDEXED));
        let mut words = self.0.statement("DELETE FROM texts WHERE rowid = ?1")?;
        let mut edit = self.0.statement("UPDATE entries SET target = NULL WHERE place = ?1")?;
        let range = params![&message.0, &author.0, first, last, *room];
        let (messages, edits) = (self.places(MESSAGES, range)?, self.places(EDITS, range)?);
        for place in messages.iter().chain(&edits) {
            words.execute([place]).map_err(|source| self.0.error(source))?;
        }
        for place in &edits {
            edit.execute([place]).map_err(|source| self.0.error(source))?;
        }
        let done = (edits.len() as i64) < *room;
        *room -= edits.len() as i64;
        Ok(done)
    }

    /// Removes entries below a seq, at most a page of them; tells whether all are gone.
    ///
    /// # Errors
    /// The index cannot be written.
    pub fn remove_below(&self, position: &Position, seq: Seq) -> Result<bool, StoreError> {
        let range = params![position.place(Seq(0)), position.place(seq), REMOVE_PAGE];
        let mut statement = self.0.statement(
            "SELECT place FROM entries WHERE place >= ?1 AND place < ?2 ORDER BY place LIMIT ?3",
        )?;
        let rows = statement.query_map(range, |row| row.get::<_, i64>(0));
        let places: Vec<i64> = rows.and_then(Iterator::collect).map_err(|source| self.0.error(source))?;
        let mut words = self.0.statement("DELETE FROM texts WHERE rowid = ?1")?;
        let mut entries = self.0.statement("DELETE FROM entries WHERE place = ?1")?;
        for place in &places {
            words.execute([place]).map_err(|source| self.0.error(source))?;
            entries.execute([place]).map_err(|source| self.0.error(source))?;
        }
        Ok(places.len() < REMOVE_PAGE as usize)
    }

    /// Forgets a channel, a page of entries at a time; tells whether it is gone.
    ///
    /// # Errors
    /// The index cannot be written.
    pub fn forget(&self, topic: &TopicId) -> Result<bool, StoreError> {
        let Some(position) = self.position(topic)? else { return Ok(true) };
        // The last seq itself is never given: nothing behind it is indexed.
        if !self.remove_below(&position, LAST_INDEXED)? {
            return Ok(false);
        }
        let mut statement = self.0.statement("DELETE FROM channels WHERE number = ?1")?;
        statement.execute([position.number]).map_err(|source| self.0.error(source))?;
        Ok(true)
    }

    /// Seqs strictly between two others that answer the words and the author of a query, and who signed them; in
    /// the order and at most as many as the query asks for.
    ///
    /// # Errors
    /// The index cannot be read, or the question takes more than `steps` where they are counted.
    pub fn find(
        &self,
        position: &Position,
        query: &SearchQuery,
        (after, before): (Seq, Seq),
        steps: u64,
    ) -> Result<Vec<(Seq, Author)>, StoreError> {
        self.1.store(steps, Ordering::Relaxed);
        let found = self.look_up(position, query, after, before);
        // What ends the snapshot is not a part of the question.
        self.1.store(u64::MAX, Ordering::Relaxed);
        found
    }

    fn look_up(
        &self,
        position: &Position,
        query: &SearchQuery,
        after: Seq,
        before: Seq,
    ) -> Result<Vec<(Seq, Author)>, StoreError> {
        let up = query.is_ascending();
        let author = query.author.map(|author| author.0);
        let expression = query.words.as_ref().map(|words| match author {
            None => format!("text : ({})", words.fts5()),
            Some(author) => format!("author : \"{}\" AND text : ({})", hex::encode(author), words.fts5()),
        });
        let (first, last) = (position.place(after), position.place(before));
        let limit = i64::from(query.range.limit);
        let places = match (&expression, author) {
            (Some(words), _) => {
                let sql = if up { BY_WORDS } else { BY_WORDS_NEWEST };
                self.places(sql, params![words, first, last, limit])
            }
            (None, Some(author)) => {
                let sql = if up { BY_AUTHOR } else { BY_AUTHOR_NEWEST };
                self.places(sql, params![&author, first, last, limit])
            }
            (None, None) => {
                let sql = if up { BY_PLACE } else { BY_PLACE_NEWEST };
                self.places(sql, params![first, last, limit])
            }
        }?;
        places.into_iter().map(|place| self.entry(place)).collect()
    }

    fn places(&self, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<i64>, StoreError> {
        let mut statement = self.0.statement(sql)?;
        let rows = statement.query_map(values, |row| row.get(0));
        rows.and_then(Iterator::collect).map_err(|source| self.0.error(source))
    }

    fn entry(&self, place: i64) -> Result<(Seq, Author), StoreError> {
        let mut statement = self.0.statement("SELECT author FROM entries WHERE place = ?1")?;
        let author = statement.query_row([place], |row| row.get(0).map(Author));
        let author = author.map_err(|source| self.0.error(source))?;
        Ok((Seq((place & integer(LAST_INDEXED)).unsigned_abs()), author))
    }

    #[cfg(test)]
    pub(super) fn plan(&self, query: &str) -> String {
        self.0.plan(query)
    }

    /// Steps taken so far, where they are counted and nothing was looked for yet.
    #[cfg(test)]
    pub(super) fn steps(&self) -> u64 {
        u64::MAX - self.1.load(Ordering::Relaxed)
    }

    /// What is wrong with the structure of the file, the index of words included.
    ///
    /// # Errors
    /// The index cannot be read at all.
    pub fn integrity(&self) -> Result<Vec<String>, StoreError> {
        self.0.integrity()
    }

    /// The entries of a channel, for a check.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn entries(&self, position: &Position) -> Result<Vec<Listed>, StoreError> {
        let mut statement = self.0.statement(
            "SELECT place, author, id FROM entries WHERE place >= ?1 AND place <= ?2 ORDER BY place",
        )?;
        let range = params![position.place(Seq(0)), position.place(LAST_INDEXED)];
        let rows = statement.query_map(range, |row| {
            let place: i64 = row.get(0)?;
            let seq = Seq((place & integer(LAST_INDEXED)).unsigned_abs());
            Ok(Listed { seq, author: Author(row.get(1)?), id: OperationId(row.get(2)?) })
        });
        rows.and_then(Iterator::collect).map_err(|source| self.0.error(source))
    }
}

fn unbounded() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(u64::MAX))
}

/// An entry, for a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its place in the log.
    pub seq: Seq,
    /// Who signed it.
    pub author: Author,
    /// Its id.
    pub id: OperationId,
}
