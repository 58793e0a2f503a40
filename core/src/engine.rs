//! The engine: inputs in, one SQLite transaction, outputs out.
//!
//! Deterministic: no socket, clock or randomness of its own. Three steps keep expensive pure work out of the
//! transaction:
//!
//! 1. [`Engine::triage`] takes a WebSocket message: checks its form, order and chain in memory and hands out
//!    [`OpenJob`]s;
//! 2. [`open`] decrypts and verifies a job's envelopes; pure, on any thread;
//! 3. [`Engine::handle`] takes a batch of [`Input`]s into one transaction.
//!
//! Two rules hold everywhere: **durable before visible** (outputs are handed out only after the commit) and **one
//! transaction, one fact** (an operation, its cursor, its outbox row and its projection never disagree).

mod accountability;
mod asking;
mod blobs;
mod clock;
mod commands;
mod delivery;
mod direct;
mod event;
mod freshness;
mod held;
mod hints;
mod inbox;
pub mod ingest;
mod introduced;
mod io;
mod jobs;
mod keeping;
mod key_values;
pub mod look;
mod outbox;
mod own;
mod packets;
mod pairings;
mod past;
mod receive;
pub mod refetch;
mod refusal;
mod retire;
mod rotation;
mod seal;
mod sending;
mod signals;
mod sleep;
mod slots;
mod spaces;
mod state;
mod storage;
mod stuck;
mod threads;
mod topics;
mod tunnels;
mod upkeep;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::entropy::Entropy;
use crate::identity::{Author, Millis};
use crate::ops::DeviceKey;
use crate::store::{Durability, Reader, Store, StoreError};
use crate::sync::session::{ConnId, FAULT_PAUSE_MS};
use state::State;

pub use asking::{ASK_AGAIN_MAX_MS, ASK_AGAIN_MS};
pub use blobs::BLOB_WAIT_MS;
pub use clock::{ClockSkew, MAX_CLOCK_SKEW_MS};
pub use delivery::MAX_HANDOVERS;
pub use direct::{BLOCK_WAIT_MS, prepare_message, thread_id, thread_ticket};
pub use event::Event;
pub use freshness::{
    RENEW_MAX_MS, RENEW_MIN_MS, RENEW_RETRY_MAX_MS, RENEW_RETRY_MS, RENEW_TIMEOUT_MS, Renewed, STALE_AFTER_MS,
};
pub use io::{
    Cancelled, Command, CommandId, DirectReading, Handover, Input, Network, Output, ReadPath, Reply, Seal,
    SeenDirectory, TopicStatus,
};
pub use jobs::{OpenJob, Opened, OpenedBatch, PostJob, PostJobError, Why, open};
pub use keeping::{KEEP_MAX_MS, KEEP_MIN_MS};
pub use past::HAND_PAST_MS;
pub use refusal::{Blocked, CommandError, Unreadable};
pub use retire::RETIRE_AFTER_MS;
pub use rotation::{WORD_WAIT_MAX_MS, WORD_WAIT_MS};
#[cfg(feature = "repeatable")]
pub use seal::seal_repeatably;
pub use seal::{SealJob, Sealed, seal};
pub use sending::{
    COVER_MAX_MS, COVER_MIN_MS, RELAY_DELAY_MAX_MS, ROUTE_DELAY_MAX_MS, Sending, SendingError,
};
pub use signals::{SIGNAL_EVERY_MS, UNREADABLE_RETRY_MS};
pub use sleep::Asleep;
pub use slots::{POLL_EVERY_MS, POLLING_SOCKETS};
pub use storage::PRUNE_STEP;
pub use threads::accepted_share;
pub use upkeep::{INBOX_LIFETIME_MS, KEY_CHECK_MS};

/// A batch could not be committed. It was rolled back whole: its commands are answered with the error, its
/// connections start over from the stored cursors, nothing acknowledged is lost.
#[derive(Clone, Debug, Error)]
pub enum EngineError {
    /// The database failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// One device: its store, its topics, its sessions.
#[derive(Debug)]
pub struct Engine {
    store: Store,
    state: State,
    outputs: VecDeque<Output>,
    /// Everything committed is synced to the disk.
    synced: bool,
    /// Memory must be made from the store again after a rollback, before anything else: at the latest at this instant.
    stale: Option<Millis>,
}

impl Engine {
    /// Starts from what the store holds. Nothing is sent before [`Command::Configure`].
    ///
    /// # Errors
    /// [`StoreError::OtherDevice`] for a store that was opened with another device's key before.
    pub fn open(mut store: Store, device: DeviceKey, now: Millis) -> Result<Self, EngineError> {
        store.open_for(device.author())?;
        let state = State::load(&mut store, device, now)?;
        Ok(Self { store, state, outputs: VecDeque::new(), synced: true, stale: None })
    }

    /// This device's key, as others know it.
    pub fn author(&self) -> Author {
        self.state.author()
    }

    /// Takes one WebSocket message. The jobs' results must come back through [`Input::Opened`] in this order.
    pub fn triage(
        &mut self,
        now: Millis,
        conn: ConnId,
        message: Bytes,
        entropy: &mut dyn Entropy,
    ) -> Vec<OpenJob> {
        // Its connection is going to be closed, and what it brought comes again.
        if self.stale.is_some() {
            return Vec::new();
        }
        self.state.triage(now, conn, message, entropy, &mut self.outputs)
    }

