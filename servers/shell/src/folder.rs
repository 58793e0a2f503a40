//! The data folder: who this node is and what it last said of itself.
//!
//! ```text
//! identity.seed     64 hex digits, mode 0600: the Ed25519 seed; never changes
//! onion-keys.json   mode 0600: the onion keys by id (keys.rs)
//! replay-<kid>      tags seen under an onion key (delta-replay)
//! node.json         url, operator and sequence number of the last record, and whether it had onion keys
//! lock              held while a server runs on the folder
//! ```
//!
//! A server keeps its own files beside these.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use delta_core::entropy::Entropy;
use delta_core::identity::NodeId;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::file::{self, FileError};
use crate::keys::KEYS_FILE;

/// The Ed25519 seed's file.
pub const SEED_FILE: &str = "identity.seed";
/// The file with what a record says besides keys.
pub const NODE_FILE: &str = "node.json";
const LOCK_FILE: &str = "lock";

/// What a record says besides keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Base URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Who runs the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// Sequence number of the last record.
    #[serde(default)]
    pub seq: u64,
    /// Whether it named onion keys.
    #[serde(default)]
    pub onion: bool,
}

/// An open data folder.
#[derive(Debug)]
pub struct NodeFolder {
    path: PathBuf,
    identity: SigningKey,
}

impl NodeFolder {
    /// Opens the folder; makes it (mode 0700) and the identity when they are missing.
    ///
    /// # Errors
    /// [`FileError::Missing`] when only the identity is: who knows the node would refuse it under another.
    pub fn open(path: &Path, entropy: &mut dyn Entropy) -> Result<Self, FileError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| FileError::io("create", path, source))?;
        let seed = path.join(SEED_FILE);
        let beside =
            [NODE_FILE, KEYS_FILE].map(|name| path.join(name)).into_iter().find(|file| file.exists());
        if let Some(beside) = beside
            && !seed.exists()
        {
            return Err(FileError::Missing { path: seed, beside });
        }
        let seed = file::secret(&seed, entropy)?;
        Ok(Self { path: path.to_owned(), identity: SigningKey::from_bytes(&seed) })
    }

    /// Makes the folder and an identity that nobody had before.
    ///
    /// # Errors
    /// [`FileError::Exists`] when there is one, whatever is in its file.
    pub fn make(path: &Path, entropy: &mut dyn Entropy) -> Result<Self, FileError> {
        let seed = path.join(SEED_FILE);
        match fs::symlink_metadata(&seed) {
            Ok(_) => Err(FileError::Exists(seed)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::open(path, entropy),
            Err(source) => Err(FileError::io("look for", &seed, source)),
        }
    }

    /// Whether there is a node's folder already.
    pub fn is_one(path: &Path) -> bool {
        path.join(SEED_FILE).is_file()
    }

    /// Keeps other servers off the folder as long as the returned file is open.
    pub fn lock(&self) -> Result<File, FileError> {
        let path = self.path.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(file::SECRET).open(&path);
        let file = file.map_err(|source| FileError::io("open", &path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(FileError::InUse(self.path.clone())),
            Err(fs::TryLockError::Error(source)) => Err(FileError::io("lock", &path, source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key that signs records.
    pub const fn identity(&self) -> &SigningKey {
        &self.identity
    }

    /// The node's name in the directory.
    pub fn node_id(&self) -> NodeId {
        NodeId(self.identity.verifying_key().to_bytes())
    }

    /// What the last record said.
    pub fn node_info(&self) -> Result<NodeInfo, FileError> {
        self.read_json(NODE_FILE)
    }

    /// Keeps what the next record builds on.
    pub fn store_node_info(&self, info: &NodeInfo) -> Result<(), FileError> {
        self.write_json(NODE_FILE, info)
    }

    /// Reads a file of the folder; a missing one holds the default.
    pub fn read_json<T: Default + for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T, FileError> {
        let path = self.path.join(name);
        let Some(bytes) = file::read(&path)? else { return Ok(T::default()) };
        serde_json::from_slice(&bytes).map_err(|error| FileError::damaged(&path, error))
    }

    /// Replaces a file of the folder.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), FileError> {
        let path = self.path.join(name);
        let text = serde_json::to_vec_pretty(value).map_err(|error| FileError::damaged(&path, error))?;
        file::replace(&path, &text, file::PUBLIC)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use delta_core::entropy::SeededEntropy;

    use super::*;

    fn open(path: &Path, seed: u8) -> Result<NodeFolder, FileError> {
        NodeFolder::open(path, &mut SeededEntropy::new([seed; 32]))
    }

    #[test]
    fn a_folder_keeps_its_identity_and_hides_the_seed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert!(!NodeFolder::is_one(&path));
        let first = open(&path, 1).unwrap();
        assert_eq!(first.node_id(), open(&path, 2).unwrap().node_id());
        assert!(NodeFolder::is_one(&path));
        let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode(SEED_FILE)), (0o700, 0o600));
    }

    #[test]
    fn an_identity_is_made_once_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay");
        let make = |seed: u8| NodeFolder::make(&path, &mut SeededEntropy::new([seed; 32]));
        let made = make(1).unwrap().node_id();
        assert!(matches!(make(2), Err(FileError::Exists(_))));
        assert_eq!(open(&path, 3).unwrap().node_id(), made);
        fs::write(path.join(SEED_FILE), b"nonsense").unwrap();
        assert!(matches!(make(2), Err(FileError::Exists(_))), "a damaged one may still be restored");
        assert_eq!(fs::read(path.join(SEED_FILE)).unwrap(), b"nonsense");
    }

    #[test]
    fn a_second_server_on_the_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = open(dir.path(), 1).unwrap();
        let lock = folder.lock().unwrap();
        assert!(matches!(open(dir.path(), 1).unwrap().lock(), Err(FileError::InUse(_))));
        drop(lock);
        open(dir.path(), 1).unwrap().lock().unwrap();
    }

    #[test]
    fn a_damaged_seed_is_named_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), 1).unwrap();
        fs::write(dir.path().join(SEED_FILE), b"nonsense").unwrap();
        let error = open(dir.path(), 1).unwrap_err().to_string();
        assert!(error.contains(SEED_FILE), "{error}");
        assert_eq!(fs::read(dir.path().join(SEED_FILE)).unwrap(), b"nonsense");
    }

    #[test]
    fn an_identity_that_is_gone_is_not_replaced_by_another() {
        for name in [NODE_FILE, KEYS_FILE] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), b"{}").unwrap();
            let error = open(dir.path(), 1).unwrap_err().to_string();
            assert!(error.contains("identity.seed is missing") && error.contains(name), "{error}");
            assert!(!dir.path().join(SEED_FILE).exists());
        }
        // Alone it is enough: that is how a node moves.
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(SEED_FILE), "ab".repeat(32)).unwrap();
        open(dir.path(), 1).unwrap();
    }

    #[test]
    fn what_a_record_builds_on_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = open(dir.path(), 1).unwrap();
        assert_eq!(folder.node_info().unwrap(), NodeInfo::default());
        let info =
            NodeInfo { url: Some("https://relay.example".to_owned()), operator: None, seq: 7, onion: true };
        folder.store_node_info(&info).unwrap();
        assert_eq!(folder.node_info().unwrap(), info);
    }
}
