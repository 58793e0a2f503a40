//! The onion keys a node answers to, their replay sets, and how they change.
//!
//! A node has a *current* key, with rotation a *next* one, published ahead, and for a while the *previous* one. When
//! the current key has been in use for a period, next becomes current, current becomes previous and a new next is
//! made. After one more period, 48 hours at most, the previous key is erased together with its replay set: whatever
//! was recorded of it on the wire can no longer be opened by anybody.
//!
//! A key is only trusted with the whole of its replay set. One whose set was lost (another boot without a clean
//! stop, a damaged file) is erased at the start.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use delta_core::entropy::Entropy;
use delta_core::identity::Millis;
use delta_core::onion::v3::{OnionKey, OnionSecret};
use delta_replay::{BootId, Opened, Replay, ReplayFile};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::file::{self, FileError};
use crate::folder::NodeFolder;

/// The keys' file: `{"current": {"kid", "secret"}, "next"?, "previous"?, "since": unix ms}`, mode 0600.
pub const KEYS_FILE: &str = "onion-keys.json";
/// Tags remembered per onion key, up to about 600 MB; above it senders get 503 until the key changes.
pub const REPLAY_CAPACITY: usize = 32_000_000;
/// Hours a key is the current one.
pub const ROTATE_HOURS: u64 = 24;
/// Fewest hours: clients may use records as old as this.
pub const MIN_ROTATE_HOURS: u64 = 24;
/// Longest time a previous key is accepted.
const MAX_PREVIOUS_MS: u64 = 48 * HOUR_MS;
const HOUR_MS: u64 = 60 * 60 * 1000;

/// How keys are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPolicy {
    /// Tags per key.
    pub capacity: usize,
    /// A key is current for so long; `None`: for good.
    pub rotate_ms: Option<u64>,
}

impl KeyPolicy {
    /// Keys that change every so many hours; 0 for never.
    pub const fn every_hours(hours: u64) -> Self {
        let rotate_ms = if hours == 0 { None } else { Some(hours.saturating_mul(HOUR_MS)) };
        Self { capacity: REPLAY_CAPACITY, rotate_ms }
    }

    /// How long a previous key is accepted.
    fn previous_ms(&self) -> u64 {
        self.rotate_ms.unwrap_or(MAX_PREVIOUS_MS).min(MAX_PREVIOUS_MS)
    }
}

/// The keys at one moment: what packets are opened with.
#[derive(Debug)]
pub struct KeySet {
    // Current first, then next, then previous: the order in which a packet's key is looked up.
    secrets: Vec<OnionSecret>,
    seen: Vec<Arc<Replay>>,
    published: usize,
}

impl KeySet {
    /// Every key that opens packets.
    pub fn secrets(&self) -> &[OnionSecret] {
        &self.secrets
    }

    /// What a key has opened.
    pub fn seen(&self, kid: u16) -> Option<&Replay> {
        let place = self.secrets.iter().position(|secret| secret.kid() == kid)?;
        self.seen.get(place).map(Arc::as_ref)
    }

    /// The keys a record names: current, then next.
    pub fn published(&self) -> Vec<OnionKey> {
        self.secrets.iter().take(self.published).map(OnionSecret::public).collect()
    }

    /// Whether the current key can take no more packets, until it changes: answer 503.
    pub fn is_full(&self) -> bool {
        self.seen.first().is_none_or(|seen| seen.is_full())
    }

    /// How many packets are remembered.
    pub fn tags(&self) -> usize {
        self.seen.iter().map(|seen| seen.len()).sum()
    }
}

/// The keys of a running node. Only one may run on a folder: hold its lock.
#[derive(Debug)]
pub struct OnionKeys {
    folder: PathBuf,
    policy: KeyPolicy,
    ring: Mutex<Ring>,
    set: RwLock<Arc<KeySet>>,
    // The rotation is late, and it was said.
    waiting: AtomicBool,
}

/// A key with what it has opened.
#[derive(Clone, Debug)]
struct Held {
    secret: OnionSecret,
    seen: Arc<Replay>,
}

#[derive(Clone, Debug)]
struct Ring {
    current: Held,
    next: Option<Held>,
    previous: Option<Held>,
    /// When the current key became it.
    since: Millis,
    /// Ids that were in use before the start: those of keys that were erased then are not given to others.
    before: Vec<u16>,
}

