//! Two devices that talk, lose, repeat and are robbed; groups that go on without somebody.

use proptest::prelude::*;

use super::*;
use crate::entropy::SeededEntropy;
use crate::identity::{LogId, OperationId};
use crate::ops::{
    BLOCK_LEN, Body, Content, DeviceKey, InboxError, LogEnd, Rotation, SessionId, Ticket, VerifiedOperation,
    create, inbox_log, open_inbox, padded_len, seal_inbox, write_padded,
};
use crate::topic::TopicId;

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

    fn rotates(&self) -> Rotator<'_> {
        Rotator { device: self.author(), secrets: &self.secrets }
    }

    /// As others get it: out of an operation this device signed.
    fn bundle(&self) -> DeviceBundle {
        let content = Content::DeviceBundle(TwoParty.bundle(&self.secrets).unwrap());
        let operation = create(&self.key, LogId([1; 32]), 0, None, &Body::new(content)).unwrap();
        DeviceBundle::of(&operation).unwrap()
    }
}

/// A block that says which message it is for: this one.
fn talk(sender: Author, recipient: Author) -> Context {
    Context { purpose: Purpose::Direct, log: LogId([5; 32]), epoch: 0, sender, recipient }
}

fn begin(
    from: &Device,
    to: &DeviceBundle,
    payload: &[u8],
    now: Millis,
) -> Result<(Session, Block), CryptoError> {
    TwoParty.begin(&from.secrets, to, &talk(from.author(), to.device()), payload, now)
}

fn open(
    at: &Device,
    session: Option<&Session>,
    peer: &Author,
    block: &Block,
) -> Result<(Session, Vec<u8>), OpenError> {
    let opened = TwoParty.open(&at.secrets, session, peer, block, NOW)?.check(&talk(*peer, at.author()));
    opened.map(|(session, payload)| (session, payload.to_vec()))
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
        let (at_a, block) = begin(&a, &b.bundle(), b"first", NOW).unwrap();
        let (at_b, payload) = open(&b, None, &a.author(), &block).unwrap();
        assert_eq!(&payload[..], b"first");
        Self { a, b, at_a, at_b }
    }

    fn a_says(&mut self, payload: &[u8]) -> Block {
        let context = talk(self.a.author(), self.b.author());
        let (session, block) = TwoParty.seal(&self.a.secrets, &self.at_a, &context, payload).unwrap();
        self.at_a = session;
        block
    }

    fn b_says(&mut self, payload: &[u8]) -> Block {
        let context = talk(self.b.author(), self.a.author());
        let (session, block) = TwoParty.seal(&self.b.secrets, &self.at_b, &context, payload).unwrap();
        self.at_b = session;
        block
    }

    fn b_opens(&mut self, block: &Block) -> Result<Vec<u8>, OpenError> {
        let (session, payload) = open(&self.b, Some(&self.at_b), &self.a.author(), block)?;
        self.at_b = session;
        Ok(payload)
    }

    fn a_opens(&mut self, block: &Block) -> Result<Vec<u8>, OpenError> {
        let (session, payload) = open(&self.a, Some(&self.at_a), &self.b.author(), block)?;
        self.at_a = session;
        Ok(payload)
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
        for place in [12, 13, 15, 20, 40, 60, 100, 200, BLOCK_LEN - 1] {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let changed = Block::from_bytes(&changed).unwrap();
            assert_eq!(pair.b_opens(&changed), Err(OpenError::Forged), "byte {place}");
        }
        let stranger = Device::new(9).author();
        let opened = open(&pair.b, Some(&pair.at_b), &stranger, &block);
        assert_eq!(opened.unwrap_err(), OpenError::OtherPeer);
        assert!(pair.b_opens(&block).is_ok());
    }
    assert!(
        Block::from_bytes(&[0; BLOCK_LEN - 1]).is_err() && Block::from_bytes(&[0; BLOCK_LEN + 1]).is_err()
    );
    // A session's name is that of its first block: nobody begins another under it.
    let mallory = Device::new(3);
    let (_, mut block) = begin(&mallory, &pair.b.bundle(), b"!", NOW).unwrap();
    block.session = pair.at_b.id;
    let opened = open(&pair.b, None, &mallory.author(), &block);
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
    let opened = open(&pair.b, Some(&robbed), &pair.a.author(), &early);
    assert_eq!(opened.unwrap_err(), OpenError::Forged);
}

