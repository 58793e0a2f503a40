//! What stood in a file in the clear before it was sealed stands nowhere in it, and in its log, afterwards.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::LazyLock;

use rusqlite::{Connection, params};

use super::sealing::{self, READ_KEY};
use super::secrets::{key, open};
use crate::entropy::{Entropy, SeededEntropy};
use crate::ops::Ticket;
use crate::store::secrets::Column;
use crate::store::{SCHEMA_VERSION, Store, beside};

/// Enough for many pages, put together anew over and over.
const TOPICS: u32 = 500;
/// Bytes of a secret that are looked for: pages that were put together anew hold pieces.
const PIECE: usize = 12;

/// Topics of random names and keys.
static TICKETS: LazyLock<Vec<Ticket>> = LazyLock::new(|| {
    let mut entropy = SeededEntropy::new([7; 32]);
    (0..TOPICS).map(|_| Ticket::generate_private(&mut entropy).unwrap()).collect()
});

/// Sessions, of all lengths: what changes its length moves others about in their page. By peer.
fn sessions() -> BTreeMap<[u8; 32], Vec<u8>> {
    let mut entropy = SeededEntropy::new([8; 32]);
    let session = |_| {
        let (mut peer, mut len) = ([0; 32], [0; 2]);
        entropy.fill(&mut peer).unwrap();
        entropy.fill(&mut len).unwrap();
        let mut state = vec![0; 100 + usize::from(u16::from_be_bytes(len)) % 500];
        entropy.fill(&mut state).unwrap();
        (peer, state)
    };
    (0..TOPICS).map(session).collect()
}

/// A database from before, with them and the topics.
fn historic(path: &Path) {
    sealing::historic(path, SCHEMA_VERSION, &TICKETS);
    let raw = Connection::open(path).unwrap();
    raw.execute_batch("PRAGMA secure_delete = ON; BEGIN").unwrap();
    // By length: in no order of their keys.
    let mut sessions: Vec<_> = sessions().into_iter().collect();
    sessions.sort_by_key(|(_, state)| state.len());
    for (peer, state) in sessions {
        let sql = "INSERT INTO two_party (peer, session, used_ms, state) VALUES (?1, x'00', 0, ?2)";
        raw.execute(sql, params![peer, state]).unwrap();
    }
    raw.execute_batch("COMMIT").unwrap();
    raw.close().unwrap();
}

type Piece = [u8; PIECE];

/// Pieces of every secret in it.
fn pieces() -> HashSet<Piece> {
    let texts: Vec<String> = TICKETS.iter().map(Ticket::to_string).collect();
    // A ticket's end is its keys.
    let ends = texts.iter().flat_map(|text| text.as_bytes()[text.len() - 4 * PIECE..].chunks_exact(PIECE));
    let sessions = sessions();
    let sessions = sessions.values().flat_map(|state| state.chunks_exact(PIECE));
    let pieces = ends.chain(READ_KEY.chunks_exact(PIECE)).chain(sessions);
    pieces.map(|piece| piece.try_into().unwrap()).collect()
}

/// How many of them the database and its log hold.
fn found(path: &Path, pieces: &HashSet<Piece>) -> usize {
    let files = ["", "-wal", "-shm", ".clean", ".clean-journal"].map(|suffix| beside(path, suffix));
    let mut found = HashSet::new();
    for bytes in files.iter().filter_map(|file| std::fs::read(file).ok()) {
        found.extend(bytes.array_windows().filter(|piece| pieces.contains(*piece)).copied());
    }
    found.len()
}

/// Reads everything that was sealed.
fn check(store: &Store) {
    let rows = store.topics().unwrap();
    let stored: HashSet<String> = rows.iter().map(|row| row.ticket.to_string()).collect();
    assert_eq!(stored, TICKETS.iter().map(Ticket::to_string).collect());
    assert_eq!(store.read_key(TICKETS[7].topic()).unwrap().unwrap()[..], READ_KEY);
    let sealed = store.all("SELECT peer, state FROM two_party", [], |row| Ok((row.get(0)?, row.get(1)?)));
    let unseal = |(peer, state): ([u8; 32], Vec<u8>)| {
        (peer, store.unseal(Column::Session, &[&peer[..], &[0]].concat(), state).unwrap().to_vec())
    };
    assert_eq!(sealed.unwrap().into_iter().map(unseal).collect::<BTreeMap<_, _>>(), sessions());
    store.check().unwrap();
}

/// As a program left it that sealed and knew nothing of what stays behind: the rows alone are sealed.
fn sealed_only(path: &Path) {
    historic(path);
    open(path).seal_without_cleaning(&key(1)).unwrap();
}

#[test]
fn nothing_of_500_topics_stays_in_the_file_or_its_log() {
    let pieces = pieces();
    for sealed_before in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.db");
        match sealed_before {
            false => historic(&path),
            true => sealed_only(&path),
        }
        assert!(found(&path, &pieces) > 0, "the search finds what is there");
        for _ in 0..2 {
            let mut store = open(&path);
            store.unlock(&key(1)).unwrap();
            assert_eq!(found(&path, &pieces), 0, "open");
            check(&store);
            store.close().unwrap();
            assert_eq!(found(&path, &pieces), 0, "closed");
        }
        assert!(!beside(&path, ".clean").exists());
    }
}

