//! The server's clock beside this device's.
//!
//! Records expire by this device's clock, and what is queued waits by it; a `hello` says the server's. The two are only
//! compared: nothing is set by a server's word, which is one server's and not signed.

use super::event::Event;
use super::io::Output;
use super::state::State;
use crate::identity::Millis;
use crate::topic::TopicId;

/// How far the two clocks may be apart before the app is told, milliseconds: far less than what a record is good for,
/// more than a phone on a slow link is wrong by.
pub const MAX_CLOCK_SKEW_MS: u64 = 10 * 60 * 1000;

/// How far this device's clock is from the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSkew {
    /// Milliseconds that this device's clock is ahead; less than 0: behind.
    pub ahead_ms: i64,
}

impl ClockSkew {
    /// What a `hello` that came at `now` says. A server without a clock says 0.
    fn of(now: Millis, server: Millis) -> Option<Self> {
        if server == Millis(0) {
            return None;
        }
        let far = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let ahead_ms = match now >= server {
            true => far(now.since(server)),
            false => -far(server.since(now)),
        };
        (ahead_ms.unsigned_abs() > MAX_CLOCK_SKEW_MS).then_some(Self { ahead_ms })
    }

    /// Not worth telling again.
    fn is_like(self, other: Self) -> bool {
        self.ahead_ms.abs_diff(other.ahead_ms) <= MAX_CLOCK_SKEW_MS
    }
}

impl State {
    /// Compares the clocks, and tells the app when they come apart or together.
    pub(super) fn heard_clock(
        &mut self,
        now: Millis,
        topic: TopicId,
        server: Millis,
        outputs: &mut impl Extend<Output>,
    ) {
        let skew = ClockSkew::of(now, server);
        let told = match (self.clock_skew, skew) {
            (None, None) => true,
            (Some(before), Some(now)) => before.is_like(now),
            _ => false,
        };
        if !told {
            self.clock_skew = skew;
            outputs.extend([Output::Event(Event::ClockSkew { topic, skew })]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::DeviceKey;
    use crate::store::Store;

    #[test]
    fn clocks_are_told_apart_at_ten_minutes_and_once() {
        let mut store = Store::in_memory().unwrap();
        let mut state = State::load(&mut store, DeviceKey::from_bytes(&[1; 32]), Millis(0)).unwrap();
        let (topic, server) = (TopicId([1; 32]), Millis(1_700_000_000_000));
        let limit = i64::try_from(MAX_CLOCK_SKEW_MS).unwrap();
        let mut hear = |ahead_ms: i64| {
            let mut outputs = Vec::new();
            let now = Millis(server.0.saturating_add_signed(ahead_ms));
            state.heard_clock(now, topic, server, &mut outputs);
            outputs.pop().map(|output| match output {
                Output::Event(Event::ClockSkew { skew, .. }) => skew.map(|skew| skew.ahead_ms),
                other => panic!("{other:?}"),
            })
        };
        for (ahead_ms, told) in [
            (0, None),
            (limit, None),
            (limit + 1, Some(Some(limit + 1))),
            (limit + 2, None),
            (-limit - 1, Some(Some(-limit - 1))),
            (-limit, Some(None)),
            (0, None),
        ] {
            assert_eq!(hear(ahead_ms), told, "{ahead_ms}");
        }
        let mut outputs = Vec::new();
        state.heard_clock(server, topic, Millis(0), &mut outputs);
        assert!(outputs.is_empty(), "a server without a clock says nothing");
    }
}
