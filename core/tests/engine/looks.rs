//! The look before a retry, and the look after a reset.

use delta_core::engine::look::{
    ECHO_GRACE_MS, LOOK_BACK, LOOK_MAX_MS, LOOK_MIN_MS, LOOK_TIMEOUT_MS, MAX_LOOKS,
};
use delta_core::engine::{Event, Handover, Input, Output, PostJob};
use delta_core::identity::{Millis, OperationId};
use delta_core::store::{Store, StoreOptions};
use delta_core::sync::frame::Frame;
use delta_core::sync::history::HistoryRequest;
use delta_core::sync::session::ConnId;
use delta_core::topic::{Generation, Seq};

use crate::support::{Device, World, Writer, acknowledged, posts, ticket};

fn live(more: u8) -> (Device, World) {
    let world = World::new(ticket().topic());
    let mut device = Device::new(1, Store::in_memory().unwrap(), &ticket());
    device.join_network(world.tunnel_network(more));
    device.catch_up(&world);
    (device, world)
}

/// Publishes, and the entry relay takes the packet.
fn publish(device: &mut Device, text: &str) -> PostJob {
    hand_over(device, text, Handover::Taken)
}

/// Publishes; gives the packet, of whose POST this came.
fn hand_over(device: &mut Device, text: &str, handover: Handover) -> PostJob {
    let command = device.say(text);
    let input = device.input(command);
    let outputs = device.handle(vec![input]).unwrap();
    let [job] = posts(outputs).try_into().unwrap();
    device.handle(vec![Input::Posted { attempt: job.attempt, handover }]).unwrap();
    job
}

/// Lets time run until the device asks for a page or sends something.
fn until_it_acts(device: &mut Device) -> (Vec<PostJob>, Option<(ConnId, HistoryRequest)>) {
    for _ in 0..50 {
        let posted = posts(device.wake());
        if !posted.is_empty() || device.fetch.is_some() {
            return (posted, device.fetch.take());
        }
    }
    panic!("nothing happens");
}

fn withheld(outputs: &[Output]) -> Vec<Seq> {
    let seq = |output: &Output| match output {
        Output::Event(Event::ServerWithholds { seq, .. }) => Some(*seq),
        _ => None,
    };
    outputs.iter().filter_map(seq).collect()
}

fn published(device: &Device) -> OperationId {
    device.engine.reader().unwrap().list_operations(None, 1).unwrap()[0].id
}

#[test]
fn case_38_an_echo_that_is_kept_back_is_found_by_a_look_and_nothing_is_sent_again() {
    let (mut device, mut world) = live(2);
    let job = publish(&mut device, "hidden from its sender");
    assert_eq!(world.carry(&job), 1, "it stands in the log, and no frame says so");
    let (sent, reading) = (device.now, device.via);
    let (posted, page) = until_it_acts(&mut device);
    assert!(posted.is_empty(), "it looks before it sends again");
    let (conn, request) = page.unwrap();
    let lost = device.now.since(sent) - LOOK_MIN_MS;
    assert!(lost <= 10_000 + LOOK_MAX_MS, "{lost}");
    assert_eq!((request.topic, request.after), (world.topic, Seq(0)));
    let via = device.fetch_via.expect("through a tunnel, or not at all");
    assert!(Some(via) != reading && via != job.entry, "a relay no socket uses");
    let outputs = device.page(conn, &world.page(&request).encode());
    assert!(acknowledged(&outputs).is_empty(), "the echo may be on its way");
    let looked = device.now;
    let outputs = device.wake();
    assert!(device.now.since(looked) >= ECHO_GRACE_MS);
    assert_eq!(acknowledged(&outputs), [published(&device)]);
    assert_eq!(withheld(&outputs), [Seq(1)]);
    let status = device.status();
    assert_eq!(status.queued + status.sent, 0);
    // The topic is read anew, through another relay.
    device.catch_up(&world);
    assert_ne!(device.via, reading);
    assert_eq!(device.texts(), ["hidden from its sender"]);
    assert_eq!(device.status().cursor.unwrap().seq, Seq(1));
}

