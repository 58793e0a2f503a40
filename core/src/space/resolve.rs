//! Operations made without knowing of each other, settled: levels by p2panda-auth's strong-remove rules, everything
//! else by which operation came last in the graph.
//!
//! Only the window is settled: what lies above the last operation that all others build on. That one stands for
//! everything before it as the library's `create`. This changes no result: the library's rules relate concurrent
//! operations only, nothing in the window is concurrent with anything before it, and its counters are compared between
//! states that grew out of the same one.

use std::collections::HashSet;
use std::sync::Arc;

use p2panda_auth::group::resolver::StrongRemove;
use p2panda_auth::group::{GroupAction, GroupCrdtInnerState, GroupMember};
use p2panda_auth::traits::{Operation, Resolver};
use p2panda_auth::{Access, AccessLevel};
use serde::{Deserialize, Serialize};

use super::graph::{Graph, Node};
use super::rules::{Refusal, registers};
use super::state::{Register, State};
use crate::identity::{Identity, LogId, OperationId};
use crate::limits::MAX_SETTLED;
use crate::ops::{Action, Level};
use crate::tree::{Arrange, IntoTree, Map, Set};

/// Everything where `heads` are settled.
pub(super) fn settle(graph: &Graph, space: LogId, heads: &[OperationId]) -> Result<Arc<State>, Refusal> {
    let (base, window) = graph.window(heads, MAX_SETTLED)?;
    if window.is_empty() {
        return Ok(graph.state_after(base));
    }
    settle_above(graph, space, heads, base, &window)
}

/// The same, when `window` is all of it that lies above `base`.
pub(super) fn settle_above(
    graph: &Graph,
    space: LogId,
    heads: &[OperationId],
    base: OperationId,
    window: &[OperationId],
) -> Result<Arc<State>, Refusal> {
    let before = graph.state_after(base);
    let window = Window::new(graph, space, base, window);
    let inner = StrongRemove::process(window.library(&before)).map_err(|_| Refusal::Heads)?;
    let at = |heads: &[OperationId]| -> Result<Map<Identity, Level>, Refusal> {
        let steps: HashSet<_> = heads.iter().map(|head| window.last_step(*head)).collect();
        let groups = inner.state_at(&steps).map_err(|_| Refusal::Heads)?;
        let levels = groups.get(&GROUP).map(|group| group.access_levels()).unwrap_or_default();
        Ok(levels.into_iter().map(|(member, access)| (Identity(member.id().0), level_of(&access))).into_map())
    };
    let mut state = State { levels: at(heads)?, registers: before.registers.clone() };
    for (register, id) in window.registers(at)? {
        state.registers.insert(register, id);
    }
    Ok(Arc::new(state))
}

/// The operations to settle, each with those before it.
struct Window<'a> {
    graph: &'a Graph,
    space: LogId,
    base: OperationId,
    ops: Vec<(OperationId, &'a Node)>,
    /// For each, which of the window come before it.
    before: Vec<Set<usize>>,
    /// What never was, as far as levels and registers go: adds that lost a one-time invitation to another, and what a
    /// device did that was revoked at the same time.
    void: Set<OperationId>,
    /// What its author may not have done any more.
    filtered: Vec<bool>,
}

impl<'a> Window<'a> {
    fn new(graph: &'a Graph, space: LogId, base: OperationId, ids: &[OperationId]) -> Self {
        let ops: Vec<_> = ids.iter().filter_map(|id| Some((*id, graph.nodes.get(id)?))).collect();
        let places: Map<_, _> = ops.iter().enumerate().map(|(place, (id, _))| (*id, place)).into_map();
        let mut before: Vec<Set<usize>> = Vec::with_capacity(ops.len());
        for (_, node) in &ops {
            let mut all = Set::new();
            for place in node.heads.iter().filter_map(|head| places.get(head)) {
                all.insert(*place);
                all.extend(before.get(*place).into_iter().flatten().copied());
            }
            before.push(all);
        }
        let mut window = Self { graph, space, base, ops, before, void: Set::new(), filtered: Vec::new() };
        window.void = window.by_revoked();
        window.filtered = (0..window.ops.len()).map(|place| window.is_filtered(place)).collect();
        let lost = window.lost_invitations();
        window.void.extend(lost);
        window
    }

    fn concurrent(&self, a: usize, b: usize) -> bool {
        let comes_before = |a: usize, b: usize| self.before.get(b).is_some_and(|before| before.contains(&a));
        a != b && !comes_before(a, b) && !comes_before(b, a)
    }

