//! From what an app passes to `init_sync` to relays and a server that can be trusted: the list's signatures or the
//! app's word for the relays, the pin in the sync URL for the server.

use std::collections::HashMap;
use std::sync::Arc;

use delta_core::NodeId;
use delta_core::engine::{Command, Network, Renewed, Reply, STALE_AFTER_MS, SeenDirectory, Sending};
use delta_core::identity::Millis;
use delta_core::onion::directory::{
    Directory, DirectoryError, LoadRules, MAX_RECORDS, Node, NodeKind, NodeRecord, RecordObject, Seen,
    SignedList, SkipReason, Skipped, SyncUrl, TrustPolicy,
};
use delta_core::onion::route::{MAX_RELAYS, Tunnel};
use delta_core::tree::{Arrange, IntoTree, Map, Set};
use serde_json::Value;

use crate::config::RelayHops;
use crate::driver::Inbox;
use crate::error::{ClientError, ServerRecordError};
use crate::net::{GetError, Http};

/// Tunnels through which a server is asked for its record before it counts as unreachable.
const MAX_ASKED: usize = 3;

/// How this client uses any network.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) relays: usize,
    pub(crate) allow_plaintext: bool,
    pub(crate) hidden_reading: bool,
    pub(crate) look_before_retry: bool,
    pub(crate) sending: Sending,
    /// Where records are renewed from before relays are asked.
    pub(crate) records_url: Option<String>,
}

/// What `init_sync` found out.
pub(crate) struct Resolved {
    pub(crate) network: Network,
    /// Nodes that were left out, and why.
    pub(crate) skipped: Vec<Skipped>,
}

/// What is known of the server from elsewhere.
#[derive(Clone, Copy, Default)]
pub(crate) struct Known<'a> {
    /// A collected set of records, which may hold the server's: then it need not be asked, and does not learn who asks.
    pub(crate) collected: Option<&'a str>,
    /// What it said before, should it not answer.
    pub(crate) before: Option<&'a Node>,
}

/// The way to a server that is not configured yet.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) http: &'a Http,
    /// The engine, which knows the tunnels.
    pub(crate) inbox: &'a Inbox,
}

/// Checks the pin; asks the server for its record unless it is among the relays'. It is asked as it is read: where
/// relays offer tunnels, through those alone.
#[allow(clippy::too_many_arguments, reason = "what two callers know, each from another place")]
pub(crate) async fn resolve(
    (directory, skipped): (Directory, Vec<Skipped>),
    sync_url: &str,
    terms: &Terms,
    as_of: Option<Millis>,
    now: Millis,
    way: Way<'_>,
    mut seen: SeenDirectory,
    from: Known<'_>,
) -> Result<Resolved, ClientError> {
    let Terms { relays, allow_plaintext, hidden_reading, look_before_retry, .. } = *terms;
    if relays == 0 || relays > MAX_RELAYS {
        return Err(ClientError::PathLength { relays });
    }
    directory.remember(&mut seen.seen);
    let directory = Arc::new(directory);
    let server = sync_server(sync_url, allow_plaintext)?;
    let known = directory.node(&server.node).filter(|node| node.kind == NodeKind::Sync);
    let known = known.map(|node| Node { url: server.base.clone(), ..node.clone() });
    let collected = || collected_record(from.collected?, &server, allow_plaintext, now, &seen.seen);
    let server = match known.or_else(collected) {
        Some(node) => node,
        None => {
            let tunnels = match hidden_reading {
                true => way.tunnels(&directory, server.node).await?,
                false => Vec::new(),
            };
            match (ask(&server, allow_plaintext, now, way.http, tunnels, &seen.seen).await, from.before) {
                (Ok(node), _) => node,
                (Err(ClientError::ServerUnreachable { .. }), Some(before)) => before.clone(),
                (Err(error), _) => return Err(error),
            }
        }
    };
    Directory::from_nodes(0, u64::MAX, [server.clone()]).remember(&mut seen.seen);
    if server.keys.is_empty() && !terms.sending.accept_v2 {
        return Err(ClientError::ServerRecord { url: server.url, reason: ServerRecordError::NoOnionKey });
    }
    let sending = Sending { records_as_of: as_of, ..terms.sending };
    let hide_reading = hidden_reading;
    let network = Network { directory, server, relays, hide_reading, look_before_retry, seen, sending };
    Ok(Resolved { network, skipped })
}

