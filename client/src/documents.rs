//! Documents: what a conversation's members write together, merged by a library of the app's.

use delta_core::identity::OperationId;
use delta_core::ops::{Content, DocumentPart};
use delta_core::store::{DocumentRow, PartRow};
use delta_core::topic::TopicId;

use crate::client::Client;
use crate::error::ClientError;

impl Client {
    /// Makes a document under a path, of at most [`MAX_PATH`](delta_core::limits::MAX_PATH) bytes with names between its
    /// slashes; gives its id. Nothing is in it yet. Like [`Client::publish`] it returns once that is durable here.
    pub async fn create_document(
        &self,
        topic: TopicId,
        path: impl Into<String>,
    ) -> Result<OperationId, ClientError> {
        self.publish(topic, Content::DocumentCreate { path: path.into() }).await
    }

    /// Writes a change to a document, or all of it, at most
    /// [`MAX_DOCUMENT_PART`](delta_core::limits::MAX_DOCUMENT_PART) bytes.
    pub async fn write_document(
        &self,
        topic: TopicId,
        part: DocumentPart,
    ) -> Result<OperationId, ClientError> {
        self.publish(topic, Content::DocumentPart(Box::new(part))).await
    }

    /// A page of at most `limit` documents whose paths begin with `prefix`, by path, then id; `after` is the last one of
    /// the page before.
    pub async fn documents(
        &self,
        topic: TopicId,
        prefix: impl Into<String>,
        after: Option<OperationId>,
        limit: usize,
    ) -> Result<Vec<DocumentRow>, ClientError> {
        let (log, prefix) = (self.log_of(topic).await?, prefix.into());
        self.read(move |reader| reader.documents(&log, &prefix, after, limit)).await
    }

    /// What was written to a document, in the order in which this device read it: at most `limit` parts with a number
    /// above `after`, and no more after the one with which they have
    /// [`MAX_PARTS_BYTES`](delta_core::limits::MAX_PARTS_BYTES).
    pub async fn document_parts(
        &self,
        topic: TopicId,
        document: OperationId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<PartRow>, ClientError> {
        let log = self.log_of(topic).await?;
        self.read(move |reader| reader.document_parts(&log, document, after, limit)).await
    }
}
