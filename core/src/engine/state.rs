//! What the engine keeps in memory: topics, sessions, outboxes, timers. All of it can be loaded again from the store.

mod load;
mod topic;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;

use super::blobs::Blobs;
use super::clock::ClockSkew;
use super::delivery::MAX_HANDOVERS;
use super::direct::Unblocked;
use super::event::Event;
use super::freshness::Freshness;
use super::hints::Hints;
use super::io::{Input, Network, Output};
use super::jobs::{OpenJob, OpenedBatch, OpenedWork, TriagedStep, Work};
use super::keeping::Keeping;
use super::own::OwnNews;
use super::pairings::Pairings;
use super::refetch::Fetching;
use super::sending::Cover;
use super::slots::Slots;
use super::topics::ByLog;
use super::upkeep::Upkeep;
use crate::entropy::Entropy;
use crate::identity::{Author, Identity, LogId, Millis};
use crate::onion::route::{Routes, Tunnels};
use crate::ops::{AuthorKeys, DeviceKey};
use crate::store::{StoreError, Tx};
use crate::sync::outbox::{AttemptId, Outbox, Path};
use crate::sync::session::{ConnId, Session, StepKind, Transmit};
use crate::topic::TopicId;
use crate::tree::{Map, Set};

pub(super) use topic::{BLIND_RETRY_MS, Topic};

/// Envelopes of one [`OpenJob`]: small enough to spread a frame over all cores.
const JOB_STEPS: usize = 64;
/// Under which name the entry guards are stored.
const GUARDS_SETTING: &str = "guards";

#[derive(Debug)]
pub(super) struct State {
    pub(super) device: DeviceKey,
    pub(super) network: Option<Network>,
    pub(super) server_key: Option<VerifyingKey>,
    pub(super) topics: BTreeMap<TopicId, Topic>,
    /// Where each conversation lives and lived.
    pub(super) by_log: ByLog,
    /// Spaces in whose rooms rotations stand that wait for something.
    pub(super) waiting: Set<LogId>,
    /// When to judge again what waits in a topic for word of who made an earlier rotation there.
    pub(super) undecided: BTreeSet<(Millis, TopicId)>,
    pub(super) keeping: Keeping,
    /// Packets whose POST is not answered yet, with their entry relay.
    pub(super) attempts: HashMap<AttemptId, Sent>,
    pub(super) routes: Routes,
    pub(super) tunnels: Tunnels,
    pub(super) outbox_rows: usize,
    pub(super) outbox_bytes: u64,
    /// Ordered, so that the same inputs give the same outputs.
    pub(super) conns: Map<ConnId, TopicId>,
    pub(super) authors: AuthorKeys,
    /// The page of history on its way: one at a time.
    pub(super) fetching: Option<Fetching>,
    wakeups: BTreeSet<(Millis, TopicId)>,
    /// Topics with a packet ready for which [`super::delivery::MAX_HANDOVERS`] leaves no place, the longest waiting first.
    pub(super) handover_queue: VecDeque<TopicId>,
    hints: Hints,
    pub(super) cover: Cover,
    pub(super) freshness: Freshness,
    pub(super) slots: Slots,
    /// The conversation of the person's devices.
    pub(super) own: Option<LogId>,
    pub(super) own_news: OwnNews,
    pub(super) pairings: Pairings,
    pub(super) blobs: Blobs,
    pub(super) upkeep: Upkeep,
    pub(super) unblocked: Unblocked,
    /// What the batch at hand changed that the store does not hold, as it was before.
    pub(super) before: Before,
    /// Operations leave in the batch at hand that never left before.
    pub(super) first_sent: bool,
    /// How far the clock is from the server's, as the app was told.
    pub(super) clock_skew: Option<ClockSkew>,
    /// The batch at hand wiped a conversation.
    pub(super) wiped: bool,
    /// Topics to look at before the batch commits.
    pub(super) touched: BTreeSet<TopicId>,
    pub(super) next_conn: u64,
    pub(super) next_attempt: u64,
}

/// A packet whose POST is not answered yet.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) kind: SentKind,
    /// Its relays, the entry first.
    pub(super) path: Path,
}

