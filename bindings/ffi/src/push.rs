//! Previews for a notification extension: no database, no network.

use std::sync::Arc;
use std::time::SystemTime;

use delta_client::{ClientError, open_snapshot};
use delta_core::identity::{Author, LogId, OperationId};
use delta_core::push;
use delta_core::topic::TopicId;

use crate::error::DeltaError;
use crate::keystore::{Adapter, Keystore};
use crate::message::time;

/// What the app knew when it made the snapshot ([`Delta::key_snapshot`](crate::Delta::key_snapshot)), opened in the
/// extension's process.
#[derive(Debug, uniffi::Object)]
pub struct KeySnapshot(push::KeySnapshot);

#[uniffi::export]
impl KeySnapshot {
    /// Opens a snapshot. The keystore needs only the item `delta.push`, and is called on the caller's thread. Refused
    /// with `snapshot_not_one`, `snapshot_newer` or `snapshot_damaged`: show no content then.
    #[uniffi::constructor]
    pub fn open(sealed: Vec<u8>, keystore: Arc<dyn Keystore>) -> Result<Arc<Self>, DeltaError> {
        Ok(Arc::new(Self(open_snapshot(&sealed, &Adapter(keystore))?)))
    }

    /// When it was made, by the device's clock.
    pub fn taken_at(&self) -> SystemTime {
        time(self.0.taken())
    }
}

/// Opens one pushed operation and checks its signature. Refused with `push_no_key` where the topic was opened, or moved
/// to new keys, after the snapshot was made, with `push_needs_app` for invitations and messages between two devices, with
/// `push_damaged`: show a notification without content then.
#[uniffi::export]
pub fn decrypt_push(sealed_op: Vec<u8>, key_snapshot: Arc<KeySnapshot>) -> Result<Preview, DeltaError> {
    let preview = push::decrypt_push(&sealed_op, &key_snapshot.0).map_err(ClientError::from)?;
    Ok(preview.into())
}

/// What a notification may show of one operation.
#[derive(Clone, uniffi::Record)]
pub struct Preview {
    /// The topic, as the app knows it.
    pub topic: TopicId,
    /// The conversation.
    pub log: LogId,
    /// What a space or room was called when the snapshot was made.
    pub title: Option<String>,
    /// The operation.
    pub operation: OperationId,
    /// Who wrote it.
    pub author: Author,
    /// What they were called here when the snapshot was made.
    pub name: Option<String>,
    /// This person wrote it, on whichever device: nothing to notify about.
    pub own: bool,
    /// The author could write here when the snapshot was made. Where this is false show no content.
    pub may_write: bool,
    /// When it was written, by the author's clock.
    pub sent_at: Option<SystemTime>,
    /// What it says.
    pub said: PreviewSaid,
}

/// What an operation says, as far as a notification is concerned.
#[derive(Clone, uniffi::Enum)]
pub enum PreviewSaid {
    /// A message.
    Message {
        /// Its text.
        text: String,
        /// Whether it mentions this person, or this device.
        mentions: bool,
    },
    /// A message was edited.
    Edit {
        /// Which.
        target: OperationId,
        /// Its new text.
        text: String,
    },
    /// A message was taken back: a notification about it should go.
    Delete {
        /// Which.
        target: OperationId,
    },
    /// Somebody reacted to a message.
    Reaction {
        /// Which.
        target: OperationId,
        /// With what.
        emoji: String,
    },
    /// Something else: nothing to notify about.
    Other,
}

impl From<push::Preview> for Preview {
    fn from(preview: push::Preview) -> Self {
        let push::Preview { topic, log, title, operation, author, name, own, may_write, sent_at, said } =
            preview;
        let (sent_at, said) = (sent_at.map(time), said.into());
        Self { topic, log, title, operation, author, name, own, may_write, sent_at, said }
    }
}

impl From<push::PreviewSaid> for PreviewSaid {
    fn from(said: push::PreviewSaid) -> Self {
        match said {
            push::PreviewSaid::Message { text, mentions } => Self::Message { text, mentions },
            push::PreviewSaid::Edit { target, text } => Self::Edit { target, text },
            push::PreviewSaid::Delete { target } => Self::Delete { target },
            push::PreviewSaid::Reaction { target, emoji } => Self::Reaction { target, emoji },
            push::PreviewSaid::Other => Self::Other,
        }
    }
}
