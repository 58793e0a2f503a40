//! The object an app holds: how it is opened, what it sends and hears, its lifecycle. What it is asked beside lies in
//! [`reading`], [`pages`], [`values`], [`documents`], [`direct`], [`spaces`], [`devices`], [`blobs`], [`outbox`] and [`storage`].

mod blobs;
mod devices;
mod direct;
mod documents;
mod outbox;
mod pages;
mod reading;
mod spaces;
mod storage;
mod values;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use delta_client::{Client, ClientError, Query};
use delta_core::engine::CommandError;
use delta_core::identity::{Author, LogId, OperationId};
use delta_core::store::{Reader, StoreError};
use delta_core::sync::proof::ReadKey;
use delta_core::topic::TopicId;
use zeroize::Zeroizing;

use crate::error::DeltaError;
use crate::event::Event;
use crate::keystore::{Adapter, Keystore};
use crate::log::{self, LogSink, Logged};
use crate::message::{Content, time};
use crate::records::{Config, RelayHops, RunSummary, TopicStatus};
use crate::runtime::{Call, Caller, Runtime, answered, on, on_blocking};
use crate::subscription::{EventListener, Queues, Subscription, wait};
use crate::ticket;

/// Most rows of one page.
const MAX_PAGE: u32 = 1000;

/// One device: its database, its topics, its connections. Several may live in one process, each with a database of its
/// own; a database can be opened again as soon as `close` has returned.
///
/// Calls may come from any thread, also at once. A call that is cancelled may or may not have happened; nothing is left
/// half done.
///
/// A call names the codes that an app would act on. Any call can be refused with `closed` or `suspended`; any that names a
/// topic, and is about what lies in it, with `unknown_topic`; any that writes with `disk_full` and the other codes of the
/// device.
#[derive(Debug, uniffi::Object)]
pub struct Delta {
    client: Client,
    caller: Caller,
    queues: Arc<Queues>,
    logged: Arc<Logged>,
    /// Last: what the others still do ends with it.
    runtime: Runtime,
}

#[uniffi::export]
impl Delta {
    /// Opens (or makes) the database. The device's key comes from the keystore, where it is put on the first open.
    /// Nothing is sent before `init_sync`.
    ///
    /// Refused with `database_locked` while another process or object has it open, with `database_sealed` where this is not
    /// the keystore it was made with, with `database_other_device` where it was made without one, with `keystore_denied`
    /// while the phone is locked, with `database_newer` or `database_corrupt`. Nothing is changed or made anew then.
    #[uniffi::constructor(default(log = None))]
    pub async fn open(
        config: Config,
        keystore: Arc<dyn Keystore>,
        log: Option<Arc<dyn LogSink>>,
    ) -> Result<Arc<Self>, DeltaError> {
        Self::start(config, keystore, log, Client::open).await
    }

    /// Reads an export into a new database, keeps the person's words in the keystore where the export has them, and
    /// opens it. The device gets a key of its own: for everyone else it is another device. With a wrong passphrase, a
    /// damaged file, or a database at the path already (`export_passphrase`, `export_damaged`, `io`), nothing is written.
    #[uniffi::constructor(default(log = None))]
    pub async fn import_from(
        export: String,
        passphrase: String,
        config: Config,
        keystore: Arc<dyn Keystore>,
        log: Option<Arc<dyn LogSink>>,
    ) -> Result<Arc<Self>, DeltaError> {
        let import = async move |config| Client::import(config, export, passphrase).await;
        Self::start(config, keystore, log, import).await
    }

    /// This device's key, as others know it.
    pub fn author(&self) -> Author {
        self.client.author()
    }

    /// Whether the database was restored from a backup or copied, so that the keystore holds a new device key since this
    /// open: for everyone else it is another device.
    pub fn renewed(&self) -> bool {
        self.client.renewed()
    }

    /// Sends through these relays to this server from now on, and reads it. May be called again. `sync_url` is
    /// `<base>#<ed25519 hex>`: whatever the server says of itself must be signed by that key.
    ///
    /// Returns, for people, the nodes that were left out and why. With too few usable relays left, operations stay
    /// queued and `status` says so.
    ///
    /// Refused with `sync_url`, `bad_server_key` or `plaintext` for the URL, with `directory` or `pool` for the relays, with
    /// `server_unreachable` where the server has to be asked and is not there, with `server_record` where what it says is
    /// not signed by that key, with `clock_skew`.
    pub async fn init_sync(
        &self,
        relay_hops: RelayHops,
        sync_url: String,
    ) -> Result<Vec<String>, DeltaError> {
        let hops = relay_hops.into();
        let skipped = self.on(async move |client| client.init_sync(&hops, &sync_url).await).await?;
        Ok(skipped.iter().map(ToString::to_string).collect())
    }

