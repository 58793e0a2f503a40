//! A topic that was deleted or blocked: what waits for it is parked, nothing more is signed for it.

use delta_core::engine::{Blocked, Command, CommandError, Input, Unreadable};
use delta_core::store::{Store, StoreOptions};

use crate::support::{Device, World, posts, ticket};

#[test]
fn what_waits_in_a_deleted_topic_is_parked_across_restarts_and_goes_when_the_topic_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("device.db");
    let ticket = ticket();
    let mut world = World::new(ticket.topic());
    let open = || Store::open(&path, StoreOptions::default()).unwrap();
    let mut alice = Device::new(1, open(), &ticket);
    alice.join(&world);
    let command = alice.say("in vain");
    let input = alice.input(command);
    assert_eq!(posts(alice.handle(vec![input]).unwrap()).len(), 1);
    let (conn, _) = alice.connection();
    alice.handle(vec![Input::Refused { conn, unreadable: Unreadable::Gone }]).unwrap();
    assert_eq!(alice.status().blocked, Some(Blocked::Gone));
    let command = alice.say("nor this");
    assert!(matches!(alice.command(command), Err(CommandError::TopicGone)));
    let parked = |device: &Device| {
        let counts = device.engine.reader().unwrap().outbox_counts(ticket.topic()).unwrap();
        (counts.queued, counts.sent, counts.parked)
    };
    assert_eq!(parked(&alice), (0, 0, 1));
    drop(alice);

    let mut alice = Device::new(1, open(), &ticket);
    let input = alice.input(Command::Configure(world.network(3)));
    assert!(posts(alice.handle(vec![input]).unwrap()).is_empty(), "the server said that it is gone");
    assert_eq!(parked(&alice), (0, 0, 1));
    alice.catch_up(&world);
    let mut jobs = Vec::new();
    while jobs.is_empty() {
        alice.now = alice.engine.next_wakeup().expect("it is sent").max(alice.now);
        jobs = posts(alice.handle(vec![Input::Timeout]).unwrap());
    }
    assert_eq!(jobs.iter().map(|job| world.carry(job)).sum::<usize>(), 1);
    assert_eq!(alice.status().blocked, None);
}
