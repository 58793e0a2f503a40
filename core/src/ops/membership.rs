//! What is said in a space's log: who belongs to it, with which level, and which rooms it has.
//!
//! Every one of these kinds stands in the space's membership graph: it cites the membership operations its author had
//! seen (body key 4), and is judged there alone ([`crate::space`] does that). The payloads are in docs/wire.md,
//! section 12.

use std::fmt;

use cbor_core::Value;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::payload::{Flaw, LimitError, Payload, check_description};
use super::texts::{RoomText, SpaceText};
use crate::cbor::{array, unsigned};
use crate::identity::{Author, Certificate, Identity, LogId, Millis, OperationId, Revocation};
use crate::limits::RENEWAL_EPOCHS;

/// What a member may do. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

impl Level {
    /// Every level, lowest first: the number on the wire is the place in here.
    pub const ALL: [Self; 4] = [Self::Pull, Self::Read, Self::Write, Self::Manage];

    /// The number on the wire.
    pub const fn number(self) -> u64 {
        self as u64
    }

    /// The level with this number.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Read => "read",
            Self::Write => "write",
            Self::Manage => "manage",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A secret of 32 bytes that travels in a body: wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Hidden(pub [u8; 32]);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(..)")
    }
}

/// The keys of a room's first topic (epoch 0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomKeys {
    /// Seed of the write key.
    pub write: Hidden,
    /// The secret its envelopes are sealed with.
    pub secret: Hidden,
}

/// The terms of an invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteTerms {
    /// The key a claim is authenticated with.
    pub token: Hidden,
    /// The level whoever comes with it gets.
    pub level: Level,
    /// When it expires. Judged once, by the manager's device that answers a claim.
    pub expires: Option<Millis>,
    /// Whether it admits one person only.
    pub once: bool,
}

/// One operation of a space's membership graph.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// `space.create`: the first operation of its author's log; the author is the first manager.
    SpaceCreate {
        /// With the author's key it gives the space's log id.
        nonce: [u8; 32],
        /// What the space is.
        about: SpaceText,
        /// Whose device its author is; nothing where it is its own identity.
        certificate: Option<Box<Certificate>>,
    },
    /// `space.update`.
    SpaceUpdate {
        /// What the space is from now on.
        about: SpaceText,
    },
    /// `space.delete`: nothing in the space counts any more.
    SpaceDelete,
    /// `member.add`.
    Add {
        /// Who.
        member: Identity,
        /// With which level.
        level: Level,
        /// The invitation that was claimed.
        invite: Option<OperationId>,
        /// The claim.
        claim: Option<OperationId>,
    },
    /// `member.remove`.
    Remove {
        /// Who.
        member: Identity,
    },
    /// `member.promote`: to a higher level.
    Promote {
        /// Who.
        member: Identity,
        /// The new level.
        level: Level,
    },
    /// `member.demote`: to a lower level.
    Demote {
        /// Who.
        member: Identity,
        /// The new level.
        level: Level,
    },
    /// `member.leave`.
    Leave,
    /// `member.transfer`: another member becomes a manager, and the author may write only.
    Transfer {
        /// Who.
        member: Identity,
    },
    /// `member.ban`: out, and not to be added again.
    Ban {
        /// Who.
        member: Identity,
        /// Why, at most [`crate::limits::MAX_DESCRIPTION`] bytes.
        reason: Option<String>,
    },
    /// `member.unban`.
    Unban {
        /// Who.
        member: Identity,
    },
    /// `member.mute`: a member who may not write for now.
    Mute {
        /// Who.
        member: Identity,
        /// When a manager's device is to end it.
        until: Option<Millis>,
    },
    /// `member.unmute`.
    Unmute {
        /// Who.
        member: Identity,
    },
    /// `device.add`: a further device of a member, made known by the member.
    DeviceAdd {
        /// The identity's word for the device.
        certificate: Certificate,
    },
    /// `device.revoke`: a device that speaks for its identity no more, ever.
    DeviceRevoke {
        /// The identity's word against the device.
        revocation: Revocation,
    },
    /// `invite.create`.
    InviteCreate(InviteTerms),
    /// `invite.revoke`.
    InviteRevoke {
        /// The operation that made it.
        invite: OperationId,
    },
    /// `room.create`.
    RoomCreate {
        /// With the space's log id it gives the room's.
        nonce: [u8; 32],
        /// What the room is.
        about: RoomText,
        /// The keys of its first topic.
        keys: RoomKeys,
    },
    /// `room.renew`: the room goes on in a topic of which every reader of the space's log has the keys.
    RoomRenew {
        /// The room's log id.
        room: LogId,
        /// The topic's epoch: [`RENEWAL_EPOCHS`] after the last renewal's, or the first.
        epoch: u32,
        /// The last epoch before it that counts: those between are over.
        from: u32,
        /// The keys of its topic.
        keys: RoomKeys,
    },
    /// `room.update`.
    RoomUpdate {
        /// The room's log id.
        room: LogId,
        /// What it is from now on.
        about: RoomText,
    },
    /// `room.archive`: to be read only.
    RoomArchive {
        /// The room's log id.
        room: LogId,
    },
    /// `room.unarchive`.
    RoomUnarchive {
        /// The room's log id.
        room: LogId,
    },
    /// `room.delete`.
    RoomDelete {
        /// The room's log id.
        room: LogId,
    },
}