#[test]
fn a_stolen_state_opens_nothing_any_more_after_one_exchange() {
    let mut pair = Pair::new();
    let (stolen_session, stolen_secrets) = (pair.at_b.clone(), pair.b.secrets.clone());
    let from = pair.a.author();
    let thief = |block: &Block| {
        let session = Session { opened: block.index, ..stolen_session.clone() };
        TwoParty.open(&stolen_secrets, Some(&session), &from, block, NOW).map(|_| ())
    };
    // Both sides have sent once since: the keys of what follows were made after the theft.
    let answer = pair.b_says(b"still here");
    pair.a_opens(&answer).unwrap();
    for n in 0..5u8 {
        let block = pair.a_says(&[n]);
        assert_eq!(thief(&block), Err(OpenError::Forged), "message {n}");
        assert_eq!(pair.b_opens(&block), Ok(vec![n]));
    }
}

#[test]
fn case_63_an_expired_or_forged_bundle_is_refused() {
    let (a, b) = (Device::new(1), Device::new(2));
    let good = *b.bundle().bundle();
    let begin = |bundle: KeyBundle, now: Millis| {
        begin(&a, &DeviceBundle::unchecked(b.author(), bundle), b"hi", now).map(|_| ())
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
    let (_, block) = begin(&a, &old, b"on its way", NOW).unwrap();
    let later = NOW.plus(31 * DAY);
    b.secrets = TwoParty.rotate_prekey(&b.secrets, later).unwrap();
    let new = b.bundle();
    assert_eq!(new.bundle().identity, old.bundle().identity);
    assert_ne!(new.bundle().prekey, old.bundle().prekey);
    assert_eq!(new.bundle().expires, later.plus(PREKEY_LIFETIME_MS));
    assert!(open(&b, None, &a.author(), &block).is_ok(), "the old one still opens");
    b.secrets = TwoParty.rotate_prekey(&b.secrets, NOW.plus(PREKEY_LIFETIME_MS + PREKEY_GRACE_MS)).unwrap();
    let opened = open(&b, None, &a.author(), &block);
    assert_eq!(opened.unwrap_err(), OpenError::UnknownPrekey);
    let (_, block) = begin(&a, &b.bundle(), b"hi", NOW.plus(75 * DAY)).unwrap();
    assert!(open(&b, None, &a.author(), &block).is_ok());
}

#[test]
fn a_prekey_opens_nothing_once_its_time_and_the_grace_are_over_also_without_a_fresh_one() {
    let (a, b) = (Device::new(1), Device::new(2));
    let (_, block) = begin(&a, &b.bundle(), b"on its way", NOW).unwrap();
    let opened = |now| TwoParty.open(&b.secrets, None, &a.author(), &block, now).map(|_| ());
    let end = NOW.plus(PREKEY_LIFETIME_MS + PREKEY_GRACE_MS);
    assert_eq!(opened(Millis(end.0 - 1)), Ok(()));
    assert_eq!(opened(end), Err(OpenError::UnknownPrekey));
}

#[test]
fn a_clock_that_was_far_ahead_costs_neither_the_bundle_nor_what_is_on_its_way() {
    let (a, mut b) = (Device::new(1), Device::new(2));
    let (_, block) = begin(&a, &b.bundle(), b"on its way", NOW).unwrap();
    b.secrets = TwoParty.rotate_prekey(&b.secrets, NOW.plus(365 * DAY)).unwrap();
    assert!(open(&b, None, &a.author(), &block).is_ok());
    // The clock is right again: nobody takes the new bundle, so it is renewed at once.
    let refused = begin(&a, &b.bundle(), b"hi", NOW).unwrap_err();
    assert_eq!(refused, CryptoError::Bundle(BundleError::TooLong));
    assert!(b.secrets.wants_rotation(NOW));
    b.secrets = TwoParty.rotate_prekey(&b.secrets, NOW).unwrap();
    assert!(!b.secrets.wants_rotation(NOW));
    assert!(begin(&a, &b.bundle(), b"hi", NOW).is_ok());
}

#[test]
fn case_66_key_material_is_not_in_debug_texts() {
    let pair = Pair::new();
    let shown = format!("{:?} {:?} {:?}", pair.at_a, pair.b.secrets, pair.a.bundle());
    let secrets = pair.b.secrets.to_bytes().unwrap();
    for window in pair.at_a.state.windows(16).chain(secrets.windows(16)) {
        let decimal = format!("{window:?}");
        let decimal = decimal.trim_matches(['[', ']']);
        assert!(!shown.contains(&hex::encode(window)) && !shown.contains(decimal), "{shown}");
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
        let recipients: Vec<Recipient<'_>> =
            bundles.iter().map(|(bundle, may_write)| Recipient { bundle, may_write: *may_write }).collect();
        let ends = vec![LogEnd { author: self.writer.author(), seq_num: 3, id: OperationId([3; 32]) }];
        let mut entropy = SeededEntropy::new([8; 32]);
        prepare_rotation(
            &TwoParty,
            self.rotator.rotates(),
            &self.ticket,
            &recipients,
            ends,
            NOW,
            &mut entropy,
        )
        .unwrap()
    }

    fn open(&self, device: &Device, rotation: &Rotation) -> Result<Ticket, OpenError> {
        self.open_as(device, self.incoming(rotation))
    }

    fn incoming<'a>(&self, rotation: &'a Rotation) -> IncomingRotation<'a> {
        let (rotator, log, epoch) = (self.rotator.author(), self.ticket.log(), self.ticket.epoch());
        IncomingRotation { rotation, rotator, log, epoch, now: NOW }
    }

    fn open_as(&self, device: &Device, incoming: IncomingRotation<'_>) -> Result<Ticket, OpenError> {
        let is_old = |topic: &TopicId| *topic == self.ticket.topic();
        open_rotation(&TwoParty, &device.secrets, incoming, &device.author(), is_old)
    }
}

