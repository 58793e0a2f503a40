//! Key bundles: what a device publishes so that others can begin a session with it while it is away.

use p2panda_encryption::crypto::x25519::PublicKey;
use p2panda_encryption::crypto::xeddsa::XSignature;
use p2panda_encryption::key_bundle::{Lifetime, LongTermKeyBundle, PreKey};
use p2panda_encryption::traits::KeyBundle as _;
use thiserror::Error;

use crate::identity::{Author, Millis};
use crate::onion::curve::is_usable_u;
use crate::ops::{Content, KeyBundle, VerifiedOperation};

/// Longest time a bundle may still be good for, milliseconds: 90 days. One that claims more is refused.
pub const MAX_BUNDLE_LIFETIME_MS: u64 = 90 * 24 * 3_600_000;

/// A bundle is refused. The device that published it, or whoever made it up, is at fault: wait for a fresh one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BundleError {
    /// Its time is over.
    #[error("the key bundle has expired")]
    Expired,
    /// It claims to be good for longer than any may be.
    #[error("the key bundle claims to be good for more than 90 days")]
    TooLong,
    /// A key is not canonical, or of small order.
    #[error("a key of the bundle is not a usable X25519 key")]
    Key,
    /// The device's key did not sign the prekey.
    #[error("the prekey's signature does not verify")]
    Signature,
}

impl KeyBundle {
    /// Whether it may be used now: in time, with usable keys, rightly signed.
    pub fn verify(&self, now: Millis) -> Result<(), BundleError> {
        if self.expires <= now {
            return Err(BundleError::Expired);
        }
        if self.expires.since(now) > MAX_BUNDLE_LIFETIME_MS {
            return Err(BundleError::TooLong);
        }
        if !is_usable_u(&self.identity) || !is_usable_u(&self.prekey) {
            return Err(BundleError::Key);
        }
        self.library().and_then(|bundle| bundle.verify().ok()).ok_or(BundleError::Signature)
    }

    pub(super) fn library(&self) -> Option<LongTermKeyBundle> {
        let prekey = PreKey::new(PublicKey::from_bytes(self.prekey), any_time()?);
        let identity = PublicKey::from_bytes(self.identity);
        Some(LongTermKeyBundle::new(identity, prekey, XSignature::from_bytes(self.signature)))
    }
}

/// A lifetime that the library, which reads the system's clock, finds good at any time: ours is checked with `now`.
pub(super) fn any_time() -> Option<Lifetime> {
    serde_json::from_value(serde_json::json!({ "not_before": 0, "not_after": u64::MAX })).ok()
}

/// A bundle and the device that published it: only from an operation that the device signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceBundle {
    device: Author,
    bundle: KeyBundle,
}

impl DeviceBundle {
    /// The bundle a `device.bundle` operation publishes; `None` for every other one.
    pub fn of(operation: &VerifiedOperation) -> Option<Self> {
        match &operation.body().content {
            Content::DeviceBundle(bundle) => Some(Self { device: operation.author(), bundle: *bundle }),
            _ => None,
        }
    }

    /// Whose.
    pub const fn device(&self) -> Author {
        self.device
    }

    /// The keys; not checked yet.
    pub const fn bundle(&self) -> &KeyBundle {
        &self.bundle
    }

    #[cfg(test)]
    pub(super) const fn unchecked(device: Author, bundle: KeyBundle) -> Self {
        Self { device, bundle }
    }
}
