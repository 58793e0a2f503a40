//! Values of keys: what stands is the same on every device, whatever order it came in, and after a rebuild.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::support::{Device, LOG, Writer, ticket};
use crate::identity::{Millis, OperationId};
use crate::limits::MAX_AHEAD_MS;
use crate::ops::{Content, HybridTime, KeyValue, ValueKey, VerifiedOperation};
use crate::projector::Aggregate;
use crate::store::ValuePage;
use crate::topic::Seq;

fn at(key: &str) -> ValueKey {
    ValueKey::new("todo", key)
}

fn time(ms: u64) -> HybridTime {
    HybridTime::at(Millis(ms))
}

fn write(writer: &mut Writer, key: &str, ms: u64, value: Option<&str>) -> VerifiedOperation {
    replace(writer, key, ms, value, &[])
}

fn replace(
    writer: &mut Writer,
    key: &str,
    ms: u64,
    value: Option<&str>,
    replaced: &[&VerifiedOperation],
) -> VerifiedOperation {
    let replaces = replaced.iter().map(|op| op.id()).collect();
    let value = value.map(|value| value.as_bytes().to_vec());
    writer.write(Content::KeyValue(Box::new(KeyValue { at: at(key), value, time: time(ms), replaces })))
}

impl Device {
    fn value(&self, key: &str) -> Option<String> {
        let row = self.store.value(&LOG, &at(key)).unwrap();
        row.map(|row| String::from_utf8(row.value).unwrap())
    }

    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let page = ValuePage { prefix: prefix.into(), after: after.map(Into::into) };
        let rows = self.store.values(&LOG, "todo", &page, limit).unwrap();
        rows.into_iter().map(|row| row.at.key).collect()
    }
}

#[test]
fn the_last_writer_wins_by_time_then_operation_id() {
    let (mut device, mut ada, mut ben) = (Device::new(), Writer::new(1), Writer::new(2));
    let (late, early) = (write(&mut ada, "a", 20, Some("late")), write(&mut ben, "a", 10, Some("early")));
    device.receive(1, &late);
    device.receive(2, &early);
    assert_eq!(device.value("a").as_deref(), Some("late"));
    let same = [write(&mut ada, "b", 5, Some("ada")), write(&mut ben, "b", 5, Some("ben"))];
    device.receive(3, &same[0]);
    device.receive(4, &same[1]);
    let higher = if same[0].id() > same[1].id() { "ada" } else { "ben" };
    assert_eq!(device.value("b").as_deref(), Some(higher));
    let row = device.store.value(&LOG, &at("a")).unwrap().unwrap();
    assert_eq!((row.author, row.id, row.time), (ada.author(), late.id(), time(20)));
}

#[test]
fn a_delete_stands_over_what_was_written_before_and_not_after() {
    let (mut device, mut ada, mut ben) = (Device::new(), Writer::new(1), Writer::new(2));
    let delete = write(&mut ada, "a", 10, None);
    let (before, after) = (write(&mut ben, "a", 9, Some("before")), write(&mut ben, "a", 11, Some("after")));
    device.receive(1, &delete);
    device.receive(2, &before);
    assert_eq!(device.value("a"), None, "what it deletes came later");
    assert_eq!(device.keys("", None, 10), [""; 0]);
    device.receive(3, &after);
    assert_eq!(device.value("a").as_deref(), Some("after"));
}

#[test]
fn case_55_a_value_of_the_far_future_gives_way_to_who_names_it() {
    let (mut ada, mut ben, mut cyd) = (Writer::new(1), Writer::new(2), Writer::new(3));
    let now = Millis(1_000);
    let future = [
        write(&mut ada, "a", u64::MAX, Some("for ever")),
        write(&mut cyd, "a", now.0 + MAX_AHEAD_MS + 1, Some("tomorrow")),
    ];
    let mut device = Device::new();
    device.receive_all((1..).zip(&future));
    assert_eq!(device.value("a").as_deref(), Some("for ever"));
    let standing = device.store.standing_values(&LOG, &at("a"), 10).unwrap();
    let over = KeyValue::over(now, at("a"), Some(b"now".to_vec()), &standing);
    assert_eq!((over.time, over.replaces.len()), (time(1_000), 2), "the clock, not what it was told");
    let over = ben.write(Content::KeyValue(Box::new(over)));
    let after = write(&mut ada, "a", 1_001, Some("after"));
    // A name for another key is none for this one.
    let other = replace(&mut cyd, "b", 1, None, &[&after]);
    let ops = [&future[0], &future[1], &over, &after, &other];
    for order in [[0, 1, 2, 3, 4], [4, 2, 0, 1, 3], [2, 4, 1, 3, 0]] {
        let mut device = Device::new();
        device.write(|tx| tx.add_gap(ticket(0).topic(), 0, Seq(1), Seq(1)).unwrap());
        for n in order {
            device.receive(n as u64 + 2, ops[n]);
        }
        device.write(|tx| crate::engine::ingest::settle_ready(tx, ticket(0).topic()).unwrap());
        assert_eq!(device.value("a").as_deref(), Some("after"), "{order:?}");
    }
}

#[test]
fn keys_are_paged_by_their_bytes() {
    let (mut device, mut ada) = (Device::new(), Writer::new(1));
    let names = ["a", "a/1", "a/2", "a/3", "a\u{10ffff}", "b", "ä", "a/2x"];
    let ops: Vec<_> = names.iter().map(|name| write(&mut ada, name, 1, Some("x"))).collect();
    device.receive_all((1..).zip(&ops));
    assert_eq!(device.keys("", None, 100), ["a", "a/1", "a/2", "a/2x", "a/3", "a\u{10ffff}", "b", "ä"]);
    assert_eq!(device.keys("a/", None, 2), ["a/1", "a/2"]);
    assert_eq!(device.keys("a/", Some("a/2"), 100), ["a/2x", "a/3"]);
    assert_eq!(device.keys("a/", Some("a"), 1), ["a/1"], "after what lies before the prefix");
    assert_eq!(device.keys("c", None, 100), [""; 0]);
    let other = device.store.values(&LOG, "other", &ValuePage::default(), 10).unwrap();
    assert_eq!(other, []);
}