impl OnionKeys {
    /// Opens the keys with their replay sets; makes what is missing, erases what cannot be trusted.
    pub fn open(
        folder: &NodeFolder,
        policy: KeyPolicy,
        entropy: &mut dyn Entropy,
        now: Millis,
    ) -> Result<Self, FileError> {
        let path = folder.path().to_owned();
        let stored = Stored::read(&path)?;
        let mut held = Vec::new();
        for secret in [&stored.current, &stored.next, &stored.previous] {
            let opened = secret.as_ref().map(|secret| open_seen(&path, secret, policy.capacity));
            held.push(opened.transpose()?.flatten());
        }
        let [current, next, previous] = <[_; 3]>::try_from(held).unwrap_or_default();
        let whole = current.is_some();
        let (current, next) = match (current, next) {
            (Some(current), next) => (current, next),
            (None, Some(next)) => (next, None),
            (None, None) => (new_key(&path, stored.fresh_kid(), policy.capacity, entropy)?, None),
        };
        let since = if whole && stored.since != Millis(0) { stored.since } else { now };
        let ring = Ring { current, next, previous, since, before: stored.kids() };
        store(&path, &ring)?;
        remove_strangers(&path, &ring)?;
        let set = RwLock::new(Arc::new(ring.to_set()));
        Ok(Self { folder: path, policy, ring: Mutex::new(ring), set, waiting: AtomicBool::new(false) })
    }

