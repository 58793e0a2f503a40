//! `delta history`, against a server that is a page of text.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use delta_core::entropy::SeededEntropy;
use delta_core::ops::{Body, Content, DeviceKey, Ticket, create};
use serde_json::{Value, json};

use crate::support::delta;

/// Answers one request; ends with its first line.
fn answering(status: &str, body: &str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = stream.read(&mut buffer).unwrap();
            request.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap().lines().next().unwrap().to_owned()
    });
    (url, thread)
}

#[test]
fn what_is_valid_is_printed_and_what_is_not_is_named() {
    let ticket = Ticket::generate_public(&mut SeededEntropy::new([1; 32])).unwrap();
    let key = DeviceKey::from_bytes(&[2; 32]);
    let content = Content::MessageSend {
        text: "red\u{1b} apples".to_owned(),
        reply: None,
        mentions: Vec::new(),
        attachments: Vec::new(),
    };
    let made = create(&key, ticket.log(), 0, None, &Body::new(content)).unwrap();
    let good = ticket.keys().seal(made.header(), made.body_bytes()).unwrap();
    let mut forged = good.clone();
    forged[3 + 101] ^= 1;
    let author = key.author().to_string();
    let entry = |seq: u64, author: &str, op: &[u8]| json!({ "seq": seq, "received_ms": 7, "author": author, "data": STANDARD.encode(op) });
    let ops = [entry(3, &author, &good), entry(4, &author, &forged), entry(5, &"ab".repeat(32), &good)];
    let page = json!({ "generation": "00".repeat(16), "indexed": 5, "ops": ops }).to_string();
    let (ticket, topic) = (ticket.to_string(), ticket.topic());

    let (url, asked) = answering("200 OK", &page);
    let done = delta(
        &["history", "--ticket", &ticket, "--sync", &url, "--search", "red apples", "--limit", "3"],
        b"",
    );
    assert_eq!(done.code, 0, "{}", done.err());
    assert_eq!(done.out(), format!("     3  {}  red\u{fffd} apples\n", &author[..8]));
    assert!(done.err().contains("operation 4") && done.err().contains("operation 5"), "{}", done.err());
    assert_eq!(asked.join().unwrap(), format!("GET /topic/{topic}/search?q=red+apples&limit=3 HTTP/1.1"));

    let (url, _) = answering("200 OK", &page);
    let done = delta(&["history", "--json", "--ticket", &ticket, "--sync", &format!("{url}#00")], b"");
    let line: Value = serde_json::from_str(done.out().trim()).unwrap();
    assert_eq!(
        (&line["author"], &line["text"], &line["seq"]),
        (&json!(author), &json!("red\u{1b} apples"), &json!(3))
    );
}

#[test]
fn a_deleted_channel_and_a_private_topic_are_said() {
    let public = Ticket::generate_public(&mut SeededEntropy::new([1; 32])).unwrap().to_string();
    let (url, _) = answering("410 Gone", "{}");
    delta(&["history", "--ticket", &public, "--sync", &url], b"").assert_failed("deleted");
    let private = Ticket::generate_private(&mut SeededEntropy::new([1; 32])).unwrap().to_string();
    let done = delta(&["history", "--ticket", &private, "--sync", &url], b"");
    assert_eq!(done.code, 2);
    assert!(done.err().contains("private"), "{}", done.err());
}
