//! Noise on the plain port: the same server and the same limits, for connections that begin with a zero.

mod common;

use common::{Server, eventually};
use delta_core::NodeId;
use delta_core::entropy::SeededEntropy;
use delta_core::onion::directory::RecordObject;
use delta_core::sync::frame::{Frame, SUBPROTOCOL};
use delta_core::topic::WriteKey;
use delta_noise::{Initiator, NoiseError, NoiseStream};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

async fn sealed(server: &Server, seed: u8) -> Result<NoiseStream<TcpStream>, NoiseError> {
    let id = NodeId(server.key().to_bytes());
    let noise = Initiator::new(&id, &mut SeededEntropy::new([seed; 32])).unwrap();
    noise.connect(TcpStream::connect(server.address).await.unwrap()).await
}

#[tokio::test]
async fn requests_and_sockets_come_in_noise_as_they_come_without() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let key = WriteKey::from_seed([4; 32]);
    let long = vec![7; 300_000];
    server.deliver(&key, &[&long], 1).await;
    server.head_reaches(&key.topic(), 1).await;

    // Two requests on one connection; the second answer has many records.
    let mut stream = sealed(&server, 1).await.unwrap();
    let ask = |path: &str, last: &str| format!("GET {path} HTTP/1.1\r\nhost: server\r\n{last}\r\n");
    stream.write_all(ask("/info", "").as_bytes()).await.unwrap();
    let ops = format!("/topic/{}/ops?after=0&limit=256", key.topic());
    let octets = "accept: application/octet-stream\r\nconnection: close\r\n";
    stream.write_all(ask(&ops, octets).as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answers = Vec::new();
    // The end is said, or this would be an error.
    stream.read_to_end(&mut answers).await.unwrap();
    let text = String::from_utf8_lossy(&answers);
    let (info, rest) = text.split_once("}}HTTP/1.1 200 OK").map_or((&*text, ""), |parts| parts);
    assert!(info.starts_with("HTTP/1.1 200 OK") && !rest.is_empty(), "{}", &text[..text.len().min(2_000)]);
    assert!(answers.ends_with(&long));

    // The record that is signed by the key of the handshake.
    let plain = server.get("/info").await.json();
    let record = RecordObject::from_value(plain["record"].clone());
    assert!(
        record.is_ok_and(|record| record.verify().unwrap().id.0 == server.key().to_bytes())
            || plain["record"].is_null()
    );

    let request = format!("ws://{}/topic/{}", server.address, key.topic());
    let mut request = request.into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", SUBPROTOCOL.parse().unwrap());
    let stream = sealed(&server, 2).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let mut hello = None;
    while hello.is_none() {
        if let Message::Binary(bytes) = socket.next().await.unwrap().unwrap() {
            hello = Some(Frame::decode(bytes).unwrap());
        }
    }
    assert!(matches!(hello, Some(Frame::Hello { .. })), "{hello:?}");
}

#[tokio::test]
async fn what_is_no_noise_of_this_server_gets_no_answer_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    for opening in [&[0x00; 50][..], &[0x00, 0x01, 0xff], &[0x00, 0x02], &[0x16, 0x03, 0x01]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(opening).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is no answer either.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{opening:?}: {answer}");
    }
    let other = NodeId([3; 32]);
    let noise = Initiator::new(&other, &mut SeededEntropy::new([3; 32]));
    if let Ok(noise) = noise {
        assert!(noise.connect(TcpStream::connect(server.address).await.unwrap()).await.is_err());
    }
    assert!(sealed(&server, 4).await.is_ok());
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn connections_in_noise_count_like_others() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--limit", "connections_per_address=3"]);
    let mut held = Vec::new();
    for seed in 0..3 {
        held.push(sealed(&server, seed).await.unwrap());
    }
    let error = sealed(&server, 9).await.unwrap_err();
    // 429 in the clear, or the connection is gone before it is read.
    assert!(matches!(error, NoiseError::NotSpoken | NoiseError::Io(_)), "{error:?}");
    drop(held);
    eventually("a place", async || sealed(&server, 10).await.is_ok()).await;
}
