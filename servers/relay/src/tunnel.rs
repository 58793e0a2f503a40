//! `GET /tunnel`: a byte stream to a sync server of the directory, inside a WebSocket (docs/wire.md, section 7.4).
//!
//! What flows is the client's own TLS (or Noise) session with the server: the server sees this relay's address, and
//! the relay sees no topic. It can lead nowhere else: destinations are node ids, looked up in the directory and
//! connected to under the same address rules as forwarding.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use delta_core::identity::{Millis, NodeId};
use delta_core::onion::directory::NodeKind;
use delta_relay_core::{Counters, Event};
use delta_server_shell::bucket::TokenBucket;
use delta_server_shell::connect::{Connector, Destination, SystemResolver};
use delta_server_shell::directory::Directories;
use delta_server_shell::limit::{Shares, bound};
use delta_server_shell::platform::Clock;
use delta_server_shell::serve::{Io, Peer};
use delta_server_shell::websocket;
use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::http::{Answer, status};

/// Largest message of a client.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Most bytes of the server's in one message.
const CHUNK: usize = 16 * 1024;
/// Buffers of the WebSocket library, each way.
const BUFFER: usize = 4 * 1024;
/// A tunnel through which no byte has passed for this long is closed.
pub const IDLE: Duration = Duration::from_secs(300);
/// How long to wait for a client to take notice of a close.
const LINGER: Duration = Duration::from_secs(2);

/// The server ended the stream.
const CLOSE_ENDED: u16 = 1000;
const CLOSE_NOT_BYTES: u16 = 1003;
const CLOSE_TOO_BIG: u16 = 1009;
/// The connection to the server broke.
const CLOSE_BROKE: u16 = 1011;
const CLOSE_RESTART: u16 = 1012;
const CLOSE_IDLE: u16 = 1013;

/// What tunnels may use.
#[derive(Clone, Copy, Debug)]
pub struct TunnelLimits {
    /// At once; 0 for no limit.
    pub tunnels: u64,
    /// Bytes per second and tunnel, each way.
    pub bytes_per_second: u64,
    /// See [`IDLE`].
    pub idle: Duration,
}

/// Opens tunnels.
#[derive(Debug)]
pub struct Tunnels {
    /// Where they may lead.
    pub directories: Arc<Directories>,
    /// Connects under the address rules.
    pub connector: Connector<SystemResolver>,
    /// How many from one address.
    pub each: Arc<Shares>,
    /// What they may use.
    pub limits: TunnelLimits,
    /// How many there are.
    pub open: AtomicU64,
    /// Turns true when they are to end.
    pub closing: watch::Receiver<bool>,
    /// What happened.
    pub counters: Arc<Counters>,
    /// For rates and idle times.
    pub clock: Clock,
}

/// How a tunnel ends.
#[derive(Debug)]
enum End {
    /// With this close code.
    Close(u16),
    /// The client is gone, or has closed.
    Gone,
}

