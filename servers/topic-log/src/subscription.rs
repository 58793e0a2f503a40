//! One subscriber's place in a topic log: what it gets first, what it still lacks, when a signed head is due.
//!
//! A subscription is nothing but a cursor. Replay and live operations come through the same cursor, so none is
//! missed and none comes twice, whatever was accepted while the replay ran.

use delta_core::identity::Millis;
use delta_core::limits::MAX_ENVELOPE;
use delta_core::sync::frame::Frame;
use delta_core::topic::{Chain, Generation, Seq, TopicId};

use crate::storage::{LogReader, LogView};

/// Live operations after which a signed head follows.
pub const HEAD_AFTER_OPS: u32 = 256;
/// Silence after a live operation until a signed head follows, milliseconds.
pub const HEAD_AFTER_SILENCE_MS: u64 = 30_000;

/// Where a client says it stands: the query of the subscribe request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The last seq it has; 0 for none.
    pub since: Seq,
    /// The generation it knows; absent for a client of the original protocol or a first visit.
    pub generation: Option<Generation>,
    /// The first 8 bytes of its chain at `since`; only with a generation.
    pub chain: Option<[u8; 8]>,
}

/// What a subscription needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Retained operations after this seq.
    Replay(Seq),
    /// The `ready` frame.
    Ready,
    /// Live operations after this seq, once there are any.
    Live(Seq),
}

/// A subscriber's state.
#[derive(Clone, Debug)]
pub struct Subscription {
    topic: TopicId,
    generation: Generation,
    cursor: Seq,
    chain: Chain,
    replay_to: Seq,
    ready: bool,
    live_since_head: u32,
    last_live: Option<Millis>,
}

impl Subscription {
    /// Decides what a client at `cursor` gets first: `hello`, then `reset` and `gap` where they apply. The caller
    /// registers the subscriber before it reads the log, so that nothing falls between.
    ///
    /// # Errors
    /// The storage failed.
    pub fn open<R: LogReader + ?Sized>(
        reader: &R,
        view: &LogView,
        topic: TopicId,
        cursor: &Cursor,
        now: Millis,
    ) -> Result<(Self, Vec<Frame>), R::Error> {
        let LogView { generation, head, tail, .. } = *view;
        let max_op = MAX_ENVELOPE as u32;
        let mut frames = vec![Frame::Hello { generation, head, tail, server_time: now, max_op }];
        let mut from = cursor.since;
        if must_reset(reader, view, &topic, cursor)? {
            frames.push(Frame::Reset { generation, head });
            from = Seq(0);
        }
        let before_tail = tail.previous();
        let at = from.max(before_tail);
        // Rows up to the head keep their chain even when evicted; a hole would be a damaged storage.
        let chain = view.chain_at(reader, &topic, at)?.unwrap_or(view.chain);
        if from < before_tail {
            frames.push(Frame::Gap { from: Seq(from.0.saturating_add(1)), to: before_tail, chain });
        }
        let this = Self {
            topic,
            generation,
            cursor: at,
            chain,
            replay_to: head,
            ready: false,
            live_since_head: 0,
            last_live: None,
        };
        Ok((this, frames))
    }

    /// What to fetch or send next.
    pub fn next(&self) -> Next {
        match (self.ready, self.cursor < self.replay_to) {
            (true, _) => Next::Live(self.cursor),
            (false, true) => Next::Replay(self.cursor),
            (false, false) => Next::Ready,
        }
    }

    /// The `ready` frame is about to be sent.
    pub fn set_ready(&mut self) {
        self.ready = true;
    }

    /// Whether `ready` was sent.
    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// `count` operations up to `last`, where the chain is `chain`, are about to be sent.
    pub fn sent(&mut self, last: Seq, chain: Chain, count: u32, now: Millis) {
        debug_assert!(last > self.cursor, "operations sent twice");
        self.cursor = last;
        self.chain = chain;
        if self.ready {
            self.live_since_head = self.live_since_head.saturating_add(count);
            self.last_live = Some(now);
        }
    }

    /// The `gap` frame needed when the next retained operation is `first` (its predecessors were evicted while
    /// this subscriber was behind); moves the cursor past it.
    pub fn skip_to(&mut self, first: Seq, chain_before: Chain) -> Option<Frame> {
        let (from, to) = (self.cursor.next()?, first.previous());
        if to < from {
            return None;
        }
        self.cursor = to;
        self.chain = chain_before;
        Some(Frame::Gap { from, to, chain: chain_before })
    }

    /// Whether a signed head is due: enough live operations, or silence after some.
    pub fn head_due(&self, now: Millis) -> bool {
        self.live_since_head >= HEAD_AFTER_OPS || self.head_deadline().is_some_and(|deadline| deadline <= now)
    }

    /// When silence will make a head due.
    pub fn head_deadline(&self) -> Option<Millis> {
        self.last_live.map(|last| last.plus(HEAD_AFTER_SILENCE_MS))
    }

    /// The `head` frame is about to be sent.
    pub fn head_sent(&mut self) {
        self.live_since_head = 0;
        self.last_live = None;
    }

    /// The topic.
    pub const fn topic(&self) -> &TopicId {
        &self.topic
    }

    /// The log's generation.
    pub const fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The last seq sent (or skipped).
    pub const fn cursor(&self) -> Seq {
        self.cursor
    }

    /// The chain value at the cursor.
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }
}

fn must_reset<R: LogReader + ?Sized>(
    reader: &R,
    view: &LogView,
    topic: &TopicId,
    cursor: &Cursor,
) -> Result<bool, R::Error> {
    let foreign = cursor.generation.is_some_and(|generation| generation != view.generation);
    if cursor.since > view.head || foreign {
        return Ok(true);
    }
    match cursor.chain {
        Some(prefix) if cursor.since >= view.tail.previous() => {
            let ours = view.chain_at(reader, topic, cursor.since)?;
            Ok(ours.is_some_and(|chain| chain.prefix() != prefix))
        }
        _ => Ok(false),
    }
}
