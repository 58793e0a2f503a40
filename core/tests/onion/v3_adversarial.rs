//! The adversarial catalogue at packet level. What needs a replay set or a directory is tested with the relay.

use std::collections::HashSet;
use std::time::Duration;

use delta_core::identity::NodeId;
use delta_core::onion::PacketClass;
use delta_core::onion::v3::{
    self, Hop, MAX_DELAY, OnionKey, OnionSecret, PeelError, Peeled, Terminal, WrapError,
};

use crate::support::{Broken, LOW_ORDER, entropy, hops, node, nodes, seal_v3};

/// Where the header's fields begin.
const KID_AT: usize = 2;
const EPK_AT: usize = 4;
const TAG_AT: usize = 36;
const BODY_AT: usize = 52;

fn packet(seed: u8) -> Vec<u8> {
    v3::wrap(&hops(&nodes(3)), Terminal::Deliver(b"content"), &mut entropy(seed)).unwrap()
}

fn peel(number: u8, packet: Vec<u8>) -> Result<Peeled, PeelError> {
    v3::open(&[node(number).secret], packet)?.parse()
}

/// A class 0 body with `slot` at its front, sealed for node 1.
fn with_slot(slot: &[u8; 96]) -> Vec<u8> {
    let mut body = vec![0xaa; PacketClass::C0.size() - BODY_AT];
    body[..96].copy_from_slice(slot);
    seal_v3(&node(1).secret, [9; 32], 0, &body)
}

fn forward_slot() -> [u8; 96] {
    let mut slot = [0xbb; 96];
    slot[0] = 1;
    slot[1] = 0;
    slot[6..16].fill(0);
    slot
}

fn terminal_slot(kind: u8, len: usize) -> [u8; 96] {
    let mut slot = [0; 96];
    slot[0] = kind;
    slot[4..8].copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
    slot
}

#[test]
fn case_01_a_flip_of_any_byte_gives_nothing() {
    let good = packet(50);
    assert!(peel(1, good.clone()).is_ok());
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(v3::open(&[node(1).secret], bad).is_err(), "byte {at}");
    }
}

#[test]
fn case_02_a_repeated_packet_has_the_same_replay_tag() {
    let keys = [node(1).secret];
    let first = v3::open(&keys, packet(50)).unwrap();
    let again = v3::open(&keys, packet(50)).unwrap();
    assert_eq!(first.replay_tag(), again.replay_tag());
    assert_ne!(first.replay_tag(), v3::open(&keys, packet(51)).unwrap().replay_tag());
    // A later node of the same packet has another tag: a packet that visits a node twice is not its own replay.
    let Peeled::Forward { packet: inner, .. } = first.parse().unwrap() else { panic!("not forwarded") };
    assert_ne!(v3::open(&[node(2).secret], inner).unwrap().replay_tag(), again.replay_tag());
}

/// The seal opens before the tag is remembered, the slot is read after: a packet with a bad slot has a tag too.
#[test]
fn case_02_the_tag_is_known_before_the_slot_is_parsed() {
    let opened = v3::open(&[node(1).secret], with_slot(&[0xff; 96])).unwrap();
    assert_ne!(opened.replay_tag(), [0; 16]);
    assert_eq!(opened.parse(), Err(PeelError::Slot("type")));
}

#[test]
fn case_04_under_an_erased_key_nothing_opens() {
    let old = node(1).secret;
    let new = OnionSecret::generate(old.kid().wrapping_add(1), &mut entropy(77)).unwrap();
    assert!(v3::open(&[new.clone(), old.clone()], packet(50)).is_ok());
    assert_eq!(v3::open(&[new], packet(50)).map(|_| ()), Err(PeelError::UnknownKey(old.kid())));
    // Even when the id is used again for another key, the seal does not open.
    let reused = OnionSecret::generate(old.kid(), &mut entropy(78)).unwrap();
    assert_eq!(v3::open(&[reused], packet(50)).map(|_| ()), Err(PeelError::Seal));
    assert_eq!(v3::open(&[], packet(50)).map(|_| ()), Err(PeelError::UnknownKey(old.kid())));
}

#[test]
fn case_05_low_order_points_are_dropped() {
    for point in LOW_ORDER {
        let mut bad = packet(50);
        hex::decode_to_slice(point, &mut bad[EPK_AT..TAG_AT]).unwrap();
        assert_eq!(peel(1, bad), Err(PeelError::EphemeralKey), "{point}");
    }
}

#[test]
fn case_05_no_layer_is_built_for_a_low_order_key() {
    for point in LOW_ORDER {
        let mut route = hops(&nodes(3));
        hex::decode_to_slice(point, &mut route[1].key.public).unwrap();
        assert!(!route[1].key.is_usable());
        let built = v3::wrap(&route, Terminal::Drop, &mut entropy(1));
        assert_eq!(built, Err(WrapError::HopKey(1)), "{point}");
    }
    assert!(node(1).secret.public().is_usable());
}

