//! What the app was told: the reference every store is compared with.

use std::collections::{BTreeMap, BTreeSet};

use delta_core::engine::{Cancelled, CommandError, CommandId};
use delta_core::identity::{Author, EnvelopeHash, OperationId};
use delta_core::ops::{Content, Ticket, TopicKeys};
use delta_core::topic::TopicId;

use crate::device::Device;
use crate::violation::{Violation, ensure};

/// A publish command as the app knows it.
#[derive(Debug)]
struct Issued {
    content: Content,
    answer: Answered,
}

#[derive(Debug, PartialEq, Eq)]
enum Answered {
    NotYet,
    /// The device died before the app heard: the operation may exist or not.
    Never,
    Published(OperationId),
}

/// An operation as a store or the server's log holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fact {
    pub author: Author,
    pub seq_num: u32,
    pub id: OperationId,
}

/// One topic.
#[derive(Debug)]
pub(crate) struct TopicModel {
    pub keys: TopicKeys,
    /// By device and command. A command that was refused is removed.
    issued: BTreeMap<(usize, CommandId), Issued>,
    /// Operations the app was told of, oldest first: what later commands refer to.
    pub published: Vec<(usize, OperationId, bool)>,
    /// Operations that were ever in the server's log, with their authors and envelopes: they left their device.
    pub seen_outside: BTreeMap<OperationId, (Author, EnvelopeHash)>,
}

/// Everything the app was told.
#[derive(Debug)]
pub(crate) struct Model {
    pub topics: BTreeMap<TopicId, TopicModel>,
    pub authors: BTreeMap<Author, usize>,
    /// What is to be taken back, by device and command.
    taking_back: BTreeMap<(usize, CommandId), (TopicId, OperationId)>,
}

impl Model {
    pub(crate) fn new(tickets: &[Ticket], devices: &[Device]) -> Self {
        let topics = tickets.iter().map(|ticket| {
            let topic = TopicModel {
                keys: ticket.keys(),
                issued: BTreeMap::new(),
                published: Vec::new(),
                seen_outside: BTreeMap::new(),
            };
            (ticket.topic(), topic)
        });
        Self {
            topics: topics.collect(),
            authors: devices.iter().map(|device| (device.author(), device.index())).collect(),
            taking_back: BTreeMap::new(),
        }
    }

    /// The app wants an operation taken back.
    pub(crate) fn take_back(&mut self, device: usize, command: CommandId, topic: TopicId, id: OperationId) {
        self.taking_back.insert((device, command), (topic, id));
    }

    /// The engine answered how it took it back: with the delete that it published, or without a trace.
    pub(crate) fn taken_back(
        &mut self,
        device: usize,
        command: CommandId,
        how: Cancelled,
    ) -> Result<Option<(TopicId, OperationId)>, Violation> {
        let Some((topic, id)) = self.taking_back.remove(&(device, command)) else {
            return Err(Violation::new(format!(
                "device {device} takes back for {command:?}, which nobody gave"
            )));
        };
        match how {
            Cancelled::Deleted(delete) => {
                self.issue(device, command, topic, Content::MessageDelete { target: id });
                self.published(device, command, delete)?;
                Ok(Some((topic, delete)))
            }
            Cancelled::Removed => {
                let Some(model) = self.topics.get_mut(&topic) else { return Ok(None) };
                ensure!(!model.seen_outside.contains_key(&id), "{id} was removed, and others have seen it");
                model.issued.retain(|_, issued| issued.answer != Answered::Published(id));
                model.published.retain(|(_, published, _)| *published != id);
                Ok(None)
            }
        }
    }

    /// Whether an operation could not be taken back for a good reason. (Others are told through `refused`.)
    pub(crate) fn may_not_take_back(&self, device: usize, command: CommandId, error: &CommandError) -> bool {
        let Some((topic, id)) = self.taking_back.get(&(device, command)) else { return false };
        let known = |model: &TopicModel| model.published.iter().any(|(_, published, _)| published == id);
        match error {
            CommandError::NotCancellable => true,
            // Asked twice: the first time it was removed.
            CommandError::UnknownOperation => !self.topics.get(topic).is_some_and(known),
            _ => false,
        }
    }

    /// The app gives a command.
    pub(crate) fn issue(&mut self, device: usize, command: CommandId, topic: TopicId, content: Content) {
        if let Some(model) = self.topics.get_mut(&topic) {
            model.issued.insert((device, command), Issued { content, answer: Answered::NotYet });
        }
    }

    /// The engine answered that it is durable.
    pub(crate) fn published(
        &mut self,
        device: usize,
        command: CommandId,
        id: OperationId,
    ) -> Result<TopicId, Violation> {
        for (topic, model) in &mut self.topics {
            let Some(issued) = model.issued.get_mut(&(device, command)) else { continue };
            ensure!(issued.answer == Answered::NotYet, "device {device} answers command {command:?} twice");
            issued.answer = Answered::Published(id);
            let is_message = matches!(issued.content, Content::MessageSend { .. });
            model.published.push((device, id, is_message));
            return Ok(*topic);
        }
        Err(Violation::new(format!("device {device} answers command {command:?}, which nobody gave")))
    }

    /// The engine refused it: nothing of it may exist.
    pub(crate) fn refused(&mut self, device: usize, command: CommandId) {
        self.taking_back.remove(&(device, command));
        self.topics.values_mut().for_each(|model| drop(model.issued.remove(&(device, command))));
    }

