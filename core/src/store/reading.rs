//! Pages of messages by other ways than their order: whose they are, when they were received, whom they mention. And
//! what is unread.

use rusqlite::{Row, params};

use super::db::{Db, int, uint};
use super::error::StoreError;
use super::operations::Entry;
use super::queries::{MessageRow, Page, message_row};
use super::space_rows::Unread;
use super::tx::Tx;
use crate::identity::{Author, LogId, Millis};
use crate::limits::MAX_UNREAD;
use crate::projector::Position;

/// A place in the order in which messages came to this device: where the next page goes on. Worth nothing elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arrival(pub i64);

/// The same among messages of one conversation by the time of their receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipted {
    /// When the server received it, milliseconds.
    pub at: i64,
    /// Among those of one time.
    pub arrival: Arrival,
}

/// When messages were received, by the server's clock. What no server has is of no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// At this time or later.
    pub since: Option<Millis>,
    /// Earlier than this.
    pub until: Option<Millis>,
}

impl Times {
    fn bounds(self) -> [Option<i64>; 2] {
        [self.since, self.until].map(|at| at.map(|at| int(at.0)))
    }
}

/// The columns of a message, and its entry after them.
macro_rules! message {
    ($rest:literal) => {
        concat!(
            "SELECT m.id, m.log, m.author, m.seq_num, m.pos, ifnull(m.edited_text, m.text), m.reply, m.mentions, \
             m.edit, m.edited_ms, m.deleted_by, m.sent_ms, m.received_ms, m.attachments, m.entry FROM ",
            $rest
        )
    };
}

// One author's messages stand in the order of their numbers.
const BY_BELOW: &str = message!(
    "operations o CROSS JOIN message m ON m.entry = o.entry
     WHERE o.author = ?3 AND o.log = ?1 AND o.seq_num < ?4
       AND (?5 IS NULL OR m.received_ms >= ?5) AND (?6 IS NULL OR m.received_ms < ?6)
     ORDER BY o.seq_num DESC LIMIT ?2"
);
const BY_ABOVE: &str = message!(
    "operations o CROSS JOIN message m ON m.entry = o.entry
     WHERE o.author = ?3 AND o.log = ?1 AND o.seq_num > ?4
       AND (?5 IS NULL OR m.received_ms >= ?5) AND (?6 IS NULL OR m.received_ms < ?6)
     ORDER BY o.seq_num LIMIT ?2"
);
/// The author's number at a position of the conversation.
const BY_BEFORE: &str = "SELECT m.seq_num FROM message m
     WHERE m.log = ?1 AND (m.pos, m.author, m.seq_num) < (?2, ?3, ?4) AND +m.author = ?5
     ORDER BY m.pos DESC, m.author DESC, m.seq_num DESC LIMIT 1";
const RECEIVED: &str = message!(
    "message m WHERE m.log = ?1 AND (m.received_ms, m.entry) > (?2, ?3) AND m.received_ms < ?4
     ORDER BY m.received_ms, m.entry LIMIT ?5"
);
const MENTIONS: &str = message!(
    "mention n CROSS JOIN message m ON m.entry = n.entry WHERE n.who = ?1 AND n.entry < ?2
     ORDER BY n.entry DESC LIMIT ?3"
);
const MENTIONS_IN: &str = message!(
    "mention n CROSS JOIN message m ON m.entry = n.entry WHERE n.who = ?1 AND n.log = ?4 AND n.entry < ?2
     ORDER BY n.entry DESC LIMIT ?3"
);
const UNREAD: &str = "SELECT count(*) FROM (SELECT 1 FROM message m
     WHERE m.log = ?1 AND (m.pos, m.author, m.seq_num) > (?2, ?3, ?4)
       AND ifnull(m.identity, m.author) <> ?5 AND m.text IS NOT NULL AND ?6 IS NOT NULL LIMIT ?7)";
/// Of the person, and of the device where it is another key: each message once.
const UNREAD_MENTIONS: &str = "SELECT count(*) FROM (
     SELECT 1 FROM mention n CROSS JOIN message m ON m.entry = n.entry
     WHERE n.who = ?5 AND n.log = ?1 AND (m.pos, m.author, m.seq_num) > (?2, ?3, ?4)
       AND ifnull(m.identity, m.author) <> ?5
     UNION ALL
     SELECT 1 FROM mention n CROSS JOIN message m ON m.entry = n.entry
     WHERE n.who = ?6 AND ?6 <> ?5 AND n.log = ?1 AND (m.pos, m.author, m.seq_num) > (?2, ?3, ?4)
       AND ifnull(m.identity, m.author) <> ?5
       AND NOT EXISTS (SELECT 1 FROM mention o WHERE o.entry = n.entry AND o.who = ?5)
     LIMIT ?7)";

