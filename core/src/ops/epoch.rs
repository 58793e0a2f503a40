//! Keys of epochs that stand already: handed to a device that has none, left behind for whoever may read what was
//! before, asked for again. A new epoch's keys ride in [`super::Rotation`].

use std::fmt;

use cbor_core::Value;

use super::handover::{BLOCK_LEN, Block};
use super::membership::Hidden;
use super::own::TicketBytes;
use super::payload::{Flaw, LimitError, Payload};
use crate::cbor::{array, items, unsigned};
use crate::identity::{Author, LogId, OperationId};
use crate::limits::MAX_HANDED_KEYS;
use crate::topic::TopicId;

const KEY_HAND: &str = "key.hand";
const KEY_PAST: &str = "key.past";
const KEY_ASK: &str = "key.ask";
const KEY_WELCOME: &str = "key.welcome";

/// What is said about the keys of an epoch.
#[derive(Clone, PartialEq, Eq)]
pub enum EpochKeys {
    /// `key.hand`, in a space's log: a manager's device hands keys to devices that lack them; at most
    /// [`MAX_HANDED_KEYS`].
    Hand(Vec<HandedKey>),
    /// `key.past`, in the log itself: what reads the epoch before the one it stands in.
    Past {
        /// That epoch.
        epoch: u32,
        /// The verifying half of its write key: nobody writes there any more.
        write: [u8; 32],
        /// Its secret.
        secret: Hidden,
    },
    /// `key.ask`, in a space's log: its author's device lacks a key.
    Ask {
        /// Of which log.
        log: LogId,
        /// Of which epoch.
        epoch: u32,
        /// What handed it a key that did not open.
        failed: Option<OperationId>,
    },
    /// `key.welcome`, in the inbox of whoever asked to join a space and was let in.
    Welcome {
        /// What they asked with.
        request: OperationId,
        /// What opens the space's log as it is now.
        ticket: TicketBytes,
    },
}

/// One key for one device.
#[derive(Clone, PartialEq, Eq)]
pub struct HandedKey {
    /// Of which log.
    pub log: LogId,
    /// Of which epoch.
    pub epoch: u32,
    /// The epoch's topic.
    pub topic: TopicId,
    /// For which device.
    pub device: Author,
    /// Whether the right to write is in it.
    pub write: bool,
    /// The ticket's version, write key and secret, sealed.
    pub block: Block,
}

impl EpochKeys {
    /// The kind's name on the wire.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Hand(_) => KEY_HAND,
            Self::Past { .. } => KEY_PAST,
            Self::Ask { .. } => KEY_ASK,
            Self::Welcome { .. } => KEY_WELCOME,
        }
    }

    pub(super) const fn check(&self) -> Result<(), LimitError> {
        match self {
            Self::Hand(keys) if keys.len() > MAX_HANDED_KEYS => {
                Err(LimitError::HandedKeys { count: keys.len() })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn payload(&self) -> Value<'static> {
        let pairs = match self {
            Self::Hand(keys) => vec![(0, Value::from(keys.iter().map(HandedKey::value).collect::<Vec<_>>()))],
            Self::Past { epoch, write, secret } => vec![
                (0, Value::from(u64::from(*epoch))),
                (1, Value::from(*write)),
                (2, Value::from(secret.0)),
            ],
            Self::Ask { log, epoch, failed } => {
                let mut pairs = vec![(0, Value::from(log.0)), (1, Value::from(u64::from(*epoch)))];
                pairs.extend(failed.map(|id| (2, Value::from(id.0))));
                pairs
            }
            Self::Welcome { request, ticket } => {
                vec![(0, Value::from(request.0)), (1, Value::from(ticket.0))]
            }
        };
        crate::cbor::map(pairs)
    }

    /// Reads a payload of one of these kinds; `None` for every other kind.
    pub(super) fn read(kind: &str, payload: &Payload<'_, '_>) -> Option<(&'static str, Result<Self, Flaw>)> {
        Some(match kind {
            KEY_HAND => (KEY_HAND, hand(payload)),
            KEY_PAST => (KEY_PAST, past(payload)),
            KEY_ASK => (KEY_ASK, ask(payload)),
            KEY_WELCOME => (KEY_WELCOME, welcome(payload)),
            _ => return None,
        })
    }
}

fn hand(payload: &Payload<'_, '_>) -> Result<EpochKeys, Flaw> {
    let keys = payload.required(0, items)?;
    if keys.len() > MAX_HANDED_KEYS {
        return Err(LimitError::HandedKeys { count: keys.len() }.into());
    }
    let keys = keys.iter().map(HandedKey::parse).collect::<Option<Vec<_>>>();
    Ok(EpochKeys::Hand(keys.ok_or(Flaw::WrongType(0))?))
}

fn past(payload: &Payload<'_, '_>) -> Result<EpochKeys, Flaw> {
    let (epoch, write) = (payload.required(0, epoch)?, payload.required(1, array)?);
    Ok(EpochKeys::Past { epoch, write, secret: Hidden(payload.required(2, array)?) })
}

fn ask(payload: &Payload<'_, '_>) -> Result<EpochKeys, Flaw> {
    let failed = payload.optional(2, array)?.map(OperationId);
    Ok(EpochKeys::Ask {
        log: payload.required(0, array).map(LogId)?,
        epoch: payload.required(1, epoch)?,
        failed,
    })
}

fn welcome(payload: &Payload<'_, '_>) -> Result<EpochKeys, Flaw> {
    let ticket = TicketBytes(payload.required(1, array)?);
    Ok(EpochKeys::Welcome { request: payload.id(0)?, ticket })
}

/// The last one is where operations wait for a place.
fn epoch(value: &Value<'_>) -> Option<u32> {
    u32::try_from(unsigned(value)?).ok().filter(|&epoch| epoch < u32::MAX)
}

impl HandedKey {
    fn value(&self) -> Value<'static> {
        Value::from([
            Value::from(self.log.0),
            Value::from(u64::from(self.epoch)),
            Value::from(self.topic.0),
            Value::from(self.device.0),
            Value::from(u64::from(self.write)),
            Value::from(self.block.to_bytes()),
        ])
    }

    fn parse(value: &Value<'_>) -> Option<Self> {
        let [log, number, topic, device, write, block] = items(value)? else { return None };
        Some(Self {
            log: LogId(array(log)?),
            epoch: epoch(number)?,
            topic: TopicId(array(topic)?),
            device: Author(array(device)?),
            write: match unsigned(write)? {
                0 => false,
                1 => true,
                _ => return None,
            },
            block: Block::from_bytes(&array::<BLOCK_LEN>(block)?).ok()?,
        })
    }
}

