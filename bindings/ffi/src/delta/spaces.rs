//! Spaces, their rooms, members and invitations. Keys change by themselves when somebody leaves.

use std::time::SystemTime;

use delta_core::identity::{Identity, LogId, OperationId};
use delta_core::space::Invite;

use super::{Delta, MAX_PAGE};
use crate::error::DeltaError;
use crate::message::millis;
use crate::space::{
    AuditLine, AuditPlace, Invitation, JoinRequest, Level, Member, Place, Room, RoomText, Space, SpaceAction,
    SpaceDevice, SpaceText,
};

#[uniffi::export]
impl Delta {
    /// Makes a space, with this device as its first manager.
    pub async fn create_space(&self, about: SpaceText) -> Result<Place, DeltaError> {
        self.on(async move |client| client.create_space(about.into()).await).await.map(Into::into)
    }

    /// Makes a room in a space and opens it. Refused with `not_a_space`, and with `not_allowed` for who does not manage it.
    pub async fn create_room(&self, space: LogId, about: RoomText) -> Result<Place, DeltaError> {
        self.on(async move |client| client.create_room(space, about.into()).await).await.map(Into::into)
    }

    /// Changes a space, its rooms or its members. What the space would not count is refused with the code
    /// `not_allowed`, and nothing is signed; the last manager's leaving with `last_manager`, and everything with
    /// `update_required` where somebody used what this version does not know.
    pub async fn change_space(&self, space: LogId, action: SpaceAction) -> Result<OperationId, DeltaError> {
        self.on(async move |client| client.act(space, action.into()).await).await
    }

    /// Makes an invitation and gives its text, for a link or QR code. Whoever has it may claim it: hand it over as you
    /// would a key. This device lets in who does, when it is online. Refused with `not_a_space` and
    /// `not_allowed`.
    #[uniffi::method(default(expires = None, once = false))]
    pub async fn create_invitation(
        &self,
        space: LogId,
        level: Level,
        expires: Option<SystemTime>,
        once: bool,
    ) -> Result<String, DeltaError> {
        let expires = expires.map(millis);
        let invite = self
            .on(async move |client| client.create_invite(space, level.into(), expires, once).await)
            .await?;
        Ok(invite.to_string())
    }

    /// Opens the space of an invitation and claims it. Whoever made it has to be online for the claim to be answered;
    /// until then `members` does not name this device. Refused with `invitation` for another text.
    pub async fn accept_invitation(&self, invitation: String) -> Result<Place, DeltaError> {
        let invite = Invite::parse(invitation.trim());
        let invite = invite.map_err(|error| DeltaError::argument("invitation", error))?;
        self.on(async move |client| client.accept_invite(invite).await).await.map(Into::into)
    }

    /// The spaces this device knows.
    pub async fn spaces(&self) -> Result<Vec<Space>, DeltaError> {
        self.query(|reader| {
            let rows = reader.spaces()?.into_iter();
            rows.map(|row| {
                let topic = reader.known_as(row.space)?;
                Ok(Space::new(row, topic))
            })
            .collect()
        })
        .await
    }

    /// One space.
    pub async fn space(&self, space: LogId) -> Result<Option<Space>, DeltaError> {
        self.query(move |reader| {
            let topic = reader.known_as(space)?;
            Ok(reader.space(&space)?.map(|row| Space::new(row, topic)))
        })
        .await
    }

    /// The rooms of a space, archived and deleted ones included.
    pub async fn rooms(&self, space: LogId) -> Result<Vec<Room>, DeltaError> {
        self.query(move |reader| {
            let rows = reader.rooms(&space)?.into_iter();
            rows.map(|row| {
                let topic = reader.known_as(row.room)?;
                Ok(Room::new(row, topic))
            })
            .collect()
        })
        .await
    }

    /// Members of a space, and whoever is banned from it, by their keys: at most `limit` (1000) of those after `after`.
    #[uniffi::method(default(limit = 1000, after = None))]
    pub async fn members(
        &self,
        space: LogId,
        limit: u32,
        after: Option<Identity>,
    ) -> Result<Vec<Member>, DeltaError> {
        let limit = limit.min(MAX_PAGE) as usize;
        self.query(move |reader| {
            let rows = reader.members_after(&space, after.as_ref(), limit)?;
            Ok(rows.into_iter().map(Into::into).collect())
        })
        .await
    }

    /// The devices that a space was told of, revoked ones included: whose they are.
    pub async fn space_devices(&self, space: LogId) -> Result<Vec<SpaceDevice>, DeltaError> {
        self.query(move |reader| Ok(reader.space_devices(&space)?.into_iter().map(Into::into).collect()))
            .await
    }

    /// The invitations of a space that are not revoked. Their texts are with whoever made them.
    pub async fn invitations(&self, space: LogId) -> Result<Vec<Invitation>, DeltaError> {
        self.query(move |reader| Ok(reader.invites(&space)?.into_iter().map(Into::into).collect())).await
    }

    /// Who asks to be let in. A manager answers with `SpaceAction.Add`.
    pub async fn join_requests(&self, space: LogId) -> Result<Vec<JoinRequest>, DeltaError> {
        self.query(move |reader| Ok(reader.requests(&space)?.into_iter().map(Into::into).collect())).await
    }

    /// What happened in a space, newest first, at most 1000 lines: those below the place `before`, the newest without it.
    #[uniffi::method(default(before = None))]
    pub async fn audit_log(
        &self,
        space: LogId,
        limit: u32,
        before: Option<AuditPlace>,
    ) -> Result<Vec<AuditLine>, DeltaError> {
        let limit = limit.min(MAX_PAGE) as usize;
        let before = before.map(|AuditPlace { rank, id }| (rank, id));
        self.query(move |reader| {
            Ok(reader.audit(&space, before, limit)?.into_iter().map(Into::into).collect())
        })
        .await
    }
}
