//! The server under test, and what every check does with it: ask, deliver, wait until something is in the log.

use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};

use delta_core::identity::NodeId;
use delta_core::onion::v3::{self, Hop, OnionKey, Terminal};

use crate::failure::{Checked, Failure, ensure, equal};
use crate::frame::{Bytes, Item, hex_field, number};
use crate::http::{Answer, Base, Body, Request};
use crate::random::{self, Platform};
use crate::topic::{Content, Topic, list};
use crate::view::verifying_key;

/// How long something that must happen may take on a busy machine.
pub const WAIT: Duration = Duration::from_secs(30);
/// How often a log is looked at while something is awaited.
const LOOK: Duration = Duration::from_millis(20);
/// How often something is asked at most when the server says it is busy.
pub const TRIES: usize = 10;
/// Longest pause the server may ask for (a test must end).
const MAX_RETRY_AFTER: u64 = 5;
/// Waits as long as a server that is busy asks for; it must ask for a time in seconds.
pub async fn pause(retry_after: Option<&str>) -> Checked {
    let seconds: Option<u64> = retry_after.and_then(|value| value.parse().ok());
    let seconds = seconds.ok_or_else(|| {
        let got = retry_after.unwrap_or("none").to_owned();
        Failure::new("an answer 429 or 503", "Retry-After in seconds", got)
    })?;
    tokio::time::sleep(Duration::from_secs(seconds.min(MAX_RETRY_AFTER))).await;
    Ok(())
}

/// Operation bytes that go into one packet together.
const SEED_BYTES: usize = 900 * 1024;

/// What the server was started with; a black box cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// JSON deliveries of version 2 relays are taken.
    pub accept_v2: bool,
    /// Publishing on the socket is switched on (tests of the original protocol).
    pub accept_direct_publish: bool,
    /// Readers of a topic with a read key must prove it; `/info` tells.
    pub read_proof: bool,
    /// Topics keep only so many operations; `/info` tells.
    pub ops_per_topic: Option<u64>,
}

/// The server under test.
#[derive(Debug)]
pub struct Target {
    /// Where it is.
    pub base: Base,
    /// What it was started with.
    pub settings: Settings,
    /// Its `/info`.
    pub info: Value,
    /// Its node key.
    pub node: VerifyingKey,
    /// Its onion key.
    pub key: OnionKey,
}

/// What `GET /topic/<id>/head` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// The log's generation.
    pub generation: [u8; 16],
    /// The highest seq.
    pub head: u64,
    /// The lowest one still kept.
    pub tail: u64,
}

/// A page of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The log's generation.
    pub generation: [u8; 16],
    /// The highest seq.
    pub head: u64,
    /// The lowest one still kept.
    pub tail: u64,
    /// Oldest first.
    pub items: Vec<Item>,
}

impl Target {
    /// Asks the server who it is, and how it was started where it says so.
    pub async fn discover(url: &str, mut settings: Settings) -> Checked<Self> {
        let base = Base::parse(url).map_err(|why| Failure::new("the base URL", "http://host:port", why))?;
        let request =
            Request { method: "GET", path: "/info".to_owned(), headers: Vec::new(), body: Body::None };
        let answer = base.send(&request).await?;
        equal("the status of GET /info", &answer.status, &200)?;
        let info = parse_json("/info", &answer)?;
        settings.read_proof = info["read_proof"].as_bool().unwrap_or(false);
        settings.ops_per_topic = info["retention"]["ops_per_topic"].as_u64().filter(|count| *count > 0);
        let (node, key) = check_record(&info["record"], random::unix_seconds())?;
        Ok(Self { base, settings, info, node, key })
    }

    /// Whether the server takes version 2: it refuses the form of a delivery before anything else where it does not.
    pub async fn takes_v2(url: &str) -> Checked<bool> {
        let target = Self::discover(url, Settings::default()).await?;
        Ok(target.post_v2(&json!({})).await?.status != 403)
    }

