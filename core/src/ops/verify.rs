//! From foreign bytes to a [`VerifiedOperation`], cheap checks first.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use super::body::{Body, BodyError};
use super::header::{Peek, peek};
use super::signature::{AuthorKeys, check_signature};
use crate::identity::{Author, Certificate, LogId, OperationId};
use crate::limits::{MAX_HEADER, MAX_OPERATION};

/// Checks one operation completely, as far as it can be checked alone: lengths, the header's form, its log, the
/// body's size and hash, then one strict Ed25519 verification (one more where it carries a device
/// certificate), then the body's form.
///
/// Whether it continues its author's log is [`VerifiedOperation::follows`].
#[cfg(feature = "device")]
pub fn verify(header: &[u8], body: &[u8], log: &LogId) -> Result<VerifiedOperation, Rejected> {
    let (id, facts, content) = check(header, body, log, &AuthorKeys::default())?;
    let (header, body) = (Bytes::copy_from_slice(header), Bytes::copy_from_slice(body));
    Ok(VerifiedOperation { id, facts, header, body, content })
}

/// [`verify`] without the copy, and with keys that were read before.
#[cfg(feature = "device")]
pub(super) fn verify_shared(
    header: Bytes,
    body: Bytes,
    log: &LogId,
    keys: &AuthorKeys,
) -> Result<VerifiedOperation, Rejected> {
    let (id, facts, content) = check(&header, &body, log, keys)?;
    Ok(VerifiedOperation { id, facts, header, body, content })
}

/// The cheap checks: lengths, the header's form, its log, the body's size and hash.
fn check_unsigned(header: &[u8], body: &[u8], log: &LogId) -> Result<Peek, Rejected> {
    if header.len() > MAX_HEADER || header.len() + body.len() > MAX_OPERATION {
        return Err(Rejected::TooLong { len: header.len() + body.len() });
    }
    let facts = peek(header)?;
    if facts.log != *log {
        return Err(Rejected::WrongLog { found: facts.log });
    }
    if facts.payload_size as usize != body.len() {
        return Err(Rejected::PayloadSize { claimed: facts.payload_size, actual: body.len() });
    }
    if facts.payload_hash != *blake3::hash(body).as_bytes() {
        return Err(Rejected::PayloadHash);
    }
    Ok(facts)
}

/// All checks. p2panda's own decoder is not asked, for it would read every key anew and write every header again; what
/// passes here passes there and says the same, which tests hold it to.
pub(super) fn check(
    header: &[u8],
    body: &[u8],
    log: &LogId,
    keys: &AuthorKeys,
) -> Result<(OperationId, Peek, Body), Rejected> {
    let facts = check_unsigned(header, body, log)?;
    check_signature(header, &facts, keys)?;
    let id = OperationId(*blake3::hash(header).as_bytes());
    if facts.backlink == Some(id) {
        return Err(Rejected::BacklinkToSelf);
    }
    check_certificate(&facts)?;
    Ok((id, facts, Body::decode(body)?))
}

/// A device certificate must be this device's and hold.
fn check_certificate(facts: &Peek) -> Result<(), Rejected> {
    match &facts.certificate {
        Some(certificate) => certificate.verify(&facts.author).map_err(|_| Rejected::Certificate),
        None => Ok(()),
    }
}

/// An operation whose bytes were checked: form, limits, log, body hash and signature.
///
/// Made by [`verify`], [`create`](super::create) and [`VerifiedOperation::from_store`] only.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedOperation {
    id: OperationId,
    facts: Peek,
    header: Bytes,
    body: Bytes,
    content: Body,
}

impl VerifiedOperation {
    /// An operation from this device's own database, where only verified ones are. **Trusts the caller**: neither
    /// signature nor body hash is checked again; a row that does not even decode is refused.
    pub fn from_store(header: &[u8], body: &[u8]) -> Result<Self, Rejected> {
        let facts = peek(header)?;
        let id = OperationId(*blake3::hash(header).as_bytes());
        let content = Body::decode(body)?;
        let (header, body) = (Bytes::copy_from_slice(header), Bytes::copy_from_slice(body));
        Ok(Self { id, facts, header, body, content })
    }

    /// An operation this device has just signed.
    #[cfg(feature = "device")]
    pub(super) fn created(
        id: OperationId,
        facts: Peek,
        header: Vec<u8>,
        body: Vec<u8>,
        content: Body,
    ) -> Self {
        Self { id, facts, header: header.into(), body: body.into(), content }
    }

    /// BLAKE3 of the header.
    pub const fn id(&self) -> OperationId {
        self.id
    }

    /// Who signed it.
    pub const fn author(&self) -> Author {
        self.facts.author
    }

