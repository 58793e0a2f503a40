//! From settings to a running relay, and to its end.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use delta_core::onion::directory::{NodeKind, TrustPolicy};
use delta_relay_core::{Counters, Event, Limits};
use delta_server_shell::keys::KeyPolicy;
use delta_server_shell::platform::{self, Clock};
use delta_server_shell::program::{self, Stop};
use delta_server_shell::{
    FileError, NodeFolder, OnionKeys, OptionsError, PlatformEntropy, SignError, StartError, Upkeep,
};
use hyper::Request;
use hyper::body::Incoming;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::budget::Budget;
use crate::connect::{Connector, SystemResolver, Timeouts};
use crate::directory::{Directories, LoadError};
use crate::forward::Forwarder;
use crate::http::Front;
use crate::metrics::Metrics;
use crate::options::{Cli, Command, Settings};
use crate::peel::{Peeler, Pool};
use crate::record::Records;
use crate::serve;

/// How long accepted packets are still forwarded after a stop.
const DRAIN: Duration = Duration::from_secs(8);
/// How often a stopping relay looks whether it is done.
const DRAIN_STEP: Duration = Duration::from_millis(20);
/// How often the directory files are looked at.
const DIRECTORY_STEP: Duration = Duration::from_secs(1);
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
    Data(#[from] FileError),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] LoadError),
    /// The own record.
    #[error(transparent)]
    Record(#[from] SignError),
    /// TLS towards next nodes.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// The system.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Runs the program: a relay until SIGTERM or SIGINT, or one command.
pub fn run(cli: Cli) -> Result<(), RunError> {
    match cli.command {
        Some(Command::Record(options)) => {
            let record = options.sign(NodeKind::Relay)?;
            Ok(program::print(&record.to_json())?)
        }
        None => {
            let settings = cli.options.settle()?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            let runtime = runtime.map_err(StartError::system("start the runtime"))?;
            let result = runtime.block_on(relay(settings));
            // What still hangs on a connection is not waited for.
            runtime.shutdown_background();
            result
        }
    }
}

/// A relay that is wired up and has not taken a packet yet.
struct Node {
    front: Arc<Front>,
    metrics: Arc<Metrics>,
    pool: Arc<Pool>,
    forwarder: Arc<Forwarder>,
    directories: Arc<Directories>,
    records: Arc<Records>,
    keys: Arc<OnionKeys>,
    counters: Arc<Counters>,
}

async fn relay(settings: Settings) -> Result<(), RunError> {
    let folder = Arc::new(NodeFolder::open(&settings.node.data, &mut PlatformEntropy)?);
    let _lock = folder.lock()?;
    if settings.node.allow_private {
        tracing::warn!("--allow-private: next nodes may be private addresses and plain http");
    }
    let node = assemble(&settings, &folder)?;
    let upkeep = Upkeep {
        folder: Arc::clone(&folder),
        keys: Arc::clone(&node.keys),
        terms: settings.node.record_terms(NodeKind::Relay),
    };
    if let Some(record) = upkeep.start(platform::now())? {
        node.records.set_own(record);
    }
    let mut signals = Stop::new()?;
    let (stop, stopped) = watch::channel(false);

    let front = Arc::clone(&node.front);
    let answer = move |request| {
        let front = Arc::clone(&front);
        async move { front.answer(request).await }
    };
    let (listener, address) = program::bind(settings.node.listen).await?;
    tracing::info!("relay {}", folder.node_id());
    program::print(&format!("listening on http://{address}"))?;
    let serving = tokio::spawn(serve::serve(listener, stopped.clone(), answer));
    if let Some(wanted) = settings.node.admin {
        let metrics = Arc::clone(&node.metrics);
        let answer = move |request: Request<Incoming>| std::future::ready(Ok(metrics.answer(&request)));
        let (listener, address) = program::bind(wanted).await?;
        program::print(&format!("admin on http://{address}"))?;
        tokio::spawn(serve::serve(listener, stopped, answer));
    }
    tokio::spawn(watch_directory(Arc::clone(&node.directories), Arc::clone(&node.records)));
    let records = Arc::clone(&node.records);
    tokio::spawn(upkeep.run(|_| true, move |record| records.set_own(record)));

    signals.told().await;
    tracing::info!("stopping: accepted packets are forwarded for up to {} s", DRAIN.as_secs());
    let _ = stop.send(true);
    node.finish(serving).await;
    Ok(())
}

fn assemble(settings: &Settings, folder: &Arc<NodeFolder>) -> Result<Node, RunError> {
    let trust = TrustPolicy {
        keys: settings.trust.clone(),
        threshold: settings.threshold,
        allow_private: settings.node.allow_private,
    };
    let (list, records) = (settings.directory.clone(), settings.records.clone());
    let directories = Arc::new(Directories::open(list, records, trust, Arc::clone(folder), platform::now())?);
    let policy = KeyPolicy::every_hours(0);
    let keys = OnionKeys::open(folder, policy, &mut PlatformEntropy, platform::now())?;
    let keys = Arc::new(keys);
    let counters = Arc::new(Counters::default());
    let forwarder = Forwarder::start(
        Limits { batch_ms: settings.batch_ms, hop_bytes: settings.max_bytes / HOP_PART, ..Limits::default() },
        Connector::new(SystemResolver, settings.node.allow_private, Timeouts::default())?,
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
    let pool = Pool::start(threads, peeler).map_err(StartError::system("start threads"))?;
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

async fn watch_directory(directories: Arc<Directories>, records: Arc<Records>) {
    loop {
        tokio::time::sleep(DIRECTORY_STEP).await;
        let (directories, records) = (Arc::clone(&directories), Arc::clone(&records));
        // Up to thousands of signatures are checked: not on a thread that serves.
        let refreshing = tokio::task::spawn_blocking(move || {
            if directories.refresh(platform::now()) {
                records.rebuild();
            }
        });
        if refreshing.await.is_err() {
            return;
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
        self.keys.close();
    }
}