/// What a packet is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum SentKind {
    /// Operations of a topic, or its control.
    Outbox(TopicId),
    /// A signal of a topic.
    Signal(TopicId),
    /// Nothing.
    Cover,
}

/// See [`State::before`].
#[derive(Debug, Default)]
pub(super) struct Before {
    pub(super) subscribed: Vec<(TopicId, bool)>,
    pub(super) network: Option<Option<Network>>,
}

impl State {
    pub(super) fn author(&self) -> Author {
        self.device.author()
    }

    /// Whose device this is.
    pub(super) fn identity(&self) -> Identity {
        self.device.certificate().map_or_else(|| self.author().into(), |certificate| certificate.identity)
    }

    pub(super) fn next_wakeup(&self) -> Option<Millis> {
        let topics = self.wakeups.first().map(|(at, _)| *at);
        let upkeep = [self.cover.due, self.freshness.due, self.upkeep.check_at, self.upkeep.repeat_at];
        let upkeep = upkeep.into_iter().flatten();
        let upkeep = upkeep.filter(|_| !self.topics.is_empty());
        let keeping = self.keeping.poll_timeout().filter(|_| !self.topics.is_empty());
        let timers = self.hints.due.into_iter().chain(self.slots.poll_timeout()).chain(keeping);
        let timers = timers.chain(self.pairings.poll_timeout()).chain(self.blobs.poll_timeout());
        let timers = timers.chain(self.undecided.first().map(|(at, _)| *at));
        topics.into_iter().chain(upkeep).chain(timers).min()
    }

