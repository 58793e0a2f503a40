//! Operations: sealing, opening and verifying one message, beside the bare AEAD and the bare signature check.
//!
//! Every benchmark asserts its result before it is timed.

use std::hint::black_box;

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305};
use delta_core::identity::{LogId, Millis};
use delta_core::onion::deliver;
use delta_core::ops::{Body, Content, DeviceKey, Ticket, TopicKeys, VerifiedOperation, create, verify};
use delta_core::topic::WriteKey;
use divan::Bencher;
use ed25519_dalek::{Signer, SigningKey};

const LOG: LogId = LogId([4; 32]);
/// kind, key id, nonce.
const SEALED_HEAD: usize = 33;

fn main() {
    divan::main();
}

fn key() -> DeviceKey {
    DeviceKey::from_bytes(&[1; 32])
}

fn keys() -> TopicKeys {
    Ticket::private(LOG, 0, WriteKey::from_seed([5; 32]), [7; 32]).keys()
}

/// A text message as people write them.
fn message() -> Body {
    let text = "See you at the station at nine, I'll bring the tickets.".to_owned();
    let content = Content::MessageSend { text, reply: None, mentions: vec![], attachments: Vec::new() };
    Body { content, sent_at: Some(Millis(1_700_000_000_000)), observed: None, auth_heads: vec![] }
}

fn operation() -> VerifiedOperation {
    create(&key(), LOG, 0, None, &message()).unwrap()
}

#[divan::bench]
fn seal(bencher: Bencher<'_, '_>) {
    let (keys, op) = (keys(), operation());
    let seal = || keys.seal(black_box(op.header()), op.body_bytes()).unwrap();
    assert_eq!(keys.open(&seal()).unwrap().header, op.header());
    bencher.bench_local(seal);
}

/// XChaCha20-Poly1305 over as many bytes.
#[divan::bench]
fn seal_bare(bencher: Bencher<'_, '_>) {
    let len = keys().seal(operation().header(), operation().body_bytes()).unwrap().len();
    let seal = || bare_seal(&vec![9; len - SEALED_HEAD - 16]);
    assert_eq!(bare_open(seal()), vec![9; len - SEALED_HEAD - 16]);
    bencher.bench_local(|| black_box(seal()));
}

#[divan::bench]
fn open(bencher: Bencher<'_, '_>) {
    let (keys, op) = (keys(), operation());
    let envelope = keys.seal(op.header(), op.body_bytes()).unwrap();
    let open = || keys.open(black_box(&envelope)).unwrap();
    assert_eq!((&*open().header, &*open().body), (op.header(), op.body_bytes()));
    bencher.bench_local(open);
}

/// XChaCha20-Poly1305 over as many bytes, in place in a copy.
#[divan::bench]
fn open_bare(bencher: Bencher<'_, '_>) {
    let len = keys().seal(operation().header(), operation().body_bytes()).unwrap().len();
    let sealed = bare_seal(&vec![9; len - SEALED_HEAD - 16]);
    assert_eq!(bare_open(sealed.clone()), vec![9; len - SEALED_HEAD - 16]);
    bencher.bench_local(|| bare_open(black_box(sealed.clone())));
}

fn bare_seal(plaintext: &[u8]) -> (Vec<u8>, Tag) {
    let mut bytes = plaintext.to_vec();
    let cipher = XChaCha20Poly1305::new(&[7; 32].into());
    let tag = cipher.encrypt_in_place_detached(&[8; 24].into(), &[3; 41], &mut bytes).unwrap();
    (bytes, tag)
}

fn bare_open((mut bytes, tag): (Vec<u8>, Tag)) -> Vec<u8> {
    let cipher = XChaCha20Poly1305::new(&[7; 32].into());
    cipher.decrypt_in_place_detached(&[8; 24].into(), &[3; 41], &mut bytes, &tag).unwrap();
    bytes
}

#[divan::bench]
fn verify_operation(bencher: Bencher<'_, '_>) {
    let op = operation();
    let check = || verify(black_box(op.header()), op.body_bytes(), &LOG);
    assert_eq!(check().unwrap(), op);
    let mut forged = op.body_bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert!(verify(op.header(), &forged, &LOG).is_err());
    bencher.bench_local(check);
}

#[divan::bench]
fn verify_delivery(bencher: Bencher<'_, '_>) {
    let op = operation();
    let envelope = keys().seal(op.header(), op.body_bytes()).unwrap();
    let content = deliver::encode_operation(&WriteKey::from_seed([5; 32]), &envelope).unwrap();
    let check = || deliver::verify(black_box(&content));
    assert_eq!(check().unwrap().operations().unwrap(), [envelope.as_slice()]);
    let mut forged = content.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(deliver::verify(&forged).is_err());
    bencher.bench_local(|| check().is_ok());
}

/// One strict Ed25519 verification of a message as long as a header, the key decoded each time, as it comes.
#[divan::bench]
fn verify_bare(bencher: Bencher<'_, '_>) {
    let signer = SigningKey::from_bytes(&[1; 32]);
    let bytes = operation().header()[64..].to_vec();
    let signature = signer.sign(&bytes);
    let public = signer.verifying_key().to_bytes();
    let check = || {
        let key = ed25519_dalek::VerifyingKey::from_bytes(black_box(&public)).unwrap();
        key.verify_strict(black_box(&bytes), &signature)
    };
    assert!(check().is_ok());
    assert!(signer.verifying_key().verify_strict(b"another", &signature).is_err());
    bencher.bench_local(|| check().is_ok());
}

#[divan::bench]
fn create_operation(bencher: Bencher<'_, '_>) {
    let (key, message) = (key(), message());
    let make = || create(black_box(&key), LOG, 0, None, &message).unwrap();
    assert_eq!(make(), operation());
    bencher.bench_local(make);
}

/// One Ed25519 signature.
#[divan::bench]
fn create_bare(bencher: Bencher<'_, '_>) {
    let signer = SigningKey::from_bytes(&[1; 32]);
    let bytes = operation().header()[64..].to_vec();
    let sign = || signer.sign(black_box(&bytes));
    assert!(signer.verifying_key().verify_strict(&bytes, &sign()).is_ok());
    bencher.bench_local(sign);
}
