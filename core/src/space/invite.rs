//! Invitations as texts, and what a claim proves.

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::codec::{DecodeError, Reader};
use crate::identity::{Author, Identity, LogId, OperationId};
use crate::ops::{Hidden, Ticket, TicketError};

/// The only version there is.
const VERSION: u8 = 1;

/// What an invitation's text (or QR code) holds: `version u8 = 1 | ticket[101] | invite id[32] | token[32]` in
/// z-base-32. A secret: whoever has it may claim it.
#[derive(Clone)]
pub struct Invite {
    /// Opens the space's topic.
    pub ticket: Ticket,
    /// The operation that made the invitation.
    pub id: OperationId,
    /// Its token.
    pub token: Hidden,
}

impl Invite {
    /// Reads an invitation's text.
    pub fn parse(text: &str) -> Result<Self, InviteError> {
        let bytes = Zeroizing::new(z32::decode(text.as_bytes()).map_err(|_| InviteError::Alphabet)?);
        if Zeroizing::new(z32::encode(&bytes)).as_str() != text {
            return Err(InviteError::Alphabet);
        }
        let mut reader = Reader::new(&bytes);
        match reader.u8("version")? {
            VERSION => {}
            found => return Err(InviteError::Version { found }),
        }
        let ticket = Ticket::from_bytes(reader.bytes(Ticket::LEN, "ticket")?)?;
        let id = OperationId(reader.array("invite id")?);
        let token = Hidden(reader.array("token")?);
        reader.finish()?;
        Ok(Self { ticket, id, token })
    }
}

/// The invitation's text. It holds secrets: show it only to hand it over.
impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Zeroizing::new(vec![VERSION]);
        bytes.extend_from_slice(&self.ticket.to_bytes());
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(&self.token.0);
        f.write_str(&Zeroizing::new(z32::encode(&bytes)))
    }
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invite").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for Invite {
    type Err = InviteError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// A text is no invitation. Whoever gave it is at fault; nothing was opened. (No variant repeats the text.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InviteError {
    /// Not lower-case z-base-32.
    #[error("an invitation consists of lower-case z-base-32 letters only")]
    Alphabet,
    /// A version this program does not know.
    #[error("the invitation's version {found} is not known; a newer program may read it")]
    Version {
        /// The version.
        found: u8,
    },
    /// The space's ticket in it is none.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// It is cut short or too long.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// The MAC of a claim: whoever made it had the token, and meant this person on this device in this space.
///
/// keyed BLAKE3 with derive("delta invite claim v1", token) over space id | invite id | identity | device.
pub fn claim_mac(
    token: &Hidden,
    space: LogId,
    invite: OperationId,
    identity: Identity,
    device: Author,
) -> [u8; 32] {
    let key = Zeroizing::new(blake3::derive_key("delta invite claim v1", &token.0));
    let mut hasher = blake3::Hasher::new_keyed(&key);
    for part in [&space.0, &invite.0, &identity.0, &device.0] {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// Whether a claim's MAC is right. Takes the same time for every wrong one.
pub fn verify_claim(mac: &[u8; 32], expected: &[u8; 32]) -> bool {
    mac.ct_eq(expected).into()
}
