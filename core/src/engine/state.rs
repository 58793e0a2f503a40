//! What the engine keeps in memory: topics, sessions, outboxes, timers. All of it can be loaded again from the store.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;

use super::accountability::Observed;
use super::delivery::MAX_HANDOVERS;
use super::ingest::PublishError;
use super::io::{
    Blocked, Command, CommandError, CommandId, Event, Input, Network, OpenJob, OpenedBatch, OpenedWork,
    Output, Reply, SeenDirectory, TopicStatus, TriagedStep, Unreadable, Work,
};
use super::refetch::{Fetching, Refetch};
use super::signals::Signals;
use super::slots::Slots;
use super::{ingest, receive};
use crate::entropy::Entropy;
use crate::identity::{Author, EnvelopeHash, Millis, NodeId};
use crate::limits::{MAX_OUTBOX_BYTES, MAX_OUTBOX_ROWS, MAX_TOPICS};
use crate::onion::route::{Guards, Routes};
use crate::ops::{self, Body, Content, DeviceKey, Ticket, TopicKeys};
use crate::store::{NewOutboxRow, Origin, OutboxEntry, Store, StoreError, Tx};
use crate::sync::outbox::{AttemptId, Outbox, OutboxRow, RETRY_MAX_MS};
use crate::sync::session::{ConnId, Connection, Cursor, Session, StepKind, Transmit};
use crate::topic::TopicId;

/// Envelopes of one [`OpenJob`]: small enough to spread a frame over all cores.
const JOB_STEPS: usize = 64;
/// Under which name the entry guards are stored.
const GUARDS_SETTING: &str = "guards";
/// Shortest time between two network changes that are acted on, milliseconds; the pause doubles while they keep coming.
pub const HINT_PAUSE_MS: u64 = 1_000;
/// Longest such pause, milliseconds.
pub const HINT_PAUSE_MAX_MS: u64 = 30_000;
/// How long rows that were sent before wait for the topic's log when it cannot be read, milliseconds.
pub(super) const BLIND_RETRY_MS: u64 = 30_000;

#[derive(Debug)]
pub(super) struct State {
    pub(super) device: DeviceKey,
    pub(super) network: Option<Network>,
    server_key: Option<VerifyingKey>,
    pub(super) topics: BTreeMap<TopicId, Topic>,
    /// Packets whose POST is not answered yet, with their entry relay.
    pub(super) attempts: HashMap<AttemptId, Sent>,
    pub(super) routes: Routes,
    pub(super) outbox_rows: usize,
    pub(super) outbox_bytes: u64,
    /// Ordered, so that the same inputs give the same outputs.
    conns: BTreeMap<ConnId, TopicId>,
    /// The page of history on its way: one at a time.
    pub(super) fetching: Option<Fetching>,
    wakeups: BTreeSet<(Millis, TopicId)>,
    /// Topics with a packet ready for which [`super::delivery::MAX_HANDOVERS`] leaves no place, the longest waiting first.
    pub(super) handover_queue: VecDeque<TopicId>,
    hints: Hints,
    slots: Slots,
    /// What the batch at hand changed that the store does not hold, as it was before.
    before: Before,
    /// Topics to look at before the batch commits.
    pub(super) touched: BTreeSet<TopicId>,
    pub(super) next_conn: u64,
    pub(super) next_attempt: u64,
}

