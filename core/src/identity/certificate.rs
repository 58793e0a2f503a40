//! Device certificates: an identity says that a device is one of its own.
//!
//! `identity_vk[32] | device_vk[32] | created_ms u64 | sig[64]`, signed by the identity over "delta:device:v1" and the
//! three fields. It stands in the header extension (key 1) of the first operation of every log of the device.

use ed25519_dalek::{Signature, VerifyingKey};
use thiserror::Error;

use super::{Author, Identity, IdentityKey, Millis};
use crate::codec::{DecodeError, Reader};

/// An identity's word for one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Who says it.
    pub identity: Identity,
    /// For which device.
    pub device: Author,
    /// When, by the identity's clock. Display data.
    pub created: Millis,
    signature: [u8; 64],
}

/// A certificate does not hold. Whoever shows it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// The bytes do not have a certificate's form.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The identity did not sign it (strictly), or is no key.
    #[error("the identity did not sign this device certificate")]
    Signature,
    /// It certifies another device than the one that shows it.
    #[error("the device certificate is another device's")]
    OtherDevice,
}

const CONTEXT: &[u8] = b"delta:device:v1";

impl Certificate {
    /// Length in bytes.
    pub const LEN: usize = 32 + 32 + 8 + 64;

    /// Certifies a device.
    pub fn sign(key: &IdentityKey, device: Author, created: Millis) -> Self {
        let identity = key.identity();
        let signature = key.sign(&message(&identity, &device, created));
        Self { identity, device, created, signature }
    }

    /// Whether the identity signed it for `device`. Strict verification.
    pub fn verify(&self, device: &Author) -> Result<(), CertificateError> {
        if self.device != *device {
            return Err(CertificateError::OtherDevice);
        }
        let key = VerifyingKey::from_bytes(&self.identity.0).map_err(|_| CertificateError::Signature)?;
        let message = message(&self.identity, &self.device, self.created);
        key.verify_strict(&message, &Signature::from_bytes(&self.signature))
            .map_err(|_| CertificateError::Signature)
    }

    /// The encoded form.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let fields = [&self.identity.0[..], &self.device.0, &self.created.0.to_be_bytes(), &self.signature];
        for (to, from) in out.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        out
    }

    /// Reads the encoded form, without checking the signature.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CertificateError> {
        let mut reader = Reader::new(bytes);
        let identity = Identity(reader.array("identity_vk")?);
        let device = Author(reader.array("device_vk")?);
        let created = Millis(reader.u64("created_ms")?);
        let signature = reader.array("sig")?;
        reader.finish()?;
        Ok(Self { identity, device, created, signature })
    }
}

fn message(identity: &Identity, device: &Author, created: Millis) -> Vec<u8> {
    [CONTEXT, &identity.0, &device.0, &created.0.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_holds_only_as_signed() {
        let key = IdentityKey::from_seed(&[1; 32]);
        let device = Author([2; 32]);
        let certificate = Certificate::sign(&key, device, Millis(3));
        assert_eq!(Certificate::from_bytes(&certificate.to_bytes()), Ok(certificate));
        assert_eq!(certificate.verify(&device), Ok(()));
        assert_eq!(certificate.verify(&Author([9; 32])), Err(CertificateError::OtherDevice));
        let bytes = certificate.to_bytes();
        for place in 0..bytes.len() {
            let mut changed = bytes;
            changed[place] ^= 1;
            let changed = Certificate::from_bytes(&changed).unwrap();
            assert!(changed.verify(&device).is_err(), "byte {place}");
            // As if it were shown by the device it now names.
            assert_eq!(changed.verify(&changed.device), Err(CertificateError::Signature), "byte {place}");
        }
        assert!(Certificate::from_bytes(&bytes[..Certificate::LEN - 1]).is_err());
        assert!(Certificate::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }
}
