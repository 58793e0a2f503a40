//! Node records: what a node says of itself, signed by it alone.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use serde::Deserialize;
use thiserror::Error;

use super::{MAX_RECORD_BYTES, NodeKind, is_operator, signed_by};
use crate::identity::{NodeId, parse_lower_hex};
use crate::onion::v3::OnionKey;

/// Most onion keys in a record: the current one and the next.
const MAX_KEYS: usize = 2;
/// The feature of a relay that offers tunnels.
const TUNNEL: &str = "tunnel";
/// Longest list of features, bytes.
const MAX_FEATURES: usize = 64;

/// The fields of a record. It prints as and is parsed from
/// `v=delta1;t=relay;n=<url>;a=<hex>;k=<kid>.<base64url>[,<next>];x=<unix seconds>;c=<class>;o=<operator>;f=tunnel`,
/// `;` and `%` within a value written `%3B` and `%25`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// What the node does.
    pub kind: NodeKind,
    /// The node's identity.
    pub id: NodeId,
    /// Base URL; a list may say it instead.
    pub url: Option<String>,
    /// Onion keys, the current one first; none for a node that speaks only v2.
    pub keys: Vec<OnionKey>,
    /// Until when the record holds, seconds since the Unix epoch.
    pub expires: u64,
    /// The largest packet class the node takes; a list may say it instead.
    pub max_class: Option<u8>,
    /// Who runs it, by its own word.
    pub operator: Option<String>,
    /// Whether it offers tunnels to sync servers.
    pub tunnel: bool,
}

/// A record is refused. The node it speaks of is at fault, or somebody changed it; the node is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The object is not `{"record", "seq", "sig"}` with texts and numbers in place.
    #[error("the record object is malformed")]
    Object,
    /// More than [`MAX_RECORD_BYTES`].
    #[error("the record has {0} bytes, the limit is {MAX_RECORD_BYTES}")]
    TooLong(usize),
    /// A field is missing, occurs twice, or has a value it may not have.
    #[error("the record's field `{0}` is missing, doubled or not allowed")]
    Field(&'static str),
    /// The node's signature does not verify.
    #[error("the record's signature does not verify")]
    Signature,
    /// The record is to be signed by another key than the one it names.
    #[error("the record names another key than the one that signs it")]
    ForeignKey,
}

impl fmt::Display for NodeRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v=delta1;t={}", self.kind.as_str())?;
        if let Some(url) = &self.url {
            write!(f, ";n={}", escape(url))?;
        }
        write!(f, ";a={}", self.id)?;
        for (index, key) in self.keys.iter().enumerate() {
            f.write_str(if index == 0 { ";k=" } else { "," })?;
            write!(f, "{}.{}", key.kid, URL_SAFE_NO_PAD.encode(key.public))?;
        }
        write!(f, ";x={}", self.expires)?;
        if let Some(class) = self.max_class {
            write!(f, ";c={class}")?;
        }
        if let Some(operator) = &self.operator {
            write!(f, ";o={}", escape(operator))?;
        }
        if self.tunnel {
            write!(f, ";f={TUNNEL}")?;
        }
        Ok(())
    }
}

impl FromStr for NodeRecord {
    type Err = RecordError;

    /// Fields in any order; unknown ones are ignored.
    fn from_str(text: &str) -> Result<Self, RecordError> {
        if text.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLong(text.len()));
        }
        let fields: Vec<(&str, &str)> = text
            .split(';')
            .map(|field| field.split_once('=').ok_or(RecordError::Field("=")))
            .collect::<Result<_, _>>()?;
        let field = |name: &'static str| {
            let mut values = fields.iter().filter(|(found, _)| *found == name).map(|(_, value)| *value);
            match (values.next(), values.next()) {
                (value, None) => Ok(value),
                _ => Err(RecordError::Field(name)),
            }
        };
        if field("v")? != Some("delta1") {
            return Err(RecordError::Field("v"));
        }
        Ok(Self {
            kind: field("t")?.and_then(NodeKind::parse).ok_or(RecordError::Field("t"))?,
            id: field("a")?.and_then(|id| id.parse().ok()).ok_or(RecordError::Field("a"))?,
            url: optional(field("n")?, "n", unescape)?,
            keys: optional(field("k")?, "k", parse_keys)?.unwrap_or_default(),
            expires: field("x")?.and_then(number).ok_or(RecordError::Field("x"))?,
            max_class: optional(field("c")?, "c", number)?,
            operator: optional(field("o")?, "o", |o| unescape(o).filter(|name| is_operator(name)))?,
            tunnel: optional(field("f")?, "f", parse_features)?.unwrap_or(false),
        })
    }
}

