//! What a directory takes, what it refuses as a whole, and which single nodes it leaves out.

mod pkarr;
mod records;
mod seen;
mod urls;

use delta_core::identity::{Millis, NodeId};
use delta_core::limits::MAX_DIRECTORY_NODES;
use delta_core::onion::directory::{
    Directory, DirectoryError, ListBody, ListEntry, LoadRules, MAX_DIRECTORY_BYTES, MAX_RECORDS,
    MAX_SIGNATURES, Node, NodeKind, NodeRecord, RecordError, RecordObject, Seen, SeenRecord, SignedList,
    SkipReason, Skipped, TrustPolicy, UrlError, sign_list,
};
use delta_core::onion::v3::{OnionKey, OnionSecret};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};

use crate::support::entropy;

/// Seconds: the present of these tests, when records expire, when lists do.
const NOW: u64 = 1_700_000_000;
const RECORD_EXPIRES: u64 = NOW + 7 * 86_400;
const LIST_EXPIRES: u64 = NOW + 30 * 86_400;

fn now() -> Millis {
    Millis(NOW * 1000)
}

fn key(number: u16) -> SigningKey {
    let mut seed = [0; 32];
    seed[..2].copy_from_slice(&number.to_be_bytes());
    SigningKey::from_bytes(&seed)
}

fn id(number: u16) -> NodeId {
    NodeId(key(number).verifying_key().to_bytes())
}

fn onion_key(number: u16, kid: u16) -> OnionKey {
    OnionSecret::generate(kid, &mut entropy(number as u8)).unwrap().public()
}

fn record(number: u16) -> NodeRecord {
    NodeRecord {
        kind: NodeKind::Relay,
        id: id(number),
        url: Some(format!("https://relay{number}.example.org")),
        keys: vec![onion_key(number, 7), onion_key(number + 100, 8)],
        expires: RECORD_EXPIRES,
        max_class: Some(4),
        operator: None,
        tunnel: false,
    }
}

fn signed(number: u16, record: &NodeRecord, seq: u64) -> Value {
    RecordObject::sign(&key(number), record, seq).unwrap().to_value()
}

/// Signs a record text that the library would not sign.
fn signed_text(number: u16, text: &str, seq: u64) -> RecordObject {
    let message = [b"delta:record:v1".as_slice(), &seq.to_be_bytes(), text.as_bytes()].concat();
    RecordObject { record: text.to_owned(), seq, sig: key(number).sign(&message).to_bytes() }
}

fn entry(number: u16) -> ListEntry {
    ListEntry {
        kind: NodeKind::Relay,
        id: id(number),
        operator: Some(format!("operator {number}")),
        url: Some(format!("https://listed{number}.example.org")),
        max_class: Some(3),
    }
}

fn body(entries: Vec<ListEntry>) -> ListBody {
    ListBody { version: 7, expires: LIST_EXPIRES, nodes: entries }
}

/// Keys 1000, 1001 and 1002 are trusted, two of them must sign.
fn trust() -> TrustPolicy {
    TrustPolicy { keys: vec![id(1000), id(1001), id(1002)], threshold: 2, allow_private: false }
}

fn list(body: &ListBody) -> String {
    sign_list(&[key(1000), key(1001)], body)
}

fn array(records: impl IntoIterator<Item = Value>) -> String {
    Value::Array(records.into_iter().collect()).to_string()
}

/// Loads a list of node 1 alone with the given records.
fn load_one(records: impl IntoIterator<Item = Value>) -> (Directory, Vec<Skipped>) {
    Directory::load(&list(&body(vec![entry(1)])), &array(records), &trust(), now()).unwrap()
}

fn skip_of_one(records: impl IntoIterator<Item = Value>) -> SkipReason {
    let (directory, skipped) = load_one(records);
    assert!(directory.nodes().is_empty());
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    skipped[0].reason
}

