//! Whether a rotation counts, and which of those that stand in a topic closes it.
//!
//! Every device has to come to the same answer, whatever it reads first: a room's topic and its space's are read side
//! by side, and what a rotation cites may come before or after it.

use super::super::io::Output;
use super::super::receive::News;
use super::super::state::{State, Topic};
use super::read;
use crate::identity::{Author, LogId, Millis, OperationId};
use crate::limits::{MAX_CONCURRENT, MAX_TOPICS};
use crate::ops::{Rotation, is_renewal};
use crate::projector::Place;
use crate::space::Judgement;
use crate::store::{StoreError, StoredRotation, Tx};
use crate::topic::TopicId;
use crate::tree::Set;

/// What is known of a rotation's right to close a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It may.
    Counts,
    /// What it cites has not come, or has no place yet, and whose it is may well manage the space: later ones wait
    /// for it. Else two managers who act at the same time would each take their own for the first.
    Waits,
    /// What it cites has not come, and nobody here knows its author as a manager: it may have been made one since. Does
    /// not count, but one behind it that does waits for a while ([`WORD_WAIT_MS`]).
    Unheard,
    /// It may not, or nobody waits for what it cites.
    Void,
}

/// How long a rotation that counts waits, milliseconds, where one stands before it that counts if its author was made a
/// manager: longer than it takes to read of that in the space's log, where this device hears all that comes.
pub const WORD_WAIT_MS: u64 = 60_000;
/// The same where the space's log cannot be read. Nobody who cites what is not there holds up a room for longer.
pub const WORD_WAIT_MAX_MS: u64 = 10 * 60_000;

impl State {
    /// Whether a rotation by this device, which cites `heads`, is one that may count: in a space a manager's does.
    /// Elsewhere the devices that the app named ([`super::super::Command::SetRotators`]) may rotate.
    pub(super) fn may_rotate(
        tx: &Tx<'_>,
        topic: &Topic,
        rotator: &Author,
        heads: &[OperationId],
    ) -> Result<bool, StoreError> {
        let log = topic.keys.log();
        let Some(belongs) = tx.belongs(&log)? else { return tx.is_rotator(&log, rotator) };
        tx.look_at_space(belongs.space, |graph| {
            matches!(graph.judge(*rotator, heads, None), Judgement::Counts { manager: true, .. })
        })
    }

    fn weigh(
        tx: &Tx<'_>,
        device: &Author,
        topic: &Topic,
        found: &StoredRotation,
        heads: &[OperationId],
    ) -> Result<Verdict, StoreError> {
        let log = topic.keys.log();
        let Some(belongs) = tx.belongs(&log)? else {
            return Ok(if tx.is_rotator(&log, &found.rotator)? { Verdict::Counts } else { Verdict::Void });
        };
        let judgement = tx.look_at_space(belongs.space, |graph| graph.judge(found.rotator, heads, None))?;
        match judgement {
            Judgement::Waits(_) => Self::weigh_unknown(tx, device, belongs.space, found, heads),
            Judgement::Counts { manager: true, .. } if belongs.room => {
                Self::weigh_in_room(tx, device, belongs.space, found, heads)
            }
            Judgement::Counts { manager: true, .. } => {
                let stripped = Self::was_stripped(tx, topic, found, heads)?;
                Ok(if stripped { Verdict::Void } else { Verdict::Counts })
            }
            _ => Ok(Verdict::Void),
        }
    }

    /// Of one that cites what has not come. Its author may manage nothing only because this device says so, which
    /// nobody else has read yet: what it cites may stand before that.
    fn weigh_unknown(
        tx: &Tx<'_>,
        device: &Author,
        space: LogId,
        found: &StoredRotation,
        heads: &[OperationId],
    ) -> Result<Verdict, StoreError> {
        if tx.look_at_space(space, |graph| graph.standing(found.rotator).may_manage())? {
            return Ok(Verdict::Waits);
        }
        let unplaced = tx.unplaced(device, &space)?;
        let stripped = tx.look_at_space(space, |graph| {
            let known: Vec<_> = heads.iter().copied().filter(|head| graph.is_judged(head)).collect();
            graph.stripped(found.rotator, &known)
        })?;
        let only_here = stripped.iter().any(|id| unplaced.contains(id));
        Ok(if only_here { Verdict::Waits } else { Verdict::Unheard })
    }

