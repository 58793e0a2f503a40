//! The original packets, end to end: three relays and a server that take version 2, devices that agree to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use delta_core::NodeId;
use delta_core::onion::directory::{ListBody, ListEntry, NodeKind, NodeRecord, RecordObject, sign_list};
use ed25519_dalek::SigningKey;
use tempfile::TempDir;

use crate::address::free_address;
use crate::support::{delta, json_lines, texts, ticket};

/// A program that ends with its test.
struct Node {
    role: &'static str,
    data: PathBuf,
    listen: SocketAddr,
    admin: SocketAddr,
    record: RecordObject,
    v2_only: bool,
    child: Option<Child>,
}

impl Node {
    fn prepare(folder: &Path, role: &'static str, number: usize, v2_only: bool) -> Self {
        let data = folder.join(format!("{role}-{number}"));
        let [listen, admin] = [(); 2].map(|()| free_address());
        let mut record = delta();
        record.args([role, "record", "--allow-private", "--operator"]).arg(format!("{role} {number}"));
        record.arg("--data").arg(&data).arg("--url").arg(format!("http://{listen}"));
        record.args(v2_only.then_some("--v2-only"));
        let output = record.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let record = RecordObject::parse(std::str::from_utf8(&output.stdout).unwrap().trim()).unwrap();
        Self { role, data, listen, admin, record, v2_only, child: None }
    }

    fn id(&self) -> NodeId {
        self.record.verify().unwrap().id
    }

    fn start(&mut self, more: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_delta"));
        command.args([self.role, "--allow-private", "--accept-v2", "--data"]).arg(&self.data);
        command.arg("--listen").arg(self.listen.to_string()).arg("--admin").arg(self.admin.to_string());
        command.args(self.v2_only.then_some("--v2-only"));
        command.args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        while TcpStream::connect(self.listen).is_err() || TcpStream::connect(self.admin).is_err() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the {} ended: {ended:?}", self.role);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Another record of the node's, that no program of ours would sign.
    fn forged(&self, change: impl FnOnce(&mut NodeRecord), seq: u64) -> RecordObject {
        let seed = std::fs::read_to_string(self.data.join("identity.seed")).unwrap();
        let seed: [u8; 32] = hex::decode(seed.trim()).unwrap().try_into().unwrap();
        let mut record = self.record.verify().unwrap();
        change(&mut record);
        RecordObject::sign(&SigningKey::from_bytes(&seed), &record, seq).unwrap()
    }

    /// One that has lost its onion keys.
    fn downgraded(&self) -> RecordObject {
        self.forged(|record| record.keys.clear(), self.record.seq + 1000)
    }

    /// The record of three days ago.
    fn old(&self) -> RecordObject {
        self.forged(|_| {}, self.record.seq - 3 * 24 * 60 * 60)
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

/// Three relays and a server that take version 2, and perhaps nothing else.
struct Original {
    dir: TempDir,
    relays: Vec<Node>,
    server: Node,
}

impl Original {
    fn start(v2_only: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Node::prepare(dir.path(), "sync", 0, v2_only);
        let relay = |number| Node::prepare(dir.path(), "relay", number, v2_only);
        let mut relays: Vec<Node> = (1..=3).map(relay).collect();
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
        write("downgraded.json", set(all().map(|node| node.downgraded().to_json()).collect()));
        write("old.json", set(all().map(|node| node.old().to_json()).collect()));
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

    /// Every relay carried so many packets of version 2, and none of version 3.
    fn carried_v2(&self, at_least: u64) {
        for relay in &self.relays {
            assert!(relay.count("accepted_v2") >= at_least);
            assert_eq!(relay.count("accepted"), 0, "and nothing of version 3");
        }
    }
}

#[test]
fn a_device_that_agrees_sends_version_2_through_every_relay_and_reads_it_back() {
    let network = Original::start(true);
    let output = network.device("c", &ticket(), "records.json", &["send", "no"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "nobody sends version 2 unasked");
    assert!(said.contains("no onion key"), "{said}");

    let ticket = ticket();
    let send = ["send", "--accept-v2", "one", "two", "three"];
    let sent = json_lines(&mut network.device("a", &ticket, "records.json", &send));
    let mut seqs: Vec<u64> = sent.iter().map(|sent| sent["seq"].as_u64().unwrap()).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2, 3]);
    let tail = ["tail", "--once", "--last", "10", "--accept-v2"];
    let shown = json_lines(&mut network.device("b", &ticket, "records.json", &tail));
    assert_eq!(texts(&shown), ["one", "two", "three"]);
    network.carried_v2(3);
}

#[test]
fn a_renewal_changes_nothing_where_all_speak_version_2_only() {
    let network = Original::start(true);
    let ticket = ticket();
    // With records of three days ago nothing is sent before a relay has given the new ones.
    for text in ["renewed", "and still the same"] {
        json_lines(&mut network.device("a", &ticket, "old.json", &["send", "--accept-v2", text]));
    }
    network.carried_v2(2);
    let tail = ["tail", "--once", "--last", "10", "--accept-v2"];
    let shown = json_lines(&mut network.device("b", &ticket, "old.json", &tail));
    assert_eq!(texts(&shown), ["renewed", "and still the same"]);
}

#[test]
fn case_33_a_node_with_onion_keys_is_not_believed_to_have_none() {
    let network = Original::start(false);
    let ticket = ticket();
    json_lines(&mut network.device("b", &ticket, "records.json", &["send", "with keys"]));
    let again = ["send", "--accept-v2", "--timeout", "1", "without"];
    let output = network.device("b", &ticket, "downgraded.json", &again).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("has lost the node's onion key"), "{said}");
    assert_eq!(network.relays.iter().map(|relay| relay.count("accepted_v2")).sum::<u64>(), 0);
}
