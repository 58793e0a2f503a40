//! Who may do what, and what becomes of what they may not.

use super::support::{Space, add, creation, entry, id, person, room, space, who};
use crate::identity::Identity;
use crate::limits::{MAX_MEMBERS, MAX_ROOMS, MAX_SETTLED};
use crate::ops::{Action, Level, SpaceText, room_id};
use crate::space::{Entry, Judgement, Membership, Refusal, Statement, Verdict};

const COUNTS: Judgement = counts(1);

const fn counts(number: u8) -> Judgement {
    Judgement::Counts { manager: false, identity: Identity([number; 32]) }
}

fn refused(refusal: Refusal) -> Verdict {
    Verdict::Refused(refusal)
}

#[test]
fn only_its_creator_creates_a_space_and_first_of_all() {
    let about = SpaceText::default();
    let create = |nonce| Action::SpaceCreate { nonce, about: about.clone(), certificate: None };
    let verdict = |entry: Entry| Membership::new(space()).insert(entry)[0].1;
    assert_eq!(verdict(creation()), Verdict::Accepted);
    let another = entry(0, 1, &[], create(super::support::NONCE));
    assert_eq!(verdict(another), refused(Refusal::NotTheCreation), "another author");
    assert_eq!(verdict(entry(0, 0, &[], create([1; 32]))), refused(Refusal::NotTheCreation), "another nonce");
    let later = entry(1, 0, &[], create(super::support::NONCE));
    assert_eq!(verdict(later), refused(Refusal::NotTheCreation), "not first in the log");
    assert_eq!(verdict(entry(0, 0, &[], Action::Leave)), refused(Refusal::Heads), "cites nothing");
    let mut space = Space::new();
    assert_eq!(space.tried(0, create(super::support::NONCE)), refused(Refusal::NotTheCreation), "again");
}

#[test]
fn managers_change_members_and_nobody_else() {
    let mut space = Space::new();
    space.done(0, add(1, Level::Write));
    space.done(0, add(2, Level::Pull));
    for author in [1, 2, 3] {
        for action in [
            add(4, Level::Read),
            Action::Remove { member: person(0) },
            Action::Promote { member: person(2), level: Level::Read },
            Action::Demote { member: person(1), level: Level::Pull },
            Action::Ban { member: person(2), reason: None },
            Action::Mute { member: person(2), until: None },
            Action::Transfer { member: person(1) },
            Action::SpaceUpdate { about: SpaceText::default() },
            Action::SpaceDelete,
            room(1),
        ] {
            assert_eq!(
                space.tried(author, action.clone()),
                refused(Refusal::NotAllowed),
                "{author} {action:?}"
            );
        }
    }
    assert_eq!(space.tried(3, Action::Leave), refused(Refusal::NotAllowed), "no member");
    space.done(1, Action::Leave);
    assert_eq!(space.levels(), [(0, Level::Manage), (2, Level::Pull)].into());
}

/// p2panda-auth takes the demotion of who is lowest already, and the promotion of who is highest, from anybody as a
/// change of nothing, and lets the demotion annul what that member did at the same time.
#[test]
fn a_stranger_cannot_annul_what_a_manager_did_with_a_demotion_of_old() {
    let mut space = Space::new();
    let old = space.done(0, add(1, Level::Pull));
    space.done(0, Action::Promote { member: person(1), level: Level::Manage });
    space.done(1, add(2, Level::Write));
    let demote = Action::Demote { member: person(1), level: Level::Pull };
    assert_eq!(space.at(&[old], 9, demote.clone()).1, refused(Refusal::NotAllowed));
    assert_eq!(space.at(&[old], 0, demote).1, refused(Refusal::Member), "nor does a manager, in effect");
    assert_eq!(space.levels().get(&2), Some(&Level::Write));
}

#[test]
fn levels_go_up_by_promotion_and_down_by_demotion() {
    let mut space = Space::new();
    space.done(0, add(1, Level::Read));
    let promote = |level| Action::Promote { member: person(1), level };
    let demote = |level| Action::Demote { member: person(1), level };
    for wrong in [promote(Level::Read), promote(Level::Pull), demote(Level::Read), demote(Level::Write)] {
        assert_eq!(space.tried(0, wrong), refused(Refusal::Member));
    }
    space.done(0, promote(Level::Write));
    assert_eq!(space.levels()[&1], Level::Write);
    space.done(0, demote(Level::Pull));
    assert_eq!(space.levels()[&1], Level::Pull);
    assert_eq!(space.tried(0, add(1, Level::Read)), refused(Refusal::Member), "is one already");
    assert_eq!(space.tried(0, Action::Remove { member: person(5) }), refused(Refusal::Member), "is none");
}