    /// What devices did that were revoked at the same time. (Revocations themselves hold: the identity signed them.)
    fn by_revoked(&self) -> Set<OperationId> {
        let revokes = |revoker: &Node, node: &Node| match &revoker.action {
            Some(Action::DeviceRevoke { revocation }) => {
                (revocation.identity, revocation.device) == (node.identity, node.author)
            }
            _ => false,
        };
        let by_revoked = self.ops.iter().enumerate().filter(|(place, (_, node))| {
            let mut others = self.ops.iter().enumerate();
            others.any(|(other, (_, revoker))| revokes(revoker, node) && self.concurrent(other, *place))
        });
        by_revoked.map(|(_, (id, _))| *id).collect()
    }

    /// Whom an operation takes the right to have done anything at the same time: the library's rule.
    fn removed(node: &Node) -> Option<Identity> {
        match node.action.as_ref()? {
            // A ban removes also whom its author does not know as a member: somebody may add them at the same time.
            Action::Remove { member } | Action::Ban { member, .. } => Some(*member),
            Action::Demote { member, level } if *level < Level::Manage => Some(*member),
            Action::Leave | Action::Transfer { .. } => Some(node.identity),
            _ => None,
        }
    }

    /// Whether the library ignores an operation: its author was removed at the same time, or whom it adds was.
    fn is_filtered(&self, place: usize) -> bool {
        let Some((_, node)) = self.ops.get(place) else { return false };
        let added = match &node.action {
            Some(Action::Add { member, .. }) => Some(*member),
            _ => None,
        };
        self.ops.iter().enumerate().any(|(other, (id, remover))| {
            Self::removed(remover).is_some_and(|gone| gone == node.identity || Some(gone) == added)
                && self.concurrent(other, place)
                && !self.void.contains(id)
        })
    }

    /// Of adds with one one-time invitation that count, the one with the lowest id stands.
    fn lost_invitations(&self) -> Set<OperationId> {
        let mut adds = Map::<OperationId, Vec<OperationId>>::new();
        for (place, (id, node)) in self.ops.iter().enumerate() {
            let Some(Action::Add { invite: Some(invite), .. }) = node.action else { continue };
            let once = matches!(self.graph.action(invite), Some(Action::InviteCreate(terms)) if terms.once);
            if once && self.filtered.get(place) == Some(&false) && !self.void.contains(id) {
                adds.entry(invite).or_default().push(*id);
            }
        }
        let losers = adds.into_values().flat_map(|mut ids| {
            ids.arrange();
            ids.into_iter().skip(1)
        });
        losers.collect()
    }

    /// The last of the library's operations that stand for one of ours.
    fn last_step(&self, id: OperationId) -> StepId {
        let is_transfer = |node: &Node| matches!(node.action, Some(Action::Transfer { .. }));
        let steps = u8::from(id != self.base && self.graph.nodes.get(&id).is_some_and(is_transfer));
        StepId(id, steps)
    }

    fn library(&self, before: &State) -> GroupCrdtInnerState<Person, StepId, Step, ()> {
        let mut inner = GroupCrdtInnerState::default();
        let mut put = |step: Step| {
            inner.graph.add_node(step.id);
            for dependency in &step.dependencies {
                inner.graph.add_edge(*dependency, step.id, ());
            }
            inner.operations.insert(step.id, step);
        };
        let initial_members =
            before.levels.iter().map(|(who, level)| (person(*who), access(*level))).collect();
        let id = StepId(self.base, 0);
        let action = GroupAction::Create { initial_members };
        put(Step { id, author: GROUP, dependencies: Vec::new(), action });
        for (id, node) in &self.ops {
            let mut dependencies: Vec<_> = node.heads.iter().map(|head| self.last_step(*head)).collect();
            for (number, action) in (0..).zip(self.steps(*id, node)) {
                let id = StepId(*id, number);
                put(Step { id, author: Person(node.identity.0), dependencies, action });
                dependencies = vec![id];
            }
        }
        inner
    }

    /// An operation as the library knows it.
    fn steps(&self, id: OperationId, node: &Node) -> Vec<GroupAction<Person>> {
        // Adding oneself is never allowed and removes nobody: it stands for what the library need not know of, so
        // that what builds on that is still seen to build on what comes before it.
        let nothing = || GroupAction::Add { member: person(node.identity), access: Access::pull() };
        let remove = |who: Identity| GroupAction::Remove { member: person(who) };
        match &node.action {
            Some(Action::Transfer { .. }) if self.void.contains(&id) => vec![nothing(), nothing()],
            _ if self.void.contains(&id) => vec![nothing()],
            Some(Action::Add { member, level, .. }) => {
                vec![GroupAction::Add { member: person(*member), access: access(*level) }]
            }
            Some(Action::Remove { member } | Action::Ban { member, .. }) => vec![remove(*member)],
            Some(Action::Leave) => vec![remove(node.identity)],
            Some(Action::Promote { member, level }) => {
                vec![GroupAction::Promote { member: person(*member), access: access(*level) }]
            }
            Some(Action::Demote { member, level }) => {
                vec![GroupAction::Demote { member: person(*member), access: access(*level) }]
            }
            Some(Action::Transfer { member }) => vec![
                GroupAction::Promote { member: person(*member), access: Access::manage() },
                GroupAction::Demote { member: person(node.identity), access: Access::write() },
            ],
            _ => vec![nothing()],
        }
    }

