//! Forks: the same rows in both arrival orders, nothing placed before the second branch changes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::support::{Device, LOG, Writer, ticket};
use crate::engine::ingest::{Ingested, PublishError, Refusal, publish_local};
use crate::identity::{Millis, OperationId};
use crate::ops::VerifiedOperation;
use crate::projector::Place;
use crate::topic::Seq;

fn at(seq: u64) -> Place {
    Place { epoch: 0, resets: 0, seq: Seq(seq) }
}

/// A log of three, and a second branch from seq_num 1 on.
fn branches() -> (Writer, [VerifiedOperation; 3], [VerifiedOperation; 2]) {
    let mut one = Writer::new(1);
    let zero = one.say("0");
    let mut other = one.branch();
    let first = [zero, one.say("1"), one.say("2")];
    let second = [other.say("1'"), other.say("2'")];
    (one, first, second)
}

#[test]
fn case_53_the_log_ends_where_the_second_branch_appears() {
    let (writer, [a, b, c], [b2, c2]) = branches();
    let author = writer.author();
    let mut device = Device::new();
    device.receive(1, &a);
    device.receive(2, &b);
    let forked = device.receive(3, &b2);
    assert_eq!(forked, Ingested::Forked { author, log: LOG, stored: false, changes: Vec::new() });
    assert_eq!(device.receive(4, &c), Ingested::Refused(Refusal::LogEnded));
    assert_eq!(device.receive(5, &c2), Ingested::Refused(Refusal::LogEnded));
    assert_eq!(device.texts(), ["0", "1"]);
    let proof = device.store.fork_proof(&author, &LOG).unwrap().unwrap();
    assert_eq!((proof.seq_num, proof.ends), (1, at(3)));
    assert_eq!(proof.first, (b.id(), b.header().to_vec()));
    assert_eq!(proof.second, (b2.id(), b2.header().to_vec()));
    assert_eq!(proof.second_body.as_deref(), Some(b2.body_bytes()));

    // The other arrival order, the same places: the same rows.
    let mut late = Device::new();
    late.receive(1, &a);
    late.receive(3, &b2);
    assert_eq!(late.texts(), ["0", "1'"]);
    let Ingested::Forked { stored: true, changes, .. } = late.receive(2, &b) else { panic!("no fork") };
    let ids: BTreeSet<_> = changes.into_iter().flat_map(|change| change.ids).collect();
    assert!(ids.contains(&b.id().0) && ids.contains(&b2.id().0), "both appear and go: the app looks again");
    assert_eq!(late.view(&[author]), device.view(&[author]));
    assert_eq!(late.store.fork_proof(&author, &LOG).unwrap(), Some(proof));
}

#[test]
fn case_53_a_fork_at_seq_num_0_months_later_changes_nothing_placed_before() {
    let mut one = Writer::new(1);
    let mut other = one.branch();
    let ops: Vec<VerifiedOperation> = (0..50).map(|n| one.say(&n.to_string())).collect();
    let mut device = Device::new();
    device.receive_all(ops.iter().enumerate().map(|(n, op)| (n as u64 + 1, op)));
    let before = device.messages();
    let second = other.say("a new beginning");
    assert!(matches!(device.receive(1_000_000, &second), Ingested::Forked { stored: false, .. }));
    assert_eq!(device.messages(), before);
    assert_eq!(device.receive(1_000_001, &one.say("50")), Ingested::Refused(Refusal::LogEnded));

    // Who hears of the second beginning first ends with the same.
    let mut late = Device::new();
    late.receive(1_000_000, &second);
    late.receive_all(ops.iter().enumerate().map(|(n, op)| (n as u64 + 1, op)));
    assert_eq!(late.view(&[one.author()]), device.view(&[one.author()]));
}

#[test]
fn a_log_ends_where_an_anchor_is_contradicted() {
    let (writer, [_, b, c], [b2, _]) = branches();
    let author = writer.author();
    let mut device = Device::new();
    device.receive_all([(3, &c)]);
    assert_eq!(device.texts(), ["2"]);
    // The anchor's backlink says which operation 1 is.
    assert!(matches!(device.receive(9, &b2), Ingested::Forked { stored: false, .. }));
    assert_eq!(device.texts(), ["2"]);
    device.receive(4, &b);
    assert_eq!(device.texts(), ["1", "2"]);
    assert_eq!(device.store.log_end(&author, &LOG).unwrap(), Some(at(9)));
}

