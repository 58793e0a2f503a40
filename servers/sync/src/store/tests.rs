//! Tests of the database: the storage contract, what is refused, migrations and plans.

use delta_core::identity::{Author, EnvelopeHash, Millis, OperationId};
use delta_core::topic::{Chain, TopicId};
use delta_topic_log::{
    Closed, Entry, GenerationSecret, HistoryQuery, LogReader, LogStorage, MemoryStorage, Order, Said,
    SearchQuery, StoredOp, TopicFacts, TopicLogs, Words, Write,
};

use super::log::{WALK, WALK_BACK};
use super::schema::{APPLICATION_ID, MIGRATIONS};
use super::topics::CHANNELS;
use super::*;

const TOPIC: TopicId = TopicId([7; 32]);

impl Sql {
    /// Puts into a topic's log what no version of this program writes there.
    pub fn spoil(&self, topic: &TopicId) {
        let changed =
            self.connection.execute("UPDATE operations SET chain = x'00' WHERE topic = ?1", [&topic.0]);
        assert_ne!(changed.unwrap(), 0);
    }
}

fn logs(path: &Path) -> TopicLogs<Sql> {
    TopicLogs::new(Sql::writer(path, 0).unwrap(), GenerationSecret::from_bytes([0; 32]))
}

fn seqs<R: LogReader>(reader: &R, after: u64, before: u64, up: bool) -> Vec<(u64, Vec<u8>)>
where
    R::Error: std::fmt::Debug,
{
    let mut found = Vec::new();
    let mut visit = |op: StoredOp<'_>| {
        found.push((op.seq.0, op.op.to_vec()));
        found.len() < 3
    };
    let (after, before) = (Seq(after), Seq(before));
    let order = if up { Order::Ascending } else { Order::Descending };
    reader.walk(&TOPIC, after, before, order, &mut visit).unwrap();
    found
}

/// A kill leaves what was written in the system's memory: only this shows that a commit is on the disk when it is told.
#[test]
fn a_commit_is_synced_before_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let sql = Sql::writer(&dir.path().join("db"), 0).unwrap();
    let pragma = |name: &str| -> String {
        let text = format!("PRAGMA {name}");
        sql.connection.query_row(&text, [], |row| row.get::<_, rusqlite::types::Value>(0)).map_or_else(
            |error| error.to_string(),
            |value| match value {
                rusqlite::types::Value::Text(text) => text,
                rusqlite::types::Value::Integer(number) => number.to_string(),
                other => format!("{other:?}"),
            },
        )
    };
    // FULL syncs the log at every commit (sqlite.org/pragma.html#pragma_synchronous); fullfsync is Apple's.
    assert_eq!([pragma("journal_mode"), pragma("synchronous"), pragma("fullfsync")], ["wal", "2", "1"]);
}

/// The same steps on SQLite and in memory give the same answers.
#[test]
fn sqlite_keeps_the_storage_contract() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let mut disk = logs(&path);
    let mut memory = TopicLogs::new(MemoryStorage::new(), GenerationSecret::from_bytes([0; 32]));
    assert_eq!(disk.storage().state(&TOPIC).unwrap(), None);
    let mut places = (Vec::new(), Vec::new());
    let ops: Vec<Vec<u8>> = (0..8u8).map(|n| vec![n % 6; 3]).collect();
    let ops: Vec<&[u8]> = ops.iter().map(Vec::as_slice).collect();
    for (time, batch) in ops.chunks(3).enumerate() {
        let now = Millis(100 - time as u64);
        disk.append(now, &TOPIC, batch, Write::Signed, &mut places.0).unwrap();
        memory.append(now, &TOPIC, batch, Write::Signed, &mut places.1).unwrap();
        disk.commit().unwrap();
        memory.commit().unwrap();
    }
    disk.append(Millis(0), &TOPIC, &[b"undone"], Write::Signed, &mut Vec::new()).unwrap();
    disk.rollback();
    disk.evict(&TOPIC, Seq(2)).unwrap();
    disk.commit().unwrap();
    memory.evict(&TOPIC, Seq(2)).unwrap();
    assert_eq!(places.0, places.1);
    drop(disk);
    let _writer = Sql::writer(&path, 0).unwrap();
    let disk = Sql::reader(&path).unwrap();
    let memory = memory.storage();
    assert_eq!(disk.state(&TOPIC).unwrap(), memory.state(&TOPIC).unwrap());
    for seq in 0..9 {
        assert_eq!(disk.mark(&TOPIC, Seq(seq)).unwrap(), memory.mark(&TOPIC, Seq(seq)).unwrap());
    }
    for op in ops.iter().chain([&&b"undone"[..]]) {
        let hash = EnvelopeHash::of(op);
        assert_eq!(disk.find(&TOPIC, &hash).unwrap(), memory.find(&TOPIC, &hash).unwrap());
    }
    for (after, before) in [(0, u64::MAX), (0, 4), (3, 100), (3, 4), (9, 1)] {
        for up in [true, false] {
            assert_eq!(seqs(&disk, after, before, up), seqs(memory, after, before, up));
        }
    }
    assert_eq!(disk.topic_after(None).unwrap(), Some(TOPIC));
    assert_eq!(disk.topic_after(Some(&TOPIC)).unwrap(), None);
    assert_eq!(disk.evict_for_bytes(&TOPIC, 12).unwrap(), Seq(0), "four of three bytes each are kept");
    assert_eq!(disk.evict_for_bytes(&TOPIC, 11).unwrap(), Seq(3));
    assert_eq!(disk.evict_for_bytes(&TOPIC, 7).unwrap(), Seq(4));
    assert_eq!(disk.evict_for_bytes(&TOPIC, 2).unwrap(), Seq(6), "not even one fits");
    let largest = disk.largest_topics(3).unwrap();
    assert_eq!(largest, [TopicSize { topic: TOPIC, operations: 4, bytes: 12 }]);
}

