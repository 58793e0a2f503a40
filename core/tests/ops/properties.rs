//! What holds for every body, every operation and any bytes at all.

use cbor_core::{Map, Value};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{
    Author, Certificate, Identity, IdentityKey, LogId, Millis, OperationId, Revocation, ThreadId,
};
use delta_core::ops::{
    Action, BlobId, Body, Content, DeviceKey, DeviceTell, Hidden, InviteTerms, KeyRing, Level, Manifest,
    ObservedHead, OwnDevices, OwnPast, OwnThread, Rejected, RoomKeys, RoomText, SessionId, SignedBytes,
    SpaceText, Stage, ThreadPlace, Ticket, TicketBytes, ToldOperation, VerifiedOperation, create, peek,
    verify,
};
use delta_core::topic::{Chain, Generation, Seq, WriteKey};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::adversarial::{fields, log_only, signed};

const LOG: LogId = LogId([4; 32]);

fn id() -> impl Strategy<Value = OperationId> {
    any::<[u8; 32]>().prop_map(OperationId)
}

fn bytes() -> impl Strategy<Value = [u8; 32]> {
    any::<[u8; 32]>()
}

fn level() -> impl Strategy<Value = Level> {
    (0..4u64).prop_map(|number| Level::from_number(number).unwrap())
}

fn space_text() -> impl Strategy<Value = SpaceText> {
    let blob = || option::of(bytes().prop_map(BlobId));
    let (name, text) = (|| ".{0,16}", || option::of(".{0,100}"));
    (name(), option::of(name()), text(), blob(), blob(), text(), any::<bool>(), any::<bool>()).prop_map(
        |(name, label, description, avatar, cover, welcome, public, history)| SpaceText {
            name,
            label,
            description,
            avatar,
            cover,
            welcome,
            public,
            history,
        },
    )
}

fn room_text() -> impl Strategy<Value = RoomText> {
    (".{0,16}", option::of(".{0,100}"), option::of(any::<u64>()))
        .prop_map(|(name, description, cooldown)| RoomText { name, description, cooldown })
}

fn action() -> BoxedStrategy<Action> {
    let who = || bytes().prop_map(Identity);
    let word = || (any::<[u8; 32]>(), bytes(), any::<u64>());
    let room = || bytes().prop_map(LogId);
    let members = prop_oneof![
        (who(), level(), option::of(id()), option::of(id()))
            .prop_map(|(member, level, invite, claim)| Action::Add { member, level, invite, claim }),
        who().prop_map(|member| Action::Remove { member }),
        (who(), level()).prop_map(|(member, level)| Action::Promote { member, level }),
        (who(), level()).prop_map(|(member, level)| Action::Demote { member, level }),
        Just(Action::Leave),
        who().prop_map(|member| Action::Transfer { member }),
        (who(), option::of(".{0,100}")).prop_map(|(member, reason)| Action::Ban { member, reason }),
        who().prop_map(|member| Action::Unban { member }),
        (who(), option::of(any::<u64>().prop_map(Millis)))
            .prop_map(|(member, until)| Action::Mute { member, until }),
        who().prop_map(|member| Action::Unmute { member }),
    ]
    .boxed();
    let rest = prop_oneof![
        (bytes(), space_text(), option::of(word())).prop_map(|(nonce, about, of)| {
            let certificate = of.map(|(seed, device, at)| {
                Box::new(Certificate::sign(&IdentityKey::from_seed(&seed), Author(device), Millis(at)))
            });
            Action::SpaceCreate { nonce, about, certificate }
        }),
        word().prop_map(|(seed, device, at)| {
            let key = IdentityKey::from_seed(&seed);
            Action::DeviceAdd { certificate: Certificate::sign(&key, Author(device), Millis(at)) }
        }),
        word().prop_map(|(seed, device, at)| {
            let key = IdentityKey::from_seed(&seed);
            Action::DeviceRevoke { revocation: Revocation::sign(&key, Author(device), Millis(at)) }
        }),
        space_text().prop_map(|about| Action::SpaceUpdate { about }),
        Just(Action::SpaceDelete),
        (bytes(), level(), option::of(any::<u64>().prop_map(Millis)), any::<bool>()).prop_map(
            |(token, level, expires, once)| {
                Action::InviteCreate(InviteTerms { token: Hidden(token), level, expires, once })
            }
        ),
        id().prop_map(|invite| Action::InviteRevoke { invite }),
        (bytes(), room_text(), bytes(), bytes()).prop_map(|(nonce, about, write, secret)| {
            let keys = RoomKeys { write: Hidden(write), secret: Hidden(secret) };
            Action::RoomCreate { nonce, about, keys }
        }),
        (room(), 1..0x1_0000_u32, any::<u32>(), bytes(), bytes()).prop_map(
            |(room, number, from, write, secret)| {
                let keys = RoomKeys { write: Hidden(write), secret: Hidden(secret) };
                Action::RoomRenew { room, epoch: number << 16, from, keys }
            }
        ),
        (room(), room_text()).prop_map(|(room, about)| Action::RoomUpdate { room, about }),
        room().prop_map(|room| Action::RoomArchive { room }),
        room().prop_map(|room| Action::RoomUnarchive { room }),
        room().prop_map(|room| Action::RoomDelete { room }),
    ]
    .boxed();
    prop_oneof![members, rest].boxed()
}

