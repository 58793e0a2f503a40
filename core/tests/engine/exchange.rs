//! What devices say to each other arrives, once, whatever happens in between.

use delta_core::engine::{
    Blocked, Command, CommandError, Event, Handover, Input, Output, POLL_EVERY_MS, PostJob, Reply,
};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::LogId;
use delta_core::limits::{MAX_LIVE_SOCKETS, MAX_REJECTED};
use delta_core::onion::route::RouteError;
use delta_core::ops::{Body, Content, DeviceKey, Ticket, create};
use delta_core::store::{Store, StoreOptions};
use delta_core::sync::frame::Frame;
use delta_core::sync::session::{ConnId, Connection};
use delta_core::topic::{Generation, Seq, WriteKey};

use crate::support::{Device, World, acknowledged, posts, reply, ticket};

#[test]
fn what_one_device_publishes_the_other_reads_and_the_echo_acknowledges() {
    let ticket = ticket();
    let mut world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    let mut bob = Device::ready(2, &ticket, &world);

    let publish = alice.say("hello");
    let input = alice.input(publish);
    let outputs = alice.handle(vec![input]).unwrap();
    let [job] = posts(outputs).try_into().unwrap();
    assert_eq!(alice.status().sent, 1, "an accepted packet is not a delivered one");
    assert_eq!(world.carry(&job), 1);
    alice.handle(vec![Input::Posted { attempt: job.attempt, handover: Handover::Taken }]).unwrap();
    assert_eq!(alice.status().sent, 1);

    let (_, outputs) = alice.catch_up(&world);
    assert_eq!(acknowledged(&outputs).len(), 1);
    assert_eq!((alice.status().sent, alice.status().queued), (0, 0));
    bob.catch_up(&world);
    assert_eq!(bob.texts(), ["hello"]);
    assert_eq!(bob.status().connection, Connection::Live);
    assert_eq!(bob.status().cursor.unwrap().chain, world.chain(1));
}

#[test]
fn commands_of_one_batch_share_packets_and_a_failing_one_leaves_the_others() {
    let ticket = ticket();
    let mut world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    let mut inputs = Vec::new();
    for index in 0..1000 {
        let text = if index == 500 { "x".repeat(70_000) } else { format!("line {index}") };
        let command = alice.say(&text);
        inputs.push(alice.input(command));
    }
    let outputs = alice.handle(inputs).unwrap();
    let failed: Vec<_> = outputs
        .iter()
        .filter(|output| matches!(output, Output::Reply { result: Err(CommandError::Content(_)), .. }))
        .collect();
    assert_eq!(failed.len(), 1);
    let jobs = posts(outputs);
    assert_eq!(jobs.iter().map(PostJob::operations).collect::<Vec<_>>(), [256, 256, 256, 231]);
    assert_eq!(jobs.iter().map(|job| world.carry(job)).sum::<usize>(), 999);
    let (_, outputs) = alice.catch_up(&world);
    assert_eq!(acknowledged(&outputs).len(), 999);
}

#[test]
fn case_34_too_few_relays_leave_the_operation_queued_with_the_reason() {
    let ticket = ticket();
    let world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    alice.command(Command::Configure(world.network(2))).unwrap();
    let command = alice.say("waits");
    let input = alice.input(command);
    let outputs = alice.handle(vec![input]).unwrap();
    let reason = Blocked::Route(RouteError::TooFewRelays { have: 2, need: 3 });
    assert!(posts(outputs).is_empty());
    assert_eq!((alice.status().blocked, alice.status().queued), (Some(reason), 1));
    let command = Command::Configure(world.network(3));
    let input = alice.input(command);
    assert_eq!(posts(alice.handle(vec![input]).unwrap()).len(), 1);
    assert_eq!(alice.status().blocked, None);
}

