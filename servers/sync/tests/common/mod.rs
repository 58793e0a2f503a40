//! A real `delta-sync` process on loopback, and small clients for it.
#![allow(dead_code, reason = "each test program uses a part")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use delta_core::entropy::SeededEntropy;
use delta_core::identity::EnvelopeHash;
use delta_core::onion::deliver;
use delta_core::onion::directory::{NodeRecord, RecordObject};
use delta_core::onion::v3::{Hop, Terminal, wrap};
use delta_core::sync::frame::{Frame, SUBPROTOCOL, SequencedOp};
use delta_core::topic::{Chain, Generation, Seq, SignedHead, TopicId, WriteKey};
use ed25519_dalek::VerifyingKey;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server process; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub record: NodeRecord,
}

impl Server {
    /// Starts a server on a data folder and waits until it listens.
    pub fn start(data: &Path, args: &[&str]) -> Self {
        Self::try_start(data, args).expect("the server starts")
    }

    /// The same; on failure what it wrote to standard error.
    pub fn try_start(data: &Path, args: &[&str]) -> Result<Self, String> {
        Self::spawn(data, args, Stdio::piped(), "info")
    }

    /// Starts a server whose whole log goes to a file.
    pub fn start_logged(data: &Path, log: &Path, args: &[&str]) -> Self {
        let log = std::fs::File::create(log).unwrap();
        Self::spawn(data, args, log.into(), "trace").expect("the server starts")
    }

    fn spawn(data: &Path, args: &[&str], stderr: Stdio, log: &str) -> Result<Self, String> {
        let record = Command::new(env!("CARGO_BIN_EXE_delta-sync"))
            .args(["record", "--allow-private", "--url", "http://127.0.0.1:9999", "--data"])
            .arg(data)
            .output()
            .unwrap();
        if !record.status.success() {
            return Err(String::from_utf8_lossy(&record.stderr).into_owned());
        }
        let record =
            RecordObject::parse(&String::from_utf8(record.stdout).unwrap()).unwrap().verify().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_delta-sync"))
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--allow-private", "--data"])
            .arg(data)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .env("RUST_LOG", log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |prefix: &str| {
            let line = lines.next().and_then(Result::ok)?;
            line.strip_prefix(prefix).and_then(|address| address.parse().ok())
        };
        match (address("listening on http://"), address("admin on http://")) {
            (Some(address), Some(admin)) => Ok(Self { child, address, admin, record }),
            _ => {
                let output = child.wait_with_output().unwrap();
                Err(String::from_utf8_lossy(&output.stderr).into_owned())
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; gives the exit status.
    pub fn terminate(mut self) -> ExitStatus {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        self.child.wait().unwrap()
    }

    /// Waits until it has ended.
    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn key(&self) -> VerifyingKey {
        VerifyingKey::from_bytes(&self.record.id.0).unwrap()
    }

    /// A packet whose only layer is this server.
    pub fn packet(&self, content: &[u8], seed: u64) -> Vec<u8> {
        let mut entropy = [0; 32];
        entropy[..8].copy_from_slice(&seed.to_be_bytes());
        let hop = Hop { node: self.record.id, key: self.record.keys[0], delay: 0 };
        wrap(&[hop], Terminal::Deliver(content), &mut SeededEntropy::new(entropy)).unwrap()
    }

    /// Delivers operations through the onion and insists on the 202.
    pub async fn deliver(&self, key: &WriteKey, ops: &[&[u8]], seed: u64) {
        let content = match ops {
            [op] => deliver::encode_operation(key, op).unwrap(),
            ops => deliver::encode_list(key, ops).unwrap(),
        };
        let answer = self.post("/deliver", "application/octet-stream", &self.packet(&content, seed)).await;
        assert_eq!(answer.status, 202);
    }

    /// Delivers an operation as JSON.
    pub async fn deliver_json(&self, topic: &TopicId, op: &[u8]) -> Result<Answer, std::io::Error> {
        let body = json!({ "topic_hex": topic.to_string(), "op_base64": STANDARD.encode(op) }).to_string();
        request(self.address, "POST", "/deliver", &[("Content-Type", "application/json")], body.as_bytes())
            .await
    }

    pub async fn post(&self, path: &str, kind: &str, body: &[u8]) -> Answer {
        request(self.address, "POST", path, &[("Content-Type", kind)], body).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path, &[], &[]).await.unwrap()
    }

    pub async fn head(&self, topic: &TopicId) -> Value {
        self.get(&format!("/topic/{topic}/head")).await.json()
    }

    /// One number from the metrics.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = request(self.admin, "GET", "/metrics", &[], &[]).await.unwrap().text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
    }

    /// Waits until a number from the metrics is at least `least`.
    pub async fn metric_reaches(&self, name: &str, least: u64) {
        eventually(name, async || self.metric(name).await >= least).await;
    }

    /// Waits until a topic's log has this head.
    pub async fn head_reaches(&self, topic: &TopicId, head: u64) {
        eventually("head", async || self.head(topic).await["head"] == head).await;
    }

    /// Waits until a topic's log has reached this head or passed it.
    pub async fn head_reaches_at_least(&self, topic: &TopicId, head: u64) {
        eventually("head", async || self.head(topic).await["head"].as_u64() >= Some(head)).await;
    }

    pub async fn subscribe(&self, topic: &TopicId, query: &str) -> Client {
        self.try_subscribe(topic, query).await.unwrap()
    }

    pub async fn try_subscribe(&self, topic: &TopicId, query: &str) -> Result<Client, tungstenite::Error> {
        let mut request = format!("ws://{}/topic/{topic}?{query}", self.address).into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", SUBPROTOCOL.parse().unwrap());
        let (socket, response) = tokio_tungstenite::connect_async(request).await?;
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], SUBPROTOCOL);
        Ok(Client::new(socket, *topic, self.key()))
    }

