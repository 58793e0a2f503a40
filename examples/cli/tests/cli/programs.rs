//! `delta relay` and `delta sync`.

use serde_json::Value;

use crate::support::{delta, text};

#[test]
fn a_relays_record_becomes_a_directory_and_a_hop() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let data = path("relay");
    let record = delta(
        &["relay", "record", "--data", &data, "--url", "https://relay.example.org", "--operator", "me"],
        b"",
    );
    assert_eq!(record.code, 0, "{}", record.err());
    let file = path("record.json");
    std::fs::write(&file, &record.stdout).unwrap();

    let list = path("list.json");
    let signed = delta(&["directory", "sign", "--key", &"11".repeat(32), "--out", &list, &file], b"");
    assert_eq!(signed.code, 0, "{}", signed.err());
    let shown: Value = delta(&["directory", "show", "--directory", &list, "--json"], b"").json();
    assert_eq!(shown["nodes"][0]["operator"], "me");
    assert_eq!(shown["nodes"][0]["url"], "https://relay.example.org");

    let hop = format!("@{file}");
    let packet = delta(&["onion", "wrap", "--hop", &hop, "--drop", "--json"], b"").json();
    assert_eq!(text(&packet, "packet").len(), 2 * 4096);
}

#[test]
fn a_sync_servers_record_is_a_last_hop() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let record =
        delta(&["sync", "record", "--data", &path("sync"), "--url", "https://sync.example.org"], b"");
    assert_eq!(record.code, 0, "{}", record.err());
    std::fs::write(path("record.json"), &record.stdout).unwrap();
    let hop = format!("@{}", path("record.json"));
    let wrapped = delta(&["onion", "wrap", "--hop", &hop, "--write-key", &"33".repeat(32), "--json"], b"op");
    assert_eq!(text(&wrapped.json(), "packet").len(), 2 * 4096);
}

#[test]
fn a_server_that_lacks_an_option_says_which() {
    for program in ["relay", "sync"] {
        let done = delta(&[program], b"");
        assert_eq!(done.code, 2, "{program}");
        assert!(done.stdout.is_empty(), "{program}");
        assert!(done.err().contains("is missing"), "{program}: {}", done.err());
    }
}
