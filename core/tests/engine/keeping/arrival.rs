//! What comes by inbox before what its author knew of the space: it waits, and is judged when that is known.

use delta_core::crypto::{GroupCrypto, Purpose, Rotator, TwoParty, seal_key};
use delta_core::engine::KEEP_MAX_MS;
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{LogId, OperationId};
use delta_core::ops::{Action, Content, DeviceKey, EpochKeys, HandedKey, Level, Ticket};
use delta_core::topic::WriteKey;

use super::Town;
use super::by_inbox::{heads, said_by, slip_in, slip_in_after};

/// A key of the space that leads nowhere, sealed by the third person for the second.
fn hand(town: &Town, epoch: u32) -> (Ticket, Content) {
    let ticket = Ticket::private(town.space, epoch, WriteKey::from_seed([5; 32]), [5; 32]);
    let now = town.people[1].device.now;
    let secrets = TwoParty.generate(now, &mut SeededEntropy::new([6; 32])).unwrap();
    let bundle = town.people[0].reader().device_bundle(&town.author(1)).unwrap().unwrap();
    let from = Rotator { device: DeviceKey::from_bytes(&[3; 32]).author(), secrets: &secrets };
    let block = seal_key(&TwoParty, from, Purpose::Handed, &bundle, &ticket, now).unwrap();
    let (log, topic, device) = (town.space, ticket.topic(), town.author(1));
    let key = HandedKey { log, epoch, topic, device, write: true, block };
    (ticket, Content::EpochKeys(Box::new(EpochKeys::Hand(vec![key]))))
}

fn ask(log: LogId, epoch: u32) -> Content {
    Content::EpochKeys(Box::new(EpochKeys::Ask { log, epoch, failed: None }))
}

/// The first person does something that reaches nobody yet; gives what it is.
fn held(town: &mut Town, action: Action) -> Vec<OperationId> {
    town.people[0].hold = true;
    town.act(0, action).unwrap();
    let known = heads(town);
    town.settle();
    known
}

fn waiting(town: &Town, who: usize, log: LogId) -> usize {
    let rows = town.people[who].reader().key_requests(&town.space).unwrap();
    rows.iter().filter(|row| row.log == log).count()
}

#[test]
fn a_key_that_comes_before_its_authors_promotion_is_taken_when_that_is_read() {
    let mut town = Town::new(2, true);
    let (space, member) = (town.space, town.author(2).into());
    let promotion = held(&mut town, Action::Promote { member, level: Level::Manage });
    let (ticket, content) = hand(&town, 1);
    slip_in(&mut town, [3; 32], 1, promotion, content);
    town.settle();
    let is_handed = |town: &Town| {
        let handed = town.people[1].reader().handed_to(&space, &town.author(1)).unwrap();
        handed.iter().any(|handed| handed.topic == ticket.topic())
    };
    assert_eq!((waiting(&town, 1, space), is_handed(&town)), (1, false), "nobody knows that he manages");
    town.release(0);
    town.settle();
    assert_eq!((waiting(&town, 1, space), is_handed(&town)), (0, true));
}

#[test]
fn who_asks_before_it_is_known_as_a_member_is_heard_when_it_is() {
    let mut town = Town::new(2, true);
    town.promote(1);
    let (space, room) = (town.space, town.room);
    let key = DeviceKey::from_bytes(&[66; 32]);
    let member = key.author().into();
    let added = held(&mut town, Action::Add { member, level: Level::Read, invite: None, claim: None });
    let mut last = None;
    for log in [space, room] {
        last = Some(slip_in_after(&mut town, [66; 32], 1, added.clone(), ask(log, 7), last));
    }
    town.settle();
    let asks = |town: &Town| [space, room].map(|log| town.people[1].reader().key_asks(&log).unwrap());
    assert_eq!([waiting(&town, 1, space), waiting(&town, 1, room)], [1, 1]);
    assert_eq!(asks(&town), [vec![], vec![]]);
    town.release(0);
    town.settle();
    assert_eq!(asks(&town), [vec![(7, key.author())], vec![(7, key.author())]]);
    assert_eq!([waiting(&town, 1, space), waiting(&town, 1, room)], [0, 0]);
}

#[test]
fn what_its_author_may_not_say_with_all_that_it_knew_is_kept_no_longer() {
    let mut town = Town::new(2, true);
    let (space, known) = (town.space, heads(&town));
    // A writer hands keys, a stranger asks for some; both with what everybody knows.
    let (ticket, content) = hand(&town, 1);
    slip_in(&mut town, [3; 32], 1, known.clone(), content);
    slip_in(&mut town, [77; 32], 1, known, ask(space, 7));
    town.settle();
    town.wait(KEEP_MAX_MS);
    assert_eq!(waiting(&town, 1, space), 0);
    let reader = town.people[1].reader();
    assert!(reader.key_asks(&space).unwrap().is_empty());
    let handed = reader.handed_to(&space, &town.author(1)).unwrap();
    assert!(handed.iter().all(|handed| handed.topic != ticket.topic()));
}

#[test]
fn case_59_of_one_device_the_last_leaving_and_the_last_ask_of_a_log_stay_in_any_order() {
    for backwards in [false, true] {
        let mut town = Town::new(1, true);
        let (space, unknown) = (town.space, vec![OperationId([9; 32])]);
        let (mut last, mut said) = (None, Vec::new());
        for epoch in 1..5 {
            for content in [Content::LeaveRequest { space }, ask(space, epoch)] {
                let (id, envelope) = said_by(&town, [77; 32], 0, unknown.clone(), content, last);
                last = Some(id);
                said.push((id.1, envelope));
            }
        }
        let mut newest: Vec<OperationId> = said[said.len() - 2..].iter().map(|(id, _)| *id).collect();
        if backwards {
            said.reverse();
        }
        let inbox = town.people[0].reader().inboxes().unwrap().last().unwrap().topic;
        town.net.world(inbox).log.extend(said.into_iter().map(|(_, envelope)| envelope));
        town.settle();
        let reader = town.people[0].reader();
        let leaves = reader.leave_requests(&space).unwrap().into_iter().map(|(id, _)| id);
        let asks = reader.key_requests(&space).unwrap().into_iter().map(|row| row.id);
        let mut kept: Vec<OperationId> = leaves.chain(asks).collect();
        newest.sort_unstable();
        kept.sort_unstable();
        assert_eq!(kept, newest);
    }
}
