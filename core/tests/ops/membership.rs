//! Kinds of a space's membership: bytes as docs/wire.md says, every limit at it and past it, what is malformed.

use cbor_core::{Map, Value};
use delta_core::identity::{
    Author, Certificate, Identity, IdentityKey, LogId, Millis, OperationId, Revocation,
};
use delta_core::limits::{MAX_DESCRIPTION, MAX_DISPLAY_NAME};
use delta_core::ops::{
    Action, Body, Content, CreateError, DeviceKey, DeviceTell, EncodeError, Flaw, Hidden, InviteTerms, Level,
    LimitError, RoomKeys, RoomText, SpaceText, ToldOperation, create, room_id, space_id,
};

type Pairs = Vec<(u64, Value<'static>)>;

const WHO: [u8; 32] = [5; 32];
const OTHER: [u8; 32] = [6; 32];

fn member() -> Identity {
    Identity(WHO)
}

fn encoded(action: Action) -> Vec<u8> {
    Body::new(Content::Membership(Box::new(action))).encode().unwrap()
}

fn raw(kind: &'static str, payload: Pairs) -> Vec<u8> {
    let payload = Value::from(Map::from_pairs(payload));
    Value::from(Map::from_pairs([(0, Value::from(kind)), (1, payload)])).encode()
}

fn bytes(value: [u8; 32]) -> Value<'static> {
    Value::from(value)
}

fn text(value: &'static str) -> Value<'static> {
    Value::from(value)
}

fn number(value: u64) -> Value<'static> {
    Value::from(value)
}

/// Every kind with every key there is, as the table in docs/wire.md has it.
fn table() -> Vec<(Action, &'static str, Pairs)> {
    let about = SpaceText {
        name: "Garden".into(),
        label: Some("club".into()),
        description: Some("d".into()),
        avatar: Some(delta_core::ops::BlobId(WHO)),
        cover: Some(delta_core::ops::BlobId(OTHER)),
        welcome: Some("w".into()),
        public: true,
        history: true,
    };
    let about_pairs = || {
        vec![
            (0, text("Garden")),
            (1, text("club")),
            (2, text("d")),
            (3, bytes(WHO)),
            (4, bytes(OTHER)),
            (5, text("w")),
            (6, Value::from(true)),
            (7, Value::from(true)),
        ]
    };
    let room = RoomText { name: "R".into(), description: Some("d".into()), cooldown: Some(30) };
    let room_pairs = || vec![(0, bytes(OTHER)), (1, text("R")), (2, text("d")), (3, number(30))];
    let (invite, claim) = (OperationId(OTHER), OperationId([7; 32]));
    let terms = InviteTerms { token: Hidden(WHO), level: Level::Write, expires: Some(Millis(9)), once: true };
    let keys = RoomKeys { write: Hidden([8; 32]), secret: Hidden([9; 32]) };
    let log = LogId(OTHER);
    let member = member();
    let key = IdentityKey::from_seed(&OTHER);
    let certificate = Certificate::sign(&key, Author(WHO), Millis(3));
    let revocation = Revocation::sign(&key, Author(WHO), Millis(4));
    let who = || vec![(0, bytes(WHO))];
    let leveled = |level| vec![(0, bytes(WHO)), (1, number(level))];
    vec![
        (
            Action::SpaceCreate { nonce: OTHER, about: about.clone(), certificate: None },
            "space.create",
            [about_pairs(), vec![(8, bytes(OTHER))]].concat(),
        ),
        (
            Action::SpaceCreate {
                nonce: OTHER,
                about: about.clone(),
                certificate: Some(Box::new(certificate)),
            },
            "space.create",
            [about_pairs(), vec![(8, bytes(OTHER)), (9, Value::from(certificate.to_bytes()))]].concat(),
        ),
        (Action::SpaceUpdate { about }, "space.update", about_pairs()),
        (Action::SpaceDelete, "space.delete", vec![]),
        (
            Action::Add { member, level: Level::Read, invite: Some(invite), claim: Some(claim) },
            "member.add",
            vec![(0, bytes(WHO)), (1, number(1)), (2, bytes(OTHER)), (3, bytes([7; 32]))],
        ),
        (Action::Remove { member }, "member.remove", who()),
        (Action::Promote { member, level: Level::Manage }, "member.promote", leveled(3)),
        (Action::Demote { member, level: Level::Pull }, "member.demote", leveled(0)),
        (Action::Leave, "member.leave", vec![]),
        (Action::Transfer { member }, "member.transfer", who()),
        (
            Action::Ban { member, reason: Some("r".into()) },
            "member.ban",
            vec![(0, bytes(WHO)), (1, text("r"))],
        ),
        (Action::Unban { member }, "member.unban", who()),
        (
            Action::Mute { member, until: Some(Millis(7)) },
            "member.mute",
            vec![(0, bytes(WHO)), (1, number(7))],
        ),
        (Action::Unmute { member }, "member.unmute", who()),
        (Action::DeviceAdd { certificate }, "device.add", vec![(0, Value::from(certificate.to_bytes()))]),
        (Action::DeviceRevoke { revocation }, "device.revoke", vec![(0, Value::from(revocation.to_bytes()))]),
        (
            Action::InviteCreate(terms),
            "invite.create",
            vec![(0, bytes(WHO)), (1, number(2)), (2, number(9)), (3, Value::from(true))],
        ),
        (Action::InviteRevoke { invite }, "invite.revoke", vec![(0, bytes(OTHER))]),
        (
            Action::RoomCreate { nonce: OTHER, about: room.clone(), keys: keys.clone() },
            "room.create",
            [room_pairs(), vec![(4, bytes([8; 32])), (5, bytes([9; 32]))]].concat(),
        ),
        (Action::RoomRenew { room: log, epoch: 0x2_0000, from: 7, keys }, "room.renew", renewal(0x2_0000)),
        (Action::RoomUpdate { room: log, about: room }, "room.update", room_pairs()),
        (Action::RoomArchive { room: log }, "room.archive", vec![(0, bytes(OTHER))]),
        (Action::RoomUnarchive { room: log }, "room.unarchive", vec![(0, bytes(OTHER))]),
        (Action::RoomDelete { room: log }, "room.delete", vec![(0, bytes(OTHER))]),
    ]
}

