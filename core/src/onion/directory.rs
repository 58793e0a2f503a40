//! The directory: which relays and servers there are, who vouches for them, and how to reach them now.
//!
//! A **list**, signed by a threshold of trusted keys, says who is trusted. **Records**, signed by each node alone,
//! say where it is and which onion keys it has; they change daily. [`Directory::load`] joins the two. What is wrong
//! with the list as a whole is an error and the old directory stays in use; what is wrong with one node leaves that
//! node out, with a [`Skipped`] that says why.
//!
//! Nothing here fetches or stores anything: texts, the clock and what was seen before come in as arguments.

mod address;
mod list;
mod load;
mod pkarr;
mod record;
mod seen;
mod url;

use std::collections::HashMap;

use ed25519_dalek::{Signature, VerifyingKey};
use thiserror::Error;

use super::PacketClass;
use super::v3::{Hop, OnionKey};
use crate::identity::{Millis, NodeId};
use crate::limits::MAX_DIRECTORY_NODES;

pub use address::is_public;
pub use list::{ListBody, ListEntry, SignedList, sign_list};
pub use load::{LoadRules, SkipReason, Skipped};
pub use pkarr::{MAX_BEP44_VALUE, MAX_PKARR_TEXT, PKARR_NAME, PkarrTooLong, ResolvedRecord};
pub use record::{NodeRecord, RecordError, RecordObject};
pub use seen::{MAX_SEEN, Seen, SeenRecord};
pub use url::{SyncUrl, SyncUrlError, UrlError, check_url};

/// Longest list or records text that is looked at, bytes.
pub const MAX_DIRECTORY_BYTES: usize = 4 * 1024 * 1024;
/// Most signatures on a list.
pub const MAX_SIGNATURES: usize = 64;
/// Most records in a records text. More than nodes: a records text may hold nodes no list names.
pub const MAX_RECORDS: usize = 4000;
/// Longest record, bytes.
pub const MAX_RECORD_BYTES: usize = 1024;
/// Longest name of an operator, bytes.
pub const MAX_OPERATOR: usize = 64;

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// Peels and forwards.
    Relay,
    /// Keeps topic logs; the last layer of a packet.
    Sync,
}

impl NodeKind {
    /// The name in lists and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Sync => "sync",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Relay, Self::Sync].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A node that can be used: vouched for, with a valid record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node's identity.
    pub id: NodeId,
    /// What it does.
    pub kind: NodeKind,
    /// Who runs it, as vouched for. All nodes without a name count as run by one operator.
    pub operator: Option<String>,
    /// Base URL, without trailing slash.
    pub url: String,
    /// Its onion keys, the current one first. Empty for a node that speaks only v2.
    pub keys: Vec<OnionKey>,
    /// When its record expires, seconds since the Unix epoch.
    pub expires: u64,
    /// The largest packet class it takes.
    pub max_class: u8,
    /// Its record's sequence number.
    pub seq: u64,
    /// Whether it offers tunnels to sync servers.
    pub tunnel: bool,
}

impl Node {
    /// A node known from its own record alone, whose signature, expiry and URL are checked here. `operator` is what
    /// somebody else vouches for; a record cannot vouch for itself.
    pub fn from_record(
        object: &RecordObject,
        operator: Option<String>,
        allow_private: bool,
        now: Millis,
    ) -> Result<Self, SkipReason> {
        load::node(&object.verify()?, object.seq, None, operator, allow_private, now)
    }

    /// Whether the record is still valid at `now`.
    pub const fn is_current(&self, now: Millis) -> bool {
        now.0 < self.expires.saturating_mul(1000)
    }

    /// Whether a v3 packet of `class` can go through this node at `now`.
    pub fn takes(&self, class: PacketClass, now: Millis) -> bool {
        self.is_current(now) && !self.keys.is_empty() && class as u8 <= self.max_class
    }

    /// The hop for a packet through this node; `None` when it has no onion key.
    pub fn hop(&self, delay: u16) -> Option<Hop> {
        self.keys.first().map(|key| Hop { node: self.id, key: *key, delay })
    }

    /// Where packets for this node are POSTed.
    pub fn packet_url(&self) -> String {
        match self.kind {
            NodeKind::Relay => format!("{}/hop", self.url),
            NodeKind::Sync => format!("{}/deliver", self.url),
        }
    }
}

/// Whose word on nodes is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustPolicy {
    /// The keys that sign lists.
    pub keys: Vec<NodeId>,
    /// How many of them must have signed a list: 1 to all.
    pub threshold: usize,
    /// Development: also take http and addresses that are not public.
    pub allow_private: bool,
}

/// The nodes of one valid list, joined with their records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    version: u64,
    expires: u64,
    nodes: Vec<Node>,
    index: HashMap<NodeId, usize>,
}

