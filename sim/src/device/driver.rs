//! The driver of a device's engine: batches by chance, what the engine wants done, and when to wake it.

use delta_core::engine::{Command, Engine, Handover, Input, Output, seal_repeatably};
use delta_core::identity::{EnvelopeHash, NodeId};
use delta_core::sync::history::HistoryRequest;
use delta_core::sync::outbox::AttemptId;
use delta_core::sync::session::{ConnId, MAX_RETRY_AFTER_MS};
use delta_core::topic::TopicId;

use super::Deferred;
use crate::disk;
use crate::faults::Fault;
use crate::net::Node;
use crate::stream::Request;
use crate::trace::short;
use crate::violation::{Violation, ensure};
use crate::world::{Event, Sender, World};

/// Batches a device may handle at one instant: more means that it spins.
const MAX_BATCHES_PER_INSTANT: u32 = 500;

impl World {
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
    pub(super) fn wish_batch(&mut self, device: usize) {
        let state = &mut self.devices[device];
        if state.engine.is_none() || std::mem::replace(&mut state.batch_due, true) {
            return;
        }
        let life = state.life;
        let delay = if self.rng.chance(970) { self.rng.below(4) } else { self.rng.skewed(10, 3_000) };
        self.after(delay, Event::DeviceBatch { device, life });
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
            let error = self.devices[device].plain(&error);
            self.trace.line(now, format_args!("device {device}: the commit fails: {error}"));
            let state = &mut self.devices[device];
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
        self.town_follows(device)?;
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
                Output::ForgetConnections | Output::RenewRecords { .. } => continue,
                Output::Seal(job) => Deferred::Seal(job),
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
                Output::Has { conn, via, topic, body, .. } => {
                    let hashes = body.as_chunks::<32>().0.iter().copied().map(EnvelopeHash).collect();
                    Deferred::Has { conn, via: via.map(|tunnel| tunnel.relay), topic, hashes }
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
            Deferred::Has { conn, via, topic, hashes } if alive => {
                let via = self.carrier(device, via)?;
                let (count, at) = (hashes.len(), short(&topic));
                self.trace.line(
                    now,
                    format_args!("device {device} asks {at} for {count} envelopes, {conn:?} through {via:?}"),
                );
                self.open_stream(device, life, conn, via, Request::Has(topic, hashes));
            }
            Deferred::Disconnect { conn } if alive => {
                self.trace.line(now, format_args!("device {device} closes {conn:?}"));
                if let Some(state) = self.devices[device].conns.remove(&conn) {
                    self.close_stream(state.stream);
                }
            }
            Deferred::Seal(job) if alive => {
                self.trace.line(now, format_args!("device {device} seals {job:?}"));
                self.devices[device].inputs.push_back(Input::Sealed(seal_repeatably(*job)));
                self.wish_batch(device);
            }
            Deferred::Connect { .. }
            | Deferred::Fetch { .. }
            | Deferred::Has { .. }
            | Deferred::Disconnect { .. }
            | Deferred::Seal(_) => {}
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
