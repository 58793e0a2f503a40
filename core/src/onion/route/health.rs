//! How relays have done lately.
//!
//! Health only excludes: it never prefers one good relay over another, because a preference would send everybody's
//! packets through the same few. What can be known is attributed: a relay that refuses a packet, or cannot be
//! reached, is to blame alone; a packet that was taken and never arrived blames every relay of its route a little.
//! All of it fades. Integers only, so that the same reports give the same routes on every machine.

use crate::identity::{Millis, NodeId};
use crate::limits::MAX_DIRECTORY_NODES;
use crate::tree::Map;

/// In this time a loss or delivery counts for half, milliseconds.
pub const HEALTH_HALF_LIFE_MS: u64 = 60 * 60 * 1000;
/// Refusals in a row after which a relay counts as unreachable.
pub const REFUSALS_UNTIL_DOWN: u32 = 3;
/// How long a relay counts as unreachable at first, milliseconds; doubled by every further refusal.
pub const DOWN_FIRST_MS: u64 = 60_000;
/// How long a relay counts as unreachable at most, milliseconds.
pub const DOWN_MAX_MS: u64 = HEALTH_HALF_LIFE_MS;

/// Thousandths, the unit of faded counts.
const ONE: u16 = 1000;
/// Most losses that are remembered: what bounds how long they exclude.
const MAX_LOST: u16 = 8 * ONE;
/// Most deliveries that are remembered: what bounds how many losses they excuse.
const MAX_DELIVERED: u16 = 2 * ONE;
/// Losses from which on a relay may be left out: three, hardly faded.
const EXCLUDED_FROM: u16 = 2 * ONE + ONE / 2;
/// A relay is left out when it lost more than this many times what it delivered.
const LOST_PER_DELIVERED: u32 = 3;

/// Losses and deliveries of one relay, as of an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Score {
    pub(super) lost: u16,
    pub(super) delivered: u16,
    pub(super) at: Millis,
}

impl Score {
    fn faded(self, now: Millis) -> Self {
        let elapsed = now.since(self.at);
        Self { lost: fade(self.lost, elapsed), delivered: fade(self.delivered, elapsed), at: now }
    }

    fn excludes(self) -> bool {
        self.lost >= EXCLUDED_FROM && u32::from(self.lost) > LOST_PER_DELIVERED * u32::from(self.delivered)
    }
}

/// Halves once per half-life, in a straight line between.
fn fade(count: u16, elapsed: u64) -> u16 {
    let halvings = u32::try_from(elapsed / HEALTH_HALF_LIFE_MS).unwrap_or(u32::MAX);
    let whole = count.checked_shr(halvings).unwrap_or(0);
    let part = u64::from(whole) * (elapsed % HEALTH_HALF_LIFE_MS) / (2 * HEALTH_HALF_LIFE_MS);
    whole - part as u16
}

#[derive(Clone, Copy, Debug, Default)]
struct Relay {
    score: Score,
    refusals: u32,
    down_until: Millis,
}

/// What is remembered of relays that were used.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    relays: Map<NodeId, Relay>,
    latest: Millis,
}

impl Health {
    /// Puts right what lies in the future after the clock went back.
    pub(super) fn settle(&mut self, now: Millis) {
        if now < self.latest {
            for relay in self.relays.values_mut() {
                relay.score.at = relay.score.at.min(now);
                relay.down_until = relay.down_until.min(now.plus(DOWN_MAX_MS));
            }
        }
        self.latest = now;
    }

    /// Whether a relay is to be left out while there are enough others.
    pub(super) fn excludes(&self, node: &NodeId, now: Millis) -> bool {
        self.relays.get(node).is_some_and(|relay| relay.down_until > now || relay.score.faded(now).excludes())
    }

    /// All relays that are to be left out.
    pub(super) fn excluded(&self, now: Millis) -> impl Iterator<Item = NodeId> {
        self.relays.keys().copied().filter(move |node| self.excludes(node, now))
    }

    /// Until when the relay counts as unreachable; the epoch for one that does not.
    pub(super) fn down_until(&self, node: &NodeId) -> Millis {
        self.relays.get(node).map_or_else(Millis::default, |relay| relay.down_until)
    }

    pub(super) fn score(&self, node: &NodeId) -> Score {
        self.relays.get(node).map_or_else(Score::default, |relay| relay.score)
    }

    pub(super) fn restore(&mut self, node: NodeId, score: Score) {
        self.latest = self.latest.max(score.at);
        let score =
            Score { lost: score.lost.min(MAX_LOST), delivered: score.delivered.min(MAX_DELIVERED), ..score };
        self.relays.insert(node, Relay { score, ..Relay::default() });
    }

    /// The relay took a packet from this device.
    pub(super) fn took(&mut self, node: NodeId, now: Millis) {
        if let Some(relay) = self.entry(node, now) {
            relay.refusals = 0;
            relay.down_until = Millis::default();
        }
    }

    /// The relay refused a packet of this device, or could not be reached.
    pub(super) fn refused(&mut self, node: NodeId, now: Millis) {
        let Some(relay) = self.entry(node, now) else { return };
        // Packets that were on their way together fail together: one hiccup counts once.
        if relay.down_until > now {
            return;
        }
        relay.refusals = relay.refusals.saturating_add(1);
        if let Some(further) = relay.refusals.checked_sub(REFUSALS_UNTIL_DOWN) {
            let wait = DOWN_FIRST_MS.saturating_mul(1 << further.min(16)).min(DOWN_MAX_MS);
            relay.down_until = now.plus(wait);
        }
    }

