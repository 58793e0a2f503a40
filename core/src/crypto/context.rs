//! What a block was sealed for. A block says nothing in the clear of who sealed it, for whom and in which message: that
//! stands in the sealed payload, so that a block copied into another message opens nothing there.

use std::fmt;

use zeroize::Zeroizing;

use super::{MAX_PAYLOAD, OpenError, Session};
use crate::identity::{Author, LogId};

/// What kind of message carries a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A part of `room.rotate`; the epoch is the new one.
    Rotation = 1,
    /// The key of envelope 04; the epoch is 0.
    Direct = 2,
    /// A key of `key.hand`; log and epoch are the key's.
    Handed = 3,
}

/// The message around a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// What kind it is.
    pub purpose: Purpose,
    /// The log of the operation.
    pub log: LogId,
    /// The epoch it is about.
    pub epoch: u32,
    /// The device that signs it.
    pub sender: Author,
    /// The device that opens the block.
    pub recipient: Author,
}

/// Bytes of a context in a payload.
const TAG: usize = 16;
/// Context, length and payload: two elements for each byte.
const NIBBLES: usize = 2 * (TAG + 1 + MAX_PAYLOAD);
/// Elements that even out the length of the number beside the payload.
const FILLING: usize = 4;
const ELEMENTS: usize = NIBBLES + FILLING;
/// The library writes a number below 24 as one byte, this one as two.
const WIDE: u8 = 24;

impl Context {
    fn tag(&self) -> [u8; TAG] {
        let mut hasher = blake3::Hasher::new_derive_key("delta two-party context v1");
        hasher.update(&[self.purpose as u8]).update(&self.log.0).update(&self.epoch.to_be_bytes());
        hasher.update(&self.sender.0).update(&self.recipient.0);
        let mut tag = [0; TAG];
        hasher.finalize_xof().fill(&mut tag);
        tag
    }

    /// What the library is to seal: `context[16] | len u8 | payload | zeros`, each byte as two numbers below 16, so that
    /// their encoding has one length whatever they are; then the filling, which does the same for `next_index`.
    pub(super) fn pack(&self, payload: &[u8], next_index: u32) -> Option<Zeroizing<Vec<u8>>> {
        let len = u8::try_from(payload.len()).ok().filter(|&len| usize::from(len) <= MAX_PAYLOAD)?;
        let mut out = Zeroizing::new(Vec::with_capacity(ELEMENTS));
        let tag = self.tag();
        for byte in tag.iter().chain([&len]).chain(payload) {
            out.extend([byte >> 4, byte & 15]);
        }
        out.resize(NIBBLES, 0);
        out.resize(ELEMENTS - extra_width(next_index), WIDE);
        out.resize(ELEMENTS, 0);
        Some(out)
    }
}

/// Bytes of a number in CBOR beyond the first.
const fn extra_width(number: u32) -> usize {
    match number {
        0..24 => 0,
        24..0x100 => 1,
        0x100..0x1_0000 => 2,
        _ => 4,
    }
}

/// A block that opened: not to be believed before it was held against the message it stands in.
pub struct Opened {
    pub(super) session: Session,
    tag: [u8; TAG],
    payload: Zeroizing<Vec<u8>>,
}

impl Opened {
    /// The inverse of [`Context::pack`].
    pub(super) fn unpack(session: Session, elements: &[u8]) -> Option<Self> {
        let (nibbles, filling) = elements.split_at_checked(NIBBLES)?;
        if filling.len() != FILLING || filling.iter().any(|&it| it != 0 && it != WIDE) {
            return None;
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(NIBBLES / 2));
        for pair in nibbles.chunks_exact(2) {
            let [high @ 0..16, low @ 0..16] = pair else { return None };
            bytes.push(high << 4 | low);
        }
        let (tag, rest) = bytes.split_first_chunk::<TAG>()?;
        let (len, rest) = rest.split_first()?;
        let (payload, zeros) = rest.split_at_checked(usize::from(*len))?;
        let zeros = zeros.iter().all(|&byte| byte == 0);
        zeros.then(|| Self { session, tag: *tag, payload: Zeroizing::new(payload.to_vec()) })
    }

    /// The session after it and the payload, if the block was sealed for this message.
    ///
    /// # Errors
    /// [`OpenError::Forged`]: it was copied from another message. The session stands as it was.
    pub fn check(self, context: &Context) -> Result<(Session, Zeroizing<Vec<u8>>), OpenError> {
        if self.tag == context.tag() { Ok((self.session, self.payload)) } else { Err(OpenError::Forged) }
    }

    /// The payload, to find out which message this is; [`Opened::check`] comes before anything is done with that.
    pub(super) fn unchecked(&self) -> &[u8] {
        &self.payload
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({:?}, {} bytes)", self.session.id, self.payload.len())
    }
}
