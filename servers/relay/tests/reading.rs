//! A client reads a topic through relays (processes) that carry its stream to a sync server.

mod support;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use delta_client::{
    Client, ClientError, Config, Event, ReadPath, RelayHops, Seal, Subscription, SystemClock, Update,
    WallClock,
};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{Millis, NodeId};
use delta_core::onion::deliver;
use delta_core::onion::directory::{ListBody, ListEntry, RecordObject, sign_list};
use delta_core::onion::v3::Hop;
use delta_core::ops::{self, Body, Content, DeviceKey, Ticket};
use delta_core::store::Page;
use delta_core::sync::session::Connection;
use delta_core::topic::TopicId;
use delta_sync::run::Server;
use ed25519_dalek::SigningKey;
use support::{Net, PATIENCE, Relay, get, sync, wrap};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Everything that passed between a relay and the server, both ways, and who connected.
#[derive(Default)]
struct Capture {
    bytes: Vec<u8>,
    connections: u64,
    open: BTreeSet<u64>,
    /// To these connections, and those before, the server says nothing more.
    hushed: u64,
    /// Where the next connections are led instead.
    detours: VecDeque<SocketAddr>,
    tasks: Vec<AbortHandle>,
}

impl Capture {
    fn holds(&self, what: &[u8]) -> bool {
        self.bytes.windows(what.len()).any(|window| window == what)
    }

    /// How many are open of those that came after the first so many.
    fn open_after(&self, number: u64) -> usize {
        self.open.range(number + 1..).count()
    }

    /// From now on nothing comes on the connections there are.
    fn hush(&mut self) {
        self.hushed = self.connections;
    }

    /// Cuts every connection; the next one leads elsewhere.
    fn cut_and_lead_to(&mut self, to: SocketAddr) {
        self.detours.push_back(to);
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}

/// A port that leads to `to`, and what passes.
async fn tap(to: SocketAddr) -> (u16, Arc<Mutex<Capture>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let capture = Arc::<Mutex<Capture>>::default();
    let seen = Arc::clone(&capture);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (number, to) = {
                let mut seen = seen.lock().unwrap();
                seen.connections += 1;
                let number = seen.connections;
                seen.open.insert(number);
                (number, seen.detours.pop_front().unwrap_or(to))
            };
            let carrying = tokio::spawn(carry(near, to, number, Arc::clone(&seen)));
            seen.lock().unwrap().tasks.push(carrying.abort_handle());
        }
    });
    (port, capture)
}

async fn carry(near: TcpStream, to: SocketAddr, number: u64, seen: Arc<Mutex<Capture>>) {
    if let Ok(far) = TcpStream::connect(to).await {
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        // A direction that ends by itself leaves the other to say its last.
        let up = pass(near_in, far_out, |_| false, &seen);
        let down = pass(far_in, near_out, |seen| number <= seen.hushed, &seen);
        let _ = tokio::join!(up, down);
    }
    seen.lock().unwrap().open.remove(&number);
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    is_hushed: impl Fn(&Capture) -> bool,
    seen: &Mutex<Capture>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        let hushed = {
            let mut seen = seen.lock().unwrap();
            seen.bytes.extend_from_slice(&buffer[..len]);
            is_hushed(&seen)
        };
        if !hushed {
            to.write_all(&buffer[..len]).await?;
        }
    }
}

/// A pause between two looks at something that changes by itself.
const LOOK: Duration = Duration::from_millis(10);

/// Relays that offer tunnels, a server behind a tap, and what a client is told of them.
struct Stage {
    net: Net,
    server: Server,
    listen: SocketAddr,
    tls: bool,
    relays: Vec<Relay>,
    capture: Arc<Mutex<Capture>>,
    capture_port: u16,
    hops: RelayHops,
    ticket: Ticket,
    author: DeviceKey,
    said: Vec<ops::VerifiedOperation>,
}

