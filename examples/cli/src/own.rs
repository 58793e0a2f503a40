//! `delta device`: a person's devices.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use delta_client::{Client, ClientError};
use delta_core::engine::CommandError;
use delta_core::identity::Author;
use delta_core::pairing::Pairing;
use delta_core::topic::TopicId;
use serde_json::json;

use crate::at::{At, close, print};
use crate::device::Base;
use crate::input::stdin_lines;
use crate::output::{Output, Usage};
use crate::platform::{FAREWELL, interrupted};

const EXAMPLES: &str = "\
Examples:
  delta device pair --db old.db --keys old-keys --sync URL#KEY --records records.json
      prints a text, for one new device and ten minutes
  delta device join --db new.db --keys new-keys --sync URL#KEY --records records.json TEXT
      on the new device, with a keystore of its own
  delta device list --db old.db --keys old-keys
  delta device revoke --db old.db --keys old-keys --sync URL#KEY --records records.json --device KEY

Both show the same six digits; the old one asks before it hands over anything, and with --json reads `yes` from standard
input as well. What is not confirmed there fails on both. Only the device whose --keys hold the
identity's words (or that is its own identity) pairs and revokes others. The words stay where they are.";

/// Pair, list and revoke a person's devices.
#[derive(clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    /// Print a pairing text and wait for the new device. The text is a secret.
    Pair(Pair),
    /// Become a device of the person whose device shows this text.
    Join(Join),
    /// The person's devices.
    List(List),
    /// Take a device away from the person, for good: keys change where it had them.
    Revoke(Revoke),
}

/// The device and nothing else.
#[derive(clap::Args)]
pub struct List {
    #[command(flatten)]
    base: Base,
}

