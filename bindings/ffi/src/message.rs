//! What is said, and what is read back.

use std::time::{Duration, SystemTime};

use delta_client::{Client, ClientError};
use delta_core::identity::{Author, Identity, LogId, Millis, OperationId};
use delta_core::ops::{self, BlobId};
use delta_core::projector::Position;
use delta_core::store::{self, Arrival, MessageEdit, MessageRow, ProfileRow, ReactionRow, Receipted};
use delta_core::topic::TopicId;

/// What to publish: the kind of operation and its payload.
#[derive(Clone, uniffi::Enum)]
pub enum Content {
    /// A new message.
    MessageSend {
        /// At most 64 KiB of UTF-8.
        text: String,
        /// The message it answers.
        #[uniffi(default = None)]
        reply: Option<OperationId>,
        /// Whom it mentions, at most 64.
        #[uniffi(default = [])]
        mentions: Vec<Author>,
        /// What it brings along, from `attach`; at most 16. Of a blob that came with another message, too.
        #[uniffi(default = [])]
        attachments: Vec<BlobId>,
    },
    /// A new text for one's own message.
    MessageEdit {
        /// The message.
        target: OperationId,
        /// At most 64 KiB of UTF-8.
        text: String,
    },
    /// Takes one's own message back: a tombstone stays.
    MessageDelete {
        /// The message.
        target: OperationId,
    },
    /// Reacts to a message.
    ReactionAdd {
        /// The message.
        target: OperationId,
        /// 1 to 64 bytes of UTF-8.
        emoji: String,
    },
    /// Takes a reaction back.
    ReactionRemove {
        /// The message.
        target: OperationId,
        /// As it was added.
        emoji: String,
    },
    /// Replaces one's whole profile in this conversation.
    ProfileSet {
        /// At most 64 characters.
        name: String,
        /// About the author.
        #[uniffi(default = None)]
        bio: Option<String>,
        /// Picture.
        #[uniffi(default = None)]
        avatar: Option<BlobId>,
        /// Free text such as "away".
        #[uniffi(default = None)]
        availability: Option<String>,
        /// Whether strangers may read it.
        #[uniffi(default = false)]
        public: bool,
    },
    /// Tells everybody where to get a blob that is named by its id alone: an avatar, a cover.
    BlobShare {
        /// From `attach`.
        blob: BlobId,
    },
}

impl Content {
    /// With what opens the blobs it names.
    pub(crate) async fn resolved(self, client: &Client) -> Result<ops::Content, ClientError> {
        Ok(match self {
            Self::MessageSend { text, reply, mentions, attachments } => {
                let attachments = client.attachments(attachments).await?;
                ops::Content::MessageSend { text, reply, mentions, attachments }
            }
            Self::MessageEdit { target, text } => ops::Content::MessageEdit { target, text },
            Self::MessageDelete { target } => ops::Content::MessageDelete { target },
            Self::ReactionAdd { target, emoji } => ops::Content::ReactionAdd { target, emoji },
            Self::ReactionRemove { target, emoji } => ops::Content::ReactionRemove { target, emoji },
            Self::ProfileSet { name, bio, avatar, availability, public } => {
                ops::Content::ProfileSet { name, bio, avatar, availability, public }
            }
            Self::BlobShare { blob } => client.share(blob).await?,
        })
    }
}

/// What a message brings along, as its sender says.
#[derive(Clone, uniffi::Record)]
pub struct Attachment {
    /// What `fetch_blob` and the other calls take.
    pub blob: BlobId,
    /// Its size, bytes.
    pub size: u64,
    /// Its MIME type.
    pub mime: String,
    /// The name of its file. Do not take it for a path.
    pub name: Option<String>,
}

impl From<store::Attachment> for Attachment {
    fn from(store::Attachment { id, size, mime, name }: store::Attachment) -> Self {
        Self { blob: id, size, mime, name }
    }
}

