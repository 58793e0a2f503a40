//! The graph itself: what is known of each operation, and what is true right after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::rules::Refusal;
use super::state::{Change, Register, State};
use crate::identity::{Author, Identity, LogId, OperationId};
use crate::ops::{Action, Level};
use crate::tree::{IntoTree, Map};

/// How many operations a walk passes before it meets a whole state: what bounds a look at one point of the graph.
const SNAPSHOT_EVERY: u8 = 64;

/// A membership operation, as it goes into the graph.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The operation.
    pub id: OperationId,
    /// The device that signed it.
    pub author: Author,
    /// Its number in the author's log.
    pub seq_num: u32,
    /// What its author had seen.
    pub heads: Vec<OperationId>,
    /// What it says.
    pub statement: Statement,
}

/// What a membership operation says.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly every one is an action")]
pub enum Statement {
    /// A kind this version knows.
    Action(Action),
    /// A kind this version does not know.
    Unknown,
    /// A known kind whose payload breaks its rules.
    Malformed,
}

/// What became of a membership operation. It never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stands in the graph. (Whether it has an effect is up to what was done without knowing of it.)
    Accepted,
    /// It counts for nothing.
    Refused(Refusal),
    /// A manager did something this version does not understand: the space stands still here.
    Suspends,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) author: Author,
    /// Whose device the author is, where it said this.
    pub(super) identity: Identity,
    /// Without duplicates, and without what another one of them builds on.
    pub(super) heads: Vec<OperationId>,
    pub(super) action: Option<Action>,
    pub(super) verdict: Verdict,
    /// The `space.create` it goes back to.
    pub(super) root: OperationId,
    /// Above that of every operation before it.
    pub(super) rank: u32,
    base: Base,
    pub(super) changes: Vec<Change>,
    members: usize,
}

/// What the changes of a node are made to.
#[derive(Debug)]
enum Base {
    Parent(OperationId, u8),
    Whole(Arc<State>),
}

/// Every judged operation of one space.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: BTreeMap<OperationId, Node>,
}

/// A point of the graph to look at: right after one operation, or where several are settled.
#[derive(Clone, Debug)]
pub(super) enum Point {
    After(OperationId),
    Settled(Arc<State>),
}

impl Graph {
    pub(super) fn action(&self, id: OperationId) -> Option<&Action> {
        self.nodes.get(&id)?.action.as_ref()
    }

    /// Puts a judged operation in.
    pub(super) fn put(
        &mut self,
        entry: Entry,
        identity: Identity,
        verdict: Verdict,
        point: Point,
        changes: Vec<Change>,
    ) {
        // What another cited one builds on adds nothing: kept, it would hold down what is settled, as far as its author likes.
        let heads = self.last_of(&entry.heads);
        let before = heads.iter().filter_map(|head| self.nodes.get(head));
        let rank = before.clone().map(|node| node.rank.saturating_add(1)).max().unwrap_or(0);
        let root = before.map(|node| node.root).next().unwrap_or(entry.id);
        let members = self.count(&point, &changes);
        let action = match entry.statement {
            Statement::Action(action) => Some(action),
            Statement::Unknown | Statement::Malformed => None,
        };
        let base = match point {
            Point::Settled(state) => Base::Whole(state),
            Point::After(parent) => match self.nodes.get(&parent).map(|node| &node.base) {
                Some(Base::Parent(_, depth)) if *depth >= SNAPSHOT_EVERY => {
                    Base::Whole(self.state_after(parent))
                }
                Some(Base::Parent(_, depth)) => Base::Parent(parent, depth + 1),
                _ => Base::Parent(parent, 1),
            },
        };
        let author = entry.author;
        let node = Node { author, identity, heads, action, verdict, root, rank, base, changes, members };
        self.nodes.insert(entry.id, node);
    }

    fn count(&self, point: &Point, changes: &[Change]) -> usize {
        let count = |members: usize, change: &Change| match change {
            Change::Level(who, Some(_)) if self.level(point, *who).is_none() => members + 1,
            Change::Level(who, None) if self.level(point, *who).is_some() => members.saturating_sub(1),
            _ => members,
        };
        changes.iter().fold(self.members(point), count)
    }

    pub(super) fn members(&self, point: &Point) -> usize {
        match point {
            Point::After(id) => self.nodes.get(id).map_or(0, |node| node.members),
            Point::Settled(state) => state.levels.len(),
        }
    }

    /// Whose device a device is, as an operation that told of it says.
    pub(super) fn certified(&self, id: OperationId) -> Option<Identity> {
        match self.action(id)? {
            Action::DeviceAdd { certificate } => Some(certificate.identity),
            Action::SpaceCreate { certificate, .. } => certificate.as_ref().map(|it| it.identity),
            _ => None,
        }
    }

    /// The rooms that are not deleted.
    pub(super) fn rooms(&self, state: &State) -> Vec<LogId> {
        let deleted = |room| {
            let shelf = state.registers.get(&Register::RoomShelf(room));
            shelf.is_some_and(|id| matches!(self.action(*id), Some(Action::RoomDelete { .. })))
        };
        let rooms = state.registers.keys().filter_map(|register| match register {
            Register::Room(room) if !deleted(*room) => Some(*room),
            _ => None,
        });
        rooms.collect()
    }

    /// Everything at a point.
    pub(super) fn state(&self, point: &Point) -> Arc<State> {
        match point {
            Point::After(id) => self.state_after(*id),
            Point::Settled(state) => Arc::clone(state),
        }
    }