/// A packet whose POST is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) topic: TopicId,
    pub(super) entry: NodeId,
    pub(super) is_signal: bool,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) keys: TopicKeys,
    pub(super) subscribed: bool,
    pub(super) cursor: Option<Cursor>,
    pub(super) session: Option<Session>,
    pub(super) outbox: Outbox,
    pub(super) redelivery: receive::Redelivery,
    pub(super) refetch: Refetch,
    pub(super) observed: Observed,
    pub(super) signals: Signals,
    /// Why the server does not let this device read.
    pub(super) unreadable: Option<Unreadable>,
    /// The store holds its outbox rows as parked.
    pub(super) rows_parked: bool,
    /// When operations that wait for a predecessor do so no longer.
    pub(super) overdue_at: Option<Millis>,
    pub(super) blocked: Option<Blocked>,
    /// While the log cannot be read, rows that were sent before wait until this instant.
    pub(super) blind_until: Millis,
    /// Not before this instant is a blocked outbox looked at again.
    pub(super) blocked_until: Option<Millis>,
    /// Envelopes that turned out invalid on this connection.
    pub(super) rejected: u32,
    /// It is in [`State::handover_queue`].
    pub(super) waits_for_handover: bool,
    /// Wanted, but without a socket of its own ([`Slots`]).
    parked: bool,
    shown: Connection,
    /// The `ready` of the connection in use is stored, and with it everything before it.
    pub(super) caught_up: bool,
    wakeup: Option<Millis>,
}

/// When network changes are acted on: at once, but not more often than makes sense.
#[derive(Debug, Default)]
struct Hints {
    /// One is to be acted on then.
    due: Option<Millis>,
    /// None is acted on before.
    not_before: Millis,
    pause_ms: u64,
}

impl Hints {
    fn hint(&mut self, now: Millis) {
        // A clock that went back must not put it off for longer than ever meant.
        let earliest = self.not_before.min(now.plus(HINT_PAUSE_MAX_MS));
        self.due.get_or_insert(earliest.max(now));
    }

    /// Whether one is to be acted on now.
    fn take(&mut self, now: Millis) -> bool {
        let Some(due) = self.due.filter(|due| *due <= now) else { return false };
        self.due = None;
        // One that had to wait came soon after another.
        let waited = due == self.not_before;
        self.pause_ms = if waited { (self.pause_ms * 2).min(HINT_PAUSE_MAX_MS) } else { HINT_PAUSE_MS };
        self.not_before = now.plus(self.pause_ms);
        true
    }
}

/// See [`State::before`].
#[derive(Debug, Default)]
struct Before {
    subscribed: Vec<(TopicId, bool)>,
    network: Option<Option<Network>>,
}

impl State {
    pub(super) fn load(store: &mut Store, device: DeviceKey, now: Millis) -> Result<Self, StoreError> {
        let mut state = Self {
            device,
            network: None,
            server_key: None,
            topics: BTreeMap::new(),
            attempts: HashMap::new(),
            routes: Routes::default(),
            outbox_rows: 0,
            outbox_bytes: 0,
            conns: BTreeMap::new(),
            fetching: None,
            wakeups: BTreeSet::new(),
            handover_queue: VecDeque::new(),
            hints: Hints::default(),
            slots: Slots::default(),
            before: Before::default(),
            touched: BTreeSet::new(),
            next_conn: 1,
            next_attempt: 1,
        };
        state.load_topics(store, now)?;
        Ok(state)
    }

    /// After a rollback: memory is made from the store again, connections start over.
    pub(super) fn reload(
        &mut self,
        store: &mut Store,
        now: Millis,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), StoreError> {
        let old = std::mem::take(&mut self.topics);
        if let Err(error) = self.load_topics(store, now) {
            self.topics = old;
            return Err(error);
        }
        let fetching = self.fetching.take().map(|fetching| fetching.conn);
        let conns = self.conns.keys().copied().chain(fetching);
        outputs.extend(conns.map(|conn| Output::Disconnect { conn }));
        self.conns.clear();
        self.attempts.clear();
        self.touched.clear();
        self.wakeups.clear();
        self.handover_queue.clear();
        self.slots.clear();
        let Before { subscribed, network } = std::mem::take(&mut self.before);
        let mut wanted: BTreeMap<TopicId, bool> =
            old.iter().map(|(id, topic)| (*id, topic.subscribed)).collect();
        wanted.extend(subscribed.into_iter().rev());
        let same_server = network.is_none();
        if let Some(network) = network {
            self.server_key = network.as_ref().and_then(|network| server_key(network).ok());
            self.network = network;
        }
        for (id, topic) in &mut self.topics {
            topic.subscribed = wanted.get(id).copied().unwrap_or_default();
            // Another server's sessions are of no use.
            if let Some(session) = old.get(id).and_then(|old| old.session.as_ref()).filter(|_| same_server) {
                let mut session = session.clone();
                session.restart();
                topic.session = Some(session);
            }
            if old.get(id).is_some_and(|old| old.shown != topic.shown) {
                outputs.push_back(Output::Event(Event::Connection { topic: *id, connection: topic.shown }));
            }
        }
        if self.network.is_some() {
            let at = now.plus(crate::sync::session::FAULT_PAUSE_MS);
            let ids: Vec<TopicId> = self.topics.keys().copied().collect();
            for id in ids {
                self.schedule(id, Some(at));
            }
        }
        Ok(())
    }

