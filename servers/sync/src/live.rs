//! Topics with subscribers: the last operations of each, encoded once and shared by all who read them.
//!
//! A subscriber is a cursor into its topic's ring of frames. Nothing is queued per subscriber: whoever falls off
//! the ring reads from the disk again. Joining before the log is read makes the hand-over whole.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use delta_core::identity::Millis;
use delta_core::sync::frame::{Frame, OpsWriter};
use delta_core::topic::{Chain, Seq, TopicId};
use delta_topic_log::json;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::wire::{self, Wire};

/// Operations in a topic's live buffer; what the newest commit brought stays in any case.
pub const LIVE_OPS: usize = 1000;
/// Bytes in a topic's live buffer.
pub const LIVE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes a subscriber takes from it at once, or one frame: what it holds while it writes is no longer counted.
pub const WRITE_BYTES: usize = 256 * 1024;
/// Signals in a topic's live buffer: a subscriber that lags further misses some, which is what signals are for.
pub const LIVE_SIGNALS: usize = 16;
/// Bytes in all live buffers; above it each topic keeps only its newest frame.
pub const LIVE_BYTES_TOTAL: u64 = 512 * 1024 * 1024;

const SHARDS: usize = 64;

/// All topics that have subscribers.
#[derive(Debug)]
pub struct Live {
    shards: Vec<Mutex<HashMap<TopicId, Entry>>>,
    /// Topics that were deleted or blocked.
    closed: RwLock<HashSet<TopicId>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Entry {
    topic: Arc<Topic>,
    subscribers: usize,
}

/// One topic's live buffer.
#[derive(Debug)]
pub struct Topic {
    ring: Mutex<Ring>,
    published: watch::Sender<Published>,
}

/// How far a topic's live buffer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The last seq in the ring.
    pub seq: Seq,
    /// Signals passed on so far.
    pub signals: u64,
    /// Times all subscribers were sent away.
    pub evictions: u64,
}

#[derive(Debug, Default)]
struct Ring {
    frames: VecDeque<Arc<LiveFrame>>,
    ops: usize,
    bytes: usize,
    signals: VecDeque<Wire>,
    signals_seen: u64,
}

/// Consecutive operations, encoded.
#[derive(Debug)]
pub struct LiveFrame {
    /// The first seq.
    pub first: Seq,
    /// The last seq.
    pub last: Seq,
    /// How many.
    pub count: u32,
    /// The chain value at `last`.
    pub chain: Chain,
    frame: Bytes,
    binary: Wire,
    json: OnceLock<Wire>,
    head: OnceLock<Wire>,
}

/// What a subscriber at a cursor finds.
#[derive(Debug)]
pub enum Found {
    /// Frames that follow the cursor.
    Frames(Vec<Arc<LiveFrame>>),
    /// Something follows, but not in the ring: read it from the disk.
    Disk,
    /// Nothing yet.
    Nothing,
}

/// A place among a topic's subscribers; dropping it leaves.
#[derive(Debug)]
pub struct Membership {
    live: Arc<Live>,
    id: TopicId,
    /// The topic.
    pub topic: Arc<Topic>,
}

/// An operation to publish.
#[derive(Debug)]
pub struct Fresh {
    /// Its topic.
    pub topic: TopicId,
    /// Its place.
    pub seq: Seq,
    /// When it was received.
    pub received: Millis,
    /// The chain value at `seq`.
    pub chain: Chain,
    /// The envelope.
    pub op: Bytes,
}

