//! Lists, records, URLs, and what a device stores about relays.

use std::sync::LazyLock;

use delta_core::identity::{Millis, NodeId};
use delta_core::onion::directory::{
    Directory, LoadRules, NodeKind, NodeRecord, RecordObject, ResolvedRecord, Seen, SignedList, SyncUrl,
    TrustPolicy, check_url, is_public,
};
use delta_core::onion::route::Guards;
use ed25519_dalek::{Signer, SigningKey};

use crate::edit::pick;
use crate::support::entropy;

const NOW: Millis = Millis(1_700_000_000_000);

static SIGNER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[1; 32]));
static NODE: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[2; 32]));

static RECORD: LazyLock<NodeRecord> = LazyLock::new(|| {
    let onion = |kid: u16| {
        delta_core::onion::v3::OnionSecret::generate(kid, &mut entropy(kid as u8)).unwrap().public()
    };
    NodeRecord {
        kind: NodeKind::Relay,
        id: id(&NODE),
        url: Some("https://relay.example.org".into()),
        keys: vec![onion(1), onion(2)],
        expires: NOW.0 / 1000 + 1000,
        max_class: Some(4),
        operator: Some("50 %; half".into()),
        tunnel: false,
    }
});

fn id(key: &SigningKey) -> NodeId {
    NodeId(key.verifying_key().to_bytes())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A record's text, alone, signed, and from the DHT: what is read prints to what is read again.
pub fn node_record(input: &[u8]) {
    let short = "v=delta1;t=sync;a=0000000000000000000000000000000000000000000000000000000000000000;x=1";
    let bytes = pick(input, &[RECORD.to_string().into_bytes(), short.into()]);
    let text = text(&bytes);
    let object = RecordObject { record: text.clone(), seq: 5, sig: sign(&NODE, &text) };
    let parsed = text.parse::<NodeRecord>();
    if let Ok(record) = &parsed {
        let printed = record.to_string();
        assert_eq!(printed.parse().as_ref(), Ok(record), "{printed}");
        if let Ok(strings) = record.to_txt() {
            let found = ResolvedRecord::from_txt(record.id, 7_000_000, strings).unwrap();
            assert_eq!((found.record(), found.seq()), (record, 7));
        }
    }
    let own = parsed.as_ref().is_ok_and(|record| record.id == id(&NODE));
    assert_eq!(object.verify().is_ok(), own);
    assert_eq!(RecordObject::parse(&object.to_json()), Ok(object));
    let _ = ResolvedRecord::from_txt(id(&NODE), u64::MAX, bytes.chunks(255));
    let _ = RecordObject::parse(&text);
}

fn sign(key: &SigningKey, record: &str) -> [u8; 64] {
    key.sign(&[b"delta:record:v1".as_slice(), &5u64.to_be_bytes(), record.as_bytes()].concat()).to_bytes()
}

/// A list, signed by the trusted key whatever it holds, and a records text.
pub fn directory_list(input: &[u8]) {
    static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let node = format!(
            "{{\"t\":\"relay\",\"o\":\"op\",\"n\":\"https://a.example\",\"a\":\"{}\",\"c\":4}}",
            id(&NODE)
        );
        let body =
            format!("{{\"version\":7,\"expires\":1800000000,\"nodes\":[{node},{{\"t\":\"x\"}},null]}}");
        vec![body.into_bytes()]
    });
    static RECORDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let object = RecordObject::sign(&NODE, &RECORD, 5).unwrap().to_json();
        vec![format!("[{object}]").into_bytes(), format!("[{object},{{}},{object},7]").into_bytes()]
    });
    let Some((split, rest)) = input.split_first() else { return };
    let (body, records) = rest.split_at(rest.len() * usize::from(*split) / 255);
    let mut list = SignedList { signed: pick(body, &EXAMPLES).into_owned(), signatures: Vec::new() };
    list.add_signature(&SIGNER);
    let json = list.to_json();
    assert_eq!(SignedList::parse(&json).as_ref(), Ok(&list));
    let records = text(&pick(records, &RECORDS));
    let trust = TrustPolicy { keys: vec![id(&SIGNER)], threshold: 1, allow_private: false };
    if let Ok((directory, _)) = Directory::load_with(&json, &records, &trust, NOW, &LoadRules::default()) {
        check(&directory);
    }
    if let Ok((directory, _)) = Directory::pool(&records, false, NOW, &Seen::default()) {
        check(&directory);
    }
    let _ = SignedList::parse(&text(rest));
    let _ = Directory::load(&text(rest), &records, &trust, NOW);
}

fn check(directory: &Directory) {
    for node in directory.nodes() {
        assert_eq!(check_url(&node.url, false), Ok(()));
        assert!(node.is_current(NOW) && node.max_class <= 4);
        assert_eq!(directory.node(&node.id), Some(node));
    }
    let mut seen = Seen::default();
    directory.remember(&mut seen);
    assert_eq!(Seen::load(&seen.to_bytes()), Ok(seen));
}

/// URLs: what is allowed has no private address in it, whichever way another parser would read it.
pub fn node_url(input: &[u8]) {
    let examples = [
        "https://relay.example.org",
        "https://relay.example.org:8443/a/b",
        "https://203.0.112.7:443",
        "https://[2606:4700::1111]:1024/x",
        "https://127.0.0.1",
        "https://[::ffff:10.0.0.1]",
    ];
    let bytes = pick(input, &examples.map(|example| example.as_bytes().to_vec()));
    let url = text(&bytes);
    let public = check_url(&url, false).is_ok();
    if public {
        assert!(check_url(&url, true).is_ok(), "{url}");
        let authority = url.strip_prefix("https://").unwrap().split('/').next().unwrap();
        let host = authority
            .rsplit_once(':')
            .filter(|(_, port)| !port.contains(']'))
            .map_or(authority, |(host, _)| host);
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            assert!(is_public(address), "{url}");
        }
        assert!(!url.contains(['@', '?', '#', '\\', ' ', '%']) && url.is_ascii(), "{url}");
    }
    let sync = format!("{url}#{}", "ab".repeat(32));
    assert_eq!(SyncUrl::parse(&sync, false).is_ok(), public, "{sync}");
}

/// Stored guards and stored memory: what loads is stored as the same bytes.
pub fn stored_memory(input: &[u8]) {
    let guard = [&[4; 32][..], &[0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0], &[1, 0, 9, 0, 1], &[0; 8]].concat();
    let guards = [&[1, 1, 1][..], &guard, &[1], &[7; 8], &[0, 0, 0]].concat();
    let bytes = pick(input, std::slice::from_ref(&guards));
    if let Ok(guards) = Guards::load(&bytes) {
        assert!(bytes.is_empty() || guards.to_bytes() == *bytes);
    }
    let seen = [&[1][..], &[0; 8], &[0, 0, 0, 1], &[3; 32], &[0, 0, 0, 0, 0, 0, 0, 5, 1]].concat();
    let bytes = pick(input, std::slice::from_ref(&seen));
    if let Ok(seen) = Seen::load(&bytes) {
        assert!(bytes.is_empty() || seen.to_bytes() == *bytes);
    }
}
