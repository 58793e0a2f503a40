//! The platform's random source and clock, which are the client's.

use delta_client::{SystemClock, WallClock};
use delta_core::identity::Millis;

pub use delta_client::PlatformEntropy;

/// The time, by the operating system's clock.
pub fn now() -> Millis {
    SystemClock.now()
}

/// The clock that no one can set: for measuring.
#[allow(clippy::disallowed_methods, reason = "a main program is the rim where time enters")]
pub fn instant() -> std::time::Instant {
    std::time::Instant::now()
}
