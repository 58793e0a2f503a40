//! Blobs on the wire (docs/wire.md, section 12.4): what a message says of one, and the operations that carry its chunks.

use std::fmt;

use cbor_core::Value;
#[cfg(feature = "device")]
use zeroize::Zeroizing;

use super::content::{BlobId, Content};
use super::membership::Hidden;
use super::own::{TicketBytes, byte_string};
use super::payload::{Flaw, LimitError, Payload};
#[cfg(feature = "device")]
use super::ticket::Ticket;
use crate::cbor::{array, fields, items, text, unsigned};
use crate::limits::{BLOB_CHUNK, MAX_ATTACHMENTS, MAX_BLOB, MAX_BLOB_CHUNKS, MAX_FILE_NAME, MAX_MIME};

pub(super) const BLOB_CHUNK_KIND: &str = "blob.chunk";
pub(super) const BLOB_SHARE: &str = "blob.share";
/// What sealing adds to a chunk, bytes.
const TAG: usize = 16;
/// How a read-only ticket of a private topic begins.
const PRIVATE_READ: u8 = 2;

/// What it takes to fetch a blob, to check it and to open it.
#[derive(Clone, PartialEq, Eq)]
pub struct Manifest {
    /// BLAKE3 of the ciphertext.
    pub id: BlobId,
    /// With which its chunks are sealed.
    pub key: Hidden,
    /// Its size, bytes; at most [`MAX_BLOB`].
    pub size: u64,
    /// Its MIME type as the sender says, at most [`MAX_MIME`] bytes.
    pub mime: String,
    /// The name of its file as the sender says, at most [`MAX_FILE_NAME`] bytes: not to be trusted as a path.
    pub name: Option<String>,
    /// Opens the topic that its chunks stand in, for reading (docs/wire.md, section 14).
    pub ticket: TicketBytes,
    /// BLAKE3 of each sealed chunk, in their order.
    pub chunks: Vec<[u8; 32]>,
}

impl Manifest {
    /// How many chunks a blob of this size has: at least one.
    pub const fn chunks_of(size: u64) -> u64 {
        let chunks = size.div_ceil(BLOB_CHUNK as u64);
        if chunks == 0 { 1 } else { chunks }
    }

    /// Length of a chunk before it is sealed, bytes; `None` when there is none of this number.
    pub fn chunk_len(size: u64, index: u32) -> Option<usize> {
        let left = size.saturating_sub(u64::from(index).saturating_mul(BLOB_CHUNK as u64));
        let len = usize::try_from(left).unwrap_or(BLOB_CHUNK).min(BLOB_CHUNK);
        (u64::from(index) < Self::chunks_of(size)).then_some(len)
    }

    /// Whether these are the sealed bytes of this chunk, and as many as the size asks for.
    pub fn has(&self, index: u32, bytes: &[u8]) -> bool {
        let len = Self::chunk_len(self.size, index).map(|len| len + TAG);
        len == Some(bytes.len())
            && self.chunks.get(index as usize).is_some_and(|hash| hash == blake3::hash(bytes).as_bytes())
    }

    pub(super) fn check(&self) -> Result<(), LimitError> {
        check_blob(self.size, &self.mime, self.name.as_deref())?;
        check_chunks(self.size, self.chunks.len())
    }

