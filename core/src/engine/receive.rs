//! Receiving: opened steps become rows, in the server's order; what a reset lost is delivered again.

use super::accountability::Claim;
use super::direct::DirectStep;
use super::event::Event;
use super::ingest::{self, Context, Ingested, Settled};
use super::io::Output;
use super::jobs::{Opened, OpenedKind, OpenedStep, open_envelope};
use super::keeping::is_about_keys;
use super::refetch::Refetch;
use super::state::{State, Topic};
use crate::entropy::Entropy;
use crate::identity::{EnvelopeHash, Millis, OperationId};
use crate::limits::{MAX_BATCH, MAX_OUTBOX_ROWS, MAX_REJECTED};
use crate::ops::Content;
use crate::projector::Change;
use crate::store::{NewOutboxRow, Origin, OutboxRemoved, PendingReason, StoreError, Tx};
use crate::sync::backoff::jitter;
use crate::sync::session::{ConnId, Cursor};
use crate::topic::{Chain, Seq, TopicId};

/// Shortest pause between a reset and delivering again, milliseconds.
pub const REDELIVERY_MIN_MS: u64 = 10_000;
/// Longest pause between a reset and delivering again, milliseconds.
pub const REDELIVERY_MAX_MS: u64 = 120_000;
/// Most operations delivered again at once: one shared packet's worth.
pub const REDELIVERY_CHUNK: u64 = MAX_BATCH as u64;
/// Longest pause between two chunks, milliseconds: time to see what others have delivered meanwhile.
pub const REDELIVERY_PAUSE_MS: u64 = 2_000;

/// How long an operation waits for its predecessor before it becomes an anchor above a hole, milliseconds: longer
/// than it takes a group to begin delivering again after a reset.
pub const PREDECESSOR_WAIT_MS: u64 = 5 * 60_000;

/// Whether and when a topic's lost operations are delivered again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Redelivery {
    /// Not looked yet whether the log at hand lacks something.
    #[default]
    Unknown,
    /// Nothing is lacking in the log after this many resets.
    Done { resets: u32 },
    /// A chunk of what was missing goes out at this instant.
    Due { at: Millis, missing: Vec<OperationId> },
}

impl Redelivery {
    pub(super) const fn poll_timeout(&self) -> Option<Millis> {
        match self {
            Self::Due { at, .. } => Some(*at),
            Self::Unknown | Self::Done { .. } => None,
        }
    }
}

/// What one batch brought, merged into as few events as possible.
#[derive(Default)]
pub(super) struct News {
    pub(super) changes: Vec<Change>,
    acknowledged: Vec<(OperationId, Seq)>,
    pub(super) events: Vec<Event>,
    /// What authors say to have seen, to be compared once the log up to here is written down.
    claims: Vec<Claim>,
}

impl News {
    pub(super) fn tell(
        mut self,
        tx: &Tx<'_>,
        id: TopicId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        for claim in std::mem::take(&mut self.claims) {
            claim.compare(tx, &mut self)?;
        }
        self.changes.extend(tx.settle_positions()?);
        staged.extend(self.events.into_iter().map(Output::Event));
        let acknowledged = self.acknowledged.into_iter();
        staged.extend(
            acknowledged
                .map(|(operation, seq)| Output::Event(Event::Acknowledged { topic: id, operation, seq })),
        );
        if !self.changes.is_empty() {
            staged.push(Output::Event(Event::Changed { topic: id, changes: Change::merge(self.changes) }));
        }
        Ok(())
    }
}

/// The chain values a batch passes, to be written in runs.
#[derive(Default)]
struct Chains {
    last: Option<Cursor>,
    run: Vec<Chain>,
}

impl Chains {
    fn add(&mut self, tx: &Tx<'_>, id: TopicId, cursor: &Cursor) -> Result<(), StoreError> {
        let same = |last: &Cursor| (last.generation, last.resets) == (cursor.generation, cursor.resets);
        match self.last.filter(same) {
            Some(last) if last.seq == cursor.seq => return Ok(()),
            Some(last) if last.seq.next() == Some(cursor.seq) => {}
            _ => self.write(tx, id)?,
        }
        self.last = Some(*cursor);
        self.run.push(cursor.chain);
        Ok(())
    }

    fn write(&mut self, tx: &Tx<'_>, id: TopicId) -> Result<(), StoreError> {
        match self.last.take() {
            Some(last) => tx.put_chains(id, &last, &std::mem::take(&mut self.run)),
            None => Ok(()),
        }
    }
}

