//! Secrets at rest: no file shows them, no other key opens them, and what was stored before is sealed too.

use std::path::Path;

use rusqlite::Connection;

use crate::crypto::{DeviceSecrets, GroupCrypto, TwoParty};
use crate::engine::ingest::publish_local;
use crate::engine::ingest::tests_support::{LOG, ticket};
use crate::entropy::SeededEntropy;
use crate::identity::{Author, LogId, Millis, OperationId, ThreadId};
use crate::ops::{
    Action, Body, Content, DeviceKey, EpochKeys, Hidden, InviteTerms, KeyBundle, Level, OwnDevices, OwnPast,
    OwnThread, RoomKeys, RoomText, Stage, ThreadPlace, Ticket, TicketBytes, VerifiedOperation, create,
};
use crate::projector::Place;
use crate::store::{
    Durability, ForkProof, NewOperation, Receipt, Store, StoreError, StoreKey, StoreOptions, ThreadRow,
    ThreadState, beside,
};
use crate::topic::{Generation, Seq};

pub(super) fn open(path: &Path) -> Store {
    Store::open(path, StoreOptions::default()).unwrap()
}

pub(super) fn key(byte: u8) -> StoreKey {
    StoreKey::new([byte; 32])
}

/// What is written, and every form in which its secrets could stand in a file.
fn secrets() -> (Ticket, DeviceSecrets, Vec<Vec<u8>>) {
    let device = TwoParty.generate(Millis(1), &mut SeededEntropy::new([4; 32])).unwrap();
    let ticket = ticket(0);
    let text = ticket.to_string();
    // The ticket's end is its secret; the device's secrets hold several, in pieces of 16 bytes.
    let mut needles = vec![text.as_bytes()[text.len() - 40..].to_vec(), vec![0xab; 32]];
    needles.extend(device.to_bytes().unwrap()[1..].chunks_exact(16).map(<[u8]>::to_vec));
    (ticket, device, needles)
}

fn write(store: &mut Store, ticket: &Ticket, device: &DeviceSecrets) {
    let tx = store.begin(Durability::Full).unwrap();
    tx.put_topic(ticket, Millis(0)).unwrap();
    tx.set_read_key(ticket.topic(), Some(&[0xab; 32])).unwrap();
    tx.put_device_secrets(&device.to_bytes().unwrap()).unwrap();
    tx.commit().unwrap();
}

/// Which of the needles some file of the database holds.
pub(super) fn found(path: &Path, needles: &[Vec<u8>]) -> usize {
    let files = [path.to_path_buf(), beside(path, "-wal"), beside(path, "-shm"), beside(path, ".lock")];
    let bytes: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap_or_default()).collect();
    let holds = |needle: &&Vec<u8>| {
        bytes.iter().any(|bytes| bytes.windows(needle.len()).any(|window| window == needle.as_slice()))
    };
    needles.iter().filter(holds).count()
}

#[test]
fn no_file_of_the_database_shows_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let (ticket, device, needles) = secrets();
    let clear = folder.path().join("clear.db");
    let mut store = open(&clear);
    write(&mut store, &ticket, &device);
    assert_eq!(found(&clear, &needles), needles.len(), "the search finds what is there");
    let sealed = folder.path().join("sealed.db");
    let mut other = open(&sealed);
    other.unlock(&key(1)).unwrap();
    write(&mut other, &ticket, &device);
    assert_eq!(found(&sealed, &needles), 0, "in the log");
    other.checkpoint().unwrap();
    assert_eq!(found(&sealed, &needles), 0, "in the file");
    // What was written before is sealed when a key comes.
    store.checkpoint().unwrap();
    store.unlock(&key(1)).unwrap();
    assert_eq!(found(&clear, &needles), 0, "sealed afterwards");
    for mut store in [store, other] {
        assert_eq!(store.topic(ticket.topic()).unwrap().unwrap().ticket.to_string(), ticket.to_string());
        assert_eq!(store.read_key(ticket.topic()).unwrap().unwrap()[..], [0xab; 32]);
        assert_eq!(
            store.device_secrets().unwrap().unwrap().to_bytes().unwrap()[..],
            device.to_bytes().unwrap()[..]
        );
        let reader = store.reader().unwrap();
        assert_eq!(reader.topics().unwrap().len(), 1, "a reader has the key");
        write(&mut store, &ticket, &device);
        store.close().unwrap();
    }
    assert_eq!(found(&clear, &needles) + found(&sealed, &needles), 0);
}

