//! What lies on the device, and how it goes: the bytes of each conversation, old content pruned, a conversation wiped.
//!
//! Pruning keeps headers: logs stay whole, and what is pruned is known when it comes again. Wiping keeps nothing but
//! where this device's own log ends: a device that opened the conversation again and began at zero would fork it.

use rusqlite::params;

use super::db::{Db, int, uint};
use super::error::StoreError;
use super::operations::Entry;
use super::tx::Tx;
use crate::identity::{Author, LogId, Millis, OperationId};
use crate::ops::{Body, Content};
use crate::topic::TopicId;

/// What `operations.erased` says of a pruned body: unlike other erased ones it does not come back.
pub(super) const PRUNED: i64 = 4;

/// What the database takes on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageUse {
    /// Length of the database file, its free pages included.
    pub file_bytes: u64,
    /// Of these, pages that hold nothing and are used before the file grows.
    pub free_bytes: u64,
    /// What each conversation holds, the largest first.
    pub logs: Vec<LogUse>,
}

/// What one conversation holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogUse {
    /// Which.
    pub log: LogId,
    /// The topic it was opened in first: its name for the app; `None` when it is not open here (any more).
    pub topic: Option<TopicId>,
    /// Operations stored.
    pub operations: u64,
    /// Bytes of their headers and bodies.
    pub bytes: u64,
}

/// How far a pruning has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PruneAt {
    /// First messages, then what was said about them.
    about: bool,
    author: Author,
    /// Everything up to this number was looked at.
    seq_num: u32,
}

/// What a step of a pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Bodies erased.
    pub bodies: u64,
    /// Messages that are gone.
    pub messages: Vec<OperationId>,
    /// Where to go on; `None`: done.
    pub next: Option<PruneAt>,
}

/// One operation as pruning sees it.
struct Row {
    entry: Entry,
    seq_num: u32,
    id: OperationId,
    received: Option<i64>,
    erased: i64,
    body: Option<Vec<u8>>,
}

impl Db {
    /// What lies on the device. Reads every operation's length: not for every frame of a screen.
    pub fn storage_use(&self) -> Result<StorageUse, StoreError> {
        let number = |sql: &str| self.pragma::<i64>(sql).map(uint);
        let page = number("PRAGMA page_size")?;
        let logs = self.all(
            "SELECT log, count(*), sum(length(header) + ifnull(length(body), 0)),
                 (SELECT topic FROM topic WHERE topic.log = operations.log ORDER BY added_ms, epoch, topic LIMIT 1)
             FROM operations GROUP BY log ORDER BY 3 DESC, 1",
            [],
            |row| {
                Ok(LogUse {
                    log: LogId(row.get(0)?),
                    operations: uint(row.get(1)?),
                    bytes: uint(row.get(2)?),
                    topic: row.get::<_, Option<[u8; 32]>>(3)?.map(TopicId),
                })
            },
        )?;
        let (file, free) = (number("PRAGMA page_count")?, number("PRAGMA freelist_count")?);
        Ok(StorageUse { file_bytes: file * page, free_bytes: free * page, logs })
    }
}

