//! What the thread does when there is nothing else to do: it brings messages into the index for search, and moves the
//! write-ahead log into the database file.

use std::time::{Duration, Instant};

use super::Driver;
use crate::platform::instant;

/// Messages brought into the index in one transaction: few, somebody may want something meanwhile.
const INDEX_AT_ONCE: usize = 500;
/// Silence after which the index follows: short, for an app that is open for a moment only.
const INDEX_AFTER: Duration = Duration::from_millis(50);
/// Where it is never silent, the index goes on a step this often at least, when nothing waits.
const INDEX_EVERY: Duration = Duration::from_secs(1);
/// Silence after which the write-ahead log is moved into the database file.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(2);
/// Length of the write-ahead log at which it is moved without waiting for silence.
const CHECKPOINT_BYTES: u64 = 16 * 1024 * 1024;
/// Transactions between two looks at that length.
const CHECKPOINT_LOOK: u32 = 16;

/// How far the index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Index {
    /// Nothing was stored since it had everything.
    Complete,
    /// There may be messages that it lacks; when it last went on, or began to be behind.
    Behind(Instant),
    /// Since it was silent one step follows the other, until something comes.
    Following,
}

/// What is left to be done.
#[derive(Debug)]
pub(super) struct Idle {
    /// Transactions since the last checkpoint.
    unmoved: u32,
    index: Index,
}

impl Idle {
    /// Of a database that was just opened: whoever had it before may have left messages.
    pub(super) const fn new(now: Instant) -> Self {
        Self { unmoved: 0, index: Index::Behind(now) }
    }

    /// A transaction was stored.
    fn stored(&mut self, now: Instant) {
        self.unmoved = self.unmoved.saturating_add(1);
        if self.index == Index::Complete {
            self.index = Index::Behind(now);
        }
    }

    /// Something came that goes before.
    pub(super) fn disturbed(&mut self, now: Instant) {
        if self.index == Index::Following {
            self.index = Index::Behind(now);
        }
    }

    /// After how much silence there is something to do.
    pub(super) fn patience(&self) -> Option<Duration> {
        match self.index {
            Index::Following => Some(Duration::ZERO),
            Index::Behind(_) => Some(INDEX_AFTER),
            Index::Complete => (self.unmoved > 0).then_some(CHECKPOINT_AFTER),
        }
    }

    fn silent(&mut self, lasted: Duration) {
        if matches!(self.index, Index::Behind(_)) && lasted >= INDEX_AFTER {
            self.index = Index::Following;
        }
    }

    /// Whether the index goes on now, as nothing waits.
    fn is_due(&self, now: Instant) -> bool {
        match self.index {
            Index::Complete => false,
            Index::Behind(since) => now.saturating_duration_since(since) >= INDEX_EVERY,
            Index::Following => true,
        }
    }

    /// The index went a step on.
    fn indexed(&mut self, more: bool, now: Instant) {
        self.index = match self.index {
            _ if !more => Index::Complete,
            Index::Following => Index::Following,
            Index::Complete | Index::Behind(_) => Index::Behind(now),
        };
        self.unmoved = self.unmoved.saturating_add(1);
    }
}

impl Driver {
    /// A transaction was stored.
    pub(super) fn stored(&mut self) {
        self.idle.stored(instant());
        self.checkpoint_if_long();
    }

    /// Nothing came for a while.
    pub(super) fn silence(&mut self, lasted: Duration) {
        if self.lanes.is_empty() {
            self.idle.silent(lasted);
        }
        if lasted >= CHECKPOINT_AFTER && self.idle.unmoved > 0 {
            self.checkpoint();
        }
    }

    /// Brings some messages into the index, if nothing else waits.
    pub(super) fn follow_index(&mut self) {
        let waits = !(self.inputs.is_empty() && self.incoming.is_empty() && self.received.is_empty());
        let ends = self.closing.is_some() || self.suspending.is_some();
        if waits || ends || !self.lanes.is_empty() || !self.idle.is_due(instant()) {
            return;
        }
        let more = self.engine.index_texts(INDEX_AT_ONCE).unwrap_or_else(|error| {
            tracing::warn!(%error, "messages could not be brought into the index; tried again later");
            false
        });
        self.idle.indexed(more, instant());
        self.checkpoint_if_long();
    }

    fn checkpoint_if_long(&mut self) {
        if self.idle.unmoved.is_multiple_of(CHECKPOINT_LOOK) && self.engine.wal_bytes() > CHECKPOINT_BYTES {
            self.checkpoint();
        }
    }

    fn checkpoint(&mut self) {
        self.idle.unmoved = 0;
        if let Err(error) = self.engine.checkpoint() {
            tracing::warn!(%error, "the write-ahead log could not be moved into the database; tried again later");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_silence_the_index_follows_step_by_step_until_it_is_complete() {
        let now = instant();
        let mut idle = Idle::new(now);
        assert_eq!(idle.patience(), Some(INDEX_AFTER), "what was left before is brought in");
        assert!(!idle.is_due(now));
        idle.silent(INDEX_AFTER / 2);
        assert!(!idle.is_due(now), "somebody may be about to ask for something");
        idle.silent(INDEX_AFTER);
        for _ in 0..3 {
            assert!(idle.is_due(now));
            assert_eq!(idle.patience(), Some(Duration::ZERO), "nothing is waited for between two steps");
            idle.indexed(true, now);
        }
        idle.indexed(false, now);
        assert!(!idle.is_due(now + INDEX_EVERY));
        assert_eq!(idle.patience(), Some(CHECKPOINT_AFTER), "then the log is moved");
        idle.stored(now);
        assert_eq!(idle.patience(), Some(INDEX_AFTER));
    }

    #[test]
    fn what_comes_goes_first_and_does_not_hold_up_the_index_for_ever() {
        let mut now = instant();
        let mut idle = Idle::new(now);
        idle.silent(INDEX_AFTER);
        idle.disturbed(now);
        assert!(!idle.is_due(now), "silence is waited for again");
        // It never comes.
        for _ in 0..3 {
            now += INDEX_EVERY;
            idle.disturbed(now);
            idle.stored(now);
            assert!(idle.is_due(now), "a step every second all the same");
            idle.indexed(true, now);
            assert!(!idle.is_due(now));
        }
    }
}
