//! Accepting connections: how many, how long, and how they end.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::http::{Answer, Cut};

/// Most connections at once; the next ones wait in the system's queue.
pub const MAX_CONNECTIONS: usize = 16_384;
/// A connection without a complete request head for this long is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Largest request head.
const MAX_HEAD: usize = 16 * 1024;
/// Pause after the system could not accept (no file handles left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until `stop` turns true; returns once the last one has ended.
pub async fn serve<F, A>(listener: TcpListener, mut stop: watch::Receiver<bool>, answer: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Answer, Cut>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let told = stop.clone();
    let accepting = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let serving = serve_one(stream, told.clone(), answer.clone());
                    tokio::spawn(async move {
                        serving.await;
                        drop(place);
                    });
                }
                // The peer was gone before it was accepted, or no handles are left: neither ends the relay.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!("cannot accept connections: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    drop(listener);
    // Every place is free again once every connection has ended.
    let _ = places.acquire_many(MAX_CONNECTIONS as u32).await;
}

async fn serve_one<F, A>(stream: TcpStream, mut stop: watch::Receiver<bool>, answer: F)
where
    F: Fn(Request<Incoming>) -> A + Send + 'static,
    A: Future<Output = Result<Answer, Cut>> + Send,
{
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    // What went wrong on one connection is that peer's business, and nothing to log.
    let _ = connection.await;
}