    pub(super) fn value(&self) -> Value<'_> {
        let mut pairs = vec![
            (0, Value::from(self.id.0)),
            (1, Value::from(self.key.0)),
            (2, Value::from(self.size)),
            (3, Value::from(&self.mime)),
        ];
        pairs.extend(self.name.as_ref().map(|name| (4, Value::from(name))));
        pairs.push((5, Value::from(&self.ticket.0[..])));
        pairs.push((6, Value::from(self.chunks.as_flattened())));
        crate::cbor::map(pairs)
    }

    /// A manifest as others say it: with a ticket that only reads.
    pub(super) fn shared(payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        let manifest = Self::read(payload)?;
        if manifest.ticket.0.first() == Some(&PRIVATE_READ) { Ok(manifest) } else { Err(Flaw::WrongType(5)) }
    }

    fn read(payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        let (size, mime) = (payload.required(2, unsigned)?, payload.required(3, text)?);
        let name = payload.optional(4, text)?;
        check_blob(size, mime, name)?;
        let (chunks, rest) = payload.required(6, byte_string)?.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(Flaw::WrongType(6));
        }
        check_chunks(size, chunks.len())?;
        Ok(Self {
            id: payload.required(0, array).map(BlobId)?,
            key: Hidden(payload.required(1, array)?),
            size,
            mime: mime.to_owned(),
            name: name.map(str::to_owned),
            ticket: TicketBytes(payload.required(5, array)?),
            chunks: chunks.to_vec(),
        })
    }
}

#[cfg(feature = "device")]
impl Manifest {
    /// What others are told: a ticket that only reads.
    #[must_use]
    pub(crate) fn read_only(mut self) -> Self {
        if let Ok(ticket) = Ticket::from_bytes(&self.ticket.0) {
            self.ticket = ticket.read_only().bytes();
        }
        self
    }

    /// As a database keeps it, where also the right to write may be in its ticket.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.value().encode())
    }

    /// The inverse of [`Manifest::to_bytes`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let value = crate::cbor::decode(&bytes, 2, bytes.len()).ok()?;
        Self::read(&Payload::of(fields(&value)?)).ok()
    }
}

impl Payload<'_, '_> {
    pub(super) fn attachments(&self, key: u64) -> Result<Vec<Manifest>, Flaw> {
        let Some(attachments) = self.optional(key, items)? else { return Ok(Vec::new()) };
        check_attachments(attachments.len())?;
        let mut manifests = Vec::with_capacity(attachments.len());
        for value in attachments {
            manifests.push(Manifest::shared(&Payload::of(fields(value).ok_or(Flaw::WrongType(key))?))?);
        }
        Ok(manifests)
    }

    pub(super) fn blob_chunk(&self) -> Result<Content, Flaw> {
        let index = self.required(0, unsigned)?;
        let index = u32::try_from(index).map_err(|_| Flaw::WrongType(0))?;
        let bytes = self.required(1, byte_string)?;
        check_chunk(index, bytes)?;
        Ok(Content::BlobChunk { index, bytes: bytes.to_vec() })
    }
}

/// Whether a blob may be as it is to be.
pub(crate) const fn check_blob(size: u64, mime: &str, name: Option<&str>) -> Result<(), LimitError> {
    if size > MAX_BLOB {
        return Err(LimitError::Blob { size });
    }
    match (mime.len(), name) {
        (len, _) if len > MAX_MIME => Err(LimitError::BlobText { len }),
        (_, Some(name)) if name.len() > MAX_FILE_NAME => Err(LimitError::BlobText { len: name.len() }),
        _ => Ok(()),
    }
}

const fn check_chunks(size: u64, chunks: usize) -> Result<(), LimitError> {
    if chunks as u64 == Manifest::chunks_of(size) { Ok(()) } else { Err(LimitError::BlobChunks) }
}

pub(super) const fn check_chunk(index: u32, bytes: &[u8]) -> Result<(), LimitError> {
    let fits = (index as usize) < MAX_BLOB_CHUNKS && bytes.len() <= BLOB_CHUNK + TAG;
    if fits { Ok(()) } else { Err(LimitError::BlobChunks) }
}

pub(super) const fn check_attachments(count: usize) -> Result<(), LimitError> {
    if count > MAX_ATTACHMENTS { Err(LimitError::Attachments { count }) } else { Ok(()) }
}

/// Names the blob and shows nothing of it.
impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest").field("id", &self.id).field("size", &self.size).finish_non_exhaustive()
    }
}
