//! Sealed sender v1: an operation for one recipient that says who sent it only inside.
//!
//! `01 | EPK[32] | NONCE[24] | ciphertext | tag[16]`, plaintext `sender[32] | op`, sealed like a v2 layer under its
//! own info string. The recipient checks that the sender named inside is the operation's author.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use super::envelope::{self, Format, Fresh, OVERHEAD, OpenError, PREFIX, TAG};
use super::identity_key::{IdentityKey, IdentitySecret};
use crate::entropy::{Entropy, EntropyError};
use crate::identity::Author;
use crate::limits::MAX_ENVELOPE;

/// First byte of a sealed envelope.
pub const VERSION: u8 = 1;

const FORMAT: Format = Format { version: VERSION, info: b"delta:sealed-sender:v1" };

/// An envelope could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// The envelope would be larger than [`MAX_ENVELOPE`].
    #[error("the sealed envelope would have {0} bytes, the limit is {MAX_ENVELOPE}")]
    TooLarge(usize),
    /// The recipient's key gives no shared secret.
    #[error("the recipient's key is not usable")]
    RecipientKey,
    /// The random source failed; try again later.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// A sealed envelope is refused. It is not for this device, broken, or lies about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenSealedError {
    /// Too short to hold a sender, or over [`MAX_ENVELOPE`].
    #[error("an envelope of {0} bytes cannot be sealed")]
    Length(usize),
    /// The first byte is not 1.
    #[error("an envelope of kind {0} is not sealed-sender v1")]
    Version(u8),
    /// The ephemeral key is not canonically encoded, or of small order.
    #[error("the ephemeral key is not a usable X25519 key")]
    EphemeralKey,
    /// The seal does not verify: changed, or sealed for another device.
    #[error("the seal does not verify")]
    Seal,
    /// The sender named inside is not the operation's author.
    #[error("the sender named in the envelope is not the operation's author")]
    Sender,
}

/// Seals an operation of `sender` for `recipient`.
pub fn seal(
    sender: &Author,
    recipient: &IdentityKey,
    op: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<Vec<u8>, SealError> {
    let (mut ephemeral, mut nonce) = (Zeroizing::new([0; 32]), [0; 24]);
    entropy.fill(ephemeral.as_mut_slice())?;
    entropy.fill(&mut nonce)?;
    seal_with(sender, recipient, op, &ephemeral, &nonce)
}

/// Seals with a given ephemeral secret and nonce. For test vectors only.
pub fn seal_with(
    sender: &Author,
    recipient: &IdentityKey,
    op: &[u8],
    ephemeral: &[u8; 32],
    nonce: &[u8; 24],
) -> Result<Vec<u8>, SealError> {
    let len = OVERHEAD + Author::LEN + op.len();
    if len > MAX_ENVELOPE {
        return Err(SealError::TooLarge(len));
    }
    let mut sealed = Vec::with_capacity(len);
    sealed.extend_from_slice(&[0; PREFIX]);
    sealed.extend_from_slice(&sender.0);
    sealed.extend_from_slice(op);
    sealed.extend_from_slice(&[0; TAG]);
    envelope::seal(&FORMAT, recipient, Fresh { ephemeral, nonce }, &mut sealed)
        .ok_or(SealError::RecipientKey)?;
    Ok(sealed)
}

/// Opens an envelope. `author_of` reads the author off the operation inside (without trusting it yet); when that is
/// not the sender the envelope names, or cannot be read, the envelope is refused.
pub fn open(
    secret: &IdentitySecret,
    mut envelope: Vec<u8>,
    author_of: impl FnOnce(&[u8]) -> Option<Author>,
) -> Result<Unsealed, OpenSealedError> {
    let len = envelope.len();
    if len > MAX_ENVELOPE {
        return Err(OpenSealedError::Length(len));
    }
    let (_, plaintext) = envelope::open(&FORMAT, secret, &mut envelope).map_err(|error| match error {
        OpenError::Length => OpenSealedError::Length(len),
        OpenError::Version(version) => OpenSealedError::Version(version),
        OpenError::EphemeralKey => OpenSealedError::EphemeralKey,
        OpenError::Seal => OpenSealedError::Seal,
    })?;
    let plaintext = envelope.get(plaintext).unwrap_or_default();
    let (sender, op) = plaintext.split_first_chunk().ok_or(OpenSealedError::Length(len))?;
    let sender = Author(*sender);
    if author_of(op) == Some(sender) {
        Ok(Unsealed { sender, op: op.to_vec() })
    } else {
        Err(OpenSealedError::Sender)
    }
}

/// What a sealed envelope held.
#[derive(Clone, PartialEq, Eq)]
pub struct Unsealed {
    /// Who sent it: the author of `op`.
    pub sender: Author,
    /// The operation, not verified yet.
    pub op: Vec<u8>,
}

impl fmt::Debug for Unsealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unsealed({} bytes from {})", self.op.len(), self.sender)
    }
}
