//! Joining a signed list with records.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use thiserror::Error;

use super::list::ListEntry;
use super::{
    Directory, DirectoryError, MAX_DIRECTORY_BYTES, MAX_RECORDS, Node, NodeKind, NodeRecord, RecordError,
    RecordObject, ResolvedRecord, Seen, SignedList, TrustPolicy, UrlError, check_url,
};
use crate::identity::{Millis, NodeId};
use crate::limits::MAX_DIRECTORY_NODES;
use crate::onion::PacketClass;
use crate::tree::Arrange;

/// Rules beyond the trust policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadRules {
    /// What was seen before.
    pub seen: Seen,
    /// Relays go on with an expired list (and warn); clients never do.
    pub accept_expired_list: bool,
}

/// A node or record that was left out. To be shown to whoever runs this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Which node, when that could be read.
    pub node: Option<NodeId>,
    /// Why.
    pub reason: SkipReason,
}

impl Skipped {
    /// The node whose record was left out; `None` for what concerns a list entry.
    fn of_record(&self) -> Option<NodeId> {
        self.node.filter(|_| !matches!(self.reason, SkipReason::Entry(_) | SkipReason::Duplicate))
    }
}

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.node {
            Some(node) => write!(f, "node {node} is left out: {}", self.reason),
            None => write!(f, "an entry is left out: {}", self.reason),
        }
    }
}

