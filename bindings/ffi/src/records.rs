//! Plain values of the calls: how a device is opened, what it sends over, how it stands.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use delta_client::{ClientError, Code, KeyStore};
use delta_core::NodeId;
use delta_core::engine::Unreadable;
use delta_core::store::{OutboxCounts, TopicStanding};
use delta_core::sync::session;
use delta_core::topic::SignedHead;

/// How a device is opened. Everything but the path has a default.
// Without `Debug`, and with a `Display` that says little: a proxy's text may hold a password, and printed records show all.
#[derive(Clone, uniffi::Record)]
#[uniffi::export(Display)]
pub struct Config {
    /// The database file. It is made when it is missing; `<path>.lock` beside it keeps other processes out.
    pub path: String,
    /// Development only: also take http and ws, and addresses that are not public.
    #[uniffi(default = false)]
    pub allow_plaintext: bool,
    /// Root certificates (DER) to trust beside the web's.
    #[uniffi(default = [])]
    pub extra_roots: Vec<Vec<u8>>,
    /// A proxy that every connection goes through, and no other way is taken: `socks5://[user:password@]host:port` or
    /// `http://[user:password@]host:port`. It looks names up. The system's settings are not read.
    #[uniffi(default = None)]
    pub proxy: Option<String>,
    /// Relays of a route, 1 to 5.
    #[uniffi(default = 3)]
    pub relays: u32,
    /// Mean time between two packets that carry nothing, 1 s to 1 day: whoever watches this device's link then cannot
    /// tell that something was said. None are sent unless it is given.
    #[uniffi(default = None)]
    pub cover: Option<Duration>,
    /// Mean time that every relay is asked to hold a packet, up to 20 s, against observers of relays.
    #[uniffi(default = None)]
    pub relay_delay: Option<Duration>,
    /// Also send to a server that takes only packets of version 2. They hide less.
    #[uniffi(default = false)]
    pub accept_v2: bool,
    /// Where the relays' records are fetched every day, before relays are asked for theirs.
    #[uniffi(default = None)]
    pub records_url: Option<String>,
    /// Read through tunnels where relays offer them, so that the sync server sees a relay's address instead of this device's.
    #[uniffi(default = true)]
    pub hidden_reading: bool,
    /// Before sending again what seems lost, ask another way whether the server has it: what is sent twice tells it nothing
    /// then. A lost packet takes 5–60 s longer.
    #[uniffi(default = true)]
    pub look_before_retry: bool,
    /// How long changes are merged into one event after one was passed on, milliseconds.
    #[uniffi(default = 50)]
    pub merge_changes_ms: u32,
    /// What blobs (images, files) may take on this device that are neither sent nor fetched just now, bytes: the least
    /// recently used give way, and can be fetched again; the one used last stays in any case. 256 MiB when missing.
    #[uniffi(default = None)]
    pub blob_cache: Option<u64>,
    /// Threads that encrypt and verify; one per core when missing.
    #[uniffi(default = None)]
    pub workers: Option<u32>,
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, relays, .. } = self;
        let proxy = if self.proxy.is_some() { "set" } else { "none" };
        write!(f, "Config(path: {path}, relays: {relays}, proxy: {proxy})")
    }
}

impl Config {
    pub(crate) fn into_client(
        self,
        keystore: Arc<dyn KeyStore>,
    ) -> Result<delta_client::Config, ClientError> {
        let mut config = delta_client::Config::with_keystore(self.path, keystore);
        config.allow_plaintext = self.allow_plaintext;
        config.extra_roots = self.extra_roots;
        config.proxy = self.proxy.map(|text| text.parse()).transpose()?;
        config.relays = self.relays as usize;
        config.cover = self.cover;
        config.relay_delay = self.relay_delay;
        config.accept_v2 = self.accept_v2;
        config.records_url = self.records_url;
        config.hidden_reading = self.hidden_reading;
        config.look_before_retry = self.look_before_retry;
        config.coalesce = Duration::from_millis(self.merge_changes_ms.into());
        config.blob_cache = self.blob_cache;
        config.workers = self.workers.map(|workers| workers as usize);
        Ok(config)
    }
}

/// The relays to send through.
#[derive(Clone, Debug, uniffi::Enum)]
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
        threshold: u32,
    },
    /// Signed record objects (JSON) that the app itself vouches for: the operators they name count as if listed, and
    /// all that name none count as one.
    Pool {
        /// One object each.
        records: Vec<String>,
    },
}

impl From<RelayHops> for delta_client::RelayHops {
    fn from(hops: RelayHops) -> Self {
        match hops {
            RelayHops::Directory { list, records, trusted_keys, threshold } => {
                Self::Directory { list, records, trusted_keys, threshold: threshold as usize }
            }
            RelayHops::Pool { records } => Self::Pool(records),
        }
    }
}

/// Where a topic's connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Connection {
    /// Not wanted, or waiting for the next attempt.
    Offline,
    /// The device has more topics than sockets, and used others later: caught up from time to time.
    Parked,
    /// Connecting.
    Connecting,
    /// Receiving what is stored.
    Replaying,
    /// Everything up to now is here; news arrives as it happens.
    Live,
}