#[test]
fn a_delete_that_a_fork_takes_back_leaves_what_it_erased_to_be_read_again() {
    let mut one = Writer::new(1);
    let message = one.say("kept after all");
    let mut other = one.branch();
    let (delete, second) = (one.delete(message.id()), other.say("second branch"));
    let mut device = Device::new();
    device.receive(1, &message);
    device.receive(10, &delete);
    assert_eq!(device.texts(), ["†"]);
    assert!(matches!(device.receive(8, &second), Ingested::Forked { stored: true, .. }));
    let refetch: Vec<_> = device.store.refetches(ticket(0).topic()).unwrap();
    assert_eq!(
        refetch.iter().map(|(_, range)| (range.from, range.to)).collect::<Vec<_>>(),
        [(Seq(1), Seq(1))]
    );
    device.receive(1, &message);
    assert_eq!(device.texts(), ["kept after all", "second branch"]);
}

#[test]
fn a_copy_of_the_own_key_ends_the_own_log() {
    let mut mine = Writer::new(1);
    let mut copy = mine.branch();
    let (own, next, theirs) = (mine.say("own"), mine.say("next"), copy.say("theirs"));
    let topic = ticket(0).topic();
    let mut device = Device::new();
    for op in [&own, &next] {
        device.write(|tx| publish_local(tx, topic, op, Millis(1)).unwrap());
    }
    assert!(matches!(device.receive(5, &theirs), Ingested::Forked { stored: true, .. }));
    assert_eq!(device.texts(), ["theirs"], "what has a place comes before what has none");
    let refused = device.write(|tx| publish_local(tx, topic, &mine.say("third"), Millis(2)));
    assert!(matches!(refused, Err(PublishError::LogEnded)), "{refused:?}");
    // Its echo says where the other devices see the log end.
    assert!(matches!(device.echo(7, &own), Ingested::Forked { stored: false, .. }));
    assert_eq!(device.store.log_end(&mine.author(), &LOG).unwrap(), Some(at(7)));
    assert_eq!(device.receive(8, &copy.say("more")), Ingested::Refused(Refusal::LogEnded));
}

#[test]
fn the_own_log_ends_where_it_ends_for_everyone() {
    for places in [[7, 8, 20], [7, 20, 8], [8, 7, 20], [8, 20, 7], [20, 7, 8], [20, 8, 7]] {
        let mut mine = Writer::new(1);
        let mut copy = mine.branch();
        let (theirs, own, next) = (copy.say("theirs"), mine.say("own"), mine.say("next"));
        let author = mine.author();
        let mut arriving: Vec<_> = places.into_iter().zip([&theirs, &own, &next]).collect();
        arriving.sort_by_key(|(seq, _)| *seq);

        let mut other = Device::new();
        let mut device = Device::new();
        for op in [&own, &next] {
            device.write(|tx| publish_local(tx, ticket(0).topic(), op, Millis(1)).unwrap());
        }
        for (seq, op) in arriving {
            other.receive(seq, op);
            device.echo(seq, op);
        }
        let end = |device: &Device| device.store.log_end(&author, &LOG).unwrap();
        assert!(end(&other).is_some(), "{places:?}");
        assert_eq!(end(&device), end(&other), "{places:?}");
        assert_eq!(device.view(&[author]), other.view(&[author]), "{places:?}");
    }
}

#[test]
fn everything_that_stood_behind_a_removed_operation_moves_back() {
    let (mut one, mut device) = (Writer::new(1), Device::new());
    let zero = one.say("0");
    let mut other = one.branch();
    let ops: Vec<_> = [zero].into_iter().chain((1..6).map(|n| one.say(&n.to_string()))).collect();
    device.write(|tx| tx.add_gap(ticket(0).topic(), 0, Seq(1), Seq(1)).unwrap());
    for (n, seq) in [(0, 2), (2, 3), (1, 30), (3, 4), (5, 5), (4, 40)] {
        device.receive(seq, &ops[n]);
    }
    device.resets = 1;
    for (n, seq) in [(2, 1), (4, 9)] {
        device.receive(seq, &ops[n]);
    }
    device.resets = 0;
    // The log ends at 20: 1 and 4 go. 2 does not move for that, 5 does.
    assert!(matches!(device.receive(20, &other.say("1'")), Ingested::Forked { stored: false, .. }));
    assert_eq!(device.texts(), ["0", "2", "3", "5"]);
    let last = Place { epoch: 0, resets: 1, seq: Seq(1) };
    assert_eq!(device.positions().last().unwrap().place, last);
}

