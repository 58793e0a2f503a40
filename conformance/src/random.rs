//! The platform's random source and clock, as far as a test program needs them.

use delta_core::entropy::{Entropy, EntropyError};

/// The platform's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Platform;

impl Entropy for Platform {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        #[allow(
            clippy::disallowed_methods,
            reason = "a program's rim: the one place that draws random bytes"
        )]
        getrandom::fill(out).map_err(|_| EntropyError)
    }
}

/// `N` random bytes.
///
/// # Panics
/// When the platform has no randomness: no check can run then.
pub fn array<const N: usize>() -> [u8; N] {
    Platform.array().expect("the platform's random source works")
}

/// `len` random bytes.
///
/// # Panics
/// When the platform has no randomness: no check can run then.
pub fn bytes(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    Platform.fill(&mut out).expect("the platform's random source works");
    out
}

/// Seconds since the Unix epoch by this machine's clock.
pub fn unix_seconds() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "a program's rim: records expire by the wall clock")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
