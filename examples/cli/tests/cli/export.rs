//! `delta export` and `delta import`.

use crate::support::{delta, text};

#[test]
fn a_device_moves_with_its_history_and_its_person() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let made = delta(&["identity", "new", "--keys", &path("keys"), "--json"], b"").json();
    let ticket = delta(&["keygen", "--topic"], b"").out();
    let (db, keys, file) = (path("db"), path("keys"), path("me.delta"));
    let device = ["--db", &db, "--keys", &keys, "--ticket", ticket.trim()];
    let sent = delta(&[&["send"], &device[..], &["--no-wait", "hello"]].concat(), b"");
    assert_eq!(sent.code, 0, "{}", sent.err());
    let export = ["export", "--db", &db, "--keys", &keys, &file];
    delta(&export, b"").assert_failed("no passphrase");
    assert_eq!(delta(&[&export[..], &["--json"]].concat(), b"secret\n").json()["words"], true);
    delta(&export, b"secret").assert_failed("the file exists");

    let (new, others) = (path("new.db"), path("other keys"));
    let import = ["import", "--db", &new, "--keys", &others, &file];
    let refused = delta(&import, b"guess");
    refused.assert_failed("a wrong passphrase");
    assert!(refused.err().contains("passphrase"), "{}", refused.err());
    assert_eq!(delta(&[&import[..], &["--json"]].concat(), b"secret").json()["words_kept"], true);
    let shown = delta(&["identity", "show", "--keys", &others], b"");
    assert_eq!(shown.out().trim(), text(&made, "address"));
    let device = ["--db", &new, "--keys", &others, "--ticket", ticket.trim()];
    let sent = delta(&[&["send"], &device[..], &["--no-wait", "from the new one"]].concat(), b"");
    assert!(sent.code == 0 && sent.err().contains("new key"), "{}", sent.err());
}
