//! The one thread that writes: whatever waits is appended in one transaction and committed together, so a sync of
//! the disk costs a batch, not an operation. Only after the commit is anyone told.

mod checkpoints;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use delta_core::identity::Millis;
use delta_core::onion::control::Control;
use delta_core::topic::{Seq, TopicId};
use delta_server_shell::bucket::Buckets;
use delta_server_shell::platform;
use delta_topic_log::{AppendError, ControlRefused, Controlled, Placed, TopicLogs, Write};
use thiserror::Error;
use tokio::sync::oneshot;

use self::checkpoints::{Checkpoints, LOG_BYTES};
use crate::health::{Disk, Permit};
use crate::ingress::Opening;
use crate::limits::Limits;
use crate::live::{Fresh, Live};
use crate::metrics::Metrics;
use crate::retention::Retention;
use crate::store::{Sql, StoreError};

/// Most operations of one commit.
const COMMIT_OPS: usize = 4096;
/// Bytes of operations after which a commit takes no more.
const COMMIT_BYTES: usize = 8 * 1024 * 1024;
/// While packets are being opened, a commit waits for them: so often, so long at a time. A commit costs a sync and a
/// write of every page it touched, whatever it holds; a lone delivery finds nothing to wait for.
const LINGER_TIMES: usize = 4;
const LINGER: Duration = Duration::from_micros(500);
/// Operations with which a commit waits for no more.
const LINGER_OPS: usize = 1024;
/// How often the disk and the operator's changes are looked at.
const LOOK_EVERY_MS: u64 = 1_000;
/// Buckets of topics kept before full ones are forgotten.
const MANY_BUCKETS: usize = 65_536;
const MINUTE_MS: u64 = 60_000;
/// Shortest time between two complaints about a damaged topic: whoever writes to it would fill the log.
const TELL_DAMAGE_EVERY_MS: u64 = 60_000;

/// Operations of one topic to append.
#[derive(Debug)]
pub struct Append {
    /// The topic.
    pub topic: TopicId,
    /// The operations, in order.
    pub ops: Vec<Bytes>,
    /// Who authorised them.
    pub write: Write,
    /// Their share of the bytes in flight.
    pub permit: Permit,
    /// Who waits for the outcome: the seq of the first operation.
    pub reply: Option<oneshot::Sender<Result<Seq, Refused>>>,
}

/// Why operations were not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// An operation is empty or above 1 MiB.
    #[error("an operation is empty or too large")]
    Malformed,
    /// An unsigned write to a topic that has had a signed one.
    #[error("the topic takes signed writes only")]
    SignedTopic,
    /// The server has as many topics as it takes.
    #[error("the server takes no new topics")]
    TooManyTopics,
    /// The topic was deleted or blocked.
    #[error("the topic is closed")]
    Closed,
    /// Too many deliveries to the topic.
    #[error("too many deliveries to the topic")]
    Rate {
        /// Try again after this long.
        retry_after_ms: u64,
    },
    /// The disk does not take them, or the log is full.
    #[error("the operations cannot be stored now")]
    Storage,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Stopping,
}

/// What became of one append: its places, or why it was not stored.
type Outcome = Result<Range<usize>, Refused>;

/// A control message to apply; its write signature was checked.
#[derive(Debug)]
pub struct ControlWrite {
    /// The topic.
    pub topic: TopicId,
    /// What to do.
    pub control: Control,
    /// Its share of the bytes in flight.
    pub permit: Permit,
}

enum Command {
    Append(Append),
    Control(ControlWrite),
    Stop,
}

/// Sends operations to the writing thread.
#[derive(Clone, Debug)]
pub struct Writer(mpsc::Sender<Command>);

impl Writer {
    /// Queues operations. What is in the queue is bounded by the permits.
    pub fn append(&self, append: Append) {
        // A writer that has stopped drops the reply, which is the answer.
        let _ = self.0.send(Command::Append(append));
    }

    /// Queues a control message.
    pub fn control(&self, control: ControlWrite) {
        let _ = self.0.send(Command::Control(control));
    }

    /// Queues operations and waits for their commit.
    ///
    /// # Errors
    /// They were refused; nothing of them is stored.
    pub async fn store(
        &self,
        topic: TopicId,
        op: Bytes,
        write: Write,
        permit: Permit,
    ) -> Result<Seq, Refused> {
        let (reply, outcome) = oneshot::channel();
        self.append(Append { topic, ops: vec![op], write, permit, reply: Some(reply) });
        outcome.await.unwrap_or(Err(Refused::Stopping))
    }

    /// Lets the thread end once everything queued so far is committed.
    pub fn stop(&self) {
        let _ = self.0.send(Command::Stop);
    }
}

