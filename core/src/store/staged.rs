//! Copies of a database that stand beside it while something is made of them. They have known names: what a process
//! that was killed left of them goes when the database is opened the next time, and with the database.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::lock::beside;

/// What the name of the copy ends with from which a database is written anew.
pub(super) const CLEAN: &str = ".clean";
/// What the name of the copy ends with that an export is made of.
const EXPORT: &str = ".export";
/// What SQLite leaves beside a database.
const COMPANIONS: [&str; 4] = ["", "-journal", "-wal", "-shm"];

/// A copy that goes when this is dropped.
#[derive(Debug)]
pub struct Staged(PathBuf);

impl Staged {
    /// An empty file for an export of a database. One export of a database is made at a time: whoever makes another one
    /// sees to that.
    pub fn for_export(database: &Path) -> Result<Self, StoreError> {
        Self::make(database, EXPORT)
    }

    /// An empty file that only its owner reads. (SQLite writes into an empty file as it is.)
    pub(super) fn make(database: &Path, suffix: &str) -> Result<Self, StoreError> {
        let path = beside(database, suffix);
        remove(&path);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path).map_err(|source| StoreError::Io { path: path.clone(), source })?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes what was left of copies of a database. Nobody may have it open.
pub fn sweep(database: &Path) {
    for suffix in [CLEAN, EXPORT] {
        remove(&beside(database, suffix));
    }
}

fn remove(copy: &Path) {
    for suffix in COMPANIONS {
        // Gone already is fine, and nothing better can be done about the rest: it holds nothing in the clear that the
        // database does not.
        let _ = std::fs::remove_file(beside(copy, suffix));
    }
}
