//! Topics move when their keys may be in the wrong hands, and what reads the epoch before is left in the next.

use super::*;
use crate::ops::is_renewal;
use crate::tree::Map;

/// Who is handed a topic's successor.
pub(super) struct Among<'a> {
    /// The space that judges the topic, or the topic's own log where none does.
    pub(super) space: LogId,
    /// What this device has seen of the space.
    pub(super) heads: Vec<OperationId>,
    pub(super) devices: &'a Map<Author, Access>,
}

impl State {
    /// Moves topics whose keys may be in the wrong hands.
    pub(super) fn keep_rotated(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        look: &Look,
        logs: &[LogId],
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let mut next = None;
        for log in logs {
            let Some(id) = self.newest(log) else { continue };
            let Some(topic) = self.topics.get(&id) else { continue };
            // An own rotation that has no place yet, and the keys it gives, are looked at when it has one.
            if !topic.may_move() {
                continue;
            }
            // That one a renewal begins.
            if log != &look.space && is_renewal(topic.keys.epoch().saturating_add(1)) {
                continue;
            }
            // Why the space's own log moves is to stand before the place at which it ends: packets overtake each other,
            // and who is removed reads nothing behind that place.
            if log == &look.space && !topic.outbox.is_empty() {
                next = next.into_iter().chain([now.plus(AGAIN_MS)]).min();
                continue;
            }
            let turn = Turn::Rotate(id);
            let Some(outlived) = self.is_outlived(tx, look, id)? else {
                self.keeping.done(&turn);
                continue;
            };
            let at = match self.wait_for(now, entropy, turn, outlived.own, [log, &look.space]) {
                Some(at) => Some(at),
                None => {
                    let (space, heads) = (look.space, look.heads.clone());
                    let among = Among { space, heads, devices: &look.devices };
                    self.begin_rotation(tx, now, entropy, id, among, staged)?
                }
            };
            next = next.into_iter().chain(at).min();
        }
        Ok(next)
    }

    /// At which membership operations the epoch of a topic began; `None`: that is not known here.
    pub(in super::super) fn began(
        &self,
        tx: &Tx<'_>,
        id: TopicId,
    ) -> Result<Option<Vec<OperationId>>, StoreError> {
        let (log, epoch) = match self.topics.get(&id) {
            Some(topic) => (topic.keys.log(), topic.keys.epoch()),
            // One that is retired.
            None => match tx.topic(id)? {
                Some(row) => (row.ticket.log(), row.ticket.epoch()),
                None => return Ok(None),
            },
        };
        let Some(before) = epoch.checked_sub(1) else { return Ok(Some(Vec::new())) };
        if is_renewal(epoch)
            && let Some(belongs) = tx.belongs(&log)?.filter(|belongs| belongs.room)
        {
            return tx.look_at_space(belongs.space, |graph| {
                graph.renewal_at(log, epoch).map(|renewal| vec![renewal.id])
            });
        }
        if let Some(before) = self.by_log.at(&log, before) {
            let heads = match self.topics.get(&before) {
                Some(before) => {
                    let closed = before.closed.as_ref().filter(|closed| closed.at.successor == id);
                    closed.map(|closed| closed.heads.clone())
                }
                None => Self::cited_between(tx, before, id)?,
            };
            if heads.is_some() {
                return Ok(heads);
            }
        }
        // Whoever handed it to this device knew what had been done before.
        let handed = tx.handed_to(&log, &self.author())?;
        let Some(handed) = handed.iter().find(|handed| handed.topic == id) else { return Ok(None) };
        Ok(stored(tx, &handed.operation)?.map(|operation| operation.body().auth_heads.clone()))
    }