/// Shows what is done to whom, and how much text there is, not what it says.
impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self {
            Self::Add { level, .. } | Self::Promote { level, .. } | Self::Demote { level, .. } => Some(level),
            _ => None,
        };
        f.debug_struct(self.kind())
            .field("subject", &self.subject())
            .field("level", &level)
            .field("bytes", &self.text_len())
            .finish_non_exhaustive()
    }
}

/// Kinds that begin like this belong to the membership of a space: an unknown one is not skipped there.
pub const FAMILIES: [&str; 4] = ["space.", "member.", "invite.", "room."];

/// Whether a room's epoch is one that a renewal begins, and no rotation.
pub const fn is_renewal(epoch: u32) -> bool {
    epoch != 0 && epoch.is_multiple_of(RENEWAL_EPOCHS)
}

/// The log id of the space an author makes with a nonce: nobody else can claim to have made it.
pub fn space_id(creator: Author, nonce: &[u8; 32]) -> LogId {
    derive_log("delta space id v1", &creator.0, nonce)
}

/// The log id of a room made in a space with a nonce: it belongs to no other space.
pub fn room_id(space: LogId, nonce: &[u8; 32]) -> LogId {
    derive_log("delta room id v1", &space.0, nonce)
}

fn derive_log(context: &str, owner: &[u8; 32], nonce: &[u8; 32]) -> LogId {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(owner);
    hasher.update(nonce);
    LogId(*hasher.finalize().as_bytes())
}

macro_rules! kinds {
    ($($pattern:pat => $name:literal,)*) => {
        impl Action {
            /// The kind's name on the wire.
            pub const fn kind(&self) -> &'static str {
                match self { $($pattern => $name,)* }
            }

            /// The kinds' names.
            pub const KINDS: &[&str] = &[$($name),*];
        }
    };
}

kinds! {
    Self::SpaceCreate { .. } => "space.create",
    Self::SpaceUpdate { .. } => "space.update",
    Self::SpaceDelete => "space.delete",
    Self::Add { .. } => "member.add",
    Self::Remove { .. } => "member.remove",
    Self::Promote { .. } => "member.promote",
    Self::Demote { .. } => "member.demote",
    Self::Leave => "member.leave",
    Self::Transfer { .. } => "member.transfer",
    Self::Ban { .. } => "member.ban",
    Self::Unban { .. } => "member.unban",
    Self::Mute { .. } => "member.mute",
    Self::Unmute { .. } => "member.unmute",
    Self::DeviceAdd { .. } => "device.add",
    Self::DeviceRevoke { .. } => "device.revoke",
    Self::InviteCreate(_) => "invite.create",
    Self::InviteRevoke { .. } => "invite.revoke",
    Self::RoomCreate { .. } => "room.create",
    Self::RoomRenew { .. } => "room.renew",
    Self::RoomUpdate { .. } => "room.update",
    Self::RoomArchive { .. } => "room.archive",
    Self::RoomUnarchive { .. } => "room.unarchive",
    Self::RoomDelete { .. } => "room.delete",
}

pub(super) type Pairs<'a> = Vec<(u64, Value<'a>)>;

