//! A device, and a small server of the test's own.

use std::sync::Arc;

use bytes::Bytes;
use delta_core::engine::{
    Command, CommandError, CommandId, Engine, EngineError, Event, Input, Network, Output, PostJob, Reply,
    SeenDirectory, Sending, open,
};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{EnvelopeHash, Millis, NodeId, OperationId};
use delta_core::limits::{MAX_BATCH, MAX_FRAME_OPS_BYTES};
use delta_core::onion::deliver;
use delta_core::onion::directory::{Directory, Node, NodeKind};
use delta_core::onion::v3::{self, OnionSecret, Peeled};
use delta_core::ops::{self, Body, Content, DeviceKey, Ticket};
use delta_core::store::{Store, TopicStanding};
use delta_core::sync::frame::{Frame, SequencedOp};
use delta_core::sync::history::{HistoryPage, HistoryRequest};
use delta_core::sync::session::{ConnId, SubscribeRequest};
use delta_core::topic::{Chain, Generation, Seq, SignedHead, TopicId};
use ed25519_dalek::SigningKey;

/// A topic's log as the protocol describes it, and the onion keys of three relays and the server.
pub struct World {
    pub key: SigningKey,
    pub secrets: Vec<OnionSecret>,
    pub topic: TopicId,
    pub generation: Generation,
    /// Lowest seq still kept.
    pub tail: u64,
    pub log: Vec<Vec<u8>>,
}

impl World {
    pub fn new(topic: TopicId) -> Self {
        let key = SigningKey::from_bytes(&[7; 32]);
        let secrets = (0..4u8).map(|index| OnionSecret::from_bytes(index.into(), [index + 1; 32])).collect();
        Self { key, secrets, topic, generation: Generation([1; 16]), tail: 1, log: Vec::new() }
    }

    pub fn network(&self, relays: u8) -> Network {
        let node = |id, kind, index: usize| Node {
            id,
            kind,
            operator: Some(format!("operator {index}")),
            url: format!("https://node{index}.example"),
            keys: vec![self.secrets[index].public()],
            expires: u64::MAX,
            max_class: 4,
            seq: 1,
            tunnel: false,
        };
        let relay = |index: u8| {
            let id = SigningKey::from_bytes(&[index + 50; 32]).verifying_key().to_bytes();
            node(NodeId(id), NodeKind::Relay, index.into())
        };
        Network {
            directory: Arc::new(Directory::from_nodes(1, u64::MAX, (0..relays).map(relay))),
            server: node(NodeId(self.key.verifying_key().to_bytes()), NodeKind::Sync, 3),
            relays: 3,
            hide_reading: true,
            look_before_retry: true,
            seen: SeenDirectory::default(),
            sending: Sending::default(),
        }
    }

    /// The same with three relays that offer tunnels, and `more` that do nothing else.
    pub fn tunnel_network(&self, more: u8) -> Network {
        let network = self.network(3);
        let relays: Vec<Node> = network.directory.relays().cloned().collect();
        let extra = (0..more).map(|index| Node {
            id: NodeId([index + 100; 32]),
            operator: Some(format!("tunnels {index}")),
            keys: Vec::new(),
            ..relays[0].clone()
        });
        let relays = relays.iter().cloned().chain(extra).map(|node| Node { tunnel: true, ..node });
        Network { directory: Arc::new(Directory::from_nodes(1, u64::MAX, relays)), ..network }
    }

    /// Carries a packet through its relays and appends what it delivers, once. Gives how many were new.
    pub fn carry(&mut self, job: &PostJob) -> usize {
        let mut packet = job.wrap().unwrap();
        for _ in 0..3 {
            match v3::open(&self.secrets, packet).unwrap().parse().unwrap() {
                Peeled::Forward { packet: next, .. } => packet = next,
                other => panic!("{other:?}"),
            }
        }
        let Peeled::Deliver { content } = v3::open(&self.secrets, packet).unwrap().parse().unwrap() else {
            panic!("the fourth layer delivers")
        };
        let delivery = deliver::verify(&content).unwrap();
        assert_eq!(delivery.topic, self.topic);
        let before = self.log.len();
        for op in delivery.operations().unwrap() {
            if !self.log.iter().any(|known| known == op) {
                self.log.push(op.to_vec());
            }
        }
        self.log.len() - before
    }

    pub fn chain(&self, upto: usize) -> Chain {
        let start = Chain::start(&self.topic, &self.generation);
        let ops = self.log.iter().take(upto).zip(1..);
        ops.fold(start, |chain, (op, seq)| chain.next(Seq(seq), &EnvelopeHash::of(op)))
    }

