//! The binary frames of the sync protocol (subprotocol `delta.sync.2`): bytes ↔ [`Frame`].
//!
//! One WebSocket message holds one frame; its first byte is the type. Decoding checks form only (lengths, counts,
//! limits, nothing left over); whether a seq or a head makes sense is for the session that knows the cursor.
//! Operations are slices of the received message: decoding copies none of them.

use bytes::Bytes;

use crate::codec::{DecodeError, Reader};
use crate::identity::Millis;
use crate::limits::{MAX_BATCH, MAX_ENVELOPE, MAX_FRAME_OPS_BYTES, MAX_SIGNAL};
use crate::topic::{Chain, Generation, Seq, SignedHead};

/// The WebSocket subprotocol that selects binary frames.
pub const SUBPROTOCOL: &str = "delta.sync.2";

/// Bytes before the first operation of an `ops` frame: type and count.
pub const OPS_HEADER_LEN: usize = 3;

/// Bytes before each operation of an `ops` frame: seq, received_ms, length.
pub const OP_HEADER_LEN: usize = 20;

/// The longest frame there is: an `ops` frame around one operation of the largest size.
pub const MAX_FRAME: usize = OPS_HEADER_LEN + OP_HEADER_LEN + MAX_ENVELOPE;

/// One message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// 01, always the first.
    Hello {
        /// This server's copy of the log.
        generation: Generation,
        /// The last seq.
        head: Seq,
        /// The lowest retained seq; `head + 1` when nothing is retained.
        tail: Seq,
        /// The server's clock. Shown, never used for order.
        server_time: Millis,
        /// The largest operation the server stores, bytes.
        max_op: u32,
    },
    /// 02, operations in the server's order: 1–256, at most 256 KiB of them unless a single one is larger.
    Ops(Vec<SequencedOp>),
    /// 03, everything up to this head has been sent.
    Ready(SignedHead),
    /// 04, these operations are evicted.
    Gap {
        /// The first evicted seq the client has not got.
        from: Seq,
        /// The last evicted seq.
        to: Seq,
        /// The chain value at `to`, from which the client goes on computing.
        chain: Chain,
    },
    /// 05, the client's cursor belongs to another log: it starts over in this one.
    Reset {
        /// This log's generation.
        generation: Generation,
        /// This log's last seq.
        head: Seq,
    },
    /// 06, a message that is not stored (presence, typing), 1–4096 bytes.
    Signal(Bytes),
    /// 07, the server is about to close with 1013.
    Slow {
        /// Wait this long before the next connection, milliseconds.
        retry_after_ms: u32,
    },
    /// 08, a later signed head.
    Head(SignedHead),
}

/// An envelope with its place in the topic log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequencedOp {
    /// The server's order.
    pub seq: Seq,
    /// When the server received it, by its clock.
    pub received: Millis,
    /// The envelope, 1 byte to 1 MiB.
    pub op: Bytes,
}

const HELLO: u8 = 0x01;
const OPS: u8 = 0x02;
const READY: u8 = 0x03;
const GAP: u8 = 0x04;
const RESET: u8 = 0x05;
const SIGNAL: u8 = 0x06;
const SLOW: u8 = 0x07;
const HEAD: u8 = 0x08;

impl Frame {
    /// Reads one whole message.
    ///
    /// # Errors
    /// The server is at fault: the message is no frame. Memory stays below a small multiple of the message.
    pub fn decode(message: Bytes) -> Result<Self, DecodeError> {
        if message.len() > MAX_FRAME {
            return Err(DecodeError::TooLarge("frame"));
        }
        let mut reader = Reader::new(&message);
        let frame = match reader.u8("type")? {
            HELLO => Self::Hello {
                generation: Generation(reader.array("generation")?),
                head: Seq(reader.u64("head")?),
                tail: Seq(reader.u64("tail")?),
                server_time: Millis(reader.u64("server_time_ms")?),
                max_op: reader.u32("max_op")?,
            },
            OPS => Self::Ops(decode_ops(&message, &mut reader)?),
            READY => Self::Ready(decode_head(&mut reader)?),
            GAP => Self::Gap {
                from: Seq(reader.u64("from")?),
                to: Seq(reader.u64("to")?),
                chain: Chain(reader.array("chain")?),
            },
            RESET => Self::Reset {
                generation: Generation(reader.array("generation")?),
                head: Seq(reader.u64("head")?),
            },
            SIGNAL => Self::Signal(decode_bytes(&message, &mut reader, MAX_SIGNAL, "signal")?),
            SLOW => Self::Slow { retry_after_ms: reader.u32("retry_after_ms")? },
            HEAD => Self::Head(decode_head(&mut reader)?),
            _ => return Err(DecodeError::Invalid("type")),
        };
        reader.finish()?;
        Ok(frame)
    }

