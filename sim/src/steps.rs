//! What is done to the world: what apps want, and the large faults.

use delta_core::engine::{Command, Sending};
use delta_core::identity::OperationId;
use delta_core::ops::{Content, Ticket};
use delta_core::topic::{Generation, Seq, TopicId};

use crate::faults::Fault;
use crate::net::{HTTP_TIMEOUT_MS, Node};
use crate::rng::Rng;
use crate::script::{Answer, FrameAct, FrameMatch, Garbage, PageAct, PostAct, SubscribeAct};
use crate::stream::{Stream, StreamId};
use crate::trace::short;
use crate::violation::Violation;
use crate::world::{Event, World};

/// Kinds that strike as a step of their own, with their share among such steps.
const LARGE: [(Fault, u64); 15] = [
    (Fault::Cut, 250),
    (Fault::Partition, 200),
    (Fault::DeviceCrash, 200),
    (Fault::PowerLoss, 100),
    (Fault::RelayCrash, 150),
    (Fault::ServerCrash, 120),
    (Fault::ServerWipe, 25),
    (Fault::ServerRollback, 40),
    (Fault::Eviction, 150),
    (Fault::BadServer, 200),
    (Fault::BadRelay, 150),
    (Fault::DiskFull, 150),
    (Fault::Clock, 120),
    (Fault::Sleep, 150),
    (Fault::Withhold, 200),
];

/// Farthest a device's clock is from the time, milliseconds.
const MAX_SKEW_MS: i64 = 48 * 3600 * 1000;
/// Farthest it is set at once, milliseconds.
const MAX_JUMP_MS: u64 = 24 * 3600 * 1000;
/// Longest a device sleeps, milliseconds.
const MAX_SLEEP_MS: u64 = 2 * 3600 * 1000;

const EMOJI: [&str; 5] = ["👍", "❤️", "🎉", "👀", "🏳️‍🌈"];

impl World {
    /// One thing happens; the next one follows after a while.
    pub(crate) fn step(&mut self) -> Result<(), Violation> {
        let Some(left) = self.steps_left.checked_sub(1) else { return Ok(()) };
        self.steps_left = left;
        if self.town.is_some() {
            return self.town_step();
        }
        match self.rng.below(100) {
            0..=79 => self.publish_some(),
            80..=82 => self.change_subscription(),
            83..=84 => {
                let device = self.rng.index(self.devices.len());
                self.network_changed(device);
            }
            85 => self.backup(),
            86..=87 => self.take_back(),
            88 => {
                let device = self.rng.index(self.devices.len());
                if let Some(topic) = self.topic() {
                    self.command(device, Command::Retry { topic });
                }
            }
            _ => self.large_fault()?,
        }
        let gap = match self.rng.below(10) {
            0..=3 => self.rng.below(50),
            4..=7 => self.rng.skewed(50, 3_000),
            _ => self.rng.skewed(1_000, 40_000),
        };
        self.after(gap, Event::Step);
        Ok(())
    }

    fn publish_some(&mut self) {
        let device = self.rng.index(self.devices.len());
        let Some(topic) = self.topic() else { return };
        let count = if self.rng.chance(800) { 1 } else { self.rng.skewed(2, 40) };
        for _ in 0..count {
            let content = self.content(device, topic);
            self.command(device, Command::Publish { topic, content });
        }
    }

    /// An app takes something back, mostly what it has just said.
    fn take_back(&mut self) {
        let device = self.rng.index(self.devices.len());
        let Some(topic) = self.topic() else { return };
        let said = self.model.topics.get(&topic).map_or(&[][..], |model| &model.published);
        let own: Vec<OperationId> =
            said.iter().filter(|(by, ..)| *by == device).map(|(_, id, _)| *id).collect();
        let newest = self.rng.chance(700);
        let operation = if newest { own.last().copied() } else { self.rng.pick(&own).copied() };
        if let Some(operation) = operation {
            self.command(device, Command::Cancel { topic, operation });
        }
    }

    fn topic(&mut self) -> Option<TopicId> {
        self.rng.pick(&self.tickets).map(Ticket::topic)
    }