    /// Whether what an operation decides besides levels holds.
    fn stands(
        &self,
        place: usize,
        id: OperationId,
        node: &Node,
        levels_at: &impl Fn(&[OperationId]) -> Result<Map<Identity, Level>, Refusal>,
    ) -> Result<bool, Refusal> {
        // Nothing that anybody does takes back what an identity has signed against its own device.
        if matches!(node.action, Some(Action::DeviceRevoke { .. })) {
            return Ok(true);
        }
        if self.void.contains(&id) || self.filtered.get(place) != Some(&false) {
            return Ok(false);
        }
        // Whoever got the right to it from an operation that does not count has none.
        let level = levels_at(&node.heads)?.get(&node.identity).copied();
        let least = match node.action {
            Some(Action::DeviceAdd { .. }) => Level::Pull,
            _ => Level::Manage,
        };
        Ok(level >= Some(least))
    }

    /// What the window decides besides levels.
    fn registers(
        &self,
        levels_at: impl Fn(&[OperationId]) -> Result<Map<Identity, Level>, Refusal>,
    ) -> Result<Map<Register, OperationId>, Refusal> {
        let mut candidates = Map::<Register, Vec<usize>>::new();
        for (place, (id, node)) in self.ops.iter().enumerate() {
            let Some(action) = &node.action else { continue };
            let touched = registers(self.space, *id, action);
            if touched.is_empty() || !self.stands(place, *id, node, &levels_at)? {
                continue;
            }
            for register in touched {
                candidates.entry(register).or_default().push(place);
            }
        }
        let winner = |(register, places): (Register, Vec<usize>)| {
            let comes_before = |a: usize, b: usize| self.before.get(b).is_some_and(|all| all.contains(&a));
            let last = places.iter().filter(|a| !places.iter().any(|b| comes_before(**a, *b)));
            let ops = last.filter_map(|place| self.ops.get(*place));
            let strictest = ops.min_by_key(|(id, node)| (leniency(node.action.as_ref()), *id));
            strictest.map(|(id, _)| (register, *id))
        };
        Ok(candidates.into_iter().filter_map(winner).into_map())
    }
}

/// Of concurrent decisions about one thing the lowest holds.
const fn leniency(action: Option<&Action>) -> u8 {
    match action {
        Some(Action::Unban { .. } | Action::Unmute { .. } | Action::RoomUnarchive { .. }) => 2,
        Some(Action::RoomArchive { .. } | Action::InviteCreate(_)) => 1,
        _ => 0,
    }
}

/// One group per graph: its name does not matter, and it is nobody's key.
const GROUP: Person = Person([0; 32]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Person([u8; 32]);

impl p2panda_core::traits::Author for Person {}

/// One of the library's operations: ours, and which of the steps it takes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct StepId(OperationId, u8);

impl p2panda_core::traits::OperationId for StepId {}

#[derive(Clone, Debug)]
struct Step {
    id: StepId,
    author: Person,
    dependencies: Vec<StepId>,
    action: GroupAction<Person>,
}

impl Operation<Person, StepId> for Step {
    fn id(&self) -> StepId {
        self.id
    }

    fn author(&self) -> Person {
        self.author
    }

    fn dependencies(&self) -> Vec<StepId> {
        self.dependencies.clone()
    }

    fn group_id(&self) -> Person {
        GROUP
    }

    fn action(&self) -> GroupAction<Person> {
        self.action.clone()
    }
}

const fn person(who: Identity) -> GroupMember<Person> {
    GroupMember::Individual(Person(who.0))
}

fn access(level: Level) -> Access {
    match level {
        Level::Pull => Access::pull(),
        Level::Read => Access::read(),
        Level::Write => Access::write(),
        Level::Manage => Access::manage(),
    }
}

const fn level_of(access: &Access) -> Level {
    match access.level {
        AccessLevel::Pull => Level::Pull,
        AccessLevel::Read => Level::Read,
        AccessLevel::Write => Level::Write,
        AccessLevel::Manage => Level::Manage,
    }
}
