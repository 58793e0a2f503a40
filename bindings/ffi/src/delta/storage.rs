//! What lies on the device, and how it gets off it.

use std::time::SystemTime;

use delta_core::topic::TopicId;

use super::Delta;
use crate::error::DeltaError;
use crate::held::{Statistics, StorageUse};
use crate::identity;
use crate::message::millis;

#[uniffi::export]
impl Delta {
    /// What the device holds.
    pub async fn statistics(&self) -> Result<Statistics, DeltaError> {
        Ok(self.on(async |client| client.statistics().await).await?.into())
    }

    /// What the database takes, conversation by conversation, the largest first. Reads every operation's length: for a
    /// settings page, not for every frame.
    pub async fn storage_use(&self) -> Result<StorageUse, DeltaError> {
        self.on(async |client| client.storage_use().await).await.map(Into::into)
    }

    /// Erases a topic's messages that a server received before this instant from this device, with what was said about
    /// them, and says how many there were. Others keep them; they do not come back here. A call that is cancelled leaves
    /// the rest: calling again goes on.
    pub async fn prune(&self, topic: TopicId, before: SystemTime) -> Result<u64, DeltaError> {
        let before = millis(before);
        self.on(async move |client| client.prune(topic, before).await).await
    }

    /// Removes a topic's conversation from this device, a space with its rooms: keys, messages, what was queued. Others
    /// keep what they have and hear nothing of it: leave a space first. Opened again from its ticket, it is read again.
    /// Refused with `room_of_space` for a room, and with `own_topic_stays` for what the person's devices share.
    pub async fn wipe_topic(&self, topic: TopicId) -> Result<(), DeltaError> {
        self.on(async move |client| client.wipe_topic(topic).await).await
    }

    /// Closes the object and removes everything: the device's key and the person's words from the keystore, then the
    /// database. Should it fail in the middle, call it again.
    pub async fn wipe(&self) -> Result<(), DeltaError> {
        let wiped = self.on(async |client| client.wipe().await).await;
        self.logged.end();
        wiped
    }

    /// What a notification extension needs to open what pushes bring ([`decrypt_push`](crate::decrypt_push)): write it to
    /// a file that the extension can read, again whenever the app goes to the background. It has keys to read topics
    /// with, sealed with a key of the keystore's (item `delta.push`).
    pub async fn key_snapshot(&self) -> Result<Vec<u8>, DeltaError> {
        self.on(async |client| client.key_snapshot().await).await
    }

    /// Writes the database as it is now, with a person's words if they are passed, into a new file that the passphrase
    /// opens. Device keys are not in it. Takes a second for the passphrase; an existing file is not written over:
    /// refused with `io`.
    #[uniffi::method(default(words = None))]
    pub async fn export(
        &self,
        path: String,
        passphrase: String,
        words: Option<String>,
    ) -> Result<(), DeltaError> {
        let words = words.map(identity::mnemonic).transpose()?;
        self.on(async move |client| client.export(path, passphrase, words).await).await
    }
}
