//! Reading on threads of their own: each has connections of its own, so replay never waits for the writer.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use thiserror::Error;
use tokio::sync::oneshot;

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
    jobs: mpsc::Sender<Job<C>>,
}

impl<C> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone() }
    }
}

impl<C: Send + 'static> Pool<C> {
    /// A thread for each.
    pub fn start(owned: impl IntoIterator<Item = C>) -> Self {
        let (jobs, queue) = mpsc::channel::<Job<C>>();
        let queue = Arc::new(Mutex::new(queue));
        for owned in owned {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    match job {
                        Ok(job) => job(&owned),
                        Err(mpsc::RecvError) => return,
                    }
                }
            });
        }
        Self { jobs }
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
        self.jobs.send(job).map_err(|_| ReadError::Stopped)?;
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
