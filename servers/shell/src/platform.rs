//! The servers' rims: their only clocks and their only random source.

use std::time::{Duration, Instant, SystemTime};

use delta_core::entropy::{Entropy, EntropyError};
use delta_core::identity::Millis;

/// The wall clock, milliseconds since 1970; 0 when it stands before. Shown, and used for limits and expiry, never
/// for an order.
#[allow(clippy::disallowed_methods, reason = "the rim: everything below takes time as an argument")]
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A clock that never goes backwards, in milliseconds since it was started.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

#[allow(clippy::disallowed_methods, reason = "the rim: everything below takes time as an argument")]
impl Clock {
    /// Starts at zero.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Milliseconds since the start.
    pub fn now(&self) -> Millis {
        Millis(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The instant of a reading of [`now`](Self::now).
    pub fn instant(&self, at: Millis) -> Instant {
        self.start + Duration::from_millis(at.0)
    }
}

/// Draws every byte from the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlatformEntropy;

impl Entropy for PlatformEntropy {
    #[allow(clippy::disallowed_methods, reason = "the one place where randomness enters the servers")]
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(out).map_err(|_| EntropyError)
    }
}
