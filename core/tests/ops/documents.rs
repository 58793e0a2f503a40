//! Documents on the wire: their bytes, and every limit at it and past it, on both sides.

use cbor_core::{Map, Value};
use delta_core::identity::{LogId, OperationId};
use delta_core::limits::{MAX_DOCUMENT_PART, MAX_PATH};
use delta_core::ops::{
    Body, Content, CreateError, DeviceKey, DocumentPart, EncodeError, Flaw, LimitError, create,
};

const ID: [u8; 32] = [5; 32];

fn make(path: &str) -> Content {
    Content::DocumentCreate { path: path.into() }
}

fn part(len: usize, snapshot: bool) -> Content {
    let (document, bytes) = (OperationId(ID), vec![7; len]);
    Content::DocumentPart(Box::new(DocumentPart { document, bytes, snapshot }))
}

fn decode(kind: &'static str, pairs: Vec<(u64, Value<'static>)>) -> Content {
    let body = Map::from_pairs([(0, Value::from(kind)), (1, Value::from(Map::from_pairs(pairs)))]);
    Body::decode(&Value::from(body).encode()).unwrap().content
}

#[test]
fn the_bytes_are_those_of_the_document() {
    let id = "05".repeat(32);
    // {0: "document.create", 1: {0: "a/b"}}, {0: "document.change", 1: {0: id, 1: h'0707'}} and the same with
    // "document.snapshot", RFC 8949.
    for (content, bytes) in [
        (make("a/b"), "a2006f646f63756d656e742e63726561746501a10063612f62".to_owned()),
        (part(2, false), format!("a2006f646f63756d656e742e6368616e676501a2005820{id}01420707")),
        (part(2, true), format!("a20071646f63756d656e742e736e617073686f7401a2005820{id}01420707")),
    ] {
        let body = Body::new(content);
        assert_eq!(hex::encode(body.encode().unwrap()), bytes);
        assert_eq!(Body::decode(&hex::decode(bytes).unwrap()), Ok(body));
    }
}

#[test]
fn what_is_written_is_within_the_limits() {
    for content in [
        make("a"),
        make(&"a".repeat(MAX_PATH)),
        make("ä/b c/.."),
        part(0, false),
        part(MAX_DOCUMENT_PART, true),
    ] {
        let body = Body::new(content);
        assert_eq!(Body::decode(&body.encode().unwrap()), Ok(body));
    }
    let key = DeviceKey::from_bytes(&[1; 32]);
    let refused = |content| create(&key, LogId(ID), 0, None, &Body::new(content)).unwrap_err();
    let limit = |limit| CreateError::Body(EncodeError::Limit(limit));
    for path in ["", "/", "/a", "a/", "a//b", &"a".repeat(MAX_PATH + 1)] {
        assert_eq!(refused(make(path)), limit(LimitError::Path { len: path.len() }), "{path}");
    }
    let len = MAX_DOCUMENT_PART + 1;
    assert_eq!(refused(part(len, false)), limit(LimitError::DocumentPart { len }));
    // A part of the largest size is an operation that can be sent.
    create(&key, LogId(ID), 0, None, &Body::new(part(MAX_DOCUMENT_PART, true))).unwrap();
}

#[test]
fn what_is_read_past_a_limit_or_of_a_wrong_type_is_skipped_not_refused() {
    let text = |text: &str| Value::from(text.to_owned());
    let bytes = |len: usize| Value::from(vec![7_u8; len]);
    let malformed = |kind, flaw| Content::Malformed { kind, flaw };
    let create = "document.create";
    assert_eq!(decode(create, vec![]), malformed(create, Flaw::Missing(0)));
    assert_eq!(decode(create, vec![(0, bytes(1))]), malformed(create, Flaw::WrongType(0)));
    let flaw = Flaw::Limit(LimitError::Path { len: 2 });
    assert_eq!(decode(create, vec![(0, text("a/"))]), malformed(create, flaw));
    let id = || Value::from(ID);
    for kind in ["document.change", "document.snapshot"] {
        assert_eq!(decode(kind, vec![(0, id())]), malformed(kind, Flaw::Missing(1)));
        assert_eq!(decode(kind, vec![(0, bytes(31)), (1, bytes(1))]), malformed(kind, Flaw::WrongType(0)));
        assert_eq!(decode(kind, vec![(0, id()), (1, text("a"))]), malformed(kind, Flaw::WrongType(1)));
        let len = MAX_DOCUMENT_PART + 1;
        let flaw = Flaw::Limit(LimitError::DocumentPart { len });
        assert_eq!(decode(kind, vec![(0, id()), (1, bytes(len))]), malformed(kind, flaw));
        let at_the_limit = decode(kind, vec![(0, id()), (1, bytes(MAX_DOCUMENT_PART))]);
        assert!(matches!(at_the_limit, Content::DocumentPart(_)));
    }
}
