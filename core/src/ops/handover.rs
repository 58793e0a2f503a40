//! How secrets are handed over inside operations, as bytes: key bundles, the blocks of two-party sessions, and a room's
//! move to its next epoch. What is sealed in a block is the business of [`crate::crypto`].

use std::fmt;

use cbor_core::Value;

use super::payload::{Flaw, LimitError, Payload};
use crate::cbor::{array, items, unsigned};
use crate::codec::{DecodeError, Reader};
use crate::identity::{Author, Millis, OperationId};
use crate::limits::{MAX_ROTATION_ENDS, MAX_ROTATION_PARTS};
use crate::topic::TopicId;

/// Length of a block, bytes.
pub const BLOCK_LEN: usize = 8 + 4 + BLOCK_CONTENT;
/// Bytes of a block after session and index.
pub(crate) const BLOCK_CONTENT: usize = 431;

/// Names a two-party session: the first 8 bytes of derive("delta two-party session v1", content of its first block). So
/// nobody can begin another session under a name that was seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 8]);

impl SessionId {
    #[cfg(feature = "device")]
    pub(crate) fn of(content: &[u8; BLOCK_CONTENT]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = blake3::derive_key("delta two-party session v1", content);
        Self([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// One sealed message of a two-party session. All have the same length.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// Of which session.
    pub session: SessionId,
    /// Which message of its sender in that session, from 0.
    pub index: u32,
    pub(crate) content: Box<[u8; BLOCK_CONTENT]>,
}

impl Block {
    /// `session id[8] | index u32 | content[431]`.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.session.0[..], &self.index.to_be_bytes(), &self.content[..]].concat()
    }

    /// Reads a block; what is in it is looked at when it is opened.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let session = SessionId(reader.array("session id")?);
        let index = reader.u32("index")?;
        let content = Box::new(reader.array("block")?);
        reader.finish()?;
        Ok(Self { session, index, content })
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({:?}, {})", self.session, self.index)
    }
}

/// The public keys of a device for first messages (`device.bundle`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyBundle {
    /// The device's X25519 key.
    pub identity: [u8; 32],
    /// The prekey (X25519).
    pub prekey: [u8; 32],
    /// XEdDSA of the prekey by the identity key. It does not cover `expires`: the operation around it does.
    pub signature: [u8; 64],
    /// Not to be used from this instant on.
    pub expires: Millis,
    /// The write seed of the device's inbox, where it has one.
    pub inbox: Option<[u8; 32]>,
}

impl fmt::Debug for KeyBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyBundle({}, until {})", hex::encode(self.prekey), self.expires)
    }
}

impl KeyBundle {
    pub(super) fn payload(&self) -> Value<'static> {
        let mut pairs = vec![
            (0, Value::from(self.identity)),
            (1, Value::from(self.prekey)),
            (2, Value::from(self.signature)),
            (3, Value::from(self.expires.0)),
        ];
        pairs.extend(self.inbox.map(|seed| (4, Value::from(seed))));
        crate::cbor::map(pairs)
    }

    pub(super) fn from_payload(payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        Ok(Self {
            identity: payload.required(0, array)?,
            prekey: payload.required(1, array)?,
            signature: payload.required(2, array)?,
            expires: Millis(payload.required(3, unsigned)?),
            inbox: payload.optional(4, array)?,
        })
    }
}

/// A room moves to its next epoch (`room.rotate`).
#[derive(Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The new epoch.
    pub epoch: u32,
    /// The new topic.
    pub topic: TopicId,
    /// The new epoch's ticket for each remaining device, by device; at most [`MAX_ROTATION_PARTS`].
    pub parts: Vec<RotationPart>,
    /// Where each log ended as the rotator saw it, by author; at most [`MAX_ROTATION_ENDS`].
    pub ends: Vec<LogEnd>,
    /// To the ticket that is handed over: everybody gets the same, from this rotator, for this log and epoch.
    pub commitment: [u8; 32],
}

/// What a rotation hands to one device.
#[derive(Clone, PartialEq, Eq)]
pub struct RotationPart {
    /// Which device.
    pub device: Author,
    /// The ticket's version, write key and secret, sealed.
    pub block: Block,
}

/// The last operation of an author's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Whose log.
    pub author: Author,
    /// Its number.
    pub seq_num: u32,
    /// Its id.
    pub id: OperationId,
}

/// Shows where to, not what is handed over.
impl fmt::Debug for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotation")
            .field("epoch", &self.epoch)
            .field("topic", &self.topic)
            .field("parts", &self.parts.len())
            .field("ends", &self.ends.len())
            .finish()
    }
}

impl fmt::Debug for RotationPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RotationPart({}, {:?})", self.device, self.block)
    }
}

impl Rotation {
    /// What this device is handed.
    pub fn part(&self, device: &Author) -> Option<&Block> {
        let index = self.parts.binary_search_by_key(device, |part| part.device).ok()?;
        self.parts.get(index).map(|part| &part.block)
    }

    pub(super) fn check(&self) -> Result<(), LimitError> {
        let (parts, ends) = (self.parts.len(), self.ends.len());
        if parts > MAX_ROTATION_PARTS {
            return Err(LimitError::RotationParts { count: parts });
        }
        if ends > MAX_ROTATION_ENDS { Err(LimitError::RotationEnds { count: ends }) } else { Ok(()) }
    }

