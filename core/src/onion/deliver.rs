//! Deliver content: what the sync server finds in the last layer of a packet.
//!
//! ```text
//! 01 | flags u8 | 00 00 | topic_id[32] | write_vk[32] | sig[64] | payload
//! sig = Ed25519(write key, "delta:deliver:v1" | topic_id | 00 | flags | BLAKE3(payload))
//! ```
//!
//! The members of a topic share its write key, and the topic id is a hash of that key: a server can tell who may
//! write without knowing any member. `op` is an envelope, opaque here.

use ed25519_dalek::{Signature, Signer, VerifyingKey};
use thiserror::Error;

use crate::codec::{DecodeError, Reader};
use crate::limits::{MAX_BATCH, MAX_ENVELOPE, MAX_SIGNAL};
use crate::onion::control::{Control, ControlError};
use crate::topic::{TopicId, WriteKey, WriteVerifyingKey};

/// Bytes of content before the payload.
pub const OVERHEAD: usize = 132;
/// Bytes a list adds to every operation in it.
pub const LIST_ITEM_OVERHEAD: usize = 4;

/// The payload is one operation.
pub const FLAG_OPERATION: u8 = 0;
/// The payload is a list of operations of one topic.
pub const FLAG_LIST: u8 = 1;
/// The payload is a signal: fanned out, not stored.
pub const FLAG_SIGNAL: u8 = 2;
/// The payload controls a public topic.
pub const FLAG_CONTROL: u8 = 3;

const FORM: u8 = 1;
const SIGNED_LEN: usize = 82;

/// Content could not be made, or is refused as a whole: nothing of it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DeliverError {
    /// The content does not have the announced form. Whoever made it is at fault.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// An operation has no bytes.
    #[error("an operation is empty")]
    Empty,
    /// An operation is larger than [`MAX_ENVELOPE`].
    #[error("an operation of {0} bytes is over the limit of {MAX_ENVELOPE}")]
    TooLarge(usize),
    /// A list holds no operation, or more than [`MAX_BATCH`].
    #[error("a list holds 1 to {MAX_BATCH} operations, not {0}")]
    Count(usize),
    /// A signal has no bytes, or more than [`MAX_SIGNAL`].
    #[error("a signal has 1 to {MAX_SIGNAL} bytes, not {0}")]
    Signal(usize),
    /// A control message is malformed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The content is of these flags, and something else was asked of it.
    #[error("deliver content with flags {0} holds something else")]
    Unsupported(u8),
    /// No format defines these flags.
    #[error("deliver content with unknown flags {0}")]
    UnknownFlags(u8),
    /// The topic id is not that of the write key.
    #[error("the topic id does not belong to the write key")]
    ForeignKey,
    /// The write key's signature does not verify.
    #[error("the write signature does not verify")]
    Signature,
}

/// Makes the content that delivers one operation.
pub fn encode_operation(key: &WriteKey, envelope: &[u8]) -> Result<Vec<u8>, DeliverError> {
    check_operation(envelope)?;
    Ok(encode_raw(key, FLAG_OPERATION, envelope))
}

/// Makes the content that delivers 1 to [`MAX_BATCH`] operations of one topic, in order.
pub fn encode_list(key: &WriteKey, envelopes: &[&[u8]]) -> Result<Vec<u8>, DeliverError> {
    if envelopes.is_empty() || envelopes.len() > MAX_BATCH {
        return Err(DeliverError::Count(envelopes.len()));
    }
    let len = envelopes.iter().map(|envelope| LIST_ITEM_OVERHEAD + envelope.len()).sum();
    let mut payload = Vec::with_capacity(len);
    for envelope in envelopes {
        check_operation(envelope)?;
        payload.extend_from_slice(&(envelope.len() as u32).to_be_bytes());
        payload.extend_from_slice(envelope);
    }
    Ok(encode_raw(key, FLAG_LIST, &payload))
}

/// Makes the content that passes a signal to the topic's subscribers.
pub fn encode_signal(key: &WriteKey, signal: &[u8]) -> Result<Vec<u8>, DeliverError> {
    check_signal(signal)?;
    Ok(encode_raw(key, FLAG_SIGNAL, signal))
}

/// Makes the content that controls a public topic.
pub fn encode_control(key: &WriteKey, control: &Control) -> Result<Vec<u8>, DeliverError> {
    Ok(encode_raw(key, FLAG_CONTROL, &control.encode()?))
}

/// Signs any payload under any flags. For vectors and for tests of refusals: nothing is checked.
pub fn encode_raw(key: &WriteKey, flags: u8, payload: &[u8]) -> Vec<u8> {
    let key = key.signing_key();
    let write_vk = key.verifying_key().to_bytes();
    let topic = TopicId::of(&WriteVerifyingKey(write_vk));
    let signature = key.sign(&signed_bytes(&topic, flags, payload)).to_bytes();
    let mut content = Vec::with_capacity(OVERHEAD + payload.len());
    content.extend_from_slice(&[FORM, flags, 0, 0]);
    content.extend_from_slice(&topic.0);
    content.extend_from_slice(&write_vk);
    content.extend_from_slice(&signature);
    content.extend_from_slice(payload);
    content
}

/// Content whose form, topic and write signature were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// The topic it is for.
    pub topic: TopicId,
    /// The key that signed it.
    pub write_vk: WriteVerifyingKey,
    /// What the payload is: one of the `FLAG_` constants.
    pub flags: u8,
    /// The payload.
    pub payload: &'a [u8],
}