impl Directory {
    /// Checks a signed list and joins it with a records text; nothing was seen before.
    pub fn load(
        list_json: &str,
        records_json: &str,
        trust: &TrustPolicy,
        now: Millis,
    ) -> Result<(Self, Vec<Skipped>), DirectoryError> {
        Self::load_with(list_json, records_json, trust, now, &LoadRules::default())
    }

    /// Checks a signed list and joins it with a records text under further rules.
    pub fn load_with(
        list_json: &str,
        records_json: &str,
        trust: &TrustPolicy,
        now: Millis,
        rules: &LoadRules,
    ) -> Result<(Self, Vec<Skipped>), DirectoryError> {
        load::listed(list_json, records_json, &[], trust, now, rules)
    }

    /// As [`load_with`](Self::load_with), with further records that the caller resolved and authenticated itself. For
    /// a listed node the newest record counts, wherever it came from; nodes no list names are added behind the
    /// others, without an operator: for routes they all count as run by one.
    pub fn load_resolved(
        list_json: &str,
        records_json: &str,
        resolved: &[ResolvedRecord],
        trust: &TrustPolicy,
        now: Millis,
        rules: &LoadRules,
    ) -> Result<(Self, Vec<Skipped>), DirectoryError> {
        load::listed(list_json, records_json, resolved, trust, now, rules)
    }

    /// Takes a pool of records the caller itself vouches for, the operators named in them included.
    pub fn pool(
        records_json: &str,
        allow_private: bool,
        now: Millis,
        seen: &Seen,
    ) -> Result<(Self, Vec<Skipped>), DirectoryError> {
        load::pool(records_json, allow_private, now, seen)
    }

    /// From nodes that were checked elsewhere; of several with one id the first counts.
    pub fn from_nodes(version: u64, expires: u64, nodes: impl IntoIterator<Item = Node>) -> Self {
        let mut directory = Self { version, expires, nodes: Vec::new(), index: HashMap::new() };
        for node in nodes {
            directory.index.entry(node.id).or_insert_with(|| {
                directory.nodes.push(node);
                directory.nodes.len() - 1
            });
        }
        directory
    }

    /// The list's version; 0 for a pool.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// When the list expires, seconds since the Unix epoch. Past it clients stop; relays go on and warn.
    pub const fn expires(&self) -> u64 {
        self.expires
    }

    /// Whether the list has expired at `now`.
    pub const fn is_expired(&self, now: Millis) -> bool {
        now.0 >= self.expires.saturating_mul(1000)
    }

    /// All nodes, in the order of the list.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The relays, in the order of the list.
    pub fn relays(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.kind == NodeKind::Relay)
    }

    /// The node with this identity.
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.index.get(id).and_then(|place| self.nodes.get(*place))
    }
}

/// A list or records text is refused as a whole. Keep the directory in use, if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DirectoryError {
    /// The trust policy itself cannot be met. The configuration is at fault.
    #[error("a threshold of {threshold} cannot be met with {keys} trusted keys")]
    Policy {
        /// The threshold asked for.
        threshold: usize,
        /// How many distinct keys are trusted.
        keys: usize,
    },
    /// A text is longer than [`MAX_DIRECTORY_BYTES`].
    #[error("the directory text has {0} bytes, the limit is {MAX_DIRECTORY_BYTES}")]
    TooLong(usize),
    /// The list is not what a list looks like.
    #[error("the signed list is malformed: {0}")]
    List(String),
    /// The records text is not a JSON array.
    #[error("the records are malformed: {0}")]
    Records(String),
    /// Too few trusted keys have signed. Somebody else's list, or a changed one.
    #[error("{valid} of the needed {threshold} trusted keys have signed the list")]
    Signatures {
        /// How many trusted keys have signed.
        valid: usize,
        /// How many must have.
        threshold: usize,
    },
    /// The list has expired: fetch a newer one. If there is none, its signers (or this clock) are at fault.
    #[error("the list expired at {expires} (seconds since the Unix epoch)")]
    Expired {
        /// When it expired.
        expires: u64,
    },
    /// The list is older than one seen before.
    #[error("the list has version {got}, version {seen} was seen before")]
    Older {
        /// The list's version.
        got: u64,
        /// The highest version seen.
        seen: u64,
    },
    /// More nodes than a directory may hold.
    #[error("there are {0} nodes, the limit is {MAX_DIRECTORY_NODES}")]
    TooManyNodes(usize),
    /// More than [`MAX_RECORDS`] records.
    #[error("there are {0} records, the limit is {MAX_RECORDS}")]
    TooManyRecords(usize),
}

/// Strict verification of an Ed25519 signature by a node or signer.
fn signed_by(id: &NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(&id.0)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

/// Whether a name can stand for an operator: not empty, not long, printable.
fn is_operator(name: &str) -> bool {
    (1..=MAX_OPERATOR).contains(&name.len()) && !name.contains(char::is_control)
}
