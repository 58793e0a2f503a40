//! The handshake: 50 bytes there, 48 back.
//!
//! ```text
//! client  00 01 | e[32] | tag[16]      e, es
//! server          e[32] | tag[16]      e, ee
//! ```

use std::fmt;
use std::io;

use delta_core::NodeId;
use delta_core::entropy::{Entropy, EntropyError};
use delta_core::onion::{IdentityKey, IdentityKeyError};
use ed25519_dalek::SigningKey;
use snow::{Builder, HandshakeState};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::dh::{KEY, Resolver};
use crate::stream::{NoiseStream, TAG};

/// What a client sends first: no request of HTTP and no record of TLS begins like this. The second byte is the version.
pub const OPENING: [u8; 2] = [0x00, 0x01];
/// A handshake message: an ephemeral key, and the tag over nothing.
const MESSAGE: usize = KEY + TAG;
const PATTERN: &str = "Noise_NK_25519_ChaChaPoly_BLAKE2s";
/// Both sides mix this and the server's node id into the handshake before anything else.
const LABEL: &[u8] = b"delta:noise:v1";

/// There is no sealed stream. Nothing was sent but the handshake.
#[derive(Debug, Error)]
pub enum NoiseError {
    /// The server's node id is no key that can be used. Whoever handed it out is at fault.
    #[error("the server's key cannot be used: {0}")]
    Key(#[from] IdentityKeyError),
    /// The platform is at fault.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// Whoever answers does not hold the server's key, or somebody between changed what was said.
    #[error("whoever answers does not hold the server's key, or what was said was changed on its way")]
    Refused,
    /// The server is another program, or an older one, or has too much to do.
    #[error("the server does not speak Noise, or turned the connection away")]
    NotSpoken,
    /// The connection.
    #[error("the connection ended: {0}")]
    Io(#[from] io::Error),
}

/// The client's side, before it is connected.
pub struct Initiator(HandshakeState);

impl Initiator {
    /// Expects this server.
    ///
    /// # Errors
    /// The id is no usable key, or there is no randomness.
    pub fn new(server: &NodeId, entropy: &mut dyn Entropy) -> Result<Self, NoiseError> {
        let key = IdentityKey::from_ed25519(&server.0)?;
        let prologue = prologue(server);
        let builder = builder(entropy)?.prologue(&prologue).and_then(|builder| {
            let builder = builder.remote_public_key(key.x25519().as_bytes())?;
            builder.build_initiator()
        });
        builder.map(Self).map_err(refused)
    }

    /// Does the handshake. Limit its time.
    ///
    /// # Errors
    /// Whoever is at the other end is not the server, or the connection ends. Nothing but the handshake was sent, and
    /// nothing is to be sent in the clear instead.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        mut stream: S,
    ) -> Result<NoiseStream<S>, NoiseError> {
        let Self(mut state) = self;
        let mut message = [0; MESSAGE];
        state.write_message(&[], &mut message).map_err(refused)?;
        stream.write_all(&[&OPENING[..], &message].concat()).await?;
        stream.flush().await?;
        let mut answer = [0; MESSAGE];
        stream.read_exact(&mut answer).await?;
        if answer.starts_with(b"HTTP/") {
            return Err(NoiseError::NotSpoken);
        }
        state.read_message(&answer, &mut []).map_err(refused)?;
        Ok(NoiseStream::new(stream, state.into_transport_mode().map_err(refused)?))
    }
}

/// A server's side: its key.
pub struct Responder {
    secret: Zeroizing<[u8; KEY]>,
    id: NodeId,
}

impl Responder {
    /// With the identity that the server's records are signed by.
    pub fn new(identity: &SigningKey) -> Self {
        let secret = Zeroizing::new(identity.to_scalar_bytes());
        Self { secret, id: NodeId(identity.verifying_key().to_bytes()) }
    }

    /// Whether a connection that begins with this byte wants Noise.
    pub const fn is_wanted(first: u8) -> bool {
        first == OPENING[0]
    }

    /// Begins a handshake.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn begin(&self, entropy: &mut dyn Entropy) -> Result<Answering, NoiseError> {
        let prologue = prologue(&self.id);
        let builder = builder(entropy)?.prologue(&prologue).and_then(|builder| {
            let builder = builder.local_private_key(&*self.secret)?;
            builder.build_responder()
        });
        builder.map(Answering).map_err(refused)
    }
}

/// A server's side of one handshake.
pub struct Answering(HandshakeState);

