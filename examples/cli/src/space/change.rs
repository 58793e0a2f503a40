//! What a space and its rooms say of themselves, changed; invitations taken back.

use anyhow::Context;
use delta_core::identity::{LogId, OperationId};
use delta_core::ops::{Action, RoomText, SpaceText};
use serde_json::json;

use super::{AtSpace, OfRoom, OfSpace, at_space, created, print};
use crate::output::Output;

/// New texts of a space. What is not named stays.
#[derive(clap::Args)]
pub struct UpdateSpace {
    #[command(flatten)]
    of: OfSpace,
    /// At most 64 characters.
    #[arg(long, required_unless_present_any = ["description", "label", "welcome", "history"])]
    name: Option<String>,
    /// At most 2048 bytes; empty: none.
    #[arg(long)]
    description: Option<String>,
    /// What kind of space it is, at most 64 characters; empty: nothing.
    #[arg(long)]
    label: Option<String>,
    /// What newcomers are shown, at most 2048 bytes; empty: nothing.
    #[arg(long)]
    welcome: Option<String>,
    /// Whether new members may read what was written before them: true or false. What was handed out already stays so.
    #[arg(long, value_name = "BOOL")]
    history: Option<bool>,
}

/// New texts of a room. What is not named stays.
#[derive(clap::Args)]
pub struct UpdateRoom {
    #[command(flatten)]
    of: OfRoom,
    /// At most 64 characters.
    #[arg(long, required_unless_present_any = ["description", "cooldown"])]
    name: Option<String>,
    /// At most 2048 bytes; empty: none.
    #[arg(long)]
    description: Option<String>,
    /// How long a member waits between two messages, seconds; 0: not at all.
    #[arg(long, value_name = "SECONDS")]
    cooldown: Option<u64>,
}

/// One invitation.
#[derive(clap::Args)]
pub struct OfInvite {
    #[command(flatten)]
    of: OfSpace,
    /// Its id (`delta invite list`).
    #[arg(long, value_name = "ID")]
    invite: OperationId,
}

fn text(new: Option<&String>, old: Option<String>) -> Option<String> {
    new.map_or(old, |new| (!new.is_empty()).then(|| new.clone()))
}

/// Replaces what a space says of itself.
pub async fn update_space(options: &UpdateSpace, output: &Output) -> anyhow::Result<()> {
    let UpdateSpace { of, name, description, label, welcome, history } = options;
    at_space(of, output, async |at| {
        let space = at.space;
        let row = at.at.client.read(move |reader| reader.space(&space)).await?;
        let now = row.context("the space's creation has not arrived yet")?.text;
        let about = SpaceText {
            name: name.clone().unwrap_or(now.name),
            description: text(description.as_ref(), now.description),
            label: text(label.as_ref(), now.label),
            welcome: text(welcome.as_ref(), now.welcome),
            history: history.unwrap_or(now.history),
            ..now
        };
        at.act(Action::SpaceUpdate { about }).await
    })
    .await
}

/// Replaces what a room says of itself.
pub async fn update_room(options: &UpdateRoom, output: &Output) -> anyhow::Result<()> {
    let UpdateRoom { of: OfRoom { of, room }, name, description, cooldown } = options;
    at_space(of, output, async |at| {
        let room: LogId = *room;
        let row = at.at.client.read(move |reader| reader.room(&room)).await?;
        let now =
            row.context("this device does not know the room (`delta room list` shows what it knows)")?.text;
        let about = RoomText {
            name: name.clone().unwrap_or(now.name),
            description: text(description.as_ref(), now.description),
            cooldown: cooldown.map_or(now.cooldown, |seconds| (seconds > 0).then_some(seconds)),
        };
        at.act(Action::RoomUpdate { room, about }).await
    })
    .await
}

/// Takes an invitation back.
pub async fn revoke_invite(options: &OfInvite, output: &Output) -> anyhow::Result<()> {
    let action = Action::InviteRevoke { invite: options.invite };
    at_space(&options.of, output, async |at| at.act(action.clone()).await).await
}

impl AtSpace<'_> {
    /// Says it, and waits until the server has it.
    pub(super) async fn act(&self, action: Action) -> anyhow::Result<()> {
        let operation = self.at.client.act(self.space, action).await?;
        self.at.deliver(self.topic).await?;
        created(self.at.output, "operation", operation)
    }

    /// Invitations that were not revoked.
    pub(super) async fn invites(&self) -> anyhow::Result<()> {
        let space = self.space;
        let rows = self.at.client.read(move |reader| reader.invites(&space)).await?;
        if rows.is_empty() {
            self.at.output.note("no invitations: `delta invite create` makes one");
        }
        rows.into_iter().try_for_each(|row| {
            let (id, level) = (row.id.to_string(), row.level.name());
            let remarks = [(row.once, "  once"), (row.used, "  used"), (row.expires.is_some(), "  expires")];
            let remarks: String = remarks.into_iter().filter(|(is, _)| *is).map(|(_, text)| text).collect();
            let value = json!({
                "invite": id, "level": level, "once": row.once, "used": row.used,
                "expires_ms": row.expires.map(|at| at.0),
            });
            print(self.at.output, &format!("{id}  {level}{remarks}"), value)
        })
    }
}
