//! `delta onion`: packets built and opened by hand.

use anyhow::{Context, bail};
use clap::Args;
use delta_core::identity::NodeId;
use delta_core::onion::directory::{Node, RecordObject};
use delta_core::onion::{
    IdentityKey, Layer, PacketClass, PeelSecret, Target, build_packet, deliver, peel_layer, v2, v3,
};
use delta_core::ops::Ticket;
use delta_core::topic::{TopicId, WriteKey};
use serde_json::{Value, json};

use crate::input::{self, Form, Secret};
use crate::output::{Output, Usage};
use crate::platform::{self, PlatformEntropy};

const WRAP_EXAMPLES: &str = "\
A hop of version 3 is NODE_ID:KID:ONION_KEY[:DELAY_MS] or @FILE with the node's record object, the server last;
one of version 2 is ED25519_KEY@URL. The hops decide the version.

Examples:
  delta onion wrap --hop $R1 --hop $R2 --hop $R3 --hop $SERVER --write-key @topic.key < op > packet.hex
  delta onion wrap --hop @r1.json --hop @server.json --drop --class 0 --binary > cover.bin
  delta onion wrap --hop $KEY1@https://r1.example.org/hop --hop $KEY2@https://r2.example.org/hop --topic $ID < op";

const PEEL_EXAMPLES: &str = "\
The first byte of the packet tells its version. Without --json the inner packet or operation goes to standard
output as hex, the rest to standard error, so that peels can be piped.
A replay set is not kept: the same packet can be opened twice here.

Examples:
  delta onion peel --onion-secret @r1.key < packet.hex | delta onion peel --onion-secret @r2.key
  delta onion peel --seed @relay.seed --json < packet.bin";

/// What to do with packets.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Wrap the operation on standard input in one layer per hop.
    Wrap(WrapOptions),
    /// Open the outermost layer of the packet on standard input.
    Peel(PeelOptions),
}

/// How to wrap.
#[derive(Args)]
#[command(after_help = WRAP_EXAMPLES)]
pub struct WrapOptions {
    /// The way, first hop first.
    #[arg(long = "hop", value_name = "HOP", required = true)]
    hops: Vec<Hop>,
    /// Seed of the topic's write key (hex or @FILE), version 3.
    #[arg(long, value_name = "SECRET", group = "content")]
    write_key: Option<Secret>,
    /// Ticket of the topic, version 3.
    #[arg(long, value_name = "TICKET", group = "content")]
    ticket: Option<String>,
    /// Cover traffic: the last hop drops the packet; nothing is read. Version 3.
    #[arg(long, group = "content")]
    drop: bool,
    /// The topic's id (64 hex digits), version 2.
    #[arg(long, value_name = "HEX", group = "content", value_parser = input::public_bytes)]
    topic: Option<[u8; 32]>,
    /// Size class 0–4; the smallest that fits when missing. Version 3.
    #[arg(long, value_name = "CLASS", value_parser = clap::value_parser!(u8).range(0..=4))]
    class: Option<u8>,
    /// How the operation is written on standard input.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Form::Auto)]
    input: Form,
    /// Print the packet as bytes instead of hex.
    #[arg(long, conflicts_with = "json")]
    binary: bool,
}

/// How to peel.
#[derive(Args)]
#[command(after_help = PEEL_EXAMPLES)]
#[command(group = clap::ArgGroup::new("secret").required(true).multiple(true))]
pub struct PeelOptions {
    /// The relay's Ed25519 seed (hex or @FILE), for version 2.
    #[arg(long, value_name = "SECRET", group = "secret")]
    seed: Option<Secret>,
    /// The node's onion secret (hex or @FILE), for version 3; the key id is taken from the packet.
    #[arg(long, value_name = "SECRET", group = "secret")]
    onion_secret: Option<Secret>,
    /// How the packet is written on standard input.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Form::Auto)]
    input: Form,
    /// Print the inner packet or operation as bytes instead of hex.
    #[arg(long, conflicts_with = "json")]
    binary: bool,
}

/// A hop as given on the command line.
#[derive(Clone, Debug)]
enum Hop {
    V2(v2::Hop),
    V3(v3::Hop),
}

impl std::str::FromStr for Hop {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text.split_once('@') {
            Some(("", path)) => hop_of_record(path.as_ref()).map(Self::V3),
            Some((key, url)) => {
                let key = IdentityKey::from_ed25519(&input::public_bytes(key).context("the key")?)?;
                Ok(Self::V2(v2::Hop { key, url: url.to_owned() }))
            }
            None => hop_of_parts(text).map(Self::V3),
        }
    }
}

fn hop_of_record(path: &std::path::Path) -> anyhow::Result<v3::Hop> {
    let bytes = input::read_file(path)?;
    let object = RecordObject::parse(std::str::from_utf8(&bytes)?)?;
    // Where the node can be reached does not matter here, so any URL will do.
    let node = Node::from_record(&object, None, true, platform::now())?;
    node.hop(0).context("the node has no onion key: it speaks only version 2")
}

fn hop_of_parts(text: &str) -> anyhow::Result<v3::Hop> {
    let mut parts = text.split(':');
    let (Some(node), Some(kid), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        bail!("expected NODE_ID:KID:ONION_KEY[:DELAY_MS], @FILE or ED25519_KEY@URL");
    };
    let delay_ms: u32 = parts.next().map_or(Ok(0), str::parse).context("the delay")?;
    if parts.next().is_some() {
        bail!("something follows the delay");
    }
    Ok(v3::Hop {
        node: NodeId(input::public_bytes(node).context("the node id")?),
        key: v3::OnionKey {
            kid: kid.parse().context("the key id")?,
            public: input::public_bytes(key).context("the onion key")?,
        },
        delay: u16::try_from(delay_ms / 10).context("the delay: at most 655350 ms")?,
    })
}