impl Live {
    /// No topics.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, closed: RwLock::default(), metrics }
    }

    /// Joins a topic. Operations committed from now on reach its ring; read the log afterwards.
    pub fn join(self: &Arc<Self>, id: TopicId) -> Membership {
        let mut shard = self.shard(&id);
        let entry = shard.entry(id).or_insert_with(|| Entry {
            topic: Arc::new(Topic { ring: Mutex::default(), published: watch::Sender::default() }),
            subscribers: 0,
        });
        entry.subscribers += 1;
        Membership { live: Arc::clone(self), id, topic: Arc::clone(&entry.topic) }
    }

    /// Publishes committed operations, ordered by topic and seq, to whoever listens.
    pub fn publish(&self, fresh: &[Fresh]) {
        for run in fresh.chunk_by(|a, b| a.topic == b.topic) {
            let Some(first) = run.first() else { continue };
            let topic = self.shard(&first.topic).get(&first.topic).map(|entry| Arc::clone(&entry.topic));
            if let Some(topic) = topic {
                topic.publish(run, &self.metrics);
            }
        }
    }

    /// Passes a signal to whoever listens to the topic now.
    pub fn signal(&self, id: &TopicId, signal: Bytes) {
        let topic = self.shard(id).get(id).map(|entry| Arc::clone(&entry.topic));
        if let Some(topic) = topic {
            topic.signal(wire::binary(Frame::Signal(signal).encode()), &self.metrics);
        }
    }

    /// How many listen to a topic.
    pub fn subscribers(&self, id: &TopicId) -> usize {
        self.shard(id).get(id).map_or(0, |entry| entry.subscribers)
    }

    /// Sends all subscribers of a topic away.
    pub fn send_away(&self, id: &TopicId) {
        if let Some(entry) = self.shard(id).get(id) {
            entry.topic.published.send_modify(|published| published.evictions += 1);
        }
    }

    /// Replaces the set of closed topics; sends the subscribers of new ones away.
    pub fn set_closed(&self, topics: impl IntoIterator<Item = TopicId>) {
        let topics = topics.into_iter().collect::<HashSet<_>>();
        let before = std::mem::replace(
            &mut *self.closed.write().unwrap_or_else(PoisonError::into_inner),
            topics.clone(),
        );
        topics.difference(&before).for_each(|topic| self.send_away(topic));
    }

    /// A topic was closed.
    pub fn close(&self, id: &TopicId) {
        self.closed.write().unwrap_or_else(PoisonError::into_inner).insert(*id);
        self.send_away(id);
    }

    /// Whether a topic is closed.
    pub fn is_closed(&self, id: &TopicId) -> bool {
        self.closed.read().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    fn shard(&self, id: &TopicId) -> MutexGuard<'_, HashMap<TopicId, Entry>> {
        // Topic ids are hashes: any byte spreads them.
        let index = id.0.first().map_or(0, |byte| usize::from(*byte)) % SHARDS;
        lock(&self.shards[index])
    }

    fn leave(&self, id: &TopicId) {
        let mut shard = self.shard(id);
        let Some(entry) = shard.get_mut(id) else { return };
        entry.subscribers -= 1;
        if entry.subscribers == 0
            && let Some(entry) = shard.remove(id)
        {
            self.metrics.live_bytes.sub(lock(&entry.topic.ring).size() as u64);
        }
    }
}

impl Membership {
    /// The topic's id.
    pub const fn id(&self) -> &TopicId {
        &self.id
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.live.leave(&self.id);
    }
}

impl Ring {
    fn size(&self) -> usize {
        self.bytes + self.signals.iter().map(|signal| signal.payload().len()).sum::<usize>()
    }
}

