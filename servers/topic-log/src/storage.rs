//! What a shell's storage must be able to do. Everything is synchronous; a shell with readers on other threads
//! implements [`LogReader`] for them.

use delta_core::identity::{EnvelopeHash, Millis};
use delta_core::topic::{Chain, Generation, Seq, TopicId};

use crate::generation::GenerationSecret;

/// Where a stored log ends and begins. Absent for an unknown topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogState {
    /// The last seq; 0 when there is none.
    pub head: Seq,
    /// The lowest retained seq; `head + 1` when nothing is retained.
    pub tail: Seq,
    /// The chain value at `head`; `None` when `head` is 0.
    pub chain: Option<Chain>,
    /// When the operation at `head` was received.
    pub received: Millis,
    /// Bytes of all operations up to `head`, evicted ones included. A storage may begin to count at any place: only
    /// differences between retained operations are used.
    pub bytes: u64,
    /// Whether the topic has ever had a signed write.
    pub signed: bool,
    /// Why the topic takes and gives nothing any more.
    pub closed: Option<Closed>,
}

/// Why a topic takes and gives nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Deleted for good, by a control message or the operator; its operations are gone.
    Deleted,
    /// Blocked by the operator; its operations are kept.
    Blocked,
}

/// What control messages and the operator have said about a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFacts {
    /// The counter of the last control message; 0 before the first.
    pub counter: u64,
    /// The key readers must prove, where the server asks for proofs.
    pub read_key: Option<[u8; 32]>,
    /// The payload of the last control message that described the topic.
    pub metadata: Option<Vec<u8>>,
    /// Why the topic takes and gives nothing any more.
    pub closed: Option<Closed>,
}

impl LogState {
    /// A topic nobody has written to.
    pub const EMPTY: Self = Self {
        head: Seq(0),
        tail: Seq(1),
        chain: None,
        received: Millis(0),
        bytes: 0,
        signed: false,
        closed: None,
    };
}

/// One retained operation, borrowed from the storage.
#[derive(Clone, Copy, Debug)]
pub struct StoredOp<'a> {
    /// Its place.
    pub seq: Seq,
    /// When it was received; never decreases along the log.
    pub received: Millis,
    /// The chain value at `seq`.
    pub chain: Chain,
    /// The envelope.
    pub op: &'a [u8],
}

/// In which order operations are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the lowest seq on.
    Ascending,
    /// From the highest seq on.
    Descending,
}

/// A row to append.
#[derive(Clone, Copy, Debug)]
pub struct NewRow<'a> {
    /// `head + 1`.
    pub seq: Seq,
    /// When the server received it.
    pub received: Millis,
    /// BLAKE3 of the envelope.
    pub hash: EnvelopeHash,
    /// The chain value at `seq`.
    pub chain: Chain,
    /// Bytes of the topic's operations up to and with this one.
    pub bytes: u64,
    /// The envelope.
    pub op: &'a [u8],
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the log now.
    Fresh,
    /// The topic has had this envelope before, at this seq (which may be evicted); nothing changed.
    Duplicate(Seq),
}

/// Reading of committed logs.
pub trait LogReader {
    /// What can go wrong in the storage.
    type Error;

    /// The state of a topic's log.
    ///
    /// # Errors
    /// The storage failed.
    fn state(&self, topic: &TopicId) -> Result<Option<LogState>, Self::Error>;

    /// What was said about a topic; nothing for an unknown one.
    ///
    /// # Errors
    /// The storage failed.
    fn facts(&self, topic: &TopicId) -> Result<TopicFacts, Self::Error>;

    /// The seq an envelope has or had in the topic.
    ///
    /// # Errors
    /// The storage failed.
    fn find(&self, topic: &TopicId, hash: &EnvelopeHash) -> Result<Option<Seq>, Self::Error>;

    /// Chain value and receive time at a seq in `1..=head`, evicted ones included.
    ///
    /// # Errors
    /// The storage failed.
    fn mark(&self, topic: &TopicId, seq: Seq) -> Result<Option<(Chain, Millis)>, Self::Error>;

