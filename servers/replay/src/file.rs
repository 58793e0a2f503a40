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

/// Why a replay file cannot be relied on. The server must start a new onion key.
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
    /// A write failed half-way: the file position is unknown.
    misplaced: bool,
    set: ReplaySet,
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
        let mut this = Self { path, file, key, boot, records, misplaced: true, set };
        this.write_header(OPEN).map_err(|source| this.error(source))?;
        // Cuts off a record that was written half when the process was killed; its packet was never acted on.
        this.file.set_len(this.end()).map_err(|source| this.error(source))?;
        Ok(Opened::Trusted(this))
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
        let closed = self.file.sync_data().and_then(|()| self.write_header(records));
        closed.map_err(|source| self.error(source))
    }

    fn append(&mut self, prefixes: &[u64]) -> std::io::Result<()> {
        if prefixes.is_empty() {
            return Ok(());
        }
        if self.misplaced {
            self.file.seek(SeekFrom::Start(self.end()))?;
            self.misplaced = false;
        }
        let mut records = Vec::with_capacity(prefixes.len() * RECORD_LEN);
        for (prefix, index) in prefixes.iter().zip(self.records..) {
            records.extend_from_slice(&prefix.to_be_bytes());
            records.extend_from_slice(&record_check(&self.key, index, *prefix));
        }
        self.file.write_all(&records)?;
        self.records += prefixes.len() as u64;
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
        let [a, b, c, d, e, f, g, h, check @ ..] = record;
        let prefix = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        // A repeated prefix was never written; a full set means a smaller capacity than before: keep all the same.
        if check != record_check(key, records, prefix) || set.restore(prefix) {
            return Ok(Err(Untrusted::Corrupt));
        }
        records += 1;
    }
    let complete = clean_count == OPEN || clean_count == records;
    Ok(if complete { Ok(records) } else { Err(Untrusted::Corrupt) })
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