    /// Before a batch: what it changes beside the store can be taken back if it is not committed.
    pub(super) fn begin(&mut self) {
        self.before = Before::default();
        self.first_sent = false;
        self.wiped = false;
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
        if self.triage_look(now, conn, id, &message) {
            return Vec::new();
        }
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
                    jobs.push(OpenJob {
                        conn,
                        topic: id,
                        keys: keys.clone(),
                        authors: self.authors.clone(),
                        work,
                    });
                }
            }
            Err(fault) => outputs.push_back(Output::Event(Event::ServerFault { topic: id, fault })),
        }
        let server_time = session.take_server_time();
        let mut staged = Vec::new();
        self.publish_session(id, &mut staged);
        self.blobs.hide(&mut staged);
        outputs.extend(staged);
        self.reschedule(id);
        if let Some(server) = server_time {
            self.heard_clock(now, id, server, outputs);
        }
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
                self.disconnected(now, conn, retry_after_ms, entropy);
            }
            Input::TunnelFailed { conn, retry_after_ms } => {
                let pause_ms = self.tunnel_failed(now, conn, retry_after_ms);
                self.disconnected(now, conn, pause_ms, entropy);
            }
            Input::Refused { conn, unreadable } => {
                self.refused(now, conn, unreadable, entropy, staged);
                self.conns.remove(&conn);
            }
            Input::Posted { attempt, handover } => {
                self.posted(tx, now, entropy, attempt, handover, staged)?;
            }
            Input::NetworkChanged => self.hints.hint(now),
            Input::RecordsRenewed { ok } => self.freshness.ended(ok, now, entropy),
            Input::Sealed(sealed) => self.take_sealed(tx, now, entropy, sealed, staged)?,
            Input::Timeout => {}
        }
        Ok(())
    }

    /// A connection or an exchange is over.
    fn disconnected(&mut self, now: Millis, conn: ConnId, retry_after_ms: u64, entropy: &mut dyn Entropy) {
        if let Some((_, session)) = self.session_of(conn) {
            session.handle_disconnected(now, conn, retry_after_ms, entropy);
        }
        if let Some(id) = self.conns.remove(&conn) {
            self.look_ended(now, id, conn);
        }
        self.fetch_ended(now, conn, retry_after_ms, entropy);
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
        self.tend_pairings(tx, now, staged)?;
        self.tend_own(tx, now, staged)?;
        self.judge_undecided(tx, now, staged)?;
        self.tend_blobs(tx, now, staged)?;
        self.tend_spaces(tx, now, staged)?;
        self.keep_up(tx, now, entropy, staged)?;
        self.keep_spaces(tx, now, entropy, staged)?;
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
            self.look(tx, now, entropy, id, staged)?;
            self.refetch(tx, now, entropy, id, staged)?;
            self.reschedule(id);
        }
        self.settle_cover(now, entropy, staged);
        self.renew_records(now, entropy, staged);
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
        self.freshness.hurry(now);
        self.tunnels.network_changed();
        for (id, topic) in &mut self.topics {
            if let Some(session) = topic.session.as_mut() {
                session.network_changed(now);
                topic.caught_up = false;
            }
            tx.outbox_requeue(&topic.outbox.hurry(now))?;
            if !topic.refetch.is_idle() {
                topic.refetch.hurry(now);
            }
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
        let has_ended = self.has_ended(id, now);
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let Some(server) = self.server_key else { return };
        // What is in another's inbox is not for this device, and its own is read through a tunnel alone.
        let hidden = match topic.keys.inbox_of() {
            None => !topic.keys.is_inbox(),
            Some(_) => !self.hides_reading() || self.tunnel_for(id, now).is_some(),
        };
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let wanted = hidden && (topic.subscribed && !has_ended || !topic.outbox.is_empty());
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
            // Silence may as well be the relay's.
            let relay = topic.tunnel.as_ref().map(|tunnel| tunnel.relay);
            relay.into_iter().for_each(|relay| self.tunnels.failed(relay, 0, now));
        }
        let conn = session.conn();
        if conn == Some(fresh) {
            self.next_conn += 1;
            topic.rejected = 0;
            topic.caught_up = false;
            let tunnel = self.tunnel_to_connect(id, now, entropy);
            if let Some(topic) = self.topics.get_mut(&id) {
                topic.tunnel = tunnel;
            }
        }
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let waits = conn.is_none();
        if self.slots.is_polling(&id) && (waits || topic.is_live()) {
            self.slots.polled(id, now);
            if let Some(session) = topic.session.as_mut() {
                session.stop();
            }
        }
    }

    /// Topics that lost their socket close it before the one that got it connects.
    pub(super) fn make_room(&mut self, id: TopicId, changed: Vec<TopicId>, staged: &mut Vec<Output>) {
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
    pub(super) fn publish_session(&mut self, id: TopicId, staged: &mut Vec<Output>) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let Some(session) = topic.session.as_mut() else { return };
        while let Some(transmit) = session.poll_transmit() {
            staged.push(match transmit {
                Transmit::Connect { conn, request } => {
                    let Some(network) = &self.network else { continue };
                    self.conns.insert(conn, id);
                    let (server, via) = (network.server.url.as_str().into(), topic.tunnel.clone());
                    Output::Connect { conn, server, via, request }
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
        let live = topic.is_live() || topic.keys.is_foreign_inbox();
        let outbox = match (topic.blocked.is_some(), live) {
            (true, _) => topic.blocked_until,
            (false, _) if topic.waits_for_handover => topic.outbox.poll_due(),
            (false, _) if topic.look.holds_retries() => topic.outbox.poll_timeout(false),
            (false, true) => topic.outbox.poll_timeout(true),
            (false, false) => {
                let blind = topic.outbox.poll_timeout(true).map(|at| at.max(topic.blind_until));
                blind.into_iter().chain(topic.outbox.poll_timeout(false)).min()
            }
        };
        let redelivery =
            topic.redelivery.poll_timeout().filter(|_| topic.is_live() && !topic.look.holds_redelivery());
        let refetch = self.refetch_due(id);
        let at = session.into_iter().chain(outbox).chain(redelivery).chain(topic.overdue_at).chain(refetch);
        let at = at.chain(topic.signals.poll_timeout()).chain(topic.look.poll_timeout()).min();
        self.schedule(id, at);
    }

    /// A topic that nothing is read of or sent to any more.
    pub(super) fn drop_topic(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        tx.remove_topic(id)?;
        self.leave_topic(tx, now, id, staged)
    }

    pub(super) fn schedule(&mut self, id: TopicId, at: Option<Millis>) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        if let Some(old) = std::mem::replace(&mut topic.wakeup, at) {
            self.wakeups.remove(&(old, id));
        }
        self.wakeups.extend(at.map(|at| (at, id)));
    }
}

fn is_own(outbox: &Outbox, kind: &StepKind) -> bool {
    matches!(kind, StepKind::Op { hash, .. } if outbox.find(hash).is_some())
}