#[test]
fn list_and_records_are_joined() {
    let mut server = entry(2);
    server.kind = NodeKind::Sync;
    let server_record =
        NodeRecord { kind: NodeKind::Sync, operator: Some("someone else".into()), ..record(2) };
    let list = list(&body(vec![entry(1), server]));
    let records = array([signed(1, &record(1), 12), signed(2, &server_record, 13)]);
    let (directory, skipped) = Directory::load(&list, &records, &trust(), now()).unwrap();
    assert_eq!(skipped, []);
    assert_eq!((directory.version(), directory.expires()), (7, LIST_EXPIRES));
    let relay = directory.node(&id(1)).unwrap();
    assert_eq!(
        relay,
        &Node {
            id: id(1),
            kind: NodeKind::Relay,
            operator: Some("operator 1".into()),
            url: "https://relay1.example.org".into(),
            keys: record(1).keys,
            expires: RECORD_EXPIRES,
            max_class: 4,
            seq: 12,
            tunnel: false,
        }
    );
    assert_eq!(relay.hop(5).unwrap().key, record(1).keys[0]);
    assert_eq!(relay.packet_url(), "https://relay1.example.org/hop");
    let server = directory.node(&id(2)).unwrap();
    assert_eq!((server.kind, server.operator.as_deref()), (NodeKind::Sync, Some("operator 2")));
    assert_eq!(server.packet_url(), "https://relay2.example.org/deliver");
    assert_eq!(directory.relays().map(|relay| relay.id).collect::<Vec<_>>(), [id(1)]);
    assert_eq!(directory.node(&id(3)), None);
}

#[test]
fn what_the_record_does_not_say_the_list_does() {
    let short = NodeRecord { url: None, max_class: None, ..record(1) };
    let (directory, _) = load_one([signed(1, &short, 1)]);
    assert_eq!(directory.nodes()[0].url, "https://listed1.example.org");
    assert_eq!(directory.nodes()[0].max_class, 3);
    let bare = ListEntry { url: None, max_class: None, ..entry(1) };
    let list = list(&body(vec![bare]));
    let (directory, skipped) =
        Directory::load(&list, &array([signed(1, &short, 1)]), &trust(), now()).unwrap();
    assert!(directory.nodes().is_empty());
    assert_eq!(skipped, [Skipped { node: Some(id(1)), reason: SkipReason::NoUrl }]);
}

#[test]
fn fewer_than_the_threshold_of_trusted_signatures_is_refused() {
    let body = body(vec![entry(1)]);
    let load = |list: &str| Directory::load(list, "[]", &trust(), now()).map(|_| ());
    let needs = |valid| Err(DirectoryError::Signatures { valid, threshold: 2 });
    assert_eq!(load(&sign_list(&[key(1000), key(1002)], &body)), Ok(()));
    assert_eq!(load(&sign_list(&[], &body)), needs(0));
    assert_eq!(load(&sign_list(&[key(1000)], &body)), needs(1));
    assert_eq!(load(&sign_list(&[key(1000), key(1000)], &body)), needs(1));
    assert_eq!(load(&sign_list(&[key(1000), key(1003)], &body)), needs(1));

    let mut twice = SignedList::parse(&sign_list(&[key(1000)], &body)).unwrap();
    twice.signatures.push(twice.signatures[0]);
    assert_eq!(load(&twice.to_json()), needs(1), "one signature twice");
    let mut stolen = SignedList::parse(&sign_list(&[key(1000)], &body)).unwrap();
    stolen.signatures.push((id(1001), stolen.signatures[0].1));
    assert_eq!(load(&stolen.to_json()), needs(1), "another key's signature");
    let mut changed = SignedList::parse(&list(&body)).unwrap();
    *changed.signed.last_mut().unwrap() = b' ';
    assert_eq!(load(&changed.to_json()), needs(0), "changed bytes");
    // A bad signature beside enough good ones does no harm.
    let mut extra = SignedList::parse(&list(&body)).unwrap();
    extra.signatures.insert(0, (id(1001), [0; 64]));
    assert_eq!(load(&extra.to_json()), Ok(()));
}

#[test]
fn the_context_of_the_signature_counts() {
    let bytes = body(vec![]).to_json().into_bytes();
    let signatures = [1000, 1001].map(|number| (id(number), key(number).sign(&bytes).to_bytes()));
    let list = SignedList { signed: bytes, signatures: signatures.to_vec() };
    assert_eq!(
        Directory::load(&list.to_json(), "[]", &trust(), now()).map(|_| ()),
        Err(DirectoryError::Signatures { valid: 0, threshold: 2 })
    );
}

