//! Pages of history (`GET /topic/<hex>/ops`): what is asked for, and the binary form of the answer (docs/wire.md,
//! section 8). Decoding checks form only; whether a page answers the request is for whoever asked.

use bytes::Bytes;

use super::frame::{OP_HEADER_LEN, SequencedOp, decode_op};
use crate::codec::{DecodeError, Reader};
use crate::topic::{Generation, Seq, TopicId};

/// Most operations of one page.
pub const HISTORY_MAX_LIMIT: u16 = 1000;
/// Operation bytes after which a page ends early (one operation always fits).
pub const HISTORY_MAX_BYTES: usize = 4 * 1024 * 1024;
/// The longest page in binary form.
pub const MAX_PAGE: usize = PAGE_HEADER_LEN + HISTORY_MAX_LIMIT as usize * OP_HEADER_LEN + HISTORY_MAX_BYTES;

/// Bytes before a page's first operation.
const PAGE_HEADER_LEN: usize = 34;

/// Asks for the oldest operations above a seq, in the one form that this device ever asks in: who looks whether its own
/// operation has arrived must look like whoever reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRequest {
    /// Of which topic.
    pub topic: TopicId,
    /// Only above this seq.
    pub after: Seq,
    /// Most operations, 1 to [`HISTORY_MAX_LIMIT`].
    pub limit: u16,
}

impl HistoryRequest {
    /// The path and query below the server's base URL.
    pub fn path(&self) -> String {
        let Self { topic, after, limit } = self;
        format!("/topic/{topic}/ops?after={after}&limit={limit}")
    }
}

/// A page, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// Which copy of the log.
    pub generation: Generation,
    /// The log's last seq.
    pub head: Seq,
    /// The log's lowest retained seq.
    pub tail: Seq,
    /// The operations.
    pub ops: Vec<SequencedOp>,
}

impl HistoryPage {
    /// `generation[16] | head u64 | tail u64 | count u16 | count × (seq u64 | received_ms u64 | len u32 | op)`.
    pub fn encode(&self) -> Vec<u8> {
        let bytes: usize = self.ops.iter().map(|op| OP_HEADER_LEN + op.op.len()).sum();
        let mut out = Vec::with_capacity(PAGE_HEADER_LEN + bytes);
        out.extend_from_slice(&self.generation.0);
        out.extend_from_slice(&self.head.0.to_be_bytes());
        out.extend_from_slice(&self.tail.0.to_be_bytes());
        out.extend_from_slice(&(self.ops.len() as u16).to_be_bytes());
        for op in &self.ops {
            out.extend_from_slice(&op.seq.0.to_be_bytes());
            out.extend_from_slice(&op.received.0.to_be_bytes());
            out.extend_from_slice(&(op.op.len() as u32).to_be_bytes());
            out.extend_from_slice(&op.op);
        }
        out
    }

    /// Reads a page; its operations are slices of the message.
    ///
    /// # Errors
    /// The server is at fault: these bytes are no page. Nothing is reserved for what the bytes cannot hold.
    pub fn decode(message: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message);
        let generation = Generation(reader.array("generation")?);
        let (head, tail) = (Seq(reader.u64("head")?), Seq(reader.u64("tail")?));
        let count = reader.u16("count")?;
        if count > HISTORY_MAX_LIMIT {
            return Err(DecodeError::TooLarge("count"));
        }
        let count = usize::from(count);
        if reader.remaining() < count * (OP_HEADER_LEN + 1) {
            return Err(DecodeError::Truncated("op"));
        }
        let ops = (0..count).map(|_| decode_op(message, &mut reader)).collect::<Result<Vec<_>, _>>()?;
        reader.finish()?;
        if count > 1 && ops.iter().map(|op| op.op.len()).sum::<usize>() > HISTORY_MAX_BYTES {
            return Err(DecodeError::TooLarge("ops"));
        }
        Ok(Self { generation, head, tail, ops })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Millis;

    fn page(lens: &[usize]) -> HistoryPage {
        let op = |(seq, len): (u64, &usize)| SequencedOp {
            seq: Seq(seq),
            received: Millis(7),
            op: Bytes::from(vec![0xaa; *len]),
        };
        let ops = (1..).zip(lens).map(op).collect();
        HistoryPage { generation: Generation([1; 16]), head: Seq(9), tail: Seq(1), ops }
    }

    fn decode(bytes: &[u8]) -> Result<HistoryPage, DecodeError> {
        HistoryPage::decode(&Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn a_page_is_laid_out_as_documented_and_reads_back() {
        let page = page(&[1, 2]);
        let expected = [
            &"01".repeat(16),
            "0000000000000009",
            "0000000000000001",
            "0002",
            "0000000000000001",
            "0000000000000007",
            "00000001",
            "aa",
            "0000000000000002",
            "0000000000000007",
            "00000002",
            "aaaa",
        ]
        .concat();
        assert_eq!(hex::encode(page.encode()), expected);
        assert_eq!(decode(&page.encode()), Ok(page));
    }

    #[test]
    fn the_request_names_its_bounds() {
        let topic = TopicId([0xaa; 32]);
        let request = HistoryRequest { topic, after: Seq(4), limit: 4 };
        assert_eq!(request.path(), format!("/topic/{}/ops?after=4&limit=4", "aa".repeat(32)));
    }

    #[test]
    fn case_49_bytes_that_are_no_page_are_refused_and_reserve_nothing() {
        let good = page(&[3, 3]).encode();
        for len in 0..good.len() {
            assert!(decode(&good[..len]).is_err(), "{len}");
        }
        assert_eq!(decode(&[&good[..], &[0]].concat()), Err(DecodeError::Trailing(1)));
        let with = |at: usize, bytes: &[u8]| {
            let mut page = good.clone();
            page[at..at + bytes.len()].copy_from_slice(bytes);
            decode(&page)
        };
        assert_eq!(with(32, &[0xff, 0xff]), Err(DecodeError::TooLarge("count")));
        assert_eq!(with(32, &1000u16.to_be_bytes()), Err(DecodeError::Truncated("op")));
        assert_eq!(with(50, &[0xff; 4]), Err(DecodeError::TooLarge("op")));
        assert_eq!(with(50, &[0; 4]), Err(DecodeError::Invalid("op")));
    }

    #[test]
    fn a_page_has_its_most_operations_and_bytes_and_no_more() {
        let most = page(&[1; HISTORY_MAX_LIMIT as usize]);
        assert_eq!(decode(&most.encode()), Ok(most));
        let more = page(&[1; HISTORY_MAX_LIMIT as usize + 1]);
        assert_eq!(decode(&more.encode()), Err(DecodeError::TooLarge("count")));
        let mib = HISTORY_MAX_BYTES / 4;
        let full = page(&[mib; 4]);
        assert!(full.encode().len() <= MAX_PAGE);
        assert_eq!(decode(&full.encode()), Ok(full));
        let over = page(&[mib, mib, mib, mib, 1]);
        assert_eq!(decode(&over.encode()), Err(DecodeError::TooLarge("ops")));
    }
}
