//! What a space and its rooms are like now.

use anyhow::ensure;
use delta_client::Client;
use delta_core::identity::LogId;
use delta_core::ops::Level;
use delta_core::store::RoomState;
use serde_json::json;

use super::{AtSpace, print};
use crate::output::Output;

impl AtSpace<'_> {
    pub(super) async fn show(&self) -> anyhow::Result<()> {
        let (space, output) = (self.space, self.at.output);
        let row = self.at.client.read(move |reader| reader.space(&space)).await?;
        let Some(row) = row else {
            ensure!(!output.is_json(), "the space's creation has not arrived yet");
            return output.line("the space's creation has not arrived yet");
        };
        let state = match (row.deleted, row.update_required) {
            (true, _) => "deleted",
            (_, true) => "a newer version is needed",
            _ => "open",
        };
        let text = row.text;
        let mut line = format!("{}  ({state})", text.name);
        for more in [&text.label, &text.description, &text.welcome].into_iter().flatten() {
            line.push_str("  ");
            line.push_str(more);
        }
        let value = json!({
            "space": space.to_string(), "name": text.name, "label": text.label,
            "description": text.description, "welcome": text.welcome, "state": state, "history": text.history,
        });
        print(output, &line, value)?;
        rooms(self.at.client, output, space).await?;
        self.members().await
    }

    pub(super) async fn members(&self) -> anyhow::Result<()> {
        let space = self.space;
        let me = self.at.client.author();
        let rows =
            self.at.client.read(move |reader| Ok((reader.person(&space, &me)?, reader.members(&space)?)));
        let (me, rows) = rows.await?;
        rows.into_iter().try_for_each(|row| {
            let (author, standing) = (row.member.to_string(), row.standing);
            let level = standing.level.map(Level::name);
            let you = row.member == me;
            let remarks = [(standing.muted, "  muted"), (standing.banned, "  banned"), (you, "  (you)")];
            let remarks: String = remarks.into_iter().filter(|(is, _)| *is).map(|(_, text)| text).collect();
            let line = format!("{author}  {}{remarks}", level.unwrap_or("-"));
            let value = json!({
                "member": author, "level": level, "muted": standing.muted, "banned": standing.banned, "you": you,
            });
            print(self.at.output, &line, value)
        })
    }

    pub(super) async fn audit(&self) -> anyhow::Result<()> {
        let space = self.space;
        let rows = self.at.client.read(move |reader| reader.audit(&space, None, 1000)).await?;
        rows.into_iter().try_for_each(|row| {
            let (author, kind) = (row.who.to_string(), row.kind);
            let subject = row.device.map(|device| device.to_string());
            let subject = subject.or_else(|| row.subject.map(|subject| subject.to_string()));
            let line = format!("{author}  {kind}  {}", subject.as_deref().unwrap_or(""));
            let value = json!({
                "operation": row.id.to_string(), "author": author, "kind": kind, "subject": subject,
            });
            print(self.at.output, line.trim_end(), value)
        })
    }
}

/// Rooms, and what is unread in them.
pub(super) async fn rooms(client: &Client, output: &Output, space: LogId) -> anyhow::Result<()> {
    let me = client.author();
    let rows = client.read(move |reader| {
        let rooms = reader.rooms(&space)?.into_iter().map(|row| {
            let has_key = !reader.topics_of_log(row.room)?.is_empty();
            Ok((reader.unread(&row.room, &me)?, has_key, row))
        });
        rooms.collect::<Result<Vec<_>, _>>()
    });
    rows.await?.into_iter().try_for_each(|(unread, has_key, row)| {
        let state = match row.state {
            RoomState::Open => "open",
            RoomState::Archived => "archived",
            RoomState::Deleted => "deleted",
        };
        let (id, name) = (row.room.to_string(), row.text.name);
        let key = if has_key { "" } else { "  (no key yet: a manager hands it over when online)" };
        let line = format!("{id}  {name}  {state}  {} unread{key}", unread.messages);
        let value = json!({
            "room": id, "name": name, "state": state, "space": row.space.to_string(), "has_key": has_key,
            "unread": unread.messages, "mentions": unread.mentions,
        });
        print(output, &line, value)
    })
}
