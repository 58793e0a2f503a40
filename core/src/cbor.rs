//! The one way foreign CBOR is read here: deterministic (RFC 8949 §4.2.1) or not at all, with bounded nesting and
//! a bounded number of items, so that neither stack nor memory follows what the bytes claim.
//!
//! Never through serde: cbor-core's `deserialize_any` panics on a simple value in a tag.

use std::collections::BTreeMap;

use cbor_core::{DecodeOptions, Error, Map, Value};

/// A decoded map, borrowed from the bytes it was read from.
pub(crate) type Fields<'a> = BTreeMap<Value<'a>, Value<'a>>;

/// Bytes a decoder may reserve on the word of a length it has not seen the items of.
const RESERVE: usize = 4096;

/// Decodes exactly one value; text and byte strings borrow from `bytes`.
///
/// One function, called and not copied, that takes a reference to a slice: so cbor-core's decoder, compiled for each type of
/// input, has this one caller (p2panda reads from another type). Where there is one, which says what the
/// format is, the readers of hexadecimal and diagnostic notation fall away, and what reads decimal fractions with them
/// (docs/adr/0016).
#[inline(never)]
pub(crate) fn decode<'a>(bytes: &'a &'a [u8], nesting: u16, length: usize) -> Result<Value<'a>, Error> {
    DecodeOptions::new()
        .recursion_limit(nesting)
        .length_limit(length as u64)
        .oom_mitigation(RESERVE)
        .decode(bytes)
}

/// A map to be written. cbor-core's own way sorts, in code of its own for each iterator (`crate::tree`).
pub(crate) fn map<'a>(pairs: impl IntoIterator<Item = (u64, Value<'a>)>) -> Value<'a> {
    let mut fields = Fields::new();
    fields.extend(pairs.into_iter().map(|(key, value)| (Value::Unsigned(key), value)));
    Value::from(Map::from(fields))
}

/// The value under an integer key.
pub(crate) fn field<'v, 'a>(fields: &'v Fields<'a>, key: u64) -> Option<&'v Value<'a>> {
    fields.get(&Value::Unsigned(key))
}

/// `Err` when the key is there but does not parse.
pub(crate) fn optional<'v, 'a, T>(
    fields: &'v Fields<'a>,
    key: u64,
    parse: impl FnOnce(&'v Value<'a>) -> Option<T>,
) -> Result<Option<T>, ()> {
    field(fields, key).map(|value| parse(value).ok_or(())).transpose()
}

// The accessors below match one CBOR type each. cbor-core's own `as_*` methods look through tags, which would
// give one field several encodings.

/// A byte string of exactly `N` bytes.
pub(crate) fn array<const N: usize>(value: &Value<'_>) -> Option<[u8; N]> {
    match value {
        Value::ByteString(bytes) => bytes.as_ref().try_into().ok(),
        _ => None,
    }
}

/// A byte string of any length.
pub(crate) fn bytes<'v>(value: &'v Value<'_>) -> Option<&'v [u8]> {
    match value {
        Value::ByteString(bytes) => Some(bytes),
        _ => None,
    }
}

/// A text string.
pub(crate) fn text<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    match value {
        Value::TextString(text) => Some(text),
        _ => None,
    }
}

/// An unsigned integer below 2⁶⁴.
pub(crate) const fn unsigned(value: &Value<'_>) -> Option<u64> {
    match value {
        Value::Unsigned(number) => Some(*number),
        _ => None,
    }
}

/// An array's items.
pub(crate) fn items<'v, 'a>(value: &'v Value<'a>) -> Option<&'v [Value<'a>]> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

/// A map's entries.
pub(crate) const fn fields<'v, 'a>(value: &'v Value<'a>) -> Option<&'v Fields<'a>> {
    match value {
        Value::Map(fields) => Some(fields),
        _ => None,
    }
}

/// Whether a tag stands anywhere in a value. Decoding bounded its depth.
pub(crate) fn has_tag(value: &Value<'_>) -> bool {
    match value {
        Value::Tag(..) => true,
        Value::Array(items) => items.iter().any(has_tag),
        Value::Map(fields) => fields.iter().any(|(key, value)| has_tag(key) || has_tag(value)),
        _ => false,
    }
}

/// Whether `bytes` hold more than `limit` data items, counted over all levels without building any.
///
/// A decoded item takes tens of bytes, an encoded one may take a single byte: the count is what bounds memory.
/// Malformed bytes end the count early; the decoder finds them.
pub(crate) fn has_more_items_than(bytes: &[u8], limit: usize) -> bool {
    let mut rest = bytes;
    let mut count = 0;
    while let Some((&head, after)) = rest.split_first() {
        count += 1;
        if count > limit {
            return true;
        }
        let width = match head & 0x1f {
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => 0,
        };
        let Some((argument, after)) = after.split_at_checked(width) else { return false };
        let value = match width {
            0 => u64::from(head & 0x1f),
            _ => argument.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)),
        };
        let is_string = matches!(head >> 5, 2 | 3);
        let skip = if is_string { usize::try_from(value).unwrap_or(usize::MAX) } else { 0 };
        let Some(next) = after.get(skip..) else { return false };
        rest = next;
    }
    false
}
