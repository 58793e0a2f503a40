//! Relays as real processes, and around them small HTTP servers that play the other nodes.

#![allow(dead_code, reason = "each test program uses a part")]

mod address;
pub mod sync;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use delta_core::entropy::SeededEntropy;
use delta_core::identity::NodeId;
use delta_core::onion::directory::{ListBody, ListEntry, NodeKind, NodeRecord, RecordObject, sign_list};
use delta_core::onion::v3::{self, Hop, OnionSecret, Terminal};
use ed25519_dalek::SigningKey;

pub use address::free_address;

/// Longer than anything here takes; only a broken relay reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// A pause between two looks at something that changes by itself.
const LOOK: Duration = Duration::from_millis(10);

/// A request a [`Server`] got.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
}

/// A small HTTP server: each connection has a thread, each request goes to the handler.
pub struct Server {
    pub address: SocketAddr,
    requests: mpsc::Receiver<Request>,
}

impl Server {
    pub fn start(handler: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel();
        let handler = Arc::new(handler);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (handler, sender) = (Arc::clone(&handler), sender.clone());
                std::thread::spawn(move || {
                    let mut writer = stream.try_clone().unwrap();
                    let mut reader = BufReader::new(stream);
                    while let Some(request) = read_request(&mut reader) {
                        let _ = sender.send(request.clone());
                        handler(&request, &mut writer);
                        if request.head.contains("connection: close\r\n") {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, requests }
    }

    /// Answers 202 to everything.
    pub fn accepting() -> Self {
        Self::start(|_, stream| answer(stream, "202 Accepted", ""))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request.
    pub fn next(&self) -> Request {
        self.requests.recv_timeout(PATIENCE).unwrap()
    }

    /// Requests that came and were not looked at.
    pub fn rest(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Request { head, body })
}

pub fn answer(stream: &mut TcpStream, status: &str, headers: &str) {
    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n{headers}\r\n");
}

/// Sends raw bytes on a connection of its own and reads until the other side closes.
pub fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The other side may refuse before everything is written.
    let _ = stream.write_all(request);
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

/// POSTs a packet to /hop and returns the whole answer.
pub fn post(address: SocketAddr, packet: &[u8]) -> String {
    let len = packet.len();
    let head = format!("POST /hop HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n");
    exchange(address, &[head.as_bytes(), packet].concat())
}

/// The body of a GET.
pub fn get(address: SocketAddr, path: &str) -> String {
    let text =
        exchange(address, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes());
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap_or("0").parse().unwrap()
}

/// Looks again and again until there is something to find.
fn poll<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::sleep(LOOK);
    }
    None
}

/// Waits until `look` finds something.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    poll(look).unwrap_or_else(|| panic!("waited in vain: {what}"))
}

/// A node of the directory that the test plays itself.
pub struct Played {
    pub identity: SigningKey,
    pub onion: OnionSecret,
    pub url: String,
    pub kind: NodeKind,
}

impl Played {
    pub fn new(seed: u8, kind: NodeKind, url: String) -> Self {
        let onion = OnionSecret::from_bytes(u16::from(seed), [seed; 32]);
        Self { identity: SigningKey::from_bytes(&[seed; 32]), onion, url, kind }
    }

    pub fn id(&self) -> NodeId {
        NodeId(self.identity.verifying_key().to_bytes())
    }

    pub fn hop(&self) -> Hop {
        Hop { node: self.id(), key: self.onion.public(), delay: 0 }
    }

    pub fn record(&self) -> RecordObject {
        let record = NodeRecord {
            kind: self.kind,
            id: self.id(),
            url: Some(self.url.clone()),
            keys: vec![self.onion.public()],
            expires: 4_000_000_000,
            max_class: Some(4),
            operator: None,
            tunnel: false,
        };
        RecordObject::sign(&self.identity, &record, 1).unwrap()
    }

