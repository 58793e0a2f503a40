//! What the devices say besides lines: a profile, a changed message and a reaction in the room, and a talk of two of them
//! in a thread of their own. What is looked for on the way is said by somebody.

use anyhow::Context;
use delta_client::Client;
use delta_core::identity::LogId;
use delta_core::ops::Content;
use delta_core::store::{Page, ThreadState};
use delta_core::topic::TopicId;

use super::members::until;

/// A name, and what stands below it.
const PROFILE: [&str; 2] = ["Keeper of the lower meadow", "Has the key of the shed, and its spare"];
/// A message, and what it is changed to.
const CHANGED: [&str; 2] = ["Noon is when the gate opens", "Dusk is when the gate opens"];
/// What is asked, and then said by each of the two.
const ALONE: [&str; 3] = [
    "May somebody ask something alone?",
    "Water is short behind the mill",
    "Then digging begins at the barn",
];

/// All of it: nobody on the way may see it.
pub fn texts() -> impl Iterator<Item = String> {
    PROFILE.into_iter().chain(CHANGED).chain(ALONE).map(str::to_owned)
}

/// `a` says it in the room, and talks with `b` alone. Gives how many messages each of the two read of the other's there.
pub async fn play(a: &Client, b: &Client, room: LogId, topic: TopicId) -> anyhow::Result<[u64; 2]> {
    in_room(a, b, room, topic).await?;
    let [asked, said, answered] = ALONE;
    let thread = a.request_direct(&b.contact().await?, Some(asked.to_owned())).await?;
    let is = move |wanted| {
        move |reader: &delta_core::store::Reader| {
            Ok(reader.direct_thread(&thread)?.is_some_and(|row| row.state == wanted))
        }
    };
    until("the request of a thread", b, is(ThreadState::Requested)).await?;
    let at_b = b.accept_direct(thread).await?;
    until("a thread", a, is(ThreadState::Open)).await?;
    let row = a.read(move |reader| reader.direct_thread(&thread)).await?.context("the thread")?;
    let (at_a, log) = (row.topic.context("the thread's topic")?, row.log.context("the thread's log")?);
    let _listening = [a.subscribe(at_a).await?, b.subscribe(at_b).await?];
    let mut read = [0; 2];
    for (who, from, to, text) in [(1, a, b, said), (0, b, a, answered)] {
        let content = Content::MessageSend {
            text: text.to_owned(),
            reply: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
        };
        let id = from.send_direct(thread, content).await?;
        until("a message of a thread", to, move |reader| Ok(reader.message(&id)?.is_some())).await?;
        let rows = to.read(move |reader| reader.messages(&log, Page::Newest, 10)).await?;
        read[who] = rows.iter().filter(|row| row.text.as_deref() == Some(text)).count() as u64;
    }
    Ok(read)
}

/// What `a` says of itself and changes, and `b` answers.
async fn in_room(a: &Client, b: &Client, room: LogId, topic: TopicId) -> anyhow::Result<()> {
    let [name, bio] = PROFILE.map(str::to_owned);
    let profile =
        Content::ProfileSet { name, bio: Some(bio), avatar: None, availability: None, public: false };
    a.publish(topic, profile).await?;
    let [text, changed] = CHANGED.map(str::to_owned);
    let target = a
        .publish(
            topic,
            Content::MessageSend { text, reply: None, mentions: Vec::new(), attachments: Vec::new() },
        )
        .await?;
    a.publish(topic, Content::MessageEdit { target, text: changed }).await?;
    let author = a.author();
    until("a profile and a changed message", b, move |reader| {
        let is_changed = |text: Option<String>| text.as_deref() == Some(CHANGED[1]);
        let changed = reader.message(&target)?.is_some_and(|row| is_changed(row.text));
        Ok(changed && reader.profile(&author, &room)?.is_some_and(|row| row.name == PROFILE[0]))
    })
    .await?;
    b.publish(topic, Content::ReactionAdd { target, emoji: "👍".to_owned() }).await?;
    until("a reaction", a, move |reader| Ok(!reader.reactions(&target)?.is_empty())).await
}
