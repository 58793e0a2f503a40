//! A whole relay on one thread: what the simulation runs as an actor.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use delta_core::entropy::{Entropy, EntropyError};
use delta_core::identity::{Millis, NodeId};
use delta_replay::{Admission, ReplaySet};

use crate::counters::{Counters, Event};
use crate::gate;
use crate::keys::KeyRing;
use crate::mixer::{Forward, Limits, Mixer, Outcome};

/// The tags seen under each onion key, by key id. A killed relay finds it again; the owner of this value plays the
/// disk.
pub type Seen = HashMap<u16, ReplaySet>;

/// Tags per key, where the replay sets live in memory alone.
const SEEN_CAPACITY: usize = 1_000_000;

/// The four stations in a row.
#[derive(Debug)]
pub struct Relay {
    me: NodeId,
    keys: KeyRing,
    known: HashSet<NodeId>,
    seen: Seen,
    mixer: Mixer,
    counters: Counters,
}

impl Relay {
    /// A relay that knows nobody yet.
    pub fn new(me: NodeId, keys: KeyRing, seen: Seen, limits: Limits) -> Self {
        let (known, counters) = (HashSet::new(), Counters::default());
        Self { me, keys, known, seen, mixer: Mixer::new(limits), counters }
    }

    /// Replaces the nodes it forwards to.
    pub fn set_known(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        self.known = nodes.into_iter().collect();
    }

    /// Replaces its onion keys.
    pub fn set_keys(&mut self, keys: KeyRing) {
        self.keys = keys;
    }

    /// What happens to a body after it was answered with 202. What came of it is counted, never told.
    pub fn handle_packet(&mut self, now: Millis, packet: Vec<u8>) {
        self.counters.count(Event::Accepted);
        if let Err(event) = self.take(now, packet) {
            self.counters.count(event);
        }
    }

    fn take(&mut self, now: Millis, packet: Vec<u8>) -> Result<(), Event> {
        let opened = gate::open(self.keys.secrets(), packet)?;
        let seen = self.seen.entry(opened.kid()).or_insert_with(|| ReplaySet::new(SEEN_CAPACITY));
        match seen.admit(ReplaySet::prefix(&opened.replay_tag())) {
            Admission::Fresh => {}
            Admission::Seen => return Err(Event::Replayed),
            Admission::Full => return Err(Event::ReplayUnavailable),
        }
        let routed = gate::route(opened, &self.me, |node| self.known.contains(node))?;
        self.mixer.push(now, routed.next, routed.delay_ms, Bytes::from(routed.packet))
    }

    /// The next packet to send now; give it back to [`handle_outcome`](Self::handle_outcome).
    pub fn poll_transmit(&mut self, now: Millis) -> Option<Forward> {
        self.mixer.poll_transmit(now)
    }

    /// When [`handle_timeout`](Self::handle_timeout) has work to do.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.mixer.poll_timeout()
    }

    /// Moves on what is due.
    pub fn handle_timeout(&mut self, now: Millis, entropy: &mut dyn Entropy) -> Result<(), EntropyError> {
        self.mixer.handle_timeout(now, entropy)
    }

    /// How a try ended.
    pub fn handle_outcome(&mut self, now: Millis, forward: Forward, outcome: Outcome) {
        let event = self.mixer.handle_outcome(now, forward, outcome);
        self.counters.count(event);
    }

    /// What happened so far.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Stops; only keys and replay set survive, as they would on disk.
    pub fn into_durable(self) -> (KeyRing, Seen) {
        (self.keys, self.seen)
    }
}
