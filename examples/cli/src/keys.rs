//! A keystore of files: one item a file, which only its owner can read.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use delta_client::{KeyStore, KeyStoreError};
use delta_server_shell::file;
use zeroize::Zeroizing;

/// A folder of mode 0700 with files of mode 0600.
#[derive(Clone, Debug)]
pub struct FileKeyStore {
    folder: PathBuf,
}

impl FileKeyStore {
    /// In this folder; it is made with the first item.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn path(&self, item: &str) -> PathBuf {
        // The extension is for the copy that is written first.
        self.folder.join(format!("{item}.key"))
    }
}

impl KeyStore for FileKeyStore {
    fn get(&self, item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyStoreError> {
        let path = self.path(item);
        let Some(value) = file::read(&path).map_err(failed)? else { return Ok(None) };
        refuse_readable_by_others(&path)?;
        Ok(Some(value))
    }

    fn put(&self, item: &str, value: &[u8]) -> Result<(), KeyStoreError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|source| failed(file::FileError::io("make", &self.folder, source)))?;
        file::replace(&self.path(item), value, file::SECRET).map_err(failed)
    }

    fn delete(&self, item: &str) -> Result<(), KeyStoreError> {
        file::remove(&self.path(item)).map_err(failed)
    }
}

/// As ssh does it: a key that others could have read may be theirs already.
fn refuse_readable_by_others(path: &Path) -> Result<(), KeyStoreError> {
    let mode = std::fs::metadata(path)
        .map_err(|source| failed(file::FileError::io("look at", path, source)))?
        .permissions()
        .mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let text = format!("{} can be read by others (mode {:o}): chmod 600 it", path.display(), mode & 0o777);
    Err(KeyStoreError::Failed(text))
}

fn failed(error: file::FileError) -> KeyStoreError {
    use std::error::Error;
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    KeyStoreError::Failed(format!("{error}{cause}"))
}
