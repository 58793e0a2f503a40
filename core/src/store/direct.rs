//! Direct threads, the envelopes sealed and opened in them, and their sessions' ends.

use std::fmt;

use rusqlite::{Row, params};

use super::db::{Db, int, uint};
use super::error::StoreError;
use super::secrets::Column;
use super::tx::Tx;
use crate::crypto::Session;
use crate::identity::{Author, EnvelopeHash, Identity, LogId, Millis, OperationId, Revocation, ThreadId};
use crate::limits::MAX_FOREIGN_SESSIONS;
use crate::ops::{Hidden, SessionId};
use crate::topic::TopicId;

/// How long what is remembered of others' sessions is left as it is, milliseconds: a day.
const TOUCH_EVERY_MS: u64 = 24 * 3_600_000;

/// Where a direct thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadState {
    /// This device has asked, and waits.
    Asked,
    /// The other one asks.
    Requested,
    /// Both can write.
    Open,
    /// Not to be used any more.
    Closed,
}

impl ThreadState {
    const ALL: [Self; 4] = [Self::Asked, Self::Requested, Self::Open, Self::Closed];

    pub(super) const fn number(self) -> i64 {
        self as i64
    }

    fn from_number(number: i64) -> Self {
        usize::try_from(number).ok().and_then(|at| Self::ALL.get(at).copied()).unwrap_or(Self::Closed)
    }
}

/// A direct thread.
#[derive(Clone, PartialEq, Eq)]
pub struct ThreadRow {
    /// Its name on this device and the other.
    pub thread: ThreadId,
    /// The other device.
    pub peer: Author,
    /// Where it stands.
    pub state: ThreadState,
    /// What was said with the request.
    pub text: Option<String>,
    /// The conversation, once it is open.
    pub log: Option<LogId>,
    /// Where it lives then.
    pub topic: Option<TopicId>,
    /// When it was asked for, by this device's clock.
    pub made: Millis,
    /// Half of its secret, until it is open.
    pub(crate) share: Option<Hidden>,
}

impl fmt::Debug for ThreadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadRow")
            .field("thread", &self.thread)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A session whose next block has not come for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StuckSession {
    pub(crate) topic: TopicId,
    pub(crate) session: SessionId,
}

macro_rules! select_thread {
    ($rest:literal) => {
        concat!("SELECT thread, peer, state, share, text, log, topic, made_ms FROM direct_thread ", $rest)
    };
}

impl Db {
    /// All direct threads, oldest first.
    pub fn direct_threads(&self) -> Result<Vec<ThreadRow>, StoreError> {
        let rows = self.all(select_thread!("ORDER BY made_ms, thread"), [], thread_row)?;
        rows.into_iter().map(|row| self.unseal_thread(row)).collect()
    }

    /// One direct thread.
    pub fn direct_thread(&self, thread: &ThreadId) -> Result<Option<ThreadRow>, StoreError> {
        let row = self.one(select_thread!("WHERE thread = ?1"), [thread.0], thread_row)?;
        row.map(|row| self.unseal_thread(row)).transpose()
    }

    /// The direct thread of a topic.
    pub fn thread_of_topic(&self, topic: &TopicId) -> Result<Option<ThreadRow>, StoreError> {
        let row = self.one(select_thread!("WHERE topic = ?1"), [topic.0], thread_row)?;
        row.map(|row| self.unseal_thread(row)).transpose()
    }

    fn unseal_thread(
        &self,
        (mut row, stored): (ThreadRow, Option<Vec<u8>>),
    ) -> Result<ThreadRow, StoreError> {
        if let Some(stored) = stored {
            row.share = Some(Hidden(*self.unseal_array(Column::DirectShare, &row.thread.0, stored)?));
        }
        Ok(row)
    }

    /// How many requests of others nobody has answered: of this device, and of all.
    pub(crate) fn open_requests(&self, peer: &Author) -> Result<(u64, u64), StoreError> {
        let counts = self.one(
            "SELECT ifnull(sum(peer = ?1), 0), count(*) FROM direct_thread WHERE state = 1",
            [peer.0],
            |row| Ok((uint(row.get(0)?), uint(row.get(1)?))),
        )?;
        Ok(counts.unwrap_or_default())
    }

