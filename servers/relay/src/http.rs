//! What the relay answers: `POST /hop`, `GET /tunnel`, `/key`, `/records`, `/health` and `/`; nothing else.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use delta_core::onion::v2;
use delta_relay_core::{Counters, Event, check_length};
use delta_server_shell::OnionKeys;
use delta_server_shell::limit::{Rates, Shares};
use delta_server_shell::platform::Clock;
use delta_server_shell::serve::Peer;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, StatusCode};

use crate::budget::{Budget, Share};
use crate::peel::{Job, Pool};
use crate::record::Records;
use crate::tunnel::Tunnels;
use crate::v2::V2;

/// Longest wait for the rest of a body whose head has come, and what each MiB of it adds.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT_PER_MIB: Duration = Duration::from_secs(20);
const MIB: u32 = 1024 * 1024;

/// What a request needs.
#[derive(Debug)]
pub struct Front {
    /// Opens packets.
    pub pool: Arc<Pool>,
    /// Onion keys, for how full their replay sets are.
    pub keys: Arc<OnionKeys>,
    /// Memory for packets.
    pub budget: Budget,
    /// How often every address may ask.
    pub rates: Rates,
    /// Memory for bodies that are still on their way: all together, so that slow senders leave room for packets.
    pub uploads: Budget,
    /// The same for every address.
    pub uploads_each: Arc<Shares>,
    /// Own and others' records.
    pub records: Arc<Records>,
    /// Version 2, where it is taken.
    pub v2: Option<Arc<V2>>,
    /// Tunnels, where they are offered.
    pub tunnels: Option<Arc<Tunnels>>,
    /// The text of `GET /`.
    pub about: Bytes,
    /// What happened.
    pub counters: Arc<Counters>,
    /// For the rates.
    pub clock: Clock,
}

/// An answer with its whole body.
pub type Answer = Response<Full<Bytes>>;

impl Front {
    /// Answers a request.
    pub async fn answer(&self, mut request: Request<Incoming>) -> Result<Answer, Cut> {
        let peer = request.extensions_mut().remove::<Peer>().ok_or(Cut)?;
        if self.rates.take(peer.address, self.clock.now()).is_err() {
            return Ok(self.busy(unread(StatusCode::TOO_MANY_REQUESTS)));
        }
        match (request.uri().path(), request.method()) {
            ("/hop", &Method::POST) => self.hop(request, peer.address).await,
            ("/key", &Method::GET) => Ok(match self.records.own() {
                Some(record) => json(record),
                None => text(StatusCode::NOT_FOUND, "this relay was started without --url\n"),
            }),
            ("/records", &Method::GET) => Ok(json(self.records.all())),
            ("/health", &Method::GET) => Ok(text(StatusCode::OK, "ok\n")),
            ("/", &Method::GET) => Ok(text(StatusCode::OK, self.about.clone())),
            ("/tunnel", &Method::GET) => Ok(match &self.tunnels {
                Some(tunnels) => tunnels.answer(request, peer).await,
                None => status(StatusCode::NOT_FOUND),
            }),
            ("/hop" | "/key" | "/records" | "/health" | "/tunnel" | "/", _) => {
                Ok(status(StatusCode::METHOD_NOT_ALLOWED))
            }
            _ => Ok(status(StatusCode::NOT_FOUND)),
        }
    }

    /// Takes a packet. Whatever becomes of one with a good length, the answer is the same.
    async fn hop(&self, request: Request<Incoming>, from: IpAddr) -> Result<Answer, Cut> {
        let length = content_length(&request);
        let size = match (check_length(length), &self.v2, length) {
            (Ok(class), ..) => class.size(),
            (Err(_), Some(_), Some(length)) if V2::takes(length) => length as usize,
            (Err(refusal), ..) => {
                self.counters.count(Event::BadLength);
                let code = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
                return Ok(unread(code));
            }
        };
        let full = self.keys.set().is_full();
        let Some(share) = (!full).then(|| self.budget.take(size)).flatten() else {
            return Ok(self.busy(unread(StatusCode::SERVICE_UNAVAILABLE)));
        };
        let Some(packet) = self.read(request.into_body(), size, from).await? else {
            return Ok(self.busy(unread(StatusCode::SERVICE_UNAVAILABLE)));
        };
        match &self.v2 {
            Some(v2) if packet.first() == Some(&v2::VERSION) => {
                Ok(match v2.answer(&self.pool, packet, share).await {
                    StatusCode::SERVICE_UNAVAILABLE => later(status(StatusCode::SERVICE_UNAVAILABLE)),
                    code => status(code),
                })
            }
            _ => Ok(self.accept(packet, share)),
        }
    }

    fn accept(&self, packet: Vec<u8>, share: Share) -> Answer {
        if check_length(Some(packet.len() as u64)).is_err() {
            self.counters.count(Event::BadLength);
            return status(StatusCode::BAD_REQUEST);
        }
        match self.pool.push(Job::Packet { packet, share }) {
            Ok(()) => {
                self.counters.count(Event::Accepted);
                status(StatusCode::ACCEPTED)
            }
            Err(_) => self.busy(status(StatusCode::SERVICE_UNAVAILABLE)),
        }
    }

    /// Reads a body of exactly `len` bytes into a buffer of exactly that size; `None` when too many wait for theirs.
    async fn read(&self, mut body: Incoming, len: usize, from: IpAddr) -> Result<Option<Vec<u8>>, Cut> {
        let mut packet = Vec::with_capacity(len);
        // Small bodies mostly come with their head: no timer for those.
        if let Some(done) = read_frames(&mut body, &mut packet, len).now_or_never() {
            return done.map(|()| Some(packet));
        }
        let (all, each) = (self.uploads.take(len), self.uploads_each.take(from, len as u64));
        let (Some(_all), Some(_each)) = (all, each) else { return Ok(None) };
        let reading = read_frames(&mut body, &mut packet, len);
        tokio::time::timeout(body_timeout(len), reading).await.map_err(|_| Cut)??;
        Ok(Some(packet))
    }

    fn busy(&self, answer: Answer) -> Answer {
        self.counters.count(Event::Busy);
        later(answer)
    }
}

/// How long a body of `len` bytes may take.
fn body_timeout(len: usize) -> Duration {
    BODY_TIMEOUT + BODY_TIMEOUT_PER_MIB * u32::try_from(len).unwrap_or(u32::MAX).div_ceil(1024) / (MIB / 1024)
}

/// The text of `GET /`: what this is, for whoever finds the address in a log of theirs.
pub fn about(contact: Option<&str>) -> Bytes {
    let contact = contact.map(|contact| format!("To report abuse: {contact}\n")).unwrap_or_default();
    let text = "This is a Delta relay. It forwards sealed packets of constant size to other relays. It cannot read \
                them, does not know who sent them, and keeps no logs of addresses.\n";
    Bytes::from(format!("{text}{contact}"))
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

/// Says when to come back.
fn later(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// An answer without a body.
pub fn status(code: StatusCode) -> Answer {
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