impl Action {
    /// The member it is about, unless that is its author.
    pub const fn subject(&self) -> Option<Identity> {
        match self {
            Self::Add { member, .. }
            | Self::Remove { member }
            | Self::Promote { member, .. }
            | Self::Demote { member, .. }
            | Self::Transfer { member }
            | Self::Ban { member, .. }
            | Self::Unban { member }
            | Self::Mute { member, .. }
            | Self::Unmute { member } => Some(*member),
            _ => None,
        }
    }

    /// The device it is about.
    pub const fn device(&self) -> Option<Author> {
        match self {
            Self::DeviceAdd { certificate } => Some(certificate.device),
            Self::DeviceRevoke { revocation } => Some(revocation.device),
            _ => None,
        }
    }

    /// Bytes of text in it.
    pub(super) fn text_len(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        match self {
            Self::SpaceCreate { about, .. } | Self::SpaceUpdate { about } => {
                let SpaceText { name, label, description, welcome, .. } = about;
                name.len() + optional(label) + optional(description) + optional(welcome)
            }
            Self::RoomCreate { about, .. } | Self::RoomUpdate { about, .. } => {
                about.name.len() + optional(&about.description)
            }
            Self::Ban { reason, .. } => optional(reason),
            _ => 0,
        }
    }

    pub(super) fn check(&self) -> Result<(), LimitError> {
        match self {
            Self::SpaceCreate { about, .. } | Self::SpaceUpdate { about } => about.check(),
            Self::RoomCreate { about, .. } | Self::RoomUpdate { about, .. } => about.check(),
            Self::Ban { reason, .. } => check_description(reason.as_deref()),
            _ => Ok(()),
        }
    }

