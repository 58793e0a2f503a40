//! What messages bring along: made, fetched, read.

use delta_client::BlobSource;
use delta_core::ops::BlobId;

use super::Delta;
use crate::blob::{BlobSource as Source, BlobStatus};
use crate::error::DeltaError;

#[uniffi::export]
impl Delta {
    /// Makes a blob of a file or of bytes, at most 64 MiB, and begins to send it. Messages name it by what this gives
    /// (`attachments`). `mime` (at most 127 bytes) and `name` (255) are what those who get it are shown. Returns when all of
    /// it is on this device: the file is not needed any more, and sending goes on also after a restart. Refused with
    /// `content` above a limit, with `io`, and with `blob_size` for a file that changes meanwhile.
    #[uniffi::method(default(name = None))]
    pub async fn attach(
        &self,
        source: Source,
        mime: String,
        name: Option<String>,
    ) -> Result<BlobId, DeltaError> {
        let source = match source {
            Source::File { path } => BlobSource::File(path.into()),
            Source::Bytes { bytes } => BlobSource::Bytes(bytes.into()),
        };
        self.on(async move |client| client.attach(source, mime, name).await).await
    }

    /// How a blob stands. Refused with `unknown_blob` for one that was not made here and that no message here names.
    pub async fn blob_status(&self, blob: BlobId) -> Result<BlobStatus, DeltaError> {
        self.on(async move |client| client.blob_status(blob).await).await.map(Into::into)
    }

    /// Fetches a blob that a message names, unless it is here, and returns at once: events (`changed`, of the kind `blob`)
    /// say when there is more of it. One that stopped goes on where it stood. Refused with `unknown_blob`.
    pub async fn fetch_blob(&self, blob: BlobId) -> Result<(), DeltaError> {
        self.on(async move |client| client.fetch_blob(blob).await).await
    }

    /// Removes a blob from this device; one that is being sent or fetched is given up. Others keep what they have.
    pub async fn drop_blob(&self, blob: BlobId) -> Result<(), DeltaError> {
        self.on(async move |client| client.drop_blob(blob).await).await
    }

    /// Writes a blob that is here into a file, and replaces one that is there once it is whole. Refused with
    /// `blob_not_here`, with `io`.
    pub async fn write_blob(&self, blob: BlobId, path: String) -> Result<(), DeltaError> {
        self.on(async move |client| client.write_blob(blob, path).await).await
    }

    /// A blob that is here, whole: for small ones. Refused with `blob_not_here`.
    pub async fn blob_bytes(&self, blob: BlobId) -> Result<Vec<u8>, DeltaError> {
        self.on(async move |client| client.blob_bytes(blob).await).await
    }
}