    /// The devices a person is written to at: those of the identity that certified this one, its key, and itself; without those
    /// that are known to be revoked.
    pub fn devices_of_person(&self, device: &Author) -> Result<Vec<Author>, StoreError> {
        let identity = self.identity_of(device)?;
        let mut devices = self.devices_of(&identity)?;
        for device in [*device, Author(identity.0)] {
            if !devices.contains(&device) {
                devices.push(device);
            }
        }
        let mut left = Vec::new();
        for device in devices {
            if !self.was_revoked(&device, &identity)? {
                left.push(device);
            }
        }
        Ok(left)
    }

    /// Whether an identity has revoked a device, as some space knows, or it has said by inbox, or this device's person
    /// has.
    pub(crate) fn was_revoked(&self, device: &Author, identity: &Identity) -> Result<bool, StoreError> {
        let found = self.one(
            "SELECT 1 FROM space p CROSS JOIN space_device d ON d.space = p.space
             WHERE d.device = ?1 AND d.identity = ?2 AND d.revoked
             UNION ALL SELECT 1 FROM revoked_peer WHERE device = ?1 AND identity = ?2
             UNION ALL SELECT 1 FROM revoked_device WHERE device = ?1 LIMIT 1",
            [device.0, identity.0],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    /// A person's devices besides this one: the identity's own key, and those it has certified; without revoked ones.
    pub fn sisters(&self, identity: &Identity, this: &Author) -> Result<Vec<Author>, StoreError> {
        let mut devices = self.devices_of_person(&Author(identity.0))?;
        devices.retain(|device| device != this);
        Ok(devices)
    }

    /// Whether this device knows of a direct thread with a device's person that is asked for, or open.
    pub(crate) fn has_thread_with(&self, device: &Author) -> Result<bool, StoreError> {
        for other in self.devices_of_person(device)?.into_iter().chain([*device]) {
            let sql = "SELECT 1 FROM direct_thread WHERE peer = ?1 AND state IN (?2, ?3) LIMIT 1";
            let states = params![other.0, ThreadState::Asked.number(), ThreadState::Open.number()];
            if self.one(sql, states, |_| Ok(()))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Direct threads whose state was not said in this topic of the person's devices. One that ended because another
    /// device goes on with this database is not among them.
    pub(crate) fn unsaid_threads(&self, topic: &TopicId) -> Result<Vec<ThreadId>, StoreError> {
        let rows = self.all("SELECT thread, state, said FROM direct_thread ORDER BY thread", [], |row| {
            let state = ThreadState::from_number(row.get(1)?);
            Ok((ThreadId(row.get(0)?), state, row.get::<_, Option<Vec<u8>>>(2)?))
        })?;
        let unsaid = rows.into_iter().filter(|(_, state, said)| match said {
            Some(said) => *said != said_in(topic, *state),
            None => *state != ThreadState::Closed,
        });
        Ok(unsaid.map(|(thread, ..)| thread).collect())
    }

    /// Revocations of this person's devices that another device was told of.
    pub(crate) fn told_revocations(&self, peer: &Author) -> Result<Vec<Author>, StoreError> {
        let sql = "SELECT device FROM revocation_told WHERE peer = ?1 ORDER BY device";
        self.all(sql, [peer.0], |row| row.get(0).map(Author))
    }

    /// Whether a session of a direct thread is known to be other devices'.
    pub(crate) fn is_foreign_session(&self, id: SessionId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM foreign_session WHERE session = ?1";
        Ok(self.one(sql, [&id.0], |_| Ok(()))?.is_some())
    }

    /// The session with a device that was used last.
    pub fn latest_session(&self, peer: &Author) -> Result<Option<Session>, StoreError> {
        let id = self.one(
            "SELECT session FROM two_party WHERE peer = ?1 ORDER BY used_ms DESC, session LIMIT 1",
            [peer.0],
            |row| row.get(0).map(SessionId),
        )?;
        id.map_or(Ok(None), |id| self.session(peer, id))
    }

    /// The operation in an envelope that was sealed or opened here.
    pub(crate) fn direct_operation(
        &self,
        topic: TopicId,
        hash: &EnvelopeHash,
    ) -> Result<Option<OperationId>, StoreError> {
        self.one(
            "SELECT operation FROM direct_envelope WHERE topic = ?1 AND hash = ?2",
            [topic.0, hash.0],
            |row| row.get(0).map(OperationId),
        )
    }

    /// The envelopes that this device made for an operation.
    pub(crate) fn direct_envelopes(&self, operation: &OperationId) -> Result<Vec<Vec<u8>>, StoreError> {
        self.all(
            "SELECT envelope FROM direct_envelope WHERE operation = ?1 AND envelope IS NOT NULL ORDER BY hash",
            [operation.0],
            |row| row.get(0),
        )
    }

    /// Whether a session ended here.
    pub(crate) fn session_ended(&self, peer: &Author, id: SessionId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM ended_session WHERE peer = ?1 AND session = ?2";
        Ok(self.one(sql, [&peer.0[..], &id.0], |_| Ok(()))?.is_some())
    }

    /// Sessions of which something has waited since before this instant.
    pub(crate) fn stuck_sessions(&self, since: Millis) -> Result<Vec<StuckSession>, StoreError> {
        self.all(
            "SELECT DISTINCT p.topic, p.key_id FROM direct_thread t CROSS JOIN pending p INDEXED BY pending_key ON p.topic = t.topic
             WHERE p.key_id IS NOT NULL AND p.received_ms < ?1 AND length(p.key_id) = 8
             ORDER BY p.topic, p.key_id",
            params![int(since.0)],
            |row| Ok(StuckSession { topic: TopicId(row.get(0)?), session: SessionId(row.get(1)?) }),
        )
    }
}

impl Tx<'_> {
    /// Keeps a direct thread as it is now.
    pub(crate) fn put_thread(&self, row: &ThreadRow) -> Result<(), StoreError> {
        let seal = |share: &Hidden| self.seal(Column::DirectShare, &row.thread.0, &share.0);
        let share = row.share.as_ref().map(seal).transpose()?;
        self.run(
            "INSERT INTO direct_thread (thread, peer, state, share, text, log, topic, made_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (thread) DO UPDATE SET state = excluded.state, share = excluded.share,
                 log = excluded.log, topic = excluded.topic",
            params![
                row.thread.0,
                row.peer.0,
                row.state.number(),
                share,
                row.text,
                row.log.map(|log| log.0),
                row.topic.map(|topic| topic.0),
                int(row.made.0),
            ],
        )
        .map(drop)
    }

    /// Notes that a thread's state was said, or heard, in a topic of the person's devices; `None`: it is to be said.
    pub(crate) fn set_thread_said(
        &self,
        thread: &ThreadId,
        at: Option<(&TopicId, ThreadState)>,
    ) -> Result<(), StoreError> {
        let said = at.map_or_else(Vec::new, |(topic, state)| said_in(topic, state));
        self.run("UPDATE direct_thread SET said = ?2 WHERE thread = ?1", params![thread.0, said]).map(drop)
    }

    /// Keeps that an identity has revoked a device: checked.
    pub(crate) fn put_peer_revocation(&self, revocation: &Revocation) -> Result<(), StoreError> {
        self.run(
            "INSERT OR IGNORE INTO revoked_peer (device, identity) VALUES (?1, ?2)",
            [revocation.device.0, revocation.identity.0],
        )
        .map(drop)
    }

    /// Another device was told of a revocation.
    pub(crate) fn revocation_told(&self, peer: &Author, device: &Author) -> Result<(), StoreError> {
        self.run("INSERT OR IGNORE INTO revocation_told (peer, device) VALUES (?1, ?2)", [peer.0, device.0])
            .map(drop)
    }

    /// Ends all sessions with a device.
    pub(crate) fn end_sessions_with(&self, peer: &Author, now: Millis) -> Result<(), StoreError> {
        self.end_old_sessions(peer, 0, now)
    }

    /// Notes that a session is other devices', as long as there is room for more.
    pub(crate) fn put_foreign_session(&self, id: SessionId, now: Millis) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO foreign_session (session, seen_ms)
             SELECT ?1, ?2 WHERE (SELECT count(*) FROM foreign_session) < ?3 ON CONFLICT DO NOTHING",
            params![id.0, int(now.0), int(MAX_FOREIGN_SESSIONS)],
        )
        .map(drop)
    }

    /// Something was sealed in a session of other devices: it is remembered for longer.
    pub(crate) fn touch_foreign_session(&self, id: SessionId, now: Millis) -> Result<(), StoreError> {
        self.run(
            "UPDATE foreign_session SET seen_ms = ?2 WHERE session = ?1 AND seen_ms < ?2 - ?3",
            params![id.0, int(now.0), int(TOUCH_EVERY_MS)],
        )
        .map(drop)
    }

    /// Keeps an envelope that was sealed or opened here; its bytes where it is this device's own.
    pub(crate) fn put_direct_envelope(
        &self,
        topic: TopicId,
        hash: &EnvelopeHash,
        operation: &OperationId,
        envelope: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO direct_envelope (topic, hash, operation, envelope) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
            params![topic.0, hash.0, operation.0, envelope],
        )
        .map(drop)
    }