#[test]
fn a_policy_that_cannot_be_met_is_an_error_of_the_configuration() {
    let list = list(&body(vec![]));
    for (keys, threshold, distinct) in [(3, 0, 3), (3, 4, 3), (0, 0, 0), (0, 1, 0)] {
        let trust = TrustPolicy { keys: trust().keys[..keys].to_vec(), threshold, allow_private: false };
        let error = DirectoryError::Policy { threshold, keys: distinct };
        assert_eq!(Directory::load(&list, "[]", &trust, now()), Err(error));
    }
    let doubled = TrustPolicy { keys: vec![id(1000); 2], threshold: 2, allow_private: false };
    let error = DirectoryError::Policy { threshold: 2, keys: 1 };
    assert_eq!(Directory::load(&list, "[]", &doubled, now()), Err(error));
}

#[test]
fn an_expired_list_is_refused_unless_the_rules_say_otherwise() {
    let list = list(&body(vec![]));
    let at = |ms| Directory::load(&list, "[]", &trust(), Millis(ms)).map(|_| ());
    assert_eq!(at(LIST_EXPIRES * 1000 - 1), Ok(()));
    assert_eq!(at(LIST_EXPIRES * 1000), Err(DirectoryError::Expired { expires: LIST_EXPIRES }));
    let rules = LoadRules { accept_expired_list: true, ..LoadRules::default() };
    let late = Millis(LIST_EXPIRES * 1000);
    let (directory, _) = Directory::load_with(&list, "[]", &trust(), late, &rules).unwrap();
    assert!(directory.is_expired(late));
    assert!(!directory.is_expired(now()));
}

#[test]
fn a_version_older_than_seen_is_refused() {
    let list = list(&body(vec![entry(1)]));
    let load = |version| {
        let rules = LoadRules { seen: Seen { version, ..Seen::default() }, ..LoadRules::default() };
        Directory::load_with(&list, "[]", &trust(), now(), &rules).map(|_| ())
    };
    assert_eq!(load(6), Ok(()));
    assert_eq!(load(7), Ok(()));
    assert_eq!(load(8), Err(DirectoryError::Older { got: 7, seen: 8 }));
}

#[test]
fn case_32_foreign_expired_and_older_records_are_left_out() {
    assert_eq!(skip_of_one([]), SkipReason::NoRecord);

    let forged = signed_text(2, &record(1).to_string(), 5).to_value();
    assert_eq!(skip_of_one([forged]), RecordError::Signature.into());
    let mut changed = signed(1, &record(1), 5);
    changed["seq"] = json!(6);
    assert_eq!(skip_of_one([changed]), RecordError::Signature.into());
    assert_eq!(RecordObject::sign(&key(2), &record(1), 5), Err(RecordError::ForeignKey));

    let expired = NodeRecord { expires: NOW, ..record(1) };
    assert_eq!(skip_of_one([signed(1, &expired, 5)]), SkipReason::Expired { expires: NOW });
    let soon = NodeRecord { expires: NOW + 1, ..record(1) };
    let (directory, skipped) = load_one([signed(1, &soon, 5)]);
    assert_eq!(skipped, []);
    assert!(directory.nodes()[0].is_current(Millis(NOW * 1000 + 999)));
    assert!(!directory.nodes()[0].is_current(Millis(NOW * 1000 + 1000)));

    let load_seen = |seq| {
        let seen = SeenRecord { seq, onion: true };
        let seen = Seen { version: 0, records: [(id(1), seen)].into() };
        let rules = LoadRules { seen, ..LoadRules::default() };
        let records = array([signed(1, &record(1), 5)]);
        Directory::load_with(&list(&body(vec![entry(1)])), &records, &trust(), now(), &rules).unwrap().1
    };
    assert_eq!(load_seen(4), []);
    assert_eq!(load_seen(5), []);
    let older = SkipReason::Older { got: 5, seen: 6 };
    assert_eq!(load_seen(6), [Skipped { node: Some(id(1)), reason: older }]);
}