    /// Writes the message. An `Ops` frame must keep its limits (see [`OpsWriter`], which does), a `Signal` its own.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        match self {
            Self::Hello { generation, head, tail, server_time, max_op } => {
                out.push(HELLO);
                out.extend_from_slice(&generation.0);
                for number in [head.0, tail.0, server_time.0] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
                out.extend_from_slice(&max_op.to_be_bytes());
            }
            Self::Ops(ops) => {
                let mut writer = OpsWriter::new();
                for op in ops {
                    let taken = writer.push(op.seq, op.received, &op.op);
                    debug_assert!(taken, "an ops frame above its limits");
                }
                return writer.take().map_or_else(|| vec![OPS, 0, 0], Vec::from);
            }
            Self::Ready(head) => encode_head(&mut out, READY, head),
            Self::Gap { from, to, chain } => {
                out.push(GAP);
                out.extend_from_slice(&from.0.to_be_bytes());
                out.extend_from_slice(&to.0.to_be_bytes());
                out.extend_from_slice(&chain.0);
            }
            Self::Reset { generation, head } => {
                out.push(RESET);
                out.extend_from_slice(&generation.0);
                out.extend_from_slice(&head.0.to_be_bytes());
            }
            Self::Signal(bytes) => {
                debug_assert!((1..=MAX_SIGNAL).contains(&bytes.len()), "a signal outside its limits");
                out.push(SIGNAL);
                out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Slow { retry_after_ms } => {
                out.push(SLOW);
                out.extend_from_slice(&retry_after_ms.to_be_bytes());
            }
            Self::Head(head) => encode_head(&mut out, HEAD, head),
        }
        out
    }
}

/// Builds `ops` frames one operation at a time, without a copy in between, and keeps their limits.
#[derive(Debug, Default)]
pub struct OpsWriter {
    frame: Vec<u8>,
    count: u16,
}

impl OpsWriter {
    /// Starts empty.
    pub const fn new() -> Self {
        Self { frame: Vec::new(), count: 0 }
    }

    /// Adds an operation; `false`, and nothing changes, when the frame is full: [`take`](Self::take) it and push
    /// again. An empty or oversized operation (below 1 byte, above 1 MiB) never fits.
    #[must_use]
    pub fn push(&mut self, seq: Seq, received: Millis, op: &[u8]) -> bool {
        if op.is_empty() || op.len() > MAX_ENVELOPE || !self.fits(op.len()) {
            return false;
        }
        if self.frame.is_empty() {
            self.frame.extend_from_slice(&[OPS, 0, 0]);
        }
        self.frame.reserve(OP_HEADER_LEN + op.len());
        self.frame.extend_from_slice(&seq.0.to_be_bytes());
        self.frame.extend_from_slice(&received.0.to_be_bytes());
        self.frame.extend_from_slice(&(op.len() as u32).to_be_bytes());
        self.frame.extend_from_slice(op);
        self.count += 1;
        true
    }

    /// Whether an operation of `len` bytes still fits.
    pub fn fits(&self, len: usize) -> bool {
        let used = self.frame.len().saturating_sub(OPS_HEADER_LEN + usize::from(self.count) * OP_HEADER_LEN);
        self.count == 0 || (usize::from(self.count) < MAX_BATCH && used + len <= MAX_FRAME_OPS_BYTES)
    }

