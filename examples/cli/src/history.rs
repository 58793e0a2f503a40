//! `delta history`: asks a sync server about the history of a public channel, and verifies what it says.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use delta_core::identity::Author;
use delta_core::ops::{Content, Ticket, VerifiedOperation};
use serde::Deserialize;
use serde_json::json;

use crate::device::TicketArgument;
use crate::no_proxy::NoProxy;
use crate::output::{Output, Usage};
use crate::text::plain;

/// Longest answer: 4 MiB of operations in base64, and room.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  delta history --ticket @channel.ticket --sync https://sync.example
  delta history --ticket @channel.ticket --sync https://sync.example --search 'red apples' --limit 5
  delta history … --author <key> --after 0

The newest operations that fit, oldest first; with --after the oldest. The server is asked directly: it sees your address and
what you look for, and no proxy is used. Every operation is verified here; with --json each is one object on a line.";

/// Search the history of a public channel.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// The channel's ticket, or @FILE.
    #[arg(long, env = "DELTA_TICKET", value_name = "TICKET", hide_env_values = true)]
    ticket: TicketArgument,
    /// The sync server; what follows a # is not needed here.
    #[arg(long, env = "DELTA_SYNC", value_name = "URL")]
    sync: String,
    #[command(flatten)]
    proxy: NoProxy,
    /// Words that all occur in a message.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Who signed it.
    #[arg(long, value_name = "KEY")]
    author: Option<Author>,
    /// Only above this seq, the oldest first.
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// Only below this seq.
    #[arg(long, value_name = "SEQ")]
    before: Option<u64>,
    /// Only received later, milliseconds since 1970.
    #[arg(long, value_name = "MS")]
    from_ms: Option<u64>,
    /// Only received earlier, milliseconds since 1970.
    #[arg(long, value_name = "MS")]
    to_ms: Option<u64>,
    /// Most operations.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=100))]
    limit: u16,
}

#[derive(Deserialize)]
struct Page {
    indexed: u64,
    ops: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    seq: u64,
    received_ms: u64,
    author: String,
    data: String,
}

/// Asks, verifies and prints.
pub async fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    let ticket = options.ticket.ticket();
    if !ticket.is_public() {
        return Err(Usage(
            "only public channels can be searched; this is a private topic's ticket".to_owned(),
        )
        .into());
    }
    options.proxy.refuse("history is asked for")?;
    let page = ask(options, ticket).await?;
    for found in &page.ops {
        match verified(ticket, found) {
            Ok(operation) => print(&operation, found, output)?,
            Err(error) => {
                output.note(&format!("the server's operation {} is not valid: {error:#}", found.seq))
            }
        }
    }
    if page.ops.is_empty() {
        output.note(&format!("nothing found; the server has looked up to operation {}", page.indexed));
    }
    Ok(())
}

async fn ask(options: &Options, ticket: &Ticket) -> anyhow::Result<Page> {
    let base = options.sync.split('#').next().unwrap_or_default().trim_end_matches('/');
    let mut url = reqwest::Url::parse(&format!("{base}/topic/{}/search", ticket.topic()))
        .with_context(|| format!("{base} is not the URL of a server"))?;
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    for (name, value) in [
        ("q", options.search.clone()),
        ("author", options.author.map(|author| author.to_string())),
        ("after", number(options.after)),
        ("before", number(options.before)),
        ("from_ms", number(options.from_ms)),
        ("to_ms", number(options.to_ms)),
        ("limit", Some(options.limit.to_string())),
    ] {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
    let mut answer = client()?.get(url).send().await.context("the server cannot be asked")?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        ensure!(body.len() + chunk.len() <= MAX_ANSWER, "the server's answer is too long");
        body.extend_from_slice(&chunk);
    }
    match answer.status().as_u16() {
        200 => serde_json::from_slice(&body).context("the server's answer is no page of a search"),
        410 => bail!("the channel was deleted or blocked"),
        status => bail!("the server answered {status}: {}", plain(&String::from_utf8_lossy(&body))),
    }
}

fn client() -> anyhow::Result<reqwest::Client> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(TIMEOUT);
    Ok(client.redirect(reqwest::redirect::Policy::none()).build()?)
}

fn verified(ticket: &Ticket, found: &Found) -> anyhow::Result<VerifiedOperation> {
    let envelope = STANDARD.decode(&found.data)?;
    let operation = ticket.keys().open(&envelope)?.verify(&ticket.log())?;
    ensure!(operation.author().to_string() == found.author, "somebody else signed it");
    Ok(operation)
}

fn print(operation: &VerifiedOperation, found: &Found, output: &Output) -> anyhow::Result<()> {
    let content = &operation.body().content;
    let text = match content {
        Content::MessageSend { text, .. } | Content::MessageEdit { text, .. } => Some(text.as_str()),
        Content::ProfileSet { name, .. } => Some(name.as_str()),
        _ => None,
    };
    if output.is_json() {
        return output.value(&json!({
            "operation": operation.id().to_string(),
            "author": found.author,
            "seq": found.seq,
            "kind": content.kind(),
            "text": text,
            "received_at_ms": found.received_ms,
        }));
    }
    let short = found.author.get(..8).unwrap_or(&found.author);
    let shown = text.map_or_else(|| format!("({})", content.kind()), plain);
    output.line(&format!("{:>6}  {short}  {shown}", found.seq))
}
