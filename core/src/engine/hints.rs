//! Network changes the platform reports: acted on at once, but never in a storm.

use crate::identity::Millis;

/// Shortest time between two network changes that are acted on, milliseconds; the pause doubles while they keep coming.
pub const HINT_PAUSE_MS: u64 = 1_000;
/// Longest such pause, milliseconds.
pub const HINT_PAUSE_MAX_MS: u64 = 30_000;

/// When network changes are acted on: at once, but not more often than makes sense.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// One is to be acted on then.
    pub(super) due: Option<Millis>,
    /// None is acted on before.
    not_before: Millis,
    pause_ms: u64,
}

impl Hints {
    pub(super) fn hint(&mut self, now: Millis) {
        // A clock that went back must not put it off for longer than ever meant.
        let earliest = self.not_before.min(now.plus(HINT_PAUSE_MAX_MS));
        self.due.get_or_insert(earliest.max(now));
    }

    /// Whether one is to be acted on now.
    pub(super) fn take(&mut self, now: Millis) -> bool {
        let Some(due) = self.due.filter(|due| *due <= now) else { return false };
        self.due = None;
        // One that had to wait came soon after another.
        let waited = due == self.not_before;
        self.pause_ms = if waited { (self.pause_ms * 2).min(HINT_PAUSE_MAX_MS) } else { HINT_PAUSE_MS };
        self.not_before = now.plus(self.pause_ms);
        true
    }
}
