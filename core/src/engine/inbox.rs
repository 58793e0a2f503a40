//! Inboxes: what others say to this device alone, and what it says to them.
//!
//! Anybody who has the seed of an inbox can write there, so what is kept is bounded ([`MAX_INBOX_SENDERS`],
//! [`MAX_INBOX_PER_SENDER`](crate::limits::MAX_INBOX_PER_SENDER)) and of a few kinds only. This device never reads the
//! inbox of another: whether what it sent arrived is asked with `has`, through a tunnel of its own.

use super::commands::{has_room, next_in_log};
use super::event::Event;
use super::ingest::{self, Context, Ingested};
use super::io::{Output, Reply};
use super::jobs::Opened;
use super::receive::News;
use super::refusal::CommandError;
use super::spaces::{cited, store_error};
use super::state::State;
use super::upkeep::store_only;
use crate::entropy::Entropy;
use crate::identity::{Author, EnvelopeHash, LogId, Millis, OperationId};
use crate::limits::MAX_DEVICES;
use crate::ops::{
    self, Action, Body, Content, EpochKeys, Hidden, Ticket, VerifiedOperation, inbox_log, seal_inbox,
};
use crate::projector::Erased;
use crate::store::{NewOutboxRow, Origin, OutboxRemoved, QueuedOperation, StoreError, Tx};
use crate::sync::outbox::RowId;
use crate::topic::{Seq, TopicId, WriteKey};
use crate::tree::{Arrange, Set};

/// Rows of a topic's outbox among which one is looked for that leaves the space: a space's log has few.
const LOOKED_ROWS: usize = 256;

/// A leaving on its way out.
struct WaitingLeave {
    topic: TopicId,
    row: QueuedOperation,
    /// What it cites.
    heads: Vec<OperationId>,
}

/// The log that keys, or whoever asks for them, are about.
fn about(keys: &EpochKeys) -> LogId {
    match keys {
        EpochKeys::Ask { log, .. } => *log,
        EpochKeys::Hand(keys) => keys.first().map_or(LogId([0; 32]), |key| key.log),
        EpochKeys::Past { .. } | EpochKeys::Welcome { .. } => LogId([0; 32]),
    }
}

/// Whether something of this kind is kept when it comes by an inbox.
fn belongs_in_inbox(content: &Content) -> bool {
    match content {
        Content::DeviceBundle(_) => true,
        Content::Membership(action) => matches!(**action, Action::DeviceRevoke { .. }),
        Content::EpochKeys(keys) => !matches!(**keys, EpochKeys::Past { .. }),
        other => other.is_of_inboxes(),
    }
}

/// Seals an operation for a device and puts it into the outbox of that one's inbox.
fn queue(
    tx: &Tx<'_>,
    now: Millis,
    entropy: &mut dyn Entropy,
    (topic, to): (TopicId, &Author),
    operation: &VerifiedOperation,
    (rows, bytes): (usize, u64),
) -> Result<(RowId, EnvelopeHash, usize), CommandError> {
    let envelope = seal_inbox(operation, to, entropy)?;
    if !has_room(rows, bytes, envelope.len()) {
        return Err(CommandError::OutboxFull);
    }
    let (hash, operation) = (EnvelopeHash::of(&envelope), operation.id());
    let (envelope, origin) = (envelope.as_slice(), Origin::Own);
    let row = tx.outbox_push(&NewOutboxRow { topic, operation, hash, envelope, origin, not_before: now })?;
    Ok((row, hash, envelope.len()))
}

impl State {
    /// Signs an operation for another device alone and queues it for that one's inbox.
    pub(super) fn send_to_inbox(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        to: Author,
        content: Content,
    ) -> Result<OperationId, CommandError> {
        let me = self.author();
        let heads = match &content {
            // Whether its author may say so is judged once these are known.
            Content::EpochKeys(keys) => match tx.belongs(&about(keys))? {
                Some(belongs) => tx.look_at_space(belongs.space, |graph| graph.cite(me))?,
                None => Vec::new(),
            },
            _ => Vec::new(),
        };
        self.send_to_inbox_citing(tx, now, entropy, to, content, heads)
    }

