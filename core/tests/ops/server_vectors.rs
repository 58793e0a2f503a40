//! Chains, heads, frames, deliver content, proofs, records and lists against values made without any code of this
//! project (docs/vectors/server.py).

use delta_core::identity::{EnvelopeHash, NodeId};
use delta_core::onion::control::Action;
use delta_core::onion::deliver::{self, Delivery};
use delta_core::onion::directory::{NodeRecord, RecordObject, SignedList};
use delta_core::sync::frame::Frame;
use delta_core::sync::proof::{Purpose, ReadKey};
use delta_core::topic::{Chain, Generation, Seq, SignedHead, TopicId, WriteKey};
use ed25519_dalek::SigningKey;
use serde_json::Value;

use crate::{array, bytes, rows};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/server.json")).unwrap()
}

fn server(vectors: &Value) -> SigningKey {
    let key = SigningKey::from_bytes(&array(&vectors["server_seed"]));
    assert_eq!(key.verifying_key().to_bytes(), array(&vectors["server_id"]));
    key
}

fn write_key(vectors: &Value) -> WriteKey {
    let key = WriteKey::from_seed(array(&vectors["write_seed"]));
    assert_eq!((key.verifying_key().0, key.topic()), (array(&vectors["write_vk"]), topic(vectors)));
    key
}

fn topic(vectors: &Value) -> TopicId {
    TopicId(array(&vectors["topic_id"]))
}

#[test]
fn chains_and_signed_heads_are_those_of_the_vectors() {
    let vectors = vectors();
    let (topic, generation) = (topic(&vectors), Generation(array(&vectors["generation"])));
    let mut chain = Chain::start(&topic, &generation);
    let expected = rows(&vectors["chain"], 5);
    assert_eq!(chain.0, array(&expected[0]));
    for (seq, (op, expected)) in (1..).zip(rows(&vectors["ops"], 4).iter().zip(&expected[1..])) {
        chain = chain.next(Seq(seq), &EnvelopeHash::of(&bytes(op)));
        assert_eq!(chain.0, array(expected));
    }
    let head = SignedHead::sign(&server(&vectors), &topic, &generation, Seq(4), chain);
    let encoded = [&4u64.to_be_bytes()[..], &chain.0, &head.signature].concat();
    assert_eq!(hex::encode(encoded), vectors["signed_head"]);
    assert!(head.verify(&server(&vectors).verifying_key(), &topic, &generation));
}

#[test]
fn frames_are_read_and_written_byte_for_byte() {
    let vectors = vectors();
    for (name, frame) in vectors["frames"].as_object().unwrap() {
        let read = Frame::decode(bytes(frame).into()).unwrap();
        assert_eq!(hex::encode(read.encode()), *frame, "{name}");
        let fits = match &read {
            Frame::Hello { head, tail, max_op, .. } => (head.0, tail.0, *max_op) == (4, 1, 1 << 20),
            Frame::Ops(ops) => ops.len() == 4 && ops[2].op.len() == 1000,
            Frame::Ready(head) => (head.head, head.chain.0) == (Seq(4), array(&vectors["chain"][4])),
            Frame::Gap { from, to, chain } => (from.0, to.0, chain.0) == (1, 3, array(&vectors["chain"][3])),
            Frame::Reset { generation, head } => (generation.0, head.0) == (array(&vectors["generation"]), 4),
            Frame::Signal(said) => &said[..] == b"signal",
            Frame::Slow { retry_after_ms } => *retry_after_ms == 1500,
            Frame::Head(head) => (head.head, head.chain.0) == (Seq(0), array(&vectors["chain"][0])),
        };
        assert!(fits, "{name}: {read:?}");
        // No frame but `ops` and `signal` says its own length: what is missing or too much is found all the same.
        let whole = bytes(frame);
        for wrong in [whole[..whole.len() - 1].to_vec(), [&whole[..], &[0]].concat()] {
            assert!(Frame::decode(wrong.into()).is_err(), "{name}");
        }
    }
}

