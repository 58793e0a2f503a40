//! Logs: predecessors, anchors, holes, places, own operations.

use super::support::{Device, LOG, Writer, ticket};
use crate::engine::ingest::{
    Ingested, MAX_OVERDUE, PublishError, Refusal, Settled, Taken, close, ingest, place, publish_local,
    settle_overdue, settle_ready, take,
};
use crate::identity::{Author, Millis, OperationId};
use crate::ops::{self, Body, Content, DeviceKey, VerifiedOperation};
use crate::store::{LogHole, NewOperation, PendingReason, TopicClose};
use crate::topic::{Generation, Seq};

fn stored(ingested: &Ingested) -> bool {
    matches!(ingested, Ingested::Stored { .. })
}

#[test]
fn an_operation_waits_for_its_predecessor_and_comes_with_it() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let ops: Vec<VerifiedOperation> = (0..4).map(|n| writer.say(&n.to_string())).collect();
    assert!(stored(&device.receive(1, &ops[0])));
    assert_eq!(device.receive(2, &ops[3]), Ingested::Pending(PendingReason::Predecessor));
    assert_eq!(device.receive(3, &ops[2]), Ingested::Pending(PendingReason::Predecessor));
    assert_eq!(device.texts(), ["0"]);
    let Ingested::Stored { changes } = device.receive(4, &ops[1]) else { panic!("not stored") };
    let mut ids: Vec<_> = ops[1..].iter().map(|op| op.id().0).collect();
    ids.sort();
    assert_eq!(changes.into_iter().map(|change| change.ids).collect::<Vec<_>>(), [ids]);
    assert_eq!(device.texts(), ["0", "1", "2", "3"]);
    assert_eq!(device.store.pending_count(ticket(0).topic()).unwrap(), Default::default());
    // 2 and 3 came to the server before 1: they are shown after it all the same.
    let places: Vec<_> = device.positions().iter().map(|position| position.place.seq.0).collect();
    assert_eq!(places, [1, 4, 4, 4]);
}

#[test]
fn at_ready_the_lowest_waiting_operation_of_an_unknown_author_becomes_its_anchor() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let ops: Vec<VerifiedOperation> = (0..6).map(|n| writer.say(&n.to_string())).collect();
    for (seq, n) in [(1, 3), (2, 4), (3, 5)] {
        assert_eq!(device.receive(seq, &ops[n]), Ingested::Pending(PendingReason::Predecessor));
    }
    let changes = device.write(|tx| settle_ready(tx, ticket(0).topic()).unwrap()).changes;
    assert_eq!(changes[0].ids.len(), 3);
    assert_eq!(device.texts(), ["3", "4", "5"]);
    let holes = |device: &Device| device.store.log_holes(&ops[0].author(), &LOG).unwrap();
    assert_eq!(holes(&device), [LogHole { from: 0, to: 2 }]);
    // The hole fills from history, in any order, and stays verified.
    assert!(stored(&device.receive(11, &ops[1])));
    assert_eq!(holes(&device), [LogHole { from: 0, to: 0 }, LogHole { from: 2, to: 2 }]);
    assert!(stored(&device.receive(12, &ops[2])));
    assert!(stored(&device.receive(13, &ops[0])));
    assert_eq!(holes(&device), []);
    assert_eq!(device.texts(), ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn what_waits_too_long_becomes_an_anchor_above_a_hole_that_can_still_fill() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let ops: Vec<VerifiedOperation> = (0..8).map(|n| writer.say(&n.to_string())).collect();
    assert!(stored(&device.receive(1, &ops[0])));
    for (seq, n) in [(2, 3), (3, 2), (4, 7), (5, 5)] {
        assert_eq!(device.receive(seq, &ops[n]), Ingested::Pending(PendingReason::Predecessor));
    }
    let changes = device.write(|tx| settle_overdue(tx, ticket(0).topic()).unwrap()).changes;
    assert_eq!(changes[0].ids.len(), 4);
    assert_eq!(
        device.texts(),
        ["0", "2", "3", "5", "7"],
        "across holes, too, one author's messages never swap"
    );
    let holes = |device: &Device| device.store.log_holes(&ops[0].author(), &LOG).unwrap();
    let open = [1, 4, 6].map(|n| LogHole { from: n, to: n });
    assert_eq!(holes(&device), open);
    assert_eq!(device.write(|tx| settle_overdue(tx, ticket(0).topic()).unwrap()), Settled::default());
    for (seq, n) in [(11, 6), (12, 1), (13, 4)] {
        assert!(stored(&device.receive(seq, &ops[n])));
    }
    assert_eq!(holes(&device), []);
    assert_eq!(device.texts(), ["0", "1", "2", "3", "4", "5", "6", "7"]);
}

