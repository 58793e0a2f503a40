//! The third act: somebody joins by invitation, reads what was said before, is removed, and cannot read what follows.
//! That last one is tried: every key the removed device kept, on everything the server has.

use std::time::Duration;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use delta_client::{Client, Subscription};
use delta_core::identity::LogId;
use delta_core::ops::{Action, Level, RoomText, SpaceText, TopicKeys};
use delta_core::space::Invite;
use delta_core::store::{MessageRow, Page, Reader, StoreError};
use delta_core::topic::TopicId;
use serde_json::{Value, json};

use super::alone;
use super::cluster::Cluster;
use super::devices::Device;

/// What the space and its room are called: nobody on the way may see it.
pub const NAMES: [&str; 2] = ["The garden behind the mill", "The shed by the river"];
/// Lines said before somebody is removed, and as many afterwards.
const LINES: usize = 20;
/// Messages looked at: more than are said here.
const SHOWN: usize = 1000;
/// Pause between two looks at a device.
const LOOK: Duration = Duration::from_millis(5);
/// Without any progress for this long the demo has failed.
const STUCK: Duration = Duration::from_secs(90);

/// What the act found out.
#[derive(Default)]
pub struct Members {
    /// Lines said before the removal, and how many of them the one who joined could read.
    before: u64,
    read: u64,
    /// Messages that each of two read of the other's in a thread of their own.
    alone: [u64; 2],
    /// Lines said afterwards, and how many of them the one who stayed, and the one who did not, could read.
    after: u64,
    read_by_b: u64,
    read_by_c: u64,
    /// What the server has from before and from after it.
    envelopes: [u64; 2],
    /// How much of that some key of the removed one opens.
    opened: [u64; 2],
    /// Keys that were tried on all of it.
    keys: u64,
}

/// The room in which it happens, and three devices in it.
struct Room<'a> {
    people: [&'a Client; 3],
    space: LogId,
    room: LogId,
    topic: TopicId,
    /// What keeps the devices listening.
    listening: Vec<Subscription>,
}

impl Members {
    /// Plays it: `a` manages a space, `b` and `c` come by invitation, `c` is removed.
    pub async fn play(
        cluster: &Cluster,
        a: &Device,
        b: &Device,
        c: &Client,
        lines: &[String],
    ) -> anyhow::Result<Self> {
        let (before, rest) = lines.split_at(LINES.min(lines.len() / 2));
        let after = rest.get(..LINES.min(rest.len())).unwrap_or_default();
        let mut room = Room::make([&a.client, &b.client, c]).await?;
        room.say(0, before).await?;
        room.invite().await?;
        for person in 1..3 {
            room.until("the history of the room", person, before).await?;
        }
        let read = has(&room.rows(2).await?, before);
        let alone = alone::play(&a.client, &b.client, room.room, room.topic).await?;
        room.remove_c().await?;
        room.say(0, after).await?;
        room.until("what was said afterwards", 1, after).await?;
        let (rows_b, rows_c) = (room.rows(1).await?, room.rows(2).await?);
        let mut members = Self {
            before: before.len() as u64,
            read: read as u64,
            alone,
            after: after.len() as u64,
            read_by_b: has(&rows_b, after) as u64,
            read_by_c: has(&rows_c, after) as u64,
            ..Self::default()
        };
        members.try_keys(cluster, &room).await?;
        Ok(members)
    }

    /// Every key of the removed device on every envelope of the room that the server has.
    async fn try_keys(&mut self, cluster: &Cluster, room: &Room<'_>) -> anyhow::Result<()> {
        let [a, _, c] = room.people;
        let log = room.room;
        let keys: Vec<TopicKeys> =
            c.read(|reader| Ok(reader.topics()?.iter().map(|row| row.ticket.keys()).collect())).await?;
        self.keys = keys.len() as u64;
        let topics = a.read(move |reader| reader.topics_of_log(log)).await?;
        for (epoch, topic) in topics {
            let envelopes = envelopes(cluster, topic).await?;
            let opens = |envelope: &&Vec<u8>| keys.iter().any(|keys| keys.open(envelope).is_ok());
            let part = usize::from(epoch > 0);
            self.envelopes[part] += envelopes.len() as u64;
            self.opened[part] += envelopes.iter().filter(opens).count() as u64;
        }
        Ok(())
    }

