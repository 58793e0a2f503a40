//! A room's next epoch: drawn, handed to each remaining device, taken.
//!
//! Every part begins from the device's bundle and is the only block of its session: rotations are lost, withheld and
//! overtaken, and none of that may cost a device the next one.

use thiserror::Error;

use super::{Context, CryptoError, DeviceBundle, DeviceSecrets, GroupCrypto, OpenError, Purpose};
use crate::entropy::Entropy;
use crate::identity::{Author, LogId, Millis};
use crate::ops::{Block, LogEnd, NextEpochError, Rotation, RotationPart, Ticket};
use crate::topic::TopicId;
use crate::tree::Arrange;

/// A device that stays, and how to reach it.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// What it published last.
    pub bundle: &'a DeviceBundle,
    /// Whether it gets the write seed; readers never do.
    pub may_write: bool,
}

/// The device that rotates.
#[derive(Clone, Copy, Debug)]
pub struct Rotator<'a> {
    /// Which.
    pub device: Author,
    /// Its secrets.
    pub secrets: &'a DeviceSecrets,
}

/// A rotation to be published, with what is to be stored in the same transaction.
#[derive(Clone, Debug)]
pub struct PreparedRotation {
    /// What to say in the old topic.
    pub rotation: Rotation,
    /// What opens the new topic.
    pub ticket: Ticket,
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

/// Draws the next epoch and seals it for each of `recipients`, once (the rotator itself needs no part). One that cannot
/// be reached does not hold up the others: removing somebody must not wait for a device with an old bundle.
///
/// # Errors
/// There is no next epoch.
pub fn prepare_rotation(
    crypto: &dyn GroupCrypto,
    rotator: Rotator<'_>,
    current: &Ticket,
    recipients: &[Recipient<'_>],
    mut ends: Vec<LogEnd>,
    now: Millis,
    entropy: &mut dyn Entropy,
) -> Result<PreparedRotation, RotationError> {
    let ticket = current.next_epoch(entropy)?;
    let (epoch, topic, sender) = (ticket.epoch(), ticket.topic(), rotator.device);
    let tickets = (ticket.clone(), ticket.read_only());
    let mut recipients: Vec<&Recipient<'_>> =
        recipients.iter().filter(|recipient| recipient.bundle.device() != sender).collect();
    recipients.arrange_by_key(|recipient| recipient.bundle.device());
    recipients.dedup_by_key(|recipient| recipient.bundle.device());
    let (mut parts, mut left_out) = (Vec::new(), Vec::new());
    for Recipient { bundle, may_write } in recipients {
        let ticket = if *may_write { &tickets.0 } else { &tickets.1 };
        let device = bundle.device();
        match seal_key(crypto, rotator, Purpose::Rotation, bundle, ticket, now) {
            Ok(block) => parts.push(RotationPart { device, block }),
            Err(error) => left_out.push((device, error)),
        }
    }
    ends.arrange_by_key(|end| end.author);
    let rotation = Rotation { epoch, topic, parts, ends, commitment: ticket.commitment(&sender) };
    Ok(PreparedRotation { rotation, ticket, left_out })
}

/// Seals what opens a topic for one device: the first and only block of a session of its own.
///
/// # Errors
/// The device's bundle cannot be used (any more).
pub fn seal_key(
    crypto: &dyn GroupCrypto,
    from: Rotator<'_>,
    purpose: Purpose,
    bundle: &DeviceBundle,
    ticket: &Ticket,
    now: Millis,
) -> Result<Block, CryptoError> {
    let (log, epoch, sender, recipient) = (ticket.log(), ticket.epoch(), from.device, bundle.device());
    let context = Context { purpose, log, epoch, sender, recipient };
    crypto.begin(from.secrets, bundle, &context, &ticket.handover(), now).map(|(_, block)| block)
}

/// The inverse of [`seal_key`] on the device it was sealed for. Only what opens the topic that was named.
///
/// # Errors
/// It does not open, or what is in it opens another topic: [`OpenError::Forged`].
pub fn open_key(
    crypto: &dyn GroupCrypto,
    secrets: &DeviceSecrets,
    context: &Context,
    topic: &TopicId,
    block: &Block,
    now: Millis,
) -> Result<Ticket, OpenError> {
    let (_, payload) = crypto.open(secrets, None, &context.sender, block, now)?.check(context)?;
    let ticket =
        Ticket::from_handover(context.log, context.epoch, &payload).map_err(|_| OpenError::Forged)?;
    if ticket.topic() == *topic { Ok(ticket) } else { Err(OpenError::Forged) }
}

/// A rotation that came, and where.
#[derive(Clone, Copy, Debug)]
pub struct IncomingRotation<'a> {
    /// What it says.
    pub rotation: &'a Rotation,
    /// Who signed it.
    pub rotator: Author,
    /// Of which log.
    pub log: LogId,
    /// The log's epoch up to now.
    pub epoch: u32,
    /// The time.
    pub now: Millis,
}

/// Takes the part of a rotation that is for this device: what opens the new topic. `is_old` says of a topic whether
/// others may hold its keys already.
///
/// # Errors
/// The part does not open, or what is in it is not what the rotation promises to everybody: [`OpenError::Forged`].
pub fn open_rotation(
    crypto: &dyn GroupCrypto,
    secrets: &DeviceSecrets,
    IncomingRotation { rotation, rotator, log, epoch, now }: IncomingRotation<'_>,
    device: &Author,
    is_old: impl Fn(&TopicId) -> bool,
) -> Result<Ticket, OpenError> {
    let (expected, found) = (epoch.saturating_add(1), rotation.epoch);
    if expected != found {
        return Err(OpenError::WrongEpoch { expected, found });
    }
    if is_old(&rotation.topic) {
        return Err(OpenError::OldTopic);
    }
    let block = rotation.part(device).ok_or(OpenError::NoPart)?;
    let context =
        Context { purpose: Purpose::Rotation, log, epoch: found, sender: rotator, recipient: *device };
    // Whatever is in the part: only the topic that everybody moves to, with the secret that everybody gets.
    let ticket = open_key(crypto, secrets, &context, &rotation.topic, block, now)?;
    if ticket.commitment(&rotator) == rotation.commitment { Ok(ticket) } else { Err(OpenError::Forged) }
}
