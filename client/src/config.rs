//! How a client is opened and what it sends over.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use delta_core::NodeId;
use delta_core::onion::route::DEFAULT_RELAYS;

use crate::keystore::{DeviceSource, KeyStore};
use crate::platform::{SystemClock, WallClock};

/// How a client is opened.
#[derive(Clone)]
pub struct Config {
    /// The database file. It is made when it is missing; `<path>.lock` beside it keeps other processes out.
    pub path: PathBuf,
    /// Where the device's private key is from.
    pub device: DeviceSource,
    /// Development: also take http and ws, and addresses that are not public. Never set it in a released app.
    pub allow_plaintext: bool,
    /// Root certificates (DER) to trust beside the web's.
    pub extra_roots: Vec<Vec<u8>>,
    /// Relays of a route, 1 to 5.
    pub relays: usize,
    /// How long changes are merged into one event after one was passed on.
    pub coalesce: Duration,
    /// Threads that open envelopes and wrap packets; `None` for one per core.
    pub workers: Option<usize>,
    /// Tells the time; the system's clock unless a test moves it.
    pub clock: Arc<dyn WallClock>,
}

impl Config {
    /// The defaults: encrypted only, three relays, changes merged for 50 ms. The caller keeps the device's private key
    /// (an Ed25519 seed).
    pub fn new(path: impl Into<PathBuf>, device_key: [u8; 32]) -> Self {
        Self::with_device(path.into(), DeviceSource::Key(device_key))
    }

    /// The defaults, with the device key in the platform's keystore. A restored or copied database gets a new one.
    pub fn with_keystore(path: impl Into<PathBuf>, keystore: Arc<dyn KeyStore>) -> Self {
        Self::with_device(path.into(), DeviceSource::KeyStore(keystore))
    }

    fn with_device(path: PathBuf, device: DeviceSource) -> Self {
        Self {
            path,
            device,
            allow_plaintext: false,
            extra_roots: Vec::new(),
            relays: DEFAULT_RELAYS,
            coalesce: Duration::from_millis(50),
            workers: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("path", &self.path)
            .field("device", &self.device)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("extra_roots", &self.extra_roots.len())
            .field("relays", &self.relays)
            .finish_non_exhaustive()
    }
}

/// The relays to send through.
#[derive(Clone, Debug)]
pub enum RelayHops {
    /// A signed list says who is trusted; records say how to reach them.
    Directory {
        /// The signed list (JSON).
        list: String,
        /// The records (a JSON array of record objects).
        records: String,
        /// Keys that may sign the list.
        trusted_keys: Vec<NodeId>,
        /// How many of them must have signed it.
        threshold: usize,
    },
    /// Signed record objects (JSON) that the app itself vouches for: the operators they name count as if listed,
    /// and all that name none count as one.
    Pool(Vec<String>),
}