    pub fn ops(&self, from: usize) -> Vec<Frame> {
        let item = |(op, seq): (&Vec<u8>, u64)| SequencedOp {
            seq: Seq(seq),
            received: Millis(seq * 1000),
            op: Bytes::copy_from_slice(op),
        };
        let ops = self.log.iter().skip(from).zip(from as u64 + 1..).map(item);
        let mut frames: Vec<Vec<SequencedOp>> = Vec::new();
        for next in ops {
            let fits = |ops: &&mut Vec<SequencedOp>| {
                let bytes: usize = ops.iter().map(|it| it.op.len()).sum();
                ops.len() < MAX_BATCH && bytes + next.op.len() <= MAX_FRAME_OPS_BYTES
            };
            match frames.last_mut().filter(fits) {
                Some(ops) => ops.push(next),
                None => frames.push(vec![next]),
            }
        }
        frames.into_iter().map(Frame::Ops).collect()
    }

    pub fn page(&self, request: &HistoryRequest) -> HistoryPage {
        let HistoryRequest { after, limit, .. } = *request;
        let head = Seq(self.log.len() as u64);
        let after = after.0.max(self.tail - 1);
        let ops = self.ops(after as usize).into_iter().flat_map(|frame| match frame {
            Frame::Ops(ops) => ops,
            _ => Vec::new(),
        });
        let ops = ops.take(limit.into()).collect();
        HistoryPage { generation: self.generation, head, tail: Seq(self.tail), ops }
    }

    pub fn ready(&self) -> Frame {
        let len = self.log.len();
        Frame::Ready(SignedHead::sign(
            &self.key,
            &self.topic,
            &self.generation,
            Seq(len as u64),
            self.chain(len),
        ))
    }

    pub fn hello(&self) -> Frame {
        let head = Seq(self.log.len() as u64);
        Frame::Hello {
            generation: self.generation,
            head,
            tail: Seq(1),
            server_time: Millis(0),
            max_op: 1 << 20,
        }
    }
}

/// The same network as its nodes describe themselves when they speak only version 2.
pub fn original(network: Network, accept_v2: bool) -> Network {
    let plain = |node: &Node| Node { keys: Vec::new(), ..node.clone() };
    let nodes: Vec<Node> = network.directory.nodes().iter().map(plain).collect();
    let (server, sending) = (plain(&network.server), Sending { accept_v2, ..network.sending });
    Network { directory: Arc::new(Directory::from_nodes(1, u64::MAX, nodes)), server, sending, ..network }
}

pub struct Device {
    pub engine: Engine,
    pub entropy: SeededEntropy,
    pub now: Millis,
    pub next: u64,
    pub ticket: Ticket,
    /// The last connection asked for.
    pub connect: Option<(ConnId, SubscribeRequest)>,
    /// The relays that carry the last connection and the last page.
    pub via: Option<NodeId>,
    pub fetch_via: Option<NodeId>,
    /// The connection in use.
    pub conn: Option<ConnId>,
    /// The last page asked for.
    pub fetch: Option<(ConnId, HistoryRequest)>,
}

impl Device {
    pub fn new(seed: u8, store: Store, ticket: &Ticket) -> Self {
        let engine = Engine::open(store, DeviceKey::from_bytes(&[seed; 32]), Millis(1000)).unwrap();
        let entropy = SeededEntropy::new([seed; 32]);
        Self {
            engine,
            entropy,
            now: Millis(1000),
            next: 0,
            ticket: ticket.clone(),
            connect: None,
            via: None,
            fetch_via: None,
            conn: None,
            fetch: None,
        }
    }

    pub fn ready(seed: u8, ticket: &Ticket, world: &World) -> Self {
        let mut device = Self::new(seed, Store::in_memory().unwrap(), ticket);
        device.join(world);
        device
    }

    pub fn join(&mut self, world: &World) {
        self.join_network(world.network(3));
    }

    pub fn join_network(&mut self, network: Network) {
        let topic = self.ticket.topic();
        self.command(Command::OpenTopic { ticket: self.ticket.clone() }).unwrap();
        self.command(Command::Configure(network)).unwrap();
        self.command(Command::Subscribe { topic }).unwrap();
    }

    pub fn handle(&mut self, inputs: Vec<Input>) -> Result<Vec<Output>, EngineError> {
        self.engine.handle(self.now, &mut self.entropy, inputs)?;
        Ok(self.outputs())
    }

    pub fn outputs(&mut self) -> Vec<Output> {
        let outputs: Vec<_> = std::iter::from_fn(|| self.engine.poll_output()).collect();
        for output in &outputs {
            match output {
                Output::Connect { conn, request, via, .. } => {
                    self.connect = Some((*conn, request.clone()));
                    self.via = via.as_ref().map(|via| via.relay);
                }
                Output::Fetch { conn, request, via, .. } => {
                    self.fetch = Some((*conn, *request));
                    self.fetch_via = via.as_ref().map(|via| via.relay);
                }
                _ => {}
            }
        }
        outputs
    }

    pub fn input(&mut self, command: Command) -> Input {
        self.next += 1;
        Input::Command { id: CommandId(self.next), command }
    }

    /// Runs one command.
    pub fn command(&mut self, command: Command) -> Result<Reply, CommandError> {
        let input = self.input(command);
        self.handle(vec![input]).unwrap().into_iter().find_map(reply).expect("every command is answered")
    }

    pub fn say(&self, text: &str) -> Command {
        let content = Content::MessageSend {
            text: text.into(),
            reply: None,
            mentions: vec![],
            attachments: Vec::new(),
        };
        Command::Publish { topic: self.ticket.topic(), content }
    }

