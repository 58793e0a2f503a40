//! Control messages: how the holders of a public topic's write key describe it, close its reading, and delete it.
//!
//! They are deliver content with flags 03, so they reach the server like any operation and name nobody.
//!
//! ```text
//! {0: counter, 1: "metadata", 2: {0: name, 1?: description}}
//! {0: counter, 1: "read_key", 2: read_vk[32] or null}
//! {0: counter, 1: "delete"}
//! ```

use cbor_core::Value;
use thiserror::Error;

use crate::cbor::{self, Fields, array, field, fields, text, unsigned};
use crate::limits::{MAX_CONTROL, MAX_DESCRIPTION, MAX_DISPLAY_NAME};
use crate::topic::Seq;

/// Largest counter (servers' integers are signed).
pub const MAX_COUNTER: u64 = Seq::MAX.0;

const METADATA: &str = "metadata";
const READ_KEY: &str = "read_key";
const DELETE: &str = "delete";
/// A map in a map, and one level for what later versions add.
const NESTING: u16 = 4;

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// 1 to [`MAX_COUNTER`]. A server takes only a counter above the last one of the topic.
    pub counter: u64,
    /// What to do.
    pub action: Action,
}

/// What a control message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Describe the topic; replaces the former description.
    Metadata(Metadata),
    /// Readers must prove this key (Ed25519) where the server asks for proofs; `None` lets everyone read again.
    ReadKey(Option<[u8; 32]>),
    /// Drop all operations, close all sockets, take nothing more. For good.
    Delete,
}

/// What a public topic says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// 1 to [`MAX_DISPLAY_NAME`] characters, no control characters.
    pub name: String,
    /// At most [`MAX_DESCRIPTION`] bytes.
    pub description: Option<String>,
}

/// A control message that cannot be made, or bytes that are none. Whoever made it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ControlError {
    /// More bytes than any control message needs.
    #[error("a control message has at most {MAX_CONTROL} bytes, not {0}")]
    TooLarge(usize),
    /// Not exactly one deterministic CBOR value.
    #[error("a control message is one deterministic CBOR map")]
    Cbor,
    /// A key is missing or holds something else than it must.
    #[error("the control message's {0} is missing, or not of its type and size")]
    Field(&'static str),
    /// No version this program knows has such an action.
    #[error("a control message with an unknown action")]
    Action,
}

impl Control {
    /// The payload of deliver content with flags 03.
    ///
    /// # Errors
    /// A value is outside its limits.
    pub fn encode(&self) -> Result<Vec<u8>, ControlError> {
        counter(self.counter)?;
        let (name, value) = match &self.action {
            Action::Metadata(metadata) => {
                metadata.check()?;
                (METADATA, Some(metadata.value()))
            }
            Action::ReadKey(None) => (READ_KEY, Some(Value::null())),
            Action::ReadKey(Some(key)) => (READ_KEY, Some(Value::from(key.as_slice()))),
            Action::Delete => (DELETE, None),
        };
        let pairs = [(0u64, Some(Value::from(self.counter))), (1, Some(Value::from(name))), (2, value)];
        Ok(map(pairs).encode())
    }

    /// Reads a payload. Unknown keys are ignored.
    ///
    /// # Errors
    /// It is no control message, or of a kind this version does not know.
    pub fn decode(payload: &[u8]) -> Result<Self, ControlError> {
        if payload.len() > MAX_CONTROL {
            return Err(ControlError::TooLarge(payload.len()));
        }
        let value = cbor::decode(&payload, NESTING, MAX_CONTROL).map_err(|_| ControlError::Cbor)?;
        let map = fields(&value).ok_or(ControlError::Field("message"))?;
        let counter = counter(field(map, 0).and_then(unsigned).unwrap_or(0))?;
        let action = match field(map, 1).and_then(text).ok_or(ControlError::Field("action"))? {
            METADATA => {
                let of = field(map, 2).and_then(fields).ok_or(ControlError::Field("metadata"))?;
                Action::Metadata(Metadata::read(of)?)
            }
            READ_KEY => match field(map, 2) {
                Some(value) if value.data_type().is_null() => Action::ReadKey(None),
                value => {
                    let key = value.and_then(array).ok_or(ControlError::Field("read key"))?;
                    Action::ReadKey(Some(key))
                }
            },
            DELETE => Action::Delete,
            _ => return Err(ControlError::Action),
        };
        Ok(Self { counter, action })
    }
}

impl Metadata {
    fn read(map: &Fields<'_>) -> Result<Self, ControlError> {
        let name = field(map, 0).and_then(text).ok_or(ControlError::Field("name"))?.to_owned();
        let description = cbor::optional(map, 1, text).map_err(|()| ControlError::Field("description"))?;
        let this = Self { name, description: description.map(str::to_owned) };
        this.check().map(|()| this)
    }

    fn check(&self) -> Result<(), ControlError> {
        let characters = self.name.chars().count();
        if !(1..=MAX_DISPLAY_NAME).contains(&characters) || self.name.chars().any(char::is_control) {
            return Err(ControlError::Field("name"));
        }
        match &self.description {
            Some(text) if text.len() > MAX_DESCRIPTION => Err(ControlError::Field("description")),
            _ => Ok(()),
        }
    }

    fn value(&self) -> Value<'_> {
        let description = self.description.as_deref().map(Value::from);
        map([(0, Some(Value::from(self.name.as_str()))), (1, description)])
    }
}

fn map<'a, const N: usize>(pairs: [(u64, Option<Value<'a>>); N]) -> Value<'a> {
    crate::cbor::map(pairs.into_iter().filter_map(|(key, value)| Some((key, value?))))
}

const fn counter(counter: u64) -> Result<u64, ControlError> {
    match counter {
        1..=MAX_COUNTER => Ok(counter),
        _ => Err(ControlError::Field("counter")),
    }
}
