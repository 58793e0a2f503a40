//! `delta identity`, and devices whose keys are in a folder.

use std::os::unix::fs::PermissionsExt;

use crate::support::{delta, text, vectors};

#[test]
fn words_come_back_as_the_same_identity() {
    let folder = tempfile::tempdir().unwrap();
    let keys = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (a, b) = (keys("a"), keys("b"));
    let made = delta(&["identity", "new", "--keys", &a, "--json"], b"").json();
    let words = text(&made, "words").to_owned();
    assert_eq!(words.split(' ').count(), 24);
    let read = delta(&["identity", "import", "--keys", &b, "--json"], words.to_uppercase().as_bytes()).json();
    assert_eq!(text(&read, "address"), text(&made, "address"));
    assert!(read.get("words").is_none());
    let shown = delta(&["identity", "show", "--keys", &b], b"");
    assert_eq!(shown.out().trim(), text(&made, "address"));
    let shown = delta(&["identity", "show", "--words", "--keys", &b, "--json"], b"").json();
    assert_eq!(text(&shown, "words"), words);
    delta(&["identity", "new", "--keys", &a], b"").assert_failed("there is one");
    delta(&["identity", "import", "--keys", &a], words.as_bytes()).assert_failed("there is one");
    delta(&["identity", "show", "--keys", &keys("none")], b"").assert_failed("there is none");
}

#[test]
fn identities_are_those_of_the_vectors_and_wrong_words_are_told_by_place_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (index, vector) in vectors("identity.json")["mnemonics"].as_array().unwrap().iter().enumerate() {
        let keys = folder.path().join(index.to_string());
        let keys = keys.to_str().unwrap();
        let words = text(vector, "words");
        let wrong = words.replacen(' ', " hunter2 ", 1).rsplit_once(' ').unwrap().0.to_owned();
        let refused = delta(&["identity", "import", "--keys", keys], wrong.as_bytes());
        refused.assert_failed("a word that is none");
        assert!(refused.err().contains("word 2") && !refused.err().contains("hunter2"), "{}", refused.err());
        let read = delta(&["identity", "import", "--keys", keys, "--json"], words.as_bytes()).json();
        assert_eq!(text(&read, "address"), text(vector, "address"));
        assert_eq!(text(&read, "identity"), text(vector, "identity"));
    }
}

#[test]
fn keys_in_a_folder_are_their_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    delta(&["identity", "new", "--keys", keys.to_str().unwrap()], b"");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let item = keys.join("delta.identity.key");
    assert_eq!((mode(&keys), mode(&item)), (0o700, 0o600));
    std::fs::set_permissions(&item, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = delta(&["identity", "show", "--keys", keys.to_str().unwrap()], b"");
    refused.assert_failed("others can read it");
    assert!(refused.err().contains("chmod 600"), "{}", refused.err());
}

#[test]
fn a_restored_database_goes_on_with_a_new_device_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let ticket = delta(&["keygen", "--topic"], b"").out();
    let send = |said: &str| {
        let arguments = [
            "send",
            "--db",
            &path("db"),
            "--keys",
            &path("keys"),
            "--ticket",
            ticket.trim(),
            "--no-wait",
            said,
        ];
        delta(&arguments, b"")
    };
    let first = send("one");
    assert_eq!(first.code, 0, "{}", first.err());
    std::fs::copy(path("db"), path("backup")).unwrap();
    let second = send("two");
    assert!(second.code == 0 && !second.err().contains("new key"), "{}", second.err());
    for name in ["db-wal", "db-shm", "db.lock"] {
        let _ = std::fs::remove_file(path(name));
    }
    std::fs::copy(path("backup"), path("db")).unwrap();
    let third = send("three");
    assert!(third.code == 0 && third.err().contains("new key"), "{}", third.err());
    let fourth = send("four");
    assert!(fourth.code == 0 && !fourth.err().contains("new key"), "{}", fourth.err());
}