#[test]
fn waiting_ends_for_so_many_in_one_transaction_and_for_the_rest_in_the_next() {
    let mut writer = Writer::new(1);
    // Every other one of a log: each of them becomes an anchor of its own.
    let ops: Vec<VerifiedOperation> = (0..2 * (MAX_OVERDUE + 1)).map(|_| writer.say("x")).collect();
    let every_other = ops.iter().skip(1).step_by(2);
    for (count, more) in [(MAX_OVERDUE - 1, false), (MAX_OVERDUE + 1, true)] {
        let mut device = Device::new();
        let contexts: Vec<_> = (1..).map(|seq| device.context(0, seq)).take(count).collect();
        device.write(|tx| {
            for (context, op) in contexts.iter().zip(every_other.clone()) {
                assert_eq!(ingest(tx, context, op).unwrap(), Ingested::Pending(PendingReason::Predecessor));
            }
        });
        let settle = |device: &mut Device| device.write(|tx| settle_overdue(tx, ticket(0).topic()).unwrap());
        assert_eq!(settle(&mut device).more, more);
        let stored = device.store.count_operations().unwrap();
        assert_eq!(stored, count.min(MAX_OVERDUE) as u64);
        assert!(!settle(&mut device).more);
        assert_eq!(device.store.count_operations().unwrap(), count as u64);
    }
}

#[test]
fn case_50_where_an_evicted_range_may_hold_the_predecessor_an_operation_is_an_anchor_at_once() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let ops: Vec<VerifiedOperation> = (0..9).map(|n| writer.say(&n.to_string())).collect();
    device.write(|tx| tx.add_gap(ticket(0).topic(), 0, Seq(1), Seq(5)).unwrap());
    assert!(stored(&device.receive(6, &ops[5])));
    assert!(stored(&device.receive(7, &ops[8])));
    assert_eq!(device.texts(), ["5", "8"]);
    assert_eq!(
        device.store.log_holes(&writer.author(), &LOG).unwrap(),
        [LogHole { from: 0, to: 4 }, LogHole { from: 6, to: 7 }]
    );
    let gaps = device.store.gaps(ticket(0).topic()).unwrap();
    assert_eq!(gaps.iter().map(|gap| (gap.from.0, gap.to.0)).collect::<Vec<_>>(), [(1, 5)]);
}

#[test]
fn a_log_that_began_in_an_epoch_without_key_starts_with_an_anchor() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let ops: Vec<VerifiedOperation> = (0..3).map(|n| writer.say(&n.to_string())).collect();
    device.write(|tx| tx.put_topic(&ticket(2), Millis(0)).unwrap());
    assert!(stored(&device.receive_in(2, 1, &ops[2])), "epoch 1 has no key here");
    assert!(stored(&device.receive_in(0, 9, &ops[0])));
    assert_eq!(device.texts(), ["0", "2"]);
}

#[test]
fn a_duplicate_keeps_its_row_and_gets_the_places_of_a_newer_reset() {
    let (mut device, mut writer, mut other) = (Device::new(), Writer::new(1), Writer::new(2));
    let (a, b) = (writer.say("a"), writer.say("b"));
    let c = other.say("c");
    device.receive_all([(1, &a), (2, &b), (3, &c)]);
    assert_eq!(device.receive(9, &a), Ingested::Duplicate { placed: false }, "the earlier place counts");
    assert_eq!(device.texts(), ["a", "b", "c"]);
    device.resets = 1;
    let missing = |device: &Device| {
        device.store.missing_after_reset(ticket(0).topic(), &Generation([1; 16]), 1).unwrap()
    };
    assert_eq!(missing(&device), [a.id(), b.id(), c.id()]);
    assert_eq!(device.receive(1, &c), Ingested::Duplicate { placed: true });
    assert_eq!(missing(&device), [a.id(), b.id()]);
    assert_eq!(device.receive(2, &b), Ingested::Duplicate { placed: true });
    assert_eq!(device.texts(), ["a", "c", "b"], "a keeps its old place until it comes again");
    assert_eq!(device.receive(3, &a), Ingested::Duplicate { placed: true });
    assert_eq!(missing(&device), []);
    assert_eq!(device.texts(), ["c", "a", "b"], "b moves behind a");
    assert_eq!(device.store.count_operations().unwrap(), 3);
}

