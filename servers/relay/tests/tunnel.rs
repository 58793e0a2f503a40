//! `GET /tunnel`: bytes to a sync server of the directory, and to nothing else.

mod support;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use delta_core::identity::NodeId;
use delta_core::onion::directory::NodeKind;
use futures_util::{SinkExt, StreamExt};
use support::{Net, PATIENCE, Played, Relay, get, sync};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

type Socket = WebSocketStream<TcpStream>;

/// Opens a tunnel; on a refusal its status.
async fn open(relay: SocketAddr, query: &str) -> Result<Socket, u16> {
    let request = format!("ws://{relay}/tunnel{query}").into_client_request().unwrap();
    let stream = TcpStream::connect(relay).await.unwrap();
    match client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn open_to(relay: &Relay, to: NodeId) -> Socket {
    open(relay.address, &format!("?to={to}")).await.unwrap()
}

/// The test client: a byte stream through a tunnel.
fn stream(mut socket: Socket) -> DuplexStream {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => far.write_all(&bytes).await?,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    _ => return io::Result::Ok(()),
                },
                read = far.read(&mut buffer) => match read? {
                    0 => {
                        let _ = socket.close(None).await;
                        return Ok(());
                    }
                    len => socket.send(Message::binary(buffer[..len].to_vec())).await.map_err(io::Error::other)?,
                },
            }
        }
    });
    near
}

