//! Direct threads: asked for and accepted by inbox, then a topic of their own in which every operation is sealed for the
//! other device over a two-party session.
//!
//! Sealing draws randomness inside a library, so it is done ahead ([`prepare_message`]) and its result is taken only if
//! the session is still the one it was made from. Opening happens here, in the transaction that stores the operation and
//! the session after it. What comes early waits; an envelope is opened once.

use super::commands::{has_room, next_in_log};
use super::event::Event;
use super::held::List;
use super::ingest::{self, Context};
use super::introduced::{Speaker, is_unintroduced};
use super::io::{Output, Reply};
use super::jobs::Opened;
use super::receive::{News, Reading};
use super::refusal::{CommandError, Unreadable};
use super::spaces::{cited, random};
use super::state::{State, Topic};
use super::threads::{accepted_share, changed};
use crate::crypto::{
    Channel, CryptoError, Direct, DirectError, OpenError, OpenedDirect, PreparedDirect, TwoParty,
    prepare_direct,
};
use crate::entropy::Entropy;
use crate::identity::{Author, EnvelopeHash, Identity, LogId, Millis, OperationId, ThreadId};
use crate::limits::{MAX_DEVICES, MAX_DIRECT_REQUESTS, MAX_SESSIONS};
use crate::ops::{self, Body, Content, Hidden, SessionId, SignedBytes, Ticket, VerifiedOperation};
use crate::store::{Db, NewOutboxRow, Origin, PendingReason, StoreError, ThreadRow, ThreadState, Tx};
use crate::topic::{TopicId, WriteKey};
use crate::tree::{Arrange, Map};

/// How long a session waits for its next block, milliseconds; then it ends, and the other device is asked to begin
/// another: 7 days.
pub const BLOCK_WAIT_MS: u64 = 7 * 24 * 3_600_000;
/// Most waiting envelopes of a session that are looked at when one was opened.
const MAX_RETRIED: usize = 8192;

/// Sessions in which something was opened, and which block comes next.
pub(super) type Unblocked = Map<(TopicId, SessionId), u32>;

