//! Processes that talk to each other.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Network, delta, json_lines, signal, texts, ticket};

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
fn status_says_whether_reading_is_hidden() {
    let network = Network::start();
    let a = network.device("a", &ticket());
    json_lines(&mut a.command(&["send", "hello"]));
    let hidden = &json_lines(&mut a.command(&["status"]))[0]["reading"];
    assert_eq!((&hidden["hidden"], &hidden["seal"]), (&true.into(), &"noise".into()), "{hidden}");
    assert_eq!(hidden["relay"].as_str().unwrap().len(), 64);
    let direct = &json_lines(&mut a.command(&["status", "--direct-reading"]))[0];
    assert_eq!(direct["reading"], serde_json::json!({ "hidden": false, "why": "switched-off" }));
    assert_eq!(direct["connection"], "live");
    let offline = &json_lines(a.command(&["status"]).env_remove("DELTA_SYNC"))[0];
    assert_eq!(offline["reading"], Value::Null);
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
fn lines_are_published_although_nobody_reads_the_report() {
    let network = Network::start();
    let ticket = ticket();
    let (a, b) = (network.device("a", &ticket), network.device("b", &ticket));
    let mut send = a.command(&["send"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = send.stdin.take().unwrap();
    writeln!(input, "line 0").unwrap();
    let mut report = BufReader::new(send.stdout.take().unwrap());
    report.read_line(&mut String::new()).unwrap();
    drop(report);
    let lines: Vec<String> = (1..1000).map(|number| format!("line {number}")).collect();
    input.write_all(lines.join("\n").as_bytes()).unwrap();
    drop(input);
    assert!(send.wait().unwrap().success());
    assert_eq!(texts(&b.messages()).len(), 1000);
}

#[test]
fn a_confirmation_is_reported_before_the_next_line_comes() {
    let network = Network::start();
    let a = network.device("a", &ticket());
    let mut send =
        a.command(&["send", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = send.stdin.take().unwrap();
    let mut report = BufReader::new(send.stdout.take().unwrap()).lines();
    for seq in 1..=3 {
        writeln!(input, "line {seq}").unwrap();
        let line: Value = serde_json::from_str(&report.next().unwrap().unwrap()).unwrap();
        assert_eq!(line["seq"], seq);
    }
    drop(input);
    assert!(send.wait().unwrap().success());
}

/// Whatever is stored is reported: who sends the rest again must know what not to send again.
#[test]
fn one_refused_line_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (ticket, key) = (ticket(), "11".repeat(32));
    let mut send = delta();
    send.args(["send", "--no-wait", "--key", &key, "--ticket", &ticket])
        .arg("--db")
        .arg(dir.path().join("db"));
    let output = send.args(["one", &"x".repeat(64 * 1024 + 1), "three"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("message 2 is not published") && error.contains("65536"), "{error}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
}

#[test]
fn lines_before_an_unreadable_one_are_published() {
    let dir = tempfile::tempdir().unwrap();
    let (ticket, key) = (ticket(), "11".repeat(32));
    let mut send = delta();
    send.args(["send", "--no-wait", "--key", &key, "--ticket", &ticket])
        .arg("--db")
        .arg(dir.path().join("db"));
    let mut send = send.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    send.stdin.take().unwrap().write_all(b"one\ntwo\ncaf\xe9\nfour\n").unwrap();
    let output = send.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("line 3 of standard input"), "{error}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
}

/// More lines than a listener's queue holds, while the pipe is full.
#[test]
fn a_slow_reader_gets_every_message_in_order() {
    const LINES: usize = 8000;
    let network = Network::start();
    let ticket = ticket();
    let (a, b) = (network.device("a", &ticket), network.device("b", &ticket));
    let mut tail = b.command(&["tail", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&printed.next().unwrap().unwrap()).unwrap() };
    json_lines(&mut a.command(&["send", "the first"]));
    assert_eq!(next()["text"], "the first");
    let mut send = a.command(&["send"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let lines: Vec<String> = (0..LINES).map(|number| format!("line {number}")).collect();
    send.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    assert!(send.wait().unwrap().success());
    for line in &lines {
        assert_eq!(next()["text"], *line);
    }
    // Now nobody reads: it must end all the same.
    let mut send = a.command(&["send"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    send.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    assert!(send.wait().unwrap().success());
    signal("INT", tail.id());
    assert_eq!(tail.wait().unwrap().code(), Some(0));
}

#[test]
fn tail_once_gives_up_when_there_is_no_server() {
    let mut network = Network::start();
    let b = network.device("b", &ticket());
    network.kill();
    let output = b.command(&["tail", "--once", "--timeout", "1"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("--timeout"), "{error}");
    assert!(output.stdout.is_empty());
}

/// A typing mistake must not leave a database or a topic.
#[test]
fn status_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (key, other) = ("11".repeat(32), ticket());
    let status = |ticket: &str| {
        let mut command = delta();
        command.args(["status", "--key", &key, "--ticket", ticket]).arg("--db").arg(dir.path().join("db"));
        command.output().unwrap()
    };
    assert_eq!(status(&other).status.code(), Some(1));
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    let mut send = delta();
    send.args(["send", "--no-wait", "--key", &key, "--ticket", &ticket(), "one"])
        .arg("--db")
        .arg(dir.path().join("db"));
    assert!(send.output().unwrap().status.success());
    for _ in 0..2 {
        let output = status(&other);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("the topic is not open"), "{output:?}");
    }
}

/// Nobody may believe that a list's signatures are checked when there is no list.
#[test]
fn trust_and_directory_need_each_other() {
    let network = Network::start();
    let a = network.device("a", &ticket());
    let cases: [(&str, &[&str], &str); 5] = [
        ("DELTA_DIRECTORY", &[], "--directory"),
        ("DELTA_TRUST", &[], "--trust"),
        ("", &["--threshold", "0"], "--threshold"),
        ("", &["--threshold", "2"], "--threshold 2 cannot be met"),
        ("DELTA_DIRECTORY", &["--threshold", "1"], "--directory"),
    ];
    for (removed, arguments, part) in cases {
        let output = a.command(&["send", "text"]).args(arguments).env_remove(removed).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(part), "{part}: {error}");
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
