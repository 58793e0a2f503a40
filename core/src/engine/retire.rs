//! Topics that ended are retired: a conversation moves on whenever somebody leaves it, and what it leaves behind would
//! fill the device's topics for good. What was said in them stays, and is found and shown as before.
//!
//! A topic ended once it is read up to its close and the conversation goes on elsewhere ([`State::has_ended`]). It stays at
//! hand for [`RETIRE_AFTER_MS`], should the server lose what stands in it; where there are as many topics as there may be,
//! those go first whose conversations went on the longest ago. Two of a conversation always stay: the one by which the app
//! knows it, and the one that led to where it lives now.

use super::look::Look;
use super::rotation::read;
use super::state::{State, Topic};
use super::topics::KEPT_BEHIND;
use crate::identity::{Millis, OperationId};
use crate::limits::MAX_TOPICS;
use crate::store::{StoreError, Tx};
use crate::sync::session::Session;
use crate::topic::TopicId;
use crate::tree::Arrange;

/// How long a topic that ended stays at hand, milliseconds: it is read again on four days meanwhile.
pub const RETIRE_AFTER_MS: u64 = 28 * 24 * 3_600_000;
/// How often is looked for such topics, milliseconds.
const RETIRE_EVERY_MS: u64 = 24 * 3_600_000;
/// The same after a look that left some, milliseconds.
const RETIRE_MORE_MS: u64 = 60_000;
/// Topics retired in one look.
const RETIRE_STEP: usize = 64;

impl State {
    /// Whether no further topic can be opened. Where there is no room for one, topics that ended make some.
    pub(super) fn is_full(&mut self, tx: &Tx<'_>, now: Millis) -> Result<bool, StoreError> {
        if self.topics.len() >= MAX_TOPICS {
            self.retire_ended(tx, now, Millis(u64::MAX))?;
        }
        Ok(self.topics.len() >= MAX_TOPICS)
    }

    /// Retires what ended long enough ago, at times.
    pub(super) fn keep_retired(&mut self, tx: &Tx<'_>, now: Millis) -> Result<(), StoreError> {
        if self.upkeep.retire_at > now {
            return Ok(());
        }
        let gone = match now.0.checked_sub(RETIRE_AFTER_MS) {
            Some(before) => self.retire_ended(tx, now, Millis(before))?,
            None => 0,
        };
        let again = if gone < RETIRE_STEP { RETIRE_EVERY_MS } else { RETIRE_MORE_MS };
        self.upkeep.retire_at = now.plus(again);
        Ok(())
    }

    /// Retires topics whose conversations went on before this instant, the earliest first. Gives how many.
    fn retire_ended(&mut self, tx: &Tx<'_>, now: Millis, before: Millis) -> Result<usize, StoreError> {
        let mut ended = Vec::new();
        for (id, topic) in &self.topics {
            let Some(closed) = topic.closed.as_ref().filter(|_| self.may_retire(*id, topic)) else {
                continue;
            };
            // Where it went on by a key that came another way, it is as old as it is here.
            let moved = match tx.opened_at(closed.at.successor)? {
                Some(moved) => Some(moved),
                None => tx.opened_at(*id)?,
            };
            ended.extend(moved.filter(|moved| *moved < before).map(|moved| (moved, *id)));
        }
        ended.arrange();
        ended.truncate(RETIRE_STEP);
        for (_, id) in &ended {
            self.retire(tx, now, *id)?;
        }
        Ok(ended.len())
    }

    /// Whether nothing is read of a topic, sent to it or waited for in it, and nothing looked up there.
    fn may_retire(&self, id: TopicId, topic: &Topic) -> bool {
        let is_quiet = topic.session.as_ref().and_then(Session::conn).is_none()
            && matches!(topic.look, Look::None)
            && topic.redelivery.poll_timeout().is_none()
            && topic.overdue_at.is_none()
            && topic.outbox.is_empty()
            && !topic.rotates
            && !topic.waits_for_handover
            && !self.slots.wants(&id)
            && self.fetching.as_ref().is_none_or(|fetching| fetching.topic != id);
        is_quiet
            && self.is_read_out(id)
            && topic.known_as != id
            && self.by_log.is_far_behind(&topic.keys.log(), &id, KEPT_BEHIND)
    }

