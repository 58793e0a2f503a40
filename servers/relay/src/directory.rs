//! Whom packets may be forwarded to: the signed list and the records, read again when they change.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use delta_core::identity::{Millis, NodeId};
use delta_core::onion::directory::{
    Directory, DirectoryError, LoadRules, NodeKind, NodeRecord, RecordObject, Seen, SeenRecord, Skipped,
    TrustPolicy,
};
use delta_server_shell::program::chain;
use delta_server_shell::{FileError, NodeFolder};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::connect::Destination;

/// The highest list version and record numbers seen, in the data folder.
const SEEN_FILE: &str = "directory.json";
/// Records of a relay that was given none.
const NO_RECORDS: &str = "[]";

/// The directory files cannot be used.
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
    /// List or records are refused.
    #[error("the directory ({}) is refused", path.display())]
    Refused {
        /// The list's file.
        path: PathBuf,
        /// Why.
        source: DirectoryError,
    },
    /// What was seen cannot be kept.
    #[error(transparent)]
    Data(#[from] FileError),
}

/// One state of the directory.
#[derive(Debug, Default)]
pub struct View {
    destinations: HashMap<NodeId, Arc<Destination>>,
    records: Vec<(NodeId, RecordObject)>,
}

impl View {
    /// Where packets for a node go.
    pub fn destination(&self, node: &NodeId) -> Option<&Arc<Destination>> {
        self.destinations.get(node)
    }

    /// The records in use, as their nodes signed them.
    pub fn records(&self) -> &[(NodeId, RecordObject)] {
        &self.records
    }

    /// How many nodes packets may be forwarded to.
    pub fn len(&self) -> usize {
        self.destinations.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.destinations.is_empty()
    }

    fn new(directory: &Directory, records_json: &str) -> Self {
        let destination = |url: &str, kind| match kind {
            NodeKind::Relay => Destination::new(url, "/hop"),
            NodeKind::Sync => Destination::new(url, "/deliver"),
        };
        let destinations = directory.nodes().iter().filter_map(|node| {
            destination(&node.url, node.kind).map(|destination| (node.id, Arc::new(destination)))
        });
        Self { destinations: destinations.collect(), records: used_records(directory, records_json) }
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

/// The files and what they last held.
#[derive(Debug)]
pub struct Directories {
    list: PathBuf,
    records: Option<PathBuf>,
    trust: TrustPolicy,
    folder: Arc<NodeFolder>,
    view: RwLock<Arc<View>>,
    // What is being read: one at a time.
    read: Mutex<Read>,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Read {
    rules: LoadRules,
    stamps: (Stamp, Stamp),
    expires: Millis,
    warned: bool,
}

impl Directories {
    /// Reads the files; a directory that is refused at the start is an error.
    pub fn open(
        list: PathBuf,
        records: Option<PathBuf>,
        trust: TrustPolicy,
        folder: Arc<NodeFolder>,
        now: Millis,
    ) -> Result<Self, LoadError> {
        let seen = read_seen(&folder)?;
        // Past a list's expiry clients stop; a relay that stopped as well would only lose what is on its way.
        let rules = LoadRules { seen, accept_expired_list: true };
        let read = Read { rules, stamps: (None, None), expires: Millis(u64::MAX), warned: false };
        let this = Self {
            list,
            records,
            trust,
            folder,
            view: RwLock::default(),
            read: Mutex::new(read),
            refused: AtomicU64::new(0),
        };
        this.load(&mut this.lock(), now)?;
        Ok(this)
    }

    /// The directory in use.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many new files were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Reads the files again if they changed, and says whether the directory did. A bad one changes nothing and is
    /// logged.
    pub fn refresh(&self, now: Millis) -> bool {
        let mut read = self.lock();
        if now >= read.expires && !read.warned {
            read.warned = true;
            tracing::warn!(
                "the list has expired: clients refuse it; install a newer one at {}",
                self.list.display()
            );
        }
        if self.stamps() == read.stamps {
            return false;
        }
        match self.load(&mut read, now) {
            Ok(()) => true,
            Err(error) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!("{}; the directory read before stays in use", chain(&error));
                false
            }
        }
    }

    fn load(&self, read: &mut Read, now: Millis) -> Result<(), LoadError> {
        // Taken before reading: what is written meanwhile is read the next time.
        read.stamps = self.stamps();
        let list = read_text(&self.list)?;
        let records = self.records.as_deref().map_or_else(|| Ok(NO_RECORDS.to_owned()), read_text)?;
        let loaded = Directory::load_with(&list, &records, &self.trust, now, &read.rules);
        let (directory, skipped) =
            loaded.map_err(|source| LoadError::Refused { path: self.list.clone(), source })?;
        report(&directory, &skipped);
        directory.remember(&mut read.rules.seen);
        store_seen(&self.folder, &read.rules.seen)?;
        read.expires = Millis(directory.expires().saturating_mul(1000));
        read.warned = false;
        let view = Arc::new(View::new(&directory, &records));
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
        Ok(())
    }

    fn stamps(&self) -> (Stamp, Stamp) {
        (stamp(&self.list), self.records.as_deref().and_then(stamp))
    }

    fn lock(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_text(path: &Path) -> Result<String, LoadError> {
    fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })
}

/// The directory is public: naming its nodes tells nothing about traffic.
fn report(directory: &Directory, skipped: &[Skipped]) {
    for skip in skipped {
        tracing::warn!("{skip}");
    }
    tracing::info!("directory version {}: {} nodes", directory.version(), directory.nodes().len());
    if directory.nodes().is_empty() {
        tracing::warn!("the directory has no usable node: every packet will be dropped");
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
mod tests {
    use delta_core::entropy::SeededEntropy;

    use super::*;

    #[test]
    fn what_was_seen_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = NodeFolder::open(dir.path(), &mut SeededEntropy::new([1; 32])).unwrap();
        assert_eq!(read_seen(&folder).unwrap(), Seen::default());
        let record = SeenRecord { seq: 9, onion: true };
        let seen = Seen { version: 3, records: [(NodeId([7; 32]), record)].into() };
        store_seen(&folder, &seen).unwrap();
        assert_eq!(read_seen(&folder).unwrap(), seen);
        std::fs::write(dir.path().join(SEEN_FILE), r#"{"version": 1, "records": {"x": [1, true]}}"#).unwrap();
        assert!(read_seen(&folder).unwrap_err().to_string().contains(SEEN_FILE));
    }
}
