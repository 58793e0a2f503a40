//! The data folder: who this server is, its onion keys, which generation its logs have, what it last said of itself.
//!
//! ```text
//! identity.seed      64 hex digits, mode 0600: the Ed25519 seed; never changes
//! generation.secret  64 hex digits, mode 0600: made with the database, once
//! onion-keys.json    mode 0600: the onion keys by id
//! node.json          url, operator and sequence number of the last record
//! replay-<kid>       tags seen under an onion key (delta-replay)
//! topics.db          the topic logs (SQLite; topics.db-wal and -shm beside it)
//! import-unfinished  while an import runs: the database and the secret do not belong together
//! lock               held while a server runs on the folder
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use delta_core::entropy::{Entropy, EntropyError};
use delta_core::identity::NodeId;
use delta_core::onion::v3::{OnionKey, OnionSecret};
use delta_replay::{BootId, Opened, Replay, ReplayError, ReplayFile};
use delta_topic_log::GenerationSecret;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

const SEED_FILE: &str = "identity.seed";
const GENERATION_FILE: &str = "generation.secret";
const KEYS_FILE: &str = "onion-keys.json";
const NODE_FILE: &str = "node.json";
const IMPORT_FILE: &str = "import-unfinished";
const LOCK_FILE: &str = "lock";
const DATABASE_FILE: &str = "topics.db";
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
    #[error("{} is damaged ({why}); restore it from a backup, or move the folder away to start a new server", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The database is there, the generation secret that belongs to it is not.
    #[error("{} is missing, but the database it belongs to is there; restore both from one backup", .0.display())]
    GenerationLost(PathBuf),
    /// An import was cut off: the database and the generation secret do not belong together.
    #[error("an import into {} was cut off; run it again to its end, or restore a backup", .0.display())]
    ImportUnfinished(PathBuf),
    /// Another server runs on the folder.
    #[error("another server runs on {}; give each server a folder of its own", .0.display())]
    InUse(PathBuf),
    /// The random source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A replay file cannot be read or written.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// What a record says besides keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Base URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Who runs the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Sequence number of the last record.
    #[serde(default)]
    pub seq: u64,
}

/// The onion keys as the file holds them; the same form as a relay's.
#[derive(Serialize, Deserialize)]
struct StoredKeys {
    current: StoredKey,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    kid: u16,
    secret: Zeroizing<String>,
}

/// An open data folder.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    identity: SigningKey,
}

