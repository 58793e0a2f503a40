//! Looking at a topic's log from elsewhere: through a tunnel on a relay that no socket of this device uses.
//!
//! *Before a retry*: a server that hides an echo from its sender alone, and then sees the same envelope delivered a
//! second time, has found the sender. So an author looks first whether the envelope is there. It reads what anyone
//! reads (`ops` after its cursor), one topic on a connection of its own, after a random pause, because only an author
//! has reason to ask. It looks for every row that may have arrived, however its packet or its process ended, and
//! whether or not its own connection is up. Without such a relay it skips the look: sending again is safe, if not as
//! quiet.
//!
//! *After a reset*: a server that tells one device that its log is gone, while others still read it, wants to see what
//! the device delivers again.

use bytes::Bytes;

use super::event::Event;
use super::io::Output;
use super::jobs::Opened;
use super::receive::{News, Reading, Redelivery, context};
use super::refetch::PAGE_LIMIT;
use super::state::{State, Topic};
use crate::entropy::Entropy;
use crate::identity::{EnvelopeHash, Millis, NodeId};
use crate::store::{StoreError, Tx};
use crate::sync::backoff::jitter;
use crate::sync::frame::SequencedOp;
use crate::sync::history::{HistoryPage, HistoryRequest};
use crate::sync::session::{ConnId, Cursor};
use crate::topic::{Chain, Seq, TopicId};

/// Shortest pause before a look, milliseconds.
pub const LOOK_MIN_MS: u64 = 5_000;
/// Longest pause before a look, milliseconds.
pub const LOOK_MAX_MS: u64 = 60_000;
/// How long a look may take, milliseconds; then it is done without.
pub const LOOK_TIMEOUT_MS: u64 = 30_000;
/// How long an echo may still take after a look has found the envelope, milliseconds: it may be on its way.
pub const ECHO_GRACE_MS: u64 = 10_000;
/// Envelopes asked for with one `has`.
pub const MAX_HASHES: usize = 256;
/// Relays through which a look is tried before it is done without an answer: one refusal must not end it.
pub const MAX_LOOKS: usize = 3;
/// How far before the place where this device stands (or stood, before a reset) a look begins at most; how far is drawn.
/// Whoever kept something back from one device there does not see that very place asked for, and after a reset the old
/// log has something to be compared by.
pub const LOOK_BACK: u64 = 16;

/// A look of one topic.
#[derive(Debug, Default)]
pub(super) enum Look {
    #[default]
    None,
    Due {
        at: Millis,
        purpose: Purpose,
    },
    Asking {
        conn: ConnId,
        relay: NodeId,
        purpose: Purpose,
        after: Seq,
        deadline: Millis,
    },
    /// Envelopes of this device stand above the cursor.
    Found {
        at: Millis,
        resets: u32,
        ops: Vec<SequencedOp>,
    },
    /// Which of the envelopes that were sent to another device's inbox stand there.
    Has {
        seqs: Vec<(EnvelopeHash, Seq)>,
    },
    /// What another view shows after a reset, to be compared with what is stored.
    Seen {
        old: Cursor,
        after: Seq,
        page: HistoryPage,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Rows are about to be sent again.
    Retry,
    /// The log was reset; this is where the device stood in the old one.
    Reset(Cursor),
}

impl Look {
    /// Nothing is sent again before it is over.
    pub(super) const fn holds_retries(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Nothing is delivered again before it is over.
    pub(super) const fn holds_redelivery(&self) -> bool {
        !matches!(self, Self::None) && !self.is_for_retry()
    }

    const fn is_for_retry(&self) -> bool {
        matches!(
            self,
            Self::Due { purpose: Purpose::Retry, .. }
                | Self::Asking { purpose: Purpose::Retry, .. }
                | Self::Found { .. }
                | Self::Has { .. }
        )
    }

    pub(super) const fn poll_timeout(&self) -> Option<Millis> {
        match self {
            Self::None => None,
            Self::Due { at, .. } | Self::Found { at, .. } => Some(*at),
            Self::Asking { deadline, .. } => Some(*deadline),
            Self::Seen { .. } | Self::Has { .. } => Some(Millis(0)),
        }
    }

    pub(super) const fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Asking { conn, .. } => Some(*conn),
            _ => None,
        }
    }

