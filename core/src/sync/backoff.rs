//! When to try again: exponential backoff with full jitter, and round-trip estimates.

use crate::entropy::Entropy;

/// Cap of the first delayed attempt, milliseconds.
pub const RECONNECT_MIN_MS: u64 = 250;
/// Cap that the delay between attempts grows to, milliseconds.
pub const RECONNECT_MAX_MS: u64 = 60_000;

/// Reconnect delays: the first attempt at once, then uniform in `0..=cap`, the cap doubling from
/// [`RECONNECT_MIN_MS`] to [`RECONNECT_MAX_MS`] ("full jitter").
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay before the next attempt, milliseconds, never below `floor_ms` (a server's `slow` or Retry-After).
    pub fn next_delay(&mut self, floor_ms: u64, entropy: &mut dyn Entropy) -> u64 {
        let cap = match self.failures {
            0 => 0,
            failures => doubled(RECONNECT_MIN_MS, failures - 1, RECONNECT_MAX_MS),
        };
        self.failures = self.failures.saturating_add(1);
        jitter(cap, entropy).max(floor_ms)
    }

    /// Forgets past failures: the connection has proven itself, or the network changed.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Uniform in `0..=cap`. Jitter is no secret: without randomness the whole delay is taken.
pub(crate) fn jitter(cap: u64, entropy: &mut dyn Entropy) -> u64 {
    entropy.below(cap.saturating_add(1)).unwrap_or(cap)
}

/// `base · 2^doublings`, at most `max`.
pub(crate) fn doubled(base: u64, doublings: u32, max: u64) -> u64 {
    1u64.checked_shl(doublings)
        .and_then(|factor| base.checked_mul(factor))
        .map_or(max, |value| value.min(max))
}

/// Smoothed round trip of a delivery: from the packet's sending to its echo (RFC 6298, α = 1/8).
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundTrip {
    smoothed_ms: Option<u64>,
}

impl RoundTrip {
    /// Takes one measurement. Only first attempts count (Karn's rule): a retried one is ambiguous.
    pub fn sample(&mut self, ms: u64) {
        self.smoothed_ms = Some(match self.smoothed_ms {
            None => ms,
            Some(old) => (old.saturating_mul(7).saturating_add(ms)) / 8,
        });
    }

    /// The estimate in milliseconds; `None` before the first echo.
    pub const fn smoothed_ms(&self) -> Option<u64> {
        self.smoothed_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn the_first_attempt_is_immediate_and_the_cap_doubles_to_a_minute() {
        let mut entropy = SeededEntropy::new([1; 32]);
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next_delay(0, &mut entropy), 0);
        for cap in [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000] {
            let delay = backoff.next_delay(0, &mut entropy);
            assert!(delay <= cap, "{delay} > {cap}");
        }
        backoff.reset();
        assert_eq!(backoff.next_delay(0, &mut entropy), 0);
    }

    #[test]
    fn a_servers_wish_is_a_floor() {
        let mut entropy = SeededEntropy::new([2; 32]);
        assert_eq!(Backoff::default().next_delay(1234, &mut entropy), 1234);
    }

    #[test]
    fn doubling_does_not_overflow() {
        assert_eq!(doubled(8_000, 200, 1_800_000), 1_800_000);
        assert_eq!(doubled(8_000, 63, 1_800_000), 1_800_000);
        assert_eq!(doubled(8_000, 2, 1_800_000), 32_000);
    }

    #[test]
    fn round_trips_are_smoothed_by_an_eighth() {
        let mut trip = RoundTrip::default();
        trip.sample(80);
        trip.sample(160);
        assert_eq!(trip.smoothed_ms(), Some(90));
    }
}
