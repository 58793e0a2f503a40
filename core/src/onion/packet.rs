//! Packets of either version, for whoever speaks both: one call to build, one to open a single layer.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::deliver::{self, DeliverError};
use super::identity_key::IdentitySecret;
use super::v3::{OnionSecret, Terminal};
use super::{v2, v3};
use crate::entropy::Entropy;
use crate::identity::NodeId;
use crate::topic::{TopicId, WriteKey};

/// Where an operation goes, and over which nodes. The kind of hops decides the version.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Over v2 relays to a topic; the exit relay hands it to its server.
    V2 {
        /// The relays, the exit last.
        hops: &'a [v2::Hop],
        /// The topic.
        topic: &'a TopicId,
    },
    /// Over v3 relays to a server, signed with the topic's write key.
    V3 {
        /// The relays, and the server last.
        hops: &'a [v3::Hop],
        /// The write key, which determines the topic.
        key: &'a WriteKey,
    },
}

/// A packet could not be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// As v2.
    #[error(transparent)]
    V2(#[from] v2::WrapError),
    /// As v3.
    #[error(transparent)]
    V3(#[from] v3::WrapError),
    /// The operation cannot be delivered.
    #[error(transparent)]
    Deliver(#[from] DeliverError),
}

/// Builds the packet that carries one operation.
pub fn build_packet(target: Target<'_>, op: &[u8], entropy: &mut dyn Entropy) -> Result<Vec<u8>, BuildError> {
    match target {
        Target::V2 { hops, topic } => Ok(v2::wrap(hops, topic, op, entropy)?),
        Target::V3 { hops, key } => {
            let content = deliver::encode_operation(key, op)?;
            Ok(v3::wrap(hops, Terminal::Deliver(&content), entropy)?)
        }
    }
}

/// The secret that opens a layer; its kind decides which version is taken.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub enum PeelSecret {
    /// A relay's Ed25519 seed.
    V2 {
        /// The seed (RFC 8032).
        seed: [u8; 32],
    },
    /// A node's onion secret.
    V3 {
        /// Which key it is; `None` takes the id from the packet.
        kid: Option<u16>,
        /// The X25519 secret.
        secret: [u8; 32],
    },
}

impl std::fmt::Debug for PeelSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V2 { .. } => "V2 { .. }",
            Self::V3 { .. } => "V3 { .. }",
        })
    }
}

/// What a layer of either version held.
#[derive(Clone, PartialEq, Eq)]
pub enum Layer {
    /// v2: a packet for a URL.
    ForwardToUrl {
        /// The next relay's URL.
        url: String,
        /// The packet.
        packet: Vec<u8>,
    },
    /// v3: a packet for a node.
    ForwardToNode {
        /// The next node.
        next: NodeId,
        /// How long to hold the packet.
        delay: Duration,
        /// The packet.
        packet: Vec<u8>,
    },
    /// The end of the route.
    Deliver {
        /// The topic; in v3 its write key's signature was checked.
        topic: TopicId,
        /// v3: what the payload is (see [`deliver`]); 0 in v2.
        flags: u8,
        /// The operation, or what the flags say.
        payload: Vec<u8>,
    },
    /// Cover traffic.
    Drop,
}

/// Shows where it goes and how long it is, not what it holds.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForwardToUrl { url, packet } => write!(f, "ForwardToUrl({url}, {} bytes)", packet.len()),
            Self::ForwardToNode { next, delay, packet } => {
                write!(f, "ForwardToNode({next}, {delay:?}, {} bytes)", packet.len())
            }
            Self::Deliver { topic, flags, payload } => {
                write!(f, "Deliver({topic}, flags {flags:02x}, {} bytes)", payload.len())
            }
            Self::Drop => f.write_str("Drop"),
        }
    }
}

/// A layer could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PeelLayerError {
    /// As v2.
    #[error(transparent)]
    V2(#[from] v2::PeelError),
    /// As v3.
    #[error(transparent)]
    V3(#[from] v3::PeelError),
    /// The content is not what a server would look at.
    #[error(transparent)]
    Deliver(#[from] DeliverError),
}

/// Opens one layer. For tools and tests: it keeps no replay set.
pub fn peel_layer(secret: &PeelSecret, packet: Vec<u8>) -> Result<Layer, PeelLayerError> {
    let peeled = match secret {
        PeelSecret::V2 { seed } => {
            return Ok(match v2::open(&IdentitySecret::from_seed(seed), packet)?.parse()? {
                v2::Peeled::Forward { url, packet } => Layer::ForwardToUrl { url, packet },
                v2::Peeled::Deliver { topic, op } => Layer::Deliver { topic, flags: 0, payload: op },
            });
        }
        PeelSecret::V3 { kid: Some(kid), secret } => {
            v3::open(&[OnionSecret::from_bytes(*kid, *secret)], packet)?.parse()?
        }
        PeelSecret::V3 { kid: None, secret } => v3::peel_with_secret(*secret, packet)?,
    };
    Ok(match peeled {
        v3::Peeled::Forward { next, delay, packet } => Layer::ForwardToNode { next, delay, packet },
        v3::Peeled::Deliver { content } => {
            let delivery = deliver::authenticate(&content)?;
            let payload = delivery.payload.to_vec();
            Layer::Deliver { topic: delivery.topic, flags: delivery.flags, payload }
        }
        v3::Peeled::Drop => Layer::Drop,
    })
}
