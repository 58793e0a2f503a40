//! How a device sends, beyond which relays there are: cover traffic, delays, the original packets. All of it is off
//! unless the app asks for it, because each costs something (docs/wire.md, section 15).

use thiserror::Error;

use crate::entropy::{Entropy, EntropyError, exponential};
use crate::identity::Millis;

/// Shortest mean time between two cover packets, milliseconds.
pub const COVER_MIN_MS: u64 = 1_000;
/// Longest mean time between two cover packets, milliseconds: less often hides nothing.
pub const COVER_MAX_MS: u64 = 24 * 60 * 60 * 1_000;
/// Longest mean delay at a relay, milliseconds.
pub const RELAY_DELAY_MAX_MS: u64 = 20_000;
/// Longest time all relays of one route may be asked to hold a packet, milliseconds. One relay holds none for longer.
pub const ROUTE_DELAY_MAX_MS: u64 = 60_000;
/// Unit of the delay in a packet, milliseconds.
const DELAY_UNIT_MS: u64 = 10;

/// How a device sends. The default is what most apps want: no cover, no delays, version 3 alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sending {
    /// Mean time between two packets that carry nothing, milliseconds, [`COVER_MIN_MS`] to [`COVER_MAX_MS`]; `None` for
    /// no such packets.
    pub cover_every_ms: Option<u64>,
    /// Mean time every relay is asked to hold a packet, milliseconds, 1 to [`RELAY_DELAY_MAX_MS`]; `None` for no delay.
    pub relay_delay_ms: Option<u64>,
    /// Also send to a server that takes only packets of version 2. They hide less.
    pub accept_v2: bool,
    /// When the records in use were collected, as far as is known. Keys of records that are too old are not used.
    /// `None`: they never grow old.
    pub records_as_of: Option<Millis>,
}

/// A setting is outside what makes sense. The app's configuration is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendingError {
    /// Cover packets too often or too seldom.
    #[error("the mean time between cover packets is {COVER_MIN_MS} to {COVER_MAX_MS} ms, not {0}")]
    Cover(u64),
    /// Too long a delay, or none.
    #[error("the mean delay at a relay is 1 to {RELAY_DELAY_MAX_MS} ms, not {0}")]
    RelayDelay(u64),
}

impl Sending {
    /// Whether every setting is in its bounds.
    pub fn check(&self) -> Result<(), SendingError> {
        if let Some(every) =
            self.cover_every_ms.filter(|every| !(COVER_MIN_MS..=COVER_MAX_MS).contains(every))
        {
            return Err(SendingError::Cover(every));
        }
        match self.relay_delay_ms {
            Some(delay) if !(1..=RELAY_DELAY_MAX_MS).contains(&delay) => Err(SendingError::RelayDelay(delay)),
            _ => Ok(()),
        }
    }

    /// What each of `relays` relays is asked to wait, in the packet's units, and the sum in milliseconds.
    pub(super) fn delays(
        &self,
        relays: usize,
        entropy: &mut dyn Entropy,
    ) -> Result<(Vec<u16>, u64), EntropyError> {
        let Some(mean) = self.relay_delay_ms else { return Ok((vec![0; relays], 0)) };
        let (mut delays, mut sum) = (Vec::with_capacity(relays), 0);
        for _ in 0..relays {
            let units = exponential(mean, entropy)?.min(ROUTE_DELAY_MAX_MS - sum) / DELAY_UNIT_MS;
            sum += units * DELAY_UNIT_MS;
            // At most 60 s, so at most 6,000 units.
            delays.push(u16::try_from(units).unwrap_or(0));
        }
        Ok((delays, sum))
    }
}

/// When the next packet that carries nothing goes: a Poisson process of its own, whatever else is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cover {
    pub(super) due: Option<Millis>,
}