#[test]
fn a_foreign_a_damaged_and_a_newer_file_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    assert!(matches!(Sql::writer(&path, 0), Err(StoreError::Damaged { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 8192]);

    let path = dir.path().join("foreign");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(matches!(Sql::writer(&path, 0), Err(StoreError::Damaged { .. })));

    let path = dir.path().join("newer");
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(matches!(Sql::writer(&path, 0), Err(StoreError::Newer { found: 99, .. })));
}

/// A file as schema version 1 left it opens, keeps its rows, and knows what later versions added.
#[test]
fn a_database_of_the_first_schema_is_migrated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let old = Connection::open(&path).unwrap();
    let rows = "INSERT INTO operations VALUES (zeroblob(32), 1, 5, x'aa', zeroblob(32), x'bb');
               INSERT INTO topics VALUES (zeroblob(32), 1, 1);";
    let sql =
        format!("PRAGMA application_id = {APPLICATION_ID}; {} {rows} PRAGMA user_version = 1", MIGRATIONS[0]);
    old.execute_batch(&sql).unwrap();
    drop(old);
    let mut storage = Sql::writer(&path, 0).unwrap();
    let topic = TopicId([0; 32]);
    let state = storage.state(&topic).unwrap().unwrap();
    assert_eq!((state.head, state.signed, state.closed), (Seq(1), true, None));
    assert_eq!(storage.facts(&topic).unwrap(), TopicFacts::default());
    let facts = TopicFacts {
        counter: u64::MAX >> 1,
        read_key: Some([1; 32]),
        metadata: Some(vec![2]),
        closed: Some(Closed::Deleted),
    };
    storage.set_facts(&topic, &facts).unwrap();
    assert_eq!(storage.facts(&topic).unwrap(), facts);
    let state = storage.state(&topic).unwrap().unwrap();
    assert_eq!((state.head, state.signed, state.closed), (Seq(1), true, Some(Closed::Deleted)));
    assert_eq!(storage.closed_topics().unwrap(), [topic]);
    let channel = Channel { topic, head: Seq(1), tail: Seq(1), closed: Some(Closed::Deleted) };
    assert_eq!(storage.channels().unwrap(), [channel]);
}

/// What was written before bytes were counted is counted by the migration; what was evicted before is not.
#[test]
fn the_third_schema_counts_the_bytes_of_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let old = Connection::open(&path).unwrap();
    let mut sql = format!("PRAGMA application_id = {APPLICATION_ID}; {} {}", MIGRATIONS[0], MIGRATIONS[1]);
    for (topic, seq, op) in [(7, 1, "NULL"), (7, 2, "zeroblob(10)"), (7, 3, "zeroblob(5)"), (8, 1, "x'00'")] {
        let topic = hex::encode([topic; 32]);
        sql +=
            &format!("INSERT INTO operations VALUES (x'{topic}', {seq}, 0, x'0{seq}', zeroblob(32), {op});");
    }
    sql += &format!("INSERT INTO topics (topic, tail) VALUES (x'{}', 2);", hex::encode([7; 32]));
    old.execute_batch(&(sql + "PRAGMA user_version = 2")).unwrap();
    drop(old);
    let mut logs = logs(&path);
    logs.append(Millis(0), &TOPIC, &[b"four"], Write::Signed, &mut Vec::new()).unwrap();
    logs.commit().unwrap();
    let sizes = logs.storage().largest_topics(2).unwrap();
    let sizes: Vec<_> = sizes.iter().map(|size| (size.topic.0[0], size.operations, size.bytes)).collect();
    assert_eq!(sizes, [(7, 3, 19), (8, 1, 1)]);
    assert_eq!(logs.storage().evict_for_bytes(&TOPIC, 10).unwrap(), Seq(2));
}

