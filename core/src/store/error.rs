//! What can go wrong with the database, whose fault it is, and what to do next.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;
use thiserror::Error;

use crate::identity::Author;

/// A store operation failed. The open transaction, if any, is rolled back when it is dropped: nothing of it stays.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another process (or another instance in this one) has the database open. Close it there first.
    #[error("{}: another process has this database open", path.display())]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// A newer version of the app wrote this database. Update the app; nothing was changed.
    #[error(
        "{}: the database has schema version {found}, this version knows up to {known}: update the app",
        path.display()
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The newest version this build can read.
        known: u32,
    },
    /// The file is no SQLite database: another kind of file, or one encrypted with a key this build was not given.
    #[error("{}: not a database, or encrypted with another key", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is a database of another application. Nothing was changed.
    #[error("{}: a database of another application (id {application_id:#010x})", path.display())]
    ForeignDatabase {
        /// The file.
        path: PathBuf,
        /// The application id found in its header.
        application_id: u32,
    },
    /// The file is damaged or cut short. Restore a backup; nothing was recreated.
    #[error("{}: the database is damaged: {detail}", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Commits that were made are not in the database: the file, or the write-ahead log that held them, was removed
    /// or cut.
    #[error(
        "{}: the newest commits are missing: the database or its write-ahead log (-wal) was removed or cut; put it \
         back, or remove {} to open what is left",
        path.display(),
        lock.display()
    )]
    WalMissing {
        /// The database.
        path: PathBuf,
        /// The lock file that remembers how many there were.
        lock: PathBuf,
    },
    /// The database's secrets are sealed, and its key was not given: it is in the keystore the database was made with. Open
    /// it with that one; where it is gone, import an export or pair the device anew. Nothing was changed.
    #[error(
        "{}: the database is sealed with a key that this keystore does not have; open it with the keystore it was made \
         with, or import an export or pair this device anew",
        path.display()
    )]
    KeyMissing {
        /// The database.
        path: PathBuf,
    },
    /// The database's secrets are sealed with another key. Nothing was changed.
    #[error(
        "{}: the database is sealed with another key than this keystore's; open it with the keystore it was made with, \
         or import an export or pair this device anew",
        path.display()
    )]
    WrongKey {
        /// The database.
        path: PathBuf,
    },
    /// The database is of another device than the one it is opened for: open it with that one's key. Nothing was changed.
    #[error(
        "{}: the database is of the device {owner}, {}: open it with its own key, or name another database; what it holds \
         goes over to a new device by an export",
        path.display(),
        match given { Some(given) => format!("and not of {given}, whose key was given"), None => "whose key this keystore never had".to_owned() }
    )]
    OtherDevice {
        /// The database.
        path: PathBuf,
        /// Whose it is.
        owner: Author,
        /// For whom it was opened; `None`: for whom the keystore would have made a key.
        given: Option<Author>,
    },
    /// No space is left on the device. Nothing was lost; free some space and try again.
    #[error("{}: no space is left on the device", path.display())]
    DiskFull {
        /// The database.
        path: PathBuf,
    },
    /// A limit of this device is reached; see the variant for what to wait for or remove.
    #[error(transparent)]
    Limit(#[from] LimitReached),
    /// The operating system refused a file operation.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite refused something that is none of the above: a bug, or a failing disk.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// Which limit a write would have passed. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LimitReached {
    /// [`crate::limits::MAX_OUTBOX_ROWS`]: wait until deliveries are acknowledged.
    #[error("the outbox holds its most rows; try again once deliveries are acknowledged")]
    OutboxRows,
    /// [`crate::limits::MAX_OUTBOX_BYTES`]: wait until deliveries are acknowledged.
    #[error("the outbox holds its most bytes; try again once deliveries are acknowledged")]
    OutboxBytes,
    /// [`crate::limits::MAX_TOPICS`]: leave a topic first.
    #[error("this device has its most topics; leave one first")]
    Topics,
}

impl StoreError {
    /// Sorts what SQLite said about the file at `path`.
    pub(super) fn from_sqlite(path: PathBuf, source: rusqlite::Error) -> Self {
        use rusqlite::Error;
        let detail = match &source {
            Error::FromSqlConversionFailure(..)
            | Error::InvalidColumnType(..)
            | Error::IntegralValueOutOfRange(..) => {
                return Self::Corrupt { path, detail: source.to_string() };
            }
            other => other.to_string(),
        };
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt { path, detail },
            Some(ErrorCode::NotADatabase) => Self::NotADatabase { path },
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            _ => Self::Sqlite { path, source },
        }
    }
}
