//! Signing: a body becomes the next operation of this device's log.

use std::fmt;

use cbor_core::Value;
use p2panda_core::{Hash, Header, SigningKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::body::{Body, EncodeError};
use super::content::Content;
use super::header::{Extensions, Peek};
use super::verify::VerifiedOperation;
use crate::identity::{Author, Certificate, CertificateError, LogId, OperationId};
use crate::limits::{MAX_HEADER_FIELD, MAX_OPERATION};
use crate::onion::IdentitySecret;

/// Signs `body` as operation `seq_num` of this key's log. Pure: the same arguments give the same bytes.
///
/// `backlink` is the id of operation `seq_num - 1`, and `None` exactly at 0.
pub fn create(
    key: &DeviceKey,
    log: LogId,
    seq_num: u32,
    backlink: Option<OperationId>,
    body: &Body,
) -> Result<VerifiedOperation, CreateError> {
    // Who asks to be let in, or says with which keys it is answered, may be seen for the first time.
    let asks = matches!(
        body.content,
        Content::InviteClaim { .. } | Content::JoinRequest { .. } | Content::DeviceBundle(_)
    );
    create_as(key, log, seq_num, backlink, body, seq_num == 0 || asks)
}

/// The same as what others may see first of this device: it says whose device signs.
pub fn create_introducing(
    key: &DeviceKey,
    log: LogId,
    seq_num: u32,
    backlink: Option<OperationId>,
    body: &Body,
) -> Result<VerifiedOperation, CreateError> {
    create_as(key, log, seq_num, backlink, body, true)
}

fn create_as(
    key: &DeviceKey,
    log: LogId,
    seq_num: u32,
    backlink: Option<OperationId>,
    body: &Body,
    introduce: bool,
) -> Result<VerifiedOperation, CreateError> {
    if seq_num == u32::MAX {
        return Err(CreateError::LogFull);
    }
    if (seq_num == 0) != backlink.is_none() {
        return Err(CreateError::Backlink);
    }
    let bytes = body.encode()?;
    if bytes.len() > MAX_OPERATION {
        return Err(CreateError::TooLarge { len: bytes.len() });
    }
    let certificate = key.certificate.filter(|_| introduce);
    let header = sign(key, Extensions { log, certificate }, seq_num, backlink, &bytes)?;
    let encoded = header.encode();
    if encoded.len() + bytes.len() > MAX_OPERATION {
        return Err(CreateError::TooLarge { len: encoded.len() + bytes.len() });
    }
    let facts = Peek {
        author: key.author(),
        log,
        seq_num,
        backlink,
        payload_size: header.payload_size,
        payload_hash: header.payload_hash.map(|hash| *hash.as_bytes()).unwrap_or_default(),
        certificate,
    };
    let id = OperationId(*header.hash().as_bytes());
    Ok(VerifiedOperation::created(id, facts, encoded, bytes, body.clone()))
}

/// Builds and signs a header. p2panda's builder does not check the field limit its decoder enforces: an operation
/// past it could be stored but never read back, not even by its author.
fn sign<E>(
    key: &DeviceKey,
    extensions: E,
    seq_num: u32,
    backlink: Option<OperationId>,
    body: &[u8],
) -> Result<Header<E>, CreateError>
where
    E: Clone + fmt::Debug + Serialize + DeserializeOwned,
{
    let value = Value::serialized(&extensions).map_err(|_| CreateError::HeaderField)?;
    if !fits_header(&value) {
        return Err(CreateError::HeaderField);
    }
    Ok(Header::builder()
        .body(body)
        .seq_num(seq_num)
        .backlink(backlink.map(|id| Hash::from(id.0)))
        .build(&key.key, extensions))
}

/// Whether every string, array and map in `value` is within what p2panda decodes.
fn fits_header(value: &Value<'_>) -> bool {
    let fits = |len| len <= MAX_HEADER_FIELD;
    match value {
        Value::ByteString(bytes) => fits(bytes.len()),
        Value::TextString(text) => fits(text.len()),
        Value::Array(items) => fits(items.len()) && items.iter().all(fits_header),
        Value::Map(fields) => {
            fits(fields.len()) && fields.iter().all(|(key, value)| fits_header(key) && fits_header(value))
        }
        Value::Tag(_, content) => fits_header(content),
        Value::SimpleValue(_) | Value::Unsigned(_) | Value::Negative(_) | Value::Float(_) => true,
    }
}

/// The Ed25519 key a device signs its operations with, and what says whose device it is. Wiped on drop, never printed.
#[derive(Clone)]
pub struct DeviceKey {
    key: SigningKey,
    /// Stands in the first operation of every log, and of every topic.
    certificate: Option<Certificate>,
}

impl DeviceKey {
    /// From the Ed25519 seed (RFC 8032).
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(seed), certificate: None }
    }

    /// The same key as a device of the identity that certifies it. (A key without certificate is its own identity.)
    ///
    /// # Errors
    /// The certificate is not one for this key.
    pub fn certified(self, certificate: Certificate) -> Result<Self, CertificateError> {
        certificate.verify(&self.author())?;
        Ok(Self { certificate: Some(certificate), ..self })
    }

    /// What says whose device this is.
    pub const fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// Signs what is no operation; the caller's message begins with a context of its own.
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// A secret of this device's for another purpose, named by the context.
    pub(crate) fn derive(&self, context: &'static str) -> [u8; 32] {
        blake3::derive_key(context, self.key.as_bytes())
    }

    /// The key that envelopes for this device's inbox are sealed to.
    pub(crate) fn inbox_secret(&self) -> IdentitySecret {
        IdentitySecret::from_seed(self.key.as_bytes())
    }

    /// The verifying half: how others know this device.
    pub fn author(&self) -> Author {
        Author(*self.key.verifying_key().as_bytes())
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(..)")
    }
}

