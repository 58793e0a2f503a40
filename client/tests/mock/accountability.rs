//! A server is held to what it showed: heads it signs, histories it shows to others, backups it comes back from.

use delta_client::Event;
use delta_core::sync::frame::Frame;
use delta_core::sync::session::Fault;
use delta_core::topic::{Chain, Seq, SignedHead, TopicId};
use delta_sim::NodeIdentity;
use delta_sim::script::{FrameAct, FrameMatch};

use crate::device::{Device, ticket};
use crate::net::Net;

const READY: FrameMatch = FrameMatch::Type(3);

#[tokio::test]
async fn a_head_signed_by_another_key_or_for_another_topic_is_a_fault_and_is_recovered_from() {
    let net = Net::start().await;
    let ticket = ticket(1);
    let (generation, ours) = {
        let world = net.world();
        (world.server.generation(&ticket.topic()), world.server.identity().signing_key())
    };
    let stranger = NodeIdentity::generate(&mut delta_sim::Rng::new(9, "stranger")).signing_key();
    for (key, topic) in [(&stranger, ticket.topic()), (&ours, TopicId([9; 32]))] {
        let head = SignedHead::sign(key, &topic, &generation, Seq(0), Chain::start(&topic, &generation));
        net.world().server.script.frame(READY, FrameAct::Replace(Frame::Ready(head).encode().into()));
        let mut a = Device::on(&net, 1, &ticket).await;
        let forged = |event: &Event| matches!(event, Event::ServerFault { fault: Fault::HeadSignature, .. });
        a.until(forged).await;
        a.until_live().await;
    }
}

#[tokio::test]
async fn case_46_two_histories_shown_to_two_devices_are_detected_when_they_compare() {
    let net = Net::start().await;
    let ticket = ticket(1);
    let empty = net.world().server.backup();
    let mut a = Device::on(&net, 1, &ticket).await;
    let first = a.say("what only A is shown").await;
    a.until_acknowledged(first).await;
    // A hears the head of what it was shown when it comes back, and says it in what it writes next.
    a = a.restart().await;
    a.join(&net).await;
    a.until_live().await;
    let second = a.say("written after it").await;
    a.until_acknowledged(second).await;
    let carried = net.world().server.envelopes(&a.topic).pop().unwrap().1;
    a.client.close().await.unwrap();

    net.restore(empty);
    let keys = ticket.keys();
    let key = keys.write_key().unwrap();
    net.plant(key, &[b"\x03nothing that opens"]);
    net.plant(key, &[&carried]);
    let mut b = Device::on(&net, 2, &ticket).await;
    b.until(|event| matches!(event, Event::ServerEquivocates { .. })).await;
    let topic = b.topic;
    let standing = b.client.read(move |reader| reader.standing(topic)).await.unwrap();
    let [found] = standing.equivocations.try_into().unwrap();
    assert_eq!((found.own.seq, found.other.seq), (Seq(1), Seq(1)));
    assert_eq!(found.own.generation, found.other.generation);
    assert_ne!(found.own.chain, found.other.chain);
    assert_eq!(found.author, a.client.author());
}

#[tokio::test]
async fn a_server_restored_from_an_old_backup_and_grown_past_the_old_head_leaves_nobody_waiting() {
    let net = Net::start().await;
    let ticket = ticket(1);
    let mut a = Device::on(&net, 1, &ticket).await;
    for text in ["1", "2", "3"] {
        let id = a.say(text).await;
        a.until_acknowledged(id).await;
    }
    let backup = net.world().server.backup();
    for text in ["4", "5"] {
        let id = a.say(text).await;
        a.until_acknowledged(id).await;
    }
    // While A is away the server loses its newest operations, and others write on, past where A had read.
    a = a.restart().await;
    net.restore(backup);
    let mut b = Device::on(&net, 2, &ticket).await;
    for text in ["b1", "b2", "b3", "b4"] {
        let id = b.say(text).await;
        b.until_acknowledged(id).await;
    }
    assert_eq!(net.head(&a.topic), 7);
    a.join(&net).await;
    a.until(|event| matches!(event, Event::Reset { .. })).await;
    let wanted = ["1", "2", "3", "4", "5", "b1", "b2", "b3", "b4"];
    a.until_texts(&wanted).await;
    // What the backup lacked is delivered again, after 10 to 120 s, once.
    while net.head(&a.topic) < 9 {
        a.clock.forward(5_000);
        a.client.status(a.topic).await.unwrap();
    }
    b.until_texts(&wanted).await;
    let id = b.say("after").await;
    b.until_acknowledged(id).await;
    let wanted = ["1", "2", "3", "4", "5", "b1", "b2", "b3", "b4", "after"];
    a.until_texts(&wanted).await;
    for _ in 0..60 {
        a.clock.forward(5_000);
        a.client.status(a.topic).await.unwrap();
    }
    assert_eq!(net.head(&a.topic), 10);
    assert_eq!(a.state().await.0, b.state().await.0);
}
