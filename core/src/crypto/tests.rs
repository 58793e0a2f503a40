//! Two devices that talk, lose, repeat and are robbed; groups that go on without somebody.

use proptest::prelude::*;

use super::*;
use crate::entropy::SeededEntropy;
use crate::identity::{LogId, OperationId};
use crate::ops::{
    BLOCK_LEN, Body, Content, DeviceKey, InboxError, LogEnd, Rotation, Ticket, VerifiedOperation, create,
    inbox_log, open_inbox, padded_len, seal_inbox, write_padded,
};

const NOW: Millis = Millis(1_800_000_000_000);
const DAY: u64 = 24 * 3_600_000;

struct Device {
    key: DeviceKey,
    secrets: DeviceSecrets,
}

impl Device {
    fn new(seed: u8) -> Self {
        let secrets = TwoParty.generate(NOW, &mut SeededEntropy::new([seed; 32])).unwrap();
        Self { key: DeviceKey::from_bytes(&[seed; 32]), secrets }
    }

    fn author(&self) -> Author {
        self.key.author()
    }

    /// As others get it: out of an operation this device signed.
    fn bundle(&self) -> DeviceBundle {
        let content = Content::DeviceBundle(TwoParty.bundle(&self.secrets).unwrap());
        let operation = create(&self.key, LogId([1; 32]), 0, None, &Body::new(content)).unwrap();
        DeviceBundle::of(&operation).unwrap()
    }
}

/// A stands for the beginner, B for the other.
struct Pair {
    a: Device,
    b: Device,
    at_a: Session,
    at_b: Session,
}

impl Pair {
    fn new() -> Self {
        let (a, b) = (Device::new(1), Device::new(2));
        let (at_a, block) = TwoParty.begin(&a.secrets, &b.bundle(), b"first", NOW).unwrap();
        let (at_b, payload) = TwoParty.open(&b.secrets, None, &a.author(), &block).unwrap();
        assert_eq!(&payload[..], b"first");
        Self { a, b, at_a, at_b }
    }

    fn a_says(&mut self, payload: &[u8]) -> Block {
        let (session, block) = TwoParty.seal(&self.a.secrets, &self.at_a, payload).unwrap();
        self.at_a = session;
        block
    }

    fn b_says(&mut self, payload: &[u8]) -> Block {
        let (session, block) = TwoParty.seal(&self.b.secrets, &self.at_b, payload).unwrap();
        self.at_b = session;
        block
    }

    fn b_opens(&mut self, block: &Block) -> Result<Vec<u8>, OpenError> {
        let (session, payload) = TwoParty.open(&self.b.secrets, Some(&self.at_b), &self.a.author(), block)?;
        self.at_b = session;
        Ok(payload.to_vec())
    }

    fn a_opens(&mut self, block: &Block) -> Result<Vec<u8>, OpenError> {
        let (session, payload) = TwoParty.open(&self.a.secrets, Some(&self.at_a), &self.b.author(), block)?;
        self.at_a = session;
        Ok(payload.to_vec())
    }
}

#[test]
fn both_sides_talk_also_at_the_same_time_and_states_read_back() {
    let mut pair = Pair::new();
    for round in 0..40u8 {
        let (one, two) = (pair.a_says(&[round, 1]), pair.a_says(&[round, 2]));
        let answer = pair.b_says(&[round, 3]);
        assert_eq!(pair.b_opens(&one), Ok(vec![round, 1]));
        assert_eq!(pair.a_opens(&answer), Ok(vec![round, 3]));
        assert_eq!(pair.b_opens(&two), Ok(vec![round, 2]));
        // As from the database.
        pair.at_a = Session::from_bytes(&pair.at_a.to_bytes()).unwrap();
        pair.at_b = Session::from_bytes(&pair.at_b.to_bytes()).unwrap();
        pair.a.secrets = DeviceSecrets::from_bytes(&pair.a.secrets.to_bytes().unwrap()).unwrap();
    }
    assert_eq!((pair.at_a.sealed, pair.at_a.opened), (81, 40));
    assert_eq!((pair.at_b.sealed, pair.at_b.opened), (40, 81));
}

