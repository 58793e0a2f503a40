//! Claims that come late, of people who came and went meanwhile, and of a space that moved.

use delta_core::engine::{Command, Reply};
use delta_core::ops::{Action, Level};
use delta_core::space::Invite;

use super::{Town, alone};

fn invitation(town: &mut Town) -> Invite {
    let (space, level) = (town.space, Level::Write);
    let invite = Command::CreateInvite { space, level, expires: None, once: false };
    let Reply::Invite(invite) = town.people[0].command(&mut town.net, invite).unwrap() else { panic!() };
    town.settle();
    *invite
}

fn accept(town: &mut Town, who: usize, invite: Invite) {
    let invite = Box::new(invite);
    town.people[who].command(&mut town.net, Command::AcceptInvite { invite }).unwrap();
    town.follow(who);
}

/// Somebody who claims, and whose packets are on their way for as long as the test likes. Gives who that is.
fn claims_slowly(town: &mut Town, invites: &[Invite]) -> usize {
    let mut peer = alone(&mut town.net, 50);
    peer.device.now = town.people[0].device.now;
    peer.hold = true;
    town.people.push(peer);
    let who = town.people.len() - 1;
    for invite in invites {
        accept(town, who, invite.clone());
    }
    town.settle();
    assert!(!town.people[who].held.is_empty(), "its claims are on their way");
    who
}

fn is_member(town: &Town, who: usize) -> bool {
    town.members(0).contains(&town.author(who).into())
}

#[test]
fn who_was_removed_comes_again_by_an_invitation_that_was_made_after_it() {
    let mut town = Town::new(2, true);
    town.remove(0, 2);
    town.settle();
    // While it is away it is let in and removed once more: of that it hears after it has read where the space lives.
    let mut away = town.people.pop().unwrap();
    away.lose_connections();
    let (member, level) = (away.author().into(), Level::Write);
    town.act(0, Action::Add { member, level, invite: None, claim: None }).unwrap();
    town.settle();
    town.act(0, Action::Remove { member }).unwrap();
    for _ in 0..3 {
        town.settle();
    }
    assert_eq!((town.epochs(0), town.members(0).len()), ([2, 2], 2));
    let invite = invitation(&mut town);
    away.device.now = town.people[0].device.now;
    town.people.push(away);
    accept(&mut town, 2, invite);
    town.settle();
    town.settle();
    assert!(is_member(&town, 2));
    town.agree(&[0, 1, 2]);
    town.say(2, "here again").unwrap();
    town.settle();
    assert_eq!(town.texts(1), ["here again"]);
}

#[test]
fn a_claim_that_comes_after_its_person_was_let_in_and_removed_lets_nobody_in() {
    let mut town = Town::new(0, true);
    let invites = [invitation(&mut town), invitation(&mut town)];
    let who = claims_slowly(&mut town, &invites[..1]);
    town.release(who);
    town.people[who].hold = true;
    // The second one is claimed with what was known before the first was answered.
    accept(&mut town, who, invites[1].clone());
    let claimant = &mut town.people[who];
    claimant.drain(&mut town.net);
    assert!(!claimant.held.is_empty(), "the second claim");
    town.settle();
    assert!(is_member(&town, who));
    // The keys have not moved yet: nothing but what the claim knew of keeps its person out.
    town.people[0].idle = true;
    town.remove(0, who);
    town.settle();
    assert_eq!(town.epochs(0), [0, 0]);
    let requests = town.people[0].reader().requests(&town.space).unwrap().len();
    town.release(who);
    town.settle();
    let came = town.people[0].reader().requests(&town.space).unwrap().len();
    assert_eq!(came, requests + 1, "the claim is here");
    assert!(!is_member(&town, who));
}

#[test]
fn a_claim_that_comes_after_the_space_moved_lets_nobody_in() {
    let mut town = Town::new(1, true);
    let invites = [invitation(&mut town)];
    let who = claims_slowly(&mut town, &invites);
    town.act(0, Action::Remove { member: town.author(1).into() }).unwrap();
    for _ in 0..3 {
        town.settle();
    }
    assert_eq!(town.epochs(0), [1, 1]);
    town.release(who);
    town.settle();
    assert_eq!(town.people[0].reader().requests(&town.space).unwrap().len(), 2, "the claim is here");
    assert!(!is_member(&town, who), "it does not read where the space lives");
}
