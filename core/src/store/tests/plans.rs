//! Hot queries are lookups or range scans: none reads a whole table or sorts what it reads. Which queries are hot
//! is not listed but recorded, while a device works.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::engine::ingest::tests_spaces::read_a_small_space;
use crate::engine::ingest::tests_support::{Device, LOG, Writer, ticket};
use crate::engine::ingest::{place, publish_local, settle_overdue, settle_ready};
use crate::identity::{Author, EnvelopeHash, Millis, OperationId};
use crate::ops::{Content, DocumentPart, HybridTime, KeyValue, SessionId, ValueKey};
use crate::store::{NewOutboxRow, Origin, Page, Search, Times, ValuePage};
use crate::sync::outbox::Requeued;
use crate::topic::{Generation, Seq};

thread_local! {
    static RECORDED: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// Called with every statement a test runs.
pub(in crate::store) fn record(sql: &str) {
    RECORDED.with_borrow_mut(|recorded| recorded.insert(sql.to_owned()));
}

/// A table of one row, and what a step before has read by an index.
const SMALL: &[&str] = &[
    "SCAN tally",
    "SCAN CONSTANT ROW",
    "SCAN (subquery",
    // One row; the full-text index, by the words that are looked for; as many spaces as one has joined.
    "SCAN text_upto",
    "SCAN f VIRTUAL TABLE INDEX",
    "SCAN space",
    // As many as one has.
    "SCAN t USING COVERING INDEX direct_thread_topic",
];
/// What reads little by nature and sorts it then: the reactions of one message, the one operation of a hash (found by
/// its first bytes), the states of one topic's rows, the epochs of one log,
/// what waits in direct threads, the envelopes of one operation, the keys of one log, the sessions with one device,
/// the rooms of one space.
const MAY_SORT: &[&str] = &[
    "direct_thread t",
    "direct_envelope",
    "FROM handed WHERE",
    "FROM key_ask WHERE",
    "FROM key_past WHERE",
    "FROM rotation",
    "FROM space_log WHERE",
    "FROM two_party WHERE",
    "reaction r",
    "UNION ALL",
    "GROUP BY",
    "count(DISTINCT",
];

fn work() -> Device {
    let (mut device, mut ada, mut ben) = (Device::new(), Writer::new(1), Writer::new(2));
    let topic = ticket(0).topic();
    device.write(|tx| tx.add_gap(topic, 0, Seq(1), Seq(1)).unwrap());
    let hello = ada.say("hello");
    let (edit, other, delete) = (ada.edit(hello.id(), "hi"), ada.say("other"), ada.delete(hello.id()));
    let (react, late) = (ben.react(hello.id(), "👍", true), ben.say("late"));
    for (seq, op) in [(2, &edit), (3, &hello), (4, &delete), (5, &late), (6, &react), (7, &other)] {
        device.receive(seq, op);
    }
    device.write(|tx| settle_ready(tx, topic).unwrap());
    device.resets = 1;
    device.receive(1, &other);
    let (mut own, envelope) = (Writer::new(3), b"envelope".as_slice());
    let op = own.say("own");
    let context = device.context(0, 9);
    device.write(|tx| {
        publish_local(tx, topic, &op, Millis(1)).unwrap();
        let (hash, origin) = (EnvelopeHash::of(envelope), Origin::Own);
        let row = NewOutboxRow { topic, operation: op.id(), hash, envelope, origin, not_before: Millis(0) };
        let id = tx.outbox_push(&row).unwrap();
        tx.outbox_sent(&[id], 1, Millis(1), Millis(2)).unwrap();
        tx.outbox_requeue(&[Requeued { id, tries: 1, not_before: Millis(5) }]).unwrap();
        tx.outbox_operation(topic, hash).unwrap();
        place(tx, &context, &op.id()).unwrap();
        tx.outbox_envelope(id).unwrap();
        tx.outbox_remove(id).unwrap();
        tx.waiting_for_key(topic, &[1; 8], 8).unwrap();
        tx.missing_after_reset(topic, &Generation([1; 16]), 1).unwrap();
    });
    key_values(&mut device);
    documents(&mut device);
    fork(&mut device);
    read_a_small_space();
    let middle = device.messages()[1].position;
    for page in [Page::Newest, Page::Before(middle), Page::After(middle)] {
        device.store.messages(&LOG, page, 50).unwrap();
        for author in [ada.author(), ben.author()] {
            device.store.messages_by(&LOG, &author, Times::default(), page, 50).unwrap();
        }
    }
    device.store.message(&other.id()).unwrap();
    device.store.message_history(&hello.id()).unwrap();
    device.store.reactions(&hello.id()).unwrap();
    device.store.profiles(&ada.author()).unwrap();
    device.store.profile(&ada.author(), &LOG).unwrap();
    device.store.list_operations(None, 50).unwrap();
    read(&device, &ada.author());
    keys(&device, &ada.author());
    device.store.log_heads(&LOG).unwrap();
    device.store.standing(topic).unwrap();
    device
}

/// What the engine asks for of keys that move, of inboxes and of direct threads.
fn keys(device: &Device, who: &Author) {
    let (topic, id, peer) = (ticket(0).topic(), OperationId([1; 32]), (*who).into());
    let db = &device.store;
    db.rotations(topic).unwrap();
    db.is_rotator(&LOG, who).unwrap();
    db.topics_of_log(LOG).unwrap();
    db.living_in(topic).unwrap();
    db.unplaced(who, &LOG).unwrap();
    db.handed_to(&LOG, who).unwrap();
    db.holders(&LOG, 1, &topic).unwrap();
    db.key_asks(&LOG).unwrap();
    db.has_asked(&LOG, 1, who, None).unwrap();
    db.past_keys(&LOG, 1).unwrap();
    db.logs_of_space(&LOG).unwrap();
    db.device_bundle(who).unwrap();
    db.devices_of(&peer).unwrap();
    db.identity_of(who).unwrap();
    db.latest_session(who).unwrap();
    db.session_ended(who, SessionId([1; 8])).unwrap();
    db.stuck_sessions(Millis(1)).unwrap();
    db.direct_operation(topic, &EnvelopeHash([1; 32])).unwrap();
    db.direct_envelopes(&id).unwrap();
}

/// What apps ask for beside pages of messages.
fn read(device: &Device, who: &Author) {
    let db = &device.store;
    let (_, next) = db.messages_received(&LOG, Times::default(), None, 1).unwrap();
    db.messages_received(&LOG, Times::default(), next, 50).unwrap();
    db.mentions(who, None, None, 50).unwrap();
    db.mentions(who, Some(&LOG), None, 50).unwrap();
    db.unread(&LOG, who).unwrap();
    db.spaces().unwrap();
    db.space(&LOG).unwrap();
    db.rooms(&LOG).unwrap();
    db.room(&LOG).unwrap();
    db.members_after(&LOG, Some(&(*who).into()), 50).unwrap();
    db.invites(&LOG).unwrap();
    db.audit(&LOG, Some((1, OperationId([0; 32]))), 50).unwrap();
    db.requests(&LOG).unwrap();
    db.unjudged(&LOG).unwrap();
    for since in [None, Some(Millis(1))] {
        let search = Search { words: "other".into(), log: Some(LOG), since, ..Search::default() };
        db.search(&search, 50).unwrap();
    }
}

/// Values of keys, one of which is replaced by name, and one of which goes with its log.
fn key_values(device: &mut Device) {
    let (mut ada, mut ben) = (Writer::new(6), Writer::new(7));
    let at = ValueKey::new("collection", "key");
    let write = |writer: &mut Writer, replaces| {
        let (at, value, time) = (at.clone(), Some(b"value".to_vec()), HybridTime::MAX);
        writer.write(Content::KeyValue(Box::new(KeyValue { at, value, time, replaces })))
    };
    let first = write(&mut ada, Vec::new());
    let (start, mut branch) = (ben.say("start"), ben.branch());
    let over = write(&mut ben, vec![first.id()]);
    for (seq, op) in [(50, &first), (51, &start), (53, &over), (52, &branch.say("second branch"))] {
        device.receive(seq, op);
    }
    device.store.value(&LOG, &at).unwrap().unwrap();
    device.store.values(&LOG, "collection", &ValuePage::default(), 50).unwrap();
}

/// A document, and what goes with its log.
fn documents(device: &mut Device) {
    let (mut ada, mut ben) = (Writer::new(8), Writer::new(9));
    let made = ada.write(Content::DocumentCreate { path: "a/b".into() });
    let (start, mut branch) = (ben.say("start"), ben.branch());
    let part = DocumentPart { document: made.id(), bytes: vec![7], snapshot: false };
    let part = ben.write(Content::DocumentPart(Box::new(part)));
    for (seq, op) in [(60, &made), (61, &start), (63, &part), (62, &branch.say("second branch"))] {
        device.receive(seq, op);
    }
    device.store.documents(&LOG, "a/", Some(made.id()), 50).unwrap();
    device.store.document_parts(&LOG, made.id(), 0, 50).unwrap();
}

/// A log that ends, with everything in it that has a row, and one that waits too long.
fn fork(device: &mut Device) {
    let mut one = Writer::new(4);
    let (zero, gone) = (one.say("0"), one.delete(OperationId([1; 32])));
    let mut other = Writer::new(4);
    other.say("0");
    device.resets = 0;
    for (seq, op) in [(20, &zero), (30, &gone), (25, &other.say("second branch")), (40, &one.say("ended"))] {
        device.receive(seq, op);
    }
    let mut late = Writer::new(5);
    late.say("never comes");
    device.receive(41, &late.say("waits"));
    device.write(|tx| settle_overdue(tx, ticket(0).topic()).unwrap());
}

#[test]
fn hot_queries_use_an_index_for_all_they_read() {
    // Making the database is not hot.
    drop(Device::new());
    RECORDED.take();
    let device = work();
    let recorded = RECORDED.take();
    let statements = recorded.iter().filter(|sql| {
        let verb = sql.split_whitespace().next().unwrap_or_default();
        matches!(verb, "SELECT" | "INSERT" | "UPDATE" | "DELETE")
            // Opening a topic and a database, not work in them.
            && !sql.contains("count(*) FROM topic WHERE") && !sql.contains("sqlite_schema")
            && !sql.ends_with("\" LIMIT 1")
    });
    let mut looked_at = 0;
    for sql in statements {
        let mut asked = sql.clone();
        for n in (1..=14).rev() {
            asked = asked.replace(&format!("?{n}"), "1");
        }
        let plan = device
            .store
            .all(&format!("EXPLAIN QUERY PLAN {asked}"), [], |row| row.get::<_, String>(3))
            .unwrap();
        for step in &plan {
            let small = SMALL.iter().any(|small| step.contains(small));
            let sorts = step.contains("TEMP B-TREE") && !MAY_SORT.iter().any(|may| sql.contains(may));
            // A range without any equality before it is the whole index, whatever it is called.
            let whole =
                step.ends_with("(author>?)") || step.ends_with("(topic>?)") || step.ends_with("(log>?)");
            assert!(small || !(step.starts_with("SCAN") || sorts || whole), "{sql}\n{plan:#?}");
        }
        looked_at += 1;
    }
    assert!(looked_at > 40, "only {looked_at} statements were recorded");
}
