//! Names of spaces and rooms, invitations, claims and signals against values made without any code of this project
//! (docs/vectors/spaces.py).

use delta_core::identity::{Author, Identity, LogId, Millis, OperationId};
use delta_core::ops::{DeviceKey, Hidden, Signal, Ticket, room_id, space_id};
use delta_core::space::{Invite, claim_mac, verify_claim};
use serde_json::Value;

use crate::{array, bytes, rows};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/spaces.json")).unwrap()
}

#[test]
fn spaces_and_rooms_are_named_as_the_vectors_say() {
    let vectors = vectors();
    for row in rows(&vectors["spaces"], 2) {
        let id = space_id(Author(array(&row["creator"])), &array(&row["nonce"]));
        assert_eq!(id.0, array(&row["id"]));
    }
    for row in rows(&vectors["rooms"], 2) {
        let id = room_id(LogId(array(&row["space"])), &array(&row["nonce"]));
        assert_eq!(id.0, array(&row["id"]));
    }
}

#[test]
fn invitations_are_printed_and_read_as_the_vectors_say() {
    let vectors = vectors();
    let row = &vectors["invitation"];
    let text = row["text"].as_str().unwrap();
    let read = Invite::parse(text).unwrap();
    assert_eq!(read.ticket.to_string(), row["ticket"]);
    assert_eq!((read.id.0, read.token.0), (array(&row["invite"]), array(&row["token"])));
    let ticket = Ticket::parse(row["ticket"].as_str().unwrap()).unwrap();
    let made = Invite { ticket, id: OperationId(array(&row["invite"])), token: Hidden(array(&row["token"])) };
    assert_eq!(made.to_string(), text);
    for (name, text) in row["refused"].as_object().unwrap() {
        assert!(Invite::parse(text.as_str().unwrap()).is_err(), "{name}");
    }
}

#[test]
fn a_claim_is_of_this_space_invitation_person_and_device() {
    let vectors = vectors();
    let claims = rows(&vectors["claims"], 6);
    let expected: [u8; 32] = array(&claims[0]["mac"]);
    for (index, row) in claims.iter().enumerate() {
        let made = claim_mac(
            &Hidden(array(&row["token"])),
            LogId(array(&row["space"])),
            OperationId(array(&row["invite"])),
            Identity(array(&row["identity"])),
            Author(array(&row["device"])),
        );
        assert_eq!(made, array(&row["mac"]));
        assert_eq!(verify_claim(&made, &expected), index == 0);
    }
}

#[test]
fn signals_are_sealed_and_opened_byte_for_byte_and_refused_as_the_vectors_say() {
    let vectors = vectors();
    let said = &vectors["signals"];
    let key = DeviceKey::from_bytes(&array(&said["seed"]));
    assert_eq!(key.author().0, array(&said["author"]));
    for kind in ["private", "public"] {
        let keys = Ticket::parse(said[format!("{kind}_ticket")].as_str().unwrap()).unwrap().keys();
        assert_eq!(keys.topic().0, array(&said["topic_id"]));
        for row in rows(&said["signals"], 3) {
            let (at, body) = (Millis(row["sent_at_ms"].as_u64().unwrap()), bytes(&row["body"]));
            let sealed = Signal::seal(&key, &keys, at, &body).unwrap();
            assert_eq!(hex::encode(&sealed), row[kind]);
            let opened = Signal::open(&keys, &sealed).unwrap();
            assert_eq!((opened.author, opened.sent_at, &opened.bytes[..]), (key.author(), at, &body[..]));
        }
        for row in rows(&said["refused"], 9) {
            assert!(Signal::open(&keys, &bytes(&row[kind])).is_err(), "{kind}: {}", row["name"]);
        }
    }
}
