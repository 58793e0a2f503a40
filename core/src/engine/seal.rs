//! Keys to be sealed for other devices. Sealing draws from the operating system and takes time, so it is given out like
//! other work, and what comes of it is an input: looked at again before it is used, because the space may have changed.

use std::fmt;

use zeroize::Zeroizing;

use crate::crypto::{
    DeviceBundle, DeviceSecrets, GroupCrypto, PreparedRotation, Purpose, Recipient, Rotator, TwoParty,
    prepare_rotation, seal_key,
};
use crate::entropy::SeededEntropy;
use crate::identity::{Author, LogId, Millis, OperationId};
use crate::ops::{HandedKey, LogEnd, Ticket};
use crate::topic::TopicId;

/// Keys to be sealed. Any thread may do it.
#[derive(Clone)]
pub struct SealJob {
    pub(super) number: u64,
    pub(super) device: Author,
    pub(super) now: Millis,
    /// What is drawn of our own comes from it.
    pub(super) seed: Zeroizing<[u8; 32]>,
    pub(super) work: SealWork,
}

#[derive(Clone)]
pub(super) enum SealWork {
    /// A fresh prekey, or the first one.
    Prekey(Option<Box<DeviceSecrets>>),
    /// A topic's successor.
    Rotation {
        space: LogId,
        topic: TopicId,
        heads: Vec<OperationId>,
        secrets: Box<DeviceSecrets>,
        current: Ticket,
        to: Vec<(DeviceBundle, bool)>,
        ends: Vec<LogEnd>,
    },
    /// Keys of epochs that stand.
    Keys {
        space: LogId,
        heads: Vec<OperationId>,
        secrets: Box<DeviceSecrets>,
        keys: Vec<(DeviceBundle, Ticket)>,
    },
}

/// A [`SealJob`] after its work.
#[derive(Debug)]
pub struct Sealed {
    pub(super) number: u64,
    pub(super) result: SealResult,
}

#[derive(Debug)]
pub(super) enum SealResult {
    Prekey {
        /// When the newest prekey expired of what was to be renewed.
        replaced: Option<Millis>,
        secrets: Box<DeviceSecrets>,
    },
    Rotation {
        space: LogId,
        topic: TopicId,
        heads: Vec<OperationId>,
        prepared: Box<PreparedRotation>,
    },
    Keys {
        space: LogId,
        heads: Vec<OperationId>,
        keys: Vec<HandedKey>,
    },
    /// Nothing could be drawn, or there is no next epoch.
    Failed,
}

/// Seals a job's keys.
pub fn seal(job: SealJob) -> Sealed {
    let number = job.number;
    Sealed { number, result: run(job, &TwoParty).unwrap_or(SealResult::Failed) }
}

/// As [`seal`], with nothing but the job's own seed for randomness: the same job gives the same keys. Never for real
/// devices: two jobs of one seed would share their secrets.
#[cfg(feature = "repeatable")]
pub fn seal_repeatably(job: SealJob) -> Sealed {
    let seed = blake3::derive_key("delta simulation seal v1", &*job.seed);
    crate::crypto::with_seed(seed, || seal(job))
}

fn run(job: SealJob, crypto: &dyn GroupCrypto) -> Option<SealResult> {
    let SealJob { device, now, seed, work, .. } = job;
    let mut entropy = SeededEntropy::new(*seed);
    Some(match work {
        SealWork::Prekey(stored) => {
            let replaced = stored.as_ref().map(|secrets| secrets.expires());
            let secrets = match stored {
                Some(secrets) => crypto.rotate_prekey(&secrets, now).ok()?,
                None => crypto.generate(now, &mut entropy).ok()?,
            };
            SealResult::Prekey { replaced, secrets: Box::new(secrets) }
        }
        SealWork::Rotation { space, topic, heads, secrets, current, to, ends } => {
            let rotator = Rotator { device, secrets: &secrets };
            let to: Vec<_> =
                to.iter().map(|(bundle, may_write)| Recipient { bundle, may_write: *may_write }).collect();
            let prepared = prepare_rotation(crypto, rotator, &current, &to, ends, now, &mut entropy);
            SealResult::Rotation { space, topic, heads, prepared: Box::new(prepared.ok()?) }
        }
        SealWork::Keys { space, heads, secrets, keys } => {
            let from = Rotator { device, secrets: &secrets };
            let one = |(bundle, ticket): &(DeviceBundle, Ticket)| {
                let block = seal_key(crypto, from, Purpose::Handed, bundle, ticket, now).ok()?;
                let (log, epoch, topic) = (ticket.log(), ticket.epoch(), ticket.topic());
                let (device, write) = (bundle.device(), ticket.can_write());
                Some(HandedKey { log, epoch, topic, device, write, block })
            };
            SealResult::Keys { space, heads, keys: keys.iter().filter_map(one).collect() }
        }
    })
}

impl fmt::Debug for SealJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let work = match &self.work {
            SealWork::Prekey(_) => "a prekey".to_owned(),
            SealWork::Rotation { topic, to, .. } => format!("a rotation of {topic} for {}", to.len()),
            SealWork::Keys { keys, .. } => format!("{} keys", keys.len()),
        };
        write!(f, "SealJob({}, {work})", self.number)
    }
}