#[test]
fn a_rotation_gives_writers_the_write_key_and_readers_none() {
    let room = Room::new();
    let PreparedRotation { rotation, ticket, left_out } = room.rotate();
    assert!(left_out.is_empty() && rotation.parts.len() == 2);
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
        let opened = TwoParty.open(&room.removed.secrets, None, &room.rotator.author(), &part.block, NOW);
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
    rotation.topic = TopicId([4; 32]);
    assert_eq!(room.open(&room.writer, &rotation).unwrap_err(), OpenError::Forged);
}

#[test]
fn a_rotation_leads_to_the_next_epoch_and_a_new_topic_or_nowhere() {
    let room = Room::new();
    let PreparedRotation { rotation, .. } = room.rotate();
    for found in [2, u32::MAX - 1] {
        let refused = room.open(&room.writer, &Rotation { epoch: found, ..rotation.clone() });
        assert_eq!(refused.unwrap_err(), OpenError::WrongEpoch { expected: 1, found });
    }
    let behind = IncomingRotation { epoch: 1, ..room.incoming(&rotation) };
    let refused = room.open_as(&room.writer, behind).unwrap_err();
    assert_eq!(refused, OpenError::WrongEpoch { expected: 2, found: 1 });
    // Sealed and committed to as it should be, but removed devices hold the keys of that topic.
    let old = room.handing_over(&room.ticket, &room.rotator);
    assert_eq!(room.open(&room.writer, &old).unwrap_err(), OpenError::OldTopic);
}

/// A ticket of the room's next epoch with the write key of `keys` and another secret.
fn with_secret(room: &Room, keys: &Ticket, secret: u8) -> Ticket {
    let mut bytes = keys.handover();
    let end = bytes.len() - 32;
    bytes[end..].fill(secret);
    Ticket::from_handover(room.ticket.log(), 1, &bytes).unwrap()
}

impl Room {
    /// A rotation that hands `ticket` to the writer, by `rotator`, as far as the commitment goes an honest one.
    fn handing_over(&self, ticket: &Ticket, rotator: &Device) -> Rotation {
        let bundle = self.writer.bundle();
        let (log, sender, recipient) = (self.ticket.log(), rotator.author(), self.writer.author());
        let context = Context { purpose: Purpose::Rotation, log, epoch: 1, sender, recipient };
        let (_, block) =
            TwoParty.begin(&rotator.secrets, &bundle, &context, &ticket.handover(), NOW).unwrap();
        let parts = vec![crate::ops::RotationPart { device: recipient, block }];
        let commitment = with_secret(self, ticket, 1).commitment(&sender);
        Rotation { epoch: 1, topic: ticket.topic(), parts, ends: Vec::new(), commitment }
    }
}

