//! A device: the engine, a driver that batches by chance, and a disk that survives a kill.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use delta_core::engine::{
    self, Command, CommandError, CommandId, Engine, Handover, Input, OpenJob, Output, PostJob, Reply,
};
use delta_core::entropy::{Entropy, EntropyError};
use delta_core::identity::{Author, Millis, NodeId};
use delta_core::ops::{DeviceKey, Ticket};
use delta_core::store::{PendingLimits, Reader, Store};
use delta_core::sync::history::HistoryRequest;
use delta_core::sync::outbox::AttemptId;
use delta_core::sync::session::{ConnId, Cursor, MAX_RETRY_AFTER_MS, SubscribeRequest};
use delta_core::topic::TopicId;

use crate::disk;
use crate::faults::Fault;
use crate::net::{Node, PING_TIMEOUT_MS};
use crate::rng::Rng;
use crate::stream::{Item, Request, StreamId};
use crate::trace::short;
use crate::violation::{Violation, ensure};
use crate::world::{Event, Sender, World};

/// Batches a device may handle at one instant: more means that it spins.
const MAX_BATCHES_PER_INSTANT: u32 = 500;

/// One device.
#[derive(Debug)]
pub(crate) struct Device {
    index: usize,
    key: [u8; 32],
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
    Disconnect { conn: ConnId },
    Post(PostJob),
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

impl World {
    /// The app gives a device a command.
    pub(crate) fn command(&mut self, device: usize, command: Command) {
        let state = &mut self.devices[device];
        if state.engine.is_none() {
            return;
        }
        let id = CommandId(state.next_command);
        state.next_command += 1;
        if let Command::Publish { topic, content } = &command {
            self.model.issue(device, id, *topic, content.clone());
        } else {
            if let Command::Cancel { topic, operation } = &command {
                self.model.take_back(device, id, *topic, *operation);
            }
            // What is wanted of a connection may begin it anew.
            state.pauses.clear();
            state.asked.insert(id, command.clone());
        }
        state.commands.push_back((id, command));
        self.wish_batch(device);
    }

    /// The time as a device's driver tells it: never back, as the client's clock.
    pub(crate) fn device_now(&mut self, device: usize) -> Millis {
        let now = self.now();
        let state = &mut self.devices[device];
        let wall = Millis(now.0.saturating_add_signed(state.skew_ms));
        let passed = now.0.saturating_sub(state.slept_ms);
        let told = match state.clock {
            None => wall,
            Some((last, at)) => wall.max(last.plus(passed.saturating_sub(at))),
        };
        state.clock = Some((told, passed));
        told
    }

    /// Suspends a device; says whether it was awake. The server finds its sockets dead.
    pub(crate) fn sleep(&mut self, device: usize, lasts_ms: u64) -> bool {
        let now = self.now();
        let state = &mut self.devices[device];
        if state.engine.is_none() || state.asleep_until.is_some_and(|until| until > now) {
            return false;
        }
        state.asleep_until = Some(now.plus(lasts_ms));
        state.slept_ms += lasts_ms;
        self.trace.line(now, format_args!("device {device} sleeps for {lasts_ms} ms"));
        if lasts_ms > PING_TIMEOUT_MS {
            let its = self.streams.iter().filter(|(_, stream)| stream.device == device);
            let its: Vec<_> = its.map(|(id, _)| *id).collect();
            for stream in its {
                let _ = self.cut_stream(stream);
            }
        }
        true
    }

    /// Until when a device sleeps, if it does.
    pub(crate) fn asleep_until(&self, device: usize) -> Option<Millis> {
        self.devices[device].asleep_until.filter(|until| *until > self.now())
    }

    pub(crate) fn disk_frees(&mut self, device: usize, life: u64) -> Result<(), Violation> {
        let state = &mut self.devices[device];
        if state.life == life && state.limit_disk(false)? {
            let now = self.now();
            self.trace.line(now, format_args!("the disk of device {device} has room again"));
        }
        Ok(())
    }