#[test]
fn out_of_order_and_doubled_blocks_do_not_break_a_session() {
    let mut pair = Pair::new();
    let blocks: Vec<Block> = (1..=5u8).map(|n| pair.a_says(&[n])).collect();
    assert_eq!(pair.b_opens(&blocks[4]), Err(OpenError::Early { expected: 1, found: 5 }));
    assert_eq!(pair.b_opens(&blocks[1]), Err(OpenError::Early { expected: 1, found: 2 }));
    for (n, block) in (1..).zip(&blocks) {
        assert_eq!(pair.b_opens(block), Ok(vec![n]));
        assert_eq!(pair.b_opens(block), Err(OpenError::Duplicate));
        assert_eq!(pair.b_opens(&blocks[0]), Err(OpenError::Duplicate));
    }
    let answer = pair.b_says(b"back");
    assert_eq!(pair.a_opens(&answer), Ok(b"back".to_vec()));
    assert_eq!(pair.a_opens(&answer), Err(OpenError::Duplicate));
}

#[test]
fn changed_and_foreign_blocks_leave_the_session_as_it_was() {
    let mut pair = Pair::new();
    let answer = pair.b_says(b"x");
    pair.a_opens(&answer).unwrap();
    for form in 0..2 {
        let block = if form == 0 { pair.a_says(b"good") } else { pair.a_says(b"more") };
        let bytes = block.to_bytes();
        for place in [12, 13, 14, 15, 20, 40, 60, 100, 200, BLOCK_LEN - 1] {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let changed = Block::from_bytes(&changed).unwrap();
            assert_eq!(pair.b_opens(&changed), Err(OpenError::Forged), "byte {place}");
        }
        let stranger = Device::new(9).author();
        let opened = TwoParty.open(&pair.b.secrets, Some(&pair.at_b), &stranger, &block);
        assert_eq!(opened.unwrap_err(), OpenError::OtherPeer);
        assert!(pair.b_opens(&block).is_ok());
    }
    assert!(
        Block::from_bytes(&[0; BLOCK_LEN - 1]).is_err() && Block::from_bytes(&[0; BLOCK_LEN + 1]).is_err()
    );
    // A session's name is that of its first block: nobody begins another under it.
    let mallory = Device::new(3);
    let (_, mut block) = TwoParty.begin(&mallory.secrets, &pair.b.bundle(), b"!", NOW).unwrap();
    block.session = pair.at_b.id;
    let opened = TwoParty.open(&pair.b.secrets, None, &mallory.author(), &block);
    assert_eq!(opened.unwrap_err(), OpenError::UnknownSession);
}

#[test]
fn the_present_state_does_not_open_what_was_opened_before() {
    let mut pair = Pair::new();
    let early = pair.a_says(b"early");
    pair.b_opens(&early).unwrap();
    let later = pair.a_says(b"later");
    pair.b_opens(&later).unwrap();
    // The thief counts as it pleases.
    let robbed = Session { opened: 1, ..pair.at_b.clone() };
    let opened = TwoParty.open(&pair.b.secrets, Some(&robbed), &pair.a.author(), &early);
    assert_eq!(opened.unwrap_err(), OpenError::Forged);
}