    /// In a room, where nobody can tell by places whether a rotation stands before or after what took the right from
    /// its author: it does not count when that was to be read in the space's log before the last of what it cites was.
    /// Everybody reads that log in one order, so everybody finds the same.
    fn weigh_in_room(
        tx: &Tx<'_>,
        device: &Author,
        space: LogId,
        found: &StoredRotation,
        heads: &[OperationId],
    ) -> Result<Verdict, StoreError> {
        let stripped = tx.look_at_space(space, |graph| graph.stripped(found.rotator, heads))?;
        for stripping in stripped {
            let (beside, cited) = tx.look_at_space(space, |graph| {
                (graph.since(heads, &[stripping]), graph.since(&[stripping], heads))
            })?;
            let few = beside.len().max(cited.len()) <= MAX_CONCURRENT;
            if !few || last_read(tx, &beside)? < last_read(tx, &cited)? {
                return Ok(Verdict::Void);
            }
        }
        // This device's own, which the server has not placed: what comes before it is not known yet.
        let unplaced = tx.unplaced(device, &space)?;
        let cites = |id: &OperationId| {
            tx.look_at_space(space, |graph| graph.is_judged(id) && graph.since(heads, &[*id]).is_empty())
        };
        for id in unplaced {
            if cites(&id)? {
                return Ok(Verdict::Waits);
            }
        }
        Ok(Verdict::Counts)
    }

