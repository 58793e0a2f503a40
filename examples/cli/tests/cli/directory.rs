//! `delta directory sign`, `show`, `verify` and `refresh`.

use std::path::{Path, PathBuf};

use delta_core::identity::NodeId;
use delta_core::onion::directory::{NodeKind, NodeRecord, RecordObject};
use delta_core::onion::v3::{OnionKey, OnionSecret};
use delta_core::topic::WriteKey;
use serde_json::Value;

use crate::support::{Done, delta, text};

/// 1 January 2100.
const FAR: u64 = 4_102_444_800;

fn node_id(seed: u8) -> NodeId {
    NodeId(WriteKey::from_seed([seed; 32]).verifying_key().0)
}

fn onion_key(seed: u8) -> OnionKey {
    OnionSecret::from_bytes(u16::from(seed), [seed; 32]).public()
}

fn record(seed: u8, expires: u64, url: &str) -> RecordObject {
    let record = NodeRecord {
        kind: NodeKind::Relay,
        id: node_id(seed),
        url: Some(url.to_owned()),
        keys: vec![onion_key(seed)],
        expires,
        max_class: Some(4),
        operator: Some(format!("operator {seed}")),
        tunnel: false,
    };
    RecordObject::sign(&WriteKey::from_seed([seed; 32]).signing_key(), &record, 1).unwrap()
}

/// A folder with `r1.json`, `r2.json` (two relays) and room for the lists.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for seed in [1, 2] {
            let url = format!("https://relay{seed}.example.org");
            folder.write(&format!("r{seed}.json"), &record(seed, FAR, &url).to_json());
        }
        folder
    }

    fn path(&self, name: &str) -> String {
        PathBuf::from(self.0.path()).join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Signs both records with a key into `list.json` and `records.json`.
    fn sign(&self, key: u8, more: &[&str]) -> Done {
        let (key, list, records) =
            (hex::encode([key; 32]), self.path("list.json"), self.path("records.json"));
        let mut arguments =
            vec!["directory", "sign", "--key", &key, "--out", &list, "--records-out", &records];
        arguments.extend(more);
        let (r1, r2) = (self.path("r1.json"), self.path("r2.json"));
        arguments.extend([r1.as_str(), r2.as_str()]);
        delta(&arguments, b"")
    }

    fn show(&self, more: &[&str]) -> Done {
        let (list, records) = (self.path("list.json"), self.path("records.json"));
        let mut arguments = vec!["directory", "show", "--directory", &list, "--records", &records];
        arguments.extend(more);
        delta(&arguments, b"")
    }
}

fn usable(shown: &Value) -> Vec<(&str, bool)> {
    let nodes = shown["nodes"].as_array().unwrap();
    nodes.iter().map(|node| (text(node, "id"), node["usable"].as_bool().unwrap())).collect()
}

#[test]
fn a_signed_list_is_shown_as_a_client_would_take_it() {
    let folder = Folder::new();
    let done = folder.sign(9, &["--version", "7"]);
    assert_eq!((done.code, done.out()), (0, String::new()), "{}", done.err());
    let signer = node_id(9).to_string();
    let shown = folder.show(&["--trust", &signer, "--json"]).json();
    assert_eq!((&shown["version"], &shown["verified"]), (&7.into(), &true.into()));
    assert_eq!(shown["signers"], serde_json::json!([signer]));
    let ids = [node_id(1).to_string(), node_id(2).to_string()];
    assert_eq!(usable(&shown), [(ids[0].as_str(), true), (ids[1].as_str(), true)]);
    assert_eq!(shown["nodes"][0]["operator"], "operator 1");
    assert_eq!(shown["nodes"][0]["kids"], serde_json::json!([1]));
}

#[test]
fn without_trust_the_list_is_shown_as_not_verified() {
    let folder = Folder::new();
    folder.sign(9, &[]);
    assert_eq!(folder.show(&["--json"]).json()["verified"], false);
    assert!(folder.show(&[]).err().contains("--trust"));
}

#[test]
fn keys_in_different_places_sign_one_list() {
    let folder = Folder::new();
    folder.sign(8, &[]);
    let (key, list) = (hex::encode([9; 32]), folder.path("list.json"));
    let trust = format!("{},{}", node_id(8), node_id(9));
    folder.show(&["--trust", &trust]).assert_failed("one of two signatures");
    let done = delta(&["directory", "sign", "--key", &key, "--add-to", &list, "--out", &list], b"");
    assert_eq!(done.code, 0, "{}", done.err());
    let shown = folder.show(&["--trust", &trust, "--threshold", "2", "--json"]).json();
    assert_eq!(shown["signers"].as_array().unwrap().len(), 2);
}

