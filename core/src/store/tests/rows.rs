//! Topics, cursors, outbox and pending: what goes in comes out, up to the limits and not past them.

use crate::crypto::Session;
use crate::engine::ingest::tests_support::{Device, LOG, Writer, ticket};
use crate::engine::ingest::{Context, Ingested, await_key, ingest};
use crate::identity::{Author, EnvelopeHash, Millis, OperationId};
use crate::limits::{
    MAX_INBOX_PER_SENDER, MAX_INBOX_SENDERS, MAX_OUTBOX_BYTES, MAX_OUTBOX_ROWS, MAX_PENDING_BYTES,
    MAX_PENDING_KEY_BYTES, MAX_PENDING_PER_AUTHOR, MAX_TOPICS,
};
use crate::ops::{SessionId, Ticket, VerifiedOperation};
use crate::projector::Place;
use crate::store::{
    Durability, InboxRow, LimitReached, NewOutboxRow, Origin, OutboxCounts, PendingReason, Receipt, SeqRange,
    Store, StoreError, Tx,
};
use crate::sync::outbox::Requeued;
use crate::sync::session::Cursor;
use crate::topic::{Chain, Generation, Seq, SignedHead, TopicId, WriteKey};

const TOPIC: TopicId = TopicId([4; 32]);

fn row(envelope: &[u8]) -> NewOutboxRow<'_> {
    NewOutboxRow {
        topic: TOPIC,
        operation: OperationId([1; 32]),
        hash: EnvelopeHash::of(envelope),
        envelope,
        origin: Origin::Own,
        not_before: Millis(0),
    }
}

fn begin(store: &mut Store) -> Tx<'_> {
    store.begin(Durability::Normal).unwrap()
}

#[test]
fn a_topic_keeps_its_ticket_cursor_and_checked_head() {
    let mut store = Store::in_memory().unwrap();
    let (full, topic) = (ticket(3), ticket(3).topic());
    let tx = begin(&mut store);
    tx.put_topic(&full.read_only(), Millis(5)).unwrap();
    tx.put_topic(&full, Millis(6)).unwrap();
    tx.set_subscribed(topic, true).unwrap();
    let cursor = Cursor { generation: Generation([1; 16]), resets: 2, seq: Seq(9), chain: Chain([3; 32]) };
    tx.set_cursor(topic, &cursor).unwrap();
    let head = SignedHead { head: Seq(9), chain: Chain([3; 32]), signature: [8; 64] };
    tx.set_head(topic, &cursor, &head).unwrap();
    tx.commit().unwrap();
    let loaded = store.load().unwrap().topics.remove(0);
    assert_eq!((loaded.topic, loaded.subscribed, loaded.added), (topic, true, Millis(5)));
    assert!(loaded.ticket.can_write());
    assert_eq!((loaded.ticket.log(), loaded.ticket.epoch()), (LOG, 3));
    assert_eq!(loaded.cursor, Some(cursor));
    assert_eq!(store.signed_head(topic).unwrap(), Some(head));
    // Another generation's head is not ours to compare.
    let tx = begin(&mut store);
    tx.set_cursor(topic, &Cursor { generation: Generation([2; 16]), ..cursor }).unwrap();
    tx.commit().unwrap();
    assert_eq!(store.signed_head(topic).unwrap(), None);
}

#[test]
fn a_device_has_its_most_topics_and_no_more() {
    let mut store = Store::in_memory().unwrap();
    let many = |n: usize| {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&(n as u64).to_be_bytes());
        Ticket::private(LOG, 0, WriteKey::from_seed(seed), [0; 32])
    };
    let tx = begin(&mut store);
    for n in 0..MAX_TOPICS {
        tx.put_topic(&many(n), Millis(0)).unwrap();
    }
    let past = tx.put_topic(&many(MAX_TOPICS), Millis(0));
    assert!(matches!(past, Err(StoreError::Limit(LimitReached::Topics))), "{past:?}");
    tx.put_topic(&many(0), Millis(0)).unwrap();
}

