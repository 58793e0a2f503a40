//! Connections to other nodes: resolve once, check every address, connect to a checked one.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderValue;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use delta_core::onion::directory::is_public;

/// How long a next node may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For one try: connection, request and answer.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(3), total: Duration::from_secs(15) }
    }
}

/// Where packets for a node go.
#[derive(Clone, PartialEq, Eq)]
pub struct Destination {
    tls: bool,
    host: String,
    port: u16,
    path: Uri,
    host_header: HeaderValue,
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Destination(..)")
    }
}

impl Destination {
    /// The endpoint `path` below a node's base URL. `None` when it is no http or https URL with a host.
    pub fn new(base: &str, path: &str) -> Option<Self> {
        let uri: Uri = format!("{base}{path}").parse().ok()?;
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host_header = HeaderValue::from_str(authority.as_str()).ok()?;
        let path = uri.path_and_query()?.as_str().parse().ok()?;
        (!host.is_empty()).then_some(Self { tls, host, port, path, host_header })
    }

    /// What stands in the request line.
    pub const fn path(&self) -> &Uri {
        &self.path
    }

    /// What stands in the Host header.
    pub const fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The host has no address that may be connected to. The directory or the name server is at fault.
    #[error("no address of the host may be connected to")]
    Forbidden,
    /// The host cannot be reached now.
    #[error("the host cannot be reached")]
    Unreachable(#[source] io::Error),
}

/// Looks names up.
pub trait Resolve: Send + Sync {
    /// The addresses of a host.
    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// A byte stream, plain or TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Makes connections under one policy.
#[derive(Clone)]
pub struct Connector<R> {
    resolver: R,
    permitted: fn(IpAddr) -> bool,
    tls: TlsConnector,
    timeouts: Timeouts,
}

impl<R> fmt::Debug for Connector<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector(..)")
    }
}

impl<R: Resolve> Connector<R> {
    /// Connects to the public internet, or with `allow_private` to any address.
    pub fn new(resolver: R, allow_private: bool, timeouts: Timeouts) -> Result<Self, rustls::Error> {
        let permitted = if allow_private { |_| true } else { is_public };
        Self::with_policy(resolver, permitted, timeouts)
    }

    /// How long a next node may take.
    pub const fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    fn with_policy(
        resolver: R,
        permitted: fn(IpAddr) -> bool,
        timeouts: Timeouts,
    ) -> Result<Self, rustls::Error> {
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { resolver, permitted, tls: TlsConnector::from(Arc::new(config)), timeouts })
    }

    /// Connects within [`Timeouts::connect`].
    pub async fn connect(&self, to: &Destination) -> Result<Box<dyn Stream>, ConnectError> {
        let connecting = tokio::time::timeout(self.timeouts.connect, self.connect_untimed(to));
        connecting.await.unwrap_or_else(|_| Err(ConnectError::Unreachable(io::ErrorKind::TimedOut.into())))
    }

    /// The same without TLS of ours: for a stream whose ends encrypt it themselves.
    pub async fn connect_plain(&self, to: &Destination) -> Result<TcpStream, ConnectError> {
        let connecting = tokio::time::timeout(self.timeouts.connect, self.dial(to));
        connecting.await.unwrap_or_else(|_| Err(ConnectError::Unreachable(io::ErrorKind::TimedOut.into())))
    }

    async fn connect_untimed(&self, to: &Destination) -> Result<Box<dyn Stream>, ConnectError> {
        let stream = self.dial(to).await?;
        if !to.tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(to.host.clone())
            .map_err(|error| ConnectError::Unreachable(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let stream = self.tls.connect(name, stream).await.map_err(ConnectError::Unreachable)?;
        Ok(Box::new(stream))
    }

    /// One resolution; of its addresses only the permitted ones are tried, as they are.
    async fn dial(&self, to: &Destination) -> Result<TcpStream, ConnectError> {
        let addresses = match to.host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, to.port)],
            Err(_) => self.resolver.resolve(&to.host, to.port).await.map_err(ConnectError::Unreachable)?,
        };
        let mut last = ConnectError::Forbidden;
        for address in addresses.into_iter().filter(|address| (self.permitted)(address.ip())) {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(ConnectError::Unreachable)?;
                    return Ok(stream);
                }
                Err(error) => last = ConnectError::Unreachable(error),
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Answers each question with the next of its answers.
    struct Scripted(Mutex<Vec<Vec<SocketAddr>>>);

    impl Resolve for Scripted {
        async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            self.0.lock().unwrap().pop().ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    fn answers(list: &[&[&str]]) -> Scripted {
        let parse = |texts: &&[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Scripted(Mutex::new(list.iter().rev().map(parse).collect()))
    }

    fn destination(base: &str) -> Destination {
        Destination::new(base, "/hop").unwrap()
    }

    #[test]
    fn a_destination_is_read_from_a_base_url() {
        let to = destination("https://relay.example");
        assert_eq!((to.tls, to.host.as_str(), to.port), (true, "relay.example", 443));
        assert_eq!(
            (to.path().to_string(), to.host_header().to_str().unwrap()),
            ("/hop".into(), "relay.example")
        );
        let to = destination("http://[::1]:8080/base");
        assert_eq!((to.tls, to.host.as_str(), to.port), (false, "::1", 8080));
        assert_eq!(
            (to.path().to_string(), to.host_header().to_str().unwrap()),
            ("/base/hop".into(), "[::1]:8080")
        );
        for bad in ["ftp://relay.example", "relay.example", "", "https://"] {
            assert_eq!(Destination::new(bad, "/hop"), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn case_28_a_name_that_resolves_to_a_private_address_is_not_connected_to() {
        for address in [
            "127.0.0.1:9",
            "169.254.169.254:80",
            "[::1]:9",
            "[::ffff:10.0.0.1]:9",
            "[64:ff9b::7f00:1]:9",
            "0.0.0.0:9",
        ] {
            let connector = Connector::new(answers(&[&[address]]), false, Timeouts::default()).unwrap();
            let result = connector.connect(&destination("https://relay.example")).await;
            assert!(matches!(result, Err(ConnectError::Forbidden)), "{address}");
            let literal = Connector::new(answers(&[]), false, Timeouts::default()).unwrap();
            let result = literal.connect(&destination(&format!("https://{address}"))).await;
            assert!(matches!(result, Err(ConnectError::Forbidden)), "{address}");
        }
    }

    #[tokio::test]
    async fn case_29_the_checked_address_is_connected_to_without_a_second_resolution() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap().to_string();
        let resolver = answers(&[&["127.0.0.2:1", &good], &["127.0.0.3:1"]]);
        let only_first = |address: IpAddr| address == IpAddr::from([127, 0, 0, 1]);
        let connector = Connector::with_policy(resolver, only_first, Timeouts::default()).unwrap();
        let to = destination("http://relay.example");
        let (connected, accepted) = tokio::join!(connector.connect(&to), listener.accept());
        connected.unwrap_or_else(|error| panic!("{error}"));
        accepted.unwrap();
        assert_eq!(connector.resolver.0.lock().unwrap().len(), 1);
        // The next connection asks again, and is checked again.
        assert!(matches!(connector.connect(&to).await, Err(ConnectError::Forbidden)));
    }
}
