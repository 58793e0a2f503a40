//! `delta tail`: prints messages as they come.

mod printed;

use std::time::Duration;

use anyhow::Context;
use delta_client::{Client, Event, Update};
use delta_core::identity::{Author, LogId, OperationId};
use delta_core::ops::Signal;
use delta_core::projector::{Aggregate, Place, Position};
use delta_core::store::{MessageRow, Page};
use delta_core::topic::{Seq, TopicId};
use serde_json::json;

use crate::blob::attachment;
use crate::device::{DeviceOptions, until_live};
use crate::output::{Output, Repeated};
use crate::platform::{FAREWELL, interrupted};
use crate::text::plain;
use printed::Printed;

/// Messages read in one query.
const PAGE: usize = 500;
/// Before every message.
const ORIGIN: Position =
    Position { place: Place { epoch: 0, resets: 0, seq: Seq(0) }, author: Author([0; 32]), seq_num: 0 };

const EXAMPLES: &str = "\
Examples:
  delta tail --db me.db --key @device.key --ticket @ticket --sync URL#KEY --records records.json
  delta tail … --last 1000 --once        what there is, then exit

A message of this device is printed when the topic has it. With --json every message is one object on a line,
and so is every signal (its key is `signal`, the bytes in hex). It ends with Ctrl-C: that is no failure, exit code 0.";

/// Print messages as they come.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    device: DeviceOptions,
    /// Begin with this many of the newest messages.
    #[arg(long, value_name = "N", default_value_t = 10)]
    last: usize,
    /// Exit when everything the server has is printed.
    #[arg(long)]
    once: bool,
    /// Seconds to wait with --once until everything is here.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// Follows a topic until it is interrupted.
pub async fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    let (client, topic) = options.device.connect(output).await?;
    let log = options.device.log();
    let tail = Tail { client: &client, topic, log, output, printed: Printed::default(), since: ORIGIN };
    let followed = tokio::select! {
        followed = tail.follow(options) => followed,
        signal = interrupted(FAREWELL) => signal.map(drop).map_err(anyhow::Error::from),
    };
    client.close().await?;
    followed
}

struct Tail<'a> {
    client: &'a Client,
    topic: TopicId,
    log: LogId,
    output: &'a Output,
    /// Rows change after they were printed (edits, reactions); what was printed stays printed.
    printed: Printed,
    /// What stands up to here is older than what was asked for.
    since: Position,
}

