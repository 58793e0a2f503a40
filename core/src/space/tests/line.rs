//! What is current when more was done at the same time than can be settled, and by whom it was meant to be.

use super::support::{NONCE, Space, add, creation, entry, id, person, space, who};
use crate::identity::{Certificate, Identity, IdentityKey, Millis, OperationId};
use crate::limits::{MAX_CONCURRENT, MAX_LOOSE_ENDS, MAX_MEMBERS, MAX_SETTLED};
use crate::ops::{Action, Level, SpaceText};
use crate::projector::Place;
use crate::space::{Entry, Membership, Refusal, Statement, Verdict};
use crate::topic::Seq;

fn reader(number: usize) -> Action {
    let member = Identity(id(100_000 + number).0);
    Action::Add { member, level: Level::Read, invite: None, claim: None }
}

fn update() -> Action {
    Action::SpaceUpdate { about: SpaceText::default() }
}

fn place(seq: usize) -> Place {
    Place { epoch: 0, resets: 0, seq: Seq(seq as u64 + 1) }
}

/// A device that reads this log, in which each stands where it stands in the list; in an order of its own.
fn read<'a>(log: &[Entry], order: impl IntoIterator<Item = &'a usize>) -> Membership {
    let mut members = Membership::new(space());
    for seq in order {
        let entry = log[*seq].clone();
        members.place(entry.id, place(*seq));
        members.insert(entry);
    }
    members
}

/// What is current, read in order, backwards, and from the middle.
fn read_anyhow(log: &[Entry]) -> [Membership; 3] {
    let order: Vec<usize> = (0..log.len()).collect();
    let (first, second) = order.split_at(log.len() / 2);
    let turned = [second, first].concat();
    let backwards: Vec<usize> = order.iter().rev().copied().collect();
    [read(log, &order), read(log, &backwards), read(log, &turned)]
}

/// An operation whose id is the lowest, or the highest, of many.
fn extreme(from: usize, lowest: bool) -> usize {
    let key = |number: &usize| id(*number);
    let numbers = from..from + 2_000;
    if lowest { numbers.min_by_key(key) } else { numbers.max_by_key(key) }.unwrap()
}

/// One after the other, by one author, from `head` on.
fn chain(log: &mut Vec<Entry>, from: usize, count: usize, author: u8, head: OperationId) -> OperationId {
    let mut head = head;
    for number in from..from + count {
        log.push(entry(number, author, &[head], update()));
        head = id(number);
    }
    head
}

/// A space with three managers: 0, 1 and 2.
fn founded() -> (Vec<Entry>, OperationId) {
    let log = vec![
        creation(),
        entry(1, 0, &[id(0)], add(1, Level::Manage)),
        entry(2, 0, &[id(1)], add(2, Level::Manage)),
    ];
    (log, id(2))
}

#[test]
fn a_demotion_is_not_outdone_by_however_much_its_subject_does_beside_it() {
    let (mut log, base) = founded();
    let demotion = extreme(10_000, false);
    log.push(entry(demotion, 0, &[base], Action::Demote { member: person(1), level: Level::Write }));
    let last = chain(&mut log, 20_000, MAX_CONCURRENT, 1, base);
    log.push(entry(extreme(30_000, true), 1, &[last], update()));
    for members in read_anyhow(&log) {
        assert_eq!(members.standing(who(1)).level, Some(Level::Write));
        assert!(members.standing(who(0)).may_manage() && members.standing(who(2)).may_manage());
    }
}

#[test]
fn what_cites_the_distant_past_undoes_nothing_that_was_done_since() {
    let (mut log, base) = founded();
    log.push(entry(3, 0, &[base], Action::Remove { member: person(1) }));
    let line = chain(&mut log, 10_000, MAX_CONCURRENT, 2, id(3));
    // Of somebody who managed once, of one who does, with an id below all others.
    let lowest = extreme(30_000, true);
    log.push(entry(lowest, 1, &[base], Action::Remove { member: person(2) }));
    log.push(entry(lowest + 10_000, 2, &[base], add(4, Level::Manage)));
    log.push(entry(50_000, 0, &[line], add(5, Level::Read)));
    for members in read_anyhow(&log) {
        let state = members.current().unwrap();
        let levels: Vec<_> = [0, 1, 2, 4, 5].map(|it| state.levels.get(&person(it)).copied()).to_vec();
        let (manage, read) = (Some(Level::Manage), Some(Level::Read));
        assert_eq!(levels, [manage, None, manage, None, read]);
        assert_eq!(members.cite(who(0)), [id(50_000)]);
    }
}