    #[allow(clippy::too_many_arguments, reason = "the engine's usual ones, and what is sent")]
    pub(super) fn send_to_inbox_citing(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        to: Author,
        content: Content,
        auth_heads: Vec<OperationId>,
    ) -> Result<OperationId, CommandError> {
        let me = self.author();
        let seed = tx.peer_inbox(&to)?.filter(|_| to != me).ok_or(CommandError::NotReachable)?;
        let ticket = Ticket::inbox(WriteKey::from_seed(*seed));
        let id = self.open_foreign_inbox(tx, now, &ticket)?;
        let (log, device) = (inbox_log(&me, &to), &self.device);
        let room = (self.outbox_rows, self.outbox_bytes);
        let (operation, queued) = tx.savepoint(|tx| {
            let (seq_num, backlink) = next_in_log(tx, &me, &log)?;
            let body = Body { content, sent_at: Some(now), observed: None, auth_heads };
            let operation = ops::create(device, log, seq_num, backlink, &body)?;
            ingest::publish_local(tx, id, &operation, now)?;
            let queued = queue(tx, now, entropy, (id, &to), &operation, room)?;
            Ok::<_, CommandError>((operation.id(), queued))
        })?;
        let (row, hash, len) = queued;
        self.add_outbox_row(id, row, hash, len, now);
        Ok(operation)
    }

    /// Sends what was said to a device once more, in another envelope. Nothing, while the last one is on its way.
    pub(super) fn send_to_inbox_again(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        to: Author,
        operation: &VerifiedOperation,
    ) -> Result<bool, CommandError> {
        let seed = tx.peer_inbox(&to)?.ok_or(CommandError::NotReachable)?;
        let id = self.open_foreign_inbox(tx, now, &Ticket::inbox(WriteKey::from_seed(*seed)))?;
        if tx.outbox_row(id, &operation.id())?.is_some() {
            return Ok(false);
        }
        let room = (self.outbox_rows, self.outbox_bytes);
        let (row, hash, len) = queue(tx, now, entropy, (id, &to), operation, room)?;
        self.add_outbox_row(id, row, hash, len, now);
        Ok(true)
    }

    /// Another device's inbox, as long as something is to be sent there.
    fn open_foreign_inbox(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        ticket: &Ticket,
    ) -> Result<TopicId, CommandError> {
        let id = ticket.topic();
        match self.topics.get(&id) {
            Some(topic) if topic.keys.is_foreign_inbox() => return Ok(id),
            // Somebody gave the key of something else, or of this device's own inbox, as that of an inbox.
            Some(_) => return Err(CommandError::NotReachable),
            None => {}
        }
        if self.is_full(tx, now)? {
            return Err(CommandError::TooManyTopics);
        }
        tx.put_topic(ticket, now)?;
        self.insert_topic(id, super::state::Topic::new(ticket.keys(), None, now));
        Ok(id)
    }

    /// What the server says of envelopes that were sent to another device's inbox.
    pub(super) fn take_has(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        seqs: Vec<(EnvelopeHash, Seq)>,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        for (hash, seq) in seqs {
            let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
            let Some(row) = topic.outbox.find(&hash).filter(|_| seq > Seq(0)) else { continue };
            let Some(OutboxRemoved { operation, len, .. }) = tx.outbox_remove(row)? else { continue };
            let path = topic.outbox.acknowledge(&hash, now).and_then(|acknowledged| acknowledged.path);
            if let Some(path) = path {
                self.routes.report_delivery(&path, true, now);
            }
            self.outbox_rows = self.outbox_rows.saturating_sub(1);
            self.outbox_bytes = self.outbox_bytes.saturating_sub(u64::from(len));
            staged.push(Output::Event(Event::Acknowledged { topic: id, operation, seq }));
        }
        if self.topics.get(&id).is_some_and(|topic| topic.keys.is_foreign_inbox() && topic.outbox.is_empty())
        {
            self.drop_topic(tx, now, id, staged)?;
        }
        Ok(())
    }