#[test]
fn an_outbox_row_goes_from_queued_to_sent_and_back_and_away() {
    let mut store = Store::in_memory().unwrap();
    let tx = begin(&mut store);
    let (a, b) = (tx.outbox_push(&row(b"a")).unwrap(), tx.outbox_push(&row(b"bb")).unwrap());
    assert!(a < b);
    assert_eq!(tx.outbox_push(&row(b"a")).unwrap(), a, "the same envelope is one row");
    let rows = |tx: &Tx<'_>| -> Vec<_> {
        let rows = tx.outbox_entries().unwrap();
        rows.into_iter().map(|row| (row.id, row.maybe_sent, row.not_before.0)).collect()
    };
    assert_eq!(rows(&tx), [(a, false, 0), (b, false, 0)]);
    tx.outbox_sent(&[a, b], 1, Millis(10), Millis(50)).unwrap();
    assert_eq!(rows(&tx), [(a, true, 50), (b, true, 50)]);
    assert_eq!(tx.outbox_counts(TOPIC).unwrap(), OutboxCounts { queued: 0, sent: 2, parked: 0 });
    tx.outbox_requeue(&[Requeued { id: a, tries: 1, not_before: Millis(11) }]).unwrap();
    tx.outbox_park(b, "too-few-relays").unwrap();
    assert_eq!(tx.outbox_counts(TOPIC).unwrap(), OutboxCounts { queued: 1, sent: 0, parked: 1 });
    assert_eq!(tx.outbox_parked(TOPIC).unwrap(), [("too-few-relays".to_owned(), 1)]);
    let entries = tx.outbox_entries().unwrap();
    assert_eq!((entries[0].tries, entries[0].maybe_sent, entries[0].not_before), (1, true, Millis(11)));
    assert!(entries[1].parked);
    let removed = tx.outbox_remove(a).unwrap().unwrap();
    assert_eq!((removed.operation, removed.origin, removed.len), (OperationId([1; 32]), Origin::Own, 1));
    assert_eq!(tx.outbox_remove(a).unwrap(), None);
    assert_eq!(tx.outbox_size().unwrap(), (1, 2));
    assert!(tx.outbox_push(&row(b"c")).unwrap() > b, "ids are never used twice");
}

#[test]
fn the_outbox_takes_its_most_rows_and_no_more() {
    let mut store = Store::in_memory().unwrap();
    let tx = begin(&mut store);
    for n in 0..MAX_OUTBOX_ROWS as u32 {
        tx.outbox_push(&row(&n.to_be_bytes())).unwrap();
    }
    let past = tx.outbox_push(&row(b"one more"));
    assert!(matches!(past, Err(StoreError::Limit(LimitReached::OutboxRows))), "{past:?}");
    assert_eq!(tx.outbox_size().unwrap(), (MAX_OUTBOX_ROWS as u64, 4 * MAX_OUTBOX_ROWS as u64));
}

#[test]
fn the_outbox_takes_its_most_bytes_and_no_more() {
    let mut store = Store::in_memory().unwrap();
    let tx = begin(&mut store);
    // The trigger's count stands in for a quarter of a gigabyte of envelopes.
    tx.outbox_push(&row(b"12345678")).unwrap();
    tx.run("UPDATE tally SET outbox_bytes = ?1", [(MAX_OUTBOX_BYTES - 4) as i64]).unwrap();
    let past = tx.outbox_push(&row(b"12345"));
    assert!(matches!(past, Err(StoreError::Limit(LimitReached::OutboxBytes))), "{past:?}");
    tx.outbox_push(&row(b"1234")).unwrap();
}