/// Checks deliver content, cheap checks first; the signature strictly (RFC 8032 without its leniences).
pub fn verify(content: &[u8]) -> Result<Delivery<'_>, DeliverError> {
    let (delivery, signature) = parse(content)?;
    delivery.check_payload()?;
    check_signature(&delivery, &signature)?;
    Ok(delivery)
}

/// Checks form, topic and write signature, but not what the payload holds: also for an empty operation. For tools that look into packets; a server uses [`verify`].
pub fn authenticate(content: &[u8]) -> Result<Delivery<'_>, DeliverError> {
    let (delivery, signature) = parse(content)?;
    check_signature(&delivery, &signature)?;
    Ok(delivery)
}

fn parse(content: &[u8]) -> Result<(Delivery<'_>, Signature), DeliverError> {
    let mut reader = Reader::new(content);
    if reader.u8("form")? != FORM {
        return Err(DecodeError::Invalid("form").into());
    }
    let flags = reader.u8("flags")?;
    if flags > FLAG_CONTROL {
        return Err(DeliverError::UnknownFlags(flags));
    }
    if reader.array("reserved")? != [0; 2] {
        return Err(DecodeError::Invalid("reserved").into());
    }
    let topic = TopicId(reader.array("topic id")?);
    let write_vk = WriteVerifyingKey(reader.array("write key")?);
    let signature = Signature::from_bytes(&reader.array("signature")?);
    Ok((Delivery { topic, write_vk, flags, payload: reader.rest() }, signature))
}

fn check_signature(delivery: &Delivery<'_>, signature: &Signature) -> Result<(), DeliverError> {
    if TopicId::of(&delivery.write_vk) != delivery.topic {
        return Err(DeliverError::ForeignKey);
    }
    let message = signed_bytes(&delivery.topic, delivery.flags, delivery.payload);
    VerifyingKey::from_bytes(&delivery.write_vk.0)
        .and_then(|key| key.verify_strict(&message, signature))
        .map_err(|_| DeliverError::Signature)
}

impl<'a> Delivery<'a> {
    fn check_payload(&self) -> Result<(), DeliverError> {
        match self.flags {
            FLAG_SIGNAL => self.signal().map(drop),
            FLAG_CONTROL => self.control().map(drop),
            _ => self.operations().map(drop),
        }
    }

    /// The signal. Succeeds for [`FLAG_SIGNAL`] that [`verify`] returned.
    pub fn signal(&self) -> Result<&'a [u8], DeliverError> {
        match self.flags {
            FLAG_SIGNAL => check_signal(self.payload).map(|()| self.payload),
            other => Err(DeliverError::Unsupported(other)),
        }
    }

    /// The control message. Succeeds for [`FLAG_CONTROL`] that [`verify`] returned.
    pub fn control(&self) -> Result<Control, DeliverError> {
        match self.flags {
            FLAG_CONTROL => Ok(Control::decode(self.payload)?),
            other => Err(DeliverError::Unsupported(other)),
        }
    }

    /// The operations of the payload, in order. Succeeds for [`FLAG_OPERATION`] and [`FLAG_LIST`] that [`verify`]
    /// returned.
    pub fn operations(&self) -> Result<Vec<&'a [u8]>, DeliverError> {
        match self.flags {
            FLAG_OPERATION => {
                check_operation(self.payload)?;
                Ok(vec![self.payload])
            }
            FLAG_LIST => list(self.payload),
            FLAG_SIGNAL | FLAG_CONTROL => Err(DeliverError::Unsupported(self.flags)),
            unknown => Err(DeliverError::UnknownFlags(unknown)),
        }
    }
}

fn list(payload: &[u8]) -> Result<Vec<&[u8]>, DeliverError> {
    let mut operations = Vec::new();
    let mut reader = Reader::new(payload);
    while reader.remaining() > 0 {
        if operations.len() == MAX_BATCH {
            return Err(DeliverError::Count(MAX_BATCH + 1));
        }
        let len = reader.u32("operation length")? as usize;
        let operation = reader.bytes(len, "operation")?;
        check_operation(operation)?;
        operations.push(operation);
    }
    if operations.is_empty() { Err(DeliverError::Count(0)) } else { Ok(operations) }
}

const fn check_operation(operation: &[u8]) -> Result<(), DeliverError> {
    match operation.len() {
        0 => Err(DeliverError::Empty),
        1..=MAX_ENVELOPE => Ok(()),
        len => Err(DeliverError::TooLarge(len)),
    }
}

const fn check_signal(signal: &[u8]) -> Result<(), DeliverError> {
    match signal.len() {
        1..=MAX_SIGNAL => Ok(()),
        len => Err(DeliverError::Signal(len)),
    }
}

/// What the write key signs.
fn signed_bytes(topic: &TopicId, flags: u8, payload: &[u8]) -> [u8; SIGNED_LEN] {
    let mut message = [0; SIGNED_LEN];
    let (context, rest) = message.split_at_mut(16);
    context.copy_from_slice(b"delta:deliver:v1");
    let (topic_place, rest) = rest.split_at_mut(32);
    topic_place.copy_from_slice(&topic.0);
    let (kind, hash) = rest.split_at_mut(2);
    kind.copy_from_slice(&[0, flags]);
    hash.copy_from_slice(blake3::hash(payload).as_bytes());
    message
}
