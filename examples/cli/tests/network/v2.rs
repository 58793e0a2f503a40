//! The original packets, end to end: three relays and a server that take version 2, devices that agree to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use delta_core::NodeId;
use delta_core::onion::directory::{ListBody, ListEntry, NodeKind, NodeRecord, RecordObject, sign_list};
use ed25519_dalek::SigningKey;
use tempfile::TempDir;

use crate::support::{delta, json_lines, texts, ticket};

/// A program that ends with its test.
struct Node {
    role: &'static str,
    data: PathBuf,
    listen: SocketAddr,
    admin: SocketAddr,
    record: RecordObject,
    child: Option<Child>,
}

impl Node {
    fn prepare(folder: &Path, role: &'static str, number: usize) -> Self {
        let data = folder.join(format!("{role}-{number}"));
        let [listen, admin] = [(); 2].map(|()| free_address());
        let mut record = delta();
        record.args([role, "record", "--allow-private", "--operator"]).arg(format!("{role} {number}"));
        record.arg("--data").arg(&data).arg("--url").arg(format!("http://{listen}"));
        let output = record.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let record = RecordObject::parse(std::str::from_utf8(&output.stdout).unwrap().trim()).unwrap();
        Self { role, data, listen, admin, record, child: None }
    }

    fn id(&self) -> NodeId {
        self.record.verify().unwrap().id
    }

    fn start(&mut self, more: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_delta"));
        command.args([self.role, "--allow-private", "--accept-v2", "--data"]).arg(&self.data);
        command.arg("--listen").arg(self.listen.to_string()).arg("--admin").arg(self.admin.to_string());
        command.args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        while TcpStream::connect(self.listen).is_err() || TcpStream::connect(self.admin).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What a node says of itself that speaks only version 2: the same, without onion keys.
    fn original_record(&self) -> RecordObject {
        let seed = std::fs::read_to_string(self.data.join("identity.seed")).unwrap();
        let seed: [u8; 32] = hex::decode(seed.trim()).unwrap().try_into().unwrap();
        let record = NodeRecord { keys: Vec::new(), ..self.record.verify().unwrap() };
        RecordObject::sign(&SigningKey::from_bytes(&seed), &record, self.record.seq + 1000).unwrap()
    }

    fn count(&self, event: &str) -> u64 {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let name = format!("delta_relay_events_total{{event=\"{event}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Three relays and a server.
struct Original {
    dir: TempDir,
    relays: Vec<Node>,
    server: Node,
}

impl Original {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Node::prepare(dir.path(), "sync", 0);
        let mut relays: Vec<Node> =
            (1..=3).map(|number| Node::prepare(dir.path(), "relay", number)).collect();
        let key = SigningKey::from_bytes(&[9; 32]);
        let all = || relays.iter().chain([&server]);
        let entry = |node: &Node| ListEntry {
            kind: if node.role == "relay" { NodeKind::Relay } else { NodeKind::Sync },
            id: node.id(),
            operator: node.record.verify().unwrap().operator,
            url: None,
            max_class: None,
        };
        let expires = server.record.verify().unwrap().expires;
        let body = ListBody { version: 1, expires, nodes: all().map(entry).collect() };
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        let set = |records: Vec<String>| format!("[{}]", records.join(","));
        write("list.json", sign_list(std::slice::from_ref(&key), &body));
        write("records.json", set(all().map(|node| node.record.to_json()).collect()));
        write("original.json", set(all().map(|node| node.original_record().to_json()).collect()));
        server.start(&[]);
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (list, records, id) = (path("list.json"), path("records.json"), server.id().to_string());
        let trust = hex::encode(key.verifying_key().to_bytes());
        for relay in &mut relays {
            let directory = ["--directory", &list, "--records", &records, "--trust", &trust];
            relay.start(&[&directory[..], &["--batch-ms", "0", "--v2-server", &id]].concat());
        }
        Self { dir, relays, server }
    }

    /// A command of a device that knows these records.
    fn device(&self, name: &str, ticket: &str, records: &str, arguments: &[&str]) -> Command {
        let mut command = delta();
        command.args(arguments);
        command.arg("--db").arg(self.dir.path().join(format!("{name}.db")));
        command.arg("--key").arg(hex::encode([name.as_bytes()[0]; 32])).args(["--ticket", ticket]);
        command.arg("--sync").arg(format!("http://{}#{}", self.server.listen, self.server.id()));
        command.arg("--records").arg(self.dir.path().join(records)).arg("--allow-plaintext");
        command
    }
}

#[test]
fn a_device_that_agrees_sends_version_2_through_every_relay_and_reads_it_back() {
    let network = Original::start();
    let ticket = ticket();
    let sent = json_lines(&mut network.device(
        "a",
        &ticket,
        "original.json",
        &["send", "--accept-v2", "one", "two", "three"],
    ));
    let mut seqs: Vec<u64> = sent.iter().map(|sent| sent["seq"].as_u64().unwrap()).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2, 3]);
    let tail = ["tail", "--once", "--last", "10", "--accept-v2"];
    let shown = json_lines(&mut network.device("b", &ticket, "original.json", &tail));
    assert_eq!(texts(&shown), ["one", "two", "three"]);
    for relay in &network.relays {
        assert!(relay.count("accepted_v2") >= 3);
        assert_eq!(relay.count("accepted"), 0, "and nothing of version 3");
    }
}

#[test]
fn nobody_sends_version_2_unasked_and_no_node_is_downgraded() {
    let network = Original::start();
    let output = network.device("a", &ticket(), "original.json", &["send", "no"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("no onion key"), "{said}");

    // One that has seen the nodes' keys does not believe that they have none.
    let ticket = ticket();
    json_lines(&mut network.device("b", &ticket, "records.json", &["send", "with keys"]));
    let again = ["send", "--accept-v2", "--timeout", "1", "without"];
    let output = network.device("b", &ticket, "original.json", &again).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("has lost the node's onion key"), "{said}");
    assert_eq!(network.relays.iter().map(|relay| relay.count("accepted_v2")).sum::<u64>(), 0);
}
