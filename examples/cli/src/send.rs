//! `delta send`: publishes messages and waits until the topic has them.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context;
use delta_client::{Client, Event, Subscription, Update};
use delta_core::identity::OperationId;
use delta_core::ops::Content;
use delta_core::topic::{Seq, TopicId};
use serde_json::json;

use crate::device::DeviceOptions;
use crate::input::stdin_lines;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  delta send --db me.db --key @device.key --ticket @ticket --sync URL#KEY --records records.json hello
  tail -f app.log | delta send …         one message a line

A message is durable on this device before it is sent. What the topic does not confirm in time stays in the
outbox and goes out with the next `delta send` or `delta tail` of this device; exit code 1.";

/// Publish messages.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    device: DeviceOptions,
    /// The messages; without any, every line of standard input is one.
    text: Vec<String>,
    /// Only store them: they are sent by the next command of this device.
    #[arg(long)]
    no_wait: bool,
    /// Seconds to wait for the topic to confirm them.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// Publishes, then waits.
pub async fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    let (client, topic) = if options.no_wait {
        options.device.open(output).await?
    } else {
        options.device.connect(output).await?
    };
    let sent = send(options, output, &client, topic).await;
    client.close().await?;
    sent
}

/// Lines published in one go.
const TOGETHER: usize = 256;
/// How often an outbox is looked at when acknowledgements were missed.
const LOOK: Duration = Duration::from_millis(200);

async fn send(options: &Options, output: &Output, client: &Client, topic: TopicId) -> anyhow::Result<()> {
    let updates = client.subscribe(topic).await?;
    let waiting = HashSet::new();
    let mut sender = Sender { options, output, client, topic, updates, waiting, missed: false };
    if options.text.is_empty() {
        let mut lines = stdin_lines();
        let mut batch = Vec::new();
        while lines.recv_many(&mut batch, TOGETHER).await > 0 {
            let texts = batch.drain(..).collect::<Result<Vec<_>, _>>().context("standard input")?;
            sender.publish(texts).await?;
        }
    } else {
        sender.publish(options.text.clone()).await?;
    }
    if options.no_wait {
        return Ok(());
    }
    let timeout = Duration::from_secs(options.timeout);
    let in_time = tokio::time::timeout(timeout, sender.confirm()).await;
    in_time.unwrap_or_else(|_| {
        anyhow::bail!("not every message is confirmed yet; what is not stays in this device's outbox")
    })
}

struct Sender<'a> {
    options: &'a Options,
    output: &'a Output,
    client: &'a Client,
    topic: TopicId,
    updates: Subscription,
    /// What the topic has not confirmed.
    waiting: HashSet<OperationId>,
    /// Some confirmations were missed.
    missed: bool,
}

impl Sender<'_> {
    async fn publish(&mut self, texts: Vec<String>) -> anyhow::Result<()> {
        let message = |text| Content::MessageSend { text, reply: None, mentions: Vec::new() };
        let contents = texts.into_iter().map(message).collect();
        for published in self.client.publish_all(self.topic, contents).await {
            let operation = published?;
            self.waiting.insert(operation);
            if self.options.no_wait || !self.output.is_json() {
                report(self.output, operation, None)?;
            }
        }
        while let Some(update) = self.updates.try_next() {
            self.take(update)?;
        }
        Ok(())
    }

    /// Waits until everything in the outbox stands in the topic's log, what earlier commands left there included.
    async fn confirm(&mut self) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                update = self.updates.next() => self.take(update.context("the client was closed")?)?,
                _ = look.tick() => {}
            }
            if self.waiting.is_empty() || self.missed {
                let status = self.client.status(self.topic).await?;
                if status.queued + status.sent == 0 {
                    return self.report_missed();
                }
            }
        }
    }

    /// They stand in the log; where, nobody told us.
    fn report_missed(&mut self) -> anyhow::Result<()> {
        for operation in self.waiting.drain().filter(|_| self.output.is_json()) {
            report(self.output, operation, None)?;
        }
        Ok(())
    }

    fn take(&mut self, update: Update) -> anyhow::Result<()> {
        match update {
            Update::Event(Event::Acknowledged { operation, seq, .. }) => {
                if self.waiting.remove(&operation) && !self.options.no_wait && self.output.is_json() {
                    report(self.output, operation, Some(seq))?;
                }
            }
            Update::Event(Event::Delivery { blocked: Some(blocked), .. }) => {
                self.output.note(&format!("waiting: {blocked}"));
            }
            Update::Event(_) => {}
            Update::Lagged { .. } => self.missed = true,
        }
        Ok(())
    }
}

fn report(output: &Output, operation: OperationId, seq: Option<Seq>) -> anyhow::Result<()> {
    if output.is_json() {
        let seq = seq.map(|seq| seq.0);
        return output.value(&json!({ "operation": operation.to_string(), "seq": seq }));
    }
    output.line(&operation.to_string())
}
