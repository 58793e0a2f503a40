//! Secret columns (tickets, read keys, keys of epochs, sessions, this device's X25519 secrets, and the bodies of
//! operations that hand keys over) are sealed with a key that the platform's keystore holds: a copy of the file without it
//! opens no topic. What was said is not sealed; the file itself is to be protected by the platform all the same.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use rusqlite::params;
use zeroize::Zeroizing;

use super::Store;
use super::db::Db;
use super::db::DbFile;
use super::error::StoreError;
use super::tx::Durability;
use crate::identity::OperationId;

/// The key that a database's secret columns are sealed with.
#[derive(Clone)]
pub struct StoreKey(Zeroizing<[u8; 32]>);

impl StoreKey {
    /// From 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(..)")
    }
}

/// A column that holds secrets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    Ticket,
    ReadKey,
    RotationTicket,
    Session,
    PastKey,
    DeviceSecrets,
    OwnTopic,
    ClaimToken,
    DirectShare,
    PeerInbox,
    DeviceBundle,
    /// These three hold bodies, of which only some are secret.
    OperationBody,
    PendingBody,
    ForkBody,
    /// Not a secret: shows which key the others are sealed with.
    Mark,
}

/// Bodies that hand over keys (see [`holds_secrets`]), or are sealed.
macro_rules! secret_body {
    ($select:literal, $column:literal) => {
        concat!(
            $select,
            " AND (substr(",
            $column,
            ", 1, 1) = x'01' OR substr(",
            $column,
            ", 4, 8) = CAST('key.past' AS BLOB) OR substr(",
            $column,
            ", 4, 9) = CAST('own.topic' AS BLOB) OR substr(",
            $column,
            ", 4, 11) = CAST('room.create' AS BLOB) OR substr(",
            $column,
            ", 4, 13) IN (CAST('invite.create' AS BLOB), CAST('direct.accept' AS BLOB), \
              CAST('device.bundle' AS BLOB)) OR substr(",
            $column,
            ", 4, 14) = CAST('direct.request' AS BLOB))"
        )
    };
}

impl Column {
    const SECRET: [Self; 14] = [
        Self::Ticket,
        Self::ReadKey,
        Self::RotationTicket,
        Self::Session,
        Self::PastKey,
        Self::DeviceSecrets,
        Self::OwnTopic,
        Self::ClaimToken,
        Self::DirectShare,
        Self::PeerInbox,
        Self::DeviceBundle,
        Self::OperationBody,
        Self::PendingBody,
        Self::ForkBody,
    ];

