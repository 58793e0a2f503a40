//! Putting the server together, and taking it down in order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use delta_core::onion::directory::{NodeKind, RecordObject};
use delta_core::onion::v3::OnionKey;
use delta_noise::Responder;
use delta_server_shell::connect::{Connector, SystemResolver, Timeouts};
use delta_server_shell::directory::{Directories, LoadError};
use delta_server_shell::limit::{Rates, Shares};
use delta_server_shell::program::{self, LogFormat, Stop, print};
use delta_server_shell::serve::{Door, TurnedAway, serve};
use delta_server_shell::tls::TlsError;
use delta_server_shell::{
    FileError, OnionKeys, OptionsError, PlatformEntropy, SignError, StartError, Upkeep, platform,
};
use delta_topic_log::{GenerationSecret, TopicLogs};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::service::TowerToHyperService;
use thiserror::Error;
use tokio::sync::watch;

use crate::app::App;
use crate::data::{DataError, DataFolder};
use crate::health::{Budget, Disk};
use crate::http;
use crate::ingress::{Ingress, IngressParts, Opening, SignalQuota};
use crate::live::Live;
use crate::maintain::{self, MaintainError};
use crate::metrics::Metrics;
use crate::options::{Cli, Command, Settings};
use crate::proof::Nonces;
use crate::readers::Readers;
use crate::search::{Indexer, IndexerParts, Search};
use crate::status::{self, History};
use crate::store::{Index, Sql, StoreError};
use crate::writer::{self, WriterParts};

/// How long what was accepted may take to be committed after a stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long connections, sockets among them, may take to close after that.
const CLOSE: Duration = Duration::from_secs(3);
/// How long all of a stop may take: whoever told the server to stop has 10 s of patience.
const STOP: Duration = Duration::from_secs(9);
const _: () = assert!(STOP.as_secs() < 10 && DRAIN.as_secs() + CLOSE.as_secs() < STOP.as_secs());
/// How often the drain looks whether it is done.
const LOOK: Duration = Duration::from_millis(5);
/// Deliveries still on their way may hold this part of the bytes in flight.
const UPLOAD_PART: u64 = 2;
/// Fewest reading threads.
const MIN_READERS: usize = 2;

