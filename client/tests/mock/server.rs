//! Servers that lie, break the protocol or go away.

use bytes::Bytes;
use delta_client::Event;
use delta_core::sync::frame::{Frame, SequencedOp};
use delta_core::sync::session::{Connection, Fault};
use delta_core::topic::{Generation, Seq};
use delta_sim::script::{Answer, FrameAct, FrameMatch, SubscribeAct};

use crate::device::{Device, ticket};
use crate::net::Net;

const SEQUENCE: Expected = |fault| matches!(fault, Fault::Sequence { .. });
const OPS: FrameMatch = FrameMatch::Type(2);
const HELLO: FrameMatch = FrameMatch::Type(1);

/// Which fault a device finds.
type Expected = fn(&Fault) -> bool;

/// Three messages in the log; then a device meets a server with this rule, once.
async fn recovers(rule: FrameMatch, act: FrameAct, expected: Option<Expected>) {
    let net = Net::start().await;
    let ticket = ticket(1);
    let mut a = Device::on(&net, 1, &ticket).await;
    for text in ["one", "two", "three"] {
        let id = a.say(text).await;
        a.until_acknowledged(id).await;
    }
    net.world().server.script.frame(rule, act.clone());
    let mut b = Device::on(&net, 2, &ticket).await;
    if let Some(expected) = expected {
        b.until(|event| matches!(event, Event::ServerFault { .. })).await;
        let found = b.events.iter().find_map(|event| match event {
            Event::ServerFault { fault, .. } => Some(fault),
            _ => None,
        });
        assert!(found.is_some_and(expected), "{act:?}: {found:?}");
    }
    b.until_texts(&["one", "two", "three"]).await;
    let id = b.say("four").await;
    b.until_acknowledged(id).await;
    a.until_texts(&["one", "two", "three", "four"]).await;
    b.until_texts(&["one", "two", "three", "four"]).await;
    assert_eq!(a.state().await, b.state().await, "{act:?}");
    assert_eq!(net.head(&a.topic), 4, "{act:?}");
}

fn ops(seqs: &[u64]) -> FrameAct {
    let op = |seq: &u64| SequencedOp {
        seq: Seq(*seq),
        received: delta_core::identity::Millis(1),
        op: Bytes::from_static(b"\x03nothing that opens"),
    };
    FrameAct::Replace(Frame::Ops(seqs.iter().map(op).collect()).encode().into())
}

#[tokio::test]
async fn case_44_a_gap_in_the_seqs_is_a_fault_and_is_recovered_from() {
    recovers(OPS, ops(&[2, 3]), Some(SEQUENCE)).await;
}

#[tokio::test]
async fn case_44_reordered_seqs_are_a_fault_and_are_recovered_from() {
    recovers(OPS, ops(&[1, 3, 2]), Some(SEQUENCE)).await;
}

#[tokio::test]
async fn case_44_repeated_operations_are_a_fault_and_are_recovered_from() {
    recovers(OPS, FrameAct::Repeat, Some(SEQUENCE)).await;
}

#[tokio::test]
async fn case_44_frames_out_of_order_are_a_fault_and_are_recovered_from() {
    recovers(HELLO, FrameAct::Swap, Some(|fault| matches!(fault, Fault::Unexpected(_)))).await;
}

#[tokio::test]
async fn case_44_the_largest_seq_is_a_fault_and_is_recovered_from() {
    recovers(OPS, ops(&[u64::MAX]), Some(SEQUENCE)).await;
}

#[tokio::test]
async fn case_44_withheld_operations_are_found_out_at_ready() {
    recovers(OPS, FrameAct::Withhold, Some(|fault| *fault == Fault::Sequence { last: Seq(0), got: Seq(3) }))
        .await;
}

#[tokio::test]
async fn case_45_a_head_of_two_to_the_63_is_refused_and_recovered_from() {
    let hello = Frame::Hello {
        generation: Generation([1; 16]),
        head: Seq(1 << 63),
        tail: Seq(1),
        server_time: delta_core::identity::Millis(0),
        max_op: 1 << 20,
    };
    recovers(
        HELLO,
        FrameAct::Replace(hello.encode().into()),
        Some(|fault| matches!(fault, Fault::HeadTooLarge(_))),
    )
    .await;
}

