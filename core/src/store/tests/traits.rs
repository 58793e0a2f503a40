//! p2panda's store traits over an open transaction.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use p2panda_store::logs::LogStore;
use p2panda_store::operations::OperationStore;

use crate::engine::ingest::tests_support::{Device, LOG, Writer};
use crate::identity::{Author, LogId, OperationId};
use crate::limits::MAX_LOG_ENTRIES;
use crate::store::{Durability, LogHole, Store, StoredOperation, Tx};

/// The futures never wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a store future waited"),
    }
}

fn rows(count: usize) -> (Author, Vec<StoredOperation>) {
    let mut writer = Writer::new(1);
    let ops = (0..count).map(|n| writer.say(&n.to_string()));
    let rows: Vec<_> = ops
        .map(|op| StoredOperation {
            id: op.id(),
            author: op.author(),
            log: op.log(),
            seq_num: op.seq_num(),
            backlink: op.backlink(),
            header: op.header().to_vec(),
            body: Some(op.body_bytes().to_vec()),
        })
        .collect();
    (writer.author(), rows)
}

fn insert<'a>(tx: &Tx<'a>, row: &StoredOperation) -> bool {
    now(OperationStore::<StoredOperation, OperationId>::insert_operation(tx, &row.id, row, &row.log.0))
        .unwrap()
}

#[test]
fn operations_go_in_once_and_come_out_whole() {
    let mut store = Store::in_memory().unwrap();
    let tx = store.begin(Durability::Normal).unwrap();
    let (_, rows) = rows(2);
    assert!(insert(&tx, &rows[0]) && insert(&tx, &rows[1]));
    assert!(!insert(&tx, &rows[0]), "a duplicate");
    assert_eq!(now(tx.get_operation(&rows[1].id)).unwrap().as_ref(), Some(&rows[1]));
    assert!(now(tx.has_operation(&rows[0].id)).unwrap());
    assert!(now(tx.delete_operation_payload(&rows[0].id)).unwrap());
    assert!(!now(tx.delete_operation_payload(&rows[0].id)).unwrap());
    assert_eq!(now(tx.get_operation_tx(&rows[0].id)).unwrap().unwrap().body, None);
    assert!(now(tx.delete_operation(&rows[1].id)).unwrap());
    assert!(!now(tx.has_operation_tx(&rows[1].id)).unwrap());
    assert!(!now(tx.delete_operation(&rows[1].id)).unwrap());
}

#[test]
fn an_operation_without_body_survives_a_rebuild_and_a_deleted_one_leaves_no_place() {
    let mut device = Device::new();
    let (_, rows) = rows(2);
    let bare = StoredOperation { body: None, ..rows[0].clone() };
    device.write(|tx| {
        assert!(insert(tx, &bare));
        assert_eq!(now(tx.get_operation(&bare.id)).unwrap().as_ref(), Some(&bare));
        tx.rebuild().unwrap();
    });
    let mut writer = Writer::new(2);
    let (message, reaction) = (writer.say("a"), writer.react(rows[0].id, "👍", true));
    device.receive(1, &message);
    device.receive(2, &reaction);
    let placed = |device: &Device| -> i64 {
        device.store.one("SELECT count(*) FROM placement", [], |row| row.get(0)).unwrap().unwrap()
    };
    assert_eq!(placed(&device), 2);
    device.write(|tx| {
        assert!(now(tx.delete_operation_payload(&reaction.id())).unwrap());
        assert!(now(tx.delete_operation(&message.id())).unwrap());
        tx.rebuild().unwrap();
    });
    assert_eq!(placed(&device), 1);
    assert_eq!(device.texts(), [""; 0], "no tombstone of a reaction");
}

#[test]
fn logs_answer_by_range() {
    let mut store = Store::in_memory().unwrap();
    let tx = store.begin(Durability::Normal).unwrap();
    let (author, rows) = rows(5);
    for row in &rows {
        assert!(insert(&tx, row));
    }
    assert_eq!(now(tx.get_latest_entry(&author, &LOG)).unwrap().as_ref(), Some(&rows[4]));
    assert_eq!(now(tx.get_latest_entry_tx(&author, &LogId([0; 32]))).unwrap(), None);
    let heights = now(tx.get_log_heights(&author, &[LOG, LogId([0; 32])])).unwrap().unwrap();
    assert_eq!(heights.into_iter().collect::<Vec<_>>(), [(LOG, 4)]);
    let bytes = |rows: &[StoredOperation]| -> u32 {
        rows.iter().map(|row| (row.header.len() + row.body.as_ref().unwrap().len()) as u32).sum()
    };
    assert_eq!(now(tx.get_log_size(&author, &LOG, Some(1), Some(3))).unwrap(), Some((2, bytes(&rows[2..4]))));
    let entries = now(tx.get_log_entries(&author, &LOG, None, Some(1))).unwrap().unwrap();
    assert_eq!(entries.iter().map(|(op, _)| op.seq_num).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(entries[1].1, rows[1].header);
    assert_eq!(now(tx.get_log_entries(&author, &LOG, Some(4), None)).unwrap(), None);
    assert_eq!(now(tx.get_log_entries(&author, &LOG, Some(u32::MAX), None)).unwrap(), None);
    assert_eq!(now(tx.prune_entries(&author, &LOG, &2)).unwrap(), 2);
    assert_eq!(tx.log_holes(&author, &LOG).unwrap(), [LogHole { from: 0, to: 1 }]);
}

#[test]
fn one_call_gives_so_many_entries_of_a_log() {
    let mut store = Store::in_memory().unwrap();
    let tx = store.begin(Durability::Normal).unwrap();
    let author = Author([1; 32]);
    let fill = |from: usize, to: usize| {
        let sql = "WITH RECURSIVE n (n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < ?2)
             INSERT INTO operations (author, log, seq_num, hash, pos, header)
             SELECT ?3, ?4, n, CAST(printf('%032d', n) AS BLOB), zeroblob(16), zeroblob(1) FROM n";
        tx.run(sql, rusqlite::params![from as i64, to as i64, author.0, LOG.0]).unwrap();
    };
    let count = || now(tx.get_log_entries(&author, &LOG, None, None)).unwrap().unwrap().len();
    fill(0, MAX_LOG_ENTRIES);
    assert_eq!(count(), MAX_LOG_ENTRIES);
    fill(MAX_LOG_ENTRIES, MAX_LOG_ENTRIES + 1);
    assert_eq!(count(), MAX_LOG_ENTRIES, "the first ones");
}
