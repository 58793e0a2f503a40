//! The app's keystore: where the device's key lives.

use std::fmt;
use std::sync::Arc;

use delta_client::{KeyStore, KeyStoreError};
use zeroize::Zeroizing;

/// Keeps secrets: the Android Keystore, the iOS Keychain, a file only the user can read. Items are small and written
/// whole, and must not travel with a backup or to another device. Called from a thread of its own; it may take its time.
#[uniffi::export(foreign)]
pub trait Keystore: Send + Sync {
    /// The item's value; nothing when there is none.
    fn get(&self, item: String) -> Result<Option<Vec<u8>>, KeystoreError>;
    /// Writes an item; when this returns it is there for good.
    fn put(&self, item: String, value: Vec<u8>) -> Result<(), KeystoreError>;
    /// Removes an item; one that is gone already is fine.
    fn delete(&self, item: String) -> Result<(), KeystoreError>;
}

/// Why a keystore gives nothing.
#[derive(Debug, thiserror::Error, uniffi::Error)]
pub enum KeystoreError {
    /// Not now: the device is locked, or the user said no. What is queued stays queued; try again when it is unlocked.
    #[error("the keystore denies access: {reason}")]
    Denied {
        /// For people.
        reason: String,
    },
    /// It cannot be used.
    #[error("the keystore failed: {reason}")]
    Failed {
        /// For people.
        reason: String,
    },
}

/// Whatever else a keystore throws.
impl From<uniffi::UnexpectedUniFFICallbackError> for KeystoreError {
    fn from(error: uniffi::UnexpectedUniFFICallbackError) -> Self {
        Self::Failed { reason: error.reason }
    }
}

impl From<KeystoreError> for KeyStoreError {
    fn from(error: KeystoreError) -> Self {
        match error {
            KeystoreError::Denied { reason } => {
                tracing::info!(%reason, "the keystore denies access");
                Self::Denied
            }
            KeystoreError::Failed { reason } => Self::Failed(reason),
        }
    }
}

/// The app's keystore as the client knows it.
pub(crate) struct Adapter(pub(crate) Arc<dyn Keystore>);

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Adapter")
    }
}

impl KeyStore for Adapter {
    fn get(&self, item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyStoreError> {
        Ok(self.0.get(item.to_owned())?.map(Zeroizing::new))
    }

    fn put(&self, item: &str, value: &[u8]) -> Result<(), KeyStoreError> {
        Ok(self.0.put(item.to_owned(), value.to_vec())?)
    }

    fn delete(&self, item: &str) -> Result<(), KeyStoreError> {
        Ok(self.0.delete(item.to_owned())?)
    }
}