/// Waits for the close and gives its code.
async fn close_code(socket: &mut Socket) -> u16 {
    let closing = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return u16::from(frame.code),
                Some(Ok(_)) => {}
                other => panic!("no close: {other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, closing).await.unwrap()
}

/// A server that sends back what it gets, and ends when told to.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 8192];
                while let Ok(len @ 1..) = stream.read(&mut buffer).await {
                    if buffer[..len] == *b"end" || stream.write_all(&buffer[..len]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A running relay whose directory has one sync server, played by an echo.
async fn one(options: &[&str]) -> (Net, Relay, NodeId) {
    let server = Played::new(1, NodeKind::Sync, format!("http://{}", echo().await));
    let net = Net::new();
    let mut relay = net.relay("relay");
    net.write(1, &[relay.record.clone(), server.record()]);
    relay.start_with(&net, &[&["--batch-ms", "0", "--allow-private"], options].concat());
    (net, relay, server.id())
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_both_ways_in_order_and_the_end_of_the_stream_is_told() {
    let (_net, relay, server) = one(&[]).await;
    assert!(relay.record.verify().unwrap().tunnel);
    let mut bytes = stream(open_to(&relay, server).await);
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut from, mut to) = tokio::io::split(&mut bytes);
    let mut got = vec![0; sent.len()];
    let (wrote, read) = tokio::join!(to.write_all(&sent), from.read_exact(&mut got));
    wrote.unwrap();
    read.unwrap();
    assert!(got == sent);

    // Message boundaries mean nothing, empty messages neither.
    let mut socket = open_to(&relay, server).await;
    for part in [&b"a"[..], b"", b"bc"] {
        socket.send(Message::binary(part.to_vec())).await.unwrap();
    }
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(socket.next().await.unwrap().unwrap().into_data());
    }
    assert_eq!(got, b"abc");
    socket.send(Message::binary(b"end".to_vec())).await.unwrap();
    assert_eq!(close_code(&mut socket).await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_read_through_a_tunnel_and_the_relay_sees_tls_alone() {
    let net = Net::new();
    let server = sync::start(&net, true, sync::behind(None)).await;
    let record = server.record().unwrap();
    let mut relay = net.relay("relay");
    net.write(1, &[relay.record.clone(), record.clone()]);
    relay.start(&net);
    let bytes = stream(open_to(&relay, record.verify().unwrap().id).await);
    let inside = sync::tls_client().connect("localhost".try_into().unwrap(), bytes).await.unwrap();
    let mut request = format!("wss://localhost/topic/{}", "ab".repeat(32)).into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "delta.sync.2".parse().unwrap());
    let (mut topic, _) = client_async(request, inside).await.unwrap();
    let mut frames = Vec::new();
    while frames.last() != Some(&3) {
        frames.push(topic.next().await.unwrap().unwrap().into_data()[0]);
    }
    assert_eq!(frames, [1, 3], "hello, then ready");
    drop(topic);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_leads_to_sync_servers_of_the_directory_only() {
    let (_net, relay, server) = one(&[]).await;
    let status = async |query: &str| open(relay.address, query).await.err();
    assert_eq!(status("").await, Some(400));
    assert_eq!(status("?to=").await, Some(400));
    assert_eq!(status("?to=127.0.0.1:80").await, Some(400));
    assert_eq!(status(&format!("?to={server}&to={server}")).await, Some(400));
    assert_eq!(status(&format!("?to={}", NodeId([7; 32]))).await, Some(404), "a stranger");
    assert_eq!(status(&format!("?to={}", relay.id())).await, Some(404), "a relay is no sync server");
    let plain = get(relay.address, &format!("/tunnel?to={server}"));
    assert_eq!(plain, "", "426 without an upgrade has no body");
    assert_eq!(status(&format!("?to={server}")).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_28_the_address_rules_hold_for_tunnels_and_a_dead_server_is_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let private = Played::new(1, NodeKind::Sync, format!("https://localhost:{port}"));
    let net = Net::new();
    let mut relay =
        net.relay_behind("relay", support::free_address(), Some("https://relay.example".to_owned()));
    net.write(1, &[relay.record.clone(), private.record()]);
    relay.start_with(&net, &["--batch-ms", "0"]);
    assert_eq!(open(relay.address, &format!("?to={}", private.id())).await.err(), Some(502));
    let accepted = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(accepted.is_err(), "nobody connected");

    let dead = Played::new(2, NodeKind::Sync, format!("http://{}", support::free_address()));
    let net = Net::new();
    let mut relay = net.relay("relay");
    net.write(1, &[relay.record.clone(), dead.record()]);
    relay.start(&net);
    assert_eq!(open(relay.address, &format!("?to={}", dead.id())).await.err(), Some(502));
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_large_messages_end_a_tunnel_and_a_stop_says_so() {
    let (_net, mut relay, server) = one(&[]).await;
    let mut socket = open_to(&relay, server).await;
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(close_code(&mut socket).await, 1003);
    let mut socket = open_to(&relay, server).await;
    socket.send(Message::binary(vec![0; delta_relay::tunnel::MAX_MESSAGE])).await.unwrap();
    while !socket.next().await.unwrap().unwrap().is_binary() {}
    let mut socket = open_to(&relay, server).await;
    socket.send(Message::binary(vec![0; delta_relay::tunnel::MAX_MESSAGE + 1])).await.unwrap();
    assert_eq!(close_code(&mut socket).await, 1009);
    let mut socket = open_to(&relay, server).await;
    relay.terminate();
    assert_eq!(close_code(&mut socket).await, 1012);
    assert!(relay.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_are_limited_by_address_and_in_all() {
    let (_net, relay, server) = one(&["--limit", "tunnels_per_address=2"]).await;
    let query = format!("?to={server}");
    let held = [open(relay.address, &query).await.unwrap(), open(relay.address, &query).await.unwrap()];
    assert_eq!(open(relay.address, &query).await.err(), Some(429));
    assert!(get(relay.admin, "/metrics").contains("\ndelta_relay_tunnels 2\n"));
    drop(held);
    support::until("the places are free again", || {
        get(relay.admin, "/metrics").contains("\ndelta_relay_tunnels 0\n").then_some(())
    });
    assert!(open(relay.address, &query).await.is_ok());
    drop(relay);

    let (_net, relay, server) = one(&["--limit", "tunnels=1"]).await;
    let query = format!("?to={server}");
    let _held = open(relay.address, &query).await.unwrap();
    assert_eq!(open(relay.address, &query).await.err(), Some(503));
    drop(relay);

    let (_net, relay, server) = one(&["--no-tunnel"]).await;
    assert_eq!(open(relay.address, &format!("?to={server}")).await.err(), Some(404));
    assert!(!get(relay.address, "/key").contains("f=tunnel"));
}