#[test]
fn somebody_elses_or_a_changed_list_is_refused() {
    let folder = Folder::new();
    folder.sign(9, &[]);
    folder.show(&["--trust", &node_id(8).to_string()]).assert_failed("another signer");
    let list = std::fs::read_to_string(folder.path("list.json")).unwrap();
    let mut value: Value = serde_json::from_str(&list).unwrap();
    let signed = text(&value, "signed").to_owned();
    // Another first letter of the base64: the signed bytes change, the signature does not.
    value["signed"] = format!("f{}", &signed[1..]).into();
    folder.write("list.json", &value.to_string());
    folder.show(&["--trust", &node_id(9).to_string()]).assert_failed("changed bytes");
}

#[test]
fn a_node_without_a_valid_record_is_listed_as_not_usable() {
    let folder = Folder::new();
    folder.sign(9, &[]);
    folder.write("records.json", &format!("[{}]", record(2, FAR, "https://relay2.example.org").to_json()));
    let shown = folder.show(&["--trust", &node_id(9).to_string(), "--json"]).json();
    let ids = [node_id(1).to_string(), node_id(2).to_string()];
    assert_eq!(usable(&shown), [(ids[0].as_str(), false), (ids[1].as_str(), true)]);
    assert_eq!(shown["skipped"].as_array().unwrap().len(), 1);
}

#[test]
fn records_that_nobody_could_use_are_not_vouched_for() {
    let folder = Folder::new();
    let tampered = record(1, FAR, "https://relay1.example.org").to_json().replace("relay1", "relayX");
    let cases = [
        ("a broken signature", tampered),
        ("expired", record(1, 1_000_000_000, "https://relay1.example.org").to_json()),
        ("http", record(1, FAR, "http://relay1.example.org:8080").to_json()),
        ("a private address", record(1, FAR, "https://10.0.0.1").to_json()),
        ("no record", "{}".to_owned()),
        ("no JSON", "v=delta1".to_owned()),
        ("the same node twice", record(2, FAR, "https://relay2.example.org").to_json()),
    ];
    for (what, json) in cases {
        folder.write("r1.json", &json);
        folder.sign(9, &[]).assert_failed(what);
        assert!(!Path::new(&folder.path("list.json")).exists(), "{what}");
    }
    folder.write("r1.json", &record(1, FAR, "http://127.0.0.1:8080").to_json());
    assert_eq!(folder.sign(9, &["--allow-private"]).code, 0);
}

#[test]
fn missing_files_and_arguments() {
    let folder = Folder::new();
    folder.show(&[]).assert_failed("no such file");
    assert_eq!(delta(&["directory", "sign", "--key", &"11".repeat(32)], b"").code, 2);
    assert_eq!(delta(&["directory", "show"], b"").code, 2);
    assert_eq!(folder.show(&["--trust", "xyz"]).code, 2);
}

fn verify(folder: &Folder, more: &[&str]) -> Done {
    let (list, records) = (folder.path("list.json"), folder.path("records.json"));
    let mut arguments = vec!["directory", "verify", "--directory", &list, "--records", &records];
    arguments.extend(more);
    delta(&arguments, b"")
}

#[test]
fn verify_fails_unless_every_node_can_be_used() {
    let folder = Folder::new();
    folder.sign(9, &["--version", "7"]);
    let signer = node_id(9).to_string();
    let done = verify(&folder, &["--trust", &signer]);
    assert_eq!(done.code, 0, "{}", done.err());
    assert!(done.out().starts_with("version 7, ") && done.out().contains("2 usable nodes"), "{}", done.out());
    verify(&folder, &["--trust", &node_id(8).to_string()]).assert_failed("another signer");
    assert_eq!(verify(&folder, &[]).code, 2, "without --trust there is nothing to check");
    folder.write("records.json", &format!("[{}]", record(2, FAR, "https://relay2.example.org").to_json()));
    verify(&folder, &["--trust", &signer]).assert_failed("a node without a record");
    let list = folder.path("list.json");
    let alone = ["directory", "verify", "--directory", &list, "--trust", &signer];
    assert_eq!(delta(&alone, b"").code, 0, "the list alone");
}

