//! The receiving end of a WebSocket with binary frames: reads in large pieces, copies nothing, sends nothing but pongs.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use delta_core::sync::frame::{Frame, SUBPROTOCOL};
use delta_core::topic::TopicId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::http::Connection;

/// How much is read at once.
const PIECE: usize = 64 * 1024;
/// A pong without payload, under the mask zero (RFC 6455 §5.3: clients mask).
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// An open subscription.
#[derive(Debug)]
pub struct Subscriber {
    stream: TcpStream,
    buffer: BytesMut,
}

/// What a subscriber gets.
#[derive(Clone, Debug)]
pub enum Event {
    /// A frame.
    Frame(Frame),
    /// The server says goodbye, with this code.
    Closed(Option<u16>),
    /// The server broke the protocol.
    Bad(String),
}

impl Subscriber {
    /// Subscribes to a topic; `query` says from where. The inner error is the status of a refusal.
    ///
    /// # Errors
    /// The server does not accept, or the connection broke.
    pub async fn open(to: SocketAddr, topic: &TopicId, query: &str) -> io::Result<Result<Self, u16>> {
        Self::upgrade(TcpStream::connect(to).await?, topic, query).await
    }

    /// The same with a receive buffer of about `bytes`, so that a pause in reading is felt by the server.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_narrow(
        to: SocketAddr,
        topic: &TopicId,
        query: &str,
        bytes: u32,
    ) -> io::Result<Result<Self, u16>> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(bytes)?;
        Self::upgrade(socket.connect(to).await?, topic, query).await
    }

    async fn upgrade(stream: TcpStream, topic: &TopicId, query: &str) -> io::Result<Result<Self, u16>> {
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /topic/{topic}?{query} HTTP/1.1\r\nhost: sync\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: {SUBPROTOCOL}\r\n\r\n"
        );
        let mut connection = Connection::over(stream);
        let answer = connection.send(request.as_bytes()).await?;
        if answer.status != 101 {
            return Ok(Err(answer.status));
        }
        let (stream, buffer) = connection.into_parts();
        Ok(Ok(Self { stream, buffer }))
    }

    /// What comes next.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some((opcode, payload)) = self.message() {
                match opcode {
                    2 => return Ok(Frame::decode(payload).map_or_else(bad, Event::Frame)),
                    8 => return Ok(Event::Closed((payload.len() >= 2).then(|| payload.clone().get_u16()))),
                    9 => self.stream.write_all(&PONG).await?,
                    10 => {}
                    other => return Ok(Event::Bad(format!("a message of opcode {other}"))),
                }
                continue;
            }
            self.buffer.reserve(PIECE);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// A whole message from the buffer; a server does not mask, and this one does not fragment.
    fn message(&mut self) -> Option<(u8, Bytes)> {
        let (first, rest) = self.buffer.split_first()?;
        let opcode = first & 0x0f;
        let (short, rest) = rest.split_first()?;
        let (header, len) = match short & 0x7f {
            126 => (4, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (10, u64::from_be_bytes(*rest.first_chunk()?)),
            short => (2, u64::from(short)),
        };
        let len = usize::try_from(len).ok()?;
        if self.buffer.len() - header < len {
            return None;
        }
        self.buffer.advance(header);
        Some((opcode, self.buffer.split_to(len).freeze()))
    }
}

fn bad(error: impl std::fmt::Display) -> Event {
    Event::Bad(error.to_string())
}