#[test]
fn nothing_at_or_below_what_the_old_log_had_evicted_counts_as_missing() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let ops: Vec<VerifiedOperation> = (0..4).map(|n| writer.say(&n.to_string())).collect();
    device.receive_all(ops.iter().enumerate().map(|(n, op)| (n as u64 + 1, op)));
    device.write(|tx| tx.add_gap(ticket(0).topic(), 0, Seq(1), Seq(2)).unwrap());
    let missing = device.store.missing_after_reset(ticket(0).topic(), &Generation([1; 16]), 1).unwrap();
    assert_eq!(missing, [ops[2].id(), ops[3].id()]);
}

#[test]
fn what_a_server_put_back_to_an_older_state_has_evicted_does_not_count_as_missing() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let ops: Vec<VerifiedOperation> = (0..4).map(|n| writer.say(&n.to_string())).collect();
    device.receive_all(ops.iter().enumerate().map(|(n, op)| (n as u64 + 1, op)));
    let topic = ticket(0).topic();
    device.write(|tx| tx.add_gap(topic, 1, Seq(1), Seq(3)).unwrap());
    let missing =
        |generation| device.store.missing_after_reset(topic, &Generation([generation; 16]), 1).unwrap();
    assert_eq!(missing(0), [ops[3].id()]);
    // A new generation's gap says nothing about what lies in it.
    assert_eq!(missing(1).len(), 4);
}

#[test]
fn own_operations_are_shown_last_until_their_echo_places_them() {
    let (mut device, mut writer, mut other) = (Device::new(), Writer::new(1), Writer::new(2));
    let (mine, next, theirs) = (writer.say("mine"), writer.say("next"), other.say("theirs"));
    let topic = ticket(0).topic();
    for op in [&mine, &next] {
        device.write(|tx| publish_local(tx, topic, op, Millis(1)).unwrap());
    }
    device.receive(1, &theirs);
    assert_eq!(device.texts(), ["theirs", "mine", "next"]);
    assert!(device.messages().iter().skip(1).all(|row| !row.is_acknowledged() && row.received_at.is_none()));
    // The second one's echo comes first: still nothing is shown before what its author wrote before it.
    let context = device.context(0, 2);
    let placed = device.write(|tx| place(tx, &context, &next.id()).unwrap());
    assert_eq!(placed, Some(Ingested::Duplicate { placed: true }));
    assert!(!device.messages()[2].is_acknowledged());
    let context = device.context(0, 3);
    let (placed, moved) =
        device.write(|tx| (place(tx, &context, &mine.id()).unwrap(), tx.settle_positions().unwrap()));
    assert_eq!(placed, Some(Ingested::Duplicate { placed: true }));
    assert_eq!(moved[0].ids, [mine.id().0, next.id().0]);
    assert!(device.messages().iter().all(|row| row.is_acknowledged() && row.received_at.is_some()));
}

#[test]
fn an_own_operation_must_continue_its_log() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let (first, second) = (writer.say("0"), writer.say("1"));
    let topic = ticket(0).topic();
    let refused = device.write(|tx| publish_local(tx, topic, &second, Millis(1)));
    assert!(matches!(refused, Err(PublishError::NotNext)), "{refused:?}");
    device.write(|tx| publish_local(tx, topic, &first, Millis(1)).unwrap());
    let refused = device.write(|tx| publish_local(tx, topic, &first, Millis(1)));
    assert!(matches!(refused, Err(PublishError::NotNext)), "{refused:?}");
    assert_eq!(device.texts(), ["0"]);
}

#[test]
fn places_no_server_may_give_are_refused() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let op = writer.say("a");
    for seq in [0, Seq::MAX.0 + 1, u64::MAX] {
        assert_eq!(device.receive(seq, &op), Ingested::Refused(Refusal::Place), "{seq}");
    }
    assert!(stored(&device.receive(Seq::MAX.0, &op)));
}

