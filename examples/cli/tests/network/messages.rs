//! Processes that talk to each other.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Network, delta, json_lines, texts, ticket};

#[test]
fn what_one_process_sends_another_prints() {
    let network = Network::start();
    let ticket = ticket();
    let (a, b) = (network.device("a", &ticket), network.device("b", &ticket));
    let mut tail = b.command(&["tail", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(tail.stdout.take().unwrap()).lines();
    let sent = json_lines(&mut a.command(&["send", "hello", "and again"]));
    assert_eq!(sent.len(), 2);
    for (sent, text) in sent.iter().zip(["hello", "and again"]) {
        let message: Value = serde_json::from_str(&printed.next().unwrap().unwrap()).unwrap();
        assert_eq!(message["text"], text);
        assert_eq!(message["operation"], sent["operation"]);
        assert_eq!(message["seq"], sent["seq"]);
    }
    tail.kill().unwrap();
    tail.wait().unwrap();
    let status = &json_lines(&mut b.command(&["status"]))[0];
    assert_eq!(
        (&status["connection"], &status["seq"], &status["queued"]),
        (&"live".into(), &2.into(), &0.into())
    );
}

#[test]
fn what_was_stored_offline_goes_out_with_the_next_command() {
    let network = Network::start();
    let ticket = ticket();
    let (a, b) = (network.device("a", &ticket), network.device("b", &ticket));
    json_lines(a.command(&["send", "--no-wait", "written offline"]).env_remove("DELTA_SYNC"));
    let status = &json_lines(a.command(&["status"]).env_remove("DELTA_SYNC"))[0];
    assert_eq!((&status["connection"], &status["queued"]), (&"offline".into(), &1.into()));
    json_lines(&mut a.command(&["send", "written online"]));
    assert_eq!(texts(&b.messages()), ["written offline", "written online"]);
}

#[test]
fn lines_of_standard_input_are_messages_in_their_order() {
    let network = Network::start();
    let ticket = ticket();
    let (a, b) = (network.device("a", &ticket), network.device("b", &ticket));
    let mut send = a.command(&["send"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let lines: Vec<String> = (0..3000).map(|number| format!("line {number}")).collect();
    send.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    assert!(send.wait().unwrap().success());
    assert_eq!(texts(&b.messages()), lines);
}

#[test]
fn the_demo_keeps_its_promises_on_a_text_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (0..300).map(|number| format!("This is line number {number} of a text.\n")).collect();
    std::fs::write(dir.path().join("text"), text).unwrap();
    let report = &json_lines(delta().args(["demo", "--input"]).arg(dir.path().join("text")))[0];
    for (key, value) in [("published", 300), ("received", 300), ("lost", 0), ("doubled", 0)] {
        assert_eq!(report[key], value, "{key}: {report}");
    }
    assert_eq!((&report["consistent"], &report["ok"]), (&true.into(), &true.into()), "{report}");
    for key in ["p50_ms", "p99_ms", "ops_per_s"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
}

#[test]
fn mistakes_are_named() {
    let ticket = ticket();
    let key = "11".repeat(32);
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("device.db");
    let wrong = |arguments: &[&str], code: i32, part: &str| {
        let mut command = delta();
        command.arg("send").arg("--db").arg(&db).args(arguments);
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(part), "{error}");
        assert!(output.stdout.is_empty());
    };
    let device = ["--key", &key, "--ticket", &ticket];
    let with = |rest: &[&'static str]| [&device[..], rest].concat();
    wrong(&with(&["text"]), 2, "--sync");
    wrong(&with(&["text", "--sync", "https://a.example#00"]), 2, "--records");
    wrong(&["text", "--no-wait", "--key", &key, "--ticket", "nonsense"], 2, "ticket");
    wrong(&["text", "--no-wait", "--key", "12", "--ticket", &ticket], 2, "64 hex digits");
    let long = "x".repeat(64 * 1024 + 1);
    wrong(&[&device[..], &["--no-wait", &long]].concat(), 1, "65536");
    let database = delta_path(&db);
    std::fs::remove_file(&db).unwrap();
    std::fs::write(&db, "no database, but longer than the header of one, which is a hundred bytes".repeat(3))
        .unwrap();
    wrong(&with(&["text", "--no-wait"]), 1, &database);
}

fn delta_path(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
