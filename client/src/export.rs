//! Export and import: a device's database, and a person's words where they are at hand, in one sealed file.
//!
//! Device keys are not in it: they stay in the keystore. Whoever opens an imported database gets a new device key, and
//! X25519 secrets and sessions of its own.
//!
//! The copy that an export is made of stands beside the database, under a name at which the next process looks, and where
//! the database's secrets are sealed so are the copy's, with a key that is in the export alone.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use delta_core::entropy::Entropy;
use delta_core::export::{
    CHUNK, CHUNK_OVERHEAD, Chunks, Cost, ExportError, HEADER_LEN, SECTION_HEAD, Section,
};
use delta_core::identity::Mnemonic;
use delta_core::store::{Staged, Store, StoreError, StoreKey, StoreOptions};
use zeroize::Zeroizing;

use crate::apart::blocking;
use crate::client::Client;
use crate::config::Config;
use crate::error::ClientError;
use crate::keystore::{DeviceSource, KeyStore, database_key, store_identity, stored_key};
use crate::platform::PlatformEntropy;
use crate::storage::SUFFIXES;

impl Client {
    /// Writes the database as it is now, and these words, into a new file that the passphrase opens. Takes a second
    /// for the passphrase, and memory for two chunks, whatever the size.
    ///
    /// # Errors
    /// A file that exists is not written over.
    pub async fn export(
        &self,
        path: impl Into<PathBuf>,
        passphrase: impl Into<String>,
        words: Option<Mnemonic>,
    ) -> Result<(), ClientError> {
        let (path, passphrase) = (path.into(), Zeroizing::new(passphrase.into()));
        let database = self.shared.path.clone();
        let exported = self.read(move |reader| {
            let copy_to = |copy: &Path, key: &StoreKey| reader.copy_to(copy, key);
            Ok(write_copy(&database, &path, &passphrase, words.as_ref(), copy_to))
        });
        exported.await?
    }

    /// Reads an export into a new database ([`import`]), keeps the person's words in the keystore where the export has
    /// them and the configuration a keystore, and opens it.
    pub async fn import(
        config: Config,
        export: impl Into<PathBuf>,
        passphrase: impl Into<String>,
    ) -> Result<Self, ClientError> {
        let (export, passphrase) = (export.into(), Zeroizing::new(passphrase.into()));
        let (database, device) = (config.path.clone(), config.device.clone());
        let read = move || {
            let keystore = match &device {
                DeviceSource::KeyStore(keystore) => Some(keystore.as_ref()),
                DeviceSource::Key(_) => None,
            };
            let words = import(export, &passphrase, database, keystore)?;
            if let (Some(words), Some(keystore)) = (words, keystore) {
                store_identity(keystore, &words)?;
            }
            Ok::<_, ClientError>(())
        };
        blocking(read).await?;
        Self::open(config).await
    }
}

/// [`Client::export`] of a database that no client has open; the keystore is its own, where it was made with one.
///
/// # Errors
/// `database_locked` while one has; `database_sealed` without the keystore that holds its key.
pub fn export_database(
    database: impl AsRef<Path>,
    path: impl AsRef<Path>,
    passphrase: &str,
    keystore: Option<&dyn KeyStore>,
    words: Option<&Mnemonic>,
) -> Result<(), ClientError> {
    let mut store =
        Store::open(database.as_ref(), StoreOptions { create: false, ..StoreOptions::default() })?;
    if store.is_sealed() {
        let key = keystore.map_or(Ok(None), stored_key)?;
        store.unlock(&key.ok_or_else(|| store.key_missing())?)?;
    }
    let copy_to = |copy: &Path, key: &StoreKey| store.copy_to(copy, key);
    write_copy(database.as_ref(), path.as_ref(), passphrase, words, copy_to)?;
    Ok(store.close()?)
}