#[test]
fn without_the_key_or_with_another_nothing_opens_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let (ticket, device, _) = secrets();
    let mut store = open(&path);
    assert!(!store.is_sealed());
    store.unlock(&key(1)).unwrap();
    write(&mut store, &ticket, &device);
    store.close().unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut store = open(&path);
    assert!(store.is_sealed());
    assert!(matches!(store.topics(), Err(StoreError::KeyMissing { .. })));
    assert!(matches!(store.device_secrets(), Err(StoreError::KeyMissing { .. })));
    let tx = store.begin(Durability::Full).unwrap();
    assert!(matches!(tx.put_topic(&ticket, Millis(1)), Err(StoreError::KeyMissing { .. })));
    drop(tx);
    assert!(matches!(store.unlock(&key(2)), Err(StoreError::WrongKey { .. })));
    assert!(matches!(store.topics(), Err(StoreError::KeyMissing { .. })));
    store.unlock(&key(1)).unwrap();
    assert_eq!(store.topics().unwrap().len(), 1);
    store.close().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_copy_for_an_export_is_sealed_with_a_key_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("device.db"), folder.path().join("copy.db"));
    let (ticket, device, needles) = secrets();
    let mut store = open(&path);
    store.unlock(&key(1)).unwrap();
    write(&mut store, &ticket, &device);
    assert!(store.reader().unwrap().copy_to(&copy, &key(9)).unwrap());
    assert_eq!(found(&copy, &needles), 0);
    let mut copied = open(&copy);
    assert!(matches!(copied.unlock(&key(1)), Err(StoreError::WrongKey { .. })));
    assert!(matches!(copied.change_key(Some(&key(2))), Err(StoreError::KeyMissing { .. })));
    copied.unlock(&key(9)).unwrap();
    // Whoever takes it in seals it with a key of its own, or not at all.
    for (to, expected) in [(Some(key(2)), 0), (None, needles.len()), (Some(key(3)), 0)] {
        match &to {
            Some(to) if !copied.is_sealed() => copied.unlock(to).unwrap(),
            to => copied.change_key(to.as_ref()).unwrap(),
        }
        assert_eq!(copied.topic(ticket.topic()).unwrap().unwrap().ticket.to_string(), ticket.to_string());
        copied.close().unwrap();
        assert_eq!(found(&copy, &needles), expected);
        copied = open(&copy);
        assert_eq!(copied.is_sealed(), to.is_some());
        to.iter().for_each(|to| copied.unlock(to).unwrap());
        assert_eq!(
            copied.device_secrets().unwrap().unwrap().to_bytes().unwrap()[..],
            device.to_bytes().unwrap()[..]
        );
        copied.check().unwrap();
    }
    // The one it was made of is as it was.
    assert_eq!(store.topics().unwrap().len(), 1);
    store.close().unwrap();
    assert_eq!(found(&path, &needles), 0);
}

fn thread(write: u8) -> OwnThread {
    OwnThread {
        thread: ThreadId([6; 32]),
        stage: Stage::Open(ThreadPlace { log: LogId([5; 32]), write: Hidden([write; 32]) }),
        peer: Author([4; 32]),
        made: Millis(3),
        text: None,
        bundles: Vec::new(),
    }
}

const fn past_of(thread: OwnThread) -> OwnPast {
    OwnPast { thread, generation: Generation([1; 16]), said: Vec::new() }
}