    pub(super) fn is_outlived(
        &self,
        tx: &Tx<'_>,
        look: &Look,
        id: TopicId,
    ) -> Result<Option<Outlived>, StoreError> {
        let Some(topic) = self.topics.get(&id) else { return Ok(None) };
        let (log, epoch, author) = (topic.keys.log(), topic.keys.epoch(), self.author());
        let Some(began) = self.began(tx, id)? else { return Ok(None) };
        if let Some(outlived) = tx.look_at_space(look.space, |graph| graph.outlived(&began, author))? {
            return Ok(Some(outlived));
        }
        if epoch == 0 || (log != look.space && is_renewal(epoch)) {
            // A room's first keys, and those it was renewed with, stand in the space's log, for whoever reads that later.
            let open = log != look.space && !look.history;
            let made = tx.look_at_space(look.space, |graph| {
                let renewed = graph.renewal_at(log, epoch).map(|renewal| renewal.by);
                renewed.or_else(|| graph.room_maker(log)) == look.me
            })?;
            return Ok(open.then_some(Outlived { own: made }));
        }
        let held = tx.holders(&log, epoch, &id)?.held;
        let astray = held.iter().any(|(device, had)| look.devices.get(device) < Some(had));
        Ok(astray.then_some(Outlived { own: false }))
    }

    /// Has a topic's successor made for these devices.
    pub(super) fn begin_rotation(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        among: Among<'_>,
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let Among { space, heads, devices } = among;
        let (Some(secrets), Some(row)) = (tx.device_secrets()?, tx.topic(id)?) else {
            return Ok(Some(now.plus(AGAIN_MS)));
        };
        if let Some(given) = self.keeping.sealing {
            self.keeping.waiting.insert(space);
            return Ok(Some(given.until));
        }
        let mut to = Vec::new();
        for (device, access) in devices.iter().filter(|(device, _)| **device != self.author()) {
            let bundle = tx.device_bundle(device)?;
            to.extend(bundle.map(|bundle| (bundle, *access == Access::Write)));
        }
        let work = SealWork::Rotation {
            space,
            topic: id,
            heads,
            secrets: Box::new(secrets),
            ends: tx.log_ends(&row.ticket.log())?,
            current: row.ticket,
            to,
        };
        Ok(self.give_out(now, entropy, (Some(space), Turn::Rotate(id)), work, staged))
    }

    /// The epoch before one of a log.
    pub(super) fn before(
        tx: &Tx<'_>,
        space: LogId,
        log: &LogId,
        epoch: u32,
    ) -> Result<Option<u32>, StoreError> {
        if *log == space || !is_renewal(epoch) {
            return Ok(epoch.checked_sub(1));
        }
        tx.look_at_space(space, |graph| graph.renewal_at(*log, epoch).map(|renewal| renewal.from))
    }

    /// Leaves behind what reads the epoch before: always in the space's own log, without which nobody can judge
    /// anything, elsewhere where history is readable.
    pub(super) fn keep_past(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        look: &Look,
        logs: &[LogId],
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let mut next = None;
        for log in logs.iter().filter(|log| **log == look.space || look.history) {
            let Some(id) = self.newest(log) else { continue };
            let Some(topic) = self.topics.get(&id) else { continue };
            let open = topic.closed.is_none() && topic.keys.write_key().is_some();
            let epoch = topic.keys.epoch();
            let Some(before) = Self::before(tx, look.space, log, epoch)?.filter(|_| open) else { continue };
            let (turn, known) = (Turn::Past(id), self.by_log.at(log, before));
            let closed = known.and_then(|id| self.topics.get(&id)).and_then(|it| it.closed.as_ref());
            // By someone else there may be another: what leads here is what is left.
            let leads_here = |closed: &&Closed| closed.at.successor == id || is_renewal(epoch);
            let Some(closed) = closed.filter(leads_here) else { continue };
            let own = closed.rotator == self.author();
            let Some(ticket) = known.map(|id| tx.topic(id)).transpose()?.flatten().map(|row| row.ticket)
            else {
                continue;
            };
            if tx.past_keys(log, before)?.iter().any(|known| known.topic() == ticket.topic()) {
                self.keeping.done(&turn);
                continue;
            }
            let mut at = self.wait_for(now, entropy, turn, own, [log, &look.space]);
            if at.is_none()
                && let Some(past) = ticket.as_past()
            {
                at = self.keep_said(tx, now, id, past, staged)?;
            }
            next = next.into_iter().chain(at).min();
        }
        Ok(next)
    }
}