impl Tail<'_> {
    async fn follow(mut self, options: &Options) -> anyhow::Result<()> {
        let mut updates = self.client.subscribe(self.topic).await?;
        let live = until_live(self.client, self.topic, &mut updates, self.output);
        if options.once {
            let in_time = tokio::time::timeout(Duration::from_secs(options.timeout), live).await;
            in_time.with_context(|| {
                format!(
                    "the topic was not caught up within {} s; --timeout sets how long to wait",
                    options.timeout
                )
            })??;
        } else {
            live.await?;
        }
        self.since = self.before_newest(options.last).await?;
        self.after(self.since).await?;
        if options.once {
            return Ok(());
        }
        let mut remarks = Repeated::default();
        loop {
            match updates.next().await.context("the client was closed")? {
                Update::Event(Event::Changed { changes, .. }) => {
                    let messages = changes.iter().filter(|change| change.aggregate == Aggregate::Message);
                    let ids: Vec<_> =
                        messages.flat_map(|change| &change.ids).map(|id| OperationId(*id)).collect();
                    self.these(ids).await?;
                }
                Update::Lagged { .. } => {
                    let from = self.before_unprinted().await?;
                    self.after(from).await?;
                }
                Update::Event(Event::ServerFault { fault, .. }) => {
                    remarks.note(self.output, fault.to_string());
                }
                Update::Event(Event::Signal { signal, .. }) => self.signal(&signal)?,
                Update::Event(Event::ServerEquivocates { .. }) => {
                    self.output.note("the server has shown somebody another history: see `delta status`");
                }
                Update::Event(Event::ServerWithholds { seq, .. }) => self.output.note(&format!(
                    "the server, or the relay that carries the topic, keeps back what this device said at {seq}"
                )),
                Update::Event(Event::FalseReset { old, .. }) => self.output.note(&format!(
                    "the server says that its log was reset, and shows the old one (this device had read {} of it) \
                     to others",
                    old.seq
                )),
                Update::Event(Event::Readable { unreadable: Some(unreadable), .. }) => {
                    self.output.note(&unreadable.to_string());
                }
                Update::Event(Event::Gap { from, to, .. }) => {
                    self.output.note(&format!("the server no longer has operations {from} to {to}"));
                }
                Update::Storage(Some(error)) => {
                    let text = format!("this device's database takes no changes: {error}");
                    remarks.note(self.output, text);
                }
                Update::Event(_) | Update::Storage(None) => {}
            }
        }
    }

    async fn page(&self, page: Page) -> anyhow::Result<Vec<MessageRow>> {
        let log = self.log;
        Ok(self.client.read(move |reader| reader.messages(&log, page, PAGE)).await?)
    }

    /// Where the newest `wanted` messages that the topic has begin.
    async fn before_newest(&self, wanted: usize) -> anyhow::Result<Position> {
        let (mut left, mut page) = (wanted, Page::Newest);
        loop {
            let rows = self.page(page).await?;
            let Some(first) = rows.first() else { return Ok(ORIGIN) };
            page = Page::Before(first.position);
            for row in rows.iter().rev().filter(|row| is_shown(row)) {
                match left.checked_sub(1) {
                    Some(less) => left = less,
                    None => return Ok(row.position),
                }
            }
        }
    }

    /// Where what was not printed yet begins: below a whole page of printed messages there is nothing.
    async fn before_unprinted(&self) -> anyhow::Result<Position> {
        let mut page = Page::Newest;
        loop {
            let rows = self.page(page).await?;
            let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(self.since) };
            page = Page::Before(first.position);
            let mut shown = rows.iter().filter(|row| is_shown(row)).peekable();
            if shown.peek().is_some() && shown.all(|row| self.printed.has(row.author(), row.position.seq_num))
            {
                // Own messages that wait for the topic stand above all others.
                let last = if last.is_acknowledged() { last.position } else { first.position };
                return Ok(last.max(self.since));
            }
            if first.position <= self.since {
                return Ok(self.since);
            }
        }
    }

    /// Prints what was not printed yet of what stands after a position, page by page.
    async fn after(&mut self, position: Position) -> anyhow::Result<()> {
        let mut position = position;
        loop {
            let rows = self.page(Page::After(position)).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            position = last.position;
            self.print(rows).await?;
        }
    }

    async fn these(&mut self, ids: Vec<OperationId>) -> anyhow::Result<()> {
        let rows = self.client.read(move |reader| {
            let mut rows = Vec::with_capacity(ids.len());
            for id in ids {
                rows.extend(reader.message(&id)?);
            }
            rows.sort_unstable_by_key(|row| row.position);
            Ok(rows)
        });
        self.print(rows.await?).await
    }

    async fn print(&mut self, rows: Vec<MessageRow>) -> anyhow::Result<()> {
        let mut lines = String::new();
        for row in rows.iter().filter(|row| is_shown(row) && row.position > self.since) {
            if self.printed.add(row.author(), row.position.seq_num) {
                lines.push_str(&self.line(row)?);
                lines.push('\n');
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        // A reader may take its time; meanwhile a signal must still end the command.
        self.output.patiently(lines.into_bytes()).await
    }

    /// With --json only: among messages for people a signal would look like one.
    fn signal(&self, signal: &Signal) -> anyhow::Result<()> {
        if !self.output.is_json() {
            return Ok(());
        }
        self.output.value(&json!({
            "signal": hex::encode(&signal.bytes),
            "text": std::str::from_utf8(&signal.bytes).ok(),
            "author": signal.author.to_string(),
            "sent_at_ms": signal.sent_at.0,
        }))
    }

    fn line(&self, row: &MessageRow) -> anyhow::Result<String> {
        let text = row.text.as_deref().unwrap_or_default();
        let author = row.author().to_string();
        if self.output.is_json() {
            return Ok(serde_json::to_string(&json!({
                "operation": row.id.to_string(),
                "author": author,
                "seq": row.position.place.seq.0,
                "text": text,
                "reply": row.reply.map(|reply| reply.to_string()),
                "attachments": row.attachments.iter().map(attachment).collect::<Vec<_>>(),
                "sent_at_ms": row.sent_at.map(|at| at.0),
                "received_at_ms": row.received_at.map(|at| at.0),
            }))?);
        }
        let short = author.get(..8).unwrap_or(&author);
        let files = row.attachments.iter().map(|it| {
            let name = it.name.as_deref().unwrap_or(&it.mime);
            format!("  [{}, {} bytes, {}]", plain(name), it.size, it.id)
        });
        Ok(format!("{short}  {}{}", plain(text), files.collect::<String>()))
    }
}

/// Whether the topic has it and nobody deleted it.
fn is_shown(row: &MessageRow) -> bool {
    row.is_acknowledged() && row.text.is_some()
}
