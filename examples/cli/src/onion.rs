//! `delta onion`: packets built and opened by hand.

use anyhow::{Context, bail};
use clap::Args;
use delta_core::identity::NodeId;
use delta_core::onion::{PacketClass, deliver, v3};
use delta_core::ops::Ticket;
use delta_core::topic::{TopicId, WriteKey};
use serde_json::{Value, json};

use crate::input::{self, Form, Secret};
use crate::output::{Output, Usage};
use crate::platform::PlatformEntropy;

const WRAP_EXAMPLES: &str = "\
A hop is NODE_ID:KID:ONION_KEY[:DELAY_MS], the server last.

Examples:
  delta onion wrap --hop $R1 --hop $R2 --hop $R3 --hop $SERVER --write-key @topic.key < op > packet.hex
  delta onion wrap --hop $R1 --hop $SERVER --drop --class 0 --binary > cover.bin";

const PEEL_EXAMPLES: &str = "\
The first byte of the packet tells its version. Without --json the inner packet or operation goes to standard
output as hex, the rest to standard error, so that peels can be piped.
A replay set is not kept: the same packet can be opened twice here.

Examples:
  delta onion peel --onion-secret @r1.key < packet.hex | delta onion peel --onion-secret @r2.key";

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
    #[arg(long = "hop", value_name = "HOP", required = true, value_parser = hop)]
    hops: Vec<v3::Hop>,
    /// Seed of the topic's write key (hex or @FILE).
    #[arg(long, value_name = "SECRET", group = "content")]
    write_key: Option<Secret>,
    /// Ticket of the topic.
    #[arg(long, value_name = "TICKET", group = "content")]
    ticket: Option<String>,
    /// Cover traffic: the last hop drops the packet; nothing is read.
    #[arg(long, group = "content")]
    drop: bool,
    /// Size class 0–4; the smallest that fits when missing.
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
pub struct PeelOptions {
    /// The node's onion secret (hex or @FILE); the key id is taken from the packet.
    #[arg(long, value_name = "SECRET")]
    onion_secret: Secret,
    /// How the packet is written on standard input.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Form::Auto)]
    input: Form,
    /// Print the inner packet or operation as bytes instead of hex.
    #[arg(long, conflicts_with = "json")]
    binary: bool,
}

/// Reads `NODE_ID:KID:ONION_KEY[:DELAY_MS]`.
fn hop(text: &str) -> anyhow::Result<v3::Hop> {
    let mut parts = text.split(':');
    let (Some(node), Some(kid), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        bail!("expected NODE_ID:KID:ONION_KEY[:DELAY_MS]");
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
    let packet = wrap_v3(options, &options.hops)?;
    if output.is_json() {
        return output.value(&json!({ "packet": hex::encode(packet) }));
    }
    print_bytes(output, &packet, options.binary)
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
        let what = "a packet needs --write-key, --ticket or --drop";
        return Err(Usage(what.to_owned()).into());
    };
    let keys = Ticket::parse(text.trim()).context("the ticket")?.keys();
    keys.write_key().cloned().map(Some).context("the ticket is for reading only")
}

fn peel(options: &PeelOptions, output: &Output) -> anyhow::Result<()> {
    let packet = input::stdin(options.input)?;
    let layer = match packet.first() {
        Some(&v3::VERSION) => layer_v3(v3::peel_with_secret(*options.onion_secret.bytes(), packet)?)?,
        Some(other) => bail!("packets of version {other} are unknown"),
        None => bail!("standard input is empty"),
    };
    print_layer(&layer, options.binary, output)
}

/// What a layer held.
enum Layer {
    Forward { next: (&'static str, String), packet: Vec<u8> },
    Deliver { topic: TopicId, flags: u8, op: Vec<u8> },
    Drop,
}

fn layer_v3(peeled: v3::Peeled) -> anyhow::Result<Layer> {
    Ok(match peeled {
        v3::Peeled::Forward { next, packet, .. } => {
            Layer::Forward { next: ("next_node", next.to_string()), packet }
        }
        v3::Peeled::Deliver { content } => {
            let delivery = deliver::authenticate(&content)?;
            Layer::Deliver { topic: delivery.topic, flags: delivery.flags, op: delivery.payload.to_vec() }
        }
        v3::Peeled::Drop => Layer::Drop,
    })
}

fn print_layer(layer: &Layer, binary: bool, output: &Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.value(&layer_json(layer));
    }
    match layer {
        Layer::Forward { next: (name, next), packet } => {
            output.note(&format!("forward, {name}: {next}"));
            print_bytes(output, packet, binary)
        }
        Layer::Deliver { topic, flags, op } => {
            output.note(&format!("deliver, topic_id: {topic}, flags: {flags}"));
            print_bytes(output, op, binary)
        }
        Layer::Drop => {
            output.note("drop: cover traffic");
            Ok(())
        }
    }
}

fn layer_json(layer: &Layer) -> Value {
    match layer {
        Layer::Forward { next: (name, next), packet } => {
            json!({ "case": "forward", *name: next, "packet": hex::encode(packet) })
        }
        Layer::Deliver { topic, flags, op } => {
            json!({ "case": "deliver", "topic_id": topic.to_string(), "flags": flags, "op": hex::encode(op) })
        }
        Layer::Drop => json!({ "case": "drop" }),
    }
}

fn print_bytes(output: &Output, bytes: &[u8], binary: bool) -> anyhow::Result<()> {
    if binary { output.bytes(bytes) } else { output.line(&hex::encode(bytes)) }
}
