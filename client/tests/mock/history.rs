//! What a device has no room to keep waiting is read again over HTTP.

use bytes::Bytes;
use delta_client::Event;
use delta_core::limits::MAX_PENDING_PER_AUTHOR;
use delta_core::ops::{self, Body, DeviceKey, Ticket};
use delta_core::sync::session::Fault;
use delta_sim::script::{Answer, PageAct};

use crate::device::{Device, message, ticket};
use crate::net::Net;

/// Messages of one author, the last one first: more than a device keeps waiting.
fn plant_reversed(net: &Net, ticket: &Ticket) -> usize {
    let (key, keys) = (DeviceKey::from_bytes(&[9; 32]), ticket.keys());
    let (count, mut last) = (MAX_PENDING_PER_AUTHOR + 300, None);
    let mut envelopes = Vec::with_capacity(count);
    for number in 0..count as u32 {
        let body = Body::new(message(&format!("{number:05}")));
        let op = ops::create(&key, keys.log(), number, last, &body).unwrap();
        last = Some(op.id());
        envelopes.push(keys.seal(op.header(), op.body_bytes()).unwrap());
    }
    envelopes.reverse();
    for chunk in envelopes.chunks(256) {
        let chunk: Vec<&[u8]> = chunk.iter().map(AsRef::as_ref).collect();
        net.plant(keys.write_key().unwrap(), &chunk);
    }
    count
}

async fn until_complete(device: &mut Device, count: usize) {
    loop {
        let topic = device.topic;
        let standing = device.client.read(move |reader| reader.standing(topic)).await.unwrap();
        if standing.refetches.is_empty()
            && device.client.read(|reader| reader.count_operations()).await.unwrap() > 0
        {
            break;
        }
        device.clock.forward(1_000);
        device.client.status(device.topic).await.unwrap();
        tokio::task::yield_now().await;
    }
    let texts = device.texts().await;
    assert_eq!(texts, (0..count).map(|number| format!("{number:05}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_log_that_overflows_what_may_wait_is_read_whole() {
    let (net, ticket) = (Net::start().await, ticket(1));
    let count = plant_reversed(&net, &ticket);
    let mut a = Device::on(&net, 1, &ticket).await;
    a.until_live().await;
    until_complete(&mut a, count).await;
    let pages = net.world().pages;
    assert!((1..=4).contains(&pages), "{pages}");
}

#[tokio::test]
async fn pages_that_do_not_come_or_are_spoilt_are_asked_for_again() {
    let (net, ticket) = (Net::start().await, ticket(1));
    let count = plant_reversed(&net, &ticket);
    let acts = [
        PageAct::Refuse(Answer::Status(503)),
        PageAct::Refuse(Answer::Cut),
        PageAct::Replace(Bytes::from_static(b"no page")),
        PageAct::Replace(vec![0; delta_core::sync::history::MAX_PAGE + 1].into()),
        PageAct::Forge,
    ];
    for act in acts {
        net.world().server.script.page(1, act);
    }
    let mut a = Device::on(&net, 1, &ticket).await;
    a.until_live().await;
    until_complete(&mut a, count).await;
    assert!(net.world().pages > 5);
    a.until(|event| matches!(event, Event::ServerFault { fault: Fault::Decode(_), .. })).await;
    a.until(|event| matches!(event, Event::ServerFault { fault: Fault::History(_), .. })).await;
}

#[tokio::test]
async fn the_topic_and_its_pages_come_through_tunnels_each_through_one_of_its_own() {
    let (net, ticket) = (Net::start().await, ticket(1));
    let count = plant_reversed(&net, &ticket);
    net.world().offers_tunnels = true;
    // Two relays cut what they are asked for, at first who the server is; the third carries it.
    net.world().cut_tunnels = 2;
    let mut a = Device::on(&net, 1, &ticket).await;
    a.until_live().await;
    net.world().cut_tunnels = 1;
    until_complete(&mut a, count).await;
    let world = net.world();
    assert!(world.pages > 0 && world.cut_tunnels == 0);
    assert_eq!(world.tunnels, world.requests.len() + world.pages + world.infos, "nothing was read directly");
}
