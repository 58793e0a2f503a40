//! From operations to the read model: a pure function of one operation and the rows it concerns.
//!
//! The rows that come out are the same whatever order operations arrive in: what speaks of a message that is not
//! here yet is kept as a row and applied when it comes, conflicts of one author are decided by its own seq_num,
//! never by arrival. Applying [`Write`]s and the lookups behind [`Rows`] are the store's.

mod document;
mod key_value;
mod message;
mod position;
mod profile;
mod reaction;

use crate::identity::{Author, Identity, LogId, Millis, OperationId};
use crate::ops::{Body, Content, HybridTime, KeyValue, Manifest, ValueKey};
use crate::tree::{Map, Set};

pub(crate) use message::deleted_by;
pub use message::{EditRow, MessageKey, MessageText, Waiting};
pub use position::{Place, Position};
pub use profile::ProfileText;

/// What an operation is and says, as far as the read model cares.
#[derive(Clone, Copy, Debug)]
pub struct Fact<'a> {
    /// The operation.
    pub id: OperationId,
    /// The device that signed it.
    pub author: Author,
    /// Whose device that is, where it was said.
    pub identity: Identity,
    /// In which conversation.
    pub log: LogId,
    /// Its number in the author's log.
    pub seq_num: u32,
    /// Where it is shown.
    pub place: Place,
    /// When a server received it, by the server's clock.
    pub received: Option<Millis>,
    /// Its author was a manager of the space where it was said, at the operations it cites.
    pub manager: bool,
    /// What it says.
    pub said: Said<'a>,
}

/// What an operation says, or what it was before its body was erased.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// Its body.
    Body(&'a Body),
    /// The body is gone.
    Erased(Erased),
}

/// What an erased body was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erased {
    /// A message that its author deleted.
    Message,
    /// An edit of such a message.
    Edit,
    /// Something else: nothing of it is shown.
    Other,
}

/// The rows the projector looks at.
pub trait Rows {
    /// Why a lookup failed.
    type Error;

    /// The message with this id, tombstones included.
    fn message(&self, id: OperationId) -> Result<Option<MessageKey>, Self::Error>;
    /// What has been said about an operation so far.
    fn waiting(&self, target: OperationId) -> Result<Waiting, Self::Error>;
    /// The edit of `target` that stands, of those by devices of this identity in this log: of each device the one with
    /// the highest seq_num, of these the one with the latest clock, then the highest id.
    fn last_edit(
        &self,
        target: OperationId,
        identity: Identity,
        log: LogId,
    ) -> Result<Option<EditRow>, Self::Error>;
    /// Of the deletes of `target` in this log by devices of this identity the one with the lowest seq_num, then id.
    fn first_delete(
        &self,
        target: OperationId,
        identity: Identity,
        log: LogId,
    ) -> Result<Option<(u32, OperationId)>, Self::Error>;
    /// Of the deletes of `target` in this log by managers, the one with the lowest id.
    fn manager_delete(&self, target: OperationId, log: LogId) -> Result<Option<OperationId>, Self::Error>;
    /// The seq_num that decided this device's reaction so far.
    fn reaction(
        &self,
        target: OperationId,
        author: Author,
        log: LogId,
        emoji: &str,
    ) -> Result<Option<u32>, Self::Error>;
    /// The seq_num that decided this author's profile in this log so far.
    fn profile(&self, author: Author, log: LogId) -> Result<Option<u32>, Self::Error>;
    /// The operation that stands for a key, deletes included.
    fn standing_value(
        &self,
        log: LogId,
        at: &ValueKey,
    ) -> Result<Option<(HybridTime, OperationId)>, Self::Error>;
    /// Whether an operation about a key was replaced by name.
    fn is_replaced(&self, log: LogId, at: &ValueKey, id: OperationId) -> Result<bool, Self::Error>;
}

