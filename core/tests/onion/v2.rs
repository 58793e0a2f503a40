//! The original packet format: vectors, and what a relay that takes it refuses.

use delta_core::codec::DecodeError;
use delta_core::limits::{MAX_ENVELOPE, MAX_URL_V2};
use delta_core::onion::v2::{
    self, Given, Hop, MAX_LAYERS, MAX_PACKET, MIN_PACKET, PeelError, Peeled, WrapError,
};
use delta_core::onion::{IdentityKey, IdentitySecret};
use delta_core::topic::TopicId;
use proptest::prelude::*;
use serde_json::Value;

use crate::support::{Broken, LOW_ORDER, entropy, seal_v2, unhex};

const VECTORS: &str = include_str!("../vectors/onion-v2.json");

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["onion_v2"].as_array().unwrap().clone();
    assert_eq!(vectors.len(), 6);
    vectors
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text under {key}"))
}

fn secret(number: u8) -> IdentitySecret {
    IdentitySecret::from_seed(&[number; 32])
}

fn hops(count: usize) -> Vec<Hop> {
    let hop =
        |number| Hop { key: secret(number).public(), url: format!("https://relay{number}.example/hop") };
    (1..).take(count).map(hop).collect()
}

const TOPIC: TopicId = TopicId([0x70; 32]);

fn packet() -> Vec<u8> {
    v2::wrap(&hops(3), &TOPIC, b"op", &mut entropy(50)).unwrap()
}

fn peel(number: u8, packet: Vec<u8>) -> Result<Peeled, PeelError> {
    v2::open(&secret(number), packet)?.parse()
}

#[test]
fn building_with_the_given_secrets_gives_the_packet() {
    for vector in vectors() {
        let given_hops = vector["hops"].as_array().unwrap();
        let hops: Vec<Hop> = given_hops
            .iter()
            .map(|hop| Hop {
                key: IdentityKey::from_ed25519(&unhex(text(hop, "ed25519_public"))).unwrap(),
                url: text(hop, "url").to_owned(),
            })
            .collect();
        let given: Vec<Given> = given_hops
            .iter()
            .map(|hop| Given {
                ephemeral: unhex(text(hop, "ephemeral_secret")),
                nonce: unhex(text(hop, "nonce")),
            })
            .collect();
        let topic = TopicId(unhex(text(&vector, "topic_id")));
        let op = hex::decode(text(&vector, "op")).unwrap();
        let packet = v2::wrap_with(&hops, &topic, &op, &given).unwrap();
        assert_eq!(hex::encode(packet), text(&vector, "packet"), "{}", vector["name"]);
    }
}

#[test]
fn keys_convert_as_the_vectors_say() {
    for hop in vectors().iter().flat_map(|vector| vector["hops"].as_array().unwrap()) {
        let secret = IdentitySecret::from_seed(&unhex(text(hop, "ed25519_seed")));
        let public = IdentityKey::from_ed25519(&unhex(text(hop, "ed25519_public"))).unwrap();
        assert_eq!(secret.public(), public);
        assert_eq!(hex::encode(public.x25519().as_bytes()), text(hop, "x25519_public"));
    }
}

#[test]
fn every_hop_peels_its_layer() {
    for vector in vectors() {
        let name = text(&vector, "name");
        let hops = vector["hops"].as_array().unwrap();
        let layers = vector["layers"].as_array().unwrap();
        assert_eq!(layers.len(), hops.len());
        let mut packet = hex::decode(text(&vector, "packet")).unwrap();
        for (index, (hop, layer)) in hops.iter().zip(layers).enumerate() {
            assert_eq!(hex::encode(&packet), text(layer, "envelope"), "{name} layer {index}");
            let secret = IdentitySecret::from_seed(&unhex(text(hop, "ed25519_seed")));
            let opened = v2::open(&secret, packet.clone()).unwrap();
            assert_eq!(opened.epk(), &packet[1..33]);
            match (opened.parse().unwrap(), hops.get(index + 1)) {
                (Peeled::Forward { url, packet: inner }, Some(next)) => {
                    assert_eq!(url, text(next, "url"), "{name} layer {index}");
                    packet = inner;
                }
                (Peeled::Deliver { topic, op }, None) => {
                    assert_eq!(topic.to_string(), text(&vector, "topic_id"), "{name}");
                    assert_eq!(hex::encode(op), text(&vector, "op"), "{name}");
                }
                (other, _) => panic!("{name} layer {index}: {other:?}"),
            }
        }
    }
}

