//! What goes wrong is said with what to do about it, and without what must stay secret.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Stdio;

use delta_core::entropy::SeededEntropy;
use delta_core::ops::Ticket;

use crate::support::{command, delta, text};

/// A device without a network in a topic of its own.
struct Device {
    folder: tempfile::TempDir,
    key: String,
    ticket: String,
}

impl Device {
    fn new() -> Self {
        let key = text(&delta(&["keygen", "--json"], b"").json(), "seed").to_owned();
        let ticket = text(&delta(&["keygen", "--topic", "--json"], b"").json(), "ticket").to_owned();
        Self { folder: tempfile::tempdir().unwrap(), key, ticket }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A command with a database of this name.
    fn with<'a>(&'a self, command: &[&'a str], db: &'a str) -> Vec<&'a str> {
        [command, &["--db", db, "--key", &self.key]].concat()
    }

    #[track_caller]
    fn fails(&self, command: &[&str], db: &str, says: &[&str]) {
        let done = delta(&self.with(command, db), b"passphrase\n");
        done.assert_failed(db);
        assert!(says.iter().all(|says| done.err().contains(says)), "{command:?}: {}", done.err());
    }
}

#[test]
fn a_secret_with_a_slip_in_it_is_not_repeated() {
    let slip = "5".repeat(63);
    for arguments in [
        ["send", "--db", "x", "--key", &slip].as_slice(),
        &["send", "--db", "x", "--key", &"5".repeat(64), "--ticket", &slip],
        &["onion", "peel", "--onion-secret", &slip],
        &[
            "send",
            "--db",
            "x",
            "--key",
            &"5".repeat(64),
            "--proxy",
            &format!("socks5://ada:{slip}@a.example"),
        ],
        &["device", "join", "--db", "x", "--keys", "x", &slip],
        &["invite", "accept", "--db", "x", "--keys", "x", &slip],
    ] {
        for json in [false, true] {
            let json: &[&str] = if json { &["--json"] } else { &[] };
            let done = delta(&[arguments, json].concat(), b"");
            assert_eq!(done.code, 2, "{arguments:?}: {}", done.err());
            assert!(!done.err().contains(&slip), "{}", done.err());
        }
    }
    let done = delta(&["send", "--db", "x", "--key", &"5".repeat(64), "--proxy", "ftp://a.example:1"], b"");
    assert!(done.code == 2 && done.err().contains("neither socks5://… nor http://…"), "{}", done.err());
    // What it is not good for is said.
    let done = delta(&["send", "--db", "x", "--key", &slip], b"");
    assert!(done.err().contains("--key") && done.err().contains("64 hex digits"), "{}", done.err());
}

#[test]
fn what_connects_directly_does_not_where_a_proxy_is_set() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ticket = Ticket::generate_public(&mut SeededEntropy::new([1; 32])).unwrap().to_string();
    let trust = "7".repeat(64);
    let refresh = ["directory", "refresh", "--allow-private", "--directory", &url, "--trust", &trust];
    for arguments in
        [&["history", "--ticket", &ticket, "--sync", &url][..], &[&refresh[..], &["--records", "x"]].concat()]
    {
        let proxied = [arguments, &["--proxy", "socks5://127.0.0.1:9050"]].concat();
        let by_variable = command(arguments).env("DELTA_PROXY", "socks5://127.0.0.1:9050").output().unwrap();
        let by_argument = command(&proxied).output().unwrap();
        for done in [by_variable, by_argument] {
            let said = String::from_utf8(done.stderr).unwrap();
            assert_eq!(done.status.code(), Some(2), "{said}");
            assert!(said.contains("directly, not through --proxy"), "{said}");
        }
    }
    assert!(listener.accept().is_err(), "nobody connected");
}

#[test]
fn a_file_that_an_argument_names_and_that_is_not_there_is_said_to_be_missing() {
    let done = delta(&["send", "--db", "x", "--key", "@no/such/file"], b"");
    assert_eq!(done.code, 2);
    assert!(done.err().contains("no/such/file: No such file"), "{}", done.err());
}

