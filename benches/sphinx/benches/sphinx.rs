//! The same work with sphinx-packet (<https://github.com/nymtech/sphinx>): a packet for four nodes, about as long as
//! ours, and one node's processing of it. Ours stands beside it, so that both run in one process.
//!
//! A Sphinx packet can carry a reply block and hides its payload with a wide-block cipher; ours has neither and needs
//! neither. Every benchmark asserts its result before it is timed.

use std::hint::black_box;
use std::time::Duration;

use delta_core::entropy::SeededEntropy;
use delta_core::identity::NodeId;
use delta_core::onion::PacketClass;
use delta_core::onion::v3::{self, Hop, OnionSecret, Peeled, Terminal};
use divan::Bencher;
use sphinx_packet::header::delays::{Delay, generate_from_average_duration};
use sphinx_packet::packet::builder::SphinxPacketBuilder;
use sphinx_packet::packet::{ProcessedPacketData, SphinxPacket};
use sphinx_packet::route::{Destination, DestinationAddressBytes, Node, NodeAddressBytes};
use x25519_dalek::{PublicKey, StaticSecret};

/// Three relays and the server.
const LAYERS: usize = 4;
/// A payload with which the packet is as long as ours, or a little shorter.
const PAYLOAD: usize = 3700;

fn main() {
    divan::main();
}

fn sphinx_secrets() -> Vec<StaticSecret> {
    (1..=LAYERS).map(|number| StaticSecret::from([number as u8; 32])).collect()
}

fn sphinx_build(route: &[Node], delays: &[Delay], message: &[u8]) -> SphinxPacket {
    let destination = Destination::new(DestinationAddressBytes::from_bytes([3; 32]), [4; 16]);
    SphinxPacketBuilder::new()
        .with_payload_size(PAYLOAD)
        .build_packet(message, route, &destination, delays)
        .unwrap()
}

fn sphinx_route(secrets: &[StaticSecret]) -> (Vec<Node>, Vec<Delay>) {
    let node = |secret| Node::new(NodeAddressBytes::from_bytes([5; 32]), PublicKey::from(secret));
    let delays = generate_from_average_duration(LAYERS, Duration::from_millis(1));
    (secrets.iter().map(node).collect(), delays)
}

fn message() -> Vec<u8> {
    (0..3468).map(|index| index as u8).collect()
}

#[divan::bench]
fn sphinx_build_4_layers(bencher: Bencher<'_, '_>) {
    let secrets = sphinx_secrets();
    let ((route, delays), message) = (sphinx_route(&secrets), message());

    let mut packet = sphinx_build(&route, &delays, &message);
    let len = packet.len();
    assert!(
        (3900..=PacketClass::C0.size()).contains(&len),
        "{len} bytes, ours has {}",
        PacketClass::C0.size()
    );
    let (last, relays) = secrets.split_last().unwrap();
    for relay in relays {
        match packet.process(relay).unwrap().data {
            ProcessedPacketData::ForwardHop { next_hop_packet, .. } => packet = next_hop_packet,
            ProcessedPacketData::FinalHop { .. } => panic!("not forwarded"),
        }
    }
    match packet.process(last).unwrap().data {
        ProcessedPacketData::FinalHop { payload, .. } => {
            assert_eq!(payload.recover_plaintext().unwrap(), message)
        }
        ProcessedPacketData::ForwardHop { .. } => panic!("not delivered"),
    }
    bencher.bench_local(|| sphinx_build(black_box(&route), &delays, &message));
}

#[divan::bench]
fn sphinx_peel(bencher: Bencher<'_, '_>) {
    let secrets = sphinx_secrets();
    let (route, delays) = sphinx_route(&secrets);
    let bytes = sphinx_build(&route, &delays, &message()).to_bytes();
    let packet = || SphinxPacket::from_bytes(&bytes).unwrap();
    let forwarded = packet().process(&secrets[0]).unwrap().data;
    assert!(matches!(forwarded, ProcessedPacketData::ForwardHop { .. }));
    bencher.with_inputs(packet).bench_local_values(|packet| packet.process(black_box(&secrets[0])).unwrap());
}

fn delta_secrets() -> Vec<OnionSecret> {
    (1..=LAYERS).map(|kid| OnionSecret::from_bytes(kid as u16, [kid as u8; 32])).collect()
}

fn delta_hops(secrets: &[OnionSecret]) -> Vec<Hop> {
    let hop = |secret: &OnionSecret| Hop { node: NodeId([9; 32]), key: secret.public(), delay: 0 };
    secrets.iter().map(hop).collect()
}

fn delta_open(secret: &OnionSecret, packet: Vec<u8>) -> Peeled {
    v3::open(std::slice::from_ref(secret), packet).unwrap().parse().unwrap()
}

#[divan::bench]
fn delta_build_4_layers(bencher: Bencher<'_, '_>) {
    let secrets = delta_secrets();
    let (hops, message) = (delta_hops(&secrets), message());
    let mut entropy = SeededEntropy::new([1; 32]);
    let mut packet = v3::wrap(&hops, Terminal::Deliver(&message), &mut entropy).unwrap();
    let (last, relays) = secrets.split_last().unwrap();
    for relay in relays {
        let Peeled::Forward { packet: inner, .. } = delta_open(relay, packet) else {
            panic!("not forwarded")
        };
        packet = inner;
    }
    assert_eq!(delta_open(last, packet), Peeled::Deliver { content: message.clone() });
    bencher.bench_local(|| v3::wrap(black_box(&hops), Terminal::Deliver(&message), &mut entropy).unwrap());
}

#[divan::bench]
fn delta_peel(bencher: Bencher<'_, '_>) {
    let secrets = delta_secrets();
    let mut entropy = SeededEntropy::new([1; 32]);
    let packet = v3::wrap(&delta_hops(&secrets), Terminal::Deliver(&message()), &mut entropy).unwrap();
    assert!(matches!(delta_open(&secrets[0], packet.clone()), Peeled::Forward { .. }));
    bencher
        .with_inputs(|| packet.clone())
        .bench_local_values(|packet| delta_open(black_box(&secrets[0]), packet));
}
