//! `delta directory refresh`: asks every node of a list for its record of today and writes them all to one file.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clap::Args;
use delta_core::identity::NodeId;
use delta_core::onion::directory::{
    Directory, ListBody, ListEntry, MAX_DIRECTORY_BYTES, NodeKind, RecordObject, SignedList, check_url,
};
use delta_server_shell::connect::{Connector, SystemResolver, Timeouts};
use delta_server_shell::directory::Source;
use delta_server_shell::fetch::fetch;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::no_proxy::NoProxy;
use crate::output::Output;
use crate::platform;

const EXAMPLES: &str = "\
A node that cannot be asked keeps the record it has in the file, as long as that is valid. The file is replaced as a
whole, so relays and web servers may read it at any time. The command fails, after writing the file, when a node is
left without a record, and writes nothing when all are. Run it a few times a day. Nodes are asked directly: no proxy is
used.

Examples:
  delta directory refresh --directory list.json --trust KEY --records records.json
  delta directory refresh --directory https://relays.example/list.json --trust KEY1,KEY2 --records records.json";

/// Largest answer of a node.
const MAX_ANSWER: usize = 64 * 1024;
/// Nodes asked at the same time.
const AT_ONCE: usize = 32;

/// How to collect.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct RefreshOptions {
    /// The signed list, a file or a URL.
    #[arg(long, value_name = "FILE|URL")]
    directory: Source,
    /// The records file to write; what it holds already stands in for nodes that cannot be asked.
    #[arg(long, value_name = "FILE")]
    records: PathBuf,
    /// Keys trusted to sign the list (64 hex digits each).
    #[arg(long, value_name = "KEY", value_delimiter = ',', required = true)]
    trust: Vec<NodeId>,
    /// How many of the trusted keys must have signed; all of them when missing.
    #[arg(long, value_name = "N")]
    threshold: Option<usize>,
    /// Permit http and addresses that are not public.
    #[arg(long)]
    allow_private: bool,
    #[command(flatten)]
    proxy: NoProxy,
    #[cfg(feature = "dht")]
    #[command(flatten)]
    dht: delta_relay::dht::DhtOptions,
}

/// Where nodes are looked up that cannot be asked where they were.
#[derive(Clone)]
struct Lookup {
    #[cfg(feature = "dht")]
    dht: Option<delta_directory_dht::Dht>,
}

impl Lookup {
    fn new(options: &RefreshOptions) -> anyhow::Result<Self> {
        #[cfg(feature = "dht")]
        return Ok(Self { dht: options.dht.join()? });
        #[cfg(not(feature = "dht"))]
        {
            let _ = options;
            Ok(Self {})
        }
    }

    /// Where the node says that it is now. Only the place: what it says of its keys it is asked itself.
    async fn url(&self, node: NodeId) -> Option<String> {
        #[cfg(feature = "dht")]
        if let Some(dht) = &self.dht {
            return dht.resolve(node).await.ok()?.record().url.clone();
        }
        let _ = node;
        None
    }
}

/// Whom to ask: a node of the list, and where.
struct Asked {
    entry: ListEntry,
    urls: Vec<String>,
    old: Option<RecordObject>,
}

/// Collects the records.
pub fn run(options: &RefreshOptions, output: &Output) -> anyhow::Result<()> {
    options.proxy.refuse("nodes are asked")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (records, problems) = runtime.block_on(collect(options))?;
    let values: Vec<Value> = records.iter().flatten().map(RecordObject::to_value).collect();
    let (found, all) = (values.len(), records.len());
    // Whoever reads no record at all has no node left: better what the file holds.
    ensure!(found > 0 || all == 0, "no node has a valid record, nothing is written; {}", problems.join("; "));
    super::write_text(&options.records, &Value::from(values).to_string())?;
    ensure!(found == all, "{} of {all} nodes have no valid record; {}", all - found, problems.join("; "));
    if output.is_json() {
        output.value(&json!({ "nodes": all, "records": found, "problems": problems }))?;
    } else {
        problems.iter().for_each(|problem| output.note(problem));
        output.line(&format!("{found} of {all} nodes: {}", options.records.display()))?;
    }
    Ok(())
}

