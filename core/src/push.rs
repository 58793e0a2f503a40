//! What a notification extension needs: one envelope opened without a database.
//!
//! While the app runs it exports a [`KeySnapshot`]: the reading half of its topics' keys, who may write in them, and the
//! names to show. The extension opens it with a key that only the device's keystore has, and makes a [`Preview`] of the
//! envelope that a push brought. It sees what the app knew when it made the snapshot: a topic that was opened, or that
//! moved to new keys, since then has no preview until the app makes a new one. Nothing is stored, and no log is followed:
//! a preview may show an operation twice, or one that the app will refuse as a fork.
//!
//! The layout is in docs/notification-extensions.md.

mod snapshot;

#[cfg(test)]
mod tests;

use thiserror::Error;

pub use snapshot::{
    KeySnapshot, MAX_NAMES, MAX_PERSON_DEVICES, MAX_SNAPSHOT, Person, SnapshotError, SnapshotTopic,
    SnapshotWriter, TITLE_BYTES,
};

use crate::identity::{Author, LogId, Millis, OperationId};
use crate::ops::{Content, EnvelopeError, KeyId, Rejected, peek};
use crate::topic::TopicId;

/// What a notification may show of one operation. Its signature was checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Preview {
    /// The topic, by the name the app knows it by.
    pub topic: TopicId,
    /// The conversation.
    pub log: LogId,
    /// What the conversation was called when the snapshot was made: a space's or room's name.
    pub title: Option<String>,
    /// The operation.
    pub operation: OperationId,
    /// Who wrote it.
    pub author: Author,
    /// What their person was called here when the snapshot was made.
    pub name: Option<String>,
    /// This person wrote it, on whichever device: nothing to notify about.
    pub own: bool,
    /// The author could write here when the snapshot was made. Where this is false show no content: a member that was
    /// removed may still hold the key.
    pub may_write: bool,
    /// When it was written, by the author's clock.
    pub sent_at: Option<Millis>,
    /// What it says.
    pub said: PreviewSaid,
}

/// What an operation says, as far as a notification is concerned.
#[derive(Clone, PartialEq, Eq)]
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
    /// Something else: membership, keys, profiles. Nothing to notify about.
    Other,
}

/// Shows nothing of what is said.
impl std::fmt::Debug for PreviewSaid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Message { .. } => "Message(..)",
            Self::Edit { .. } => "Edit(..)",
            Self::Delete { .. } => "Delete(..)",
            Self::Reaction { .. } => "Reaction(..)",
            Self::Other => "Other",
        })
    }
}

/// Shows nothing of what is said.
impl std::fmt::Debug for Preview {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preview").field("operation", &self.operation).finish_non_exhaustive()
    }
}

/// An envelope gives no preview.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PushError {
    /// The snapshot has no key for it: the topic was opened, or moved to new keys, after it was made.
    #[error("the key snapshot has no key for this operation: make a new one when the app runs")]
    NoKey,
    /// Invitations and messages between two devices change keys when they are opened: only the app can.
    #[error("only the app can open this: show a notification without content")]
    NeedsDatabase,
    /// It does not open.
    #[error(transparent)]
    Envelope(EnvelopeError),
    /// It is no valid operation.
    #[error(transparent)]
    Operation(#[from] Rejected),
}

/// Opens one envelope and checks the operation in it.
pub fn decrypt_push(envelope: &[u8], snapshot: &KeySnapshot) -> Result<Preview, PushError> {
    let topic = match envelope.split_first() {
        Some((3, rest)) => {
            let key_id: Option<KeyId> = rest.first_chunk().copied();
            key_id.and_then(|key_id| snapshot.by_key(&key_id)).ok_or(PushError::NoKey)?
        }
        Some((0, _)) => public(envelope, snapshot)?,
        Some((1 | 4, _)) => return Err(PushError::NeedsDatabase),
        _ => return Err(PushError::NoKey),
    };
    let log = topic.keys.log();
    let operation = topic.keys.open(envelope).map_err(PushError::Envelope)?.verify(&log)?;
    let author = operation.author();
    let (device, person) = (snapshot.device(), snapshot.person());
    let me = Author(person.identity.0);
    let body = operation.body();
    let said = match &body.content {
        Content::MessageSend { text, mentions, .. } => {
            let mentions = mentions.contains(&device) || mentions.contains(&me);
            PreviewSaid::Message { text: text.clone(), mentions }
        }
        Content::MessageEdit { target, text } => PreviewSaid::Edit { target: *target, text: text.clone() },
        Content::MessageDelete { target } => PreviewSaid::Delete { target: *target },
        Content::ReactionAdd { target, emoji } => {
            PreviewSaid::Reaction { target: *target, emoji: emoji.clone() }
        }
        _ => PreviewSaid::Other,
    };
    Ok(Preview {
        topic: topic.known_as,
        log,
        title: topic.title.clone(),
        operation: operation.id(),
        author,
        name: topic.names.get(&author).cloned(),
        own: author == device || author == me || person.devices.contains(&author),
        may_write: topic.writers.as_ref().is_none_or(|writers| writers.contains(&author)),
        sent_at: body.sent_at,
        said,
    })
}

/// A public topic is named by the operation itself.
fn public<'a>(envelope: &[u8], snapshot: &'a KeySnapshot) -> Result<&'a SnapshotTopic, PushError> {
    let any = snapshot.topics().iter().find(|topic| topic.keys.is_public()).ok_or(PushError::NoKey)?;
    let opened = any.keys.open(envelope).map_err(PushError::Envelope)?;
    let log = peek(&opened.header)?.log;
    let named = snapshot.topics().iter().find(|topic| topic.keys.is_public() && topic.keys.log() == log);
    named.ok_or(PushError::NoKey)
}
