//! What an app may do about operations on their way out: put parked ones back in the queue, take one back.

use super::event::Event;
use super::io::{Cancelled, Output, Reply};
use super::refusal::{CommandError, Unreadable};
use super::state::State;
use crate::identity::{Millis, OperationId};
use crate::ops::{Body, Content};
use crate::projector::{Aggregate, Change};
use crate::store::{OutboxRowState, QueuedOperation, StoreError, StoredOperation, Tx};
use crate::topic::TopicId;

impl State {
    /// Puts parked rows back in the queue and ends the waiting of the others. What the server said of the topic is
    /// asked anew: should it still be gone, they are parked again.
    pub(super) fn retry(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let topic = self.topics.get_mut(&id).ok_or(CommandError::UnknownTopic)?;
        let parked = tx.outbox_unpark_topic(id)?;
        tx.outbox_requeue(&topic.outbox.hurry(now))?;
        topic.rows_parked = false;
        topic.blocked_until = None;
        if topic.unreadable == Some(Unreadable::Gone) {
            if let Some(session) = topic.session.as_mut() {
                session.network_changed(now);
            }
            self.show_readable(id, None, staged);
        }
        self.touched.insert(id);
        Ok(Reply::Retried(parked))
    }

    /// Takes an own operation back. The newest of its log that never left this device is removed as if it had not been
    /// made; any other place in the log is taken for good, so a message there is deleted by a further operation.
    pub(super) fn cancel(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        id: TopicId,
        operation: &OperationId,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let topic = self.topics.get(&id).ok_or(CommandError::UnknownTopic)?;
        let log = topic.keys.log();
        let stored = tx.operation(operation)?.filter(|stored| stored.log == log);
        let stored = stored.ok_or(CommandError::UnknownOperation)?;
        if stored.author != self.device.author() {
            return Err(CommandError::NotOwnOperation);
        }
        let body = stored.body.as_deref().and_then(|body| Body::decode(body).ok());
        let body = body.ok_or(CommandError::NotCancellable)?;
        let newest = tx.head(&stored.author, &log)?.is_some_and(|head| head.id == *operation && !head.ended);
        // A block that never came would hold up the session.
        let newest = newest && !topic.keys.is_direct();
        let row = tx.outbox_row(id, operation)?.filter(|row| newest && row.never_sent());
        match (row, &body.content) {
            (Some(row), content) if can_be_undone(content) => {
                self.withdraw(tx, id, &stored, &body, &row, staged)?;
                Ok(Reply::Cancelled(Cancelled::Removed))
            }
            (_, Content::MessageSend { .. }) => {
                let content = Content::MessageDelete { target: *operation };
                match self.publish(tx, now, id, content, staged)? {
                    Reply::Published(delete) => Ok(Reply::Cancelled(Cancelled::Deleted(delete))),
                    other => Ok(other),
                }
            }
            _ => Err(CommandError::NotCancellable),
        }
    }

    /// Removes the newest operation of this device's log with its row: nobody else has ever seen it, so the next one
    /// takes its number.
    fn withdraw(
        &mut self,
        tx: &Tx<'_>,
        id: TopicId,
        stored: &StoredOperation,
        body: &Body,
        row: &QueuedOperation,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        tx.outbox_remove(row.id)?;
        let changes = remove_newest(tx, stored, &body.content)?;
        self.outbox_rows = self.outbox_rows.saturating_sub(1);
        self.outbox_bytes = self.outbox_bytes.saturating_sub(u64::from(row.len));
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.outbox.withdraw(&row.hash);
            if body.observed.is_some() {
                topic.observed.unsaid_again();
            }
        }
        self.touched.insert(id);
        if !changes.is_empty() {
            staged.push(Output::Event(Event::Changed { topic: id, changes }));
        }
        Ok(())
    }
}

impl QueuedOperation {
    /// Whether no packet ever held it.
    pub(super) const fn never_sent(&self) -> bool {
        self.own && self.tries == 0 && !matches!(self.state, OutboxRowState::Sent)
    }
}

/// Whether the read model can be put back to what it was without this. What a delete erased is gone.
const fn can_be_undone(content: &Content) -> bool {
    matches!(
        content,
        Content::MessageSend { .. }
            | Content::MessageEdit { .. }
            | Content::ReactionAdd { .. }
            | Content::ReactionRemove { .. }
            | Content::ProfileSet { .. }
            | Content::KeyValue(_)
            | Content::DocumentCreate { .. }
            | Content::DocumentPart(_)
    )
}

/// Removes the end of a log; gives what changed in the read model.
fn remove_newest(
    tx: &Tx<'_>,
    stored: &StoredOperation,
    content: &Content,
) -> Result<Vec<Change>, StoreError> {
    let StoredOperation { id, author, log, seq_num, .. } = stored;
    // A message nobody has seen is one row; what another kind hid comes back from the rest of the log.
    if matches!(content, Content::MessageSend { .. }) {
        tx.drop_attachments_named_by(id)?;
        tx.remove_operation(author, log, *seq_num)?;
        tx.recount_head(author, log, false)?;
        return Ok(vec![Change::new(*log, Aggregate::Message, vec![id.0])]);
    }
    let mut changes = tx.rows_of(author, log)?;
    tx.remove_operation(author, log, *seq_num)?;
    tx.recount_head(author, log, false)?;
    tx.rebuild_log(author, log)?;
    changes.extend(tx.rows_of(author, log)?);
    Ok(Change::merge(changes))
}
