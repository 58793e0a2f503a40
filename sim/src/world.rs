//! The world: every actor, every path between them, one clock, one queue of events.
//!
//! One thread, no real time, no sockets. The devices run the engine the client runs; the relays and the server run
//! the logic the real ones run. What happens depends on the configuration alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use delta_core::engine::{COVER_MIN_MS, Command, Network, RELAY_DELAY_MAX_MS, Sending};
use delta_core::identity::{Millis, NodeId};
use delta_core::ops::Ticket;
use delta_core::store::PendingLimits;
use delta_core::sync::outbox::AttemptId;
use delta_relay_core::{Forward, Limits};

use crate::config::{Config, Sizes};
use crate::device::{Deferred, Device};
use crate::directory::{self, NodeIdentity};
use crate::faults::{Fault, Faults};
use crate::model::Model;
use crate::net::{Net, Node};
use crate::relay::{self, RelayActor};
use crate::rng::Rng;
use crate::script::Answer;
use crate::server::ServerActor;
use crate::stream::{Stream, StreamId};
use crate::town::Town;
use crate::trace::Trace;
use crate::violation::Violation;

/// The instant at which every run begins.
pub const START: Millis = Millis(1_800_000_000_000);

/// Lines of the trace shown when a run fails.
const RECENT: usize = 60;

/// Something that happens at an instant.
#[derive(Debug)]
pub(crate) enum Event {
    /// The next thing is done to the world.
    Step,
    DeviceStart {
        device: usize,
    },
    DeviceBatch {
        device: usize,
        life: u64,
    },
    DeviceWake {
        device: usize,
        life: u64,
    },
    DeviceJob {
        device: usize,
        life: u64,
        job: u64,
    },
    DeviceAct {
        device: usize,
        life: u64,
        act: Deferred,
    },
    PostArrives {
        post: u64,
    },
    CopyArrives {
        from: Node,
        to: Node,
        packet: Bytes,
    },
    PostEnds {
        post: u64,
        answer: Answer,
    },
    StreamArrives {
        stream: StreamId,
    },
    StreamReadable {
        stream: StreamId,
    },
    /// The device notices that a stream is gone.
    StreamLost {
        stream: StreamId,
    },
    /// The server notices.
    StreamForgotten {
        stream: StreamId,
    },
    RelayStart {
        relay: usize,
    },
    RelayTimer {
        relay: usize,
    },
    ServerStart,
    ServerTimer,
    Heals {
        parted: Vec<(Node, Node)>,
    },
    /// A device's disk has room again.
    DiskFrees {
        device: usize,
        life: u64,
    },
    /// The app tries a command again that the database could not take.
    Retry {
        device: usize,
        life: u64,
        command: Command,
    },
}

/// A POST on its way.
#[derive(Debug)]
struct Post {
    sender: Sender,
    from: Node,
    to: Node,
    packet: Bytes,
    back_ms: Option<u64>,
}

/// Who waits for a POST's answer.
#[derive(Debug)]
pub(crate) enum Sender {
    Device { device: usize, life: u64, attempt: AttemptId },
    Relay { relay: usize, life: u64, forward: Forward },
}

/// A relay and what the world knows of it.
#[derive(Debug)]
pub(crate) struct RelayHost {
    pub actor: RelayActor,
    pub life: u64,
    timer: Option<Millis>,
}

/// Everything.
#[derive(Debug)]
pub struct World {
    pub(crate) rng: Rng,
    pub(crate) schedule: crate::schedule::Schedule<Event>,
    pub(crate) trace: Trace,
    pub(crate) faults: Faults,
    pub(crate) net: Net,
    pub(crate) network: Network,
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) devices: Vec<Device>,
    pub(crate) relays: Vec<RelayHost>,
    pub(crate) server: ServerActor,
    pub(crate) server_timer: Option<Millis>,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    pub(crate) next_stream: u64,
    pub(crate) model: Model,
    /// People who share a space, where the run is about that.
    pub(crate) town: Option<Town>,
    pub(crate) steps_left: u64,
    pub(crate) backups: Vec<crate::server::Backup>,
    posts: BTreeMap<u64, Post>,
    next_post: u64,
    pub(crate) events: u64,
}

