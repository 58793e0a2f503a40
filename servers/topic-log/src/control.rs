//! Control of public topics: what their write key's holders say about them.

use delta_core::onion::control::{Action, Control};
use delta_core::topic::{Seq, TopicId};
use thiserror::Error;

use crate::logs::TopicLogs;
use crate::storage::{Closed, LogStorage, TopicFacts};

/// Operations that a deletion evicts in its own commit. The rest of a larger log is evicted afterwards, by and by: whoever
/// stores it must not make everybody wait. Nothing of a deleted topic is shown in any case.
pub const DELETED_AT_ONCE: u64 = 1024;

/// A control message was refused; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ControlRefused<E> {
    /// Its counter is not above the last one: it is old, or came twice.
    #[error("the counter {0} is not above the last one")]
    Old(u64),
    /// The topic's first operation came before its first control message. Otherwise any member of a private group,
    /// where all share the write key, could delete it for all.
    #[error("the topic is not a public one")]
    NotPublic,
    /// The topic was deleted or blocked.
    #[error("the topic is closed")]
    Closed,
    /// The storage failed: everything since the last commit is undone.
    #[error("storage: {0}")]
    Storage(E),
}

/// What a control message did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controlled {
    /// The topic has another description.
    Described,
    /// Readers must prove another key, or none: who reads now has to ask again.
    ReadKeyChanged,
    /// The topic is gone: its sockets are to be closed.
    Deleted,
}

impl<S: LogStorage> TopicLogs<S> {
    /// Stages a control message whose write signature was checked.
    ///
    /// # Errors
    /// Nothing was staged. After [`ControlRefused::Storage`], everything since the last commit is undone as well.
    pub fn control(
        &mut self,
        topic: &TopicId,
        control: &Control,
    ) -> Result<Controlled, ControlRefused<S::Error>> {
        let staged = self.stage_control(topic, control);
        if matches!(staged, Err(ControlRefused::Storage(_))) {
            self.rollback();
        }
        staged
    }

    /// Stages what an operator decides: a deleted topic loses its operations (those beyond [`DELETED_AT_ONCE`] by
    /// [`evict`](TopicLogs::evict), which is the caller's), a blocked one keeps them.
    ///
    /// # Errors
    /// The storage failed; everything since the last commit is undone.
    pub fn set_closed(&mut self, topic: &TopicId, closed: Option<Closed>) -> Result<(), S::Error> {
        let staged = self.stage_closed(topic, closed);
        if staged.is_err() {
            self.rollback();
        }
        staged
    }

    fn stage_closed(&mut self, topic: &TopicId, closed: Option<Closed>) -> Result<(), S::Error> {
        let head = self.state(topic)?.head;
        let mut facts = TopicFacts { closed, ..self.storage().facts(topic)? };
        if closed == Some(Closed::Deleted) {
            let up_to = self.at_once(topic, head)?;
            self.try_evict(topic, up_to)?;
            facts = TopicFacts { counter: facts.counter, closed, ..TopicFacts::default() };
        }
        self.stage_facts(topic, &facts)
    }

    /// Up to where a deletion evicts in its own commit.
    fn at_once(&mut self, topic: &TopicId, head: Seq) -> Result<Seq, S::Error> {
        let tail = self.state(topic)?.tail;
        Ok(head.min(Seq(tail.previous().0.saturating_add(DELETED_AT_ONCE))))
    }

    fn stage_control(
        &mut self,
        topic: &TopicId,
        control: &Control,
    ) -> Result<Controlled, ControlRefused<S::Error>> {
        let state = self.state(topic).map_err(ControlRefused::Storage)?;
        let before = self.storage().facts(topic).map_err(ControlRefused::Storage)?;
        match before.counter {
            _ if state.closed.is_some() => return Err(ControlRefused::Closed),
            0 if state.head.0 > 0 => return Err(ControlRefused::NotPublic),
            last if control.counter <= last => return Err(ControlRefused::Old(control.counter)),
            _ => {}
        }
        let mut facts = TopicFacts { counter: control.counter, ..before };
        let controlled = match &control.action {
            Action::Metadata(_) => {
                // Values inside their limits were decoded, so they encode.
                facts.metadata = control.encode().ok();
                Controlled::Described
            }
            Action::ReadKey(key) => {
                facts.read_key = *key;
                Controlled::ReadKeyChanged
            }
            Action::Delete => {
                facts = TopicFacts {
                    counter: control.counter,
                    closed: Some(Closed::Deleted),
                    ..TopicFacts::default()
                };
                let up_to = self.at_once(topic, state.head).map_err(ControlRefused::Storage)?;
                self.try_evict(topic, up_to).map_err(ControlRefused::Storage)?;
                Controlled::Deleted
            }
        };
        self.stage_facts(topic, &facts).map_err(ControlRefused::Storage)?;
        Ok(controlled)
    }
}
