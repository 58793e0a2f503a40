//! Node records in the Mainline DHT.
//!
//! A node that wants to be found without a list publishes its record as a pkarr packet; whoever knows the node's
//! key can resolve it. The DHT is never required: signed lists and records files are the first source. That is why
//! this is a crate of its own: builds that do without (phones) do not link it. What a record in the DHT looks like
//! is [`delta_core::onion::directory`]'s business.
//!
//! Asking the DHT for a key tells its nodes that this address cares for that key. Resolve whole directories, from
//! where that gives nobody away, not single relays on the way to using them.

mod packet;

use delta_core::identity::NodeId;
use delta_core::onion::directory::{NodeRecord, PkarrTooLong, RecordError, ResolvedRecord};
use ed25519_dalek::SigningKey;
use futures_util::{StreamExt, stream};
use pkarr::{Client, PublicKey};
use thiserror::Error;

/// Queries under way at once in [`Dht::resolve_all`].
pub const MAX_QUERIES: usize = 8;

/// A client of the DHT. It opens one UDP socket and answers no queries.
#[derive(Clone, Debug)]
pub struct Dht {
    client: Client,
}

impl Dht {
    /// Joins the public DHT through its well-known entry points.
    pub fn public() -> Result<Self, DhtError> {
        Self::build(Client::builder().no_relays().cache_size(0))
    }

    /// Joins the DHT these nodes (`host:port`) belong to, which need not be the public one.
    pub fn through(bootstrap: &[String]) -> Result<Self, DhtError> {
        Self::build(Client::builder().no_default_network().cache_size(0).bootstrap(bootstrap))
    }

    fn build(builder: &mut pkarr::ClientBuilder) -> Result<Self, DhtError> {
        builder.build().map(|client| Self { client }).map_err(|error| DhtError::Join(error.to_string()))
    }

    /// Publishes a node's record; it replaces whatever its key had in the DHT. `seq` is the record's sequence number,
    /// seconds since the Unix epoch. The DHT forgets within hours: publish again every hour.
    pub async fn publish(&self, key: &SigningKey, record: &NodeRecord, seq: u64) -> Result<(), DhtError> {
        let packet = packet::sign(key, record, seq)?;
        self.client.publish(&packet, None).await.map_err(|error| DhtError::Publish(error.to_string()))
    }

    /// The newest record that can be found for a node.
    pub async fn resolve(&self, node: NodeId) -> Result<ResolvedRecord, ResolveError> {
        let key = PublicKey::try_from(&node.0).map_err(|_| ResolveError::Key)?;
        let packet = self.client.resolve_most_recent(&key).await.ok_or(ResolveError::NotFound)?;
        packet::read(node, &packet)
    }

    /// Resolves many nodes, [`MAX_QUERIES`] at a time, in any order.
    pub async fn resolve_all(
        &self,
        nodes: impl IntoIterator<Item = NodeId>,
    ) -> Vec<(NodeId, Result<ResolvedRecord, ResolveError>)> {
        let queries = nodes.into_iter().map(|node| async move { (node, self.resolve(node).await) });
        stream::iter(queries).buffer_unordered(MAX_QUERIES).collect().await
    }
}

/// The DHT could not be joined, or a record not be published.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DhtError {
    /// No socket, or no way in: check the network and the entry points.
    #[error("the DHT cannot be joined: {0}")]
    Join(String),
    /// The record does not fit: a shorter URL or operator name helps.
    #[error(transparent)]
    TooLong(#[from] PkarrTooLong),
    /// The record is not one that this key may sign, or that anybody could read back.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The sequence number is beyond what the DHT can carry. The caller's clock is at fault.
    #[error("a sequence number of {0} seconds does not fit into the DHT")]
    Seq(u64),
    /// Nobody in the DHT took the record, or a newer one is there: try again, or check the clock.
    #[error("the record was not published: {0}")]
    Publish(String),
}

/// A node's record could not be had from the DHT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// The node id is no Ed25519 key.
    #[error("the node id is no Ed25519 key")]
    Key,
    /// Nothing was found: the node does not publish, or the DHT cannot be reached.
    #[error("the DHT has nothing of this node")]
    NotFound,
    /// The packet's signature does not verify strictly.
    #[error("the packet's signature does not verify")]
    Signature,
    /// The packet does not hold exactly one node record.
    #[error("the packet holds {0} node records, not one")]
    Records(usize),
    /// The record is malformed, or another node's. Whoever runs the node is at fault.
    #[error(transparent)]
    Record(#[from] RecordError),
}