/// The server cannot start, or ended badly.
#[derive(Debug, Error)]
pub enum RunError {
    /// An option is wrong.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file of the data folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A command of the operator's failed.
    #[error(transparent)]
    Maintain(#[from] MaintainError),
    /// No record can be signed.
    #[error(transparent)]
    Record(#[from] SignError),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] LoadError),
    /// TLS towards whoever serves the directory.
    #[error("cannot set up TLS")]
    Connect(#[from] rustls::Error),
    /// The server's own certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Runs the program: a command of the operator's, or serves until SIGTERM or SIGINT.
///
/// # Errors
/// The server cannot start; the message says what to do.
pub fn run(cli: Cli) -> Result<(), RunError> {
    if cli.command.is_some() {
        program::log(LogFormat::Text);
    }
    match cli.command {
        Some(Command::Record(options)) => Ok(print(&options.sign(NodeKind::Sync, false)?.to_json())?),
        Some(Command::Check(options)) => check(&options.data),
        Some(Command::Topic(options)) => {
            Ok(print(&maintain::topic(&options.data, options.action, &options.topic)?)?)
        }
        Some(Command::Export(options)) => {
            Ok(print(&maintain::export(&options.data, &options.topic, &options.to)?)?)
        }
        Some(Command::Import(options)) => {
            Ok(maintain::import(&options.data, &options.files)?.iter().try_for_each(|line| print(line))?)
        }
        Some(Command::Backup(options)) => Ok(print(&maintain::backup(&options.data, &options.to)?)?),
        Some(Command::Restore(options)) => Ok(print(&maintain::restore(&options.from, &options.data)?)?),
        None => {
            let settings = cli.options.settle()?;
            program::log(settings.node.log_format);
            serve_until_told(&settings)
        }
    }
}

/// Prints what is wrong before it fails.
fn check(data: &std::path::Path) -> Result<(), RunError> {
    let report = maintain::check(data)?;
    report.problems.iter().try_for_each(|line| print(line))?;
    let problems = report.problems.len();
    print(&format!("{} topics, {} operations, {problems} problems", report.topics, report.rows))?;
    if problems == 0 { Ok(()) } else { Err(MaintainError::Problems(problems).into()) }
}

fn serve_until_told(settings: &Settings) -> Result<(), RunError> {
    let folder = DataFolder::open(&settings.node.data, &mut PlatformEntropy)?;
    let _lock = folder.lock()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(StartError::system("start the runtime"))?;
    let ended = runtime.block_on(async {
        // Before anyone is told that it listens: a signal that comes at once stops it in order, too.
        let mut stop = Stop::new()?;
        let server = Server::start(settings, folder).await?;
        stop.told().await;
        server.stop().await;
        Ok(())
    });
    // What did not end in time is not waited for.
    runtime.shutdown_background();
    ended
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    accepting: watch::Sender<bool>,
    writing: JoinHandle<()>,
    opening: Vec<JoinHandle<()>>,
    indexer: Indexer,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where the operator looks.
    pub admin: Option<SocketAddr>,
}

impl Server {
    /// Opens everything and starts to serve.
    ///
    /// # Errors
    /// Something cannot be opened.
    pub async fn start(settings: &Settings, folder: DataFolder) -> Result<Self, RunError> {
        let (app, writing, opening, indexer) = assemble(settings, &folder)?;
        let upkeep = Upkeep {
            folder: Arc::clone(folder.node()),
            keys: Arc::clone(&app.keys),
            terms: settings.node.record_terms(NodeKind::Sync, false),
        };
        let is_known = watch_directory(settings, &folder).await?;
        if let Some(record) = upkeep.start(platform::now(), &is_known)? {
            app.set_record(record);
        }
        let (listener, address) = program::bind(settings.node.listen).await?;
        let (accepting, stop) = watch::channel(false);
        let mut admin = None;
        if let Some(wanted) = settings.node.admin {
            let (listener, address) = program::bind(wanted).await?;
            admin = Some(address);
            let routes = status::router(Arc::clone(&app));
            tokio::spawn(status::sample(Arc::clone(&app), stop.clone()));
            tokio::spawn(serve(listener, Arc::new(Door::admin()), service(routes), stop.clone()));
        }
        let recorded = Arc::clone(&app);
        tokio::spawn(upkeep.run(is_known, move |record| recorded.set_record(record)));
        let routes = http::router(Arc::clone(&app));
        tokio::spawn(serve(listener, Arc::clone(&app.door), service(routes), stop));
        print(&format!("listening on {}://{address}", settings.node.scheme()))?;
        if let Some(admin) = admin {
            print(&format!("admin on http://{admin}"))?;
        }
        Ok(Self { app, accepting, writing, opening, indexer, address, admin })
    }

    /// Its directory record, once its URL is known.
    pub fn record(&self) -> Option<RecordObject> {
        self.app.record.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops in order: no new work, what was accepted is committed, sockets close with 1012, files are left clean. What
    /// takes longer than [`STOP`] is left as a kill leaves it: nothing that was answered is lost.
    pub async fn stop(self) {
        tracing::info!("stopping");
        let keys = Arc::clone(&self.app.keys);
        if tokio::time::timeout(STOP, self.stop_in_order()).await.is_err() {
            tracing::warn!("stopped before everything was in order");
        }
        keys.close();
        tracing::info!("stopped");
    }

    async fn stop_in_order(self) {
        self.app.stopping.store(true, Ordering::Relaxed);
        self.accepting.send_replace(true);
        let drained = async {
            while self.app.budget.used() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("some deliveries were not finished in time");
        }
        self.app.ingress.stop();
        self.app.writer.stop();
        self.app.closing.send_replace(true);
        let closed = async {
            while self.app.door.open.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(CLOSE, closed).await;
        let _ = tokio::task::spawn_blocking(|| self.indexer.stop()).await;
        for thread in self.opening.into_iter().chain([self.writing]) {
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
        // So that the database alone is whole, and what damages it is noticed.
        let database = self.app.database.clone();
        let empty = move || Sql::writer(&database, 0).and_then(|sql| sql.empty_log());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(empty).await {
            tracing::warn!("the write-ahead log stays: {error}");
        }
    }
}

/// Who may come in on the public address.
fn door(settings: &Settings, folder: &DataFolder, metrics: &Arc<Metrics>) -> Result<Door, TlsError> {
    let (limits, metrics) = (settings.limits, Arc::clone(metrics));
    let each = Shares::new(limits.connections_per_address).exempting(&settings.trusted_relays);
    let door = settings.node.door(limits.connections, each, move |why| match why {
        TurnedAway::Full => metrics.refuse_load.inc(),
        TurnedAway::TooMany => metrics.refuse_rate.inc(),
    })?;
    Ok(Door { noise: Some(Arc::new(Responder::new(folder.identity()))), ..door })
}

/// Routes as a plain HTTP service.
fn service(
    routes: Router,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Clone + Send {
    let routes = TowerToHyperService::new(routes);
    service_fn(move |request: Request<Incoming>| routes.call(request.map(Body::new)))
}

/// Follows the directory, and tells whether its records name an onion key of this server.
async fn watch_directory(
    settings: &Settings,
    folder: &DataFolder,
) -> Result<impl Fn(&OnionKey) -> bool + Clone + Send + use<>, RunError> {
    let mut knows = None;
    if let Some(sources) = &settings.directory {
        let connector = Connector::new(SystemResolver, settings.node.allow_private, Timeouts::default())?;
        let node = Arc::clone(folder.node());
        let directories = Directories::open(sources.clone(), node, connector, platform::now()).await?;
        let directories = Arc::new(directories);
        knows = Some(sources.knows_key(&directories, folder.node_id()));
        tokio::spawn(directories.watch(|| {}));
    }
    Ok(move |key: &OnionKey| knows.as_ref().is_none_or(|knows| knows(key)))
}

type Assembled = (Arc<App>, JoinHandle<()>, Vec<JoinHandle<()>>, Indexer);

fn assemble(settings: &Settings, folder: &DataFolder) -> Result<Assembled, RunError> {
    let limits = settings.limits;
    let database = folder.database();
    // The secret first: a database without its secret is refused, a secret without its database is made anew.
    let secret = folder.generation_secret(&mut PlatformEntropy)?;
    let logs = TopicLogs::new(Sql::writer(&database, limits.database_bytes)?, secret.clone());
    folder.expect_log()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let readers = Readers::start(&database, cores.max(MIN_READERS))?;
    let keys = OnionKeys::open(folder, settings.keys, &mut PlatformEntropy, platform::now())?;
    let keys = Arc::new(keys);
    let metrics = Arc::new(Metrics::default());
    let live = Arc::new(Live::new(Arc::clone(&metrics)));
    let (disk, opening) = (Arc::new(Disk::default()), Arc::new(Opening::default()));
    let (writer, writing) = writer::start(WriterParts {
        logs,
        database,
        live: Arc::clone(&live),
        metrics: Arc::clone(&metrics),
        disk: Arc::clone(&disk),
        limits,
        read_proof: settings.read_proof,
        opening: Arc::clone(&opening),
    })?;
    let parts = IngressParts {
        keys: Arc::clone(&keys),
        writer: writer.clone(),
        live: Arc::clone(&live),
        signals: SignalQuota::new(limits.signals_per_topic_per_minute),
        metrics: Arc::clone(&metrics),
        opening,
    };
    let (ingress, opening) = Ingress::start(parts, cores);
    let budget = Arc::new(Budget::new(limits.bytes_in_flight));
    let (search, indexer) = start_search(folder, &secret, &disk, &metrics)?;
    let relays = &settings.trusted_relays;
    let app = App {
        identity: folder.identity().clone(),
        secret,
        limits,
        accept_v2: settings.accept_v2,
        accept_direct_publish: settings.accept_direct_publish,
        read_proof: settings.read_proof,
        nonces: Nonces::new(&mut PlatformEntropy).map_err(FileError::from)?,
        contact: settings.node.contact.clone(),
        started: platform::now(),
        history: History::default(),
        record: RwLock::default(),
        live,
        readers,
        search,
        writer,
        ingress,
        keys,
        uploads: Arc::new(budget.part(UPLOAD_PART)),
        uploads_each: Arc::new(Shares::new(limits.upload_bytes_per_address).exempting(relays)),
        budget,
        downloads: Arc::new(Budget::new(limits.download_bytes)),
        downloads_each: Arc::new(Shares::new(limits.download_bytes_per_address).exempting(relays)),
        reads: Rates::new(limits.reads_per_second_per_address).exempting(relays),
        disk,
        subscribes: Rates::new(limits.subscribes_per_second_per_address).exempting(relays),
        searches: Rates::new(limits.searches_per_second_per_address).exempting(relays),
        door: Arc::new(door(settings, folder, &metrics)?),
        metrics,
        database: folder.database(),
        stopping: AtomicBool::new(false),
        closing: watch::Sender::new(false),
    };
    Ok((Arc::new(app), writing, opening, indexer))
}

fn start_search(
    folder: &DataFolder,
    secret: &GenerationSecret,
    disk: &Arc<Disk>,
    metrics: &Arc<Metrics>,
) -> Result<(Search, Indexer), RunError> {
    let (logs, path) = (folder.database(), folder.index());
    let (index, made) = Index::writer(&path)?;
    if made {
        tracing::info!("making the index of public channels anew");
    }
    let search = Search::start(&path, &logs)?;
    let indexer = Indexer::start(IndexerParts {
        logs: Sql::reader(&logs)?,
        index,
        path,
        secret: secret.clone(),
        disk: Arc::clone(disk),
        metrics: Arc::clone(metrics),
        damaged: search.damaged(),
    });
    Ok((search, indexer))
}