    /// Subscribes over a connection that is open already.
    pub async fn subscribe_over(&self, stream: TcpStream, topic: &TopicId) -> Client {
        let request = format!("ws://{}/topic/{topic}", self.address);
        let mut request = request.into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", SUBPROTOCOL.parse().unwrap());
        let stream = MaybeTlsStream::Plain(stream);
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        Client::new(socket, *topic, self.key())
    }

    pub async fn subscribe_json(&self, topic: &TopicId, query: &str) -> Socket {
        let url = format!("ws://{}/topic/{topic}?{query}", self.address);
        tokio_tungstenite::connect_async(url).await.unwrap().0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
pub use tokio_tungstenite::MaybeTlsStream;

/// A connection whose receiving side takes little before it is read.
pub async fn small_stream(to: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(65_536).unwrap();
    socket.connect(to).await.unwrap()
}

/// Asks again and again until the answer is yes.
pub async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{what} did not come true"));
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase();
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found.to_ascii_lowercase() == name).then_some(value.trim())
        })
    }
}

/// One HTTP/1.1 request on a connection of its own.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if method == "POST"
        && !headers.iter().any(|(name, _)| *name == "Content-Length" || *name == "Transfer-Encoding")
    {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    // A server that refuses early may cut the connection while the body is still on its way.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else {
        return Err(read.err().unwrap_or_else(|| std::io::ErrorKind::UnexpectedEof.into()));
    };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Answer { status, head, body: answer.split_off(end + 4) })
}

/// A client that follows the protocol and checks everything it gets.
pub struct Client {
    pub socket: Socket,
    topic: TopicId,
    key: VerifyingKey,
    pub generation: Generation,
    /// All operations received, in order.
    pub ops: Vec<SequencedOp>,
    /// The last seq received or skipped.
    pub cursor: Seq,
    pub chain: Chain,
    pub heads: usize,
}

impl Client {
    pub fn new(socket: Socket, topic: TopicId, key: VerifyingKey) -> Self {
        let generation = Generation([0; 16]);
        let chain = Chain::start(&topic, &generation);
        Self { socket, topic, key, generation, ops: Vec::new(), cursor: Seq(0), chain, heads: 0 }
    }

