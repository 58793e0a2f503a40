//! Members that cannot write where a space lives: they leave, ask for keys and are handed them by inbox.

use delta_core::crypto::{GroupCrypto, Purpose, Rotator, TwoParty, seal_key};
use delta_core::engine::{CommandError, Input, KEEP_MAX_MS, seal};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{Certificate, IdentityKey, LogId, Millis, OperationId};
use delta_core::ops::{
    Action, Body, Content, DeviceKey, EpochKeys, HandedKey, Level, Ticket, VerifiedOperation, create,
    inbox_log, seal_inbox,
};
use delta_core::topic::WriteKey;

use super::Town;

/// A town in which the second person may only read, and has no key to write with.
pub fn with_reader() -> Town {
    let mut town = Town::new(2, true);
    let member = town.author(1).into();
    town.act(0, Action::Demote { member, level: Level::Read }).unwrap();
    town.settle();
    assert!(!town.ticket(1, town.space).can_write());
    town
}

/// Puts into somebody's inbox what a device says for the first time.
pub fn slip_in(town: &mut Town, by: [u8; 32], to: usize, heads: Vec<OperationId>, content: Content) {
    slip_in_after(town, by, to, heads, content, None);
}

/// The same after something that it said before. Gives its number and id.
pub fn slip_in_after(
    town: &mut Town,
    by: [u8; 32],
    to: usize,
    heads: Vec<OperationId>,
    content: Content,
    after: Option<(u32, OperationId)>,
) -> (u32, OperationId) {
    let (operation, envelope) = said_by(town, by, to, heads, content, after);
    let inbox = town.people[to].reader().inboxes().unwrap().last().unwrap().topic;
    town.net.world(inbox).log.push(envelope);
    operation
}

/// What a device says to another one: its number and id, and the envelope.
pub fn said_by(
    town: &Town,
    by: [u8; 32],
    to: usize,
    heads: Vec<OperationId>,
    content: Content,
    after: Option<(u32, OperationId)>,
) -> ((u32, OperationId), Vec<u8>) {
    let (key, to_device) = (DeviceKey::from_bytes(&by), town.author(to));
    let body = Body { auth_heads: heads, ..Body::new(content) };
    let (seq_num, backlink) = (after.map_or(0, |(last, _)| last + 1), after.map(|(_, id)| id));
    let log = inbox_log(&key.author(), &to_device);
    let operation = create(&key, log, seq_num, backlink, &body).unwrap();
    let seed = SeededEntropy::new(operation.id().0);
    let envelope = seal_inbox(&operation, &to_device, &mut { seed }).unwrap();
    ((seq_num, operation.id()), envelope)
}

pub fn heads(town: &Town) -> Vec<OperationId> {
    town.people[0].reader().audit(&town.space, None, 1).unwrap().into_iter().map(|row| row.id).collect()
}

#[test]
fn who_may_only_read_leaves_by_asking_managers_for_it() {
    let mut town = with_reader();
    town.act(1, Action::Leave).unwrap();
    for _ in 0..3 {
        town.settle();
    }
    assert_eq!(town.members(0).len(), 2);
    assert!(!town.members(0).contains(&town.author(1).into()));
    assert_eq!(town.epochs(0), [2, 2], "the keys move as after any removal");
    town.say(2, "without you").unwrap();
    town.settle();
    assert!(town.texts(1).is_empty());
    let again = town.act(1, Action::Leave).unwrap_err();
    assert!(matches!(again, CommandError::Refused(_)), "{again:?}");
}

