//! Key snapshots for notification extensions.

use delta_core::entropy::Entropy;
use delta_core::identity::{Author, Identity, LogId};
use delta_core::push::{KeySnapshot, MAX_NAMES, Person, SnapshotWriter};
use delta_core::store::{Reader, StoreError, TopicRow};
use delta_core::topic::TopicId;
use delta_core::tree::{IntoTree, Map};
use zeroize::Zeroizing;

use crate::apart::blocking;
use crate::client::Client;
use crate::error::ClientError;
use crate::keystore::{DeviceSource, KeyStore, KeyStoreError};
use crate::platform::PlatformEntropy;

/// The item with the key that snapshots are sealed with: `01 | key[32]`. The extension must be able to read it, and
/// needs no other.
pub const PUSH_ITEM: &str = "delta.push";

const VERSION: u8 = 1;

impl Client {
    /// What a notification extension needs to open the envelopes that pushes bring: write it to a file that the
    /// extension can read, again whenever the app goes to the background. Sealed with a key that this device's keystore
    /// keeps under [`PUSH_ITEM`]; see [`open_snapshot`].
    ///
    /// # Errors
    /// `keystore_failed` without a keystore.
    pub async fn key_snapshot(&self) -> Result<Vec<u8>, ClientError> {
        let DeviceSource::KeyStore(keystore) = &self.shared.device else {
            return Err(KeyStoreError::Failed("none is configured".to_owned()).into());
        };
        let (keystore, device, identity, now) =
            (keystore.clone(), self.author(), self.identity().await?, self.now());
        let written = self.read(move |reader| {
            let devices = reader.devices_of(&identity)?.into_iter().filter(|one| *one != device).into_set();
            let mut writer = SnapshotWriter::new(device, &Person { identity, devices }, now);
            let mut known = Map::new();
            for row in reader.topics()?.into_iter().filter(|row| !row.astray) {
                add(reader, &row, &mut known, &mut writer)?;
            }
            Ok(writer)
        });
        let writer = written.await?;
        let seal = move || {
            let key = push_key(keystore.as_ref())?;
            Ok(writer.seal(&key, &mut PlatformEntropy)?)
        };
        blocking(seal).await
    }
}

/// Opens a snapshot in the extension's process, with the keystore that has [`PUSH_ITEM`].
pub fn open_snapshot(sealed: &[u8], keystore: &dyn KeyStore) -> Result<KeySnapshot, ClientError> {
    let key = keystore.get(PUSH_ITEM)?.ok_or(KeyStoreError::Failed(format!("it has no {PUSH_ITEM}")))?;
    let key = decode(&key)?;
    Ok(KeySnapshot::open(sealed, &key)?)
}

/// What is shown of a conversation, in whichever topics it lived.
struct Shown {
    known_as: Option<TopicId>,
    title: Option<String>,
    writers: Option<Vec<Author>>,
    names: Map<Author, String>,
}

fn add(
    reader: &Reader,
    row: &TopicRow,
    known: &mut Map<LogId, Shown>,
    writer: &mut SnapshotWriter,
) -> Result<(), StoreError> {
    if row.ticket.is_of_one_device() {
        // An inbox's operations and a direct thread's open with sessions that the app alone moves on.
        return Ok(());
    }
    let log = row.ticket.log();
    let shown = known.entry(log).or_try_insert_with(|| shown(reader, &log))?;
    let names = shown.names.iter().map(|(author, name)| (*author, name.as_str()));
    let (known_as, title) = (shown.known_as.unwrap_or(row.topic), shown.title.as_deref());
    writer.add(known_as, &row.ticket, title, shown.writers.as_deref(), names);
    Ok(())
}

fn shown(reader: &Reader, log: &LogId) -> Result<Shown, StoreError> {
    let belongs = reader.space_of(log)?;
    let (title, writers) = match belongs {
        None => (None, None),
        Some(belongs) => {
            let title = match belongs.room {
                true => reader.room(log)?.map(|room| room.text.name),
                false => reader.space(log)?.map(|space| space.text.name),
            };
            (title, Some(writers(reader, &belongs.space)?))
        }
    };
    let names = names(reader, log, belongs.map(|belongs| belongs.space))?;
    Ok(Shown { known_as: reader.known_as(*log)?, title, writers, names })
}

