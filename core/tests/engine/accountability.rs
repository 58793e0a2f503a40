//! Two histories shown to two devices are found out when they compare.

use delta_core::engine::{Event, Output};
use delta_core::ops::{Body, Content, ObservedHead};
use delta_core::store::{Equivocation, MAX_EQUIVOCATIONS};
use delta_core::topic::{Chain, Generation, Seq};

use crate::support::{Device, World, Writer, posts, ticket};

fn found(outputs: &[Output]) -> Vec<Equivocation> {
    let equivocation = |output: &Output| match output {
        Output::Event(Event::ServerEquivocates { equivocation, .. }) => Some(**equivocation),
        _ => None,
    };
    outputs.iter().filter_map(equivocation).collect()
}

fn claim(world: &World, seq: u64, chain: Chain) -> Body {
    let content =
        Content::MessageSend { text: "claim".into(), reply: None, mentions: vec![], attachments: Vec::new() };
    let observed = Some(ObservedHead { generation: world.generation, seq: Seq(seq), chain });
    Body { observed, ..Body::new(content) }
}

/// A log of so many messages by one author.
fn world(ticket: &delta_core::ops::Ticket, author: u8, count: usize) -> (World, Writer) {
    let mut world = World::new(ticket.topic());
    let mut writer = Writer::new([author; 32], ticket);
    world.log = (0..count).map(|number| writer.say(&format!("{number}"))).collect();
    (world, writer)
}

#[test]
fn case_46_two_histories_shown_to_two_devices_are_detected_when_they_compare() {
    let ticket = ticket();
    let (mut to_alice, _) = world(&ticket, 8, 3);
    let (mut to_bob, _) = world(&ticket, 9, 5);
    assert_eq!(to_alice.generation, to_bob.generation);
    let mut alice = Device::ready(1, &ticket, &to_alice);
    alice.catch_up(&to_alice);
    let publish = alice.say("hello");
    let input = alice.input(publish);
    let [job] = posts(alice.handle(vec![input]).unwrap()).try_into().unwrap();
    // The server shows Bob Alice's operation in the other history.
    assert_eq!(to_alice.carry(&job), 1);
    to_bob.log.push(to_alice.log.last().unwrap().clone());

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("device.db");
    let store = || delta_core::store::Store::open(&path, Default::default()).unwrap();
    let mut bob = Device::new(2, store(), &ticket);
    bob.join(&to_bob);
    let (_, outputs) = bob.catch_up(&to_bob);
    let [equivocation] = found(&outputs).try_into().unwrap();
    let generation = to_bob.generation;
    let own = ObservedHead { generation, seq: Seq(3), chain: to_bob.chain(3) };
    let other = ObservedHead { generation, seq: Seq(3), chain: to_alice.chain(3) };
    assert_eq!((equivocation.own, equivocation.other), (own, other));
    assert_eq!(equivocation.author, alice.engine.author());

    // It is durable, and said once.
    drop(bob);
    let mut bob = Device::new(2, store(), &ticket);
    bob.join(&to_bob);
    let (_, outputs) = bob.catch_up(&to_bob);
    assert_eq!(found(&outputs), []);
    assert_eq!(bob.standing().equivocations, [equivocation]);
}

#[test]
fn a_device_says_each_verified_head_once_and_nothing_of_an_empty_log() {
    let ticket = ticket();
    let (mut world, mut writer) = world(&ticket, 9, 0);
    let mut alice = Device::ready(1, &ticket, &world);
    let said = |alice: &Device| -> Vec<Option<ObservedHead>> {
        let reader = alice.engine.reader().unwrap();
        let author = alice.engine.author();
        let entries = reader.log_entries(&author, &ticket.log(), 0, u32::MAX, 100).unwrap();
        entries.iter().map(|entry| Body::decode(entry.body.as_ref().unwrap()).unwrap().observed).collect()
    };
    let (conn, _) = alice.catch_up(&world);
    let publish = |alice: &mut Device| {
        let command = alice.say("x");
        alice.command(command).unwrap();
    };
    publish(&mut alice);
    assert_eq!(said(&alice), [None]);
    world.log.push(writer.say("one"));
    alice.frame(conn, &world.ops(0)[0]);
    publish(&mut alice);
    assert_eq!(said(&alice), [None, None], "not before the server signed it");
    let delta_core::sync::frame::Frame::Ready(head) = world.ready() else { unreachable!() };
    for _ in 0..2 {
        alice.frame(conn, &delta_core::sync::frame::Frame::Head(head));
        publish(&mut alice);
    }
    let head = ObservedHead { generation: world.generation, seq: Seq(1), chain: world.chain(1) };
    assert_eq!(said(&alice), [None, None, Some(head), None]);
}

