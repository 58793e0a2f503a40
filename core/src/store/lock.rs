//! The file beside the database that keeps a second process out and remembers what was committed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::error::StoreError;

/// How the content begins while durable commits may live in the write-ahead log only; their count follows.
const OPEN: &str = "open ";
/// Content after a clean close: everything is in the database file.
const CLOSED: &str = "closed\n";
/// Longer than any content.
const MAX_LEN: u64 = 64;

/// Holds `<db>.lock` locked until it is dropped. SQLite's own exclusive mode would lock out our readers.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
    /// Durable commits that were made before this open, as far as the last process could note.
    commits: u64,
}

impl Lock {
    /// Takes the lock, or says who is in the way.
    pub(super) fn take(database: &Path) -> Result<Self, StoreError> {
        let path = beside(database, ".lock");
        let io = |source| StoreError::Io { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: database.to_path_buf() }),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let mut content = Vec::new();
        Read::by_ref(&mut file).take(MAX_LEN).read_to_end(&mut content).map_err(io)?;
        let length = |path: &Path| std::fs::metadata(path).ok().map(|file| file.len());
        // SQLite takes an empty file for a new database; ours was one with content before.
        let no_wal = length(&beside(database, "-wal")).unwrap_or(0) == 0;
        if !content.is_empty() && length(database) == Some(0) && no_wal {
            return Err(StoreError::Corrupt {
                path: database.to_path_buf(),
                detail: "the file is empty".into(),
            });
        }
        let count = std::str::from_utf8(&content).ok().and_then(|text| text.strip_prefix(OPEN));
        let commits = count.and_then(|count| count.trim_end().parse().ok()).unwrap_or(0);
        if commits > 0 && length(database).is_none() {
            return Err(StoreError::WalMissing { path: database.to_path_buf(), lock: path });
        }
        Ok(Self { file, path, commits })
    }

    /// How many durable commits the database must hold.
    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that there have been `commits` durable commits. Called after the last of them, and not synced: the
    /// count can be behind the database, never ahead of what was on disk.
    pub(super) fn mark_open(&mut self, commits: u64) -> Result<(), StoreError> {
        self.write(&format!("{OPEN}{commits}\n"))
    }

    /// Notes that everything is in the database file itself.
    pub(super) fn mark_closed(&mut self) -> Result<(), StoreError> {
        self.write(CLOSED)
    }

    /// Counts only grow, so a shorter content never leaves digits of a longer one behind; `closed` cuts the file.
    fn write(&mut self, content: &str) -> Result<(), StoreError> {
        let mut change = || {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(content.as_bytes())?;
            if content == CLOSED { self.file.set_len(CLOSED.len() as u64) } else { Ok(()) }
        };
        change().map_err(|source| StoreError::Io { path: self.path.clone(), source })
    }
}

/// The path of a file that belongs to the database: its name with `suffix` appended.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
