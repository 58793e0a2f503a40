//! The two things `core` takes as arguments and only a real device has: a clock and randomness. Nothing else in this
//! crate reads either.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use delta_core::entropy::{Entropy, EntropyError};
use delta_core::identity::Millis;

/// The operating system's random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlatformEntropy;

impl Entropy for PlatformEntropy {
    #[allow(clippy::disallowed_methods, reason = "the platform source; core takes randomness as an argument")]
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(out).map_err(|_| EntropyError)
    }
}

/// Tells the time of day.
pub trait WallClock: Send + Sync + fmt::Debug {
    /// Now.
    fn now(&self) -> Millis;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the platform's clock; core takes time as an argument")]
    fn now(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Wall-clock time that never goes back.
///
/// Deadlines of the engine are instants of this clock, so a system clock that is set back must not turn a pause of
/// a second into one of an hour. A clock set forward, or a device that slept, moves it forward.
#[derive(Debug)]
pub(crate) struct Clock {
    wall: Arc<dyn WallClock>,
    latest: Mutex<Option<(Millis, Instant)>>,
}

impl Clock {
    pub(crate) fn new(wall: Arc<dyn WallClock>) -> Self {
        Self { wall, latest: Mutex::new(None) }
    }

    pub(crate) fn now(&self) -> Millis {
        let (wall, instant) = (self.wall.now(), instant());
        let mut latest = self.latest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = advance(*latest, wall, instant);
        // Only a whole millisecond moves the mark: what is left of one counts next time.
        if latest.is_none_or(|(last, _)| now != last) {
            *latest = Some((now, instant));
        }
        now
    }
}

/// The later of the wall clock and the last answer plus the time that really passed since.
fn advance(latest: Option<(Millis, Instant)>, wall: Millis, instant: Instant) -> Millis {
    let Some((last, at)) = latest else { return wall };
    let passed = u64::try_from(instant.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
    wall.max(last.plus(passed))
}

/// How long to wait until `deadline`.
pub(crate) fn until(now: Millis, deadline: Millis) -> Duration {
    Duration::from_millis(deadline.since(now))
}

/// The clock that no one can set.
#[allow(clippy::disallowed_methods, reason = "the platform's monotonic clock, for pauses of this driver")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_back_goes_on_from_where_it_was() {
        let start = instant();
        let later = |ms| start + Duration::from_millis(ms);
        assert_eq!(advance(None, Millis(5_000), start), Millis(5_000));
        assert_eq!(advance(Some((Millis(5_000), start)), Millis(1_000), later(70)), Millis(5_070));
        assert_eq!(advance(Some((Millis(5_000), start)), Millis(5_080), later(70)), Millis(5_080));
        assert_eq!(advance(Some((Millis(5_000), start)), Millis(9_999_999), later(70)), Millis(9_999_999));
    }

    /// A wall clock that stands still in the past.
    #[derive(Debug)]
    struct Behind;

    impl WallClock for Behind {
        fn now(&self) -> Millis {
            Millis(1_000)
        }
    }

    #[test]
    fn asking_often_does_not_stop_a_clock_that_is_ahead() {
        let begun = instant() - Duration::from_millis(20);
        let clock = Clock { wall: Arc::new(Behind), latest: Mutex::new(Some((Millis(5_000), begun))) };
        let mut asked = 0;
        while clock.now() < Millis(5_030) {
            asked += 1;
            assert!(begun.elapsed() < Duration::from_secs(60), "asked {asked} times");
        }
        assert!(asked > 0 && begun.elapsed() >= Duration::from_millis(30));
    }
}
