//! The operator's commands, on folders of running and stopped servers.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Server, eventually, write_key};
use delta_core::sync::frame::Frame;
use delta_core::topic::{Seq, TopicId};

fn run(arguments: &[&str], data: &Path) -> Output {
    let (command, rest) = arguments.split_first().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_delta-sync"));
    program.args([command, "--data"]).arg(data).args(rest).output().unwrap()
}

fn works(arguments: &[&str], data: &Path) -> String {
    let output = run(arguments, data);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fails(arguments: &[&str], data: &Path) -> String {
    let output = run(arguments, data);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

async fn answers(server: &Server, topic: &TopicId, status: u16) {
    let path = format!("/topic/{topic}/head");
    eventually("the answer", async || server.get(&path).await.status == status).await;
}

#[tokio::test]
async fn a_backup_of_a_running_server_is_whole_and_serves_the_same_logs() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let server = Server::start(&data, &[]);
    let key = write_key(1);
    server.deliver(&key, &[b"one", b"two"], 1).await;
    server.head_reaches(&key.topic(), 2).await;
    assert_eq!(works(&["check"], &data), "1 topics, 2 operations, 0 problems\n");
    works(&["backup", "--to", copy.to_str().unwrap()], &data);
    assert!(fails(&["backup", "--to", copy.to_str().unwrap()], &data).contains("cannot make"));
    assert!(
        fails(&["import", "nothing.export"], &dir.path().join("other"))
            .starts_with("error: nothing.export: ")
    );
    server.deliver(&key, &[b"three"], 2).await;
    server.head_reaches(&key.topic(), 3).await;
    let (before, head) = (server.record.id, server.head(&key.topic()).await);
    server.kill();

    assert_eq!(works(&["check"], &copy), "1 topics, 2 operations, 0 problems\n");
    let server = Server::start(&copy, &[]);
    let restored = server.head(&key.topic()).await;
    assert_eq!((server.record.id, &restored["generation"]), (before, &head["generation"]));
    assert_eq!(restored["head"], 2);

    // One that cannot be ended leaves nothing behind.
    let (node, half) = (data.join("node.json"), dir.path().join("half"));
    std::fs::remove_file(&node).unwrap();
    std::fs::create_dir(&node).unwrap();
    assert!(fails(&["backup", "--to", half.to_str().unwrap()], &data).contains("node.json"));
    assert!(!half.exists());
}

/// The documented way back: what came after the backup is missing, so the logs are others, and whoever followed them is
/// told at once instead of seeing two histories under one name.
#[tokio::test]
async fn a_restored_server_has_the_backup_s_operations_under_new_generations() {
    let dir = tempfile::tempdir().unwrap();
    let [data, copy, again] = ["data", "copy", "again"].map(|name| dir.path().join(name));
    let server = Server::start(&data, &[]);
    let key = write_key(7);
    server.deliver(&key, &[b"one", b"two"], 1).await;
    server.head_reaches(&key.topic(), 2).await;
    works(&["backup", "--to", copy.to_str().unwrap()], &data);
    assert!(!copy.join("onion-keys.json").exists(), "what is on its way stays closed to a copy that leaks");
    let mut before = server.subscribe(&key.topic(), "").await;
    server.deliver(&key, &[b"three"], 2).await;
    before.reach(3).await;
    let identity = server.record.id;
    server.kill();

    assert!(fails(&["restore", "--from", copy.to_str().unwrap()], &data).contains("cannot make"));
    // One that was cut off is begun anew.
    std::fs::create_dir(dir.path().join("again.restoring")).unwrap();
    works(&["restore", "--from", copy.to_str().unwrap()], &again);
    assert_eq!(works(&["check"], &again), "1 topics, 2 operations, 0 problems\n");
    let server = Server::start(&again, &[]);
    assert_eq!(server.record.id, identity);
    server.deliver(&key, &[b"other", b"fourth"], 3).await;
    server.head_reaches(&key.topic(), 4).await;
    let mut after = server.subscribe(&key.topic(), &before.query()).await.resume(&before);
    let frames = after.ready().await;
    assert!(matches!(frames[1], Frame::Reset { head: Seq(4), .. }), "{frames:?}");
    assert_ne!(after.generation, before.generation);
    assert_eq!(after.bytes(), [&b"one"[..], b"two", b"other", b"fourth"]);
}

/// A command that looks must not make or remove anything, whatever is missing.
#[tokio::test]
async fn commands_about_a_database_that_is_moved_away_leave_the_rest_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]);
    let key = write_key(8);
    server.deliver(&key, &[b"one"], 1).await;
    server.head_reaches(&key.topic(), 1).await;
    server.kill();
    let aside = dir.path().join("topics.db");
    std::fs::rename(data.join("topics.db"), &aside).unwrap();
    let files = || {
        let names = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let (before, id, copy) = (files(), key.topic().to_string(), dir.path().join("copy"));
    let to = copy.to_str().unwrap();
    for command in [&["check"][..], &["topic", "block", &id], &["export", "--topic", &id, "--to", to]] {
        assert!(fails(command, &data).contains("topics.db is missing"), "{command:?}");
    }
    assert!(fails(&["backup", "--to", to], &data).contains("topics.db is missing"));
    assert_eq!(files(), before);
    std::fs::rename(&aside, data.join("topics.db")).unwrap();
    assert_eq!(works(&["check"], &data), "1 topics, 1 operations, 0 problems\n");
    // Nor is a copy made of a database whose newest operations are missing.
    std::fs::remove_file(data.join("topics.db-wal")).unwrap();
    assert!(fails(&["check"], &data).contains("topics.db-wal is missing"));
    let again = dir.path().join("again");
    assert!(fails(&["backup", "--to", again.to_str().unwrap()], &data).contains("topics.db-wal is missing"));
}

