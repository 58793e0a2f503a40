//! Pruning and wiping: what goes, what stays, what comes back.

use std::collections::BTreeMap;

use crate::engine::ingest::publish_local;
use crate::engine::ingest::tests_support::{Device, LOG, Writer, ticket};
use crate::identity::{EnvelopeHash, Instance, Millis, OperationId, Standing};
use crate::store::{Durability, NewOutboxRow, Origin, Pruned, Search, Store, StoreKey, StoreOptions};

/// The instant at which [`Device`] receives what stands at `seq`.
fn received(seq: u64) -> Millis {
    Millis(50_000 + seq)
}

fn prune(device: &mut Device, before: Millis, limit: usize) -> (Vec<OperationId>, u64) {
    let (mut at, mut gone, mut bodies) = (None, Vec::new(), 0);
    loop {
        let Pruned { messages, bodies: erased, next } =
            device.write(|tx| tx.prune(&LOG, before, at, limit).unwrap());
        gone.extend(messages);
        bodies += erased;
        at = next;
        if at.is_none() {
            return (gone, bodies);
        }
    }
}

#[test]
fn pruned_messages_go_with_what_was_said_about_them_and_do_not_come_back() {
    for limit in [1, 3, 1000] {
        let (mut device, mut ada, mut ben) = (Device::new(), Writer::new(1), Writer::new(2));
        let (old, edit) = {
            let old = ada.say("old and private");
            let edit = ada.edit(old.id(), "old and corrected");
            (old, edit)
        };
        let taken_back = ada.say("taken back");
        let delete = ada.delete(taken_back.id());
        let react = ben.react(old.id(), "👍", true);
        let (new, about_new) = (ben.say("new"), ada.react(OperationId([9; 32]), "👀", true));
        let all = [&old, &edit, &taken_back, &delete, &react, &new, &about_new];
        device.receive_all((1..).zip(all));
        device.write(|tx| tx.index_texts(100).unwrap());

        let (gone, bodies) = prune(&mut device, received(6), limit);
        assert_eq!(gone.len(), 2, "{limit}");
        assert!(gone.contains(&old.id()) && gone.contains(&taken_back.id()));
        // The message, its edit, the reaction and the delete; the tombstone's body was gone before, and counts.
        assert_eq!(bodies, 5, "{limit}");
        let show = |device: &Device| {
            assert_eq!(device.texts(), ["new"], "{limit}");
            assert!(device.store.message(&old.id()).unwrap().is_none());
            assert!(device.store.message_history(&old.id()).unwrap().is_empty());
            assert!(device.store.reactions(&old.id()).unwrap().is_empty());
            let search = Search { words: "corrected".into(), ..Search::default() };
            assert!(device.store.search(&search, 10).unwrap().is_empty());
            for op in [&old, &edit, &taken_back, &delete, &react] {
                assert_eq!(device.store.operation(&op.id()).unwrap().unwrap().body, None);
            }
            for op in [&new, &about_new] {
                assert!(device.store.operation(&op.id()).unwrap().unwrap().body.is_some(), "{limit}");
            }
        };
        show(&device);
        device.write(|tx| tx.rebuild().unwrap());
        show(&device);
        // A server that lost its log is given everything again, by others.
        device.resets = 1;
        device.receive_all((1..).zip(all));
        show(&device);
        assert_eq!(prune(&mut device, received(6), limit), (Vec::new(), 0));
    }
}

#[test]
fn what_no_server_has_stays_and_so_does_what_came_later() {
    let (mut device, mut own) = (Device::new(), Writer::new(3));
    let (first, second, waiting) = (own.say("first"), own.say("second"), own.say("waiting"));
    device.receive_all([(1, &first), (2, &second)]);
    device.write(|tx| publish_local(tx, ticket(0).topic(), &waiting, Millis(1)).unwrap());
    assert_eq!(prune(&mut device, received(2), 10).0, [first.id()], "received before, not at, the instant");
    assert_eq!(prune(&mut device, Millis(u64::MAX), 10).0, [second.id()]);
    assert_eq!(device.texts(), ["waiting"]);
}

#[test]
fn what_was_said_about_a_message_that_has_not_come_is_kept_for_it() {
    let (mut device, mut ada) = (Device::new(), Writer::new(1));
    let (secret, typo) = (ada.say("taken back"), ada.say("tpyo"));
    let (edit, delete) = (ada.edit(typo.id(), "typo"), ada.delete(secret.id()));
    // A gap: the log begins late.
    device.write(|tx| tx.add_gap(ticket(0).topic(), 0, crate::topic::Seq(1), crate::topic::Seq(2)).unwrap());
    device.receive_all([(3, &edit), (4, &delete)]);
    assert_eq!(prune(&mut device, Millis(u64::MAX), 10), (Vec::new(), 0));
    device.receive_all([(1, &secret), (2, &typo)]);
    assert_eq!(device.texts(), ["†", "typo"]);
    // Once it is here it goes with its message.
    assert_eq!(prune(&mut device, Millis(u64::MAX), 10).1, 4);
}

