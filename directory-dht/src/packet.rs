//! pkarr packets with one node record.

use delta_core::identity::NodeId;
use delta_core::onion::directory::{NodeRecord, PKARR_NAME, RecordError, ResolvedRecord};
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use pkarr::dns::rdata::{RData, TXT};
use pkarr::dns::{CharacterString, Name};
use pkarr::{Keypair, SignedPacket};

use crate::{DhtError, ResolveError};

/// How long a resolver may keep the record, seconds.
const TTL: u32 = 3600;

/// Signs the packet that carries a record.
pub fn sign(key: &SigningKey, record: &NodeRecord, seq: u64) -> Result<SignedPacket, DhtError> {
    let id = NodeId(key.verifying_key().to_bytes());
    let strings = record.to_txt()?;
    let micros = seq.checked_mul(1_000_000).filter(|micros| i64::try_from(*micros).is_ok());
    let micros = micros.ok_or(DhtError::Seq(seq))?;
    // A record nobody could read back is not signed.
    if ResolvedRecord::from_txt(id, micros, &strings)?.record() != record {
        return Err(RecordError::Object.into());
    }
    let mut txt = TXT::new();
    for string in &strings {
        txt.add_char_string(CharacterString::new(string).map_err(|_| RecordError::Object)?);
    }
    let keypair = Keypair::from_secret_key(key.as_bytes());
    SignedPacket::builder()
        .txt(Name::new_unchecked(PKARR_NAME), txt, TTL)
        .timestamp(micros.into())
        .sign(&keypair)
        .map_err(|_| RecordError::TooLong(record.to_string().len()).into())
}

/// The record of `node` in a packet.
pub fn read(node: NodeId, packet: &SignedPacket) -> Result<ResolvedRecord, ResolveError> {
    let micros = packet.timestamp().as_u64();
    verify(node, packet, micros)?;
    let records: Vec<&TXT<'_>> = packet
        .resource_records(PKARR_NAME)
        .filter_map(|record| match &record.rdata {
            RData::TXT(txt) => Some(txt),
            _ => None,
        })
        .collect();
    let [txt] = records.as_slice() else { return Err(ResolveError::Records(records.len())) };
    let text: String = (*txt).clone().try_into().map_err(|_| RecordError::Object)?;
    Ok(ResolvedRecord::from_txt(node, micros, [text])?)
}

/// Strictly, as for everything else a node signs: the DHT's own check takes keys of small order, for which anybody
/// can sign. The signed bytes are BEP44's, without salt.
fn verify(node: NodeId, packet: &SignedPacket, micros: u64) -> Result<(), ResolveError> {
    let value = packet.encoded_packet();
    let mut signed = format!("3:seqi{micros}e1:v{}:", value.len()).into_bytes();
    signed.extend_from_slice(&value);
    let signature = Signature::from_bytes(&packet.signature().to_bytes());
    let key = VerifyingKey::from_bytes(&node.0).map_err(|_| ResolveError::Key)?;
    key.verify_strict(&signed, &signature).map_err(|_| ResolveError::Signature)
}