#[test]
fn an_echo_that_comes_after_all_accuses_nobody() {
    let (mut device, mut world) = live(2);
    let job = publish(&mut device, "late");
    world.carry(&job);
    let (_, page) = until_it_acts(&mut device);
    let (conn, request) = page.unwrap();
    device.page(conn, &world.page(&request).encode());
    let mut outputs = device.frame(device.conn.unwrap(), &world.ops(0)[0].clone());
    assert_eq!(acknowledged(&outputs), [published(&device)]);
    while device.engine.next_wakeup().is_some_and(|at| at <= device.now.plus(ECHO_GRACE_MS)) {
        outputs.extend(device.wake());
    }
    assert_eq!(withheld(&outputs), []);
}

#[test]
fn what_a_look_does_not_find_is_sent_in_a_new_packet() {
    type End = fn(&mut Device, &World, ConnId, &HistoryRequest) -> Vec<Output>;
    let empty: End = |device, world, conn, request| device.page(conn, &world.page(request).encode());
    let garbage: End = |device, _, conn, _| device.page(conn, b"no page");
    let none: End =
        |device, _, conn, _| device.handle(vec![Input::TunnelFailed { conn, retry_after_ms: 0 }]).unwrap();
    let silence: End = |device, _, conn, _| {
        device.now = device.now.plus(LOOK_TIMEOUT_MS);
        let outputs = device.handle(vec![Input::Timeout]).unwrap();
        assert!(
            outputs.iter().any(|output| matches!(output, Output::Disconnect { conn: of } if *of == conn))
        );
        outputs
    };
    let other: End = |device, world, conn, request| {
        let mut page = world.page(request);
        page.generation = Generation([9; 16]);
        device.page(conn, &page.encode())
    };
    for (end, what) in
        [(empty, "empty"), (garbage, "garbage"), (none, "none"), (silence, "silence"), (other, "another log")]
    {
        let (mut device, mut world) = live(3);
        publish(&mut device, "lost on its way");
        let (posted, page) = until_it_acts(&mut device);
        assert!(posted.is_empty());
        let (conn, request) = page.unwrap();
        // One that brings no answer is tried through another relay first.
        let mut relays = vec![device.fetch_via];
        let mut outputs = end(&mut device, &world, conn, &request);
        while let Some((conn, request)) = device.fetch.take() {
            assert!(!relays.contains(&device.fetch_via), "{what}");
            relays.push(device.fetch_via);
            outputs.extend(end(&mut device, &world, conn, &request));
        }
        assert_eq!(relays.len() > 1, what != "empty", "{what}");
        assert!(relays.len() <= MAX_LOOKS);
        let [job] = posts(outputs).try_into().unwrap_or_else(|_| panic!("{what}"));
        assert_eq!(world.carry(&job), 1);
        device.frame(device.conn.unwrap(), &world.ops(0)[0].clone());
        assert_eq!(device.status().sent, 0);
    }
}

#[test]
fn without_a_relay_that_no_socket_uses_the_look_is_left_out() {
    // Three relays: two are guards, the third carries the topic.
    let (mut device, _) = live(0);
    publish(&mut device, "first");
    let (posted, page) = until_it_acts(&mut device);
    assert!(posted.len() == 1 && page.is_none());
}

#[test]
fn a_look_goes_on_without_the_connection_and_a_replay_that_tells_all_accuses_nobody() {
    let (mut device, mut world) = live(2);
    let job = publish(&mut device, "seen on the next connection");
    world.carry(&job);
    let (_, page) = until_it_acts(&mut device);
    let (looking, request) = page.unwrap();
    lose(&mut device);
    let (_, outputs) = device.catch_up(&world);
    assert_eq!(acknowledged(&outputs).len(), 1);
    let mut outputs = device.page(looking, &world.page(&request).encode());
    outputs.extend(ten_minutes(&mut device));
    assert!(withheld(&outputs).is_empty() && posts(outputs).is_empty());
}

fn lose(device: &mut Device) {
    let conn = device.conn.unwrap();
    device.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
}

