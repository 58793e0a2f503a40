//! Blocks: what one two-party message looks like on the wire. All have the same length, whatever they carry.
//!
//! `session id[8] | index u32 | form u8 | fields | ciphertext[334] | zeros`, 443 bytes. Form 01 (the first of a
//! session, X3DH): sender's identity key[32], prekey[32], ephemeral key[32]. Form 02 (HPKE to the key that the sender
//! handed over last): encapsulated key[32]. Form 03 (HPKE to a key of the receiver's own): number u64, encapsulated
//! key[32].

use p2panda_encryption::crypto::hpke::HpkeCiphertext;
use p2panda_encryption::crypto::x25519::PublicKey;
use p2panda_encryption::two_party::{TwoPartyCiphertext, TwoPartyMessage, X3dhCiphertext};
use serde::{Deserialize, Serialize};

use super::{CryptoError, OpenError};
use crate::codec::Reader;
use crate::onion::curve::is_usable_u;
use crate::ops::{BLOCK_CONTENT as CONTENT, Block, SessionId};

/// Most bytes a block carries.
pub const MAX_PAYLOAD: usize = 65;

/// The form.
const HEAD: usize = 1;
/// The library's plaintext, which [`Context::pack`](super::Context) gives one length, and the tag.
const CIPHERTEXT: usize = 318 + 16;

const FIRST: u8 = 1;
const RECEIVED: u8 = 2;
const OWN: u8 = 3;

impl Block {
    /// `session` is `None` for the first block, which gives the session its name.
    pub(super) fn new(
        session: Option<SessionId>,
        index: u32,
        message: &TwoPartyMessage,
    ) -> Result<Self, CryptoError> {
        let content = encode(message)?;
        let session = session.unwrap_or_else(|| SessionId::of(&content));
        Ok(Self { session, index, content })
    }

    /// Whether it begins the session it names.
    pub(super) fn begins(&self) -> bool {
        let first = self.index == 0 && self.content.first() == Some(&FIRST);
        first && self.session == SessionId::of(&self.content)
    }

    /// The prekey the first block of a session was sealed to.
    pub(super) fn prekey(&self) -> Option<[u8; 32]> {
        self.content.get(HEAD + 32..HEAD + 64)?.try_into().ok().filter(|_| self.begins())
    }

    pub(super) fn message(&self) -> Result<TwoPartyMessage, OpenError> {
        let shape = decode(&self.content[..]).ok_or(OpenError::Forged)?;
        into(&shape).ok_or(OpenError::Forged)
    }
}

/// The library's message, whose fields it does not show, as its serde form has them.
#[derive(Serialize, Deserialize)]
struct Shape {
    ciphertext: TwoPartyCiphertext,
    key_used: KeyUsed,
}

#[derive(Serialize, Deserialize)]
#[allow(clippy::enum_variant_names, reason = "the library's names")]
enum KeyUsed {
    PreKey,
    ReceivedKey,
    OwnKey(u64),
}

fn encode(message: &TwoPartyMessage) -> Result<Box<[u8; CONTENT]>, CryptoError> {
    let shape: Shape = into(message).ok_or(CryptoError::Library)?;
    let mut out = Vec::with_capacity(CONTENT);
    let ciphertext = match (&shape.key_used, &shape.ciphertext) {
        (KeyUsed::PreKey, TwoPartyCiphertext::PreKey(first)) => {
            out.push(FIRST);
            for key in [&first.identity_key, &first.prekey_id, &first.ephemeral_key] {
                out.extend_from_slice(key.as_bytes());
            }
            &first.ciphertext
        }
        (KeyUsed::ReceivedKey, TwoPartyCiphertext::Hpke(sealed)) => {
            out.push(RECEIVED);
            out.extend_from_slice(&sealed.kem_output);
            &sealed.ciphertext
        }
        (KeyUsed::OwnKey(number), TwoPartyCiphertext::Hpke(sealed)) => {
            out.push(OWN);
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&sealed.kem_output);
            &sealed.ciphertext
        }
        _ => return Err(CryptoError::Library),
    };
    if ciphertext.len() != CIPHERTEXT {
        return Err(CryptoError::Library);
    }
    out.extend_from_slice(ciphertext);
    out.resize(CONTENT, 0);
    out.into_boxed_slice().try_into().map_err(|_| CryptoError::Library)
}

fn decode(content: &[u8]) -> Option<Shape> {
    let mut reader = Reader::new(content);
    let form = reader.u8("form").ok()?;
    let mut key = || reader.array::<32>("key").ok().filter(is_usable_u);
    let shape = match form {
        FIRST => {
            let (identity, prekey, ephemeral) = (key()?, key()?, key()?);
            let ciphertext = reader.bytes(CIPHERTEXT, "ciphertext").ok()?.to_vec();
            Shape {
                ciphertext: TwoPartyCiphertext::PreKey(X3dhCiphertext {
                    identity_key: PublicKey::from_bytes(identity),
                    onetime_prekey_id: None,
                    prekey_id: PublicKey::from_bytes(prekey),
                    ciphertext,
                    ephemeral_key: PublicKey::from_bytes(ephemeral),
                }),
                key_used: KeyUsed::PreKey,
            }
        }
        RECEIVED => {
            let kem_output = key()?.to_vec();
            let ciphertext = reader.bytes(CIPHERTEXT, "ciphertext").ok()?.to_vec();
            let ciphertext = TwoPartyCiphertext::Hpke(HpkeCiphertext { kem_output, ciphertext });
            Shape { ciphertext, key_used: KeyUsed::ReceivedKey }
        }
        OWN => {
            let number = reader.u64("number").ok()?;
            let kem_output = reader.array::<32>("key").ok().filter(is_usable_u)?.to_vec();
            let ciphertext = reader.bytes(CIPHERTEXT, "ciphertext").ok()?.to_vec();
            let ciphertext = TwoPartyCiphertext::Hpke(HpkeCiphertext { kem_output, ciphertext });
            Shape { ciphertext, key_used: KeyUsed::OwnKey(number) }
        }
        _ => return None,
    };
    reader.rest().iter().all(|&byte| byte == 0).then_some(shape)
}

/// From one type to another of the same serde form.
fn into<T: serde::de::DeserializeOwned>(value: &impl Serialize) -> Option<T> {
    serde_json::from_value(serde_json::to_value(value).ok()?).ok()
}
