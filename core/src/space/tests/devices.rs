//! A person's devices: whose they are, what revoking one does, and that devices agree about it in any order.

use proptest::prelude::*;
use proptest::sample::Index;

use super::model::Model;
use super::support::{id, room};
use crate::identity::{Author, Certificate, Identity, IdentityKey, LogId, Millis, OperationId, Revocation};
use crate::limits::{MAX_DEVICES, MAX_REVOKED};
use crate::ops::{Action, DeviceKey, Level, SpaceText, space_id};
use crate::space::{Entry, Judgement, Membership, Refusal, Statement, Verdict};

const NONCE: [u8; 32] = [9; 32];
const PEOPLE: u8 = 4;

fn identity(person: u8) -> IdentityKey {
    IdentityKey::from_seed(&[100 + person; 32])
}

fn person(person: u8) -> Identity {
    identity(person).identity()
}

/// A person's device by number.
fn device(person: u8, number: u8) -> Author {
    let mut seed = [person + 1; 32];
    seed[0] = number;
    DeviceKey::from_bytes(&seed).author()
}

fn certificate(person: u8, device: Author) -> Certificate {
    Certificate::sign(&identity(person), device, Millis(1))
}

fn tell(person: u8, number: u8) -> Action {
    Action::DeviceAdd { certificate: certificate(person, device(person, number)) }
}

fn revoke(person: u8, device: Author) -> Action {
    Action::DeviceRevoke { revocation: Revocation::sign(&identity(person), device, Millis(2)) }
}

fn add(number: u8, level: Level) -> Action {
    Action::Add { member: person(number), level, invite: None, claim: None }
}

fn space() -> LogId {
    space_id(device(0, 0), &NONCE)
}

fn entry(number: usize, author: Author, heads: &[OperationId], action: Action) -> Entry {
    let seq_num = u32::try_from(number).unwrap();
    Entry { id: id(number), author, seq_num, heads: heads.to_vec(), statement: Statement::Action(action) }
}

/// Person 0's space, and a pen.
struct Space {
    members: Membership,
    log: Vec<Entry>,
}

impl Space {
    fn new() -> Self {
        let mut space = Self { members: Membership::new(space()), log: Vec::new() };
        let certificate = Some(Box::new(certificate(0, device(0, 0))));
        let create = Action::SpaceCreate { nonce: NONCE, about: SpaceText::default(), certificate };
        assert_eq!(space.at(&[], device(0, 0), create).1, Verdict::Accepted);
        space
    }

    fn at(&mut self, heads: &[OperationId], author: Author, action: Action) -> (OperationId, Verdict) {
        let entry = entry(self.log.len(), author, heads, action);
        self.log.push(entry.clone());
        let id = entry.id;
        let judged = self.members.insert(entry).into_iter().find(|(other, _)| *other == id);
        (id, judged.expect("judged at once").1)
    }

    fn tried(&mut self, author: Author, action: Action) -> Verdict {
        let heads = self.members.cite(author);
        self.at(&heads, author, action).1
    }

    fn done(&mut self, author: Author, action: Action) -> OperationId {
        let heads = self.members.cite(author);
        let (id, verdict) = self.at(&heads, author, action);
        assert_eq!(verdict, Verdict::Accepted);
        id
    }

    /// Person 1, with this level and two devices.
    fn with_one(level: Level) -> Self {
        let mut space = Self::new();
        space.done(device(0, 0), add(1, level));
        for number in [0, 1] {
            space.done(device(1, number), tell(1, number));
        }
        space
    }

    fn judged(&self, author: Author) -> Judgement {
        self.members.judge(author, &self.members.cite(author), None)
    }

    fn level(&self, of: u8) -> Option<Level> {
        self.members.current().unwrap().levels.get(&person(of)).copied()
    }
}

fn refused(refusal: Refusal) -> Verdict {
    Verdict::Refused(refusal)
}

