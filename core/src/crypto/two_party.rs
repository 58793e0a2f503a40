//! [`GroupCrypto`] on p2panda-encryption's `KeyManager` and `LongTermTwoParty`.
//!
//! Every call of the library runs guarded: it panics when the operating system gives no randomness, and its CBOR reader
//! can be made to by a plaintext that the other side chose.

use std::panic::{AssertUnwindSafe, catch_unwind};

use p2panda_core::cbor::{decode_cbor, encode_cbor};
#[cfg(not(feature = "repeatable"))]
use p2panda_encryption::Rng;
use p2panda_encryption::crypto::x25519::{PublicKey, SecretKey};
use p2panda_encryption::key_bundle::LongTermKeyBundle;
use p2panda_encryption::key_manager::{KeyManager, KeyManagerState};
use p2panda_encryption::traits::{KeyBundle as _, PreKeyManager};
use p2panda_encryption::two_party::{LongTermTwoParty, TwoPartyMessage, TwoPartyState};
use zeroize::Zeroizing;

use super::bundle::any_time;
use super::keys::Prekey;
use super::{
    Context, CryptoError, DeviceBundle, DeviceSecrets, GroupCrypto, MAX_PAYLOAD, MAX_UNANSWERED, OpenError,
    Opened, PREKEY_LIFETIME_MS, Session,
};
use crate::entropy::{Entropy, EntropyError};
use crate::identity::{Author, Millis};
use crate::onion::curve::is_usable_u;
use crate::ops::{Block, KeyBundle};

/// Two-party channels of p2panda-encryption: X3DH for the first message, then HPKE to keys that change every time.
///
/// What a stolen state opens: the messages on their way to it, until its owner has sent one and the other side has
/// answered; nothing from before.
#[derive(Clone, Copy, Debug, Default)]
pub struct TwoParty;

type State = TwoPartyState<LongTermKeyBundle>;

