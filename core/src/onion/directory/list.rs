//! Signed lists: who is trusted.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    DirectoryError, MAX_DIRECTORY_BYTES, MAX_SIGNATURES, NodeKind, SkipReason, TrustPolicy, is_operator,
    signed_by,
};
use crate::identity::{NodeId, parse_lower_hex};
use crate::limits::MAX_DIRECTORY_NODES;
use crate::tree::Arrange;

/// What a list says, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListBody {
    /// Rises with every list.
    pub version: u64,
    /// Until when the list holds, seconds since the Unix epoch.
    pub expires: u64,
    /// The nodes.
    pub nodes: Vec<ListEntry>,
}

/// One node of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// What the node does.
    pub kind: NodeKind,
    /// The node's identity.
    pub id: NodeId,
    /// Who runs it.
    pub operator: Option<String>,
    /// Base URL, unless the record says another.
    pub url: Option<String>,
    /// Largest packet class, unless the record says another.
    pub max_class: Option<u8>,
}

impl ListBody {
    /// From the JSON that is signed. Every node must be well-formed: this is for whoever makes lists.
    pub fn from_json(json: &str) -> Result<Self, DirectoryError> {
        let raw: RawBody = serde_json::from_str(json).map_err(|error| malformed(&error))?;
        let nodes = raw.nodes.iter().map(ListEntry::from_value).collect::<Result<_, _>>();
        let nodes = nodes.map_err(|reason| DirectoryError::List(reason.to_string()))?;
        Ok(Self { version: raw.version, expires: raw.expires, nodes })
    }

    /// The JSON that is signed.
    pub fn to_json(&self) -> String {
        let nodes: Vec<Value> = self.nodes.iter().map(ListEntry::to_value).collect();
        json!({ "version": self.version, "expires": self.expires, "nodes": nodes }).to_string()
    }
}

impl ListEntry {
    /// Unknown fields are ignored.
    pub(super) fn from_value(value: &Value) -> Result<Self, SkipReason> {
        let entry = RawEntry::deserialize(value).map_err(|_| SkipReason::Entry("t, a"))?;
        if entry.o.as_deref().is_some_and(|name| !is_operator(name)) {
            return Err(SkipReason::Entry("o"));
        }
        Ok(Self {
            kind: NodeKind::parse(&entry.t).ok_or(SkipReason::Entry("t"))?,
            id: entry.a.parse().map_err(|_| SkipReason::Entry("a"))?,
            operator: entry.o,
            url: entry.n,
            max_class: entry.c,
        })
    }

    fn to_value(&self) -> Value {
        let mut value = json!({ "t": self.kind.as_str(), "a": self.id.to_string() });
        let optional = [
            ("o", self.operator.clone().map(Value::from)),
            ("n", self.url.clone().map(Value::from)),
            ("c", self.max_class.map(Value::from)),
        ];
        if let Value::Object(fields) = &mut value {
            fields.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        value
    }
}

/// Signs a list with every one of `keys`.
pub fn sign_list(keys: &[SigningKey], body: &ListBody) -> String {
    let mut list = SignedList { signed: body.to_json().into_bytes(), signatures: Vec::new() };
    for key in keys {
        list.add_signature(key);
    }
    list.to_json()
}

/// A list as it travels: the signed bytes and the signatures over them, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedList {
    /// The JSON of a [`ListBody`].
    pub signed: Vec<u8>,
    /// Who signed, and the Ed25519 signatures over "delta:directory:v1" | signed.
    pub signatures: Vec<(NodeId, [u8; 64])>,
}

impl SignedList {
    /// From `{"signed": "<base64>", "signatures": [{"key", "sig"}]}`.
    pub fn parse(json: &str) -> Result<Self, DirectoryError> {
        if json.len() > MAX_DIRECTORY_BYTES {
            return Err(DirectoryError::TooLong(json.len()));
        }
        let raw: RawList = serde_json::from_str(json).map_err(|error| malformed(&error))?;
        if raw.signatures.len() > MAX_SIGNATURES {
            return Err(DirectoryError::List(format!("more than {MAX_SIGNATURES} signatures")));
        }
        let signed = STANDARD.decode(&raw.signed).map_err(|_| field("signed"))?;
        let signatures = raw
            .signatures
            .iter()
            .map(|raw| {
                let key = raw.key.parse().map_err(|_| field("key"))?;
                Ok((key, parse_lower_hex(&raw.sig).map_err(|_| field("sig"))?))
            })
            .collect::<Result<_, DirectoryError>>()?;
        Ok(Self { signed, signatures })
    }

    /// As it travels.
    pub fn to_json(&self) -> String {
        let signatures: Vec<Value> = self
            .signatures
            .iter()
            .map(|(key, sig)| json!({ "key": key.to_string(), "sig": hex::encode(sig) }))
            .collect();
        json!({ "signed": STANDARD.encode(&self.signed), "signatures": signatures }).to_string()
    }

    /// Adds a signature, so that keys kept in different places can sign one list.
    pub fn add_signature(&mut self, key: &SigningKey) {
        let id = NodeId(key.verifying_key().to_bytes());
        self.signatures.retain(|(signer, _)| *signer != id);
        self.signatures.push((id, key.sign(&signed_bytes(&self.signed)).to_bytes()));
    }

    /// Which of `trusted` have signed, each once.
    pub fn signers(&self, trusted: &[NodeId]) -> Vec<NodeId> {
        let message = signed_bytes(&self.signed);
        let mut valid = Vec::new();
        for (key, sig) in &self.signatures {
            if trusted.contains(key) && !valid.contains(key) && signed_by(key, &message, sig) {
                valid.push(*key);
            }
        }
        valid
    }

    /// The version, the expiry and the nodes as they stand, once enough trusted keys have signed.
    pub(super) fn verify(&self, trust: &TrustPolicy) -> Result<RawBody, DirectoryError> {
        let mut keys = trust.keys.clone();
        keys.arrange();
        keys.dedup();
        let threshold = trust.threshold;
        if threshold == 0 || threshold > keys.len() {
            return Err(DirectoryError::Policy { threshold, keys: keys.len() });
        }
        let valid = self.signers(&keys).len();
        if valid < threshold {
            return Err(DirectoryError::Signatures { valid, threshold });
        }
        let body: RawBody = serde_json::from_slice(&self.signed).map_err(|error| malformed(&error))?;
        if body.nodes.len() > MAX_DIRECTORY_NODES {
            return Err(DirectoryError::TooManyNodes(body.nodes.len()));
        }
        Ok(body)
    }
}

fn signed_bytes(signed: &[u8]) -> Vec<u8> {
    [b"delta:directory:v1".as_slice(), signed].concat()
}

fn malformed(error: &serde_json::Error) -> DirectoryError {
    DirectoryError::List(error.to_string())
}

fn field(name: &str) -> DirectoryError {
    DirectoryError::List(format!("`{name}` is not in the announced encoding"))
}

#[derive(Deserialize)]
struct RawList {
    signed: String,
    signatures: Vec<RawSignature>,
}

#[derive(Deserialize)]
struct RawSignature {
    key: String,
    sig: String,
}

/// A list body whose nodes are looked at one by one: a faulty or unknown one does not spoil the rest.
#[derive(Deserialize)]
pub(super) struct RawBody {
    pub(super) version: u64,
    pub(super) expires: u64,
    pub(super) nodes: Vec<Value>,
}

#[derive(Deserialize)]
struct RawEntry {
    t: String,
    a: String,
    o: Option<String>,
    n: Option<String>,
    c: Option<u8>,
}
