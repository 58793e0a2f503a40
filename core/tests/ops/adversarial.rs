//! Operations and envelopes made to harm: what is refused, and before what work. The numbers in the names are those
//! of the project's catalogue of adversarial cases.

use std::iter;

use cbor_core::{Error as Cbor, Map, Value};
use delta_core::codec::DecodeError;
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{LogId, OperationId};
use delta_core::limits::{
    MAX_BODY_ITEMS, MAX_BODY_NESTING, MAX_ENVELOPE, MAX_HEADER, MAX_HEADER_FIELD, MAX_OPERATION,
};
use delta_core::ops::{
    Body, BodyError, ChainError, Content, CreateError, DeviceKey, EnvelopeError, KeyRing, Rejected,
    SealError, Ticket, TopicKeys, VerifiedOperation, create, peek, verify,
};
use ed25519_dalek::{Signer, SigningKey};

const LOG: LogId = LogId([4; 32]);
const SEED: [u8; 32] = [1; 32];

fn private(seed: u8) -> Ticket {
    Ticket::generate_private(&mut SeededEntropy::new([seed; 32])).unwrap()
}

fn message(text: &str) -> Body {
    Body::new(Content::MessageSend {
        text: text.to_owned(),
        reply: None,
        mentions: Vec::new(),
        attachments: Vec::new(),
    })
}

fn first(text: &str) -> VerifiedOperation {
    create(&DeviceKey::from_bytes(&SEED), LOG, 0, None, &message(text)).unwrap()
}

/// The header fields after the signature, of an operation with this body.
pub(super) fn fields(
    body: &[u8],
    seq_num: u64,
    backlink: Option<[u8; 32]>,
    extensions: Value<'static>,
) -> Vec<Value<'static>> {
    let mut fields = vec![Value::from(body.len() as u64), Value::from(*blake3::hash(body).as_bytes())];
    fields.push(Value::from(seq_num));
    fields.extend(backlink.map(Value::from));
    fields.push(extensions);
    fields
}

pub(super) fn log_only() -> Value<'static> {
    Value::from(Map::from_pairs([(0, Value::from(LOG.0))]))
}

/// A header with any fields, rightly signed by [`SEED`].
pub(super) fn signed(fields: Vec<Value<'static>>) -> Vec<u8> {
    let key = SigningKey::from_bytes(&SEED);
    let mut all = vec![Value::from(1), Value::from(key.verifying_key().to_bytes())];
    all.extend(fields);
    let signature = key.sign(&Value::from(all.clone()).encode());
    all.insert(2, Value::from(signature.to_bytes()));
    Value::from(all).encode()
}

fn signed_body(body: &[u8]) -> Vec<u8> {
    signed(fields(body, 0, None, log_only()))
}

/// The same header with a signature that cannot verify: what is still refused for another reason was refused before.
fn unsigned(header: &[u8]) -> Vec<u8> {
    let Value::Array(mut all) = Value::decode_owned(header).unwrap() else { panic!("no header") };
    all[2] = Value::from([0; 64]);
    Value::from(all).encode()
}

#[test]
fn the_helpers_make_what_create_makes() {
    let operation = first("hi");
    assert_eq!(signed_body(operation.body_bytes()), operation.header());
    let forged = unsigned(operation.header());
    assert_eq!(verify(&forged, operation.body_bytes(), &LOG), Err(Rejected::Signature));
}