impl Tx<'_> {
    /// Erases messages of a conversation that a server received before an instant, with their edits, deletes and
    /// reactions. Looks at `limit` operations, then says where to go on. What no server has acknowledged stays, and so
    /// does what is no conversation (profiles, members, keys, documents) and what was said about a message that is not here yet.
    pub fn prune(
        &self,
        log: &LogId,
        before: Millis,
        at: Option<PruneAt>,
        limit: usize,
    ) -> Result<Pruned, StoreError> {
        self.write_heads()?;
        let mut pruned = Pruned::default();
        let mut left = limit;
        for about in [false, true] {
            if at.is_some_and(|at| at.about && !about) {
                continue;
            }
            let at = at.filter(|at| at.about == about);
            for head in self.log_heads(log)? {
                let author = head.author;
                if at.is_some_and(|at| author < at.author) {
                    continue;
                }
                let mut after = at.filter(|at| at.author == author).map_or(-1, |at| i64::from(at.seq_num));
                loop {
                    let rows = self.prunable(&author, log, after, left)?;
                    let Some(last) = rows.last() else { break };
                    let seq_num = last.seq_num;
                    after = i64::from(seq_num);
                    left = left.saturating_sub(rows.len());
                    for row in rows {
                        self.prune_row(&author, log, before, about, &row, &mut pruned)?;
                    }
                    if left == 0 {
                        pruned.next = Some(PruneAt { about, author, seq_num });
                        return Ok(pruned);
                    }
                }
            }
        }
        Ok(pruned)
    }

    fn prunable(
        &self,
        author: &Author,
        log: &LogId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.all(
            "SELECT entry, seq_num, hash, received_ms, erased, body FROM operations
             WHERE author = ?1 AND log = ?2 AND seq_num > ?3 ORDER BY seq_num LIMIT ?4",
            params![author.0, log.0, after, int(limit as u64)],
            |row| {
                Ok(Row {
                    entry: Entry(row.get(0)?),
                    seq_num: row.get(1)?,
                    id: OperationId(row.get(2)?),
                    received: row.get(3)?,
                    erased: row.get(4)?,
                    body: row.get(5)?,
                })
            },
        )
    }

    fn prune_row(
        &self,
        author: &Author,
        log: &LogId,
        before: Millis,
        about: bool,
        row: &Row,
        pruned: &mut Pruned,
    ) -> Result<(), StoreError> {
        let old = row.received.is_some_and(|at| at < int(before.0));
        let content = row.body.as_deref().and_then(|body| Body::decode(body).ok()).map(|body| body.content);
        match (about, content) {
            // A message, or the tombstone of one.
            (false, Some(Content::MessageSend { .. })) if old => {}
            (false, None) if old && row.erased == 1 => {}
            (true, Some(Content::MessageEdit { target, .. })) if self.is_gone(&target)? => {
                self.run(
                    "DELETE FROM message_edit WHERE target = ?1 AND author = ?2 AND log = ?3 AND seq_num = ?4",
                    params![target.0, author.0, log.0, row.seq_num],
                )?;
            }
            (true, Some(Content::MessageDelete { target })) if self.is_gone(&target)? => {
                self.run(
                    "DELETE FROM message_delete WHERE target = ?1 AND author = ?2 AND log = ?3 AND seq_num = ?4",
                    params![target.0, author.0, log.0, row.seq_num],
                )?;
            }
            (true, Some(Content::ReactionAdd { target, .. } | Content::ReactionRemove { target, .. }))
                if self.is_gone(&target)? =>
            {
                self.run(
                    "DELETE FROM reaction WHERE target = ?1 AND author = ?2 AND log = ?3 AND seq_num = ?4",
                    params![target.0, author.0, log.0, row.seq_num],
                )?;
            }
            _ => return Ok(()),
        }
        self.run("UPDATE operations SET body = NULL, erased = ?2 WHERE entry = ?1", [row.entry.0, PRUNED])?;
        if self.run("DELETE FROM message WHERE entry = ?1", [row.entry.0])? > 0 {
            self.drop_attachments(row.entry)?;
            pruned.messages.push(row.id);
        }
        pruned.bodies += 1;
        Ok(())
    }

    /// Whether the message that something was said about was pruned. One that has not come yet may still come: it must
    /// find its edits and, above all, its delete.
    fn is_gone(&self, target: &OperationId) -> Result<bool, StoreError> {
        let erased = self.one(
            "SELECT erased FROM operations WHERE substr(hash, 1, 8) = substr(?1, 1, 8) AND hash = ?1",
            [target.0],
            |row| row.get::<_, i64>(0),
        )?;
        Ok(erased == Some(PRUNED))
    }

    /// Removes conversations from this device, with their topics, keys and everything stored. Gives the topics.
    ///
    /// Of this device's own logs the last operation's header stays: should the conversation be opened again, its
    /// numbers go on after it. What never left the device is taken back first.
    pub fn wipe_logs(&self, own: &Author, logs: &[LogId]) -> Result<Vec<TopicId>, StoreError> {
        let mut wiped = Vec::new();
        for log in logs {
            // First: with what was never sent goes what it says of blobs.
            self.drop_attachments_of(log)?;
            self.forget_unsent(Some(log))?;
            self.write_heads()?;
            let topics: Vec<TopicId> =
                self.topics_of_log(*log)?.into_iter().map(|(_, topic)| topic).collect();
            let own_head = "author = ?2 AND seq_num =
                (SELECT seq_num FROM heads WHERE heads.author = ?2 AND heads.log = ?1)";
            self.run(&format!("DELETE FROM operations WHERE log = ?1 AND NOT ({own_head})"), [log.0, own.0])?;
            self.run(
                "UPDATE operations SET body = NULL, erased = 3, first = NULL, place = NULL, received_ms = NULL,
                     pos = zeroblob(16) WHERE log = ?1",
                [log.0],
            )?;
            self.run("DELETE FROM heads WHERE log = ?1 AND author <> ?2", [log.0, own.0])?;
            self.run("UPDATE heads SET pos = zeroblob(16) WHERE log = ?1", [log.0])?;
            for (table, column) in self.keyed_tables()? {
                let delete = format!("DELETE FROM {table} WHERE {column} = ?1");
                match column.as_str() {
                    "topic" => topics.iter().try_for_each(|topic| self.run(&delete, [topic.0]).map(drop))?,
                    _ => drop(self.run(&delete, [log.0])?),
                }
            }
            self.recount_holes(own, log)?;
            self.forget_log(log);
            wiped.extend(topics);
        }
        self.forget_spaces(logs);
        Ok(wiped)
    }

    /// Removes a topic from this device with all that is kept of it, and of its log nothing else.
    pub(crate) fn wipe_topic(&self, topic: TopicId) -> Result<(), StoreError> {
        for (table, _) in self.keyed_tables()?.into_iter().filter(|(_, column)| column == "topic") {
            self.run(&format!("DELETE FROM {table} WHERE topic = ?1"), [topic.0])?;
        }
        Ok(())
    }

    /// Every table of which rows belong to a conversation, with the column that says to which: whatever migrations add
    /// is wiped with the rest.
    fn keyed_tables(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.all(
            "SELECT tables.name, columns.name FROM sqlite_schema tables JOIN pragma_table_info(tables.name) columns
             WHERE tables.type = 'table' AND columns.name IN ('topic', 'log', 'space')
               AND tables.name NOT IN ('operations', 'heads')
             ORDER BY tables.name, columns.name",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
    }
}
