//! Kinds and their payloads, and the limits that hold for them on both sides.

use std::fmt;

use cbor_core::Value;

use super::blob::{BLOB_CHUNK_KIND, BLOB_SHARE, Manifest, check_attachments, check_chunk};
use super::document::{self, DOCUMENT_CREATE, DocumentPart, check_path};
use super::epoch::EpochKeys;
use super::handover::{KeyBundle, Rotation, SessionId};
use super::key_value::{KV_DELETE, KV_PUT, KeyValue};
use super::membership::{Action, Hidden};
use super::own::OwnDevices;
use super::payload::{Flaw, LimitError, Payload, check_description, check_name, check_text};
use super::thread::{SignedBytes, bundles, bundles_value, check_bundles};
use super::told::{DEVICE_TELL, DeviceTell};
use crate::cbor::{Fields, array, fields, items, text};
use crate::identity::{Author, Identity, LogId, OperationId, ThreadId, bytes_id};
use crate::limits::{MAX_EMOJI, MAX_MENTIONS};

/// What an operation says. The kinds come from a closed, versioned list (docs/wire.md).
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// `message.send`: a new message.
    MessageSend {
        /// The text, at most [`crate::limits::MAX_TEXT`] bytes.
        text: String,
        /// The message it answers.
        reply: Option<OperationId>,
        /// Whom it mentions, at most [`crate::limits::MAX_MENTIONS`].
        mentions: Vec<Author>,
        /// What it brings along, at most [`crate::limits::MAX_ATTACHMENTS`].
        attachments: Vec<Manifest>,
    },
    /// `message.edit`: a new text for one's own message.
    MessageEdit {
        /// The message.
        target: OperationId,
        /// Its new text, at most [`crate::limits::MAX_TEXT`] bytes.
        text: String,
    },
    /// `message.delete`: the message leaves a tombstone.
    MessageDelete {
        /// The message.
        target: OperationId,
    },
    /// `reaction.add`.
    ReactionAdd {
        /// The message.
        target: OperationId,
        /// 1 to [`crate::limits::MAX_EMOJI`] bytes.
        emoji: String,
    },
    /// `reaction.remove`.
    ReactionRemove {
        /// The message.
        target: OperationId,
        /// As it was added.
        emoji: String,
    },
    /// `profile.set`: replaces the author's whole profile.
    ProfileSet {
        /// Display name, at most [`crate::limits::MAX_DISPLAY_NAME`] characters.
        name: String,
        /// About the author, at most [`crate::limits::MAX_TEXT`] bytes.
        bio: Option<String>,
        /// Picture.
        avatar: Option<BlobId>,
        /// Free text such as "away", at most [`crate::limits::MAX_DISPLAY_NAME`] characters.
        availability: Option<String>,
        /// Whether strangers may read it; absent on the wire when false.
        public: bool,
    },
    /// `room.rotate`: the room moves to its next epoch.
    RoomRotate(Box<Rotation>),
    /// `device.bundle`: with which keys others begin a session with the device that signs; replaces the one before.
    DeviceBundle(KeyBundle),
    /// Keys of epochs that stand already.
    EpochKeys(Box<EpochKeys>),
    /// A kind of a space's membership graph.
    Membership(Box<Action>),
    /// `invite.claim`, in a manager's inbox: somebody who is no member yet answers an invitation.
    InviteClaim {
        /// The operation that made the invitation.
        invite: OperationId,
        /// MAC with the invitation's token over who claims it ([`crate::space::claim_mac`]).
        mac: [u8; 32],
        /// The space's log id.
        space: LogId,
    },
    /// `member.request`, in a manager's inbox: somebody who is no member asks to be added.
    JoinRequest {
        /// What they say, at most [`crate::limits::MAX_DESCRIPTION`] bytes.
        text: Option<String>,
        /// The space's log id.
        space: LogId,
    },
    /// `leave.request`, in a manager's inbox: a member that has no key to write with wants to be one no more.
    LeaveRequest {
        /// The space's log id.
        space: LogId,
    },
    /// `device.tell`, in a manager's inbox: what a device that cannot write in a space says in its log of its person's
    /// devices.
    DeviceTell(Box<DeviceTell>),
    /// `direct.request`, in an inbox: asks for a direct thread.
    DirectRequest {
        /// One half of the secret the thread's topic is derived from.
        share: Hidden,
        /// What they say, at most [`crate::limits::MAX_DESCRIPTION`] bytes.
        text: Option<String>,
    },
    /// `direct.accept`, in the inbox of whoever asked.
    DirectAccept {
        /// Which thread.
        thread: ThreadId,
        /// The other half.
        share: Hidden,
        /// In whose name, where not in that of the device that signs alone.
        identity: Option<Identity>,
        /// The newest `device.bundle` of that identity's devices, at most [`crate::limits::MAX_DEVICES`]: another one may have been asked.
        bundles: Vec<SignedBytes>,
    },
    /// `direct.renew`, in an inbox: the sender cannot open what is sealed in a session; its peer begins another.
    DirectRenew {
        /// The session.
        session: SessionId,
    },
    /// What a person's own devices say to each other.
    OwnDevices(Box<OwnDevices>),
    /// `read.set`: how far the author has read a conversation. Of one's own devices only.
    ReadSet {
        /// The conversation.
        log: LogId,
        /// The last message read.
        message: OperationId,
    },
    /// `kv.put` or `kv.delete`: the value of a key, or that it has none any more.
    KeyValue(Box<KeyValue>),
    /// `document.create`: a document with nothing in it yet; its operation's id names it.
    DocumentCreate {
        /// Where it stands in the tree: 1 to [`crate::limits::MAX_PATH`] bytes, names between slashes.
        path: String,
    },
    /// `document.change` or `document.snapshot`.
    DocumentPart(Box<DocumentPart>),
    /// `blob.chunk`, in a blob's own topic: a part of its ciphertext.
    BlobChunk {
        /// Which, from 0.
        index: u32,
        /// At most [`crate::limits::BLOB_CHUNK`] bytes and a tag.
        bytes: Vec<u8>,
    },
    /// `blob.share`: where a blob is to be had that is named by its id (avatars, covers).
    BlobShare(Box<Manifest>),
    /// A kind this version does not know. Its bytes stay in the body; the projector skips it.
    Unknown {
        /// The kind's name.
        kind: String,
    },
    /// A known kind with a payload that breaks its rules. The projector skips and counts it.
    Malformed {
        /// The kind's name.
        kind: &'static str,
        /// What is wrong.
        flaw: Flaw,
    },
}

