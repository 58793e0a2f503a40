//! The person behind the device, and their other devices.

use std::sync::Arc;

use delta_core::identity::{Author, Identity};
use delta_core::pairing::Pairing;

use super::Delta;
use crate::error::DeltaError;
use crate::pairing::{OwnDevice, PairingGuest, PairingHost};

#[uniffi::export]
impl Delta {
    /// Whose device this is: the person whose words certified it, or a person of its own.
    pub async fn identity(&self) -> Result<Identity, DeltaError> {
        self.on(async |client| client.identity().await).await
    }

    /// The person's devices, as far as this one has heard of them, this one included.
    pub async fn own_devices(&self) -> Result<Vec<OwnDevice>, DeltaError> {
        let devices = self.on(async |client| client.own_devices().await).await?;
        Ok(devices.into_iter().map(Into::into).collect())
    }

    /// Revokes a device (an author) of this person, for good. Conversations change their keys: those that this device may move now,
    /// the others by their managers. Refused with `not_the_identity` where the person's words are on another device,
    /// with `not_own_device` for somebody else's.
    pub async fn revoke_device(&self, author: Author) -> Result<(), DeltaError> {
        self.on(async move |client| client.revoke_device(author).await).await
    }

    /// Begins to make a further device this person's. Needs a network on both. Refused with `not_the_identity` where the
    /// person's words are on another device.
    pub async fn pair(&self) -> Result<Arc<PairingHost>, DeltaError> {
        let host = self.on(async |client| client.pair().await).await?;
        Ok(Arc::new(PairingHost::new(self.runtime.handle(), host)))
    }

    /// Asks to become a device of the person whose device shows this text. Refused with `certified` when this one is
    /// somebody's already, with `pairing` for another text.
    pub async fn join(&self, text: String) -> Result<Arc<PairingGuest>, DeltaError> {
        let pairing = Pairing::parse(text.trim()).map_err(|error| DeltaError::argument("pairing", error))?;
        let guest = self.on(async move |client| client.join(pairing).await).await?;
        Ok(Arc::new(PairingGuest::new(self.runtime.handle(), guest)))
    }
}
