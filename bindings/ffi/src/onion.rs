//! Onion packets by hand: for tools and tests. Apps never need them.

use std::time::Duration;

use delta_client::PlatformEntropy;
use delta_core::NodeId;
use delta_core::onion::{IdentityKey, Layer, PeelSecret, Target, build_packet, peel_layer, v2, v3};
use delta_core::topic::{TopicId, WriteKey};

use crate::error::DeltaError;
use crate::ids::key;

/// One node of a route. All hops of a packet are of one version.
#[derive(Clone, Debug, uniffi::Enum)]
pub enum OnionHop {
    /// A relay of the original format.
    V2 {
        /// Its Ed25519 identity, 32 bytes.
        identity: NodeId,
        /// Where packets for it are POSTed.
        url: String,
    },
    /// A relay, or as the last hop the sync server.
    V3 {
        /// Its Ed25519 identity.
        node: NodeId,
        /// Which of its onion keys.
        kid: u16,
        /// That X25519 key, 32 bytes.
        onion_key: Vec<u8>,
        /// How long it holds the packet, milliseconds, in steps of 10.
        #[uniffi(default = 0)]
        delay_ms: u32,
    },
}

/// Where the operation goes.
#[derive(Clone, uniffi::Enum)]
pub enum OnionTarget {
    /// For v2 hops.
    Topic {
        /// The topic.
        topic: TopicId,
    },
    /// For v3 hops: the topic's write key, which determines the topic and signs.
    WriteKey {
        /// Its Ed25519 seed, 32 bytes.
        seed: Vec<u8>,
    },
}

/// What opens a layer.
#[derive(Clone, uniffi::Enum)]
pub enum OnionSecret {
    /// A relay's Ed25519 seed, 32 bytes.
    V2 {
        /// The seed.
        seed: Vec<u8>,
    },
    /// A node's onion secret.
    V3 {
        /// Which key it is; taken from the packet when missing.
        kid: Option<u16>,
        /// The X25519 secret, 32 bytes.
        secret: Vec<u8>,
    },
}

/// What a layer held.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum OnionLayer {
    /// v2: a packet for the next relay.
    ForwardToUrl {
        /// Its URL.
        url: String,
        /// The packet.
        packet: Vec<u8>,
    },
    /// v3: a packet for the next node.
    ForwardToNode {
        /// Which.
        node: NodeId,
        /// How long to hold it.
        delay: Duration,
        /// The packet.
        packet: Vec<u8>,
    },
    /// The end of the route.
    Deliver {
        /// The topic.
        topic: TopicId,
        /// v3: what the payload is; 0 is one operation.
        flags: u8,
        /// The operation, or what the flags say.
        payload: Vec<u8>,
    },
    /// Cover traffic.
    Drop,
}

/// Builds the packet that carries one operation over these hops. v2 hops need a topic, v3 hops a write key.
/// Refused with `onion`.
#[uniffi::export]
pub fn build_onion_packet(
    hops: Vec<OnionHop>,
    target: OnionTarget,
    op: Vec<u8>,
) -> Result<Vec<u8>, DeltaError> {
    let packet = match target {
        OnionTarget::Topic { topic } => {
            let hops = hops.into_iter().map(v2_hop).collect::<Result<Vec<_>, _>>()?;
            build_packet(Target::V2 { hops: &hops, topic: &topic }, &op, &mut PlatformEntropy)
        }
        OnionTarget::WriteKey { seed } => {
            let write_key = WriteKey::from_seed(key(&seed, "a write key's seed")?);
            let hops = hops.into_iter().map(v3_hop).collect::<Result<Vec<_>, _>>()?;
            build_packet(Target::V3 { hops: &hops, key: &write_key }, &op, &mut PlatformEntropy)
        }
    };
    packet.map_err(|error| DeltaError::argument("onion", error))
}

/// Opens the outermost layer; the first byte tells the version. It keeps no replay set. Refused with
/// `onion`.
#[uniffi::export]
pub fn peel_onion_layer(packet: Vec<u8>, secret: OnionSecret) -> Result<OnionLayer, DeltaError> {
    let secret = match secret {
        OnionSecret::V2 { seed } => PeelSecret::V2 { seed: key(&seed, "a relay's seed")? },
        OnionSecret::V3 { kid, secret } => PeelSecret::V3 { kid, secret: key(&secret, "an onion secret")? },
    };
    match peel_layer(&secret, packet) {
        Ok(layer) => Ok(layer.into()),
        Err(error) => Err(DeltaError::argument("onion", error)),
    }
}

fn v2_hop(hop: OnionHop) -> Result<v2::Hop, DeltaError> {
    let OnionHop::V2 { identity, url } = hop else { return Err(mixed("a topic", "v2")) };
    let key = IdentityKey::from_ed25519(&identity.0).map_err(|error| DeltaError::argument("onion", error))?;
    Ok(v2::Hop { key, url })
}

fn v3_hop(hop: OnionHop) -> Result<v3::Hop, DeltaError> {
    let OnionHop::V3 { node, kid, onion_key, delay_ms } = hop else { return Err(mixed("a write key", "v3")) };
    let delay = u16::try_from(delay_ms / 10)
        .map_err(|_| DeltaError::argument("onion", "a delay is at most 655350 ms"))?;
    Ok(v3::Hop { node, key: v3::OnionKey { kid, public: key(&onion_key, "an onion key")? }, delay })
}

fn mixed(target: &str, version: &str) -> DeltaError {
    DeltaError::argument("onion", format!("{target} goes with {version} hops only"))
}

impl From<Layer> for OnionLayer {
    fn from(layer: Layer) -> Self {
        match layer {
            Layer::ForwardToUrl { url, packet } => Self::ForwardToUrl { url, packet },
            Layer::ForwardToNode { next, delay, packet } => Self::ForwardToNode { node: next, delay, packet },
            Layer::Deliver { topic, flags, payload } => Self::Deliver { topic, flags, payload },
            Layer::Drop => Self::Drop,
        }
    }
}
