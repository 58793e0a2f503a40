//! Operations, envelopes and tickets against values made without any code of this project (docs/vectors/ops.py).

use delta_core::entropy::SeededEntropy;
use delta_core::identity::{Author, LogId, Millis, OperationId};
use delta_core::ops::{
    BlobId, Body, Content, DeviceKey, ObservedHead, Ticket, VerifiedOperation, create, padded_len, peek,
    verify,
};
use delta_core::topic::{Chain, Generation, Seq, WriteKey};
use serde_json::Value;

use crate::{array, bytes};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/ops.json")).unwrap()
}

/// The bodies that docs/vectors/ops.py writes, in its order.
fn bodies() -> Vec<Body> {
    let (target, author, blob) = (OperationId([0x55; 32]), Author([0x66; 32]), [0x77; 32]);
    let emoji = "👍".to_owned();
    let send = |text: &str| Content::MessageSend {
        text: text.to_owned(),
        reply: None,
        mentions: vec![],
        attachments: Vec::new(),
    };
    let profile = |name: &str| Content::ProfileSet {
        name: name.to_owned(),
        bio: None,
        avatar: None,
        availability: None,
        public: false,
    };
    vec![
        Body::new(send("hello")).sent_at(Millis(1_700_000_000_123)),
        Body {
            content: Content::MessageSend {
                text: "grüße 👋".to_owned(),
                reply: Some(target),
                mentions: vec![author, Author(target.0)],
                attachments: Vec::new(),
            },
            sent_at: Some(Millis(0)),
            observed: Some(ObservedHead {
                generation: Generation([9; 16]),
                seq: Seq::MAX,
                chain: Chain(blob),
            }),
            auth_heads: vec![target, OperationId(blob)],
        },
        Body::new(Content::MessageEdit { target, text: "x".repeat(300) }),
        Body::new(Content::MessageDelete { target }),
        Body::new(Content::ReactionAdd { target, emoji: emoji.clone() }),
        Body::new(Content::ReactionRemove { target, emoji }),
        Body::new(profile("Ada")),
        Body::new(Content::ProfileSet {
            name: String::new(),
            bio: Some("bio".to_owned()),
            avatar: Some(BlobId(blob)),
            availability: Some("away".to_owned()),
            public: true,
        })
        .sent_at(Millis(u64::MAX)),
    ]
}

#[test]
fn operations_are_signed_and_read_byte_for_byte() {
    let vectors = vectors();
    let key = DeviceKey::from_bytes(&array(&vectors["device_seed"]));
    let log = LogId(array(&vectors["log_id"]));
    assert_eq!(key.author().0, array(&vectors["author"]));

    let rows = vectors["operations"].as_array().unwrap();
    assert_eq!(rows.len(), bodies().len());
    let mut previous: Option<VerifiedOperation> = None;
    for (seq_num, (body, row)) in bodies().into_iter().zip(rows).enumerate() {
        let backlink = previous.as_ref().map(VerifiedOperation::id);
        let made = create(&key, log, seq_num as u32, backlink, &body).unwrap();
        assert_eq!(hex::encode(made.body_bytes()), row["body"], "body {seq_num}");
        assert_eq!(hex::encode(made.header()), row["header"], "header {seq_num}");
        assert_eq!(made.id().to_string(), row["id"]);

        let (header_bytes, body_bytes) = (bytes(&row["header"]), bytes(&row["body"]));
        let read = verify(&header_bytes, &body_bytes, &log).unwrap();
        assert_eq!(read, made);
        assert_eq!(read.body(), &body);
        assert_eq!(read.backlink(), backlink);
        assert_eq!(VerifiedOperation::from_store(&header_bytes, &body_bytes), Ok(read));
        let seen = peek(&header_bytes).unwrap();
        assert_eq!(
            (seen.author, seen.log, seen.seq_num, seen.backlink),
            (key.author(), log, seq_num as u32, backlink)
        );
        assert_eq!(seen.payload_size as usize, body_bytes.len());
        if let Some(previous) = &previous {
            assert_eq!(made.follows(&previous.head()), Ok(()));
        }
        previous = Some(made);
    }
}

