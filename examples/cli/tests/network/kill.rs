//! SIGKILL at random points while publishing: what was reported as published is there once, nothing twice.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Network, json_lines, texts, ticket};

/// Kills. Each follows after a number of reported lines and a moment that a fixed seed draws.
const KILLS: u64 = 50;
/// Most lines reported before a kill, and most microseconds from then on.
const LINES: u64 = 40;
const MICROS: u64 = 30_000;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[test]
fn case_65_fifty_kills_while_publishing_lose_and_double_nothing() {
    let network = Network::start();
    let ticket = ticket();
    let (a, b) = (network.device("a", &ticket), network.device("b", &ticket));
    let mut draw = Draw(1);
    let mut reported: Vec<(String, String)> = Vec::new();
    for round in 0..KILLS {
        let mut send = a.command(&["send"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = send.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            for number in 0.. {
                if writeln!(input, "round {round} line {number}").is_err() {
                    return;
                }
            }
        });
        let mut lines = BufReader::new(send.stdout.take().unwrap()).lines();
        let mut number = 0;
        let mut take = |line: std::io::Result<String>| {
            let line = line.unwrap();
            // A kill may cut the last line short: then it was not reported.
            if line.len() == 64 {
                reported.push((line, format!("round {round} line {number}")));
                number += 1;
            }
        };
        for _ in 0..draw.below(LINES) {
            take(lines.next().expect("the sender ended by itself"));
        }
        // Where within a transaction, a commit or a packet it strikes is the point of the test.
        std::thread::sleep(Duration::from_micros(draw.below(MICROS)));
        send.kill().unwrap();
        lines.for_each(take);
        send.wait().unwrap();
        writer.join().unwrap();
    }
    assert!(reported.len() > 100, "only {} lines were reported: the test tests little", reported.len());

    // What is left in the outbox goes out; the last message closes the log.
    json_lines(&mut a.command(&["send", "--timeout", "120", "the end"]));
    let (of_a, of_b) = (a.messages(), b.messages());
    let ids = |messages: &[Value]| -> HashSet<String> {
        messages.iter().map(|message| message["operation"].as_str().unwrap().to_owned()).collect()
    };
    let (only_a, only_b) = (&ids(&of_a) - &ids(&of_b), &ids(&of_b) - &ids(&of_a));
    assert!(only_a.is_empty() && only_b.is_empty(), "only a: {only_a:?}, only b: {only_b:?}");
    let content =
        |message: &Value| ["operation", "author", "seq", "text"].map(|field| message[field].to_string());
    assert!(of_a.iter().map(content).eq(of_b.iter().map(content)), "the devices differ");
    assert_eq!(ids(&of_b).len(), of_b.len(), "an operation is doubled");
    let all: HashSet<&str> = texts(&of_b).into_iter().collect();
    assert_eq!(all.len(), of_b.len(), "a text is doubled");
    let by_id: HashMap<&str, &Value> =
        of_b.iter().map(|message| (message["operation"].as_str().unwrap(), message)).collect();
    for (id, text) in &reported {
        let message = by_id.get(id.as_str()).unwrap_or_else(|| panic!("{text} was reported and is lost"));
        assert_eq!(message["text"], *text);
    }
    // The server's log holds every operation once: its seqs have no holes and no duplicates.
    let status = &json_lines(&mut b.command(&["status"]))[0];
    assert_eq!(status["seq"], of_b.len());
}
