//! Ids cross as bytes of a fixed length. A value of another length is refused with the code `id`.

use delta_core::NodeId;
use delta_core::identity::{Author, Identity, LogId, OperationId, ThreadId};
use delta_core::ops::BlobId;
use delta_core::projector::{Place, Position};
use delta_core::topic::TopicId;

use crate::error::DeltaError;

/// Bytes of an encoded position: place, author, number in the author's log.
const POSITION: usize = Place::LEN + Author::LEN + 4;

fn id<T: for<'a> TryFrom<&'a [u8]>>(bytes: &[u8], what: &str) -> Result<T, DeltaError> {
    let wrong = || DeltaError::argument("id", format!("{what} has 32 bytes, not {}", bytes.len()));
    T::try_from(bytes).map_err(|_| wrong())
}

uniffi::custom_type!(
    /// Where a conversation lives on a server, 32 bytes.
    TopicId, Vec<u8>, {
    remote,
    lower: |id| id.0.to_vec(),
    try_lift: |bytes| Ok(id(&bytes, "a topic id")?),
});

uniffi::custom_type!(
    /// Names an operation (a message, say), 32 bytes.
    OperationId, Vec<u8>, {
    remote,
    lower: |id| id.0.to_vec(),
    try_lift: |bytes| Ok(id(&bytes, "an operation id")?),
});

uniffi::custom_type!(
    /// Who signs: a device's Ed25519 key, 32 bytes.
    Author, Vec<u8>, {
    remote,
    lower: |id| id.0.to_vec(),
    try_lift: |bytes| Ok(id(&bytes, "an author's key")?),
});

uniffi::custom_type!(
    /// Stable name of a conversation, 32 bytes.
    LogId, Vec<u8>, {
    remote,
    lower: |id| id.0.to_vec(),
    try_lift: |bytes| Ok(id(&bytes, "a log id")?),
});

uniffi::custom_type!(
    /// A relay's or sync server's Ed25519 key, 32 bytes.
    NodeId, Vec<u8>, {
    remote,
    lower: |id| id.0.to_vec(),
    try_lift: |bytes| Ok(id(&bytes, "a node id")?),
});

uniffi::custom_type!(
    /// Who a person is: the Ed25519 key that certifies their devices, 32 bytes.
    Identity, Vec<u8>, {
    remote,
    lower: |id| id.0.to_vec(),
    try_lift: |bytes| Ok(id(&bytes, "an identity")?),
});

uniffi::custom_type!(
    /// Names a direct thread, 32 bytes.
    ThreadId, Vec<u8>, {
    remote,
    lower: |id| id.0.to_vec(),
    try_lift: |bytes| Ok(id(&bytes, "a thread id")?),
});

uniffi::custom_type!(
    /// Names a blob, 32 bytes.
    BlobId, Vec<u8>, {
    remote,
    lower: |id| id.0.to_vec(),
    try_lift: |bytes| Ok(id(&bytes, "a blob id")?),
});

uniffi::custom_type!(
    /// Where a message is shown. To be handed back for the page before or after it; its bytes mean nothing else.
    Position, Vec<u8>, {
    remote,
    lower: |position| position_bytes(&position),
    try_lift: |bytes| Ok(position(&bytes)?),
});

fn position_bytes(position: &Position) -> Vec<u8> {
    [&position.place.to_bytes()[..], &position.author.0, &position.seq_num.to_be_bytes()].concat()
}

fn position(bytes: &[u8]) -> Result<Position, DeltaError> {
    let parse = || {
        let (place, rest) = bytes.split_first_chunk::<{ Place::LEN }>()?;
        let (author, seq_num) = rest.split_first_chunk::<{ Author::LEN }>()?;
        let seq_num = u32::from_be_bytes(seq_num.try_into().ok()?);
        Some(Position { place: Place::from_bytes(*place), author: Author(*author), seq_num })
    };
    let wrong = || format!("a position has {POSITION} bytes, not {}", bytes.len());
    parse().ok_or_else(|| DeltaError::argument("id", wrong()))
}

/// 32 bytes of a key or seed.
pub(crate) fn key(bytes: &[u8], what: &str) -> Result<[u8; 32], DeltaError> {
    id(bytes, what)
}

#[cfg(test)]
mod tests {
    use delta_core::topic::Seq;

    use super::*;

    #[test]
    fn a_position_comes_back_and_any_other_length_is_refused() {
        let place = Place { epoch: 1, resets: 2, seq: Seq(3) };
        let shown = Position { place, author: Author([4; 32]), seq_num: 5 };
        let bytes = position_bytes(&shown);
        assert_eq!(bytes.len(), POSITION);
        assert_eq!(position(&bytes).unwrap(), shown);
        for wrong in [&bytes[1..], &[], &[&bytes[..], &[0]].concat()] {
            assert!(matches!(position(wrong), Err(DeltaError::Argument { code, .. }) if code == "id"));
        }
    }

    #[test]
    fn ids_have_32_bytes() {
        assert_eq!(id::<TopicId>(&[7; 32], "a topic id").unwrap(), TopicId([7; 32]));
        for length in [0, 31, 33] {
            let error = id::<TopicId>(&vec![7; length], "a topic id").unwrap_err();
            assert!(error.to_string().contains(&length.to_string()), "{error}");
        }
    }
}
