//! Version 2 where it is taken: opened, forwarded and answered while the sender waits.

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use delta_core::entropy::SeededEntropy;
use delta_core::identity::NodeId;
use delta_core::onion::IdentityKey;
use delta_core::onion::directory::{NodeKind, RecordObject};
use delta_core::onion::v2::{self, Hop};
use delta_core::topic::TopicId;
use delta_replay::{BootId, Opened, ReplayFile, Untrusted};
use ed25519_dalek::VerifyingKey;
use support::{Net, Played, Relay, Server, answer, free_address, get, post, program, status, wrap};

const TOPIC: TopicId = TopicId([7; 32]);
const ACCEPT: [&str; 4] = ["--batch-ms", "0", "--allow-private", "--accept-v2"];

fn hop(relay: &Relay) -> Hop {
    let record = relay.record.verify().unwrap();
    Hop { key: IdentityKey::from_ed25519(&record.id.0).unwrap(), url: format!("{}/hop", record.url.unwrap()) }
}

fn packet(hops: &[Hop], op: &[u8], seed: u8) -> Vec<u8> {
    v2::wrap(hops, &TOPIC, op, &mut SeededEntropy::new([seed; 32])).unwrap()
}

/// Three relays in a row and a server.
fn three(sink: &Server) -> (Net, Vec<Relay>) {
    let net = Net::new();
    let server = Played::new(1, NodeKind::Sync, sink.url());
    let mut relays: Vec<_> = ["a", "b", "c"].map(|name| net.relay(name)).into();
    let records = relays.iter().map(|relay| relay.record.clone()).chain([server.record()]);
    net.write(1, &records.collect::<Vec<_>>());
    for relay in &mut relays {
        relay.start_with(&net, &ACCEPT);
    }
    (net, relays)
}

#[test]
fn a_version_2_packet_crosses_three_relays_and_is_delivered_as_json() {
    let sink = Server::start(|_, stream| answer(stream, "200 OK", ""));
    let (_net, relays) = three(&sink);
    let hops: Vec<_> = relays.iter().map(hop).collect();
    for (seed, op) in [(1, vec![1; 10]), (2, vec![2; 1024 * 1024])] {
        let sent = packet(&hops, &op, seed);
        assert_eq!(status(&post(relays[0].address, &sent)), 200);
        let got = sink.next();
        assert!(got.head.starts_with("POST /deliver HTTP/1.1\r\n"), "{}", got.head);
        assert!(got.head.contains("content-type: application/json\r\n"), "{}", got.head);
        let json: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(json["topic_hex"], TOPIC.to_string());
        assert_eq!(STANDARD.decode(json["op_base64"].as_str().unwrap()).unwrap(), op);
    }
    assert!(sink.rest().is_empty());
    // Version 3 goes its own way through the same relays.
    let server = Played::new(1, NodeKind::Sync, sink.url());
    let v3: Vec<_> = relays.iter().map(|relay| relay.hop(0)).chain([server.hop()]).collect();
    assert_eq!(status(&post(relays[0].address, &wrap(&v3, b"x", 1))), 202);
    assert_eq!(server.read(&sink.next().body), b"x");
}

#[test]
fn what_is_no_version_2_packet_for_this_relay_is_400_and_a_failure_behind_it_502() {
    let sink = Server::start(|_, stream| answer(stream, "403 Forbidden", ""));
    let (_net, relays) = three(&sink);
    let (first, hops) = (&relays[0], relays.iter().map(hop).collect::<Vec<_>>());
    let code = |packet: &[u8]| status(&post(first.address, packet));

    let good = packet(&hops, b"op", 1);
    assert_eq!(code(&good), 502, "the server refuses");
    assert_eq!(sink.rest().len(), 1);
    // Case 2.
    assert_eq!(code(&good), 400, "a replay");
    let mut tampered = packet(&hops, b"op", 2);
    tampered[60] ^= 1;
    assert_eq!(code(&tampered), 400);
    assert_eq!(code(&packet(&hops[1..], b"op", 3)), 400, "another relay's");
    // A URL of nobody in the directory, one that is a node's but no relay's, and the relay's own.
    for (seed, url) in [
        (4, "http://127.0.0.1:1025/hop".to_owned()),
        (5, format!("{}/deliver", sink.url())),
        (6, format!("{}/", hops[1].url)),
        (7, hops[0].url.clone()),
    ] {
        let mut wrong = hops.clone();
        wrong[1].url = url;
        assert_eq!(code(&packet(&wrong, b"op", seed)), 400, "{seed}");
    }
    // Lengths no packet has, and version 3 bytes of a length only version 2 has.
    assert_eq!(code(&[2; v2::MIN_PACKET - 1]), 400);
    assert_eq!(code(&[3; 5000]), 400);
    assert_eq!(code(&vec![2; v2::MAX_PACKET + 1]), 413);
    assert!(sink.rest().is_empty());
    first.wait_count("replayed", 1);
    first.wait_count("own_id", 1);
}

