//! The HTTP routes: deliveries, history, and what the server says of itself.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use delta_core::identity::{EnvelopeHash, Millis};
use delta_core::limits::MAX_ENVELOPE;
use delta_core::onion::PacketClass;
use delta_core::onion::directory::RecordObject;
use delta_core::topic::{Seq, TopicId};
use delta_server_shell::platform;
use delta_server_shell::serve::Peer;
use delta_topic_log::{
    Cursor, HISTORY_DEFAULT_LIMIT, HISTORY_MAX_LIMIT, HistoryQuery, LogView, MAX_HAS, Write, json,
};
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;
use serde_json::json;

use crate::app::App;
use crate::download;
use crate::refusal::{self, Refusal};
use crate::socket;
use crate::topics;
use crate::writer::Refused;

/// Longest JSON delivery: the largest operation in base64, the topic, and room for the names.
const MAX_JSON: usize = MAX_ENVELOPE.div_ceil(3) * 4 + 1024;
/// A request body must arrive within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The routes of the public address.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/deliver", post(deliver))
        .route("/topic/{topic}", get(subscribe))
        .route("/topic/{topic}/ops", get(ops))
        .route("/topic/{topic}/has", post(has))
        .route("/topic/{topic}/head", get(head))
        .route("/topic/{topic}/search", get(topics::search))
        .route("/topic/{topic}/about", get(topics::about))
        .route("/topic/{topic}/nonce", get(topics::nonce))
        .route("/topic/{topic}/subscribers", get(topics::subscribers))
        .route("/info", get(info))
        .route("/health", get(health))
        .layer(map_response_with_state(Arc::clone(&app), refusal::count))
        .with_state(app)
}

async fn deliver(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if kind.to_ascii_lowercase().starts_with(b"application/json") {
        return deliver_json(&app, request).await;
    }
    let Some(len) = content_length(request.headers()) else {
        return Err(Refusal::length(StatusCode::LENGTH_REQUIRED, "a packet has a Content-Length"));
    };
    if PacketClass::from_len(len).is_none() {
        let too_long = len > PacketClass::LARGEST.size();
        let status = if too_long { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
        return Err(Refusal::length(status, "the length is no size class"));
    }
    let permit = app.admit(len).filter(|_| !app.keys.set().is_full()).ok_or(Refusal::busy())?;
    let bytes = read_delivery(&app, request, len, len).await?;
    if bytes.len() != len {
        return Err(Refusal::bad("the body is shorter than its length"));
    }
    app.metrics.packets.inc();
    app.ingress.take(bytes, permit);
    Ok(StatusCode::ACCEPTED.into_response())
}

#[derive(Deserialize)]
struct JsonDelivery {
    topic_hex: String,
    op_base64: String,
}

async fn deliver_json(app: &Arc<App>, request: Request) -> Result<Response, Refusal> {
    if !app.accept_v2 {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "this server takes onion packets only"));
    }
    let too_large = Refusal::length(StatusCode::PAYLOAD_TOO_LARGE, "an operation has at most 1 MiB");
    let len = content_length(request.headers());
    if len.is_some_and(|len| len > MAX_JSON) {
        return Err(too_large);
    }
    let most = len.unwrap_or(MAX_JSON);
    let permit = app.admit(most).ok_or(Refusal::busy())?;
    let body = read_delivery(app, request, len.unwrap_or(4096), most).await?;
    let parsed: JsonDelivery = serde_json::from_slice(&body)
        .map_err(|_| Refusal::bad("the body is not {\"topic_hex\", \"op_base64\"}"))?;
    let topic = parse_topic(&parsed.topic_hex).map_err(|_| Refusal::bad("topic_hex is not 64 hex digits"))?;
    let op = STANDARD.decode(&parsed.op_base64);
    let op = op.map_err(|_| Refusal::bad("op_base64 is not padded standard base64"))?;
    if op.is_empty() {
        return Err(Refusal::bad("an operation has at least one byte"));
    }
    if op.len() > MAX_ENVELOPE {
        return Err(too_large);
    }
    match app.writer.store(topic, op.into(), Write::Unsigned, permit).await {
        Ok(seq) => Ok(axum::Json(json!({ "seq": seq.0 })).into_response()),
        Err(Refused::SignedTopic) => {
            Err(Refusal::new(StatusCode::FORBIDDEN, "the topic takes signed writes only"))
        }
        Err(Refused::Closed) => Err(Refusal::closed()),
        Err(Refused::Rate { retry_after_ms }) => Err(Refusal::rate(retry_after_ms)),
        Err(Refused::Malformed) => Err(Refusal::bad("the operation is malformed")),
        Err(Refused::TooManyTopics | Refused::Storage | Refused::Stopping) => Err(Refusal::busy()),
    }
}

