//! One layer sealed by hand (`docs/wire.md` section 3), for packets no builder makes: reserved bytes that are set, slots of
//! unknown type, lengths that lie, all under a seal that opens.

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

use delta_core::onion::v3::OnionKey;

use crate::random;

/// Packet sizes by class.
pub const SIZES: [usize; 5] = [4096, 16_384, 65_536, 262_144, 1_052_672];
/// Bytes of a packet that carry no content.
pub const OVERHEAD: usize = 628;
/// Where the body begins.
const BODY_AT: usize = 52;
const SLOT: usize = 96;

/// A packet of one layer.
pub struct Sealed<'a> {
    /// First byte; 3.
    pub version: u8,
    /// Second byte.
    pub class: u8,
    /// Length of the packet.
    pub size: usize,
    /// The slot.
    pub slot: [u8; SLOT],
    /// What follows the slot; random bytes fill up.
    pub content: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// A packet that delivers `content`, of the smallest class.
    pub fn deliver(content: &'a [u8]) -> Self {
        let class = SIZES.iter().position(|size| size - OVERHEAD >= content.len()).unwrap_or(SIZES.len() - 1);
        let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
        Self { version: 3, class: class as u8, size: SIZES[class], slot: slot(2, len), content }
    }

    /// The bytes, sealed to `key`.
    pub fn encode(&self, key: &OnionKey) -> Vec<u8> {
        let secret = StaticSecret::from(random::array::<32>());
        let epk = PublicKey::from(&secret);
        let mut packet = vec![self.version, self.class];
        packet.extend_from_slice(&key.kid.to_be_bytes());
        packet.extend_from_slice(epk.as_bytes());
        let header = packet.clone();

        let shared = secret.diffie_hellman(&PublicKey::from(key.public));
        let mut okm = [0; 80];
        let info: [&[u8]; 3] = [b"keys", &header, &key.public];
        Hkdf::<Sha256>::new(Some(b"delta:onion:v3"), shared.as_bytes())
            .expand_multi_info(&info, &mut okm)
            .expect("80 bytes are within HKDF's limit");

        let mut body = self.slot.to_vec();
        body.extend_from_slice(self.content);
        body.extend(random::bytes((self.size - BODY_AT).saturating_sub(body.len())));
        body.truncate(self.size - BODY_AT);
        let cipher = ChaCha20Poly1305::new_from_slice(&okm[..32]).expect("32 bytes are a key");
        let tag = cipher
            .encrypt_in_place_detached(&[0; 12].into(), &header, &mut body)
            .expect("a packet is within the cipher's limit");
        packet.extend_from_slice(&tag);
        packet.extend_from_slice(&body);
        packet
    }
}

/// `type | 00 00 00 | length | zeros`.
pub fn slot(kind: u8, len: u32) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    slot[0] = kind;
    slot[4..8].copy_from_slice(&len.to_be_bytes());
    slot
}

#[cfg(test)]
mod tests {
    use delta_core::onion::v3::{self, OnionSecret, Peeled};

    use super::*;

    /// The project's own peeling is the second implementation here.
    #[test]
    fn a_packet_sealed_by_hand_opens() {
        let secret = OnionSecret::from_bytes(7, [5; 32]);
        for len in [0, 1, 3468, 3469, 1_052_044] {
            let content = random::bytes(len);
            let packet = Sealed::deliver(&content).encode(&secret.public());
            let opened = v3::open(std::slice::from_ref(&secret), packet).unwrap().parse().unwrap();
            assert_eq!(opened, Peeled::Deliver { content });
        }
    }
}
