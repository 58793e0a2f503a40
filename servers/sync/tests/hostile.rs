//! Hostile and unlucky clients: everything stays bounded, nobody else notices.

mod common;

use common::{Server, write_key};
use delta_core::onion::control::{Action, Control, Metadata};
use delta_core::onion::deliver;
use delta_core::sync::frame::Frame;
use delta_core::topic::TopicId;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{self, Message};

/// The default of the limit `frame_bytes`.
const FRAME_BYTES: usize = 65_536;

#[tokio::test]
async fn case_70_an_oversized_message_is_closed_with_1009_without_reading_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let topic = TopicId([5; 32]);
    let mut client = server.subscribe(&topic, "").await;
    client.ready().await;
    // The server answers to the announced length; it may cut the connection before all is written.
    let _ = client.socket.send(Message::binary(vec![1; 10 * 1024 * 1024])).await;
    let mut code = None;
    while let Some(Ok(message)) = client.socket.next().await {
        if let Message::Close(Some(close)) = message {
            code = Some(u16::from(close.code));
        }
    }
    assert!(matches!(code, Some(1009) | None), "{code:?}");
    let at_limit = Message::text("x".repeat(FRAME_BYTES));
    let past_limit = Message::text("x".repeat(FRAME_BYTES + 1));
    for (message, code) in [(at_limit, 1002), (past_limit, 1009)] {
        let mut client = server.subscribe(&topic, "").await;
        client.ready().await;
        client.send(message).await;
        assert_eq!(client.close_code().await, code);
    }
}

#[tokio::test]
async fn case_70_a_flood_of_pings_is_closed_with_1013() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.subscribe(&TopicId([5; 32]), "").await;
    client.ready().await;
    for _ in 0..1000 {
        if client.socket.send(Message::Ping(vec![0; 100].into())).await.is_err() {
            break;
        }
    }
    let mut code = None;
    while let Some(Ok(message)) = client.socket.next().await {
        if let Message::Close(Some(close)) = message {
            code = Some(u16::from(close.code));
        }
    }
    assert_eq!(code, Some(1013));
}

#[tokio::test]
async fn case_70_one_byte_fragments_are_bounded_and_hurt_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let key = write_key(1);
    let mut bystander = server.subscribe(&key.topic(), "").await;
    bystander.ready().await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let head = common::upgrade_head(&key.topic());
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    // A text message that never ends, one masked byte a frame.
    let mut flood = vec![0x01, 0x81, 0, 0, 0, 0, b'x'];
    (0..100_000).for_each(|_| flood.extend_from_slice(&[0x00, 0x81, 0, 0, 0, 0, b'x']));
    let _ = stream.write_all(&flood).await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    server.deliver(&key, &[b"unaffected"], 1).await;
    bystander.reach(1).await;
    common::eventually("sockets", async || server.metric("delta_sync_sockets").await == 1).await;
}

