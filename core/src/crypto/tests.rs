//! Two devices that talk, lose, repeat and are robbed.

mod direct;
mod rotations;

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
