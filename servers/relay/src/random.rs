//! The platform's random source.

use delta_core::entropy::{Entropy, EntropyError};

/// Draws every byte from the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlatformEntropy;

impl Entropy for PlatformEntropy {
    #[allow(clippy::disallowed_methods, reason = "the one place where randomness enters the relay")]
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(out).map_err(|_| EntropyError)
    }
}
