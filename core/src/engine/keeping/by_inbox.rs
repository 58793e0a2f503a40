//! Keys of a space's own log that go by inbox, to devices that read nothing of it where it lives: which ones those are,
//! how they are handed, and what becomes of keys, and of who asks for them, that came by inbox.

use super::super::upkeep::store_only;
use super::*;
use crate::limits::SHUT_OUT_EPOCHS;
use crate::ops::Level;
use crate::store::KeyRequest;
use crate::tree::Set;

impl State {
    /// Devices that a rotation of the space's own log named, and that do not read the topic it stands in: they were let in
    /// beside an earlier rotation, or say that they have no key of that epoch. What counts is what they were handed by
    /// inbox, or by a rotation that they could read.
    pub(super) fn shut_out_of_space(&self, tx: &Tx<'_>, space: LogId) -> Result<Set<Author>, StoreError> {
        let mut out = Set::new();
        let newest = self.newest(&space).and_then(|id| self.topics.get(&id)).map(|topic| topic.keys.epoch());
        let Some(newest) = newest else { return Ok(out) };
        let asks = tx.key_asks(&space)?;
        // Who read the epoch before; `None`: whoever is named, as far as is known.
        let mut read: Option<Set<Author>> = None;
        for epoch in newest.saturating_sub(SHUT_OUT_EPOCHS - 1).max(1)..=newest {
            out.clear();
            let before = self.by_log.at(&space, epoch - 1).and_then(|id| self.topics.get(&id));
            let closed = before.and_then(|before| before.closed.as_ref());
            let Some((id, closed)) = self.by_log.at(&space, epoch).zip(closed) else {
                read = None;
                continue;
            };
            if closed.at.successor != id {
                read = None;
                continue;
            }
            let mut now = Set::from([closed.rotator]);
            for (device, operation) in tx.handed_in(&space, epoch, &id)? {
                let opened = if operation == closed.at.operation {
                    out.insert(device);
                    let asked = asks.binary_search(&(epoch, device)).is_ok();
                    !asked && read.as_ref().is_none_or(|read| read.contains(&device))
                } else {
                    went_by_inbox(tx, &space, &operation)?
                };
                if opened {
                    now.insert(device);
                }
            }
            out.retain(|device| !now.contains(device));
            read = Some(now);
        }
        Ok(out)
    }

    /// Hands keys of the space's own log to devices that read nothing of it where it lives: by inbox. Gives the others,
    /// which are handed in the log, and whether all that goes by inbox is on its way.
    pub(super) fn hand_by_inbox(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        space: LogId,
        keys: Vec<HandedKey>,
    ) -> Result<(Vec<HandedKey>, bool), StoreError> {
        let (mut rest, mut all) = (Vec::new(), true);
        let out = match keys.iter().any(|key| key.log == space) {
            true => self.shut_out_of_space(tx, space)?,
            false => Set::new(),
        };
        for key in keys {
            let HandedKey { log, epoch, topic, device, write, .. } = key;
            let reads = !out.contains(&device) && tx.holders(&log, epoch, &topic)?.held.contains_key(&device);
            if log != space || reads {
                rest.push(key);
                continue;
            }
            let content = Content::EpochKeys(Box::new(EpochKeys::Hand(vec![key])));
            let Some(operation) = store_only(self.send_to_inbox(tx, now, entropy, device, content))? else {
                all = false;
                continue;
            };
            let access = if write { Access::Write } else { Access::Read };
            tx.put_handed(&log, &device, &Handed { epoch, topic, operation, access })?;
        }
        Ok((rest, all))
    }

    /// Takes note of keys of a space's own log that its managers handed to this device by inbox, and of what members ask
    /// for there that cannot ask in the log. What its author may not say as far as is known waits until this device knows
    /// what its author knew.
    pub(in super::super) fn take_keys_by_inbox(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        space: LogId,
    ) -> Result<(), StoreError> {
        for KeyRequest { log, id, author } in tx.key_requests(&space)? {
            let Some(operation) = stored(tx, &id)? else {
                tx.remove_request(&log, &id)?;
                continue;
            };
            let heads = &operation.body().auth_heads;
            let (standing, known) = tx.look_at_space(space, |graph| {
                (graph.standing(author), heads.iter().all(|head| graph.is_judged(head)))
            })?;
            let Content::EpochKeys(keys) = &operation.body().content else { continue };
            let counts = match **keys {
                EpochKeys::Ask { .. } => standing.level >= Some(Level::Read),
                _ => standing.may_manage() && standing.may_write(),
            };
            if counts {
                self.take_key_by_inbox(tx, space, &operation, keys)?;
                self.keeping.hurry(space, now);
            }
            if counts || known {
                tx.remove_request(&log, &id)?;
            }
        }
        Ok(())
    }

