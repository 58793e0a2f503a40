//! A small HTTP/1.1 client: one request per connection, every header as it came.
//!
//! A test must see what a library hides (the raw status of a refused upgrade, all headers of an answer) and send what a
//! library does not (a length without the bytes, a chunked body), hence no library.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use crate::failure::{Checked, Failure};

/// How long one exchange may take.
pub const EXCHANGE: Duration = Duration::from_secs(20);
/// How long a client that sent `Expect: 100-continue` waits before it sends its body anyway (RFC 9110, 10.1.1).
const EXPECTATION: Duration = Duration::from_secs(2);
/// Most bytes of an answer: a page of history in base64, and room.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// Most bytes of a status line and headers.
const MAX_HEAD: usize = 64 * 1024;

/// A connection, with or without TLS.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, with or without TLS.
pub type Stream = Box<dyn Io>;

/// Where a server is: scheme, authority and the path its own paths are appended to.
#[derive(Clone, Debug)]
pub struct Base {
    tls: bool,
    host: String,
    port: u16,
    /// Host and port as they stand in the URL.
    pub authority: String,
    prefix: String,
}

impl Base {
    /// Reads `http://host[:port][/prefix]` or `https://…`.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(format!("{url} is not an http or https URL")),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let plain = if tls { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| format!("{url} has no usable port"))?)
            }
            _ => (authority, plain),
        };
        if host.is_empty() || authority.contains('@') || path.contains(['?', '#']) {
            return Err(format!("{url} is not a base URL"));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let prefix = path.trim_end_matches('/').to_owned();
        Ok(Self { tls, host, port, authority: authority.to_owned(), prefix })
    }

    /// The path a request names for `path` of the protocol.
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Opens a connection. A small receive buffer makes a reader that the server notices early when it is slow.
    pub async fn connect(&self, receive_buffer: Option<u32>) -> io::Result<Stream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in lookup_host((self.host.as_str(), self.port)).await? {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if let Some(size) = receive_buffer {
                socket.set_recv_buffer_size(size)?;
            }
            match socket.connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return self.secure(stream).await;
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn secure(&self, stream: TcpStream) -> io::Result<Stream> {
        if !self.tls {
            return Ok(Box::new(stream));
        }
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            // What devices speak; a server without it is not reached by them.
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        Ok(Box::new(connector.connect(name, stream).await?))
    }

    /// Sends a request and reads its whole answer.
    pub async fn send(&self, request: &Request<'_>) -> Checked<Answer> {
        let what = format!("{} {}", request.method, request.path.chars().take(120).collect::<String>());
        let exchange = async {
            let stream = self.connect(None).await?;
            exchange(stream, &self.head(request), &request.body).await
        };
        match tokio::time::timeout(EXCHANGE, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Failure::new(what, "an HTTP answer", error.to_string())),
            Err(_) => Err(Failure::new(what, "an HTTP answer", format!("none within {EXCHANGE:?}"))),
        }
    }

    fn head(&self, request: &Request<'_>) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method, self.path(&request.path));
        head.push_str(&format!("Host: {}\r\n", self.authority));
        if !request.headers.iter().any(|(name, _)| *name == "Connection") {
            head.push_str("Connection: close\r\n");
        }
        for (name, value) in &request.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match request.body {
            Body::None => {}
            Body::Bytes(bytes) => head.push_str(&format!("Content-Length: {}\r\n", bytes.len())),
            Body::Chunked(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
            Body::Announced(len) => {
                head.push_str(&format!("Content-Length: {len}\r\nExpect: 100-continue\r\n"));
            }
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// GET or POST.
    pub method: &'static str,
    /// Path and query, without the base URL's own path.
    pub path: String,
    /// Headers besides Host, Connection and those of the body.
    pub headers: Vec<(&'static str, &'a str)>,
    /// The body.
    pub body: Body<'a>,
}

/// A request's body.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// None.
    None,
    /// With its length.
    Bytes(&'a [u8]),
    /// One chunk, so without a length.
    Chunked(&'a [u8]),
    /// A length alone; zeros follow only when the server asks for them.
    Announced(u64),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

async fn exchange(stream: Stream, head: &[u8], body: &Body<'_>) -> io::Result<Answer> {
    let (read, mut write) = split(stream);
    let mut reader = AnswerReader { read, buffer: Vec::new() };
    match *body {
        Body::Announced(len) => {
            write.write_all(head).await?;
            let expectation = tokio::time::timeout(EXPECTATION, reader.head()).await;
            match expectation {
                Ok(Ok(head)) if head.status != 100 => return reader.rest(head).await,
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) | Err(_) => {}
            }
            both(reader, write, Vec::new(), vec![0; len.min(MAX_ANSWER as u64) as usize]).await
        }
        Body::Chunked(bytes) => {
            let mut chunks = format!("{:x}\r\n", bytes.len()).into_bytes();
            chunks.extend_from_slice(bytes);
            chunks.extend_from_slice(b"\r\n0\r\n\r\n");
            both(reader, write, head.to_vec(), chunks).await
        }
        Body::Bytes(bytes) => both(reader, write, head.to_vec(), bytes.to_vec()).await,
        Body::None => both(reader, write, head.to_vec(), Vec::new()).await,
    }
}

/// Writes and reads at the same time: a server may answer, and hang up, before it has read everything.
async fn both<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut reader: AnswerReader<R>,
    mut write: W,
    head: Vec<u8>,
    body: Vec<u8>,
) -> io::Result<Answer> {
    let writing = async {
        write.write_all(&head).await?;
        write.write_all(&body).await?;
        write.flush().await
    };
    let reading = reader.answer();
    tokio::pin!(reading);
    tokio::select! {
        answer = &mut reading => answer,
        _ = writing => reading.await,
    }
}

struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

struct AnswerReader<R> {
    read: R,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> AnswerReader<R> {
    /// The final answer: interim ones (100) are passed over.
    async fn answer(&mut self) -> io::Result<Answer> {
        loop {
            let head = self.head().await?;
            if head.status != 100 {
                return self.rest(head).await;
            }
        }
    }

    async fn head(&mut self) -> io::Result<Head> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return parse_head(&head);
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(invalid("endless headers"));
            }
            self.more().await?;
        }
    }

    async fn rest(&mut self, head: Head) -> io::Result<Answer> {
        let header =
            |name: &str| head.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let body = if matches!(head.status, 101 | 204 | 304) {
            Vec::new()
        } else if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            self.chunks().await?
        } else if let Some(len) = header("content-length") {
            let len = len.parse().map_err(|_| invalid("content-length"))?;
            self.take(len).await?
        } else {
            self.until_the_end().await?
        };
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| invalid("chunk size"))?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(body);
            }
            if body.len() + size > MAX_ANSWER {
                return Err(invalid("endless body"));
            }
            body.extend(self.take(size).await?);
            if !self.line().await?.is_empty() {
                return Err(invalid("a chunk longer than its size"));
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        if len > MAX_ANSWER {
            return Err(invalid("endless body"));
        }
        while self.buffer.len() < len {
            self.more().await?;
        }
        Ok(self.buffer.drain(..len).collect())
    }

    async fn until_the_end(&mut self) -> io::Result<Vec<u8>> {
        while self.buffer.len() <= MAX_ANSWER {
            if let Err(error) = self.more().await {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    return Ok(std::mem::take(&mut self.buffer));
                }
                return Err(error);
            }
        }
        Err(invalid("endless body"))
    }

    async fn more(&mut self) -> io::Result<()> {
        self.buffer.reserve(16 * 1024);
        match self.read.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended within the answer")),
            _ => Ok(()),
        }
    }
}