    /// Takes what stands in this device's inbox.
    pub(super) fn take_inbox(
        &mut self,
        tx: &Tx<'_>,
        context: &Context,
        opened: Opened,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let id = context.topic;
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        let operation = match opened {
            Opened::Verified(operation) => operation,
            Opened::Rejected(why) => {
                topic.rejected = topic.rejected.saturating_add(1);
                return tx.count_dropped(id, why.code());
            }
            Opened::Own { .. } | Opened::Direct { .. } => return Ok(()),
        };
        if !belongs_in_inbox(&operation.body().content) {
            return tx.count_dropped(id, "inbox-kind");
        }
        if !tx.inbox_has_room(&operation.author())? && !self.is_sister(tx, &operation.author())? {
            return tx.count_dropped(id, "inbox-full");
        }
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        // A log of its own for each sender. What is missing of it may have gone to an inbox of before: nothing waits.
        let context = Context { log: operation.log(), ..*context };
        match ingest::ingest_again(tx, &context, &operation)? {
            Ingested::Stored { changes } => {
                news.changes.extend(changes);
                tx.count_inbox(&operation.author())?;
                Self::learn(tx, &operation, context.now, &mut self.own_news)?;
                self.take_inbox_content(tx, &context, &operation, news)
            }
            Ingested::Forked { author, log, .. } => {
                news.events.push(Event::Forked { topic: id, author, log });
                Ok(())
            }
            Ingested::Duplicate { .. } => self.take_inbox_again(tx, &context, &operation, news),
            Ingested::Pending(_) => Ok(()),
            Ingested::Refused(why) => {
                topic.rejected = topic.rejected.saturating_add(1);
                tx.count_dropped(id, why.code())
            }
        }
    }

    /// Who says something again has not heard the answer, or it found no room here.
    fn take_inbox_again(
        &mut self,
        tx: &Tx<'_>,
        context: &Context,
        operation: &VerifiedOperation,
        news: &mut News,
    ) -> Result<(), StoreError> {
        match &operation.body().content {
            Content::JoinRequest { space, .. } if self.welcomes_again(tx, operation, space)? => {
                tx.ask_again(space, &operation.id(), &operation.author())?;
                tx.note_space_news(*space);
                Ok(())
            }
            // What was handed over was taken.
            Content::OwnDevices(_) => Ok(()),
            _ => self.take_opening(tx, context.now, operation, news),
        }
    }

    /// Whether it is another device of this person, and not revoked.
    pub(super) fn is_sister(&self, tx: &Tx<'_>, device: &Author) -> Result<bool, StoreError> {
        Ok(tx.sisters(&self.identity(), &self.author())?.contains(device))
    }

    fn take_inbox_content(
        &mut self,
        tx: &Tx<'_>,
        context: &Context,
        operation: &VerifiedOperation,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let (author, now) = (operation.author(), context.now);
        match &operation.body().content {
            Content::DirectRequest { share, text } => {
                self.take_direct_request(tx, context, author, share, text.as_deref(), news)
            }
            Content::Membership(action) => match &**action {
                Action::DeviceRevoke { revocation } => Self::take_peer_revocation(tx, now, revocation),
                _ => Ok(()),
            },
            Content::DirectRenew { session } => match tx.session(&author, *session)? {
                Some(_) => tx.end_session(&author, *session, now),
                None => Ok(()),
            },
            Content::DeviceBundle(_) => {
                self.upkeep.claims = true;
                // It is told the ones of this device, unless it knows.
                self.upkeep.bundles |= tx.has_thread_with(&author)?;
                Ok(())
            }
            // What else is asked is in the requests of the space now, which is looked at with the batch.
            _ => self.take_opening(tx, now, operation, news),
        }
    }

    /// Sends what claims invitations to who can answer it: to the devices of whoever made the invitation, or, when that
    /// one manages no more or cannot be written to, of other managers.
    pub(super) fn send_claims(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
    ) -> Result<(), StoreError> {
        for claim in tx.claims()? {
            let me = self.author();
            let standing = tx.look_at_space(claim.space, |graph| graph.standing(me))?;
            if standing.level.is_some() {
                tx.remove_claims(&claim.space)?;
                continue;
            }
            // Until the log is read nobody knows who answers, nor whether the keys of the invitation are of any use.
            let topic = self.topic_of(claim.space).ok().and_then(|id| self.topics.get(&id));
            if claim.sent > 0 || !topic.is_some_and(|topic| topic.caught_up && topic.closed.is_none()) {
                continue;
            }
            let sent = self.send_claim(tx, now, entropy, &claim, (0, None))?;
            tx.claim_sent(&claim, sent)?;
            if sent > 0 {
                self.begin_asking(tx, now, claim.space)?;
            }
        }
        Ok(())
    }