/// Bodies that hand over keys, each with its own, and one that says the kinds' names.
fn bodies() -> Vec<(Content, Option<Vec<u8>>)> {
    let action = |action| Content::Membership(Box::new(action));
    let hidden = |byte| (Hidden([byte; 32]), Some(vec![byte; 32]));
    let ((write, _), (secret, room)) = (hidden(0xd1), hidden(0xd2));
    let ((token, invite), (past, epoch)) = (hidden(0xd3), hidden(0xd4));
    let about = RoomText { name: "Shed".to_owned(), ..RoomText::default() };
    let keys = RoomKeys { write, secret };
    let ((write, _), (secret, renewed)) = (hidden(0xdb), hidden(0xdc));
    let (room_id, keys_anew) = (LogId([9; 32]), RoomKeys { write, secret });
    let renewal = Action::RoomRenew { room: room_id, epoch: 1 << 16, from: 0, keys: keys_anew };
    let ticket = TicketBytes([0xdd; TicketBytes::LEN]);
    let welcome = EpochKeys::Welcome { request: OperationId([9; 32]), ticket };
    let terms = InviteTerms { token, level: Level::Write, expires: None, once: true };
    let own = OwnDevices::Topic { ticket: TicketBytes([0xd5; TicketBytes::LEN]) };
    let ((ask, request), (answer, accept)) = (hidden(0xd6), hidden(0xd7));
    let bundle = KeyBundle {
        identity: [1; 32],
        prekey: [2; 32],
        signature: [3; 64],
        expires: Millis(9),
        inbox: Some([0xd8; 32]),
    };
    let text = "room.create invite.create key.past own.topic own.thread own.past".to_owned();
    vec![
        (action(Action::RoomCreate { nonce: [7; 32], about, keys }), room),
        (action(renewal), renewed),
        (action(Action::InviteCreate(terms)), invite),
        (Content::EpochKeys(Box::new(welcome)), Some(vec![0xdd; 101])),
        (Content::EpochKeys(Box::new(EpochKeys::Past { epoch: 0, write: [8; 32], secret: past })), epoch),
        (Content::OwnDevices(Box::new(own)), Some(vec![0xd5; 101])),
        (Content::DirectRequest { share: ask, text: None }, request),
        (
            Content::DirectAccept {
                thread: ThreadId([6; 32]),
                share: answer,
                identity: None,
                bundles: Vec::new(),
            },
            accept,
        ),
        (Content::OwnDevices(Box::new(OwnDevices::Thread(Box::new(thread(0xd9))))), Some(vec![0xd9; 32])),
        (
            Content::OwnDevices(Box::new(OwnDevices::Past(Box::new(past_of(thread(0xda)))))),
            Some(vec![0xda; 32]),
        ),
        (Content::DeviceBundle(bundle), Some(vec![0xd8; 32])),
        (Content::MessageSend { text, reply: None, mentions: Vec::new(), attachments: Vec::new() }, None),
    ]
}

/// An author's log of them.
fn operations(key: &DeviceKey, log: LogId) -> Vec<VerifiedOperation> {
    let mut made: Vec<VerifiedOperation> = Vec::new();
    for (number, (content, _)) in (0..).zip(bodies()) {
        let backlink = made.last().map(VerifiedOperation::id);
        made.push(create(key, log, number, backlink, &Body::new(content)).unwrap());
    }
    made
}

