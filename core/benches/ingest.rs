//! How fast verified operations become rows, beside the two bounds it is measured against: checking signatures, and
//! inserting the bare operations. `cargo bench -p delta-core --bench ingest [-- OPERATIONS]`
//!
//! Prints a time only after the result was found complete.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::time::{Duration, Instant};

use delta_core::engine::Engine;
use delta_core::engine::ingest::{Context, Ingested, ingest, settle_ready};
use delta_core::identity::{LogId, Millis};
use delta_core::ops::{self, Body, Content, DeviceKey, Ticket, VerifiedOperation};
use delta_core::store::{Durability, Page, Search, Store, StoreOptions};
use delta_core::sync::session::Cursor;
use delta_core::topic::{Chain, Generation, Seq, WriteKey};

const LOG: LogId = LogId([7; 32]);
const AUTHORS: u8 = 10;
const BATCH: usize = 500;
/// Times an opening and a reading are repeated; the fastest counts.
const REPEATS: usize = 5;
/// Write-ahead log length at which the writer checkpoints by hand.
const WAL_LIMIT: u64 = 16 * 1024 * 1024;

fn main() {
    let count = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(100_000usize);
    let ops = operations(count);
    let verified = time(|| {
        for op in &ops {
            ops::verify(op.header(), op.body_bytes(), &LOG).expect("an operation that was just made");
        }
    });
    row("verify (strict)", count, verified);

    let folder = tempfile::tempdir().expect("a folder for the database");
    let path = folder.path().join("device.db");
    let mut store = Store::open(&path, StoreOptions::default()).expect("a new database");
    let taken = time(|| take(&mut store, &ops));
    assert_eq!(store.count_operations().expect("count"), count as u64);
    row("ingest, place, project", count, taken);
    println!("{:<28} {:>10.2} × verify", "", verified.as_secs_f64() / taken.as_secs_f64());

    let rebuilt = time(|| {
        let tx = store.begin(Durability::Normal).expect("begin");
        tx.rebuild().expect("rebuild");
        tx.commit().expect("commit");
    });
    row("rebuild the read model", count, rebuilt);
    store.close().expect("close");

    let opened = (0..REPEATS).map(|_| time(|| open_and_query(&path, count))).min().unwrap_or_default();
    println!("{:<28} {:>10.1} ms", "open and first page of 50", opened.as_secs_f64() * 1e3);
    let page = (0..REPEATS).map(|_| page_through(&path, count)).min().unwrap_or_default();
    println!("{:<28} {:>10.3} ms", "a page of 50", page.as_secs_f64() * 1e3);
    let searched = search(&path, count);
    let ratio = |took: Duration, target_ms: f64| took.as_secs_f64() * 1e3 / target_ms;
    println!("ratio {:.2} (target <= 1): cold open with {count} operations / 150 ms", ratio(opened, 150.0));
    println!("ratio {:.3} (target <= 1): message page of 50 / 2 ms", ratio(page, 2.0));
    println!("ratio {:.3} (target <= 1): search over {count} messages / 20 ms", ratio(searched, 20.0));
}

/// Messages by several authors in turn.
fn operations(count: usize) -> Vec<VerifiedOperation> {
    let mut writers: Vec<_> =
        (1..=AUTHORS).map(|seed| (DeviceKey::from_bytes(&[seed; 32]), 0, None)).collect();
    (0..count)
        .map(|n| {
            let author = n % writers.len();
            let (key, next, last) = &mut writers[author];
            let text = format!("message {n}: {}", "the quick brown fox jumps over the lazy dog ".repeat(2));
            let content =
                Content::MessageSend { text, reply: None, mentions: Vec::new(), attachments: Vec::new() };
            let op = ops::create(key, LOG, *next, *last, &Body::new(content).sent_at(Millis(n as u64)))
                .expect("a valid operation");
            (*next, *last) = (*next + 1, Some(op.id()));
            op
        })
        .collect()
}

