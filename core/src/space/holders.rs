//! Whom the key of an epoch may have reached, and whether somebody among them may have it no more.

use super::graph::{Node, Verdict};
use super::membership::Membership;
use super::rules::View;
use super::state::{Register, State};
use crate::identity::{Author, Identity, LogId, OperationId};
use crate::ops::{Action, Level, RoomKeys};
use crate::tree::{IntoTree, Map};

/// What a level gives of an epoch's keys; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Its secret.
    Read,
    /// The write seed, too.
    Write,
}

impl Access {
    /// What somebody of this level is handed.
    pub const fn of(level: Level) -> Option<Self> {
        match level {
            Level::Pull => None,
            Level::Read => Some(Self::Read),
            Level::Write | Level::Manage => Some(Self::Write),
        }
    }
}

/// An epoch's keys are in the wrong hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlived {
    /// The one who asks took somebody's access away: nobody else need come first.
    pub own: bool,
}

/// A room that goes on in a topic whose keys stand in the space's log (`room.renew`).
#[derive(Clone, Copy, Debug)]
pub struct Renewal<'a> {
    /// The operation.
    pub id: OperationId,
    /// Who did it.
    pub by: Identity,
    /// The topic's epoch.
    pub epoch: u32,
    /// The last epoch before it that counts.
    pub from: u32,
    /// The topic's keys.
    pub keys: &'a RoomKeys,
}

impl Membership {
    /// What the devices of members are handed of the current epochs.
    pub fn device_access(&self) -> Map<Author, Access> {
        self.current().map_or_else(Map::new, |state| self.devices_with(&state))
    }

    /// What devices were handed of an epoch that began at these heads.
    pub fn device_access_at(&self, heads: &[OperationId]) -> Map<Author, Access> {
        let Ok(point) = self.point(heads) else { return Map::new() };
        self.devices_with(&self.graph.state(&point))
    }

    /// What a device is to be handed that says whose it is: an identity's that is a member, and has not revoked it.
    pub fn access_of(&self, device: Author, identity: Identity) -> Option<Access> {
        let state = self.current()?;
        let told = self.told_in(&state, device).is_none_or(|told| told.identity == identity);
        let level = state.levels.get(&identity).filter(|_| told && !state.is_revoked(identity, device));
        level.and_then(|level| Access::of(*level))
    }

    fn devices_with(&self, state: &State) -> Map<Author, Access> {
        let access = |who: &Identity| state.levels.get(who).and_then(|level| Access::of(*level));
        let devices = self.devices_in(state).into_iter();
        devices.filter_map(|(device, who)| Some((device, access(&who)?))).into_map()
    }

    /// Whether who a device belongs to now was a member, and could read, when an epoch began at these heads.
    pub fn read_at(&self, device: Author, heads: &[OperationId]) -> bool {
        let (Some(now), Ok(point)) = (self.current(), self.point(heads)) else { return false };
        let who = self.identity_in(&now, device);
        who.is_some_and(|who| self.graph.level(&point, who).and_then(Access::of).is_some())
    }

    /// Whether the keys of an epoch that began at these heads (none: with the space) may have reached somebody who may
    /// not have them (any more): by what was decided since, and by whatever was done beside it. `device` asks.
    pub fn outlived(&self, began: &[OperationId], device: Author) -> Option<Outlived> {
        if !began.iter().all(|head| self.is_judged(head)) {
            return None;
        }
        let now = self.current()?;
        let me = self.identity_in(&now, device);
        let access = |level: &Level| Access::of(*level);
        let mut reached = Map::<Identity, Access>::new();
        if let Ok(point) = self.point(began) {
            let then = self.graph.state(&point);
            reached.extend(then.levels.iter().filter_map(|(who, level)| Some((*who, access(level)?))));
        }
        let (mut own, mut lost) = (false, false);
        for node in self.nodes_since(began) {
            let given = match &node.action {
                Some(Action::SpaceCreate { .. }) => Some((node.identity, Level::Manage)),
                Some(Action::Add { member, level, .. } | Action::Promote { member, level }) => {
                    Some((*member, *level))
                }
                Some(Action::Transfer { member }) => Some((*member, Level::Manage)),
                Some(Action::Remove { .. } | Action::Demote { .. } | Action::Ban { .. }) => {
                    own |= Some(node.identity) == me;
                    None
                }
                // One that the space never heard of has what its person's other devices gave it.
                Some(Action::DeviceRevoke { .. }) => {
                    own |= node.author == device;
                    lost = true;
                    None
                }
                _ => None,
            };
            if let Some((who, level)) = given
                && let Some(access) = Access::of(level)
            {
                let known = reached.entry(who).or_insert(access);
                *known = (*known).max(access);
            }
        }
        lost |= reached.iter().any(|(who, had)| now.levels.get(who).and_then(access) < Some(*had));
        lost.then_some(Outlived { own })
    }