/// How the devices of a run send.
fn sending(config: &Config, faults: &Faults) -> Sending {
    let mut rng = Rng::new(config.seed, "sending");
    let (cover, delay) = (rng.skewed(COVER_MIN_MS, 60_000), rng.skewed(1, RELAY_DELAY_MAX_MS));
    if faults.strength(Fault::Private) == 0 {
        return Sending::default();
    }
    Sending { cover_every_ms: Some(cover), relay_delay_ms: Some(delay), ..Sending::default() }
}

impl World {
    /// The world of a configuration, before anything happened. Databases are made below `folder`.
    pub fn new(config: Config, folder: &std::path::Path, print: bool) -> Self {
        let mut rng = Rng::new(config.seed, "world");
        let sizes = config.sizes(&mut rng);
        let faults = Faults::draw(&mut Rng::new(config.seed, "faults"), &config.allowed);
        let mut keys = Rng::new(config.seed, "keys");
        let server = NodeIdentity::generate(&mut keys);
        let relays: Vec<_> = (0..sizes.relays).map(|_| NodeIdentity::generate(&mut keys)).collect();
        let mut network = directory::network(&relays, &server, 3.min(sizes.relays), START);
        network.sending = sending(&config, &faults);
        // In a town topics come by themselves.
        let topics = if config.town { 0 } else { sizes.topics };
        let tickets: Vec<Ticket> = (0..topics).map(|_| ticket(&mut keys)).collect();
        let mut devices = devices(&config, &sizes, &tickets, folder, &mut keys, &faults);
        let town = config.town.then(|| Town::new(&mut devices, START, &mut rng));
        let mut world = Self {
            schedule: crate::schedule::Schedule::new(START),
            trace: Trace::new(RECENT, print),
            net: Net::default(),
            network,
            relays: relay_hosts(relays, server.id(), &mut rng),
            server: ServerActor::new(server, keys.bytes()),
            server_timer: None,
            streams: BTreeMap::new(),
            next_stream: 0,
            model: Model::new(&tickets, &devices),
            town,
            tickets,
            devices,
            steps_left: config.steps,
            backups: Vec::new(),
            posts: BTreeMap::new(),
            next_post: 0,
            events: 0,
            faults,
            rng,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for device in 0..self.devices.len() {
            // Some join late and replay what the others wrote before.
            let delay =
                if self.rng.chance(250) { self.rng.skewed(1_000, 300_000) } else { self.rng.below(50) };
            self.after(delay, Event::DeviceStart { device });
        }
        if self.town.is_none() {
            self.after(100, Event::Step);
        }
    }

    /// The current instant.
    pub fn now(&self) -> Millis {
        self.schedule.now()
    }

    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        let tie = self.rng.below(u64::MAX);
        self.schedule.at(self.schedule.now().plus(ms), tie, event);
    }

    pub(crate) fn at(&mut self, at: Millis, event: Event) {
        let tie = self.rng.below(u64::MAX);
        self.schedule.at(at, tie, event);
    }

    /// Handles the next event up to `limit`; `false` when there is none.
    pub(crate) fn turn(&mut self, limit: Millis) -> Result<bool, Violation> {
        let Some(event) = self.schedule.next_until(limit) else { return Ok(false) };
        self.events += 1;
        if let Some(wakes) = self.concerns(&event).and_then(|device| self.asleep_until(device)) {
            self.at(wakes, event);
            return Ok(true);
        }
        match event {
            Event::Step => self.step()?,
            Event::DeviceStart { device } => self.start_device(device)?,
            Event::DeviceBatch { device, life } => self.device_batch(device, life)?,
            Event::DeviceWake { device, life } => self.device_wake(device, life),
            Event::DeviceJob { device, life, job } => self.device_job(device, life, job),
            Event::DeviceAct { device, life, act } => self.device_act(device, life, act)?,
            Event::PostArrives { post } => self.post_arrives(post)?,
            Event::CopyArrives { from, to, packet } => {
                if !self.net.is_blocked(from, to) {
                    self.deliver_post(to, &packet)?;
                }
            }
            Event::PostEnds { post, answer } => self.post_ends(post, answer)?,
            Event::StreamArrives { stream } => self.stream_arrives(stream)?,
            Event::StreamReadable { stream } => self.stream_readable(stream),
            Event::StreamLost { stream } => self.stream_lost(stream),
            Event::StreamForgotten { stream } => self.server.handle_closed(stream.0),
            Event::RelayStart { relay } => self.start_relay(relay),
            Event::RelayTimer { relay } => self.relay_timer(relay)?,
            Event::ServerStart => self.start_server(),
            Event::ServerTimer => self.server_due()?,
            Event::DiskFrees { device, life } => self.disk_frees(device, life)?,
            Event::Retry { device, life, command } => {
                if self.devices[device].life == life {
                    let _ = self.command(device, command);
                }
            }
            Event::Heals { parted } => parted.into_iter().for_each(|(a, b)| self.net.join(a, b)),
        }
        self.count_scripts();
        Ok(true)
    }

