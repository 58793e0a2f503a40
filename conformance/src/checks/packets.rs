//! Sections 3 and 8: what `/deliver` answers to packets, and which of them leave something behind.

use delta_core::identity::NodeId;
use delta_core::onion::v3::{self, Hop, OnionKey, OnionSecret, Terminal};

use super::{Check, check};
use crate::failure::{Checked, Failure, ensure, equal};
use crate::http::{Answer, Body};
use crate::packet::{OVERHEAD, SIZES, Sealed, slot};
use crate::random::{self, Platform};
use crate::target::{OCTETS, Target};
use crate::topic::{Content, Topic, op};

/// See the module.
pub const CHECKS: &[Check] = &[
    check!(
        case_01_good_and_bad_packets_get_the_same_answer,
        "8",
        Always,
        "A packet of a class size gets a constant 202: good, tampered, replayed, misaddressed; same headers and body.",
    ),
    check!(
        case_07_only_class_sizes_are_taken,
        "8",
        Always,
        "A length that is no class size is answered 400."
    ),
    check!(
        case_07_longer_packets_are_refused_before_they_are_read,
        "8",
        Always,
        "A length above the largest class is answered 413, also when the bytes never come.",
    ),
    check!(chunked_packets_are_refused, "8", Always, "A packet without a length is answered 411."),
    check!(
        every_class_is_taken,
        "3, 8",
        Everlasting,
        "Content of every class is delivered, up to the class's capacity.",
    ),
    check!(
        case_01_tampered_packets_leave_nothing,
        "3.4",
        Always,
        "A packet with any byte changed is dropped and changes nothing.",
    ),
    check!(
        case_08_class_and_version_must_be_right,
        "3.4",
        Always,
        "A CLASS that contradicts the length, or a VER other than 03, drops the packet.",
    ),
    check!(
        case_10_packets_for_another_node_leave_nothing,
        "3.4",
        Always,
        "A KID that is none of the node's, or a seal for another key, drops the packet.",
    ),
    check!(
        case_12_reserved_slot_bytes_must_be_zero,
        "3.1",
        Always,
        "Reserved bytes of the slot are zero, also under a seal that opens.",
    ),
    check!(
        case_13_unknown_slot_types_leave_nothing,
        "3.1, 3.4",
        Always,
        "The server drops slots of type 01 and of unknown types; a drop (03) is forgotten.",
    ),
    check!(
        case_16_content_longer_than_the_packet_is_refused,
        "3.4",
        Always,
        "A content length above N − 628 is refused; at N − 628 it is taken.",
    ),
    check!(
        case_05_06_low_order_and_non_canonical_keys_leave_nothing,
        "3.4",
        Always,
        "An EPK of low order or not canonical drops the packet.",
    ),
];

/// Headers that say nothing about the packet: the time, and what a proxy in front adds.
const NEUTRAL: [&str; 6] = ["date", "cf-ray", "report-to", "nel", "server-timing", "alt-svc"];

fn seen(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let mut headers = answer.headers.clone();
    headers.retain(|(name, _)| !NEUTRAL.contains(&name.as_str()));
    (answer.status, headers, hex::encode(&answer.body))
}

/// Delivers each packet, then an operation to the same topic, and demands that the topic holds that operation alone.
async fn leave_nothing(target: &Target, packets: Vec<(String, Topic, Vec<u8>)>) -> Checked {
    for (what, topic, packet) in packets {
        target.deliver_packet(&packet).await.map_err(|failure| failure.within(&what))?;
        only_marker(target, &what, &topic).await?;
    }
    Ok(())
}

/// Delivers an operation and demands that the topic holds nothing else.
pub async fn only_marker(target: &Target, what: &str, topic: &Topic) -> Checked {
    let marker = op(24);
    target.deliver_op(topic, &marker).await?;
    target.wait_head(topic, 1).await?;
    let log = target.log_ops(topic).await?;
    let got = format!("{} operations, the first of {} bytes", log.len(), log.first().map_or(0, Vec::len));
    ensure(log == [marker], format!("the topic after {what}"), "a later operation alone", got)
}

