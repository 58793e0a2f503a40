//! The data folder: who this relay is, its onion keys, what it last said about itself.
//!
//! ```text
//! identity.seed     64 hex digits, mode 0600: the Ed25519 seed; never changes
//! onion-keys.json   mode 0600: the onion keys by id, current first
//! node.json         url, operator and sequence number of the last record
//! directory.json    the highest directory version and record numbers seen
//! replay-<kid>      tags seen under an onion key (delta-replay)
//! lock              held while a relay runs on the folder
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use delta_core::entropy::{Entropy, EntropyError};
use delta_core::identity::NodeId;
use delta_core::onion::directory::{Seen, SeenRecord};
use delta_core::onion::v3::OnionSecret;
use delta_relay_core::{KeyRing, KeyRingError};
use delta_replay::{BootId, ReplayError, ReplayFile};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const SEED_FILE: &str = "identity.seed";
const KEYS_FILE: &str = "onion-keys.json";
const NODE_FILE: &str = "node.json";
const SEEN_FILE: &str = "directory.json";
const LOCK_FILE: &str = "lock";
/// Id of the first onion key of a new folder.
const FIRST_KID: u16 = 1;
/// Tags remembered per onion key, up to about 600 MB; above it senders get 503 until the key changes.
pub const REPLAY_CAPACITY: usize = 32_000_000;

/// The data folder cannot be used. Nothing in it was replaced.
#[derive(Debug, Error)]
pub enum DataError {
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} is damaged ({why}); restore it from a backup, or move the folder away to start a new relay", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another relay runs on the folder.
    #[error("another relay runs on {}; give each relay a folder of its own", .0.display())]
    InUse(PathBuf),
    /// Two keys share an id.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    /// The random source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A replay file cannot be written.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// What a record says besides keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Base URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Who runs the relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Sequence number of the last record.
    #[serde(default)]
    pub seq: u64,
}

/// The onion keys as the file holds them.
#[derive(Serialize, Deserialize)]
struct StoredKeys {
    current: StoredKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<StoredKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<StoredKey>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct StoredKey {
    kid: u16,
    secret: String,
}

/// What was seen of the directory, as the file holds it.
#[derive(Default, Serialize, Deserialize)]
struct StoredSeen {
    version: u64,
    records: BTreeMap<String, (u64, bool)>,
}

/// An open data folder.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    identity: SigningKey,
}