    fn load_topics(&mut self, store: &mut Store, now: Millis) -> Result<(), StoreError> {
        (self.outbox_rows, self.outbox_bytes) = (0, 0);
        // Guards that cannot be read are drawn anew: nothing else depends on them.
        let guards = store.setting(GUARDS_SETTING)?.unwrap_or_default();
        self.routes = Routes::new(Guards::load(&guards).unwrap_or_default());
        for row in store.topics()? {
            self.topics.insert(row.topic, Topic::new(row.ticket.keys(), row.cursor, now));
        }
        for entry in store.outbox_entries()? {
            let Some(topic) = self.topics.get_mut(&entry.topic) else { continue };
            if entry.parked {
                // What the server said last; it is asked again.
                (topic.unreadable, topic.rows_parked) = (Some(Unreadable::Gone), true);
            }
            // A clock that went back must not stop a row for good.
            let not_before = entry.not_before.min(now.plus(RETRY_MAX_MS));
            let OutboxEntry { id, hash, len, tries, .. } = entry;
            topic.outbox.insert(OutboxRow { id, hash, len, tries, not_before });
            self.outbox_rows += 1;
            self.outbox_bytes += u64::from(len);
        }
        Ok(())
    }

    pub(super) fn author(&self) -> Author {
        self.device.author()
    }

    pub(super) fn next_wakeup(&self) -> Option<Millis> {
        let topics = self.wakeups.first().map(|(at, _)| *at);
        topics.into_iter().chain(self.hints.due).chain(self.slots.poll_timeout()).min()
    }

    /// Before a batch: what it changes beside the store can be taken back if it is not committed.
    pub(super) fn begin(&mut self) {
        self.before = Before::default();
    }

    pub(super) fn triage(
        &mut self,
        now: Millis,
        conn: ConnId,
        message: Bytes,
        entropy: &mut dyn Entropy,
        outputs: &mut VecDeque<Output>,
    ) -> Vec<OpenJob> {
        if self.fetching.as_ref().is_some_and(|fetching| fetching.conn == conn) {
            return self.triage_page(now, message, entropy, outputs);
        }
        let Some(id) = self.conns.get(&conn).copied() else { return Vec::new() };
        let Some(topic) = self.topics.get_mut(&id) else { return Vec::new() };
        let Some(session) = topic.session.as_mut() else { return Vec::new() };
        let (outbox, keys) = (&topic.outbox, &topic.keys);
        let mut jobs = Vec::new();
        match session.handle_frame(now, conn, message, entropy) {
            Ok(steps) => {
                let mut steps = steps.into_iter().peekable();
                while steps.peek().is_some() {
                    let steps = steps.by_ref().take(JOB_STEPS);
                    let steps = steps.map(|step| TriagedStep { own: is_own(outbox, &step.kind), step });
                    let work = Work::Steps(steps.collect());
                    jobs.push(OpenJob { conn, topic: id, keys: keys.clone(), work });
                }
            }
            Err(fault) => outputs.push_back(Output::Event(Event::ServerFault { topic: id, fault })),
        }
        let mut staged = Vec::new();
        self.publish_session(id, &mut staged);
        outputs.extend(staged);
        self.reschedule(id);
        jobs
    }

