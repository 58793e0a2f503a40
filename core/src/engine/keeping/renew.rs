//! Rooms that were led away: by the rotation of somebody who manages the space no more, to where none of those who are left
//! have the key, or again and again. A manager's device puts the keys of another topic into the space's log, which
//! who was removed does not read, and everybody goes on there.

use super::*;
use crate::limits::RENEWAL_EPOCHS;
use crate::ops::{Action, Hidden, RoomKeys, is_renewal};
use crate::store::TopicClose;
use crate::sync::session::Cursor;
use crate::topic::{Chain, Generation, Seq, WriteKey};

use super::super::ingest;
use super::super::state::Topic;
use crate::tree::Set;

/// So many rotations of a manager's device lose to somebody who manages no more before the room is renewed.
const BEATEN: u32 = 2;

/// A renewal that holds.
struct Held {
    id: OperationId,
    by: Author,
    epoch: u32,
    from: u32,
    ticket: Ticket,
}

/// The first epoch of those that go on from one renewal; 0: none.
const fn line_of(epoch: u32) -> u32 {
    epoch - epoch % RENEWAL_EPOCHS
}

impl State {
    /// Rooms go on where the space's log says that they were renewed, and nowhere else.
    pub(in super::super) fn follow_renewals(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        space: LogId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        for log in tx.logs_of_space(&space)?.into_iter().filter(|log| *log != space) {
            let id = tx.look_at_space(space, |graph| graph.renewal(log).map(|renewal| renewal.id))?;
            if self.keeping.renewed.get(&log) == Some(&id) {
                continue;
            }
            let held = tx.look_at_space(space, |graph| {
                let renewal = graph.renewal(log)?;
                let write = WriteKey::from_seed(renewal.keys.write.0);
                let ticket = Ticket::private(log, renewal.epoch, write, renewal.keys.secret.0);
                let (id, epoch, from) = (renewal.id, renewal.epoch, renewal.from);
                Some(Held { id, by: graph.author(id)?, epoch, from, ticket })
            })?;
            let mut news = News::default();
            let mut over = self.take_back_renewals(tx, now, &log, held.as_ref())?;
            let done = match &held {
                Some(held) => self.follow_renewal(tx, now, held, (&mut over, &mut news))?,
                None => true,
            };
            if done {
                self.keeping.renewed.insert(log, id);
            }
            self.say_again(tx, now, &log, &over, &mut news)?;
            if let Some(id) = self.newest(&log) {
                news.tell(tx, id, staged)?;
            }
        }
        Ok(())
    }

    /// What a renewal did that does not hold (any more): by somebody who was removed at the same time, or beside another
    /// one. Where it led to is left, and what it ended goes on.
    fn take_back_renewals(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        log: &LogId,
        held: Option<&Held>,
    ) -> Result<Set<u32>, StoreError> {
        let current = held.map_or(0, |held| held.epoch);
        let other = held
            .filter(|held| self.by_log.at(log, held.epoch).is_some_and(|known| known != held.ticket.topic()));
        let (mut left, mut over) = (Vec::new(), Set::new());
        for id in self.by_log.topics(log) {
            let Some(topic) = self.topics.get(&id) else { continue };
            let line = line_of(topic.keys.epoch());
            if line > current || (other.is_some() && line == current) {
                over.insert(topic.keys.epoch());
                self.go_astray(tx, log, id)?;
                left.push(id);
                continue;
            }
            let ended = topic.closed.as_ref().filter(|closed| closed.renewed).map(|closed| closed.at);
            let Some(at) = ended else { continue };
            let stands = held.is_some_and(|held| held.id == at.operation || held.epoch > at.epoch);
            if !stands && let Some(topic) = self.topics.get_mut(&id) {
                topic.closed = None;
                tx.remove_topic_close(id)?;
                self.touched.insert(id);
            }
        }
        let Some(to) = self.newest(log).filter(|_| !left.is_empty()) else { return Ok(over) };
        for from in left {
            self.move_rows(tx, now, from, to)?;
            self.touched.extend([from, to]);
        }
        Ok(over)
    }