impl DataFolder {
    /// Opens the folder; makes it, the identity and the first onion key when they are missing.
    pub fn open(path: &Path, entropy: &mut dyn Entropy) -> Result<Self, DataError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| io("create", path, source))?;
        let seed_path = path.join(SEED_FILE);
        let seed = match read_secret(&seed_path)? {
            Some(text) => parse_secret(&seed_path, text.trim())?,
            None => {
                let mut seed = Zeroizing::new([0; 32]);
                entropy.fill(&mut *seed)?;
                let text = Zeroizing::new(hex::encode(*seed) + "\n");
                write_new(&seed_path, text.as_bytes(), 0o600)?;
                seed
            }
        };
        let this = Self { path: path.to_owned(), identity: SigningKey::from_bytes(&seed) };
        if !this.keys_path().exists() {
            let current = this.new_key(FIRST_KID, entropy)?;
            this.store_keys(&StoredKeys { current, next: None, previous: None })?;
        }
        Ok(this)
    }

    /// Keeps other relays off the folder as long as the returned file is open.
    pub fn lock(&self) -> Result<File, DataError> {
        let path = self.path.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|source| io("open", &path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(DataError::InUse(self.path.clone())),
            Err(fs::TryLockError::Error(source)) => Err(io("lock", &path, source)),
        }
    }

    /// The key that signs records.
    pub const fn identity(&self) -> &SigningKey {
        &self.identity
    }

    /// The relay's name in the directory.
    pub fn node_id(&self) -> NodeId {
        NodeId(self.identity.verifying_key().to_bytes())
    }

    /// The onion keys.
    pub fn keys(&self) -> Result<KeyRing, DataError> {
        let stored = self.read_keys()?;
        let read = |key: StoredKey| {
            let secret = parse_secret(&self.keys_path(), &key.secret)?;
            Ok::<_, DataError>(OnionSecret::from_bytes(key.kid, *secret))
        };
        let next = stored.next.map(read).transpose()?;
        let previous = stored.previous.map(read).transpose()?;
        Ok(KeyRing::new(read(stored.current)?, next, previous)?)
    }

    /// Erases every onion key and starts a new one with an id none of them had: what was made for the old ones can
    /// no longer be opened, by anybody.
    pub fn replace_keys(&self, entropy: &mut dyn Entropy) -> Result<(), DataError> {
        let stored = self.read_keys()?;
        let old = [Some(stored.current), stored.next, stored.previous];
        let last = old.iter().flatten().map(|key| key.kid).max().unwrap_or(FIRST_KID);
        let taken = |kid: &u16| old.iter().flatten().any(|key| key.kid == *kid);
        let kid = (1..=u16::MAX).map(|step| last.wrapping_add(step)).find(|kid| *kid != 0 && !taken(kid));
        let current = self.new_key(kid.unwrap_or(FIRST_KID), entropy)?;
        self.store_keys(&StoredKeys { current, next: None, previous: None })?;
        for key in old.iter().flatten() {
            let path = self.replay_path(key.kid);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(io("remove", &path, source));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where the replay set of key `kid` is.
    pub fn replay_path(&self, kid: u16) -> PathBuf {
        self.path.join(format!("replay-{kid}"))
    }

    /// What the last record said.
    pub fn node_info(&self) -> Result<NodeInfo, DataError> {
        self.read_json(NODE_FILE)
    }

    /// Keeps what the next record builds on.
    pub fn store_node_info(&self, info: &NodeInfo) -> Result<(), DataError> {
        self.write_json(NODE_FILE, info)
    }

    /// What was seen of the directory before.
    pub fn seen(&self) -> Result<Seen, DataError> {
        let stored: StoredSeen = self.read_json(SEEN_FILE)?;
        let record = |(id, (seq, onion)): (String, (u64, bool))| match id.parse() {
            Ok(id) => Ok((id, SeenRecord { seq, onion })),
            Err(_) => Err(damaged(&self.path.join(SEEN_FILE), format!("`{id}` is no node id"))),
        };
        let records = stored.records.into_iter().map(record).collect::<Result<_, _>>()?;
        Ok(Seen { version: stored.version, records })
    }

    /// Keeps what was seen of the directory.
    pub fn store_seen(&self, seen: &Seen) -> Result<(), DataError> {
        let record = |(id, seen): (&NodeId, &SeenRecord)| (id.to_string(), (seen.seq, seen.onion));
        let records = seen.records.iter().map(record).collect();
        self.write_json(SEEN_FILE, &StoredSeen { version: seen.version, records })
    }

    fn read_json<T: Default + for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T, DataError> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| damaged(&path, error.to_string())),
            Err(source) if source.kind() == ErrorKind::NotFound => Ok(T::default()),
            Err(source) => Err(io("read", &path, source)),
        }
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), DataError> {
        let path = self.path.join(name);
        let text = serde_json::to_vec_pretty(value).map_err(|error| damaged(&path, error.to_string()))?;
        replace(&path, &text, 0o644)
    }

    fn keys_path(&self) -> PathBuf {
        self.path.join(KEYS_FILE)
    }

    fn read_keys(&self) -> Result<StoredKeys, DataError> {
        let path = self.keys_path();
        let text = read_secret(&path)?.ok_or_else(|| damaged(&path, "it is missing"))?;
        serde_json::from_str(&text).map_err(|error| damaged(&path, error.to_string()))
    }

    /// A fresh key with its empty replay file: from now on a missing file means that tags were lost.
    fn new_key(&self, kid: u16, entropy: &mut dyn Entropy) -> Result<StoredKey, DataError> {
        let secret = OnionSecret::generate(kid, entropy)?;
        let public = secret.public().public;
        ReplayFile::create(&self.replay_path(kid), &public, REPLAY_CAPACITY, BootId::current())?.close()?;
        Ok(StoredKey { kid, secret: hex::encode(*secret.to_bytes()) })
    }

    fn store_keys(&self, keys: &StoredKeys) -> Result<(), DataError> {
        let path = self.keys_path();
        let text = serde_json::to_vec_pretty(keys).map_err(|error| damaged(&path, error.to_string()))?;
        replace(&path, &Zeroizing::new(text), 0o600)
    }
}