/// One change of the read model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write<'a> {
    /// A message row, by its operation; `text` is `None` for a tombstone.
    PutMessage {
        /// What was said.
        text: Option<MessageText<'a>>,
        /// The edit that stands.
        edit: Option<EditRow>,
        /// The delete that made it a tombstone.
        deleted_by: Option<OperationId>,
    },
    /// A row of edit history.
    PutEdit {
        /// The message.
        target: OperationId,
        /// Its new text.
        text: &'a str,
        /// The sender's clock.
        sent: Option<Millis>,
    },
    /// The edit that stands ([`Rows::last_edit`]) is the message's from now on.
    SettleEdit {
        /// The message.
        target: OperationId,
        /// Its key.
        message: MessageKey,
    },
    /// A delete, applied or waiting for its message.
    PutDelete {
        /// The message.
        target: OperationId,
    },
    /// A message becomes a tombstone: every content column NULL, the stored body erased, its edits with it.
    Tombstone {
        /// Which message.
        target: OperationId,
        /// Its key.
        message: MessageKey,
        /// The delete that did it.
        deleted_by: OperationId,
    },
    /// The body of this operation is erased from the store.
    EraseBody(Erased),
    /// Edits of a tombstone are removed and their bodies erased.
    DropEdits {
        /// The message.
        target: OperationId,
    },
    /// What others (or the author in another log) said about a message that only its author may say.
    DropForeign {
        /// The message.
        target: OperationId,
        /// Whose it is.
        identity: Identity,
        /// Its log.
        log: LogId,
    },
    /// An author's reaction with one emoji, decided by this operation.
    PutReaction {
        /// The message.
        target: OperationId,
        /// Which.
        emoji: &'a str,
        /// False: taken back.
        active: bool,
        /// The sender's clock.
        sent: Option<Millis>,
    },
    /// An author's profile, replaced whole by this operation.
    PutProfile(ProfileText<'a>),
    /// What was written to a key, and what that replaces.
    PutVersion(&'a KeyValue),
    /// A document that this operation made.
    PutDocument {
        /// Its path.
        path: &'a str,
    },
    /// This operation wrote to a document.
    PutPart {
        /// Which.
        document: OperationId,
    },
    /// Another operation stands for a key now.
    SettleValue(&'a KeyValue),
    /// Where a blob is to be had.
    PutShare(&'a Manifest),
}

/// What an operation does to the read model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projected<'a> {
    /// Rows to change, in this order.
    pub writes: Vec<Write<'a>>,
    /// What an app would query again.
    pub changed: Option<(Aggregate, [u8; 32])>,
    /// Which key, where it is a key's value.
    pub key: Option<&'a ValueKey>,
    /// Set when the operation is kept but says nothing to this version.
    pub skipped: Option<Skipped>,
}

/// Why an operation has no effect on the read model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// A kind this version does not know.
    Unknown,
    /// A known kind whose payload breaks its rules.
    Malformed,
    /// An edit or delete of someone else's message, or a reaction from another log.
    NotAllowed,
}

impl Skipped {
    /// Under which name such operations are counted.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unknown => "skipped-unknown-kind",
            Self::Malformed => "skipped-malformed",
            Self::NotAllowed => "skipped-not-allowed",
        }
    }
}

/// What kind of thing a change concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aggregate {
    /// Messages; ids are the messages' operation ids.
    Message,
    /// Reactions; ids are the messages they belong to.
    Reaction,
    /// Profiles; ids are the authors.
    Profile,
    /// Spaces; ids are their log ids.
    Space,
    /// Rooms of a space; ids are their log ids.
    Room,
    /// Members of a space, and those who ask to be; ids are the authors.
    Member,
    /// Values of keys ([`Change::keys`] names them); ids are the operations that changed them.
    KeyValue,
    /// Documents; ids are the operations that made them.
    Document,
    /// Direct threads, which are asked for in inboxes; ids are the threads'.
    DirectThread,
    /// Blobs that the conversation names; ids are theirs.
    Blob,
}

/// Rows of the read model that changed: what an app queries again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// In which conversation.
    pub log: LogId,
    /// What kind of thing.
    pub aggregate: Aggregate,
    /// Which ones (see [`Aggregate`]).
    pub ids: Vec<[u8; 32]>,
    /// Which keys, of [`Aggregate::KeyValue`]; empty otherwise.
    pub keys: Vec<ValueKey>,
}