fn signed_bytes() -> impl Strategy<Value = SignedBytes> {
    (vec(any::<u8>(), 0..300), vec(any::<u8>(), 0..300))
        .prop_map(|(header, body)| SignedBytes { header, body })
}

fn own_thread() -> impl Strategy<Value = OwnThread> {
    let place =
        || (bytes(), bytes()).prop_map(|(log, write)| ThreadPlace { log: LogId(log), write: Hidden(write) });
    let stage = prop_oneof![
        bytes().prop_map(|share| Stage::Asked(Hidden(share))),
        bytes().prop_map(|share| Stage::Requested(Hidden(share))),
        place().prop_map(Stage::Open),
        option::of(place()).prop_map(Stage::Closed),
    ];
    (bytes(), stage, bytes(), any::<u64>(), option::of(".{0,200}"), vec(signed_bytes(), 0..3)).prop_map(
        |(thread, stage, peer, made, text, bundles)| OwnThread {
            thread: ThreadId(thread),
            stage,
            peer: Author(peer),
            made: Millis(made),
            text,
            bundles,
        },
    )
}

fn manifest() -> impl Strategy<Value = Manifest> {
    (bytes(), bytes(), 0..2_000_000u64, ".{0,20}", option::of(".{0,20}"), any::<[u8; 32]>()).prop_map(
        |(id, key, size, mime, name, chunk)| Manifest {
            id: BlobId(id),
            key: Hidden(key),
            size,
            mime,
            name,
            ticket: TicketBytes([2; TicketBytes::LEN]),
            chunks: vec![chunk; Manifest::chunks_of(size) as usize],
        },
    )
}

