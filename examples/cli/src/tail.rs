//! `delta tail`: prints messages as they come.

use std::collections::HashSet;

use delta_client::{Client, Event, Update};
use delta_core::identity::{LogId, OperationId};
use delta_core::projector::Aggregate;
use delta_core::store::{MessageRow, Page};
use delta_core::topic::TopicId;
use serde_json::json;

use crate::device::{DeviceOptions, until_live};
use crate::output::Output;

/// Messages read in one query.
const PAGE: usize = 500;

const EXAMPLES: &str = "\
Examples:
  delta tail --db me.db --key @device.key --ticket @ticket --sync URL#KEY --records records.json
  delta tail … --last 1000 --once        what there is, then exit

A message of this device is printed when the topic has it. With --json every message is one object on a line.";

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
}

/// Follows a topic until it is interrupted.
pub async fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    let (client, topic) = options.device.connect(output).await?;
    let log = options.device.log();
    let tail = Tail { client: &client, topic, log, output, printed: HashSet::new() };
    let followed = tokio::select! {
        followed = tail.follow(options) => followed,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
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
    printed: HashSet<OperationId>,
}

impl Tail<'_> {
    async fn follow(mut self, options: &Options) -> anyhow::Result<()> {
        let mut updates = self.client.subscribe(self.topic).await?;
        until_live(self.client, self.topic, &mut updates).await?;
        self.newest(options.last).await?;
        if options.once {
            return Ok(());
        }
        loop {
            match updates.next().await {
                Some(Update::Event(Event::Changed { changes, .. })) => {
                    let messages = changes.iter().filter(|change| change.aggregate == Aggregate::Message);
                    let ids: Vec<_> =
                        messages.flat_map(|change| &change.ids).map(|id| OperationId(*id)).collect();
                    self.these(ids).await?;
                }
                Some(Update::Lagged { .. }) => self.newest(PAGE).await?,
                Some(Update::Event(Event::ServerFault { fault, .. })) => self.output.note(&fault.to_string()),
                Some(Update::Event(Event::Gap { from, to, .. })) => {
                    self.output.note(&format!("the server no longer has operations {from} to {to}"));
                }
                Some(_) => {}
                None => anyhow::bail!("the client was closed"),
            }
        }
    }

    /// Prints the newest messages that were not printed yet.
    async fn newest(&mut self, wanted: usize) -> anyhow::Result<()> {
        let log = self.log;
        let rows = self.client.read(move |reader| {
            let (mut rows, mut page) = (Vec::new(), Page::Newest);
            while rows.len() < wanted {
                let older = reader.messages(&log, page, PAGE.min(wanted - rows.len()))?;
                let Some(first) = older.first() else { break };
                page = Page::Before(first.position);
                rows.splice(0..0, older);
            }
            Ok(rows)
        });
        self.print(rows.await?)
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
        self.print(rows.await?)
    }

    fn print(&mut self, rows: Vec<MessageRow>) -> anyhow::Result<()> {
        for row in rows {
            let text = row.text.as_deref().filter(|_| row.is_acknowledged());
            if let Some(text) = text
                && self.printed.insert(row.id)
            {
                self.line(&row, text)?;
            }
        }
        Ok(())
    }

    fn line(&self, row: &MessageRow, text: &str) -> anyhow::Result<()> {
        let author = row.author().to_string();
        if self.output.is_json() {
            return self.output.value(&json!({
                "operation": row.id.to_string(),
                "author": author,
                "seq": row.position.place.seq.0,
                "text": text,
                "reply": row.reply.map(|reply| reply.to_string()),
                "sent_at_ms": row.sent_at.map(|at| at.0),
                "received_at_ms": row.received_at.map(|at| at.0),
            }));
        }
        let short = author.get(..8).unwrap_or(&author);
        self.output.line(&format!("{short}  {}", printable(text)))
    }
}

/// Somebody else's text must not move the cursor or colour the terminal.
fn printable(text: &str) -> String {
    let harmless = |letter: char| match letter {
        '\n' => '↵',
        letter if letter.is_control() => '\u{fffd}',
        letter => letter,
    };
    text.chars().map(harmless).collect()
}