impl Db {
    /// A page of at most `limit` messages of one author in a conversation, oldest first, tombstones included.
    pub fn messages_by(
        &self,
        log: &LogId,
        author: &Author,
        times: Times,
        page: Page,
        limit: usize,
    ) -> Result<Vec<MessageRow>, StoreError> {
        let [since, until] = times.bounds();
        let limit = int(limit as u64);
        let rows = |sql, number: i64| {
            self.all(sql, params![log.0, limit, author.0, number, since, until], message_row)
        };
        let mut rows = match page {
            Page::Newest => rows(BY_BELOW, i64::MAX)?,
            Page::Before(at) if at.author == *author => rows(BY_BELOW, i64::from(at.seq_num))?,
            Page::Before(at) => rows(BY_BELOW, self.number_before(log, author, at)? + 1)?,
            Page::After(at) if at.author == *author => return rows(BY_ABOVE, i64::from(at.seq_num)),
            Page::After(at) => return rows(BY_ABOVE, self.number_before(log, author, at)?),
        };
        rows.reverse();
        Ok(rows)
    }

    /// The number of an author's last message before somebody else's position; -1: there is none.
    fn number_before(&self, log: &LogId, author: &Author, at: Position) -> Result<i64, StoreError> {
        let params = params![log.0, at.place.to_bytes(), at.author.0, at.seq_num, author.0];
        Ok(self.one(BY_BEFORE, params, |row| row.get(0))?.unwrap_or(-1))
    }

    /// A page of at most `limit` messages of a conversation that were received in a time, in that order, and where the
    /// next page goes on. A server's clock may go back: this is not the order in which messages are shown.
    pub fn messages_received(
        &self,
        log: &LogId,
        times: Times,
        after: Option<Receipted>,
        limit: usize,
    ) -> Result<(Vec<MessageRow>, Option<Receipted>), StoreError> {
        let [since, until] = times.bounds();
        let first = Receipted { at: since.unwrap_or(0).saturating_sub(1), arrival: Arrival(i64::MAX) };
        let Receipted { at, arrival } = after.map_or(first, |after| after.max(first));
        let until = until.unwrap_or(i64::MAX);
        let rows = self.all(RECEIVED, params![log.0, at, arrival.0, until, int(limit as u64)], |row| {
            Ok((message_row(row)?, Receipted { at: row.get(12)?, arrival: arrived(row)? }))
        })?;
        let next = rows.last().map(|(_, place)| *place).filter(|_| rows.len() == limit);
        Ok((rows.into_iter().map(|(row, _)| row).collect(), next))
    }

    /// A page of at most `limit` messages that mention somebody, what came last to this device first, in one
    /// conversation or all.
    pub fn mentions(
        &self,
        who: &Author,
        log: Option<&LogId>,
        before: Option<Arrival>,
        limit: usize,
    ) -> Result<Vec<(Arrival, MessageRow)>, StoreError> {
        let (before, limit) = (before.map_or(i64::MAX, |before| before.0), int(limit as u64));
        let row = |row: &Row<'_>| Ok((arrived(row)?, message_row(row)?));
        match log {
            None => self.all(MENTIONS, params![who.0, before, limit], row),
            Some(log) => self.all(MENTIONS_IN, params![who.0, before, limit, log.0], row),
        }
    }

    /// What the person behind `reader` has not read of a conversation; at most [`MAX_UNREAD`] are counted.
    pub fn unread(&self, log: &LogId, reader: &Author) -> Result<Unread, StoreError> {
        let marker =
            self.one("SELECT pos, author, seq_num FROM read_marker WHERE log = ?1", [log.0], |row| {
                Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, [u8; 32]>(1)?, row.get::<_, i64>(2)?))
            })?;
        let (pos, author, seq_num) = marker.unwrap_or(([0; 16], [0; 32], -1));
        let person = self.person(log, reader)?;
        let count = |sql| {
            let params = params![log.0, pos, author, seq_num, person.0, reader.0, MAX_UNREAD];
            Ok::<_, StoreError>(uint(self.one(sql, params, |row| row.get(0))?.unwrap_or(0)))
        };
        Ok(Unread { messages: count(UNREAD)?, mentions: count(UNREAD_MENTIONS)? })
    }
}

impl Tx<'_> {
    /// Notes whom a message mentions. It is forgotten with the message, and when that becomes a tombstone.
    pub(super) fn put_mentions(
        &self,
        entry: Entry,
        log: &LogId,
        mentions: &[Author],
    ) -> Result<(), StoreError> {
        for who in mentions {
            self.run(
                "INSERT INTO mention (entry, who, log) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                params![entry.0, who.0, log.0],
            )?;
        }
        Ok(())
    }
}

fn arrived(row: &Row<'_>) -> rusqlite::Result<Arrival> {
    row.get(14).map(Arrival)
}
