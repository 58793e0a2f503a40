//! What a phone does to a device: no network for hours, a clock that is wrong.

use delta_core::engine::{Command, Event, Handover, Input, MAX_CLOCK_SKEW_MS, Output};
use delta_core::identity::Millis;
use delta_core::sync::frame::Frame;

use crate::support::{Device, World, posts, ticket};

#[test]
fn airplane_mode_ends_in_the_batch_that_hears_of_it_however_long_the_pauses_were() {
    let ticket = ticket();
    let world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    let (mut conn, _) = alice.catch_up(&world);
    // In the air: every connection fails, and the pauses grow.
    for _ in 0..12 {
        alice.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
        conn = alice.connection().0;
    }
    alice.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
    let said = alice.say("in the air");
    let input = alice.input(said);
    let mut jobs = posts(alice.handle(vec![input]).unwrap());
    for _ in 0..8 {
        let attempts: Vec<_> = jobs.iter().map(|job| job.attempt).collect();
        let unreached = |attempt| Input::Posted { attempt, handover: Handover::Unreached };
        alice.handle(attempts.into_iter().map(unreached).collect()).unwrap();
        jobs = posts(alice.wake());
    }
    let attempts =
        jobs.iter().map(|job| Input::Posted { attempt: job.attempt, handover: Handover::Unreached });
    alice.handle(attempts.collect()).unwrap();
    alice.connect = None;

    // The listener is back. Nothing is waited for: both the connection and the packet leave now.
    let outputs = alice.handle(vec![Input::NetworkChanged]).unwrap();
    let connects = outputs.iter().filter(|output| matches!(output, Output::Connect { .. })).count();
    assert_eq!(connects, 1);
    assert_eq!(posts(outputs).len(), 1);
}

#[test]
fn a_clock_that_is_wrong_is_told_once_and_in_the_status() {
    let ticket = ticket();
    let world = World::new(ticket.topic());
    let mut alice = Device::ready(1, &ticket, &world);
    let told = |outputs: Vec<Output>| {
        let skew = |output| match output {
            Output::Event(Event::ClockSkew { skew, .. }) => Some(skew.map(|skew| skew.ahead_ms)),
            _ => None,
        };
        outputs.into_iter().find_map(skew)
    };
    let hear = |alice: &mut Device, server_time: Millis| {
        let (conn, _) = alice.connection();
        alice.handle(vec![Input::Connected { conn }]).unwrap();
        let Frame::Hello { generation, head, tail, max_op, .. } = world.hello() else { panic!() };
        let hello = Frame::Hello { generation, head, tail, server_time, max_op };
        let outputs = alice.frame(conn, &hello);
        alice.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
        told(outputs)
    };
    let behind = |alice: &Device| alice.now.plus(MAX_CLOCK_SKEW_MS * 6);
    let server = behind(&alice);
    let first = hear(&mut alice, server).expect("told").expect("a skew");
    assert!(first <= -(MAX_CLOCK_SKEW_MS as i64 * 5), "{first}");
    let server = behind(&alice);
    assert_eq!(hear(&mut alice, server), None, "not again");
    assert!(alice.status().clock_skew.is_some());
    let server = alice.now.plus(1);
    assert_eq!(hear(&mut alice, server), Some(None));
    assert_eq!(alice.status().clock_skew, None);
    let topic = ticket.topic();
    alice.command(Command::Unsubscribe { topic }).unwrap();
}
