//! Which relays may carry a packet, and drawing some of them.

use std::collections::HashMap;

use super::health::Health;
use super::{RouteError, RouteRequest, Version};
use crate::entropy::{Entropy, EntropyError};
use crate::identity::NodeId;
use crate::onion::directory::{Directory, Node};
use crate::tree::Arrange;

/// A relay that may carry the packet.
pub(super) struct Candidate<'d> {
    pub(super) node: &'d Node,
    /// Its health says to leave it out while there are enough others.
    pub(super) excluded: bool,
    rank: Rank,
}

/// How gladly a relay is taken: the lowest first, equal ones by lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    left_out: bool,
    /// The operation's latest attempt that used it, counted from 1; 0 when none did.
    last_used: usize,
    times_used: usize,
}

/// All relays that may carry the packet, sorted by operator.
pub(super) struct Pool<'d> {
    candidates: Vec<Candidate<'d>>,
}

impl<'d> Pool<'d> {
    /// The relays of the directory that speak the version, take the packet and are not run by the server's operator.
    /// An error when they are too few for the request. `used` lists the relays of the operation's earlier attempts.
    pub(super) fn new(
        directory: &'d Directory,
        request: &RouteRequest<'_>,
        version: Version,
        health: &Health,
        used: &[impl AsRef<[NodeId]>],
    ) -> Result<Self, RouteError> {
        request.check(directory, version)?;
        let used = by_relay(used);
        let mut candidates: Vec<Candidate<'_>> = request
            .usable(directory, version)
            .map(|node| {
                let excluded = health.excludes(&node.id, request.now);
                let (last_used, times_used) = used.get(&node.id).copied().unwrap_or_default();
                let left_out = excluded || request.avoid.contains(&node.id);
                Candidate { node, excluded, rank: Rank { left_out, last_used, times_used } }
            })
            .collect();
        candidates.arrange_by_key(|candidate| &candidate.node.operator);
        let have = candidates.chunk_by(same_operator).count();
        if have < request.relays {
            return Err(RouteError::TooFewRelays { have, need: request.relays });
        }
        Ok(Self { candidates })
    }

    pub(super) fn get(&self, node: &NodeId) -> Option<&Candidate<'d>> {
        self.candidates.iter().find(|candidate| candidate.node.id == *node)
    }

    /// A relay for an operator that runs none of `taken`: of those the operation used least recently, leaving out
    /// the unhealthy while there are others.
    pub(super) fn draw_next(
        &self,
        taken: &[&Candidate<'d>],
        entropy: &mut dyn Entropy,
    ) -> Result<Option<&Candidate<'d>>, EntropyError> {
        let free = || {
            self.candidates
                .iter()
                .filter(|candidate| !taken.iter().any(|other| same_operator(candidate, other)))
        };
        let Some(best) = free().map(|candidate| candidate.rank).min() else { return Ok(None) };
        draw(&free().filter(|candidate| candidate.rank == best).collect::<Vec<_>>(), entropy)
    }

    /// A new guard beside `guards`: healthy and of another operator. With `any`, whatever relay there is.
    pub(super) fn draw_guard(
        &self,
        guards: &[NodeId],
        any: bool,
        entropy: &mut dyn Entropy,
    ) -> Result<Option<&Candidate<'d>>, EntropyError> {
        let taken: Vec<&Candidate<'_>> = guards.iter().filter_map(|guard| self.get(guard)).collect();
        let other_operator =
            |candidate: &&Candidate<'_>| !taken.iter().any(|other| same_operator(candidate, other));
        let all = || self.candidates.iter();
        let good: Vec<_> = all().filter(other_operator).filter(|candidate| !candidate.excluded).collect();
        if !good.is_empty() || !any {
            return draw(&good, entropy);
        }
        draw(&all().filter(|candidate| !guards.contains(&candidate.node.id)).collect::<Vec<_>>(), entropy)
    }
}

/// Operators are drawn evenly and then one relay of the one drawn, so that an operator gains nothing by running many.
fn draw<'p, 'd>(
    sorted: &[&'p Candidate<'d>],
    entropy: &mut dyn Entropy,
) -> Result<Option<&'p Candidate<'d>>, EntropyError> {
    let operators: Vec<_> = sorted.chunk_by(|a, b| same_operator(a, b)).collect();
    let Some(relays) = one_of(&operators, entropy)? else { return Ok(None) };
    Ok(one_of(relays, entropy)?.copied())
}

fn one_of<'a, T>(items: &'a [T], entropy: &mut dyn Entropy) -> Result<Option<&'a T>, EntropyError> {
    Ok(items.get(entropy.below(items.len() as u64)? as usize))
}

fn same_operator(a: &Candidate<'_>, b: &Candidate<'_>) -> bool {
    a.node.operator == b.node.operator
}

/// Per relay the latest attempt that used it, counted from 1, and how many did.
fn by_relay(used: &[impl AsRef<[NodeId]>]) -> HashMap<NodeId, (usize, usize)> {
    let mut found: HashMap<NodeId, (usize, usize)> = HashMap::new();
    for (attempt, relays) in (1..).zip(used) {
        for relay in relays.as_ref() {
            let (last, times) = found.entry(*relay).or_default();
            *last = attempt;
            *times += 1;
        }
    }
    found
}
