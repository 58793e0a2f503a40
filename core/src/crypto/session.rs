//! A two-party session as it is stored between two messages.

use std::fmt;

use zeroize::Zeroizing;

use crate::codec::{DecodeError, Reader};
use crate::identity::Author;
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
    pub(super) state: Zeroizing<Vec<u8>>,
}

const VERSION: u8 = 1;

impl Session {
    /// The encoded form, secrets included: `01 | id[8] | peer[32] | sealed u32 | opened u32 | state`.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(49 + self.state.len()));
        out.push(VERSION);
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.peer.0);
        out.extend_from_slice(&self.sealed.to_be_bytes());
        out.extend_from_slice(&self.opened.to_be_bytes());
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
        Ok(Self { id, peer, sealed, opened, state: Zeroizing::new(reader.rest().to_vec()) })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .field("sealed", &self.sealed)
            .field("opened", &self.opened)
            .finish_non_exhaustive()
    }
}
