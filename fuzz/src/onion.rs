//! Packets, slots, routes of packets, sealed senders and deliver content.

use std::sync::LazyLock;

use delta_core::identity::Author;
use delta_core::onion::v3::{self, OnionSecret, PeelError, Peeled, Terminal};
use delta_core::onion::{
    IdentitySecret, PacketClass, PeelLayerError, PeelSecret, deliver, peel_layer, sealed, v2,
};
use delta_core::topic::{TopicId, WriteKey};
use ed25519_dalek::SigningKey;

use crate::edit::{edited, pick};
use crate::support::{entropy, hops, nodes, seal_v2, seal_v3};

static NODE: LazyLock<OnionSecret> = LazyLock::new(|| OnionSecret::from_bytes(7, [9; 32]));
static RELAY_V2: LazyLock<IdentitySecret> = LazyLock::new(|| IdentitySecret::from_seed(&[3; 32]));
static WRITE: LazyLock<WriteKey> = LazyLock::new(|| WriteKey::from_seed([5; 32]));

/// A v3 packet as it comes from the network: nothing but the exact packet opens.
pub fn v3_packet(input: &[u8]) {
    static VALID: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let route = nodes(3);
        let last = v3::Hop { node: route[2].id, key: NODE.public(), delay: 0 };
        let first = v3::Hop { key: NODE.public(), ..last.clone() };
        let content = deliver::encode_operation(&WRITE, b"operation").unwrap();
        [vec![last.clone()], [vec![first], hops(&route), vec![last]].concat()]
            .iter()
            .map(|hops| v3::wrap(hops, Terminal::Deliver(&content), &mut entropy(1)).unwrap())
            .collect()
    });
    let packet = pick(input, &VALID).into_owned();
    let untouched = VALID.contains(&packet);
    match v3::open(std::slice::from_ref(&*NODE), packet) {
        Ok(opened) => {
            assert!(untouched, "a changed packet opened");
            opened.parse().unwrap();
        }
        Err(_) => assert!(!untouched),
    }
}

/// A slot under a valid seal, for every reserved byte and length a foreign builder may set.
pub fn v3_slot(input: &[u8]) {
    let class = PacketClass::ALL[usize::from(input.first().copied().unwrap_or(0) % 2)];
    let mut body = vec![0; class.size() - 52];
    let forward = [&[1, 0, 0, 3, 0, 9][..], &[0; 10], &[2; 32], &[4; 32], &[5; 16]].concat();
    let deliver = [&[2, 0, 0, 0, 0, 0, 0, 9][..], &[0; 88]].concat();
    let drop = [&[3][..], &[0; 95]].concat();
    let slot = pick(input.get(1..).unwrap_or_default(), &[forward, deliver, drop]);
    let len = slot.len().min(body.len());
    body[..len].copy_from_slice(&slot[..len]);
    let packet = seal_v3(&NODE, [6; 32], class as u8, &body);
    let opened = v3::open(std::slice::from_ref(&*NODE), packet).expect("the seal is valid");
    match opened.parse() {
        Ok(Peeled::Forward { next, delay, packet }) => {
            assert_eq!((body[0], body[1], &body[6..16]), (1, 0, &[0; 10][..]));
            assert_eq!(next.0, body[16..48]);
            assert!(delay <= v3::MAX_DELAY);
            assert_eq!(packet.len(), class.size());
            assert_eq!(packet[4..52], body[48..96]);
        }
        Ok(Peeled::Deliver { content }) => {
            assert_eq!((body[0], &body[1..4], &body[8..96]), (2, &[0; 3][..], &[0; 88][..]));
            assert!(content.len() <= class.capacity());
            assert_eq!(content, body[96..96 + content.len()]);
        }
        Ok(Peeled::Drop) => assert_eq!(body[0], 3),
        Err(error) => assert!(matches!(error, PeelError::Slot(_)), "{error}"),
    }
}

/// Any content over any number of nodes arrives, every packet as long as the one before.
pub fn v3_route(input: &[u8]) {
    let [count, seed, size, content @ ..] = input else { return };
    let route = nodes(usize::from(count % 6) + 1);
    let content: Vec<u8> =
        content.iter().copied().cycle().take(content.len() * usize::from(size % 32)).collect();
    let mut packet = v3::wrap(&hops(&route), Terminal::Deliver(&content), &mut entropy(*seed)).unwrap();
    let len = packet.len();
    for (index, node) in route.iter().enumerate() {
        assert_eq!(packet.len(), len);
        match v3::open(std::slice::from_ref(&node.secret), packet).unwrap().parse().unwrap() {
            Peeled::Forward { next, packet: inner, .. } => {
                assert_eq!(next, route[index + 1].id);
                packet = inner;
            }
            Peeled::Deliver { content: arrived } => {
                assert_eq!(index + 1, route.len());
                assert_eq!(arrived, content);
                return;
            }
            Peeled::Drop => panic!("content became cover traffic"),
        }
    }
    panic!("the content did not arrive");
}