impl Tunnels {
    /// Answers a request: 101 once the server is connected.
    pub async fn answer(self: &Arc<Self>, mut request: Request<Incoming>, peer: Peer) -> Answer {
        let Some(to) = destination(request.uri().query()) else { return status(StatusCode::BAD_REQUEST) };
        let view = self.directories.view();
        let server = view.node(&to).filter(|node| node.kind == NodeKind::Sync);
        let Some(server) = server.and_then(|node| Destination::new(&node.url, "")) else {
            return status(StatusCode::NOT_FOUND);
        };
        let Some(accept) = websocket::accept(request.headers()) else {
            return status(StatusCode::UPGRADE_REQUIRED);
        };
        let Some(share) = self.each.take(peer.address, 1) else {
            return self.busy(StatusCode::TOO_MANY_REQUESTS);
        };
        let Some(place) = self.enter() else { return self.busy(StatusCode::SERVICE_UNAVAILABLE) };
        let Ok(stream) = self.connector.connect_plain(&server).await else {
            return status(StatusCode::BAD_GATEWAY);
        };
        self.counters.count(Event::Tunnel);
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            // A client that goes away before the upgrade is done is gone, and nothing to report.
            if let Ok(upgraded) = upgrade.await
                && let Ok(parts) = upgraded.downcast::<hyper_util::rt::TokioIo<Io>>()
            {
                let config = WebSocketConfig::default()
                    .read_buffer_size(BUFFER)
                    .write_buffer_size(BUFFER)
                    .max_message_size(Some(MAX_MESSAGE))
                    .max_frame_size(Some(MAX_MESSAGE));
                let (io, early) = (parts.io.into_inner(), parts.read_buf.to_vec());
                let ws = WebSocketStream::from_partially_read(io, early, Role::Server, Some(config)).await;
                place.tunnels.run(ws, stream).await;
            }
            drop((peer, share, place));
        });
        websocket::switching(accept, None).map(|()| http_body_util::Full::default())
    }

    fn enter(self: &Arc<Self>) -> Option<Place> {
        let most = bound(self.limits.tunnels);
        let one_more = |open| (open < most).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Place { tunnels: Arc::clone(self) })
    }

    fn busy(&self, code: StatusCode) -> Answer {
        self.counters.count(Event::Busy);
        let mut answer = status(code);
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        answer
    }

    /// Carries bytes both ways until one side ends.
    async fn run(&self, ws: WebSocketStream<Io>, stream: TcpStream) {
        let (mut sink, mut messages) = ws.split();
        let (mut from, mut to) = stream.into_split();
        let active = AtomicU64::new(self.clock.now().0);
        let up = async {
            let mut pace = self.pace();
            while let Some(message) = messages.next().await {
                let bytes = match message {
                    Ok(Message::Binary(bytes)) => bytes,
                    Ok(Message::Text(_)) => return End::Close(CLOSE_NOT_BYTES),
                    Ok(Message::Close(_)) => return End::Gone,
                    Ok(_) => continue,
                    Err(Error::Capacity(_)) => return End::Close(CLOSE_TOO_BIG),
                    Err(_) => return End::Gone,
                };
                active.store(self.clock.now().0, Ordering::Relaxed);
                pace.wait(bytes.len()).await;
                if to.write_all(&bytes).await.is_err() {
                    return End::Close(CLOSE_BROKE);
                }
            }
            End::Gone
        };
        let down = async {
            let mut pace = self.pace();
            loop {
                let bytes = match read(&mut from).await {
                    Ok(bytes) if bytes.is_empty() => return End::Close(CLOSE_ENDED),
                    Ok(bytes) => bytes,
                    Err(_) => return End::Close(CLOSE_BROKE),
                };
                active.store(self.clock.now().0, Ordering::Relaxed);
                pace.wait(bytes.len()).await;
                if sink.send(Message::Binary(bytes)).await.is_err() {
                    return End::Gone;
                }
            }
        };
        let mut closing = self.closing.clone();
        let end = tokio::select! {
            end = up => end,
            end = down => end,
            () = self.idle(&active) => End::Close(CLOSE_IDLE),
            _ = closing.wait_for(|closing| *closing) => End::Close(CLOSE_RESTART),
        };
        let closing = async {
            if let End::Close(code) = end {
                let frame = CloseFrame { code: code.into(), reason: "".into() };
                sink.send(Message::Close(Some(frame))).await?;
                // The client's own close, so that the last bytes are not cut off by ours.
                while messages.next().await.is_some_and(|message| message.is_ok()) {}
            }
            sink.close().await
        };
        let _ = tokio::time::timeout(LINGER, closing).await;
    }

    /// Ends once no byte has passed for the idle time.
    async fn idle(&self, active: &AtomicU64) {
        let most = u64::try_from(self.limits.idle.as_millis()).unwrap_or(u64::MAX);
        loop {
            let silent = self.clock.now().since(Millis(active.load(Ordering::Relaxed)));
            let Some(left) = most.checked_sub(silent).filter(|left| *left > 0) else { return };
            tokio::time::sleep(Duration::from_millis(left)).await;
        }
    }

    const fn pace(&self) -> Pace {
        let clock = self.clock;
        Pace { clock, bucket: TokenBucket::full(Millis(0)), per_second: self.limits.bytes_per_second }
    }
}

/// A tunnel's place; given back when dropped.
struct Place {
    tunnels: Arc<Tunnels>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tunnels.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Slows one direction of a tunnel down to its rate.
struct Pace {
    clock: Clock,
    bucket: TokenBucket,
    per_second: u64,
}

impl Pace {
    async fn wait(&mut self, bytes: usize) {
        while let Err(ms) = self.bucket.take(self.clock.now(), bytes as u64, self.per_second, 1_000) {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }
}

async fn read(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Bytes> {
    let mut bytes = BytesMut::with_capacity(CHUNK);
    from.read_buf(&mut bytes).await?;
    Ok(bytes.freeze())
}

/// The node id of the one `to` in a query; further parameters are ignored.
fn destination(query: Option<&str>) -> Option<NodeId> {
    let mut named = query?.split('&').filter_map(|pair| pair.strip_prefix("to="));
    match (named.next(), named.next()) {
        (Some(id), None) => id.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_one_node_id() {
        let id = "ab".repeat(32);
        assert_eq!(destination(Some(&format!("to={id}"))), Some(NodeId([0xab; 32])));
        assert_eq!(destination(Some(&format!("x=1&to={id}&y"))), Some(NodeId([0xab; 32])));
        let upper = format!("to={}", id.to_uppercase());
        let twice = format!("to={id}&to={id}");
        for bad in ["", "to=", "to=abcd", "to=http://127.0.0.1", &upper, &twice] {
            assert_eq!(destination(Some(bad)), None, "{bad}");
        }
        assert_eq!(destination(None), None);
    }
}
