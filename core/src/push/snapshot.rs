//! The file between an app and its notification extension: what opens envelopes and says who wrote them.

use std::collections::HashMap;
use std::fmt;

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::codec::{DecodeError, Reader};
use crate::entropy::{Entropy, EntropyError};
use crate::identity::{Author, Identity, Millis};
use crate::limits::{MAX_MEMBERS, MAX_TOPICS};
use crate::ops::{KeyId, Ticket, TopicKeys};
use crate::topic::TopicId;
use crate::tree::{Map, Set};

/// Largest snapshot that is written or read, bytes: an extension has little memory.
pub const MAX_SNAPSHOT: usize = 8 * 1024 * 1024;
/// Most devices of the person, also those that were revoked.
pub const MAX_PERSON_DEVICES: usize = 255;
/// Most authors' names of one topic.
pub const MAX_NAMES: usize = MAX_MEMBERS;
/// Longest title or name, bytes: what is longer is cut at a character.
pub const TITLE_BYTES: usize = 255;

const MAGIC: &[u8; 4] = b"DLTP";
const VERSION: u8 = 2;
const HEAD: usize = MAGIC.len() + 1;
const NONCE: usize = 24;
const TAG: usize = 16;

/// One topic of a snapshot.
#[derive(Clone)]
pub struct SnapshotTopic {
    /// By which the app knows it.
    pub known_as: TopicId,
    /// What opens its envelopes.
    pub keys: TopicKeys,
    /// What it is called.
    pub title: Option<String>,
    /// Who may write in it; `None`: whoever has the key.
    pub writers: Option<Set<Author>>,
    /// What authors call themselves in it.
    pub names: Map<Author, String>,
}

/// Shows neither title nor names.
impl fmt::Debug for SnapshotTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotTopic").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// Whose device it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who; a device that nobody certified is a person of its own.
    pub identity: Identity,
    /// The person's other devices, revoked ones too: at most [`MAX_PERSON_DEVICES`].
    pub devices: Set<Author>,
}

/// What an app knew when it made the snapshot. No write key is in it.
pub struct KeySnapshot {
    device: Author,
    person: Person,
    taken: Millis,
    topics: Vec<SnapshotTopic>,
    by_key: HashMap<KeyId, usize>,
}

/// A snapshot cannot be read. Nothing of it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Another kind of file.
    #[error("this is not a key snapshot of Delta")]
    NotOne,
    /// Written by a newer app.
    #[error(
        "the key snapshot has version {found}, which this version does not know: update the extension with the app"
    )]
    Version {
        /// Its version.
        found: u8,
    },
    /// Changed or cut, or sealed with another key than the keystore has now.
    #[error(
        "the key snapshot does not open: it is damaged or of another device; make a new one when the app runs"
    )]
    Damaged,
    /// Above [`MAX_SNAPSHOT`].
    #[error("a key snapshot has at most {MAX_SNAPSHOT} bytes")]
    TooLarge,
    /// The random source failed; try again later.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl KeySnapshot {
    /// Opens a snapshot with the keystore's key.
    pub fn open(sealed: &[u8], key: &[u8; 32]) -> Result<Self, SnapshotError> {
        if sealed.len() > MAX_SNAPSHOT {
            return Err(SnapshotError::TooLarge);
        }
        let mut reader = Reader::new(sealed);
        if reader.array("magic") != Ok(*MAGIC) {
            return Err(SnapshotError::NotOne);
        }
        match reader.u8("version") {
            Ok(VERSION) => {}
            Ok(found) => return Err(SnapshotError::Version { found }),
            Err(_) => return Err(SnapshotError::Damaged),
        }
        let nonce: [u8; NONCE] = reader.array("nonce").map_err(|_| SnapshotError::Damaged)?;
        let mut content = Zeroizing::new(reader.rest().to_vec());
        let cipher = XChaCha20Poly1305::new(key.into());
        let opened = cipher.decrypt_in_place(XNonce::from_slice(&nonce), &head(), &mut *content);
        opened.map_err(|_| SnapshotError::Damaged)?;
        Self::decode(&content).map_err(|_| SnapshotError::Damaged)
    }

    fn decode(content: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(content);
        let taken = Millis(reader.u64("taken")?);
        let device = Author(reader.array("device")?);
        let identity = Identity(reader.array("identity")?);
        let count = reader.u8("devices")?;
        let devices = (0..count).map(|_| reader.array("device").map(Author)).collect::<Result<_, _>>()?;
        let person = Person { identity, devices };
        let count = reader.u32("topics")? as usize;
        // Foreign to the process, if not to the device: nothing is allocated that is not there.
        let mut topics = Vec::new();
        let mut by_key = HashMap::new();
        for place in 0..count {
            let topic = decode_topic(&mut reader)?;
            by_key.extend(topic.keys.key_id().map(|id| (id, place)));
            topics.push(topic);
        }
        reader.finish()?;
        Ok(Self { device, person, taken, topics, by_key })
    }

    /// The device that made it.
    pub const fn device(&self) -> Author {
        self.device
    }

    /// Whose device that is.
    pub const fn person(&self) -> &Person {
        &self.person
    }

    /// When it was made, by the device's clock.
    pub const fn taken(&self) -> Millis {
        self.taken
    }

    /// Its topics.
    pub fn topics(&self) -> &[SnapshotTopic] {
        &self.topics
    }

    pub(super) fn by_key(&self, id: &KeyId) -> Option<&SnapshotTopic> {
        self.topics.get(*self.by_key.get(id)?)
    }
}

