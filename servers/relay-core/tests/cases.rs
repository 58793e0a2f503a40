//! Adversarial cases at one relay, on the same code the server and the simulation run.

use delta_core::entropy::SeededEntropy;
use delta_core::identity::{Millis, NodeId};
use delta_core::onion::PacketClass;
use delta_core::onion::v3::{self, Hop, OnionSecret, Terminal};
use delta_relay_core::relay::Seen;
use delta_relay_core::{Event, Forward, KeyRing, LengthRefusal, Limits, Outcome, Relay, check_length};

const ME: NodeId = NodeId([1; 32]);
const NEXT: NodeId = NodeId([2; 32]);
const STRANGER: NodeId = NodeId([9; 32]);

fn secret(kid: u16) -> OnionSecret {
    OnionSecret::from_bytes(kid, [kid as u8; 32])
}

fn hop(node: NodeId, kid: u16, delay: u16) -> Hop {
    Hop { node, key: secret(kid).public(), delay }
}

/// A packet whose first layer is for key 1 and whose second, if `next` is given, is for key 2.
fn packet(seed: u8, next: Option<NodeId>, delay: u16) -> Vec<u8> {
    let mut hops = vec![hop(ME, 1, delay)];
    hops.extend(next.map(|next| hop(next, 2, 0)));
    v3::wrap(&hops, Terminal::Deliver(b"content"), &mut SeededEntropy::new([seed; 32])).unwrap()
}

fn relay_with(keys: KeyRing, limits: Limits) -> Relay {
    let mut relay = Relay::new(ME, keys, Seen::new(), limits);
    relay.set_known([ME, NEXT]);
    relay
}

fn relay() -> Relay {
    relay_with(KeyRing::new(secret(1), None, None).unwrap(), Limits::default())
}

fn sent(relay: &mut Relay) -> Vec<Forward> {
    std::iter::from_fn(|| relay.poll_transmit(Millis(0))).collect()
}

/// Feeds one packet and says what came of it besides being accepted.
fn dropped_as(relay: &mut Relay, packet: Vec<u8>) -> Option<Event> {
    let before: Vec<_> = Event::ALL.iter().map(|event| relay.counters().get(*event)).collect();
    relay.handle_packet(Millis(0), packet);
    let mut changed = Event::ALL
        .iter()
        .zip(before)
        .filter(|(event, before)| **event != Event::Accepted && relay.counters().get(**event) != *before);
    let first = changed.next().map(|(event, _)| *event);
    assert_eq!(changed.next(), None);
    first
}

#[test]
fn a_good_packet_is_forwarded_at_its_length() {
    for len in [1, 4000, 16_000] {
        let mut relay = relay();
        let hops = [hop(ME, 1, 0), hop(NEXT, 2, 0)];
        let packet =
            v3::wrap(&hops, Terminal::Deliver(&vec![7; len]), &mut SeededEntropy::new([1; 32])).unwrap();
        let packet_len = packet.len();
        relay.handle_packet(Millis(0), packet);
        let out = sent(&mut relay);
        assert_eq!(out.len(), 1);
        assert_eq!((out[0].next(), out[0].packet().len()), (NEXT, packet_len));
        assert!(v3::open(&[secret(2)], out[0].packet().to_vec()).is_ok());
    }
}

#[test]
fn case_01_a_flipped_byte_gives_no_output_and_changes_nothing() {
    let mut relay = relay();
    let good = packet(1, Some(NEXT), 0);
    for at in (0..good.len()).step_by(41).chain(0..60) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(dropped_as(&mut relay, bad), Some(Event::NotForUs), "byte {at}");
    }
    assert_eq!(relay.poll_timeout(), None);
    // The replay set did not remember the tampered copies: the packet itself still passes.
    assert_eq!(dropped_as(&mut relay, good), None);
    assert_eq!(sent(&mut relay).len(), 1);
}

