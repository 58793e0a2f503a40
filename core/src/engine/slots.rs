//! Which topics hold a socket. A device may have thousands of topics and a phone few sockets: the topics that have
//! something to send and those used last are live, the others are parked, and a few sockets go round among them to
//! catch each up.

use std::collections::{BTreeSet, HashMap};

use crate::identity::Millis;
use crate::limits::MAX_LIVE_SOCKETS;
use crate::topic::TopicId;
use crate::tree::{Arrange, IntoTree, Map, Set};

/// Sockets of the [`MAX_LIVE_SOCKETS`] that catch up parked topics, as soon as there are any.
pub const POLLING_SOCKETS: usize = 4;
/// Shortest time between a parked topic's catch-ups, milliseconds.
pub const POLL_EVERY_MS: u64 = 60_000;

/// How much a topic deserves a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u64);

impl Rank {
    /// First whether it waits for an echo, or has something to send; then when it was last used, as a count. One number, so
    /// that the code of sets of [`Millis`] serves for these, too.
    const fn new(urgent: bool, used: u64) -> Self {
        Self(((urgent as u64) << 63) | (used & (u64::MAX >> 1)))
    }
}

/// The device's sockets.
#[derive(Debug, Default)]
pub(super) struct Slots {
    wanted: Map<TopicId, Rank>,
    /// The same, the most deserving last.
    ranked: BTreeSet<(Rank, TopicId)>,
    live: Set<TopicId>,
    /// Parked and being caught up.
    polling: Set<TopicId>,
    /// The other parked ones, by when they are to be caught up.
    due: BTreeSet<(Millis, TopicId)>,
    due_at: HashMap<TopicId, Millis>,
    used: HashMap<TopicId, u64>,
    uses: u64,
}

impl Slots {
    /// The app subscribed to the topic or published in it.
    pub(super) fn touch(&mut self, id: TopicId) {
        self.uses += 1;
        self.used.insert(id, self.uses);
    }

    /// No socket is held; what was used when is kept.
    pub(super) fn clear(&mut self) {
        let (used, uses) = (std::mem::take(&mut self.used), self.uses);
        *self = Self { used, uses, ..Self::default() };
    }

    /// The topic wants to be received. Gives the topics whose standing changed, this one among them.
    pub(super) fn want(&mut self, id: TopicId, urgent: bool, now: Millis) -> Vec<TopicId> {
        let rank = Rank::new(urgent, self.used.get(&id).copied().unwrap_or_default());
        match self.wanted.insert(id, rank) {
            Some(old) if old == rank => return Vec::new(),
            Some(old) => drop(self.ranked.remove(&(old, id))),
            // A topic that was never caught up is the first to be.
            None => self.park(id, now),
        }
        self.ranked.insert((rank, id));
        self.balance(now)
    }

    /// The topic does not want to be received any more. Gives the topics whose standing changed.
    pub(super) fn leave(&mut self, id: TopicId, now: Millis) -> Vec<TopicId> {
        let Some(rank) = self.wanted.remove(&id) else { return Vec::new() };
        self.ranked.remove(&(rank, id));
        self.live.remove(&id);
        self.unpark(id);
        self.balance(now)
    }

    /// Whether the topic wants to be received.
    pub(super) fn wants(&self, id: &TopicId) -> bool {
        self.wanted.contains_key(id)
    }

    /// The topic, which wants nothing, is not at hand any more.
    pub(super) fn forget(&mut self, id: &TopicId) {
        self.used.remove(id);
    }

    /// Whether the topic may hold a socket now.
    pub(super) fn may_connect(&self, id: &TopicId) -> bool {
        self.live.contains(id) || self.polling.contains(id)
    }

    /// Whether the topic is wanted and has no socket of its own.
    pub(super) fn is_parked(&self, id: &TopicId) -> bool {
        self.wanted.contains_key(id) && !self.live.contains(id)
    }

    /// Whether the topic is parked and being caught up.
    pub(super) fn is_polling(&self, id: &TopicId) -> bool {
        self.polling.contains(id)
    }

    /// A parked topic whose turn it is: it may connect until [`Self::polled`].
    pub(super) fn poll(&mut self, now: Millis) -> Option<TopicId> {
        let (_, id) =
            self.due.first().copied().filter(|_| self.poll_timeout().is_some_and(|at| at <= now))?;
        self.unpark(id);
        self.polling.insert(id);
        Some(id)
    }

    /// A parked topic is caught up, or cannot be now.
    pub(super) fn polled(&mut self, id: TopicId, now: Millis) {
        if self.polling.remove(&id) {
            self.park(id, now.plus(POLL_EVERY_MS));
        }
    }