fn read_secret(path: &Path) -> Result<Option<Zeroizing<String>>, DataError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io("read", path, source)),
    }
}

fn parse_secret(path: &Path, text: &str) -> Result<Zeroizing<[u8; 32]>, DataError> {
    let mut secret = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text, &mut *secret).map_err(|_| damaged(path, "expected 64 hex digits"))?;
    Ok(secret)
}

/// Writes a file that must not exist yet, durably.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DataError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|source| io("create", path, source))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.and_then(|()| sync_folder(path)).map_err(|source| io("write", path, source))
}

/// Replaces a file as a whole, durably: a crash leaves the old or the new one.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DataError> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(source) if source.kind() != ErrorKind::NotFound => return Err(io("remove", &temporary, source)),
        _ => {}
    }
    write_new(&temporary, bytes, mode)?;
    let renamed = fs::rename(&temporary, path).and_then(|()| sync_folder(path));
    renamed.map_err(|source| io("write", path, source))
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> DataError {
    DataError::Io { action, path: path.to_owned(), source }
}

fn damaged(path: &Path, why: impl Into<String>) -> DataError {
    DataError::Damaged { path: path.to_owned(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use delta_core::entropy::SeededEntropy;

    use super::*;

    fn open(path: &Path) -> Result<DataFolder, DataError> {
        DataFolder::open(path, &mut SeededEntropy::new([1; 32]))
    }

    #[test]
    fn a_folder_keeps_its_identity_and_keys_and_hides_the_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = open(&path).unwrap();
        let second = DataFolder::open(&path, &mut SeededEntropy::new([2; 32])).unwrap();
        assert_eq!(first.node_id(), second.node_id());
        assert_eq!(first.keys().unwrap().published(), second.keys().unwrap().published());
        let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode(SEED_FILE), mode(KEYS_FILE)), (0o700, 0o600, 0o600));
    }

    #[test]
    fn replaced_keys_have_another_id_and_their_replay_files_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = open(dir.path()).unwrap();
        let old = folder.keys().unwrap().published();
        assert!(folder.replay_path(FIRST_KID).exists());
        folder.replace_keys(&mut SeededEntropy::new([3; 32])).unwrap();
        let new = folder.keys().unwrap().published();
        assert_eq!((old.len(), new.len()), (1, 1));
        assert_ne!(old[0].kid, new[0].kid);
        assert_ne!(old[0].public, new[0].public);
        assert!(!folder.replay_path(FIRST_KID).exists());
    }

    #[test]
    fn a_second_relay_on_the_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = open(dir.path()).unwrap();
        let lock = folder.lock().unwrap();
        assert!(matches!(open(dir.path()).unwrap().lock(), Err(DataError::InUse(_))));
        drop(lock);
        open(dir.path()).unwrap().lock().unwrap();
    }

    #[test]
    fn a_damaged_file_is_named_and_not_replaced() {
        for name in [SEED_FILE, KEYS_FILE] {
            let dir = tempfile::tempdir().unwrap();
            open(dir.path()).unwrap();
            fs::write(dir.path().join(name), b"nonsense").unwrap();
            let error = open(dir.path()).and_then(|folder| folder.keys()).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"nonsense");
        }
    }

    #[test]
    fn what_a_record_builds_on_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = open(dir.path()).unwrap();
        assert_eq!(folder.node_info().unwrap(), NodeInfo::default());
        let info = NodeInfo { url: Some("https://relay.example".to_owned()), operator: None, seq: 7 };
        folder.store_node_info(&info).unwrap();
        assert_eq!(folder.node_info().unwrap(), info);
        let record = SeenRecord { seq: 9, onion: true };
        let seen = Seen { version: 3, records: [(NodeId([7; 32]), record)].into() };
        folder.store_seen(&seen).unwrap();
        assert_eq!(folder.seen().unwrap(), seen);
    }
}
