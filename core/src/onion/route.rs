//! Routes: which relays a packet takes to its server.
//!
//! A route is drawn for every packet: relays of distinct operators, none of them the server's. It is never shorter
//! than asked for: with too few relays the packet waits. [`Routes`] remembers: it keeps the entry for weeks, draws
//! the rest afresh, and leaves out what has failed. [`pick`] draws a route without any memory.

mod draw;
mod guard;
mod health;
mod routes;
mod tunnel;

use thiserror::Error;

use super::PacketClass;
use super::directory::{Directory, Node, NodeKind};
use super::v3::{Hop, MAX_LAYERS};
use super::{IdentityKey, v2};
use crate::entropy::{Entropy, EntropyError};
use crate::identity::{Millis, NodeId};
use crate::tree::Arrange;

pub use guard::{
    GUARD_LIFETIME_MAX_MS, GUARD_LIFETIME_MIN_MS, GUARD_PATIENCE, GUARDS, Guards, MAX_GUARDS,
    NEW_GUARDS_PER_DAY,
};
pub use health::{DOWN_FIRST_MS, DOWN_MAX_MS, HEALTH_HALF_LIFE_MS, REFUSALS_UNTIL_DOWN};
pub use routes::Routes;
pub use tunnel::{TUNNEL_PAUSE_MAX_MS, TUNNEL_PAUSE_MIN_MS, Tunnel, TunnelRequest, Tunnels};

/// Relays of a route unless configured otherwise.
pub const DEFAULT_RELAYS: usize = 3;
/// Most relays of a route.
pub const MAX_RELAYS: usize = MAX_LAYERS - 1;

/// What a route must be like.
#[derive(Clone, Copy, Debug)]
pub struct RouteRequest<'a> {
    /// The server at its end.
    pub server: &'a Node,
    /// How many relays: 1 to [`MAX_RELAYS`], [`DEFAULT_RELAYS`] by default.
    pub relays: usize,
    /// The packet's class; relays that do not take it are not used.
    pub class: PacketClass,
    /// Relays that have just failed: used only when there are not enough others.
    pub avoid: &'a [NodeId],
    /// When the route is used: expired records are not.
    pub now: Millis,
}

/// Which packets a route is for. Relays of the two kinds never share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// Nodes without onion keys.
    V2,
    /// Nodes with onion keys.
    V3,
}

impl Version {
    fn is_relay(self, node: &Node, now: Millis) -> bool {
        let speaks = match self {
            Self::V3 => !node.keys.is_empty(),
            Self::V2 => v2_hop(node).is_some(),
        };
        speaks && node.kind == NodeKind::Relay && node.is_current(now)
    }
}

impl RouteRequest<'_> {
    /// What does not depend on how many relays there are.
    fn check(&self, directory: &Directory, version: Version) -> Result<(), RouteError> {
        if self.relays == 0 || self.relays > MAX_RELAYS {
            return Err(RouteError::RelayCount(self.relays));
        }
        if directory.is_expired(self.now) {
            return Err(RouteError::DirectoryExpired);
        }
        let server = match version {
            Version::V3 => self.server.takes(self.class, self.now),
            Version::V2 => self.server.keys.is_empty() && self.server.is_current(self.now),
        };
        if server { Ok(()) } else { Err(RouteError::Server) }
    }

    /// The relays that may carry the packet.
    fn usable<'d>(&self, directory: &'d Directory, version: Version) -> impl Iterator<Item = &'d Node> {
        directory
            .relays()
            .filter(move |relay| version.is_relay(relay, self.now))
            .filter(move |relay| version == Version::V2 || relay.takes(self.class, self.now))
            .filter(|relay| relay.id != self.server.id && relay.operator != self.server.operator)
    }
}

/// Relays in order, and the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The relays, the entry first.
    pub relays: Vec<Node>,
    /// The last hop of every packet on this route.
    pub server: Node,
}

impl Route {
    /// Where the sender POSTs its packets.
    pub fn entry_url(&self) -> Option<String> {
        self.relays.first().map(Node::packet_url)
    }

    /// The hops of a packet, the server last. Relays hold it only as long as they batch.
    pub fn hops(&self) -> Vec<Hop> {
        self.relays.iter().chain([&self.server]).filter_map(|node| node.hop(0)).collect()
    }