#[test]
fn a_stolen_state_opens_nothing_any_more_after_one_exchange() {
    let mut pair = Pair::new();
    let (stolen_session, stolen_secrets) = (pair.at_b.clone(), pair.b.secrets.clone());
    let thief = |block: &Block| {
        let session = Session { opened: block.index, ..stolen_session.clone() };
        TwoParty
            .open(&stolen_secrets, Some(&session), &pair.a.author(), block)
            .map(|(_, payload)| payload.to_vec())
    };
    // Both sides have sent once since: the keys of what follows were made after the theft.
    let answer = TwoParty.seal(&pair.b.secrets, &pair.at_b, b"still here").unwrap();
    pair.at_b = answer.0;
    pair.at_a = TwoParty.open(&pair.a.secrets, Some(&pair.at_a), &pair.b.author(), &answer.1).unwrap().0;
    for n in 0..5u8 {
        let (session, block) = TwoParty.seal(&pair.a.secrets, &pair.at_a, &[n]).unwrap();
        pair.at_a = session;
        assert_eq!(thief(&block), Err(OpenError::Forged), "message {n}");
        let (session, payload) =
            TwoParty.open(&pair.b.secrets, Some(&pair.at_b), &pair.a.author(), &block).unwrap();
        pair.at_b = session;
        assert_eq!(&payload[..], [n]);
    }
}

#[test]
fn case_63_an_expired_or_forged_bundle_is_refused() {
    let (a, b) = (Device::new(1), Device::new(2));
    let good = *b.bundle().bundle();
    let begin = |bundle: KeyBundle, now: Millis| {
        let bundle = DeviceBundle::unchecked(b.author(), bundle);
        TwoParty.begin(&a.secrets, &bundle, b"hi", now).map(|_| ())
    };
    assert_eq!(begin(good, NOW), Ok(()));
    let refused = |error| Err(CryptoError::Bundle(error));
    let last = Millis(good.expires.0 - 1);
    assert_eq!(begin(good, last), Ok(()), "the last instant");
    assert_eq!(begin(good, good.expires), refused(BundleError::Expired));
    let lifetime = |ms| KeyBundle { expires: NOW.plus(ms), ..good };
    assert_eq!(begin(lifetime(MAX_BUNDLE_LIFETIME_MS), NOW), Ok(()));
    assert_eq!(begin(lifetime(MAX_BUNDLE_LIFETIME_MS + 1), NOW), refused(BundleError::TooLong));
    // Another prekey under the device's identity, another identity around its prekey, a changed signature.
    let other = *Device::new(3).bundle().bundle();
    for forged in [
        KeyBundle { prekey: other.prekey, ..good },
        KeyBundle { identity: other.identity, ..good },
        KeyBundle { signature: other.signature, ..good },
    ] {
        assert_eq!(begin(forged, NOW), refused(BundleError::Signature));
    }
    for low in [[0; 32], [0xff; 32]] {
        assert_eq!(begin(KeyBundle { prekey: low, ..good }, NOW), refused(BundleError::Key));
        assert_eq!(begin(KeyBundle { identity: low, ..good }, NOW), refused(BundleError::Key));
    }
    // And one that says nothing of bundles has none.
    let body = Body::new(Content::MessageDelete { target: OperationId([1; 32]) });
    let operation = create(&b.key, LogId([1; 32]), 0, None, &body).unwrap();
    assert_eq!(DeviceBundle::of(&operation), None);
}

#[test]
fn prekeys_rotate_and_their_secrets_go_after_a_while() {
    let (a, mut b) = (Device::new(1), Device::new(2));
    assert!(!b.secrets.wants_rotation(NOW));
    assert!(b.secrets.wants_rotation(NOW.plus(PREKEY_LIFETIME_MS / 2 + 1)));
    let old = b.bundle();
    let (_, block) = TwoParty.begin(&a.secrets, &old, b"on its way", NOW).unwrap();
    let later = NOW.plus(31 * DAY);
    b.secrets = TwoParty.rotate_prekey(&b.secrets, later).unwrap();
    let new = b.bundle();
    assert_eq!(new.bundle().identity, old.bundle().identity);
    assert_ne!(new.bundle().prekey, old.bundle().prekey);
    assert_eq!(new.bundle().expires, later.plus(PREKEY_LIFETIME_MS));
    assert!(TwoParty.open(&b.secrets, None, &a.author(), &block).is_ok(), "the old one still opens");
    b.secrets = TwoParty.rotate_prekey(&b.secrets, NOW.plus(PREKEY_LIFETIME_MS + PREKEY_GRACE_MS)).unwrap();
    let opened = TwoParty.open(&b.secrets, None, &a.author(), &block);
    assert_eq!(opened.unwrap_err(), OpenError::UnknownPrekey);
    let (_, block) = TwoParty.begin(&a.secrets, &b.bundle(), b"hi", NOW.plus(75 * DAY)).unwrap();
    assert!(TwoParty.open(&b.secrets, None, &a.author(), &block).is_ok());
}

