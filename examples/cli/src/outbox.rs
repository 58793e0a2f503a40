//! `delta outbox`: what this device has not got rid of yet, and what to do about it.

use anyhow::Context;
use delta_client::{Cancelled, Client};
use delta_core::identity::OperationId;
use delta_core::store::{OutboxRowState, QueuedOperation};
use delta_core::topic::TopicId;
use serde_json::json;

use crate::device::DeviceOptions;
use crate::output::Output;

/// Rows read in one query.
const PAGE: usize = 1000;

const EXAMPLES: &str = "\
Examples:
  delta outbox list --db me.db …            what waits, what is on its way, what is parked and why
  delta outbox retry --db me.db …           parked operations go again with the next `delta send` or `delta tail`
  delta outbox cancel --db me.db … ID       takes an operation back

The last operation of a device that never left it is removed without a trace. Any other message is deleted by a further
operation, which goes out like every other: until it arrives others may see the message. Other kinds of operations
cannot be taken back once they may have left.";

/// Look at what was not delivered yet; try again, or take it back.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// One line for each operation, the oldest first.
    List(Plain),
    /// Put parked operations back in the queue.
    Retry(Plain),
    /// Take an operation back.
    Cancel(Cancel),
}

/// The device and nothing else.
#[derive(clap::Args)]
pub struct Plain {
    #[command(flatten)]
    device: DeviceOptions,
}

/// Which operation.
#[derive(clap::Args)]
pub struct Cancel {
    #[command(flatten)]
    device: DeviceOptions,
    /// The operation, as `delta send` and `delta outbox list` print it.
    #[arg(value_name = "ID")]
    operation: OperationId,
}

/// Opens the device, does it, closes the device.
pub async fn run(command: &Command, output: &Output) -> anyhow::Result<()> {
    let (Command::List(Plain { device })
    | Command::Retry(Plain { device })
    | Command::Cancel(Cancel { device, .. })) = command;
    let (client, topic) = device.look(output).await?;
    let done = act(command, &client, topic, output).await;
    client.close().await?;
    done.with_context(|| format!("topic {topic}"))
}

async fn act(command: &Command, client: &Client, topic: TopicId, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::List(_) => list(client, topic, output).await,
        Command::Retry(_) => {
            let parked = client.retry(topic).await?;
            if output.is_json() {
                return output.value(&json!({ "retried": parked }));
            }
            output.line(&format!("{parked} parked operations are back in the queue"))
        }
        Command::Cancel(Cancel { operation, .. }) => {
            let cancelled = client.cancel(topic, *operation).await?;
            let delete = match cancelled {
                Cancelled::Removed => None,
                Cancelled::Deleted(delete) => Some(delete.to_string()),
            };
            if output.is_json() {
                return output.value(&json!({
                    "operation": operation.to_string(),
                    "removed": delete.is_none(),
                    "delete": delete,
                }));
            }
            output.line(&match delete {
                None => "removed: it had never left this device".to_owned(),
                Some(delete) => format!("deleted by {delete}, which is sent like every operation"),
            })
        }
    }
}

async fn list(client: &Client, topic: TopicId, output: &Output) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let rows = client.outbox(topic, after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some(last.id);
        for row in &rows {
            print(row, output)?;
        }
    }
}

fn print(row: &QueuedOperation, output: &Output) -> anyhow::Result<()> {
    let QueuedOperation { operation, len, own, state, tries, not_before, .. } = row;
    let (name, reason) = match state {
        OutboxRowState::Queued => ("queued", None),
        OutboxRowState::Sent => ("sent", None),
        OutboxRowState::Parked { reason } => ("parked", Some(reason.as_str())),
    };
    if output.is_json() {
        return output.value(&json!({
            "operation": operation.to_string(),
            "state": name,
            "reason": reason,
            "tries": tries,
            "bytes": len,
            "own": own,
            "not_before_ms": not_before.0,
        }));
    }
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let whose = if *own { "" } else { ", delivered again after a reset" };
    output.line(&format!("{operation}  {name}{reason}  {len} bytes, {tries} attempts{whose}"))
}
