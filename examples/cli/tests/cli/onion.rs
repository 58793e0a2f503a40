//! `delta onion wrap` and `delta onion peel`, against the packet vectors and each other.

use delta_core::topic::WriteKey;
use serde_json::{Value, json};

use crate::support::{delta, text, vectors};

fn peel_v3(secret: &str, packet: &[u8]) -> crate::support::Done {
    delta(&["onion", "peel", "--onion-secret", secret, "--json"], packet)
}

#[test]
fn every_layer_of_the_v3_vectors_opens_as_written() {
    let file = vectors("onion-v3.json");
    for vector in file["onion_v3"].as_array().unwrap() {
        let name = text(vector, "name");
        let hops = vector["hops"].as_array().unwrap();
        let mut packet = text(&hops[0], "packet").to_owned();
        for (at, hop) in hops.iter().enumerate() {
            assert_eq!(text(hop, "packet"), packet, "{name}, hop {at}");
            let layer = peel_v3(text(hop, "onion_secret"), packet.as_bytes()).json();
            match hops.get(at + 1) {
                Some(next) => {
                    assert_eq!(layer["case"], "forward", "{name}, hop {at}");
                    assert_eq!(layer["next_node"], next["node_id"], "{name}, hop {at}");
                    packet = text(&layer, "packet").to_owned();
                }
                None => assert_eq!(layer, last_layer(vector), "{name}"),
            }
        }
    }
}

#[test]
fn every_layer_of_the_v2_vectors_opens_as_written() {
    let file = vectors("onion-v2.json");
    for vector in file["onion_v2"].as_array().unwrap() {
        let name = text(vector, "name");
        let hops = vector["hops"].as_array().unwrap();
        let mut packet = text(vector, "packet").to_owned();
        for (at, hop) in hops.iter().enumerate() {
            assert_eq!(text(&vector["layers"][at], "envelope"), packet, "{name}, hop {at}");
            let seed = text(hop, "ed25519_seed");
            let layer = delta(&["onion", "peel", "--seed", seed, "--json"], packet.as_bytes()).json();
            match hops.get(at + 1) {
                Some(next) => {
                    assert_eq!(layer["case"], "forward", "{name}, hop {at}");
                    assert_eq!(layer["next_url"], next["url"], "{name}, hop {at}");
                    packet = text(&layer, "packet").to_owned();
                }
                None => {
                    let (topic, op) = (&vector["topic_id"], &vector["op"]);
                    let expected = json!({ "case": "deliver", "topic_id": topic, "flags": 0, "op": op });
                    assert_eq!(layer, expected, "{name}");
                }
            }
        }
    }
}

#[test]
fn a_wrapped_v2_packet_opens_again() {
    let file = vectors("onion-v2.json");
    let hops = file["onion_v2"][2]["hops"].as_array().unwrap();
    let given: Vec<String> =
        hops.iter().map(|hop| format!("{}@{}", text(hop, "ed25519_public"), text(hop, "url"))).collect();
    let topic = "44".repeat(32);
    let arguments = ["onion", "wrap", "--topic", &topic, "--hop", &given[0], "--hop", &given[1], "--binary"];
    let wrapped = delta(&arguments, b"an operation");
    assert_eq!(wrapped.code, 0, "{}", wrapped.err());
    let peel = |hop: usize, packet: &[u8]| {
        delta(&["onion", "peel", "--seed", text(&hops[hop], "ed25519_seed"), "--json"], packet).json()
    };
    let first = peel(0, &wrapped.stdout);
    assert_eq!(first["next_url"], hops[1]["url"]);
    let second = peel(1, text(&first, "packet").as_bytes());
    assert_eq!(
        (text(&second, "topic_id"), text(&second, "op")),
        (topic.as_str(), &*hex::encode(b"an operation"))
    );
}

#[test]
fn the_versions_are_not_mixed() {
    let node = delta(&["keygen", "--node", "--json"], b"").json();
    let new = format!("{}:{}:{}", text(&node, "node_id"), node["kid"], text(&node, "onion_public"));
    let old = format!("{}@https://relay.example.org/hop", text(&node, "node_id"));
    let key = "22".repeat(32);
    for arguments in [
        ["--hop", &old, "--hop", &new, "--topic", &key].as_slice(),
        &["--hop", &old, "--write-key", &key],
        &["--hop", &new, "--topic", &key],
        &["--hop", &old, "--topic", &key, "--class", "1"],
    ] {
        let arguments = [["onion", "wrap"].as_slice(), arguments].concat();
        assert_eq!(delta(&arguments, b"op").code, 2, "{arguments:?}");
    }
    let packet = delta(&["onion", "wrap", "--hop", &old, "--topic", &key], b"op").stdout;
    delta(&["onion", "peel", "--onion-secret", &key], &packet).assert_failed("the wrong kind of secret");
}

fn last_layer(vector: &Value) -> Value {
    if vector["terminal"] == "drop" {
        return json!({ "case": "drop" });
    }
    json!({
        "case": "deliver", "topic_id": vector["topic_id"], "flags": vector["flags"], "op": vector["payload"],
    })
}

