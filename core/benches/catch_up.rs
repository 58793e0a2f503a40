//! Catch-up of a new device: 100,000 sealed messages of ten authors, opened, verified, durable and projected, against
//! the bare Ed25519 strict verification of the same cores.
//!
//! `cargo bench -p delta-core --bench catch_up [-- OPERATIONS]`. The database is a file; opening runs on all cores,
//! the engine on one of them, as in the client. Completeness is asserted before a time is printed.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark reads the clock and prints")]

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::sync::mpsc;
use std::time::Instant;

use bytes::Bytes;
use delta_core::engine::{
    Command, CommandId, Engine, Input, Network, OpenJob, OpenedBatch, Output, SeenDirectory, open,
};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{EnvelopeHash, Millis, NodeId};
use delta_core::onion::directory::{Directory, Node, NodeKind};
use delta_core::ops::{self, Body, Content, DeviceKey, Ticket};
use delta_core::store::{Store, StoreOptions};
use delta_core::sync::frame::{Frame, SequencedOp};
use delta_core::topic::{Chain, Generation, Seq, SignedHead};
use ed25519_dalek::SigningKey;

const AUTHORS: usize = 10;
const SLICE: usize = 256;
/// Bare verifications of each core.
const EACH: usize = 20_000;

fn main() {
    let count: usize = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(100_000);
    let server = SigningKey::from_bytes(&[7; 32]);
    let ticket = Ticket::generate_private(&mut SeededEntropy::new([1; 32])).unwrap();
    // On disk, as a server would have them: what is resident is the device's.
    let mut log = tempfile::tempfile().unwrap();
    write_frames(&mut log, &ticket, &server, count);
    log.rewind().unwrap();
    let frames = read_frames(BufReader::new(log));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);

    let before = processor_seconds();
    let bound = verify_bound(&ticket, cores);
    let verification = (processor_seconds() - before) / (EACH * cores) as f64;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("device.db"), StoreOptions::default()).unwrap();
    let mut engine = Engine::open(store, DeviceKey::from_bytes(&[99; 32]), Millis(1)).unwrap();
    let (started, before) = (Instant::now(), processor_seconds());
    let events = catch_up(&mut engine, &ticket, &server, frames, cores);
    let seconds = started.elapsed().as_secs_f64();
    let operation = (processor_seconds() - before) / count as f64;

    let reader = engine.reader().unwrap();
    let stored = reader.count_operations().unwrap();
    assert_eq!(stored, count as u64, "every operation is stored");
    let rate = count as f64 / seconds;
    println!(
        "catch-up: {count} operations in {seconds:.2} s = {rate:.0}/s on {cores} cores, {events} change events"
    );
    println!("strict verification of the same cores: {bound:.0}/s");
    println!("ratio {:.2} (target >= 0.5): catch-up / strict verification of all cores", rate / bound);
    println!(
        "ratio {:.2} (target >= 0.5): the same in processor time, all threads",
        verification / operation
    );
    println!("peak resident memory: {} KiB", peak_kib());
}

/// Each with its length before it.
fn read_frames(mut log: impl Read) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let mut len = [0; 4];
        log.read_exact(&mut len).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        log.read_exact(&mut frame).unwrap();
        Some(Bytes::from(frame))
    })
}

fn write_frames(log: &mut File, ticket: &Ticket, server: &SigningKey, count: usize) {
    let mut log = BufWriter::new(log);
    let mut write = |frame: Vec<u8>| {
        log.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
        log.write_all(&frame).unwrap();
    };
    let devices: Vec<DeviceKey> =
        (1..=AUTHORS).map(|author| DeviceKey::from_bytes(&[author as u8; 32])).collect();
    let keys = ticket.keys();
    let generation = Generation([3; 16]);
    let mut heads = vec![(0u32, None); AUTHORS];
    let mut chain = Chain::start(&ticket.topic(), &generation);
    let hello = Frame::Hello {
        generation,
        head: Seq(count as u64),
        tail: Seq(1),
        server_time: Millis(0),
        max_op: 1 << 20,
    };
    write(hello.encode());
    let mut batch = Vec::new();
    for index in 0..count {
        let author = index % AUTHORS;
        let text = format!("message {index}: the quick brown fox jumps over the lazy dog, and again");
        let body = Body::new(Content::MessageSend { text, reply: None, mentions: vec![] });
        let (seq_num, backlink) = heads[author];
        let op = ops::create(&devices[author], keys.log(), seq_num, backlink, &body).unwrap();
        heads[author] = (seq_num + 1, Some(op.id()));
        let envelope = keys.seal(op.header(), op.body_bytes()).unwrap();
        let seq = Seq(index as u64 + 1);
        chain = chain.next(seq, &EnvelopeHash::of(&envelope));
        batch.push(SequencedOp { seq, received: Millis(index as u64), op: envelope.into() });
        if batch.len() == 256 || index + 1 == count {
            write(Frame::Ops(std::mem::take(&mut batch)).encode());
        }
    }
    let head = SignedHead::sign(server, &ticket.topic(), &generation, Seq(count as u64), chain);
    write(Frame::Ready(head).encode());
    log.flush().unwrap();
}

