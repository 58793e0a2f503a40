//! A proxy in front of a server that lies: what shows that the suite, and a client, can fail.
//!
//! It passes requests on and changes answers and binary frames on their way back. Only as much HTTP and WebSocket as the
//! suite itself speaks.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request as Upgrade, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::http::{Answer, Base, Body, Request};
use crate::socket::BINARY;

/// Most bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;

/// How answers and frames are changed.
#[derive(Clone, Copy, Debug)]
pub struct Lie {
    /// Changes an answer to a request on this path.
    pub answer: fn(&str, &mut Answer),
    /// Turns one binary message of the server into those the client gets.
    pub frame: fn(Vec<u8>) -> Vec<Vec<u8>>,
    /// Takes whatever the server sends, and keeps it until the client reads.
    pub hoard: bool,
}

impl Lie {
    /// Nothing is changed.
    pub const NONE: Self = Self { answer: |_, _| {}, frame: |frame| vec![frame], hoard: false };
}

/// A running proxy; it ends with this value.
#[derive(Debug)]
pub struct Liar {
    /// Its base URL.
    pub url: String,
    task: JoinHandle<()>,
}

impl Liar {
    /// Starts a proxy in front of `base`.
    pub async fn start(base: Base, lie: Lie) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let base = Arc::new(base);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let base = Arc::clone(&base);
                // Whoever asked sees a connection that ends; there is nobody else to tell.
                tokio::spawn(async move { drop(serve(stream, &base, lie).await) });
            }
        });
        Ok(Self { url, task })
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, base: &Base, lie: Lie) -> anyhow::Result<()> {
    let mut start = [0; MAX_HEAD];
    loop {
        let len = stream.peek(&mut start).await?;
        let head = String::from_utf8_lossy(&start[..len]);
        if head.contains("\r\n\r\n") {
            return if head.to_ascii_lowercase().contains("upgrade: websocket") {
                relay_frames(stream, base, lie, &head).await
            } else {
                relay_answer(stream, base, lie).await
            };
        }
        if len == 0 || len == MAX_HEAD {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

async fn relay_answer(mut stream: TcpStream, base: &Base, lie: Lie) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "the request ended early");
    };
    let head = String::from_utf8(bytes[..end].to_vec())?;
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let method = if words.next() == Some("POST") { "POST" } else { "GET" };
    let path = words.next().unwrap_or_default().to_owned();
    let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    let field = |name: &str| {
        fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    };
    let length: usize = field("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "the body ended early");
    }
    let headers = [("Content-Type", field("content-type")), ("Accept", field("accept"))];
    let headers = headers.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
    let body = if method == "POST" { Body::Bytes(&bytes[end..]) } else { Body::None };
    let answer = base.send(&Request { method, path: path.clone(), headers, body }).await;
    let mut answer = answer.map_err(|failure| anyhow::anyhow!("{failure}"))?;
    (lie.answer)(&path, &mut answer);

    let mut out = format!("HTTP/1.1 {} Passed On\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        if !matches!(name.as_str(), "connection" | "content-length" | "transfer-encoding") {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    out.push_str(&format!("content-length: {}\r\n\r\n", answer.body.len()));
    stream.write_all(out.as_bytes()).await?;
    stream.write_all(&answer.body).await?;
    stream.shutdown().await?;
    Ok(())
}

async fn relay_frames(mut stream: TcpStream, base: &Base, lie: Lie, head: &str) -> anyhow::Result<()> {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let binary = head.contains(BINARY);
    let mut request = format!("ws://{}{}", base.authority, base.path(path)).into_client_request()?;
    if binary {
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(BINARY));
    }
    // The server first: what it refuses is refused here.
    let server = match tokio_tungstenite::client_async(request, base.connect(None).await?).await {
        Ok((server, _)) => server,
        Err(Error::Http(refusal)) => {
            let status = refusal.status().as_u16();
            // What was only looked at so far: a connection closed with bytes unread loses the answer.
            stream.read_exact(&mut vec![0; head.len()]).await?;
            let answer =
                format!("HTTP/1.1 {status} Passed On\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            return Ok(stream.write_all(answer.as_bytes()).await?);
        }
        Err(error) => return Err(error.into()),
    };
    #[allow(clippy::result_large_err, reason = "the callback's type is the library's")]
    let greet = |_: &Upgrade, mut response: Response| {
        if binary {
            response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(BINARY));
        }
        Ok(response)
    };
    let client = tokio_tungstenite::accept_hdr_async(stream, greet).await?;
    let (mut to_client, mut from_client) = client.split();
    let (mut to_server, mut from_server) = server.split();
    let (hoard, mut hoarded) = tokio::sync::mpsc::unbounded_channel();
    let take = async {
        while let Some(Ok(message)) = from_server.next().await {
            let messages = match message {
                Message::Binary(bytes) => {
                    (lie.frame)(bytes.to_vec()).into_iter().map(Message::binary).collect()
                }
                other => vec![other],
            };
            for message in messages {
                let (read, taken) = tokio::sync::oneshot::channel();
                hoard.send((message, read))?;
                if !lie.hoard {
                    taken.await?;
                }
            }
        }
        drop(hoard);
        anyhow::Ok(())
    };
    let give = async {
        while let Some((message, read)) = hoarded.recv().await {
            to_client.send(message).await?;
            let _ = read.send(());
        }
        anyhow::Ok(())
    };
    let down = async { tokio::try_join!(take, give).map(drop) };
    let up = async {
        while let Some(Ok(message)) = from_client.next().await {
            to_server.send(message).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! { done = down => done, done = up => done }
}