#[test]
fn case_40_an_operation_sent_before_a_crash_is_sent_again_and_stands_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("device.db");
    let ticket = ticket();
    let mut world = World::new(ticket.topic());
    let store = || Store::open(&path, StoreOptions::default()).unwrap();
    let mut alice = Device::new(1, store(), &ticket);
    alice.join(&world);
    let command = alice.say("once");
    let input = alice.input(command);
    let [job] = posts(alice.handle(vec![input]).unwrap()).try_into().unwrap();
    assert_eq!(world.carry(&job), 1);
    drop(alice);

    let mut alice = Device::new(1, store(), &ticket);
    alice.command(Command::Configure(world.network(3))).unwrap();
    assert_eq!(alice.status().queued, 1, "the row is still there");
    // Its echo never comes on this connection: the server withholds it, the row goes out once more.
    let log = std::mem::take(&mut world.log);
    alice.catch_up(&world);
    world.log = log;
    let mut again = Vec::new();
    while again.is_empty() {
        alice.now = alice.engine.next_wakeup().expect("a retry is due").max(alice.now);
        again = posts(alice.handle(vec![Input::Timeout]).unwrap());
    }
    assert_eq!(world.carry(&again[0]), 0, "the server knows the envelope");
    assert_eq!(world.log.len(), 1);
}

#[test]
fn case_64_a_full_disk_fails_the_batch_loses_nothing_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("device.db");
    let ticket = ticket();
    let world = World::new(ticket.topic());
    let options = StoreOptions { max_pages: Some(140), ..StoreOptions::default() };
    let mut alice = Device::new(1, Store::open(&path, options).unwrap(), &ticket);
    alice.join(&world);
    let mut published = Vec::new();
    let error = loop {
        assert!(published.len() < 1000, "the disk gets full");
        let command = alice.say(&"y".repeat(20_000));
        let input = alice.input(command);
        let result = alice.engine.handle(alice.now, &mut alice.entropy, vec![input]);
        match (result, alice.outputs().into_iter().find_map(reply).unwrap()) {
            (Ok(()), Ok(Reply::Published(id))) => published.push(id),
            (Err(error), Err(CommandError::Store(_))) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert!(error.to_string().contains("device.db"), "{error}");
    assert!(!published.is_empty());
    drop(alice);

    let mut alice = Device::new(1, Store::open(&path, StoreOptions::default()).unwrap(), &ticket);
    let command = alice.say("room again");
    published.push(match alice.command(command).unwrap() {
        Reply::Published(id) => id,
        other => panic!("{other:?}"),
    });
    let reader = alice.engine.reader().unwrap();
    assert_eq!(reader.count_operations().unwrap(), published.len() as u64);
    assert_eq!(alice.status().queued, published.len());
}

#[test]
fn case_47_what_a_foreign_key_sealed_is_counted_and_takes_no_room() {
    let (ticket, other) = (ticket(), Ticket::generate_private(&mut SeededEntropy::new([43; 32])).unwrap());
    let mut world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    alice.command(Command::OpenTopic { ticket: other.clone() }).unwrap();
    // A member of both topics puts an envelope of the other one into this one's log.
    world.log.push(sealed(&other, 9, "for the other topic"));
    // Anyone who may write can make up bytes that look sealed: key id, nonce, and a length that there is.
    let junk = |n: u64| [&[3][..], &n.to_be_bytes(), &[0; 24], &[0; 256 + 16]].concat();
    world.log.push(junk(1));
    world.log.push(sealed(&ticket, 9, "hello"));
    alice.catch_up(&world);
    assert_eq!(alice.texts(), ["hello"]);
    let reader = alice.engine.reader().unwrap();
    assert_eq!(reader.dropped(ticket.topic()).unwrap(), [("other-key".to_owned(), 2)]);
    assert_eq!(reader.pending_count(ticket.topic()).unwrap(), Default::default());

    // A flood of it costs the connection, not the topic.
    let flood = u64::from(MAX_REJECTED);
    world.log = (0..flood).map(junk).chain([sealed(&ticket, 9, "within the limit")]).collect();
    let mut carol = Device::ready(3, &ticket, &world);
    carol.catch_up(&world);
    assert_eq!(carol.texts(), ["within the limit"]);
    let mut bob = Device::ready(2, &ticket, &world);
    world.log = (0..=flood).map(junk).chain([sealed(&ticket, 9, "behind the flood")]).collect();
    let (conn, outputs) = bob.catch_up(&world);
    assert!(
        outputs.iter().any(|output| matches!(output, Output::Disconnect { conn: gone } if *gone == conn))
    );
    assert!(bob.texts().is_empty());
    bob.catch_up(&world);
    assert_eq!(bob.texts(), ["behind the flood"]);
    assert_eq!(bob.engine.reader().unwrap().pending_count(ticket.topic()).unwrap(), Default::default());
}

/// A first message of a device that is not simulated.
fn sealed(ticket: &Ticket, seed: u8, text: &str) -> Vec<u8> {
    let content =
        Content::MessageSend { text: text.into(), reply: None, mentions: vec![], attachments: Vec::new() };
    let op = create(&DeviceKey::from_bytes(&[seed; 32]), ticket.log(), 0, None, &Body::new(content)).unwrap();
    ticket.keys().seal(op.header(), op.body_bytes()).unwrap()
}

#[test]
fn a_ticket_that_contradicts_what_is_open_is_refused() {
    let make = |log, epoch, secret| {
        Ticket::private(LogId([log; 32]), epoch, WriteKey::from_seed([5; 32]), [secret; 32])
    };
    let ticket = make(1, 0, 1);
    let world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket.read_only(), &world);
    for other in [make(2, 0, 1), make(1, 1, 1), make(1, 0, 2)] {
        for other in [other.read_only(), other] {
            assert_eq!(other.topic(), ticket.topic());
            let refused = alice.command(Command::OpenTopic { ticket: other });
            assert!(matches!(refused, Err(CommandError::TicketConflict)), "{refused:?}");
        }
    }
    let say = alice.say("read only");
    assert!(matches!(alice.command(say), Err(CommandError::ReadOnly)));
    // The right to write may come later, and stays.
    for ticket in [&ticket, &ticket.read_only()] {
        alice.command(Command::OpenTopic { ticket: ticket.clone() }).unwrap();
        let say = alice.say("may write");
        assert!(matches!(alice.command(say), Ok(Reply::Published(_))));
    }
    // Another topic that claims this conversation would mix its places with ours.
    let claims = Ticket::private(LogId([1; 32]), 0, WriteKey::from_seed([6; 32]), [1; 32]);
    let refused = alice.command(Command::OpenTopic { ticket: claims });
    assert!(matches!(refused, Err(CommandError::LogTaken)), "{refused:?}");
}

