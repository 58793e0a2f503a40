//! More done at the same time than can be settled: what is left out goes by places, not by arrival.

use super::*;
use crate::engine::ingest::{place, publish_local};
use crate::limits::MAX_CONCURRENT;

fn update() -> Action {
    Action::SpaceUpdate { about: SpaceText::default() }
}

/// A manager who is demoted and does so much beside it that the two cannot be settled together.
fn outdone() -> World {
    let mut world = World::peopled();
    let mut heads = world.graph.cite(who(1));
    world.act(0, Action::Demote { member: who(1).into(), level: Level::Write });
    for _ in 0..=MAX_CONCURRENT {
        heads = vec![world.act_at(1, heads, update())];
    }
    world
}

/// A device that reads all of it at once: to settle that much after each would take minutes.
fn read<'a>(written: impl Iterator<Item = &'a (u64, VerifiedOperation)>) -> Device {
    let mut device = Device::new();
    device.write(|tx| {
        for (place, op) in written {
            ingest(tx, &context(*place, op), op).unwrap();
        }
    });
    device
}

fn level(view: &View, person: usize) -> Option<Level> {
    let row = view.members.iter().find(|row| row.member == who(person).into());
    row.and_then(|row| row.standing.level)
}

#[test]
fn case_62_a_demotion_holds_beside_whatever_its_subject_does_at_the_same_time() {
    let world = outdone();
    let (mut one, other) = (read(world.written.iter()), read(world.written.iter().rev()));
    let view = one.view();
    assert_eq!((level(&view, 1), level(&view, 0)), (Some(Level::Write), Some(Level::Manage)));
    assert_eq!(other.view(), view);
    one.write(|tx| tx.rebuild().unwrap());
    assert_eq!(one.view(), view);
}

#[test]
fn case_62_what_is_shown_follows_when_an_own_operation_gets_its_place() {
    let mut world = outdone();
    let demotion = world.written.remove(5);
    let Content::Membership(action) = &demotion.1.body().content else { panic!("the demotion") };
    assert!(matches!(**action, Action::Demote { .. }));
    // The one who demotes has read all the rest before anybody has read that.
    let mut device = read(world.written.iter());
    device.write(|tx| {
        publish_local(tx, ticket(space()).topic(), &demotion.1, Millis(1)).unwrap();
        tx.settle_spaces().unwrap()
    });
    assert_eq!(level(&device.view(), 1), Some(Level::Manage), "one too many beside the rest");
    let changes = device.write(|tx| {
        place(tx, &context(demotion.0, &demotion.1), &demotion.1.id()).unwrap();
        tx.settle_spaces().unwrap()
    });
    assert!(changes.iter().any(|change| change.aggregate == Aggregate::Member));
    assert_eq!(level(&device.view(), 1), Some(Level::Write));
    assert_eq!(device.view().members, read(outdone().written.iter()).view().members);
}
