//! What an app reads: pages of messages, reactions, profiles.

use std::fmt;

use rusqlite::{Row, params};

use super::blobs::{Attachment, read_attachments};
use super::db::{Db, int, millis};
use super::error::StoreError;
use crate::identity::{Author, Identity, LogId, Millis, OperationId};
use crate::ops::BlobId;
use crate::projector::{Place, Position};

/// A message as it stands: the newest edit applied, or a tombstone.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageRow {
    /// The operation that sent it.
    pub id: OperationId,
    /// In which conversation.
    pub log: LogId,
    /// Where it is shown; also says who sent it.
    pub position: Position,
    /// Its text; `None` for a tombstone.
    pub text: Option<String>,
    /// The message it answers.
    pub reply: Option<OperationId>,
    /// Whom it mentions.
    pub mentions: Vec<Author>,
    /// What it brings along.
    pub attachments: Vec<Attachment>,
    /// The edit that stands.
    pub edit: Option<OperationId>,
    /// When that edit was made, by its sender's clock.
    pub edited_at: Option<Millis>,
    /// The delete that made it a tombstone.
    pub deleted_by: Option<OperationId>,
    /// When it was sent, by the sender's clock. Shown, never sorted on.
    pub sent_at: Option<Millis>,
    /// When a server received it, by the server's clock; `None` until acknowledged.
    pub received_at: Option<Millis>,
}

impl MessageRow {
    /// Who sent it.
    pub fn author(&self) -> Author {
        self.position.author
    }

    /// Whether a server has taken it (and everything its author wrote before it).
    pub fn is_acknowledged(&self) -> bool {
        self.position.place.is_placed()
    }
}

/// Names the message and shows nothing of its content.
impl fmt::Debug for MessageRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageRow")
            .field("id", &self.id)
            .field("position", &self.position)
            .field("edit", &self.edit)
            .field("deleted_by", &self.deleted_by)
            .finish_non_exhaustive()
    }
}

/// Which messages of a conversation to read. The page itself is always oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The newest.
    Newest,
    /// The newest before a position.
    Before(Position),
    /// The oldest after a position.
    After(Position),
}

/// One text of a message, as sent or as edited.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageEdit {
    /// The operation.
    pub id: OperationId,
    /// Its number in its device's log.
    pub seq_num: u32,
    /// The text.
    pub text: String,
    /// The sender's clock.
    pub sent_at: Option<Millis>,
}

impl fmt::Debug for MessageEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageEdit").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A reaction that stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReactionRow {
    /// The message.
    pub message: OperationId,
    /// What.
    pub emoji: String,
    /// The device that added it.
    pub author: Author,
    /// Whose: one reaction of a kind from each person.
    pub identity: Identity,
    /// The operation that added it.
    pub id: OperationId,
}

impl fmt::Debug for ReactionRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReactionRow").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A profile.
#[derive(Clone, PartialEq, Eq)]
pub struct ProfileRow {
    /// Whose.
    pub author: Author,
    /// In which conversation it was set.
    pub log: LogId,
    /// The operation that set it.
    pub id: OperationId,
    /// Display name.
    pub name: String,
    /// About the author.
    pub bio: Option<String>,
    /// Picture.
    pub avatar: Option<BlobId>,
    /// Free text such as "away".
    pub availability: Option<String>,
    /// Whether strangers may read it.
    pub public: bool,
}

impl fmt::Debug for ProfileRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProfileRow")
            .field("author", &self.author)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

macro_rules! message {
    ($rest:literal) => {
        concat!(
            "SELECT m.id, m.log, m.author, m.seq_num, m.pos, ifnull(m.edited_text, m.text), m.reply, m.mentions, \
             m.edit, m.edited_ms, m.deleted_by, m.sent_ms, m.received_ms, m.attachments FROM ",
            $rest
        )
    };
}

pub(super) const NEWEST: &str =
    message!("message m WHERE m.log = ?1 ORDER BY m.pos DESC, m.author DESC, m.seq_num DESC LIMIT ?2");
pub(super) const BEFORE: &str = message!(
    "message m WHERE m.log = ?1 AND (m.pos, m.author, m.seq_num) < (?3, ?4, ?5)
     ORDER BY m.pos DESC, m.author DESC, m.seq_num DESC LIMIT ?2"
);
pub(super) const AFTER: &str = message!(
    "message m WHERE m.log = ?1 AND (m.pos, m.author, m.seq_num) > (?3, ?4, ?5)
     ORDER BY m.pos, m.author, m.seq_num LIMIT ?2"
);
pub(super) const ONE: &str = message!(
    "operations o JOIN message m ON m.entry = o.entry WHERE substr(o.hash, 1, 8) = substr(?1, 1, 8) AND o.hash = ?1"
);

