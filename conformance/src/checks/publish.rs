//! Section 9.3: what a client may not say on a socket.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::packets::only_marker;
use super::{Check, check};
use crate::failure::{Checked, equal, equal_lists};
use crate::socket::{Follower, MODES, Mode, raw_header};
use crate::target::Target;
use crate::topic::{Topic, op};

/// Longer than any client message a server may take.
const OVERSIZE: u64 = 10 * 1024 * 1024;

/// See the module.
pub const CHECKS: &[Check] = &[
    check!(
        case_41_publishing_json_is_refused,
        "9.3",
        NoDirectPublish,
        "A JSON text message of type \"op\" is answered with close 1008, and nothing is stored.",
    ),
    check!(
        case_41_publishing_binary_is_refused,
        "9.3",
        Always,
        "A binary message that starts with 02 or 06 is answered with close 1008, and nothing is stored.",
    ),
    check!(
        other_messages_are_refused,
        "9.3",
        Always,
        "Any other client message is answered with close 1002.",
    ),
    check!(
        case_49_deep_nesting_is_refused,
        "9.3",
        Always,
        "A message of 10,000 nested arrays is one that is not allowed: close 1002.",
    ),
    check!(
        case_70_messages_above_the_limit_are_refused,
        "9.3",
        Always,
        "A client message above the frame limit is answered with close 1009, as soon as its length is known.",
    ),
    check!(
        client_messages_of_64_kib_are_read_and_longer_ones_are_not,
        "9.3",
        NoDirectPublish,
        "A client message of 64 KiB is judged by what it says; one byte more is answered with close 1009.",
    ),
    check!(
        case_70_messages_in_one_byte_fragments_are_one_message,
        "9.3",
        NoDirectPublish,
        "A publish in fragments of one byte is a publish: close 1008.",
    ),
    check!(
        direct_publishing_stores_and_echoes,
        "9.3",
        DirectPublish,
        "Where switched on, {\"type\":\"op\",\"data\":…} is stored and its sender gets the echo like everyone.",
    ),
];

fn publish(op: &[u8]) -> String {
    json!({ "type": "op", "data": BASE64_STANDARD.encode(op) }).to_string()
}

/// Sends each message on a socket of its own and demands the close code; the topic stays empty.
async fn each_is_closed(target: &Target, messages: Vec<(String, Message)>, code: u16) -> Checked {
    for mode in MODES {
        for (what, message) in &messages {
            let topic = Topic::fresh();
            let what = format!("{what} on a socket with {} frames", mode.name());
            let mut follower = Follower::start(target, &topic, mode).await?;
            follower.socket.send(message.clone()).await;
            follower.socket.expect_close(&what, code).await?;
            only_marker(target, &what, &topic).await?;
        }
    }
    Ok(())
}

async fn case_41_publishing_json_is_refused(target: &Target) -> Checked {
    let data = BASE64_STANDARD.encode(op(30));
    let texts = [
        publish(&op(30)),
        json!({ "data": data, "type": "op", "seq": 7 }).to_string(),
        format!(" {{ \"type\" : \"op\" , \"data\" : \"{data}\" }} "),
        json!({ "type": "op" }).to_string(),
        json!({ "type": "op", "data": "not base64" }).to_string(),
    ];
    let messages = texts.into_iter().map(|text| (text.clone(), Message::text(text))).collect();
    each_is_closed(target, messages, 1008).await
}

async fn case_41_publishing_binary_is_refused(target: &Target) -> Checked {
    let operation = op(30);
    let ops = [&[2, 0, 1], [0; 16].as_slice(), &[0, 0, 0, 30], &operation].concat();
    let signal = [&[6, 0, 0, 0, 30], operation.as_slice()].concat();
    let messages = [ops, signal, vec![2], vec![6, 1]]
        .into_iter()
        .map(|bytes| (format!("binary {}", hex::encode(&bytes)), Message::binary(bytes)));
    each_is_closed(target, messages.collect(), 1008).await
}

