//! One sync server and three relays as child processes on loopback, each behind a tap.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use delta_client::RelayHops;
use delta_core::NodeId;
use delta_core::entropy::Entropy;
use delta_core::onion::directory::{ListBody, ListEntry, NodeKind, RecordObject, sign_list};
use ed25519_dalek::SigningKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::hostile::Hostile;
use super::program::{Address, Program, Watch};
use super::search::Needles;
use super::tap::Tap;
use crate::platform::{PlatformEntropy, now};

/// Relays on every route; a hostile one comes on top.
pub const RELAYS: usize = 3;
/// How long a program may take until it answers.
const START: Duration = Duration::from_secs(20);
/// Pause between two questions whether it does.
const ASK: Duration = Duration::from_millis(10);
/// How long the demo's list is valid, seconds.
const VALID_S: u64 = 24 * 3600;

/// The nodes; their programs are killed with it.
pub struct Cluster {
    /// The server first, then the relays.
    nodes: Vec<Node>,
    directory: Directory,
    watch: Watch,
}

/// What clients and relays are told.
struct Directory {
    list: String,
    records: String,
    trust: NodeId,
}

/// One program.
pub struct Node {
    /// For people: "sync server", "relay 1" …
    pub name: String,
    /// What is between it and the world.
    pub tap: Tap,
    /// Its data folder.
    pub data: PathBuf,
    role: &'static str,
    address: Address,
    record: RecordObject,
    log: PathBuf,
    program: Option<Program>,
}

impl Cluster {
    /// Makes identities and records and signs a list of them, each with an operator of its own. Nothing runs yet; what
    /// will and then ends unasked is reported to `watch`.
    pub async fn prepare(
        folder: &Path,
        needles: &Arc<Needles>,
        watch: Watch,
        hostile: bool,
    ) -> anyhow::Result<Self> {
        let mut nodes = vec![Node::prepare(folder, "sync", "sync server".into(), needles, None).await?];
        for number in 1..=RELAYS + usize::from(hostile) {
            let hostile = (number > RELAYS).then(Arc::<Hostile>::default);
            nodes.push(Node::prepare(folder, "relay", format!("relay {number}"), needles, hostile).await?);
        }
        let directory = sign(&nodes)?;
        std::fs::write(folder.join("list.json"), &directory.list)?;
        std::fs::write(folder.join("records.json"), &directory.records)?;
        Ok(Self { nodes, directory, watch })
    }

    /// Starts everything and waits until it answers.
    pub async fn start(&mut self, folder: &Path) -> anyhow::Result<()> {
        self.run(folder, self.nodes.len()).await
    }

    /// The relays, as `init_sync` takes them.
    pub fn hops(&self) -> RelayHops {
        let Directory { list, records, trust } = &self.directory;
        let (list, records) = (list.clone(), records.clone());
        RelayHops::Directory { list, records, trusted_keys: vec![*trust], threshold: 1 }
    }

    /// The server, as `init_sync` takes it.
    pub fn sync_url(&self) -> anyhow::Result<String> {
        let id = self.server().record.verify()?.id;
        Ok(format!("http://{}#{id}", self.server().tap.address()))
    }

    /// The key that signed the list.
    pub const fn trust(&self) -> NodeId {
        self.directory.trust
    }

    /// The server.
    pub fn server(&self) -> &Node {
        &self.nodes[0]
    }

