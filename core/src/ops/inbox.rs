//! Envelope 01: an operation for one device's inbox. Nobody but that device learns who sent it, and a server only its
//! padded size.
//!
//! An inbox is a topic whose write seed many know. What two devices say there has a log of its own ([`inbox_log`]), so
//! an operation for one inbox is none in another.

use bytes::Bytes;
use thiserror::Error;

use super::create::DeviceKey;
use super::envelope::{EnvelopeError, SealError, split_padded, write_padded};
use super::header::peek;
use super::signature::AuthorKeys;
use super::verify::{Rejected, VerifiedOperation, verify_shared};
use crate::entropy::Entropy;
use crate::identity::{Author, LogId};
use crate::onion::sealed::{self, OpenSealedError};
use crate::onion::{IdentityKey, IdentityKeyError};

/// The log of what one device says in another's inbox.
pub fn inbox_log(sender: &Author, recipient: &Author) -> LogId {
    let mut hasher = blake3::Hasher::new_derive_key("delta inbox log v1");
    hasher.update(&sender.0).update(&recipient.0);
    LogId(*hasher.finalize().as_bytes())
}

/// An envelope for, or from, an inbox is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InboxError {
    /// The recipient's key cannot be sealed to. Whoever gave it is at fault.
    #[error("the recipient's device key is not usable: {0}")]
    Recipient(IdentityKeyError),
    /// The operation was signed for another log than that of the two devices.
    #[error("the operation does not belong to the log of these two devices")]
    OtherLog,
    /// The operation does not fit.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The envelope cannot be sealed.
    #[error("the envelope cannot be sealed: {0}")]
    Sealed(sealed::SealError),
    /// Not for this device, broken, or with another sender than author.
    #[error(transparent)]
    Open(#[from] OpenSealedError),
    /// What is inside is not a padded operation.
    #[error(transparent)]
    Content(#[from] EnvelopeError),
    /// What is inside is no valid operation.
    #[error(transparent)]
    Operation(#[from] Rejected),
}

/// Seals an operation for a device's inbox. Not deterministic: the sender keeps the envelope.
pub fn seal_inbox(
    operation: &VerifiedOperation,
    recipient: &Author,
    entropy: &mut dyn Entropy,
) -> Result<Vec<u8>, InboxError> {
    let sender = operation.author();
    if operation.log() != inbox_log(&sender, recipient) {
        return Err(InboxError::OtherLog);
    }
    let key = IdentityKey::from_ed25519(&recipient.0).map_err(InboxError::Recipient)?;
    let mut plaintext = Vec::new();
    write_padded(&mut plaintext, operation.header(), operation.body_bytes())?;
    sealed::seal(&sender, &key, &plaintext, entropy).map_err(InboxError::Sealed)
}

/// Opens and verifies what stands in this device's inbox.
pub fn open_inbox(device: &DeviceKey, envelope: Vec<u8>) -> Result<VerifiedOperation, InboxError> {
    let author = |plaintext: &[u8]| {
        let opened = split_padded(Bytes::copy_from_slice(plaintext)).ok()?;
        Some(peek(&opened.header).ok()?.author)
    };
    let unsealed = sealed::open(&device.inbox_secret(), envelope, author)?;
    let opened = split_padded(Bytes::from(unsealed.op))?;
    let log = inbox_log(&unsealed.sender, &device.author());
    Ok(verify_shared(opened.header, opened.body, &log, &AuthorKeys::default())?)
}