    /// The device that must be awake for this.
    fn concerns(&self, event: &Event) -> Option<usize> {
        match event {
            Event::DeviceBatch { device, .. }
            | Event::DeviceWake { device, .. }
            | Event::DeviceJob { device, .. }
            | Event::DeviceAct { device, .. }
            | Event::Retry { device, .. } => Some(*device),
            Event::PostEnds { post, .. } => match self.posts.get(post)?.sender {
                Sender::Device { device, .. } => Some(device),
                Sender::Relay { .. } => None,
            },
            Event::StreamReadable { stream } | Event::StreamLost { stream } => {
                self.streams.get(stream).map(|stream| stream.device)
            }
            _ => None,
        }
    }

    /// What a script says is a fault only once it is done.
    fn count_scripts(&mut self) {
        self.faults.count(Fault::BadServer, self.server.script.take_applied());
        for relay in &mut self.relays {
            self.faults.count(Fault::BadRelay, relay.actor.script.take_applied());
        }
    }

    /// Sends a POST; the sender hears of its end exactly once, unless it dies first.
    pub(crate) fn post(&mut self, sender: Sender, from: Node, to: Node, packet: Bytes) {
        let exchange = self.net.exchange(from, to, &mut self.faults, &mut self.rng);
        let post = self.next_post;
        self.next_post += 1;
        if let Some(ms) = exchange.copy_ms {
            self.after(ms, Event::CopyArrives { from, to, packet: packet.clone() });
        }
        self.posts.insert(post, Post { sender, from, to, packet, back_ms: exchange.back_ms });
        if let Some(ms) = exchange.arrives_ms {
            self.after(ms, Event::PostArrives { post });
        }
        self.after(exchange.fails_ms, Event::PostEnds { post, answer: Answer::Hang });
    }

    fn post_arrives(&mut self, post: u64) -> Result<(), Violation> {
        // The request travels on even when its sender gave up.
        let Some(Post { from, to, packet, back_ms, .. }) = self.posts.get(&post) else { return Ok(()) };
        let (from, to, packet, back_ms) = (*from, *to, packet.clone(), *back_ms);
        if self.net.is_blocked(from, to) {
            return Ok(());
        }
        let answer = self.deliver_post(to, &packet)?;
        let late_ms = match answer {
            Answer::Hang => None,
            Answer::Late(_, ms) => Some(ms),
            Answer::Status(_) | Answer::Redirect | Answer::Bytes(_) | Answer::Cut => Some(0),
        };
        if let (Some(ms), Some(late_ms)) = (back_ms, late_ms) {
            // What comes after the sender gave up finds nobody.
            self.after(ms + late_ms, Event::PostEnds { post, answer });
        }
        Ok(())
    }

    fn deliver_post(&mut self, to: Node, packet: &Bytes) -> Result<Answer, Violation> {
        let now = self.now();
        let answer = match to {
            Node::Relay(relay) => {
                let answer = self.relays[relay].actor.handle_post(now, packet);
                self.drain_relay(relay)?;
                answer
            }
            Node::Server => {
                let answer = self.server.handle_post(now, packet);
                self.drain_server()?;
                answer
            }
            Node::Device(_) => Answer::Cut,
        };
        self.trace.line(now, format_args!("{to:?} takes a packet of {} bytes: {answer:?}", packet.len()));
        Ok(answer)
    }