#[test]
fn true_and_uncheckable_heads_are_no_contradiction() {
    let ticket = ticket();
    let (mut world, mut writer) = world(&ticket, 9, 4);
    for seq in [1, 2, 4] {
        let body = claim(&world, seq, world.chain(seq as usize));
        world.log.push(writer.write(body));
    }
    // Of a generation this device never saw: from before a wipe, or never was.
    let mut foreign = claim(&world, 2, Chain([1; 32]));
    foreign.observed.as_mut().unwrap().generation = Generation([9; 16]);
    world.log.push(writer.write(foreign));
    let mut alice = Device::ready(1, &ticket, &world);
    let (_, outputs) = alice.catch_up(&world);
    assert_eq!(found(&outputs), []);
    assert_eq!(alice.standing().equivocations, []);
}

#[test]
fn a_head_at_or_behind_its_own_operation_contradicts_it() {
    for seq in [3, 4, 1 << 40] {
        let ticket = ticket();
        let (mut world, mut writer) = world(&ticket, 9, 2);
        let body = claim(&world, seq, Chain([1; 32]));
        world.log.push(writer.write(body));
        world.log.push(writer.say("after"));
        let mut alice = Device::ready(1, &ticket, &world);
        let (_, outputs) = alice.catch_up(&world);
        let [equivocation] = found(&outputs).try_into().unwrap();
        assert_eq!((equivocation.own.seq, equivocation.own.chain), (Seq(3), world.chain(3)), "{seq}");
    }
}

#[test]
fn what_an_older_copy_of_the_log_held_is_no_contradiction() {
    let ticket = ticket();
    let (old, _) = world(&ticket, 8, 3);
    let (mut new, mut writer) = world(&ticket, 9, 3);
    let mut alice = Device::ready(1, &ticket, &old);
    let (conn, _) = alice.catch_up(&old);
    // The server was put back to an older state, went on, and holds an operation from before.
    let body = claim(&old, 3, old.chain(3));
    new.log.push(writer.write(body));
    alice.handle(vec![delta_core::engine::Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
    let (conn, _) = alice.connection();
    alice.handle(vec![delta_core::engine::Input::Connected { conn }]).unwrap();
    let reset = delta_core::sync::frame::Frame::Reset { generation: new.generation, head: Seq(4) };
    let mut outputs = Vec::new();
    for frame in [new.hello(), reset].into_iter().chain(new.ops(0)).chain([new.ready()]) {
        outputs.extend(alice.frame(conn, &frame));
    }
    assert_eq!(found(&outputs), []);
    // A device that never saw the older copy cannot tell it from a second history.
    let mut bob = Device::ready(2, &ticket, &new);
    assert_eq!(found(&bob.catch_up(&new).1).len(), 1);
}

#[test]
fn so_many_contradictions_are_kept_and_no_more() {
    let ticket = ticket();
    let (mut world, mut writer) = world(&ticket, 9, 1);
    for number in 0..=MAX_EQUIVOCATIONS as u8 {
        let body = claim(&world, 1, Chain([number; 32]));
        world.log.push(writer.write(body));
    }
    let mut alice = Device::ready(1, &ticket, &world);
    let (_, outputs) = alice.catch_up(&world);
    assert_eq!(found(&outputs).len(), MAX_EQUIVOCATIONS);
    assert_eq!(alice.standing().equivocations.len(), MAX_EQUIVOCATIONS);
}
