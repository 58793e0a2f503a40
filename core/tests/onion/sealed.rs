//! Sealed sender v1.

use delta_core::identity::Author;
use delta_core::limits::MAX_ENVELOPE;
use delta_core::onion::sealed::{self, OpenSealedError, SealError};
use delta_core::onion::v2::{self, PeelError};
use delta_core::onion::v3;
use delta_core::onion::{IdentityKey, IdentitySecret};
use delta_core::topic::TopicId;
use serde_json::Value;

use crate::support::{Broken, LOW_ORDER, entropy, unhex};

const VECTORS: &str = include_str!("../vectors/onion-v2.json");
const SENDER: Author = Author([0x5e; 32]);

fn recipient() -> IdentitySecret {
    IdentitySecret::from_seed(&[8; 32])
}

fn envelope() -> Vec<u8> {
    sealed::seal(&SENDER, &recipient().public(), b"op", &mut entropy(1)).unwrap()
}

fn open(envelope: Vec<u8>) -> Result<sealed::Unsealed, OpenSealedError> {
    sealed::open(&recipient(), envelope, |_| Some(SENDER))
}

#[test]
fn the_vectors_seal_and_open() {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["sealed_sender_v1"].as_array().unwrap();
    assert_eq!(vectors.len(), 4);
    for vector in vectors {
        let text = |key: &str| vector[key].as_str().unwrap();
        let sender = Author(unhex(text("sender_public")));
        let secret = IdentitySecret::from_seed(&unhex(text("recipient_seed")));
        let recipient = IdentityKey::from_ed25519(&unhex(text("recipient_public"))).unwrap();
        let op = hex::decode(text("op")).unwrap();
        let (ephemeral, nonce) = (unhex(text("ephemeral_secret")), unhex(text("nonce")));
        let envelope = sealed::seal_with(&sender, &recipient, &op, &ephemeral, &nonce).unwrap();
        assert_eq!(hex::encode(&envelope), text("envelope"), "{}", text("name"));
        let opened = sealed::open(&secret, envelope, |inside| {
            assert_eq!(inside, op);
            Some(sender)
        });
        assert_eq!(opened, Ok(sealed::Unsealed { sender, op: op.clone() }), "{}", text("name"));
    }
}

#[test]
fn an_envelope_whose_sender_is_not_the_author_is_refused() {
    assert_eq!(
        sealed::open(&recipient(), envelope(), |_| Some(Author([1; 32]))),
        Err(OpenSealedError::Sender)
    );
    assert_eq!(sealed::open(&recipient(), envelope(), |_| None), Err(OpenSealedError::Sender));
}

#[test]
fn broken_and_foreign_envelopes_are_refused() {
    let good = envelope();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(open(bad).is_err(), "byte {at} bit {bit}");
        }
    }
    let other = IdentitySecret::from_seed(&[9; 32]);
    assert_eq!(sealed::open(&other, good.clone(), |_| Some(SENDER)), Err(OpenSealedError::Seal));
    for len in 0..73 {
        let mut short = good.clone();
        short.truncate(len);
        assert!(matches!(open(short), Err(OpenSealedError::Length(_) | OpenSealedError::Seal)), "{len}");
    }
    for point in LOW_ORDER {
        let mut bad = good.clone();
        hex::decode_to_slice(point, &mut bad[1..33]).unwrap();
        assert_eq!(open(bad), Err(OpenSealedError::EphemeralKey));
    }
}

#[test]
fn the_largest_envelope_and_one_byte_more() {
    let overhead = envelope().len() - 2;
    let seal = |len: usize| sealed::seal(&SENDER, &recipient().public(), &vec![7; len], &mut entropy(1));
    let largest = seal(MAX_ENVELOPE - overhead).unwrap();
    assert_eq!(largest.len(), MAX_ENVELOPE);
    assert!(open(largest.clone()).is_ok());
    assert_eq!(seal(MAX_ENVELOPE - overhead + 1), Err(SealError::TooLarge(MAX_ENVELOPE + 1)));
    let above = [largest, vec![0]].concat();
    assert_eq!(open(above), Err(OpenSealedError::Length(MAX_ENVELOPE + 1)));
}

#[test]
fn case_23_a_random_source_that_fails_seals_nothing() {
    let refused = sealed::seal(&SENDER, &recipient().public(), b"op", &mut Broken);
    assert!(matches!(refused, Err(SealError::Entropy(_))));
}

#[test]
fn case_26_sealed_sender_bytes_are_no_packet_and_packets_no_sealed_sender() {
    let mut padded = envelope();
    assert_eq!(v2::open(&recipient(), padded.clone()).map(|_| ()), Err(PeelError::Version(1)));
    // Relabelled they do not open either: the key depends on the format.
    padded[0] = v2::VERSION;
    assert_eq!(v2::open(&recipient(), padded.clone()).map(|_| ()), Err(PeelError::Seal));
    padded[0] = sealed::VERSION;
    padded.resize(4096, 0);
    assert_eq!(v3::peel_with_secret([1; 32], padded), Err(v3::PeelError::Version(1)));

    let hop = v2::Hop { key: recipient().public(), url: "https://relay.example/hop".into() };
    let mut onion = v2::wrap(&[hop], &TopicId([1; 32]), b"op", &mut entropy(1)).unwrap();
    assert_eq!(open(onion.clone()), Err(OpenSealedError::Version(2)));
    onion[0] = sealed::VERSION;
    assert_eq!(open(onion), Err(OpenSealedError::Seal));
    let mut v3_bytes = vec![0; 4096];
    v3_bytes[0] = v3::VERSION;
    assert_eq!(open(v3_bytes), Err(OpenSealedError::Version(3)));
}
