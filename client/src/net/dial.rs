//! Opening a connection: what a URL says, the addresses of a name, TCP and TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::Uri;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::proxy;
use super::socket::SocketContext;
use super::tls::explained;

/// How long an address has for itself before the next is tried beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// What HTTP and WebSockets can be spoken over.
pub(crate) trait Carried: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Carried for S {}

/// One type for TCP, TLS and tunnels alike: all that is built on a stream is compiled once.
pub(super) type Stream = Box<dyn Carried>;

/// A URL that this client does not ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TargetError {
    /// Neither https nor, with `allow_plaintext`, http.
    #[error("the URL is neither https nor, with allow_plaintext, http")]
    Scheme,
    /// It has no host, or is no URL.
    #[error("the URL has no host")]
    Host,
}

/// What a URL says: whom to connect to, and what to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) is_tls: bool,
    /// A name or an address, an IPv6 address without its brackets.
    pub(super) host: String,
    port: u16,
    /// Host and port as they were written.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
}

impl Target {
    pub(super) fn parse(url: &str, allow_plaintext: bool) -> Result<Self, TargetError> {
        let uri: Uri = url.parse().map_err(|_| TargetError::Host)?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if allow_plaintext => false,
            _ => return Err(TargetError::Scheme),
        };
        let authority = uri.authority().ok_or(TargetError::Host)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(TargetError::Host);
        }
        Ok(Self {
            is_tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }
}

/// Connects, without a limit of time: through the proxy where there is one, and then in no other way.
pub(super) async fn dial(context: &SocketContext, target: &Target) -> io::Result<Stream> {
    let stream: Stream = match &context.proxy {
        Some(proxy) => proxy::dial(proxy, &target.host, target.port).await.map_err(io::Error::other)?,
        None => Box::new(reach(&target.host, target.port).await?),
    };
    match target.is_tls {
        true => encrypted(context, &target.host, stream).await,
        false => Ok(stream),
    }
}

/// Connects to one of the addresses of a name.
pub(super) async fn reach(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = lookup_host((host, port)).await?.collect();
    let stream = first_of(in_turns(addresses)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// TLS over any stream, to whom its certificate says it is.
pub(super) async fn encrypted(context: &SocketContext, host: &str, stream: Stream) -> io::Result<Stream> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::clone(&context.tls));
    Ok(Box::new(connector.connect(name, stream).await.map_err(explained)?))
}

/// The families in turns, the resolver's first choice first: one of them may lead nowhere in this network.
fn in_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut others = others.into_iter();
    let mut turns: Vec<_> =
        preferred.into_iter().flat_map(|address| [Some(address), others.next()]).flatten().collect();
    turns.extend(others);
    turns
}

/// The first connection of all that come about. Each address gets a head start over the next.
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match waiting.next() {
            Some(address) => trying.push(TcpStream::connect(address)),
            None if trying.is_empty() => return Err(error),
            None => {}
        }
        tokio::select! {
            Some(tried) = trying.next() => match tried {
                Ok(stream) => return Ok(stream),
                Err(failed) => error = failed,
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if waiting.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_whom_to_connect_to_and_what_to_ask_for() {
        let target = |url| {
            let target = Target::parse(url, true).unwrap();
            (target.is_tls, target.host, target.port, target.authority, target.path)
        };
        let wanted = |is_tls, host: &str, port, authority: &str, path: &str| {
            (is_tls, host.to_owned(), port, authority.to_owned(), path.to_owned())
        };
        assert_eq!(
            target("https://a.example/b/info?c=d"),
            wanted(true, "a.example", 443, "a.example", "/b/info?c=d")
        );
        assert_eq!(target("http://127.0.0.1:9000"), wanted(false, "127.0.0.1", 9000, "127.0.0.1:9000", "/"));
        assert_eq!(target("https://[::1]:8443/x"), wanted(true, "::1", 8443, "[::1]:8443", "/x"));
    }

    #[test]
    fn what_is_no_place_to_connect_to_is_refused() {
        for (url, allow_plaintext, error) in [
            ("http://a.example", false, TargetError::Scheme),
            ("ftp://a.example", true, TargetError::Scheme),
            ("a.example", true, TargetError::Scheme),
            ("https://", true, TargetError::Host),
            ("https://user@a.example", true, TargetError::Host),
            ("https://ä.example", true, TargetError::Host),
            ("", true, TargetError::Host),
        ] {
            assert_eq!(Target::parse(url, allow_plaintext), Err(error), "{url}");
        }
    }

    #[test]
    fn families_take_turns() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        assert_eq!(
            in_turns(addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"])),
            addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"])
        );
        assert_eq!(
            in_turns(addresses(&["1.1.1.1:1", "[::1]:1", "[::2]:1"])),
            addresses(&["1.1.1.1:1", "[::1]:1", "[::2]:1"])
        );
        assert_eq!(in_turns(Vec::new()), []);
    }

    #[tokio::test]
    async fn an_address_that_refuses_does_not_stand_in_the_way_of_the_next() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (refuses, listens) = ("127.0.0.1:0".parse().unwrap(), listener.local_addr().unwrap());
        let stream = first_of(vec![refuses, listens]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listens);
        assert!(first_of(vec![refuses, refuses]).await.is_err());
        assert_eq!(first_of(Vec::new()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
