//! Key-values on the wire: their bytes, and every limit at it and past it, on both sides.

use cbor_core::{Map, Value};
use delta_core::identity::{LogId, OperationId};
use delta_core::limits::{MAX_COLLECTION, MAX_KEY, MAX_REPLACED, MAX_VALUE};
use delta_core::ops::{
    Body, Content, CreateError, DeviceKey, EncodeError, Flaw, HybridTime, KeyValue, LimitError, ValueKey,
    create,
};

const ID: [u8; 32] = [5; 32];

fn write(collection: usize, key: usize, value: Option<usize>, replaces: usize) -> Content {
    Content::KeyValue(Box::new(KeyValue {
        at: ValueKey::new("x".repeat(collection), "x".repeat(key)),
        value: value.map(|len| vec![7; len]),
        time: HybridTime::MAX,
        replaces: vec![OperationId(ID); replaces],
    }))
}

fn decode(kind: &'static str, pairs: Vec<(u64, Value<'static>)>) -> Content {
    let body = Map::from_pairs([(0, Value::from(kind)), (1, Value::from(Map::from_pairs(pairs)))]);
    Body::decode(&Value::from(body).encode()).unwrap().content
}

#[test]
fn the_bytes_are_those_of_the_document() {
    let put = KeyValue {
        at: ValueKey::new("c", "k"),
        value: Some(vec![1, 2]),
        time: HybridTime::from_number(3).unwrap(),
        replaces: Vec::new(),
    };
    let delete = KeyValue { value: None, ..put.clone() };
    // {0: "kv.put", 1: {0: "c", 1: "k", 2: 3, 3: h'0102'}} and {0: "kv.delete", 1: {0: "c", 1: "k", 2: 3}}, RFC 8949.
    for (write, bytes) in [
        (put, "a200666b762e70757401a400616301616b020303420102"),
        (delete, "a200696b762e64656c65746501a300616301616b0203"),
    ] {
        let body = Body::new(Content::KeyValue(Box::new(write)));
        assert_eq!(hex::encode(body.encode().unwrap()), bytes);
        assert_eq!(Body::decode(&hex::decode(bytes).unwrap()), Ok(body));
    }
}

#[test]
fn what_is_written_is_within_the_limits() {
    for content in [
        write(1, 1, Some(0), 0),
        write(MAX_COLLECTION, MAX_KEY, Some(MAX_VALUE), MAX_REPLACED),
        write(MAX_COLLECTION, MAX_KEY, None, MAX_REPLACED),
    ] {
        let body = Body::new(content);
        assert_eq!(Body::decode(&body.encode().unwrap()), Ok(body));
    }
    let key = DeviceKey::from_bytes(&[1; 32]);
    for (content, limit) in [
        (write(0, 1, None, 0), LimitError::Collection { len: 0 }),
        (write(MAX_COLLECTION + 1, 1, None, 0), LimitError::Collection { len: MAX_COLLECTION + 1 }),
        (write(1, 0, None, 0), LimitError::Key { len: 0 }),
        (write(1, MAX_KEY + 1, None, 0), LimitError::Key { len: MAX_KEY + 1 }),
        (write(1, 1, Some(MAX_VALUE + 1), 0), LimitError::Value { len: MAX_VALUE + 1 }),
        (write(1, 1, None, MAX_REPLACED + 1), LimitError::Replaced { count: MAX_REPLACED + 1 }),
    ] {
        let refused = create(&key, LogId(ID), 0, None, &Body::new(content));
        assert_eq!(refused, Err(CreateError::Body(EncodeError::Limit(limit))));
    }
}

#[test]
fn what_is_read_past_a_limit_or_of_a_wrong_type_is_skipped_not_refused() {
    let text = |len: usize| Value::from("x".repeat(len));
    let pairs = |key: Value<'static>, time: Value<'static>, value: Value<'static>| {
        vec![(0, text(1)), (1, key), (2, time), (3, value)]
    };
    let bytes = |len: usize| Value::from(vec![7_u8; len]);
    let put = |pairs| decode("kv.put", pairs);
    let malformed = |flaw| Content::Malformed { kind: "kv.put", flaw };
    let limit = |error| malformed(Flaw::Limit(error));
    let past = 1_u64 << 63;
    assert!(matches!(put(pairs(text(1), Value::from(past - 1), bytes(0))), Content::KeyValue(_)));
    assert_eq!(put(pairs(text(1), Value::from(past), bytes(0))), limit(LimitError::Time { time: past }));
    let len = MAX_VALUE + 1;
    assert_eq!(put(pairs(text(1), Value::from(1), bytes(len))), limit(LimitError::Value { len }));
    let len = MAX_KEY + 1;
    assert_eq!(put(pairs(text(len), Value::from(1), bytes(0))), limit(LimitError::Key { len }));
    assert_eq!(put(pairs(text(1), text(1), bytes(0))), malformed(Flaw::WrongType(2)));
    assert_eq!(put(pairs(text(1), Value::from(1), text(1))), malformed(Flaw::WrongType(3)));
    assert_eq!(put(vec![(0, text(1)), (1, text(1)), (2, Value::from(1))]), malformed(Flaw::Missing(3)));
    let replaced = |ids| vec![(0, text(1)), (1, text(1)), (2, Value::from(1)), (4, ids)];
    let ids = |count| Value::from(vec![Value::from(ID); count]);
    assert!(matches!(decode("kv.delete", replaced(ids(MAX_REPLACED))), Content::KeyValue(_)));
    let (flaw, kind) = (Flaw::Limit(LimitError::Replaced { count: MAX_REPLACED + 1 }), "kv.delete");
    assert_eq!(decode(kind, replaced(ids(MAX_REPLACED + 1))), Content::Malformed { kind, flaw });
    let flaw = Flaw::WrongType(4);
    assert_eq!(decode(kind, replaced(Value::from(vec![text(1)]))), Content::Malformed { kind, flaw });
}
