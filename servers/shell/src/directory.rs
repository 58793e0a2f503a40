//! Which nodes there are: the signed list and the records, from files or URLs, read again when they change.
//!
//! A new list or set of records is checked as a whole; a bad one is refused, loudly, and what was read before stays in
//! use. What came from a URL is kept in the data folder, so that a node starts without its source.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use delta_core::identity::{Millis, NodeId};
use delta_core::onion::directory::{
    Directory, DirectoryError, LoadRules, MAX_DIRECTORY_BYTES, Node, NodeKind, NodeRecord, RecordObject,
    Seen, SeenRecord, Skipped, TrustPolicy,
};
use delta_core::onion::v3::OnionKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Mutex;

use crate::connect::{Connector, Destination, SystemResolver};
use crate::fetch::{FetchError, fetch};
use crate::file::{self, FileError};
use crate::folder::NodeFolder;
use crate::platform;
use crate::program::chain;

/// The highest list version and record numbers seen, in the data folder.
const SEEN_FILE: &str = "directory.json";
/// The last list that was taken from a URL, in the data folder.
const LIST_CACHE: &str = "list.json";
/// The records that were taken with it.
const RECORDS_CACHE: &str = "records.json";
/// Records of a node that was given none.
const NO_RECORDS: &str = "[]";
/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where a text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, read again when it changes.
    File(PathBuf),
    /// A URL, fetched again at intervals.
    Url(String),
}

impl FromStr for Source {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let is_url = text.starts_with("https://") || text.starts_with("http://");
        Ok(if is_url { Self::Url(text.to_owned()) } else { Self::File(text.into()) })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

/// Where the directory comes from, and who vouches for it.
#[derive(Clone, Debug)]
pub struct DirectorySettings {
    /// The signed list.
    pub list: Source,
    /// The nodes' records.
    pub records: Option<Source>,
    /// Who signs the list.
    pub trust: TrustPolicy,
    /// How often URLs are fetched.
    pub poll: Duration,
}

impl DirectorySettings {
    /// Whether a next onion key of `me` has reached those who need it: whether the records that are read here name it.
    /// Without records there is nobody to ask, and every key counts as known.
    pub fn knows_key(
        &self,
        directories: &Arc<Directories>,
        me: NodeId,
    ) -> impl Fn(&OnionKey) -> bool + Clone + Send + use<> {
        let (directories, ask) = (Arc::clone(directories), self.records.is_some());
        move |key| !ask || directories.view().names(&me, key)
    }
}

/// The directory cannot be used.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A URL cannot be fetched.
    #[error("cannot fetch {url}")]
    Fetch {
        /// Which.
        url: String,
        /// Why.
        source: FetchError,
    },
    /// List or records are refused.
    #[error("the directory ({list}) is refused")]
    Refused {
        /// Where the list comes from.
        list: Source,
        /// Why.
        source: DirectoryError,
    },
    /// What was seen cannot be kept.
    #[error(transparent)]
    Data(#[from] FileError),
    /// The check was cut off: the server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// One state of the directory.
#[derive(Debug)]
pub struct View {
    directory: Directory,
    destinations: HashMap<NodeId, Arc<Destination>>,
    records: Vec<(NodeId, RecordObject)>,
}

impl View {
    /// A node that can be used.
    pub fn node(&self, node: &NodeId) -> Option<&Node> {
        self.directory.node(node)
    }

    /// All of them.
    pub fn nodes(&self) -> &[Node] {
        self.directory.nodes()
    }

    /// Where packets for a node go.
    pub fn destination(&self, node: &NodeId) -> Option<&Arc<Destination>> {
        self.destinations.get(node)
    }

    /// The records in use, as their nodes signed them.
    pub fn records(&self) -> &[(NodeId, RecordObject)] {
        &self.records
    }

    /// Whether the records in use name this key of the node.
    pub fn names(&self, node: &NodeId, key: &OnionKey) -> bool {
        self.node(node).is_some_and(|node| node.keys.contains(key))
    }

    fn new(directory: Directory, records_json: &str) -> Self {
        let destination = |url: &str, kind| match kind {
            NodeKind::Relay => Destination::new(url, "/hop"),
            NodeKind::Sync => Destination::new(url, "/deliver"),
        };
        let destinations = directory.nodes().iter().filter_map(|node| {
            destination(&node.url, node.kind).map(|destination| (node.id, Arc::new(destination)))
        });
        let destinations = destinations.collect();
        let records = used_records(&directory, records_json);
        Self { directory, destinations, records }
    }
}

impl Default for View {
    fn default() -> Self {
        Self::new(Directory::from_nodes(0, 0, []), NO_RECORDS)
    }
}

/// The objects of the records text that the directory was joined from.
fn used_records(directory: &Directory, records_json: &str) -> Vec<(NodeId, RecordObject)> {
    let values: Vec<serde_json::Value> = serde_json::from_str(records_json).unwrap_or_default();
    let mut found = HashMap::new();
    for object in values.into_iter().filter_map(|value| RecordObject::from_value(value).ok()) {
        let Ok(record) = object.record.parse::<NodeRecord>() else { continue };
        let newest = directory.node(&record.id).is_some_and(|node| node.seq == object.seq);
        if newest && !found.contains_key(&record.id) && object.verify().is_ok() {
            found.insert(record.id, object);
        }
    }
    let mut records: Vec<_> = found.into_iter().collect();
    records.sort_by_key(|(id, _)| *id);
    records
}

/// When a file was written last, how long it is, and which file it is: differs when there is something new.
type Stamp = Option<(i64, i64, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec(), metadata.len(), metadata.ino()))
}

