//! What the operator sees on the admin address: metrics for machines, a page for people.
//!
//! The page is three small files inside the program; it loads nothing from elsewhere. It asks `/status.json` once a
//! second. Topics are shown by the first eight digits of their ids.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use delta_core::identity::Millis;
use delta_core::topic::TopicId;
use delta_server_shell::platform;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::app::App;
use crate::http::health;
use crate::refusal::Refusal;
use crate::store::TopicSize;

/// Seconds the plots show.
pub const SAMPLES: usize = 300;
/// Topics in the table.
pub const LARGEST_TOPICS: usize = 10;
/// How old the table of topics may be: it takes a walk over all topics.
const TOPICS_VALID_MS: u64 = 30_000;
const EVERY: Duration = Duration::from_secs(1);

const PAGE: &str = include_str!("status/page.html");
const STYLE: &str = include_str!("status/page.css");
const SCRIPT: &str = include_str!("status/page.js");
/// Nothing from elsewhere, nothing inline, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// What topics keep, most first.
type Largest = Vec<TopicSize>;

/// Counters over time, and the last walk over the topics.
#[derive(Debug, Default)]
pub struct History {
    samples: Mutex<VecDeque<Sample>>,
    topics: Mutex<Option<(Millis, Largest)>>,
}

/// What was counted up to some second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    packets: u64,
    stored: u64,
    pushed: u64,
}

impl History {
    fn push(&self, sample: Sample) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back(sample);
        // One more than there are seconds: a rate needs two ends.
        while samples.len() > SAMPLES + 1 {
            samples.pop_front();
        }
    }

    fn rates(&self) -> Value {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let rates = |of: fn(&Sample) -> u64| -> Vec<u64> {
            let later = samples.iter().skip(1);
            samples.iter().zip(later).map(|(a, b)| of(b).saturating_sub(of(a))).collect()
        };
        json!({
            "packets": rates(|sample| sample.packets),
            "stored": rates(|sample| sample.stored),
            "pushed": rates(|sample| sample.pushed),
        })
    }
}

/// The routes of the admin address.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(async || asset("text/html; charset=utf-8", PAGE)))
        .route("/status.css", get(async || asset("text/css; charset=utf-8", STYLE)))
        .route("/status.js", get(async || asset("text/javascript; charset=utf-8", SCRIPT)))
        .route("/status.json", get(status))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(app)
}

/// Takes a sample every second until the server stops.
pub async fn sample(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let metrics = &app.metrics;
        app.history.push(Sample {
            packets: metrics.packets.get(),
            stored: metrics.stored.get(),
            pushed: metrics.pushed.get() + metrics.replayed.get(),
        });
    }
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.render_metrics()).into_response()
}

async fn status(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let topics = largest_topics(&app).await?;
    app.refresh_gauges();
    let counters: serde_json::Map<_, _> =
        app.metrics.list().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let topics: Vec<_> = topics
        .iter()
        .map(|TopicSize { topic, operations, bytes }| {
            let subscribers = app.live.subscribers(topic);
            json!({ "id": shortened(topic), "operations": operations, "bytes": bytes, "subscribers": subscribers })
        })
        .collect();
    let metrics = &app.metrics;
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "server": hex::encode(app.identity.verifying_key().to_bytes()),
        "counters": counters,
        "per_second": app.history.rates(),
        "topics": topics,
        "commits": [
            { "deliveries": "1", "count": metrics.commit_1.get() },
            { "deliveries": "2–10", "count": metrics.commit_10.get() },
            { "deliveries": "11–100", "count": metrics.commit_100.get() },
            { "deliveries": "over 100", "count": metrics.commit_more.get() },
        ],
    });
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response())
}

async fn largest_topics(app: &App) -> Result<Largest, Refusal> {
    let now = platform::now();
    let cached = app.history.topics.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((_, topics)) = cached.filter(|(at, _)| *at <= now && now.since(*at) < TOPICS_VALID_MS) {
        return Ok(topics);
    }
    let topics = app.readers.run(|sql| sql.largest_topics(LARGEST_TOPICS)).await?;
    *app.history.topics.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, topics.clone()));
    Ok(topics)
}

fn shortened(topic: &TopicId) -> String {
    topic.to_string().chars().take(8).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_of_the_last_300_seconds() {
        let history = History::default();
        assert_eq!(history.rates()["stored"], json!([]));
        for second in 0..=400u64 {
            history.push(Sample { packets: second * second, stored: 7, pushed: second });
        }
        let rates = history.rates();
        let packets = rates["packets"].as_array().unwrap();
        assert_eq!((packets.len(), packets.last().unwrap()), (SAMPLES, &json!(400 * 400 - 399 * 399)));
        assert_eq!(rates["stored"], json!(vec![0; SAMPLES]));
        assert_eq!(rates["pushed"], json!(vec![1; SAMPLES]));
    }

    #[test]
    fn a_shortened_id_does_not_name_the_topic() {
        assert_eq!(shortened(&TopicId([0xab; 32])), "abababab…");
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        for text in [PAGE, STYLE, SCRIPT] {
            let foreign = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!foreign.contains("//www.") && !foreign.contains("http:") && !foreign.contains("https:"));
            assert!(!text.contains("innerHTML"));
        }
    }
}