    /// When to call [`Self::poll`].
    pub(super) fn poll_timeout(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at).filter(|_| self.polling.len() < POLLING_SOCKETS)
    }

    /// Gives the sockets to the most deserving.
    fn balance(&mut self, now: Millis) -> Vec<TopicId> {
        let room = match self.wanted.len() {
            ..=MAX_LIVE_SOCKETS => MAX_LIVE_SOCKETS,
            _ => MAX_LIVE_SOCKETS - POLLING_SOCKETS,
        };
        let live: Set<TopicId> = self.ranked.iter().rev().take(room).map(|(_, id)| *id).into_set();
        let (gone, come) = (
            self.live.iter().filter(|id| !live.contains(*id)),
            live.iter().filter(|id| !self.live.contains(*id)),
        );
        let mut changed: Vec<TopicId> = gone.chain(come).copied().collect();
        changed.arrange();
        for id in &changed {
            if live.contains(id) {
                self.unpark(*id);
            } else if self.wanted.contains_key(id) {
                self.park(*id, now.plus(POLL_EVERY_MS));
            }
        }
        self.live = live;
        changed
    }

    fn park(&mut self, id: TopicId, at: Millis) {
        self.unpark(id);
        self.due.insert((at, id));
        self.due_at.insert(id, at);
    }

    fn unpark(&mut self, id: TopicId) {
        self.polling.remove(&id);
        if let Some(at) = self.due_at.remove(&id) {
            self.due.remove(&(at, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn topic(index: u8) -> TopicId {
        TopicId([index; 32])
    }

    /// Topics 0 to `count`, each used after the one before.
    fn slots(count: usize) -> Slots {
        let mut slots = Slots::default();
        for index in 0..count {
            slots.touch(topic(index as u8));
            slots.want(topic(index as u8), false, Millis(0));
        }
        slots
    }

    fn live(slots: &Slots, count: usize) -> Vec<u8> {
        (0..count as u8).filter(|index| slots.live.contains(&topic(*index))).collect()
    }

    #[test]
    fn sixty_four_topics_are_live_and_one_more_parks_the_least_recently_used() {
        let at_limit = slots(MAX_LIVE_SOCKETS);
        assert_eq!(live(&at_limit, 64).len(), 64);
        assert_eq!(at_limit.poll_timeout(), None);
        let mut past = slots(MAX_LIVE_SOCKETS + 1);
        assert_eq!(live(&past, 65), (5..65).collect::<Vec<u8>>());
        assert!(past.is_parked(&topic(4)) && !past.may_connect(&topic(4)));
        let polled: Vec<_> = std::iter::from_fn(|| past.poll(Millis(POLL_EVERY_MS))).collect();
        assert_eq!(polled.len(), POLLING_SOCKETS, "64 sockets in all");
        assert!(polled.iter().all(|id| past.may_connect(id) && past.is_polling(id)));
    }

    #[test]
    fn parked_topics_take_turns() {
        let mut slots = slots(MAX_LIVE_SOCKETS + 6);
        let mut seen = BTreeSet::new();
        let mut now = Millis(0);
        for _ in 0..30 {
            now = slots.poll_timeout().unwrap().max(now);
            while let Some(id) = slots.poll(now) {
                seen.insert(id);
                now = now.plus(1);
                slots.polled(id, now);
                assert!(!slots.may_connect(&id));
            }
        }
        assert_eq!(seen, (0..10).map(topic).collect(), "each is caught up");
        assert!(now.0 >= POLL_EVERY_MS, "and not more often than it should");
    }

    #[test]
    fn use_and_something_to_send_bring_a_parked_topic_back() {
        let mut slots = slots(MAX_LIVE_SOCKETS + 1);
        slots.touch(topic(0));
        let changed = slots.want(topic(0), false, Millis(0));
        assert_eq!(changed, [topic(0), topic(5)]);
        assert!(slots.may_connect(&topic(0)) && slots.is_parked(&topic(5)));
        let changed = slots.want(topic(1), true, Millis(0));
        assert_eq!(changed, [topic(1), topic(6)], "what waits for an echo needs its socket");
        assert!(slots.want(topic(1), true, Millis(0)).is_empty());
    }

    #[test]
    fn with_fewer_topics_all_are_live_again() {
        let mut slots = slots(MAX_LIVE_SOCKETS + 1);
        let changed = slots.leave(topic(64), Millis(0));
        assert!(changed.len() >= 5, "{changed:?}");
        assert_eq!(live(&slots, 65), (0..64).collect::<Vec<u8>>());
        assert_eq!(slots.poll_timeout(), None);
        assert!(slots.leave(topic(64), Millis(0)).is_empty());
    }
}
