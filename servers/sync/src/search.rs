//! Public channels can be searched: a thread follows their logs into an index, others answer questions from it.
//!
//! The index is a database beside the logs (docs/adr/0007): the writing thread knows nothing of it. The index says which
//! seqs answer a question, the log gives the operations, and neither is held while the other is read. What the log no
//! longer has is not shown, and an index that is not of this log (another chain) counts as empty.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use delta_core::identity::Author;
use delta_core::sync::frame::SequencedOp;
use delta_core::topic::{Seq, TopicId};
use delta_server_shell::platform;
use delta_topic_log::{
    Closed, Entry, GenerationSecret, LogReader, LogView, SearchPage, SearchQuery, seq_range,
};

use crate::health::Disk;
use crate::metrics::Metrics;
use crate::readers::{Pool, ReadError};
use crate::store::{Channel, ERASE_PAGE, FIND_STEPS, Index, LAST_INDEXED, Listed, Position, Sql, StoreError};

/// Threads that answer questions; apart from those that replay, so that no question holds a reader up.
const THREADS: usize = 2;
/// Questions that wait for a thread. Above it: 503.
pub const MAX_WAITING: usize = 64;
/// Operations of one channel that are indexed in one transaction.
const STEP_OPS: usize = 500;
/// Bytes of them.
const STEP_BYTES: usize = 4 * 1024 * 1024;
/// How often the logs are looked at.
const POLL_MS: u64 = 100;
/// After an error.
const ERROR_PAUSE_MS: u64 = 5_000;
/// The indexer rests so many times as long as it worked: it never takes more than a quarter of one core.
const REST: u64 = 3;

/// Answers questions.
#[derive(Debug)]
pub struct Search {
    pool: Pool<Searcher>,
    waiting: Arc<AtomicUsize>,
    damaged: Arc<AtomicBool>,
}

/// One thread's connections.
#[derive(Debug)]
struct Searcher {
    index: Index,
    logs: Sql,
    steps: u64,
}

/// A question that waits or is being answered.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Search {
    /// Opens the connections, after the writers have.
    ///
    /// # Errors
    /// A database cannot be opened.
    pub fn start(index: &Path, logs: &Path) -> Result<Self, StoreError> {
        let open = |_| Searcher::open(index, logs);
        let searchers = (0..THREADS).map(open).collect::<Result<Vec<_>, StoreError>>()?;
        Ok(Self { pool: Pool::start(searchers), waiting: Arc::default(), damaged: Arc::default() })
    }

    /// How many questions wait or are being answered.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed) as u64
    }

    /// To be set when the index cannot be used any more: no question is answered until the next start.
    pub fn damaged(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.damaged)
    }

    /// Answers a question; `None` when too many wait already, when it takes too long, and when the index is damaged.
    ///
    /// # Errors
    /// A database cannot be read.
    pub async fn ask(
        &self,
        secret: GenerationSecret,
        topic: TopicId,
        query: SearchQuery,
    ) -> Result<Option<SearchPage>, ReadError> {
        let waiting = Waiting(Arc::clone(&self.waiting));
        let many = self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING;
        if many || self.damaged.load(Ordering::Relaxed) {
            return Ok(None);
        }
        // Counted until it is answered, also when whoever asked has gone.
        let page = self.pool.run(move |searcher: &Searcher| {
            let _waiting = waiting;
            searcher.answer(&secret, &topic, &query)
        });
        match page.await {
            Err(ReadError::Store(StoreError::TooLong { .. })) => Ok(None),
            page => page.map(Some),
        }
    }
}

impl Searcher {
    fn open(index: &Path, logs: &Path) -> Result<Self, StoreError> {
        let index = Index::reader(index)?.bounded()?;
        Ok(Self { index, logs: Sql::reader(logs)?, steps: FIND_STEPS })
    }

    fn answer(
        &self,
        secret: &GenerationSecret,
        topic: &TopicId,
        query: &SearchQuery,
    ) -> Result<SearchPage, StoreError> {
        // The index first: what it knows is in every log that is read after it.
        let position = self.index.position(topic)?;
        self.answer_from(position, secret, topic, query)
    }

    fn answer_from(
        &self,
        position: Option<Position>,
        secret: &GenerationSecret,
        topic: &TopicId,
        query: &SearchQuery,
    ) -> Result<SearchPage, StoreError> {
        let question = self.logs.snapshot(|logs| Question::new(logs, position, secret, topic, query))?;
        let (mut page, question) = question;
        let Some(Question { position, between }) = question else { return Ok(page) };
        let found = self.index.snapshot(|index| match index.position(topic)? {
            Some(now) if now.is_same_channel(&position) => {
                index.find(&position, query, between, self.steps).map(Some)
            }
            _ => Ok(None),
        })?;
        // Forgotten meanwhile.
        let Some(found) = found else { return Ok(page) };
        page.indexed = position.seq;
        self.logs.snapshot(|logs| read(logs, topic, found, &mut page))?;
        if !query.is_ascending() {
            page.found.reverse();
        }
        Ok(page)
    }
}