#[test]
fn case_47_an_envelope_of_another_topic_is_refused() {
    let (ours, other, unknown) = (private(1).keys(), private(2).keys(), private(3).keys());
    let mut ring = KeyRing::default();
    ring.insert(ours.clone());
    ring.insert(other.clone());
    let operation = first("hi");
    let seal = |keys: &TopicKeys| keys.seal(operation.header(), operation.body_bytes()).unwrap();

    let theirs = seal(&other);
    assert_eq!(ring.open(&ours.topic(), &theirs), Err(EnvelopeError::WrongTopic { actual: other.topic() }));
    assert!(ring.open(&other.topic(), &theirs).is_ok());

    // A key nobody here knows may still arrive; an unknown topic too.
    let key_id = unknown.key_id().unwrap();
    assert_eq!(ring.open(&ours.topic(), &seal(&unknown)), Err(EnvelopeError::NoKey { key_id }));
    assert_eq!(ring.open(&unknown.topic(), &seal(&unknown)), Err(EnvelopeError::NoKey { key_id }));

    // Relabelled with the key id of the topic it is replayed to, it does not open.
    let mut relabelled = theirs;
    relabelled[1..9].copy_from_slice(&ours.key_id().unwrap());
    assert_eq!(ring.open(&ours.topic(), &relabelled), Err(EnvelopeError::Forged));

    // One secret for two topics does not make their envelopes interchangeable.
    let (seed_a, seed_b) = ([7; 32], [8; 32]);
    let twin = |seed| Ticket::private(LOG, 0, delta_core::topic::WriteKey::from_seed(seed), [9; 32]).keys();
    assert_ne!(twin(seed_a).key_id(), twin(seed_b).key_id());
    assert!(twin(seed_b).open(&seal(&twin(seed_a))).is_err());

    ring.remove(&other.topic());
    assert!(matches!(ring.open(&ours.topic(), &seal(&other)), Err(EnvelopeError::NoKey { .. })));
}

#[test]
fn a_topic_takes_only_its_kind_of_envelope() {
    let public = Ticket::generate_public(&mut SeededEntropy::new([1; 32])).unwrap().keys();
    let private = private(1).keys();
    let operation = first("hi");
    let plain = public.seal(operation.header(), operation.body_bytes()).unwrap();
    let sealed = private.seal(operation.header(), operation.body_bytes()).unwrap();
    assert_eq!(private.open(&plain), Err(EnvelopeError::WrongKind { found: 0 }));
    assert_eq!(public.open(&sealed), Err(EnvelopeError::WrongKind { found: 3 }));
    for found in (0..=255u8).filter(|kind| *kind != 3) {
        let envelope = iter::once(found).chain(sealed[1..].iter().copied()).collect::<Vec<_>>();
        assert_eq!(private.open(&envelope), Err(EnvelopeError::WrongKind { found }));
    }
    for keys in [&private, &public] {
        assert_eq!(keys.open(&[]), Err(EnvelopeError::Malformed(DecodeError::Truncated("envelope"))));
    }
}

#[test]
fn every_flipped_bit_of_an_envelope_is_refused() {
    let keys = private(1).keys();
    let operation = first("hi");
    let envelope = keys.seal(operation.header(), operation.body_bytes()).unwrap();
    for at in 0..envelope.len() * 8 {
        let mut flipped = envelope.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        let error = keys.open(&flipped).unwrap_err();
        match at / 8 {
            0 => assert!(matches!(error, EnvelopeError::WrongKind { .. })),
            1..9 => assert!(matches!(error, EnvelopeError::NoKey { .. })),
            _ => assert_eq!(error, EnvelopeError::Forged, "bit {at}"),
        }
    }
    for len in 0..envelope.len() {
        assert!(keys.open(&envelope[..len]).is_err(), "cut to {len}");
    }
    let mut longer = envelope;
    longer.push(0);
    assert_eq!(keys.open(&longer), Err(EnvelopeError::Padding));
}

