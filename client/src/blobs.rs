//! Blobs: files and bytes that messages bring along. A file crosses by its path, chunk by chunk, and is never in memory
//! whole.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use delta_core::crypto::open_chunk;
use delta_core::engine::{Command, CommandError, Reply};
use delta_core::limits::BLOB_CHUNK;
use delta_core::ops::{BlobId, Content, Manifest};
use delta_core::store::{BlobStatus, Reader};

use crate::client::{Client, unexpected};
use crate::error::ClientError;

/// What a blob is made of.
#[derive(Clone, Debug)]
pub enum BlobSource {
    /// A file.
    File(PathBuf),
    /// Bytes.
    Bytes(Bytes),
}

/// What a file that is being written is called meanwhile: beside where it is to be, with this at its end, and a number
/// where there is one of that name.
const PART: &str = ".part";
/// Names that are tried for it.
const PARTS: usize = 100;

impl Client {
    /// Makes a blob of a file or of bytes, at most [`MAX_BLOB`](delta_core::limits::MAX_BLOB), and begins to send it.
    /// Whoever is to have it is told by a message ([`Client::attachments`]). `mime` and `name` are what they are shown,
    /// at most [`MAX_MIME`](delta_core::limits::MAX_MIME) and [`MAX_FILE_NAME`](delta_core::limits::MAX_FILE_NAME) bytes.
    ///
    /// Returns when all of it is on this device; from then on the file is not needed, and sending goes on also after a
    /// restart.
    ///
    /// # Errors
    /// `content` above a limit, `io`, and `blob_size` for a file that changes while it is read.
    pub async fn attach(
        &self,
        source: BlobSource,
        mime: String,
        name: Option<String>,
    ) -> Result<BlobId, ClientError> {
        let mut read = ToRead::open(source)?;
        let size = read.size()?;
        let draft = self.blob(Command::MakeBlob { size, mime, name }).await?;
        let made = self.put_chunks(draft, size, &mut read).await;
        if made.is_err() {
            // What is not removed now is when the device starts.
            drop(self.drop_blob(draft).await);
        }
        made
    }

    async fn put_chunks(&self, blob: BlobId, size: u64, read: &mut ToRead) -> Result<BlobId, ClientError> {
        for number in 0.. {
            let Some(len) = Manifest::chunk_len(size, number) else { break };
            let bytes = read.next(len).await?;
            self.command(Command::PutChunk { blob, number, bytes }).await?;
        }
        self.blob(Command::FinishBlob { blob }).await
    }

    async fn blob(&self, command: Command) -> Result<BlobId, ClientError> {
        match self.command(command).await? {
            Reply::Blob(blob) => Ok(blob),
            other => Err(unexpected(&other)),
        }
    }

    /// What a message says of these blobs, for [`Content::MessageSend`].
    ///
    /// # Errors
    /// `unknown_blob` for one that was not made here and that no message here names.
    pub async fn attachments(&self, blobs: Vec<BlobId>) -> Result<Vec<Manifest>, ClientError> {
        if blobs.is_empty() {
            return Ok(Vec::new());
        }
        let manifests = move |reader: &Reader| blobs.iter().map(|blob| reader.blob_manifest(blob)).collect();
        let manifests: Vec<Option<Manifest>> = self.read(manifests).await?;
        let manifests: Option<Vec<_>> = manifests.into_iter().collect();
        manifests.ok_or(ClientError::Command(CommandError::UnknownBlob))
    }

    /// What tells a conversation where a blob is to be had that it names by its id alone: an avatar, a cover.
    ///
    /// # Errors
    /// As [`Client::attachments`].
    pub async fn share(&self, blob: BlobId) -> Result<Content, ClientError> {
        let shared = self.attachments(vec![blob]).await?.pop();
        let shared = shared.ok_or(ClientError::Command(CommandError::UnknownBlob))?;
        Ok(Content::BlobShare(Box::new(shared)))
    }

    /// Fetches a blob that a message names, unless it is here. Returns at once: that there is more of it is an event of
    /// the conversation ([`Aggregate::Blob`](delta_core::projector::Aggregate::Blob)), and [`Client::blob_status`] says
    /// how much. One that stopped goes on where it stood.
    pub async fn fetch_blob(&self, blob: BlobId) -> Result<(), ClientError> {
        self.command(Command::FetchBlob { blob }).await.map(drop)
    }

    /// Removes a blob from this device; one that is being sent or fetched is given up. Others keep what they have.
    pub async fn drop_blob(&self, blob: BlobId) -> Result<(), ClientError> {
        self.command(Command::DropBlob { blob }).await.map(drop)
    }

    /// How a blob stands.
    ///
    /// # Errors
    /// `unknown_blob` for one that was not made here and that no message here names.
    pub async fn blob_status(&self, blob: BlobId) -> Result<BlobStatus, ClientError> {
        let status = self.read(move |reader| reader.blob_status(&blob)).await?;
        status.ok_or(ClientError::Command(CommandError::UnknownBlob))
    }