#[tokio::test]
async fn case_70_connections_and_subscribes_of_one_address_are_limited() {
    let dir = tempfile::tempdir().unwrap();
    let limits = ["--limit", "connections_per_address=20,subscribes_per_second_per_address=0"];
    let server = Server::start(dir.path(), &limits);
    let topic = TopicId([5; 32]);
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..50 {
        match server.try_subscribe(&topic, "").await {
            Ok(client) => open.push(client),
            Err(tungstenite::Error::Http(response)) => {
                assert_eq!(response.status(), 429);
                assert!(response.headers().contains_key("Retry-After"));
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(open.len() <= 20 && open.len() + refused == 50, "{} open", open.len());
    for client in &mut open {
        client.ready().await;
    }
    drop(open);
    common::eventually("a place", async || server.try_subscribe(&topic, "").await.is_ok()).await;
    drop(server);

    let server = Server::start(dir.path(), &["--limit", "subscribes_per_second_per_address=5"]);
    // However slow this machine is, it subscribes more than five times in some second.
    common::eventually("a refusal", async || match server.try_subscribe(&topic, "").await {
        Err(tungstenite::Error::Http(response)) => {
            assert_eq!(response.status(), 429);
            true
        }
        _ => false,
    })
    .await;
}

/// Many readers come from the address of a relay that carries them.
#[tokio::test]
async fn a_trusted_relay_is_not_bound_by_what_one_address_may_use() {
    let dir = tempfile::tempdir().unwrap();
    let limits = "connections_per_address=5,subscribes_per_second_per_address=5";
    let server = Server::start(dir.path(), &["--limit", limits, "--trusted-relays", "127.0.0.0/8"]);
    let mut open = Vec::new();
    for index in 0..50 {
        open.push(server.try_subscribe(&TopicId([index; 32]), "").await.unwrap());
    }
    for client in &mut open {
        client.ready().await;
    }
    drop((open, server));
    let server = Server::start(dir.path(), &["--limit", limits, "--trusted-relays", "192.0.2.7"]);
    let mut open = Vec::new();
    for _ in 0..20 {
        open.extend(server.try_subscribe(&TopicId([5; 32]), "").await.ok());
    }
    assert!(open.len() <= 5, "another address is: {} open", open.len());
}

/// The stalled bodies come from 127.0.0.1, the bystander's from 127.0.0.2.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn case_70_bodies_that_never_come_hold_the_share_of_their_address_and_others_deliver() {
    const SIZE: usize = 65_536;
    let dir = tempfile::tempdir().unwrap();
    let limits = ["--limit", "bytes_in_flight=262144,upload_bytes_per_address=65536"];
    let server = Server::start(dir.path(), &limits);
    let head = format!("POST /deliver HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n");
    let stall = async || {
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&[head.as_bytes(), &[3; 100]].concat()).await.unwrap();
        stream
    };
    let status = async |stream: &mut tokio::net::TcpStream| {
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        String::from_utf8_lossy(&status).into_owned()
    };
    let held = stall().await;
    let in_flight = async || server.metric("delta_sync_in_flight_bytes").await;
    common::eventually("a stalled body", async || in_flight().await == SIZE as u64).await;
    for _ in 0..8 {
        assert_eq!(status(&mut stall().await).await, "HTTP/1.1 503");
    }
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut bystander = socket.connect(server.address).await.unwrap();
    bystander.write_all(&[head.as_bytes(), &[3; SIZE]].concat()).await.unwrap();
    assert_eq!(status(&mut bystander).await, "HTTP/1.1 202");
    drop(held);
    common::eventually("all given back", async || in_flight().await == 0).await;
}

/// The flood comes from 127.0.0.1, the bystander from 127.0.0.2.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_70_ten_thousand_subscribes_of_one_address_are_bounded_and_others_are_unaffected() {
    const TASKS: usize = 50;
    const SUBSCRIBES: usize = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let key = write_key(1);
    let elsewhere = async || {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        socket.connect(server.address).await.unwrap()
    };
    let mut bystander = server.subscribe_over(elsewhere().await, &key.topic()).await;
    bystander.ready().await;
    let (head, address) = (common::upgrade_head(&TopicId([5; 32])), server.address);
    let flood: Vec<_> = (0..TASKS)
        .map(|_| {
            let head = head.clone();
            tokio::spawn(async move {
                let mut open = Vec::new();
                for _ in 0..SUBSCRIBES / TASKS {
                    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                    let _ = stream.write_all(head.as_bytes()).await;
                    let mut status = [0; 12];
                    // Who is refused before asking may find the connection cut instead of an answer.
                    match stream.read_exact(&mut status).await.map(|_| &status) {
                        Ok(b"HTTP/1.1 101") => open.push(stream),
                        Ok(b"HTTP/1.1 429") | Err(_) => {}
                        Ok(other) => panic!("{}", String::from_utf8_lossy(other)),
                    }
                }
                open
            })
        })
        .collect();
    let mut open = Vec::new();
    for task in flood {
        open.extend(task.await.unwrap());
    }
    assert!((1..=1024).contains(&open.len()), "{} open", open.len());
    let content = delta_core::onion::deliver::encode_operation(&key, b"unaffected").unwrap();
    let packet = server.packet(&content, 1);
    let mut stream = elsewhere().await;
    let post = format!(
        "POST /deliver HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        packet.len()
    );
    stream.write_all(&[post.as_bytes(), &packet].concat()).await.unwrap();
    bystander.reach(1).await;
    drop(open);
    common::eventually("a place", async || server.try_subscribe(&key.topic(), "").await.is_ok()).await;
}

