//! `delta chat`: the rooms of a device in a terminal. This file talks to the device; what is shown is in `state`, how
//! in `view`.

mod composer;
mod conversation;
mod files;
mod input;
mod painter;
#[cfg(all(test, target_os = "linux"))]
#[path = "../tests/network/pty.rs"]
#[allow(dead_code, reason = "the tests with a network use the rest of it")]
mod pty;
mod rooms;
#[cfg(test)]
mod samples;
mod state;
mod view;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use delta_client::{Client, ClientError, Event, Update};
use delta_core::identity::LogId;
use delta_core::ops::Content;
use delta_core::projector::Aggregate;
use delta_core::store::{MessageRow, Page, ProfileRow};
use delta_core::topic::TopicId;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll};
use tokio::signal::unix::SignalKind;

use crate::device::DeviceOptions;
use crate::output::{Interrupted, Output, Usage};
use crate::platform::{Ended, continued, ended};
use crate::text::plain;
use conversation::{Badge, Conversation, Person};
use files::Saves;
use input::Terminal;
use rooms::list;
use state::{Chat, Wish};

/// Messages read at once.
const PAGE: usize = 50;
/// Messages kept while the newest are shown; older ones are read again when they are scrolled to.
const KEPT: usize = 500;
/// Operations of the outbox that are looked at.
const OUTBOX: usize = 1000;
/// Topics that are followed all the time: each takes a connection.
const FOLLOWED: usize = 64;
/// How often the connection is looked at when nothing happens, and how far was read is noted.
const LOOK: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  delta chat --db me.db --key @device.key --sync URL#KEY --records records.json
                                          all rooms of this device (delta space, delta invite)
  delta chat … --room ID                  begins in that room
  delta chat … --ticket @ticket           begins in that topic
  delta chat --db me.db --key @device.key only reads, and writes for later: without --sync nothing is sent

Keys:
  Enter        sends                      Tab, Esc     to the list of rooms and back
  Alt-Enter    begins a new line          Ctrl-N, -P   the next room, the one before
  Page Up, Up  older messages             Ctrl-R       tries again what was not delivered
  End          to the newest              Ctrl-L       draws the screen again
  Ctrl-W, -U   erases a word, all of it   Ctrl-Z       back to the shell until `fg`
  /name NAME   what others see here       Ctrl-C, -D   leaves
  /attach FILE sends a file               /save ID FILE  saves one of the others

A message is durable on this device before it is shown. Beside your own stands (pending) until the server has it, then
(sent), or (FAILED) when nothing is tried any more. What is pending when you leave goes out with the next command of this
device, and what you had not sent is printed; also when a signal ends the chat. Without its terminal it ends as by SIGHUP
(exit code 129). [live, hidden] at the top: connected, and the server does not see your address. Times are UTC.";

/// Talk in rooms, in this terminal.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    device: DeviceOptions,
}

/// Opens the device and shows its rooms until they are left.
pub async fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    if output.is_json() || !Terminal::is_there() {
        let text = "delta chat needs a terminal; `delta send` and `delta tail` need none";
        return Err(Usage(text.to_owned()).into());
    }
    let mut ended = ended()?;
    let client = tokio::select! {
        client = options.device.open_any(output) => client?,
        signal = ended.wait() => return Err(signal.into()),
    };
    let left = talk(&client, options.device.asked(), &mut ended).await;
    let closed = client.close().await;
    let Left { notes, stalled, done } = left?;
    if stalled
        && let Err(error) = &done
        && let Some(signal) = error.downcast_ref::<Interrupted>()
    {
        // The terminal took nothing for a while, and would not take this either.
        std::process::exit(signal.code().into());
    }
    // The device is closed by now: what follows may wait for the terminal.
    notes.iter().for_each(|note| output.note(note));
    done?;
    closed.map_err(Into::into)
}

/// How a chat was left.
struct Left {
    /// What its person is to know.
    notes: Vec<String>,
    /// The terminal did not take its own screen back.
    stalled: bool,
    done: anyhow::Result<()>,
}

