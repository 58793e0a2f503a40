//! `delta space`, `room`, `member` and `invite`: people in spaces.

mod ask;
mod change;
mod show;

use anyhow::{bail, ensure};
use delta_client::{Client, ClientError, SystemClock, WallClock};
use delta_core::engine::CommandError;
use delta_core::identity::{Identity, LogId};
use delta_core::ops::{Action, Level, RoomText, SpaceText};
use delta_core::space::Invite;
use delta_core::topic::TopicId;
use serde_json::json;

use self::ask::AskToJoin;
use self::change::{OfInvite, UpdateRoom, UpdateSpace};
use self::show::rooms;
use crate::at::{At, close, print};
use crate::device::Base;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  delta space create --db a.db --key @a.key --sync URL#KEY --records records.json --name Garden
  delta room create … --space ID --name Shed
  delta invite create … --space ID --once
  delta invite accept … INVITATION        on another device
  delta member list … --space ID          on the first: lets in who claimed
  delta send … --room ID hello

A command waits until the server has what it published; without a network it stays in the outbox.";

/// Make and look at spaces.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum SpaceCommand {
    /// Make a space; this device manages it.
    Create(CreateSpace),
    /// The spaces of this device.
    List(Plain),
    /// What a space says of itself, its rooms and members.
    Show(OfSpace),
    /// What happened in a space, newest first.
    Audit(OfSpace),
    /// Change what a space says of itself.
    Update(UpdateSpace),
    /// Delete a space: nothing in it counts any more.
    Delete(OfSpace),
}

/// Make and look at rooms.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum RoomCommand {
    /// Make a room.
    Create(CreateRoom),
    /// The rooms of a space, or of all.
    List(OfSpaces),
    /// Change what a room says of itself, and how long a member waits between two messages.
    Update(UpdateRoom),
    /// Make a room one to be read only.
    Archive(OfRoom),
    /// Take messages again.
    Unarchive(OfRoom),
    /// Delete a room.
    Delete(OfRoom),
}

/// Add, remove and look at members.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum MemberCommand {
    /// The members of a space.
    List(OfSpace),
    /// Ask a manager to be added.
    Request(AskToJoin),
    /// Who asks this device to be added.
    Requests(OfSpace),
    /// Add somebody who asked. (Whoever did not needs an invitation.)
    Add(Leveled),
    /// Give somebody a higher level.
    Promote(Leveled),
    /// Give somebody a lower level.
    Demote(Leveled),
    /// Remove somebody.
    Remove(OfMember),
    /// Remove somebody and let nobody add them.
    Ban(BanMember),
    /// Allow a banned one to be added.
    Unban(OfMember),
    /// Ignore what somebody writes for now.
    Mute(MuteMember),
    /// No longer.
    Unmute(OfMember),
    /// Make somebody a manager, and write only oneself.
    Transfer(OfMember),
    /// Leave the space.
    Leave(OfSpace),
}

/// Make and accept invitations.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum InviteCommand {
    /// Print an invitation. It is a secret.
    Create(CreateInvite),
    /// Claim an invitation.
    Accept(AcceptInvite),
    /// The invitations to a space.
    List(OfSpace),
    /// Take an invitation back: it lets nobody in any more.
    Revoke(OfInvite),
}

/// The device and nothing else.
#[derive(clap::Args)]
pub struct Plain {
    #[command(flatten)]
    base: Base,
}

