//! `delta status`: where a device stands in a topic.

use std::time::Duration;

use anyhow::Context;
use delta_client::{Client, TopicStatus};
use delta_core::topic::TopicId;
use serde_json::json;

use crate::device::{DeviceOptions, name, until_live};
use crate::output::Output;

const EXAMPLES: &str = "\
Without --sync it only looks into the database. With it, it connects and catches up first. It never makes a database.";

/// Show where a device stands in a topic.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    device: DeviceOptions,
    /// Seconds to wait for the topic to be caught up.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    timeout: u64,
}

/// Opens, catches up if there is a network, prints.
pub async fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    let (client, topic) = options.device.look(output).await?;
    let shown = show(options, output, &client, topic).await;
    client.close().await?;
    shown
}

async fn show(options: &Options, output: &Output, client: &Client, topic: TopicId) -> anyhow::Result<()> {
    let mut in_time = true;
    if options.device.has_network() {
        let mut updates = client.subscribe(topic).await?;
        let live = until_live(client, topic, &mut updates, output);
        let caught_up = tokio::time::timeout(Duration::from_secs(options.timeout), live).await;
        in_time = caught_up.is_ok();
        caught_up.unwrap_or(Ok(()))?;
    }
    let status = client.status(topic).await.with_context(|| format!("topic {topic}"))?;
    print(output, client, topic, &status)?;
    anyhow::ensure!(in_time, "the topic was not caught up within {} s", options.timeout);
    Ok(())
}

fn print(output: &Output, client: &Client, topic: TopicId, status: &TopicStatus) -> anyhow::Result<()> {
    let connection = name(status.connection);
    let blocked = status.blocked.as_ref().map(ToString::to_string);
    let cursor = status.cursor;
    if output.is_json() {
        return output.value(&json!({
            "author": client.author().to_string(),
            "topic": topic.to_string(),
            "connection": connection,
            "generation": cursor.map(|cursor| cursor.generation.to_string()),
            "resets": cursor.map(|cursor| cursor.resets),
            "seq": cursor.map(|cursor| cursor.seq.0),
            "queued": status.queued,
            "sent": status.sent,
            "blocked": blocked,
            "round_trip_ms": status.round_trip_ms,
        }));
    }
    output.line(&format!("author      {}", client.author()))?;
    output.line(&format!("topic       {topic}"))?;
    output.line(&format!("connection  {connection}"))?;
    match cursor {
        Some(cursor) => {
            output.line(&format!("position    {} in generation {}", cursor.seq, cursor.generation))?;
            output.line(&format!("resets      {}", cursor.resets))?;
        }
        None => output.line("position    nothing received yet")?,
    }
    output.line(&format!("outbox      {} queued, {} sent", status.queued, status.sent))?;
    if let Some(ms) = status.round_trip_ms {
        output.line(&format!("round trip  {ms} ms"))?;
    }
    if let Some(blocked) = blocked {
        output.line(&format!("waiting     {blocked}"))?;
    }
    Ok(())
}
