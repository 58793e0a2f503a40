//! Onion v2: the original packets, for deployments that still run them.
//!
//! ```text
//! 02 | EPK[32] | NONCE[24] | ciphertext | tag[16]
//! plaintext: 01 | url_len u16 | url | inner packet      forward
//!            02 | topic_id[32] | op                     deliver
//! ```
//!
//! Known weaknesses, which v3 was made for: the packet shrinks at every hop, so position and size show; and the exit
//! relay reads topic and operation. A relay takes v2 only where its operator says so, remembers every
//! [`epk`](Opened::epk), and forwards only to URLs of its directory.

use std::fmt;
use std::ops::Range;

use thiserror::Error;
use zeroize::Zeroizing;

use super::envelope::{self, Format, Fresh, OVERHEAD, OpenError, PREFIX, TAG};
use super::identity_key::{IdentityKey, IdentitySecret};
use crate::codec::{DecodeError, Reader};
use crate::entropy::{Entropy, EntropyError};
use crate::limits::{MAX_ENVELOPE, MAX_URL_V2};
use crate::topic::TopicId;

/// First byte of a v2 packet.
pub const VERSION: u8 = 2;
/// Shortest packet.
pub const MIN_PACKET: usize = OVERHEAD;
/// Longest packet: an operation of 1 MiB and 4 KiB around it.
pub const MAX_PACKET: usize = MAX_ENVELOPE + 4096;
/// Most layers of a packet.
pub const MAX_LAYERS: usize = 5;

const FORMAT: Format = Format { version: VERSION, info: b"delta:onion:v1" };
const FORWARD: u8 = 1;
const DELIVER: u8 = 2;

/// One relay of a v2 route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its identity as an X25519 key.
    pub key: IdentityKey,
    /// Where packets for it are POSTed, at most [`MAX_URL_V2`] bytes. (The first hop's is not in the packet.)
    pub url: String,
}

/// A packet could not be built. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WrapError {
    /// The route has no relay, or more than [`MAX_LAYERS`].
    #[error("a v2 route has 1 to {MAX_LAYERS} relays, not {0}")]
    Layers(usize),
    /// The operation is larger than [`MAX_ENVELOPE`].
    #[error("the operation has {0} bytes, the limit is {MAX_ENVELOPE}")]
    TooLarge(usize),
    /// A relay's URL is empty or longer than [`MAX_URL_V2`].
    #[error("the URL of relay {0} on the route is empty or over {MAX_URL_V2} bytes")]
    Url(usize),
    /// A relay's key gives no shared secret.
    #[error("the key of relay {0} on the route is not usable")]
    HopKey(usize),
    /// The random source failed; try again later.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// Not one ephemeral key and nonce per relay.
    #[error("{0} ephemeral keys were given, not one per relay")]
    Given(usize),
}

/// A packet is not for this relay, or broken. It is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PeelError {
    /// Shorter than [`MIN_PACKET`] or longer than [`MAX_PACKET`].
    #[error("a packet of {0} bytes cannot be onion v2")]
    Length(usize),
    /// The first byte is not 2.
    #[error("a packet of version {0} is not onion v2")]
    Version(u8),
    /// The ephemeral key is not canonically encoded, or of small order.
    #[error("the ephemeral key is not a usable X25519 key")]
    EphemeralKey,
    /// The seal does not verify: changed, or made for another relay.
    #[error("the seal does not verify")]
    Seal,
    /// Under a valid seal, the plaintext does not have the announced form.
    #[error(transparent)]
    Plaintext(#[from] DecodeError),
}

/// One layer's ephemeral secret and nonce, to reproduce a packet byte for byte.
#[derive(Clone, Copy)]
pub struct Given {
    /// The X25519 secret.
    pub ephemeral: [u8; 32],
    /// The AEAD nonce.
    pub nonce: [u8; 24],
}