/// What was deleted or blocked here does not come back with an import, and an import that is refused changes nothing.
#[tokio::test]
async fn an_import_does_not_bring_back_what_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data, &[]);
    let key = write_key(9);
    server.deliver(&key, &[b"one"], 1).await;
    server.head_reaches(&key.topic(), 1).await;
    assert!(server.terminate().success());
    let (id, file) = (key.topic().to_string(), dir.path().join("file"));
    let file = file.to_str().unwrap();
    works(&["export", "--topic", &id, "--to", file], &data);
    for (action, says) in [("block", "unblock it first"), ("delete", "was deleted")] {
        works(&["topic", action, &id], &data);
        assert!(fails(&["import", file], &data).contains(says), "{action}");
        works(&["check"], &data);
    }
    let other = dir.path().join("other");
    assert!(
        fails(&["export", "--topic", &id, "--to", other.to_str().unwrap()], &data).contains("was deleted")
    );
    let server = Server::start(&data, &[]);
    answers(&server, &key.topic(), 410).await;
}

#[tokio::test]
async fn a_running_server_follows_what_the_operator_does_to_a_topic() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let key = write_key(2);
    let (topic, id) = (key.topic(), key.topic().to_string());
    // Also one that nobody has written to yet.
    works(&["topic", "block", &id], dir.path());
    answers(&server, &topic, 410).await;
    server.deliver(&key, &[b"refused"], 3).await;
    server.metric_reaches("delta_sync_packets_dropped_total{reason=\"closed\"}", 1).await;
    works(&["topic", "unblock", &id], dir.path());
    answers(&server, &topic, 200).await;
    server.deliver(&key, &[b"one"], 1).await;
    server.head_reaches(&topic, 1).await;
    let mut reader = server.subscribe(&topic, "").await;
    reader.ready().await;
    works(&["topic", "block", &id], dir.path());
    assert_eq!(reader.close_code().await, 1008);
    answers(&server, &topic, 410).await;
    works(&["topic", "unblock", &id], dir.path());
    answers(&server, &topic, 200).await;
    server.deliver(&key, &[b"two"], 2).await;
    server.head_reaches(&topic, 2).await;
    works(&["topic", "delete", &id], dir.path());
    answers(&server, &topic, 410).await;
    assert!(fails(&["topic", "unblock", &id], dir.path()).contains("was deleted"));
    assert_eq!(works(&["check"], dir.path()), "1 topics, 2 operations, 0 problems\n");
}