    /// Does something in a space. Who has no key to leave it with asks those who manage it to be removed.
    pub(super) fn act_or_ask(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        space: LogId,
        action: Action,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let leaves = matches!(action, Action::Leave);
        match self.act(tx, now, space, action, staged) {
            Err(CommandError::ReadOnly | CommandError::TopicClosed) if leaves => {
                self.ask_to_leave(tx, now, entropy, space).map(Reply::Published)
            }
            done => done,
        }
    }

    fn ask_to_leave(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        space: LogId,
    ) -> Result<OperationId, CommandError> {
        let content = Content::Membership(Box::new(Action::Leave));
        let heads = cited(tx, self.author(), &space, &content)?;
        let sent = self.send_leave_requests(tx, now, entropy, space, (&heads, 0))?;
        self.begin_asking(tx, now, space)?;
        Ok(sent)
    }

    pub(super) fn send_leave_requests(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        space: LogId,
        (heads, round): (&[OperationId], u32),
    ) -> Result<OperationId, CommandError> {
        let mut sent = None;
        for device in self.who_answers(tx, space, None, round)? {
            let (content, heads) = (Content::LeaveRequest { space }, heads.to_vec());
            // One that cannot be written to keeps nobody else from hearing of it.
            if let Some(id) = store_only(self.send_to_inbox_citing(tx, now, entropy, device, content, heads))?
            {
                sent.get_or_insert(id);
            }
        }
        sent.ok_or(CommandError::NotReachable)
    }

    /// Asks managers of a space for something, where this device cannot ask in its log. Whether anybody was asked.
    pub(super) fn ask_by_inbox(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        (space, round): (LogId, u32),
        ask: &Content,
    ) -> Result<bool, StoreError> {
        let mut asked = false;
        for device in self.who_answers(tx, space, None, round)? {
            // Who has not heard yet with which keys this device is handed others.
            store_only(self.tell_keys(tx, now, entropy, device))?;
            asked |= store_only(self.send_to_inbox(tx, now, entropy, device, ask.clone()))?.is_some();
        }
        Ok(asked)
    }

    /// Tells managers of a space where this device cannot say it with which keys it is handed others.
    pub(super) fn tell_managers_keys(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        space: LogId,
    ) -> Result<(), StoreError> {
        let me = self.author();
        if tx.look_at_space(space, |graph| graph.standing(me))?.level.is_none() {
            return Ok(());
        }
        for device in self.who_answers(tx, space, None, 0)? {
            store_only(self.tell_keys(tx, now, entropy, device))?;
        }
        Ok(())
    }

    /// Whose leaving waits in a topic that it may not write in any more asks for it.
    pub(super) fn ask_for_leaves(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
    ) -> Result<(), StoreError> {
        let mut unreached = Set::new();
        for space in std::mem::take(&mut self.upkeep.leaves) {
            let may_write =
                self.newest(&space).and_then(|id| self.topics.get(&id)?.keys.write_key()).is_some();
            if may_write {
                continue;
            }
            let waiting = self.waiting_leaves(tx, &space)?;
            let Some(first) = waiting.first() else { continue };
            // Its heads are what it was said with: this device's own graph has it already.
            let heads = first.heads.clone();
            if store_only(self.send_leave_requests(tx, now, entropy, space, (&heads, 0)))?.is_none() {
                unreached.insert(space);
                continue;
            }
            // What was asked for is not said once more, should this device be allowed to write again: it would leave
            // whatever was done meanwhile.
            self.take_back_leaves(tx, &space, &waiting)?;
            self.begin_asking(tx, now, space)?;
        }
        self.upkeep.leaves.extend(unreached);
        Ok(())
    }

    /// The leavings that wait to be sent.
    fn waiting_leaves(&self, tx: &Tx<'_>, space: &LogId) -> Result<Vec<WaitingLeave>, StoreError> {
        let mut waiting = Vec::new();
        for topic in self.by_log.topics(space) {
            for row in tx.outbox_rows(topic, None, LOOKED_ROWS)?.into_iter().filter(|row| row.own) {
                let Some((_, body)) = tx.operation_bytes(&row.operation)? else { continue };
                let Ok(Body { content: Content::Membership(action), auth_heads: heads, .. }) =
                    Body::decode(&body)
                else {
                    continue;
                };
                if matches!(*action, Action::Leave) {
                    waiting.push(WaitingLeave { topic, row, heads });
                }
            }
        }
        Ok(waiting)
    }

