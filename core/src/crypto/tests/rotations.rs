//! Rooms that go on without somebody.

use super::*;

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