/// Which directories a pool or list is compared with: those of the same signers.
pub(crate) fn scope(hops: &RelayHops) -> String {
    let RelayHops::Directory { trusted_keys, threshold, .. } = hops else { return "pool".into() };
    let mut keys: Vec<String> = trusted_keys.iter().map(ToString::to_string).collect();
    keys.arrange();
    keys.dedup();
    format!("{threshold}:{}", keys.join(","))
}

/// Checks the relays: the app's records and those this device collected itself, whichever are newer. Nobody who is not in
/// the app's list or pool comes in by being collected, and nobody's operator changes. Relays whose records have expired
/// stay, behind the others: no route goes over them, but what was read through tunnels is never read directly because a
/// device slept for a week.
pub(crate) fn directory(
    hops: &RelayHops,
    renewed: Option<&Renewed>,
    terms: &Terms,
    now: Millis,
    seen: &Seen,
) -> Result<(Directory, Vec<Skipped>), ClientError> {
    let (current, skipped) = valid_at(hops, renewed, terms, now, seen)?;
    let expired = valid_at(hops, renewed, terms, Millis(0), seen)?.0;
    // Of two with one id the first counts.
    let nodes = current.nodes().iter().chain(expired.relays()).cloned().map(as_fresh_as_its_keys);
    Ok((Directory::from_nodes(current.version(), current.expires(), nodes), skipped))
}

/// A relay's record counts as long as the keys in it may: who signs anew every day and has not for two has gone, or is
/// kept from this device, whatever others have signed meanwhile.
fn as_fresh_as_its_keys(node: Node) -> Node {
    match node.kind {
        NodeKind::Relay => {
            let expires = node.expires.min(node.seq.saturating_add(STALE_AFTER_MS / 1000));
            Node { expires, ..node }
        }
        NodeKind::Sync => node,
    }
}

fn valid_at(
    hops: &RelayHops,
    renewed: Option<&Renewed>,
    terms: &Terms,
    now: Millis,
    seen: &Seen,
) -> Result<(Directory, Vec<Skipped>), ClientError> {
    let allow_private = terms.allow_plaintext;
    match hops {
        RelayHops::Directory { list, records, trusted_keys, threshold } => {
            let trust = TrustPolicy { keys: trusted_keys.clone(), threshold: *threshold, allow_private };
            let rules = LoadRules { seen: seen.clone(), ..LoadRules::default() };
            let Some(renewed) = renewed else {
                return Ok(Directory::load_with(list, records, &trust, now, &rules)?);
            };
            let records = join(array(records)?, array(&renewed.records)?);
            let (directory, mut skipped) = Directory::load_with(list, &records, &trust, now, &rules)?;
            // A set names nodes of other lists too, and holds older records beside the app's newer ones.
            skipped.retain(|skipped| skipped.node.is_none_or(|id| directory.node(&id).is_none()));
            skipped.retain(|skipped| skipped.reason != SkipReason::NotListed);
            Ok((directory, skipped))
        }
        RelayHops::Pool(objects) => {
            let mut own = Vec::with_capacity(objects.len());
            let mut vouched = HashMap::new();
            for (index, object) in objects.iter().enumerate() {
                let object =
                    RecordObject::parse(object).map_err(|source| ClientError::Pool { index, source })?;
                if let Ok(record) = object.record.parse::<NodeRecord>() {
                    vouched.entry(record.id).or_insert(record.operator);
                }
                own.push(object.to_value());
            }
            let Some(renewed) = renewed else {
                return Ok(Directory::pool(&join(own, Vec::new()), allow_private, now, seen)?);
            };
            let mut collected = array(&renewed.records)?;
            collected.retain(|value| owner(value).is_some_and(|(id, _)| vouched.contains_key(&id)));
            let (directory, mut skipped) = Directory::pool(&join(own, collected), allow_private, now, seen)?;
            skipped.retain(|skipped| skipped.node.is_none_or(|id| directory.node(&id).is_none()));
            let nodes = directory.nodes().iter().map(|node| {
                let operator = vouched.get(&node.id).cloned().flatten();
                Node { operator, ..node.clone() }
            });
            Ok((Directory::from_nodes(directory.version(), directory.expires(), nodes), skipped))
        }
    }
}

/// When the app's own records were signed, expired ones included: about when they were collected, because every node
/// signs anew every day. One node's clock, right or wrong, does not decide it. `None` when there are none to speak of.
pub(crate) fn freshest(hops: &RelayHops, terms: &Terms) -> Option<Millis> {
    let (directory, _) = directory(hops, None, terms, Millis(0), &Seen::default()).ok()?;
    signed_last(&directory, terms.relays)
}

