//! Who may do what, judged at the operations an operation cites; and what it changes there.

use thiserror::Error;

use super::graph::{Graph, Point};
use super::state::{Change, Register};
use crate::identity::{Author, Certificate, Identity, LogId, OperationId, Revocation};
use crate::limits::{MAX_DEVICES, MAX_MEMBERS, MAX_REVOKED, MAX_ROOMS, MAX_SETTLED, RENEWAL_EPOCHS};
use crate::ops::{Action, InviteTerms, Level, room_id};

/// Why a membership operation counts for nothing. Its author is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Not the space's creation by its creator.
    #[error("the operation does not create this space")]
    NotTheCreation,
    /// It cites nothing, something refused, or two spaces' worth of operations.
    #[error("the operation cites no membership operations that count")]
    Heads,
    /// What it cites was done without knowing of too much else.
    #[error("the operation joins more than {MAX_SETTLED} operations made without knowing of each other")]
    TooConcurrent,
    /// The author lacks the level for it.
    #[error("its author had no right to do this at the operations it cites")]
    NotAllowed,
    /// The space was deleted.
    #[error("the space was deleted")]
    Deleted,
    /// Already, or not, a member; not a change of level in this direction.
    #[error("the member's standing does not allow this")]
    Member,
    /// The device is revoked, somebody else's, or known already.
    #[error("the device is revoked, another member's, or known already")]
    Device,
    /// What an identity is said to have signed about a device does not hold.
    #[error("the certificate or revocation of the device does not hold")]
    Certificate,
    /// The space is full.
    #[error(
        "a space has at most {MAX_MEMBERS} members and {MAX_ROOMS} rooms, a member {MAX_DEVICES} devices and \
         {MAX_REVOKED} revoked ones"
    )]
    Full,
    /// The invitation does not exist (any more), says another level, or was used.
    #[error("the invitation does not admit this member")]
    Invite,
    /// The room does not exist, or does already.
    #[error("there is no such room, or there already is")]
    Room,
    /// The room was renewed already, or goes on at another epoch.
    #[error("the room's renewal does not follow on the one before it")]
    Epoch,
    /// Its payload breaks the rules of its kind.
    #[error("the payload breaks the rules of its kind")]
    Malformed,
}

/// A look at one point of a space.
pub(super) struct View<'a> {
    pub(super) graph: &'a Graph,
    pub(super) space: LogId,
    pub(super) point: &'a Point,
}