    /// A socket was closed with the wish for a pause.
    pub(crate) fn pause(&mut self, device: usize, life: u64, conn: ConnId, topic: TopicId, pause_ms: u64) {
        let now = self.device_now(device);
        let state = &mut self.devices[device];
        let heard = state.conns.contains_key(&conn) && !state.given_up.contains(&(life, conn));
        if state.life == life && heard {
            let until = now.plus(pause_ms.min(MAX_RETRY_AFTER_MS));
            state.pauses.insert(topic, (conn, until));
        }
    }

    /// Something waits for the engine: a batch follows soon, or late when the device is slow.
    fn wish_batch(&mut self, device: usize) {
        let state = &mut self.devices[device];
        if state.engine.is_none() || std::mem::replace(&mut state.batch_due, true) {
            return;
        }
        let life = state.life;
        let delay = if self.rng.chance(970) { self.rng.below(4) } else { self.rng.skewed(10, 3_000) };
        self.after(delay, Event::DeviceBatch { device, life });
    }

    /// Opens a device's database and tells its engine what the app wants.
    pub(crate) fn start_device(&mut self, device: usize) -> Result<(), Violation> {
        let now = self.now();
        let state = &mut self.devices[device];
        if state.engine.is_some() {
            return Ok(());
        }
        self.trace.line(now, format_args!("device {device} starts"));
        let fail =
            |error: &dyn std::fmt::Display| Violation::new(format!("device {device} cannot open: {error}"));
        let store = Store::open(state.file(), disk::options(state.pending)).map_err(|error| fail(&error))?;
        let key = DeviceKey::from_bytes(&state.key);
        let told = self.device_now(device);
        let state = &mut self.devices[device];
        let engine = Engine::open(store, key, told).map_err(|error| fail(&error))?;
        state.reader = Some(engine.reader().map_err(|error| fail(&error))?);
        state.engine = Some(engine);
        state.synced = disk::Synced::now(&state.file());
        let (tickets, wanted) = (state.tickets.clone(), state.wanted.clone());
        self.check_reopened(device)?;
        if self.rng.chance(800) {
            self.command(device, Command::Configure(self.network.clone()));
            self.open_topics(device, tickets, &wanted);
        } else {
            self.open_topics(device, tickets, &wanted);
            self.command(device, Command::Configure(self.network.clone()));
        }
        Ok(())
    }

    fn open_topics(&mut self, device: usize, tickets: Vec<Ticket>, wanted: &[bool]) {
        for (ticket, wanted) in tickets.into_iter().zip(wanted) {
            let topic = ticket.topic();
            self.command(device, Command::OpenTopic { ticket });
            if *wanted {
                self.command(device, Command::Subscribe { topic });
            }
        }
    }

    /// Kills a device between two transactions. What its engine handed out and its driver has not done yet is lost
    /// or done, by chance. Says whether it ran.
    pub(crate) fn kill_device(
        &mut self,
        device: usize,
        power_loss: bool,
        down_ms: u64,
    ) -> Result<bool, Violation> {
        let now = self.now();
        let state = &mut self.devices[device];
        let Some(engine) = state.engine.take() else { return Ok(false) };
        let how = if power_loss { "loses power" } else { "is killed" };
        self.trace.line(now, format_args!("device {device} {how} for {down_ms} ms"));
        let old = state.file();
        state.disks += 1;
        let new = state.file();
        let copied = if power_loss {
            // A cursor that was not synced may go back with the operations it stands for.
            state.cursors.clear();
            disk::lose_power(&old, &new, &state.synced, &mut self.rng)
        } else {
            disk::kill(&old, &new)
        };
        copied.map_err(|error| Violation::new(format!("cannot copy a database: {error}")))?;
        state.reader = None;
        drop(engine);
        disk::remove(&old);
        state.life += 1;
        (state.clock, state.asleep_until, state.full) = (None, None, false);
        state.asked.clear();
        state.pauses.clear();
        state.commands.clear();
        state.inputs.clear();
        (state.batch_due, state.wake_at) = (false, None);
        let streams: Vec<StreamId> =
            std::mem::take(&mut state.conns).into_values().map(|conn| conn.stream).collect();
        self.model.died(device);
        streams.into_iter().for_each(|stream| self.close_stream(stream));
        self.after(down_ms, Event::DeviceStart { device });
        Ok(true)
    }