/// A message as it stands: the newest edit applied, or a tombstone.
#[derive(Clone, uniffi::Record)]
pub struct Message {
    /// The operation that sent it.
    pub id: OperationId,
    /// Who sent it.
    pub author: Author,
    /// Where it is shown: for the pages before and after it.
    pub position: Position,
    /// Its text; nothing for a tombstone.
    pub text: Option<String>,
    /// The message it answers.
    pub reply: Option<OperationId>,
    /// Whom it mentions.
    pub mentions: Vec<Author>,
    /// What it brings along.
    pub attachments: Vec<Attachment>,
    /// Whether a server has taken it.
    pub acknowledged: bool,
    /// When it was sent, by the sender's clock. Shown, never sorted on.
    pub sent_at: Option<SystemTime>,
    /// When a server received it, by the server's clock.
    pub received_at: Option<SystemTime>,
    /// When the edit that stands was made, by the sender's clock.
    pub edited_at: Option<SystemTime>,
    /// Whether its author took it back.
    pub deleted: bool,
}

impl From<MessageRow> for Message {
    fn from(row: MessageRow) -> Self {
        Self {
            id: row.id,
            author: row.author(),
            position: row.position,
            acknowledged: row.is_acknowledged(),
            deleted: row.deleted_by.is_some(),
            text: row.text,
            reply: row.reply,
            mentions: row.mentions,
            attachments: row.attachments.into_iter().map(Into::into).collect(),
            sent_at: row.sent_at.map(time),
            received_at: row.received_at.map(time),
            edited_at: row.edited_at.map(time),
        }
    }
}

/// Which messages to read. The page itself is always oldest first.
#[derive(Clone, Copy, Debug, uniffi::Enum)]
pub enum MessagePage {
    /// The newest.
    Newest,
    /// The newest before a position.
    Before {
        /// Of a message.
        position: Position,
    },
    /// The oldest after a position.
    After {
        /// Of a message.
        position: Position,
    },
}

impl From<MessagePage> for store::Page {
    fn from(page: MessagePage) -> Self {
        match page {
            MessagePage::Newest => Self::Newest,
            MessagePage::Before { position } => Self::Before(position),
            MessagePage::After { position } => Self::After(position),
        }
    }
}

/// A reaction that stands.
#[derive(Clone, uniffi::Record)]
pub struct Reaction {
    /// What.
    pub emoji: String,
    /// The device that added it.
    pub author: Author,
    /// Whose: one reaction of a kind from each person.
    pub person: Identity,
    /// The operation that added it.
    pub id: OperationId,
}

impl From<ReactionRow> for Reaction {
    fn from(row: ReactionRow) -> Self {
        Self { emoji: row.emoji, author: row.author, person: row.identity, id: row.id }
    }
}

/// One text of a message, as sent or as edited.
#[derive(Clone, uniffi::Record)]
pub struct Version {
    /// The operation.
    pub id: OperationId,
    /// The text.
    pub text: String,
    /// When it was written, by the sender's clock.
    pub sent_at: Option<SystemTime>,
}

impl From<MessageEdit> for Version {
    fn from(row: MessageEdit) -> Self {
        Self { id: row.id, text: row.text, sent_at: row.sent_at.map(time) }
    }
}

/// What somebody says about themselves in one conversation.
#[derive(Clone, uniffi::Record)]
pub struct Profile {
    /// Who.
    pub author: Author,
    /// In which conversation.
    pub log: LogId,
    /// Display name.
    pub name: String,
    /// About the author.
    pub bio: Option<String>,
    /// Picture.
    pub avatar: Option<BlobId>,
    /// Free text such as "away".
    pub availability: Option<String>,
    /// Whether strangers may read it.
    pub public: bool,
}

impl From<ProfileRow> for Profile {
    fn from(row: ProfileRow) -> Self {
        let ProfileRow { author, log, name, bio, avatar, availability, public, .. } = row;
        Self { author, log, name, bio, avatar, availability, public }
    }
}