/// Reads an export into a new database; gives the words that were in it. Nothing is at `database` unless all of it
/// could be read. With the keystore it is to be opened with, its secrets are sealed from the beginning.
///
/// # Errors
/// `export_passphrase`, `export_damaged` and others of their kind; a database that exists is not written over.
pub fn import(
    path: impl AsRef<Path>,
    passphrase: &str,
    database: impl AsRef<Path>,
    keystore: Option<&dyn KeyStore>,
) -> Result<Option<Mnemonic>, ClientError> {
    let (path, database) = (path.as_ref(), database.as_ref());
    if database.exists() {
        return Err(io(database)(is_there()));
    }
    let copy = Removed(tempfile_beside(database));
    // What an import left that was killed.
    copy.remove();
    let (words, key) = read(path, passphrase, &copy.0)?;
    // It is one, whole, and not newer than this program.
    let mut store = Store::open(&copy.0, StoreOptions { create: false, ..StoreOptions::default() })?;
    match (&key, store.is_sealed()) {
        (Some(key), true) => store.unlock(key).map_err(|error| match error {
            StoreError::WrongKey { .. } => ExportError::Damaged.into(),
            other => ClientError::from(other),
        })?,
        (None, false) => {}
        _ => return Err(ExportError::Damaged.into()),
    }
    store.check()?;
    let keystore = keystore.map(|keystore| database_key(keystore, &mut PlatformEntropy)).transpose()?;
    match keystore {
        Some(new) if key.is_none() => store.unlock(&new)?,
        new => store.change_key(new.as_ref())?,
    }
    store.close()?;
    std::fs::rename(&copy.0, database).map_err(io(database))?;
    Ok(words)
}

fn is_there() -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::AlreadyExists,
        "it exists already, and is not written over: name another",
    )
}

/// Held while an export is made: its copy has one name for each database.
static EXPORTING: Mutex<()> = Mutex::new(());

/// Makes a copy of a database beside it, as secret as the database, writes it into the export and removes it.
fn write_copy(
    database: &Path,
    path: &Path,
    passphrase: &str,
    words: Option<&Mnemonic>,
    copy_to: impl FnOnce(&Path, &StoreKey) -> Result<bool, StoreError>,
) -> Result<(), ClientError> {
    if path.exists() {
        return Err(io(path)(is_there()));
    }
    let mut bytes = Zeroizing::new([0; 32]);
    PlatformEntropy.fill(&mut *bytes)?;
    let _one_at_a_time = EXPORTING.lock().unwrap_or_else(PoisonError::into_inner);
    let copy = Staged::for_export(database)?;
    let sealed = copy_to(copy.path(), &StoreKey::new(*bytes))?;
    let contents = Contents { words, key: sealed.then_some(&*bytes), database: copy.path() };
    write(path, &contents, passphrase, Cost::default())
}

/// What goes into an export.
struct Contents<'a> {
    words: Option<&'a Mnemonic>,
    /// What the database's secrets are sealed with.
    key: Option<&'a [u8; 32]>,
    database: &'a Path,
}

fn write(path: &Path, contents: &Contents<'_>, passphrase: &str, cost: Cost) -> Result<(), ClientError> {
    let database = contents.database;
    let (header, mut chunks) = Chunks::create(passphrase, cost, &mut PlatformEntropy)?;
    let mut source = File::open(database).map_err(io(database))?;
    let len = source.metadata().map_err(io(database))?.len();
    let mut out = private_file(path)?;
    let unfinished = Removed(path.to_path_buf());
    out.write_all(&header).map_err(io(path))?;
    let mut pending = Zeroizing::new(Vec::with_capacity(2 * CHUNK));
    if let Some(words) = contents.words {
        pending.extend_from_slice(&Section::Identity.head(32));
        pending.extend_from_slice(words.entropy());
    }
    if let Some(key) = contents.key {
        pending.extend_from_slice(&Section::StoreKey.head(32));
        pending.extend_from_slice(key);
    }
    pending.extend_from_slice(&Section::Database.head(len));
    let mut left = len;
    loop {
        let wanted = (CHUNK as u64).saturating_sub(pending.len() as u64).min(left);
        left -= wanted;
        Read::by_ref(&mut source).take(wanted).read_to_end(&mut pending).map_err(io(database))?;
        let last = left == 0 && pending.len() <= CHUNK;
        let end = pending.len().min(CHUNK);
        let rest = pending.split_off(end);
        let mut chunk = std::mem::replace(&mut *pending, rest);
        chunks.seal(&mut chunk, last)?;
        out.write_all(&chunk).map_err(io(path))?;
        if last {
            break;
        }
    }
    out.sync_all().map_err(io(path))?;
    unfinished.keep();
    Ok(())
}

