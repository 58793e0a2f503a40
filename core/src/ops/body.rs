//! What an operation says: kinds, their payloads, and the limits that hold for them on both sides.
//!
//! Three grades of trouble are kept apart: bytes that break the body's own form make the operation invalid
//! ([`BodyError`]); a kind this version does not know is kept and skipped ([`Content::Unknown`]); a known kind with
//! a wrong payload is kept, skipped and counted ([`Content::Malformed`]).

use cbor_core::{Map, Value};
use thiserror::Error;

use super::cbor::{self, Fields, array, field, fields, items, text, unsigned};
use crate::identity::{Author, Millis, OperationId, bytes_id};
use crate::limits::{
    MAX_BODY_ITEMS, MAX_BODY_NESTING, MAX_DISPLAY_NAME, MAX_EMOJI, MAX_MENTIONS, MAX_OPERATION, MAX_TEXT,
};
use crate::topic::{Chain, Generation, Seq};

bytes_id!(
    /// Names a blob: BLAKE3 of its ciphertext.
    BlobId,
    32
);

/// Most membership operations a body cites.
pub const MAX_AUTH_HEADS: usize = 8;

/// The body of an operation: the CBOR map {0: kind, 1: payload, 2?: sent_at_ms, 3?: observed head, 4?: auth heads}.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// What it says (keys 0 and 1).
    pub content: Content,
    /// The sender's clock (key 2): shown, never sorted on.
    pub sent_at: Option<Millis>,
    /// How far the sender had seen the topic (key 3).
    pub observed: Option<ObservedHead>,
    /// Membership operations the sender had seen (key 4), at most [`MAX_AUTH_HEADS`].
    pub auth_heads: Vec<OperationId>,
}

/// A place in a server's copy of a topic log, as an author saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedHead {
    /// Which copy.
    pub generation: Generation,
    /// The last seq seen in it.
    pub seq: Seq,
    /// The chain value there.
    pub chain: Chain,
}

/// What an operation says. The kinds come from a closed, versioned list (docs/wire.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// `message.send`: a new message.
    MessageSend {
        /// The text, at most [`MAX_TEXT`] bytes.
        text: String,
        /// The message it answers.
        reply: Option<OperationId>,
        /// Whom it mentions, at most [`MAX_MENTIONS`].
        mentions: Vec<Author>,
    },
    /// `message.edit`: a new text for one's own message.
    MessageEdit {
        /// The message.
        target: OperationId,
        /// Its new text, at most [`MAX_TEXT`] bytes.
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
        /// 1 to [`MAX_EMOJI`] bytes.
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
        /// Display name, at most [`MAX_DISPLAY_NAME`] characters.
        name: String,
        /// About the author, at most [`MAX_TEXT`] bytes.
        bio: Option<String>,
        /// Picture.
        avatar: Option<BlobId>,
        /// Free text such as "away", at most [`MAX_DISPLAY_NAME`] characters.
        availability: Option<String>,
        /// Whether strangers may read it; absent on the wire when false.
        public: bool,
    },
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

/// Why a payload of a known kind is skipped. Its author is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Flaw {
    /// A required key is missing.
    #[error("payload key {0} is missing")]
    Missing(u64),
    /// A key holds another type than its kind says.
    #[error("payload key {0} holds a wrong type")]
    WrongType(u64),
    /// A value is above its limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// A value of a body is above its limit. The caller (or, on receipt, the author) is at fault; shorten it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LimitError {
    /// A text is too long.
    #[error("the text has {len} bytes, at most {MAX_TEXT} are allowed")]
    Text {
        /// Its length in bytes of UTF-8.
        len: usize,
    },
    /// Too many mentions.
    #[error("the message mentions {count} people, at most {MAX_MENTIONS} are allowed")]
    Mentions {
        /// How many.
        count: usize,
    },
    /// A display name or availability is too long.
    #[error("the name has {chars} characters, at most {MAX_DISPLAY_NAME} are allowed")]
    Name {
        /// Its length in Unicode scalar values.
        chars: usize,
    },
    /// An emoji is empty or too long.
    #[error("the emoji has {len} bytes, 1 to {MAX_EMOJI} are allowed")]
    Emoji {
        /// Its length in bytes of UTF-8.
        len: usize,
    },
    /// Too many auth heads.
    #[error("the body cites {count} membership operations, at most {MAX_AUTH_HEADS} are allowed")]
    AuthHeads {
        /// How many.
        count: usize,
    },
}

/// A body could not be written. The caller is at fault; nothing was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// A value is above its limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// [`Content::Unknown`] and [`Content::Malformed`] stand for bytes this version received and cannot write.
    #[error("this content can only be received, not written")]
    Unwritable,
}

