//! Properties of all packets: what a route of any length looks like from outside.

use std::collections::HashSet;

use delta_core::entropy::SeededEntropy;
use delta_core::onion::PacketClass;
use delta_core::onion::v3::{self, Peeled, Terminal};
use proptest::prelude::*;

use crate::support::{hops, nodes, seal_v3};

/// Sends a packet along its route; gives it as each node received it, and the content.
fn travel(layers: usize, class: PacketClass, content: &[u8], seed: [u8; 32]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let route = nodes(layers);
    let terminal = Terminal::Deliver(content);
    let mut seen = vec![v3::wrap_in(class, &hops(&route), terminal, &mut SeededEntropy::new(seed)).unwrap()];
    for (index, node) in route.iter().enumerate() {
        let packet = seen.last().unwrap().clone();
        match v3::open(std::slice::from_ref(&node.secret), packet).unwrap().parse().unwrap() {
            Peeled::Forward { next, packet, .. } => {
                assert_eq!(next, route[index + 1].id);
                seen.push(packet);
            }
            Peeled::Deliver { content } => {
                assert_eq!(index + 1, layers);
                return (seen, content);
            }
            Peeled::Drop => panic!("dropped"),
        }
    }
    panic!("never delivered");
}

#[test]
fn case_17_one_to_six_layers_in_every_class_round_trip() {
    for class in PacketClass::ALL {
        for layers in 1..=v3::MAX_LAYERS {
            let content = vec![layers as u8; class.capacity()];
            let (seen, delivered) = travel(layers, class, &content, [layers as u8; 32]);
            assert_eq!(delivered, content);
            assert_eq!(seen.len(), layers);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn case_18_and_20_equal_length_and_no_shared_window_at_every_hop(
        layers in 1..=6usize,
        // Packets that travel the whole way are compared byte by byte: the three smaller classes are enough.
        class in 0..3usize,
        fill in 0.0..=1.0f64,
        seed: [u8; 32],
    ) {
        let class = PacketClass::ALL[class];
        let content = vec![0; (class.capacity() as f64 * fill) as usize];
        let (seen, delivered) = travel(layers, class, &content, seed);
        prop_assert_eq!(delivered, content);
        for pair in seen.windows(2) {
            prop_assert_eq!(pair[0].len(), class.size());
            prop_assert_eq!(pair[1].len(), class.size());
            let windows: HashSet<&[u8]> = pair[0].windows(8).collect();
            prop_assert!(pair[1].windows(8).all(|window| !windows.contains(window)));
        }
    }

    #[test]
    fn case_19_the_innermost_layer_looks_the_same_for_every_route_length(
        layers in 1..=6usize,
        seed: [u8; 32],
    ) {
        let content = b"short";
        let (seen, _) = travel(layers, PacketClass::C0, content, seed);
        let body = decrypt(layers, seen.last().unwrap());
        // The slot and the content are known; everything behind them must look random.
        let rest = &body[96 + content.len()..];
        prop_assert!(rest.windows(8).all(|window| window != [0; 8]));
        let counts = rest.iter().fold([0u32; 256], |mut counts, byte| {
            counts[usize::from(*byte)] += 1;
            counts
        });
        let expected = rest.len() as f64 / 256.0;
        let chi: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        // Chi square, 255 degrees of freedom: above 412 with probability below 10⁻⁹.
        prop_assert!(chi < 412.0, "chi square {chi}");
    }

    #[test]
    fn foreign_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 4096), slot: [u8; 32]) {
        let node = &nodes(1)[0];
        let keys = std::slice::from_ref(&node.secret);
        prop_assert!(v3::open(keys, bytes.clone()).is_err());
        bytes[..4].copy_from_slice(&[3, 0, 0, 101]);
        prop_assert!(v3::open(keys, bytes.clone()).is_err());
        // The same under a valid seal: the slot parser meets anything.
        bytes.truncate(4096 - 52);
        bytes[..32].copy_from_slice(&slot);
        bytes[0] %= 5;
        let _ = v3::open(keys, seal_v3(&node.secret, [1; 32], 0, &bytes)).unwrap().parse();
    }
}

/// The whole decrypted body of the last layer, padding and tail included (the peeled packet has lost them).
fn decrypt(layers: usize, packet: &[u8]) -> Vec<u8> {
    use chacha20::ChaCha20;
    use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
    use x25519_dalek::{PublicKey, StaticSecret};

    let node = &nodes(layers)[layers - 1].secret;
    let epk: [u8; 32] = packet[4..36].try_into().unwrap();
    let dh = StaticSecret::from(*node.to_bytes()).diffie_hellman(&PublicKey::from(epk));
    let info = [b"keys", &packet[..36], &node.public().public].concat();
    let mut okm = [0; 80];
    hkdf::Hkdf::<sha2::Sha256>::new(Some(b"delta:onion:v3"), dh.as_bytes()).expand(&info, &mut okm).unwrap();
    let mut body = packet[52..].to_vec();
    let mut stream = ChaCha20::new_from_slices(&okm[..32], &[0; 12]).unwrap();
    stream.seek(64);
    stream.apply_keystream(&mut body);
    body
}