fn record_check(key: &[u8; 32], index: u64, prefix: u64) -> [u8; 4] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&index.to_be_bytes()).update(&prefix.to_be_bytes());
    let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];
    const BOOT: BootId = BootId::from_bytes([1; 16]);
    const LATER_BOOT: BootId = BootId::from_bytes([2; 16]);

    fn tag(number: u64) -> [u8; 16] {
        u128::from(number).wrapping_shl(64).to_be_bytes()
    }

    impl ReplayFile {
        fn admit(&mut self, tag: &[u8; 16]) -> Result<Admission, ReplayError> {
            self.admit_all(&[*tag]).map(|admitted| admitted[0])
        }
    }

    #[test]
    fn tags_admitted_together_are_remembered_like_those_admitted_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, single) = (dir.path().join("replay"), dir.path().join("single"));
        let mut file = ReplayFile::create(&path, &KEY, 4, BOOT).unwrap();
        let tags = [1, 2, 1, 3, 4, 5, 2].map(tag);
        use Admission::{Fresh, Full, Seen};
        let expected = [Fresh, Fresh, Seen, Fresh, Fresh, Full, Seen];
        assert_eq!(file.admit_all(&tags).unwrap(), expected);
        assert_eq!(file.admit_all(&[]).unwrap(), []);
        let mut one_by_one = ReplayFile::create(&single, &KEY, 4, BOOT).unwrap();
        assert_eq!(tags.map(|tag| one_by_one.admit(&tag).unwrap()), expected);
        drop((file, one_by_one));
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&single).unwrap());
        assert_eq!(trusted(ReplayFile::open(&path, &KEY, 4, BOOT).unwrap()).set().len(), 4);
    }

    fn trusted(opened: Opened) -> ReplayFile {
        match opened {
            Opened::Trusted(file) => file,
            Opened::Untrusted(why) => panic!("untrusted: {why}"),
        }
    }

    fn untrusted(path: &Path, boot: BootId) -> Untrusted {
        match ReplayFile::open(path, &KEY, 100, boot).unwrap() {
            Opened::Untrusted(why) => why,
            Opened::Trusted(_) => panic!("trusted"),
        }
    }

    fn with_three(path: &Path) -> ReplayFile {
        let mut file = ReplayFile::create(path, &KEY, 100, BOOT).unwrap();
        for number in 1..=3 {
            assert_eq!(file.admit(&tag(number)).unwrap(), Admission::Fresh);
        }
        file
    }

    #[test]
    fn case_03_a_killed_process_forgets_nothing_in_the_same_boot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replay");
        drop(with_three(&path)); // no clean stop
        let mut file = trusted(ReplayFile::open(&path, &KEY, 100, BOOT).unwrap());
        for number in 1..=3 {
            assert_eq!(file.admit(&tag(number)).unwrap(), Admission::Seen);
        }
        assert_eq!(file.admit(&tag(4)).unwrap(), Admission::Fresh);
        drop(file);
        assert_eq!(trusted(ReplayFile::open(&path, &KEY, 100, BOOT).unwrap()).set().len(), 4);
    }

    #[test]
    fn case_03_another_boot_trusts_only_a_clean_stop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replay");
        drop(with_three(&path));
        assert_eq!(untrusted(&path, LATER_BOOT), Untrusted::OtherBoot);
        assert_eq!(untrusted(&path, BootId::unknown()), Untrusted::OtherBoot);

        with_three(&path).close().unwrap();
        let reopened = trusted(ReplayFile::open(&path, &KEY, 100, LATER_BOOT).unwrap());
        assert_eq!(reopened.set().len(), 3);
        drop(reopened); // in use again: the clean mark is gone
        assert_eq!(untrusted(&path, BOOT), Untrusted::OtherBoot);
    }

    #[test]
    fn a_half_written_record_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replay");
        drop(with_three(&path));
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..RECORD_LEN {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let mut file = trusted(ReplayFile::open(&path, &KEY, 100, BOOT).unwrap());
            assert_eq!(file.set().len(), 2);
            assert_eq!(file.admit(&tag(3)).unwrap(), Admission::Fresh);
            drop(file);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn a_changed_byte_anywhere_is_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replay");
        drop(with_three(&path));
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert_eq!(untrusted(&path, BOOT), Untrusted::Corrupt, "byte {at}");
        }
        // Records swapped, doubled or of another key; a file cut after a clean stop; no file.
        let records: Vec<&[u8]> = whole[HEADER_LEN as usize..].chunks(RECORD_LEN).collect();
        let header = &whole[..HEADER_LEN as usize];
        std::fs::write(&path, [header, records[1], records[0], records[2]].concat()).unwrap();
        assert_eq!(untrusted(&path, BOOT), Untrusted::Corrupt);
        std::fs::write(&path, &whole).unwrap();
        let other = ReplayFile::open(&path, &[8; 32], 100, BOOT).unwrap();
        assert!(matches!(other, Opened::Untrusted(Untrusted::Corrupt)));
        with_three(&path).close().unwrap();
        let clean = std::fs::read(&path).unwrap();
        std::fs::write(&path, &clean[..clean.len() - RECORD_LEN]).unwrap();
        assert_eq!(untrusted(&path, LATER_BOOT), Untrusted::Corrupt);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(untrusted(&path, BOOT), Untrusted::Missing);
    }

    #[test]
    fn a_smaller_capacity_keeps_what_was_seen_and_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replay");
        drop(with_three(&path));
        let mut file = trusted(ReplayFile::open(&path, &KEY, 2, BOOT).unwrap());
        assert_eq!(file.admit(&tag(3)).unwrap(), Admission::Seen);
        assert_eq!(file.admit(&tag(4)).unwrap(), Admission::Full);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Against a plain set, over kills, clean stops and reboots: nothing is ever admitted twice.
        #[test]
        fn nothing_is_admitted_twice(steps in prop::collection::vec((0u8..20, 0u64..40), 1..200)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("replay");
            let mut model = HashSet::new();
            let mut file = ReplayFile::create(&path, &KEY, 1000, BOOT).unwrap();
            for (step, number) in steps {
                match step {
                    0 => {
                        drop(file);
                        file = trusted(ReplayFile::open(&path, &KEY, 1000, BOOT).unwrap());
                    }
                    1 => {
                        file.close().unwrap();
                        file = trusted(ReplayFile::open(&path, &KEY, 1000, BOOT).unwrap());
                    }
                    _ => {
                        let expected = if model.insert(number) { Admission::Fresh } else { Admission::Seen };
                        prop_assert_eq!(file.admit(&tag(number)).unwrap(), expected);
                    }
                }
            }
        }
    }
}