    /// The relay it goes through now.
    pub(super) const fn relay(&self) -> Option<NodeId> {
        match self {
            Self::Asking { relay, .. } => Some(*relay),
            _ => None,
        }
    }
}

impl Topic {
    /// After a reset the old log is looked for, if it is known where this device stood in it.
    pub(super) fn look_after_reset(&mut self, now: Millis) {
        let Redelivery::Due { .. } = self.redelivery else { return };
        let free = self.look.is_for_retry() || matches!(self.look, Look::None | Look::Due { .. });
        if let Some(old) = self.before_reset.filter(|old| free && old.seq > Seq(0)) {
            self.looked_through.clear();
            self.look = Look::Due { at: now, purpose: Purpose::Reset(old) };
        }
    }
}

impl State {
    /// Rows may have arrived, and are to be sent again: the topic looks before that. `false`: it cannot.
    pub(super) fn wish_look(&mut self, now: Millis, entropy: &mut dyn Entropy, id: TopicId) -> bool {
        let wanted = self.network.as_ref().is_some_and(|network| network.look_before_retry);
        let Some(topic) = self.topics.get_mut(&id) else { return false };
        if !matches!(topic.look, Look::None) {
            return true;
        }
        topic.looked_through.clear();
        // What went to another's inbox is acknowledged by nothing else.
        let foreign = topic.keys.is_foreign_inbox();
        if !foreign && (!wanted || topic.cursor.is_none() || self.fresh_tunnel(id, true, now).is_none()) {
            return false;
        }
        let at = now.plus(LOOK_MIN_MS + jitter(LOOK_MAX_MS - LOOK_MIN_MS, entropy));
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.look = Look::Due { at, purpose: Purpose::Retry };
        }
        true
    }

    /// Does what is due of a topic's look.
    pub(super) fn look(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        let over = topic.look.poll_timeout().is_some_and(|at| at <= now);
        // A reset is told anew by the next connection; what may have arrived is looked for without any.
        let stays = topic.is_live() || topic.look.is_for_retry();
        if !stays || (over && topic.look.conn().is_some()) {
            if let Some(conn) = topic.look.conn() {
                staged.push(Output::Disconnect { conn });
                self.conns.remove(&conn);
            }
            if stays { self.unanswered(now, id) } else { self.end_look(id) }
        }
        if !over {
            return Ok(());
        }
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        match std::mem::take(&mut topic.look) {
            Look::Due { purpose, .. } => self.ask(now, entropy, id, purpose, staged),
            Look::Found { resets, ops, .. } => self.found(tx, now, entropy, id, resets, ops, staged)?,
            Look::Seen { old, after, page } => self.compare(tx, id, &old, after, &page, staged)?,
            Look::Has { seqs } => self.take_has(tx, now, id, seqs, staged)?,
            Look::None | Look::Asking { .. } => {}
        }
        self.touched.insert(id);
        Ok(())
    }

    fn ask(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        purpose: Purpose,
        staged: &mut Vec<Output>,
    ) {
        let retry = purpose == Purpose::Retry;
        if self.topics.get(&id).is_some_and(|topic| topic.keys.is_foreign_inbox()) {
            return self.ask_has(now, id, staged);
        }
        let via = self.fresh_tunnel(id, retry, now);
        let (Some(via), Some(network)) = (via, &self.network) else { return };
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let (queued, sent) = topic.outbox.counts();
        let stands_at = match (purpose, topic.cursor) {
            (Purpose::Retry, Some(cursor)) if queued + sent > 0 => cursor.seq,
            (Purpose::Retry, _) => return,
            (Purpose::Reset(old), _) => old.seq,
        };
        let back = 1 + entropy.below(LOOK_BACK).unwrap_or(LOOK_BACK - 1);
        let after = Seq(stands_at.0.saturating_sub(back));
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.conns.insert(conn, id);
        let deadline = now.plus(LOOK_TIMEOUT_MS);
        topic.look = Look::Asking { conn, relay: via.relay, purpose, after, deadline };
        topic.looked_through.push(via.relay);
        if retry {
            topic.outbox.looked();
        }
        let request = HistoryRequest { topic: id, after, limit: PAGE_LIMIT };
        let server = network.server.url.as_str().into();
        staged.push(Output::Fetch { conn, server, via: Some(via), request });
    }

    /// Asks for what was sent to another's inbox. Better through a relay that a socket of this device uses than not at
    /// all: nothing else acknowledges it. Where nothing is read through tunnels this is not, either.
    fn ask_has(&mut self, now: Millis, id: TopicId, staged: &mut Vec<Output>) {
        let Some(server) = self.network.as_ref().map(|network| network.server.url.as_str().into()) else {
            return;
        };
        let via = self.fresh_tunnel(id, true, now).or_else(|| self.fresh_tunnel(id, false, now));
        let via = via.or_else(|| self.tunnel_for(id, now));
        let Some(topic) = self.topics.get_mut(&id) else { return };
        topic.asked = topic.outbox.tried(MAX_HASHES);
        if topic.asked.is_empty() {
            return;
        }
        let body = topic.asked.iter().flat_map(|hash| hash.0).collect::<Vec<u8>>();
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.conns.insert(conn, id);
        // Directly: no relay's.
        let relay = via.as_ref().map_or(NodeId([0; 32]), |via| via.relay);
        let deadline = now.plus(LOOK_TIMEOUT_MS);
        topic.look = Look::Asking { conn, relay, purpose: Purpose::Retry, after: Seq(0), deadline };
        topic.looked_through.extend(via.as_ref().map(|via| via.relay));
        topic.outbox.looked();
        staged.push(Output::Has { conn, server, via, topic: id, body: body.into() });
    }

    /// Takes a message if it is the page that a look asked for.
    pub(super) fn triage_look(&mut self, now: Millis, conn: ConnId, id: TopicId, message: &Bytes) -> bool {
        let Some(topic) = self.topics.get_mut(&id) else { return false };
        let Look::Asking { conn: asking, relay, purpose, after, .. } = topic.look else { return false };
        if asking != conn {
            return false;
        }
        self.tunnels.worked(&relay);
        if topic.keys.is_foreign_inbox() {
            match seqs(&topic.asked, message) {
                Some(seqs) => topic.look = Look::Has { seqs },
                None => self.unanswered(now, id),
            }
            self.touched.insert(id);
            self.reschedule(id);
            return true;
        }
        let page = HistoryPage::decode(message).ok().filter(|page| follows(page, after));
        let answer = match (page, purpose, topic.cursor) {
            (Some(page), Purpose::Reset(old), _) => Some(Look::Seen { old, after, page }),
            (Some(page), Purpose::Retry, Some(cursor)) if page.generation == cursor.generation => {
                let outbox = &topic.outbox;
                let is_own = |op: &SequencedOp| outbox.find(&EnvelopeHash::of(&op.op)).is_some();
                let ops: Vec<_> = page.ops.into_iter().filter(is_own).collect();
                Some(match ops.is_empty() {
                    true => Look::None,
                    false => Look::Found { at: now.plus(ECHO_GRACE_MS), resets: cursor.resets, ops },
                })
            }
            // What is no answer says nothing.
            _ => None,
        };
        match answer {
            Some(look) => topic.look = look,
            None => self.unanswered(now, id),
        }
        self.touched.insert(id);
        self.reschedule(id);
        true
    }

    /// The exchange of a look is over; without a page it has shown nothing.
    pub(super) fn look_ended(&mut self, now: Millis, id: TopicId, conn: ConnId) {
        if self.topics.get(&id).is_some_and(|topic| topic.look.conn() == Some(conn)) {
            self.unanswered(now, id);
        }
    }

    /// A look has brought nothing: it is tried through another relay, a few times.
    fn unanswered(&mut self, now: Millis, id: TopicId) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let Look::Asking { purpose, .. } = std::mem::take(&mut topic.look) else { return };
        self.touched.insert(id);
        let again = topic.looked_through.len() < MAX_LOOKS;
        if again
            && self.fresh_tunnel(id, purpose == Purpose::Retry, now).is_some()
            && let Some(topic) = self.topics.get_mut(&id)
        {
            topic.look = Look::Due { at: now, purpose };
        }
    }

    /// What waited for it may go on.
    fn end_look(&mut self, id: TopicId) {
        if let Some(topic) = self.topics.get_mut(&id)
            && !matches!(topic.look, Look::None)
        {
            topic.look = Look::None;
            self.touched.insert(id);
        }
    }

    /// What was found and has still not come was kept back: it is acknowledged, and the topic read anew.
    #[allow(clippy::too_many_arguments, reason = "the engine's usual ones, and what was found")]
    fn found(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        resets: u32,
        ops: Vec<SequencedOp>,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let mut news = News::default();
        let mut first = None;
        for SequencedOp { seq, received, op } in ops {
            let Some(topic) = self.topics.get(&id) else { return Ok(()) };
            let hash = EnvelopeHash::of(&op);
            let Some(cursor) = topic.cursor.filter(|cursor| cursor.resets == resets && cursor.seq < seq)
            else {
                continue;
            };
            if topic.outbox.find(&hash).is_none() {
                continue;
            }
            let context = context(topic, id, &Cursor { seq, ..cursor }, received, now);
            let opened = Opened::Own { envelope: op };
            self.take_operation(tx, &context, hash, opened, Reading::First, &mut news)?;
            first.get_or_insert(seq);
        }
        // Without a connection nothing was kept back on it.
        if let Some(seq) = first
            && let Some(topic) = self.topics.get_mut(&id)
            && topic.is_live()
        {
            news.events.push(Event::ServerWithholds { topic: id, seq });
            // Through another relay the server does not know whom it wants to hide it from.
            let relay = topic.tunnel.as_ref().map(|tunnel| tunnel.relay);
            relay.into_iter().for_each(|relay| self.tunnels.failed(relay, 0, now));
            if let Some(session) = topic.session.as_mut()
                && let Some(conn) = session.conn()
            {
                session.give_up(now, conn, entropy);
                topic.caught_up = false;
            }
            self.publish_session(id, staged);
        }
        news.tell(tx, id, staged)
    }

    /// Compares another view of the log with the one this device knew before the reset.
    fn compare(
        &mut self,
        tx: &Tx<'_>,
        id: TopicId,
        old: &Cursor,
        after: Seq,
        page: &HistoryPage,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let base = tx.chain_at(id, &old.generation, old.resets, after)?;
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        let Some(new) = topic.cursor else { return Ok(()) };
        if shows(page, old, after, base, &new) {
            topic.redelivery = Redelivery::Done { resets: new.resets };
            staged.push(Output::Event(Event::FalseReset { topic: id, old: *old, new }));
        } else {
            topic.before_reset = None;
        }
        Ok(())
    }
}

