//! What the graph says at one point of it: levels of members, and what was decided last about everything else.

use std::collections::BTreeMap;

use super::graph::Graph;
use crate::identity::{Author, Identity, LogId, OperationId};
use crate::ops::Level;
use crate::tree::Map;

/// What a membership operation decides besides levels. Of decisions about one thing the latest in the graph holds;
/// of concurrent ones the stricter, then the one with the lower id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Register {
    /// What the space says about itself.
    About,
    /// The space's end.
    Deleted,
    /// Whether somebody is banned.
    Ban(Identity),
    /// Whether somebody is muted.
    Mute(Identity),
    /// An invitation, by the operation that made it.
    Invite(OperationId),
    /// Who came with a one-time invitation.
    InviteUsed(OperationId),
    /// A room.
    Room(LogId),
    /// What a room says about itself.
    RoomText(LogId),
    /// Whether a room is archived or deleted.
    RoomShelf(LogId),
    /// Where a room goes on with keys that stand in the space's log.
    RoomKeys(LogId),
    /// Whose device a device is.
    Device(Author),
    /// That an identity has revoked a device. Nothing ever undoes it.
    Revoked(Identity, Author),
}

/// Everything at one point of the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The members.
    pub levels: Map<Identity, Level>,
    /// The operation that decided each thing.
    pub registers: BTreeMap<Register, OperationId>,
}

/// What one operation changes, as seen by those who know no operation beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Level(Identity, Option<Level>),
    Register(Register, OperationId),
}

impl State {
    /// The devices that a member told of and did not revoke.
    pub(super) fn devices(&self, graph: &Graph, of: Identity) -> Vec<Author> {
        self.told(graph).filter(|(_, identity)| *identity == of).map(|(device, _)| device).collect()
    }

    /// Every device that some identity told of and did not revoke, and whose it is.
    pub(super) fn told<'a>(&'a self, graph: &'a Graph) -> impl Iterator<Item = (Author, Identity)> + 'a {
        let (first, last) = (Register::Device(Author([0; 32])), Register::Device(Author([0xff; 32])));
        let told = self.registers.range(first..=last).filter_map(|(register, id)| match register {
            Register::Device(device) => Some((*device, graph.certified(*id)?)),
            _ => None,
        });
        told.filter(|(device, identity)| !self.is_revoked(*identity, *device))
    }

    /// Whether an identity has revoked a device.
    pub(super) fn is_revoked(&self, identity: Identity, device: Author) -> bool {
        self.registers.contains_key(&Register::Revoked(identity, device))
    }

    /// The devices that an identity has revoked.
    pub(super) fn revoked(&self, identity: Identity) -> impl Iterator<Item = Author> + '_ {
        let of = |device| Register::Revoked(identity, Author(device));
        self.registers.range(of([0; 32])..=of([0xff; 32])).filter_map(|(register, _)| match register {
            Register::Revoked(_, device) => Some(*device),
            _ => None,
        })
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Level(who, Some(level)) => drop(self.levels.insert(who, level)),
            Change::Level(who, None) => drop(self.levels.remove(&who)),
            Change::Register(register, id) => drop(self.registers.insert(register, id)),
        }
    }
}

/// How somebody stands in a space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Their level; `None` for whoever is no member.
    pub level: Option<Level>,
    /// A member who may not write for now.
    pub muted: bool,
    /// Not to be added.
    pub banned: bool,
}

impl Standing {
    /// Whether they may write messages.
    pub fn may_write(&self) -> bool {
        self.level >= Some(Level::Write) && !self.muted
    }

    /// Whether they may change the space.
    pub fn may_manage(&self) -> bool {
        self.level == Some(Level::Manage)
    }
}