#[test]
fn what_a_fork_puts_back_to_waiting_does_not_wait_for_ever() {
    let ticket = ticket();
    let mut world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    let inputs = ["lost to the fork", "stands on it"].map(|text| {
        let command = alice.say(text);
        alice.input(command)
    });
    let [job] = posts(alice.handle(inputs.into()).unwrap()).try_into().unwrap();
    assert_eq!(world.carry(&job), 2);
    let [first, second] = std::mem::take(&mut world.log).try_into().unwrap();
    let (conn, _) = alice.catch_up(&world);
    // The second one's echo comes first, then a copy of this device's key takes the first one's place.
    world.log = vec![second, sealed(&ticket, 1, "by a copy of the key"), first];
    let mut outputs = Vec::new();
    for frame in world.ops(0) {
        outputs.extend(alice.frame(conn, &frame));
    }
    assert!(outputs.iter().any(|output| matches!(output, Output::Event(Event::Forked { .. }))));
    assert_eq!(alice.texts(), [""; 0]);
    let since = alice.now;
    while alice.texts().is_empty() {
        alice.now = alice.engine.next_wakeup().expect("waiting ends").max(alice.now);
        assert!(alice.now.since(since) < 600_000, "it waits for ever");
        alice.handle(vec![Input::Timeout]).unwrap();
    }
    assert_eq!(alice.texts(), ["stands on it"]);
}