    /// Forgets leavings that nobody has read: they are removed if no packet ever held them and nothing was said since;
    /// of others the place in the log stays, and nothing of what was said there.
    fn take_back_leaves(
        &mut self,
        tx: &Tx<'_>,
        space: &LogId,
        leaves: &[WaitingLeave],
    ) -> Result<(), StoreError> {
        let me = self.author();
        for WaitingLeave { topic, row, .. } in leaves {
            tx.outbox_remove(row.id)?;
            if let Some(topic) = self.topics.get_mut(topic) {
                topic.outbox.forget(&row.hash);
            }
            self.outbox_rows = self.outbox_rows.saturating_sub(1);
            self.outbox_bytes = self.outbox_bytes.saturating_sub(u64::from(row.len));
            self.touched.insert(*topic);
            let Some(stored) = tx.operation(&row.operation)? else { continue };
            let is_last = tx.head(&me, space)?.is_some_and(|head| head.id == row.operation && !head.ended);
            if is_last && row.never_sent() {
                tx.remove_operation(&me, space, stored.seq_num)?;
                tx.recount_head(&me, space, false)?;
            } else {
                tx.erase_body(&me, space, stored.seq_num, Erased::Other)?;
            }
        }
        tx.rebuild_log(&me, space)
    }

    /// Removes members that asked for it, having no key to leave with.
    pub(super) fn answer_leaves(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        space: LogId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let me = self.author();
        for (id, author) in tx.leave_requests(&space)? {
            let Some((_, body)) = tx.operation_bytes(&id)?.filter(|_| author != me) else { continue };
            let knew = Body::decode(&body).map(|body| body.auth_heads).unwrap_or_default();
            let (known, member, allowed) = tx.look_at_space(space, |graph| {
                let known = knew.iter().all(|head| graph.verdict(*head).is_some());
                // Whose device asks says the space, and nobody else.
                let state = graph.current().filter(|_| graph.standing(author).level.is_some());
                let member = state.and_then(|state| graph.identity_in(&state, author));
                let member = member.filter(|member| !graph.came_or_went_since(*member, &knew));
                let may = |member| graph.allows(me, &Action::Remove { member }).is_ok();
                (known, member, member.is_some_and(may))
            })?;
            match member {
                Some(member) if known && allowed => {
                    store_error(self.act(tx, now, space, Action::Remove { member }, staged))?;
                }
                // It is done, or was never a member's to ask. (What is not known yet may still come.)
                None if known => tx.remove_request(&space, &id)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The devices of a person that can be written to, the one that names the person first: at most [`MAX_DEVICES`].
    pub(super) fn reachable_devices(&self, tx: &Tx<'_>, person: &Author) -> Result<Vec<Author>, StoreError> {
        let mut reachable = Vec::new();
        let mut devices = tx.devices_of_person(person)?;
        devices.arrange_by_key(|device| device != person);
        for device in devices {
            let has_room = reachable.len() < MAX_DEVICES;
            if has_room && device != self.author() && tx.peer_inbox(&device)?.is_some() {
                reachable.push(device);
            }
        }
        Ok(reachable)
    }

    /// Asks a manager's device to be added to a space.
    #[allow(clippy::too_many_arguments, reason = "the engine's usual ones, and what is asked for")]
    pub(super) fn request_join(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        space: LogId,
        to: Author,
        inbox: Option<&Hidden>,
        text: Option<String>,
    ) -> Result<OperationId, CommandError> {
        if let Some(inbox) = inbox {
            tx.put_peer_inbox(&to, &inbox.0, Millis(0))?;
        }
        // Whoever is let in is handed the key in its own inbox.
        self.tell_keys(tx, now, entropy, to)?;
        let id = self.send_to_inbox(tx, now, entropy, to, Content::JoinRequest { text, space })?;
        self.await_answer(tx, now, &id, &to)?;
        Ok(id)
    }

    /// Packets whose entry relay has not answered, and rows for inboxes that no relay ever took: an app that ends now
    /// leaves them for the next time.
    pub(super) fn unsent(&self) -> usize {
        let inboxes = self.topics.values().filter(|topic| topic.keys.is_foreign_inbox());
        self.attempts.len() + inboxes.map(|topic| topic.outbox.untaken()).sum::<usize>()
    }
}