#[test]
fn case_06_non_canonical_ephemeral_keys_are_dropped() {
    // The top bit set: X25519 would ignore it and find the same shared secret.
    let mut bad = packet(50);
    bad[TAG_AT - 1] |= 0x80;
    assert_eq!(peel(1, bad), Err(PeelError::EphemeralKey));
    // p + 2 … p + 18: second spellings of the ordinary u = 2 … 18.
    for low in 0xef..=0xff {
        let mut bad = packet(50);
        bad[EPK_AT..TAG_AT].fill(0xff);
        bad[EPK_AT] = low;
        bad[TAG_AT - 1] = 0x7f;
        assert_eq!(peel(1, bad), Err(PeelError::EphemeralKey), "p + {}", low - 0xed);
    }
    let key = OnionKey { kid: 1, public: [0xff; 32] };
    assert!(!key.is_usable());
    let hop = Hop { node: NodeId([1; 32]), key, delay: 0 };
    assert_eq!(v3::wrap(&[hop], Terminal::Drop, &mut entropy(1)), Err(WrapError::HopKey(0)));
}

#[test]
fn case_07_lengths_of_no_class_are_refused() {
    let sizes = PacketClass::ALL.map(PacketClass::size);
    let around = sizes.into_iter().flat_map(|size| [size - 1, size + 1]);
    for len in [0, 1, 3, 51, 52, 148].into_iter().chain(around) {
        let mut bytes = packet(50);
        bytes.resize(len, 0);
        assert_eq!(peel(1, bytes), Err(PeelError::Length(len)));
    }
}

#[test]
fn case_08_the_class_must_be_that_of_the_length() {
    for said in (1..=255).rev() {
        let mut bad = packet(50);
        bad[1] = said;
        assert_eq!(peel(1, bad), Err(PeelError::Class { said, of_length: 0 }));
    }
    let mut longer = packet(50);
    longer.resize(PacketClass::C1.size(), 0);
    assert_eq!(peel(1, longer), Err(PeelError::Class { said: 0, of_length: 1 }));
}

#[test]
fn case_09_other_versions_are_dropped() {
    for version in [0, 1, 2, 4, 255] {
        let mut bad = packet(50);
        bad[0] = version;
        assert_eq!(peel(1, bad), Err(PeelError::Version(version)));
    }
}

#[test]
fn case_10_a_packet_for_another_relay_is_dropped() {
    assert_eq!(peel(2, packet(50)), Err(PeelError::UnknownKey(101)));
    let same_kid = OnionSecret::from_bytes(101, [3; 32]);
    assert_eq!(v3::open(&[same_kid], packet(50)).map(|_| ()), Err(PeelError::Seal));
    let mut renamed = packet(50);
    renamed[KID_AT..EPK_AT].copy_from_slice(&102u16.to_be_bytes());
    assert_eq!(peel(2, renamed), Err(PeelError::Seal));
}

#[test]
fn case_11_an_ephemeral_key_or_tag_of_another_packet_is_dropped() {
    let (one, other) = (packet(50), packet(51));
    for range in [EPK_AT..TAG_AT, TAG_AT..BODY_AT, BODY_AT..one.len()] {
        let mut mixed = one.clone();
        mixed[range.clone()].copy_from_slice(&other[range.clone()]);
        assert_eq!(peel(1, mixed), Err(PeelError::Seal), "{range:?}");
    }
}

#[test]
fn case_12_reserved_slot_bytes_must_be_zero() {
    assert!(matches!(peel(1, with_slot(&forward_slot())), Ok(Peeled::Forward { .. })));
    for at in [1].into_iter().chain(6..16) {
        let mut slot = forward_slot();
        slot[at] = 1;
        let field = if at == 1 { "flags" } else { "reserved" };
        assert_eq!(peel(1, with_slot(&slot)), Err(PeelError::Slot(field)), "forward, byte {at}");
    }
    for kind in [2, 3] {
        assert!(peel(1, with_slot(&terminal_slot(kind, 10))).is_ok());
        for at in (1..4).chain(8..96) {
            let mut slot = terminal_slot(kind, 10);
            slot[at] = 0x40;
            assert_eq!(peel(1, with_slot(&slot)), Err(PeelError::Slot("reserved")), "type {kind}, byte {at}");
        }
    }
}

#[test]
fn case_13_unknown_slot_types_are_dropped() {
    for kind in [0].into_iter().chain(4..=255) {
        let slot = terminal_slot(kind, 10);
        assert_eq!(peel(1, with_slot(&slot)), Err(PeelError::Slot("type")), "type {kind}");
    }
}