    /// What is not as it must be.
    pub fn wrong(&self) -> Vec<&'static str> {
        let Self { envelopes: [past, follows], opened: [opened_past, opened_follows], .. } = *self;
        let checks = [
            (self.read == self.before && self.before > 0, "who joined cannot read what was said before"),
            (self.alone == [1, 1], "two devices do not read what they say to each other alone"),
            (
                self.read_by_b == self.after && self.after > 0,
                "who stayed cannot read what was said afterwards",
            ),
            (self.read_by_c == 0, "who was removed is shown what was said afterwards"),
            (
                opened_past == past && past > self.before,
                "the keys of who was removed do not even open the past",
            ),
            (follows >= self.after, "what was said afterwards is not at the server"),
            (opened_follows == 0, "a key of who was removed opens what was said afterwards"),
        ];
        checks.into_iter().filter(|(good, _)| !good).map(|(_, what)| what).collect()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let Self { before, read, alone, after, read_by_b, read_by_c, envelopes, opened, keys } = self;
        json!({
            "read_alone": alone,
            "said_before": before, "read_by_joined": read, "said_after": after, "read_by_remaining": read_by_b,
            "read_by_removed": read_by_c, "keys_tried": keys,
            "envelopes_before": envelopes[0], "opened_before": opened[0],
            "envelopes_after": envelopes[1], "opened_after": opened[1],
        })
    }

    /// For people: names and values.
    pub fn table(&self) -> [(&'static str, String); 4] {
        let Self { before, read, alone, after, read_by_b, read_by_c, envelopes, opened, keys } = self;
        [
            ("C joined by invitation and read", format!("{read} of {before} lines said before")),
            ("A and B, alone in a thread, read", format!("{} and {} of 1 message each", alone[0], alone[1])),
            ("C was removed; then B and C read", format!("{read_by_b} and {read_by_c} of {after} lines")),
            (
                "  all that C kept opens",
                format!(
                    "{} of {} envelopes said since, with {keys} keys ({} of {} from before)",
                    opened[1], envelopes[1], opened[0], envelopes[0]
                ),
            ),
        ]
    }
}

impl<'a> Room<'a> {
    async fn make(people: [&'a Client; 3]) -> anyhow::Result<Self> {
        let [a, ..] = people;
        let about = SpaceText { name: NAMES[0].to_owned(), history: true, ..SpaceText::default() };
        let (space, hall) = a.create_space(about).await?;
        let about = RoomText { name: NAMES[1].to_owned(), ..RoomText::default() };
        let (room, topic) = a.create_room(space, about).await?;
        let listening = vec![a.subscribe(hall).await?, a.subscribe(topic).await?];
        Ok(Self { people, space, room, topic, listening })
    }

    async fn say(&self, person: usize, lines: &[String]) -> anyhow::Result<()> {
        let Some(client) = self.people.get(person) else { return Ok(()) };
        for line in lines {
            Device::say((*client).clone(), self.topic, line.clone(), None).await?;
        }
        Ok(())
    }

    /// The two others come, each by the text of an invitation; their devices tell with which keys they can be handed others.
    async fn invite(&mut self) -> anyhow::Result<()> {
        let [a, ..] = self.people;
        let (room, topic) = (self.room, self.topic);
        for client in self.people.into_iter().skip(1) {
            let text = a.create_invite(self.space, Level::Write, None, true).await?.to_string();
            let invite: Invite = text.parse().context("the invitation")?;
            let (_, hall) = client.accept_invite(invite).await?;
            self.listening.push(client.subscribe(hall).await?);
            until("the room", client, move |reader| Ok(!reader.topics_of_log(room)?.is_empty())).await?;
            self.listening.push(client.subscribe(topic).await?);
            let device = client.author();
            until("a key bundle", a, move |reader| Ok(reader.device_bundle(&device)?.is_some())).await?;
        }
        Ok(())
    }

    /// Removes the third. That moves the room by itself to keys that only the others get.
    async fn remove_c(&self) -> anyhow::Result<()> {
        let [a, b, c] = self.people;
        let room = self.room;
        a.act(self.space, Action::Remove { member: c.author().into() }).await?;
        for client in [a, b] {
            until("the new keys", client, move |reader| Ok(reader.topics_of_log(room)?.len() > 1)).await?;
        }
        Ok(())
    }

    async fn rows(&self, person: usize) -> anyhow::Result<Vec<MessageRow>> {
        let (client, room) = (self.people.get(person).context("a person")?, self.room);
        Ok(client.read(move |reader| reader.messages(&room, Page::Newest, SHOWN)).await?)
    }

    /// Waits until a device shows all the lines.
    async fn until(&self, what: &str, person: usize, lines: &[String]) -> anyhow::Result<()> {
        let (client, room) = (self.people.get(person).context("a person")?, self.room);
        let lines = lines.to_vec();
        let shown = move |reader: &Reader| {
            Ok(has(&reader.messages(&room, Page::Newest, SHOWN)?, &lines) == lines.len())
        };
        until(what, client, shown).await
    }
}

/// Looks at a device until it is so.
pub async fn until(
    what: &str,
    client: &Client,
    good: impl Fn(&Reader) -> Result<bool, StoreError> + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let looks = async {
        while !client.read(good.clone()).await? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    tokio::time::timeout(STUCK, looks).await.with_context(|| format!("waited in vain for {what}"))?
}

/// How many of the lines are among the messages.
fn has(rows: &[MessageRow], lines: &[String]) -> usize {
    lines.iter().filter(|line| rows.iter().any(|row| row.text.as_ref() == Some(line))).count()
}

/// Everything the server has of a topic.
async fn envelopes(cluster: &Cluster, topic: TopicId) -> anyhow::Result<Vec<Vec<u8>>> {
    let page = cluster.server().get(&format!("/topic/{topic}/ops?limit={SHOWN}")).await?;
    let page: Value = serde_json::from_str(&page).context("the server's log")?;
    let ops = page.get("ops").and_then(Value::as_array).context("the server's log")?;
    let each = ops.iter().map(|op| {
        let data = op.get("data").and_then(Value::as_str).context("an operation of the server's log")?;
        Ok(BASE64.decode(data)?)
    });
    each.collect()
}