#[test]
fn an_operation_of_exactly_the_limit_fits_an_envelope_and_one_more_byte_does_not() {
    let (keys, header) = (private(1).keys(), [1; 300]);
    let public = Ticket::generate_public(&mut SeededEntropy::new([1; 32])).unwrap().keys();
    let body = vec![2; MAX_OPERATION - header.len()];
    for keys in [&keys, &public] {
        let envelope = keys.seal(&header, &body).unwrap();
        assert!(envelope.len() <= MAX_ENVELOPE, "{}", envelope.len());
        assert_eq!(keys.open(&envelope).unwrap().body, body);
        let too_large = SealError::TooLarge { len: MAX_OPERATION + 1 };
        assert_eq!(keys.seal(&header, &[&body[..], &[2]].concat()), Err(too_large));
    }
    assert!(keys.seal(&vec![1; MAX_HEADER], &[]).is_ok());
    assert_eq!(keys.seal(&vec![1; MAX_HEADER + 1], &[]), Err(SealError::TooLarge { len: MAX_HEADER + 1 }));

    let mut plain = public.seal(&header, &body).unwrap();
    plain.push(2);
    assert_eq!(public.open(&plain), Err(EnvelopeError::TooLong { len: MAX_OPERATION + 1 }));
    for (keys, kind) in [(&keys, 3), (&public, 0)] {
        let mut envelope = vec![0; MAX_ENVELOPE + 1];
        envelope[0] = kind;
        assert_eq!(keys.open(&envelope), Err(EnvelopeError::TooLong { len: MAX_ENVELOPE + 1 }));
    }
}

#[test]
fn an_operation_of_exactly_the_limit_verifies_and_one_more_byte_does_not() {
    let body_of = |filler: usize| {
        let payload = Value::from(Map::from_pairs([(0, Value::from(vec![0; filler]))]));
        Value::from(Map::from_pairs([(0, Value::from("blob.test")), (1, payload)])).encode()
    };
    let spare = body_of(900_000).len() + signed_body(&body_of(900_000)).len() - 900_000;
    let body = body_of(MAX_OPERATION - spare);
    let header = signed_body(&body);
    assert_eq!(header.len() + body.len(), MAX_OPERATION);
    let operation = verify(&header, &body, &LOG).unwrap();
    assert_eq!(operation.body().content, Content::Unknown { kind: "blob.test".to_owned() });
    assert_eq!(operation.body_bytes(), body);

    let body = body_of(MAX_OPERATION - spare + 1);
    let too_long = Rejected::TooLong { len: MAX_OPERATION + 1 };
    assert_eq!(verify(&signed_body(&body), &body, &LOG), Err(too_long));
}

#[test]
fn case_49_truncated_operations_are_refused() {
    let operation = first("hi");
    let (header, body) = (operation.header(), operation.body_bytes());
    for len in 0..header.len() {
        assert_eq!(peek(&header[..len]), Err(Rejected::HeaderCbor(Cbor::UnexpectedEof)), "{len}");
        assert!(verify(&header[..len], body, &LOG).is_err());
    }
    for len in 0..body.len() {
        assert_eq!(Body::decode(&body[..len]), Err(BodyError::Cbor(Cbor::UnexpectedEof)), "{len}");
        assert!(verify(header, &body[..len], &LOG).is_err());
    }
}

/// An array in an array in an array …
fn nested(depth: usize) -> Vec<u8> {
    iter::repeat_n(0x81, depth).chain([0]).collect()
}

/// A body of an unknown kind whose payload is {0: …}, written by hand.
fn body_around(value: &[u8]) -> Vec<u8> {
    [&[0xa2, 0x00, 0x61, b'x', 0x01, 0xa1, 0x00], value].concat()
}