fn parse_head(head: &[u8]) -> io::Result<Head> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
    let status = lines
        .next()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| invalid("status line"))?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Ok(Head { status, headers })
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not an HTTP answer: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> io::Result<Answer> {
        AnswerReader { read: bytes, buffer: Vec::new() }.answer().await
    }

    #[test]
    fn base_urls_are_read() {
        let base = Base::parse("http://127.0.0.1:8080").unwrap();
        assert_eq!(
            (base.host.as_str(), base.port, base.path("/info")),
            ("127.0.0.1", 8080, "/info".to_owned())
        );
        let base = Base::parse("https://sync.example.org/delta/").unwrap();
        assert_eq!((base.port, base.path("/info")), (443, "/delta/info".to_owned()));
        let base = Base::parse("http://[::1]:99").unwrap();
        assert_eq!((base.host.as_str(), base.port), ("::1", 99));
        for wrong in ["ftp://x", "http://", "http://x:y", "http://a@b", "http://x/?q"] {
            assert!(Base::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn answers_are_read_in_every_framing() {
        let answer = read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nhi").await.unwrap();
        assert_eq!(
            (answer.status, answer.header("x-a"), answer.body.as_slice()),
            (200, Some("b"), &b"hi"[..])
        );
        let chunked =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n\
                        2;x=y\r\nhi\r\n3\r\n you\r\n0\r\n\r\n";
        assert!(read(chunked).await.is_err(), "a chunk that is longer than its size is refused");
        let chunked =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n\
                        2;x=y\r\nhi\r\n4\r\n you\r\n0\r\n\r\n";
        assert_eq!(read(chunked).await.unwrap().body, b"hi you");
        assert_eq!(read(b"HTTP/1.1 400 No\r\n\r\nuntil the end").await.unwrap().body, b"until the end");
        assert!(read(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi").await.is_err());
        assert!(read(b"SSH-2.0\r\n\r\n").await.is_err());
    }
}