#[test]
fn case_61_without_write_access_one_is_ignored() {
    let mut space = Space::new();
    for (person, level) in [(1, Level::Pull), (2, Level::Read), (3, Level::Write)] {
        space.done(0, add(person, level));
    }
    assert_eq!(space.judged(0), Judgement::Counts { manager: true, identity: person(0) });
    assert_eq!(space.judged(1), Judgement::Ignored);
    assert_eq!(space.judged(2), Judgement::Ignored);
    assert_eq!(space.judged(3), counts(3));
    assert_eq!(space.judged(4), Judgement::Ignored, "a stranger");
    assert_eq!(space.members.judge(who(3), &[], None), Judgement::Ignored, "cites nothing");
    assert_eq!(space.members.judge(who(3), &[id(99)], None), Judgement::Waits(id(99)));
    let (bad, _) = space.at(&[id(0)], 4, Action::Leave);
    assert_eq!(space.members.judge(who(3), &[bad], None), Judgement::Ignored, "cites what was refused");
}

#[test]
fn what_was_written_before_a_removal_counts_and_after_it_does_not() {
    let mut space = Space::new();
    let before = space.done(0, add(1, Level::Write));
    let after = space.done(0, Action::Remove { member: person(1) });
    assert_eq!(space.members.judge(who(1), &[before], None), COUNTS);
    assert_eq!(space.members.judge(who(1), &[after], None), Judgement::Ignored);
    assert_eq!(space.members.judge(who(1), &[before, after], None), Judgement::Ignored);
}

#[test]
fn a_muted_member_is_ignored_until_unmuted() {
    let mut space = Space::new();
    space.done(0, add(1, Level::Write));
    assert_eq!(space.tried(0, Action::Unmute { member: person(1) }), refused(Refusal::Member));
    space.done(0, Action::Mute { member: person(1), until: None });
    assert_eq!(space.judged(1), Judgement::Ignored);
    space.done(0, Action::Unmute { member: person(1) });
    assert_eq!(space.judged(1), COUNTS);
}

#[test]
fn of_a_mute_and_an_unmute_at_the_same_time_the_mute_holds() {
    let mut space = Space::new();
    space.done(0, add(1, Level::Write));
    space.done(0, add(2, Level::Manage));
    let base = space.done(0, Action::Mute { member: person(1), until: None });
    space.at(&[base], 0, Action::Unmute { member: person(1) });
    space.at(&[base], 2, Action::Mute { member: person(1), until: None });
    assert_eq!(space.judged(1), Judgement::Ignored);
}

#[test]
fn who_is_banned_is_out_and_stays_out() {
    let mut space = Space::new();
    space.done(0, add(1, Level::Write));
    let base = space.done(0, add(2, Level::Manage));
    space.done(0, Action::Ban { member: person(1), reason: None });
    assert_eq!(space.levels().get(&1), None);
    assert_eq!(space.tried(0, add(1, Level::Read)), refused(Refusal::Member));
    assert_eq!(
        space.tried(0, Action::Ban { member: person(1), reason: None }),
        refused(Refusal::Member),
        "again"
    );
    // Nor by who does not know of it: not even somebody who never was a member.
    space.at(&[base], 2, Action::Ban { member: person(3), reason: None });
    space.at(&[base], 0, add(3, Level::Read));
    assert_eq!(space.levels().get(&3), None);
    assert!(space.members.standing(who(3)).banned);
    space.done(0, Action::Unban { member: person(1) });
    assert_eq!(space.levels().get(&1), None, "may come back, but has to be added");
    space.done(0, add(1, Level::Read));
    assert_eq!(space.levels()[&1], Level::Read);
}

#[test]
fn a_transfer_makes_one_manager_and_unmakes_another() {
    let mut space = Space::new();
    space.done(0, add(1, Level::Read));
    assert_eq!(space.tried(0, Action::Transfer { member: person(0) }), refused(Refusal::Member));
    assert_eq!(space.tried(0, Action::Transfer { member: person(5) }), refused(Refusal::Member));
    space.done(0, Action::Transfer { member: person(1) });
    assert_eq!(space.levels(), [(0, Level::Write), (1, Level::Manage)].into());
}

#[test]
fn a_removed_manager_does_nothing_at_the_same_time() {
    let mut space = Space::new();
    let base = space.done(0, add(1, Level::Manage));
    let (muted, _) = space.at(&[base], 1, Action::Mute { member: person(0), until: None });
    space.at(&[base], 1, room(1));
    space.at(&[muted], 1, add(2, Level::Manage));
    space.at(&[base], 0, Action::Remove { member: person(1) });
    assert_eq!(space.levels(), [(0, Level::Manage)].into());
    assert_eq!(space.judged(0), Judgement::Counts { manager: true, identity: person(0) });
    let state = space.members.current().unwrap();
    assert_eq!(space.members.rooms(&state), Vec::new());
    // The room is this space's all the same: what is written there stays judged by it.
    assert_eq!(space.members.all_rooms().collect::<Vec<_>>(), [room_id(super::support::space(), &[1; 32])]);
}

