//! What a device says of its person's devices where it cannot write (whose it is, which of them are revoked): it signs
//! that for the space's log all the same, and devices of who manages the space deliver it there.

use super::super::asking::Asking;
use super::super::commands::next_in_log;
use super::super::event::Event;
use super::super::ingest;
use super::super::spaces::cited;
use super::super::upkeep::store_only;
use super::*;
use crate::identity::EnvelopeHash;
use crate::limits::{MAX_TOLD, MAX_TOLD_LEN};
use crate::ops::{self, Action, Body, DeviceTell, ToldOperation};
use crate::store::{NewOutboxRow, Origin, QueuedOperation};
use crate::sync::outbox::Requeued;

/// What is to be made of an operation that a device wants delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// The space has it, or it is nothing to deliver.
    Over,
    /// It was read, and waits itself.
    Waits,
    /// It cites what is not known here, yet or for ever: it goes with what comes after it in its log.
    Unknown,
    /// It counts, and says what the space knows already: it goes with what comes after it in its log.
    Known,
    /// It counts, and says something new.
    News,
}

impl State {
    /// Does something about the person's devices in a space; where this device cannot write there, it is signed for the
    /// space's log, and others deliver it.
    pub(in super::super) fn act_or_tell(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        space: LogId,
        action: Action,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        match self.act(tx, now, space, action.clone(), staged) {
            Err(CommandError::ReadOnly | CommandError::TopicClosed) => {
                store_only(self.sign_only(tx, now, space, action, staged)).map(drop)
            }
            done => store_error(done),
        }
    }

    /// Signs an operation for a space's log and puts it into no outbox.
    fn sign_only(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        space: LogId,
        action: Action,
        staged: &mut Vec<Output>,
    ) -> Result<(), CommandError> {
        let (id, device) = (self.topic_of(space)?, &self.device);
        let changes = tx.savepoint(|tx| {
            let (seq_num, backlink) = next_in_log(tx, &device.author(), &space)?;
            let content = Content::Membership(Box::new(action));
            let auth_heads = cited(tx, device.author(), &space, &content)?;
            let body = Body { content, sent_at: Some(now), observed: None, auth_heads };
            let operation = ops::create(device, space, seq_num, backlink, &body)?;
            Ok::<_, CommandError>(ingest::publish_local(tx, id, &operation, now)?)
        })?;
        if !changes.is_empty() {
            staged.push(Output::Event(Event::Changed { topic: id, changes }));
        }
        Ok(())
    }

    /// Has what this device said of its person's devices in a space delivered: by managers' devices, or, should it be
    /// able to write there by now, by itself.
    pub(super) fn tell_devices(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        asking: &mut Asking,
    ) -> Result<Option<Millis>, StoreError> {
        let (me, space) = (self.author(), asking.space());
        let mut unsaid = Vec::new();
        for id in tx.unplaced(&me, &space)? {
            let Some(operation) = stored(tx, &id)? else { continue };
            if is_of_devices(&operation.body().content) {
                unsaid.push(operation);
            }
        }
        if unsaid.is_empty() {
            return Ok(None);
        }
        let newest = self.newest(&space);
        if let Some(id) = newest.filter(|id| self.may_say(*id)) {
            return self.say_after_all(tx, now, id, &unsaid).map(|()| None);
        }
        // What another device of the person said meanwhile is needed no more; it goes along with what comes after it.
        let needed = |operation: &VerifiedOperation| {
            tx.look_at_space(space, |graph| !graph.is_said_by_others(operation.id()))
        };
        unsaid.truncate(MAX_TOLD);
        while let Some(last) = unsaid.last()
            && !needed(last)?
        {
            unsaid.pop();
        }
        let Some(last) = unsaid.last().map(VerifiedOperation::id) else { return Ok(None) };
        asking.open = true;
        let name = format!("told:{space}");
        if tx.setting(&name)?.as_deref() == Some(last.0.as_slice()) && !asking.again {
            return Ok(None);
        }
        let told = |it: &VerifiedOperation| ToldOperation {
            header: it.header().to_vec(),
            body: it.body_bytes().to_vec(),
        };
        let tell = DeviceTell { space, operations: unsaid.iter().map(told).collect() };
        let content = Content::DeviceTell(Box::new(tell));
        if !self.ask_by_inbox(tx, now, entropy, (space, asking.round()), &content)? {
            return Ok(Some(now.plus(AGAIN_MS)));
        }
        // What others may have by now is never taken back: its number would be another operation's.
        for operation in &unsaid {
            for topic in self.by_log.topics(&space) {
                if let Some(row) = tx.outbox_row(topic, &operation.id())?.filter(QueuedOperation::never_sent)
                {
                    tx.outbox_requeue(&[Requeued { id: row.id, tries: 1, not_before: row.not_before }])?;
                }
            }
        }
        tx.set_setting(&name, &last.0).map(|()| None)
    }

    /// It can write by now what it could not before: everything goes out, so that its log has no holes.
    fn say_after_all(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        unsaid: &[VerifiedOperation],
    ) -> Result<(), StoreError> {
        for operation in unsaid {
            if self.deliver_there(tx, now, id, operation, Origin::Own)?
                && let Some(row) = tx.outbox_row(id, &operation.id())?
            {
                tx.outbox_requeue(&[Requeued { id: row.id, tries: 1, not_before: now }])?;
            }
        }
        Ok(())
    }