    pub(super) fn apply(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        input: Input,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        match input {
            Input::Command { id, command } => self.command(tx, now, entropy, id, command, staged)?,
            Input::Opened(OpenedBatch { conn, topic, opened: OpenedWork::Steps(steps) }) => {
                self.receive(tx, now, entropy, (conn, topic), steps, staged)?;
            }
            Input::Opened(OpenedBatch { conn, topic, opened: OpenedWork::Page(page) }) => {
                self.receive_page(tx, now, entropy, (conn, topic), page, staged)?;
            }
            Input::Connected { conn } => {
                if let Some((id, session)) = self.session_of(conn) {
                    session.handle_connected(now, conn);
                    self.show_readable(id, None, staged);
                }
            }
            Input::Disconnected { conn, retry_after_ms } => {
                if let Some((_, session)) = self.session_of(conn) {
                    session.handle_disconnected(now, conn, retry_after_ms, entropy);
                }
                self.conns.remove(&conn);
                self.fetch_ended(now, conn, retry_after_ms, entropy);
            }
            Input::Refused { conn, unreadable } => {
                self.refused(now, conn, unreadable, entropy, staged);
                self.conns.remove(&conn);
            }
            Input::Posted { attempt, handover } => {
                self.posted(tx, now, entropy, attempt, handover, staged)?;
            }
            Input::NetworkChanged => self.hints.hint(now),
            Input::Timeout => {}
        }
        Ok(())
    }

    /// Brings every touched topic and every topic whose time has come up to date, then publishes what its session
    /// wants done. Whether the entry guards changed.
    pub(super) fn settle(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        staged: &mut Vec<Output>,
    ) -> Result<bool, StoreError> {
        if self.hints.take(now) {
            self.network_changed(tx, now, staged)?;
        }
        while let Some(id) = self.slots.poll(now) {
            self.touched.insert(id);
        }
        while let Some(&(at, id)) = self.wakeups.first()
            && at <= now
        {
            self.schedule(id, None);
            self.touched.insert(id);
        }
        while let Some(id) = self.touched.pop_first().or_else(|| self.next_for_handover()) {
            self.settle_overdue(tx, now, id, staged)?;
            self.deliver(tx, now, entropy, id, staged)?;
            self.settle_signal(now, entropy, id, staged);
            self.drive_session(now, entropy, id, staged);
            self.publish_session(id, staged);
            self.refetch(tx, now, entropy, id, staged)?;
            self.reschedule(id);
        }
        // A guard is durable before the first packet goes to it.
        let guards = self.routes.take_changes();
        if let Some(guards) = &guards {
            tx.set_setting(GUARDS_SETTING, guards)?;
        }
        Ok(guards.is_some())
    }

