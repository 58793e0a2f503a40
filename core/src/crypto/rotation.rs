//! A room's next epoch: drawn, handed to each remaining device, taken.

use thiserror::Error;

use super::{CryptoError, DeviceBundle, DeviceSecrets, GroupCrypto, OpenError, Session};
use crate::entropy::Entropy;
use crate::identity::{Author, LogId, Millis};
use crate::ops::{LogEnd, NextEpochError, Rotation, RotationPart, Ticket};

/// A device that stays, and how to reach it.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// Over which channel.
    pub channel: Channel<'a>,
    /// Whether it gets the write seed; readers never do.
    pub may_write: bool,
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

/// A rotation to be published, with what is to be stored in the same transaction.
#[derive(Clone, Debug)]
pub struct PreparedRotation {
    /// What to say in the old topic.
    pub rotation: Rotation,
    /// What opens the new topic.
    pub ticket: Ticket,
    /// The sessions after it.
    pub sessions: Vec<Session>,
    /// Devices that could not be reached: they will have to ask for the epoch.
    pub left_out: Vec<(Author, CryptoError)>,
}

/// A rotation cannot be prepared. Nothing was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RotationError {
    /// The topic is public, or its epoch the last one.
    #[error(transparent)]
    Epoch(#[from] NextEpochError),
}

/// Draws the next epoch and seals it for each of `recipients` (the rotator's own device is not among them). One that
/// cannot be reached does not hold up the others: removing somebody must not wait for a device with an old bundle.
///
/// # Errors
/// There is no next epoch.
pub fn prepare_rotation(
    crypto: &dyn GroupCrypto,
    secrets: &DeviceSecrets,
    current: &Ticket,
    recipients: &[Recipient<'_>],
    mut ends: Vec<LogEnd>,
    now: Millis,
    entropy: &mut dyn Entropy,
) -> Result<PreparedRotation, RotationError> {
    let ticket = current.next_epoch(entropy)?;
    let (writers, readers) = (ticket.handover(), ticket.read_only().handover());
    let (mut parts, mut sessions, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    for recipient in recipients {
        let payload = if recipient.may_write { &writers } else { &readers };
        let sealed = match recipient.channel {
            Channel::Session(session) => crypto.seal(secrets, session, payload),
            Channel::Bundle(bundle) => crypto.begin(secrets, bundle, payload, now),
        };
        let device = recipient.channel.device();
        match sealed {
            Ok((session, block)) => {
                parts.push(RotationPart { device, block });
                sessions.push(session);
            }
            Err(error) => left_out.push((device, error)),
        }
    }
    parts.sort_by_key(|part| part.device);
    parts.dedup_by_key(|part| part.device);
    ends.sort_by_key(|end| end.author);
    let rotation = Rotation { epoch: ticket.epoch(), topic: ticket.topic(), parts, ends };
    Ok(PreparedRotation { rotation, ticket, sessions, left_out })
}

/// Takes the part of a rotation that is for this device: the session after it, and what opens the new topic.
///
/// # Errors
/// The part does not open, or what is in it is not the topic the rotation names: [`OpenError::Forged`].
pub fn open_rotation(
    crypto: &dyn GroupCrypto,
    secrets: &DeviceSecrets,
    session: Option<&Session>,
    rotator: &Author,
    (log, rotation): (LogId, &Rotation),
    device: &Author,
) -> Result<(Session, Ticket), OpenError> {
    let block = rotation.part(device).ok_or(OpenError::NoPart)?;
    let (session, payload) = crypto.open(secrets, session, rotator, block)?;
    let ticket = Ticket::from_handover(log, rotation.epoch, &payload).map_err(|_| OpenError::Forged)?;
    // Whatever is in the part: only the topic that everybody moves to.
    if ticket.topic() != rotation.topic {
        return Err(OpenError::Forged);
    }
    Ok((session, ticket))
}
