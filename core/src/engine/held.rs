//! What comes and opens a topic, when there are as many topics as there may be: it is kept, and taken as soon as there is
//! room.

use super::direct::Acceptance;
use super::io::Output;
use super::keeping::stored;
use super::receive::News;
use super::state::State;
use crate::identity::{Millis, OperationId};
use crate::limits::{MAX_HELD, MAX_TOPICS};
use crate::ops::{Content, EpochKeys, OwnDevices, VerifiedOperation};
use crate::store::{StoreError, Tx};

/// Why something is kept.
#[derive(Clone, Copy, Debug)]
pub(super) enum List {
    /// There are as many topics as there may be.
    Full,
    /// Nobody has said yet whose device its author is.
    Unintroduced,
}

impl List {
    /// Under which name it is kept which operations these are.
    const fn name(self) -> &'static str {
        match self {
            Self::Full => "held",
            Self::Unintroduced => "unintroduced",
        }
    }
}

impl State {
    /// Keeps an operation until there is room for the topic that it opens. The oldest give way.
    pub(super) fn hold(&mut self, tx: &Tx<'_>, id: &OperationId) -> Result<(), StoreError> {
        self.upkeep.held = true;
        Self::list(tx, List::Full, id)
    }

    /// Keeps which operation is to be taken later. The oldest give way.
    pub(super) fn list(tx: &Tx<'_>, list: List, id: &OperationId) -> Result<(), StoreError> {
        let mut held = tx.setting(list.name())?.unwrap_or_default();
        let (ids, _) = held.as_chunks::<32>();
        if !ids.contains(&id.0) {
            let surplus = (ids.len() + 1).saturating_sub(MAX_HELD);
            held.drain(..surplus * 32);
            held.extend_from_slice(&id.0);
            tx.set_setting(list.name(), &held)?;
        }
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
        self.take_listed(tx, now, List::Full, staged)
    }

    /// Takes what was kept; what cannot be taken yet is kept anew.
    pub(super) fn take_listed(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        list: List,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let held = tx.setting(list.name())?.unwrap_or_default();
        let (ids, _) = held.as_chunks::<32>();
        if ids.is_empty() {
            return Ok(());
        }
        tx.set_setting(list.name(), &[])?;
        let mut news = News::default();
        for id in ids {
            let Some(operation) = stored(tx, &OperationId(*id))? else { continue };
            self.take_opening(tx, now, &operation, &mut news)?;
        }
        match self.heard_of_in(tx)? {
            Some(topic) => news.tell(tx, topic, staged),
            None => Ok(()),
        }
    }

    /// Takes what opens a topic, the first time or again: an acceptance, a welcome, what the person's other devices have and
    /// hand over. Whatever else it is says nothing here.
    pub(super) fn take_opening(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        operation: &VerifiedOperation,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let (id, author) = (operation.id(), operation.author());
        match &operation.body().content {
            Content::DirectAccept { thread, share, identity, bundles } => {
                let accept = Acceptance { id, thread: *thread, share, identity: *identity, bundles };
                self.take_direct_accept(tx, now, author, &accept, news)
            }
            Content::EpochKeys(keys) => match &**keys {
                EpochKeys::Welcome { request, ticket } => {
                    self.take_welcome(tx, (id, author), request, ticket)
                }
                _ => Ok(()),
            },
            Content::OwnDevices(said) => {
                let is_own = self.own == Some(operation.log()) && self.is_sister(tx, &author)?;
                match &**said {
                    OwnDevices::Past(past) => self.take_own_past(tx, operation, past)?,
                    OwnDevices::Topic { ticket } if is_own => self.own_news.hear_topic(id, ticket),
                    OwnDevices::Thread(thread) if is_own => self.own_news.hear_thread(id, None, thread),
                    _ => {}
                }
                Ok(())
            }
            _ => Ok(()),
        }
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
            let ids = tx.setting(List::Full.name()).unwrap().unwrap();
            ids.as_chunks::<32>().0.iter().copied().map(OperationId).collect()
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
