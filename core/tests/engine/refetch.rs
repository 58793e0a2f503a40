//! What there is no room to keep waiting is read again: nothing is lost, memory stays bounded.

use delta_core::engine::{Event, Input, Output};
use delta_core::engine::{open, refetch::PAGE_LIMIT};
use delta_core::entropy::{Entropy, SeededEntropy};
use delta_core::ops::Ticket;
use delta_core::store::{PendingCount, PendingLimits, Store, StoreOptions};
use delta_core::sync::history::{HistoryPage, HistoryRequest};
use delta_core::sync::session::Fault;
use delta_core::topic::{Generation, Seq};
use tempfile::TempDir;

use crate::support::{Device, World, Writer, ticket};

/// A device with room for few waiting operations.
fn narrow(seed: u8, ticket: &Ticket, world: &World, pending: PendingLimits) -> (Device, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { sync: false, pending, ..StoreOptions::default() };
    let store = Store::open(dir.path().join("device.db"), options).unwrap();
    let mut device = Device::new(seed, store, ticket);
    device.join(world);
    (device, dir)
}

fn limits(per_author: usize) -> PendingLimits {
    PendingLimits { per_author, ..PendingLimits::default() }
}

/// The messages of one author, in an order of one's choice.
fn world_of(ticket: &Ticket, count: usize, order: impl FnOnce(&mut Vec<Vec<u8>>)) -> World {
    let mut world = World::new(ticket.topic());
    let mut writer = Writer::new([9; 32], ticket);
    world.log = (0..count).map(|number| writer.say(&format!("{number:05}"))).collect();
    order(&mut world.log);
    world
}

fn shuffle(log: &mut [Vec<u8>], seed: u8) {
    let mut entropy = SeededEntropy::new([seed; 32]);
    for last in (1..log.len()).rev() {
        log.swap(last, entropy.below(last as u64 + 1).unwrap() as usize);
    }
}

/// Nothing waits, nothing is to be read again, no hole is left, and the rows are those of a device with room.
fn assert_complete(device: &Device, world: &World, ticket: &Ticket) {
    let room = PendingLimits { bytes: u64::MAX >> 1, per_author: 1 << 40 };
    let (mut roomy, _dir) = narrow(77, ticket, world, room);
    roomy.catch_up(world);
    let standing = device.standing();
    assert_eq!(standing.pending, PendingCount::default());
    assert_eq!(standing.refetches, []);
    let reader = [device, &roomy].map(|device| device.engine.reader().unwrap());
    let [ours, theirs] = reader.map(|reader| reader.list_operations(None, usize::MAX >> 1).unwrap());
    assert_eq!(ours.len(), world.log.len());
    assert!(ours == theirs);
    let log = ticket.log();
    let author = ours[0].author;
    assert_eq!(device.engine.reader().unwrap().log_holes(&author, &log).unwrap(), []);
    assert_eq!(device.texts(), roomy.texts());
}

#[test]
fn a_log_that_overflows_in_any_order_is_read_whole_in_bounded_room() {
    for seed in 0..12u8 {
        let ticket = ticket();
        let count = 20 + usize::from(seed) * 60;
        let world = world_of(&ticket, count, |log| match seed {
            0 => log.reverse(),
            // The first operation comes last: nothing can be taken before.
            1 => log.rotate_left(1),
            seed => shuffle(log, seed),
        });
        let room = 1 + usize::from(seed % 5);
        let (mut device, _dir) = narrow(1, &ticket, &world, limits(room));
        let (conn, request) = device.connection();
        device.handle(vec![Input::Connected { conn }]).unwrap();
        assert_eq!(request.since, Seq(0));
        for frame in [world.hello()].into_iter().chain(world.ops(0)) {
            device.frame(conn, &frame);
            assert!(device.standing().pending.predecessor <= room as u64, "seed {seed}");
            assert!(device.fetch.is_none(), "not before the log is at hand");
        }
        device.frame(conn, &world.ready());
        let pages = device.read_again(&world);
        assert!(pages <= 2 + count / usize::from(PAGE_LIMIT), "{pages} pages for {count}, seed {seed}");
        assert_complete(&device, &world, &ticket);
    }
}

#[test]
fn a_reversed_log_longer_than_the_real_limit_is_read_whole() {
    let ticket = ticket();
    let count = delta_core::limits::MAX_PENDING_PER_AUTHOR + 600;
    let world = world_of(&ticket, count, |log| log.reverse());
    let mut device = Device::ready(1, &ticket, &world);
    device.catch_up(&world);
    device.read_again(&world);
    assert_complete(&device, &world, &ticket);
}