#[test]
fn case_66_key_material_is_not_in_debug_texts() {
    let pair = Pair::new();
    let shown = format!("{:?} {:?} {:?}", pair.at_a, pair.b.secrets, pair.a.bundle());
    let secrets = pair.b.secrets.to_bytes().unwrap();
    for window in pair.at_a.state.windows(16).chain(secrets.windows(16)) {
        assert!(!shown.contains(&hex::encode(window)), "{shown}");
    }
}

/// A room of a rotator and three others: one that writes, one that reads, one that is removed.
struct Room {
    rotator: Device,
    writer: Device,
    reader: Device,
    removed: Device,
    ticket: Ticket,
}

impl Room {
    fn new() -> Self {
        let ticket = Ticket::generate_private(&mut SeededEntropy::new([7; 32])).unwrap();
        let [rotator, writer, reader, removed] = [1, 2, 3, 4].map(Device::new);
        Self { rotator, writer, reader, removed, ticket }
    }

    fn rotate(&self) -> PreparedRotation {
        let bundles = [(self.writer.bundle(), true), (self.reader.bundle(), false)];
        let recipients: Vec<Recipient<'_>> = bundles
            .iter()
            .map(|(bundle, may_write)| Recipient { channel: Channel::Bundle(bundle), may_write: *may_write })
            .collect();
        let ends = vec![LogEnd { author: self.writer.author(), seq_num: 3, id: OperationId([3; 32]) }];
        let mut entropy = SeededEntropy::new([8; 32]);
        prepare_rotation(&TwoParty, &self.rotator.secrets, &self.ticket, &recipients, ends, NOW, &mut entropy)
            .unwrap()
    }

    fn open(&self, device: &Device, rotation: &Rotation) -> Result<Ticket, OpenError> {
        let (rotator, log) = (self.rotator.author(), self.ticket.log());
        open_rotation(&TwoParty, &device.secrets, None, &rotator, (log, rotation), &device.author())
            .map(|(_, ticket)| ticket)
    }
}

#[test]
fn a_rotation_gives_writers_the_write_key_and_readers_none() {
    let room = Room::new();
    let PreparedRotation { rotation, ticket, sessions, left_out } = room.rotate();
    assert!(left_out.is_empty() && sessions.len() == 2);
    assert_eq!((ticket.log(), ticket.epoch()), (room.ticket.log(), 1));
    assert_eq!((rotation.epoch, rotation.topic), (1, ticket.topic()));
    assert_ne!(ticket.topic(), room.ticket.topic());
    assert_eq!(room.open(&room.writer, &rotation).unwrap().to_string(), ticket.to_string());
    let read_only = room.open(&room.reader, &rotation).unwrap();
    assert_eq!(read_only.to_string(), ticket.read_only().to_string());
    assert!(!read_only.can_write());
}

#[test]
fn a_removed_member_with_every_secret_it_ever_had_reads_and_writes_nothing_new() {
    let room = Room::new();
    let PreparedRotation { rotation, ticket, .. } = room.rotate();
    assert_eq!(room.open(&room.removed, &rotation).unwrap_err(), OpenError::NoPart);
    // Nor with the parts of others.
    for part in &rotation.parts {
        let opened = TwoParty.open(&room.removed.secrets, None, &room.rotator.author(), &part.block);
        assert_eq!(opened.unwrap_err(), OpenError::UnknownPrekey);
    }
    let key = &room.writer.key;
    let body = Body::new(Content::MessageDelete { target: OperationId([1; 32]) });
    let operation = create(key, ticket.log(), 0, None, &body).unwrap();
    let envelope = ticket.keys().seal(operation.header(), operation.body_bytes()).unwrap();
    assert!(room.ticket.keys().open(&envelope).is_err(), "the old secret opens nothing of the new topic");
    // The new topic's id commits to a write key that the old one is not.
    assert_ne!(room.ticket.keys().write_verifying_key(), ticket.keys().write_verifying_key());
}