impl From<session::Connection> for Connection {
    fn from(connection: session::Connection) -> Self {
        match connection {
            session::Connection::Offline => Self::Offline,
            session::Connection::Parked => Self::Parked,
            session::Connection::Connecting => Self::Connecting,
            session::Connection::Replaying => Self::Replaying,
            session::Connection::Live => Self::Live,
        }
    }
}

/// Something that stands in the way, without being the fault of a call.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Trouble {
    /// Stable name.
    pub code: String,
    /// For people.
    pub reason: String,
}

impl Trouble {
    pub(crate) fn blocked(blocked: &delta_client::Blocked) -> Self {
        Self { code: blocked.code().to_owned(), reason: blocked.to_string() }
    }

    pub(crate) fn unreadable(unreadable: Unreadable) -> Self {
        Self::of(&ClientError::Unreadable(unreadable))
    }

    pub(crate) fn of(error: &ClientError) -> Self {
        Self { code: error.code().to_owned(), reason: error.to_string() }
    }
}

/// How far this device's clock is from the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ClockSkew {
    /// Milliseconds that this device's clock is ahead; less than 0: behind.
    pub ahead_ms: i64,
}

impl From<delta_client::ClockSkew> for ClockSkew {
    fn from(delta_client::ClockSkew { ahead_ms }: delta_client::ClockSkew) -> Self {
        Self { ahead_ms }
    }
}

/// Where one topic stands.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct TopicStatus {
    /// Its connection.
    pub connection: Connection,
    /// The last seq of its log that is here; 0 before the first.
    pub cursor: u64,
    /// The end of the log as the server last signed it.
    pub head: Option<u64>,
    /// What the server evicted before it could be read.
    pub gaps: Vec<GapRow>,
    /// Own operations on their way.
    pub outbox: Outbox,
    /// What waits for something else to arrive.
    pub pending: Pending,
    /// Why nothing is sent, if nothing can be.
    pub blocked: Option<Trouble>,
    /// Why the server does not let this device read, if it does not.
    pub unreadable: Option<Trouble>,
    /// How far this device's clock is from the server's, where that is more than ten minutes.
    pub clock_skew: Option<ClockSkew>,
    /// Smoothed time from sending to the echo, milliseconds.
    pub round_trip_ms: Option<u64>,
}

/// Seqs `first..=last` that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct GapRow {
    /// First missing seq.
    pub first: u64,
    /// Last missing seq.
    pub last: u64,
}

/// Own operations that are not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Outbox {
    /// Waiting for their turn.
    pub queued: u64,
    /// On their way.
    pub sent: u64,
    /// Nothing is tried until the reason is gone.
    pub parked: u64,
    /// Those reasons.
    pub parked_reasons: Vec<ParkedRows>,
}

/// Why some operations are parked.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct ParkedRows {
    /// Stable name.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// Received operations that cannot be shown yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Pending {
    /// They wait for a key.
    pub key: u64,
    /// They wait for what their author wrote before.
    pub predecessor: u64,
    /// Bytes of both.
    pub bytes: u64,
}

impl TopicStatus {
    pub(crate) fn new(
        status: delta_client::TopicStatus,
        standing: TopicStanding,
        head: Option<SignedHead>,
    ) -> Self {
        let gaps = standing.gaps.iter().map(|gap| GapRow { first: gap.from.0, last: gap.to.0 });
        Self {
            connection: status.connection.into(),
            cursor: status.cursor.map_or(0, |cursor| cursor.seq.0),
            head: head.map(|head| head.head.0),
            gaps: gaps.collect(),
            outbox: Outbox::new(standing.outbox, standing.parked),
            pending: Pending {
                key: standing.pending.key,
                predecessor: standing.pending.predecessor,
                bytes: standing.pending.bytes,
            },
            blocked: status.blocked.as_ref().map(Trouble::blocked),
            unreadable: status.unreadable.map(Trouble::unreadable),
            clock_skew: status.clock_skew.map(Into::into),
            round_trip_ms: status.round_trip_ms,
        }
    }
}

impl Outbox {
    fn new(counts: OutboxCounts, parked: Vec<(String, u64)>) -> Self {
        let OutboxCounts { queued, sent, parked: all } = counts;
        let reasons = parked.into_iter().map(|(reason, count)| ParkedRows { reason, count });
        Self { queued, sent, parked: all, parked_reasons: reasons.collect() }
    }
}

/// What a background run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct RunSummary {
    /// Whether every topic was read to its end, everything queued was acknowledged, and no blob is on its way.
    pub complete: bool,
    /// Topics of this device.
    pub topics: u64,
    /// Those of them that were read to the end of their log.
    pub caught_up: u64,
    /// Operations read from the logs, own ones included.
    pub received: u64,
    /// Own operations that still wait to be sent or acknowledged.
    pub waiting: u64,
    /// Blobs that are still to be sent or fetched.
    pub blobs: u64,
}

impl From<delta_client::RunSummary> for RunSummary {
    fn from(summary: delta_client::RunSummary) -> Self {
        let delta_client::RunSummary { complete, topics, caught_up, received, waiting, blobs } = summary;
        Self { complete, topics, caught_up, received, waiting, blobs }
    }
}