#[test]
fn case_33_a_record_that_lost_its_onion_key_is_no_downgrade() {
    let list = list(&body(vec![entry(1)]));
    let (directory, _) = Directory::load(&list, &array([signed(1, &record(1), 5)]), &trust(), now()).unwrap();
    let mut seen = Seen::default();
    directory.remember(&mut seen);
    assert_eq!(seen.version, 7);
    assert_eq!(seen.records.get(&id(1)).copied(), Some(SeenRecord { seq: 5, onion: true }));

    let without = NodeRecord { keys: Vec::new(), ..record(1) };
    let records = array([signed(1, &without, 6)]);
    let rules = LoadRules { seen, ..LoadRules::default() };
    let (directory, skipped) = Directory::load_with(&list, &records, &trust(), now(), &rules).unwrap();
    assert!(directory.nodes().is_empty());
    assert_eq!(skipped, [Skipped { node: Some(id(1)), reason: SkipReason::Downgraded }]);
    // A node that never had one is known, but takes no v3 packet.
    let (directory, skipped) = load_one([signed(1, &without, 6)]);
    assert_eq!(skipped, []);
    assert_eq!(directory.nodes()[0].hop(0), None);
}

#[test]
fn the_newest_valid_record_counts_in_any_order() {
    let moved = NodeRecord { url: Some("https://moved.example.org".into()), ..record(1) };
    let forged = signed_text(2, &record(1).to_string(), 99).to_value();
    let (old, new) = (signed(1, &record(1), 5), signed(1, &moved, 6));
    for records in [[old.clone(), forged.clone(), new.clone()], [new, forged, old]] {
        let (directory, skipped) = load_one(records);
        assert_eq!(directory.nodes()[0].url, "https://moved.example.org");
        assert_eq!(skipped, [Skipped { node: Some(id(1)), reason: RecordError::Signature.into() }]);
    }
}

#[test]
fn a_newer_record_that_cannot_be_used_leaves_an_older_one_standing() {
    let expired = NodeRecord { expires: NOW, ..record(1) };
    let other_kind = NodeRecord { kind: NodeKind::Sync, ..record(1) };
    let private = NodeRecord { url: Some("https://10.0.0.1".into()), ..record(1) };
    let without = NodeRecord { keys: vec![], ..record(1) };
    let url = UrlError::Private("10.0.0.1".parse().unwrap());
    let cases = [
        (expired, Some(SkipReason::Expired { expires: NOW })),
        (other_kind, Some(SkipReason::Kind)),
        (private, Some(url.into())),
        // Found out when the one with keys comes second, but then nothing is left to say it of.
        (without, None),
    ];
    for (newer, reason) in cases {
        let (old, new) = (signed(1, &record(1), 5), signed(1, &newer, 6));
        for records in [[old.clone(), new.clone()], [new, old]] {
            let (directory, skipped) = load_one(records);
            let [node] = directory.nodes() else { panic!("{newer:?}") };
            assert_eq!((node.seq, node.keys.len()), (5, 2));
            match reason {
                Some(reason) => assert_eq!(skipped, [Skipped { node: Some(id(1)), reason }]),
                None => assert!(skipped.iter().all(|skip| skip.reason == SkipReason::Downgraded)),
            }
        }
    }
}

#[test]
fn a_record_of_another_kind_or_of_no_listed_node_is_left_out() {
    let server = NodeRecord { kind: NodeKind::Sync, ..record(1) };
    assert_eq!(skip_of_one([signed(1, &server, 5)]), SkipReason::Kind);
    let (directory, skipped) = load_one([signed(1, &record(1), 5), signed(2, &record(2), 5)]);
    assert_eq!(directory.nodes().len(), 1);
    assert_eq!(skipped, [Skipped { node: Some(id(2)), reason: SkipReason::NotListed }]);
}

#[test]
fn a_node_listed_twice_keeps_its_first_entry() {
    let second = ListEntry { operator: Some("another".into()), ..entry(1) };
    let list = list(&body(vec![entry(1), second]));
    let (directory, skipped) =
        Directory::load(&list, &array([signed(1, &record(1), 5)]), &trust(), now()).unwrap();
    assert_eq!(directory.nodes().len(), 1);
    assert_eq!(directory.nodes()[0].operator.as_deref(), Some("operator 1"));
    assert_eq!(skipped, [Skipped { node: Some(id(1)), reason: SkipReason::Duplicate }]);
}