    /// What a packet that ends here carries.
    pub fn read(&self, packet: &[u8]) -> Vec<u8> {
        match v3::open(std::slice::from_ref(&self.onion), packet.to_vec()).unwrap().parse().unwrap() {
            v3::Peeled::Deliver { content } => content,
            other => panic!("{other:?}"),
        }
    }
}

/// A folder with directory files.
pub struct Net {
    pub folder: tempfile::TempDir,
    signer: SigningKey,
}

impl Net {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, signer: SigningKey::from_bytes(&[200; 32]) }
    }

    pub fn list(&self) -> PathBuf {
        self.folder.path().join("list.json")
    }

    pub fn records(&self) -> PathBuf {
        self.folder.path().join("records.json")
    }

    /// Signs and writes list and records.
    pub fn write(&self, version: u64, records: &[RecordObject]) {
        let entry = |record: &RecordObject| {
            let record = record.verify().unwrap();
            ListEntry { kind: record.kind, id: record.id, operator: None, url: None, max_class: None }
        };
        let nodes = records.iter().map(entry).collect();
        let body = ListBody { version, expires: 4_000_000_000, nodes };
        let values: Vec<_> = records.iter().map(RecordObject::to_value).collect();
        replace(&self.records(), &serde_json::Value::from(values).to_string());
        replace(&self.list(), &sign_list(std::slice::from_ref(&self.signer), &body));
    }

    pub fn trust(&self) -> String {
        hex::encode(self.signer.verifying_key().as_bytes())
    }

    /// Prepares a relay's data folder and signs its record.
    pub fn relay(&self, name: &str) -> Relay {
        self.relay_behind(name, free_address(), None)
    }

    /// The same, with a record that names another address than the one it listens on.
    pub fn relay_behind(&self, name: &str, address: SocketAddr, url: Option<String>) -> Relay {
        self.relay_signed(name, address, url, &[])
    }

    /// The same, its record signed with further options.
    pub fn relay_signed(
        &self,
        name: &str,
        address: SocketAddr,
        url: Option<String>,
        options: &[&str],
    ) -> Relay {
        let data = self.folder.path().join(name);
        let url = url.unwrap_or_else(|| format!("http://{address}"));
        let output = program()
            .args(["record", "--allow-private", "--url", &url])
            .args(options)
            .arg("--data")
            .arg(&data)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let record = RecordObject::parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
        Relay { data, address, admin: free_address(), record, process: None, log: Arc::default() }
    }
}

fn replace(path: &Path, text: &str) {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(temporary, path).unwrap();
}

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_delta-relay"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A relay process.
pub struct Relay {
    pub data: PathBuf,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub record: RecordObject,
    process: Option<Child>,
    pub log: Arc<Mutex<String>>,
}

impl Relay {
    pub fn id(&self) -> NodeId {
        self.record.verify().unwrap().id
    }

    pub fn hop(&self, delay: u16) -> Hop {
        let record = self.record.verify().unwrap();
        Hop { node: record.id, key: record.keys[0], delay }
    }

    /// Starts it without a mixing window and waits until it listens.
    pub fn start(&mut self, net: &Net) {
        self.start_with(net, &["--batch-ms", "0", "--allow-private"]);
    }

    pub fn start_with(&mut self, net: &Net, options: &[&str]) {
        let mut child = program()
            .args(["--listen", &self.address.to_string(), "--admin", &self.admin.to_string()])
            .args(["--trust", &net.trust()])
            .arg("--data")
            .arg(&self.data)
            .arg("--directory")
            .arg(net.list())
            .arg("--records")
            .arg(net.records())
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        self.process = Some(child);
        let log = Arc::clone(&self.log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let (ready, wait) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if line.starts_with("admin on ") {
                    let _ = ready.send(());
                }
            }
        });
        // An error means that the process has ended.
        wait.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{}", self.log.lock().unwrap()));
    }

    /// How often an event was counted.
    pub fn count(&self, event: &str) -> u64 {
        let page = get(self.admin, "/metrics");
        let values: HashMap<_, _> = page.lines().filter_map(|line| line.rsplit_once(' ')).collect();
        values[format!("delta_relay_events_total{{event=\"{event}\"}}").as_str()].parse().unwrap()
    }

    /// Waits until an event was counted `n` times.
    pub fn wait_count(&self, event: &str, n: u64) {
        poll(|| (self.count(event) >= n).then_some(()));
        let (page, log) = (get(self.admin, "/metrics"), self.log.lock().unwrap());
        assert_eq!(self.count(event), n, "{event}\n{page}\n{log}");
    }

    pub fn process_id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Waits for the process.
    pub fn wait(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        until("the process ends", || process.try_wait().unwrap())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// A packet over `hops`.
pub fn wrap(hops: &[Hop], content: &[u8], seed: u32) -> Vec<u8> {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&seed.to_be_bytes());
    v3::wrap(hops, Terminal::Deliver(content), &mut SeededEntropy::new(key)).unwrap()
}
