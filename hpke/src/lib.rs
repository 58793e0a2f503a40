//! HPKE (RFC 9180) in the one suite that two-party channels speak: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! ChaCha20-Poly1305.
//!
//! p2panda-encryption names hpke-rs-rust-crypto as its provider, which brings three more curves, AES-GCM, SHA-384 and a
//! second generation of RustCrypto into every app, and none of it can be switched off. This crate stands in for it by
//! name (docs/adr/0016): the same interface, made of what Delta has anyway; any other suite is an error. The schedule of
//! keys is hpke-rs's own.

use core::convert::Infallible;
use core::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hkdf::Hkdf;
use hpke_rs_crypto::error::Error;
use hpke_rs_crypto::types::{AeadAlgorithm, KdfAlgorithm, KemAlgorithm};
use hpke_rs_crypto::{HpkeCrypto, HpkeTestRng, TryCryptoRng, TryRng};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a nonce.
const NONCE: usize = 12;

/// The provider.
#[derive(Debug)]
pub struct HpkeRustCrypto;

/// Randomness of the operating system.
#[derive(Debug)]
pub struct SystemRandomness;

impl HpkeCrypto for HpkeRustCrypto {
    type HpkePrng = SystemRandomness;

    fn name() -> String {
        "Delta".to_owned()
    }

    fn supports_kdf(kdf: KdfAlgorithm) -> Result<(), Error> {
        match kdf {
            KdfAlgorithm::HkdfSha256 => Ok(()),
            KdfAlgorithm::HkdfSha384 | KdfAlgorithm::HkdfSha512 => Err(Error::UnknownKdfAlgorithm),
        }
    }

    fn supports_kem(kem: KemAlgorithm) -> Result<(), Error> {
        if matches!(kem, KemAlgorithm::DhKem25519) { Ok(()) } else { Err(Error::UnknownKemAlgorithm) }
    }

    fn supports_aead(aead: AeadAlgorithm) -> Result<(), Error> {
        if matches!(aead, AeadAlgorithm::ChaCha20Poly1305) {
            Ok(())
        } else {
            Err(Error::UnknownAeadAlgorithm)
        }
    }

    fn prng() -> Self::HpkePrng {
        SystemRandomness
    }

    fn kdf_extract(kdf: KdfAlgorithm, salt: &[u8], ikm: &[u8]) -> Result<Vec<u8>, Error> {
        Self::supports_kdf(kdf)?;
        Ok(Hkdf::<Sha256>::extract(Some(salt), ikm).0.to_vec())
    }

    fn kdf_expand(kdf: KdfAlgorithm, prk: &[u8], info: &[u8], len: usize) -> Result<Vec<u8>, Error> {
        Self::supports_kdf(kdf)?;
        let hkdf = Hkdf::<Sha256>::from_prk(prk).map_err(|_| Error::HpkeInvalidOutputLength)?;
        let mut okm = vec![0; len];
        hkdf.expand(info, &mut okm).map_err(|_| Error::HpkeInvalidOutputLength)?;
        Ok(okm)
    }

    fn dh(kem: KemAlgorithm, public: &[u8], secret: &[u8]) -> Result<Vec<u8>, Error> {
        Self::supports_kem(kem)?;
        let public: [u8; 32] = public.try_into().map_err(|_| Error::KemInvalidPublicKey)?;
        let shared = secret_key(secret)?.diffie_hellman(&PublicKey::from(public));
        // RFC 9180, section 7.1.4: all zeros is an error.
        if shared.as_bytes().ct_eq(&[0; 32]).into() {
            return Err(Error::KemInvalidPublicKey);
        }
        Ok(shared.as_bytes().to_vec())
    }

    fn secret_to_public(kem: KemAlgorithm, secret: &[u8]) -> Result<Vec<u8>, Error> {
        Self::supports_kem(kem)?;
        Ok(PublicKey::from(&secret_key(secret)?).as_bytes().to_vec())
    }

    fn kem_key_gen(kem: KemAlgorithm, _randomness: &mut Self::HpkePrng) -> Result<(Vec<u8>, Vec<u8>), Error> {
        Self::supports_kem(kem)?;
        let mut secret = Zeroizing::new([0; 32]);
        fill(&mut *secret)?;
        Ok((Self::secret_to_public(kem, &*secret)?, secret.to_vec()))
    }

    fn kem_key_gen_derand(_kem: KemAlgorithm, _seed: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
        Err(Error::UnsupportedKemOperation)
    }

    fn kem_encaps(
        _kem: KemAlgorithm,
        _public: &[u8],
        _randomness: &mut Self::HpkePrng,
    ) -> Result<(Vec<u8>, Vec<u8>), Error> {
        Err(Error::UnsupportedKemOperation)
    }

    fn kem_decaps(_kem: KemAlgorithm, _ciphertext: &[u8], _secret: &[u8]) -> Result<Vec<u8>, Error> {
        Err(Error::UnsupportedKemOperation)
    }

    fn dh_validate_sk(_kem: KemAlgorithm, _secret: &[u8]) -> Result<Vec<u8>, Error> {
        // Asked of curves on which some numbers are no keys.
        Err(Error::UnknownKemAlgorithm)
    }

    fn aead_seal(
        aead: AeadAlgorithm,
        key: &[u8],
        nonce: &[u8],
        aad: &[u8],
        msg: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let (cipher, nonce) = cipher(aead, key, nonce)?;
        let sealed = cipher.encrypt(&nonce, Payload { msg, aad });
        sealed.map_err(|_| Error::CryptoLibraryError("the text is too long".to_owned()))
    }

