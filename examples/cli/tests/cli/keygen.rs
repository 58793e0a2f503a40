//! `delta keygen`.

use delta_core::ops::{DeviceKey, Ticket};

use crate::support::{delta, text};

#[test]
fn a_device_key_goes_alone_to_standard_output() {
    let done = delta(&["keygen"], b"");
    assert_eq!(done.code, 0);
    let seed: [u8; 32] = hex::decode(done.out().trim_end()).unwrap().try_into().unwrap();
    let author = DeviceKey::from_bytes(&seed).author();
    assert_eq!(done.err(), format!("author: {author}\n"));
}

#[test]
fn two_keys_differ() {
    assert_ne!(delta(&["keygen"], b"").stdout, delta(&["keygen"], b"").stdout);
}

#[test]
fn a_fresh_ticket_opens_the_topic_it_names() {
    let made = delta(&["keygen", "--topic", "--json"], b"").json();
    let ticket = Ticket::parse(text(&made, "ticket")).unwrap();
    assert_eq!(ticket.topic().to_string(), text(&made, "topic_id"));
    assert!(ticket.keys().write_key().is_some());
    assert!(!ticket.keys().is_public());
}

#[test]
fn a_readers_ticket_opens_the_same_topic_without_the_write_key() {
    let ticket = delta(&["keygen", "--topic"], b"").out();
    let readers = delta(&["keygen", "--topic", "--read-only-of", ticket.trim(), "--json"], b"").json();
    let readers = Ticket::parse(text(&readers, "ticket")).unwrap();
    assert_eq!(readers.topic(), Ticket::parse(ticket.trim()).unwrap().topic());
    assert!(readers.keys().write_key().is_none());
    delta(&["keygen", "--topic", "--read-only-of", "nonsense"], b"").assert_failed("no ticket");
}

#[test]
fn a_nodes_onion_key_has_the_id_asked_for() {
    let made = delta(&["keygen", "--node", "--kid", "513", "--json"], b"").json();
    assert_eq!(made["kid"], 513);
    for name in ["seed", "onion_secret", "node_id", "onion_public"] {
        assert_eq!(text(&made, name).len(), 64, "{name}");
    }
}

#[test]
fn a_key_file_is_private_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.key");
    let path_text = path.to_str().unwrap();
    let made = delta(&["keygen", "--out", path_text, "--json"], b"").json();
    assert!(made.get("seed").is_none(), "the secret is in the file only");
    let seed: [u8; 32] =
        hex::decode(std::fs::read_to_string(&path).unwrap().trim()).unwrap().try_into().unwrap();
    assert_eq!(DeviceKey::from_bytes(&seed).author().to_string(), text(&made, "author"));
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    let before = std::fs::read(&path).unwrap();
    delta(&["keygen", "--out", path_text], b"").assert_failed("the file exists");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