/// What to look for in the index.
struct Question {
    position: Position,
    /// Seqs strictly between these.
    between: (Seq, Seq),
}

impl Question {
    /// The page to fill; without a question when nothing is to be found.
    fn new(
        logs: &Sql,
        position: Option<Position>,
        secret: &GenerationSecret,
        topic: &TopicId,
        query: &SearchQuery,
    ) -> Result<(SearchPage, Option<Self>), StoreError> {
        let view = LogView::read(logs, secret, topic)?;
        let page = SearchPage::empty(view.generation);
        let position = match position {
            Some(position) if view.closed.is_none() && logs.facts(topic)?.is_public() => position,
            _ => return Ok((page, None)),
        };
        if view.chain_at(logs, topic, position.seq)? != Some(position.chain) {
            return Ok((page, None));
        }
        let (after, before) = seq_range(logs, &view, topic, &query.range)?;
        let before = before.min(Seq(position.seq.0.saturating_add(1)));
        Ok((page, Some(Self { position, between: (after, before) })))
    }
}

/// Fills a page with the operations that the log still has.
fn read(
    logs: &Sql,
    topic: &TopicId,
    found: Vec<(Seq, Author)>,
    page: &mut SearchPage,
) -> Result<(), StoreError> {
    if logs.facts(topic)?.closed.is_some() {
        page.indexed = Seq(0);
        return Ok(());
    }
    for (seq, author) in found {
        let mut read = None;
        logs.ascend(topic, seq.previous(), Seq(seq.0.saturating_add(1)), &mut |stored| {
            let op = Bytes::copy_from_slice(stored.op);
            read = Some(SequencedOp { seq: stored.seq, received: stored.received, op });
            false
        })?;
        if let Some(op) = read
            && !page.push(author, op)
        {
            break;
        }
    }
    Ok(())
}

/// What the indexer works with.
#[derive(Debug)]
pub struct IndexerParts {
    /// The logs, for reading.
    pub logs: Sql,
    /// The index, for writing.
    pub index: Index,
    /// Where the index is.
    pub path: PathBuf,
    /// Names the generations.
    pub secret: GenerationSecret,
    /// Whether the disk takes writes.
    pub disk: Arc<Disk>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Set when the index, or a log, is damaged.
    pub damaged: Arc<AtomicBool>,
}

impl IndexerParts {
    /// Nothing is searched until the next start; it makes an index anew that is damaged. The readers have it open
    /// still, so they are told first.
    fn give_up(&self, damaged: &Path, why: &str) {
        self.damaged.store(true, Ordering::Relaxed);
        let shown = damaged.display();
        if self.path.as_path() == damaged {
            tracing::error!("{shown}: {why}; searching stops, restart to make the index anew");
            let _ = Index::remove(&self.path);
        } else {
            tracing::error!("{shown}: {why}; searching stops");
        }
    }
}

/// The running indexer.
#[derive(Debug)]
pub struct Indexer {
    stop: mpsc::Sender<()>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Indexer {
    /// Starts the thread.
    pub fn start(parts: IndexerParts) -> Self {
        let (stop, told) = mpsc::channel();
        let stopping = Arc::<AtomicBool>::default();
        let follower = Follower {
            parts,
            done: HashMap::new(),
            seen: None,
            behind: false,
            failing: false,
            first: true,
            stopping: Arc::clone(&stopping),
        };
        Self { stop, stopping, thread: std::thread::spawn(move || follower.run(&told)) }
    }

    /// Ends it after what it is at.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.stop);
        let _ = self.thread.join();
    }
}

struct Follower {
    parts: IndexerParts,
    /// Channels as they were when all of it was in the index.
    done: HashMap<TopicId, Channel>,
    /// The logs' version that was looked at last.
    seen: Option<i64>,
    behind: bool,
    failing: bool,
    first: bool,
    /// A round over many channels ends early when the server stops.
    stopping: Arc<AtomicBool>,
}

impl Follower {
    fn run(mut self, told: &mpsc::Receiver<()>) {
        let mut pause = 0;
        while told.recv_timeout(Duration::from_millis(pause)) == Err(mpsc::RecvTimeoutError::Timeout) {
            let began = platform::now();
            pause = match self.round() {
                Ok(()) => {
                    self.failing = false;
                    let rest = platform::now().since(began).saturating_mul(REST);
                    rest.max(if self.behind { 1 } else { POLL_MS })
                }
                Err(StoreError::Damaged { path, why }) => return self.parts.give_up(&path, &why),
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!("public channels cannot be indexed now: {error}");
                    }
                    ERROR_PAUSE_MS
                }
            };
        }
    }

    /// One step of every channel that is behind.
    fn round(&mut self) -> Result<(), StoreError> {
        if self.parts.disk.refuses() {
            return Ok(());
        }
        let version = self.parts.logs.data_version()?;
        if self.seen == Some(version) && !self.behind {
            return Ok(());
        }
        let channels = self.parts.logs.channels()?;
        if self.first {
            self.forget_others(&channels)?;
            self.first = false;
        }
        let mut behind = 0;
        for channel in channels {
            if self.stopping.load(Ordering::Relaxed) {
                return Ok(());
            }
            if self.done.get(&channel.topic) != Some(&channel) {
                match step(&self.parts, &channel)? {
                    None => drop(self.done.insert(channel.topic, channel)),
                    Some(left) => behind += left,
                }
            }
        }
        self.parts.metrics.search_behind.set(behind);
        self.behind = behind > 0;
        self.seen = Some(version);
        Ok(())
    }

    /// The database of the logs was replaced: what it does not have is not in the index either.
    fn forget_others(&self, channels: &[Channel]) -> Result<(), StoreError> {
        let index = &self.parts.index;
        for topic in index.channels()? {
            if !channels.iter().any(|channel| channel.topic == topic) {
                while !index.transaction(|index| index.forget(&topic))? {}
            }
        }
        Ok(())
    }
}