#[test]
fn a_rotation_that_names_another_topic_than_it_hands_over_is_refused() {
    let room = Room::new();
    let PreparedRotation { mut rotation, .. } = room.rotate();
    rotation.topic = room.ticket.topic();
    assert_eq!(room.open(&room.writer, &rotation).unwrap_err(), OpenError::Forged);
}

#[test]
fn one_device_that_cannot_be_reached_does_not_hold_up_a_removal() {
    let room = Room::new();
    let expired = DeviceBundle::unchecked(
        room.reader.author(),
        KeyBundle { expires: NOW, ..*room.reader.bundle().bundle() },
    );
    let (writer, mut entropy) = (room.writer.bundle(), SeededEntropy::new([8; 32]));
    let recipients =
        [&expired, &writer].map(|bundle| Recipient { channel: Channel::Bundle(bundle), may_write: true });
    let prepared = prepare_rotation(
        &TwoParty,
        &room.rotator.secrets,
        &room.ticket,
        &recipients,
        Vec::new(),
        NOW,
        &mut entropy,
    )
    .unwrap();
    let why = CryptoError::Bundle(BundleError::Expired);
    assert_eq!(prepared.left_out, [(room.reader.author(), why)]);
    assert!(room.open(&room.writer, &prepared.rotation).is_ok());
}

#[test]
fn a_failing_random_source_gives_no_secrets_and_no_epoch() {
    struct Broken;
    impl Entropy for Broken {
        fn fill(&mut self, _out: &mut [u8]) -> Result<(), EntropyError> {
            Err(EntropyError)
        }
    }
    assert_eq!(TwoParty.generate(NOW, &mut Broken).unwrap_err(), CryptoError::Entropy(EntropyError));
    let room = Room::new();
    let rotated =
        prepare_rotation(&TwoParty, &room.rotator.secrets, &room.ticket, &[], Vec::new(), NOW, &mut Broken);
    assert!(rotated.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn blocks_have_one_length_whatever_they_carry(payload in prop::collection::vec(any::<u8>(), 0..=MAX_PAYLOAD)) {
        let mut pair = Pair::new();
        let (_, first) = TwoParty.begin(&pair.a.secrets, &pair.b.bundle(), &payload, NOW).unwrap();
        prop_assert_eq!(first.to_bytes().len(), BLOCK_LEN);
        let second = pair.a_says(&payload);
        prop_assert_eq!(second.to_bytes().len(), BLOCK_LEN);
        prop_assert_eq!(pair.b_opens(&second), Ok(payload.clone()));
        let own = pair.b_says(&payload);
        prop_assert_eq!(own.to_bytes().len(), BLOCK_LEN);
        prop_assert_eq!(pair.a_opens(&own), Ok(payload));
    }

    #[test]
    fn made_up_blocks_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), BLOCK_LEN), form in 0u8..5) {
        let pair = Pair::new();
        let mut bytes = bytes;
        bytes[12] = form;
        let mut block = Block::from_bytes(&bytes).unwrap();
        prop_assert!(TwoParty.open(&pair.b.secrets, None, &pair.a.author(), &block).is_err());
        (block.session, block.index) = (pair.at_b.id, pair.at_b.opened);
        prop_assert!(TwoParty.open(&pair.b.secrets, Some(&pair.at_b), &pair.a.author(), &block).is_err());
    }

    #[test]
    fn more_than_a_block_holds_is_refused(extra in 1usize..100) {
        let pair = Pair::new();
        let len = MAX_PAYLOAD + extra;
        let refused = TwoParty.seal(&pair.a.secrets, &pair.at_a, &vec![0; len]);
        prop_assert_eq!(refused.unwrap_err(), CryptoError::TooLong { len });
    }
}

