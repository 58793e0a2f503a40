//! Blobs: what they are made of, and how they stand.

use delta_core::store;

use crate::message::Attachment;

/// What a blob is made of.
#[derive(Clone, uniffi::Enum)]
pub enum BlobSource {
    /// A file, which is read chunk by chunk.
    File {
        /// Where it is.
        path: String,
    },
    /// Bytes.
    Bytes {
        /// All of them.
        bytes: Vec<u8>,
    },
}

/// Whether a blob is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum BlobState {
    /// It was not fetched, or made room for others.
    Absent,
    /// It is here, and on its way to the server.
    Sending,
    /// It is being fetched, or waits for its turn.
    Fetching,
    /// It is here, and with the server if it was made here.
    Here,
    /// The server does not have all of it, or had nothing new for ten minutes: `fetch_blob` later.
    Unavailable,
    /// What was fetched is not what the message said.
    Corrupt,
}

/// How far a blob is.
#[derive(Clone, uniffi::Record)]
pub struct BlobStatus {
    /// What it is.
    pub about: Attachment,
    /// Whether it is here.
    pub state: BlobState,
    /// Chunks that are here; of one that is sent, that the server has.
    pub have: u32,
    /// Chunks in all.
    pub of: u32,
}

impl From<store::BlobStatus> for BlobStatus {
    fn from(store::BlobStatus { about, state, have, of }: store::BlobStatus) -> Self {
        let state = match state {
            store::BlobState::Absent => BlobState::Absent,
            store::BlobState::Sending => BlobState::Sending,
            store::BlobState::Fetching => BlobState::Fetching,
            store::BlobState::Here => BlobState::Here,
            store::BlobState::Unavailable => BlobState::Unavailable,
            store::BlobState::Corrupt => BlobState::Corrupt,
        };
        Self { about: about.into(), state, have, of }
    }
}