/// Brings a channel's index on; how many operations are left, at least 1 while there is something to do.
fn step(parts: &IndexerParts, channel: &Channel) -> Result<Option<u64>, StoreError> {
    if channel.closed == Some(Closed::Deleted) {
        let gone = parts.index.transaction(|index| index.forget(&channel.topic))?;
        return Ok((!gone).then_some(1));
    }
    parts.logs.snapshot(|logs| {
        let view = LogView::read(logs, &parts.secret, &channel.topic)?;
        let left = parts.index.transaction(|index| follow(parts, logs, index, &channel.topic, &view))?;
        Ok((left > 0).then_some(left))
    })
}

fn follow(
    parts: &IndexerParts,
    logs: &Sql,
    index: &Index,
    topic: &TopicId,
    view: &LogView,
) -> Result<u64, StoreError> {
    let start = view.tail.previous();
    let chain_at = |seq| Ok::<_, StoreError>(view.chain_at(logs, topic, seq)?.unwrap_or(view.chain));
    let found = match index.position(topic)? {
        Some(found) if view.chain_at(logs, topic, found.seq)? != Some(found.chain) => {
            // Imported, restored from a backup or wiped: another log under the same topic.
            index.forget(topic)?;
            return Ok(view.head.0.max(1));
        }
        Some(found) => Some(found),
        None => index.add(topic, start, chain_at(start)?)?,
    };
    // More channels than the index has numbers for: this one is not searched.
    let Some(mut position) = found else { return Ok(0) };
    if position.tail < view.tail {
        if !index.remove_below(&position, view.tail)? {
            return Ok(view.head.0.max(1));
        }
        position.tail = view.tail;
    }
    if position.seq < start {
        (position.seq, position.chain) = (start, chain_at(start)?);
    }
    let looked_at = take(logs, index, topic, &mut position)?;
    index.advance(&position)?;
    parts.metrics.search_indexed.add(looked_at);
    Ok(view.head.min(LAST_INDEXED.previous()).0.saturating_sub(position.seq.0))
}

/// Indexes what follows a position, up to a step's limits, and moves the position; how many operations that were.
fn take(logs: &Sql, index: &Index, topic: &TopicId, position: &mut Position) -> Result<u64, StoreError> {
    let (mut count, mut bytes, mut failed, mut room) = (0, 0, None, ERASE_PAGE);
    let from = position.seq;
    logs.ascend(topic, from, LAST_INDEXED, &mut |stored| {
        let entry = Entry::of(topic, stored.op);
        let inserted = entry.map_or(Ok(true), |entry| index.insert(position, stored.seq, &entry, &mut room));
        if !inserted.as_ref().is_ok_and(|whole| *whole) {
            failed = inserted.err();
            return false;
        }
        (position.seq, position.chain) = (stored.seq, stored.chain);
        count += 1;
        bytes += stored.op.len();
        count < STEP_OPS && bytes < STEP_BYTES
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(count as u64),
    }
}

/// Compares the index with the logs, as far as it says to have followed them: one line for each thing that is wrong. An
/// index that is behind, or of a log that is not there any more, is not wrong: the server brings it on.
///
/// # Errors
/// A database cannot be read at all.
pub fn check(index: &Index, logs: &Sql, secret: &GenerationSecret) -> Result<Vec<String>, StoreError> {
    index.snapshot(|index| {
        let mut problems = index.integrity()?;
        for topic in index.channels()? {
            let Some(position) = index.position(&topic)? else { continue };
            let view = LogView::read(logs, secret, &topic)?;
            if view.chain_at(logs, &topic, position.seq)? != Some(position.chain) {
                continue;
            }
            let mut found = index.entries(&position)?;
            found.retain(|listed| listed.seq >= view.tail);
            let mut expected = Vec::new();
            let end = Seq(position.seq.0.saturating_add(1));
            logs.ascend(&topic, position.tail.previous(), end, &mut |stored| {
                let entry = Entry::of(&topic, stored.op);
                expected.extend(entry.map(|entry| Listed {
                    seq: stored.seq,
                    author: entry.author,
                    id: entry.id,
                }));
                true
            })?;
            if found != expected {
                problems.push(format!("{topic}: what can be searched is not what is in its log"));
            }
        }
        Ok(problems)
    })
}

#[cfg(test)]
mod tests;