/// One layer around any plaintext, by the document alone (docs/wire.md, section 5).
fn seal(node: &NodeId, plaintext: &[u8]) -> Vec<u8> {
    use chacha20poly1305::aead::{Aead, KeyInit};
    let public = VerifyingKey::from_bytes(&node.0).unwrap().to_montgomery().to_bytes();
    let (ephemeral, nonce) = ([77; 32], [78; 24]);
    let epk = x25519_dalek::x25519(ephemeral, x25519_dalek::X25519_BASEPOINT_BYTES);
    let mut key = [0; 32];
    hkdf::Hkdf::<sha2::Sha256>::new(Some(&epk), &x25519_dalek::x25519(ephemeral, public))
        .expand(b"delta:onion:v1", &mut key)
        .unwrap();
    let cipher = chacha20poly1305::XChaCha20Poly1305::new(&key.into());
    [&[2][..], &epk, &nonce, &cipher.encrypt(&nonce.into(), plaintext).unwrap()].concat()
}

#[test]
fn versions_are_never_mixed() {
    let sink = Server::accepting();
    let (_net, relays) = three(&sink);
    let server = Played::new(1, NodeKind::Sync, sink.url());
    // A version 3 packet inside a version 2 layer: the layer's plaintext is built by hand from a real one.
    let inner = wrap(&[relays[1].hop(0), server.hop()], b"x", 1);
    let to = hop(&relays[1]).url;
    let forward = [&[1][..], &(to.len() as u16).to_be_bytes(), to.as_bytes(), &inner].concat();
    let mixed = seal(&relays[0].id(), &forward);
    assert_eq!(status(&post(relays[0].address, &mixed)), 400);
    relays[0].wait_count("bad_slot", 1);
    // The same layer around a version 2 packet is taken: it was the inside that was refused.
    let inner = packet(&[hop(&relays[1])], b"op", 9);
    let forward = [&[1][..], &(to.len() as u16).to_be_bytes(), to.as_bytes(), &inner].concat();
    assert_eq!(
        status(&post(relays[0].address, &seal(&relays[0].id(), &forward))),
        400,
        "the same ephemeral key"
    );
    relays[0].wait_count("replayed", 1);
    assert!(sink.rest().is_empty());
}

#[test]
fn case_03_a_version_2_replay_is_dropped_after_a_power_failure_too() {
    let sink = Server::start(|_, stream| answer(stream, "200 OK", ""));
    let (net, mut relays) = three(&sink);
    let sent: Vec<_> = (1..=3).map(|seed| packet(&[hop(&relays[0])], b"op", seed)).collect();
    for packet in &sent {
        assert_eq!(status(&post(relays[0].address, packet)), 200);
    }
    relays[0].kill();
    // The file as another boot of the machine leaves it behind.
    let (path, key) = (relays[0].data.join("replay-v2"), relays[0].id().0);
    let other_boot = BootId::from_bytes([9; 16]);
    drop(ReplayFile::salvage(&path, &key, 100, other_boot).unwrap());
    let found = ReplayFile::open(&path, &key, 100, BootId::current()).unwrap();
    assert!(matches!(found, Opened::Untrusted(Untrusted::OtherBoot)));
    relays[0].start_with(&net, &ACCEPT);
    for packet in &sent {
        assert_eq!(status(&post(relays[0].address, packet)), 400);
    }
    assert!(relays[0].log.lock().unwrap().contains("3 packets of version 2 are remembered"));
    assert_eq!(sink.rest().len(), 3);
}

