//! What spaces and rooms say about themselves.

use std::fmt;

use cbor_core::Value;

use super::content::BlobId;
use super::membership::Pairs;
use super::payload::{Flaw, LimitError, Payload, check_description, check_name};
use crate::cbor::{array, unsigned};

/// What a space says about itself. Replaced whole.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SpaceText {
    /// Its name, at most [`crate::limits::MAX_DISPLAY_NAME`] characters.
    pub name: String,
    /// What kind of space it is, at most [`crate::limits::MAX_DISPLAY_NAME`] characters.
    pub label: Option<String>,
    /// At most [`crate::limits::MAX_DESCRIPTION`] bytes.
    pub description: Option<String>,
    /// Picture.
    pub avatar: Option<BlobId>,
    /// Wide picture.
    pub cover: Option<BlobId>,
    /// What newcomers are told, at most [`crate::limits::MAX_DESCRIPTION`] bytes.
    pub welcome: Option<String>,
    /// Whether it may be listed.
    pub public: bool,
    /// Whether new members may read what was written before them.
    pub history: bool,
}

/// What a room says about itself. Replaced whole.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RoomText {
    /// Its name, at most [`crate::limits::MAX_DISPLAY_NAME`] characters.
    pub name: String,
    /// At most [`crate::limits::MAX_DESCRIPTION`] bytes.
    pub description: Option<String>,
    /// How long a member waits between two messages, seconds. Kept by the sending client.
    pub cooldown: Option<u64>,
}

/// Shows nothing of what it says.
impl fmt::Debug for SpaceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpaceText").finish_non_exhaustive()
    }
}

/// Shows nothing of what it says.
impl fmt::Debug for RoomText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomText").finish_non_exhaustive()
    }
}

impl SpaceText {
    pub(super) fn check(&self) -> Result<(), LimitError> {
        check_name(&self.name)?;
        check_name(self.label.as_deref().unwrap_or_default())?;
        check_description(self.description.as_deref())?;
        check_description(self.welcome.as_deref())
    }

    pub(super) fn pairs(&self) -> Pairs<'_> {
        let mut pairs = vec![(0, Value::from(&self.name))];
        pairs.extend(self.label.as_ref().map(|text| (1, Value::from(text))));
        pairs.extend(self.description.as_ref().map(|text| (2, Value::from(text))));
        pairs.extend(self.avatar.map(|blob| (3, Value::from(blob.0))));
        pairs.extend(self.cover.map(|blob| (4, Value::from(blob.0))));
        pairs.extend(self.welcome.as_ref().map(|text| (5, Value::from(text))));
        pairs.extend(self.public.then_some((6, Value::from(true))));
        pairs.extend(self.history.then_some((7, Value::from(true))));
        pairs
    }

    pub(super) fn read(payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        Ok(Self {
            name: payload.name(0)?,
            label: payload.optional_name(1)?,
            description: payload.description(2)?,
            avatar: payload.optional(3, array)?.map(BlobId),
            cover: payload.optional(4, array)?.map(BlobId),
            welcome: payload.description(5)?,
            public: payload.flag(6)?,
            history: payload.flag(7)?,
        })
    }
}

impl RoomText {
    pub(super) fn check(&self) -> Result<(), LimitError> {
        check_name(&self.name)?;
        check_description(self.description.as_deref())
    }

    pub(super) fn pairs(&self) -> Pairs<'_> {
        let mut pairs = vec![(1, Value::from(&self.name))];
        pairs.extend(self.description.as_ref().map(|text| (2, Value::from(text))));
        pairs.extend(self.cooldown.map(|seconds| (3, Value::from(seconds))));
        pairs
    }

    pub(super) fn read(payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        Ok(Self {
            name: payload.name(1)?,
            description: payload.description(2)?,
            cooldown: payload.optional(3, unsigned)?,
        })
    }
}
