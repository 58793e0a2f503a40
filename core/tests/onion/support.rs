//! Keys, routes and broken random sources for the tests.

use chacha20poly1305::aead::{Aead, AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};
use delta_core::entropy::{Entropy, EntropyError, SeededEntropy};
use delta_core::identity::NodeId;
use delta_core::onion::IdentitySecret;
use delta_core::onion::v3::{Hop, OnionSecret};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

pub fn unhex<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

pub fn entropy(seed: u8) -> SeededEntropy {
    SeededEntropy::new([seed; 32])
}

/// A node whose secret and id follow from its number.
pub struct Node {
    pub id: NodeId,
    pub secret: OnionSecret,
}

pub fn node(number: u8) -> Node {
    let secret = OnionSecret::generate(100 + u16::from(number), &mut entropy(number)).unwrap();
    Node { id: NodeId([number; 32]), secret }
}

pub fn nodes(count: usize) -> Vec<Node> {
    (1..).take(count).map(node).collect()
}

pub fn hops(nodes: &[Node]) -> Vec<Hop> {
    nodes.iter().map(|node| Hop { node: node.id, key: node.secret.public(), delay: 3 }).collect()
}

/// A random source that is out of order.
pub struct Broken;

impl Entropy for Broken {
    fn fill(&mut self, _: &mut [u8]) -> Result<(), EntropyError> {
        Err(EntropyError)
    }
}

/// The u-coordinates of all points of low order on the curve and its twist (RFC 7748, section 7; the list is that
/// of https://cr.yp.to/ecdh.html), canonical encodings.
pub const LOW_ORDER: [&str; 5] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// Seals any plaintext as a v2 layer, written here a second time from the format's text.
pub fn seal_v2(node: &IdentitySecret, ephemeral: &[u8; 32], plaintext: &[u8]) -> Vec<u8> {
    let ephemeral = StaticSecret::from(*ephemeral);
    let epk = PublicKey::from(&ephemeral);
    let dh = ephemeral.diffie_hellman(node.public().x25519());
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(Some(epk.as_bytes()), dh.as_bytes()).expand(b"delta:onion:v1", &mut key).unwrap();
    let sealed =
        XChaCha20Poly1305::new_from_slice(&key).unwrap().encrypt(&[5; 24].into(), plaintext).unwrap();
    [&[2], epk.as_bytes().as_slice(), &[5; 24], &sealed].concat()
}

/// Seals any body as a v3 layer for `node`, written here a second time from the format's text, to make packets the
/// builder would never make.
pub fn seal_v3(node: &OnionSecret, ephemeral: [u8; 32], class: u8, body: &[u8]) -> Vec<u8> {
    let ephemeral = StaticSecret::from(ephemeral);
    let public = node.public();
    let mut header = vec![3, class];
    header.extend(public.kid.to_be_bytes());
    header.extend(PublicKey::from(&ephemeral).as_bytes());
    let dh = ephemeral.diffie_hellman(&PublicKey::from(public.public));
    let info = [b"keys".as_slice(), &header, &public.public].concat();
    let mut okm = [0; 80];
    Hkdf::<Sha256>::new(Some(b"delta:onion:v3"), dh.as_bytes()).expand(&info, &mut okm).unwrap();
    let mut sealed = body.to_vec();
    let tag = ChaCha20Poly1305::new_from_slice(&okm[..32])
        .unwrap()
        .encrypt_in_place_detached(&[0; 12].into(), &header, &mut sealed)
        .unwrap();
    [header.as_slice(), tag.as_slice(), &sealed].concat()
}
