//! One WebSocket of one topic: from the server's frames to the engine's inbox, with backpressure.
//!
//! The task reads a message, waits until there is room for it, hands it on, and only then reads the next one: a
//! server that sends faster than the device can verify and store is slowed down by TCP. It never decodes a frame.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use delta_core::onion::route::Tunnel;
use delta_core::sync::frame::MAX_FRAME;
use delta_core::sync::session::CONNECT_TIMEOUT_MS;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::{
    CloseFrame, Message, WebSocketConfig, frame::coding::CloseCode,
};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::dial::{Stream, Target, dial};
use super::http::retry_after;
use super::proxy::{PROXY_TIMEOUT, Proxy};
use super::tunnel::{self, TunnelError};

/// The frames this client speaks.
const SUBPROTOCOL: &str = "delta.sync.2";
/// Time to open a connection, with what a proxy takes well inside the engine's own deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(CONNECT_TIMEOUT_MS / 2);
/// How often a ping is sent.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Pings in a row without any message after which the connection is dead.
const DEAD_AFTER_PINGS: u32 = 2;
/// Time given to a server to answer our close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// tungstenite's buffers are 128 KiB each way by default; a device has many sockets and sends next to nothing.
const READ_BUFFER: usize = 16 * 1024;
const WRITE_BUFFER: usize = 1024;
/// Pause after close 1013 without a `slow` frame that says how long, milliseconds.
const TRY_AGAIN_MS: u64 = 1_000;
/// An address asks too often, or has too many connections.
const TOO_MANY_REQUESTS: u16 = 429;

/// Why a socket ended.
#[derive(Debug)]
pub(crate) struct Closed {
    /// The server's wish, 0 for none.
    pub(crate) retry_after_ms: u64,
    /// What the upgrade was answered with instead.
    pub(crate) status: Option<u16>,
    /// The server said so itself: the relay of a tunnel is not to blame.
    pub(crate) by_server: bool,
    /// For the log and `status`.
    pub(crate) why: String,
}

impl Closed {
    fn because(why: impl Into<String>) -> Self {
        Self { retry_after_ms: 0, status: None, by_server: false, why: why.into() }
    }
}

impl From<TunnelError> for Closed {
    fn from(error: TunnelError) -> Self {
        let TunnelError { retry_after_ms, why } = error;
        Self { retry_after_ms, ..Self::because(format!("no tunnel: {why}")) }
    }
}

/// Where a socket's messages go.
pub(crate) trait Sink: Send + Sync {
    /// What a message holds until it is stored.
    type Room: Send;
    /// The connection is open.
    fn connected(&self);
    /// Waits for room for a message of `len` bytes.
    fn reserve(&self, len: usize) -> impl Future<Output = Option<Self::Room>> + Send;
    /// A binary message, with the room it holds until it is stored.
    fn message(&self, message: Bytes, room: Self::Room);
}

/// What all sockets of a client share.
#[derive(Clone, Debug)]
pub(crate) struct SocketContext {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) allow_plaintext: bool,
    /// What everything goes through.
    pub(crate) proxy: Option<Arc<Proxy>>,
}

impl SocketContext {
    /// Time to open a connection that takes so long without a proxy.
    pub(super) fn patience(&self, direct: Duration) -> Duration {
        if self.proxy.is_some() { direct + PROXY_TIMEOUT } else { direct }
    }
}

/// Connects to `url`, directly or through a tunnel, and reads until the connection ends or `cancel` resolves
/// (also by being dropped). `None` when it was cancelled.
pub(crate) async fn run<S: Sink>(
    context: &SocketContext,
    url: &str,
    via: Option<&Tunnel>,
    cancel: &mut oneshot::Receiver<()>,
    sink: &S,
) -> Option<Closed> {
    let limit = context.patience(CONNECT_TIMEOUT);
    let connecting = open(context, url, via);
    let socket = tokio::select! {
        biased;
        _ = &mut *cancel => return None,
        socket = timeout(limit, connecting) => match socket {
            Ok(Ok(socket)) => socket,
            Ok(Err(closed)) => return Some(closed),
            Err(_) => {
                let limit = limit.as_secs();
                return Some(Closed::because(format!("no connection within {limit} s")));
            }
        },
    };
    sink.connected();
    read(socket, cancel, sink).await
}

