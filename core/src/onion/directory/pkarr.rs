//! Node records in the DHT: a TXT record in a pkarr packet.
//!
//! A pkarr packet (<https://pkarr.org>) is a DNS message that a key signs and puts into the Mainline DHT as a mutable
//! item (BEP44). A node's holds its record text as the TXT record [`PKARR_NAME`]. The DHT is never required, and
//! its word is no more than the node's own: who runs a node is vouched for by lists alone.
//!
//! This module is the format only. Packets, their signatures and the network are the business of whoever resolves.

use thiserror::Error;

use super::record::{NodeRecord, RecordError};
use crate::identity::NodeId;

/// The name of the TXT record, below the node's key.
pub const PKARR_NAME: &str = "_delta-relay";
/// Longest value of a mutable item in the DHT, bytes (BEP44): the whole DNS message.
pub const MAX_BEP44_VALUE: usize = 1000;
/// Longest record text that fits into such a message as its only record, bytes.
pub const MAX_PKARR_TEXT: usize = {
    // The message's header; the name (two labels with their lengths, and the root); type, class, TTL and length.
    let room = MAX_BEP44_VALUE - 12 - (1 + PKARR_NAME.len() + 1 + Z32_KEY + 1) - 10;
    // Every string is led by its length.
    room - room.div_ceil(MAX_TXT_STRING + 1)
};

/// Longest character-string of a TXT record, bytes (RFC 1035, section 3.3).
const MAX_TXT_STRING: usize = 255;
/// Length of a key in z-base-32.
const Z32_KEY: usize = 52;
/// Microseconds, the unit of pkarr's sequence numbers, in a second, the unit of ours.
const MICROS: u64 = 1_000_000;

/// A record does not fit into the DHT. Its node is at fault: a shorter URL or operator name helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the record has {0} bytes, a DHT item carries {MAX_PKARR_TEXT}")]
pub struct PkarrTooLong(pub usize);

impl NodeRecord {
    /// The character-strings of the TXT record, in order.
    pub fn to_txt(&self) -> Result<Vec<Vec<u8>>, PkarrTooLong> {
        let text = self.to_string();
        if text.len() > MAX_PKARR_TEXT {
            return Err(PkarrTooLong(text.len()));
        }
        Ok(text.as_bytes().chunks(MAX_TXT_STRING).map(<[u8]>::to_vec).collect())
    }
}

/// A record whose authenticity was checked by whoever resolved it, with the sequence number it counts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedRecord {
    record: NodeRecord,
    seq: u64,
}

impl ResolvedRecord {
    /// From the character-strings of the TXT record in a packet whose signature by `key` was verified, and the packet's
    /// sequence number (microseconds since the Unix epoch). The record must name that key.
    pub fn from_txt(
        key: NodeId,
        micros: u64,
        strings: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Self, RecordError> {
        let mut text = Vec::new();
        for string in strings {
            text.extend_from_slice(string.as_ref());
            if text.len() > MAX_BEP44_VALUE {
                return Err(RecordError::TooLong(text.len()));
            }
        }
        let text = String::from_utf8(text).map_err(|_| RecordError::Object)?;
        let record: NodeRecord = text.parse()?;
        if record.id != key {
            return Err(RecordError::ForeignKey);
        }
        Ok(Self { record, seq: micros / MICROS })
    }

    /// What the node says of itself.
    pub const fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// Its sequence number, seconds since the Unix epoch.
    pub const fn seq(&self) -> u64 {
        self.seq
    }
}
