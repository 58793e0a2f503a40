//! Section 8: the routes that need no delivery, and what they say to nonsense.

use serde_json::json;

use super::{Check, check};
use crate::failure::{Checked, ensure, equal};
use crate::http::Body;
use crate::socket::{Follower, MODES, Mode};
use crate::target::{LogHead, OCTETS, Target, check_record, ops_path, parse_json};
use crate::topic::{Content, Topic, hash, op};

/// See the module.
pub const CHECKS: &[Check] = &[
    check!(health_answers, "8", Always, "GET /health is answered 200."),
    check!(
        info_tells_who_the_server_is,
        "8",
        Always,
        "GET /info has `record` (its own, signed), `protocol` [1, 2], `limits` (name → number) and `retention`.",
    ),
    check!(
        record_signature_covers_seq_and_text,
        "6.1",
        Always,
        "The record object's signature covers its seq and its text.",
    ),
    check!(
        metrics_are_not_public,
        "8",
        Always,
        "Metrics are served on the admin address only, so not beside /info.",
    ),
    check!(unknown_paths_are_not_found, "8", Always, "Another path is 404."),
    check!(other_methods_are_refused, "8", Always, "Another method on a known path is 405."),
    check!(
        malformed_topics_are_refused,
        "8",
        Always,
        "A topic is 64 hex digits; anything else is answered 400 on every route.",
    ),
    check!(
        topics_in_paths_may_be_of_either_case,
        "8",
        Always,
        "In a path the topic is hex of either case: both name the same topic.",
    ),
    check!(
        refusals_say_why_in_json,
        "8",
        Always,
        "A refusal has a JSON body {\"error\": \"<text for people>\"}.",
    ),
    check!(
        unknown_parameters_are_ignored_and_doubled_ones_refused,
        "8",
        Always,
        "Query parameters that are unknown are ignored; a doubled one is 400.",
    ),
    check!(
        malformed_subscriptions_are_refused,
        "9",
        Always,
        "A malformed since, generation or chain, or a chain without generation, is 400 before the upgrade.",
    ),
    check!(largest_since_is_taken, "9", Always, "since runs from 0 to 2^63 − 1; a missing one counts as 0.",),
    check!(subscribing_needs_an_upgrade, "8", Always, "GET /topic/<id> without a WebSocket upgrade is 426.",),
    check!(
        case_72_unknown_and_empty_topics_answer_alike,
        "8",
        Always,
        "An unknown topic answers exactly like an empty one: head 0, tail 1.",
    ),
    check!(
        generations_differ_by_topic_and_stay,
        "2",
        Always,
        "A topic's generation is derived from its id: stable, and another one for another topic.",
    ),
];

async fn health_answers(target: &Target) -> Checked {
    equal("the status of GET /health", &target.get("/health", Vec::new()).await?.status, &200)
}

async fn info_tells_who_the_server_is(target: &Target) -> Checked {
    equal("protocol", &target.info["protocol"], &json!([1, 2]))?;
    let limits = target.info["limits"].as_object();
    let numbers = limits.is_some_and(|limits| limits.values().all(serde_json::Value::is_u64));
    ensure(numbers, "`limits`", "an object of numbers", target.info["limits"].to_string())?;
    for key in ["bytes_per_topic", "ops_per_topic", "max_age_days"] {
        let value = &target.info["retention"][key];
        ensure(value.is_u64(), format!("retention.{key}"), "a number", value.to_string())?;
    }
    if let Some(count) = target.settings.ops_per_topic {
        equal("retention.ops_per_topic", &target.info["retention"]["ops_per_topic"], &json!(count))?;
    }
    check_record(&target.info["record"], crate::random::unix_seconds()).map(drop)
}

async fn record_signature_covers_seq_and_text(target: &Target) -> Checked {
    let now = crate::random::unix_seconds();
    let mut record = target.info["record"].clone();
    record["seq"] = json!(record["seq"].as_u64().unwrap_or_default() + 1);
    ensure(check_record(&record, now).is_err(), "a record with another seq", "not signed", "signed")?;
    let mut record = target.info["record"].clone();
    record["record"] = json!(format!("{};zz=1", record["record"].as_str().unwrap_or_default()));
    ensure(check_record(&record, now).is_err(), "a record with another text", "not signed", "signed")
}