    fn nodes_since(&self, heads: &[OperationId]) -> impl Iterator<Item = &Node> {
        let ends: Vec<_> = self.ends.iter().copied().collect();
        self.graph.since(heads, &ends).into_iter().filter_map(|id| self.graph.nodes.get(&id))
    }

    /// The operations that took the right to manage from a device, and that these heads do not know of.
    pub fn stripped(&self, device: Author, heads: &[OperationId]) -> Vec<OperationId> {
        let who = match self.point(heads) {
            Ok(point) => View { graph: &self.graph, space: self.space, point: &point }.identity(device),
            Err(_) => self.current().and_then(|state| self.identity_in(&state, device)),
        };
        let Some(who) = who else { return Vec::new() };
        let strips = |node: &Node| match &node.action {
            Some(Action::Remove { member } | Action::Ban { member, .. }) => *member == who,
            Some(Action::Demote { member, level }) => *member == who && *level < Level::Manage,
            Some(Action::Leave | Action::Transfer { .. }) => node.identity == who,
            Some(Action::DeviceRevoke { revocation }) => revocation.device == device,
            _ => false,
        };
        let ends: Vec<_> = self.ends.iter().copied().collect();
        let since = self.since(heads, &ends).into_iter();
        since.filter(|id| self.graph.nodes.get(id).is_some_and(strips)).collect()
    }

    /// The operations that `ends` build on, they themselves included, and those before do not. What is not known
    /// counts for nothing.
    pub fn since(&self, before: &[OperationId], ends: &[OperationId]) -> Vec<OperationId> {
        self.graph.since(before, ends)
    }

    /// Where a room goes on with keys that stand in the space's log, if it does.
    pub fn renewal(&self, room: LogId) -> Option<Renewal<'_>> {
        let state = self.current()?;
        self.read_renewal(*state.registers.get(&Register::RoomKeys(room))?)
    }

    /// What began an epoch of a room that no rotation leads to. Of several the one that holds, or the one with the
    /// lowest id.
    pub fn renewal_at(&self, room: LogId, epoch: u32) -> Option<Renewal<'_>> {
        if let Some(current) = self.renewal(room).filter(|renewal| renewal.epoch == epoch) {
            return Some(current);
        }
        let is_it = |node: &&Node| match &node.action {
            Some(Action::RoomRenew { room: of, epoch: at, .. }) => {
                (*of, *at) == (room, epoch) && node.verdict == Verdict::Accepted
            }
            _ => false,
        };
        let found = self.graph.nodes.iter().filter(|(_, node)| is_it(node)).map(|(id, _)| *id).min();
        found.and_then(|id| self.read_renewal(id))
    }

    fn read_renewal(&self, id: OperationId) -> Option<Renewal<'_>> {
        let node = self.graph.nodes.get(&id)?;
        match &node.action {
            Some(Action::RoomRenew { epoch, from, keys, .. }) => {
                Some(Renewal { id, by: node.identity, epoch: *epoch, from: *from, keys })
            }
            _ => None,
        }
    }

    /// Who made a room.
    pub fn room_maker(&self, room: LogId) -> Option<Identity> {
        let state = self.current()?;
        let made = state.registers.get(&Register::Room(room))?;
        self.graph.nodes.get(made).map(|node| node.identity)
    }

    /// Whether the person of `by` let the person of `device` in, or gave it its level.
    pub fn let_in_by(&self, device: Author, by: Author) -> bool {
        let Some(state) = self.current() else { return false };
        let (who, by) = (self.identity_in(&state, device), self.identity_in(&state, by));
        self.graph.nodes.values().any(|node| {
            let subject = match &node.action {
                Some(Action::Add { member, .. } | Action::Promote { member, .. }) => Some(*member),
                _ => None,
            };
            subject.is_some() && subject == who && Some(node.identity) == by
        })
    }
}