fn content() -> BoxedStrategy<Content> {
    let text = || ".{0,200}";
    let short = || ".{1,16}";
    prop_oneof![
        action().prop_map(|action| Content::Membership(Box::new(action))),
        (id(), bytes(), bytes()).prop_map(|(invite, mac, space)| Content::InviteClaim {
            invite,
            mac,
            space: LogId(space)
        }),
        (option::of(text()), bytes())
            .prop_map(|(text, share)| Content::DirectRequest { share: Hidden(share), text }),
        (bytes(), bytes(), option::of(bytes()), vec(signed_bytes(), 0..3)).prop_map(
            |(thread, share, identity, bundles)| Content::DirectAccept {
                thread: ThreadId(thread),
                share: Hidden(share),
                identity: identity.map(Identity),
                bundles
            }
        ),
        own_thread().prop_map(|thread| Content::OwnDevices(Box::new(OwnDevices::Thread(Box::new(thread))))),
        (own_thread(), any::<[u8; 16]>(), vec((1..=Seq::MAX.0, signed_bytes()), 0..3)).prop_map(
            |(thread, generation, said)| {
                let said = said.into_iter().map(|(seq, operation)| (Seq(seq), operation)).collect();
                let past = OwnPast { thread, generation: Generation(generation), said };
                Content::OwnDevices(Box::new(OwnDevices::Past(Box::new(past))))
            }
        ),
        any::<[u8; 8]>().prop_map(|session| Content::DirectRenew { session: SessionId(session) }),
        (option::of(text()), bytes())
            .prop_map(|(text, space)| Content::JoinRequest { text, space: LogId(space) }),
        bytes().prop_map(|space| Content::LeaveRequest { space: LogId(space) }),
        (bytes(), vec((vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..40)), 0..4)).prop_map(|(space, told)| {
            let told = told.into_iter().map(|(header, body)| ToldOperation { header, body });
            Content::DeviceTell(Box::new(DeviceTell { space: LogId(space), operations: told.collect() }))
        }),
        (bytes(), id()).prop_map(|(log, message)| Content::ReadSet { log: LogId(log), message }),
        (text(), option::of(id()), vec(any::<[u8; 32]>().prop_map(Author), 0..5), vec(manifest(), 0..3))
            .prop_map(|(text, reply, mentions, attachments)| {
                Content::MessageSend { text, reply, mentions, attachments }
            }),
        (0..200u32, vec(any::<u8>(), 0..100)).prop_map(|(index, bytes)| Content::BlobChunk { index, bytes }),
        manifest().prop_map(|manifest| Content::BlobShare(Box::new(manifest))),
        (id(), text()).prop_map(|(target, text)| Content::MessageEdit { target, text }),
        id().prop_map(|target| Content::MessageDelete { target }),
        (id(), short()).prop_map(|(target, emoji)| Content::ReactionAdd { target, emoji }),
        (id(), short()).prop_map(|(target, emoji)| Content::ReactionRemove { target, emoji }),
        (
            short(),
            option::of(text()),
            option::of(any::<[u8; 32]>().prop_map(BlobId)),
            option::of(short()),
            any::<bool>()
        )
            .prop_map(|(name, bio, avatar, availability, public)| Content::ProfileSet {
                name,
                bio,
                avatar,
                availability,
                public
            }),
    ]
    .boxed()
}

fn observed() -> impl Strategy<Value = ObservedHead> {
    (any::<[u8; 16]>(), 0..=Seq::MAX.0, any::<[u8; 32]>()).prop_map(|(generation, seq, chain)| ObservedHead {
        generation: Generation(generation),
        seq: Seq(seq),
        chain: Chain(chain),
    })
}

fn body() -> impl Strategy<Value = Body> {
    (content(), option::of(any::<u64>().prop_map(Millis)), option::of(observed()), vec(id(), 0..=8))
        .prop_map(|(content, sent_at, observed, auth_heads)| Body { content, sent_at, observed, auth_heads })
}

fn operation() -> impl Strategy<Value = VerifiedOperation> {
    (any::<[u8; 32]>(), 0..u32::MAX, id(), body()).prop_map(|(seed, seq_num, before, body)| {
        let backlink = (seq_num > 0).then_some(before);
        create(&DeviceKey::from_bytes(&seed), LOG, seq_num, backlink, &body).unwrap()
    })
}

fn ring() -> (KeyRing, [Ticket; 2]) {
    let mut entropy = SeededEntropy::new([3; 32]);
    let tickets =
        [Ticket::generate_private(&mut entropy).unwrap(), Ticket::generate_public(&mut entropy).unwrap()];
    let mut ring = KeyRing::default();
    tickets.iter().for_each(|ticket| ring.insert(ticket.keys()));
    (ring, tickets)
}

/// What verifies here, p2panda's decoder verifies, and finds the same in it. (p2panda takes more than we do.)
fn assert_p2panda_reads_the_same(operation: &VerifiedOperation) {
    let p2panda = p2panda_core::AnyHeader::decode(operation.header()).unwrap();
    assert_eq!(p2panda.encode(), operation.header());
    assert_eq!(*p2panda.hash().as_bytes(), operation.id().0);
    assert_eq!(*p2panda.verifying_key.as_bytes(), operation.author().0);
    assert_eq!(p2panda.seq_num, operation.seq_num());
    assert_eq!(p2panda.backlink.map(|hash| *hash.as_bytes()), operation.backlink().map(|id| id.0));
    let body = p2panda_core::Body::from_bytes(operation.body_bytes());
    assert_eq!((p2panda.payload_hash, p2panda.payload_size), (Some(body.hash()), body.size()));
}