#[test]
fn what_waits_for_a_key_is_bounded_and_the_rest_is_read_again() {
    let mut store = Store::in_memory().unwrap();
    let tx = begin(&mut store);
    let receipt = |seq: u64| Receipt {
        topic: TOPIC,
        generation: Generation([1; 16]),
        place: Place { epoch: 0, resets: 0, seq: Seq(seq) },
        received: Millis(seq),
    };
    let envelope = vec![0; 1024 * 1024];
    let fits = MAX_PENDING_KEY_BYTES / envelope.len() as u64;
    for seq in 1..=fits {
        assert_eq!(tx.await_key(&receipt(seq), &[5; 8], &envelope).unwrap(), PendingReason::Key, "{seq}");
    }
    let count = tx.pending_count(TOPIC).unwrap();
    assert_eq!((count.key, count.bytes), (fits, MAX_PENDING_KEY_BYTES));
    assert_eq!(tx.refetches(TOPIC).unwrap(), []);
    // What is new takes the place of the oldest.
    assert_eq!(tx.await_key(&receipt(fits + 1), &[6; 8], b"x").unwrap(), PendingReason::Key);
    assert_eq!(tx.await_key(&receipt(fits + 2), &[5; 8], &envelope).unwrap(), PendingReason::Key);
    let count = tx.pending_count(TOPIC).unwrap();
    assert_eq!((count.key, count.bytes), (fits, MAX_PENDING_KEY_BYTES - envelope.len() as u64 + 1));
    let range = SeqRange { resets: 0, from: Seq(1), to: Seq(2) };
    assert_eq!(tx.refetches(TOPIC).unwrap(), [(Generation([1; 16]), range)], "joined");
    // When the key comes, what waits is taken out in order.
    let waiting = tx.waiting_for_key(TOPIC, &[5; 8], 2).unwrap();
    assert_eq!(waiting.iter().map(|row| row.receipt.place.seq.0).collect::<Vec<_>>(), [3, 4]);
    for row in tx.waiting_for_key(TOPIC, &[5; 8], 100).unwrap() {
        tx.remove_pending(&row.receipt).unwrap();
    }
    assert_eq!(tx.pending_count(TOPIC).unwrap().bytes, 1);
    tx.remove_refetch(TOPIC, range).unwrap();
    assert_eq!(tx.refetches(TOPIC).unwrap(), []);
}

#[test]
fn what_waits_for_a_predecessor_is_bounded_and_has_its_room_for_itself() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let _first = writer.say("never comes");
    let ops = [writer.say("a"), writer.say("b"), writer.say("c")];
    let len = |op: &VerifiedOperation| (op.header().len() + op.body_bytes().len()) as u64;
    let topic = ticket(0).topic();
    let receive = |device: &mut Device, n: usize| device.receive(n as u64 + 1, &ops[n]);
    assert_eq!(receive(&mut device, 0), Ingested::Pending(PendingReason::Predecessor));
    let key_waits = device.context(0, 10);
    device.write(|tx| {
        await_key(tx, &key_waits, &[5; 8], &vec![0; 1024 * 1024]).unwrap();
        // The trigger's count stands in for 64 MiB of operations.
        let bytes = MAX_PENDING_BYTES - len(&ops[1]) + 1024 * 1024;
        tx.run("UPDATE pending_size SET bytes = ?1", [bytes as i64]).unwrap();
    });
    assert_eq!(receive(&mut device, 1), Ingested::Pending(PendingReason::Predecessor), "exactly full");
    assert_eq!(receive(&mut device, 2), Ingested::Pending(PendingReason::Refetch));
    assert_eq!(device.store.pending_count(topic).unwrap().predecessor, 2);
}

#[test]
fn what_waits_of_one_author_is_bounded() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let _first = writer.say("never comes");
    let ops: Vec<_> = (0..=MAX_PENDING_PER_AUTHOR).map(|_| writer.say("x")).collect();
    let first = device.context(0, 1);
    let outcomes = device.write(|tx| {
        let each = (2..).zip(&ops);
        each.map(|(seq, op)| ingest(tx, &Context { seq: Seq(seq), ..first }, op).unwrap()).collect::<Vec<_>>()
    });
    let (last, before) = outcomes.split_last().unwrap();
    let waits = Ingested::Pending(PendingReason::Predecessor);
    assert!(before.iter().all(|outcome| *outcome == waits));
    assert_eq!(*last, Ingested::Pending(PendingReason::Refetch));
}