const THREAD: LogId = LogId([6; 32]);

fn message(device: &Device, seq_num: u32, backlink: Option<OperationId>, text: &str) -> VerifiedOperation {
    let content = Content::MessageSend { text: text.into(), reply: None, mentions: vec![] };
    create(&device.key, THREAD, seq_num, backlink, &Body::new(content)).unwrap()
}

fn direct(from: &Device, channel: Channel<'_>, operation: &VerifiedOperation) -> (Session, Vec<u8>) {
    seal_direct(&TwoParty, &from.secrets, channel, operation, NOW, &mut SeededEntropy::new([3; 32])).unwrap()
}

#[test]
fn direct_messages_travel_as_whole_operations_in_order_once() {
    let (a, b) = (Device::new(1), Device::new(2));
    let first = message(&a, 0, None, "one");
    let second = message(&a, 1, Some(first.id()), "two");
    let (at_a, one) = direct(&a, Channel::Bundle(&b.bundle()), &first);
    let (_, two) = direct(&a, Channel::Session(&at_a), &second);
    let (one, two) = (Direct::parse(&one).unwrap(), Direct::parse(&two).unwrap());
    assert_eq!((one.session(), one.index(), two.index()), (two.session(), 0, 1));
    let early = two.open(&TwoParty, &b.secrets, None, &THREAD).unwrap_err();
    assert_eq!(early, DirectError::Open(OpenError::UnknownSession));
    let OpenedDirect { session, operation } = one.open(&TwoParty, &b.secrets, None, &THREAD).unwrap();
    assert_eq!((session.peer, operation), (a.author(), first));
    let again = one.open(&TwoParty, &b.secrets, Some(&session), &THREAD).unwrap_err();
    assert_eq!(again, DirectError::Open(OpenError::Duplicate));
    let opened = two.open(&TwoParty, &b.secrets, Some(&session), &THREAD).unwrap();
    assert_eq!(opened.operation, second);
    // Another's operation in a session that stands, and one for another conversation.
    let mallory = Device::new(9);
    let (_, envelope) = direct(&a, Channel::Session(&at_a), &message(&mallory, 0, None, "not mine"));
    let refused = Direct::parse(&envelope).unwrap().open(&TwoParty, &b.secrets, Some(&session), &THREAD);
    assert_eq!(refused.unwrap_err(), DirectError::Open(OpenError::OtherPeer));
    let refused = two.open(&TwoParty, &b.secrets, Some(&session), &LogId([7; 32]));
    assert!(matches!(refused.unwrap_err(), DirectError::Operation(_)));
}

#[test]
fn a_changed_direct_envelope_opens_nothing() {
    let (a, b) = (Device::new(1), Device::new(2));
    let (_, envelope) = direct(&a, Channel::Bundle(&b.bundle()), &message(&a, 0, None, "hello"));
    for place in [0, 1, 9, 13, 30, 300, BLOCK_LEN, BLOCK_LEN + 1, envelope.len() - 1] {
        let mut changed = envelope.clone();
        changed[place] ^= 1;
        let opened = Direct::parse(&changed)
            .and_then(|direct| direct.open(&TwoParty, &b.secrets, None, &THREAD).map(|_| ()));
        assert!(opened.is_err(), "byte {place}");
    }
    for len in [0, 1, BLOCK_LEN, BLOCK_LEN + TAG, envelope.len() - 1] {
        let opened = Direct::parse(&envelope[..len])
            .and_then(|direct| direct.open(&TwoParty, &b.secrets, None, &THREAD).map(|_| ()));
        assert!(opened.is_err(), "{len} bytes");
    }
    let stranger = Device::new(3);
    let opened = Direct::parse(&envelope).unwrap().open(&TwoParty, &stranger.secrets, None, &THREAD);
    assert_eq!(opened.unwrap_err(), DirectError::Open(OpenError::UnknownPrekey));
}