#[test]
fn every_device_of_a_member_acts_as_the_member() {
    let mut space = Space::with_one(Level::Write);
    let counts = |manager, number| Judgement::Counts { manager, identity: person(number) };
    assert_eq!(space.judged(device(0, 0)), counts(true, 0));
    assert_eq!(space.judged(device(1, 0)), counts(false, 1));
    assert_eq!(space.judged(device(1, 1)), counts(false, 1));
    assert_eq!(space.judged(device(1, 2)), Judgement::Ignored, "one that the space was not told of");
    let state = space.members.current().unwrap();
    let devices = space.members.devices_in(&state);
    let first = |number| (Author(person(number).0), person(number));
    let told = [(device(0, 0), person(0)), (device(1, 0), person(1)), (device(1, 1), person(1))];
    assert_eq!(devices, told.into_iter().chain([first(0), first(1)]).collect());
    // A ban, a mute and a promotion are the person's.
    space.done(device(0, 0), Action::Mute { member: person(1), until: None });
    assert!([0, 1].map(|number| space.judged(device(1, number))).iter().all(|it| *it == Judgement::Ignored));
    space.done(device(0, 0), Action::Unmute { member: person(1) });
    space.done(device(0, 0), Action::Promote { member: person(1), level: Level::Manage });
    assert_eq!(space.judged(device(1, 1)), counts(true, 1));
    space.done(device(1, 1), room(1));
    space.done(device(0, 0), Action::Ban { member: person(1), reason: None });
    assert!(space.members.standing(device(1, 1)).banned);
    assert_eq!(space.tried(device(1, 0), tell(1, 0)), refused(Refusal::NotAllowed), "no member");
}

#[test]
fn a_device_speaks_for_one_identity_and_itself_says_for_which() {
    let mut space = Space::with_one(Level::Write);
    space.done(device(0, 0), add(2, Level::Write));
    let stolen = Action::DeviceAdd { certificate: certificate(2, device(1, 3)) };
    assert_eq!(
        space.tried(device(2, 0), stolen.clone()),
        refused(Refusal::NotAllowed),
        "somebody else's device"
    );
    // The device itself, once: then it is that person's.
    let other = Action::DeviceAdd { certificate: certificate(2, device(1, 0)) };
    assert_eq!(space.tried(device(1, 0), other), refused(Refusal::Device), "under two identities");
    assert_eq!(space.tried(device(1, 0), tell(1, 0)), refused(Refusal::Device), "known already");
    // Told by two identities at the same time: one of them, the same everywhere.
    let heads = space.members.cite(device(0, 0));
    let (first, _) = space.at(&heads, device(1, 3), tell(1, 3));
    let (second, _) = space.at(&heads, device(1, 3), stolen);
    let expected = if first < second { person(1) } else { person(2) };
    let state = space.members.current().unwrap();
    assert_eq!(space.members.identity_in(&state, device(1, 3)), Some(expected));
    // A member by its own key is no further device, nor the other way round.
    let bare = device(3, 0);
    let member = Identity::from(bare);
    space.done(device(0, 0), Action::Add { member, level: Level::Read, invite: None, claim: None });
    let claimed = Action::DeviceAdd { certificate: certificate(2, bare) };
    assert_eq!(space.tried(bare, claimed), refused(Refusal::Device));
    let add = Action::Add { member: device(1, 0).into(), level: Level::Read, invite: None, claim: None };
    assert_eq!(space.tried(device(0, 0), add), refused(Refusal::Device));
    // What the identity did not sign says nothing.
    let mut bytes = certificate(1, device(1, 4)).to_bytes();
    bytes[135] ^= 1;
    let forged = Action::DeviceAdd { certificate: Certificate::from_bytes(&bytes).unwrap() };
    assert_eq!(space.tried(device(1, 4), forged), refused(Refusal::Certificate));
}

