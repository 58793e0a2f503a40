//! Bodies: every limit at it and past it, on both sides; what an older version keeps of a newer one's operations.

use cbor_core::{Map, Value};
use delta_core::identity::{Author, LogId, OperationId};
use delta_core::limits::{MAX_DISPLAY_NAME, MAX_EMOJI, MAX_MENTIONS, MAX_TEXT};
use delta_core::ops::{
    Body, BodyError, Content, CreateError, DeviceKey, EncodeError, Flaw, LimitError, MAX_AUTH_HEADS, create,
};

const ID: [u8; 32] = [5; 32];

type Pairs = Vec<(u64, Value<'static>)>;

fn map(pairs: impl IntoIterator<Item = (u64, Value<'static>)>) -> Value<'static> {
    Value::from(Map::from_pairs(pairs))
}

fn raw(kind: &'static str, payload: Value<'static>) -> Vec<u8> {
    map([(0, Value::from(kind)), (1, payload)]).encode()
}

fn decode(kind: &'static str, payload: impl IntoIterator<Item = (u64, Value<'static>)>) -> Content {
    Body::decode(&raw(kind, map(payload))).unwrap().content
}

fn text(len: usize) -> Value<'static> {
    Value::from("x".repeat(len))
}

fn id() -> Value<'static> {
    Value::from(ID)
}

fn send(text: usize, mentions: usize) -> Content {
    Content::MessageSend {
        text: "x".repeat(text),
        reply: None,
        mentions: vec![Author(ID); mentions],
        attachments: Vec::new(),
    }
}

fn react(emoji: usize) -> Content {
    Content::ReactionAdd { target: OperationId(ID), emoji: "x".repeat(emoji) }
}

fn profile(name: usize, bio: usize, availability: usize) -> Content {
    Content::ProfileSet {
        // Characters, not bytes: each of these has two.
        name: "ä".repeat(name),
        bio: Some("x".repeat(bio)),
        avatar: None,
        availability: Some("x".repeat(availability)),
        public: false,
    }
}

#[test]
fn what_is_written_is_within_the_limits() {
    let target = OperationId(ID);
    let at_limit = [
        send(MAX_TEXT, MAX_MENTIONS),
        Content::MessageEdit { target, text: "x".repeat(MAX_TEXT) },
        react(1),
        react(MAX_EMOJI),
        profile(MAX_DISPLAY_NAME, MAX_TEXT, MAX_DISPLAY_NAME),
    ];
    for content in at_limit {
        let body = Body::new(content);
        assert_eq!(Body::decode(&body.encode().unwrap()), Ok(body));
    }
    let past = [
        (send(MAX_TEXT + 1, 0), LimitError::Text { len: MAX_TEXT + 1 }),
        (send(0, MAX_MENTIONS + 1), LimitError::Mentions { count: MAX_MENTIONS + 1 }),
        (
            Content::MessageEdit { target, text: "x".repeat(MAX_TEXT + 1) },
            LimitError::Text { len: MAX_TEXT + 1 },
        ),
        (react(0), LimitError::Emoji { len: 0 }),
        (react(MAX_EMOJI + 1), LimitError::Emoji { len: MAX_EMOJI + 1 }),
        (profile(MAX_DISPLAY_NAME + 1, 0, 0), LimitError::Name { chars: MAX_DISPLAY_NAME + 1 }),
        (profile(0, MAX_TEXT + 1, 0), LimitError::Text { len: MAX_TEXT + 1 }),
        (profile(0, 0, MAX_DISPLAY_NAME + 1), LimitError::Name { chars: MAX_DISPLAY_NAME + 1 }),
    ];
    let key = DeviceKey::from_bytes(&[1; 32]);
    for (content, limit) in past {
        let refused = create(&key, LogId(ID), 0, None, &Body::new(content));
        assert_eq!(refused, Err(CreateError::Body(EncodeError::Limit(limit))));
    }

    let mut body = Body::new(send(1, 0));
    body.auth_heads = vec![target; MAX_AUTH_HEADS];
    assert_eq!(Body::decode(&body.encode().unwrap()).as_ref(), Ok(&body));
    body.auth_heads.push(target);
    assert_eq!(body.encode(), Err(EncodeError::Limit(LimitError::AuthHeads { count: MAX_AUTH_HEADS + 1 })));
}

