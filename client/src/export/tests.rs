//! Exports that come back whole, and files that are not what they should be.

use delta_core::identity::LogId;
use delta_core::store::Durability;

use super::*;

const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

/// A closed database with so many bytes in it.
fn database(folder: &Path, bytes: usize) -> PathBuf {
    let path = folder.join("device.db");
    let mut store = Store::open(&path, StoreOptions::default()).unwrap();
    let tx = store.begin(Durability::Full).unwrap();
    for n in 0..bytes.div_ceil(1000) {
        tx.set_setting(&format!("filling {n}"), &vec![n as u8; 1000]).unwrap();
    }
    tx.commit().unwrap();
    store.close().unwrap();
    path
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_database_and_words_come_back_and_nothing_is_left_lying_about() {
    let folder = tempfile::tempdir().unwrap();
    let words = Mnemonic::from_entropy([5; 32]);
    for (n, bytes) in [(0, 0), (1, 300_000)] {
        let folder = folder.path().join(n.to_string());
        std::fs::create_dir(&folder).unwrap();
        let (source, out, back) =
            (database(&folder, bytes), folder.join("out.delta"), folder.join("back.db"));
        export_database(&source, &out, "pass", None, Some(&words)).unwrap();
        assert_eq!(import(&out, "pass", &back).unwrap(), Some(words.clone()));
        let (old, new) =
            [&source, &back].map(|path| Store::open(path, StoreOptions::default()).unwrap()).into();
        for n in 0..bytes.div_ceil(1000) {
            let name = format!("filling {n}");
            assert_eq!(new.setting(&name).unwrap(), old.setting(&name).unwrap());
        }
        drop((old, new));
        let left: Vec<String> = names(&folder).into_iter().filter(|name| !name.contains(".db")).collect();
        assert_eq!(left, ["out.delta"]);
        assert!(!names(&folder).iter().any(|name| name.contains(".part")), "{:?}", names(&folder));
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&back).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn every_length_around_a_chunk_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let heads = SECTION_HEAD + SECTION_HEAD + 32;
    for len in [0, 1, CHUNK - heads - 1, CHUNK - heads, CHUNK - heads + 1, 2 * CHUNK - heads, 2 * CHUNK] {
        let content: Vec<u8> = (0..len).map(|n| (n / 7) as u8).collect();
        std::fs::write(path("in"), &content).unwrap();
        let words = Mnemonic::from_entropy([1; 32]);
        write(&path("sealed"), &path("in"), "p", Some(&words), CHEAP).unwrap();
        assert_eq!(read(&path("sealed"), "p", &path("out")).unwrap(), Some(words));
        assert_eq!(std::fs::read(path("out")).unwrap(), content, "{len} bytes");
        for name in ["sealed", "out"] {
            std::fs::remove_file(path(name)).unwrap();
        }
    }
}

#[test]
fn what_cannot_be_read_leaves_no_database_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let source = database(folder.path(), 200_000);
    write(&path("good"), &source, "right", None, CHEAP).unwrap();
    let good = std::fs::read(path("good")).unwrap();
    let code = |bytes: &[u8], passphrase: &str| {
        std::fs::write(path("tried"), bytes).unwrap();
        let code = import(path("tried"), passphrase, path("new.db")).unwrap_err().code();
        assert!(!path("new.db").exists() && !path("new.db.part").exists(), "{code}");
        code
    };
    assert_eq!(code(&good, "wrong"), "export_passphrase");
    assert_eq!(code(b"PK\x03\x04 another file", "right"), "export_not_one");
    assert_eq!(code(b"", "right"), "export_not_one");
    let mut damaged = good.clone();
    damaged[100_000] ^= 1;
    assert_eq!(code(&damaged, "right"), "export_damaged");
    for len in [HEADER_LEN - 1, HEADER_LEN, HEADER_LEN + 70_000, good.len() - 1] {
        assert_eq!(code(&good[..len], "right"), "export_damaged", "{len} bytes");
    }
    assert_eq!(code(&[&good[..], &[0]].concat(), "right"), "export_damaged");
    let mut newer = good.clone();
    newer[4] = 2;
    assert_eq!(code(&newer, "right"), "export_newer");
    // Rightly sealed, but no database.
    std::fs::write(path("text"), vec![b'x'; 5000]).unwrap();
    write(&path("sealed text"), &path("text"), "right", None, CHEAP).unwrap();
    assert_eq!(code(&std::fs::read(path("sealed text")).unwrap(), "right"), "database_not_one");
    // Nothing is written over.
    assert_eq!(import(path("good"), "right", &source).unwrap_err().code(), "io");
    assert_eq!(export_database(&source, path("good"), "right", None, None).unwrap_err().code(), "io");
    assert_eq!(std::fs::read(path("good")).unwrap(), good);
    import(path("good"), "right", path("new.db")).unwrap();
}

#[tokio::test]
async fn a_client_exports_while_it_works_and_an_imported_device_is_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let client = Client::open(crate::Config::new(path("device.db"), [1; 32])).await.unwrap();
    let mut entropy = delta_core::entropy::SeededEntropy::new([5; 32]);
    let ticket = delta_core::ops::Ticket::generate_private(&mut entropy).unwrap();
    let topic = client.open_topic(&ticket).await.unwrap();
    let say = |text: &str| delta_core::ops::Content::MessageSend {
        text: text.into(),
        reply: None,
        mentions: vec![],
    };
    client.publish(topic, say("kept")).await.unwrap();
    client.publish_bundle(topic).await.unwrap();
    client.export(path("out"), "pass", None).await.unwrap();
    client.publish(topic, say("later")).await.unwrap();
    client.close().await.unwrap();
    assert_eq!(import(path("out"), "pass", path("new.db")).unwrap(), None);
    let keystore = std::sync::Arc::new(crate::keystore::tests::Memory::default());
    let client = Client::open(crate::Config::with_keystore(path("new.db"), keystore)).await.unwrap();
    let log: LogId = ticket.log();
    let texts =
        client.read(move |reader| reader.messages(&log, delta_core::store::Page::Newest, 10)).await.unwrap();
    assert_eq!(texts.into_iter().filter_map(|row| row.text).collect::<Vec<_>>(), ["kept"]);
    client.close().await.unwrap();
}

#[test]
fn a_renewed_device_forgets_the_sessions_of_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.db");
    let keystore = crate::keystore::tests::Memory::default();
    let open = |seed: u8| {
        let mut store = Store::open(&path, StoreOptions::default()).unwrap();
        let mut entropy = delta_core::entropy::SeededEntropy::new([seed; 32]);
        let now = delta_core::identity::Millis(1);
        let device = crate::keystore::open_device(&mut store, &keystore, now, &mut entropy).unwrap();
        (store, device)
    };
    let (mut store, _) = open(1);
    let tx = store.begin(Durability::Full).unwrap();
    tx.set_setting("device-secrets", b"of the old device").unwrap();
    tx.commit().unwrap();
    store.close().unwrap();
    let (store, _) = open(2);
    assert!(store.setting("device-secrets").unwrap().is_some(), "the same device keeps them");
    store.close().unwrap();
    crate::KeyStore::delete(&keystore, crate::DEVICE_ITEM).unwrap();
    let (store, device) = open(3);
    assert!(device.renewed);
    assert_eq!(store.setting("device-secrets").unwrap(), None);
}
