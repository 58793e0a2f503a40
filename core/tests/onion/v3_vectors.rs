//! Every v3 vector, built and peeled byte for byte.

use delta_core::identity::NodeId;
use delta_core::onion::v3::{self, Given, Hop, OnionKey, OnionSecret, Peeled, Terminal};
use delta_core::onion::{PacketClass, deliver};
use delta_core::topic::WriteKey;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::unhex;

const VECTORS: &str = include_str!("../vectors/onion-v3.json");

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["onion_v3"].as_array().unwrap().clone();
    assert_eq!(vectors.len(), 8);
    vectors
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text under {key}"))
}

fn number(value: &Value, key: &str) -> u16 {
    value[key].as_u64().unwrap().try_into().unwrap()
}

fn bytes(value: &Value, key: &str) -> Vec<u8> {
    hex::decode(text(value, key)).unwrap()
}

fn secret(hop: &Value) -> OnionSecret {
    OnionSecret::from_bytes(number(hop, "kid"), unhex(text(hop, "onion_secret")))
}

fn build(vector: &Value) -> Vec<u8> {
    let hops_given = vector["hops"].as_array().unwrap();
    let hops: Vec<Hop> = hops_given
        .iter()
        .map(|hop| Hop {
            node: NodeId(unhex(text(hop, "node_id"))),
            key: OnionKey { kid: number(hop, "kid"), public: unhex(text(hop, "onion_public")) },
            delay: number(hop, "delay"),
        })
        .collect();
    let ephemerals: Vec<[u8; 32]> =
        hops_given.iter().map(|hop| unhex(text(hop, "ephemeral_secret"))).collect();
    let content = bytes(vector, "content");
    let terminal = match text(vector, "terminal") {
        "deliver" => Terminal::Deliver(&content),
        "drop" => Terminal::Drop,
        other => panic!("terminal {other}"),
    };
    let class = PacketClass::try_from(u8::try_from(number(vector, "class_")).unwrap()).unwrap();
    let padding = bytes(vector, "padding");
    v3::wrap_with(class, &hops, terminal, Given { ephemerals: &ephemerals, padding: &padding }).unwrap()
}

#[test]
fn building_with_the_given_secrets_gives_the_packet() {
    for vector in vectors() {
        assert_eq!(hex::encode(build(&vector)), text(&vector["hops"][0], "packet"), "{}", vector["name"]);
    }
}

#[test]
fn the_smallest_class_is_chosen() {
    for vector in vectors() {
        let class = PacketClass::for_content(bytes(&vector, "content").len()).unwrap();
        assert_eq!(u16::from(class as u8), number(&vector, "class_"), "{}", vector["name"]);
    }
}

#[test]
fn every_hop_peels_to_the_next_packet_and_the_last_to_the_content() {
    for vector in vectors() {
        let name = text(&vector, "name");
        let hops = vector["hops"].as_array().unwrap();
        let mut packet = bytes(&hops[0], "packet");
        for (index, hop) in hops.iter().enumerate() {
            assert_eq!(
                hex::encode(Sha256::digest(&packet)),
                text(hop, "packet_sha256"),
                "{name} hop {index}"
            );
            assert_eq!(
                hex::encode(secret(hop).public().public),
                text(hop, "onion_public"),
                "{name} hop {index}"
            );
            let opened = v3::open(&[secret(hop)], packet.clone()).unwrap();
            assert_eq!(hex::encode(opened.replay_tag()), text(hop, "replay_tag"), "{name} hop {index}");
            assert_eq!(opened.kid(), number(hop, "kid"));
            let peeled = opened.parse().unwrap();
            assert_eq!(v3::peel_with_secret(unhex(text(hop, "onion_secret")), packet).unwrap(), peeled);
            packet = match (peeled, hops.get(index + 1)) {
                (Peeled::Forward { next, delay, packet }, Some(following)) => {
                    assert_eq!(next, NodeId(unhex(text(following, "node_id"))), "{name} hop {index}");
                    assert_eq!(
                        delay.as_millis(),
                        u128::from(number(hop, "delay")) * 10,
                        "{name} hop {index}"
                    );
                    if following["packet"].is_string() {
                        assert_eq!(hex::encode(&packet), text(following, "packet"), "{name} hop {index}");
                    }
                    packet
                }
                (Peeled::Deliver { content }, None) => {
                    assert_eq!(text(&vector, "terminal"), "deliver");
                    assert_eq!(hex::encode(&content), text(&vector, "content"), "{name}");
                    content
                }
                (Peeled::Drop, None) => {
                    assert_eq!(text(&vector, "terminal"), "drop");
                    Vec::new()
                }
                (other, _) => panic!("{name} hop {index}: {other:?}"),
            };
        }
    }
}

#[test]
fn deliver_content_is_made_and_checked() {
    for vector in vectors().iter().filter(|vector| text(vector, "terminal") == "deliver") {
        let name = text(vector, "name");
        let key = WriteKey::from_seed(unhex(text(vector, "topic_write_secret")));
        assert_eq!(hex::encode(key.verifying_key().0), text(vector, "topic_write_public"), "{name}");
        let flags = u8::try_from(number(vector, "flags")).unwrap();
        let (content, payload) = (bytes(vector, "content"), bytes(vector, "payload"));
        assert_eq!(hex::encode(blake3::hash(&payload).as_bytes()), text(vector, "payload_blake3"));
        assert_eq!(deliver::encode_raw(&key, flags, &payload), content, "{name}");
        match (deliver::verify(&content), flags) {
            (Ok(delivery), deliver::FLAG_OPERATION) => {
                assert_eq!(delivery.topic.to_string(), text(vector, "topic_id"), "{name}");
                assert_eq!(delivery.operations().unwrap(), [bytes(vector, "op")], "{name}");
                assert_eq!(deliver::encode_operation(&key, &payload).unwrap(), content, "{name}");
            }
            (Ok(delivery), deliver::FLAG_LIST) => {
                let operations = delivery.operations().unwrap();
                assert_eq!(operations.len(), 3, "{name}");
                assert_eq!(deliver::encode_list(&key, &operations).unwrap(), content, "{name}");
            }
            (Err(deliver::DeliverError::Empty), deliver::FLAG_OPERATION) => {
                assert_eq!(name, "1-layer-empty-op");
            }
            (Ok(delivery), deliver::FLAG_SIGNAL) => {
                assert_eq!(delivery.signal().unwrap(), payload, "{name}");
                assert_eq!(deliver::encode_signal(&key, &payload).unwrap(), content, "{name}");
            }
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
}