impl View<'_> {
    /// Whose device this is; `None` when that identity has revoked it. One that nobody told of is its own identity.
    pub(super) fn identity(&self, device: Author) -> Option<Identity> {
        let told = self.graph.register(self.point, Register::Device(device));
        let identity = told.and_then(|id| self.graph.certified(id)).unwrap_or_else(|| device.into());
        self.graph.register(self.point, Register::Revoked(identity, device)).is_none().then_some(identity)
    }

    pub(super) fn level(&self, who: Identity) -> Option<Level> {
        self.graph.level(self.point, who)
    }

    /// The action that decided a thing.
    pub(super) fn decided(&self, register: Register) -> Option<(OperationId, &Action)> {
        let id = self.graph.register(self.point, register)?;
        Some((id, self.graph.action(id)?))
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.decided(Register::Deleted).is_some()
    }

    pub(super) fn is_banned(&self, who: Identity) -> bool {
        matches!(self.decided(Register::Ban(who)), Some((_, Action::Ban { .. })))
    }

    pub(super) fn is_muted(&self, who: Identity) -> bool {
        matches!(self.decided(Register::Mute(who)), Some((_, Action::Mute { .. })))
    }

    fn room_exists(&self, room: LogId) -> bool {
        let deleted = matches!(self.decided(Register::RoomShelf(room)), Some((_, Action::RoomDelete { .. })));
        self.decided(Register::Room(room)).is_some() && !deleted
    }

    /// Whether a room takes messages.
    pub(super) fn room_open(&self, room: LogId) -> bool {
        self.decided(Register::Room(room)).is_some()
            && matches!(
                self.decided(Register::RoomShelf(room)),
                None | Some((_, Action::RoomUnarchive { .. }))
            )
    }

    /// At which epoch a room was taken up last.
    fn renewed(&self, room: LogId) -> u32 {
        match self.decided(Register::RoomKeys(room)) {
            Some((_, Action::RoomRenew { epoch, .. })) => *epoch,
            _ => 0,
        }
    }

    fn invite(&self, id: OperationId) -> Option<&InviteTerms> {
        match self.decided(Register::Invite(id))? {
            (made, Action::InviteCreate(terms)) if made == id => Some(terms),
            _ => None,
        }
    }

    /// Whether an action is allowed to its author here. Gives for whom the author acts.
    pub(super) fn check(&self, author: Author, action: &Action) -> Result<Identity, Refusal> {
        if self.is_deleted() {
            return Err(Refusal::Deleted);
        }
        let identity = self.identity(author).ok_or(Refusal::NotAllowed)?;
        match action {
            Action::DeviceAdd { certificate } => self.check_device(author, certificate),
            Action::DeviceRevoke { revocation } => {
                self.check_revocation(identity, revocation).map(|()| identity)
            }
            action => self.check_act(identity, action).map(|()| identity),
        }
    }

    /// A device says whose it is. Nobody else says it: an identity could certify another person's device.
    fn check_device(&self, author: Author, certificate: &Certificate) -> Result<Identity, Refusal> {
        let Certificate { identity: of, device, .. } = *certificate;
        if author != device || self.level(of).is_none() {
            return Err(Refusal::NotAllowed);
        }
        // Whoever is, or was, somebody here by the device's own key stays that.
        let own = Identity::from(device);
        let known = self.decided(Register::Device(device)).is_some()
            || self.decided(Register::Revoked(of, device)).is_some()
            || self.level(own).is_some()
            || self.is_banned(own);
        if known || own == of {
            return Err(Refusal::Device);
        }
        if self.graph.state(self.point).devices(self.graph, of).len() >= MAX_DEVICES {
            return Err(Refusal::Full);
        }
        certificate.verify(&device).map_err(|_| Refusal::Certificate)?;
        Ok(of)
    }

    /// A member's device tells that the member has revoked one. The key behind the identity itself cannot be.
    fn check_revocation(&self, identity: Identity, revocation: &Revocation) -> Result<(), Refusal> {
        let Revocation { identity: of, device, .. } = *revocation;
        if identity != of || self.level(of).is_none() {
            return Err(Refusal::NotAllowed);
        }
        let told = self.graph.register(self.point, Register::Device(device));
        let another = told.and_then(|id| self.graph.certified(id)).is_some_and(|owner| owner != of);
        if another || Identity::from(device) == of || self.decided(Register::Revoked(of, device)).is_some() {
            return Err(Refusal::Device);
        }
        if self.graph.state(self.point).revoked(of).count() >= MAX_REVOKED {
            return Err(Refusal::Full);
        }
        revocation.verify().map_err(|_| Refusal::Certificate)
    }

    fn check_act(&self, author: Identity, action: &Action) -> Result<(), Refusal> {
        let own = self.level(author);
        // The library takes some changes that change nothing without looking at the author, and counts them as
        // concurrent removals later: whoever may not do it is refused here, before.
        let allowed = match action {
            Action::Leave => own.is_some(),
            _ => own == Some(Level::Manage),
        };
        if !allowed {
            return Err(Refusal::NotAllowed);
        }
        let member = |who: Identity| self.level(who).ok_or(Refusal::Member);
        let demand = |holds: bool, refusal: Refusal| if holds { Ok(()) } else { Err(refusal) };
        match action {
            Action::SpaceCreate { .. } => Err(Refusal::NotTheCreation),
            Action::DeviceAdd { .. } | Action::DeviceRevoke { .. } => Err(Refusal::Device),
            Action::Add { member, level, invite, .. } => self.check_add(*member, *level, *invite),
            Action::Remove { member: who } => member(*who).map(drop),
            Action::Promote { member: who, level } => demand(*level > member(*who)?, Refusal::Member),
            Action::Demote { member: who, level } => demand(*level < member(*who)?, Refusal::Member),
            Action::Transfer { member: who } => {
                member(*who)?;
                demand(*who != author, Refusal::Member)
            }
            Action::Ban { member: who, .. } => demand(!self.is_banned(*who), Refusal::Member),
            Action::Unban { member: who } => demand(self.is_banned(*who), Refusal::Member),
            Action::Mute { member: who, .. } => member(*who).map(drop),
            Action::Unmute { member: who } => demand(self.is_muted(*who), Refusal::Member),
            Action::InviteRevoke { invite } => demand(self.invite(*invite).is_some(), Refusal::Invite),
            Action::RoomCreate { nonce, .. } => {
                demand(self.decided(Register::Room(room_id(self.space, nonce))).is_none(), Refusal::Room)?;
                let rooms = self.graph.rooms(&self.graph.state(self.point)).len();
                demand(rooms < MAX_ROOMS, Refusal::Full)
            }
            Action::RoomRenew { room, epoch, from, .. } => {
                demand(self.room_exists(*room), Refusal::Room)?;
                let next = self.renewed(*room).checked_add(RENEWAL_EPOCHS);
                demand(next == Some(*epoch) && from < epoch, Refusal::Epoch)
            }
            Action::RoomUpdate { room, .. }
            | Action::RoomArchive { room }
            | Action::RoomUnarchive { room }
            | Action::RoomDelete { room } => demand(self.room_exists(*room), Refusal::Room),
            Action::Leave | Action::SpaceUpdate { .. } | Action::SpaceDelete | Action::InviteCreate(_) => {
                Ok(())
            }
        }
    }

    fn check_add(&self, who: Identity, level: Level, invite: Option<OperationId>) -> Result<(), Refusal> {
        if self.level(who).is_some() || self.is_banned(who) {
            return Err(Refusal::Member);
        }
        // A device under two identities: somebody's, and its own.
        if self.decided(Register::Device(Author(who.0))).is_some() {
            return Err(Refusal::Device);
        }
        if self.graph.members(self.point) >= MAX_MEMBERS {
            return Err(Refusal::Full);
        }
        let Some(id) = invite else { return Ok(()) };
        let terms = self.invite(id).filter(|terms| terms.level == level).ok_or(Refusal::Invite)?;
        if terms.once && self.decided(Register::InviteUsed(id)).is_some() {
            return Err(Refusal::Invite);
        }
        Ok(())
    }

    /// What an allowed action changes, for those who know of nothing beside it.
    pub(super) fn changes(&self, id: OperationId, author: Identity, action: &Action) -> Vec<Change> {
        let mut changes = match action {
            Action::SpaceCreate { .. } => vec![Change::Level(author, Some(Level::Manage))],
            Action::Add { member, level, .. }
            | Action::Promote { member, level }
            | Action::Demote { member, level } => vec![Change::Level(*member, Some(*level))],
            Action::Remove { member } => vec![Change::Level(*member, None)],
            Action::Leave => vec![Change::Level(author, None)],
            Action::Ban { member, .. } if self.level(*member).is_some() => vec![Change::Level(*member, None)],
            Action::Transfer { member } => {
                vec![Change::Level(*member, Some(Level::Manage)), Change::Level(author, Some(Level::Write))]
            }
            _ => Vec::new(),
        };
        let registers = registers(self.space, id, action);
        changes.extend(registers.into_iter().map(|register| Change::Register(register, id)));
        changes
    }
}

