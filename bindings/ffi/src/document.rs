//! Documents and their parts.

use delta_core::identity::{Author, OperationId};
use delta_core::store::{DocumentRow, PartRow};

/// A document: its id, its path, who made it. What is in it is in its parts.
#[derive(Clone, Debug, uniffi::Record)]
pub struct Document {
    /// The operation that made it: its name for good.
    pub id: OperationId,
    /// Where it stands in the tree of paths. Two that were made at once may have the same.
    pub path: String,
    /// Who made it.
    pub author: Author,
}

impl From<DocumentRow> for Document {
    fn from(DocumentRow { id, path, author }: DocumentRow) -> Self {
        Self { id, path, author }
    }
}

/// Something written to a document.
#[derive(Clone, uniffi::Record)]
pub struct DocumentPart {
    /// This device's number for it: what it reads later has a higher one.
    pub number: u64,
    /// The operation.
    pub id: OperationId,
    /// Who wrote it.
    pub author: Author,
    /// Whether it is all of the document as its author had it, or a change.
    pub snapshot: bool,
    /// What was written.
    pub bytes: Vec<u8>,
}

impl From<PartRow> for DocumentPart {
    fn from(PartRow { number, id, author, snapshot, bytes }: PartRow) -> Self {
        Self { number, id, author, snapshot, bytes }
    }
}
