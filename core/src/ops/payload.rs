//! Payload maps: read by their keys, with the limits that hold for what they say.

use cbor_core::Value;
use thiserror::Error;

use super::body::MAX_AUTH_HEADS;
use crate::cbor::{Fields, array, field, optional, text};
use crate::identity::OperationId;
use crate::limits::{
    MAX_ATTACHMENTS, MAX_BLOB, MAX_COLLECTION, MAX_DESCRIPTION, MAX_DEVICES, MAX_DISPLAY_NAME,
    MAX_DOCUMENT_PART, MAX_EMOJI, MAX_FILE_NAME, MAX_HANDED_KEYS, MAX_HANDED_PAST, MAX_KEY, MAX_MENTIONS,
    MAX_MIME, MAX_PATH, MAX_REPLACED, MAX_ROTATION_ENDS, MAX_ROTATION_PARTS, MAX_TEXT, MAX_TOLD,
    MAX_TOLD_LEN, MAX_VALUE,
};

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
    /// Too many attachments.
    #[error("the message has {count} attachments, at most {MAX_ATTACHMENTS} are allowed")]
    Attachments {
        /// How many.
        count: usize,
    },
    /// A blob is too large.
    #[error("the blob has {size} bytes, at most {MAX_BLOB} are allowed")]
    Blob {
        /// Its size in bytes.
        size: u64,
    },
    /// A blob does not have as many chunks as its size asks for, or one of them is too large.
    #[error("the chunks do not fit the size of the blob")]
    BlobChunks,
    /// The MIME type of a blob, or the name of its file, is too long.
    #[error("the MIME type or file name has {len} bytes, at most {MAX_MIME} and {MAX_FILE_NAME} are allowed")]
    BlobText {
        /// Its length in bytes of UTF-8.
        len: usize,
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
    /// A rotation hands over to too many devices.
    #[error("the rotation names {count} devices, at most {MAX_ROTATION_PARTS} are allowed")]
    RotationParts {
        /// How many.
        count: usize,
    },
    /// A rotation names the ends of too many logs.
    #[error("the rotation names the ends of {count} logs, at most {MAX_ROTATION_ENDS} are allowed")]
    RotationEnds {
        /// How many.
        count: usize,
    },
    /// Too many keys are handed over at once.
    #[error("{count} keys are handed over at once, at most {MAX_HANDED_KEYS} are allowed")]
    HandedKeys {
        /// How many.
        count: usize,
    },
    /// Too many operations are told of at once.
    #[error("{count} operations are told of at once, at most {MAX_TOLD} are allowed")]
    Told {
        /// How many.
        count: usize,
    },
    /// An operation that is told of is too long.
    #[error("an operation that is told of has {len} bytes, at most {MAX_TOLD_LEN} are allowed")]
    ToldLen {
        /// Header and body together, bytes.
        len: usize,
    },
    /// A description, welcome text or reason is too long.
    #[error("the description has {len} bytes, at most {MAX_DESCRIPTION} are allowed")]
    Description {
        /// Its length in bytes of UTF-8.
        len: usize,
    },
    /// The name of a collection is empty or too long.
    #[error("the collection's name has {len} bytes, 1 to {MAX_COLLECTION} are allowed")]
    Collection {
        /// Its length in bytes of UTF-8.
        len: usize,
    },
    /// A key is empty or too long.
    #[error("the key has {len} bytes, 1 to {MAX_KEY} are allowed")]
    Key {
        /// Its length in bytes of UTF-8.
        len: usize,
    },
    /// A value is too large.
    #[error("the value has {len} bytes, at most {MAX_VALUE} are allowed")]
    Value {
        /// Its length in bytes.
        len: usize,
    },
    /// Too many operations are replaced.
    #[error("{count} operations are replaced, at most {MAX_REPLACED} may be")]
    Replaced {
        /// How many.
        count: usize,
    },
    /// A document's path is empty or too long, or has an empty name between its slashes or at its ends.
    #[error("the path of {len} bytes is none: 1 to {MAX_PATH} are allowed, with names between its slashes")]
    Path {
        /// Its length in bytes of UTF-8.
        len: usize,
    },
    /// What is written to a document is too large.
    #[error("the part of a document has {len} bytes, at most {MAX_DOCUMENT_PART} are allowed")]
    DocumentPart {
        /// Its length in bytes.
        len: usize,
    },
    /// A hybrid logical time is past the end.
    #[error("the hybrid logical time {time} is not below 2^63")]
    Time {
        /// Its number.
        time: u64,
    },
    /// More devices than a person has.
    #[error("{count} devices are named, at most {MAX_DEVICES} may be")]
    Devices {
        /// How many.
        count: usize,
    },
    /// Too much that was said is handed over at once.
    #[error("{count} operations are handed over at once, at most {MAX_HANDED_PAST} may be")]
    Past {
        /// How many.
        count: usize,
    },
    /// Too many auth heads.
    #[error("the body cites {count} membership operations, at most {MAX_AUTH_HEADS} are allowed")]
    AuthHeads {
        /// How many.
        count: usize,
    },
}

