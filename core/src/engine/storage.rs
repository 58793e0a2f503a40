//! What an app does about the room its conversations take: old messages are pruned, conversations wiped.

use super::event::Event;
use super::io::{Output, Reply};
use super::refusal::CommandError;
use super::state::State;
use crate::identity::{LogId, Millis};
use crate::projector::{Aggregate, Change};
use crate::store::{PruneAt, Tx};
use crate::topic::TopicId;

/// Operations that one step of a pruning looks at: others' turn comes between two steps.
pub const PRUNE_STEP: usize = 512;

impl State {
    pub(super) fn prune(
        &self,
        tx: &Tx<'_>,
        topic: TopicId,
        before: Millis,
        at: Option<PruneAt>,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let log = self.topics.get(&topic).ok_or(CommandError::UnknownTopic)?.keys.log();
        let pruned = tx.prune(&log, before, at, PRUNE_STEP)?;
        if !pruned.messages.is_empty() {
            let ids = pruned.messages.iter().map(|id| id.0).collect();
            let changes = vec![Change::new(log, Aggregate::Message, ids)];
            staged.push(Output::Event(Event::Changed { topic, changes }));
        }
        Ok(Reply::Pruned(pruned))
    }

    /// The rest of the batch sees nothing of the conversation any more; after its commit memory is made anew.
    pub(super) fn wipe(&mut self, tx: &Tx<'_>, topic: TopicId) -> Result<Reply, CommandError> {
        let log = self.topics.get(&topic).ok_or(CommandError::UnknownTopic)?.keys.log();
        self.may_leave(&log)?;
        let logs = match tx.belongs(&log)? {
            Some(belongs) if belongs.room => return Err(CommandError::RoomOfSpace),
            Some(_) => tx.logs_of_space(&log)?,
            None => vec![log],
        };
        for id in tx.wipe_logs(&self.author(), &logs)? {
            self.schedule(id, None);
            self.topics.remove(&id);
            self.keeping.forget_turns(id);
            self.touched.remove(&id);
        }
        self.wiped = true;
        Ok(Reply::Done)
    }

    /// The topic that a person's devices share is none of the app's conversations: without it this device would no
    /// longer hear which of the others were revoked, and could not come back to it.
    pub(super) fn may_leave(&self, log: &LogId) -> Result<(), CommandError> {
        if self.own == Some(*log) { Err(CommandError::OwnTopicStays) } else { Ok(()) }
    }
}
