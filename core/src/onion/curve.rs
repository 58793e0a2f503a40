//! What v2 and v3 share about Curve25519: which public keys are taken at all.

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

#[cfg(test)]
mod tests {
    use super::*;

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
