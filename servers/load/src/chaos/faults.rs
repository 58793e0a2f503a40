//! How a server's lives end, and what goes wrong during them.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::world::Dice;
use crate::server::Server;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGKILL.
    Kill,
    /// SIGTERM: it has to end in order.
    Terminate,
    /// SIGKILL, and the database is gone.
    Wipe,
}

impl End {
    /// One of them.
    pub fn roll(dice: &mut Dice) -> Self {
        match dice.below(100) {
            0..55 => Self::Kill,
            55..85 => Self::Terminate,
            _ => Self::Wipe,
        }
    }
}

/// What is wrong with the disk for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Nothing.
    None,
    /// Files cannot grow any more (`RLIMIT_FSIZE`): writes are cut short and fail.
    Files,
    /// The file system is full: `ENOSPC`. Needs a small one.
    FileSystem,
}

impl Shortage {
    /// One of them; the file system's only where there is one to fill.
    pub fn roll(dice: &mut Dice, small: bool) -> Self {
        match dice.below(100) {
            0..40 => Self::None,
            _ if small && dice.percent(60) => Self::FileSystem,
            _ => Self::Files,
        }
    }
}

/// Extra options of a life: sometimes ones under which nothing, or soon nothing, can be stored.
pub fn limits(dice: &mut Dice, database: &Path) -> Option<String> {
    let size = std::fs::metadata(database).map_or(0, |file| file.len());
    match dice.below(100) {
        0..10 => Some(format!("database_bytes={}", size.max(65_536) + dice.below(300_000))),
        10..14 => Some(format!("disk_free_bytes={}", u64::MAX / 2)),
        _ => None,
    }
}

/// No file of the server's may grow much from now on.
///
/// # Errors
/// The system refuses.
pub fn freeze_files(server: &Server, database: &Path, dice: &mut Dice) -> anyhow::Result<()> {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let log = size(&database.with_extension("db-wal"));
    server.limit_files(Some(log + dice.below(100_000)))
}

/// Fills the file system around `file` to the last byte. Removing the file makes room again.
///
/// # Errors
/// It cannot be created.
pub fn fill(file: &Path) -> anyhow::Result<()> {
    let mut ballast = File::create(file)?;
    let mut piece = vec![0; 1 << 20];
    // Smaller and smaller pieces, until not one byte fits.
    while !piece.is_empty() {
        if ballast.write_all(&piece).is_err() {
            piece.truncate(piece.len() / 2);
        }
    }
    Ok(())
}

/// Removes the database, as an operator's mistake would; its log and index are sometimes left behind.
///
/// # Errors
/// It cannot be removed.
pub fn wipe(database: &Path, dice: &mut Dice) -> anyhow::Result<()> {
    std::fs::remove_file(database)?;
    for extension in ["db-wal", "db-shm"] {
        let file = database.with_extension(extension);
        if dice.percent(50) && file.exists() {
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}