    /// The device died: what was not answered never will be.
    pub(crate) fn died(&mut self, device: usize) {
        // It may be there, be gone, or be deleted by one more operation.
        let (gone, kept) =
            std::mem::take(&mut self.taking_back).into_iter().partition(|((by, _), _)| *by == device);
        self.taking_back = kept;
        let gone: BTreeMap<(usize, CommandId), (TopicId, OperationId)> = gone;
        for (command, (topic, id)) in gone {
            let Some(model) = self.topics.get_mut(&topic) else { continue };
            for issued in model.issued.values_mut().filter(|issued| issued.answer == Answered::Published(id))
            {
                issued.answer = Answered::Never;
            }
            model.published.retain(|(_, published, _)| *published != id);
            let content = Content::MessageDelete { target: id };
            model.issued.insert(command, Issued { content, answer: Answered::Never });
        }
        for issued in self.issued_mut(device) {
            if issued.answer == Answered::NotYet {
                issued.answer = Answered::Never;
            }
        }
    }

    fn issued_mut(&mut self, device: usize) -> impl Iterator<Item = &mut Issued> {
        let all = self.topics.values_mut().flat_map(|model| &mut model.issued);
        all.filter(move |((by, _), _)| *by == device).map(|(_, issued)| issued)
    }
}

impl TopicModel {
    /// What the app said, by the operation it was told.
    pub(crate) fn contents(&self) -> BTreeMap<OperationId, &Content> {
        let contents = self.issued.values().filter_map(|issued| match issued.answer {
            Answered::Published(id) => Some((id, &issued.content)),
            Answered::NotYet | Answered::Never => None,
        });
        contents.collect()
    }

    /// Compares a complete set of operations with what the app was told: each acknowledged one once, each other one
    /// a command that died unanswered.
    pub(crate) fn check(
        &self,
        operations: &[Fact],
        authors: &BTreeMap<Author, usize>,
    ) -> Result<(), Violation> {
        let mut told: BTreeMap<OperationId, usize> = BTreeMap::new();
        let mut spare: BTreeMap<usize, usize> = BTreeMap::new();
        for ((device, _), issued) in &self.issued {
            match issued.answer {
                Answered::Published(id) => {
                    let before = told.insert(id, *device);
                    ensure!(before.is_none(), "two commands were answered with operation {id}");
                }
                Answered::Never => *spare.entry(*device).or_default() += 1,
                Answered::NotYet => {}
            }
        }
        let mut seen = BTreeSet::new();
        for fact in operations {
            ensure!(seen.insert(fact.id), "operation {} exists twice", fact.id);
            let device = *authors
                .get(&fact.author)
                .ok_or_else(|| Violation::new(format!("operation {} is by nobody", fact.id)))?;
            match told.remove(&fact.id) {
                Some(by) => ensure!(by == device, "operation {} is by another device than told", fact.id),
                None => {
                    let left = spare.get_mut(&device).filter(|left| **left > 0);
                    let left = left.ok_or_else(|| {
                        Violation::new(format!(
                            "device {device} published {}, which nobody asked for",
                            fact.id
                        ))
                    })?;
                    *left -= 1;
                }
            }
        }
        match told.first_key_value() {
            None => Ok(()),
            Some((id, device)) => Err(Violation::new(format!(
                "{} acknowledged operations are lost, among them {id} of device {device}",
                told.len()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use delta_core::ops::DeviceKey;

    use super::*;

    struct World {
        model: Model,
        topic: TopicId,
        author: Author,
    }

    impl World {
        fn new() -> Self {
            let ticket = Ticket::generate_private(&mut crate::rng::Rng::new(1, "model")).unwrap();
            let author = DeviceKey::from_bytes(&[1; 32]).author();
            let mut model = Model::new(std::slice::from_ref(&ticket), &[]);
            model.authors.insert(author, 0);
            Self { model, topic: ticket.topic(), author }
        }

        fn issue(&mut self, command: u64) {
            let content = Content::MessageSend {
                text: String::new(),
                reply: None,
                mentions: Vec::new(),
                attachments: Vec::new(),
            };
            self.model.issue(0, CommandId(command), self.topic, content);
        }

        fn check(&self, ids: &[u8]) -> Result<(), Violation> {
            let facts: Vec<_> = ids
                .iter()
                .map(|id| Fact { author: self.author, seq_num: u32::from(*id), id: OperationId([*id; 32]) })
                .collect();
            self.model.topics[&self.topic].check(&facts, &self.model.authors)
        }
    }

    #[test]
    fn each_acknowledged_operation_exists_once_and_no_other() {
        let mut world = World::new();
        for command in [1, 2] {
            world.issue(command);
            world.model.published(0, CommandId(command), OperationId([command as u8; 32])).unwrap();
        }
        assert_eq!(world.check(&[1, 2]), Ok(()));
        for wrong in [&[1][..], &[1, 1, 2], &[1, 2, 3], &[1, 3], &[]] {
            assert!(world.check(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_died_unanswered_may_exist_and_what_was_refused_may_not() {
        let mut world = World::new();
        for command in [1, 2, 3] {
            world.issue(command);
        }
        world.model.refused(0, CommandId(3));
        world.model.died(0);
        for fine in [&[][..], &[1], &[1, 2]] {
            assert_eq!(world.check(fine), Ok(()), "{fine:?}");
        }
        assert!(world.check(&[1, 2, 3]).is_err());
    }

    #[test]
    fn an_answer_comes_once_and_to_a_question() {
        let mut world = World::new();
        world.issue(1);
        world.model.published(0, CommandId(1), OperationId([1; 32])).unwrap();
        assert!(world.model.published(0, CommandId(1), OperationId([2; 32])).is_err());
        assert!(world.model.published(0, CommandId(2), OperationId([2; 32])).is_err());
    }
}
