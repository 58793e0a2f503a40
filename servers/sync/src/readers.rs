//! Reading on threads of their own: each has a read-only connection, so replay never waits for the writer.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use thiserror::Error;
use tokio::sync::oneshot;

use crate::store::{Sql, StoreError};

type Job = Box<dyn FnOnce(&Sql) + Send>;

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

/// The pool.
#[derive(Clone, Debug)]
pub struct Readers {
    jobs: mpsc::Sender<Job>,
}

impl Readers {
    /// Opens `count` connections, after the writer has opened the database.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub fn start(path: &Path, count: usize) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..count {
            let (sql, queue) = (Sql::reader(path)?, Arc::clone(&queue));
            std::thread::spawn(move || {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    match job {
                        Ok(job) => job(&sql),
                        Err(mpsc::RecvError) => return,
                    }
                }
            });
        }
        Ok(Self { jobs })
    }

    /// Runs reads in one snapshot of the database.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Sql) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |sql| drop(reply.send(sql.snapshot(read))));
        self.jobs.send(job).map_err(|_| ReadError::Stopped)?;
        Ok(answer.await.map_err(|_| ReadError::Stopped)??)
    }
}
