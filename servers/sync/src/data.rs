//! The sync server's part of the data folder: which generation its logs have, and where the database is.
//!
//! ```text
//! generation.secret  64 hex digits, mode 0600: made with the database, once
//! topics.db          the topic logs (SQLite; topics.db-wal and -shm beside it)
//! topics.db-open     a server has run on topics.db: it has a write-ahead log, and without it is not whole
//! search.db          the index of public channels; made from the logs, and made again when it is missing
//! import-unfinished  while an import runs: the database and the secret do not belong together
//! ```
//!
//! Identity, onion keys, replay sets and lock are in the same folder, as every node's (`delta-server-shell`).

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use delta_core::entropy::Entropy;
use delta_server_shell::NodeFolder;
use delta_server_shell::file::{self, FileError};
use delta_server_shell::folder::{NODE_FILE, SEED_FILE};
use delta_topic_log::GenerationSecret;
use thiserror::Error;
use zeroize::Zeroizing;

const GENERATION_FILE: &str = "generation.secret";
const IMPORT_FILE: &str = "import-unfinished";
const DATABASE_FILE: &str = "topics.db";
const INDEX_FILE: &str = "search.db";
const OPEN_SUFFIX: &str = "-open";

/// The data folder cannot be used. Nothing in it was replaced.
#[derive(Debug, Error)]
pub enum DataError {
    /// A file of it.
    #[error(transparent)]
    File(#[from] FileError),
    /// A command about a database that is not there. Nothing is made in its place.
    #[error("{} is missing: no server has run on this folder, or it was moved away", .0.display())]
    NoDatabase(PathBuf),
    /// The database is there, the generation secret that belongs to it is not.
    #[error("{} is missing, but the database it belongs to is there; restore both from one backup", .0.display())]
    GenerationLost(PathBuf),
    /// The write-ahead log, and with it the newest commits, was removed.
    #[error(
        "{} is missing: it holds the newest operations of {}. Put it back, or restore a backup; only to go on \
         without them remove {}", log.display(), database.display(), mark.display()
    )]
    LogMissing {
        /// The write-ahead log.
        log: PathBuf,
        /// The database.
        database: PathBuf,
        /// The file that says it has one.
        mark: PathBuf,
    },
    /// An import was cut off: the database and the generation secret do not belong together.
    #[error("an import into {} was cut off; run it again to its end, or restore a backup", .0.display())]
    ImportUnfinished(PathBuf),
}

/// An open data folder.
#[derive(Debug)]
pub struct DataFolder {
    node: Arc<NodeFolder>,
}

impl Deref for DataFolder {
    type Target = NodeFolder;
    fn deref(&self) -> &NodeFolder {
        &self.node
    }
}