async fn case_01_good_and_bad_packets_get_the_same_answer(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let right = || Content::right(&topic, 0, &op(40));
    let good = target.pack(&right().encode())?;
    let answer = target.post_packet(&good).await?;
    equal("the status for a good packet", &answer.status, &202)?;
    let expected = seen(&answer);

    let mut tampered = target.pack(&right().encode())?;
    tampered[2000] ^= 1;
    let mut contradicting = tampered.clone();
    contradicting[1] = 4;
    let mut old = tampered.clone();
    old[0] = 2;
    let mut forged = right();
    forged.key = Topic::fresh().key.signing_key();
    let others = [
        ("a replayed packet", good),
        ("a tampered packet", tampered),
        ("a packet whose CLASS contradicts its length", contradicting),
        ("a packet of version 2", old),
        ("random bytes", random::bytes(SIZES[0])),
        ("zeros", vec![0; SIZES[1]]),
        ("a bad write signature", target.pack(&forged.encode())?),
        ("an empty operation", target.pack(&Content::right(&topic, 0, &[]).encode())?),
        ("a drop", Sealed { slot: slot(3, 0), ..Sealed::deliver(&[]) }.encode(&target.key)),
        ("a packet to forward", forwarding(target, &[])?),
    ];
    for (what, packet) in others {
        equal(format!("the answer to {what}"), &seen(&target.post_packet(&packet).await?), &expected)?;
    }
    Ok(())
}

async fn case_07_only_class_sizes_are_taken(target: &Target) -> Checked {
    let around = SIZES.iter().flat_map(|size| [size - 1, size + 1]).filter(|len| *len < SIZES[4]);
    for len in [0, 1, 51, 52].into_iter().chain(around) {
        let answer = target.post("/deliver", OCTETS, Body::Bytes(&vec![3; len])).await?;
        equal(format!("the status for {len} bytes"), &answer.status, &400)?;
    }
    Ok(())
}

async fn case_07_longer_packets_are_refused_before_they_are_read(target: &Target) -> Checked {
    for len in [SIZES[4] as u64 + 1, 2 << 30, i64::MAX as u64] {
        let answer = target.post("/deliver", OCTETS, Body::Announced(len)).await?;
        equal(format!("the status for {len} bytes"), &answer.status, &413)?;
    }
    Ok(())
}

async fn chunked_packets_are_refused(target: &Target) -> Checked {
    let answer = target.post("/deliver", OCTETS, Body::Chunked(&[3; 4096])).await?;
    equal("the status for a chunked body", &answer.status, &411)
}

async fn every_class_is_taken(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let mut delivered = Vec::new();
    for (class, size) in SIZES.into_iter().enumerate() {
        // The deliver content adds 132 bytes; class 4 has room for more than an operation may have.
        let largest = (size - OVERHEAD - 132).min(crate::frame::MAX_OP);
        let operation = op(largest);
        let packet = target.pack(&Content::right(&topic, 0, &operation).encode())?;
        equal(format!("the size of a packet of class {class}"), &packet.len(), &size)?;
        target.deliver_packet(&packet).await?;
        delivered.push(operation);
        target.wait_head(&topic, delivered.len() as u64).await?;
    }
    ensure(target.log_ops(&topic).await? == delivered, "the log", "the operations as delivered", "others")
}

async fn case_01_tampered_packets_leave_nothing(target: &Target) -> Checked {
    let mut packets = Vec::new();
    for at in [4, 20, 34, 36, 51, 52, 60, 147, 148, 500, 4095] {
        let topic = Topic::fresh();
        let mut packet = target.pack(&Content::right(&topic, 0, &op(40)).encode())?;
        packet[at] ^= 0x10;
        packets.push((format!("a packet with byte {at} changed"), topic, packet));
    }
    leave_nothing(target, packets).await
}

async fn case_08_class_and_version_must_be_right(target: &Target) -> Checked {
    let mut packets = Vec::new();
    for (version, class) in [(3, 1), (3, 4), (3, 5), (3, 255), (0, 0), (1, 0), (2, 0), (4, 0), (255, 0)] {
        let topic = Topic::fresh();
        let content = Content::right(&topic, 0, &op(40)).encode();
        let packet = Sealed { version, class, ..Sealed::deliver(&content) }.encode(&target.key);
        packets.push((
            format!("a packet of version {version} and class {class} in 4096 bytes"),
            topic,
            packet,
        ));
    }
    leave_nothing(target, packets).await
}

async fn case_10_packets_for_another_node_leave_nothing(target: &Target) -> Checked {
    let mut packets = Vec::new();
    for (what, key) in [
        ("a packet with an unknown KID", OnionKey { kid: target.key.kid.wrapping_add(7), ..target.key }),
        ("a packet sealed to another key", OnionSecret::from_bytes(target.key.kid, random::array()).public()),
    ] {
        let topic = Topic::fresh();
        let content = Content::right(&topic, 0, &op(40)).encode();
        packets.push((what.to_owned(), topic, Sealed::deliver(&content).encode(&key)));
    }
    leave_nothing(target, packets).await
}