#[test]
fn a_leaving_that_was_overtaken_by_a_demotion_is_asked_for() {
    let mut town = Town::new(2, true);
    town.people[1].hold = true;
    town.act(1, Action::Leave).unwrap();
    let member = town.author(1).into();
    town.act(0, Action::Demote { member, level: Level::Read }).unwrap();
    for _ in 0..3 {
        town.settle();
    }
    assert!(!town.ticket(1, town.space).can_write() && town.epochs(0) == [1, 1]);
    assert!(town.members(0).contains(&member), "nobody has heard of it");
    // What it sent where it could still write never arrives.
    let first = town.people[1].held.remove(0);
    assert!(first.operations() > 0 && !town.people[1].held.is_empty());
    town.release(1);
    for _ in 0..3 {
        town.settle();
    }
    assert!(!town.members(0).contains(&member));
}

#[test]
fn who_is_removed_on_request_is_whose_device_asks_in_this_space() {
    let mut town = Town::new(2, true);
    let (space, key, to) = (town.space, DeviceKey::from_bytes(&[90; 32]), town.author(0));
    let of = |seed: u8| Certificate::sign(&IdentityKey::from_seed(&[seed; 32]), key.author(), Millis(1));
    // The manager hears by inbox, from the device itself, that it is the third person's (who has lost it).
    let of_victim = key.clone().certified(of(3)).unwrap();
    assert_eq!(of(3).identity, town.author(2).into());
    let log = inbox_log(&key.author(), &to);
    let asks = Content::JoinRequest { text: None, space: LogId([1; 32]) };
    let first = create(&of_victim, log, 0, None, &Body::new(asks)).unwrap();
    leave_in_inbox(&mut town, &first);
    town.settle();
    // The second person tells the space that it is hers.
    let add = Content::Membership(Box::new(Action::DeviceAdd { certificate: of(2) }));
    let body = Body { auth_heads: heads(&town), ..Body::new(add) };
    let told = create(&key.clone().certified(of(2)).unwrap(), space, 0, None, &body).unwrap();
    let place = town.ticket(0, space);
    let envelope = place.keys().seal(told.header(), told.body_bytes()).unwrap();
    town.net.world(place.topic()).log.push(envelope);
    town.settle();
    let devices = town.people[0].reader().space_devices(&space).unwrap();
    assert!(devices.iter().any(|row| row.device == key.author() && row.identity == town.author(1).into()));
    let body = Body { auth_heads: heads(&town), ..Body::new(Content::LeaveRequest { space }) };
    let second = create(&of_victim, log, 1, Some(first.id()), &body).unwrap();
    leave_in_inbox(&mut town, &second);
    for _ in 0..3 {
        town.settle();
    }
    assert!(town.members(0).contains(&town.author(2).into()), "it is not the third person's here");
    assert!(!town.members(0).contains(&town.author(1).into()));
}

fn leave_in_inbox(town: &mut Town, operation: &VerifiedOperation) {
    let seed = SeededEntropy::new(operation.id().0);
    let envelope = seal_inbox(operation, &town.author(0), &mut { seed }).unwrap();
    let inbox = town.people[0].reader().inboxes().unwrap().last().unwrap().topic;
    town.net.world(inbox).log.push(envelope);
}

#[test]
fn nobody_is_removed_because_a_stranger_asks_or_because_he_asked_before_he_came_again() {
    let mut town = with_reader();
    let space = town.space;
    let known = heads(&town);
    slip_in(&mut town, [77; 32], 0, known, Content::LeaveRequest { space });
    // The member asks, and is removed and let in once more before that comes.
    town.people[1].hold = true;
    town.act(1, Action::Leave).unwrap();
    let member = town.author(1).into();
    town.act(0, Action::Remove { member }).unwrap();
    town.act(0, Action::Add { member, level: Level::Read, invite: None, claim: None }).unwrap();
    town.release(1);
    for _ in 0..3 {
        town.settle();
    }
    let asked = [DeviceKey::from_bytes(&[77; 32]).author(), town.author(1)].map(|author| {
        let log = inbox_log(&author, &town.author(0));
        let listed = town.people[0].reader().list_operations(None, 1000).unwrap();
        listed.iter().filter(|operation| operation.log == log).count()
    });
    assert!(asked[0] == 1 && asked[1] > 0, "both came: {asked:?}");
    assert!(town.people[0].reader().leave_requests(&space).unwrap().is_empty(), "and nothing of it is left");
    assert_eq!(town.members(0).len(), 3);
    // With what he knows now he leaves.
    town.act(1, Action::Leave).unwrap();
    for _ in 0..3 {
        town.settle();
    }
    assert_eq!(town.members(0).len(), 2);
}

