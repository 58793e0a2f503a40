//! Envelope 01 against values made without any code of this project (docs/vectors/inbox_envelopes.py), and
//! contacts (docs/vectors/inbox.py).

use delta_core::identity::{Author, LogId};
use delta_core::onion::IdentityKey;
use delta_core::onion::sealed::OpenSealedError;
use delta_core::ops::{Contact, DeviceKey, InboxError, inbox_log, open_inbox, seal_inbox, verify};
use serde_json::Value;

use crate::{Given, array, bytes, rows};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/inbox-envelopes.json")).unwrap()
}

fn recipient(vectors: &Value) -> DeviceKey {
    let key = DeviceKey::from_bytes(&array(&vectors["recipient_seed"]));
    assert_eq!(key.author().0, array(&vectors["recipient"]));
    key
}

#[test]
fn inbox_envelopes_are_sealed_and_opened_byte_for_byte() {
    let vectors = vectors();
    let (recipient, sender) = (recipient(&vectors), Author(array(&vectors["sender"])));
    let log = inbox_log(&sender, &recipient.author());
    assert_eq!(log, LogId(array(&vectors["log_id"])));
    for row in rows(&vectors["envelopes"], 5) {
        let name = &row["name"];
        let operation = verify(&bytes(&row["header"]), &bytes(&row["body"]), &log).unwrap();
        assert_eq!((operation.author(), operation.id().to_string().into()), (sender, row["id"].clone()));
        let mut drawn = Given::new([&row["ephemeral_secret"], &row["nonce"]]);
        let sealed = seal_inbox(&operation, &recipient.author(), &mut drawn).unwrap();
        assert!(drawn.is_used_up());
        assert_eq!(hex::encode(&sealed), row["envelope"], "{name}");
        assert_eq!(Some(sealed.len() as u64 - 105), row["plaintext_len"].as_u64(), "{name}");
        assert_eq!(open_inbox(&recipient, sealed), Ok(operation), "{name}");
    }
}

#[test]
fn texts_that_are_no_contacts_are_refused() {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/inbox.json")).unwrap();
    assert!(Contact::parse(vectors["contacts"][0]["text"].as_str().unwrap()).is_ok());
    for (name, text) in vectors["refused_contacts"].as_object().unwrap() {
        assert!(Contact::parse(text.as_str().unwrap()).is_err(), "{name}");
    }
}

/// How far an envelope gets before it is refused: the stages of docs/vectors/inbox_envelopes.py.
fn stage(error: &InboxError) -> &'static str {
    match error {
        InboxError::Open(OpenSealedError::Length(_) | OpenSealedError::Version(_)) => "form",
        InboxError::Open(OpenSealedError::EphemeralKey) => "key",
        InboxError::Open(OpenSealedError::Seal) => "seal",
        // What is padded wrongly names no author at all.
        InboxError::Open(OpenSealedError::Sender) | InboxError::Content(_) | InboxError::Operation(_) => {
            "content"
        }
        InboxError::Recipient(_) | InboxError::OtherLog | InboxError::Seal(_) | InboxError::Sealed(_) => {
            "sealing"
        }
    }
}

#[test]
fn inbox_envelopes_that_differ_in_one_thing_are_refused() {
    let vectors = vectors();
    let recipient = recipient(&vectors);
    for row in rows(&vectors["refused"], 35) {
        let refused = open_inbox(&recipient, bytes(&row["envelope"])).expect_err(&row["name"].to_string());
        assert_eq!(stage(&refused), row["stage"], "{}: {refused:?}", row["name"]);
    }
}

#[test]
fn case_05_nothing_is_sealed_to_keys_that_stand_for_no_device() {
    for row in rows(&vectors()["unusable_recipients"], 8) {
        assert!(IdentityKey::from_ed25519(&array(&row["key"])).is_err(), "{}", row["name"]);
    }
}
