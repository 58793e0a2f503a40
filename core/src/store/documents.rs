//! Documents: their paths, and what was written to each of them, in the order in which this device read it.

use std::fmt;

use rusqlite::params;

use super::db::{Db, int, uint};
use super::error::StoreError;
use super::operations::Entry;
use super::tx::Tx;
use crate::identity::{Author, LogId, OperationId};
use crate::limits::MAX_PARTS_BYTES;
use crate::ops::{Body, Content};
use crate::projector::Fact;

/// A document of a conversation.
#[derive(Clone, PartialEq, Eq)]
pub struct DocumentRow {
    /// The operation that made it: its name for good.
    pub id: OperationId,
    /// Where it stands in the tree. Two that were made at once may have the same.
    pub path: String,
    /// Who made it.
    pub author: Author,
}

/// Names the operation and shows nothing of its content.
impl fmt::Debug for DocumentRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DocumentRow").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Something written to a document.
#[derive(Clone, PartialEq, Eq)]
pub struct PartRow {
    /// This device's number for it, from 1: what it reads later has a higher one.
    pub number: u64,
    /// The operation.
    pub id: OperationId,
    /// Who wrote it.
    pub author: Author,
    /// Whether it is all of the document, or a change.
    pub snapshot: bool,
    /// What was written.
    pub bytes: Vec<u8>,
}

/// Names the operation and shows nothing of its content.
impl fmt::Debug for PartRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartRow").field("number", &self.number).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Db {
    /// A page of at most `limit` documents whose paths begin with `prefix`, by path, then id; `after` is the last one of
    /// the page before.
    pub fn documents(
        &self,
        log: &LogId,
        prefix: &str,
        after: Option<OperationId>,
        limit: usize,
    ) -> Result<Vec<DocumentRow>, StoreError> {
        let after = after.map(|id| id.0);
        let rows = self.all(
            "SELECT id, path, author FROM document WHERE log = ?1 AND path >= ?2 AND (path, id) >
                 (ifnull((SELECT path FROM document WHERE log = ?1 AND id = ?3), ''), ifnull(?3, x''))
             ORDER BY path, id LIMIT ?4",
            params![log.0, prefix, after, int(limit as u64)],
            |row| {
                let (id, author) = (OperationId(row.get(0)?), Author(row.get(2)?));
                Ok(DocumentRow { id, path: row.get(1)?, author })
            },
        )?;
        // Paths with one prefix stand together.
        Ok(rows.into_iter().take_while(|row| row.path.starts_with(prefix)).collect())
    }

    /// What was written to a document, in the order in which this device read it: at most `limit` parts with a number
    /// above `after`, and no more after the one with which they have [`MAX_PARTS_BYTES`].
    pub fn document_parts(
        &self,
        log: &LogId,
        document: OperationId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<PartRow>, StoreError> {
        let (mut rows, mut len) = (Vec::new(), 0_usize);
        let mut after = after.min(i64::MAX as u64);
        while rows.len() < limit && len < MAX_PARTS_BYTES {
            let found = self.one(
                "SELECT p.number, o.hash, o.author, o.body FROM document_part p
                     JOIN operations o ON o.entry = p.entry
                 WHERE p.log = ?1 AND p.document = ?2 AND p.number > ?3 ORDER BY p.number LIMIT 1",
                params![log.0, document.0, int(after)],
                |row| {
                    let (id, author) = (OperationId(row.get(1)?), Author(row.get(2)?));
                    Ok((uint(row.get(0)?), id, author, row.get::<_, Option<Vec<u8>>>(3)?))
                },
            )?;
            let Some((number, id, author, body)) = found else { break };
            after = number;
            if let Some(Ok(Body { content: Content::DocumentPart(part), .. })) =
                body.as_deref().map(Body::decode)
            {
                len = len.saturating_add(part.bytes.len());
                rows.push(PartRow { number, id, author, snapshot: part.snapshot, bytes: part.bytes });
            }
        }
        Ok(rows)
    }
}

impl Tx<'_> {
    pub(super) fn put_document(&self, fact: &Fact<'_>, path: &str) -> Result<usize, StoreError> {
        self.run(
            "INSERT INTO document (log, id, path, author) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            params![fact.log.0, fact.id.0, path, fact.author.0],
        )
    }

    pub(super) fn put_part(
        &self,
        entry: Entry,
        fact: &Fact<'_>,
        document: OperationId,
    ) -> Result<usize, StoreError> {
        self.run(
            "INSERT INTO document_part (log, document, entry, author) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
            params![fact.log.0, document.0, entry.0, fact.author.0],
        )
    }
}
