//! `delta demo`: what it says, and that it leaves nothing behind when something goes wrong.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::support::{Network, child_with, delta, json_lines, signal, until_gone};

/// Only a running relay is told the list.
const RELAY: &str = "--directory";
/// The data folder of the last relay that is started, which the demo itself never kills.
const LAST_RELAY: &str = "/relay-3\0--listen";

/// A demo that is busy for long, with its temporary folder in `dir`, and its last relay.
fn running(dir: &Path) -> (Child, u32) {
    let text: String =
        (0..20_000).map(|number| format!("This is line number {number} of a text.\n")).collect();
    std::fs::write(dir.join("text"), text).unwrap();
    std::fs::create_dir(dir.join("temporary")).unwrap();
    let mut command = delta();
    command.args(["demo", "--input"]).arg(dir.join("text")).env("TMPDIR", dir.join("temporary"));
    let mut demo = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    loop {
        if let Some(relay) = child_with(demo.id(), LAST_RELAY) {
            return (demo, relay);
        }
        assert_eq!(demo.try_wait().unwrap(), None, "the demo ended before its relays ran");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn it_keeps_its_promises_on_a_text_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (0..300).map(|number| format!("This is line number {number} of a text.\n")).collect();
    std::fs::write(dir.path().join("text"), text).unwrap();
    let report = &json_lines(delta().args(["demo", "--input"]).arg(dir.path().join("text")))[0];
    for (key, value) in [("published", 300), ("received", 300), ("lost", 0), ("doubled", 0), ("repeated", 0)]
    {
        assert_eq!(report[key], value, "{key}: {report}");
    }
    assert_eq!((&report["consistent"], &report["ok"]), (&true.into(), &true.into()), "{report}");
    assert_eq!(report["hidden_reading"], true, "{report}");
    let members = &report["members"];
    for (key, value) in
        [("read_by_joined", 20), ("read_by_remaining", 20), ("read_by_removed", 0), ("opened_after", 0)]
    {
        assert_eq!(members[key], value, "{key}: {report}");
    }
    assert_eq!(members["read_alone"], serde_json::json!([1, 1]), "{report}");
    assert!(members["envelopes_after"].as_u64().unwrap() >= 20, "{report}");
    assert_eq!(members["opened_before"], members["envelopes_before"], "{report}");
    for key in ["p50_ms", "p99_ms", "ops_per_s"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
}

#[test]
fn a_hostile_relay_costs_no_line_and_doubles_none() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (0..60).map(|number| format!("This is line number {number} of a text.\n")).collect();
    std::fs::write(dir.path().join("text"), text).unwrap();
    let report =
        &json_lines(delta().args(["demo", "--hostile-relay", "--input"]).arg(dir.path().join("text")))[0];
    for (key, value) in [("published", 60), ("received", 60), ("lost", 0), ("doubled", 0), ("repeated", 0)] {
        assert_eq!(report[key], value, "{key}: {report}");
    }
    assert_eq!((&report["consistent"], &report["ok"]), (&true.into(), &true.into()), "{report}");
    let hostile = &report["hostile"];
    assert_eq!(hostile["name"], "relay 4");
    for deed in ["dropped", "tampered", "replayed"] {
        assert!(hostile[deed].as_u64().unwrap() > 0, "{deed}: {report}");
    }
    assert!(hostile["excluded"].is_boolean() && hostile["left_out_by_device"].is_array(), "{report}");
}

#[test]
fn a_text_it_cannot_use_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(dir.path().join(name), bytes).unwrap();
        dir.path().join(name)
    };
    let cases = [
        (dir.path().to_path_buf(), "is a folder"),
        (file("latin", b"caf\xe9"), "UTF-8 (byte 3)"),
        (file("empty", b""), "give a longer one with --input"),
        (file("short", "line\n".repeat(19).as_bytes()), "19 lines"),
        (dir.path().join("missing"), "--input"),
    ];
    for (path, part) in cases {
        let output = delta().args(["demo", "--input"]).arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{part}");
        assert!(said(&output).contains(part), "{part}: {}", said(&output));
    }
}

#[test]
fn a_signal_ends_the_servers_and_removes_the_folder() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let dir = tempfile::tempdir().unwrap();
        let (demo, relay) = running(dir.path());
        signal(name, demo.id());
        let output = demo.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        until_gone(relay);
        let left: Vec<_> = dir.path().join("temporary").read_dir().unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn servers_end_with_a_demo_that_is_killed() {
    Network::start().kill();
}

#[test]
fn a_server_that_ends_unasked_is_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (demo, relay) = running(dir.path());
    signal("KILL", relay);
    let output = demo.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.starts_with("error: relay 3 ended unasked (signal: 9 (SIGKILL)); its log "), "{said}");

    let mut network = Network::start();
    signal("KILL", network.pids()[0]);
    let (code, said) = network.end();
    assert_eq!(code, Some(1));
    assert!(said.contains("ended unasked (signal: 9 (SIGKILL))"), "{said}");
}

/// Only what the demo starts is tied to its input: an operator's server is not.
#[test]
fn a_server_does_not_care_for_its_input_otherwise() {
    let mut network = Network::start();
    let parts: Vec<String> = {
        let line =
            std::fs::read(format!("/proc/{}/cmdline", child_with(network.pid(), RELAY).unwrap())).unwrap();
        String::from_utf8_lossy(&line).split('\0').map(str::to_owned).collect()
    };
    network.kill();
    // The same relay again, with an input that has ended.
    let mut command = Command::new(&parts[0]);
    command.args(&parts[1..parts.len() - 1]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut relay = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(relay.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim_end().strip_prefix("listening on http://").expect(&line);
    std::net::TcpStream::connect(address).unwrap();
    assert_eq!(relay.try_wait().unwrap(), None, "the relay ended");
    relay.kill().unwrap();
    relay.wait().unwrap();
}
