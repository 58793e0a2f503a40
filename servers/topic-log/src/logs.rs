//! The writing side: append without holes or doubles, and the same logic driven as a whole in one thread.

use std::collections::HashMap;

use delta_core::identity::{EnvelopeHash, Millis};
use delta_core::limits::MAX_ENVELOPE;
use delta_core::onion::deliver::{self, DeliverError};
use delta_core::sync::frame::{Frame, SequencedOp};
use delta_core::topic::{Chain, Generation, Seq, SignedHead, TopicId};
use ed25519_dalek::SigningKey;
use thiserror::Error;

use crate::generation::GenerationSecret;
use crate::storage::{Inserted, LogState, LogStorage, LogView, NewRow, StoredOp, TopicFacts};
use crate::subscription::{Cursor, Next, Subscription};

/// Log states kept in memory between commits; above it all are forgotten and read again when needed.
const MAX_CACHED_STATES: usize = 65_536;

/// Who authorised a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The topic's write key (deliver content).
    Signed,
    /// Nobody: a version 2 relay, or a direct publish in a test of the original protocol.
    Unsigned,
}

/// Where an operation is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its seq.
    pub seq: Seq,
    /// `false` for a duplicate: it has had this seq for long and is not pushed again.
    pub fresh: bool,
    /// When it was received; for a duplicate, now.
    pub received: Millis,
    /// The chain value at `seq`; for a duplicate, at the head.
    pub chain: Chain,
}

/// A write was refused; nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AppendError<E> {
    /// An operation has no bytes. The sender is at fault.
    #[error("an operation is empty")]
    Empty,
    /// An operation is above 1 MiB. The sender is at fault.
    #[error("an operation has {0} bytes; the largest has {MAX_ENVELOPE}")]
    TooLarge(usize),
    /// An unsigned write to a topic that has had a signed one.
    #[error("the topic takes signed writes only")]
    SignedTopic,
    /// The topic was deleted or blocked.
    #[error("the topic is closed")]
    Closed,
    /// The log has reached the last seq there is.
    #[error("the log is full")]
    Full,
    /// The storage failed: everything since the last commit is undone.
    #[error("storage: {0}")]
    Storage(E),
}

/// Deliver content was refused; nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeliveryRefused<E> {
    /// The content is malformed, not authorised, or of a kind this server does not take.
    #[error(transparent)]
    Content(#[from] DeliverError),
    /// Its operations were refused.
    #[error(transparent)]
    Append(#[from] AppendError<E>),
}

/// What a delivery did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The topic.
    pub topic: TopicId,
    /// A place for each operation, in order.
    pub placed: Vec<Placed>,
}

/// All topic logs of a server, written by one owner.
#[derive(Debug)]
pub struct TopicLogs<S> {
    storage: S,
    secret: GenerationSecret,
    /// Heads as staged: what the storage will say after the commit.
    states: HashMap<TopicId, Cached>,
    open: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cached {
    pub(crate) state: LogState,
    chain: Chain,
}

impl<S: LogStorage> TopicLogs<S> {
    /// Over a storage and the generation secret that was made with it.
    pub fn new(storage: S, secret: GenerationSecret) -> Self {
        Self { storage, secret, states: HashMap::new(), open: false }
    }

    /// The storage.
    pub const fn storage(&self) -> &S {
        &self.storage
    }

    /// The storage, for a shell's own upkeep. Logs must be changed through this type only.
    pub const fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// The storage back, without what was staged.
    pub fn into_storage(mut self) -> S {
        self.rollback();
        self.storage
    }

    /// The generation of a topic.
    pub fn generation(&self, topic: &TopicId) -> Generation {
        self.secret.generation(topic)
    }

    /// Stages operations of one topic, in order; `placed` gets one entry for each. Nobody may hear of them before
    /// [`commit`](Self::commit). All are taken or none.
    ///
    /// # Errors
    /// Nothing was staged. After [`AppendError::Storage`], everything since the last commit is undone as well.
    pub fn append(
        &mut self,
        now: Millis,
        topic: &TopicId,
        ops: &[&[u8]],
        write: Write,
        placed: &mut Vec<Placed>,
    ) -> Result<(), AppendError<S::Error>> {
        for op in ops {
            match op.len() {
                0 => return Err(AppendError::Empty),
                1..=MAX_ENVELOPE => {}
                len => return Err(AppendError::TooLarge(len)),
            }
        }
        let before = placed.len();
        let staged = self.stage(now, topic, ops, write, placed);
        if let Err(error) = &staged {
            placed.truncate(before);
            if matches!(error, AppendError::Storage(_)) {
                self.rollback();
            }
        }
        staged
    }