impl State {
    /// Takes opened steps into the transaction.
    pub(super) fn receive(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        (conn, id): (ConnId, TopicId),
        steps: Vec<OpenedStep>,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        self.touched.insert(id);
        let mut news = News::default();
        let mut reached = None;
        let mut chains = Chains::default();
        for step in steps {
            let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
            let Some(session) = topic.session.as_mut().filter(|session| session.conn() == Some(conn)) else {
                // An older connection's leftovers: the new one started from the stored cursor and brings them again.
                break;
            };
            if !follows(topic.cursor, &step) || topic.rejected > MAX_REJECTED {
                session.give_up(now, conn, entropy);
                break;
            }
            let cursor = step.cursor;
            if matches!(step.kind, OpenedKind::Op { .. } | OpenedKind::Gap { .. }) {
                chains.add(tx, id, &cursor)?;
            }
            let moves = !matches!(step.kind, OpenedKind::Signal(_));
            self.take(tx, now, entropy, id, step, &mut news)?;
            if !moves {
                continue;
            }
            reached = Some(cursor);
            if let Some(topic) = self.topics.get_mut(&id) {
                topic.cursor = reached;
            }
        }
        if !news.changes.is_empty() {
            self.catch_up_reading(tx, id, &mut news)?;
        }
        chains.write(tx, id)?;
        if let Some(cursor) = reached {
            tx.set_cursor(id, &cursor)?;
        }
        news.tell(tx, id, staged)
    }

    fn take(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        step: OpenedStep,
        news: &mut News,
    ) -> Result<(), StoreError> {
        let OpenedStep { cursor, kind } = step;
        match kind {
            OpenedKind::Reset => {
                news.events.push(Event::Reset { topic: id });
                tx.remove_old_refetches(id, cursor.resets)?;
                if self.blobs.carry(&id) {
                    tx.send_blob_again(id)?;
                }
                if let Some(topic) = self.topics.get_mut(&id) {
                    // The first of several that are not settled yet: what came between may have been made up.
                    topic.before_reset = topic.before_reset.or(topic.cursor);
                    topic.redelivery = Redelivery::Unknown;
                    topic.refetch = Refetch::default();
                }
            }
            OpenedKind::Gap { from, to } => {
                tx.add_gap(id, cursor.resets, from, to)?;
                news.events.push(Event::Gap { topic: id, from, to });
            }
            OpenedKind::Head(head) => {
                tx.set_head(id, &cursor, &head)?;
                if let Some(topic) = self.topics.get_mut(&id) {
                    topic.observed.verified(&cursor, &head);
                }
            }
            OpenedKind::Ready(head) => {
                tx.set_head(id, &cursor, &head)?;
                let settled = ingest::settle_ready(tx, id)?;
                news.events.extend(settled.forked(id));
                news.changes.extend(settled.changes);
                self.plan_redelivery(tx, now, entropy, id, &cursor)?;
                self.upkeep.claims = true;
                self.hears_again(tx, now, id)?;
                // All that a rotation may wait for was read.
                if let Some(log) = self.topics.get(&id).map(|topic| topic.keys.log())
                    && self.waiting.contains(&log)
                {
                    tx.note_space_news(log);
                }
                if let Some(topic) = self.topics.get_mut(&id) {
                    (topic.caught_up, topic.was_live) = (true, true);
                    let relay = topic.tunnel.as_ref().map(|tunnel| tunnel.relay);
                    relay.iter().for_each(|relay| self.tunnels.worked(relay));
                    topic.observed.verified(&cursor, &head);
                    topic.refetch.hurry(now);
                    topic.await_predecessors(tx, id, now)?;
                    // The server is within reach again: what waited for that may go.
                    tx.outbox_requeue(&topic.outbox.hurry(now))?;
                }
            }
            OpenedKind::Signal(signal) => self.hear(tx, id, signal, news)?,
            OpenedKind::Op { hash, received, opened } => {
                let Some(topic) = self.topics.get(&id) else { return Ok(()) };
                let context = context(topic, id, &cursor, received, now);
                self.take_operation(tx, &context, hash, opened, Reading::First, news)?;
                self.retry_direct(tx, now, news)?;
            }
        }
        Ok(())
    }

