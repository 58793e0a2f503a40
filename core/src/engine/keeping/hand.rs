//! A manager's device hands keys to devices that lack them.

use super::*;
use crate::crypto::DeviceBundle;
use crate::ops::is_renewal;
use crate::tree::Set;

impl State {
    /// Hands keys to devices that lack them.
    pub(super) fn keep_handed(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        look: &Look,
        logs: &[LogId],
        staged: &mut Vec<Output>,
    ) -> Result<Option<Millis>, StoreError> {
        let turn = Turn::Hand(look.space);
        let mut lacking = Vec::new();
        for log in logs {
            if let Some(id) = self.newest(log)
                && self.is_outlived(tx, look, id)?.is_none()
            {
                self.lacking(tx, now, look, id, &mut lacking)?;
            }
            self.asking(tx, now, look, log, &mut lacking)?;
        }
        let Some((first, _)) = lacking.first() else {
            self.keeping.done(&turn);
            return Ok(None);
        };
        let (device, me) = (first.device(), self.author());
        let own = tx.look_at_space(look.space, |graph| graph.let_in_by(device, me))?;
        if let Some(at) = self.wait_for(now, entropy, turn, own, [&look.space, &look.space]) {
            return Ok(Some(at));
        }
        let Some(secrets) = tx.device_secrets()? else { return Ok(Some(now.plus(AGAIN_MS))) };
        lacking.truncate(MAX_HANDED_KEYS);
        let (space, heads, secrets) = (look.space, look.heads.clone(), Box::new(secrets));
        let work = SealWork::Keys { space, heads, secrets, keys: lacking };
        Ok(self.give_out(now, entropy, (Some(look.space), turn), work, staged))
    }

    /// Devices that lack the key of the epoch a log lives in.
    fn lacking(
        &self,
        tx: &Tx<'_>,
        now: Millis,
        look: &Look,
        id: TopicId,
        lacking: &mut Vec<(DeviceBundle, Ticket)>,
    ) -> Result<(), StoreError> {
        let Some(topic) = self.topics.get(&id).filter(|topic| topic.closed.is_none()) else { return Ok(()) };
        let (log, epoch) = (topic.keys.log(), topic.keys.epoch());
        // A room's first keys, and those it was renewed with, stand in the space's log, those of the space in the invitation.
        if epoch == 0 || (log != look.space && is_renewal(epoch)) {
            return Ok(());
        }
        let Some(ticket) = tx.topic(id)?.map(|row| row.ticket) else { return Ok(()) };
        let holders = tx.holders(&log, epoch, &id)?;
        let out = match log == look.space {
            true => self.shut_out_of_space(tx, log)?,
            false => Set::new(),
        };
        for (device, access) in &look.devices {
            let held = holders.held.get(device).filter(|_| !out.contains(device));
            // Who cannot read the space does not read what is handed there either: that goes by inbox.
            let elsewhere = log == look.space && held.is_none() && tx.peer_inbox(device)?.is_none();
            let may = *access == Access::Read || ticket.can_write();
            if *device == self.author()
                || held >= Some(access)
                || elsewhere
                || !may
                || holders.spent.contains(device)
            {
                continue;
            }
            offer(tx, now, device, *access, &ticket, lacking)?;
        }
        Ok(())
    }

    /// Devices that ask for the key of an epoch that is over: of members of that time, and where history is readable.
    fn asking(
        &self,
        tx: &Tx<'_>,
        now: Millis,
        look: &Look,
        log: &LogId,
        lacking: &mut Vec<(DeviceBundle, Ticket)>,
    ) -> Result<(), StoreError> {
        for (epoch, device) in tx.key_asks(log)? {
            self.shut_out(tx, now, look, log, (epoch, device), lacking)?;
            let Some(id) = self.by_log.at(log, epoch).filter(|id| self.newest(log) != Some(*id)) else {
                continue;
            };
            let holders = tx.holders(log, epoch, &id)?;
            if device == self.author()
                || !look.devices.contains_key(&device)
                || holders.held.contains_key(&device)
                || holders.spent.contains(&device)
            {
                continue;
            }
            let began = self.began(tx, id)?;
            let then = tx.look_at_space(look.space, |graph| {
                began.is_some_and(|began| graph.read_at(device, &began))
            })?;
            let (Some(row), true) = (tx.topic(id)?, then || look.history) else { continue };
            offer(tx, now, &device, Access::Read, &row.ticket, lacking)?;
        }
        Ok(())
    }

    /// A device that asks for an earlier epoch, and came after it: a rotation handed it the current one's key, where it
    /// cannot read. It is handed that key as who was left out is.
    fn shut_out(
        &self,
        tx: &Tx<'_>,
        now: Millis,
        look: &Look,
        log: &LogId,
        (asked, device): (u32, Author),
        lacking: &mut Vec<(DeviceBundle, Ticket)>,
    ) -> Result<(), StoreError> {
        let Some(id) = self.newest(log).filter(|_| *log != look.space && !look.history) else {
            return Ok(());
        };
        let Some(topic) = self.topics.get(&id).filter(|topic| topic.closed.is_none()) else { return Ok(()) };
        let epoch = topic.keys.epoch();
        let Some(access) = look.devices.get(&device).filter(|_| asked < epoch && device != self.author())
        else {
            return Ok(());
        };
        for handed in tx.handed_to(log, &device)?.into_iter().filter(|handed| handed.epoch == epoch) {
            let said = stored(tx, &handed.operation)?;
            if !said.is_some_and(|it| matches!(it.body().content, Content::RoomRotate(_))) {
                return Ok(());
            }
        }
        let (spent, row) = (tx.holders(log, epoch, &id)?.spent, tx.topic(id)?);
        let Some(ticket) = row.map(|row| row.ticket).filter(|_| !spent.contains(&device)) else {
            return Ok(());
        };
        let may = *access == Access::Read || ticket.can_write();
        let known = lacking.iter().any(|(to, key)| to.device() == device && key.topic() == id);
        match may && !known {
            true => offer(tx, now, &device, *access, &ticket, lacking),
            false => Ok(()),
        }
    }

    /// Notes to whom the rotation that closed a topic handed the next epoch.
    pub(in super::super) fn note_handed(
        tx: &Tx<'_>,
        log: &LogId,
        closed: &Closed,
        rotation: &Rotation,
    ) -> Result<(), StoreError> {
        let Some(belongs) = tx.belongs(log)? else { return Ok(()) };
        let access = tx.look_at_space(belongs.space, |graph| graph.device_access_at(&closed.heads))?;
        let (epoch, topic, operation) = (rotation.epoch, rotation.topic, closed.at.operation);
        for part in &rotation.parts {
            // Whoever was no member's then was given what nobody knows.
            let access = access.get(&part.device).copied().unwrap_or(Access::Write);
            tx.put_handed(log, &part.device, &Handed { epoch, topic, operation, access })?;
        }
        let access = Access::Write;
        tx.put_handed(log, &closed.rotator, &Handed { epoch, topic, operation, access })
    }
}

/// What a device is to be handed, if a bundle of it is known that is good.
fn offer(
    tx: &Tx<'_>,
    now: Millis,
    device: &Author,
    access: Access,
    ticket: &Ticket,
    lacking: &mut Vec<(DeviceBundle, Ticket)>,
) -> Result<(), StoreError> {
    let bundle = tx.device_bundle(device)?.filter(|it| it.bundle().verify(now).is_ok());
    let ticket = if access == Access::Write { ticket.clone() } else { ticket.read_only() };
    lacking.extend(bundle.map(|bundle| (bundle, ticket)));
    Ok(())
}
