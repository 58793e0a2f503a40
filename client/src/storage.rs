//! What lies on the device, and how it goes.

use std::path::Path;

use delta_core::engine::{Command, Reply};
use delta_core::identity::Millis;
use delta_core::store::{StorageUse, sweep};
use delta_core::topic::TopicId;

use crate::apart::blocking;
use crate::client::{Client, unexpected};
use crate::error::ClientError;
use crate::keystore::{DATABASE_ITEM, DEVICE_ITEM, DeviceSource, IDENTITY_ITEM};
use crate::push::PUSH_ITEM;

/// What belongs to a database, by what its name ends with. The lock goes last: it keeps others out meanwhile.
pub(crate) const SUFFIXES: [&str; 5] = ["", "-journal", "-wal", "-shm", ".lock"];

impl Client {
    /// What the device holds, conversation by conversation. Reads every operation's length.
    pub async fn storage_use(&self) -> Result<StorageUse, ClientError> {
        self.read(|reader| reader.storage_use()).await
    }

    /// Erases a topic's messages that a server received before this instant from this device, with what was said about
    /// them; gives how many there were. Others keep them. They do not come back, also when the server sends them again.
    ///
    /// Done in steps with room for others between: a future that is dropped leaves the rest; calling again goes on.
    pub async fn prune(&self, topic: TopicId, before: Millis) -> Result<u64, ClientError> {
        let (mut at, mut messages) = (None, 0);
        loop {
            match self.command(Command::Prune { topic, before, at }).await? {
                Reply::Pruned(pruned) => {
                    messages += pruned.messages.len() as u64;
                    at = pruned.next;
                }
                other => return Err(unexpected(&other)),
            }
            if at.is_none() {
                return Ok(messages);
            }
        }
    }

    /// Removes a topic's conversation from this device, a space with its rooms: keys, messages, what was queued. Others
    /// keep what they have, and hear nothing of it. Opened again from its ticket, it is read again from the server.
    ///
    /// # Errors
    /// `room_of_space` for a room: it goes with its space.
    pub async fn wipe_topic(&self, topic: TopicId) -> Result<(), ClientError> {
        self.command(Command::Wipe { topic }).await.map(drop)
    }

    /// Closes the client and removes everything: the device's key and the person's words from the keystore, then the
    /// database, then its key. Should it fail in the middle, call it again.
    pub async fn wipe(&self) -> Result<(), ClientError> {
        // Whatever stopped it before does not keep it from going.
        drop(self.close().await);
        let (path, device) = (self.shared.path.clone(), self.shared.device.clone());
        let remove = move || {
            let forget = |items: &[&str]| match &device {
                DeviceSource::KeyStore(keystore) => items.iter().try_for_each(|item| keystore.delete(item)),
                DeviceSource::Key(_) => Ok(()),
            };
            let (lock, files) = SUFFIXES.split_last().unzip();
            forget(&[DEVICE_ITEM, IDENTITY_ITEM, PUSH_ITEM])?;
            files.into_iter().flatten().try_for_each(|suffix| remove_file(&path, suffix))?;
            sweep(&path);
            // After the database: one that is there while its key is not opens for nobody, and nobody could go on here.
            forget(&[DATABASE_ITEM])?;
            lock.map_or(Ok(()), |suffix| remove_file(&path, suffix))
        };
        blocking(remove).await
    }
}

fn remove_file(database: &Path, suffix: &str) -> Result<(), ClientError> {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(ClientError::File { path: path.into(), source })
        }
        _ => Ok(()),
    }
}
