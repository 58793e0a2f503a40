//! A packet that was not taken may come again.

use delta_core::entropy::SeededEntropy;
use delta_core::identity::Millis;
use delta_core::onion::IdentityKey;
use delta_core::onion::directory::{ListBody, ListEntry, NodeRecord, RecordObject, TrustPolicy, sign_list};
use delta_core::onion::v2::Hop;
use delta_core::topic::TopicId;
use delta_server_shell::connect::Timeouts;
use delta_server_shell::directory::{DirectorySettings, Source};
use ed25519_dalek::SigningKey;

use super::*;

const NOW: Millis = Millis(1_800_000_000_000);

fn server() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// A relay that knows one server.
async fn relay(dir: &std::path::Path, capacity: usize) -> V2 {
    let signer = SigningKey::from_bytes(&[8; 32]);
    let (kind, id) = (NodeKind::Sync, NodeId(server().verifying_key().to_bytes()));
    let entry = ListEntry { kind, id, operator: None, url: None, max_class: None };
    let body = ListBody { version: 1, expires: 1_900_000_000, nodes: vec![entry] };
    let record = NodeRecord {
        kind,
        id,
        url: Some("http://127.0.0.1:1025".to_owned()),
        keys: Vec::new(),
        expires: 1_900_000_000,
        max_class: None,
        operator: None,
        tunnel: false,
    };
    let record = RecordObject::sign(&server(), &record, 1).unwrap().to_json();
    let [list, records] = ["list.json", "records.json"].map(|name| dir.join(name));
    std::fs::write(&list, sign_list(std::slice::from_ref(&signer), &body)).unwrap();
    std::fs::write(&records, format!("[{record}]")).unwrap();
    let keys = vec![NodeId(signer.verifying_key().to_bytes())];
    let trust = TrustPolicy { keys, threshold: 1, allow_private: true };
    let poll = std::time::Duration::from_secs(1);
    let settings =
        DirectorySettings { list: Source::File(list), records: Some(Source::File(records)), trust, poll };
    let folder = NodeFolder::open(&dir.join("data"), &mut SeededEntropy::new([1; 32])).unwrap();
    let folder = Arc::new(folder);
    let connector = Connector::new(SystemResolver, true, Timeouts::default()).unwrap();
    let directories = Directories::open(settings, Arc::clone(&folder), connector.clone(), NOW).await.unwrap();
    let (directories, counters) = (Arc::new(directories), Arc::default());
    V2::open(&folder, capacity, None, directories, connector, counters).unwrap()
}

fn packet(to: &V2, seed: u8) -> Vec<u8> {
    let hop = Hop {
        key: IdentityKey::from_ed25519(&to.me.0).unwrap(),
        url: "http://127.0.0.1:1026/hop".to_owned(),
    };
    v2::wrap(&[hop], &TopicId([7; 32]), b"op", &mut SeededEntropy::new([seed; 32])).unwrap()
}

#[tokio::test]
async fn what_was_refused_under_load_is_not_taken_for_a_replay_later() {
    let dir = tempfile::tempdir().unwrap();
    let v2 = relay(dir.path(), 2).await;
    let [first, second, third] = [1, 2, 3].map(|seed| packet(&v2, seed));
    let server = NodeId(server().verifying_key().to_bytes());
    let code = |packet: &[u8]| v2.next(packet.to_vec()).map(|(next, _)| next.node).map_err(|(_, code)| code);

    let all: Vec<_> = (0..EXCHANGES_PER_NODE).map(|_| v2.each.take(server, 1).unwrap()).collect();
    assert_eq!(code(&first), Err(StatusCode::SERVICE_UNAVAILABLE), "the server has all it may");
    drop(all);
    assert_eq!(code(&first), Ok(server));
    assert_eq!(code(&first), Err(StatusCode::BAD_REQUEST), "now it is one");
    assert_eq!(code(&second), Ok(server));
    assert_eq!(code(&third), Err(StatusCode::SERVICE_UNAVAILABLE), "the set is full");
    assert_eq!(code(&second), Err(StatusCode::BAD_REQUEST));
    let places: Vec<_> = (0..EXCHANGES_PER_NODE).map(|_| v2.each.take(server, 1)).collect();
    assert!(places.iter().all(Option::is_some), "none of them kept its place");
}
