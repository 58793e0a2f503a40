//! Opening, locking, migrating, and files that are not what they should be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;

use crate::engine::ingest::tests_support::{LOG, Writer, ticket};
use crate::engine::ingest::{Context, ingest};
use crate::identity::Millis;
use crate::store::{Durability, Page, SCHEMA_VERSION, Store, StoreError, StoreOptions, beside, schema};
use crate::topic::{Generation, Seq};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn open(path: &Path) -> Result<Store, StoreError> {
    Store::open(path, StoreOptions::default())
}

fn context(seq: u64) -> Context {
    Context {
        topic: ticket(0).topic(),
        log: LOG,
        epoch: 0,
        generation: Generation([1; 16]),
        resets: 0,
        seq: Seq(seq),
        received: Millis(seq),
        now: Millis(seq),
    }
}

/// Stores `count` messages of `len` bytes in durable transactions of 50.
fn fill(store: &mut Store, count: u64, len: usize) -> Result<u64, StoreError> {
    let mut writer = Writer::new(1);
    let mut seq = 0;
    while seq < count {
        let tx = store.begin(Durability::Full)?;
        tx.put_topic(&ticket(0), Millis(0))?;
        for seq in seq + 1..=(seq + 50).min(count) {
            ingest(&tx, &context(seq), &writer.say(&"x".repeat(len)))?;
        }
        tx.commit()?;
        seq = (seq + 50).min(count);
    }
    Ok(seq)
}

/// A closed database with 300 messages.
fn database(folder: &Path) -> PathBuf {
    let path = folder.join("device.db");
    let mut store = open(&path).unwrap();
    fill(&mut store, 300, 200).unwrap();
    store.close().unwrap();
    path
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let folder = folder();
    let path = database(folder.path());
    let store = open(&path).unwrap();
    assert_eq!(store.count_operations().unwrap(), 300);
    assert_eq!(store.messages(&LOG, Page::Newest, 1000).unwrap().len(), 300);
    store.check().unwrap();
}

#[test]
fn a_transaction_that_is_dropped_leaves_nothing_and_a_savepoint_only_its_own() {
    let mut store = Store::in_memory().unwrap();
    let tx = store.begin(Durability::Full).unwrap();
    tx.set_setting("a", b"1").unwrap();
    drop(tx);
    assert_eq!(store.setting("a").unwrap(), None);
    let tx = store.begin(Durability::Full).unwrap();
    tx.set_setting("kept", b"1").unwrap();
    let undone: Result<(), StoreError> = tx.savepoint(|tx| {
        tx.set_setting("undone", b"1")?;
        tx.savepoint(|tx| tx.set_setting("inner", b"1"))?;
        Err(tx.missing_row("on purpose"))
    });
    assert!(undone.is_err());
    tx.savepoint(|tx| tx.set_setting("kept too", b"1")).unwrap();
    tx.commit().unwrap();
    let held = ["kept", "kept too", "undone", "inner"].map(|name| store.setting(name).unwrap().is_some());
    assert_eq!(held, [true, true, false, false]);
}

#[test]
fn readers_see_commits_and_nothing_before_them() {
    let folder = folder();
    let mut store = open(&folder.path().join("device.db")).unwrap();
    let reader = store.reader().unwrap();
    let tx = store.begin(Durability::Normal).unwrap();
    tx.set_setting("a", b"1").unwrap();
    assert_eq!(reader.setting("a").unwrap(), None);
    tx.commit().unwrap();
    assert_eq!(reader.setting("a").unwrap().as_deref(), Some(b"1".as_slice()));
    let writing = reader.run("INSERT INTO setting VALUES ('b', x'00')", []);
    assert!(writing.is_err(), "a reader cannot write");
}

#[test]
fn a_checkpoint_moves_the_log_into_the_file() {
    let folder = folder();
    let path = folder.path().join("device.db");
    let mut store = open(&path).unwrap();
    fill(&mut store, 100, 100).unwrap();
    assert!(store.wal_bytes() > 100_000, "nothing checkpoints by itself");
    let done = store.checkpoint().unwrap();
    assert!(done.pages > 0 && done.moved == done.pages, "{done:?}");
    assert_eq!(store.wal_bytes(), 0, "what was moved does not ask for another checkpoint");
    let tx = store.begin(Durability::Full).unwrap();
    tx.set_setting("a", b"1").unwrap();
    tx.commit().unwrap();
    assert!((1..20_000).contains(&store.wal_bytes()), "counted anew");
}

