//! What a server asks a proof for: reading a topic where it has a read key, and how many listen to one.
//!
//! The keys stay with the engine: it is given the server's nonce and gives back the proof.

use delta_core::engine::{Command, CommandError, Reply, Unreadable};
use delta_core::onion::control::Metadata;
use delta_core::sync::proof::Purpose;
use delta_core::topic::TopicId;
use hyper::StatusCode;
use serde_json::Value;

use crate::driver::Inbox;
use crate::error::ClientError;
use crate::net::{GetError, Http};

/// What the control messages of a public topic said, as its server tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What it is called.
    pub metadata: Option<Metadata>,
    /// The counter of its last control message; 0 when there was none.
    pub counter: u64,
    /// The key readers must prove where the server asks for it.
    pub read_key: Option<[u8; 32]>,
}

/// A server and the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) http: Http,
    pub(crate) inbox: Inbox,
    /// Base URL.
    pub(crate) base: String,
}

/// A GET without an answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    Unreadable(Unreadable),
    Get(GetError),
    /// No proof could be made: the client is closing, or no server is configured.
    Client(ClientError),
}

impl Server {
    /// The URL of a topic's path below this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// `write_vk`, `nonce` and `proof` for a query.
    pub(crate) async fn prove(&self, topic: TopicId, purpose: Purpose) -> Result<String, Unanswered> {
        let answer = self.http.json(&self.url(&format!("/topic/{topic}/nonce"))).await;
        let nonce = nonce(&answer.map_err(Unanswered::get)?)?;
        match self.inbox.command(Command::Prove { topic, purpose, nonce }).await {
            Ok(Reply::Proof { key, proof }) => Ok(format!(
                "write_vk={}&nonce={}&proof={}",
                hex::encode(key),
                hex::encode(nonce),
                hex::encode(proof)
            )),
            Err(ClientError::Command(CommandError::NoKey)) => {
                Err(Unanswered::Unreadable(Unreadable::NoReadKey))
            }
            Err(error) => Err(Unanswered::Client(error)),
            Ok(_) => Err(Unanswered::Client(ClientError::EnginePanicked)),
        }
    }

    /// GETs a path of a topic; where the server asks for a proof of the read key, once more with it.
    pub(crate) async fn read<T>(
        &self,
        topic: TopicId,
        path: &str,
        get: impl AsyncFn(&Http, &str) -> Result<T, GetError>,
    ) -> Result<T, Unanswered> {
        let url = self.url(path);
        let unauthorized = |error: &GetError| error.status() == Some(StatusCode::UNAUTHORIZED);
        match get(&self.http, &url).await {
            Err(error) if unauthorized(&error) => {}
            other => return other.map_err(Unanswered::get),
        }
        let proof = self.prove(topic, Purpose::Read).await?;
        let joint = if url.contains('?') { '&' } else { '?' };
        match get(&self.http, &format!("{url}{joint}{proof}")).await {
            Err(error) if unauthorized(&error) => Err(Unanswered::Unreadable(Unreadable::WrongReadKey)),
            other => other.map_err(Unanswered::get),
        }
    }

    /// What the server says of a topic.
    pub(crate) async fn about(&self, topic: TopicId) -> Result<About, ClientError> {
        let path = format!("/topic/{topic}/about");
        let answer = self.read(topic, &path, async |http, url| http.json(url).await).await;
        let answer = answer.map_err(|error| self.error(error))?;
        about(&answer).ok_or_else(|| self.malformed())
    }

    /// How many sockets are open on a topic, for those who prove its write key.
    pub(crate) async fn subscribers(&self, topic: TopicId) -> Result<u64, ClientError> {
        let proof = self.prove(topic, Purpose::Count).await.map_err(|error| match error {
            Unanswered::Unreadable(Unreadable::NoReadKey) => ClientError::Command(CommandError::ReadOnly),
            other => self.error(other),
        })?;
        let answer = self.http.json(&self.url(&format!("/topic/{topic}/subscribers?{proof}"))).await;
        let answer = answer.map_err(|error| self.error(Unanswered::get(error)))?;
        let value: Option<Value> = serde_json::from_slice(&answer).ok();
        value.and_then(|value| value.get("subscribers")?.as_u64()).ok_or_else(|| self.malformed())
    }

    fn error(&self, error: Unanswered) -> ClientError {
        let url = self.base.clone();
        match error {
            Unanswered::Unreadable(why) => ClientError::Unreadable(why),
            Unanswered::Get(error) => ClientError::ServerUnreachable { url, reason: error.to_string() },
            Unanswered::Client(error) => error,
        }
    }

    fn malformed(&self) -> ClientError {
        let reason = "its answer is not what docs/wire.md says".to_owned();
        ClientError::ServerUnreachable { url: self.base.clone(), reason }
    }
}

impl Unanswered {
    fn get(error: GetError) -> Self {
        match error.status() {
            Some(StatusCode::GONE) => Self::Unreadable(Unreadable::Gone),
            _ => Self::Get(error),
        }
    }

    /// The server's wish, 0 for none.
    pub(crate) const fn retry_after_ms(&self) -> u64 {
        match self {
            Self::Get(error) => error.retry_after_ms(),
            _ => 0,
        }
    }

    /// Whether the relay of a tunnel is to blame.
    pub(crate) const fn is_tunnels(&self) -> bool {
        matches!(self, Self::Get(GetError::Tunnel { .. }))
    }
}

fn nonce(answer: &[u8]) -> Result<[u8; 32], Unanswered> {
    let value: Option<Value> = serde_json::from_slice(answer).ok();
    let nonce = value.and_then(|value| key(value.get("nonce")?));
    nonce.ok_or(Unanswered::Get(GetError::Malformed))
}

fn about(answer: &[u8]) -> Option<About> {
    let value: Value = serde_json::from_slice(answer).ok()?;
    let metadata = match value.get("metadata")? {
        Value::Null => None,
        metadata => Some(Metadata {
            name: metadata.get("name")?.as_str()?.to_owned(),
            description: metadata.get("description").and_then(Value::as_str).map(str::to_owned),
        }),
    };
    let read_key = match value.get("read_key")? {
        Value::Null => None,
        text => Some(key(text)?),
    };
    Some(About { metadata, counter: value.get("counter")?.as_u64()?, read_key })
}

fn key(value: &Value) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    hex::decode_to_slice(value.as_str()?, &mut key).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_a_topic_is_read_whole_or_not_at_all() {
        let text = format!(
            r#"{{"metadata":{{"name":"News","description":null}},"counter":7,"read_key":"{}","more":1}}"#,
            "ab".repeat(32)
        );
        let metadata = Some(Metadata { name: "News".into(), description: None });
        let expected = About { metadata, counter: 7, read_key: Some([0xab; 32]) };
        assert_eq!(about(text.as_bytes()), Some(expected));
        let unknown = About { metadata: None, counter: 0, read_key: None };
        assert_eq!(about(br#"{"metadata":null,"counter":0,"read_key":null}"#), Some(unknown));
        for bad in [
            "",
            "[]",
            r#"{"metadata":null,"counter":0}"#,
            r#"{"metadata":{},"counter":0,"read_key":null}"#,
            r#"{"metadata":null,"counter":-1,"read_key":null}"#,
            r#"{"metadata":null,"counter":0,"read_key":"ab"}"#,
        ] {
            assert_eq!(about(bad.as_bytes()), None, "{bad}");
        }
    }
}