#[test]
fn a_revoked_device_is_nobodys_for_good() {
    let mut space = Space::with_one(Level::Manage);
    let others = revoke(0, device(1, 1));
    assert_eq!(space.tried(device(0, 0), others), refused(Refusal::Device), "somebody else's");
    assert_eq!(space.tried(device(0, 0), revoke(1, device(1, 1))), refused(Refusal::NotAllowed));
    let mut bytes = Revocation::sign(&identity(1), device(1, 1), Millis(2)).to_bytes();
    bytes[135] ^= 1;
    let forged = Action::DeviceRevoke { revocation: Revocation::from_bytes(&bytes).unwrap() };
    assert_eq!(space.tried(device(1, 0), forged), refused(Refusal::Certificate));
    space.done(device(1, 0), revoke(1, device(1, 1)));
    assert_eq!(space.judged(device(1, 1)), Judgement::Ignored);
    assert_eq!(space.tried(device(1, 1), room(1)), refused(Refusal::NotAllowed));
    assert_eq!(space.tried(device(1, 1), tell(1, 1)), refused(Refusal::NotAllowed));
    assert_eq!(space.tried(device(1, 0), revoke(1, device(1, 1))), refused(Refusal::Device), "again");
    let state = space.members.current().unwrap();
    assert!(!space.members.devices_in(&state).contains_key(&device(1, 1)));
    assert!(space.members.devices_in(&state).contains_key(&device(1, 0)));
    // One that the space has not heard of yet: it cannot come later.
    space.done(device(1, 0), revoke(1, device(1, 2)));
    assert_eq!(space.tried(device(1, 2), tell(1, 2)), refused(Refusal::Device));
    // Removed and added again: revoked all the same.
    space.done(device(0, 0), Action::Remove { member: person(1) });
    space.done(device(0, 0), add(1, Level::Write));
    assert_eq!(space.judged(device(1, 1)), Judgement::Ignored);
    assert!(matches!(space.judged(device(1, 0)), Judgement::Counts { .. }));
}

#[test]
fn a_revocation_beats_what_the_device_does_at_the_same_time() {
    let mut space = Space::with_one(Level::Manage);
    let heads = space.members.cite(device(0, 0));
    space.at(&heads, device(1, 1), Action::Remove { member: person(0) });
    space.at(&heads, device(1, 1), add(2, Level::Manage));
    let (_, verdict) = space.at(&heads, device(1, 1), Action::Ban { member: person(3), reason: None });
    assert_eq!(verdict, Verdict::Accepted);
    assert_eq!((space.level(0), space.level(2)), (None, Some(Level::Manage)));
    assert_eq!(space.at(&heads, device(1, 0), revoke(1, device(1, 1))).1, Verdict::Accepted);
    assert_eq!(
        (space.level(0), space.level(1), space.level(2)),
        (Some(Level::Manage), Some(Level::Manage), None)
    );
    let state = space.members.current().unwrap();
    assert!(!space.members.standing_in(&state, person(3)).banned);
    // That its own person is removed beside it does not undo a revocation.
    let heads = space.members.cite(device(0, 0));
    space.at(&heads, device(0, 0), Action::Remove { member: person(1) });
    space.at(&heads, device(1, 0), revoke(1, device(1, 2)));
    space.done(device(0, 0), add(1, Level::Write));
    assert_eq!(space.tried(device(1, 2), tell(1, 2)), refused(Refusal::Device));
}

#[test]
fn a_member_has_so_many_devices_and_revokes_so_many() {
    let mut space = Space::new();
    space.done(device(0, 0), add(1, Level::Read));
    for number in 0..MAX_DEVICES {
        let number = u8::try_from(number).unwrap();
        space.done(device(1, number), tell(1, number));
    }
    assert_eq!(space.tried(device(1, 99), tell(1, 99)), refused(Refusal::Full));
    space.done(device(1, 0), revoke(1, device(1, 1)));
    space.done(device(1, 99), tell(1, 99));
    for number in 1..MAX_REVOKED {
        let device_key = Author(*blake3::hash(&number.to_be_bytes()).as_bytes());
        space.done(device(1, 0), revoke(1, device_key));
    }
    assert_eq!(space.tried(device(1, 0), revoke(1, device(1, 2))), refused(Refusal::Full));
}

/// One deed: which device of whom, what, whom or which number it is about, which level, and what it cites.
type Deed = (u8, u8, u8, u8, u8, Vec<Index>);

/// Until the space was told of everybody's devices.
const PRELUDE: usize = 2 + 3 * 3;

