//! Documents: a tree of paths, and of each document the changes that an app's own library (Automerge, as a rule) merges
//! (docs/wire.md, section 12.5). What a change says is for that library to know.

use std::fmt;

use cbor_core::Value;

use super::content::Content;
use super::payload::{Flaw, LimitError, Payload};
use crate::cbor::{bytes, text};
use crate::identity::OperationId;
use crate::limits::{MAX_DOCUMENT_PART, MAX_PATH};

/// `document.change` and `document.snapshot`: a part of a document.
#[derive(Clone, PartialEq, Eq)]
pub struct DocumentPart {
    /// The operation that made the document.
    pub document: OperationId,
    /// What the app's library wrote, at most [`MAX_DOCUMENT_PART`] bytes.
    pub bytes: Vec<u8>,
    /// Whether it is the whole document as its author had it, or what changed.
    pub snapshot: bool,
}

/// Shows the document and how much was written, not what.
impl fmt::Debug for DocumentPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DocumentPart({}, {} bytes, {:?})", self.kind(), self.bytes.len(), self.document)
    }
}

impl DocumentPart {
    pub(super) const fn kind(&self) -> &'static str {
        if self.snapshot { DOCUMENT_SNAPSHOT } else { DOCUMENT_CHANGE }
    }

    pub(super) const fn check(&self) -> Result<(), LimitError> {
        check_part(self.bytes.len())
    }

    pub(super) fn pairs(&self) -> Vec<(u64, Value<'_>)> {
        vec![(0, Value::from(&self.document.0)), (1, Value::from(self.bytes.as_slice()))]
    }
}

/// The kind that makes a document.
pub(super) const DOCUMENT_CREATE: &str = "document.create";
/// The kind that adds a change.
const DOCUMENT_CHANGE: &str = "document.change";
/// The kind that adds all of it.
const DOCUMENT_SNAPSHOT: &str = "document.snapshot";

/// What a kind of documents says; `None`: it is none.
pub(super) fn read(kind: &str, payload: &Payload<'_, '_>) -> Option<(&'static str, Result<Content, Flaw>)> {
    let part = |kind, snapshot| Some((kind, part(payload, snapshot)));
    match kind {
        DOCUMENT_CREATE => Some((DOCUMENT_CREATE, create(payload))),
        DOCUMENT_CHANGE => part(DOCUMENT_CHANGE, false),
        DOCUMENT_SNAPSHOT => part(DOCUMENT_SNAPSHOT, true),
        _ => None,
    }
}

fn create(payload: &Payload<'_, '_>) -> Result<Content, Flaw> {
    let path = payload.required(0, text)?;
    check_path(path)?;
    Ok(Content::DocumentCreate { path: path.to_owned() })
}

fn part(payload: &Payload<'_, '_>, snapshot: bool) -> Result<Content, Flaw> {
    let (document, bytes) = (payload.id(0)?, payload.required(1, bytes)?);
    check_part(bytes.len())?;
    Ok(Content::DocumentPart(Box::new(DocumentPart { document, bytes: bytes.to_vec(), snapshot })))
}

/// A path has names between its slashes, and none at its ends.
pub(super) fn check_path(path: &str) -> Result<(), LimitError> {
    let is_tree = path.split('/').all(|name| !name.is_empty());
    if is_tree && path.len() <= MAX_PATH { Ok(()) } else { Err(LimitError::Path { len: path.len() }) }
}

const fn check_part(len: usize) -> Result<(), LimitError> {
    if len > MAX_DOCUMENT_PART { Err(LimitError::DocumentPart { len }) } else { Ok(()) }
}