    /// The topic that has waited longest for a place among the packets on their way, if there is one. What it does not
    /// use goes to the next.
    fn next_for_handover(&mut self) -> Option<TopicId> {
        if self.attempts.len() >= MAX_HANDOVERS {
            return None;
        }
        let id = self.handover_queue.pop_front()?;
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.waits_for_handover = false;
        }
        Some(id)
    }

    /// Connections over the old network are replaced, and nothing waits any more.
    fn network_changed(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        staged.push(Output::ForgetConnections);
        self.routes.network_changed();
        for (id, topic) in &mut self.topics {
            if let Some(session) = topic.session.as_mut() {
                session.network_changed(now);
                topic.caught_up = false;
            }
            tx.outbox_requeue(&topic.outbox.hurry(now))?;
            topic.refetch.hurry(now);
            topic.blocked_until = None;
            self.touched.insert(*id);
        }
        Ok(())
    }

    /// Connects what is wanted, gives up what hangs.
    fn drive_session(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        staged: &mut Vec<Output>,
    ) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let Some(server) = self.server_key else { return };
        let wanted = topic.subscribed || !topic.outbox.is_empty();
        let changed = match wanted {
            true => self.slots.want(id, !topic.outbox.is_empty(), now),
            false => self.slots.leave(id, now),
        };
        self.make_room(id, changed, staged);
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let session = topic.session.get_or_insert_with(|| Session::new(id, server));
        topic.parked = self.slots.is_parked(&id);
        if wanted && self.slots.may_connect(&id) {
            session.start(now);
        } else {
            session.stop();
        }
        let fresh = ConnId(self.next_conn);
        if let Some(fault) = session.handle_timeout(now, topic.cursor, fresh, entropy) {
            staged.push(Output::Event(Event::ServerFault { topic: id, fault }));
        }
        if session.conn() == Some(fresh) {
            self.next_conn += 1;
            topic.rejected = 0;
            topic.caught_up = false;
        }
        let waits = session.conn().is_none();
        if self.slots.is_polling(&id) && (waits || topic.is_live()) {
            self.slots.polled(id, now);
            if let Some(session) = topic.session.as_mut() {
                session.stop();
            }
        }
    }

    /// Topics that lost their socket close it before the one that got it connects.
    fn make_room(&mut self, id: TopicId, changed: Vec<TopicId>, staged: &mut Vec<Output>) {
        for other in changed.into_iter().filter(|other| *other != id) {
            self.touched.insert(other);
            if !self.slots.may_connect(&other)
                && let Some(topic) = self.topics.get_mut(&other)
                && let Some(session) = topic.session.as_mut()
            {
                topic.parked = self.slots.is_parked(&other);
                session.stop();
                self.publish_session(other, staged);
            }
        }
    }

    /// Hands out what a session wants done on the network, and what changed for the app.
    fn publish_session(&mut self, id: TopicId, staged: &mut Vec<Output>) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let Some(session) = topic.session.as_mut() else { return };
        while let Some(transmit) = session.poll_transmit() {
            staged.push(match transmit {
                Transmit::Connect { conn, request } => {
                    let Some(network) = &self.network else { continue };
                    self.conns.insert(conn, id);
                    Output::Connect { conn, server: network.server.url.as_str().into(), request }
                }
                Transmit::Close { conn } => {
                    self.conns.remove(&conn);
                    Output::Disconnect { conn }
                }
            });
        }
        let connection = topic.connection();
        if connection != topic.shown {
            topic.shown = connection;
            staged.push(Output::Event(Event::Connection { topic: id, connection }));
        }
    }

    pub(super) fn session_of(&mut self, conn: ConnId) -> Option<(TopicId, &mut Session)> {
        let id = *self.conns.get(&conn)?;
        self.touched.insert(id);
        let session = self.topics.get_mut(&id)?.session.as_mut()?;
        Some((id, session))
    }

    pub(super) fn reschedule(&mut self, id: TopicId) {
        let Some(topic) = self.topics.get(&id) else { return };
        let session = topic.session.as_ref().and_then(Session::poll_timeout);
        let live = topic.is_live();
        let outbox = match (topic.blocked.is_some(), live) {
            (true, _) => topic.blocked_until,
            (false, _) if topic.waits_for_handover => topic.outbox.poll_due(),
            (false, true) => topic.outbox.poll_timeout(true),
            (false, false) => {
                let blind = topic.outbox.poll_timeout(true).map(|at| at.max(topic.blind_until));
                blind.into_iter().chain(topic.outbox.poll_timeout(false)).min()
            }
        };
        let redelivery = topic.redelivery.poll_timeout().filter(|_| live);
        let refetch = self.refetch_due(id);
        let at = session.into_iter().chain(outbox).chain(redelivery).chain(topic.overdue_at).chain(refetch);
        let at = at.chain(topic.signals.poll_timeout()).min();
        self.schedule(id, at);
    }

    fn schedule(&mut self, id: TopicId, at: Option<Millis>) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        if let Some(old) = std::mem::replace(&mut topic.wakeup, at) {
            self.wakeups.remove(&(old, id));
        }
        self.wakeups.extend(at.map(|at| (at, id)));
    }

    fn command(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: CommandId,
        command: Command,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let result = match command {
            Command::OpenTopic { ticket } => self.open_topic(tx, now, ticket),
            Command::Subscribe { topic } => self.subscribe(topic, true),
            Command::Unsubscribe { topic } => self.subscribe(topic, false),
            Command::Publish { topic, content } => self.publish(tx, now, topic, content, staged),
            Command::Signal { topic, bytes } => self.signal(now, entropy, topic, bytes, staged),
            Command::Control { topic, action } => self.control(tx, now, entropy, topic, action, staged),
            Command::SetReadKey { topic, key } => self.set_read_key(tx, now, topic, key.as_ref()),
            Command::Prove { topic, purpose, nonce } => self.prove(tx, topic, purpose, &nonce),
            Command::Configure(network) => self.configure(tx, network, staged),
            Command::Status { topic } => self.status(topic),
        };
        let result = match result {
            // The database is at fault, not the command: nothing of the batch can be kept.
            Err(CommandError::Store(error)) => match Arc::try_unwrap(error) {
                Ok(error) => return Err(error),
                Err(shared) => Err(CommandError::Store(shared)),
            },
            other => other,
        };
        staged.push(Output::Reply { id, result });
        Ok(())
    }

    fn open_topic(&mut self, tx: &mut Tx<'_>, now: Millis, ticket: Ticket) -> Result<Reply, CommandError> {
        let id = ticket.topic();
        let known = self.topics.get(&id);
        if known.is_none() && self.topics.len() >= MAX_TOPICS {
            return Err(CommandError::TooManyTopics);
        }
        if known.is_some_and(|topic| !topic.keys.agrees_with(&ticket.keys())) {
            return Err(CommandError::TicketConflict);
        }
        // Places are counted by log and epoch: two topics in one place would mix them up.
        if known.is_none() && self.topics.values().any(|topic| topic.keys.log() == ticket.log()) {
            return Err(CommandError::LogTaken);
        }
        // A read-only ticket does not take away the right to write.
        if known.is_none_or(|topic| topic.keys.write_key().is_none()) {
            tx.put_topic(&ticket, now)?;
            match self.topics.get_mut(&id) {
                Some(topic) => topic.keys = ticket.keys(),
                None => {
                    self.topics.insert(id, Topic::new(ticket.keys(), None, now));
                }
            }
        }
        self.touched.insert(id);
        Ok(Reply::Topic(id))
    }

    fn subscribe(&mut self, id: TopicId, subscribed: bool) -> Result<Reply, CommandError> {
        let topic = self.topics.get_mut(&id).ok_or(CommandError::UnknownTopic)?;
        self.before.subscribed.push((id, topic.subscribed));
        if subscribed {
            self.slots.touch(id);
        }
        topic.subscribed = subscribed;
        self.touched.insert(id);
        Ok(Reply::Done)
    }

    fn publish(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        id: TopicId,
        content: Content,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        let topic = self.topics.get_mut(&id).ok_or(CommandError::UnknownTopic)?;
        if topic.keys.write_key().is_none() {
            return Err(CommandError::ReadOnly);
        }
        // A signed operation would hold a place in this device's log for ever.
        if topic.unreadable == Some(Unreadable::Gone) {
            return Err(CommandError::TopicGone);
        }
        if !self.outbox_has_room(0) {
            return Err(CommandError::OutboxFull);
        }
        let (outbox_rows, outbox_bytes) = (self.outbox_rows, self.outbox_bytes);
        let topic = self.topics.get_mut(&id).ok_or(CommandError::UnknownTopic)?;
        let (keys, device) = (&topic.keys, &self.device);
        let (log, observed) = (keys.log(), topic.observed.unsaid());
        let (operation, envelope, row, changes) = tx.savepoint(|tx| {
            let (seq_num, backlink) = match tx.log_head(&device.author(), &log)? {
                None => (0, None),
                Some(head) => (head.seq_num.checked_add(1).ok_or(PublishError::LogFull)?, Some(head.id)),
            };
            let body = Body { content, sent_at: Some(now), observed, auth_heads: Vec::new() };
            let operation = ops::create(device, log, seq_num, backlink, &body)?;
            let envelope = keys.seal(operation.header(), operation.body_bytes())?;
            if !has_room(outbox_rows, outbox_bytes, envelope.len()) {
                return Err(CommandError::OutboxFull);
            }
            let hash = EnvelopeHash::of(&envelope);
            let changes = ingest::publish_local(tx, id, &operation, now)?;
            let row = tx.outbox_push(&NewOutboxRow {
                topic: id,
                operation: operation.id(),
                hash,
                envelope: &envelope,
                origin: Origin::Own,
                not_before: now,
            })?;
            Ok::<_, CommandError>((operation.id(), (hash, envelope.len()), row, changes))
        })?;
        if observed.is_some() {
            topic.observed.said();
        }
        let (hash, len) = envelope;
        self.slots.touch(id);
        self.add_outbox_row(id, row, hash, len, now);
        if !changes.is_empty() {
            staged.push(Output::Event(Event::Changed { topic: id, changes }));
        }
        Ok(Reply::Published(operation))
    }

    /// Whether the outbox takes an envelope of this length: what the store would refuse as a limit is asked before,
    /// because there it would cost the whole batch.
    pub(super) fn outbox_has_room(&self, len: usize) -> bool {
        has_room(self.outbox_rows, self.outbox_bytes, len)
    }

    pub(super) fn add_outbox_row(
        &mut self,
        id: TopicId,
        row: i64,
        hash: EnvelopeHash,
        len: usize,
        now: Millis,
    ) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        topic.outbox.insert(OutboxRow { id: row, hash, len, tries: 0, not_before: now });
        self.outbox_rows += 1;
        self.outbox_bytes += u64::from(len);
        self.touched.insert(id);
    }

    fn configure(
        &mut self,
        tx: &Tx<'_>,
        network: Network,
        staged: &mut Vec<Output>,
    ) -> Result<Reply, CommandError> {
        if !(1..=5).contains(&network.relays) {
            return Err(CommandError::PathLength);
        }
        let key = server_key(&network)?;
        tx.set_setting(&SeenDirectory::setting(&network.seen.scope), &network.seen.seen.to_bytes())?;
        if self.before.network.is_none() {
            self.before.network = Some(self.network.clone());
        }
        let same = self.network.as_ref().is_some_and(|old| old.server.id == network.server.id);
        for (id, topic) in &mut self.topics {
            if let Some(session) = topic.session.as_mut().filter(|_| !same) {
                session.stop();
            }
            // What is blocked is looked at again, and the app told if it no longer is.
            topic.blocked_until = None;
            self.touched.insert(*id);
        }
        if !same {
            // The old sessions' closes are handed out before the new ones are made.
            let ids: Vec<TopicId> = self.topics.keys().copied().collect();
            for id in ids {
                self.publish_session(id, staged);
                if let Some(topic) = self.topics.get_mut(&id) {
                    topic.session = None;
                }
            }
        }
        self.network = Some(network);
        self.server_key = Some(key);
        Ok(Reply::Done)
    }

    fn status(&self, id: TopicId) -> Result<Reply, CommandError> {
        let topic = self.topics.get(&id).ok_or(CommandError::UnknownTopic)?;
        let (queued, sent) = topic.outbox.counts();
        Ok(Reply::Status(TopicStatus {
            connection: topic.shown,
            cursor: topic.cursor,
            queued,
            sent,
            blocked: topic.blocked.clone(),
            unreadable: topic.unreadable,
            round_trip_ms: topic.outbox.round_trip_ms(),
        }))
    }
}

