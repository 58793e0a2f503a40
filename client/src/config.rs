//! How a client is opened and what it sends over.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use delta_core::NodeId;
use delta_core::engine::Sending;
use delta_core::onion::route::DEFAULT_RELAYS;

use crate::keystore::{DeviceSource, KeyStore};
use crate::net::Proxy;
use crate::network::Terms;
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
    /// A proxy that every connection goes through, to relays and the sync server alike: none is made beside it, and
    /// names are looked up by it. `None`: directly, whatever the system's settings or the environment say.
    pub proxy: Option<Proxy>,
    /// Relays of a route, 1 to 5.
    pub relays: usize,
    /// Mean time between two packets that carry nothing, 1 s to 1 day; `None` for none. Each costs 4 KiB at every relay
    /// and on this device's link, and wakes its radio; in exchange whoever watches the link cannot tell by a small
    /// packet that something was said.
    pub cover: Option<Duration>,
    /// Mean time that every relay is asked to hold a packet, up to 20 s; `None` for no delay. An operation then takes
    /// about (relays × this) longer; in exchange an observer of relays finds it harder to follow a packet by its timing.
    pub relay_delay: Option<Duration>,
    /// Also send to a server whose record has no onion key: over relays that have none, in packets of version 2. They
    /// hide less (docs/wire.md, section 5). A server that once had a key is never downgraded.
    pub accept_v2: bool,
    /// Where the whole set of records is fetched every day, before relays are asked for theirs.
    pub records_url: Option<String>,
    /// Read through tunnels where relays offer them, so that the sync server sees a relay's address instead of this
    /// device's.
    pub hidden_reading: bool,
    /// Before sending again what seems lost, look through the tunnel of a further relay whether the server has it: one
    /// that hides an echo to see what is sent twice then learns nothing. A lost packet takes 5–60 s longer.
    pub look_before_retry: bool,
    /// How long changes are merged into one event after one was passed on.
    pub coalesce: Duration,
    /// What blobs may take on this device that nothing waits for, bytes: the least recently used give way, and can be
    /// fetched again; the one used last stays in any case. `None`: [`MAX_BLOB_CACHE`](delta_core::limits::MAX_BLOB_CACHE).
    pub blob_cache: Option<u64>,
    /// Threads that open envelopes and wrap packets; `None` for one per core.
    pub workers: Option<usize>,
    /// Tells the time; the system's clock unless a test moves it.
    pub clock: Arc<dyn WallClock>,
}

impl Config {
    /// The defaults: encrypted only, three relays, reading through tunnels, changes merged for 50 ms. The caller keeps the
    /// device's private key (an Ed25519 seed).
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
            proxy: None,
            relays: DEFAULT_RELAYS,
            cover: None,
            relay_delay: None,
            accept_v2: false,
            records_url: None,
            hidden_reading: true,
            look_before_retry: true,
            coalesce: Duration::from_millis(50),
            blob_cache: None,
            workers: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// What of it concerns the network.
    pub(crate) fn terms(&self) -> Terms {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let sending = Sending {
            cover_every_ms: self.cover.map(ms),
            relay_delay_ms: self.relay_delay.map(ms),
            accept_v2: self.accept_v2,
            records_as_of: None,
        };
        let Self { relays, allow_plaintext, hidden_reading, look_before_retry, ref records_url, .. } = *self;
        let records_url = records_url.clone();
        Terms { relays, allow_plaintext, hidden_reading, look_before_retry, sending, records_url }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("path", &self.path)
            .field("device", &self.device)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("extra_roots", &self.extra_roots.len())
            .field("proxy", &self.proxy)
            .field("relays", &self.relays)
            .field("hidden_reading", &self.hidden_reading)
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