    /// Ends a session: nothing is sealed or opened in it any more.
    pub(crate) fn end_session(&self, peer: &Author, id: SessionId, now: Millis) -> Result<(), StoreError> {
        self.run("DELETE FROM two_party WHERE peer = ?1 AND session = ?2", [&peer.0[..], &id.0])?;
        self.run(
            "INSERT INTO ended_session (peer, session, ended_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![peer.0, id.0, int(now.0)],
        )
        .map(drop)
    }

    /// Ends all but the `keep` sessions of a device that were used last.
    pub(crate) fn end_old_sessions(&self, peer: &Author, keep: usize, now: Millis) -> Result<(), StoreError> {
        let old = self.all(
            "SELECT session FROM two_party WHERE peer = ?1 ORDER BY used_ms DESC, session LIMIT -1 OFFSET ?2",
            params![peer.0, int(keep as u64)],
            |row| row.get(0).map(SessionId),
        )?;
        old.into_iter().try_for_each(|id| self.end_session(peer, id, now))
    }

    /// Forgets sessions that ended before this instant, and others' that were not seen since: the prekeys of their first
    /// blocks are gone.
    pub(crate) fn forget_ended_sessions(&self, before: Millis) -> Result<(), StoreError> {
        self.run("DELETE FROM foreign_session WHERE seen_ms < ?1", params![int(before.0)])?;
        self.run("DELETE FROM ended_session WHERE ended_ms < ?1", params![int(before.0)]).map(drop)
    }