/// Shows the kind and how much of it there is, not what it says.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match self {
            Self::MessageSend { text, .. } | Self::MessageEdit { text, .. } => text.len(),
            Self::ReactionAdd { emoji, .. } | Self::ReactionRemove { emoji, .. } => emoji.len(),
            Self::ProfileSet { name, bio, availability, .. } => {
                let optional = [bio, availability].map(|text| text.as_ref().map_or(0, String::len));
                name.len() + optional.iter().sum::<usize>()
            }
            Self::Membership(action) => action.text_len(),
            Self::KeyValue(write) => write.text_len(),
            Self::DocumentCreate { path } => path.len(),
            Self::DocumentPart(part) => part.bytes.len(),
            Self::JoinRequest { text, .. } | Self::DirectRequest { text, .. } => {
                text.as_ref().map_or(0, String::len)
            }
            Self::MessageDelete { .. }
            | Self::RoomRotate(_)
            | Self::DeviceBundle(_)
            | Self::EpochKeys(_)
            | Self::InviteClaim { .. }
            | Self::LeaveRequest { .. }
            | Self::DeviceTell(_)
            | Self::DirectAccept { .. }
            | Self::DirectRenew { .. }
            | Self::ReadSet { .. }
            | Self::OwnDevices(_)
            | Self::BlobShare(_)
            | Self::Unknown { .. } => 0,
            Self::BlobChunk { bytes, .. } => bytes.len(),
            Self::Malformed { kind, flaw } => return write!(f, "Content({kind}, {flaw})"),
        };
        // The name of an unknown kind is the author's text, too.
        let kind = if matches!(self, Self::Unknown { .. }) { "unknown" } else { self.kind() };
        write!(f, "Content({kind}, {bytes} bytes)")
    }
}

