//! What one device says to another: in sessions, in direct threads and in inboxes.

use super::*;

const THREAD: LogId = LogId([6; 32]);

fn message(device: &Device, seq_num: u32, backlink: Option<OperationId>, text: &str) -> VerifiedOperation {
    let content =
        Content::MessageSend { text: text.into(), reply: None, mentions: vec![], attachments: Vec::new() };
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
        let content = Content::MessageSend { text: "x".repeat(len), reply: None, mentions: vec![], attachments: Vec::new() };
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