#[test]
fn case_14_a_loop_ends_with_the_layers() {
    let (a, b) = (node(1), node(2));
    let route: Vec<Hop> = hops(&[node(1), node(2), node(1), node(2), node(1), node(2)]);
    let mut packet = v3::wrap(&route, Terminal::Drop, &mut entropy(60)).unwrap();
    let keys = [a.secret, b.secret];
    let mut tags = HashSet::new();
    for _ in 0..5 {
        let opened = v3::open(&keys, packet).unwrap();
        assert!(tags.insert(opened.replay_tag()));
        let Peeled::Forward { packet: inner, .. } = opened.parse().unwrap() else { panic!("ended early") };
        packet = inner;
    }
    assert_eq!(v3::open(&keys, packet).unwrap().parse(), Ok(Peeled::Drop));
}

/// A relay and a server tell by the value alone what is not theirs.
#[test]
fn case_15_deliver_and_forward_are_told_apart() {
    let delivered = peel(1, with_slot(&terminal_slot(2, 5))).unwrap();
    assert_eq!(delivered, Peeled::Deliver { content: vec![0xaa; 5] });
    let Peeled::Forward { next, .. } = peel(1, with_slot(&forward_slot())).unwrap() else { panic!() };
    assert_eq!(next, NodeId([0xbb; 32]));
}

#[test]
fn case_16_content_length_none_capacity_and_one_more() {
    let capacity = PacketClass::C0.capacity();
    for kind in [2, 3] {
        assert!(peel(1, with_slot(&terminal_slot(kind, 0))).is_ok());
        assert!(peel(1, with_slot(&terminal_slot(kind, capacity))).is_ok());
        for len in [capacity + 1, PacketClass::C0.size(), u32::MAX as usize] {
            let refused = peel(1, with_slot(&terminal_slot(kind, len)));
            assert_eq!(refused, Err(PeelError::Slot("content length")), "{len}");
        }
    }
    for class in PacketClass::ALL {
        let route = hops(&nodes(4));
        let full = vec![7; class.capacity()];
        let built = v3::wrap_in(class, &route, Terminal::Deliver(&full), &mut entropy(1)).unwrap();
        assert_eq!(built.len(), class.size());
        let above = vec![7; class.capacity() + 1];
        assert_eq!(
            v3::wrap_in(class, &route, Terminal::Deliver(&above), &mut entropy(1)),
            Err(WrapError::TooLarge { len: above.len(), capacity: class.capacity() })
        );
    }
    let above = vec![7; PacketClass::LARGEST.capacity() + 1];
    assert!(matches!(
        v3::wrap(&hops(&nodes(1)), Terminal::Deliver(&above), &mut entropy(1)),
        Err(WrapError::TooLarge { .. })
    ));
}

#[test]
fn case_17_no_layer_and_seven_layers_are_refused() {
    for (count, fits) in [(0, false), (1, true), (6, true), (7, false), (300, false)] {
        let mut route = hops(&nodes(count.min(200)));
        route.resize(count, Hop { node: NodeId([1; 32]), key: node(1).secret.public(), delay: 0 });
        let built = v3::wrap(&route, Terminal::Drop, &mut entropy(1));
        assert_eq!(built.map(|_| ()), if fits { Ok(()) } else { Err(WrapError::Layers(count)) });
    }
}

#[test]
fn case_21_the_delay_is_capped() {
    for (units, delay) in [(0, 0), (1, 10), (5999, 59_990), (6000, 60_000), (6001, 60_000), (65535, 60_000)] {
        let mut route = hops(&nodes(2));
        route[0].delay = units;
        let built = v3::wrap(&route, Terminal::Drop, &mut entropy(1)).unwrap();
        let Peeled::Forward { delay: told, .. } = peel(1, built).unwrap() else { panic!("not forwarded") };
        assert_eq!(told, Duration::from_millis(delay), "{units}");
        assert!(told <= MAX_DELAY);
    }
}

#[test]
fn case_22_two_builds_share_only_version_class_and_key_id() {
    let (one, other) = (packet(50), packet(51));
    assert_eq!(one[..EPK_AT], other[..EPK_AT]);
    let windows: HashSet<&[u8]> = one[EPK_AT..].windows(8).collect();
    assert!(other[EPK_AT..].windows(8).all(|window| !windows.contains(window)));
}

#[test]
fn case_23_a_random_source_that_fails_gives_no_packet() {
    let built = v3::wrap(&hops(&nodes(3)), Terminal::Drop, &mut Broken);
    assert!(matches!(built, Err(WrapError::Entropy(_))));
    assert!(OnionSecret::generate(1, &mut Broken).is_err());
}

#[test]
fn secrets_and_contents_do_not_print() {
    let secret = OnionSecret::from_bytes(7, [0x41; 32]);
    assert_eq!(format!("{secret:?}"), "OnionSecret { kid: 7, .. }");
    let opened = v3::open(&[node(1).secret], packet(50)).unwrap();
    assert_eq!(format!("{opened:?}"), "Opened { kid: 101, class: C0, .. }");
    let delivered = Peeled::Deliver { content: vec![1, 2, 3] };
    assert_eq!(format!("{delivered:?}"), "Deliver { content: 3 bytes }");
}
