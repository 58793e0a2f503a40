//! What a device's disk holds after a kill or a power loss.
//!
//! A kill leaves every write in place. A power loss leaves what was synced: the database file as of its last
//! checkpoint, and the write-ahead log up to the last commit that promised durability, perhaps with some of what came
//! after it, cut anywhere (https://www.sqlite.org/wal.html: each commit in the log is checksummed, so a torn tail is
//! ignored).

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use delta_core::store::{PendingLimits, StoreOptions};

use crate::rng::Rng;

/// The header of a write-ahead log ends here; its salts change whenever the log starts anew.
const WAL_HEADER: usize = 32;

/// How a simulated device opens its database: without syncing, because this module decides what survives.
pub(crate) fn options(pending: PendingLimits) -> StoreOptions {
    StoreOptions { sync: false, pending, ..StoreOptions::default() }
}

/// How far the write-ahead log is safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Synced {
    header: Vec<u8>,
    len: u64,
}

impl Synced {
    /// Everything written up to now is safe.
    pub(crate) fn now(database: &Path) -> Self {
        let log = beside(database, "-wal");
        let len = fs::metadata(&log).map_or(0, |file| file.len());
        Self { header: header(&log), len }
    }
}

/// Copies a database as a kill leaves it.
pub(crate) fn kill(old: &Path, new: &Path) -> io::Result<()> {
    copy(old, new)?;
    let log = beside(old, "-wal");
    if log.exists() {
        copy(&log, &beside(new, "-wal"))?;
    }
    copy_mark(old, new)
}

/// Copies a database as a power loss leaves it.
pub(crate) fn lose_power(old: &Path, new: &Path, synced: &Synced, rng: &mut Rng) -> io::Result<()> {
    copy(old, new)?;
    let log = beside(old, "-wal");
    if log.exists() {
        let mut content = fs::read(&log)?;
        // A log that started anew was first moved into the database file, which a checkpoint syncs.
        let safe = if header(&log) == synced.header { synced.len } else { 0 };
        let kept = rng.between(safe.min(content.len() as u64), content.len() as u64);
        content.truncate(kept as usize);
        fs::write(beside(new, "-wal"), content)?;
    }
    copy_mark(old, new)
}

/// Removes a database.
pub(crate) fn remove(database: &Path) {
    for suffix in ["", "-wal", "-shm", ".lock"] {
        // What is not there need not be removed; the folder goes at the end anyway.
        let _ = fs::remove_file(beside(database, suffix));
    }
}

fn header(log: &Path) -> Vec<u8> {
    let mut content = Vec::with_capacity(WAL_HEADER);
    if let Ok(file) = fs::File::open(log) {
        // A log that cannot be read counts as empty: less is safe then, not more.
        let _ = file.take(WAL_HEADER as u64).read_to_end(&mut content);
    }
    content
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to).map(|_| ())
}

/// The lock file remembers whether the log matters. It is written after the log.
fn copy_mark(old: &Path, new: &Path) -> io::Result<()> {
    let mark = beside(old, ".lock");
    if mark.exists() { copy(&mark, &beside(new, ".lock")) } else { Ok(()) }
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
