//! `delta send`: publishes messages and waits until the topic has them.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use delta_client::{Client, Event, Subscription, Update};
use delta_core::identity::OperationId;
use delta_core::ops::Content;
use delta_core::topic::{Seq, TopicId};
use serde_json::json;

use crate::device::{Closed, DeviceOptions};
use crate::input::stdin_lines;
use crate::output::{Output, ReaderGone, Repeated};

const EXAMPLES: &str = "\
Examples:
  delta send --db me.db --key @device.key --ticket @ticket --sync URL#KEY --records records.json hello
  delta send … --signal typing
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
    /// Send this as a signal instead: to whoever listens now; nobody stores it.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["text", "no_wait"])]
    signal: Option<String>,
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
    let sent = match &options.signal {
        Some(text) => signal(&client, topic, text).await,
        None => send(options, output, &client, topic).await,
    };
    client.close().await?;
    sent
}

/// Sends a signal and waits until it has left.
async fn signal(client: &Client, topic: TopicId, text: &str) -> anyhow::Result<()> {
    let mut updates = client.subscribe(topic).await?;
    client.signal(topic, text.as_bytes().to_vec()).await?;
    loop {
        match updates.next().await.context("the client was closed")? {
            Update::Event(Event::SignalSent { taken: true, .. }) => return Ok(()),
            Update::Event(Event::SignalSent { taken: false, .. }) => {
                anyhow::bail!("the entry relay did not take the signal; it is not sent again")
            }
            _ => {}
        }
    }
}

/// Lines published in one go.
const TOGETHER: usize = 256;
/// How often an outbox is looked at when acknowledgements were missed.
const LOOK: Duration = Duration::from_millis(200);

async fn send(options: &Options, output: &Output, client: &Client, topic: TopicId) -> anyhow::Result<()> {
    let updates = client.subscribe(topic).await?;
    let waiting = HashMap::new();
    let remarks = Repeated::default();
    let mut sender = Sender {
        options,
        output,
        client,
        topic,
        updates,
        waiting,
        published: 0,
        missed: false,
        heard: true,
        remarks,
    };
    // What is stored is confirmed and reported also when something else is refused.
    let published = sender.publish_all().await;
    let nothing = published.is_err() && sender.published == 0;
    let confirmed = if options.no_wait || nothing { Ok(()) } else { sender.confirm_in_time().await };
    published.and(confirmed)
}

struct Sender<'a> {
    options: &'a Options,
    output: &'a Output,
    client: &'a Client,
    topic: TopicId,
    updates: Subscription,
    /// What the topic has not confirmed, each with its place among all that were published.
    waiting: HashMap<OperationId, u64>,
    published: u64,
    /// Some confirmations were missed.
    missed: bool,
    /// Somebody reads what is reported.
    heard: bool,
    remarks: Repeated,
}

impl Sender<'_> {
    /// The messages of the command line or of standard input, until one is refused.
    async fn publish_all(&mut self) -> anyhow::Result<()> {
        if !self.options.text.is_empty() {
            return self.publish(self.options.text.clone()).await;
        }
        let mut lines = stdin_lines();
        let mut batch = Vec::new();
        loop {
            let read = tokio::select! {
                read = lines.recv_many(&mut batch, TOGETHER) => read,
                update = self.updates.next() => {
                    self.take(update.context("the client was closed")?)?;
                    continue;
                }
            };
            if read == 0 {
                return Ok(());
            }
            let mut unreadable = None;
            let texts = batch.drain(..).map_while(|line| line.map_err(|error| unreadable = Some(error)).ok());
            let texts = texts.collect();
            self.publish(texts).await?;
            if let Some(error) = unreadable {
                return Err(error).with_context(|| format!("line {} of standard input", self.published + 1));
            }
        }
    }

    /// Publishes these; what is stored is reported also when others among them are refused.
    async fn publish(&mut self, texts: Vec<String>) -> anyhow::Result<()> {
        let message =
            |text| Content::MessageSend { text, reply: None, mentions: Vec::new(), attachments: Vec::new() };
        let contents = texts.into_iter().map(message).collect();
        let mut refused = None;
        let before = self.published;
        let answers = self.client.publish_all(self.topic, contents).await;
        for (place, answer) in (before + 1..).zip(answers) {
            match answer {
                Ok(operation) => {
                    self.published += 1;
                    self.waiting.insert(operation, place);
                    if self.options.no_wait || !self.output.is_json() {
                        self.report(operation, None)?;
                    }
                }
                Err(error) => refused = refused.or(Some((place, error))),
            }
        }
        while let Some(update) = self.updates.try_next() {
            self.take(update)?;
        }
        match refused {
            None => Ok(()),
            Some((place, error)) => Err(error).with_context(|| format!("message {place} is not published")),
        }
    }

    async fn confirm_in_time(&mut self) -> anyhow::Result<()> {
        let timeout = Duration::from_secs(self.options.timeout);
        if let Ok(confirmed) = tokio::time::timeout(timeout, self.confirm()).await {
            return confirmed;
        }
        self.report_rest()?;
        anyhow::bail!("not every message is confirmed yet; what is not stays in this device's outbox")
    }

    /// Waits until everything in the outbox stands in the topic's log, what earlier commands left there included.
    async fn confirm(&mut self) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(LOOK);
        let mut closed = Closed::default();
        loop {
            tokio::select! {
                update = self.updates.next() => self.take(update.context("the client was closed")?)?,
                _ = look.tick() => {
                    let status = self.client.status(self.topic).await?;
                    if let Err(moved) = closed.look(&status, LOOK) {
                        self.report_rest()?;
                        return Err(moved);
                    }
                }
            }
            if self.waiting.is_empty() || self.missed {
                let status = self.client.status(self.topic).await?;
                if status.queued + status.sent == 0 {
                    return self.report_rest();
                }
            }
        }
    }

    /// They are published; where they stand, nobody told us.
    fn report_rest(&mut self) -> anyhow::Result<()> {
        let mut rest: Vec<_> = self.waiting.drain().filter(|_| self.output.is_json()).collect();
        rest.sort_unstable_by_key(|(_, place)| *place);
        rest.into_iter().try_for_each(|(operation, _)| self.report(operation, None))
    }

    fn take(&mut self, update: Update) -> anyhow::Result<()> {
        match update {
            Update::Event(Event::Acknowledged { operation, seq, .. }) => {
                let ours = self.waiting.remove(&operation).is_some();
                if ours && !self.options.no_wait && self.output.is_json() {
                    self.report(operation, Some(seq))?;
                }
            }
            Update::Event(Event::Delivery { blocked: Some(blocked), .. }) => {
                self.remarks.note(self.output, format!("waiting: {blocked}"));
            }
            Update::Storage(Some(error)) => {
                let text = format!("waiting: this device's database takes no changes: {error}");
                self.remarks.note(self.output, text);
            }
            Update::Event(_) | Update::Storage(None) => {}
            Update::Lagged { .. } => self.missed = true,
        }
        Ok(())
    }

    /// When nobody reads it any more, the messages are still sent.
    fn report(&mut self, operation: OperationId, seq: Option<Seq>) -> anyhow::Result<()> {
        if !self.heard {
            return Ok(());
        }
        match report(self.output, operation, seq) {
            Err(error) if error.is::<ReaderGone>() => self.heard = false,
            reported => reported?,
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
