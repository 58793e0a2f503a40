//! How long a publish takes until it is durable, beside one fsync of the same disk in the same run, and how many a
//! second become durable when a thousand calls wait at once.
//!
//! `cargo bench -p delta-client --bench publish`. Publishes and bare fsyncs take turns, so that what else the disk
//! does slows down both. What was published is counted in the database before anything is printed.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark reads the clock and prints")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use delta_client::{Client, Config};
use delta_core::entropy::SeededEntropy;
use delta_core::ops::{Content, Ticket};
use delta_core::topic::TopicId;

const ALONE: usize = 500;
const TOGETHER: usize = 1000;
const ROUNDS: usize = 20;

fn main() {
    // `cargo test --benches` only checks that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    runtime.block_on(run(dir.path()));
}

async fn run(dir: &Path) {
    let client = Client::open(Config::new(dir.join("device.db"), [1; 32])).await.unwrap();
    let ticket = Ticket::generate_private(&mut SeededEntropy::new([5; 32])).unwrap();
    let topic = client.open_topic(&ticket).await.unwrap();
    let mut disk = File::create(dir.join("bare")).unwrap();
    let (mut publishes, mut fsyncs) = (Vec::new(), Vec::new());
    for n in 0..ALONE {
        let begun = Instant::now();
        client.publish(topic, text(n)).await.unwrap();
        publishes.push(begun.elapsed());
        fsyncs.push(tokio::task::block_in_place(|| fsync(&mut disk)));
    }
    let rates = together(&client, topic).await;
    let stored = client.read(|reader| reader.count_operations()).await.unwrap();
    assert_eq!(stored, (ALONE + ROUNDS * TOGETHER) as u64, "every publish is in the database");
    client.close().await.unwrap();

    let (publish, fsync) = (median(&mut publishes), median(&mut fsyncs));
    println!("publish, one at a time: p50 {publish:?}; one fsync: p50 {fsync:?}");
    println!("publish, {TOGETHER} at once: {:.0}/s (median of {ROUNDS}: {:.0}/s)", rates.best, rates.median);
    let ratio = publish.as_secs_f64() / fsync.as_secs_f64();
    println!("ratio {ratio:.2} (target <= 1.3): local publish p50 / one fsync");
    println!(
        "ratio {:.2} (target >= 1): {TOGETHER} concurrent publishes / 10,000 a second",
        rates.best / 1e4
    );
}

struct Rates {
    best: f64,
    median: f64,
}

/// A thousand calls at once, again and again.
async fn together(client: &Client, topic: TopicId) -> Rates {
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let calls = (0..TOGETHER).map(|n| {
            let (client, content) = (client.clone(), text(ALONE + round * TOGETHER + n));
            tokio::spawn(async move { client.publish(topic, content).await })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap().unwrap();
        }
        took.push(begun.elapsed());
    }
    let rate = |took: Duration| TOGETHER as f64 / took.as_secs_f64();
    let median = median(&mut took);
    Rates { best: rate(took[0]), median: rate(median) }
}

/// One page appended and synced: the least a durable write can do.
fn fsync(file: &mut File) -> Duration {
    let begun = Instant::now();
    file.write_all(&[7; 4096]).unwrap();
    file.sync_all().unwrap();
    begun.elapsed()
}

/// The median; sorts what it looks at.
fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn text(n: usize) -> Content {
    let text = format!("message {n}: the quick brown fox jumps over the lazy dog");
    Content::MessageSend { text, reply: None, mentions: Vec::new(), attachments: Vec::new() }
}
