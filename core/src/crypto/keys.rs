//! A device's own X25519 secrets: its identity key and its prekeys, each with an end.

use std::fmt;

use p2panda_core::cbor::{decode_cbor, encode_cbor};
use p2panda_encryption::key_manager::KeyManagerState;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::CryptoError;
use crate::identity::Millis;

/// How long a prekey is published for, milliseconds: 60 days.
pub const PREKEY_LIFETIME_MS: u64 = 60 * 24 * 3_600_000;
/// How long a prekey's secret is kept after that, for messages on their way, milliseconds: 14 days.
pub const PREKEY_GRACE_MS: u64 = 14 * 24 * 3_600_000;

/// The secrets. Not printed; the library wipes its keys on drop.
///
/// Each prekey has a state of the library's of its own: that throws prekeys away by the system's clock, we by `now`.
#[derive(Clone, Serialize, Deserialize)]
pub struct DeviceSecrets {
    pub(super) identity: KeyManagerState,
    /// Newest last, at least one.
    pub(super) prekeys: Vec<Prekey>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Prekey {
    pub(super) key: [u8; 32],
    pub(super) expires_ms: u64,
    pub(super) state: KeyManagerState,
}

impl Prekey {
    /// Whether first messages to it are still opened.
    pub(super) const fn opens(&self, now: Millis) -> bool {
        self.expires_ms.saturating_add(PREKEY_GRACE_MS) > now.0
    }
}

impl DeviceSecrets {
    /// The encoded form, secrets included.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        encode_cbor(self).map(Zeroizing::new).map_err(|_| CryptoError::Library)
    }

    /// The inverse of [`DeviceSecrets::to_bytes`], from this device's own database.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        let secrets: Self = decode_cbor(bytes).map_err(|_| CryptoError::Damaged)?;
        if secrets.prekeys.is_empty() { Err(CryptoError::Damaged) } else { Ok(secrets) }
    }

    /// Whether the newest prekey's time is more than half over, or longer than any may be (it was made while the clock
    /// was ahead, and nobody takes it): publish a fresh one.
    pub fn wants_rotation(&self, now: Millis) -> bool {
        let left = self.prekeys.last().map_or(0, |prekey| Millis(prekey.expires_ms).since(now));
        !(PREKEY_LIFETIME_MS / 2..=PREKEY_LIFETIME_MS).contains(&left)
    }

    /// The secrets without prekeys that open nothing any more; `None`: there are none. The two newest stay whatever the
    /// clock says: one that is far ahead must not throw away what is in use.
    pub fn forget_expired(&self, now: Millis) -> Option<Self> {
        let keep = self.prekeys.len().saturating_sub(2);
        let (older, newest) = self.prekeys.split_at_checked(keep)?;
        let mut prekeys: Vec<Prekey> = older.iter().filter(|prekey| prekey.opens(now)).cloned().collect();
        if prekeys.len() == older.len() {
            return None;
        }
        prekeys.extend_from_slice(newest);
        Some(Self { identity: self.identity.clone(), prekeys })
    }

    /// Whether these were made from `older`, with nothing lost that others may use.
    pub(crate) fn continues(&self, older: &Self) -> bool {
        let newest = older.prekeys.last().map(|prekey| prekey.key);
        self.prekeys.iter().any(|prekey| Some(prekey.key) == newest)
    }

    /// When the newest prekey expires.
    pub fn expires(&self) -> Millis {
        Millis(self.prekeys.last().map_or(0, |prekey| prekey.expires_ms))
    }

    /// The state with this prekey, until its time and the grace are over.
    pub(super) fn prekey(&self, key: &[u8; 32], now: Millis) -> Option<&KeyManagerState> {
        let found = self.prekeys.iter().find(|prekey| prekey.key == *key);
        found.filter(|prekey| prekey.opens(now)).map(|prekey| &prekey.state)
    }
}

impl fmt::Debug for DeviceSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceSecrets({} prekeys)", self.prekeys.len())
    }
}