/// A web server on loopback that answers every request with what `answer` gives at the time.
fn web(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> String {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let path = line.split(' ').nth(1).unwrap_or("").to_owned();
            while line.trim_end() != "" {
                line.clear();
                stream.read_line(&mut line).unwrap();
            }
            let body = answer(&path).unwrap_or_default();
            let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.get_mut().write_all((head + &body).as_bytes());
        }
    });
    url
}

#[test]
fn refresh_collects_every_nodes_record_and_keeps_the_old_one_of_a_node_that_is_gone() {
    let folder = Folder::new();
    let (first, second) = std::sync::mpsc::channel::<String>();
    let second = std::sync::Mutex::new((second, String::new()));
    // One relay whose answer can be changed, one that is not there.
    let alive = web(move |path| {
        let mut answers = second.lock().unwrap();
        while let Ok(next) = answers.0.try_recv() {
            answers.1 = next;
        }
        (path == "/key").then(|| answers.1.clone())
    });
    let gone = "http://127.0.0.1:1025";
    folder.write("r1.json", &record(1, FAR, &alive).to_json());
    folder.write("r2.json", &record(2, FAR, gone).to_json());
    folder.sign(9, &["--allow-private"]);
    let (list, records, signer) =
        (folder.path("list.json"), folder.path("records.json"), node_id(9).to_string());
    let web_list = std::fs::read_to_string(&list).unwrap();
    let list_url = web(move |path| (path == "/list.json").then(|| web_list.clone())) + "/list.json";
    let refresh = |list: &str| {
        delta(
            &[
                "directory",
                "refresh",
                "--allow-private",
                "--directory",
                list,
                "--trust",
                &signer,
                "--records",
                &records,
            ],
            b"",
        )
    };
    let newer = |seed: u8, seq: u64| {
        let record = record(seed, FAR, &alive).verify().unwrap();
        RecordObject::sign(&WriteKey::from_seed([seed; 32]).signing_key(), &record, seq).unwrap()
    };
    let in_file = || -> Vec<(NodeId, u64)> {
        let text = std::fs::read_to_string(&records).unwrap();
        let values: Vec<Value> = serde_json::from_str(&text).unwrap();
        let objects = values.into_iter().map(|value| RecordObject::from_value(value).unwrap());
        objects.map(|object| (object.verify().unwrap().id, object.seq)).collect()
    };

    first.send(newer(1, 5).to_json()).unwrap();
    let done = refresh(&list);
    assert_eq!(done.code, 0, "{}", done.err());
    assert!(done.err().contains("its last record is kept"), "{}", done.err());
    assert_eq!(in_file(), [(node_id(1), 5), (node_id(2), 1)]);

    // An older record, and one of another node: the one in the file stays.
    for bad in [newer(1, 4).to_json(), newer(2, 9).to_json(), "nonsense".to_owned()] {
        first.send(bad).unwrap();
        assert_eq!(refresh(&list_url).code, 0);
        assert_eq!(in_file(), [(node_id(1), 5), (node_id(2), 1)]);
    }
    first.send(newer(1, 6).to_json()).unwrap();
    assert_eq!(refresh(&list_url).code, 0);
    assert_eq!(in_file()[0], (node_id(1), 6));

    // Nothing to fall back on: what there is is written, and the command fails.
    std::fs::remove_file(&records).unwrap();
    refresh(&list).assert_failed("a node without a record");
    assert_eq!(in_file(), [(node_id(1), 6)]);
    // A file that cannot be read is no reason to stop.
    std::fs::write(&records, "nonsense").unwrap();
    let done = refresh(&list);
    assert!(done.err().contains("counts as nothing"), "{}", done.err());
    assert_eq!(in_file(), [(node_id(1), 6)]);
    // Where no node has a record, whoever reads the file keeps what it has.
    first.send("nonsense".to_owned()).unwrap();
    std::fs::write(&records, "nonsense").unwrap();
    refresh(&list).assert_failed("no node has a record");
    assert_eq!(std::fs::read_to_string(&records).unwrap(), "nonsense");
    first.send(newer(1, 6).to_json()).unwrap();
    assert_ne!(refresh(&list).code, 0);
    assert_eq!(in_file(), [(node_id(1), 6)]);
    // A list that is not trusted changes nothing.
    folder.write("list.json", "{}");
    refresh(&list).assert_failed("no list");
    assert_eq!(in_file(), [(node_id(1), 6)]);
}
