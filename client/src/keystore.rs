//! The platform's keystore, and which device key a database is opened with.
//!
//! The keystore holds what must not leave the device with a backup: the device key, and how often the database was
//! opened with it. A database that is not the one this device wrote last gets a new device key, so that a backup or a
//! copy never forks a log ([`delta_core::identity::Standing`]).

use std::fmt;
use std::sync::{Mutex, PoisonError};

use delta_core::codec::Reader;
use delta_core::entropy::Entropy;
use delta_core::identity::{
    Author, Certificate, Identity, IdentityKey, Instance, Millis, Mnemonic, Standing,
};
use delta_core::ops::DeviceKey;
use delta_core::store::{Durability, Store, StoreKey};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::devices::PairingFailure;
use crate::error::ClientError;

/// Where an app keeps secrets: the Android Keystore, the iOS Keychain, a file only the user can read.
///
/// Items are small and written whole: after a crash the old or the new value is there. They must not travel with a
/// backup or to another device.
///
/// A keystore is one database's. An app with several databases gives each one of its own, over the platform's with a
/// prefix before the items' names: the device key says which database it was used with last, so that two on one keystore
/// would take each other for copies, and [`Client::wipe`](crate::Client::wipe) of one would take the other's keys.
pub trait KeyStore: Send + Sync + fmt::Debug {
    /// The item's value; `None` when there is none.
    fn get(&self, item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyStoreError>;

    /// Writes an item, durably.
    fn put(&self, item: &str, value: &[u8]) -> Result<(), KeyStoreError>;

    /// Removes an item; one that is gone already is fine.
    fn delete(&self, item: &str) -> Result<(), KeyStoreError>;
}

/// The keystore did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyStoreError {
    /// It does not give its secrets now: the device is locked, or the user said no. Try again when that is over.
    #[error("the keystore denies access now: unlock the device and try again")]
    Denied,
    /// It cannot be used.
    #[error("the keystore failed: {0}")]
    Failed(String),
    /// An item is not what was put there.
    #[error("the keystore's item `{0}` is damaged: {advice}", advice = advice(.0))]
    Damaged(&'static str),
}

/// What to do about an item that is not what was put there.
fn advice(item: &str) -> &'static str {
    match item {
        DATABASE_ITEM => {
            "restore it or import an export; the database opens with it alone, so do not delete it"
        }
        IDENTITY_ITEM => "delete it and enter the words again",
        DEVICE_ITEM => "delete it to begin with a new device key",
        _ => "delete it; a new one is made",
    }
}

/// The item with the device key: `01 | instance id[16] | opens u64 | seed[32]`, then nothing or a device certificate.
pub const DEVICE_ITEM: &str = "delta.device";
/// The item with a person's words: `01 | entropy[32]`. Only on devices that may certify others.
pub const IDENTITY_ITEM: &str = "delta.identity";

/// The item with the key that the database's secrets are sealed with: `01 | key[32]`.
pub const DATABASE_ITEM: &str = "delta.database";

const VERSION: u8 = 1;

/// The device key a database is opened with.
#[derive(Debug)]
pub(crate) struct OpenedDevice {
    pub(crate) key: DeviceKey,
    /// The database was restored or copied: the key is new, and what was written before was by another device.
    pub(crate) renewed: bool,
}

/// Takes the device key from the keystore, or makes a new one where there is none or the database is another copy than
/// the one this device wrote last.
///
/// # Errors
/// A keystore that denies or fails. Nothing was published, and the next open judges alike.
pub(crate) fn open_device(
    store: &mut Store,
    keystore: &dyn KeyStore,
    now: Millis,
    entropy: &mut dyn Entropy,
) -> Result<OpenedDevice, ClientError> {
    let item = keystore.get(DEVICE_ITEM)?.map(|bytes| DeviceItem::decode(&bytes)).transpose()?;
    let database = store.setting(Instance::SETTING)?;
    // One that cannot be read is nobody's.
    let database = database.map(|bytes| Instance::from_bytes(&bytes).unwrap_or(NOBODYS));
    let standing = Standing::of(database, item.as_ref().map(|item| item.instance));
    match (standing, item) {
        (Standing::Same(instance), Some(item)) => {
            // The database first: a crash before the keystore is written leaves it ahead, which is no copy.
            note_instance(store, instance, None)?;
            let item = DeviceItem { instance, ..item };
            keystore.put(DEVICE_ITEM, &item.encode())?;
            Ok(OpenedDevice { key: item.key()?, renewed: false })
        }
        (standing, _) => {
            let item = DeviceItem::generate(keystore, now, entropy)?;
            // The keystore first: a crash before the database is written leaves two ids, so the next open makes
            // another new key.
            keystore.put(DEVICE_ITEM, &item.encode())?;
            let (renewed, key) = (standing != Standing::Fresh, item.key()?);
            note_instance(store, item.instance, renewed.then_some(key.author()))?;
            Ok(OpenedDevice { key, renewed })
        }
    }
}

