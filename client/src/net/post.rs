//! HTTP: packets to entry relays, and a server's record from its `/info`.

use std::time::Duration;

use delta_core::engine::Handover;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use thiserror::Error;

use super::retry_after;

/// Time to open a TCP and TLS connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for a whole request beside its body.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);
/// Slowest uplink a packet is sent over, bytes per second: 64 kbit/s.
const MIN_UPLINK: u64 = 8 * 1024;
/// Kept connections per relay: as many as packets of one topic are in flight.
const IDLE_PER_HOST: usize = delta_core::limits::OUTBOX_WINDOW;
/// Answer bytes read so that the connection can be used again; a longer answer costs the connection.
const MAX_ANSWER: usize = 1024;
/// Longest `/info` answer.
pub(crate) const MAX_INFO: usize = 64 * 1024;

/// Keep-alive HTTP without proxies or redirects.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    tls: rustls::ClientConfig,
    allow_plaintext: bool,
}

/// `/info` could not be read.
#[derive(Debug, Error)]
pub(crate) enum InfoError {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer is longer than {MAX_INFO} bytes")]
    TooLong,
}

impl Http {
    pub(crate) fn new(tls: rustls::ClientConfig, allow_plaintext: bool) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .https_only(!allow_plaintext)
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TOTAL_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .tcp_nodelay(true)
            .build()?;
        Ok(Self { client, tls, allow_plaintext })
    }

    /// The same without any kept connection.
    pub(crate) fn renewed(&self) -> Result<Self, reqwest::Error> {
        Self::new(self.tls.clone(), self.allow_plaintext)
    }

    /// POSTs a packet. Any 2xx says that the relay took it, which promises nothing more.
    pub(crate) async fn post_packet(&self, url: &str, packet: Vec<u8>) -> Result<Handover, reqwest::Error> {
        let octets = HeaderValue::from_static("application/octet-stream");
        let time = TOTAL_TIMEOUT + Duration::from_secs(packet.len() as u64 / MIN_UPLINK);
        let request = self.client.post(url).header(CONTENT_TYPE, octets).timeout(time).body(packet);
        let mut response = request.send().await?;
        let handover = match response.status() {
            status if status.is_success() => Handover::Taken,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Handover::Busy { retry_after_ms: retry_after(response.headers()) }
            }
            _ => Handover::Failed,
        };
        let mut read = 0;
        while read <= MAX_ANSWER {
            match response.chunk().await {
                Ok(Some(chunk)) => read += chunk.len(),
                Ok(None) | Err(_) => break,
            }
        }
        Ok(handover)
    }

    /// The body of `GET <base>/info`.
    pub(crate) async fn info(&self, base: &str) -> Result<Vec<u8>, InfoError> {
        let mut response = self.client.get(format!("{base}/info")).send().await?;
        if !response.status().is_success() {
            return Err(InfoError::Status(response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_INFO {
                return Err(InfoError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}