impl Topic {
    fn new(keys: TopicKeys, cursor: Option<Cursor>, now: Millis) -> Self {
        Self {
            keys,
            subscribed: false,
            cursor,
            session: None,
            outbox: Outbox::default(),
            redelivery: receive::Redelivery::default(),
            refetch: Refetch::default(),
            observed: Observed::default(),
            signals: Signals::default(),
            unreadable: None,
            rows_parked: false,
            overdue_at: None,
            blocked: None,
            blind_until: now.plus(BLIND_RETRY_MS),
            blocked_until: None,
            waits_for_handover: false,
            parked: false,
            rejected: 0,
            shown: Connection::Offline,
            caught_up: false,
            wakeup: None,
        }
    }

    /// Where the session stands, as far as the database followed: what the app hears of is durable.
    fn connection(&self) -> Connection {
        match self.session.as_ref().map(Session::connection) {
            None => Connection::Offline,
            Some(_) if self.parked => Connection::Parked,
            Some(Connection::Live) if !self.caught_up => Connection::Replaying,
            Some(connection) => connection,
        }
    }

    /// The topic's log is at hand up to now.
    pub(super) fn is_live(&self) -> bool {
        let live = self.session.as_ref().map(Session::connection) == Some(Connection::Live);
        live && self.caught_up
    }
}

