//! Several devices with all their connections, and one server with as many topics as anybody asks for.

use std::collections::{BTreeMap, BTreeSet};

use delta_core::crypto::{GroupCrypto, TwoParty};
use delta_core::engine::{
    Command, CommandError, Event, Handover, Input, Output, PostJob, Reply, SealJob, seal,
};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{Author, EnvelopeHash, NodeId, OperationId};
use delta_core::onion::deliver;
use delta_core::onion::v3::{self, Peeled};
use delta_core::ops::Ticket;
use delta_core::store::{Reader, Store};
use delta_core::sync::frame::Frame;
use delta_core::sync::session::ConnId;
use delta_core::topic::{Generation, Seq, TopicId};

use crate::support::{Device, World, reply};

/// One server with as many topics as anybody asks for.
pub struct Net {
    pub worlds: BTreeMap<TopicId, World>,
    pub generation: Generation,
}

impl Net {
    pub fn new() -> Self {
        Self { worlds: BTreeMap::new(), generation: Generation([1; 16]) }
    }

    pub fn world(&mut self, topic: TopicId) -> &mut World {
        let generation = self.generation;
        self.worlds.entry(topic).or_insert_with(|| World { generation, ..World::new(topic) })
    }

    /// Delivers what a packet holds, to the topic it names.
    pub fn carry(&mut self, job: &PostJob) {
        let (topic, operations) = Self::peel(job);
        let world = self.world(topic);
        for op in operations {
            if !world.log.contains(&op) {
                world.log.push(op);
            }
        }
    }

    /// To which topic a packet goes.
    pub fn target(&self, job: &PostJob) -> TopicId {
        Self::peel(job).0
    }

    fn peel(job: &PostJob) -> (TopicId, Vec<Vec<u8>>) {
        let secrets = World::new(TopicId([0; 32])).secrets;
        let mut packet = job.wrap().unwrap();
        for _ in 0..3 {
            match v3::open(&secrets, packet).unwrap().parse().unwrap() {
                Peeled::Forward { packet: next, .. } => packet = next,
                other => panic!("{other:?}"),
            }
        }
        let Peeled::Deliver { content } = v3::open(&secrets, packet).unwrap().parse().unwrap() else {
            panic!("the fourth layer delivers")
        };
        let delivery = deliver::verify(&content).unwrap();
        let operations = delivery.operations().unwrap().iter().map(|op| op.to_vec()).collect();
        (delivery.topic, operations)
    }

    /// The server's disk is lost: new generations, empty logs.
    pub fn wipe(&mut self) -> BTreeMap<TopicId, World> {
        self.generation = Generation([self.generation.0[0] + 1; 16]);
        std::mem::take(&mut self.worlds)
    }
}

/// A device with all its connections.
pub struct Peer {
    pub device: Device,
    pub conns: BTreeMap<ConnId, (TopicId, usize)>,
    pub events: Vec<Event>,
    /// Questions that were answered: the topic, through which relay, and about how many envelopes.
    pub asked: Vec<(TopicId, Option<NodeId>, usize)>,
    /// Packets that are not carried yet.
    pub held: Vec<PostJob>,
    pub hold: bool,
    /// Topics of which nothing new reaches it: connections that are there stay, there are no new ones.
    pub deaf: BTreeSet<TopicId>,
    /// Keys that are not sealed yet.
    pub unsealed: Vec<SealJob>,
    /// How many keys were given out to be sealed.
    pub seals: usize,
    /// Topics that it connected to, in order.
    pub connects: Vec<TopicId>,
    pub idle: bool,
}

impl Peer {
    pub fn new(seed: u8, ticket: &Ticket) -> Self {
        Self::with(seed, ticket, Store::in_memory().unwrap())
    }

