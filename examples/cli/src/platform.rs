//! The platform's random source and clock, which are the client's.

use delta_client::{SystemClock, WallClock};
use delta_core::identity::Millis;

pub use delta_client::PlatformEntropy;

/// The time, by the operating system's clock.
pub fn now() -> Millis {
    SystemClock.now()
}