    /// One transaction.
    pub(crate) fn device_batch(&mut self, device: usize, life: u64) -> Result<(), Violation> {
        let now = self.now();
        let state = &mut self.devices[device];
        if state.life != life || state.engine.is_none() {
            return Ok(());
        }
        state.batch_due = false;
        let batch = state.draw_batch(&mut self.rng);
        if batch.is_empty() {
            self.set_wake(device);
            return Ok(());
        }
        let told = self.device_now(device);
        let state = &mut self.devices[device];
        let (spun_at, spun) = state.spin;
        state.spin = if spun_at == now { (now, spun + 1) } else { (now, 1) };
        ensure!(spun < MAX_BATCHES_PER_INSTANT, "device {device} spins: {spun} batches without time passing");
        let opened: Vec<ConnId> = batch.iter().filter_map(connected).collect();
        let said = batch.iter().map(say).collect::<Vec<_>>().join(", ");
        state.entropy.failing = self.faults.may_strike(Fault::Entropy, 100, &mut self.rng);
        state.entropy.failed = 0;
        let Some(engine) = state.engine.as_mut() else { return Ok(()) };
        let handled = engine.handle(told, &mut state.entropy, batch);
        state.entropy.failing = false;
        let failed = state.entropy.failed;
        self.faults.count(Fault::Entropy, failed);
        self.trace.line(
            now,
            format_args!("device {device} handles {said}{}", if failed > 0 { ", no entropy" } else { "" }),
        );
        let (stored, synced) = (handled.is_ok(), engine.is_synced());
        if let Err(error) = handled {
            self.trace.line(now, format_args!("device {device}: the commit fails: {error}"));
            ensure!(state.full, "device {device}: the engine fails: {error}");
            self.faults.count(Fault::DiskFull, 1);
            state.pauses.clear();
        }
        let state = &mut self.devices[device];
        if synced && stored {
            let file = state.file();
            state.synced = disk::Synced::now(&file);
        }
        self.check_cursors(device)?;
        if self.drain_device(device)? {
            return Ok(());
        }
        for conn in opened {
            self.device_opened(device, conn);
        }
        let state = &mut self.devices[device];
        if !stored {
            // The driver pauses: a cause that stays must not make it spin.
            state.batch_due = true;
            let (life, pause) = (state.life, self.rng.skewed(10, 5_000));
            self.after(pause, Event::DeviceBatch { device, life });
        } else if !state.commands.is_empty() || !state.inputs.is_empty() {
            self.wish_batch(device);
        }
        self.set_wake(device);
        Ok(())
    }

