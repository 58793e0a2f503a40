//! What is said, and what is read back.

use std::time::{Duration, SystemTime};

use delta_core::identity::{Author, Millis, OperationId};
use delta_core::ops;
use delta_core::projector::Position;
use delta_core::store::{self, MessageRow, ReactionRow};

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
        /// Free text such as "away".
        #[uniffi(default = None)]
        availability: Option<String>,
        /// Whether strangers may read it.
        #[uniffi(default = false)]
        public: bool,
    },
}

impl From<Content> for ops::Content {
    fn from(content: Content) -> Self {
        match content {
            Content::MessageSend { text, reply, mentions } => Self::MessageSend { text, reply, mentions },
            Content::MessageEdit { target, text } => Self::MessageEdit { target, text },
            Content::MessageDelete { target } => Self::MessageDelete { target },
            Content::ReactionAdd { target, emoji } => Self::ReactionAdd { target, emoji },
            Content::ReactionRemove { target, emoji } => Self::ReactionRemove { target, emoji },
            Content::ProfileSet { name, bio, availability, public } => {
                Self::ProfileSet { name, bio, avatar: None, availability, public }
            }
        }
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
    /// Whose.
    pub author: Author,
    /// The operation that added it.
    pub id: OperationId,
}

impl From<ReactionRow> for Reaction {
    fn from(row: ReactionRow) -> Self {
        Self { emoji: row.emoji, author: row.author, id: row.id }
    }
}

/// Latest instant that is passed on: beyond it platforms' date types differ. 9999-12-31.
const MAX_MILLIS: u64 = 253_402_300_799_000;

/// An instant as the languages know it. A clock's nonsense becomes the last day of the year 9999.
pub(crate) fn time(millis: Millis) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis.0.min(MAX_MILLIS))
}
