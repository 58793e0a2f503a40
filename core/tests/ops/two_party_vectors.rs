//! Bundles, blocks, envelopes 04 and rotations against values made without any code of this project
//! (docs/vectors/two_party.py). What the library seals is opened by hand.

use cbor_core::{Map, Value as Cbor};
use curve25519_dalek::montgomery::MontgomeryPoint;
use delta_core::crypto::{
    BundleError, Channel, Context, DeviceBundle, DeviceSecrets, Direct, DirectError, GroupCrypto,
    IncomingRotation, OpenError, OpenedDirect, Purpose, Session, TwoParty, open_key, open_rotation,
    prepare_direct,
};
use delta_core::identity::{Author, LogId, Millis};
use delta_core::ops::{Content, DeviceKey, EpochKeys, KeyBundle, Rotation, VerifiedOperation, verify};
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::Value;

use crate::two_party_by_hand::{Inside, Opener, open_envelope};
use crate::{Given, array, bytes, rows};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/two-party.json")).unwrap()
}

fn now(vectors: &Value) -> Millis {
    Millis(vectors["now_ms"].as_u64().unwrap())
}

fn log(vectors: &Value) -> LogId {
    LogId(array(&vectors["log_id"]))
}

fn binary(value: &Value) -> Cbor<'static> {
    Cbor::from(bytes(value))
}

fn author(device: &Value) -> Author {
    Author(array(&device["author"]))
}

/// A device's secrets as this library stores them, with the vectors' keys.
fn secrets(device: &Value) -> DeviceSecrets {
    let state = |prekeys: Vec<(Cbor<'static>, Cbor<'static>)>| {
        Cbor::from(Map::from_pairs([
            ("identity_secret", binary(&device["x25519_secret"])),
            ("identity_key", binary(&device["x25519"])),
            ("prekeys", Cbor::from(Map::from_pairs(prekeys))),
            ("onetime_secrets", Cbor::from(Map::new())),
            ("onetime_next_id", Cbor::from(0u64)),
        ]))
    };
    let any_time = Map::from_pairs([("not_before", Cbor::from(0u64)), ("not_after", Cbor::from(u64::MAX))]);
    let kept = Map::from_pairs([
        ("prekey", Cbor::from([binary(&device["prekey"]), Cbor::from(any_time)])),
        ("signature", binary(&device["signature"])),
        ("secret", binary(&device["prekey_secret"])),
    ]);
    let key: Vec<Cbor<'_>> = bytes(&device["prekey"]).into_iter().map(Cbor::from).collect();
    let prekey = Map::from_pairs([
        ("key", Cbor::from(key)),
        ("expires_ms", Cbor::from(device["expires_ms"].as_u64().unwrap())),
        ("state", state(vec![(binary(&device["prekey"]), Cbor::from(kept))])),
    ]);
    let all =
        Map::from_pairs([("identity", state(Vec::new())), ("prekeys", Cbor::from([Cbor::from(prekey)]))]);
    DeviceSecrets::from_bytes(&Cbor::from(all).encode()).unwrap()
}

/// One side of a session as this library stores it.
fn session(told: &Value) -> Option<Session> {
    told.as_object()?;
    let number = |key: &str| told[key].as_u64().unwrap();
    let optional = |key: &str| if told[key].is_null() { Cbor::null() } else { binary(&told[key]) };
    let own = told["own"].as_array().unwrap().iter();
    let own = own.map(|row| (Cbor::from(row[0].as_u64().unwrap()), binary(&row[1])));
    let next = match told["number"].as_u64() {
        Some(number) => Cbor::from(Map::from_pairs([("OwnKey", Cbor::from(number))])),
        None if told["to"].is_null() => Cbor::from("PreKey"),
        None => Cbor::from("ReceivedKey"),
    };
    let state = Map::from_pairs([
        ("our_next_key_index", Cbor::from(number("sealed") + 1)),
        ("our_min_key_index", Cbor::from(number("used") + 1)),
        ("our_secret_keys", Cbor::from(Map::from_pairs(own))),
        ("our_received_secret_key", optional("handed")),
        ("their_next_key_used", next),
        ("their_prekey_bundle", Cbor::null()),
        ("their_verifying_key", optional("to")),
    ]);
    let mut stored = [&[2][..], &bytes(&told["session"]), &bytes(&told["peer"])].concat();
    for counter in ["sealed", "opened", "unanswered"] {
        stored.extend_from_slice(&u32::try_from(number(counter)).unwrap().to_be_bytes());
    }
    stored.extend_from_slice(&[0; 8]);
    stored.extend_from_slice(&Cbor::from(state).encode());
    Some(Session::from_bytes(&stored).unwrap())
}

