//! The set with its append-only file.
//!
//! Layout: a header of 80 bytes (magic[8] | onion public key[32] | boot id[16] | clean count u64, 2^64-1 while open
//! | check[16]), then records of 12 bytes (tag prefix u64 | check[4]). A record's check covers the key and the
//! record's place, so a flipped, moved or foreign record is noticed. All integers are big-endian.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::boot::BootId;
use crate::set::{Admission, ReplaySet};

const MAGIC: &[u8; 8] = b"dlt-rpl1";
const HEADER_LEN: u64 = 80;
const RECORD_LEN: usize = 12;
/// Records written at once when a file is salvaged.
const SALVAGE_AT_ONCE: usize = 4096;
/// The count in the header of a file in use.
const OPEN: u64 = u64::MAX;

/// The file could not be read or written. No packet whose tag it concerns may be acted on.
#[derive(Debug, Error)]
#[error("replay file {}: {source}", path.display())]
pub struct ReplayError {
    /// Which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: std::io::Error,
}

/// Why a replay file cannot be relied on. The server must start a new onion key; one for which there is no new one
/// keeps what it can ([`ReplayFile::salvage`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Untrusted {
    /// There is no file for the key.
    #[error("the file is missing")]
    Missing,
    /// The machine went down without a clean stop: the end of the file may be lost.
    #[error("the machine restarted without a clean stop")]
    OtherBoot,
    /// The file is not one of ours, is damaged, or belongs to another key.
    #[error("the file is damaged or belongs to another key")]
    Corrupt,
}

/// What opening found.
#[derive(Debug)]
pub enum Opened {
    /// Everything seen under this key is in the set.
    Trusted(ReplayFile),
    /// Something may be missing.
    Untrusted(Untrusted),
}

/// A [`ReplaySet`] whose every member is also in a file.
#[derive(Debug)]
pub struct ReplayFile {
    path: PathBuf,
    file: File,
    key: [u8; 32],
    boot: BootId,
    records: u64,
    /// The file may go on behind the records, and its position is unknown: a write failed half-way, or was elsewhere.
    misplaced: bool,
    set: ReplaySet,
    /// How many bytes of records the disk of a test still takes.
    #[cfg(test)]
    room: Option<usize>,
}