    fn aead_open(
        aead: AeadAlgorithm,
        key: &[u8],
        nonce: &[u8],
        aad: &[u8],
        msg: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let (cipher, nonce) = cipher(aead, key, nonce)?;
        if msg.len() < Self::aead_tag_length(aead) {
            return Err(Error::AeadInvalidCiphertext);
        }
        cipher.decrypt(&nonce, Payload { msg, aad }).map_err(|_| Error::AeadOpenError)
    }
}

fn secret_key(secret: &[u8]) -> Result<StaticSecret, Error> {
    let secret: Zeroizing<[u8; 32]> =
        Zeroizing::new(secret.try_into().map_err(|_| Error::KemInvalidSecretKey)?);
    Ok(StaticSecret::from(*secret))
}

fn cipher(aead: AeadAlgorithm, key: &[u8], nonce: &[u8]) -> Result<(ChaCha20Poly1305, Nonce), Error> {
    HpkeRustCrypto::supports_aead(aead)?;
    let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| Error::AeadInvalidNonce)?;
    let key: Zeroizing<[u8; 32]> = Zeroizing::new(
        key.try_into().map_err(|_| Error::CryptoLibraryError("a key has 32 bytes".to_owned()))?,
    );
    Ok((ChaCha20Poly1305::new(Key::from_slice(&*key)), nonce.into()))
}

#[allow(
    clippy::disallowed_methods,
    reason = "hpke-rs asks its provider for randomness; this is the one place"
)]
fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|_| Error::InsufficientRandomness)
}

/// hpke-rs knows no failure here. A system without randomness cannot go on.
fn filled<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes).expect("the system has randomness");
    bytes
}

impl TryRng for SystemRandomness {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(filled()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(filled()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        fill(bytes).expect("the system has randomness");
        Ok(())
    }
}

impl TryCryptoRng for SystemRandomness {}

impl HpkeTestRng for SystemRandomness {
    type Error = Error;

    fn try_fill_test_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        fill(bytes)
    }

    fn seed(&mut self, _seed: &[u8]) {}
}

impl Zeroize for SystemRandomness {
    fn zeroize(&mut self) {}
}

impl fmt::Display for HpkeRustCrypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Delta")
    }
}

#[cfg(test)]
mod tests {
    use hpke_rs::{Hpke, HpkePrivateKey, HpkePublicKey, Mode};

    use super::*;

    /// RFC 9180, appendix A.2.1: the receiver's key, what was sent, and the first two sealed texts.
    const SECRET: &str = "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb";
    const PUBLIC: &str = "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a";
    const SENT: &str = "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a";
    const INFO: &str = "4f6465206f6e2061204772656369616e2055726e";
    const TEXT: &str = "4265617574792069732074727574682c20747275746820626561757479";
    const SEALED: &str =
        "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28";

    fn bytes(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    fn hpke() -> Hpke<HpkeRustCrypto> {
        let (kem, kdf) = (KemAlgorithm::DhKem25519, KdfAlgorithm::HkdfSha256);
        Hpke::new(Mode::Base, kem, kdf, AeadAlgorithm::ChaCha20Poly1305)
    }

    fn open(sent: &[u8], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let key = HpkePrivateKey::new(bytes(SECRET));
        hpke().open(sent, &key, &bytes(INFO), aad, sealed, None, None, None).ok()
    }

    #[test]
    fn the_published_vector_opens_and_a_changed_one_does_not() {
        let public = HpkeRustCrypto::secret_to_public(KemAlgorithm::DhKem25519, &bytes(SECRET)).unwrap();
        assert_eq!(hex::encode(public), PUBLIC);
        let (sent, sealed) = (bytes(SENT), bytes(SEALED));
        assert_eq!(open(&sent, b"Count-0", &sealed), Some(bytes(TEXT)));
        assert_eq!(open(&sent, b"Count-1", &sealed), None);
        let mut changed = sealed.clone();
        changed[0] ^= 1;
        assert_eq!(open(&sent, b"Count-0", &changed), None);
        assert_eq!(open(&sent, b"Count-0", &sealed[..15]), None);
    }

    #[test]
    fn what_is_sealed_opens_and_twice_is_never_the_same() {
        let to = HpkePublicKey::new(bytes(PUBLIC));
        let seal = || hpke().seal(&to, &bytes(INFO), b"aad", b"text", None, None, None).unwrap();
        let ((sent, sealed), (again, _)) = (seal(), seal());
        assert_eq!(open(&sent, b"aad", &sealed).as_deref(), Some(&b"text"[..]));
        assert_ne!(sent, again);
    }

    #[test]
    fn keys_that_share_nothing_are_refused() {
        for low_order in [[0; 32], {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }] {
            let shared = HpkeRustCrypto::dh(KemAlgorithm::DhKem25519, &low_order, &bytes(SECRET));
            assert!(matches!(shared, Err(Error::KemInvalidPublicKey)), "{low_order:?}");
        }
        let short = HpkeRustCrypto::dh(KemAlgorithm::DhKem25519, &[9; 31], &bytes(SECRET));
        assert!(matches!(short, Err(Error::KemInvalidPublicKey)));
        let short = HpkeRustCrypto::dh(KemAlgorithm::DhKem25519, &[9; 32], &[1; 31]);
        assert!(matches!(short, Err(Error::KemInvalidSecretKey)));
    }

    #[test]
    fn every_other_suite_is_refused() {
        assert!(HpkeRustCrypto::dh(KemAlgorithm::DhKemP256, &[2; 33], &[1; 32]).is_err());
        assert!(HpkeRustCrypto::kdf_extract(KdfAlgorithm::HkdfSha512, &[], &[]).is_err());
        assert!(HpkeRustCrypto::aead_seal(AeadAlgorithm::Aes128Gcm, &[1; 16], &[1; 12], &[], &[]).is_err());
    }
}