fn optional<T>(
    value: Option<&str>,
    name: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, RecordError> {
    value.map(|value| parse(value).ok_or(RecordError::Field(name))).transpose()
}

/// Names joined by commas; whether [`TUNNEL`] is one of them.
fn parse_features(text: &str) -> Option<bool> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b",-".contains(&byte);
    let fits = (1..=MAX_FEATURES).contains(&text.len()) && text.bytes().all(plain);
    fits.then(|| text.split(',').any(|name| name == TUNNEL))
}

/// Digits without sign or leading zeros.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// One or two usable keys with distinct ids.
fn parse_keys(text: &str) -> Option<Vec<OnionKey>> {
    let keys: Vec<OnionKey> = text.split(',').map(parse_key).collect::<Option<_>>()?;
    let distinct = keys.iter().enumerate().all(|(index, key)| {
        keys.iter().take(index).all(|other| other.kid != key.kid && other.public != key.public)
    });
    (keys.len() <= MAX_KEYS && distinct).then_some(keys)
}

fn parse_key(text: &str) -> Option<OnionKey> {
    let (kid, key) = text.split_once('.')?;
    let public = URL_SAFE_NO_PAD.decode(key).ok()?.try_into().ok()?;
    Some(OnionKey { kid: number(kid)?, public }).filter(OnionKey::is_usable)
}

fn escape(value: &str) -> String {
    value.replace('%', "%25").replace(';', "%3B")
}

/// The inverse of [`escape`]; `None` for any other escape.
fn unescape(value: &str) -> Option<String> {
    let mut parts = value.split('%');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        out.push(match code {
            "25" => '%',
            "3B" | "3b" => ';',
            _ => return None,
        });
        out.push_str(rest);
    }
    Some(out)
}

/// A record with its sequence number and its node's signature: `{"record", "seq", "sig"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordObject {
    /// The record as text: exactly what was signed.
    pub record: String,
    /// Rises with every record of a node; unix seconds by convention.
    pub seq: u64,
    /// Ed25519 by the node over "delta:record:v1" | seq u64 | record.
    pub sig: [u8; 64],
}

impl RecordObject {
    /// Signs a record with its node's identity key.
    pub fn sign(key: &SigningKey, record: &NodeRecord, seq: u64) -> Result<Self, RecordError> {
        if key.verifying_key().as_bytes() != &record.id.0 {
            return Err(RecordError::ForeignKey);
        }
        let text = record.to_string();
        // A record nobody could read back is not signed.
        if text.parse().as_ref() != Ok(record) {
            return Err(text.parse::<NodeRecord>().err().unwrap_or(RecordError::Object));
        }
        let sig = key.sign(&signed_bytes(seq, &text)).to_bytes();
        Ok(Self { record: text, seq, sig })
    }

    /// The record's fields, its signature by the key it names checked strictly.
    pub fn verify(&self) -> Result<NodeRecord, RecordError> {
        let record: NodeRecord = self.record.parse()?;
        if signed_by(&record.id, &signed_bytes(self.seq, &self.record), &self.sig) {
            Ok(record)
        } else {
            Err(RecordError::Signature)
        }
    }

    /// From one JSON object; the signature is not checked yet.
    pub fn parse(json: &str) -> Result<Self, RecordError> {
        let raw: RawObject = serde_json::from_str(json).map_err(|_| RecordError::Object)?;
        raw.try_into()
    }

    /// From a JSON value; the signature is not checked yet.
    pub fn from_value(value: serde_json::Value) -> Result<Self, RecordError> {
        let raw: RawObject = serde_json::from_value(value).map_err(|_| RecordError::Object)?;
        raw.try_into()
    }

    /// As one JSON object.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    /// As a JSON value, for arrays and larger objects.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::json!({ "record": self.record, "seq": self.seq, "sig": hex::encode(self.sig) })
    }
}

fn signed_bytes(seq: u64, record: &str) -> Vec<u8> {
    [b"delta:record:v1".as_slice(), &seq.to_be_bytes(), record.as_bytes()].concat()
}

#[derive(Deserialize)]
struct RawObject {
    record: String,
    seq: u64,
    sig: String,
}

impl TryFrom<RawObject> for RecordObject {
    type Error = RecordError;
    fn try_from(raw: RawObject) -> Result<Self, RecordError> {
        let sig = parse_lower_hex(&raw.sig).map_err(|_| RecordError::Object)?;
        Ok(Self { record: raw.record, seq: raw.seq, sig })
    }
}