#[test]
fn a_large_log_does_not_stay_large_for_ever() {
    let folder = folder();
    let path = folder.path().join("device.db");
    let mut store = open(&path).unwrap();
    let log_file = || std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
    let write = |store: &mut Store, name: &str, bytes: usize| {
        let tx = store.begin(Durability::Normal).unwrap();
        tx.set_setting(name, &vec![7; bytes]).unwrap();
        tx.commit().unwrap();
    };
    write(&mut store, "large", 6 << 20);
    assert!(log_file() > 6 << 20);
    store.checkpoint().unwrap();
    write(&mut store, "small", 1);
    assert!(log_file() <= 4 << 20, "{}", log_file());
}

/// Run as a process of its own by the test below: tries to open the database named in the environment.
#[test]
fn case_69_child() {
    let Some(path) = std::env::var_os("DELTA_TEST_LOCKED_DB") else { return };
    match open(Path::new(&path)) {
        Err(StoreError::Locked { path: named }) => assert_eq!(named, Path::new(&path)),
        other => panic!("expected Locked, got {other:?}"),
    }
}

#[test]
fn case_69_a_second_process_is_told_that_the_database_is_open() {
    let folder = folder();
    let path = folder.path().join("device.db");
    let store = open(&path).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::files::case_69_child"])
        .env("DELTA_TEST_LOCKED_DB", &path)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "the child ran");
    // So is a second instance in this process; closing frees it.
    assert!(matches!(open(&path), Err(StoreError::Locked { .. })));
    store.close().unwrap();
    open(&path).unwrap();
}

