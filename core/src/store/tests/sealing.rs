//! How a database comes to be sealed, and what becomes of it when somebody changes what is sealed.

use std::path::Path;

use rusqlite::{Connection, params};

use super::secrets::{found, key, open};
use crate::engine::ingest::tests_support::{LOG, ticket};
use crate::identity::{Author, Millis, OperationId};
use crate::ops::{DeviceKey, Hidden, Ticket};
use crate::store::{Durability, NewOperation, Receipt, SCHEMA_VERSION, StoreError, schema};
use crate::topic::{Generation, Seq};

/// Topics of the databases from before.
const TOPICS: u32 = 8;
/// As each of them has it.
pub(super) const READ_KEY: [u8; 32] = [0xab; 32];
/// Since this version a topic can have a read key.
const READ_KEYS: u32 = 2;

/// As a program of that version left it, while nothing was sealed.
pub(super) fn historic(path: &Path, version: u32, tickets: &[Ticket]) {
    let old = Connection::open(path).unwrap();
    old.execute_batch("PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON;").unwrap();
    for (number, sql) in (1..).zip(schema::MIGRATIONS).take(version as usize) {
        old.execute_batch(sql).unwrap();
        let stamp =
            format!("PRAGMA application_id = {}; PRAGMA user_version = {number};", schema::APPLICATION_ID);
        old.execute_batch(&stamp).unwrap();
    }
    let topic =
        "INSERT INTO topic (topic, log, epoch, ticket, subscribed, added_ms) VALUES (?1, ?2, ?3, ?4, 0, 0)";
    for ticket in tickets {
        let text = ticket.to_string().into_bytes();
        old.execute(topic, params![ticket.topic().0, ticket.log().0, ticket.epoch(), text]).unwrap();
    }
    if version >= READ_KEYS {
        old.execute("UPDATE topic SET read_key = ?1", [READ_KEY]).unwrap();
    }
    let own = tickets[0].to_string().into_bytes();
    old.execute("INSERT INTO setting (name, value) VALUES ('own-topic', ?1)", [own]).unwrap();
    old.close().unwrap();
}

#[test]
fn every_historic_schema_version_is_sealed_when_a_key_comes() {
    let topics: Vec<Ticket> = (0..TOPICS).map(ticket).collect();
    let tickets: Vec<String> = topics.iter().map(Ticket::to_string).collect();
    let mut needles: Vec<Vec<u8>> =
        tickets.iter().map(|text| text.as_bytes()[text.len() - 40..].to_vec()).collect();
    needles.push(vec![0xab; 32]);
    for version in 1..=SCHEMA_VERSION {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.db");
        historic(&path, version, &topics);
        let read_keys = version >= READ_KEYS;
        assert_eq!(found(&path, &needles), needles.len() - usize::from(!read_keys), "from {version}");
        for _ in 0..2 {
            let mut store = open(&path);
            store.unlock(&key(1)).unwrap();
            let mut topics = store.topics().unwrap();
            topics.sort_by_key(|row| row.ticket.epoch());
            assert_eq!(topics.iter().map(|row| row.ticket.to_string()).collect::<Vec<_>>(), tickets);
            let read_key = store.read_key(ticket(5).topic()).unwrap();
            assert_eq!(read_key.map(|key| *key), read_keys.then_some([0xab; 32]));
            assert_eq!(store.own_topic().unwrap().unwrap().to_string(), tickets[0]);
            store.check().unwrap();
            assert_eq!(found(&path, &needles), 0, "from {version}");
            store.close().unwrap();
            assert_eq!(found(&path, &needles), 0, "from {version}, closed");
        }
    }
}