    pub fn with(seed: u8, ticket: &Ticket, store: Store) -> Self {
        let commands = vec![
            Command::OpenTopic { ticket: ticket.clone() },
            Command::Configure(World::new(ticket.topic()).network(3)),
            Command::Subscribe { topic: ticket.topic() },
        ];
        Self::start(Device::new(seed, store, ticket), commands)
    }

    /// In a network with tunnels, and in no topic.
    pub fn tunnelled(seed: u8, store: Store) -> Self {
        let network = World::new(TopicId([0; 32])).tunnel_network(3);
        let device = Device::new(seed, store, &crate::support::ticket());
        Self::start(device, vec![Command::Configure(network)])
    }

    /// The same, with an inbox.
    pub fn with_inbox(net: &mut Net, seed: u8, store: Store) -> Self {
        let mut peer = Self::tunnelled(seed, store);
        let secrets = TwoParty.generate(peer.device.now, &mut SeededEntropy::new([seed; 32])).unwrap();
        peer.command(net, Command::OpenInbox { secrets: Some(Box::new(secrets)) }).unwrap();
        peer
    }

    fn start(mut device: Device, commands: Vec<Command>) -> Self {
        let inputs: Vec<Input> = commands.into_iter().map(|command| device.input(command)).collect();
        let now = device.now;
        device.engine.handle(now, &mut device.entropy, inputs).unwrap();
        Self {
            device,
            conns: BTreeMap::new(),
            events: Vec::new(),
            asked: Vec::new(),
            held: Vec::new(),
            hold: false,
            deaf: BTreeSet::new(),
            unsealed: Vec::new(),
            seals: 0,
            connects: Vec::new(),
            idle: false,
        }
    }

    pub fn author(&self) -> Author {
        self.device.engine.author()
    }

    pub fn reader(&self) -> Reader {
        self.device.engine.reader().unwrap()
    }

    pub fn feed(&mut self, inputs: Vec<Input>) {
        self.device.engine.handle(self.device.now, &mut self.device.entropy, inputs).unwrap();
    }

    /// Runs a command; what it makes the device do is done by [`run`].
    pub fn command(&mut self, net: &mut Net, command: Command) -> Result<Reply, CommandError> {
        let input = self.device.input(command);
        self.feed(vec![input]);
        self.drain(net).expect("every command is answered")
    }

