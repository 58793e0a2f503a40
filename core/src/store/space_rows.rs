//! The rows of spaces: written from the graph, read by apps.

use std::fmt;

use rusqlite::{Row, params};

use super::db::{Db, int, millis, uint};
use super::error::StoreError;
use super::spaces::Belongs;
use super::tx::Tx;
use crate::identity::{Author, Identity, LogId, Millis, OperationId};
use crate::ops::{Action, BlobId, InviteTerms, Level, RoomText, SpaceText};
use crate::projector::{Aggregate, Change, Place, Position};
use crate::space::{Membership, Register, Standing, State, Told};
use crate::tree::{IntoTree, Map};

/// A space.
#[derive(Clone, PartialEq, Eq)]
pub struct SpaceRow {
    /// Its log id.
    pub space: LogId,
    /// The operation its texts are from.
    pub about: OperationId,
    /// What it says about itself.
    pub text: SpaceText,
    /// Nothing in it counts any more.
    pub deleted: bool,
    /// A newer version of the app is needed to follow it.
    pub update_required: bool,
}

impl fmt::Debug for SpaceRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpaceRow").field("space", &self.space).finish_non_exhaustive()
    }
}

/// Whether a room takes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomState {
    /// It does.
    Open,
    /// To be read only.
    Archived,
    /// Gone.
    Deleted,
}

/// A room.
#[derive(Clone, PartialEq, Eq)]
pub struct RoomRow {
    /// Its log id.
    pub room: LogId,
    /// The space it belongs to.
    pub space: LogId,
    /// The operation its texts are from.
    pub about: OperationId,
    /// What it says about itself.
    pub text: RoomText,
    /// Whether it takes messages.
    pub state: RoomState,
}

impl fmt::Debug for RoomRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomRow")
            .field("room", &self.room)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A member of a space, or somebody banned from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// Who.
    pub member: Identity,
    /// How they stand.
    pub standing: Standing,
}

/// An invitation that is not revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InviteRow {
    /// The operation that made it.
    pub id: OperationId,
    /// The level whoever comes with it gets.
    pub level: Level,
    /// When it expires.
    pub expires: Option<Millis>,
    /// Whether it admits one person only.
    pub once: bool,
    /// Whether it, admitting one only, has.
    pub used: bool,
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Above that of everything it builds on; with the id it gives an order all devices agree on.
    pub rank: u32,
    /// The operation.
    pub id: OperationId,
    /// Who did it.
    pub who: Identity,
    /// Its kind.
    pub kind: String,
    /// Whom it is about.
    pub subject: Option<Identity>,
    /// The device it is about.
    pub device: Option<Author>,
}

/// What of a conversation has not been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Messages of others after the marker, at most [`crate::limits::MAX_UNREAD`].
    pub messages: u64,
    /// Those of them that mention the reader, at most as many.
    pub mentions: u64,
}

macro_rules! select_space {
    ($rest:literal) => {
        concat!(
            "SELECT space, about, name, label, description, avatar, cover, welcome, public, history, deleted, \
             update_required FROM space ",
            $rest
        )
    };
}

macro_rules! select_room {
    ($rest:literal) => {
        concat!("SELECT room, space, about, name, description, cooldown_s, state FROM room ", $rest)
    };
}

impl Db {
    /// Which space judges a log; `None`: nobody does.
    pub fn space_of(&self, log: &LogId) -> Result<Option<Belongs>, StoreError> {
        self.one("SELECT space, room FROM space_log WHERE log = ?1", [log.0], |row| {
            Ok(Belongs { space: LogId(row.get(0)?), room: row.get(1)? })
        })
    }

    /// All spaces.
    pub fn spaces(&self) -> Result<Vec<SpaceRow>, StoreError> {
        self.all(select_space!("ORDER BY space"), [], space_row)
    }

    /// One space.
    pub fn space(&self, space: &LogId) -> Result<Option<SpaceRow>, StoreError> {
        self.one(select_space!("WHERE space = ?1"), [space.0], space_row)
    }

    /// The rooms of a space, deleted ones included.
    pub fn rooms(&self, space: &LogId) -> Result<Vec<RoomRow>, StoreError> {
        self.all(select_room!("WHERE space = ?1 ORDER BY room"), [space.0], room_row)
    }

    /// One room.
    pub fn room(&self, room: &LogId) -> Result<Option<RoomRow>, StoreError> {
        self.one(select_room!("WHERE room = ?1"), [room.0], room_row)
    }

    /// All members of a space and whoever is banned from it.
    pub fn members(&self, space: &LogId) -> Result<Vec<MemberRow>, StoreError> {
        self.members_after(space, None, usize::MAX)
    }