/// What authors are called: each device by what its person said last, on whichever one.
fn names(reader: &Reader, log: &LogId, space: Option<LogId>) -> Result<Map<Author, String>, StoreError> {
    let mut names = reader.names(log, MAX_NAMES)?.into_iter().into_map();
    let Some(space) = space else { return Ok(names) };
    let mut people = Map::<Identity, Option<String>>::new();
    for one in reader.space_devices(&space)? {
        let person = match people.get(&one.identity) {
            Some(person) => person.clone(),
            None => {
                let person = reader.profile(&one.device, log)?.map(|profile| profile.name);
                people.insert(one.identity, person.clone());
                person
            }
        };
        let Some(name) = person else { continue };
        for author in [one.device, Author(one.identity.0)] {
            if names.len() < MAX_NAMES || names.contains_key(&author) {
                names.insert(author, name.clone());
            }
        }
    }
    Ok(names)
}

/// The devices of whoever may write. A device without certificate is a person of its own.
fn writers(reader: &Reader, space: &LogId) -> Result<Vec<Author>, StoreError> {
    let members = reader.members(space)?.into_iter().filter(|row| row.standing.may_write());
    let people = members.map(|row| row.member).into_set();
    let told = reader.space_devices(space)?;
    let revoked = told.iter().filter(|told| told.revoked).map(|told| told.device).into_set();
    let own = people.iter().map(|person| Author(person.0)).filter(|device| !revoked.contains(device));
    let devices = told.iter().filter(|told| !told.revoked && people.contains(&told.identity));
    let writers = own.chain(devices.map(|told| told.device)).into_set();
    Ok(writers.into_iter().collect())
}

/// The key in the keystore; made there when it is missing.
fn push_key(keystore: &dyn KeyStore) -> Result<Zeroizing<[u8; 32]>, ClientError> {
    if let Some(item) = keystore.get(PUSH_ITEM)? {
        return Ok(decode(&item)?);
    }
    let mut item = Zeroizing::new([VERSION; 33]);
    if let Some((_, key)) = item.split_first_mut() {
        PlatformEntropy.fill(key)?;
    }
    keystore.put(PUSH_ITEM, &*item)?;
    Ok(decode(&*item)?)
}

fn decode(item: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyStoreError> {
    match item.split_first() {
        Some((&VERSION, key)) => {
            key.try_into().map(Zeroizing::new).map_err(|_| KeyStoreError::Damaged(PUSH_ITEM))
        }
        _ => Err(KeyStoreError::Damaged(PUSH_ITEM)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use delta_core::ops::Content;
    use delta_core::push::{PreviewSaid, decrypt_push};

    use super::*;
    use crate::config::Config;
    use crate::keystore::tests::Memory;

    #[tokio::test]
    async fn an_extension_reads_what_the_app_could_and_needs_no_database() {
        let (dir, keystore) = (tempfile::tempdir().unwrap(), Arc::new(Memory::default()));
        let config = Config::with_keystore(dir.path().join("device.db"), keystore.clone());
        let client = Client::open(config).await.unwrap();
        let ticket =
            delta_core::ops::Ticket::generate_private(&mut delta_core::entropy::SeededEntropy::new([5; 32]));
        let topic = client.open_topic(&ticket.unwrap()).await.unwrap();
        let profile = Content::ProfileSet {
            name: "Ada".into(),
            bio: None,
            avatar: None,
            availability: None,
            public: false,
        };
        client.publish(topic, profile).await.unwrap();
        let hello = Content::MessageSend {
            text: "hello".into(),
            reply: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
        };
        let id = client.publish(topic, hello).await.unwrap();
        let envelope = client.read(move |reader| {
            let row = reader.outbox_row(topic, &id)?.unwrap();
            reader.outbox_envelope(row.id)
        });
        let envelope = envelope.await.unwrap().unwrap();
        let sealed = client.key_snapshot().await.unwrap();
        client.close().await.unwrap();
        dir.close().unwrap();

        let snapshot = open_snapshot(&sealed, keystore.as_ref()).unwrap();
        let preview = decrypt_push(&envelope, &snapshot).unwrap();
        assert_eq!((preview.topic, preview.operation), (topic, id));
        assert_eq!(preview.name.as_deref(), Some("Ada"));
        assert_eq!(preview.said, PreviewSaid::Message { text: "hello".into(), mentions: false });
        let error = open_snapshot(&sealed, &Memory::default()).unwrap_err();
        assert_eq!(error.code(), "keystore_failed");
    }
}
