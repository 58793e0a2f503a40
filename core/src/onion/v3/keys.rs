//! A node's onion keys, and the keys of one layer.

use std::fmt;

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{AAD_LEN, ReplayTag, SLOT_LEN};
use crate::entropy::{Entropy, EntropyError};
use crate::onion::curve::{is_canonical_u, is_usable_u, public_of, shared_secret};

/// A node's onion key: what a sender needs to make a layer for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OnionKey {
    /// Which of the node's keys this is.
    pub kid: u16,
    /// The X25519 public key.
    pub public: [u8; 32],
}

impl OnionKey {
    /// Whether a layer can be made for this key: canonically encoded and not of low order.
    pub fn is_usable(&self) -> bool {
        is_usable_u(&self.public)
    }
}

/// The secret half of a node's onion key. Its public half is computed once.
#[derive(Clone)]
pub struct OnionSecret {
    kid: u16,
    secret: StaticSecret,
    public: PublicKey,
}

impl OnionSecret {
    /// From stored bytes.
    pub fn from_bytes(kid: u16, secret: [u8; 32]) -> Self {
        let secret = StaticSecret::from(secret);
        let public = public_of(&secret);
        Self { kid, secret, public }
    }

    /// A fresh key.
    pub fn generate(kid: u16, entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        let mut secret = Zeroizing::new([0; 32]);
        entropy.fill(secret.as_mut_slice())?;
        Ok(Self::from_bytes(kid, *secret))
    }

    /// Which of the node's keys this is. The keys a node accepts at one time have distinct ids.
    pub const fn kid(&self) -> u16 {
        self.kid
    }

    /// The public half, for the node's directory record.
    pub fn public(&self) -> OnionKey {
        OnionKey { kid: self.kid, public: *self.public.as_bytes() }
    }

    /// The bytes to store; handle like a password.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.to_bytes())
    }

    /// The keys of a layer made for this key; `None` when its ephemeral key is refused.
    pub(super) fn layer(&self, epk: &[u8; 32], header: &[u8; AAD_LEN]) -> Option<LayerKeys> {
        if !is_canonical_u(epk) {
            return None;
        }
        LayerKeys::derive(&self.secret, &PublicKey::from(*epk), header, self.public.as_bytes())
    }
}

impl fmt::Debug for OnionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnionSecret").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// What one layer is sealed, extended and remembered with.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct LayerKeys {
    aead: [u8; 32],
    fill: [u8; 32],
    pub(super) replay_tag: ReplayTag,
}

impl LayerKeys {
    /// Derives the keys from `own` and `other`; the layer is made for `node`. `None` when the shared secret is zero,
    /// which happens only with a key of low order.
    pub(super) fn derive(
        own: &StaticSecret,
        other: &PublicKey,
        header: &[u8; AAD_LEN],
        node: &[u8; 32],
    ) -> Option<Self> {
        let shared = shared_secret(own, other)?;
        let mut okm = Zeroizing::new([0; 80]);
        Hkdf::<Sha256>::new(Some(b"delta:onion:v3"), shared.as_slice())
            .expand_multi_info(&[b"keys", header, node], okm.as_mut_slice())
            .ok()?;
        let (aead, rest) = okm.split_first_chunk()?;
        let (fill, rest) = rest.split_first_chunk()?;
        Some(Self { aead: *aead, fill: *fill, replay_tag: *rest.first_chunk()? })
    }

    pub(super) fn aead(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&self.aead.into())
    }

    /// XORs the AEAD's keystream over the body, from byte `at` of the body on, into `bytes`.
    pub(super) fn apply_body_keystream(&self, at: usize, bytes: &mut [u8]) {
        let mut stream = ChaCha20::new(&self.aead.into(), &ZERO_NONCE.into());
        // Block 0 makes the Poly1305 key (RFC 8439, section 2.8); the body starts at block 1.
        stream.seek(64 + at as u64);
        stream.apply_keystream(bytes);
    }

    /// The bytes a node appends so that the packet keeps its length.
    pub(super) fn fill(&self) -> [u8; SLOT_LEN] {
        let mut fill = [0; SLOT_LEN];
        ChaCha20::new(&self.fill.into(), &ZERO_NONCE.into()).apply_keystream(&mut fill);
        fill
    }
}

/// Every key seals one layer, so the nonce never varies.
pub(super) const ZERO_NONCE: [u8; 12] = [0; 12];
