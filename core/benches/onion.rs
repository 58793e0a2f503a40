//! Packets: building four layers and peeling one, at 4 KiB, beside the bare primitives a layer cannot do without.
//!
//! The bare versions make the same X25519, HKDF and AEAD calls on as many bytes, with no packet around them: what is
//! above their time is this project's own. Every benchmark asserts its result before it is timed.

use std::hint::black_box;

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Tag};
use delta_core::entropy::{Entropy, SeededEntropy};
use delta_core::identity::NodeId;
use delta_core::onion::PacketClass;
use delta_core::onion::v3::{self, Hop, OnionSecret, Peeled, Terminal};
use divan::Bencher;
use graviola::key_agreement::x25519::{PublicKey, StaticPrivateKey as StaticSecret};
use hkdf::Hkdf;
use sha2::Sha256;

/// Three relays and the server.
const LAYERS: usize = 4;
const BODY: usize = PacketClass::C0.size() - 52;
const HEADER: [u8; 36] = [3; 36];

fn main() {
    divan::main();
}

fn entropy() -> SeededEntropy {
    SeededEntropy::new([1; 32])
}

fn secrets() -> Vec<OnionSecret> {
    let mut entropy = entropy();
    (0..LAYERS).map(|kid| OnionSecret::generate(kid as u16, &mut entropy).unwrap()).collect()
}

fn hops(secrets: &[OnionSecret]) -> Vec<Hop> {
    let hop = |secret: &OnionSecret| Hop { node: NodeId([9; 32]), key: secret.public(), delay: 0 };
    secrets.iter().map(hop).collect()
}

fn content() -> Vec<u8> {
    (0..PacketClass::C0.capacity()).map(|index| index as u8).collect()
}

fn open(secret: &OnionSecret, packet: Vec<u8>) -> Peeled {
    v3::open(std::slice::from_ref(secret), packet).unwrap().parse().unwrap()
}

#[divan::bench]
fn build_4_layers(bencher: Bencher<'_, '_>) {
    let secrets = secrets();
    let (hops, content) = (hops(&secrets), content());
    let build = |entropy: &mut SeededEntropy| v3::wrap(&hops, Terminal::Deliver(&content), entropy).unwrap();

    let mut packet = build(&mut entropy());
    assert_eq!(packet.len(), PacketClass::C0.size());
    let (server, relays) = secrets.split_last().unwrap();
    for relay in relays {
        let Peeled::Forward { packet: inner, .. } = open(relay, packet) else { panic!("not forwarded") };
        packet = inner;
    }
    assert_eq!(open(server, packet), Peeled::Deliver { content: content.clone() });

    let mut entropy = entropy();
    bencher.bench_local(|| build(black_box(&mut entropy)));
}

/// Per layer: a key pair, one exchange, 80 bytes of HKDF, one AEAD pass over the body; and one copy of the content.
#[divan::bench]
fn build_4_layers_bare(bencher: Bencher<'_, '_>) {
    let secrets = secrets();
    let keys: Vec<PublicKey> =
        secrets.iter().map(|secret| PublicKey::from_array(&secret.public().public)).collect();
    let content = content();
    let build = |entropy: &mut SeededEntropy| {
        let mut body = vec![0; PacketClass::C0.size()];
        body[..content.len()].copy_from_slice(&content);
        let mut ephemerals = [[0; 32]; LAYERS];
        entropy.fill(ephemerals.as_flattened_mut()).unwrap();
        let mut tags = [Tag::default(); LAYERS];
        for ((key, ephemeral), tag) in keys.iter().zip(ephemerals).zip(&mut tags) {
            let ephemeral = StaticSecret::from_array(&ephemeral);
            let public = ephemeral.public_key();
            let shared = ephemeral.diffie_hellman(key).unwrap();
            *tag = cipher(&shared.0, &public.as_bytes())
                .encrypt_in_place_detached(&[0; 12].into(), &HEADER, &mut body[..BODY])
                .unwrap();
        }
        (body, tags)
    };

    let (mut body, tags) = build(&mut entropy());
    let mut ephemerals = [[0; 32]; LAYERS];
    entropy().fill(ephemerals.as_flattened_mut()).unwrap();
    for ((secret, ephemeral), tag) in secrets.iter().zip(ephemerals).zip(tags).rev() {
        let public = StaticSecret::from_array(&ephemeral).public_key();
        let shared = StaticSecret::from_array(&secret.to_bytes()).diffie_hellman(&public).unwrap();
        cipher(&shared.0, &public.as_bytes())
            .decrypt_in_place_detached(&[0; 12].into(), &HEADER, &mut body[..BODY], &tag)
            .unwrap();
    }
    assert_eq!(body[..content.len()], content);

    let mut entropy = entropy();
    bencher.bench_local(|| build(black_box(&mut entropy)));
}

#[divan::bench]
fn peel(bencher: Bencher<'_, '_>) {
    let secrets = secrets();
    let packet = v3::wrap(&hops(&secrets), Terminal::Deliver(&content()), &mut entropy()).unwrap();
    let peel = |packet| open(&secrets[0], packet);

    assert!(
        matches!(peel(packet.clone()), Peeled::Forward { packet, .. } if packet.len() == PacketClass::C0.size())
    );
    bencher.with_inputs(|| packet.clone()).bench_local_values(|packet| peel(black_box(packet)));
}

/// One exchange, 80 bytes of HKDF, one AEAD pass over the body.
#[divan::bench]
fn peel_bare(bencher: Bencher<'_, '_>) {
    let secret = StaticSecret::from_array(&[5; 32]);
    let epk = StaticSecret::from_array(&[6; 32]).public_key();
    let mut sealed = vec![7; PacketClass::C0.size()];
    let tag = cipher(&secret.diffie_hellman(&epk).unwrap().0, &epk.as_bytes())
        .encrypt_in_place_detached(&[0; 12].into(), &HEADER, &mut sealed[..BODY])
        .unwrap();
    let peel = |mut packet: Vec<u8>| {
        let shared = secret.diffie_hellman(&PublicKey::from_array(&epk.as_bytes())).unwrap();
        cipher(&shared.0, &epk.as_bytes())
            .decrypt_in_place_detached(&[0; 12].into(), &HEADER, &mut packet[..BODY], &tag)
            .unwrap();
        packet
    };

    assert_eq!(peel(sealed.clone()), vec![7; PacketClass::C0.size()]);
    bencher.with_inputs(|| sealed.clone()).bench_local_values(|packet| peel(black_box(packet)));
}

/// As much HKDF as a layer takes.
fn cipher(shared: &[u8; 32], info: &[u8; 32]) -> ChaCha20Poly1305 {
    let mut okm = [0; 80];
    Hkdf::<Sha256>::new(Some(b"delta:onion:v3"), shared)
        .expand_multi_info(&[b"keys", &HEADER, info], &mut okm)
        .unwrap();
    ChaCha20Poly1305::new(okm[..32].into())
}
