//! Whose operations in this device's inboxes are kept when strangers have filled them.

use crate::identity::{Author, Identity, LogId, Millis, ThreadId};
use crate::limits::{MAX_FOREIGN_SESSIONS, MAX_INBOX_PER_SENDER, MAX_INBOX_SENDERS};
use crate::ops::SessionId;
use crate::store::{Durability, Store, ThreadRow, ThreadState, Tx};

fn stranger(number: u64) -> Author {
    let mut key = [0xee; 32];
    key[..8].copy_from_slice(&number.to_be_bytes());
    Author(key)
}

fn filled(tx: &Tx<'_>, senders: u64) {
    for number in 0..senders {
        tx.count_inbox(&stranger(number)).unwrap();
    }
}

fn thread(tx: &Tx<'_>, peer: Author, state: ThreadState) {
    let row = ThreadRow {
        thread: ThreadId(peer.0),
        peer,
        state,
        text: None,
        log: None,
        topic: None,
        made: Millis(1),
        share: None,
    };
    tx.put_thread(&row).unwrap();
}

/// A member of a space that this device knows, or somebody who was one.
fn member(tx: &Tx<'_>, who: Identity, level: Option<i64>) {
    let space = LogId([1; 32]);
    tx.run(
        "INSERT INTO space (space, about, name, public, history, deleted, update_required)
         VALUES (?1, x'', '', 0, 0, 0, 0) ON CONFLICT DO NOTHING",
        [space.0],
    )
    .unwrap();
    tx.run(
        "INSERT INTO member (space, author, level, muted, banned) VALUES (?1, ?2, ?3, 0, 0)",
        rusqlite::params![space.0, who.0, level],
    )
    .unwrap();
}

fn device(tx: &Tx<'_>, device: Author, of: Identity, revoked: bool) {
    tx.run(
        "INSERT INTO space_device (space, device, identity, revoked) VALUES (?1, ?2, ?3, ?4)",
        rusqlite::params![[1u8; 32], device.0, of.0, revoked],
    )
    .unwrap();
}

#[test]
fn case_59_strangers_fill_their_own_room_and_not_that_of_members_and_direct_peers() {
    let mut store = Store::in_memory().unwrap();
    let tx = &store.begin(Durability::Normal).unwrap();
    filled(tx, MAX_INBOX_SENDERS - 1);
    assert!(tx.inbox_has_room(&stranger(u64::MAX)).unwrap(), "the last one");
    filled(tx, MAX_INBOX_SENDERS);
    assert!(!tx.inbox_has_room(&stranger(u64::MAX)).unwrap(), "one past it");
    assert!(tx.inbox_has_room(&stranger(7)).unwrap(), "who is counted");
    // Members by their first device and by a further one; none who was removed, no device that was revoked.
    member(tx, Identity([2; 32]), Some(1));
    member(tx, Identity([3; 32]), None);
    device(tx, Author([4; 32]), Identity([2; 32]), false);
    device(tx, Author([5; 32]), Identity([2; 32]), true);
    device(tx, Author([6; 32]), Identity([3; 32]), false);
    let has_room = |seed: u8| tx.inbox_has_room(&Author([seed; 32])).unwrap();
    assert_eq!([2, 3, 4, 5, 6].map(has_room), [true, false, true, false, false]);
    // Who is asked or talked to; not whoever asks.
    for (seed, state) in [
        (10, ThreadState::Asked),
        (11, ThreadState::Requested),
        (12, ThreadState::Open),
        (13, ThreadState::Closed),
    ] {
        thread(tx, Author([seed; 32]), state);
    }
    assert_eq!([10, 11, 12, 13].map(has_room), [true, false, true, false]);
    // Theirs are bounded, too.
    for _ in 0..MAX_INBOX_PER_SENDER {
        assert!(has_room(2));
        tx.count_inbox(&Author([2; 32])).unwrap();
    }
    assert!(!has_room(2));
}

#[test]
fn so_many_sessions_of_other_devices_are_remembered_until_they_are_forgotten() {
    let mut store = Store::in_memory().unwrap();
    let tx = store.begin(Durability::Normal).unwrap();
    let session = |number: u64| SessionId(number.to_be_bytes());
    for number in 0..=MAX_FOREIGN_SESSIONS {
        tx.put_foreign_session(session(number), Millis(number)).unwrap();
    }
    let known = |number| tx.is_foreign_session(session(number)).unwrap();
    assert!(known(0) && known(MAX_FOREIGN_SESSIONS - 1), "at the limit");
    assert!(!known(MAX_FOREIGN_SESSIONS), "past it");
    tx.forget_ended_sessions(Millis(1)).unwrap();
    tx.put_foreign_session(session(MAX_FOREIGN_SESSIONS), Millis(9)).unwrap();
    assert!(!known(0) && known(MAX_FOREIGN_SESSIONS));
}