#[test]
fn case_59_ten_thousand_new_authors_share_the_topics_room_and_nothing_is_lost() {
    let ticket = ticket();
    let mut world = World::new(ticket.topic());
    let mut honest = Writer::new([9; 32], &ticket);
    world.log.push(honest.say("before"));
    for number in 0..10_000u32 {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let mut stranger = Writer::new(key, &ticket);
        stranger.say("never delivered");
        world.log.push(stranger.say(&number.to_string()));
    }
    world.log.push(honest.say("after"));
    let room = PendingLimits { bytes: 100_000, ..PendingLimits::default() };
    let (mut device, _dir) = narrow(1, &ticket, &world, room);
    let (conn, _) = device.connection();
    device.handle(vec![Input::Connected { conn }]).unwrap();
    for frame in [world.hello()].into_iter().chain(world.ops(0)) {
        device.frame(conn, &frame);
        assert!(device.standing().pending.bytes <= room.bytes);
    }
    assert_eq!(device.texts().last().unwrap(), "after");
    device.frame(conn, &world.ready());
    device.read_again(&world);
    let standing = device.standing();
    assert_eq!((standing.pending, standing.refetches), (PendingCount::default(), vec![]));
    assert_eq!(device.engine.reader().unwrap().count_operations().unwrap(), 10_002);
}

/// A device that has let something go and asks for it.
fn asking(ticket: &Ticket) -> (Device, TempDir, World) {
    let world = world_of(ticket, 8, |log| log.reverse());
    let (mut device, dir) = narrow(1, ticket, &world, limits(2));
    device.catch_up(&world);
    assert!(device.fetch.is_some());
    (device, dir, world)
}

fn faults(outputs: &[Output]) -> Vec<Fault> {
    let fault = |output: &Output| match output {
        Output::Event(Event::ServerFault { fault, .. }) => Some(*fault),
        _ => None,
    };
    outputs.iter().filter_map(fault).collect()
}

#[test]
fn a_page_that_is_not_what_was_asked_for_is_a_fault_and_is_asked_for_again_later() {
    type Spoil = fn(&mut HistoryPage);
    let none: Spoil = |page| page.ops.clear();
    let swapped: Spoil = |page| page.ops.iter_mut().for_each(|op| op.seq = Seq(op.seq.0 + 1));
    let more: Spoil = |page| {
        let mut next = page.ops.last().unwrap().clone();
        next.seq = next.seq.next().unwrap();
        page.ops.push(next);
    };
    for (spoil, what) in [(none, "nothing"), (swapped, "other places"), (more, "more than there is")] {
        let ticket = ticket();
        let (mut device, _dir, world) = asking(&ticket);
        let (conn, request) = device.fetch.take().unwrap();
        let mut page = world.page(&request);
        spoil(&mut page);
        assert_eq!(faults(&device.page(conn, &page.encode())), [Fault::Page], "{what}");
        let pause = device.engine.next_wakeup().unwrap().since(device.now);
        assert!((500..=1000).contains(&pause), "{pause}");
        assert_eq!(device.read_again(&world), 0);
        device.wake();
        assert_eq!(device.fetch.unwrap().1, request);
        device.read_again(&world);
        assert_complete(&device, &world, &ticket);
    }
}

#[test]
fn bytes_that_are_no_page_and_pages_that_never_come_are_asked_for_again_ever_more_rarely() {
    let ticket = ticket();
    let (mut device, _dir, world) = asking(&ticket);
    let mut pauses = Vec::new();
    for round in 0..20 {
        let (conn, _) = device.fetch.take().unwrap();
        if round % 2 == 0 {
            assert!(matches!(faults(&device.page(conn, b"no page"))[..], [Fault::Decode(_)]));
        } else {
            device.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
        }
        let before = device.now;
        // Other things come due meanwhile.
        while device.fetch.is_none() {
            device.wake();
        }
        pauses.push(device.now.since(before));
    }
    assert!(pauses.windows(2).take(10).all(|pair| pair[1] * 2 > pair[0]), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= 3_600_000) && pauses[19] >= 1_800_000, "{pauses:?}");
    device.read_again(&world);
    assert_complete(&device, &world, &ticket);
}