#[test]
fn case_49_deep_nesting_is_refused_without_a_deep_stack() {
    for depth in [10_000, 60_000] {
        let value = nested(depth);
        assert_eq!(peek(&value), Err(Rejected::HeaderCbor(Cbor::NestingTooDeep)));
        assert_eq!(Body::decode(&body_around(&nested(depth.min(MAX_BODY_ITEMS - 10)))).unwrap_err(), {
            BodyError::Cbor(Cbor::NestingTooDeep)
        });
        // In the extension, under a right signature: 64 levels are counted from the header's own array.
        let mut extension = vec![0xa2, 0x00, 0x58, 0x20];
        extension.extend_from_slice(&LOG.0);
        extension.push(0x01);
        extension.extend_from_slice(&value);
        let mut header = first("hi").header().to_vec();
        header.truncate(header.len() - 36);
        header.extend_from_slice(&extension);
        assert_eq!(peek(&header), Err(Rejected::HeaderCbor(Cbor::NestingTooDeep)));
    }
    // In a header 64 levels, of which two are its own array and the map of extensions; p2panda has the same limit.
    let body = first("hi").body_bytes().to_vec();
    let with = |depth| {
        let value = (0..depth).fold(Value::from(0), |inner, _| Value::from([inner]));
        let extension = Map::from_pairs([(0, Value::from(LOG.0)), (9, value)]);
        signed(fields(&body, 0, None, Value::from(extension)))
    };
    let p2panda_takes = |header: &[u8]| p2panda_core::AnyHeader::decode(header).is_ok();
    assert!(verify(&with(62), &body, &LOG).is_ok() && p2panda_takes(&with(62)));
    assert_eq!(verify(&with(63), &body, &LOG), Err(Rejected::HeaderCbor(Cbor::NestingTooDeep)));
    assert!(!p2panda_takes(&with(63)));
    // Tags nest like arrays.
    let tags: Vec<u8> = iter::repeat_n(0xc6, 30_000).chain([0]).collect();
    assert_eq!(peek(&tags), Err(Rejected::HeaderCbor(Cbor::NestingTooDeep)));
    assert_eq!(Body::decode(&body_around(&tags)), Err(BodyError::Cbor(Cbor::NestingTooDeep)));
    // At the limit of a body and one past it; two levels are the body's own maps.
    let depth = usize::from(MAX_BODY_NESTING) - 2;
    assert!(Body::decode(&body_around(&nested(depth))).is_ok());
    let past = Body::decode(&body_around(&nested(depth + 1)));
    assert_eq!(past, Err(BodyError::Cbor(Cbor::NestingTooDeep)));
}

#[test]
fn case_49_lengths_nobody_sent_reserve_no_memory() {
    for major in [0x5b, 0x7b, 0x9b, 0xbb] {
        for len in [u64::from(u32::MAX), u64::MAX] {
            let claim = [&[major][..], &len.to_be_bytes()].concat();
            assert!(peek(&claim).is_err());
            assert!(Body::decode(&body_around(&claim)).is_err());
        }
        let claim = [major - 1, 0xff, 0xff, 0xff, 0xff];
        assert!(peek(&claim).is_err());
        assert!(Body::decode(&body_around(&claim)).is_err());
    }
    // Nested claims of many items, each within what it may claim.
    let claims = iter::repeat_n([0x9a, 0x00, 0x0f, 0x00, 0x00], 30).flatten().collect::<Vec<_>>();
    assert_eq!(Body::decode(&body_around(&claims)), Err(BodyError::Cbor(Cbor::UnexpectedEof)));
}

#[test]
fn case_49_a_body_of_many_small_items_is_refused_before_it_is_built() {
    let body_of = |items: usize| {
        let mut array = vec![0x99];
        array.extend_from_slice(&(items as u16).to_be_bytes());
        array.extend(iter::repeat_n(0, items));
        body_around(&array)
    };
    // Seven more items: the body's map, two keys, the kind, the payload's map, its key, and the array.
    assert!(Body::decode(&body_of(MAX_BODY_ITEMS - 7)).is_ok());
    assert_eq!(Body::decode(&body_of(MAX_BODY_ITEMS - 6)), Err(BodyError::TooManyItems));
    assert_eq!(Body::decode(&vec![0x80; MAX_OPERATION]), Err(BodyError::TooManyItems));
}