/// An operation could not be made. The caller is at fault; nothing was signed or stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CreateError {
    /// The body is above a limit or cannot be written.
    #[error(transparent)]
    Body(#[from] EncodeError),
    /// Header and body together are too large.
    #[error("the operation has {len} bytes, at most {MAX_OPERATION} are allowed")]
    TooLarge {
        /// Header and body together.
        len: usize,
    },
    /// A header field is larger than p2panda can decode.
    #[error("a header field has more than {MAX_HEADER_FIELD} bytes or items")]
    HeaderField,
    /// A first operation has no predecessor, every other one has.
    #[error("a backlink belongs to every operation but the first")]
    Backlink,
    /// The log has no place left.
    #[error("the log is full; continue in another log")]
    LogFull,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any extension, to reach the limit ours is far from.
    type Any = std::collections::BTreeMap<u64, Vec<String>>;

    fn sign_any(extension: Any) -> Result<Header<Any>, CreateError> {
        sign(&DeviceKey::from_bytes(&[1; 32]), extension, 0, None, b"body")
    }

    #[test]
    fn a_header_that_could_not_be_read_back_is_not_signed() {
        let text = |len: usize| Any::from([(0, vec!["x".repeat(len)])]);
        let array = |len: usize| Any::from([(0, vec![String::new(); len])]);
        let map = |len: u64| (0..len).map(|key| (key, Vec::new())).collect::<Any>();
        for fits in [text(MAX_HEADER_FIELD), array(MAX_HEADER_FIELD), map(MAX_HEADER_FIELD as u64)] {
            let header = sign_any(fits).unwrap();
            assert_eq!(Header::<Any>::decode(&header.encode()).unwrap(), header);
        }
        for past in
            [text(MAX_HEADER_FIELD + 1), array(MAX_HEADER_FIELD + 1), map(MAX_HEADER_FIELD as u64 + 1)]
        {
            assert!(matches!(sign_any(past.clone()), Err(CreateError::HeaderField)));
            // What the check is for: p2panda signs it and cannot read it.
            let header = Header::builder().body(b"body").build(&SigningKey::from_bytes(&[1; 32]), past);
            assert!(Header::<Any>::decode(&header.encode()).is_err());
        }
    }
}
