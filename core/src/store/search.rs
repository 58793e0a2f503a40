//! Search over messages: an index that follows when the writer is idle, and a look at what it has not reached yet.

use std::fmt;

use rusqlite::params;

use super::db::{Db, int, uint};
use super::error::StoreError;
use super::queries::{MessageRow, SEARCH, SEARCH_BOUNDS, SEARCH_DUE, SEARCH_TAIL, message_row};
use super::reading::Arrival;
use super::tx::Tx;
use crate::identity::{Author, LogId, Millis};
use crate::limits::MAX_SEARCH_WORDS;
use crate::tree::{Arrange, IntoTree, Set};

/// Newest messages looked at beside the index.
const TAIL: i64 = 10_000;
/// Longest excerpt, characters.
const EXCERPT: usize = 120;

/// Brings messages into the index: their words, and from where they are as [`terms`] looks for it.
macro_rules! index {
    ($which:literal) => {
        concat!(
            "INSERT INTO text_index (rowid, text, origin)
             SELECT entry, ifnull(edited_text, text), 'l' || hex(substr(log, 1, 8)) || ' a' || hex(substr(author, 1, 8))
             FROM message WHERE ",
            $which
        )
    };
}

/// What to search for.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// Words that all occur; upper and lower case are the same. Of more than [`MAX_SEARCH_WORDS`] the first count.
    pub words: String,
    /// Only in this conversation.
    pub log: Option<LogId>,
    /// Only by this author.
    pub author: Option<Author>,
    /// Only received at this time or later, by the server's clock.
    pub since: Option<Millis>,
    /// Only received earlier than this.
    pub until: Option<Millis>,
    /// Only what came to this device before this: the last of the page before.
    pub before: Option<Arrival>,
}

/// Shows nothing of what is looked for.
impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("log", &self.log).finish_non_exhaustive()
    }
}

/// A message that was found.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    /// The message.
    pub message: MessageRow,
    /// Where the next page goes on.
    pub arrival: Arrival,
    /// Its text around the first word that was looked for, at most 120 characters.
    pub excerpt: String,
}

/// Names the message and shows nothing of its content.
impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("message", &self.message).finish_non_exhaustive()
    }
}

impl Db {
    /// Messages with all the words, at most `limit`, those that came last to this device first. Without a word nothing
    /// is found.
    pub fn search(&self, search: &Search, limit: usize) -> Result<Vec<Found>, StoreError> {
        let wanted: Set<String> = words(&search.words).take(MAX_SEARCH_WORDS).into_set();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let (log, author) = (search.log.map(|log| log.0), search.author.map(|author| author.0));
        let [since, until] = [search.since, search.until].map(|at| at.map(|at| int(at.0)));
        let Some((from, to)) = self.arrivals(log, since, until)? else { return Ok(Vec::new()) };
        let before = search.before.map_or(to, |before| before.0.min(to));
        let terms = terms(&wanted, search);
        let limit_sql = int(limit as u64);
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(14)?, message_row(row)?));
        let indexed = params![log, author, since, until, limit_sql, before, terms, from];
        let mut rows = self.all(SEARCH, indexed, row)?;
        let has_all = |message: &MessageRow| {
            let text: Set<_> = words(message.text.as_deref().unwrap_or_default()).into_set();
            wanted.is_subset(&text)
        };
        for sql in [SEARCH_DUE, SEARCH_TAIL] {
            let beside = self.all(sql, params![log, author, since, until, TAIL, before], row)?;
            rows.extend(beside.into_iter().filter(|(_, message)| has_all(message)));
        }
        rows.arrange_by_key(|(entry, _)| std::cmp::Reverse(*entry));
        rows.truncate(limit);
        let found = |(entry, message): (i64, MessageRow)| {
            let excerpt = excerpt(message.text.as_deref().unwrap_or_default(), &wanted);
            Found { message, arrival: Arrival(entry), excerpt }
        };
        Ok(rows.into_iter().map(found).collect())
    }

    /// From and below which arrival everything is that was received in a time; `None`: nothing was.
    fn arrivals(
        &self,
        log: Option<[u8; 32]>,
        since: Option<i64>,
        until: Option<i64>,
    ) -> Result<Option<(i64, i64)>, StoreError> {
        if since.is_none() && until.is_none() {
            return Ok(Some((i64::MIN, i64::MAX)));
        }
        let times = params![log, since.unwrap_or(i64::MIN), until.unwrap_or(i64::MAX)];
        let ends = self.one(SEARCH_BOUNDS, times, |row| {
            Ok(row.get::<_, Option<i64>>(0)?.zip(row.get::<_, Option<i64>>(1)?))
        })?;
        Ok(ends.flatten().map(|(first, last)| (first, last.saturating_add(1))))
    }

    /// Messages that wait to be brought into the index, changed ones included. (A search finds the newest of them, and
    /// those that changed, all the same.)
    pub fn unindexed(&self) -> Result<u64, StoreError> {
        let count = |sql| Ok::<_, StoreError>(uint(self.one(sql, [], |row| row.get(0))?.unwrap_or(0)));
        let fresh = count("SELECT count(*) FROM message WHERE entry > (SELECT entry FROM text_upto)")?;
        Ok(fresh + count("SELECT count(*) FROM text_due")?)
    }
}

