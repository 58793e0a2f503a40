//! `delta keygen`: fresh keys.
//!
//! The secret alone goes to standard output, what is public about it to standard error, so that
//! `delta keygen > device.key` does what one expects.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use delta_core::entropy::Entropy;
use delta_core::identity::NodeId;
use delta_core::onion::v3::OnionSecret;
use delta_core::ops::{DeviceKey, Ticket};
use delta_core::topic::WriteKey;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::output::Output;
use crate::platform::PlatformEntropy;

const EXAMPLES: &str = "\
Examples:
  delta keygen --out device.key          a device key, in a file only you can read
  delta keygen --topic                   a ticket: whoever holds it reads and writes the topic
  delta keygen --topic --read-only-of T  the same topic, for readers
  delta keygen --node --json             identity and onion key of a node, for tests";

/// Make a device key, a private topic or a node's keys.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// A fresh private topic: prints its ticket.
    #[arg(long)]
    topic: bool,
    /// The topic is a public one: anyone who knows its id reads it.
    #[arg(long, requires = "topic", conflicts_with = "read_only_of")]
    public: bool,
    /// A read-only ticket of the topic that this ticket opens.
    #[arg(long, value_name = "TICKET", requires = "topic")]
    read_only_of: Option<String>,
    /// A node's identity and onion key. (Relays and sync servers make their own on first start.)
    #[arg(long, conflicts_with = "topic")]
    node: bool,
    /// The key id of the node's onion key; random when missing.
    #[arg(long, value_name = "KID", requires = "node")]
    kid: Option<u16>,
    /// Writes the secret into a new file of mode 0600 instead of printing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Secrets, and what may be known about them, each with its name in JSON.
struct Made {
    secrets: Vec<(&'static str, Zeroizing<String>)>,
    public: Vec<(&'static str, Value)>,
}

/// Makes the key, then prints or writes it.
pub fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    let made = if options.topic {
        topic(options.read_only_of.as_deref(), options.public)?
    } else if options.node {
        node(options.kid)?
    } else {
        device()?
    };
    if let Some(path) = &options.out {
        write_secrets(path, &made.secrets)?;
    }
    if output.is_json() {
        return output.value(&made.json(options.out.as_deref()));
    }
    if options.out.is_none() {
        for (_, secret) in &made.secrets {
            output.line(secret)?;
        }
    }
    for (name, value) in &made.public {
        output.note(&format!("{name}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    }
    Ok(())
}

impl Made {
    /// The public parts, and the secrets or the file they are in.
    fn json(&self, file: Option<&Path>) -> serde_json::Map<String, Value> {
        let public = self.public.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        match file {
            Some(path) => public.chain([("file".to_owned(), path.display().to_string().into())]).collect(),
            None => {
                let secret =
                    |(name, text): &(&str, Zeroizing<String>)| ((*name).to_owned(), text.as_str().into());
                public.chain(self.secrets.iter().map(secret)).collect()
            }
        }
    }
}

fn hexed(bytes: &[u8; 32]) -> Zeroizing<String> {
    Zeroizing::new(hex::encode(bytes))
}

fn device() -> anyhow::Result<Made> {
    let seed = fresh()?;
    let author = DeviceKey::from_bytes(&seed).author();
    Ok(Made { secrets: vec![("seed", hexed(&seed))], public: vec![("author", author.to_string().into())] })
}

fn topic(read_only_of: Option<&str>, public: bool) -> anyhow::Result<Made> {
    let ticket = match read_only_of {
        Some(text) => Ticket::parse(text.trim()).context("the ticket given to --read-only-of")?.read_only(),
        None if public => Ticket::generate_public(&mut PlatformEntropy)?,
        None => Ticket::generate_private(&mut PlatformEntropy)?,
    };
    Ok(Made {
        secrets: vec![("ticket", Zeroizing::new(ticket.to_string()))],
        public: vec![("topic_id", ticket.topic().to_string().into())],
    })
}

fn node(kid: Option<u16>) -> anyhow::Result<Made> {
    let seed = fresh()?;
    // A node id is an Ed25519 key like any other; a write key is one that we can make here.
    let id = NodeId(*WriteKey::from_seed(*seed).verifying_key().as_bytes());
    let kid = match kid {
        Some(kid) => kid,
        None => u16::from_be_bytes(PlatformEntropy.array()?),
    };
    let onion = OnionSecret::generate(kid, &mut PlatformEntropy)?;
    Ok(Made {
        secrets: vec![("seed", hexed(&seed)), ("onion_secret", hexed(&onion.to_bytes()))],
        public: vec![
            ("node_id", id.to_string().into()),
            ("kid", json!(kid)),
            ("onion_public", hex::encode(onion.public().public).into()),
        ],
    })
}

fn fresh() -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    PlatformEntropy.fill(&mut *seed)?;
    Ok(seed)
}

/// Writes a new file that only its owner can read; never over an existing one.
fn write_secrets(path: &Path, secrets: &[(&str, Zeroizing<String>)]) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let write = || -> std::io::Result<()> {
        let mut file = options.open(path)?;
        for (_, secret) in secrets {
            writeln!(file, "{}", secret.as_str())?;
        }
        file.sync_all()
    };
    write().with_context(|| path.display().to_string())
}