/// What to search for.
#[derive(Clone, uniffi::Record)]
pub struct SearchWords {
    /// Words that all occur; upper and lower case are the same. Of more than 16 the first count.
    pub words: String,
    /// Only in this topic.
    #[uniffi(default = None)]
    pub topic: Option<TopicId>,
    /// Only by this author.
    #[uniffi(default = None)]
    pub author: Option<Author>,
    /// Only received at this time or later, by the server's clock.
    #[uniffi(default = None)]
    pub since: Option<SystemTime>,
    /// Only received earlier than this.
    #[uniffi(default = None)]
    pub until: Option<SystemTime>,
    /// Only what came to this device before: the `arrival` of the last one found, for the next page.
    #[uniffi(default = None)]
    pub before: Option<i64>,
}

impl SearchWords {
    pub(crate) fn within(self, log: Option<LogId>) -> store::Search {
        let Self { words, author, since, until, before, .. } = self;
        let (since, until) = (since.map(millis), until.map(millis));
        store::Search { words, log, author, since, until, before: before.map(Arrival) }
    }
}

/// A message that was found.
#[derive(Clone, uniffi::Record)]
pub struct Found {
    /// The message.
    pub message: Message,
    /// Its conversation.
    pub log: LogId,
    /// Its place in the order in which messages came to this device.
    pub arrival: i64,
    /// Its text around the first word that was looked for, at most 120 characters.
    pub excerpt: String,
}

impl From<store::Found> for Found {
    fn from(found: store::Found) -> Self {
        let store::Found { message, arrival, excerpt } = found;
        Self { log: message.log, message: message.into(), arrival: arrival.0, excerpt }
    }
}

/// A message that mentions somebody.
#[derive(Clone, uniffi::Record)]
pub struct Mention {
    /// The message.
    pub message: Message,
    /// Its conversation.
    pub log: LogId,
    /// Its place in the order in which messages came to this device: to be handed back for those before it.
    pub arrival: i64,
}

impl From<(Arrival, MessageRow)> for Mention {
    fn from((arrival, row): (Arrival, MessageRow)) -> Self {
        Self { log: row.log, message: row.into(), arrival: arrival.0 }
    }
}

/// Where a message stands among those of its conversation by the time of their receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ReceiptPlace {
    /// When a server received it, milliseconds since 1970 by its clock.
    pub at: i64,
    /// Among those of one time.
    pub arrival: i64,
}

/// Messages that were received in a time.
#[derive(Clone, uniffi::Record)]
pub struct ReceivedPage {
    /// In the order of their receipt.
    pub messages: Vec<Message>,
    /// Where the next page goes on; nothing after the last.
    pub next: Option<ReceiptPlace>,
}

impl From<(Vec<MessageRow>, Option<Receipted>)> for ReceivedPage {
    fn from((rows, next): (Vec<MessageRow>, Option<Receipted>)) -> Self {
        let next = next.map(|Receipted { at, arrival }| ReceiptPlace { at, arrival: arrival.0 });
        Self { messages: rows.into_iter().map(Into::into).collect(), next }
    }
}

impl From<ReceiptPlace> for Receipted {
    fn from(ReceiptPlace { at, arrival }: ReceiptPlace) -> Self {
        Self { at, arrival: Arrival(arrival) }
    }
}

/// What of a conversation has not been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Unread {
    /// Messages of others after the marker.
    pub messages: u64,
    /// Those of them that mention this device's person.
    pub mentions: u64,
}

impl From<store::Unread> for Unread {
    fn from(store::Unread { messages, mentions }: store::Unread) -> Self {
        Self { messages, mentions }
    }
}

/// Latest instant that is passed on: beyond it platforms' date types differ. 9999-12-31.
const MAX_MILLIS: u64 = 253_402_300_799_000;

/// An instant as the languages know it. A clock's nonsense becomes the last day of the year 9999.
pub(crate) fn time(millis: Millis) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis.0.min(MAX_MILLIS))
}

/// As [`time`], back. What lies before 1970 is its first instant.
pub(crate) fn millis(time: SystemTime) -> Millis {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
