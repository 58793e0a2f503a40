//! What the benchmarks of catching up share: a topic's log as a server sends it, a device that reads it with a pool of
//! threads as the client does, and what stands beside it.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use delta_core::engine::{
    Command, CommandId, Engine, Input, Network, OpenJob, OpenedBatch, Output, SeenDirectory, Sending, open,
};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{EnvelopeHash, LogId, Millis, NodeId};
use delta_core::onion::directory::{Directory, Node, NodeKind};
use delta_core::ops::{DeviceKey, Ticket};
use delta_core::store::{Page, Reader, Store, StoreOptions};
use delta_core::sync::frame::{Frame, SequencedOp};
use delta_core::sync::session::ConnId;
use delta_core::topic::{Chain, Generation, Seq, SignedHead, TopicId};
use ed25519_dalek::SigningKey;

const GENERATION: Generation = Generation([3; 16]);
/// Operations of one transaction, as in the client.
const SLICE: usize = 256;
/// Operations of one frame.
const FRAME: usize = 256;
/// Write-ahead log length at which it is moved, as in the client.
const CHECKPOINT_BYTES: u64 = 16 << 20;
const NOW: Millis = Millis(1);

pub fn server() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A whole log in frames, up to `ready`. They are on disk, as a server would have them: what is resident is the device's.
pub fn frames(
    ticket: &Ticket,
    count: usize,
    envelopes: impl Iterator<Item = Vec<u8>>,
) -> impl Iterator<Item = Bytes> {
    let mut log = tempfile::tempfile().unwrap();
    write_frames(&log, &ticket.topic(), count, envelopes);
    log.rewind().unwrap();
    let mut log = BufReader::new(log);
    // Each with its length before it.
    std::iter::from_fn(move || {
        let mut len = [0; 4];
        log.read_exact(&mut len).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        log.read_exact(&mut frame).unwrap();
        Some(Bytes::from(frame))
    })
}

fn write_frames(log: &File, topic: &TopicId, count: usize, envelopes: impl Iterator<Item = Vec<u8>>) {
    let mut log = BufWriter::new(log);
    let mut write = |frame: Vec<u8>| {
        log.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
        log.write_all(&frame).unwrap();
    };
    let head = Seq(count as u64);
    let (tail, server_time, max_op) = (Seq(1), Millis(0), 1 << 20);
    write(Frame::Hello { generation: GENERATION, head, tail, server_time, max_op }.encode());
    let (mut chain, mut batch, mut seq) = (Chain::start(topic, &GENERATION), Vec::new(), Seq(0));
    for envelope in envelopes {
        seq = Seq(seq.0 + 1);
        chain = chain.next(seq, &EnvelopeHash::of(&envelope));
        batch.push(SequencedOp { seq, received: Millis(seq.0 - 1), op: envelope.into() });
        if batch.len() == FRAME || seq == head {
            write(Frame::Ops(std::mem::take(&mut batch)).encode());
        }
    }
    assert_eq!(seq, head, "the log has as many operations as it says");
    write(Frame::Ready(SignedHead::sign(&server(), topic, &GENERATION, head, chain)).encode());
    log.flush().unwrap();
}

/// A device that reads: opening runs on all cores, the engine on one of them.
pub struct Device {
    pub engine: Engine,
    entropy: SeededEntropy,
    work: Sender<(usize, OpenJob)>,
    opened: Receiver<(usize, OpenedBatch)>,
    commands: u64,
}