/// What became of an envelope.
pub(super) enum DirectStep {
    /// It opened.
    Operation(Box<VerifiedOperation>),
    /// It was sealed or opened here before.
    Known(OperationId),
    /// It is kept, or (`false`) noted to be read again.
    Waits(bool),
    /// Nothing is in it for this device.
    Dropped(&'static str),
    /// It is not what it should be.
    Rejected,
}

fn derive(context: &str, parts: &[&[u8; 32]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(&part[..]);
    }
    *hasher.finalize().as_bytes()
}

/// The name of a thread: known to whoever knows the request.
pub fn thread_id(share: &Hidden, requester: &Author) -> ThreadId {
    ThreadId(derive("delta direct thread id v1", &[&share.0, &requester.0]))
}

/// Where a thread lives: derived from what both of its devices drew.
pub fn thread_ticket(asked: &Hidden, accepted: &Hidden, requester: &Author, accepter: &Author) -> Ticket {
    let secret =
        Hidden(derive("delta direct thread v1", &[&asked.0, &accepted.0, &requester.0, &accepter.0]));
    let log = LogId(derive("delta direct log v1", &[&secret.0]));
    let write = Hidden(derive("delta direct write v1", &[&secret.0]));
    Ticket::direct(log, WriteKey::from_seed(write.0))
}

/// Seals what will carry the next operation of a thread, for each device of the other person, and the others of this
/// device's own. To be done outside the engine: it draws randomness of the operating system.
pub fn prepare_message(
    db: &Db,
    thread: &ThreadId,
    (author, identity): (Author, Identity),
    now: Millis,
    entropy: &mut dyn Entropy,
) -> Result<Vec<PreparedDirect>, CommandError> {
    let row = db.direct_thread(thread)?.ok_or(CommandError::UnknownThread)?;
    let log = row.log.filter(|_| row.state == ThreadState::Open).ok_or(CommandError::ThreadState)?;
    let secrets = db.device_secrets()?.ok_or(CommandError::NoInbox)?;
    let mut left_out = CryptoError::NoBundle;
    let mut seal = |device: Author| -> Result<Option<PreparedDirect>, CommandError> {
        let bundle = db.device_bundle(&device)?;
        let expires = bundle.as_ref().map(|bundle| bundle.bundle().expires);
        let session = db.latest_session(&device)?.filter(|session| session.may_seal(expires));
        let channel = match (&session, &bundle) {
            (Some(session), _) => Channel::Session(session),
            (None, Some(bundle)) => Channel::Bundle(bundle),
            (None, None) => return Ok(None),
        };
        match prepare_direct(&TwoParty, &secrets, channel, (author, log), now, entropy) {
            Ok(direct) => Ok(Some(direct)),
            // A device that cannot be reached does not keep the person's others from hearing.
            Err(error @ (CryptoError::Bundle(_) | CryptoError::Library)) => {
                left_out = error;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    };
    let mut prepared = Vec::new();
    for device in db.devices_of_person(&row.peer)? {
        prepared.extend(seal(device)?);
        // Whoever certifies devices without end has each message sealed for so many.
        if prepared.len() == MAX_DEVICES {
            break;
        }
    }
    let theirs = prepared.len();
    for device in db.sisters(&identity, &author)? {
        if prepared.len() - theirs == MAX_DEVICES - 1 {
            break;
        }
        prepared.extend(seal(device)?);
    }
    if theirs == 0 { Err(left_out.into()) } else { Ok(prepared) }
}

impl State {
    /// Asks a device for a direct thread.
    pub(super) fn request_direct(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        (to, inbox): (Author, Option<&Hidden>),
        text: Option<String>,
    ) -> Result<Reply, CommandError> {
        if tx.inboxes()?.is_empty() {
            return Err(CommandError::NoInbox);
        }
        let share = Hidden(*random(entropy)?);
        let content = Content::DirectRequest { share: share.clone(), text: text.clone() };
        // Before anything is sent: the text may be too long.
        Body::new(content.clone()).encode().map_err(ops::CreateError::from)?;
        if let Some(inbox) = inbox {
            tx.put_peer_inbox(&to, &inbox.0, Millis(0))?;
        }
        let devices = self.reachable_devices(tx, &to)?;
        // With oneself there is nothing to be asked for.
        if devices.is_empty() || tx.identity_of(&to)? == self.identity() {
            return Err(CommandError::NotReachable);
        }
        let mut asked = Err(CommandError::NotReachable);
        for device in devices {
            // One that cannot be written to keeps none of the others from hearing of it.
            let done = self.tell_direct(tx, now, entropy, device, content.clone());
            asked = either(asked, done)?;
        }
        asked?;
        let thread = thread_id(&share, &self.author());
        let (state, share) = (ThreadState::Asked, Some(share));
        tx.put_thread(&ThreadRow {
            thread,
            peer: to,
            state,
            text,
            log: None,
            topic: None,
            made: now,
            share,
        })?;
        self.share_thread(thread);
        Ok(Reply::Thread { thread, topic: None })
    }

    /// Says something of a thread in a device's inbox, after with which keys this one is answered.
    fn tell_direct(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        device: Author,
        content: Content,
    ) -> Result<(), CommandError> {
        self.tell_keys(tx, now, entropy, device)?;
        let id = self.send_to_inbox(tx, now, entropy, device, content)?;
        self.await_answer(tx, now, &id, &device)?;
        self.introduce_to(tx, now, entropy, device)
    }

    /// Accepts a direct thread that another device asked for.
    pub(super) fn accept_direct(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        thread: ThreadId,
    ) -> Result<Reply, CommandError> {
        let row = tx.direct_thread(&thread)?.ok_or(CommandError::UnknownThread)?;
        let asked = row.share.clone().filter(|_| row.state == ThreadState::Requested);
        let asked = asked.ok_or(CommandError::ThreadState)?;
        // Where another device of the person may accept, too, both say the same.
        let (share, identity) = match &self.own {
            Some(own) => (accepted_share(own, &thread), Some(self.identity())),
            None => (Hidden(*random(entropy)?), None),
        };
        let accepter = identity.map_or_else(|| self.author(), |identity| Author(identity.0));
        let ticket = thread_ticket(&asked, &share, &row.peer, &accepter);
        if self.is_full(tx, now)? {
            return Err(CommandError::TooManyTopics);
        }
        let bundles = self.own_bundles(tx)?;
        let devices = self.reachable_devices(tx, &row.peer)?;
        let mut told = Err(CommandError::NotReachable);
        for device in devices {
            let (share, bundles) = (share.clone(), bundles.clone());
            let content = Content::DirectAccept { thread, share, identity, bundles };
            let done = self.tell_direct(tx, now, entropy, device, content);
            told = either(told, done)?;
        }
        told?;
        let topic = self.open_thread(tx, now, row, &ticket)?;
        self.share_thread(thread);
        Ok(Reply::Thread { thread, topic: Some(topic) })
    }

    /// Takes no more part in a direct thread; the person's other devices are told, and the other person is not.
    pub(super) fn close_direct(&mut self, tx: &Tx<'_>, thread: ThreadId) -> Result<Reply, CommandError> {
        let row = tx.direct_thread(&thread)?.ok_or(CommandError::UnknownThread)?;
        tx.put_thread(&ThreadRow { state: ThreadState::Closed, share: None, ..row })?;
        tx.set_thread_said(&thread, None)?;
        self.share_thread(thread);
        Ok(Reply::Done)
    }

    pub(super) fn open_thread(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        row: ThreadRow,
        ticket: &Ticket,
    ) -> Result<TopicId, StoreError> {
        let topic = ticket.topic();
        self.yield_log_quietly(tx, now, &ticket.log())?;
        tx.put_topic(ticket, now)?;
        tx.put_thread(&ThreadRow {
            state: ThreadState::Open,
            share: None,
            log: Some(ticket.log()),
            topic: Some(topic),
            ..row
        })?;
        if !self.topics.contains_key(&topic) {
            self.insert_topic(topic, Topic::new(ticket.keys(), None, now));
        }
        self.touched.insert(topic);
        Ok(topic)
    }

    pub(super) fn take_direct_request(
        &mut self,
        tx: &Tx<'_>,
        context: &Context,
        author: Author,
        share: &Hidden,
        text: Option<&str>,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let thread = thread_id(share, &author);
        let own = tx.identity_of(&author)? == self.identity();
        if own || tx.direct_thread(&thread)?.is_some() {
            return Ok(());
        }
        let (of_author, of_all) = tx.open_requests(&author)?;
        if of_author >= MAX_DIRECT_REQUESTS.0 || of_all >= MAX_DIRECT_REQUESTS.1 {
            return tx.count_dropped(context.topic, "direct-full");
        }
        tx.put_thread(&ThreadRow {
            thread,
            peer: author,
            state: ThreadState::Requested,
            text: text.map(str::to_owned),
            log: None,
            topic: None,
            made: context.now,
            share: Some(share.clone()),
        })?;
        self.share_thread(thread);
        news.changes.push(changed(thread));
        Ok(())
    }

    pub(super) fn take_direct_accept(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        author: Author,
        accept: &Acceptance<'_>,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let &Acceptance { id, thread, share: accepted, identity, bundles } = accept;
        let Some(row) = tx.direct_thread(&thread)? else { return Ok(()) };
        let Some(asked) = row.share.clone().filter(|_| row.state == ThreadState::Asked) else {
            return Ok(());
        };
        // The device that was asked may be another one of that person than the one that accepts.
        self.learn_bundles(tx, now, bundles)?;
        let named = identity.is_none_or(|identity| tx.identity_of(&author).is_ok_and(|it| it == identity));
        if !named || !tx.devices_of_person(&row.peer)?.contains(&author) {
            let people = [tx.identity_of(&row.peer)?];
            return match is_unintroduced(tx, &author, &people)? {
                true => Self::list(tx, List::Unintroduced, &id),
                false => Ok(()),
            };
        }
        if self.is_full(tx, now)? {
            return self.hold(tx, &id);
        }
        let accepter = identity.map_or(author, |identity| Author(identity.0));
        let ticket = self.answered_ticket(tx, &thread, (&asked, accepted), &accepter)?;
        let Some(ticket) = ticket else { return Ok(()) };
        self.open_thread(tx, now, row, &ticket)?;
        self.share_thread(thread);
        news.changes.push(changed(thread));
        Ok(())
    }

    /// Signs an operation of a thread and queues it in the envelopes that were prepared for it.
    pub(super) fn publish_direct(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        thread: ThreadId,
        content: Content,
        prepared: &[PreparedDirect],
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let row = tx.direct_thread(&thread)?.ok_or(CommandError::UnknownThread)?;
        let at = row.log.zip(row.topic).filter(|_| row.state == ThreadState::Open);
        let (log, id) = at.ok_or(CommandError::ThreadState)?;
        self.check_prepared(tx, &row, prepared)?;
        let topic = self.topics.get_mut(&id).ok_or(CommandError::UnknownTopic)?;
        if topic.unreadable == Some(Unreadable::Gone) {
            return Err(CommandError::TopicGone);
        }
        let (me, device, observed) = (self.device.author(), &self.device, topic.observed.unsaid());
        let (mut rows, mut bytes) = (self.outbox_rows, self.outbox_bytes);
        let (operation, queued, changes) = tx.savepoint(|tx| {
            let (seq_num, backlink) = next_in_log(tx, &me, &log)?;
            let auth_heads = cited(tx, me, &log, &content)?;
            let body = Body { content, sent_at: Some(now), observed, auth_heads };
            let operation = ops::create(device, log, seq_num, backlink, &body)?;
            let changes = ingest::publish_local(tx, id, &operation, now)?;
            let mut queued = Vec::new();
            for prepared in prepared {
                let envelope = prepared.seal(&operation)?;
                if !has_room(rows, bytes, envelope.len()) {
                    return Err(CommandError::OutboxFull);
                }
                let (hash, origin) = (EnvelopeHash::of(&envelope), Origin::Own);
                tx.put_session(&prepared.session, now)?;
                tx.put_direct_envelope(id, &hash, &operation.id(), Some(&envelope))?;
                let (envelope, operation) = (envelope.as_slice(), operation.id());
                let new = NewOutboxRow { topic: id, operation, hash, envelope, origin, not_before: now };
                queued.push((tx.outbox_push(&new)?, hash, envelope.len()));
                (rows, bytes) = (rows + 1, bytes + envelope.len() as u64);
            }
            Ok::<_, CommandError>((operation.id(), queued, changes))
        })?;
        if observed.is_some() {
            topic.observed.said();
        }
        self.slots.touch(id);
        for (row, hash, len) in queued {
            self.add_outbox_row(id, row, hash, len, now);
        }
        if !changes.is_empty() {
            staged.push(Output::Event(Event::Changed { topic: id, changes }));
        }
        Ok(Reply::Published(operation))
    }

    /// Opens an envelope of a direct thread, with the session it names.
    pub(super) fn open_direct(
        &mut self,
        tx: &Tx<'_>,
        context: &Context,
        hash: &EnvelopeHash,
        envelope: &[u8],
    ) -> Result<DirectStep, StoreError> {
        let id = context.topic;
        if let Some(operation) = tx.direct_operation(id, hash)? {
            return Ok(DirectStep::Known(operation));
        }
        let Ok(direct) = Direct::parse(envelope) else { return Ok(DirectStep::Rejected) };
        let (Some(thread), Some(secrets)) = (tx.thread_of_topic(&id)?, tx.device_secrets()?) else {
            return Ok(DirectStep::Dropped("direct-closed"));
        };
        if tx.is_foreign_session(direct.session())? {
            tx.touch_foreign_session(direct.session(), context.now)?;
            return Ok(DirectStep::Dropped("direct-other"));
        }
        let (devices, mut known) = (self.devices_of_thread(tx, &thread.peer)?, None);
        for device in &devices {
            if tx.session_ended(device, direct.session())? {
                return Ok(DirectStep::Dropped("direct-ended"));
            }
            known = known.or(tx.session(device, direct.session())?);
        }
        let me = (self.author(), &secrets);
        let wait = || {
            let kept = tx.await_key(&context.receipt(), &direct.session().0, envelope)?;
            Ok(DirectStep::Waits(kept != PendingReason::Refetch))
        };
        match direct.open(&TwoParty, me, known.as_ref(), &context.log, context.now) {
            Ok(OpenedDirect { session, operation }) => {
                match self.speaks(tx, &thread.peer, &devices, &operation)? {
                    Speaker::OfThread => {}
                    Speaker::Unknown => return wait(),
                    Speaker::Stranger => return Ok(DirectStep::Rejected),
                }
                tx.put_session(&session, context.now)?;
                tx.end_old_sessions(&session.peer, MAX_SESSIONS, context.now)?;
                tx.put_direct_envelope(id, hash, &operation.id(), None)?;
                self.unblocked.insert((id, session.id), session.opened);
                Ok(DirectStep::Operation(Box::new(operation)))
            }
            Err(DirectError::Open(OpenError::Early { .. } | OpenError::UnknownSession)) => wait(),
            Err(DirectError::Open(OpenError::Duplicate)) => Ok(DirectStep::Dropped("direct-duplicate")),
            // For another device, or made from a bundle that has expired: what follows in that session does not wait.
            Err(DirectError::Open(OpenError::UnknownPrekey)) => {
                tx.put_foreign_session(direct.session(), context.now)?;
                for _ in 0..tx.drop_waiting(id, direct.session())? {
                    tx.count_dropped(id, "direct-other")?;
                }
                Ok(DirectStep::Dropped("direct-prekey"))
            }
            Err(_) => Ok(DirectStep::Rejected),
        }
    }

    /// What waited for a block that was opened, in the order of the blocks.
    pub(super) fn retry_direct(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        news: &mut News,
    ) -> Result<(), StoreError> {
        while let Some(((id, session), mut next)) = self.unblocked.pop_first() {
            let mut waiting = Vec::new();
            for kept in tx.waiting_for_key(id, &session.0, MAX_RETRIED)? {
                let index = Direct::parse(&kept.envelope).map(|direct| direct.index());
                waiting.push((index.unwrap_or_default(), kept));
            }
            waiting.arrange_by_key(|(index, _)| *index);
            for (index, kept) in waiting {
                if index > next {
                    break;
                }
                let Some(log) = self.topics.get(&id).map(|topic| topic.keys.log()) else { break };
                let at = kept.receipt;
                let context = Context {
                    topic: id,
                    log,
                    epoch: 0,
                    generation: at.generation,
                    resets: at.place.resets,
                    seq: at.place.seq,
                    received: at.received,
                    now,
                };
                tx.remove_pending(&at)?;
                let hash = EnvelopeHash::of(&kept.envelope);
                let opened = Opened::Direct { envelope: kept.envelope.into() };
                self.take_operation(tx, &context, hash, opened, Reading::First, news)?;
                next = self.unblocked.remove(&(id, session)).unwrap_or(next);
            }
        }
        Ok(())
    }
}

/// What an acceptance says.
pub(super) struct Acceptance<'a> {
    pub(super) id: OperationId,
    pub(super) thread: ThreadId,
    pub(super) share: &'a Hidden,
    pub(super) identity: Option<Identity>,
    pub(super) bundles: &'a [SignedBytes],
}

/// Done for one of several is done. The batch fails for the database alone.
fn either(
    before: Result<(), CommandError>,
    done: Result<(), CommandError>,
) -> Result<Result<(), CommandError>, CommandError> {
    match (before, done) {
        (_, Err(error @ CommandError::Store(_))) => Err(error),
        (Ok(()), _) | (_, Ok(())) => Ok(Ok(())),
        (Err(_), Err(error)) => Ok(Err(error)),
    }
}

impl State {
    /// Who speaks in a thread with a device's person: that one's devices, and the others of this device's own.
    pub(super) fn devices_of_thread(&self, tx: &Tx<'_>, peer: &Author) -> Result<Vec<Author>, StoreError> {
        let mut devices = tx.devices_of_person(peer)?;
        devices.extend(tx.sisters(&self.identity(), &self.author())?);
        Ok(devices)
    }

    /// Whether what was prepared was made from the sessions as they are now, for devices of the thread.
    fn check_prepared(
        &self,
        tx: &Tx<'_>,
        row: &ThreadRow,
        prepared: &[PreparedDirect],
    ) -> Result<(), CommandError> {
        if prepared.is_empty() {
            return Err(CryptoError::NoBundle.into());
        }
        let devices = self.devices_of_thread(tx, &row.peer)?;
        for prepared in prepared {
            let stored = tx.session(&prepared.recipient(), prepared.session.id)?;
            if stored != prepared.before || !devices.contains(&prepared.recipient()) {
                return Err(CommandError::StaleKeys);
            }
        }
        Ok(())
    }
}
