//! The topic that a person's devices share moves when one of them is revoked, and they find in it what a space does not
//! hand to one that it has not heard of.

use super::moves::Among;
use super::*;
use crate::limits::SHARED_EPOCHS;
use crate::ops::{Body, OwnDevices, TicketBytes};
use crate::tree::{Arrange, IntoTree, Set};

impl State {
    /// Keeps this person's topic from devices that were revoked, and this device's bundle where the others find it, who
    /// move the topic as well. Gives when to look again.
    pub(super) fn keep_own(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        log: LogId,
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        self.meet_own(tx, now, staged)?;
        let Some(id) = self.newest(&log) else { return Ok(None) };
        // A device that was paired later reads no earlier epoch than the one at hand then.
        let name = format!("bundle_in:{log}");
        if tx.setting(&name)?.as_deref() != Some(id.0.as_slice()) {
            tx.set_setting(&bundle_setting(&log), &[])?;
            tx.set_setting(&name, &id.0)?;
            let known = tx.revoked_devices()?.into_iter().flat_map(|device| device.0);
            tx.set_setting(&revoked_setting(&log), &id.0.into_iter().chain(known).collect::<Vec<_>>())?;
            // What is not said where a revoked device reads may be said now.
            self.keeping.hurry_all(now);
        }
        let bundle = self.keep_bundle(tx, now, entropy, log, staged)?;
        let moved = self.keep_own_rotated(tx, now, entropy, log, id, staged)?;
        let threads = self.keep_threads_said(tx, now, entropy, log, staged)?;
        let past = self.keep_past_handed(tx, now, entropy)?;
        Ok(bundle.into_iter().chain(moved).chain(threads).chain(past).min())
    }

    /// Whether a revoked device may read what is said in this person's topic.
    pub(in crate::engine) fn is_overheard(
        &self,
        tx: &Tx<'_>,
        log: &LogId,
        id: TopicId,
    ) -> Result<bool, StoreError> {
        let revoked = self.revoked_anywhere(tx, &tx.devices_of(&self.identity())?)?;
        self.has_reached(tx, log, id, &revoked)
    }

    /// Which devices of the person were revoked, also where only a space says so: nothing is shared where such a one may be.
    fn revoked_anywhere(&self, tx: &Tx<'_>, devices: &[Author]) -> Result<Set<Author>, StoreError> {
        let mut revoked = tx.revoked_devices()?;
        for device in devices {
            if tx.was_revoked(device, &self.identity())? {
                revoked.insert(*device);
            }
        }
        Ok(revoked)
    }

    /// A device that is paired later reads of this person's topic what was said since it moved last: every direct thread
    /// is said anew where it lives now.
    fn keep_threads_said(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        log: LogId,
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let Some(id) = self.newest(&log) else { return Ok(None) };
        let turn = Turn::Threads(id);
        let unsaid = tx.unsaid_threads(&id)?;
        if unsaid.is_empty() || self.is_overheard(tx, &log, id)? {
            self.keeping.done(&turn);
            return Ok(None);
        }
        let own = self.author() == Author(self.identity().0);
        if let Some(at) = self.wait_for(now, entropy, turn, own, [&log, &log]) {
            return Ok(Some(at));
        }
        for thread in unsaid {
            self.say_thread(tx, now, thread, staged)?;
        }
        // What could not be said now is tried again.
        Ok((!tx.unsaid_threads(&id)?.is_empty()).then(|| now.plus(AGAIN_MS)))
    }

