//! Names that are bytes: who signs, who relays, which operation, which envelope. And who a person is:
//! the words that are written down ([`Mnemonic`]), the key they stand for ([`IdentityKey`]), the devices it certifies
//! ([`Certificate`]).

mod certificate;
mod instance;
mod key;
#[cfg(feature = "device")]
mod mnemonic;

pub use certificate::{Certificate, CertificateError, Revocation};
pub use instance::{Instance, Standing};
#[cfg(feature = "device")]
pub use key::AddressError;
pub use key::IdentityKey;
#[cfg(feature = "device")]
pub use mnemonic::{Mnemonic, MnemonicError};

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A text was not the lower-case hex of exactly the bytes the type has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected {expected} bytes as {} lower-case hex digits", .expected * 2)]
pub struct ParseIdError {
    /// The length of the type in bytes.
    pub expected: usize,
}

/// Makes a newtype over `[u8; N]` that prints as lower-case hex and parses only that.
macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The length in bytes.
            pub const LEN: usize = $len;

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = $crate::identity::ParseIdError;
            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self).map_err(|_| $crate::identity::ParseIdError { expected: $len })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex::encode(self.0))
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::identity::ParseIdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::identity::parse_lower_hex(text).map(Self)
            }
        }
    };
}
pub(crate) use bytes_id;

pub(crate) fn parse_lower_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let error = ParseIdError { expected: N };
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(error);
    }
    let mut out = [0; N];
    hex::decode_to_slice(text, &mut out).map_err(|_| error)?;
    Ok(out)
}

bytes_id!(
    /// Names a direct thread on the devices of its two people.
    ThreadId,
    32
);
bytes_id!(
    /// Identity of a relay or sync server: its Ed25519 verifying key.
    NodeId,
    32
);

bytes_id!(
    /// Identity of an operation: BLAKE3 of its header. Known to devices only.
    OperationId,
    32
);

bytes_id!(
    /// BLAKE3 of a whole envelope: what servers, outbox, chain and `has` use.
    EnvelopeHash,
    32
);

bytes_id!(
    /// Who signed an operation: the device's Ed25519 verifying key.
    Author,
    32
);

bytes_id!(
    /// Who a person is: the Ed25519 verifying key that certifies the person's devices.
    Identity,
    32
);

bytes_id!(
    /// Stable name of a conversation: a space, room or thread. An author has one append-only log per log id.
    LogId,
    32
);

impl From<Author> for Identity {
    /// A device that nobody certified is its own identity.
    fn from(device: Author) -> Self {
        Self(device.0)
    }
}

impl EnvelopeHash {
    /// Hashes an envelope.
    pub fn of(envelope: &[u8]) -> Self {
        Self(*blake3::hash(envelope).as_bytes())
    }
}

/// Milliseconds since the Unix epoch, as some clock told them. Shown and used for timers, never for order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// This instant plus `ms` milliseconds, at most the largest instant there is.
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; 0 when `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

impl FromStr for Millis {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_parse_lower_case_hex_only() {
        let id = NodeId([0xab; 32]);
        assert_eq!(id.to_string(), "ab".repeat(32));
        assert_eq!("ab".repeat(32).parse(), Ok(id));
        for bad in ["AB".repeat(32), "ab".repeat(31), "ab".repeat(33), "zz".repeat(32), String::new()] {
            assert_eq!(bad.parse::<NodeId>(), Err(ParseIdError { expected: 32 }), "{bad}");
        }
    }
}