/// Managers with two devices each, who then do this and that.
fn history(deeds: &[Deed]) -> Vec<Entry> {
    let certificate = Some(Box::new(certificate(0, device(0, 0))));
    let create = Action::SpaceCreate { nonce: NONCE, about: SpaceText::default(), certificate };
    let mut log = vec![entry(0, device(0, 0), &[], create)];
    let then = |log: &mut Vec<Entry>, author, action| {
        let (number, last) = (log.len(), id(log.len() - 1));
        log.push(entry(number, author, &[last], action));
    };
    then(&mut log, device(0, 1), tell(0, 1));
    for number in 1..PEOPLE {
        let level = if number < 3 { Level::Manage } else { Level::Write };
        then(&mut log, device(0, 0), add(number, level));
        then(&mut log, device(number, 0), tell(number, 0));
        then(&mut log, device(number, 1), tell(number, 1));
    }
    assert_eq!(log.len(), PRELUDE);
    let first = log.len() - 1;
    let mut ends = vec![id(first)];
    for (who, which, kind, subject, level, cited) in deeds {
        let mut heads: Vec<OperationId> =
            cited.iter().map(|index| id(first + index.index(log.len() - first))).collect();
        heads.sort_unstable();
        heads.dedup();
        if cited.len() == 3 {
            heads = vec![id(first)];
        } else if heads.is_empty() {
            heads = ends.iter().rev().take(8).copied().collect();
        }
        let level = Level::ALL[usize::from(*level)];
        let member = person(*subject);
        let action = match kind {
            0 | 1 => revoke(*who, device(*who, *subject % 2)),
            2 => add(*subject, level),
            3 => Action::Remove { member },
            4 => Action::Promote { member, level: level.max(Level::Read) },
            5 => Action::Demote { member, level: level.min(Level::Write) },
            6 => Action::Leave,
            7 => Action::Transfer { member },
            _ => Action::SpaceUpdate { about: SpaceText::default() },
        };
        let number = log.len();
        ends.retain(|end| !heads.contains(end));
        ends.push(id(number));
        log.push(entry(number, device(*who, *which), &heads, action));
    }
    log
}

fn taken(log: impl IntoIterator<Item = Entry>) -> Membership {
    let mut members = Membership::new(space());
    for entry in log {
        members.insert(entry);
    }
    members
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let cited = prop::collection::vec(any::<Index>(), 0..4);
    prop::collection::vec((0..PEOPLE, 0..2u8, 0..9u8, 0..PEOPLE, 0..4u8, cited), 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn case_62_with_devices_revoked_beside_it_levels_are_the_reference_models(deeds in deeds()) {
        let log = history(&deeds);
        let members = taken(log.clone());
        let mut model = Model::default();
        for entry in &log {
            let accepted = model.take(entry);
            prop_assert_eq!(
                members.verdict(entry.id) == Some(Verdict::Accepted), accepted,
                "{:?} {:?}", entry, members.verdict(entry.id)
            );
            if !accepted {
                continue;
            }
            let state = members.graph.state_after(entry.id);
            prop_assert_eq!(&state.levels, &model.levels(&[entry.id]).into_iter().collect(), "after {:?}", entry);
            if log.iter().take(PRELUDE).any(|early| early.id == entry.id) {
                continue;
            }
            let revoked = model.revoked(&[entry.id]);
            for (who, which) in (0..PEOPLE).flat_map(|who| [(who, 0), (who, 1)]) {
                let device = device(who, which);
                let expected = (!revoked.contains(&(person(who), device))).then(|| person(who));
                prop_assert_eq!(members.identity_in(&state, device), expected);
            }
        }
    }

    #[test]
    fn case_62_with_devices_any_arrival_order_gives_the_same(
        deeds in deeds(),
        order in Just((0..64usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let log = history(&deeds);
        let members = taken(log.clone());
        let other = taken(order.iter().filter_map(|place| log.get(*place)).cloned());
        prop_assert_eq!(members.counts(), other.counts());
        for entry in &log {
            prop_assert_eq!(members.verdict(entry.id), other.verdict(entry.id));
            prop_assert_eq!(members.audit(entry.id), other.audit(entry.id));
            for (who, which) in (0..PEOPLE).flat_map(|who| [(who, 0), (who, 1)]) {
                let device = device(who, which);
                prop_assert_eq!(
                    members.judge(device, &[entry.id], None), other.judge(device, &[entry.id], None)
                );
            }
        }
        prop_assert_eq!(members.current(), other.current());
    }
}