async fn subscribe(
    State(app): State<Arc<App>>,
    Path(topic): Path<String>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let topic = parse_topic(&topic)?;
    let params = Params::of(request.uri())?;
    let cursor = parse_cursor(&params)?;
    let handshake = socket::Handshake::read(request.headers()).ok_or(Refusal::new(
        StatusCode::UPGRADE_REQUIRED,
        "this is a WebSocket; /ops and /head answer plain requests",
    ))?;
    let peer = request.extensions_mut().remove::<Peer>().ok_or(Refusal::busy())?;
    app.subscribes.take(peer.address, platform::now()).map_err(Refusal::rate)?;
    if *app.closing.borrow() {
        return Err(Refusal::busy());
    }
    let reader = topics::authorise(&app, &topic, &params).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    let mode = handshake.mode;
    tokio::spawn(async move {
        // A client that goes away before the upgrade is done is gone, and nothing to report.
        if let Ok(upgraded) = upgrade.await {
            socket::serve(app, upgraded, mode, topic, cursor, reader).await;
        }
        drop(peer);
    });
    Ok(handshake.response())
}

async fn ops(
    State(app): State<Arc<App>>,
    Path(topic): Path<String>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let topic = parse_topic(&topic)?;
    let params = Params::of(&uri)?;
    charge_read(&app, &peer)?;
    let query = parse_history(&params, HISTORY_DEFAULT_LIMIT, HISTORY_MAX_LIMIT)?;
    topics::authorise(&app, &topic, &params).await?;
    let secret = app.secret.clone();
    let read = move |sql: &crate::store::Sql| {
        let view = LogView::read(sql, &secret, &topic)?;
        delta_topic_log::history(sql, &view, &topic, &query)
    };
    let page = app.readers.run(read).await?;
    page_response(&app, &peer, &headers, || page.encode(), || json::page(&page))
}

/// A question about a topic counts for its address.
pub(crate) fn charge_read(app: &App, peer: &Peer) -> Result<(), Refusal> {
    app.reads.take(peer.address, platform::now()).map_err(Refusal::rate)
}