/// Wraps or peels.
pub fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Wrap(options) => wrap(&options, output),
        Command::Peel(options) => peel(&options, output),
    }
}

fn wrap(options: &WrapOptions, output: &Output) -> anyhow::Result<()> {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for hop in &options.hops {
        match hop {
            Hop::V2(hop) => old.push(hop.clone()),
            Hop::V3(hop) => new.push(hop.clone()),
        }
    }
    let packet = match (old.is_empty(), new.is_empty()) {
        (false, false) => return usage("a way is of version 2 or of version 3, never both"),
        (false, true) => wrap_v2(options, &old)?,
        (true, _) => wrap_v3(options, &new)?,
    };
    if output.is_json() {
        return output.value(&json!({ "packet": hex::encode(packet) }));
    }
    print_bytes(output, &packet, options.binary)
}

fn wrap_v2(options: &WrapOptions, hops: &[v2::Hop]) -> anyhow::Result<Vec<u8>> {
    let Some(topic) = options.topic.map(TopicId) else {
        return usage("a version 2 packet needs --topic");
    };
    if options.class.is_some() {
        return usage("a version 2 packet has no --class");
    }
    let target = Target::V2 { hops, topic: &topic };
    Ok(build_packet(target, &input::stdin(options.input)?, &mut PlatformEntropy)?)
}

fn wrap_v3(options: &WrapOptions, hops: &[v3::Hop]) -> anyhow::Result<Vec<u8>> {
    let content = match write_key(options)? {
        Some(key) => Some(deliver::encode_operation(&key, &input::stdin(options.input)?)?),
        None => None,
    };
    let terminal = content.as_deref().map_or(v3::Terminal::Drop, v3::Terminal::Deliver);
    let class = options.class.and_then(|class| PacketClass::ALL.get(usize::from(class)).copied());
    Ok(match class {
        Some(class) => v3::wrap_in(class, hops, terminal, &mut PlatformEntropy)?,
        None => v3::wrap(hops, terminal, &mut PlatformEntropy)?,
    })
}

/// The key that signs the delivery; `None` for cover traffic.
fn write_key(options: &WrapOptions) -> anyhow::Result<Option<WriteKey>> {
    if options.drop {
        return Ok(None);
    }
    if let Some(secret) = &options.write_key {
        return Ok(Some(WriteKey::from_seed(*secret.bytes())));
    }
    let Some(text) = &options.ticket else {
        return usage("a version 3 packet needs --write-key, --ticket or --drop");
    };
    let keys = Ticket::parse(text.trim()).context("the ticket")?.keys();
    keys.write_key().cloned().map(Some).context("the ticket is for reading only")
}

fn usage<T>(what: &str) -> anyhow::Result<T> {
    Err(Usage(what.to_owned()).into())
}

fn peel(options: &PeelOptions, output: &Output) -> anyhow::Result<()> {
    let packet = input::stdin(options.input)?;
    let secret = match packet.first() {
        Some(&v2::VERSION) => {
            let seed = options.seed.as_ref().context("this is a version 2 packet: give --seed")?;
            PeelSecret::V2 { seed: *seed.bytes() }
        }
        Some(&v3::VERSION) => {
            let what = "this is a version 3 packet: give --onion-secret";
            let secret = options.onion_secret.as_ref().context(what)?;
            PeelSecret::V3 { kid: None, secret: *secret.bytes() }
        }
        Some(other) => bail!("packets of version {other} are unknown"),
        None => bail!("standard input is empty"),
    };
    print_layer(&peel_layer(&secret, packet)?, options.binary, output)
}

fn print_layer(layer: &Layer, binary: bool, output: &Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.value(&layer_json(layer));
    }
    match layer {
        Layer::ForwardToUrl { url, packet } => {
            output.note(&format!("forward, next_url: {url}"));
            print_bytes(output, packet, binary)
        }
        Layer::ForwardToNode { next, delay, packet } => {
            output.note(&format!("forward, next_node: {next}, delay: {} ms", delay.as_millis()));
            print_bytes(output, packet, binary)
        }
        Layer::Deliver { topic, flags, payload } => {
            output.note(&format!("deliver, topic_id: {topic}, flags: {flags}"));
            print_bytes(output, payload, binary)
        }
        Layer::Drop => {
            output.note("drop: cover traffic");
            Ok(())
        }
    }
}

fn layer_json(layer: &Layer) -> Value {
    match layer {
        Layer::ForwardToUrl { url, packet } => {
            json!({ "case": "forward", "next_url": url, "packet": hex::encode(packet) })
        }
        Layer::ForwardToNode { next, packet, .. } => {
            json!({ "case": "forward", "next_node": next.to_string(), "packet": hex::encode(packet) })
        }
        Layer::Deliver { topic, flags, payload } => json!({
            "case": "deliver", "topic_id": topic.to_string(), "flags": flags, "op": hex::encode(payload),
        }),
        Layer::Drop => json!({ "case": "drop" }),
    }
}

fn print_bytes(output: &Output, bytes: &[u8], binary: bool) -> anyhow::Result<()> {
    if binary { output.bytes(bytes) } else { output.line(&hex::encode(bytes)) }
}
