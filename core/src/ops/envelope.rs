//! Envelopes 00 (plain) and 03 (topic-sealed): what travels and what a server stores.
//!
//! Sealing is deterministic: any member that delivers an operation again makes the same bytes, and the server sees
//! a duplicate. So the nonce is a keyed hash of the padded plaintext, and opening recomputes it.

use bytes::Bytes;
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

#[cfg(feature = "device")]
use super::signature::AuthorKeys;
#[cfg(feature = "device")]
use super::verify::{Rejected, VerifiedOperation, verify_shared};
use crate::codec::{DecodeError, Reader};
#[cfg(feature = "device")]
use crate::identity::LogId;
use crate::limits::{MAX_ENVELOPE, MAX_HEADER, MAX_OPERATION};
use crate::topic::TopicId;

const PLAIN: u8 = 0x00;
const SEALED: u8 = 0x03;

const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
/// 03 | key_id | nonce.
const SEALED_HEAD: usize = 1 + KEY_ID_LEN + NONCE_LEN;
/// header_len u16 | body_len u32.
const LENGTHS: usize = 6;
const MIN_PADDED: usize = 256;
const KEY_ID_LEN: usize = 8;

/// Names the key an envelope was sealed with.
pub type KeyId = [u8; KEY_ID_LEN];

/// The padded length of a sealed plaintext of `len` bytes: max(256, PADMÉ).
///
/// PADMÉ (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files", 2019) keeps only as many significant
/// bits of a length as its exponent has bits: at most 12 % are added, and O(log log n) bits leak.
pub const fn padded_len(len: usize) -> usize {
    if len <= MIN_PADDED {
        return MIN_PADDED;
    }
    let exponent = len.ilog2();
    let kept = exponent.ilog2() + 1;
    len.next_multiple_of(1 << (exponent - kept))
}

/// An opened envelope: the bytes of an operation nobody has verified yet.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenedEnvelope {
    /// The operation's header.
    pub header: Bytes,
    /// The operation's body.
    pub body: Bytes,
}

#[cfg(feature = "device")]
impl OpenedEnvelope {
    /// [`verify`](super::verify) without copying.
    pub fn verify(self, log: &LogId) -> Result<VerifiedOperation, Rejected> {
        self.verify_with(log, &AuthorKeys::default())
    }

    /// [`OpenedEnvelope::verify`] with authors' keys that were read before.
    pub fn verify_with(self, log: &LogId, keys: &AuthorKeys) -> Result<VerifiedOperation, Rejected> {
        verify_shared(self.header, self.body, log, keys)
    }
}

impl std::fmt::Debug for OpenedEnvelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenedEnvelope({} + {} bytes)", self.header.len(), self.body.len())
    }
}

/// What a topic's secret gives: the sealing key, the nonce key and their public name.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct SealKeys {
    seal: [u8; 32],
    nonce: [u8; 32],
    #[zeroize(skip)]
    pub(super) id: KeyId,
}