impl DataFolder {
    /// Opens the folder; makes it, the identity and the first onion key when they are missing.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(path: &Path, entropy: &mut dyn Entropy) -> Result<Self, DataError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| io("create", path, source))?;
        let seed = secret_file(&path.join(SEED_FILE), entropy)?;
        let this = Self { path: path.to_owned(), identity: SigningKey::from_bytes(&seed) };
        if !this.keys_path().exists() {
            this.start_key(FIRST_KID, entropy)?;
        }
        Ok(this)
    }

    /// Whether there is a server's folder already.
    pub fn is_one(path: &Path) -> bool {
        path.join(SEED_FILE).is_file()
    }

    /// Where the database of a folder is.
    pub fn database_in(folder: &Path) -> PathBuf {
        folder.join(DATABASE_FILE)
    }

    /// Copies everything but the database, the replay sets and the lock.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub fn copy_secrets(&self, to: &Path) -> Result<(), DataError> {
        for (name, mode) in
            [(SEED_FILE, 0o600), (GENERATION_FILE, 0o600), (KEYS_FILE, 0o600), (NODE_FILE, 0o644)]
        {
            let from = self.path.join(name);
            match fs::read(&from).map(Zeroizing::new) {
                Ok(bytes) => replace(&to.join(name), &bytes, mode)?,
                Err(source) if source.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(io("read", &from, source)),
            }
        }
        Ok(())
    }

    /// Begins to change every log to a new generation; until [`finish`](GenerationChange::finish) the folder refuses
    /// to be served. Hold the lock.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn start_generation(&self, entropy: &mut dyn Entropy) -> Result<GenerationChange<'_>, DataError> {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(&mut *bytes)?;
        replace(&self.path.join(IMPORT_FILE), b"", 0o600)?;
        Ok(GenerationChange { folder: self, secret: GenerationSecret::from_bytes(*bytes), bytes })
    }

    /// Keeps other servers off the folder as long as the returned file is open.
    ///
    /// # Errors
    /// Another server has the folder.
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

    /// The key that signs records and heads.
    pub const fn identity(&self) -> &SigningKey {
        &self.identity
    }

    /// The server's name in the directory.
    pub fn node_id(&self) -> NodeId {
        NodeId(self.identity.verifying_key().to_bytes())
    }

    /// Where the database is.
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE_FILE)
    }

    fn beside_database(&self, suffix: &str) -> PathBuf {
        self.path.join(format!("{DATABASE_FILE}{suffix}"))
    }

    /// The generation secret; made when there is no database yet, so that a wiped server has new generations.
    ///
    /// # Errors
    /// The file is damaged, or missing although the database is there.
    pub fn generation_secret(&self, entropy: &mut dyn Entropy) -> Result<GenerationSecret, DataError> {
        if self.path.join(IMPORT_FILE).exists() {
            return Err(DataError::ImportUnfinished(self.path.clone()));
        }
        let path = self.path.join(GENERATION_FILE);
        if self.database().exists() && !path.exists() {
            return Err(DataError::GenerationLost(path));
        }
        if !self.database().exists() {
            // A fresh log under an old generation would look like the old log cut short; and a write-ahead log left
            // behind would be played into the new database.
            for stale in [path.clone(), self.beside_database("-wal"), self.beside_database("-shm")] {
                match fs::remove_file(&stale) {
                    Err(source) if source.kind() != ErrorKind::NotFound => {
                        return Err(io("remove", &stale, source));
                    }
                    _ => {}
                }
            }
        }
        secret_file(&path, entropy).map(|secret| GenerationSecret::from_bytes(*secret))
    }

    /// The onion keys, current first.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn onion_keys(&self) -> Result<Vec<OnionSecret>, DataError> {
        let path = self.keys_path();
        let text = read_secret(&path)?.ok_or_else(|| damaged(&path, "it is missing"))?;
        let stored: StoredKeys =
            serde_json::from_str(&text).map_err(|error| damaged(&path, &error.to_string()))?;
        let secret = parse_secret(&path, &stored.current.secret)?;
        Ok(vec![OnionSecret::from_bytes(stored.current.kid, *secret)])
    }

    /// The public onion keys.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn public_keys(&self) -> Result<Vec<OnionKey>, DataError> {
        Ok(self.onion_keys()?.iter().map(OnionSecret::public).collect())
    }

    /// Opens the replay set of the onion key. When it cannot be trusted, a new onion key with a new id takes the
    /// old one's place: what was made for the old one can no longer be opened.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn open_replay(&self, entropy: &mut dyn Entropy) -> Result<(Vec<OnionSecret>, Replay), DataError> {
        for retried in [false, true] {
            let keys = self.onion_keys()?;
            let Some(current) = keys.first() else { break };
            let kid = current.kid();
            let path = self.replay_path(kid);
            match ReplayFile::open(&path, &current.public().public, REPLAY_CAPACITY, BootId::current())? {
                Opened::Trusted(file) => return Ok((keys, Replay::start(file)?)),
                Opened::Untrusted(why) if !retried => {
                    tracing::warn!(
                        "starting a new onion key, because its replay set cannot be trusted: {why}"
                    );
                    self.start_key(if kid == u16::MAX { FIRST_KID } else { kid + 1 }, entropy)?;
                    let _ = fs::remove_file(&path);
                }
                Opened::Untrusted(why) => return Err(damaged(&path, &why.to_string())),
            }
        }
        Err(damaged(&self.keys_path(), "it holds no key"))
    }

    /// What the last record said.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn node_info(&self) -> Result<NodeInfo, DataError> {
        let path = self.path.join(NODE_FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| damaged(&path, &error.to_string())),
            Err(source) if source.kind() == ErrorKind::NotFound => Ok(NodeInfo::default()),
            Err(source) => Err(io("read", &path, source)),
        }
    }

    /// Keeps what the next record builds on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store_node_info(&self, info: &NodeInfo) -> Result<(), DataError> {
        let path = self.path.join(NODE_FILE);
        let text = serde_json::to_vec_pretty(info).map_err(|error| damaged(&path, &error.to_string()))?;
        replace(&path, &text, 0o644)
    }

    fn keys_path(&self) -> PathBuf {
        self.path.join(KEYS_FILE)
    }

    fn replay_path(&self, kid: u16) -> PathBuf {
        self.path.join(format!("replay-{kid}"))
    }

    /// A fresh key with its empty replay file, made first: a key without its file is not trusted.
    fn start_key(&self, kid: u16, entropy: &mut dyn Entropy) -> Result<(), DataError> {
        let secret = OnionSecret::generate(kid, entropy)?;
        let public = secret.public().public;
        ReplayFile::create(&self.replay_path(kid), &public, REPLAY_CAPACITY, BootId::current())?.close()?;
        let current = StoredKey { kid, secret: Zeroizing::new(hex::encode(*secret.to_bytes())) };
        let path = self.keys_path();
        let text = serde_json::to_vec_pretty(&StoredKeys { current });
        let text = Zeroizing::new(text.map_err(|error| damaged(&path, &error.to_string()))?);
        replace(&path, &text, 0o600)
    }
}

