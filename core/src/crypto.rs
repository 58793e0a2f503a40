//! Secrets between devices: two-party channels, key bundles, and the epochs of a room.
//!
//! A room has epochs; each has a secret, a write seed and so a topic id, a [`crate::ops::Ticket`]. When somebody leaves, a manager
//! draws the next epoch and hands it to every remaining device over a two-party channel ([`Session`]), all in one
//! signed operation ([`crate::ops::Rotation`]). Which epoch is current is decided by the place of that operation and
//! the membership, never by anything in here.
//!
//! The channels are p2panda-encryption's ([`TwoParty`]) behind a trait of ours ([`GroupCrypto`]). That library draws
//! from the operating system's generator while sealing, so sealing is done outside the engine and what it gives enters
//! as input; opening draws nothing. Nothing of it sees a clock: expiry is checked here, with `now`.

mod blob;
mod bundle;
mod context;
mod direct;
mod keys;
mod message;
mod rotation;
mod session;
#[cfg(test)]
mod tests;
mod two_party;

pub use blob::{open_chunk, seal_chunk};
pub use bundle::{BundleError, DeviceBundle, MAX_BUNDLE_LIFETIME_MS};
pub use context::{Context, Opened, Purpose};
pub use direct::{Channel, Direct, DirectError, OpenedDirect, PreparedDirect, prepare_direct};
pub use keys::{DeviceSecrets, PREKEY_GRACE_MS, PREKEY_LIFETIME_MS};
pub use message::MAX_PAYLOAD;
pub use rotation::{
    IncomingRotation, PreparedRotation, Recipient, RotationError, Rotator, open_key, open_rotation,
    prepare_rotation, seal_key,
};
pub use session::{MAX_UNANSWERED, Session};
use thiserror::Error;
pub use two_party::TwoParty;
#[cfg(feature = "repeatable")]
pub use two_party::repeatable::generate_repeatably;
#[cfg(feature = "repeatable")]
pub(crate) use two_party::repeatable::with_seed;

use crate::entropy::{Entropy, EntropyError};
use crate::identity::{Author, Millis};
use crate::ops::{Block, KeyBundle};

/// What groups need of a two-party channel. Values in, values out: nothing is kept here.
pub trait GroupCrypto: Send + Sync + std::fmt::Debug {
    /// Fresh secrets of a device, with a first prekey that expires [`PREKEY_LIFETIME_MS`] from now.
    fn generate(&self, now: Millis, entropy: &mut dyn Entropy) -> Result<DeviceSecrets, CryptoError>;

    /// The same secrets with a fresh prekey, without older ones that expired [`PREKEY_GRACE_MS`] ago; the one before it
    /// stays until the next time.
    fn rotate_prekey(&self, secrets: &DeviceSecrets, now: Millis) -> Result<DeviceSecrets, CryptoError>;

    /// The bundle others begin with, of the newest prekey.
    fn bundle(&self, secrets: &DeviceSecrets) -> Result<KeyBundle, CryptoError>;

    /// Begins a session with a device and seals its first payload (at most [`MAX_PAYLOAD`] bytes).
    fn begin(
        &self,
        secrets: &DeviceSecrets,
        peer: &DeviceBundle,
        context: &Context,
        payload: &[u8],
        now: Millis,
    ) -> Result<(Session, Block), CryptoError>;

    /// Seals a further payload. The old state is not to be used again: whoever stores what comes back compares the
    /// stored state with the one it was made from ([`PreparedDirect`] carries it along).
    fn seal(
        &self,
        secrets: &DeviceSecrets,
        session: &Session,
        context: &Context,
        payload: &[u8],
    ) -> Result<(Session, Block), CryptoError>;

    /// Opens a block of `peer`. `session` is the one of that peer which the block names, if there is one (sessions are
    /// known by peer and id). A prekey that expired [`PREKEY_GRACE_MS`] before `now` opens nothing. Draws nothing. On an
    /// error the session stands as it was.
    fn open(
        &self,
        secrets: &DeviceSecrets,
        session: Option<&Session>,
        peer: &Author,
        block: &Block,
        now: Millis,
    ) -> Result<Opened, OpenError>;
}

/// Something could not be made. Nothing was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CryptoError {
    /// More than a block holds. The caller is at fault.
    #[error("a block holds {MAX_PAYLOAD} bytes, not {len}")]
    TooLong {
        /// What was asked for.
        len: usize,
    },
    /// The other device's bundle is not usable.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// No bundle of the other device was ever seen.
    #[error("no key bundle of this device is known: it has to publish one")]
    NoBundle,
    /// The session has sealed as much as one may, in all or without an answer. Begin a new one from the bundle.
    #[error("the session is used up: begin a new one")]
    SessionFull,
    /// What this device stored does not read back: its database is damaged.
    #[error("the stored key material is damaged")]
    Damaged,
    /// The random source failed; try again later.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The library failed in a way that only a bug explains.
    #[error("the two-party channel failed for a bug in this library")]
    Library,
}

/// A block does not open. The session stands as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// It was opened before: drop it.
    #[error("this block was opened before")]
    Duplicate,
    /// An earlier one is missing: keep it until that one comes.
    #[error("block {found} came before block {expected}")]
    Early {
        /// The one that is next.
        expected: u32,
        /// The one that came.
        found: u32,
    },
    /// It belongs to a session that this device does not hold.
    #[error("the session of this block is not known here")]
    UnknownSession,
    /// There is nothing in it for this device.
    #[error("this device is not among those the next epoch was handed to")]
    NoPart,
    /// The rotation's epoch is not the one after this. The sender is at fault.
    #[error("the rotation leads to epoch {found}, and {expected} is next")]
    WrongEpoch {
        /// The one that is next.
        expected: u32,
        /// The one it names.
        found: u32,
    },
    /// The topic it leads to is known here already: others hold its keys. The sender is at fault.
    #[error("the rotation leads to a topic that is not new")]
    OldTopic,
    /// This device has no room for another topic.
    #[error("this device has as many topics as it may have")]
    TooManyTopics,
    /// It was sealed to a prekey this device has no more: the sender used an expired bundle.
    #[error("the prekey of this block is gone: its sender used an expired bundle")]
    UnknownPrekey,
    /// It is another device's session.
    #[error("the session belongs to another device than the sender")]
    OtherPeer,
    /// Not sealed for this device, or not for the message it stands in; changed on the way, or not of the form a block
    /// has. The sender is at fault.
    #[error("the block does not open")]
    Forged,
    /// What this device stored does not read back: its database is damaged.
    #[error("the stored session is damaged")]
    Damaged,
}
