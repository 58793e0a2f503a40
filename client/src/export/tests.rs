//! Exports that come back whole, and files that are not what they should be.

use delta_core::identity::{LogId, Millis};
use delta_core::ops::Ticket;
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
        assert_eq!(import(&out, "pass", &back, None).unwrap(), Some(words.clone()));
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
        let contents = Contents { words: Some(&words), key: None, database: &path("in") };
        write(&path("sealed"), &contents, "p", CHEAP).unwrap();
        let (read, key) = read(&path("sealed"), "p", &path("out")).unwrap();
        assert_eq!((read, key.is_some()), (Some(words), false));
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
    let contents = |database| Contents { words: None, key: None, database };
    write(&path("good"), &contents(&source), "right", CHEAP).unwrap();
    let good = std::fs::read(path("good")).unwrap();
    let code = |bytes: &[u8], passphrase: &str| {
        std::fs::write(path("tried"), bytes).unwrap();
        let code = import(path("tried"), passphrase, path("new.db"), None).unwrap_err().code();
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
    newer[4] = 3;
    assert_eq!(code(&newer, "right"), "export_newer");
    // Rightly sealed, but no database.
    std::fs::write(path("text"), vec![b'x'; 5000]).unwrap();
    write(&path("sealed text"), &contents(&path("text")), "right", CHEAP).unwrap();
    assert_eq!(code(&std::fs::read(path("sealed text")).unwrap(), "right"), "database_not_one");
    // Nothing is written over.
    assert_eq!(import(path("good"), "right", &source, None).unwrap_err().code(), "io");
    assert_eq!(export_database(&source, path("good"), "right", None, None).unwrap_err().code(), "io");
    assert_eq!(std::fs::read(path("good")).unwrap(), good);
    // What an import left that was killed is not in the way.
    std::fs::write(path("new.db.part"), b"half").unwrap();
    import(path("good"), "right", path("new.db"), None).unwrap();
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
        attachments: Vec::new(),
    };
    client.publish(topic, say("kept")).await.unwrap();
    client.publish_bundle(topic).await.unwrap();
    client.export(path("out"), "pass", None).await.unwrap();
    client.publish(topic, say("later")).await.unwrap();
    client.close().await.unwrap();
    assert_eq!(import(path("out"), "pass", path("new.db"), None).unwrap(), None);
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

/// What reads the topic of the database below.
const SECRET: [u8; 32] = [0xc5; 32];

fn topic() -> Ticket {
    Ticket::generate_private(&mut delta_core::entropy::SeededEntropy::new([6; 32])).unwrap()
}

fn sealed_database(folder: &Path, keystore: &dyn KeyStore) -> PathBuf {
    let path = folder.join("device.db");
    let mut store = Store::open(&path, StoreOptions::default()).unwrap();
    let key = crate::keystore::database_key(keystore, &mut PlatformEntropy).unwrap();
    store.unlock(&key).unwrap();
    let tx = store.begin(Durability::Full).unwrap();
    tx.put_topic(&topic(), Millis(1)).unwrap();
    tx.set_read_key(topic().topic(), Some(&SECRET)).unwrap();
    tx.commit().unwrap();
    store.close().unwrap();
    path
}

/// Whether some file in a folder shows it.
fn shows(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
    files.into_iter().any(|bytes| bytes.windows(16).any(|window| window == &SECRET[..16]))
}