impl ReplayFile {
    /// Starts an empty file for a new onion key, replacing whatever is at `path`, and makes it durable.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create(path: &Path, key: &[u8; 32], capacity: usize, boot: BootId) -> Result<Self, ReplayError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.map_err(|source| ReplayError { path: path.to_owned(), source })?;
        let mut this = Self {
            path: path.to_owned(),
            file,
            key: *key,
            boot,
            records: 0,
            misplaced: false,
            set: ReplaySet::new(capacity),
            #[cfg(test)]
            room: None,
        };
        this.write_header(OPEN).map_err(|source| this.error(source))?;
        Ok(this)
    }

    /// Reads the file of an onion key back and marks it as in use.
    ///
    /// # Errors
    /// The file is there but cannot be read or written; that is not the same as an untrusted one.
    pub fn open(path: &Path, key: &[u8; 32], capacity: usize, boot: BootId) -> Result<Opened, ReplayError> {
        let error = |source| ReplayError { path: path.to_owned(), source };
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(source) if source.kind() == ErrorKind::NotFound => {
                return Ok(Opened::Untrusted(Untrusted::Missing));
            }
            Err(source) => return Err(error(source)),
        };
        let mut set = ReplaySet::new(capacity);
        let records = match load(&file, key, boot, &mut set).map_err(error)? {
            Ok(records) => records,
            Err(untrusted) => return Ok(Opened::Untrusted(untrusted)),
        };
        let (path, key) = (path.to_owned(), *key);
        let mut this = Self {
            path,
            file,
            key,
            boot,
            records,
            misplaced: true,
            set,
            #[cfg(test)]
            room: None,
        };
        this.write_header(OPEN).map_err(|source| this.error(source))?;
        // Cuts off a record that was written half when the process was killed; its packet was never acted on.
        this.place().map_err(|source| this.error(source))?;
        Ok(Opened::Trusted(this))
    }

    /// Reads back what there is of a file that [`open`](Self::open) does not trust, and writes it as a new one in its
    /// place: every record whose check is good, wherever it stands. For a key that cannot be given up. What was lost
    /// (after another boot: of the last 10 ms) may be taken a second time.
    ///
    /// # Errors
    /// The old file cannot be read, or the new one not be written: then the old one is as it was.
    pub fn salvage(path: &Path, key: &[u8; 32], capacity: usize, boot: BootId) -> Result<Self, ReplayError> {
        let error = |source| ReplayError { path: path.to_owned(), source };
        let mut set = ReplaySet::new(capacity);
        match File::open(path) {
            Ok(file) => salvage_records(&file, key, &mut set).map_err(error)?,
            Err(source) if source.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(error(source)),
        }
        let mut this = Self::create(&path.with_extension("new"), key, capacity, boot)?;
        let mut prefixes = set.iter();
        loop {
            let some: Vec<u64> = prefixes.by_ref().take(SALVAGE_AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            this.append(&some).map_err(error)?;
        }
        drop(prefixes);
        // Whole on the disk before it takes the old one's place.
        this.file.sync_all().and_then(|()| std::fs::rename(&this.path, path)).map_err(error)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(error)?;
        (this.path, this.set) = (path.to_owned(), set);
        Ok(this)
    }

    /// Looks tags up, in order, and writes those that are new to the file, all at once. Where it says `Fresh` the tag
    /// is written (not yet synced).
    ///
    /// # Errors
    /// The file could not be written (a full disk): none of the new tags is remembered, and no packet of theirs may be
    /// acted on. A later call may succeed.
    pub fn admit_all(&mut self, tags: &[[u8; 16]]) -> Result<Vec<Admission>, ReplayError> {
        let mut fresh = Vec::with_capacity(tags.len());
        let admit = |tag| {
            let prefix = ReplaySet::prefix(tag);
            let admission = self.set.admit(prefix);
            if admission == Admission::Fresh {
                fresh.push(prefix);
            }
            admission
        };
        let admissions = tags.iter().map(admit).collect();
        if let Err(source) = self.append(&fresh) {
            fresh.into_iter().for_each(|prefix| self.set.forget(prefix));
            self.misplaced = true;
            // At once, for a kill may come before the next write; where this fails, too, that write begins with it.
            let _ = self.place();
            return Err(self.error(source));
        }
        Ok(admissions)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The set.
    pub const fn set(&self) -> &ReplaySet {
        &self.set
    }

    /// A second handle, to sync the file without holding up writers.
    ///
    /// # Errors
    /// The system has no file handles left.
    pub fn handle(&self) -> Result<File, ReplayError> {
        self.file.try_clone().map_err(|source| self.error(source))
    }

    /// The error for a file whose earlier sync failed.
    pub(crate) fn unsynced(&self) -> ReplayError {
        self.error(std::io::Error::other("an earlier sync failed, so the end of the file may be lost"))
    }

    /// A clean stop: makes everything durable and marks the file so, whatever boot comes next.
    ///
    /// # Errors
    /// The file could not be written; it stays marked as in use.
    pub fn close(mut self) -> Result<(), ReplayError> {
        let records = self.records;
        let closed =
            self.place().and_then(|()| self.file.sync_data()).and_then(|()| self.write_header(records));
        closed.map_err(|source| self.error(source))
    }

    fn append(&mut self, prefixes: &[u64]) -> std::io::Result<()> {
        if prefixes.is_empty() {
            return Ok(());
        }
        self.place()?;
        let mut records = Vec::with_capacity(prefixes.len() * RECORD_LEN);
        for (prefix, index) in prefixes.iter().zip(self.records..) {
            records.extend_from_slice(&prefix.to_be_bytes());
            records.extend_from_slice(&record_check(&self.key, index, *prefix));
        }
        self.write(&records)?;
        self.records += prefixes.len() as u64;
        Ok(())
    }

    fn write(&mut self, records: &[u8]) -> std::io::Result<()> {
        #[cfg(test)]
        if let Some(room) = self.room.filter(|room| *room < records.len()) {
            self.file.write_all(&records[..room])?;
            return Err(ErrorKind::StorageFull.into());
        }
        self.file.write_all(records)
    }

    /// Ends the file behind the last good record, and goes there. What a failed write left there is whole records, too:
    /// of packets nobody acted on, and with good checks.
    fn place(&mut self) -> std::io::Result<()> {
        if self.misplaced {
            self.file.set_len(self.end())?;
            self.file.seek(SeekFrom::Start(self.end()))?;
            self.misplaced = false;
        }
        Ok(())
    }

    fn end(&self) -> u64 {
        HEADER_LEN + self.records * RECORD_LEN as u64
    }

    fn write_header(&mut self, clean_count: u64) -> std::io::Result<()> {
        let mut header = Vec::with_capacity(HEADER_LEN as usize);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&self.key);
        header.extend_from_slice(&self.boot.to_bytes());
        header.extend_from_slice(&clean_count.to_be_bytes());
        header.extend_from_slice(&header_check(&header));
        self.misplaced = true;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header)?;
        self.file.sync_all()
    }

    fn error(&self, source: std::io::Error) -> ReplayError {
        ReplayError { path: self.path.clone(), source }
    }
}