    /// Opens a topic from its ticket; again is harmless. It stays open across restarts. Refused with `ticket` for another text,
    /// with `ticket_conflict` or `log_taken` where it contradicts what is open, with `too_many_topics`.
    pub async fn open_topic(&self, ticket: String) -> Result<TopicId, DeltaError> {
        let ticket = ticket::parse(&ticket)?;
        self.on(async move |client| client.open_topic(&ticket).await).await
    }

    /// Keeps the key (32 bytes, an Ed25519 seed) that this device proves where a public topic's server asks readers for one
    /// (`no_read_key`, `wrong_read_key`); without a key it is forgotten.
    #[uniffi::method(default(key = None))]
    pub async fn set_read_key(&self, topic: TopicId, key: Option<Vec<u8>>) -> Result<(), DeltaError> {
        let key = key.map(read_key).transpose()?;
        self.on(async move |client| client.set_read_key(topic, key).await).await
    }

    /// The topics that are open; inboxes, which are read without being asked for, are not among them.
    pub async fn topics(&self) -> Result<Vec<TopicId>, DeltaError> {
        let rows = self.query(|reader| reader.topics()).await?;
        Ok(rows.iter().filter(|row| !row.ticket.is_inbox()).map(|row| row.topic).collect())
    }

    /// Signs and stores an operation and queues it for sending; returns once it is durable on this device. With a `key`
    /// (1 to 64 bytes, chosen by the app) it happens once: repeated, also after the app was killed, it gives the
    /// operation of the first call.
    ///
    /// Refused with `content` or `too_large`, with `read_only`, `may_not_write` or `cooldown`, with `topic_gone` or
    /// `topic_closed`, with `outbox_full`, with `idempotency_key`.
    #[uniffi::method(default(key = None))]
    pub async fn publish(
        &self,
        topic: TopicId,
        content: Content,
        key: Option<Vec<u8>>,
    ) -> Result<OperationId, DeltaError> {
        let publish = async move |client: Client| {
            let content = content.resolved(&client).await?;
            match key {
                Some(key) => client.publish_once(topic, content, key).await,
                None => client.publish(topic, content).await,
            }
        };
        self.on(publish).await
    }

    /// Receives a topic. With a listener its events are pushed to it; without one they wait for
    /// `Subscription.next_events` or `next_events`.
    #[uniffi::method(default(listener = None))]
    pub async fn subscribe(
        &self,
        topic: TopicId,
        listener: Option<Arc<dyn EventListener>>,
    ) -> Result<Arc<Subscription>, DeltaError> {
        let subscription = self.on(async move |client| client.subscribe(topic).await).await?;
        let runtime = self.runtime.handle();
        Ok(Arc::new(match listener {
            Some(listener) => Subscription::pushed(runtime, subscription, listener, self.caller.clone()),
            None => Subscription::fetched(runtime, subscription, &self.queues),
        }))
    }

    /// The next events, at most `max`, of all subscriptions without a listener. Waits for the first until `deadline`
    /// (from now); an empty list means that nothing happened. A call that is cancelled loses no event.
    pub async fn next_events(&self, max: u32, deadline: Duration) -> Vec<Event> {
        let queues = Arc::clone(&self.queues);
        wait(self.runtime.handle(), deadline, async move { queues.until_ready().await }).await;
        self.queues.take(max as usize)
    }

    /// Sends a signal (presence, typing: 1 to 3840 bytes) to whoever listens to the topic now. Nobody stores it; at
    /// most one in five seconds leaves for a topic, the latest. Refused with `signal` for another length, with `not_sent` where
    /// it has no route now: it is not kept.
    pub async fn signal(&self, topic: TopicId, bytes: Vec<u8>) -> Result<(), DeltaError> {
        self.on(async move |client| client.signal(topic, bytes).await).await
    }

    /// Where a topic stands.
    pub async fn status(&self, topic: TopicId) -> Result<TopicStatus, DeltaError> {
        let (status, (standing, head)) = self
            .on(async move |client| {
                let status = client.status(topic).await?;
                let stored = client.read(move |reader| {
                    let now = reader.living_in(topic)?;
                    Ok((reader.standing(now)?, reader.signed_head(now)?))
                });
                Ok::<_, ClientError>((status, stored.await?))
            })
            .await?;
        Ok(TopicStatus::new(status, standing, head))
    }

