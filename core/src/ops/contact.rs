//! A contact: the text by which a device is written to that shares no conversation with this one.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use zeroize::Zeroizing;

use super::membership::Hidden;
use crate::codec::{DecodeError, Reader};
use crate::identity::Author;

/// The only version there is.
const VERSION: u8 = 1;

/// A device and the write seed of its inbox: `version u8 = 1 | device key[32] | seed[32]` in z-base-32. Whoever has it may
/// write to the device. It is good for as long as that inbox is read.
#[derive(Clone, PartialEq, Eq)]
pub struct Contact {
    /// The device.
    pub device: Author,
    /// Of its inbox's write key.
    pub inbox: Hidden,
}

impl Contact {
    /// Reads a contact's text.
    pub fn parse(text: &str) -> Result<Self, ContactError> {
        let bytes = Zeroizing::new(z32::decode(text.as_bytes()).map_err(|_| ContactError::Alphabet)?);
        if Zeroizing::new(z32::encode(&bytes)).as_str() != text {
            return Err(ContactError::Alphabet);
        }
        let mut reader = Reader::new(&bytes);
        match reader.u8("version")? {
            VERSION => {}
            found => return Err(ContactError::Version { found }),
        }
        let device = Author(reader.array("device")?);
        let inbox = Hidden(reader.array("inbox")?);
        reader.finish()?;
        Ok(Self { device, inbox })
    }
}

/// The contact's text: to be given to those who may write to the device.
impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = Zeroizing::new([&[VERSION][..], &self.device.0, &self.inbox.0].concat());
        f.write_str(&Zeroizing::new(z32::encode(&bytes)))
    }
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contact").field("device", &self.device).finish_non_exhaustive()
    }
}

impl FromStr for Contact {
    type Err = ContactError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// A text is no contact. Whoever gave it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ContactError {
    /// Not lower-case z-base-32.
    #[error("a contact consists of lower-case z-base-32 letters only")]
    Alphabet,
    /// A version this program does not know.
    #[error("the contact's version {found} is not known; a newer program may read it")]
    Version {
        /// The version.
        found: u8,
    },
    /// It is cut short or too long.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_has_one_text_and_shows_no_seed() {
        let contact = Contact { device: Author([65; 32]), inbox: Hidden([66; 32]) };
        let text = contact.to_string();
        assert_eq!(text.len(), 104);
        assert_eq!(text.parse(), Ok(contact.clone()));
        let shown = format!("{contact:?}");
        assert!(!shown.contains("66, 66") && !shown.contains("4242") && !shown.contains(&text), "{shown}");
        assert_eq!(Contact::parse(&text.to_uppercase()), Err(ContactError::Alphabet));
        assert!(Contact::parse(&text[1..]).is_err() && Contact::parse("").is_err());
        let newer = z32::encode(&[&[2][..], &[65; 32], &[66; 32]].concat());
        assert_eq!(Contact::parse(&newer), Err(ContactError::Version { found: 2 }));
        let longer = z32::encode(&[&[1][..], &[65; 65]].concat());
        assert!(matches!(Contact::parse(&longer), Err(ContactError::Malformed(_))));
    }
}