    /// Takes the outputs; `true` when the device died meanwhile.
    fn drain_device(&mut self, device: usize) -> Result<bool, Violation> {
        let life = self.devices[device].life;
        loop {
            if self.faults.strikes(Fault::DeviceCrash, 4, &mut self.rng) {
                let down = self.rng.skewed(10, 60_000);
                self.kill_device(device, false, down)?;
                return Ok(true);
            }
            let Some(output) = self.devices[device].engine.as_mut().and_then(Engine::poll_output) else {
                return Ok(false);
            };
            let act = match output {
                Output::Reply { id, result } => {
                    self.app_hears_reply(device, id, result)?;
                    continue;
                }
                Output::Event(event) => {
                    self.app_hears_event(device, &event)?;
                    continue;
                }
                Output::Connect { conn, via, request, .. } => {
                    let told = self.device_now(device);
                    if let Some((_, until)) = self.devices[device].pauses.remove(&request.topic) {
                        ensure!(
                            told >= until,
                            "device {device} connects {} ms before the pause that the server asked for is over",
                            until.since(told)
                        );
                    }
                    Deferred::Connect { conn, via: via.map(|tunnel| tunnel.relay), request }
                }
                // No connection is kept here: every packet opens its own.
                // Its records never grow old.
                // There are no spaces, so no keys to be sealed.
                Output::ForgetConnections | Output::RenewRecords { .. } | Output::Seal(_) => continue,
                Output::Disconnect { conn } => {
                    // Given up before it heard of the server's wish.
                    let state = &mut self.devices[device];
                    state.pauses.retain(|_, (asked_on, _)| *asked_on != conn);
                    state.given_up.insert((state.life, conn));
                    Deferred::Disconnect { conn }
                }
                Output::Fetch { conn, via, request, .. } => {
                    Deferred::Fetch { conn, via: via.map(|tunnel| tunnel.relay), request }
                }
                Output::Post(job) => {
                    self.faults.count(Fault::Private, u64::from(job.operations() == 0));
                    Deferred::Post(job)
                }
            };
            let delay = self.rng.below(6);
            self.after(delay, Event::DeviceAct { device, life, act });
        }
    }

    /// The driver does what the engine handed out.
    pub(crate) fn device_act(&mut self, device: usize, life: u64, act: Deferred) -> Result<(), Violation> {
        let alive = self.devices[device].life == life;
        let now = self.now();
        match act {
            Deferred::Post(job) => {
                // A packet may have left just before the device died.
                if !alive && self.rng.chance(500) {
                    return Ok(());
                }
                self.trace.line(now, format_args!("device {device} sends {job:?}"));
                let packet = job.wrap().map_err(|error| {
                    Violation::new(format!("device {device} cannot wrap a packet: {error}"))
                })?;
                let to = self.node(&job.entry).ok_or_else(|| Violation::new("a packet's entry is nobody"))?;
                ensure!(matches!(to, Node::Relay(_)), "device {device} sends a packet directly to {to:?}");
                let attempt = job.attempt;
                self.post(Sender::Device { device, life, attempt }, Node::Device(device), to, packet.into());
            }
            Deferred::Connect { conn, via, request } if alive => {
                let via = self.carrier(device, via)?;
                self.trace.line(
                    now,
                    format_args!(
                        "device {device} connects {conn:?} to {} since {} through {via:?}",
                        short(&request.topic),
                        request.since
                    ),
                );
                self.open_stream(device, life, conn, via, Request::Subscribe(request));
            }
            Deferred::Fetch { conn, via, request } if alive => {
                let via = self.carrier(device, via)?;
                let HistoryRequest { topic, after, .. } = request;
                let topic = short(&topic);
                self.trace.line(
                    now,
                    format_args!("device {device} reads {topic} after {after}, {conn:?} through {via:?}"),
                );
                // Looks ask in the same form; where there is little room nearly every page is one to be read again.
                let narrow = self.faults.strength(Fault::Overflow) > 0;
                self.faults.count(Fault::Overflow, u64::from(narrow));
                self.open_stream(device, life, conn, via, Request::Page(request));
            }
            Deferred::Disconnect { conn } if alive => {
                self.trace.line(now, format_args!("device {device} closes {conn:?}"));
                if let Some(state) = self.devices[device].conns.remove(&conn) {
                    self.close_stream(state.stream);
                }
            }
            Deferred::Connect { .. } | Deferred::Fetch { .. } | Deferred::Disconnect { .. } => {}
        }
        Ok(())
    }

    /// The relay that carries a device's stream. Here every relay offers tunnels, so there must be one.
    fn carrier(&self, device: usize, via: Option<NodeId>) -> Result<Option<usize>, Violation> {
        match via.and_then(|relay| self.node(&relay)) {
            Some(Node::Relay(relay)) => Ok(Some(relay)),
            other => Err(Violation::new(format!("device {device} reads through {other:?}"))),
        }
    }