    /// What this device said in epochs that are over is said where the room lives now.
    fn say_again(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        log: &LogId,
        over: &Set<u32>,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let Some(to) = self.newest(log).filter(|_| !over.is_empty()) else { return Ok(()) };
        let (changes, own) = ingest::take_own_back(tx, log, &self.author(), |epoch| over.contains(&epoch))?;
        news.changes.extend(changes);
        for operation in own {
            self.send_again(tx, now, to, &operation)?;
        }
        self.touched.insert(to);
        Ok(())
    }

    /// A room goes on where a renewal says. Whether it does here: there may be as many topics as there can be.
    fn follow_renewal(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        held: &Held,
        (over, news): (&mut Set<u32>, &mut News),
    ) -> Result<bool, StoreError> {
        let (log, to, before) = (held.ticket.log(), held.ticket.topic(), self.newest(&held.ticket.log()));
        if self.by_log.at(&log, held.epoch) != Some(to) {
            if let Some(known) = self.topics.get(&to) {
                // Keys that are used elsewhere already are nowhere to go.
                if (known.keys.log(), known.keys.epoch()) != (log, held.epoch) {
                    return Ok(true);
                }
                self.return_to(tx, log, held.epoch, to)?;
            } else if self.is_full(tx, now)? {
                return Ok(false);
            } else {
                let keys = held.ticket.keys();
                let like = before.and_then(|id| self.topics.get(&id));
                let topic = like.map_or_else(
                    || Topic::new(held.ticket.keys(), None, now),
                    |like| Topic::beside(like, keys, now),
                );
                // By which of its topics the app knows the room stays what it is, also after a restart.
                let added = if before.is_some() { now.plus(1) } else { now };
                tx.put_topic(&held.ticket, added)?;
                self.insert_topic(to, topic);
            }
            self.slots.touch(to);
            self.touched.insert(to);
        }
        for id in self.by_log.topics(&log) {
            over.extend(self.end_between(tx, held, id)?);
        }
        if let Some(before) = before.filter(|before| *before != to)
            && self.newest(&log) == Some(to)
        {
            self.moved(tx, now, before, to, news)?;
        }
        Ok(true)
    }

