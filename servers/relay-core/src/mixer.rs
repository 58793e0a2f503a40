//! Delay, shuffle, queue and retry: when a peeled packet goes out, and how often it is tried.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use bytes::Bytes;
use delta_core::entropy::{Entropy, EntropyError};
use delta_core::identity::{Millis, NodeId};

use crate::counters::Event;

/// When a packet is tried, milliseconds after its first try.
pub const TRIES_MS: [u64; 4] = [0, 2_000, 10_000, 40_000];

/// Longest delay a packet can ask for, milliseconds.
pub const MAX_DELAY_MS: u64 = 60_000;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Packets are collected this long and go out in random order, milliseconds; 0 sends each at once.
    pub batch_ms: u64,
    /// Most packets that wait for or travel to one next node.
    pub hop_packets: usize,
    /// Most bytes of such packets.
    pub hop_bytes: usize,
    /// Most bytes of packets that wait for the delay they ask for, to all nodes together. To one node they may be half
    /// of what waits for it: whoever asks for long delays keeps nobody else out.
    pub delayed_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch_ms: 0, hop_packets: 8192, hop_bytes: 64 * 1024 * 1024, delayed_bytes: 128 * 1024 * 1024 }
    }
}

/// A packet on its way to the next node.
#[derive(Debug)]
pub struct Forward {
    next: NodeId,
    packet: Bytes,
    tries: usize,
    first_try: Millis,
}

impl Forward {
    /// Where it goes.
    pub const fn next(&self) -> NodeId {
        self.next
    }

    /// What goes there; cheap to clone.
    pub const fn packet(&self) -> &Bytes {
        &self.packet
    }
}

/// How one try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The next node took it (2xx).
    Delivered,
    /// The next node will never take it (3xx, 4xx but 429).
    Refused,
    /// The next node's address may not be connected to.
    AddressRefused,
    /// It may take it later (429, 5xx, time-out, cut connection).
    Unreachable,
}

#[derive(Clone, Copy, Default)]
struct Load {
    packets: usize,
    bytes: usize,
}

impl Load {
    const fn with(self, packet: &Bytes) -> Self {
        Self { packets: self.packets + 1, bytes: self.bytes + packet.len() }
    }

    const fn without(self, packet: &Bytes) -> Self {
        let bytes = self.bytes.saturating_sub(packet.len());
        Self { packets: self.packets.saturating_sub(1), bytes }
    }

    const fn exceeds(self, packets: usize, bytes: usize) -> bool {
        self.packets > packets || self.bytes > bytes
    }
}

/// What one next node has.
#[derive(Clone, Copy, Default)]
struct HopLoad {
    all: Load,
    // Those of them that wait for the delay they ask for.
    delayed: Load,
}

struct Held {
    due: Millis,
    serial: u64,
    forward: Forward,
}