#[test]
fn a_forbidden_url_leaves_the_rest_of_the_list_standing() {
    let bad = NodeRecord { url: Some("https://10.0.0.1".into()), ..record(1) };
    let list = list(&body(vec![entry(1), entry(2)]));
    let records = array([signed(1, &bad, 5), signed(2, &record(2), 5)]);
    let (directory, skipped) = Directory::load(&list, &records, &trust(), now()).unwrap();
    assert_eq!(directory.nodes().iter().map(|node| node.id).collect::<Vec<_>>(), [id(2)]);
    let reason = UrlError::Private("10.0.0.1".parse().unwrap()).into();
    assert_eq!(skipped, [Skipped { node: Some(id(1)), reason }]);
    let open = TrustPolicy { allow_private: true, ..trust() };
    let (directory, skipped) = Directory::load(&list, &records, &open, now()).unwrap();
    assert_eq!((directory.nodes().len(), skipped), (2, vec![]));
}

#[test]
fn malformed_entries_are_left_out_and_unknown_fields_ignored() {
    let good = json!({ "t": "relay", "a": id(1).to_string(), "o": "one", "n": "https://h.example", "c": 4, "new": {} });
    let entries = [
        (good, None),
        (json!({ "t": "beacon", "a": id(2).to_string() }), Some("t")),
        (json!({ "t": "relay", "a": "ab" }), Some("a")),
        (json!({ "t": "relay", "a": id(3).to_string().to_uppercase() }), Some("a")),
        (json!({ "t": "relay" }), Some("t, a")),
        (json!({ "t": "relay", "a": id(4).to_string(), "c": 256 }), Some("t, a")),
        (json!({ "t": "relay", "a": id(5).to_string(), "o": "" }), Some("o")),
        (json!({ "t": "relay", "a": id(6).to_string(), "o": "x".repeat(65) }), Some("o")),
        (json!("relay"), Some("t, a")),
    ];
    let nodes: Vec<_> = entries.iter().map(|(value, _)| value.clone()).collect();
    let text = json!({ "version": 7, "expires": LIST_EXPIRES, "nodes": nodes, "later": [1] }).to_string();
    let mut list = SignedList { signed: text.into_bytes(), signatures: Vec::new() };
    list.add_signature(&key(1000));
    list.add_signature(&key(1001));
    let records = array([signed(1, &record(1), 5)]);
    let (directory, skipped) = Directory::load(&list.to_json(), &records, &trust(), now()).unwrap();
    assert_eq!(directory.nodes().len(), 1);
    let expected: Vec<_> = entries.iter().filter_map(|(_, field)| field.map(SkipReason::Entry)).collect();
    assert_eq!(skipped.iter().map(|skip| skip.reason).collect::<Vec<_>>(), expected);
    assert_eq!(skipped[0].node, Some(id(2)));
}

