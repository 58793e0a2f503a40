//! What is sent and stored nowhere.

use bytes::Bytes;
use delta_core::engine::{
    Command, CommandError, Event, Handover, Input, Output, PostJob, Reply, SIGNAL_EVERY_MS,
};
use delta_core::entropy::SeededEntropy;
use delta_core::identity::Millis;
use delta_core::limits::MAX_SIGNAL_BODY;
use delta_core::onion::control::{Action, Metadata};
use delta_core::onion::deliver::{self, Delivery};
use delta_core::onion::v3::{self, Peeled};
use delta_core::ops::{DeviceKey, Signal, Ticket};
use delta_core::sync::frame::Frame;
use delta_core::sync::proof::{Purpose, ReadKey};

use crate::support::{Device, World, posts, ticket};

/// What a packet delivers.
fn delivered(world: &World, job: &PostJob) -> Vec<u8> {
    let mut packet = job.wrap().unwrap();
    for _ in 0..3 {
        match v3::open(&world.secrets, packet).unwrap().parse().unwrap() {
            Peeled::Forward { packet: next, .. } => packet = next,
            other => panic!("{other:?}"),
        }
    }
    match v3::open(&world.secrets, packet).unwrap().parse().unwrap() {
        Peeled::Deliver { content } => content.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn signal(device: &mut Device, bytes: &[u8]) -> (Result<Reply, CommandError>, Vec<PostJob>) {
    let topic = device.ticket.topic();
    let input = device.input(Command::Signal { topic, bytes: Bytes::copy_from_slice(bytes) });
    let mut outputs = device.handle(vec![input]).unwrap();
    let at = outputs.iter().position(|output| matches!(output, Output::Reply { .. })).unwrap();
    let Output::Reply { result, .. } = outputs.remove(at) else { unreachable!() };
    (result, posts(outputs))
}

fn heard(outputs: &[Output]) -> Vec<(Millis, Bytes)> {
    let heard = |output: &Output| match output {
        Output::Event(Event::Signal { signal, .. }) => Some((signal.sent_at, signal.bytes.clone())),
        _ => None,
    };
    outputs.iter().filter_map(heard).collect()
}

#[test]
fn of_the_signals_that_come_too_soon_the_latest_goes_when_it_may() {
    let ticket = ticket();
    let world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    alice.catch_up(&world);
    let (reply, jobs) = signal(&mut alice, b"first");
    assert!(matches!(reply, Ok(Reply::Done)));
    let content = delivered(&world, &jobs[0]);
    let Delivery { flags, payload, .. } = deliver::verify(&content).unwrap();
    assert_eq!(flags, deliver::FLAG_SIGNAL);
    assert_eq!(Signal::open(&ticket.keys(), payload).unwrap().bytes, &b"first"[..]);
    let sent = alice.now;
    for text in [b"second", b"third!"] {
        alice.now = alice.now.plus(SIGNAL_EVERY_MS / 2 - 1);
        assert!(signal(&mut alice, text).1.is_empty());
    }
    let jobs = posts(alice.wake());
    assert_eq!(alice.now, sent.plus(SIGNAL_EVERY_MS));
    let content = delivered(&world, &jobs[0]);
    let opened = Signal::open(&ticket.keys(), deliver::verify(&content).unwrap().payload).unwrap();
    assert_eq!((opened.bytes, opened.sent_at), (Bytes::from_static(b"third!"), alice.now));
    // Whether it left is said; a signal is not sent again.
    let [job] = jobs.try_into().unwrap();
    let outputs =
        alice.handle(vec![Input::Posted { attempt: job.attempt, handover: Handover::Failed }]).unwrap();
    assert!(
        outputs.iter().any(|output| matches!(output, Output::Event(Event::SignalSent { taken: false, .. })))
    );
    alice.now = alice.now.plus(60_000);
    assert_eq!(posts(alice.handle(vec![Input::Timeout]).unwrap()).len(), 0);
}

#[test]
fn signals_within_their_limits_on_writable_topics_with_a_network_are_sent_and_no_others() {
    let ticket = ticket();
    let world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    assert!(matches!(signal(&mut alice, &[1; MAX_SIGNAL_BODY]).0, Ok(Reply::Done)));
    for len in [0, MAX_SIGNAL_BODY + 1] {
        assert!(matches!(signal(&mut alice, &vec![1; len]).0, Err(CommandError::Signal(_))));
    }
    let mut reader = Device::ready(2, &ticket.read_only(), &world);
    assert!(matches!(signal(&mut reader, b"x").0, Err(CommandError::ReadOnly)));
    let mut alone = Device::new(3, delta_core::store::Store::in_memory().unwrap(), &ticket);
    alone.command(Command::OpenTopic { ticket: ticket.clone() }).unwrap();
    assert!(matches!(signal(&mut alone, b"x").0, Err(CommandError::NotSent(_))));
}

#[test]
fn a_signal_is_heard_once_from_others_and_changes_nothing_that_is_stored() {
    let ticket = ticket();
    let world = World::new(ticket.topic());
    let mut bob = Device::ready(2, &ticket, &world);
    let (conn, _) = bob.catch_up(&world);
    let say = |seed: u8, at: u64, text: &[u8]| {
        let key = DeviceKey::from_bytes(&[seed; 32]);
        Frame::Signal(Signal::seal(&key, &ticket.keys(), Millis(at), text).unwrap().into())
    };
    let before = bob.status().cursor;
    assert_eq!(heard(&bob.frame(conn, &say(1, 10, b"here"))), [(Millis(10), Bytes::from_static(b"here"))]);
    assert_eq!(heard(&bob.frame(conn, &say(1, 10, b"here"))), [], "a replay");
    assert_eq!(heard(&bob.frame(conn, &say(1, 9, b"older"))), []);
    assert_eq!(heard(&bob.frame(conn, &say(1, 11, b"newer"))).len(), 1);
    assert_eq!(heard(&bob.frame(conn, &say(3, 1, b"somebody else"))).len(), 1);
    assert_eq!(heard(&bob.frame(conn, &say(2, 99, b"its own"))), []);
    assert_eq!(bob.status().cursor, before);
    // What does not open is counted.
    bob.frame(conn, &Frame::Signal(Bytes::from_static(b"nothing")));
    assert_eq!(bob.standing().dropped, [("signal".to_owned(), 1)]);
}

#[test]
fn control_messages_rise_by_counter_and_go_to_public_topics_only() {
    let public = Ticket::generate_public(&mut SeededEntropy::new([3; 32])).unwrap();
    let world = World::new(public.topic());
    let mut alice = Device::ready(1, &public, &world);
    let topic = public.topic();
    let action = Action::Metadata(Metadata { name: "News".into(), description: None });
    let mut counters = Vec::new();
    for _ in 0..2 {
        let input = alice.input(Command::Control { topic, action: action.clone() });
        let jobs = posts(alice.handle(vec![input]).unwrap());
        let content = delivered(&world, &jobs[0]);
        let control = deliver::verify(&content).unwrap().control().unwrap();
        assert_eq!(control.action, action);
        counters.push(control.counter);
    }
    assert_eq!(counters, [alice.now.0, alice.now.0 + 1]);
    let private = ticket();
    let mut bob = Device::ready(2, &private, &world);
    let refused = bob.command(Command::Control { topic: private.topic(), action: Action::Delete });
    assert!(matches!(refused, Err(CommandError::NotPublic)));
    let long = Action::Metadata(Metadata { name: "x".repeat(65), description: None });
    assert!(matches!(alice.command(Command::Control { topic, action: long }), Err(CommandError::Control(_))));
}

#[test]
fn keys_are_proven_to_the_configured_server_and_stay_here() {
    let ticket = ticket();
    let world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    let (topic, nonce) = (ticket.topic(), [5; 32]);
    let prove = |alice: &mut Device, purpose| alice.command(Command::Prove { topic, purpose, nonce });
    assert!(matches!(prove(&mut alice, Purpose::Read), Err(CommandError::NoKey)));
    let read = ReadKey::from_seed([9; 32]);
    alice.command(Command::SetReadKey { topic, key: Some(read.clone()) }).unwrap();
    let server = world.network(3).server.id;
    for (purpose, expected) in
        [(Purpose::Read, read.verifying_key()), (Purpose::Count, ticket.keys().write_verifying_key().0)]
    {
        let Reply::Proof { key, proof } = prove(&mut alice, purpose).unwrap() else { panic!() };
        assert_eq!(key, expected);
        assert!(purpose.verify(&key, &server, &topic, &nonce, &proof));
    }
    assert_eq!(format!("{read:?}"), "ReadKey(..)");
    alice.command(Command::SetReadKey { topic, key: None }).unwrap();
    assert!(matches!(prove(&mut alice, Purpose::Read), Err(CommandError::NoKey)));
}
