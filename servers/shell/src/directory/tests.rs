use delta_core::entropy::SeededEntropy;
use delta_core::onion::directory::{ListBody, ListEntry, sign_list};
use delta_core::onion::v3::OnionSecret;
use ed25519_dalek::SigningKey;
use std::sync::atomic::AtomicU32;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::connect::Timeouts;

const NOW: Millis = Millis(1_800_000_000_000);

/// A list of one relay with its record, whose operator signs it.
struct World {
    dir: tempfile::TempDir,
    signer: SigningKey,
    node: SigningKey,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, signer: SigningKey::from_bytes(&[8; 32]), node: SigningKey::from_bytes(&[9; 32]) }
    }

    fn id(&self) -> NodeId {
        NodeId(self.node.verifying_key().to_bytes())
    }

    fn list(&self, version: u64) -> String {
        let (kind, id) = (NodeKind::Relay, self.id());
        let entry = ListEntry { kind, id, operator: None, url: None, max_class: None };
        let body = ListBody { version, expires: 1_900_000_000, nodes: vec![entry] };
        sign_list(std::slice::from_ref(&self.signer), &body)
    }

    fn records(&self, seq: u64, keys: &[OnionKey]) -> String {
        let record = NodeRecord {
            kind: NodeKind::Relay,
            id: self.id(),
            url: Some("https://relay.example".to_owned()),
            keys: keys.to_vec(),
            expires: 1_900_000_000,
            max_class: None,
            operator: None,
            tunnel: false,
        };
        format!("[{}]", RecordObject::sign(&self.node, &record, seq).unwrap().to_json())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        // Another file every time, so that no two writes look alike however coarse the file system's clock is.
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn settings(&self, list: Source, records: Option<Source>) -> DirectorySettings {
        let keys = vec![NodeId(self.signer.verifying_key().to_bytes())];
        let trust = TrustPolicy { keys, threshold: 1, allow_private: false };
        DirectorySettings { list, records, trust, poll: Duration::from_secs(1) }
    }

    async fn open(&self, list: Source, records: Option<Source>) -> Result<Directories, LoadError> {
        let folder = NodeFolder::open(&self.path("data"), &mut SeededEntropy::new([1; 32])).unwrap();
        // The sources are on this machine; what the list may name is not.
        let connector = Connector::new(SystemResolver, true, Timeouts::default()).unwrap();
        Directories::open(self.settings(list, records), Arc::new(folder), connector, NOW).await
    }
}

fn key(kid: u16) -> OnionKey {
    OnionSecret::from_bytes(kid, [kid as u8; 32]).public()
}

/// A web server whose one text can be changed.
struct Web {
    url: String,
    text: Arc<std::sync::Mutex<Option<String>>>,
    asked: Arc<AtomicU32>,
}

impl Web {
    async fn start(text: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/text", listener.local_addr().unwrap());
        let this = Self { url, text: Arc::new(std::sync::Mutex::new(Some(text))), asked: Arc::default() };
        let (text, asked) = (Arc::clone(&this.text), Arc::clone(&this.asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                asked.fetch_add(1, Ordering::Relaxed);
                let text = text.lock().unwrap().clone();
                let answer = text.map(|text| {
                    format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                        text.len()
                    )
                });
                let _ = stream.write_all(answer.unwrap_or_default().as_bytes()).await;
            }
        });
        this
    }

    fn set(&self, text: Option<String>) {
        *self.text.lock().unwrap() = text;
    }

    fn source(&self) -> Source {
        self.url.parse().unwrap()
    }
}

#[tokio::test]
async fn files_are_read_again_when_they_change_and_a_bad_one_is_refused() {
    let world = World::new();
    world.write("list", &world.list(1));
    world.write("records", &world.records(1, &[key(1)]));
    let (list, records) = (Source::File(world.path("list")), Source::File(world.path("records")));
    let directories = world.open(list, Some(records)).await.unwrap();
    assert!(directories.view().names(&world.id(), &key(1)));
    assert!(directories.view().destination(&world.id()).is_some());
    assert!(!directories.refresh(true, NOW).await);

    world.write("records", &world.records(2, &[key(1), key(2)]));
    assert!(directories.refresh(false, NOW).await);
    assert!(directories.view().names(&world.id(), &key(2)));
    assert_eq!(directories.view().records().len(), 1);

    for (refused, bad) in [(1, world.list(0)), (2, "nonsense".to_owned())] {
        world.write("list", &bad);
        assert!(!directories.refresh(false, NOW).await);
        assert_eq!(directories.refused(), refused);
        assert!(directories.view().names(&world.id(), &key(2)), "the old one stays in use");
    }
    assert!(!directories.refresh(false, NOW).await);
    assert_eq!(directories.refused(), 2, "said once");
    // An older record is left out, and so is its node.
    world.write("list", &world.list(2));
    world.write("records", &world.records(1, &[key(1)]));
    assert!(directories.refresh(false, NOW).await);
    assert!(directories.view().node(&world.id()).is_none());
}

