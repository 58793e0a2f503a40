//! Topics: where a conversation lives on a server, who may write to it, and how its log is counted.
//!
//! A topic id commits to its write key, so a server can check a write without knowing any member. The chain
//! commits a log's whole order, so a server that tells two stories is found out.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::identity::{EnvelopeHash, bytes_id};

bytes_id!(
    /// Name of a topic on a server: BLAKE3-derive-key("delta topic id v1", write_vk).
    TopicId,
    32
);

bytes_id!(
    /// The verifying half of a topic's write key (Ed25519).
    WriteVerifyingKey,
    32
);

bytes_id!(
    /// Names one server's copy of a topic log. A wiped or restored server has another.
    Generation,
    16
);

bytes_id!(
    /// The chain value of a topic log up to some seq (see [`Chain::next`]).
    Chain,
    32
);

/// The server's order within a topic: 1, 2, 3 … without holes. 0 stands for "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// Largest seq there can be (SQLite's and JSON's integers are signed).
    pub const MAX: Self = Self(i64::MAX as u64);

    /// The seq after this one; `None` past [`Seq::MAX`].
    pub const fn next(self) -> Option<Self> {
        if self.0 < Self::MAX.0 { Some(Self(self.0 + 1)) } else { None }
    }

    /// The seq before this one, at least 0.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TopicId {
    /// The topic a write key writes to.
    pub fn of(key: &WriteVerifyingKey) -> Self {
        Self(blake3::derive_key("delta topic id v1", &key.0))
    }
}

impl Chain {
    /// Chain₀ of a topic's log in a generation.
    pub fn start(topic: &TopicId, generation: &Generation) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CHAIN_CONTEXT);
        hasher.update(&topic.0).update(&generation.0);
        Self(*hasher.finalize().as_bytes())
    }

    /// Chainₙ = BLAKE3-derive-key("delta topic chain v1", chainₙ₋₁ | seq u64 | BLAKE3(op)).
    #[must_use]
    pub fn next(&self, seq: Seq, op: &EnvelopeHash) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CHAIN_CONTEXT);
        hasher.update(&self.0).update(&seq.0.to_be_bytes()).update(&op.0);
        Self(*hasher.finalize().as_bytes())
    }

    /// The first 8 bytes: what a client shows the server when it reconnects.
    pub fn prefix(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }
}

const CHAIN_CONTEXT: &str = "delta topic chain v1";

/// A server's signed claim: this topic's log in this generation ends at `head` with `chain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// The last seq the claim covers.
    pub head: Seq,
    /// The chain value at `head`.
    pub chain: Chain,
    /// Ed25519 by the server's identity key over "delta:head:v1" | topic | generation | head | chain.
    pub signature: [u8; 64],
}

impl SignedHead {
    /// Signs a head with the server's identity key.
    pub fn sign(key: &SigningKey, topic: &TopicId, generation: &Generation, head: Seq, chain: Chain) -> Self {
        let signature = key.sign(&head_message(topic, generation, head, &chain)).to_bytes();
        Self { head, chain, signature }
    }

    /// Whether `server` signed this head. Strict verification.
    pub fn verify(&self, server: &VerifyingKey, topic: &TopicId, generation: &Generation) -> bool {
        let message = head_message(topic, generation, self.head, &self.chain);
        server.verify_strict(&message, &Signature::from_bytes(&self.signature)).is_ok()
    }
}

fn head_message(topic: &TopicId, generation: &Generation, head: Seq, chain: &Chain) -> Vec<u8> {
    [b"delta:head:v1".as_slice(), &topic.0, &generation.0, &head.0.to_be_bytes(), &chain.0].concat()
}

/// A topic's write key: whoever holds it may write, and writes are anonymous among the holders.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct WriteKey {
    seed: [u8; 32],
}

impl WriteKey {
    /// From the Ed25519 seed (RFC 8032).
    pub const fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed }
    }

    /// The Ed25519 seed; handle like a password.
    pub const fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public half.
    pub fn verifying_key(&self) -> WriteVerifyingKey {
        WriteVerifyingKey(self.signing_key().verifying_key().to_bytes())
    }

    /// The topic this key writes to.
    pub fn topic(&self) -> TopicId {
        TopicId::of(&self.verifying_key())
    }

    /// The key that signs deliveries.
    pub fn signing_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.seed)
    }
}

impl fmt::Debug for WriteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seq_ends_at_the_largest_signed_integer() {
        assert_eq!(Seq(0).next(), Some(Seq(1)));
        assert_eq!(Seq::MAX.next(), None);
        assert_eq!(Seq(u64::MAX).next(), None);
        assert_eq!(Seq(0).previous(), Seq(0));
    }

    #[test]
    fn a_head_verifies_only_as_signed() {
        let server = SigningKey::from_bytes(&[1; 32]);
        let (topic, generation) = (TopicId([2; 32]), Generation([3; 16]));
        let chain = Chain::start(&topic, &generation).next(Seq(1), &EnvelopeHash::of(b"op"));
        let head = SignedHead::sign(&server, &topic, &generation, Seq(1), chain);
        let key = server.verifying_key();
        assert!(head.verify(&key, &topic, &generation));
        assert!(!head.verify(&key, &TopicId([9; 32]), &generation));
        assert!(!head.verify(&key, &topic, &Generation([9; 16])));
        assert!(!SignedHead { head: Seq(2), ..head }.verify(&key, &topic, &generation));
        assert!(!head.verify(&SigningKey::from_bytes(&[9; 32]).verifying_key(), &topic, &generation));
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", WriteKey::from_seed([0x41; 32])), "WriteKey(..)");
    }
}
