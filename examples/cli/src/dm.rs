//! `delta dm`: two people and nobody else.

use anyhow::{Context, bail};
use delta_client::Client;
use delta_core::identity::{Author, ThreadId};
use delta_core::ops::{Contact, Content};
use delta_core::store::{MessageRow, Page, ThreadRow, ThreadState};
use delta_core::topic::TopicId;
use serde_json::json;

use crate::at::{At, close, print};
use crate::device::Base;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  delta dm contact --db b.db --key @b.key            prints what others need to write to this device
  delta dm request --db a.db … --to CONTACT --text 'It is me'
  delta dm list --db b.db …                          shows who asks
  delta dm accept --db b.db … --thread ID
  delta dm send --db a.db … --thread ID hello
  delta dm log --db b.db … --thread ID

A request, and its acceptance, is taken for sent when the first relay has it: whether it arrived is asked for a minute
later, when a device is still running then.";

/// Talk to one other device.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// Print what others need to write to this device.
    Contact(Plain),
    /// Ask somebody for a direct thread.
    Request(Request),
    /// The direct threads of this device, and who asks for one.
    List(Plain),
    /// Accept a direct thread.
    Accept(OfThread),
    /// Take no more part in a direct thread, or turn a request down.
    Close(OfThread),
    /// Send a message.
    Send(Send),
    /// Print the messages of a direct thread.
    Log(OfThread),
}

/// The device and nothing else.
#[derive(clap::Args)]
pub struct Plain {
    #[command(flatten)]
    base: Base,
    /// Seconds to wait for the server.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// Whom to ask.
#[derive(clap::Args)]
pub struct Request {
    #[command(flatten)]
    of: Plain,
    /// The other device's contact (`delta dm contact`).
    #[arg(long, value_name = "CONTACT", required_unless_present = "member")]
    to: Option<Contact>,
    /// Instead: the key of somebody in a space of this device.
    #[arg(long, value_name = "KEY", conflicts_with = "to")]
    member: Option<Author>,
    /// What to say, at most 2048 bytes.
    #[arg(long)]
    text: Option<String>,
}

/// One thread.
#[derive(clap::Args)]
pub struct OfThread {
    #[command(flatten)]
    of: Plain,
    /// The thread's id (`delta dm list`).
    #[arg(long, value_name = "ID")]
    thread: ThreadId,
}

/// A message.
#[derive(clap::Args)]
pub struct Send {
    #[command(flatten)]
    of: OfThread,
    /// Its text.
    text: String,
}

/// Runs one of `delta dm`.
pub async fn run(command: &Command, output: &Output) -> anyhow::Result<()> {
    let of = match command {
        Command::Contact(of) | Command::List(of) => of,
        Command::Request(request) => &request.of,
        Command::Accept(of) | Command::Close(of) | Command::Log(of) => &of.of,
        Command::Send(send) => &send.of.of,
    };
    let client = of.base.open(output).await?;
    let at = At { client: &client, online: of.base.has_network(), output, timeout: of.timeout };
    let done = async {
        // Who asks, who accepted, and fresh keys of the others come there.
        at.catch_up_inbox().await?;
        // Threads of the person's other devices.
        at.catch_up_own().await?;
        at.run(command).await?;
        at.hand_over().await
    };
    close(&client, done.await).await
}

impl At<'_> {
    async fn run(&self, command: &Command) -> anyhow::Result<()> {
        let Self { client, output, .. } = self;
        match command {
            Command::Contact(_) => {
                let text = client.contact().await?.to_string();
                print(output, &text, json!({ "contact": text }))
            }
            Command::Request(Request { to: Some(to), text, .. }) => {
                self.thread(client.request_direct(to, text.clone()).await?)
            }
            Command::Request(Request { member, text, .. }) => {
                let member = member.context("--to or --member is needed")?;
                self.thread(client.request_direct_of(member, text.clone()).await?)
            }
            Command::List(_) => {
                let rows = client.read(|reader| reader.direct_threads()).await?;
                if rows.is_empty() {
                    output.note("no direct threads yet: `delta dm request` asks somebody for one");
                }
                rows.iter().try_for_each(|row| self.show(row))
            }
            Command::Accept(OfThread { thread, .. }) => {
                client.accept_direct(*thread).await?;
                self.thread(*thread)
            }
            Command::Close(OfThread { thread, .. }) => {
                client.close_direct(*thread).await?;
                self.thread(*thread)
            }
            Command::Send(Send { of, text }) => {
                let topic = self.open_thread(of.thread).await?;
                let content = Content::MessageSend {
                    text: text.clone(),
                    reply: None,
                    mentions: Vec::new(),
                    attachments: Vec::new(),
                };
                let id = client.send_direct(of.thread, content).await?.to_string();
                self.deliver(topic).await?;
                print(output, &id, json!({ "operation": id }))
            }
            Command::Log(OfThread { thread, .. }) => self.log(*thread).await,
        }
    }

    fn thread(&self, thread: ThreadId) -> anyhow::Result<()> {
        let id = thread.to_string();
        print(self.output, &id, json!({ "thread": id }))
    }

    fn show(&self, row: &ThreadRow) -> anyhow::Result<()> {
        let state = match row.state {
            ThreadState::Asked => "asked",
            ThreadState::Requested => "requested",
            ThreadState::Open => "open",
            ThreadState::Closed => "closed",
        };
        let (thread, peer) = (row.thread.to_string(), row.peer.to_string());
        let line = format!("{thread}  {state}  {peer}  {}", row.text.as_deref().unwrap_or(""));
        let value = json!({ "thread": thread, "state": state, "peer": peer, "text": row.text });
        print(self.output, line.trim_end(), value)
    }

    /// The topic of a thread that is open, brought up to date.
    async fn open_thread(&self, thread: ThreadId) -> anyhow::Result<TopicId> {
        let row = self.client.read(move |reader| reader.direct_thread(&thread)).await?;
        let row = row.context("this device knows no such thread (`delta dm list` shows those it knows)")?;
        match row.state {
            ThreadState::Open => {}
            ThreadState::Asked => bail!("the thread is not open: the other one has not accepted it yet"),
            ThreadState::Requested => bail!("the thread is not open: `delta dm accept` accepts it"),
            ThreadState::Closed => bail!("the thread was closed: `delta dm request` asks for another"),
        }
        let topic = row.topic.context("the thread is not open (yet)")?;
        self.catch_up(topic).await?;
        Ok(topic)
    }

    async fn log(&self, thread: ThreadId) -> anyhow::Result<()> {
        self.open_thread(thread).await?;
        let rows = messages(self.client, thread).await?;
        rows.into_iter().try_for_each(|row| {
            let (author, text) = (row.author().to_string(), row.text.unwrap_or_default());
            let value = json!({ "id": row.id.to_string(), "author": author, "text": text });
            print(self.output, &format!("{}  {text}", author.get(..8).unwrap_or_default()), value)
        })
    }
}

/// How many messages are printed.
const SHOWN: usize = 1000;

async fn messages(client: &Client, thread: ThreadId) -> anyhow::Result<Vec<MessageRow>> {
    let rows = client.read(move |reader| {
        let Some(log) = reader.direct_thread(&thread)?.and_then(|row| row.log) else { return Ok(Vec::new()) };
        reader.messages(&log, Page::Newest, SHOWN)
    });
    Ok(rows.await?)
}
