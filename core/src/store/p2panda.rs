//! p2panda's store traits over an open transaction: an operation, its cursor and its projection commit together.
//! Thin wrappers; the futures are ready at once.
//!
//! These move rows and nothing else: whether an operation may be stored at all is decided by
//! [`crate::engine::ingest`], which also projects it.

use std::collections::BTreeMap;

use p2panda_core::LogId as AnyLogId;
use p2panda_store::logs::LogStore;
use p2panda_store::operations::OperationStore;
use rusqlite::params;

use super::error::StoreError;
use super::operations::{NewOperation, StoredOperation};
use super::tx::Tx;
use crate::identity::{Author, LogId, OperationId};
use crate::limits::MAX_LOG_ENTRIES;
use crate::ops::{Body, Content};
use crate::projector::{Erased, Place};

impl OperationStore<StoredOperation, OperationId> for Tx<'_> {
    type Error = StoreError;

    /// The log is the operation's own; `_collection_id` only satisfies the trait.
    async fn insert_operation<L: AnyLogId>(
        &self,
        id: &OperationId,
        operation: &StoredOperation,
        _collection_id: &L,
    ) -> Result<bool, StoreError> {
        if self.place_of(id)?.is_some() {
            return Ok(false);
        }
        let StoredOperation { author, log, seq_num, backlink, header, body, .. } = operation;
        let new = NewOperation {
            id: *id,
            author: *author,
            log: *log,
            seq_num: *seq_num,
            backlink: *backlink,
            header,
            body: body.as_deref().unwrap_or_default(),
        };
        self.put_operation(&new, None, Place::UNPLACED)?;
        if body.is_none() {
            self.erase_body(author, log, *seq_num, Erased::Other)?;
        }
        let ended = self.log_end(author, log)?.is_some();
        self.raise_head(&new, Place::UNPLACED, ended)?;
        self.recount_holes(author, log)?;
        Ok(true)
    }

    async fn get_operation(&self, id: &OperationId) -> Result<Option<StoredOperation>, StoreError> {
        self.operation(id)
    }

    async fn get_operation_tx(&self, id: &OperationId) -> Result<Option<StoredOperation>, StoreError> {
        self.operation(id)
    }

    async fn has_operation(&self, id: &OperationId) -> Result<bool, StoreError> {
        Ok(self.place_of(id)?.is_some())
    }

    async fn has_operation_tx(&self, id: &OperationId) -> Result<bool, StoreError> {
        Ok(self.place_of(id)?.is_some())
    }

    async fn delete_operation(&self, id: &OperationId) -> Result<bool, StoreError> {
        let (Some(StoredOperation { author, log, .. }), Some(stored)) =
            (self.operation(id)?, self.place_of(id)?)
        else {
            return Ok(false);
        };
        self.take_out(&author, &log, &stored)?;
        let ended = self.log_end(&author, &log)?.is_some();
        self.recount_head(&author, &log, ended)?;
        self.recount_holes(&author, &log)?;
        self.rebuild_log(&author, &log)?;
        Ok(true)
    }

    async fn delete_operation_payload(&self, id: &OperationId) -> Result<bool, StoreError> {
        let Some(StoredOperation { author, log, seq_num, body, .. }) = self.operation(id)? else {
            return Ok(false);
        };
        let Some(body) = body else { return Ok(false) };
        let was = match Body::decode(&body).map(|body| body.content) {
            Ok(Content::MessageSend { .. }) => Erased::Message,
            Ok(Content::MessageEdit { .. }) => Erased::Edit,
            _ => Erased::Other,
        };
        self.erase_body(&author, &log, seq_num, was)?;
        self.rebuild_log(&author, &log)?;
        Ok(true)
    }
}

impl LogStore<StoredOperation, Author, LogId, u32, OperationId> for Tx<'_> {
    type Error = StoreError;

    async fn get_latest_entry(
        &self,
        author: &Author,
        log: &LogId,
    ) -> Result<Option<StoredOperation>, StoreError> {
        let head = self.head(author, log)?;
        head.map_or(Ok(None), |head| self.operation(&head.id))
    }

    async fn get_latest_entry_tx(
        &self,
        author: &Author,
        log: &LogId,
    ) -> Result<Option<StoredOperation>, StoreError> {
        self.get_latest_entry(author, log).await
    }

    async fn get_log_heights(
        &self,
        author: &Author,
        logs: &[LogId],
    ) -> Result<Option<BTreeMap<LogId, u32>>, StoreError> {
        let mut heights = BTreeMap::new();
        for log in logs {
            heights.extend(self.head(author, log)?.map(|head| (*log, head.seq_num)));
        }
        Ok((!heights.is_empty()).then_some(heights))
    }

    /// Operations and their bytes, headers included, in `after < seq_num <= until`.
    async fn get_log_size(
        &self,
        author: &Author,
        log: &LogId,
        after: Option<u32>,
        until: Option<u32>,
    ) -> Result<Option<(u32, u32)>, StoreError> {
        let Some((from, to)) = bounds(after, until) else { return Ok(None) };
        let size = self.one(
            "SELECT count(*), total(length(header) + ifnull(length(body), 0)) FROM operations
             WHERE author = ?1 AND log = ?2 AND seq_num BETWEEN ?3 AND ?4",
            params![author.0, log.0, from, to],
            |row| Ok((row.get::<_, u32>(0)?, row.get::<_, f64>(1)? as u32)),
        )?;
        Ok(size.filter(|(count, _)| *count > 0))
    }

    async fn get_log_entries(
        &self,
        author: &Author,
        log: &LogId,
        after: Option<u32>,
        until: Option<u32>,
    ) -> Result<Option<Vec<(StoredOperation, Vec<u8>)>>, StoreError> {
        let Some((from, to)) = bounds(after, until) else { return Ok(None) };
        let entries = self.log_entries(author, log, from, to, MAX_LOG_ENTRIES)?;
        let entries: Vec<_> = entries.into_iter().map(|op| (op.clone(), op.header)).collect();
        Ok((!entries.is_empty()).then_some(entries))
    }

    /// Removes what lies before `until`, its read-model rows with it; a hole remains.
    async fn prune_entries(&self, author: &Author, log: &LogId, until: &u32) -> Result<u64, StoreError> {
        let pruned = self.run(
            "DELETE FROM operations WHERE author = ?1 AND log = ?2 AND seq_num < ?3",
            params![author.0, log.0, until],
        )?;
        let ended = self.log_end(author, log)?.is_some();
        self.recount_head(author, log, ended)?;
        self.recount_holes(author, log)?;
        self.rebuild_log(author, log)?;
        Ok(pruned as u64)
    }
}

/// `after < seq_num <= until` as an inclusive range; `None` when it is empty.
fn bounds(after: Option<u32>, until: Option<u32>) -> Option<(u32, u32)> {
    let from = after.map_or(Some(0), |after| after.checked_add(1))?;
    Some((from, until.unwrap_or(u32::MAX)))
}
