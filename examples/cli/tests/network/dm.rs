//! Two people and nobody else, over real relays and a real server.

use serde_json::Value;

use crate::devices::pair;
use crate::support::{Device, Network, json_lines, texts};

fn one(device: &Device, arguments: &[&str]) -> Value {
    // A packet that a busy relay refuses goes again after a look, which takes its time.
    let lines = json_lines(&mut device.command(&[arguments, &["--timeout", "400"]].concat()));
    lines.into_iter().next().unwrap_or_else(|| panic!("{arguments:?} printed nothing"))
}

fn threads(device: &Device) -> Vec<(String, String)> {
    let threads = json_lines(&mut device.command(&["dm", "list", "--timeout", "400"]));
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or("").to_owned();
    threads.iter().map(|row| (text(row, "state"), text(row, "text"))).collect()
}

/// Looks again and again until it is so: what is handed to a relay is at the server soon, and nothing tells when.
fn until<T: PartialEq + std::fmt::Debug>(expected: T, look: impl Fn() -> T) {
    let mut seen = look();
    for _ in 0..LOOKS {
        if seen == expected {
            return;
        }
        seen = look();
    }
    assert_eq!(seen, expected);
}

/// However slow the machine: reaching this is a failure, never a pass.
const LOOKS: usize = 200;

fn log(device: &Device, thread: &str) -> Vec<String> {
    let messages = json_lines(&mut device.command(&["dm", "log", "--thread", thread, "--timeout", "400"]));
    texts(&messages).into_iter().map(str::to_owned).collect()
}

#[test]
fn one_asks_the_other_accepts_and_both_talk() {
    let network = Network::start();
    let (a, b) = (network.stranger("a"), network.stranger("b"));
    let contact = one(&b, &["dm", "contact"])["contact"].as_str().unwrap().to_owned();
    let asked = one(&a, &["dm", "request", "--to", &contact, "--text", "it is me"]);
    let thread = asked["thread"].as_str().unwrap();
    until(vec![("requested".to_owned(), "it is me".to_owned())], || threads(&b));
    let early = a.command(&["dm", "send", "--thread", thread, "too early"]).output().unwrap();
    assert!(String::from_utf8(early.stderr).unwrap().contains("not accepted it yet"));
    let early = b.command(&["dm", "send", "--thread", thread, "too early"]).output().unwrap();
    assert!(String::from_utf8(early.stderr).unwrap().contains("`delta dm accept` accepts it"));
    one(&b, &["dm", "accept", "--thread", thread]);
    until(vec![("open".to_owned(), "it is me".to_owned())], || threads(&a));
    one(&a, &["dm", "send", "--thread", thread, "hello"]);
    assert_eq!(log(&b, thread), ["hello"]);
    one(&b, &["dm", "send", "--thread", thread, "hi"]);
    one(&b, &["dm", "send", "--thread", thread, "and bye"]);
    assert_eq!(log(&a, thread), ["hello", "hi", "and bye"]);
    one(&a, &["dm", "send", "--thread", thread, "bye"]);
    assert_eq!(log(&b, thread), ["hello", "hi", "and bye", "bye"]);
    // Turned down, it is no thread.
    let again = one(&a, &["dm", "request", "--to", &contact]);
    until(2, || threads(&b).len());
    let again = again["thread"].as_str().unwrap();
    one(&b, &["dm", "close", "--thread", again]);
    assert_eq!(threads(&b)[1].0, "closed");
    let late = b.command(&["dm", "send", "--thread", again, "too late"]).output().unwrap();
    assert!(String::from_utf8(late.stderr).unwrap().contains("was closed"));
}

#[test]
fn a_person_has_their_threads_on_all_their_devices() {
    let network = Network::start();
    let (a, a2, b) = (network.keeper("a"), network.keeper("a2"), network.stranger("b"));
    let contact = one(&b, &["dm", "contact"])["contact"].as_str().unwrap().to_owned();
    let asked = one(&a, &["dm", "request", "--to", &contact]);
    let thread = asked["thread"].as_str().unwrap();
    until(1, || threads(&b).len());
    one(&b, &["dm", "accept", "--thread", thread]);
    until(vec![("open".to_owned(), String::new())], || threads(&a));
    one(&a, &["dm", "send", "--thread", thread, "before"]);
    assert_eq!(log(&b, thread), ["before"]);
    pair(&a, &a2);
    until(vec![("open".to_owned(), String::new())], || {
        // The device that paired it hands over what was said, as soon as it knows where to.
        threads(&a);
        threads(&a2)
    });
    let everybody_reads = |texts: &[&str]| {
        for device in [&a, &b, &a2] {
            let expected: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
            until(expected, || {
                threads(&a);
                log(device, thread)
            });
        }
    };
    everybody_reads(&["before"]);
    one(&a2, &["dm", "send", "--thread", thread, "from the second"]);
    everybody_reads(&["before", "from the second"]);
    one(&b, &["dm", "send", "--thread", thread, "to both"]);
    everybody_reads(&["before", "from the second", "to both"]);
}
