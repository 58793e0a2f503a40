//! Records are renewed by themselves, and stale ones are not used.

use delta_core::engine::{
    Blocked, Command, Event, Input, Network, Output, RENEW_MAX_MS, RENEW_MIN_MS, Renewed, STALE_AFTER_MS,
    Sending,
};
use delta_core::identity::Millis;
use delta_core::store::{Store, StoreOptions};

use crate::support::{Device, World, original, posts, ticket};

/// The world's network with records collected then.
fn collected(world: &World, at: Millis) -> Network {
    let mut network = world.network(3);
    network.sending = Sending { records_as_of: Some(at), ..Sending::default() };
    network
}

fn renewal(outputs: &[Output]) -> Option<Vec<String>> {
    outputs.iter().find_map(|output| match output {
        Output::RenewRecords { sources } => Some(sources.clone()),
        _ => None,
    })
}

/// Lets the time run until records are asked for.
fn until_renewal(device: &mut Device) -> Vec<String> {
    loop {
        let outputs = device.wake();
        if let Some(sources) = renewal(&outputs) {
            return sources;
        }
    }
}

#[test]
fn records_are_renewed_daily_from_the_guards() {
    let world = World::new(ticket().topic());
    let mut alice = Device::new(1, Store::in_memory().unwrap(), &ticket());
    alice.join(&world);
    let start = alice.now;
    alice.command(Command::Configure(collected(&world, start))).unwrap();
    let sources = until_renewal(&mut alice);
    assert!((RENEW_MIN_MS..=RENEW_MAX_MS).contains(&alice.now.since(start)));
    assert!((1..=2).contains(&sources.len()), "a guard and its spare: {sources:?}");
    assert!(sources.iter().all(|url| url.starts_with("https://node") && url.ends_with(".example/records")));
    // A day later the same ones: nobody else learns this device's address.
    let renewed = alice.now;
    let input = alice.input(Command::Configure(collected(&world, renewed)));
    alice.handle(vec![input, Input::RecordsRenewed { ok: true }]).unwrap();
    assert_eq!(until_renewal(&mut alice), sources);
    assert!(alice.now.since(renewed) >= RENEW_MIN_MS);
}

#[test]
fn where_version_2_is_sent_records_are_renewed_from_its_guards() {
    let world = World::new(ticket().topic());
    let mut alice = Device::new(1, Store::in_memory().unwrap(), &ticket());
    alice.join(&world);
    let start = alice.now;
    alice.command(Command::Configure(original(collected(&world, start), true))).unwrap();
    let sources = until_renewal(&mut alice);
    let relays = original(world.network(3), true).directory;
    let command = alice.say("over a guard");
    let input = alice.input(command);
    let jobs = posts(alice.handle(vec![input]).unwrap());
    let entry = relays.node(&jobs[0].entry).unwrap();
    assert_eq!(sources.len(), 2, "a guard and its spare: {sources:?}");
    assert!(sources.contains(&format!("{}/records", entry.url)), "{sources:?}");
    let renewed = alice.now;
    let input = alice.input(Command::Configure(original(collected(&world, renewed), true)));
    alice.handle(vec![input, Input::RecordsRenewed { ok: true }]).unwrap();
    assert_eq!(until_renewal(&mut alice), sources, "nobody else learns this device's address");
}

#[test]
fn with_stale_records_nothing_is_sent_until_they_are_renewed() {
    let mut world = World::new(ticket().topic());
    let mut alice = Device::new(1, Store::in_memory().unwrap(), &ticket());
    alice.now = Millis(STALE_AFTER_MS + 5_000);
    alice.join(&world);
    let as_of = Millis(5_000);
    let input = alice.input(Command::Configure(collected(&world, as_of)));
    let outputs = alice.handle(vec![input]).unwrap();
    assert!(renewal(&outputs).is_some(), "asked for at once");
    let command = alice.say("waits");
    let input = alice.input(command);
    let outputs = alice.handle(vec![input]).unwrap();
    let stale = Blocked::StaleRecords { as_of };
    let told = |output: &Output| matches!(output, Output::Event(Event::Delivery { blocked: Some(why), .. }) if *why == stale);
    assert!(outputs.iter().any(told));
    assert!(posts(outputs).is_empty());
    assert_eq!(alice.status().blocked, Some(stale.clone()));
    alice.handle(vec![Input::RecordsRenewed { ok: false }]).unwrap();
    until_renewal(&mut alice);
    assert_eq!(alice.status().blocked, Some(stale));
    let input = alice.input(Command::Configure(collected(&world, alice.now)));
    let jobs = posts(alice.handle(vec![input, Input::RecordsRenewed { ok: true }]).unwrap());
    assert_eq!(jobs.iter().map(|job| world.carry(job)).sum::<usize>(), 1);
    assert_eq!(alice.status().blocked, None);
}

#[test]
fn what_a_device_collected_itself_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path().join("device.db"), StoreOptions::default()).unwrap();
    let world = World::new(ticket().topic());
    let mut alice = Device::new(1, open(), &ticket());
    let mut network = collected(&world, alice.now);
    let renewed = Renewed { at: alice.now, records: "[]".into() };
    network.seen.scope = "whose".into();
    network.seen.renewed = Some(Box::new(renewed.clone()));
    alice.command(Command::Configure(network)).unwrap();
    drop(alice);
    let alice = Device::new(1, open(), &ticket());
    let stored = alice.engine.reader().unwrap().setting(&Renewed::setting("whose")).unwrap().unwrap();
    assert_eq!(Renewed::load(&stored), Some(renewed));
}
