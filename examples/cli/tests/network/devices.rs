//! A person with two devices, one of which is revoked, over real relays and a real server.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use delta_core::store::{Store, StoreOptions};
use serde_json::Value;

use crate::support::{Device, Network, json_lines, texts};

/// Times that everybody looks until keys have moved: reaching this is a failure, never a pass.
const LOOKS: usize = 100;

#[track_caller]
fn id(device: &Device, what: &str, arguments: &[&str]) -> String {
    json_lines(&mut device.command(arguments))[0][what].as_str().unwrap().to_owned()
}

/// What the app shows of a room, brought up to date.
#[track_caller]
fn shows(device: &Device, room: &str) -> Vec<String> {
    let messages = json_lines(&mut device.command(&["tail", "--once", "--last", "100", "--room", room]));
    texts(&messages).into_iter().map(str::to_owned).collect()
}

#[track_caller]
fn say(device: &Device, room: &str, text: &str) {
    json_lines(&mut device.command(&["send", "--room", room, text]));
}

/// Both devices at once: one shows a text, the other has read it. Gives the key of the new one.
pub fn pair(old: &Device, new: &Device) -> String {
    let mut command = old.command(&["device", "pair", "--yes", "--json"]);
    let mut host = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
    let mut next = || lines.next().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let Some(text) = next() else {
        let said = host.wait_with_output().unwrap().stderr;
        panic!("no pairing text: {}", String::from_utf8_lossy(&said));
    };
    let text = text["pairing"].as_str().unwrap().to_owned();
    json_lines(&mut new.command(&["device", "join", &text]));
    assert!(next().is_some_and(|asks| asks["code"].is_string()));
    let paired = next();
    let mut said = String::new();
    host.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(host.wait().unwrap().success(), "{said}");
    paired.expect("the new device's key")["device"].as_str().unwrap().to_owned()
}

/// Everybody's device is online once, in turn: what one does for the others is done.
fn everybody_looks(devices: &[&Device], space: &str) {
    for device in devices {
        device.command(&["member", "list", "--space", space]).output().unwrap();
    }
}

/// Until the first one's keys of the space and its room reached the last one, however slow the machine is.
fn until_moved(network: &Network, devices: &[&Device], space: &str, room: &str) {
    let moved = |log: &str| {
        let store = Store::open(network.folder().join("friend.db"), StoreOptions::default()).unwrap();
        let topics = store.reader().unwrap().topics_of_log(log.parse().unwrap()).unwrap();
        topics.last().is_some_and(|(epoch, _)| *epoch > 0)
    };
    for _ in 0..LOOKS {
        if moved(space) && moved(room) {
            return;
        }
        everybody_looks(devices, space);
    }
    panic!("the keys do not move");
}

#[test]
fn a_device_that_is_refused_hears_of_it() {
    let network = Network::start();
    let (old, new) = (network.keeper("old"), network.keeper("new"));
    let mut host = old.command(&["device", "pair", "--json"]);
    let host = host.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut host = host.spawn().unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let text = next()["pairing"].as_str().unwrap().to_owned();
    let mut guest = new.command(&["device", "join", "--json", &text]);
    let guest = guest.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let asks = next();
    host.stdin.take().unwrap().write_all(b"no\n").unwrap();
    let (host, guest) = (host.wait_with_output().unwrap(), guest.wait_with_output().unwrap());
    let shown: Value = serde_json::from_slice(&guest.stdout).unwrap();
    assert_eq!(shown["code"], asks["code"], "what the two people compare");
    let (said, heard) = (String::from_utf8_lossy(&host.stderr), String::from_utf8_lossy(&guest.stderr));
    assert_eq!((host.status.code(), guest.status.code()), (Some(1), Some(1)), "{said} {heard}");
    assert!(said.contains("nothing was handed over") && heard.contains("refused"), "{said} {heard}");
}

#[test]
fn a_revoked_device_reads_and_writes_nothing_any_more_and_the_other_goes_on() {
    let network = Network::start();
    let (old, new, friend) = (network.keeper("old"), network.keeper("new"), network.stranger("friend"));
    let space = id(&old, "space", &["space", "create", "--name", "Garden"]);
    let room = id(&old, "room", &["room", "create", "--space", &space, "--name", "Shed"]);
    let invitation = id(&old, "invitation", &["invite", "create", "--space", &space, "--once"]);
    assert_eq!(id(&friend, "space", &["invite", "accept", &invitation]), space);
    everybody_looks(&[&old, &friend, &old], &space);
    say(&friend, &room, "hello");

    let device = pair(&old, &new);
    everybody_looks(&[&new, &old, &new, &old], &space);
    say(&new, &room, "from my other device");
    everybody_looks(&[&old, &friend, &new], &space);
    let before = ["hello", "from my other device"];
    for device in [&old, &friend, &new] {
        assert_eq!(shows(device, &room), before);
    }

    let slip = old.command(&["device", "revoke", "--device", &"ab".repeat(32)]).output().unwrap();
    assert_eq!(slip.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&slip.stderr).contains("none of the person's devices"));
    json_lines(&mut old.command(&["device", "revoke", "--device", &device]));
    until_moved(&network, &[&old, &friend], &space, &room);
    say(&friend, &room, "without it");
    say(&old, &room, "as ever");
    let after = ["hello", "from my other device", "without it", "as ever"];
    assert_eq!(shows(&friend, &room), after);
    // Now it comes back, and hears of it: the server takes what it says before that, and nobody shows it.
    everybody_looks(&[&new], &space);
    let back = new.command(&["tail", "--once", "--last", "100", "--room", &room]).output().unwrap();
    let shown = String::from_utf8_lossy(&back.stdout).into_owned();
    assert!(!shown.contains("without it") && !shown.contains("as ever"), "{shown}");
    let refused = new.command(&["send", "--room", &room, "and now?"]).output().unwrap();
    assert!(!refused.status.success(), "{}", String::from_utf8_lossy(&refused.stdout));
    for device in [&old, &friend] {
        assert_eq!(shows(device, &room), after, "what it says does not count");
    }
    let listed = json_lines(&mut old.command(&["device", "list"]));
    let revoked: Vec<_> = listed.iter().filter(|row| row["revoked"] == true).collect();
    assert_eq!((revoked.len(), &revoked[0]["device"]), (1, &device.into()));
    // The person is as much a member as before.
    let members = json_lines(&mut friend.command(&["member", "list", "--space", &space]));
    assert_eq!(members.len(), 2);
}
