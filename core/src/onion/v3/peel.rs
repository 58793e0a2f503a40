//! Opening packets: first the seal, then, once the caller has remembered the replay tag, the slot.

use std::fmt;
use std::time::Duration;

use chacha20poly1305::AeadInPlace;

use super::keys::{LayerKeys, OnionSecret, ZERO_NONCE};
use super::{AAD_LEN, BODY_AT, DELIVER, DROP, FORWARD, PeelError, SLOT_LEN, VERSION};
use crate::codec::Reader;
use crate::identity::NodeId;
use crate::onion::PacketClass;

/// Longest time a node holds a packet, whatever the packet asks for.
pub const MAX_DELAY: Duration = Duration::from_secs(60);

/// What a node remembers of a layer it has opened: the same for every copy of the packet, unrelated to anything
/// that can be seen on the wire.
pub type ReplayTag = [u8; 16];

/// Opens the seal of a packet with the one of `keys` it names. The keys' ids must be distinct.
///
/// The packet's buffer is reused; nothing is allocated.
pub fn open(keys: &[OnionSecret], mut packet: Vec<u8>) -> Result<Opened, PeelError> {
    let (class, kid) = check_header(&packet)?;
    let key = keys.iter().find(|key| key.kid() == kid).ok_or(PeelError::UnknownKey(kid))?;
    let layer = open_seal(key, &mut packet)?;
    Ok(Opened { kid, class, layer, packet })
}

/// Opens and parses a packet with one secret, taking the key id from the packet. For tools: it knows no replay set.
pub fn peel_with_secret(secret: [u8; 32], packet: Vec<u8>) -> Result<Peeled, PeelError> {
    let (_, kid) = check_header(&packet)?;
    open(&[OnionSecret::from_bytes(kid, secret)], packet)?.parse()
}

/// Length, version and class, the cheap checks; gives the class and the key id.
fn check_header(packet: &[u8]) -> Result<(PacketClass, u16), PeelError> {
    let class = PacketClass::from_len(packet.len()).ok_or(PeelError::Length(packet.len()))?;
    let [version, said, kid @ ..] = packet.first_chunk::<4>().ok_or(PeelError::Length(packet.len()))?;
    if *version != VERSION {
        return Err(PeelError::Version(*version));
    }
    if *said != class as u8 {
        return Err(PeelError::Class { said: *said, of_length: class as u8 });
    }
    Ok((class, u16::from_be_bytes(*kid)))
}

/// Decrypts the body in place.
fn open_seal(key: &OnionSecret, packet: &mut [u8]) -> Result<LayerKeys, PeelError> {
    let len = packet.len();
    let (header, rest) = packet.split_first_chunk_mut::<AAD_LEN>().ok_or(PeelError::Length(len))?;
    let (tag, body) = rest.split_first_chunk_mut::<16>().ok_or(PeelError::Length(len))?;
    let [_, _, _, _, epk @ ..] = &*header;
    let layer = key.layer(epk, header).ok_or(PeelError::EphemeralKey)?;
    layer
        .aead()
        .decrypt_in_place_detached(&ZERO_NONCE.into(), &*header, body, (&*tag).into())
        .map_err(|_| PeelError::Seal)?;
    Ok(layer)
}

/// A packet whose seal was valid. Insert [`replay_tag`](Self::replay_tag) into the replay set and drop the packet
/// when it is there already; only then [`parse`](Self::parse) it.
#[must_use = "a packet that is opened but not parsed goes nowhere"]
pub struct Opened {
    kid: u16,
    class: PacketClass,
    layer: LayerKeys,
    /// Header as received, body decrypted.
    packet: Vec<u8>,
}

impl Opened {
    /// The key that opened it: each key has a replay set of its own.
    pub const fn kid(&self) -> u16 {
        self.kid
    }

    /// The packet's size class.
    pub const fn class(&self) -> PacketClass {
        self.class
    }

    /// What to insert into the key's replay set before parsing.
    pub const fn replay_tag(&self) -> ReplayTag {
        self.layer.replay_tag
    }

    /// What the layer holds.
    pub fn parse(self) -> Result<Peeled, PeelError> {
        let slot = self
            .packet
            .get(BODY_AT..)
            .and_then(<[u8]>::first_chunk::<SLOT_LEN>)
            .ok_or(PeelError::Length(self.packet.len()))?;
        match Slot::decode(slot)? {
            Slot::Forward(forward) => Ok(self.forward(&forward)),
            Slot::Deliver { len } => self.deliver(len),
            Slot::Drop { len } if len <= self.class.capacity() => Ok(Peeled::Drop),
            Slot::Drop { .. } => Err(PeelError::Slot("content length")),
        }
    }