impl GroupCrypto for TwoParty {
    fn generate(&self, now: Millis, entropy: &mut dyn Entropy) -> Result<DeviceSecrets, CryptoError> {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed)?;
        let identity = secret_key(&seed).ok_or(CryptoError::Library)?;
        let identity = guarded(|| KeyManager::init(&identity))?.map_err(|_| CryptoError::Library)?;
        let first = fresh_prekey(&identity, now)?;
        Ok(DeviceSecrets { identity, prekeys: vec![first] })
    }

    fn rotate_prekey(&self, secrets: &DeviceSecrets, now: Millis) -> Result<DeviceSecrets, CryptoError> {
        let fresh = fresh_prekey(&secrets.identity, now)?;
        // The newest stays whatever the clock says: one that is far ahead must not throw away what is in use.
        let (newest, older) = secrets.prekeys.split_last().ok_or(CryptoError::Damaged)?;
        let mut prekeys: Vec<Prekey> = older.iter().filter(|prekey| prekey.opens(now)).cloned().collect();
        prekeys.extend([newest.clone(), fresh]);
        Ok(DeviceSecrets { identity: secrets.identity.clone(), prekeys })
    }

    fn bundle(&self, secrets: &DeviceSecrets) -> Result<KeyBundle, CryptoError> {
        let newest = secrets.prekeys.last().ok_or(CryptoError::Damaged)?;
        let bundle = KeyManager::prekey_bundle(&newest.state).map_err(|_| CryptoError::Library)?;
        let signature = signature_of(&bundle).ok_or(CryptoError::Library)?;
        Ok(KeyBundle {
            identity: bundle.identity_key().to_bytes(),
            prekey: bundle.signed_prekey().to_bytes(),
            signature,
            expires: Millis(newest.expires_ms),
            inbox: None,
        })
    }

    fn begin(
        &self,
        secrets: &DeviceSecrets,
        peer: &DeviceBundle,
        context: &Context,
        payload: &[u8],
        now: Millis,
    ) -> Result<(Session, Block), CryptoError> {
        let payload = packed(context, payload, 1)?;
        peer.bundle().verify(now)?;
        let bundle = peer.bundle().library().ok_or(CryptoError::Library)?;
        let (state, message) = send(LongTermTwoParty::init_to_send(bundle), &secrets.identity, &payload)?;
        let block = Block::new(None, 0, &message)?;
        let session = Session {
            id: block.session,
            peer: peer.device(),
            sealed: 1,
            opened: 0,
            unanswered: 1,
            bundle_expires: peer.bundle().expires,
            state: stored(&state)?,
        };
        Ok((session, block))
    }

    fn seal(
        &self,
        secrets: &DeviceSecrets,
        session: &Session,
        context: &Context,
        payload: &[u8],
    ) -> Result<(Session, Block), CryptoError> {
        let sealed = session.sealed.checked_add(1).ok_or(CryptoError::SessionFull)?;
        if session.unanswered >= MAX_UNANSWERED {
            return Err(CryptoError::SessionFull);
        }
        let payload = packed(context, payload, sealed)?;
        let state: State = decode_cbor(&session.state[..]).map_err(|_| CryptoError::Damaged)?;
        let (state, message) = send(state, &secrets.identity, &payload)?;
        let block = Block::new(Some(session.id), session.sealed, &message)?;
        let unanswered = session.unanswered + 1;
        Ok((Session { sealed, unanswered, state: stored(&state)?, ..session.clone() }, block))
    }

    fn open(
        &self,
        secrets: &DeviceSecrets,
        session: Option<&Session>,
        peer: &Author,
        block: &Block,
        now: Millis,
    ) -> Result<Opened, OpenError> {
        let (before, state, manager) = match session {
            None if block.begins() => {
                let prekey = block.prekey().ok_or(OpenError::Forged)?;
                let manager = secrets.prekey(&prekey, now).ok_or(OpenError::UnknownPrekey)?;
                let state = LongTermTwoParty::init_to_receive();
                let fresh = Session {
                    id: block.session,
                    peer: *peer,
                    sealed: 0,
                    opened: 0,
                    unanswered: 0,
                    bundle_expires: Millis(0),
                    state: Zeroizing::default(),
                };
                (fresh, state, manager)
            }
            None => return Err(OpenError::UnknownSession),
            Some(session) => {
                check_turn(session, peer, block)?;
                let state: State = decode_cbor(&session.state[..]).map_err(|_| OpenError::Damaged)?;
                (session.clone(), state, &secrets.identity)
            }
        };
        let message = block.message()?;
        let (state, payload) = receive(state, manager.clone(), message)?;
        let state = stored(&state).map_err(|_| OpenError::Damaged)?;
        check_handed_over(&state)?;
        let opened = before.opened.checked_add(1).ok_or(OpenError::Forged)?;
        Opened::unpack(Session { opened, state, unanswered: 0, ..before }, &payload).ok_or(OpenError::Forged)
    }
}

/// Whether this block is the one to be opened next.
fn check_turn(session: &Session, peer: &Author, block: &Block) -> Result<(), OpenError> {
    if session.peer != *peer {
        return Err(OpenError::OtherPeer);
    }
    if block.session != session.id {
        return Err(OpenError::UnknownSession);
    }
    // The first block of a session is its beginner's own.
    let (expected, found) = (session.opened, block.index);
    if found < expected || block.begins() {
        return Err(OpenError::Duplicate);
    }
    if found > expected { Err(OpenError::Early { expected, found }) } else { Ok(()) }
}

/// The key that a block hands over is one that can be sealed to. The library takes any, and fails with the next message
/// for that device: whoever holds it would keep the person's other devices from hearing anything.
fn check_handed_over(state: &[u8]) -> Result<(), OpenError> {
    #[derive(serde::Deserialize)]
    struct HandedOver {
        their_verifying_key: Option<PublicKey>,
    }
    let state: HandedOver = decode_cbor(state).map_err(|_| OpenError::Damaged)?;
    let usable = state.their_verifying_key.is_some_and(|key| is_usable_u(key.as_bytes()));
    if usable { Ok(()) } else { Err(OpenError::Forged) }
}

/// `next_index`: the library numbers the keys it hands out from 1, one for each block.
fn packed(context: &Context, payload: &[u8], next_index: u32) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(CryptoError::TooLong { len: payload.len() });
    }
    context.pack(payload, next_index).ok_or(CryptoError::Library)
}