/// The columns of a message, and its entry after them; filtered by log, author, time of receipt (?1 to ?4)
/// and arrival (?6). The words (or the arrival) choose the rows: the `+` keeps the filters from it.
macro_rules! search {
    ($from:literal, $rest:literal) => {
        concat!(
            "SELECT m.id, m.log, m.author, m.seq_num, m.pos, ifnull(m.edited_text, m.text), m.reply, m.mentions, \
             m.edit, m.edited_ms, m.deleted_by, m.sent_ms, m.received_ms, m.attachments, m.entry FROM ",
            $from,
            " m.text IS NOT NULL AND (?1 IS NULL OR +m.log = ?1) AND (?2 IS NULL OR +m.author = ?2)
             AND (?3 IS NULL OR +m.received_ms >= ?3) AND (?4 IS NULL OR +m.received_ms < ?4) AND ",
            $rest
        )
    };
}

/// What is indexed: words, conversation and author (?7) and the bounds of arrival (from ?8, below ?6) choose.
pub(super) const SEARCH: &str = search!(
    "text_index f CROSS JOIN message m ON m.entry = f.rowid
     WHERE text_index MATCH ?7 AND f.rowid >= ?8 AND f.rowid < ?6 AND",
    "NOT EXISTS (SELECT 1 FROM text_due WHERE entry = f.rowid) ORDER BY f.rowid DESC LIMIT ?5"
);
/// The first and the last arrival of what was received between ?2 and ?3, in conversation ?1 or in all.
pub(super) const SEARCH_BOUNDS: &str = "WITH RECURSIVE logs (log) AS (
         SELECT ifnull(?1, (SELECT min(log) FROM message))
         UNION ALL
         SELECT (SELECT min(log) FROM message WHERE log > logs.log) FROM logs
         WHERE ?1 IS NULL AND logs.log IS NOT NULL)
     SELECT min(m.entry), max(m.entry) FROM logs
     CROSS JOIN message m INDEXED BY message_received
     ON m.log = logs.log AND m.received_ms >= ?2 AND m.received_ms < ?3";
/// What changed since it was indexed.
pub(super) const SEARCH_DUE: &str = search!(
    "text_due d CROSS JOIN message m ON m.entry = d.entry WHERE d.entry <= (SELECT entry FROM text_upto) AND",
    "d.entry < ?6 ORDER BY d.entry DESC LIMIT ?5"
);
/// What is not indexed yet.
pub(super) const SEARCH_TAIL: &str = search!(
    "message m WHERE m.entry > (SELECT entry FROM text_upto) AND",
    "m.entry < ?6 ORDER BY m.entry DESC LIMIT ?5"
);

/// A device's profile, and where it was said.
const PROFILE: &str = "SELECT p.author, p.log, p.id, p.name, p.bio, p.avatar, p.availability, p.public, o.pos
     FROM profile p JOIN operations o ON o.author = p.author AND o.log = p.log AND o.seq_num = p.seq_num
     WHERE p.author = ?1 AND p.log = ?2";

impl Db {
    /// A page of at most `limit` messages of a conversation, oldest first, tombstones included.
    pub fn messages(&self, log: &LogId, page: Page, limit: usize) -> Result<Vec<MessageRow>, StoreError> {
        let limit = int(limit as u64);
        let around = |sql, at: Position| {
            let params = params![log.0, limit, at.place.to_bytes(), at.author.0, at.seq_num];
            self.all(sql, params, message_row)
        };
        let mut rows = match page {
            Page::Newest => self.all(NEWEST, params![log.0, limit], message_row)?,
            Page::Before(position) => around(BEFORE, position)?,
            Page::After(position) => return around(AFTER, position),
        };
        rows.reverse();
        Ok(rows)
    }

    /// One message.
    pub fn message(&self, id: &OperationId) -> Result<Option<MessageRow>, StoreError> {
        self.one(ONE, [id.0], message_row)
    }

    /// Every text a message had, as sent first: each device's edits in the order of its log, those of several devices by
    /// their person's clocks. Empty for a tombstone.
    pub fn message_history(&self, id: &OperationId) -> Result<Vec<MessageEdit>, StoreError> {
        self.all(
            "SELECT m.id, m.seq_num, m.text, m.sent_ms, -1 AS turn, m.author FROM operations o
             JOIN message m ON m.entry = o.entry
             WHERE substr(o.hash, 1, 8) = substr(?1, 1, 8) AND o.hash = ?1 AND m.text IS NOT NULL
             UNION ALL
             SELECT e.id, e.seq_num, e.text, e.sent_ms,
                 max(ifnull(e.sent_ms, 0)) OVER (PARTITION BY e.author ORDER BY e.seq_num), e.author FROM operations o
             JOIN message m ON m.entry = o.entry
             JOIN message_edit e ON e.target = o.hash AND e.log = o.log
                 AND ifnull(e.identity, e.author) = ifnull(m.identity, m.author)
             WHERE substr(o.hash, 1, 8) = substr(?1, 1, 8) AND o.hash = ?1 ORDER BY turn, 6, 2",
            [id.0],
            |row| {
                let (id, seq_num) = (OperationId(row.get(0)?), row.get(1)?);
                Ok(MessageEdit { id, seq_num, text: row.get(2)?, sent_at: millis(row.get(3)?) })
            },
        )
    }