#[test]
fn a_full_set_of_version_2_takes_no_new_packet_and_still_knows_the_old_ones() {
    let sink = Server::start(|_, stream| answer(stream, "200 OK", ""));
    let (net, mut relays) = three(&sink);
    relays[0].kill();
    relays[0].start_with(&net, &[&ACCEPT[..], &["--limit", "v2_replay_tags=2"]].concat());
    let packets: Vec<_> = (1..=3).map(|seed| packet(&[hop(&relays[0])], b"op", seed)).collect();
    let codes = |relay: &Relay| [0, 1, 2, 0].map(|index| status(&post(relay.address, &packets[index])));
    assert_eq!(codes(&relays[0]), [200, 200, 503, 400]);
    assert!(get(relays[0].admin, "/metrics").contains("\ndelta_relay_v2_replay_tags 2\n"));
    relays[0].kill();
    relays[0].start_with(&net, &[&ACCEPT[..], &["--limit", "v2_replay_tags=3"]].concat());
    assert_eq!(codes(&relays[0]), [400, 400, 200, 400], "a higher limit takes more");
}

#[test]
fn a_node_of_version_2_only_publishes_no_onion_key_and_none_appears_later() {
    let sink = Server::start(|_, stream| answer(stream, "200 OK", ""));
    let (net, mut relays) = three(&sink);
    let fresh = net.relay_signed("d", free_address(), None, &["--v2-only"]);
    assert_eq!(fresh.record.verify().unwrap().keys, []);
    let server = Played::new(1, NodeKind::Sync, sink.url());
    net.write(2, &[fresh.record.clone(), relays[0].record.clone(), server.record()]);
    let mut fresh = fresh;
    let keys = |json: &str| RecordObject::parse(json).unwrap().verify().unwrap().keys;
    for _ in 0..2 {
        fresh.start_with(&net, &[&ACCEPT[..], &["--v2-only"]].concat());
        assert_eq!(keys(&get(fresh.address, "/key")), []);
        let all: Vec<serde_json::Value> = serde_json::from_str(&get(fresh.address, "/records")).unwrap();
        assert_eq!(keys(&all[0].to_string()), []);
        fresh.terminate();
        assert!(fresh.wait().success());
    }
    // What is no such node, or does not take version 2, does not start like one.
    relays[0].terminate();
    assert!(relays[0].wait().success());
    for (data, options, why) in [
        (&fresh.data, &["--v2-only"][..], "--accept-v2 is missing"),
        (&relays[0].data, &["--v2-only", "--accept-v2"], "make a new data folder"),
    ] {
        let mut command = program();
        command.args(["--listen", "127.0.0.1:0", "--allow-private", "--trust", &net.trust()]).args(options);
        command.arg("--data").arg(data).arg("--directory").arg(net.list());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{said}");
    }
}

#[test]
fn case_03_a_version_2_replay_is_dropped_after_a_restart_and_without_the_option_it_is_any_bytes() {
    let sink = Server::start(|_, stream| answer(stream, "200 OK", ""));
    let (net, mut relays) = three(&sink);
    let sent = packet(&[hop(&relays[0])], b"op", 1);
    assert_eq!(status(&post(relays[0].address, &sent)), 200);
    relays[0].kill();
    relays[0].start_with(&net, &ACCEPT);
    assert_eq!(status(&post(relays[0].address, &sent)), 400);
    relays[0].terminate();
    assert!(relays[0].wait().success());
    relays[0].start(&net);
    assert_eq!(status(&post(relays[0].address, &packet(&[hop(&relays[0])], b"op", 2))), 400, "no class size");
    // Of a class size: an answer like any other, and nothing comes of it.
    let op = vec![0; 4096 - packet(&[hop(&relays[0])], b"", 3).len()];
    assert_eq!(status(&post(relays[0].address, &packet(&[hop(&relays[0])], &op, 4))), 202);
    relays[0].wait_count("not_for_us", 1);
    assert_eq!(sink.rest().len(), 1);
}
