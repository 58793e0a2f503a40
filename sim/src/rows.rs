//! The read model as the app sees it, and a second, simple way to compute what it must be.
//!
//! The second way knows nothing of the projector: it takes all operations at once, sorted by author and number, and
//! applies the rules of docs/wire.md, section 12.

use std::collections::{BTreeMap, BTreeSet};

use delta_core::engine::Event as News;
use delta_core::identity::{Author, LogId, OperationId};
use delta_core::ops::Content;
use delta_core::store::{Page, Reader, StoreError};

use crate::model::Fact;
use crate::trace::short;

/// Messages read at once.
const PAGE: usize = 200;

/// What an app can read of some conversations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    messages: BTreeMap<OperationId, Message>,
    profiles: BTreeMap<(LogId, Author), Profile>,
    /// Operations whose content nobody knows any more: a deleted message that was published unheard.
    pub unknown: BTreeSet<OperationId>,
    edits: BTreeMap<(OperationId, Author), (u32, OperationId, String)>,
    deletes: BTreeMap<(OperationId, Author), (u32, OperationId)>,
    reactions: BTreeMap<(OperationId, Author, String), (u32, OperationId, bool)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    author: Author,
    /// `None`: deleted.
    text: Option<String>,
    reply: Option<OperationId>,
    mentions: Vec<Author>,
    edit: Option<OperationId>,
    deleted_by: Option<OperationId>,
    reactions: BTreeSet<(String, Author)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Profile {
    id: OperationId,
    name: String,
    bio: Option<String>,
    availability: Option<String>,
    public: bool,
}

impl Rows {
    /// Reads everything through the app's queries.
    pub(crate) fn read(reader: &Reader, logs: &[LogId], authors: &[Author]) -> Result<Self, StoreError> {
        let mut rows = Self::default();
        for log in logs {
            for id in order(reader, log)? {
                let Some(row) = reader.message(&id)? else { continue };
                let reactions = reader.reactions(&id)?.into_iter().map(|row| (row.emoji, row.author));
                let message = Message {
                    author: row.author(),
                    text: row.text,
                    reply: row.reply,
                    mentions: row.mentions,
                    edit: row.edit,
                    deleted_by: row.deleted_by,
                    reactions: reactions.collect(),
                };
                rows.messages.insert(id, message);
            }
            for author in authors {
                if let Some(row) = reader.profile(author, log)? {
                    let (bio, availability) = (row.bio, row.availability);
                    let profile =
                        Profile { id: row.id, name: row.name, bio, availability, public: row.public };
                    rows.profiles.insert((*log, *author), profile);
                }
            }
        }
        Ok(rows)
    }

    /// Takes one operation; those of an author come by rising number.
    pub(crate) fn apply(&mut self, log: &LogId, fact: &Fact, content: &Content) {
        let Fact { author, seq_num, id } = fact.clone();
        match content.clone() {
            Content::MessageSend { text, reply, mentions, .. } => {
                let (edit, deleted_by, reactions) = (None, None, BTreeSet::new());
                let message =
                    Message { author, text: Some(text), reply, mentions, edit, deleted_by, reactions };
                self.messages.insert(id, message);
            }
            Content::MessageEdit { target, text } => {
                self.edits.insert((target, author), (seq_num, id, text));
            }
            Content::MessageDelete { target } => {
                self.deletes.entry((target, author)).or_insert((seq_num, id));
            }
            Content::ReactionAdd { target, emoji } => {
                self.reactions.insert((target, author, emoji), (seq_num, id, true));
            }
            Content::ReactionRemove { target, emoji } => {
                self.reactions.insert((target, author, emoji), (seq_num, id, false));
            }
            Content::ProfileSet { name, bio, availability, public, .. } => {
                self.profiles.insert((*log, author), Profile { id, name, bio, availability, public });
            }
            // No spaces here: these topics are judged by nobody.
            Content::RoomRotate(_)
            | Content::DeviceBundle(_)
            | Content::EpochKeys(_)
            | Content::Membership(_)
            | Content::InviteClaim { .. }
            | Content::JoinRequest { .. }
            | Content::LeaveRequest { .. }
            | Content::DeviceTell(_)
            | Content::DirectRequest { .. }
            | Content::DirectAccept { .. }
            | Content::DirectRenew { .. }
            | Content::ReadSet { .. }
            | Content::OwnDevices(_)
            | Content::Unknown { .. }
            | Content::KeyValue(_)
            | Content::BlobChunk { .. }
            | Content::BlobShare(_)
            | Content::DocumentCreate { .. }
            | Content::DocumentPart(_)
            | Content::Malformed { .. } => {}
        }
    }