#[test]
fn rooms_take_messages_while_they_are_open() {
    let mut space = Space::new();
    space.done(0, add(1, Level::Write));
    let id = room_id(super::support::space(), &[3; 32]);
    let judged = |space: &Space| space.members.judge(who(1), &space.members.cite(who(1)), Some(id));
    assert_eq!(judged(&space), Judgement::Ignored, "not made yet");
    assert_eq!(space.tried(0, Action::RoomArchive { room: id }), refused(Refusal::Room));
    space.done(0, room(3));
    assert_eq!(judged(&space), COUNTS);
    assert_eq!(space.tried(0, room(3)), refused(Refusal::Room), "there already");
    space.done(0, Action::RoomArchive { room: id });
    assert_eq!(judged(&space), Judgement::Ignored);
    space.done(0, Action::RoomUnarchive { room: id });
    assert_eq!(judged(&space), COUNTS);
    space.done(0, Action::RoomDelete { room: id });
    assert_eq!(judged(&space), Judgement::Ignored);
    assert_eq!(space.tried(0, Action::RoomUnarchive { room: id }), refused(Refusal::Room));
    assert_eq!(space.tried(0, room(3)), refused(Refusal::Room), "a deleted room's id is not used again");
}

#[test]
fn nothing_counts_in_a_deleted_space() {
    let mut space = Space::new();
    space.done(0, Action::SpaceDelete);
    assert_eq!(space.judged(0), Judgement::Ignored);
    assert_eq!(space.tried(0, add(1, Level::Read)), refused(Refusal::Deleted));
}

#[test]
fn what_a_manager_does_in_a_newer_version_suspends_the_space() {
    let unknown = |number, author, heads: &[_]| Entry {
        statement: Statement::Unknown,
        ..entry(number, author, heads, Action::Leave)
    };
    let mut space = Space::new();
    space.done(0, add(1, Level::Write));
    let head = space.members.cite(who(0));
    assert_eq!(space.members.insert(unknown(50, 1, &head)), [(id(50), refused(Refusal::NotAllowed))]);
    assert!(!space.members.is_suspended(), "no member can do that who is no manager");
    assert_eq!(space.members.insert(unknown(51, 0, &head)), [(id(51), Verdict::Suspends)]);
    assert!(space.members.is_suspended());
    assert_eq!(space.members.insert(entry(52, 0, &[id(51)], add(2, Level::Read))), []);
    assert_eq!(space.members.judge(who(1), &[id(51)], None), Judgement::Waits(id(51)));
    assert_eq!(space.members.judge(who(1), &head, None), COUNTS);
}

#[test]
fn what_a_manager_does_in_a_newer_version_suspends_the_space_while_he_manages_it() {
    let unknown = |number, author, heads: &[_]| Entry {
        statement: Statement::Unknown,
        ..entry(number, author, heads, Action::Leave)
    };
    for end in [
        Action::Remove { member: person(1) },
        Action::Ban { member: person(1), reason: None },
        Action::Demote { member: person(1), level: Level::Write },
    ] {
        let mut space = Space::new();
        let before = space.done(0, add(1, Level::Manage));
        space.members.insert(unknown(50, 1, &[before]));
        assert!(space.members.is_suspended());
        assert!(space.members.ends_suspension(&end));
        assert!(!space.members.ends_suspension(&Action::Remove { member: person(0) }));
        assert!(!space.members.ends_suspension(&add(3, Level::Read)));
        space.done(0, end);
        assert!(!space.members.is_suspended());
        // Also of what comes later, and cites what was before.
        assert_eq!(space.members.insert(unknown(51, 1, &[before])), [(id(51), Verdict::Suspends)]);
        assert!(!space.members.is_suspended());
    }
}

#[test]
fn a_space_has_at_most_so_many_members_and_rooms() {
    let mut space = Space::new();
    let person = |number: usize| Identity(id(number).0);
    for number in 1..MAX_MEMBERS {
        space.done(0, Action::Add { member: person(number), level: Level::Read, invite: None, claim: None });
    }
    assert_eq!(space.levels_len(), MAX_MEMBERS);
    assert_eq!(space.tried(0, add(1, Level::Read)), refused(Refusal::Full));
    space.done(0, Action::Remove { member: person(1) });
    space.done(0, add(1, Level::Read));
    assert_eq!(space.tried(0, add(2, Level::Read)), refused(Refusal::Full));
    let made = |number: usize| Action::RoomCreate {
        nonce: id(number).0,
        about: crate::ops::RoomText::default(),
        keys: crate::ops::RoomKeys {
            write: crate::ops::Hidden([1; 32]),
            secret: crate::ops::Hidden([2; 32]),
        },
    };
    for number in 0..MAX_ROOMS {
        space.done(0, made(number));
    }
    assert_eq!(space.tried(0, made(MAX_ROOMS)), refused(Refusal::Full));
}

#[test]
fn citing_what_another_cited_operation_knows_adds_nothing() {
    let mut space = Space::new();
    space.done(0, add(1, Level::Manage));
    let old = space.done(0, add(2, Level::Write));
    // More than could be settled: nothing is, because one of the two builds on the other.
    for _ in 0..MAX_SETTLED {
        space.done(0, Action::SpaceUpdate { about: crate::ops::SpaceText::default() });
    }
    let new = space.done(1, Action::Demote { member: person(2), level: Level::Read });
    assert_eq!(space.members.judge(who(2), &[old], None), counts(2));
    assert_eq!(space.members.judge(who(2), &[old, new], None), Judgement::Ignored);
    assert_eq!(space.at(&[new, old, id(0)], 1, add(3, Level::Read)).1, Verdict::Accepted);
}