fn bundle(device: &Value, row: &Value, log: &LogId) -> DeviceBundle {
    let operation = verify(&bytes(&row["header"]), &bytes(&row["body"]), log).unwrap();
    assert_eq!(operation.author(), author(device));
    DeviceBundle::of(&operation).unwrap()
}

#[test]
fn case_63_bundles_are_read_verified_and_refused_as_the_vectors_say() {
    let vectors = vectors();
    for device in vectors["devices"].as_object().unwrap().values() {
        let read = *bundle(device, &device["bundle"], &log(&vectors)).bundle();
        assert_eq!((read.identity, read.prekey), (array(&device["x25519"]), array(&device["prekey"])));
        assert_eq!(
            (read.signature, Some(read.expires.0)),
            (array(&device["signature"]), device["expires_ms"].as_u64())
        );
        assert_eq!(read.verify(now(&vectors)), Ok(()));
        assert_eq!(read.inbox, device["inbox_seed"].is_string().then(|| array(&device["inbox_seed"])));
        // Whoever publishes it adds the inbox.
        let made = KeyBundle { inbox: read.inbox, ..TwoParty.bundle(&secrets(device)).unwrap() };
        assert_eq!(made, read);
        assert_eq!(DeviceKey::from_bytes(&array(&device["seed"])).author(), author(device));
    }
    for row in rows(&vectors["refused_bundles"], 21) {
        let read = bundle(&vectors["devices"]["a"], row, &log(&vectors));
        let why = match read.bundle().verify(now(&vectors)).expect_err(&row["name"].to_string()) {
            BundleError::Expired => "Expired",
            BundleError::TooLong => "TooLong",
            BundleError::Key => "Key",
            BundleError::Signature => "Signature",
        };
        assert_eq!(why, row["why"], "{}", row["name"]);
    }
}

#[test]
fn a_fresh_prekey_is_signed_so_that_ed25519_verifies_it() {
    let vectors = vectors();
    for device in vectors["devices"].as_object().unwrap().values() {
        let fresh = TwoParty.rotate_prekey(&secrets(device), now(&vectors)).unwrap();
        let KeyBundle { identity, prekey, signature, .. } = TwoParty.bundle(&fresh).unwrap();
        assert_eq!(identity, array(&device["x25519"]));
        assert_ne!(prekey, array(&device["prekey"]));
        let point = MontgomeryPoint(identity).to_edwards(0).unwrap().compress();
        let key = VerifyingKey::from_bytes(&point.to_bytes()).unwrap();
        key.verify_strict(&prekey, &Signature::from_bytes(&signature)).unwrap();
    }
}

fn open(vectors: &Value, to: &str, told: &Value, envelope: &[u8]) -> Result<OpenedDirect, DirectError> {
    let device = &vectors["devices"][to];
    let at = (author(device), &secrets(device));
    Direct::parse(envelope)?.open(&TwoParty, at, session(told).as_ref(), &log(vectors), now(vectors))
}

fn operation(vectors: &Value, row: &Value) -> VerifiedOperation {
    verify(&bytes(&row["header"]), &bytes(&row["body"]), &log(vectors)).unwrap()
}

#[test]
fn envelopes_of_a_session_open_and_leave_the_state_of_the_vectors() {
    let vectors = vectors();
    for row in rows(&vectors["conversation"], 10) {
        let envelope = bytes(&row["envelope"]);
        assert_eq!(Some(u64::from(Direct::parse(&envelope).unwrap().index())), row["index"].as_u64());
        let opened = open(&vectors, row["to"].as_str().unwrap(), &row["receiver"], &envelope).unwrap();
        assert_eq!(opened.operation, operation(&vectors, row));
        // Not one key more, and none less.
        assert_eq!(opened.session.to_bytes(), session(&row["after"]).unwrap().to_bytes(), "{row}");
    }
}

