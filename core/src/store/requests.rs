//! What comes by inbox and waits for the space it is about: who asks to be let in or out, keys that are handed, and who
//! asks for keys.

use std::fmt;

use rusqlite::params;

use super::db::{Db, int, uint};
use super::error::StoreError;
use super::tx::Tx;
use crate::identity::{Author, LogId, Millis, OperationId};
use crate::ops::{Body, Content, EpochKeys, inbox_log};
use crate::projector::Fact;

/// What a row of `request` asks for: its column `leaves`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// To be let in.
    Join = 0,
    /// To be a member no more.
    Leave = 1,
    /// Nothing: a manager hands a key.
    Hand = 2,
    /// For a key.
    Keys = 3,
    /// For what it says of its person's devices to be delivered.
    Tell = 4,
}

/// A claim of an invitation, or a request to join.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// The operation.
    pub id: OperationId,
    /// Who asks.
    pub author: Author,
    /// The invitation and the proof that it was given to them; `None` for a mere request.
    pub claim: Option<(OperationId, [u8; 32])>,
    /// What they say.
    pub text: Option<String>,
}

impl fmt::Debug for RequestRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestRow")
            .field("id", &self.id)
            .field("author", &self.author)
            .finish_non_exhaustive()
    }
}

/// A key that came by inbox, or somebody who asks for one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    /// The log that it is about.
    pub log: LogId,
    /// The operation.
    pub id: OperationId,
    /// Whose it is.
    pub author: Author,
}

/// What this device said to another one by inbox, and that one alone can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnansweredRow {
    /// The operation.
    pub(crate) id: OperationId,
    /// To whom.
    pub(crate) to: Author,
    /// How often it was said again.
    pub(crate) further: u32,
    /// When it was said last.
    pub(crate) last: Millis,
}

/// An operation that was said to this device alone, or by it to another.
pub(super) struct ByInbox {
    /// The space to look at, if that is known.
    pub(super) space: Option<LogId>,
    /// Whether an app shows it.
    pub(super) is_shown: bool,
}

impl Db {
    /// Who asks to be let in.
    pub fn requests(&self, space: &LogId) -> Result<Vec<RequestRow>, StoreError> {
        self.all(
            "SELECT id, author, invite, mac, text FROM request
             WHERE space = ?1 AND leaves = 0 ORDER BY id",
            [space.0],
            |row| {
                let invite = row.get::<_, Option<[u8; 32]>>(2)?.map(OperationId);
                let mac = row.get::<_, Option<[u8; 32]>>(3)?;
                let (id, author) = (OperationId(row.get(0)?), Author(row.get(1)?));
                Ok(RequestRow { id, author, claim: invite.zip(mac), text: row.get(4)? })
            },
        )
    }

    /// Who asked, by inbox, to be a member no more: which operation, and whose.
    pub fn leave_requests(&self, space: &LogId) -> Result<Vec<(OperationId, Author)>, StoreError> {
        self.all(
            "SELECT id, author FROM request WHERE space = ?1 AND leaves = 1 ORDER BY id",
            [space.0],
            |row| Ok((OperationId(row.get(0)?), Author(row.get(1)?))),
        )
    }

    /// Who told this device, by inbox, what it is to deliver: in which operation, and whose it is.
    pub(crate) fn tell_requests(&self, space: &LogId) -> Result<Vec<(OperationId, Author)>, StoreError> {
        self.all(
            "SELECT id, author FROM request WHERE space = ?1 AND leaves = 4 ORDER BY id",
            [space.0],
            |row| Ok((OperationId(row.get(0)?), Author(row.get(1)?))),
        )
    }

    /// What this device said to others by inbox and was not answered yet.
    pub(crate) fn unanswered(&self) -> Result<Vec<UnansweredRow>, StoreError> {
        self.all("SELECT id, device, further, last_ms FROM unanswered ORDER BY id", [], |row| {
            let (id, to) = (OperationId(row.get(0)?), Author(row.get(1)?));
            Ok(UnansweredRow { id, to, further: row.get(2)?, last: Millis(uint(row.get(3)?)) })
        })
    }

    /// What came by inbox about keys of the logs that a space judges, and was not judged yet.
    pub fn key_requests(&self, space: &LogId) -> Result<Vec<KeyRequest>, StoreError> {
        self.all(
            "SELECT r.space, r.id, r.author FROM space_log l JOIN request r ON r.space = l.log
             WHERE l.space = ?1 AND r.leaves IN (2, 3) ORDER BY r.space, r.id",
            [space.0],
            |row| {
                let (log, id) = (LogId(row.get(0)?), OperationId(row.get(1)?));
                Ok(KeyRequest { log, id, author: Author(row.get(2)?) })
            },
        )
    }
}

