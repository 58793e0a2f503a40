//! A device's topics and what it can do in each: [`TopicKeys`] for one, [`KeyRing`] for all.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::envelope::{
    EnvelopeError, KeyId, OpenedEnvelope, SealError, SealKeys, Sealed, encode_plain, open_plain,
};
use crate::identity::LogId;
use crate::topic::{TopicId, WriteKey, WriteVerifyingKey};

/// The keys of one topic, derived once from its ticket. Cheap to clone.
#[derive(Clone)]
pub struct TopicKeys(Arc<Inner>);

struct Inner {
    topic: TopicId,
    log: LogId,
    epoch: u32,
    write_vk: WriteVerifyingKey,
    write: Option<WriteKey>,
    /// `None` for a public topic.
    seal: Option<SealKeys>,
}

impl TopicKeys {
    pub(super) fn new(
        log: LogId,
        epoch: u32,
        write_vk: WriteVerifyingKey,
        write: Option<WriteKey>,
        secret: Option<&[u8; 32]>,
    ) -> Self {
        let topic = TopicId::of(&write_vk);
        let seal = secret.map(|secret| SealKeys::derive(secret, &topic));
        Self(Arc::new(Inner { topic, log, epoch, write_vk, write, seal }))
    }

    /// Where the conversation lives now.
    pub fn topic(&self) -> TopicId {
        self.0.topic
    }

    /// The conversation.
    pub fn log(&self) -> LogId {
        self.0.log
    }

    /// Which of the conversation's topics this is, from 0.
    pub fn epoch(&self) -> u32 {
        self.0.epoch
    }

    /// The verifying half of the topic's write key.
    pub fn write_verifying_key(&self) -> WriteVerifyingKey {
        self.0.write_vk
    }

    /// The write key, unless this device only reads.
    pub fn write_key(&self) -> Option<&WriteKey> {
        self.0.write.as_ref()
    }

    /// Whether everyone can read the topic.
    pub fn is_public(&self) -> bool {
        self.0.seal.is_none()
    }

    /// Whether these are the same topic's keys, the right to write aside: one conversation, one epoch, one secret.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let sealing = match (&self.0.seal, &other.0.seal) {
            (Some(ours), Some(theirs)) => ours.is_same(theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        sealing && (self.topic(), self.log(), self.epoch()) == (other.topic(), other.log(), other.epoch())
    }

    /// The name of the sealing key; `None` for a public topic.
    pub fn key_id(&self) -> Option<KeyId> {
        self.0.seal.as_ref().map(|seal| seal.id)
    }

    /// Puts an operation into this topic's envelope. Deterministic: every member gets the same bytes.
    pub fn seal(&self, header: &[u8], body: &[u8]) -> Result<Vec<u8>, SealError> {
        match &self.0.seal {
            Some(keys) => keys.seal(&self.0.topic, header, body),
            None => encode_plain(header, body),
        }
    }

    /// Takes an operation out of this topic's envelope; it is not verified yet.
    pub fn open(&self, envelope: &[u8]) -> Result<OpenedEnvelope, EnvelopeError> {
        match &self.0.seal {
            Some(keys) => keys.open(&self.0.topic, &Sealed::parse(envelope)?),
            None => open_plain(envelope),
        }
    }
}

impl fmt::Debug for TopicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicKeys")
            .field("topic", &self.0.topic)
            .field("log", &self.0.log)
            .finish_non_exhaustive()
    }
}

/// The keys of all topics of a device: a snapshot that jobs on other threads can hold. Cheap to clone; a change
/// copies the map (topics change rarely).
#[derive(Clone, Default)]
pub struct KeyRing(Arc<Ring>);

#[derive(Clone, Default)]
struct Ring {
    topics: HashMap<TopicId, TopicKeys>,
    by_key: HashMap<KeyId, TopicId>,
}

impl KeyRing {
    /// Adds a topic, or replaces its keys.
    pub fn insert(&mut self, keys: TopicKeys) {
        self.remove(&keys.topic());
        let ring = Arc::make_mut(&mut self.0);
        ring.by_key.extend(keys.key_id().map(|id| (id, keys.topic())));
        ring.topics.insert(keys.topic(), keys);
    }

    /// Forgets a topic.
    pub fn remove(&mut self, topic: &TopicId) {
        if self.0.topics.contains_key(topic) {
            let ring = Arc::make_mut(&mut self.0);
            ring.topics.remove(topic);
            ring.by_key.retain(|_, named| named != topic);
        }
    }

    /// The keys of a topic.
    pub fn get(&self, topic: &TopicId) -> Option<&TopicKeys> {
        self.0.topics.get(topic)
    }

    /// How many topics there are.
    pub fn len(&self) -> usize {
        self.0.topics.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.topics.is_empty()
    }

    /// Opens an envelope that came on `topic`.
    pub fn open(&self, topic: &TopicId, envelope: &[u8]) -> Result<OpenedEnvelope, EnvelopeError> {
        let opened = match self.get(topic) {
            Some(keys) => keys.open(envelope),
            None => {
                Sealed::parse(envelope).and_then(|sealed| Err(EnvelopeError::NoKey { key_id: sealed.key_id }))
            }
        };
        opened.map_err(|error| match error {
            // A key of another topic of ours: that is no key to wait for.
            EnvelopeError::NoKey { key_id } => match self.0.by_key.get(&key_id) {
                Some(&actual) => EnvelopeError::WrongTopic { actual },
                None => error,
            },
            _ => error,
        })
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} topics)", self.len())
    }
}
