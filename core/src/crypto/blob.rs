//! The chunks of a blob, sealed with the key that its manifest holds (docs/wire.md, section 12.4).

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::ops::Hidden;

const CONTEXT: &[u8; 19] = b"delta blob chunk v1";
const TAG: usize = 16;

/// Seals chunk `index` of `count`; its tag comes after it. A key seals one blob, each chunk once. `None`: more bytes than the
/// cipher takes at once, 256 GiB.
pub fn seal_chunk(key: &Hidden, index: u32, count: u32, bytes: &[u8]) -> Option<Vec<u8>> {
    let (nonce, aad) = bound(index, count);
    let mut sealed = bytes.to_vec();
    let cipher = XChaCha20Poly1305::new((&key.0).into());
    let tag = cipher.encrypt_in_place_detached(&nonce, &aad, &mut sealed).ok()?;
    sealed.extend(tag);
    Some(sealed)
}

/// The inverse of [`seal_chunk`]; `None`: it was sealed as another one, with another key, or is damaged.
pub fn open_chunk(key: &Hidden, index: u32, count: u32, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let (nonce, aad) = bound(index, count);
    let tag = bytes.split_off(bytes.len().checked_sub(TAG)?);
    let opened = XChaCha20Poly1305::new((&key.0).into()).decrypt_in_place_detached(
        &nonce,
        &aad,
        &mut bytes,
        tag.as_slice().into(),
    );
    opened.is_ok().then_some(bytes)
}

fn bound(index: u32, count: u32) -> (XNonce, Vec<u8>) {
    let place = [index.to_be_bytes(), count.to_be_bytes()].concat();
    let mut nonce = XNonce::default();
    for (byte, of) in nonce.iter_mut().zip(&place) {
        *byte = *of;
    }
    (nonce, [CONTEXT, &place[..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_opens_as_what_it_was_sealed_as_and_as_nothing_else() {
        let key = Hidden([3; 32]);
        let mut sealed = seal_chunk(&key, 1, 3, b"a chunk").unwrap();
        assert_eq!(sealed.len(), 7 + 16);
        assert_eq!(open_chunk(&key, 1, 3, sealed.clone()).as_deref(), Some(&b"a chunk"[..]));
        assert_eq!(open_chunk(&key, 0, 3, sealed.clone()), None, "another place");
        assert_eq!(open_chunk(&key, 1, 2, sealed.clone()), None, "another length of the blob");
        assert_eq!(open_chunk(&Hidden([4; 32]), 1, 3, sealed.clone()), None, "another key");
        sealed[0] ^= 1;
        assert_eq!(open_chunk(&key, 1, 3, sealed), None, "changed");
        assert_eq!(open_chunk(&key, 0, 1, vec![0; 15]), None, "too short for a tag");
    }
}
