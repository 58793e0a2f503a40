//! Threads for pure work: opening envelopes and wrapping packets.
//!
//! A rayon pool runs tasks in the order they come, but a packet to be sent must not stand behind a replay of a
//! hundred thousand operations. So a task for the pool is only a turn: whoever gets it takes the most urgent job.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

type Job = Box<dyn FnOnce() + Send>;

/// What goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Something to send.
    Outgoing,
    /// Something received.
    Incoming,
}

#[derive(Default)]
struct Queues {
    outgoing: VecDeque<Job>,
    incoming: VecDeque<Job>,
}

/// The pool. Clones share it; its threads end with the last clone.
#[derive(Clone)]
pub(crate) struct Workers {
    pool: Arc<ThreadPool>,
    queues: Arc<Mutex<Queues>>,
}

impl Workers {
    pub(crate) fn new(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("delta-worker-{index}"))
            .build()?;
        Ok(Self { pool: Arc::new(pool), queues: Arc::default() })
    }

    /// Runs `job` on the pool. A job that panics ends alone: it must report through a value that notices its drop.
    pub(crate) fn spawn(&self, urgency: Urgency, job: impl FnOnce() + Send + 'static) {
        {
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            match urgency {
                Urgency::Outgoing => queues.outgoing.push_back(Box::new(job)),
                Urgency::Incoming => queues.incoming.push_back(Box::new(job)),
            }
        }
        let queues = Arc::clone(&self.queues);
        self.pool.spawn(move || {
            let job = {
                let mut queues = queues.lock().unwrap_or_else(PoisonError::into_inner);
                queues.outgoing.pop_front().or_else(|| queues.incoming.pop_front())
            };
            if let Some(job) = job {
                drop(std::panic::catch_unwind(AssertUnwindSafe(job)));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn outgoing_work_goes_first_and_a_panic_ends_nothing() {
        let workers = Workers::new(1).unwrap();
        let (started, wait) = (mpsc::channel::<()>(), mpsc::channel::<()>());
        let (report, done) = mpsc::channel();
        workers.spawn(Urgency::Incoming, move || {
            started.0.send(()).unwrap();
            wait.1.recv().unwrap();
        });
        started.1.recv().unwrap();
        for (urgency, name) in
            [(Urgency::Incoming, "in 1"), (Urgency::Incoming, "in 2"), (Urgency::Outgoing, "out")]
        {
            let report = report.clone();
            workers.spawn(urgency, move || report.send(name).unwrap());
        }
        workers.spawn(Urgency::Outgoing, || std::panic::resume_unwind(Box::new("job")));
        wait.0.send(()).unwrap();
        drop(report);
        assert_eq!(done.iter().take(3).collect::<Vec<_>>(), ["out", "in 1", "in 2"]);
    }
}
