//! Files between processes, over relays and a server, through a kill.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Network, json_lines, ticket};

/// Bytes that are the same nowhere.
fn file(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn a_file_of_several_chunks_comes_over_as_it_was() {
    let network = Network::start();
    let ticket = ticket();
    let (a, b) = (network.device("a", &ticket), network.device("b", &ticket));
    let (from, to) = (network.folder().join("from.bin"), network.folder().join("to.bin"));
    // Three chunks of 256,000 bytes, the last one shorter.
    std::fs::write(&from, file(700_001)).unwrap();
    let sent =
        &json_lines(a.command(&["message", "send", "look", "--mime", "image/png", "--attach"]).arg(&from))[0];
    let blob = sent["blobs"][0].as_str().unwrap();
    let messages = b.messages();
    let about = &messages[0]["attachments"][0];
    assert_eq!(
        (&messages[0]["text"], &about["blob"], &about["size"], &about["mime"], &about["name"]),
        (&"look".into(), &blob.into(), &700_001.into(), &"image/png".into(), &"from.bin".into())
    );
    let absent = &json_lines(&mut b.command(&["blob", "status", "--id", blob]))[0];
    assert_eq!((&absent["state"], &absent["have"], &absent["of"]), (&"absent".into(), &0.into(), &3.into()));
    // A file that is there is replaced, and nothing is left beside it.
    std::fs::write(&to, "old").unwrap();
    let got = &json_lines(b.command(&["blob", "get", "--id", blob]).arg(&to))[0];
    assert_eq!((&got["state"], &got["have"]), (&"here".into(), &3.into()));
    assert!(std::fs::read(&to).unwrap() == std::fs::read(&from).unwrap());
    assert!(!network.folder().join("to.bin.part").exists());
    json_lines(&mut b.command(&["blob", "drop", "--id", blob]));
    assert_eq!(json_lines(&mut b.command(&["blob", "status", "--id", blob]))[0]["state"], "absent");
}

#[test]
fn a_kill_while_a_file_is_sent_loses_and_repeats_nothing_of_it() {
    let network = Network::start();
    let ticket = ticket();
    let (a, b) = (network.device("a", &ticket), network.device("b", &ticket));
    let (from, to) = (network.folder().join("from.bin"), network.folder().join("to.bin"));
    std::fs::write(&from, file(24 * 256_000)).unwrap();
    // Written offline: all of it waits.
    let sent = json_lines(a.command(&["message", "send", "--attach"]).arg(&from).env_remove("DELTA_SYNC"));
    let blob = sent[0]["blobs"][0].as_str().unwrap();
    // From now on the device does without it.
    let bytes = std::fs::read(&from).unwrap();
    std::fs::remove_file(&from).unwrap();
    let wait = ["blob", "wait", "--id", blob];
    let mut sending = a.command(&wait).arg("--json").stdout(Stdio::piped()).spawn().unwrap();
    let mut steps = BufReader::new(sending.stdout.take().unwrap()).lines();
    let have = loop {
        let step: Value = serde_json::from_str(&steps.next().expect("it is not done yet").unwrap()).unwrap();
        let have = step["have"].as_u64().unwrap();
        assert!(have < 24, "the kill came too late to test anything");
        if have > 2 {
            break have;
        }
    };
    sending.kill().unwrap();
    sending.wait().unwrap();
    let steps = json_lines(&mut a.command(&wait));
    assert!(steps[0]["have"].as_u64().unwrap() >= have, "it goes on where it stood: {}", steps[0]);
    assert_eq!(steps.last().unwrap()["state"], "here");
    b.messages();
    json_lines(b.command(&["blob", "get", "--id", blob]).arg(&to));
    assert!(std::fs::read(&to).unwrap() == bytes);
}
