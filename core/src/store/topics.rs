//! Topics this device has opened, where it stands in each, and what it misses of them.

use rusqlite::{Row, params};
use zeroize::Zeroizing;

use super::db::{Db, int, uint};
use super::error::{LimitReached, StoreError};
use super::secrets::Column;
use super::tx::Tx;
use crate::identity::{LogId, Millis, OperationId};
use crate::limits::MAX_TOPICS;
use crate::ops::Ticket;
use crate::sync::session::Cursor;
use crate::topic::{Chain, Generation, Seq, SignedHead, TopicId};

/// A topic this device has opened.
#[derive(Clone, Debug)]
pub struct TopicRow {
    /// Where the conversation lives.
    pub topic: TopicId,
    /// What opens it: log id, epoch and keys.
    pub ticket: Ticket,
    /// Whether the app follows it.
    pub subscribed: bool,
    /// When it was opened, by this device's clock.
    pub added: Millis,
    /// Whether the conversation was thought to live there, and does not.
    pub astray: bool,
    /// Where this device stands in its log; `None` before the first connection.
    pub cursor: Option<Cursor>,
}

/// Seqs `from..=to` of a topic, as counted after `resets` resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeqRange {
    /// This device's resets of the topic when it was noted.
    pub resets: u32,
    /// First seq.
    pub from: Seq,
    /// Last seq.
    pub to: Seq,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT topic.topic, ticket, subscribed, added_ms, generation, resets, seq, chain, astray \
             FROM topic LEFT JOIN topic_seq ON topic_seq.topic = topic.topic ",
            $rest
        )
    };
}

impl Db {
    /// One topic; `None`, too, where its key is kept no longer.
    pub fn topic(&self, topic: TopicId) -> Result<Option<TopicRow>, StoreError> {
        let row = self.one(select!("WHERE topic.topic = ?1 AND ticket <> x''"), [topic.0], topic_row)?;
        row.map(|row| self.parse_ticket(row)).transpose()
    }

    /// All topics that are open, by id: not those that ended and are retired, and not those in which blobs are sent or
    /// fetched.
    pub fn topics(&self) -> Result<Vec<TopicRow>, StoreError> {
        let mut rows = self.open_topics()?;
        let carriers = self.blob_carriers()?;
        rows.retain(|row| carriers.iter().all(|(carrier, _)| *carrier != row.topic));
        Ok(rows)
    }

    /// The same with those of blobs.
    pub(crate) fn open_topics(&self) -> Result<Vec<TopicRow>, StoreError> {
        let rows = self.all(select!("WHERE retired_ms IS NULL ORDER BY topic.topic"), [], topic_row)?;
        rows.into_iter().map(|row| self.parse_ticket(row)).collect()
    }

    fn parse_ticket(&self, row: RawTopic) -> Result<TopicRow, StoreError> {
        let RawTopic { topic, ticket, subscribed, added, astray, cursor } = row;
        let ticket = self.unseal(Column::Ticket, &topic.0, ticket)?;
        let parsed = std::str::from_utf8(&ticket).ok().and_then(|text| Ticket::parse_own(text).ok());
        let Some(ticket) = parsed.filter(|ticket| ticket.topic() == topic) else {
            let detail = format!("the ticket of topic {topic} does not parse");
            return Err(StoreError::Corrupt { path: self.file().path(), detail });
        };
        Ok(TopicRow { topic, ticket, subscribed, added, astray, cursor })
    }

    /// The topics of a log, oldest epoch first: also those that it was only thought to live in.
    pub fn topics_of_log(&self, log: LogId) -> Result<Vec<(u32, TopicId)>, StoreError> {
        self.all("SELECT epoch, topic FROM topic WHERE log = ?1 ORDER BY epoch, topic", [log.0], |row| {
            Ok((row.get(0)?, TopicId(row.get(1)?)))
        })
    }

    /// The topic by which this device knows a conversation, wherever it lives now: the one it was opened in first.
    pub fn known_as(&self, log: LogId) -> Result<Option<TopicId>, StoreError> {
        self.one(
            "SELECT topic FROM topic WHERE log = ?1 ORDER BY added_ms, epoch, topic LIMIT 1",
            [log.0],
            |row| row.get(0).map(TopicId),
        )
    }

