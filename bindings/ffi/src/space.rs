//! Spaces as values: what they say of themselves, their rooms, members, invitations, and what may be changed.

use std::time::SystemTime;

use delta_core::identity::{Author, Identity, LogId, OperationId};
use delta_core::ops::{self, BlobId};
use delta_core::space::Told;
use delta_core::store::{self, AuditRow, InviteRow, MemberRow, RequestRow, RoomRow, SpaceRow};
use delta_core::topic::TopicId;

use crate::message::{millis, time};

/// What a member may do. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Level {
    /// May fetch what others wrote, without the keys to read it.
    Pull,
    /// May read.
    Read,
    /// May write messages.
    Write,
    /// May change the space, its rooms and its members.
    Manage,
}

impl From<Level> for ops::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Pull => Self::Pull,
            Level::Read => Self::Read,
            Level::Write => Self::Write,
            Level::Manage => Self::Manage,
        }
    }
}

impl From<ops::Level> for Level {
    fn from(level: ops::Level) -> Self {
        match level {
            ops::Level::Pull => Self::Pull,
            ops::Level::Read => Self::Read,
            ops::Level::Write => Self::Write,
            ops::Level::Manage => Self::Manage,
        }
    }
}

/// What a space says about itself. Replaced whole.
#[derive(Clone, PartialEq, Eq, uniffi::Record)]
pub struct SpaceText {
    /// At most 64 characters.
    pub name: String,
    /// What kind of space it is, at most 64 characters.
    #[uniffi(default = None)]
    pub label: Option<String>,
    /// At most 2048 bytes.
    #[uniffi(default = None)]
    pub description: Option<String>,
    /// What newcomers are told, at most 2048 bytes.
    #[uniffi(default = None)]
    pub welcome: Option<String>,
    /// Picture.
    #[uniffi(default = None)]
    pub avatar: Option<BlobId>,
    /// Wide picture.
    #[uniffi(default = None)]
    pub cover: Option<BlobId>,
    /// Whether it may be listed.
    #[uniffi(default = false)]
    pub public: bool,
    /// Whether new members may read what was written before them.
    #[uniffi(default = false)]
    pub history: bool,
}

impl From<SpaceText> for ops::SpaceText {
    fn from(text: SpaceText) -> Self {
        let SpaceText { name, label, description, welcome, avatar, cover, public, history } = text;
        Self { name, label, description, avatar, cover, welcome, public, history }
    }
}

impl From<ops::SpaceText> for SpaceText {
    fn from(text: ops::SpaceText) -> Self {
        let ops::SpaceText { name, label, description, avatar, cover, welcome, public, history } = text;
        Self { name, label, description, welcome, avatar, cover, public, history }
    }
}

/// What a room says about itself. Replaced whole.
#[derive(Clone, PartialEq, Eq, uniffi::Record)]
pub struct RoomText {
    /// At most 64 characters.
    pub name: String,
    /// At most 2048 bytes.
    #[uniffi(default = None)]
    pub description: Option<String>,
    /// How long a member waits between two messages, seconds. Kept by the sending app.
    #[uniffi(default = None)]
    pub cooldown: Option<u64>,
}

impl From<RoomText> for ops::RoomText {
    fn from(text: RoomText) -> Self {
        let RoomText { name, description, cooldown } = text;
        Self { name, description, cooldown }
    }
}

/// A space or room that was made or joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Place {
    /// Its stable name.
    pub log: LogId,
    /// The topic to subscribe to and publish in. It stays valid when keys change.
    pub topic: TopicId,
}

impl From<(LogId, TopicId)> for Place {
    fn from((log, topic): (LogId, TopicId)) -> Self {
        Self { log, topic }
    }
}

/// A space.
#[derive(Clone, uniffi::Record)]
pub struct Space {
    /// Its stable name.
    pub space: LogId,
    /// Its topic on this device, if it is open here.
    pub topic: Option<TopicId>,
    /// What it says about itself.
    pub about: SpaceText,
    /// Nothing in it counts any more.
    pub deleted: bool,
    /// A newer version of the app is needed to follow it.
    pub update_required: bool,
}