#[test]
fn an_operation_that_waited_can_show_a_fork() {
    let (writer, [a, _, c], [b2, _]) = branches();
    let mut device = Device::new();
    device.receive(2, &c);
    assert!(matches!(device.receive(3, &b2), Ingested::Forked { stored: false, .. }), "2 says who 1 is");
    device.receive(4, &a);
    assert_eq!(device.store.log_end(&writer.author(), &LOG).unwrap(), Some(at(3)));
}

/// What a device must hold of one author's operations, computed from the set alone.
fn expected(ops: &[(u64, VerifiedOperation)], gap: bool) -> (Option<Place>, Vec<OperationId>) {
    let mut claims = BTreeMap::<u32, BTreeMap<OperationId, u64>>::new();
    for (seq, op) in ops {
        let before = op.backlink().map(|id| (op.seq_num() - 1, id));
        for (seq_num, id) in [(op.seq_num(), op.id())].into_iter().chain(before) {
            let first = claims.entry(seq_num).or_default().entry(id).or_insert(*seq);
            *first = (*first).min(*seq);
        }
    }
    let second = |ids: &BTreeMap<OperationId, u64>| {
        let mut places: Vec<u64> = ids.values().copied().collect();
        places.sort();
        places.get(1).copied()
    };
    let end = claims.values().filter_map(second).min();
    let mut kept: Vec<_> = ops.iter().filter(|(seq, _)| end.is_none_or(|end| *seq < end)).collect();
    kept.sort_by_key(|(_, op)| op.seq_num());
    let mut ids = Vec::new();
    let mut next = None;
    for (_, op) in kept {
        if gap || next.is_none_or(|next| op.seq_num() == next) {
            ids.push(op.id());
            next = Some(op.seq_num() + 1);
        }
    }
    (end.map(at), ids)
}

proptest! {
    /// Any tree of branches, at any places, some of it missing, in any order of arrival.
    #[test]
    fn case_53_places_decide_never_arrival(
        parents in prop::collection::vec(any::<prop::sample::Index>(), 0..7),
        order in Just((0..8usize).collect::<Vec<_>>()).prop_shuffle(),
        places in Just((2..10u64).collect::<Vec<_>>()).prop_shuffle(),
        missing in prop::collection::vec(prop::bool::weighted(0.15), 8),
        gap: bool,
    ) {
        let mut writers = vec![Writer::new(1)];
        let mut ops = vec![writers[0].say("root")];
        for (n, parent) in parents.iter().enumerate() {
            // Mostly continue the newest branch; sometimes an older one, or from the very beginning.
            let mut writer = match parent.index(4) {
                0 => Writer::new(1),
                1 => writers[parent.index(writers.len())].branch(),
                _ => writers.last().unwrap().branch(),
            };
            ops.push(writer.say(&n.to_string()));
            writers.push(writer);
        }
        let all: Vec<(u64, VerifiedOperation)> =
            ops.into_iter().zip(&places).zip(&missing).filter(|(_, missing)| !**missing).map(|((op, seq), _)| (*seq, op)).collect();
        let mut device = Device::new();
        if gap {
            device.write(|tx| tx.add_gap(ticket(0).topic(), 0, Seq(1), Seq(1)).unwrap());
        }
        let arriving = order.iter().filter_map(|index| all.get(*index)).map(|(seq, op)| (*seq, op));
        device.receive_all(arriving);
        let (end, ids) = expected(&all, gap);
        let author = writers[0].author();
        prop_assert_eq!(device.store.log_end(&author, &LOG).unwrap(), end);
        let view = device.view(&[author]);
        prop_assert_eq!(&view.operations, &ids);
        device.write(|tx| tx.rebuild().unwrap());
        prop_assert_eq!(device.view(&[author]), view);
    }
}
