//! What a person's devices tell each other of direct threads, and what a new one is handed of what was said there.

use std::fmt;

use cbor_core::Value;

use super::membership::Hidden;
use super::payload::check_description;
use super::payload::{Flaw, LimitError, Payload};
use crate::cbor::{array, fields, items, unsigned};
use crate::identity::{Author, LogId, Millis, ThreadId};
use crate::limits::{MAX_DEVICES, MAX_HANDED_PAST};
use crate::topic::{Generation, Seq};

/// `own.thread`: a direct thread as one of the person's devices knows it.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnThread {
    /// Its name.
    pub thread: ThreadId,
    /// How far it is.
    pub stage: Stage,
    /// The other person's device that asked or was asked.
    pub peer: Author,
    /// When it was asked for, by the clock of the device that did or was.
    pub made: Millis,
    /// What was said with the request, at most [`crate::limits::MAX_DESCRIPTION`] bytes.
    pub text: Option<String>,
    /// The newest `device.bundle` of the other person's devices, at most [`MAX_DEVICES`]. Each says itself whose it is.
    pub bundles: Vec<SignedBytes>,
}

/// How far a direct thread is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The person has asked. The request's half of the secret.
    Asked(Hidden),
    /// The other one asks. The same half.
    Requested(Hidden),
    /// Both can write.
    Open(ThreadPlace),
    /// The person takes no more part. Where it lived, if it was ever open.
    Closed(Option<ThreadPlace>),
}

/// Where a direct thread lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadPlace {
    /// Its log.
    pub log: LogId,
    /// The seed of its topic's write key.
    pub write: Hidden,
}

/// An operation as its author has signed it; not checked yet.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedBytes {
    /// The encoded header.
    pub header: Vec<u8>,
    /// The encoded body.
    pub body: Vec<u8>,
}

/// `own.past`: what was said in a direct thread, for a device of the person that cannot open the envelopes.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnPast {
    /// The thread: it may come before what is said of it elsewhere.
    pub thread: OwnThread,
    /// The copy of the topic's log in which the seqs are counted.
    pub generation: Generation,
    /// Each operation and where its envelope stands, at most [`MAX_HANDED_PAST`].
    pub said: Vec<(Seq, SignedBytes)>,
}

/// Shows how long it is, not what it says.
impl fmt::Debug for SignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedBytes({} bytes)", self.header.len() + self.body.len())
    }
}

/// Shows which thread, not what is known of it.
impl fmt::Debug for OwnThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnThread({})", self.thread)
    }
}

/// Shows which thread and how much, not what was said.
impl fmt::Debug for OwnPast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnPast({}, {} operations)", self.thread.thread, self.said.len())
    }
}

impl OwnThread {
    pub(super) fn check(&self) -> Result<(), LimitError> {
        check_description(self.text.as_deref())?;
        check_bundles(&self.bundles)
    }

    pub(super) fn payload(&self) -> Value<'_> {
        let (number, share, place) = match &self.stage {
            Stage::Asked(share) => (0u64, Some(share), None),
            Stage::Requested(share) => (1, Some(share), None),
            Stage::Open(place) => (2, None, Some(place)),
            Stage::Closed(place) => (3, None, place.as_ref()),
        };
        let mut pairs = vec![
            (0, Value::from(self.thread.0)),
            (1, Value::from(number)),
            (2, Value::from(self.peer.0)),
            (3, Value::from(self.made.0)),
        ];
        pairs.extend(self.text.as_ref().map(|text| (4, Value::from(text))));
        pairs.extend(share.map(|share| (5, Value::from(share.0))));
        if let Some(place) = place {
            pairs.extend([(6, Value::from(place.log.0)), (7, Value::from(place.write.0))]);
        }
        pairs.extend(bundles_value(8, &self.bundles));
        crate::cbor::map(pairs)
    }

    pub(super) fn read(payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        let share = || payload.required(5, array).map(Hidden);
        let place = || -> Result<_, Flaw> {
            let log = payload.required(6, array).map(LogId)?;
            Ok(ThreadPlace { log, write: payload.required(7, array).map(Hidden)? })
        };
        let stage = match payload.required(1, unsigned)? {
            0 => Stage::Asked(share()?),
            1 => Stage::Requested(share()?),
            2 => Stage::Open(place()?),
            3 => match payload.optional(6, array::<32>)? {
                Some(_) => Stage::Closed(Some(place()?)),
                None => Stage::Closed(None),
            },
            _ => return Err(Flaw::WrongType(1)),
        };
        Ok(Self {
            thread: payload.required(0, array).map(ThreadId)?,
            stage,
            peer: payload.required(2, array).map(Author)?,
            made: payload.required(3, unsigned).map(Millis)?,
            text: payload.description(4)?,
            bundles: bundles(payload, 8)?,
        })
    }
}

