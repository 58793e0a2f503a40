//! Damaged files: a clear error, nothing made anew, nothing lost that was answered.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Server, write_key};
use delta_core::topic::TopicId;

const OPS: u64 = 60;

/// The operation at a seq: a text that is nowhere else, 2 KB.
fn op(seq: u64) -> Vec<u8> {
    format!("operation {seq:05} ").repeat(120).into_bytes()
}

/// A folder with operations in it. With `kill` as a kill -9 left it, else after a clean stop.
async fn filled(data: &Path, kill: bool) {
    let (server, key) = (Server::start(data, &[]), write_key(1));
    for seq in 1..=OPS {
        server.deliver(&key, &[&op(seq)], seq).await;
        server.head_reaches(&key.topic(), seq).await;
    }
    if kill {
        server.kill();
    } else {
        assert!(server.terminate().success());
    }
}

async fn serves_everything(data: &Path) {
    let server = Server::start(data, &[]);
    let mut client = server.subscribe(&write_key(1).topic(), "").await;
    client.ready().await;
    assert_eq!(client.bytes(), (1..=OPS).map(op).collect::<Vec<_>>());
    assert!(server.terminate().success());
}

/// What `check` prints, and whether it found nothing.
fn check(data: &Path) -> (bool, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_delta-sync"));
    let output = program.args(["check", "--data"]).arg(data).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn refused(data: &Path) -> String {
    Server::try_start(data, &[]).err().expect("the server refuses to start")
}

#[tokio::test]
async fn case_64_a_truncated_database_is_damaged_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), false).await;
    let path = dir.path().join("topics.db");
    let whole = std::fs::read(&path).unwrap();
    let half = whole.len() / 8192 / 2 * 8192;
    std::fs::write(&path, &whole[..half]).unwrap();
    let error = refused(dir.path());
    assert!(error.contains("topics.db") && error.contains("damaged"), "{error}");
    assert_eq!(
        std::fs::read(&path).unwrap(),
        whole[..half],
        "nothing is repaired behind the operator's back"
    );
    std::fs::write(&path, whole).unwrap();
    serves_everything(dir.path()).await;
}

#[tokio::test]
async fn case_64_a_flipped_page_is_found_by_the_check() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), false).await;
    assert!(check(dir.path()).0);
    let path = dir.path().join("topics.db");
    let whole = std::fs::read(&path).unwrap();
    // In an operation; and the first byte of its page, which says what kind of page it is.
    let looked_for = &op(30)[..100];
    let inside = whole.windows(looked_for.len()).position(|part| part == looked_for).unwrap() + 50;
    for (at, expected) in [(inside, "not the one of its hash"), (inside / 8192 * 8192, "")] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        std::fs::write(&path, &damaged).unwrap();
        let (fine, text) = check(dir.path());
        assert!(!fine && text.contains(expected), "byte {at}: {text}");
        // Whether it starts or not, it says so and does not crash: what it has is served, what not is 503.
        match Server::try_start(dir.path(), &[]) {
            Err(error) => assert!(error.contains("topics.db"), "{error}"),
            Ok(server) => {
                let ops = format!("/topic/{}/ops?after=28&limit=3", write_key(1).topic());
                assert!(matches!(server.get(&ops).await.status, 200 | 503));
                assert!(server.terminate().success());
            }
        }
    }
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::write(dir.path().join(format!("topics.db{suffix}")), b"");
    }
    std::fs::write(&path, whole).unwrap();
    serves_everything(dir.path()).await;
}

#[tokio::test]
async fn case_64_a_missing_write_ahead_log_is_said_and_put_back_everything_is_there() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), true).await;
    let log = dir.path().join("topics.db-wal");
    let bytes = std::fs::read(&log).unwrap();
    assert!(!bytes.is_empty());
    std::fs::remove_file(&log).unwrap();
    for _ in 0..2 {
        let error = refused(dir.path());
        assert!(error.contains("topics.db-wal is missing"), "{error}");
        assert!(!check(dir.path()).0);
    }
    std::fs::write(&log, bytes).unwrap();
    serves_everything(dir.path()).await;
    // After a clean stop the database is whole without it; but who removed it shall say so.
    std::fs::remove_file(&log).unwrap();
    assert!(refused(dir.path()).contains("topics.db-open"));
    std::fs::remove_file(dir.path().join("topics.db-open")).unwrap();
    serves_everything(dir.path()).await;
}

/// Killed with a packet on its way: sent again in another packet, the operation stands once.
#[tokio::test]
async fn case_40_killed_between_send_and_acknowledgement_gives_one_entry() {
    let dir = tempfile::tempdir().unwrap();
    let key = write_key(1);
    for round in 1..=6u64 {
        let server = Server::start(dir.path(), &[]);
        let op = round.to_be_bytes();
        server.deliver(&key, &[&op], 2 * round).await;
        server.kill();
        let server = Server::start(dir.path(), &[]);
        server.deliver(&key, &[&op], 2 * round + 1).await;
        server.head_reaches(&key.topic(), round).await;
        let mut client = server.subscribe(&key.topic(), "").await;
        client.ready().await;
        let expected: Vec<_> = (1..=round).map(|round| round.to_be_bytes().to_vec()).collect();
        assert_eq!(client.bytes(), expected);
        server.kill();
    }
}

/// A log that cannot be written (its disk is full) costs lines of it, and nothing else.
#[tokio::test]
async fn case_64_a_log_on_a_full_disk_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Every write to it fails as on a full disk (full(4)).
    let server = Server::start_logged(dir.path(), std::path::Path::new("/dev/full"), &["--accept-v2"]);
    let topic = TopicId([3; 32]);
    for n in 1..=3u8 {
        assert_eq!(server.deliver_json(&topic, &[n]).await.unwrap().status, 200);
    }
    server.head_reaches(&topic, 3).await;
    assert!(server.terminate().success());
}