    /// How many operations the frame holds so far.
    pub const fn count(&self) -> usize {
        self.count as usize
    }

    /// The finished frame, ready to be shared among subscribers; `None` when nothing was pushed. Starts over.
    pub fn take(&mut self) -> Option<Bytes> {
        if self.count == 0 {
            return None;
        }
        let mut frame = std::mem::take(&mut self.frame);
        let count = std::mem::take(&mut self.count).to_be_bytes();
        if let Some(field) = frame.get_mut(1..OPS_HEADER_LEN) {
            field.copy_from_slice(&count);
        }
        Some(Bytes::from(frame))
    }
}

fn decode_ops(message: &Bytes, reader: &mut Reader<'_>) -> Result<Vec<SequencedOp>, DecodeError> {
    let count = usize::from(reader.u16("count")?);
    if count == 0 {
        return Err(DecodeError::Invalid("count"));
    }
    if count > MAX_BATCH {
        return Err(DecodeError::TooLarge("count"));
    }
    // Nothing is reserved for operations the message cannot hold.
    if reader.remaining() < count * (OP_HEADER_LEN + 1) {
        return Err(DecodeError::Truncated("op"));
    }
    let mut ops = Vec::with_capacity(count);
    let mut total = 0;
    for _ in 0..count {
        let op = decode_op(message, reader)?;
        total += op.op.len();
        ops.push(op);
    }
    if count > 1 && total > MAX_FRAME_OPS_BYTES {
        return Err(DecodeError::TooLarge("ops"));
    }
    Ok(ops)
}

/// `seq u64 | received_ms u64 | len u32 | op`, as in `ops` frames and pages of history.
pub(super) fn decode_op(message: &Bytes, reader: &mut Reader<'_>) -> Result<SequencedOp, DecodeError> {
    let seq = Seq(reader.u64("seq")?);
    let received = Millis(reader.u64("received_ms")?);
    let op = decode_bytes(message, reader, MAX_ENVELOPE, "op")?;
    Ok(SequencedOp { seq, received, op })
}

/// `len u32 | bytes`, 1 to `max` bytes, as a slice of the message.
fn decode_bytes(
    message: &Bytes,
    reader: &mut Reader<'_>,
    max: usize,
    field: &'static str,
) -> Result<Bytes, DecodeError> {
    let len = usize::try_from(reader.u32(field)?).map_err(|_| DecodeError::TooLarge(field))?;
    match len {
        0 => Err(DecodeError::Invalid(field)),
        len if len > max => Err(DecodeError::TooLarge(field)),
        len => reader.bytes(len, field).map(|bytes| message.slice_ref(bytes)),
    }
}

fn decode_head(reader: &mut Reader<'_>) -> Result<SignedHead, DecodeError> {
    Ok(SignedHead {
        head: Seq(reader.u64("head")?),
        chain: Chain(reader.array("chain")?),
        signature: reader.array("sig")?,
    })
}

