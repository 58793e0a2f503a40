//! A person's identity: the Ed25519 key that certifies devices, and the address others know it by.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
#[cfg(feature = "device")]
use thiserror::Error;

use super::Identity;

/// The private half of an identity. It certifies devices and signs nothing else. Wiped on drop, never printed.
#[derive(Clone)]
pub struct IdentityKey(SigningKey);

impl IdentityKey {
    /// From the Ed25519 seed (RFC 8032).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The Ed25519 seed; handle like a password.
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public half: who this is.
    pub fn identity(&self) -> Identity {
        Identity(self.0.verifying_key().to_bytes())
    }

    /// Signs; the message begins with a context of its own.
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey(..)")
    }
}

/// What every address begins with.
#[cfg(feature = "device")]
const PREFIX: &str = "pk:";
/// Letters of 32 bytes in z-base-32.
#[cfg(feature = "device")]
const LETTERS: usize = 52;

#[cfg(feature = "device")]
impl Identity {
    /// The public address: `pk:` and the key in z-base-32.
    pub fn address(&self) -> String {
        format!("{PREFIX}{}", z32::encode(&self.0))
    }

    /// Reads an address. Nothing but the one canonical text of a usable key is accepted.
    pub fn from_address(text: &str) -> Result<Self, AddressError> {
        let letters = text.strip_prefix(PREFIX).ok_or(AddressError::Prefix)?;
        if letters.len() != LETTERS {
            return Err(AddressError::Length { found: letters.len() });
        }
        let bytes = z32::decode(letters.as_bytes()).map_err(|_| AddressError::Alphabet)?;
        // The last letter carries four bits beyond the last byte; z32 drops them.
        if z32::encode(&bytes) != letters {
            return Err(AddressError::UnusedBits);
        }
        let key = bytes.try_into().map_err(|_| AddressError::Alphabet)?;
        match ed25519_dalek::VerifyingKey::from_bytes(&key) {
            Ok(point) if !point.is_weak() => Ok(Self(key)),
            _ => Err(AddressError::Key),
        }
    }
}

/// A text is no address. Whoever gave it is at fault.
#[cfg(feature = "device")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// It does not begin with `pk:`.
    #[error("an address begins with `pk:`")]
    Prefix,
    /// Not as long as every address is.
    #[error("after `pk:` an address has {LETTERS} letters, this one has {found} bytes")]
    Length {
        /// Its length in bytes, without `pk:`.
        found: usize,
    },
    /// A letter outside lower-case z-base-32.
    #[error("an address consists of lower-case z-base-32 letters only")]
    Alphabet,
    /// The last letter carries bits that stand for nothing.
    #[error("the address's last letter has unused bits set")]
    UnusedBits,
    /// Not a key anyone can have.
    #[error("the address is not that of an Ed25519 key")]
    Key,
}

#[cfg(all(test, feature = "device"))]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_its_one_spelling() {
        let identity = IdentityKey::from_seed(&[7; 32]).identity();
        let address = identity.address();
        assert_eq!(Identity::from_address(&address), Ok(identity));
        let letters = &address[3..];
        assert_eq!(Identity::from_address(letters), Err(AddressError::Prefix));
        assert_eq!(Identity::from_address("pk:"), Err(AddressError::Length { found: 0 }));
        assert_eq!(Identity::from_address(&format!("{address}y")), Err(AddressError::Length { found: 53 }));
        let upper = format!("pk:{}", letters.to_uppercase());
        assert_eq!(Identity::from_address(&upper), Err(AddressError::Alphabet));
        let multibyte = format!("pk:{}é", &letters[..50]);
        assert_eq!(Identity::from_address(&multibyte), Err(AddressError::Alphabet));
        let (head, last) = address.split_at(address.len() - 1);
        // Of the last letter's five bits only the first counts.
        let other = if last == "y" { "b" } else { "9" };
        assert_eq!(Identity::from_address(&format!("{head}{other}")), Err(AddressError::UnusedBits));
        assert_eq!(Identity::from_address(&Identity([0; 32]).address()), Err(AddressError::Key), "low order");
    }
}
