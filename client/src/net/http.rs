//! HTTP: packets to entry relays, and what a server answers to a GET.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use delta_core::engine::Handover;
use delta_core::engine::refetch::FETCH_TIMEOUT_MS;
use delta_core::onion::directory::MAX_DIRECTORY_BYTES;
use delta_core::onion::route::Tunnel;
use delta_core::sync::history::MAX_PAGE;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::time::{Instant, timeout, timeout_at};

use super::dial::Target;
use super::pool::{self, BodyError, HttpError, Pool};
use super::socket::SocketContext;
use super::tunnel::{self, TunnelError};

/// Time for a whole request beside its body.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);
/// Slowest uplink a packet is sent over, bytes per second: 64 kbit/s.
const MIN_UPLINK: u64 = 8 * 1024;
/// Answer bytes read so that the connection can be used again; a longer answer costs the connection.
const MAX_ANSWER: usize = 1024;
/// Longest answer to `has`: a seq for each hash.
const MAX_ANSWER_HAS: usize = 8 * delta_core::engine::look::MAX_HASHES;
/// Longest Retry-After that is believed, milliseconds.
const MAX_RETRY_AFTER_MS: u64 = 60 * 60 * 1000;
/// Longest answer in JSON.
pub(crate) const MAX_JSON: usize = 64 * 1024;
/// Time for a page of history: it may be megabytes over a slow network. Well inside the engine's own deadline.
const PAGE_TIMEOUT: Duration = Duration::from_millis(FETCH_TIMEOUT_MS / 2);

/// Keep-alive HTTP without redirects, and through no proxy but the configuration's.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    pool: Arc<Pool>,
    sockets: SocketContext,
    /// The tunnel that GETs go through, each on a connection of its own.
    via: Option<Arc<Tunnel>>,
}

/// A GET got no answer that can be used.
#[derive(Debug, Error)]
pub(crate) enum GetError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("it answered {status}")]
    Status {
        status: StatusCode,
        /// The server's wish, 0 for none.
        retry_after_ms: u64,
    },
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("its answer is not what it should be")]
    Malformed,
    /// The relay of a tunnel, or the way through it, is to blame.
    #[error("nothing came through the tunnel: {why}")]
    Tunnel {
        /// The relay's wish, 0 for none.
        retry_after_ms: u64,
        why: String,
    },
}

impl From<TunnelError> for GetError {
    fn from(error: TunnelError) -> Self {
        Self::Tunnel { retry_after_ms: error.retry_after_ms, why: error.why }
    }
}

impl GetError {
    /// What it answered.
    pub(crate) const fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Http(_) | Self::TooLong(_) | Self::Malformed | Self::Tunnel { .. } => None,
        }
    }

    /// The server's or the relay's wish, 0 for none.
    pub(crate) const fn retry_after_ms(&self) -> u64 {
        match self {
            Self::Status { retry_after_ms, .. } | Self::Tunnel { retry_after_ms, .. } => *retry_after_ms,
            Self::Http(_) | Self::TooLong(_) | Self::Malformed => 0,
        }
    }
}

impl Http {
    pub(crate) fn new(sockets: SocketContext) -> Self {
        Self { pool: Pool::new(sockets.clone()), sockets, via: None }
    }

    /// The same, with GETs through this tunnel.
    pub(crate) fn through(&self, via: Option<Tunnel>) -> Self {
        Self { via: via.map(Arc::new), ..self.clone() }
    }

    /// The same without any kept connection.
    pub(crate) fn renewed(&self) -> Self {
        Self::new(self.sockets.clone())
    }