    /// Nothing more is read of an epoch between the last one that counts and the renewal.
    fn end_between(&mut self, tx: &Tx<'_>, held: &Held, id: TopicId) -> Result<Option<u32>, StoreError> {
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(None) };
        let epoch = topic.keys.epoch();
        if epoch <= held.from || epoch >= held.epoch {
            return Ok(None);
        }
        if topic.closed.is_some() {
            return Ok(Some(epoch));
        }
        let unread =
            Cursor { generation: Generation([0; 16]), resets: 0, seq: Seq(0), chain: Chain([0; 32]) };
        let Cursor { generation, resets, seq, .. } = topic.cursor.unwrap_or(unread);
        let (operation, successor) = (held.id, held.ticket.topic());
        let at = TopicClose { topic: id, operation, generation, resets, seq, successor, epoch: held.epoch };
        tx.put_topic_close(&at)?;
        topic.closed = Some(Closed::by_renewal(at, held.by));
        topic.rotates = false;
        self.keeping.forget_turns(id);
        tx.remove_lost_rotations(id, &operation)?;
        Ok(Some(epoch))
    }

    /// Whether an epoch is none of its room's since that was renewed.
    pub(in super::super) fn is_between(tx: &Tx<'_>, log: LogId, epoch: u32) -> Result<bool, StoreError> {
        let Some(belongs) = tx.belongs(&log)?.filter(|belongs| belongs.room) else { return Ok(false) };
        tx.look_at_space(belongs.space, |graph| {
            graph.renewal(log).is_some_and(|held| held.from < epoch && epoch < held.epoch)
        })
    }

    /// Renews rooms that somebody who manages the space no more led away.
    pub(super) fn keep_renewed(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        look: &Look,
        logs: &[LogId],
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let mut next = None;
        for log in logs.iter().filter(|log| **log != look.space) {
            let turn = Turn::Renew(*log);
            // One that was deleted lives nowhere.
            let led_away = match self.is_led_away(tx, look, log)? {
                Some(_) if !is_there(tx, look.space, log)? => None,
                led_away => led_away,
            };
            let Some((from, own)) = led_away else {
                self.keeping.done(&turn);
                continue;
            };
            // Who was removed reads the space's log no more.
            let at = match self.newest(&look.space) {
                Some(id) if self.topics.get(&id).is_some_and(Topic::may_move) => {
                    match self.is_outlived(tx, look, id)? {
                        Some(_) => Some(now.plus(AGAIN_MS)),
                        None => {
                            self.keeping.leave_time(turn, own, now, entropy);
                            self.wait_for(now, entropy, turn, own, [log, &look.space])
                        }
                    }
                }
                _ => Some(now.plus(AGAIN_MS)),
            };
            let at = match at {
                Some(at) => Some(at),
                None => self.renew(tx, now, entropy, look.space, (*log, from), staged)?,
            };
            next = next.into_iter().chain(at).min();
        }
        Ok(next)
    }

    /// Whether a room is to be renewed: the last of its epochs that counts, and whether at once.
    fn is_led_away(&self, tx: &Tx<'_>, look: &Look, log: &LogId) -> Result<Option<(u32, bool)>, StoreError> {
        let Some(id) = self.newest(log) else { return Ok(None) };
        let Some(topic) = self.topics.get(&id) else { return Ok(None) };
        let epoch = topic.keys.epoch();
        match &topic.closed {
            Some(closed) => {
                let rotator = closed.rotator;
                let manages = tx.look_at_space(look.space, |graph| graph.standing(rotator).may_manage())?;
                Ok((!manages).then_some((epoch, false)))
            }
            None if is_renewal(epoch.saturating_add(1)) => {
                Ok(self.is_outlived(tx, look, id)?.map(|outlived| (epoch, outlived.own)))
            }
            None => {
                let beaten = self.keeping.beaten.get(log).filter(|beaten| beaten.times >= BEATEN);
                Ok(beaten.map(|beaten| (beaten.first, true)))
            }
        }
    }

    fn renew(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        space: LogId,
        (room, from): (LogId, u32),
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let last = tx.look_at_space(space, |graph| graph.renewal(room).map_or(0, |last| last.epoch))?;
        let Some(epoch) = last.checked_add(RENEWAL_EPOCHS) else { return Ok(None) };
        let (Ok(write), Ok(secret)) = (random(entropy), random(entropy)) else {
            return Ok(Some(now.plus(AGAIN_MS)));
        };
        let keys = RoomKeys { write: Hidden(*write), secret: Hidden(*secret) };
        self.keeping.done(&Turn::Renew(room));
        match self.act(tx, now, space, Action::RoomRenew { room, epoch, from, keys }, staged) {
            Ok(_) => {
                self.keeping.beaten.remove(&room);
                Ok(None)
            }
            Err(error) => again(error, now),
        }
    }

    /// Notes whether a rotation of this device lost to somebody who manages the space no more.
    pub(in super::super) fn note_beaten(
        &mut self,
        tx: &Tx<'_>,
        log: LogId,
        rotator: Author,
        (epoch, lost): (u32, bool),
    ) -> Result<(), StoreError> {
        let Some(belongs) = tx.belongs(&log)?.filter(|belongs| belongs.room) else { return Ok(()) };
        if tx.look_at_space(belongs.space, |graph| graph.standing(rotator).may_manage())? {
            self.keeping.beaten.remove(&log);
        } else if lost {
            let beaten = self.keeping.beaten.entry(log).or_insert(Beaten { first: epoch, times: 0 });
            beaten.times = beaten.times.saturating_add(1);
        }
        Ok(())
    }
}

/// Whether a space has a room, as it is now.
fn is_there(tx: &Tx<'_>, space: LogId, room: &LogId) -> Result<bool, StoreError> {
    tx.look_at_space(space, |graph| graph.current().is_some_and(|state| graph.rooms(&state).contains(room)))
}