#[test]
fn what_a_forgotten_delete_erased_is_read_again_and_what_was_pruned_is_not() {
    let (mut device, mut own) = (Device::new(), Writer::new(3));
    let [old, one, two] = ["old", "one", "two"].map(|text| own.say(text));
    let sent = own.delete(two.id());
    device.receive_all((1..).zip([&old, &one, &two, &sent]));
    prune(&mut device, received(2), 10);
    let (topic, delete) = (ticket(0).topic(), own.delete(one.id()));
    device.write(|tx| {
        publish_local(tx, topic, &delete, Millis(1)).unwrap();
        let (operation, hash) = (delete.id(), EnvelopeHash([1; 32]));
        let (origin, not_before) = (Origin::Own, Millis(0));
        tx.outbox_push(&NewOutboxRow { topic, operation, hash, envelope: b"envelope", origin, not_before })
            .unwrap();
    });
    assert_eq!(device.texts(), ["†", "†"]);
    assert_eq!(device.write(|tx| tx.forget_unsent(None).unwrap()), 1);
    let ranges = device.store.refetches(topic).unwrap();
    let seqs: Vec<_> = ranges.iter().map(|(_, range)| (range.from.0, range.to.0)).collect();
    assert_eq!(seqs, [(2, 2)]);
    device.receive(2, &one);
    assert_eq!(device.texts(), ["one", "†"]);
}

#[test]
fn a_wipe_leaves_nothing_but_where_the_own_log_ends() {
    let (mut device, mut ada, mut own) = (Device::new(), Writer::new(1), Writer::new(3));
    let hello = ada.say("hello");
    let (zero, one, two) = (own.say("zero"), own.react(hello.id(), "👍", true), own.say("two"));
    device.receive_all([(1, &hello), (2, &zero), (3, &one), (4, &two)]);
    device.write(|tx| tx.add_gap(ticket(0).topic(), 0, crate::topic::Seq(9), crate::topic::Seq(9)).unwrap());
    let wiped = device.write(|tx| tx.wipe_logs(&own.author(), &[LOG]).unwrap());
    assert_eq!(wiped, [ticket(0).topic()]);

    let rows = rows(&device);
    let allowed = ["heads", "log_hole", "operations", "setting", "tally", "text_due", "text_upto"];
    let left: Vec<_> = rows.iter().filter(|(name, _)| !allowed.contains(&name.as_str())).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!((rows["operations"], rows["heads"], rows["log_hole"]), (1, 1, 1));
    assert_eq!(device.store.operation(&two.id()).unwrap().unwrap().body, None);

    // Opened again: the own log goes on, and what the server has comes back to its place.
    device.write(|tx| tx.put_topic(&ticket(0), Millis(2)).unwrap());
    let three = own.say("three");
    device.write(|tx| publish_local(tx, ticket(0).topic(), &three, Millis(3)).unwrap());
    device.receive_all([(1, &hello), (2, &zero), (3, &one), (4, &two)]);
    device.echo(5, &three);
    assert_eq!(device.texts(), ["hello", "zero", "two", "three"]);
    assert_eq!(device.store.reactions(&hello.id()).unwrap().len(), 1);
    assert!(device.store.log_holes(&own.author(), &LOG).unwrap().is_empty());
}

#[test]
fn storage_is_counted_by_conversation() {
    let (mut device, mut ada) = (Device::new(), Writer::new(1));
    let ops = [ada.say("one"), ada.say("two")];
    device.receive_all((1..).zip(&ops));
    let used = device.store.storage_use().unwrap();
    assert!(used.file_bytes > 0 && used.free_bytes < used.file_bytes);
    let bytes: usize = ops.iter().map(|op| op.header().len() + op.body_bytes().len()).sum();
    let [log] = &used.logs[..] else { panic!("{used:?}") };
    assert_eq!((log.log, log.topic, log.operations), (LOG, Some(ticket(0).topic()), 2));
    assert_eq!(log.bytes, bytes as u64);
    prune(&mut device, Millis(u64::MAX), 10);
    let after = device.store.storage_use().unwrap().logs[0];
    let headers: usize = ops.iter().map(|op| op.header().len()).sum();
    assert_eq!((after.operations, after.bytes), (2, headers as u64));
}

/// How many rows each table has that has any; the index's own tables aside.
fn rows(device: &Device) -> BTreeMap<String, i64> {
    let tables = device.store.all(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'text_index%' AND name NOT LIKE 'sqlite%'",
        [],
        |row| row.get::<_, String>(0),
    );
    let count = |table: &String| {
        let sql = format!("SELECT count(*) FROM {table}");
        device.store.one(&sql, [], |row| row.get::<_, i64>(0)).unwrap().unwrap_or(0)
    };
    let tables = tables.unwrap().into_iter().map(|table| (table.clone(), count(&table)));
    tables.filter(|(_, count)| *count > 0).collect()
}

/// An export that is made while the device goes on, and read again on the same device.
#[test]
fn a_copy_is_nobodys_database_although_it_was_opened_as_often_as_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("device.db"), folder.path().join("copy.db"));
    let own = Instance { id: [7; 16], opens: 3 };
    let mut store = Store::open(&path, StoreOptions::default()).unwrap();
    let tx = store.begin(Durability::Full).unwrap();
    tx.set_setting(Instance::SETTING, &own.to_bytes()).unwrap();
    tx.commit().unwrap();
    store.reader().unwrap().copy_to(&copy, &StoreKey::new([9; 32])).unwrap();
    let standing = |store: &Store| {
        let kept = store.setting(Instance::SETTING).unwrap().unwrap();
        Standing::of(Instance::from_bytes(&kept), Some(own))
    };
    assert_eq!(standing(&store), Standing::Same(Instance { opens: 4, ..own }));
    let copied = Store::open(&copy, StoreOptions::default()).unwrap();
    assert_eq!(standing(&copied), Standing::Copied);
    copied.close().unwrap();
    store.close().unwrap();
}