    fn stage(
        &mut self,
        now: Millis,
        topic: &TopicId,
        ops: &[&[u8]],
        write: Write,
        placed: &mut Vec<Placed>,
    ) -> Result<(), AppendError<S::Error>> {
        let Cached { mut state, mut chain } = self.cached(topic).map_err(AppendError::Storage)?;
        match write {
            _ if state.closed.is_some() => return Err(AppendError::Closed),
            Write::Unsigned if state.signed => return Err(AppendError::SignedTopic),
            _ if state.head.0 > Seq::MAX.0 - ops.len() as u64 => return Err(AppendError::Full),
            _ => {}
        }
        self.begin().map_err(AppendError::Storage)?;
        if write == Write::Signed && !state.signed {
            self.storage.mark_signed(topic).map_err(AppendError::Storage)?;
            state.signed = true;
        }
        for op in ops {
            let hash = EnvelopeHash::of(op);
            let seq = state.head.next().ok_or(AppendError::Full)?;
            let received = now.max(state.received);
            let bytes = state.bytes.saturating_add(op.len() as u64);
            let row = NewRow { seq, received, hash, chain: chain.next(seq, &hash), bytes, op };
            match self.storage.insert(topic, &row).map_err(AppendError::Storage)? {
                Inserted::Fresh => {
                    chain = row.chain;
                    state = LogState { head: seq, chain: Some(chain), received, bytes, ..state };
                    placed.push(Placed { seq, fresh: true, received, chain });
                }
                Inserted::Duplicate(seq) => placed.push(Placed { seq, fresh: false, received: now, chain }),
            }
        }
        self.states.insert(*topic, Cached { state, chain });
        Ok(())
    }

    /// Makes everything staged durable. Only then may anyone hear of it.
    ///
    /// # Errors
    /// Everything staged is undone.
    pub fn commit(&mut self) -> Result<(), S::Error> {
        if !self.open {
            return Ok(());
        }
        let committed = self.storage.commit();
        match &committed {
            Ok(()) => self.open = false,
            Err(_) => self.rollback(),
        }
        if self.states.len() > MAX_CACHED_STATES {
            self.states.clear();
        }
        committed
    }

    /// Undoes everything staged.
    pub fn rollback(&mut self) {
        if std::mem::take(&mut self.open) {
            self.storage.rollback();
        }
        self.states.clear();
    }

    /// Stages the eviction of a topic's operations up to a seq (at most the head). Their hashes, chain values and
    /// times stay.
    ///
    /// # Errors
    /// The storage failed; everything since the last commit is undone.
    pub fn evict(&mut self, topic: &TopicId, up_to: Seq) -> Result<(), S::Error> {
        let evicted = self.try_evict(topic, up_to);
        if evicted.is_err() {
            self.rollback();
        }
        evicted
    }

    pub(crate) fn try_evict(&mut self, topic: &TopicId, up_to: Seq) -> Result<(), S::Error> {
        let mut cached = self.cached(topic)?;
        let up_to = up_to.min(cached.state.head);
        if up_to < cached.state.tail {
            return Ok(());
        }
        self.begin()?;
        self.storage.evict(topic, up_to)?;
        cached.state.tail = Seq(up_to.0.saturating_add(1));
        self.states.insert(*topic, cached);
        Ok(())
    }

    /// Forgets what is cached of the storage: another connection has changed it. Nothing may be staged.
    pub fn reload(&mut self) {
        debug_assert!(!self.open, "staged operations would lose their heads");
        self.states.clear();
    }

    /// The state of a log as staged.
    ///
    /// # Errors
    /// The storage failed.
    pub fn state(&mut self, topic: &TopicId) -> Result<LogState, S::Error> {
        self.cached(topic).map(|cached| cached.state)
    }

    /// Stages what was said about a topic.
    pub(crate) fn stage_facts(&mut self, topic: &TopicId, facts: &TopicFacts) -> Result<(), S::Error> {
        let mut cached = self.cached(topic)?;
        self.begin()?;
        self.storage.set_facts(topic, facts)?;
        cached.state.closed = facts.closed;
        self.states.insert(*topic, cached);
        Ok(())
    }

    pub(crate) fn cached(&mut self, topic: &TopicId) -> Result<Cached, S::Error> {
        if let Some(cached) = self.states.get(topic) {
            return Ok(*cached);
        }
        let state = self.storage.state(topic)?.unwrap_or(LogState::EMPTY);
        let chain = state.chain.unwrap_or_else(|| Chain::start(topic, &self.secret.generation(topic)));
        let cached = Cached { state, chain };
        self.states.insert(*topic, cached);
        Ok(cached)
    }

