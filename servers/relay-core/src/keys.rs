//! The onion keys a node answers to: current, next (published ahead) and previous (still accepted).

use delta_core::onion::v3::{OnionKey, OnionSecret};
use thiserror::Error;

/// Keys that cannot stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyRingError {
    /// A packet names its key by id alone, so the ids must differ.
    #[error("two onion keys share the id {0}; give each key its own id")]
    DuplicateId(u16),
}

/// Up to three onion keys with distinct ids.
#[derive(Debug)]
pub struct KeyRing {
    // Current first, then next, then previous: the order in which a packet's key is looked up.
    keys: Vec<OnionSecret>,
    published: usize,
}

impl KeyRing {
    /// Joins the keys.
    pub fn new(
        current: OnionSecret,
        next: Option<OnionSecret>,
        previous: Option<OnionSecret>,
    ) -> Result<Self, KeyRingError> {
        let published = 1 + usize::from(next.is_some());
        let keys: Vec<_> = [Some(current), next, previous].into_iter().flatten().collect();
        for (index, key) in keys.iter().enumerate() {
            if keys.iter().skip(index + 1).any(|other| other.kid() == key.kid()) {
                return Err(KeyRingError::DuplicateId(key.kid()));
            }
        }
        Ok(Self { keys, published })
    }

    /// Every key that opens packets.
    pub fn secrets(&self) -> &[OnionSecret] {
        &self.keys
    }

    /// The keys a record names: current, then next.
    pub fn published(&self) -> Vec<OnionKey> {
        self.keys.iter().take(self.published).map(OnionSecret::public).collect()
    }
}