#[test]
fn case_64_a_file_of_another_kind_or_key_is_refused_and_left_alone() {
    let folder = folder();
    let path = folder.path().join("device.db");
    let bytes: Vec<u8> = (0..8192u32).map(|n| n.to_le_bytes()[0] ^ 0xa5).collect();
    fs::write(&path, &bytes).unwrap();
    match open(&path) {
        Err(StoreError::NotADatabase { path: named }) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_database_of_another_application_is_refused_and_left_alone() {
    let folder = folder();
    let path = folder.path().join("device.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA application_id = 7; CREATE TABLE note (text TEXT);").unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    assert!(matches!(open(&path), Err(StoreError::ForeignDatabase { application_id: 7, .. })));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn case_64_a_newer_schema_is_refused_with_both_versions() {
    let folder = folder();
    let path = database(folder.path());
    let newer = Connection::open(&path).unwrap();
    newer.execute_batch(&format!("PRAGMA user_version = {}", SCHEMA_VERSION + 1)).unwrap();
    newer.close().unwrap();
    match open(&path) {
        Err(StoreError::NewerSchema { found, known, .. }) => {
            assert_eq!((found, known), (SCHEMA_VERSION + 1, SCHEMA_VERSION));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn case_64_a_truncated_file_is_damaged_not_empty() {
    let folder = folder();
    let path = database(folder.path());
    let whole = fs::read(&path).unwrap();
    for keep in [whole.len() - 4096, whole.len() / 2, 4096, 1000, 100, 0] {
        fs::write(&path, &whole[..keep]).unwrap();
        let error = open(&path).unwrap_err();
        assert!(
            matches!(error, StoreError::Corrupt { .. } | StoreError::NotADatabase { .. }),
            "{keep}: {error:?}"
        );
        assert!(error.to_string().contains("device.db"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), whole[..keep], "left as it was");
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(open(&path).unwrap().count_operations().unwrap(), 300);
}

#[test]
fn case_64_a_flipped_page_is_found_when_read_and_by_the_check() {
    let folder = folder();
    let path = database(folder.path());
    let whole = fs::read(&path).unwrap();
    let pages = whole.len() / 4096;
    let mut found = 0;
    for page in (1..pages).step_by(7) {
        let mut bytes = whole.clone();
        for byte in &mut bytes[page * 4096..(page + 1) * 4096] {
            *byte ^= 0xff;
        }
        fs::write(&path, &bytes).unwrap();
        let read = open(&path).and_then(|store| {
            store.list_operations(None, 1000)?;
            store.messages(&LOG, Page::Newest, 1000)?;
            store.check()
        });
        match read {
            Err(StoreError::Corrupt { path: named, .. }) => {
                assert_eq!(named, path);
                found += 1;
            }
            // A page on the free list holds nothing.
            Ok(()) => {}
            Err(other) => panic!("page {page}: {other:?}"),
        }
    }
    assert!(found > 3, "{found} of {pages} pages");
}

#[test]
fn case_64_a_flipped_bit_in_a_header_is_found_by_the_check() {
    let folder = folder();
    let path = database(folder.path());
    let conn = Connection::open(&path).unwrap();
    let changed = conn.execute(
        "UPDATE operations SET header = CAST(x'00' || substr(header, 2) AS BLOB) WHERE seq_num = 17",
        [],
    );
    assert_eq!(changed.unwrap(), 1);
    conn.close().unwrap();
    assert!(matches!(open(&path).unwrap().check(), Err(StoreError::Corrupt { .. })));
}

/// Copies what a process that was killed now would leave behind.
fn killed(path: &Path, to: &Path) -> PathBuf {
    let copy = to.join("device.db");
    for suffix in ["", "-wal", ".lock"] {
        fs::copy(beside(path, suffix), beside(&copy, suffix)).unwrap();
    }
    copy
}

#[test]
fn case_64_a_missing_write_ahead_log_is_noticed_when_it_held_commits() {
    let (one, two) = (folder(), folder());
    let path = one.path().join("device.db");
    let mut store = open(&path).unwrap();
    store.checkpoint().unwrap();
    fill(&mut store, 50, 100).unwrap();
    let left = killed(&path, two.path());
    let wal = fs::read(beside(&left, "-wal")).unwrap();
    fs::remove_file(beside(&left, "-wal")).unwrap();
    for attempt in 0..2 {
        match open(&left) {
            Err(StoreError::WalMissing { path: named, lock }) => {
                assert_eq!((named, lock), (left.clone(), beside(&left, ".lock")), "{attempt}");
            }
            other => panic!("{attempt}: {other:?}"),
        }
    }
    let main = fs::read(&left).unwrap();
    fs::remove_file(&left).unwrap();
    assert!(matches!(open(&left), Err(StoreError::WalMissing { .. })), "nor is the file made anew");
    assert!(!left.exists());
    fs::write(&left, main).unwrap();
    // With the log back, everything is.
    fs::write(beside(&left, "-wal"), wal).unwrap();
    let _ = fs::remove_file(beside(&left, "-shm"));
    let store = open(&left).unwrap();
    assert_eq!(store.count_operations().unwrap(), 50);
    // After a clean close the log is not needed any more.
    store.close().unwrap();
    let _ = fs::remove_file(beside(&left, "-wal"));
    assert_eq!(open(&left).unwrap().count_operations().unwrap(), 50);
}

#[test]
fn somebody_else_may_look_into_the_file_after_a_crash() {
    let (one, two) = (folder(), folder());
    let path = one.path().join("device.db");
    let mut store = open(&path).unwrap();
    fill(&mut store, 50, 100).unwrap();
    let left = killed(&path, two.path());
    // Another program's SQLite moves the log into the file when it closes, and removes the log.
    let other = Connection::open(&left).unwrap();
    let count: i64 = other.query_row("SELECT count(*) FROM operations", [], |row| row.get(0)).unwrap();
    other.close().unwrap();
    assert_eq!(count, 50);
    assert!(!beside(&left, "-wal").exists());
    assert_eq!(open(&left).unwrap().count_operations().unwrap(), 50);
}

#[test]
fn case_64_a_full_disk_is_said_so_and_nothing_acknowledged_is_lost() {
    let folder = folder();
    let path = folder.path().join("device.db");
    let mut store =
        Store::open(&path, StoreOptions { max_pages: Some(220), ..StoreOptions::default() }).unwrap();
    let mut writer = Writer::new(1);
    let mut acknowledged = 0;
    let error = loop {
        let mut attempt = || {
            let tx = store.begin(Durability::Full)?;
            tx.put_topic(&ticket(0), Millis(0))?;
            ingest(&tx, &context(acknowledged + 1), &writer.say(&"x".repeat(3000)))?;
            tx.commit()
        };
        match attempt() {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 10_000, "never full");
    };
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains("device.db"), "{error}");
    assert!(acknowledged > 20);
    assert_eq!(store.count_operations().unwrap(), acknowledged, "reading goes on");
    store.close().unwrap();
    let mut store = open(&path).unwrap();
    store.check().unwrap();
    assert_eq!(store.count_operations().unwrap(), acknowledged);
    // With room again, so does writing.
    let tx = store.begin(Durability::Full).unwrap();
    tx.set_setting("room", b"again").unwrap();
    tx.commit().unwrap();
}

#[test]
fn case_64_a_limit_can_be_set_and_lifted_while_the_database_is_open() {
    let folder = folder();
    let mut store = open(&folder.path().join("device.db")).unwrap();
    let grow = |store: &mut Store| {
        let tx = store.begin(Durability::Full)?;
        tx.set_setting("large", &[7; 100_000])?;
        tx.commit()
    };
    store.limit_pages(Some(1)).unwrap();
    assert!(matches!(grow(&mut store), Err(StoreError::DiskFull { .. })));
    store.limit_pages(None).unwrap();
    grow(&mut store).unwrap();
}

#[test]
fn case_65_whatever_moment_it_was_killed_at_the_database_is_whole() {
    let (one, two) = (folder(), folder());
    let path = one.path().join("device.db");
    let mut store = open(&path).unwrap();
    store.checkpoint().unwrap();
    fill(&mut store, 100, 100).unwrap();
    let left = killed(&path, two.path());
    let wal = fs::read(beside(&left, "-wal")).unwrap();
    let main = fs::read(&left).unwrap();
    let mark = fs::read(beside(&left, ".lock")).unwrap();
    // A log cut anywhere loses only commits that were not complete in it. A kill cuts it before the commit is noted;
    // where it was noted, the loss is.
    for (keep, noted) in
        (0..=wal.len()).step_by(wal.len() / 23).chain([wal.len()]).zip([false, true].repeat(13))
    {
        fs::write(&left, &main).unwrap();
        fs::write(beside(&left, "-wal"), &wal[..keep]).unwrap();
        fs::write(beside(&left, ".lock"), if noted { mark.as_slice() } else { b"" }).unwrap();
        let _ = fs::remove_file(beside(&left, "-shm"));
        match open(&left) {
            Ok(store) => {
                let count = store.count_operations().unwrap();
                assert!(
                    count == 100 || !noted && (count == 0 || count == 50),
                    "{count} in transactions of 50"
                );
                store.check().unwrap();
            }
            Err(StoreError::WalMissing { .. }) => assert!(noted && keep < wal.len()),
            Err(other) => panic!("{keep}: {other:?}"),
        }
    }
}

#[test]
fn a_missing_file_is_made_only_when_asked_to() {
    let folder = folder();
    let path = folder.path().join("device.db");
    let options = StoreOptions { create: false, ..StoreOptions::default() };
    assert!(matches!(Store::open(&path, options.clone()), Err(StoreError::Io { .. })));
    assert!(!path.exists());
    open(&path).unwrap().close().unwrap();
    Store::open(&path, options).unwrap();
}

#[test]
fn every_historic_schema_version_becomes_the_newest() {
    for version in 0..=SCHEMA_VERSION {
        let folder = folder();
        let path = folder.path().join("device.db");
        let old = Connection::open(&path).unwrap();
        for (number, sql) in (1u32..).zip(schema::MIGRATIONS).take(version as usize) {
            old.execute_batch(sql).unwrap();
            old.execute_batch(&format!(
                "PRAGMA application_id = {}; PRAGMA user_version = {number};",
                schema::APPLICATION_ID
            ))
            .unwrap();
        }
        old.close().unwrap();
        let mut store = open(&path).unwrap();
        let found: u32 = store.pragma("PRAGMA user_version").unwrap();
        assert_eq!(found, SCHEMA_VERSION, "from {version}");
        assert_eq!(fill(&mut store, 3, 10).unwrap(), 3);
        store.check().unwrap();
    }
}

#[test]
fn a_migration_that_fails_leaves_the_version_before_it() {
    let folder = folder();
    let path = folder.path().join("device.db");
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(&format!(
        "PRAGMA application_id = {}; CREATE TABLE half (a); PRAGMA user_version = 0;",
        schema::APPLICATION_ID
    ))
    .unwrap();
    conn.close().unwrap();
    assert!(matches!(open(&path), Err(StoreError::Corrupt { .. })), "ours, but without a version");
}

#[test]
fn what_is_deleted_is_overwritten_in_the_file() {
    use crate::ops::Content;
    let folder = folder();
    let path = folder.path().join("device.db");
    let mut store = open(&path).unwrap();
    let mut writer = Writer::new(1);
    let secret = "a sentence that must not survive".repeat(3);
    let message = writer.say(&secret);
    let edit = writer.write(Content::MessageEdit { target: message.id(), text: secret.clone() });
    let delete = writer.delete(message.id());
    for (seq, op) in (1..).zip([&message, &edit, &delete]) {
        let tx = store.begin(Durability::Full).unwrap();
        tx.put_topic(&ticket(0), Millis(0)).unwrap();
        ingest(&tx, &context(seq), op).unwrap();
        tx.commit().unwrap();
    }
    store.close().unwrap();
    for suffix in ["", "-wal"] {
        let bytes = fs::read(beside(&path, suffix)).unwrap_or_default();
        let found = bytes.windows(20).any(|window| window == &secret.as_bytes()[..20]);
        assert!(!found, "the deleted text is still in device.db{suffix}");
    }
}