impl fmt::Debug for KeySnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySnapshot({} topics)", self.topics.len())
    }
}

fn decode_topic(reader: &mut Reader<'_>) -> Result<SnapshotTopic, DecodeError> {
    let known_as = TopicId(reader.array("topic")?);
    let ticket = Ticket::from_bytes(reader.bytes(Ticket::LEN, "ticket")?);
    // Any error will do: the caller says that the snapshot is damaged.
    let ticket = ticket.map_err(|_| DecodeError::Invalid("ticket"))?;
    let title = text(reader)?;
    let writers = match reader.u8("writers")? {
        0 => None,
        _ => {
            let count = reader.u16("writers")?;
            Some((0..count).map(|_| reader.array("writer").map(Author)).collect::<Result<_, _>>()?)
        }
    };
    let count = reader.u16("names")?;
    let mut names = Map::new();
    for _ in 0..count {
        let author = Author(reader.array("author")?);
        names.extend(text(reader)?.map(|name| (author, name)));
    }
    let title = title.filter(|title| !title.is_empty());
    Ok(SnapshotTopic { known_as, keys: ticket.keys(), title, writers, names })
}

fn text(reader: &mut Reader<'_>) -> Result<Option<String>, DecodeError> {
    let len = reader.u8("length")?.into();
    Ok(String::from_utf8(reader.bytes(len, "text")?.to_vec()).ok())
}

/// Writes a snapshot, topic by topic.
pub struct SnapshotWriter {
    content: Zeroizing<Vec<u8>>,
    /// Where the number of topics stands.
    count_at: usize,
    count: u32,
}

impl SnapshotWriter {
    /// Begins a snapshot.
    pub fn new(device: Author, person: &Person, now: Millis) -> Self {
        let mut content = Zeroizing::new(Vec::with_capacity(64 * 1024));
        content.extend_from_slice(&now.0.to_be_bytes());
        content.extend_from_slice(&device.0);
        content.extend_from_slice(&person.identity.0);
        let devices = person.devices.len().min(MAX_PERSON_DEVICES);
        content.push(devices as u8);
        person.devices.iter().take(devices).for_each(|device| content.extend_from_slice(&device.0));
        let count_at = content.len();
        content.extend_from_slice(&[0; 4]);
        Self { content, count_at, count: 0 }
    }

    /// Adds a topic, without its write key. Its names and writers are left out where there would be no room for them
    /// (then nobody's content is shown); topics beyond [`MAX_TOPICS`] or [`MAX_SNAPSHOT`] have no preview. Whether there
    /// was room for the topic.
    pub fn add<'a>(
        &mut self,
        known_as: TopicId,
        ticket: &Ticket,
        title: Option<&str>,
        writers: Option<&[Author]>,
        names: impl IntoIterator<Item = (Author, &'a str)>,
    ) -> bool {
        let mut bytes = Zeroizing::new(Vec::with_capacity(256));
        bytes.extend_from_slice(&known_as.0);
        bytes.extend_from_slice(&ticket.read_only().to_bytes());
        put_text(&mut bytes, title.unwrap_or_default());
        let room = MAX_SNAPSHOT - HEAD - NONCE - TAG - self.content.len();
        if self.count as usize >= MAX_TOPICS || bytes.len() + 5 > room {
            return false;
        }
        let mut about = Vec::new();
        match writers {
            None => about.push(0),
            Some(writers) => {
                let writers = writers.get(..MAX_MEMBERS).unwrap_or(writers);
                about.push(1);
                about.extend_from_slice(&(writers.len() as u16).to_be_bytes());
                writers.iter().for_each(|author| about.extend_from_slice(&author.0));
            }
        }
        let names: Vec<_> = names.into_iter().take(MAX_NAMES).collect();
        about.extend_from_slice(&(names.len() as u16).to_be_bytes());
        for (author, name) in names {
            about.extend_from_slice(&author.0);
            put_text(&mut about, name);
        }
        if bytes.len() + about.len() > room {
            about = match writers {
                None => vec![0, 0, 0],
                Some(_) => vec![1, 0, 0, 0, 0],
            };
        }
        self.content.extend_from_slice(&bytes);
        self.content.extend_from_slice(&about);
        self.count += 1;
        true
    }

    /// Seals it with the keystore's key.
    pub fn seal(mut self, key: &[u8; 32], entropy: &mut dyn Entropy) -> Result<Vec<u8>, SnapshotError> {
        let mut nonce = [0; NONCE];
        entropy.fill(&mut nonce)?;
        if let Some(count) = self.content.get_mut(self.count_at..self.count_at + 4) {
            count.copy_from_slice(&self.count.to_be_bytes());
        }
        let cipher = XChaCha20Poly1305::new(key.into());
        let sealed = cipher.encrypt_in_place(XNonce::from_slice(&nonce), &head(), &mut *self.content);
        sealed.map_err(|_| SnapshotError::TooLarge)?;
        let mut bytes = head().to_vec();
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&self.content);
        Ok(bytes)
    }
}

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotWriter({} topics)", self.count)
    }
}

fn head() -> [u8; HEAD] {
    let [a, b, c, d] = *MAGIC;
    [a, b, c, d, VERSION]
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(TITLE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    bytes.push(end as u8);
    bytes.extend(text.bytes().take(end));
}