    /// A page of at most `limit` of them, by their keys.
    pub fn members_after(
        &self,
        space: &LogId,
        after: Option<&Identity>,
        limit: usize,
    ) -> Result<Vec<MemberRow>, StoreError> {
        let after = after.map_or(&[][..], |member| &member.0);
        self.all(
            "SELECT author, level, muted, banned FROM member WHERE space = ?1 AND author > ?2
             ORDER BY author LIMIT ?3",
            params![space.0, after, int(limit as u64)],
            |row| {
                let level = row.get::<_, Option<i64>>(1)?.and_then(|level| Level::from_number(uint(level)));
                let standing = Standing { level, muted: row.get(2)?, banned: row.get(3)? };
                Ok(MemberRow { member: Identity(row.get(0)?), standing })
            },
        )
    }

    /// The devices that a space was told of, revoked ones included.
    pub fn space_devices(&self, space: &LogId) -> Result<Vec<Told>, StoreError> {
        self.all(
            "SELECT device, identity, revoked FROM space_device WHERE space = ?1 ORDER BY device",
            [space.0],
            |row| {
                let (device, identity) = (Author(row.get(0)?), Identity(row.get(1)?));
                Ok(Told { device, identity, revoked: row.get(2)? })
            },
        )
    }

    /// The person behind a device in a conversation, as the space it belongs to was told.
    pub fn person(&self, log: &LogId, device: &Author) -> Result<Identity, StoreError> {
        let told = self.one(
            "SELECT d.identity FROM space_log l JOIN space_device d ON d.space = l.space AND d.device = ?2
             WHERE l.log = ?1",
            [log.0, device.0],
            |row| row.get(0).map(Identity),
        )?;
        Ok(told.unwrap_or_else(|| (*device).into()))
    }

    /// The devices that the space of a conversation was told are this person's, revoked ones included.
    pub(super) fn devices_of_person_in(
        &self,
        log: &LogId,
        person: &Identity,
    ) -> Result<Vec<Author>, StoreError> {
        self.all(
            "SELECT d.device FROM space_log l JOIN space_device d ON d.space = l.space AND d.identity = ?2
             WHERE l.log = ?1",
            [log.0, person.0],
            |row| row.get(0).map(Author),
        )
    }

    /// The invitations of a space that are not revoked.
    pub fn invites(&self, space: &LogId) -> Result<Vec<InviteRow>, StoreError> {
        self.all(
            "SELECT id, level, expires_ms, once, used FROM invite WHERE space = ?1 ORDER BY id",
            [space.0],
            |row| {
                let level = Level::from_number(uint(row.get(1)?)).unwrap_or(Level::Pull);
                let expires = millis(row.get(2)?);
                let id = OperationId(row.get(0)?);
                Ok(InviteRow { id, level, expires, once: row.get(3)?, used: row.get(4)? })
            },
        )
    }

    /// What happened in a space, newest first, before a line (its rank and id).
    pub fn audit(
        &self,
        space: &LogId,
        before: Option<(u32, OperationId)>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let (rank, id) = before.map_or((i64::MAX, [0; 32]), |(rank, id)| (i64::from(rank), id.0));
        self.all(
            "SELECT rank, id, author, kind, subject, device FROM audit
             WHERE space = ?1 AND (rank, id) < (?2, ?3) ORDER BY rank DESC, id DESC LIMIT ?4",
            params![space.0, rank, id, int(limit as u64)],
            |row| {
                let (id, who) = (OperationId(row.get(1)?), Identity(row.get(2)?));
                let subject = row.get::<_, Option<[u8; 32]>>(4)?.map(Identity);
                let device = row.get::<_, Option<[u8; 32]>>(5)?.map(Author);
                Ok(AuditRow { rank: row.get(0)?, id, who, kind: row.get(3)?, subject, device })
            },
        )
    }

    /// How many operations of a log wait for a membership operation.
    pub fn unjudged(&self, log: &LogId) -> Result<u64, StoreError> {
        let count = self.one("SELECT count(*) FROM unjudged WHERE log = ?1", [log.0], |row| row.get(0))?;
        Ok(uint(count.unwrap_or(0)))
    }
}