#[test]
fn envelopes_are_sealed_and_opened_byte_for_byte() {
    let vectors = vectors();
    let ticket = |name: &str| Ticket::parse(vectors["tickets"][name].as_str().unwrap()).unwrap().keys();
    let (writer, reader, public) = (ticket("private_write"), ticket("private_read"), ticket("public_write"));
    assert_eq!(hex::encode(writer.key_id().unwrap()), vectors["key_id"]);
    assert_eq!(public.key_id(), None);
    for row in vectors["operations"].as_array().unwrap() {
        let (header, body) = (bytes(&row["header"]), bytes(&row["body"]));
        for (keys, kind) in [(&writer, "sealed"), (&reader, "sealed"), (&public, "plain")] {
            let envelope = keys.seal(&header, &body).unwrap();
            assert_eq!(hex::encode(&envelope), row[kind]);
            let opened = keys.open(&envelope).unwrap();
            assert_eq!((&opened.header[..], &opened.body[..]), (&header[..], &body[..]));
        }
    }
}

#[test]
fn tickets_print_and_parse_as_the_vectors_say() {
    let vectors = vectors();
    let (log, topic) = (LogId(array(&vectors["log_id"])), array(&vectors["topic_id"]));
    let write = WriteKey::from_seed(array(&vectors["write_seed"]));
    let private =
        Ticket::private(log, vectors["epoch"].as_u64().unwrap() as u32, write, array(&vectors["secret"]));
    let public = Ticket::parse(vectors["tickets"]["public_write"].as_str().unwrap()).unwrap();

    for (name, ticket, writes, public) in [
        ("private_write", private.clone(), true, false),
        ("private_read", private.read_only(), false, false),
        ("public_write", public.clone(), true, true),
        ("public_read", public.read_only(), false, true),
    ] {
        let text = vectors["tickets"][name].as_str().unwrap();
        assert_eq!(ticket.to_string(), text, "{name}");
        for ticket in [ticket, text.parse().unwrap()] {
            assert_eq!(ticket.topic().0, topic);
            assert_eq!(ticket.write_verifying_key().0, array(&vectors["write_vk"]));
            assert_eq!((ticket.can_write(), ticket.is_public()), (writes, public));
            assert_eq!((ticket.log(), ticket.epoch()), if public { (LogId(topic), 0) } else { (log, 7) });
            let keys = ticket.keys();
            assert_eq!((keys.topic().0, keys.log(), keys.epoch()), (topic, ticket.log(), ticket.epoch()));
            assert_eq!(keys.write_key().map(|key| key.topic().0), writes.then_some(topic));
            assert_eq!(keys.is_public(), public);
        }
    }
}

#[test]
fn a_fresh_ticket_round_trips_and_is_fresh() {
    let mut entropy = SeededEntropy::new([1; 32]);
    let (one, two) =
        (Ticket::generate_private(&mut entropy).unwrap(), Ticket::generate_private(&mut entropy).unwrap());
    assert_ne!((one.topic(), one.log()), (two.topic(), two.log()));
    assert_eq!(one.epoch(), 0);
    let public = Ticket::generate_public(&mut entropy).unwrap();
    assert_eq!(public.log().0, public.topic().0);
    for ticket in [one, two, public] {
        assert_eq!(Ticket::parse(&ticket.to_string()).unwrap().to_string(), ticket.to_string());
    }
}

#[test]
fn padded_lengths_are_those_of_the_vectors_and_stay_put() {
    for (len, padded) in vectors()["padded"].as_object().unwrap() {
        assert_eq!(Some(padded_len(len.parse().unwrap()) as u64), padded.as_u64(), "{len}");
    }
    // The examples of the specification.
    assert_eq!([257, 300, 1000, 1_000_006].map(padded_len), [272, 304, 1024, 1_015_808]);
    let mut last = 0;
    for len in 0..70_000 {
        let padded = padded_len(len);
        assert!(padded >= len && padded >= last && padded_len(padded) == padded, "{len}");
        last = padded;
    }
}
