//! Randomness as an argument.
//!
//! `core` never draws a random byte by itself: production hands in the platform's generator, the simulation a
//! seeded one. A source that fails is an error of the call that needed it; nothing is built from zeros.

use thiserror::Error;

/// The random source failed. Nothing was built or sent; try again later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Error)]
#[error("the platform's random source failed")]
pub struct EntropyError;

/// A source of unpredictable bytes.
pub trait Entropy {
    /// Fills `out` completely, or fails and leaves its content unspecified.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError>;

    /// `N` fresh bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], EntropyError>
    where
        Self: Sized,
    {
        let mut out = [0; N];
        self.fill(&mut out)?;
        Ok(out)
    }

    /// A number uniform in `0..bound` (bias below 2⁻³² for bounds below 2³²); 0 when `bound` is 0.
    fn below(&mut self, bound: u64) -> Result<u64, EntropyError> {
        let mut bytes = [0; 16];
        self.fill(&mut bytes)?;
        Ok((u128::from_be_bytes(bytes) % u128::from(bound.max(1))) as u64)
    }
}

impl Entropy for &mut dyn Entropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        (**self).fill(out)
    }
}

/// The output stream of ChaCha20 under a 32-byte key: expands one seed drawn from the platform into as many bytes
/// as one pure job (building a packet) needs, so that the job can run on another thread.
pub struct SeededEntropy(chacha20::ChaCha20);

impl SeededEntropy {
    /// Starts the stream. Use a seed for one job only.
    pub fn new(seed: [u8; 32]) -> Self {
        use chacha20::cipher::KeyIvInit;
        Self(chacha20::ChaCha20::new(&seed.into(), &[0; 12].into()))
    }
}

impl std::fmt::Debug for SeededEntropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SeededEntropy(..)")
    }
}

impl Entropy for SeededEntropy {
    /// Fails once the stream is used up (256 GiB).
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        use chacha20::cipher::StreamCipher;
        out.fill(0);
        self.0.try_apply_keystream(out).map_err(|_| EntropyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8439, A.1, test vectors 1 and 2: key 0, nonce 0, block counters 0 and 1.
    #[test]
    fn a_seed_gives_the_chacha20_keystream() {
        let mut source = SeededEntropy::new([0; 32]);
        let first: [u8; 16] = source.array().unwrap();
        assert_eq!(hex::encode(first), "76b8e0ada0f13d90405d6ae55386bd28");
        let _: [u8; 48] = source.array().unwrap();
        let second: [u8; 16] = source.array().unwrap();
        assert_eq!(hex::encode(second), "9f07e7be5551387a98ba977c732d080d");
    }

    #[test]
    fn below_stays_below() {
        let mut source = SeededEntropy::new([7; 32]);
        for bound in [1, 2, 3, 10, 1 << 40] {
            for _ in 0..100 {
                assert!(source.below(bound).unwrap() < bound);
            }
        }
        assert_eq!(source.below(0).unwrap(), 0);
    }
}