impl Tx<'_> {
    /// Notes how far a conversation has been read. Whether that is further than before.
    pub fn set_read(&self, log: &LogId, upto: &Position) -> Result<bool, StoreError> {
        let moved = self.run(
            "INSERT INTO read_marker (log, pos, author, seq_num) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (log) DO UPDATE SET pos = excluded.pos, author = excluded.author,
                 seq_num = excluded.seq_num
             WHERE (excluded.pos, excluded.author, excluded.seq_num) > (pos, author, seq_num)",
            params![log.0, Place::to_bytes(upto.place), upto.author.0, upto.seq_num],
        )?;
        Ok(moved > 0)
    }

    /// Writes the rows of a space as its graph has them now; gives what changed.
    pub(super) fn write_space(&self, space: LogId) -> Result<Vec<Change>, StoreError> {
        let (current, audited) = self.graph(space, |graph| {
            let fresh = graph.take_accepted();
            let fresh = fresh.into_iter().filter_map(|id| graph.audit(id)).collect::<Vec<_>>();
            (graph.current().map(|state| Current::of(graph, space, &state)), fresh)
        })?;
        for line in audited {
            self.run(
                "INSERT INTO audit (space, rank, id, author, kind, subject, device)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                params![
                    space.0,
                    line.rank,
                    line.id.0,
                    line.who.0,
                    line.kind,
                    line.subject.map(|subject| subject.0),
                    line.device.map(|device| device.0)
                ],
            )?;
        }
        let current = current.unwrap_or_default();
        let mut members = self.write_members(space, &current.members)?;
        members.extend(self.write_devices(space, &current.devices)?);
        let changes = [
            (Aggregate::Space, self.write_about(space, current.about)?),
            (Aggregate::Member, members),
            (Aggregate::Room, self.write_rooms(space, &current.rooms)?),
        ];
        self.write_invites(space, &current.invites)?;
        let changed = changes.into_iter().filter(|(_, ids)| !ids.is_empty());
        Ok(changed.map(|(aggregate, ids)| Change::new(space, aggregate, ids)).collect())
    }

    fn write_about(&self, space: LogId, about: Option<SpaceRow>) -> Result<Vec<[u8; 32]>, StoreError> {
        if self.space(&space)? == about {
            return Ok(Vec::new());
        }
        self.run("DELETE FROM space WHERE space = ?1", [space.0])?;
        if let Some(SpaceRow { about, text, deleted, update_required, .. }) = about {
            self.run(
                "INSERT INTO space (space, about, name, label, description, avatar, cover, welcome, public,
                     history, deleted, update_required)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                params![
                    space.0,
                    about.0,
                    text.name,
                    text.label,
                    text.description,
                    text.avatar.map(|id| id.0),
                    text.cover.map(|id| id.0),
                    text.welcome,
                    text.public,
                    text.history,
                    deleted,
                    update_required,
                ],
            )?;
        }
        Ok(vec![space.0])
    }

    fn write_members(
        &self,
        space: LogId,
        members: &Map<Identity, Standing>,
    ) -> Result<Vec<[u8; 32]>, StoreError> {
        let old: Map<_, _> =
            self.members(&space)?.into_iter().map(|row| (row.member, row.standing)).into_map();
        let mut changed = Vec::new();
        for (author, standing) in
            members.iter().filter(|(author, standing)| old.get(author) != Some(standing))
        {
            self.run(
                "INSERT INTO member (space, author, level, muted, banned) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (space, author) DO UPDATE SET level = excluded.level, muted = excluded.muted,
                     banned = excluded.banned",
                params![
                    space.0,
                    author.0,
                    standing.level.map(|level| int(level.number())),
                    standing.muted,
                    standing.banned
                ],
            )?;
            changed.push(author.0);
        }
        for author in old.keys().filter(|author| !members.contains_key(author)) {
            self.run("DELETE FROM member WHERE space = ?1 AND author = ?2", [space.0, author.0])?;
            changed.push(author.0);
        }
        Ok(changed)
    }

    /// Gives whose devices changed.
    fn write_devices(&self, space: LogId, devices: &[Told]) -> Result<Vec<[u8; 32]>, StoreError> {
        let old = self.space_devices(&space)?;
        let mut changed = Vec::new();
        for row in devices.iter().filter(|row| !old.contains(row)) {
            self.run(
                "INSERT INTO space_device (space, device, identity, revoked) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (space, device) DO UPDATE SET identity = excluded.identity,
                     revoked = excluded.revoked",
                params![space.0, row.device.0, row.identity.0, row.revoked],
            )?;
            changed.push(row.identity.0);
        }
        for row in old.iter().filter(|old| devices.iter().all(|row| row.device != old.device)) {
            self.run("DELETE FROM space_device WHERE space = ?1 AND device = ?2", [space.0, row.device.0])?;
            changed.push(row.identity.0);
        }
        Ok(changed)
    }

    fn write_rooms(&self, space: LogId, rooms: &[RoomRow]) -> Result<Vec<[u8; 32]>, StoreError> {
        let old = self.rooms(&space)?;
        let mut changed = Vec::new();
        for row in rooms.iter().filter(|row| !old.contains(row)) {
            let state = match row.state {
                RoomState::Open => 0,
                RoomState::Archived => 1,
                RoomState::Deleted => 2,
            };
            self.run(
                "INSERT INTO room (room, space, about, name, description, cooldown_s, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (room) DO UPDATE SET about = excluded.about, name = excluded.name,
                     description = excluded.description, cooldown_s = excluded.cooldown_s,
                     state = excluded.state",
                params![
                    row.room.0,
                    space.0,
                    row.about.0,
                    row.text.name,
                    row.text.description,
                    row.text.cooldown.map(int),
                    state
                ],
            )?;
            changed.push(row.room.0);
        }
        for row in old.iter().filter(|old| rooms.iter().all(|row| row.room != old.room)) {
            self.run("DELETE FROM room WHERE room = ?1", [row.room.0])?;
            changed.push(row.room.0);
        }
        Ok(changed)
    }

    fn write_invites(&self, space: LogId, invites: &[InviteRow]) -> Result<(), StoreError> {
        if self.invites(&space)? == invites {
            return Ok(());
        }
        self.run("DELETE FROM invite WHERE space = ?1", [space.0])?;
        for row in invites {
            self.run(
                "INSERT INTO invite (space, id, level, expires_ms, once, used) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    space.0,
                    row.id.0,
                    int(row.level.number()),
                    row.expires.map(|at| int(at.0)),
                    row.once,
                    row.used
                ],
            )?;
        }
        Ok(())
    }
}