/// The answer to `has`: a seq for each hash, in order.
fn seqs(asked: &[EnvelopeHash], answer: &Bytes) -> Option<Vec<(EnvelopeHash, Seq)>> {
    let (answers, rest) = answer.as_chunks::<8>();
    let whole = rest.is_empty() && answers.len() == asked.len();
    let seq = |bytes: &[u8; 8]| Seq(u64::from_be_bytes(*bytes)).min(Seq::MAX);
    whole.then(|| asked.iter().copied().zip(answers.iter().map(seq)).collect())
}

/// Whether a page has no holes from the first operation above `after` that is still kept.
fn follows(page: &HistoryPage, after: Seq) -> bool {
    let mut next = after.next().map(|next| next.max(page.tail));
    page.ops.iter().all(|op| {
        let follows = next == Some(op.seq) && op.seq <= page.head;
        next = op.seq.next();
        follows
    })
}

/// Whether the page is of the log as this device knew it up to `old`.
fn shows(page: &HistoryPage, old: &Cursor, after: Seq, base: Option<Chain>, new: &Cursor) -> bool {
    if page.generation != old.generation || page.head < old.seq {
        return false;
    }
    let starts = page.ops.first().map(|op| op.seq) == after.next();
    let Some(base) = base.filter(|_| starts) else {
        // Evicted, or not kept here: then only that it is the old copy, and not the new one, says something.
        return page.generation != new.generation;
    };
    let known = page.ops.iter().take_while(|op| op.seq <= old.seq);
    known.fold(base, |chain, op| chain.next(op.seq, &EnvelopeHash::of(&op.op))) == old.chain
}