fn catch_up(
    engine: &mut Engine,
    ticket: &Ticket,
    server: &SigningKey,
    mut frames: impl Iterator<Item = Bytes>,
    cores: usize,
) -> usize {
    let mut entropy = SeededEntropy::new([5; 32]);
    let now = Millis(1);
    let node = Node {
        id: NodeId(server.verifying_key().to_bytes()),
        kind: NodeKind::Sync,
        operator: None,
        url: "https://sync.example".into(),
        keys: vec![],
        expires: u64::MAX,
        max_class: 4,
        seq: 1,
        tunnel: false,
    };
    let directory = std::sync::Arc::new(Directory::from_nodes(1, u64::MAX, []));
    let command = |id, command| Input::Command { id: CommandId(id), command };
    engine
        .handle(
            now,
            &mut entropy,
            vec![
                command(1, Command::OpenTopic { ticket: ticket.clone() }),
                command(
                    2,
                    Command::Configure(Network {
                        directory,
                        server: node,
                        relays: 3,
                        hide_reading: false,
                        look_before_retry: false,
                        seen: SeenDirectory::default(),
                        sending: delta_core::engine::Sending::default(),
                    }),
                ),
                command(3, Command::Subscribe { topic: ticket.topic() }),
            ],
        )
        .unwrap();
    let conn = std::iter::from_fn(|| engine.poll_output())
        .find_map(|output| match output {
            Output::Connect { conn, .. } => Some(conn),
            _ => None,
        })
        .expect("the engine connects");
    engine.handle(now, &mut entropy, vec![Input::Connected { conn }]).unwrap();

    let (work, jobs) = mpsc::channel::<(usize, OpenJob)>();
    let jobs = std::sync::Arc::new(std::sync::Mutex::new(jobs));
    let (done, opened) = mpsc::channel::<(usize, OpenedBatch)>();
    for _ in 0..cores {
        let (jobs, done) = (jobs.clone(), done.clone());
        std::thread::spawn(move || {
            loop {
                let Ok((index, job)) = jobs.lock().unwrap().recv() else { return };
                if done.send((index, open(job))).is_err() {
                    return;
                }
            }
        });
    }
    let (mut given, mut taken, mut events) = (0, 0, 0);
    let mut waiting = std::collections::BTreeMap::new();
    loop {
        while given - taken < 32 {
            let Some(frame) = frames.next() else { break };
            for job in engine.triage(now, conn, frame, &mut entropy) {
                work.send((given, job)).unwrap();
                given += 1;
            }
        }
        if taken == given {
            return events;
        }
        waiting.extend(opened.try_iter());
        while !waiting.contains_key(&taken) {
            let (index, batch) = opened.recv().unwrap();
            waiting.insert(index, batch);
        }
        let mut inputs = Vec::new();
        let mut operations = 0;
        while operations < SLICE
            && let Some(batch) = waiting.remove(&taken)
        {
            operations += batch.len();
            inputs.push(Input::Opened(batch));
            taken += 1;
        }
        if !inputs.is_empty() {
            engine.handle(now, &mut entropy, inputs).unwrap();
        }
        while let Some(output) = engine.poll_output() {
            assert!(!matches!(output, Output::Disconnect { .. }), "{output:?}");
            events += usize::from(matches!(output, Output::Event(_)));
        }
        if engine.wal_bytes() > 16 << 20 {
            engine.checkpoint().unwrap();
        }
    }
}

/// Strict verifications per second of `cores` threads.
fn verify_bound(ticket: &Ticket, cores: usize) -> f64 {
    let key = SigningKey::from_bytes(&[1; 32]);
    let message = [ticket.topic().0, ticket.topic().0].concat();
    let signature = ed25519_dalek::Signer::sign(&key, &message);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let verifying = key.verifying_key();
                for _ in 0..EACH {
                    verifying.verify_strict(std::hint::black_box(&message), &signature).unwrap();
                }
            });
        }
    });
    (EACH * cores) as f64 / started.elapsed().as_secs_f64()
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Seconds of processor time this process has used, in user and kernel mode (Linux).
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks =
        |index| fields.split(' ').nth(index).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
