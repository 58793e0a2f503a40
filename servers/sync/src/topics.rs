//! Public and protected topics over HTTP: what a topic says of itself, who may read it, how many listen, and searching
//! a public channel.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use delta_core::identity::{Author, NodeId};
use delta_core::onion::control::{Action, Control};
use delta_core::sync::proof::Purpose;
use delta_core::topic::{TopicId, WriteVerifyingKey};
use delta_server_shell::platform;
use delta_server_shell::serve::Peer;
use delta_topic_log::{
    LogReader, SEARCH_DEFAULT_LIMIT, SEARCH_MAX_LIMIT, SearchQuery, Words, WordsError, json as frames,
};
use serde_json::json;

use crate::app::App;
use crate::http::{Params, charge_read, page_response, parse_history, parse_topic};
use crate::refusal::Refusal;
use crate::socket::ReaderKey;

/// Whether the request may read the topic.
///
/// # Errors
/// The topic is closed, or has a read key that the request does not prove.
pub(crate) async fn authorise(app: &App, topic: &TopicId, params: &Params) -> Result<ReaderKey, Refusal> {
    if app.live.is_closed(topic) {
        return Err(Refusal::closed());
    }
    if !app.read_proof {
        return Ok(ReaderKey::NotAsked);
    }
    let id = *topic;
    let key = app.readers.run(move |sql| sql.facts(&id)).await?.read_key;
    if let Some(key) = key {
        prove(app, Purpose::Read, &key, topic, params)?;
    }
    Ok(ReaderKey::Proved(key))
}

fn prove(
    app: &App,
    purpose: Purpose,
    key: &[u8; 32],
    topic: &TopicId,
    params: &Params,
) -> Result<(), Refusal> {
    let (nonce, proof) = (params.hex("nonce")?, params.hex("proof")?);
    let server = NodeId(app.identity.verifying_key().to_bytes());
    match (nonce, proof) {
        (Some(nonce), Some(proof))
            if app.nonces.knows(topic, &nonce, platform::now())
                && purpose.verify(key, &server, topic, &nonce, &proof) =>
        {
            Ok(())
        }
        _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "a fresh nonce and a proof of the key are needed")),
    }
}

/// `GET /topic/<id>/nonce`: for the next proof. The same answer for every topic.
pub async fn nonce(State(app): State<Arc<App>>, Path(topic): Path<String>) -> Result<Response, Refusal> {
    let topic = parse_topic(&topic)?;
    let nonce = app.nonces.issue(&topic, platform::now());
    Ok(axum::Json(json!({ "nonce": hex::encode(nonce) })).into_response())
}

/// `GET /topic/<id>/about`: what a public topic says of itself.
pub async fn about(
    State(app): State<Arc<App>>,
    Path(topic): Path<String>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let topic = parse_topic(&topic)?;
    charge_read(&app, &peer)?;
    authorise(&app, &topic, &Params::of(&uri)?).await?;
    let facts = app.readers.run(move |sql| sql.facts(&topic)).await?;
    let described = facts.metadata.and_then(|payload| Control::decode(&payload).ok());
    let metadata = described.and_then(|control| match control.action {
        Action::Metadata(metadata) => {
            Some(json!({ "name": metadata.name, "description": metadata.description }))
        }
        Action::ReadKey(_) | Action::Delete => None,
    });
    let body = json!({ "metadata": metadata, "counter": facts.counter, "read_key": facts.read_key.map(hex::encode) });
    Ok(axum::Json(body).into_response())
}

/// `GET /topic/<id>/subscribers?write_vk=&nonce=&proof=`: how many listen, for those who may write.
pub async fn subscribers(
    State(app): State<Arc<App>>,
    Path(topic): Path<String>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let topic = parse_topic(&topic)?;
    charge_read(&app, &peer)?;
    let params = Params::of(&uri)?;
    let key: [u8; 32] = params.hex("write_vk")?.ok_or(Refusal::bad("write_vk is missing"))?;
    if TopicId::of(&WriteVerifyingKey(key)) != topic {
        return Err(Refusal::bad("write_vk is not the topic's"));
    }
    if app.live.is_closed(&topic) {
        return Err(Refusal::closed());
    }
    prove(&app, Purpose::Count, &key, &topic, &params)?;
    Ok(axum::Json(json!({ "subscribers": app.live.subscribers(&topic) })).into_response())
}

/// `GET /topic/<id>/search?q=&author=&…`: operations of a public channel. Any other topic answers like an unknown one.
pub async fn search(
    State(app): State<Arc<App>>,
    Path(topic): Path<String>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let topic = parse_topic(&topic)?;
    let params = Params::of(&uri)?;
    let query = parse_search(&params)?;
    app.searches.take(peer.address, platform::now()).map_err(Refusal::rate)?;
    authorise(&app, &topic, &params).await?;
    let page = app.search.ask(app.secret.clone(), topic, query).await?.ok_or(Refusal::busy())?;
    app.metrics.searches.inc();
    page_response(&app, &peer, &headers, || page.encode(), || frames::search_page(&page))
}

fn parse_search(params: &Params) -> Result<SearchQuery, Refusal> {
    let words = Words::parse(params.get("q")?.unwrap_or_default()).map_err(|error| match error {
        WordsError::TooLong => Refusal::bad("q has at most 256 bytes"),
        WordsError::TooMany => Refusal::bad("q has at most 16 words"),
    })?;
    let author = params.hex("author")?.map(Author);
    Ok(SearchQuery { words, author, range: parse_history(params, SEARCH_DEFAULT_LIMIT, SEARCH_MAX_LIMIT)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_strictly_and_bounded() {
        let parse = |query: &str| {
            parse_search(&Params::of(&format!("http://server/topic?{query}").parse().unwrap()).unwrap())
        };
        assert_eq!(parse("").unwrap(), SearchQuery::default());
        let author = "ab".repeat(32);
        let query = parse(&format!("q=two+words&author={author}&before=9&limit=100")).unwrap();
        assert_eq!(query.words.unwrap().fts5(), "\"two\" \"words\"");
        assert_eq!((query.author, query.range.limit), (Some(Author([0xab; 32])), 100));
        assert!(parse(&format!("q={}", "x".repeat(256))).is_ok());
        assert!(parse(&format!("q={}", ["x"; 16].join("+"))).is_ok());
        for bad in [
            "limit=0",
            "limit=101",
            "q=a&q=b",
            "author=",
            "author=ab",
            "from_ms=x",
            &format!("q={}", "x".repeat(257)),
            &format!("q={}", ["x"; 17].join("+")),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