/// What the thread works with.
#[derive(Debug)]
pub struct WriterParts {
    /// The logs over the writing connection.
    pub logs: TopicLogs<Sql>,
    /// The database file, for the checkpointing connection.
    pub database: PathBuf,
    /// Where committed operations are published.
    pub live: Arc<Live>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Whether the disk takes writes.
    pub disk: Arc<Disk>,
    /// Quotas and retention.
    pub limits: Limits,
    /// Whether readers prove read keys.
    pub read_proof: bool,
    /// Packets that will soon be here.
    pub opening: Arc<Opening>,
}

/// Starts the writing thread.
///
/// # Errors
/// The checkpointing connection cannot be opened.
pub fn start(parts: WriterParts) -> Result<(Writer, JoinHandle<()>), StoreError> {
    let (sender, commands) = mpsc::channel();
    let thread = Thread::new(parts, commands)?;
    let handle = std::thread::spawn(move || {
        // Without its writer the server would take deliveries and lose them: better that it is started again.
        let _guard = AbortOnPanic;
        thread.run();
    });
    Ok((Writer(sender), handle))
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

struct Thread {
    parts: WriterParts,
    commands: mpsc::Receiver<Command>,
    /// Taken from the queue, and next.
    held: Option<Command>,
    /// What the operator's commands may have changed is looked at when this changes.
    data_version: i64,
    looked_at: Millis,
    checkpoints: Checkpoints,
    retention: Retention,
    /// Topics with operations, counted where there is a limit.
    topics: u64,
    /// Those that the commit at hand begins.
    fresh_topics: u64,
    buckets: Buckets<(TopicId, bool)>,
    placed: Vec<Placed>,
    /// When a damaged topic was complained about.
    damage_told: Option<Millis>,
}

impl Thread {
    fn new(parts: WriterParts, commands: mpsc::Receiver<Command>) -> Result<Self, StoreError> {
        let checkpoints =
            Checkpoints::start(Sql::writer(&parts.database, 0)?, Arc::clone(&parts.metrics), LOG_BYTES);
        let closed = parts.logs.storage().closed_topics()?;
        let mut retention = Retention::new(parts.limits);
        // A deletion may have been cut off.
        retention.closed(closed.iter().copied());
        parts.live.set_closed(closed);
        let topics = if parts.limits.topics > 0 { parts.logs.storage().count_topics()? } else { 0 };
        Ok(Self {
            data_version: parts.logs.storage().data_version()?,
            looked_at: Millis(0),
            held: None,
            parts,
            commands,
            checkpoints,
            retention,
            topics,
            fresh_topics: 0,
            buckets: Buckets::new(MANY_BUCKETS),
            placed: Vec::new(),
            damage_told: None,
        })
    }

    fn run(mut self) {
        let mut batch = Vec::new();
        let mut running = true;
        while running {
            match self.next() {
                Some(Command::Append(append)) => {
                    batch.push(append);
                    running = self.gather(&mut batch);
                    self.commit(&mut batch);
                }
                Some(Command::Control(control)) => self.control(&control),
                Some(Command::Stop) => running = false,
                None => {}
            }
            self.look();
            self.retain();
        }
        self.checkpoints.finish(self.parts.logs.storage());
    }

    /// Waits for a command, at most until something is to be looked at.
    fn next(&mut self) -> Option<Command> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        let wait = Duration::from_millis(if self.retention.is_busy() { 0 } else { LOOK_EVERY_MS });
        match self.commands.recv_timeout(wait) {
            Ok(command) => Some(command),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => Some(Command::Stop),
        }
    }

    /// Applies a control message in a commit of its own; what came before it is committed already.
    fn control(&mut self, write: &ControlWrite) {
        let ControlWrite { topic, control, .. } = write;
        let metrics = Arc::clone(&self.parts.metrics);
        if self.charge(platform::now(), topic, true, 1).is_err() {
            return metrics.drop_quota.inc();
        }
        let staged = self.parts.logs.control(topic, control);
        let applied =
            staged.and_then(|done| self.parts.logs.commit().map(|()| done).map_err(ControlRefused::Storage));
        match applied {
            Ok(Controlled::Described) => metrics.controls.inc(),
            Ok(Controlled::ReadKeyChanged) => {
                metrics.controls.inc();
                if self.parts.read_proof {
                    self.parts.live.send_away(topic);
                }
            }
            Ok(Controlled::Deleted) => {
                metrics.controls.inc();
                self.parts.live.close(topic);
                self.retention.closed([*topic]);
            }
            Err(ControlRefused::Storage(error)) => {
                metrics.drop_storage.inc();
                if self.parts.disk.report(true) {
                    tracing::error!("operations cannot be stored, deliveries get 503: {error}");
                }
            }
            Err(ControlRefused::Closed) => metrics.drop_closed.inc(),
            Err(ControlRefused::Old(_) | ControlRefused::NotPublic) => metrics.drop_control.inc(),
        }
        self.checkpoints.after_commit(self.parts.logs.storage(), 1, 0);
    }

    /// Looks at what changes without a command: room on the disk, and what the operator did to topics from outside.
    fn look(&mut self) {
        let now = platform::now();
        if now.since(self.looked_at) < LOOK_EVERY_MS && self.looked_at <= now {
            return;
        }
        self.looked_at = now;
        self.parts.disk.look(&self.parts.database, self.parts.limits.disk_free_bytes);
        let storage = self.parts.logs.storage();
        match storage.data_version() {
            Ok(version) if version != self.data_version => match storage.closed_topics() {
                Ok(closed) => {
                    self.data_version = version;
                    self.parts.logs.reload();
                    // One deleted from outside may have taken operations since: they go, too.
                    self.retention.closed(closed.iter().copied());
                    self.parts.live.set_closed(closed);
                }
                Err(error) => tracing::warn!("cannot read which topics are closed: {error}"),
            },
            Ok(_) => {}
            Err(error) => tracing::warn!("cannot look at the database: {error}"),
        }
    }

    /// Takes what else waits, up to a commit's limits; `false` when the thread is to stop after it.
    fn gather(&mut self, batch: &mut Vec<Append>) -> bool {
        let size = |append: &Append| append.ops.iter().map(Bytes::len).sum::<usize>();
        let mut ops: usize = batch.iter().map(|append| append.ops.len()).sum();
        let mut bytes: usize = batch.iter().map(size).sum();
        let mut lingered = 0;
        while ops < COMMIT_OPS && bytes < COMMIT_BYTES {
            match self.commands.try_recv() {
                Ok(Command::Append(append)) => {
                    ops += append.ops.len();
                    bytes += size(&append);
                    batch.push(append);
                }
                Ok(Command::Stop) => return false,
                Ok(control @ Command::Control(_)) => {
                    self.held = Some(control);
                    break;
                }
                Err(_) if lingered < LINGER_TIMES && ops < LINGER_OPS && self.parts.opening.any() => {
                    lingered += 1;
                    std::thread::sleep(LINGER);
                }
                Err(_) => break,
            }
        }
        true
    }

    fn commit(&mut self, batch: &mut Vec<Append>) {
        let now = platform::now();
        let committed = self.stage_all(now, batch);
        let committed = committed.and_then(|outcomes| self.parts.logs.commit().map(|()| outcomes));
        let failing = committed.is_err();
        let news = self.parts.disk.report(failing);
        let outcomes = match committed {
            Ok(outcomes) => {
                if news {
                    tracing::info!("storing works again");
                }
                self.topics += self.fresh_topics;
                self.tell(batch, &outcomes);
                outcomes
            }
            Err(error) => {
                self.parts.logs.rollback();
                self.parts.metrics.commit_failures.inc();
                if news {
                    tracing::error!("operations cannot be stored, deliveries get 503: {error}");
                }
                batch.iter().map(|_| Err(Refused::Storage)).collect()
            }
        };
        for (append, outcome) in batch.drain(..).zip(outcomes) {
            self.answer(append, outcome);
        }
    }

    /// Stages a batch. A topic whose log is damaged is left out, and the rest staged anew without it.
    fn stage_all(&mut self, now: Millis, batch: &[Append]) -> Result<Vec<Outcome>, StoreError> {
        let mut refused: Vec<Option<Refused>> =
            batch.iter().map(|append| self.charge_for(now, append).err()).collect();
        loop {
            self.placed.clear();
            self.fresh_topics = 0;
            let mut outcomes = Vec::with_capacity(batch.len());
            let mut damaged = None;
            for (append, refused) in batch.iter().zip(&refused) {
                let outcome = match refused {
                    Some(refused) => Err(*refused),
                    None => match self.stage(now, append) {
                        Ok(outcome) => outcome,
                        Err(error @ StoreError::Damaged { .. }) => {
                            damaged = Some((append.topic, error));
                            break;
                        }
                        Err(error) => return Err(error),
                    },
                };
                outcomes.push(outcome);
            }
            let Some((topic, error)) = damaged else { return Ok(outcomes) };
            self.parts.logs.rollback();
            self.parts.metrics.commit_failures.inc();
            if self.damage_told.is_none_or(|told| now.since(told) >= TELL_DAMAGE_EVERY_MS || now < told) {
                self.damage_told = Some(now);
                tracing::error!("a topic takes nothing, the others go on; `check` names it: {error}");
            }
            for (append, refused) in batch.iter().zip(&mut refused) {
                if append.topic == topic {
                    refused.get_or_insert(Refused::Storage);
                }
            }
        }
    }

    /// Stages one append. The outer error is the storage's: everything staged is undone.
    fn stage(&mut self, now: Millis, append: &Append) -> Result<Outcome, StoreError> {
        let begins = self.parts.limits.topics > 0 && self.parts.logs.state(&append.topic)?.head == Seq(0);
        if begins && self.topics + self.fresh_topics >= self.parts.limits.topics {
            return Ok(Err(Refused::TooManyTopics));
        }
        let ops: Vec<&[u8]> = append.ops.iter().map(Bytes::as_ref).collect();
        let start = self.placed.len();
        let appended = self.parts.logs.append(now, &append.topic, &ops, append.write, &mut self.placed);
        match appended {
            Ok(()) => {
                self.fresh_topics += u64::from(begins);
                Ok(Ok(start..self.placed.len()))
            }
            Err(AppendError::Empty | AppendError::TooLarge(_)) => Ok(Err(Refused::Malformed)),
            Err(AppendError::Closed) => Ok(Err(Refused::Closed)),
            Err(AppendError::SignedTopic) => Ok(Err(Refused::SignedTopic)),
            Err(AppendError::Full) => Ok(Err(Refused::Storage)),
            Err(AppendError::Storage(error)) => Err(error),
        }
    }

    fn charge_for(&mut self, now: Millis, append: &Append) -> Result<(), Refused> {
        let signed = append.write == Write::Signed;
        let charged = self.charge(now, &append.topic, signed, append.ops.len() as u64);
        charged.map_err(|retry_after_ms| Refused::Rate { retry_after_ms })
    }

    /// Takes the operations from the topic's quota; signed and unsigned writes have one each.
    fn charge(&mut self, now: Millis, topic: &TopicId, signed: bool, count: u64) -> Result<(), u64> {
        let capacity = self.parts.limits.deliveries_per_topic_per_minute;
        self.buckets.take((*topic, signed), now, count, capacity, MINUTE_MS)
    }

    /// After the commit: publish what is new.
    fn tell(&mut self, batch: &[Append], outcomes: &[Outcome]) {
        let mut fresh = Vec::with_capacity(self.placed.len());
        let mut bytes = 0;
        for (append, outcome) in batch.iter().zip(outcomes) {
            let Ok(range) = outcome else { continue };
            let places = self.placed.get(range.clone()).unwrap_or_default();
            for (op, place) in append.ops.iter().zip(places).filter(|(_, place)| place.fresh) {
                bytes += op.len();
                let Placed { seq, received, chain, .. } = *place;
                fresh.push(Fresh { topic: append.topic, seq, received, chain, op: op.clone() });
            }
            self.retention.wrote(append.topic);
        }
        let metrics = &self.parts.metrics;
        metrics.committed(batch.len());
        metrics.stored.add(fresh.len() as u64);
        metrics.duplicates.add((self.placed.len() - fresh.len()) as u64);
        fresh.sort_unstable_by_key(|fresh| (fresh.topic, fresh.seq));
        self.parts.live.publish(&fresh);
        self.checkpoints.after_commit(self.parts.logs.storage(), fresh.len(), bytes);
    }

    /// Answers whoever waits, and counts packets that nobody is told about.
    fn answer(&self, append: Append, outcome: Outcome) {
        let metrics = &self.parts.metrics;
        match outcome {
            _ if append.write == Write::Unsigned => {}
            Ok(_) => {}
            Err(Refused::Rate { .. } | Refused::TooManyTopics) => metrics.drop_quota.inc(),
            Err(Refused::Storage | Refused::Stopping) => metrics.drop_storage.inc(),
            Err(Refused::Closed) => metrics.drop_closed.inc(),
            Err(Refused::Malformed | Refused::SignedTopic) => metrics.drop_content.inc(),
        }
        if let Some(reply) = append.reply {
            let first =
                |range: Range<usize>| self.placed.get(range.start).map_or(Seq(0), |placed| placed.seq);
            let _ = reply.send(outcome.map(first));
        }
    }

    /// Evicts a little of what the limits no longer keep.
    fn retain(&mut self) {
        let now = platform::now();
        if !self.retention.is_due(now) {
            return;
        }
        match self.retention.round(now, &mut self.parts.logs) {
            Ok(evicted) if evicted.ops > 0 => {
                self.parts.metrics.evicted.inc();
                let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
                let (ops, bytes) = (count(evicted.ops), count(evicted.bytes));
                self.checkpoints.after_commit(self.parts.logs.storage(), ops, bytes);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("retention cannot evict: {error}"),
        }
    }
}

#[cfg(test)]
mod tests;