    /// Brings what was said about messages to them.
    pub(crate) fn finish(&mut self) {
        for (id, message) in &mut self.messages {
            let by_author = (*id, message.author);
            if let Some((_, delete)) = self.deletes.get(&by_author) {
                (message.text, message.reply, message.edit) = (None, None, None);
                message.mentions.clear();
                message.deleted_by = Some(*delete);
            } else if let Some((_, edit, text)) = self.edits.get(&by_author) {
                (message.text, message.edit) = (Some(text.clone()), Some(*edit));
            }
        }
        for ((target, author, emoji), (_, _, active)) in &self.reactions {
            if let Some(message) = self.messages.get_mut(target).filter(|_| *active) {
                message.reactions.insert((emoji.clone(), *author));
            }
        }
    }

    /// The first difference between what is expected and what was found on a device that lacks some operations, in
    /// words.
    pub(crate) fn difference(&self, found: &Self, lacking: &BTreeSet<OperationId>) -> Option<String> {
        let known = |id: &OperationId| !self.unknown.contains(id) && !found.unknown.contains(id);
        let ids: BTreeSet<_> =
            self.messages.keys().chain(found.messages.keys()).filter(|id| known(id)).collect();
        for id in ids {
            let (expected, found) = (self.messages.get(id), found.messages.get(id));
            let tombstone = expected.is_some_and(|message| message.text.is_none());
            if expected != found && !(tombstone && found.is_none() && lacking.contains(id)) {
                return Some(format!("message {id} is {found:?}, expected {expected:?}"));
            }
        }
        let names: BTreeSet<_> = self.profiles.keys().chain(found.profiles.keys()).collect();
        for name in names {
            let (expected, found) = (self.profiles.get(name), found.profiles.get(name));
            if expected != found {
                return Some(format!("the profile of {} is {found:?}, expected {expected:?}", name.1));
            }
        }
        None
    }
}

/// The messages of a conversation in the order shown.
pub(crate) fn order(reader: &Reader, log: &LogId) -> Result<Vec<OperationId>, StoreError> {
    let mut order: Vec<Vec<OperationId>> = Vec::new();
    let mut page = Page::Newest;
    loop {
        let rows = reader.messages(log, page, PAGE)?;
        let Some(first) = rows.first() else { break };
        page = Page::Before(first.position);
        order.push(rows.into_iter().map(|row| row.id).collect());
    }
    Ok(order.into_iter().rev().flatten().collect())
}

/// An event without its content.
pub(crate) fn say(news: &News) -> String {
    match news {
        News::Connection { topic, connection } => format!("{} is {connection:?}", short(topic)),
        News::Reset { topic } => format!("{} is reset", short(topic)),
        News::ClockSkew { skew, .. } => format!("the clock is off: {skew:?}"),
        News::Gap { topic, from, to } => format!("{} has a gap {from}–{to}", short(topic)),
        News::ServerFault { topic, fault } => format!("{}: server fault: {fault}", short(topic)),
        News::Delivery { topic, blocked: Some(blocked) } => format!("{} is blocked: {blocked}", short(topic)),
        News::Delivery { topic, blocked: None } => format!("{} goes on", short(topic)),
        other => format!("{other:?}"),
    }
}