    /// Whether only some of its rows are secret.
    const fn is_body(self) -> bool {
        matches!(self, Self::OperationBody | Self::PendingBody | Self::ForkBody)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ticket => "topic.ticket",
            Self::ReadKey => "topic.read_key",
            Self::RotationTicket => "rotation.ticket",
            Self::Session => "two_party.state",
            Self::PastKey => "key_past.secret",
            Self::DeviceSecrets => "setting.device-secrets",
            Self::OwnTopic => "setting.own-topic",
            Self::ClaimToken => "claim.token",
            Self::DirectShare => "direct_thread.share",
            Self::PeerInbox => "peer_inbox.seed",
            Self::DeviceBundle => "device_bundle.body",
            Self::OperationBody => "operations.body",
            Self::PendingBody => "pending.bytes",
            Self::ForkBody => "fork_proof.second_body",
            Self::Mark => "setting.sealed",
        }
    }

    /// Its rows: two parts of the key, and the value.
    const fn select(self) -> &'static str {
        match self {
            Self::Ticket => "SELECT topic, x'', ticket FROM topic",
            Self::ReadKey => "SELECT topic, x'', read_key FROM topic WHERE read_key IS NOT NULL",
            Self::RotationTicket => "SELECT operation, x'', ticket FROM rotation WHERE ticket IS NOT NULL",
            Self::Session => "SELECT peer, session, state FROM two_party",
            Self::PastKey => "SELECT operation, x'', secret FROM key_past",
            Self::DeviceSecrets => "SELECT x'', x'', value FROM setting WHERE name = 'device-secrets'",
            Self::OwnTopic => "SELECT x'', x'', value FROM setting WHERE name = 'own-topic'",
            Self::ClaimToken => "SELECT space, invite, token FROM claim",
            Self::DirectShare => "SELECT thread, x'', share FROM direct_thread WHERE share IS NOT NULL",
            Self::PeerInbox => "SELECT device, x'', seed FROM peer_inbox",
            Self::DeviceBundle => "SELECT device, x'', body FROM device_bundle",
            Self::OperationBody => {
                secret_body!("SELECT hash, x'', body FROM operations WHERE body IS NOT NULL", "body")
            }
            Self::PendingBody => {
                secret_body!("SELECT hash, x'', bytes FROM pending WHERE author IS NOT NULL", "bytes")
            }
            Self::ForkBody => secret_body!(
                "SELECT second_hash, x'', second_body FROM fork_proof WHERE second_body IS NOT NULL",
                "second_body"
            ),
            Self::Mark => "SELECT x'', x'', value FROM setting WHERE name = 'sealed'",
        }
    }

    const fn update(self) -> &'static str {
        match self {
            Self::Ticket => "UPDATE topic SET ticket = ?3 WHERE topic = ?1 AND ?2 = x''",
            Self::ReadKey => "UPDATE topic SET read_key = ?3 WHERE topic = ?1 AND ?2 = x''",
            Self::RotationTicket => "UPDATE rotation SET ticket = ?3 WHERE operation = ?1 AND ?2 = x''",
            Self::Session => "UPDATE two_party SET state = ?3 WHERE peer = ?1 AND session = ?2",
            Self::PastKey => "UPDATE key_past SET secret = ?3 WHERE operation = ?1 AND ?2 = x''",
            Self::DeviceSecrets => "UPDATE setting SET value = ?3 WHERE name = 'device-secrets' AND ?1 = ?2",
            Self::OwnTopic => "UPDATE setting SET value = ?3 WHERE name = 'own-topic' AND ?1 = ?2",
            Self::ClaimToken => "UPDATE claim SET token = ?3 WHERE space = ?1 AND invite = ?2",
            Self::DirectShare => "UPDATE direct_thread SET share = ?3 WHERE thread = ?1 AND ?2 = x''",
            Self::PeerInbox => "UPDATE peer_inbox SET seed = ?3 WHERE device = ?1 AND ?2 = x''",
            Self::DeviceBundle => "UPDATE device_bundle SET body = ?3 WHERE device = ?1 AND ?2 = x''",
            Self::OperationBody => {
                "UPDATE operations SET body = ?3
                 WHERE substr(hash, 1, 8) = substr(?1, 1, 8) AND hash = ?1 AND ?2 = x''"
            }
            Self::PendingBody => {
                "UPDATE pending SET bytes = ?3 WHERE hash = ?1 AND author IS NOT NULL AND ?2 = x''"
            }
            Self::ForkBody => "UPDATE fork_proof SET second_body = ?3 WHERE second_hash = ?1 AND ?2 = x''",
            Self::Mark => "UPDATE setting SET value = ?3 WHERE name = 'sealed' AND ?1 = ?2",
        }
    }
}

/// The kinds whose bodies hand over keys.
const SECRET_KINDS: [&str; 7] = [
    "room.create",
    "invite.create",
    "key.past",
    "own.topic",
    "direct.request",
    "direct.accept",
    "device.bundle",
];

/// Whether a body hands over keys: by its kind, which stands at one place in deterministic CBOR. One that begins as what is
/// sealed does (no body that decodes) is sealed, too: so nothing that others wrote is taken for it.
fn holds_secrets(body: &[u8]) -> bool {
    if body.first() == Some(&VERSION) {
        return true;
    }
    let Some((0xa0..=0xbf, after)) = body.split_first() else { return false };
    SECRET_KINDS.iter().any(|kind| {
        let head = u8::try_from(kind.len()).map_or(0, |len| 0x60 | len);
        after.strip_prefix(&[0, head]).is_some_and(|rest| rest.starts_with(kind.as_bytes()))
    })
}

/// Under which name the mark is kept.
const MARK: &str = "sealed";
const VERSION: u8 = 1;
const NONCE: usize = 24;

/// How a connection stands to the secrets of its database.
#[derive(Clone, Default)]
pub(super) enum Vault {
    /// They are not sealed: no keystore keeps a key for this database.
    #[default]
    Plain,
    /// They are, and nobody has given the key.
    Locked,
    /// They are, and here is the key.
    Open(Arc<Keys>),
}

pub(super) struct Keys {
    seal: XChaCha20Poly1305,
    nonce: Zeroizing<[u8; 32]>,
}