bytes_id!(
    /// Names a blob: BLAKE3 of its ciphertext.
    BlobId,
    32
);

const MESSAGE_SEND: &str = "message.send";
const MESSAGE_EDIT: &str = "message.edit";
const MESSAGE_DELETE: &str = "message.delete";
const REACTION_ADD: &str = "reaction.add";
const REACTION_REMOVE: &str = "reaction.remove";
const PROFILE_SET: &str = "profile.set";
const ROOM_ROTATE: &str = "room.rotate";
const DEVICE_BUNDLE: &str = "device.bundle";
const INVITE_CLAIM: &str = "invite.claim";
const MEMBER_REQUEST: &str = "member.request";
const LEAVE_REQUEST: &str = "leave.request";
const READ_SET: &str = "read.set";
const DIRECT_REQUEST: &str = "direct.request";
const DIRECT_ACCEPT: &str = "direct.accept";
const DIRECT_RENEW: &str = "direct.renew";

impl Content {
    /// The kind's name on the wire.
    pub fn kind(&self) -> &str {
        match self {
            Self::MessageSend { .. } => MESSAGE_SEND,
            Self::MessageEdit { .. } => MESSAGE_EDIT,
            Self::MessageDelete { .. } => MESSAGE_DELETE,
            Self::ReactionAdd { .. } => REACTION_ADD,
            Self::ReactionRemove { .. } => REACTION_REMOVE,
            Self::ProfileSet { .. } => PROFILE_SET,
            Self::RoomRotate(_) => ROOM_ROTATE,
            Self::DeviceBundle(_) => DEVICE_BUNDLE,
            Self::EpochKeys(keys) => keys.kind(),
            Self::Membership(action) => action.kind(),
            Self::InviteClaim { .. } => INVITE_CLAIM,
            Self::JoinRequest { .. } => MEMBER_REQUEST,
            Self::LeaveRequest { .. } => LEAVE_REQUEST,
            Self::DeviceTell(_) => DEVICE_TELL,
            Self::OwnDevices(said) => said.kind(),
            Self::ReadSet { .. } => READ_SET,
            Self::KeyValue(write) => write.kind(),
            Self::DocumentCreate { .. } => DOCUMENT_CREATE,
            Self::DocumentPart(part) => part.kind(),
            Self::DirectRequest { .. } => DIRECT_REQUEST,
            Self::DirectAccept { .. } => DIRECT_ACCEPT,
            Self::DirectRenew { .. } => DIRECT_RENEW,
            Self::BlobChunk { .. } => BLOB_CHUNK_KIND,
            Self::BlobShare(_) => BLOB_SHARE,
            Self::Unknown { kind } => kind,
            Self::Malformed { kind, .. } => kind,
        }
    }

    /// Whether it is said in inboxes, to one device alone, and says nothing anywhere else.
    #[cfg(feature = "device")]
    pub(crate) fn is_of_inboxes(&self) -> bool {
        if let Self::OwnDevices(said) = self {
            return matches!(**said, OwnDevices::Past(_));
        }
        matches!(
            self,
            Self::InviteClaim { .. }
                | Self::JoinRequest { .. }
                | Self::LeaveRequest { .. }
                | Self::DeviceTell(_)
                | Self::DirectRequest { .. }
                | Self::DirectAccept { .. }
                | Self::DirectRenew { .. }
        )
    }