    /// The relays' identities in order: what to report, and what a retry is told to avoid.
    pub fn path(&self) -> Vec<NodeId> {
        self.relays.iter().map(|relay| relay.id).collect()
    }
}

/// The relays of a version 2 packet in order; the last one knows the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteV2 {
    /// The relays, the entry first.
    pub relays: Vec<Node>,
}

impl RouteV2 {
    /// Where the sender POSTs its packets.
    pub fn entry_url(&self) -> Option<String> {
        self.relays.first().map(Node::packet_url)
    }

    /// The hops of a packet, the exit last.
    pub fn hops(&self) -> Vec<v2::Hop> {
        self.relays.iter().filter_map(v2_hop).collect()
    }

    /// The relays' identities in order: what to report, and what a retry is told to avoid.
    pub fn path(&self) -> Vec<NodeId> {
        self.relays.iter().map(|relay| relay.id).collect()
    }
}

/// The hop through a node that speaks only version 2; `None` for any other, and for an identity that is no usable key.
fn v2_hop(node: &Node) -> Option<v2::Hop> {
    let key = IdentityKey::from_ed25519(&node.id.0).ok().filter(|_| node.keys.is_empty())?;
    Some(v2::Hop { key, url: node.packet_url() })
}

/// There is no route now. The operation stays queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RouteError {
    /// The directory has too few usable relays of distinct operators; a newer directory may have more.
    #[error("{need} usable relays of distinct operators are needed, the directory has {have}")]
    TooFewRelays {
        /// Distinct operators with a usable relay.
        have: usize,
        /// Relays asked for.
        need: usize,
    },
    /// The caller asks for no relay or too many.
    #[error("a route has 1 to {MAX_RELAYS} relays, not {0}")]
    RelayCount(usize),
    /// The list has expired: fetch a newer one.
    #[error("the directory has expired")]
    DirectoryExpired,
    /// The server's record has expired, it takes packets of another version only, or the packet is larger than it
    /// takes.
    #[error("the server's record has expired, or it does not take such packets")]
    Server,
    /// No kept entry relay is in the directory and no more may be drawn today: a newer directory may have them again.
    #[error(
        "none of this device's entry relays can be used, new ones are drawn from {until} (Unix epoch) on"
    )]
    NoGuard {
        /// When a new entry relay may be drawn.
        until: Millis,
    },
    /// The random source failed; try again later.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// Draws a route. Operators are drawn evenly and then one relay of each, so that an operator gains nothing by
/// running many relays.
pub fn pick(
    directory: &Directory,
    request: &RouteRequest<'_>,
    entropy: &mut dyn Entropy,
) -> Result<Route, RouteError> {
    request.check(directory, Version::V3)?;
    let mut operators = by_operator(directory, request);
    if operators.len() < request.relays {
        return Err(RouteError::TooFewRelays { have: operators.len(), need: request.relays });
    }
    shuffle(&mut operators, entropy)?;
    // Operators whose relays have all just failed go last, and only as many of them are taken as are needed.
    operators.arrange_by_key(|relays| relays.iter().all(|relay| request.avoid.contains(&relay.id)));
    operators.truncate(request.relays);
    shuffle(&mut operators, entropy)?;
    let mut relays = Vec::with_capacity(request.relays);
    for mut candidates in operators {
        shuffle(&mut candidates, entropy)?;
        candidates.arrange_by_key(|relay| request.avoid.contains(&relay.id));
        relays.extend(candidates.first().map(|relay| (*relay).clone()));
    }
    Ok(Route { relays, server: request.server.clone() })
}

/// The relays that may carry the packet, grouped by operator. Nodes without a vouched operator count as one.
fn by_operator<'d>(directory: &'d Directory, request: &RouteRequest<'_>) -> Vec<Vec<&'d Node>> {
    let mut usable: Vec<&Node> = request.usable(directory, Version::V3).collect();
    usable.arrange_by_key(|relay| &relay.operator);
    usable.chunk_by(|a, b| a.operator == b.operator).map(<[&Node]>::to_vec).collect()
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T], entropy: &mut dyn Entropy) -> Result<(), EntropyError> {
    for end in (1..items.len()).rev() {
        let other = entropy.below(end as u64 + 1)? as usize;
        items.swap(end, other);
    }
    Ok(())
}
