//! Accepting connections: how many, from whom, with TLS, Noise or neither, and how they end.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use delta_noise::{NoiseStream, Responder};
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use crate::limit::{Network, Share, Shares, bound};
use crate::platform::PlatformEntropy;
use crate::tls::{HANDSHAKE, Tls};

/// A connection without a complete request head for this long is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Where a connection may begin with Noise, one that says nothing for this long is closed: as long as a handshake has.
const FIRST_BYTE: Duration = HANDSHAKE;
/// Largest request head; also the buffer for bodies in transit.
const MAX_HEAD: usize = 64 * 1024;
/// A peer that takes nothing of an answer for this long is cut.
pub const WRITE_STALL: Duration = Duration::from_secs(60);
/// Pause after the system could not accept (no file handles left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Where a reverse proxy says who is before it.
const FORWARDED_FOR: &str = "x-forwarded-for";

const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Why a connection was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// The server has too many.
    Full,
    /// The address has too many.
    TooMany,
}

/// Who may come in, and how.
pub struct Door {
    /// Connections at once; above it 503. 0 for no limit.
    pub connections: u64,
    /// Connections at once from every address; above it 429.
    pub each: Arc<Shares>,
    /// Reverse proxies: they may say for whom they ask, and hold as many connections as they like.
    pub proxies: Vec<Network>,
    /// TLS of the server's own.
    pub tls: Option<Arc<Tls>>,
    /// Without TLS: the key for connections that begin with Noise instead of a request.
    pub noise: Option<Arc<Responder>>,
    /// Whether answers carry a Date.
    pub date: bool,
    /// Told when somebody was turned away.
    pub turned_away: Box<dyn Fn(TurnedAway) + Send + Sync>,
    /// Connections that are open now.
    pub open: AtomicU64,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Door(..)")
    }
}

impl Door {
    /// For the operator alone: plain, without limits.
    pub fn admin() -> Self {
        Self {
            connections: 0,
            each: Arc::new(Shares::new(0)),
            proxies: Vec::new(),
            tls: None,
            noise: None,
            date: true,
            turned_away: Box::new(|_| {}),
            open: AtomicU64::new(0),
        }
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|proxy| proxy.contains(address))
    }

    fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, TurnedAway> {
        if self.open.load(Ordering::Relaxed) >= bound(self.connections) {
            return Err(TurnedAway::Full);
        }
        let share = match self.is_proxy(address) {
            true => None,
            false => Some(self.each.take(address, 1).ok_or(TurnedAway::TooMany)?),
        };
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Place { door: Arc::clone(self), _share: share })
    }

    /// Who asks: the other end of the connection, or when that is a trusted proxy whom it names.
    fn asking(&self, end: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.is_proxy(end) {
            return end;
        }
        // Each proxy adds whom it heard it from: from the right, the first that is no proxy of ours. What stands left
        // of that is anybody's word.
        let named = headers.get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
        let named: Vec<&[u8]> = named.flat_map(|value| value.split(|byte| *byte == b',')).collect();
        let mut asking = end;
        for name in named.into_iter().rev() {
            let name = std::str::from_utf8(name).unwrap_or_default().trim();
            let Ok(address) = name.parse::<IpAddr>() else { return asking };
            asking = address;
            if !self.is_proxy(address) {
                return asking;
            }
        }
        asking
    }
}

/// A connection's place, counted until the last user of it is gone.
#[derive(Debug)]
pub struct Place {
    door: Arc<Door>,
    _share: Option<Share>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who sent a request; in its extensions.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address.
    pub address: IpAddr,
    /// Keeps the connection's place taken, also after an upgrade.
    pub place: Arc<Place>,
}