    /// Drops what waits of a session; gives how much.
    pub(crate) fn drop_waiting(&self, topic: TopicId, session: SessionId) -> Result<usize, StoreError> {
        self.run(
            "DELETE FROM pending WHERE topic = ?1 AND key_id = ?2 AND key_id IS NOT NULL",
            params![topic.0, session.0],
        )
    }

    /// Another device goes on with what this database holds: its inboxes and direct threads end here.
    pub(super) fn forget_inboxes(&self) -> Result<(), StoreError> {
        self.run("DELETE FROM topic WHERE topic IN (SELECT topic FROM inbox)", [])?;
        for table in [
            "inbox",
            "claim",
            "bundle_log",
            "ended_session",
            "foreign_session",
            "revocation_told",
            "unanswered",
        ] {
            self.run(&format!("DELETE FROM {table}"), [])?;
        }
        self.run("UPDATE direct_thread SET state = 3, share = NULL, said = NULL", []).map(drop)
    }
}

/// What notes that a state was said in a topic.
fn said_in(topic: &TopicId, state: ThreadState) -> Vec<u8> {
    topic.0.into_iter().chain([state as u8]).collect()
}

/// A thread without its share, and that as it is stored.
fn thread_row(row: &Row<'_>) -> rusqlite::Result<(ThreadRow, Option<Vec<u8>>)> {
    let thread = ThreadRow {
        thread: ThreadId(row.get(0)?),
        peer: Author(row.get(1)?),
        state: ThreadState::from_number(row.get(2)?),
        share: None,
        text: row.get(4)?,
        log: row.get::<_, Option<[u8; 32]>>(5)?.map(LogId),
        topic: row.get::<_, Option<[u8; 32]>>(6)?.map(TopicId),
        made: Millis(uint(row.get(7)?)),
    };
    Ok((thread, row.get(3)?))
}