impl Topic {
    /// Tells when something was published.
    pub fn watch(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// How many watch; takes no lock.
    pub fn listeners(&self) -> usize {
        self.published.receiver_count()
    }

    /// What follows a cursor.
    pub fn after(&self, cursor: Seq) -> Found {
        let published = self.published.borrow().seq;
        if published <= cursor {
            return Found::Nothing;
        }
        let ring = lock(&self.ring);
        let start = ring.frames.partition_point(|frame| frame.last <= cursor);
        match ring.frames.get(start) {
            Some(frame) if frame.first.previous() == cursor => {
                let mut bytes = 0;
                let fits = |frame: &&Arc<LiveFrame>| {
                    let is_first = bytes == 0;
                    bytes += frame.frame.len();
                    is_first || bytes <= WRITE_BYTES
                };
                Found::Frames(ring.frames.iter().skip(start).take_while(fits).cloned().collect())
            }
            _ => Found::Disk,
        }
    }

    /// The signals after the first `seen`, and how many there were in all.
    pub fn signals_after(&self, seen: u64) -> (Vec<Wire>, u64) {
        let ring = lock(&self.ring);
        let missed = usize::try_from(ring.signals_seen.saturating_sub(seen)).unwrap_or(usize::MAX);
        let skip = ring.signals.len().saturating_sub(missed);
        (ring.signals.iter().skip(skip).cloned().collect(), ring.signals_seen)
    }

    fn signal(&self, signal: Wire, metrics: &Metrics) {
        let mut ring = lock(&self.ring);
        let before = ring.size();
        let keep = if metrics.live_bytes.get() > LIVE_BYTES_TOTAL { 1 } else { LIVE_SIGNALS };
        ring.signals.push_back(signal);
        while ring.signals.len() > keep {
            ring.signals.pop_front();
        }
        ring.signals_seen += 1;
        let (after, seen) = (ring.size(), ring.signals_seen);
        drop(ring);
        metrics.live_bytes.add(after as u64);
        metrics.live_bytes.sub(before as u64);
        self.published.send_modify(|published| published.signals = seen);
    }

    fn publish(&self, run: &[Fresh], metrics: &Metrics) {
        let Some(last) = run.last() else { return };
        let mut frames = Frames::default();
        run.iter().for_each(|fresh| frames.push(fresh));
        frames.flush();
        let mut ring = lock(&self.ring);
        let before = ring.bytes;
        let newest = frames.done.len();
        for frame in frames.done {
            ring.ops += frame.count as usize;
            ring.bytes += frame.frame.len();
            ring.frames.push_back(frame);
        }
        // What one commit brought stays whole, or a large commit would send every subscriber to the disk.
        let crowded = metrics.live_bytes.get() > LIVE_BYTES_TOTAL;
        let keep = if crowded { 1 } else { newest };
        while ring.frames.len() > keep && (crowded || ring.ops > LIVE_OPS || ring.bytes > LIVE_BYTES) {
            let Some(oldest) = ring.frames.pop_front() else { break };
            ring.ops -= oldest.count as usize;
            ring.bytes -= oldest.frame.len();
        }
        let after = ring.bytes;
        drop(ring);
        metrics.live_bytes.add(after as u64);
        metrics.live_bytes.sub(before as u64);
        self.published.send_modify(|published| published.seq = last.seq);
    }
}

/// Collects operations into frames.
#[derive(Default)]
struct Frames {
    writer: OpsWriter,
    first: Seq,
    last: Seq,
    chain: Option<Chain>,
    done: Vec<Arc<LiveFrame>>,
}

impl Frames {
    fn push(&mut self, fresh: &Fresh) {
        if !self.writer.fits(fresh.op.len()) {
            self.flush();
        }
        if self.writer.count() == 0 {
            self.first = fresh.seq;
        }
        if self.writer.push(fresh.seq, fresh.received, &fresh.op) {
            self.last = fresh.seq;
            self.chain = Some(fresh.chain);
        }
    }

    fn flush(&mut self) {
        let count = self.writer.count() as u32;
        if let (Some(frame), Some(chain)) = (self.writer.take(), self.chain) {
            self.done.push(Arc::new(LiveFrame {
                first: self.first,
                last: self.last,
                count,
                chain,
                binary: wire::binary(frame.clone()),
                frame,
                json: OnceLock::new(),
                head: OnceLock::new(),
            }));
        }
    }
}

impl LiveFrame {
    /// As a binary message.
    pub const fn binary(&self) -> &Wire {
        &self.binary
    }

    /// As JSON messages, one for each operation; made by the first who asks.
    pub fn json(&self) -> &Wire {
        self.json.get_or_init(|| {
            let mut messages = wire::Texts::default();
            if let Ok(Frame::Ops(ops)) = Frame::decode(self.frame.clone()) {
                ops.iter().for_each(|op| messages.push(&json::op(op.seq, &op.op)));
            }
            messages.finish()
        })
    }

    /// The signed head at `last`; made by the first who asks.
    pub fn head(&self, sign: impl FnOnce() -> Wire) -> &Wire {
        self.head.get_or_init(sign)
    }
}

/// Nothing panics while it holds one of these locks half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TopicId = TopicId([5; 32]);

    fn fresh(seq: u64, len: usize) -> Fresh {
        let op = Bytes::from(vec![1; len]);
        Fresh { topic: ID, seq: Seq(seq), received: Millis(0), chain: Chain([seq as u8; 32]), op }
    }

    fn publish(live: &Live, seqs: std::ops::RangeInclusive<u64>, len: usize) {
        live.publish(&seqs.map(|seq| fresh(seq, len)).collect::<Vec<_>>());
    }

    fn spans(found: &Found) -> Vec<(u64, u64)> {
        match found {
            Found::Frames(frames) => frames.iter().map(|frame| (frame.first.0, frame.last.0)).collect(),
            Found::Disk | Found::Nothing => Vec::new(),
        }
    }

