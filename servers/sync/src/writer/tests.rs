//! Batches with a damaged topic, and the write-ahead log under readers.

use super::*;

const SECRET: [u8; 32] = [1; 32];

fn logs(path: &std::path::Path) -> TopicLogs<Sql> {
    TopicLogs::new(Sql::writer(path, 0).unwrap(), delta_topic_log::GenerationSecret::from_bytes(SECRET))
}

fn stored(logs: &mut TopicLogs<Sql>, topic: TopicId, op: &[u8]) {
    logs.append(Millis(1), &topic, &[op], Write::Signed, &mut Vec::new()).unwrap();
    logs.commit().unwrap();
}

/// The log is moved after so many operations, bytes or commits, whichever comes first, and not before.
#[test]
fn lone_commits_are_moved_like_large_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let sql = Sql::writer(&path, 0).unwrap();
    let start = || Checkpoints::start(Sql::writer(&path, 0).unwrap(), Arc::default(), u64::MAX);
    let below = |ops, bytes, times: usize| {
        let mut checkpoints = start();
        (1..times).for_each(|_| checkpoints.after_commit(&sql, ops, bytes));
        let early = checkpoints.pending;
        checkpoints.after_commit(&sql, ops, bytes);
        let pending = checkpoints.pending;
        checkpoints.finish(&sql);
        !early && pending
    };
    assert!(below(1, 1, checkpoints::CHECKPOINT_COMMITS));
    assert!(below(checkpoints::CHECKPOINT_OPS / 10, 1, 10));
    assert!(below(1, checkpoints::CHECKPOINT_BYTES / 4, 4));
}

/// The log begins anew only in a moment in which nobody reads from it.
#[test]
fn above_its_size_the_log_waits_for_readers_and_starts_over_once_they_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let (mut logs, topic) = (logs(&path), TopicId([7; 32]));
    let metrics = Arc::<Metrics>::default();
    let start = |most| Checkpoints::start(Sql::writer(&path, 0).unwrap(), Arc::clone(&metrics), most);
    let (mut small, mut large) = (start(0), start(u64::MAX));
    stored(&mut logs, topic, &[1; 100_000]);
    std::thread::scope(|scope| {
        let (reads, reading) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let path = &path;
        scope.spawn(move || {
            Sql::reader(path).unwrap().snapshot(|sql| {
                delta_topic_log::LogReader::state(sql, &topic)?;
                reads.send(()).unwrap();
                released.recv().unwrap();
                Ok(())
            })
        });
        reading.recv().unwrap();
        stored(&mut logs, topic, &[2; 100_000]);
        large.finish_round(logs.storage()).unwrap();
        assert_eq!((metrics.log_restarts.get(), metrics.log_waits_in_vain.get()), (0, 0));
        small.finish_round(logs.storage()).unwrap();
        assert_eq!((metrics.log_restarts.get(), metrics.log_waits_in_vain.get()), (0, 1));
        release.send(()).unwrap();
    });
    let before = logs.storage().checkpoint().unwrap().bytes;
    small.finish_round(logs.storage()).unwrap();
    assert_eq!(metrics.log_restarts.get(), 1);
    stored(&mut logs, topic, b"small");
    let after = logs.storage().checkpoint().unwrap();
    assert!(after.bytes < before && after.left == 0, "{before}, {after:?}");
    small.finish(logs.storage());
    large.finish(logs.storage());
}

#[test]
fn a_damaged_topic_takes_nothing_and_the_others_of_its_batch_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let [damaged, healthy] = [7, 8].map(|byte| TopicId([byte; 32]));
    let mut logs = logs(&path);
    for topic in [damaged, healthy] {
        stored(&mut logs, topic, b"before");
    }
    logs.storage().spoil(&damaged);
    logs.reload();
    let metrics = Arc::<Metrics>::default();
    let disk = Arc::<Disk>::default();
    let parts = WriterParts {
        logs,
        database: path,
        live: Arc::new(Live::new(Arc::clone(&metrics))),
        metrics: Arc::clone(&metrics),
        disk: Arc::clone(&disk),
        limits: Limits { deliveries_per_topic_per_minute: 2, ..Limits::default() },
        read_proof: false,
        opening: Arc::default(),
    };
    let mut thread = Thread::new(parts, mpsc::channel().1).unwrap();
    let budget = Arc::new(crate::health::Budget::new(0));
    let mut outcomes = Vec::new();
    let mut batch: Vec<_> = [(healthy, "one"), (damaged, "lost"), (healthy, "two"), (damaged, "lost, too")]
        .into_iter()
        .map(|(topic, op)| {
            let (reply, outcome) = oneshot::channel();
            outcomes.push(outcome);
            let (ops, permit) = (vec![Bytes::from(op)], budget.take(1).unwrap());
            Append { topic, ops, write: Write::Signed, permit, reply: Some(reply) }
        })
        .collect();
    thread.commit(&mut batch);
    let outcomes = outcomes.into_iter().map(|mut outcome| outcome.try_recv().unwrap());
    let (lost, seq) = (Err(Refused::Storage), |seq| Ok(Seq(seq)));
    assert_eq!(outcomes.collect::<Vec<_>>(), [seq(2), lost, seq(3), lost], "and charged once");
    assert!(!disk.refuses(), "nobody else gets 503");
    assert_eq!((metrics.drop_storage.get(), metrics.commit_failures.get(), metrics.stored.get()), (2, 1, 2));
}