/// Bytes that are no body: the operation is invalid. Its author is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BodyError {
    /// Not deterministic CBOR, cut short, nested too deep, or followed by more bytes.
    #[error("the body is not one deterministic CBOR value: {0}")]
    Cbor(cbor_core::Error),
    /// More data items than any body needs.
    #[error("the body has more than {MAX_BODY_ITEMS} data items")]
    TooManyItems,
    /// A body key is missing or holds something else than it must.
    #[error("the body's `{0}` is missing or not of its type")]
    Field(&'static str),
}

impl Body {
    /// A body with this content and nothing else.
    pub const fn new(content: Content) -> Self {
        Self { content, sent_at: None, observed: None, auth_heads: Vec::new() }
    }

    /// The same body with the sender's clock.
    #[must_use]
    pub const fn sent_at(mut self, at: Millis) -> Self {
        self.sent_at = Some(at);
        self
    }

    /// Deterministic CBOR, when every limit holds.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        self.content.check()?;
        if self.auth_heads.len() > MAX_AUTH_HEADS {
            return Err(LimitError::AuthHeads { count: self.auth_heads.len() }.into());
        }
        let payload = self.content.payload().ok_or(EncodeError::Unwritable)?;
        let mut map = vec![(KEY_KIND, Value::from(self.content.kind())), (KEY_PAYLOAD, payload)];
        map.extend(self.sent_at.map(|at| (KEY_SENT_AT, Value::from(at.0))));
        map.extend(self.observed.as_ref().map(|head| (KEY_OBSERVED, head.to_cbor())));
        if !self.auth_heads.is_empty() {
            let heads: Vec<_> = self.auth_heads.iter().map(|id| Value::from(&id.0)).collect();
            map.push((KEY_AUTH_HEADS, Value::from(heads)));
        }
        Ok(Value::from(Map::from_pairs(map)).encode())
    }

    /// Reads a body. Unknown keys are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Self, BodyError> {
        if cbor::has_more_items_than(bytes, MAX_BODY_ITEMS) {
            return Err(BodyError::TooManyItems);
        }
        let value = cbor::decode(bytes, MAX_BODY_NESTING, MAX_OPERATION).map_err(BodyError::Cbor)?;
        let body = fields(&value).ok_or(BodyError::Field("map"))?;
        let kind = field(body, KEY_KIND).and_then(text).ok_or(BodyError::Field("kind"))?;
        let payload = field(body, KEY_PAYLOAD).and_then(fields).ok_or(BodyError::Field("payload"))?;
        let sent_at = optional(body, KEY_SENT_AT, unsigned).map_err(|()| BodyError::Field("sent_at_ms"))?;
        let observed = optional(body, KEY_OBSERVED, ObservedHead::from_cbor)
            .map_err(|()| BodyError::Field("observed head"))?;
        let auth_heads =
            optional(body, KEY_AUTH_HEADS, auth_heads).map_err(|()| BodyError::Field("auth heads"))?;
        Ok(Self {
            content: Content::from_cbor(kind, payload),
            sent_at: sent_at.map(Millis),
            observed,
            auth_heads: auth_heads.unwrap_or_default(),
        })
    }
}

const KEY_KIND: u64 = 0;
const KEY_PAYLOAD: u64 = 1;
const KEY_SENT_AT: u64 = 2;
const KEY_OBSERVED: u64 = 3;
const KEY_AUTH_HEADS: u64 = 4;

const MESSAGE_SEND: &str = "message.send";
const MESSAGE_EDIT: &str = "message.edit";
const MESSAGE_DELETE: &str = "message.delete";
const REACTION_ADD: &str = "reaction.add";
const REACTION_REMOVE: &str = "reaction.remove";
const PROFILE_SET: &str = "profile.set";

/// `Err` when the key is there but does not parse.
fn optional<'v, 'a, T>(
    fields: &'v Fields<'a>,
    key: u64,
    parse: impl FnOnce(&'v Value<'a>) -> Option<T>,
) -> Result<Option<T>, ()> {
    field(fields, key).map(|value| parse(value).ok_or(())).transpose()
}

fn auth_heads(value: &Value<'_>) -> Option<Vec<OperationId>> {
    let heads = items(value).filter(|heads| heads.len() <= MAX_AUTH_HEADS)?;
    heads.iter().map(|id| array(id).map(OperationId)).collect()
}

