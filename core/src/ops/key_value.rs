//! Key-values: bytes under a collection and a key. The last writer wins, by hybrid logical time, then operation id
//! (docs/wire.md, section 12.2). Which operation stands for a key is the store's to know.

use std::fmt;

use cbor_core::Value;

use super::payload::{Flaw, LimitError, Payload};
use crate::cbor::{array, bytes, items, text, unsigned};
use crate::identity::{Millis, OperationId};
use crate::limits::{MAX_AHEAD_MS, MAX_COLLECTION, MAX_KEY, MAX_REPLACED, MAX_VALUE};

/// A key in a collection. Sorts by collection, then key, byte by byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueKey {
    /// 1 to [`MAX_COLLECTION`] bytes.
    pub collection: String,
    /// 1 to [`MAX_KEY`] bytes.
    pub key: String,
}

impl ValueKey {
    /// A key in a collection.
    pub fn new(collection: impl Into<String>, key: impl Into<String>) -> Self {
        Self { collection: collection.into(), key: key.into() }
    }
}

/// Shows no name: it is the app's text.
impl fmt::Debug for ValueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueKey({} + {} bytes)", self.collection.len(), self.key.len())
    }
}

/// A hybrid logical time: milliseconds · 2^16 + counter, below 2^63. Decides which of several values of a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HybridTime(u64);

impl HybridTime {
    /// The last one.
    pub const MAX: Self = Self(i64::MAX as u64);
    const COUNTER_BITS: u32 = 16;

    /// From its number on the wire; `None` above [`HybridTime::MAX`].
    pub const fn from_number(number: u64) -> Option<Self> {
        if number > Self::MAX.0 { None } else { Some(Self(number)) }
    }

    /// Its number on the wire.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Its milliseconds since the Unix epoch.
    pub const fn millis(self) -> Millis {
        Millis(self.0 >> Self::COUNTER_BITS)
    }

    /// The first of a millisecond.
    pub fn at(now: Millis) -> Self {
        Self(now.0.saturating_mul(1 << Self::COUNTER_BITS)).min(Self::MAX)
    }

    /// The time of what is written now over values with these times; `None` where one of them is more than
    /// [`MAX_AHEAD_MS`] ahead of the clock, so that nobody follows it there.
    fn after(self, now: Millis) -> Option<Self> {
        let fresh = Self::at(now);
        if self < fresh {
            return Some(fresh);
        }
        let ahead = self.millis().0 > now.0.saturating_add(MAX_AHEAD_MS);
        if ahead { None } else { Self::from_number(self.0 + 1) }
    }
}

/// `kv.put` and `kv.delete`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// Where.
    pub at: ValueKey,
    /// What, at most [`MAX_VALUE`] bytes; `None` to delete.
    pub value: Option<Vec<u8>>,
    /// When, as far as it decides which value stands.
    pub time: HybridTime,
    /// Operations about the same key that count no longer, whatever their time, at most [`MAX_REPLACED`].
    pub replaces: Vec<OperationId>,
}

/// Shows the operation's kind and time, not what it says.
impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyValue({}, {:?}, {:?})", self.kind(), self.at, self.time)
    }
}

impl KeyValue {
    /// What to say at `now`, so that it stands over all of `standing` (highest first). What is too far ahead of the
    /// clock is replaced by name, and its time is not followed.
    pub fn over(
        now: Millis,
        at: ValueKey,
        value: Option<Vec<u8>>,
        standing: &[(HybridTime, OperationId)],
    ) -> Self {
        let mut replaces = Vec::new();
        for (time, id) in standing {
            if let Some(time) = time.after(now) {
                return Self { at, value, time, replaces };
            }
            if replaces.len() < MAX_REPLACED {
                replaces.push(*id);
            }
        }
        Self { at, value, time: HybridTime::at(now), replaces }
    }

    /// Whether none of these times is followed by one whose clock says `now`.
    pub fn all_too_far(now: Millis, standing: &[(HybridTime, OperationId)]) -> bool {
        standing.iter().all(|(time, _)| time.after(now).is_none())
    }

