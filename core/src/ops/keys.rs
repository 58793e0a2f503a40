//! A device's topics and what it can do in each: [`TopicKeys`] for one, [`KeyRing`] for all.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::create::DeviceKey;
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
    sealing: Sealing,
}

/// How a topic's envelopes are sealed.
#[derive(Clone)]
pub(super) enum Sealing {
    /// With the topic's secret (03).
    Topic(Arc<SealKeys>),
    /// Not at all (00).
    Plain,
    /// To the device whose inbox it is (01): this one, where its key is given.
    Inbox(Option<Arc<DeviceKey>>),
    /// Over two-party sessions (04).
    Direct,
}

impl Sealing {
    pub(super) fn topic(secret: &[u8; 32], topic: &TopicId) -> Self {
        Self::Topic(Arc::new(SealKeys::derive(secret, topic)))
    }
}

impl TopicKeys {
    pub(super) fn new(
        log: LogId,
        epoch: u32,
        write_vk: WriteVerifyingKey,
        write: Option<WriteKey>,
        sealing: Sealing,
    ) -> Self {
        Self(Arc::new(Inner { topic: TopicId::of(&write_vk), log, epoch, write_vk, write, sealing }))
    }

    /// The same of this device's own inbox: what stands there opens.
    pub(crate) fn own_inbox(&self, device: &DeviceKey) -> Self {
        let Inner { topic, log, epoch, write_vk, write, .. } = &*self.0;
        let (topic, log, epoch, write_vk, write) = (*topic, *log, *epoch, *write_vk, write.clone());
        let sealing = Sealing::Inbox(Some(Arc::new(device.clone())));
        Self(Arc::new(Inner { topic, log, epoch, write_vk, write, sealing }))
    }

    /// Whether it is some device's inbox.
    pub fn is_inbox(&self) -> bool {
        matches!(self.0.sealing, Sealing::Inbox(_))
    }

    /// This device, where the topic is its own inbox.
    pub(crate) fn inbox_of(&self) -> Option<&DeviceKey> {
        match &self.0.sealing {
            Sealing::Inbox(device) => device.as_deref(),
            Sealing::Topic(_) | Sealing::Plain | Sealing::Direct => None,
        }
    }

    /// Whether it is another device's inbox: written to, never read.
    pub fn is_foreign_inbox(&self) -> bool {
        matches!(self.0.sealing, Sealing::Inbox(None))
    }

    /// Whether it is the topic of a direct thread.
    pub fn is_direct(&self) -> bool {
        matches!(self.0.sealing, Sealing::Direct)
    }

    fn seal_keys(&self) -> Option<&SealKeys> {
        match &self.0.sealing {
            Sealing::Topic(keys) => Some(keys),
            Sealing::Plain | Sealing::Inbox(_) | Sealing::Direct => None,
        }
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
        matches!(self.0.sealing, Sealing::Plain)
    }

    /// Whether these are the same topic's keys, the right to write aside: one conversation, one epoch, one secret.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let sealing = match (&self.0.sealing, &other.0.sealing) {
            (Sealing::Topic(ours), Sealing::Topic(theirs)) => ours.is_same(theirs),
            (Sealing::Plain, Sealing::Plain)
            | (Sealing::Inbox(_), Sealing::Inbox(_))
            | (Sealing::Direct, Sealing::Direct) => true,
            _ => false,
        };
        sealing && (self.topic(), self.log(), self.epoch()) == (other.topic(), other.log(), other.epoch())
    }

    /// The name of the sealing key; `None` for a public topic.
    pub fn key_id(&self) -> Option<KeyId> {
        self.seal_keys().map(|seal| seal.id)
    }

    /// Puts an operation into this topic's envelope. Deterministic: every member gets the same bytes.
    ///
    /// # Errors
    /// The envelope would be too large; in inboxes and direct threads: each is made once, by its author.
    pub fn seal(&self, header: &[u8], body: &[u8]) -> Result<Vec<u8>, SealError> {
        match &self.0.sealing {
            Sealing::Topic(keys) => keys.seal(&self.0.topic, header, body),
            Sealing::Plain => encode_plain(header, body),
            Sealing::Inbox(_) | Sealing::Direct => Err(SealError::OnceOnly),
        }
    }

    /// Takes an operation out of this topic's envelope; it is not verified yet.
    pub fn open(&self, envelope: &[u8]) -> Result<OpenedEnvelope, EnvelopeError> {
        match &self.0.sealing {
            Sealing::Topic(keys) => keys.open(&self.0.topic, &Sealed::parse(envelope)?),
            Sealing::Plain => open_plain(envelope),
            // They are opened where the device's key, or the sessions, are.
            Sealing::Inbox(_) | Sealing::Direct => {
                Err(EnvelopeError::WrongKind { found: envelope.first().copied().unwrap_or_default() })
            }
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
