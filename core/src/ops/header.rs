//! An operation's header: what it holds beside p2panda's own fields, and how to read it without a signature check.

use std::fmt;

use cbor_core::Value;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::verify::Rejected;
use crate::cbor::{array, decode, field, fields, has_tag, items, unsigned};
use crate::identity::{Author, Certificate, LogId, OperationId};
use crate::limits::{MAX_HEADER, MAX_HEADER_FIELD, MAX_OPERATION};

/// Our header extension: the CBOR map {0: log id, 1?: device certificate}. Unknown keys are ignored.
///
/// The log id stands under the signature, so an operation cannot be replayed in another conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions {
    /// The conversation the operation belongs to.
    pub log: LogId,
    /// Whose device signs, where the operation says so.
    pub certificate: Option<Certificate>,
}

const KEY_LOG: u64 = 0;
const KEY_CERTIFICATE: u64 = 1;
/// Deepest nesting inside a header, as p2panda decodes it.
const MAX_HEADER_NESTING: u16 = 64;
const VERSION: u64 = 1;

/// What a header says, read without checking its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek {
    /// Who claims to have signed.
    pub author: Author,
    /// The conversation.
    pub log: LogId,
    /// Place in the author's log, from 0.
    pub seq_num: u32,
    /// The operation before it; `None` exactly at `seq_num` 0.
    pub backlink: Option<OperationId>,
    /// Length of the body, at least 1.
    pub payload_size: u32,
    /// BLAKE3 of the body.
    pub payload_hash: [u8; 32],
    /// Whose device this is said to be.
    pub certificate: Option<Certificate>,
}

/// Reads a header's fields **without checking the signature**: for cheap checks first, and for rows that were
/// verified before they were stored.
pub fn peek(header: &[u8]) -> Result<Peek, Rejected> {
    if header.len() > MAX_HEADER {
        return Err(Rejected::TooLong { len: header.len() });
    }
    let value = decode(&header, MAX_HEADER_NESTING, MAX_HEADER_FIELD).map_err(Rejected::HeaderCbor)?;
    if has_tag(&value) {
        return Err(Rejected::HeaderTag);
    }
    let mut rest = items(&value).ok_or(Rejected::HeaderField("header"))?.iter();
    let mut next = |name| rest.next().ok_or(Rejected::HeaderField(name));

    if unsigned(next("version")?) != Some(VERSION) {
        return Err(Rejected::HeaderField("version"));
    }
    let author = bytes(next("verifying_key")?, "verifying_key").map(Author)?;
    let _signature: [u8; 64] = bytes(next("signature")?, "signature")?;
    let payload_size = number(next("payload_size")?, "payload_size")?;
    if payload_size == 0 {
        return Err(Rejected::NoBody);
    }
    if payload_size as usize > MAX_OPERATION {
        return Err(Rejected::TooLong { len: payload_size as usize });
    }
    let payload_hash = bytes(next("payload_hash")?, "payload_hash")?;
    let seq_num = number(next("seq_num")?, "seq_num")?;
    if seq_num == u32::MAX {
        return Err(Rejected::LogFull);
    }
    let backlink = match seq_num {
        0 => None,
        _ => Some(OperationId(bytes(next("backlink")?, "backlink")?)),
    };
    let extensions = fields(next("extensions")?).ok_or(Rejected::HeaderField("extensions"))?;
    let log = field(extensions, KEY_LOG).ok_or(Rejected::HeaderField("log_id"))?;
    let log = bytes(log, "log_id").map(LogId)?;
    let certificate = match field(extensions, KEY_CERTIFICATE) {
        Some(value) => Some(certificate(value)?),
        None => None,
    };
    if rest.next().is_some() {
        return Err(Rejected::HeaderField("end"));
    }
    Ok(Peek { author, log, seq_num, backlink, payload_size, payload_hash, certificate })
}

fn certificate(value: &Value<'_>) -> Result<Certificate, Rejected> {
    let bytes = bytes::<{ Certificate::LEN }>(value, "device certificate")?;
    Certificate::from_bytes(&bytes).map_err(|_| Rejected::HeaderField("device certificate"))
}

fn bytes<const N: usize>(value: &Value<'_>, name: &'static str) -> Result<[u8; N], Rejected> {
    array(value).ok_or(Rejected::HeaderField(name))
}

fn number(value: &Value<'_>, name: &'static str) -> Result<u32, Rejected> {
    unsigned(value).and_then(|number| u32::try_from(number).ok()).ok_or(Rejected::HeaderField(name))
}

impl Serialize for Extensions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + usize::from(self.certificate.is_some())))?;
        map.serialize_entry(&KEY_LOG, &Value::from(&self.log.0))?;
        if let Some(certificate) = &self.certificate {
            map.serialize_entry(&KEY_CERTIFICATE, &Value::from(certificate.to_bytes()))?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Extensions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ExtensionsVisitor)
    }
}

struct ExtensionsVisitor;

impl<'de> Visitor<'de> for ExtensionsVisitor {
    type Value = Extensions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with a log id of 32 bytes under key 0")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Extensions, A::Error> {
        use serde::de::Error;
        let (mut log, mut certificate) = (None, None);
        while let Some(Key(key)) = map.next_key()? {
            if key == Some(KEY_LOG) {
                log = Some(LogId(map.next_value::<Fixed<32>>()?.0));
            } else if key == Some(KEY_CERTIFICATE) {
                let bytes = map.next_value::<Fixed<{ Certificate::LEN }>>()?.0;
                certificate = Some(Certificate::from_bytes(&bytes).map_err(A::Error::custom)?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        let log = log.ok_or_else(|| A::Error::missing_field("log id"))?;
        Ok(Extensions { log, certificate })
    }
}

/// A key of the map: an unsigned number, or anything else.
///
/// Asks for a number and takes a refusal for an answer. Asking what the key is (`deserialize_any`) panics in
/// cbor-core when it is a simple value in a tag.
struct Key(Option<u64>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_none<E>(self) -> Result<Key, E> {
        Ok(Key(None))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        Ok(Key(u64::deserialize(deserializer).ok()))
    }
}

/// A byte string of exactly this length.
struct Fixed<const N: usize>([u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Fixed<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(FixedVisitor)
    }
}

struct FixedVisitor<const N: usize>;

impl<const N: usize> Visitor<'_> for FixedVisitor<N> {
    type Value = Fixed<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Fixed<N>, E> {
        bytes.try_into().map(Fixed).map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}
