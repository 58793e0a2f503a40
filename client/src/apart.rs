//! Work beside the caller's: on tasks and threads of one type each. Of its own type, each would cost an app two
//! kilobytes of code, tasks twice: tokio compiles them for each of its two schedulers (docs/adr/0016).

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::error::ClientError;

/// On a task of its own: it runs to its end even if nobody waits for it any more.
pub(crate) async fn apart<T: Send + 'static>(
    work: impl Future<Output = Result<T, ClientError>> + Send + 'static,
) -> Result<T, ClientError> {
    let (done, answer) = oneshot::channel();
    let work = async move { drop(done.send(work.await)) };
    drop(tokio::spawn(work.boxed()));
    answer.await.unwrap_or(Err(ClientError::EnginePanicked))
}

/// On a thread that may wait. It runs to its end even if nobody waits for it any more.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    let (done, answer) = oneshot::channel();
    drop(job(Box::new(move || drop(done.send(work())))));
    answer.await.unwrap_or(Err(ClientError::QueryPanicked))
}

/// Begins what may wait.
pub(crate) fn job(job: Box<dyn FnOnce() + Send>) -> JoinHandle<()> {
    spawn_blocking(job)
}