#[test]
fn texts_that_are_no_list_or_no_records_are_refused() {
    let good = list(&body(vec![]));
    for bad in
        ["", "{}", "[]", "null", r#"{"signed":"e30=","signatures":5}"#, r#"{"signed":"e30","signatures":[]}"#]
    {
        let loaded = Directory::load(bad, "[]", &trust(), now());
        assert!(matches!(loaded, Err(DirectoryError::List(_))), "{bad}: {loaded:?}");
    }
    for bad in ["", "{}", "null", "[", "[1,]"] {
        let loaded = Directory::load(&good, bad, &trust(), now());
        assert!(matches!(loaded, Err(DirectoryError::Records(_))), "{bad}: {loaded:?}");
    }
    // Deep nesting is an error of the parser, not of the stack.
    let deep = "[".repeat(100_000);
    assert!(matches!(Directory::load(&good, &deep, &trust(), now()), Err(DirectoryError::Records(_))));
    // Signed by enough keys, but not a list.
    let mut list = SignedList { signed: b"{\"version\":-1}".to_vec(), signatures: Vec::new() };
    list.add_signature(&key(1000));
    list.add_signature(&key(1001));
    let loaded = Directory::load(&list.to_json(), "[]", &trust(), now());
    assert!(matches!(loaded, Err(DirectoryError::List(_))), "{loaded:?}");
    // A record that is no record object spoils nothing else.
    let (directory, skipped) = load_one([json!(5), json!({"record": "v=delta1"}), signed(1, &record(1), 5)]);
    assert_eq!(directory.nodes().len(), 1);
    let reason = SkipReason::Record(RecordError::Object);
    assert_eq!(skipped, [Skipped { node: None, reason }, Skipped { node: None, reason }]);
}

#[test]
fn the_limits_of_a_directory() {
    let entries = |count| (0..count as u16).map(entry).collect();
    let full = list(&body(entries(MAX_DIRECTORY_NODES)));
    let (directory, skipped) = Directory::load(&full, "[]", &trust(), now()).unwrap();
    assert_eq!((directory.nodes().len(), skipped.len()), (0, MAX_DIRECTORY_NODES));
    let above = list(&body(entries(MAX_DIRECTORY_NODES + 1)));
    let error = DirectoryError::TooManyNodes(MAX_DIRECTORY_NODES + 1);
    assert_eq!(Directory::load(&above, "[]", &trust(), now()), Err(error));

    let list = list(&body(vec![]));
    let records = |count| array((0..count).map(|_| json!(0)));
    let loaded = Directory::load(&list, &records(MAX_RECORDS), &trust(), now()).unwrap();
    assert_eq!(loaded.1.len(), MAX_RECORDS);
    let error = DirectoryError::TooManyRecords(MAX_RECORDS + 1);
    assert_eq!(Directory::load(&list, &records(MAX_RECORDS + 1), &trust(), now()), Err(error));

    let padded = |text: &str, len: usize| format!("{text}{}", " ".repeat(len - text.len()));
    let at = |list_len, records_len| {
        let (list, records) = (padded(&list, list_len), padded("[]", records_len));
        Directory::load(&list, &records, &trust(), now()).map(|_| ())
    };
    assert_eq!(at(MAX_DIRECTORY_BYTES, MAX_DIRECTORY_BYTES), Ok(()));
    let error = Err(DirectoryError::TooLong(MAX_DIRECTORY_BYTES + 1));
    assert_eq!(at(MAX_DIRECTORY_BYTES + 1, 2), error);
    assert_eq!(at(list.len(), MAX_DIRECTORY_BYTES + 1), error);

    let mut signed = SignedList::parse(&list).unwrap();
    signed.signatures.resize(MAX_SIGNATURES, signed.signatures[0]);
    assert!(SignedList::parse(&signed.to_json()).is_ok());
    signed.signatures.push(signed.signatures[0]);
    assert!(matches!(SignedList::parse(&signed.to_json()), Err(DirectoryError::List(_))));
}

#[test]
fn a_pool_takes_the_operators_of_its_records() {
    let named = NodeRecord { operator: Some("me".into()), ..record(1) };
    let server = NodeRecord { kind: NodeKind::Sync, ..record(2) };
    let records = array([signed(1, &named, 3), signed(2, &server, 4), json!({})]);
    let (directory, skipped) = Directory::pool(&records, false, now(), &Seen::default()).unwrap();
    assert_eq!(directory.node(&id(1)).unwrap().operator.as_deref(), Some("me"));
    assert_eq!(directory.node(&id(2)).unwrap().operator, None);
    assert_eq!(skipped.len(), 1);
    assert!(!directory.is_expired(Millis(u64::MAX - 1)));
}

#[test]
fn a_class_of_a_newer_version_counts_as_the_largest() {
    let future = NodeRecord { max_class: Some(9), ..record(1) };
    assert_eq!(load_one([signed(1, &future, 5)]).0.nodes()[0].max_class, 4);
}

#[test]
fn a_list_body_travels_as_json() {
    let bare = ListEntry { operator: None, url: None, max_class: None, ..entry(2) };
    let body = body(vec![entry(1), bare]);
    assert_eq!(ListBody::from_json(&body.to_json()), Ok(body.clone()));
    let described = json!({ "version": 7, "expires": LIST_EXPIRES, "nodes": [
        { "t": "relay", "o": "operator 1", "n": "https://listed1.example.org", "a": id(1).to_string(), "c": 3 },
        { "t": "relay", "a": id(2).to_string() },
    ]});
    assert_eq!(serde_json::from_str::<Value>(&body.to_json()).unwrap(), described);
    assert!(ListBody::from_json(r#"{"version":1,"expires":2,"nodes":[{}]}"#).is_err());
}