async fn metrics_are_not_public(target: &Target) -> Checked {
    equal("the status of GET /metrics", &target.get("/metrics", Vec::new()).await?.status, &404)
}

async fn unknown_paths_are_not_found(target: &Target) -> Checked {
    let topic = Topic::fresh();
    for path in ["/nothing".to_owned(), format!("/topic/{}/nothing", topic.hex), "/topic".to_owned()] {
        let answer = target.get(&path, Vec::new()).await?;
        equal(format!("the status of GET {path}"), &answer.status, &404)?;
    }
    Ok(())
}

async fn other_methods_are_refused(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let has = format!("/topic/{}/has", topic.hex);
    for path in ["/deliver", has.as_str()] {
        let answer = target.get(path, Vec::new()).await?;
        equal(format!("the status of GET {path}"), &answer.status, &405)?;
    }
    let head = format!("/topic/{}/head", topic.hex);
    for path in ["/info", head.as_str()] {
        let answer = target.post(path, OCTETS, Body::Bytes(b"x")).await?;
        equal(format!("the status of POST {path}"), &answer.status, &405)?;
    }
    Ok(())
}

/// Topic ids that are none: short, long, no hex.
fn malformed_ids() -> Vec<String> {
    let hex = Topic::fresh().hex;
    vec![hex[..63].to_owned(), format!("{hex}0"), format!("{}g", &hex[..63]), "x".to_owned()]
}

async fn malformed_topics_are_refused(target: &Target) -> Checked {
    for id in malformed_ids() {
        for path in [format!("/topic/{id}/head"), format!("/topic/{id}/ops")] {
            let answer = target.get(&path, Vec::new()).await?;
            equal(format!("the status of GET {path}"), &answer.status, &400)?;
        }
        let path = format!("/topic/{id}?since=0");
        equal(format!("the status of GET {path}"), &upgrade_status(target, &path).await?, &400)?;
        let path = format!("/topic/{id}/has");
        let answer = target.post(&path, OCTETS, Body::Bytes(&[0; 32])).await?;
        equal(format!("the status of POST {path}"), &answer.status, &400)?;
    }
    Ok(())
}

async fn topics_in_paths_may_be_of_either_case(target: &Target) -> Checked {
    let mut topic = Topic::fresh();
    target.seed(&topic, &[op(30)]).await?;
    let log = target.head(&topic).await?;
    topic.hex = topic.hex.to_uppercase();
    equal("the head by an upper-case path", &target.head(&topic).await?, &log)?;
    equal("its history", &target.log(&topic).await?.len(), &1)?;
    let follower = Follower::start(target, &topic, Mode::Binary).await?;
    equal("its replay", &follower.opening.seqs(), &vec![1])
}

async fn refusals_say_why_in_json(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let has = format!("/topic/{}/has", topic.hex);
    let refusals = [
        target.get(&ops_path(&topic, "?limit=0"), Vec::new()).await?,
        target.get("/topic/x/head", Vec::new()).await?,
        target.get(&format!("/topic/{}?since=-1", topic.hex), Vec::new()).await?,
        target.post(&has, OCTETS, Body::Bytes(b"x")).await?,
        target.post("/deliver", OCTETS, Body::Bytes(b"x")).await?,
        target.post("/deliver", OCTETS, Body::Announced(2 << 30)).await?,
    ];
    for answer in refusals {
        let what = format!("an answer {}", answer.status);
        let body = parse_json(&what, &answer)?;
        let why = body["error"].as_str().is_some_and(|why| !why.is_empty());
        ensure(why, what, "`error`, a text", body.to_string())?;
    }
    Ok(())
}

async fn unknown_parameters_are_ignored_and_doubled_ones_refused(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let subscribe = format!("/topic/{}", topic.hex);
    equal("unknown", &upgrade_status(target, &format!("{subscribe}?since=0&later=x")).await?, &101)?;
    equal("doubled", &upgrade_status(target, &format!("{subscribe}?since=0&since=0")).await?, &400)?;
    for (query, expected) in [("?later=x&limit=1", 200), ("?limit=1&limit=1", 400), ("?after=0&after=1", 400)]
    {
        let answer = target.get(&ops_path(&topic, query), Vec::new()).await?;
        equal(format!("the status of ops{query}"), &answer.status, &expected)?;
    }
    Ok(())
}

