//! Operations of public topics, read by who is no device: a server that answers questions about their history.
//!
//! The same checks as a device's, by the same code.

use thiserror::Error;

use super::body::Body;
use super::envelope::{EnvelopeError, open_plain};
use super::signature::AuthorKeys;
use super::verify::{Rejected, check};
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
    let (id, facts, body) = check(&opened.header, &opened.body, &LogId(topic.0), &AuthorKeys::default())?;
    Ok(PublicOperation { id, author: facts.author, body })
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