    pub(super) fn payload(&self) -> Value<'static> {
        let part = |part: &RotationPart| {
            Value::from([Value::from(part.device.0), Value::from(part.block.to_bytes())])
        };
        let end = |end: &LogEnd| {
            Value::from([
                Value::from(end.author.0),
                Value::from(u64::from(end.seq_num)),
                Value::from(end.id.0),
            ])
        };
        crate::cbor::map([
            (0, Value::from(u64::from(self.epoch))),
            (1, Value::from(self.topic.0)),
            (2, Value::from(self.parts.iter().map(part).collect::<Vec<_>>())),
            (3, Value::from(self.ends.iter().map(end).collect::<Vec<_>>())),
            (4, Value::from(self.commitment)),
        ])
    }

    pub(super) fn from_payload(payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        let epoch = payload.required(0, number)?;
        // Epoch 0 is where a room begins, the last one where operations wait for a place.
        if epoch == 0 || epoch == u32::MAX {
            return Err(Flaw::WrongType(0));
        }
        let topic = payload.required(1, array).map(TopicId)?;
        let parts = payload.required(2, items)?;
        let ends = payload.required(3, items)?;
        let commitment = payload.required(4, array)?;
        if parts.len() > MAX_ROTATION_PARTS {
            return Err(LimitError::RotationParts { count: parts.len() }.into());
        }
        if ends.len() > MAX_ROTATION_ENDS {
            return Err(LimitError::RotationEnds { count: ends.len() }.into());
        }
        let parts = parts.iter().map(part).collect::<Option<Vec<_>>>().ok_or(Flaw::WrongType(2))?;
        let ends = ends.iter().map(end).collect::<Option<Vec<_>>>().ok_or(Flaw::WrongType(3))?;
        if !parts.is_sorted_by(|a, b| a.device < b.device) {
            return Err(Flaw::WrongType(2));
        }
        if !ends.is_sorted_by(|a, b| a.author < b.author) {
            return Err(Flaw::WrongType(3));
        }
        Ok(Self { epoch, topic, parts, ends, commitment })
    }
}

fn number(value: &Value<'_>) -> Option<u32> {
    u32::try_from(unsigned(value)?).ok()
}

fn part(value: &Value<'_>) -> Option<RotationPart> {
    let [device, block] = items(value)? else { return None };
    let block = Block::from_bytes(&array::<BLOCK_LEN>(block)?).ok()?;
    Some(RotationPart { device: Author(array(device)?), block })
}

fn end(value: &Value<'_>) -> Option<LogEnd> {
    let [author, seq_num, id] = items(value)? else { return None };
    Some(LogEnd { author: Author(array(author)?), seq_num: number(seq_num)?, id: OperationId(array(id)?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Body, Content, EncodeError};

    fn part(device: u16) -> RotationPart {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&device.to_be_bytes());
        let block = Block { session: SessionId([1; 8]), index: 2, content: Box::new([3; BLOCK_CONTENT]) };
        RotationPart { device: Author(id), block }
    }

    fn rotation(parts: u16, ends: u16) -> Rotation {
        let end = |n| LogEnd { author: part(n).device, seq_num: u32::from(n), id: OperationId([5; 32]) };
        Rotation {
            epoch: 7,
            topic: TopicId([8; 32]),
            parts: (0..parts).map(part).collect(),
            ends: (0..ends).map(end).collect(),
            commitment: [9; 32],
        }
    }

    fn round_trip(rotation: Rotation) -> Content {
        let content = Content::RoomRotate(Box::new(rotation));
        Body::decode(&Body::new(content).encode().unwrap()).unwrap().content
    }

    #[test]
    fn a_rotation_reads_back_and_finds_each_devices_part() {
        let it = rotation(3, 2);
        assert_eq!(round_trip(it.clone()), Content::RoomRotate(Box::new(it.clone())));
        assert_eq!(it.part(&part(2).device), Some(&part(2).block));
        assert_eq!(it.part(&part(3).device), None);
        assert_eq!(round_trip(rotation(0, 0)), Content::RoomRotate(Box::new(rotation(0, 0))));
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let full = rotation(MAX_ROTATION_PARTS as u16, 10);
        assert!(matches!(round_trip(full), Content::RoomRotate(_)));
        assert!(matches!(round_trip(rotation(1, MAX_ROTATION_ENDS as u16)), Content::RoomRotate(_)));
        for (past, flaw) in [
            (
                rotation(MAX_ROTATION_PARTS as u16 + 1, 0),
                LimitError::RotationParts { count: MAX_ROTATION_PARTS + 1 },
            ),
            (
                rotation(0, MAX_ROTATION_ENDS as u16 + 1),
                LimitError::RotationEnds { count: MAX_ROTATION_ENDS + 1 },
            ),
        ] {
            let body = Body::new(Content::RoomRotate(Box::new(past.clone())));
            assert_eq!(body.encode(), Err(EncodeError::Limit(flaw)));
            assert_eq!(malformed(past), Flaw::Limit(flaw));
        }
    }

    /// What a reader makes of a rotation that `create` does not write.
    fn malformed(rotation: Rotation) -> Flaw {
        let map = cbor_core::Map::from_pairs([(0, Value::from("room.rotate")), (1, rotation.payload())]);
        match Body::decode(&Value::from(map).encode()).unwrap().content {
            Content::Malformed { kind: "room.rotate", flaw } => flaw,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn doubled_and_unsorted_devices_and_impossible_epochs_are_malformed() {
        let mut doubled = rotation(2, 2);
        doubled.parts[1] = doubled.parts[0].clone();
        assert_eq!(malformed(doubled), Flaw::WrongType(2));
        let mut unsorted = rotation(2, 2);
        unsorted.ends.reverse();
        assert_eq!(malformed(unsorted), Flaw::WrongType(3));
        for epoch in [0, u32::MAX] {
            assert_eq!(malformed(Rotation { epoch, ..rotation(1, 1) }), Flaw::WrongType(0));
        }
    }
}
