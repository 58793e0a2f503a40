//! Topics that close, the next ones, and the two-party sessions and bundles that carry their secrets. Which rotation
//! closes a topic is decided in [`crate::engine`].

use rusqlite::{Row, params};
use zeroize::Zeroizing;

use super::db::{Db, int, uint};
use super::error::StoreError;
use super::pending::Receipt;
use super::secrets::Column;
use super::tx::Tx;
use crate::crypto::{DeviceBundle, DeviceSecrets, MAX_BUNDLE_LIFETIME_MS, Session};
use crate::identity::{Author, Certificate, Identity, LogId, Millis, OperationId};
use crate::limits::MAX_ROTATIONS_OF_AUTHOR;
use crate::ops::{LogEnd, SessionId, SignedBytes, Ticket, VerifiedOperation};
use crate::projector::Place;
use crate::topic::{Generation, Seq, TopicId};
use crate::tree::{IntoTree, Map};

/// The rotation that closed a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicClose {
    /// The topic.
    pub topic: TopicId,
    /// The operation that closed it.
    pub operation: OperationId,
    /// In which copy of the topic's log that was seen.
    pub generation: Generation,
    /// After how many resets.
    pub resets: u32,
    /// Its place there.
    pub seq: Seq,
    /// Where the log goes on.
    pub successor: TopicId,
    /// The successor's epoch.
    pub epoch: u32,
}

/// A rotation that stands in a topic.
#[derive(Clone)]
pub struct StoredRotation {
    /// The operation.
    pub operation: OperationId,
    /// Who signed it.
    pub rotator: Author,
    /// In which copy of the log it stands.
    pub generation: Generation,
    /// After how many resets.
    pub resets: u32,
    /// Its place.
    pub seq: Seq,
    /// The operation's body.
    pub body: Vec<u8>,
}

/// Under which name rotations beyond an author's share are counted.
const TOO_MANY_ROTATIONS: &str = "rotations-full";
/// Under which name this device's X25519 secrets are kept.
const DEVICE_SECRETS: &str = "device-secrets";

impl Db {
    /// All topics that closed.
    pub fn topic_closes(&self) -> Result<Vec<TopicClose>, StoreError> {
        self.all(
            "SELECT topic, operation, generation, resets, seq, successor, epoch FROM topic_close ORDER BY topic",
            [],
            close_row,
        )
    }

    /// How a topic closed.
    pub(crate) fn topic_close(&self, topic: TopicId) -> Result<Option<TopicClose>, StoreError> {
        self.one(
            "SELECT topic, operation, generation, resets, seq, successor, epoch FROM topic_close WHERE topic = ?1",
            [topic.0],
            close_row,
        )
    }

    /// The rotations that stand in a topic, in the order of their places.
    pub fn rotations(&self, topic: TopicId) -> Result<Vec<StoredRotation>, StoreError> {
        self.all(
            "SELECT operation, rotator, generation, resets, seq, body FROM rotation
             WHERE topic = ?1 AND resets IS NOT NULL ORDER BY resets, seq",
            [topic.0],
            rotation_row,
        )
    }

    /// Whether a rotation of this device has no place yet in a topic.
    pub(crate) fn has_unplaced_rotation(&self, topic: TopicId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM rotation WHERE topic = ?1 AND ticket IS NOT NULL AND resets IS NULL LIMIT 1";
        Ok(self.one(sql, [topic.0], |_| Ok(()))?.is_some())
    }

    /// Topics in which rotations stand.
    pub(crate) fn contested_topics(&self) -> Result<Vec<TopicId>, StoreError> {
        self.all("SELECT DISTINCT topic FROM rotation WHERE resets IS NOT NULL", [], |row| {
            row.get(0).map(TopicId)
        })
    }

    /// Topics in which a rotation of this device has no place yet.
    pub(crate) fn unplaced_rotations(&self) -> Result<Vec<TopicId>, StoreError> {
        self.all(
            "SELECT DISTINCT topic FROM rotation WHERE ticket IS NOT NULL AND resets IS NULL",
            [],
            |row| row.get(0).map(TopicId),
        )
    }

