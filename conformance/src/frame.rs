//! Frames as `docs/wire.md` section 9 describes them, read without the project's own decoder.
//!
//! Strict: bytes that end early, bytes left over, a count of 0 or a page above its limits are failures of the server.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;

use crate::failure::{Checked, Failure, ensure};

/// Most operations in one binary `ops` frame.
pub const MAX_OPS: usize = 256;
/// Most operation bytes in one binary `ops` frame, unless it holds a single operation.
pub const MAX_OPS_BYTES: usize = 256 * 1024;
/// Largest operation.
pub const MAX_OP: usize = 1024 * 1024;
/// Largest signal.
pub const MAX_SIGNAL: usize = 4096;
/// Largest seq there can be.
pub const MAX_SEQ: u64 = i64::MAX as u64;

/// What a server says on a socket, in binary or JSON frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// First of all, in binary only.
    Hello(Hello),
    /// Operations in order; JSON frames carry one each.
    Ops(Vec<Item>),
    /// Everything up to here has been sent.
    Ready(Head),
    /// These were evicted.
    Gap {
        /// First seq that is missing.
        from: u64,
        /// Last seq that is missing.
        to: u64,
        /// Chain at `to`.
        chain: [u8; 32],
    },
    /// What the client showed does not belong to this log.
    Reset {
        /// This log's generation.
        generation: [u8; 16],
        /// This log's head.
        head: u64,
    },
    /// Passed on, not stored; in binary only.
    Signal(Vec<u8>),
    /// Before a close 1013; in binary only.
    Slow {
        /// When to come back.
        retry_after_ms: u32,
    },
    /// A signed head between live operations; in binary only.
    Head(Head),
}

/// The first binary frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Names this copy of the log.
    pub generation: [u8; 16],
    /// The highest seq.
    pub head: u64,
    /// The lowest seq still kept.
    pub tail: u64,
    /// The server's clock.
    pub server_time_ms: u64,
    /// Largest operation the server takes.
    pub max_op: u32,
}

/// A signed head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The seq it covers.
    pub head: u64,
    /// The chain there.
    pub chain: [u8; 32],
    /// By the server's node key.
    pub signature: [u8; 64],
    /// JSON frames name the generation here.
    pub generation: Option<[u8; 16]>,
}

/// One operation and its place.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// Its seq.
    pub seq: u64,
    /// When the server took it; JSON frames do not tell.
    pub received_ms: Option<u64>,
    /// The envelope.
    pub op: Vec<u8>,
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = hex::encode(self.op.get(..8).unwrap_or(&self.op));
        write!(f, "seq {} of {} bytes ({start}…)", self.seq, self.op.len())
    }
}

/// Reads bytes from the front; every read that goes beyond the end is a failure.
pub struct Bytes<'a> {
    what: &'static str,
    left: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// Reads `bytes`; `what` names them in failures.
    pub const fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, left: bytes }
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize, field: &str) -> Checked<&'a [u8]> {
        let (bytes, left) = self.left.split_at_checked(len).ok_or_else(|| {
            let got = format!("{} bytes left", self.left.len());
            Failure::new(format!("{}: {field}", self.what), format!("{len} bytes"), got)
        })?;
        self.left = left;
        Ok(bytes)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, field: &str) -> Checked<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, field)?);
        Ok(out)
    }

    /// A u16.
    pub fn u16(&mut self, field: &str) -> Checked<u16> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// A u32.
    pub fn u32(&mut self, field: &str) -> Checked<u32> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// A u64.
    pub fn u64(&mut self, field: &str) -> Checked<u64> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// Demands that nothing is left.
    pub fn end(&self) -> Checked {
        let got = format!("{} bytes left over", self.left.len());
        ensure(self.left.is_empty(), format!("{}: its end", self.what), "no bytes left over", got)
    }

    /// `seq u64 | received_ms u64 | len u32 | op`, `count` times.
    pub fn items(&mut self, count: usize) -> Checked<Vec<Item>> {
        (0..count).map(|_| self.item()).collect()
    }

    fn item(&mut self) -> Checked<Item> {
        let seq = self.u64("seq")?;
        let received_ms = Some(self.u64("received_ms")?);
        let len = self.u32("operation length")? as usize;
        Ok(Item { seq, received_ms, op: self.take(len, "operation")?.to_vec() })
    }
}

/// Reads a binary frame (section 9.1).
pub fn binary(message: &[u8]) -> Checked<Frame> {
    let mut bytes = Bytes::new("binary frame", message);
    let [kind] = bytes.array("type")?;
    let frame = match kind {
        1 => Frame::Hello(Hello {
            generation: bytes.array("hello.generation")?,
            head: bytes.u64("hello.head")?,
            tail: bytes.u64("hello.tail")?,
            server_time_ms: bytes.u64("hello.server_time_ms")?,
            max_op: bytes.u32("hello.max_op")?,
        }),
        2 => {
            let count = usize::from(bytes.u16("ops.count")?);
            let items = bytes.items(count)?;
            check_ops(&items)?;
            Frame::Ops(items)
        }
        3 => Frame::Ready(head(&mut bytes)?),
        4 => Frame::Gap {
            from: bytes.u64("gap.from")?,
            to: bytes.u64("gap.to")?,
            chain: bytes.array("gap.chain")?,
        },
        5 => Frame::Reset { generation: bytes.array("reset.generation")?, head: bytes.u64("reset.head")? },
        6 => {
            let len = bytes.u32("signal length")? as usize;
            let got = format!("{len} bytes");
            ensure((1..=MAX_SIGNAL).contains(&len), "a signal's length", "1 to 4096 bytes", got)?;
            Frame::Signal(bytes.take(len, "signal")?.to_vec())
        }
        7 => Frame::Slow { retry_after_ms: bytes.u32("slow.retry_after_ms")? },
        8 => Frame::Head(head(&mut bytes)?),
        other => return Err(Failure::new("a binary frame's type", "01 to 08", format!("{other:02x}"))),
    };
    bytes.end()?;
    Ok(frame)
}