    /// The reactions that stand on one message, by emoji, then author.
    pub fn reactions(&self, message: &OperationId) -> Result<Vec<ReactionRow>, StoreError> {
        self.all(
            "SELECT r.target, r.emoji, r.author, r.id, ifnull(r.identity, r.author) FROM operations o
             JOIN reaction r ON r.target = o.hash AND r.log = o.log
             WHERE substr(o.hash, 1, 8) = substr(?1, 1, 8) AND o.hash = ?1 AND r.active AND NOT EXISTS
                 (SELECT 1 FROM reaction l WHERE l.target = r.target AND l.log = r.log AND l.emoji = r.emoji
                  AND l.author <> r.author AND ifnull(l.identity, l.author) = ifnull(r.identity, r.author)
                  AND (ifnull(l.sent_ms, -1), l.id) > (ifnull(r.sent_ms, -1), r.id))
             ORDER BY r.emoji, r.author",
            [message.0],
            |row| {
                let (message, emoji, author) = (OperationId(row.get(0)?), row.get(1)?, Author(row.get(2)?));
                let identity = Identity(row.get(4)?);
                Ok(ReactionRow { message, emoji, author, identity, id: OperationId(row.get(3)?) })
            },
        )
    }

    /// The profile of the person behind an author in one conversation: what they said of themselves last, by place, on
    /// whichever of the devices that its space was told of.
    pub fn profile(&self, author: &Author, log: &LogId) -> Result<Option<ProfileRow>, StoreError> {
        let person = self.person(log, author)?;
        let mut devices = self.devices_of_person_in(log, &person)?;
        devices.extend([Author(person.0), *author]);
        let mut last: Option<([u8; 16], ProfileRow)> = None;
        for device in devices {
            let said = self.one(PROFILE, [device.0, log.0], |row| Ok((row.get(8)?, profile_row(row)?)))?;
            let is_later = |(place, said): &([u8; 16], ProfileRow)| {
                last.as_ref().is_none_or(|(last, row)| (place, said.author) > (last, row.author))
            };
            if let Some(later) = said.filter(is_later) {
                last = Some(later);
            }
        }
        Ok(last.map(|(_, row)| row))
    }

    /// What authors call themselves in one conversation, each device for itself, at most `limit` of them.
    pub fn names(&self, log: &LogId, limit: usize) -> Result<Vec<(Author, String)>, StoreError> {
        self.all(
            "SELECT heads.author, profile.name FROM heads JOIN profile USING (author, log)
             WHERE heads.log = ?1 ORDER BY heads.author LIMIT ?2",
            params![log.0, int(limit as u64)],
            |row| Ok((Author(row.get(0)?), row.get(1)?)),
        )
    }

    /// An author's profiles in all conversations, without what the person said on other devices.
    pub fn profiles(&self, author: &Author) -> Result<Vec<ProfileRow>, StoreError> {
        self.all(
            "SELECT author, log, id, name, bio, avatar, availability, public FROM profile
             WHERE author = ?1 ORDER BY log",
            [author.0],
            profile_row,
        )
    }
}

pub(super) fn message_row(row: &Row<'_>) -> rusqlite::Result<MessageRow> {
    let id = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<[u8; 32]>>(column)?.map(OperationId));
    let place = Place::from_bytes(row.get(4)?);
    let mentions = row.get::<_, Option<Vec<u8>>>(7)?.unwrap_or_default();
    let (mentions, _) = mentions.as_chunks::<32>();
    Ok(MessageRow {
        id: OperationId(row.get(0)?),
        log: LogId(row.get(1)?),
        position: Position { place, author: Author(row.get(2)?), seq_num: row.get(3)? },
        text: row.get(5)?,
        reply: id(6)?,
        mentions: mentions.iter().copied().map(Author).collect(),
        edit: id(8)?,
        edited_at: millis(row.get(9)?),
        deleted_by: id(10)?,
        sent_at: millis(row.get(11)?),
        received_at: millis(row.get(12)?),
        attachments: read_attachments(row.get(13)?),
    })
}

fn profile_row(row: &Row<'_>) -> rusqlite::Result<ProfileRow> {
    Ok(ProfileRow {
        author: Author(row.get(0)?),
        log: LogId(row.get(1)?),
        id: OperationId(row.get(2)?),
        name: row.get(3)?,
        bio: row.get(4)?,
        avatar: row.get::<_, Option<[u8; 32]>>(5)?.map(BlobId),
        availability: row.get(6)?,
        public: row.get::<_, Option<bool>>(7)?.unwrap_or(false),
    })
}