#[tokio::test]
async fn case_49_messages_that_are_no_frames_are_refused_and_recovered_from() {
    let mut many = vec![2, 0xff, 0xff];
    many.extend([0xff; 64]);
    let mut long = vec![2, 0, 1];
    long.extend([0; 16]);
    long.extend([0xff; 4]);
    let mut trailing = Frame::Slow { retry_after_ms: 0 }.encode();
    trailing.push(0);
    for garbage in [vec![], vec![0], vec![0xff; 4], vec![1, 2, 3], many, long, trailing] {
        recovers(HELLO, FrameAct::Replace(garbage.into()), Some(|fault| matches!(fault, Fault::Decode(_))))
            .await;
    }
}

#[tokio::test]
async fn case_49_a_message_over_the_frame_limit_ends_the_connection_only() {
    let huge = vec![2; delta_core::sync::frame::MAX_FRAME + 1];
    recovers(HELLO, FrameAct::Replace(huge.into()), None).await;
}

#[tokio::test]
async fn close_codes_and_cuts_lead_to_a_new_connection() {
    for code in [1000, 1001, 1008, 1011, 1012, 1013] {
        recovers(OPS, FrameAct::Close(code), None).await;
    }
    recovers(OPS, FrameAct::Cut, None).await;
}

#[tokio::test]
async fn refused_upgrades_are_tried_again() {
    let net = Net::start().await;
    for status in [429, 503, 404] {
        net.world().server.script.subscribe(1, SubscribeAct::Refuse(Answer::Status(status)));
    }
    net.world().server.script.subscribe(1, SubscribeAct::Refuse(Answer::Cut));
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    a.until_live().await;
    assert_eq!(net.world().requests.len(), 5);
}

#[tokio::test]
async fn a_refused_upgrade_waits_as_long_as_the_server_asks() {
    let net = Net::start().await;
    net.world().retry_after_s = 200;
    net.world().server.script.subscribe(1, SubscribeAct::Refuse(Answer::Status(503)));
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    a.until(|event| matches!(event, Event::Connection { connection: Connection::Offline, .. })).await;
    // Far beyond the longest pause of its own.
    a.clock.forward(150_000);
    for _ in 0..3 {
        assert_eq!(a.client.status(a.topic).await.unwrap().connection, Connection::Offline);
    }
    assert_eq!(net.world().requests.len(), 1);
    a.clock.forward(50_000);
    a.client.status(a.topic).await.unwrap();
    a.until_live().await;
    assert_eq!(net.world().requests.len(), 2);
}

#[tokio::test]
async fn a_connection_that_hangs_is_given_up_when_its_time_has_come() {
    let net = Net::start().await;
    net.world().server.script.frame(FrameMatch::Any, FrameAct::Hang);
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    while net.world().requests.is_empty() {
        tokio::task::yield_now().await;
    }
    while !a.events.iter().any(|event| matches!(event, Event::ServerFault { .. })) {
        a.clock.forward(60_000);
        a.client.status(a.topic).await.unwrap();
        a.next().await;
    }
    a.clock.forward(60_000);
    a.client.status(a.topic).await.unwrap();
    a.until_live().await;
}