#[test]
fn an_inbox_has_room_for_its_most_senders_until_a_fresh_one_is_opened() {
    let mut store = Store::in_memory().unwrap();
    let tx = begin(&mut store);
    let sender = |number: u64| Author(*blake3::hash(&number.to_be_bytes()).as_bytes());
    for number in 0..MAX_INBOX_SENDERS {
        assert!(tx.inbox_has_room(&sender(number)).unwrap());
        tx.count_inbox(&sender(number)).unwrap();
    }
    assert!(tx.inbox_has_room(&sender(7)).unwrap(), "who is known may write on");
    assert!(!tx.inbox_has_room(&sender(MAX_INBOX_SENDERS)).unwrap());
    for _ in 1..MAX_INBOX_PER_SENDER {
        tx.count_inbox(&sender(7)).unwrap();
    }
    assert!(!tx.inbox_has_room(&sender(7)).unwrap());
    tx.put_inbox(&InboxRow { topic: TopicId([1; 32]), made: Millis(1), until: Millis(2) }).unwrap();
    assert!(tx.inbox_has_room(&sender(7)).unwrap() && tx.inbox_has_room(&sender(MAX_INBOX_SENDERS)).unwrap());
}

#[test]
fn settings_and_idempotency_keys_are_remembered() {
    let mut store = Store::in_memory().unwrap();
    let tx = begin(&mut store);
    tx.set_setting("instance", b"1").unwrap();
    tx.set_setting("instance", b"2").unwrap();
    tx.remember_idempotent(b"key", &OperationId([1; 32]), Millis(1)).unwrap();
    tx.remember_idempotent(b"key", &OperationId([2; 32]), Millis(2)).unwrap();
    tx.commit().unwrap();
    assert_eq!(store.setting("instance").unwrap().as_deref(), Some(b"2".as_slice()));
    assert_eq!(store.idempotent(b"key").unwrap(), Some(OperationId([1; 32])));
    assert_eq!(store.idempotent(b"other").unwrap(), None);
}

#[test]
fn two_devices_may_use_one_name_for_their_sessions() {
    let mut store = Store::in_memory().unwrap();
    let session = |peer: u8, opened: u8| {
        let fields =
            [&[2][..], &[7; 8], &[peer; 32], &[0; 4], &[0, 0, 0, opened], &[0; 12], b"state"].concat();
        Session::from_bytes(&fields).unwrap()
    };
    let tx = store.begin(Durability::Full).unwrap();
    for (peer, opened) in [(1, 1), (2, 2), (1, 3)] {
        tx.put_session(&session(peer, opened), Millis(1)).unwrap();
    }
    tx.commit().unwrap();
    let stored = |peer| store.session(&Author([peer; 32]), SessionId([7; 8])).unwrap();
    assert_eq!((stored(1), stored(2)), (Some(session(1, 3)), Some(session(2, 2))));
    assert_eq!(stored(3), None);
}

#[test]
fn a_bundle_that_claims_too_much_gives_way_and_takes_nobodys_place() {
    let key = crate::ops::DeviceKey::from_bytes(&[1; 32]);
    let (now, day) = (Millis(1_800_000_000_000), 24 * 3_600_000);
    let mut store = Store::in_memory().unwrap();
    let tx = store.begin(Durability::Full).unwrap();
    let put = |seq_num, days: u64| {
        let expires = now.plus(days * day);
        let keys = crate::ops::KeyBundle {
            identity: [1; 32],
            prekey: [2; 32],
            signature: [3; 64],
            expires,
            inbox: None,
        };
        let body = crate::ops::Body::new(crate::ops::Content::DeviceBundle(keys));
        let before = (seq_num > 0).then_some(OperationId([9; 32]));
        let operation = crate::ops::create(&key, LOG, seq_num, before, &body).unwrap();
        tx.put_device_bundle(&operation, expires, now).unwrap();
        let kept = tx.device_bundle(&key.author()).unwrap().unwrap();
        kept.bundle().expires.since(now) / day
    };
    assert_eq!(put(0, 400), 400, "while there is no other");
    assert_eq!(put(1, 60), 60);
    assert_eq!(put(2, 91), 60);
    assert_eq!(put(3, 59), 60);
    assert_eq!(put(4, 61), 61);
}
