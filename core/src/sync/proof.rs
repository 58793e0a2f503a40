//! Proofs of a key to a server that asks for one: to read a topic, or to learn how many listen to it.
//!
//! `sig = Ed25519(key, context | server id | topic_id | nonce)`. The context keeps the purposes apart, the server's
//! id keeps a proof from working elsewhere, the nonce from working later.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::identity::NodeId;
use crate::topic::TopicId;

/// The key that readers of a topic must prove where a server asks for it: an Ed25519 seed. Handle like a password.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ReadKey([u8; 32]);

impl ReadKey {
    /// From the Ed25519 seed (RFC 8032).
    pub const fn from_seed(seed: [u8; 32]) -> Self {
        Self(seed)
    }

    /// The seed.
    pub const fn seed(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public half, which a control message names to the server.
    pub fn verifying_key(&self) -> [u8; 32] {
        self.signing_key().verifying_key().to_bytes()
    }

    /// The key that signs proofs.
    pub fn signing_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.0)
    }
}

impl std::fmt::Debug for ReadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadKey(..)")
    }
}

/// What a proof is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Reading the topic; with the topic's read key.
    Read,
    /// The number of subscribers; with the topic's write key.
    Count,
}

impl Purpose {
    const fn context(self) -> &'static [u8] {
        match self {
            Self::Read => b"delta:read:v1",
            Self::Count => b"delta:count:v1",
        }
    }

    fn message(self, server: &NodeId, topic: &TopicId, nonce: &[u8; 32]) -> Vec<u8> {
        [self.context(), &server.0, &topic.0, nonce].concat()
    }

    /// Proves a key.
    pub fn prove(self, key: &SigningKey, server: &NodeId, topic: &TopicId, nonce: &[u8; 32]) -> [u8; 64] {
        key.sign(&self.message(server, topic, nonce)).to_bytes()
    }

    /// Whether the proof was made with the secret half of `key`. Strict verification.
    pub fn verify(
        self,
        key: &[u8; 32],
        server: &NodeId,
        topic: &TopicId,
        nonce: &[u8; 32],
        proof: &[u8; 64],
    ) -> bool {
        VerifyingKey::from_bytes(key).is_ok_and(|key| {
            let message = self.message(server, topic, nonce);
            key.verify_strict(&message, &Signature::from_bytes(proof)).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_for_one_key_purpose_server_topic_and_nonce() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let public = key.verifying_key().to_bytes();
        let (server, topic, nonce) = (NodeId([2; 32]), TopicId([3; 32]), [4; 32]);
        let proof = Purpose::Read.prove(&key, &server, &topic, &nonce);
        let message = [&b"delta:read:v1"[..], &[2; 32], &[3; 32], &[4; 32]].concat();
        assert_eq!(proof, key.sign(&message).to_bytes());
        assert!(Purpose::Read.verify(&public, &server, &topic, &nonce, &proof));
        let other = SigningKey::from_bytes(&[9; 32]).verifying_key().to_bytes();
        assert!(!Purpose::Read.verify(&other, &server, &topic, &nonce, &proof));
        assert!(!Purpose::Count.verify(&public, &server, &topic, &nonce, &proof));
        assert!(!Purpose::Read.verify(&public, &NodeId([9; 32]), &topic, &nonce, &proof));
        assert!(!Purpose::Read.verify(&public, &server, &TopicId([9; 32]), &nonce, &proof));
        assert!(!Purpose::Read.verify(&public, &server, &topic, &[9; 32], &proof));
    }
}
