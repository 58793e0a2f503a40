//! From what an app passes to `init_sync` to relays and a server that can be trusted: the list's signatures or the
//! app's word for the relays, the pin in the sync URL for the server.

use std::sync::Arc;

use delta_core::engine::{Network, SeenDirectory};
use delta_core::identity::Millis;
use delta_core::onion::directory::{
    Directory, LoadRules, Node, NodeKind, RecordObject, Seen, SkipReason, Skipped, SyncUrl, TrustPolicy,
};
use delta_core::onion::route::MAX_RELAYS;

use crate::config::RelayHops;
use crate::error::{ClientError, ServerRecordError};
use crate::net::Http;

/// What `init_sync` found out.
pub(crate) struct Resolved {
    pub(crate) network: Network,
    /// Nodes that were left out, and why.
    pub(crate) skipped: Vec<Skipped>,
}

/// Checks the relays and the pin; asks the server for its record unless the relays' records hold it.
pub(crate) async fn resolve(
    hops: &RelayHops,
    sync_url: &str,
    relays: usize,
    allow_plaintext: bool,
    now: Millis,
    http: &Http,
    mut seen: SeenDirectory,
) -> Result<Resolved, ClientError> {
    if relays == 0 || relays > MAX_RELAYS {
        return Err(ClientError::PathLength { relays });
    }
    let (directory, skipped) = directory(hops, allow_plaintext, now, &seen.seen)?;
    directory.remember(&mut seen.seen);
    let server = sync_server(sync_url, allow_plaintext)?;
    let known = directory.node(&server.node).filter(|node| node.kind == NodeKind::Sync);
    let server = match known {
        Some(node) => Node { url: server.base, ..node.clone() },
        None => {
            let node = ask(&server, allow_plaintext, now, http, &seen.seen).await?;
            Directory::from_nodes(0, u64::MAX, [node.clone()]).remember(&mut seen.seen);
            node
        }
    };
    if server.keys.is_empty() {
        return Err(ClientError::ServerRecord { url: server.url, reason: ServerRecordError::NoOnionKey });
    }
    Ok(Resolved { network: Network { directory: Arc::new(directory), server, relays, seen }, skipped })
}

/// Which directories a pool or list is compared with: those of the same signers.
pub(crate) fn scope(hops: &RelayHops) -> String {
    let RelayHops::Directory { trusted_keys, threshold, .. } = hops else { return "pool".into() };
    let mut keys: Vec<String> = trusted_keys.iter().map(ToString::to_string).collect();
    keys.sort_unstable();
    keys.dedup();
    format!("{threshold}:{}", keys.join(","))
}

fn directory(
    hops: &RelayHops,
    allow_private: bool,
    now: Millis,
    seen: &Seen,
) -> Result<(Directory, Vec<Skipped>), ClientError> {
    match hops {
        RelayHops::Directory { list, records, trusted_keys, threshold } => {
            let trust = TrustPolicy { keys: trusted_keys.clone(), threshold: *threshold, allow_private };
            let rules = LoadRules { seen: seen.clone(), ..LoadRules::default() };
            Ok(Directory::load_with(list, records, &trust, now, &rules)?)
        }
        RelayHops::Pool(objects) => {
            let mut records = Vec::with_capacity(objects.len());
            for (index, object) in objects.iter().enumerate() {
                let object =
                    RecordObject::parse(object).map_err(|source| ClientError::Pool { index, source })?;
                records.push(object.to_json());
            }
            let records = format!("[{}]", records.join(","));
            Ok(Directory::pool(&records, allow_private, now, seen)?)
        }
    }
}

fn sync_server(sync_url: &str, allow_plaintext: bool) -> Result<SyncUrl, ClientError> {
    if !allow_plaintext && sync_url.starts_with("http://") {
        return Err(ClientError::Plaintext { url: sync_url.to_owned() });
    }
    Ok(SyncUrl::parse(sync_url, allow_plaintext)?)
}

/// An error and what lies behind it: "error sending request" alone helps nobody.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Asks the server for its record. The pin, not the connection, is what makes the answer trustworthy.
async fn ask(
    server: &SyncUrl,
    allow_private: bool,
    now: Millis,
    http: &Http,
    seen: &Seen,
) -> Result<Node, ClientError> {
    let url = || server.base.clone();
    let info = http
        .json(&format!("{}/info", server.base))
        .await
        .map_err(|error| ClientError::ServerUnreachable { url: url(), reason: with_causes(&error) })?;
    pinned_record(&info, server, allow_private, now, seen)
        .map_err(|reason| ClientError::ServerRecord { url: url(), reason })
}

fn pinned_record(
    info: &[u8],
    server: &SyncUrl,
    allow_private: bool,
    now: Millis,
    seen: &Seen,
) -> Result<Node, ServerRecordError> {
    let mut info: serde_json::Value = serde_json::from_slice(info).map_err(|_| ServerRecordError::Info)?;
    let object = info.get_mut("record").map(serde_json::Value::take).ok_or(ServerRecordError::Info)?;
    let object = RecordObject::from_value(object)?;
    let record = object.verify()?;
    if record.id != server.node {
        return Err(ServerRecordError::Pin { found: record.id });
    }
    if record.kind != NodeKind::Sync {
        return Err(ServerRecordError::Relay);
    }
    // Its own word on its operator is enough to keep that operator's relays out of the routes to it.
    let node = Node::from_record(&object, record.operator, allow_private, now)
        .map_err(ServerRecordError::Skipped)?;
    let known = seen.records.get(&node.id).copied().unwrap_or_default();
    if node.seq < known.seq {
        return Err(ServerRecordError::Skipped(SkipReason::Older { got: node.seq, seen: known.seq }));
    }
    Ok(Node { url: server.base.clone(), ..node })
}