/// The sources and what they last held.
#[derive(Debug)]
pub struct Directories {
    settings: DirectorySettings,
    folder: Arc<NodeFolder>,
    connector: Connector<SystemResolver>,
    view: RwLock<Arc<View>>,
    // What is being read: one at a time.
    read: Mutex<Read>,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Read {
    rules: LoadRules,
    list: Text,
    records: Text,
    // Something was read that was not looked at as a whole yet.
    fresh: bool,
    expires: Millis,
    warned: bool,
    // The failure that was logged last: one that stays is not said at every look.
    told: Option<String>,
}

/// A source and what it last held, good or bad.
#[derive(Debug)]
struct Text {
    source: Option<Source>,
    // `None`: never read.
    stamp: Option<Stamp>,
    // `None`: never had.
    text: Option<String>,
}

impl Text {
    const fn new(source: Option<Source>) -> Self {
        Self { source, stamp: None, text: None }
    }

    /// Puts `text` in place of what the source holds; a file is read again at the next look.
    fn stand_in(&mut self, text: String) {
        self.stamp = None;
        self.text = Some(text);
    }

    /// Whether the source holds something else than before. URLs are asked only when `poll` says so.
    async fn look(&mut self, connector: &Connector<SystemResolver>, poll: bool) -> Result<bool, LoadError> {
        let text = match &self.source {
            Some(Source::File(path)) => {
                // Taken before reading: what is written meanwhile is read the next time.
                let stamp = stamp(path);
                if self.stamp == Some(stamp) {
                    return Ok(false);
                }
                let text = fs::read_to_string(path);
                // What is there and could not be read is tried again; what is not there has another stamp later.
                if text.is_ok() || stamp.is_none() {
                    self.stamp = Some(stamp);
                }
                text.map_err(|source| LoadError::Read { path: path.clone(), source })?
            }
            Some(Source::Url(url)) if poll => fetch(connector, url, MAX_DIRECTORY_BYTES)
                .await
                .map_err(|source| LoadError::Fetch { url: url.clone(), source })?,
            _ => return Ok(false),
        };
        let other = self.text.as_ref() != Some(&text);
        self.text = Some(text);
        Ok(other)
    }
}

impl Directories {
    /// Reads the sources. When they cannot be had from their URLs, or are refused, what was last taken from there
    /// stands in; without that it is an error.
    pub async fn open(
        settings: DirectorySettings,
        folder: Arc<NodeFolder>,
        connector: Connector<SystemResolver>,
        now: Millis,
    ) -> Result<Self, LoadError> {
        let seen = read_seen(&folder)?;
        // Past a list's expiry clients stop; a relay that stopped as well would only lose what is on its way.
        let rules = LoadRules { seen, accept_expired_list: true };
        let list = Text::new(Some(settings.list.clone()));
        let mut records = Text::new(settings.records.clone());
        if settings.records.is_none() {
            records.stand_in(NO_RECORDS.to_owned());
        }
        let expires = Millis(u64::MAX);
        let read = Read { rules, list, records, fresh: true, expires, warned: false, told: None };
        let this = Self {
            settings,
            folder,
            connector,
            view: RwLock::default(),
            read: Mutex::new(read),
            refused: AtomicU64::new(0),
        };
        let mut read = this.read.lock().await;
        if let Err(error) = this.look(&mut read, true, now).await {
            if !this.load_cache(&mut read, now).await? {
                return Err(error);
            }
            tracing::warn!("{}; the directory kept from last time is used", chain(&error));
        }
        drop(read);
        Ok(this)
    }

    /// The directory in use.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often something new was refused or could not be had.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Looks at the sources for ever; calls `changed` when the directory did.
    pub async fn watch(self: Arc<Self>, changed: impl Fn()) {
        let mut since_poll = Duration::ZERO;
        loop {
            tokio::time::sleep(LOOK).await;
            since_poll += LOOK;
            let poll = since_poll >= self.settings.poll;
            if poll {
                since_poll = Duration::ZERO;
            }
            if self.refresh(poll, platform::now()).await {
                changed();
            }
        }
    }