#[test]
fn who_is_let_in_while_another_manager_moves_the_space_is_handed_its_key_by_inbox() {
    let mut town = Town::new(2, true);
    town.promote(1);
    // The second manager's device seals the next epoch's keys, and hears nothing until it has; the first one's is slow.
    for manager in [0, 1] {
        town.people[manager].idle = true;
    }
    town.remove(1, 2);
    town.settle();
    let place = town.ticket(1, town.space).topic();
    while !town.people[1].unsealed.iter().any(|job| format!("{job:?}").contains(&place.to_string())) {
        let room = town.people[1].unsealed.pop().expect("the room moves first");
        town.people[1].feed(vec![Input::Sealed(seal(room))]);
        town.settle();
    }
    let mut away = town.people.remove(1);
    away.lose_connections();
    town.join(60);
    assert!(town.members(0).contains(&town.author(2).into()), "the first one let it in");
    away.idle = false;
    for job in std::mem::take(&mut away.unsealed) {
        away.feed(vec![Input::Sealed(seal(job))]);
    }
    away.drain(&mut town.net);
    town.people.insert(1, away);
    let who = 3;
    for _ in 0..3 {
        town.settle();
    }
    assert_eq!(town.members(0).len(), 3);
    assert_eq!(town.epochs(1)[0], 1, "moved by who knew nothing of it");
    town.people[0].idle = false;
    for job in std::mem::take(&mut town.people[0].unsealed) {
        town.people[0].feed(vec![Input::Sealed(seal(job))]);
    }
    for _ in 0..3 {
        town.wait(KEEP_MAX_MS);
    }
    town.agree(&[0, 1, who]);
    town.say(who, "found you").unwrap();
    town.settle();
    for reader in [0, 1] {
        assert_eq!(town.texts(reader), ["found you"]);
    }
}

#[test]
fn case_61_a_key_of_the_space_that_no_manager_hands_by_inbox_leads_nowhere() {
    let mut town = Town::new(2, true);
    town.remove(0, 2);
    town.settle();
    let forged = Ticket::private(town.space, 2, WriteKey::from_seed([5; 32]), [5; 32]);
    let secrets = TwoParty.generate(town.people[1].device.now, &mut SeededEntropy::new([6; 32])).unwrap();
    let bundle = town.people[0].reader().device_bundle(&town.author(1)).unwrap().unwrap();
    for key in [[3; 32], [88; 32]] {
        // One who was removed, and a stranger.
        let from = Rotator { device: DeviceKey::from_bytes(&key).author(), secrets: &secrets };
        let block =
            seal_key(&TwoParty, from, Purpose::Handed, &bundle, &forged, town.people[1].device.now).unwrap();
        let handed = HandedKey {
            log: town.space,
            epoch: 2,
            topic: forged.topic(),
            device: town.author(1),
            write: true,
            block,
        };
        let content = Content::EpochKeys(Box::new(EpochKeys::Hand(vec![handed])));
        slip_in(&mut town, key, 1, Vec::new(), content);
    }
    town.settle();
    town.wait(KEEP_MAX_MS);
    let reader = town.people[1].reader();
    assert!(reader.topic(forged.topic()).unwrap().is_none());
    let handed = reader.handed_to(&town.space, &town.author(1)).unwrap();
    assert!(handed.iter().all(|handed| handed.topic != forged.topic()), "nor is it kept");
    assert_eq!(town.epochs(1), [1, 1]);
    town.say(0, "here").unwrap();
    town.settle();
    assert_eq!(town.texts(1), ["here"]);
}