#[test]
fn a_server_that_hangs_over_a_page_is_given_up_and_its_late_page_is_not_used() {
    let ticket = ticket();
    let (mut device, _dir, world) = asking(&ticket);
    let (conn, request) = device.fetch.take().unwrap();
    let outputs = device.wake();
    assert!(outputs.iter().any(|output| matches!(output, Output::Disconnect { conn: c } if *c == conn)));
    let stored = device.engine.reader().unwrap().count_operations().unwrap();
    device.page(conn, &world.page(&request).encode());
    assert_eq!(device.engine.reader().unwrap().count_operations().unwrap(), stored);
    device.wake();
    device.read_again(&world);
    assert_complete(&device, &world, &ticket);
}

#[test]
fn a_history_that_differs_from_what_was_sent_before_is_a_fault_and_not_used() {
    let ticket = ticket();
    let (mut device, _dir, world) = asking(&ticket);
    let (conn, request) = device.fetch.take().unwrap();
    let at = request.after.next().unwrap();
    let mut page = world.page(&request);
    page.ops[0].op = Writer::new([8; 32], &ticket).say("slipped in").into();
    assert_eq!(faults(&device.page(conn, &page.encode())), [Fault::History(at)]);
    assert!(!device.texts().contains(&"slipped in".to_owned()));
    device.wake();
    device.read_again(&world);
    assert_complete(&device, &world, &ticket);
}

#[test]
fn case_50_what_was_evicted_before_it_could_be_read_again_is_a_gap() {
    let ticket = ticket();
    let (mut device, _dir, mut world) = asking(&ticket);
    let (conn, request) = device.fetch.take().unwrap();
    let first = request.after.next().unwrap();
    let last = device.standing().refetches[0].1.to;
    world.tail = last.0 + 1;
    let outputs = device.page(conn, &world.page(&request).encode());
    let gap = |output: &Output| matches!(output, Output::Event(Event::Gap { from, .. }) if *from == first);
    assert!(outputs.iter().any(gap), "{outputs:?}");
    device.read_again(&world);
    let standing = device.standing();
    assert_eq!(standing.refetches, []);
    assert_eq!((standing.gaps[0].from, standing.gaps[0].to), (first, last));
}

#[test]
fn a_reset_ends_what_was_to_be_read_again_of_the_old_log() {
    let ticket = ticket();
    let (mut device, _dir, mut world) = asking(&ticket);
    let (fetch, request) = device.fetch.take().unwrap();
    let page = world.page(&request).encode();
    let jobs = device.engine.triage(device.now, fetch, page.into(), &mut device.entropy);
    world.generation = Generation([2; 16]);
    shuffle(&mut world.log, 3);
    let conn = device.conn.unwrap();
    device.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
    let (conn, _) = device.connection();
    device.handle(vec![Input::Connected { conn }]).unwrap();
    let reset = delta_core::sync::frame::Frame::Reset { generation: world.generation, head: Seq(8) };
    for frame in [world.hello(), reset] {
        device.frame(conn, &frame);
    }
    let before = device.engine.reader().unwrap().count_operations().unwrap();
    assert_eq!(device.standing().refetches, []);
    // The old log's page comes too late.
    device.handle(jobs.into_iter().map(|job| Input::Opened(open(job))).collect()).unwrap();
    assert_eq!(device.engine.reader().unwrap().count_operations().unwrap(), before);
    for frame in world.ops(0).into_iter().chain([world.ready()]) {
        device.frame(conn, &frame);
    }
    device.now = device.now.plus(5_000);
    device.handle(vec![Input::Timeout]).unwrap();
    device.read_again(&world);
    assert_complete(&device, &world, &ticket);
}

#[test]
fn after_a_restart_what_is_left_is_asked_for_once_the_log_is_at_hand() {
    let ticket = ticket();
    let (device, dir, world) = asking(&ticket);
    let (_, request) = device.fetch.unwrap();
    drop(device.engine);
    let options = StoreOptions { sync: false, pending: limits(2), ..StoreOptions::default() };
    let mut device = Device::new(1, Store::open(dir.path().join("device.db"), options).unwrap(), &ticket);
    device.join(&world);
    assert!(device.fetch.is_none());
    device.catch_up(&world);
    assert_eq!(device.fetch.unwrap().1, request);
    let expected = HistoryRequest { topic: ticket.topic(), limit: PAGE_LIMIT, ..request };
    assert_eq!(request, expected);
    device.read_again(&world);
    assert_complete(&device, &world, &ticket);
}
