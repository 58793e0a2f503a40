//! Cover, delays and the original packets: what an app asks for is what leaves.

use std::sync::Arc;

use delta_core::engine::{
    Blocked, Command, CommandError, Handover, Input, Network, PostJob, ROUTE_DELAY_MAX_MS, Sending,
    SendingError,
};
use delta_core::onion::directory::{Directory, Node};
use delta_core::onion::v2::{self, Peeled as PeeledV2};
use delta_core::onion::v3::{self, Peeled};
use delta_core::onion::{IdentitySecret, PacketClass};
use delta_core::store::Store;

use crate::support::{Device, World, original, posts, ticket};

fn network(world: &World, sending: Sending) -> Network {
    Network { sending, ..world.network(3) }
}

fn on(world: &World, sending: Sending) -> Device {
    let mut device = Device::new(1, Store::in_memory().unwrap(), &ticket());
    device.join(world);
    device.command(Command::Configure(network(world, sending))).unwrap();
    device
}

/// The delays a packet asks its relays for, milliseconds, and what it ends in.
fn peel(world: &World, job: &PostJob) -> (Vec<u128>, Peeled, usize) {
    let mut packet = job.wrap().unwrap();
    let len = packet.len();
    let mut delays = Vec::new();
    loop {
        match v3::open(&world.secrets, packet).unwrap().parse().unwrap() {
            Peeled::Forward { packet: next, delay, .. } => {
                delays.push(delay.as_millis());
                packet = next;
            }
            end => return (delays, end, len),
        }
    }
}

#[test]
fn settings_out_of_bounds_are_refused_and_the_old_ones_stay() {
    let world = World::new(ticket().topic());
    let mut alice = on(&world, Sending::default());
    let cover = Sending { cover_every_ms: Some(10), ..Sending::default() };
    let refused = alice.command(Command::Configure(network(&world, cover)));
    assert!(matches!(refused, Err(CommandError::Sending(SendingError::Cover(10)))));
    let delay = Sending { relay_delay_ms: Some(1 << 40), ..Sending::default() };
    let refused = alice.command(Command::Configure(network(&world, delay)));
    assert!(matches!(refused, Err(CommandError::Sending(SendingError::RelayDelay(_)))));
    let command = alice.say("still there");
    let input = alice.input(command);
    assert_eq!(posts(alice.handle(vec![input]).unwrap()).len(), 1);
}

#[test]
fn cover_looks_like_a_small_packet_over_a_whole_route_and_ends_at_the_server() {
    let world = World::new(ticket().topic());
    let mut plain = on(&world, Sending::default());
    let mut alice = on(&world, Sending { cover_every_ms: Some(30_000), ..Sending::default() });
    let start = alice.now;
    let mut sent = 0;
    while sent < 200 {
        for job in posts(alice.wake()) {
            let (delays, end, len) = peel(&world, &job);
            assert_eq!((delays.len(), end, len), (3, Peeled::Drop, PacketClass::C0.size()));
            assert_eq!(job.operations(), 0);
            alice.handle(vec![Input::Posted { attempt: job.attempt, handover: Handover::Taken }]).unwrap();
            sent += 1;
        }
    }
    let mean = alice.now.since(start) / sent;
    assert!((22_000..40_000).contains(&mean), "{mean}");
    assert_eq!((alice.status().sent, alice.status().queued), (0, 0));
    // Without the option nothing leaves by itself.
    plain.now = alice.now;
    assert!(posts(plain.handle(vec![Input::Timeout]).unwrap()).is_empty());
}

#[test]
fn cover_does_not_hold_up_what_is_real_when_no_relay_answers() {
    let world = World::new(ticket().topic());
    let mut alice = on(&world, Sending { cover_every_ms: Some(1_000), ..Sending::default() });
    let mut jobs = Vec::new();
    for _ in 0..2_000 {
        jobs.extend(posts(alice.wake()));
    }
    assert!(jobs.len() <= delta_core::engine::MAX_HANDOVERS, "{}", jobs.len());
    for job in jobs {
        alice.handle(vec![Input::Posted { attempt: job.attempt, handover: Handover::Failed }]).unwrap();
    }
    let command = alice.say("real");
    let input = alice.input(command);
    let jobs = posts(alice.handle(vec![input]).unwrap());
    assert!(jobs.iter().any(|job| job.operations() == 1));
}

