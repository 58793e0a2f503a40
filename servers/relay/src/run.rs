//! From settings to a running relay, and to its end.

use std::collections::HashMap;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use delta_core::onion::directory::TrustPolicy;
use delta_relay_core::{Counters, Event, Limits};
use delta_replay::{BootId, Opened, Replay, ReplayError, ReplayFile};
use hyper::Request;
use hyper::body::Incoming;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::connect::{Connector, SystemResolver, Timeouts};
use crate::data::{DataError, DataFolder, REPLAY_CAPACITY};
use crate::directory::{Directories, LoadError, chain};
use crate::forward::Forwarder;
use crate::http::Front;
use crate::metrics::Metrics;
use crate::options::{Cli, Command, OptionsError, RecordOptions, Settings};
use crate::peel::{Keys, Peeler, Pool};
use crate::random::PlatformEntropy;
use crate::record::{self, RecordTerms, Records, SignError};
use crate::serve;

/// How long accepted packets are still forwarded after a stop.
const DRAIN: Duration = Duration::from_secs(8);
/// How often a stopping relay looks whether it is done.
const DRAIN_STEP: Duration = Duration::from_millis(20);
/// How often the directory files are looked at.
const DIRECTORY_STEP: Duration = Duration::from_secs(1);
/// How often the own record is signed again.
const RECORD_STEP: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a record of a running relay holds.
const RECORD_DAYS: u64 = 7;
/// One next node may hold this part of the memory for packets: one that is down leaves room for the others.
const HOP_PART: usize = 4;

/// The relay cannot run.
#[derive(Debug, Error)]
pub enum RunError {
    /// The options.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The data folder.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] LoadError),
    /// The own record.
    #[error(transparent)]
    Record(#[from] SignError),
    /// The replay set.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// An address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS towards next nodes.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// Standard output.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// Threads, signals.
    #[error("the system refused a thread or a signal handler")]
    System(#[from] io::Error),
}

/// Runs the program: a relay until SIGTERM or SIGINT, or one command.
pub fn run(cli: Cli) -> Result<(), RunError> {
    match cli.command {
        Some(Command::Record(options)) => print_record(options),
        None => {
            let settings = cli.options.settle()?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let result = runtime.block_on(relay(settings));
            // What still hangs on a connection is not waited for.
            runtime.shutdown_background();
            result
        }
    }
}

fn print_record(options: RecordOptions) -> Result<(), RunError> {
    // Before a folder is made for nothing.
    if let Some(url) = &options.url {
        record::check(url, options.allow_private)?;
    }
    let folder = DataFolder::open(&options.data, &mut PlatformEntropy)?;
    let terms = RecordTerms {
        url: options.url,
        operator: options.operator,
        valid_days: options.valid_days,
        allow_private: options.allow_private,
    };
    print(&record::sign(&folder, &terms, Clock::unix())?.to_json())
}

/// A line for whoever started the program. Unlike a log line it is there whatever is logged.
fn print(line: &str) -> Result<(), RunError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(RunError::Output)
}

/// A relay that is wired up and has not taken a packet yet.
struct Node {
    front: Arc<Front>,
    metrics: Arc<Metrics>,
    pool: Arc<Pool>,
    forwarder: Arc<Forwarder>,
    directories: Arc<Directories>,
    records: Arc<Records>,
    keys: Arc<Keys>,
    counters: Arc<Counters>,
}

async fn relay(settings: Settings) -> Result<(), RunError> {
    let folder = Arc::new(DataFolder::open(&settings.data, &mut PlatformEntropy)?);
    let _lock = folder.lock()?;
    if settings.allow_private {
        tracing::warn!("--allow-private: next nodes may be private addresses and plain http");
    }
    let node = assemble(&settings, &folder)?;
    let terms = RecordTerms {
        url: settings.url.clone(),
        operator: settings.operator.clone(),
        valid_days: RECORD_DAYS,
        allow_private: settings.allow_private,
    };
    if terms.url.is_some() || folder.node_info()?.url.is_some() {
        node.records.set_own(record::sign(&folder, &terms, Clock::unix())?);
        tokio::spawn(sign_daily(Arc::clone(&folder), terms, Arc::clone(&node.records)));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);

    let front = Arc::clone(&node.front);
    let answer = move |request| {
        let front = Arc::clone(&front);
        async move { front.answer(request).await }
    };
    let listener = listen(settings.listen).await?;
    tracing::info!("relay {}", folder.node_id());
    print(&format!("listening on http://{}", listener.local_addr()?))?;
    let serving = tokio::spawn(serve::serve(listener, stopped.clone(), answer));
    if let Some(address) = settings.admin {
        let metrics = Arc::clone(&node.metrics);
        let answer = move |request: Request<Incoming>| std::future::ready(Ok(metrics.answer(&request)));
        let listener = listen(address).await?;
        print(&format!("admin on http://{}", listener.local_addr()?))?;
        tokio::spawn(serve::serve(listener, stopped, answer));
    }
    tokio::spawn(watch_directory(Arc::clone(&node.directories), Arc::clone(&node.records)));

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: accepted packets are forwarded for up to {} s", DRAIN.as_secs());
    let _ = stop.send(true);
    node.finish(serving).await;
    Ok(())
}

fn assemble(settings: &Settings, folder: &Arc<DataFolder>) -> Result<Node, RunError> {
    let trust = TrustPolicy {
        keys: settings.trust.clone(),
        threshold: settings.threshold,
        allow_private: settings.allow_private,
    };
    let (list, records) = (settings.directory.clone(), settings.records.clone());
    let directories = Arc::new(Directories::open(list, records, trust, Arc::clone(folder), Clock::unix())?);
    let keys = Arc::new(open_keys(folder)?);
    let counters = Arc::new(Counters::default());
    let forwarder = Forwarder::start(
        Limits { batch_ms: settings.batch_ms, hop_bytes: settings.max_bytes / HOP_PART, ..Limits::default() },
        Connector::new(SystemResolver, settings.allow_private, Timeouts::default())?,
        Arc::clone(&directories),
        Arc::clone(&counters),
        Clock::start(),
        Handle::current(),
    );
    let peeler = Peeler {
        me: folder.node_id(),
        keys: Arc::clone(&keys),
        directories: Arc::clone(&directories),
        forwarder: Arc::clone(&forwarder),
        counters: Arc::clone(&counters),
        unwritable: AtomicBool::new(false),
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let pool = Pool::start(threads, peeler)?;
    let records = Arc::new(Records::new(Arc::clone(&directories)));
    let front = Arc::new(Front {
        pool: Arc::clone(&pool),
        keys: Arc::clone(&keys),
        budget: Budget::new(settings.max_bytes),
        records: Arc::clone(&records),
        counters: Arc::clone(&counters),
    });
    let metrics = Arc::new(Metrics {
        counters: Arc::clone(&counters),
        forwarder: Arc::clone(&forwarder),
        keys: Arc::clone(&keys),
        directories: Arc::clone(&directories),
    });
    Ok(Node { front, metrics, pool, forwarder, directories, records, keys, counters })
}

/// The onion keys with their replay sets; new keys when a set cannot be trusted.
fn open_keys(folder: &DataFolder) -> Result<Keys, RunError> {
    if let Some(keys) = try_open_keys(folder)? {
        return Ok(keys);
    }
    folder.replace_keys(&mut PlatformEntropy)?;
    try_open_keys(folder)?
        .ok_or_else(|| RunError::System(io::Error::other("a fresh replay file is not trusted")))
}

fn try_open_keys(folder: &DataFolder) -> Result<Option<Keys>, RunError> {
    let ring = folder.keys()?;
    let mut seen = HashMap::new();
    for key in ring.secrets() {
        let path = folder.replay_path(key.kid());
        match ReplayFile::open(&path, &key.public().public, REPLAY_CAPACITY, BootId::current())? {
            Opened::Trusted(file) => seen.insert(key.kid(), Replay::start(file)?),
            Opened::Untrusted(why) => {
                tracing::warn!("replay file {}: {why}; the relay starts a new onion key", path.display());
                return Ok(None);
            }
        };
    }
    Ok(Some(Keys { ring, seen }))
}

async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })
}