impl Vault {
    fn open(key: &StoreKey) -> Self {
        let derive = |context| Zeroizing::new(blake3::derive_key(context, &*key.0));
        let seal = XChaCha20Poly1305::new((&*derive("delta store seal v1")).into());
        Self::Open(Arc::new(Keys { seal, nonce: derive("delta store nonce v1") }))
    }
}

impl Keys {
    /// `01 | nonce[24] | ciphertext | tag[16]`; column and row are authenticated. The nonce is a MAC of everything that
    /// is sealed: the store draws nothing, and equal values of a row are equal.
    fn seal(&self, column: Column, row: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let aad = aad(column, row);
        let mut hash = blake3::Hasher::new_keyed(&self.nonce);
        hash.update(&(aad.len() as u64).to_be_bytes()).update(&aad).update(value);
        let mut nonce = [0; NONCE];
        hash.finalize_xof().fill(&mut nonce);
        let sealed = self.seal.encrypt(XNonce::from_slice(&nonce), Payload { msg: value, aad: &aad }).ok()?;
        Some([&[VERSION][..], &nonce, &sealed].concat())
    }

    fn unseal(&self, column: Column, row: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (version, rest) = sealed.split_first()?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE)?;
        let payload = Payload { msg: ciphertext, aad: &aad(column, row) };
        let opened = self.seal.decrypt(XNonce::from_slice(nonce), payload).ok()?;
        (*version == VERSION).then(|| Zeroizing::new(opened))
    }
}

/// `column | 00 | row key`: no column's name holds a zero byte.
fn aad(column: Column, row: &[u8]) -> Vec<u8> {
    [column.name().as_bytes(), &[0], row].concat()
}

impl Db {
    /// A secret as it is to be stored.
    ///
    /// # Errors
    /// [`StoreError::KeyMissing`]: nothing is stored in the clear where the rest is sealed.
    pub(super) fn seal(&self, column: Column, row: &[u8], value: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.seal_in(&self.vault, column, row, value)
    }

    /// A stored secret.
    ///
    /// # Errors
    /// [`StoreError::KeyMissing`] before [`Store::unlock`].
    pub(super) fn unseal(
        &self,
        column: Column,
        row: &[u8],
        stored: impl Into<Zeroizing<Vec<u8>>>,
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        self.unseal_in(&self.vault, column, row, stored.into())
    }

