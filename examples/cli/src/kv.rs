//! `delta kv`: values under keys that a conversation's members keep together.

use anyhow::Context;
use delta_core::ops::ValueKey;
use delta_core::store::{ValuePage, ValueRow};
use serde_json::{Value, json};

use crate::at::{in_topic, print};
use crate::device::DeviceOptions;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  delta kv put … --room ID settings colour green
  delta kv get … --room ID settings colour
  delta kv list … --room ID settings --prefix theme/
  delta kv delete … --room ID settings colour

Of two values the one that was written last counts, on every device the same one, whatever their clocks say. A
command waits until the server has what it wrote; without a network it stays in the outbox.";

/// Keep values under keys, with everybody in a room.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// Set the value of a key.
    Put(Put),
    /// Print the value of a key; exit code 1 when it has none.
    Get(OfKey),
    /// Delete a key.
    Delete(OfKey),
    /// Print keys and values, by key.
    List(List),
}

/// Which device and conversation.
#[derive(clap::Args)]
pub struct Place {
    #[command(flatten)]
    device: DeviceOptions,
    /// Seconds to wait for the server.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// The collection, at most 64 bytes.
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    collection: String,
}

/// One key.
#[derive(clap::Args)]
pub struct OfKey {
    #[command(flatten)]
    place: Place,
    /// The key, at most 256 bytes.
    // Not `key`: that is the device's.
    #[arg(id = "entry", value_name = "KEY")]
    key: String,
}

/// A key and its value.
#[derive(clap::Args)]
pub struct Put {
    #[command(flatten)]
    of: OfKey,
    /// The value, at most 64 KiB.
    value: String,
}

/// Which keys.
#[derive(clap::Args)]
pub struct List {
    #[command(flatten)]
    place: Place,
    /// Only keys that begin so.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Only keys after this one: the last of the page before.
    #[arg(long, value_name = "KEY")]
    after: Option<String>,
    /// Most keys.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u16,
}

/// Runs one of `delta kv`.
pub async fn run(command: &Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Put(Put { of, value }) => write(of, Some(value), output).await,
        Command::Delete(of) => write(of, None, output).await,
        Command::Get(of) => {
            let OfKey { place, key } = of;
            let at = ValueKey::new(&place.collection, key);
            in_topic(&place.device, place.timeout, output, async |room, topic| {
                let row = room.client.value(topic, at.clone()).await?;
                let row = row.with_context(|| format!("{key} has no value in {}", place.collection))?;
                if output.is_json() { output.value(&object(&row)) } else { output.line(&text(&row.value)) }
            })
            .await
        }
        Command::List(List { place, prefix, after, limit }) => {
            let page = ValuePage { prefix: prefix.clone(), after: after.clone() };
            in_topic(&place.device, place.timeout, output, async |room, topic| {
                let limit = usize::from(*limit);
                let rows = room.client.values(topic, &place.collection, page.clone(), limit).await?;
                rows.iter().try_for_each(|row| {
                    print(output, &format!("{}  {}", row.at.key, text(&row.value)), object(row))
                })
            })
            .await
        }
    }
}

async fn write(of: &OfKey, value: Option<&String>, output: &Output) -> anyhow::Result<()> {
    let OfKey { place, key } = of;
    let at = ValueKey::new(&place.collection, key);
    in_topic(&place.device, place.timeout, output, async |room, topic| {
        let operation = match value {
            Some(value) => room.client.put_value(topic, at.clone(), value.clone()).await?,
            None => room.client.delete_value(topic, at.clone()).await?,
        };
        room.deliver(topic).await?;
        let operation = operation.to_string();
        print(output, &operation, json!({ "operation": operation }))
    })
    .await
}

fn text(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => format!("0x{}", hex::encode(value)),
    }
}

fn object(row: &ValueRow) -> Value {
    json!({
        "collection": row.at.collection,
        "key": row.at.key,
        "value": std::str::from_utf8(&row.value).ok(),
        "value_hex": hex::encode(&row.value),
        "author": row.author.to_string(),
        "operation": row.id.to_string(),
        "time_ms": row.time.millis().0,
    })
}