    /// Whether the space's own log says, at an earlier place, that who rotates it manages it no more: whatever its author
    /// claims not to know, everybody who reads the topic does.
    fn was_stripped(
        tx: &Tx<'_>,
        topic: &Topic,
        found: &StoredRotation,
        heads: &[OperationId],
    ) -> Result<bool, StoreError> {
        let (log, epoch) = (topic.keys.log(), topic.keys.epoch());
        for stripping in tx.look_at_space(log, |graph| graph.stripped(found.rotator, heads))? {
            // What it builds on may come after it: then nobody else could judge it when they read the rotation.
            let beside = tx.look_at_space(log, |graph| graph.since(heads, &[stripping]))?;
            let place = Place { epoch, resets: found.resets, seq: found.seq };
            if last_read(tx, &beside)?.is_some_and(|read| read < place) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a rotation of this person's topic by a device that the person has revoked counts all the same: it stands
    /// before any word of that, and is the first one of that device that this one follows knowing of it. Others went where it
    /// leads as soon as they read it; this device goes with them, and away from the revoked one from there. It goes nowhere
    /// without a key: whoever has a lost device would shut the person out of what the devices share.
    fn follows_revoked(
        &self,
        tx: &Tx<'_>,
        now: Millis,
        topic: &Topic,
        found: &StoredRotation,
        rotation: &Rotation,
    ) -> Result<bool, StoreError> {
        let (id, log, by) = (topic.keys.topic(), topic.keys.log(), found.rotator);
        let is_ours = self.own == Some(log) && tx.is_revoked(&by)?;
        if !is_ours || self.topics.len() >= MAX_TOPICS || followed(tx, &log)?.contains(&by) {
            return Ok(false);
        }
        if self.look_into_part(tx, now, id, by, rotation)?.is_err() {
            return Ok(false);
        }
        let place = Place { epoch: topic.keys.epoch(), resets: found.resets, seq: found.seq };
        Ok(self.revoked_at(tx, &log, &by)?.is_none_or(|said| place < said))
    }

    /// Where this person's topic says first that a device is revoked, as everybody reads it.
    fn revoked_at(&self, tx: &Tx<'_>, log: &LogId, device: &Author) -> Result<Option<Place>, StoreError> {
        let identity = self.identity();
        let mut first: Option<Place> = None;
        let sisters = tx.devices_of(&identity)?.into_iter().chain([self.author(), Author(identity.0)]);
        for author in sisters.collect::<Set<_>>() {
            for (id, revoked) in self.revocations_by(tx, log, &author)? {
                if revoked == *device
                    && let Some(place) = tx.readable_from(&id)?
                {
                    first = Some(first.map_or(place, |first| first.min(place)));
                }
            }
        }
        Ok(first)
    }

    /// The first rotation of a topic that counts, by place, closes it.
    pub(in super::super) fn judge_rotations(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        news: &mut News,
    ) -> Result<(), StoreError> {
        // Once closed a topic stays closed: its successor is remembered across resets.
        let is_open = |topic: &&Topic| topic.closed.is_none();
        let Some(log) = self.topics.get(&id).filter(is_open).map(|topic| topic.keys.log()) else {
            return Ok(());
        };
        if self.own == Some(log) {
            // Makes room for where it goes on, if it can be made.
            self.is_full(tx, now)?;
        }
        let Some(topic) = self.topics.get(&id) else { return Ok(()) };
        let (next_epoch, device) = (topic.keys.epoch().checked_add(1), self.device.author());
        let belongs = tx.belongs(&topic.keys.log())?;
        // Whoever moves a room has its key, and so knows what was known where that began.
        let is_room = belongs.is_some_and(|belongs| belongs.room);
        let began = if is_room { self.began(tx, id)?.unwrap_or_default() } else { Vec::new() };
        let mut unheard = false;
        for found in tx.rotations(id)? {
            let Some(read) = read(&found.body) else { continue };
            let rotation = &read.rotation;
            let is_renewal = is_room && is_renewal(rotation.epoch);
            if Some(rotation.epoch) != next_epoch || is_renewal || rotation.topic == id {
                continue;
            }
            let Some(topic) = self.topics.get(&id) else { return Ok(()) };
            let heads: Vec<_> = read.heads.iter().chain(&began).copied().collect();
            let verdict = match Self::weigh(tx, &device, topic, &found, &heads)? {
                Verdict::Void if self.follows_revoked(tx, now, topic, &found, rotation)? => {
                    let mut followed = followed(tx, &log)?;
                    followed.push(found.rotator);
                    let bytes: Vec<u8> = followed.into_iter().flat_map(|device| device.0).collect();
                    tx.set_setting(&followed_setting(&log), &bytes)?;
                    Verdict::Counts
                }
                verdict => verdict,
            };
            let space = belongs.map(|belongs| belongs.space);
            match verdict {
                Verdict::Counts if unheard && self.waits_for_word(now, id, space) => {
                    self.waiting.extend(space);
                    return Ok(());
                }
                Verdict::Counts => return self.close_topic(tx, now, id, &found, read, news),
                Verdict::Waits => {
                    self.waiting.extend(space);
                    return Ok(());
                }
                // In the space's own log everybody has read what made its author a manager.
                Verdict::Unheard => unheard |= is_room,
                Verdict::Void => {}
            }
        }
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        topic.undecided_since = None;
        // Its own does not count: others may have heard more. Whoever keeps the topic looks again.
        if topic.rotates && !tx.has_unplaced_rotation(id)? {
            topic.rotates = false;
            self.hurry_log_of(tx, now, id)?;
        }
        Ok(())
    }

    /// Whether a rotation that counts waits for word of who made one before it. If so, it is judged again in time.
    fn waits_for_word(&mut self, now: Millis, id: TopicId, space: Option<LogId>) -> bool {
        let lives_in = space.and_then(|space| self.newest(&space));
        let is_live = lives_in.and_then(|id| self.topics.get(&id)).is_some_and(Topic::is_live);
        let Some(topic) = self.topics.get_mut(&id) else { return false };
        // A clock that went back must not make it wait for ever.
        let since = topic.undecided_since.filter(|since| *since <= now).unwrap_or(now);
        topic.undecided_since = Some(since);
        let waited = now.since(since);
        let wait = match (waited < WORD_WAIT_MS, !is_live && waited < WORD_WAIT_MAX_MS) {
            (true, _) => WORD_WAIT_MS,
            (false, true) => WORD_WAIT_MAX_MS,
            (false, false) => return false,
        };
        self.undecided.insert((since.plus(wait), id));
        true
    }

    /// Judges anew what has waited long enough.
    pub(in super::super) fn judge_undecided(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        while let Some(&(at, id)) = self.undecided.first()
            && at <= now
        {
            self.undecided.pop_first();
            if let Some(log) = self.topics.get(&id).map(|topic| topic.keys.log()) {
                self.judge_closes(tx, now, [log], staged)?;
            }
        }
        Ok(())
    }
}

/// Where the last of these could be judged first; what has no place comes after everything.
fn last_read(tx: &Tx<'_>, ids: &[OperationId]) -> Result<Option<Place>, StoreError> {
    let mut last = None;
    for id in ids {
        last = last.max(Some(tx.readable_from(id)?.unwrap_or(Place::UNPLACED)));
    }
    Ok(last)
}

/// Which devices were followed within this person's topic though it was known that they are revoked.
fn followed(tx: &Tx<'_>, log: &LogId) -> Result<Vec<Author>, StoreError> {
    let bytes = tx.setting(&followed_setting(log))?.unwrap_or_default();
    let (devices, _) = bytes.as_chunks::<32>();
    Ok(devices.iter().copied().map(Author).collect())
}

fn followed_setting(log: &LogId) -> String {
    format!("followed:{log}")
}
