//! Device certificates in the first operation of a log.

use cbor_core::{Map, Value};
use delta_core::identity::{Author, Certificate, IdentityKey, LogId, Millis, Revocation};
use delta_core::ops::{
    Body, Content, DeviceKey, Rejected, VerifiedOperation, create, create_introducing, peek, verify,
};

use crate::adversarial::{fields, signed};

/// As the helpers have it.
const LOG: LogId = LogId([4; 32]);

fn body(text: &str) -> Body {
    Body::new(Content::MessageSend {
        text: text.into(),
        reply: None,
        mentions: Vec::new(),
        attachments: Vec::new(),
    })
}

fn certified() -> (DeviceKey, Certificate) {
    let key = DeviceKey::from_bytes(&[1; 32]);
    let certificate = Certificate::sign(&IdentityKey::from_seed(&[9; 32]), key.author(), Millis(3));
    (key.certified(certificate).unwrap(), certificate)
}

fn read(op: &VerifiedOperation) -> Result<VerifiedOperation, Rejected> {
    verify(op.header(), op.body_bytes(), &LOG)
}

#[test]
fn certificates_are_those_of_the_vectors() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/identity.json");
    let vectors: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for vector in vectors["certificates"].as_array().unwrap() {
        let seed = |key: &str| -> [u8; 32] {
            hex::decode(vector[key].as_str().unwrap()).unwrap().try_into().unwrap()
        };
        let device = DeviceKey::from_bytes(&seed("device_seed")).author();
        let created = Millis(vector["created_ms"].as_u64().unwrap());
        let made = Certificate::sign(&IdentityKey::from_seed(&seed("identity_seed")), device, created);
        assert_eq!(hex::encode(made.to_bytes()), vector["certificate"].as_str().unwrap());
    }
}

#[test]
fn revocations_are_those_of_the_vectors() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/identity.json");
    let vectors: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let vectors = vectors["revocations"].as_array().unwrap();
    assert!(!vectors.is_empty());
    for vector in vectors {
        let bytes = |key: &str| hex::decode(vector[key].as_str().unwrap()).unwrap();
        let seed = |key: &str| -> [u8; 32] { bytes(key).try_into().unwrap() };
        let device = DeviceKey::from_bytes(&seed("device_seed")).author();
        let revoked = Millis(vector["revoked_ms"].as_u64().unwrap());
        let made = Revocation::sign(&IdentityKey::from_seed(&seed("identity_seed")), device, revoked);
        assert_eq!(made.to_bytes()[..], bytes("revocation"));
        assert_eq!(Revocation::from_bytes(&bytes("revocation")).unwrap().verify(), Ok(()));
    }
}

#[test]
fn the_first_operation_of_every_log_says_whose_device_it_is() {
    let (key, certificate) = certified();
    let first = create(&key, LOG, 0, None, &body("one")).unwrap();
    let second = create(&key, LOG, 1, Some(first.id()), &body("two")).unwrap();
    assert_eq!(first.certificate(), Some(&certificate));
    assert_eq!(read(&first).unwrap().certificate(), Some(&certificate));
    let stored = VerifiedOperation::from_store(first.header(), first.body_bytes()).unwrap();
    assert_eq!(stored.certificate(), Some(&certificate));
    assert_eq!(read(&second).unwrap().certificate(), None);
    // The first in a further topic, and who asks to be let in, say it again.
    let again = create_introducing(&key, LOG, 1, Some(first.id()), &body("two")).unwrap();
    assert_eq!(read(&again).unwrap().certificate(), Some(&certificate));
    let claim = Body::new(Content::InviteClaim { invite: first.id(), mac: [1; 32], space: LOG });
    let claim = create(&key, LOG, 1, Some(first.id()), &claim).unwrap();
    assert_eq!(read(&claim).unwrap().certificate(), Some(&certificate));
    let other = create(&key, LogId([8; 32]), 0, None, &body("elsewhere")).unwrap();
    assert_eq!(other.certificate(), Some(&certificate));
    // A device that is its own identity has none.
    let plain = create(&DeviceKey::from_bytes(&[1; 32]), LOG, 0, None, &body("one")).unwrap();
    assert_eq!(read(&plain).unwrap().certificate(), None);
}

/// An operation with these bytes under extension key 1, rightly signed.
fn forged(seq_num: u64, certificate: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let body = body("hello").encode().unwrap();
    let extensions = Map::from_pairs([(0, Value::from(LOG.0)), (1, Value::from(certificate.to_vec()))]);
    let backlink = (seq_num > 0).then_some([5; 32]);
    (signed(fields(&body, seq_num, backlink, Value::from(extensions))), body)
}

#[test]
fn a_certificate_that_does_not_hold_makes_the_operation_invalid() {
    let (key, certificate) = certified();
    let identity = IdentityKey::from_seed(&[9; 32]);
    let others = Certificate::sign(&identity, Author([9; 32]), Millis(3)).to_bytes();
    let mut unsigned = certificate.to_bytes();
    unsigned[135] ^= 1;
    for bad in [others, unsigned] {
        let (header, body) = forged(0, &bad);
        assert_eq!(verify(&header, &body, &LOG), Err(Rejected::Certificate));
        let (header, body) = forged(1, &bad);
        assert_eq!(verify(&header, &body, &LOG), Err(Rejected::Certificate), "nor later in the log");
    }
    let (header, body) = forged(0, &certificate.to_bytes());
    assert_eq!(verify(&header, &body, &LOG).unwrap().author(), key.author());
    for len in [0, 135, 137] {
        let (header, _) = forged(0, &vec![0; len]);
        assert_eq!(peek(&header), Err(Rejected::HeaderField("device certificate")), "{len} bytes");
    }
    assert!(DeviceKey::from_bytes(&[3; 32]).certified(certificate).is_err(), "another device's");
}