#[test]
fn a_change_names_collection_and_key_once_the_value_changes() {
    let (mut device, mut ada, mut ben) = (Device::new(), Writer::new(1), Writer::new(2));
    let (second, first) = (write(&mut ada, "a", 2, Some("second")), write(&mut ben, "a", 1, Some("first")));
    let changes = |ingested| match ingested {
        crate::engine::ingest::Ingested::Stored { changes } => changes,
        other => panic!("{other:?}"),
    };
    let [change] = &changes(device.receive(1, &second))[..] else { panic!("one change") };
    assert_eq!((change.aggregate, &change.keys), (Aggregate::KeyValue, &vec![at("a")]));
    assert_eq!(change.ids, [second.id().0]);
    assert_eq!(changes(device.receive(2, &first)), [], "nothing an app would show anew");
}

#[test]
fn a_log_that_ends_takes_its_values_along_and_what_stood_below_comes_back() {
    let (mut device, mut ada, mut ben) = (Device::new(), Writer::new(1), Writer::new(2));
    let below = write(&mut ben, "a", 1, Some("below"));
    let start = ada.say("start");
    let mut branch = ada.branch();
    let gone = replace(&mut ada, "a", 3, Some("gone"), &[&below]);
    device.receive_all([(1, &below), (2, &start), (9, &gone)]);
    assert_eq!(device.value("a").as_deref(), Some("gone"));
    // The second branch appears before it: the log ends there.
    device.receive(5, &branch.say("second branch"));
    assert_eq!(device.value("a").as_deref(), Some("below"));
}

/// (author, key, time, what: 0 deletes, which earlier one is replaced)
type Act = (usize, u8, u64, u8, Option<prop::sample::Index>);

fn perform(acts: &[Act]) -> Vec<VerifiedOperation> {
    let mut writers: Vec<Writer> = (1..=3).map(Writer::new).collect();
    let mut ops: Vec<VerifiedOperation> = Vec::new();
    for (who, key, ms, what, replaced) in acts {
        let earlier = replaced.filter(|_| !ops.is_empty()).map(|index| index.index(ops.len()));
        let replaced: Vec<_> = earlier.map(|n| ops[n].clone()).into_iter().collect();
        let value = (*what > 0).then(|| format!("value {what}"));
        let (key, replaced) = (format!("key {key}"), replaced.iter().collect::<Vec<_>>());
        ops.push(replace(&mut writers[*who], &key, *ms, value.as_deref(), &replaced));
    }
    ops
}

/// What must stand, from the set of operations alone.
fn expected(ops: &[&VerifiedOperation]) -> BTreeMap<String, (OperationId, Vec<u8>)> {
    let said = |op: &VerifiedOperation| match &op.body().content {
        Content::KeyValue(write) => (**write).clone(),
        _ => unreachable!(),
    };
    let mut standing = BTreeMap::<String, (HybridTime, OperationId, Option<Vec<u8>>)>::new();
    for op in ops {
        let write = said(op);
        let names_it = |other: &KeyValue| other.at == write.at && other.replaces.contains(&op.id());
        if ops.iter().any(|other| names_it(&said(other))) {
            continue;
        }
        let new = (write.time, op.id(), write.value);
        let old = standing.remove(&write.at.key);
        let higher = old.filter(|old| (old.0, old.1) > (new.0, new.1)).unwrap_or(new);
        standing.insert(write.at.key, higher);
    }
    let values = standing.into_iter().filter_map(|(key, (_, id, value))| Some((key, (id, value?))));
    values.collect()
}

proptest! {
    #[test]
    fn values_do_not_depend_on_the_order_of_arrival_and_can_be_built_again(
        (acts, arrival, missing) in prop::collection::vec(
            (0..3usize, 0..3u8, 0..4u64, 0..4u8, prop::option::weighted(0.3, any::<prop::sample::Index>())),
            1..16,
        ).prop_flat_map(|acts| {
            let n = acts.len();
            let arrival = Just((0..n).collect::<Vec<_>>()).prop_shuffle();
            (Just(acts), arrival, prop::collection::vec(prop::bool::weighted(0.1), n))
        })
    ) {
        let ops = perform(&acts);
        let mut device = Device::new();
        // Something may have been evicted, so what misses its predecessor stands as an anchor.
        device.write(|tx| tx.add_gap(ticket(0).topic(), 0, Seq(1), Seq(1)).unwrap());
        let came: Vec<usize> = arrival.into_iter().filter(|n| !missing[*n]).collect();
        for n in &came {
            device.receive(*n as u64 + 2, &ops[*n]);
        }
        device.write(|tx| crate::engine::ingest::settle_ready(tx, ticket(0).topic()).unwrap());
        let view = |device: &Device| -> BTreeMap<_, _> {
            let rows = device.store.values(&LOG, "todo", &ValuePage::default(), 100).unwrap();
            rows.into_iter().map(|row| (row.at.key, (row.id, row.value))).collect()
        };
        let expected = expected(&came.iter().map(|n| &ops[*n]).collect::<Vec<_>>());
        prop_assert_eq!(&view(&device), &expected);
        device.write(|tx| tx.rebuild().unwrap());
        prop_assert_eq!(&view(&device), &expected, "built again");
    }
}