/// A payload map, read by required and optional integer keys. Limits are checked before anything is copied.
pub(super) struct Payload<'v, 'a>(pub(super) &'v Fields<'a>);

impl<'v, 'a> Payload<'v, 'a> {
    /// A map within a payload.
    pub(super) const fn of(fields: &'v Fields<'a>) -> Self {
        Self(fields)
    }

    pub(super) fn required<T>(
        &self,
        key: u64,
        parse: impl FnOnce(&'v Value<'a>) -> Option<T>,
    ) -> Result<T, Flaw> {
        parse(field(self.0, key).ok_or(Flaw::Missing(key))?).ok_or(Flaw::WrongType(key))
    }

    pub(super) fn optional<T>(
        &self,
        key: u64,
        parse: impl FnOnce(&'v Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, Flaw> {
        optional(self.0, key, parse).map_err(|()| Flaw::WrongType(key))
    }

    pub(super) fn id(&self, key: u64) -> Result<OperationId, Flaw> {
        self.required(key, array).map(OperationId)
    }

    /// True only when it is there.
    pub(super) fn flag(&self, key: u64) -> Result<bool, Flaw> {
        Ok(self.optional(key, boolean)?.unwrap_or(false))
    }

    pub(super) fn text(&self, key: u64) -> Result<String, Flaw> {
        let text = self.required(key, text)?;
        check_text(text)?;
        Ok(text.to_owned())
    }

    pub(super) fn name(&self, key: u64) -> Result<String, Flaw> {
        let name = self.required(key, text)?;
        check_name(name)?;
        Ok(name.to_owned())
    }

    pub(super) fn optional_name(&self, key: u64) -> Result<Option<String>, Flaw> {
        let name = self.optional(key, text)?;
        check_name(name.unwrap_or_default())?;
        Ok(name.map(str::to_owned))
    }

    pub(super) fn description(&self, key: u64) -> Result<Option<String>, Flaw> {
        let text = self.optional(key, text)?;
        check_description(text)?;
        Ok(text.map(str::to_owned))
    }
}

fn boolean(value: &Value<'_>) -> Option<bool> {
    match value {
        Value::SimpleValue(_) => value.to_bool().ok(),
        _ => None,
    }
}

pub(super) const fn check_text(text: &str) -> Result<(), LimitError> {
    if text.len() > MAX_TEXT { Err(LimitError::Text { len: text.len() }) } else { Ok(()) }
}

pub(super) fn check_name(name: &str) -> Result<(), LimitError> {
    let chars = name.chars().count();
    if chars > MAX_DISPLAY_NAME { Err(LimitError::Name { chars }) } else { Ok(()) }
}

pub(super) const fn check_description(text: Option<&str>) -> Result<(), LimitError> {
    match text {
        Some(text) if text.len() > MAX_DESCRIPTION => Err(LimitError::Description { len: text.len() }),
        _ => Ok(()),
    }
}
