//! Noise between a client and a sync server that has no certificate (docs/wire.md, section 7.4): what flows through a
//! tunnel is sealed by the key that the server's name *is*, so the relay of the tunnel sees no topic.
//!
//! The pattern is `Noise_NK_25519_ChaChaPoly_BLAKE2s`: the server proves who it is, the client stays nobody, and both
//! add a key of the moment, so that a server's secret that leaks later opens nothing that was recorded. The static key
//! is the server's Ed25519 identity as X25519 uses it (docs/adr/0012). Nothing is negotiated: whoever expects Noise and
//! gets anything else gets an error.
//!
//! Not here: sockets, time limits, randomness. They come in as arguments.

mod dh;
mod handshake;
mod stream;

pub use handshake::{Initiator, NoiseError, OPENING, Responder};
pub use stream::{MAX_RECORD, NoiseStream, RecordError};
