//! The object an app holds.

use std::any::Any;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use delta_core::engine::{Command, CommandError, Engine, Reply, TopicStatus};
use delta_core::identity::{Author, NodeId, OperationId};
use delta_core::onion::control::Action;
use delta_core::onion::directory::Skipped;
use delta_core::ops::{Content, DeviceKey, Ticket};
use delta_core::store::{Reader, Store, StoreError, StoreKey, StoreOptions};
use delta_core::sync::proof::ReadKey;
use delta_core::topic::TopicId;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::access::{About, Server};
use crate::apart::job;
use crate::config::{Config, RelayHops};
use crate::driver::{Driver, Inbox, MAX_TOGETHER, Message, Outbound, Parts, Workers, inbox};
use crate::error::ClientError;
use crate::keystore::{DeviceSource, OpenedDevice, open_device, refuse_other_device, unlock_store};
use crate::lifecycle::Lifecycle;
use crate::net::{Http, SocketContext, client_config};
use crate::platform::{Clock, PlatformEntropy};
use crate::readers::{Query, READERS, Readers};
use crate::renew::Renewer;
use crate::subscription::{Listener, Subscription};

/// One device: its database, its topics, its connections. Clones share it; several clients may live in one process.
///
/// Dropping the last clone without [`Client::close`] stops it in the background; nothing durable is lost.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) inbox: Inbox,
    pub(crate) readers: Readers,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) path: PathBuf,
    pub(crate) device: DeviceSource,
    author: Author,
    renewed: bool,
    clock: Arc<Clock>,
    http: Http,
    /// Base URL of the configured server.
    server: Mutex<Option<String>>,
    renewer: Arc<Renewer>,
    coalesce: std::time::Duration,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Client {
    /// Opens (or makes) the database and starts the engine. Nothing is sent before [`Client::init_sync`].
    ///
    /// Needs a tokio runtime with time and IO, and runs its sockets there.
    ///
    /// # Errors
    /// `database_locked` when another process or client has the database open; `database_other_device` when it was opened
    /// with another device's key before; `database_sealed` without the keystore it was made with; see
    /// [`ClientError::code`].
    pub async fn open(config: Config) -> Result<Self, ClientError> {
        let terms = config.terms();
        let Config {
            path,
            device,
            allow_plaintext,
            extra_roots,
            proxy,
            coalesce,
            blob_cache,
            workers,
            clock,
            ..
        } = config;
        let tls = client_config(&extra_roots).map_err(|error| ClientError::Tls(error.to_string()))?;
        let sockets = SocketContext { tls: Arc::new(tls), allow_plaintext, proxy: proxy.map(Arc::new) };
        let http = Http::new(sockets.clone());
        let threads = workers.unwrap_or(0);
        let workers =
            Workers::new(threads).map_err(|error| ClientError::Threads(std::io::Error::other(error)))?;
        let clock = Arc::new(Clock::new(clock));
        let (inbox, messages) = inbox();
        let renewer = Arc::new(Renewer::new(terms, Arc::clone(&clock)));
        // Not the same connections: those for packets and pages are closed with a suspend.
        let outbound = http.renewed();
        let outbound = Outbound::new(Handle::current(), outbound, sockets, Arc::clone(&renewer));
        let (database, source) = (path.clone(), device.clone());
        let (opened, opening) = oneshot::channel();
        let body = {
            let (clock, inbox) = (Arc::clone(&clock), inbox.clone());
            move || {
                let (engine, readers, store_key) = match open_engine(&path, &device, &clock) {
                    Ok(OpenedEngine { mut engine, readers, renewed, store_key }) => {
                        engine.limit_blobs(blob_cache);
                        let readers = Readers::new(readers);
                        // Nobody waits for it any more: the call was dropped.
                        if opened.send(Ok((engine.author(), readers.clone(), renewed))).is_err() {
                            return;
                        }
                        (engine, readers, store_key)
                    }
                    Err(error) => return drop(opened.send(Err(error))),
                };
                Driver::new(Parts {
                    engine,
                    clock,
                    messages,
                    inbox,
                    workers,
                    outbound,
                    path,
                    store_key,
                    readers,
                })
                .run();
            }
        };
        let thread = spawn(body)?;
        let (author, readers, renewed) = opening.await.unwrap_or(Err(ClientError::EnginePanicked))?;
        let (thread, server) = (Mutex::new(Some(thread)), Mutex::default());
        let (lifecycle, path, device) = (Lifecycle::default(), database, source);
        let shared = Shared {
            inbox,
            readers,
            lifecycle,
            path,
            device,
            author,
            renewed,
            clock,
            http,
            server,
            renewer,
            coalesce,
            thread,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// This device's key, as others know it.
    pub fn author(&self) -> Author {
        self.shared.author
    }

    pub(crate) fn now(&self) -> delta_core::identity::Millis {
        self.shared.clock.now()
    }

    /// Whether the database was restored or copied, so that the keystore holds a new device key since this open: for
    /// everyone else it is another device, which its person may have to certify and which groups have to admit.
    pub fn renewed(&self) -> bool {
        self.shared.renewed
    }

    /// Sends through these relays to this server from now on, and reads it. May be called again.
    ///
    /// `sync_url` is `<base>#<ed25519 hex>`: whatever the server says of itself must be signed by that key. Its record
    /// comes from the relays' records if it is among them, else from its `/info`. A list or record older than one this
    /// device has seen from the same signers is refused.
    ///
    /// From then on the relays' records are renewed every day by themselves, from the entry relays' `/records` or from
    /// [`Config::records_url`]; what was collected is kept, and used from the next start on where it is newer than
    /// `relay_hops`.
    ///
    /// Returns the nodes that were left out, and why. With too few usable relays left, operations stay queued and
    /// [`Client::status`] says so.
    pub async fn init_sync(
        &self,
        relay_hops: &RelayHops,
        sync_url: &str,
    ) -> Result<Vec<Skipped>, ClientError> {
        let Shared { renewer, readers, http, inbox, .. } = &*self.shared;
        let (skipped, base) = renewer.configure(relay_hops, sync_url, readers, http, inbox).await?;
        *self.shared.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(base);
        Ok(skipped)
    }

    /// Opens a topic from its ticket; again is harmless. It stays open across restarts.
    pub async fn open_topic(&self, ticket: &Ticket) -> Result<TopicId, ClientError> {
        let topic = ticket.topic();
        self.shared.inbox.command(Command::OpenTopic { ticket: ticket.clone() }).await?;
        Ok(topic)
    }

    /// Signs and stores an operation and queues it for sending. Returns once it is durable on this device; concurrent
    /// calls share one fsync.
    ///
    /// A future that was polled once and is then dropped may or may not have published.
    pub async fn publish(&self, topic: TopicId, content: Content) -> Result<OperationId, ClientError> {
        match self.shared.inbox.command(Command::Publish { topic, content }).await? {
            Reply::Published(operation) => Ok(operation),
            other => Err(unexpected(&other)),
        }
    }

    /// As [`Client::publish`], at most once for a `key` the app chose (1 to
    /// [`MAX_IDEMPOTENCY_KEY`](delta_core::limits::MAX_IDEMPOTENCY_KEY) bytes): repeated, also after the app was killed
    /// and whatever is asked for then, it gives the operation of the first call.
    pub async fn publish_once(
        &self,
        topic: TopicId,
        content: Content,
        key: impl Into<Bytes>,
    ) -> Result<OperationId, ClientError> {
        let command = Command::PublishOnce { topic, content, key: key.into() };
        match self.shared.inbox.command(command).await? {
            Reply::Published(operation) => Ok(operation),
            other => Err(unexpected(&other)),
        }
    }

    /// Publishes several operations of one topic in this order; they share transactions, so this is much faster than
    /// one after the other. Every one is answered for itself, and those before a refused one stand.
    pub async fn publish_all(
        &self,
        topic: TopicId,
        contents: Vec<Content>,
    ) -> Vec<Result<OperationId, ClientError>> {
        let mut published = Vec::with_capacity(contents.len());
        let mut contents = contents.into_iter().peekable();
        while contents.peek().is_some() {
            let together = contents.by_ref().take(MAX_TOGETHER);
            let commands = together.map(|content| Command::Publish { topic, content });
            let replies = self.shared.inbox.commands(commands).await;
            published.extend(replies.into_iter().map(|reply| match reply? {
                Reply::Published(operation) => Ok(operation),
                other => Err(unexpected(&other)),
            }));
        }
        published
    }

    /// Receives a topic and listens to what happens in it, until the subscription is dropped.
    pub async fn subscribe(&self, topic: TopicId) -> Result<Subscription, ClientError> {
        let listener = Listener::new(topic, self.shared.coalesce);
        // Made first: a future that is dropped while it waits unsubscribes too.
        let subscription = Subscription::new(topic, Arc::clone(&listener), self.shared.inbox.clone());
        self.shared.inbox.listen(listener).await?;
        Ok(subscription)
    }

    /// Sends a signal (presence, typing: 1 to [`MAX_SIGNAL_BODY`](delta_core::limits::MAX_SIGNAL_BODY) bytes) to
    /// whoever listens to the topic now. It is signed and sealed like an operation, goes through the onion, and nobody
    /// stores it. At most one in five seconds leaves for a topic: of those that come sooner the latest goes when it may.
    ///
    /// # Errors
    /// `not_sent` when there is no route now: a signal is not kept for later.
    pub async fn signal(&self, topic: TopicId, bytes: impl Into<Bytes>) -> Result<(), ClientError> {
        self.shared.inbox.command(Command::Signal { topic, bytes: bytes.into() }).await.map(drop)
    }

    /// Sends a control message of a public topic through the onion and gives its counter. Nobody answers for it:
    /// [`Client::about`] says what the server took; send it again if that does not change.
    pub async fn control(&self, topic: TopicId, action: Action) -> Result<u64, ClientError> {
        match self.shared.inbox.command(Command::Control { topic, action }).await? {
            Reply::Control(counter) => Ok(counter),
            other => Err(unexpected(&other)),
        }
    }

    /// Keeps (or with `None` forgets) the key that readers of the topic prove where its server asks for it.
    pub async fn set_read_key(&self, topic: TopicId, key: Option<ReadKey>) -> Result<(), ClientError> {
        self.shared.inbox.command(Command::SetReadKey { topic, key }).await.map(drop)
    }

    /// What the server says of a topic's control messages. Asked for the way the topic is read.
    pub async fn about(&self, topic: TopicId) -> Result<About, ClientError> {
        self.server(topic).await?.about(topic).await
    }

    /// How many connections listen to a topic, for those who may write to it. Asked for the way the topic is read: the
    /// server learns that whoever asks from that address has the topic's write key.
    pub async fn subscribers(&self, topic: TopicId) -> Result<u64, ClientError> {
        self.server(topic).await?.subscribers(topic).await
    }

    pub(crate) fn has_network(&self) -> bool {
        self.shared.server.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The server, and the way this topic is read.
    async fn server(&self, topic: TopicId) -> Result<Server, ClientError> {
        let base = self.shared.server.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let base = base.ok_or(ClientError::Command(CommandError::NoNetwork))?;
        let via = match self.shared.inbox.command(Command::Tunnel { topic }).await? {
            Reply::Tunnel(via) => via,
            other => return Err(unexpected(&other)),
        };
        Ok(Server { http: self.shared.http.through(via), inbox: self.shared.inbox.clone(), base })
    }

    /// Where a topic stands.
    pub async fn status(&self, topic: TopicId) -> Result<TopicStatus, ClientError> {
        match self.shared.inbox.command(Command::Status { topic }).await? {
            Reply::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// The relays that this device leaves out at present, because packets over them were lost or refused. They come back
    /// by themselves, and are used when there are too few others.
    pub async fn avoided_relays(&self) -> Result<Vec<NodeId>, ClientError> {
        match self.shared.inbox.command(Command::AvoidedRelays).await? {
            Reply::AvoidedRelays(relays) => Ok(relays),
            other => Err(unexpected(&other)),
        }
    }

    /// Runs a query on one of the read-only connections, on a blocking thread.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ClientError> {
        self.shared.readers.run(query).await
    }

    /// As [`Client::read`], where the answer's type is the caller's affair: compiled once for all queries.
    pub async fn read_boxed(&self, query: Query) -> Result<Box<dyn Any + Send>, ClientError> {
        self.shared.readers.job(query).await
    }

    pub(crate) async fn command(&self, command: Command) -> Result<Reply, ClientError> {
        self.shared.inbox.command(command).await
    }

    /// The device's network changed: waiting ends now, for connections and for what is queued.
    pub fn network_changed(&self) {
        self.shared.inbox.send(Message::NetworkChanged);
    }

    /// Finishes what was accepted, closes the sockets, releases the database and its lock. Calls after it, and clones
    /// of this client, get [`ClientError::Closed`]; closing again is harmless.
    pub async fn close(&self) -> Result<(), ClientError> {
        self.shared.readers.close().await;
        let (done, closed) = oneshot::channel();
        self.shared.inbox.send(Message::Close { done });
        // No answer: it had stopped before.
        drop(closed.await);
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            drop(job(Box::new(move || drop(thread.join()))).await);
        }
        match self.shared.inbox.why_stopped() {
            ClientError::Closed => Ok(()),
            error => Err(error),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let (done, _) = oneshot::channel();
        self.inbox.send(Message::Close { done });
    }
}

fn spawn(body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ClientError> {
    std::thread::Builder::new().name("delta-engine".into()).spawn(body).map_err(ClientError::Threads)
}

struct OpenedEngine {
    engine: Engine,
    readers: Vec<Reader>,
    /// The device has another key than before.
    renewed: bool,
    /// What opens the database's secrets, where they are sealed.
    store_key: Option<StoreKey>,
}

fn open_engine(
    path: &std::path::Path,
    device: &DeviceSource,
    clock: &Clock,
) -> Result<OpenedEngine, ClientError> {
    let mut store = Store::open(path, StoreOptions::default())?;
    let (OpenedDevice { key, renewed }, store_key) = match device {
        DeviceSource::Key(_) if store.is_sealed() => return Err(store.key_missing().into()),
        DeviceSource::Key(seed) => (OpenedDevice { key: DeviceKey::from_bytes(seed), renewed: false }, None),
        DeviceSource::KeyStore(keystore) => {
            // Before anything is sealed or made.
            refuse_other_device(&store)?;
            let store_key = unlock_store(&mut store, keystore.as_ref(), &mut PlatformEntropy)?;
            let device = open_device(&mut store, keystore.as_ref(), clock.now(), &mut PlatformEntropy)?;
            (device, Some(store_key))
        }
    };
    let engine = Engine::open(store, key, clock.now())?;
    let readers = (0..READERS).map(|_| engine.reader()).collect::<Result<_, _>>()?;
    Ok(OpenedEngine { engine, readers, renewed, store_key })
}

pub(crate) fn unexpected(reply: &Reply) -> ClientError {
    tracing::error!(?reply, "the engine answered another command");
    ClientError::EnginePanicked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket::generate_private(&mut delta_core::entropy::SeededEntropy::new([5; 32])).unwrap()
    }

    fn hello() -> Content {
        Content::MessageSend {
            text: "hello".into(),
            reply: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_panic_of_the_engine_reaches_every_caller_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path().join("device.db"), [1; 32]);
        let client = Client::open(config.clone()).await.unwrap();
        let topic = client.open_topic(&ticket()).await.unwrap();
        let mut updates = client.subscribe(topic).await.unwrap();
        let published = client.publish(topic, hello()).await.unwrap();
        client.shared.inbox.send(Message::WorkerPanicked);
        assert_eq!(client.publish(topic, hello()).await.unwrap_err().code(), "engine_panicked");
        while updates.next().await.is_some() {}
        assert_eq!(client.status(topic).await.unwrap_err().code(), "engine_panicked");
        assert_eq!(client.close().await.unwrap_err().code(), "engine_panicked");
        let client = Client::open(config).await.unwrap();
        let operations = client.read(|reader| reader.list_operations(None, 10)).await.unwrap();
        assert_eq!(operations.iter().map(|operation| operation.id).collect::<Vec<_>>(), [published]);
        client.close().await.unwrap();
    }

    #[tokio::test]
    async fn an_open_that_is_given_up_releases_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path().join("device.db"), [1; 32]);
        for _ in 0..20 {
            let mut opening = Box::pin(Client::open(config.clone()));
            let _ =
                std::future::poll_fn(|cx| std::task::Poll::Ready(opening.as_mut().poll(cx).is_ready())).await;
        }
        loop {
            match Client::open(config.clone()).await {
                Ok(client) => break client.close().await.unwrap(),
                Err(error) => assert_eq!(error.code(), "database_locked"),
            }
        }
    }

    #[tokio::test]
    async fn a_query_that_panics_is_an_error_and_gives_its_connection_back() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::open(Config::new(dir.path().join("device.db"), [1; 32])).await.unwrap();
        for _ in 0..2 * READERS {
            let panicked =
                client.read(|_| -> Result<(), _> { std::panic::resume_unwind(Box::new("query")) }).await;
            assert_eq!(panicked.unwrap_err().code(), "query_panicked");
        }
        assert_eq!(client.read(|reader| reader.count_operations()).await.unwrap(), 0);
        client.close().await.unwrap();
    }
}
