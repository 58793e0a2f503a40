//! Requests that are refused: what they are told, and what the operator sees of it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::app::App;
use crate::metrics::{Metric, Metrics};
use crate::readers::ReadError;

/// What a client that came too often or at a busy time is told to wait, seconds.
const RETRY_AFTER: u64 = 1;

/// A refusal: status, what to do, and when to come back.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// What is answered.
    pub status: StatusCode,
    text: &'static str,
    retry_after: Option<u64>,
    of_length: bool,
}

impl Refusal {
    pub(crate) const fn new(status: StatusCode, text: &'static str) -> Self {
        Self { status, text, retry_after: None, of_length: false }
    }

    /// A body of a length that is not taken.
    pub(crate) const fn length(status: StatusCode, text: &'static str) -> Self {
        Self { of_length: true, ..Self::new(status, text) }
    }

    pub(crate) const fn bad(text: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(crate) const fn busy() -> Self {
        let text = "the server is busy or cannot store now; try again";
        Self { retry_after: Some(RETRY_AFTER), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, text) }
    }

    pub(crate) const fn rate(retry_after_ms: u64) -> Self {
        let text = "too many requests; try again later";
        let retry_after = Some(retry_after_ms.div_ceil(1000));
        Self { retry_after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, text) }
    }

    /// Nobody reads or writes the topic any more.
    pub(crate) const fn closed() -> Self {
        Self::new(StatusCode::GONE, "the topic was deleted or blocked")
    }

    /// Where it is counted.
    const fn counter<'m>(&self, metrics: &'m Metrics) -> &'m Metric {
        match self.status {
            _ if self.of_length => &metrics.refuse_length,
            StatusCode::UNAUTHORIZED => &metrics.refuse_proof,
            StatusCode::FORBIDDEN => &metrics.refuse_version,
            StatusCode::REQUEST_TIMEOUT => &metrics.refuse_slow,
            StatusCode::GONE => &metrics.refuse_closed,
            StatusCode::TOO_MANY_REQUESTS => &metrics.refuse_rate,
            StatusCode::SERVICE_UNAVAILABLE => &metrics.refuse_load,
            _ => &metrics.refuse_malformed,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(json!({ "error": self.text }))).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Stopped => {}
            ReadError::Store(error) => tracing::error!("a read failed: {error}"),
        }
        Self::busy()
    }
}

/// Counts every refusal, whoever made it.
pub(crate) async fn count(State(app): State<Arc<App>>, response: Response) -> Response {
    if let Some(refusal) = response.extensions().get::<Refusal>() {
        refusal.counter(&app.metrics).inc();
    }
    response
}