    #[test]
    fn a_cursor_finds_what_follows_it_or_is_sent_to_the_disk() {
        let live = Arc::new(Live::new(Arc::default()));
        let member = live.join(ID);
        assert!(matches!(member.topic.after(Seq(0)), Found::Nothing));
        publish(&live, 11..=20, 1);
        publish(&live, 21..=300, 1);
        assert_eq!(spans(&member.topic.after(Seq(10))), [(11, 20), (21, 276), (277, 300)]);
        assert_eq!(spans(&member.topic.after(Seq(20))), [(21, 276), (277, 300)]);
        assert!(matches!(member.topic.after(Seq(9)), Found::Disk));
        assert!(matches!(member.topic.after(Seq(15)), Found::Disk), "in the middle of a frame");
        assert!(matches!(member.topic.after(Seq(300)), Found::Nothing));
        assert!(matches!(member.topic.after(Seq(999)), Found::Nothing));
    }

    #[test]
    fn a_subscriber_takes_at_most_so_much_at_once_and_one_frame_in_any_case() {
        let live = Arc::new(Live::new(Arc::default()));
        let member = live.join(ID);
        for seq in 1..=10 {
            publish(&live, seq..=seq, 60_000);
        }
        assert_eq!(spans(&member.topic.after(Seq(0))), [(1, 1), (2, 2), (3, 3), (4, 4)]);
        assert_eq!(spans(&member.topic.after(Seq(4))).len(), 4);
        publish(&live, 11..=11, WRITE_BYTES + 1);
        assert_eq!(spans(&member.topic.after(Seq(10))), [(11, 11)]);
    }

    #[test]
    fn a_subscriber_gets_the_signals_after_its_place_and_at_most_the_newest_16() {
        let metrics = Arc::new(Metrics::default());
        let live = Arc::new(Live::new(Arc::clone(&metrics)));
        live.signal(&ID, Bytes::from_static(b"nobody listens"));
        let member = live.join(ID);
        assert_eq!(live.subscribers(&ID), 1);
        assert!(member.topic.signals_after(0).0.is_empty());
        for number in 1..=20u8 {
            live.signal(&ID, Bytes::from(vec![number]));
        }
        let numbers = |seen| {
            let (signals, all) = member.topic.signals_after(seen);
            (signals.iter().map(|signal| signal.payload()[5]).collect::<Vec<_>>(), all)
        };
        assert_eq!(numbers(0), ((5..=20).collect(), 20));
        assert_eq!(numbers(18), (vec![19, 20], 20));
        assert_eq!(numbers(20), (vec![], 20));
        assert_eq!(metrics.live_bytes.get(), 16 * 6);
        drop(member);
        assert_eq!((metrics.live_bytes.get(), live.subscribers(&ID)), (0, 0));
    }

    #[test]
    fn closing_sends_subscribers_away_once() {
        let live = Arc::new(Live::new(Arc::default()));
        let member = live.join(ID);
        let evictions = || member.topic.watch().borrow().evictions;
        live.close(&ID);
        assert!(live.is_closed(&ID) && evictions() == 1);
        live.set_closed([ID, TopicId([6; 32])]);
        assert!(live.is_closed(&TopicId([6; 32])) && evictions() == 1);
        live.set_closed([]);
        assert!(!live.is_closed(&ID));
        live.set_closed([ID]);
        assert_eq!(evictions(), 2);
    }

    #[test]
    fn the_buffer_holds_a_thousand_operations_or_four_mebibytes() {
        let metrics = Arc::new(Metrics::default());
        let live = Arc::new(Live::new(Arc::clone(&metrics)));
        let member = live.join(ID);
        for seq in 1..=1001 {
            publish(&live, seq..=seq, 1);
        }
        assert_eq!(spans(&member.topic.after(Seq(1))).len(), LIVE_OPS);
        assert!(matches!(member.topic.after(Seq(0)), Found::Disk));
        for seq in 1002..=1006 {
            publish(&live, seq..=seq, 1024 * 1024);
        }
        assert_eq!(lock(&member.topic.ring).frames.len(), 3, "a fourth would pass 4 MiB with its header");
        assert_eq!(spans(&member.topic.after(Seq(1003))), [(1004, 1004)]);
        assert!(metrics.live_bytes.get() <= LIVE_BYTES as u64);
        drop(member);
        assert_eq!(metrics.live_bytes.get(), 0);
        assert!(lock(&live.shards[5]).is_empty());
    }
}
