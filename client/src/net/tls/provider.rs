//! The cryptography of TLS: what ring has of it, without what a device does not need (docs/adr/0016).
//!
//! Left out are ChaCha20-Poly1305 and P-384, which a server of TLS 1.3 has to do without (RFC 8446, section 9.1, makes
//! AES-128-GCM and P-256 those it must have), ring's X25519, since the library has one already, and what signs.

use std::sync::Arc;

use delta_core::entropy::Entropy;
use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, SharedSecret,
    SupportedKxGroup, WebPkiSupportedAlgorithms,
};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use rustls::{Error, NamedGroup, PeerMisbehaved, SignatureScheme};
use webpki::ring as verified;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::platform::PlatformEntropy;

/// All of it, for a client of TLS 1.3.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_256_GCM_SHA384, cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![&X25519, kx_group::SECP256R1],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &Random,
        key_provider: &NoKeys,
    }
}

/// The signatures of certificates: those of rustls' own provider.
static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        verified::ECDSA_P256_SHA256,
        verified::ECDSA_P256_SHA384,
        verified::ECDSA_P384_SHA256,
        verified::ECDSA_P384_SHA384,
        verified::ED25519,
        verified::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        verified::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        verified::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        verified::RSA_PKCS1_2048_8192_SHA256,
        verified::RSA_PKCS1_2048_8192_SHA384,
        verified::RSA_PKCS1_2048_8192_SHA512,
        verified::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
        verified::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
        verified::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    ],
    mapping: &[
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[verified::ECDSA_P384_SHA384, verified::ECDSA_P256_SHA384]),
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[verified::ECDSA_P256_SHA256, verified::ECDSA_P384_SHA256]),
        (SignatureScheme::ED25519, &[verified::ED25519]),
        (SignatureScheme::RSA_PSS_SHA512, &[verified::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA384, &[verified::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA256, &[verified::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[verified::RSA_PKCS1_2048_8192_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[verified::RSA_PKCS1_2048_8192_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[verified::RSA_PKCS1_2048_8192_SHA256]),
    ],
};

/// The platform's random source.
#[derive(Debug)]
struct Random;

impl SecureRandom for Random {
    fn fill(&self, out: &mut [u8]) -> Result<(), GetRandomFailed> {
        PlatformEntropy.fill(out).map_err(|_| GetRandomFailed)
    }
}

/// A device has no certificate. ring's own keys would bring what signs with RSA and ECDSA.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General("a device has no certificate".into()))
    }
}

/// The key exchange of RFC 8446, section 4.2.8.2, over X25519 (RFC 7748).
#[derive(Debug)]
struct X25519;

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = Zeroizing::new([0; 32]);
        PlatformEntropy.fill(&mut *secret).map_err(|_| GetRandomFailed)?;
        Ok(Box::new(Exchange::new(StaticSecret::from(*secret))))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// Of one handshake. The secret is overwritten when it is dropped.
struct Exchange {
    own: StaticSecret,
    public: PublicKey,
}

impl Exchange {
    fn new(own: StaticSecret) -> Self {
        Self { public: PublicKey::from(&own), own }
    }
}

impl ActiveKeyExchange for Exchange {
    /// A secret of zeros, which only a point of low order gives, is none (RFC 8446, section 7.4.2).
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = <[u8; 32]>::try_from(peer).map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        let shared = self.own.diffie_hellman(&PublicKey::from(peer));
        match shared.was_contributory() {
            true => Ok(SharedSecret::from(shared.as_bytes().as_slice())),
            false => Err(PeerMisbehaved::InvalidKeyShare.into()),
        }
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring;

    use super::*;

    fn bytes(text: &str) -> [u8; 32] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    /// RFC 7748, section 6.1.
    #[test]
    fn the_exchange_is_x25519() {
        let alice =
            Exchange::new(bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a").into());
        assert_eq!(
            alice.pub_key(),
            bytes("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
        );
        let bob = bytes("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        let shared = Box::new(alice).complete(&bob).unwrap();
        assert_eq!(
            shared.secret_bytes(),
            bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
        );
    }

    #[test]
    fn with_ring_it_agrees() {
        let ours = X25519.start().unwrap();
        let theirs = ring::kx_group::X25519.start().unwrap();
        let (our_key, their_key) = (ours.pub_key().to_vec(), theirs.pub_key().to_vec());
        let shared = ours.complete(&their_key).unwrap();
        assert_eq!(shared.secret_bytes(), theirs.complete(&our_key).unwrap().secret_bytes());
        assert_ne!(X25519.start().unwrap().pub_key(), our_key, "each handshake has its own key");
    }

    #[test]
    fn a_share_that_is_no_key_is_refused() {
        let wrong = |share: &[u8]| X25519.start().unwrap().complete(share).err();
        let refused = Some(Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare));
        assert_eq!(wrong(&[9; 31]), refused);
        assert_eq!(wrong(&[9; 33]), refused);
        assert_eq!(wrong(&[]), refused);
        // Of low order.
        assert_eq!(wrong(&[0; 32]), refused);
        assert_eq!(wrong(&[9; 32]), None);
    }

    /// What rustls' own provider believes, no more and no less.
    #[test]
    fn certificates_are_verified_as_by_rustls_on_ring() {
        let theirs = ring::default_provider().signature_verification_algorithms;
        let all = |of: &WebPkiSupportedAlgorithms| {
            of.all.iter().map(|one| (one.public_key_alg_id(), one.signature_alg_id())).collect::<Vec<_>>()
        };
        assert_eq!(all(&SIGNATURES), all(&theirs));
        assert_eq!(SIGNATURES.supported_schemes(), theirs.supported_schemes());
        for (ours, theirs) in SIGNATURES.mapping.iter().zip(theirs.mapping) {
            let ids = |of: &[&'static dyn rustls::pki_types::SignatureVerificationAlgorithm]| {
                of.iter().map(|one| (one.public_key_alg_id(), one.signature_alg_id())).collect::<Vec<_>>()
            };
            assert_eq!(ids(ours.1), ids(theirs.1));
        }
    }
}