    /// A stored secret of 32 bytes.
    pub(super) fn unseal_array(
        &self,
        column: Column,
        row: &[u8],
        stored: Vec<u8>,
    ) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        let value = self.unseal(column, row, stored)?;
        let array = <[u8; 32]>::try_from(&value[..]).map(Zeroizing::new);
        array.map_err(|_| self.damaged("a secret has no 32 bytes"))
    }

    /// A body as it is to be stored in the row of an operation.
    pub(super) fn seal_body<'a>(
        &self,
        column: Column,
        id: &OperationId,
        body: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, StoreError> {
        if matches!(self.vault, Vault::Plain) || !holds_secrets(body) {
            return Ok(Cow::Borrowed(body));
        }
        self.seal(column, &id.0, body).map(Cow::Owned)
    }

    /// A stored body.
    pub(super) fn unseal_body(
        &self,
        column: Column,
        id: &OperationId,
        stored: Vec<u8>,
    ) -> Result<Vec<u8>, StoreError> {
        match (&self.vault, stored.first()) {
            (Vault::Plain, _) => Ok(stored),
            // A body is a map, which begins otherwise.
            (_, Some(&VERSION)) => Ok(self.unseal(column, &id.0, stored)?.to_vec()),
            _ => Ok(stored),
        }
    }

    fn seal_in(
        &self,
        vault: &Vault,
        column: Column,
        row: &[u8],
        value: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        match vault {
            Vault::Plain => Ok(value.to_vec()),
            Vault::Locked => Err(StoreError::KeyMissing { path: self.file().path() }),
            Vault::Open(keys) => keys.seal(column, row, value).ok_or_else(|| self.not_sealed(column)),
        }
    }

    fn unseal_in(
        &self,
        vault: &Vault,
        column: Column,
        row: &[u8],
        stored: Zeroizing<Vec<u8>>,
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        match vault {
            Vault::Plain => Ok(stored),
            Vault::Locked => Err(StoreError::KeyMissing { path: self.file().path() }),
            Vault::Open(keys) => keys.unseal(column, row, &stored).ok_or_else(|| self.not_sealed(column)),
        }
    }

    fn not_sealed(&self, column: Column) -> StoreError {
        let detail = format!("a row of {} is not sealed as it must be", column.name());
        StoreError::Corrupt { path: self.file().path(), detail }
    }

    /// How a connection stands that was just opened.
    pub(super) fn look_at_vault(&self) -> Result<Vault, StoreError> {
        Ok(if self.setting(MARK)?.is_some() { Vault::Locked } else { Vault::Plain })
    }

    /// Every secret column from one vault to another.
    fn reseal(&self, from: &Vault, to: &Vault) -> Result<(), StoreError> {
        for column in Column::SECRET {
            let rows = self.all(column.select(), [], |row| {
                Ok((
                    row.get::<_, Vec<u8>>(0)?,
                    row.get::<_, Vec<u8>>(1)?,
                    Zeroizing::new(row.get::<_, Vec<u8>>(2)?),
                ))
            })?;
            for (key, more, stored) in rows {
                // The selection takes whole families of kinds, so that others' unknown ones are among the rows.
                let is_meant = match from {
                    Vault::Plain => holds_secrets(&stored),
                    Vault::Locked | Vault::Open(_) => stored.first() == Some(&VERSION),
                };
                if column.is_body() && !is_meant {
                    continue;
                }
                let row = [&key[..], &more].concat();
                let value = self.unseal_in(from, column, &row, stored)?;
                self.run(column.update(), params![key, more, self.seal_in(to, column, &row, &value)?])?;
            }
        }
        // What waits has another length now.
        self.run(
            "UPDATE pending_size SET
                bytes = (SELECT ifnull(sum(length(bytes) + ifnull(length(header), 0)), 0) FROM pending
                         WHERE pending.topic = pending_size.topic),
                key_bytes = (SELECT ifnull(sum(iif(key_id IS NULL, 0, length(bytes))), 0) FROM pending
                             WHERE pending.topic = pending_size.topic)",
            [],
        )
        .map(drop)
    }

    /// A copy of the database for an export: there the secrets are not sealed with this device's key.
    pub(super) fn unseal_copy(&self, path: &std::path::Path) -> Result<(), StoreError> {
        if matches!(self.vault, Vault::Plain) {
            return Ok(());
        }
        let copy = Self::open(&DbFile::Path(Arc::from(path)), rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        copy.batch("PRAGMA secure_delete = ON; BEGIN IMMEDIATE")?;
        copy.reseal(&self.vault, &Vault::Plain)?;
        copy.run("DELETE FROM setting WHERE name = ?1", [MARK])?;
        copy.batch("COMMIT")
    }
}

impl Store {
    /// Whether secret columns are sealed: then [`Store::unlock`] is needed before they can be read.
    pub fn is_sealed(&self) -> bool {
        !matches!(self.db.vault, Vault::Plain)
    }

    /// The error of a database that is sealed where there is no key.
    pub fn key_missing(&self) -> StoreError {
        StoreError::KeyMissing { path: self.db.file().path() }
    }

    /// Gives the key of the secret columns. A database whose columns are not sealed yet has them sealed with it, now and
    /// from now on.
    ///
    /// # Errors
    /// [`StoreError::WrongKey`], and nothing is changed.
    pub fn unlock(&mut self, key: &StoreKey) -> Result<(), StoreError> {
        let vault = Vault::open(key);
        match self.setting(MARK)? {
            Some(mark) => {
                let opened = self.db.unseal_in(&vault, Column::Mark, &[], mark.into());
                opened.map_err(|_| StoreError::WrongKey { path: self.db.file().path() })?;
            }
            None => self.seal_all(&vault)?,
        }
        // The log holds pages from before, also where a process ended right after it had sealed them.
        self.db.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)")?;
        self.db.vault = vault;
        Ok(())
    }

    /// One transaction: cut anywhere, nothing is sealed or everything is.
    fn seal_all(&mut self, vault: &Vault) -> Result<(), StoreError> {
        let tx = self.begin(Durability::Full)?;
        tx.reseal(&Vault::Plain, vault)?;
        tx.set_setting(MARK, &tx.seal_in(vault, Column::Mark, &[], &[])?)?;
        tx.commit()
    }

    /// As [`Store::unlock`] of a database that is not sealed yet, without what follows the commit.
    #[cfg(test)]
    pub(super) fn seal_without_checkpoint(&mut self, key: &StoreKey) -> Result<(), StoreError> {
        self.seal_all(&Vault::open(key))
    }
}
