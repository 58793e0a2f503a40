//! What comes by inbox and opens a topic, when there are as many topics as there may be: it is kept, and taken as soon as
//! there is room.

use super::direct::Acceptance;
use super::io::Output;
use super::keeping::stored;
use super::receive::News;
use super::state::State;
use crate::identity::{Millis, OperationId};
use crate::limits::{MAX_HELD, MAX_TOPICS};
use crate::ops::{Content, EpochKeys};
use crate::store::{StoreError, Tx};

/// Under which name it is kept which operations these are.
const HELD: &str = "held";

impl State {
    /// Keeps an operation until there is room for the topic that it opens. The oldest give way.
    pub(super) fn hold(&mut self, tx: &Tx<'_>, id: &OperationId) -> Result<(), StoreError> {
        let mut held = tx.setting(HELD)?.unwrap_or_default();
        let (ids, _) = held.as_chunks::<32>();
        if !ids.contains(&id.0) {
            let surplus = (ids.len() + 1).saturating_sub(MAX_HELD);
            held.drain(..surplus * 32);
            held.extend_from_slice(&id.0);
            tx.set_setting(HELD, &held)?;
        }
        self.upkeep.held = true;
        Ok(())
    }

    /// Takes what was kept if there is room now. What finds none is kept anew.
    pub(super) fn take_held(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        if !self.upkeep.held || self.topics.len() >= MAX_TOPICS {
            return Ok(());
        }
        self.upkeep.held = false;
        let held = tx.setting(HELD)?.unwrap_or_default();
        let (ids, _) = held.as_chunks::<32>();
        let Some(inbox) = tx.inboxes()?.last().map(|row| row.topic).filter(|_| !ids.is_empty()) else {
            return Ok(());
        };
        tx.set_setting(HELD, &[])?;
        let mut news = News::default();
        for id in ids {
            let Some(operation) = stored(tx, &OperationId(*id))? else { continue };
            let (id, author) = (operation.id(), operation.author());
            match &operation.body().content {
                Content::DirectAccept { thread, share, identity, bundles } => {
                    let accept = Acceptance { id, thread: *thread, share, identity: *identity, bundles };
                    self.take_direct_accept(tx, now, author, &accept, &mut news)?;
                }
                Content::EpochKeys(keys) => {
                    if let EpochKeys::Welcome { request, ticket } = &**keys {
                        self.take_welcome(tx, (id, author), request, ticket)?;
                    }
                }
                _ => {}
            }
        }
        news.tell(tx, self.known_as(inbox), staged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::DeviceKey;
    use crate::store::{Durability, Store};

    #[test]
    fn so_much_is_kept_and_the_oldest_gives_way() {
        let mut store = Store::in_memory().unwrap();
        let mut state = State::load(&mut store, DeviceKey::from_bytes(&[1; 32]), Millis(1)).unwrap();
        let tx = store.begin(Durability::Normal).unwrap();
        let id = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(number as u64).to_be_bytes());
            OperationId(id)
        };
        let held = |tx: &Tx<'_>| -> Vec<OperationId> {
            tx.setting(HELD).unwrap().unwrap().as_chunks::<32>().0.iter().copied().map(OperationId).collect()
        };
        for number in 0..MAX_HELD {
            state.hold(&tx, &id(number)).unwrap();
        }
        state.hold(&tx, &id(3)).unwrap();
        let all: Vec<_> = (0..=MAX_HELD).map(id).collect();
        assert_eq!(held(&tx), all[..MAX_HELD], "at the limit");
        state.hold(&tx, &id(MAX_HELD)).unwrap();
        assert_eq!(held(&tx), all[1..]);
    }
}
