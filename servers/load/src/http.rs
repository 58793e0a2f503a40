//! HTTP/1.1 as a relay speaks it: one connection, kept alive, one request after another.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest answer head.
const MAX_HEAD: usize = 64 * 1024;

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// A whole POST request, ready to be written.
pub fn post(path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: sync\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A whole GET request.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: sync\r\naccept: */*\r\n\r\n").into_bytes()
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The server does not accept.
    pub async fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// Over a stream that is connected already.
    pub(crate) fn over(stream: TcpStream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The connection broke; whether the server has acted on the request is unknown.
    pub async fn send(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        let head = loop {
            match self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break self.buffer.split_to(end + 4),
                None if self.buffer.len() > MAX_HEAD => return Err(malformed("an answer without an end")),
                None => self.fill().await?,
            }
        };
        let head = std::str::from_utf8(&head).map_err(|_| malformed("an answer that is no text"))?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| malformed("an answer without a status"))?;
        let length = header(head, "content-length").map_or(Some(0), |length| length.parse().ok());
        let length: usize = length.ok_or_else(|| malformed("an answer without a length"))?;
        while self.buffer.len() < length {
            self.fill().await?;
        }
        Ok(Answer { status, body: self.buffer.split_to(length).freeze() })
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The connection after an upgrade: the stream, and what was read of it already.
    pub(crate) fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.stream, self.buffer)
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// The server does not accept, or the connection broke.
pub async fn once(to: SocketAddr, request: &[u8]) -> io::Result<Answer> {
    Connection::open(to).await?.send(request).await
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