    /// Something to say: mostly messages, else something about an earlier operation, whether this device has it yet
    /// or not.
    fn content(&mut self, device: usize, topic: TopicId) -> Content {
        let text = text(&mut self.rng);
        let earlier = &self.model.topics.get(&topic).map_or(&[][..], |model| &model.published);
        let own: Vec<_> = earlier.iter().filter(|(by, _, message)| *by == device && *message).collect();
        let target = match self.rng.below(10) {
            0..=4 => self.rng.pick(&own).map(|(_, id, _)| *id),
            5..=8 => self.rng.pick(earlier).map(|(_, id, _)| *id),
            // An operation that does not exist (yet).
            _ => Some(OperationId(self.rng.bytes())),
        };
        let emoji = (*self.rng.pick(&EMOJI).unwrap_or(&"x")).to_owned();
        match (self.rng.below(100), target) {
            (50..=64, Some(target)) => Content::MessageEdit { target, text },
            (65..=71, Some(target)) => Content::MessageDelete { target },
            (72..=82, Some(target)) => Content::ReactionAdd { target, emoji },
            (83..=88, Some(target)) => Content::ReactionRemove { target, emoji },
            (89..=93, _) => Content::ProfileSet {
                name: text.chars().take(30).collect(),
                bio: self.rng.chance(500).then(|| text.clone()),
                avatar: None,
                availability: self.rng.chance(300).then(|| "away".to_owned()),
                public: self.rng.chance(300),
            },
            (_, target) => {
                let reply = target.filter(|_| self.rng.chance(200));
                let mentions =
                    self.devices.iter().filter(|_| self.rng.chance(50)).map(crate::device::Device::author);
                Content::MessageSend { text, reply, mentions: mentions.collect(), attachments: Vec::new() }
            }
        }
    }

    fn change_subscription(&mut self) {
        let device = self.rng.index(self.devices.len());
        let place = self.rng.index(self.tickets.len());
        let topic = self.tickets[place].topic();
        let wanted = !self.devices[device].wanted[place];
        self.devices[device].wanted[place] = wanted;
        let command = if wanted { Command::Subscribe { topic } } else { Command::Unsubscribe { topic } };
        self.command(device, command);
    }

    fn backup(&mut self) {
        if self.backups.len() < 4 {
            self.backups.push(self.server.backup());
        }
    }

    pub(crate) fn large_fault(&mut self) -> Result<(), Violation> {
        let weights = LARGE.map(|(fault, share)| (fault, share * self.faults.strength(fault)));
        let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut draw = self.rng.below(total);
        for (fault, weight) in weights {
            if draw < weight {
                let times = self.strike(fault)?;
                self.faults.count(fault, times);
                return Ok(());
            }
            draw -= weight;
        }
        Ok(())
    }

    /// Does something bad; gives how often it had an effect, as far as that is not counted elsewhere.
    fn strike(&mut self, fault: Fault) -> Result<u64, Violation> {
        let now = self.now();
        self.trace.line(now, format_args!("fault: {fault}"));
        let down = self.rng.skewed(10, 120_000);
        let device = self.rng.index(self.devices.len());
        let relay = self.rng.index(self.relays.len());
        let struck = match fault {
            Fault::Cut => {
                let streams: Vec<_> = self.streams.keys().copied().collect();
                self.rng.pick(&streams).copied().is_some_and(|stream| self.cut_stream(stream))
            }
            Fault::Partition => self.partition(),
            Fault::DeviceCrash => self.kill_device(device, false, down)?,
            Fault::PowerLoss => self.kill_device(device, true, down)?,
            Fault::RelayCrash => self.kill_relay(relay, down),
            Fault::ServerCrash => self.kill_server(down),
            Fault::ServerWipe => {
                self.kill_server(down);
                let secret = self.rng.bytes();
                self.server.wipe(secret);
                true
            }
            Fault::ServerRollback => self.roll_back(down),
            Fault::Eviction => self.evict(),
            Fault::BadServer => {
                self.bad_server();
                false
            }
            Fault::BadRelay => {
                let times = self.rng.between(1, 5);
                let act = bad_post(&mut self.rng);
                self.relays[relay].actor.script.post(times, act);
                false
            }
            Fault::DiskFull => self.fill_disk(device)?,
            Fault::Clock => self.set_clock(device),
            Fault::Sleep => {
                let lasts = self.rng.skewed(1_000, MAX_SLEEP_MS);
                self.sleep(device, lasts)
            }
            Fault::Withhold => {
                self.withhold();
                false
            }
            Fault::Loss
            | Fault::Delay
            | Fault::Duplicate
            | Fault::Overflow
            | Fault::Entropy
            | Fault::Private
            | Fault::Busy => false,
        };
        Ok(u64::from(struck))
    }

