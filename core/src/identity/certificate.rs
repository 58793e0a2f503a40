//! What an identity says about its devices: that one is its own ([`Certificate`]), and that it no longer is
//! ([`Revocation`]).
//!
//! `identity_vk[32] | device_vk[32] | created_ms u64 | sig[64]`, signed by the identity over a context and the three
//! fields. A certificate stands in the header extension (key 1) of the first operation of every log of the device, and
//! where a space is told of a device.

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

/// An identity's word against one device: lost, stolen, given away. It is for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Who says it.
    pub identity: Identity,
    /// Of which device.
    pub device: Author,
    /// When, by the identity's clock. Display data; and a device takes no notice of what a space says of before it was
    /// certified, by the same clock.
    pub revoked: Millis,
    signature: [u8; 64],
}

/// What an identity is said to have signed about a device does not hold. Whoever shows it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// The bytes do not have the form.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The identity did not sign it (strictly), or is no key.
    #[error("the identity did not sign this about the device")]
    Signature,
    /// It certifies another device than the one that shows it.
    #[error("the device certificate is another device's")]
    OtherDevice,
}

const CERTIFIES: &[u8] = b"delta:device:v1";
const REVOKES: &[u8] = b"delta:device-revoke:v1";

impl Certificate {
    /// Length in bytes.
    pub const LEN: usize = 32 + 32 + 8 + 64;

    /// Certifies a device.
    pub fn sign(key: &IdentityKey, device: Author, created: Millis) -> Self {
        let identity = key.identity();
        let signature = key.sign(&message(CERTIFIES, &identity, &device, created));
        Self { identity, device, created, signature }
    }

    /// Whether the identity signed it for `device`. Strict verification.
    pub fn verify(&self, device: &Author) -> Result<(), CertificateError> {
        if self.device != *device {
            return Err(CertificateError::OtherDevice);
        }
        let message = message(CERTIFIES, &self.identity, &self.device, self.created);
        verify(&self.identity, &message, &self.signature)
    }

    /// The encoded form.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        encode(&self.identity, &self.device, self.created, &self.signature)
    }

    /// Reads the encoded form, without checking the signature.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CertificateError> {
        let (identity, device, created, signature) = decode(bytes)?;
        Ok(Self { identity, device, created, signature })
    }
}

impl Revocation {
    /// Length in bytes.
    pub const LEN: usize = Certificate::LEN;

    /// Revokes a device.
    pub fn sign(key: &IdentityKey, device: Author, revoked: Millis) -> Self {
        let identity = key.identity();
        let signature = key.sign(&message(REVOKES, &identity, &device, revoked));
        Self { identity, device, revoked, signature }
    }

    /// Whether the identity it names signed it. Strict verification.
    pub fn verify(&self) -> Result<(), CertificateError> {
        let message = message(REVOKES, &self.identity, &self.device, self.revoked);
        verify(&self.identity, &message, &self.signature)
    }

    /// The encoded form.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        encode(&self.identity, &self.device, self.revoked, &self.signature)
    }

    /// Reads the encoded form, without checking the signature.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CertificateError> {
        let (identity, device, revoked, signature) = decode(bytes)?;
        Ok(Self { identity, device, revoked, signature })
    }
}

fn message(context: &[u8], identity: &Identity, device: &Author, at: Millis) -> Vec<u8> {
    [context, &identity.0, &device.0, &at.0.to_be_bytes()].concat()
}

fn verify(identity: &Identity, message: &[u8], signature: &[u8; 64]) -> Result<(), CertificateError> {
    let key = VerifyingKey::from_bytes(&identity.0).map_err(|_| CertificateError::Signature)?;
    key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| CertificateError::Signature)
}

fn encode(identity: &Identity, device: &Author, at: Millis, signature: &[u8; 64]) -> [u8; Certificate::LEN] {
    let mut out = [0; Certificate::LEN];
    let fields = [&identity.0[..], &device.0, &at.0.to_be_bytes(), signature];
    for (to, from) in out.iter_mut().zip(fields.into_iter().flatten()) {
        *to = *from;
    }
    out
}

fn decode(bytes: &[u8]) -> Result<(Identity, Author, Millis, [u8; 64]), CertificateError> {
    let mut reader = Reader::new(bytes);
    let identity = Identity(reader.array("identity_vk")?);
    let device = Author(reader.array("device_vk")?);
    let at = Millis(reader.u64("created_ms")?);
    let signature = reader.array("sig")?;
    reader.finish()?;
    Ok((identity, device, at, signature))
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

    #[test]
    fn a_revocation_holds_only_as_signed_and_is_no_certificate() {
        let key = IdentityKey::from_seed(&[1; 32]);
        let device = Author([2; 32]);
        let revocation = Revocation::sign(&key, device, Millis(3));
        let bytes = revocation.to_bytes();
        assert_eq!(Revocation::from_bytes(&bytes), Ok(revocation));
        assert_eq!(revocation.verify(), Ok(()));
        for place in 0..bytes.len() {
            let mut changed = bytes;
            changed[place] ^= 1;
            let changed = Revocation::from_bytes(&changed).unwrap();
            assert_eq!(changed.verify(), Err(CertificateError::Signature), "byte {place}");
        }
        // One says the opposite of the other, over the same fields.
        let as_certificate = Certificate::from_bytes(&bytes).unwrap();
        assert_eq!(as_certificate.verify(&device), Err(CertificateError::Signature));
        let certificate = Certificate::sign(&key, device, Millis(3)).to_bytes();
        assert_eq!(Revocation::from_bytes(&certificate).unwrap().verify(), Err(CertificateError::Signature));
        assert!(Revocation::from_bytes(&bytes[..Revocation::LEN - 1]).is_err());
    }
}