    /// What a rotation of this device hands over.
    pub(crate) fn rotation_ticket(&self, operation: &OperationId) -> Result<Option<Ticket>, StoreError> {
        let text = self.one("SELECT ticket FROM rotation WHERE operation = ?1", [operation.0], |row| {
            row.get::<_, Option<Vec<u8>>>(0)
        })?;
        let Some(text) = text.flatten() else { return Ok(None) };
        let text = self.unseal(Column::RotationTicket, &operation.0, text)?;
        let parsed = std::str::from_utf8(&text).ok().and_then(|text| Ticket::parse(text).ok());
        parsed.map(Some).ok_or_else(|| self.damaged("a rotation's ticket does not parse"))
    }

    /// Whether a device may close the topics of a log.
    pub fn is_rotator(&self, log: &LogId, device: &Author) -> Result<bool, StoreError> {
        let found =
            self.one("SELECT 1 FROM rotator WHERE log = ?1 AND device = ?2", [log.0, device.0], |_| Ok(()))?;
        Ok(found.is_some())
    }

    /// The last operation of each author's log that a server has placed: what a rotation names.
    pub fn log_ends(&self, log: &LogId) -> Result<Vec<LogEnd>, StoreError> {
        self.all(
            "SELECT author, seq_num, hash FROM heads h WHERE log = ?1 AND pos < ?2
             UNION ALL
             SELECT h.author, o.seq_num, o.hash FROM heads h JOIN operations o
                 ON o.author = h.author AND o.log = h.log AND o.seq_num =
                    (SELECT max(p.seq_num) FROM operations p
                     WHERE p.author = h.author AND p.log = h.log AND p.place IS NOT NULL)
             WHERE h.log = ?1 AND h.pos = ?2
             ORDER BY 1",
            params![log.0, Place::UNPLACED.to_bytes()],
            |row| {
                Ok(LogEnd { author: Author(row.get(0)?), seq_num: row.get(1)?, id: OperationId(row.get(2)?) })
            },
        )
    }

    /// A two-party session with a device. Others may use the same name for theirs.
    pub fn session(&self, peer: &Author, id: SessionId) -> Result<Option<Session>, StoreError> {
        let sql = "SELECT state FROM two_party WHERE peer = ?1 AND session = ?2";
        let state = self.one(sql, [&peer.0[..], &id.0], |row| row.get::<_, Vec<u8>>(0))?;
        let Some(state) = state else { return Ok(None) };
        let state = self.unseal(Column::Session, &session_row(peer, id), state)?;
        self.parse_session(&state).map(Some)
    }

    fn parse_session(&self, state: &[u8]) -> Result<Session, StoreError> {
        Session::from_bytes(state).map_err(|_| self.damaged("a two-party session does not parse"))
    }

    /// This device's X25519 secrets.
    pub fn device_secrets(&self) -> Result<Option<DeviceSecrets>, StoreError> {
        let Some(stored) = self.setting(DEVICE_SECRETS)? else { return Ok(None) };
        let bytes = self.unseal(Column::DeviceSecrets, &[], stored)?;
        let secrets = DeviceSecrets::from_bytes(&bytes);
        secrets.map(Some).map_err(|_| self.damaged("this device's key material does not parse"))
    }

    /// The key bundle of a device that is good for longest. Not checked for its time.
    pub fn device_bundle(&self, device: &Author) -> Result<Option<DeviceBundle>, StoreError> {
        let stored =
            self.one("SELECT header, body FROM device_bundle WHERE device = ?1", [device.0], |row| {
                Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
            })?;
        let Some((header, body)) = stored else { return Ok(None) };
        let body = self.unseal(Column::DeviceBundle, &device.0, body)?;
        let operation = VerifiedOperation::from_store(&header, &body).ok();
        let bundle = operation.as_ref().and_then(DeviceBundle::of);
        bundle.map(Some).ok_or_else(|| self.damaged("a key bundle does not parse"))
    }