#[test]
fn case_01_a_flip_of_any_byte_gives_nothing() {
    let good = packet();
    assert!(peel(1, good.clone()).is_ok());
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(v2::open(&secret(1), bad).is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn case_02_a_repeated_packet_has_the_same_name_in_the_replay_cache() {
    let first = v2::open(&secret(1), packet()).unwrap();
    assert_eq!(first.epk(), v2::open(&secret(1), packet()).unwrap().epk());
    let other = v2::wrap(&hops(3), &TOPIC, b"op", &mut entropy(51)).unwrap();
    assert_ne!(first.epk(), v2::open(&secret(1), other).unwrap().epk());
    // The name is known before the plaintext is parsed.
    let bad = seal_v2(&secret(1), &[9; 32], b"\x07");
    let opened = v2::open(&secret(1), bad).unwrap();
    assert_ne!(opened.epk(), &[0; 32]);
    assert_eq!(opened.parse(), Err(DecodeError::Invalid("type").into()));
}

#[test]
fn case_05_and_06_low_order_and_non_canonical_ephemeral_keys_are_dropped() {
    for point in LOW_ORDER {
        let mut bad = packet();
        hex::decode_to_slice(point, &mut bad[1..33]).unwrap();
        assert_eq!(peel(1, bad), Err(PeelError::EphemeralKey), "{point}");
    }
    let mut bad = packet();
    bad[32] |= 0x80;
    assert_eq!(peel(1, bad), Err(PeelError::EphemeralKey));
    let mut bad = packet();
    bad[1..33].fill(0xff);
    bad[32] = 0x7f;
    assert_eq!(peel(1, bad), Err(PeelError::EphemeralKey));
}

#[test]
fn case_07_too_short_and_too_long_packets_are_refused() {
    for len in [0, 1, 51, 52, MIN_PACKET - 1, MAX_PACKET + 1] {
        let mut bytes = packet();
        bytes.resize(len, 0);
        assert_eq!(peel(1, bytes), Err(PeelError::Length(len)));
    }
    for len in [MIN_PACKET, MAX_PACKET] {
        let mut bytes = packet();
        bytes.resize(len, 0);
        assert_eq!(peel(1, bytes), Err(PeelError::Seal));
    }
}

#[test]
fn case_09_other_versions_are_dropped() {
    for version in [0, 1, 3, 4, 255] {
        let mut bad = packet();
        bad[0] = version;
        assert_eq!(peel(1, bad), Err(PeelError::Version(version)));
    }
}

#[test]
fn case_10_and_11_foreign_and_mixed_packets_are_dropped() {
    assert_eq!(peel(2, packet()), Err(PeelError::Seal));
    let other = v2::wrap(&hops(3), &TOPIC, b"op", &mut entropy(51)).unwrap();
    for range in [1..33, 33..57, 57..other.len()] {
        let mut mixed = packet();
        mixed[range.clone()].copy_from_slice(&other[range]);
        assert_eq!(peel(1, mixed), Err(PeelError::Seal));
    }
}

#[test]
fn case_13_plaintexts_of_another_form_are_dropped() {
    let forward = |url: &[u8], inner: usize| {
        let len = u16::try_from(url.len()).unwrap();
        [&[1], &len.to_be_bytes()[..], url, &vec![2; inner]].concat()
    };
    let peel_sealed = |plaintext: &[u8]| peel(1, seal_v2(&secret(1), &[9; 32], plaintext));
    assert!(peel_sealed(&forward(b"https://relay.example/hop", MIN_PACKET)).is_ok());
    assert!(peel_sealed(&forward(&[b'u'; MAX_URL_V2], MIN_PACKET)).is_ok());
    assert!(peel_sealed(&[&[2], &[7; 32][..]].concat()).is_ok());
    let cases: [(Vec<u8>, DecodeError); 9] = [
        (vec![], DecodeError::Truncated("type")),
        (vec![0; 80], DecodeError::Invalid("type")),
        (vec![3; 80], DecodeError::Invalid("type")),
        (vec![1, 0], DecodeError::Truncated("url length")),
        (vec![1, 0, 9, b'u'], DecodeError::Truncated("url")),
        (forward(&[b'u'; MAX_URL_V2 + 1], MIN_PACKET), DecodeError::TooLarge("url")),
        (forward(b"", MIN_PACKET), DecodeError::Invalid("url")),
        (forward(b"\xff\xfe", MIN_PACKET), DecodeError::Invalid("url")),
        (forward(b"https://relay.example", MIN_PACKET - 1), DecodeError::Truncated("inner packet")),
    ];
    for (plaintext, error) in cases {
        assert_eq!(peel_sealed(&plaintext), Err(error.into()));
    }
    assert_eq!(peel_sealed(&[2; 32]), Err(DecodeError::Truncated("topic id").into()));
}

#[test]
fn case_17_one_to_five_layers_round_trip() {
    for count in 0..=MAX_LAYERS + 1 {
        let built = v2::wrap(&hops(count), &TOPIC, b"op", &mut entropy(1));
        let Ok(mut packet) = built else {
            assert_eq!(built, Err(WrapError::Layers(count)));
            assert!(count == 0 || count == MAX_LAYERS + 1);
            continue;
        };
        for number in 1..count as u8 {
            let Ok(Peeled::Forward { url, packet: inner }) = peel(number, packet) else {
                panic!("layer {number}")
            };
            assert_eq!(url, format!("https://relay{}.example/hop", number + 1));
            packet = inner;
        }
        assert_eq!(peel(count as u8, packet), Ok(Peeled::Deliver { topic: TOPIC, op: b"op".to_vec() }));
    }
}

#[test]
fn the_largest_operation_over_the_longest_route_and_one_byte_more() {
    let mut route = hops(MAX_LAYERS);
    for hop in &mut route {
        hop.url = "u".repeat(MAX_URL_V2);
    }
    let largest = vec![7; MAX_ENVELOPE];
    let packet = v2::wrap(&route, &TOPIC, &largest, &mut entropy(1)).unwrap();
    assert!(packet.len() <= MAX_PACKET);
    assert!(matches!(peel(1, packet), Ok(Peeled::Forward { .. })));
    let above = vec![7; MAX_ENVELOPE + 1];
    let refused = v2::wrap(&route, &TOPIC, &above, &mut entropy(1));
    assert_eq!(refused, Err(WrapError::TooLarge(MAX_ENVELOPE + 1)));
    for url in [String::new(), "u".repeat(MAX_URL_V2 + 1)] {
        route[2].url = url;
        assert_eq!(v2::wrap(&route, &TOPIC, b"op", &mut entropy(1)), Err(WrapError::Url(2)));
    }
}

#[test]
fn case_23_a_random_source_that_fails_gives_no_packet() {
    assert!(matches!(v2::wrap(&hops(3), &TOPIC, b"op", &mut Broken), Err(WrapError::Entropy(_))));
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        plaintext in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assert!(v2::open(&secret(1), bytes.clone()).is_err());
        if let Some(version) = bytes.first_mut() {
            *version = v2::VERSION;
        }
        prop_assert!(v2::open(&secret(1), bytes).is_err());
        let _ = v2::open(&secret(1), seal_v2(&secret(1), &[9; 32], &plaintext)).unwrap().parse();
    }
}
