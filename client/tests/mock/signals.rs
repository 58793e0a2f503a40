//! Signals arrive and are stored nowhere; reading where the server asks for a proof.

use delta_client::{Event, Unreadable};
use delta_core::engine::SIGNAL_EVERY_MS;
use delta_core::sync::proof::ReadKey;

use crate::device::{Device, ticket};
use crate::net::Net;

fn heard(event: &Event) -> Option<&[u8]> {
    match event {
        Event::Signal { signal, .. } => Some(&signal.bytes),
        _ => None,
    }
}

#[tokio::test]
async fn a_signal_reaches_who_listens_now_and_is_stored_nowhere() {
    let net = Net::start().await;
    let ticket = ticket(1);
    let (mut a, mut b) = (Device::on(&net, 1, &ticket).await, Device::on(&net, 2, &ticket).await);
    a.until_live().await;
    b.until_live().await;
    a.client.signal(a.topic, &b"typing"[..]).await.unwrap();
    b.until(|event| heard(event) == Some(b"typing")).await;
    let Some(Event::Signal { signal, .. }) = b.events.last() else { panic!() };
    assert_eq!(signal.author, a.client.author());
    // A burst: the latest goes when it may.
    for text in ["one", "two", "three"] {
        a.client.signal(a.topic, text).await.unwrap();
    }
    a.clock.forward(SIGNAL_EVERY_MS);
    a.client.status(a.topic).await.unwrap();
    b.until(|event| heard(event) == Some(b"three")).await;
    assert_eq!(b.events.iter().filter_map(heard).count(), 2);
    assert_eq!(net.head(&a.topic), 0);
    assert!(a.events.iter().all(|event| heard(event).is_none()), "a device does not hear itself");
    for len in [0, delta_core::limits::MAX_SIGNAL_BODY + 1] {
        assert_eq!(a.client.signal(a.topic, vec![0; len]).await.unwrap_err().code(), "signal");
    }
}

#[tokio::test]
async fn a_signal_without_a_network_is_an_error_and_not_kept() {
    let a = Device::offline(1, &ticket(1)).await;
    assert_eq!(a.client.signal(a.topic, &b"typing"[..]).await.unwrap_err().code(), "not_sent");
}

#[tokio::test]
async fn a_topic_with_a_read_key_is_read_by_those_who_prove_it() {
    let net = Net::start().await;
    let ticket = ticket(1);
    let mut a = Device::on(&net, 1, &ticket).await;
    let id = a.say("for those who may read").await;
    a.until_acknowledged(id).await;
    let (key, other) = (ReadKey::from_seed([7; 32]), ReadKey::from_seed([8; 32]));
    net.world().read_vk = Some(key.verifying_key());

    let unreadable =
        |event: &Event, why| matches!(event, Event::Readable { unreadable, .. } if *unreadable == Some(why));
    let mut b = Device::on(&net, 2, &ticket).await;
    b.until(|event| unreadable(event, Unreadable::NoReadKey)).await;
    assert_eq!(b.client.status(b.topic).await.unwrap().unreadable, Some(Unreadable::NoReadKey));
    b.client.set_read_key(b.topic, Some(other)).await.unwrap();
    b.until(|event| unreadable(event, Unreadable::WrongReadKey)).await;
    b.client.set_read_key(b.topic, Some(key)).await.unwrap();
    b.until_texts(&["for those who may read"]).await;
    assert_eq!(b.client.status(b.topic).await.unwrap().unreadable, None);
    // The key is kept.
    b = b.restart().await;
    b.join(&net).await;
    b.until_live().await;
}