    /// Tell it when the device's network changed: waiting ends, connections are made anew, the outbox is drained. As
    /// often as the platform likes: it never storms.
    pub fn network_changed(&self) {
        self.client.network_changed();
    }

    /// For the background: when it returns, no database or lock file is open and nothing wakes. Subscriptions stay and
    /// go on after `resume`; other calls are refused with the code `suspended`.
    pub async fn suspend(&self) -> Result<(), DeltaError> {
        self.on(async |client| client.suspend().await).await
    }

    /// Goes on after `suspend`. Refused with `database_locked` while another process has the database open: it stays suspended
    /// then, and can be called again.
    pub async fn resume(&self) -> Result<(), DeltaError> {
        self.on(async |client| client.resume().await).await
    }

    /// A background fetch, also while suspended: reads every topic to its end, sends what is queued, goes on with the blobs
    /// that are being sent and fetched, and is back within `deadline` (from now) whatever the network does. Call `init_sync` before: refused with `no_network` otherwise.
    pub async fn run_once(&self, deadline: Duration) -> Result<RunSummary, DeltaError> {
        Ok(self.on(async move |client| client.run_once(deadline).await).await?.into())
    }

    /// When something queued is due to be sent (again): for WorkManager or BGTaskScheduler. Nothing when nothing waits.
    pub async fn next_wakeup_at(&self) -> Result<Option<SystemTime>, DeltaError> {
        Ok(self.on(async |client| client.next_wakeup_at().await).await?.map(time))
    }

    /// Finishes what was accepted, closes sockets and database. Calls after it are refused with the code `closed`;
    /// again is harmless. The database can be opened again at once.
    pub async fn close(&self) -> Result<(), DeltaError> {
        let closed = self.on(async |client| client.close().await).await;
        self.logged.end();
        closed
    }
}

impl Delta {
    async fn start<F>(
        config: Config,
        keystore: Arc<dyn Keystore>,
        log: Option<Arc<dyn LogSink>>,
        open: impl FnOnce(delta_client::Config) -> F,
    ) -> Result<Arc<Self>, DeltaError>
    where
        F: Future<Output = Result<Client, ClientError>> + Send + 'static,
    {
        let runtime = Runtime::start()?;
        let caller = Caller::start("delta-events")?;
        let logged = Arc::new(Logged::new());
        if let Some(log) = log {
            // Also where this call is given up meanwhile, the sink is set before it is let go.
            let set = (Arc::clone(&logged), log);
            on_blocking(runtime.handle(), move || log::set(set.1, &set.0)).await?;
        }
        let config = config.into_client(Arc::new(Adapter(keystore)))?;
        let client = on(runtime.handle(), open(config)).await?;
        Ok(Arc::new(Self { client, caller, queues: Arc::default(), logged, runtime }))
    }

    fn on<T: Send + 'static, F>(&self, work: impl FnOnce(Client) -> F + Send + 'static) -> Call<T>
    where
        F: Future<Output = Result<T, ClientError>> + Send + 'static,
    {
        on(self.runtime.handle(), work(self.client.clone()))
    }

    fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Call<T> {
        let answer = move |reader: &Reader| -> Result<T, DeltaError> {
            query(reader).map_err(|error| ClientError::from(error).into())
        };
        self.ask(Box::new(move |reader| Box::new(answer(reader))))
    }

    /// Compiled once for all that give the same.
    fn ask<T>(&self, query: Query) -> Call<T> {
        let client = self.client.clone();
        let asking = async move { Ok(client.read_boxed(query).await?) };
        answered(self.runtime.handle(), Box::pin(asking))
    }

    /// The conversation that lives in a topic.
    async fn log(&self, topic: TopicId) -> Result<LogId, DeltaError> {
        let row = self.query(move |reader| reader.topic(topic)).await?;
        let row = row.ok_or(ClientError::Command(CommandError::UnknownTopic))?;
        Ok(row.ticket.log())
    }
}

fn read_key(key: Vec<u8>) -> Result<ReadKey, DeltaError> {
    let key = Zeroizing::new(key);
    let wrong = |_| DeltaError::argument("id", format!("a read key has 32 bytes, not {}", key.len()));
    Ok(ReadKey::from_seed(key.as_slice().try_into().map_err(wrong)?))
}
