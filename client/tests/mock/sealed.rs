//! Secrets at rest: sealed with a key from the keystore, through suspend, restart, export and import.

use std::path::Path;
use std::sync::Arc;

use delta_client::{Client, Config, DATABASE_ITEM, Fault, KeyStore, export_database};
use delta_core::ops::Ticket;
use delta_core::store::{Durability, Store, StoreOptions};

use crate::device::{message, ticket};
use crate::pairing::Memory;

fn with(database: &Path, keystore: &Arc<Memory>) -> Config {
    Config::with_keystore(database, Arc::clone(keystore) as Arc<dyn KeyStore>)
}

/// Whether a file of the database shows the end of a ticket, which is the topic's secret.
fn shows(database: &Path, ticket: &Ticket) -> bool {
    let text = ticket.to_string();
    let end = &text.as_bytes()[text.len() - 40..];
    ["", "-wal", "-shm", ".lock"].iter().any(|suffix| {
        let mut file = database.as_os_str().to_owned();
        file.push(suffix);
        let bytes = std::fs::read(file).unwrap_or_default();
        bytes.windows(end.len()).any(|window| window == end)
    })
}

#[tokio::test]
async fn secrets_that_are_sealed_open_again_after_a_resume_and_stand_nowhere_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("device.db");
    let keystore = Arc::new(Memory::default());
    let config = || with(&database, &keystore);
    let client = Client::open(config()).await.unwrap();
    let ticket = ticket(1);
    let topic = client.open_topic(&ticket).await.unwrap();
    client.suspend().await.unwrap();
    client.resume().await.unwrap();
    client.publish(topic, message("one")).await.unwrap();
    let topics = client.read(|reader| reader.topics()).await.unwrap();
    assert_eq!(topics[0].ticket.to_string(), ticket.to_string());
    client.close().await.unwrap();
    assert!(!shows(&database, &ticket));
    // Without the keystore it opens for nobody; with it, it does.
    for other in
        [Config::new(&database, [1; 32]), Config::with_keystore(&database, Arc::new(Memory::default()))]
    {
        assert_eq!(Client::open(other).await.unwrap_err().code(), "database_sealed");
    }
    let client = Client::open(config()).await.unwrap();
    assert!(!client.renewed());
    assert_eq!(client.topic_of(ticket.log()).await.unwrap(), topic);
    client.close().await.unwrap();
}

#[tokio::test]
async fn a_database_from_before_is_sealed_when_it_is_opened_with_a_keystore() {
    let folder = tempfile::tempdir().unwrap();
    let (database, ticket) = (folder.path().join("device.db"), ticket(1));
    let client = Client::open(Config::new(&database, [1; 32])).await.unwrap();
    let topic = client.open_topic(&ticket).await.unwrap();
    client.publish(topic, message("one")).await.unwrap();
    client.close().await.unwrap();
    assert!(shows(&database, &ticket), "the search finds what is there");
    let keystore = Arc::new(Memory::default());
    // It has a key of its own, which is in no keystore: nothing is changed, and nothing made.
    let refused = Client::open(with(&database, &keystore)).await.unwrap_err();
    assert_eq!((refused.code(), refused.fault()), ("database_other_device", Fault::Device));
    assert!(shows(&database, &ticket) && keystore.get(DATABASE_ITEM).unwrap().is_none());
    // Versions before did not say whose a database is.
    let mut store = Store::open(&database, StoreOptions::default()).unwrap();
    let tx = store.begin(Durability::Full).unwrap();
    tx.forget_owner().unwrap();
    tx.commit().unwrap();
    store.close().unwrap();
    // Killed in between: the key is in the keystore and nothing is sealed yet.
    let key = [&[1][..], &[0x5e; 32]].concat();
    keystore.put(DATABASE_ITEM, &key).unwrap();
    for _ in 0..2 {
        let client = Client::open(with(&database, &keystore)).await.unwrap();
        assert!(!shows(&database, &ticket));
        assert_eq!(client.topic_of(ticket.log()).await.unwrap(), topic);
        assert_eq!(client.statistics().await.unwrap().operations, 1, "what was said is there");
        client.close().await.unwrap();
        assert!(!shows(&database, &ticket));
    }
    assert_eq!(keystore.get(DATABASE_ITEM).unwrap().unwrap()[..], key);
}

