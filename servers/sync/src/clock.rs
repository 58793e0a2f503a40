//! The server's rims: its one clock and its one random source.

use std::time::SystemTime;

use delta_core::entropy::{Entropy, EntropyError};
use delta_core::identity::Millis;

/// The wall clock, milliseconds since 1970; 0 when it stands before. Shown to clients and used for limits, never
/// for order; topic logs keep receive times from going backwards themselves.
#[allow(clippy::disallowed_methods, reason = "the rim: everything below takes time as an argument")]
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Draws every byte from the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlatformEntropy;

impl Entropy for PlatformEntropy {
    #[allow(clippy::disallowed_methods, reason = "the one place where randomness enters the server")]
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(out).map_err(|_| EntropyError)
    }
}
