//! What a person's own devices say to each other: a new one asks to be paired, and all of them share topics.

use std::fmt;

use cbor_core::Value;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::payload::{Flaw, LimitError, Payload};
use super::thread::{OwnPast, OwnThread};
use crate::cbor::array;
use crate::identity::OperationId;
use crate::limits::MAX_OPERATION;

/// A kind of a pairing's topic, or of the topic that a person's devices share.
#[derive(Clone, PartialEq, Eq)]
pub enum OwnDevices {
    /// `pair.ask`: the device that signs wants to be a device of the person whose pairing text it was given.
    Ask,
    /// `pair.answer`: the device of the pairing text has taken an ask.
    Answer {
        /// The ask.
        ask: OperationId,
        /// For the code that both devices show.
        nonce: [u8; 32],
    },
    /// `pair.welcome`: what makes the new device the person's.
    Welcome {
        /// The answer.
        answer: OperationId,
        /// Sealed to the new device ([`crate::pairing`]).
        sealed: Vec<u8>,
    },
    /// `own.topic`: a topic that one of the person's devices has opened.
    Topic {
        /// What opens it.
        ticket: TicketBytes,
    },
    /// `own.thread`: a direct thread of the person.
    Thread(Box<OwnThread>),
    /// `own.past`, in the inbox of a device of the person: what was said in a direct thread.
    Past(Box<OwnPast>),
}

/// A ticket that travels in a body: wiped on drop, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct TicketBytes(pub [u8; Self::LEN]);

impl TicketBytes {
    /// Bytes of every ticket (docs/wire.md, section 14).
    pub const LEN: usize = 101;
}

/// Shows the kind, not what it says.
impl fmt::Debug for OwnDevices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

const ASK: &str = "pair.ask";
const ANSWER: &str = "pair.answer";
const WELCOME: &str = "pair.welcome";
const TOPIC: &str = "own.topic";
const THREAD: &str = "own.thread";
const PAST: &str = "own.past";

impl OwnDevices {
    /// The kind's name on the wire.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Ask => ASK,
            Self::Answer { .. } => ANSWER,
            Self::Welcome { .. } => WELCOME,
            Self::Topic { .. } => TOPIC,
            Self::Thread(_) => THREAD,
            Self::Past(_) => PAST,
        }
    }

    pub(super) fn check(&self) -> Result<(), LimitError> {
        match self {
            Self::Thread(thread) => thread.check(),
            Self::Past(past) => past.check(),
            Self::Ask | Self::Answer { .. } | Self::Welcome { .. } | Self::Topic { .. } => Ok(()),
        }
    }

    pub(super) fn payload(&self) -> Value<'_> {
        let pairs = match self {
            Self::Ask => Vec::new(),
            Self::Answer { ask, nonce } => vec![(0, Value::from(ask.0)), (1, Value::from(*nonce))],
            Self::Welcome { answer, sealed } => {
                vec![(0, Value::from(answer.0)), (1, Value::from(sealed.as_slice()))]
            }
            Self::Topic { ticket } => vec![(0, Value::from(&ticket.0[..]))],
            Self::Thread(thread) => return thread.payload(),
            Self::Past(past) => return past.payload(),
        };
        crate::cbor::map(pairs)
    }

    /// What a kind says; `None` when the kind is none of these.
    pub(super) fn read(kind: &str, payload: &Payload<'_, '_>) -> Option<(&'static str, Result<Self, Flaw>)> {
        Some(match kind {
            ASK => (ASK, Ok(Self::Ask)),
            ANSWER => (ANSWER, Self::answer(payload)),
            WELCOME => (WELCOME, Self::welcome(payload)),
            TOPIC => (TOPIC, Self::topic(payload)),
            THREAD => (THREAD, OwnThread::read(payload).map(|thread| Self::Thread(Box::new(thread)))),
            PAST => (PAST, OwnPast::read(payload).map(|past| Self::Past(Box::new(past)))),
            _ => return None,
        })
    }

    fn answer(payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        Ok(Self::Answer { ask: payload.id(0)?, nonce: payload.required(1, array)? })
    }

    fn welcome(payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        let sealed = payload.required(1, byte_string)?;
        Ok(Self::Welcome { answer: payload.id(0)?, sealed: sealed.to_vec() })
    }

    fn topic(payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        Ok(Self::Topic { ticket: TicketBytes(payload.required(0, array)?) })
    }
}

pub(super) fn byte_string<'v, 'a>(value: &'v Value<'a>) -> Option<&'v [u8]> {
    match value {
        Value::ByteString(bytes) if bytes.len() <= MAX_OPERATION => Some(bytes),
        _ => None,
    }
}