impl OwnPast {
    pub(super) fn check(&self) -> Result<(), LimitError> {
        self.thread.check()?;
        check_past(self.said.len())
    }

    pub(super) fn payload(&self) -> Value<'_> {
        let said = self.said.iter().map(|(seq, operation)| {
            let SignedBytes { header, body } = operation;
            Value::from(vec![
                Value::from(seq.0),
                Value::from(header.as_slice()),
                Value::from(body.as_slice()),
            ])
        });
        let said = Value::from(said.collect::<Vec<_>>());
        crate::cbor::map([(0, self.thread.payload()), (1, Value::from(self.generation.0)), (2, said)])
    }

    pub(super) fn read(payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        let said = payload.required(2, items)?;
        check_past(said.len())?;
        let one = |value| match items(value)? {
            [seq, header, body] => {
                let seq = unsigned(seq).filter(|seq| *seq > 0 && *seq <= i64::MAX as u64)?;
                let [header, body] = [header, body].map(super::own::byte_string);
                Some((Seq(seq), SignedBytes { header: header?.to_vec(), body: body?.to_vec() }))
            }
            _ => None,
        };
        Ok(Self {
            thread: OwnThread::read(&Payload::of(payload.required(0, fields)?))?,
            generation: payload.required(1, array).map(Generation)?,
            said: said.iter().map(one).collect::<Option<_>>().ok_or(Flaw::WrongType(2))?,
        })
    }
}

impl SignedBytes {
    /// Checks it as [`super::verify`] does, whichever log it belongs to.
    #[cfg(feature = "device")]
    pub(crate) fn verify(&self) -> Result<super::VerifiedOperation, super::Rejected> {
        let log = super::peek(&self.header)?.log;
        super::verify(&self.header, &self.body, &log)
    }

    fn value(&self) -> Value<'_> {
        Value::from(vec![Value::from(self.header.as_slice()), Value::from(self.body.as_slice())])
    }

    fn read(value: &Value<'_>) -> Option<Self> {
        match items(value)? {
            [header, body] => {
                let [header, body] = [header, body].map(super::own::byte_string);
                Some(Self { header: header?.to_vec(), body: body?.to_vec() })
            }
            _ => None,
        }
    }
}

/// Bundles under a key; absent where there are none.
pub(super) fn bundles_value(key: u64, bundles: &[SignedBytes]) -> Option<(u64, Value<'_>)> {
    let values = || Value::from(bundles.iter().map(SignedBytes::value).collect::<Vec<_>>());
    (!bundles.is_empty()).then(|| (key, values()))
}

/// Bundles under a key: of their form, and not checked yet.
pub(super) fn bundles(payload: &Payload<'_, '_>, key: u64) -> Result<Vec<SignedBytes>, Flaw> {
    let found = payload.optional(key, items)?.unwrap_or_default();
    if found.len() > MAX_DEVICES {
        return Err(LimitError::Devices { count: found.len() }.into());
    }
    found.iter().map(SignedBytes::read).collect::<Option<_>>().ok_or(Flaw::WrongType(key))
}

pub(super) const fn check_bundles(bundles: &[SignedBytes]) -> Result<(), LimitError> {
    let count = bundles.len();
    if count > MAX_DEVICES { Err(LimitError::Devices { count }) } else { Ok(()) }
}

const fn check_past(count: usize) -> Result<(), LimitError> {
    if count > MAX_HANDED_PAST { Err(LimitError::Past { count }) } else { Ok(()) }
}
