//! Pairing against values made without any code of this project (docs/vectors/pairing.py).

use delta_core::identity::{Certificate, IdentityKey, Millis, OperationId};
use delta_core::ops::{Content, DeviceKey, OwnDevices, Ticket, VerifiedOperation, create, verify};
use delta_core::pairing::{Pairing, Welcome, WelcomeError};
use serde_json::Value;

use crate::{Given, array, bytes, rows};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/pairing.json")).unwrap()
}

fn device(vectors: &Value, seed: &str) -> DeviceKey {
    DeviceKey::from_bytes(&array(&vectors[seed]))
}

fn ticket(text: &Value) -> Ticket {
    Ticket::parse(text.as_str().unwrap()).unwrap()
}

#[test]
fn pairing_texts_are_printed_and_read_and_open_the_topic_of_the_vectors() {
    let vectors = vectors();
    let host = device(&vectors, "host_seed").author();
    for row in rows(&vectors["pairings"], 3) {
        let mut drawn = Given::new([&row["secret"]]);
        let shown = Pairing::generate(host, &mut drawn).unwrap();
        assert_eq!(shown.to_string(), row["text"]);
        let read = Pairing::parse(row["text"].as_str().unwrap()).unwrap();
        for pairing in [shown, read] {
            assert_eq!(pairing.host.0, array(&row["host"]));
            let ticket = pairing.ticket();
            assert_eq!(ticket.to_string(), row["ticket"]);
            assert_eq!((ticket.log().0, ticket.topic().0), (array(&row["log_id"]), array(&row["topic_id"])));
        }
    }
    for (name, text) in vectors["refused_texts"].as_object().unwrap() {
        assert!(Pairing::parse(text.as_str().unwrap()).is_err(), "{name}");
    }
}

#[test]
fn pairing_codes_are_those_of_the_vectors_zeros_included() {
    let vectors = vectors();
    let pairing = Pairing::parse(vectors["pairings"][0]["text"].as_str().unwrap()).unwrap();
    for row in rows(&vectors["codes"], 7) {
        let code = pairing.code(OperationId(array(&row["ask"])), &array(&row["nonce"]));
        assert_eq!(code.to_string(), row["code"]);
    }
}

#[test]
fn the_operations_of_a_pairing_are_signed_sealed_and_read_byte_for_byte() {
    let vectors = vectors();
    let (host, new) = (device(&vectors, "host_seed"), device(&vectors, "device_seed"));
    let pairing = Pairing::parse(vectors["pairings"][0]["text"].as_str().unwrap()).unwrap();
    let (log, keys, said) = (pairing.ticket().log(), pairing.ticket().keys(), &vectors["exchange"]);
    let read = |name: &str| -> VerifiedOperation {
        let row = &said[name];
        let opened = keys.open(&bytes(&row["envelope"])).unwrap();
        assert_eq!(
            (hex::encode(&opened.header), hex::encode(&opened.body)),
            (text(row, "header"), text(row, "body"))
        );
        assert_eq!(hex::encode(keys.seal(&opened.header, &opened.body).unwrap()), row["envelope"]);
        let operation = verify(&opened.header, &opened.body, &log).unwrap();
        assert_eq!(operation.id().to_string(), row["id"]);
        operation
    };
    let (ask, answer, welcome) = (read("ask"), read("answer"), read("welcome"));
    assert_eq!(own(&ask), &OwnDevices::Ask);
    let OwnDevices::Answer { ask: asked, nonce } = *own(&answer) else { panic!("{answer:?}") };
    assert_eq!((asked, nonce), (ask.id(), array(&said["nonce"])));
    assert_eq!(pairing.code(asked, &nonce).to_string(), said["code"]);
    let OwnDevices::Welcome { answer: answered, sealed } = own(&welcome) else { panic!("{welcome:?}") };
    assert_eq!(*answered, answer.id());
    assert_eq!(hex::encode(sealed), vectors["welcomes"][0]["sealed"]);
    for (key, operation, after) in
        [(&new, &ask, None), (&host, &answer, None), (&host, &welcome, Some(answer.id()))]
    {
        let made = create(key, log, u32::from(after.is_some()), after, operation.body()).unwrap();
        assert_eq!(&made, operation);
    }
}

fn own(operation: &VerifiedOperation) -> &OwnDevices {
    match &operation.body().content {
        Content::OwnDevices(own) => own,
        other => panic!("{other:?}"),
    }
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap().to_owned()
}

#[test]
fn welcomes_are_sealed_and_opened_byte_for_byte() {
    let vectors = vectors();
    let (host, new) = (device(&vectors, "host_seed"), device(&vectors, "device_seed"));
    let identity = IdentityKey::from_seed(&array(&vectors["identity_seed"]));
    let created = Millis(vectors["created_ms"].as_u64().unwrap());
    let certificate = Certificate::sign(&identity, new.author(), created);
    for row in rows(&vectors["welcomes"], 3) {
        assert_eq!(hex::encode(certificate.to_bytes()), row["certificate"]);
        let tickets = row["tickets"].as_array().unwrap();
        let welcome =
            Welcome { certificate, own: ticket(&row["own"]), tickets: tickets.iter().map(ticket).collect() };
        let mut drawn = Given::new([&row["ephemeral_secret"], &row["nonce"]]);
        let sealed = welcome.seal(&host.author(), &mut drawn).unwrap();
        assert!(drawn.is_used_up());
        assert_eq!(hex::encode(&sealed), row["sealed"], "{}", row["name"]);
        let opened = Welcome::open(&new, &host.author(), sealed).unwrap();
        assert_eq!((opened.certificate, opened.own.to_string()), (certificate, text(row, "own")));
        let opened: Vec<Value> = opened.tickets.iter().map(|ticket| ticket.to_string().into()).collect();
        assert_eq!(&opened, tickets);
    }
}

#[test]
fn welcomes_that_differ_in_one_thing_are_refused() {
    let vectors = vectors();
    let (host, new) = (device(&vectors, "host_seed").author(), device(&vectors, "device_seed"));
    for row in rows(&vectors["refused_welcomes"], 29) {
        let refused = Welcome::open(&new, &host, bytes(&row["sealed"])).expect_err(&text(row, "name"));
        let why = match refused {
            WelcomeError::Open(_) => "open",
            WelcomeError::Certificate(_) => "certificate",
            WelcomeError::Ticket(_) => "ticket",
            WelcomeError::Malformed(_) => "form",
            WelcomeError::TooMany { .. } => "count",
            WelcomeError::Recipient(_) | WelcomeError::Seal(_) => "sealing",
        };
        assert_eq!(why, row["why"], "{}: {refused:?}", row["name"]);
    }
}
