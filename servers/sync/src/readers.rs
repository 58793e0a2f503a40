//! Reading on threads of their own: each has connections of its own, so replay never waits for the writer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::oneshot;

use crate::queue::Queue;
use crate::store::{Sql, StoreError};

type Job<C> = Box<dyn FnOnce(&C) + Send>;

/// Reading failed. The client may try again later.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Stopped,
}

/// Threads that each own a `C` and take jobs from one queue. They end with the last handle.
#[derive(Debug)]
pub struct Pool<C> {
    jobs: Arc<Jobs<C>>,
}

/// Dropped with the last handle: the threads end.
#[derive(Debug)]
struct Jobs<C>(Arc<Queue<Job<C>>>);

impl<C> Drop for Jobs<C> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl<C> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self { jobs: Arc::clone(&self.jobs) }
    }
}

impl<C: Send + 'static> Pool<C> {
    /// A thread for each.
    pub fn start(owned: impl IntoIterator<Item = C>) -> Self {
        let owned: Vec<C> = owned.into_iter().collect();
        let queue = Arc::new(Queue::<Job<C>>::new(owned.len()));
        for owned in owned {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                let mut jobs = Vec::new();
                // One at a time: a page may take long, and another thread may be free.
                while queue.take(&mut jobs, 1) {
                    for job in jobs.drain(..) {
                        // A bug costs the one who met it its answer, not everybody a thread.
                        if catch_unwind(AssertUnwindSafe(|| job(&owned))).is_err() {
                            tracing::error!("a read panicked: this is a bug");
                        }
                    }
                }
            });
        }
        Self { jobs: Arc::new(Jobs(queue)) }
    }

    /// Jobs that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.jobs.0.len()
    }

    /// Does a job on one of the threads.
    ///
    /// # Errors
    /// The job failed, or the threads have ended.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&C) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let (reply, answer) = oneshot::channel();
        let job: Job<C> = Box::new(move |owned| drop(reply.send(job(owned))));
        self.jobs.0.push(job).map_err(|_| ReadError::Stopped)?;
        Ok(answer.await.map_err(|_| ReadError::Stopped)??)
    }
}

/// Readers of the topic logs.
#[derive(Clone, Debug)]
pub struct Readers(Pool<Sql>);

impl Readers {
    /// Opens `count` connections, after the writer has opened the database.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub fn start(path: &Path, count: usize) -> Result<Self, StoreError> {
        let readers = (0..count).map(|_| Sql::reader(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(Pool::start(readers)))
    }

    /// Reads that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }

    /// Runs reads in one snapshot of the database.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Sql) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ReadError> {
        self.0.run(move |sql| sql.snapshot(read)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_costs_its_own_answer_only() {
        let pool = Pool::start([1]);
        let panics = pool.run(|_| -> Result<(), StoreError> { panic!("on purpose") }).await;
        assert!(matches!(panics, Err(ReadError::Stopped)));
        assert_eq!(pool.run(|owned| Ok(owned + 1)).await.unwrap(), 2);
    }
}
