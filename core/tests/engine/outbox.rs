//! What an app may do about its outbox: look at it, put parked operations back, take one back.

use delta_core::engine::{
    Cancelled, Command, CommandError, Event, Handover, Input, Output, Reply, Unreadable,
};
use delta_core::identity::{Author, Millis, OperationId};
use delta_core::ops::Content;
use delta_core::store::{OutboxRowState, Page, Store, StoreOptions};

use crate::support::{Device, World, Writer, acknowledged, posts, ticket};

fn publish(device: &mut Device, content: Content) -> OperationId {
    let topic = device.ticket.topic();
    match device.command(Command::Publish { topic, content }).unwrap() {
        Reply::Published(id) => id,
        other => panic!("{other:?}"),
    }
}

fn say(device: &mut Device, text: &str) -> OperationId {
    publish(
        device,
        Content::MessageSend { text: text.into(), reply: None, mentions: vec![], attachments: Vec::new() },
    )
}

fn cancel(device: &mut Device, operation: OperationId) -> Result<Cancelled, CommandError> {
    let topic = device.ticket.topic();
    match device.command(Command::Cancel { topic, operation })? {
        Reply::Cancelled(cancelled) => Ok(cancelled),
        other => panic!("{other:?}"),
    }
}

fn retry(device: &mut Device) -> (u64, Vec<Output>) {
    let topic = device.ticket.topic();
    let input = device.input(Command::Retry { topic });
    let outputs = device.handle(vec![input]).unwrap();
    let count = outputs.iter().find_map(|output| match output {
        Output::Reply { result: Ok(Reply::Retried(count)), .. } => Some(*count),
        _ => None,
    });
    (count.expect("it is answered"), outputs)
}

/// A device without any network: nothing can leave it.
fn offline(store: Store) -> Device {
    let ticket = ticket();
    let mut device = Device::new(1, store, &ticket);
    device.command(Command::OpenTopic { ticket }).unwrap();
    device
}

/// The numbers and ids of this device's log.
fn log(device: &Device) -> Vec<(u32, OperationId)> {
    let reader = device.engine.reader().unwrap();
    let listed = reader.list_operations(None, 1000).unwrap();
    let own = listed.into_iter().filter(|operation| operation.author == device.engine.author());
    own.map(|operation| (operation.seq_num, operation.id)).collect()
}

fn states(device: &Device) -> Vec<(OperationId, OutboxRowState)> {
    let rows = device.engine.reader().unwrap().outbox_rows(device.ticket.topic(), None, 100).unwrap();
    rows.into_iter().map(|row| (row.operation, row.state)).collect()
}

#[test]
fn the_newest_operation_that_never_left_is_removed_without_a_trace_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path().join("device.db"), StoreOptions::default()).unwrap();
    let mut alice = offline(open());
    let first = say(&mut alice, "stays");
    let second = say(&mut alice, "a slip");
    drop(alice);
    let mut alice = Device::new(1, open(), &ticket());
    assert_eq!(cancel(&mut alice, second).unwrap(), Cancelled::Removed);
    assert_eq!(alice.texts(), ["stays"]);
    assert_eq!(states(&alice), [(first, OutboxRowState::Queued)]);
    assert!(matches!(cancel(&mut alice, second), Err(CommandError::UnknownOperation)));
    drop(alice);
    let mut alice = Device::new(1, open(), &ticket());
    let third = say(&mut alice, "instead");
    assert_eq!(log(&alice), [(0, first), (1, third)], "the next one takes its number");

    // And everybody reads a log without a fork.
    let mut world = World::new(alice.ticket.topic());
    let input = alice.input(Command::Configure(world.network(3)));
    let jobs = posts(alice.handle(vec![input]).unwrap());
    assert_eq!(jobs.iter().map(|job| world.carry(job)).sum::<usize>(), 2);
    let mut bob = Device::ready(2, &ticket(), &world);
    let (_, outputs) = bob.catch_up(&world);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Event(Event::Forked { .. }))));
    assert_eq!(bob.texts(), ["stays", "instead"]);
}

