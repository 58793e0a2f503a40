//! Operations of public topics, read by who is no device: a server that answers questions about their history.
//!
//! The same checks as a device's, but for one: the signature is verified over the header's bytes here, without
//! p2panda. A test holds both to the same answers.

use ed25519_dalek::{Signature, VerifyingKey};
use thiserror::Error;

use super::body::Body;
use super::envelope::{EnvelopeError, open_plain};
use super::header::Peek;
use super::verify::{Rejected, check_certificate, check_unsigned};
use crate::identity::{Author, LogId, OperationId};
use crate::topic::TopicId;

/// A signed operation of a public topic, checked as far as it can be checked alone.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicOperation {
    /// BLAKE3 of its header.
    pub id: OperationId,
    /// Who signed it.
    pub author: Author,
    /// What it says.
    pub body: Body,
}

/// Bytes in a public topic that are no operation of it. Whoever wrote them is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PublicError {
    /// Not a plain envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Not a valid operation of this topic.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// Reads a plain envelope of a public topic and verifies its operation: lengths, form, log, hash and signature.
/// Whether it continues its author's log is not looked at.
///
/// # Errors
/// The envelope holds no valid operation of this topic.
pub fn read_public(envelope: &[u8], topic: &TopicId) -> Result<PublicOperation, PublicError> {
    let opened = open_plain(envelope)?;
    let facts = check_unsigned(&opened.header, &opened.body, &LogId(topic.0))?;
    check_signature(&opened.header, &facts)?;
    let id = OperationId(*blake3::hash(&opened.header).as_bytes());
    if facts.backlink == Some(id) {
        return Err(Rejected::BacklinkToSelf.into());
    }
    check_certificate(&facts)?;
    let body = Body::decode(&opened.body).map_err(Rejected::Body)?;
    Ok(PublicOperation { id, author: facts.author, body })
}

/// Array head and version, then key and signature with two bytes of CBOR before each.
const KEY_END: usize = 2 + 2 + 32;
const SIGNATURE_START: usize = KEY_END + 2;
const SIGNATURE_END: usize = SIGNATURE_START + 64;

/// Ed25519 over the same array without the signature: its first byte counts one less, the other items' bytes stay.
/// A header that `peek` has read is deterministic, so its first items stand where the constants say.
fn check_signature(header: &[u8], facts: &Peek) -> Result<(), Rejected> {
    let field = || Rejected::HeaderField("signature");
    let (first, rest) = header.split_first().ok_or_else(field)?;
    let head = rest.get(..KEY_END - 1).ok_or_else(field)?;
    let tail = header.get(SIGNATURE_END..).ok_or_else(field)?;
    let signature = header.get(SIGNATURE_START..SIGNATURE_END).ok_or_else(field)?;
    let signature = Signature::from_slice(signature).map_err(|_| Rejected::Signature)?;
    let message = [&[first.wrapping_sub(1)], head, tail].concat();
    let key = VerifyingKey::from_bytes(&facts.author.0).map_err(|_| Rejected::AuthorKey)?;
    key.verify_strict(&message, &signature).map_err(|_| Rejected::Signature)
}

/// Shows which operation it is, not what it says.
impl std::fmt::Debug for PublicOperation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicOperation")
            .field("id", &self.id)
            .field("author", &self.author)
            .finish_non_exhaustive()
    }
}
