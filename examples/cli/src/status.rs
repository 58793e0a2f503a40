//! `delta status`: where a device stands in a topic.

use std::time::Duration;

use anyhow::Context;
use delta_client::{Client, DirectReading, ReadPath, Seal, TopicStatus};
use delta_core::ops::ObservedHead;
use delta_core::store::{Equivocation, TopicStanding};
use delta_core::topic::TopicId;
use serde_json::{Value, json};

use crate::device::{DeviceOptions, name, until_live};
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  delta status --db me.db --key @device.key --room ID
  delta status … --room ID --sync URL#KEY --records records.json

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
    // Held until the end: without a listener the connection goes.
    let mut updates = None;
    if options.device.has_network() {
        let live = until_live(client, topic, updates.insert(client.subscribe(topic).await?), output);
        let caught_up = tokio::time::timeout(Duration::from_secs(options.timeout), live).await;
        in_time = caught_up.is_ok();
        caught_up.unwrap_or(Ok(()))?;
    }
    let status = client.status(topic).await.with_context(|| format!("topic {topic}"))?;
    let standing = client.read(move |reader| reader.standing(topic)).await?;
    drop(updates);
    print(output, client, topic, &status, &standing)?;
    anyhow::ensure!(in_time, "the topic was not caught up within {} s", options.timeout);
    Ok(())
}

fn print(
    output: &Output,
    client: &Client,
    topic: TopicId,
    status: &TopicStatus,
    standing: &TopicStanding,
) -> anyhow::Result<()> {
    let connection = name(status.connection);
    let blocked = status.blocked.as_ref().map(ToString::to_string);
    let unreadable = status.unreadable.as_ref().map(ToString::to_string);
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
            "parked": standing.outbox.parked,
            "blocked": blocked,
            "unreadable": unreadable,
            "awaiting_key": status.awaiting_key,
            "reading": status.read_path.as_ref().map(reading),
            "server_equivocates": standing.equivocations.iter().map(equivocation).collect::<Vec<_>>(),
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
    for (reason, rows) in &standing.parked {
        output.line(&format!("parked      {rows} of them: {reason}"))?;
    }
    if let Some(path) = status.read_path {
        output.line(&format!("reading     {}", describe(path)))?;
    }
    if let Some(ms) = status.round_trip_ms {
        output.line(&format!("round trip  {ms} ms"))?;
    }
    if let Some(blocked) = blocked {
        output.line(&format!("waiting     {blocked}"))?;
    }
    if let Some(unreadable) = unreadable {
        output.line(&format!("unreadable  {unreadable}"))?;
    }
    for found in &standing.equivocations {
        let Equivocation { own, other, author, .. } = found;
        output.line(&format!(
            "warning     two histories of generation {}: {author} says to have been shown {} at {}, this device has {} at {}",
            own.generation, other.chain, other.seq, own.chain, own.seq
        ))?;
    }
    Ok(())
}

/// Who sees that this device reads, in words.
fn describe(path: ReadPath) -> String {
    match path {
        ReadPath::Tunnel { relay, seal } => {
            format!(
                "hidden: the server sees relay {relay}, the relay sees no topic (inside is {})",
                sealing(seal)
            )
        }
        ReadPath::Direct(why) => format!("direct, the server sees this device's address: {why}"),
    }
}

/// What keeps a relay from reading what it carries.
const fn sealing(seal: Seal) -> &'static str {
    match seal {
        Seal::Tls => "TLS",
        Seal::Noise => "Noise",
    }
}

/// The same for programs.
pub fn reading(path: &ReadPath) -> Value {
    match path {
        ReadPath::Tunnel { relay, seal } => {
            json!({ "hidden": true, "relay": relay.to_string(), "seal": sealing(*seal).to_lowercase() })
        }
        ReadPath::Direct(why) => {
            let why = match why {
                DirectReading::SwitchedOff => "switched-off",
                DirectReading::NotOffered => "not-offered",
            };
            json!({ "hidden": false, "why": why })
        }
    }
}

fn equivocation(found: &Equivocation) -> Value {
    let head = |head: &ObservedHead| {
        json!({
            "generation": head.generation.to_string(),
            "seq": head.seq.0,
            "chain": head.chain.to_string(),
        })
    };
    json!({
        "own": head(&found.own),
        "other": head(&found.other),
        "author": found.author.to_string(),
        "operation": found.operation.to_string(),
        "seen_ms": found.seen.0,
    })
}
