//! A person: the words they write down, and the address others know them by.

use delta_client::{ClientError, PlatformEntropy, store_identity, stored_identity};
use delta_core::identity::{Identity, Mnemonic};
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::error::DeltaError;
use crate::keystore::{Adapter, Keystore};

/// 24 fresh words (BIP-39) that stand for a person. Whoever has them is that person: show them once, keep them nowhere.
#[uniffi::export]
pub fn generate_mnemonic() -> Result<String, DeltaError> {
    let mnemonic = Mnemonic::generate(&mut PlatformEntropy).map_err(ClientError::from)?;
    Ok(mnemonic.words().to_string())
}

/// Keeps a person's words in the keystore: a device whose key is made from now on is certified by them, one that exists
/// stays as it is. The keystore is called on the caller's thread. Refused with `mnemonic`: the reason names the word.
#[uniffi::export]
pub fn import_mnemonic(keystore: Arc<dyn Keystore>, words: String) -> Result<(), DeltaError> {
    let mnemonic = mnemonic(words)?;
    store_identity(&Adapter(keystore), &mnemonic).map_err(|error| ClientError::from(error).into())
}

/// The words the keystore has, to be shown once more; nothing where a person's words were never put. The keystore is
/// called on the caller's thread.
#[uniffi::export]
pub fn stored_mnemonic(keystore: Arc<dyn Keystore>) -> Result<Option<String>, DeltaError> {
    let stored = stored_identity(&Adapter(keystore)).map_err(ClientError::from)?;
    Ok(stored.map(|mnemonic| mnemonic.words().to_string()))
}

/// The identity that a person's words stand for. Refused with `mnemonic`.
#[uniffi::export]
pub fn mnemonic_identity(words: String) -> Result<Identity, DeltaError> {
    Ok(mnemonic(words)?.identity_key().identity())
}

/// An identity's public address: `pk:` and the key in z-base-32, as pkarr writes it.
#[uniffi::export]
pub fn identity_address(identity: Identity) -> String {
    identity.address()
}

/// The identity an address names. Blanks around it come with copying; anything else but the one canonical text of a
/// usable key is refused with the code `address`.
#[uniffi::export]
pub fn parse_address(address: String) -> Result<Identity, DeltaError> {
    Identity::from_address(address.trim()).map_err(|error| DeltaError::argument("address", error))
}

pub(crate) fn mnemonic(words: String) -> Result<Mnemonic, DeltaError> {
    let words = Zeroizing::new(words);
    words.parse().map_err(|error| DeltaError::argument("mnemonic", error))
}