    /// The connection the engine asks for, now or when its time comes.
    pub fn connection(&mut self) -> (ConnId, SubscribeRequest) {
        loop {
            if let Some(connect) = self.connect.take() {
                return connect;
            }
            self.now = self.engine.next_wakeup().expect("a subscribed topic connects").max(self.now);
            self.handle(vec![Input::Timeout]).unwrap();
        }
    }

    /// Connects and replays the world's log from this device's cursor; gives all outputs.
    pub fn catch_up(&mut self, world: &World) -> (ConnId, Vec<Output>) {
        let (conn, request) = self.connection();
        self.conn = Some(conn);
        let mut outputs = self.handle(vec![Input::Connected { conn }]).unwrap();
        let ops = world.ops(request.since.0 as usize);
        for frame in [world.hello()].into_iter().chain(ops).chain([world.ready()]) {
            outputs.extend(self.frame(conn, &frame));
        }
        (conn, outputs)
    }

    pub fn frame(&mut self, conn: ConnId, frame: &Frame) -> Vec<Output> {
        let jobs = self.engine.triage(self.now, conn, frame.encode().into(), &mut self.entropy);
        let inputs = jobs.into_iter().map(|job| Input::Opened(open(job))).collect();
        self.handle(inputs).unwrap()
    }

    /// A page of history comes, and the exchange ends; gives all outputs.
    pub fn page(&mut self, conn: ConnId, page: &[u8]) -> Vec<Output> {
        let message = Bytes::copy_from_slice(page);
        let jobs = self.engine.triage(self.now, conn, message, &mut self.entropy);
        let mut outputs = self.outputs();
        let opened = jobs.into_iter().map(|job| Input::Opened(open(job)));
        let inputs = opened.chain([Input::Disconnected { conn, retry_after_ms: 0 }]).collect();
        outputs.extend(self.handle(inputs).unwrap());
        outputs
    }

    /// Reads pages from the world until no more are wanted now; gives how many.
    pub fn read_again(&mut self, world: &World) -> usize {
        let mut pages = 0;
        while let Some((conn, request)) = self.fetch.take() {
            self.page(conn, &world.page(&request).encode());
            pages += 1;
        }
        pages
    }

    /// Lets the time run until the engine does something by itself; gives the outputs.
    pub fn wake(&mut self) -> Vec<Output> {
        self.now = self.engine.next_wakeup().expect("something is due").max(self.now);
        self.handle(vec![Input::Timeout]).unwrap()
    }

    pub fn standing(&self) -> TopicStanding {
        self.engine.reader().unwrap().standing(self.ticket.topic()).unwrap()
    }

    pub fn texts(&self) -> Vec<String> {
        let reader = self.engine.reader().unwrap();
        let page = reader.messages(&self.ticket.keys().log(), delta_core::store::Page::Newest, 100).unwrap();
        page.into_iter().filter_map(|row| row.text).collect()
    }

    pub fn status(&mut self) -> delta_core::engine::TopicStatus {
        let topic = self.ticket.topic();
        match self.command(Command::Status { topic }).unwrap() {
            Reply::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }
}

pub fn reply(output: Output) -> Option<Result<Reply, CommandError>> {
    match output {
        Output::Reply { result, .. } => Some(result),
        _ => None,
    }
}

pub fn posts(outputs: Vec<Output>) -> Vec<PostJob> {
    let post = |output| match output {
        Output::Post(job) => Some(job),
        _ => None,
    };
    outputs.into_iter().filter_map(post).collect()
}

pub fn acknowledged(outputs: &[Output]) -> Vec<OperationId> {
    let operation = |output: &Output| match output {
        Output::Event(Event::Acknowledged { operation, .. }) => Some(*operation),
        _ => None,
    };
    outputs.iter().filter_map(operation).collect()
}

pub fn ticket() -> Ticket {
    Ticket::generate_private(&mut SeededEntropy::new([42; 32])).unwrap()
}

/// An author whose envelopes are put into the log by hand.
pub struct Writer {
    key: DeviceKey,
    ticket: Ticket,
    pub next: u32,
    pub last: Option<OperationId>,
}

impl Writer {
    pub fn new(key: [u8; 32], ticket: &Ticket) -> Self {
        Self { key: DeviceKey::from_bytes(&key), ticket: ticket.clone(), next: 0, last: None }
    }

    /// The next message in its envelope.
    pub fn say(&mut self, text: &str) -> Vec<u8> {
        self.write(Body::new(Content::MessageSend {
            text: text.into(),
            reply: None,
            mentions: vec![],
            attachments: Vec::new(),
        }))
    }

    pub fn write(&mut self, body: Body) -> Vec<u8> {
        let keys = self.ticket.keys();
        let op = ops::create(&self.key, keys.log(), self.next, self.last, &body).unwrap();
        (self.next, self.last) = (self.next + 1, Some(op.id()));
        keys.seal(op.header(), op.body_bytes()).unwrap()
    }
}
