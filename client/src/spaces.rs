//! Spaces, their rooms, members and invitations. (Rows are read with [`Client::read`].)

use delta_core::engine::{Command, CommandError, Reply};
use delta_core::identity::{LogId, Millis, OperationId};
use delta_core::ops::{Action, Level, RoomText, SpaceText};
use delta_core::projector::Position;
use delta_core::space::Invite;
use delta_core::topic::TopicId;

use crate::client::{Client, unexpected};
use crate::error::ClientError;

impl Client {
    /// Makes a space, with this device as its first manager. Gives its log id and the topic it lives in.
    pub async fn create_space(&self, about: SpaceText) -> Result<(LogId, TopicId), ClientError> {
        // Claims of its invitations come there.
        self.open_inbox().await?;
        opened(self.command(Command::CreateSpace { about }).await?)
    }

    /// Makes a room in a space and opens it. Gives its log id and the topic it lives in.
    pub async fn create_room(&self, space: LogId, about: RoomText) -> Result<(LogId, TopicId), ClientError> {
        opened(self.command(Command::CreateRoom { space, about }).await?)
    }

    /// Makes an invitation. Its text ([`Invite`] prints it) holds secrets: whoever has it may claim it. This device lets
    /// in who does, when it is online.
    pub async fn create_invite(
        &self,
        space: LogId,
        level: Level,
        expires: Option<Millis>,
        once: bool,
    ) -> Result<Invite, ClientError> {
        match self.command(Command::CreateInvite { space, level, expires, once }).await? {
            Reply::Invite(invite) => Ok(*invite),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens the space of an invitation and claims it: in the inbox of whoever made it, or of another manager, as soon as
    /// one is known from the space's log (subscribe to its topic). That device has to come online to answer.
    pub async fn accept_invite(&self, invite: Invite) -> Result<(LogId, TopicId), ClientError> {
        self.open_inbox().await?;
        opened(self.command(Command::AcceptInvite { invite: Box::new(invite) }).await?)
    }

    /// Changes a space, its rooms or its members.
    ///
    /// # Errors
    /// `not_allowed` when the space would not count it: then it was not even signed.
    pub async fn act(&self, space: LogId, action: Action) -> Result<OperationId, ClientError> {
        match self.command(Command::Act { space, action: Box::new(action) }).await? {
            Reply::Published(operation) => Ok(operation),
            other => Err(unexpected(&other)),
        }
    }

    /// Notes how far a conversation was read: what [`delta_core::store::Db::unread`] counts from. Nobody but the person's
    /// own devices hears of it.
    pub async fn set_read(&self, log: LogId, upto: Position) -> Result<(), ClientError> {
        self.command(Command::SetRead { log, upto }).await.map(drop)
    }

    /// The topic by which this device knows a conversation, wherever it lives now.
    pub async fn topic_of(&self, log: LogId) -> Result<TopicId, ClientError> {
        let topic = self.read(move |reader| reader.known_as(log)).await?;
        topic.ok_or(ClientError::Command(CommandError::UnknownTopic))
    }
}

fn opened(reply: Reply) -> Result<(LogId, TopicId), ClientError> {
    match reply {
        Reply::Space { space, topic } => Ok((space, topic)),
        other => Err(unexpected(&other)),
    }
}
