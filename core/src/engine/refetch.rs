//! Reading again what there was no room to keep waiting: pages of history, one at a time, once the log is at hand.
//!
//! Asking for a page of a subscribed topic says no more than the subscription does: which part of the log a device
//! had to read twice follows from the log, not from what the device wrote. It is asked for in the one form that looks
//! have, too (look.rs): what lies above the range comes along and is passed over.

use bytes::Bytes;

use super::event::Event;
use super::io::Output;
use super::jobs::{OpenJob, OpenedOp, OpenedPage, Work};
use super::receive::{News, Reading, context};
use super::state::State;
use crate::entropy::Entropy;
use crate::identity::{Millis, NodeId};
use crate::store::{SeqRange, StoreError, Tx};
use crate::sync::backoff::{doubled, jitter};
use crate::sync::history::{HistoryPage, HistoryRequest};
use crate::sync::session::{ConnId, Cursor, Fault, MAX_RETRY_AFTER_MS};
use crate::topic::{Generation, Seq, TopicId};

/// Operations asked for at once, by whoever asks: as many as one transaction takes.
pub const PAGE_LIMIT: u16 = 256;
/// Time the driver has for a page, milliseconds.
pub const FETCH_TIMEOUT_MS: u64 = 120_000;
/// Cap of the pause after a page that brought nothing, milliseconds.
pub const FETCH_RETRY_MIN_MS: u64 = 1_000;
/// Cap that this pause grows to, milliseconds.
pub const FETCH_RETRY_MAX_MS: u64 = 60 * 60_000;

/// When a topic's ranges are looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refetch {
    /// Not before this instant; `None`: there is nothing to read again.
    at: Option<Millis>,
    /// On the way through the ranges: only above this seq.
    after: Seq,
    /// Pages in a row that brought nothing.
    fruitless: u32,
}

impl Refetch {
    /// There may be something to read again, unless it is known when to look next.
    pub(super) fn wish(&mut self, now: Millis) {
        self.at.get_or_insert(now);
    }

    /// The log is at hand again, or the network changed: waiting ends.
    pub(super) const fn hurry(&mut self, now: Millis) {
        self.at = Some(now);
        self.fruitless = 0;
    }

    /// Whether nothing is to be read again, as far as is known.
    pub(super) const fn is_idle(&self) -> bool {
        self.at.is_none()
    }

    fn fruitless(&mut self, now: Millis, floor_ms: u64, entropy: &mut dyn Entropy) {
        let cap = doubled(FETCH_RETRY_MIN_MS, self.fruitless, FETCH_RETRY_MAX_MS);
        self.fruitless = self.fruitless.saturating_add(1);
        self.at = Some(now.plus((cap / 2 + jitter(cap / 2, entropy)).max(floor_ms)));
    }
}

/// A page of history on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetching {
    pub(super) conn: ConnId,
    pub(super) topic: TopicId,
    /// The relay of its tunnel.
    pub(super) relay: Option<NodeId>,
    generation: Generation,
    range: SeqRange,
    deadline: Millis,
}

impl State {
    /// When a topic wants [`State::refetch`] to run.
    pub(super) fn refetch_due(&self, id: TopicId) -> Option<Millis> {
        match &self.fetching {
            Some(fetching) if fetching.topic == id => Some(fetching.deadline),
            // Whoever ends it wakes the others.
            Some(_) => None,
            None => {
                let topic = self.topics.get(&id).filter(|topic| topic.is_live())?;
                topic.refetch.at
            }
        }
    }

