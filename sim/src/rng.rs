//! The one source of chance: everything random in a run comes from its seed through here.

use delta_core::entropy::{Entropy, EntropyError, SeededEntropy};

/// A stream of chance. Streams with different labels are independent: a new draw in one does not shift the others.
#[derive(Debug)]
pub struct Rng(SeededEntropy);

impl Rng {
    /// The stream of a seed and a label.
    pub fn new(seed: u64, label: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("delta simulation stream v1");
        hasher.update(&seed.to_be_bytes()).update(label.as_bytes());
        Self(SeededEntropy::new(*hasher.finalize().as_bytes()))
    }

    /// `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        self.0.array().expect("a run draws less than 256 GiB")
    }

    /// Uniform in `0..bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // 64 bits modulo a small bound: the bias is below 2⁻³² for every bound used here.
        u64::from_be_bytes(self.bytes()) % bound.max(1)
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A place in a list of `len`.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// One of the items, if there is any.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.index(items.len()))
    }

    /// True in `per_mille` of a thousand cases.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// Short mostly, long sometimes: `low` doubled a uniform number of times, at most `high`.
    pub fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let doublings = (high / low.max(1)).max(1).ilog2();
        let cap = low << self.below(u64::from(doublings) + 1);
        self.between(low, cap.min(high))
    }
}

impl Entropy for Rng {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        self.0.fill(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_labels_differ() {
        let draw = |seed, label| Rng::new(seed, label).bytes::<32>();
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
    }

    #[test]
    fn draws_stay_in_their_range() {
        let mut rng = Rng::new(7, "range");
        for _ in 0..1000 {
            assert!((3..=9).contains(&rng.between(3, 9)));
            assert!((10..=5000).contains(&rng.skewed(10, 5000)));
            assert!(!rng.chance(0));
            assert!(rng.chance(1000));
        }
        assert_eq!(rng.pick::<u8>(&[]), None);
    }
}
