//! Routes: which relays a packet takes to its server.
//!
//! A route is drawn afresh for every packet: random relays of distinct operators, none of them the server's. It is
//! never shorter than asked for: with too few relays the packet waits.

use thiserror::Error;

use super::PacketClass;
use super::directory::{Directory, Node};
use super::v3::{Hop, MAX_LAYERS};
use crate::entropy::{Entropy, EntropyError};
use crate::identity::{Millis, NodeId};

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
    /// The server's record has expired, has no onion key, or the packet is larger than the server takes.
    #[error("the server's record has expired, or it does not take such packets")]
    Server,
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
    if request.relays == 0 || request.relays > MAX_RELAYS {
        return Err(RouteError::RelayCount(request.relays));
    }
    if directory.is_expired(request.now) {
        return Err(RouteError::DirectoryExpired);
    }
    if !request.server.takes(request.class, request.now) {
        return Err(RouteError::Server);
    }
    let mut operators = by_operator(directory, request);
    if operators.len() < request.relays {
        return Err(RouteError::TooFewRelays { have: operators.len(), need: request.relays });
    }
    shuffle(&mut operators, entropy)?;
    // Operators whose relays have all just failed go last, and only as many of them are taken as are needed.
    operators.sort_by_key(|relays| relays.iter().all(|relay| request.avoid.contains(&relay.id)));
    operators.truncate(request.relays);
    shuffle(&mut operators, entropy)?;
    let mut relays = Vec::with_capacity(request.relays);
    for mut candidates in operators {
        shuffle(&mut candidates, entropy)?;
        candidates.sort_by_key(|relay| request.avoid.contains(&relay.id));
        relays.extend(candidates.first().map(|relay| (*relay).clone()));
    }
    Ok(Route { relays, server: request.server.clone() })
}

/// The relays that may carry the packet, grouped by operator. Nodes without a vouched operator count as one.
fn by_operator<'d>(directory: &'d Directory, request: &RouteRequest<'_>) -> Vec<Vec<&'d Node>> {
    let mut usable: Vec<&Node> = directory
        .relays()
        .filter(|relay| relay.takes(request.class, request.now))
        .filter(|relay| relay.id != request.server.id && relay.operator != request.server.operator)
        .collect();
    usable.sort_by_key(|relay| &relay.operator);
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