/// Rows that came in any order, moved and went have left their bytes in many pages.
#[test]
fn what_was_written_and_moved_before_stays_in_no_page() {
    const SECRET: [u8; 16] = [0xe7; 16];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let mut store = open(&path);
    let name = |number: u32| *blake3::hash(&number.to_be_bytes()).as_bytes();
    let secret = |number: u32| {
        let mut seed = name(number);
        seed[8..24].copy_from_slice(&SECRET);
        seed
    };
    for round in 0..20 {
        let tx = store.begin(Durability::Full).unwrap();
        for number in (100 * round)..(100 * round + 100) {
            tx.put_peer_inbox(&Author(name(number)), &secret(number), Millis(u64::from(number) + 1)).unwrap();
            tx.put_claim(&LOG, &OperationId(name(number)), &Hidden(secret(number)), Millis(1)).unwrap();
        }
        let half = [name(round)[0]];
        tx.run("DELETE FROM peer_inbox WHERE substr(device, 1, 1) < ?1", [half]).unwrap();
        tx.run("DELETE FROM claim WHERE substr(invite, 1, 1) > ?1", [half]).unwrap();
        tx.commit().unwrap();
        store.checkpoint().unwrap();
    }
    let (inboxes, claims) = (count(&store, "peer_inbox"), store.claims().unwrap());
    assert!(inboxes > 0 && !claims.is_empty());
    assert_eq!(found(&path, &[SECRET.to_vec()]), 1, "the search finds what is there");
    store.unlock(&key(1)).unwrap();
    assert_eq!(found(&path, &[SECRET.to_vec()]), 0);
    assert_eq!(count(&store, "peer_inbox"), inboxes);
    assert_eq!(store.claims().unwrap(), claims);
    store.check().unwrap();
    store.close().unwrap();
    assert_eq!(found(&path, &[SECRET.to_vec()]), 0);
}

fn count(store: &crate::store::Store, table: &str) -> i64 {
    store.pragma(&format!("SELECT count(*) FROM {table}")).unwrap()
}

#[test]
fn a_column_that_was_changed_is_an_error_and_nothing_else_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let mut store = open(&path);
    store.unlock(&key(1)).unwrap();
    let tx = store.begin(Durability::Full).unwrap();
    for epoch in [0, 1] {
        tx.put_topic(&ticket(epoch), Millis(0)).unwrap();
        tx.set_read_key(ticket(epoch).topic(), Some(&[9; 32])).unwrap();
    }
    tx.commit().unwrap();
    store.close().unwrap();
    let raw = |sql: &str, value: &[u8]| {
        let raw = Connection::open(&path).unwrap();
        let topic = ticket(0).topic().0;
        let before: Vec<u8> =
            raw.query_row("SELECT read_key FROM topic WHERE topic = ?1", [topic], |row| row.get(0)).unwrap();
        raw.execute(sql, params![topic, value]).unwrap();
        raw.close().unwrap();
        before
    };
    const WRITE: &str = "UPDATE topic SET read_key = ?2 WHERE topic = ?1";
    let whole = raw("SELECT ?1, ?2 WHERE false", &[]);
    assert_eq!(whole.len(), 1 + 24 + 32 + 16);
    let flipped = (0..whole.len()).map(|at| {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        changed
    });
    let cut = [
        vec![],
        vec![1],
        whole[..40].to_vec(),
        whole[..72].to_vec(),
        [&whole[..], &[0]].concat(),
        vec![9; 32],
    ];
    for changed in flipped.chain(cut) {
        raw(WRITE, &changed);
        let mut store = open(&path);
        store.unlock(&key(1)).unwrap();
        let read = store.read_key(ticket(0).topic());
        assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{changed:?}: {read:?}");
        assert_eq!(store.read_key(ticket(1).topic()).unwrap().unwrap()[..], [9; 32]);
        assert_eq!(store.topics().unwrap().len(), 2);
        store.close().unwrap();
    }
    raw(WRITE, &whole);
    let mut store = open(&path);
    store.unlock(&key(1)).unwrap();
    assert_eq!(store.read_key(ticket(0).topic()).unwrap().unwrap()[..], [9; 32]);
    store.close().unwrap();
}

#[test]
fn what_is_sealed_opens_in_no_other_row_and_no_other_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let (here, there) = (ticket(0).topic(), ticket(1).topic());
    let mut store = open(&path);
    store.unlock(&key(1)).unwrap();
    let tx = store.begin(Durability::Full).unwrap();
    for epoch in [0, 1] {
        tx.put_topic(&ticket(epoch), Millis(0)).unwrap();
    }
    // Another table's row of the same name.
    tx.put_peer_inbox(&Author(here.0), &[7; 32], Millis(9)).unwrap();
    tx.commit().unwrap();
    store.close().unwrap();
    let raw = Connection::open(&path).unwrap();
    raw.execute("UPDATE topic SET read_key = (SELECT seed FROM peer_inbox)", []).unwrap();
    raw.close().unwrap();
    let mut store = open(&path);
    store.unlock(&key(1)).unwrap();
    for topic in [here, there] {
        assert!(matches!(store.read_key(topic), Err(StoreError::Corrupt { .. })));
    }
    assert_eq!(store.peer_inbox(&Author(here.0)).unwrap().unwrap()[..], [7; 32]);
    assert_eq!(store.topics().unwrap().len(), 2);
    store.close().unwrap();
    let raw = Connection::open(&path).unwrap();
    let swap =
        "UPDATE topic SET ticket = (SELECT other.ticket FROM topic other WHERE other.topic <> topic.topic)";
    raw.execute(swap, []).unwrap();
    raw.close().unwrap();
    let mut store = open(&path);
    store.unlock(&key(1)).unwrap();
    assert!(matches!(store.topics(), Err(StoreError::Corrupt { .. })));
    assert_eq!(store.peer_inbox(&Author(here.0)).unwrap().unwrap()[..], [7; 32]);
    store.close().unwrap();
}

