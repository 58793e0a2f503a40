//! `delta message`: what was said is changed, deleted, answered with an emoji.

use delta_core::identity::OperationId;
use delta_core::ops::Content;
use serde_json::json;

use crate::device::DeviceOptions;
use crate::output::Output;
use crate::space::{At, close, print};

const EXAMPLES: &str = "\
Examples:
  delta tail … --room ID --once --json                  shows the messages and their ids
  delta message edit … --room ID --id MESSAGE 'What was meant'
  delta message delete … --room ID --id MESSAGE
  delta message react … --room ID --id MESSAGE 👍

Messages are changed by the person who wrote them, and deleted by that one and by who manages the space; from anybody
else it counts for nothing. A command waits until the server has it; without a network it stays in the outbox.";

/// Change, delete and react to messages.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// Replace a message's text.
    Edit(Edit),
    /// Delete a message.
    Delete(Of),
    /// Answer a message with an emoji.
    React(React),
    /// Take such an answer back.
    Unreact(React),
}

/// Which message.
#[derive(clap::Args)]
pub struct Of {
    #[command(flatten)]
    device: DeviceOptions,
    /// The message's id: 64 hex digits.
    #[arg(long, value_name = "MESSAGE")]
    id: OperationId,
    /// Seconds to wait for the server.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// A message and its new text.
#[derive(clap::Args)]
pub struct Edit {
    #[command(flatten)]
    of: Of,
    /// The new text, at most 64 KiB.
    text: String,
}

/// A message and an emoji.
#[derive(clap::Args)]
pub struct React {
    #[command(flatten)]
    of: Of,
    /// At most 64 bytes.
    emoji: String,
}

/// Runs one of `delta message`.
pub async fn run(command: &Command, output: &Output) -> anyhow::Result<()> {
    let (of, content) = match command {
        Command::Edit(Edit { of, text }) => (of, Content::MessageEdit { target: of.id, text: text.clone() }),
        Command::Delete(of) => (of, Content::MessageDelete { target: of.id }),
        Command::React(React { of, emoji }) => {
            (of, Content::ReactionAdd { target: of.id, emoji: emoji.clone() })
        }
        Command::Unreact(React { of, emoji }) => {
            (of, Content::ReactionRemove { target: of.id, emoji: emoji.clone() })
        }
    };
    let (client, topic) = of.device.open(output).await?;
    let at = At { client: &client, online: of.device.has_network(), output, timeout: of.timeout };
    let done = async {
        at.catch_up(topic).await?;
        let id = of.id;
        if client.read(move |reader| reader.message(&id)).await?.is_none() {
            output
                .note("this device does not know the message (yet); what is said of it counts once it comes");
        }
        let operation = client.publish(topic, content).await?.to_string();
        at.deliver(topic).await?;
        print(output, &operation, json!({ "operation": operation }))
    };
    close(&client, done.await).await
}