#[test]
fn bodies_that_hand_over_keys_are_sealed_wherever_they_wait() {
    let folder = tempfile::tempdir().unwrap();
    let needles: Vec<Vec<u8>> = bodies().into_iter().filter_map(|(_, needle)| needle).collect();
    let (mine, other) = (DeviceKey::from_bytes(&[1; 32]), DeviceKey::from_bytes(&[2; 32]));
    let (own, waiting) = (operations(&mine, LOG), operations(&other, LOG));
    let topic = ticket(0).topic();
    let fill = |store: &mut Store| {
        let tx = store.begin(Durability::Full).unwrap();
        tx.put_topic(&ticket(0), Millis(0)).unwrap();
        for operation in &own {
            publish_local(&tx, topic, operation, Millis(1)).unwrap();
        }
        for (seq, operation) in (1..).zip(&waiting) {
            let place = Place { epoch: 0, resets: 0, seq: Seq(seq) };
            let receipt = Receipt { topic, generation: Generation([1; 16]), place, received: Millis(1) };
            tx.await_predecessor(&receipt, &NewOperation::from(operation)).unwrap();
        }
        tx.put_fork_proof(&other.author(), &LOG, &proof(&waiting[0])).unwrap();
        for operation in own.iter().filter(|it| matches!(it.body().content, Content::DeviceBundle(_))) {
            tx.put_device_bundle(operation, Millis(9), Millis(1)).unwrap();
        }
        tx.commit().unwrap();
    };
    let (before, after) = (folder.path().join("before.db"), folder.path().join("after.db"));
    let mut filled = open(&before);
    fill(&mut filled);
    filled.checkpoint().unwrap();
    assert_eq!(found(&before, &needles), needles.len(), "the search finds what is there");
    filled.unlock(&key(1)).unwrap();
    let mut sealed = open(&after);
    sealed.unlock(&key(1)).unwrap();
    fill(&mut sealed);
    for (path, mut store) in [(&before, filled), (&after, sealed)] {
        store.checkpoint().unwrap();
        assert_eq!(found(path, &needles), 0, "{path:?}");
        for operation in &own {
            let (_, body) = store.operation_bytes(&operation.id()).unwrap().unwrap();
            assert_eq!(body, operation.body_bytes());
            let stored = store.operation(&operation.id()).unwrap().unwrap();
            assert_eq!(stored.body.as_deref(), Some(operation.body_bytes()));
        }
        let entries = store.log_entries(&mine.author(), &LOG, 0, u32::MAX, 100).unwrap();
        let bodies: Vec<_> = entries.iter().map(|entry| entry.body.as_deref().unwrap()).collect();
        assert_eq!(bodies, own.iter().map(VerifiedOperation::body_bytes).collect::<Vec<_>>());
        for (row, operation) in store.read_waiting(&other.author(), &LOG, 0, 9).unwrap().iter().zip(&waiting)
        {
            assert_eq!(row.body, operation.body_bytes());
        }
        assert_eq!(store.fork_proof(&other.author(), &LOG).unwrap(), Some(proof(&waiting[0])));
        assert_eq!(store.device_bundle(&mine.author()).unwrap().unwrap().bundle().inbox, Some([0xd8; 32]));
        let tx = store.begin(Durability::Full).unwrap();
        tx.rebuild().unwrap();
        tx.commit().unwrap();
        // Text that names the kinds is no secret: it stays as it was.
        let raw = Connection::open(path).unwrap();
        let marked = "SELECT count(*) FROM operations WHERE substr(body, 1, 1) = x'01'";
        assert_eq!(raw.query_row(marked, [], |row| row.get::<_, i64>(0)).unwrap(), 11);
        raw.close().unwrap();
        // Opened again, an export holds them as they were.
        let copy = path.with_extension("copy");
        store.reader().unwrap().copy_to(&copy, &key(9)).unwrap();
        assert_eq!(found(&copy, &needles), 0);
        let mut copied = open(&copy);
        copied.unlock(&key(9)).unwrap();
        copied.change_key(None).unwrap();
        copied.close().unwrap();
        assert_eq!(found(&copy, &needles), needles.len());
        store.close().unwrap();
    }
}

fn proof(second: &VerifiedOperation) -> ForkProof {
    ForkProof {
        seq_num: 0,
        ends: Place { epoch: 0, resets: 0, seq: Seq(9) },
        first: (OperationId([9; 32]), vec![1]),
        second: (second.id(), second.header().to_vec()),
        second_body: Some(second.body_bytes().to_vec()),
    }
}

#[test]
fn what_reads_past_epochs_and_the_topic_of_ones_devices_are_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let mut store = open(&path);
    let tx = store.begin(Durability::Full).unwrap();
    tx.set_own_topic(&ticket(0)).unwrap();
    tx.commit().unwrap();
    store.close().unwrap();
    // As an earlier version has written it.
    let raw = Connection::open(&path).unwrap();
    let insert = "INSERT INTO key_past (log, epoch, operation, write_vk, secret) VALUES (?1, 3, ?2, ?3, ?4)";
    let write = ed25519_dalek::SigningKey::from_bytes(&[5; 32]).verifying_key().to_bytes();
    raw.execute(insert, rusqlite::params![LOG.0, [6_u8; 32], write, [0xdd_u8; 32]]).unwrap();
    raw.close().unwrap();
    let text = ticket(0).to_string();
    let needles = [text.into_bytes().split_off(120), vec![0xdd; 32]];
    assert_eq!(found(&path, &needles), 2);
    let mut store = open(&path);
    let past = store.past_keys(&LOG, 3).unwrap();
    assert_eq!(past.len(), 1);
    store.unlock(&key(1)).unwrap();
    assert_eq!(found(&path, &needles), 0);
    assert_eq!(store.own_topic().unwrap().unwrap().to_string(), ticket(0).to_string());
    assert_eq!(store.past_keys(&LOG, 3).unwrap()[0].to_string(), past[0].to_string());
    store.close().unwrap();
    let store = open(&path);
    assert!(matches!(store.own_topic(), Err(StoreError::KeyMissing { .. })));
    assert!(matches!(store.past_keys(&LOG, 3), Err(StoreError::KeyMissing { .. })));
}

