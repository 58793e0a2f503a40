//! The platform's random source: the one place of this crate that draws from it.

use delta_core::entropy::{Entropy, EntropyError};

/// The operating system's generator.
pub struct PlatformEntropy;

impl Entropy for PlatformEntropy {
    #[allow(clippy::disallowed_methods, reason = "a main program is the rim where randomness enters")]
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(out).map_err(|_| EntropyError)
    }
}