/// The database as a second process would find it if this one ended here: with its log.
fn killed(path: &Path, folder: &Path) -> std::path::PathBuf {
    let copy = folder.join("killed.db");
    for suffix in ["", "-wal"] {
        std::fs::copy(beside(path, suffix), beside(&copy, suffix)).unwrap();
    }
    copy
}

#[test]
fn what_somebody_still_reads_is_emptied_when_the_database_is_closed_or_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, pieces) = (folder.path().join("device.db"), pieces());
    historic(&path);
    let mut store = open(&path);
    // In the log as well as in the file.
    let raw = Connection::open(&path).unwrap();
    raw.execute("UPDATE topic SET added_ms = 1", []).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN").unwrap();
    let seen = |other: &Connection| -> Vec<u8> {
        let sql = "SELECT ticket FROM topic WHERE topic = ?1";
        other.query_row(sql, [TICKETS[7].topic().0], |row| row.get(0)).unwrap()
    };
    let before = seen(&other);
    assert_eq!(before, TICKETS[7].to_string().into_bytes());
    store.unlock(&key(1)).unwrap();
    assert_eq!(seen(&other), before, "it reads what it began with");
    assert!(found(&path, &pieces) > 0, "which is there");
    check(&store);
    let killed = killed(&path, folder.path());
    // Opened by the next process: the log is emptied, and nothing is written anew a second time.
    std::fs::create_dir(beside(&killed, ".clean")).unwrap();
    let mut next = open(&killed);
    next.unlock(&key(1)).unwrap();
    assert_eq!(found(&killed, &pieces), 0);
    check(&next);
    next.close().unwrap();
    // Closed by this one.
    other.execute_batch("COMMIT").unwrap();
    assert!(found(&path, &pieces) > 0);
    store.close().unwrap();
    assert_eq!(found(&path, &pieces), 0);
    drop((raw, other));
    let mut store = open(&path);
    store.unlock(&key(1)).unwrap();
    check(&store);
    assert_eq!(store.setting("sealed-clean").unwrap().unwrap(), [2], "for good");
}

/// As on a full disk: the copy cannot be made.
#[test]
fn a_database_that_cannot_be_written_anew_opens_and_is_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let (path, pieces) = (folder.path().join("device.db"), pieces());
    historic(&path);
    let in_the_way = beside(&path, ".clean");
    std::fs::create_dir(&in_the_way).unwrap();
    for _ in 0..2 {
        let mut store = open(&path);
        store.unlock(&key(1)).unwrap();
        check(&store);
        assert_eq!(store.setting("sealed-clean").unwrap(), None);
        store.close().unwrap();
    }
    assert!(found(&path, &pieces) > 0, "what is left of before");
    std::fs::remove_dir(&in_the_way).unwrap();
    let mut store = open(&path);
    store.unlock(&key(1)).unwrap();
    assert_eq!(found(&path, &pieces), 0);
    check(&store);
    store.close().unwrap();
    assert_eq!(found(&path, &pieces), 0);
}

#[test]
fn what_a_killed_process_left_beside_a_database_goes_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    open(&path).close().unwrap();
    let left = [".clean", ".clean-journal", ".export", ".export-journal", ".export-wal", ".export-shm"]
        .map(|suffix| beside(&path, suffix));
    left.iter().for_each(|file| std::fs::write(file, b"half a database").unwrap());
    // Not while another one may be at work.
    let store = open(&path);
    assert!(left.iter().all(|file| !file.exists()));
    std::fs::write(&left[2], b"at work").unwrap();
    assert!(Store::open(&path, crate::store::StoreOptions::default()).is_err());
    assert!(left[2].exists());
    store.close().unwrap();
}

/// A new database has nothing to be cleaned of; one that was used before it was sealed has.
#[test]
fn a_new_database_is_not_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    for used in [false, true] {
        let path = folder.path().join(format!("{used}.db"));
        let mut store = open(&path);
        if used {
            drop(store.begin(crate::store::Durability::Full).unwrap());
        }
        std::fs::create_dir(beside(&path, ".clean")).unwrap();
        store.unlock(&key(1)).unwrap();
        assert_eq!(store.setting("sealed-clean").unwrap().is_none(), used);
    }
}

/// Every step goes on where the last one ended, and finds its row by the table's key.
#[test]
fn sealing_takes_one_row_after_the_other_by_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("device.db"));
    for column in Column::SECRET {
        for sql in column.statements() {
            let mut sql = sql.to_owned();
            (1..=4).for_each(|n| sql = sql.replace(&format!("?{n}"), "1"));
            let plan =
                store.all(&format!("EXPLAIN QUERY PLAN {sql}"), [], |row| row.get::<_, String>(3)).unwrap();
            assert!(plan.iter().all(|step| step.starts_with("SEARCH")), "{sql}\n{plan:#?}");
        }
    }
}