#[test]
fn case_49_only_deterministic_cbor_is_a_body() {
    let good = [0xa2, 0x00, 0x61, b'x', 0x01, 0xa0];
    assert!(Body::decode(&good).is_ok());
    let cases: [(&str, &[u8]); 11] = [
        ("trailing byte", &[0xa2, 0x00, 0x61, b'x', 0x01, 0xa0, 0x00]),
        ("indefinite map", &[0xbf, 0x00, 0x61, b'x', 0x01, 0xa0, 0xff]),
        ("indefinite payload", &[0xa2, 0x00, 0x61, b'x', 0x01, 0xbf, 0xff]),
        ("indefinite text", &[0xa2, 0x00, 0x7f, 0x61, b'x', 0xff, 0x01, 0xa0]),
        ("unsorted keys", &[0xa2, 0x01, 0xa0, 0x00, 0x61, b'x']),
        ("duplicate key", &[0xa3, 0x00, 0x61, b'x', 0x01, 0xa0, 0x01, 0xa0]),
        ("long key", &[0xa2, 0x18, 0x00, 0x61, b'x', 0x01, 0xa0]),
        ("long length", &[0xa2, 0x00, 0x78, 0x01, b'x', 0x01, 0xa0]),
        ("long number", &[0xa3, 0x00, 0x61, b'x', 0x01, 0xa0, 0x02, 0x18, 0x17]),
        ("long float in an unknown key", &[0xa3, 0x00, 0x61, b'x', 0x01, 0xa0, 0x09, 0xfa, 0, 0, 0, 0]),
        ("broken utf-8", &[0xa2, 0x00, 0x61, 0xff, 0x01, 0xa0]),
    ];
    for (what, bytes) in cases {
        assert!(matches!(Body::decode(bytes), Err(BodyError::Cbor(_))), "{what}");
        assert!(matches!(verify(&signed_body(bytes), bytes, &LOG), Err(Rejected::Body(_))), "{what}");
    }
    // Keys are sorted by their encoded bytes (RFC 8949), not by length first (RFC 7049): 100 before -1.
    assert!(Body::decode(&body_around(&[0xa2, 0x18, 0x64, 0x00, 0x20, 0x00])).is_ok());
    assert!(Body::decode(&body_around(&[0xa2, 0x20, 0x00, 0x18, 0x64, 0x00])).is_err());
}

#[test]
fn case_49_only_deterministic_cbor_is_a_header() {
    let operation = first("hi");
    let (header, body) = (operation.header(), operation.body_bytes());
    let mut trailing = header.to_vec();
    trailing.push(0);
    assert!(matches!(peek(&trailing), Err(Rejected::HeaderCbor(_))));
    let mut indefinite = header.to_vec();
    indefinite[0] = 0x9f;
    indefinite.push(0xff);
    assert!(matches!(peek(&indefinite), Err(Rejected::HeaderCbor(_))));
    let long_version = [&header[..1], &[0x18, 0x01], &header[2..]].concat();
    assert!(matches!(peek(&long_version), Err(Rejected::HeaderCbor(_))));
    for bad in [trailing, indefinite, long_version] {
        assert!(verify(&bad, body, &LOG).is_err());
    }
    // A tag around a field would give it a second encoding.
    let tagged = |at: usize| {
        let mut fields = fields(body, 0, None, log_only());
        fields[at] = Value::tag(55_799, fields[at].clone());
        signed(fields)
    };
    for at in 0..4 {
        assert_eq!(verify(&tagged(at), body, &LOG), Err(Rejected::HeaderTag), "field {at}");
    }
}