    /// Writes a blob that is here into a file; one that is there is replaced, once the new one is whole.
    ///
    /// # Errors
    /// `blob_not_here`: fetch it first. `io`.
    pub async fn write_blob(&self, blob: BlobId, path: impl Into<PathBuf>) -> Result<(), ClientError> {
        let path = path.into();
        let (part, file) = create_part(&path)?;
        let written = self.write_part(blob, (&part, file), &path).await;
        if written.is_err() {
            drop(std::fs::remove_file(&part));
        }
        written
    }

    async fn write_part(
        &self,
        blob: BlobId,
        (part, file): (&Path, File),
        path: &Path,
    ) -> Result<(), ClientError> {
        let file = Arc::new(file);
        self.open_chunks(blob, Some(&file)).await?.map_err(failed(part))?;
        let (from, to) = (part.to_path_buf(), path.to_path_buf());
        let moved = move || {
            file.sync_all()?;
            std::fs::rename(from, to).map(|()| Bytes::new())
        };
        blocking(Box::new(moved)).await?.map(drop).map_err(failed(path))
    }

    /// A blob that is here, whole: for small ones.
    ///
    /// # Errors
    /// `blob_not_here`: fetch it first.
    pub async fn blob_bytes(&self, blob: BlobId) -> Result<Vec<u8>, ClientError> {
        // Nothing is written.
        Ok(self.open_chunks(blob, None).await?.unwrap_or_default())
    }

    /// Opens the chunks of a blob, one after the other, and writes them into a file, or gives them all.
    async fn open_chunks(
        &self,
        blob: BlobId,
        file: Option<&Arc<File>>,
    ) -> Result<io::Result<Vec<u8>>, ClientError> {
        let manifest = self.attachments(vec![blob]).await?.pop();
        let manifest = manifest.ok_or(ClientError::Command(CommandError::UnknownBlob))?;
        let count = u32::try_from(manifest.chunks.len()).unwrap_or(u32::MAX);
        let mut whole = Vec::new();
        for number in 0..count {
            let (key, file) = (manifest.key.clone(), file.cloned());
            let open = move |reader: &Reader| {
                let sealed = reader.blob_chunk(&blob, number)?;
                let bytes = sealed.and_then(|sealed| open_chunk(&key, number, count, sealed));
                Ok(bytes.map(|bytes| match file {
                    Some(file) => (&*file).write_all(&bytes).map(|()| Vec::new()),
                    None => Ok(bytes),
                }))
            };
            match self.read(open).await?.ok_or(ClientError::Command(CommandError::BlobNotHere))? {
                Ok(bytes) => whole.extend(bytes),
                error => return Ok(error),
            }
        }
        Ok(Ok(whole))
    }
}

/// A new file beside another one. What is there of such a name is somebody's, and stays.
fn create_part(path: &Path) -> Result<(PathBuf, File), ClientError> {
    let mut number = 0;
    loop {
        let mut part = path.as_os_str().to_owned();
        part.push(PART);
        if number > 0 {
            part.push(number.to_string());
        }
        let part = PathBuf::from(part);
        number += 1;
        match File::create_new(&part) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < PARTS => {}
            Err(error) => return Err(failed(&part)(error)),
            Ok(file) => return Ok((part, file)),
        }
    }
}

/// A blob's bytes as they are read.
enum ToRead {
    File(PathBuf, Arc<File>),
    Bytes(Bytes),
}

impl ToRead {
    fn open(source: BlobSource) -> Result<Self, ClientError> {
        Ok(match source {
            BlobSource::File(path) => {
                let file = File::open(&path).map_err(failed(&path))?;
                Self::File(path, Arc::new(file))
            }
            BlobSource::Bytes(bytes) => Self::Bytes(bytes),
        })
    }

    fn size(&self) -> Result<u64, ClientError> {
        match self {
            Self::File(path, file) => Ok(file.metadata().map_err(failed(path))?.len()),
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// The next so many bytes. Another number, where the file has changed: that is refused when they are kept.
    async fn next(&mut self, len: usize) -> Result<Bytes, ClientError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.split_to(len.min(bytes.len()))),
            Self::File(path, file) => {
                // One more than there should be after the last chunk shows that it grew.
                let wanted = if len < BLOB_CHUNK { len + 1 } else { len } as u64;
                let file = Arc::clone(file);
                let read = move || {
                    let mut bytes = Vec::new();
                    (&*file).take(wanted).read_to_end(&mut bytes).map(|_| bytes.into())
                };
                blocking(Box::new(read)).await?.map_err(failed(path))
            }
        }
    }
}

/// Not of a type of its own for each: that would cost an app some kilobytes of code.
type Work = Box<dyn FnOnce() -> io::Result<Bytes> + Send>;

async fn blocking(work: Work) -> Result<io::Result<Bytes>, ClientError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ClientError::QueryPanicked)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ClientError {
    let path = path.to_path_buf();
    move |source| ClientError::File { path, source }
}