#[tokio::test]
async fn case_40_killed_between_send_and_acknowledgement_gives_one_entry() {
    let net = Net::start().await;
    net.world().server.script.every_frame(OPS, FrameAct::Hang);
    let mut a = Device::on(&net, 1, &ticket(1)).await;
    a.until_live().await;
    let id = a.say("once").await;
    while net.head(&a.topic) == 0 {
        tokio::task::yield_now().await;
    }
    net.world().server.script.clear();
    a = a.resurrect().await;
    assert_eq!(
        a.client.status(a.topic).await.unwrap().sent + a.client.status(a.topic).await.unwrap().queued,
        1
    );
    a.join(&net).await;
    a.until_acknowledged(id).await;
    assert_eq!(net.head(&a.topic), 1);
    assert_eq!(a.texts().await, ["once"]);
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_goes_on_where_it_was() {
    let net = Net::start().await;
    let ticket = ticket(1);
    let (mut a, mut b) = (Device::on(&net, 1, &ticket).await, Device::on(&net, 2, &ticket).await);
    let before = a.say("before").await;
    a.until_acknowledged(before).await;
    b.until_texts(&["before"]).await;
    net.kill_server();
    a.until_next(|event| matches!(event, Event::Connection { .. })).await;
    let during = a.say("during").await;
    net.start_server();
    a.client.network_changed();
    a.clock.forward(200_000);
    a.until_acknowledged(during).await;
    b.until_texts(&["before", "during"]).await;
    let requests = net.world().requests.clone();
    assert!(requests.last().unwrap().contains("since=1&generation="), "{requests:?}");
    assert_eq!(net.head(&a.topic), 2);
}

#[tokio::test]
async fn case_51_a_wiped_server_gets_everything_again_once() {
    let net = Net::start().await;
    let ticket = ticket(1);
    let (mut a, mut b) = (Device::on(&net, 1, &ticket).await, Device::on(&net, 2, &ticket).await);
    let wanted = ["a1", "b1", "a2", "b2"];
    for (index, text) in wanted.into_iter().enumerate() {
        let device = if index % 2 == 0 { &mut a } else { &mut b };
        let id = device.say(text).await;
        device.until_acknowledged(id).await;
    }
    a.until_texts(&wanted).await;
    b.until_texts(&wanted).await;
    net.wipe();
    a.until(|event| matches!(event, Event::Reset { .. })).await;
    b.until(|event| matches!(event, Event::Reset { .. })).await;
    // Members wait 10 to 120 s before they deliver again, in chunks with pauses.
    while net.head(&a.topic) < 4 {
        for device in [&a, &b] {
            device.clock.forward(5_000);
            device.client.status(device.topic).await.unwrap();
        }
    }
    let id = a.say("after").await;
    a.until_acknowledged(id).await;
    let wanted = ["a1", "b1", "a2", "b2", "after"];
    a.until_texts(&wanted).await;
    b.until_texts(&wanted).await;
    assert_eq!(net.head(&a.topic), 5);
    assert_eq!(a.state().await.0, b.state().await.0);
}

#[tokio::test]
async fn case_47_an_operation_of_another_topic_is_dropped() {
    let net = Net::start().await;
    let (one, other) = (ticket(1), ticket(2));
    let mut a = Device::on(&net, 1, &one).await;
    let id = a.say("of one").await;
    a.until_acknowledged(id).await;
    let stolen: Vec<Bytes> =
        net.world().server.envelopes(&a.topic).into_iter().map(|(_, envelope)| envelope).collect();
    let stolen: Vec<&[u8]> = stolen.iter().map(AsRef::as_ref).collect();
    let keys = other.keys();
    net.plant(keys.write_key().unwrap(), &stolen);
    let mut b = Device::on(&net, 2, &other).await;
    b.until_live().await;
    let id = b.say("of the other").await;
    b.until_acknowledged(id).await;
    assert_eq!(b.texts().await, ["of the other"]);
    assert_eq!(net.head(&b.topic), 2);
}

#[tokio::test]
async fn case_48_endless_invalid_operations_cost_a_bounded_budget() {
    let net = Net::start().await;
    let ticket = ticket(1);
    let keys = ticket.keys();
    let rubbish: Vec<Vec<u8>> =
        (0..1500u32).map(|n| [&[5], &n.to_be_bytes()[..], &[7; 300]].concat()).collect();
    for chunk in rubbish.chunks(250) {
        let chunk: Vec<&[u8]> = chunk.iter().map(AsRef::as_ref).collect();
        net.plant(keys.write_key().unwrap(), &chunk);
    }
    let mut a = Device::on(&net, 1, &ticket).await;
    // What lies behind the rubbish is reached nevertheless, over more than one connection.
    let id = a.say("behind it").await;
    a.until_acknowledged(id).await;
    assert_eq!(a.texts().await, ["behind it"]);
    assert!(net.world().requests.len() > 1);
}
