//! The signature of a header: Ed25519 over the same bytes without it.

use std::sync::{Arc, Mutex, PoisonError};

use ed25519_dalek::{Signature, VerifyingKey};

use super::header::Peek;
use super::verify::Rejected;
use crate::identity::Author;
use crate::tree::Map;

/// Most keys that are remembered: the devices of a large room.
pub const MAX_AUTHOR_KEYS: usize = 512;

/// Authors' keys that were read before. To find a key's point on the curve costs a tenth of a verification, and an
/// author who has written once has mostly written a thousand times.
///
/// Shared by all its clones. What it gives for an author is what reading the key anew would give, so nothing depends on
/// what it holds: at most [`MAX_AUTHOR_KEYS`], then it begins anew.
#[derive(Clone, Debug, Default)]
pub struct AuthorKeys(Arc<Mutex<Map<Author, VerifyingKey>>>);

impl AuthorKeys {
    fn get(&self, author: &Author) -> Result<VerifyingKey, Rejected> {
        // Whoever panicked with it in hand left it whole: it is changed by one call.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(author) {
            return Ok(*key);
        }
        let key = VerifyingKey::from_bytes(&author.0).map_err(|_| Rejected::AuthorKey)?;
        if known.len() >= MAX_AUTHOR_KEYS {
            known.clear();
        }
        known.insert(*author, key);
        Ok(key)
    }
}

/// Array head and version, then key and signature with two bytes of CBOR before each.
const KEY_END: usize = 2 + 2 + 32;
const SIGNATURE_START: usize = KEY_END + 2;
const SIGNATURE_END: usize = SIGNATURE_START + 64;

/// Verifies strictly (no key or point of small order, RFC 8032 without its leniencies) over the same array without the
/// signature: its first byte counts one less, the other items' bytes stay. A header that `peek` has read is
/// deterministic, so its first items stand where the constants say.
pub(super) fn check_signature(header: &[u8], facts: &Peek, keys: &AuthorKeys) -> Result<(), Rejected> {
    let field = || Rejected::HeaderField("signature");
    let (first, rest) = header.split_first().ok_or_else(field)?;
    let head = rest.get(..KEY_END - 1).ok_or_else(field)?;
    let tail = header.get(SIGNATURE_END..).ok_or_else(field)?;
    let signature = header.get(SIGNATURE_START..SIGNATURE_END).ok_or_else(field)?;
    let signature = Signature::from_slice(signature).map_err(|_| Rejected::Signature)?;
    let message = [&[first.wrapping_sub(1)], head, tail].concat();
    keys.get(&facts.author)?.verify_strict(&message, &signature).map_err(|_| Rejected::Signature)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_is_what_reading_gives() {
        let keys = AuthorKeys::default();
        let author = |seed: usize| {
            let mut bytes = [7; 32];
            bytes[..8].copy_from_slice(&seed.to_be_bytes());
            SigningKey::from_bytes(&bytes).verifying_key()
        };
        for seed in 0..=MAX_AUTHOR_KEYS {
            let key = author(seed);
            for _ in 0..2 {
                assert_eq!(keys.get(&Author(key.to_bytes())), Ok(key));
            }
            let expected = if seed < MAX_AUTHOR_KEYS { seed + 1 } else { 1 };
            assert_eq!(keys.0.lock().unwrap().len(), expected);
        }
        // y = 2 is on no point of the curve (RFC 8032, section 5.1.3: no square root), and is not remembered as if it were.
        let mut none = [0; 32];
        none[0] = 2;
        assert_eq!(keys.get(&Author(none)), Err(Rejected::AuthorKey));
        assert_eq!(keys.get(&Author(none)), Err(Rejected::AuthorKey));
        assert_eq!(keys.0.lock().unwrap().len(), 1);
    }
}