    pub(crate) fn device_posted(&mut self, device: usize, life: u64, attempt: AttemptId, taken: bool) {
        if self.devices[device].life == life {
            let handover = if taken { Handover::Taken } else { Handover::Failed };
            self.devices[device].inputs.push_back(Input::Posted { attempt, handover });
            self.wish_batch(device);
        }
    }

    /// Something arrives on a socket.
    pub(crate) fn device_receives(&mut self, device: usize, life: u64, conn: ConnId, item: Item) {
        let now = self.now();
        let state = &mut self.devices[device];
        if state.life != life {
            return;
        }
        let Some(socket) = state.conns.get_mut(&conn) else { return };
        match item {
            Item::Open => {
                socket.phase = Phase::Open;
                socket.slots.push_back(Slot::Input(Input::Connected { conn }));
            }
            later if socket.phase == Phase::Open => return socket.early.push_back(later),
            Item::Message(message) => return self.device_triage(device, conn, message),
            Item::Closed { retry_after_ms } => {
                self.trace.line(now, format_args!("device {device} loses {conn:?}"));
                socket.slots.push_back(Slot::Input(Input::Disconnected { conn, retry_after_ms }));
            }
            Item::TunnelLost => {
                self.trace.line(now, format_args!("device {device} loses the tunnel of {conn:?}"));
                socket.slots.push_back(Slot::Input(Input::TunnelFailed { conn, retry_after_ms: 0 }));
            }
        }
        state.flush(conn);
        self.wish_batch(device);
    }

    /// The engine knows that a socket is open: what came meanwhile can be looked at.
    fn device_opened(&mut self, device: usize, conn: ConnId) {
        let Some(socket) = self.devices[device].conns.get_mut(&conn) else { return };
        socket.phase = Phase::Known;
        let early = std::mem::take(&mut socket.early);
        let life = self.devices[device].life;
        early.into_iter().for_each(|item| self.device_receives(device, life, conn, item));
    }

    fn device_triage(&mut self, device: usize, conn: ConnId, message: Bytes) {
        let now = self.now();
        let kind = message.first().copied().unwrap_or(0);
        self.trace.line(
            now,
            format_args!("device {device} gets frame {kind:02x}, {} bytes, {conn:?}", message.len()),
        );
        self.trace.bytes(&message);
        let failing = self.faults.may_strike(Fault::Entropy, 20, &mut self.rng);
        let told = self.device_now(device);
        let state = &mut self.devices[device];
        let Some(engine) = state.engine.as_mut() else { return };
        state.entropy.failing = failing;
        let before = state.entropy.failed;
        let jobs = engine.triage(told, conn, message, &mut state.entropy);
        state.entropy.failing = false;
        self.faults.count(Fault::Entropy, state.entropy.failed - before);
        let life = state.life;
        for job in jobs {
            let state = &mut self.devices[device];
            let id = state.next_job;
            state.next_job += 1;
            let Some(socket) = state.conns.get_mut(&conn) else { break };
            socket.slots.push_back(Slot::Job { id, job: Some(job), done: None });
            let delay = if self.rng.chance(900) { self.rng.below(5) } else { self.rng.skewed(5, 400) };
            self.after(delay, Event::DeviceJob { device, life, job: id });
        }
        // Triage may have given the connection up.
        self.devices[device].inputs.push_back(Input::Timeout);
        self.wish_batch(device);
    }

    /// A job of the pool is done; jobs finish in any order.
    pub(crate) fn device_job(&mut self, device: usize, life: u64, job: u64) {
        let state = &mut self.devices[device];
        if state.life != life {
            return;
        }
        let mut finished = None;
        for (conn, socket) in &mut state.conns {
            for slot in &mut socket.slots {
                if let Slot::Job { id, job: work, done } = slot
                    && *id == job
                    && let Some(work) = work.take()
                {
                    *done = Some(Input::Opened(engine::open(work)));
                    finished = Some(*conn);
                }
            }
        }
        if let Some(conn) = finished {
            state.flush(conn);
            self.wish_batch(device);
        }
    }