impl Change {
    /// Rows that have ids.
    pub const fn new(log: LogId, aggregate: Aggregate, ids: Vec<[u8; 32]>) -> Self {
        Self { log, aggregate, ids, keys: Vec::new() }
    }

    /// Joins changes of the same conversation and kind; each id once.
    pub fn merge(changes: Vec<Self>) -> Vec<Self> {
        if changes.len() <= 1 && changes.iter().all(|change| change.ids.len() == 1) {
            return changes;
        }
        let mut merged = Map::<_, (Set<_>, Set<_>)>::new();
        for change in changes {
            let (ids, keys) = merged.entry((change.log, change.aggregate)).or_default();
            ids.extend(change.ids);
            keys.extend(change.keys);
        }
        let rows = merged.into_iter().map(|((log, aggregate), (ids, keys))| {
            let (ids, keys) = (ids.into_iter().collect(), keys.into_iter().collect());
            Self { log, aggregate, ids, keys }
        });
        rows.collect()
    }
}

/// What `fact` does to the read model that `rows` shows.
pub fn project<'a, R: Rows + ?Sized>(fact: &Fact<'a>, rows: &R) -> Result<Projected<'a>, R::Error> {
    let body = match fact.said {
        Said::Body(body) => body,
        Said::Erased(Erased::Message) => return message::erased(fact, rows),
        Said::Erased(Erased::Edit | Erased::Other) => return Ok(Projected::default()),
    };
    match &body.content {
        Content::MessageSend { text, reply, mentions, attachments } => {
            let text = MessageText { text, reply: *reply, mentions, attachments, sent: body.sent_at };
            message::send(fact, rows, text)
        }
        Content::MessageEdit { target, text } => message::edit(fact, rows, *target, text, body.sent_at),
        Content::MessageDelete { target } => message::delete(fact, rows, *target),
        Content::ReactionAdd { target, emoji } => {
            reaction::set(fact, rows, *target, emoji, (true, body.sent_at))
        }
        Content::ReactionRemove { target, emoji } => {
            reaction::set(fact, rows, *target, emoji, (false, body.sent_at))
        }
        Content::ProfileSet { name, bio, avatar, availability, public } => {
            let (bio, availability) = (bio.as_deref(), availability.as_deref());
            profile::set(
                fact,
                rows,
                ProfileText { name, bio, avatar: *avatar, availability, public: *public },
            )
        }
        Content::KeyValue(write) => key_value::set(fact, rows, write),
        Content::DocumentCreate { path } => Ok(document::create(fact, path)),
        Content::DocumentPart(part) => Ok(document::part(part)),
        // It is taken, or kept to be sent, where the blob is.
        Content::BlobChunk { .. } => Ok(Projected::of(Write::EraseBody(Erased::Other))),
        Content::BlobShare(manifest) => Ok(Projected {
            changed: Some((Aggregate::Blob, manifest.id.0)),
            ..Projected::of(Write::PutShare(manifest))
        }),
        // What they do is done where the room's topics and sessions are kept.
        Content::RoomRotate(_)
        | Content::DeviceBundle(_)
        | Content::EpochKeys(_)
        | Content::DirectRequest { .. }
        | Content::DirectAccept { .. }
        | Content::DirectRenew { .. } => Ok(Projected::default()),
        // A space's own matters are no single operation's: the store has them from the whole graph.
        Content::Membership(_)
        | Content::InviteClaim { .. }
        | Content::JoinRequest { .. }
        | Content::LeaveRequest { .. }
        | Content::DeviceTell(_)
        | Content::ReadSet { .. }
        | Content::OwnDevices(_) => Ok(Projected::default()),
        Content::Unknown { .. } => Ok(Projected::skip(Skipped::Unknown)),
        Content::Malformed { .. } => Ok(Projected::skip(Skipped::Malformed)),
    }
}

impl<'a> Projected<'a> {
    fn of(write: Write<'a>) -> Self {
        Self { writes: vec![write], ..Self::default() }
    }

    fn skip(why: Skipped) -> Self {
        Self { skipped: Some(why), ..Self::default() }
    }
}
