//! Which copy of a topic log this is.

use delta_core::topic::{Generation, TopicId};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Made at random with the data folder; a wiped or imported server has another, and so other generations.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct GenerationSecret([u8; 32]);

impl GenerationSecret {
    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The first 16 bytes of BLAKE3-keyed(secret, topic id).
    pub fn generation(&self, topic: &TopicId) -> Generation {
        let mut generation = [0; 16];
        blake3::Hasher::new_keyed(&self.0).update(&topic.0).finalize_xof().fill(&mut generation);
        Generation(generation)
    }
}

impl std::fmt::Debug for GenerationSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GenerationSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_differ_by_topic_and_secret_and_the_secret_does_not_print() {
        let secret = GenerationSecret::from_bytes([1; 32]);
        let topic = TopicId([2; 32]);
        let expected = blake3::keyed_hash(&[1; 32], &[2; 32]);
        assert_eq!(secret.generation(&topic).0, expected.as_bytes()[..16]);
        assert_ne!(secret.generation(&topic), secret.generation(&TopicId([3; 32])));
        assert_ne!(secret.generation(&topic), GenerationSecret::from_bytes([4; 32]).generation(&topic));
        assert_eq!(format!("{secret:?}"), "GenerationSecret(..)");
    }
}
