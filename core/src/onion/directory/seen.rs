//! What was seen of a directory before, so that nobody can hand out yesterday's.

use super::Directory;
use crate::codec::{DecodeError, Reader};
use crate::identity::NodeId;
use crate::tree::{Arrange, Map};

/// Most nodes that are remembered. More than [`MAX_RECORDS`](super::MAX_RECORDS), so that no one directory pushes
/// another out.
pub const MAX_SEEN: usize = 8192;

/// First byte of the stored form.
const VERSION: u8 = 1;

/// What was seen before, so that nobody can hand out yesterday's directory. The caller keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The highest list version.
    pub version: u64,
    /// Per node its newest record.
    pub records: Map<NodeId, SeenRecord>,
}

/// What was seen of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeenRecord {
    /// Its highest sequence number.
    pub seq: u64,
    /// Whether it ever had an onion key: such a node never counts as v2-only again.
    pub onion: bool,
}

impl Seen {
    /// From stored bytes; none at all are a caller that has seen nothing. Broken ones are an error, because
    /// forgetting is what an attacker with an old directory would wish for.
    pub fn load(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader::new(bytes);
        if reader.u8("version")? != VERSION {
            return Err(DecodeError::Invalid("version"));
        }
        let version = reader.u64("list version")?;
        let count = reader.u32("nodes")? as usize;
        if count > MAX_SEEN {
            return Err(DecodeError::TooLarge("nodes"));
        }
        let mut records = Map::new();
        for _ in 0..count {
            let id = NodeId(reader.array("node")?);
            if records.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(DecodeError::Invalid("node"));
            }
            let seq = reader.u64("seq")?;
            let onion = match reader.u8("onion")? {
                0 => false,
                1 => true,
                _ => return Err(DecodeError::Invalid("onion")),
            };
            records.insert(id, SeenRecord { seq, onion });
        }
        reader.finish()?;
        Ok(Self { version, records })
    }

    /// The bytes to store: 01 | list version u64 | count u32 | nodes, rising: id 32 | seq u64 | onion u8.
    pub fn to_bytes(&self) -> Vec<u8> {
        let kept = self.records.len().min(MAX_SEEN);
        let mut out = Vec::with_capacity(13 + kept * 41);
        out.push(VERSION);
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&(kept as u32).to_be_bytes());
        for (id, record) in self.records.iter().take(kept) {
            out.extend_from_slice(&id.0);
            out.extend_from_slice(&record.seq.to_be_bytes());
            out.push(u8::from(record.onion));
        }
        out
    }
}

impl Directory {
    /// Adds this directory to what was seen. Beyond [`MAX_SEEN`] nodes those with the oldest records that are not in
    /// it are forgotten.
    pub fn remember(&self, seen: &mut Seen) {
        seen.version = seen.version.max(self.version);
        for node in &self.nodes {
            let record = seen.records.entry(node.id).or_default();
            record.seq = record.seq.max(node.seq);
            record.onion |= !node.keys.is_empty();
        }
        let excess = seen.records.len().saturating_sub(MAX_SEEN);
        if excess > 0 {
            let absent = seen.records.iter().filter(|(id, _)| !self.index.contains_key(id));
            let mut absent: Vec<(u64, NodeId)> = absent.map(|(id, record)| (record.seq, *id)).collect();
            absent.arrange();
            for (_, id) in absent.into_iter().take(excess) {
                seen.records.remove(&id);
            }
        }
    }
}