    fn take_key_by_inbox(
        &self,
        tx: &Tx<'_>,
        space: LogId,
        operation: &VerifiedOperation,
        keys: &EpochKeys,
    ) -> Result<(), StoreError> {
        let (me, author) = (self.author(), operation.author());
        match keys {
            EpochKeys::Ask { log, epoch, failed } => {
                tx.put_key_ask(log, *epoch, &author, *failed)?;
                if failed.is_some() {
                    return Ok(());
                }
                // Whatever went there by inbox is lost, or did not open.
                for handed in tx.handed_to(log, &author)?.into_iter().filter(|it| it.epoch >= *epoch) {
                    if *log == space && went_by_inbox(tx, &space, &handed.operation)? {
                        tx.put_key_ask(log, handed.epoch, &author, Some(handed.operation))?;
                    }
                }
                Ok(())
            }
            EpochKeys::Hand(keys) => {
                let own = keys.first().filter(|key| key.log == space && key.device == me);
                let Some(HandedKey { log, epoch, topic, write, .. }) = own else { return Ok(()) };
                let access = if *write { Access::Write } else { Access::Read };
                let (epoch, topic, operation) = (*epoch, *topic, operation.id());
                tx.put_handed(log, &me, &Handed { epoch, topic, operation, access })
            }
            EpochKeys::Past { .. } | EpochKeys::Welcome { .. } => Ok(()),
        }
    }
}

/// Whether an operation that handed a key of the space's own log stands in an inbox.
fn went_by_inbox(tx: &Tx<'_>, space: &LogId, operation: &OperationId) -> Result<bool, StoreError> {
    Ok(tx.located(operation)?.is_some_and(|(_, log, _)| log != *space))
}

#[cfg(test)]
mod tests {
    use super::super::super::state::Topic;
    use super::*;
    use crate::ops::DeviceKey;
    use crate::store::{Durability, Handed, StoredRotation, TopicClose};
    use crate::topic::{Generation, Seq, WriteKey};

    const SPACE: LogId = LogId([7; 32]);

    fn ticket(epoch: u32) -> Ticket {
        Ticket::private(SPACE, epoch, WriteKey::from_seed([epoch as u8 + 1; 32]), [9; 32])
    }

    /// Whom a space of which this is the newest epoch finds shut out: somebody is named by every rotation but the first.
    fn shut_out(newest: u32) -> Set<Author> {
        let (rotator, somebody, other) = (Author([2; 32]), Author([3; 32]), Author([4; 32]));
        let mut store = Store::in_memory().unwrap();
        let mut state = State::load(&mut store, DeviceKey::from_bytes(&[1; 32]), Millis(1)).unwrap();
        let tx = store.begin(Durability::Full).unwrap();
        for epoch in 0..=newest {
            let topic = ticket(epoch).topic();
            let (generation, seq) = (Generation([1; 16]), Seq(5));
            let operation = OperationId([epoch as u8 + 1; 32]);
            let (successor, next) = (ticket(epoch + 1).topic(), epoch + 1);
            let at = TopicClose { topic, operation, generation, resets: 0, seq, successor, epoch: next };
            let found = StoredRotation { operation, rotator, generation, resets: 0, seq, body: Vec::new() };
            let mut opened = Topic::new(ticket(epoch).keys(), None, Millis(1));
            opened.closed = (epoch < newest).then(|| Closed::new(at, found.rotator, None));
            state.insert_topic(topic, opened);
            let named = [Some(other), (epoch > 0).then_some(somebody)];
            for device in named.into_iter().flatten() {
                let handed = Handed { epoch: next, topic: successor, operation, access: Access::Write };
                tx.put_handed(&SPACE, &device, &handed).unwrap();
            }
        }
        state.shut_out_of_space(&tx, SPACE).unwrap()
    }

    #[test]
    fn who_read_nothing_where_a_rotation_named_it_is_found_so_many_epochs_back() {
        assert_eq!(shut_out(2), Set::from([Author([3; 32])]));
        assert_eq!(shut_out(SHUT_OUT_EPOCHS), Set::from([Author([3; 32])]), "at the limit");
        assert!(shut_out(SHUT_OUT_EPOCHS + 1).is_empty(), "past it: it asks");
    }
}