impl Answering {
    /// Does the handshake. Limit its time.
    ///
    /// # Errors
    /// The client expects another server, or says no Noise of this version: it gets no answer.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        mut stream: S,
    ) -> Result<NoiseStream<S>, NoiseError> {
        let Self(mut state) = self;
        let mut said = [0; OPENING.len() + MESSAGE];
        stream.read_exact(&mut said).await?;
        let (opening, message) = said.split_at(OPENING.len());
        if opening != OPENING {
            return Err(NoiseError::NotSpoken);
        }
        state.read_message(message, &mut []).map_err(refused)?;
        let mut answer = [0; MESSAGE];
        state.write_message(&[], &mut answer).map_err(refused)?;
        stream.write_all(&answer).await?;
        stream.flush().await?;
        Ok(NoiseStream::new(stream, state.into_transport_mode().map_err(refused)?))
    }
}

fn builder<'k>(entropy: &mut dyn Entropy) -> Result<Builder<'k>, NoiseError> {
    let mut ephemeral = Zeroizing::new([0; KEY]);
    entropy.fill(&mut *ephemeral)?;
    let params = PATTERN.parse().map_err(refused)?;
    Ok(Builder::with_resolver(params, Box::new(Resolver { ephemeral })))
}

fn prologue(server: &NodeId) -> Vec<u8> {
    [LABEL, &server.0].concat()
}

/// The library tells many failures apart; to whoever speaks with a stranger they are one.
fn refused(_: snow::Error) -> NoiseError {
    NoiseError::Refused
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initiator(..)")
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answering(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    /// The published vector of this pattern (cacophony), through our X25519 and our randomness.
    #[test]
    fn the_pattern_is_noise_as_others_speak_it() {
        let prologue = hex("4a6f686e2047616c74");
        let ours = |ephemeral: &str| {
            let ephemeral = Zeroizing::new(hex(ephemeral).try_into().unwrap());
            let resolver = Box::new(Resolver { ephemeral });
            Builder::with_resolver(PATTERN.parse().unwrap(), resolver).prologue(&prologue).unwrap()
        };
        let server = hex("31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62");
        let secret = hex("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893");
        let mut client = ours("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a")
            .remote_public_key(&server)
            .unwrap()
            .build_initiator()
            .unwrap();
        let mut responder = ours("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b")
            .local_private_key(&secret)
            .unwrap()
            .build_responder()
            .unwrap();
        let (mut wire, mut plain) = ([0; 256], [0; 256]);
        for (from_client, payload, ciphertext) in [
            (
                true,
                "4c756477696720766f6e204d69736573",
                "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c794454ae7612d1724af42adb130160a9a94e67b5b169b4e00c189f6467cd17eb7cad",
            ),
            (
                false,
                "4d757272617920526f746862617264",
                "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843986a5c929337e337ac8b4a074af12ab9f76318a5f18c8b599a443af07383ce",
            ),
        ] {
            let (from, to) =
                if from_client { (&mut client, &mut responder) } else { (&mut responder, &mut client) };
            let len = from.write_message(&hex(payload), &mut wire).unwrap();
            assert_eq!(hex::encode(&wire[..len]), ciphertext);
            let read = to.read_message(&wire[..len], &mut plain).unwrap();
            assert_eq!(hex::encode(&plain[..read]), payload);
        }
        assert_eq!(
            hex::encode(client.get_handshake_hash()),
            "d7244d974066aae2376f7ba5534f60a6e4e82cd7c9751e226cae3928e6b49f14"
        );
        let mut client = client.into_transport_mode().unwrap();
        let mut responder = responder.into_transport_mode().unwrap();
        for (from_client, payload, ciphertext) in [
            (true, "462e20412e20486179656b", "550027c7a5d450017bcb5e12b8253b1c53fd2213aeda84891d5f95"),
            (false, "4361726c204d656e676572", "dfbce0c38210ccee35e830aca9dd8b8b3997b933e75bfc8864b759"),
            (
                true,
                "4a65616e2d426170746973746520536179",
                "4c487a88330c7c65e44d430addf3d92d2a15b081a2892b96693e00b68aec0adac2",
            ),
            (
                false,
                "457567656e2042f6686d20766f6e2042617765726b",
                "471cb9f8252d8ae7b25c93f4b4aebdbf25e5baa23f14bc743559e3ef7fd065e69cfaef55ee",
            ),
        ] {
            let (from, to) =
                if from_client { (&mut client, &mut responder) } else { (&mut responder, &mut client) };
            let len = from.write_message(&hex(payload), &mut wire).unwrap();
            assert_eq!(hex::encode(&wire[..len]), ciphertext);
            let read = to.read_message(&wire[..len], &mut plain).unwrap();
            assert_eq!(hex::encode(&plain[..read]), payload);
        }
    }
}