/// Builds a packet that carries `op` to a topic over `hops`, the exit relay last.
pub fn wrap(
    hops: &[Hop],
    topic: &TopicId,
    op: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<Vec<u8>, WrapError> {
    let mut drawn = Zeroizing::new([0; MAX_LAYERS * 56]);
    let used = drawn.get_mut(..hops.len() * 56).ok_or(WrapError::Layers(hops.len()))?;
    entropy.fill(used)?;
    let fresh = used.as_chunks::<56>().0.iter().filter_map(|bytes| {
        let (ephemeral, nonce) = bytes.split_first_chunk()?;
        Some(Fresh { ephemeral, nonce: nonce.try_into().ok()? })
    });
    build(hops, topic, op, fresh)
}

/// Builds the packet that `given` determines. For test vectors only: ephemeral secrets are used once.
pub fn wrap_with(hops: &[Hop], topic: &TopicId, op: &[u8], given: &[Given]) -> Result<Vec<u8>, WrapError> {
    if given.len() != hops.len() {
        return Err(WrapError::Given(given.len()));
    }
    build(
        hops,
        topic,
        op,
        given.iter().map(|given| Fresh { ephemeral: &given.ephemeral, nonce: &given.nonce }),
    )
}

/// Writes the headers of all layers and the operation into one buffer, then seals from the inside out.
fn build<'a>(
    hops: &[Hop],
    topic: &TopicId,
    op: &[u8],
    fresh: impl Iterator<Item = Fresh<'a>>,
) -> Result<Vec<u8>, WrapError> {
    if hops.is_empty() || hops.len() > MAX_LAYERS {
        return Err(WrapError::Layers(hops.len()));
    }
    if op.len() > MAX_ENVELOPE {
        return Err(WrapError::TooLarge(op.len()));
    }
    let mut packet = Vec::with_capacity(MAX_LAYERS * (OVERHEAD + 3 + MAX_URL_V2) + 33 + op.len());
    let mut starts = Vec::with_capacity(MAX_LAYERS);
    for (index, hop) in hops.iter().enumerate() {
        if hop.url.is_empty() || hop.url.len() > MAX_URL_V2 {
            return Err(WrapError::Url(index));
        }
        if index > 0 {
            packet.push(FORWARD);
            packet.extend_from_slice(&(hop.url.len() as u16).to_be_bytes());
            packet.extend_from_slice(hop.url.as_bytes());
        }
        starts.push(packet.len());
        packet.extend_from_slice(&[0; PREFIX]);
    }
    packet.push(DELIVER);
    packet.extend_from_slice(&topic.0);
    packet.extend_from_slice(op);
    let fresh: Vec<Fresh<'_>> = fresh.collect();
    for (index, ((hop, start), fresh)) in hops.iter().zip(starts).zip(fresh).enumerate().rev() {
        packet.extend_from_slice(&[0; TAG]);
        envelope::seal(&FORMAT, &hop.key, fresh, &mut packet[start..]).ok_or(WrapError::HopKey(index))?;
    }
    Ok(packet)
}

/// Opens the seal of a packet, in place.
pub fn open(secret: &IdentitySecret, mut packet: Vec<u8>) -> Result<Opened, PeelError> {
    let len = packet.len();
    if !(MIN_PACKET..=MAX_PACKET).contains(&len) {
        return Err(PeelError::Length(len));
    }
    let (epk, plaintext) = envelope::open(&FORMAT, secret, &mut packet).map_err(|error| match error {
        OpenError::Length => PeelError::Length(len),
        OpenError::Version(version) => PeelError::Version(version),
        OpenError::EphemeralKey => PeelError::EphemeralKey,
        OpenError::Seal => PeelError::Seal,
    })?;
    Ok(Opened { epk, packet, plaintext })
}

/// A packet whose seal was valid. Insert [`epk`](Self::epk) into the replay cache and drop the packet when it is
/// there already; only then [`parse`](Self::parse) it.
#[must_use = "a packet that is opened but not parsed goes nowhere"]
pub struct Opened {
    epk: [u8; 32],
    packet: Vec<u8>,
    plaintext: Range<usize>,
}

impl Opened {
    /// What names the packet in the replay cache.
    pub const fn epk(&self) -> &[u8; 32] {
        &self.epk
    }

    /// What the layer holds.
    pub fn parse(mut self) -> Result<Peeled, PeelError> {
        let mut reader = Reader::new(self.packet.get(self.plaintext.clone()).unwrap_or_default());
        match reader.u8("type")? {
            FORWARD => {
                let len = usize::from(reader.u16("url length")?);
                if len > MAX_URL_V2 {
                    return Err(DecodeError::TooLarge("url").into());
                }
                let url = reader.bytes(len, "url")?;
                let url = std::str::from_utf8(url).ok().filter(|url| !url.is_empty());
                let url = url.ok_or(DecodeError::Invalid("url"))?.to_owned();
                if reader.remaining() < MIN_PACKET {
                    return Err(DecodeError::Truncated("inner packet").into());
                }
                let rest = reader.remaining();
                Ok(Peeled::Forward { url, packet: self.keep_last(rest) })
            }
            DELIVER => {
                let topic = TopicId(reader.array("topic id")?);
                let rest = reader.remaining();
                Ok(Peeled::Deliver { topic, op: self.keep_last(rest) })
            }
            _ => Err(DecodeError::Invalid("type").into()),
        }
    }

    /// The last `len` bytes of the plaintext, moved to the front of the buffer.
    fn keep_last(&mut self, len: usize) -> Vec<u8> {
        let mut packet = std::mem::take(&mut self.packet);
        let end = self.plaintext.end;
        packet.copy_within(end - len..end, 0);
        packet.truncate(len);
        packet
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

/// What one layer held.
#[derive(Clone, PartialEq, Eq)]
pub enum Peeled {
    /// A packet to POST to `url`, which must be a URL of the relay's directory.
    Forward {
        /// The next relay's URL.
        url: String,
        /// What to send it.
        packet: Vec<u8>,
    },
    /// The exit: an operation for a topic.
    Deliver {
        /// The topic.
        topic: TopicId,
        /// The operation.
        op: Vec<u8>,
    },
}

impl fmt::Debug for Peeled {
    /// Neither topic nor bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward { url, .. } => f.debug_struct("Forward").field("url", url).finish_non_exhaustive(),
            Self::Deliver { .. } => f.debug_struct("Deliver").finish_non_exhaustive(),
        }
    }
}
