//! Reading through tunnels: which relay, and what happens when it fails.

use std::sync::Arc;

use delta_core::engine::{Command, DirectReading, Input, Network, Output, ReadPath, Reply, Seal};
use delta_core::identity::NodeId;
use delta_core::onion::directory::{Directory, Node};
use delta_core::onion::route::TUNNEL_PAUSE_MIN_MS;
use delta_core::store::{PendingLimits, Store, StoreOptions};

use crate::support::{Device, World, Writer, original, posts, ticket};

fn device(world: &World, network: Network) -> Device {
    let ticket = ticket();
    assert_eq!(ticket.topic(), world.topic);
    let mut device = Device::new(1, Store::in_memory().unwrap(), &ticket);
    device.join_network(network);
    device
}

fn world() -> World {
    World::new(ticket().topic())
}

#[test]
fn a_topic_is_read_through_a_relay_and_status_says_so() {
    let world = world();
    let mut device = device(&world, world.tunnel_network(2));
    device.catch_up(&world);
    let relay = device.via.expect("relays offer tunnels");
    assert_eq!(device.status().read_path, Some(ReadPath::Tunnel { relay, seal: Seal::Tls }));
    let topic = world.topic;
    let Ok(Reply::Tunnel(Some(tunnel))) = device.command(Command::Tunnel { topic }) else { panic!() };
    assert_eq!(tunnel.relay, relay, "other questions about the topic go the same way");
    assert!(tunnel.url.ends_with(&format!("/tunnel?to={}", world.network(3).server.id)), "{}", tunnel.url);
    // A server without a certificate, in a network for tests: its identity does what a certificate would.
    let mut plain = world.tunnel_network(2);
    plain.server.url = "http://127.0.0.1:1".to_owned();
    device.command(Command::Configure(plain)).unwrap();
    assert_eq!(device.status().read_path, Some(ReadPath::Tunnel { relay, seal: Seal::Noise }));
}

/// Before a server is configured it has to be asked who it is: not directly where relays offer tunnels.
#[test]
fn a_server_that_is_not_configured_yet_is_asked_through_tunnels() {
    let world = world();
    let network = world.tunnel_network(2);
    let (directory, server) = (network.directory.clone(), network.server.id);
    let mut device = Device::new(1, Store::in_memory().unwrap(), &ticket());
    let ask = |device: &mut Device, directory: &Arc<Directory>| {
        let command = Command::TunnelsTo { directory: Arc::clone(directory), server };
        match device.command(command) {
            Ok(Reply::Tunnels(tunnels)) => tunnels,
            other => panic!("{other:?}"),
        }
    };
    let tunnels = ask(&mut device, &directory);
    assert_eq!(tunnels.len(), directory.relays().count());
    for tunnel in &tunnels {
        let relay = directory.node(&tunnel.relay).unwrap();
        assert_eq!(*tunnel.url, *format!("{}/tunnel?to={server}", relay.url));
        assert_eq!(tunnel.server, server);
    }
    assert_eq!(ask(&mut device, &directory), tunnels, "always the same one first");
    // Where nobody offers any there is none.
    let none = world.network(3).directory.clone();
    assert_eq!(ask(&mut device, &none), []);
}

#[test]
fn reading_is_direct_only_when_it_is_switched_off_or_nobody_offers_tunnels() {
    let world = world();
    let direct = |why| Some(ReadPath::Direct(why));
    let mut offline = Device::new(1, Store::in_memory().unwrap(), &ticket());
    offline.command(Command::OpenTopic { ticket: ticket() }).unwrap();
    assert_eq!(offline.status().read_path, None);
    let mut device = device(&world, world.network(3));
    device.catch_up(&world);
    assert_eq!((device.via, device.status().read_path), (None, direct(DirectReading::NotOffered)));
    let off = Network { hide_reading: false, ..world.tunnel_network(2) };
    device.command(Command::Configure(off)).unwrap();
    assert_eq!((device.via, device.status().read_path), (None, direct(DirectReading::SwitchedOff)));
    // Switched on, the connection is replaced.
    device.connect = None;
    device.command(Command::Configure(world.tunnel_network(2))).unwrap();
    device.catch_up(&world);
    assert!(device.via.is_some());
}

#[test]
fn the_relay_that_carries_a_topic_is_no_entry_guard_while_there_are_others() {
    for seed in 1..=20 {
        let mut world = world();
        let mut device = Device::new(seed, Store::in_memory().unwrap(), &ticket());
        // Three relays: two are guards, drawn before the topic's relay although nothing was sent yet.
        device.join_network(world.tunnel_network(0));
        device.catch_up(&world);
        let carrier = device.via.unwrap();
        for number in 0..10 {
            let command = device.say(&number.to_string());
            let input = device.input(command);
            let outputs = device.handle(vec![input]).unwrap();
            for job in posts(outputs) {
                assert_ne!(job.entry, carrier, "seed {seed}");
                world.carry(&job);
            }
        }
    }
}

