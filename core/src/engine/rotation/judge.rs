//! Whether a rotation counts, and which of those that stand in a topic closes it.
//!
//! Every device has to come to the same answer, whatever it reads first: a room's topic and its space's are read side
//! by side, and what a rotation cites may come before or after it.

use super::super::receive::News;
use super::super::state::{State, Topic};
use super::read;
use crate::identity::{Author, LogId, Millis, OperationId};
use crate::ops::Body;
use crate::projector::Place;
use crate::space::Judgement;
use crate::store::{StoreError, StoredRotation, Tx};
use crate::topic::TopicId;

/// What is known of a rotation's right to close a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It may.
    Counts,
    /// What it cites has not come, or has no place yet, and whose it is may well manage the space: later ones wait
    /// for it. Else two managers who act at the same time would each take their own for the first.
    Waits,
    /// What it cites has not come, and as far as is known its author manages nothing: nobody waits for it. Should it
    /// turn out to count, it does.
    Unknown,
    /// It may not.
    Void,
}

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
        &self,
        tx: &Tx<'_>,
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
            Judgement::Waits(_) => Self::weigh_unknown(tx, belongs.space, found, heads),
            Judgement::Counts { manager: true, .. } if belongs.room => {
                Self::weigh_in_room(tx, &self.device.author(), belongs.space, found, heads)
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
        space: LogId,
        found: &StoredRotation,
        heads: &[OperationId],
    ) -> Result<Verdict, StoreError> {
        let (manages, stripped) = tx.look_at_space(space, |graph| {
            let known: Vec<_> = heads.iter().copied().filter(|head| graph.is_judged(head)).collect();
            (graph.standing(found.rotator).may_manage(), graph.stripped(found.rotator, &known))
        })?;
        let mut waits = manages;
        for stripping in stripped {
            waits |= first_place(tx, &stripping)?.is_none();
        }
        Ok(if waits { Verdict::Waits } else { Verdict::Unknown })
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
            if last_place(tx, &beside)? < last_place(tx, &cited)? {
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
            let place = tx.place_of(&stripping)?.map(|stored| stored.place);
            if place.is_some_and(|place| place < Place { epoch, resets: found.resets, seq: found.seq }) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first rotation of a topic that counts, by place, closes it; also when a later one has, because what this one
    /// cites was not known.
    pub(in super::super) fn judge_rotations(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let Some(topic) = self.topics.get(&id) else { return Ok(()) };
        if topic.is_astray() || self.is_settled(topic) {
            return Ok(());
        }
        let next_epoch = topic.keys.epoch().checked_add(1);
        let closed = topic.closed.as_ref().map(|closed| closed.at.operation);
        let mut open = false;
        for found in tx.rotations(id)? {
            if closed == Some(found.operation) {
                break;
            }
            let Some(rotation) = read(&found.body) else { continue };
            if Some(rotation.epoch) != next_epoch || rotation.topic == id {
                continue;
            }
            let heads = Body::decode(&found.body).map(|body| body.auth_heads).unwrap_or_default();
            match self.weigh(tx, topic, &found, &heads)? {
                Verdict::Counts => return self.close_topic(tx, now, id, &found, rotation, news),
                Verdict::Waits => {
                    let space = tx.belongs(&topic.keys.log())?.map(|belongs| belongs.space);
                    self.waiting.extend(space);
                    open = true;
                    break;
                }
                Verdict::Unknown => open = true,
                Verdict::Void => {}
            }
        }
        if let Some(topic) = self.topics.get_mut(&id).filter(|topic| topic.closed.is_some()) {
            topic.contested = open;
        }
        Ok(())
    }

    /// Whether a rotation of this device only waits for places: others of its are not to be made.
    pub(super) fn is_waiting(
        &self,
        tx: &Tx<'_>,
        id: TopicId,
        operation: &OperationId,
    ) -> Result<bool, StoreError> {
        let Some(topic) = self.topics.get(&id) else { return Ok(false) };
        let Some(found) = tx.rotations(id)?.into_iter().find(|it| it.operation == *operation) else {
            return Ok(false);
        };
        let heads = Body::decode(&found.body).map(|body| body.auth_heads).unwrap_or_default();
        Ok(self.weigh(tx, topic, &found, &heads)? == Verdict::Waits)
    }
}

/// Where an operation of the space's log was to be read first. `None`: nowhere yet.
fn first_place(tx: &Tx<'_>, id: &OperationId) -> Result<Option<Place>, StoreError> {
    Ok(tx.place_of(id)?.map(|stored| stored.first).filter(Place::is_placed))
}

/// Where the last of these was to be read; what has no place yet comes after everything. `None`: there are none.
fn last_place(tx: &Tx<'_>, ids: &[OperationId]) -> Result<Option<Place>, StoreError> {
    let mut last = None;
    for id in ids {
        last = last.max(tx.place_of(id)?.map(|stored| stored.first));
    }
    Ok(last)
}