    /// The keys as they are now.
    pub fn set(&self) -> Arc<KeySet> {
        Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does what is due at `now`; call it every minute or so. Returns whether the published keys are others: then
    /// sign a new record. The keys rotate only when `is_known` says that the next key has reached those who will
    /// need it; until then the current one stays.
    pub fn turn(
        &self,
        now: Millis,
        entropy: &mut dyn Entropy,
        is_known: impl FnOnce(&OnionKey) -> bool,
    ) -> Result<bool, FileError> {
        let mut ring = self.lock();
        let mut new = ring.clone();
        // The clock was put back: the period starts over.
        new.since = new.since.min(now);
        let age = now.since(new.since);
        let mut erased = None;
        if age >= self.policy.previous_ms() {
            erased = new.previous.take();
        }
        if let Some(every) = self.policy.rotate_ms {
            let due = age >= every && new.previous.is_none();
            let known = due && new.next.as_ref().is_some_and(|next| is_known(&next.secret.public()));
            if due && !known && !self.waiting.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "the onion key is due to rotate, but the records that are read lack the next one"
                );
            }
            if let Some(next) = new.next.take_if(|_| known) {
                self.waiting.store(false, Ordering::Relaxed);
                new.previous = Some(std::mem::replace(&mut new.current, next));
                new.since = now;
            }
            if new.next.is_none() {
                let taken = new.held().map(|held| held.secret.kid()).chain(kid(erased.as_ref()));
                let taken = taken.chain(new.before.iter().copied());
                let fresh = fresh_kid(&taken.collect::<Vec<_>>());
                new.next = Some(new_key(&self.folder, fresh, self.policy.capacity, entropy)?);
            }
        }
        let (before, after) = (ring.to_set(), new.to_set());
        if kids(&before) == kids(&after) {
            ring.since = new.since;
            return Ok(false);
        }
        store(&self.folder, &new)?;
        *ring = new;
        let published = before.published() != after.published();
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        // Only now: a crash before this leaves a file nobody needs, which the next start removes.
        if let Some(erased) = erased {
            file::remove(&replay_path(&self.folder, erased.secret.kid()))?;
            tracing::info!("the previous onion key and its replay set are erased");
        }
        if published {
            tracing::info!("the published onion keys changed");
        }
        Ok(published)
    }

    /// A clean stop: after it the replay sets are trusted whatever boot comes next.
    pub fn close(&self) {
        for held in self.lock().held() {
            if let Err(error) = held.seen.close() {
                tracing::error!("{error}; after a restart of the machine this onion key will not be trusted");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys a record names, also while a server runs on the folder; makes the first one when there is none.
pub fn published(folder: &NodeFolder, entropy: &mut dyn Entropy) -> Result<Vec<OnionKey>, FileError> {
    let path = folder.path();
    if !path.join(KEYS_FILE).exists() {
        let current = new_key(path, FIRST_KID, REPLAY_CAPACITY, entropy)?;
        current.seen.close()?;
        store(path, &Ring { current, next: None, previous: None, since: Millis(0), before: Vec::new() })?;
    }
    let stored = Stored::read(path)?;
    Ok([stored.current, stored.next].iter().flatten().map(OnionSecret::public).collect())
}

/// Id of the first onion key of a new folder.
const FIRST_KID: u16 = 1;

/// The id after the highest that is taken, wrapping, never 0.
fn fresh_kid(taken: &[u16]) -> u16 {
    let Some(last) = taken.iter().max() else { return FIRST_KID };
    let free = |kid: &u16| *kid != 0 && !taken.contains(kid);
    (1..=u16::MAX).map(|step| last.wrapping_add(step)).find(free).unwrap_or(FIRST_KID)
}

fn kid(held: Option<&Held>) -> Option<u16> {
    held.map(|held| held.secret.kid())
}

fn kids(set: &KeySet) -> Vec<u16> {
    set.secrets.iter().map(OnionSecret::kid).collect()
}

fn replay_path(folder: &Path, kid: u16) -> PathBuf {
    folder.join(format!("replay-{kid}"))
}

/// A fresh key with its empty replay file, made first: a key without its file is not trusted.
fn new_key(folder: &Path, kid: u16, capacity: usize, entropy: &mut dyn Entropy) -> Result<Held, FileError> {
    let secret = OnionSecret::generate(kid, entropy)?;
    let public = secret.public().public;
    let file = ReplayFile::create(&replay_path(folder, kid), &public, capacity, BootId::current())?;
    Ok(Held { secret, seen: Arc::new(Replay::start(file)?) })
}

/// A key with its replay set; `None` when the set cannot be trusted.
fn open_seen(folder: &Path, secret: &OnionSecret, capacity: usize) -> Result<Option<Held>, FileError> {
    let path = replay_path(folder, secret.kid());
    match ReplayFile::open(&path, &secret.public().public, capacity, BootId::current())? {
        Opened::Trusted(file) => {
            Ok(Some(Held { secret: secret.clone(), seen: Arc::new(Replay::start(file)?) }))
        }
        Opened::Untrusted(why) => {
            tracing::warn!("{}: {why}; its onion key is erased", path.display());
            Ok(None)
        }
    }
}

/// Removes replay files of keys that are no more.
fn remove_strangers(folder: &Path, ring: &Ring) -> Result<(), FileError> {
    let error = |source| FileError::io("read", folder, source);
    for entry in fs::read_dir(folder).map_err(error)? {
        let name = entry.map_err(error)?.file_name();
        let kid = name.to_str().and_then(|name| name.strip_prefix("replay-")?.parse::<u16>().ok());
        if let Some(kid) = kid.filter(|kid| ring.held().all(|held| held.secret.kid() != *kid)) {
            file::remove(&replay_path(folder, kid))?;
        }
    }
    Ok(())
}

impl Ring {
    fn held(&self) -> impl Iterator<Item = &Held> {
        std::iter::once(&self.current).chain(&self.next).chain(&self.previous)
    }

    fn to_set(&self) -> KeySet {
        KeySet {
            secrets: self.held().map(|held| held.secret.clone()).collect(),
            seen: self.held().map(|held| Arc::clone(&held.seen)).collect(),
            published: 1 + usize::from(self.next.is_some()),
        }
    }
}

/// What the keys' file says.
#[derive(Default)]
struct Stored {
    current: Option<OnionSecret>,
    next: Option<OnionSecret>,
    previous: Option<OnionSecret>,
    since: Millis,
}

#[derive(Serialize, Deserialize)]
struct KeysText {
    current: KeyText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<KeyText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<KeyText>,
    /// Unix milliseconds; 0 and missing: not known.
    #[serde(default)]
    since: u64,
}

#[derive(Serialize, Deserialize)]
struct KeyText {
    kid: u16,
    secret: Zeroizing<String>,
}

impl Stored {
    /// A missing file is a new folder.
    fn read(folder: &Path) -> Result<Self, FileError> {
        let path = folder.join(KEYS_FILE);
        let Some(bytes) = file::read(&path)? else { return Ok(Self::default()) };
        let text: KeysText =
            serde_json::from_slice(&bytes).map_err(|error| FileError::damaged(&path, error))?;
        let secret = |key: KeyText| {
            let secret = file::parse_secret(&path, key.secret.as_bytes())?;
            Ok::<_, FileError>(OnionSecret::from_bytes(key.kid, *secret))
        };
        let this = Self {
            current: Some(secret(text.current)?),
            next: text.next.map(secret).transpose()?,
            previous: text.previous.map(secret).transpose()?,
            since: Millis(text.since),
        };
        let kids = this.kids();
        if kids.iter().enumerate().any(|(index, kid)| kids.iter().skip(index + 1).any(|other| other == kid)) {
            return Err(FileError::damaged(&path, "two onion keys share an id"));
        }
        Ok(this)
    }

    fn kids(&self) -> Vec<u16> {
        [&self.current, &self.next, &self.previous].into_iter().flatten().map(OnionSecret::kid).collect()
    }

    fn fresh_kid(&self) -> u16 {
        fresh_kid(&self.kids())
    }
}

fn store(folder: &Path, ring: &Ring) -> Result<(), FileError> {
    let text = |held: &Held| {
        let secret = Zeroizing::new(hex::encode(*held.secret.to_bytes()));
        KeyText { kid: held.secret.kid(), secret }
    };
    let keys = KeysText {
        current: text(&ring.current),
        next: ring.next.as_ref().map(text),
        previous: ring.previous.as_ref().map(text),
        since: ring.since.0,
    };
    let path = folder.join(KEYS_FILE);
    let text = serde_json::to_vec_pretty(&keys).map_err(|error| FileError::damaged(&path, error))?;
    file::replace(&path, &Zeroizing::new(text), file::SECRET)
}

#[cfg(test)]
mod tests;