/// A space's rows as they are to be.
#[derive(Default)]
struct Current {
    about: Option<SpaceRow>,
    members: Map<Identity, Standing>,
    /// By device.
    devices: Vec<Told>,
    /// By id.
    rooms: Vec<RoomRow>,
    /// By id.
    invites: Vec<InviteRow>,
}

impl Current {
    fn of(graph: &Membership, space: LogId, state: &State) -> Self {
        let mut current = Self::default();
        let deleted = state.registers.contains_key(&Register::Deleted);
        let update_required = graph.is_suspended();
        for (register, id) in &state.registers {
            match (register, graph.action(*id)) {
                (
                    Register::About,
                    Some(Action::SpaceCreate { about: text, .. } | Action::SpaceUpdate { about: text }),
                ) => {
                    let (about, text) = (*id, text.clone());
                    current.about = Some(SpaceRow { space, about, text, deleted, update_required });
                }
                (
                    Register::RoomText(room),
                    Some(Action::RoomCreate { about: text, .. } | Action::RoomUpdate { about: text, .. }),
                ) => {
                    let state = shelf(graph, state, *room);
                    let (about, text) = (*id, text.clone());
                    current.rooms.push(RoomRow { room: *room, space, about, text, state });
                }
                (Register::Invite(_), Some(Action::InviteCreate(terms))) => {
                    let InviteTerms { level, expires, once, .. } = *terms;
                    let used = once && state.registers.contains_key(&Register::InviteUsed(*id));
                    current.invites.push(InviteRow { id: *id, level, expires, once, used });
                }
                (Register::Device(device), _) => {
                    current.devices.extend(graph.told_in(state, *device));
                }
                (Register::Ban(who), Some(Action::Ban { .. })) => {
                    current.members.insert(*who, graph.standing_in(state, *who));
                }
                _ => {}
            }
        }
        for who in state.levels.keys() {
            current.members.insert(*who, graph.standing_in(state, *who));
        }
        current
    }
}

fn shelf(graph: &Membership, state: &State, room: LogId) -> RoomState {
    match state.registers.get(&Register::RoomShelf(room)).and_then(|id| graph.action(*id)) {
        Some(Action::RoomDelete { .. }) => RoomState::Deleted,
        Some(Action::RoomArchive { .. }) => RoomState::Archived,
        _ => RoomState::Open,
    }
}

fn space_row(row: &Row<'_>) -> rusqlite::Result<SpaceRow> {
    let blob = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<[u8; 32]>>(column)?.map(BlobId));
    Ok(SpaceRow {
        space: LogId(row.get(0)?),
        about: OperationId(row.get(1)?),
        text: SpaceText {
            name: row.get(2)?,
            label: row.get(3)?,
            description: row.get(4)?,
            avatar: blob(5)?,
            cover: blob(6)?,
            welcome: row.get(7)?,
            public: row.get(8)?,
            history: row.get(9)?,
        },
        deleted: row.get(10)?,
        update_required: row.get(11)?,
    })
}

fn room_row(row: &Row<'_>) -> rusqlite::Result<RoomRow> {
    Ok(RoomRow {
        room: LogId(row.get(0)?),
        space: LogId(row.get(1)?),
        about: OperationId(row.get(2)?),
        text: RoomText {
            name: row.get(3)?,
            description: row.get(4)?,
            cooldown: row.get::<_, Option<i64>>(5)?.map(uint),
        },
        state: match row.get::<_, i64>(6)? {
            0 => RoomState::Open,
            1 => RoomState::Archived,
            _ => RoomState::Deleted,
        },
    })
}