#[tokio::test]
async fn an_exported_topic_is_imported_elsewhere_under_a_new_generation() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new, file) = (dir.path().join("old"), dir.path().join("new"), dir.path().join("topic.export"));
    let file = file.to_str().unwrap();
    let (key, other) = (write_key(3), write_key(4));
    let server = Server::start(&old, &["--limit", "ops_per_topic=2"]);
    server.deliver(&key, &[b"one", b"two", b"three"], 1).await;
    eventually("eviction", async || server.head(&key.topic()).await["tail"] == 2).await;
    let id = key.topic().to_string();
    assert!(works(&["export", "--topic", &id, "--to", file], &old).starts_with("exported 2 operations"));

    let target = Server::start(&new, &[]);
    target.deliver(&other, &[b"was here"], 2).await;
    target.head_reaches(&other.topic(), 1).await;
    assert!(fails(&["import", file], &new).contains("another server runs"));
    let before = target.head(&other.topic()).await["generation"].clone();
    assert!(target.terminate().success());
    assert!(works(&["import", file], &new).starts_with("imported 2 operations"));
    assert!(works(&["check"], &new).ends_with("2 topics, 3 operations, 0 problems\n"));

    let target = Server::start(&new, &[]);
    assert_ne!(target.head(&other.topic()).await["generation"], before);
    let mut reader = target.subscribe(&key.topic(), "").await;
    reader.ready().await;
    assert_eq!(reader.bytes(), ["two", "three"]);
    assert_eq!(target.head(&other.topic()).await["head"], 1);
}

#[test]
fn commands_refuse_what_is_no_servers_folder_and_a_cut_off_import() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    assert!(fails(&["check"], &empty).contains("no data folder"));
    assert!(!empty.exists(), "nothing is made by looking");
    let data = dir.path().join("data");
    works(&["record", "--allow-private", "--url", "http://127.0.0.1:9999"], &data);
    std::fs::write(data.join("import-unfinished"), b"").unwrap();
    let error = Server::try_start(&data, &[]).map(|_| ()).unwrap_err();
    assert!(error.contains("import") && error.contains("cut off"), "{error}");
    let export = dir.path().join("broken.export");
    std::fs::write(&export, b"dlt-exp1 and nothing else").unwrap();
    assert!(fails(&["import", export.to_str().unwrap()], &data).contains("export"));
}

#[tokio::test]
async fn every_refusal_is_counted_by_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let key = write_key(3);
    let topic = key.topic();
    let (octets, vk) = ("application/octet-stream", key.verifying_key());
    let get = async |path: &str| server.get(&format!("/topic/{path}")).await.status;
    assert_eq!(server.post("/deliver", octets, &[0; 10]).await.status, 400, "no size class");
    assert_eq!(server.post("/deliver", "application/json", b"{}").await.status, 403, "no version 2");
    assert_eq!(get(&format!("{topic}/subscribers?write_vk={vk}")).await, 401, "no proof");
    for path in ["ab/head", &format!("{topic}/ops?limit=0")] {
        assert_eq!(get(path).await, 400, "{path}");
    }
    assert_eq!(server.post(&format!("/topic/{topic}/has"), octets, &[0; 31]).await.status, 400);
    assert_eq!(get(&topic.to_string()).await, 426, "no upgrade");
    for (reason, count) in [
        ("length", 1),
        ("version", 1),
        ("proof", 1),
        ("malformed", 4),
        ("rate", 0),
        ("load", 0),
        ("slow", 0),
        ("closed", 0),
    ] {
        let name = format!("delta_sync_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(server.metric(&name).await, count, "{reason}");
    }
}
