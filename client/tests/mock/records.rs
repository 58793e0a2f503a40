//! Relays change their keys: records are renewed without the app, and old ones are not used.

use delta_client::{Blocked, Event, RelayHops};
use delta_core::engine::{RENEW_MAX_MS, RENEW_RETRY_MAX_MS, STALE_AFTER_MS};
use delta_core::identity::Millis;

use crate::device::{Device, ticket};
use crate::net::{Net, now};

const HOUR_MS: u64 = 3_600_000;
/// Longer than the mock network's records hold.
const EXPIRED_MS: u64 = 401 * 24 * HOUR_MS;

/// Every relay has a new key and has erased the old one; its record says so.
fn rotate(net: &Net, seed: u8, signed: Millis) {
    let mut world = net.world();
    for (index, relay) in world.relays.iter_mut().enumerate() {
        relay.change_key([seed + index as u8; 32]);
    }
    world.signed = Some(signed);
}

fn is_stale(event: &Event) -> bool {
    matches!(event, Event::Delivery { blocked: Some(Blocked::StaleRecords { .. }), .. })
}

async fn until_record_sets(net: &Net, wanted: usize) {
    while net.world().record_sets < wanted {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_device_that_runs_for_days_follows_its_relays_keys() {
    let net = Net::start().await;
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    let mut last = a.say("day 0").await;
    a.until_acknowledged(last).await;
    for day in 1..4_u8 {
        let before = net.world().record_sets;
        a.clock.forward(RENEW_MAX_MS);
        rotate(&net, 10 * day, now().plus(u64::from(day) * RENEW_MAX_MS));
        until_record_sets(&net, before + 1).await;
        last = a.say(&format!("day {day}")).await;
        a.until_acknowledged_in_time(last).await;
    }
    assert_eq!(a.texts().await.len(), 4);
    assert_eq!(net.head(&a.topic), 4, "and nothing twice");
    assert_eq!(net.world().infos, 1, "the server is not asked for what the relays have of it");
}

#[tokio::test]
async fn old_records_of_an_app_are_renewed_before_anything_is_sent_and_the_new_ones_are_kept() {
    let net = Net::start().await;
    let old = RelayHops::Pool(net.records(Millis(now().0 - STALE_AFTER_MS - HOUR_MS)));
    rotate(&net, 30, now());
    let mut a = Device::offline(1, &ticket(1)).await;
    a.client.init_sync(&old, &net.sync_url()).await.unwrap();
    let id = a.say("with today's keys").await;
    a.until_acknowledged(id).await;
    assert_eq!(net.world().record_sets, 1);

    // From now on no relay has any, and the app still brings the old ones.
    net.world().signed = None;
    a = a.restart().await;
    a.client.init_sync(&old, &net.sync_url()).await.unwrap();
    let id = a.say("still with today's keys").await;
    a.until_acknowledged(id).await;
    assert_eq!(net.world().record_sets, 1);
    assert_eq!(net.world().infos, 1, "the server's record was kept, too");
}

#[tokio::test]
async fn a_relay_that_serves_yesterdays_records_is_not_believed_and_the_state_is_said() {
    let net = Net::start().await;
    let long_ago = Millis(now().0 - STALE_AFTER_MS - HOUR_MS);
    let old = RelayHops::Pool(net.records(long_ago));
    net.world().signed = Some(long_ago);
    let mut a = Device::offline(1, &ticket(1)).await;
    a.client.init_sync(&old, &net.sync_url()).await.unwrap();
    let id = a.say("waits").await;
    a.until(is_stale).await;
    assert_eq!(net.world().packets, 0);
    let asked = net.world().record_sets;
    rotate(&net, 40, now());
    a.clock.forward(RENEW_RETRY_MAX_MS);
    a.client.status(a.topic).await.unwrap();
    until_record_sets(&net, asked + 1).await;
    a.until_acknowledged_in_time(id).await;
    assert_eq!(net.head(&a.topic), 1);
}

#[tokio::test]
async fn who_is_not_in_the_apps_pool_does_not_come_in_with_a_set_of_records() {
    let net = Net::start().await;
    let mut two = net.records(Millis(now().0 - STALE_AFTER_MS - HOUR_MS));
    two.truncate(2);
    let mut a = Device::offline(1, &ticket(1)).await;
    a.client.init_sync(&RelayHops::Pool(two), &net.sync_url()).await.unwrap();
    let id = a.say("waits").await;
    // The set that is served names a third relay. With it there would be a route.
    until_record_sets(&net, 1).await;
    a.until(|event| {
        let few = delta_core::onion::route::RouteError::TooFewRelays { have: 2, need: 3 };
        matches!(event, Event::Delivery { blocked: Some(Blocked::Route(why)), .. } if *why == few)
    })
    .await;
    assert_eq!(net.world().packets, 0);
    a.join(&net).await;
    a.until_acknowledged(id).await;
}

#[tokio::test]
async fn a_device_whose_records_have_all_expired_reads_through_tunnels_or_not_at_all() {
    let net = Net::start().await;
    net.world().offers_tunnels = true;
    let long_ago = Millis(now().0 - EXPIRED_MS);
    let old = RelayHops::Pool(net.records(long_ago));
    // Relays have nothing newer, at first.
    net.world().signed = Some(long_ago);
    let mut a = Device::offline(1, &ticket(1)).await;
    let skipped = a.client.init_sync(&old, &net.sync_url()).await.unwrap();
    assert_eq!(skipped.len(), 3, "they are in no route: {skipped:?}");
    a.until_live().await;
    {
        let world = net.world();
        assert!(world.tunnels > 0);
        assert_eq!(
            world.requests.len() + world.infos,
            world.tunnels,
            "the server sees no address but the relays'"
        );
    }
    net.world().signed = Some(now());
    let asked = net.world().record_sets;
    a.clock.forward(RENEW_RETRY_MAX_MS);
    a.client.status(a.topic).await.unwrap();
    until_record_sets(&net, asked + 1).await;
    let id = a.say("with today's keys").await;
    a.until_acknowledged(id).await;
    let world = net.world();
    assert!(world.requests.len() <= world.tunnels);
}

fn set(records: &[String]) -> String {
    format!("[{}]", records.join(","))
}

#[tokio::test]
async fn one_relays_own_new_record_does_not_make_a_set_new() {
    let net = Net::start().await;
    let long_ago = Millis(now().0 - STALE_AFTER_MS - HOUR_MS);
    let old = net.records(long_ago);
    rotate(&net, 50, now());
    // New or from the future: it is one relay's word about itself.
    for signed in [now(), now().plus(10 * STALE_AFTER_MS)] {
        let mut mixed = old.clone();
        mixed[0] = net.records(signed).remove(0);
        net.world().served = Some(set(&mixed));
        let mut a = Device::offline(1, &ticket(1)).await;
        a.client.init_sync(&RelayHops::Pool(old.clone()), &net.sync_url()).await.unwrap();
        let id = a.say("waits").await;
        let asked = net.world().record_sets;
        a.clock.forward(RENEW_RETRY_MAX_MS);
        a.client.status(a.topic).await.unwrap();
        until_record_sets(&net, asked.max(1) + 1).await;
        assert_eq!(net.head(&a.topic), 0);
        net.world().served = None;
        a.clock.forward(RENEW_RETRY_MAX_MS);
        a.client.status(a.topic).await.unwrap();
        a.until_acknowledged_in_time(id).await;
        // Or it would deliver again what the wiped server lacks.
        a.client.close().await.unwrap();
        net.wipe();
    }
}

#[tokio::test]
async fn junk_before_the_records_pushes_none_of_them_out() {
    let net = Net::start().await;
    let old = RelayHops::Pool(net.records(Millis(now().0 - STALE_AFTER_MS - HOUR_MS)));
    rotate(&net, 60, now());
    let junk = r#"{"record":"v=1","seq":1,"sig":"00"}"#.to_owned();
    let mut served = vec![junk; delta_core::onion::directory::MAX_RECORDS];
    served.extend(net.records(now()));
    net.world().served = Some(set(&served));
    let mut a = Device::offline(1, &ticket(1)).await;
    a.client.init_sync(&old, &net.sync_url()).await.unwrap();
    let id = a.say("with today's keys").await;
    a.until_acknowledged(id).await;
}