impl Tx<'_> {
    /// Brings at most `limit` messages into the index; whether there are more.
    pub fn index_texts(&self, limit: usize) -> Result<bool, StoreError> {
        let limit_sql = int(limit as u64);
        let due = self.all("SELECT entry FROM text_due LIMIT ?1", [limit_sql], |row| row.get::<_, i64>(0))?;
        for entry in &due {
            self.run("DELETE FROM text_index WHERE rowid = ?1", [entry])?;
            self.run(
                index!("entry = ?1 AND text IS NOT NULL AND entry <= (SELECT entry FROM text_upto)"),
                [entry],
            )?;
            self.run("DELETE FROM text_due WHERE entry = ?1", [entry])?;
        }
        let fresh = self.one(
            "SELECT count(*), max(entry) FROM (
                 SELECT entry FROM message WHERE entry > (SELECT entry FROM text_upto) ORDER BY entry LIMIT ?1)",
            [limit_sql],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)),
        )?;
        let (count, last) = fresh.unwrap_or_default();
        if let Some(last) = last {
            // In one statement: each writes out what the index has gathered.
            self.run(
                index!(
                    "entry > (SELECT entry FROM text_upto) AND entry <= ?1 AND text IS NOT NULL ORDER BY entry"
                ),
                [last],
            )?;
            self.run("UPDATE text_upto SET entry = ?1", [last])?;
        }
        Ok(due.len() == limit || count == limit_sql)
    }
}

/// What the index is asked for: all the words, from the conversation and by the author.
fn terms(wanted: &Set<String>, search: &Search) -> String {
    let words = wanted.iter().map(|word| format!("text : \"{word}\""));
    // The first 8 bytes in hex.
    let log = search.log.map(|log| format!("origin : \"l{:.16}\"", log.to_string()));
    let author = search.author.map(|author| format!("origin : \"a{:.16}\"", author.to_string()));
    words.chain(log).chain(author).collect::<Vec<_>>().join(" AND ")
}

/// The words of a text as the index has them: letters and digits, in lower case.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// The text around the first of the words.
fn excerpt(text: &str, wanted: &Set<String>) -> String {
    let mut place = 0;
    for word in text.split(|letter: char| !letter.is_alphanumeric()) {
        if wanted.contains(&word.to_lowercase()) {
            break;
        }
        // The word and the one character that ended it.
        place += word.chars().count() + 1;
    }
    let length = text.chars().count();
    let start = if place >= length { 0 } else { place.saturating_sub(EXCERPT / 4) };
    text.chars().skip(start).take(EXCERPT).collect()
}