#[test]
fn what_inboxes_and_direct_threads_keep_secret_is_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("before.db"), folder.path().join("after.db"));
    let needles: Vec<Vec<u8>> = (0xe1..=0xe3).map(|byte| vec![byte; 32]).collect();
    let (peer, thread, invite) = (Author([1; 32]), ThreadId([2; 32]), OperationId([3; 32]));
    let row = ThreadRow {
        thread,
        peer,
        state: ThreadState::Asked,
        text: None,
        log: None,
        topic: None,
        made: Millis(1),
        share: Some(Hidden([0xe1; 32])),
    };
    let fill = |store: &mut Store| {
        let tx = store.begin(Durability::Full).unwrap();
        tx.put_thread(&row).unwrap();
        tx.put_claim(&LOG, &invite, &Hidden([0xe2; 32]), Millis(1)).unwrap();
        tx.put_peer_inbox(&peer, &[0xe3; 32], Millis(9)).unwrap();
        tx.commit().unwrap();
    };
    let mut filled = open(&before);
    fill(&mut filled);
    assert_eq!(found(&before, &needles), 3, "the search finds what is there");
    filled.unlock(&key(1)).unwrap();
    let mut sealed = open(&after);
    sealed.unlock(&key(1)).unwrap();
    fill(&mut sealed);
    for (path, store) in [(&before, filled), (&after, sealed)] {
        assert_eq!(found(path, &needles), 0, "{path:?}");
        assert_eq!(store.direct_thread(&thread).unwrap(), Some(row.clone()));
        assert_eq!(store.direct_threads().unwrap(), std::slice::from_ref(&row));
        assert_eq!(store.claims().unwrap()[0].token, Hidden([0xe2; 32]));
        assert_eq!(store.peer_inbox(&peer).unwrap().unwrap()[..], [0xe3; 32]);
        store.close().unwrap();
    }
}

/// What is sealed is one transaction: wherever the log is cut, the database is as it was before or as it is after.
#[test]
fn case_65_a_crash_while_sealing_leaves_one_or_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let (ticket, device, needles) = secrets();
    let mut store = open(&path);
    write(&mut store, &ticket, &device);
    store.checkpoint().unwrap();
    let before = std::fs::read(&path).unwrap();
    // As when the power goes: the log is on the disk and not yet in the file.
    store.seal_without_cleaning(&key(1)).unwrap();
    let wal = std::fs::read(beside(&path, "-wal")).unwrap();
    let page = 4096 + 24;
    let (mut sealed, mut clear) = (0, 0);
    for cut in (32..=wal.len()).step_by(page) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.db");
        std::fs::write(&path, &before).unwrap();
        std::fs::write(beside(&path, "-wal"), &wal[..cut]).unwrap();
        let mut store = open(&path);
        if store.is_sealed() {
            sealed += 1
        } else {
            clear += 1
        }
        store.unlock(&key(1)).unwrap();
        assert_eq!(store.topics().unwrap()[0].ticket.to_string(), ticket.to_string(), "{cut}");
        assert_eq!(
            store.device_secrets().unwrap().unwrap().to_bytes().unwrap()[..],
            device.to_bytes().unwrap()[..]
        );
        store.close().unwrap();
        assert_eq!(found(&path, &needles), 0, "{cut}");
        // What follows in the log is older than the transaction.
        if sealed == 2 {
            break;
        }
    }
    assert!(sealed == 2 && clear > 1, "{sealed} {clear}");
}
