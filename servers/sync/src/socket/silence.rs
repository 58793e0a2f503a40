//! A client that says nothing: when it is asked whether it is there, and when it is given up.

use std::time::Duration;

use tokio::time::Instant;

/// A silent client is pinged after this time, and dropped when it stays silent twice as long again.
const PING_AFTER: Duration = Duration::from_secs(60);

/// How long a client has said nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    heard: Instant,
    pinged: bool,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// Ask: once.
    Ping,
    /// It is gone.
    End,
}

impl Silence {
    /// It was heard at `now`: a message, or the answer to a ping.
    pub(super) const fn since(now: Instant) -> Self {
        Self { heard: now, pinged: false }
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Instant {
        self.heard + PING_AFTER * if self.pinged { 3 } else { 1 }
    }

    /// What is due.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        if now < self.deadline() {
            return Due::Nothing;
        }
        match std::mem::replace(&mut self.pinged, true) {
            false => Due::Ping,
            true => Due::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant does: the test adds to it")]
    fn a_silent_client_is_pinged_after_a_minute_and_dropped_after_three() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut silence = Silence::since(start);
        assert_eq!(silence.due(at(59.9)), Due::Nothing);
        assert_eq!((silence.deadline(), silence.due(at(60.0))), (at(60.0), Due::Ping));
        assert_eq!(silence.due(at(60.0)), Due::Nothing, "pinged once");
        assert_eq!((silence.deadline(), silence.due(at(179.9))), (at(180.0), Due::Nothing));
        let mut answered = Silence::since(at(179.9));
        assert_eq!(silence.due(at(180.0)), Due::End);
        assert_eq!(answered.due(at(180.0)), Due::Nothing, "an answer begins anew");
        assert_eq!(answered.due(at(239.9)), Due::Ping);
    }
}