#[test]
fn case_02_the_same_packet_twice_is_forwarded_once() {
    let mut relay = relay();
    assert_eq!(dropped_as(&mut relay, packet(1, Some(NEXT), 0)), None);
    assert_eq!(dropped_as(&mut relay, packet(1, Some(NEXT), 0)), Some(Event::Replayed));
    assert_eq!(sent(&mut relay).len(), 1);
}

#[test]
fn case_03_a_replay_after_a_restart_is_dropped() {
    let mut relay = relay();
    assert_eq!(dropped_as(&mut relay, packet(1, Some(NEXT), 0)), None);
    let (keys, seen) = relay.into_durable();
    let mut relay = Relay::new(ME, keys, seen, Limits::default());
    relay.set_known([NEXT]);
    assert_eq!(dropped_as(&mut relay, packet(1, Some(NEXT), 0)), Some(Event::Replayed));
}

#[test]
fn case_04_a_replay_under_an_erased_key_is_dropped() {
    let mut relay = relay();
    assert_eq!(dropped_as(&mut relay, packet(1, Some(NEXT), 0)), None);
    // Still accepted while the key is the previous one, and still remembered.
    relay.set_keys(KeyRing::new(secret(3), Some(secret(4)), Some(secret(1))).unwrap());
    assert_eq!(dropped_as(&mut relay, packet(1, Some(NEXT), 0)), Some(Event::Replayed));
    assert_eq!(dropped_as(&mut relay, packet(2, Some(NEXT), 0)), None);
    relay.set_keys(KeyRing::new(secret(4), None, Some(secret(3))).unwrap());
    assert_eq!(dropped_as(&mut relay, packet(1, Some(NEXT), 0)), Some(Event::NotForUs));
}

#[test]
fn case_07_only_class_sizes_are_read() {
    let sizes = [PacketClass::C0, PacketClass::C1, PacketClass::C2, PacketClass::C3, PacketClass::C4];
    for size in sizes.map(|class| class.size() as u64) {
        assert_eq!(check_length(Some(size)).map(|class| class.size() as u64), Ok(size));
        assert_eq!(check_length(Some(size - 1)), Err(LengthRefusal::NoClass));
        let past = check_length(Some(size + 1)).unwrap_err();
        assert_eq!(past.status(), if size == 1_052_672 { 413 } else { 400 });
    }
    for length in [0, 51, 52] {
        assert_eq!(check_length(Some(length)), Err(LengthRefusal::NoClass));
    }
    for length in [1 << 31, u64::MAX] {
        assert_eq!(check_length(Some(length)), Err(LengthRefusal::TooLong));
    }
    assert_eq!(check_length(None).unwrap_err().status(), 411);
}

#[test]
fn case_08_a_class_that_contradicts_the_length_is_dropped() {
    for class in [1, 2, 3, 4, 5, 255] {
        let mut bad = packet(1, Some(NEXT), 0);
        bad[1] = class;
        assert_eq!(dropped_as(&mut relay(), bad), Some(Event::NotForUs), "class {class}");
    }
}

#[test]
fn case_09_other_versions_are_dropped() {
    for version in [0, 1, 2, 4, 255] {
        let mut bad = packet(1, Some(NEXT), 0);
        bad[0] = version;
        assert_eq!(dropped_as(&mut relay(), bad), Some(Event::NotForUs), "version {version}");
    }
}

#[test]
fn case_10_a_packet_for_another_relay_is_dropped() {
    // Another key id, and another key under the same id.
    let other = KeyRing::new(secret(5), None, None).unwrap();
    let same_id = KeyRing::new(OnionSecret::from_bytes(1, [77; 32]), None, None).unwrap();
    for keys in [other, same_id] {
        let mut relay = relay_with(keys, Limits::default());
        assert_eq!(dropped_as(&mut relay, packet(1, Some(NEXT), 0)), Some(Event::NotForUs));
    }
}

