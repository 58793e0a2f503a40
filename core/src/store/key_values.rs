//! The values of keys: every version that was written, what was replaced by name, and what stands now.

use std::fmt;

use rusqlite::{Row, params};

use super::db::{Db, int, uint};
use super::error::StoreError;
use super::operations::Entry;
use super::tx::Tx;
use crate::identity::{Author, LogId, OperationId};
use crate::ops::{Body, Content, HybridTime, KeyValue, ValueKey};
use crate::projector::Fact;

/// The value that stands for a key.
#[derive(Clone, PartialEq, Eq)]
pub struct ValueRow {
    /// Of which key.
    pub at: ValueKey,
    /// The value.
    pub value: Vec<u8>,
    /// Who wrote it.
    pub author: Author,
    /// The operation.
    pub id: OperationId,
    /// Its time: what decided that it stands. Its milliseconds are the writer's clock as a rule, not always.
    pub time: HybridTime,
}

/// Names the operation and shows nothing of its content.
impl fmt::Debug for ValueRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueRow").field("id", &self.id).field("time", &self.time).finish_non_exhaustive()
    }
}

/// Which keys of a collection to read, in the order of their bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ValuePage {
    /// Only those that begin so.
    pub prefix: String,
    /// Only those after this one.
    pub after: Option<String>,
}

impl fmt::Debug for ValuePage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValuePage").finish_non_exhaustive()
    }
}

/// Written to a key and not replaced, highest first.
const STANDING: &str = "SELECT v.time, v.id, v.entry, v.author, v.deleted FROM kv_version v
     WHERE v.log = ?1 AND v.collection = ?2 AND v.key = ?3 AND NOT EXISTS (SELECT 1 FROM kv_replaced r
         WHERE r.log = v.log AND r.collection = v.collection AND r.key = v.key AND r.id = v.id)
     ORDER BY v.time DESC, v.id DESC LIMIT ?4";

impl Db {
    /// The value of a key.
    pub fn value(&self, log: &LogId, at: &ValueKey) -> Result<Option<ValueRow>, StoreError> {
        self.one(
            "SELECT collection, key, value, author, id, time FROM kv
             WHERE log = ?1 AND collection = ?2 AND key = ?3",
            params![log.0, at.collection, at.key],
            value_row,
        )
    }

    /// A page of at most `limit` values of a collection, by key.
    pub fn values(
        &self,
        log: &LogId,
        collection: &str,
        page: &ValuePage,
        limit: usize,
    ) -> Result<Vec<ValueRow>, StoreError> {
        let ValuePage { prefix, after } = page;
        let params = params![log.0, collection, prefix, after.as_deref().unwrap_or(""), int(limit as u64)];
        let rows = self.all(
            "SELECT collection, key, value, author, id, time FROM kv
             WHERE log = ?1 AND collection = ?2 AND key >= max(?3, ?4) AND key <> ?4 ORDER BY key LIMIT ?5",
            params,
            value_row,
        )?;
        // Keys with one prefix stand together.
        Ok(rows.into_iter().take_while(|row| row.at.key.starts_with(prefix)).collect())
    }

    /// What was written to a key and not replaced, deletes included, highest first, at most `limit`.
    pub(crate) fn standing_values(
        &self,
        log: &LogId,
        at: &ValueKey,
        limit: usize,
    ) -> Result<Vec<(HybridTime, OperationId)>, StoreError> {
        self.all(STANDING, params![log.0, at.collection, at.key, int(limit as u64)], |row| {
            Ok((time(row, 0)?, OperationId(row.get(1)?)))
        })
    }

