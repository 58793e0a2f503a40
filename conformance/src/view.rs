//! What a client knows of a log while it follows it: order, chain and signed heads (`docs/wire.md` sections 2 and 9).

use ed25519_dalek::{Signature, VerifyingKey};

use crate::failure::{Checked, Failure, ensure, equal};
use crate::frame::{Head, Item};

/// Chain_0 of a topic in a generation.
pub fn chain_start(topic: &[u8; 32], generation: &[u8; 16]) -> [u8; 32] {
    blake3::derive_key("delta topic chain v1", &[topic.as_slice(), generation].concat())
}

/// Chain_n after chain_{n−1} and the operation at n.
pub fn chain_next(chain: &[u8; 32], seq: u64, op: &[u8]) -> [u8; 32] {
    let hash = *blake3::hash(op).as_bytes();
    blake3::derive_key("delta topic chain v1", &[chain.as_slice(), &seq.to_be_bytes(), &hash].concat())
}

/// A place in a log and the chain there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The topic.
    pub topic: [u8; 32],
    /// The log's generation.
    pub generation: [u8; 16],
    /// The last seq seen.
    pub seq: u64,
    /// The chain there.
    pub chain: [u8; 32],
}

impl View {
    /// Before the first operation.
    pub fn start(topic: [u8; 32], generation: [u8; 16]) -> Self {
        Self { topic, generation, seq: 0, chain: chain_start(&topic, &generation) }
    }

    /// The first 8 bytes of the chain, in hex: what a client shows when it reconnects.
    pub fn prefix(&self) -> String {
        hex::encode(&self.chain[..8])
    }

    /// Takes operations, which must follow without a hole.
    pub fn extend(&mut self, items: &[Item]) -> Checked {
        for item in items {
            equal("the seq that follows the last one", &item.seq, &(self.seq + 1))?;
            self.chain = chain_next(&self.chain, item.seq, &item.op);
            self.seq = item.seq;
        }
        Ok(())
    }

    /// Passes over operations that were evicted: first and last seq, and the chain at the last.
    pub fn skip(&mut self, (from, to, chain): (u64, u64, [u8; 32])) -> Checked {
        equal("gap.from", &from, &(self.seq + 1))?;
        ensure(to >= from, "gap.to", format!("at least {from}"), to.to_string())?;
        (self.seq, self.chain) = (to, chain);
        Ok(())
    }

    /// Demands that `server` signed this very head.
    pub fn check(&self, what: &str, server: &VerifyingKey, head: &Head) -> Checked {
        equal(format!("{what}.head"), &head.head, &self.seq)?;
        equal(format!("{what}.chain"), &hex::encode(head.chain), &hex::encode(self.chain))?;
        if let Some(generation) = head.generation {
            equal(format!("{what}.generation"), &hex::encode(generation), &hex::encode(self.generation))?;
        }
        let message = [
            b"delta:head:v1".as_slice(),
            &self.topic,
            &self.generation,
            &head.head.to_be_bytes(),
            &head.chain,
        ]
        .concat();
        let signature = Signature::from_bytes(&head.signature);
        let holds = server.verify_strict(&message, &signature).is_ok();
        ensure(holds, format!("{what}.sig"), "the node key's signature over the head", "another one")
    }
}

/// Reads an Ed25519 public key.
pub fn verifying_key(bytes: &[u8; 32]) -> Checked<VerifyingKey> {
    VerifyingKey::from_bytes(bytes)
        .map_err(|_| Failure::new("the node id", "an Ed25519 public key", hex::encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with the reference BLAKE3 in Python (the `blake3` package) from the formulas in docs/wire.md.
    #[test]
    fn the_chain_is_that_of_the_document() {
        let mut view = View::start([1; 32], [2; 16]);
        assert_eq!(
            hex::encode(view.chain),
            "a56d51c40482c053472c92e14f968bd1c965caf9569ff8e972fda406e51278e4"
        );
        view.extend(&[Item { seq: 1, received_ms: None, op: b"one".to_vec() }]).unwrap();
        assert_eq!(
            hex::encode(view.chain),
            "39d1ef3aae1a3981be7fa457ce4a6e7d04761a3e948e3594b03ffeb871c185f2"
        );
        assert_eq!(view.prefix(), "39d1ef3aae1a3981");
        let hole = view.extend(&[Item { seq: 3, received_ms: None, op: b"three".to_vec() }]);
        assert!(hole.is_err());
    }
}
