//! Databases and keystores that were copied, restored, emptied, or cut off between the two writes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use delta_core::engine::ingest::publish_local;
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{Author, EnvelopeHash, OperationId};
use delta_core::ops::{Body, Content, Ticket, create};
use delta_core::store::{NewOutboxRow, Origin, StoreOptions};

use super::*;

/// A keystore in memory that fails when it is told to.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    items: Mutex<HashMap<String, Vec<u8>>>,
    denies_get: Mutex<bool>,
    denies_put: Mutex<bool>,
}

impl KeyStore for Memory {
    fn get(&self, item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyStoreError> {
        if *self.denies_get.lock().unwrap() {
            return Err(KeyStoreError::Denied);
        }
        Ok(self.items.lock().unwrap().get(item).cloned().map(Zeroizing::new))
    }

    fn put(&self, item: &str, value: &[u8]) -> Result<(), KeyStoreError> {
        if *self.denies_put.lock().unwrap() {
            return Err(KeyStoreError::Denied);
        }
        self.items.lock().unwrap().insert(item.to_owned(), value.to_vec());
        Ok(())
    }

    fn delete(&self, item: &str) -> Result<(), KeyStoreError> {
        self.items.lock().unwrap().remove(item);
        Ok(())
    }
}

fn open(path: &Path, keystore: &Memory, seed: u8) -> Result<(Author, bool), ClientError> {
    let mut store = Store::open(path, StoreOptions::default())?;
    let mut entropy = SeededEntropy::new([seed; 32]);
    let device = open_device(&mut store, keystore, Millis(1_000), &mut entropy)?;
    store.close()?;
    Ok((device.key.author(), device.renewed))
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

#[test]
fn an_ordinary_database_keeps_its_key() {
    let (dir, keystore) = (tempfile::tempdir().unwrap(), Memory::default());
    let path = dir.path().join("device.db");
    let (first, renewed) = open(&path, &keystore, 1).unwrap();
    assert!(!renewed);
    for seed in 2..6 {
        assert_eq!(open(&path, &keystore, seed).unwrap(), (first, false));
    }
}

#[test]
fn a_backup_that_is_put_back_gets_a_new_key_and_keeps_that() {
    let (dir, keystore) = (tempfile::tempdir().unwrap(), Memory::default());
    let (path, backup) = (dir.path().join("device.db"), dir.path().join("backup.db"));
    let (first, _) = open(&path, &keystore, 1).unwrap();
    copy(&path, &backup);
    assert_eq!(open(&path, &keystore, 2).unwrap(), (first, false));
    for leftover in ["device.db-wal", "device.db-shm", "device.db.lock"] {
        let _ = std::fs::remove_file(dir.path().join(leftover));
    }
    copy(&backup, &path);
    let (second, renewed) = open(&path, &keystore, 3).unwrap();
    assert!(renewed && second != first);
    assert_eq!(open(&path, &keystore, 4).unwrap(), (second, false));
}

#[test]
fn a_copy_on_another_device_gets_a_key_of_its_own_and_the_original_keeps_its() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copied) = (dir.path().join("device.db"), dir.path().join("copied.db"));
    let (here, there) = (Memory::default(), Memory::default());
    let (first, _) = open(&path, &here, 1).unwrap();
    copy(&path, &copied);
    let (second, renewed) = open(&copied, &there, 2).unwrap();
    assert!(renewed && second != first);
    // A device that had a database of its own before.
    copy(&path, &dir.path().join("again.db"));
    let (third, renewed) = open(&dir.path().join("again.db"), &there, 3).unwrap();
    assert!(renewed && third != first && third != second);
    assert_eq!(open(&path, &here, 4).unwrap(), (first, false));
}

/// Queues an operation as its device does; `tries`: packets that held it.
fn queue(
    path: &Path,
    key: &DeviceKey,
    seq_num: u32,
    backlink: Option<OperationId>,
    tries: u32,
) -> OperationId {
    let mut store = Store::open(path, StoreOptions::default()).unwrap();
    let ticket = Ticket::generate_private(&mut SeededEntropy::new([6; 32])).unwrap();
    let content =
        Content::MessageSend { text: "waits".into(), reply: None, mentions: vec![], attachments: Vec::new() };
    let operation = create(key, ticket.log(), seq_num, backlink, &Body::new(content)).unwrap();
    let keys = ticket.keys();
    let envelope = keys.seal(operation.header(), operation.body_bytes()).unwrap();
    let tx = store.begin(Durability::Full).unwrap();
    tx.put_topic(&ticket, Millis(1)).unwrap();
    publish_local(&tx, ticket.topic(), &operation, Millis(1)).unwrap();
    let row = tx
        .outbox_push(&NewOutboxRow {
            topic: ticket.topic(),
            operation: operation.id(),
            hash: EnvelopeHash::of(&envelope),
            envelope: &envelope,
            origin: Origin::Own,
            not_before: Millis(1),
        })
        .unwrap();
    if tries > 0 {
        tx.outbox_sent(&[row], tries, Millis(1), Millis(2)).unwrap();
    }
    tx.commit().unwrap();
    store.close().unwrap();
    operation.id()
}