/// A page in bytes where the client asks for them, else in JSON.
pub(crate) fn page_response(
    app: &App,
    peer: &Peer,
    headers: &HeaderMap,
    bytes: impl FnOnce() -> Vec<u8>,
    json: impl FnOnce() -> String,
) -> Result<Response, Refusal> {
    let accept = headers.get(header::ACCEPT).map_or(&b""[..], HeaderValue::as_bytes);
    let wants_bytes = accept.to_ascii_lowercase().windows(OCTETS.len()).any(|part| part == OCTETS.as_bytes());
    let (kind, page) =
        if wants_bytes { (OCTETS, bytes()) } else { ("application/json", json().into_bytes()) };
    let body = download::body(app, peer.address, page).ok_or(Refusal::busy())?;
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

const OCTETS: &str = "application/octet-stream";

async fn has(
    State(app): State<Arc<App>>,
    Path(topic): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let topic = parse_topic(&topic)?;
    let peer = request.extensions().get::<Peer>().ok_or(Refusal::busy())?;
    charge_read(&app, peer)?;
    topics::authorise(&app, &topic, &Params::of(request.uri())?).await?;
    let length = Refusal::bad("the body is 1 to 256 hashes of 32 bytes");
    let body = match read_body(request.into_body(), 32, MAX_HAS * 32, || Some(())).await {
        Ok(body) => body,
        Err(refusal) if refusal.status == StatusCode::PAYLOAD_TOO_LARGE => return Err(length),
        Err(refusal) => return Err(refusal),
    };
    let hashes: Vec<EnvelopeHash> =
        body.chunks(32).filter_map(|hash| hash.try_into().ok().map(EnvelopeHash)).collect();
    if hashes.is_empty() || hashes.len() * 32 != body.len() {
        return Err(length);
    }
    let seqs = app.readers.run(move |sql| delta_topic_log::has(sql, &topic, &hashes)).await?;
    let answer: Vec<u8> = seqs.iter().flat_map(|seq| seq.0.to_be_bytes()).collect();
    Ok(([(header::CONTENT_TYPE, OCTETS)], answer).into_response())
}

async fn head(
    State(app): State<Arc<App>>,
    Path(topic): Path<String>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let topic = parse_topic(&topic)?;
    charge_read(&app, &peer)?;
    topics::authorise(&app, &topic, &Params::of(&uri)?).await?;
    let secret = app.secret.clone();
    let view = app.readers.run(move |sql| LogView::read(sql, &secret, &topic)).await?;
    let LogView { generation, head, tail, .. } = view;
    let body = json!({ "generation": generation.to_string(), "head": head.0, "tail": tail.0 });
    Ok(axum::Json(body).into_response())
}

async fn info(State(app): State<Arc<App>>) -> Response {
    let record = app.record.read().unwrap_or_else(PoisonError::into_inner);
    let limits: serde_json::Map<_, _> =
        app.limits.list().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    axum::Json(json!({
        "record": record.as_ref().map(RecordObject::to_value),
        "protocol": [1, 2],
        "contact": app.contact,
        "read_proof": app.read_proof,
        "limits": limits,
        "retention": {
            "bytes_per_topic": app.limits.bytes_per_topic,
            "ops_per_topic": app.limits.ops_per_topic,
            "max_age_days": app.limits.max_age_days,
        },
    }))
    .into_response()
}

/// Liveness.
pub async fn health() -> &'static str {
    "ok\n"
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The body of a delivery. One that has not come with its head takes a share of what may be on its way.
async fn read_delivery(
    app: &App,
    mut request: Request,
    expected: usize,
    limit: usize,
) -> Result<Vec<u8>, Refusal> {
    let peer = request.extensions_mut().remove::<Peer>().ok_or(Refusal::busy())?;
    let from: IpAddr = peer.address;
    let wait = || app.uploads_each.take(from, limit as u64).zip(app.uploads.take(limit));
    read_body(request.into_body(), expected, limit, wait).await
}

/// The whole body, at most `limit` bytes of it, within [`BODY_TIMEOUT`]; while it waits for more it holds what `wait`
/// gives, and is refused if that is nothing.
async fn read_body<T>(
    body: Body,
    expected: usize,
    limit: usize,
    wait: impl FnOnce() -> Option<T>,
) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::with_capacity(expected.min(limit));
    let mut chunks = body.into_data_stream();
    if let Some(done) = read_chunks(&mut chunks, &mut bytes, limit).now_or_never() {
        return done.map(|()| bytes);
    }
    let _held = wait().ok_or(Refusal::busy())?;
    let reading = read_chunks(&mut chunks, &mut bytes, limit);
    let slow = Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body took too long");
    tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(slow))?;
    Ok(bytes)
}

