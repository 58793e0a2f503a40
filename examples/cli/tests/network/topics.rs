//! Signals between processes, and public topics on the real server.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Network, delta, json_lines, ticket};

#[test]
fn a_signal_is_printed_by_who_listens_and_stored_nowhere() {
    let network = Network::start();
    let ticket = ticket();
    let (a, b) = (network.device("a", &ticket), network.device("b", &ticket));
    let mut tail = b.command(&["tail", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(tail.stdout.take().unwrap()).lines();
    // What it prints first shows that it listens.
    json_lines(&mut a.command(&["send", "hello"]));
    assert!(printed.next().unwrap().unwrap().contains("hello"));
    json_lines(&mut a.command(&["send", "--signal", "typing"]));
    let signal: Value = serde_json::from_str(&printed.next().unwrap().unwrap()).unwrap();
    assert_eq!((&signal["text"], &signal["signal"]), (&"typing".into(), &"747970696e67".into()));
    tail.kill().unwrap();
    tail.wait().unwrap();
    let status = &json_lines(&mut a.command(&["status"]))[0];
    assert_eq!((&status["seq"], &status["server_equivocates"]), (&1.into(), &Value::Array(vec![])));
}

#[test]
fn a_public_topic_is_described_counted_and_deleted() {
    let network = Network::start();
    let ticket = json_lines(delta().args(["keygen", "--topic", "--public"]))[0]["ticket"].clone();
    let a = network.device("a", ticket.as_str().unwrap());
    let about = &json_lines(&mut a.command(&[
        "topic",
        "describe",
        "--name",
        "News",
        "--description",
        "What happened",
    ]))[0];
    assert_eq!((&about["name"], &about["description"]), (&"News".into(), &"What happened".into()));
    let first = about["counter"].as_u64().unwrap();
    let key = json_lines(delta().arg("keygen"))[0].clone();
    let seed = key["seed"].as_str().unwrap();
    let about = &json_lines(&mut a.command(&["topic", "read-key", "--set", seed]))[0];
    assert_eq!((&about["read_key"], &about["name"]), (&key["author"], &"News".into()));
    assert!(about["counter"].as_u64().unwrap() > first);
    assert_eq!(json_lines(&mut a.command(&["topic", "subscribers"]))[0]["subscribers"], 0);
    assert_eq!(json_lines(&mut a.command(&["topic", "about"]))[0]["name"], "News");
    let refused = a.command(&["topic", "delete"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(json_lines(&mut a.command(&["topic", "delete", "--yes"]))[0]["deleted"], true);
    let gone = a.command(&["topic", "about"]).output().unwrap();
    assert!(String::from_utf8_lossy(&gone.stderr).contains("deleted"), "{gone:?}");
}