async fn case_12_reserved_slot_bytes_must_be_zero(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let content = Content::right(&topic, 0, &op(40)).encode();
    target.deliver_packet(&Sealed::deliver(&content).encode(&target.key)).await?;
    target.wait_head(&topic, 1).await.map_err(|failure| failure.within("a slot that is right"))?;

    let mut packets = Vec::new();
    for at in [1, 2, 3, 8, 48, 95] {
        let topic = Topic::fresh();
        let content = Content::right(&topic, 0, &op(40)).encode();
        let mut sealed = Sealed::deliver(&content);
        sealed.slot[at] = 1;
        packets.push((format!("a slot with reserved byte {at} set"), topic, sealed.encode(&target.key)));
    }
    leave_nothing(target, packets).await
}

async fn case_13_unknown_slot_types_leave_nothing(target: &Target) -> Checked {
    let mut packets = Vec::new();
    for kind in [0, 1, 3, 4, 255] {
        let topic = Topic::fresh();
        let content = Content::right(&topic, 0, &op(40)).encode();
        let mut sealed = Sealed::deliver(&content);
        sealed.slot[0] = kind;
        packets.push((format!("a slot of type {kind:02x}"), topic, sealed.encode(&target.key)));
    }
    let topic = Topic::fresh();
    let inner = Content::right(&topic, 0, &op(40)).encode();
    let packet = forwarding(target, &inner)?;
    packets.push(("a packet for the server to forward to itself".to_owned(), topic, packet));
    leave_nothing(target, packets).await
}

async fn case_16_content_longer_than_the_packet_is_refused(target: &Target) -> Checked {
    let capacity = SIZES[0] - OVERHEAD;
    let topic = Topic::fresh();
    let fits = Content::right(&topic, 0, &op(capacity - 132)).encode();
    target.deliver_packet(&Sealed::deliver(&fits).encode(&target.key)).await?;
    target.wait_head(&topic, 1).await.map_err(|failure| failure.within("content of the whole capacity"))?;

    let mut packets = Vec::new();
    for len in [capacity as u32 + 1, 4096, u32::MAX] {
        let topic = Topic::fresh();
        // One byte more than the capacity, rightly signed; REST has room for it, the length of any path has not.
        let content = Content::right(&topic, 0, &op(capacity + 1 - 132)).encode();
        let sealed = Sealed { class: 0, size: SIZES[0], slot: slot(2, len), ..Sealed::deliver(&content) };
        packets.push((format!("content of {len} bytes in class 0"), topic, sealed.encode(&target.key)));
    }
    leave_nothing(target, packets).await
}

async fn case_05_06_low_order_and_non_canonical_keys_leave_nothing(target: &Target) -> Checked {
    // 0, 1, p − 1, p, p + 1 and 2^256 − 1: each is of low order or not canonical (RFC 7748, sections 5 and 6.1).
    let near_p = |low: u8| {
        let mut key = [0xff; 32];
        (key[0], key[31]) = (low, 0x7f);
        key
    };
    let mut one = [0; 32];
    one[0] = 1;
    let mut packets = Vec::new();
    for epk in [[0; 32], one, near_p(0xec), near_p(0xed), near_p(0xee), [0xff; 32]] {
        let topic = Topic::fresh();
        let mut packet = target.pack(&Content::right(&topic, 0, &op(40)).encode())?;
        packet[4..36].copy_from_slice(&epk);
        packets.push((format!("EPK {}", hex::encode(epk)), topic, packet));
    }
    let topic = Topic::fresh();
    let mut packet = target.pack(&Content::right(&topic, 0, &op(40)).encode())?;
    packet[35] |= 0x80;
    packets.push(("EPK with its top bit set".to_owned(), topic, packet));
    leave_nothing(target, packets).await
}

/// A packet of two layers, both for the server.
fn forwarding(target: &Target, content: &[u8]) -> Checked<Vec<u8>> {
    let hop = Hop { node: NodeId(target.node.to_bytes()), key: target.key, delay: 0 };
    v3::wrap(&[hop.clone(), hop], Terminal::Deliver(content), &mut Platform)
        .map_err(|error| Failure::new("building a packet", "a packet", error.to_string()))
}