    pub(super) fn level(&self, point: &Point, who: Identity) -> Option<Level> {
        let found = self.find(point, |change| match change {
            Change::Level(other, level) if *other == who => Some(*level),
            _ => None,
        });
        found.unwrap_or_else(|state| state.and_then(|state| state.levels.get(&who).copied()))
    }

    pub(super) fn register(&self, point: &Point, register: Register) -> Option<OperationId> {
        let found = self.find(point, |change| match change {
            Change::Register(other, id) if *other == register => Some(Some(*id)),
            _ => None,
        });
        found.unwrap_or_else(|state| state.and_then(|state| state.registers.get(&register).copied()))
    }

    /// What the last change that `pick` knows made of it, or the whole state below all changes.
    fn find<'a, T>(
        &'a self,
        point: &'a Point,
        pick: impl Fn(&Change) -> Option<T>,
    ) -> Result<T, Option<&'a State>> {
        let mut at = match point {
            Point::Settled(state) => return Err(Some(state)),
            Point::After(id) => *id,
        };
        while let Some(node) = self.nodes.get(&at) {
            if let Some(found) = node.changes.iter().rev().find_map(&pick) {
                return Ok(found);
            }
            match &node.base {
                Base::Parent(parent, _) => at = *parent,
                Base::Whole(state) => return Err(Some(state)),
            }
        }
        Err(None)
    }

    /// Everything right after an operation.
    pub(super) fn state_after(&self, id: OperationId) -> Arc<State> {
        let mut at = id;
        let mut path = Vec::new();
        let mut whole = Arc::default();
        while let Some(node) = self.nodes.get(&at) {
            path.push(&node.changes);
            match &node.base {
                Base::Parent(parent, _) => at = *parent,
                Base::Whole(state) => {
                    whole = Arc::clone(state);
                    break;
                }
            }
        }
        if path.iter().any(|changes| !changes.is_empty()) {
            let state = Arc::make_mut(&mut whole);
            path.into_iter().rev().flatten().for_each(|change| state.apply(*change));
        }
        whole
    }

    /// Of these operations, those that none of the others builds on: citing what another cited one knows adds nothing,
    /// and anybody who may write could make it cost.
    pub(super) fn last_of(&self, heads: &[OperationId]) -> Vec<OperationId> {
        let mut last = heads.iter().copied().into_set();
        let rank = |id: &OperationId| self.nodes.get(id).map_or(0, |node| node.rank);
        let lowest = heads.iter().map(rank).min().unwrap_or(0);
        let mut open: Vec<_> = if last.len() > 1 { heads.to_vec() } else { Vec::new() };
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            for before in self.nodes.get(&id).into_iter().flat_map(|node| &node.heads) {
                if rank(before) >= lowest && seen.insert(*before) {
                    last.remove(before);
                    open.push(*before);
                }
            }
        }
        last.into_iter().collect()
    }

    /// What lies between some operations and the last one that all of them, and all between, build on: that one, and
    /// the others with every operation after those before it.
    ///
    /// # Errors
    /// There is more of it than `limit`.
    pub(super) fn window(
        &self,
        heads: &[OperationId],
        limit: usize,
    ) -> Result<(OperationId, Vec<OperationId>), Refusal> {
        let ranked = |id: &OperationId| self.nodes.get(id).map(|node| (node.rank, *id));
        let mut queue = heads.iter().filter_map(ranked).into_set();
        let mut window = Vec::new();
        // Highest rank first: an operation's turn comes after that of everything built on it. When one alone is left,
        // everything taken out came after it, and everything else before.
        while let Some((_, id)) = queue.pop_last() {
            if queue.is_empty() {
                window.reverse();
                return Ok((id, window));
            }
            window.push(id);
            if window.len() > limit {
                return Err(Refusal::TooConcurrent);
            }
            queue.extend(
                self.nodes.get(&id).into_iter().flat_map(|node| node.heads.iter()).filter_map(ranked),
            );
        }
        Err(Refusal::Heads)
    }

    /// The operations that these build on, they themselves included, and those of before do not. Highest rank first.
    pub(super) fn since(&self, before: &[OperationId], ends: &[OperationId]) -> Vec<OperationId> {
        // An operation's turn comes after that of everything built on it: by then it is known whether `before` reaches
        // it. Nothing is left to find when everything still open is reached.
        let mut open = Map::<(u32, OperationId), bool>::new();
        let mut unreached = 0;
        let reach = |open: &mut Map<_, _>, unreached: &mut usize, id: OperationId, old: bool| {
            let Some(node) = self.nodes.get(&id) else { return };
            match open.insert((node.rank, id), old) {
                None if !old => *unreached += 1,
                Some(false) if old => *unreached -= 1,
                Some(true) if !old => drop(open.insert((node.rank, id), true)),
                _ => {}
            }
        };
        before.iter().for_each(|id| reach(&mut open, &mut unreached, *id, true));
        ends.iter().for_each(|id| reach(&mut open, &mut unreached, *id, false));
        let mut found = Vec::new();
        while unreached > 0
            && let Some(((_, id), old)) = open.pop_last()
        {
            if !old {
                unreached -= 1;
                found.push(id);
            }
            for head in self.nodes.get(&id).into_iter().flat_map(|node| &node.heads) {
                reach(&mut open, &mut unreached, *head, old);
            }
        }
        found
    }
}