    /// Takes one operation. `false`: there is no room to keep it; it is noted to be read (again).
    pub(super) fn take_operation(
        &mut self,
        tx: &Tx<'_>,
        context: &Context,
        hash: EnvelopeHash,
        opened: Opened,
        reading: Reading,
        news: &mut News,
    ) -> Result<bool, StoreError> {
        let (id, now) = (context.topic, context.now);
        if self.topics.get(&id).is_some_and(|topic| topic.keys.is_inbox()) {
            return self.take_inbox(tx, context, opened, news).map(|()| true);
        }
        // What is fetched is kept as a blob alone.
        if self.blobs.carry(&id)
            && let Opened::Verified(operation) = &opened
        {
            return self.take_chunk(tx, id, operation).map(|()| true);
        }
        let mut opened = opened;
        // What stands after the close is not part of the log, and acknowledges nothing.
        if self.is_closed_before(context) {
            let Some(topic) = self.topics.get(&id) else { return Ok(true) };
            if let Opened::Own { envelope } = opened {
                opened = open_envelope(&topic.keys, &self.authors, envelope);
            }
            if let Opened::Verified(operation) = &opened
                && self.comes_after_close(tx, context, operation)?
            {
                Self::ignore_after_close(tx, id)?;
                return Ok(true);
            }
        }
        let (mut rotation, mut keys) = (None, false);
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(true) };
        let mut own = None;
        if let Some(row) = topic.outbox.find(&hash)
            && let Some(OutboxRemoved { operation, origin, len }) = tx.outbox_remove(row)?
        {
            let arrived = topic.outbox.acknowledge(&hash, now).and_then(|acknowledged| acknowledged.path);
            if let Some(path) = arrived {
                self.routes.report_delivery(&path, true, now);
            }
            self.outbox_rows = self.outbox_rows.saturating_sub(1);
            self.outbox_bytes = self.outbox_bytes.saturating_sub(u64::from(len));
            own = Some(operation);
            if origin == Origin::Own {
                news.acknowledged.push((operation, context.seq));
            }
            self.keeping.acknowledged(topic.keys.log(), now);
        }
        // What a fork took out of the own log is taken like anyone's: its bytes say where the log ends elsewhere.
        let placed = own.map(|operation| ingest::place(tx, context, &operation)).transpose()?.flatten();
        let opened = match opened {
            Opened::Own { envelope } if placed.is_none() => {
                open_envelope(&topic.keys, &self.authors, envelope)
            }
            other => other,
        };
        let (opened, placed) = match (opened, placed) {
            (Opened::Direct { envelope }, None) => match self.open_direct(tx, context, &hash, &envelope)? {
                DirectStep::Operation(operation) => (Opened::Verified(operation), None),
                DirectStep::Known(operation) => {
                    let placed = ingest::place(tx, context, &operation)?;
                    (Opened::Direct { envelope }, placed)
                }
                DirectStep::Waits(kept) => return Ok(kept),
                DirectStep::Dropped(why) => return tx.count_dropped(id, why).map(|()| true),
                DirectStep::Rejected => {
                    if let Some(topic) = self.topics.get_mut(&id) {
                        topic.rejected = topic.rejected.saturating_add(1);
                    }
                    return tx.count_dropped(id, "direct").map(|()| true);
                }
            },
            other => other,
        };
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(true) };
        let ingested = match (opened, placed) {
            (_, Some(placed)) => placed,
            (Opened::Own { .. } | Opened::Direct { .. }, None) => return Ok(true),
            (Opened::Verified(operation), None) => {
                news.claims.extend(Claim::of(context, &operation));
                let ingested = match reading {
                    Reading::First => ingest::ingest(tx, context, &operation)?,
                    Reading::Again => ingest::ingest_again(tx, context, &operation)?,
                };
                if !matches!(ingested, Ingested::Refused(_)) {
                    Self::learn(tx, &operation, now, &mut self.own_news)?;
                    self.upkeep.claims |= matches!(operation.body().content, Content::DeviceBundle(_));
                    rotation = Some(operation);
                    keys = rotation.as_ref().is_some_and(|it| is_about_keys(&it.body().content));
                }
                ingested
            }
            (Opened::Rejected(why), None) => {
                topic.rejected = topic.rejected.saturating_add(1);
                tx.count_dropped(id, why.code())?;
                return Ok(true);
            }
        };
        match ingested {
            Ingested::Stored { changes } => news.changes.extend(changes),
            Ingested::Forked { author, log, changes, .. } => {
                news.changes.extend(changes);
                news.events.push(Event::Forked { topic: id, author, log });
                topic.await_predecessors(tx, id, now)?;
                // A delete that counts no longer: what it erased is to be read again, wherever in the log it stands.
                for id in self.by_log.topics(&log) {
                    self.touched.insert(id);
                    if let Some(topic) = self.topics.get_mut(&id) {
                        topic.refetch.wish(now);
                    }
                }
            }
            Ingested::Pending(PendingReason::Predecessor) => {
                topic.overdue_at.get_or_insert(now.plus(PREDECESSOR_WAIT_MS));
            }
            Ingested::Pending(PendingReason::Refetch) => {
                topic.refetch.wish(now);
                return Ok(false);
            }
            Ingested::Duplicate { .. } | Ingested::Pending(_) => {}
            Ingested::Refused(why) => {
                topic.rejected = topic.rejected.saturating_add(1);
                tx.count_dropped(id, why.code())?;
            }
        }
        let receipt = context.receipt();
        if keys {
            self.hurry_log_of(tx, now, id)?;
        }
        match (rotation, own) {
            (Some(operation), _) => {
                self.take_past(tx, now, id, &operation, news)?;
                self.hear_own(tx, now, id, &operation, news)?;
                self.take_rotation(tx, &receipt, &operation, news, now)?;
            }
            (None, Some(operation)) => self.own_was_placed(tx, &receipt, &operation, news, now)?,
            (None, None) => {}
        }
        Ok(true)
    }

    /// What has waited long enough for its predecessor no longer does. Only where the log is at hand: elsewhere the
    /// predecessor may be the next thing to come, and `ready` starts the wait again.
    pub(super) fn settle_overdue(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        id: TopicId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        if topic.overdue_at.is_none_or(|at| at > now) {
            return Ok(());
        }
        topic.overdue_at = None;
        if !topic.is_live() {
            return Ok(());
        }
        let settled = ingest::settle_overdue(tx, id)?;
        if settled.more {
            topic.overdue_at = Some(now);
        } else if !settled.forks.is_empty() {
            topic.await_predecessors(tx, id, now)?;
        }
        staged.extend(settled.forked(id).map(Output::Event));
        let mut changes = settled.changes;
        changes.extend(tx.settle_positions()?);
        if !changes.is_empty() {
            staged.push(Output::Event(Event::Changed { topic: id, changes }));
        }
        Ok(())
    }

    /// At `ready` after a reset: draws when to look whether the new log lacks something.
    fn plan_redelivery(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        cursor: &Cursor,
    ) -> Result<(), StoreError> {
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        // Nobody but their senders can make the envelopes of an inbox again.
        if cursor.resets == 0 || topic.keys.write_key().is_none() || topic.keys.is_inbox() {
            return Ok(());
        }
        if topic.redelivery == (Redelivery::Done { resets: cursor.resets }) {
            return Ok(());
        }
        let missing = lacking(tx, topic.keys.is_direct(), id, cursor)?;
        topic.redelivery = if missing.is_empty() {
            topic.before_reset = None;
            Redelivery::Done { resets: cursor.resets }
        } else {
            let spread = jitter(REDELIVERY_MAX_MS - REDELIVERY_MIN_MS, entropy);
            Redelivery::Due { at: now.plus(REDELIVERY_MIN_MS + spread), missing }
        };
        topic.look_after_reset(now);
        Ok(())
    }

    /// Puts a random chunk of what the log at hand lacks into the outbox, without regard to author: delivering our
    /// own first would name us.
    pub(super) fn redeliver(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
    ) -> Result<(), StoreError> {
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        let (live, room) = (topic.is_live(), self.outbox_rows < MAX_OUTBOX_ROWS);
        let direct = topic.keys.is_direct();
        let (Redelivery::Due { at, missing }, Some(cursor)) = (&mut topic.redelivery, topic.cursor) else {
            return Ok(());
        };
        // Not live: the next `ready` looks again. Until then no timer runs for it.
        if *at > now || !live || topic.look.holds_redelivery() {
            return Ok(());
        }
        *at = now.plus(1 + jitter(REDELIVERY_PAUSE_MS, entropy));
        let (queued, sent) = topic.outbox.counts();
        if (queued + sent) as u64 > REDELIVERY_CHUNK || !room {
            return Ok(());
        }
        let mut chunk = Vec::new();
        for _ in 0..=jitter(REDELIVERY_CHUNK - 1, entropy) {
            let Some(last) = missing.len().checked_sub(1) else { break };
            chunk.push(missing.swap_remove(jitter(last as u64, entropy) as usize));
        }
        // The list is through and everything of it has arrived: is there anything else?
        if chunk.is_empty() && topic.outbox.is_empty() {
            let rest = lacking(tx, direct, id, &cursor)?;
            *missing = rest;
            if missing.is_empty() {
                topic.before_reset = None;
                topic.redelivery = Redelivery::Done { resets: cursor.resets };
            }
        }
        for operation in chunk {
            self.put_redelivery(tx, now, id, cursor.resets, operation)?;
        }
        Ok(())
    }

    /// Puts one operation into the outbox, unless it has appeared meanwhile or is there already.
    fn put_redelivery(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        resets: u32,
        operation: OperationId,
    ) -> Result<(), StoreError> {
        let Some(topic) = self.topics.get(&id) else { return Ok(()) };
        if tx.place_of(&operation)?.is_none_or(|stored| stored.place.resets >= resets) {
            return Ok(());
        }
        let Some((header, body)) = tx.operation_bytes(&operation)? else { return Ok(()) };
        let envelopes = match topic.keys.seal(&header, &body) {
            Ok(envelope) => vec![envelope],
            Err(_) => tx.direct_envelopes(&operation)?,
        };
        for envelope in envelopes {
            let Some(topic) = self.topics.get(&id) else { return Ok(()) };
            let hash = EnvelopeHash::of(&envelope);
            // With a full outbox it comes later: what is missing is looked for again once the list is through.
            if topic.outbox.find(&hash).is_some() || !self.outbox_has_room(envelope.len()) {
                continue;
            }
            let (envelope, origin) = (envelope.as_slice(), Origin::Redelivery);
            let new = NewOutboxRow { topic: id, operation, hash, envelope, origin, not_before: now };
            let row = tx.outbox_push(&new)?;
            self.add_outbox_row(id, row, hash, envelope.len(), now);
        }
        Ok(())
    }
}