    pub(super) fn pairs(&self) -> Pairs<'_> {
        let id = |id: &[u8; 32]| (0, Value::from(*id));
        match self {
            Self::SpaceCreate { nonce, about, certificate } => {
                let mut pairs = about.pairs();
                pairs.push((8, Value::from(*nonce)));
                pairs.extend(certificate.as_ref().map(|it| (9, Value::from(it.to_bytes()))));
                pairs
            }
            Self::DeviceAdd { certificate } => vec![(0, Value::from(certificate.to_bytes()))],
            Self::DeviceRevoke { revocation } => vec![(0, Value::from(revocation.to_bytes()))],
            Self::SpaceUpdate { about } => about.pairs(),
            Self::SpaceDelete | Self::Leave => Vec::new(),
            Self::Add { member, level, invite, claim } => {
                let mut pairs = vec![id(&member.0), (1, Value::from(level.number()))];
                pairs.extend(invite.map(|id| (2, Value::from(id.0))));
                pairs.extend(claim.map(|id| (3, Value::from(id.0))));
                pairs
            }
            Self::Promote { member, level } | Self::Demote { member, level } => {
                vec![id(&member.0), (1, Value::from(level.number()))]
            }
            Self::Remove { member }
            | Self::Transfer { member }
            | Self::Unban { member }
            | Self::Unmute { member } => vec![id(&member.0)],
            Self::Ban { member, reason } => {
                let mut pairs = vec![id(&member.0)];
                pairs.extend(reason.as_ref().map(|reason| (1, Value::from(reason))));
                pairs
            }
            Self::Mute { member, until } => {
                let mut pairs = vec![id(&member.0)];
                pairs.extend(until.map(|at| (1, Value::from(at.0))));
                pairs
            }
            Self::InviteCreate(terms) => {
                let mut pairs = vec![id(&terms.token.0), (1, Value::from(terms.level.number()))];
                pairs.extend(terms.expires.map(|at| (2, Value::from(at.0))));
                pairs.extend(terms.once.then_some((3, Value::from(true))));
                pairs
            }
            Self::InviteRevoke { invite } => vec![id(&invite.0)],
            Self::RoomCreate { nonce, about, keys } => {
                let mut pairs = vec![id(nonce)];
                pairs.extend(about.pairs());
                pairs.push((4, Value::from(keys.write.0)));
                pairs.push((5, Value::from(keys.secret.0)));
                pairs
            }
            Self::RoomRenew { room, epoch, from, keys } => vec![
                id(&room.0),
                (1, Value::from(u64::from(*epoch))),
                (2, Value::from(u64::from(*from))),
                (4, Value::from(keys.write.0)),
                (5, Value::from(keys.secret.0)),
            ],
            Self::RoomUpdate { room, about } => {
                let mut pairs = vec![id(&room.0)];
                pairs.extend(about.pairs());
                pairs
            }
            Self::RoomArchive { room } | Self::RoomUnarchive { room } | Self::RoomDelete { room } => {
                vec![id(&room.0)]
            }
        }
    }

    /// The action of a kind; `None` when the kind is none of these.
    pub(super) fn read(kind: &str, payload: &Payload<'_, '_>) -> Option<(&'static str, Result<Self, Flaw>)> {
        let kind = *Self::KINDS.iter().find(|known| **known == kind)?;
        Some((kind, Self::read_known(kind, payload)))
    }

    fn read_known(kind: &'static str, payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        let member = || payload.required(0, array).map(Identity);
        let room = || payload.required(0, array).map(LogId);
        Ok(match kind {
            "space.create" => Self::SpaceCreate {
                nonce: payload.required(8, array)?,
                about: SpaceText::read(payload)?,
                certificate: payload.optional(9, certificate)?.map(Box::new),
            },
            "device.add" => Self::DeviceAdd { certificate: payload.required(0, certificate)? },
            "device.revoke" => Self::DeviceRevoke {
                revocation: payload.required(0, |value| Revocation::from_bytes(&device_word(value)?).ok())?,
            },
            "space.update" => Self::SpaceUpdate { about: SpaceText::read(payload)? },
            "space.delete" => Self::SpaceDelete,
            "member.add" => Self::Add {
                member: member()?,
                level: level(payload)?,
                invite: payload.optional(2, array)?.map(OperationId),
                claim: payload.optional(3, array)?.map(OperationId),
            },
            "member.remove" => Self::Remove { member: member()? },
            "member.promote" => Self::Promote { member: member()?, level: level(payload)? },
            "member.demote" => Self::Demote { member: member()?, level: level(payload)? },
            "member.leave" => Self::Leave,
            "member.transfer" => Self::Transfer { member: member()? },
            "member.ban" => Self::Ban { member: member()?, reason: payload.description(1)? },
            "member.unban" => Self::Unban { member: member()? },
            "member.mute" => {
                Self::Mute { member: member()?, until: payload.optional(1, unsigned)?.map(Millis) }
            }
            "member.unmute" => Self::Unmute { member: member()? },
            "invite.create" => Self::InviteCreate(InviteTerms {
                token: Hidden(payload.required(0, array)?),
                level: level(payload)?,
                expires: payload.optional(2, unsigned)?.map(Millis),
                once: payload.flag(3)?,
            }),
            "invite.revoke" => Self::InviteRevoke { invite: payload.id(0)? },
            "room.create" => Self::RoomCreate {
                nonce: payload.required(0, array)?,
                about: RoomText::read(payload)?,
                keys: room_keys(payload)?,
            },
            "room.renew" => Self::RoomRenew {
                room: room()?,
                epoch: payload.required(1, renewal_epoch)?,
                from: payload.required(2, number)?,
                keys: room_keys(payload)?,
            },
            "room.update" => Self::RoomUpdate { room: room()?, about: RoomText::read(payload)? },
            "room.archive" => Self::RoomArchive { room: room()? },
            "room.unarchive" => Self::RoomUnarchive { room: room()? },
            _ => Self::RoomDelete { room: room()? },
        })
    }
}

fn room_keys(payload: &Payload<'_, '_>) -> Result<RoomKeys, Flaw> {
    Ok(RoomKeys { write: Hidden(payload.required(4, array)?), secret: Hidden(payload.required(5, array)?) })
}

fn number(value: &Value<'_>) -> Option<u32> {
    u32::try_from(unsigned(value)?).ok()
}

fn renewal_epoch(value: &Value<'_>) -> Option<u32> {
    number(value).filter(|epoch| is_renewal(*epoch))
}

fn certificate(value: &Value<'_>) -> Option<Certificate> {
    Certificate::from_bytes(&device_word(value)?).ok()
}

fn device_word(value: &Value<'_>) -> Option<[u8; Certificate::LEN]> {
    array(value)
}

fn level(payload: &Payload<'_, '_>) -> Result<Level, Flaw> {
    Level::from_number(payload.required(1, unsigned)?).ok_or(Flaw::WrongType(1))
}