/// Everything that reads foreign bytes; the results do not matter, only that there are some.
fn read_everything(bytes: &[u8], other: &[u8]) {
    let _ = peek(bytes);
    if let Ok(operation) = verify(bytes, other, &LOG) {
        assert_p2panda_reads_the_same(&operation);
    }
    let _ = VerifiedOperation::from_store(bytes, other);
    let _ = Body::decode(bytes);
    let (ring, tickets) = ring();
    for ticket in &tickets {
        if let Ok(opened) = ring.open(&ticket.topic(), bytes) {
            let _ = opened.verify(&ticket.log());
        }
    }
    let _ = Ticket::parse(&String::from_utf8_lossy(bytes));
}

/// Any CBOR value without a tag.
fn plain() -> impl Strategy<Value = Value<'static>> + Clone {
    let leaf = prop_oneof![
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        prop_oneof![0..=23u8, 32..=255u8].prop_map(Value::simple_value),
        vec(any::<u8>(), 0..20).prop_map(Value::from),
        ".{0,9}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, around)
}

/// Any CBOR value that is a tag or holds one.
fn tagged() -> impl Strategy<Value = Value<'static>> + Clone {
    let number = prop_oneof![0..=3u64, Just(100), any::<u64>()];
    let leaf = (number, plain()).prop_map(|(number, value)| Value::tag(number, value));
    leaf.prop_recursive(3, 12, 4, around)
}