async fn open(
    context: &SocketContext,
    url: &str,
    via: Option<&Tunnel>,
) -> Result<WebSocketStream<Stream>, Closed> {
    let request = http_request(context, url)?;
    let server =
        Target::parse(url, context.allow_plaintext).map_err(|error| Closed::because(error.to_string()))?;
    let stream = match via {
        None => dial(context, &server).await.map_err(|error| Closed::because(error.to_string()))?,
        Some(via) => tunnel::connect(context, via, &server).await?,
    };
    let connecting = client_async_with_config(request, stream, Some(config()));
    connecting.await.map(|(socket, _response)| socket).map_err(connect_error)
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME))
}

fn http_request(context: &SocketContext, url: &str) -> Result<Request, Closed> {
    let url = websocket_url(url, context.allow_plaintext).ok_or_else(|| {
        Closed::because("the server's URL is neither https nor, with allow_plaintext, http")
    })?;
    let mut request = url.into_client_request().map_err(|error| Closed::because(error.to_string()))?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
    Ok(request)
}

/// `https` becomes `wss`; `http` becomes `ws` where plaintext is allowed.
pub(super) fn websocket_url(url: &str, allow_plaintext: bool) -> Option<String> {
    if let Some(rest) = url.strip_prefix("https://") {
        return Some(format!("wss://{rest}"));
    }
    let rest = url.strip_prefix("http://")?;
    allow_plaintext.then(|| format!("ws://{rest}"))
}

fn connect_error(error: WsError) -> Closed {
    let (status, retry_after_ms) = match &error {
        WsError::Http(response) => (Some(response.status().as_u16()), retry_after(response.headers())),
        _ => (None, 0),
    };
    // Too many from one address is a matter of the relay's address.
    let by_server = status.is_some_and(|status| status != TOO_MANY_REQUESTS);
    Closed { retry_after_ms, status, by_server, why: error.to_string() }
}

async fn read<S: Sink>(
    mut socket: WebSocketStream<Stream>,
    cancel: &mut oneshot::Receiver<()>,
    sink: &S,
) -> Option<Closed> {
    let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unanswered = 0;
    loop {
        let message = tokio::select! {
            biased;
            _ = &mut *cancel => {
                close(socket).await;
                return None;
            }
            message = socket.next() => message,
            _ = pings.tick() => {
                if unanswered == DEAD_AFTER_PINGS {
                    return Some(Closed::because("the server answers no pings"));
                }
                unanswered += 1;
                if let Err(error) = socket.send(Message::Ping(Bytes::new())).await {
                    return Some(Closed::because(error.to_string()));
                }
                continue;
            }
        };
        unanswered = 0;
        match message {
            Some(Ok(Message::Binary(bytes))) => {
                let room = tokio::select! {
                    biased;
                    _ = &mut *cancel => return None,
                    room = sink.reserve(bytes.len()) => room?,
                };
                sink.message(bytes, room);
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Text(_))) => {
                return Some(Closed::because("the server sent text instead of frames"));
            }
            Some(Ok(Message::Close(frame))) => return Some(closed_by(frame)),
            Some(Err(error)) => return Some(Closed::because(error.to_string())),
            None => return Some(Closed::because("the connection ended")),
        }
    }
}

fn closed_by(frame: Option<CloseFrame>) -> Closed {
    let Some(frame) = frame else {
        return Closed { by_server: true, ..Closed::because("the server closed the connection") };
    };
    let retry_after_ms = if frame.code == CloseCode::Again { TRY_AGAIN_MS } else { 0 };
    Closed {
        retry_after_ms,
        status: None,
        by_server: true,
        why: format!("the server closed the connection with code {}", u16::from(frame.code)),
    }
}

/// Says goodbye and waits a moment, so that the server sees a close and not a cut.
async fn close(mut socket: WebSocketStream<Stream>) {
    let goodbye = async {
        socket.close(None).await?;
        while let Some(message) = socket.next().await {
            message?;
        }
        Ok::<_, WsError>(())
    };
    drop(timeout(CLOSE_TIMEOUT, goodbye).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_needs_the_flag() {
        assert_eq!(websocket_url("https://a.example", false).as_deref(), Some("wss://a.example"));
        assert_eq!(websocket_url("http://127.0.0.1:9000", true).as_deref(), Some("ws://127.0.0.1:9000"));
        assert_eq!(websocket_url("http://127.0.0.1:9000", false), None);
        assert_eq!(websocket_url("ftp://a.example", true), None);
    }
}
