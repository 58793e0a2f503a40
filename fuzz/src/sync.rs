//! What travels between a device and a sync server: binary frames, and the original protocol's JSON.

use std::sync::LazyLock;

use bytes::Bytes;
use delta_core::identity::Millis;
use delta_core::sync::frame::{Frame, SequencedOp};
use delta_core::topic::{Chain, Generation, Seq, SignedHead};
use delta_topic_log::json;

use crate::edit::pick;

/// A frame: what decodes is encoded to the same bytes.
pub fn frame(input: &[u8]) {
    static VALID: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let (generation, chain, head) = (Generation([1; 16]), Chain([2; 32]), Seq(9));
        let signed = SignedHead { head, chain, signature: [3; 64] };
        let op =
            |seq| SequencedOp { seq: Seq(seq), received: Millis(5), op: Bytes::from_static(b"envelope") };
        let hello = Frame::Hello { generation, head, tail: Seq(1), server_time: Millis(5), max_op: 1 << 20 };
        [
            hello,
            Frame::Ops(vec![op(8), op(9)]),
            Frame::Ready(signed),
            Frame::Gap { from: Seq(1), to: Seq(4), chain },
            Frame::Reset { generation, head },
            Frame::Signal(Bytes::from_static(b"typing")),
            Frame::Slow { retry_after_ms: 1000 },
            Frame::Head(signed),
        ]
        .map(|frame| frame.encode())
        .into()
    });
    let bytes = pick(input, &VALID).into_owned();
    if let Ok(frame) = Frame::decode(Bytes::from(bytes.clone())) {
        assert_eq!(frame.encode(), bytes);
    }
}

/// A text message of the original protocol.
pub fn client_message(input: &[u8]) {
    let examples =
        [&br#"{"type":"op","data":"AAEC"}"#[..], br#"{"type":"ping"}"#, br#"{"type":"op","data":7}"#];
    let bytes = pick(input, &examples.map(<[u8]>::to_vec));
    let text = String::from_utf8_lossy(&bytes);
    if let json::ClientMessage::Op(op) = json::client_message(&text) {
        assert!(!op.is_empty() && op.len() < text.len());
    }
}
