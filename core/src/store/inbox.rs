//! Inboxes: this device's own, where others are written to, what it claims, and what strangers may fill.

use rusqlite::params;
use zeroize::Zeroizing;

use super::db::{Db, int, uint};
use super::direct::ThreadState;
use super::error::StoreError;
use super::secrets::Column;
use super::tx::Tx;
use crate::identity::{Author, LogId, Millis, OperationId};
use crate::limits::{MAX_INBOX_PER_SENDER, MAX_INBOX_SENDERS};
use crate::ops::Hidden;
use crate::topic::TopicId;

/// An inbox of this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxRow {
    /// Its topic.
    pub topic: TopicId,
    /// Since when it is there.
    pub made: Millis,
    /// Until when it is read.
    pub until: Millis,
}

/// An invitation this device claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRow {
    /// The space's log id.
    pub space: LogId,
    /// The invitation.
    pub invite: OperationId,
    /// Its token.
    pub token: Hidden,
    /// To how many managers' devices the claim was sent.
    pub sent: u32,
}

impl Db {
    /// This device's inboxes, oldest first.
    pub fn inboxes(&self) -> Result<Vec<InboxRow>, StoreError> {
        self.all("SELECT topic, made_ms, until_ms FROM inbox ORDER BY made_ms, topic", [], |row| {
            let (made, until) = (Millis(uint(row.get(1)?)), Millis(uint(row.get(2)?)));
            Ok(InboxRow { topic: TopicId(row.get(0)?), made, until })
        })
    }

    /// The write seed of another device's inbox, where one is known.
    pub fn peer_inbox(&self, device: &Author) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError> {
        let seed = self.one("SELECT seed FROM peer_inbox WHERE device = ?1", [device.0], |row| {
            row.get::<_, Vec<u8>>(0)
        })?;
        seed.map(|stored| self.unseal_array(Column::PeerInbox, &device.0, stored)).transpose()
    }

    /// What this device claims and was not let in for yet.
    pub fn claims(&self) -> Result<Vec<ClaimRow>, StoreError> {
        let rows =
            self.all("SELECT space, invite, sent, token FROM claim ORDER BY space, invite", [], |row| {
                let (space, invite) = (LogId(row.get(0)?), OperationId(row.get(1)?));
                Ok((space, invite, row.get(2)?, row.get::<_, Vec<u8>>(3)?))
            })?;
        let unseal = |(space, invite, sent, stored): (LogId, OperationId, u32, Vec<u8>)| {
            let token = self.unseal_array(Column::ClaimToken, &claim_key(&space, &invite), stored)?;
            Ok(ClaimRow { space, invite, token: Hidden(*token), sent })
        };
        rows.into_iter().map(unseal).collect()
    }

    /// The logs in which this device said with which keys it is written to, and until when that is good.
    pub(crate) fn bundle_log(&self, log: &LogId) -> Result<Option<Millis>, StoreError> {
        self.one("SELECT expires_ms FROM bundle_log WHERE log = ?1", [log.0], |row| {
            row.get(0).map(|at| Millis(uint(at)))
        })
    }

    /// Logs in which this device said so, and said something that is good for less long than `expires`.
    pub(crate) fn stale_bundle_logs(&self, expires: Millis) -> Result<Vec<LogId>, StoreError> {
        self.all(
            "SELECT log FROM bundle_log WHERE expires_ms <> ?1 ORDER BY log",
            params![int(expires.0)],
            |row| row.get(0).map(LogId),
        )
    }

    /// Whether there is room for one more operation of this sender. What strangers may fill is bounded.
    pub(crate) fn inbox_has_room(&self, author: &Author) -> Result<bool, StoreError> {
        let sent =
            self.one("SELECT operations FROM inbox_sender WHERE author = ?1", [author.0], |row| row.get(0))?;
        if let Some(sent) = sent {
            return Ok(uint(sent) < MAX_INBOX_PER_SENDER);
        }
        let senders = self.one("SELECT count(*) FROM inbox_sender", [], |row| row.get(0))?;
        Ok(uint(senders.unwrap_or_default()) < MAX_INBOX_SENDERS || self.is_no_stranger(author)?)
    }

    /// Whether a device is one of a member's of a space that this device knows, or this device writes to it in a direct
    /// thread: strangers take no room of theirs.
    fn is_no_stranger(&self, author: &Author) -> Result<bool, StoreError> {
        let found = self.one(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM space s JOIN member m ON m.space = s.space
                     WHERE m.author = ?1 AND m.level IS NOT NULL)
                 OR EXISTS (SELECT 1 FROM space s JOIN space_device d ON d.space = s.space
                     JOIN member m ON m.space = s.space AND m.author = d.identity
                     WHERE d.device = ?1 AND NOT d.revoked AND m.level IS NOT NULL)
                 OR EXISTS (SELECT 1 FROM direct_thread WHERE peer = ?1 AND state IN (?2, ?3))
                 OR EXISTS (SELECT 1 FROM device_identity a
                     JOIN direct_thread t ON t.state IN (?2, ?3)
                     LEFT JOIN device_identity p ON p.device = t.peer
                     WHERE a.device = ?1 AND a.identity = ifnull(p.identity, t.peer))",
            params![author.0, ThreadState::Asked.number(), ThreadState::Open.number()],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }
}