#[test]
fn a_copy_never_sends_what_its_original_may_have_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copied) = (dir.path().join("device.db"), dir.path().join("copied.db"));
    let (here, there) = (Memory::default(), Memory::default());
    let (author, _) = open(&path, &here, 1).unwrap();
    let item = here.get(DEVICE_ITEM).unwrap().unwrap();
    let key = DeviceItem::decode(&item).unwrap().key().unwrap();
    let sent = queue(&path, &key, 0, None, 1);
    let waits = queue(&path, &key, 1, Some(sent), 0);
    let newest = queue(&path, &key, 2, Some(waits), 0);
    copy(&path, &copied);
    assert!(open(&copied, &there, 2).unwrap().1);
    let mut store = Store::open(&copied, StoreOptions::default()).unwrap();
    assert_eq!(store.outbox_size().unwrap().0, 1, "others may have it: the same bytes again do no harm");
    let log = store.operation(&sent).unwrap().unwrap().log;
    let head = store.begin(Durability::Full).unwrap().head(&author, &log).unwrap();
    assert_eq!(head.unwrap().id, sent);
    for gone in [waits, newest] {
        assert!(store.operation(&gone).unwrap().is_none());
    }
    store.close().unwrap();
    // The original has all of it.
    assert_eq!(open(&path, &here, 3).unwrap(), (author, false));
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    assert_eq!(store.outbox_size().unwrap().0, 3);
    assert!(store.operation(&newest).unwrap().is_some());
}

#[test]
fn a_crash_between_the_two_counts_is_no_copy() {
    let (dir, keystore) = (tempfile::tempdir().unwrap(), Memory::default());
    let path = dir.path().join("device.db");
    let (first, _) = open(&path, &keystore, 1).unwrap();
    // Cut off after the database was written: twice in a row.
    *keystore.denies_put.lock().unwrap() = true;
    for seed in 2..4 {
        assert_eq!(open(&path, &keystore, seed).unwrap_err().code(), "keystore_denied");
    }
    *keystore.denies_put.lock().unwrap() = false;
    assert_eq!(open(&path, &keystore, 4).unwrap(), (first, false));
    // And a backup from before is found out all the same.
    let at = |keystore: &Memory| keystore.items.lock().unwrap()[DEVICE_ITEM].clone();
    assert_eq!(DeviceItem::decode(&at(&keystore)).unwrap().instance.opens, 4);
}

#[test]
fn a_crash_while_a_new_key_is_made_makes_another() {
    let (dir, keystore) = (tempfile::tempdir().unwrap(), Memory::default());
    let path = dir.path().join("device.db");
    // The keystore was written, the new database not.
    let mut entropy = SeededEntropy::new([1; 32]);
    let item = DeviceItem::generate(&keystore, Millis(1), &mut entropy).unwrap();
    keystore.put(DEVICE_ITEM, &item.encode()).unwrap();
    let lost = item.key().unwrap().author();
    let (author, _) = open(&path, &keystore, 2).unwrap();
    assert_ne!(author, lost);
    assert_eq!(open(&path, &keystore, 3).unwrap(), (author, false));
}

#[test]
fn case_68_a_keystore_that_denies_opens_nothing_and_changes_nothing() {
    let (dir, keystore) = (tempfile::tempdir().unwrap(), Memory::default());
    let path = dir.path().join("device.db");
    let (first, _) = open(&path, &keystore, 1).unwrap();
    *keystore.denies_get.lock().unwrap() = true;
    let error = open(&path, &keystore, 2).unwrap_err();
    assert_eq!(error.code(), "keystore_denied");
    assert!(error.to_string().contains("unlock"), "{error}");
    *keystore.denies_get.lock().unwrap() = false;
    assert_eq!(open(&path, &keystore, 3).unwrap(), (first, false));
}

#[test]
fn a_device_of_a_person_is_certified_by_the_persons_words() {
    let (dir, keystore) = (tempfile::tempdir().unwrap(), Memory::default());
    let words = Mnemonic::from_entropy([9; 32]);
    assert_eq!(stored_identity(&keystore).unwrap(), None);
    store_identity(&keystore, &words).unwrap();
    assert_eq!(stored_identity(&keystore).unwrap(), Some(words.clone()));
    for _ in 0..2 {
        let mut store = Store::open(dir.path().join("device.db"), StoreOptions::default()).unwrap();
        let mut entropy = SeededEntropy::new([1; 32]);
        let device = open_device(&mut store, &keystore, Millis(7), &mut entropy).unwrap();
        let certificate = device.key.certificate().unwrap();
        assert_eq!(certificate.identity, words.identity_key().identity());
        assert_eq!((certificate.device, certificate.created), (device.key.author(), Millis(7)));
    }
}