    pub(crate) fn device_wake(&mut self, device: usize, life: u64) {
        let told = self.device_now(device);
        let state = &mut self.devices[device];
        if state.life != life || state.engine.is_none() {
            return;
        }
        state.wake_at = None;
        if state.engine.as_ref().and_then(Engine::next_wakeup).is_some_and(|at| at <= told) {
            state.inputs.push_back(Input::Timeout);
            self.wish_batch(device);
        } else {
            self.set_wake(device);
        }
    }

    fn set_wake(&mut self, device: usize) {
        let (now, told) = (self.now(), self.device_now(device));
        let state = &mut self.devices[device];
        let Some(at) = state.engine.as_ref().and_then(Engine::next_wakeup) else { return };
        // The pause is slept by a clock that nobody sets meanwhile.
        let at = now.plus(at.since(told));
        if state.wake_at.is_some_and(|set| set <= at) {
            return;
        }
        state.wake_at = Some(at);
        let life = state.life;
        // Timers fire late, never early.
        let late = self.rng.below(3);
        self.at(at.plus(late), Event::DeviceWake { device, life });
    }

    /// The device's platform says that the network changed.
    pub(crate) fn network_changed(&mut self, device: usize) {
        if self.devices[device].engine.is_some() {
            self.devices[device].pauses.clear();
            self.devices[device].inputs.push_back(Input::NetworkChanged);
            self.wish_batch(device);
        }
    }

    fn app_hears_reply(
        &mut self,
        device: usize,
        id: CommandId,
        result: Result<Reply, CommandError>,
    ) -> Result<(), Violation> {
        let now = self.now();
        match result {
            Ok(Reply::Published(operation)) => {
                self.trace
                    .line(now, format_args!("device {device} published {} with {id:?}", short(&operation)));
                let topic = self.model.published(device, id, operation)?;
                self.check_durable(device, topic, operation)?;
            }
            Ok(Reply::Cancelled(how)) => {
                self.devices[device].asked.remove(&id);
                self.trace.line(now, format_args!("device {device} took something back: {how:?}"));
                if let Some((topic, delete)) = self.model.taken_back(device, id, how)? {
                    self.check_durable(device, topic, delete)?;
                }
            }
            Ok(_) => drop(self.devices[device].asked.remove(&id)),
            Err(error) => {
                self.trace.line(now, format_args!("device {device} refuses: {error}"));
                if !self.model.may_not_take_back(device, id, &error) {
                    self.check_refusal(device, &error)?;
                }
                self.model.refused(device, id);
                let state = &mut self.devices[device];
                if let (Some(command), CommandError::Store(_)) = (state.asked.remove(&id), &error) {
                    let life = state.life;
                    let pause = self.rng.skewed(100, 10_000);
                    self.after(pause, Event::Retry { device, life, command });
                }
            }
        }
        Ok(())
    }
}

/// An input in one word.
const fn say(input: &Input) -> &'static str {
    match input {
        Input::Command { command: Command::Publish { .. }, .. } => "publish",
        Input::Command { command: Command::Subscribe { .. }, .. } => "subscribe",
        Input::Command { command: Command::Unsubscribe { .. }, .. } => "unsubscribe",
        Input::Command { command: Command::Cancel { .. }, .. } => "cancel",
        Input::Command { .. } => "command",
        Input::Opened(_) => "opened",
        Input::Connected { .. } => "connected",
        Input::Disconnected { .. } => "disconnected",
        Input::TunnelFailed { .. } => "tunnel failed",
        Input::Refused { .. } => "refused",
        Input::Posted { handover: Handover::Taken, .. } => "taken",
        Input::Posted { .. } => "not taken",
        Input::NetworkChanged => "network changed",
        Input::RecordsRenewed { .. } => "records renewed",
        Input::Sealed(_) => "sealed",
        Input::Timeout => "timeout",
    }
}

const fn connected(input: &Input) -> Option<ConnId> {
    match input {
        Input::Connected { conn } => Some(*conn),
        _ => None,
    }
}