#[test]
fn case_49_a_tag_anywhere_in_a_signed_header_is_refused_without_a_panic() {
    let body = first("hi").body_bytes().to_vec();
    let with = |key: Value<'static>, value: Value<'static>| {
        let extension = Map::from_pairs([(Value::from(0), Value::from(LOG.0)), (key, value)]);
        signed(fields(&body, 0, None, Value::from(extension)))
    };
    let plain = || {
        let array = Value::from([Value::from(1), Value::null()]);
        let map = Value::from(Map::from_pairs([(Value::from(true), Value::from(1.5))]));
        let (text, bytes) = (Value::from("text"), Value::from([1, 2, 3]));
        let (simple, number) = (Value::simple_value(99), Value::from(-7));
        [Value::from(false), Value::null(), simple, number, Value::from(1.0e300), text, bytes, array, map]
    };
    for value in plain() {
        // Without a tag it is an unknown key like any other.
        for header in [with(value.clone(), Value::from(0)), with(Value::from(9), value.clone())] {
            assert!(verify(&header, &body, &LOG).is_ok(), "{value:?}");
        }
        let tags = [Value::tag(100, value.clone()), Value::tag(2, Value::tag(100, value.clone()))];
        for tagged in tags {
            let inner = Value::from([Value::from(Map::from_pairs([(tagged.clone(), Value::from(0))]))]);
            let headers = [
                with(tagged.clone(), Value::from(0)),
                with(Value::from(9), tagged.clone()),
                with(Value::from(9), inner.clone()),
                with(inner, Value::from(0)),
            ];
            for header in headers {
                assert_eq!(verify(&header, &body, &LOG), Err(Rejected::HeaderTag), "{tagged:?}");
            }
        }
    }
    // Another simple value does not pass for key 0.
    let other = with(Value::simple_value(0), Value::from([5; 32]));
    assert_eq!(verify(&other, &body, &LOG).unwrap().log(), LOG);
}

#[test]
fn case_54_the_last_seq_num_is_refused_and_overflows_nothing() {
    let body = first("hi").body_bytes().to_vec();
    let at = |seq_num: u64| signed(fields(&body, seq_num, Some([7; 32]), log_only()));
    let max = u64::from(u32::MAX);
    assert_eq!(verify(&at(max), &body, &LOG), Err(Rejected::LogFull));
    assert_eq!(verify(&at(max + 1), &body, &LOG), Err(Rejected::HeaderField("seq_num")));
    let last = verify(&at(max - 1), &body, &LOG).unwrap();
    assert_eq!(last.seq_num(), u32::MAX - 1);

    let key = DeviceKey::from_bytes(&SEED);
    let make = |seq_num| create(&key, LOG, seq_num, Some(OperationId([7; 32])), &message("hi"));
    assert_eq!(make(u32::MAX), Err(CreateError::LogFull));
    assert!(make(u32::MAX - 1).is_ok());
    assert_eq!(first("hi").follows(&last.head()), Err(ChainError::SeqNum { head: u32::MAX - 1, found: 0 }));
    let full = delta_core::ops::LogHead { seq_num: u32::MAX, ..last.head() };
    assert_eq!(first("hi").follows(&full), Err(ChainError::SeqNum { head: u32::MAX, found: 0 }));
}

#[test]
fn case_54_seq_num_and_backlink_come_together_or_not_at_all() {
    let body = first("hi").body_bytes().to_vec();
    let zero_with = signed(fields(&body, 0, Some([7; 32]), log_only()));
    let one_without = signed(fields(&body, 1, None, log_only()));
    for header in [zero_with, one_without] {
        assert!(matches!(verify(&header, &body, &LOG), Err(Rejected::HeaderField(_))));
        assert!(matches!(verify(&unsigned(&header), &body, &LOG), Err(Rejected::HeaderField(_))));
    }
    let key = DeviceKey::from_bytes(&SEED);
    let some = Some(OperationId([7; 32]));
    assert_eq!(create(&key, LOG, 0, some, &message("hi")), Err(CreateError::Backlink));
    assert_eq!(create(&key, LOG, 1, None, &message("hi")), Err(CreateError::Backlink));
}