    /// What these nodes are called.
    pub fn names(&self, ids: &[NodeId]) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for node in &self.nodes {
            if ids.contains(&node.record.verify()?.id) {
                names.push(node.name.clone());
            }
        }
        Ok(names)
    }

    /// All nodes, the server first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// SIGKILL for the server and a relay.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.end(2).await
    }

    /// Ends all of them and waits until they are gone.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.end(self.nodes.len()).await
    }

    /// SIGKILL for the first `count`.
    async fn end(&mut self, count: usize) -> anyhow::Result<()> {
        for node in self.nodes.iter_mut().take(count) {
            if let Some(program) = node.program.take() {
                program.kill().await?;
            }
        }
        Ok(())
    }

    /// Starts them again at the same addresses.
    pub async fn revive(&mut self, folder: &Path) -> anyhow::Result<()> {
        self.run(folder, 2).await
    }

    /// Starts the first `count` and waits until they answer.
    async fn run(&mut self, folder: &Path, count: usize) -> anyhow::Result<()> {
        for index in 0..count {
            self.spawn(folder, index)?;
        }
        for node in self.nodes.iter().take(count) {
            node.until_it_answers().await?;
        }
        Ok(())
    }

    fn spawn(&mut self, folder: &Path, index: usize) -> anyhow::Result<()> {
        let trust = self.directory.trust.to_string();
        let node = &mut self.nodes[index];
        let mut command = program(node.role)?;
        command.arg("--data").arg(&node.data).args(["--listen", "127.0.0.1:0", "--allow-private"]);
        if node.role == "relay" {
            command.arg("--directory").arg(folder.join("list.json"));
            command.arg("--records").arg(folder.join("records.json"));
            command.args(["--trust", &trust, "--batch-ms", "0"]);
        }
        let address = Arc::clone(&node.address);
        node.program = Some(Program::start(&node.name, command, &node.log, self.watch.clone(), address)?);
        Ok(())
    }
}

impl Node {
    /// A tap, a data folder with an identity, and a signed record that names the tap's address.
    async fn prepare(
        folder: &Path,
        role: &'static str,
        name: String,
        needles: &Arc<Needles>,
        hostile: Option<Arc<Hostile>>,
    ) -> anyhow::Result<Self> {
        let address = Address::default();
        let tap = Tap::start(address.subscribe(), Arc::clone(needles), hostile).await?;
        let data = folder.join(name.replace(' ', "-"));
        let log = folder.join(format!("{}.log", name.replace(' ', "-")));
        let mut command = program(role)?;
        command.arg("record").arg("--data").arg(&data).arg("--url").arg(format!("http://{}", tap.address()));
        command.args(["--operator", &name, "--allow-private"]);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
        ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let record = RecordObject::parse(std::str::from_utf8(&output.stdout)?.trim())?;
        Ok(Self { name, tap, data, role, address, record, log, program: None })
    }

    /// A program that ends instead is reported by its keeper.
    async fn until_it_answers(&self) -> anyhow::Result<()> {
        let answers = async {
            while self.get("/health").await.is_err() {
                tokio::time::sleep(ASK).await;
            }
        };
        let in_time = tokio::time::timeout(START, answers).await;
        in_time.or_else(|_| bail!("{} does not answer within {} s", self.name, START.as_secs()))
    }

    /// Whether this is its id.
    pub fn is(&self, id: &NodeId) -> bool {
        self.record.verify().is_ok_and(|record| record.id == *id)
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.program.as_ref().and_then(Program::pid)
    }

    /// Asks the program itself, past its tap.
    pub async fn get(&self, path: &str) -> anyhow::Result<String> {
        let address = *self.address.borrow();
        get(address.with_context(|| format!("{} does not listen", self.name))?, path).await
    }
}

/// This program as `delta relay` or `delta sync`: nothing else has to be found or installed.
fn program(role: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("the path of this program")?);
    command.arg(role);
    // The environment of whoever runs the demo must not configure its servers.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DELTA_") {
            command.env_remove(name);
        }
    }
    command.env("RUST_LOG", "warn");
    Ok(command)
}

/// A list of all nodes, each with an operator of its own, signed by a key made for it.
fn sign(nodes: &[Node]) -> anyhow::Result<Directory> {
    let key = SigningKey::from_bytes(&PlatformEntropy.array()?);
    let entry = |node: &Node| {
        let record = node.record.verify()?;
        let kind = if node.role == "relay" { NodeKind::Relay } else { NodeKind::Sync };
        let operator = Some(node.name.clone());
        anyhow::Ok(ListEntry { kind, id: record.id, operator, url: None, max_class: None })
    };
    let nodes_body = nodes.iter().map(entry).collect::<Result<_, _>>()?;
    let body = ListBody { version: 1, expires: now().0 / 1000 + VALID_S, nodes: nodes_body };
    let trust = NodeId(key.verifying_key().to_bytes());
    let records: Vec<String> = nodes.iter().map(|node| node.record.to_json()).collect();
    Ok(Directory { list: sign_list(&[key], &body), records: format!("[{}]", records.join(",")), trust })
}

/// The body of an HTTP answer with status 200.
async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "GET {path}: {}", head.lines().next().unwrap_or_default());
    Ok(body.to_owned())
}