fn take(store: &mut Store, ops: &[VerifiedOperation]) {
    let ticket = Ticket::private(LOG, 0, WriteKey::from_seed([1; 32]), [2; 32]);
    let (topic, generation) = (ticket.topic(), Generation([3; 16]));
    for (batch, ops) in ops.chunks(BATCH).enumerate() {
        let tx = store.begin(Durability::Normal).expect("begin");
        tx.put_topic(&ticket, Millis(0)).expect("topic");
        let mut seq = Seq(0);
        for (n, op) in ops.iter().enumerate() {
            seq = Seq((batch * BATCH + n) as u64 + 1);
            let (received, now) = (Millis(seq.0), Millis(seq.0));
            let context = Context { topic, log: LOG, epoch: 0, generation, resets: 0, seq, received, now };
            let ingested = ingest(&tx, &context, op).expect("ingest");
            assert!(matches!(ingested, Ingested::Stored { .. }), "{ingested:?}");
        }
        let cursor = Cursor { generation, resets: 0, seq, chain: Chain([0; 32]) };
        tx.set_cursor(topic, &cursor).expect("cursor");
        tx.commit().expect("commit");
        if store.wal_bytes() > WAL_LIMIT {
            store.checkpoint().expect("checkpoint");
        }
    }
    let tx = store.begin(Durability::Normal).expect("begin");
    settle_ready(&tx, topic).expect("settle");
    tx.commit().expect("commit");
}

/// What an app waits for at its start: the engine with its topics, a reader, the newest messages.
fn open_and_query(path: &std::path::Path, count: usize) {
    let store = Store::open(path, StoreOptions::default()).expect("open");
    let engine = Engine::open(store, DeviceKey::from_bytes(&[99; 32]), Millis(1)).expect("an engine");
    let reader = engine.reader().expect("reader");
    assert_eq!(reader.messages(&LOG, Page::Newest, 50).expect("a page").len(), 50.min(count));
}

/// Reads every page from the newest to the oldest; gives how long one took.
fn page_through(path: &std::path::Path, count: usize) -> Duration {
    let store = Store::open(path, StoreOptions::default()).expect("open");
    let reader = store.reader().expect("reader");
    let (mut seen, mut pages, mut page) = (0, 0u32, Page::Newest);
    let took = time(|| {
        loop {
            let rows = reader.messages(&LOG, page, 50).expect("a page");
            let Some(first) = rows.first() else { break };
            page = Page::Before(first.position);
            (seen, pages) = (seen + rows.len(), pages + 1);
        }
    });
    assert_eq!(seen, count);
    took / pages.max(1)
}

/// The slowest of some searches: a word of every message, one of a single message, two that stand together in one,
/// and words of every message by who wrote it when, and where.
fn search(path: &std::path::Path, count: usize) -> Duration {
    let mut store = Store::open(path, StoreOptions::default()).expect("open");
    loop {
        let tx = store.begin(Durability::Normal).expect("begin");
        let more = tx.index_texts(BATCH).expect("index");
        tx.commit().expect("commit");
        if !more {
            break;
        }
    }
    let reader = store.reader().expect("reader");
    let author = DeviceKey::from_bytes(&[3; 32]).author();
    let of = |words: &str| Search { words: words.into(), log: Some(LOG), ..Search::default() };
    let single = (count / 3).to_string();
    let (every, one) = (of("quick"), of(&single));
    let both = of(&format!("{single} lazy"));
    let until = Some(Millis(count as u64 / 2));
    let early = Search { until, log: None, ..of("fox") };
    let filtered = Search { author: Some(author), until, ..of("fox") };
    let elsewhere = Search { log: Some(LogId([8; 32])), ..of("fox") };
    let half = count / 2 / usize::from(AUTHORS);
    let cases = [
        ("a word of every message", every, 50.min(count)),
        ("a word of one message", one, 1),
        ("two words of one message", both, 1),
        ("by time", early, 50.min(count / 2)),
        ("by author and time", filtered, 50.min(half)),
        ("in a room without it", elsewhere, 0),
    ];
    let slowest = cases.into_iter().map(|(what, search, expected)| {
        let runs = (0..REPEATS).map(|_| {
            let mut found = Vec::new();
            let took = time(|| found = reader.search(&search, 50).expect("a search"));
            assert_eq!(found.len(), expected);
            took
        });
        let took = runs.min().unwrap_or_default();
        println!("{:<28} {:>10.3} ms", format!("search: {what}"), took.as_secs_f64() * 1e3);
        took
    });
    slowest.max().unwrap_or_default()
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn row(what: &str, count: usize, took: Duration) {
    println!("{what:<28} {:>10.0} /s", count as f64 / took.as_secs_f64());
}