impl Space {
    pub(crate) fn new(row: SpaceRow, topic: Option<TopicId>) -> Self {
        let SpaceRow { space, text, deleted, update_required, .. } = row;
        Self { space, topic, about: text.into(), deleted, update_required }
    }
}

/// Whether a room takes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum RoomState {
    /// It does.
    Open,
    /// To be read only.
    Archived,
    /// Gone.
    Deleted,
}

/// A room.
#[derive(Clone, uniffi::Record)]
pub struct Room {
    /// Its stable name.
    pub room: LogId,
    /// The space it belongs to.
    pub space: LogId,
    /// Its topic on this device, if it is open here.
    pub topic: Option<TopicId>,
    /// What it says about itself.
    pub about: RoomText,
    /// Whether it takes messages.
    pub state: RoomState,
}

impl Room {
    pub(crate) fn new(row: RoomRow, topic: Option<TopicId>) -> Self {
        let ops::RoomText { name, description, cooldown } = row.text;
        let state = match row.state {
            store::RoomState::Open => RoomState::Open,
            store::RoomState::Archived => RoomState::Archived,
            store::RoomState::Deleted => RoomState::Deleted,
        };
        let about = RoomText { name, description, cooldown };
        Self { room: row.room, space: row.space, topic, about, state }
    }
}

/// A member of a space, or somebody banned from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Member {
    /// Who: a person, on whatever device.
    pub member: Identity,
    /// Their level; nothing for whoever is no member.
    pub level: Option<Level>,
    /// A member who may not write for now.
    pub muted: bool,
    /// Not to be added.
    pub banned: bool,
}

impl From<MemberRow> for Member {
    fn from(MemberRow { member, standing }: MemberRow) -> Self {
        let level = standing.level.map(Into::into);
        Self { member, level, muted: standing.muted, banned: standing.banned }
    }
}

/// A device that a space was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct SpaceDevice {
    /// The device: what messages name as their author.
    pub device: Author,
    /// Whose it is.
    pub person: Identity,
    /// It speaks for nobody any more.
    pub revoked: bool,
}

impl From<Told> for SpaceDevice {
    fn from(told: Told) -> Self {
        Self { device: told.device, person: told.identity, revoked: told.revoked }
    }
}

/// An invitation that is not revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Invitation {
    /// The operation that made it: what revokes it names.
    pub id: OperationId,
    /// The level whoever comes with it gets.
    pub level: Level,
    /// When it expires.
    pub expires: Option<SystemTime>,
    /// Whether it admits one person only.
    pub once: bool,
    /// Whether it, admitting one only, has.
    pub used: bool,
}

impl From<InviteRow> for Invitation {
    fn from(row: InviteRow) -> Self {
        let InviteRow { id, level, expires, once, used } = row;
        Self { id, level: level.into(), expires: expires.map(time), once, used }
    }
}

/// Where a line of a space's audit log stands: to be handed back for the lines below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct AuditPlace {
    /// Above that of everything the operation builds on. Operations that know nothing of each other may share one.
    pub rank: u32,
    /// The operation.
    pub id: OperationId,
}

/// A line of a space's audit log.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct AuditLine {
    /// Where it stands, with the operation.
    pub place: AuditPlace,
    /// Who did it.
    pub who: Identity,
    /// What, as docs/wire.md names it: `member.add`, say.
    pub kind: String,
    /// Whom it is about.
    pub subject: Option<Identity>,
    /// The device it is about.
    pub device: Option<Author>,
}

impl From<AuditRow> for AuditLine {
    fn from(row: AuditRow) -> Self {
        let AuditRow { rank, id, who, kind, subject, device } = row;
        Self { place: AuditPlace { rank, id }, who, kind, subject, device }
    }
}