impl SealKeys {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.seal.ct_eq(&other.seal).into()
    }

    pub(super) fn derive(secret: &[u8; 32], topic: &TopicId) -> Self {
        let mut material = Zeroizing::new([0; 64]);
        material[..32].copy_from_slice(secret);
        material[32..].copy_from_slice(&topic.0);
        let seal = blake3::derive_key("delta topic seal v1", &*material);
        let nonce = blake3::derive_key("delta topic nonce v1", &seal);
        let [a, b, c, d, e, f, g, h, ..] = blake3::derive_key("delta topic key id v1", &seal);
        Self { seal, nonce, id: [a, b, c, d, e, f, g, h] }
    }

    fn nonce_of(&self, padded: &[u8]) -> [u8; NONCE_LEN] {
        let hash = blake3::keyed_hash(&self.nonce, padded);
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&hash.as_bytes()[..NONCE_LEN]);
        nonce
    }

    fn aad(&self, topic: &TopicId) -> [u8; 1 + KEY_ID_LEN + 32] {
        let mut aad = [SEALED; 1 + KEY_ID_LEN + 32];
        aad[1..=KEY_ID_LEN].copy_from_slice(&self.id);
        aad[1 + KEY_ID_LEN..].copy_from_slice(&topic.0);
        aad
    }

    /// 03 | key_id | nonce | XChaCha20-Poly1305(header_len | body_len | header | body | zeros).
    pub(super) fn seal(&self, topic: &TopicId, header: &[u8], body: &[u8]) -> Result<Vec<u8>, SealError> {
        let padded = padded_len(LENGTHS + header.len() + body.len());
        let mut out = Vec::with_capacity(SEALED_HEAD + padded + TAG_LEN);
        out.push(SEALED);
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&[0; NONCE_LEN]);
        write_padded(&mut out, header, body)?;

        let (head, plaintext) = out.split_at_mut(SEALED_HEAD);
        let nonce = self.nonce_of(plaintext);
        head[1 + KEY_ID_LEN..].copy_from_slice(&nonce);
        let tag = XChaCha20Poly1305::new(&self.seal.into())
            .encrypt_in_place_detached(XNonce::from_slice(&nonce), &self.aad(topic), plaintext)
            .map_err(|_| SealError::TooLarge { len: header.len() + body.len() })?;
        out.extend_from_slice(&tag);
        Ok(out)
    }

    pub(super) fn open(&self, topic: &TopicId, sealed: &Sealed<'_>) -> Result<OpenedEnvelope, EnvelopeError> {
        if sealed.key_id != self.id {
            return Err(EnvelopeError::NoKey { key_id: sealed.key_id });
        }
        let mut plaintext = sealed.ciphertext.to_vec();
        XChaCha20Poly1305::new(&self.seal.into())
            .decrypt_in_place_detached(
                XNonce::from_slice(&sealed.nonce),
                &self.aad(topic),
                &mut plaintext,
                (&sealed.tag).into(),
            )
            .map_err(|_| EnvelopeError::Forged)?;
        if self.nonce_of(&plaintext) != sealed.nonce {
            return Err(EnvelopeError::Nonce);
        }
        split_padded(Bytes::from(plaintext))
    }
}

/// Appends header_len | body_len | header | body | zeros: what envelopes 01, 03 and 04 seal.
pub(crate) fn write_padded(out: &mut Vec<u8>, header: &[u8], body: &[u8]) -> Result<(), SealError> {
    let header_len = checked_header_len(header, body)?;
    let end = out.len() + padded_len(LENGTHS + header.len() + body.len());
    out.extend_from_slice(&header_len);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(header);
    out.extend_from_slice(body);
    out.resize(end, 0);
    Ok(())
}

/// Takes header and body out of a padded plaintext that is exactly as long as its content wants it.
pub(crate) fn split_padded(plaintext: Bytes) -> Result<OpenedEnvelope, EnvelopeError> {
    let mut reader = Reader::new(&plaintext);
    let header_len = usize::from(reader.u16("header_len")?);
    let body_len = reader.u32("body_len")? as usize;
    if body_len > MAX_OPERATION || header_len + body_len > MAX_OPERATION {
        return Err(EnvelopeError::TooLong { len: header_len.saturating_add(body_len) });
    }
    reader.bytes(header_len, "header")?;
    reader.bytes(body_len, "body")?;
    let content = LENGTHS + header_len + body_len;
    if plaintext.len() != padded_len(content) || reader.rest().iter().any(|&byte| byte != 0) {
        return Err(EnvelopeError::Padding);
    }
    let body_at = LENGTHS + header_len;
    Ok(OpenedEnvelope { header: plaintext.slice(LENGTHS..body_at), body: plaintext.slice(body_at..content) })
}

/// 00 | header_len u16 | header | body.
pub(super) fn encode_plain(header: &[u8], body: &[u8]) -> Result<Vec<u8>, SealError> {
    let header_len = checked_header_len(header, body)?;
    Ok([&[PLAIN], &header_len[..], header, body].concat())
}

