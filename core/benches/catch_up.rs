//! Catch-up of a new device: 100,000 sealed messages of ten authors, opened, verified, durable and projected, against
//! the bare Ed25519 strict verification of the same cores. (In a room of a space: `space_catch_up`.)
//!
//! `cargo bench -p delta-core --all-features --bench catch_up [-- OPERATIONS]`. The database is a file; opening runs on all cores,
//! the engine on one of them, as in the client. Completeness is asserted before a time is printed.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark reads the clock and prints")]

mod support;

use std::time::Instant;

use delta_core::engine::Command;
use delta_core::entropy::SeededEntropy;
use delta_core::ops::{self, Body, Content, DeviceKey, Ticket};

use support::{Device, check, cores, frames, peak_kib, processor_seconds, text, verify_bound};

const AUTHORS: usize = 10;

fn main() {
    let count: usize = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(100_000);
    let ticket = Ticket::generate_private(&mut SeededEntropy::new([1; 32])).unwrap();
    let frames = frames(&ticket, count, envelopes(&ticket, count));
    let bound = verify_bound();
    let dir = tempfile::tempdir().unwrap();
    let mut device = Device::open(&dir.path().join("device.db"), DeviceKey::from_bytes(&[99; 32]));
    device.command(Command::OpenTopic { ticket: ticket.clone() });
    let conn = device.connect(ticket.topic());
    let (started, before) = (Instant::now(), processor_seconds());
    let events = device.catch_up(conn, frames);
    let seconds = started.elapsed().as_secs_f64();
    let operation = (processor_seconds() - before) / count as f64;
    let peak = peak_kib();
    let bound = bound.mean(&verify_bound());

    let reader = device.engine.reader().unwrap();
    let stored = reader.count_operations().unwrap();
    assert_eq!(stored, count as u64, "every operation is stored");
    check(&reader, ticket.log(), (0..count).rev().map(text));
    let (rate, cores) = (count as f64 / seconds, cores());
    println!(
        "catch-up: {count} operations in {seconds:.2} s = {rate:.0}/s on {cores} cores, {events} change events"
    );
    println!("strict verification of the same cores: {:.0}/s", bound.rate());
    println!("ratio {:.2} (target >= 0.5): catch-up / strict verification of all cores", rate / bound.rate());
    println!(
        "ratio {:.2} (target >= 0.5): the same in processor time, all threads",
        bound.processor / operation
    );
    println!("peak resident memory: {peak} KiB");
}

/// Messages of several authors in turn.
fn envelopes(ticket: &Ticket, count: usize) -> impl Iterator<Item = Vec<u8>> {
    let devices: Vec<_> = (1..=AUTHORS).map(|author| DeviceKey::from_bytes(&[author as u8; 32])).collect();
    let (keys, mut heads) = (ticket.keys(), vec![(0u32, None); AUTHORS]);
    (0..count).map(move |index| {
        let author = index % AUTHORS;
        let body = Body::new(Content::MessageSend {
            text: text(index),
            reply: None,
            mentions: vec![],
            attachments: Vec::new(),
        });
        let (seq_num, backlink) = heads[author];
        let op = ops::create(&devices[author], keys.log(), seq_num, backlink, &body).unwrap();
        heads[author] = (seq_num + 1, Some(op.id()));
        keys.seal(op.header(), op.body_bytes()).unwrap()
    })
}