    /// The conversation it belongs to.
    pub const fn log(&self) -> LogId {
        self.facts.log
    }

    /// Its place in the author's log, from 0.
    pub const fn seq_num(&self) -> u32 {
        self.facts.seq_num
    }

    /// Whose device the author is, where this operation says so: checked.
    pub const fn certificate(&self) -> Option<&Certificate> {
        self.facts.certificate.as_ref()
    }

    /// The operation before it in the author's log; `None` exactly at `seq_num` 0.
    pub const fn backlink(&self) -> Option<OperationId> {
        self.facts.backlink
    }

    /// The encoded header.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// The encoded body, unknown keys included.
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// What it says.
    pub const fn body(&self) -> &Body {
        &self.content
    }

    /// Its place at the end of its log: what the next operation must follow.
    pub const fn head(&self) -> LogHead {
        LogHead { author: self.facts.author, log: self.facts.log, seq_num: self.facts.seq_num, id: self.id }
    }

    /// Whether this operation comes directly after `head` in the same log.
    pub fn follows(&self, head: &LogHead) -> Result<(), ChainError> {
        if self.author() != head.author || self.log() != head.log {
            return Err(ChainError::OtherLog);
        }
        if head.seq_num.checked_add(1) != Some(self.seq_num()) {
            return Err(ChainError::SeqNum { head: head.seq_num, found: self.seq_num() });
        }
        if self.backlink() != Some(head.id) {
            return Err(ChainError::Backlink);
        }
        Ok(())
    }
}

/// Shows which operation it is, not what it says.
impl fmt::Debug for VerifiedOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedOperation")
            .field("id", &self.id)
            .field("author", &self.facts.author)
            .field("log", &self.facts.log)
            .field("seq_num", &self.facts.seq_num)
            .field("kind", &self.content.content.kind())
            .finish_non_exhaustive()
    }
}

/// The last operation of an author's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// Whose log.
    pub author: Author,
    /// In which conversation.
    pub log: LogId,
    /// The last operation's place.
    pub seq_num: u32,
    /// The last operation.
    pub id: OperationId,
}

/// A valid operation does not continue the log as it is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChainError {
    /// It belongs to another author or conversation.
    #[error("the operation belongs to another log")]
    OtherLog,
    /// Not the next place: earlier ones are missing, or this place is taken.
    #[error("the log ends at {head}, the operation stands at {found}")]
    SeqNum {
        /// The last known place.
        head: u32,
        /// The operation's place.
        found: u32,
    },
    /// The next place, but behind another predecessor: the author forked the log.
    #[error("the operation names another predecessor than the log's last")]
    Backlink,
}

/// Bytes that are no valid operation here. Whoever sent them is at fault: drop and count, store nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Rejected {
    /// Above the size limits.
    #[error("the operation has {len} bytes, more than allowed")]
    TooLong {
        /// The length found or claimed.
        len: usize,
    },
    /// The header is not deterministic CBOR, or a field in it is above 512 bytes or items.
    #[error("the header is not one deterministic CBOR value within the limits: {0}")]
    HeaderCbor(cbor_core::Error),
    /// The header holds a tagged item.
    #[error("the header holds a tagged item")]
    HeaderTag,
    /// A header field is missing, of a wrong type, or too many.
    #[error("the header's `{0}` is not what it must be")]
    HeaderField(&'static str),
    /// Every operation has a body.
    #[error("the operation has no body")]
    NoBody,
    /// The last place of a log cannot be used: no next one could be counted.
    #[error("the operation stands at the last place a log can have")]
    LogFull,
    /// Signed for another conversation.
    #[error("the operation belongs to the log {found}")]
    WrongLog {
        /// The log it was signed for.
        found: LogId,
    },
    /// The body is longer or shorter than the header says.
    #[error("the header announces {claimed} bytes of body, {actual} came")]
    PayloadSize {
        /// What the header says.
        claimed: u32,
        /// What came.
        actual: usize,
    },
    /// The body is not the one that was signed.
    #[error("the body's hash is not the signed one")]
    PayloadHash,
    /// The author is not an Ed25519 key.
    #[error("the author's key is not an Ed25519 key")]
    AuthorKey,
    /// The signature does not verify (strictly).
    #[error("the signature does not verify")]
    Signature,
    /// The device certificate is another device's, or the identity did not sign it.
    #[error("the device certificate does not hold for this device")]
    Certificate,
    /// An operation names itself as predecessor.
    #[error("the operation names itself as predecessor")]
    BacklinkToSelf,
    /// The body breaks its own form.
    #[error(transparent)]
    Body(#[from] BodyError),
}
