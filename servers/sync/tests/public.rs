//! Signals, control messages, proofs and the operator's page, asked of a real server from outside.

mod common;

use common::{Server, eventually, next_json, request, write_key};
use delta_core::onion::control::{Action, Control, Metadata};
use delta_core::onion::deliver;
use delta_core::sync::frame::Frame;
use delta_core::sync::proof::Purpose;
use delta_core::topic::{TopicId, WriteKey};
use ed25519_dalek::SigningKey;
use serde_json::json;
use tokio_tungstenite::tungstenite;

const SIGNALS: &str = "delta_sync_signals_total";
const CONTROLS: &str = "delta_sync_controls_total";

async fn send(server: &Server, content: &[u8], seed: u64) {
    let packet = server.packet(content, seed);
    assert_eq!(server.post("/deliver", "application/octet-stream", &packet).await.status, 202);
}

async fn control(server: &Server, key: &WriteKey, counter: u64, action: Action) {
    let content = deliver::encode_control(key, &Control { counter, action }).unwrap();
    send(server, &content, 1_000 + counter).await;
}

fn named(name: &str) -> Action {
    Action::Metadata(Metadata { name: name.to_owned(), description: Some("for tests".to_owned()) })
}

fn proof(server: &Server, purpose: Purpose, key: &SigningKey, topic: &TopicId, nonce: &str) -> String {
    let mut bytes = [0; 32];
    hex::decode_to_slice(nonce, &mut bytes).unwrap();
    hex::encode(purpose.prove(key, &server.record.id, topic, &bytes))
}

async fn nonce(server: &Server, topic: &TopicId) -> String {
    let answer = server.get(&format!("/topic/{topic}/nonce")).await;
    answer.json()["nonce"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_signal_reaches_binary_subscribers_and_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--limit", "signals_per_topic_per_minute=2"]);
    let key = write_key(1);
    let topic = key.topic();
    let mut binary = server.subscribe(&topic, "").await;
    let mut json = server.subscribe_json(&topic, "").await;
    binary.ready().await;
    assert_eq!(next_json(&mut json).await["type"], "ready");
    for (seed, text) in [(1, "typing"), (2, "typing more"), (3, "too often")] {
        send(&server, &deliver::encode_signal(&key, text.as_bytes()).unwrap(), seed).await;
        server.metric_reaches(SIGNALS, seed.min(2)).await;
    }
    server.metric_reaches("delta_sync_packets_dropped_total{reason=\"quota\"}", 1).await;
    for text in ["typing", "typing more"] {
        assert_eq!(binary.next().await, Frame::Signal(text.into()));
    }
    server.deliver(&key, &[b"an operation"], 4).await;
    binary.reach(1).await;
    let op = next_json(&mut json).await;
    assert_eq!((&op["type"], &op["seq"]), (&json!("op"), &json!(1)), "JSON has no word for signals");
    let mut late = server.subscribe(&topic, "").await;
    let frames = late.ready().await;
    assert!(!frames.iter().any(|frame| matches!(frame, Frame::Signal(_))), "{frames:?}");
    assert_eq!(server.metric(SIGNALS).await, 2);
}

#[tokio::test]
async fn a_public_topic_is_described_and_deleted_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--accept-v2"]);
    let key = write_key(2);
    let topic = key.topic();
    let about = format!("/topic/{topic}/about");
    let unknown = server.get(&about).await.json();
    assert_eq!(unknown, json!({ "metadata": null, "counter": 0, "read_key": null }));
    control(&server, &key, 3, named("Garden")).await;
    server.metric_reaches(CONTROLS, 1).await;
    control(&server, &key, 2, Action::Delete).await;
    server.metric_reaches("delta_sync_packets_dropped_total{reason=\"control\"}", 1).await;
    let expected = json!({ "name": "Garden", "description": "for tests" });
    assert_eq!(server.get(&about).await.json()["metadata"], expected);
    server.deliver(&key, &[b"one"], 1).await;
    server.head_reaches(&topic, 1).await;
    let mut reader = server.subscribe(&topic, "").await;
    reader.ready().await;
    control(&server, &key, 4, Action::Delete).await;
    assert_eq!(reader.close_code().await, 1008);
    server.deliver(&key, &[b"two"], 2).await;
    server.metric_reaches("delta_sync_packets_dropped_total{reason=\"closed\"}", 1).await;
    server.kill();

    let server = Server::start(dir.path(), &["--accept-v2"]);
    for path in ["head", "ops", "about"] {
        assert_eq!(server.get(&format!("/topic/{topic}/{path}")).await.status, 410, "{path}");
    }
    assert_eq!(server.post(&format!("/topic/{topic}/has"), "", &[0; 32]).await.status, 410);
    match server.try_subscribe(&topic, "").await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 410),
        _ => panic!("a deleted topic was served"),
    }
    assert_eq!(server.deliver_json(&topic, b"three").await.unwrap().status, 410);
}

/// All members of a private group share its write key: one of them must not be able to end it for the others.
#[tokio::test]
async fn a_topic_that_began_with_an_operation_takes_no_control() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let key = write_key(3);
    server.deliver(&key, &[b"private"], 1).await;
    server.head_reaches(&key.topic(), 1).await;
    control(&server, &key, 1, Action::Delete).await;
    server.metric_reaches("delta_sync_packets_dropped_total{reason=\"control\"}", 1).await;
    assert_eq!(server.head(&key.topic()).await["head"], 1);
}

