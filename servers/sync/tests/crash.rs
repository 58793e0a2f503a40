//! Kills, restarts, wipes and full disks: what was answered or pushed is still there.

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::{Server, write_key};
use delta_core::sync::frame::Frame;
use delta_core::topic::{Seq, TopicId};
use futures_util::StreamExt;
use tokio_tungstenite::tungstenite::Message;

/// What the outside world was told, by seq.
type Told = Arc<Mutex<HashMap<u64, Bytes>>>;

fn tell(told: &Told, seq: u64, op: Bytes) {
    let before = told.lock().unwrap().insert(seq, op.clone());
    assert!(before.is_none_or(|before| before == op), "two operations at seq {seq}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_65_kill_9_during_deliveries_loses_nothing_answered_or_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let topic = TopicId([5; 32]);
    let told = Told::default();
    for round in 0..5u64 {
        let server = Arc::new(Server::start(dir.path(), &["--accept-v2"]));
        let mut tasks = Vec::new();
        for writer in 0..4u64 {
            let (server, told) = (Arc::clone(&server), Arc::clone(&told));
            tasks.push(tokio::spawn(async move {
                for n in 0.. {
                    let op = Bytes::from(format!("{round}-{writer}-{n}"));
                    let Ok(answer) = server.deliver_json(&topic, &op).await else { return };
                    if answer.status == 200 {
                        tell(&told, answer.json()["seq"].as_u64().unwrap(), op);
                    }
                }
            }));
        }
        let mut client = server.subscribe(&topic, "").await;
        let pushed = Arc::clone(&told);
        tasks.push(tokio::spawn(async move {
            while let Some(Ok(Message::Binary(bytes))) = client.socket.next().await {
                if let Ok(Frame::Ops(ops)) = Frame::decode(bytes) {
                    ops.into_iter().for_each(|op| tell(&pushed, op.seq.0, op.op));
                }
            }
        }));
        let enough = told.lock().unwrap().len() + 150;
        common::eventually("deliveries", async || told.lock().unwrap().len() >= enough).await;
        // SIGKILL by process id, while deliveries are under way.
        let pid = server.pid().to_string();
        assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        for task in tasks {
            task.await.unwrap();
        }
        drop(server);

        let server = Server::start(dir.path(), &[]);
        let mut client = server.subscribe(&topic, "").await;
        client.ready().await;
        let told = told.lock().unwrap();
        for (seq, op) in told.iter() {
            assert_eq!(&client.ops[*seq as usize - 1].op, op, "round {round}, seq {seq}");
        }
        assert!(client.ops.len() as u64 >= told.keys().max().copied().unwrap_or(0));
    }
}

#[tokio::test]
async fn a_restart_keeps_seqs_chain_and_cursors() {
    let dir = tempfile::tempdir().unwrap();
    let key = write_key(1);
    let server = Server::start(dir.path(), &[]);
    let mut before = server.subscribe(&key.topic(), "").await;
    server.deliver(&key, &[b"one", b"two"], 1).await;
    before.reach(2).await;
    server.kill();
    let server = Server::start(dir.path(), &[]);
    server.deliver(&key, &[b"two", b"three"], 2).await;
    let mut after = server.subscribe(&key.topic(), &before.query()).await.resume(&before);
    after.reach(3).await;
    assert_eq!(after.bytes(), [&b"three"[..]]);
    assert_eq!(after.generation, before.generation);
}

#[tokio::test]
async fn case_51_a_wiped_server_has_new_generations_and_resets_its_clients() {
    let dir = tempfile::tempdir().unwrap();
    let key = write_key(1);
    let server = Server::start(dir.path(), &[]);
    let mut before = server.subscribe(&key.topic(), "").await;
    server.deliver(&key, &[b"one", b"two"], 1).await;
    before.reach(2).await;
    server.kill();
    // The write-ahead log stays behind: it must not be played into the new database.
    std::fs::remove_file(dir.path().join("topics.db")).unwrap();
    assert!(dir.path().join("topics.db-wal").exists());
    let server = Server::start(dir.path(), &[]);
    server.deliver(&key, &[b"two"], 2).await;
    server.head_reaches(&key.topic(), 1).await;
    let mut after = server.subscribe(&key.topic(), &before.query()).await.resume(&before);
    let frames = after.ready().await;
    assert!(matches!(frames[1], Frame::Reset { head: Seq(1), .. }));
    assert_ne!(after.generation, before.generation);
    assert_eq!(after.bytes(), [&b"two"[..]]);
}

/// Restored from an old backup, then grown past the old head: a client with the old chain is told at once.
#[tokio::test]
async fn a_restored_backup_that_grew_past_the_old_head_resets_its_clients() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("data"), dir.path().join("backup"));
    let key = write_key(1);
    let server = Server::start(&data, &[]);
    server.deliver(&key, &[b"one"], 1).await;
    server.head_reaches(&key.topic(), 1).await;
    assert!(server.terminate().success());
    copy(&data, &backup);
    let server = Server::start(&data, &[]);
    let mut before = server.subscribe(&key.topic(), "").await;
    server.deliver(&key, &[b"two"], 2).await;
    before.reach(2).await;
    server.kill();
    let server = Server::start(&backup, &[]);
    server.deliver(&key, &[b"other", b"third"], 3).await;
    server.head_reaches(&key.topic(), 3).await;
    let mut after = server.subscribe(&key.topic(), &before.query()).await.resume(&before);
    let frames = after.ready().await;
    assert!(matches!(frames[1], Frame::Reset { head: Seq(3), .. }));
    assert_eq!(after.bytes(), [&b"one"[..], b"other", b"third"]);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn case_64_a_full_disk_is_503_with_nothing_half_written_and_reading_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let topic = TopicId([5; 32]);
    let args = ["--accept-v2", "--limit", "database_bytes=1000000"];
    let server = Server::start(dir.path(), &args);
    let mut live = server.subscribe(&topic, "").await;
    live.ready().await;
    let mut stored = Vec::new();
    let refused = loop {
        let op = vec![stored.len() as u8; 20_000];
        let answer = server.deliver_json(&topic, &op).await.unwrap();
        match answer.status {
            200 => stored.push(Bytes::from(op)),
            _ => break answer,
        }
        assert!(stored.len() < 200, "the limit holds");
    };
    assert_eq!(refused.status, 503);
    assert!(refused.header("Retry-After").is_some());
    assert!(stored.len() > 20);
    live.reach(stored.len() as u64).await;
    assert_eq!(live.bytes(), stored);
    // Packets are refused too while storing fails (but for a few, to see whether it works again).
    let packet = vec![3; 4096];
    common::eventually("503", async || {
        server.post("/deliver", "application/octet-stream", &packet).await.status == 503
    })
    .await;
    assert!(server.terminate().success());

    let server = Server::start(dir.path(), &["--accept-v2"]);
    assert_eq!(server.deliver_json(&topic, b"room again").await.unwrap().status, 200);
    let mut client = server.subscribe(&topic, "").await;
    client.ready().await;
    stored.push(Bytes::from_static(b"room again"));
    assert_eq!(client.bytes(), stored);
}

#[test]
fn case_64_a_damaged_database_or_a_second_server_is_a_clear_error_and_nothing_is_recreated() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let error = Server::try_start(dir.path(), &[]).err().unwrap();
    assert!(error.contains("another server runs on"), "{error}");
    assert!(server.terminate().success());
    let database = dir.path().join("topics.db");
    let mut bytes = std::fs::read(&database).unwrap();
    bytes[..100].fill(0x55);
    std::fs::write(&database, &bytes).unwrap();
    let error = Server::try_start(dir.path(), &[]).err().unwrap();
    assert!(error.contains("topics.db") && error.contains("damaged"), "{error}");
    assert_eq!(std::fs::read(&database).unwrap(), bytes);

    std::fs::remove_file(dir.path().join("generation.secret")).unwrap();
    let error = Server::try_start(dir.path(), &[]).err().unwrap();
    assert!(error.contains("generation.secret"), "{error}");
}