#[test]
fn the_first_operation_of_a_log_can_be_taken_back_and_the_log_begins_anew() {
    let mut alice = offline(Store::in_memory().unwrap());
    let first = say(&mut alice, "a slip");
    assert_eq!(cancel(&mut alice, first).unwrap(), Cancelled::Removed);
    assert_eq!((log(&alice), alice.texts().len(), alice.status().queued), (vec![], 0, 0));
    let first = say(&mut alice, "hello");
    assert_eq!(log(&alice), [(0, first)]);
}

#[test]
fn one_with_others_behind_it_is_deleted_by_a_further_operation() {
    let mut alice = offline(Store::in_memory().unwrap());
    let first = say(&mut alice, "a slip");
    let second = say(&mut alice, "stands on it");
    let Cancelled::Deleted(delete) = cancel(&mut alice, first).unwrap() else {
        panic!("it is not the newest")
    };
    assert_eq!(alice.texts(), ["stands on it"]);
    assert_eq!(log(&alice), [(0, first), (1, second), (2, delete)]);
}

#[test]
fn one_that_may_have_left_is_deleted_by_a_further_operation() {
    let mut world = World::new(ticket().topic());
    let mut alice = Device::ready(1, &ticket(), &world);
    let command = alice.say("in flight");
    let input = alice.input(command);
    let sent = posts(alice.handle(vec![input]).unwrap());
    let [(_, message)] = log(&alice)[..] else { panic!("one operation") };
    assert_eq!(states(&alice), [(message, OutboxRowState::Sent)]);
    let topic = alice.ticket.topic();
    let input = alice.input(Command::Cancel { topic, operation: message });
    let outputs = alice.handle(vec![input]).unwrap();
    let jobs = posts(outputs);
    let [_, (_, delete)] = log(&alice)[..] else { panic!("the delete follows it") };
    assert_eq!(sent.iter().chain(&jobs).map(|job| world.carry(job)).sum::<usize>(), 2);
    let (_, outputs) = alice.catch_up(&world);
    assert_eq!(acknowledged(&outputs), [message, delete]);
    let mut bob = Device::ready(2, &ticket(), &world);
    bob.catch_up(&world);
    assert!(bob.texts().is_empty() && alice.texts().is_empty());
}

#[test]
fn what_is_no_message_is_undone_only_while_it_never_left() {
    let mut alice = offline(Store::in_memory().unwrap());
    let message = say(&mut alice, "first");
    let edit = publish(&mut alice, Content::MessageEdit { target: message, text: "second".into() });
    assert_eq!(alice.texts(), ["second"]);
    let reaction = publish(&mut alice, Content::ReactionAdd { target: message, emoji: "+".into() });
    assert!(matches!(cancel(&mut alice, edit), Err(CommandError::NotCancellable)));
    assert_eq!(cancel(&mut alice, reaction).unwrap(), Cancelled::Removed);
    assert!(alice.engine.reader().unwrap().reactions(&message).unwrap().is_empty());
    assert_eq!(cancel(&mut alice, edit).unwrap(), Cancelled::Removed);
    assert_eq!(alice.texts(), ["first"], "what the edit hid is back");
    let delete = publish(&mut alice, Content::MessageDelete { target: message });
    assert!(matches!(cancel(&mut alice, delete), Err(CommandError::NotCancellable)), "the text is erased");
    assert!(
        matches!(cancel(&mut alice, message), Err(CommandError::NotCancellable)),
        "it is deleted already"
    );
    assert_eq!(log(&alice).len(), 2);
}

