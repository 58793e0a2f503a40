//! Nonces for proofs of a key: made without keeping anything, good for a minute.

use delta_core::entropy::{Entropy, EntropyError};
use delta_core::identity::Millis;
use delta_core::topic::TopicId;
use zeroize::Zeroizing;

/// How long a nonce can be used, milliseconds.
pub const NONCE_VALID_MS: u64 = 60_000;

/// Makes nonces and knows its own: `expires_ms u64 | BLAKE3-keyed(key, topic_id | expires_ms)[..24]`.
#[derive(Debug)]
pub struct Nonces(Zeroizing<[u8; 32]>);

impl Nonces {
    /// With a fresh key: nonces of an earlier run are not known.
    ///
    /// # Errors
    /// The random source failed.
    pub fn new(entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        let mut key = Zeroizing::new([0; 32]);
        entropy.fill(&mut *key)?;
        Ok(Self(key))
    }

    /// A nonce for a topic.
    pub fn issue(&self, topic: &TopicId, now: Millis) -> [u8; 32] {
        self.nonce(topic, now.plus(NONCE_VALID_MS).0.to_be_bytes())
    }

    /// Whether a nonce is one of ours for the topic, and still good.
    pub fn knows(&self, topic: &TopicId, nonce: &[u8; 32], now: Millis) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = *nonce;
        let expires = [a, b, c, d, e, f, g, h];
        let good = now.0 < u64::from_be_bytes(expires);
        // Compared in constant time, or a nonce could be guessed byte by byte.
        good && blake3::Hash::from_bytes(self.nonce(topic, expires)) == blake3::Hash::from_bytes(*nonce)
    }

    fn nonce(&self, topic: &TopicId, expires: [u8; 8]) -> [u8; 32] {
        let mut nonce = [0; 32];
        let (head, tail) = nonce.split_at_mut(8);
        head.copy_from_slice(&expires);
        blake3::Hasher::new_keyed(&self.0).update(&topic.0).update(&expires).finalize_xof().fill(tail);
        nonce
    }
}

#[cfg(test)]
mod tests {
    use delta_core::entropy::SeededEntropy;

    use super::*;

    #[test]
    fn a_nonce_is_good_for_a_minute_one_topic_and_one_run() {
        let [ours, other] = [1, 2].map(|seed| Nonces::new(&mut SeededEntropy::new([seed; 32])).unwrap());
        let topic = TopicId([7; 32]);
        let nonce = ours.issue(&topic, Millis(1000));
        assert!(ours.knows(&topic, &nonce, Millis(1000)));
        assert!(ours.knows(&topic, &nonce, Millis(60_999)));
        assert!(!ours.knows(&topic, &nonce, Millis(61_000)));
        assert!(!ours.knows(&TopicId([8; 32]), &nonce, Millis(1000)));
        assert!(!other.knows(&topic, &nonce, Millis(1000)));
        for byte in 0..32 {
            let mut forged = nonce;
            forged[byte] ^= 1;
            assert!(!ours.knows(&topic, &forged, Millis(1000)), "byte {byte}");
        }
    }
}
