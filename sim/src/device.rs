//! A device: the engine, a driver that batches by chance, and a disk that survives a kill.

mod app;
mod driver;
mod life;
mod sockets;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use delta_core::engine::{Command, CommandId, Engine, Input, OpenJob, PostJob, SealJob};
use delta_core::entropy::{Entropy, EntropyError};
use delta_core::identity::{Author, Certificate, EnvelopeHash, IdentityKey, Instance, Millis, NodeId};
use delta_core::ops::{DeviceKey, Ticket};
use delta_core::store::{PendingLimits, Reader};
use delta_core::sync::history::HistoryRequest;
use delta_core::sync::session::{ConnId, Cursor, SubscribeRequest};
use delta_core::topic::TopicId;

use crate::disk;
use crate::rng::Rng;
use crate::stream::{Item, StreamId};
use crate::violation::Violation;

/// One device.
#[derive(Debug)]
pub(crate) struct Device {
    index: usize,
    key: [u8; 32],
    pub keystore: KeyStore,
    pub tickets: Vec<Ticket>,
    /// Topics the app wants to receive.
    pub wanted: Vec<bool>,
    folder: PathBuf,
    /// Counts restored disks, each with a file of its own.
    disks: u32,
    pub life: u64,
    /// How much may wait in its database.
    pending: PendingLimits,
    pub engine: Option<Engine>,
    /// The app's view of the database while the engine runs.
    pub reader: Option<Reader>,
    entropy: DeviceEntropy,
    commands: VecDeque<(CommandId, Command)>,
    inputs: VecDeque<Input>,
    conns: BTreeMap<ConnId, Conn>,
    next_command: u64,
    next_job: u64,
    batch_due: bool,
    wake_at: Option<Millis>,
    /// How far its wall clock is from the time.
    pub skew_ms: i64,
    /// What its clock last said, and when by the clock that nobody can set.
    clock: Option<(Millis, u64)>,
    slept_ms: u64,
    asleep_until: Option<Millis>,
    full: bool,
    /// Commands that are no publish and not answered yet.
    asked: BTreeMap<CommandId, Command>,
    /// Until when, by its own clock, the server wants to be left alone with a topic, as the socket was told.
    pauses: BTreeMap<TopicId, (ConnId, Millis)>,
    /// Sockets the engine gave up, with the life it did so in: what they are told meanwhile nobody hears.
    given_up: BTreeSet<(u64, ConnId)>,
    /// Stored cursors as of the last batch.
    pub cursors: BTreeMap<TopicId, Cursor>,
    /// What a power loss must leave in place.
    synced: disk::Synced,
    spin: (Millis, u32),
}

/// What a device keeps beside its database, as far as it is about people ([`crate::town`]).
#[derive(Debug, Default)]
pub(crate) struct KeyStore {
    /// Which database is its own.
    pub instance: Option<Instance>,
    /// Whose device it is.
    pub certificate: Option<Certificate>,
    /// Its database was put back or lost, and must be found to be another one.
    pub copied: bool,
    /// An old copy of its database.
    pub backup: Option<PathBuf>,
}

/// A socket as the device's driver knows it.
#[derive(Debug)]
struct Conn {
    stream: StreamId,
    phase: Phase,
    /// What came before the engine knew that the socket is open.
    early: VecDeque<Item>,
    /// Jobs given out and what follows them, in the order in which they must be handed back.
    slots: VecDeque<Slot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not open yet.
    Opening,
    /// Open, and the engine is about to hear it.
    Open,
    /// The engine knows.
    Known,
}

#[derive(Debug)]
enum Slot {
    Job { id: u64, job: Option<OpenJob>, done: Option<Input> },
    Input(Input),
}

/// What a device is about to do when it may die.
#[derive(Debug)]
pub(crate) enum Deferred {
    Connect { conn: ConnId, via: Option<NodeId>, request: SubscribeRequest },
    Fetch { conn: ConnId, via: Option<NodeId>, request: HistoryRequest },
    Has { conn: ConnId, via: Option<NodeId>, topic: TopicId, hashes: Vec<EnvelopeHash> },
    Disconnect { conn: ConnId },
    Post(PostJob),
    Seal(Box<SealJob>),
}

/// The platform's random source, which fails when told to.
#[derive(Debug)]
struct DeviceEntropy {
    rng: Rng,
    failing: bool,
    /// How often it did fail.
    failed: u64,
}

impl Entropy for DeviceEntropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        if self.failing {
            self.failed += 1;
            return Err(EntropyError);
        }
        self.rng.fill(out)
    }
}