impl ObservedHead {
    fn to_cbor(self) -> Value<'static> {
        Value::from([Value::from(self.generation.0), Value::from(self.seq.0), Value::from(self.chain.0)])
    }

    fn from_cbor(value: &Value<'_>) -> Option<Self> {
        let [generation, seq, chain] = items(value)? else { return None };
        Some(Self {
            generation: Generation(array(generation)?),
            seq: unsigned(seq).map(Seq).filter(|seq| *seq <= Seq::MAX)?,
            chain: Chain(array(chain)?),
        })
    }
}

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
            Self::Unknown { kind } => kind,
            Self::Malformed { kind, .. } => kind,
        }
    }

    /// The limits, the same for what is written and for what is read.
    fn check(&self) -> Result<(), LimitError> {
        match self {
            Self::MessageSend { text, mentions, .. } => {
                check_text(text)?;
                check_mentions(mentions.len())
            }
            Self::MessageEdit { text, .. } => check_text(text),
            Self::ReactionAdd { emoji, .. } | Self::ReactionRemove { emoji, .. } => check_emoji(emoji),
            Self::ProfileSet { name, bio, availability, .. } => {
                check_name(name)?;
                check_text(bio.as_deref().unwrap_or_default())?;
                check_name(availability.as_deref().unwrap_or_default())
            }
            Self::MessageDelete { .. } | Self::Unknown { .. } | Self::Malformed { .. } => Ok(()),
        }
    }

    fn payload(&self) -> Option<Value<'_>> {
        let id = |id: &OperationId| (0, Value::from(id.0));
        let pairs = match self {
            Self::MessageSend { text, reply, mentions } => {
                let mut pairs = vec![(0, Value::from(text))];
                pairs.extend(reply.map(|id| (1, Value::from(id.0))));
                if !mentions.is_empty() {
                    let mentions: Vec<_> = mentions.iter().map(|author| Value::from(&author.0)).collect();
                    pairs.push((2, Value::from(mentions)));
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
            Self::Unknown { .. } | Self::Malformed { .. } => return None,
        };
        Some(Value::from(Map::from_pairs(pairs)))
    }

    fn from_cbor(kind: &str, payload: &Fields<'_>) -> Self {
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
            _ => return Self::Unknown { kind: kind.to_owned() },
        };
        parsed.unwrap_or_else(|flaw| Self::Malformed { kind, flaw })
    }
}

/// A payload map, read by required and optional integer keys. Limits are checked before anything is copied.
struct Payload<'v, 'a>(&'v Fields<'a>);

impl<'v, 'a> Payload<'v, 'a> {
    fn required<T>(&self, key: u64, parse: impl FnOnce(&'v Value<'a>) -> Option<T>) -> Result<T, Flaw> {
        parse(field(self.0, key).ok_or(Flaw::Missing(key))?).ok_or(Flaw::WrongType(key))
    }

    fn optional<T>(
        &self,
        key: u64,
        parse: impl FnOnce(&'v Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, Flaw> {
        optional(self.0, key, parse).map_err(|()| Flaw::WrongType(key))
    }

    fn id(&self, key: u64) -> Result<OperationId, Flaw> {
        self.required(key, array).map(OperationId)
    }

    fn text(&self, key: u64) -> Result<String, Flaw> {
        let text = self.required(key, text)?;
        check_text(text)?;
        Ok(text.to_owned())
    }

    fn message_send(&self) -> Result<Content, Flaw> {
        let text = self.text(0)?;
        let reply = self.optional(1, array)?.map(OperationId);
        let mentions = self.optional(2, items)?.unwrap_or_default();
        check_mentions(mentions.len())?;
        let mentions = mentions.iter().map(|author| array(author).map(Author)).collect::<Option<_>>();
        Ok(Content::MessageSend { text, reply, mentions: mentions.ok_or(Flaw::WrongType(2))? })
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
        let public = self.optional(4, boolean)?.unwrap_or(false);
        Ok(Content::ProfileSet {
            name: name.to_owned(),
            bio: bio.map(str::to_owned),
            avatar,
            availability: availability.map(str::to_owned),
            public,
        })
    }
}

fn boolean(value: &Value<'_>) -> Option<bool> {
    match value {
        Value::SimpleValue(_) => value.to_bool().ok(),
        _ => None,
    }
}

const fn check_text(text: &str) -> Result<(), LimitError> {
    if text.len() > MAX_TEXT { Err(LimitError::Text { len: text.len() }) } else { Ok(()) }
}

const fn check_mentions(count: usize) -> Result<(), LimitError> {
    if count > MAX_MENTIONS { Err(LimitError::Mentions { count }) } else { Ok(()) }
}

fn check_name(name: &str) -> Result<(), LimitError> {
    let chars = name.chars().count();
    if chars > MAX_DISPLAY_NAME { Err(LimitError::Name { chars }) } else { Ok(()) }
}

const fn check_emoji(emoji: &str) -> Result<(), LimitError> {
    let len = emoji.len();
    if len == 0 || len > MAX_EMOJI { Err(LimitError::Emoji { len }) } else { Ok(()) }
}