async fn watch_directory(directories: Arc<Directories>, records: Arc<Records>) {
    loop {
        tokio::time::sleep(DIRECTORY_STEP).await;
        let (directories, records) = (Arc::clone(&directories), Arc::clone(&records));
        // Up to thousands of signatures are checked: not on a thread that serves.
        let refreshing = tokio::task::spawn_blocking(move || {
            if directories.refresh(Clock::unix()) {
                records.rebuild();
            }
        });
        if refreshing.await.is_err() {
            return;
        }
    }
}

async fn sign_daily(folder: Arc<DataFolder>, terms: RecordTerms, records: Arc<Records>) {
    loop {
        tokio::time::sleep(RECORD_STEP).await;
        match record::sign(&folder, &terms, Clock::unix()) {
            Ok(record) => records.set_own(record),
            Err(error) => tracing::error!("the relay's record could not be signed again: {}", chain(&error)),
        }
    }
}

impl Node {
    /// Forwards what was accepted, for a while, and marks the replay sets as complete.
    async fn finish(self, serving: tokio::task::JoinHandle<()>) {
        let drained = async {
            let _ = serving.await;
            while !(self.pool.is_empty() && self.forwarder.is_empty()) {
                tokio::time::sleep(DRAIN_STEP).await;
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            let left = self.forwarder.len() as u64;
            self.counters.add(Event::Stopped, left);
            tracing::warn!("{left} packets were not forwarded in time");
        }
        for replay in self.keys.seen.values() {
            if let Err(error) = replay.close() {
                tracing::error!(
                    "{error}; after a restart of the machine the relay will start a new onion key"
                );
            }
        }
    }
}