    /// Asks for the next page of what a topic must read again.
    pub(super) fn refetch(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        id: TopicId,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        if let Some(Fetching { conn, .. }) =
            self.fetching.filter(|fetching| fetching.topic == id && fetching.deadline <= now)
        {
            staged.push(Output::Disconnect { conn });
            self.fetch_ended(now, conn, 0, entropy);
        }
        if self.fetching.is_some() || self.refetch_due(id).is_none_or(|at| at > now) {
            return Ok(());
        }
        let Some(network) = &self.network else { return Ok(()) };
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(()) };
        let Some(Cursor { generation, resets, .. }) = topic.cursor else { return Ok(()) };
        let mut range = tx.next_refetch(id, &generation, resets, topic.refetch.after)?;
        if range.is_none() && topic.refetch.after > Seq(0) {
            topic.refetch.after = Seq(0);
            range = tx.next_refetch(id, &generation, resets, Seq(0))?;
        }
        let Some(mut range) = range else {
            topic.refetch.at = None;
            return Ok(());
        };
        range.to = range.to.min(Seq(range.from.0.saturating_add(u64::from(PAGE_LIMIT) - 1)));
        let server = network.server.url.as_str().into();
        let via = self.tunnel_for(id, now);
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let request = HistoryRequest { topic: id, after: range.from.previous(), limit: PAGE_LIMIT };
        let deadline = now.plus(FETCH_TIMEOUT_MS);
        let relay = via.as_ref().map(|via| via.relay);
        self.fetching = Some(Fetching { conn, topic: id, relay, generation, range, deadline });
        staged.push(Output::Fetch { conn, server, via, request });
        Ok(())
    }

    /// Looks at a page: its form, and whether it is the one asked for.
    pub(super) fn triage_page(
        &mut self,
        now: Millis,
        message: Bytes,
        entropy: &mut dyn Entropy,
        outputs: &mut std::collections::VecDeque<Output>,
    ) -> Vec<OpenJob> {
        let Some(fetching) = self.fetching else { return Vec::new() };
        let Fetching { conn, topic: id, .. } = fetching;
        let Some(topic) = self.topics.get(&id) else { return Vec::new() };
        let page = HistoryPage::decode(&message).map_err(Fault::from);
        match page.and_then(|page| fetching.check(&page).map(|()| page)) {
            Ok(mut page) => {
                page.ops.retain(|op| op.seq <= fetching.range.to);
                let (keys, authors) = (topic.keys.clone(), self.authors.clone());
                vec![OpenJob { conn, topic: id, keys, authors, work: Work::Page(page) }]
            }
            Err(fault) => {
                outputs.push_back(Output::Event(Event::ServerFault { topic: id, fault }));
                outputs.push_back(Output::Disconnect { conn });
                self.fetch_ended(now, conn, 0, entropy);
                self.reschedule(id);
                Vec::new()
            }
        }
    }

    /// Takes the operations of a page.
    pub(super) fn receive_page(
        &mut self,
        tx: &mut Tx<'_>,
        now: Millis,
        entropy: &mut dyn Entropy,
        (conn, id): (ConnId, TopicId),
        page: OpenedPage,
        staged: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let Some(fetching) = self.fetching.filter(|fetching| fetching.conn == conn) else { return Ok(()) };
        let Some(cursor) = self.topics.get(&id).and_then(|topic| topic.cursor) else { return Ok(()) };
        let Fetching { generation, range, .. } = fetching;
        // Another copy of the log is read now, or is about to be: nothing of this one counts any more.
        if (cursor.generation, cursor.resets) != (generation, range.resets) || page.generation != generation {
            self.fetch_ended(now, conn, 0, entropy);
            return Ok(());
        }
        let mut news = News::default();
        let mut fruitful = false;
        let mut last = range.from.previous();
        if page.tail > range.from {
            let evicted = SeqRange { to: range.to.min(page.tail.previous()), ..range };
            tx.remove_refetch(id, evicted)?;
            tx.add_gap(id, evicted.resets, evicted.from, evicted.to)?;
            news.events.push(Event::Gap { topic: id, from: evicted.from, to: evicted.to });
            (fruitful, last) = (true, evicted.to);
        }
        for op in page.ops {
            let seq = op.seq;
            if !was_sent_before(tx, id, &cursor, &op)? {
                news.events.push(Event::ServerFault { topic: id, fault: Fault::History(seq) });
                break;
            }
            fruitful |= self.take_again(tx, now, id, &Cursor { seq, ..cursor }, op, &mut news)?;
            last = seq;
        }
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.refetch.after = last;
            if fruitful {
                topic.refetch.hurry(now);
            } else {
                topic.refetch.fruitless(now, 0, entropy);
            }
        }
        self.fetching = None;
        self.wake_refetches();
        news.tell(tx, id, staged)
    }

    /// Takes one operation of a page; `false`: there was no room for it again.
    fn take_again(
        &mut self,
        tx: &Tx<'_>,
        now: Millis,
        id: TopicId,
        at: &Cursor,
        op: OpenedOp,
        news: &mut News,
    ) -> Result<bool, StoreError> {
        let Some(topic) = self.topics.get(&id) else { return Ok(false) };
        let context = context(topic, id, at, op.received, now);
        tx.remove_refetch(id, SeqRange { resets: at.resets, from: at.seq, to: at.seq })?;
        let kept = self.take_operation(tx, &context, op.hash, op.opened, Reading::Again, news)?;
        self.retry_direct(tx, now, news)?;
        Ok(kept)
    }

    /// A fetch is over. Unless its page was taken, it is tried again after a while.
    pub(super) fn fetch_ended(
        &mut self,
        now: Millis,
        conn: ConnId,
        retry_after_ms: u64,
        entropy: &mut dyn Entropy,
    ) {
        let Some(fetching) = self.fetching.take_if(|fetching| fetching.conn == conn) else { return };
        if let Some(topic) = self.topics.get_mut(&fetching.topic) {
            topic.refetch.fruitless(now, retry_after_ms.min(MAX_RETRY_AFTER_MS), entropy);
        }
        self.wake_refetches();
    }

    /// The next topic's turn.
    pub(super) fn wake_refetches(&mut self) {
        let waiting = self.topics.iter().filter(|(_, topic)| topic.refetch.at.is_some());
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.touched.insert(id);
            self.reschedule(id);
        }
    }
}

impl Fetching {
    /// Whether a page of this generation holds what was asked for, in order and without holes: from the first seq
    /// still kept, and at least that one. (A page of another generation is looked at later.)
    fn check(&self, page: &HistoryPage) -> Result<(), Fault> {
        if page.generation != self.generation {
            return Ok(());
        }
        if page.head > Seq::MAX || page.tail > Seq(page.head.0.saturating_add(1)) {
            return Err(Fault::HeadTooLarge(page.head.max(page.tail)));
        }
        let mut next = Some(self.range.from.max(page.tail));
        for op in &page.ops {
            if next != Some(op.seq) || op.seq > page.head {
                return Err(Fault::Page);
            }
            next = op.seq.next();
        }
        let evicted = page.tail > self.range.to;
        let none = page.ops.first().is_none_or(|op| op.seq > self.range.to);
        if none == evicted && page.ops.len() <= usize::from(PAGE_LIMIT) { Ok(()) } else { Err(Fault::Page) }
    }
}

/// Whether an operation of a page is the one the server sent before at its place, as far as the chain was kept.
fn was_sent_before(tx: &Tx<'_>, id: TopicId, cursor: &Cursor, op: &OpenedOp) -> Result<bool, StoreError> {
    let chain = |seq| tx.chain_at(id, &cursor.generation, cursor.resets, seq);
    Ok(match (chain(op.seq.previous())?, chain(op.seq)?) {
        (Some(before), Some(here)) => before.next(op.seq, &op.hash) == here,
        _ => true,
    })
}