#[test]
fn what_counted_once_counts_whatever_comes_later() {
    let (mut log, base) = founded();
    // As many as there may be beside another one, and joined with it, before anything else came.
    let branch = chain(&mut log, 10_000, MAX_CONCURRENT - 1, 1, base);
    log.push(entry(20_000, 0, &[base], add(4, Level::Read)));
    let joined = [branch, id(20_000)];
    log.push(entry(20_001, 0, &joined, add(5, Level::Read)));
    // One more, of the same past.
    log.push(entry(extreme(30_000, true), 1, &[base], Action::Remove { member: person(0) }));
    for members in read_anyhow(&log) {
        assert_eq!(members.cite(who(0)), [id(20_001)]);
        assert!(members.standing(who(0)).may_manage());
    }
}

#[test]
fn too_much_done_at_the_same_time_cannot_be_joined_and_stops_nothing() {
    let (mut log, base) = founded();
    let (half, joined) = (MAX_CONCURRENT / 2, 50_000);
    let ends = [0, 1].map(|author| chain(&mut log, 10_000 * (1 + usize::from(author)), half, author, base));
    log.push(entry(joined, 2, &ends, add(4, Level::Read)));
    let at_limit = read_anyhow(&log);
    assert!(at_limit.iter().all(|members| members.cite(who(0)) == [id(joined)]));
    // One more in between: the last of them does not count, nor what joins it.
    log.pop();
    log.push(entry(40_000, 1, &[ends[1]], add(5, Level::Read)));
    log.push(entry(joined, 2, &[ends[0], id(40_000)], add(4, Level::Read)));
    for members in read_anyhow(&log) {
        assert_eq!(members.verdict(id(joined)), Some(Verdict::Accepted));
        let state = members.current().unwrap();
        assert!(!state.levels.contains_key(&person(4)) && !state.levels.contains_key(&person(5)));
        assert_eq!(members.cite(who(0)).len(), 2);
    }
    // What one operation joins has its own limit.
    let mut log = founded().0;
    let ends = [0, 1]
        .map(|author| chain(&mut log, 10_000 * (1 + usize::from(author)), MAX_SETTLED / 2, author, base));
    log.push(entry(joined, 2, &ends, update()));
    log.push(entry(40_000, 1, &[ends[1]], update()));
    log.push(entry(joined + 1, 2, &[ends[0], id(40_000)], update()));
    let members = read(&log, &(0..log.len()).collect::<Vec<_>>());
    assert_eq!(members.verdict(id(joined)), Some(Verdict::Accepted), "at the limit");
    assert_eq!(members.verdict(id(joined + 1)), Some(Verdict::Refused(Refusal::TooConcurrent)));
}

#[test]
fn what_fills_the_limit_can_be_joined_a_few_at_a_time() {
    let mut space = Space::new();
    let many = MAX_CONCURRENT / MAX_LOOSE_ENDS;
    for device in 1..=many {
        space.done(0, add(u8::try_from(device).unwrap(), Level::Manage));
    }
    let base = space.done(0, update());
    for device in 1..=many {
        for _ in 0..MAX_LOOSE_ENDS {
            let number = space.log.len();
            space.at(&[base], u8::try_from(device).unwrap(), reader(number));
        }
    }
    let members = 1 + many + MAX_CONCURRENT;
    assert!(members <= MAX_MEMBERS);
    assert_eq!(space.levels_len(), members, "at the limit");
    let number = space.log.len();
    space.at(&[base], 0, reader(number));
    assert_eq!(space.levels_len(), members, "past it");
    let mut turns = 0;
    while space.members.cite(who(0)).len() > 1 {
        space.done(0, update());
        turns += 1;
        assert!(turns <= MAX_CONCURRENT);
    }
    assert_eq!(space.levels_len(), members, "nothing was lost by that");
    space.done(0, add(200, Level::Read));
    assert_eq!(space.levels_len(), members + 1);
}

#[test]
fn who_never_builds_on_what_they_did_counts_so_often() {
    let mut space = Space::new();
    let base = space.done(0, add(1, Level::Manage));
    for number in 0..MAX_LOOSE_ENDS + 1 {
        space.at(&[base], 1, reader(number));
    }
    assert_eq!(space.levels_len(), 2 + MAX_LOOSE_ENDS);
    space.at(&[base], 0, add(3, Level::Read));
    assert_eq!(space.levels_len(), 3 + MAX_LOOSE_ENDS, "another's is not in its way");
}

#[test]
fn what_a_members_devices_never_build_on_counts_so_often_together() {
    let mut space = Space::new();
    let key = IdentityKey::from_seed(&[77; 32]);
    let member = key.identity();
    space.done(0, Action::Add { member, level: Level::Manage, invite: None, claim: None });
    let devices = [5, 6];
    for device in devices {
        space
            .done(device, Action::DeviceAdd { certificate: Certificate::sign(&key, who(device), Millis(1)) });
    }
    let base = space.done(0, update());
    for number in 0..MAX_LOOSE_ENDS {
        for device in devices {
            space.at(&[base], device, reader(2 * number + usize::from(device)));
        }
    }
    assert_eq!(space.levels_len(), 2 + MAX_LOOSE_ENDS);
}