async fn other_messages_are_refused(target: &Target) -> Checked {
    let texts =
        ["", "hello", "{}", "[]", "null", "\"op\"", "{\"type\":1}", "{\"type\":\"ready\",\"head\":1}"];
    let more = ["{\"type\":\"op\"", "{\"type\":[\"op\"]}", "{\"data\":\"aGk=\"}", "[{\"type\":\"op\"}]"];
    let texts = texts.iter().chain(&more).map(|text| (format!("text {text:?}"), Message::text(*text)));
    let binary =
        [vec![], vec![0], vec![1], vec![3; 105], vec![4], vec![5], vec![7], vec![8], vec![0xff; 300]];
    let binary = binary.into_iter().map(|bytes| {
        let what = format!("binary {}", hex::encode(&bytes[..bytes.len().min(8)]));
        (what, Message::binary(bytes))
    });
    each_is_closed(target, texts.chain(binary).collect(), 1002).await
}

async fn case_49_deep_nesting_is_refused(target: &Target) -> Checked {
    let deep = "[".repeat(10_000);
    let closed = format!("{deep}{}", "]".repeat(10_000));
    let messages = vec![
        ("10,000 open arrays".to_owned(), Message::text(deep)),
        ("10,000 nested arrays".to_owned(), Message::text(closed)),
    ];
    each_is_closed(target, messages, 1002).await
}

async fn case_70_messages_above_the_limit_are_refused(target: &Target) -> Checked {
    for mode in MODES {
        for (what, first) in [("text", 0x81), ("binary", 0x82)] {
            let topic = Topic::fresh();
            let mut follower = Follower::start(target, &topic, mode).await?;
            // The length and a first part; a server that waits for the rest waits forever.
            follower.socket.raw(&raw_header(first, OVERSIZE)).await;
            follower.socket.raw(&[b'['; 1000]).await;
            let what = format!("{what} of 10 MiB on a socket with {} frames", mode.name());
            follower.socket.expect_close(&what, 1009).await?;
            only_marker(target, &what, &topic).await?;
        }
    }
    Ok(())
}

async fn client_messages_of_64_kib_are_read_and_longer_ones_are_not(target: &Target) -> Checked {
    for (len, code) in [(64 * 1024, 1002), (64 * 1024 + 1, 1009)] {
        let messages = [Message::text("x".repeat(len)), Message::binary(vec![0xff; len])];
        let messages = messages.into_iter().map(|message| (format!("{len} bytes"), message)).collect();
        each_is_closed(target, messages, code).await?;
    }
    Ok(())
}

async fn case_70_messages_in_one_byte_fragments_are_one_message(target: &Target) -> Checked {
    for mode in MODES {
        let topic = Topic::fresh();
        let mut follower = Follower::start(target, &topic, mode).await?;
        let text = publish(&op(30));
        let mut bytes = Vec::new();
        for (at, byte) in text.bytes().enumerate() {
            let last = at + 1 == text.len();
            // Text first, then continuations; the last one has the final bit.
            let first = u8::from(at == 0) | if last { 0x80 } else { 0 };
            bytes.extend(raw_header(first, 1));
            bytes.push(byte);
        }
        for part in bytes.chunks(7) {
            follower.socket.raw(part).await;
        }
        follower.socket.expect_close("a publish in fragments", 1008).await?;
        only_marker(target, "a publish in fragments", &topic).await?;
    }
    Ok(())
}

async fn direct_publishing_stores_and_echoes(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let mut sender = Follower::start(target, &topic, Mode::Json).await?;
    let mut binary = Follower::start(target, &topic, Mode::Binary).await?;
    let given = [op(30), op(40)];
    // The first one twice: the second time it is a duplicate, and not pushed.
    for operation in [&given[0], &given[0], &given[1]] {
        sender.socket.send(Message::text(publish(operation))).await;
    }
    for follower in [&mut sender, &mut binary] {
        let items = follower.until(2).await?;
        let came: Vec<Vec<u8>> = items.into_iter().map(|item| item.op).collect();
        equal_lists("what came", &came, &given)?;
    }
    equal("operations in the log", &target.log_ops(&topic).await?, &given.to_vec())
}
