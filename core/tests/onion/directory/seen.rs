//! The memory that forbids going back, as it is stored.

use delta_core::codec::DecodeError;
use delta_core::onion::directory::MAX_SEEN;
use proptest::prelude::*;

use super::*;

fn numbered(number: usize) -> NodeId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    NodeId(id)
}

fn memory(nodes: usize) -> Seen {
    let record = |number| SeenRecord { seq: number as u64 + 10, onion: number % 2 == 0 };
    Seen { version: 3, records: (0..nodes).map(|number| (numbered(number), record(number))).collect() }
}

#[test]
fn what_was_seen_is_read_back() {
    for nodes in [0, 1, 2, MAX_SEEN] {
        let seen = memory(nodes);
        assert_eq!(Seen::load(&seen.to_bytes()), Ok(seen));
    }
    assert_eq!(Seen::load(&[]), Ok(Seen::default()));
}

#[test]
fn broken_bytes_are_an_error_and_never_an_empty_memory() {
    let stored = memory(3).to_bytes();
    for len in 1..stored.len() {
        assert!(matches!(Seen::load(&stored[..len]), Err(DecodeError::Truncated(_))), "{len}");
    }
    assert_eq!(Seen::load(&[stored.as_slice(), &[0]].concat()), Err(DecodeError::Trailing(1)));
    let changed = |at: usize, value: u8| {
        let mut changed = stored.clone();
        changed[at] = value;
        Seen::load(&changed)
    };
    assert_eq!(changed(0, 2), Err(DecodeError::Invalid("version")));
    assert_eq!(changed(13 + 40, 2), Err(DecodeError::Invalid("onion")));
    assert_eq!(changed(13, 9), Err(DecodeError::Invalid("node")), "one spelling: rising ids");
    let count = [&[1][..], &[0; 8], &(MAX_SEEN as u32 + 1).to_be_bytes()].concat();
    assert_eq!(Seen::load(&count), Err(DecodeError::TooLarge("nodes")));
}

#[test]
fn beyond_the_limit_the_oldest_that_are_gone_are_forgotten() {
    let (directory, _) = load_one([signed(1, &record(1), 1)]);
    let mut seen = memory(MAX_SEEN);
    directory.remember(&mut seen);
    assert_eq!(seen.records.len(), MAX_SEEN);
    assert!(!seen.records.contains_key(&numbered(0)));
    assert!(seen.records.contains_key(&numbered(1)));
    assert!(seen.records.contains_key(&id(1)), "its record is older than all, but it is in use");
}

proptest! {
    #[test]
    fn any_bytes_are_a_memory_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(seen) = Seen::load(&bytes) {
            prop_assert!(bytes.is_empty() || seen.to_bytes() == bytes);
        }
    }
}