#[test]
fn a_full_database_is_told_apart_and_what_was_committed_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let storage = Sql::writer(&path, 256 * 1024).unwrap();
    let mut logs = TopicLogs::new(storage, GenerationSecret::from_bytes([0; 32]));
    let mut stored = 0;
    let error = loop {
        let op = [stored; 1000];
        let appended = logs.append(Millis(0), &TOPIC, &[&op], Write::Signed, &mut Vec::new());
        match appended
            .map_err(|error| error.to_string())
            .and_then(|()| logs.commit().map_err(|e| e.to_string()))
        {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(error.contains("no room left"), "{error}");
    assert!(stored > 10);
    assert_eq!(logs.view(&TOPIC).unwrap().head, Seq(stored.into()));
}

/// Room for one page more each time, so that every write is the one that fails once.
#[test]
fn case_64_a_disk_that_is_full_at_any_write_loses_nothing_committed() {
    const PAGES: std::ops::Range<u64> = 8..48;
    let dir = tempfile::tempdir().unwrap();
    let secret = || GenerationSecret::from_bytes([0; 32]);
    for pages in PAGES {
        let path = dir.path().join(pages.to_string());
        let mut logs = TopicLogs::new(Sql::writer(&path, pages * 8192).unwrap(), secret());
        let mut committed = 0u64;
        loop {
            // Two operations in one commit: both or none. Every fourth commit evicts, too.
            let ops = [0, 1].map(|n| vec![(2 * committed + n) as u8; 700 + 300 * (committed % 3) as usize]);
            let ops = [&ops[0][..], &ops[1][..]];
            let appended = logs.append(Millis(0), &TOPIC, &ops, Write::Signed, &mut Vec::new());
            if appended.is_err() || logs.commit().is_err() {
                logs.rollback();
                break;
            }
            committed += 1;
            let _ = logs.evict(&TOPIC, Seq(committed / 4)).and_then(|()| logs.commit());
        }
        assert_eq!(logs.view(&TOPIC).unwrap().head, Seq(2 * committed), "{pages} pages");
        drop(logs);
        let report = Sql::writer(&path, 0).unwrap().check(&secret()).unwrap();
        assert_eq!((report.rows, report.problems), (2 * committed, vec![]), "{pages} pages");
    }
}

/// Readers of history and replay go straight to their rows.
#[test]
fn queries_use_the_keys() {
    let dir = tempfile::tempdir().unwrap();
    let sql = Sql::writer(&dir.path().join("db"), 0).unwrap();
    for (query, index) in [
        (WALK, "PRIMARY KEY (topic=? AND seq>? AND seq<?)"),
        (WALK_BACK, "PRIMARY KEY (topic=? AND seq>? AND seq<?)"),
        ("SELECT seq FROM operations WHERE topic = x'00' ORDER BY seq DESC LIMIT 1", "PRIMARY KEY (topic=?)"),
        (
            "SELECT seq FROM operations WHERE topic = x'00' AND hash = x'00'",
            "operations_hash (topic=? AND hash=?)",
        ),
        // A range of times is found by bisection of these.
        (
            "SELECT received FROM operations WHERE topic = x'00' AND seq = 7",
            "PRIMARY KEY (topic=? AND seq=?)",
        ),
        (CHANNELS, "USING INDEX topics_public"),
    ] {
        let plan = sql.plan(query);
        assert!(plan.contains(index) && !plan.contains("TEMP"), "{query}: {plan}");
    }
}

/// Every question about a channel is one range of an index, in its order: nothing is sorted, no table walked.
#[test]
fn searches_use_their_indexes() {
    use super::search::{
        BY_AUTHOR, BY_AUTHOR_NEWEST, BY_PLACE, BY_PLACE_NEWEST, BY_WORDS, BY_WORDS_NEWEST, EDITS, ERASED,
        MESSAGES,
    };
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = Index::writer(&dir.path().join("index")).unwrap();
    let range = "INTEGER PRIMARY KEY (rowid>? AND rowid<?)";
    let author = "COVERING INDEX entries_author (author=? AND place>? AND place<?)";
    // M: the words; > and <: the range of places.
    let words = ["VIRTUAL TABLE INDEX", "M", ">", "<"];
    for (query, parts) in [
        (BY_PLACE, &[range][..]),
        (BY_PLACE_NEWEST, &[range]),
        (BY_AUTHOR, &[author]),
        (BY_AUTHOR_NEWEST, &[author]),
        (BY_WORDS, &words),
        (BY_WORDS_NEWEST, &words),
        (ERASED, &["INDEX entries_erased (target=? AND author=? AND rowid>? AND rowid<?)"]),
        (MESSAGES, &["INDEX entries_id (id=?"]),
        (EDITS, &["INDEX entries_edits (target=? AND author=? AND rowid>? AND rowid<?)"]),
    ] {
        let plan = index.plan(query);
        assert!(parts.iter().all(|part| plan.contains(part)), "{query}: {plan}");
        assert!(!plan.contains("TEMP") && !plan.contains("SCAN entries"), "{query}: {plan}");
    }
}

/// Counted in steps of SQLite's machine: what came before makes no edit and no delete of a message dearer, and one
/// delete of all of them is done in pages.
#[test]
fn each_edit_and_delete_of_one_message_costs_the_same() {
    const MANY: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let index = Index::writer(&dir.path().join("index")).unwrap().0.bounded().unwrap();
    let position = index.add(&TOPIC, Seq(0), Chain([0; 32])).unwrap().unwrap();
    let message = OperationId([1; 32]);
    let entry = |seq: u64, said| {
        let mut id = [2; 32];
        id[..8].copy_from_slice(&seq.to_be_bytes());
        Entry { id: OperationId(id), author: Author([3; 32]), said }
    };
    // Steps of the first and of the last tenth of many, and how often there was no room left.
    let put = |first: u64, said: &dyn Fn() -> Said| {
        let (mut marks, mut pages) = (vec![index.steps()], 0);
        for tenth in 0..10 {
            let some = tenth * MANY / 10..(tenth + 1) * MANY / 10;
            let done = index.transaction(|index| {
                for n in some {
                    let (seq, entry) = (Seq(first + n), entry(first + n, said()));
                    let mut room = ERASE_PAGE;
                    while !index.insert(&position, seq, &entry, &mut room)? {
                        assert_eq!(std::mem::replace(&mut room, ERASE_PAGE), 0);
                        pages += 1;
                    }
                }
                Ok(())
            });
            done.unwrap();
            marks.push(index.steps());
        }
        (marks[1] - marks[0], marks[10] - marks[9], pages)
    };
    let edit = || Said::Edit(message, "apple".to_owned());
    let (first, last, pages) = put(1, &edit);
    assert!(last < 2 * first && pages == 0, "edits: {first}, {last}");
    let (first, last, pages) = put(1 + MANY, &|| Said::Delete(message));
    assert!(last < 2 * first, "deletes: {first}, {last}");
    assert_eq!(pages, MANY as i64 / ERASE_PAGE);
    let (first, last, _) = put(1 + 2 * MANY, &edit);
    assert!(last < 2 * first, "edits of what was deleted: {first}, {last}");
    let words = Words::parse("apple").unwrap();
    let query = SearchQuery { words, ..SearchQuery::default() };
    assert_eq!(index.find(&position, &query, (Seq(0), Seq::MAX), FIND_STEPS).unwrap(), []);
    let query = SearchQuery::default();
    assert_eq!(index.find(&position, &query, (Seq(0), Seq::MAX), FIND_STEPS).unwrap().len(), 20);
}

/// Two words that many texts of another channel have, and none has both: a walk through all of them, which counts.
#[test]
fn a_question_that_takes_too_long_is_ended_and_the_next_is_answered() {
    const TEXTS: u64 = 40_000;
    let dir = tempfile::tempdir().unwrap();
    let index = Index::writer(&dir.path().join("index")).unwrap().0.bounded().unwrap();
    let position = index.add(&TOPIC, Seq(0), Chain([0; 32])).unwrap().unwrap();
    let other = index.add(&TopicId([9; 32]), Seq(0), Chain([0; 32])).unwrap().unwrap();
    let put = |position: &Position, seq: u64, text: &str| {
        let entry =
            Entry { id: OperationId([1; 32]), author: Author([3; 32]), said: Said::Text(text.to_owned()) };
        index.insert(position, Seq(seq), &entry, &mut 0)
    };
    index
        .transaction(|index| {
            for n in 1..=TEXTS {
                put(&other, n, if n % 2 == 0 { "left" } else { "right" })?;
            }
            put(&position, 1, "left right")?;
            index.advance(&position)
        })
        .unwrap();
    let find = |words: &str, limit, steps| {
        let words = Words::parse(words).unwrap();
        let range = HistoryQuery { limit, ..HistoryQuery::default() };
        let query = SearchQuery { words, range, author: None };
        index.snapshot(|index| index.find(&other, &query, (Seq(0), Seq::MAX), steps))
    };
    for _ in 0..2 {
        let ended = find("left right", 100, 200);
        assert!(matches!(ended, Err(StoreError::TooLong { .. })), "{ended:?}");
        assert_eq!(find("left right", 100, FIND_STEPS).unwrap(), []);
    }
    // What a page takes at most is far from the limit.
    assert_eq!(find("left", 100, FIND_STEPS / 10).unwrap().len(), 100);
}