#[test]
fn nobody_takes_back_what_another_wrote_or_what_is_not_there() {
    let ticket = ticket();
    let mut world = World::new(ticket.topic());
    world.log.push(Writer::new([9; 32], &ticket).say("from somebody else"));
    let mut alice = Device::ready(1, &ticket, &world);
    alice.catch_up(&world);
    let reader = alice.engine.reader().unwrap();
    let page = reader.messages(&ticket.keys().log(), Page::Newest, 10).unwrap();
    let theirs = page[0].id;
    assert_ne!(page[0].author(), Author(alice.engine.author().0));
    assert!(matches!(cancel(&mut alice, theirs), Err(CommandError::NotOwnOperation)));
    assert!(matches!(cancel(&mut alice, OperationId([7; 32])), Err(CommandError::UnknownOperation)));
    let other = delta_core::topic::TopicId([3; 32]);
    let unknown = [Command::Retry { topic: other }, Command::Cancel { topic: other, operation: theirs }];
    for command in unknown {
        assert!(matches!(alice.command(command), Err(CommandError::UnknownTopic)));
    }
}

#[test]
fn parked_operations_go_again_when_the_app_says_so_also_after_a_restart_without_a_network() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path().join("device.db"), StoreOptions::default()).unwrap();
    let mut world = World::new(ticket().topic());
    let mut alice = Device::new(1, open(), &ticket());
    alice.join(&world);
    let (conn, _) = alice.connection();
    alice.handle(vec![Input::Refused { conn, unreadable: Unreadable::Gone }]).unwrap();
    let topic = alice.ticket.topic();
    // What was published before the topic went.
    drop(alice);
    let mut alice = Device::new(1, open(), &ticket());
    let message = say(&mut alice, "kept");
    alice.join(&world);
    let (conn, _) = alice.connection();
    alice.handle(vec![Input::Refused { conn, unreadable: Unreadable::Gone }]).unwrap();
    let parked = OutboxRowState::Parked { reason: "topic-gone".into() };
    assert_eq!(states(&alice), [(message, parked.clone())]);

    let (count, outputs) = retry(&mut alice);
    assert_eq!(count, 1);
    let readable =
        |output: &Output| matches!(output, Output::Event(Event::Readable { unreadable: None, .. }));
    assert!(outputs.iter().any(readable));
    assert_eq!(retry(&mut alice).0, 0, "nothing is parked any more");
    // The server says the same again.
    let (conn, _) = alice.connection();
    alice.handle(vec![Input::Refused { conn, unreadable: Unreadable::Gone }]).unwrap();
    assert_eq!(states(&alice), [(message, parked)]);
    drop(alice);

    let mut alice = Device::new(1, open(), &ticket());
    assert_eq!(retry(&mut alice).0, 1);
    drop(alice);
    let mut alice = Device::new(1, open(), &ticket());
    assert_eq!(states(&alice), [(message, OutboxRowState::Queued)]);
    alice.command(Command::Configure(world.network(3))).unwrap();
    alice.command(Command::Subscribe { topic }).unwrap();
    alice.catch_up(&world);
    let mut jobs = Vec::new();
    while jobs.is_empty() {
        jobs = posts(alice.wake());
    }
    assert_eq!(jobs.iter().map(|job| world.carry(job)).sum::<usize>(), 1);
}

#[test]
fn a_clock_that_is_put_back_does_not_stop_retries_while_the_log_cannot_be_read() {
    const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1_000;
    let world = World::new(ticket().topic());
    let mut alice = Device::new(1, Store::in_memory().unwrap(), &ticket());
    alice.now = Millis(20 * YEAR_MS);
    // Never connected: what is sent again is sent blind.
    alice.join(&world);
    alice.now = Millis(10 * YEAR_MS);
    let command = alice.say("hello");
    let input = alice.input(command);
    let first = posts(alice.handle(vec![input]).unwrap());
    assert_eq!(first.len(), 1);
    let failed = Input::Posted { attempt: first[0].attempt, handover: Handover::Failed };
    let mut again = posts(alice.handle(vec![failed]).unwrap());
    while again.is_empty() {
        again = posts(alice.wake());
    }
    assert!(alice.now < Millis(10 * YEAR_MS + 600_000), "{} ms later", alice.now.0 - 10 * YEAR_MS);
}