    fn keep_own_rotated(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        log: LogId,
        id: TopicId,
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let Some(topic) = self.topics.get(&id).filter(|topic| topic.may_move()) else { return Ok(None) };
        // The others hear of the revocation before the topic ends.
        if !topic.outbox.is_empty() {
            return Ok(Some(now.plus(AGAIN_MS)));
        }
        let revoked = tx.revoked_devices()?;
        let turn = Turn::Rotate(id);
        if revoked.contains(&self.author()) || !self.has_reached(tx, &log, id, &revoked)? {
            self.keeping.done(&turn);
            return Ok(None);
        }
        let own = self.author() == Author(self.identity().0) || self.has_revoked(tx, &log, id, &revoked)?;
        if let Some(at) = self.wait_for(now, entropy, turn, own, [&log, &log]) {
            return Ok(Some(at));
        }
        let known = tx.devices_of(&self.identity())?.into_iter().chain([Author(self.identity().0)]);
        let devices = known.filter(|device| !revoked.contains(device)).map(|device| (device, Access::Write));
        let among = Among { space: log, heads: Vec::new(), devices: &devices.collect() };
        self.begin_rotation(tx, now, entropy, id, among, staged)
    }

    /// Whether it is this device that revoked one that the keys may have reached: it goes first, and a lost device is shut
    /// out at once.
    fn has_revoked(
        &self,
        tx: &Tx<'_>,
        log: &LogId,
        id: TopicId,
        revoked: &Set<Author>,
    ) -> Result<bool, StoreError> {
        let said = self.revocations_by(tx, log, &self.author())?;
        let said = said.into_iter().map(|(_, device)| device).filter(|device| revoked.contains(device));
        self.has_reached(tx, log, id, &said.into_set())
    }

    /// A device of the person that a space has not heard of is handed nothing there, and cannot tell of itself once the
    /// space has moved: it finds where the space's logs live now among what the person's other devices share.
    pub(super) fn keep_sisters(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        look: &Look,
        logs: &[LogId],
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(own) = self.own else { return Ok(()) };
        let lacking = logs.iter().copied().filter(|log| self.lacks(log).is_some()).into_set();
        if !lacking.is_empty() {
            self.find_shared(tx, now, own, &lacking, staged)?;
        }
        if !look.devices.contains_key(&self.author()) {
            return Ok(());
        }
        let devices = tx.devices_of(&self.identity())?;
        let revoked = self.revoked_anywhere(tx, &devices)?;
        let known = |device: &Author| look.devices.contains_key(device) || revoked.contains(device);
        if devices.iter().all(known) {
            return Ok(());
        }
        match self.newest(&own) {
            Some(id) if !self.has_reached(tx, &own, id, &revoked)? => {}
            // It moves first.
            _ => return Ok(()),
        }
        for log in logs {
            self.share_epochs(tx, now, log, staged)?;
        }
        Ok(())
    }

    /// Says where a conversation lives now, and lived since this device last said so.
    fn share_epochs(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        log: &LogId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let name = format!("shared:{log}");
        let said = tx.setting(&name)?.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let said = said.map(u32::from_be_bytes);
        let epochs = self.by_log.epochs(log).into_iter().rev().take(SHARED_EPOCHS).collect::<Vec<_>>();
        let newer = epochs.iter().rev().copied().filter(|epoch| said.is_none_or(|said| *epoch > said));
        for epoch in newer.collect::<Vec<_>>() {
            let Some(id) = self.by_log.at(log, epoch) else { continue };
            let Some(ticket) = tx.topic(id)?.map(|row| row.ticket) else { continue };
            self.share_topic(tx, now, &ticket, staged)?;
        }
        match epochs.first() {
            Some(newest) if said != Some(*newest) => tx.set_setting(&name, &newest.to_be_bytes()),
            _ => Ok(()),
        }
    }

    /// Takes what another device of the person has said of these conversations, also before it was known here that they had
    /// moved.
    fn find_shared(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        own: LogId,
        logs: &Set<LogId>,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let revoked = tx.revoked_devices()?;
        let sisters = tx.devices_of(&self.identity())?.into_iter().chain([Author(self.identity().0)]);
        let mut found = Vec::new();
        for sister in sisters.filter(|sister| *sister != self.author() && !revoked.contains(sister)) {
            for (_, said) in tx.said_among_own(&sister, &own)? {
                let Ok(body) = Body::decode(&said) else { continue };
                let Content::OwnDevices(said) = body.content else { continue };
                let OwnDevices::Topic { ticket: TicketBytes(bytes) } = &*said else { continue };
                found.extend(Ticket::from_bytes(bytes).ok().filter(|ticket| logs.contains(&ticket.log())));
            }
        }
        // The newest first: where it lives.
        found.arrange_by_key(|ticket| std::cmp::Reverse(ticket.epoch()));
        for ticket in found {
            store_error(self.meet(tx, now, ticket, staged))?;
        }
        Ok(())
    }

