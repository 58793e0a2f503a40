//! Opening, closing, dropping, locking, configuring: each mistake gets its own error.

use delta_client::{Client, ClientError, Config, RelayHops, ServerRecordError};
use delta_core::identity::OperationId;
use delta_core::ops::Content;

use crate::device::{Device, message, ticket};
use crate::net::Net;

#[tokio::test]
async fn case_69_a_database_that_is_open_is_locked() {
    let a = Device::offline(1, &ticket(1)).await;
    let error = Client::open(Config::new(a.database(), [1; 32])).await.unwrap_err();
    assert_eq!(error.code(), "database_locked");
    assert!(error.to_string().contains("device.db"), "{error}");
    a.client.close().await.unwrap();
    Client::open(Config::new(a.database(), [1; 32])).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_restart_continues_log_and_history() {
    let net = Net::start().await;
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    let first = a.say("one").await;
    a.until_acknowledged(first).await;
    a = a.restart().await;
    assert_eq!(a.texts().await, ["one"]);
    a.join(&net).await;
    let second = a.say("two").await;
    a.until_acknowledged(second).await;
    let (operations, _) = a.state().await;
    assert_eq!(operations.iter().map(|operation| operation.seq_num).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(operations.iter().map(|operation| operation.id).collect::<Vec<_>>(), [first, second]);
}

#[tokio::test]
async fn dropping_a_client_loses_nothing_that_was_published() {
    let mut a = Device::offline(1, &ticket(1)).await;
    for round in 0..5 {
        let ids = [a.say("x").await, a.say("y").await];
        a = a.resurrect().await;
        let (operations, _) = a.state().await;
        assert_eq!(operations.len(), 2 * (round + 1));
        assert_eq!([operations[2 * round].id, operations[2 * round + 1].id], ids);
    }
}

#[tokio::test]
async fn after_close_every_call_says_closed() {
    let mut a = Device::offline(1, &ticket(1)).await;
    let clone = a.client.clone();
    a.client.close().await.unwrap();
    clone.close().await.unwrap();
    assert_eq!(clone.publish(a.topic, message("late")).await.unwrap_err().code(), "closed");
    assert_eq!(clone.status(a.topic).await.unwrap_err().code(), "closed");
    assert_eq!(clone.subscribe(a.topic).await.unwrap_err().code(), "closed");
    assert_eq!(clone.read(|reader| reader.count_operations()).await.unwrap_err().code(), "closed");
    clone.network_changed();
    while let Some(_rest) = a.updates.next().await {}
}

#[tokio::test]
async fn case_67_dropped_futures_and_concurrent_calls_leave_a_consistent_log() {
    let mut a = Device::offline(1, &ticket(1)).await;
    let mut published: Vec<OperationId> = Vec::new();
    for number in 0..50 {
        let mut dropped = Box::pin(a.client.publish(a.topic, message("dropped")));
        let _ = std::future::poll_fn(|cx| std::task::Poll::Ready(dropped.as_mut().poll(cx).is_ready())).await;
        drop(dropped);
        published.push(a.say(&number.to_string()).await);
    }
    let (operations, _) = a.state().await;
    assert_eq!(operations.len(), 100);
    let seqs: Vec<u32> = operations.iter().map(|operation| operation.seq_num).collect();
    assert_eq!(seqs, (0..100).collect::<Vec<_>>());
    assert!(published.iter().all(|id| operations.iter().any(|operation| operation.id == *id)));
}

#[tokio::test]
async fn commands_on_unknown_or_read_only_topics_are_refused() {
    let (a, other) = (Device::offline(1, &ticket(1)).await, ticket(2));
    let unknown = a.client.publish(other.topic(), message("x")).await.unwrap_err();
    assert_eq!(unknown.code(), "unknown_topic");
    assert_eq!(a.client.subscribe(other.topic()).await.unwrap_err().code(), "unknown_topic");
    let topic = a.client.open_topic(&other.read_only()).await.unwrap();
    assert_eq!(a.client.publish(topic, message("x")).await.unwrap_err().code(), "read_only");
    let long = Content::MessageSend {
        text: "x".repeat(64 * 1024 + 1),
        reply: None,
        mentions: Vec::new(),
        attachments: Vec::new(),
    };
    assert_eq!(a.client.publish(a.topic, long).await.unwrap_err().code(), "content");
}

#[tokio::test]
async fn plaintext_needs_the_flag_and_the_error_says_so() {
    let net = Net::start().await;
    let dir = tempfile::tempdir().unwrap();
    let client = Client::open(Config::new(dir.path().join("device.db"), [1; 32])).await.unwrap();
    let error = client.init_sync(&net.hops(), &net.sync_url()).await.unwrap_err();
    assert!(matches!(error, ClientError::Plaintext { .. }), "{error}");
    assert!(error.to_string().contains("allow_plaintext"), "{error}");
    client.close().await.unwrap();
}

#[tokio::test]
async fn only_the_pinned_server_is_believed() {
    let net = Net::start().await;
    let a = Device::offline(1, &ticket(1)).await;
    let error = a.client.init_sync(&net.hops(), &net.other_pin()).await.unwrap_err();
    let pinned = matches!(&error, ClientError::ServerRecord { reason: ServerRecordError::Pin { .. }, .. });
    assert!(pinned, "{error}");
    for (url, code) in [
        ("http://127.0.0.1:1".to_owned(), "sync_url"),
        (format!("ftp://127.0.0.1#{}", "ab".repeat(32)), "sync_url"),
        (format!("http://127.0.0.1:1025#{}", "ab".repeat(32)), "server_unreachable"),
    ] {
        let error = a.client.init_sync(&net.hops(), &url).await.unwrap_err();
        assert_eq!(error.code(), code, "{url}: {error}");
    }
}

#[tokio::test]
async fn relays_that_cannot_be_read_are_refused_by_place() {
    let net = Net::start().await;
    let a = Device::offline(1, &ticket(1)).await;
    let RelayHops::Pool(mut records) = net.hops() else { unreachable!() };
    records[1] = "{}".to_owned();
    let error = a.client.init_sync(&RelayHops::Pool(records.clone()), &net.sync_url()).await.unwrap_err();
    assert!(matches!(error, ClientError::Pool { index: 1, .. }), "{error}");
    records[1] = records[0].replacen("seq\":", "seq\":1", 1);
    let skipped = a.client.init_sync(&RelayHops::Pool(records), &net.sync_url()).await.unwrap();
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    let list = RelayHops::Directory {
        list: "{}".into(),
        records: "[]".into(),
        trusted_keys: vec![delta_core::NodeId([1; 32])],
        threshold: 1,
    };
    assert_eq!(a.client.init_sync(&list, &net.sync_url()).await.unwrap_err().code(), "directory");
}

#[tokio::test]
async fn case_32_a_list_or_record_older_than_one_seen_before_is_refused_also_after_a_restart() {
    use delta_core::onion::directory::{ListBody, NodeKind, NodeRecord, RecordObject, sign_list};
    use ed25519_dalek::SigningKey;

    let net = Net::start().await;
    let a = Device::offline(1, &ticket(1)).await;
    let signer = SigningKey::from_bytes(&[77; 32]);
    let list = |signer: &SigningKey, version| {
        let body = ListBody { version, expires: u64::MAX / 2000, nodes: Vec::new() };
        let key = delta_core::NodeId(signer.verifying_key().to_bytes());
        let list = sign_list(std::slice::from_ref(signer), &body);
        RelayHops::Directory { list, records: "[]".into(), trusted_keys: vec![key], threshold: 1 }
    };
    a.client.init_sync(&list(&signer, 7), &net.sync_url()).await.unwrap();
    let a = a.restart().await;
    let error = a.client.init_sync(&list(&signer, 6), &net.sync_url()).await.unwrap_err();
    assert_eq!(error.code(), "directory", "{error}");
    a.client.init_sync(&list(&signer, 7), &net.sync_url()).await.unwrap();
    let other = SigningKey::from_bytes(&[78; 32]);
    a.client.init_sync(&list(&other, 1), &net.sync_url()).await.unwrap();

    let relay = SigningKey::from_bytes(&[79; 32]);
    let record = NodeRecord {
        kind: NodeKind::Relay,
        id: delta_core::NodeId(relay.verifying_key().to_bytes()),
        ..RecordObject::parse(&pool(&net)[0]).unwrap().verify().unwrap()
    };
    let pool = |seq| RelayHops::Pool(vec![RecordObject::sign(&relay, &record, seq).unwrap().to_json()]);
    assert!(a.client.init_sync(&pool(9), &net.sync_url()).await.unwrap().is_empty());
    let skipped = a.client.init_sync(&pool(8), &net.sync_url()).await.unwrap();
    assert!(skipped[0].to_string().contains("9 was seen"), "{}", skipped[0]);
}

fn pool(net: &Net) -> Vec<String> {
    match net.hops() {
        RelayHops::Pool(records) => records,
        RelayHops::Directory { .. } => unreachable!(),
    }
}