    /// Visits the retained operations with `after < seq < before` until `visit` returns `false`.
    ///
    /// # Errors
    /// The storage failed.
    fn walk(
        &self,
        topic: &TopicId,
        after: Seq,
        before: Seq,
        order: Order,
        visit: &mut dyn FnMut(StoredOp<'_>) -> bool,
    ) -> Result<(), Self::Error>;

    /// Visits them oldest first.
    ///
    /// # Errors
    /// The storage failed.
    fn ascend(
        &self,
        topic: &TopicId,
        after: Seq,
        before: Seq,
        visit: &mut dyn FnMut(StoredOp<'_>) -> bool,
    ) -> Result<(), Self::Error> {
        self.walk(topic, after, before, Order::Ascending, visit)
    }
}

/// Appending, in transactions. Between `begin` and `commit` the reads of this same object see what is staged.
pub trait LogStorage: LogReader {
    /// Opens a transaction.
    ///
    /// # Errors
    /// The storage failed.
    fn begin(&mut self) -> Result<(), Self::Error>;

    /// Makes everything since `begin` durable.
    ///
    /// # Errors
    /// The storage failed; nothing since `begin` may be relied on.
    fn commit(&mut self) -> Result<(), Self::Error>;

    /// Undoes everything since `begin`. Must not fail: what cannot be undone now is undone when reopened.
    fn rollback(&mut self);

    /// Appends a row unless the topic has had its envelope before.
    ///
    /// # Errors
    /// The storage failed.
    fn insert(&mut self, topic: &TopicId, row: &NewRow<'_>) -> Result<Inserted, Self::Error>;

    /// Remembers that the topic has had a signed write.
    ///
    /// # Errors
    /// The storage failed.
    fn mark_signed(&mut self, topic: &TopicId) -> Result<(), Self::Error>;

    /// Replaces what was said about a topic.
    ///
    /// # Errors
    /// The storage failed.
    fn set_facts(&mut self, topic: &TopicId, facts: &TopicFacts) -> Result<(), Self::Error>;

    /// Drops the operations up to `up_to` (≤ head), keeps their hashes, chains and times, and moves the tail.
    ///
    /// # Errors
    /// The storage failed.
    fn evict(&mut self, topic: &TopicId, up_to: Seq) -> Result<(), Self::Error>;
}

/// A log as a client may see it: unknown topics look like empty ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogView {
    /// Which copy of the log.
    pub generation: Generation,
    /// The last seq.
    pub head: Seq,
    /// The lowest retained seq.
    pub tail: Seq,
    /// The chain value at `head`.
    pub chain: Chain,
    /// Why a shell must not show the log to anyone.
    pub closed: Option<Closed>,
}

impl LogView {
    /// Reads a topic's view.
    ///
    /// # Errors
    /// The storage failed.
    pub fn read<R: LogReader + ?Sized>(
        reader: &R,
        secret: &GenerationSecret,
        topic: &TopicId,
    ) -> Result<Self, R::Error> {
        let state = reader.state(topic)?.unwrap_or(LogState::EMPTY);
        let generation = secret.generation(topic);
        let chain = state.chain.unwrap_or_else(|| Chain::start(topic, &generation));
        Ok(Self { generation, head: state.head, tail: state.tail, chain, closed: state.closed })
    }

    /// The chain value at `seq` in `0..=head`; `None` outside.
    ///
    /// # Errors
    /// The storage failed.
    pub fn chain_at<R: LogReader + ?Sized>(
        &self,
        reader: &R,
        topic: &TopicId,
        seq: Seq,
    ) -> Result<Option<Chain>, R::Error> {
        match seq {
            Seq(0) => Ok(Some(Chain::start(topic, &self.generation))),
            seq if seq == self.head => Ok(Some(self.chain)),
            seq if seq > self.head => Ok(None),
            seq => Ok(reader.mark(topic, seq)?.map(|(chain, _)| chain)),
        }
    }
}
