//! What a client is for: devices that write to each other.

use delta_core::sync::session::Connection;

use crate::device::{Device, ticket};
use crate::net::Net;

#[tokio::test]
async fn two_devices_exchange_messages_and_end_with_the_same_rows() {
    let net = Net::start().await;
    let ticket = ticket(1);
    let (mut a, mut b) = (Device::on(&net, 1, &ticket).await, Device::on(&net, 2, &ticket).await);
    let first = a.say("hello").await;
    b.until_texts(&["hello"]).await;
    let second = b.say("hello yourself").await;
    a.until_texts(&["hello", "hello yourself"]).await;
    a.until_acknowledged(first).await;
    b.until_acknowledged(second).await;
    b.until_texts(&["hello", "hello yourself"]).await;
    assert_eq!(a.state().await, b.state().await);
    assert_eq!(net.head(&a.topic), 2);
    let status = a.client.status(a.topic).await.unwrap();
    assert_eq!((status.connection, status.queued, status.sent), (Connection::Live, 0, 0));
}

#[tokio::test]
async fn a_device_that_joins_later_gets_everything_in_order() {
    let net = Net::start().await;
    let ticket = ticket(1);
    let mut a = Device::on(&net, 1, &ticket).await;
    let texts: Vec<String> = (0..700).map(|number| format!("line {number}")).collect();
    let mut last = None;
    for text in &texts {
        last = Some(a.say(text).await);
    }
    a.until_acknowledged(last.unwrap()).await;
    let wanted: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut b = Device::on(&net, 2, &ticket).await;
    b.until_texts(&wanted).await;
    assert_eq!(b.texts().await, texts);
    a.until_texts(&wanted).await;
    assert_eq!(a.state().await, b.state().await);
    assert_eq!(net.head(&a.topic), 700);
}

#[tokio::test]
async fn a_thousand_concurrent_publishes_are_all_kept_and_share_packets() {
    let net = Net::start().await;
    let ticket = ticket(1);
    let mut a = Device::on(&net, 1, &ticket).await;
    a.until_live().await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let (client, topic) = (a.client.clone(), a.topic);
        calls.spawn(async move { client.publish(topic, crate::device::message(&number.to_string())).await });
    }
    let mut ids = Vec::new();
    while let Some(published) = calls.join_next().await {
        ids.push(published.unwrap().unwrap());
        // A listener that only looks afterwards may be told that it lags.
        a.drain();
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1000);
    for id in ids {
        a.until_acknowledged(id).await;
    }
    assert_eq!(net.head(&a.topic), 1000);
    assert!(net.world().packets <= 200, "{} packets for 1000 operations", net.world().packets);
}

#[tokio::test]
async fn several_clients_and_topics_live_in_one_process() {
    let net = Net::start().await;
    let (one, other) = (ticket(1), ticket(2));
    let mut a = Device::on(&net, 1, &one).await;
    let mut b = Device::on(&net, 1, &other).await;
    let mut c = Device::on(&net, 3, &other).await;
    let in_one = a.say("in one").await;
    let in_other = b.say("in the other").await;
    c.until_texts(&["in the other"]).await;
    a.until_texts(&["in one"]).await;
    a.until_acknowledged(in_one).await;
    b.until_acknowledged(in_other).await;
    b.until_texts(&["in the other"]).await;
    assert_eq!((net.head(&a.topic), net.head(&b.topic)), (1, 1));
}

#[tokio::test]
async fn publish_all_keeps_the_order_and_answers_each() {
    let net = Net::start().await;
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    let mut contents: Vec<_> = (0..2000).map(|number| crate::device::message(&number.to_string())).collect();
    contents[1500] = crate::device::message(&"x".repeat(64 * 1024 + 1));
    let replies = a.client.publish_all(a.topic, contents).await;
    assert_eq!(replies.len(), 2000);
    for (number, reply) in replies.iter().enumerate() {
        assert_eq!(reply.is_err(), number == 1500, "{number}");
    }
    let published: Vec<_> = replies.into_iter().filter_map(Result::ok).collect();
    let (operations, _) = a.state().await;
    assert_eq!(operations.iter().map(|operation| operation.id).collect::<Vec<_>>(), published);
    a.updates = a.client.subscribe(a.topic).await.unwrap();
    let last = a.say("the last").await;
    a.until_acknowledged(last).await;
    // Packets overtake each other.
    loop {
        let status = a.client.status(a.topic).await.unwrap();
        if status.queued + status.sent == 0 {
            break;
        }
        a.next().await;
    }
    assert_eq!(net.head(&a.topic), 2000);
}