    /// Reads the sources again if they changed, and says whether the directory did. A bad one changes nothing and is
    /// logged.
    async fn refresh(&self, poll: bool, now: Millis) -> bool {
        let mut read = self.read.lock().await;
        if now >= read.expires && !read.warned {
            read.warned = true;
            tracing::warn!(
                "the list has expired: clients refuse it; a newer one is needed at {}",
                self.settings.list
            );
        }
        match self.look(&mut read, poll, now).await {
            Ok(changed) => {
                read.told = None;
                changed
            }
            Err(error) => {
                let error = chain(&error).to_string();
                if poll || read.told.as_ref() != Some(&error) {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::error!("{error}; the directory read before stays in use");
                }
                read.told = Some(error);
                false
            }
        }
    }

    async fn look(&self, read: &mut Read, poll: bool, now: Millis) -> Result<bool, LoadError> {
        read.fresh |= read.list.look(&self.connector, poll).await?;
        read.fresh |= read.records.look(&self.connector, poll).await?;
        // Half a directory is none: the list without its records has no node.
        let (Some(list), Some(records)) = (read.list.text.clone(), read.records.text.clone()) else {
            return Ok(false);
        };
        if !std::mem::take(&mut read.fresh) {
            return Ok(false);
        }
        self.load(read, list.clone(), records.clone(), now).await?;
        if [Some(&self.settings.list), self.settings.records.as_ref()]
            .into_iter()
            .flatten()
            .any(|source| matches!(source, Source::Url(_)))
        {
            for (name, text) in [(LIST_CACHE, list), (RECORDS_CACHE, records)] {
                file::replace(&self.folder.path().join(name), text.as_bytes(), file::PUBLIC)?;
            }
        }
        Ok(true)
    }

    /// What was taken last time, if there is anything.
    async fn load_cache(&self, read: &mut Read, now: Millis) -> Result<bool, LoadError> {
        let text = |name| {
            let bytes = file::read(&self.folder.path().join(name))?;
            Ok::<_, FileError>(bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()))
        };
        let is_url = |source: &Source| matches!(source, Source::Url(_));
        if !is_url(&self.settings.list) && !self.settings.records.as_ref().is_some_and(is_url) {
            return Ok(false);
        }
        let (Some(list), Some(records)) = (text(LIST_CACHE)?, text(RECORDS_CACHE)?) else { return Ok(false) };
        self.load(read, list.clone(), records.clone(), now).await?;
        // What one source has given is looked at with what the cache has of the other, never alone.
        read.list.stand_in(list);
        if self.settings.records.is_some() {
            read.records.stand_in(records);
        }
        read.fresh = false;
        Ok(true)
    }

    async fn load(
        &self,
        read: &mut Read,
        list: String,
        records: String,
        now: Millis,
    ) -> Result<(), LoadError> {
        let (trust, rules) = (self.settings.trust.clone(), read.rules.clone());
        // Up to thousands of signatures are checked: not on a thread that serves.
        let loading = tokio::task::spawn_blocking(move || {
            let (directory, skipped) = Directory::load_with(&list, &records, &trust, now, &rules)?;
            report(&directory, &skipped);
            Ok::<_, DirectoryError>(View::new(directory, &records))
        });
        let view = loading.await.map_err(|_| LoadError::Stopping)?;
        let view = view.map_err(|source| LoadError::Refused { list: self.settings.list.clone(), source })?;
        view.directory.remember(&mut read.rules.seen);
        store_seen(&self.folder, &read.rules.seen)?;
        read.expires = Millis(view.directory.expires().saturating_mul(1000));
        read.warned = false;
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        Ok(())
    }
}

/// The directory is public: naming its nodes tells nothing about traffic.
fn report(directory: &Directory, skipped: &[Skipped]) {
    for skip in skipped {
        tracing::warn!("{skip}");
    }
    tracing::info!("directory version {}: {} nodes", directory.version(), directory.nodes().len());
    if directory.nodes().is_empty() {
        tracing::warn!("the directory has no usable node");
    }
}

/// What was seen of the directory, as the file holds it.
#[derive(Default, Serialize, Deserialize)]
struct StoredSeen {
    version: u64,
    records: BTreeMap<String, (u64, bool)>,
}

fn read_seen(folder: &NodeFolder) -> Result<Seen, FileError> {
    let stored: StoredSeen = folder.read_json(SEEN_FILE)?;
    let record = |(id, (seq, onion)): (String, (u64, bool))| match id.parse() {
        Ok(id) => Ok((id, SeenRecord { seq, onion })),
        Err(_) => Err(FileError::damaged(&folder.path().join(SEEN_FILE), format!("`{id}` is no node id"))),
    };
    let records = stored.records.into_iter().map(record).collect::<Result<_, _>>()?;
    Ok(Seen { version: stored.version, records })
}

fn store_seen(folder: &NodeFolder, seen: &Seen) -> Result<(), FileError> {
    let record = |(id, seen): (&NodeId, &SeenRecord)| (id.to_string(), (seen.seq, seen.onion));
    let records = seen.records.iter().map(record).collect();
    folder.write_json(SEEN_FILE, &StoredSeen { version: seen.version, records })
}

#[cfg(test)]
mod tests;