#[test]
fn where_version_2_is_sent_its_guards_carry_no_topic_either() {
    for seed in 1..=20 {
        let world = world();
        let mut device = Device::new(seed, Store::in_memory().unwrap(), &ticket());
        device.join_network(original(world.tunnel_network(0), true));
        device.catch_up(&world);
        let carrier = device.via.unwrap();
        for number in 0..5 {
            let command = device.say(&number.to_string());
            let input = device.input(command);
            let jobs = posts(device.handle(vec![input]).unwrap());
            assert_eq!(jobs.len(), 1);
            assert_ne!(jobs[0].entry, carrier, "seed {seed}");
        }
    }
}

#[test]
fn a_tunnel_that_fails_gives_way_to_another_relay_at_once() {
    let world = world();
    let mut device = device(&world, world.tunnel_network(1));
    let (conn, _) = device.connection();
    let first = device.via.unwrap();
    device.handle(vec![Input::TunnelFailed { conn, retry_after_ms: 7_000 }]).unwrap();
    let began = device.now;
    let (_, _) = device.connection();
    let second = device.via.unwrap();
    assert_ne!(second, first);
    assert_eq!(device.now, began, "the relay asked for a pause, the other one did not");
}

#[test]
fn however_badly_tunnels_do_nothing_is_read_directly() {
    let world = world();
    let mut device = device(&world, world.tunnel_network(1));
    let mut used = Vec::<NodeId>::new();
    for _ in 0..40 {
        let (conn, _) = device.connection();
        used.push(device.via.expect("never directly"));
        device.handle(vec![Input::TunnelFailed { conn, retry_after_ms: 0 }]).unwrap();
    }
    used.sort();
    used.dedup();
    assert_eq!(used.len(), 4, "every relay is tried");
    // One alone is given the time it asks for.
    let one = |network: Network| {
        let relay: Vec<Node> = network.directory.relays().take(1).cloned().collect();
        Network { directory: Directory::from_nodes(1, u64::MAX, relay).into(), ..network }
    };
    device.command(Command::Configure(one(world.tunnel_network(0)))).unwrap();
    let (conn, _) = device.connection();
    let began = device.now;
    device.handle(vec![Input::TunnelFailed { conn, retry_after_ms: 70_000 }]).unwrap();
    device.connection();
    assert!(device.now.since(began) >= 70_000);
}

#[test]
fn what_the_server_ends_is_no_fault_of_the_relay() {
    let world = world();
    let mut device = device(&world, world.tunnel_network(2));
    let (conn, _) = device.catch_up(&world);
    let first = device.via;
    device.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
    device.connection();
    assert_eq!(device.via, first);
}

#[test]
fn a_relay_that_stays_silent_is_left_for_another() {
    let world = world();
    let mut device = device(&world, world.tunnel_network(2));
    let (conn, _) = device.connection();
    let first = device.via;
    device.handle(vec![Input::Connected { conn }]).unwrap();
    device.connection();
    assert_ne!(device.via, first);
    // After its pause it is first in line again.
    let (conn, _) = device.catch_up(&world);
    device.now = device.now.plus(TUNNEL_PAUSE_MIN_MS);
    device.handle(vec![Input::Disconnected { conn, retry_after_ms: 0 }]).unwrap();
    device.connection();
    assert_eq!(device.via, first);
}

#[test]
fn pages_of_history_come_through_a_tunnel_too_and_by_another_relay_when_it_fails() {
    let mut world = world();
    let mut writer = Writer::new([9; 32], &ticket());
    world.log = (0..8).map(|number| writer.say(&number.to_string())).collect();
    world.log.reverse();
    let pending = PendingLimits { per_author: 2, ..PendingLimits::default() };
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { sync: false, pending, ..StoreOptions::default() };
    let store = Store::open(dir.path().join("device.db"), options).unwrap();
    let mut device = Device::new(1, store, &ticket());
    device.join_network(world.tunnel_network(2));
    device.catch_up(&world);
    let (conn, _) = device.fetch.take().expect("there is something to read again");
    let first = device.fetch_via.unwrap();
    assert_eq!(Some(first), device.via, "asking says no more than subscribing");
    device.handle(vec![Input::TunnelFailed { conn, retry_after_ms: 0 }]).unwrap();
    while device.fetch.is_none() {
        device.wake();
    }
    assert!(device.fetch_via.is_some_and(|relay| relay != first));
    device.read_again(&world);
    assert_eq!(device.texts().len(), 8);
}

#[test]
fn what_was_read_directly_goes_through_a_tunnel_as_soon_as_one_is_offered() {
    let world = world();
    let mut device = device(&world, world.network(3));
    let (direct, _) = device.catch_up(&world);
    assert_eq!(device.via, None, "nobody offers tunnels");
    let input = device.input(Command::Configure(world.tunnel_network(2)));
    let outputs = device.handle(vec![input]).unwrap();
    let closed = |output: &Output| matches!(output, Output::Disconnect { conn } if *conn == direct);
    assert!(outputs.iter().any(closed));
    let (tunnelled, _) = device.catch_up(&world);
    assert!(device.via.is_some());
    // The same records once more change nothing.
    let input = device.input(Command::Configure(world.tunnel_network(2)));
    let outputs = device.handle(vec![input]).unwrap();
    assert!(!outputs.iter().any(|output| matches!(output, Output::Disconnect { .. })), "{tunnelled:?}");
}