/// What the log at hand lacks and this device can deliver: of a direct thread its own envelopes, which nobody else can
/// make.
fn lacking(tx: &Tx<'_>, direct: bool, id: TopicId, cursor: &Cursor) -> Result<Vec<OperationId>, StoreError> {
    let missing = tx.missing_after_reset(id, &cursor.generation, cursor.resets)?;
    if !direct {
        return Ok(missing);
    }
    let mut own = Vec::new();
    for operation in missing {
        if !tx.direct_envelopes(&operation)?.is_empty() {
            own.push(operation);
        }
    }
    Ok(own)
}

impl Topic {
    /// What waits for a predecessor does so for a while and not for ever.
    fn await_predecessors(&mut self, tx: &Tx<'_>, id: TopicId, now: Millis) -> Result<(), StoreError> {
        if tx.pending_count(id)?.predecessor > 0 {
            self.overdue_at.get_or_insert(now.plus(PREDECESSOR_WAIT_MS));
        }
        Ok(())
    }
}

impl Settled {
    /// The logs that turned out to be forked, as news for the app.
    fn forked(&self, topic: TopicId) -> impl Iterator<Item = Event> + use<> {
        self.forks.clone().into_iter().map(move |(author, log)| Event::Forked { topic, author, log })
    }
}

/// Whether a step comes directly after the stored cursor. The session saw to that; a step that does not means
/// that something between it and here was lost, and nothing after it may be stored.
fn follows(stored: Option<Cursor>, step: &OpenedStep) -> bool {
    let new = step.cursor;
    let base = match (&step.kind, stored) {
        (OpenedKind::Reset, _) => return new.seq == Seq(0),
        (_, None) => Seq(0),
        (_, Some(old)) if (old.generation, old.resets) == (new.generation, new.resets) => old.seq,
        (_, Some(_)) => return false,
    };
    match &step.kind {
        OpenedKind::Op { .. } => base.next() == Some(new.seq),
        OpenedKind::Gap { from, to } => base.next() == Some(*from) && new.seq == *to,
        OpenedKind::Ready(_) | OpenedKind::Head(_) | OpenedKind::Signal(_) => new.seq == base,
        OpenedKind::Reset => true,
    }
}

/// Whether an operation comes for the first time or was let go before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// In the log's order.
    First,
    /// From history, when everything after it is here.
    Again,
}

pub(super) fn context(topic: &Topic, id: TopicId, cursor: &Cursor, received: Millis, now: Millis) -> Context {
    Context {
        topic: id,
        log: topic.keys.log(),
        epoch: topic.keys.epoch(),
        generation: cursor.generation,
        resets: cursor.resets,
        seq: cursor.seq,
        received,
        now,
    }
}
