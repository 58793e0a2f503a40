//! Who is asked by inbox, and who is asked next when nobody answers.

use delta_core::crypto::{GroupCrypto, TwoParty};
use delta_core::engine::{ASK_AGAIN_MS, Command, KEEP_MAX_MS, Reply};
use delta_core::ops::{Action, DeviceKey, Level};
use delta_core::space::Invite;
use delta_core::store::OutboxCounts;
use delta_core::topic::TopicId;

use super::by_inbox::with_reader;
use super::{Town, alone};
use crate::net::Peer;

/// Somebody's devices hear and do nothing; in its place is one that knows nothing.
pub fn go_away(town: &mut Town, who: usize) -> Peer {
    let mut away =
        std::mem::replace(&mut town.people[who], Peer::tunnelled(250, super::Store::in_memory().unwrap()));
    away.lose_connections();
    away
}

pub fn come_back(town: &mut Town, who: usize, mut back: Peer) {
    back.device.now = town.people[who].device.now.max(back.device.now);
    town.people[who] = back;
    for _ in 0..3 {
        town.settle();
    }
}

/// Somebody's device has asked the server whether what it sent to an inbox is there.
fn knows_that_it_arrived(town: &mut Town, who: usize, inbox: TopicId) {
    for _ in 0..4 {
        town.wait(60_000);
    }
    assert_eq!(town.people[who].reader().outbox_counts(inbox).unwrap(), OutboxCounts::default());
}

fn invitation(town: &mut Town) -> Box<Invite> {
    let (space, level) = (town.space, Level::Write);
    let invite = Command::CreateInvite { space, level, expires: None, once: false };
    let Reply::Invite(invite) = town.people[0].command(&mut town.net, invite).unwrap() else { panic!() };
    town.settle();
    invite
}

/// Somebody claims an invitation.
fn claims(town: &mut Town, seed: u8, invite: Box<Invite>) -> usize {
    let mut peer = alone(&mut town.net, seed);
    peer.device.now = town.people[0].device.now;
    peer.command(&mut town.net, Command::AcceptInvite { invite }).unwrap();
    town.people.push(peer);
    let who = town.people.len() - 1;
    town.follow(who);
    town.settle();
    town.settle();
    who
}

fn is_member(town: &Town, by: usize, who: usize) -> bool {
    town.members(by).contains(&town.author(who).into())
}

#[test]
fn a_manager_with_many_devices_does_not_keep_others_from_being_asked() {
    let mut town = with_reader();
    town.promote(2);
    // The third person has so many devices, before the first one's in the order of their keys, as are asked at once.
    let first = town.author(0);
    let before = |seed: &u8| DeviceKey::from_bytes(&[*seed; 32]).author() < first;
    let seeds: Vec<u8> = (100..=240).filter(before).take(8).collect();
    assert_eq!(seeds.len(), 8);
    for seed in seeds {
        town.pair(2, seed);
    }
    town.settle();
    let devices = town.people[0].reader().space_devices(&town.space).unwrap();
    assert_eq!(devices.len(), 8);
    let mut away: Vec<Peer> = town.people.drain(2..).collect();
    for peer in &mut away {
        peer.lose_connections();
    }
    town.act(1, Action::Leave).unwrap();
    town.settle();
    assert!(!is_member(&town, 0, 1), "the first one was asked, too");
}

#[test]
fn a_claim_that_nobody_answers_goes_to_other_managers() {
    let mut town = Town::new(1, true);
    town.promote(1);
    let invite = invitation(&mut town);
    let away = go_away(&mut town, 0);
    let who = claims(&mut town, 60, invite);
    town.wait(ASK_AGAIN_MS - 60_000);
    assert!(!is_member(&town, 1, who), "whoever made the invitation is asked first");
    town.wait(120_000);
    town.settle();
    assert!(is_member(&town, 1, who));
    come_back(&mut town, 0, away);
    town.agree(&[0, 1, who]);
    assert!(town.people[who].reader().claims().unwrap().is_empty());
}

