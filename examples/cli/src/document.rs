//! `delta document`: documents that a conversation's members write together. What is written comes from a library that
//! merges (Automerge, as a rule), and goes back into it.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use delta_core::identity::OperationId;
use delta_core::limits::MAX_DOCUMENT_PART;
use delta_core::ops::DocumentPart;
use delta_core::store::PartRow;
use delta_core::topic::TopicId;
use serde_json::json;

use crate::at::{At, in_topic, print};
use crate::device::DeviceOptions;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  delta document create … --room ID notes/today
  delta document list … --room ID --prefix notes/
  delta document write … --room ID DOCUMENT change.bin
  delta document read … --room ID DOCUMENT --to parts/

What is written are changes of a library that merges documents, such as Automerge; Delta carries them and does not look
into them. A command waits until the server has what it wrote; without a network it stays in the outbox.";

/// Write documents together with everybody in a room.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// Make a document under a path; prints its id.
    Create(Create),
    /// Print documents, by path.
    List(List),
    /// Write a change to a document, or with --snapshot all of it.
    Write(Write),
    /// Print what was written to a document, in the order in which it came.
    Read(ReadParts),
}

/// Which device and conversation.
#[derive(clap::Args)]
pub struct Place {
    #[command(flatten)]
    device: DeviceOptions,
    /// Seconds to wait for the server.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// Where.
#[derive(clap::Args)]
pub struct Create {
    #[command(flatten)]
    place: Place,
    /// The path: at most 512 bytes, names between slashes.
    path: String,
}

/// Which documents.
#[derive(clap::Args)]
pub struct List {
    #[command(flatten)]
    place: Place,
    /// Only documents whose paths begin so.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Only documents after this one: the last of the page before.
    #[arg(long, value_name = "DOCUMENT")]
    after: Option<OperationId>,
    /// Most documents.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u16,
}

/// What to write.
#[derive(clap::Args)]
pub struct Write {
    #[command(flatten)]
    place: Place,
    /// All of the document, for those who read nothing from before; not a change.
    #[arg(long)]
    snapshot: bool,
    /// The document's id.
    document: OperationId,
    /// What the library wrote, at most 768 KiB; - reads standard input.
    file: PathBuf,
}

/// What to read.
#[derive(clap::Args)]
pub struct ReadParts {
    #[command(flatten)]
    place: Place,
    /// The document's id.
    document: OperationId,
    /// Only what came after this number: the last one read before.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    /// Write each part to a file in this folder: NUMBER.change or NUMBER.snapshot.
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
}

/// Parts read at once.
const PAGE: usize = 100;

/// Runs one of `delta document`.
pub async fn run(command: &Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Create(Create { place, path }) => {
            in_topic(&place.device, place.timeout, output, async |room, topic| {
                let document = room.client.create_document(topic, path).await?;
                room.deliver(topic).await?;
                print(
                    output,
                    &document.to_string(),
                    json!({ "document": document.to_string(), "path": path }),
                )
            })
            .await
        }
        Command::List(List { place, prefix, after, limit }) => {
            in_topic(&place.device, place.timeout, output, async |room, topic| {
                let rows = room.client.documents(topic, prefix, *after, usize::from(*limit)).await?;
                rows.iter().try_for_each(|row| {
                    let object = json!({
                        "document": row.id.to_string(), "path": row.path, "author": row.author.to_string(),
                    });
                    print(output, &format!("{}  {}", row.id, row.path), object)
                })
            })
            .await
        }
        Command::Write(Write { place, snapshot, document, file }) => {
            let part = DocumentPart { document: *document, bytes: content(file)?, snapshot: *snapshot };
            in_topic(&place.device, place.timeout, output, async |room, topic| {
                let operation = room.client.write_document(topic, part.clone()).await?.to_string();
                room.deliver(topic).await?;
                print(output, &operation, json!({ "operation": operation }))
            })
            .await
        }
        Command::Read(read) => {
            if let Some(folder) = &read.to {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make the folder {}", folder.display()))?;
            }
            in_topic(&read.place.device, read.place.timeout, output, async |room, topic| {
                read_parts(room, topic, read, output).await
            })
            .await
        }
    }
}

async fn read_parts(room: &At<'_>, topic: TopicId, read: &ReadParts, output: &Output) -> anyhow::Result<()> {
    let mut after = read.after;
    loop {
        let parts = room.client.document_parts(topic, read.document, after, PAGE).await?;
        let Some(last) = parts.last() else { return Ok(()) };
        after = last.number;
        for part in &parts {
            show(part, read.to.as_deref(), output)?;
        }
    }
}

fn show(part: &PartRow, folder: Option<&Path>, output: &Output) -> anyhow::Result<()> {
    let kind = if part.snapshot { "snapshot" } else { "change" };
    let mut object = json!({
        "number": part.number,
        "kind": kind,
        "operation": part.id.to_string(),
        "author": part.author.to_string(),
        "length": part.bytes.len(),
    });
    if let Some(folder) = folder {
        let file = folder.join(format!("{}.{kind}", part.number));
        std::fs::write(&file, &part.bytes).with_context(|| format!("cannot write {}", file.display()))?;
        object["file"] = file.to_string_lossy().into();
    } else {
        object["bytes"] = STANDARD.encode(&part.bytes).into();
    }
    let line = format!("{}  {kind}  {} bytes  by {}", part.number, part.bytes.len(), part.author);
    print(output, &line, object)
}

/// What is in a file, which is looked at no further than it may be long.
fn content(file: &Path) -> anyhow::Result<Vec<u8>> {
    let most = MAX_DOCUMENT_PART as u64 + 1;
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        let opened = std::fs::File::open(file);
        let read = opened.and_then(|opened| opened.take(most).read_to_end(&mut bytes));
        read.with_context(|| format!("cannot read {}", file.display()))?;
    }
    ensure!(bytes.len() <= MAX_DOCUMENT_PART, "{} has more than {MAX_DOCUMENT_PART} bytes", file.display());
    Ok(bytes)
}
