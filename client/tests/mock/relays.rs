//! Relays that drop, refuse or hang: nothing is lost, nothing is doubled.

use delta_client::{Blocked, Event};
use delta_core::onion::route::RouteError;
use delta_sim::script::{Answer, PostAct};

use crate::device::{Device, ticket};
use crate::net::Net;

fn every_relay(net: &Net, act: PostAct) {
    net.world().relays.iter_mut().for_each(|relay| {
        relay.script.every_post(act);
    });
}

fn honest(net: &Net) {
    net.world().relays.iter_mut().for_each(|relay| {
        relay.script.clear();
    });
}

#[tokio::test]
async fn case_37_what_every_relay_drops_stays_queued_across_restarts_and_is_delivered_once() {
    let net = Net::start().await;
    every_relay(&net, PostAct::Swallow);
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    a.until_live().await;
    let id = a.say("kept").await;
    while net.world().packets == 0 {
        tokio::task::yield_now().await;
    }
    a = a.restart().await;
    assert_eq!(a.texts().await, ["kept"]);
    let status = a.client.status(a.topic).await.unwrap();
    assert_eq!(status.queued + status.sent, 1);
    assert_eq!(net.head(&a.topic), 0);
    honest(&net);
    a.join(&net).await;
    a.until_live().await;
    a.until_acknowledged_in_time(id).await;
    assert_eq!(net.head(&a.topic), 1);
    assert_eq!(a.texts().await, ["kept"]);
}

#[tokio::test]
async fn case_36_a_packet_that_a_relay_drops_is_sent_again_and_gives_one_entry() {
    let net = Net::start().await;
    net.world().relays.iter_mut().for_each(|relay| {
        relay.script.post(1, PostAct::Swallow);
    });
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    a.until_live().await;
    let id = a.say("once").await;
    a.until_acknowledged_in_time(id).await;
    assert!(net.world().packets > 1);
    assert_eq!(net.head(&a.topic), 1);
}

#[tokio::test]
async fn relays_that_refuse_are_asked_again() {
    let net = Net::start().await;
    net.world().relays.iter_mut().for_each(|relay| {
        relay.script.post(2, PostAct::Refuse(Answer::Status(503)));
    });
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    a.until_live().await;
    let id = a.say("in the end").await;
    a.until_acknowledged_in_time(id).await;
    assert_eq!(net.head(&a.topic), 1);
}

#[tokio::test]
async fn case_39_packets_handled_twice_give_one_entry() {
    let net = Net::start().await;
    every_relay(&net, PostAct::Twice);
    net.world().server.script.every_post(PostAct::Twice);
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    a.until_live().await;
    let mut said = Vec::new();
    for number in 0..20 {
        said.push(a.say(&number.to_string()).await);
    }
    // Their packets may come in any order.
    for id in said {
        a.until_acknowledged(id).await;
    }
    assert_eq!(net.head(&a.topic), 20);
    assert_eq!(a.texts().await.len(), 20);
}

#[tokio::test]
async fn case_34_too_few_operators_is_said_and_nothing_is_sent() {
    let net = Net::start().await;
    let mut a = Device::offline(1, &ticket(1)).await;
    let delta_client::RelayHops::Pool(mut records) = net.hops() else { unreachable!() };
    records.pop();
    a.client.init_sync(&delta_client::RelayHops::Pool(records), &net.sync_url()).await.unwrap();
    let id = a.say("waits").await;
    a.until(|event| {
        let too_few = Blocked::Route(RouteError::TooFewRelays { have: 2, need: 3 });
        matches!(event, Event::Delivery { blocked: Some(blocked), .. } if *blocked == too_few)
    })
    .await;
    assert_eq!(net.world().packets, 0);
    a.join(&net).await;
    a.until_acknowledged(id).await;
    assert_eq!(net.head(&a.topic), 1);
}