#[test]
fn case_51_a_wiped_server_gets_its_operations_back_once() {
    let ticket = ticket();
    let mut world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    let inputs = (0..5).map(|index| {
        let command = alice.say(&format!("line {index}"));
        alice.input(command)
    });
    let inputs: Vec<_> = inputs.collect();
    for job in posts(alice.handle(inputs).unwrap()) {
        world.carry(&job);
    }
    let (conn, _) = alice.catch_up(&world);
    assert_eq!(alice.status().sent, 0);
    let before = alice.texts();

    let old = std::mem::take(&mut world.log);
    world.generation = Generation([2; 16]);
    alice.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
    let (conn, request) = alice.connection();
    assert_eq!(request.resume.map(|(generation, _)| generation), Some(Generation([1; 16])));
    alice.handle(vec![Input::Connected { conn }]).unwrap();
    let ready_at = alice.now;
    for frame in [world.hello(), Frame::Reset { generation: world.generation, head: Seq(0) }, world.ready()] {
        alice.frame(conn, &frame);
    }
    let mut seen = 0;
    while world.log.len() < old.len() {
        alice.now = alice.engine.next_wakeup().expect("re-delivery is due").max(alice.now);
        let jobs = posts(alice.handle(vec![Input::Timeout]).unwrap());
        if !jobs.is_empty() {
            assert!(alice.now.since(ready_at) >= 10_000, "not at once: that would name the author");
        }
        for job in jobs {
            world.carry(&job);
        }
        for frame in world.ops(seen) {
            seen = world.log.len();
            alice.frame(conn, &frame);
        }
        assert!(alice.now.since(ready_at) < 600_000, "{} of {}", world.log.len(), old.len());
    }
    let sorted = |mut log: Vec<Vec<u8>>| {
        log.sort();
        log
    };
    assert_eq!(sorted(world.log.clone()), sorted(old), "the same envelopes, each once");
    let mut after = alice.texts();
    after.sort();
    assert_eq!(after, before, "nothing lost or doubled on the device");
}

#[test]
fn nothing_is_delivered_again_while_the_log_is_still_being_read() {
    let ticket = ticket();
    let mut world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    let publish = alice.say("kept");
    let input = alice.input(publish);
    for job in posts(alice.handle(vec![input]).unwrap()) {
        world.carry(&job);
    }
    let (conn, _) = alice.catch_up(&world);

    // The server lost its log; what is missing is noticed, and due after a while.
    let old = std::mem::take(&mut world.log);
    world.generation = Generation([2; 16]);
    alice.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
    let (conn, _) = alice.connection();
    alice.handle(vec![Input::Connected { conn }]).unwrap();
    let reset = Frame::Reset { generation: world.generation, head: Seq(0) };
    for frame in [world.hello(), reset, world.ready()] {
        alice.frame(conn, &frame);
    }

    // Somebody else delivers it; this device comes back and has received everything, but stored nothing of it yet.
    world.log = old;
    alice.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
    let (conn, _) = alice.connection();
    alice.handle(vec![Input::Connected { conn }]).unwrap();
    let mut jobs = Vec::new();
    for frame in [world.hello()].into_iter().chain(world.ops(0)).chain([world.ready()]) {
        jobs.extend(alice.engine.triage(alice.now, conn, frame.encode().into(), &mut alice.entropy));
    }
    alice.now = alice.now.plus(121_000);
    assert_eq!(posts(alice.handle(vec![Input::Timeout]).unwrap()).len(), 0);
    let inputs = jobs.into_iter().map(|job| Input::Opened(delta_core::engine::open(job))).collect();
    alice.handle(inputs).unwrap();
    for _ in 0..3 {
        alice.now = alice.now.plus(60_000);
        assert_eq!(posts(alice.handle(vec![Input::Timeout]).unwrap()).len(), 0);
    }
    assert_eq!(alice.status().connection, Connection::Live);
}

