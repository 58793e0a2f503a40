//! Everything the handlers share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use delta_core::identity::Millis;
use delta_core::onion::directory::RecordObject;
use delta_core::topic::{Chain, Generation, Seq, SignedHead, TopicId};
use delta_server_shell::limit::{Rates, Shares};
use delta_server_shell::serve::Door;
use delta_server_shell::{OnionKeys, platform};
use delta_topic_log::GenerationSecret;
use ed25519_dalek::SigningKey;
use tokio::sync::watch;

use crate::health::{Budget, Disk, Permit};
use crate::ingress::Ingress;
use crate::limits::Limits;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::proof::Nonces;
use crate::readers::Readers;
use crate::search::Search;
use crate::status::History;
use crate::writer::Writer;

/// The running server.
#[derive(Debug)]
pub struct App {
    /// Signs heads.
    pub identity: SigningKey,
    /// Names the generations.
    pub secret: GenerationSecret,
    /// Limits and quotas.
    pub limits: Limits,
    /// Whether unsigned JSON deliveries are taken.
    pub accept_v2: bool,
    /// Whether operations are taken on the WebSocket.
    pub accept_direct_publish: bool,
    /// Whether readers of a topic with a read key must prove it.
    pub read_proof: bool,
    /// Makes the nonces of proofs.
    pub nonces: Nonces,
    /// Where to report abuse.
    pub contact: Option<String>,
    /// When the server started.
    pub started: Millis,
    /// Counters over time, for the status page.
    pub history: History,
    /// The server's directory record, once its URL is known.
    pub record: RwLock<Option<RecordObject>>,
    /// Topics with subscribers.
    pub live: Arc<Live>,
    /// Reading threads.
    pub readers: Readers,
    /// Threads that search public channels.
    pub search: Search,
    /// The writing thread.
    pub writer: Writer,
    /// The threads that open packets.
    pub ingress: Ingress,
    /// The onion keys, and what they have opened.
    pub keys: Arc<OnionKeys>,
    /// Bytes in flight.
    pub budget: Arc<Budget>,
    /// Bytes of deliveries still on their way: a part of those in flight, so that slow senders leave room for the rest.
    pub uploads: Arc<Budget>,
    /// The same for every address.
    pub uploads_each: Arc<Shares>,
    /// Bytes of history on their way to clients.
    pub downloads: Arc<Budget>,
    /// The same for every address.
    pub downloads_each: Arc<Shares>,
    /// Whether the disk takes writes.
    pub disk: Arc<Disk>,
    /// How often every address may subscribe.
    pub subscribes: Rates,
    /// How often every address may ask about topics.
    pub reads: Rates,
    /// How often every address may search.
    pub searches: Rates,
    /// Whom the public address lets in.
    pub door: Arc<Door>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The database file.
    pub database: PathBuf,
    /// New deliveries are refused: the server is shutting down.
    pub stopping: AtomicBool,
    /// Turns true when sockets are to close.
    pub closing: watch::Sender<bool>,
}

impl App {
    /// A share of the bytes in flight for a delivery; `None` under load, with a failing disk or when stopping.
    pub fn admit(&self, bytes: usize) -> Option<Permit> {
        if self.stopping.load(Ordering::Relaxed) || !self.disk.admits(platform::now()) {
            return None;
        }
        self.budget.take(bytes)
    }

    /// Signs a head.
    pub fn sign(&self, topic: &TopicId, generation: &Generation, head: Seq, chain: Chain) -> SignedHead {
        SignedHead::sign(&self.identity, topic, generation, head, chain)
    }

    /// Takes over a new directory record.
    pub fn set_record(&self, record: RecordObject) {
        *self.record.write().unwrap_or_else(PoisonError::into_inner) = Some(record);
    }

    /// The Prometheus text, gauges brought up to date.
    pub fn render_metrics(&self) -> String {
        self.refresh_gauges();
        self.metrics.render()
    }

    /// Brings the gauges up to date that nobody sets when they change.
    pub fn refresh_gauges(&self) {
        self.metrics.connections.set(self.door.open.load(Ordering::Relaxed));
        self.metrics.uptime_seconds.set(platform::now().since(self.started) / 1000);
        self.metrics.disk_free_bytes.set(self.disk.free());
        self.metrics.disk_low.set(self.disk.refuses().into());
        self.metrics.in_flight_bytes.set(self.budget.used());
        self.metrics.in_flight.set(self.budget.shares());
        self.metrics.searches_waiting.set(self.search.waiting());
        self.metrics.packets_waiting.set(self.ingress.waiting() as u64);
        self.metrics.reads_waiting.set(self.readers.waiting() as u64);
        self.metrics.replay_tags.set(self.keys.set().tags() as u64);
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |data| data.len());
        let log = self.database.with_extension("db-wal");
        let log = size(&log);
        self.metrics.log_bytes.set(log);
        self.metrics.database_bytes.set(size(&self.database) + log);
    }
}