/// Refuses a database that was made with a device key of its own ([`DeviceSource::Key`]): the keystore's would be another
/// device, which could neither send what waits there nor go on with its logs.
pub(crate) fn refuse_other_device(store: &Store) -> Result<(), ClientError> {
    match store.owner()? {
        Some(owner) if store.setting(Instance::SETTING)?.is_none() => {
            Err(store.other_device(owner, None).into())
        }
        _ => Ok(()),
    }
}

/// The key that says which devices are the person's: of the words kept here, or the device's own, where nobody certified
/// it.
pub(crate) fn identity_key(keystore: &dyn KeyStore, identity: Identity) -> Result<IdentityKey, ClientError> {
    let words = stored_identity(keystore)?.map(|mnemonic| mnemonic.identity_key());
    let item = keystore.get(DEVICE_ITEM)?.map(|bytes| DeviceItem::decode(&bytes)).transpose()?;
    let own = item.filter(|item| item.certificate.is_none()).map(|item| IdentityKey::from_seed(&item.seed));
    let keys = words.into_iter().chain(own);
    let key = keys.into_iter().find(|key| key.identity() == identity);
    Ok(key.ok_or(PairingFailure::NotTheIdentity)?)
}

/// The device's key, to open what is sealed to it.
pub(crate) fn device_key(keystore: &dyn KeyStore, author: Author) -> Result<DeviceKey, ClientError> {
    let item = keystore.get(DEVICE_ITEM)?.map(|bytes| DeviceItem::decode(&bytes)).transpose()?;
    let key = item.map(|item| item.key()).transpose()?.filter(|key| key.author() == author);
    Ok(key.ok_or(KeyStoreError::Damaged(DEVICE_ITEM))?)
}

/// Keeps whose device this is from now on.
pub(crate) fn certify_device(keystore: &dyn KeyStore, certificate: Certificate) -> Result<(), ClientError> {
    let item = keystore.get(DEVICE_ITEM)?.ok_or(KeyStoreError::Damaged(DEVICE_ITEM))?;
    let item = DeviceItem { certificate: Some(certificate), ..DeviceItem::decode(&item)? };
    // It is this device's, or nothing is kept.
    item.key()?;
    Ok(keystore.put(DEVICE_ITEM, &item.encode())?)
}

/// Held while a database's key is looked for and made.
static FIRST_KEY: Mutex<()> = Mutex::new(());

/// Opens the database's secrets with the key from the keystore; one whose secrets are not sealed yet gets a key and has
/// them sealed.
///
/// # Errors
/// A keystore that denies or fails; [`StoreError::KeyMissing`] and [`StoreError::WrongKey`] where the database was made
/// with another one. Nothing is changed then.
pub(crate) fn unlock_store(
    store: &mut Store,
    keystore: &dyn KeyStore,
    entropy: &mut dyn Entropy,
) -> Result<StoreKey, ClientError> {
    let key = match stored_key(keystore)? {
        Some(key) => key,
        // A new key opens nothing: who asks for a secret is told that its key is missing.
        None if store.is_sealed() => return Err(store.key_missing().into()),
        None => database_key(keystore, entropy)?,
    };
    if !store.is_sealed() {
        tracing::info!("the database's secrets are sealed; one that was used before is written anew, once");
    }
    store.unlock(&key)?;
    Ok(key)
}

/// The key that this keystore's databases are sealed with; drawn where there is none.
pub(crate) fn database_key(
    keystore: &dyn KeyStore,
    entropy: &mut dyn Entropy,
) -> Result<StoreKey, ClientError> {
    // Databases that are opened for the first time at once get one key, and not each its own.
    let _one_at_a_time = FIRST_KEY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(key) = stored_key(keystore)? {
        return Ok(key);
    }
    let mut key = Zeroizing::new([0; 32]);
    entropy.fill(&mut *key)?;
    // The keystore first: a database sealed with a key that is nowhere is lost.
    keystore.put(DATABASE_ITEM, &Zeroizing::new([&[VERSION][..], &*key].concat()))?;
    // One that keeps nothing, or another key, is found out before anything is sealed.
    Ok(stored_key(keystore)?.ok_or(KeyStoreError::Failed(format!("it did not keep {DATABASE_ITEM}")))?)
}

/// What opens a database's secrets.
pub(crate) fn stored_key(keystore: &dyn KeyStore) -> Result<Option<StoreKey>, KeyStoreError> {
    let Some(item) = keystore.get(DATABASE_ITEM)? else { return Ok(None) };
    let key = item.split_first().filter(|(version, _)| **version == VERSION).map(|(_, key)| key);
    let key = key.and_then(|key| <[u8; 32]>::try_from(key).ok()).map(Zeroizing::new);
    Ok(Some(StoreKey::new(*key.ok_or(KeyStoreError::Damaged(DATABASE_ITEM))?)))
}

