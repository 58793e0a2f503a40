//! `delta topic`: what a public topic says of itself, and who listens.

use std::time::Duration;

use delta_client::{About, Client};
use delta_core::onion::control::{Action, Metadata};
use delta_core::sync::proof::ReadKey;
use delta_core::topic::TopicId;
use serde_json::json;
use tokio::time::Instant;

use crate::device::DeviceOptions;
use crate::input::Secret;
use crate::output::{Output, Usage};

const EXAMPLES: &str = "\
Examples:
  delta topic describe --db me.db … --name News --description 'What happened'
  delta topic read-key --db me.db … --set @read.key     readers must prove it, where the server asks for proofs
  delta topic subscribers --db me.db …

Control messages go through the onion like everything else. A server takes them only for a topic whose first control
message came before its first operation. The command waits until the server says that it took the message.";

/// Describe, close or delete a public topic; see who listens.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// What control messages said of the topic.
    About(Plain),
    /// Give it a name and a description.
    Describe(Describe),
    /// Say which key readers must prove, where the server asks for proofs.
    ReadKey(SetReadKey),
    /// Delete the topic on the server, for good.
    Delete(Delete),
    /// How many connections listen to it, for those who may write.
    Subscribers(Plain),
}

/// The device and nothing else.
#[derive(clap::Args)]
pub struct Plain {
    #[command(flatten)]
    device: DeviceOptions,
}

/// A name and a description.
#[derive(clap::Args)]
pub struct Describe {
    #[command(flatten)]
    control: Control,
    /// At most 64 characters.
    #[arg(long)]
    name: String,
    /// At most 2048 bytes.
    #[arg(long)]
    description: Option<String>,
}

/// A key, or none.
#[derive(clap::Args)]
pub struct SetReadKey {
    #[command(flatten)]
    control: Control,
    /// Readers must prove this key: 64 hex digits, or @FILE. (`delta keygen` makes one.)
    #[arg(long, value_name = "SECRET", required_unless_present = "none")]
    set: Option<Secret>,
    /// Everyone may read again.
    #[arg(long, conflicts_with = "set")]
    none: bool,
}

/// Nothing to say but yes.
#[derive(clap::Args)]
pub struct Delete {
    #[command(flatten)]
    control: Control,
    /// Without it nothing is deleted.
    #[arg(long)]
    yes: bool,
}

/// What every control message needs.
#[derive(clap::Args)]
struct Control {
    #[command(flatten)]
    device: DeviceOptions,
    /// Seconds to wait for the server to take it.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// Runs one of the subcommands.
pub async fn run(command: &Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::About(Plain { device }) => {
            let (client, topic) = device.connect(output).await?;
            let about = client.about(topic).await;
            client.close().await?;
            print(output, &about?)
        }
        Command::Subscribers(Plain { device }) => {
            let (client, topic) = device.connect(output).await?;
            let count = client.subscribers(topic).await;
            client.close().await?;
            let count = count?;
            if output.is_json() {
                output.value(&json!({ "subscribers": count }))
            } else {
                output.line(&count.to_string())
            }
        }
        Command::Describe(Describe { control, name, description }) => {
            let metadata = Metadata { name: name.clone(), description: description.clone() };
            send(control, Action::Metadata(metadata), output).await
        }
        Command::ReadKey(SetReadKey { control, set, .. }) => {
            let key = set.as_ref().map(|secret| ReadKey::from_seed(*secret.bytes()));
            send(control, Action::ReadKey(key.map(|key| key.verifying_key())), output).await
        }
        Command::Delete(Delete { yes: false, .. }) => {
            Err(Usage("deleting a topic is final for everyone: say --yes".to_owned()).into())
        }
        Command::Delete(Delete { control, .. }) => send(control, Action::Delete, output).await,
    }
}

/// How often the server is asked whether it took the message.
const LOOK: Duration = Duration::from_millis(500);
/// After how long without effect the message is sent again.
const AGAIN: Duration = Duration::from_secs(10);

async fn send(control: &Control, action: Action, output: &Output) -> anyhow::Result<()> {
    let (client, topic) = control.device.connect(output).await?;
    let timeout = Duration::from_secs(control.timeout);
    let done = tokio::time::timeout(timeout, until_taken(&client, topic, &action)).await;
    client.close().await?;
    let done =
        done.unwrap_or_else(|_| anyhow::bail!("the server did not take it within {} s", control.timeout));
    match done? {
        Some(about) => print(output, &about),
        None if output.is_json() => output.value(&json!({ "deleted": true })),
        None => output.line("deleted"),
    }
}

/// Sends until the server says that it took it; `None` when the topic is gone, as wished.
async fn until_taken(client: &Client, topic: TopicId, action: &Action) -> anyhow::Result<Option<About>> {
    loop {
        let counter = client.control(topic, action.clone()).await?;
        let sent = Instant::now();
        while sent.elapsed() < AGAIN {
            tokio::time::sleep(LOOK).await;
            match client.about(topic).await {
                Ok(about) if about.counter >= counter => return Ok(Some(about)),
                Ok(_) => {}
                Err(error) if error.code() == "topic_gone" && *action == Action::Delete => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn print(output: &Output, about: &About) -> anyhow::Result<()> {
    let About { metadata, counter, read_key } = about;
    let (name, description) = match metadata {
        Some(Metadata { name, description }) => (Some(name.as_str()), description.as_deref()),
        None => (None, None),
    };
    let read_key = read_key.map(hex::encode);
    if output.is_json() {
        return output.value(&json!({
            "name": name,
            "description": description,
            "counter": counter,
            "read_key": read_key,
        }));
    }
    output.line(&format!("name         {}", name.unwrap_or("-")))?;
    output.line(&format!("description  {}", description.unwrap_or("-")))?;
    output.line(&format!("read key     {}", read_key.as_deref().unwrap_or("-")))?;
    output.line(&format!("counter      {counter}"))
}
