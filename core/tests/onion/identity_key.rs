//! Which Ed25519 keys can be used as X25519 keys.

use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::CompressedEdwardsY;
use delta_core::onion::{IdentityKey, IdentityKeyError, IdentitySecret};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

/// y = p + `low`, with or without the sign bit: a second spelling of y = `low`.
fn above_p(low: u8, sign: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xed + low;
    bytes[31] = 0x7f | sign;
    bytes
}

#[test]
fn case_25_points_of_small_order_are_refused() {
    for point in EIGHT_TORSION {
        let key = point.compress().to_bytes();
        assert_eq!(IdentityKey::from_ed25519(&key), Err(IdentityKeyError::Weak), "{}", hex::encode(key));
    }
    let mut identity = [0; 32];
    identity[0] = 1;
    assert_eq!(IdentityKey::from_ed25519(&identity), Err(IdentityKeyError::Weak));
}

#[test]
fn case_25_points_with_a_part_of_small_order_are_refused() {
    let good = SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
    assert!(IdentityKey::from_ed25519(&good).is_ok());
    let point = CompressedEdwardsY(good).decompress().unwrap();
    for torsion in EIGHT_TORSION.into_iter().skip(1) {
        let mixed = (point + torsion).compress().to_bytes();
        assert_eq!(IdentityKey::from_ed25519(&mixed), Err(IdentityKeyError::MixedOrder));
    }
}

#[test]
fn case_25_second_spellings_and_non_points_are_refused() {
    for low in 0..19 {
        for sign in [0, 0x80] {
            let key = above_p(low, sign);
            assert_eq!(IdentityKey::from_ed25519(&key), Err(IdentityKeyError::NotCanonical), "p + {low}");
        }
    }
    // x = 0 with the sign bit set: y = 1 and y = -1.
    let mut one = [0; 32];
    (one[0], one[31]) = (1, 0x80);
    let mut minus_one = [0xff; 32];
    minus_one[0] = 0xec;
    // y = 2 is on no point of the curve (RFC 8032, section 5.1.3: no square root).
    let mut two = [0; 32];
    two[0] = 2;
    for key in [one, minus_one, two] {
        assert_eq!(IdentityKey::from_ed25519(&key), Err(IdentityKeyError::NotCanonical));
    }
}

#[test]
fn secrets_do_not_print() {
    assert_eq!(format!("{:?}", IdentitySecret::from_seed(&[1; 32])), "IdentitySecret(..)");
}

proptest! {
    /// Both ways to the public key agree, and so does the shared secret of two of them.
    #[test]
    fn seed_and_public_key_convert_to_the_same_key(seed: [u8; 32]) {
        let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
        prop_assert_eq!(IdentitySecret::from_seed(&seed).public(), IdentityKey::from_ed25519(&public).unwrap());
    }

    /// Whatever is taken is the one spelling of its point.
    #[test]
    fn foreign_keys_never_panic(key: [u8; 32]) {
        if IdentityKey::from_ed25519(&key).is_ok() {
            prop_assert_eq!(CompressedEdwardsY(key).decompress().unwrap().compress().to_bytes(), key);
        }
    }
}