    /// Takes a batch of inputs in one transaction. Commands are answered, each by one [`Output::Reply`]; a command
    /// that fails leaves the others of its batch untouched.
    pub fn handle(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        inputs: Vec<Input>,
    ) -> Result<(), EngineError> {
        let mut commands = Vec::new();
        // Own operations must survive a power cut before they are sent: losing one afterwards would fork the log.
        // Others' operations can be fetched again.
        let mut durability = Durability::Normal;
        for input in &inputs {
            if let Input::Command { id, command } = input {
                commands.push(*id);
                if command.is_durable() {
                    durability = Durability::Full;
                }
            }
        }
        match self.commit(now, entropy, inputs, durability) {
            Ok(staged) => {
                self.outputs.extend(staged);
                if std::mem::take(&mut self.state.wiped) {
                    // Memory is made from what is left, by the path of a cold open; where that fails, before the next batch.
                    self.stale = Some(now);
                    let _ = self.refresh(now);
                }
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                self.outputs.extend(
                    commands
                        .into_iter()
                        .map(|id| Output::Reply { id, result: Err(CommandError::Store(Arc::clone(&error))) }),
                );
                self.stale = Some(now.plus(FAULT_PAUSE_MS));
                // If the store cannot even be read now, the next batch tries again before anything else.
                let _ = self.refresh(now);
                Err(EngineError::Store(error))
            }
        }
    }

    /// The next thing for the driver to do, in order. `None`: nothing until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            return Some(match self.outputs.pop_front()? {
                // A closed topic's connection says nothing about the conversation any more.
                Output::Event(
                    Event::Connection { topic, .. }
                    | Event::Readable { topic, .. }
                    | Event::Delivery { topic, .. },
                ) if self.state.has_moved(topic) => continue,
                // Wherever a conversation has moved, the app knows it by the topic it opened.
                Output::Event(mut event) => {
                    let topic = event.topic_mut();
                    *topic = self.state.known_as(*topic);
                    Output::Event(event)
                }
                other => other,
            });
        }
    }

    /// When to send [`Input::Timeout`].
    pub fn next_wakeup(&self) -> Option<Millis> {
        match self.stale {
            Some(at) => Some(at),
            None => self.state.next_wakeup(),
        }
    }

    /// Whether everything committed so far survives a power cut. What does not can be fetched again: nothing of this
    /// device's own left before it was synced.
    pub const fn is_synced(&self) -> bool {
        self.synced
    }

    /// A read-only view of the database for queries, usable on any thread beside the engine.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        self.store.reader()
    }

    /// Brings at most `limit` messages into the index for search; whether there are more. Call it when idle.
    pub fn index_texts(&mut self, limit: usize) -> Result<bool, StoreError> {
        let tx = self.store.begin(Durability::Normal)?;
        let more = tx.index_texts(limit)?;
        tx.commit()?;
        Ok(more)
    }

    /// Moves the write-ahead log into the database file: call it when idle, or when the log has grown.
    pub fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.store.checkpoint().map(|_| ())
    }

    /// Bytes of the write-ahead log that a checkpoint would move: when they grow, call [`Engine::checkpoint`].
    pub fn wal_bytes(&self) -> u64 {
        self.store.wal_bytes()
    }

    /// Limits the database to this many pages (see [`Store::limit_pages`]): beyond, batches fail as on a full disk.
    pub fn limit_pages(&mut self, pages: Option<u32>) -> Result<(), StoreError> {
        self.store.limit_pages(pages)
    }

    /// Limits what blobs may take that nothing waits for, bytes; the least recently used give way, and the one used
    /// last stays in any case. `None`: [`MAX_BLOB_CACHE`](crate::limits::MAX_BLOB_CACHE).
    pub const fn limit_blobs(&mut self, bytes: Option<u64>) {
        self.state.blobs.cache = bytes;
    }

    /// Closes the database and releases its lock.
    pub fn close(self) -> Result<(), StoreError> {
        self.store.close()
    }

    /// After a rollback: memory is made from the store again, connections start over.
    fn refresh(&mut self, now: Millis) -> Result<(), StoreError> {
        if self.stale.is_some() {
            self.state.reload(&mut self.store, now, &mut self.outputs)?;
            self.stale = None;
        }
        Ok(())
    }

    fn commit(
        &mut self,
        now: Millis,
        entropy: &mut dyn Entropy,
        inputs: Vec<Input>,
        durability: Durability,
    ) -> Result<Vec<Output>, StoreError> {
        self.refresh(now)?;
        self.state.begin();
        let mut staged = Vec::new();
        let mut tx = self.store.begin(durability)?;
        for input in inputs {
            self.state.apply(&mut tx, now, entropy, input, &mut staged)?;
        }
        let guards = self.state.settle(&mut tx, now, entropy, &mut staged)?;
        self.state.blobs.hide(&mut staged);
        tx.commit()?;
        self.synced = durability == Durability::Full;
        // A guard that a power cut makes forgotten after a packet went to it would be one more relay that knows this
        // device's address; an operation that then seems never to have left could be taken back, and the next one would
        // fork the log. The synced commit takes the one before it along.
        if (guards || self.state.first_sent)
            && durability == Durability::Normal
            && staged.iter().any(|out| matches!(out, Output::Post(_)))
        {
            self.store.begin(Durability::Full)?.commit()?;
            self.synced = true;
        }
        Ok(staged)
    }
}