#[test]
fn the_app_hears_when_sending_can_go_on() {
    let ticket = ticket();
    let world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    alice.command(Command::Configure(world.network(2))).unwrap();
    let command = alice.say("waits");
    let input = alice.input(command);
    let news = |outputs: &[Output]| -> Vec<Option<Blocked>> {
        let blocked = |output: &Output| match output {
            Output::Event(Event::Delivery { blocked, .. }) => Some(blocked.clone()),
            _ => None,
        };
        outputs.iter().filter_map(blocked).collect()
    };
    let reason = Blocked::Route(RouteError::TooFewRelays { have: 2, need: 3 });
    assert_eq!(news(&alice.handle(vec![input]).unwrap()), [Some(reason)]);
    let command = Command::Configure(world.network(3));
    let input = alice.input(command);
    assert_eq!(news(&alice.handle(vec![input]).unwrap()), [None]);
}

#[test]
fn a_thousand_network_changes_replace_the_connection_at_once_and_then_rarely() {
    let ticket = ticket();
    let world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    alice.catch_up(&world);
    assert_eq!(alice.status().connection, Connection::Live);
    let outputs = alice.handle(vec![Input::NetworkChanged]).unwrap();
    assert!(outputs.iter().any(|output| matches!(output, Output::Disconnect { .. })), "it may be dead");
    assert!(outputs.iter().any(|output| matches!(output, Output::ForgetConnections)));
    assert_eq!(alice.connection().1.since, Seq(0));
    let mut connects = 0;
    for _ in 0..1000 {
        alice.now = alice.now.plus(10);
        connects += usize::from(alice.connect.take().is_some());
        alice.handle(vec![Input::NetworkChanged]).unwrap();
    }
    assert!((2..=4).contains(&connects), "{connects} in ten seconds: after 1, 3 and 7 s");
    // The last one counts, though it came while none was acted on.
    alice.connect = None;
    alice.connection();
}

#[test]
fn nothing_wakes_a_device_that_lost_its_server_while_it_had_something_to_deliver_again() {
    let ticket = ticket();
    let mut world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    let command = alice.say("kept");
    let input = alice.input(command);
    for job in posts(alice.handle(vec![input]).unwrap()) {
        world.carry(&job);
        alice.handle(vec![Input::Posted { attempt: job.attempt, handover: Handover::Taken }]).unwrap();
    }
    let (conn, _) = alice.catch_up(&world);
    world.log.clear();
    world.generation = Generation([2; 16]);
    alice.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
    let (conn, _) = alice.connection();
    alice.handle(vec![Input::Connected { conn }]).unwrap();
    for frame in [world.hello(), Frame::Reset { generation: world.generation, head: Seq(0) }, world.ready()] {
        alice.frame(conn, &frame);
    }
    assert!(alice.engine.next_wakeup().is_some(), "live: it is going to be delivered again");
    alice.command(Command::Unsubscribe { topic: ticket.topic() }).unwrap();
    assert_eq!(alice.engine.next_wakeup(), None);
    // It is not forgotten.
    alice.command(Command::Subscribe { topic: ticket.topic() }).unwrap();
    alice.catch_up(&world);
    let mut delivered = 0;
    while delivered == 0 {
        alice.now = alice.engine.next_wakeup().expect("re-delivery is due").max(alice.now);
        let jobs = posts(alice.handle(vec![Input::Timeout]).unwrap());
        delivered += jobs.iter().map(|job| world.carry(job)).sum::<usize>();
    }
    assert_eq!(delivered, 1);
}

