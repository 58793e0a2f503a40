//! HTTP/1.1 over connections that are kept for the next request.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use super::dial::{Target, TargetError, dial};
use super::socket::SocketContext;

/// Time to open a TCP and TLS connection, beside what a proxy takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(90);
/// Kept connections per place: as many as packets of one topic are in flight.
const IDLE_PER_HOST: usize = delta_core::limits::OUTBOX_WINDOW;

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A request got no answer.
#[derive(Debug, Error)]
pub(crate) enum HttpError {
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Nothing was sent.
    #[error("no connection")]
    Connect(#[source] io::Error),
    #[error("the connection ended without an answer")]
    Exchange(#[from] hyper::Error),
    #[error("the request cannot be written")]
    Request(#[source] hyper::http::Error),
    #[error("no answer in time")]
    Timeout,
}

impl HttpError {
    /// Nothing was sent: there is no connection.
    pub(crate) const fn is_connect(&self) -> bool {
        matches!(self, Self::Target(_) | Self::Connect(_))
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// The connections that no request uses.
#[derive(Debug)]
pub(super) struct Pool {
    context: SocketContext,
    idle: Mutex<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    place: Place,
    sender: Sender,
    since: Instant,
}

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    is_tls: bool,
    authority: String,
}

/// An answer whose body was not read yet.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pool: Arc<Pool>,
    place: Place,
    sender: Sender,
}

/// A body cannot be had.
#[derive(Debug)]
pub(super) enum BodyError {
    TooLong,
    Broken(hyper::Error),
}

/// A GET, or a POST of `sent`.
pub(super) fn request(
    target: &Target,
    wants_octets: bool,
    sent: Option<Bytes>,
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let mut request = match &sent {
        Some(_) => Request::post(&target.path).header(CONTENT_TYPE, OCTETS),
        None => Request::get(&target.path),
    };
    request = request.header(HOST, &target.authority);
    if wants_octets {
        request = request.header(ACCEPT, OCTETS);
    }
    request.body(Full::new(sent.unwrap_or_default()))
}

/// The whole body, if it has at most `limit` bytes.
pub(super) async fn body(incoming: &mut Incoming, limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(chunk) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

impl Pool {
    pub(super) fn new(context: SocketContext) -> Arc<Self> {
        Arc::new(Self { context, idle: Mutex::default() })
    }

    /// Sends over a kept connection, else over a new one.
    pub(super) async fn send(
        self: &Arc<Self>,
        url: &str,
        wants_octets: bool,
        sent: Option<Bytes>,
    ) -> Result<Answer, HttpError> {
        let target = Target::parse(url, self.context.allow_plaintext)?;
        let mut request = request(&target, wants_octets, sent).map_err(HttpError::Request)?;
        let place = Place { is_tls: target.is_tls, authority: target.authority.clone() };
        loop {
            let kept = self.take(&place);
            let is_kept = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.connect(&target).await?,
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(Answer { response, pool: Arc::clone(self), place, sender }),
                // It had ended while nobody used it: nothing of the request has left.
                Err(mut error) => match error.take_message().filter(|_| is_kept) {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
    }

    async fn connect(self: &Arc<Self>, target: &Target) -> Result<Sender, HttpError> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
        let limit = self.context.patience(CONNECT_TIMEOUT);
        let dialled = timeout(limit, dial(&self.context, target)).await.map_err(late);
        let stream = dialled.and_then(|dialled| dialled).map_err(HttpError::Connect)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let pool = Arc::downgrade(self);
        let running = async move {
            let mut connection = std::pin::pin!(connection);
            loop {
                tokio::select! {
                    // Whoever waits for an answer hears of its end, too.
                    _ = &mut connection => return,
                    () = sleep(IDLE) => {
                        if let Some(pool) = pool.upgrade() {
                            drop(pool.idle());
                        }
                    }
                }
            }
        };
        tokio::spawn(running.boxed());
        Ok(sender)
    }

    fn take(&self, place: &Place) -> Option<Sender> {
        let mut idle = self.idle();
        let latest = idle.iter().rposition(|kept| kept.place == *place)?;
        Some(idle.remove(latest).sender)
    }

    fn keep(&self, place: Place, sender: Sender) {
        let mut idle = self.idle();
        if idle.iter().filter(|kept| kept.place == place).count() < IDLE_PER_HOST {
            idle.push(Kept { place, sender, since: Instant::now() });
        }
    }

    /// Those that can still be used. The others end here.
    fn idle(&self) -> MutexGuard<'_, Vec<Kept>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| !kept.sender.is_closed() && kept.since.elapsed() < IDLE);
        idle
    }
}

impl Answer {
    /// The whole body, if it has at most `limit` bytes. Then, and only then, the connection is kept.
    pub(super) async fn body(mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        let body = body(self.response.body_mut(), limit).await?;
        let Self { pool, place, mut sender, .. } = self;
        if sender.is_ready() {
            pool.keep(place, sender);
        } else {
            // The connection's task has the end of the body still before it.
            let pool = Arc::downgrade(&pool);
            let waiting = async move {
                if sender.ready().await.is_ok()
                    && let Some(pool) = pool.upgrade()
                {
                    pool.keep(place, sender);
                }
            };
            tokio::spawn(waiting.boxed());
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::client_config;

    /// A server whose connections answer GETs with these texts, the last one again and again; and how many it has had.
    async fn server(answers: &'static [&'static str]) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, answers));
            }
        });
        (url, connections)
    }

    async fn serve(mut stream: TcpStream, answers: &[&str]) {
        for turn in 0.. {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => return,
                }
            }
            let answer = answers[usize::min(turn, answers.len() - 1)];
            if stream.write_all(answer.as_bytes()).await.is_err() || answer.contains("close") {
                return;
            }
        }
    }

    fn pool() -> Arc<Pool> {
        let tls = Arc::new(client_config(&[]).unwrap());
        Pool::new(SocketContext { tls, allow_plaintext: true, proxy: None })
    }

    const SHORT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfour";
    const LAST: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfour";

    #[tokio::test]
    async fn connections_are_kept_until_the_server_ends_them() {
        let (url, connections) = server(&[SHORT, LAST]).await;
        let pool = pool();
        for turn in 1..=5 {
            let answer = pool.send(&url, false, None).await.unwrap();
            assert_eq!(answer.body(4).await.unwrap(), b"four");
            // What the connection's own task does with the end of the body is done when it is kept, or gone.
            while pool.idle().is_empty() && turn % 2 == 1 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(connections.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_longer_answer_costs_the_connection() {
        let (url, connections) = server(&[SHORT]).await;
        let pool = pool();
        for wanted in 1..=2 {
            let answer = pool.send(&url, false, None).await.unwrap();
            assert!(matches!(answer.body(3).await, Err(BodyError::TooLong)));
            assert!(pool.idle().is_empty());
            assert_eq!(connections.load(Ordering::SeqCst), wanted);
        }
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_that_says_so() {
        let error = pool().send("http://127.0.0.1:0/", false, None).await.unwrap_err();
        assert!(error.is_connect(), "{error}");
        let error = pool().send("ftp://127.0.0.1/", false, None).await.unwrap_err();
        assert!(matches!(error, HttpError::Target(TargetError::Scheme)), "{error}");
    }
}