/// Writes the database of an export into a new file; gives what else is in it: words, and what the database is sealed with.
fn read(
    path: &Path,
    passphrase: &str,
    database: &Path,
) -> Result<(Option<Mnemonic>, Option<StoreKey>), ClientError> {
    let mut source = File::open(path).map_err(io(path))?;
    let mut header = Vec::with_capacity(HEADER_LEN);
    Read::by_ref(&mut source).take(HEADER_LEN as u64).read_to_end(&mut header).map_err(io(path))?;
    let mut chunks = Chunks::open(passphrase, &header)?;
    let mut opened = Opened { source, path, chunks: &mut chunks, ahead: Vec::new(), ended: false };
    opened.ahead = opened.sealed()?;
    let mut content = Zeroizing::new(Vec::new());
    let (mut words, mut key) = (None, None);
    let left = loop {
        opened.fill(&mut content, SECTION_HEAD)?;
        let head = take(&mut content, SECTION_HEAD)?;
        let head = <[u8; SECTION_HEAD]>::try_from(head.as_slice()).map_err(|_| ExportError::Damaged)?;
        match Section::parse(&head).ok_or(ExportError::Damaged)? {
            (Section::Identity, _) if words.is_none() => {
                words = Some(Mnemonic::from_entropy(*opened.take_secret(&mut content)?));
            }
            (Section::StoreKey, _) if key.is_none() => {
                key = Some(StoreKey::new(*opened.take_secret(&mut content)?));
            }
            (Section::Identity | Section::StoreKey, _) => return Err(ExportError::Damaged.into()),
            (Section::Database, len) => break len,
        }
    };
    let mut out = private_file(database)?;
    let mut left = left;
    loop {
        left = left.checked_sub(content.len() as u64).ok_or(ExportError::Damaged)?;
        out.write_all(&content).map_err(io(database))?;
        content.clear();
        if !opened.next(&mut content)? {
            break;
        }
    }
    if left != 0 {
        return Err(ExportError::Damaged.into());
    }
    out.sync_all().map_err(io(database))?;
    Ok((words, key))
}

/// The chunks of a file, one at a time. One is read ahead: which is the last is known by the end of the file.
struct Opened<'a> {
    source: File,
    path: &'a Path,
    chunks: &'a mut Chunks,
    ahead: Vec<u8>,
    ended: bool,
}

impl Opened<'_> {
    fn sealed(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut chunk = Vec::with_capacity(CHUNK + CHUNK_OVERHEAD);
        let most = (CHUNK + CHUNK_OVERHEAD) as u64;
        Read::by_ref(&mut self.source).take(most).read_to_end(&mut chunk).map_err(io(self.path))?;
        Ok(chunk)
    }

    /// Adds the next chunk's content; `false` when there is none.
    fn next(&mut self, content: &mut Vec<u8>) -> Result<bool, ClientError> {
        if self.ended {
            return Ok(false);
        }
        let ahead = self.sealed()?;
        self.ended = ahead.is_empty();
        let mut chunk = Zeroizing::new(std::mem::replace(&mut self.ahead, ahead));
        self.chunks.unseal(&mut chunk, self.ended)?;
        content.extend_from_slice(&chunk);
        Ok(true)
    }

    fn fill(&mut self, content: &mut Vec<u8>, len: usize) -> Result<(), ClientError> {
        while content.len() < len {
            if !self.next(content)? {
                return Err(ExportError::Damaged.into());
            }
        }
        Ok(())
    }

    /// The 32 bytes of a section.
    fn take_secret(&mut self, content: &mut Vec<u8>) -> Result<Zeroizing<[u8; 32]>, ClientError> {
        self.fill(content, 32)?;
        let secret = take(content, 32)?;
        let secret = secret.as_slice().try_into().map_err(|_| ExportError::Damaged)?;
        Ok(Zeroizing::new(secret))
    }
}

fn take(content: &mut Vec<u8>, len: usize) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    if content.len() < len {
        return Err(ExportError::Damaged.into());
    }
    Ok(Zeroizing::new(content.drain(..len).collect()))
}

/// A new file that only its owner reads.
fn private_file(path: &Path) -> Result<File, ClientError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(io(path))
}

fn tempfile_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    path.with_file_name(name)
}

/// Removes a file when it is dropped, with what SQLite and the lock leave beside it.
struct Removed(PathBuf);

impl Removed {
    fn keep(mut self) {
        self.0 = PathBuf::new();
    }

    fn remove(&self) {
        for suffix in SUFFIXES {
            let mut name = self.0.clone().into_os_string();
            name.push(suffix);
            // Gone already is fine, and nothing better can be done about the rest.
            let _ = std::fs::remove_file(name);
        }
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            self.remove();
        }
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ClientError {
    let path = path.to_path_buf();
    move |source| ClientError::File { path, source }
}

#[cfg(test)]
mod tests;