/// Reads the person's words, where this device has them.
pub fn stored_identity(keystore: &dyn KeyStore) -> Result<Option<Mnemonic>, KeyStoreError> {
    let Some(bytes) = keystore.get(IDENTITY_ITEM)? else { return Ok(None) };
    match bytes.split_first() {
        Some((&VERSION, entropy)) => {
            let entropy = entropy.try_into().map_err(|_| KeyStoreError::Damaged(IDENTITY_ITEM))?;
            Ok(Some(Mnemonic::from_entropy(entropy)))
        }
        _ => Err(KeyStoreError::Damaged(IDENTITY_ITEM)),
    }
}

/// Keeps the person's words. Devices made from now on are certified by them; one that exists stays as it is.
pub fn store_identity(keystore: &dyn KeyStore, mnemonic: &Mnemonic) -> Result<(), KeyStoreError> {
    let mut bytes = Zeroizing::new(vec![VERSION]);
    bytes.extend_from_slice(mnemonic.entropy());
    keystore.put(IDENTITY_ITEM, &bytes)
}

/// Equal to no instance that was drawn and counted.
const NOBODYS: Instance = Instance { id: [0; 16], opens: 0 };

/// Keeps which database this is; with the device that it is of from now on, where that is another one than before.
fn note_instance(store: &mut Store, instance: Instance, renewed: Option<Author>) -> Result<(), ClientError> {
    let tx = store.begin(Durability::Full)?;
    if let Some(device) = renewed {
        // Two devices that went on with one session would use its keys twice; and the other one may have given the
        // numbers of what waits here to other operations: sent from here, they would fork its log.
        tx.forget_sessions()?;
        tx.forget_unsent(None)?;
        tx.set_owner(&device)?;
    }
    tx.set_setting(Instance::SETTING, &instance.to_bytes())?;
    Ok(tx.commit()?)
}

struct DeviceItem {
    instance: Instance,
    seed: Zeroizing<[u8; 32]>,
    certificate: Option<Certificate>,
}

impl DeviceItem {
    fn generate(
        keystore: &dyn KeyStore,
        now: Millis,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, ClientError> {
        let (mut id, mut seed) = ([0; 16], Zeroizing::new([0; 32]));
        entropy.fill(&mut id)?;
        entropy.fill(&mut *seed)?;
        let author = DeviceKey::from_bytes(&seed).author();
        let identity = stored_identity(keystore)?.map(|mnemonic| mnemonic.identity_key());
        let certificate = identity.map(|identity| Certificate::sign(&identity, author, now));
        Ok(Self { instance: Instance { id, opens: 1 }, seed, certificate })
    }

    fn key(&self) -> Result<DeviceKey, KeyStoreError> {
        let key = DeviceKey::from_bytes(&self.seed);
        match self.certificate {
            None => Ok(key),
            Some(certificate) => key.certified(certificate).map_err(|_| KeyStoreError::Damaged(DEVICE_ITEM)),
        }
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + Instance::LEN + 32 + Certificate::LEN));
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.instance.to_bytes());
        bytes.extend_from_slice(&*self.seed);
        bytes.extend(self.certificate.iter().flat_map(Certificate::to_bytes));
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, KeyStoreError> {
        let damaged = KeyStoreError::Damaged(DEVICE_ITEM);
        let mut reader = Reader::new(bytes);
        if reader.u8("version") != Ok(VERSION) {
            return Err(damaged);
        }
        let instance = reader.bytes(Instance::LEN, "instance").ok().and_then(Instance::from_bytes);
        let seed = reader.array("seed").map(Zeroizing::new);
        let (Some(instance), Ok(seed)) = (instance, seed) else { return Err(damaged) };
        let certificate = match reader.rest() {
            [] => None,
            rest => Some(Certificate::from_bytes(rest).map_err(|_| damaged)?),
        };
        Ok(Self { instance, seed, certificate })
    }
}

/// Which key a device signs with.
#[derive(Clone)]
pub enum DeviceSource {
    /// This one (an Ed25519 seed). The caller sees to it that a copied or restored database gets another.
    Key([u8; 32]),
    /// The one in the keystore; made there when it is missing, and made anew for a restored or copied database.
    KeyStore(std::sync::Arc<dyn KeyStore>),
}

impl fmt::Debug for DeviceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(_) => f.write_str("Key(..)"),
            Self::KeyStore(keystore) => f.debug_tuple("KeyStore").field(keystore).finish(),
        }
    }
}

impl Drop for DeviceSource {
    fn drop(&mut self) {
        if let Self::Key(seed) = self {
            seed.zeroize();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