/// Records from elsewhere: of each node that is wanted the newest that it has signed. Nothing else is kept, so that
/// junk neither fills the database nor leaves no room for what is good.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collected(Map<NodeId, (u64, Value)>);

impl Collected {
    /// Adds a set.
    pub(crate) fn add(&mut self, records: &str, wanted: &Set<NodeId>) -> Result<(), ClientError> {
        for value in array(records)? {
            let Some((id, seq)) = owner(&value).filter(|(id, _)| wanted.contains(id)) else { continue };
            let is_newer = self.0.get(&id).is_none_or(|(known, _)| *known < seq);
            let is_signed = |value: &Value| {
                RecordObject::from_value(value.clone()).is_ok_and(|object| object.verify().is_ok())
            };
            if is_newer && is_signed(&value) {
                self.0.insert(id, (seq, value));
            }
        }
        Ok(())
    }

    /// As a text.
    pub(crate) fn text(&self) -> String {
        join(self.0.values().map(|(_, value)| value.clone()).collect(), Vec::new())
    }

    /// Whether this alone tells the keys of today: of as many operators as a route has relays, or of all there are. One
    /// relay's own record, which is always new, says nothing about the others'.
    pub(crate) fn is_fresh(&self, directory: &Directory, relays: usize, now: Millis) -> bool {
        let fresh = |node: &&Node| {
            let seq = self.0.get(&node.id).map(|(seq, _)| Millis(seq.saturating_mul(1000)));
            seq.is_some_and(|at| now.since(at) < STALE_AFTER_MS)
        };
        let operators =
            |nodes: &mut dyn Iterator<Item = &Node>| nodes.map(|node| node.operator.clone()).into_set().len();
        let all = operators(&mut directory.relays());
        all > 0 && operators(&mut directory.relays().filter(fresh)) >= relays.min(all)
    }
}

/// Whose records are of use: those the list or the pool names, and the server.
pub(crate) fn wanted(hops: &RelayHops, server: NodeId) -> Set<NodeId> {
    let id = |node: &Value| node.get("a")?.as_str()?.parse().ok();
    let listed =
        |body: &Value| body.get("nodes")?.as_array().map(|nodes| nodes.iter().filter_map(id).collect());
    let named: Vec<NodeId> = match hops {
        // Its signatures are checked wherever it is used.
        RelayHops::Directory { list, .. } => {
            let list = SignedList::parse(list).ok();
            let body = list.and_then(|list| serde_json::from_slice(&list.signed).ok());
            body.as_ref().and_then(listed).unwrap_or_default()
        }
        RelayHops::Pool(objects) => {
            let objects = objects.iter().filter_map(|object| serde_json::from_str(object).ok());
            objects.filter_map(|object| Some(owner(&object)?.0)).collect()
        }
    };
    named.into_iter().chain([server]).into_set()
}

/// Where the whole set may be had when all records have expired.
pub(crate) fn sources(hops: &RelayHops, terms: &Terms) -> Vec<String> {
    let loaded = directory(hops, None, terms, Millis(0), &Seen::default());
    let nodes = loaded.map(|(directory, _)| directory.relays().cloned().collect::<Vec<_>>());
    nodes.unwrap_or_default().iter().take(MAX_RELAYS).map(|node| format!("{}/records", node.url)).collect()
}

/// Of collected records those that are used, as their nodes signed them: the relays' and the server's.
pub(crate) fn in_use(records: &str, directory: &Directory, server: &Node) -> String {
    let mut values = array(records).unwrap_or_default();
    let used = |id: &NodeId, seq: u64| {
        let listed = directory.node(id).is_some_and(|node| node.seq == seq);
        listed || (*id == server.id && seq == server.seq)
    };
    values.retain(|value| owner(value).is_some_and(|(id, seq)| used(&id, seq)));
    join(values, Vec::new())
}

/// Since when the records of as many operators as a route has relays, or of all there are, are no older.
fn signed_last(directory: &Directory, relays: usize) -> Option<Millis> {
    let mut newest: Map<Option<&str>, u64> = Map::new();
    for node in directory.relays() {
        let seq = newest.entry(node.operator.as_deref()).or_default();
        *seq = node.seq.max(*seq);
    }
    let mut newest: Vec<u64> = newest.into_values().collect();
    newest.arrange_by_key(|seq| std::cmp::Reverse(*seq));
    let place = relays.min(newest.len()).checked_sub(1)?;
    newest.get(place).map(|seq| Millis(seq.saturating_mul(1000)))
}