impl Device {
    pub(crate) fn new(
        index: usize,
        key: [u8; 32],
        tickets: Vec<Ticket>,
        folder: &Path,
        rng: Rng,
        pending: PendingLimits,
    ) -> Self {
        Self {
            index,
            key,
            keystore: KeyStore::default(),
            wanted: vec![true; tickets.len()],
            tickets,
            folder: folder.to_owned(),
            disks: 0,
            life: 0,
            pending,
            engine: None,
            reader: None,
            entropy: DeviceEntropy { rng, failing: false, failed: 0 },
            commands: VecDeque::new(),
            inputs: VecDeque::new(),
            conns: BTreeMap::new(),
            next_command: 0,
            next_job: 0,
            batch_due: false,
            wake_at: None,
            skew_ms: 0,
            clock: None,
            slept_ms: 0,
            asleep_until: None,
            full: false,
            asked: BTreeMap::new(),
            pauses: BTreeMap::new(),
            given_up: BTreeSet::new(),
            cursors: BTreeMap::new(),
            synced: disk::Synced::default(),
            spin: (Millis(0), 0),
        }
    }

    pub(crate) const fn index(&self) -> usize {
        self.index
    }

    pub(crate) const fn key(&self) -> &[u8; 32] {
        &self.key
    }

    pub(crate) fn author(&self) -> Author {
        DeviceKey::from_bytes(&self.key).author()
    }

    /// It is a device of somebody.
    pub(crate) fn certify(&mut self, key: &IdentityKey, now: Millis) {
        self.keystore.certificate = Some(Certificate::sign(key, self.author(), now));
    }

    /// It begins anew, as nobody's.
    pub(crate) fn renew_key(&mut self, key: [u8; 32]) {
        (self.key, self.keystore.certificate) = (key, None);
    }

    /// Another one like it, with nothing.
    pub(crate) fn sibling(&self, index: usize, key: [u8; 32], rng: Rng) -> Self {
        Self::new(index, key, Vec::new(), &self.folder, rng, self.pending)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join(format!("device-{}-{}.db", self.index, self.disks))
    }

    pub(crate) fn bind(&mut self, conn: ConnId, stream: StreamId) {
        let fresh = Conn { stream, phase: Phase::Opening, early: VecDeque::new(), slots: VecDeque::new() };
        self.conns.insert(conn, fresh);
    }

    /// Whether its disk is full.
    pub(crate) const fn is_full(&self) -> bool {
        self.full
    }

    /// Fills the disk or frees it; says whether that changes anything.
    pub(crate) fn limit_disk(&mut self, full: bool) -> Result<bool, Violation> {
        let Some(engine) = self.engine.as_mut().filter(|_| self.full != full) else { return Ok(false) };
        self.full = full;
        let limited = engine.limit_pages(full.then_some(1));
        limited.map_err(|error| Violation::new(format!("a disk's size cannot be set: {error}")))?;
        Ok(true)
    }

    /// Whether the random source failed in the last batch.
    pub(crate) const fn lacked_entropy(&self) -> bool {
        self.entropy.failed > 0
    }

    /// Whether the driver has nothing to do for the engine.
    pub(crate) fn is_idle(&self) -> bool {
        self.commands.is_empty()
            && self.inputs.is_empty()
            && self.conns.values().all(|conn| conn.slots.is_empty())
    }

    /// An error in words, without the folder, which is another one in each run.
    pub(crate) fn plain(&self, error: &dyn std::fmt::Display) -> String {
        error.to_string().replace(&self.folder.display().to_string(), "")
    }

    /// A command that was no publish has its answer.
    pub(crate) fn answered(&mut self, id: CommandId) {
        self.asked.remove(&id);
    }

    /// Finished work at the head of a socket's line goes to the engine.
    fn flush(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        let mut closed = false;
        while let Some(slot) = state.slots.front() {
            if matches!(slot, Slot::Job { done: None, .. }) {
                break;
            }
            match state.slots.pop_front() {
                Some(Slot::Job { done: Some(input), .. }) => self.inputs.push_back(input),
                Some(Slot::Input(input)) => {
                    closed |= matches!(input, Input::Disconnected { .. } | Input::TunnelFailed { .. });
                    self.inputs.push_back(input);
                }
                _ => break,
            }
        }
        if closed {
            self.conns.remove(&conn);
        }
    }

    /// Some of what waits, in an order the driver may choose: commands among themselves and inputs among
    /// themselves keep theirs.
    fn draw_batch(&mut self, rng: &mut Rng) -> Vec<Input> {
        let all = rng.chance(400);
        let mut commands = if all { self.commands.len() } else { rng.index(self.commands.len() + 1) };
        let mut inputs = if all { self.inputs.len() } else { rng.index(self.inputs.len() + 1) };
        if commands + inputs == 0 {
            commands = self.commands.len().min(1);
            inputs = self.inputs.len().min(1);
        }
        let commands_first = rng.chance(700);
        let mut batch = Vec::with_capacity(commands + inputs);
        while commands + inputs > 0 {
            let command = commands > 0 && (commands_first || inputs == 0 || rng.chance(500));
            if command {
                commands -= 1;
                let next = self.commands.pop_front();
                batch.extend(next.map(|(id, command)| Input::Command { id, command }));
            } else {
                inputs -= 1;
                batch.extend(self.inputs.pop_front());
            }
        }
        batch
    }
}