#[test]
fn a_database_in_the_wrong_place_is_said_to_be() {
    let device = Device::new();
    let send = ["send", "--no-wait", "--ticket", &device.ticket, "hello"];
    let (folder, lost) = (device.path("."), device.path("no/such/folder/db"));
    device.fails(&send, &folder, &["is a folder", "name a file"]);
    device.fails(&send, &lost, &["there is no folder", "make it first"]);
    let other = device.path("other");
    std::fs::write(&other, [7; 8192]).unwrap();
    device.fails(&send, &other, &["not a database", "does --db name the right file?"]);
    assert_eq!(std::fs::read(&other).unwrap(), [7; 8192], "it is left as it is");
}

#[test]
fn a_command_that_only_looks_makes_no_database() {
    let device = Device::new();
    let missing = device.path("missing");
    let looks: [&[&str]; 4] = [
        &["search", "kettle"],
        &["status", "--ticket", &device.ticket],
        &["outbox", "list", "--ticket", &device.ticket],
        &["device", "list"],
    ];
    for look in looks {
        device.fails(look, &missing, &["there is no database at"]);
    }
    let done = delta(&["export", "--db", &missing, &device.path("export")], b"passphrase\n");
    done.assert_failed("export");
    assert!(done.err().contains("there is no database at"), "{}", done.err());
    assert_eq!(std::fs::read_dir(device.folder.path()).unwrap().count(), 0);
}

#[test]
fn a_device_that_another_command_has_open_is_said_to_be() {
    let device = Device::new();
    let db = device.path("db");
    let send = ["send", "--no-wait", "--ticket", &device.ticket];
    let mut first = command(&device.with(&send, &db));
    let mut first = first.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = first.stdin.take().unwrap();
    writeln!(input, "hello").unwrap();
    // What it has published it has open.
    let published = BufReader::new(first.stdout.take().unwrap()).lines().next();
    assert_eq!(published.unwrap().unwrap().len(), 64);
    device.fails(&["search", "hello"], &db, &["another process", "end the other one first"]);
    drop(input);
    assert!(first.wait().unwrap().success());
    assert_eq!(delta(&device.with(&["search", "hello", "--json"], &db), b"").json()["text"], "hello");
}

#[test]
fn what_exists_is_not_written_over_and_that_is_said() {
    let device = Device::new();
    let (db, file) = (device.path("db"), device.path("export"));
    let send = ["send", "--no-wait", "--ticket", &device.ticket, "hello"];
    assert_eq!(delta(&device.with(&send, &db), b"").code, 0);
    let export = ["export", "--db", &db, &file];
    assert_eq!(delta(&export, b"passphrase\n").code, 0);
    for again in [export, ["import", "--db", &db, &file]] {
        let done = delta(&again, b"passphrase\n");
        done.assert_failed("again");
        assert!(done.err().contains("exists already"), "{}", done.err());
    }
}

#[test]
fn a_database_of_another_device_is_said_to_be() {
    let (device, other) = (Device::new(), Device::new());
    let (db, keys) = (device.path("db"), device.path("keys"));
    let send = ["send", "--no-wait", "--ticket", &device.ticket, "hello"];
    assert_eq!(delta(&device.with(&send, &db), b"").code, 0);
    other.fails(&send, &db, &["is of the device", "open it with its own key", "--db and --key"]);
    let done = delta(&[&send[..], &["--db", &db, "--keys", &keys]].concat(), b"");
    done.assert_failed("with a keystore");
    assert!(done.err().contains("open it with its own key"), "{}", done.err());
    assert_eq!(delta(&device.with(&["search", "hello", "--json"], &db), b"").json()["text"], "hello");
}

#[test]
fn what_needs_a_keystore_says_so() {
    let device = Device::new();
    let db = device.path("db");
    let key = "ab".repeat(32);
    let done = delta(&device.with(&["device", "revoke", "--device", &key], &db), b"");
    assert_eq!(done.code, 2);
    assert!(done.err().contains("--keys DIR is needed"), "{}", done.err());
    // Which of two that exclude each other came from the environment.
    let mut both = command(&["device", "list", "--db", &db, "--keys", "x"]);
    let done = both.env("DELTA_KEY", &key).output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).contains("DELTA_KEY is set in the environment"));
}