    /// Where the conversation of a topic lives now, as far as this device has the keys: the topic itself, or the one it moved to.
    pub fn living_in(&self, topic: TopicId) -> Result<TopicId, StoreError> {
        let newest = self.one(
            "SELECT newer.topic FROM topic AS this JOIN topic AS newer ON newer.log = this.log
             WHERE this.topic = ?1 AND newer.retired_ms IS NULL AND NOT newer.astray
             ORDER BY newer.epoch DESC, newer.topic DESC LIMIT 1",
            [topic.0],
            |row| row.get(0).map(TopicId),
        )?;
        Ok(newest.unwrap_or(topic))
    }

    /// Where this device stands in a topic; `None` before its first connection.
    pub fn cursor(&self, topic: TopicId) -> Result<Option<Cursor>, StoreError> {
        self.one("SELECT generation, resets, seq, chain FROM topic_seq WHERE topic = ?1", [topic.0], |row| {
            cursor_row(row, 0)
        })
    }

    /// The last head of a topic whose signature was checked: what devices compare.
    pub fn signed_head(&self, topic: TopicId) -> Result<Option<SignedHead>, StoreError> {
        self.one(
            "SELECT head_seq, head_chain, head_sig FROM topic_seq WHERE topic = ?1 AND head_seq IS NOT NULL",
            [topic.0],
            |row| {
                let (head, chain) = (Seq(uint(row.get(0)?)), Chain(row.get(1)?));
                Ok(SignedHead { head, chain, signature: row.get(2)? })
            },
        )
    }

    /// What was evicted before this device could read it.
    pub fn gaps(&self, topic: TopicId) -> Result<Vec<SeqRange>, StoreError> {
        self.all(
            "SELECT resets, from_seq, to_seq FROM gap WHERE topic = ?1 ORDER BY resets, from_seq",
            [topic.0],
            range_row,
        )
    }

    /// What was received but must be read again from history, with the generation it was counted in.
    pub fn refetches(&self, topic: TopicId) -> Result<Vec<(Generation, SeqRange)>, StoreError> {
        self.all(
            "SELECT resets, from_seq, to_seq, generation FROM refetch WHERE topic = ?1
             ORDER BY resets, from_seq",
            [topic.0],
            |row| Ok((Generation(row.get(3)?), range_row(row)?)),
        )
    }

    /// Topics of which something is to be read again.
    pub(crate) fn topics_to_refetch(&self) -> Result<Vec<TopicId>, StoreError> {
        self.all("SELECT DISTINCT topic FROM refetch", [], |row| row.get(0).map(TopicId))
    }

    /// The first range above `after` that is to be read again from the copy after `resets` resets.
    pub fn next_refetch(
        &self,
        topic: TopicId,
        generation: &Generation,
        resets: u32,
        after: Seq,
    ) -> Result<Option<SeqRange>, StoreError> {
        self.one(
            "SELECT resets, max(from_seq, ?4 + 1), to_seq FROM refetch
             WHERE topic = ?1 AND resets = ?2 AND generation = ?3 AND to_seq > ?4 ORDER BY from_seq LIMIT 1",
            params![topic.0, resets, generation.0, int(after.0)],
            range_row,
        )
    }

    /// What was dropped in a topic, by reason.
    pub fn dropped(&self, topic: TopicId) -> Result<Vec<(String, u64)>, StoreError> {
        self.all("SELECT reason, count FROM dropped WHERE topic = ?1 ORDER BY reason", [topic.0], |row| {
            Ok((row.get(0)?, uint(row.get(1)?)))
        })
    }

    /// The seed of the key readers of a topic must prove, if the app gave it. A secret.
    pub fn read_key(&self, topic: TopicId) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError> {
        let key = self.one("SELECT read_key FROM topic WHERE topic = ?1", [topic.0], |row| {
            row.get::<_, Option<Vec<u8>>>(0)
        })?;
        let Some(stored) = key.flatten() else { return Ok(None) };
        self.unseal_array(Column::ReadKey, &topic.0, stored).map(Some)
    }

    /// A value kept under a name.
    pub fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.one("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0))
    }

    /// The operation an earlier publish with this key made.
    pub fn idempotent(&self, key: &[u8]) -> Result<Option<OperationId>, StoreError> {
        self.one("SELECT operation FROM idempotency WHERE key = ?1", [key], |row| {
            Ok(OperationId(row.get(0)?))
        })
    }
}

