//! Identities of the simulated nodes, and the signed list and records that speak of them.

use std::sync::Arc;

use delta_core::engine::{Network, SeenDirectory, Sending};
use delta_core::identity::{Millis, NodeId};
use delta_core::onion::directory::{
    Directory, ListBody, ListEntry, Node, NodeKind, NodeRecord, RecordObject, TrustPolicy, sign_list,
};
use delta_core::onion::v3::OnionSecret;
use ed25519_dalek::SigningKey;

use crate::rng::Rng;

/// How long lists and records hold, seconds: longer than any run.
const VALID_S: u64 = 400 * 24 * 3600;

/// A node's keys.
#[derive(Clone)]
pub struct NodeIdentity {
    seed: [u8; 32],
    onion: [u8; 32],
    kid: u16,
}

impl NodeIdentity {
    /// Draws them.
    pub fn generate(rng: &mut Rng) -> Self {
        Self { seed: rng.bytes(), onion: rng.bytes(), kid: u16::from_be_bytes(rng.bytes()) }
    }

    /// The node's name.
    pub fn id(&self) -> NodeId {
        NodeId(self.signing_key().verifying_key().to_bytes())
    }

    /// What it signs with.
    pub fn signing_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.seed)
    }

    /// The same node with another onion key.
    pub fn with_onion_key(&self, onion: [u8; 32]) -> Self {
        Self { seed: self.seed, onion, kid: self.kid.wrapping_add(1) }
    }

    /// What it peels with.
    pub fn onion_secret(&self) -> OnionSecret {
        OnionSecret::from_bytes(self.kid, self.onion)
    }

    /// Its signed record: reachable at `url`, valid from `now` for longer than any test.
    pub fn record(&self, kind: NodeKind, url: &str, operator: &str, now: Millis) -> RecordObject {
        self.sign_record(kind, url, operator, now, false)
    }

    /// The record of a relay that offers tunnels.
    pub fn tunnel_record(&self, url: &str, operator: &str, now: Millis) -> RecordObject {
        self.sign_record(NodeKind::Relay, url, operator, now, true)
    }

    fn sign_record(
        &self,
        kind: NodeKind,
        url: &str,
        operator: &str,
        now: Millis,
        tunnel: bool,
    ) -> RecordObject {
        let record = NodeRecord {
            kind,
            id: self.id(),
            url: Some(url.to_owned()),
            keys: vec![self.onion_secret().public()],
            expires: now.0 / 1000 + VALID_S,
            max_class: Some(4),
            operator: Some(operator.to_owned()),
            tunnel,
        };
        RecordObject::sign(&self.signing_key(), &record, now.0 / 1000).expect("a node signs its own record")
    }
}

impl std::fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeIdentity({})", self.id())
    }
}

/// A signed list of relays, their records, and the key that vouches for them, as the texts that travel.
#[derive(Clone, Debug)]
pub struct DirectoryTexts {
    /// The signed list.
    pub list: String,
    /// The records.
    pub records: String,
    /// The key to trust.
    pub trust: NodeId,
}

/// Writes the texts for relays at URLs; each is run by an operator of its own.
pub fn texts(relays: &[(&NodeIdentity, String)], now: Millis) -> DirectoryTexts {
    let authority = SigningKey::from_bytes(&[0xd1; 32]);
    let operator = |place: usize| format!("operator-{place}");
    let entry = |(place, (node, _)): (usize, &(&NodeIdentity, String))| ListEntry {
        kind: NodeKind::Relay,
        id: node.id(),
        operator: Some(operator(place)),
        url: None,
        max_class: None,
    };
    let nodes = relays.iter().enumerate().map(entry).collect();
    let records: Vec<String> = relays
        .iter()
        .enumerate()
        .map(|(place, (node, url))| node.tunnel_record(url, &operator(place), now).to_json())
        .collect();
    DirectoryTexts {
        list: sign_list(
            std::slice::from_ref(&authority),
            &ListBody { version: 1, expires: now.0 / 1000 + VALID_S, nodes },
        ),
        records: format!("[{}]", records.join(",")),
        trust: NodeId(authority.verifying_key().to_bytes()),
    }
}

/// The network of a simulated world.
pub(crate) fn network(relays: &[NodeIdentity], server: &NodeIdentity, hops: usize, now: Millis) -> Network {
    let urls =
        relays.iter().enumerate().map(|(place, node)| (node, format!("https://relay-{place}.example")));
    let texts = texts(&urls.collect::<Vec<_>>(), now);
    let trust = TrustPolicy { keys: vec![texts.trust], threshold: 1, allow_private: false };
    let (directory, skipped) =
        Directory::load(&texts.list, &texts.records, &trust, now).expect("the simulated directory is valid");
    assert!(skipped.is_empty(), "the simulated directory leaves nodes out: {skipped:?}");
    let record = server.record(NodeKind::Sync, "https://sync.example", "sync", now);
    let server =
        Node::from_record(&record, Some("sync".to_owned()), false, now).expect("the record is valid");
    Network {
        directory: Arc::new(directory),
        server,
        relays: hops,
        hide_reading: true,
        look_before_retry: true,
        seen: SeenDirectory::default(),
        sending: Sending::default(),
    }
}
