//! A client reads a topic through relays (processes) that carry its stream to a sync server.

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use delta_client::{Client, Config, Event, ReadPath, RelayHops, Subscription, Update};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::NodeId;
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

/// Everything that passed between a relay and the server, both ways, and who connected.
#[derive(Default)]
struct Capture {
    bytes: Vec<u8>,
    connections: u64,
}

impl Capture {
    fn holds(&self, what: &[u8]) -> bool {
        self.bytes.windows(what.len()).any(|window| window == what)
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
            seen.lock().unwrap().connections += 1;
            let Ok(far) = TcpStream::connect(to).await else { continue };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(pass(near_in, far_out, Arc::clone(&seen)));
            tokio::spawn(pass(far_in, near_out, Arc::clone(&seen)));
        }
    });
    (port, capture)
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    seen: Arc<Mutex<Capture>>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        seen.lock().unwrap().bytes.extend_from_slice(&buffer[..len]);
        to.write_all(&buffer[..len]).await?;
    }
}

/// Two relays that offer tunnels, a server behind a tap, and what a client is told of them.
struct Stage {
    _net: Net,
    server: Server,
    listen: SocketAddr,
    tls: bool,
    relays: Vec<Relay>,
    capture: Arc<Mutex<Capture>>,
    hops: RelayHops,
    ticket: Ticket,
    author: DeviceKey,
    said: Vec<ops::VerifiedOperation>,
}

impl Stage {
    async fn new(tls: bool) -> Self {
        let net = Net::new();
        let listen = support::free_address();
        let (port, capture) = tap(listen).await;
        let server = sync::start(&net, tls, sync::Place { listen, port }).await;
        let mut relays: Vec<Relay> = ["a", "b"].map(|name| net.relay(name)).into();
        let mut records: Vec<RecordObject> = relays.iter().map(|relay| relay.record.clone()).collect();
        records.push(server.record().unwrap());
        net.write(1, &records);
        relays.iter_mut().for_each(|relay| relay.start(&net));
        let hops = directory(&records);
        let ticket = Ticket::generate_private(&mut SeededEntropy::new([5; 32])).unwrap();
        let author = DeviceKey::from_bytes(&[6; 32]);
        Self { _net: net, server, listen, tls, relays, capture, hops, ticket, author, said: Vec::new() }
    }

    fn topic(&self) -> TopicId {
        self.ticket.topic()
    }

    /// Somebody writes: a packet with one layer, posted to the server itself.
    async fn write(&mut self, text: &str) {
        let keys = self.ticket.keys();
        let content = Content::MessageSend { text: text.into(), reply: None, mentions: vec![] };
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
        let request = [head.as_bytes(), &packet].concat();
        let stream = TcpStream::connect(self.listen).await.unwrap();
        let answer = match self.tls {
            true => {
                let name = "localhost".try_into().unwrap();
                exchange(sync::tls_client().connect(name, stream).await.unwrap(), &request).await
            }
            false => exchange(stream, &request).await,
        };
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    }

    /// A reader. The server's URL it knows leads nowhere: whatever it reads a relay has carried.
    async fn reader(&self) -> Reader {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path().join("device.db"), [1; 32]);
        config.allow_plaintext = true;
        config.extra_roots = vec![sync::ROOT.to_vec()];
        config.coalesce = Duration::ZERO;
        let client = Client::open(config).await.unwrap();
        let topic = client.open_topic(&self.ticket).await.unwrap();
        let updates = client.subscribe(topic).await.unwrap();
        let scheme = if self.tls { "https" } else { "http" };
        let id = self.server.record().unwrap().verify().unwrap().id;
        let nowhere = support::free_address().port();
        let skipped = client.init_sync(&self.hops, &format!("{scheme}://localhost:{nowhere}#{id}")).await;
        assert_eq!(skipped.unwrap(), []);
        Reader { _dir: dir, client, topic, ticket: self.ticket.clone(), updates }
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

struct Reader {
    _dir: tempfile::TempDir,
    client: Client,
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
    assert!(matches!(reader.path().await, ReadPath::Tunnel { sealed: true, .. }));
    // The server has seen one connection, and it is the relay's.
    let carrier = reader.carrier().await;
    assert!(get(stage.relay(carrier).admin, "/metrics").contains("\ndelta_relay_tunnels 1\n"));
    let topic = stage.topic();
    let capture = std::mem::take(&mut *stage.capture.lock().unwrap());
    assert_eq!(capture.connections, 1);
    assert!(capture.bytes.len() > 1_000);
    for what in [topic.to_string().as_bytes(), &topic.0, b"/topic/", b"delta.sync.2"] {
        assert!(!capture.holds(what), "{}", String::from_utf8_lossy(what));
    }
    reader.client.close().await.unwrap();
    stage.server.stop().await;
}

/// What the capture above would have found; and `status` says that the relay can read it.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_the_relay_sees_the_topic_and_status_says_so() {
    let mut stage = Stage::new(false).await;
    stage.write("in the clear").await;
    let mut reader = stage.reader().await;
    reader.until_texts(&["in the clear"]).await;
    assert!(matches!(reader.path().await, ReadPath::Tunnel { sealed: false, .. }));
    let path = format!("GET /topic/{}", stage.topic());
    assert!(stage.capture.lock().unwrap().holds(path.as_bytes()));
    reader.client.close().await.unwrap();
    stage.server.stop().await;
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