/// What an action decides besides levels.
pub(super) fn registers(space: LogId, id: OperationId, action: &Action) -> Vec<Register> {
    match action {
        Action::SpaceCreate { certificate: Some(certificate), .. } => {
            vec![Register::About, Register::Device(certificate.device)]
        }
        Action::SpaceCreate { certificate: None, .. } | Action::SpaceUpdate { .. } => vec![Register::About],
        Action::DeviceAdd { certificate } => vec![Register::Device(certificate.device)],
        Action::DeviceRevoke { revocation } => {
            vec![Register::Revoked(revocation.identity, revocation.device)]
        }
        Action::SpaceDelete => vec![Register::Deleted],
        Action::Add { invite: Some(invite), .. } => vec![Register::InviteUsed(*invite)],
        Action::Ban { member, .. } | Action::Unban { member } => vec![Register::Ban(*member)],
        Action::Mute { member, .. } | Action::Unmute { member } => vec![Register::Mute(*member)],
        Action::InviteCreate(_) => vec![Register::Invite(id)],
        Action::InviteRevoke { invite } => vec![Register::Invite(*invite)],
        Action::RoomCreate { nonce, .. } => {
            let room = room_id(space, nonce);
            vec![Register::Room(room), Register::RoomText(room)]
        }
        Action::RoomRenew { room, .. } => vec![Register::RoomKeys(*room)],
        Action::RoomUpdate { room, .. } => vec![Register::RoomText(*room)],
        Action::RoomArchive { room } | Action::RoomUnarchive { room } | Action::RoomDelete { room } => {
            vec![Register::RoomShelf(*room)]
        }
        _ => Vec::new(),
    }
}
