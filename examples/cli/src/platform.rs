//! The platform's random source and clock: the one place of this crate that asks them.

use std::time::{SystemTime, UNIX_EPOCH};

use delta_core::entropy::{Entropy, EntropyError};
use delta_core::identity::Millis;

/// The operating system's generator.
pub struct PlatformEntropy;

impl Entropy for PlatformEntropy {
    #[allow(clippy::disallowed_methods, reason = "a main program is the rim where randomness enters")]
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(out).map_err(|_| EntropyError)
    }
}

/// The time, by the operating system's clock; the epoch when that is set before it.
#[allow(clippy::disallowed_methods, reason = "a main program is the rim where time enters")]
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