#[test]
fn what_is_read_past_a_limit_is_skipped_not_refused() {
    let mentions = |count| Value::from(vec![id(); count]);
    let cases = [
        ("message.send", map([(0, text(MAX_TEXT + 1))]), LimitError::Text { len: MAX_TEXT + 1 }),
        (
            "message.send",
            map([(0, text(1)), (2, mentions(MAX_MENTIONS + 1))]),
            LimitError::Mentions { count: MAX_MENTIONS + 1 },
        ),
        ("message.edit", map([(0, id()), (1, text(MAX_TEXT + 1))]), LimitError::Text { len: MAX_TEXT + 1 }),
        ("reaction.add", map([(0, id()), (1, text(0))]), LimitError::Emoji { len: 0 }),
        (
            "reaction.remove",
            map([(0, id()), (1, text(MAX_EMOJI + 1))]),
            LimitError::Emoji { len: MAX_EMOJI + 1 },
        ),
        (
            "profile.set",
            map([(0, text(MAX_DISPLAY_NAME + 1))]),
            LimitError::Name { chars: MAX_DISPLAY_NAME + 1 },
        ),
        ("profile.set", map([(0, text(1)), (1, text(MAX_TEXT + 1))]), LimitError::Text { len: MAX_TEXT + 1 }),
        (
            "profile.set",
            map([(0, text(1)), (3, text(MAX_DISPLAY_NAME + 1))]),
            LimitError::Name { chars: MAX_DISPLAY_NAME + 1 },
        ),
    ];
    for (kind, payload, limit) in cases {
        let content = Body::decode(&raw(kind, payload)).unwrap().content;
        assert_eq!(content, Content::Malformed { kind, flaw: Flaw::Limit(limit) });
    }
}

#[test]
fn a_payload_with_a_missing_key_or_a_wrong_type_is_skipped() {
    let cases: [(&'static str, Pairs, Flaw); 15] = [
        ("message.send", vec![], Flaw::Missing(0)),
        ("message.send", vec![(0, id())], Flaw::WrongType(0)),
        ("message.send", vec![(0, text(1)), (1, Value::from([5; 31]))], Flaw::WrongType(1)),
        ("message.send", vec![(0, text(1)), (2, id())], Flaw::WrongType(2)),
        ("message.send", vec![(0, text(1)), (2, Value::from(vec![id(), text(32)]))], Flaw::WrongType(2)),
        ("message.edit", vec![(1, text(1))], Flaw::Missing(0)),
        ("message.edit", vec![(0, id())], Flaw::Missing(1)),
        ("message.delete", vec![(0, text(32))], Flaw::WrongType(0)),
        ("reaction.add", vec![(0, id())], Flaw::Missing(1)),
        ("reaction.remove", vec![(1, text(1))], Flaw::Missing(0)),
        ("profile.set", vec![(1, text(1))], Flaw::Missing(0)),
        ("profile.set", vec![(0, text(1)), (1, Value::from(1))], Flaw::WrongType(1)),
        ("profile.set", vec![(0, text(1)), (2, text(32))], Flaw::WrongType(2)),
        ("profile.set", vec![(0, text(1)), (4, Value::from(1))], Flaw::WrongType(4)),
        ("profile.set", vec![(0, text(1)), (4, Value::null())], Flaw::WrongType(4)),
    ];
    for (kind, payload, flaw) in cases {
        assert_eq!(decode(kind, payload), Content::Malformed { kind, flaw });
    }
}

#[test]
fn a_newer_versions_keys_and_kinds_are_survived() {
    let extra = [(0, text(1)), (17, map([(0, id())])), (300, Value::from(1.5))];
    assert_eq!(decode("message.send", extra), send(1, 0));
    let unknown = Content::Unknown { kind: "poll.open".to_owned() };
    assert_eq!(decode("poll.open", [(0, Value::from(vec![text(1)]))]), unknown);

    let body = map([(0, Value::from("message.send")), (1, map([(0, text(1))])), (5, id()), (99, text(1))]);
    assert_eq!(Body::decode(&body.encode()), Ok(Body::new(send(1, 0))));
    // What cannot be understood cannot be written again either: its bytes are the ones received.
    for content in [unknown, Content::Malformed { kind: "message.send", flaw: Flaw::Missing(0) }] {
        assert_eq!(Body::new(content).encode(), Err(EncodeError::Unwritable));
    }
}

#[test]
fn a_body_without_its_own_form_is_no_operation() {
    let kind = || (0, Value::from("message.send"));
    let payload = || (1, map([(0, text(1))]));
    let head = |seq: u64| Value::from([Value::from([1; 16]), Value::from(seq), id()]);
    let heads = |count| Value::from(vec![id(); count]);
    let cases = [
        (Value::from(vec![text(1)]), "map"),
        (map([payload()]), "kind"),
        (map([(0, Value::from(7)), payload()]), "kind"),
        (map([kind()]), "payload"),
        (map([kind(), (1, text(1))]), "payload"),
        (map([kind(), payload(), (2, text(1))]), "sent_at_ms"),
        (map([kind(), payload(), (2, Value::from(-1))]), "sent_at_ms"),
        (map([kind(), payload(), (3, Value::from(vec![id()]))]), "observed head"),
        (map([kind(), payload(), (3, head(1 << 63))]), "observed head"),
        (map([kind(), payload(), (4, heads(MAX_AUTH_HEADS + 1))]), "auth heads"),
        (map([kind(), payload(), (4, Value::from(vec![text(32)]))]), "auth heads"),
    ];
    for (body, field) in cases {
        assert_eq!(Body::decode(&body.encode()), Err(BodyError::Field(field)), "{body:?}");
    }
    for (key, value) in [(3, head((1 << 63) - 1)), (4, heads(MAX_AUTH_HEADS)), (4, heads(0))] {
        assert!(Body::decode(&map([kind(), payload(), (key, value)]).encode()).is_ok());
    }
}