#[test]
fn a_damaged_item_is_an_error_that_names_it_and_not_a_new_key() {
    let keystore = Memory::default();
    let mut entropy = SeededEntropy::new([1; 32]);
    let good = DeviceItem::generate(&keystore, Millis(1), &mut entropy).unwrap().encode();
    let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
    bad.push([&good[..], &[0]].concat());
    bad.push([&[2], &good[1..]].concat());
    for bytes in bad {
        let error = DeviceItem::decode(&bytes).err();
        assert_eq!(error, Some(KeyStoreError::Damaged(DEVICE_ITEM)), "{} bytes", bytes.len());
    }
    assert!(DeviceItem::decode(&good).is_ok());
}

#[test]
fn case_66_the_device_key_is_not_in_debug_or_error_texts() {
    let keystore: Arc<dyn KeyStore> = Arc::new(Memory::default());
    let seed = [0x41; 32];
    let device = OpenedDevice { key: DeviceKey::from_bytes(&seed), renewed: false };
    let config = crate::Config::new("device.db", seed);
    let by_keystore = crate::Config::with_keystore("device.db", Arc::clone(&keystore));
    let errors = [KeyStoreError::Denied, KeyStoreError::Damaged(DEVICE_ITEM)].map(ClientError::from);
    let shown = format!("{device:?} {config:?} {by_keystore:?} {errors:?} {:?}", DeviceSource::Key(seed));
    for secret in [hex::encode(seed), "65, 65, 65".to_owned(), "AAAA".to_owned()] {
        assert!(!shown.contains(&secret), "{shown}");
    }
}

fn unlock(path: &Path, keystore: &Memory, seed: u8) -> Result<StoreKey, ClientError> {
    let mut store = Store::open(path, StoreOptions::default())?;
    let key = unlock_store(&mut store, keystore, &mut SeededEntropy::new([seed; 32]));
    store.close()?;
    key
}

#[test]
fn a_database_opens_with_the_key_it_was_sealed_with_and_no_other() {
    let (dir, keystore) = (tempfile::tempdir().unwrap(), Memory::default());
    let path = dir.path().join("device.db");
    unlock(&path, &keystore, 1).unwrap();
    let item = keystore.get(DATABASE_ITEM).unwrap().unwrap();
    assert_eq!((item[0], item.len()), (1, 33));
    unlock(&path, &keystore, 2).unwrap();
    assert_eq!(keystore.get(DATABASE_ITEM).unwrap().unwrap(), item, "it stays");
    // On another device: no key, or one of its own.
    let other = Memory::default();
    assert_eq!(unlock(&path, &other, 3).unwrap_err().code(), "database_sealed");
    assert_eq!(other.get(DATABASE_ITEM).unwrap(), None, "none is made for a database it cannot open");
    unlock(&dir.path().join("own.db"), &other, 4).unwrap();
    assert_eq!(unlock(&path, &other, 5).unwrap_err().code(), "database_sealed");
    // What the keystore holds is no key.
    for damaged in [&[][..], &[2; 33], &[1; 32], &[1; 34]] {
        other.put(DATABASE_ITEM, damaged).unwrap();
        assert_eq!(unlock(&path, &other, 6).unwrap_err().code(), "keystore_damaged", "{damaged:?}");
    }
    unlock(&path, &keystore, 7).unwrap();
}

#[test]
fn case_68_a_keystore_that_denies_leaves_the_database_as_it_was() {
    let (dir, keystore) = (tempfile::tempdir().unwrap(), Memory::default());
    let path = dir.path().join("device.db");
    *keystore.denies_put.lock().unwrap() = true;
    assert_eq!(unlock(&path, &keystore, 1).unwrap_err().code(), "keystore_denied");
    assert!(
        !Store::open(&path, StoreOptions::default()).unwrap().is_sealed(),
        "a key that is nowhere seals nothing"
    );
    *keystore.denies_put.lock().unwrap() = false;
    *keystore.denies_get.lock().unwrap() = true;
    assert_eq!(unlock(&path, &keystore, 2).unwrap_err().code(), "keystore_denied");
    *keystore.denies_get.lock().unwrap() = false;
    unlock(&path, &keystore, 3).unwrap();
    assert!(Store::open(&path, StoreOptions::default()).unwrap().is_sealed());
}