#[test]
fn who_cites_the_distant_past_as_well_holds_nothing_down() {
    let mut space = Space::new();
    for manager in [1, 2] {
        space.done(0, add(manager, Level::Manage));
    }
    // As far back as makes what is to be settled as much as there may be.
    let old = space.done(0, update());
    let ends = 2 * MAX_LOOSE_ENDS;
    for _ in 0..MAX_SETTLED - ends - 1 {
        space.done(0, update());
    }
    let tip = space.members.cite(who(0));
    let loose: Vec<_> =
        (0..ends).map(|number| space.at(&tip, 1 + (number % 2) as u8, reader(number)).0).collect();
    space.at(&[loose[0], loose[1], old], 1, update());
    let mut turns = 0;
    while space.members.cite(who(0)).len() > 1 {
        space.done(0, update());
        turns += 1;
        assert!(turns < 10, "nothing counts any more");
    }
    space.done(0, add(9, Level::Read));
    assert!(space.members.current().unwrap().levels.contains_key(&person(9)));
    // Nor does it put others' decisions off that missed one operation.
    let creation = id(0);
    let mut heads = space.members.cite(who(0));
    for _ in 0..3 {
        let (known, _) = space.at(&[heads[0], creation], 1, update());
        let (missed, _) = space.at(&[known, creation], 1, update());
        let (decision, _) = space.at(&[known], 0, Action::Mute { member: person(2), until: None });
        let now = space.members.cite(who(0));
        assert!(now.contains(&missed) && now.contains(&decision), "{now:?}");
        heads = vec![space.done(0, Action::Unmute { member: person(2) })];
    }
}

#[test]
fn who_may_do_nothing_any_more_cannot_have_it_otherwise_by_ends_of_his_own() {
    let mut space = Space::new();
    let base = space.done(0, add(1, Level::Manage));
    for number in 0..MAX_LOOSE_ENDS {
        space.at(&[base], 1, reader(number));
    }
    let unknown = Entry { statement: Statement::Unknown, ..entry(900, 1, &[base], Action::Leave) };
    space.members.insert(unknown);
    assert!(space.members.is_suspended());
    space.at(&[base], 0, Action::Remove { member: person(1) });
    assert_eq!(space.members.standing(who(1)).level, None);
    assert!(!space.members.is_suspended());
}

#[test]
fn what_does_not_count_answers_no_claim_and_lets_nobody_in() {
    let (mut log, base) = founded();
    chain(&mut log, 10_000, MAX_CONCURRENT, 1, base);
    let claim = id(77);
    let let_in = Action::Add { member: person(4), level: Level::Write, invite: None, claim: Some(claim) };
    log.push(entry(20_000, 0, &[base], let_in.clone()));
    let last = log[log.len() - 2].id;
    for mut members in read_anyhow(&log) {
        assert_eq!(members.verdict(id(20_000)), Some(Verdict::Accepted));
        assert!(!members.is_answered(claim) && !members.came_or_went_since(person(4), &[base]));
        members.insert(entry(20_001, 0, &[last], let_in.clone()));
        assert!(members.is_answered(claim) && members.came_or_went_since(person(4), &[base]));
    }
}

#[test]
fn of_two_creations_the_first_is_it_whoever_manages_now() {
    let other = extreme(30_000, true);
    let about = SpaceText { name: "mine again".into(), ..SpaceText::default() };
    let again = Action::SpaceCreate { nonce: NONCE, about, certificate: None };
    let again = Entry { seq_num: 0, ..entry(other, 0, &[], again) };
    let log = vec![
        creation(),
        entry(1, 0, &[id(0)], add(1, Level::Read)),
        entry(2, 0, &[id(1)], Action::Transfer { member: person(1) }),
        again,
        entry(4, 0, &[id(other)], add(2, Level::Manage)),
    ];
    assert!(id(other) < id(0));
    for members in read_anyhow(&log) {
        assert_eq!(members.verdict(id(other)), Some(Verdict::Accepted));
        assert!(members.standing(who(1)).may_manage() && !members.standing(who(0)).may_manage());
        assert_eq!(members.standing(who(2)).level, None);
    }
}

#[test]
fn what_has_no_place_yet_comes_last_until_it_has_one() {
    let (mut log, base) = founded();
    chain(&mut log, 10_000, MAX_CONCURRENT, 1, base);
    let mut members = read(&log, &(0..log.len()).collect::<Vec<_>>());
    let demotion = entry(5, 0, &[base], Action::Demote { member: person(2), level: Level::Write });
    members.insert(demotion);
    assert!(members.standing(who(2)).may_manage(), "one too many beside the rest");
    // It stood there before most of them: it counts, and the last of them do not.
    assert!(members.place(id(5), Place { epoch: 0, resets: 0, seq: Seq(3) }));
    assert!(!members.place(id(5), Place { epoch: 0, resets: 0, seq: Seq(3) }), "that is no news");
    assert!(!members.standing(who(2)).may_manage());
}