    /// The limits, the same for what is written and for what is read.
    pub(super) fn check(&self) -> Result<(), LimitError> {
        match self {
            Self::MessageSend { text, mentions, attachments, .. } => {
                check_text(text)?;
                check_mentions(mentions.len())?;
                check_attachments(attachments.len())?;
                attachments.iter().try_for_each(Manifest::check)
            }
            Self::MessageEdit { text, .. } => check_text(text),
            Self::ReactionAdd { emoji, .. } | Self::ReactionRemove { emoji, .. } => check_emoji(emoji),
            Self::ProfileSet { name, bio, availability, .. } => {
                check_name(name)?;
                check_text(bio.as_deref().unwrap_or_default())?;
                check_name(availability.as_deref().unwrap_or_default())
            }
            Self::BlobChunk { index, bytes } => check_chunk(*index, bytes),
            Self::BlobShare(manifest) => manifest.check(),
            Self::RoomRotate(rotation) => rotation.check(),
            Self::EpochKeys(keys) => keys.check(),
            Self::DeviceTell(told) => told.check(),
            Self::Membership(action) => action.check(),
            Self::KeyValue(write) => write.check(),
            Self::DocumentCreate { path } => check_path(path),
            Self::DocumentPart(part) => part.check(),
            Self::JoinRequest { text, .. } | Self::DirectRequest { text, .. } => {
                check_description(text.as_deref())
            }
            Self::MessageDelete { .. }
            | Self::DeviceBundle(_)
            | Self::InviteClaim { .. }
            | Self::LeaveRequest { .. }
            | Self::DirectRenew { .. }
            | Self::ReadSet { .. }
            | Self::Unknown { .. }
            | Self::Malformed { .. } => Ok(()),
            Self::DirectAccept { bundles, .. } => check_bundles(bundles),
            Self::OwnDevices(said) => said.check(),
        }
    }

