//! A topic of a check's own: a random write key and random operations, so that checks never meet.

use ed25519_dalek::{Signer, SigningKey};

use delta_core::topic::WriteKey;

use crate::random;

/// A fresh topic and its write key.
pub struct Topic {
    /// The key whose holder may write.
    pub key: WriteKey,
    /// The topic id.
    pub id: [u8; 32],
    /// The topic id in hex, as in paths.
    pub hex: String,
}

impl Topic {
    /// A topic nobody has seen.
    pub fn fresh() -> Self {
        let key = WriteKey::from_seed(random::array());
        let id = blake3::derive_key("delta topic id v1", &key.verifying_key().0);
        Self { key, id, hex: hex::encode(id) }
    }
}

/// An operation nobody has seen: `len` random bytes (servers look into none).
pub fn op(len: usize) -> Vec<u8> {
    random::bytes(len)
}

/// `count` fresh operations of `len` bytes.
pub fn ops(count: usize, len: usize) -> Vec<Vec<u8>> {
    (0..count).map(|_| op(len)).collect()
}

/// An operation's name on servers.
pub fn hash(op: &[u8]) -> [u8; 32] {
    *blake3::hash(op).as_bytes()
}

/// The payload of a list: each operation behind its length.
pub fn list<T: AsRef<[u8]>>(ops: &[T]) -> Vec<u8> {
    let mut payload = Vec::new();
    for op in ops {
        let op = op.as_ref();
        payload.extend_from_slice(&u32::try_from(op.len()).unwrap_or(u32::MAX).to_be_bytes());
        payload.extend_from_slice(op);
    }
    payload
}

/// Deliver content written field by field (`docs/wire.md` section 4), so that any field can be wrong.
pub struct Content {
    /// First byte; 1.
    pub form: u8,
    /// Flags as sent.
    pub flags: u8,
    /// Reserved bytes; zero.
    pub reserved: [u8; 2],
    /// Topic as sent.
    pub topic: [u8; 32],
    /// Signs, and is sent as write key.
    pub key: SigningKey,
    /// What the signature covers, when it is not what is sent: topic, flags and payload.
    pub signed: Option<([u8; 32], u8, Vec<u8>)>,
    /// Payload as sent.
    pub payload: Vec<u8>,
}

impl Content {
    /// Content that is right.
    pub fn right(topic: &Topic, flags: u8, payload: &[u8]) -> Self {
        Self {
            form: 1,
            flags,
            reserved: [0; 2],
            topic: topic.id,
            key: topic.key.signing_key(),
            signed: None,
            payload: payload.to_vec(),
        }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (topic, flags, payload) = match &self.signed {
            Some((topic, flags, payload)) => (topic, *flags, payload),
            None => (&self.topic, self.flags, &self.payload),
        };
        let message = [b"delta:deliver:v1".as_slice(), topic, &[0, flags], &hash(payload)].concat();
        let signature = self.key.sign(&message).to_bytes();
        let vk = self.key.verifying_key().to_bytes();
        let head = [self.form, self.flags, self.reserved[0], self.reserved[1]];
        [head.as_slice(), &self.topic, &vk, &signature, &self.payload].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The project's own encoder is the second implementation here.
    #[test]
    fn right_content_is_what_the_core_makes() {
        let topic = Topic::fresh();
        let ops = ops(3, 20);
        let refs: Vec<&[u8]> = ops.iter().map(Vec::as_slice).collect();
        let content = Content::right(&topic, 1, &list(&ops)).encode();
        assert_eq!(content, delta_core::onion::deliver::encode_list(&topic.key, &refs).unwrap());
        assert_eq!(topic.id, topic.key.topic().0);
    }
}