/// One space.
#[derive(clap::Args)]
pub struct OfSpace {
    #[command(flatten)]
    base: Base,
    /// The space's id.
    #[arg(long, value_name = "ID")]
    space: LogId,
    /// Seconds to wait for the server.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// One space, or all.
#[derive(clap::Args)]
pub struct OfSpaces {
    #[command(flatten)]
    base: Base,
    /// Only of this space.
    #[arg(long, value_name = "ID")]
    space: Option<LogId>,
    /// Seconds to wait for the server.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// Texts of a new space.
#[derive(clap::Args)]
pub struct CreateSpace {
    #[command(flatten)]
    base: Base,
    /// At most 64 characters.
    #[arg(long)]
    name: String,
    /// At most 2048 bytes.
    #[arg(long)]
    description: Option<String>,
    /// What kind of space it is, at most 64 characters.
    #[arg(long)]
    label: Option<String>,
    /// What newcomers are shown, at most 2048 bytes.
    #[arg(long)]
    welcome: Option<String>,
    /// New members may read what was written before them.
    #[arg(long)]
    history: bool,
    /// Seconds to wait for the server.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// Texts of a new room.
#[derive(clap::Args)]
pub struct CreateRoom {
    #[command(flatten)]
    of: OfSpace,
    /// At most 64 characters.
    #[arg(long)]
    name: String,
    /// At most 2048 bytes.
    #[arg(long)]
    description: Option<String>,
    /// How long a member waits between two messages, seconds.
    #[arg(long, value_name = "SECONDS")]
    cooldown: Option<u64>,
}

/// One room.
#[derive(clap::Args)]
pub struct OfRoom {
    #[command(flatten)]
    of: OfSpace,
    /// The room's id.
    #[arg(long, value_name = "ID")]
    room: LogId,
}

/// One person.
#[derive(clap::Args)]
pub struct OfMember {
    #[command(flatten)]
    of: OfSpace,
    /// Their address (`pk:…`, `delta identity show`), or their key: 64 hex digits.
    #[arg(long, value_name = "WHO", value_parser = who)]
    member: Identity,
}

/// One person and a level.
#[derive(clap::Args)]
pub struct Leveled {
    #[command(flatten)]
    of: OfMember,
    /// pull, read, write or manage.
    #[arg(long, value_parser = level)]
    level: Level,
}

/// One person, and why.
#[derive(clap::Args)]
pub struct BanMember {
    #[command(flatten)]
    of: OfMember,
    /// Why, for the other members; at most 2048 bytes.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// One person, and for how long.
#[derive(clap::Args)]
pub struct MuteMember {
    #[command(flatten)]
    of: OfMember,
    /// It ends after this many seconds, by a manager's device; without, when a manager says so.
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    lasts: Option<u64>,
}

/// The terms of an invitation.
#[derive(clap::Args)]
pub struct CreateInvite {
    #[command(flatten)]
    of: OfSpace,
    /// The level whoever comes with it gets: pull, read, write or manage.
    #[arg(long, value_parser = level, default_value = "write")]
    level: Level,
    /// It admits one person only.
    #[arg(long)]
    once: bool,
    /// It is good for this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    expires: Option<u64>,
}

/// An invitation.
#[derive(clap::Args)]
pub struct AcceptInvite {
    #[command(flatten)]
    base: Base,
    /// Its text.
    invitation: Invite,
    /// Seconds to wait for the server.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

fn who(text: &str) -> Result<Identity, String> {
    let read = if text.starts_with("pk:") { Identity::from_address(text).ok() } else { text.parse().ok() };
    read.ok_or_else(|| "an address (`pk:…`), or 64 hex digits".to_owned())
}

fn level(text: &str) -> Result<Level, String> {
    let found = Level::ALL.into_iter().find(|level| level.name() == text);
    found.ok_or_else(|| "one of pull, read, write, manage".to_owned())
}

/// Runs one of `delta space`.
pub async fn run_space(command: &SpaceCommand, output: &Output) -> anyhow::Result<()> {
    match command {
        SpaceCommand::Create(options) => {
            let client = options.base.open(output).await?;
            let about = SpaceText {
                name: options.name.clone(),
                description: options.description.clone(),
                label: options.label.clone(),
                welcome: options.welcome.clone(),
                history: options.history,
                ..SpaceText::default()
            };
            let done = async {
                let (space, topic) = client.create_space(about).await?;
                let at = At {
                    client: &client,
                    online: options.base.has_network(),
                    output,
                    timeout: options.timeout,
                };
                at.deliver(topic).await?;
                created(output, "space", space)
            };
            close(&client, done.await).await
        }
        SpaceCommand::List(Plain { base }) => {
            let client = base.open(output).await?;
            let rows = client.read(|reader| reader.spaces()).await;
            let rows = close(&client, rows.map_err(Into::into)).await?;
            if rows.is_empty() {
                output.note("no spaces yet: `delta space create` makes one, `delta invite accept` joins one");
            }
            rows.into_iter().try_for_each(|row| {
                let (id, name) = (row.space.to_string(), row.text.name);
                print(output, &format!("{id}  {name}"), json!({ "space": id, "name": name }))
            })
        }
        SpaceCommand::Show(of) => at_space(of, output, async |at| at.show().await).await,
        SpaceCommand::Audit(of) => at_space(of, output, async |at| at.audit().await).await,
        SpaceCommand::Update(options) => change::update_space(options, output).await,
        SpaceCommand::Delete(of) => act(of, output, Action::SpaceDelete).await,
    }
}

/// Runs one of `delta room`.
pub async fn run_room(command: &RoomCommand, output: &Output) -> anyhow::Result<()> {
    let (OfRoom { of, room }, action) = match command {
        RoomCommand::List(of) => return list_rooms(of, output).await,
        RoomCommand::Update(options) => return change::update_room(options, output).await,
        RoomCommand::Create(CreateRoom { of, name, description, cooldown }) => {
            let cooldown = cooldown.filter(|seconds| *seconds > 0);
            let about = RoomText { name: name.clone(), description: description.clone(), cooldown };
            return at_space(of, output, async |at| {
                let (room, _) = at.at.client.create_room(of.space, about.clone()).await?;
                at.at.deliver(at.topic).await?;
                created(output, "room", room)
            })
            .await;
        }
        RoomCommand::Archive(of) => (of, Action::RoomArchive { room: of.room }),
        RoomCommand::Unarchive(of) => (of, Action::RoomUnarchive { room: of.room }),
        RoomCommand::Delete(of) => (of, Action::RoomDelete { room: of.room }),
    };
    output.note(&format!("room {room}"));
    act(of, output, action).await
}

async fn list_rooms(of: &OfSpaces, output: &Output) -> anyhow::Result<()> {
    let client = of.base.open(output).await?;
    let done = async {
        let spaces = match of.space {
            Some(space) => vec![space],
            None => client.read(|reader| reader.spaces()).await?.into_iter().map(|row| row.space).collect(),
        };
        if spaces.is_empty() {
            output.note("no spaces yet: `delta space create` makes one, `delta invite accept` joins one");
        }
        let at = At { client: &client, online: of.base.has_network(), output, timeout: of.timeout };
        for space in spaces {
            at.catch_up(topic_of(&client, space, "space").await?).await?;
            rooms(&client, output, space).await?;
        }
        Ok(())
    };
    close(&client, done.await).await
}

/// Runs one of `delta member`.
pub async fn run_member(command: &MemberCommand, output: &Output) -> anyhow::Result<()> {
    let one = |of: &OfMember| of.member;
    let (of, action) = match command {
        MemberCommand::List(of) => return at_space(of, output, async |at| at.members().await).await,
        MemberCommand::Request(options) => return ask::ask(options, output).await,
        MemberCommand::Requests(of) => return at_space(of, output, async |at| at.requests().await).await,
        MemberCommand::Leave(of) => (of, Action::Leave),
        MemberCommand::Add(Leveled { of, level }) => {
            output
                .note("who has no invitation to the space has no key of it: `delta invite create` makes one");
            (&of.of, Action::Add { member: one(of), level: *level, invite: None, claim: None })
        }
        MemberCommand::Promote(Leveled { of, level }) => {
            (&of.of, Action::Promote { member: one(of), level: *level })
        }
        MemberCommand::Demote(Leveled { of, level }) => {
            (&of.of, Action::Demote { member: one(of), level: *level })
        }
        MemberCommand::Remove(of) => (&of.of, Action::Remove { member: one(of) }),
        MemberCommand::Ban(BanMember { of, reason }) => {
            (&of.of, Action::Ban { member: one(of), reason: reason.clone() })
        }
        MemberCommand::Unban(of) => (&of.of, Action::Unban { member: one(of) }),
        MemberCommand::Mute(MuteMember { of, lasts }) => {
            let until = lasts.map(|seconds| SystemClock.now().plus(seconds.saturating_mul(1000)));
            (&of.of, Action::Mute { member: one(of), until })
        }
        MemberCommand::Unmute(of) => (&of.of, Action::Unmute { member: one(of) }),
        MemberCommand::Transfer(of) => (&of.of, Action::Transfer { member: one(of) }),
    };
    act(of, output, action).await
}

/// Runs one of `delta invite`.
pub async fn run_invite(command: &InviteCommand, output: &Output) -> anyhow::Result<()> {
    match command {
        InviteCommand::List(of) => at_space(of, output, async |at| at.invites().await).await,
        InviteCommand::Revoke(options) => change::revoke_invite(options, output).await,
        InviteCommand::Create(options) => {
            let CreateInvite { of, level, once, expires } = options;
            let expires = expires.map(|seconds| SystemClock.now().plus(seconds.saturating_mul(1000)));
            at_space(of, output, async |at| {
                let invite = at.at.client.create_invite(of.space, *level, expires, *once).await?;
                at.at.deliver(at.topic).await?;
                let text = invite.to_string();
                print(output, &text, json!({ "invitation": text, "invite": invite.id.to_string() }))
            })
            .await
        }
        InviteCommand::Accept(AcceptInvite { base, invitation, timeout }) => {
            let client = base.open(output).await?;
            let done = async {
                let (space, topic) = client.accept_invite(invitation.clone()).await?;
                let at = At { client: &client, online: base.has_network(), output, timeout: *timeout };
                at.catch_up(topic).await?;
                let awaited = client.status(topic).await?.awaiting_key;
                ensure!(awaited.is_none(), "the conversation {MOVED_ON}");
                at.deliver(topic).await?;
                at.hand_over().await?;
                let claims = client.read(|reader| reader.claims()).await?;
                output.note(match claims.iter().any(|claim| claim.space == space && claim.sent == 0) {
                    true => "no manager is known who can be written to: claimed as soon as there is one",
                    false => "claimed; whoever made the invitation lets you in when they are online",
                });
                created(output, "space", space)
            };
            close(&client, done.await).await
        }
    }
}

async fn act(of: &OfSpace, output: &Output, action: Action) -> anyhow::Result<()> {
    at_space(of, output, async |at| at.act(action.clone()).await).await
}

/// The same in a space.
struct AtSpace<'a> {
    at: At<'a>,
    space: LogId,
    topic: TopicId,
}

/// Opens the device, brings the space up to date if there is a network, and does something there.
async fn at_space(
    of: &OfSpace,
    output: &Output,
    work: impl AsyncFnOnce(&AtSpace<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let OfSpace { base, space, timeout } = of;
    let client = base.open(output).await?;
    let done = async {
        let at = At { client: &client, online: base.has_network(), output, timeout: *timeout };
        if client.topic_of(*space).await.is_err() {
            // Somebody may have let it in.
            at.catch_up_inbox().await?;
        }
        let topic = topic_of(&client, *space, "space").await?;
        let at = AtSpace { at, space: *space, topic };
        at.at.catch_up(topic).await?;
        at.at.catch_up_inbox().await?;
        // Whoever claimed an invitation in this device's inbox was let in meanwhile.
        at.at.deliver(topic).await?;
        work(&at).await?;
        at.at.hand_over().await
    };
    close(&client, done.await).await
}

/// What has become of a conversation, and what to do.
const MOVED_ON: &str = "moved on since this device was given its keys; ask a manager for a new invitation";

/// The topic of a space or room.
pub async fn topic_of(client: &Client, log: LogId, what: &str) -> anyhow::Result<TopicId> {
    match client.topic_of(log).await {
        Err(ClientError::Command(CommandError::UnknownTopic)) => bail!(
            "this device does not know the {what}, or has no key of it yet (`delta {what} list` shows what it knows)"
        ),
        topic => Ok(topic?),
    }
}

fn created(output: &Output, what: &str, id: impl std::fmt::Display) -> anyhow::Result<()> {
    let id = id.to_string();
    print(output, &id, json!({ what: id }))
}