#[test]
fn a_rotator_cannot_split_a_room_with_two_secrets_under_one_write_key() {
    let room = Room::new();
    let keys = room.ticket.next_epoch(&mut SeededEntropy::new([9; 32])).unwrap();
    let (one, two) = (with_secret(&room, &keys, 1), with_secret(&room, &keys, 2));
    assert_eq!(one.topic(), two.topic());
    let honest = room.handing_over(&one, &room.rotator);
    assert_eq!(room.open(&room.writer, &honest).unwrap().to_string(), one.to_string());
    let other = room.handing_over(&two, &room.rotator);
    assert_eq!(other.commitment, honest.commitment);
    assert_eq!(room.open(&room.writer, &other).unwrap_err(), OpenError::Forged);
}

#[test]
fn a_part_copied_into_another_rotation_opens_nothing_there_and_still_opens_where_it_belongs() {
    let room = Room::new();
    let PreparedRotation { rotation, ticket, .. } = room.rotate();
    let mallory = room.removed.author();
    let incoming = room.incoming(&rotation);
    // As the copier's own, in the same log and in one where it is a manager; the commitment copied too.
    for copied in [
        IncomingRotation { rotator: mallory, ..incoming },
        IncomingRotation { rotator: mallory, log: LogId([9; 32]), ..incoming },
        IncomingRotation { log: LogId([9; 32]), ..incoming },
    ] {
        assert_eq!(room.open_as(&room.writer, copied).unwrap_err(), OpenError::Forged);
    }
    // Even one that knows the secret, and so can commit to it, cannot pass another's block off as its own.
    let commitment = ticket.commitment(&mallory);
    let knowing = Rotation { commitment, ..rotation.clone() };
    let copied = IncomingRotation { rotator: mallory, ..room.incoming(&knowing) };
    assert_eq!(room.open_as(&room.writer, copied).unwrap_err(), OpenError::Forged);
    // A bundle that was published under another name leads to a block that the key's owner does not take.
    let stolen = DeviceBundle::unchecked(mallory, *room.writer.bundle().bundle());
    let (_, block) = begin(&room.rotator, &stolen, b"for mallory", NOW).unwrap();
    let opened = open(&room.writer, None, &room.rotator.author(), &block);
    assert_eq!(opened.unwrap_err(), OpenError::Forged);
    assert_eq!(room.open(&room.writer, &rotation).unwrap().to_string(), ticket.to_string());
}

#[test]
fn a_rotation_opens_whatever_became_of_those_before_it_and_hands_each_device_one_part() {
    let room = Room::new();
    let lost = [room.rotate(), room.rotate()];
    let PreparedRotation { rotation, ticket, .. } = room.rotate();
    assert_eq!(room.open(&room.writer, &rotation).unwrap().topic(), ticket.topic());
    // An older one that was withheld until now opens as well: it was first, perhaps.
    for prepared in lost {
        assert_eq!(
            room.open(&room.writer, &prepared.rotation).unwrap().to_string(),
            prepared.ticket.to_string()
        );
    }
    let (writer, own) = (room.writer.bundle(), room.rotator.bundle());
    let recipients = [&writer, &own, &writer].map(|bundle| Recipient { bundle, may_write: true });
    let (ends, mut entropy) = (Vec::new(), SeededEntropy::new([8; 32]));
    let rotator = room.rotator.rotates();
    let prepared =
        prepare_rotation(&TwoParty, rotator, &room.ticket, &recipients, ends, NOW, &mut entropy).unwrap();
    let parts: Vec<Author> = prepared.rotation.parts.iter().map(|part| part.device).collect();
    assert_eq!(parts, [room.writer.author()]);
}

