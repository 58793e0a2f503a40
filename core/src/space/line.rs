//! What is current: the operations that count for how the space stands now, and of these the ones nobody has built on.
//!
//! Whether an operation is accepted follows from what it cites alone, so somebody who cites what was long ago, or does a
//! great deal at once, is accepted, too; and there is a limit to how much can be settled together. What exceeds it must be
//! left out, by the same rule everywhere, and such that nobody can have it be what others did. So operations are taken in
//! the order in which everybody reads the space's log, and each counts or does not, once and for all: what comes later
//! never takes out what counted before it.

use std::collections::BTreeSet;

use super::graph::{Graph, Node, Verdict};
use crate::identity::OperationId;
use crate::limits::{MAX_CONCURRENT, MAX_LOOSE_ENDS, MAX_SETTLED};
use crate::projector::Place;
use crate::tree::Map;

/// When an operation's turn comes: after everything it builds on; then by where it stands; of those that stand nowhere yet,
/// and of two roots there, the lower id.
type Turn = (Place, u32, OperationId);

/// What is current of one graph.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Where operations were first seen; of the others nothing is known, and they come last.
    places: Map<OperationId, Place>,
    turns: Map<OperationId, Place>,
    counted: BTreeSet<OperationId>,
    ends: BTreeSet<OperationId>,
    /// The last one taken.
    last: Option<Turn>,
    /// Something belongs before the last one: all of it is to be taken anew.
    stale: bool,
}

impl Line {
    /// Where an operation was first seen. Whether that is news.
    pub(super) fn place(&mut self, id: OperationId, place: Place) -> bool {
        let moved = self.places.insert(id, place) != Some(place);
        self.stale |= moved && self.turns.contains_key(&id);
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

    fn take_anew(&mut self, graph: &Graph) {
        *self = Self { places: std::mem::take(&mut self.places), ..Self::default() };
        let accepted = graph.nodes.iter().filter(|(_, node)| node.verdict == Verdict::Accepted);
        let mut nodes: Vec<(OperationId, &Node)> = accepted.map(|(id, node)| (*id, node)).collect();
        // What an operation builds on has its turn before it.
        nodes.sort_by_key(|(id, node)| (node.rank, *id));
        for (id, node) in &nodes {
            let turn = self.turn(node, *id);
            self.turns.insert(*id, turn.0);
        }
        nodes.sort_by_key(|(id, node)| self.turn(node, *id));
        for (id, node) in nodes {
            self.step(graph, self.turn(node, id), node);
        }
    }

    fn turn(&self, node: &Node, id: OperationId) -> Turn {
        let own = self.places.get(&id).copied().unwrap_or(Place::UNPLACED);
        let before = node.heads.iter().filter_map(|head| self.turns.get(head)).max();
        (before.map_or(own, |before| own.max(*before)), node.rank, id)
    }

    fn step(&mut self, graph: &Graph, turn: Turn, node: &Node) {
        let (place, _, id) = turn;
        self.turns.insert(id, place);
        self.last = Some(turn);
        // Of several creations the first is it, whoever founded the space.
        let builds = if node.heads.is_empty() {
            self.counted.is_empty()
        } else {
            node.heads.iter().all(|head| self.counted.contains(head))
        };
        if !builds {
            return;
        }
        let open = self.ends.iter().copied().filter(|end| !node.heads.contains(end));
        let ends: BTreeSet<_> = open.chain([id]).collect();
        if ends.len() > 1 && !self.has_room(graph, node, &ends) {
            return;
        }
        self.counted.insert(id);
        self.ends = ends;
    }

    /// Whether these can be what is current. One that joins others, so that there are fewer, may take what is settled
    /// beyond the limit: otherwise nothing could be joined when it is reached.
    fn has_room(&self, graph: &Graph, node: &Node, ends: &BTreeSet<OperationId>) -> bool {
        let by_author = |id: &&OperationId| graph.nodes.get(id).is_some_and(|end| end.author == node.author);
        if ends.iter().filter(by_author).count() > MAX_LOOSE_ENDS {
            return false;
        }
        let limit = if ends.len() < self.ends.len() { MAX_SETTLED } else { MAX_CONCURRENT };
        let heads: Vec<_> = ends.iter().copied().collect();
        graph.window(&heads, limit).is_ok()
    }
}