/// One record for every node of the list, where there is one; and what went wrong.
async fn collect(options: &RefreshOptions) -> anyhow::Result<(Vec<Option<RecordObject>>, Vec<String>)> {
    let connector = Connector::new(SystemResolver, options.allow_private, Timeouts::default())?;
    let list = match &options.directory {
        Source::File(path) => super::read_text(path)?,
        Source::Url(url) => {
            check_url(url, options.allow_private).with_context(|| url.clone())?;
            fetch(&connector, url, MAX_DIRECTORY_BYTES).await.with_context(|| url.clone())?
        }
    };
    let body = trusted_list(&list, options)?;
    let mut problems = Vec::new();
    let old = match options.records.exists() {
        true => super::read_records(std::slice::from_ref(&options.records)).unwrap_or_else(|error| {
            // Nothing that asking the nodes does not mend.
            problems.push(format!("what was in the file counts as nothing: {error:#}"));
            Vec::new()
        }),
        false => Vec::new(),
    };
    let mut asking = JoinSet::new();
    let (connector, at_once) = (Arc::new(connector), Arc::new(Semaphore::new(AT_ONCE)));
    let lookup = Lookup::new(options)?;
    let count = body.nodes.len();
    for (place, entry) in body.nodes.into_iter().enumerate() {
        let asked = Asked::new(entry, &old, options.allow_private);
        let (connector, at_once, allow_private) =
            (Arc::clone(&connector), Arc::clone(&at_once), options.allow_private);
        let lookup = lookup.clone();
        asking.spawn(async move {
            let _permit = at_once.acquire().await;
            (place, asked.ask(&connector, &lookup, allow_private).await)
        });
    }
    let mut records = vec![None; count];
    while let Some(answer) = asking.join_next().await {
        let (place, (record, problem)) = answer?;
        if let Some(slot) = records.get_mut(place) {
            *slot = record;
        }
        problems.extend(problem);
    }
    problems.sort();
    Ok((records, problems))
}

fn trusted_list(text: &str, options: &RefreshOptions) -> anyhow::Result<ListBody> {
    let trust = super::trust(&options.trust, options.threshold, options.allow_private);
    // All checks of the list; its nodes' records are what is to be collected.
    Directory::load(text, "[]", &trust, platform::now())?;
    let list = SignedList::parse(text)?;
    let body = std::str::from_utf8(&list.signed).context("the signed bytes are not text")?;
    Ok(ListBody::from_json(body)?)
}

impl Asked {
    fn new(entry: ListEntry, old: &[RecordObject], allow_private: bool) -> Self {
        let of_node = |object: &&RecordObject| object.verify().is_ok_and(|record| record.id == entry.id);
        let old = old.iter().filter(of_node).max_by_key(|object| object.seq).cloned();
        let known = old.as_ref().and_then(|object| object.verify().ok()?.url);
        let mut urls: Vec<String> = known.into_iter().chain(entry.url.clone()).collect();
        urls.dedup();
        urls.retain(|url| check_url(url, allow_private).is_ok());
        Self { entry, urls, old }
    }

    /// The newest valid record, and what went wrong on the way.
    async fn ask(
        self,
        connector: &Connector<SystemResolver>,
        lookup: &Lookup,
        allow_private: bool,
    ) -> (Option<RecordObject>, Option<String>) {
        let mut problem = "no permitted URL is known".to_owned();
        for url in &self.urls {
            match self.ask_at(connector, url, allow_private).await {
                Ok(record) => return (Some(record), None),
                Err(error) => problem = format!("{url}: {error:#}"),
            }
        }
        if let Some(url) = lookup.url(self.entry.id).await
            && !self.urls.contains(&url)
            && check_url(&url, allow_private).is_ok()
        {
            match self.ask_at(connector, &url, allow_private).await {
                Ok(record) => return (Some(record), None),
                Err(error) => problem = format!("{url} (from the DHT): {error:#}"),
            }
        }
        let old = self.old.filter(is_current);
        let kept = if old.is_some() { " (its last record is kept)" } else { "" };
        let Self { entry: ListEntry { kind, id, .. }, .. } = self;
        (old, Some(format!("{} {id}: {problem}{kept}", kind.as_str())))
    }

    async fn ask_at(
        &self,
        connector: &Connector<SystemResolver>,
        url: &str,
        allow_private: bool,
    ) -> anyhow::Result<RecordObject> {
        let object = match self.entry.kind {
            NodeKind::Relay => {
                RecordObject::parse(&fetch(connector, &format!("{url}/key"), MAX_ANSWER).await?)?
            }
            NodeKind::Sync => {
                let mut info: Value =
                    serde_json::from_str(&fetch(connector, &format!("{url}/info"), MAX_ANSWER).await?)?;
                RecordObject::from_value(info["record"].take())?
            }
        };
        let record = object.verify()?;
        ensure!(record.id == self.entry.id, "it answers with the record of node {}", record.id);
        ensure!(record.kind == self.entry.kind, "its record says t={}", record.kind.as_str());
        ensure!(is_current(&object), "its record has expired");
        if let Some(old) = &self.old {
            ensure!(object.seq >= old.seq, "its record is older than the one in the file");
            if record.keys.is_empty() && old.verify().is_ok_and(|old| !old.keys.is_empty()) {
                bail!("its record has lost its onion key");
            }
        }
        if let Some(url) = &record.url {
            check_url(url, allow_private)?;
        }
        Ok(object)
    }
}

fn is_current(object: &RecordObject) -> bool {
    object.verify().is_ok_and(|record| record.expires > platform::now().0 / 1000)
}