fn encode_head(out: &mut Vec<u8>, kind: u8, head: &SignedHead) {
    out.push(kind);
    out.extend_from_slice(&head.head.0.to_be_bytes());
    out.extend_from_slice(&head.chain.0);
    out.extend_from_slice(&head.signature);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<Frame, DecodeError> {
        Frame::decode(Bytes::copy_from_slice(bytes))
    }

    fn op(seq: u64, len: usize) -> SequencedOp {
        SequencedOp { seq: Seq(seq), received: Millis(7), op: Bytes::from(vec![0xaa; len]) }
    }

    /// Every frame written out by hand from the table in docs/wire.md.
    #[test]
    fn frames_are_laid_out_as_documented() {
        let head = SignedHead { head: Seq(5), chain: Chain([0xc5; 32]), signature: [0x51; 64] };
        let hello = Frame::Hello {
            generation: Generation([0x0a; 16]),
            head: Seq(9),
            tail: Seq(2),
            server_time: Millis(0x0102),
            max_op: 1 << 20,
        };
        let (chain, sig) = ("c5".repeat(32), "51".repeat(64));
        let gap = Frame::Gap { from: Seq(1), to: Seq(500), chain: Chain([0xc5; 32]) };
        let table = [
            (
                hello,
                format!(
                    "01{}{}{}{}{}",
                    "0a".repeat(16),
                    "0000000000000009",
                    "0000000000000002",
                    "0000000000000102",
                    "00100000"
                ),
            ),
            (
                Frame::Ops(vec![op(1, 2), op(2, 1)]),
                "0200020000000000000001000000000000000700000002aaaa0000000000000002000000000000000700000001aa".to_owned(),
            ),
            (Frame::Ready(head), format!("030000000000000005{chain}{sig}")),
            (gap, format!("04000000000000000100000000000001f4{chain}")),
            (
                Frame::Reset { generation: Generation([0x0a; 16]), head: Seq(9) },
                format!("05{}0000000000000009", "0a".repeat(16)),
            ),
            (Frame::Signal(Bytes::from_static(b"hi")), "06000000026869".to_owned()),
            (Frame::Slow { retry_after_ms: 1000 }, "07000003e8".to_owned()),
            (Frame::Head(head), format!("080000000000000005{chain}{sig}")),
        ];
        for (frame, hex) in table {
            assert_eq!(hex::encode(frame.encode()), hex);
            assert_eq!(decode(&hex::decode(hex).unwrap()), Ok(frame));
        }
    }

    #[test]
    fn case_49_truncated_and_trailing_frames_are_refused() {
        let frames = [
            Frame::Ops(vec![op(1, 3), op(2, 4)]),
            Frame::Ready(SignedHead { head: Seq(5), chain: Chain([1; 32]), signature: [2; 64] }),
            Frame::Signal(Bytes::from_static(b"hi")),
            Frame::Reset { generation: Generation([1; 16]), head: Seq(1) },
            Frame::Slow { retry_after_ms: 1 },
        ];
        for frame in frames {
            let mut bytes = frame.encode();
            for end in 0..bytes.len() {
                assert!(
                    matches!(decode(&bytes[..end]), Err(DecodeError::Truncated(_))),
                    "{frame:?} at {end}"
                );
            }
            bytes.push(0);
            assert_eq!(decode(&bytes), Err(DecodeError::Trailing(1)));
        }
    }

    #[test]
    fn case_49_huge_lengths_and_counts_reserve_nothing() {
        let mut huge_op = vec![OPS, 0, 1];
        huge_op.extend_from_slice(&[0; 16]);
        huge_op.extend_from_slice(&u32::MAX.to_be_bytes());
        huge_op.push(1);
        assert_eq!(decode(&huge_op), Err(DecodeError::TooLarge("op")));
        assert_eq!(decode(&[OPS, 0, 0]), Err(DecodeError::Invalid("count")));
        assert_eq!(decode(&[OPS, 0xff, 0xff]), Err(DecodeError::TooLarge("count")));
        assert_eq!(decode(&[OPS, 1, 0]), Err(DecodeError::Truncated("op")));
        assert_eq!(decode(&[SIGNAL, 0xff, 0xff, 0xff, 0xff, 1]), Err(DecodeError::TooLarge("signal")));
        assert_eq!(decode(&[SIGNAL, 0, 0, 0, 0]), Err(DecodeError::Invalid("signal")));
        for kind in [0, 9, 0x7b, 0xff] {
            assert_eq!(decode(&[kind, 0, 0]), Err(DecodeError::Invalid("type")));
        }
        assert_eq!(decode(&vec![OPS; MAX_FRAME + 1]), Err(DecodeError::TooLarge("frame")));
    }

    #[test]
    fn limits_hold_at_and_past_them() {
        let largest = Frame::Ops(vec![op(1, MAX_ENVELOPE)]).encode();
        assert_eq!(largest.len(), MAX_FRAME);
        assert!(decode(&largest).is_ok());
        assert!(decode(&Frame::Ops((1..=256).map(|seq| op(seq, 1024)).collect()).encode()).is_ok());
        assert!(decode(&Frame::Signal(Bytes::from(vec![1; MAX_SIGNAL])).encode()).is_ok());

        let mut past = vec![SIGNAL];
        past.extend_from_slice(&(MAX_SIGNAL as u32 + 1).to_be_bytes());
        past.resize(5 + MAX_SIGNAL + 1, 1);
        assert_eq!(decode(&past), Err(DecodeError::TooLarge("signal")));

        let mut two = vec![OPS, 0, 2];
        for len in [MAX_FRAME_OPS_BYTES, 1] {
            two.extend_from_slice(&[0; 16]);
            two.extend_from_slice(&(len as u32).to_be_bytes());
            two.resize(two.len() + len, 1);
        }
        assert_eq!(decode(&two), Err(DecodeError::TooLarge("ops")));
    }

    #[test]
    fn a_writer_fills_frames_to_their_limits_and_no_further() {
        let mut writer = OpsWriter::new();
        assert_eq!(writer.take(), None);
        assert!(!writer.push(Seq(1), Millis(0), &[]));
        assert!(!writer.push(Seq(1), Millis(0), &vec![0; MAX_ENVELOPE + 1]));
        for seq in 1..=256 {
            assert!(writer.push(Seq(seq), Millis(0), &[1; 1024]));
        }
        assert!(!writer.push(Seq(257), Millis(0), &[1]), "256 operations and 256 KiB");
        assert!(matches!(Frame::decode(writer.take().unwrap()), Ok(Frame::Ops(ops)) if ops.len() == 256));

        assert!(writer.push(Seq(257), Millis(0), &vec![1; MAX_ENVELOPE]), "a single one may be larger");
        assert!(!writer.push(Seq(258), Millis(0), &[1]));
        assert_eq!(writer.count(), 1);
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let head = (any::<u64>(), any::<[u8; 32]>(), any::<u8>()).prop_map(|(head, chain, byte)| {
            SignedHead { head: Seq(head), chain: Chain(chain), signature: [byte; 64] }
        });
        let op = (any::<u64>(), any::<u64>(), prop::collection::vec(any::<u8>(), 1..64)).prop_map(
            |(seq, received, op)| SequencedOp { seq: Seq(seq), received: Millis(received), op: op.into() },
        );
        let hello = (any::<[u8; 16]>(), any::<[u64; 3]>(), any::<u32>()).prop_map(
            |(generation, [head, tail, time], max_op)| Frame::Hello {
                generation: Generation(generation),
                head: Seq(head),
                tail: Seq(tail),
                server_time: Millis(time),
                max_op,
            },
        );
        prop_oneof![
            hello,
            prop::collection::vec(op, 1..20).prop_map(Frame::Ops),
            head.clone().prop_map(Frame::Ready),
            (any::<u64>(), any::<u64>(), any::<[u8; 32]>()).prop_map(|(from, to, chain)| Frame::Gap {
                from: Seq(from),
                to: Seq(to),
                chain: Chain(chain)
            }),
            (any::<[u8; 16]>(), any::<u64>()).prop_map(|(generation, head)| Frame::Reset {
                generation: Generation(generation),
                head: Seq(head)
            }),
            prop::collection::vec(any::<u8>(), 1..100).prop_map(|bytes| Frame::Signal(bytes.into())),
            any::<u32>().prop_map(|retry_after_ms| Frame::Slow { retry_after_ms }),
            head.prop_map(Frame::Head),
        ]
    }

    proptest! {
        #[test]
        fn every_frame_round_trips(frame in any_frame()) {
            prop_assert_eq!(decode(&frame.encode()), Ok(frame));
        }

        /// Whatever decodes is written back byte for byte: no two messages mean the same.
        #[test]
        fn decoding_is_strict(kind in 0u8..10, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let message = [&[kind][..], &bytes].concat();
            if let Ok(frame) = decode(&message) {
                prop_assert_eq!(frame.encode(), message);
            }
        }

        #[test]
        fn one_changed_byte_never_panics(frame in any_frame(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut bytes = frame.encode();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = decode(&bytes);
        }
    }
}