    pub(super) const fn kind(&self) -> &'static str {
        if self.value.is_some() { KV_PUT } else { KV_DELETE }
    }

    /// How much the app's text is.
    pub(super) fn text_len(&self) -> usize {
        self.at.collection.len() + self.at.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }

    pub(super) fn check(&self) -> Result<(), LimitError> {
        check_name(&self.at.collection, &self.at.key)?;
        check_value(self.value.as_deref().unwrap_or_default())?;
        check_replaced(self.replaces.len())
    }

    pub(super) fn payload(&self) -> Value<'_> {
        let mut pairs = vec![
            (0, Value::from(&self.at.collection)),
            (1, Value::from(&self.at.key)),
            (2, Value::from(self.time.0)),
        ];
        pairs.extend(self.value.as_deref().map(|value| (3, Value::from(value))));
        if !self.replaces.is_empty() {
            let ids: Vec<_> = self.replaces.iter().map(|id| Value::from(&id.0)).collect();
            pairs.push((4, Value::from(ids)));
        }
        crate::cbor::map(pairs)
    }

    pub(super) fn put_from(payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        let delete = Self::delete_from(payload)?;
        let value = payload.required(3, bytes)?;
        check_value(value)?;
        Ok(Self { value: Some(value.to_vec()), ..delete })
    }

    pub(super) fn delete_from(payload: &Payload<'_, '_>) -> Result<Self, Flaw> {
        let (collection, key) = (payload.required(0, text)?, payload.required(1, text)?);
        check_name(collection, key)?;
        let time = payload.required(2, unsigned)?;
        let time = HybridTime::from_number(time).ok_or(LimitError::Time { time })?;
        let replaces = payload.optional(4, items)?.unwrap_or_default();
        check_replaced(replaces.len())?;
        let replaces = replaces.iter().map(|id| array(id).map(OperationId)).collect::<Option<_>>();
        let (value, replaces) = (None, replaces.ok_or(Flaw::WrongType(4))?);
        Ok(Self { at: ValueKey::new(collection, key), value, time, replaces })
    }
}

/// The kind that sets a value.
pub(super) const KV_PUT: &str = "kv.put";
/// The kind that deletes one.
pub(super) const KV_DELETE: &str = "kv.delete";

const fn check_name(collection: &str, key: &str) -> Result<(), LimitError> {
    let (len, key_len) = (collection.len(), key.len());
    if len == 0 || len > MAX_COLLECTION {
        return Err(LimitError::Collection { len });
    }
    if key_len == 0 || key_len > MAX_KEY { Err(LimitError::Key { len: key_len }) } else { Ok(()) }
}

const fn check_value(value: &[u8]) -> Result<(), LimitError> {
    if value.len() > MAX_VALUE { Err(LimitError::Value { len: value.len() }) } else { Ok(()) }
}

const fn check_replaced(count: usize) -> Result<(), LimitError> {
    if count > MAX_REPLACED { Err(LimitError::Replaced { count }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_000_000);
    const AHEAD: u64 = MAX_AHEAD_MS;

    fn over(standing: &[(HybridTime, OperationId)]) -> (HybridTime, usize) {
        let write = KeyValue::over(NOW, ValueKey::new("a", "b"), None, standing);
        (write.time, write.replaces.len())
    }

    fn standing(time: HybridTime) -> (HybridTime, OperationId) {
        (time, OperationId([1; 32]))
    }

    #[test]
    fn a_time_is_the_clock_or_one_more_than_what_stands() {
        assert_eq!(over(&[]), (HybridTime(1_000_000 << 16), 0));
        let before = HybridTime::at(Millis(NOW.0 - 1));
        assert_eq!(over(&[standing(before)]), (HybridTime::at(NOW), 0));
        assert_eq!(over(&[standing(HybridTime::at(NOW))]), (HybridTime((1_000_000 << 16) + 1), 0));
        // The counter overflows into the milliseconds.
        let full = HybridTime((1_000_000 << 16) + 0xffff);
        assert_eq!(over(&[standing(full)]), (HybridTime(1_000_001 << 16), 0));
    }

    #[test]
    fn a_time_too_far_ahead_is_replaced_and_not_followed() {
        let limit = HybridTime::at(Millis(NOW.0 + AHEAD));
        assert_eq!(over(&[standing(limit)]), (HybridTime(limit.0 + 1), 0), "at the limit");
        let past = HybridTime::at(Millis(NOW.0 + AHEAD + 1));
        assert_eq!(over(&[standing(past)]), (HybridTime::at(NOW), 1), "past it");
        // What stands below it is followed all the same.
        let below = HybridTime((1_000_000 << 16) + 7);
        assert_eq!(
            over(&[standing(HybridTime::MAX), standing(past), standing(below)]),
            (HybridTime(below.0 + 1), 2)
        );
        let many = vec![standing(HybridTime::MAX); MAX_REPLACED + 1];
        assert_eq!(over(&many), (HybridTime::at(NOW), MAX_REPLACED));
    }

    #[test]
    fn a_clock_past_the_end_of_time_is_its_end() {
        assert_eq!(HybridTime::at(Millis(u64::MAX)), HybridTime::MAX);
        assert_eq!(HybridTime::from_number(1 << 63), None);
        let last = [standing(HybridTime::MAX)];
        let write = KeyValue::over(Millis(u64::MAX), ValueKey::new("a", "b"), None, &last);
        assert_eq!((write.time, write.replaces.len()), (HybridTime::MAX, 1));
    }
}
