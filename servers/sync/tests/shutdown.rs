//! SIGTERM: what is being committed is finished, the rest is refused, nobody holds the server up.

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::{Server, write_key};
use delta_core::topic::TopicId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A half request, a silent client or a reader that stopped would get 30 s and more at another time. Less is for a
/// loaded machine; that the server allows itself less than 10 s of them is checked where its parts are.
const SOON: Duration = Duration::from_secs(25);

/// What a delivery came to.
enum Answer {
    Stored(u64),
    Refused,
    Unknown,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_what_is_being_committed_and_refuses_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let topic = TopicId([5; 32]);
    let server = Server::start(dir.path(), &["--accept-v2"]);
    let address = server.address;
    let shared = Arc::new(server);
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let server = Arc::clone(&shared);
            tokio::spawn(async move {
                let mut told = HashMap::new();
                for n in 0.. {
                    let op = format!("{writer}-{n}").into_bytes();
                    let answer = match server.deliver_json(&topic, &op).await {
                        Ok(answer) if answer.status == 200 => {
                            Answer::Stored(answer.json()["seq"].as_u64().unwrap())
                        }
                        Ok(answer) => {
                            assert_eq!(answer.status, 503, "{}", answer.head);
                            Answer::Refused
                        }
                        Err(_) => Answer::Unknown,
                    };
                    let over = matches!(answer, Answer::Unknown);
                    told.insert(op, answer);
                    if over {
                        break;
                    }
                }
                told
            })
        })
        .collect();
    shared.head_reaches_at_least(&topic, 50).await;
    let pid = shared.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let mut told = HashMap::new();
    for writer in writers {
        told.extend(writer.await.unwrap());
    }
    let server = Arc::into_inner(shared).expect("no writer is left");
    let status = tokio::time::timeout(SOON, tokio::task::spawn_blocking(move || server.wait()));
    assert!(status.await.expect("it ends").unwrap().success());
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");

    let server = Server::start(dir.path(), &[]);
    let mut client = server.subscribe(&topic, "").await;
    client.ready().await;
    let log: HashMap<_, _> = client.ops.iter().map(|op| (op.op.to_vec(), op.seq.0)).collect();
    assert_eq!(log.len(), client.ops.len(), "nothing twice");
    for (op, answer) in &told {
        match answer {
            Answer::Stored(seq) => assert_eq!(log.get(op), Some(seq)),
            Answer::Refused => assert!(!log.contains_key(op), "refused and stored"),
            Answer::Unknown => {}
        }
    }
    assert!(log.keys().all(|op| told.contains_key(op)), "nothing that nobody sent");
}

#[tokio::test]
async fn sigterm_waits_for_no_half_request_silent_connection_or_stuck_reader() {
    const LARGE: usize = 1024 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--accept-v2"]);
    let topic = TopicId([5; 32]);
    let mut held = Vec::new();
    for half in [
        "",
        "GET /info HTTP/1.1\r\nHost: x\r\n",
        "POST /deliver HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 4096\r\n\r\nxx",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        held.push(stream);
    }
    let mut stuck = server.subscribe(&topic, "").await;
    stuck.ready().await;
    // More than the system's buffers hold: the server is in the middle of a write.
    for n in 0..16u8 {
        assert_eq!(server.deliver_json(&topic, &vec![n; LARGE]).await.unwrap().status, 200);
    }
    let key = write_key(1);
    let mut well = server.subscribe(&key.topic(), "").await;
    well.ready().await;
    let ended = tokio::task::spawn_blocking(move || server.terminate());
    assert_eq!(well.close_code().await, 1012);
    let status = tokio::time::timeout(SOON, ended).await.expect("it ends").unwrap();
    assert!(status.success());
    drop((held, stuck));
}

#[tokio::test]
async fn who_asks_for_a_topic_while_the_server_stops_is_not_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let topic = TopicId([5; 32]);
    let mut late = TcpStream::connect(server.address).await.unwrap();
    late.write_all(format!("GET /topic/{topic} HTTP/1.1\r\nHost: x\r\n").as_bytes()).await.unwrap();
    let mut reader = server.subscribe(&topic, "").await;
    reader.ready().await;
    let ended = tokio::task::spawn_blocking(move || server.terminate());
    assert_eq!(reader.close_code().await, 1012);
    let rest = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut answer = String::new();
    // On a loaded machine it may come too late for an answer: then the connection is cut.
    if late.write_all(rest.as_bytes()).await.is_ok() {
        let _ = late.read_to_string(&mut answer).await;
    }
    let refused =
        answer.starts_with("HTTP/1.1 503") && answer.to_lowercase().contains("\r\nretry-after: 1\r\n");
    assert!(answer.is_empty() || refused, "{answer}");
    assert!(ended.await.unwrap().success());
}