#[test]
fn in_private_mode_every_relay_is_asked_to_wait_and_the_echo_is_waited_for() {
    let mut world = World::new(ticket().topic());
    let mut alice = on(&world, Sending { relay_delay_ms: Some(15_000), ..Sending::default() });
    alice.catch_up(&world);
    let (mut longest, mut waits) = (0, 0);
    for number in 0..40 {
        let command = alice.say(&number.to_string());
        let input = alice.input(command);
        let jobs = posts(alice.handle(vec![input]).unwrap());
        let [job] = &jobs[..] else { panic!("one packet") };
        let (delays, end, _) = peel(&world, job);
        assert!(matches!(end, Peeled::Deliver { .. }));
        let sum = u64::try_from(delays.iter().sum::<u128>()).unwrap();
        assert!(sum <= ROUTE_DELAY_MAX_MS);
        (longest, waits) = (longest.max(sum), waits + usize::from(sum > 0));
        alice.handle(vec![Input::Posted { attempt: job.attempt, handover: Handover::Taken }]).unwrap();
        // Just before it arrives nothing was sent again.
        alice.now = alice.now.plus(sum);
        assert!(posts(alice.handle(vec![Input::Timeout]).unwrap()).is_empty(), "{sum}");
        let known = world.log.len();
        world.carry(job);
        let conn = alice.conn.unwrap();
        for frame in world.ops(known) {
            alice.frame(conn, &frame);
        }
        assert_eq!(alice.status().sent, 0);
    }
    assert!(waits > 35 && longest > 30_000, "{waits} {longest}");
    assert!(alice.status().round_trip_ms.unwrap() < 1_000, "the delays are no part of it");
}

#[test]
fn to_a_server_of_version_2_nothing_goes_unless_the_app_agrees() {
    let world = World::new(ticket().topic());
    let mut alice = on(&world, Sending::default());
    alice.command(Command::Configure(original(world.network(3), false))).unwrap();
    let command = alice.say("waits");
    let input = alice.input(command);
    assert!(posts(alice.handle(vec![input]).unwrap()).is_empty());
    assert_eq!(alice.status().blocked, Some(Blocked::Version2));
    let input = alice.input(Command::Configure(original(world.network(3), true)));
    assert_eq!(posts(alice.handle(vec![input]).unwrap()).len(), 1);
    assert_eq!(alice.status().blocked, None);
}

#[test]
fn version_2_packets_hold_one_operation_and_lead_through_every_relay_to_the_topic() {
    let world = World::new(ticket().topic());
    let mut alice = on(&world, Sending::default());
    alice.command(Command::Configure(original(world.network(3), true))).unwrap();
    let says = ["one", "two", "three"].map(|text| alice.say(text)).map(|command| alice.input(command));
    let jobs = posts(alice.handle(says.into()).unwrap());
    assert_eq!(jobs.iter().map(PostJob::operations).collect::<Vec<_>>(), [1, 1, 1]);
    for job in &jobs {
        let mut packet = job.wrap().unwrap();
        let mut url = job.url.clone();
        let mut relays = 0;
        loop {
            relays += 1;
            // The relays' seeds, as the world makes them.
            let seed = (50..53).find(|seed| {
                let index = seed - 50;
                url == format!("https://node{index}.example/hop")
            });
            let secret = IdentitySecret::from_seed(&[seed.expect("a relay's own URL"); 32]);
            match v2::open(&secret, packet).unwrap().parse().unwrap() {
                PeeledV2::Forward { url: next, packet: inner } => (url, packet) = (next, inner),
                PeeledV2::Deliver { topic, op } => {
                    assert_eq!(topic, ticket().topic());
                    assert!(ticket().keys().open(&op).is_ok());
                    break;
                }
            }
        }
        assert_eq!(relays, 3);
    }
    let signal = Command::Signal { topic: ticket().topic(), bytes: b"typing".as_slice().into() };
    assert!(matches!(alice.command(signal), Err(CommandError::NotSent(Blocked::NotInVersion2))));
    // One that a node behind the entry did not take goes again, over another route, in a packet of its own.
    let job = &jobs[0];
    alice.catch_up(&world);
    let undelivered = Input::Posted { attempt: job.attempt, handover: Handover::Undelivered };
    let mut again = posts(alice.handle(vec![undelivered]).unwrap());
    while again.is_empty() {
        again = posts(alice.wake());
    }
    assert_eq!(again.iter().map(PostJob::operations).collect::<Vec<_>>(), [1]);
    let reader = alice.engine.reader().unwrap();
    assert_eq!(reader.outbox_counts(ticket().topic()).unwrap().sent, 3);
}

#[test]
fn a_route_never_mixes_versions_and_says_so() {
    let world = World::new(ticket().topic());
    let full = world.network(3);
    let mixed: Vec<Node> = full.directory.nodes().to_vec();
    let [a, b, c] = <[Node; 3]>::try_from(mixed).unwrap();
    let plain = |node: &Node| Node { keys: Vec::new(), ..node.clone() };
    for (server, relays, have) in [
        (full.server.clone(), [a.clone(), b.clone(), plain(&c)], 2),
        (full.server.clone(), [plain(&a), plain(&b), plain(&c)], 0),
        (plain(&full.server), [a.clone(), b.clone(), plain(&c)], 1),
        (plain(&full.server), [a.clone(), b.clone(), c.clone()], 0),
    ] {
        let mut alice = on(&world, Sending::default());
        let directory = Arc::new(Directory::from_nodes(1, u64::MAX, relays));
        let sending = Sending { accept_v2: true, ..Sending::default() };
        let network = Network { directory, server, sending, ..world.network(3) };
        alice.command(Command::Configure(network)).unwrap();
        let command = alice.say("waits");
        let input = alice.input(command);
        assert!(posts(alice.handle(vec![input]).unwrap()).is_empty());
        assert_eq!(alice.status().blocked, Some(Blocked::MixedVersions { have, need: 3 }));
    }
}