/// Reads the file into the set and returns how many records it holds.
fn load(
    file: &File,
    key: &[u8; 32],
    boot: BootId,
    set: &mut ReplaySet,
) -> std::io::Result<Result<u64, Untrusted>> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut header = [0; HEADER_LEN as usize];
    if read_full(&mut reader, &mut header)? < header.len() {
        return Ok(Err(Untrusted::Corrupt));
    }
    let (claimed, check) = header.split_at(64);
    let (magic, rest) = claimed.split_at(8);
    let (stored_key, rest) = rest.split_at(32);
    let (stored_boot, count) = rest.split_at(16);
    if check != header_check(claimed) || magic != MAGIC || stored_key != key {
        return Ok(Err(Untrusted::Corrupt));
    }
    let clean_count = u64::from_be_bytes(count.try_into().unwrap_or_default());
    let stored_boot = BootId::from_stored(stored_boot.try_into().unwrap_or_default());
    if clean_count == OPEN && !stored_boot.same(&boot) {
        return Ok(Err(Untrusted::OtherBoot));
    }
    let mut records = 0;
    let mut record = [0; RECORD_LEN];
    while read_full(&mut reader, &mut record)? == RECORD_LEN {
        let (prefix, check) = split_record(&record);
        // A repeated prefix was never written; a full set means a smaller capacity than before: keep all the same.
        if check != record_check(key, records, prefix) || set.restore(prefix) {
            return Ok(Err(Untrusted::Corrupt));
        }
        records += 1;
    }
    let complete = clean_count == OPEN || clean_count == records;
    Ok(if complete { Ok(records) } else { Err(Untrusted::Corrupt) })
}

/// Puts every record whose check is good into the set. What a header says does not matter: the check covers key and place.
fn salvage_records(file: &File, key: &[u8; 32], set: &mut ReplaySet) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    if read_full(&mut reader, &mut [0; HEADER_LEN as usize])? < HEADER_LEN as usize {
        return Ok(());
    }
    let mut record = [0; RECORD_LEN];
    for index in 0.. {
        if read_full(&mut reader, &mut record)? < RECORD_LEN {
            break;
        }
        let (prefix, check) = split_record(&record);
        if check == record_check(key, index, prefix) {
            set.restore(prefix);
        }
    }
    Ok(())
}

/// Fills `out` as far as the file goes and returns how far that was.
fn read_full(reader: &mut impl Read, out: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn header_check(header: &[u8]) -> [u8; 16] {
    let mut check = [0; 16];
    let mut hasher = blake3::Hasher::new_derive_key("delta replay file header v1");
    hasher.update(header).finalize_xof().fill(&mut check);
    check
}

fn split_record(record: &[u8; RECORD_LEN]) -> (u64, [u8; 4]) {
    let [a, b, c, d, e, f, g, h, check @ ..] = *record;
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]), check)
}

fn record_check(key: &[u8; 32], index: u64, prefix: u64) -> [u8; 4] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&index.to_be_bytes()).update(&prefix.to_be_bytes());
    let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests;