fn renewal(epoch: u64) -> Vec<(u64, Value<'static>)> {
    let keys = [(4, bytes([8; 32])), (5, bytes([9; 32]))];
    [(0, bytes(OTHER)), (1, number(epoch)), (2, number(7))].into_iter().chain(keys).collect()
}

#[test]
fn a_renewal_begins_an_epoch_that_no_rotation_leads_to() {
    let read = |epoch| Body::decode(&raw("room.renew", renewal(epoch))).unwrap().content;
    for epoch in [0x1_0000, 0xffff_0000] {
        assert!(matches!(read(epoch), Content::Membership(_)), "{epoch:x}");
    }
    for epoch in [0, 1, 0xffff, 0x1_0001, 0xffff_ffff, 0x1_0000_0000] {
        let flaw = Content::Malformed { kind: "room.renew", flaw: Flaw::WrongType(1) };
        assert_eq!(read(epoch), flaw, "{epoch:x}");
    }
}

#[test]
fn every_kind_is_written_and_read_as_documented() {
    let mut kinds: Vec<_> = table().iter().map(|(_, kind, _)| *kind).collect();
    kinds.dedup();
    assert_eq!(kinds, Action::KINDS, "none is forgotten");
    for (action, kind, payload) in table() {
        let bytes = raw(kind, payload);
        assert_eq!(encoded(action.clone()), bytes, "{kind}");
        let read = Body::decode(&bytes).unwrap().content;
        assert_eq!(read, Content::Membership(Box::new(action)));
        assert_eq!(read.kind(), kind);
    }
    let others = [
        (
            Content::InviteClaim { invite: OperationId(OTHER), mac: WHO, space: LogId(OTHER) },
            raw("invite.claim", vec![(0, bytes(OTHER)), (1, bytes(WHO)), (2, bytes(OTHER))]),
        ),
        (
            Content::JoinRequest { text: Some("hi".into()), space: LogId(WHO) },
            raw("member.request", vec![(0, text("hi")), (1, bytes(WHO))]),
        ),
        (
            Content::JoinRequest { text: None, space: LogId(WHO) },
            raw("member.request", vec![(1, bytes(WHO))]),
        ),
        (Content::LeaveRequest { space: LogId(WHO) }, raw("leave.request", vec![(0, bytes(WHO))])),
        (
            Content::DeviceTell(Box::new(DeviceTell {
                space: LogId(WHO),
                operations: vec![ToldOperation { header: vec![1, 2], body: vec![3] }],
            })),
            raw(
                "device.tell",
                vec![
                    (0, bytes(WHO)),
                    (1, Value::from([Value::from([Value::from(vec![1u8, 2]), Value::from(vec![3u8])])])),
                ],
            ),
        ),
        (
            Content::ReadSet { log: LogId(OTHER), message: OperationId(WHO) },
            raw("read.set", vec![(0, bytes(OTHER)), (1, bytes(WHO))]),
        ),
    ];
    for (content, bytes) in others {
        assert_eq!(Body::new(content.clone()).encode().unwrap(), bytes);
        assert_eq!(Body::decode(&bytes).unwrap().content, content);
    }
}

