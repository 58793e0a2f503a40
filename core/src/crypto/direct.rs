//! Envelope 04: a whole signed operation for one device, over a two-party session.
//!
//! `04 | block[443] | ciphertext | tag[16]`: the block carries a fresh key of 32 bytes, under which XChaCha20-Poly1305
//! (nonce zero: the key seals once) seals the padded plaintext of envelope 03, with everything before it as additional
//! data. So the length tells nothing but the padded size, whatever the session has been through.

use std::fmt;

use bytes::Bytes;
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{Context, CryptoError, DeviceBundle, DeviceSecrets, GroupCrypto, OpenError, Purpose, Session};
use crate::entropy::Entropy;
use crate::identity::{Author, LogId, Millis};
use crate::limits::MAX_ENVELOPE;
use crate::ops::{
    BLOCK_LEN, Block, EnvelopeError, OpenedEnvelope, Rejected, SealError, SessionId, VerifiedOperation,
    split_padded, write_padded,
};

/// First byte of the envelope.
const KIND: u8 = 4;
const HEAD: usize = 1 + BLOCK_LEN;
const TAG_LEN: usize = 16;

/// An envelope for one device cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DirectError {
    /// It cannot be sealed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The operation does not fit.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Not of the form of envelope 04.
    #[error("this is no envelope of a two-party session")]
    Form,
    /// The session does not open it (yet).
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What is inside is not a padded operation.
    #[error(transparent)]
    Content(#[from] EnvelopeError),
    /// What is inside is no valid operation.
    #[error(transparent)]
    Operation(#[from] Rejected),
}

/// A channel to a device.
#[derive(Clone, Copy, Debug)]
pub enum Channel<'a> {
    /// A session that stands.
    Session(&'a Session),
    /// A new one, from the device's bundle.
    Bundle(&'a DeviceBundle),
}

impl Channel<'_> {
    const fn device(&self) -> Author {
        match self {
            Self::Session(session) => session.peer,
            Self::Bundle(bundle) => bundle.device(),
        }
    }
}

/// A block that will carry an operation's key to one device, sealed ahead: the library draws randomness for it, so it is
/// made outside the engine, and the operation around it later.
pub struct PreparedDirect {
    /// The state it was made from; `None` where it begins a session. Where another one is stored by now, it is of no use.
    pub before: Option<Session>,
    /// The session after it: to be stored together with the operation.
    pub session: Session,
    context: Context,
    block: Block,
    key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for PreparedDirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedDirect").field("session", &self.session).finish_non_exhaustive()
    }
}

/// Seals what will carry an operation of `sender` in `log` to one device.
pub fn prepare_direct(
    crypto: &dyn GroupCrypto,
    secrets: &DeviceSecrets,
    channel: Channel<'_>,
    (sender, log): (Author, LogId),
    now: Millis,
    entropy: &mut dyn Entropy,
) -> Result<PreparedDirect, CryptoError> {
    let mut key = Zeroizing::new([0; 32]);
    entropy.fill(&mut *key)?;
    let context = Context { purpose: Purpose::Direct, log, epoch: 0, sender, recipient: channel.device() };
    let (before, (session, block)) = match channel {
        Channel::Session(session) => (Some(session.clone()), crypto.seal(secrets, session, &context, &*key)?),
        Channel::Bundle(bundle) => (None, crypto.begin(secrets, bundle, &context, &*key, now)?),
    };
    Ok(PreparedDirect { before, session, context, block, key })
}

impl PreparedDirect {
    /// For which device.
    pub const fn recipient(&self) -> Author {
        self.context.recipient
    }

    /// The envelope of an operation: of the device and in the log that it was prepared for. Pure; used once. The sender
    /// keeps the envelope.
    pub fn seal(&self, operation: &VerifiedOperation) -> Result<Vec<u8>, DirectError> {
        if self.context != context(operation, self.recipient()) {
            return Err(DirectError::Form);
        }
        let mut plaintext = Vec::new();
        write_padded(&mut plaintext, operation.header(), operation.body_bytes())?;
        let head = [&[KIND][..], &self.block.to_bytes()].concat();
        let tag = XChaCha20Poly1305::new((&*self.key).into())
            .encrypt_in_place_detached(&XNonce::default(), &head, &mut plaintext)
            .map_err(|_| CryptoError::Library)?;
        Ok([&head[..], &plaintext, &tag].concat())
    }
}

const fn context(operation: &VerifiedOperation, recipient: Author) -> Context {
    let (log, sender) = (operation.log(), operation.author());
    Context { purpose: Purpose::Direct, log, epoch: 0, sender, recipient }
}

/// An envelope 04 before it is opened: which session it needs.
pub struct Direct<'a> {
    block: Block,
    head: &'a [u8],
    sealed: &'a [u8],
}

/// An operation that came over a two-party session.
#[derive(Debug)]
pub struct OpenedDirect {
    /// The session after it: to be stored together with the operation.
    pub session: Session,
    /// The operation: signed by the session's device.
    pub operation: VerifiedOperation,
}

impl<'a> Direct<'a> {
    /// Cuts an envelope into its parts.
    pub fn parse(envelope: &'a [u8]) -> Result<Self, DirectError> {
        let (head, sealed) = envelope.split_at_checked(HEAD).ok_or(DirectError::Form)?;
        let [KIND, block @ ..] = head else { return Err(DirectError::Form) };
        if envelope.len() > MAX_ENVELOPE || sealed.len() < TAG_LEN {
            return Err(DirectError::Form);
        }
        let block = Block::from_bytes(block).map_err(|_| DirectError::Form)?;
        Ok(Self { block, head, sealed })
    }

    /// The session to be looked up.
    pub const fn session(&self) -> SessionId {
        self.block.session
    }

    /// Its number among its sender's messages in the session.
    pub const fn index(&self) -> u32 {
        self.block.index
    }

    /// Opens and verifies, on `device`. `session` is the one of this name, `None` where none is known: then this may be its first
    /// message, and the device that signed what is inside is the session's from now on. On an error nothing changed:
    /// the stored session stands.
    pub fn open(
        &self,
        crypto: &dyn GroupCrypto,
        (device, secrets): (Author, &DeviceSecrets),
        session: Option<&Session>,
        log: &LogId,
        now: Millis,
    ) -> Result<OpenedDirect, DirectError> {
        // Of a first message the sender is known once it is open.
        let peer = session.map_or(Author([0; 32]), |session| session.peer);
        let block = crypto.open(secrets, session, &peer, &self.block, now)?;
        let key =
            <[u8; 32]>::try_from(block.unchecked()).map(Zeroizing::new).map_err(|_| OpenError::Forged)?;
        let (ciphertext, tag) = self.sealed.split_last_chunk::<TAG_LEN>().ok_or(DirectError::Form)?;
        let mut plaintext = ciphertext.to_vec();
        XChaCha20Poly1305::new((&*key).into())
            .decrypt_in_place_detached(&XNonce::default(), self.head, &mut plaintext, tag.into())
            .map_err(|_| OpenError::Forged)?;
        let opened: OpenedEnvelope = split_padded(Bytes::from(plaintext))?;
        let operation = opened.verify(log)?;
        if session.is_some() && operation.author() != peer {
            return Err(OpenError::OtherPeer.into());
        }
        let (mut after, _) = block.check(&context(&operation, device))?;
        after.peer = operation.author();
        Ok(OpenedDirect { session: after, operation })
    }
}

impl fmt::Debug for Direct<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Direct({:?}, {} bytes)", self.block, self.sealed.len())
    }
}