    pub(super) fn payload(&self) -> Option<Value<'_>> {
        let id = |id: &OperationId| (0, Value::from(id.0));
        let pairs = match self {
            Self::MessageSend { text, reply, mentions, attachments } => {
                let mut pairs = vec![(0, Value::from(text))];
                pairs.extend(reply.map(|id| (1, Value::from(id.0))));
                if !mentions.is_empty() {
                    let mentions: Vec<_> = mentions.iter().map(|author| Value::from(&author.0)).collect();
                    pairs.push((2, Value::from(mentions)));
                }
                if !attachments.is_empty() {
                    let attachments: Vec<_> = attachments.iter().map(Manifest::value).collect();
                    pairs.push((3, Value::from(attachments)));
                }
                pairs
            }
            Self::MessageEdit { target, text } => vec![id(target), (1, Value::from(text))],
            Self::MessageDelete { target } => vec![id(target)],
            Self::ReactionAdd { target, emoji } | Self::ReactionRemove { target, emoji } => {
                vec![id(target), (1, Value::from(emoji))]
            }
            Self::ProfileSet { name, bio, avatar, availability, public } => {
                let mut pairs = vec![(0, Value::from(name))];
                pairs.extend(bio.as_ref().map(|bio| (1, Value::from(bio))));
                pairs.extend(avatar.map(|blob| (2, Value::from(blob.0))));
                pairs.extend(availability.as_ref().map(|availability| (3, Value::from(availability))));
                pairs.extend(public.then_some((4, Value::from(true))));
                pairs
            }
            Self::RoomRotate(rotation) => return Some(rotation.payload()),
            Self::DeviceBundle(bundle) => return Some(bundle.payload()),
            Self::KeyValue(write) => return Some(write.payload()),
            Self::EpochKeys(keys) => return Some(keys.payload()),
            Self::Membership(action) => action.pairs(),
            Self::DocumentCreate { path } => vec![(0, Value::from(path))],
            Self::DocumentPart(part) => part.pairs(),
            Self::OwnDevices(said) => return Some(said.payload()),
            Self::DeviceTell(told) => return Some(told.payload()),
            Self::InviteClaim { invite, mac, space } => {
                vec![id(invite), (1, Value::from(*mac)), (2, Value::from(space.0))]
            }
            Self::JoinRequest { text, space } => {
                let text = text.iter().map(|text| (0, Value::from(text)));
                text.chain([(1, Value::from(space.0))]).collect()
            }
            Self::LeaveRequest { space } => vec![(0, Value::from(space.0))],
            Self::DirectRequest { share, text } => {
                let text = text.iter().map(|text| (1, Value::from(text)));
                [(0, Value::from(share.0))].into_iter().chain(text).collect()
            }
            Self::DirectAccept { thread, share, identity, bundles } => {
                let mut pairs = vec![(0, Value::from(thread.0)), (1, Value::from(share.0))];
                pairs.extend(identity.map(|identity| (2, Value::from(identity.0))));
                pairs.extend(bundles_value(3, bundles));
                pairs
            }
            Self::DirectRenew { session } => vec![(0, Value::from(session.0))],
            Self::ReadSet { log, message } => vec![(0, Value::from(log.0)), (1, Value::from(message.0))],
            Self::BlobChunk { index, bytes } => {
                vec![(0, Value::from(*index)), (1, Value::from(bytes.as_slice()))]
            }
            Self::BlobShare(manifest) => vec![(0, manifest.value())],
            Self::Unknown { .. } | Self::Malformed { .. } => return None,
        };
        Some(crate::cbor::map(pairs))
    }

    pub(super) fn from_cbor(kind: &str, payload: &Fields<'_>) -> Self {
        let payload = Payload(payload);
        let (kind, parsed) = match kind {
            MESSAGE_SEND => (MESSAGE_SEND, payload.message_send()),
            MESSAGE_EDIT => (MESSAGE_EDIT, payload.message_edit()),
            MESSAGE_DELETE => (MESSAGE_DELETE, payload.id(0).map(|target| Self::MessageDelete { target })),
            REACTION_ADD => {
                (REACTION_ADD, payload.reaction().map(|(target, emoji)| Self::ReactionAdd { target, emoji }))
            }
            REACTION_REMOVE => (
                REACTION_REMOVE,
                payload.reaction().map(|(target, emoji)| Self::ReactionRemove { target, emoji }),
            ),
            PROFILE_SET => (PROFILE_SET, payload.profile_set()),
            ROOM_ROTATE => {
                let rotation = Rotation::from_payload(&payload);
                (ROOM_ROTATE, rotation.map(|rotation| Self::RoomRotate(Box::new(rotation))))
            }
            DEVICE_BUNDLE => (DEVICE_BUNDLE, KeyBundle::from_payload(&payload).map(Self::DeviceBundle)),
            INVITE_CLAIM => (INVITE_CLAIM, payload.invite_claim()),
            MEMBER_REQUEST => (MEMBER_REQUEST, payload.join_request()),
            LEAVE_REQUEST => {
                let space = payload.required(0, array).map(LogId);
                (LEAVE_REQUEST, space.map(|space| Self::LeaveRequest { space }))
            }
            DEVICE_TELL => {
                let told = DeviceTell::read(&payload);
                (DEVICE_TELL, told.map(|told| Self::DeviceTell(Box::new(told))))
            }
            DIRECT_REQUEST => (DIRECT_REQUEST, payload.direct_request()),
            DIRECT_ACCEPT => (DIRECT_ACCEPT, payload.direct_accept()),
            DIRECT_RENEW => (
                DIRECT_RENEW,
                payload.required(0, array).map(|id| Self::DirectRenew { session: SessionId(id) }),
            ),
            READ_SET => (READ_SET, payload.read_set()),
            BLOB_CHUNK_KIND => (BLOB_CHUNK_KIND, payload.blob_chunk()),
            BLOB_SHARE => {
                let manifest = payload.required(0, fields).and_then(|it| Manifest::shared(&Payload::of(it)));
                (BLOB_SHARE, manifest.map(|manifest| Self::BlobShare(Box::new(manifest))))
            }
            KV_PUT => (KV_PUT, key_value(KeyValue::put_from(&payload))),
            KV_DELETE => (KV_DELETE, key_value(KeyValue::delete_from(&payload))),
            _ => match (Action::read(kind, &payload), OwnDevices::read(kind, &payload)) {
                (Some((kind, action)), _) => (kind, action.map(|action| Self::Membership(Box::new(action)))),
                (None, Some((kind, said))) => (kind, said.map(|said| Self::OwnDevices(Box::new(said)))),
                (None, None) => match (EpochKeys::read(kind, &payload), document::read(kind, &payload)) {
                    (Some((kind, keys)), _) => (kind, keys.map(|keys| Self::EpochKeys(Box::new(keys)))),
                    (None, Some(read)) => read,
                    (None, None) => return Self::Unknown { kind: kind.to_owned() },
                },
            },
        };
        parsed.unwrap_or_else(|flaw| Self::Malformed { kind, flaw })
    }
}