#[test]
fn what_is_optional_may_be_absent_and_what_is_required_may_not() {
    let required = |kind: &str, key: u64| match kind {
        "space.create" | "space.update" => matches!(key, 0 | 8),
        "room.create" => matches!(key, 0 | 1 | 4 | 5),
        "room.renew" => true,
        "member.ban" | "member.mute" => key == 0,
        _ => matches!(key, 0 | 1),
    };
    for (_, kind, payload) in table() {
        for (key, _) in &payload {
            let without: Pairs = payload.iter().filter(|(other, _)| other != key).cloned().collect();
            let read = Body::decode(&raw(kind, without)).unwrap().content;
            if required(kind, *key) {
                assert_eq!(read, Content::Malformed { kind, flaw: Flaw::Missing(*key) }, "{kind} {key}");
            } else {
                assert!(matches!(read, Content::Membership(_)), "{kind} without {key}: {read:?}");
            }
            let mut wrong = payload.clone();
            wrong.iter_mut().filter(|(other, _)| other == key).for_each(|(_, value)| *value = Value::null());
            let read = Body::decode(&raw(kind, wrong)).unwrap().content;
            assert_eq!(read, Content::Malformed { kind, flaw: Flaw::WrongType(*key) }, "{kind} {key}");
        }
        let mut more = payload;
        more.push((99, number(1)));
        let read = Body::decode(&raw(kind, more)).unwrap().content;
        assert!(matches!(read, Content::Membership(_)), "an unknown key is ignored");
    }
    let level = raw("member.promote", vec![(0, bytes(WHO)), (1, number(4))]);
    let flaw = Flaw::WrongType(1);
    assert_eq!(Body::decode(&level).unwrap().content, Content::Malformed { kind: "member.promote", flaw });
}

#[test]
fn names_and_descriptions_have_their_limits() {
    let name = |chars: usize| "ä".repeat(chars);
    let long = |len: usize| Some("x".repeat(len));
    let space = |about: SpaceText| Action::SpaceUpdate { about };
    let room = |about: RoomText| Action::RoomUpdate { room: LogId(OTHER), about };
    let base = SpaceText::default;
    let over_name = LimitError::Name { chars: MAX_DISPLAY_NAME + 1 };
    let over_text = LimitError::Description { len: MAX_DESCRIPTION + 1 };
    type Make = Box<dyn Fn(usize) -> Action>;
    let cases: Vec<(Make, usize, LimitError)> = vec![
        (Box::new(move |n| space(SpaceText { name: name(n), ..base() })), MAX_DISPLAY_NAME, over_name),
        (Box::new(move |n| space(SpaceText { label: Some(name(n)), ..base() })), MAX_DISPLAY_NAME, over_name),
        (Box::new(move |n| space(SpaceText { description: long(n), ..base() })), MAX_DESCRIPTION, over_text),
        (Box::new(move |n| space(SpaceText { welcome: long(n), ..base() })), MAX_DESCRIPTION, over_text),
        (
            Box::new(move |n| room(RoomText { name: name(n), ..RoomText::default() })),
            MAX_DISPLAY_NAME,
            over_name,
        ),
        (
            Box::new(move |n| room(RoomText { description: long(n), ..RoomText::default() })),
            MAX_DESCRIPTION,
            over_text,
        ),
        (Box::new(move |n| Action::Ban { member: member(), reason: long(n) }), MAX_DESCRIPTION, over_text),
    ];
    let key = DeviceKey::from_bytes(&[1; 32]);
    for (make, limit, error) in cases {
        let body = |len| Body::new(Content::Membership(Box::new(make(len))));
        assert_eq!(Body::decode(&body(limit).encode().unwrap()), Ok(body(limit)));
        let refused = create(&key, LogId(OTHER), 0, None, &body(limit + 1));
        assert_eq!(refused, Err(CreateError::Body(EncodeError::Limit(error))));
    }
    let request = |len| Body::new(Content::JoinRequest { text: long(len), space: LogId(WHO) });
    assert!(request(MAX_DESCRIPTION).encode().is_ok());
    assert_eq!(request(MAX_DESCRIPTION + 1).encode(), Err(EncodeError::Limit(over_text)));
    let too_long = Value::from("x".repeat(MAX_DESCRIPTION + 1));
    let read = Body::decode(&raw("member.request", vec![(0, too_long)])).unwrap().content;
    assert_eq!(read, Content::Malformed { kind: "member.request", flaw: Flaw::Limit(over_text) });
}

/// The two derivations, by an independent BLAKE3: `blake3.blake3(owner + nonce, derive_key_context=…)` in Python.
#[test]
fn a_spaces_id_is_its_creators_and_a_rooms_its_spaces() {
    let space = space_id(Author([1; 32]), &[2; 32]);
    assert_eq!(space.to_string(), "e81800dfc12746006ba2fd413c859c44b4f58a9320c1c6826c7d8c18c965fd2c");
    assert_eq!(
        room_id(space, &[3; 32]).to_string(),
        "18b9a7efb677b9d1dc312a9391bed5d4bc8a2602533a526bc2102a4314b0990c"
    );
}

#[test]
fn neither_secrets_nor_texts_are_printed() {
    for (action, ..) in table() {
        let shown = format!("{action:?} {:?}", Content::Membership(Box::new(action.clone())));
        assert!(!shown.contains("Garden") && !shown.contains("club"), "{shown}");
        assert!(!shown.contains("[8, 8") && !shown.contains("[9, 9"), "{shown}");
        if matches!(action, Action::InviteCreate(_)) {
            assert!(!shown.contains("[5, 5"), "{shown}");
        }
    }
}