#[tokio::test]
async fn case_70_a_reader_that_stops_is_told_slow_and_closed_and_others_go_on() {
    const LARGE: usize = 1024 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--accept-v2"]);
    let topic = TopicId([5; 32]);
    let mut slow = server.subscribe(&topic, "").await;
    let mut quick = server.subscribe(&topic, "").await;
    slow.ready().await;
    quick.ready().await;
    // More than the system's buffers and the live buffer hold.
    for n in 1..=32u8 {
        assert_eq!(server.deliver_json(&topic, &vec![n; LARGE]).await.unwrap().status, 200);
        quick.reach(n.into()).await;
    }
    server.metric_reaches("delta_sync_stalls_total", 1).await;
    let mut told = false;
    let code = loop {
        match slow.message().await {
            Message::Binary(bytes) => told |= matches!(Frame::decode(bytes), Ok(Frame::Slow { .. })),
            Message::Close(Some(close)) => break u16::from(close.code),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((told, code), (true, 1013));
    // It comes back and has missed nothing.
    let mut again = server.subscribe(&topic, "").await;
    again.reach(32).await;
    assert_eq!(again.ops.len(), 32);
}

#[tokio::test]
async fn case_70_connections_of_all_addresses_together_are_limited() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--limit", "connections=2"]);
    let key = write_key(1);
    let mut held = vec![server.subscribe(&key.topic(), "").await, server.subscribe(&key.topic(), "").await];
    for client in &mut held {
        client.ready().await;
    }
    let ask = async || common::request(server.address, "GET", "/health", &[], &[]).await;
    // Who is refused before asking may find the connection cut instead of an answer.
    assert!(ask().await.map_or(true, |answer| answer.status == 503));
    held.pop();
    common::eventually("a place", async || ask().await.is_ok_and(|answer| answer.status == 200)).await;
}

#[tokio::test]
async fn too_many_deliveries_to_a_topic_get_429_and_other_topics_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--accept-v2", "--limit", "deliveries_per_topic_per_minute=1"]);
    let (topic, other) = (TopicId([5; 32]), TopicId([6; 32]));
    assert_eq!(server.deliver_json(&topic, b"one").await.unwrap().status, 200);
    let refused = server.deliver_json(&topic, b"more").await.unwrap();
    assert_eq!(refused.status, 429);
    assert!(refused.header("Retry-After").unwrap().parse::<u64>().unwrap() <= 60);
    assert_eq!(server.deliver_json(&other, b"more").await.unwrap().status, 200);
}

/// After 1000 operations, a refused packet, a control message and a search, at the most talkative level, in both forms.
#[tokio::test]
async fn case_73_logs_hold_no_address_topic_key_or_hash() {
    for format in ["text", "json"] {
        let dir = tempfile::tempdir().unwrap();
        let (data, log) = (dir.path().join("data"), dir.path().join("log"));
        let (key, channel) = (write_key(0xA7), write_key(0xA8));
        let topic = key.topic();
        let server = Server::start_logged(&data, &log, &["--log-format", format]);
        let mut client = server.subscribe(&topic, "").await;
        client.ready().await;
        for batch in 0..20u64 {
            let ops: Vec<Vec<u8>> = (0..50u64).map(|n| (batch * 50 + n).to_be_bytes().to_vec()).collect();
            server.deliver(&key, &ops.iter().map(Vec::as_slice).collect::<Vec<_>>(), batch).await;
        }
        client.reach(1000).await;
        server.get(&format!("/topic/{topic}/ops")).await;
        let about = Metadata { name: "Garden".to_owned(), description: None };
        let control = Control { counter: 1, action: Action::Metadata(about) };
        let content = deliver::encode_control(&channel, &control).unwrap();
        server.post("/deliver", "application/octet-stream", &server.packet(&content, 99)).await;
        server.metric_reaches("delta_sync_controls_total", 1).await;
        server.get(&format!("/topic/{}/search?q=apple", channel.topic())).await;
        server.post("/deliver", "application/octet-stream", &[3; 4096]).await;
        server.metric_reaches("delta_sync_packets_dropped_total{reason=\"seal\"}", 1).await;
        let metrics = common::request(server.admin, "GET", "/metrics", &[], &[]).await.unwrap().text();
        assert!(server.terminate().success());
        let logged = std::fs::read_to_string(&log).unwrap();
        assert!(logged.contains("stopped"), "{format}: {logged}");
        for line in logged.lines().filter(|_| format == "json") {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(value["level"].is_string() && value["message"].is_string(), "{line}");
        }
        let hash = delta_core::identity::EnvelopeHash::of(&7u64.to_be_bytes()).to_string();
        let ids = [topic, channel.topic()].map(|topic| topic.to_string());
        let keys = [&key, &channel].map(|key| key.verifying_key().to_string());
        for secret in ids.iter().chain(&keys).chain([&hash, &"127.0.0.1".to_owned()]) {
            for length in [8, secret.len()] {
                let found = logged.contains(&secret[..length]) || metrics.contains(&secret[..length]);
                assert!(!found, "{secret} in {logged}{metrics}");
            }
        }
    }
}