impl Tx<'_> {
    /// Claims and requests stand in inboxes: in the log of whoever asks and this device. Elsewhere they say nothing; of
    /// keys they do.
    pub(super) fn put_request(&self, fact: &Fact<'_>, body: &Body) -> Result<Option<ByInbox>, StoreError> {
        let (mut invite, mut mac, mut text) = (None, None, None);
        let (about, kind) = match &body.content {
            Content::InviteClaim { invite: of, mac: proof, space } => {
                (invite, mac) = (Some(of.0), Some(*proof));
                (*space, Kind::Join)
            }
            Content::JoinRequest { text: said, space } => {
                text = said.as_deref();
                (*space, Kind::Join)
            }
            Content::LeaveRequest { space } => (*space, Kind::Leave),
            Content::DeviceTell(told) => (told.space, Kind::Tell),
            Content::EpochKeys(keys) => match &**keys {
                EpochKeys::Hand(keys) => match keys.first() {
                    Some(key) => (key.log, Kind::Hand),
                    None => return Ok(None),
                },
                EpochKeys::Ask { log, .. } => (*log, Kind::Keys),
                EpochKeys::Past { .. } | EpochKeys::Welcome { .. } => return Ok(None),
            },
            _ => return Ok(None),
        };
        let Some(device) = self.device.get() else { return Ok(None) };
        let (is_own, of_keys) = (fact.author == device, matches!(kind, Kind::Hand | Kind::Keys));
        let is_shown = matches!(kind, Kind::Join | Kind::Leave);
        if is_own && !is_shown {
            // To somebody else: this device waits for nothing.
            let elsewhere = self.belongs(&fact.log)?.is_none();
            return Ok(elsewhere.then_some(ByInbox { space: None, is_shown: false }));
        }
        if !is_own && fact.log != inbox_log(&fact.author, &device) {
            return Ok(None);
        }
        if kind == Kind::Join || self.replaces(fact, &about, kind, is_own)? {
            self.run(
                "INSERT INTO request (space, id, author, invite, mac, text, leaves)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                params![about.0, fact.id.0, fact.author.0, invite, mac, text, kind as i64],
            )?;
        }
        let space = match of_keys {
            true => self.belongs(&about)?.map(|belongs| belongs.space),
            false => Some(about),
        };
        Ok(Some(ByInbox { space, is_shown }))
    }

    /// Of what one device asks for in this way the last counts, in whatever order it comes: removes what came before.
    /// Whether it is the last.
    fn replaces(&self, fact: &Fact<'_>, about: &LogId, kind: Kind, is_own: bool) -> Result<bool, StoreError> {
        let others = self.all(
            "SELECT id FROM request WHERE space = ?1 AND leaves = ?2 AND author = ?3",
            params![about.0, kind as i64, fact.author.0],
            |row| row.get(0).map(OperationId),
        )?;
        for other in others {
            let known = self.place_of(&other)?.map(|stored| (stored.seq_num, other));
            // Its own are in as many logs as it asked devices: the last it made is the last.
            if !is_own && known > Some((fact.seq_num, fact.id)) {
                return Ok(false);
            }
            self.remove_request(about, &other)?;
        }
        Ok(true)
    }

    /// A request to join that was answered waits once more.
    pub(crate) fn ask_again(
        &self,
        space: &LogId,
        id: &OperationId,
        author: &Author,
    ) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO request (space, id, author, leaves) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            params![space.0, id.0, author.0, Kind::Join as i64],
        )
        .map(drop)
    }

    /// Keeps what waits for an answer.
    pub(crate) fn put_unanswered(&self, row: &UnansweredRow) -> Result<(), StoreError> {
        self.run(
            "INSERT OR REPLACE INTO unanswered (id, device, further, last_ms) VALUES (?1, ?2, ?3, ?4)",
            params![row.id.0, row.to.0, row.further, int(row.last.0)],
        )
        .map(drop)
    }

    /// It was answered, or was said often enough.
    pub(crate) fn remove_unanswered(&self, id: &OperationId) -> Result<(), StoreError> {
        self.run("DELETE FROM unanswered WHERE id = ?1", [id.0]).map(drop)
    }

    /// Forgets what somebody asked of a space.
    pub(crate) fn remove_request(&self, space: &LogId, id: &OperationId) -> Result<(), StoreError> {
        self.run("DELETE FROM request WHERE space = ?1 AND id = ?2", [space.0, id.0]).map(drop)
    }
}