impl Tx<'_> {
    /// Adds an inbox of this device. Its topic is put beside it. Senders have as much room as ever again: who filled the
    /// ones before need not know of this one.
    pub(crate) fn put_inbox(&self, inbox: &InboxRow) -> Result<(), StoreError> {
        self.run("DELETE FROM inbox_sender", [])?;
        self.run(
            "INSERT INTO inbox (topic, made_ms, until_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![inbox.topic.0, int(inbox.made.0), int(inbox.until.0)],
        )
        .map(drop)
    }

    /// Forgets a topic that nothing is to be read of or sent to any more; what was read of it stays.
    pub(crate) fn remove_topic(&self, topic: TopicId) -> Result<(), StoreError> {
        self.run("DELETE FROM inbox WHERE topic = ?1", [topic.0])?;
        self.run("DELETE FROM outbox WHERE topic = ?1", [topic.0])?;
        self.run("DELETE FROM topic_seq WHERE topic = ?1", [topic.0])?;
        self.run("DELETE FROM chain WHERE topic = ?1", [topic.0])?;
        self.run("DELETE FROM refetch WHERE topic = ?1", [topic.0])?;
        self.run("DELETE FROM gap WHERE topic = ?1", [topic.0])?;
        self.run("DELETE FROM topic WHERE topic = ?1", [topic.0]).map(drop)
    }

    /// What this device said of its keys is to be said again wherever it was.
    pub(crate) fn outdate_bundle_logs(&self) -> Result<(), StoreError> {
        self.run("UPDATE bundle_log SET expires_ms = 0", []).map(drop)
    }

    /// Counts an operation of a sender that was kept.
    pub(crate) fn count_inbox(&self, author: &Author) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO inbox_sender (author, operations) VALUES (?1, 1)
             ON CONFLICT (author) DO UPDATE SET operations = operations + 1",
            [author.0],
        )
        .map(drop)
    }

    /// Keeps where a device is written to; what came with a bundle that is good for longer stays.
    pub(crate) fn put_peer_inbox(
        &self,
        device: &Author,
        seed: &[u8; 32],
        expires: Millis,
    ) -> Result<(), StoreError> {
        let sealed = self.seal(Column::PeerInbox, &device.0, seed)?;
        self.run(
            "INSERT INTO peer_inbox (device, seed, expires_ms) VALUES (?1, ?2, ?3)
             ON CONFLICT (device) DO UPDATE SET seed = excluded.seed, expires_ms = excluded.expires_ms
             WHERE excluded.expires_ms > peer_inbox.expires_ms",
            params![device.0, sealed, int(expires.0)],
        )
        .map(drop)
    }

    /// Notes that this device said in a log with which keys it is written to.
    pub(crate) fn put_bundle_log(&self, log: &LogId, expires: Millis) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO bundle_log (log, expires_ms) VALUES (?1, ?2)
             ON CONFLICT (log) DO UPDATE SET expires_ms = excluded.expires_ms",
            params![log.0, int(expires.0)],
        )
        .map(drop)
    }

    /// Notes an invitation to be claimed.
    pub(crate) fn put_claim(
        &self,
        space: &LogId,
        invite: &OperationId,
        token: &Hidden,
        now: Millis,
    ) -> Result<(), StoreError> {
        let sealed = self.seal(Column::ClaimToken, &claim_key(space, invite), &token.0)?;
        self.run(
            "INSERT INTO claim (space, invite, token, made_ms, sent) VALUES (?1, ?2, ?3, ?4, 0)
             ON CONFLICT DO NOTHING",
            params![space.0, invite.0, sealed, int(now.0)],
        )
        .map(drop)
    }

    /// A claim was sent to so many.
    pub(crate) fn claim_sent(&self, claim: &ClaimRow, sent: u32) -> Result<(), StoreError> {
        self.run(
            "UPDATE claim SET sent = ?3 WHERE space = ?1 AND invite = ?2",
            params![claim.space.0, claim.invite.0, sent],
        )
        .map(drop)
    }

    /// Nothing more can come of a claim.
    pub(crate) fn remove_claim(&self, claim: &ClaimRow) -> Result<(), StoreError> {
        self.run("DELETE FROM claim WHERE space = ?1 AND invite = ?2", [claim.space.0, claim.invite.0])
            .map(drop)
    }

    /// This device was let in.
    pub(crate) fn remove_claims(&self, space: &LogId) -> Result<(), StoreError> {
        self.run("DELETE FROM claim WHERE space = ?1", [space.0]).map(drop)
    }
}

/// The key of a claim's row.
fn claim_key(space: &LogId, invite: &OperationId) -> Vec<u8> {
    [space.0, invite.0].concat()
}