async fn read_chunks(chunks: &mut BodyDataStream, bytes: &mut Vec<u8>, limit: usize) -> Result<(), Refusal> {
    while let Some(chunk) = chunks.next().await {
        let chunk: Bytes = chunk.map_err(|_| Refusal::bad("the body was cut off"))?;
        if bytes.len() + chunk.len() > limit {
            return Err(Refusal::length(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(())
}

/// 64 hex digits of either case.
pub(crate) fn parse_topic(text: &str) -> Result<TopicId, Refusal> {
    text.to_ascii_lowercase().parse().map_err(|_| Refusal::bad("a topic is 64 hex digits"))
}

/// Query parameters; unknown ones are ignored, doubled ones refused.
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    pub(crate) fn of(uri: &Uri) -> Result<Self, Refusal> {
        let Query(pairs) = Query::try_from_uri(uri).map_err(|_| Refusal::bad("the query is malformed"))?;
        Ok(Self(pairs))
    }

    pub(crate) fn get(&self, name: &'static str) -> Result<Option<&str>, Refusal> {
        let mut values = self.0.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Refusal::bad("a parameter is doubled")),
        }
    }

    fn number(&self, name: &'static str, max: u64) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.get(name)? else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && *number <= max);
        number.map(Some).ok_or(Refusal::bad("a number is malformed or out of range"))
    }

    pub(crate) fn hex<const N: usize>(&self, name: &'static str) -> Result<Option<[u8; N]>, Refusal> {
        let Some(text) = self.get(name)? else { return Ok(None) };
        let mut bytes = [0; N];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| Refusal::bad("a value is not hex of its length"))?;
        Ok(Some(bytes))
    }
}

fn parse_cursor(params: &Params) -> Result<Cursor, Refusal> {
    let since = Seq(params.number("since", Seq::MAX.0)?.unwrap_or(0));
    let generation = params.hex("generation")?.map(delta_core::Generation);
    let chain = params.hex("chain")?;
    if chain.is_some() && generation.is_none() {
        return Err(Refusal::bad("chain needs generation"));
    }
    Ok(Cursor { since, generation, chain })
}

/// Bounds of a page; `limit` is 1 to `most`.
pub(crate) fn parse_history(params: &Params, default: u16, most: u16) -> Result<HistoryQuery, Refusal> {
    let seq = |name| params.number(name, Seq::MAX.0).map(|number| number.map(Seq));
    let time = |name| params.number(name, i64::MAX as u64).map(|number| number.map(Millis));
    let limit = params.number("limit", most.into())?.unwrap_or(default.into());
    Ok(HistoryQuery {
        after: seq("after")?,
        before: seq("before")?,
        from: time("from_ms")?,
        to: time("to_ms")?,
        limit: u16::try_from(limit)
            .ok()
            .filter(|limit| *limit > 0)
            .ok_or(Refusal::bad("limit is at least 1"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::of(&format!("http://server/topic?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn cursors_are_read_strictly() {
        let (generation, chain) = ("ab".repeat(16), "cd".repeat(8));
        assert_eq!(parse_cursor(&params("")).unwrap(), Cursor::default());
        let cursor =
            parse_cursor(&params(&format!("since=7&generation={generation}&chain={chain}"))).unwrap();
        assert_eq!((cursor.since, cursor.chain), (Seq(7), Some([0xcd; 8])));
        assert!(parse_cursor(&params("since=9223372036854775807")).is_ok());
        for bad in [
            "since=",
            "since=-1",
            "since=%2B1",
            "since=1.0",
            "since=9223372036854775808",
            "since=99999999999999999999",
            "since=1&since=1",
            "generation=ab",
            &format!("chain={chain}"),
            &format!("generation={generation}&chain=cd"),
            &format!("generation={generation}&chain={chain}00"),
        ] {
            assert!(parse_cursor(&params(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn history_queries_are_read_strictly() {
        let parse_history = |params: &Params| parse_history(params, HISTORY_DEFAULT_LIMIT, HISTORY_MAX_LIMIT);
        assert_eq!(parse_history(&params("")).unwrap(), HistoryQuery::default());
        let query = parse_history(&params("after=1&before=9&from_ms=2&to_ms=3&limit=1000")).unwrap();
        assert_eq!((query.after, query.before, query.limit), (Some(Seq(1)), Some(Seq(9)), 1000));
        for bad in ["limit=0", "limit=1001", "after=x", "before=-1", "from_ms=", "to_ms=1e3"] {
            assert!(parse_history(&params(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_topic_is_hex_of_either_case() {
        assert!(parse_topic(&"Ab".repeat(32)).is_ok());
        for bad in ["ab".repeat(31), "ab".repeat(33), "xy".repeat(32), String::new()] {
            assert!(parse_topic(&bad).is_err());
        }
    }
}
