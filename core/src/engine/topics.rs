//! Topics by conversation: where each lives now, where it lived before, and by which name the app knows it.

use std::collections::BTreeMap;

use super::event::Event;
use super::receive::News;
use super::state::{State, Topic};
use crate::identity::{LogId, Millis};
use crate::ops::Ticket;
use crate::store::{StoreError, TopicRow, Tx};
use crate::topic::TopicId;
use crate::tree::{Arrange, IntoTree, Map};

/// Topics behind the one a conversation lives in that are at hand in any case: of the one that led there is asked at which
/// membership operations its epoch began.
pub(super) const KEPT_BEHIND: usize = 1;

/// The topics of each log, by epoch.
#[derive(Debug, Default)]
pub(super) struct ByLog {
    /// Those at hand.
    open: Map<LogId, Map<u32, TopicId>>,
    /// Those that are retired.
    retired: Map<LogId, Map<u32, TopicId>>,
    /// Whose they were.
    log_of: BTreeMap<TopicId, LogId>,
}

impl ByLog {
    /// Where a log lives and lived, as far as that is at hand, oldest epoch first.
    pub(super) fn topics(&self, log: &LogId) -> Vec<TopicId> {
        self.open.get(log).map_or_else(Vec::new, |epochs| epochs.values().copied().collect())
    }

    /// The epochs of a log that are open here or were, oldest first.
    pub(super) fn epochs(&self, log: &LogId) -> Vec<u32> {
        let both = [&self.open, &self.retired].into_iter().filter_map(|epochs| epochs.get(log));
        let mut epochs: Vec<u32> = both.flat_map(Map::keys).copied().collect();
        epochs.arrange();
        epochs
    }

    /// A log never lived there.
    fn leave(&mut self, log: &LogId, topic: &TopicId) {
        if let Some(epochs) = self.open.get_mut(log) {
            epochs.retain(|_, id| id != topic);
        }
    }

    /// A log lives or lived in a topic that is at hand, whatever else was taken for it.
    fn open_at(&mut self, log: LogId, epoch: u32, topic: TopicId) {
        self.open.entry(log).or_default().insert(epoch, topic);
    }

    /// Where a log lives or lived in an epoch.
    pub(super) fn at(&self, log: &LogId, epoch: u32) -> Option<TopicId> {
        let at = |epochs: &Map<LogId, Map<u32, TopicId>>| epochs.get(log)?.get(&epoch).copied();
        at(&self.open).or_else(|| at(&self.retired))
    }

    /// A topic is retired: it is known where the log lived, and nothing else of it is at hand.
    pub(super) fn retire(&mut self, id: TopicId, log: LogId, epoch: u32) {
        if let Some(epochs) = self.open.get_mut(&log) {
            epochs.retain(|_, open| *open != id);
        }
        self.retired.entry(log).or_default().insert(epoch, id);
        self.log_of.insert(id, log);
    }

    /// Which conversation a retired topic belongs to.
    pub(super) fn log_of_retired(&self, id: &TopicId) -> Option<LogId> {
        self.log_of.get(id).copied()
    }

    /// Whether the log lives in a topic that is more than so many behind this one.
    pub(super) fn is_far_behind(&self, log: &LogId, id: &TopicId, kept: usize) -> bool {
        let later = self.open.get(log).into_iter().flat_map(|epochs| epochs.values().rev());
        later.take(1 + kept).all(|late| late != id)
    }
}

/// By which of its topics the app knows each conversation: the one that was opened first.
pub(super) fn names(rows: &[TopicRow]) -> Map<LogId, TopicId> {
    let mut first = Map::<LogId, (Millis, u32, TopicId)>::new();
    for row in rows {
        let key = (row.added, row.ticket.epoch(), row.topic);
        let known = first.entry(row.ticket.log()).or_insert(key);
        *known = (*known).min(key);
    }
    first.into_iter().map(|(log, (_, _, topic))| (log, topic)).into_map()
}

impl State {
    pub(super) fn insert_topic(&mut self, id: TopicId, topic: Topic) {
        let (log, epoch) = (topic.keys.log(), topic.keys.epoch());
        self.by_log.open.entry(log).or_default().entry(epoch).or_insert(id);
        self.topics.insert(id, topic);
    }

    /// At start: one that a conversation was only thought to live in is known, and nothing more.
    pub(super) fn load_topic(&mut self, id: TopicId, topic: Topic, astray: bool) {
        if astray {
            self.topics.insert(id, topic);
        } else {
            self.insert_topic(id, topic);
        }
    }

