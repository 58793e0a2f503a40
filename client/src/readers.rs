//! Queries: a few read-only connections, each used by one blocking thread at a time, beside the engine's writer.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use delta_core::store::{Reader, StoreError};
use tokio::sync::{Semaphore, oneshot};

use crate::apart::job;
use crate::error::ClientError;

/// The answer of a query: a `Result` of its own type and [`StoreError`].
type Answer = Box<dyn Any + Send>;
/// A query whose answer's type is the caller's affair.
pub type Query = Box<dyn FnOnce(&Reader) -> Answer + Send>;

/// Read-only connections of a client.
pub(crate) const READERS: usize = 2;

/// The connections that no query uses, and a permit for each.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    idle: Arc<Mutex<Vec<Reader>>>,
    gate: Arc<Mutex<Gate>>,
}

/// Who may run a query.
#[derive(Debug)]
struct Gate {
    /// Closed while there are no connections.
    permits: Arc<Semaphore>,
    suspended: bool,
}

impl Gate {
    fn why(&self) -> ClientError {
        if self.suspended { ClientError::Suspended } else { ClientError::Closed }
    }
}

impl Readers {
    pub(crate) fn new(readers: Vec<Reader>) -> Self {
        let gate = Gate { permits: Arc::new(Semaphore::new(readers.len())), suspended: false };
        Self { idle: Arc::new(Mutex::new(readers)), gate: Arc::new(Mutex::new(gate)) }
    }

    /// Runs a query on a blocking thread. Dropping the future lets a query that has begun run to its end.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ClientError> {
        // One kind of job for all queries: each of its own type would cost an app some kilobytes of code.
        let job: Query = Box::new(move |reader| Box::new(query(reader)));
        let answer = self.job(job).await?.downcast::<Result<T, StoreError>>();
        Ok((*answer.map_err(|_| ClientError::QueryPanicked)?)?)
    }

    pub(crate) async fn job(&self, query: Query) -> Result<Answer, ClientError> {
        let permits = Arc::clone(&self.gate().permits);
        let permit = permits.acquire_owned().await.map_err(|_| self.gate().why())?;
        let idle = Arc::clone(&self.idle);
        let ask = move || {
            // Dropped last: whoever waits for a permit finds the connection.
            let _permit = permit;
            let lent = Lent::from(&idle)?;
            lent.reader.as_ref().map(query)
        };
        let (done, answer) = oneshot::channel();
        match job(Box::new(move || drop(done.send(ask())))).await {
            Ok(()) => answer.await.ok().flatten().ok_or(ClientError::Closed),
            Err(error) if error.is_panic() => Err(ClientError::QueryPanicked),
            Err(_) => Err(ClientError::Closed),
        }
    }

    /// Takes no further query, waits for those that run and closes the connections.
    pub(crate) async fn close(&self) {
        self.end(false).await;
    }

    /// As [`Readers::close`], until [`Readers::reopen`].
    pub(crate) async fn suspend(&self) {
        self.end(true).await;
    }

    /// After [`Readers::suspend`]: these take queries from now on.
    pub(crate) fn reopen(&self, readers: Vec<Reader>) {
        let permits = Arc::new(Semaphore::new(readers.len()));
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = readers;
        *self.gate() = Gate { permits, suspended: false };
    }

    async fn end(&self, suspended: bool) {
        let permits = Arc::clone(&self.gate().permits);
        let all = u32::try_from(READERS).unwrap_or(u32::MAX);
        let _all = permits.acquire_many(all).await;
        self.gate().suspended = suspended;
        permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use; it goes back even when the query panics.
struct Lent<'a> {
    reader: Option<Reader>,
    idle: &'a Mutex<Vec<Reader>>,
}

impl<'a> Lent<'a> {
    fn from(idle: &'a Mutex<Vec<Reader>>) -> Option<Self> {
        let reader = idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Self { reader: Some(reader), idle })
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        }
    }
}
