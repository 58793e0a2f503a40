//! From settings to a running relay, and to its end.

use std::convert::Infallible;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use delta_core::onion::PacketClass;
use delta_core::onion::directory::NodeKind;
use delta_relay_core::{Counters, Event, Limits};
use delta_replay::ReplayError;
use delta_server_shell::connect::{Connector, SystemResolver, Timeouts};
use delta_server_shell::directory::{Directories, LoadError};
use delta_server_shell::limit::{Rates, Shares, bound};
use delta_server_shell::platform::{self, Clock};
use delta_server_shell::program::{self, LogFormat, Stop};
use delta_server_shell::serve::{Door, serve};
use delta_server_shell::tls::TlsError;
use delta_server_shell::{
    FileError, NodeFolder, OnionKeys, OptionsError, PlatformEntropy, SignError, StartError, Upkeep,
};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::budget::Budget;
use crate::forward::Forwarder;
use crate::http::{self, Front};
use crate::metrics::Metrics;
use crate::options::{Cli, Command, Settings};
use crate::peel::{Peeler, Pool};
use crate::record::Records;
use crate::tunnel::{self, TunnelLimits, Tunnels};
use crate::v2::V2;

/// How long accepted packets are still forwarded after a stop.
const DRAIN: Duration = Duration::from_secs(8);
/// How often a stopping relay looks whether it is done.
const DRAIN_STEP: Duration = Duration::from_millis(20);
/// One next node may hold this part of the memory for packets: one that is down leaves room for the others.
const HOP_PART: usize = 4;
/// Packets that wait for the delay they ask for, a minute at most, may hold this part of it.
const DELAYED_PART: usize = 2;
/// Bodies still on their way may hold this part of it.
const UPLOAD_PART: usize = 2;

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
    /// The replay set of version 2.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// TLS towards next nodes.
    #[error("cannot set up TLS")]
    Connect(#[from] rustls::Error),
    /// The relay's own certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The DHT.
    #[cfg(feature = "dht")]
    #[error(transparent)]
    Dht(#[from] delta_directory_dht::DhtError),
}

/// Runs the program: a relay until SIGTERM or SIGINT, or one command.
pub fn run(cli: Cli) -> Result<(), RunError> {
    match cli.command {
        Some(Command::Keygen(options)) => {
            program::log(LogFormat::Text);
            options.make()?.iter().try_for_each(|line| Ok(program::print(line)?))
        }
        Some(Command::Record(options)) => {
            program::log(LogFormat::Text);
            let record = options.node.sign(NodeKind::Relay, !options.no_tunnel)?;
            Ok(program::print(&record.to_json())?)
        }
        None => {
            let settings = cli.options.settle()?;
            program::log(settings.node.log_format);
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
    door: Arc<Door>,
}

async fn relay(settings: Settings) -> Result<(), RunError> {
    let folder = Arc::new(NodeFolder::open(&settings.node.data, &mut PlatformEntropy)?);
    let _lock = folder.lock()?;
    if settings.node.allow_private {
        tracing::warn!("--allow-private: next nodes may be private addresses and plain http");
    }
    let (stop, stopped) = watch::channel(false);
    let node = assemble(&settings, &folder, &stopped).await?;
    let upkeep = Upkeep {
        folder: Arc::clone(&folder),
        keys: Arc::clone(&node.keys),
        terms: settings.node.record_terms(NodeKind::Relay, settings.tunnel),
    };
    let is_known = settings.directory.knows_key(&node.directories, folder.node_id());
    if let Some(record) = upkeep.start(platform::now(), &is_known)? {
        node.records.set_own(record);
    }
    let mut signals = Stop::new()?;
    let front = Arc::clone(&node.front);
    let answer = service_fn(move |request| {
        let front = Arc::clone(&front);
        async move { front.answer(request).await }
    });
    let (listener, address) = program::bind(settings.node.listen).await?;
    tracing::info!("relay {}", folder.node_id());
    program::print(&format!("listening on {}://{address}", settings.node.scheme()))?;
    tokio::spawn(serve(listener, Arc::clone(&node.door), answer, stopped.clone()));
    if let Some(wanted) = settings.node.admin {
        let metrics = Arc::clone(&node.metrics);
        let answer = service_fn(move |request: Request<Incoming>| {
            std::future::ready(Ok::<_, Infallible>(metrics.answer(&request)))
        });
        let (listener, address) = program::bind(wanted).await?;
        program::print(&format!("admin on http://{address}"))?;
        tokio::spawn(serve(listener, Arc::new(Door::admin()), answer, stopped));
    }
    let records = Arc::clone(&node.records);
    tokio::spawn(Arc::clone(&node.directories).watch(move || records.rebuild()));
    let records = Arc::clone(&node.records);
    tokio::spawn(upkeep.run(is_known, move |record| records.set_own(record)));
    #[cfg(feature = "dht")]
    if let Some(dht) = settings.dht.join()? {
        if node.records.own().is_none() {
            tracing::warn!("--dht: without --url there is no record to publish");
        }
        tokio::spawn(crate::dht::publish(dht, Arc::clone(&folder), Arc::clone(&node.records)));
    }

    signals.told().await;
    tracing::info!("stopping: accepted packets are forwarded for up to {} s", DRAIN.as_secs());
    let _ = stop.send(true);
    node.finish().await;
    Ok(())
}

async fn assemble(
    settings: &Settings,
    folder: &Arc<NodeFolder>,
    stopped: &watch::Receiver<bool>,
) -> Result<Node, RunError> {
    let connector = Connector::new(SystemResolver, settings.node.allow_private, Timeouts::default())?;
    let (sources, now) = (settings.directory.clone(), platform::now());
    let directories = Directories::open(sources, Arc::clone(folder), connector.clone(), now).await?;
    let directories = Arc::new(directories);
    let keys = Arc::new(OnionKeys::open(folder, settings.keys, &mut PlatformEntropy, now)?);
    let counters = Arc::new(Counters::default());
    let (clock, limits) = (Clock::start(), settings.limits);
    let door = Arc::new(door(settings, &counters)?);
    let tunnels = settings.tunnel.then(|| {
        Arc::new(Tunnels {
            directories: Arc::clone(&directories),
            connector: connector.clone(),
            each: Arc::new(Shares::new(limits.tunnels_per_address)),
            limits: TunnelLimits {
                tunnels: limits.tunnels,
                bytes_per_second: limits.tunnel_bytes_per_second,
                idle: tunnel::IDLE,
            },
            open: AtomicU64::new(0),
            closing: stopped.clone(),
            counters: Arc::clone(&counters),
            clock,
        })
    });
    let v2 = match settings.accept_v2 {
        true => {
            tracing::warn!(
                "--accept-v2: packets of version 2 shrink at every hop and show their topic to the last"
            );
            let (directories, counters) = (Arc::clone(&directories), Arc::clone(&counters));
            let capacity = usize::try_from(bound(limits.v2_replay_tags)).unwrap_or(usize::MAX);
            let server = settings.v2_server;
            let v2 = V2::open(folder, capacity, server, directories, connector.clone(), counters)?;
            Some(Arc::new(v2))
        }
        false => None,
    };
    let forwarder = Forwarder::start(
        Limits {
            batch_ms: settings.batch_ms,
            hop_bytes: settings.max_bytes / HOP_PART,
            delayed_bytes: settings.max_bytes / DELAYED_PART,
            ..Limits::default()
        },
        connector,
        Arc::clone(&directories),
        Arc::clone(&counters),
        clock,
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
        rates: Rates::new(limits.requests_per_second_per_address),
        // One always fits, however little memory there is.
        uploads: Budget::new((settings.max_bytes / UPLOAD_PART).max(PacketClass::LARGEST.size())),
        uploads_each: Arc::new(Shares::new(limits.upload_bytes_per_address)),
        v2: v2.clone(),
        tunnels: tunnels.clone(),
        about: http::about(settings.node.contact.as_deref()),
        clock,
        records: Arc::clone(&records),
        counters: Arc::clone(&counters),
    });
    let metrics = Arc::new(Metrics {
        counters: Arc::clone(&counters),
        forwarder: Arc::clone(&forwarder),
        keys: Arc::clone(&keys),
        directories: Arc::clone(&directories),
        door: Arc::clone(&door),
        tunnels,
        v2,
    });
    Ok(Node { front, metrics, pool, forwarder, directories, records, keys, counters, door })
}

/// Who may come in on the public address.
fn door(settings: &Settings, counters: &Arc<Counters>) -> Result<Door, TlsError> {
    let (limits, counters) = (settings.limits, Arc::clone(counters));
    let busy = move |_| counters.count(Event::Busy);
    let each = Shares::new(limits.connections_per_address);
    let door = settings.node.door(limits.connections, each, busy)?;
    // A packet's answer is the same bytes at any time.
    Ok(Door { date: false, ..door })
}

impl Node {
    /// Forwards what was accepted, for a while, and marks the replay sets as complete.
    async fn finish(self) {
        let connected = || self.door.open.load(Ordering::Relaxed) > 0;
        let drained = async {
            while connected() || !(self.pool.is_empty() && self.forwarder.is_empty()) {
                tokio::time::sleep(DRAIN_STEP).await;
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            let left = self.forwarder.len() as u64;
            self.counters.add(Event::Stopped, left);
            tracing::warn!("{left} packets were not forwarded in time");
        }
        self.keys.close();
        if let Some(v2) = &self.front.v2 {
            v2.close();
        }
    }
}