/// What opens by hand what is sealed for a side of the vectors.
fn opener(device: &Value, told: &Value) -> Opener {
    let own = told["own"].as_array().into_iter().flatten();
    Opener {
        device: [array(&device["x25519_secret"]), array(&device["prekey_secret"])],
        handed: told["handed"].is_string().then(|| array(&told["handed"])),
        own: own.map(|row| (row[0].as_u64().unwrap(), array(&row[1]))).collect(),
    }
}

#[test]
fn envelopes_of_the_vectors_open_by_hand() {
    let vectors = vectors();
    for row in vectors["conversation"].as_array().unwrap() {
        let envelope = bytes(&row["envelope"]);
        let device = &vectors["devices"][row["to"].as_str().unwrap()];
        let inside = opener(device, &row["receiver"]).open(&envelope[1..444]);
        assert_eq!(
            (inside.payload.clone(), inside.handed),
            (bytes(&row["key"]), array(&row["handed_secret"]))
        );
        assert!(!open_envelope(&envelope, &inside.payload).is_empty());
    }
}

/// Seals a row's operation anew, from the state that its sender had: what came of it, and what is in its block.
fn sealed_again(vectors: &Value, row: &Value) -> (Session, Vec<u8>, Inside) {
    let device = |side: &str| &vectors["devices"][row[side].as_str().unwrap()];
    let (from, to) = (device("from"), device("to"));
    let bundle = bundle(to, &to["bundle"], &log(vectors));
    // Before its first block a session has no key to seal to.
    let before = session(&row["sender"]).filter(|_| row["sender"]["to"].is_string());
    let channel = before.as_ref().map_or(Channel::Bundle(&bundle), Channel::Session);
    let (what, mut drawn) = ((author(from), log(vectors)), Given::new([&row["key"]]));
    let prepared =
        prepare_direct(&TwoParty, &secrets(from), channel, what, now(vectors), &mut drawn).unwrap();
    let envelope = prepared.seal(&operation(vectors, row)).unwrap();
    let inside = opener(to, &row["receiver"]).open(&envelope[1..444]);
    (prepared.session, envelope, inside)
}

#[test]
fn what_the_library_seals_opens_by_hand_and_says_what_the_vectors_say() {
    let vectors = vectors();
    for row in vectors["conversation"].as_array().unwrap() {
        let (session, envelope, inside) = sealed_again(&vectors, row);
        let expected = bytes(&row["envelope"]);
        assert_eq!(envelope.len(), expected.len());
        // Index, form and, in form 03, the number; what is drawn comes after.
        let fixed = if row["form"] == 3 { 9..22 } else { 9..14 };
        assert_eq!(envelope[fixed.clone()][..fixed.len() - 1], expected[fixed.clone()][..fixed.len() - 1]);
        assert_eq!(inside.payload, bytes(&row["key"]));
        assert_eq!(inside.number, row["index"].as_u64().unwrap() + 1);
        let theirs = opener(&vectors["devices"][row["to"].as_str().unwrap()], &row["receiver"]);
        assert_eq!(inside.context, theirs.open(&expected[1..444]).context);
        let open_both = |envelope: &[u8]| open_envelope(envelope, &inside.payload);
        assert_eq!(open_both(&envelope), open_both(&expected));
        assert_eq!(
            (session.id.0, session.sealed),
            (envelope[1..9].try_into().unwrap(), inside.number as u32)
        );
        if row["form"] == 1 {
            let content = &envelope[13..444];
            assert_eq!(session.id.0[..], blake3::derive_key("delta two-party session v1", content)[..8]);
        }
        assert_ne!(inside.public, [0; 32]);
    }
}

