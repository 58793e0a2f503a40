//! Paths between nodes: latency, partitions, loss, delay, duplicates. Only decides; the world schedules.

use std::collections::BTreeMap;

use crate::faults::{Fault, Faults};
use crate::rng::Rng;

/// Time after which an HTTP client gives up, milliseconds (docs/wire.md: total 15 s).
pub const HTTP_TIMEOUT_MS: u64 = 15_000;
/// Time after which a WebSocket without pongs is dead, milliseconds (pings every 30 s, dead after two).
pub const PING_TIMEOUT_MS: u64 = 60_000;

/// A node of the simulated network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// A device.
    Device(usize),
    /// A relay.
    Relay(usize),
    /// The sync server.
    Server,
}

/// What the network does with one POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// When the request arrives, from now; `None`: never.
    pub arrives_ms: Option<u64>,
    /// When a copy of it arrives, from now.
    pub copy_ms: Option<u64>,
    /// How long the answer takes back; `None`: it is lost.
    pub back_ms: Option<u64>,
    /// When the sender learns of a failure, from now, if no answer came.
    pub fails_ms: u64,
}

/// The state of all paths.
#[derive(Debug, Default)]
pub struct Net {
    /// Base latency, by unordered pair; drawn on first use.
    latency: BTreeMap<(Node, Node), u64>,
    /// How many partitions lie between two nodes.
    blocked: BTreeMap<(Node, Node), u32>,
}

impl Net {
    /// How long one message takes.
    pub fn latency(&mut self, a: Node, b: Node, faults: &mut Faults, rng: &mut Rng) -> u64 {
        let base = *self.latency.entry(pair(a, b)).or_insert_with(|| rng.skewed(1, 120));
        let late = if faults.strikes(Fault::Delay, 80, rng) { rng.skewed(500, 40_000) } else { 0 };
        base + rng.below(base + 3) + late
    }

    /// Decides about a POST from `a` to `b`.
    pub fn exchange(&mut self, a: Node, b: Node, faults: &mut Faults, rng: &mut Rng) -> Exchange {
        let there = self.latency(a, b, faults, rng);
        let back = self.latency(a, b, faults, rng);
        let blocked = self.is_blocked(a, b);
        let arrives = !blocked && !faults.strikes(Fault::Loss, 150, rng);
        // What never arrives has no answer that could be lost, and no copy.
        let lost_back = arrives && faults.strikes(Fault::Loss, 150, rng);
        let copied = arrives && faults.strikes(Fault::Duplicate, 150, rng);
        let refused_at_once = rng.chance(500);
        let arrives_ms = arrives.then_some(there);
        Exchange {
            arrives_ms,
            copy_ms: copied.then(|| there + rng.skewed(1, 60_000)),
            back_ms: (!lost_back).then_some(back),
            fails_ms: if arrives_ms.is_none() && refused_at_once { there } else { HTTP_TIMEOUT_MS },
        }
    }

    /// Separates two nodes; undone by as many [`Self::join`].
    pub fn part(&mut self, a: Node, b: Node) {
        *self.blocked.entry(pair(a, b)).or_default() += 1;
    }

    /// Ends one separation.
    pub fn join(&mut self, a: Node, b: Node) {
        if let Some(count) = self.blocked.get_mut(&pair(a, b)) {
            *count -= 1;
            if *count == 0 {
                self.blocked.remove(&pair(a, b));
            }
        }
    }

    /// Ends every separation.
    pub fn join_all(&mut self) {
        self.blocked.clear();
    }

    /// Whether nothing passes between two nodes.
    pub fn is_blocked(&self, a: Node, b: Node) -> bool {
        self.blocked.contains_key(&pair(a, b))
    }
}

fn pair(a: Node, b: Node) -> (Node, Node) {
    if a <= b { (a, b) } else { (b, a) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_counted_and_symmetric() {
        let (a, b) = (Node::Device(0), Node::Server);
        let mut net = Net::default();
        net.part(a, b);
        net.part(b, a);
        net.join(a, b);
        assert!(net.is_blocked(b, a));
        net.join(a, b);
        assert!(!net.is_blocked(a, b));
    }

    #[test]
    fn nothing_arrives_through_a_partition_and_everything_without_faults() {
        let mut rng = Rng::new(3, "net");
        let mut faults = Faults::draw(&mut rng, &[]);
        let (a, b) = (Node::Relay(0), Node::Relay(1));
        let mut net = Net::default();
        for _ in 0..100 {
            let exchange = net.exchange(a, b, &mut faults, &mut rng);
            assert!(
                exchange.arrives_ms.is_some() && exchange.back_ms.is_some() && exchange.copy_ms.is_none()
            );
        }
        net.part(a, b);
        assert_eq!(net.exchange(a, b, &mut faults, &mut rng).arrives_ms, None);
    }
}
