//! Secret columns (tickets, read keys, keys of epochs, sessions, this device's X25519 secrets, and the bodies of
//! operations that hand keys over) are sealed with a key that the platform's keystore holds: a copy of the file without it
//! opens no topic. What was said is not sealed; the file itself is to be protected by the platform all the same.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::db::Db;
use super::error::StoreError;
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
    BlobManifest,
    /// These three hold bodies, of which only some are secret.
    OperationBody,
    PendingBody,
    ForkBody,
    /// Not a secret: shows which key the others are sealed with.
    Mark,
}

impl Column {
    pub(super) const SECRET: [Self; 15] = [
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
        Self::BlobManifest,
        Self::OperationBody,
        Self::PendingBody,
        Self::ForkBody,
    ];

    /// Whether only some of its rows are secret.
    pub(super) const fn is_body(self) -> bool {
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
            Self::BlobManifest => "blob.manifest",
            Self::OperationBody => "operations.body",
            Self::PendingBody => "pending.bytes",
            Self::ForkBody => "fork_proof.second_body",
            Self::Mark => "setting.sealed",
        }
    }
}

/// The kinds whose bodies hand over keys.
const SECRET_KINDS: [&str; 11] = [
    "room.create",
    "room.renew",
    "invite.create",
    "key.past",
    "key.welcome",
    "own.topic",
    "own.thread",
    "own.past",
    "direct.request",
    "direct.accept",
    "device.bundle",
];

/// Whether a body hands over keys: by its kind, which stands at one place in deterministic CBOR. One that begins as what is
/// sealed does (no body that decodes) is sealed, too: so nothing that others wrote is taken for it.
pub(super) fn holds_secrets(body: &[u8]) -> bool {
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
pub(super) const MARK: &str = "sealed";
/// How what is sealed begins.
pub(super) const VERSION: u8 = 1;
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
    pub(super) fn open(key: &StoreKey) -> Self {
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

    pub(super) fn seal_in(
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

    pub(super) fn unseal_in(
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
}