fn fresh_prekey(identity: &KeyManagerState, now: Millis) -> Result<Prekey, CryptoError> {
    let lifetime = any_time().ok_or(CryptoError::Library)?;
    let state = guarded(|| KeyManager::rotate_prekey(identity.clone(), lifetime, &rng()))?
        .map_err(|_| CryptoError::Library)?;
    let bundle = KeyManager::prekey_bundle(&state).map_err(|_| CryptoError::Library)?;
    let expires_ms = now.plus(PREKEY_LIFETIME_MS).0;
    Ok(Prekey { key: bundle.signed_prekey().to_bytes(), expires_ms, state })
}

fn send(
    state: State,
    identity: &KeyManagerState,
    payload: &[u8],
) -> Result<(State, TwoPartyMessage), CryptoError> {
    guarded(|| LongTermTwoParty::send(state, identity, payload, &rng()))?.map_err(|_| CryptoError::Library)
}

/// The operating system's randomness.
#[cfg(not(feature = "repeatable"))]
fn rng() -> Rng {
    Rng::default()
}

#[cfg(feature = "repeatable")]
use repeatable::rng;

/// Randomness from a seed, where the simulation wants it: everywhere else the operating system's, also with the feature.
#[cfg(feature = "repeatable")]
pub(super) mod repeatable {
    use std::cell::RefCell;

    use p2panda_encryption::Rng;

    use super::{CryptoError, DeviceSecrets, GroupCrypto, Millis, TwoParty};
    use crate::entropy::SeededEntropy;

    thread_local! {
        static SEEDED: RefCell<Option<Rng>> = const { RefCell::new(None) };
    }

    /// Does some work with randomness of this seed.
    pub(crate) fn with_seed<T>(seed: [u8; 32], work: impl FnOnce() -> T) -> T {
        SEEDED.set(Some(Rng::from_seed(seed)));
        let done = work();
        SEEDED.set(None);
        done
    }

    /// Secrets of a device with nothing but a seed for randomness. Never for real devices.
    pub fn generate_repeatably(seed: [u8; 32], now: Millis) -> Result<DeviceSecrets, CryptoError> {
        let mut entropy = SeededEntropy::new(seed);
        with_seed(seed, || TwoParty.generate(now, &mut entropy))
    }

    pub(super) fn rng() -> Rng {
        SEEDED
            .with_borrow(|seeded| seeded.as_ref().and_then(|rng| Rng::from_rng(rng).ok()))
            .unwrap_or_default()
    }
}

fn receive(
    state: State,
    manager: KeyManagerState,
    message: TwoPartyMessage,
) -> Result<(State, Zeroizing<Vec<u8>>), OpenError> {
    let opened = catch_unwind(AssertUnwindSafe(|| LongTermTwoParty::receive(state, manager, message)));
    match opened {
        Ok(Ok((state, _, payload))) => Ok((state, Zeroizing::new(payload))),
        Ok(Err(_)) | Err(_) => Err(OpenError::Forged),
    }
}

/// The library panics when the operating system gives no randomness: that is an error like any other.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, CryptoError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| CryptoError::Entropy(EntropyError))
}

fn stored(state: &State) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    encode_cbor(state).map(Zeroizing::new).map_err(|_| CryptoError::Library)
}

/// A key from our own randomness; clamped, as the library does with its own.
fn secret_key(seed: &[u8; 32]) -> Option<SecretKey> {
    let mut seed = Zeroizing::new(*seed);
    let [first, .., last] = &mut *seed;
    *first &= 248;
    *last = (*last & 127) | 64;
    serde_json::from_value(serde_json::Value::from(seed.to_vec())).ok()
}

/// The one field of a bundle that the library does not show.
fn signature_of(bundle: &LongTermKeyBundle) -> Option<[u8; 64]> {
    let value = serde_json::to_value(bundle).ok()?;
    let bytes: Vec<u8> = serde_json::from_value(value.get("prekey_signature")?.clone()).ok()?;
    bytes.try_into().ok()
}
