//! `delta search`: words in the messages this device has.

use delta_core::identity::{Author, LogId, Millis};
use delta_core::store::Search;
use serde_json::json;

use crate::device::Base;
use crate::output::Output;
use crate::text::plain;

const EXAMPLES: &str = "\
Examples:
  delta search --db me.db --key @device.key kettle tea       both words, in any order
  delta search … --room ID --limit 100 kettle                only in one room
Only what this device has is searched: no server sees the words.";

/// Search the messages of this device.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    base: Base,
    /// Words that all occur in a message.
    #[arg(required = true)]
    words: Vec<String>,
    /// Only in this room.
    #[arg(long, value_name = "ID")]
    room: Option<LogId>,
    /// Only by this author.
    #[arg(long, value_name = "KEY")]
    author: Option<Author>,
    /// Only received at this time or later, milliseconds since 1970.
    #[arg(long, value_name = "MS")]
    from_ms: Option<u64>,
    /// Only received earlier, milliseconds since 1970.
    #[arg(long, value_name = "MS")]
    to_ms: Option<u64>,
    /// Most messages.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u16,
}

/// Prints what is found, what came last first. No network is needed.
pub async fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    let Options { base, words, room, author, from_ms, to_ms, limit } = options;
    let search = Search {
        words: words.join(" "),
        log: *room,
        author: *author,
        since: from_ms.map(Millis),
        until: to_ms.map(Millis),
        before: None,
    };
    let limit = usize::from(*limit);
    let client = base.look(output).await?;
    let found = client.read(move |reader| reader.search(&search, limit)).await;
    client.close().await?;
    for found in found? {
        let message = &found.message;
        let (author, room) = (message.author().to_string(), message.log.to_string());
        if output.is_json() {
            output.value(&json!({
                "operation": message.id.to_string(),
                "room": room,
                "author": author,
                "received_ms": message.received_at.map(|at| at.0),
                "text": message.text,
                "excerpt": found.excerpt,
            }))?;
        } else {
            output.line(&format!("{author}  {}", plain(&found.excerpt)))?;
        }
    }
    Ok(())
}