    pub(super) fn was_replaced(
        &self,
        log: &LogId,
        at: &ValueKey,
        id: &OperationId,
    ) -> Result<bool, StoreError> {
        let found = self.one(
            "SELECT 1 FROM kv_replaced WHERE log = ?1 AND collection = ?2 AND key = ?3 AND id = ?4 LIMIT 1",
            params![log.0, at.collection, at.key, id.0],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// Every key that an author wrote to in a log.
    pub(super) fn keys_of(&self, author: &Author, log: &LogId) -> Result<Vec<ValueKey>, StoreError> {
        self.all(
            "SELECT DISTINCT collection, key FROM kv_version WHERE author = ?1 AND log = ?2",
            [author.0, log.0],
            |row| Ok(ValueKey { collection: row.get(0)?, key: row.get(1)? }),
        )
    }
}

impl Tx<'_> {
    pub(super) fn put_version(
        &self,
        entry: Entry,
        fact: &Fact<'_>,
        write: &KeyValue,
    ) -> Result<(), StoreError> {
        let (log, at, author) = (fact.log.0, &write.at, fact.author.0);
        self.run(
            "INSERT INTO kv_version (log, collection, key, time, id, entry, author, deleted)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
            params![
                log,
                at.collection,
                at.key,
                int(write.time.number()),
                fact.id.0,
                entry.0,
                author,
                write.value.is_none()
            ],
        )?;
        for replaced in &write.replaces {
            self.run(
                "INSERT INTO kv_replaced (log, collection, key, id, replaced_by, author)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
                params![log, at.collection, at.key, replaced.0, fact.id.0, author],
            )?;
        }
        Ok(())
    }

    /// Writes down what stands for a key now. `said`: the operation that is at hand, and likely to be it.
    pub(super) fn settle_value(
        &self,
        log: &LogId,
        at: &ValueKey,
        said: Option<(OperationId, &KeyValue)>,
    ) -> Result<(), StoreError> {
        let standing = self.one(STANDING, params![log.0, at.collection, at.key, 1], |row| {
            let (id, entry) = (OperationId(row.get(1)?), row.get(2)?);
            Ok((time(row, 0)?, id, Entry(entry), Author(row.get(3)?), row.get::<_, bool>(4)?))
        })?;
        let Some((time, id, entry, author, false)) = standing else {
            let key = params![log.0, at.collection, at.key];
            return self.run("DELETE FROM kv WHERE log = ?1 AND collection = ?2 AND key = ?3", key).map(drop);
        };
        let stored;
        let value = match said {
            Some((said, write)) if said == id => write.value.as_deref(),
            _ => {
                stored = self.written_value(entry)?;
                stored.as_deref()
            }
        };
        self.run(
            "INSERT INTO kv (log, collection, key, time, id, author, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (log, collection, key) DO UPDATE SET time = excluded.time, id = excluded.id,
                 author = excluded.author, value = excluded.value",
            params![
                log.0,
                at.collection,
                at.key,
                int(time.number()),
                id.0,
                author.0,
                value.ok_or_else(|| self.missing_row("operations"))?
            ],
        )
        .map(drop)
    }

    /// What an operation wrote to its key.
    fn written_value(&self, entry: Entry) -> Result<Option<Vec<u8>>, StoreError> {
        let body = self.one("SELECT body FROM operations WHERE entry = ?1", [entry.0], |row| {
            row.get::<_, Option<Vec<u8>>>(0)
        })?;
        Ok(match body.flatten().as_deref().map(Body::decode) {
            Some(Ok(Body { content: Content::KeyValue(write), .. })) => write.value,
            _ => None,
        })
    }

    /// Forgets what an author wrote to keys of a log; gives the keys of which something else may stand now.
    pub(super) fn forget_versions(&self, author: &Author, log: &LogId) -> Result<Vec<ValueKey>, StoreError> {
        let keys = self.keys_of(author, log)?;
        for table in ["kv_version", "kv_replaced"] {
            self.run(&format!("DELETE FROM {table} WHERE author = ?1 AND log = ?2"), [author.0, log.0])?;
        }
        Ok(keys)
    }

    /// Before everything is projected anew.
    pub(super) fn forget_values(&self) -> Result<(), StoreError> {
        for table in ["kv", "kv_version", "kv_replaced"] {
            self.run(&format!("DELETE FROM {table}"), [])?;
        }
        Ok(())
    }
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<HybridTime> {
    Ok(HybridTime::from_number(uint(row.get(column)?)).unwrap_or(HybridTime::MAX))
}

fn value_row(row: &Row<'_>) -> rusqlite::Result<ValueRow> {
    Ok(ValueRow {
        at: ValueKey { collection: row.get(0)?, key: row.get(1)? },
        value: row.get(2)?,
        author: Author(row.get(3)?),
        id: OperationId(row.get(4)?),
        time: time(row, 5)?,
    })
}
