//! The threads of one [`Delta`](crate::Delta): a tokio runtime for its work, a thread for its listeners.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll, ready};

use delta_client::ClientError;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinError, JoinHandle};

use crate::error::DeltaError;

/// Threads of the runtime: it only waits for sockets and hands on.
const RUNTIME_THREADS: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// A tokio runtime that may be dropped anywhere, on its own threads too.
#[derive(Debug)]
pub(crate) struct Runtime {
    runtime: Option<tokio::runtime::Runtime>,
    handle: Handle,
}

impl Runtime {
    pub(crate) fn start() -> Result<Self, DeltaError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME_THREADS)
            .thread_name("delta-io")
            .enable_all()
            .build()
            .map_err(ClientError::Threads)?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle })
    }

    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The answer of a call: a `Result` of its own type and [`DeltaError`].
pub(crate) type Answer = Box<dyn Any + Send>;

/// Does the work on the runtime. It goes on to its end when the future that is returned is dropped.
///
/// One kind of task for all calls, and one kind of future for all that give the same: of its own type, each would cost
/// every app some kilobytes of code.
pub(crate) fn on<T, E>(runtime: &Handle, work: impl Future<Output = Result<T, E>> + Send + 'static) -> Call<T>
where
    T: Send + 'static,
    E: Into<DeltaError> + Send + 'static,
{
    let answering = async move { Ok(Box::new(work.await.map_err(Into::<DeltaError>::into)) as Answer) };
    answered(runtime, Box::pin(answering))
}

/// As [`on`], where what the work gives is known to hold a `Result` of this type and [`DeltaError`], if it does not fail.
pub(crate) fn answered<T>(
    runtime: &Handle,
    work: Pin<Box<dyn Future<Output = Result<Answer, DeltaError>> + Send>>,
) -> Call<T> {
    Call { task: runtime.spawn(work), ended: || ClientError::Closed, gives: PhantomData }
}

/// A call on its way.
#[derive(Debug)]
pub(crate) struct Call<T> {
    task: JoinHandle<Result<Answer, DeltaError>>,
    ended: fn() -> ClientError,
    gives: PhantomData<fn() -> T>,
}

impl<T> Call<T> {
    /// What it fails with when it was aborted; otherwise with [`ClientError::Closed`].
    pub(crate) fn ended(self, ended: fn() -> ClientError) -> Self {
        Self { ended, ..self }
    }

    pub(crate) fn abort_handle(&self) -> AbortHandle {
        self.task.abort_handle()
    }
}

impl<T: 'static> Future for Call<T> {
    type Output = Result<T, DeltaError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer =
            ready!(Pin::new(&mut self.task).poll(cx)).map_err(|error| unanswered(&error, self.ended));
        let answer = answer.and_then(|answer| answer);
        Poll::Ready(answer.and_then(|answer| match answer.downcast::<Result<T, DeltaError>>() {
            Ok(answer) => *answer,
            Err(_) => Err(DeltaError::panicked()),
        }))
    }
}

/// As [`on`], on a thread that may wait: for the app's keystore, for files.
pub(crate) async fn on_blocking<T: Send + 'static>(
    runtime: &Handle,
    work: impl FnOnce() -> Result<T, DeltaError> + Send + 'static,
) -> Result<T, DeltaError> {
    let (done, heard) = oneshot::channel();
    let job: Job = Box::new(move || drop(done.send(work())));
    runtime.spawn_blocking(job).await.map_err(|error| unanswered(&error, || ClientError::Closed))?;
    heard.await.map_err(|_| ClientError::Closed)?
}

fn unanswered(error: &JoinError, ended: fn() -> ClientError) -> DeltaError {
    match error.is_panic() {
        true => DeltaError::panicked(),
        false => ended().into(),
    }
}

/// A thread that calls the app: listeners one after the other, log sinks on another. It ends with its last sender.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    jobs: mpsc::Sender<Job>,
}

impl Caller {
    pub(crate) fn start(name: &str) -> Result<Self, DeltaError> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let body = move || {
            for job in waiting {
                // The app's code is called through UniFFI, which turns what it throws into errors.
                drop(catch_unwind(AssertUnwindSafe(job)));
            }
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(ClientError::Threads)?;
        Ok(Self { jobs })
    }

    /// Runs a job after those before it.
    pub(crate) fn call(&self, job: impl FnOnce() + Send + 'static) {
        drop(self.jobs.send(Box::new(job)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_call_is_an_error_of_that_call_alone() {
        let runtime = Runtime::start().unwrap();
        let panics = async { std::panic::resume_unwind(Box::new("a bug")) };
        let call = on::<(), DeltaError>(runtime.handle(), panics);
        let error = runtime.handle().block_on(call).unwrap_err();
        assert!(matches!(&error, DeltaError::Bug { code, .. } if code == "engine_panicked"), "{error:?}");
        let blocking = || -> Result<(), DeltaError> { std::panic::resume_unwind(Box::new("a bug")) };
        let error = runtime.handle().block_on(on_blocking(runtime.handle(), blocking)).unwrap_err();
        assert!(matches!(error, DeltaError::Bug { .. }), "{error:?}");
        let next = runtime.handle().block_on(on::<_, DeltaError>(runtime.handle(), async { Ok(7) }));
        assert_eq!(next.unwrap(), 7);
    }

    #[test]
    fn a_panic_in_the_apps_code_does_not_end_the_thread_that_calls_it() {
        let caller = Caller::start("test").unwrap();
        let (heard, hearing) = mpsc::channel();
        caller.call(|| std::panic::resume_unwind(Box::new("the app's bug")));
        caller.call(move || heard.send(()).unwrap());
        hearing.recv().unwrap();
    }
}