    fn begin(&mut self) -> Result<(), S::Error> {
        if !self.open {
            self.storage.begin()?;
            self.open = true;
        }
        Ok(())
    }
}

/// The whole server in one thread: what the simulation and mock servers drive. Real shells do these steps on
/// threads of their own.
impl<S: LogStorage> TopicLogs<S> {
    /// Checks deliver content, appends its operations and commits. On `Ok` subscribers may be polled.
    ///
    /// # Errors
    /// Nothing of the content is stored.
    pub fn deliver(&mut self, now: Millis, content: &[u8]) -> Result<Delivered, DeliveryRefused<S::Error>> {
        let delivery = deliver::verify(content)?;
        let ops = delivery.operations()?;
        let mut placed = Vec::with_capacity(ops.len());
        self.append(now, &delivery.topic, &ops, Write::Signed, &mut placed)?;
        self.commit().map_err(AppendError::Storage)?;
        Ok(Delivered { topic: delivery.topic, placed })
    }

    /// A topic's log as a client sees it.
    ///
    /// # Errors
    /// The storage failed.
    pub fn view(&self, topic: &TopicId) -> Result<LogView, S::Error> {
        LogView::read(&self.storage, &self.secret, topic)
    }

    /// A new subscriber and its first frames; [`poll`](Self::poll) gives the others.
    ///
    /// # Errors
    /// The storage failed.
    pub fn subscribe(
        &self,
        now: Millis,
        topic: TopicId,
        cursor: &Cursor,
    ) -> Result<(Subscription, Vec<Frame>), S::Error> {
        Subscription::open(&self.storage, &self.view(&topic)?, topic, cursor, now)
    }

    /// The next frame for a subscriber, `None` when there is nothing to send now. Poll again after every commit
    /// and at [`Subscription::head_deadline`].
    ///
    /// # Errors
    /// The storage failed.
    pub fn poll(
        &self,
        now: Millis,
        subscription: &mut Subscription,
        key: &SigningKey,
    ) -> Result<Option<Frame>, S::Error> {
        let head = |subscription: &Subscription| {
            let (topic, generation) = (subscription.topic(), subscription.generation());
            SignedHead::sign(key, topic, generation, subscription.cursor(), *subscription.chain())
        };
        match subscription.next() {
            Next::Ready => {
                subscription.set_ready();
                Ok(Some(Frame::Ready(head(subscription))))
            }
            Next::Live(_) if subscription.head_due(now) => {
                let frame = Frame::Head(head(subscription));
                subscription.head_sent();
                Ok(Some(frame))
            }
            Next::Live(after) | Next::Replay(after) => self.page(now, subscription, after),
        }
    }

    fn page(
        &self,
        now: Millis,
        subscription: &mut Subscription,
        after: Seq,
    ) -> Result<Option<Frame>, S::Error> {
        let topic = *subscription.topic();
        let view = self.view(&topic)?;
        if view.head <= after {
            return Ok(None);
        }
        if view.tail.previous() > after {
            let chain = view.chain_at(&self.storage, &topic, view.tail.previous())?.unwrap_or(view.chain);
            return Ok(subscription.skip_to(view.tail, chain));
        }
        let mut page = Page::default();
        self.storage.ascend(&topic, after, Seq(u64::MAX), &mut |op| page.push(op))?;
        if let Some(chain) = page.chain
            && let Some(last) = page.ops.last()
        {
            subscription.sent(last.seq, chain, page.ops.len() as u32, now);
        }
        Ok((!page.ops.is_empty()).then_some(Frame::Ops(page.ops)))
    }
}

/// Operations up to the limits of one frame.
#[derive(Default)]
struct Page {
    ops: Vec<SequencedOp>,
    bytes: usize,
    chain: Option<Chain>,
}

impl Page {
    fn push(&mut self, stored: StoredOp<'_>) -> bool {
        use delta_core::limits::{MAX_BATCH, MAX_FRAME_OPS_BYTES};
        self.bytes += stored.op.len();
        if self.ops.len() == MAX_BATCH || (!self.ops.is_empty() && self.bytes > MAX_FRAME_OPS_BYTES) {
            return false;
        }
        let op = bytes::Bytes::copy_from_slice(stored.op);
        self.ops.push(SequencedOp { seq: stored.seq, received: stored.received, op });
        self.chain = Some(stored.chain);
        true
    }
}