impl Stage {
    /// Two relays: enough to read.
    async fn new(tls: bool) -> Self {
        Self::with(tls, &["a", "b"]).await
    }

    async fn with(tls: bool, names: &[&str]) -> Self {
        let net = Net::new();
        let listen = support::free_address();
        let (port, capture) = tap(listen).await;
        let server = sync::start(&net, tls, sync::Place { listen, port }).await;
        let mut relays: Vec<Relay> = names.iter().map(|name| net.relay(name)).collect();
        let mut records: Vec<RecordObject> = relays.iter().map(|relay| relay.record.clone()).collect();
        records.push(server.record().unwrap());
        net.write(1, &records);
        relays.iter_mut().for_each(|relay| relay.start(&net));
        let hops = directory(&records);
        let ticket = Ticket::generate_private(&mut SeededEntropy::new([5; 32])).unwrap();
        let author = DeviceKey::from_bytes(&[6; 32]);
        Self {
            net,
            server,
            listen,
            tls,
            relays,
            capture,
            capture_port: port,
            hops,
            ticket,
            author,
            said: Vec::new(),
        }
    }

    fn topic(&self) -> TopicId {
        self.ticket.topic()
    }

    /// Somebody writes: a packet with one layer, posted to the server itself.
    async fn write(&mut self, text: &str) {
        let keys = self.ticket.keys();
        let content = Content::MessageSend {
            text: text.into(),
            reply: None,
            mentions: vec![],
            attachments: Vec::new(),
        };
        let (number, last) = (self.said.len() as u32, self.said.last().map(ops::VerifiedOperation::id));
        let op = ops::create(&self.author, keys.log(), number, last, &Body::new(content)).unwrap();
        let envelope = keys.seal(op.header(), op.body_bytes()).unwrap();
        self.said.push(op);
        let content = deliver::encode_operation(keys.write_key().unwrap(), &envelope).unwrap();
        let record = self.server.record().unwrap().verify().unwrap();
        let packet = wrap(&[Hop { node: record.id, key: record.keys[0], delay: 0 }], &content, number);
        let head = format!(
            "POST /deliver HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/octet-stream\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            packet.len()
        );
        let answer = self.ask(&[head.as_bytes(), &packet].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    }

    /// Asks the server itself, past the tap.
    async fn ask(&self, request: &[u8]) -> String {
        let stream = TcpStream::connect(self.listen).await.unwrap();
        match self.tls {
            true => {
                let name = "localhost".try_into().unwrap();
                exchange(sync::tls_client().connect(name, stream).await.unwrap(), request).await
            }
            false => exchange(stream, request).await,
        }
    }

    /// How many operations the topic has.
    async fn head(&self) -> u64 {
        let topic = self.topic();
        let request =
            format!("GET /topic/{topic}/head HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let answer = self.ask(request.as_bytes()).await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<serde_json::Value>(body).unwrap()["head"].as_u64().unwrap()
    }

    /// Nothing that passed between relays and the server names the topic, or what is asked of it.
    fn saw_no_topic(&self) {
        let (topic, capture) = (self.topic(), self.capture.lock().unwrap());
        assert!(capture.bytes.len() > 1_000);
        for what in [topic.to_string().as_bytes(), &topic.0, b"/topic/", b"delta.sync.2", b"GET /info"] {
            assert!(!capture.holds(what), "{}", String::from_utf8_lossy(what));
        }
    }

    /// A reader. The server's URL it knows leads nowhere: whatever it reads a relay has carried.
    async fn reader(&self) -> Reader {
        self.try_reader().await.unwrap()
    }

    async fn try_reader(&self) -> Result<Reader, ClientError> {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path().join("device.db"), [1; 32]);
        config.allow_plaintext = true;
        config.extra_roots = vec![sync::ROOT.to_vec()];
        config.coalesce = Duration::ZERO;
        let clock = Arc::<MovedClock>::default();
        config.clock = Arc::clone(&clock) as Arc<dyn WallClock>;
        let client = Client::open(config).await.unwrap();
        let topic = client.open_topic(&self.ticket).await.unwrap();
        let updates = client.subscribe(topic).await.unwrap();
        let scheme = if self.tls { "https" } else { "http" };
        let id = self.server.record().unwrap().verify().unwrap().id;
        let nowhere = support::free_address().port();
        let skipped = client.init_sync(&self.hops, &format!("{scheme}://localhost:{nowhere}#{id}")).await?;
        assert_eq!(skipped, []);
        Ok(Reader { _dir: dir, client, clock, topic, ticket: self.ticket.clone(), updates })
    }

    fn relay(&mut self, id: NodeId) -> &mut Relay {
        self.relays.iter_mut().find(|relay| relay.id() == id).unwrap()
    }
}

async fn exchange(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A server may end TLS without saying so.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A list of all these nodes, each with an operator of its own.
fn directory(records: &[RecordObject]) -> RelayHops {
    let signer = SigningKey::from_bytes(&[201; 32]);
    let entry = |(index, object): (usize, &RecordObject)| {
        let record = object.verify().unwrap();
        let operator = Some(format!("operator {index}"));
        ListEntry { kind: record.kind, id: record.id, operator, url: None, max_class: None }
    };
    let nodes = records.iter().enumerate().map(entry).collect();
    let body = ListBody { version: 1, expires: 4_000_000_000, nodes };
    let values: Vec<_> = records.iter().map(RecordObject::to_value).collect();
    RelayHops::Directory {
        list: sign_list(std::slice::from_ref(&signer), &body),
        records: serde_json::Value::from(values).to_string(),
        trusted_keys: vec![NodeId(signer.verifying_key().to_bytes())],
        threshold: 1,
    }
}

/// The system's clock, and what a test adds to it.
#[derive(Debug, Default)]
struct MovedClock(AtomicU64);

impl WallClock for MovedClock {
    fn now(&self) -> Millis {
        SystemClock.now().plus(self.0.load(Ordering::SeqCst))
    }
}

struct Reader {
    _dir: tempfile::TempDir,
    client: Client,
    clock: Arc<MovedClock>,
    topic: TopicId,
    ticket: Ticket,
    updates: Subscription,
}

impl Reader {
    async fn texts(&self) -> Vec<String> {
        let log = self.ticket.log();
        let rows = self.client.read(move |reader| reader.messages(&log, Page::Newest, 100)).await.unwrap();
        rows.into_iter().filter_map(|row| row.text).collect()
    }

    async fn next(&mut self) -> Event {
        match tokio::time::timeout(PATIENCE, self.updates.next()).await {
            Ok(Some(Update::Event(event))) => event,
            other => panic!("{other:?}"),
        }
    }

    async fn until_texts(&mut self, wanted: &[&str]) {
        while self.texts().await != wanted {
            self.next().await;
        }
    }

    async fn until(&mut self, wanted: Connection) {
        while !matches!(self.next().await, Event::Connection { connection, .. } if connection == wanted) {}
    }

    async fn path(&self) -> ReadPath {
        self.client.status(self.topic).await.unwrap().read_path.unwrap()
    }

    async fn connection(&self) -> Connection {
        self.client.status(self.topic).await.unwrap().connection
    }

    async fn carrier(&self) -> NodeId {
        match self.path().await {
            ReadPath::Tunnel { relay, .. } => relay,
            direct => panic!("{direct:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_read_through_a_relay_that_sees_no_topic() {
    let mut stage = Stage::new(true).await;
    stage.write("before").await;
    let mut reader = stage.reader().await;
    reader.until_texts(&["before"]).await;
    stage.write("while it listens").await;
    reader.until_texts(&["before", "while it listens"]).await;
    assert!(matches!(reader.path().await, ReadPath::Tunnel { seal: Seal::Tls, .. }));
    // The server has seen one connection, and it is the relay's.
    let carrier = reader.carrier().await;
    assert!(get(stage.relay(carrier).admin, "/metrics").contains("\ndelta_relay_tunnels 1\n"));
    assert_eq!(stage.capture.lock().unwrap().connections, 1);
    stage.saw_no_topic();
    reader.client.close().await.unwrap();
    stage.server.stop().await;
}

/// It does what a certificate does for others: the server's identity is the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_certificate_is_read_in_noise_and_the_relay_sees_no_topic() {
    let mut stage = Stage::new(false).await;
    stage.write("not in the clear").await;
    let mut reader = stage.reader().await;
    reader.until_texts(&["not in the clear"]).await;
    assert!(matches!(reader.path().await, ReadPath::Tunnel { seal: Seal::Noise, .. }));
    assert_eq!(reader.client.subscribers(reader.topic).await.unwrap(), 1);
    stage.saw_no_topic();
    // What the capture finds of somebody who asks in the clear.
    let (topic, port) = (stage.topic(), stage.capture_port);
    let request = format!("GET /topic/{topic}/head HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let answer = exchange(TcpStream::connect(("127.0.0.1", port)).await.unwrap(), request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(stage.capture.lock().unwrap().holds(topic.to_string().as_bytes()));
    reader.client.close().await.unwrap();
    stage.server.stop().await;
}

/// The device knows relays and the server's key, and nothing else: it asks the server who it is, as it asks everything,
/// through a relay.
#[tokio::test(flavor = "multi_thread")]
async fn on_the_first_start_the_server_sees_no_connection_but_the_relays() {
    for tls in [true, false] {
        let mut stage = Stage::new(tls).await;
        stage.write("before").await;
        let server = stage.server.record().unwrap().verify().unwrap().id;
        let known: Vec<RecordObject> = stage.relays.iter().map(|relay| relay.record.clone()).collect();
        stage.hops = directory(&known);
        // What leads nowhere is the server's URL: only a relay knows the way.
        let mut reader = stage.reader().await;
        reader.until_texts(&["before"]).await;
        // Its record, and the topic.
        assert_eq!(stage.relays.iter().map(|relay| relay.count("tunnel")).sum::<u64>(), 2);
        assert_eq!(stage.capture.lock().unwrap().connections, 2);
        let about = reader.client.about(reader.topic).await.unwrap();
        assert_eq!(about.counter, 0);
        let carrier = reader.carrier().await;
        assert!(carrier != server && stage.capture.lock().unwrap().connections == 3);
        stage.saw_no_topic();
        reader.client.close().await.unwrap();
        stage.relays.iter_mut().for_each(Relay::kill);
        // Nobody leads there any more, and nobody is asked directly.
        let error = stage.try_reader().await.err().unwrap();
        assert_eq!(error.code(), "server_unreachable");
        assert_eq!(stage.capture.lock().unwrap().connections, 3);
        stage.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_killed_is_replaced_by_another() {
    let mut stage = Stage::new(true).await;
    stage.write("one").await;
    let mut reader = stage.reader().await;
    reader.until_texts(&["one"]).await;
    let first = reader.carrier().await;
    stage.relay(first).kill();
    while reader.carrier().await == first || reader.connection().await != Connection::Live {
        reader.next().await;
    }
    stage.write("two").await;
    reader.until_texts(&["one", "two"]).await;
    // What is asked beside the stream goes the same way.
    let about = reader.client.about(reader.topic).await.unwrap();
    assert_eq!((about.metadata, about.counter), (None, 0));
    assert_eq!(reader.client.subscribers(reader.topic).await.unwrap(), 1);
    reader.client.close().await.unwrap();
    stage.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_relay_gone_nothing_is_read_directly() {
    let mut stage = Stage::new(true).await;
    let mut reader = stage.reader().await;
    reader.until(Connection::Live).await;
    stage.relays.iter_mut().for_each(Relay::kill);
    reader.until(Connection::Offline).await;
    let before = stage.capture.lock().unwrap().connections;
    let error = reader.client.about(reader.topic).await.unwrap_err();
    assert_eq!(error.code(), "server_unreachable");
    assert!(matches!(reader.path().await, ReadPath::Tunnel { .. }));
    assert_eq!(stage.capture.lock().unwrap().connections, before);
    reader.client.close().await.unwrap();
    stage.server.stop().await;
}

/// Its echo never comes on the stream, and the page that anyone may ask for has it.
#[tokio::test(flavor = "multi_thread")]
async fn case_38_what_a_server_keeps_back_is_found_through_another_relay_and_not_sent_twice() {
    // Relays deliver to whom the web vouches for, or in the clear.
    let mut stage = Stage::with(false, &["a", "b", "c", "d", "e"]).await;
    let mut reader = stage.reader().await;
    reader.until(Connection::Live).await;
    let carrier = reader.carrier().await;
    stage.capture.lock().unwrap().hush();
    let content = Content::MessageSend {
        text: "where is it?".into(),
        reply: None,
        mentions: vec![],
        attachments: Vec::new(),
    };
    let said = reader.client.publish(reader.topic, content).await.unwrap();
    while stage.head().await == 0 {
        tokio::time::sleep(LOOK).await;
    }
    // The stream, and the last relay's link. Whatever comes now asks for a page.
    let before = stage.capture.lock().unwrap().connections;
    let mut events = Vec::new();
    while !events.iter().any(|event| matches!(event, Event::ServerWithholds { .. })) {
        while let Some(Update::Event(event)) = reader.updates.try_next() {
            events.push(event);
        }
        // While a page is on its way the device's time stands still: it would not wait for long.
        if stage.capture.lock().unwrap().open_after(before) == 0 {
            reader.clock.0.fetch_add(1_000, Ordering::SeqCst);
        }
        reader.client.status(reader.topic).await.unwrap();
        tokio::time::sleep(LOOK).await;
    }
    let acknowledged =
        |event: &Event| matches!(event, Event::Acknowledged { operation, .. } if *operation == said);
    assert!(events.iter().any(acknowledged), "{events:?}");
    // One packet over three relays, and one entry.
    assert_eq!(stage.relays.iter().map(|relay| relay.count("accepted")).sum::<u64>(), 3);
    assert_eq!(stage.head().await, 1);
    // The page came through a relay that carried no stream, and on a tunnel of its own.
    assert_eq!(stage.relay(carrier).count("tunnel"), 1);
    assert!(stage.relays.iter().map(|relay| relay.count("tunnel")).sum::<u64>() >= 2);
    reader.client.close().await.unwrap();
    stage.server.stop().await;
}

/// A server that shows one device an empty log, while whoever asks from elsewhere gets the old one.
#[tokio::test(flavor = "multi_thread")]
async fn case_51_a_reset_that_is_told_to_one_device_alone_is_found_out() {
    let mut stage = Stage::new(true).await;
    for text in ["one", "two", "three"] {
        stage.write(text).await;
    }
    let mut reader = stage.reader().await;
    reader.until_texts(&["one", "two", "three"]).await;
    // The same server, by its key, with nothing in it.
    let place = sync::behind(Some(stage.capture_port));
    let empty = sync::start_again(&stage.net, stage.tls, place).await;
    stage.capture.lock().unwrap().cut_and_lead_to(place.listen);
    let (old, new) = loop {
        if let Event::FalseReset { old, new, .. } = reader.next().await {
            break (old, new);
        }
    };
    assert_eq!(old.seq.0, 3);
    assert_ne!(old.generation, new.generation);
    assert_eq!(reader.texts().await, ["one", "two", "three"]);
    let status = reader.client.status(reader.topic).await.unwrap();
    assert_eq!((status.queued, status.sent), (0, 0), "nothing is delivered again");
    reader.client.close().await.unwrap();
    stage.server.stop().await;
    empty.stop().await;
}