/// No body begins as what is sealed does; should one be stored all the same, it comes back as it was.
#[test]
fn a_body_that_looks_sealed_is_not_taken_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let mut store = open(&path);
    let author = DeviceKey::from_bytes(&[2; 32]).author();
    let bodies = [vec![1; 1], vec![1; 80], vec![], vec![0xa1]];
    let put = |store: &mut crate::store::Store, first: u32| {
        let tx = store.begin(Durability::Full).unwrap();
        for (number, body) in (first..).zip(&bodies) {
            let place = crate::projector::Place { epoch: 0, resets: 0, seq: Seq(u64::from(number) + 1) };
            let topic = ticket(0).topic();
            let receipt = Receipt { topic, generation: Generation([1; 16]), place, received: Millis(1) };
            let id = OperationId(*blake3::hash(&number.to_be_bytes()).as_bytes());
            let operation =
                NewOperation { id, author, log: LOG, seq_num: number, backlink: None, header: &[1], body };
            tx.await_predecessor(&receipt, &operation).unwrap();
        }
        tx.commit().unwrap();
    };
    put(&mut store, 0);
    store.unlock(&key(1)).unwrap();
    put(&mut store, 4);
    let rows = store.read_waiting(&author, &LOG, 0, 9).unwrap();
    assert_eq!(rows.len(), 8);
    for (row, body) in rows.iter().zip(bodies.iter().cycle()) {
        assert_eq!(&row.body, body);
    }
    store.close().unwrap();
}

/// A body of a kind nobody knows, whose name begins as that of a kind that is sealed.
#[test]
fn unknown_kinds_beside_those_that_are_sealed_are_exported_as_they_are() {
    for sealed_first in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("device.db"), folder.path().join("copy.db"));
        let mut store = open(&path);
        if sealed_first {
            store.unlock(&key(1)).unwrap();
        }
        let author = DeviceKey::from_bytes(&[2; 32]).author();
        let body = |kind: &str| [&[0xa1, 0x00, 0x60 | kind.len() as u8], kind.as_bytes()].concat();
        let bodies = [body("key.past2"), body("key.past"), body("room.created"), body("own.topics")];
        let tx = store.begin(Durability::Full).unwrap();
        for (number, body) in (0..).zip(&bodies) {
            let place = crate::projector::Place { epoch: 0, resets: 0, seq: Seq(u64::from(number) + 1) };
            let topic = ticket(0).topic();
            let receipt = Receipt { topic, generation: Generation([1; 16]), place, received: Millis(1) };
            let id = OperationId(*blake3::hash(body).as_bytes());
            let operation =
                NewOperation { id, author, log: LOG, seq_num: number, backlink: None, header: &[1], body };
            tx.await_predecessor(&receipt, &operation).unwrap();
        }
        tx.commit().unwrap();
        store.unlock(&key(1)).unwrap();
        let read = |store: &crate::store::Store| -> Vec<Vec<u8>> {
            store.read_waiting(&author, &LOG, 0, 9).unwrap().into_iter().map(|row| row.body).collect()
        };
        assert_eq!(read(&store), bodies);
        assert!(store.copy_to(&copy, &key(9)).unwrap());
        let mut copied = open(&copy);
        copied.unlock(&key(9)).unwrap();
        assert_eq!(read(&copied), bodies);
        copied.change_key(None).unwrap();
        assert!(!copied.is_sealed());
        assert_eq!(read(&copied), bodies);
        // What waits takes as much room as its bytes, sealed or not.
        for path in [&path, &copy] {
            let raw = Connection::open(path).unwrap();
            let counts = |sql: &str| raw.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            let counted = counts("SELECT sum(bytes) FROM pending_size");
            assert_eq!(counted, counts("SELECT sum(length(bytes) + ifnull(length(header), 0)) FROM pending"));
        }
        copied.close().unwrap();
        store.close().unwrap();
    }
}
