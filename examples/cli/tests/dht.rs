//! A relay that moved is found through the DHT: a few nodes on this machine, never the public one.

#[path = "../../../servers/relay/tests/support/address.rs"]
mod address;

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use delta_core::onion::directory::{ListBody, ListEntry, RecordObject, sign_list};
use ed25519_dalek::SigningKey;
use pkarr::mainline::Testnet;

use address::free_address;

fn delta() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_delta"));
    command.stdin(Stdio::null());
    command
}

fn record(data: &Path, address: SocketAddr) -> RecordObject {
    let mut command = delta();
    command.args(["relay", "record", "--allow-private", "--operator", "one", "--data"]).arg(data);
    let output = command.arg("--url").arg(format!("http://{address}")).output().unwrap();
    RecordObject::parse(std::str::from_utf8(&output.stdout).unwrap().trim()).unwrap()
}

struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_relay_that_moved_is_found_where_it_says_it_is_and_asked_there() {
    let dir = tempfile::tempdir().unwrap();
    let (data, list, records) =
        (dir.path().join("relay"), dir.path().join("list.json"), dir.path().join("records.json"));
    let (was, is) = (free_address(), free_address());
    let old = record(&data, was);
    let key = SigningKey::from_bytes(&[5; 32]);
    let of = old.verify().unwrap();
    let entry = ListEntry { kind: of.kind, id: of.id, operator: of.operator, url: None, max_class: None };
    let body = ListBody { version: 1, expires: of.expires, nodes: vec![entry] };
    std::fs::write(&list, sign_list(std::slice::from_ref(&key), &body)).unwrap();
    std::fs::write(&records, format!("[{}]", old.to_json())).unwrap();
    let trust = hex::encode(key.verifying_key().to_bytes());
    let testnet = Testnet::new(5).unwrap();
    let bootstrap = testnet.bootstrap.join(",");

    let mut relay = delta();
    relay.args(["relay", "--allow-private", "--batch-ms", "0", "--trust", &trust, "--data"]).arg(&data);
    relay.arg("--directory").arg(&list).arg("--records").arg(&records);
    relay.arg("--listen").arg(is.to_string()).arg("--url").arg(format!("http://{is}"));
    relay.args(["--dht", "--dht-bootstrap", &bootstrap]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut relay = Relay(relay.spawn().unwrap());
    while TcpStream::connect(is).is_err() {
        assert!(relay.0.try_wait().unwrap().is_none(), "the relay ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    let refresh = |more: &[&str]| -> Output {
        let mut command = delta();
        command.args(["directory", "refresh", "--allow-private", "--trust", &trust]);
        command.arg("--directory").arg(&list).arg("--records").arg(&records).args(more).output().unwrap()
    };
    let url = || {
        let text = std::fs::read_to_string(&records).unwrap();
        let values: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let [value] = &values[..] else { panic!("one record") };
        RecordObject::from_value(value.clone()).unwrap().verify().unwrap().url.unwrap()
    };
    refresh(&[]);
    assert_eq!(url(), format!("http://{was}"), "nobody answers there, so the last record is kept");
    // It has just begun to publish.
    for attempt in 0.. {
        let output = refresh(&["--dht", "--dht-bootstrap", &bootstrap]);
        if url() == format!("http://{is}") {
            break;
        }
        assert!(attempt < 1_000, "{}", String::from_utf8_lossy(&output.stderr));
    }
}