    /// The server tells one socket nothing more, and the device behind it says something. It counts when the device
    /// finds out that its echo is kept back.
    fn withhold(&mut self) {
        let subscribed = |(id, stream): (&StreamId, &Stream)| Some((*id, stream.device, stream.topic()?));
        let streams: Vec<_> = self.streams.iter().filter_map(subscribed).collect();
        let Some((stream, device, topic)) = self.rng.pick(&streams).copied() else { return };
        if self.server.mute(stream.0) {
            if self.town.is_some() {
                return self.say_in_town(device);
            }
            let content = self.content(device, topic);
            self.command(device, Command::Publish { topic, content });
        }
    }

    /// From now on commits fail that need room. Each one counts when it does.
    fn fill_disk(&mut self, device: usize) -> Result<bool, Violation> {
        if self.devices[device].limit_disk(true)? {
            let lasts = self.rng.skewed(100, 120_000);
            let life = self.devices[device].life;
            self.after(lasts, Event::DiskFrees { device, life });
        }
        Ok(false)
    }

    /// Sets a device's clock ahead, back, or right.
    fn set_clock(&mut self, device: usize) -> bool {
        let jump = i64::try_from(self.rng.skewed(1_000, MAX_JUMP_MS)).unwrap_or(i64::MAX);
        let old = self.devices[device].skew_ms;
        let new = match self.rng.below(5) {
            0 => 0,
            1..=2 => old.saturating_add(jump),
            _ => old.saturating_sub(jump),
        };
        let new = new.clamp(-MAX_SKEW_MS, MAX_SKEW_MS);
        let now = self.now();
        self.trace
            .line(now, format_args!("the clock of device {device} is set from {old:+} ms to {new:+} ms"));
        self.devices[device].skew_ms = new;
        old != new
    }

    /// Puts a backup in place of the server's disk. Says whether it differs: one that does not is a mere crash.
    fn roll_back(&mut self, down: u64) -> bool {
        let Some(backup) = self.rng.pick(&self.backups).cloned() else { return false };
        if self.kill_server(down) {
            self.faults.count(Fault::ServerCrash, 1);
        }
        let before = self.log_states();
        self.server.restore(backup);
        before != self.log_states()
    }

    /// Where the server's logs stand.
    fn log_states(&self) -> Vec<(Generation, Seq)> {
        let topics = self.tickets.iter().map(Ticket::topic);
        topics.map(|topic| (self.server.generation(&topic), self.server.log_state(&topic).head)).collect()
    }

    /// Separates a random part of the network from the rest. Says whether there are two parts.
    fn partition(&mut self) -> bool {
        let devices = (0..self.devices.len()).map(Node::Device);
        let all: Vec<Node> =
            devices.chain((0..self.relays.len()).map(Node::Relay)).chain([Node::Server]).collect();
        let side: Vec<bool> = all.iter().map(|_| self.rng.chance(300)).collect();
        let mut parted = Vec::new();
        for (place, a) in all.iter().enumerate() {
            for (other, b) in all.iter().enumerate().skip(place + 1) {
                if side.get(place) != side.get(other) {
                    self.net.part(*a, *b);
                    parted.push((*a, *b));
                }
            }
        }
        let lasts = self.rng.skewed(100, 600_000);
        let now = self.now();
        self.trace.line(now, format_args!("{} paths are cut for {lasts} ms", parted.len()));
        let cut: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| self.is_cut_off(stream.device, stream.via))
            .map(|(id, _)| *id)
            .collect();
        for stream in cut {
            let _ = self.cut_stream(stream);
        }
        let divided = !parted.is_empty();
        self.after(lasts, Event::Heals { parted });
        divided
    }

    /// Drops what every device has on its disk; says whether anything. A device that could lose it again (to a power
    /// loss) would have a gap for good, so then nothing is dropped. Nor in a world with wipes: a device that comes to a
    /// new log late cannot know whether what it wants to deliver again lies in the log's gap; it tries for as long as
    /// it can.
    fn evict(&mut self) -> bool {
        let Some(topic) = self.topic() else { return false };
        let generation = self.server.generation(&topic);
        let stored = self.devices.iter().map(|device| match device.cursors.get(&topic) {
            Some(cursor) if cursor.generation == generation => cursor.seq,
            _ => Seq(0),
        });
        let stored = stored.min().unwrap_or(Seq(0));
        let safe =
            [Fault::PowerLoss, Fault::ServerWipe].iter().all(|fault| self.faults.strength(*fault) == 0);
        if !safe || stored == Seq(0) {
            return false;
        }
        let up_to = Seq(self.rng.between(1, stored.0));
        let now = self.now();
        self.trace.line(now, format_args!("the server drops {} up to {up_to}", short(&topic)));
        let before = self.server.log_state(&topic);
        self.server.evict(&topic, up_to);
        before != self.server.log_state(&topic)
    }

    fn bad_server(&mut self) {
        let rng = &mut self.rng;
        let script = &mut self.server.script;
        match rng.below(12) {
            10 | 11 => {
                let act = match rng.below(3) {
                    0 => PageAct::Refuse(bad_answer(rng)),
                    1 => PageAct::Forge,
                    _ => PageAct::Replace(garbage(rng)),
                };
                script.page(rng.between(1, 4), act);
            }
            0 => drop(script.post(rng.between(1, 4), bad_post(rng))),
            1 => {
                let answer = bad_answer(rng);
                script.subscribe(rng.between(1, 4), SubscribeAct::Refuse(answer));
            }
            _ => {
                let matches = match rng.below(10) {
                    0..=4 => FrameMatch::Any,
                    5..=7 => FrameMatch::Type(2),
                    _ => FrameMatch::Type(rng.between(1, 8) as u8),
                };
                let act = bad_frame(rng);
                script.frame_after(matches, rng.below(6), rng.between(1, 3), act);
            }
        }
    }

    /// From now on everything works, and every device receives every topic.
    pub(crate) fn heal(&mut self) {
        let now = self.now();
        self.trace.line(now, format_args!("everything works again"));
        self.faults.heal();
        self.network.sending = Sending::default();
        self.net.join_all();
        self.server.script.clear();
        // A server that hung or withheld the last word would go on doing so on the sockets it has.
        self.cut_all_streams();
        if !self.server.is_up() {
            self.after(0, Event::ServerStart);
        }
        for relay in 0..self.relays.len() {
            self.relays[relay].actor.script.clear();
            self.after(0, Event::RelayStart { relay });
        }
        for device in 0..self.devices.len() {
            self.devices[device].skew_ms = 0;
            let life = self.devices[device].life;
            self.after(0, Event::DiskFrees { device, life });
            self.after(0, Event::DeviceStart { device });
            // No more cover: nothing would ever come to rest.
            self.command(device, Command::Configure(self.network.clone()));
            for place in 0..self.tickets.len() {
                let topic = self.tickets[place].topic();
                self.devices[device].wanted[place] = true;
                self.command(device, Command::Subscribe { topic });
            }
            // Some platforms say that the network is back, some do not.
            if self.rng.chance(500) {
                self.network_changed(device);
            }
        }
    }
}