    /// Moves the rest to the front of the next packet's body and fills up behind it.
    fn forward(mut self, slot: &ForwardSlot) -> Peeled {
        let rest_at = BODY_AT + SLOT_LEN;
        let end = self.packet.len() - SLOT_LEN;
        self.packet.copy_within(rest_at.., BODY_AT);
        self.packet[end..].copy_from_slice(&self.layer.fill());
        // VER and CLASS stay as they are.
        self.packet[2..4].copy_from_slice(&slot.kid);
        self.packet[4..AAD_LEN].copy_from_slice(&slot.epk);
        self.packet[AAD_LEN..BODY_AT].copy_from_slice(&slot.tag);
        Peeled::Forward { next: slot.next, delay: slot.delay, packet: self.packet }
    }

    fn deliver(mut self, len: usize) -> Result<Peeled, PeelError> {
        if len > self.class.capacity() {
            return Err(PeelError::Slot("content length"));
        }
        let content_at = BODY_AT + SLOT_LEN;
        self.packet.copy_within(content_at..content_at + len, 0);
        self.packet.truncate(len);
        Ok(Peeled::Deliver { content: self.packet })
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("kid", &self.kid).field("class", &self.class).finish_non_exhaustive()
    }
}

/// What one layer held.
#[derive(Clone, PartialEq, Eq)]
pub enum Peeled {
    /// A packet for the next node, as long as the one that came in. A relay looks `next` up in its directory and
    /// drops what is unknown or itself; a server drops it.
    Forward {
        /// The next node.
        next: NodeId,
        /// How long to hold the packet, at most [`MAX_DELAY`].
        delay: Duration,
        /// What to send on.
        packet: Vec<u8>,
    },
    /// Content for a server (see [`deliver`](crate::onion::deliver)); a relay drops it.
    Deliver {
        /// The content, without padding.
        content: Vec<u8>,
    },
    /// Cover traffic ends here.
    Drop,
}

impl fmt::Debug for Peeled {
    /// Neither content nor packet bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward { next, delay, packet } => f
                .debug_struct("Forward")
                .field("next", next)
                .field("delay", delay)
                .field("packet", &format_args!("{} bytes", packet.len()))
                .finish(),
            Self::Deliver { content } => {
                f.debug_struct("Deliver").field("content", &format_args!("{} bytes", content.len())).finish()
            }
            Self::Drop => f.write_str("Drop"),
        }
    }
}

enum Slot {
    Forward(ForwardSlot),
    Deliver { len: usize },
    Drop { len: usize },
}

struct ForwardSlot {
    delay: Duration,
    kid: [u8; 2],
    next: NodeId,
    epk: [u8; 32],
    tag: [u8; 16],
}

impl Slot {
    /// Refuses unknown types and every reserved byte that is not zero.
    fn decode(slot: &[u8; SLOT_LEN]) -> Result<Self, PeelError> {
        let mut reader = Reader::new(slot);
        let short = |_| PeelError::Slot("slot");
        match reader.u8("type").map_err(short)? {
            FORWARD => {
                zero(reader.array::<1>("flags").map_err(short)?, "flags")?;
                let delay = reader.u16("delay").map_err(short)?;
                let kid = reader.array("next KID").map_err(short)?;
                zero(reader.array::<10>("reserved").map_err(short)?, "reserved")?;
                Ok(Self::Forward(ForwardSlot {
                    delay: Duration::from_millis(u64::from(delay) * 10).min(MAX_DELAY),
                    kid,
                    next: NodeId(reader.array("next node id").map_err(short)?),
                    epk: reader.array("next EPK").map_err(short)?,
                    tag: reader.array("next TAG").map_err(short)?,
                }))
            }
            kind @ (DELIVER | DROP) => {
                zero(reader.array::<3>("reserved").map_err(short)?, "reserved")?;
                let len = reader.u32("content length").map_err(short)? as usize;
                zero(reader.array::<88>("reserved").map_err(short)?, "reserved")?;
                Ok(if kind == DELIVER { Self::Deliver { len } } else { Self::Drop { len } })
            }
            _ => Err(PeelError::Slot("type")),
        }
    }
}

fn zero<const N: usize>(bytes: [u8; N], field: &'static str) -> Result<(), PeelError> {
    if bytes == [0; N] { Ok(()) } else { Err(PeelError::Slot(field)) }
}
