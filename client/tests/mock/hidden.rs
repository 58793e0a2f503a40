//! Hidden reading from the first byte on: nothing reaches the server past the relays, and nothing inside a tunnel can be
//! read or changed by whoever carries it.

use delta_client::{ReadPath, RelayHops, Seal};
use delta_core::engine::{RENEW_MAX_MS, STALE_AFTER_MS};
use delta_core::identity::Millis;
use delta_core::onion::route::TUNNEL_PAUSE_MAX_MS;
use ed25519_dalek::SigningKey;

use crate::device::{Device, ticket};
use crate::net::{Net, RELAYS, now};

/// A network whose relays offer tunnels.
async fn net() -> std::sync::Arc<Net> {
    let net = Net::start().await;
    net.world().offers_tunnels = true;
    net
}

/// The relays' records, and the server's: it need not be asked.
fn whole(net: &Net) -> RelayHops {
    let mut records = net.records(now());
    records.push(net.server_record(net.began()));
    RelayHops::Pool(records)
}

/// Each connection that the server got in the clear is one that came in Noise, and that came from a relay.
fn nothing_was_direct(net: &Net) {
    let world = net.world();
    assert_eq!(world.plain, world.sealed);
    assert!(world.sealed <= world.tunnels);
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[tokio::test]
async fn from_the_first_start_on_the_server_hears_from_nobody_but_relays() {
    let net = net().await;
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    a.until_live().await;
    let id = a.say("hello").await;
    a.until_acknowledged(id).await;
    let a = a.restart().await;
    a.join(&net).await;
    let mut a = a;
    a.until_live().await;
    assert_eq!(net.world().infos, 2);
    nothing_was_direct(&net);
}

#[tokio::test]
async fn a_server_that_no_relay_leads_to_now_is_not_asked_directly() {
    let net = net().await;
    net.world().cut_tunnels = RELAYS;
    let mut a = Device::offline(1, &ticket(1)).await;
    let error = a.client.init_sync(&net.hops(), &net.sync_url()).await.unwrap_err();
    assert_eq!(error.code(), "server_unreachable");
    {
        let world = net.world();
        assert_eq!((world.cut_tunnels, world.plain, world.sealed), (0, 0, 0));
    }
    a.join(&net).await;
    a.until_live().await;
    nothing_was_direct(&net);
}

#[tokio::test]
async fn a_renewal_that_brings_no_record_of_the_server_asks_for_it_through_a_relay() {
    let net = net().await;
    let old = RelayHops::Pool(net.records(Millis(now().0 - STALE_AFTER_MS - 3_600_000)));
    net.world().served = Some(format!("[{}]", net.records(now()).join(",")));
    let mut a = Device::offline(1, &ticket(1)).await;
    a.client.init_sync(&old, &net.sync_url()).await.unwrap();
    let id = a.say("with today's keys").await;
    a.until_acknowledged(id).await;
    assert_eq!(net.world().infos, 2);
    nothing_was_direct(&net);
    // Where every tunnel is cut the record known before stays in use, and still nobody is asked directly.
    a.clock.forward(RENEW_MAX_MS);
    net.world().cut_tunnels = usize::MAX;
    a.client.status(a.topic).await.unwrap();
    while net.world().cut_tunnels > usize::MAX - RELAYS {
        tokio::task::yield_now().await;
    }
    assert_eq!(net.world().infos, 2);
    nothing_was_direct(&net);
}

#[tokio::test]
async fn whoever_carries_a_tunnel_sees_no_topic_though_the_server_has_no_certificate() {
    let net = net().await;
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    let id = a.say("hello").await;
    a.until_acknowledged(id).await;
    let path = a.client.status(a.topic).await.unwrap().read_path;
    assert!(matches!(path, Some(ReadPath::Tunnel { seal: Seal::Noise, .. })), "{path:?}");
    let world = net.world();
    assert!(world.requests.len() == 1 && world.infos == 1 && world.carried.len() > 1_000);
    let topic = a.topic.to_string();
    for what in [topic.as_bytes(), &a.topic.0, b"GET /", b"HTTP/1.1", b"delta.sync.2", b"record"] {
        assert!(!holds(&world.carried, what), "{}", String::from_utf8_lossy(what));
    }
}

#[tokio::test]
async fn whoever_answers_with_another_key_is_told_nothing() {
    let net = net().await;
    net.world().key_of_server = Some(SigningKey::from_bytes(&[66; 32]));
    let mut a = Device::offline(1, &ticket(1)).await;
    // Asked who it is, and read.
    let error = a.client.init_sync(&net.hops(), &net.sync_url()).await.unwrap_err();
    assert_eq!((error.code(), net.world().sealed), ("server_unreachable", RELAYS));
    a.client.init_sync(&whole(&net), &net.sync_url()).await.unwrap();
    while net.world().sealed < 2 * RELAYS {
        a.clock.forward(1_000);
        a.client.status(a.topic).await.unwrap();
        tokio::task::yield_now().await;
    }
    {
        let world = net.world();
        // Handshakes that were not answered, and nothing else: never in the clear instead.
        assert_eq!((world.plain, world.infos, world.requests.len()), (0, 0, 0));
        assert_eq!(world.carried.len() % 50, 0);
    }
    {
        let mut world = net.world();
        (world.key_of_server, world.sealed) = (None, 0);
    }
    a.clock.forward(TUNNEL_PAUSE_MAX_MS);
    a.client.network_changed();
    a.until_live().await;
    nothing_was_direct(&net);
}

/// In the server's answer to the handshake, in a record's length, in what it seals, and in its seal.
#[tokio::test]
async fn case_01_a_bit_flipped_in_a_tunnel_ends_it_and_the_topic_is_read_through_another() {
    for byte in [0, 31, 47, 48, 49, 50, 80] {
        let net = net().await;
        net.world().flip = Some(8 * byte + 3);
        let mut a = Device::offline(1, &ticket(1)).await;
        a.client.init_sync(&whole(&net), &net.sync_url()).await.unwrap();
        let id = a.say("unharmed").await;
        a.until_acknowledged_in_time(id).await;
        let world = net.world();
        assert_eq!(world.flip, None, "byte {byte}");
        assert!(world.tunnels >= 2, "byte {byte}");
        assert_eq!(world.server.log_state(&a.topic).head.0, 1, "byte {byte}");
    }
}

#[tokio::test]
async fn what_is_switched_off_is_direct() {
    let net = net().await;
    let mut a = Device::offline_with(1, &ticket(1), |config| config.hidden_reading = false).await;
    a.join(&net).await;
    a.until_live().await;
    let world = net.world();
    assert_eq!((world.tunnels, world.sealed, world.infos), (0, 0, 1));
}
