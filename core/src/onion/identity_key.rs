//! Ed25519 identities used as X25519 keys, for the original formats (v2 packets, sealed sender).
//!
//! The secret is clamp(SHA-512(seed)[0..32]), the scalar Ed25519 itself uses (RFC 8032, section 5.1.5); the public
//! key is the Edwards point moved to the Montgomery curve (RFC 7748, section 4.1). A key that does not stand for
//! exactly one point of the prime-order group is refused, never replaced.

use std::fmt;

use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::SigningKey;
use thiserror::Error;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::curve::{is_canonical_u, public_of, shared_secret};

/// An Ed25519 public key is refused. Whoever handed it out is at fault; use another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdentityKeyError {
    /// The bytes are no point, or not its one canonical encoding.
    #[error("the Ed25519 key does not decode canonically")]
    NotCanonical,
    /// The point is of small order: every shared secret with it is public.
    #[error("the Ed25519 key is weak")]
    Weak,
    /// The point has a part of small order: shared secrets with it leak bits and have several spellings.
    #[error("the Ed25519 key is not torsion-free")]
    MixedOrder,
}

/// An Ed25519 public key, checked and moved to X25519.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityKey {
    x25519: PublicKey,
}

impl IdentityKey {
    /// Checks and converts an Ed25519 public key (of a relay, or of a device).
    pub fn from_ed25519(key: &[u8; 32]) -> Result<Self, IdentityKeyError> {
        let point = CompressedEdwardsY(*key).decompress().ok_or(IdentityKeyError::NotCanonical)?;
        // Decompression takes y and y + p, and either sign of x = 0.
        if point.compress().to_bytes() != *key {
            return Err(IdentityKeyError::NotCanonical);
        }
        if point.is_small_order() {
            return Err(IdentityKeyError::Weak);
        }
        if !point.is_torsion_free() {
            return Err(IdentityKeyError::MixedOrder);
        }
        Ok(Self { x25519: PublicKey::from(point.to_montgomery().to_bytes()) })
    }

    /// The X25519 public key.
    pub const fn x25519(&self) -> &PublicKey {
        &self.x25519
    }
}

/// An Ed25519 identity's secret, as X25519 uses it.
#[derive(Clone)]
pub struct IdentitySecret {
    secret: StaticSecret,
}

impl IdentitySecret {
    /// From the Ed25519 seed (RFC 8032).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { secret: StaticSecret::from(SigningKey::from_bytes(seed).to_scalar_bytes()) }
    }

    /// The public half.
    pub fn public(&self) -> IdentityKey {
        IdentityKey { x25519: public_of(&self.secret) }
    }

    /// The shared secret with an ephemeral key; `None` when that key is not canonical or of small order.
    pub(super) fn shared(&self, epk: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        is_canonical_u(epk).then(|| shared_secret(&self.secret, &PublicKey::from(*epk)))?
    }
}

impl fmt::Debug for IdentitySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentitySecret(..)")
    }
}