/// A change of generation that has begun.
pub struct GenerationChange<'a> {
    folder: &'a DataFolder,
    secret: GenerationSecret,
    bytes: Zeroizing<[u8; 32]>,
}

impl GenerationChange<'_> {
    /// The new secret.
    pub const fn secret(&self) -> &GenerationSecret {
        &self.secret
    }

    /// The database belongs to the new secret now: the folder may be served again.
    ///
    /// # Errors
    /// A file cannot be written; begin again.
    pub fn finish(self) -> Result<(), DataError> {
        let text = Zeroizing::new(hex::encode(*self.bytes) + "\n");
        replace(&self.folder.path.join(GENERATION_FILE), text.as_bytes(), 0o600)?;
        let path = self.folder.path.join(IMPORT_FILE);
        fs::remove_file(&path).map_err(|source| io("remove", &path, source))
    }
}

/// Reads a secret of 32 bytes; makes it when the file is missing.
fn secret_file(path: &Path, entropy: &mut dyn Entropy) -> Result<Zeroizing<[u8; 32]>, DataError> {
    if let Some(text) = read_secret(path)? {
        return parse_secret(path, text.trim());
    }
    let mut secret = Zeroizing::new([0; 32]);
    entropy.fill(&mut *secret)?;
    let text = Zeroizing::new(hex::encode(*secret) + "\n");
    replace(path, text.as_bytes(), 0o600)?;
    Ok(secret)
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

/// Replaces a file as a whole, durably: a crash leaves the old or the new one.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DataError> {
    let temporary = path.with_extension("new");
    let written = || {
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    written().map_err(|source| io("write", path, source))
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> DataError {
    DataError::Io { action, path: path.to_owned(), source }
}

fn damaged(path: &Path, why: &str) -> DataError {
    DataError::Damaged { path: path.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use delta_core::entropy::SeededEntropy;
    use delta_core::topic::TopicId;

    use super::*;

    fn entropy(seed: u8) -> SeededEntropy {
        SeededEntropy::new([seed; 32])
    }

    #[test]
    fn a_folder_keeps_its_identity_and_its_secrets_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server");
        let first = DataFolder::open(&path, &mut entropy(1)).unwrap();
        let again = DataFolder::open(&path, &mut entropy(2)).unwrap();
        assert_eq!(first.node_id(), again.node_id());
        assert_eq!(first.public_keys().unwrap(), again.public_keys().unwrap());
        for name in [SEED_FILE, KEYS_FILE] {
            assert_eq!(fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_new_database_has_a_new_generation_and_an_old_one_must_keep_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path(), &mut entropy(1)).unwrap();
        let generation = |seed| {
            folder.generation_secret(&mut entropy(seed)).map(|secret| secret.generation(&TopicId([0; 32])))
        };
        let first = generation(2).unwrap();
        fs::write(dir.path().join("topics.db-wal"), b"stale").unwrap();
        assert_ne!(generation(3).unwrap(), first, "no database was made under the first");
        assert!(!dir.path().join("topics.db-wal").exists());
        fs::write(folder.database(), b"").unwrap();
        assert_eq!(generation(4).unwrap(), generation(5).unwrap());
        fs::remove_file(dir.path().join(GENERATION_FILE)).unwrap();
        assert!(matches!(generation(6), Err(DataError::GenerationLost(_))));
    }

    #[test]
    fn a_replay_set_that_is_gone_or_damaged_means_a_new_onion_key() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path(), &mut entropy(1)).unwrap();
        let (keys, replay) = folder.open_replay(&mut entropy(2)).unwrap();
        let first = keys[0].public();
        replay.admit(&[1; 16]).unwrap();
        drop(replay);
        let (keys, replay) = folder.open_replay(&mut entropy(3)).unwrap();
        assert_eq!((keys[0].public(), replay.len()), (first, 1));
        drop(replay);
        fs::write(folder.replay_path(FIRST_KID), b"garbage").unwrap();
        let (keys, replay) = folder.open_replay(&mut entropy(4)).unwrap();
        assert_ne!(keys[0].public(), first);
        assert_eq!((keys[0].kid(), replay.len()), (FIRST_KID + 1, 0));
    }

    #[test]
    fn one_server_per_folder_and_damaged_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(dir.path(), &mut entropy(1)).unwrap();
        let held = folder.lock().unwrap();
        assert!(matches!(folder.lock(), Err(DataError::InUse(_))));
        drop(held);
        fs::write(dir.path().join(SEED_FILE), b"short").unwrap();
        let error = DataFolder::open(dir.path(), &mut entropy(1)).unwrap_err().to_string();
        assert!(error.contains(SEED_FILE), "{error}");
    }
}