#[tokio::test]
async fn a_topic_with_a_read_key_is_read_with_a_proof_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--read-proof"]);
    let key = write_key(4);
    let topic = key.topic();
    let read_key = SigningKey::from_bytes(&[40; 32]);
    let mut early = server.subscribe(&topic, "").await;
    early.ready().await;
    control(&server, &key, 1, Action::ReadKey(Some(read_key.verifying_key().to_bytes()))).await;
    assert_eq!(early.close_code().await, 1008, "who read without a proof has to prove now");
    let paths = ["head", "ops", "about"].map(|path| format!("/topic/{topic}/{path}"));
    for path in &paths {
        assert_eq!(server.get(path).await.status, 401, "{path}");
    }
    assert_eq!(server.post(&format!("/topic/{topic}/has"), "", &[0; 32]).await.status, 401);
    assert!(server.try_subscribe(&topic, "").await.is_err());

    let fresh = nonce(&server, &topic).await;
    let good = proof(&server, Purpose::Read, &read_key, &topic, &fresh);
    for path in &paths {
        assert_eq!(server.get(&format!("{path}?nonce={fresh}&proof={good}")).await.status, 200, "{path}");
    }
    let has = format!("/topic/{topic}/has?nonce={fresh}&proof={good}");
    assert_eq!(server.post(&has, "", &[0; 32]).await.status, 200);
    let mut reader = server.subscribe(&topic, &format!("nonce={fresh}&proof={good}")).await;
    reader.ready().await;

    let other = TopicId([9; 32]);
    let foreign = nonce(&server, &other).await;
    let stranger = SigningKey::from_bytes(&[41; 32]);
    for (nonce, proof) in [
        (&fresh, proof(&server, Purpose::Read, &stranger, &topic, &fresh)),
        (&fresh, proof(&server, Purpose::Count, &read_key, &topic, &fresh)),
        (&foreign, proof(&server, Purpose::Read, &read_key, &topic, &foreign)),
        (&"00".repeat(32), proof(&server, Purpose::Read, &read_key, &topic, &"00".repeat(32))),
    ] {
        let path = format!("/topic/{topic}/head?nonce={nonce}&proof={proof}");
        assert_eq!(server.get(&path).await.status, 401);
    }
    control(&server, &key, 2, Action::ReadKey(None)).await;
    assert_eq!(reader.close_code().await, 1008);
    assert_eq!(server.get(&paths[0]).await.status, 200);

    // A nonce is good for one run.
    control(&server, &key, 3, Action::ReadKey(Some(read_key.verifying_key().to_bytes()))).await;
    let fresh = nonce(&server, &topic).await;
    let good = proof(&server, Purpose::Read, &read_key, &topic, &fresh);
    let path = format!("{}?nonce={fresh}&proof={good}", paths[0]);
    assert_eq!(server.get(&path).await.status, 200);
    assert!(server.terminate().success());
    let server = Server::start(dir.path(), &["--read-proof"]);
    assert_eq!(server.get(&path).await.status, 401);
}

#[tokio::test]
async fn the_number_of_subscribers_is_told_to_who_may_write() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let key = write_key(5);
    let topic = key.topic();
    let mut readers = [server.subscribe(&topic, "").await, server.subscribe(&topic, "").await];
    for reader in &mut readers {
        reader.ready().await;
    }
    let fresh = nonce(&server, &topic).await;
    let signing = SigningKey::from_bytes(key.seed());
    let good = proof(&server, Purpose::Count, &signing, &topic, &fresh);
    let path = |key: &WriteKey, proof: &str| {
        let write_vk = key.verifying_key();
        format!("/topic/{topic}/subscribers?write_vk={write_vk}&nonce={fresh}&proof={proof}")
    };
    assert_eq!(server.get(&path(&key, &good)).await.json(), json!({ "subscribers": 2 }));
    assert_eq!(server.get(&path(&write_key(6), &good)).await.status, 400, "another topic's key");
    let read_proof = proof(&server, Purpose::Read, &signing, &topic, &fresh);
    assert_eq!(server.get(&path(&key, &read_proof)).await.status, 401);
    assert_eq!(server.get(&format!("/topic/{topic}/subscribers")).await.status, 400);
}

#[tokio::test]
async fn the_status_page_shows_live_numbers_and_no_whole_topic() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--contact", "abuse@sync.example"]);
    let key = write_key(7);
    server.deliver(&key, &[b"one", b"two"], 1).await;
    server.head_reaches(&key.topic(), 2).await;
    let get = async |path: &'static str| request(server.admin, "GET", path, &[], &[]).await.unwrap();
    for (path, kind) in [("/", "text/html"), ("/status.css", "text/css"), ("/status.js", "text/javascript")] {
        let answer = get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-type").unwrap().starts_with(kind), "{path}");
        assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        assert_eq!(server.get(path).await.status, 404, "{path} is the operator's alone");
    }
    let status = get("/status.json").await;
    assert!(!status.text().contains(&key.topic().to_string()));
    let status = status.json();
    assert_eq!(status["counters"]["delta_sync_operations_stored_total"], 2);
    assert_eq!((&status["topics"][0]["operations"], &status["topics"][0]["bytes"]), (&json!(2), &json!(6)));
    assert_eq!(status["commits"][0], json!({ "deliveries": "1", "count": 1 }));
    eventually("a sample", async || get("/status.json").await.json()["per_second"]["packets"] != json!([]))
        .await;
    assert_eq!(server.get("/info").await.json()["contact"], "abuse@sync.example");
}