#[test]
fn case_58_an_operation_of_another_log_is_refused() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let op = writer.say("a");
    let context =
        crate::engine::ingest::Context { log: crate::identity::LogId([8; 32]), ..device.context(0, 1) };
    let refused = device.write(|tx| ingest(tx, &context, &op).unwrap());
    assert_eq!(refused, Ingested::Refused(Refusal::OtherLog));
    assert_eq!(device.store.count_operations().unwrap(), 0);
}

#[test]
fn case_54_a_backlink_to_another_authors_operation_ends_the_log_that_makes_it() {
    let (mut device, mut writer, mut other) = (Device::new(), Writer::new(1), Writer::new(2));
    let (mine, theirs) = (writer.say("mine"), other.say("theirs"));
    device.receive_all([(1, &mine), (2, &theirs)]);
    let key = DeviceKey::from_bytes(&[1; 32]);
    let body = Body::new(Content::MessageDelete { target: theirs.id() });
    let wrong = ops::create(&key, LOG, 1, Some(theirs.id()), &body).unwrap();
    assert!(matches!(device.receive(3, &wrong), Ingested::Forked { stored: false, .. }));
    assert_eq!(device.receive(4, &writer.say("more")), Ingested::Refused(Refusal::LogEnded));
    assert_eq!(device.texts(), ["mine", "theirs"]);
    assert!(stored(&device.receive(5, &other.say("on"))), "the other author's log goes on");
}

#[test]
fn case_54_impossible_numbers_and_backlinks_are_refused_without_overflow() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    let op = writer.say("a");
    let whole = NewOperation::from(&op);
    let id = op.id();
    let cases = [
        (
            NewOperation { seq_num: u32::MAX, backlink: Some(OperationId([5; 32])), ..whole },
            Refusal::LastSeqNum,
        ),
        (NewOperation { seq_num: 0, backlink: Some(OperationId([5; 32])), ..whole }, Refusal::Backlink),
        (NewOperation { seq_num: 1, backlink: None, ..whole }, Refusal::Backlink),
        (NewOperation { seq_num: 1, backlink: Some(id), ..whole }, Refusal::Backlink),
    ];
    let receipt = device.context(0, 1).receipt();
    for (new, why) in cases {
        let refused = device.write(|tx| take(tx, &receipt, &new, op.body(), &mut Taken::default()).unwrap());
        assert_eq!(refused, Ingested::Refused(why));
    }
    // The last number that another could follow is taken like any other.
    let last = NewOperation { seq_num: u32::MAX - 1, backlink: Some(OperationId([5; 32])), ..whole };
    let waits = device.write(|tx| take(tx, &receipt, &last, op.body(), &mut Taken::default()).unwrap());
    assert_eq!(waits, Ingested::Pending(PendingReason::Predecessor));
    device.write(|tx| settle_ready(tx, ticket(0).topic()).unwrap());
    assert_eq!(device.store.log_holes(&op.author(), &LOG).unwrap(), [LogHole { from: 0, to: u32::MAX - 2 }]);
    device.write(|tx| tx.rebuild().unwrap());
    assert_eq!(device.texts(), ["a"]);
}

#[test]
fn what_a_close_puts_out_of_one_topic_stands_in_the_next_where_it_was_read_first() {
    let (mut device, mut writer) = (Device::new(), Writer::new(1));
    device.write(|tx| tx.put_topic(&ticket(1), Millis(0)).unwrap());
    let ops = ["0", "1", "2", "3"].map(|text| writer.say(text));
    // 2 and 3 came after the close, and were carried over; the newer topic is read first.
    for (seq, op) in [(1, &ops[2]), (2, &ops[3])] {
        device.receive_in(1, seq, op);
    }
    for (seq, op) in (1..).zip(&ops) {
        device.receive_in(0, seq, op);
    }
    assert_eq!(device.texts(), ["0", "1", "2", "3"]);
    let at = TopicClose {
        topic: ticket(0).topic(),
        operation: ops[1].id(),
        generation: Generation([0; 16]),
        resets: 0,
        seq: Seq(2),
        successor: ticket(1).topic(),
        epoch: 1,
    };
    device.write(|tx| {
        let device = Author([9; 32]);
        close(tx, &at, &LOG, &device, |_, _, _| false).unwrap();
    });
    assert_eq!(device.texts(), ["0", "1", "2", "3"]);
    let places: Vec<_> = device.positions().iter().map(|at| (at.place.epoch, at.place.seq.0)).collect();
    assert_eq!(places, [(0, 1), (0, 2), (1, 1), (1, 2)]);
}