/// Shows for whom, not what.
impl fmt::Debug for HandedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandedKey({}, epoch {}, {})", self.log, self.epoch, self.device)
    }
}

#[cfg(all(test, feature = "device"))]
mod tests {
    use super::*;
    use crate::ops::{BLOCK_CONTENT, Body, Content, SessionId};

    fn key(write: bool) -> HandedKey {
        let block = Block { session: SessionId([1; 8]), index: 0, content: Box::new([3; BLOCK_CONTENT]) };
        let (log, topic, device) = (LogId([4; 32]), TopicId([5; 32]), Author([6; 32]));
        HandedKey { log, epoch: 7, topic, device, write, block }
    }

    fn again(keys: EpochKeys) -> Option<Content> {
        let body = Body::new(Content::EpochKeys(Box::new(keys))).encode().ok()?;
        Some(Body::decode(&body).unwrap().content)
    }

    #[test]
    fn what_is_said_of_keys_reads_back() {
        for keys in [
            EpochKeys::Hand(vec![key(true), key(false)]),
            EpochKeys::Past { epoch: 0, write: [8; 32], secret: Hidden([9; 32]) },
            EpochKeys::Ask { log: LogId([1; 32]), epoch: 3, failed: None },
            EpochKeys::Ask { log: LogId([1; 32]), epoch: 3, failed: Some(OperationId([2; 32])) },
            EpochKeys::Welcome { request: OperationId([2; 32]), ticket: TicketBytes([3; TicketBytes::LEN]) },
        ] {
            assert_eq!(again(keys.clone()), Some(Content::EpochKeys(Box::new(keys))));
        }
    }

    #[test]
    fn so_many_keys_are_handed_at_once_and_no_more() {
        assert!(again(EpochKeys::Hand(vec![key(true); MAX_HANDED_KEYS])).is_some());
        let past = EpochKeys::Hand(vec![key(true); MAX_HANDED_KEYS + 1]);
        assert!(again(past.clone()).is_none());
        // What others wrote is read as what it is.
        let map = cbor_core::Map::from_pairs([(0, Value::from(KEY_HAND)), (1, past.payload())]);
        let flaw = Flaw::Limit(LimitError::HandedKeys { count: MAX_HANDED_KEYS + 1 });
        let read = Body::decode(&Value::from(map).encode()).unwrap().content;
        assert_eq!(read, Content::Malformed { kind: KEY_HAND, flaw });
    }

    #[test]
    fn the_last_epoch_is_none() {
        let past = EpochKeys::Past { epoch: u32::MAX, write: [8; 32], secret: Hidden([9; 32]) };
        assert!(matches!(again(past), Some(Content::Malformed { kind: KEY_PAST, .. })));
    }
}