/// A v2 packet as it comes, or any plaintext under a valid seal.
pub fn v2_packet(input: &[u8]) {
    static INNER: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let url = b"https://relay.example.org/hop";
        let forward = [&[1, 0, url.len() as u8][..], url, &[2; v2::MIN_PACKET]].concat();
        vec![forward, [&[2][..], &[8; 32], b"operation"].concat()]
    });
    let Some((sealed, rest)) = input.split_first() else { return };
    if sealed % 4 == 0 {
        let valid: Vec<Vec<u8>> = INNER.iter().map(|inner| seal_v2(&RELAY_V2, &[6; 32], inner)).collect();
        let packet = pick(rest, &valid).into_owned();
        let untouched = valid.contains(&packet);
        assert_eq!(v2::open(&RELAY_V2, packet).is_ok(), untouched);
        return;
    }
    let inner = pick(rest, &INNER);
    let opened = v2::open(&RELAY_V2, seal_v2(&RELAY_V2, &[6; 32], &inner)).expect("the seal is valid");
    match opened.parse() {
        Ok(v2::Peeled::Forward { url, packet }) => {
            let again = [&[1][..], &(url.len() as u16).to_be_bytes(), url.as_bytes(), &packet].concat();
            assert_eq!(again, *inner);
        }
        Ok(v2::Peeled::Deliver { topic, op }) => assert_eq!([&[2][..], &topic.0, &op].concat(), *inner),
        Err(_) => {}
    }
}

/// A sealed-sender envelope: opens for its recipient and the author it names, and for nothing else.
pub fn sealed_sender(input: &[u8]) {
    let sender = Author(SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes());
    let valid = sealed::seal(&sender, &RELAY_V2.public(), b"operation", &mut entropy(4)).unwrap();
    let envelope = pick(input, std::slice::from_ref(&valid)).into_owned();
    let untouched = envelope == valid;
    assert_eq!(sealed::open(&RELAY_V2, envelope.clone(), |_| Some(sender)).is_ok(), untouched);
    assert!(sealed::open(&RELAY_V2, envelope.clone(), |_| Some(Author([0; 32]))).is_err());
    assert!(v2::open(&RELAY_V2, envelope).is_err(), "a sealed sender is no packet");
}

/// Deliver content: changed content is refused; any payload under a valid signature is a list of operations that
/// encodes to the same bytes, or an error.
pub fn deliver_content(input: &[u8]) {
    static VALID: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let one = deliver::encode_operation(&WRITE, b"operation").unwrap();
        vec![one, deliver::encode_list(&WRITE, &[b"first", b"second", b"x"]).unwrap()]
    });
    let Some((kind, rest)) = input.split_first() else { return };
    if kind % 4 == 0 {
        let content = pick(rest, &VALID);
        assert_eq!(deliver::verify(&content).is_ok(), VALID.contains(&content.to_vec()));
        return;
    }
    let list = [&[0, 0, 0, 5][..], b"first", &[0, 0, 0, 1], b"x"].concat();
    let payload = pick(rest, std::slice::from_ref(&list));
    let content = deliver::encode_raw(&WRITE, kind % 8, &payload);
    let Ok(delivery) = deliver::verify(&content) else { return };
    assert_eq!(delivery.topic, TopicId::of(&WRITE.verifying_key()));
    let Ok(operations) = delivery.operations() else { return };
    assert!(!operations.is_empty() && operations.iter().all(|operation| !operation.is_empty()));
    let again = match delivery.flags {
        0 => deliver::encode_operation(&WRITE, operations[0]),
        _ => deliver::encode_list(&WRITE, &operations),
    };
    assert_eq!(again.unwrap(), content);
    // The tool's reader takes whatever the server's takes.
    let secret = PeelSecret::V3 { kid: None, secret: *NODE.to_bytes() };
    let hop = v3::Hop { node: nodes(1)[0].id, key: NODE.public(), delay: 0 };
    let packet = v3::wrap(&[hop], Terminal::Deliver(&content), &mut entropy(2)).unwrap();
    assert!(peel_layer(&secret, packet.clone()).is_ok());
    let changed = edited(packet.clone(), rest);
    if changed != packet {
        assert!(matches!(peel_layer(&secret, changed), Err(PeelLayerError::V3(_))));
    }
}