impl Tx<'_> {
    /// Adds a topic, or replaces its ticket (a read-only one by one that can write).
    ///
    /// # Errors
    /// [`LimitReached::Topics`] past [`MAX_TOPICS`].
    pub fn put_topic(&self, ticket: &Ticket, now: Millis) -> Result<(), StoreError> {
        let topic = ticket.topic();
        let count: i64 = self
            .one("SELECT count(*) FROM topic WHERE topic <> ?1 AND retired_ms IS NULL", [topic.0], |row| {
                row.get(0)
            })?
            .unwrap_or(0);
        if uint(count) >= MAX_TOPICS as u64 {
            return Err(LimitReached::Topics.into());
        }
        let text = Zeroizing::new(ticket.to_string());
        let sealed = self.seal(Column::Ticket, &topic.0, text.as_bytes())?;
        self.run(
            "INSERT INTO topic (topic, log, epoch, ticket, subscribed, added_ms) VALUES (?1, ?2, ?3, ?4, 0, ?5)
             ON CONFLICT (topic) DO UPDATE SET ticket = excluded.ticket",
            params![topic.0, ticket.log().0, ticket.epoch(), sealed, int(now.0)],
        )
        .map(drop)
    }

    /// Keeps, or forgets, the seed of the key readers of a topic must prove.
    pub fn set_read_key(&self, topic: TopicId, key: Option<&[u8; 32]>) -> Result<(), StoreError> {
        let sealed = key.map(|key| self.seal(Column::ReadKey, &topic.0, key)).transpose()?;
        self.run("UPDATE topic SET read_key = ?2 WHERE topic = ?1", params![topic.0, sealed]).map(drop)
    }

    /// The counter of the next control message of a topic: above all that were made here, and at least `least`.
    pub fn next_control(&self, topic: TopicId, least: u64) -> Result<u64, StoreError> {
        let counter = self.one(
            "UPDATE topic SET control = max(control + 1, ?2) WHERE topic = ?1 RETURNING control",
            params![topic.0, int(least)],
            |row| row.get(0),
        )?;
        counter.map(uint).ok_or_else(|| self.missing_row("topic"))
    }

    /// Notes whether a conversation was only thought to live in a topic.
    pub fn set_astray(&self, topic: TopicId, astray: bool) -> Result<(), StoreError> {
        self.run("UPDATE topic SET astray = ?2 WHERE topic = ?1", params![topic.0, astray]).map(drop)
    }

    /// Notes whether the app follows a topic.
    pub fn set_subscribed(&self, topic: TopicId, subscribed: bool) -> Result<(), StoreError> {
        self.run("UPDATE topic SET subscribed = ?2 WHERE topic = ?1", params![topic.0, subscribed]).map(drop)
    }

    /// Saves the cursor of a topic. A head checked in another generation is forgotten.
    pub fn set_cursor(&self, topic: TopicId, cursor: &Cursor) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO topic_seq (topic, generation, resets, seq, chain) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (topic) DO UPDATE SET
                 head_seq = iif(generation = excluded.generation, head_seq, NULL),
                 head_chain = iif(generation = excluded.generation, head_chain, NULL),
                 head_sig = iif(generation = excluded.generation, head_sig, NULL),
                 generation = excluded.generation, resets = excluded.resets, seq = excluded.seq,
                 chain = excluded.chain",
            params![topic.0, cursor.generation.0, cursor.resets, int(cursor.seq.0), cursor.chain.0],
        )
        .map(drop)
    }

    /// Keeps a head whose signature was checked, counted in `cursor`'s generation.
    pub fn set_head(&self, topic: TopicId, cursor: &Cursor, head: &SignedHead) -> Result<(), StoreError> {
        self.set_cursor(topic, cursor)?;
        self.run(
            "UPDATE topic_seq SET head_seq = ?2, head_chain = ?3, head_sig = ?4 WHERE topic = ?1",
            params![topic.0, int(head.head.0), head.chain.0, head.signature],
        )
        .map(drop)
    }

    /// Notes that a range was evicted before this device could read it.
    pub fn add_gap(&self, topic: TopicId, resets: u32, from: Seq, to: Seq) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO gap (topic, resets, from_seq, to_seq) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (topic, resets, from_seq) DO UPDATE SET to_seq = max(to_seq, excluded.to_seq)",
            params![topic.0, resets, int(from.0), int(to.0)],
        )
        .map(drop)
    }

    /// Notes that a range must be read again; it joins a range that ends right before it.
    pub fn add_refetch(
        &self,
        topic: TopicId,
        generation: Generation,
        range: SeqRange,
    ) -> Result<(), StoreError> {
        let (from, to) = (int(range.from.0), int(range.to.0));
        let joined = self.run(
            "UPDATE refetch SET to_seq = max(to_seq, ?5)
             WHERE topic = ?1 AND resets = ?2 AND generation = ?3 AND from_seq =
                 (SELECT max(from_seq) FROM refetch WHERE topic = ?1 AND resets = ?2 AND from_seq <= ?4)
                 AND to_seq >= ?4 - 1",
            params![topic.0, range.resets, generation.0, from, to],
        )?;
        if joined == 0 {
            self.run(
                "INSERT INTO refetch (topic, resets, from_seq, to_seq, generation) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (topic, resets, from_seq) DO UPDATE SET to_seq = max(to_seq, excluded.to_seq)",
                params![topic.0, range.resets, from, to, generation.0],
            )?;
        }
        Ok(())
    }

    /// Forgets a range that was read again; what lies beside it stays.
    pub fn remove_refetch(&self, topic: TopicId, range: SeqRange) -> Result<(), StoreError> {
        let params = params![topic.0, range.resets, int(range.from.0), int(range.to.0)];
        let (first, last): (Option<_>, Option<_>) = (
            self.one(
                "SELECT generation, from_seq, to_seq FROM refetch
                 WHERE topic = ?1 AND resets = ?2 AND from_seq < ?3 AND to_seq >= ?3 AND ?3 <= ?4",
                params,
                refetch_row,
            )?,
            self.one(
                "SELECT generation, from_seq, to_seq FROM refetch
                 WHERE topic = ?1 AND resets = ?2 AND from_seq <= ?4 AND to_seq > ?4 AND ?3 <= ?4",
                params,
                refetch_row,
            )?,
        );
        self.run(
            "DELETE FROM refetch WHERE topic = ?1 AND resets = ?2 AND from_seq <= ?4 AND to_seq >= ?3",
            params,
        )?;
        if let Some((generation, from, _)) = first {
            let to = range.from.previous();
            self.add_refetch(topic, generation, SeqRange { resets: range.resets, from, to })?;
        }
        if let Some((generation, _, to)) = last {
            let from = Seq(range.to.0.saturating_add(1));
            self.add_refetch(topic, generation, SeqRange { resets: range.resets, from, to })?;
        }
        Ok(())
    }

    /// Forgets what was to be read again from copies before this many resets: the copy at hand is read whole.
    pub fn remove_old_refetches(&self, topic: TopicId, resets: u32) -> Result<(), StoreError> {
        self.run("DELETE FROM refetch WHERE topic = ?1 AND resets < ?2", params![topic.0, resets]).map(drop)
    }

    /// Counts something dropped in a topic.
    pub fn count_dropped(&self, topic: TopicId, reason: &str) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO dropped (topic, reason, count) VALUES (?1, ?2, 1)
             ON CONFLICT (topic, reason) DO UPDATE SET count = count + 1",
            params![topic.0, reason],
        )
        .map(drop)
    }

    /// Keeps a value under a name.
    pub fn set_setting(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO setting (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            params![name, value],
        )
        .map(drop)
    }

    /// Remembers which operation a publish with this key made.
    pub fn remember_idempotent(
        &self,
        key: &[u8],
        operation: &OperationId,
        now: Millis,
    ) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO idempotency (key, operation, added_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![key, operation.0, int(now.0)],
        )
        .map(drop)
    }
}