impl Payload<'_, '_> {
    fn invite_claim(&self) -> Result<Content, Flaw> {
        let space = self.required(2, array).map(LogId)?;
        Ok(Content::InviteClaim { invite: self.id(0)?, mac: self.required(1, array)?, space })
    }

    fn join_request(&self) -> Result<Content, Flaw> {
        Ok(Content::JoinRequest { text: self.description(0)?, space: self.required(1, array).map(LogId)? })
    }

    fn direct_request(&self) -> Result<Content, Flaw> {
        let share = self.required(0, array).map(Hidden)?;
        Ok(Content::DirectRequest { share, text: self.description(1)? })
    }

    fn direct_accept(&self) -> Result<Content, Flaw> {
        let thread = self.required(0, array).map(ThreadId)?;
        Ok(Content::DirectAccept {
            thread,
            share: self.required(1, array).map(Hidden)?,
            identity: self.optional(2, array)?.map(Identity),
            bundles: bundles(self, 3)?,
        })
    }

    fn read_set(&self) -> Result<Content, Flaw> {
        Ok(Content::ReadSet { log: self.required(0, array).map(LogId)?, message: self.id(1)? })
    }

    fn message_send(&self) -> Result<Content, Flaw> {
        let text = self.text(0)?;
        let reply = self.optional(1, array)?.map(OperationId);
        let mentions = self.optional(2, items)?.unwrap_or_default();
        check_mentions(mentions.len())?;
        let mentions = mentions.iter().map(|author| array(author).map(Author)).collect::<Option<_>>();
        let mentions = mentions.ok_or(Flaw::WrongType(2))?;
        Ok(Content::MessageSend { text, reply, mentions, attachments: self.attachments(3)? })
    }

    fn message_edit(&self) -> Result<Content, Flaw> {
        Ok(Content::MessageEdit { target: self.id(0)?, text: self.text(1)? })
    }

    fn reaction(&self) -> Result<(OperationId, String), Flaw> {
        let target = self.id(0)?;
        let emoji = self.required(1, text)?;
        check_emoji(emoji)?;
        Ok((target, emoji.to_owned()))
    }

    fn profile_set(&self) -> Result<Content, Flaw> {
        let name = self.required(0, text)?;
        check_name(name)?;
        let bio = self.optional(1, text)?;
        check_text(bio.unwrap_or_default())?;
        let avatar = self.optional(2, array)?.map(BlobId);
        let availability = self.optional(3, text)?;
        check_name(availability.unwrap_or_default())?;
        let public = self.flag(4)?;
        Ok(Content::ProfileSet {
            name: name.to_owned(),
            bio: bio.map(str::to_owned),
            avatar,
            availability: availability.map(str::to_owned),
            public,
        })
    }
}

fn key_value(write: Result<KeyValue, Flaw>) -> Result<Content, Flaw> {
    write.map(|write| Content::KeyValue(Box::new(write)))
}

const fn check_mentions(count: usize) -> Result<(), LimitError> {
    if count > MAX_MENTIONS { Err(LimitError::Mentions { count }) } else { Ok(()) }
}

const fn check_emoji(emoji: &str) -> Result<(), LimitError> {
    let len = emoji.len();
    if len == 0 || len > MAX_EMOJI { Err(LimitError::Emoji { len }) } else { Ok(()) }
}