#[test]
fn a_claim_is_not_made_again_by_who_was_let_in_and_removed_meanwhile() {
    let mut town = Town::new(1, true);
    town.promote(1);
    let invite = invitation(&mut town);
    let away = go_away(&mut town, 0);
    let who = claims(&mut town, 60, invite);
    assert_eq!(town.people[who].reader().claims().unwrap().len(), 1);
    // It hears nothing while it is let in and removed. The keys do not move: nothing else keeps it out.
    let claimant = go_away(&mut town, who);
    town.people[1].idle = true;
    let member = claimant.author().into();
    town.act(1, Action::Add { member, level: Level::Write, invite: None, claim: None }).unwrap();
    town.act(1, Action::Remove { member }).unwrap();
    town.settle();
    come_back(&mut town, who, claimant);
    town.wait(3 * ASK_AGAIN_MS);
    assert!(!is_member(&town, 1, who));
    assert!(town.people[who].reader().claims().unwrap().is_empty());
    drop(away);
}

#[test]
fn keys_are_asked_for_again_when_the_server_lost_the_asking() {
    let mut town = Town::new(2, true);
    // It renewed its secrets twice and has forgotten the first, which are those the others know of (and end sooner).
    town.wait(600_000);
    town.people[1].hold = true;
    let (topic, now) = (town.ticket(1, town.space).topic(), town.people[1].device.now);
    let known = town.people[1].reader().device_secrets().unwrap().unwrap();
    let second = TwoParty.rotate_prekey(&known, now.plus(5_000)).unwrap();
    let third = TwoParty.rotate_prekey(&second, now.plus(10_000)).unwrap();
    let third = third.forget_expired(now.plus(200 * 24 * 3_600_000)).unwrap();
    for secrets in [second, third] {
        let command = Command::PublishBundle { topic, secrets: Box::new(secrets) };
        town.people[1].command(&mut town.net, command).unwrap();
    }
    let member = town.author(1).into();
    town.act(0, Action::Demote { member, level: Level::Read }).unwrap();
    for _ in 0..3 {
        town.settle();
    }
    assert_eq!(
        (town.epochs(0), town.epochs(1)),
        ([1, 1], [0, 0]),
        "what the rotations hand it does not open"
    );
    let inbox = town.people[0].reader().inboxes().unwrap().last().unwrap().topic;
    let away = go_away(&mut town, 0);
    let before = town.net.world(inbox).log.len();
    town.release(1);
    knows_that_it_arrived(&mut town, 1, inbox);
    assert!(town.net.world(inbox).log.len() > before + 1, "its keys, and what it asks");
    town.net.world(inbox).log.truncate(before);
    come_back(&mut town, 0, away);
    town.wait(ASK_AGAIN_MS - 300_000);
    assert_eq!(town.epochs(1), [0, 0]);
    town.wait(600_000);
    for _ in 0..3 {
        town.wait(KEEP_MAX_MS);
    }
    assert_eq!(town.epochs(1), [1, 1]);
    town.agree(&[0, 1, 2]);
    town.say(2, "you hear us").unwrap();
    town.settle();
    assert_eq!(town.texts(1), ["you hear us"]);
}

#[test]
fn a_leaving_that_the_server_lost_is_asked_for_again() {
    let mut town = with_reader();
    let inbox = town.people[0].reader().inboxes().unwrap().last().unwrap().topic;
    let away = go_away(&mut town, 0);
    town.act(1, Action::Leave).unwrap();
    knows_that_it_arrived(&mut town, 1, inbox);
    let lost = town.net.world(inbox).log.pop();
    assert!(lost.is_some(), "the request is there");
    come_back(&mut town, 0, away);
    assert!(is_member(&town, 0, 1));
    town.wait(ASK_AGAIN_MS + 60_000);
    for _ in 0..3 {
        town.settle();
    }
    assert!(!is_member(&town, 0, 1));
    // And that is the end of it.
    let sent = town.net.world(inbox).log.len();
    town.wait(4 * ASK_AGAIN_MS);
    assert_eq!(town.net.world(inbox).log.len(), sent);
    assert!(town.people[1].reader().leave_requests(&town.space).unwrap().is_empty());
}