#[test]
fn case_14_unknown_and_own_ids_are_dropped_and_a_loop_ends_with_the_layers() {
    assert_eq!(dropped_as(&mut relay(), packet(1, Some(STRANGER), 0)), Some(Event::UnknownNext));
    assert_eq!(dropped_as(&mut relay(), packet(1, Some(ME), 0)), Some(Event::OwnId));

    // Two relays in turn, six layers: the last layer has nowhere to go.
    let ids = [ME, NEXT];
    let mut relays = [1, 2].map(|kid| {
        let keys = KeyRing::new(secret(kid), None, None).unwrap();
        let mut relay = Relay::new(ids[usize::from(kid) - 1], keys, Seen::new(), Limits::default());
        relay.set_known(ids);
        relay
    });
    let hops: Vec<_> = (0..v3::MAX_LAYERS).map(|n| hop(ids[n % 2], n as u16 % 2 + 1, 0)).collect();
    let mut packet = v3::wrap(&hops, Terminal::Deliver(b"x"), &mut SeededEntropy::new([1; 32])).unwrap();
    for layer in 0..v3::MAX_LAYERS - 1 {
        let relay = &mut relays[layer % 2];
        relay.handle_packet(Millis(0), packet);
        packet = relay.poll_transmit(Millis(0)).unwrap().packet().to_vec();
    }
    assert_eq!(dropped_as(&mut relays[1], packet), Some(Event::DeliverAtRelay));
}

#[test]
fn case_15_a_deliver_slot_at_a_relay_is_dropped_and_cover_ends_quietly() {
    let mut relay = relay();
    assert_eq!(dropped_as(&mut relay, packet(1, None, 0)), Some(Event::DeliverAtRelay));
    let cover = v3::wrap(&[hop(ME, 1, 0)], Terminal::Drop, &mut SeededEntropy::new([2; 32])).unwrap();
    assert_eq!(dropped_as(&mut relay, cover), Some(Event::Cover));
    assert!(sent(&mut relay).is_empty());
}

#[test]
fn case_20_nothing_of_a_packet_is_seen_in_the_one_that_leaves() {
    let mut relay = relay();
    let packet = packet(1, Some(NEXT), 0);
    relay.handle_packet(Millis(0), packet.clone());
    let out = sent(&mut relay).remove(0).packet().clone();
    let windows: std::collections::HashSet<_> = packet.windows(8).collect();
    assert!(!out.windows(8).any(|window| windows.contains(window)));
}

#[test]
fn case_21_the_longest_delay_is_capped() {
    let mut relay = relay();
    assert_eq!(dropped_as(&mut relay, packet(1, Some(NEXT), u16::MAX)), None);
    assert!(sent(&mut relay).is_empty());
    assert_eq!(relay.poll_timeout(), Some(Millis(60_000)));
    relay.handle_timeout(Millis(60_000), &mut SeededEntropy::new([0; 32])).unwrap();
    let forward = relay.poll_transmit(Millis(60_000)).unwrap();
    relay.handle_outcome(Millis(60_001), forward, Outcome::Delivered);
    assert_eq!(relay.counters().get(Event::Delivered), 1);
}

#[test]
fn a_ring_has_distinct_ids_and_publishes_current_and_next() {
    assert!(KeyRing::new(secret(1), Some(secret(1)), None).is_err());
    assert!(KeyRing::new(secret(1), None, Some(secret(1))).is_err());
    assert!(KeyRing::new(secret(1), Some(secret(2)), Some(secret(2))).is_err());
    let ring = KeyRing::new(secret(1), Some(secret(2)), Some(secret(3))).unwrap();
    assert_eq!(ring.published(), [secret(1).public(), secret(2).public()]);
    assert_eq!(ring.secrets().len(), 3);
    let ring = KeyRing::new(secret(1), None, Some(secret(3))).unwrap();
    assert_eq!(ring.published(), [secret(1).public()]);
}
