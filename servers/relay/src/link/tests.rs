use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use delta_server_shell::connect::{SystemResolver, Timeouts};

const SHORT: Timeouts = Timeouts { connect: Duration::from_secs(10), total: Duration::from_millis(200) };
const LONG: Timeouts = Timeouts { connect: Duration::from_secs(10), total: Duration::from_secs(60) };

struct Setup {
    connector: Connector<SystemResolver>,
    listener: TcpListener,
    to: Arc<Destination>,
}

async fn setup(timeouts: Timeouts) -> Setup {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let to = Arc::new(Destination::new(&base, "/hop").unwrap());
    Setup { connector: Connector::new(SystemResolver, true, timeouts).unwrap(), listener, to }
}

/// Reads a request with a body of `len` bytes and returns its head.
async fn read_request(stream: &mut TcpStream, len: usize) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.unwrap();
    String::from_utf8(head).unwrap()
}

#[test]
fn only_answers_that_may_change_are_tried_again() {
    let cases = [
        (200, Outcome::Delivered),
        (202, Outcome::Delivered),
        (299, Outcome::Delivered),
        (301, Outcome::Refused),
        (307, Outcome::Refused),
        (400, Outcome::Refused),
        (404, Outcome::Refused),
        (413, Outcome::Refused),
        (429, Outcome::Unreachable),
        (500, Outcome::Unreachable),
        (503, Outcome::Unreachable),
        (599, Outcome::Unreachable),
    ];
    for (status, outcome) in cases {
        assert_eq!(judge(StatusCode::from_u16(status).unwrap()), outcome, "{status}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let Setup { connector, listener, to } = setup(LONG).await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..3 {
            let head = read_request(&mut stream, 5).await;
            assert!(head.starts_with("POST /hop HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("content-type: application/octet-stream\r\n"), "{head}");
            assert!(head.contains("content-length: 5\r\n"), "{head}");
            stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    };
    let client = async {
        let mut link = None;
        for _ in 0..3 {
            let outcome = send(&connector, &mut link, &to, PACKET, &Bytes::from_static(b"12345")).await;
            assert_eq!(outcome, Outcome::Delivered);
        }
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced_within_the_same_try() {
    let Setup { connector, listener, to } = setup(LONG).await;
    let server = async {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream, 1).await;
            stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    };
    let client = async {
        let mut link = None;
        for _ in 0..2 {
            let outcome = send(&connector, &mut link, &to, PACKET, &Bytes::from_static(b"1")).await;
            assert_eq!(outcome, Outcome::Delivered);
        }
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn a_cut_connection_and_a_closed_port_are_tried_again_later() {
    let Setup { connector, listener, to } = setup(LONG).await;
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream, 1).await;
        drop(stream);
        drop(listener);
    };
    let mut link = None;
    let packet = Bytes::from_static(b"1");
    let (outcome, ()) = tokio::join!(send(&connector, &mut link, &to, PACKET, &packet), server);
    assert_eq!(outcome, Outcome::Unreachable);
    assert_eq!(send(&connector, &mut link, &to, PACKET, &packet).await, Outcome::Unreachable);
    assert!(link.is_none());
}

#[tokio::test]
async fn case_31_a_node_that_never_answers_is_given_up() {
    let Setup { connector, listener, to } = setup(SHORT).await;
    let mut link = None;
    let packet = Bytes::from_static(b"1");
    let (outcome, accepted) =
        tokio::join!(send(&connector, &mut link, &to, PACKET, &packet), listener.accept());
    assert_eq!(outcome, Outcome::Unreachable);
    assert!(link.is_none());
    // The connection is closed: the silent node reads the request and then the end.
    let (mut stream, _) = accepted.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test]
async fn case_31_an_endless_body_is_cut_and_an_endless_head_is_given_up() {
    for (head, outcome) in [
        ("HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n", Outcome::Delivered),
        ("HTTP/1.1 202 Accepted\r\n", Outcome::Unreachable),
    ] {
        let Setup { connector, listener, to } = setup(LONG).await;
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream, 1).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            // A chunk of 64 bytes, or a header of as many, until the other side has had enough.
            let chunk = format!("40\r\n{}\r\n", "x".repeat(64));
            let header = format!("x: {}\r\n", "x".repeat(64));
            let endless = if outcome == Outcome::Delivered { chunk } else { header };
            while stream.write_all(endless.as_bytes()).await.is_ok() {}
        };
        let client = async {
            let mut link = None;
            let result = send(&connector, &mut link, &to, PACKET, &Bytes::from_static(b"1")).await;
            drop(link);
            result
        };
        let (result, ()) = tokio::join!(client, server);
        assert_eq!(result, outcome);
    }
}

#[tokio::test]
async fn case_30_a_redirect_is_not_followed() {
    let Setup { connector, listener, to } = setup(LONG).await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = elsewhere.local_addr().unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream, 1).await;
        let answer =
            format!("HTTP/1.1 307 Go\r\nlocation: http://{location}/hop\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    };
    let mut link = None;
    let packet = Bytes::from_static(b"1");
    let client = send(&connector, &mut link, &to, PACKET, &packet);
    tokio::select! {
        biased;
        _ = elsewhere.accept() => panic!("the redirect was followed"),
        (outcome, ()) = async { tokio::join!(client, server) } => assert_eq!(outcome, Outcome::Refused),
    }
}