impl Cover {
    /// Whether one is to be sent now; draws the time of the next. After a sleep it is one, not all that were missed.
    pub(super) fn take(&mut self, every_ms: Option<u64>, now: Millis, entropy: &mut dyn Entropy) -> bool {
        let Some(every_ms) = every_ms else {
            self.due = None;
            return false;
        };
        let take = self.due.is_some_and(|due| due <= now);
        // A clock that went back must not put the next one off for longer than could be drawn.
        let lost = self.due.is_some_and(|due| due.since(now) > every_ms.saturating_mul(45));
        if take || lost || self.due.is_none() {
            // Without randomness the mean: then there is no packet either.
            let wait = exponential(every_ms, entropy).unwrap_or(every_ms);
            self.due = Some(now.plus(wait.max(1)));
        }
        take
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn settings_have_bounds() {
        let cover = |every| Sending { cover_every_ms: Some(every), ..Sending::default() }.check();
        assert_eq!(cover(COVER_MIN_MS), Ok(()));
        assert_eq!(cover(COVER_MIN_MS - 1), Err(SendingError::Cover(COVER_MIN_MS - 1)));
        assert_eq!(cover(COVER_MAX_MS), Ok(()));
        assert_eq!(cover(COVER_MAX_MS + 1), Err(SendingError::Cover(COVER_MAX_MS + 1)));
        let delay = |delay| Sending { relay_delay_ms: Some(delay), ..Sending::default() }.check();
        assert_eq!((delay(1), delay(RELAY_DELAY_MAX_MS)), (Ok(()), Ok(())));
        assert_eq!(delay(0), Err(SendingError::RelayDelay(0)));
        assert_eq!(delay(RELAY_DELAY_MAX_MS + 1), Err(SendingError::RelayDelay(RELAY_DELAY_MAX_MS + 1)));
    }

    #[test]
    fn delays_are_exponential_each_for_itself_and_never_above_a_minute_together() {
        let mut entropy = SeededEntropy::new([8; 32]);
        assert_eq!(Sending::default().delays(3, &mut entropy), Ok((vec![0; 3], 0)));
        let private = Sending { relay_delay_ms: Some(2_000), ..Sending::default() };
        let mut all = 0;
        for _ in 0..3_000 {
            let (delays, sum) = private.delays(3, &mut entropy).unwrap();
            assert_eq!(delays.iter().map(|units| u64::from(*units) * 10).sum::<u64>(), sum);
            all += sum;
        }
        let mean = all / 9_000;
        assert!((1_900..2_100).contains(&mean), "{mean}");
        let slow = Sending { relay_delay_ms: Some(RELAY_DELAY_MAX_MS), ..Sending::default() };
        let sums: Vec<u64> = (0..500).map(|_| slow.delays(5, &mut entropy).unwrap().1).collect();
        assert_eq!(sums.iter().max(), Some(&ROUTE_DELAY_MAX_MS));
    }

    #[test]
    fn cover_comes_at_random_times_with_the_mean_asked_for_and_never_in_a_burst() {
        let mut entropy = SeededEntropy::new([9; 32]);
        let (mut cover, mut now) = (Cover::default(), Millis(1_000));
        assert!(!cover.take(Some(60_000), now, &mut entropy), "not at once");
        let start = now;
        for _ in 0..4_000 {
            now = cover.due.unwrap();
            assert!(cover.take(Some(60_000), now, &mut entropy));
            assert!(!cover.take(Some(60_000), now, &mut entropy));
        }
        let mean = now.since(start) / 4_000;
        assert!((55_000..65_000).contains(&mean), "{mean}");
        // Asleep for a week.
        now = now.plus(7 * 24 * 3_600_000);
        assert!(cover.take(Some(60_000), now, &mut entropy));
        assert!(!cover.take(Some(60_000), now, &mut entropy));
        // A clock put back.
        assert!(!cover.take(Some(60_000), Millis(5), &mut entropy));
        assert!(cover.due.unwrap() <= Millis(5).plus(45 * 60_000));
        assert!(!cover.take(None, now, &mut entropy));
        assert_eq!(cover.due, None);
    }
}