pub(crate) fn text(rng: &mut Rng) -> String {
    // Unique, so that no two messages can be taken for each other.
    let name = u64::from_be_bytes(rng.bytes());
    let length = if rng.chance(20) { rng.skewed(100, 60_000) } else { rng.skewed(1, 200) };
    format!("{name:016x} {}", "é".repeat(length as usize / 2))
}

fn bad_answer(rng: &mut Rng) -> Answer {
    let statuses = [400, 404, 413, 429, 500, 503];
    match rng.below(8) {
        0 | 1 => Answer::Hang,
        2 => Answer::Cut,
        3 => Answer::Redirect,
        4 => {
            let bytes = [Garbage::Noise, Garbage::EndlessHead, Garbage::EndlessBody];
            Answer::Bytes(*rng.pick(&bytes).unwrap_or(&Garbage::Noise))
        }
        // Before and after the sender gives up.
        5 => Answer::Late(202, rng.skewed(1, 2 * HTTP_TIMEOUT_MS)),
        _ => Answer::Status(*rng.pick(&statuses).unwrap_or(&503)),
    }
}

fn bad_post(rng: &mut Rng) -> PostAct {
    match rng.below(4) {
        0 => PostAct::Swallow,
        1 => PostAct::Answer(bad_answer(rng)),
        2 => PostAct::Refuse(bad_answer(rng)),
        _ => PostAct::Twice,
    }
}

fn bad_frame(rng: &mut Rng) -> FrameAct {
    match rng.below(9) {
        0 | 1 => FrameAct::Withhold,
        2 => FrameAct::Repeat,
        3 => FrameAct::Swap,
        4 => FrameAct::Replace(garbage(rng)),
        5 => FrameAct::Before(garbage(rng)),
        6 => FrameAct::Close(*rng.pick(&[1000, 1002, 1008, 1012, 1013]).unwrap_or(&1012)),
        7 => FrameAct::Cut,
        _ => FrameAct::Hang,
    }
}

fn garbage(rng: &mut Rng) -> bytes::Bytes {
    let mut bytes = rng.bytes::<64>().to_vec();
    bytes.truncate(rng.index(65));
    if let Some(first) = bytes.first_mut() {
        *first = rng.below(10) as u8;
    }
    bytes.into()
}