#[test]
fn wrapped_packets_go_through_a_pipe_of_peels() {
    let nodes: Vec<Value> = (0..4).map(|_| delta(&["keygen", "--node", "--json"], b"").json()).collect();
    let hops: Vec<String> = nodes
        .iter()
        .map(|node| format!("{}:{}:{}:20", text(node, "node_id"), node["kid"], text(node, "onion_public")))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("write.key");
    std::fs::write(&key_file, [7; 32]).unwrap();
    let key = format!("@{}", key_file.display());
    let mut arguments = vec!["onion", "wrap", "--write-key", &key];
    arguments.extend(hops.iter().flat_map(|hop| ["--hop", hop.as_str()]));
    let wrapped = delta(&arguments, b"an operation");
    assert_eq!(wrapped.code, 0, "{}", wrapped.err());

    let (server, relays) = nodes.split_last().unwrap();
    let mut packet = wrapped.stdout;
    for relay in relays {
        let peeled =
            delta(&["onion", "peel", "--onion-secret", text(relay, "onion_secret"), "--binary"], &packet);
        assert_eq!(peeled.code, 0, "{}", peeled.err());
        packet = peeled.stdout;
        assert_eq!(packet.len(), 4096);
    }
    let delivered = peel_v3(text(server, "onion_secret"), &packet).json();
    assert_eq!(text(&delivered, "op"), hex::encode(b"an operation"));
    assert_eq!(text(&delivered, "topic_id"), WriteKey::from_seed([7; 32]).topic().to_string());
}

#[test]
fn cover_traffic_of_a_class_is_dropped_by_the_last_hop() {
    let node = delta(&["keygen", "--node", "--json"], b"").json();
    let hop = format!("{}:{}:{}", text(&node, "node_id"), node["kid"], text(&node, "onion_public"));
    let packet = delta(&["onion", "wrap", "--hop", &hop, "--drop", "--class", "1", "--binary"], b"").stdout;
    assert_eq!(packet.len(), 16384);
    assert_eq!(peel_v3(text(&node, "onion_secret"), &packet).json(), json!({ "case": "drop" }));
}

#[test]
fn a_broken_packet_fails_without_a_result() {
    let file = vectors("onion-v3.json");
    let hop = &file["onion_v3"][1]["hops"][0];
    let (secret, packet) = (text(hop, "onion_secret"), hex::decode(text(hop, "packet")).unwrap());
    let flipped = |at: usize| {
        let mut packet = packet.clone();
        packet[at] ^= 1;
        packet
    };
    let last = packet.len() - 1;
    let cases = [
        ("nothing", Vec::new()),
        ("unknown version", b"\x09abc".to_vec()),
        ("one byte short", packet[..last].to_vec()),
        ("class", flipped(1)),
        ("key id", flipped(3)),
        ("ephemeral key", flipped(4)),
        ("tag", flipped(36)),
        ("last byte", flipped(last)),
    ];
    for (what, packet) in cases {
        delta(&["onion", "peel", "--onion-secret", secret], &packet).assert_failed(what);
    }
    delta(&["onion", "peel", "--onion-secret", &"11".repeat(32)], &packet)
        .assert_failed("another node's packet");
}

#[test]
fn an_error_is_json_when_results_are() {
    let done = delta(&["onion", "peel", "--onion-secret", &"11".repeat(32), "--json"], b"\x03");
    assert_eq!(done.code, 1);
    let error: Value = serde_json::from_slice(&done.stderr).unwrap();
    assert!(text(&error, "error").contains("size class"), "{error}");
}

#[test]
fn what_cannot_be_wrapped_is_refused() {
    let node = delta(&["keygen", "--node", "--json"], b"").json();
    let hop = format!("{}:{}:{}", text(&node, "node_id"), node["kid"], text(&node, "onion_public"));
    let key = "22".repeat(32);
    let wrap = |more: &[&str], op: &[u8]| {
        let mut arguments = vec!["onion", "wrap", "--write-key", &key];
        arguments.extend(more);
        delta(&arguments, op)
    };
    wrap(&["--hop", &hop], b"").assert_failed("an empty operation");
    wrap(&["--hop", &hop, "--input", "hex"], b"no hex").assert_failed("not hex");
    wrap(&["--hop", &hop, "--class", "0"], &[7; 4000]).assert_failed("too large for the class");
    wrap(&["--hop", &hop].repeat(7), b"op").assert_failed("seven layers");
    let low_order = format!("{}:1:{}", "33".repeat(32), "00".repeat(32));
    wrap(&["--hop", &low_order], b"op").assert_failed("a low-order key");
    for bad in ["", "x", "1:2", "a:b:c", &format!("{hop}:x"), &format!("{hop}:0:0"), &format!("{hop}:655360")]
    {
        assert_eq!(wrap(&["--hop", bad], b"op").code, 2, "{bad}");
    }
    assert_eq!(delta(&["onion", "wrap", "--hop", &hop], b"op").code, 2, "neither a key nor --drop");
}