impl DataFolder {
    /// Opens the folder; makes it and the identity when they are missing.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(path: &Path, entropy: &mut dyn Entropy) -> Result<Self, FileError> {
        Ok(Self { node: Arc::new(NodeFolder::open(path, entropy)?) })
    }

    /// What every node has in its folder.
    pub const fn node(&self) -> &Arc<NodeFolder> {
        &self.node
    }

    /// Where the database of a folder is.
    pub fn database_in(folder: &Path) -> PathBuf {
        folder.join(DATABASE_FILE)
    }

    /// Copies the identity, the generation secret and what the record says. Not the onion keys: they come with a replay
    /// set, and a copy that leaks must not open what is on its way.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub fn copy_secrets(&self, to: &Path) -> Result<(), FileError> {
        let secrets = [SEED_FILE, GENERATION_FILE].map(|name| (name, file::SECRET));
        for (name, mode) in secrets.into_iter().chain([(NODE_FILE, file::PUBLIC)]) {
            if let Some(bytes) = file::read(&self.path().join(name))? {
                file::replace(&to.join(name), &bytes, mode)?;
            }
        }
        Ok(())
    }

    /// Begins to change every log to a new generation; until [`finish`](GenerationChange::finish) the folder refuses
    /// to be served. Hold the lock.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn start_generation(&self, entropy: &mut dyn Entropy) -> Result<GenerationChange<'_>, FileError> {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(&mut *bytes).map_err(FileError::from)?;
        file::replace(&self.path().join(IMPORT_FILE), b"", file::SECRET)?;
        Ok(GenerationChange { folder: self, secret: GenerationSecret::from_bytes(*bytes), bytes })
    }

    /// Where the database is.
    pub fn database(&self) -> PathBuf {
        self.path().join(DATABASE_FILE)
    }

    /// Where the index of public channels is.
    pub fn index(&self) -> PathBuf {
        self.path().join(INDEX_FILE)
    }

    fn beside_database(&self, suffix: &str) -> PathBuf {
        self.path().join(format!("{DATABASE_FILE}{suffix}"))
    }

    /// The database is open and has its write-ahead log: from now on it is not whole without.
    ///
    /// # Errors
    /// The file that says so cannot be made.
    pub fn expect_log(&self) -> Result<(), DataError> {
        let mark = self.beside_database(OPEN_SUFFIX);
        if mark.exists() { Ok(()) } else { Ok(file::replace(&mark, b"", 0o600)?) }
    }

    fn finished(&self) -> Result<(), DataError> {
        match self.path().join(IMPORT_FILE).exists() {
            true => Err(DataError::ImportUnfinished(self.path().to_owned())),
            false => Ok(()),
        }
    }

    /// Whether the database is there with all that belongs to it.
    ///
    /// # Errors
    /// It is not; nothing was changed.
    pub fn whole(&self) -> Result<(), DataError> {
        self.finished()?;
        let (database, secret) = (self.database(), self.path().join(GENERATION_FILE));
        let (log, mark) = (self.beside_database("-wal"), self.beside_database(OPEN_SUFFIX));
        if !database.exists() {
            Err(DataError::NoDatabase(database))
        } else if !secret.exists() {
            Err(DataError::GenerationLost(secret))
        } else if mark.exists() && !log.exists() {
            Err(DataError::LogMissing { log, database, mark })
        } else {
            Ok(())
        }
    }

    /// The generation secret of a database that is there. Changes nothing.
    ///
    /// # Errors
    /// The database is not whole, or the secret cannot be read.
    pub fn existing_generation(&self) -> Result<GenerationSecret, DataError> {
        self.whole()?;
        let path = self.path().join(GENERATION_FILE);
        let text = file::read(&path)?.ok_or_else(|| DataError::GenerationLost(path.clone()))?;
        Ok(GenerationSecret::from_bytes(*file::parse_secret(&path, text.trim_ascii())?))
    }

    /// The generation secret; made when there is no database yet, so that a wiped server has new generations.
    ///
    /// # Errors
    /// The file is damaged, or missing although the database is there.
    pub fn generation_secret(&self, entropy: &mut dyn Entropy) -> Result<GenerationSecret, DataError> {
        let path = self.path().join(GENERATION_FILE);
        let (log, mark) = (self.beside_database("-wal"), self.beside_database(OPEN_SUFFIX));
        self.finished()?;
        if self.database().exists() {
            self.whole()?;
        } else {
            // A fresh log under an old generation would look like the old log cut short; and a write-ahead log left
            // behind would be played into the new database.
            for stale in [path.clone(), log, self.beside_database("-shm"), mark] {
                file::remove(&stale)?;
            }
        }
        Ok(GenerationSecret::from_bytes(*file::secret(&path, entropy)?))
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
    pub fn finish(self) -> Result<(), FileError> {
        let text = Zeroizing::new(hex::encode(*self.bytes) + "\n");
        file::replace(&self.folder.path().join(GENERATION_FILE), text.as_bytes(), file::SECRET)?;
        file::remove(&self.folder.path().join(IMPORT_FILE))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use delta_core::entropy::SeededEntropy;
    use delta_core::topic::TopicId;

    use super::*;

    fn entropy(seed: u8) -> SeededEntropy {
        SeededEntropy::new([seed; 32])
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
}