async fn talk(client: &Client, asked: Option<LogId>, ended: &mut Ended) -> anyhow::Result<Left> {
    let mut session = Session {
        client,
        asked,
        chat: Chat::default(),
        updates: SelectAll::new(),
        followed: BTreeSet::new(),
        saves: Saves::default(),
    };
    tokio::select! {
        started = session.start() => started?,
        signal = ended.wait() => return Err(signal.into()),
    }
    let mut terminal = Terminal::open()?;
    let shown = session.show(&mut terminal, ended).await;
    // The screen comes back before anything is printed.
    let stalled = !terminal.close().await;
    let drafts = session.chat.unsent().into_iter();
    let mut notes: Vec<_> =
        drafts.map(|(room, draft)| format!("not sent in {}: {}", plain(&room), plain(draft))).collect();
    let noted = session.note_read().await;
    let waiting = session.waiting().await;
    if let Ok(waiting @ 1..) = &waiting {
        notes.push(format!("{waiting} not confirmed yet; they stay in this device's outbox"));
    }
    Ok(Left { notes, stalled, done: shown.and(noted).and(waiting.map(drop)) })
}

/// Without its terminal a chat ends as it does when the terminal tells it to (SIGHUP); which comes first is chance.
fn lost(error: std::io::Error) -> anyhow::Error {
    match Terminal::is_there() {
        true => anyhow::Error::new(error).context("the terminal"),
        false => Interrupted(SignalKind::hangup().as_raw_value()).into(),
    }
}

struct Session<'a> {
    client: &'a Client,
    /// The conversation of the command line.
    asked: Option<LogId>,
    chat: Chat,
    updates: SelectAll<BoxStream<'static, (TopicId, Update)>>,
    followed: BTreeSet<TopicId>,
    saves: Saves,
}