/// Why a node or record was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SkipReason {
    /// A list entry's fields are missing, of the wrong type or of an unknown kind.
    #[error("the list entry's `{0}` is missing or not allowed")]
    Entry(&'static str),
    /// The list names the node a second time; the first entry stands.
    #[error("the list names the node twice")]
    Duplicate,
    /// A list names the node but no record of it is there.
    #[error("there is no record of the node")]
    NoRecord,
    /// There is a record but no list names the node.
    #[error("no list names the node")]
    NotListed,
    /// The record is malformed or not signed by the node.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The record says another kind of node than the list.
    #[error("the record says another kind of node than the list")]
    Kind,
    /// The record has expired: the node has not renewed it, or this clock is wrong.
    #[error("the record expired at {expires} (seconds since the Unix epoch)")]
    Expired {
        /// When it expired.
        expires: u64,
    },
    /// A newer record of the node was seen before.
    #[error("the record has sequence number {got}, {seen} was seen before")]
    Older {
        /// The record's number.
        got: u64,
        /// The highest number seen.
        seen: u64,
    },
    /// The node once had an onion key and now has none.
    #[error("the record has lost the node's onion key")]
    Downgraded,
    /// Neither record nor list says a URL.
    #[error("there is no URL for the node")]
    NoUrl,
    /// The URL breaks a rule.
    #[error(transparent)]
    Url(#[from] UrlError),
}

pub(super) fn listed(
    list_json: &str,
    records_json: &str,
    resolved: &[ResolvedRecord],
    trust: &TrustPolicy,
    now: Millis,
    rules: &LoadRules,
) -> Result<(Directory, Vec<Skipped>), DirectoryError> {
    let body = SignedList::parse(list_json)?.verify(trust)?;
    if body.version < rules.seen.version {
        return Err(DirectoryError::Older { got: body.version, seen: rules.seen.version });
    }
    if now.0 >= body.expires.saturating_mul(1000) && !rules.accept_expired_list {
        return Err(DirectoryError::Expired { expires: body.expires });
    }
    let mut skipped = Vec::new();
    let entries = entries(&body.nodes, &mut skipped);
    let listed: HashMap<NodeId, &ListEntry> = entries.iter().map(|entry| (entry.id, entry)).collect();
    let usable = |record: &NodeRecord, seq| {
        let entry = listed.get(&record.id).copied();
        node(record, seq, entry, None, trust.allow_private, now).map(drop)
    };
    let wanted = |id: &NodeId| listed.contains_key(id);
    let mut records = newest_records(records_json, &rules.seen, &mut skipped, wanted, usable)?;
    add_resolved(&mut records, resolved, &rules.seen, &mut skipped, usable);
    let explained: HashSet<NodeId> = skipped.iter().filter_map(Skipped::of_record).collect();
    let mut nodes = Vec::with_capacity(entries.len());
    for entry in &entries {
        let joined = records.remove(&entry.id).ok_or(SkipReason::NoRecord).and_then(|(record, seq)| {
            node(&record, seq, Some(entry), entry.operator.clone(), trust.allow_private, now)
        });
        match joined {
            Ok(node) => nodes.push(node),
            // What is wrong with its record was said already.
            Err(SkipReason::NoRecord) if explained.contains(&entry.id) => {}
            Err(reason) => skipped.push(Skipped { node: Some(entry.id), reason }),
        }
    }
    // What is left no list names: found by its key alone.
    let mut unlisted: Vec<(NodeId, (NodeRecord, u64))> = records.into_iter().collect();
    unlisted.arrange_by_key(|(id, _)| *id);
    for (id, (record, seq)) in unlisted {
        match node(&record, seq, None, None, trust.allow_private, now) {
            Ok(_) if nodes.len() >= MAX_DIRECTORY_NODES => break,
            Ok(node) => nodes.push(node),
            Err(reason) => skipped.push(Skipped { node: Some(id), reason }),
        }
    }
    Ok((Directory::from_nodes(body.version, body.expires, nodes), skipped))
}

/// Adds records that were resolved elsewhere, where they are newer.
fn add_resolved(
    records: &mut HashMap<NodeId, (NodeRecord, u64)>,
    resolved: &[ResolvedRecord],
    seen: &Seen,
    skipped: &mut Vec<Skipped>,
    usable: impl Fn(&NodeRecord, u64) -> Result<(), SkipReason>,
) {
    for found in resolved {
        let record = found.record();
        if records.get(&record.id).is_some_and(|(_, seq)| *seq >= found.seq()) {
            continue;
        }
        let lost = records.get(&record.id).is_some_and(|(before, _)| loses_keys(before, record));
        let checked = if lost { Err(SkipReason::Downgraded) } else { check_seen(record, found.seq(), seen) };
        match checked.and_then(|()| usable(record, found.seq())) {
            Ok(()) => drop(records.insert(record.id, (record.clone(), found.seq()))),
            Err(reason) => skipped.push(Skipped { node: Some(record.id), reason }),
        }
    }
}

pub(super) fn pool(
    records_json: &str,
    allow_private: bool,
    now: Millis,
    seen: &Seen,
) -> Result<(Directory, Vec<Skipped>), DirectoryError> {
    let mut skipped = Vec::new();
    let usable = |record: &NodeRecord, seq| node(record, seq, None, None, allow_private, now).map(drop);
    let records = newest_records(records_json, seen, &mut skipped, |_| true, usable)?;
    if records.len() > MAX_DIRECTORY_NODES {
        return Err(DirectoryError::TooManyNodes(records.len()));
    }
    let mut nodes = Vec::with_capacity(records.len());
    for (id, (record, seq)) in records {
        match node(&record, seq, None, record.operator.clone(), allow_private, now) {
            Ok(node) => nodes.push(node),
            Err(reason) => skipped.push(Skipped { node: Some(id), reason }),
        }
    }
    nodes.arrange_by_key(|node| node.id);
    Ok((Directory::from_nodes(0, u64::MAX, nodes), skipped))
}

/// The well-formed entries of a list, each node once.
fn entries(nodes: &[Value], skipped: &mut Vec<Skipped>) -> Vec<ListEntry> {
    let mut ids = HashSet::new();
    let mut entries: Vec<ListEntry> = Vec::with_capacity(nodes.len());
    for value in nodes {
        match ListEntry::from_value(value) {
            Ok(entry) if ids.insert(entry.id) => entries.push(entry),
            Ok(entry) => skipped.push(Skipped { node: Some(entry.id), reason: SkipReason::Duplicate }),
            Err(reason) => {
                let id = value.get("a").and_then(Value::as_str).and_then(|id| id.parse().ok());
                skipped.push(Skipped { node: id, reason });
            }
        }
    }
    entries
}

/// Of every wanted node the newest record that is validly signed, does not go back behind what was seen, and can be
/// used: one that cannot does not stand in the way of an older one that can.
fn newest_records(
    json: &str,
    seen: &Seen,
    skipped: &mut Vec<Skipped>,
    wanted: impl Fn(&NodeId) -> bool,
    usable: impl Fn(&NodeRecord, u64) -> Result<(), SkipReason>,
) -> Result<HashMap<NodeId, (NodeRecord, u64)>, DirectoryError> {
    if json.len() > MAX_DIRECTORY_BYTES {
        return Err(DirectoryError::TooLong(json.len()));
    }
    let values: Vec<Value> =
        serde_json::from_str(json).map_err(|error| DirectoryError::Records(error.to_string()))?;
    if values.len() > MAX_RECORDS {
        return Err(DirectoryError::TooManyRecords(values.len()));
    }
    let mut newest: HashMap<NodeId, (NodeRecord, u64)> = HashMap::new();
    for value in values {
        let object = match RecordObject::from_value(value) {
            Ok(object) => object,
            Err(error) => {
                skipped.push(Skipped { node: None, reason: error.into() });
                continue;
            }
        };
        // Whose record it claims to be decides whether a signature check is worth it.
        let claimed = object.record.parse::<NodeRecord>().map(|record| record.id);
        let checked = match &claimed {
            Ok(id) if !wanted(id) => Err(SkipReason::NotListed),
            // An older one with onion keys still says that a newer one without has lost them.
            Ok(id)
                if newest.get(id).is_some_and(|(best, seq)| *seq >= object.seq && !best.keys.is_empty()) =>
            {
                continue;
            }
            _ => check_record(&object, seen),
        };
        let checked = checked.and_then(|record| {
            usable(&record, object.seq)?;
            match newest.get(&record.id) {
                Some((best, _)) if loses_keys(best, &record) => Err(SkipReason::Downgraded),
                Some((best, seq)) if *seq >= object.seq && !loses_keys(&record, best) => Ok(None),
                _ => Ok(Some(record)),
            }
        });
        match checked {
            Ok(None) => {}
            Ok(Some(record)) => drop(newest.insert(record.id, (record, object.seq))),
            Err(reason) => skipped.push(Skipped { node: claimed.ok(), reason }),
        }
    }
    Ok(newest)
}

/// Whether one of a node's records has onion keys and the other, newer or not, has none.
const fn loses_keys(one: &NodeRecord, other: &NodeRecord) -> bool {
    !one.keys.is_empty() && other.keys.is_empty()
}

fn check_record(object: &RecordObject, seen: &Seen) -> Result<NodeRecord, SkipReason> {
    let record = object.verify()?;
    check_seen(&record, object.seq, seen)?;
    Ok(record)
}

/// Nothing goes back behind what was seen.
fn check_seen(record: &NodeRecord, seq: u64, seen: &Seen) -> Result<(), SkipReason> {
    if let Some(before) = seen.records.get(&record.id) {
        if seq < before.seq {
            return Err(SkipReason::Older { got: seq, seen: before.seq });
        }
        if before.onion && record.keys.is_empty() {
            return Err(SkipReason::Downgraded);
        }
    }
    Ok(())
}

/// One node from its record and, where there is one, its list entry. Kind and operator come from the list; URL,
/// keys, class and expiry from the record, the list's URL and class standing in for missing ones.
pub(super) fn node(
    record: &NodeRecord,
    seq: u64,
    entry: Option<&ListEntry>,
    operator: Option<String>,
    allow_private: bool,
    now: Millis,
) -> Result<Node, SkipReason> {
    let kind: NodeKind = entry.map_or(record.kind, |entry| entry.kind);
    if kind != record.kind {
        return Err(SkipReason::Kind);
    }
    let url = record.url.as_ref().or(entry.and_then(|entry| entry.url.as_ref())).ok_or(SkipReason::NoUrl)?;
    check_url(url, allow_private)?;
    let largest = PacketClass::LARGEST as u8;
    let max_class = record.max_class.or(entry.and_then(|entry| entry.max_class)).unwrap_or(largest);
    let node = Node {
        id: record.id,
        kind,
        operator,
        url: url.clone(),
        keys: record.keys.clone(),
        expires: record.expires,
        max_class: max_class.min(largest),
        seq,
        tunnel: record.tunnel,
    };
    if node.is_current(now) { Ok(node) } else { Err(SkipReason::Expired { expires: node.expires }) }
}