#[test]
fn case_54_a_backlink_to_anything_but_the_predecessor_is_refused() {
    let (alice, bob) = (DeviceKey::from_bytes(&SEED), DeviceKey::from_bytes(&[2; 32]));
    let zero = create(&alice, LOG, 0, None, &message("a0")).unwrap();
    let one = create(&alice, LOG, 1, Some(zero.id()), &message("a1")).unwrap();
    assert_eq!(one.follows(&zero.head()), Ok(()));

    let bobs = create(&bob, LOG, 0, None, &message("b0")).unwrap();
    let across = create(&alice, LOG, 1, Some(bobs.id()), &message("a1")).unwrap();
    assert_eq!(across.follows(&bobs.head()), Err(ChainError::OtherLog));
    assert_eq!(across.follows(&zero.head()), Err(ChainError::Backlink));

    let elsewhere = create(&alice, LogId([5; 32]), 0, None, &message("a0")).unwrap();
    assert_eq!(one.follows(&elsewhere.head()), Err(ChainError::OtherLog));
    let two = create(&alice, LOG, 2, Some(one.id()), &message("a2")).unwrap();
    assert_eq!(two.follows(&zero.head()), Err(ChainError::SeqNum { head: 0, found: 2 }));
    // The id covers the backlink, so an operation that names itself cannot be made: the nearest there is names
    // the id it would have had.
    let itself = create(&alice, LOG, 1, Some(one.id()), &message("a1")).unwrap();
    assert_ne!(itself.backlink(), Some(itself.id()));
    assert_eq!(itself.follows(&zero.head()), Err(ChainError::Backlink));
}

#[test]
fn case_56_large_extensions_are_refused_before_the_signature() {
    let body = first("hi").body_bytes().to_vec();
    let with = |value: Value<'static>| {
        let extension = Map::from_pairs([(0, Value::from(LOG.0)), (9, value)]);
        signed(fields(&body, 0, None, Value::from(extension)))
    };
    let mebibyte = with(Value::from(vec![0; 1024 * 1024]));
    let many = with(Value::from(Map::from_pairs((0..10_000).map(|key| (key, 0)))));
    let long = with(Value::from(vec![0; MAX_HEADER_FIELD + 1]));
    let wide = with(Value::from(vec![Value::from(0); MAX_HEADER_FIELD + 1]));
    for header in [&mebibyte, &many, &long, &wide] {
        let error = verify(&unsigned(header), &body, &LOG).unwrap_err();
        assert_eq!(verify(header, &body, &LOG), Err(error));
        if header.len() > MAX_HEADER {
            assert!(matches!(error, Rejected::TooLong { .. }));
        } else {
            assert_eq!(error, Rejected::HeaderCbor(Cbor::LengthTooLarge));
            assert!(p2panda_core::AnyHeader::decode(header).is_err());
        }
    }
    assert!(mebibyte.len() > MAX_HEADER && many.len() <= MAX_HEADER);
    for at_limit in
        [Value::from(vec![0; MAX_HEADER_FIELD]), Value::from(vec![Value::from(0); MAX_HEADER_FIELD])]
    {
        let header = with(at_limit);
        assert!(verify(&header, &body, &LOG).is_ok() && p2panda_core::AnyHeader::decode(&header).is_ok());
    }
}

#[test]
fn case_57_a_wrong_payload_size_or_hash_is_refused_before_the_signature() {
    let operation = first("hi");
    let (header, body) = (operation.header(), operation.body_bytes());
    let shorter = &body[..body.len() - 1];
    let longer = [body, &[0]].concat();
    let mut other = body.to_vec();
    *other.last_mut().unwrap() ^= 1;
    for header in [header.to_vec(), unsigned(header)] {
        for changed in [shorter, &longer] {
            let claimed = body.len() as u32;
            let sizes = Rejected::PayloadSize { claimed, actual: changed.len() };
            assert_eq!(verify(&header, changed, &LOG), Err(sizes));
        }
        assert_eq!(verify(&header, &other, &LOG), Err(Rejected::PayloadHash));
    }
    // No body at all: p2panda leaves the hash out then.
    let bodiless = signed(vec![Value::from(0), Value::from(0), log_only()]);
    assert_eq!(verify(&bodiless, &[], &LOG), Err(Rejected::NoBody));
    // A size no operation has.
    let mut huge = fields(body, 0, None, log_only());
    huge[0] = Value::from(u32::MAX);
    assert_eq!(verify(&signed(huge), body, &LOG), Err(Rejected::TooLong { len: u32::MAX as usize }));
}