    /// Goes on where another client stopped.
    pub fn resume(mut self, other: &Client) -> Self {
        (self.generation, self.cursor, self.chain) = (other.generation, other.cursor, other.chain);
        self
    }

    /// The query of a reconnect.
    pub fn query(&self) -> String {
        let chain = hex::encode(self.chain.prefix());
        format!("since={}&generation={}&chain={chain}", self.cursor, self.generation)
    }

    /// The next frame, checked and taken into account.
    pub async fn next(&mut self) -> Frame {
        self.next_or_code().await.unwrap_or_else(|code| panic!("closed with {code}"))
    }

    /// The same, or the code the server closes with.
    pub async fn next_or_code(&mut self) -> Result<Frame, u16> {
        match self.message().await {
            Message::Binary(bytes) => {
                let frame = Frame::decode(bytes).unwrap();
                self.take(&frame);
                Ok(frame)
            }
            Message::Close(Some(close)) => Err(close.code.into()),
            other => panic!("not a frame: {other:?}"),
        }
    }

    pub async fn message(&mut self) -> Message {
        let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a message in time");
        next.expect("the socket stays open").expect("the socket is well")
    }

    fn take(&mut self, frame: &Frame) {
        match frame {
            Frame::Hello { generation, .. } if self.cursor == Seq(0) => self.start(*generation),
            Frame::Hello { .. } | Frame::Signal(_) | Frame::Slow { .. } => {}
            Frame::Reset { generation, .. } => self.start(*generation),
            Frame::Gap { from, to, chain } => {
                assert_eq!(*from, Seq(self.cursor.0 + 1));
                (self.cursor, self.chain) = (*to, *chain);
            }
            Frame::Ops(ops) => {
                for op in ops {
                    assert_eq!(op.seq, Seq(self.cursor.0 + 1), "missed or doubled");
                    self.cursor = op.seq;
                    self.chain = self.chain.next(op.seq, &EnvelopeHash::of(&op.op));
                    self.ops.push(op.clone());
                }
            }
            Frame::Ready(head) | Frame::Head(head) => self.check(head),
        }
    }

    fn start(&mut self, generation: Generation) {
        self.generation = generation;
        self.cursor = Seq(0);
        self.chain = Chain::start(&self.topic, &generation);
    }

    fn check(&mut self, head: &SignedHead) {
        assert_eq!((head.head, head.chain), (self.cursor, self.chain));
        assert!(head.verify(&self.key, &self.topic, &self.generation));
        self.heads += 1;
    }

    /// Takes frames up to `ready` and gives them.
    pub async fn ready(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            frames.push(self.next().await);
            if matches!(frames.last(), Some(Frame::Ready(_))) {
                return frames;
            }
        }
    }

    /// Takes frames until the cursor is at `seq`.
    pub async fn reach(&mut self, seq: u64) {
        while self.cursor.0 < seq {
            self.next().await;
        }
    }

    pub fn bytes(&self) -> Vec<Bytes> {
        self.ops.iter().map(|op| op.op.clone()).collect()
    }

    /// The code the server closes with.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            if let Message::Close(Some(close)) = self.message().await {
                return close.code.into();
            }
        }
    }

    pub async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }
}

/// A subscribe request for a raw connection.
pub fn upgrade_head(topic: &TopicId) -> String {
    format!(
        "GET /topic/{topic} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// The next JSON frame.
pub async fn next_json(socket: &mut Socket) -> Value {
    next_json_or_code(socket).await.unwrap_or_else(|code| panic!("closed with {code}"))
}

/// The same, or the code the server closes with.
pub async fn next_json_or_code(socket: &mut Socket) -> Result<Value, u16> {
    let next = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a message in time");
    match next.expect("the socket stays open").expect("the socket is well") {
        Message::Text(text) => Ok(serde_json::from_str(text.as_str()).unwrap()),
        Message::Close(Some(close)) => Err(close.code.into()),
        other => panic!("not JSON: {other:?}"),
    }
}

pub fn write_key(seed: u8) -> WriteKey {
    WriteKey::from_seed([seed; 32])
}