impl Held {
    const fn key(&self) -> (Millis, u64) {
        (self.due, self.serial)
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Held {}
impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// Packets between peeling and the next node.
///
/// Feed it with [`push`](Self::push), [`handle_timeout`](Self::handle_timeout) and
/// [`handle_outcome`](Self::handle_outcome); after each drain [`poll_transmit`](Self::poll_transmit) and ask
/// [`poll_timeout`](Self::poll_timeout) when to come back. Time is any clock that does not go backwards.
pub struct Mixer {
    limits: Limits,
    // Waits for its delay or its next try.
    held: BinaryHeap<Reverse<Held>>,
    serial: u64,
    // Waits for the end of the window, then goes out shuffled.
    window: Vec<Forward>,
    window_ends: Option<Millis>,
    ready: VecDeque<Forward>,
    // Per next node, everything above and what is in flight. A node without packets has no entry.
    load: HashMap<NodeId, HopLoad>,
    // What waits for its own delay, to all nodes.
    delayed: Load,
}

impl std::fmt::Debug for Mixer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mixer").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Mixer {
    /// An empty mixer.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            held: BinaryHeap::new(),
            serial: 0,
            window: Vec::new(),
            window_ends: None,
            ready: VecDeque::new(),
            load: HashMap::new(),
            delayed: Load::default(),
        }
    }

    /// Takes a packet for `next`, to go out after `delay_ms`; or drops it when that node's queue is full.
    pub fn push(&mut self, now: Millis, next: NodeId, delay_ms: u64, packet: Bytes) -> Result<(), Event> {
        let Limits { hop_packets, hop_bytes, delayed_bytes, .. } = self.limits;
        let HopLoad { all, mut delayed } = self.load.get(&next).copied().unwrap_or_default();
        let all = all.with(&packet);
        let mut full = all.exceeds(hop_packets, hop_bytes);
        if delay_ms > 0 {
            delayed = delayed.with(&packet);
            full |= delayed.exceeds(hop_packets / 2, hop_bytes / 2)
                || self.delayed.with(&packet).exceeds(usize::MAX, delayed_bytes);
        }
        if full {
            return Err(Event::QueueFull);
        }
        if delay_ms > 0 {
            self.delayed = self.delayed.with(&packet);
        }
        self.load.insert(next, HopLoad { all, delayed });
        let forward = Forward { next, packet, tries: 0, first_try: now };
        match delay_ms.min(MAX_DELAY_MS) {
            0 => self.enter_window(now, forward),
            delay => self.hold(now.plus(delay), forward),
        }
        Ok(())
    }

    /// The next packet to send now. The caller gives it back to [`handle_outcome`](Self::handle_outcome).
    pub fn poll_transmit(&mut self, now: Millis) -> Option<Forward> {
        let mut forward = self.ready.pop_front()?;
        if forward.tries == 0 {
            forward.first_try = now;
        }
        forward.tries += 1;
        Some(forward)
    }

    /// When [`handle_timeout`](Self::handle_timeout) has work to do.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let held = self.held.peek().map(|Reverse(held)| held.due);
        match (held, self.window_ends) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Moves on what is due. When the random source fails the window stays as it is and is shuffled next time.
    pub fn handle_timeout(&mut self, now: Millis, entropy: &mut dyn Entropy) -> Result<(), EntropyError> {
        while self.held.peek().is_some_and(|Reverse(held)| held.due <= now) {
            let Some(Reverse(held)) = self.held.pop() else { break };
            // Before its first try it waited for its delay, later for the next try.
            if held.forward.tries == 0 {
                self.delayed = self.delayed.without(&held.forward.packet);
                if let Some(load) = self.load.get_mut(&held.forward.next) {
                    load.delayed = load.delayed.without(&held.forward.packet);
                }
            }
            self.enter_window(now, held.forward);
        }
        if self.window_ends.is_some_and(|ends| ends <= now) {
            shuffle(&mut self.window, entropy)?;
            self.ready.extend(self.window.drain(..));
            self.window_ends = None;
        }
        Ok(())
    }

    /// Takes back what [`poll_transmit`](Self::poll_transmit) gave out, and says what became of it.
    pub fn handle_outcome(&mut self, now: Millis, forward: Forward, outcome: Outcome) -> Event {
        let event = match outcome {
            Outcome::Delivered => Event::Delivered,
            Outcome::Refused => Event::Refused,
            Outcome::AddressRefused => Event::AddressRefused,
            Outcome::Unreachable => match TRIES_MS.get(forward.tries) {
                Some(offset) => {
                    let due = forward.first_try.plus(*offset).max(now);
                    self.hold(due, forward);
                    return Event::Retried;
                }
                None => Event::Exhausted,
            },
        };
        self.release(&forward);
        event
    }

    /// Whether nothing is held, queued or in flight.
    pub fn is_empty(&self) -> bool {
        self.load.is_empty()
    }

    /// How many packets are held, queued or in flight.
    pub fn len(&self) -> usize {
        self.load.values().map(|load| load.all.packets).sum()
    }

    fn hold(&mut self, due: Millis, forward: Forward) {
        self.serial += 1;
        self.held.push(Reverse(Held { due, serial: self.serial, forward }));
    }

    fn enter_window(&mut self, now: Millis, forward: Forward) {
        if self.limits.batch_ms == 0 {
            self.ready.push_back(forward);
            return;
        }
        self.window.push(forward);
        self.window_ends.get_or_insert(now.plus(self.limits.batch_ms));
    }

    fn release(&mut self, forward: &Forward) {
        let Some(load) = self.load.get_mut(&forward.next) else { return };
        load.all = load.all.without(&forward.packet);
        if load.all.packets == 0 {
            self.load.remove(&forward.next);
        }
    }
}

/// Fisher–Yates.
fn shuffle<T>(items: &mut [T], entropy: &mut dyn Entropy) -> Result<(), EntropyError> {
    for last in (1..items.len()).rev() {
        let other = entropy.below(last as u64 + 1)?;
        items.swap(last, other as usize);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