/// What a connection runs on, also after an upgrade. A peer that takes not one byte of what is to be written for
/// [`WRITE_STALL`] is cut, and so is one that takes the sealed rest of it (TLS, Noise) for longer than that.
#[derive(Debug)]
pub struct Io {
    stream: Stream,
    /// How long nothing may be taken.
    patience: Duration,
    /// While nothing could be written: until when.
    stalled: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Stream {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over it.
    Tls(Box<TlsStream<TcpStream>>),
    /// Noise over it.
    Noise(Box<NoiseStream<TcpStream>>),
}

impl Io {
    fn watched<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Serves connections until `stop` turns true. Connections that are open then finish their request by themselves:
/// [`Door::open`] counts them.
pub async fn serve<S, B>(listener: TcpListener, door: Arc<Door>, service: S, mut stop: watch::Receiver<bool>)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let told = stop.clone();
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => match door.enter(from.ip()) {
                    Ok(place) => {
                        let peer = Peer { address: from.ip(), place: Arc::new(place) };
                        tokio::spawn(serve_one(
                            stream,
                            peer,
                            Arc::clone(&door),
                            service.clone(),
                            told.clone(),
                        ));
                    }
                    Err(why) => {
                        (door.turned_away)(why);
                        refuse(stream, why, door.tls.is_some());
                    }
                },
                // The peer was gone before it was accepted, or no handles are left: neither ends the server.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!("cannot accept connections: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Says no without reading anything. Under TLS it would cost a handshake to say it: the connection is cut.
fn refuse(mut stream: TcpStream, why: TurnedAway, tls: bool) {
    if tls {
        return;
    }
    tokio::spawn(async move {
        let answer = match why {
            TurnedAway::Full => FULL,
            TurnedAway::TooMany => TOO_MANY,
        };
        let _ = tokio::time::timeout(ACCEPT_PAUSE, stream.write_all(answer)).await;
        let _ = stream.shutdown().await;
    });
}

async fn serve_one<S, B>(
    stream: TcpStream,
    peer: Peer,
    door: Arc<Door>,
    service: S,
    mut stop: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if stream.set_nodelay(true).is_err() {
        return;
    }
    // A handshake that fails is that peer's business, and nothing to log.
    let opened = match (&door.tls, &door.noise) {
        (None, None) => Some(Stream::Plain(stream)),
        (Some(tls), _) => tls.accept(stream).await.ok().map(|stream| Stream::Tls(Box::new(stream))),
        (None, Some(noise)) => tokio::select! {
            opened = plain_or_noise(stream, noise, FIRST_BYTE) => opened,
            _ = stop.wait_for(|stop| *stop) => None,
        },
    };
    let Some(stream) = opened else { return };
    let io = Io { stream, patience: WRITE_STALL, stalled: None };
    let end = peer.address;
    let date = door.date;
    let service = service_fn(move |mut request: Request<Incoming>| {
        let address = door.asking(end, request.headers());
        request.extensions_mut().insert(Peer { address, ..peer.clone() });
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .auto_date_header(date)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    // What went wrong on one connection is that peer's business, and nothing to log.
    let _ = connection.await;
}

/// A request begins with a letter, Noise with a zero. Nothing is read before that is known.
async fn plain_or_noise(stream: TcpStream, noise: &Responder, patience: Duration) -> Option<Stream> {
    let mut first = [0];
    let peeked = tokio::time::timeout(patience, stream.peek(&mut first)).await;
    match peeked {
        Ok(Ok(1..)) if Responder::is_wanted(first[0]) => {}
        Ok(Ok(1..)) => return Some(Stream::Plain(stream)),
        _ => return None,
    }
    let handshake = noise.begin(&mut PlatformEntropy).ok()?;
    let stream = tokio::time::timeout(HANDSHAKE, handshake.accept(stream)).await.ok()?.ok()?;
    Some(Stream::Noise(Box::new(stream)))
}

/// Calls the same function of either stream.
macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.stream {
            Stream::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Stream::Tls($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $call
            }
            Stream::Noise($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $call
            }
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = either!(self, stream => stream.poll_write(cx, buf));
        self.watched(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = either!(self, stream => stream.poll_write_vectored(cx, bufs));
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
            Stream::Noise(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = either!(self, stream => stream.poll_flush(cx));
        self.watched(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = either!(self, stream => stream.poll_shutdown(cx));
        self.watched(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use delta_core::NodeId;
    use delta_core::entropy::SeededEntropy;
    use delta_noise::Initiator;
    use ed25519_dalek::SigningKey;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_cut_and_one_that_reads_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let write = async |patience: Duration, len: usize| {
            let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let mut io = Io { stream: Stream::Plain(stream), patience, stalled: None };
            let writing = tokio::spawn(async move { io.write_all(&vec![7; len]).await });
            if patience == WRITE_STALL {
                let mut all = Vec::new();
                peer.read_to_end(&mut all).await.unwrap();
                assert_eq!(all.len(), len);
            }
            writing.await.unwrap().map_err(|error| error.kind())
        };
        // More than both systems' buffers hold.
        assert_eq!(write(Duration::from_millis(50), 64 << 20).await, Err(io::ErrorKind::TimedOut));
        assert_eq!(write(WRITE_STALL, 64 << 20).await, Ok(()));
    }

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(20);

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (peer, listener.accept().await.unwrap().0)
    }

    /// Sealed bytes lie in the stream when a write returns: what is left is flushing.
    #[tokio::test]
    async fn a_peer_that_does_not_take_the_sealed_rest_is_cut() {
        let (peer, stream) = pair().await;
        let identity = SigningKey::from_bytes(&[7; 32]);
        let id = NodeId(identity.verifying_key().to_bytes());
        let asking = Initiator::new(&id, &mut SeededEntropy::new([1; 32])).unwrap();
        let responder = Responder::new(&identity);
        let (asked, answered) =
            tokio::join!(asking.connect(peer), plain_or_noise(stream, &responder, PATIENCE));
        let _silent = asked.unwrap();
        let mut io = Io { stream: answered.unwrap(), patience: SHORT, stalled: None };
        let mut fill = async || loop {
            // As long as the system makes room.
            let written = poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_write(cx, &[7; 4096]))).await;
            if written.is_pending() {
                io.stalled = None;
                let flushed = tokio::time::timeout(PATIENCE, io.flush()).await.unwrap();
                if let Err(error) = flushed {
                    break error.kind();
                }
            }
        };
        assert_eq!(fill().await, io::ErrorKind::TimedOut);
        io.stalled = None;
        let shut = tokio::time::timeout(PATIENCE, io.shutdown()).await.unwrap();
        assert_eq!(shut.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_does_not_say_a_first_byte_is_cut_and_any_first_byte_is_told_apart() {
        let responder = Responder::new(&SigningKey::from_bytes(&[7; 32]));
        let (_silent, stream) = pair().await;
        let opened = tokio::time::timeout(PATIENCE, plain_or_noise(stream, &responder, SHORT));
        assert!(opened.await.unwrap().is_none());
        let (mut plain, stream) = pair().await;
        plain.write_all(b"G").await.unwrap();
        let opened = plain_or_noise(stream, &responder, PATIENCE).await;
        assert!(matches!(opened, Some(Stream::Plain(_))), "{opened:?}");
    }

    fn asking(end: &str, headers: &[&str]) -> String {
        asking_in_bytes(end, &headers.iter().map(|value| value.as_bytes()).collect::<Vec<_>>())
    }

    fn asking_in_bytes(end: &str, headers: &[&[u8]]) -> String {
        let door = Door {
            proxies: vec!["127.0.0.1".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
            ..Door::admin()
        };
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(FORWARDED_FOR, HeaderValue::from_bytes(value).unwrap());
        }
        door.asking(end.parse().unwrap(), &map).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_says_for_whom_it_asks() {
        assert_eq!(asking("203.0.113.1", &["198.51.100.1"]), "203.0.113.1");
        assert_eq!(asking("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(asking("127.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        // The client wrote the first one itself.
        assert_eq!(asking("127.0.0.1", &["192.0.2.7, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(asking("127.0.0.1", &["192.0.2.7", "198.51.100.1, 10.1.2.3"]), "198.51.100.1");
        assert_eq!(asking("127.0.0.1", &["10.1.2.3"]), "10.1.2.3");
        assert_eq!(asking("127.0.0.1", &["nonsense, 10.1.2.3"]), "10.1.2.3");
        assert_eq!(asking("127.0.0.1", &["2001:db8::1"]), "2001:db8::1");
        // What the client wrote does not hide it.
        assert_eq!(asking_in_bytes("127.0.0.1", &[b"\xff, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(asking_in_bytes("127.0.0.1", &[b"198.51.100.1, \xff"]), "127.0.0.1");
    }

    #[test]
    fn places_are_counted_by_address_and_proxies_have_as_many_as_they_like() {
        let door = Arc::new(Door {
            connections: 5,
            each: Arc::new(Shares::new(2)),
            proxies: vec!["127.0.0.1".parse().unwrap()],
            ..Door::admin()
        });
        let enter = |text: &str| door.enter(text.parse().unwrap());
        let held = [enter("192.0.2.1").unwrap(), enter("192.0.2.1").unwrap()];
        assert_eq!(enter("192.0.2.1").unwrap_err(), TurnedAway::TooMany);
        let proxied = ["127.0.0.1"; 3].map(|address| enter(address).unwrap());
        assert_eq!(enter("192.0.2.2").unwrap_err(), TurnedAway::Full);
        drop((held, proxied));
        assert_eq!(door.open.load(Ordering::Relaxed), 0);
        assert!(enter("192.0.2.1").is_ok());
    }
}
