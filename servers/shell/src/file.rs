//! Files of the data folder: secrets that only their owner reads, and replacement as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use delta_core::entropy::{Entropy, EntropyError};
use delta_replay::ReplayError;
use thiserror::Error;
use zeroize::Zeroizing;

/// Mode of a file that only the server's user may read.
pub const SECRET: u32 = 0o600;
/// Mode of a file that everyone may read.
pub const PUBLIC: u32 = 0o644;

/// The data folder cannot be used. Nothing in it was replaced.
#[derive(Debug, Error)]
pub enum FileError {
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
    #[error("{} is damaged ({why}); restore it from a backup, or move the folder away to start anew", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another server runs on the folder.
    #[error("another server runs on {}; give each server a folder of its own", .0.display())]
    InUse(PathBuf),
    /// There is an identity that a new one would replace.
    #[error("{} is there already: a node's identity is never replaced; name a folder without one", .0.display())]
    Exists(PathBuf),
    /// A secret is gone, and what belongs to it is there: a new one would not fit.
    #[error(
        "{} is missing, but {} that belongs to it is there; restore it from a backup, or move the folder away to start anew",
        path.display(), beside.display()
    )]
    Missing {
        /// Which file.
        path: PathBuf,
        /// What was made with it.
        beside: PathBuf,
    },
    /// The random source failed.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A replay file cannot be read or written.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

impl FileError {
    /// The system refused `action` on `path`.
    pub fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// What `path` holds is not what it should be.
    pub fn damaged(path: &Path, why: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), why: why.to_string() }
    }
}

/// A file's bytes; `None` when there is no file.
pub fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(source) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::io("read", path, source)),
    }
}

/// A secret of 32 bytes in hex; made when the file is missing.
pub fn secret(path: &Path, entropy: &mut dyn Entropy) -> Result<Zeroizing<[u8; 32]>, FileError> {
    if let Some(text) = read(path)? {
        return parse_secret(path, text.trim_ascii());
    }
    let mut secret = Zeroizing::new([0; 32]);
    entropy.fill(&mut *secret)?;
    let text = Zeroizing::new(hex::encode(*secret) + "\n");
    replace(path, text.as_bytes(), SECRET)?;
    Ok(secret)
}

/// 64 hex digits.
pub fn parse_secret(path: &Path, text: &[u8]) -> Result<Zeroizing<[u8; 32]>, FileError> {
    let mut secret = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text, &mut *secret)
        .map_err(|_| FileError::damaged(path, "expected 64 hex digits"))?;
    Ok(secret)
}

/// Replaces a file as a whole, durably: a crash leaves the old or the new one.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = path.with_extension("new");
    let written = || {
        remove_if_there(&temporary)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    written().map_err(|source| FileError::io("write", path, source))
}

/// Removes a file; one that is gone already is fine.
pub fn remove(path: &Path) -> Result<(), FileError> {
    remove_if_there(path).map_err(|source| FileError::io("remove", path, source))
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
