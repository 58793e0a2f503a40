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

/// Exponentially distributed with this mean: the time between the events of a Poisson process. In integers, so that the
/// same bytes give the same time on every machine; never above 45 times the mean.
pub fn exponential(mean: u64, entropy: &mut dyn Entropy) -> Result<u64, EntropyError> {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes)?;
    // −ln u for u uniform in (0, 1]; ln 2 = 45426 / 2^16.
    let log2 = u128::from(negative_log2(u64::from_be_bytes(bytes).max(1)));
    Ok(u64::try_from((u128::from(mean) * log2 * 45_426) >> 32).unwrap_or(u64::MAX))
}

/// −log2(u / 2^64) with 16 bits behind the point, by squaring; `u` is not 0.
fn negative_log2(u: u64) -> u32 {
    let zeros = u.leading_zeros();
    // 1 to 2, with 63 bits behind the point.
    let mut mantissa = u128::from(u) << zeros;
    let mut fraction = 0;
    for _ in 0..16 {
        mantissa = (mantissa * mantissa) >> 63;
        let doubled = mantissa >> 64;
        mantissa >>= doubled;
        fraction = fraction << 1 | doubled as u32;
    }
    ((zeros + 1) << 16) - fraction
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

    #[test]
    fn the_logarithm_is_right_to_four_digits() {
        for u in [1, 2, 3, 1 << 32, u64::MAX / 3, u64::MAX / 2, 12_345_678_901_234_567_890, u64::MAX] {
            let exact = 64.0 - (u as f64).log2();
            let found = f64::from(negative_log2(u)) / 65_536.0;
            assert!((found - exact).abs() < 1e-4, "{u}: {found}, not {exact}");
        }
    }

    #[test]
    fn exponential_times_have_their_mean_and_their_half_life() {
        let mut entropy = SeededEntropy::new([4; 32]);
        let draws: Vec<u64> = (0..20_000).map(|_| exponential(1_000_000, &mut entropy).unwrap()).collect();
        let mean = draws.iter().sum::<u64>() / 20_000;
        // Standard error 0.7 %: five of them.
        assert!((965_000..1_035_000).contains(&mean), "{mean}");
        for (limit, share) in [(693_147, 10_000), (2_302_585, 2_000), (50_000, 19_025)] {
            let above = draws.iter().filter(|draw| **draw > limit).count();
            assert!(above.abs_diff(share) < 360, "{above} of {share} above {limit}");
        }
        assert_eq!(exponential(0, &mut entropy), Ok(0));
        assert!(exponential(u64::MAX, &mut SeededEntropy::new([1; 32])).is_ok());
    }
}
