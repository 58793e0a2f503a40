//! Proxies: SOCKS5 (RFC 1928, RFC 1929) and CONNECT of HTTP (RFC 9110, section 9.3.6).
//!
//! Names are passed on as they are: what looks them up is the proxy, so that no resolver near this device hears of them.
//! A device with a proxy connects to it and to nothing else.

mod text;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::dial::{Stream, reach};

use text::{Credentials, Kind};
pub use text::{MAX_CREDENTIAL, MAX_HOST, Proxy, ProxyTextError};

/// Time to connect to the proxy and for it to connect further. Tor builds circuits meanwhile.
pub(super) const PROXY_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest head of an answer to CONNECT, bytes.
const MAX_HEAD: usize = 8 * 1024;

/// Versions of SOCKS and of its negotiation for a password.
const SOCKS: u8 = 5;
const NEGOTIATION: u8 = 1;
/// Ways to log in.
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const NONE_OF_THEM: u8 = 0xFF;
/// The command CONNECT.
const CONNECT: u8 = 1;
/// Forms of addresses.
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// There is no connection, and it is the proxy that says so, or nothing.
#[derive(Debug, Error)]
pub(super) enum ProxyError {
    #[error("the proxy cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("the connection to the proxy broke: {0}")]
    Broken(io::Error),
    #[error("the proxy gave no connection within {} s", PROXY_TIMEOUT.as_secs())]
    Slow,
    #[error("the proxy closed the connection before it had answered")]
    Closed,
    /// The first byte of an answer is not the version's.
    #[error("the proxy answers something else than {0}")]
    Foreign(&'static str),
    #[error("the proxy takes no one without another login")]
    Login,
    #[error("the proxy refuses the user name or password")]
    Refused,
    /// A reply of SOCKS (RFC 1928, section 6).
    #[error("the proxy says: {name} ({0})", name = reply(*.0))]
    Reply(u8),
    /// An answer to CONNECT.
    #[error("the proxy answers {0}")]
    Status(u16),
    #[error("the proxy's answer is longer than {MAX_HEAD} bytes")]
    TooLong,
    #[error("the host's name is too long for a proxy")]
    Name,
}

impl From<io::Error> for ProxyError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Broken(error),
        }
    }
}

/// What RFC 1928 calls it.
const fn reply(code: u8) -> &'static str {
    match code {
        1 => "general SOCKS server failure",
        2 => "connection not allowed by ruleset",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unassigned",
    }
}

/// A connection to `host` that the proxy has made.
pub(super) async fn dial(proxy: &Proxy, host: &str, port: u16) -> Result<Stream, ProxyError> {
    let dialling = async {
        let stream = reach(&proxy.host, proxy.port).await.map_err(ProxyError::Unreachable)?;
        let mut stream: Stream = Box::new(stream);
        ask(proxy, host, port, &mut stream).await?;
        Ok(stream)
    };
    timeout(PROXY_TIMEOUT, dialling).await.unwrap_or(Err(ProxyError::Slow))
}

async fn ask(proxy: &Proxy, host: &str, port: u16, stream: &mut Stream) -> Result<(), ProxyError> {
    match proxy.kind {
        Kind::Socks5 => socks(proxy.credentials.as_ref(), host, port, stream).await,
        Kind::Http => connect(proxy.credentials.as_ref(), host, port, stream).await,
    }
}

async fn socks(
    credentials: Option<&Credentials>,
    host: &str,
    port: u16,
    stream: &mut Stream,
) -> Result<(), ProxyError> {
    // One way only: who has a password wants it asked for, and Tor keeps apart what comes with different ones.
    let login = if credentials.is_some() { PASSWORD } else { NO_LOGIN };
    stream.write_all(&[SOCKS, 1, login]).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    match answer {
        [SOCKS, chosen] if chosen == login => {}
        [SOCKS, NONE_OF_THEM] => return Err(ProxyError::Login),
        _ => return Err(ProxyError::Foreign("SOCKS 5")),
    }
    if let Some(Credentials { user, password }) = credentials {
        let mut negotiation = vec![NEGOTIATION];
        counted(&mut negotiation, user)?;
        counted(&mut negotiation, password)?;
        stream.write_all(&negotiation).await?;
        // The version of this answer is 1, but some say 5: only the status is looked at.
        stream.read_exact(&mut answer).await?;
        let [_, status] = answer;
        if status != 0 {
            return Err(ProxyError::Refused);
        }
    }
    let mut request = vec![SOCKS, CONNECT, 0];
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            request.push(IPV4);
            request.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            request.push(IPV6);
            request.extend(address.octets());
        }
        Err(_) => {
            request.push(NAME);
            counted(&mut request, host.as_bytes())?;
        }
    }
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    let [SOCKS, code, _, form] = answer else { return Err(ProxyError::Foreign("SOCKS 5")) };
    if code != 0 {
        return Err(ProxyError::Reply(code));
    }
    // From where it connects is of no use here, and has to be read.
    let mut rest = 2 + match form {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(stream.read_u8().await?),
        _ => return Err(ProxyError::Foreign("SOCKS 5")),
    };
    while rest > 0 {
        stream.read_u8().await?;
        rest -= 1;
    }
    Ok(())
}

/// Appends bytes after one that says how many they are.
fn counted(message: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ProxyError> {
    message.push(u8::try_from(bytes.len()).map_err(|_| ProxyError::Name)?);
    message.extend_from_slice(bytes);
    Ok(())
}

async fn connect(
    credentials: Option<&Credentials>,
    host: &str,
    port: u16,
    stream: &mut Stream,
) -> Result<(), ProxyError> {
    let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
    if let Some(Credentials { user, password }) = credentials {
        request.push_str("Proxy-Authorization: Basic ");
        STANDARD.encode_string([user, &b":"[..], password].concat(), &mut request);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head is not the proxy's.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD {
            return Err(ProxyError::TooLong);
        }
        head.push(stream.read_u8().await?);
    }
    match status(&head) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(ProxyError::Status(status)),
        None => Err(ProxyError::Foreign("HTTP/1")),
    }
}

/// Of `HTTP/1.1 200 OK` the number.
fn status(head: &[u8]) -> Option<u16> {
    let [_minor, b' ', digits @ ..] = head.strip_prefix(b"HTTP/1.")? else { return None };
    let (digits, [b' ' | b'\r', ..]) = digits.split_at_checked(3)? else { return None };
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