    /// `GET path`.
    pub async fn get(&self, path: &str, headers: Vec<(&'static str, &str)>) -> Checked<Answer> {
        self.send(&Request { method: "GET", path: path.to_owned(), headers, body: Body::None }).await
    }

    /// `POST path` with a body of a content type.
    pub async fn post(&self, path: &str, content_type: &str, body: Body<'_>) -> Checked<Answer> {
        let headers = vec![("Content-Type", content_type)];
        self.send(&Request { method: "POST", path: path.to_owned(), headers, body }).await
    }

    /// Posts a packet, whatever it is worth.
    pub async fn post_packet(&self, packet: &[u8]) -> Checked<Answer> {
        self.post("/deliver", OCTETS, Body::Bytes(packet)).await
    }

    /// Posts JSON as a version 2 relay does.
    pub async fn post_v2(&self, body: &Value) -> Checked<Answer> {
        self.post("/deliver", "application/json", Body::Bytes(body.to_string().as_bytes())).await
    }

    /// The JSON of a version 2 delivery.
    pub fn v2_body(topic: &Topic, op: &[u8]) -> Value {
        use base64::prelude::BASE64_STANDARD;
        json!({ "topic_hex": topic.hex, "op_base64": BASE64_STANDARD.encode(op) })
    }

    /// Builds the packet that brings `content` to the server, its only layer.
    pub fn pack(&self, content: &[u8]) -> Checked<Vec<u8>> {
        let hop = Hop { node: NodeId(self.node.to_bytes()), key: self.key, delay: 0 };
        v3::wrap(&[hop], Terminal::Deliver(content), &mut Platform)
            .map_err(|error| Failure::new("building a packet", "a packet", error.to_string()))
    }

    /// Delivers content; the answer must be 202. Repeats when the server says it is busy.
    pub async fn deliver(&self, content: &[u8]) -> Checked {
        self.deliver_packet(&self.pack(content)?).await
    }

    /// Delivers a packet; the answer must be 202. Repeats when the server says it is busy.
    pub async fn deliver_packet(&self, packet: &[u8]) -> Checked {
        equal("the answer to a packet", &self.post_packet(packet).await?.status, &202)
    }

    /// Sends a request, and again after the pause the server asks for while it says that it is busy (429 and 503
    /// come with Retry-After): a suite that runs fast on a fast machine asks more often than a server's limits like.
    async fn send(&self, request: &Request<'_>) -> Checked<Answer> {
        for _ in 1..TRIES {
            let answer = self.base.send(request).await?;
            if !matches!(answer.status, 429 | 503) {
                return Ok(answer);
            }
            pause(answer.header("retry-after")).await?;
        }
        self.base.send(request).await
    }

    /// Delivers one operation.
    pub async fn deliver_op(&self, topic: &Topic, op: &[u8]) -> Checked {
        self.deliver(&Content::right(topic, 0, op).encode()).await
    }

    /// Delivers a list of operations in one packet.
    pub async fn deliver_list<T: AsRef<[u8]>>(&self, topic: &Topic, ops: &[T]) -> Checked {
        self.deliver(&Content::right(topic, 1, &list(ops)).encode()).await
    }

    /// Puts operations into a topic in this order and returns when they are there.
    pub async fn seed(&self, topic: &Topic, ops: &[Vec<u8>]) -> Checked {
        let mut head = self.head(topic).await?.head;
        let mut rest = ops;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take(crate::frame::MAX_OPS).take_while(|op| {
                bytes += 4 + op.len();
                bytes <= SEED_BYTES
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            match now {
                [op] => self.deliver_op(topic, op).await?,
                _ => self.deliver_list(topic, now).await?,
            }
            head += now.len() as u64;
            self.wait_head(topic, head).await?;
            rest = later;
        }
        Ok(())
    }

    /// Waits until the log has reached `head`.
    pub async fn wait_head(&self, topic: &Topic, head: u64) -> Checked {
        self.wait(&format!("the log to reach head {head}"), topic, |log| log.head >= head).await
    }

    /// Waits until the log is as wanted.
    pub async fn wait(&self, what: &str, topic: &Topic, wanted: impl Fn(&LogHead) -> bool) -> Checked {
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            let log = self.head(topic).await?;
            if wanted(&log) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                let got = format!("head {}, tail {} after {WAIT:?}", log.head, log.tail);
                return Err(Failure::new("waiting for a log", what, got));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// `GET /topic/<id>/head`.
    pub async fn head(&self, topic: &Topic) -> Checked<LogHead> {
        let path = format!("/topic/{}/head", topic.hex);
        let answer = self.get(&path, Vec::new()).await?;
        equal("the status of /head", &answer.status, &200)?;
        let value = parse_json("/head", &answer)?;
        Ok(LogHead {
            generation: hex_field(&value, "generation")?,
            head: number(&value, "head")?,
            tail: number(&value, "tail")?,
        })
    }

    /// A page of history in JSON; times of receipt included.
    pub async fn page_json(&self, topic: &Topic, query: &str) -> Checked<Page> {
        let answer = self.get(&ops_path(topic, query), Vec::new()).await?;
        equal(format!("the status of /ops{query}"), &answer.status, &200)?;
        let value = parse_json("/ops", &answer)?;
        let ops = value["ops"].as_array();
        let ops = ops.ok_or_else(|| Failure::new("/ops", "`ops`, an array", value.to_string()))?;
        let items = ops.iter().map(|op| {
            Ok(Item {
                seq: number(op, "seq")?,
                received_ms: Some(number(op, "received_ms")?),
                op: crate::frame::base64_field(op, "data")?,
            })
        });
        Ok(Page {
            generation: hex_field(&value, "generation")?,
            head: number(&value, "head")?,
            tail: number(&value, "tail")?,
            items: items.collect::<Checked<_>>()?,
        })
    }

    /// A page of history in bytes.
    pub async fn page(&self, topic: &Topic, query: &str) -> Checked<Page> {
        let answer = self.get(&ops_path(topic, query), vec![("Accept", OCTETS)]).await?;
        equal(format!("the status of /ops{query}"), &answer.status, &200)?;
        equal("its content type", &answer.header("content-type"), &Some(OCTETS))?;
        let mut bytes = Bytes::new("a page of history", &answer.body);
        let (generation, head, tail) = (bytes.array("generation")?, bytes.u64("head")?, bytes.u64("tail")?);
        let count = bytes.u16("count")?;
        let items = bytes.items(usize::from(count))?;
        bytes.end()?;
        Ok(Page { generation, head, tail, items })
    }

    /// The whole log, page by page.
    pub async fn log(&self, topic: &Topic) -> Checked<Vec<Item>> {
        let mut items: Vec<Item> = Vec::new();
        loop {
            let after = items.last().map_or(0, |item| item.seq);
            let page = self.page(topic, &format!("?after={after}&limit=1000")).await?;
            if page.items.is_empty() {
                return Ok(items);
            }
            items.extend(page.items);
        }
    }

    /// The operations of the whole log.
    pub async fn log_ops(&self, topic: &Topic) -> Checked<Vec<Vec<u8>>> {
        Ok(self.log(topic).await?.into_iter().map(|item| item.op).collect())
    }

    /// `POST /topic/<id>/has`.
    pub async fn has(&self, topic: &Topic, hashes: &[[u8; 32]]) -> Checked<Vec<u64>> {
        let path = format!("/topic/{}/has", topic.hex);
        let answer = self.post(&path, OCTETS, Body::Bytes(hashes.as_flattened())).await?;
        equal("the status of /has", &answer.status, &200)?;
        equal("its content type", &answer.header("content-type"), &Some(OCTETS))?;
        equal("the length of its answer", &answer.body.len(), &(8 * hashes.len()))?;
        let mut bytes = Bytes::new("the answer of /has", &answer.body);
        hashes.iter().map(|_| bytes.u64("seq")).collect()
    }
}

/// The content type of packets, hashes and binary pages.
pub const OCTETS: &str = "application/octet-stream";

/// `/topic/<id>/ops` with a query (its question mark included, or empty).
pub fn ops_path(topic: &Topic, query: &str) -> String {
    format!("/topic/{}/ops{query}", topic.hex)
}

/// Reads a JSON answer; its content type must say so.
pub fn parse_json(what: &str, answer: &Answer) -> Checked<Value> {
    let content_type = answer.header("content-type").unwrap_or_default();
    let is_json = content_type.split(';').next() == Some("application/json");
    ensure(is_json, format!("{what}: its content type"), "application/json", content_type)?;
    serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::new(what, "JSON", format!("{error}: {}", answer.text())))
}

/// Checks a sync server's record object (section 6.1) and reads its node key and first onion key.
pub fn check_record(object: &Value, now_s: u64) -> Checked<(VerifyingKey, OnionKey)> {
    let record = object["record"].as_str().unwrap_or_default();
    let fields: Vec<(&str, &str)> = record.split(';').filter_map(|field| field.split_once('=')).collect();
    let field = |name: &str| fields.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| *value);
    equal("the record's v", &field("v"), &"delta1")?;
    equal("the record's t", &field("t"), &"sync")?;
    let expires: u64 = field("x").parse().unwrap_or(0);
    ensure(expires > now_s, "the record's x", format!("after {now_s}"), field("x"))?;
    let node: [u8; 32] = hex_field(&json!({ "a": field("a") }), "a")?;
    let node = verifying_key(&node)?;

    let seq = number(object, "seq")?;
    let signature = Signature::from_bytes(&hex_field(object, "sig")?);
    let message = [b"delta:record:v1".as_slice(), &seq.to_be_bytes(), record.as_bytes()].concat();
    let signed = node.verify_strict(&message, &signature).is_ok();
    ensure(signed, "the record's signature", "the node key's, over seq and record", "another one")?;

    let failure = || Failure::new("the record's k", "<kid>.<base64url of 32 bytes>", field("k"));
    let first = field("k").split(',').next().unwrap_or_default();
    let (kid, public) = first.split_once('.').ok_or_else(failure)?;
    let public = BASE64_URL_SAFE_NO_PAD.decode(public).map_err(|_| failure())?;
    let public = public.try_into().map_err(|_| failure())?;
    Ok((node, OnionKey { kid: kid.parse().map_err(|_| failure())?, public }))
}
