//! What the relay answers: `POST /hop`, `GET /key`, `/records` and `/health`; nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use delta_relay_core::{Counters, Event, check_length};
use delta_server_shell::OnionKeys;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, StatusCode};

use crate::budget::Budget;
use crate::peel::{Job, Pool};
use crate::record::Records;

/// Longest wait for the rest of a body whose head has come.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a request needs.
#[derive(Debug)]
pub struct Front {
    /// Opens packets.
    pub pool: Arc<Pool>,
    /// Onion keys, for how full their replay sets are.
    pub keys: Arc<OnionKeys>,
    /// Memory for packets.
    pub budget: Budget,
    /// Own and others' records.
    pub records: Arc<Records>,
    /// What happened.
    pub counters: Arc<Counters>,
}

/// An answer with its whole body.
pub type Answer = Response<Full<Bytes>>;

impl Front {
    /// Answers a request.
    pub async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Cut> {
        match (request.uri().path(), request.method()) {
            ("/hop", &Method::POST) => self.hop(request).await,
            ("/key", &Method::GET) => Ok(match self.records.own() {
                Some(record) => json(record),
                None => text(StatusCode::NOT_FOUND, "this relay was started without --url\n"),
            }),
            ("/records", &Method::GET) => Ok(json(self.records.all())),
            ("/health", &Method::GET) => Ok(text(StatusCode::OK, "ok\n")),
            ("/hop" | "/key" | "/records" | "/health", _) => Ok(status(StatusCode::METHOD_NOT_ALLOWED)),
            _ => Ok(status(StatusCode::NOT_FOUND)),
        }
    }

    /// Takes a packet. Whatever becomes of one with a good length, the answer is the same.
    async fn hop(&self, request: Request<Incoming>) -> Result<Answer, Cut> {
        let class = match check_length(content_length(&request)) {
            Ok(class) => class,
            Err(refusal) => {
                self.counters.count(Event::BadLength);
                let code = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
                return Ok(unread(code));
            }
        };
        let full = self.keys.set().is_full();
        let Some(share) = (!full).then(|| self.budget.take(class.size())).flatten() else {
            return Ok(self.busy(unread(StatusCode::SERVICE_UNAVAILABLE)));
        };
        let packet = read_exactly(request.into_body(), class.size()).await?;
        match self.pool.push(Job { packet, share }) {
            Ok(()) => {
                self.counters.count(Event::Accepted);
                Ok(status(StatusCode::ACCEPTED))
            }
            Err(_) => Ok(self.busy(status(StatusCode::SERVICE_UNAVAILABLE))),
        }
    }

    fn busy(&self, mut answer: Answer) -> Answer {
        self.counters.count(Event::Busy);
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        answer
    }
}

/// The connection is cut without an answer: its body did not come.
#[derive(Debug, thiserror::Error)]
#[error("the body did not come")]
pub struct Cut;

impl From<Infallible> for Cut {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The announced length; `None` when there is none or the body is chunked as well.
fn content_length(request: &Request<Incoming>) -> Option<u64> {
    let headers = request.headers();
    if headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body of exactly `len` bytes into a buffer of exactly that size.
async fn read_exactly(mut body: Incoming, len: usize) -> Result<Vec<u8>, Cut> {
    let mut packet = Vec::with_capacity(len);
    // Small bodies mostly come with their head: no timer for those.
    if let Some(done) = read_frames(&mut body, &mut packet, len).now_or_never() {
        return done.map(|()| packet);
    }
    let reading = tokio::time::timeout(BODY_TIMEOUT, read_frames(&mut body, &mut packet, len));
    reading.await.map_err(|_| Cut)??;
    Ok(packet)
}

async fn read_frames(body: &mut Incoming, packet: &mut Vec<u8>, len: usize) -> Result<(), Cut> {
    while packet.len() < len {
        let frame = body.frame().await.ok_or(Cut)?.map_err(|_| Cut)?;
        if let Some(data) = frame.data_ref() {
            if data.len() > len - packet.len() {
                return Err(Cut);
            }
            packet.extend_from_slice(data);
        }
    }
    Ok(())
}

fn status(code: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = code;
    answer
}

/// An answer to a request whose body is not read: the connection cannot be used again.
fn unread(code: StatusCode) -> Answer {
    let mut answer = status(code);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// A short plain text.
pub fn text(code: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn json(body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