/// The packet has arrived; the first thing the device does is a look, which finds it, and nothing is sent again.
fn looks_first(device: &mut Device, world: &World, what: &str) {
    let (posted, page) = until_it_acts(device);
    assert!(posted.is_empty(), "{what}: it looks before it sends again");
    let (conn, request) = page.unwrap();
    assert_eq!(request.after, Seq(0), "{what}");
    assert!(device.fetch_via.is_some(), "{what}");
    let mut outputs = device.page(conn, &world.page(&request).encode());
    outputs.extend(device.wake());
    while device.status().queued + device.status().sent > 0 {
        outputs.extend(device.wake());
    }
    assert!(posts(outputs).is_empty(), "{what}");
}

#[test]
fn case_38_a_relay_that_forwards_and_says_that_it_failed_brings_no_second_copy() {
    let handovers = [Handover::Failed, Handover::Undelivered, Handover::Busy { retry_after_ms: 1_000 }];
    for handover in handovers {
        let (mut device, mut world) = live(2);
        let job = hand_over(&mut device, "forwarded all the same", handover);
        assert_eq!(world.carry(&job), 1);
        looks_first(&mut device, &world, &format!("{handover:?}"));
    }
}

#[test]
fn what_never_left_the_device_is_sent_again_without_a_look() {
    let (mut device, _) = live(2);
    hand_over(&mut device, "connection refused", Handover::Unreached);
    let (posted, page) = until_it_acts(&mut device);
    assert!(posted.len() == 1 && page.is_none());
}

#[test]
fn case_38_after_a_restart_what_was_sent_before_it_is_looked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device.sqlite");
    let open = || Store::open(&path, StoreOptions::default()).unwrap();
    let mut world = World::new(ticket().topic());
    let mut device = Device::new(1, open(), &ticket());
    device.join_network(world.tunnel_network(2));
    device.catch_up(&world);
    let job = publish(&mut device, "sent by the process before");
    world.carry(&job);
    let now = device.now;
    drop(device);
    let mut device = Device::new(1, open(), &ticket());
    device.now = now;
    device.join_network(world.tunnel_network(2));
    // The server leaves it out of the replay, too.
    device.catch_up(&World::new(world.topic));
    looks_first(&mut device, &world, "restart");
}

#[test]
fn case_38_a_server_that_leaves_it_out_of_the_next_replay_sees_no_second_copy() {
    let (mut device, mut world) = live(2);
    let job = publish(&mut device, "hidden in the replay");
    world.carry(&job);
    lose(&mut device);
    // Long past every timeout.
    device.now = device.now.plus(20_000);
    let empty = World::new(world.topic);
    let (_, outputs) = device.catch_up(&empty);
    assert!(posts(outputs).is_empty());
    looks_first(&mut device, &world, "replay");
}

#[test]
fn case_38_a_server_that_does_not_let_its_reader_back_sees_no_second_copy() {
    let (mut device, mut world) = live(2);
    let job = publish(&mut device, "hidden by silence");
    world.carry(&job);
    lose(&mut device);
    // The connection never comes; the log cannot be read but by a look.
    looks_first(&mut device, &world, "not live");
}

/// A device that has read a log of 30 operations and is told of another one.
fn reset(generation: Generation, kept: usize) -> (Device, World, World) {
    let mut world = World::new(ticket().topic());
    let mut writer = Writer::new([9; 32], &ticket());
    world.log = (0..30).map(|number| writer.say(&number.to_string())).collect();
    let mut device = Device::new(1, Store::in_memory().unwrap(), &ticket());
    device.join_network(world.tunnel_network(2));
    device.catch_up(&world);
    let mut other = World { generation, ..World::new(ticket().topic()) };
    other.log = world.log[..kept].to_vec();
    reset_to(&mut device, &other);
    (device, world, other)
}

/// The connection ends, and the next one says that the log is another.
fn reset_to(device: &mut Device, other: &World) {
    let conn = device.conn.unwrap();
    device.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
    let (conn, _) = device.connection();
    device.conn = Some(conn);
    device.handle(vec![Input::Connected { conn }]).unwrap();
    let reset = Frame::Reset { generation: other.generation, head: Seq(other.log.len() as u64) };
    for frame in [other.hello(), reset].into_iter().chain(other.ops(0)).chain([other.ready()]) {
        device.frame(conn, &frame);
    }
}

