//! What the graph says at one point of it: levels of members, and what was decided last about everything else.

use std::collections::BTreeMap;

use crate::identity::{Author, LogId, OperationId};
use crate::ops::Level;

/// What a membership operation decides besides levels. Of decisions about one thing the latest in the graph holds;
/// of concurrent ones the stricter, then the one with the lower id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Register {
    /// What the space says about itself.
    About,
    /// The space's end.
    Deleted,
    /// Whether somebody is banned.
    Ban(Author),
    /// Whether somebody is muted.
    Mute(Author),
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
}

/// Everything at one point of the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The members.
    pub levels: BTreeMap<Author, Level>,
    /// The operation that decided each thing.
    pub registers: BTreeMap<Register, OperationId>,
}

/// What one operation changes, as seen by those who know no operation beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Level(Author, Option<Level>),
    Register(Register, OperationId),
}

impl State {
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
