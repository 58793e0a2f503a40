//! What v2 and v3 share about Curve25519: which public keys are taken at all, and X25519 itself (RFC 7748).
//!
//! One X25519 is nearly all that a layer costs. With the feature `fast-curve25519`, where the processor allows it, it is computed by formally verified
//! assembly (graviola, from s2n-bignum; docs/adr/0008), in half the time; elsewhere by curve25519-dalek. The results are the
//! same bytes.

use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::processor::runs_assembly;

/// The secret that `own` shares with `other`; `None` when it is zero, which happens only with a key of low order.
pub(super) fn shared_secret(own: &StaticSecret, other: &PublicKey) -> Option<Zeroizing<[u8; 32]>> {
    if runs_assembly() {
        return fast::shared_secret(own, other);
    }
    let shared = own.diffie_hellman(other);
    shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
}

/// The public half of a key.
pub(super) fn public_of(own: &StaticSecret) -> PublicKey {
    if runs_assembly() { fast::public_of(own) } else { PublicKey::from(own) }
}

#[cfg(all(feature = "fast-curve25519", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod fast {
    use graviola::key_agreement::x25519;
    use x25519_dalek::{PublicKey, StaticSecret};
    use zeroize::Zeroizing;

    fn key(own: &StaticSecret) -> x25519::StaticPrivateKey {
        x25519::StaticPrivateKey::from_array(&Zeroizing::new(own.to_bytes()))
    }

    pub(super) fn shared_secret(own: &StaticSecret, other: &PublicKey) -> Option<Zeroizing<[u8; 32]>> {
        let other = x25519::PublicKey::from_array(other.as_bytes());
        key(own).diffie_hellman(&other).ok().map(|shared| Zeroizing::new(shared.0))
    }

    pub(super) fn public_of(own: &StaticSecret) -> PublicKey {
        PublicKey::from(key(own).public_key().as_bytes())
    }
}

#[cfg(not(all(feature = "fast-curve25519", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod fast {
    use x25519_dalek::{PublicKey, StaticSecret};
    use zeroize::Zeroizing;

    pub(super) const fn shared_secret(_: &StaticSecret, _: &PublicKey) -> Option<Zeroizing<[u8; 32]>> {
        None
    }

    pub(super) fn public_of(own: &StaticSecret) -> PublicKey {
        PublicKey::from(own)
    }
}

/// Whether `u` is the one canonical encoding of a Montgomery u-coordinate: top bit clear and below 2²⁵⁵ − 19.
///
/// X25519 itself accepts every string (RFC 7748, section 5); a packet must not have two spellings.
pub(super) fn is_canonical_u(u: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = u;
    match last {
        0x80.. => false,
        0x7f => *first < 0xed || middle.iter().any(|byte| *byte != 0xff),
        _ => true,
    }
}

/// Canonical u-coordinates of all points of small order, on the curve and on its twist (RFC 7748, section 7): every
/// clamped scalar takes them to zero.
const LOW_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
];

/// Whether a public key is canonically encoded and not of small order.
pub(crate) fn is_usable_u(u: &[u8; 32]) -> bool {
    is_canonical_u(u) && !LOW_ORDER.contains(u)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "fast-curve25519")]
    proptest::proptest! {
        /// Both implementations are the same function, also on public keys no honest node has.
        #[test]
        fn the_fast_curve_is_the_slow_one(secret: [u8; 32], public: [u8; 32]) {
            let (own, other) = (StaticSecret::from(secret), PublicKey::from(public));
            let slow = own.diffie_hellman(&other);
            let slow = slow.was_contributory().then(|| slow.to_bytes());
            proptest::prop_assert_eq!(shared_secret(&own, &other).map(|shared| *shared), slow);
            proptest::prop_assert_eq!(public_of(&own), PublicKey::from(&own));
        }
    }

    #[test]
    fn points_of_small_order_go_to_zero_and_others_do_not() {
        let reaches_zero =
            |u: [u8; 32]| !StaticSecret::from([7; 32]).diffie_hellman(&PublicKey::from(u)).was_contributory();
        for u in LOW_ORDER {
            assert!(reaches_zero(u) && is_canonical_u(&u) && !is_usable_u(&u));
            assert!(shared_secret(&StaticSecret::from([7; 32]), &PublicKey::from(u)).is_none());
        }
        let mut base = [0; 32];
        base[0] = 9;
        assert!(!reaches_zero(base) && is_usable_u(&base));
    }

    #[test]
    fn only_numbers_below_p_are_canonical() {
        let mut p = [0xff; 32];
        (p[0], p[31]) = (0xed, 0x7f);
        let mut below = p;
        below[0] = 0xec;
        assert!(is_canonical_u(&below));
        for above in 0xed..=0xff {
            p[0] = above;
            assert!(!is_canonical_u(&p), "{above}");
        }
        p[7] = 0xfe;
        assert!(is_canonical_u(&p));
        assert!(is_canonical_u(&[0; 32]));
        let mut high = [0; 32];
        high[31] = 0x80;
        assert!(!is_canonical_u(&high));
    }
}