/// How the old device pairs.
#[derive(clap::Args)]
pub struct Pair {
    #[command(flatten)]
    base: Base,
    /// Accept without asking: only where nobody else can have seen the text.
    #[arg(long)]
    yes: bool,
    /// Seconds to wait for the server at the end.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// Which pairing.
#[derive(clap::Args)]
pub struct Join {
    #[command(flatten)]
    base: Base,
    /// What `delta device pair` printed.
    text: Pairing,
    /// Seconds to wait for the other device. After ten minutes the text is worth nothing.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
}

/// Which device.
#[derive(clap::Args)]
pub struct Revoke {
    #[command(flatten)]
    base: Base,
    /// Its key (`delta device list`), 64 hex digits.
    #[arg(long, value_name = "KEY")]
    device: Author,
    /// Also one that this device has not heard of.
    #[arg(long)]
    yes: bool,
    /// Seconds to wait for the server.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// Does it.
pub async fn run(command: &Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Pair(options) => pair(options, output).await,
        Command::Join(options) => join(options, output).await,
        Command::List(options) => list(options, output).await,
        Command::Revoke(options) => revoke(options, output).await,
    }
}

async fn pair(options: &Pair, output: &Output) -> anyhow::Result<()> {
    needs_network(&options.base)?;
    options.base.need_keys()?;
    let client = options.base.open(output).await?;
    let done = async {
        let host = client.pair().await?;
        let text = host.text();
        print(output, &text, json!({ "pairing": text }))?;
        let request = host.asked().await?;
        let (device, code) = (request.device(), request.code());
        let timeout = Duration::from_secs(options.timeout);
        if output.is_json() {
            output.value(&json!({ "asks": device.to_string(), "code": code.to_string() }))?;
        }
        output.note(&format!("a device asks to be yours; it should show {code}"));
        let refused = match options.yes {
            true => None,
            false => confirmed(output).await.err(),
        };
        if let Some(why) = refused {
            // The other one need not wait for the end of the ten minutes. Where this does not reach it, it does.
            let _ = tokio::time::timeout(timeout, async { request.refuse().await?.delivered().await }).await;
            return Err(why);
        }
        let delivered = request.accept().await?.delivered();
        let in_time = tokio::time::timeout(timeout, delivered).await;
        in_time
            .with_context(|| format!("the server has not confirmed it within {} s", options.timeout))??;
        print(output, &format!("paired with {device}"), json!({ "device": device.to_string() }))
    };
    close(&client, done.await).await
}

/// Fails unless somebody says yes.
async fn confirmed(output: &Output) -> anyhow::Result<()> {
    output.note("does it? type yes to hand over your conversations");
    let mut lines = stdin_lines();
    let answer = tokio::select! {
        answer = lines.recv() => answer.transpose().context("standard input")?,
        signal = interrupted(FAREWELL) => return Err(signal?.into()),
    };
    ensure!(answer.is_some_and(|answer| answer.trim() == "yes"), "not paired: nothing was handed over");
    Ok(())
}

async fn join(options: &Join, output: &Output) -> anyhow::Result<()> {
    needs_network(&options.base)?;
    options.base.need_keys()?;
    let client = options.base.open(output).await?;
    let done = async {
        output.note("waiting for the other device, where `delta device pair` runs");
        let mut guest = client.join(options.text.clone()).await?;
        let code = guest.code().await?;
        if output.is_json() {
            output.value(&json!({ "code": code.to_string() }))?;
        }
        output.note(&format!("the other device should show {code}; confirm it there"));
        let identity = guest.joined().await?.address();
        print(output, &format!("a device of {identity}"), json!({ "identity": identity }))?;
        // What the person has is here when this ends, and the spaces have heard of the device.
        let at = At { client: &client, online: true, output, timeout: options.timeout };
        at.catch_up_inbox().await?;
        for topic in conversations(&client).await? {
            at.catch_up(topic).await?;
            at.deliver(topic).await?;
        }
        at.hand_over().await
    };
    let in_time = tokio::time::timeout(Duration::from_secs(options.timeout), done).await;
    let done = in_time.unwrap_or_else(|_| {
        bail!(
            "not paired within {} s: does the other device still wait, and was it told yes?",
            options.timeout
        )
    });
    close(&client, done).await
}

async fn list(options: &List, output: &Output) -> anyhow::Result<()> {
    let client = options.base.look(output).await?;
    let devices = client.own_devices().await;
    close(&client, devices.map_err(Into::into)).await?.into_iter().try_for_each(|row| {
        let device = row.device.to_string();
        let remarks = [(row.this, "  this one"), (row.revoked, "  revoked")];
        let remarks: String = remarks.into_iter().filter(|(is, _)| *is).map(|(_, text)| text).collect();
        let value = json!({ "device": device, "this": row.this, "revoked": row.revoked });
        print(output, &format!("{device}{remarks}"), value)
    })
}

async fn revoke(options: &Revoke, output: &Output) -> anyhow::Result<()> {
    options.base.need_keys()?;
    let client = options.base.open(output).await?;
    let done = async {
        let at = At { client: &client, online: options.base.has_network(), output, timeout: options.timeout };
        // What it is to be told in is brought up to date first, and has it when this ends.
        if options.device == client.author() {
            return Err(ClientError::Command(CommandError::NotOwnDevice).into());
        }
        let topics = conversations(&client).await?;
        for topic in &topics {
            at.catch_up(*topic).await?;
        }
        let known = client.own_devices().await?.into_iter().any(|row| row.device == options.device);
        ensure!(
            known || options.yes,
            "{} is none of the person's devices (`delta device list`), as far as this one has heard: a slip would leave \
             the right one as it is. --yes revokes it all the same",
            options.device
        );
        client.revoke_device(options.device).await?;
        for topic in &topics {
            at.deliver(*topic).await?;
        }
        at.hand_over().await?;
        let device = options.device.to_string();
        print(output, &format!("revoked {device}"), json!({ "revoked": device }))
    };
    close(&client, done.await).await
}

/// Every conversation of the device, by the topic it is known by. (Inboxes are none, and others' come and go.)
async fn conversations(client: &Client) -> anyhow::Result<BTreeSet<TopicId>> {
    let topics = client.read(|reader| {
        let logs: BTreeSet<_> = reader
            .topics()?
            .into_iter()
            .filter(|row| !row.ticket.is_inbox())
            .map(|row| row.ticket.log())
            .collect();
        let known = logs.into_iter().map(|log| reader.known_as(log));
        Ok(known.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    });
    Ok(topics.await?)
}

fn needs_network(base: &Base) -> anyhow::Result<()> {
    if base.has_network() {
        return Ok(());
    }
    Err(Usage("--sync URL#KEY and --records FILE are needed".to_owned()).into())
}