async fn malformed_subscriptions_are_refused(target: &Target) -> Checked {
    let topic = Topic::fresh();
    let generation = hex::encode(target.head(&topic).await?.generation);
    let queries = [
        "since=-1".to_owned(),
        "since=x".to_owned(),
        "since=".to_owned(),
        "since=1.5".to_owned(),
        "since=%20".to_owned(),
        "since=9223372036854775808".to_owned(),
        "since=18446744073709551615".to_owned(),
        "since=99999999999999999999999".to_owned(),
        format!("since=0&generation={}", &generation[..31]),
        format!("since=0&generation={generation}0"),
        format!("since=0&generation={}g", &generation[..31]),
        "since=0&generation=".to_owned(),
        "since=0&chain=0123456789abcdef".to_owned(),
        format!("since=0&generation={generation}&chain=0123456789abcde"),
        format!("since=0&generation={generation}&chain=0123456789abcdef0"),
        format!("since=0&generation={generation}&chain=0123456789abcdeg"),
        format!("since=0&generation={generation}&chain="),
        "since=0&since=0".to_owned(),
    ];
    for query in queries {
        let path = format!("/topic/{}?{query}", topic.hex);
        equal(format!("the status of GET …?{query}"), &upgrade_status(target, &path).await?, &400)?;
    }
    Ok(())
}

async fn largest_since_is_taken(target: &Target) -> Checked {
    let topic = Topic::fresh();
    for query in ["", "?since=0", "?since=9223372036854775807"] {
        let path = format!("/topic/{}{query}", topic.hex);
        equal(format!("the status of GET …{query}"), &upgrade_status(target, &path).await?, &101)?;
    }
    Ok(())
}

async fn subscribing_needs_an_upgrade(target: &Target) -> Checked {
    let path = format!("/topic/{}?since=0", Topic::fresh().hex);
    equal("its status", &target.get(&path, Vec::new()).await?.status, &426)
}

async fn case_72_unknown_and_empty_topics_answer_alike(target: &Target) -> Checked {
    let (unknown, empty) = (Topic::fresh(), Topic::fresh());
    // The other one has been asked about, subscribed to, and written to by someone who may not.
    let mut forged = Content::right(&empty, 0, &op(40));
    forged.key = Topic::fresh().key.signing_key();
    target.deliver(&forged.encode()).await?;
    for mode in MODES {
        Follower::start(target, &empty, mode).await?;
    }
    target.has(&empty, &[hash(b"x")]).await?;

    for topic in [&unknown, &empty] {
        answers_as_empty(target, topic).await?;
    }
    let one = target.get(&ops_path(&unknown, ""), Vec::new()).await?;
    let other = target.get(&ops_path(&empty, ""), Vec::new()).await?;
    equal("the status of both pages", &one.status, &other.status)?;
    equal("the length of both pages", &one.body.len(), &other.body.len())
}

async fn answers_as_empty(target: &Target, topic: &Topic) -> Checked {
    let LogHead { head, tail, generation } = target.head(topic).await?;
    equal("head and tail", &(head, tail), &(0, 1))?;
    equal("has", &target.has(topic, &[hash(b"x"), hash(b"y")]).await?, &vec![0, 0])?;
    for page in [target.page(topic, "").await?, target.page_json(topic, "").await?] {
        equal("the page's head and tail", &(page.head, page.tail), &(0, 1))?;
        equal("the page's operations", &page.items.len(), &0)?;
        equal("the page's generation", &page.generation, &generation)?;
    }
    for mode in MODES {
        let opening = Follower::start(target, topic, mode).await?.opening;
        equal("ready.head", &opening.ready.head, &0)?;
        equal("reset and gap", &(opening.reset, opening.gap), &(None, None))?;
    }
    Ok(())
}

async fn generations_differ_by_topic_and_stay(target: &Target) -> Checked {
    let (one, other) = (Topic::fresh(), Topic::fresh());
    let first = target.head(&one).await?.generation;
    equal("the generation asked for twice", &target.head(&one).await?.generation, &first)?;
    target.seed(&one, &[op(30)]).await?;
    equal("the generation after an operation", &target.head(&one).await?.generation, &first)?;
    let second = target.head(&other).await?.generation;
    ensure(first != second, "another topic's generation", "another one", hex::encode(second))
}

/// The status a request for an upgrade gets.
async fn upgrade_status(target: &Target, path: &str) -> Checked<u16> {
    let headers = vec![
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    Ok(target.get(path, headers).await?.status)
}