    /// A packet over this relay arrived.
    pub(super) fn delivered(&mut self, node: NodeId, now: Millis) {
        if let Some(relay) = self.entry(node, now) {
            let score = relay.score.faded(now);
            let delivered = (score.delivered + ONE).min(MAX_DELIVERED);
            relay.score = Score { lost: score.lost / 2, delivered, at: now };
        }
    }

    /// A packet over this relay did not arrive.
    pub(super) fn lost(&mut self, node: NodeId, now: Millis) {
        if let Some(relay) = self.entry(node, now) {
            let score = relay.score.faded(now);
            relay.score = Score { lost: (score.lost + ONE).min(MAX_LOST), ..score };
        }
    }

    /// The network under this device changed: what could not be reached over the old one is tried again.
    pub(super) fn network_changed(&mut self) {
        for relay in self.relays.values_mut() {
            relay.refusals = 0;
            relay.down_until = Millis::default();
        }
    }

    /// `None` when more relays are remembered than a directory may hold, even after forgetting faded ones.
    fn entry(&mut self, node: NodeId, now: Millis) -> Option<&mut Relay> {
        self.settle(now);
        if self.relays.len() >= MAX_DIRECTORY_NODES && !self.relays.contains_key(&node) {
            self.relays.retain(|_, relay| {
                let score = relay.score.faded(now);
                relay.down_until > now || score.lost >= ONE || score.delivered >= ONE
            });
            if self.relays.len() >= MAX_DIRECTORY_NODES {
                return None;
            }
        }
        Some(self.relays.entry(node).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);
    const START: Millis = Millis(1_700_000_000_000);

    #[test]
    fn a_count_halves_once_per_half_life() {
        for (elapsed, left) in [(0, 8000), (1, 4000), (2, 2000), (3, 1000), (16, 0), (70_000, 0)] {
            assert_eq!(fade(8000, elapsed * HEALTH_HALF_LIFE_MS), left, "{elapsed}");
        }
        assert_eq!(fade(8000, HEALTH_HALF_LIFE_MS / 2), 6000);
        assert_eq!(fade(u16::MAX, u64::MAX), 0);
    }

    #[test]
    fn three_losses_exclude_and_fade() {
        let mut health = Health::default();
        for number in 0..3 {
            assert!(!health.excludes(&NODE, START), "after {number}");
            health.lost(NODE, START.plus(number * 10_000));
        }
        assert!(health.excludes(&NODE, START.plus(30_000)));
        assert!(!health.excludes(&NODE, START.plus(30_000 + HEALTH_HALF_LIFE_MS / 2)));
    }

    #[test]
    fn however_many_losses_they_exclude_for_two_half_lives_at_most() {
        let mut health = Health::default();
        for _ in 0..1000 {
            health.lost(NODE, START);
        }
        assert!(health.excludes(&NODE, START.plus(HEALTH_HALF_LIFE_MS)));
        assert!(!health.excludes(&NODE, START.plus(2 * HEALTH_HALF_LIFE_MS)));
    }

    #[test]
    fn deliveries_excuse_losses_that_others_caused() {
        let mut health = Health::default();
        for _ in 0..100 {
            health.delivered(NODE, START);
            health.lost(NODE, START);
            assert!(!health.excludes(&NODE, START));
        }
        for _ in 0..7 {
            health.lost(NODE, START);
        }
        assert!(health.excludes(&NODE, START), "a good past excuses a few losses, not all");
    }

    #[test]
    fn refusals_in_a_row_exclude_for_longer_and_longer() {
        let mut health = Health::default();
        health.refused(NODE, START);
        health.refused(NODE, START);
        health.took(NODE, START);
        health.refused(NODE, START);
        health.refused(NODE, START);
        assert!(!health.excludes(&NODE, START));
        let mut now = START;
        health.refused(NODE, now);
        health.refused(NODE, now);
        assert!(health.excludes(&NODE, now.plus(DOWN_FIRST_MS - 1)));
        assert!(!health.excludes(&NODE, now.plus(DOWN_FIRST_MS)), "refusals while it is down do not count");
        now = now.plus(DOWN_FIRST_MS);
        for wait in [2, 4, 8, 16, 32, 60, 60].map(|minutes| minutes * DOWN_FIRST_MS) {
            health.refused(NODE, now);
            assert!(health.excludes(&NODE, now.plus(wait - 1)));
            assert!(!health.excludes(&NODE, now.plus(wait)));
            now = now.plus(wait);
        }
        health.took(NODE, now);
        assert!(!health.excludes(&NODE, now));
        health.refused(NODE, now);
        assert!(!health.excludes(&NODE, now), "the count starts anew");
    }

    #[test]
    fn a_changed_network_and_a_clock_put_right_end_an_exclusion() {
        let mut health = Health::default();
        for _ in 0..REFUSALS_UNTIL_DOWN {
            health.refused(NODE, START);
        }
        health.network_changed();
        assert!(!health.excludes(&NODE, START));

        let wrong = Millis(u64::MAX - 1);
        for _ in 0..REFUSALS_UNTIL_DOWN {
            health.refused(NODE, wrong);
            health.lost(NODE, wrong);
        }
        health.settle(START);
        assert!(health.excludes(&NODE, START));
        assert!(!health.excludes(&NODE, START.plus(DOWN_MAX_MS)));
    }

    #[test]
    fn no_more_relays_are_remembered_than_a_directory_holds() {
        let id = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            NodeId(id)
        };
        let mut health = Health::default();
        for number in 0..=MAX_DIRECTORY_NODES {
            health.lost(id(number), START);
        }
        assert_eq!(health.relays.len(), MAX_DIRECTORY_NODES);
        health.lost(id(MAX_DIRECTORY_NODES), START.plus(HEALTH_HALF_LIFE_MS));
        assert_eq!(health.relays.len(), 1, "what has faded makes room");
    }
}