impl Session<'_> {
    /// The list of rooms, and the one that is shown first.
    async fn start(&mut self) -> anyhow::Result<()> {
        self.list().await?;
        self.chat.rooms.choose_new();
        let only = self.chat.rooms.rows().first().filter(|_| self.chat.rooms.rows().len() == 1);
        match self.asked.or(only.map(|room| room.log)) {
            Some(log) => self.open(log).await,
            None => Ok(()),
        }
    }

    async fn show(&mut self, terminal: &mut Terminal, ended: &mut Ended) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(LOOK);
        let mut goes_on = continued()?;
        loop {
            terminal.draw(|frame| view::draw(frame, &mut self.chat)).map_err(lost)?;
            if self.chat.open.as_mut().is_some_and(Conversation::wants_older) {
                self.older().await?;
                continue;
            }
            let wish = tokio::select! {
                biased;
                signal = ended.wait() => return Err(signal.into()),
                _ = goes_on.recv() => Wish::Redraw,
                _ = look.tick() => {
                    self.look().await?;
                    self.note_read().await?;
                    Wish::Nothing
                }
                input = terminal.next() => match input.map_err(lost)? {
                    Some(input) => self.chat.input(input),
                    None => Wish::Nothing,
                },
                update = self.updates.next(), if !self.updates.is_empty() => {
                    let (topic, update) = update.context("the client was closed")?;
                    self.take(topic, update).await?;
                    Wish::Nothing
                }
            };
            match wish {
                Wish::Leave => return Ok(()),
                Wish::Redraw => terminal.again(ended).await?,
                Wish::Suspend if terminal.suspend(&mut goes_on, ended).await? => {}
                Wish::Suspend => self.chat.tell(Some("there is no shell to go back to".to_owned())),
                wish => self.grant(wish).await?,
            }
        }
    }

    /// Does what a key asked for. That it cannot be done is said, and no reason to leave.
    async fn grant(&mut self, wish: Wish) -> anyhow::Result<()> {
        match wish {
            Wish::Open(log) => self.open(log).await,
            Wish::Send(text) => {
                let content = Content::MessageSend {
                    text: text.clone(),
                    reply: None,
                    mentions: Vec::new(),
                    attachments: Vec::new(),
                };
                if let Err(error) = self.publish(content).await {
                    // It is still there to be sent.
                    self.chat.refused(&text, &error.to_string());
                }
                self.reload().await
            }
            Wish::Rename(name) => {
                let told = match self.rename(name).await {
                    Ok(()) => "others see your name in this room from now on".to_owned(),
                    Err(error) => format!("not renamed: {error}"),
                };
                self.chat.tell(Some(told));
                Ok(())
            }
            Wish::Attach(path) => {
                let sent = match files::attach(self.client, &path).await {
                    Ok((blob, content)) => {
                        let sent = self.publish(content).await;
                        if sent.is_err() {
                            // Nobody hears of it: it need not be sent.
                            drop(self.client.drop_blob(blob).await);
                        }
                        sent
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = sent {
                    self.chat.refused(&format!("/attach {path}"), &error.to_string());
                }
                self.reload().await
            }
            Wish::Save(id, path) => {
                let Some(open) = &self.chat.open else { return Ok(()) };
                let told = match files::find(open.files(), &id) {
                    Ok(blob) => self.saves.begin(self.client, blob, &path).await,
                    Err(why) => format!("not saved: {why}"),
                };
                self.chat.tell(Some(told));
                self.save().await;
                Ok(())
            }
            Wish::Retry => {
                let Some(open) = &self.chat.open else { return Ok(()) };
                let told = match self.client.retry(open.topic).await {
                    Ok(parked) => format!("{parked} tried again"),
                    Err(error) => error.to_string(),
                };
                self.chat.tell(Some(told));
                self.look().await
            }
            Wish::Nothing | Wish::Leave | Wish::Redraw | Wish::Suspend => Ok(()),
        }
    }

    /// Saves files that are here by now.
    async fn save(&mut self) {
        if let Some(told) = self.saves.go_on(self.client).await {
            self.chat.tell(Some(told));
        }
    }

    async fn publish(&self, content: Content) -> Result<(), ClientError> {
        let Some(open) = &self.chat.open else { return Ok(()) };
        self.client.publish(open.topic, content).await.map(drop)
    }

    /// The rest of the profile stays as it is.
    async fn rename(&self, name: String) -> Result<(), ClientError> {
        let Some(open) = &self.chat.open else { return Ok(()) };
        let (me, log) = (open.me, open.log);
        let content = match self.client.read(move |reader| reader.profile(&me, &log)).await? {
            Some(ProfileRow { bio, avatar, availability, public, .. }) => {
                Content::ProfileSet { name, bio, avatar, availability, public }
            }
            None => Content::ProfileSet { name, bio: None, avatar: None, availability: None, public: false },
        };
        self.publish(content).await
    }

    /// Shows another room: its newest page, and which of it is new.
    async fn open(&mut self, log: LogId) -> anyhow::Result<()> {
        self.note_read().await?;
        let room = self.chat.rooms.get(&log).context("this device does not know the room")?;
        let topic = room.topic.context("this device has no key of the room (yet)")?;
        let me = self.client.author();
        let mut open = Conversation::new(log, topic, room.name.clone(), me);
        self.follow(topic).await?;
        let newest = self
            .client
            .read(move |reader| Ok((reader.messages(&log, Page::Newest, PAGE)?, reader.unread(&log, &me)?)));
        let (rows, unread) = newest.await?;
        open.begin(rows, unread.messages, PAGE);
        self.chat.enter(open);
        self.meet().await?;
        self.look().await
    }

    /// Listens to a topic from now on.
    async fn follow(&mut self, topic: TopicId) -> anyhow::Result<()> {
        if self.followed.insert(topic) {
            let updates = self.client.subscribe(topic).await?;
            self.updates.push(updates.map(move |update| (topic, update)).boxed());
        }
        Ok(())
    }

    /// Reads the list of rooms, and follows those that are new in it.
    async fn list(&mut self) -> anyhow::Result<()> {
        let (me, asked) = (self.client.author(), self.asked);
        let listing = self.client.read(move |reader| list(reader, &me, asked)).await?;
        let rooms = listing.rooms.iter().filter_map(|room| room.topic);
        for topic in listing.spaces.into_iter().chain(rooms).take(FOLLOWED) {
            self.follow(topic).await?;
        }
        if let Some(open) = &mut self.chat.open
            && let Some(room) = listing.rooms.iter().find(|room| room.log == open.log)
        {
            open.title.clone_from(&room.name);
        }
        self.chat.rooms.replace(listing.rooms);
        Ok(())
    }

    async fn take(&mut self, topic: TopicId, update: Update) -> anyhow::Result<()> {
        let here = self.chat.open.as_ref().is_some_and(|open| open.topic == topic);
        let told = match &update {
            Update::Storage(failing) => {
                self.chat
                    .tell(failing.as_ref().map(|error| format!("the database takes no changes: {error}")));
                None
            }
            Update::Event(Event::ServerFault { fault, .. }) => Some(fault.to_string()),
            Update::Event(Event::ServerEquivocates { .. } | Event::FalseReset { .. }) => {
                Some("the server shows others another history: see `delta status`".to_owned())
            }
            Update::Event(Event::AwaitingKey { .. }) => {
                Some("the room moved on, and this device has no key (yet)".to_owned())
            }
            _ => None,
        };
        if told.is_some() && here {
            self.chat.tell(told);
        }
        let shown = [Aggregate::Message, Aggregate::Profile];
        let reload = match &update {
            Update::Event(Event::Changed { changes, .. }) => {
                changes.iter().any(|change| shown.contains(&change.aggregate))
            }
            Update::Lagged { .. } | Update::Event(Event::Acknowledged { .. }) => true,
            _ => false,
        };
        if reload && here {
            self.reload().await?;
        }
        if matches!(&update, Update::Event(Event::Changed { .. }) | Update::Lagged { .. }) {
            self.save().await;
        }
        if reload || matches!(update, Update::Event(Event::Changed { .. } | Event::Moved { .. })) {
            self.list().await?;
        }
        if here { self.look().await } else { Ok(()) }
    }

    /// Reads again what is shown: rows change after they were read (edits, places).
    async fn reload(&mut self) -> anyhow::Result<()> {
        let Some(open) = &mut self.chat.open else { return Ok(()) };
        let (log, wanted) = (open.log, open.wanted(PAGE, KEPT));
        let rows: Vec<MessageRow> =
            self.client.read(move |reader| reader.messages(&log, Page::Newest, wanted)).await?;
        open.replace(rows, wanted);
        self.meet().await
    }

    /// The page before what is shown.
    async fn older(&mut self) -> anyhow::Result<()> {
        let Some(open) = &mut self.chat.open else { return Ok(()) };
        let Some(first) = open.oldest() else { return Ok(()) };
        let log = open.log;
        let rows = self.client.read(move |reader| reader.messages(&log, Page::Before(first), PAGE)).await?;
        open.prepend(rows, PAGE);
        self.meet().await
    }

    /// Looks who wrote what is shown.
    async fn meet(&mut self) -> anyhow::Result<()> {
        let Some(open) = &mut self.chat.open else { return Ok(()) };
        let (log, me, authors) = (open.log, open.me, open.authors());
        let people = self.client.read(move |reader| {
            let mine = reader.person(&log, &me)?;
            let people = authors.into_iter().map(|author| {
                let name = reader.profile(&author, &log)?.map(|row| row.name);
                Ok((author, Person { name, mine: reader.person(&log, &author)? == mine }))
            });
            people.collect::<Result<Vec<_>, _>>()
        });
        open.meet(people.await?);
        Ok(())
    }

    /// How the topic stands, and what waits in it.
    async fn look(&mut self) -> anyhow::Result<()> {
        let Some(open) = &mut self.chat.open else { return Ok(()) };
        open.badge = Badge::of(&self.client.status(open.topic).await?);
        if open.waits() {
            open.in_outbox(self.client.outbox(open.topic, None, OUTBOX).await?);
        }
        Ok(())
    }

    /// Notes how far was read, once that has a place. Not at every message: the person's other devices hear of it.
    async fn note_read(&mut self) -> anyhow::Result<()> {
        let Some(open) = &mut self.chat.open else { return Ok(()) };
        if let Some(upto) = open.newly_read() {
            self.client.set_read(open.log, upto).await?;
            self.list().await?;
        }
        Ok(())
    }

    /// What the server does not have yet, of all that was shown.
    async fn waiting(&self) -> anyhow::Result<usize> {
        let mut waiting = 0;
        for topic in &self.followed {
            let status = self.client.status(*topic).await?;
            waiting += status.queued + status.sent;
        }
        Ok(waiting)
    }
}