    pub fn say(&mut self, net: &mut Net, text: &str) -> OperationId {
        match self.command(net, self.device.say(text)).unwrap() {
            Reply::Published(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// Does what the engine wants; gives the answer to a command, if there is one.
    pub fn drain(&mut self, net: &mut Net) -> Option<Result<Reply, CommandError>> {
        let mut answer = None;
        while let Some(output) = self.device.engine.poll_output() {
            match output {
                Output::Connect { conn, request, .. } if self.deaf.contains(&request.topic) => {
                    self.feed(vec![Input::Disconnected { conn, retry_after_ms: 0 }]);
                }
                Output::Connect { conn, request, .. } => {
                    self.connects.push(request.topic);
                    self.conns.insert(conn, (request.topic, request.since.0 as usize));
                    self.feed(vec![Input::Connected { conn }]);
                    let world = net.world(request.topic);
                    let known = request.resume.map(|resume| resume.0);
                    let (hello, mut since) = (world.hello(), request.since.0 as usize);
                    let mut frames = vec![hello];
                    let evicted = world.tail as usize - 1;
                    if known.is_some_and(|known| known != world.generation) || since > world.log.len() {
                        since = 0;
                        let head = Seq(world.log.len() as u64);
                        frames.push(Frame::Reset { generation: world.generation, head });
                    }
                    if since < evicted {
                        let (from, to) = (Seq(since as u64 + 1), Seq(evicted as u64));
                        frames.push(Frame::Gap { from, to, chain: world.chain(evicted) });
                        since = evicted;
                    }
                    frames.extend(world.ops(since));
                    frames.push(world.ready());
                    let len = world.log.len();
                    for frame in &frames {
                        self.device_frame(conn, frame);
                    }
                    if let Some(entry) = self.conns.get_mut(&conn) {
                        entry.1 = len;
                    }
                }
                Output::Disconnect { conn } => {
                    self.conns.remove(&conn);
                }
                Output::Post(job) if self.hold => self.held.push(job),
                Output::Post(job) => {
                    net.carry(&job);
                    self.feed(vec![Input::Posted { attempt: job.attempt, handover: Handover::Taken }]);
                }
                Output::Has { conn, via, topic, body, .. } => {
                    self.asked.push((topic, via.map(|via| via.relay), body.len() / 32));
                    let (hashes, _) = body.as_chunks::<32>();
                    let log = &net.world(topic).log;
                    let seq = |hash: &[u8; 32]| {
                        let at = log.iter().position(|op| EnvelopeHash::of(op).0 == *hash);
                        at.map_or(0, |at| at as u64 + 1).to_be_bytes()
                    };
                    let answer: Vec<u8> = hashes.iter().flat_map(seq).collect();
                    let (now, device) = (self.device.now, &mut self.device);
                    device.engine.triage(now, conn, answer.into(), &mut device.entropy);
                    self.feed(vec![Input::Disconnected { conn, retry_after_ms: 0 }, Input::Timeout]);
                }
                Output::Seal(job) if self.idle => self.unsealed.push(*job),
                Output::Seal(job) => {
                    self.seals += 1;
                    self.feed(vec![Input::Sealed(seal(*job))]);
                }
                Output::Event(event) => self.events.push(event),
                other => answer = reply(other).or(answer),
            }
        }
        answer
    }

    pub fn device_frame(&mut self, conn: ConnId, frame: &Frame) {
        let (now, device) = (self.device.now, &mut self.device);
        let jobs = device.engine.triage(now, conn, frame.encode().into(), &mut device.entropy);
        let inputs = jobs.into_iter().map(|job| Input::Opened(delta_core::engine::open(job))).collect();
        device.engine.handle(now, &mut device.entropy, inputs).unwrap();
    }

    /// Passes on what stands in the topics since last time.
    pub fn receive(&mut self, net: &mut Net) -> bool {
        let mut any = false;
        let conns: Vec<(ConnId, TopicId, usize)> =
            self.conns.iter().map(|(c, (t, n))| (*c, *t, *n)).collect();
        for (conn, topic, sent) in conns {
            let world = net.world(topic);
            let len = world.log.len();
            if len > sent && !self.deaf.contains(&topic) {
                for frame in world.ops(sent) {
                    self.device_frame(conn, &frame);
                }
                if let Some(entry) = self.conns.get_mut(&conn) {
                    entry.1 = len;
                }
                any = true;
            }
        }
        self.drain(net);
        any
    }

    pub fn texts(&self) -> Vec<String> {
        self.device.texts()
    }

    pub fn is_connected(&self, topic: TopicId) -> bool {
        self.conns.values().any(|(of, _)| *of == topic)
    }

    pub fn lose_connections(&mut self) {
        let gone: Vec<ConnId> = std::mem::take(&mut self.conns).into_keys().collect();
        self.feed(gone.into_iter().map(|conn| Input::Disconnected { conn, retry_after_ms: 0 }).collect());
    }
}

/// Lets everything settle.
pub fn run(net: &mut Net, peers: &mut [&mut Peer]) {
    let mut quiet = 0;
    while quiet < 3 {
        let mut any = false;
        for peer in peers.iter_mut() {
            peer.drain(net);
            any |= peer.receive(net);
        }
        quiet = if any { 0 } else { quiet + 1 };
        if !any {
            // Connections begin with a timer.
            for peer in peers.iter_mut() {
                let due = peer.device.engine.next_wakeup().filter(|at| at.since(peer.device.now) < 5_000);
                if let Some(at) = due {
                    peer.device.now = at.max(peer.device.now);
                    peer.feed(vec![Input::Timeout]);
                }
            }
        }
    }
}