/// Somebody who asks to be let in.
#[derive(Clone, uniffi::Record)]
pub struct JoinRequest {
    /// The operation.
    pub id: OperationId,
    /// Who.
    pub author: Author,
    /// The invitation they claim; nothing for a mere request. Whoever made it answers by itself.
    pub invitation: Option<OperationId>,
    /// What they say.
    pub text: Option<String>,
}

impl From<RequestRow> for JoinRequest {
    fn from(row: RequestRow) -> Self {
        let invitation = row.claim.map(|(invitation, _)| invitation);
        Self { id: row.id, author: row.author, invitation, text: row.text }
    }
}

/// A change of a space, its rooms or its members.
#[derive(Clone, uniffi::Enum)]
pub enum SpaceAction {
    /// The space says this about itself from now on.
    Update {
        /// All of it.
        about: SpaceText,
    },
    /// Nothing in the space counts any more.
    Delete,
    /// Adds somebody.
    Add {
        /// Who.
        member: Identity,
        /// With which level.
        level: Level,
    },
    /// Removes a member; rooms change their keys.
    Remove {
        /// Who.
        member: Identity,
    },
    /// Gives a member a higher level.
    Promote {
        /// Who.
        member: Identity,
        /// The new level.
        level: Level,
    },
    /// Gives a member a lower level.
    Demote {
        /// Who.
        member: Identity,
        /// The new level.
        level: Level,
    },
    /// This person leaves. The last one who manages the space names another first (`Transfer`).
    Leave,
    /// Another member becomes a manager, and this person may write only.
    Transfer {
        /// Who.
        member: Identity,
    },
    /// Removes somebody, who cannot be added again.
    Ban {
        /// Who.
        member: Identity,
        /// Why, at most 2048 bytes.
        #[uniffi(default = None)]
        reason: Option<String>,
    },
    /// Ends a ban.
    Unban {
        /// Who.
        member: Identity,
    },
    /// A member may not write for now.
    Mute {
        /// Who.
        member: Identity,
        /// When it ends; nothing: when it is ended.
        #[uniffi(default = None)]
        until: Option<SystemTime>,
    },
    /// Ends a mute.
    Unmute {
        /// Who.
        member: Identity,
    },
    /// An invitation admits nobody any more.
    RevokeInvitation {
        /// The operation that made it.
        invitation: OperationId,
    },
    /// A room says this about itself from now on.
    UpdateRoom {
        /// Which.
        room: LogId,
        /// All of it.
        about: RoomText,
    },
    /// A room can be read only.
    ArchiveRoom {
        /// Which.
        room: LogId,
    },
    /// A room takes messages again.
    UnarchiveRoom {
        /// Which.
        room: LogId,
    },
    /// A room is gone.
    DeleteRoom {
        /// Which.
        room: LogId,
    },
}

impl From<SpaceAction> for ops::Action {
    fn from(action: SpaceAction) -> Self {
        use SpaceAction as From;
        match action {
            From::Update { about } => Self::SpaceUpdate { about: about.into() },
            From::Delete => Self::SpaceDelete,
            From::Add { member, level } => {
                Self::Add { member, level: level.into(), invite: None, claim: None }
            }
            From::Remove { member } => Self::Remove { member },
            From::Promote { member, level } => Self::Promote { member, level: level.into() },
            From::Demote { member, level } => Self::Demote { member, level: level.into() },
            From::Leave => Self::Leave,
            From::Transfer { member } => Self::Transfer { member },
            From::Ban { member, reason } => Self::Ban { member, reason },
            From::Unban { member } => Self::Unban { member },
            From::Mute { member, until } => Self::Mute { member, until: until.map(millis) },
            From::Unmute { member } => Self::Unmute { member },
            From::RevokeInvitation { invitation } => Self::InviteRevoke { invite: invitation },
            From::UpdateRoom { room, about } => Self::RoomUpdate { room, about: about.into() },
            From::ArchiveRoom { room } => Self::RoomArchive { room },
            From::UnarchiveRoom { room } => Self::RoomUnarchive { room },
            From::DeleteRoom { room } => Self::RoomDelete { room },
        }
    }
}