#[test]
fn a_batch_that_cannot_be_committed_leaves_nothing_behind_and_the_app_knows_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let ticket = ticket();
    let world = World::new(ticket.topic());
    let options = StoreOptions { max_pages: Some(140), ..StoreOptions::default() };
    let mut alice = Device::new(1, Store::open(dir.path().join("device.db"), options).unwrap(), &ticket);
    alice.command(Command::OpenTopic { ticket: ticket.clone() }).unwrap();
    alice.command(Command::Configure(world.network(3))).unwrap();
    let published = alice.say("sent without being subscribed");
    alice.command(published).unwrap();
    alice.catch_up(&world);
    assert_eq!(alice.status().connection, Connection::Live);

    let topic = ticket.topic();
    let mut inputs =
        vec![alice.input(Command::Subscribe { topic }), alice.input(Command::Configure(world.network(2)))];
    for _ in 0..100 {
        let command = alice.say(&"y".repeat(20_000));
        inputs.push(alice.input(command));
    }
    alice.engine.handle(alice.now, &mut alice.entropy, inputs).unwrap_err();
    let outputs = alice.outputs();
    let offline = |output: &Output| {
        matches!(output, Output::Event(Event::Connection { connection: Connection::Offline, .. }))
    };
    assert!(outputs.iter().any(offline), "the app must not go on showing it as live");
    assert!(outputs.iter().any(|output| matches!(output, Output::Disconnect { .. })));
    assert!(alice.engine.next_wakeup().is_some(), "it comes back by itself");
    // What the batch said is as if it had never been said: three relays again, and not subscribed.
    let (conn, request) = alice.connection();
    assert_eq!(request.topic, topic, "the row that waits for its echo");
    assert_eq!(alice.status().blocked, None);
    alice.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
}

#[test]
fn a_device_with_more_topics_than_sockets_catches_the_parked_ones_up_in_turn() {
    let tickets: Vec<Ticket> = (0..=MAX_LIVE_SOCKETS)
        .map(|index| Ticket::generate_private(&mut SeededEntropy::new([index as u8; 32])).unwrap())
        .collect();
    let world = World::new(tickets[0].topic());
    let mut alice = Device::new(1, Store::in_memory().unwrap(), &tickets[0]);
    alice.command(Command::Configure(world.network(3))).unwrap();
    let mut open = std::collections::BTreeSet::new();
    let mut most = 0;
    let mut topics = std::collections::BTreeSet::new();
    let mut count = |outputs: &[Output]| -> Option<ConnId> {
        let mut first = None;
        for output in outputs {
            match output {
                Output::Connect { conn, request, .. } => {
                    open.insert(*conn);
                    topics.insert(request.topic);
                    first = first.or((request.topic == tickets[0].topic()).then_some(*conn));
                }
                Output::Disconnect { conn } => drop(open.remove(conn)),
                _ => {}
            }
            most = most.max(open.len());
        }
        first
    };
    let mut first = None;
    for ticket in &tickets {
        alice.command(Command::OpenTopic { ticket: ticket.clone() }).unwrap();
        let input = alice.input(Command::Subscribe { topic: ticket.topic() });
        let outputs = alice.handle(vec![input]).unwrap();
        first = first.or(count(&outputs));
    }
    // The one used longest ago lost its socket, and gets one of the few that go round.
    assert_eq!(alice.status().connection, Connection::Parked);
    let mut outputs = Vec::new();
    let mut conn = None;
    for _ in 0..10_000 {
        outputs = alice.handle(vec![Input::Timeout]).unwrap();
        conn = count(&outputs);
        if conn.is_some() {
            break;
        }
        // No server answers the others: they time out.
        alice.now = alice.engine.next_wakeup().unwrap().max(alice.now);
    }
    assert!(alice.now.0 >= POLL_EVERY_MS);
    assert!(conn.is_some() && conn != first, "its turn: {outputs:?}");
    let conn = conn.unwrap();
    let mut outputs = alice.handle(vec![Input::Connected { conn }]).unwrap();
    for frame in [world.hello(), world.ready()] {
        outputs.extend(alice.frame(conn, &frame));
    }
    count(&outputs);
    assert!(alice.status().cursor.is_some(), "it was caught up");
    assert!(
        outputs.iter().any(|output| matches!(output, Output::Disconnect { conn: closed } if *closed == conn))
    );
    // Used again, it is live at once.
    let input = alice.input(Command::Subscribe { topic: tickets[0].topic() });
    assert!(count(&alice.handle(vec![input]).unwrap()).is_some());
    assert_eq!((most, topics.len()), (MAX_LIVE_SOCKETS, MAX_LIVE_SOCKETS + 1));
}