#[tokio::test]
async fn a_database_opens_for_its_own_device_and_for_another_by_an_export() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let client = Client::open(Config::new(path("old.db"), [1; 32])).await.unwrap();
    let author = client.author();
    let topic = client.open_topic(&ticket(1)).await.unwrap();
    let waits = client.publish(topic, message("one")).await.unwrap();
    client.close().await.unwrap();
    let refused = Client::open(Config::new(path("old.db"), [2; 32])).await.unwrap_err();
    assert_eq!((refused.code(), refused.fault()), ("database_other_device", Fault::Device));
    let said = refused.to_string();
    assert!(
        ["old.db", &author.to_string(), "its own key", "an export"].iter().all(|it| said.contains(it)),
        "{said}"
    );
    // Its own device finds everything as it was.
    let client = Client::open(Config::new(path("old.db"), [1; 32])).await.unwrap();
    assert_eq!(client.outbox(topic, None, 10).await.unwrap()[0].operation, waits);
    client.export(path("export"), "pass", None).await.unwrap();
    client.close().await.unwrap();
    let copy = Client::import(Config::new(path("new.db"), [2; 32]), path("export"), "pass").await.unwrap();
    assert_ne!(copy.author(), author);
    assert_eq!(copy.statistics().await.unwrap().operations, 1);
    copy.close().await.unwrap();
    let refused = Client::open(Config::new(path("new.db"), [1; 32])).await.unwrap_err();
    assert_eq!(refused.code(), "database_other_device");
}

#[tokio::test]
async fn an_export_goes_from_one_keystore_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (old, ticket) = (path("old.db"), ticket(1));
    let (one, two) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    let client = Client::open(with(&old, &one)).await.unwrap();
    let topic = client.open_topic(&ticket).await.unwrap();
    client.export(path("running"), "pass", None).await.unwrap();
    client.close().await.unwrap();
    // With nobody's client open, the keystore is needed.
    for keystore in [None, Some(two.as_ref() as &dyn KeyStore)] {
        let refused = export_database(&old, path("closed"), "pass", keystore, None).unwrap_err();
        assert_eq!(refused.code(), "database_sealed");
    }
    export_database(&old, path("closed"), "pass", Some(one.as_ref()), None).unwrap();
    assert!(!shows(&old, &ticket));
    for export in ["running", "closed"] {
        let new = path(&format!("{export}.db"));
        let client = Client::import(with(&new, &two), path(export), "pass").await.unwrap();
        assert_eq!(client.topic_of(ticket.log()).await.unwrap(), topic);
        client.close().await.unwrap();
        assert!(!shows(&new, &ticket), "{export}");
        assert_eq!(Client::open(with(&new, &one)).await.unwrap_err().code(), "database_sealed");
        let client = Client::open(with(&new, &two)).await.unwrap();
        assert_eq!(client.topic_of(ticket.log()).await.unwrap(), topic);
        client.close().await.unwrap();
    }
    // Nothing lies about that was not asked for.
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    left.retain(|name| !name.to_string_lossy().contains(".db"));
    left.sort();
    assert_eq!(left, ["closed", "running"]);
}

#[tokio::test]
async fn after_a_wipe_the_keystore_is_empty_and_a_new_database_opens() {
    let folder = tempfile::tempdir().unwrap();
    let (database, keystore) = (folder.path().join("device.db"), Arc::new(Memory::default()));
    let client = Client::open(with(&database, &keystore)).await.unwrap();
    let topic = client.open_topic(&ticket(1)).await.unwrap();
    let before = keystore.get(DATABASE_ITEM).unwrap().unwrap();
    client.wipe().await.unwrap();
    assert_eq!(keystore.get(DATABASE_ITEM).unwrap(), None);
    let client = Client::open(with(&database, &keystore)).await.unwrap();
    assert_eq!(client.status(topic).await.unwrap_err().code(), "unknown_topic");
    assert_ne!(keystore.get(DATABASE_ITEM).unwrap().unwrap(), before);
    client.close().await.unwrap();
}