fn server_key(network: &Network) -> Result<VerifyingKey, CommandError> {
    VerifyingKey::from_bytes(&network.server.id.0).map_err(|_| CommandError::ServerKey)
}

fn has_room(rows: usize, bytes: u64, len: usize) -> bool {
    rows < MAX_OUTBOX_ROWS && bytes.saturating_add(len as u64) <= MAX_OUTBOX_BYTES
}

fn is_own(outbox: &Outbox, kind: &StepKind) -> bool {
    matches!(kind, StepKind::Op { hash, .. } if outbox.find(hash).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    fn say(text: &str, topic: TopicId) -> Command {
        let content = Content::MessageSend { text: text.into(), reply: None, mentions: Vec::new() };
        Command::Publish { topic, content }
    }

    #[test]
    fn a_full_outbox_refuses_one_command_and_not_its_whole_batch() {
        let mut store = Store::in_memory().unwrap();
        let mut state = State::load(&mut store, DeviceKey::from_bytes(&[1; 32]), Millis(0)).unwrap();
        let mut entropy = SeededEntropy::new([2; 32]);
        let ticket = Ticket::generate_private(&mut entropy).unwrap();
        let topic = ticket.topic();
        let mut run = |state: &mut State, commands: Vec<Command>| -> Vec<Result<Reply, CommandError>> {
            let mut tx = store.begin(crate::store::Durability::Full).unwrap();
            let mut staged = Vec::new();
            for command in commands {
                let input = Input::Command { id: CommandId(0), command };
                state.apply(&mut tx, Millis(0), &mut entropy, input, &mut staged).unwrap();
            }
            tx.commit().unwrap();
            let reply = |output| match output {
                Output::Reply { result, .. } => Some(result),
                _ => None,
            };
            staged.into_iter().filter_map(reply).collect()
        };
        run(&mut state, vec![Command::OpenTopic { ticket }]);
        run(&mut state, vec![say("short", topic)]);
        let short = state.outbox_bytes;
        // Room for exactly one more of the same length.
        state.outbox_bytes = MAX_OUTBOX_BYTES - short;
        let replies =
            run(&mut state, vec![say(&"long".repeat(1000), topic), say("again", topic), say("third", topic)]);
        assert!(matches!(replies[0], Err(CommandError::OutboxFull)), "{replies:?}");
        assert!(matches!(replies[1], Ok(Reply::Published(_))), "at the limit: {replies:?}");
        assert!(matches!(replies[2], Err(CommandError::OutboxFull)), "past it: {replies:?}");
        state.outbox_bytes = 0;
        state.outbox_rows = MAX_OUTBOX_ROWS - 1;
        let replies = run(&mut state, vec![say("last", topic), say("one more", topic)]);
        assert!(matches!(replies[..], [Ok(_), Err(CommandError::OutboxFull)]), "{replies:?}");
    }
}