    /// POSTs a packet. Any 2xx says that the relay took it, which promises nothing more. In version 2 a relay answers when
    /// the next node has: 502 is said by one that is there, of those behind it. (Elsewhere a proxy says it of its relay.)
    pub(crate) async fn post_packet(
        &self,
        url: &str,
        packet: Vec<u8>,
        is_v2: bool,
    ) -> Result<Handover, HttpError> {
        let time = TOTAL_TIMEOUT + Duration::from_secs(packet.len() as u64 / MIN_UPLINK);
        let until = Instant::now() + time;
        let sending = self.pool.send(url, false, Some(packet.into()));
        let answer = timeout_at(until, sending).await.unwrap_or(Err(HttpError::Timeout))?;
        let handover = match answer.response.status() {
            status if status.is_success() => Handover::Taken,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Handover::Busy { retry_after_ms: retry_after(answer.response.headers()) }
            }
            StatusCode::BAD_GATEWAY if is_v2 => Handover::Undelivered,
            _ => Handover::Failed,
        };
        drop(timeout_at(until, answer.body(MAX_ANSWER)).await);
        Ok(handover)
    }

    /// The body of a small JSON answer.
    pub(crate) async fn json(&self, url: &str) -> Result<Vec<u8>, GetError> {
        self.ask(url, false, None, TOTAL_TIMEOUT, MAX_JSON).await
    }

    /// The whole set of nodes' records.
    pub(crate) async fn records(&self, url: &str) -> Result<Vec<u8>, GetError> {
        self.ask_directly(url, false, None, PAGE_TIMEOUT, MAX_DIRECTORY_BYTES).await
    }

    /// A page of history in its binary form.
    pub(crate) async fn page(&self, url: &str) -> Result<Vec<u8>, GetError> {
        self.ask(url, true, None, PAGE_TIMEOUT, MAX_PAGE).await
    }

    /// Asks which envelopes a topic holds: POSTs their hashes, gets a seq for each.
    pub(crate) async fn has(&self, url: &str, hashes: Bytes) -> Result<Vec<u8>, GetError> {
        self.ask(url, true, Some(hashes), TOTAL_TIMEOUT, MAX_ANSWER_HAS).await
    }

    /// GETs, or POSTs `sent`, directly or through the tunnel.
    async fn ask(
        &self,
        url: &str,
        wants_octets: bool,
        sent: Option<Bytes>,
        time: Duration,
        limit: usize,
    ) -> Result<Vec<u8>, GetError> {
        match &self.via {
            Some(via) => {
                let asking = self.ask_through(via, url, wants_octets, sent, limit);
                timeout(time, asking)
                    .await
                    .unwrap_or_else(|_| Err(TunnelError::because("no answer in time").into()))
            }
            None => self.ask_directly(url, wants_octets, sent, time, limit).await,
        }
    }

    /// A connection of its own, through a tunnel of its own.
    async fn ask_through(
        &self,
        via: &Tunnel,
        url: &str,
        wants_octets: bool,
        sent: Option<Bytes>,
        limit: usize,
    ) -> Result<Vec<u8>, GetError> {
        let target = Target::parse(url, self.sockets.allow_plaintext).map_err(TunnelError::because)?;
        let request = pool::request(&target, wants_octets, sent).map_err(TunnelError::because)?;
        let stream = tunnel::connect(&self.sockets, via, &target).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(TunnelError::because)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(TunnelError::because)?;
            through(response, limit).await
        };
        // Nobody waits for the connection's end: it is dropped with the answer.
        let mut exchange = std::pin::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            answer = &mut exchange => answer,
            _ = &mut connection => exchange.await,
        }
    }

    async fn ask_directly(
        &self,
        url: &str,
        wants_octets: bool,
        sent: Option<Bytes>,
        time: Duration,
        limit: usize,
    ) -> Result<Vec<u8>, GetError> {
        let asking = async {
            let answer = self.pool.send(url, wants_octets, sent).await?;
            let status = answer.response.status();
            if !status.is_success() {
                let retry_after_ms = retry_after(answer.response.headers());
                return Err(GetError::Status { status, retry_after_ms });
            }
            answer.body(limit).await.map_err(|error| match error {
                BodyError::TooLong => GetError::TooLong(limit),
                BodyError::Broken(error) => HttpError::from(error).into(),
            })
        };
        timeout(time, asking).await.unwrap_or_else(|_| Err(HttpError::Timeout.into()))
    }
}

/// The body of an answer that came through a tunnel.
async fn through(mut response: Response<Incoming>, limit: usize) -> Result<Vec<u8>, GetError> {
    let status = response.status();
    if !status.is_success() {
        let retry_after_ms = retry_after(response.headers());
        // Too many from one address is a matter of the relay's address.
        return Err(match status {
            StatusCode::TOO_MANY_REQUESTS => {
                GetError::Tunnel { retry_after_ms, why: "the server hears too much from the relay".into() }
            }
            _ => GetError::Status { status, retry_after_ms },
        });
    }
    pool::body(response.body_mut(), limit).await.map_err(|error| match error {
        BodyError::TooLong => GetError::TooLong(limit),
        BodyError::Broken(error) => TunnelError::because(error).into(),
    })
}

/// Retry-After in whole seconds, as milliseconds; its date form is not used by our servers and not read.
pub(crate) fn retry_after(headers: &HeaderMap) -> u64 {
    let seconds =
        headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    seconds.map_or(0, |seconds| seconds.saturating_mul(1000).min(MAX_RETRY_AFTER_MS))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_read_in_seconds_and_capped() {
        let header = |value: &'static str| {
            HeaderMap::from_iter([("retry-after".parse().unwrap(), HeaderValue::from_static(value))])
        };
        assert_eq!(retry_after(&HeaderMap::new()), 0);
        assert_eq!(retry_after(&header("7")), 7_000);
        assert_eq!(retry_after(&header("18446744073709551615")), MAX_RETRY_AFTER_MS);
        assert_eq!(retry_after(&header("Wed, 21 Oct 2026 07:28:00 GMT")), 0);
    }
}