struct RawTopic {
    topic: TopicId,
    ticket: Zeroizing<Vec<u8>>,
    subscribed: bool,
    added: Millis,
    astray: bool,
    cursor: Option<Cursor>,
}

fn topic_row(row: &Row<'_>) -> rusqlite::Result<RawTopic> {
    let cursor = match row.get::<_, Option<i64>>(5)? {
        Some(_) => Some(cursor_row(row, 4)?),
        None => None,
    };
    Ok(RawTopic {
        topic: TopicId(row.get(0)?),
        ticket: Zeroizing::new(row.get(1)?),
        subscribed: row.get(2)?,
        added: Millis(uint(row.get(3)?)),
        astray: row.get(8)?,
        cursor,
    })
}

fn cursor_row(row: &Row<'_>, first: usize) -> rusqlite::Result<Cursor> {
    Ok(Cursor {
        generation: Generation(row.get(first)?),
        resets: row.get(first + 1)?,
        seq: Seq(uint(row.get(first + 2)?)),
        chain: Chain(row.get(first + 3)?),
    })
}

fn refetch_row(row: &Row<'_>) -> rusqlite::Result<(Generation, Seq, Seq)> {
    Ok((Generation(row.get(0)?), Seq(uint(row.get(1)?)), Seq(uint(row.get(2)?))))
}

fn range_row(row: &Row<'_>) -> rusqlite::Result<SeqRange> {
    Ok(SeqRange { resets: row.get(0)?, from: Seq(uint(row.get(1)?)), to: Seq(uint(row.get(2)?)) })
}
