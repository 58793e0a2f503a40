//! Files over kills, clean stops, reboots and damage.

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

/// Which of the three tags a file of these bytes still knows after it was salvaged.
fn salvaged(bytes: &[u8]) -> Vec<u64> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replay");
    std::fs::write(&path, bytes).unwrap();
    drop(ReplayFile::salvage(&path, &KEY, 100, LATER_BOOT).unwrap());
    // What was written in its place is a file like any other.
    let mut file = trusted(ReplayFile::open(&path, &KEY, 100, LATER_BOOT).unwrap());
    let known = (1..=3).filter(|number| file.admit(&tag(*number)).unwrap() == Admission::Seen).collect();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    known
}

#[test]
fn of_a_file_that_is_not_trusted_every_good_record_can_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replay");
    drop(with_three(&path));
    assert_eq!(untrusted(&path, LATER_BOOT), Untrusted::OtherBoot);
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(salvaged(&whole), [1, 2, 3]);
    // One damaged record costs itself alone, a damaged header nothing.
    let header = HEADER_LEN as usize;
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        let lost = at.checked_sub(header).map(|at| (at / RECORD_LEN) as u64 + 1);
        let rest: Vec<u64> = (1..=3).filter(|number| Some(*number) != lost).collect();
        assert_eq!(salvaged(&changed), rest, "byte {at}");
    }
    assert_eq!(salvaged(&whole[..whole.len() - 1]), [1, 2]);
    assert_eq!(salvaged(&whole[..header - 1]), [0; 0]);
    assert_eq!(salvaged(&[]), [0; 0]);
    let swapped = [&whole[..header], &whole[header + 12..header + 24], &whole[header..header + 12]].concat();
    assert_eq!(salvaged(&swapped), [0; 0], "no record stands for another place");
    let other = ReplayFile::salvage(&path, &[8; 32], 100, LATER_BOOT).unwrap();
    assert!(other.set().is_empty(), "or another key");
}

#[test]
fn a_long_file_is_salvaged_whole_whatever_the_capacity_and_a_missing_one_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replay");
    let many = 3 * SALVAGE_AT_ONCE as u64 + 1;
    let mut file = ReplayFile::create(&path, &KEY, 100_000, BOOT).unwrap();
    let tags: Vec<_> = (0..many).map(tag).collect();
    assert!(file.admit_all(&tags).unwrap().iter().all(|admission| *admission == Admission::Fresh));
    drop(file);
    let mut file = ReplayFile::salvage(&path, &KEY, 2, LATER_BOOT).unwrap();
    assert!(file.set().len() as u64 == many && file.set().is_full());
    assert_eq!(file.admit(&tag(many)).unwrap(), Admission::Full);
    drop(file);
    let reopened = trusted(ReplayFile::open(&path, &KEY, 100_000, LATER_BOOT).unwrap());
    assert_eq!(reopened.set().len() as u64, many);
    let none = ReplayFile::salvage(&dir.path().join("none"), &KEY, 2, LATER_BOOT).unwrap();
    assert!(none.set().is_empty());
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

#[test]
fn what_a_full_disk_took_of_a_batch_is_no_part_of_the_file() {
    let batch = [4, 5, 6].map(tag);
    for room in 0..batch.len() * RECORD_LEN {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replay");
        let mut file = with_three(&path);
        let whole = std::fs::read(&path).unwrap();
        file.room = Some(room);
        assert!(file.admit_all(&batch).is_err(), "room for {room} bytes");
        assert_eq!(file.set().len(), 3);
        assert_eq!(std::fs::read(&path).unwrap(), whole, "killed now, it is as it was");
        // There is room again, and one of them comes again alone.
        file.room = None;
        assert_eq!(file.admit(&tag(5)).unwrap(), Admission::Fresh);
        drop(file);
        let mut file = trusted(ReplayFile::open(&path, &KEY, 100, BOOT).unwrap());
        assert_eq!(file.admit(&tag(5)).unwrap(), Admission::Seen);
        assert_eq!(file.admit(&tag(4)).unwrap(), Admission::Fresh);
        file.room = Some(room);
        assert!(file.admit_all(&[7, 8, 9].map(tag)).is_err());
        file.close().unwrap();
        let file = trusted(ReplayFile::open(&path, &KEY, 100, LATER_BOOT).unwrap());
        assert_eq!(file.set().len(), 5, "a clean stop after it is one");
    }
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
