//! The topic that a person's devices share moves when one of them is revoked.

use super::moves::Among;
use super::*;

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
        let Some(id) = self.newest(&log) else { return Ok(None) };
        // A device that was paired later reads no earlier epoch than the one at hand then.
        let name = format!("bundle_in:{log}");
        if tx.setting(&name)?.as_deref() != Some(id.0.as_slice()) {
            tx.set_setting(&bundle_setting(&log), &[])?;
            tx.set_setting(&name, &id.0)?;
        }
        let bundle = self.keep_bundle(tx, now, entropy, log, staged)?;
        let moved = self.keep_own_rotated(tx, now, entropy, log, id, staged)?;
        Ok(bundle.into_iter().chain(moved).min())
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
        let revoked: BTreeSet<_> = tx.revocations()?.into_iter().map(|it| it.device).collect();
        let turn = Turn::Rotate(id);
        if revoked.contains(&self.author()) || !self.has_reached(tx, &log, id, &revoked)? {
            self.keeping.done(&turn);
            return Ok(None);
        }
        let own = self.author() == Author(self.identity().0);
        if let Some(at) = self.wait_for(now, entropy, turn, own, [&log, &log]) {
            return Ok(Some(at));
        }
        let known = tx.devices_of(&self.identity())?.into_iter().chain([Author(self.identity().0)]);
        let devices = known.filter(|device| !revoked.contains(device)).map(|device| (device, Access::Write));
        let among = Among { space: log, heads: Vec::new(), devices: &devices.collect() };
        self.begin_rotation(tx, now, entropy, id, among, staged)
    }

    /// Whether the keys of this person's topic may have reached a revoked device.
    fn has_reached(
        &self,
        tx: &Tx<'_>,
        log: &LogId,
        id: TopicId,
        revoked: &BTreeSet<Author>,
    ) -> Result<bool, StoreError> {
        let epoch = self.topics.get(&id).map_or(0, |topic| topic.keys.epoch());
        let before = epoch.checked_sub(1).and_then(|before| self.by_log.at(log, before));
        let closed = before.and_then(|before| self.topics.get(&before)?.closed.as_ref());
        let Some(closed) = closed.filter(|closed| closed.at.successor == id) else {
            return Ok(!revoked.is_empty());
        };
        let parts = tx.rotations(closed.at.topic)?.into_iter().find(|it| it.operation == closed.at.operation);
        let parts = parts.and_then(|found| rotation_in(&found.body)).map_or_else(Vec::new, |it| it.parts);
        Ok(parts
            .iter()
            .map(|part| part.device)
            .chain([closed.rotator])
            .any(|device| revoked.contains(&device)))
    }
}