impl Device {
    pub fn open(path: &Path, key: DeviceKey) -> Self {
        let store = Store::open(path, StoreOptions::default()).unwrap();
        let engine = Engine::open(store, key, NOW).unwrap();
        let (work, jobs) = mpsc::channel::<(usize, OpenJob)>();
        let jobs = Arc::new(Mutex::new(jobs));
        let (done, opened) = mpsc::channel::<(usize, OpenedBatch)>();
        for _ in 0..cores() {
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
        let mut device = Self { engine, entropy: SeededEntropy::new([5; 32]), work, opened, commands: 0 };
        let node = Node {
            id: NodeId(server().verifying_key().to_bytes()),
            kind: NodeKind::Sync,
            operator: None,
            url: "https://sync.example".into(),
            keys: vec![],
            expires: u64::MAX,
            max_class: 4,
            seq: 1,
            tunnel: false,
        };
        device.command(Command::Configure(Network {
            directory: Arc::new(Directory::from_nodes(1, u64::MAX, [])),
            server: node,
            relays: 3,
            hide_reading: false,
            look_before_retry: false,
            seen: SeenDirectory::default(),
            sending: Sending::default(),
        }));
        device
    }

    /// Gives what the engine wants done.
    pub fn command(&mut self, command: Command) -> Vec<Output> {
        self.commands += 1;
        let input = Input::Command { id: CommandId(self.commands), command };
        self.engine.handle(NOW, &mut self.entropy, vec![input]).unwrap();
        let outputs: Vec<_> = std::iter::from_fn(|| self.engine.poll_output()).collect();
        let refused = |output: &&Output| matches!(output, Output::Reply { result: Err(_), .. });
        assert!(outputs.iter().find(refused).is_none(), "{outputs:?}");
        outputs
    }

    /// Subscribes to a topic and connects.
    pub fn connect(&mut self, topic: TopicId) -> ConnId {
        let connect =
            self.command(Command::Subscribe { topic }).into_iter().find_map(|output| match output {
                Output::Connect { conn, .. } => Some(conn),
                _ => None,
            });
        let conn = connect.expect("the engine connects");
        self.engine.handle(NOW, &mut self.entropy, vec![Input::Connected { conn }]).unwrap();
        conn
    }

    /// Reads a log to its end; gives how many events the app was told.
    pub fn catch_up(&mut self, conn: ConnId, mut frames: impl Iterator<Item = Bytes>) -> usize {
        let (mut given, mut taken, mut events) = (0, 0, 0);
        let mut waiting = std::collections::BTreeMap::new();
        loop {
            while given - taken < 32 {
                let Some(frame) = frames.next() else { break };
                for job in self.engine.triage(NOW, conn, frame, &mut self.entropy) {
                    self.work.send((given, job)).unwrap();
                    given += 1;
                }
            }
            if taken == given {
                return events;
            }
            waiting.extend(self.opened.try_iter());
            while !waiting.contains_key(&taken) {
                let (index, batch) = self.opened.recv().unwrap();
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
                self.engine.handle(NOW, &mut self.entropy, inputs).unwrap();
            }
            while let Some(output) = self.engine.poll_output() {
                assert!(!matches!(output, Output::Disconnect { .. }), "{output:?}");
                events += usize::from(matches!(output, Output::Event(_)));
            }
            if self.engine.wal_bytes() > CHECKPOINT_BYTES {
                self.engine.checkpoint().unwrap();
            }
        }
    }
}

/// Every message of these texts (newest first) is shown, in their order, and nothing else.
pub fn check(reader: &Reader, log: LogId, mut expected: impl Iterator<Item = String>) {
    let mut page = Page::Newest;
    loop {
        let rows = reader.messages(&log, page, 1_000).unwrap();
        let Some(first) = rows.first() else { break };
        page = Page::Before(first.position);
        for row in rows.iter().rev() {
            assert_eq!(row.text, expected.next(), "what was said, where it was said");
        }
    }
    assert_eq!(expected.next(), None, "every message is shown");
}

/// What is said in these benchmarks.
pub fn text(index: usize) -> String {
    format!("message {index}: the quick brown fox jumps over the lazy dog, and again")
}

/// What the library's strict verification takes, on all cores at once.
pub struct Bound {
    /// Seconds per verification.
    clock: f64,
    /// Processor time per verification, in seconds.
    pub processor: f64,
}

impl Bound {
    /// Verifications per second.
    pub fn rate(&self) -> f64 {
        1.0 / self.clock
    }

    /// The mean of what was measured before and after the work: a machine is not always equally fast.
    pub fn mean(&self, after: &Self) -> Self {
        let mean = |a: f64, b: f64| f64::midpoint(a, b);
        Self { clock: mean(self.clock, after.clock), processor: mean(self.processor, after.processor) }
    }
}

/// Measures it.
pub fn verify_bound() -> Bound {
    /// Of each core.
    const EACH: usize = 20_000;
    let (key, message) = (SigningKey::from_bytes(&[1; 32]), [9; 64]);
    let signature = ed25519_dalek::Signer::sign(&key, &message);
    let (started, before) = (Instant::now(), processor_seconds());
    std::thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                let verifying = key.verifying_key();
                for _ in 0..EACH {
                    verifying.verify_strict(std::hint::black_box(&message), &signature).unwrap();
                }
            });
        }
    });
    let all = (EACH * cores()) as f64;
    Bound { clock: started.elapsed().as_secs_f64() / all, processor: (processor_seconds() - before) / all }
}

pub fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Seconds of processor time this process has used, in user and kernel mode (Linux).
pub fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks =
        |index| fields.split(' ').nth(index).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