fn array(text: &str) -> Result<Vec<Value>, ClientError> {
    serde_json::from_str(text).map_err(|error| DirectoryError::Records(error.to_string()).into())
}

/// One text of both, as many as a text may hold.
fn join(first: Vec<Value>, second: Vec<Value>) -> String {
    Value::Array(first.into_iter().chain(second).take(MAX_RECORDS).collect()).to_string()
}

/// Whose record an object claims to be, and its number.
fn owner(value: &Value) -> Option<(NodeId, u64)> {
    let record: NodeRecord = value.get("record")?.as_str()?.parse().ok()?;
    Some((record.id, value.get("seq")?.as_u64()?))
}

fn sync_server(sync_url: &str, allow_plaintext: bool) -> Result<SyncUrl, ClientError> {
    if !allow_plaintext && sync_url.starts_with("http://") {
        return Err(ClientError::Plaintext { url: sync_url.to_owned() });
    }
    Ok(SyncUrl::parse(sync_url, allow_plaintext)?)
}

/// An error and what lies behind it: "no connection" alone helps nobody.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl Way<'_> {
    async fn tunnels(&self, directory: &Arc<Directory>, server: NodeId) -> Result<Vec<Tunnel>, ClientError> {
        let command = Command::TunnelsTo { directory: Arc::clone(directory), server };
        match self.inbox.command(command).await? {
            Reply::Tunnels(tunnels) => Ok(tunnels),
            _ => Err(ClientError::EnginePanicked),
        }
    }
}

/// Asks the server for its record. The pin, not the connection, is what makes the answer trustworthy.
async fn ask(
    server: &SyncUrl,
    allow_private: bool,
    now: Millis,
    http: &Http,
    tunnels: Vec<Tunnel>,
    seen: &Seen,
) -> Result<Node, ClientError> {
    let url = || server.base.clone();
    let info = get_info(&format!("{}/info", server.base), http, tunnels)
        .await
        .map_err(|error| ClientError::ServerUnreachable { url: url(), reason: with_causes(&error) })?;
    pinned_record(&info, server, allow_private, now, seen).map_err(|reason| match reason {
        // It is signed anew every day, and was fetched just now.
        ServerRecordError::Skipped(SkipReason::Expired { expires }) => {
            let ahead_ms = now.since(Millis(expires.saturating_mul(1000)));
            ClientError::ClockSkew { url: url(), ahead_ms }
        }
        reason => ClientError::ServerRecord { url: url(), reason },
    })
}

/// Directly where there are no tunnels; else through one after the other, and never past them.
async fn get_info(url: &str, http: &Http, tunnels: Vec<Tunnel>) -> Result<Vec<u8>, GetError> {
    let mut tunnels = tunnels.into_iter().take(MAX_ASKED).peekable();
    if tunnels.peek().is_none() {
        return http.json(url).await;
    }
    loop {
        let answer = http.through(tunnels.next()).json(url).await;
        match answer {
            Err(GetError::Tunnel { .. }) if tunnels.peek().is_some() => {}
            answer => return answer,
        }
    }
}

fn pinned_record(
    info: &[u8],
    server: &SyncUrl,
    allow_private: bool,
    now: Millis,
    seen: &Seen,
) -> Result<Node, ServerRecordError> {
    let mut info: Value = serde_json::from_slice(info).map_err(|_| ServerRecordError::Info)?;
    let object = info.get_mut("record").map(Value::take).ok_or(ServerRecordError::Info)?;
    pinned(object, server, allow_private, now, seen)
}

/// The newest record of the pinned server in a collected set, if there is one that tells its keys of today.
fn collected_record(
    records: &str,
    server: &SyncUrl,
    allow_private: bool,
    now: Millis,
    seen: &Seen,
) -> Option<Node> {
    let of_server = array(records).ok()?.into_iter().filter(|value| {
        owner(value).is_some_and(|(id, seq)| {
            id == server.node && now.since(Millis(seq.saturating_mul(1000))) < STALE_AFTER_MS
        })
    });
    of_server
        .filter_map(|value| pinned(value, server, allow_private, now, seen).ok())
        .max_by_key(|node| node.seq)
}

fn pinned(
    object: Value,
    server: &SyncUrl,
    allow_private: bool,
    now: Millis,
    seen: &Seen,
) -> Result<Node, ServerRecordError> {
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
    if known.onion && node.keys.is_empty() {
        return Err(ServerRecordError::Skipped(SkipReason::Downgraded));
    }
    Ok(Node { url: server.base.clone(), ..node })
}
