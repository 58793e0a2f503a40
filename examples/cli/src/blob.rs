//! `delta blob`: the files that messages bring along.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use anyhow::bail;
use delta_client::Client;
use delta_core::ops::BlobId;
use delta_core::store::{Attachment, BlobState, BlobStatus};
use serde_json::{Value, json};

use crate::at::{At, close, print};
use crate::device::DeviceOptions;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  delta message send … --room ID --attach photo.jpg 'Look'
  delta tail … --room ID --once --json                  shows messages and the ids of what they bring along
  delta blob get … --room ID --id BLOB photo.jpg
  delta blob wait … --room ID --id BLOB                 goes on sending or fetching, and shows how far it is

A file is cut into chunks that are sealed and go one by one, over relays as all else; a command that is ended goes on
with the next one of this device where it stood.";

/// Fetch what messages bring along.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// Fetch a blob, unless it is here, and write it into a file.
    Get(Get),
    /// Show how a blob stands.
    Status(Of),
    /// Wait until a blob is sent, or fetched, and show how far it is.
    Wait(Of),
    /// Remove a blob from this device.
    Drop(Of),
}

/// Which blob.
#[derive(clap::Args)]
pub struct Of {
    #[command(flatten)]
    device: DeviceOptions,
    /// The blob's id: 64 hex digits.
    #[arg(long, value_name = "BLOB")]
    id: BlobId,
    /// Seconds to wait for the server.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
}

/// A blob and a file.
#[derive(clap::Args)]
pub struct Get {
    #[command(flatten)]
    of: Of,
    /// Where to; one that is there is replaced.
    file: PathBuf,
}

/// How often a blob is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Runs one of `delta blob`.
pub async fn run(command: &Command, output: &Output) -> anyhow::Result<()> {
    let of = match command {
        Command::Get(Get { of, .. }) | Command::Status(of) | Command::Wait(of) | Command::Drop(of) => of,
    };
    let (client, topic) = of.device.open(output).await?;
    let at = At { client: &client, online: of.device.has_network(), output, timeout: of.timeout };
    let done = async {
        match command {
            Command::Get(Get { file, .. }) => {
                at.catch_up(topic).await?;
                client.fetch_blob(of.id).await?;
                wait(&client, of.id, of.timeout, |_| Ok(())).await?;
                client.write_blob(of.id, file).await?;
                show(output, &client.blob_status(of.id).await?)
            }
            Command::Status(_) => show(output, &client.blob_status(of.id).await?),
            Command::Wait(_) => wait(&client, of.id, of.timeout, |status| show(output, status)).await,
            Command::Drop(_) => Ok(client.drop_blob(of.id).await?),
        }
    };
    close(&client, done.await).await
}

/// Waits until a blob is here, and with the server if it was made here; tells of every step.
pub async fn wait(
    client: &Client,
    blob: BlobId,
    timeout: u64,
    mut step: impl FnMut(&BlobStatus) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut over = pin!(tokio::time::sleep(Duration::from_secs(timeout)));
    let mut last = None;
    loop {
        let status = client.blob_status(blob).await?;
        if last.as_ref() != Some(&status) {
            step(&status)?;
        }
        match status.state {
            BlobState::Here => return Ok(()),
            BlobState::Sending | BlobState::Fetching => {}
            BlobState::Absent => bail!("the blob is not on this device; `delta blob get` fetches it"),
            BlobState::Unavailable => bail!("the server does not have all of the blob; try again later"),
            BlobState::Corrupt => bail!("what was fetched is not what the message said"),
        }
        tokio::select! {
            () = &mut over => bail!("{} of {} chunks in time; the rest goes on", status.have, status.of),
            () = tokio::time::sleep(LOOK) => {}
        }
        last = Some(status);
    }
}

fn show(output: &Output, status: &BlobStatus) -> anyhow::Result<()> {
    let BlobStatus { about, state, have, of } = status;
    let state = match state {
        BlobState::Absent => "absent",
        BlobState::Sending => "sending",
        BlobState::Fetching => "fetching",
        BlobState::Here => "here",
        BlobState::Unavailable => "unavailable",
        BlobState::Corrupt => "corrupt",
    };
    let mut shown = attachment(about);
    for (name, value) in [("state", json!(state)), ("have", json!(have)), ("of", json!(of))] {
        shown[name] = value;
    }
    print(output, &format!("{}  {state}  {have} of {of}", about.id), shown)
}

/// What a message says of a blob.
pub fn attachment(about: &Attachment) -> Value {
    json!({ "blob": about.id.to_string(), "size": about.size, "mime": about.mime, "name": about.name })
}