    fn post_ends(&mut self, post: u64, answer: Answer) -> Result<(), Violation> {
        let Some(Post { sender, .. }) = self.posts.remove(&post) else { return Ok(()) };
        match sender {
            Sender::Device { device, life, attempt } => {
                let taken = answer.is_success();
                self.device_posted(device, life, attempt, taken);
            }
            Sender::Relay { relay, life, forward } => {
                let now = self.now();
                if self.relays[relay].life == life {
                    self.relays[relay].actor.handle_outcome(now, forward, relay::outcome(answer));
                    self.drain_relay(relay)?;
                }
            }
        }
        Ok(())
    }

    fn drain_relay(&mut self, relay: usize) -> Result<(), Violation> {
        let now = self.now();
        while let Some(forward) = self.relays[relay].actor.poll_transmit(now) {
            let to = self.node(&forward.next()).ok_or_else(|| {
                Violation::new(format!("relay {relay} forwards to {}, which is nobody", forward.next()))
            })?;
            let (life, packet) = (self.relays[relay].life, forward.packet().clone());
            self.post(Sender::Relay { relay, life, forward }, Node::Relay(relay), to, packet);
        }
        let due = self.relays[relay].actor.poll_timeout();
        if due != self.relays[relay].timer {
            self.relays[relay].timer = due;
            due.into_iter().for_each(|at| self.at(at, Event::RelayTimer { relay }));
        }
        Ok(())
    }

    fn relay_timer(&mut self, relay: usize) -> Result<(), Violation> {
        let now = self.now();
        self.relays[relay].timer = None;
        self.relays[relay].actor.handle_timeout(now, &mut self.rng);
        self.drain_relay(relay)
    }

    fn start_relay(&mut self, relay: usize) {
        self.relays[relay].actor.start();
        self.trace.line(self.schedule.now(), format_args!("relay {relay} starts"));
    }

    /// Kills a relay; packets it holds are lost. Says whether it ran.
    pub(crate) fn kill_relay(&mut self, relay: usize, down_ms: u64) -> bool {
        if !self.relays[relay].actor.is_up() {
            return false;
        }
        self.trace.line(self.schedule.now(), format_args!("relay {relay} is killed for {down_ms} ms"));
        self.relays[relay].actor.kill();
        self.relays[relay].life += 1;
        self.cut_tunnels(relay);
        self.after(down_ms, Event::RelayStart { relay });
        true
    }

    /// Which node has an id.
    pub(crate) fn node(&self, id: &NodeId) -> Option<Node> {
        if *id == self.server.identity().id() {
            return Some(Node::Server);
        }
        self.relays.iter().position(|relay| relay.actor.identity().id() == *id).map(Node::Relay)
    }
}

fn ticket(keys: &mut Rng) -> Ticket {
    let ticket =
        if keys.chance(200) { Ticket::generate_public(keys) } else { Ticket::generate_private(keys) };
    ticket.expect("the simulation's chance does not fail")
}

fn devices(
    config: &Config,
    sizes: &Sizes,
    tickets: &[Ticket],
    folder: &std::path::Path,
    keys: &mut Rng,
    faults: &Faults,
) -> Vec<Device> {
    let narrow = PendingLimits { bytes: 20_000, per_author: 2 };
    (0..sizes.devices)
        .map(|index| {
            let pending = match faults.strength(Fault::Overflow) {
                0 => PendingLimits::default(),
                _ => narrow,
            };
            let tickets = tickets
                .iter()
                .map(|ticket| {
                    // The first device may write everywhere, so that something happens everywhere.
                    let reads_only = keys.chance(80) && index > 0;
                    if reads_only { ticket.read_only() } else { ticket.clone() }
                })
                .collect();
            Device::new(
                index,
                keys.bytes(),
                tickets,
                folder,
                Rng::new(config.seed, &format!("device {index}")),
                pending,
            )
        })
        .collect()
}

fn relay_hosts(identities: Vec<NodeIdentity>, server: NodeId, rng: &mut Rng) -> Vec<RelayHost> {
    let known: Vec<NodeId> = identities.iter().map(NodeIdentity::id).chain([server]).collect();
    identities
        .into_iter()
        .map(|identity| {
            let batch_ms = if rng.chance(500) { 0 } else { rng.between(20, 200) };
            let mut actor = RelayActor::new(identity, Limits { batch_ms, ..Limits::default() });
            actor.set_known(&known);
            RelayHost { actor, life: 0, timer: None }
        })
        .collect()
}