    fn retire(&mut self, tx: &Tx<'_>, now: Millis, id: TopicId) -> Result<(), StoreError> {
        let Some(topic) = self.topics.get(&id) else { return Ok(()) };
        let (log, epoch) = (topic.keys.log(), topic.keys.epoch());
        tx.retire_topic(id, &log, now)?;
        self.schedule(id, None);
        self.slots.forget(&id);
        self.topics.remove(&id);
        self.by_log.retire(id, log, epoch);
        self.keeping.forget_turns(id);
        self.touched.remove(&id);
        Ok(())
    }

    /// The topic at hand of the conversation that a retired one belonged to; any other is itself.
    pub(super) fn at_hand(&self, id: TopicId) -> TopicId {
        self.by_log.log_of_retired(&id).and_then(|log| self.newest(&log)).unwrap_or(id)
    }

    /// Which membership operations the rotation cites that led from one topic to another, as the store has it.
    pub(super) fn cited_between(
        tx: &Tx<'_>,
        from: TopicId,
        to: TopicId,
    ) -> Result<Option<Vec<OperationId>>, StoreError> {
        let Some(close) = tx.topic_close(from)?.filter(|close| close.successor == to) else {
            return Ok(None);
        };
        let found = tx.rotations(from)?.into_iter().find(|it| it.operation == close.operation);
        Ok(found.map(|found| read(&found.body).map_or_else(Vec::new, |read| read.heads)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::super::io::{Command, CommandId, Output, Reply};
    use super::super::rotation::Closed;
    use super::*;
    use crate::entropy::SeededEntropy;
    use crate::identity::{Author, LogId};
    use crate::limits::MAX_RETIRED_KEYS;
    use crate::ops::{DeviceKey, Ticket};
    use crate::projector::Place;
    use crate::store::{Durability, Receipt, Store, StoredRotation, TopicClose};
    use crate::sync::session::Cursor;
    use crate::topic::{Chain, Generation, Seq, WriteKey};

    const LOG: LogId = LogId([7; 32]);
    const GENERATION: Generation = Generation([1; 16]);
    /// Where each topic closes.
    const CLOSE: Seq = Seq(5);

    /// Where the conversation lives in each epoch. Keys that read only: deriving the others takes long.
    struct Way {
        tickets: Vec<(TopicId, Ticket)>,
    }

    static WAY: LazyLock<Way> =
        LazyLock::new(|| Way { tickets: (0..MAX_TOPICS as u32 + 200).map(step).collect() });

    fn step(epoch: u32) -> (TopicId, Ticket) {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&epoch.to_be_bytes());
        let ticket = Ticket::private(LOG, epoch, WriteKey::from_seed(seed), [9; 32]).read_only();
        (ticket.topic(), ticket)
    }

    impl Way {
        fn topic(&self, epoch: usize) -> TopicId {
            self.tickets[epoch].0
        }

        fn close(&self, epoch: usize) -> (TopicClose, StoredRotation) {
            let number = epoch as u32;
            let operation = OperationId(*blake3::hash(&number.to_be_bytes()).as_bytes());
            let (topic, successor) = (self.topic(epoch), self.topic(epoch + 1));
            let at = TopicClose {
                topic,
                operation,
                generation: GENERATION,
                resets: 0,
                seq: CLOSE,
                successor,
                epoch: number + 1,
            };
            let rotator = Author([2; 32]);
            let rotation = StoredRotation {
                operation,
                rotator,
                generation: GENERATION,
                resets: 0,
                seq: CLOSE,
                body: Vec::new(),
            };
            (at, rotation)
        }
    }

    /// What was read of a topic: up to its close.
    const fn read_up() -> Cursor {
        Cursor { generation: GENERATION, resets: 0, seq: CLOSE, chain: Chain([0; 32]) }
    }

    fn put_close(tx: &Tx<'_>, way: &Way, epoch: usize) {
        let (at, rotation) = way.close(epoch);
        tx.put_topic_close(&at).unwrap();
        let place = Place { epoch: epoch as u32, resets: 0, seq: CLOSE };
        let receipt = Receipt { topic: at.topic, generation: GENERATION, place, received: Millis(1) };
        tx.place_rotation(&receipt, &at.operation, &rotation.rotator, &[]).unwrap();
        tx.set_cursor(at.topic, &read_up()).unwrap();
    }

    /// A conversation that lived in so many epochs, and moved on once a second.
    fn moved(way: &Way, epochs: usize, now: Millis) -> (Store, State) {
        let mut store = Store::in_memory().unwrap();
        let tx = store.begin(Durability::Full).unwrap();
        for (epoch, (_, ticket)) in way.tickets.iter().enumerate().take(epochs) {
            tx.put_topic(ticket, Millis(1000 * epoch as u64)).unwrap();
            if epoch + 1 < epochs {
                put_close(&tx, way, epoch);
            }
        }
        tx.commit().unwrap();
        let state = State::load(&mut store, DeviceKey::from_bytes(&[1; 32]), now).unwrap();
        (store, state)
    }

    /// The newest topic closes, and the key of the next one comes.
    fn move_on(store: &mut Store, state: &mut State, way: &Way, epoch: usize, now: Millis) -> bool {
        let tx = store.begin(Durability::Full).unwrap();
        put_close(&tx, way, epoch);
        let (at, rotation) = way.close(epoch);
        let topic = state.topics.get_mut(&at.topic).unwrap();
        (topic.closed, topic.cursor) = (Some(Closed::new(at, rotation.rotator, None)), Some(read_up()));
        let taken = state.take_key(&tx, now, &way.tickets[epoch + 1].1, &mut Vec::new());
        tx.commit().unwrap();
        matches!(taken, Ok(true))
    }

    fn at_hand(state: &State) -> Vec<usize> {
        let epochs = |id: &TopicId| WAY.tickets.iter().position(|(topic, _)| topic == id).unwrap();
        let mut epochs: Vec<_> = state.topics.keys().map(epochs).collect();
        epochs.sort_unstable();
        epochs
    }

    #[test]
    fn a_room_that_moves_more_often_than_there_may_be_topics_goes_on() {
        let now = Millis(1_000_000_000);
        let way = &*WAY;
        let (mut store, mut state) = moved(way, MAX_TOPICS, now);
        assert_eq!(state.topics.len(), MAX_TOPICS, "as many as there may be");
        let moves = 2 * RETIRE_STEP + 10;
        let last = MAX_TOPICS - 1 + moves;
        for epoch in MAX_TOPICS - 1..last {
            assert!(move_on(&mut store, &mut state, way, epoch, now), "epoch {epoch}");
            assert_eq!(state.newest(&LOG), Some(way.topic(epoch + 1)));
            assert!(state.topics.len() <= MAX_TOPICS);
        }
        // The oldest went; the one by which the app knows the conversation did not.
        let retired = MAX_TOPICS + moves - state.topics.len();
        assert_eq!(retired, 3 * RETIRE_STEP);
        let expected: Vec<usize> = [0].into_iter().chain(retired + 1..=last).collect();
        assert!(at_hand(&state) == expected);
        for epoch in [0, 1, retired, last] {
            assert_eq!(state.known_as(way.topic(epoch)), way.topic(0));
            assert_eq!(state.current(way.topic(epoch)), way.topic(last));
            assert_eq!(state.by_log.at(&LOG, epoch as u32), Some(way.topic(epoch)));
        }
        assert!(state.by_log.epochs(&LOG).into_iter().eq(0..=last as u32));
        // Of what is retired the newest keys are kept.
        let kept = |epoch: usize| store.topic(way.topic(epoch)).unwrap().is_some();
        let least = retired + 1 - MAX_RETIRED_KEYS as usize;
        assert_eq!((1..=last).filter(|epoch| kept(*epoch)).min(), Some(least));
        assert!(kept(0) && (least..=last).all(kept));
        // Places in every epoch are counted as before, and everything is so after a restart.
        assert_eq!(store.topics_of_log(LOG).unwrap().len(), last + 1);
        assert_eq!(store.known_as(LOG).unwrap(), Some(way.topic(0)));
        assert_eq!(store.topics().unwrap().len(), state.topics.len());
        let again = State::load(&mut store, DeviceKey::from_bytes(&[1; 32]), now).unwrap();
        assert!(at_hand(&again) == expected);
        assert_eq!(again.current(way.topic(1)), way.topic(last));
    }

    /// Everything else that would fill a device's topics is still refused.
    #[test]
    fn topics_that_did_not_end_make_no_room() {
        let now = Millis(1_000_000_000);
        let way = &*WAY;
        let (mut store, mut state) = moved(way, MAX_TOPICS, now);
        // Nobody has read up to the closes.
        state.topics.values_mut().for_each(|topic| topic.cursor = None);
        assert!(!move_on(&mut store, &mut state, way, MAX_TOPICS - 1, now));
        let tx = store.begin(Durability::Full).unwrap();
        assert!(state.is_full(&tx, now).unwrap());
        state.topics.get_mut(&way.topic(3)).unwrap().cursor = Some(read_up());
        assert!(!state.is_full(&tx, now).unwrap(), "one that ended does");
        assert_eq!(at_hand(&state).len(), MAX_TOPICS - 1);
    }

    #[test]
    fn a_topic_that_ended_is_retired_when_its_time_is_over() {
        let way = &*WAY;
        // Epoch 2 went on after three seconds.
        let (mut store, mut state) = moved(way, 6, Millis(0));
        let mut look = |state: &mut State, now: u64| {
            state.upkeep.retire_at = Millis(0);
            let tx = store.begin(Durability::Full).unwrap();
            state.keep_retired(&tx, Millis(now)).unwrap();
            tx.commit().unwrap();
            at_hand(state)
        };
        assert_eq!(look(&mut state, RETIRE_AFTER_MS - 1), [0, 1, 2, 3, 4, 5]);
        assert_eq!(look(&mut state, RETIRE_AFTER_MS + 2000), [0, 1, 2, 3, 4, 5], "at its time");
        assert_eq!(look(&mut state, RETIRE_AFTER_MS + 2001), [0, 2, 3, 4, 5], "and past it");
        // What led to where the conversation lives now stays, and so does the name that the app has for it.
        assert_eq!(look(&mut state, 2 * RETIRE_AFTER_MS), [0, 4, 5]);
        assert_eq!(state.upkeep.retire_at, Millis(2 * RETIRE_AFTER_MS + RETIRE_EVERY_MS));
    }

    #[test]
    fn a_topic_that_a_conversation_only_seemed_to_live_in_is_none_of_its_after_a_restart() {
        let way = &*WAY;
        let (mut store, state) = moved(way, 3, Millis(0));
        assert_eq!(state.newest(&LOG), Some(way.topic(2)));
        let astray = |store: &mut Store, astray| {
            let tx = store.begin(Durability::Full).unwrap();
            tx.set_astray(way.topic(2), astray).unwrap();
            tx.commit().unwrap();
            let state = State::load(store, DeviceKey::from_bytes(&[1; 32]), Millis(0)).unwrap();
            assert!(state.topics.contains_key(&way.topic(2)), "it is known all the same");
            let lives = store.living_in(way.topic(0)).unwrap();
            assert_eq!(state.newest(&LOG), Some(lives));
            lives
        };
        assert_eq!(astray(&mut store, true), way.topic(1));
        assert_eq!(astray(&mut store, false), way.topic(2));
    }

    /// It only seemed that it only seemed so.
    #[test]
    fn a_conversation_returns_to_a_topic_and_to_all_that_it_led_to() {
        let way = &*WAY;
        let (mut store, mut state) = moved(way, 4, Millis(0));
        let tx = store.begin(Durability::Full).unwrap();
        for epoch in [1, 2, 3] {
            state.go_astray(&tx, &LOG, way.topic(epoch)).unwrap();
        }
        assert_eq!(state.newest(&LOG), Some(way.topic(0)));
        state.return_to(&tx, LOG, 1, way.topic(1)).unwrap();
        assert_eq!(state.newest(&LOG), Some(way.topic(3)));
        // A key leads to a topic that was left, too.
        state.go_astray(&tx, &LOG, way.topic(3)).unwrap();
        assert!(matches!(state.take_key(&tx, Millis(0), &way.tickets[3].1, &mut Vec::new()), Ok(true)));
        assert_eq!(state.newest(&LOG), Some(way.topic(3)));
        tx.commit().unwrap();
        assert_eq!(store.living_in(way.topic(0)).unwrap(), way.topic(3));
    }

    #[test]
    fn what_is_still_at_work_is_not_retired() {
        let way = &*WAY;
        let now = Millis(2 * RETIRE_AFTER_MS);
        let (mut store, mut state) = moved(way, 7, now);
        state.topics.get_mut(&way.topic(1)).unwrap().refetch.wish(now);
        state.topics.get_mut(&way.topic(2)).unwrap().overdue_at = Some(now);
        state.topics.get_mut(&way.topic(3)).unwrap().cursor =
            Some(Cursor { seq: Seq(CLOSE.0 - 1), ..read_up() });
        state.slots.want(way.topic(4), false, now);
        let tx = store.begin(Durability::Full).unwrap();
        state.keep_retired(&tx, now).unwrap();
        assert_eq!(at_hand(&state), [0, 1, 2, 3, 4, 5, 6]);
        // When that is over it goes.
        state.topics.get_mut(&way.topic(2)).unwrap().overdue_at = None;
        state.topics.get_mut(&way.topic(3)).unwrap().cursor = Some(read_up());
        state.slots.leave(way.topic(4), now);
        state.upkeep.retire_at = now;
        state.keep_retired(&tx, now).unwrap();
        assert_eq!(at_hand(&state), [0, 1, 5, 6]);
    }

    #[test]
    fn what_began_a_retired_epoch_is_known_and_its_key_is_there_for_who_asks() {
        let way = &*WAY;
        let now = Millis(2 * RETIRE_AFTER_MS);
        let (mut store, mut state) = moved(way, 6, now);
        let tx = store.begin(Durability::Full).unwrap();
        let before: Vec<_> = (0..6).map(|epoch| state.began(&tx, way.topic(epoch)).unwrap()).collect();
        state.keep_retired(&tx, now).unwrap();
        assert_eq!(at_hand(&state), [0, 4, 5]);
        let after: Vec<_> = (0..6).map(|epoch| state.began(&tx, way.topic(epoch)).unwrap()).collect();
        assert_eq!(before, after);
        assert!(after.iter().all(Option::is_some));
        for epoch in 1..4 {
            assert_eq!(tx.topic(way.topic(epoch)).unwrap().unwrap().ticket.epoch(), epoch as u32);
        }
    }

    #[test]
    fn by_a_retired_topic_the_app_means_its_conversation() {
        let way = &*WAY;
        let now = Millis(2 * RETIRE_AFTER_MS);
        let (mut store, mut state) = moved(way, 6, now);
        let mut entropy = SeededEntropy::new([3; 32]);
        let mut tx = store.begin(Durability::Full).unwrap();
        state.keep_retired(&tx, now).unwrap();
        let mut ask = |state: &mut State, tx: &mut Tx<'_>, command| {
            let mut staged = Vec::new();
            state.command(tx, now, &mut entropy, CommandId(1), command, &mut staged).unwrap();
            match staged.pop() {
                Some(Output::Reply { result, .. }) => result.unwrap(),
                other => panic!("{other:?}"),
            }
        };
        let topic = way.topic(2);
        assert!(!state.topics.contains_key(&topic));
        assert!(matches!(ask(&mut state, &mut tx, Command::Subscribe { topic }), Reply::Done));
        assert!(state.topics.values().all(|topic| topic.subscribed));
        // Its ticket opens nothing anew.
        let ticket = way.tickets[2].1.clone();
        let reply = ask(&mut state, &mut tx, Command::OpenTopic { ticket });
        assert!(matches!(reply, Reply::Topic(known) if known == way.topic(0)), "{reply:?}");
        assert_eq!(at_hand(&state), [0, 4, 5]);
        ask(&mut state, &mut tx, Command::Wipe { topic });
        assert_eq!(tx.topics_of_log(LOG).unwrap(), []);
    }
}