/// The same content written by this library.
fn written(key: &WriteKey, read: &Delivery<'_>) -> Vec<u8> {
    match read.flags {
        deliver::FLAG_OPERATION => deliver::encode_operation(key, read.payload).unwrap(),
        deliver::FLAG_LIST => deliver::encode_list(key, &read.operations().unwrap()).unwrap(),
        deliver::FLAG_SIGNAL => deliver::encode_signal(key, read.signal().unwrap()).unwrap(),
        _ => deliver::encode_control(key, &read.control().unwrap()).unwrap(),
    }
}

#[test]
fn deliver_content_is_signed_and_checked_byte_for_byte() {
    let vectors = vectors();
    let key = write_key(&vectors);
    for row in rows(&vectors["deliver"]["good"], 11) {
        let content = bytes(&row["content"]);
        let read = deliver::verify(&content).unwrap_or_else(|error| panic!("{}: {error}", row["name"]));
        assert_eq!((read.topic, read.write_vk), (topic(&vectors), key.verifying_key()));
        assert_eq!(
            (Some(u64::from(read.flags)), hex::encode(read.payload)),
            (row["flags"].as_u64(), text(row))
        );
        // Unknown keys are read over and not written.
        if row["name"] != "control 4" {
            assert_eq!(written(&key, &read), content, "{}", row["name"]);
        }
        if row["name"] == "no read key" {
            assert_eq!(read.control().unwrap().action, Action::ReadKey(None));
        }
    }
    for row in rows(&vectors["deliver"]["refused"], 27) {
        assert!(deliver::verify(&bytes(&row["content"])).is_err(), "{}", row["name"]);
    }
}

fn text(row: &Value) -> String {
    row["payload"].as_str().unwrap().to_owned()
}

#[test]
fn proofs_are_made_and_checked_byte_for_byte() {
    let vectors = vectors();
    let (id, topic) = (NodeId(array(&vectors["server_id"])), topic(&vectors));
    let read = ReadKey::from_seed(array(&vectors["read_seed"])).signing_key();
    let nonce = array(&vectors["proofs"]["nonce"]);
    for (purpose, key, name) in
        [(Purpose::Read, read, "read"), (Purpose::Count, write_key(&vectors).signing_key(), "count")]
    {
        let proof = purpose.prove(&key, &id, &topic, &nonce);
        assert_eq!(hex::encode(proof), vectors["proofs"][name]);
        assert!(purpose.verify(&key.verifying_key().to_bytes(), &id, &topic, &nonce, &proof));
    }
}

fn record(value: &Value) -> Option<NodeRecord> {
    RecordObject::from_value(value.clone()).ok()?.verify().ok()
}

#[test]
fn records_are_written_signed_and_read_as_the_vectors_say() {
    let vectors = vectors();
    let said = &vectors["records"];
    for (name, object) in said["written"].as_object().unwrap() {
        let read = record(object).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(read.id.0, array(&said["id"]));
        let made = RecordObject::sign(&server(&vectors), &read, object["seq"].as_u64().unwrap()).unwrap();
        assert_eq!(made.to_value(), *object, "{name}");
    }
    let full = record(&said["written"]["all fields"]).unwrap();
    for (key, row) in full.keys.iter().zip(rows(&said["keys"], 2)) {
        assert_eq!((Some(u64::from(key.kid)), key.public), (row["kid"].as_u64(), array(&row["public"])));
    }
    assert_eq!(
        (full.operator.as_deref(), full.max_class, full.tunnel),
        (said["operator"].as_str(), Some(4), true)
    );
    for (name, object) in said["read_too"].as_object().unwrap() {
        assert!(record(object).is_some_and(|read| read.tunnel && read.expires == 1_800_000_000), "{name}");
    }
    for (name, object) in said["refused"].as_object().unwrap() {
        assert_eq!(record(object), None, "{name}");
    }
}

#[test]
fn a_lists_signatures_count_for_those_who_signed() {
    let vectors = vectors();
    let said = &vectors["directory"];
    let list = SignedList::parse(said["list"].as_str().unwrap()).unwrap();
    let signers: Vec<NodeId> = rows(&said["signers"], 2).iter().map(|key| NodeId(array(key))).collect();
    let trusted = [&signers[..], &[NodeId(array(&said["did_not_sign"]))]].concat();
    assert_eq!(list.signatures.len(), 3);
    assert_eq!(list.signers(&trusted), signers);
    assert_eq!(list.signers(&trusted[1..]), signers[1..]);
}
