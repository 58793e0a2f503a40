//! What is current: the operations that count for how the space stands now, and of these the ones nobody has built on.
//!
//! Whether an operation is accepted follows from what it cites alone, so somebody who cites what was long ago, or does a
//! great deal at once, is accepted, too; and there is a limit to how much can be settled together. What exceeds it must be
//! left out, by the same rule everywhere, and such that nobody can have it be what others did. So operations are taken in
//! the order in which everybody reads the space's log, and each counts or does not, once and for all: what comes later
//! never takes out what counted before it.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Graph, Node, Verdict};
use crate::identity::OperationId;
use crate::limits::{MAX_CONCURRENT, MAX_LOOSE_ENDS, MAX_SETTLED};
use crate::projector::Place;
use crate::tree::Arrange;

/// When an operation's turn comes: after everything it builds on; then by where it stands; of those that stand nowhere yet,
/// and of two roots there, the lower id.
type Turn = (Place, u32, OperationId);

/// What is known of one operation.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Where it was first seen; nothing where it stands nowhere yet.
    first: Option<Place>,
    /// The same, or that of what it builds on, where that is later; nothing before its turn.
    turn: Option<Place>,
    counts: bool,
}

/// What is current of one graph.
#[derive(Debug, Default)]
pub(super) struct Line {
    known: BTreeMap<OperationId, Known>,
    /// Those that count and that no other one that counts builds on.
    ends: BTreeSet<OperationId>,
    /// The last one taken.
    last: Option<Turn>,
    /// Something belongs before the last one: all of it is to be taken anew.
    stale: bool,
}

impl Line {
    /// Where an operation was first seen. Whether that is news.
    pub(super) fn place(&mut self, id: OperationId, place: Place) -> bool {
        let known = self.known.entry(id).or_default();
        let moved = known.first.replace(place) != Some(place);
        self.stale |= moved && known.turn.is_some();
        moved
    }

    /// Takes an accepted operation that is in the graph.
    pub(super) fn take(&mut self, graph: &Graph, id: OperationId) {
        let Some(node) = graph.nodes.get(&id) else { return };
        let turn = self.turn(node, id);
        if self.stale || self.last.is_some_and(|last| turn < last) {
            self.stale = true;
            return;
        }
        self.step(graph, turn, node);
    }

    /// The operations that count and that no other one that counts builds on.
    pub(super) fn ends(&mut self, graph: &Graph) -> &BTreeSet<OperationId> {
        if self.stale {
            self.take_anew(graph);
        }
        &self.ends
    }

    /// Whether an operation counts.
    pub(super) fn counts(&mut self, graph: &Graph, id: &OperationId) -> bool {
        self.ends(graph);
        self.known.get(id).is_some_and(|known| known.counts)
    }

    fn take_anew(&mut self, graph: &Graph) {
        (self.last, self.stale) = (None, false);
        self.ends.clear();
        for known in self.known.values_mut() {
            (known.turn, known.counts) = (None, false);
        }
        let accepted = graph.nodes.iter().filter(|(_, node)| node.verdict == Verdict::Accepted);
        let mut nodes: Vec<(OperationId, &Node)> = accepted.map(|(id, node)| (*id, node)).collect();
        // What an operation builds on has its turn before it.
        nodes.arrange_by_key(|(id, node)| (node.rank, *id));
        let mut turns = Vec::with_capacity(nodes.len());
        for (id, node) in nodes {
            let turn = self.turn(node, id);
            self.known.entry(id).or_default().turn = Some(turn.0);
            turns.push((turn, node));
        }
        turns.arrange_by_key(|(turn, _)| *turn);
        for (turn, node) in turns {
            self.step(graph, turn, node);
        }
    }

    fn turn(&self, node: &Node, id: OperationId) -> Turn {
        let own = self.known.get(&id).and_then(|known| known.first).unwrap_or(Place::UNPLACED);
        let before = node.heads.iter().filter_map(|head| self.known.get(head)?.turn).max();
        (before.map_or(own, |before| own.max(before)), node.rank, id)
    }

    fn step(&mut self, graph: &Graph, turn: Turn, node: &Node) {
        let (place, _, id) = turn;
        let begins = self.last.replace(turn).is_none();
        let counts = |head: &OperationId| self.known.get(head).is_some_and(|known| known.counts);
        // Of several creations the first is it, whoever founded the space.
        let builds = if node.heads.is_empty() { begins } else { node.heads.iter().all(counts) };
        let open = self.ends.iter().copied().filter(|end| !node.heads.contains(end));
        let ends: BTreeSet<_> = open.chain([id]).collect();
        let counts = builds && (ends.len() == 1 || self.has_room(graph, node, &ends));
        let known = self.known.entry(id).or_default();
        (known.turn, known.counts) = (Some(place), counts);
        if counts {
            self.ends = ends;
        }
    }

    /// Whether these can be what is current. One that joins others, so that there are fewer, may take what is settled
    /// beyond the limit: otherwise nothing could be joined when it is reached.
    fn has_room(&self, graph: &Graph, node: &Node, ends: &BTreeSet<OperationId>) -> bool {
        let by_same =
            |id: &&OperationId| graph.nodes.get(id).is_some_and(|end| end.identity == node.identity);
        if ends.iter().filter(by_same).count() > MAX_LOOSE_ENDS {
            return false;
        }
        let limit = if ends.len() < self.ends.len() { MAX_SETTLED } else { MAX_CONCURRENT };
        let heads: Vec<_> = ends.iter().copied().collect();
        graph.window(&heads, limit).is_ok()
    }
}