    /// The operation of a device's key bundle, header and body.
    pub(crate) fn bundle_operation(&self, device: &Author) -> Result<Option<SignedBytes>, StoreError> {
        let stored =
            self.one("SELECT header, body FROM device_bundle WHERE device = ?1", [device.0], |row| {
                Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
            })?;
        let Some((header, body)) = stored else { return Ok(None) };
        let body = self.unseal(Column::DeviceBundle, &device.0, body)?.to_vec();
        Ok(Some(SignedBytes { header, body }))
    }

    /// Whose device this is, as its certificate says. Without one a device is its own identity.
    pub fn identity_of(&self, device: &Author) -> Result<Identity, StoreError> {
        let found =
            self.one("SELECT identity FROM device_identity WHERE device = ?1", [device.0], |row| row.get(0))?;
        Ok(Identity(found.unwrap_or(device.0)))
    }

    /// The devices an identity has certified, as far as they were seen.
    pub fn devices_of(&self, identity: &Identity) -> Result<Vec<Author>, StoreError> {
        self.all(
            "SELECT device FROM device_identity WHERE identity = ?1 ORDER BY device",
            [identity.0],
            |row| row.get(0).map(Author),
        )
    }

    pub(super) fn damaged(&self, detail: &str) -> StoreError {
        StoreError::Corrupt { path: self.file().path(), detail: detail.to_owned() }
    }
}