#[test]
fn one_device_that_cannot_be_reached_does_not_hold_up_a_removal() {
    let room = Room::new();
    let expired = DeviceBundle::unchecked(
        room.reader.author(),
        KeyBundle { expires: NOW, ..*room.reader.bundle().bundle() },
    );
    let (writer, mut entropy) = (room.writer.bundle(), SeededEntropy::new([8; 32]));
    let recipients = [&expired, &writer].map(|bundle| Recipient { bundle, may_write: true });
    let prepared = prepare_rotation(
        &TwoParty,
        room.rotator.rotates(),
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
        prepare_rotation(&TwoParty, room.rotator.rotates(), &room.ticket, &[], Vec::new(), NOW, &mut Broken);
    assert!(rotated.is_err());
}

/// Where a block of this form ends, before the zeros.
fn filled(block: &Block) -> usize {
    block.content.iter().rposition(|&byte| byte != 0).unwrap() + 1
}

#[test]
fn nothing_in_the_clear_depends_on_what_a_block_carries_or_which_one_it_is() {
    let mut pair = Pair::new();
    let payloads = [&[][..], &[0; MAX_PAYLOAD], &[0xff; MAX_PAYLOAD], &[23; 32], &[24; 32]];
    // The last bytes are a tag's: one in 256 is zero, eight in a row are not.
    let bytes = |block: &Block| filled(block).div_ceil(8);
    let first = |payload: &[u8]| begin(&pair.a, &pair.b.bundle(), payload, NOW).unwrap().1;
    assert!(payloads.iter().all(|payload| bytes(&first(payload)) == 431_usize.div_ceil(8)));
    // The number beside the payload grows from one byte to three.
    for round in 0..300 {
        // Any number of them, for once: how many may be unanswered has a test of its own.
        pair.at_a.unanswered = 0;
        let block = pair.a_says(payloads[round % payloads.len()]);
        assert_eq!(bytes(&block), 367_usize.div_ceil(8), "{round}");
        assert_eq!(pair.b_opens(&block).unwrap(), payloads[round % payloads.len()]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn blocks_have_one_length_whatever_they_carry(payload in prop::collection::vec(any::<u8>(), 0..=MAX_PAYLOAD)) {
        let mut pair = Pair::new();
        let (_, first) = begin(&pair.a, &pair.b.bundle(), &payload, NOW).unwrap();
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
        // Usable keys, and zeros where a form has them: what is refused is refused by the cryptography.
        let usable = pair.a.bundle().bundle().identity;
        let keys = match form {
            1 => {
                let prekey = pair.b.bundle().bundle().prekey;
                [&usable[..], &prekey, &usable].concat()
            }
            3 => [&1u64.to_be_bytes()[..], &usable].concat(),
            _ => usable.to_vec(),
        };
        bytes[13..13 + keys.len()].copy_from_slice(&keys);
        bytes[13 + keys.len() + 334..].fill(0);
        let mut block = Block::from_bytes(&bytes).unwrap();
        block.session = SessionId::of(&block.content);
        block.index = 0;
        let opened = TwoParty.open(&pair.b.secrets, None, &pair.a.author(), &block, NOW);
        let refused = if form == 1 { OpenError::Forged } else { OpenError::UnknownSession };
        prop_assert_eq!(opened.unwrap_err(), refused);
        (block.session, block.index) = (pair.at_b.id, pair.at_b.opened);
        let opened = TwoParty.open(&pair.b.secrets, Some(&pair.at_b), &pair.a.author(), &block, NOW);
        prop_assert_eq!(opened.unwrap_err(), OpenError::Forged);
    }

    #[test]
    fn more_than_a_block_holds_is_refused(extra in 1usize..100) {
        let pair = Pair::new();
        let len = MAX_PAYLOAD + extra;
        let context = talk(pair.a.author(), pair.b.author());
        let refused = TwoParty.seal(&pair.a.secrets, &pair.at_a, &context, &vec![0; len]);
        prop_assert_eq!(refused.unwrap_err(), CryptoError::TooLong { len });
    }
}

const THREAD: LogId = LogId([6; 32]);

fn message(device: &Device, seq_num: u32, backlink: Option<OperationId>, text: &str) -> VerifiedOperation {
    let content = Content::MessageSend { text: text.into(), reply: None, mentions: vec![] };
    create(&device.key, THREAD, seq_num, backlink, &Body::new(content)).unwrap()
}

fn direct(from: &Device, channel: Channel<'_>, operation: &VerifiedOperation) -> (Session, Vec<u8>) {
    let what = (operation.author(), operation.log());
    let mut entropy = SeededEntropy::new([3; 32]);
    let prepared = prepare_direct(&TwoParty, &from.secrets, channel, what, NOW, &mut entropy).unwrap();
    (prepared.session.clone(), prepared.seal(operation).unwrap())
}

#[test]
fn what_was_prepared_for_one_message_seals_no_other() {
    let (a, b) = (Device::new(1), Device::new(2));
    let mut entropy = SeededEntropy::new([3; 32]);
    let bundle = b.bundle();
    let what = (a.author(), LogId([7; 32]));
    let prepared =
        prepare_direct(&TwoParty, &a.secrets, Channel::Bundle(&bundle), what, NOW, &mut entropy).unwrap();
    assert_eq!(prepared.seal(&message(&a, 0, None, "another log")).unwrap_err(), DirectError::Form);
    assert_eq!(prepared.recipient(), b.author());
    assert!(prepared.before.is_none());
}

/// What a thief opens who has a session's state and the device's secrets, and counts as it pleases.
fn robs(session: &Session, secrets: &DeviceSecrets, from: &Author, block: &Block) -> bool {
    let known = Session { opened: block.index, ..session.clone() };
    TwoParty.open(secrets, Some(&known), from, block, NOW).is_ok()
        || TwoParty.open(secrets, None, from, block, NOW).is_ok()
}

#[test]
fn a_session_ends_at_its_last_unanswered_block_and_what_follows_is_closed_to_an_old_state() {
    let mut pair = Pair::new();
    let stolen = (pair.at_b.clone(), pair.b.secrets.clone());
    let from = pair.a.author();
    let bundle_expires = pair.at_a.bundle_expires;
    for _ in 1..MAX_UNANSWERED {
        assert!(pair.at_a.may_seal(Some(bundle_expires)));
        let block = pair.a_says(b"and another");
        pair.b_opens(&block).unwrap();
    }
    assert_eq!(pair.at_a.unanswered, MAX_UNANSWERED);
    assert!(!pair.at_a.may_seal(Some(bundle_expires)));
    let context = talk(from, pair.b.author());
    let full = TwoParty.seal(&pair.a.secrets, &pair.at_a, &context, b"past it").unwrap_err();
    assert_eq!(full, CryptoError::SessionFull);
    // The next session begins from the bundle that was published since.
    let fresh = TwoParty.rotate_prekey(&pair.b.secrets, NOW.plus(PREKEY_LIFETIME_MS / 2)).unwrap();
    pair.b.secrets = fresh;
    let (_, block) = begin(&pair.a, &pair.b.bundle(), b"anew", NOW).unwrap();
    assert!(!robs(&stolen.0, &stolen.1, &from, &block));
    assert!(open(&pair.b, None, &from, &block).is_ok());
    // One answer, and the old session may be used again.
    let answer = pair.b_says(b"here");
    pair.a_opens(&answer).unwrap();
    assert_eq!((pair.at_a.unanswered, pair.at_a.may_seal(None)), (0, true));
}

#[test]
fn what_is_unanswered_goes_on_from_a_newer_bundle_when_there_is_one() {
    let mut pair = Pair::new();
    let newer = pair.at_a.bundle_expires.plus(1);
    assert!(!pair.at_a.may_seal(Some(newer)), "the first block is unanswered");
    assert!(pair.at_b.may_seal(Some(newer)), "the other one began it");
    let answer = pair.b_says(b"here");
    pair.a_opens(&answer).unwrap();
    assert!(pair.at_a.may_seal(Some(newer)), "both talk: it heals by itself");
    assert_eq!(Session::from_bytes(&pair.at_a.to_bytes()).unwrap(), pair.at_a);
}

#[test]
fn expired_prekeys_are_forgotten_by_the_clock_but_for_the_two_newest() {
    let device = Device::new(1);
    let later = |days: u64| NOW.plus(days * DAY);
    let second = TwoParty.rotate_prekey(&device.secrets, later(30)).unwrap();
    let third = TwoParty.rotate_prekey(&second, later(60)).unwrap();
    assert_eq!((device.secrets.prekeys.len(), third.prekeys.len()), (1, 3));
    assert!(third.forget_expired(later(73)).is_none(), "in its grace");
    let left = third.forget_expired(later(74)).unwrap();
    assert_eq!(left.prekeys.len(), 2);
    assert!(left.forget_expired(later(10_000)).is_none(), "a clock far ahead");
    assert_eq!(left.expires(), later(120));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// However two devices talk: a state stolen from either opens nothing after each has heard from the other once more.
    #[test]
    fn a_stolen_state_opens_nothing_after_one_exchange_whoever_was_robbed(
        talk in proptest::collection::vec(any::<bool>(), 0..12),
        robbed_a in any::<bool>(),
        after in proptest::collection::vec(any::<bool>(), 1..6),
    ) {
        let mut pair = Pair::new();
        let exchange = |pair: &mut Pair, a_says: bool| {
            let block = if a_says { pair.a_says(b"x") } else { pair.b_says(b"x") };
            if a_says { pair.b_opens(&block).unwrap() } else { pair.a_opens(&block).unwrap() };
            block
        };
        for a_says in talk {
            exchange(&mut pair, a_says);
        }
        let (session, secrets) = match robbed_a {
            true => (pair.at_a.clone(), pair.a.secrets.clone()),
            false => (pair.at_b.clone(), pair.b.secrets.clone()),
        };
        // The robbed one speaks, and is answered: the answer is sealed to a key the thief has not seen.
        exchange(&mut pair, robbed_a);
        exchange(&mut pair, !robbed_a);
        exchange(&mut pair, robbed_a);
        let peer = if robbed_a { pair.b.author() } else { pair.a.author() };
        for to_robbed in after {
            let block = exchange(&mut pair, to_robbed != robbed_a);
            if to_robbed {
                prop_assert!(!robs(&session, &secrets, &peer, &block));
            }
        }
    }
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
    let early = two.open(&TwoParty, (b.author(), &b.secrets), None, &THREAD, NOW).unwrap_err();
    assert_eq!(early, DirectError::Open(OpenError::UnknownSession));
    let OpenedDirect { session, operation } =
        one.open(&TwoParty, (b.author(), &b.secrets), None, &THREAD, NOW).unwrap();
    assert_eq!((session.peer, operation), (a.author(), first));
    let again = one.open(&TwoParty, (b.author(), &b.secrets), Some(&session), &THREAD, NOW).unwrap_err();
    assert_eq!(again, DirectError::Open(OpenError::Duplicate));
    let opened = two.open(&TwoParty, (b.author(), &b.secrets), Some(&session), &THREAD, NOW).unwrap();
    assert_eq!(opened.operation, second);
    // Another's operation in a session that stands, and one for another conversation.
    let mallory = Device::new(9);
    let (_, envelope) = direct(&a, Channel::Session(&at_a), &message(&mallory, 0, None, "not mine"));
    let refused = Direct::parse(&envelope).unwrap().open(
        &TwoParty,
        (b.author(), &b.secrets),
        Some(&session),
        &THREAD,
        NOW,
    );
    assert_eq!(refused.unwrap_err(), DirectError::Open(OpenError::OtherPeer));
    let refused = two.open(&TwoParty, (b.author(), &b.secrets), Some(&session), &LogId([7; 32]), NOW);
    assert!(matches!(refused.unwrap_err(), DirectError::Operation(_)));
}

#[test]
fn a_changed_direct_envelope_opens_nothing() {
    let (a, b) = (Device::new(1), Device::new(2));
    let (_, envelope) = direct(&a, Channel::Bundle(&b.bundle()), &message(&a, 0, None, "hello"));
    for place in [0, 1, 9, 13, 30, 300, BLOCK_LEN, BLOCK_LEN + 1, envelope.len() - 1] {
        let mut changed = envelope.clone();
        changed[place] ^= 1;
        let opened = Direct::parse(&changed).and_then(|direct| {
            direct.open(&TwoParty, (b.author(), &b.secrets), None, &THREAD, NOW).map(|_| ())
        });
        assert!(opened.is_err(), "byte {place}");
    }
    for len in [0, 1, BLOCK_LEN, BLOCK_LEN + TAG, envelope.len() - 1] {
        let opened = Direct::parse(&envelope[..len]).and_then(|direct| {
            direct.open(&TwoParty, (b.author(), &b.secrets), None, &THREAD, NOW).map(|_| ())
        });
        assert!(opened.is_err(), "{len} bytes");
    }
    let stranger = Device::new(3);
    let opened = Direct::parse(&envelope).unwrap().open(
        &TwoParty,
        (stranger.author(), &stranger.secrets),
        None,
        &THREAD,
        NOW,
    );
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