/// Lets ten minutes pass; gives what was sent and said.
fn ten_minutes(device: &mut Device) -> Vec<Output> {
    let end = device.now.plus(600_000);
    let mut outputs = Vec::new();
    while device.engine.next_wakeup().is_some_and(|at| at <= end) {
        outputs.extend(device.wake());
    }
    device.now = end;
    outputs
}

fn false_resets(outputs: &[Output]) -> usize {
    outputs.iter().filter(|output| matches!(output, Output::Event(Event::FalseReset { .. }))).count()
}

#[test]
fn case_51_a_false_reset_is_reported_and_nothing_is_delivered_again() {
    // Another generation, and the same one put back, as the server says.
    for (generation, kept) in [(Generation([2; 16]), 0), (Generation([1; 16]), 10)] {
        let (mut device, world, _) = reset(generation, kept);
        let (conn, request) = device.fetch.take().expect("it looks at once");
        assert!((30 - LOOK_BACK..30).contains(&request.after.0), "{request:?}");
        assert!(device.fetch_via.is_some_and(|relay| Some(relay) != device.via), "from elsewhere");
        let mut outputs = device.page(conn, &world.page(&request).encode());
        outputs.extend(ten_minutes(&mut device));
        assert_eq!(false_resets(&outputs), 1);
        assert!(posts(outputs).is_empty(), "nothing is delivered again");
        assert_eq!(device.texts().len(), 30);
    }
}

#[test]
fn case_51_false_resets_one_after_the_other_bring_nothing_either() {
    let (mut device, world, other) = reset(Generation([2; 16]), 0);
    for generation in [3, 4] {
        let (conn, request) = device.fetch.take().expect("it looks at once");
        let outputs = device.page(conn, &world.page(&request).encode());
        assert_eq!(false_resets(&outputs), 1);
        reset_to(&mut device, &World { generation: Generation([generation; 16]), ..World::new(other.topic) });
    }
    let (conn, request) =
        device.fetch.take().expect("it looks for the log it knew, not for what was made up");
    let mut outputs = device.page(conn, &world.page(&request).encode());
    outputs.extend(ten_minutes(&mut device));
    assert!(false_resets(&outputs) == 1 && posts(outputs).is_empty());
}

#[test]
fn case_51_a_true_reset_brings_the_operations_back() {
    for (generation, kept) in [(Generation([2; 16]), 0), (Generation([1; 16]), 10)] {
        let (mut device, _, mut other) = reset(generation, kept);
        let (conn, request) = device.fetch.take().expect("it looks at once");
        let mut outputs = device.page(conn, &other.page(&request).encode());
        outputs.extend(ten_minutes(&mut device));
        assert_eq!(false_resets(&outputs), 0);
        let delivered: usize = posts(outputs).iter().map(|job| other.carry(job)).sum();
        assert!(delivered > 0);
    }
}

#[test]
fn case_51_a_server_that_refuses_a_look_is_found_out_by_the_next() {
    let (mut device, world, _) = reset(Generation([2; 16]), 0);
    let (conn, _) = device.fetch.take().unwrap();
    device.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
    let (conn, request) = device.fetch.take().expect("it asks through another relay");
    let mut outputs = device.page(conn, &world.page(&request).encode());
    outputs.extend(ten_minutes(&mut device));
    assert_eq!(false_resets(&outputs), 1);
    assert!(posts(outputs).is_empty());
}

#[test]
fn a_reset_that_cannot_be_looked_into_is_believed() {
    let (mut device, _, mut other) = reset(Generation([2; 16]), 0);
    let began = device.now;
    let mut outputs = Vec::new();
    let mut relays = Vec::new();
    while let Some((conn, _)) = device.fetch.take() {
        assert!(posts(outputs).is_empty());
        relays.push(device.fetch_via.unwrap());
        // The server refuses: no fault of the relay.
        outputs = device.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
    }
    assert_eq!(relays.len(), MAX_LOOKS, "one refusal does not end it");
    relays.dedup();
    assert_eq!(relays.len(), MAX_LOOKS, "each through another relay");
    outputs.extend(ten_minutes(&mut device));
    assert!(posts(outputs).iter().map(|job| other.carry(job)).sum::<usize>() > 0);
    assert!(device.now > Millis(began.0 + 10_000));
}
