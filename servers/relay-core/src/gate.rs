//! From a body on the wire to the next node: length, seal, slot.

use delta_core::identity::NodeId;
use delta_core::onion::PacketClass;
use delta_core::onion::v3::{self, OnionSecret, Opened, PeelError, Peeled};
use thiserror::Error;

use crate::counters::Event;

/// A request body has no length a packet can have. Nothing of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LengthRefusal {
    /// The request does not say how long its body is (chunked): 411.
    #[error("a packet needs a Content-Length")]
    Missing,
    /// Longer than the largest class: 413.
    #[error("a packet has at most {} bytes", PacketClass::C4.size())]
    TooLong,
    /// No class has this length: 400.
    #[error("no packet has this length")]
    NoClass,
}

impl LengthRefusal {
    /// The HTTP status that tells the sender.
    pub const fn status(self) -> u16 {
        match self {
            Self::Missing => 411,
            Self::TooLong => 413,
            Self::NoClass => 400,
        }
    }
}

/// The class of a body of `content_length` bytes: the only thing about a packet its sender is told.
pub fn check_length(content_length: Option<u64>) -> Result<PacketClass, LengthRefusal> {
    let length = content_length.ok_or(LengthRefusal::Missing)?;
    if length > PacketClass::C4.size() as u64 {
        return Err(LengthRefusal::TooLong);
    }
    usize::try_from(length).ok().and_then(PacketClass::from_len).ok_or(LengthRefusal::NoClass)
}

/// A peeled packet and where its slot sends it.
#[derive(Debug)]
pub struct Routed {
    /// The next node.
    pub next: NodeId,
    /// How long to hold the packet, milliseconds.
    pub delay_ms: u64,
    /// The packet for the next node, as long as the one that came.
    pub packet: Vec<u8>,
}

/// Opens the seal. The caller inserts the replay tag before it goes on to [`route`].
pub fn open(keys: &[OnionSecret], packet: Vec<u8>) -> Result<Opened, Event> {
    v3::open(keys, packet).map_err(|error| match error {
        PeelError::Slot(_) => Event::BadSlot,
        _ => Event::NotForUs,
    })
}

/// Reads the slot: the next node must be `known` and not this relay.
pub fn route(opened: Opened, me: &NodeId, known: impl Fn(&NodeId) -> bool) -> Result<Routed, Event> {
    match opened.parse().map_err(|_| Event::BadSlot)? {
        Peeled::Forward { next, .. } if next == *me => Err(Event::OwnId),
        Peeled::Forward { next, .. } if !known(&next) => Err(Event::UnknownNext),
        Peeled::Forward { next, delay, packet } => {
            Ok(Routed { next, delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), packet })
        }
        Peeled::Deliver { .. } => Err(Event::DeliverAtRelay),
        Peeled::Drop => Err(Event::Cover),
    }
}
