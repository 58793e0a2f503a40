//! `device.tell`: what a device says of its person's devices in a space's log that it cannot write in, on its way
//! through a manager's inbox.
//!
//! The operations inside are signed by the device, for the space's log, as if it had published them there: whoever may
//! write there may deliver them, and everybody judges them as what they are.

use std::fmt;

use cbor_core::Value;

use super::payload::{Flaw, LimitError, Payload};
use crate::cbor::{array, bytes, items};
use crate::identity::LogId;
use crate::limits::{MAX_TOLD, MAX_TOLD_LEN};

pub(super) const DEVICE_TELL: &str = "device.tell";

/// What a device says in a space's log by way of a manager's inbox.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceTell {
    /// The space's log id.
    pub space: LogId,
    /// In the order of their numbers; at most [`MAX_TOLD`].
    pub operations: Vec<ToldOperation>,
}

/// An operation as it was signed. Nothing of it has been checked.
#[derive(Clone, PartialEq, Eq)]
pub struct ToldOperation {
    /// Its header.
    pub header: Vec<u8>,
    /// Its body; with the header at most [`MAX_TOLD_LEN`] bytes.
    pub body: Vec<u8>,
}

impl DeviceTell {
    pub(super) fn check(&self) -> Result<(), LimitError> {
        check_count(self.operations.len())?;
        self.operations.iter().try_for_each(|it| check_len(it.header.len(), it.body.len()))
    }

    pub(super) fn payload(&self) -> Value<'_> {
        let operation = |it: &'_ ToldOperation| {
            Value::from([Value::from(it.header.clone()), Value::from(it.body.clone())])
        };
        let operations: Vec<_> = self.operations.iter().map(operation).collect();
        crate::cbor::map([(0, Value::from(self.space.0)), (1, Value::from(operations))])
    }

    pub(super) fn read(payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        let space = payload.required(0, array).map(LogId)?;
        let told = payload.required(1, items)?;
        check_count(told.len())?;
        let mut operations = Vec::with_capacity(told.len());
        for pair in told {
            let Some([header, body]) = items(pair) else { return Err(Flaw::WrongType(1)) };
            let (Some(header), Some(body)) = (bytes(header), bytes(body)) else {
                return Err(Flaw::WrongType(1));
            };
            check_len(header.len(), body.len())?;
            operations.push(ToldOperation { header: header.to_vec(), body: body.to_vec() });
        }
        Ok(Self { space, operations })
    }
}

const fn check_count(count: usize) -> Result<(), LimitError> {
    if count > MAX_TOLD { Err(LimitError::Told { count }) } else { Ok(()) }
}

const fn check_len(header: usize, body: usize) -> Result<(), LimitError> {
    let len = header.saturating_add(body);
    if len > MAX_TOLD_LEN { Err(LimitError::ToldLen { len }) } else { Ok(()) }
}

/// Shows how much of it there is, not what it says.
impl fmt::Debug for ToldOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ToldOperation({} bytes)", self.header.len() + self.body.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Body, Content};

    fn tell(count: usize, len: usize) -> Content {
        let header = vec![1; len / 2];
        let operation = ToldOperation { body: vec![2; len - header.len()], header };
        let tell = DeviceTell { space: LogId([3; 32]), operations: vec![operation; count] };
        Content::DeviceTell(Box::new(tell))
    }

    #[test]
    fn what_is_told_reads_back_up_to_its_limits_and_not_past_them() {
        for within in [tell(0, 0), tell(1, 5), tell(MAX_TOLD, MAX_TOLD_LEN)] {
            let body = Body::new(within.clone()).encode().unwrap();
            assert_eq!(Body::decode(&body).unwrap().content, within);
        }
        let (many, long) =
            (LimitError::Told { count: MAX_TOLD + 1 }, LimitError::ToldLen { len: MAX_TOLD_LEN + 1 });
        for (past, error) in [(tell(MAX_TOLD + 1, 1), many), (tell(1, MAX_TOLD_LEN + 1), long)] {
            assert!(Body::new(past.clone()).encode().is_err());
            // What others wrote is read as what it is.
            let Content::DeviceTell(said) = &past else { panic!() };
            let map = cbor_core::Map::from_pairs([(0, Value::from(DEVICE_TELL)), (1, said.payload())]);
            let read = Body::decode(&Value::from(map).encode()).unwrap().content;
            assert_eq!(read, Content::Malformed { kind: DEVICE_TELL, flaw: Flaw::Limit(error) });
        }
    }
}
