//! Tunnels: which relay carries a topic's stream to its server, so that the server does not see who reads
//! (docs/wire.md, section 7.4).
//!
//! Every topic has an order of its own among the relays that offer tunnels, drawn from a seed that stays with the
//! device. So a topic keeps its relay across restarts without anything being stored, the topics of a device spread
//! over the relays, and one that fails makes room for the next and comes back when its pause is over.
//!
//! As long as the directory has a relay that offers tunnels nothing is read directly, however badly they do and
//! however old their records are: whoever could knock relays out would otherwise learn who reads.

use std::fmt;
use std::sync::Arc;

use crate::identity::{Millis, NodeId};
use crate::onion::directory::{Directory, Node};
use crate::topic::TopicId;
use crate::tree::{Arrange, Map};

/// How long a relay whose tunnel failed is passed over at first, milliseconds; doubled by every further failure.
pub const TUNNEL_PAUSE_MIN_MS: u64 = 30_000;
/// How long it is passed over at most, milliseconds.
pub const TUNNEL_PAUSE_MAX_MS: u64 = 60 * 60_000;
/// Doublings that lead past it.
const MAX_DOUBLINGS: u32 = 7;

/// A tunnel to a sync server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The relay that carries it.
    pub relay: NodeId,
    /// The server it leads to: who must answer at its end.
    pub server: NodeId,
    /// Where it is opened: the relay's URL of tunnels to that server.
    pub url: Arc<str>,
}

/// Where a tunnel is to lead, and what is known of the device's other connections.
#[derive(Clone, Copy, Debug)]
pub struct TunnelRequest<'a> {
    /// The server.
    pub server: &'a Node,
    /// The topic that is read.
    pub topic: TopicId,
    /// Entry guards: they know that this address publishes, so neither they nor relays of their operators carry what
    /// it reads while there are others whose tunnels have not just failed.
    pub guards: &'a [NodeId],
    /// Relays that are out of the question.
    pub never: &'a [NodeId],
    /// The present.
    pub now: Millis,
}

/// Chooses the tunnels of one device.
#[derive(Clone, Default)]
pub struct Tunnels {
    seed: [u8; 32],
    failing: Map<NodeId, Failing>,
}

#[derive(Clone, Copy)]
struct Failing {
    times: u32,
    until: Millis,
}

/// How gladly a relay is taken: the lowest first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// When its pause is over; 0 for none.
    paused_until: Millis,
    guard: Guarding,
    expired: bool,
    /// Operators in this topic's order, then the relays of one: an operator gains nothing by running many.
    operator: [u8; 32],
    relay: [u8; 32],
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Guarding {
    No,
    Operator,
    Relay,
}

impl Tunnels {
    /// With the seed of this device, which nobody else may know.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, failing: Map::new() }
    }

    /// The tunnel for a connection of the topic now. `None` when no relay offers one.
    pub fn choose(&self, directory: &Directory, request: &TunnelRequest<'_>) -> Option<Tunnel> {
        let relays = offering(directory, request.server);
        let relays = relays.filter(|relay| !request.never.contains(&relay.id));
        let TunnelRequest { topic, guards, now, .. } = request;
        let relay = relays.min_by_key(|relay| self.rank(directory, topic, guards, *now, relay))?;
        Some(tunnel(relay, request.server.id))
    }

    /// The tunnels through which a server that is not known yet is asked who it is, best first. Empty when no relay
    /// offers any. Whom its own operator runs nobody can know before it has answered; the server's id stands where a
    /// topic does otherwise.
    pub fn to_unknown(
        &self,
        directory: &Directory,
        server: NodeId,
        guards: &[NodeId],
        now: Millis,
    ) -> Vec<Tunnel> {
        let topic = TopicId(server.0);
        let relays = directory.relays().filter(|relay| relay.tunnel && relay.id != server);
        let mut ranked: Vec<_> =
            relays.map(|relay| (self.rank(directory, &topic, guards, now, relay), relay)).collect();
        ranked.arrange_by(|(a, _), (b, _)| a.cmp(b));
        ranked.into_iter().map(|(_, relay)| tunnel(relay, server)).collect()
    }

    /// Whether any relay offers tunnels to the server.
    pub fn are_offered(directory: &Directory, server: &Node) -> bool {
        offering(directory, server).next().is_some()
    }

    /// Whether a relay has failed and its pause is not over.
    pub fn is_paused(&self, relay: &NodeId, now: Millis) -> bool {
        self.paused_until(relay, now) > Millis(0)
    }

    /// A relay could not be reached, refused a tunnel, or its tunnel broke. It is passed over for a while, and as long
    /// as it asked for.
    pub fn failed(&mut self, relay: NodeId, retry_after_ms: u64, now: Millis) {
        let failing = self.failing.entry(relay).or_insert(Failing { times: 0, until: now });
        let asked = now.plus(retry_after_ms.min(TUNNEL_PAUSE_MAX_MS));
        // All tunnels of a relay that dies break together: that is one failure.
        if failing.until > now {
            failing.until = failing.until.max(asked);
            return;
        }
        let pause = (TUNNEL_PAUSE_MIN_MS << failing.times.min(MAX_DOUBLINGS)).min(TUNNEL_PAUSE_MAX_MS);
        failing.times = failing.times.saturating_add(1);
        failing.until = now.plus(pause).max(asked);
    }

    /// What was asked for came through a relay.
    pub fn worked(&mut self, relay: &NodeId) {
        self.failing.remove(relay);
    }

    /// The network under this device changed: what could not be reached over the old one is tried again.
    pub fn network_changed(&mut self) {
        self.failing.clear();
    }

    fn rank(
        &self,
        directory: &Directory,
        topic: &TopicId,
        guards: &[NodeId],
        now: Millis,
        relay: &Node,
    ) -> Rank {
        let guard_operators = || guards.iter().filter_map(|guard| directory.node(guard));
        let guard = if guards.contains(&relay.id) {
            Guarding::Relay
        } else if guard_operators().any(|guard| guard.operator == relay.operator) {
            Guarding::Operator
        } else {
            Guarding::No
        };
        Rank {
            paused_until: self.paused_until(&relay.id, now),
            guard,
            expired: !relay.is_current(now),
            operator: self.place(topic, 0, relay.operator.as_deref().unwrap_or_default().as_bytes()),
            relay: self.place(topic, 1, &relay.id.0),
        }
    }

    fn paused_until(&self, relay: &NodeId, now: Millis) -> Millis {
        let until = self.failing.get(relay).map_or(Millis(0), |failing| failing.until);
        // A clock that went back must not put a relay aside for longer than ever meant.
        if until > now { until.min(now.plus(TUNNEL_PAUSE_MAX_MS)) } else { Millis(0) }
    }

    /// The place of something in a topic's order.
    fn place(&self, topic: &TopicId, kind: u8, name: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(&topic.0).update(&[kind]).update(name);
        hasher.finalize().into()
    }
}

fn tunnel(relay: &Node, server: NodeId) -> Tunnel {
    let url = format!("{}/tunnel?to={server}", relay.url).into();
    Tunnel { relay: relay.id, server, url }
}

/// The relays that may carry it: none of the server's operator.
fn offering<'d>(directory: &'d Directory, server: &Node) -> impl Iterator<Item = &'d Node> {
    let (id, operator) = (server.id, server.operator.clone());
    directory.relays().filter(move |relay| relay.tunnel && relay.id != id && relay.operator != operator)
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnels").field("failing", &self.failing.len()).finish_non_exhaustive()
    }
}
