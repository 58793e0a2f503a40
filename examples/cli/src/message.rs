//! `delta message`: a message brings files along; what was said is changed, deleted, answered with an emoji.

use std::path::PathBuf;

use delta_client::{BlobSource, Client, ClientError};
use delta_core::identity::OperationId;
use delta_core::ops::{BlobId, Content};
use delta_core::topic::TopicId;
use serde_json::json;

use crate::at::{in_topic, print};
use crate::blob;
use crate::device::DeviceOptions;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  delta tail … --room ID --once --json                  shows the messages and their ids
  delta message send … --room ID --attach photo.jpg --mime image/jpeg 'Look'
  delta message edit … --room ID --id MESSAGE 'What was meant'
  delta message delete … --room ID --id MESSAGE
  delta message react … --room ID --id MESSAGE 👍

Messages are changed by the person who wrote them, and deleted by that one and by who manages the space; from anybody
else it counts for nothing. A command waits until the server has it; without a network it stays in the outbox.";

/// Send files with messages; change, delete and react to messages.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// Send a message that brings files along (`delta send` sends texts alone).
    Send(Send),
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

/// A text and files.
#[derive(clap::Args)]
pub struct Send {
    #[command(flatten)]
    device: DeviceOptions,
    /// A file of at most 64 MiB; up to 16 times.
    #[arg(long, value_name = "FILE", required = true)]
    attach: Vec<PathBuf>,
    /// What the files are.
    #[arg(long, value_name = "TYPE", default_value = "application/octet-stream")]
    mime: String,
    /// Seconds to wait for the server.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// The text, at most 64 KiB.
    #[arg(default_value = "")]
    text: String,
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
        Command::Send(options) => return send(options, output).await,
        Command::Edit(Edit { of, text }) => (of, Content::MessageEdit { target: of.id, text: text.clone() }),
        Command::Delete(of) => (of, Content::MessageDelete { target: of.id }),
        Command::React(React { of, emoji }) => {
            (of, Content::ReactionAdd { target: of.id, emoji: emoji.clone() })
        }
        Command::Unreact(React { of, emoji }) => {
            (of, Content::ReactionRemove { target: of.id, emoji: emoji.clone() })
        }
    };
    in_topic(&of.device, of.timeout, output, async |at, topic| {
        let id = of.id;
        if at.client.read(move |reader| reader.message(&id)).await?.is_none() {
            output
                .note("this device does not know the message (yet); what is said of it counts once it comes");
        }
        let operation = at.client.publish(topic, content).await?.to_string();
        at.deliver(topic).await?;
        print(output, &operation, json!({ "operation": operation }))
    })
    .await
}

/// The message goes first: who reads it sees what is coming.
async fn send(options: &Send, output: &Output) -> anyhow::Result<()> {
    let Send { device, timeout, .. } = options;
    in_topic(device, *timeout, output, async |at, topic| {
        let client = at.client;
        let mut blobs = Vec::new();
        let published = publish(client, topic, options, &mut blobs).await;
        if published.is_err() {
            // Nobody hears of them: they need not be sent.
            for blob in &blobs {
                drop(client.drop_blob(*blob).await);
            }
        }
        let operation = published?.to_string();
        at.deliver(topic).await?;
        for blob in blobs.iter().filter(|_| at.online) {
            blob::wait(client, *blob, *timeout, |_| Ok(())).await?;
        }
        let blobs: Vec<_> = blobs.iter().map(ToString::to_string).collect();
        print(output, &operation, json!({ "operation": operation, "blobs": blobs }))
    })
    .await
}

/// Publishes the message; `blobs` are the files that were made for it, also where it could not be.
async fn publish(
    client: &Client,
    topic: TopicId,
    options: &Send,
    blobs: &mut Vec<BlobId>,
) -> Result<OperationId, ClientError> {
    let Send { attach, mime, text, .. } = options;
    for path in attach {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        blobs.push(client.attach(BlobSource::File(path.clone()), mime.clone(), name).await?);
    }
    let attachments = client.attachments(blobs.clone()).await?;
    let content = Content::MessageSend { text: text.clone(), reply: None, mentions: Vec::new(), attachments };
    client.publish(topic, content).await
}