/// An array, a map key, a map value or a tag around at least one of these.
fn around(inner: BoxedStrategy<Value<'static>>) -> impl Strategy<Value = Value<'static>> + Clone {
    prop_oneof![
        vec(inner.clone(), 1..4).prop_map(Value::from),
        vec((inner.clone(), inner), 1..4).prop_map(|pairs| Value::from(Map::from_pairs(pairs))),
    ]
}

fn signed_with(extension: (Value<'static>, Value<'static>), body: &[u8]) -> Vec<u8> {
    let map = Map::from_pairs([extension, (Value::from(0), Value::from(LOG.0))]);
    signed(fields(body, 0, None, Value::from(map)))
}

/// The header under a right signature; `None` when the bytes are not what can be signed.
fn resigned(header: &[u8]) -> Option<Vec<u8>> {
    let Value::Array(items) = Value::decode_owned(header).ok()? else { return None };
    Some(signed(items.get(3..)?.to_vec()))
}

/// As the paper has it ("Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", figure 2), and 256 at
/// least: the length in binary keeps as many digits as its exponent's number of digits says.
fn padme(len: usize) -> usize {
    let exponent = usize::BITS - 1 - len.leading_zeros();
    let kept = u32::BITS - exponent.leading_zeros();
    let step = 1usize << (exponent - kept);
    len.div_ceil(step).saturating_mul(step).max(256)
}

proptest! {
    #[test]
    fn a_body_is_read_as_it_was_written(body in body()) {
        let bytes = body.encode().unwrap();
        prop_assert_eq!(Body::decode(&bytes).unwrap(), body);
    }

    #[test]
    fn an_operation_is_read_as_it_was_created(made in operation()) {
        let read = verify(made.header(), made.body_bytes(), &LOG).unwrap();
        prop_assert_eq!(&read, &made);
        assert_p2panda_reads_the_same(&made);
        prop_assert_eq!(VerifiedOperation::from_store(made.header(), made.body_bytes()).unwrap(), made);
    }

    #[test]
    fn two_members_make_the_same_envelope(made in operation(), seed: [u8; 32], secret: [u8; 32]) {
        let writer = Ticket::private(LOG, 0, WriteKey::from_seed(seed), secret);
        let member = Ticket::parse(&writer.read_only().to_string()).unwrap();
        let envelope = writer.keys().seal(made.header(), made.body_bytes()).unwrap();
        prop_assert_eq!(&member.keys().seal(made.header(), made.body_bytes()).unwrap(), &envelope);
        let opened = member.keys().open(&envelope).unwrap();
        prop_assert_eq!(opened.verify(&LOG).unwrap(), made);
    }

    #[test]
    fn the_length_of_a_topics_envelope_tells_the_padded_size_alone(made in operation(), seed: [u8; 32], secret: [u8; 32]) {
        let ticket = Ticket::private(LOG, 0, WriteKey::from_seed(seed), secret);
        let envelope = ticket.keys().seal(made.header(), made.body_bytes()).unwrap();
        // 03 | key_id | nonce | lengths, header, body, padded | tag
        let padded = padme(6 + made.header().len() + made.body_bytes().len());
        prop_assert_eq!(envelope.len(), 1 + 8 + 24 + padded + 16);
        let author = made.author().0;
        prop_assert!(!envelope.windows(32).any(|window| window == author), "the author is not to be seen");
    }

    #[test]
    fn a_ticket_is_read_as_it_was_printed(log: [u8; 32], epoch in 0..u32::MAX, seed: [u8; 32], secret: [u8; 32]) {
        let ticket = Ticket::private(LogId(log), epoch, WriteKey::from_seed(seed), secret);
        for ticket in [ticket.read_only(), ticket] {
            let read = Ticket::parse(&ticket.to_string()).unwrap();
            prop_assert_eq!(read.to_string(), ticket.to_string());
            prop_assert_eq!((read.log(), read.epoch()), (LogId(log), epoch));
            prop_assert_eq!(read.topic(), ticket.topic());
        }
    }

    #[test]
    fn a_changed_header_never_verifies_and_never_reads_differently(
        made in operation(), at in any::<prop::sample::Index>(), byte: u8,
    ) {
        let mut header = made.header().to_vec();
        let at = at.index(header.len());
        prop_assume!(header[at] != byte);
        header[at] = byte;
        prop_assert!(verify(&header, made.body_bytes(), &LOG).is_err());
        prop_assert!(p2panda_core::AnyHeader::decode(&header).is_err());
    }

    #[test]
    fn a_signed_header_with_any_unknown_extension_verifies(made in operation(), key in plain(), value in plain()) {
        prop_assume!(key != Value::from(0));
        let body = made.body_bytes();
        let read = verify(&signed_with((key, value), body), body, &LOG);
        prop_assert_eq!(read.as_ref().map(VerifiedOperation::log), Ok(LOG));
        assert_p2panda_reads_the_same(&read.unwrap());
    }

    #[test]
    fn a_signed_header_with_a_tag_in_its_extension_is_refused(made in operation(), a in plain(), tagged in tagged()) {
        let body = made.body_bytes();
        for extension in [(tagged.clone(), a.clone()), (a, tagged)] {
            let refused = verify(&signed_with(extension, body), body, &LOG).unwrap_err();
            // A date or a large number with content it cannot have is no CBOR at all.
            prop_assert!(matches!(refused, Rejected::HeaderTag | Rejected::HeaderCbor(_)), "{refused}");
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..600), other in vec(any::<u8>(), 0..60)) {
        read_everything(&bytes, &other);
    }

    #[test]
    fn nearly_right_bytes_are_read_without_a_panic(
        made in operation(), cut in any::<prop::sample::Index>(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        noise in vec(any::<u8>(), 0..40),
    ) {
        let (_, tickets) = ring();
        let mut all = vec![made.header().to_vec(), made.body_bytes().to_vec()];
        for ticket in &tickets {
            all.push(ticket.keys().seal(made.header(), made.body_bytes()).unwrap());
            all.push(ticket.to_string().into_bytes());
        }
        for bytes in all {
            let mut bytes = bytes;
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            read_everything(&bytes, made.body_bytes());
            read_everything(made.header(), &bytes);
            // The same under a right signature, to get past that check too.
            for header in resigned(&bytes).into_iter().chain([signed(fields(&bytes, 0, None, log_only()))]) {
                read_everything(&header, made.body_bytes());
                read_everything(&header, &bytes);
            }
            bytes.truncate(cut.index(bytes.len()));
            read_everything(&bytes, &noise);
            bytes.extend_from_slice(&noise);
            read_everything(&bytes, &noise);
        }
    }
}
