//! Onion v3: packets of constant size whose last layer is the sync server.
//!
//! A sender [`wrap`]s content for a route. Every node on it [`open`]s one layer, remembers the layer's replay tag
//! and only then [`parse`](Opened::parse)s what it holds: a packet to forward, content to deliver, or nothing.
//!
//! ```text
//! packet: VER 03 | CLASS u8 | KID u16 | EPK[32] | TAG[16] | BODY      BODY decrypts to SLOT[96] | REST
//! ```
//!
//! This module neither keeps replay tags nor sends anything; whoever calls [`open`] must drop a packet whose tag it
//! has seen before it calls `parse`.

mod keys;
mod peel;
mod wrap;

use thiserror::Error;

use crate::entropy::EntropyError;
use crate::identity::NodeId;

pub use keys::{OnionKey, OnionSecret};
pub use peel::{MAX_DELAY, Opened, Peeled, ReplayTag, open, peel_with_secret};
pub use wrap::{Given, wrap, wrap_in, wrap_with};

/// First byte of a v3 packet.
pub const VERSION: u8 = 3;
/// Most layers of a packet: five relays and the server.
pub const MAX_LAYERS: usize = 6;

/// VER | CLASS | KID | EPK: what the tag covers besides the body.
const AAD_LEN: usize = 36;
const TAG_LEN: usize = 16;
/// Where the body begins.
const BODY_AT: usize = AAD_LEN + TAG_LEN;
const SLOT_LEN: usize = 96;

/// Slot types.
const FORWARD: u8 = 1;
const DELIVER: u8 = 2;
const DROP: u8 = 3;

/// One node of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The node's identity.
    pub node: NodeId,
    /// The onion key the layer is made for.
    pub key: OnionKey,
    /// How long the node holds the packet before it sends it on, in units of 10 ms. The last node delivers at once
    /// and never sees a delay.
    pub delay: u16,
}

/// What the last node of a route does with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal<'a> {
    /// Takes the content (see [`deliver`](super::deliver)).
    Deliver(&'a [u8]),
    /// Nothing: the packet is cover traffic.
    Drop,
}

/// A packet could not be built. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WrapError {
    /// The route has no node, or more than [`MAX_LAYERS`]. The caller is at fault.
    #[error("a route has 1 to {MAX_LAYERS} nodes, not {0}")]
    Layers(usize),
    /// The content is larger than the class (or the largest class) carries. Send it in smaller parts.
    #[error("the content has {len} bytes, the packet carries {capacity}")]
    TooLarge {
        /// Length of the content.
        len: usize,
        /// What would fit.
        capacity: usize,
    },
    /// A node's onion key is no usable X25519 key. Its directory record is at fault: choose another node.
    #[error("the onion key of node {0} on the route is not a usable X25519 key")]
    HopKey(usize),
    /// The random source failed; try again later.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The ephemeral keys or the padding handed to [`wrap_with`] do not fit the route and content.
    #[error("the given `{0}` do not fit the route and content")]
    Given(&'static str),
}

/// A packet is not for this node, or broken. It is dropped; nobody is told why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PeelError {
    /// No class has this length.
    #[error("a packet of {0} bytes belongs to no size class")]
    Length(usize),
    /// The first byte is not 3.
    #[error("a packet of version {0} is not onion v3")]
    Version(u8),
    /// The class on the packet is not the class of its length.
    #[error("the packet says class {said} but has the length of class {of_length}")]
    Class {
        /// The number on the packet.
        said: u8,
        /// The class of the packet's length.
        of_length: u8,
    },
    /// The packet is for an onion key this node does not hold: another node's, or one already erased.
    #[error("this node holds no onion key {0}")]
    UnknownKey(u16),
    /// The ephemeral key is not canonically encoded, or of low order.
    #[error("the ephemeral key is not a usable X25519 key")]
    EphemeralKey,
    /// The seal does not verify: changed, or made for another key.
    #[error("the seal does not verify")]
    Seal,
    /// Under a valid seal, the slot holds a value the format does not allow: a faulty or foreign builder.
    #[error("the slot field `{0}` holds a value that is not allowed")]
    Slot(&'static str),
}
