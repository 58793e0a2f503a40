//! The file beside the database that keeps a second process out and remembers an unclean close.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::error::StoreError;

/// Content while durable commits may live in the write-ahead log only.
const OPEN: &[u8] = b"open\n";
/// Content after a clean close: everything is in the database file.
const CLOSED: &[u8] = b"closed\n";

/// Holds `<db>.lock` locked until it is dropped. SQLite's own exclusive mode would lock out our readers.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
    marked: bool,
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
        Read::by_ref(&mut file).take(CLOSED.len() as u64).read_to_end(&mut content).map_err(io)?;
        let marked = content == OPEN;
        let length = |path: &Path| std::fs::metadata(path).ok().map(|file| file.len());
        let wal = length(&beside(database, "-wal"));
        if marked && length(database).is_some() && wal.is_none() {
            return Err(StoreError::WalMissing { path: database.to_path_buf(), lock: path });
        }
        // SQLite takes an empty file for a new database; ours was one with content before.
        if !content.is_empty() && length(database) == Some(0) && wal.unwrap_or(0) == 0 {
            return Err(StoreError::Corrupt {
                path: database.to_path_buf(),
                detail: "the file is empty".into(),
            });
        }
        Ok(Self { file, path, marked })
    }

    /// Remembers that the write-ahead log holds commits somebody counts on. Called after such a commit, so that the
    /// mark can never be on disk without the log.
    pub(super) fn mark_open(&mut self) -> Result<(), StoreError> {
        if self.marked { Ok(()) } else { self.write(OPEN, true) }
    }

    /// Everything is in the database file itself.
    pub(super) fn mark_closed(&mut self) -> Result<(), StoreError> {
        self.write(CLOSED, false)
    }

    fn write(&mut self, content: &[u8], marked: bool) -> Result<(), StoreError> {
        let mut change = || {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.set_len(0)?;
            self.file.write_all(content)
        };
        change().map_err(|source| StoreError::Io { path: self.path.clone(), source })?;
        self.marked = marked;
        Ok(())
    }
}

/// The path of a file that belongs to the database: its name with `suffix` appended.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