/// A plain envelope runs to its end: every byte after the header is body.
pub(super) fn open_plain(envelope: &[u8]) -> Result<OpenedEnvelope, EnvelopeError> {
    let mut reader = Reader::new(content_of(envelope, PLAIN)?);
    let header_len = usize::from(reader.u16("header_len")?);
    let header = reader.bytes(header_len, "header")?;
    let body = reader.rest();
    if header.len() + body.len() > MAX_OPERATION {
        return Err(EnvelopeError::TooLong { len: header.len() + body.len() });
    }
    Ok(OpenedEnvelope { header: Bytes::copy_from_slice(header), body: Bytes::copy_from_slice(body) })
}

/// A sealed envelope, cut into its fields.
pub(super) struct Sealed<'a> {
    pub(super) key_id: KeyId,
    nonce: [u8; NONCE_LEN],
    ciphertext: &'a [u8],
    tag: [u8; TAG_LEN],
}

impl<'a> Sealed<'a> {
    /// Refuses, before any cryptography, every length that sealing cannot give.
    pub(super) fn parse(envelope: &'a [u8]) -> Result<Self, EnvelopeError> {
        let mut reader = Reader::new(content_of(envelope, SEALED)?);
        let key_id = reader.array("key_id")?;
        let nonce = reader.array("nonce")?;
        let rest = reader.rest();
        let (ciphertext, tag) = rest.split_last_chunk().ok_or(DecodeError::Truncated("tag"))?;
        let len = ciphertext.len();
        if len != padded_len(len) || len > padded_len(LENGTHS + MAX_OPERATION) {
            return Err(EnvelopeError::Padding);
        }
        Ok(Self { key_id, nonce, ciphertext, tag: *tag })
    }
}

fn content_of(envelope: &[u8], kind: u8) -> Result<&[u8], EnvelopeError> {
    if envelope.len() > MAX_ENVELOPE {
        return Err(EnvelopeError::TooLong { len: envelope.len() });
    }
    match envelope.split_first() {
        Some((&found, content)) if found == kind => Ok(content),
        Some((&found, _)) => Err(EnvelopeError::WrongKind { found }),
        None => Err(DecodeError::Truncated("envelope").into()),
    }
}

fn checked_header_len(header: &[u8], body: &[u8]) -> Result<[u8; 2], SealError> {
    let len = header.len() + body.len();
    match u16::try_from(header.len()) {
        Ok(header_len) if len <= MAX_OPERATION => Ok(header_len.to_be_bytes()),
        _ => Err(SealError::TooLarge { len }),
    }
}

/// An operation does not fit an envelope. The caller is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// Header or operation above its limit.
    #[error("header and body have {len} bytes; at most {MAX_OPERATION} fit, {MAX_HEADER} of them header")]
    TooLarge {
        /// Header and body together.
        len: usize,
    },
    /// In this topic an envelope is made once, by the operation's author, and kept.
    #[error("envelopes of inboxes and direct threads are made once, for one device")]
    OnceOnly,
}

/// An envelope gives no operation in this topic. Except for [`EnvelopeError::NoKey`], which may end when a key
/// arrives, drop and count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// Sealed with a key this device does not hold (yet): keep it and try again when a key arrives.
    #[error("no key {} is known here", hex::encode(.key_id))]
    NoKey {
        /// The missing key.
        key_id: KeyId,
    },
    /// Sealed for another topic of this device, and put here by someone.
    #[error("the envelope belongs to the topic {actual}")]
    WrongTopic {
        /// The topic whose key it names.
        actual: TopicId,
    },
    /// The topic does not take this kind: private topics take 03, public ones 00.
    #[error("this topic does not take envelopes of kind {found:02x}")]
    WrongKind {
        /// The envelope's first byte.
        found: u8,
    },
    /// Above the size limits.
    #[error("{len} bytes are more than allowed")]
    TooLong {
        /// The length found or claimed.
        len: usize,
    },
    /// Too short for its kind.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The seal does not open: not made with the topic's key, or changed on the way.
    #[error("the seal does not open")]
    Forged,
    /// Sealed by a member, but not with the nonce its content has.
    #[error("the nonce is not the one of this content")]
    Nonce,
    /// A length sealing never gives, or padding that is not zero.
    #[error("the padding is not the one of this content")]
    Padding,
}
