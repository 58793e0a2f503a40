//! Tunnels: a byte stream to a sync server inside a WebSocket to a relay (docs/wire.md, section 7.4).
//!
//! The relay sees this device and the server, and of what flows only that it flows: inside is the client's own TLS
//! session with the server, or Noise where the server has no certificate (in a network for tests). Nothing inside a
//! tunnel is ever said in the clear.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use delta_core::onion::route::Tunnel;
use delta_noise::Initiator;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::dial::{Stream as Carrier, Target, dial, encrypted};
use super::http::retry_after;
use super::socket::{SocketContext, websocket_url};
use crate::platform::PlatformEntropy;

/// Most bytes in one of our messages; a relay takes up to 64 KiB.
const CHUNK: usize = 16 * 1024;
/// Most bytes in one of the relay's messages.
const MAX_MESSAGE: usize = 64 * 1024;
/// Buffers of the WebSocket library.
const READ_BUFFER: usize = 16 * 1024;
const WRITE_BUFFER: usize = 4 * CHUNK;

/// There is no tunnel: the relay cannot be reached, or refuses.
#[derive(Debug)]
pub(crate) struct TunnelError {
    /// The relay's wish, 0 for none.
    pub(crate) retry_after_ms: u64,
    pub(crate) why: String,
}

impl TunnelError {
    pub(crate) fn because(why: impl ToString) -> Self {
        Self { retry_after_ms: 0, why: why.to_string() }
    }
}

/// The stream through a tunnel.
struct TunnelStream {
    socket: WebSocketStream<Carrier>,
    rest: Bytes,
}

/// A sealed stream to the server at this URL, through a tunnel: TLS, or Noise with the key that is the server's name.
pub(crate) async fn connect(
    context: &SocketContext,
    tunnel: &Tunnel,
    server: &Target,
) -> Result<Carrier, TunnelError> {
    if server.is_tls {
        let stream = open(context, &tunnel.url).await?;
        return encrypted(context, &server.host, Box::new(stream)).await.map_err(TunnelError::because);
    }
    let noise = Initiator::new(&tunnel.server, &mut PlatformEntropy).map_err(TunnelError::because)?;
    let stream = open(context, &tunnel.url).await?;
    Ok(Box::new(noise.connect(stream).await.map_err(TunnelError::because)?))
}

/// Opens the tunnel at this URL of a relay.
async fn open(context: &SocketContext, url: &str) -> Result<TunnelStream, TunnelError> {
    let socket_url = websocket_url(url, context.allow_plaintext).ok_or_else(|| {
        TunnelError::because("the relay's URL is neither https nor, with allow_plaintext, http")
    })?;
    let request = socket_url.into_client_request().map_err(TunnelError::because)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let relay = Target::parse(url, context.allow_plaintext).map_err(TunnelError::because)?;
    let stream = dial(context, &relay).await.map_err(TunnelError::because)?;
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _response)) => Ok(TunnelStream { socket, rest: Bytes::new() }),
        Err(WsError::Http(response)) => Err(TunnelError {
            retry_after_ms: retry_after(response.headers()),
            why: format!("the relay answers {}", response.status()),
        }),
        Err(error) => Err(TunnelError::because(error)),
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.rest.is_empty() {
                let len = self.rest.len().min(buf.remaining());
                buf.put_slice(&self.rest.split_to(len));
                return Poll::Ready(Ok(()));
            }
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::other("the relay sent text through a tunnel")));
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io::Error::other)?;
        let some = buf.get(..buf.len().min(CHUNK)).unwrap_or_default();
        let message = Message::Binary(Bytes::copy_from_slice(some));
        Pin::new(&mut self.socket).start_send(message).map_err(io::Error::other)?;
        Poll::Ready(Ok(some.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(io::Error::other)
    }
}