#[test]
fn a_sealed_database_comes_back_sealed_for_a_keystore_and_in_the_clear_for_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (one, two) = (crate::keystore::tests::Memory::default(), crate::keystore::tests::Memory::default());
    let source = sealed_database(folder.path(), &one);
    export_database(&source, path("out"), "pass", Some(&one), None).unwrap();
    import(path("out"), "pass", path("sealed.db"), Some(&two)).unwrap();
    assert!(!shows(folder.path()), "nowhere, at any time");
    let open = |name: &str, keystore: Option<&crate::keystore::tests::Memory>| {
        let mut store = Store::open(path(name), StoreOptions::default()).unwrap();
        assert_eq!(store.is_sealed(), keystore.is_some());
        keystore.into_iter().for_each(|it| store.unlock(&stored_key(it).unwrap().unwrap()).unwrap());
        assert_eq!(store.read_key(topic().topic()).unwrap().unwrap()[..], SECRET);
        store.close().unwrap();
    };
    open("sealed.db", Some(&two));
    import(path("out"), "pass", path("plain.db"), None).unwrap();
    open("plain.db", None);
    assert!(shows(folder.path()), "the search finds what is there");
    // What is sealed with another key than the export's, or with none that is in it, is no database of anybody's.
    let copy = path("copy.db");
    let mut store = Store::open(&source, StoreOptions::default()).unwrap();
    store.unlock(&stored_key(&one).unwrap().unwrap()).unwrap();
    assert!(store.copy_to(&copy, &StoreKey::new([1; 32])).unwrap());
    store.close().unwrap();
    for key in [None, Some(&[2; 32])] {
        write(&path("odd"), &Contents { words: None, key, database: &copy }, "pass", CHEAP).unwrap();
        let refused = import(path("odd"), "pass", path("odd.db"), Some(&two)).unwrap_err();
        assert_eq!(refused.code(), "export_damaged");
        assert!(!path("odd.db").exists() && !path("odd.db.part").exists());
        std::fs::remove_file(path("odd")).unwrap();
    }
    // A database in the clear, of a version before: whoever has a keystore seals it.
    let plain = Contents { words: None, key: None, database: &path("plain.db") };
    write(&path("old"), &plain, "pass", CHEAP).unwrap();
    import(path("old"), "pass", path("from-old.db"), Some(&two)).unwrap();
    open("from-old.db", Some(&two));
}

/// Where the child finds the folder it works in.
const KILLED: &str = "DELTA_TEST_KILLED_EXPORT";

/// Run as a process of its own by the test below: exports, and waits to be killed where the copy is made.
#[test]
fn killed_child() {
    let Some(folder) = std::env::var_os(KILLED).map(PathBuf::from) else { return };
    let keystore = crate::keystore::tests::Memory::default();
    let source = sealed_database(&folder, &keystore);
    let mut store = Store::open(&source, StoreOptions::default()).unwrap();
    store.unlock(&stored_key(&keystore).unwrap().unwrap()).unwrap();
    let copy_to = |copy: &Path, key: &StoreKey| {
        let sealed = store.copy_to(copy, key)?;
        std::io::stdout().write_all(b"copied\n").unwrap();
        std::io::stdout().flush().unwrap();
        // Nothing comes: until it is killed, or the test is gone.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        Ok(sealed)
    };
    write_copy(&source, &folder.join("out"), "pass", None, copy_to).unwrap();
}

#[test]
fn an_export_that_is_killed_leaves_nothing_in_the_clear_and_nothing_in_the_way() {
    use std::io::BufRead;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "export::tests::killed_child", "--nocapture"])
        .env(KILLED, folder.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("copied")), "the child ran");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(path("device.db.export").exists(), "the copy it was made of is left");
    assert!(!shows(folder.path()));
    // Whoever opens the database removes it, and makes an export of its own.
    drop(Store::open(path("device.db"), StoreOptions::default()).unwrap());
    assert!(!path("device.db.export").exists());
    let other = crate::keystore::tests::Memory::default();
    let store = Store::open(path("other.db"), StoreOptions::default()).unwrap();
    store.close().unwrap();
    std::fs::write(path("other.db.export"), b"half a database").unwrap();
    export_database(path("other.db"), path("next"), "pass", Some(&other), None).unwrap();
    import(path("next"), "pass", path("back.db"), None).unwrap();
    assert!(!names(folder.path()).iter().any(|name| name.ends_with(".export")), "{:?}", names(folder.path()));
}
