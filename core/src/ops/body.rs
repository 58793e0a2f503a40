//! An operation's body: the frame around its content, written and read.
//!
//! Three grades of trouble are kept apart: bytes that break the body's own form make the operation invalid
//! ([`BodyError`]); a kind this version does not know is kept and skipped ([`Content::Unknown`]); a known kind with
//! a wrong payload is kept, skipped and counted ([`Content::Malformed`]).

use cbor_core::Value;
use thiserror::Error;

use super::content::Content;
use super::payload::LimitError;
use crate::cbor::{self, array, field, fields, items, optional, text, unsigned};
use crate::identity::{Millis, OperationId};
use crate::limits::{MAX_BODY_ITEMS, MAX_BODY_NESTING, MAX_OPERATION};
use crate::topic::{Chain, Generation, Seq};

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
        Ok(crate::cbor::map(map).encode())
    }

    /// Reads a body. Unknown keys are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Self, BodyError> {
        if cbor::has_more_items_than(bytes, MAX_BODY_ITEMS) {
            return Err(BodyError::TooManyItems);
        }
        let value = cbor::decode(&bytes, MAX_BODY_NESTING, MAX_OPERATION).map_err(BodyError::Cbor)?;
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
