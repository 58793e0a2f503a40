//! The sealing that v2 packets and sealed sender v1 share:
//! `version | EPK[32] | NONCE[24] | ciphertext | tag[16]` under
//! HKDF-SHA256(ikm = X25519(ephemeral, recipient), salt = EPK, info) and XChaCha20-Poly1305 without further data.

use std::ops::Range;

use chacha20poly1305::{AeadInPlace, KeyInit, XChaCha20Poly1305};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::curve::{public_of, shared_secret};
use super::identity_key::{IdentityKey, IdentitySecret};

/// Bytes before the ciphertext.
pub(super) const PREFIX: usize = 57;
pub(super) const TAG: usize = 16;
/// Bytes sealing adds.
pub(super) const OVERHEAD: usize = PREFIX + TAG;

/// Which of the two formats.
pub(super) struct Format {
    pub(super) version: u8,
    pub(super) info: &'static [u8],
}

pub(super) enum OpenError {
    Length,
    Version(u8),
    EphemeralKey,
    Seal,
}

/// What one sealing draws at random.
#[derive(Clone, Copy)]
pub(super) struct Fresh<'a> {
    pub(super) ephemeral: &'a [u8; 32],
    pub(super) nonce: &'a [u8; 24],
}

/// Seals in place: `place` is a whole envelope whose plaintext stands between prefix and tag already. `None` when
/// the shared secret is zero, which a checked key never gives.
pub(super) fn seal(
    format: &Format,
    recipient: &IdentityKey,
    fresh: Fresh<'_>,
    place: &mut [u8],
) -> Option<()> {
    let ephemeral = StaticSecret::from(*fresh.ephemeral);
    let epk = public_of(&ephemeral);
    let shared = shared_secret(&ephemeral, recipient.x25519())?;
    let (prefix, rest) = place.split_at_mut_checked(PREFIX)?;
    let (plaintext, tag) = rest.split_last_chunk_mut::<TAG>()?;
    let (version, keys) = prefix.split_first_mut()?;
    let (epk_place, nonce_place) = keys.split_at_mut_checked(32)?;
    *version = format.version;
    epk_place.copy_from_slice(epk.as_bytes());
    nonce_place.copy_from_slice(fresh.nonce);
    *tag = aead(format, &shared, epk.as_bytes())?
        .encrypt_in_place_detached(fresh.nonce.into(), &[], plaintext)
        .ok()?
        .into();
    Some(())
}

/// Opens in place; gives the ephemeral key and where the plaintext now stands.
pub(super) fn open(
    format: &Format,
    secret: &IdentitySecret,
    envelope: &mut [u8],
) -> Result<([u8; 32], Range<usize>), OpenError> {
    let end = envelope.len().checked_sub(TAG).ok_or(OpenError::Length)?;
    let (prefix, rest) = envelope.split_at_mut_checked(PREFIX).ok_or(OpenError::Length)?;
    let (ciphertext, tag) = rest.split_last_chunk_mut::<TAG>().ok_or(OpenError::Length)?;
    let (version, keys) = prefix.split_first().ok_or(OpenError::Length)?;
    if *version != format.version {
        return Err(OpenError::Version(*version));
    }
    let (epk, nonce) = keys.split_first_chunk::<32>().ok_or(OpenError::Length)?;
    let nonce: &[u8; 24] = nonce.try_into().map_err(|_| OpenError::Length)?;
    let shared = secret.shared(epk).ok_or(OpenError::EphemeralKey)?;
    aead(format, &shared, epk)
        .ok_or(OpenError::Seal)?
        .decrypt_in_place_detached(nonce.into(), &[], ciphertext, (&*tag).into())
        .map_err(|_| OpenError::Seal)?;
    Ok((*epk, PREFIX..end))
}

fn aead(format: &Format, shared: &[u8; 32], epk: &[u8; 32]) -> Option<XChaCha20Poly1305> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(epk), shared).expand(format.info, key.as_mut_slice()).ok()?;
    Some(XChaCha20Poly1305::new((&*key).into()))
}
