//! When the write-ahead log is moved into the database, and how it is kept from growing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use crate::metrics::Metrics;
use crate::store::{Sql, StoreError};

/// Operations after which the write-ahead log is moved into the database.
pub(super) const CHECKPOINT_OPS: usize = 10_000;
/// The same in bytes.
pub(super) const CHECKPOINT_BYTES: usize = 32 * 1024 * 1024;
/// The same in commits: each writes a few whole pages to the log, however little it holds, and a log that grew by lone
/// deliveries would fill a small disk.
pub(super) const CHECKPOINT_COMMITS: usize = 1_000;
/// Size of the write-ahead log, in bytes, above which writing waits for readers so that the log can start over.
pub(super) const LOG_BYTES: u64 = 256 * 1024 * 1024;

/// Moves the write-ahead log into the database. The bulk is moved on a thread of its own while writing goes on; the
/// writer then moves the little that came meanwhile, which lets the log start over in the first moment in which nobody
/// reads from it. Where there is no such moment the log grows, and above a size the writer waits for one.
pub(super) struct Checkpoints {
    metrics: Arc<Metrics>,
    most: u64,
    requests: Option<mpsc::Sender<()>>,
    moved: Arc<AtomicBool>,
    pub(super) pending: bool,
    ops: usize,
    bytes: usize,
    commits: usize,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    pub(super) fn start(sql: Sql, metrics: Arc<Metrics>, most: u64) -> Self {
        let (requests, queue) = mpsc::channel::<()>();
        let moved = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&moved);
        let thread = std::thread::spawn(move || {
            while queue.recv().is_ok() {
                report(sql.checkpoint().map(drop));
                done.store(true, Ordering::Release);
            }
        });
        Self {
            metrics,
            most,
            requests: Some(requests),
            moved,
            pending: false,
            ops: 0,
            bytes: 0,
            commits: 0,
            thread: Some(thread),
        }
    }

    pub(super) fn after_commit(&mut self, sql: &Sql, ops: usize, bytes: usize) {
        self.ops += ops;
        self.bytes += bytes;
        self.commits += 1;
        if self.pending {
            if self.moved.swap(false, Ordering::Acquire) {
                self.pending = false;
                report(self.finish_round(sql));
            }
        } else if self.ops >= CHECKPOINT_OPS
            || self.bytes >= CHECKPOINT_BYTES
            || self.commits >= CHECKPOINT_COMMITS
        {
            (self.ops, self.bytes, self.commits, self.pending) = (0, 0, 0, true);
            let _ = self.requests.as_ref().map(|requests| requests.send(()));
        }
    }

    pub(super) fn finish_round(&self, sql: &Sql) -> Result<(), StoreError> {
        if sql.checkpoint()?.bytes > self.most {
            match sql.restart_log()? {
                true => self.metrics.log_restarts.inc(),
                false => self.metrics.log_waits_in_vain.inc(),
            }
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, sql: &Sql) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        report(sql.checkpoint().map(drop));
    }
}

/// A checkpoint that fails loses nothing: the log keeps everything and the next one tries again.
fn report(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!("cannot move the write-ahead log into the database: {error}");
    }
}