    /// Puts an operation into the outbox of the topic where its log lives. `false`: it is there, or there is no room.
    fn deliver_there(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        operation: &VerifiedOperation,
        origin: Origin,
    ) -> Result<bool, StoreError> {
        let Some(topic) = self.topics.get(&id) else { return Ok(false) };
        let Ok(envelope) = topic.keys.seal(operation.header(), operation.body_bytes()) else {
            return Ok(false);
        };
        let hash = EnvelopeHash::of(&envelope);
        let in_outbox = tx.outbox_by_hash(id, hash)?.is_some();
        if in_outbox || !self.outbox_has_room(envelope.len()) {
            return Ok(false);
        }
        let (operation, len) = (operation.id(), envelope.len());
        let new = NewOutboxRow { topic: id, operation, hash, envelope: &envelope, origin, not_before: now };
        let row = tx.outbox_push(&new)?;
        self.add_outbox_row(id, row, hash, len, now);
        Ok(true)
    }

    /// Delivers what devices of members that cannot write say of their persons' devices.
    pub(super) fn deliver_told(&mut self, tx: &Tx<'_>, now: Millis, space: LogId) -> Result<(), StoreError> {
        let Some(id) = self.newest(&space).filter(|id| self.may_say(*id)) else { return Ok(()) };
        for (request, author) in tx.tell_requests(&space)? {
            let mut over = true;
            if author != self.author()
                && let Some(request) = stored(tx, &request)?
                && let Content::DeviceTell(told) = &request.body().content
            {
                over = self.deliver_of(tx, now, (space, id), author, &told.operations)?;
            }
            if over {
                tx.remove_request(&space, &request)?;
            }
        }
        Ok(())
    }

    /// Delivers of what one device wants delivered what is new, and what comes before that. Whether nothing is left to do.
    fn deliver_of(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        (space, id): (LogId, TopicId),
        author: Author,
        told: &[ToldOperation],
    ) -> Result<bool, StoreError> {
        let (mut found, mut waits) = (Vec::new(), false);
        for ToldOperation { header, body } in told.iter().take(MAX_TOLD) {
            if header.len().saturating_add(body.len()) > MAX_TOLD_LEN {
                continue;
            }
            // Anybody may write here: a signature is looked at only where it makes a difference.
            let Ok(claimed) = VerifiedOperation::from_store(header, body) else { continue };
            if (claimed.author(), claimed.log()) != (author, space) {
                continue;
            }
            let what = Self::weigh_told(tx, space, &claimed)?;
            if what == Told::Waits {
                // What comes after it builds on it.
                waits = true;
                break;
            }
            let operation = match what {
                Told::Over => claimed,
                Told::Unknown => {
                    waits = true;
                    claimed
                }
                _ => match ops::verify(header, body, &space) {
                    Ok(operation) => operation,
                    Err(_) => continue,
                },
            };
            found.push((operation, what));
        }
        let news = found.iter().rposition(|(_, what)| *what == Told::News);
        for (operation, _) in &found {
            self.withdraw_elsewhere(tx, (space, id), &operation.id())?;
        }
        for (operation, what) in found.iter().take(news.map_or(0, |last| last + 1)) {
            let signed = || ops::verify(operation.header(), operation.body_bytes(), &space).is_ok();
            if matches!(what, Told::Known | Told::News) || *what == Told::Unknown && signed() {
                self.deliver_there(tx, now, id, operation, Origin::Redelivery)?;
            }
        }
        // Until it was read back it may get lost where the space moves on.
        Ok(news.is_none() && !waits)
    }

    /// What was to be delivered where the space lives no more is not: nothing acknowledges it behind the close.
    fn withdraw_elsewhere(
        &mut self,
        tx: &Tx<'_>,
        (space, id): (LogId, TopicId),
        operation: &OperationId,
    ) -> Result<(), StoreError> {
        for elsewhere in self.by_log.topics(&space).into_iter().filter(|topic| *topic != id) {
            let Some(row) = tx.outbox_row(elsewhere, operation)?.filter(|row| !row.own) else { continue };
            tx.outbox_remove(row.id)?;
            if let Some(topic) = self.topics.get_mut(&elsewhere) {
                topic.outbox.forget(&row.hash);
            }
            self.outbox_rows = self.outbox_rows.saturating_sub(1);
            self.outbox_bytes = self.outbox_bytes.saturating_sub(u64::from(row.len));
            self.touched.insert(elsewhere);
        }
        Ok(())
    }

    fn weigh_told(tx: &Tx<'_>, space: LogId, operation: &VerifiedOperation) -> Result<Told, StoreError> {
        let Body { content: Content::Membership(action), auth_heads, .. } = operation.body() else {
            return Ok(Told::Over);
        };
        if !matches!(**action, Action::DeviceAdd { .. } | Action::DeviceRevoke { .. }) {
            return Ok(Told::Over);
        }
        let (author, seq_num) = (operation.author(), operation.seq_num());
        // It stands there already, and counts once what comes before it in its log is here, or does not come.
        let waiting = tx.waiting_operations(&author, &space, seq_num, seq_num)?;
        let is_here = !waiting.is_empty();
        // Nobody judges it before what it cites, and that may never come.
        let stands = tx.place_of(&operation.id())?.is_some_and(|it| it.place.is_placed());
        tx.look_at_space(space, |graph| {
            if graph.verdict(operation.id()).is_some() {
                Told::Over
            } else if is_here {
                Told::Waits
            } else if !auth_heads.iter().all(|head| graph.is_judged(head)) {
                if stands { Told::Over } else { Told::Unknown }
            } else if graph.allows_at(author, auth_heads, action).is_err() {
                Told::Over
            } else if graph.allows(author, action).is_ok() {
                Told::News
            } else {
                Told::Known
            }
        })
    }
}

/// Whether something is said of a person's devices that anybody may deliver.
fn is_of_devices(content: &Content) -> bool {
    let Content::Membership(action) = content else { return false };
    matches!(**action, Action::DeviceAdd { .. } | Action::DeviceRevoke { .. })
}
