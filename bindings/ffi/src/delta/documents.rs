//! Documents: what a conversation's members write together, merged by a library of the app's (Automerge, as a rule).

use delta_core::identity::OperationId;
use delta_core::ops;
use delta_core::topic::TopicId;

use super::{Delta, MAX_PAGE};
use crate::document::{Document, DocumentPart};
use crate::error::DeltaError;

#[uniffi::export]
impl Delta {
    /// Makes a document under a path (1 to 512 bytes, names between slashes) and gives its id; nothing is in it yet. Returns
    /// once that is durable here. Refused as `publish` is.
    pub async fn create_document(&self, topic: TopicId, path: String) -> Result<OperationId, DeltaError> {
        self.on(async move |client| client.create_document(topic, path).await).await
    }

    /// Writes a change to a document, as the app's library gives it; with `snapshot` all of the document, for those who
    /// read nothing from before. At most 768 KiB.
    #[uniffi::method(default(snapshot = false))]
    pub async fn write_document(
        &self,
        topic: TopicId,
        document: OperationId,
        bytes: Vec<u8>,
        snapshot: bool,
    ) -> Result<OperationId, DeltaError> {
        let part = ops::DocumentPart { document, bytes, snapshot };
        self.on(async move |client| client.write_document(topic, part).await).await
    }

    /// Documents by their paths: at most `limit` (1000) of those whose paths begin with `prefix`; `after` is the last one
    /// of the page before.
    #[uniffi::method(default(prefix = "", after = None))]
    pub async fn documents(
        &self,
        topic: TopicId,
        limit: u32,
        prefix: String,
        after: Option<OperationId>,
    ) -> Result<Vec<Document>, DeltaError> {
        let limit = limit.min(MAX_PAGE) as usize;
        let rows = self.on(async move |client| client.documents(topic, prefix, after, limit).await).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// What was written to a document, in the order in which this device read it: at most `limit` (1000) parts with a
    /// number above `after`, or about 4 MiB of them. An app merges each, keeps the last one's number with what it made of
    /// them, and goes on from there; a part may come a second time.
    #[uniffi::method(default(after = 0))]
    pub async fn document_parts(
        &self,
        topic: TopicId,
        document: OperationId,
        limit: u32,
        after: u64,
    ) -> Result<Vec<DocumentPart>, DeltaError> {
        let limit = limit.min(MAX_PAGE) as usize;
        let rows =
            self.on(async move |client| client.document_parts(topic, document, after, limit).await).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}