    /// A log never lived in a topic, though it was thought to: also after a restart.
    pub(super) fn go_astray(&mut self, tx: &Tx<'_>, log: &LogId, id: TopicId) -> Result<(), StoreError> {
        self.by_log.leave(log, &id);
        tx.set_astray(id, true)
    }

    /// A log lives or lived in a topic that is at hand, whatever else was taken for it, and where that one led.
    pub(super) fn return_to(
        &mut self,
        tx: &Tx<'_>,
        log: LogId,
        epoch: u32,
        id: TopicId,
    ) -> Result<(), StoreError> {
        let mut next = Some((epoch, id));
        while let Some((epoch, id)) = next {
            self.by_log.open_at(log, epoch, id);
            tx.set_astray(id, false)?;
            let closed = self.topics.get(&id).and_then(|topic| topic.closed.as_ref());
            next = closed.map(|closed| (closed.at.epoch, closed.at.successor)).filter(|(later, to)| {
                let is_there = |topic: &Topic| (topic.keys.log(), topic.keys.epoch()) == (log, *later);
                *later > epoch
                    && self.by_log.at(&log, *later) != Some(*to)
                    && self.topics.get(to).is_some_and(is_there)
            });
        }
        Ok(())
    }

    /// A topic that is gone has no place among its conversation's any more.
    pub(super) fn forget_name(&mut self, id: TopicId, topic: &Topic) {
        let log = topic.keys.log();
        self.by_log.leave(&log, &id);
        if self.by_log.topics(&log).is_empty() {
            self.by_log.open.remove(&log);
        }
    }

    /// Where a conversation lives now, as far as this device has the keys.
    pub(super) fn newest(&self, log: &LogId) -> Option<TopicId> {
        self.by_log.open.get(log)?.last_key_value().map(|(_, id)| *id)
    }

    /// Whether a topic closed, and the conversation may go on in this epoch.
    pub(super) fn is_behind(&self, id: TopicId, epoch: u32) -> bool {
        let topic = self.topics.get(&id).filter(|topic| topic.closed.is_some());
        topic.is_some_and(|topic| topic.keys.epoch() < epoch)
    }

    /// Takes the key of an epoch that came by another way than a rotation: of one that is over, or of the one the
    /// conversation lives in now. What is open here and goes on is not left for it.
    pub(super) fn adopt(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        ticket: &Ticket,
        news: &mut News,
    ) -> Result<bool, StoreError> {
        let (id, log, epoch) = (ticket.topic(), ticket.log(), ticket.epoch());
        if self.by_log.log_of_retired(&id).is_some() {
            return Ok(false);
        }
        let newest = self.newest(&log);
        if let Some(topic) = self.topics.get_mut(&id) {
            let keys = ticket.keys();
            if topic.keys.write_key().is_some() || !ticket.can_write() || !topic.keys.agrees_with(&keys) {
                return Ok(topic.keys.agrees_with(&keys));
            }
            tx.put_topic(ticket, now)?;
            topic.keys = keys;
        } else {
            let is_old = |newest: TopicId| {
                self.topics.get(&newest).is_some_and(|topic| epoch < topic.keys.epoch())
                    || self.is_behind(newest, epoch)
            };
            // Where a topic that closed here goes on is known: nobody leads elsewhere.
            let from = epoch.checked_sub(1).and_then(|before| self.by_log.at(&log, before));
            let closed = from.and_then(|from| self.topics.get(&from)).and_then(|from| from.closed.as_ref());
            if closed.is_some_and(|closed| !closed.leads_to(ticket)) {
                return Ok(false);
            }
            let fits = newest.is_none_or(is_old)
                && self.by_log.at(&log, epoch).is_none()
                && !Self::is_between(tx, log, epoch)?;
            if !fits || self.is_full(tx, now)? {
                return Ok(false);
            }
            let (keys, like) = (ticket.keys(), newest.and_then(|id| self.topics.get(&id)));
            let topic = match like {
                Some(like) => Topic::beside(like, keys, now),
                None => Topic::new(keys, None, now),
            };
            // By which of them the app knows the conversation stays what it is, also after a restart.
            let added = if newest.is_some() { now.plus(1) } else { now };
            tx.put_topic(ticket, added)?;
            self.insert_topic(id, topic);
        }
        self.slots.touch(id);
        self.touched.insert(id);
        if self.newest(&log) == Some(id) {
            for from in self.by_log.topics(&log).into_iter().filter(|from| *from != id) {
                self.move_rows(tx, now, from, id)?;
                self.touched.insert(from);
            }
            if let Some(from) = newest.filter(|from| *from != id) {
                news.events.push(Event::Moved { topic: from, successor: id });
            }
        }
        Ok(true)
    }
}