/// 04 and the tag: what an envelope 04 has beside block and padded plaintext.
const TAG: usize = 16;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_length_of_every_sealed_envelope_tells_the_padded_size_alone(len in 0usize..4000, begun in any::<bool>()) {
        let (a, b) = (Device::new(1), Device::new(2));
        let operation = message(&a, 0, None, &"x".repeat(len));
        let padded = padded_len(6 + operation.header().len() + operation.body_bytes().len());
        let session = begun.then(|| direct(&a, Channel::Bundle(&b.bundle()), &operation).0);
        let bundle = b.bundle();
        let channel = session.as_ref().map_or(Channel::Bundle(&bundle), Channel::Session);
        let (_, envelope) = direct(&a, channel, &operation);
        prop_assert_eq!(envelope.len(), 1 + BLOCK_LEN + padded + TAG);

        let log = inbox_log(&a.author(), &b.author());
        let content = Content::MessageSend { text: "x".repeat(len), reply: None, mentions: vec![] };
        let operation = create(&a.key, log, 0, None, &Body::new(content)).unwrap();
        let padded = padded_len(6 + operation.header().len() + operation.body_bytes().len());
        let envelope = seal_inbox(&operation, &b.author(), &mut SeededEntropy::new([4; 32])).unwrap();
        // 01 | ephemeral key | nonce | sender, padded plaintext | tag.
        prop_assert_eq!(envelope.len(), 1 + 32 + 24 + 32 + padded + TAG);
        let name = a.author().0;
        prop_assert!(!envelope.windows(32).any(|window| window == name), "the sender is not to be seen");
        prop_assert_eq!(open_inbox(&b.key, envelope).unwrap(), operation);
    }
}

#[test]
fn an_inbox_takes_only_what_was_signed_for_it_by_who_seals() {
    let (a, b, c) = (Device::new(1), Device::new(2), Device::new(3));
    let log = inbox_log(&a.author(), &b.author());
    assert_ne!(log, inbox_log(&b.author(), &a.author()));
    let body = Body::new(Content::MessageDelete { target: OperationId([1; 32]) });
    let operation = create(&a.key, log, 0, None, &body).unwrap();
    let seal = |operation: &VerifiedOperation, to: &Device| {
        seal_inbox(operation, &to.author(), &mut SeededEntropy::new([4; 32]))
    };
    assert_eq!(seal(&operation, &c), Err(InboxError::OtherLog));
    let envelope = seal(&operation, &b).unwrap();
    assert_eq!(open_inbox(&b.key, envelope.clone()).unwrap().author(), a.author());
    assert!(matches!(open_inbox(&c.key, envelope.clone()), Err(InboxError::Open(_))));
    for place in 0..envelope.len() {
        let mut changed = envelope.clone();
        changed[place] ^= 1;
        assert!(open_inbox(&b.key, changed).is_err(), "byte {place}");
    }
    // What a device got in its inbox, passed on to another's under its own name or the author's.
    let mut padded = Vec::new();
    write_padded(&mut padded, operation.header(), operation.body_bytes()).unwrap();
    let to_c = crate::onion::IdentityKey::from_ed25519(&c.author().0).unwrap();
    for (sender, refused) in [(b.author(), "another sender"), (a.author(), "another log")] {
        let passed_on =
            crate::onion::sealed::seal(&sender, &to_c, &padded, &mut SeededEntropy::new([4; 32])).unwrap();
        assert!(open_inbox(&c.key, passed_on).is_err(), "{refused}");
    }
    // Unpadded, as other uses of sealed sender have it.
    let plain = [operation.header(), operation.body_bytes()].concat();
    let to_b = crate::onion::IdentityKey::from_ed25519(&b.author().0).unwrap();
    let unpadded =
        crate::onion::sealed::seal(&a.author(), &to_b, &plain, &mut SeededEntropy::new([4; 32])).unwrap();
    assert!(open_inbox(&b.key, unpadded).is_err());
}