#[test]
fn case_58_an_operation_replayed_in_another_log_is_refused() {
    let operation = first("hi");
    let (a, b) = (private(1), private(2));
    let signed_for_a = create(&DeviceKey::from_bytes(&SEED), a.log(), 0, None, &message("hi")).unwrap();
    // A member of both topics seals it again, rightly, for the other one.
    let replayed = b.keys().seal(signed_for_a.header(), signed_for_a.body_bytes()).unwrap();
    let opened = b.keys().open(&replayed).unwrap();
    assert_eq!(opened.verify(&b.log()), Err(Rejected::WrongLog { found: a.log() }));
    // Refused before the signature; and the log id cannot be exchanged under the signature.
    let forged = unsigned(operation.header());
    let other = LogId([5; 32]);
    assert_eq!(verify(&forged, operation.body_bytes(), &other), Err(Rejected::WrongLog { found: LOG }));
    let mut relabelled = operation.header().to_vec();
    let at = relabelled.len() - 32;
    relabelled[at..].copy_from_slice(&other.0);
    assert_eq!(verify(&relabelled, operation.body_bytes(), &other), Err(Rejected::Signature));
    // Without a log id, or with one of another form, there is nothing to compare.
    let body = operation.body_bytes();
    for value in
        [Value::from(Map::new()), Value::from(Map::from_pairs([(0, Value::from([4; 31]))])), Value::from(0)]
    {
        assert!(matches!(
            verify(&signed(fields(body, 0, None, value)), body, &LOG),
            Err(Rejected::HeaderField(_))
        ));
    }
}

#[test]
fn verification_is_strict() {
    let operation = first("hi");
    let body = operation.body_bytes();
    let with = |author: [u8; 32], signature: [u8; 64]| {
        let mut all = vec![Value::from(1), Value::from(author), Value::from(signature)];
        all.extend(fields(body, 0, None, log_only()));
        Value::from(all).encode()
    };
    // The identity as key and as R, s = 0: a signature of every message for lax verifiers (RFC 8032, 5.1.7).
    let (mut author, mut signature) = ([0; 32], [0; 64]);
    (author[0], signature[0]) = (1, 1);
    assert_eq!(verify(&with(author, signature), body, &LOG), Err(Rejected::Signature));
    // y = 2 is on no point of the curve.
    author[0] = 2;
    assert_eq!(verify(&with(author, signature), body, &LOG), Err(Rejected::AuthorKey));
}

#[test]
fn every_flipped_bit_of_an_operation_is_refused() {
    let operation = first("hi");
    let (header, body) = (operation.header().to_vec(), operation.body_bytes().to_vec());
    for at in 0..header.len() * 8 {
        let mut flipped = header.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(verify(&flipped, &body, &LOG).is_err(), "bit {at}");
    }
    for at in 0..body.len() * 8 {
        let mut flipped = body.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        assert_eq!(verify(&header, &flipped, &LOG), Err(Rejected::PayloadHash), "bit {at}");
    }
}

#[test]
fn case_66_nothing_secret_and_no_content_is_printed() {
    let ticket = private(1);
    let operation = first("a secret text");
    let opened =
        ticket.keys().open(&ticket.keys().seal(operation.header(), operation.body_bytes()).unwrap()).unwrap();
    let mut ring = KeyRing::default();
    ring.insert(ticket.keys());
    let key = DeviceKey::from_bytes(&SEED);
    let printed = format!(
        "{ticket:?} {:?} {ring:?} {key:?} {opened:?} {operation:?} {:?}",
        ticket.keys(),
        operation.body()
    );
    let seed = ticket.keys().write_key().unwrap().seed().to_owned();
    for secret in [hex::encode(SEED), hex::encode(seed), format!("{seed:?}"), ticket.to_string()] {
        assert!(!printed.contains(&secret));
    }
    assert!(!printed.contains("secret text"), "{printed}");
    assert!(printed.contains(&operation.id().to_string()));
}