fn head(bytes: &mut Bytes<'_>) -> Checked<Head> {
    Ok(Head {
        head: bytes.u64("head")?,
        chain: bytes.array("chain")?,
        signature: bytes.array("sig")?,
        generation: None,
    })
}

fn check_ops(items: &[Item]) -> Checked {
    let total: usize = items.iter().map(|item| item.op.len()).sum();
    let got = format!("{} operations of {total} bytes", items.len());
    ensure((1..=MAX_OPS).contains(&items.len()), "an ops frame", "1 to 256 operations", &got)?;
    let fits = total <= MAX_OPS_BYTES || items.len() == 1;
    ensure(fits, "an ops frame", "at most 256 KiB of operations, or a single one", &got)
}

/// Reads a JSON frame (section 9.2). Keys this version does not know are ignored.
pub fn json(message: &str) -> Checked<Frame> {
    let value: Value = serde_json::from_str(message)
        .map_err(|error| Failure::new("a text message", "JSON", format!("{error} in {message}")))?;
    let kind = value["type"].as_str().unwrap_or_default();
    match kind {
        "op" => Ok(Frame::Ops(vec![Item {
            seq: number(&value, "seq")?,
            received_ms: None,
            op: base64_field(&value, "data")?,
        }])),
        "ready" => Ok(Frame::Ready(Head {
            head: number(&value, "head")?,
            chain: hex_field(&value, "chain")?,
            signature: hex_field(&value, "sig")?,
            generation: Some(hex_field(&value, "generation")?),
        })),
        "gap" => Ok(Frame::Gap {
            from: number(&value, "from")?,
            to: number(&value, "to")?,
            chain: hex_field(&value, "chain")?,
        }),
        "reset" => {
            Ok(Frame::Reset { generation: hex_field(&value, "generation")?, head: number(&value, "head")? })
        }
        _ => Err(Failure::new("a JSON frame's type", "op, ready, gap or reset", message)),
    }
}

/// A whole number in a JSON object.
pub fn number(value: &Value, key: &str) -> Checked<u64> {
    value[key].as_u64().ok_or_else(|| Failure::new(format!("`{key}`"), "a whole number", value.to_string()))
}

/// `N` bytes of lower-case hex in a JSON object.
pub fn hex_field<const N: usize>(value: &Value, key: &str) -> Checked<[u8; N]> {
    let failure =
        || Failure::new(format!("`{key}`"), format!("{} lower-case hex digits", 2 * N), value.to_string());
    let text = value[key].as_str().ok_or_else(failure)?;
    let bytes = lower_hex(text).ok_or_else(failure)?;
    <[u8; N]>::try_from(bytes).map_err(|_| failure())
}

/// Padded standard base64 in a JSON object.
pub fn base64_field(value: &Value, key: &str) -> Checked<Vec<u8>> {
    let text = value[key].as_str().unwrap_or_default();
    let decoded = BASE64_STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty());
    decoded.ok_or_else(|| Failure::new(format!("`{key}`"), "padded base64", value.to_string()))
}

/// Bytes of lower-case hex.
pub fn lower_hex(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    hex::decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_the_document_are_read() {
        let op = [[0, 0, 0, 0, 0, 0, 0, 7].as_slice(), &[0; 7], &[9], &[0, 0, 0, 2], b"ab"].concat();
        let frame = binary(&[&[2, 0, 1], op.as_slice()].concat()).unwrap();
        assert_eq!(frame, Frame::Ops(vec![Item { seq: 7, received_ms: Some(9), op: b"ab".to_vec() }]));
        assert_eq!(binary(&[7, 0, 0, 3, 232]).unwrap(), Frame::Slow { retry_after_ms: 1000 });
        assert_eq!(binary(&[6, 0, 0, 0, 1, 5]).unwrap(), Frame::Signal(vec![5]));
        let frame = json(r#"{"type":"op","seq":42,"data":"YWI=","later":1}"#).unwrap();
        assert_eq!(frame, Frame::Ops(vec![Item { seq: 42, received_ms: None, op: b"ab".to_vec() }]));
    }

    #[test]
    fn anything_else_is_a_failure() {
        let refused: [&[u8]; 8] = [
            &[],
            &[0],
            &[9],
            &[2, 0, 0],
            &[2, 0, 1],
            &[7, 0, 0, 0, 1, 0],
            &[6, 0, 0, 0, 0],
            &[2, 255, 255, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255],
        ];
        for message in refused {
            assert!(binary(message).is_err(), "{message:?}");
        }
        for message in
            ["", "{}", r#"{"type":"op","seq":-1,"data":"YQ=="}"#, r#"{"type":"op","seq":1,"data":"YQ"}"#]
        {
            assert!(json(message).is_err(), "{message}");
        }
    }
}