#[tokio::test]
async fn urls_are_fetched_when_they_are_due_and_kept_for_the_next_start() {
    let world = World::new();
    let list = Web::start(world.list(1)).await;
    let records = Web::start(world.records(1, &[key(1)])).await;
    let open = || world.open(list.source(), Some(records.source()));
    let directories = open().await.unwrap();
    assert!(directories.view().names(&world.id(), &key(1)));

    records.set(Some(world.records(2, &[key(2)])));
    let asked = records.asked.load(Ordering::Relaxed);
    assert!(!directories.refresh(false, NOW).await);
    assert_eq!(records.asked.load(Ordering::Relaxed), asked, "not due");
    assert!(directories.refresh(true, NOW).await);
    assert!(directories.view().names(&world.id(), &key(2)));

    // Gone, then bad: what was read stays, now and after a restart.
    for text in [None, Some("nonsense".to_owned())] {
        list.set(text);
        assert!(!directories.refresh(true, NOW).await);
        let restarted = open().await.unwrap();
        assert!(restarted.view().names(&world.id(), &key(2)));
        // Back again.
        list.set(Some(world.list(1)));
        restarted.refresh(true, NOW).await;
        assert!(restarted.view().names(&world.id(), &key(2)));
    }
    assert_eq!(directories.refused(), 2);
}

#[tokio::test]
async fn a_start_without_its_records_alone_goes_on_with_the_ones_it_kept() {
    let world = World::new();
    let list = Web::start(world.list(1)).await;
    let records = Web::start(world.records(1, &[key(1)])).await;
    drop(world.open(list.source(), Some(records.source())).await.unwrap());

    list.set(Some(world.list(2)));
    records.set(None);
    let kept = || fs::read_to_string(world.path("data").join(RECORDS_CACHE)).unwrap();
    let restarted = world.open(list.source(), Some(records.source())).await.unwrap();
    // The new list comes as soon as it is fetched again, with the records that were kept.
    for poll in [false, true, false] {
        restarted.refresh(poll, NOW).await;
        assert!(restarted.view().names(&world.id(), &key(1)));
        assert_eq!(kept(), world.records(1, &[key(1)]));
    }
    assert_eq!(restarted.view().directory.version(), 2);
    records.set(Some(world.records(2, &[key(2)])));
    assert!(restarted.refresh(true, NOW).await);
    assert!(restarted.view().names(&world.id(), &key(2)));
}

#[tokio::test]
async fn a_list_in_a_file_is_read_again_after_a_start_from_the_cache() {
    let world = World::new();
    let records = Web::start(world.records(1, &[key(1)])).await;
    let open = || world.open(Source::File(world.path("list")), Some(records.source()));
    world.write("list", &world.list(1));
    drop(open().await.unwrap());
    world.write("list", &world.list(2));
    records.set(None);
    let restarted = open().await.unwrap();
    assert!(restarted.refresh(false, NOW).await);
    assert_eq!(restarted.view().directory.version(), 2);
    assert!(restarted.view().names(&world.id(), &key(1)));
}

#[tokio::test]
async fn a_file_that_could_not_be_read_is_tried_again_and_said_once() {
    let world = World::new();
    world.write("list", &world.list(1));
    let directories = world.open(Source::File(world.path("list")), None).await.unwrap();
    // A folder in its place can be looked at and not read.
    fs::remove_file(world.path("list")).unwrap();
    fs::create_dir(world.path("list")).unwrap();
    for _ in 0..2 {
        assert!(!directories.refresh(false, NOW).await);
        assert_eq!(directories.refused(), 1);
        let text = &directories.read.lock().await.list;
        assert_ne!(text.stamp, Some(stamp(&world.path("list"))), "it was not read");
    }
    fs::remove_dir(world.path("list")).unwrap();
    world.write("list", &world.list(2));
    assert!(directories.refresh(false, NOW).await);
}

#[tokio::test]
async fn a_first_start_without_its_source_fails() {
    let world = World::new();
    let list = Web::start(world.list(1)).await;
    list.set(None);
    assert!(matches!(world.open(list.source(), None).await, Err(LoadError::Fetch { .. })));
    let missing = Source::File(world.path("missing"));
    assert!(matches!(world.open(missing, None).await, Err(LoadError::Read { .. })));
    list.set(Some("nonsense".to_owned()));
    assert!(matches!(world.open(list.source(), None).await, Err(LoadError::Refused { .. })));
}

#[test]
fn what_was_seen_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let folder = NodeFolder::open(dir.path(), &mut SeededEntropy::new([1; 32])).unwrap();
    assert_eq!(read_seen(&folder).unwrap(), Seen::default());
    let record = SeenRecord { seq: 9, onion: true };
    let seen = Seen { version: 3, records: [(NodeId([7; 32]), record)].into() };
    store_seen(&folder, &seen).unwrap();
    assert_eq!(read_seen(&folder).unwrap(), seen);
    fs::write(dir.path().join(SEEN_FILE), r#"{"version": 1, "records": {"x": [1, true]}}"#).unwrap();
    assert!(read_seen(&folder).unwrap_err().to_string().contains(SEEN_FILE));
}
