//! JSON frames: the original protocol, with `gap` and `reset` added and `ready` extended.
//!
//! Hex is lower case, `data` is padded standard base64. There is no `hello`, `head` or `signal` in JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use delta_core::topic::{Chain, Generation, Seq, SignedHead};
use serde::Deserialize;

use crate::history::HistoryPage;
use crate::search::SearchPage;

/// `{"type":"op","seq":42,"data":"…"}`.
pub fn op(seq: Seq, op: &[u8]) -> String {
    let mut out = String::with_capacity(48 + op.len().div_ceil(3) * 4);
    out.push_str("{\"type\":\"op\",\"seq\":");
    out.push_str(&seq.to_string());
    out.push_str(",\"data\":\"");
    STANDARD.encode_string(op, &mut out);
    out.push_str("\"}");
    out
}

/// `{"type":"ready","head":42,"generation":"…","chain":"…","sig":"…"}`.
pub fn ready(generation: &Generation, head: &SignedHead) -> String {
    let sig = hex::encode(head.signature);
    format!(
        r#"{{"type":"ready","head":{},"generation":"{generation}","chain":"{}","sig":"{sig}"}}"#,
        head.head, head.chain
    )
}

/// `{"type":"gap","from":1,"to":500,"chain":"…"}`.
pub fn gap(from: Seq, to: Seq, chain: &Chain) -> String {
    format!(r#"{{"type":"gap","from":{from},"to":{to},"chain":"{chain}"}}"#)
}

/// `{"type":"reset","generation":"…","head":7}`.
pub fn reset(generation: &Generation, head: Seq) -> String {
    format!(r#"{{"type":"reset","generation":"{generation}","head":{head}}}"#)
}

/// A history page: `{generation, head, tail, ops: [{seq, received_ms, data}]}`.
pub fn page(page: &HistoryPage) -> String {
    let mut out =
        format!(r#"{{"generation":"{}","head":{},"tail":{},"ops":["#, page.generation, page.head, page.tail);
    for (index, op) in page.ops.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        out.push_str(&format!(
            r#"{comma}{{"seq":{},"received_ms":{},"data":"{}"}}"#,
            op.seq,
            op.received.0,
            STANDARD.encode(&op.op)
        ));
    }
    out.push_str("]}");
    out
}

/// A page of a search: `{generation, indexed, ops: [{seq, received_ms, author, data}]}`.
pub fn search_page(page: &SearchPage) -> String {
    let mut out = format!(r#"{{"generation":"{}","indexed":{},"ops":["#, page.generation, page.indexed);
    for (index, (author, op)) in page.found.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let (seq, received, data) = (op.seq, op.received.0, STANDARD.encode(&op.op));
        out.push_str(&format!(
            r#"{comma}{{"seq":{seq},"received_ms":{received},"author":"{author}","data":"{data}"}}"#
        ));
    }
    out.push_str("]}");
    out
}

/// What a client of the original protocol may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// An operation to publish: refused, unless the server accepts direct publishing.
    Op(Vec<u8>),
    /// `{"type":"op"}` whose data is missing, empty or not padded standard base64.
    MalformedOp,
    /// Anything else.
    Other,
}

/// Reads a text message of a client.
pub fn client_message(text: &str) -> ClientMessage {
    #[derive(Deserialize)]
    struct Raw {
        r#type: String,
        data: Option<serde_json::Value>,
    }
    match serde_json::from_str::<Raw>(text) {
        Ok(raw) if raw.r#type == "op" => {
            let data = raw.data.as_ref().and_then(serde_json::Value::as_str);
            match data.and_then(|data| STANDARD.decode(data).ok()) {
                Some(op) if !op.is_empty() => ClientMessage::Op(op),
                _ => ClientMessage::MalformedOp,
            }
        }
        _ => ClientMessage::Other,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use delta_core::identity::{Author, Millis};
    use delta_core::sync::frame::SequencedOp;
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> serde_json::Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn frames_are_the_documented_objects() {
        let (generation, chain) = (Generation([0xab; 16]), Chain([0xcd; 32]));
        let (g, c) = ("ab".repeat(16), "cd".repeat(32));
        let head = SignedHead { head: Seq(42), chain, signature: [0xef; 64] };
        assert_eq!(parsed(&op(Seq(42), b"hello")), json!({"type": "op", "seq": 42, "data": "aGVsbG8="}));
        assert_eq!(
            parsed(&ready(&generation, &head)),
            json!({"type": "ready", "head": 42, "generation": g, "chain": c, "sig": "ef".repeat(64)})
        );
        assert_eq!(
            parsed(&gap(Seq(1), Seq(500), &chain)),
            json!({"type": "gap", "from": 1, "to": 500, "chain": c})
        );
        assert_eq!(parsed(&reset(&generation, Seq(7))), json!({"type": "reset", "generation": g, "head": 7}));
        let ops = [1, 2].map(|seq| SequencedOp {
            seq: Seq(seq),
            received: Millis(9),
            op: Bytes::from_static(b"a"),
        });
        let view = HistoryPage { generation, head: Seq(2), tail: Seq(1), ops: ops.to_vec() };
        assert_eq!(
            parsed(&page(&view)),
            json!({"generation": g, "head": 2, "tail": 1, "ops": [
                {"seq": 1, "received_ms": 9, "data": "YQ=="}, {"seq": 2, "received_ms": 9, "data": "YQ=="}]})
        );
        let found = ops.map(|op| (Author([0x12; 32]), op)).to_vec();
        let author = "12".repeat(32);
        assert_eq!(
            parsed(&search_page(&SearchPage { generation, indexed: Seq(5), found })),
            json!({"generation": g, "indexed": 5, "ops": [
                {"seq": 1, "received_ms": 9, "author": author, "data": "YQ=="},
                {"seq": 2, "received_ms": 9, "author": author, "data": "YQ=="}]})
        );
    }

    #[test]
    fn client_messages_are_told_apart() {
        let message = client_message;
        assert_eq!(message(r#"{"type":"op","data":"aGk="}"#), ClientMessage::Op(b"hi".to_vec()));
        for bad in [
            r#"{"type":"op"}"#,
            r#"{"type":"op","data":""}"#,
            r#"{"type":"op","data":"aGk"}"#,
            r#"{"type":"op","data":7}"#,
        ] {
            assert_eq!(message(bad), ClientMessage::MalformedOp, "{bad}");
        }
        for other in ["", "op", "[]", r#"{"type":"ping"}"#, r#"{"data":"aGk="}"#, &"[".repeat(10_000)] {
            assert_eq!(message(other), ClientMessage::Other);
        }
    }
}
