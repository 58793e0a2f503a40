//! A two-party session as it is stored between two messages.

use std::fmt;

use zeroize::Zeroizing;

use crate::codec::{DecodeError, Reader};
use crate::identity::{Author, Millis};
use crate::ops::SessionId;

/// A session with one device. Holds secrets: wiped on drop, not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// With which device.
    pub peer: Author,
    /// Blocks sealed so far.
    pub sealed: u32,
    /// Blocks of the other device opened so far: they are opened in order.
    pub opened: u32,
    /// Blocks sealed since the last one of the other device was opened. What is sealed without an answer can be opened
    /// with what the other device held before, so there is an end to it ([`MAX_UNANSWERED`]).
    pub unanswered: u32,
    /// When the bundle that this device began it from expires; 0 where the other device began it.
    pub bundle_expires: Millis,
    pub(super) state: Zeroizing<Vec<u8>>,
}

/// Most blocks sealed in a session without an answer: then another one begins, from the peer's bundle.
pub const MAX_UNANSWERED: u32 = 64;

const VERSION: u8 = 2;
/// Without the library's state.
const HEAD: usize = 1 + 8 + 32 + 3 * 4 + 8;

impl Session {
    /// Whether more may be sealed in it to a device with this bundle. Not when too much is unanswered, nor when what is
    /// unanswered began from an older bundle.
    pub fn may_seal(&self, bundle_expires: Option<Millis>) -> bool {
        let newer =
            self.bundle_expires > Millis(0) && bundle_expires.is_some_and(|at| at > self.bundle_expires);
        self.unanswered < MAX_UNANSWERED && !(newer && self.unanswered > 0)
    }

    /// The encoded form, secrets included: `02 | id[8] | peer[32] | sealed u32 | opened u32 | unanswered u32 | bundle
    /// expires u64 | state`.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(HEAD + self.state.len()));
        out.push(VERSION);
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.peer.0);
        out.extend_from_slice(&self.sealed.to_be_bytes());
        out.extend_from_slice(&self.opened.to_be_bytes());
        out.extend_from_slice(&self.unanswered.to_be_bytes());
        out.extend_from_slice(&self.bundle_expires.0.to_be_bytes());
        out.extend_from_slice(&self.state);
        out
    }

    /// The inverse of [`Session::to_bytes`], from this device's own database.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.u8("version")? != VERSION {
            return Err(DecodeError::Invalid("version"));
        }
        let id = SessionId(reader.array("session id")?);
        let peer = Author(reader.array("peer")?);
        let (sealed, opened) = (reader.u32("sealed")?, reader.u32("opened")?);
        let unanswered = reader.u32("unanswered")?;
        let bundle_expires = Millis(reader.u64("bundle expires")?);
        let state = Zeroizing::new(reader.rest().to_vec());
        Ok(Self { id, peer, sealed, opened, unanswered, bundle_expires, state })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .field("sealed", &self.sealed)
            .field("opened", &self.opened)
            .field("unanswered", &self.unanswered)
            .finish_non_exhaustive()
    }
}
