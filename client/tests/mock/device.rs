//! One device of a test: a client with its own database, one topic, and what it was told.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use delta_client::{Client, Config, Event, Subscription, SystemClock, Update, WallClock};
use delta_core::identity::{Millis, OperationId};
use delta_core::ops::{Content, Ticket};
use delta_core::projector::Position;
use delta_core::store::{ListedOperation, MessageRow, Page};
use delta_core::sync::session::Connection;
use delta_core::topic::TopicId;
use tempfile::TempDir;

use crate::net::Net;

/// However slow the machine: reaching this is a failure, never a pass.
const PATIENCE: Duration = Duration::from_secs(60);

/// The system's clock, and what a test adds to it.
#[derive(Debug, Default)]
pub struct MovedClock(AtomicU64);

impl MovedClock {
    pub fn forward(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl WallClock for MovedClock {
    fn now(&self) -> Millis {
        SystemClock.now().plus(self.0.load(Ordering::SeqCst))
    }
}

/// What a test changes of a configuration.
type Adjust = Arc<dyn Fn(&mut Config) + Send + Sync>;

pub struct Device {
    dir: TempDir,
    key: [u8; 32],
    pub ticket: Ticket,
    pub topic: TopicId,
    pub clock: Arc<MovedClock>,
    adjust: Adjust,
    pub client: Client,
    pub updates: Subscription,
    /// Every event so far.
    pub events: Vec<Event>,
}

pub fn ticket(seed: u8) -> Ticket {
    Ticket::generate_private(&mut delta_core::entropy::SeededEntropy::new([seed; 32])).unwrap()
}

impl Device {
    /// A device that is not connected to anything.
    pub async fn offline(key: u8, ticket: &Ticket) -> Self {
        Self::offline_with(key, ticket, |_| {}).await
    }

    /// The same, configured otherwise.
    pub async fn offline_with(
        key: u8,
        ticket: &Ticket,
        adjust: impl Fn(&mut Config) + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::open(dir, [key; 32], ticket, Arc::default(), Arc::new(adjust)).await
    }

    /// A device on a network.
    pub async fn on(net: &Net, key: u8, ticket: &Ticket) -> Self {
        let device = Self::offline(key, ticket).await;
        device.join(net).await;
        device
    }

    async fn open(
        dir: TempDir,
        key: [u8; 32],
        ticket: &Ticket,
        clock: Arc<MovedClock>,
        adjust: Adjust,
    ) -> Self {
        let mut config = Config::new(path(&dir), key);
        config.allow_plaintext = true;
        config.coalesce = Duration::ZERO;
        config.clock = Arc::clone(&clock) as Arc<dyn WallClock>;
        adjust(&mut config);
        // A client that was dropped releases its lock when its thread has ended.
        let client = loop {
            match Client::open(config.clone()).await {
                Ok(client) => break client,
                Err(error) if error.code() == "database_locked" => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        let topic = client.open_topic(ticket).await.unwrap();
        let updates = client.subscribe(topic).await.unwrap();
        Self { dir, key, ticket: ticket.clone(), topic, clock, adjust, client, updates, events: Vec::new() }
    }

    pub async fn join(&self, net: &Net) {
        let skipped = self.client.init_sync(&net.hops(), &net.sync_url()).await.unwrap();
        assert!(skipped.is_empty(), "{skipped:?}");
    }

    /// Closed and opened again.
    pub async fn restart(self) -> Self {
        self.client.close().await.unwrap();
        self.resurrect().await
    }

    /// Dropped without a close and opened again.
    pub async fn resurrect(self) -> Self {
        let Self { dir, key, ticket, clock, adjust, client, updates, .. } = self;
        drop((client, updates));
        Self::open(dir, key, &ticket, clock, adjust).await
    }

    pub fn database(&self) -> PathBuf {
        path(&self.dir)
    }

    pub async fn say(&mut self, text: &str) -> OperationId {
        let id = self.client.publish(self.topic, message(text)).await.unwrap();
        self.drain();
        id
    }

    /// Takes the events that are there, so that a long test does not lag behind.
    pub fn drain(&mut self) {
        while let Some(update) = self.updates.try_next() {
            self.took(Some(update));
        }
    }

    fn took(&mut self, update: Option<Update>) -> Event {
        match update {
            Some(Update::Event(event)) => {
                self.events.push(event.clone());
                event
            }
            other => panic!("{other:?}"),
        }
    }

    /// The next event.
    pub async fn next(&mut self) -> Event {
        let update = tokio::time::timeout(PATIENCE, self.updates.next()).await;
        let update = update.unwrap_or_else(|_| panic!("nothing happens any more after {:?}", self.events));
        self.took(update)
    }

    /// Lets the device's time run until an operation is acknowledged: for what waits for echoes and pauses.
    pub async fn until_acknowledged_in_time(&mut self, wanted: OperationId) {
        let acknowledged =
            |event: &Event| matches!(event, Event::Acknowledged { operation, .. } if *operation == wanted);
        for _ in 0..100_000 {
            self.drain();
            if self.events.iter().any(acknowledged) {
                return;
            }
            self.clock.forward(500);
            self.client.status(self.topic).await.unwrap();
        }
        panic!("never acknowledged: {:?}", self.events);
    }

    /// Waits for an event, which may already have come.
    pub async fn until(&mut self, wanted: impl Fn(&Event) -> bool) {
        while !self.events.iter().any(&wanted) {
            self.next().await;
        }
    }

    /// Waits for an event that has not come yet.
    pub async fn until_next(&mut self, wanted: impl Fn(&Event) -> bool) {
        while !wanted(&self.next().await) {}
    }

    pub async fn until_live(&mut self) {
        self.until(|event| matches!(event, Event::Connection { connection: Connection::Live, .. })).await;
    }

    pub async fn until_acknowledged(&mut self, wanted: OperationId) {
        self.until(|event| matches!(event, Event::Acknowledged { operation, .. } if *operation == wanted))
            .await;
    }

    /// Waits until the topic shows exactly these texts, in any order, none twice.
    pub async fn until_texts(&mut self, wanted: &[&str]) {
        loop {
            let texts = self.texts().await;
            assert!(texts.len() <= wanted.len(), "{texts:?}");
            let mut counts: HashMap<&str, i32> = wanted.iter().map(|text| (*text, 1)).collect();
            for text in &texts {
                *counts.entry(text).or_default() -= 1;
            }
            if counts.values().all(|count| *count == 0) {
                return;
            }
            self.next().await;
        }
    }

    pub async fn messages(&self) -> Vec<MessageRow> {
        let log = self.ticket.log();
        self.client
            .read(move |reader| {
                let (mut all, mut page) = (Vec::new(), Page::Newest);
                loop {
                    let rows = reader.messages(&log, page, 500)?;
                    let Some(first) = rows.first() else { return Ok(all) };
                    page = Page::Before(first.position);
                    all.splice(0..0, rows);
                }
            })
            .await
            .unwrap()
    }

    pub async fn texts(&self) -> Vec<String> {
        self.messages().await.into_iter().filter_map(|row| row.text).collect()
    }

    /// What must be equal on two devices.
    pub async fn state(&self) -> (Vec<ListedOperation>, Vec<(Position, OperationId, Option<String>)>) {
        let operations = self.client.read(|reader| reader.list_operations(None, 1_000_000)).await.unwrap();
        let rows = self.messages().await;
        (operations, rows.into_iter().map(|row| (row.position, row.id, row.text)).collect())
    }
}

pub fn message(text: &str) -> Content {
    Content::MessageSend { text: text.into(), reply: None, mentions: Vec::new(), attachments: Vec::new() }
}

fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("device.db")
}
