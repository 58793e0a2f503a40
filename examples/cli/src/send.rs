//! `delta send`: publishes messages and waits until the topic has them.

use std::collections::HashMap;
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

A message is durable on this device before it is sent. When the topic does not confirm it in time, it stays in
the outbox and goes out with the next `delta send` or `delta tail` of this device; exit code 1.";

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

async fn send(options: &Options, output: &Output, client: &Client, topic: TopicId) -> anyhow::Result<()> {
    let mut updates = client.subscribe(topic).await?;
    let mut waiting = HashMap::new();
    let mut publish = async |text: String| -> anyhow::Result<()> {
        let content = Content::MessageSend { text, reply: None, mentions: Vec::new() };
        let operation = client.publish(topic, content).await?;
        waiting.insert(operation, ());
        if options.no_wait || !output.is_json() {
            report(output, operation, None)?;
        }
        Ok(())
    };
    if options.text.is_empty() {
        let mut lines = stdin_lines();
        while let Some(line) = lines.recv().await {
            publish(line.context("standard input")?).await?;
        }
    }
    for text in &options.text {
        publish(text.clone()).await?;
    }
    if options.no_wait {
        return Ok(());
    }
    let confirmed = confirm(client, topic, &mut updates, &mut waiting, output);
    let in_time = tokio::time::timeout(Duration::from_secs(options.timeout), confirmed).await;
    in_time.unwrap_or_else(|_| {
        let count = waiting.len();
        anyhow::bail!("{count} of the messages are not confirmed yet; they stay in this device's outbox")
    })
}

/// Waits until every operation stands in the topic's log.
async fn confirm(
    client: &Client,
    topic: TopicId,
    updates: &mut Subscription,
    waiting: &mut HashMap<OperationId, ()>,
    output: &Output,
) -> anyhow::Result<()> {
    while !waiting.is_empty() {
        match updates.next().await {
            Some(Update::Event(Event::Acknowledged { operation, seq, .. })) => {
                if waiting.remove(&operation).is_some() && output.is_json() {
                    report(output, operation, Some(seq))?;
                }
            }
            Some(Update::Event(Event::Delivery { blocked: Some(blocked), .. })) => {
                output.note(&format!("waiting: {blocked}"));
            }
            Some(Update::Event(_)) => {}
            // Acknowledgements may be among what was dropped: an empty outbox says the same.
            Some(Update::Lagged { .. }) => {
                let status = client.status(topic).await?;
                if status.queued + status.sent == 0 {
                    waiting.clear();
                }
            }
            None => anyhow::bail!("the client was closed"),
        }
    }
    Ok(())
}

fn report(output: &Output, operation: OperationId, seq: Option<Seq>) -> anyhow::Result<()> {
    if output.is_json() {
        let seq = seq.map(|seq| seq.0);
        return output.value(&json!({ "operation": operation.to_string(), "seq": seq }));
    }
    output.line(&operation.to_string())
}