fn why(error: &DirectError) -> &'static str {
    match error {
        DirectError::Form => "form",
        DirectError::Open(OpenError::Duplicate) => "duplicate",
        DirectError::Open(OpenError::Early { .. }) => "early",
        DirectError::Open(OpenError::UnknownSession) => "unknown_session",
        DirectError::Open(OpenError::UnknownPrekey) => "unknown_prekey",
        DirectError::Open(OpenError::OtherPeer) => "other_peer",
        DirectError::Open(OpenError::Forged) => "forged",
        DirectError::Content(_) => "padding",
        DirectError::Operation(_) => "operation",
        DirectError::Open(_) | DirectError::Crypto(_) | DirectError::Seal(_) => "something else",
    }
}

#[test]
fn case_05_envelopes_of_a_session_that_differ_in_one_thing_are_refused() {
    let vectors = vectors();
    for (round, count) in rows(&vectors["refused"], 3).iter().zip([58, 16, 8]) {
        open(&vectors, "b", &round["session"], &bytes(&round["good"])).unwrap();
        for row in rows(&round["cases"], count) {
            let refused = open(&vectors, "b", &round["session"], &bytes(&row["envelope"]));
            let refused = refused.expect_err(&row["name"].to_string());
            assert_eq!(why(&refused), row["why"], "{}: {refused:?}", row["name"]);
        }
    }
}

/// The rotation of a row, and who signed it.
fn rotation(row: &Value, log: &LogId) -> (Rotation, Author) {
    let operation = verify(&bytes(&row["header"]), &bytes(&row["body"]), log).unwrap();
    match &operation.body().content {
        Content::RoomRotate(rotation) => (Rotation::clone(rotation), operation.author()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rotations_open_for_each_device_and_those_that_differ_in_one_thing_for_none() {
    let vectors = vectors();
    let (moves, devices) = (&vectors["moves"], &vectors["devices"]);
    let log = LogId(array(&moves["log_id"]));
    let opened = |row: &Value, device: &Value| {
        let (rotation, rotator) = rotation(row, &log);
        let epoch = rotation.epoch - 1;
        let incoming = IncomingRotation { rotation: &rotation, rotator, log, epoch, now: now(&vectors) };
        open_rotation(&TwoParty, &secrets(device), incoming, &author(device), |_| false)
    };
    for (name, ticket) in [("b", "writer_ticket"), ("c", "reader_ticket")] {
        let ticket_found = opened(&moves["rotation"], &devices[name]).unwrap();
        assert_eq!(ticket_found.to_string(), moves[ticket]);
        assert_eq!(ticket_found.topic().0, array(&moves["topic_id"]));
    }
    let (rotation, _) = rotation(&moves["rotation"], &log);
    assert_eq!(
        (rotation.commitment, rotation.topic.0),
        (array(&moves["commitment"]), array(&moves["topic_id"]))
    );
    assert_eq!(opened(&moves["rotation"], &devices["a"]).unwrap_err(), OpenError::NoPart);
    for row in rows(&moves["refused"], 9) {
        assert_eq!(opened(row, &devices["b"]).unwrap_err(), OpenError::Forged, "{}", row["name"]);
    }
}

#[test]
fn a_handed_key_opens_for_its_device_and_purpose() {
    let vectors = vectors();
    let (moves, hand) = (&vectors["moves"], &vectors["moves"]["key_hand"]);
    let space = LogId(array(&hand["log_id"]));
    let operation = verify(&bytes(&hand["header"]), &bytes(&hand["body"]), &space).unwrap();
    let Content::EpochKeys(keys) = &operation.body().content else { panic!("{operation:?}") };
    let EpochKeys::Hand(keys) = &**keys else { panic!("{operation:?}") };
    let [key] = &keys[..] else { panic!("{operation:?}") };
    let device = &vectors["devices"]["b"];
    let context = Context {
        purpose: Purpose::Handed,
        log: key.log,
        epoch: key.epoch,
        sender: operation.author(),
        recipient: author(device),
    };
    let open =
        |context| open_key(&TwoParty, &secrets(device), &context, &key.topic, &key.block, now(&vectors));
    assert_eq!(open(context).unwrap().to_string(), moves["writer_ticket"]);
    for other in [
        Context { purpose: Purpose::Rotation, ..context },
        Context { epoch: key.epoch + 1, ..context },
        Context { log: space, ..context },
        Context { sender: author(device), ..context },
    ] {
        assert_eq!(open(other).unwrap_err(), OpenError::Forged);
    }
}
