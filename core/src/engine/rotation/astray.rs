//! Topics that nobody is in: a rotation that closed its topic turned out not to be the first that counts, and what it
//! led to was no part of the log.

use super::super::receive::News;
use super::super::state::{State, Topic};
use super::super::{event::Event, ingest};
use super::Closed;
use crate::ops::VerifiedOperation;
use crate::store::{StoreError, TopicClose, Tx};
use crate::topic::{Seq, TopicId};

impl Topic {
    /// Whether the log never lived here: it closed before its first place, and its epoch is another topic's.
    pub(in super::super) fn is_astray(&self) -> bool {
        self.closed.as_ref().is_some_and(|closed| closed.at.epoch <= self.keys.epoch())
    }
}

impl State {
    /// A rotation takes the place of the one that a topic was closed by: leaves the topics that one led to, the last
    /// one first. Everything they held goes, as if it stood after a close; what this device wrote there is given back,
    /// and has to be sent again.
    pub(super) fn leave_wrong_successors(
        &mut self,
        tx: &Tx<'_>,
        id: TopicId,
        closed: &Closed,
        news: &mut News,
    ) -> Result<Vec<VerifiedOperation>, StoreError> {
        let Some(topic) = self.topics.get(&id) else { return Ok(Vec::new()) };
        let (log, mut epoch) = (topic.keys.log(), closed.at.epoch);
        let Some(before) = topic.closed.as_ref() else { return Ok(Vec::new()) };
        let (lost, mut next) = (before.at.operation, before.at.successor);
        let mut wrong = Vec::new();
        while next != closed.at.successor && self.by_log.at(&log, epoch) == Some(next) {
            wrong.push(next);
            let Some(at) = self.topics.get(&next).and_then(|topic| topic.closed.as_ref()) else { break };
            (epoch, next) = (at.at.epoch, at.at.successor);
        }
        let mut written = Vec::new();
        for wrong in wrong.into_iter().rev() {
            written.extend(self.leave_wrong(tx, wrong, closed, news)?);
        }
        if self.topics.get(&closed.at.successor).is_some_and(|it| it.keys.log() == log) {
            self.by_log.put(log, closed.at.epoch, closed.at.successor);
        }
        if tx.rotation_ticket(&lost)?.is_some() {
            news.events.push(Event::RotationLost { topic: id, operation: lost });
        }
        written.sort_by_key(VerifiedOperation::seq_num);
        Ok(written)
    }

    fn leave_wrong(
        &mut self,
        tx: &Tx<'_>,
        wrong: TopicId,
        closed: &Closed,
        news: &mut News,
    ) -> Result<Vec<VerifiedOperation>, StoreError> {
        let Some(topic) = self.topics.get_mut(&wrong) else { return Ok(Vec::new()) };
        let (log, epoch) = (topic.keys.log(), topic.keys.epoch());
        let last = topic.cursor.map_or(0, |cursor| cursor.resets);
        let covers = |author: &_, seq_num, id: &_| closed.covers(author, seq_num, id);
        let mut written = Vec::new();
        for resets in 0..=last {
            // As `ingest` counts: what stands in an epoch goes by a close that leads to the next.
            let begin =
                TopicClose { topic: wrong, resets, seq: Seq(0), epoch: epoch.saturating_add(1), ..closed.at };
            let (changes, own) = ingest::close(tx, &begin, &log, &self.device.author(), covers)?;
            news.changes.extend(changes);
            written.extend(own);
        }
        tx.remove_placements(wrong)?;
        let at = TopicClose { topic: wrong, resets: 0, seq: Seq(0), ..closed.at };
        let at = TopicClose { epoch: closed.at.epoch.min(epoch), ..at };
        tx.put_topic_close(&at)?;
        tx.remove_lost_rotations(wrong, &closed.at.operation)?;
        topic.closed = Some(Closed { at, ..closed.clone() });
        (topic.rotates, topic.contested) = (false, false);
        self.by_log.leave(&log, &wrong);
        self.keeping.forget_turns(wrong);
        self.touched.insert(wrong);
        Ok(written)
    }

    /// At start: the topics that logs never lived in give their epochs to those they did.
    pub(super) fn leave_astray_topics(&mut self) {
        let astray = |topic: &&Topic| topic.is_astray();
        let logs = self.topics.iter().filter(|(_, topic)| astray(topic));
        let logs: Vec<_> = logs.map(|(id, topic)| (*id, topic.keys.log())).collect();
        for (id, log) in &logs {
            self.by_log.leave(log, id);
        }
        for (id, topic) in &self.topics {
            let (log, epoch) = (topic.keys.log(), topic.keys.epoch());
            let is_left = logs.iter().any(|(_, left)| *left == log);
            if is_left && !topic.is_astray() && self.by_log.at(&log, epoch).is_none() {
                self.by_log.put(log, epoch, *id);
            }
        }
    }
}