    /// Whether the keys of this person's topic may have reached a revoked device.
    fn has_reached(
        &self,
        tx: &Tx<'_>,
        log: &LogId,
        id: TopicId,
        revoked: &Set<Author>,
    ) -> Result<bool, StoreError> {
        let epoch = self.topics.get(&id).map_or(0, |topic| topic.keys.epoch());
        let before = epoch.checked_sub(1).and_then(|before| self.by_log.at(log, before));
        let closed = before.and_then(|before| self.topics.get(&before)?.closed.as_ref());
        let Some(closed) = closed.filter(|closed| closed.at.successor == id) else {
            return Ok(!revoked.is_empty());
        };
        // One that was paired since has the keys from its welcome.
        if let Some(before) = tx.setting(&revoked_setting(log))?
            && let Some(before) = before.strip_prefix(&id.0)
        {
            let (before, _) = before.as_chunks::<32>();
            if revoked.iter().any(|device| !before.contains(&device.0)) {
                return Ok(true);
            }
        }
        let parts = tx.rotations(closed.at.topic)?.into_iter().find(|it| it.operation == closed.at.operation);
        let parts =
            parts.and_then(|found| rotation_in(&found.body)).map_or_else(Vec::new, |it| it.rotation.parts);
        Ok(parts
            .iter()
            .map(|part| part.device)
            .chain([closed.rotator])
            .any(|device| revoked.contains(&device)))
    }
}

/// Under which name is kept which devices were revoked when this one came to where the topic lives now.
fn revoked_setting(log: &LogId) -> String {
    format!("revoked_before:{log}")
}

#[cfg(test)]
mod tests {
    use super::super::super::state::Topic;
    use super::*;
    use crate::entropy::SeededEntropy;
    use crate::ops::DeviceKey;
    use crate::store::Durability;
    use crate::topic::WriteKey;

    #[test]
    fn so_many_epochs_of_a_conversation_are_shared_at_once_the_newest() {
        for surplus in [0, 1] {
            let mut store = Store::in_memory().unwrap();
            let mut state = State::load(&mut store, DeviceKey::from_bytes(&[1; 32]), Millis(1)).unwrap();
            let mut tx = store.begin(Durability::Full).unwrap();
            let (mut entropy, mut staged) = (SeededEntropy::new([1; 32]), Vec::new());
            state.own_topic(&mut tx, Millis(1), &mut entropy, None, &mut staged).unwrap();
            let (own, log, lived) = (state.own.unwrap(), LogId([7; 32]), SHARED_EPOCHS as u32 + surplus);
            for epoch in 0..lived {
                let write = WriteKey::from_seed([epoch as u8 + 1; 32]);
                let ticket = Ticket::private(log, epoch, write, [9; 32]);
                tx.put_topic(&ticket, Millis(1)).unwrap();
                state.insert_topic(ticket.topic(), Topic::new(ticket.keys(), None, Millis(1)));
            }
            state.share_epochs(&mut tx, Millis(2), &log, &mut staged).unwrap();
            let said = tx.said_among_own(&state.author(), &own).unwrap();
            let epoch = |(_, body): &(OperationId, Vec<u8>)| match Body::decode(body).unwrap().content {
                Content::OwnDevices(said) => match *said {
                    OwnDevices::Topic { ticket } => Ticket::from_bytes(&ticket.0).unwrap().epoch(),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            };
            let mut epochs: Vec<u32> = said.iter().map(epoch).collect();
            epochs.reverse();
            assert_eq!(epochs, (surplus..lived).collect::<Vec<_>>());
        }
    }
}