impl Tx<'_> {
    /// Notes that a topic closed; an earlier note gives way.
    pub(crate) fn put_topic_close(&self, close: &TopicClose) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO topic_close (topic, operation, generation, resets, seq, successor, epoch)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (topic) DO UPDATE SET operation = excluded.operation, generation = excluded.generation,
                 resets = excluded.resets, seq = excluded.seq, successor = excluded.successor, epoch = excluded.epoch",
            params![
                close.topic.0,
                close.operation.0,
                close.generation.0,
                close.resets,
                int(close.seq.0),
                close.successor.0,
                close.epoch
            ],
        )
        .map(drop)
    }

    /// A topic goes on after all.
    pub(crate) fn remove_topic_close(&self, topic: TopicId) -> Result<(), StoreError> {
        self.run("DELETE FROM topic_close WHERE topic = ?1", [topic.0]).map(drop)
    }

    /// Keeps a rotation of this device that has no place yet, with what it hands over.
    pub(crate) fn put_own_rotation(
        &self,
        topic: TopicId,
        operation: &VerifiedOperation,
        ticket: &Ticket,
    ) -> Result<(), StoreError> {
        let text = Zeroizing::new(ticket.to_string());
        let sealed = self.seal(Column::RotationTicket, &operation.id().0, text.as_bytes())?;
        self.run(
            "INSERT INTO rotation (operation, topic, rotator, body, ticket) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![operation.id().0, topic.0, operation.author().0, operation.body_bytes(), sealed],
        )
        .map(drop)
    }

    /// Forgets this device's rotations of a topic that another one closed.
    pub(crate) fn remove_lost_rotations(
        &self,
        topic: TopicId,
        closed_by: &OperationId,
    ) -> Result<Vec<OperationId>, StoreError> {
        self.all(
            "DELETE FROM rotation WHERE topic = ?1 AND ticket IS NOT NULL AND operation <> ?2 RETURNING operation",
            [topic.0, closed_by.0],
            |row| row.get(0).map(OperationId),
        )
    }

    /// Notes where a rotation stands, in the topic that it may close; the first place in a copy of the log counts. Of one
    /// author those that stand first are kept, [`MAX_ROTATIONS_OF_AUTHOR`] in a topic, in whatever order they are read; others
    /// are dropped and counted.
    pub(crate) fn place_rotation(
        &self,
        receipt: &Receipt,
        operation: &OperationId,
        rotator: &Author,
        body: &[u8],
    ) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO rotation (operation, topic, rotator, generation, resets, seq, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (operation) DO UPDATE SET topic = excluded.topic, generation = excluded.generation,
                 resets = excluded.resets, seq = excluded.seq
             WHERE rotation.resets IS NULL OR rotation.topic <> excluded.topic",
            params![
                operation.0,
                receipt.topic.0,
                rotator.0,
                receipt.generation.0,
                receipt.place.resets,
                int(receipt.place.seq.0),
                body
            ],
        )?;
        // What closed the topic stays, whatever is read before it later.
        let dropped = self.run(
            "DELETE FROM rotation WHERE operation IN (
                 SELECT operation FROM rotation WHERE topic = ?1 AND rotator = ?2 AND resets IS NOT NULL
                 ORDER BY resets, seq LIMIT -1 OFFSET ?3)
             AND operation NOT IN (SELECT operation FROM topic_close WHERE topic = ?1)",
            params![receipt.topic.0, rotator.0, int(MAX_ROTATIONS_OF_AUTHOR as u64)],
        )?;
        for _ in 0..dropped {
            self.count_dropped(receipt.topic, TOO_MANY_ROTATIONS)?;
        }
        Ok(())
    }

    /// The devices that may close the topics of a log, from now on.
    pub(crate) fn set_rotators(&self, log: &LogId, devices: &[Author]) -> Result<(), StoreError> {
        self.run("DELETE FROM rotator WHERE log = ?1", [log.0])?;
        for device in devices {
            self.run("INSERT OR IGNORE INTO rotator (log, device) VALUES (?1, ?2)", [log.0, device.0])?;
        }
        Ok(())
    }

    /// Keeps a session as it is now.
    pub fn put_session(&self, session: &Session, now: Millis) -> Result<(), StoreError> {
        let row = session_row(&session.peer, session.id);
        let state = self.seal(Column::Session, &row, &session.to_bytes())?;
        self.run(
            "INSERT INTO two_party (session, peer, used_ms, state) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (peer, session) DO UPDATE SET used_ms = excluded.used_ms, state = excluded.state",
            params![session.id.0, session.peer.0, int(now.0), state],
        )
        .map(drop)
    }

    /// Keeps this device's X25519 secrets.
    pub(crate) fn put_device_secrets(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.set_setting(DEVICE_SECRETS, &self.seal(Column::DeviceSecrets, &[], bytes)?)
    }

    /// Forgets this device's X25519 secrets and sessions: another copy of the database goes on with them.
    pub fn forget_sessions(&self) -> Result<(), StoreError> {
        self.run("DELETE FROM setting WHERE name = ?1", [DEVICE_SECRETS])?;
        self.run("DELETE FROM two_party", [])?;
        self.forget_inboxes()
    }

    /// Keeps a device's bundle, if it is good for longer than the one before, or as long and says whose device it is; one
    /// that claims more than any may gives way to every other.
    pub(crate) fn put_device_bundle(
        &self,
        operation: &VerifiedOperation,
        expires: Millis,
        now: Millis,
    ) -> Result<(), StoreError> {
        let longest = now.plus(MAX_BUNDLE_LIFETIME_MS);
        // It says where the device is written to.
        let body = self.seal(Column::DeviceBundle, &operation.author().0, operation.body_bytes())?;
        self.run(
            "INSERT INTO device_bundle (device, expires_ms, header, body) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (device) DO UPDATE SET expires_ms = excluded.expires_ms, header = excluded.header,
                 body = excluded.body WHERE device_bundle.expires_ms > ?5
                 OR (excluded.expires_ms > device_bundle.expires_ms AND excluded.expires_ms <= ?5)
                 OR (excluded.expires_ms = device_bundle.expires_ms
                     AND length(excluded.header) >= length(device_bundle.header) + ?6)",
            params![
                operation.author().0,
                int(expires.0),
                operation.header(),
                body,
                int(longest.0),
                Certificate::LEN as u32
            ],
        )
        .map(drop)
    }

    /// Keeps whose device this is, and gives whether that was not known. The first certificate stands: a device does
    /// not change hands.
    pub(crate) fn put_certificate(&self, certificate: &Certificate) -> Result<bool, StoreError> {
        self.run(
            "INSERT OR IGNORE INTO device_identity (device, identity, certificate) VALUES (?1, ?2, ?3)",
            params![certificate.device.0, certificate.identity.0, certificate.to_bytes()],
        )
        .map(|rows| rows > 0)
    }

    /// For each author with operations in a topic after a place, the lowest number among them.
    pub(crate) fn authors_after(
        &self,
        topic: TopicId,
        resets: u32,
        seq: Seq,
    ) -> Result<Vec<(Author, u32)>, StoreError> {
        self.all(
            "SELECT o.author, min(o.seq_num) FROM placement p CROSS JOIN operations o
                 ON substr(o.hash, 1, 8) = substr(p.operation, 1, 8) AND o.hash = p.operation
             WHERE p.topic = ?1 AND p.resets = ?2 AND p.seq > ?3 GROUP BY o.author ORDER BY o.author",
            params![topic.0, resets, int(seq.0)],
            |row| Ok((Author(row.get(0)?), row.get(1)?)),
        )
    }

    /// Where the topics of a log's later epochs hold operations that are counted in earlier ones.
    pub(crate) fn receipts_since(
        &self,
        log: &LogId,
        epoch: u32,
    ) -> Result<Map<OperationId, Receipt>, StoreError> {
        let begin = Place { epoch, resets: 0, seq: Seq(0) }.to_bytes();
        // Of several places the last one counts: they come in the order in which the better ones are last.
        let rows = self.all(
            "SELECT p.operation, topic.topic, p.generation, topic.epoch, p.resets, p.seq, p.received_ms
             FROM topic CROSS JOIN placement p USING (topic) CROSS JOIN operations o
                 ON substr(o.hash, 1, 8) = substr(p.operation, 1, 8) AND o.hash = p.operation
             WHERE topic.log = ?1 AND topic.epoch >= ?2 AND o.place < ?3
             ORDER BY topic.epoch DESC, p.resets, p.seq DESC",
            params![log.0, epoch, begin],
            |row| {
                let (topic, generation) = (TopicId(row.get(1)?), Generation(row.get(2)?));
                let place = Place { epoch: row.get(3)?, resets: row.get(4)?, seq: Seq(uint(row.get(5)?)) };
                let received = Millis(uint(row.get(6)?));
                Ok((OperationId(row.get(0)?), Receipt { topic, generation, place, received }))
            },
        )?;
        Ok(rows.into_iter().into_map())
    }

    /// Removes what waits in a topic after a place.
    pub(crate) fn remove_pending_after(
        &self,
        topic: TopicId,
        resets: u32,
        seq: Seq,
    ) -> Result<(), StoreError> {
        self.run(
            "DELETE FROM pending WHERE topic = ?1 AND resets = ?2 AND seq > ?3",
            params![topic.0, resets, int(seq.0)],
        )
        .map(drop)
    }
}

fn rotation_row(row: &Row<'_>) -> rusqlite::Result<StoredRotation> {
    Ok(StoredRotation {
        operation: OperationId(row.get(0)?),
        rotator: Author(row.get(1)?),
        generation: Generation(row.get(2)?),
        resets: row.get(3)?,
        seq: Seq(uint(row.get(4)?)),
        body: row.get(5)?,
    })
}

fn close_row(row: &Row<'_>) -> rusqlite::Result<TopicClose> {
    Ok(TopicClose {
        topic: TopicId(row.get(0)?),
        operation: OperationId(row.get(1)?),
        generation: Generation(row.get(2)?),
        resets: row.get(3)?,
        seq: Seq(uint(row.get(4)?)),
        successor: TopicId(row.get(5)?),
        epoch: row.get(6)?,
    })
}

/// The key of a session's row.
fn session_row(peer: &Author, id: SessionId) -> Vec<u8> {
    [&peer.0[..], &id.0].concat()
}
