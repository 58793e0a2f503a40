//! Accepting connections: how many, from whom, and how they end.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::app::App;
use crate::health::Place;
use crate::http::Peer;
use crate::limits::bound;
use crate::metrics::Metrics;

/// A connection without a complete request head for this long is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Largest request head; also the buffer for bodies in transit.
const MAX_HEAD: usize = 64 * 1024;
/// Pause after the system could not accept (no file handles left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A connection's place, counted until the last user of it is gone.
#[derive(Debug)]
pub struct Connection {
    metrics: Arc<Metrics>,
    _place: Option<Place>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.metrics.connections.sub(1);
    }
}

/// Serves connections until `stop` turns true. Connections that are open then finish their request by themselves.
pub async fn serve(listener: TcpListener, app: Arc<App>, router: Router, mut stop: watch::Receiver<bool>) {
    let told = stop.clone();
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => accept(&app, stream, address.ip(), &router, &told),
                // The peer was gone before it was accepted, or no handles are left: neither ends the server.
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
}

fn accept(app: &Arc<App>, stream: TcpStream, address: IpAddr, router: &Router, stop: &watch::Receiver<bool>) {
    if app.metrics.connections.get() >= bound(app.limits.connections) {
        app.metrics.refuse_load.inc();
        refuse(stream, FULL);
        return;
    }
    let Some(place) = app.addresses.connect(address) else {
        app.metrics.refuse_rate.inc();
        refuse(stream, TOO_MANY);
        return;
    };
    app.metrics.connections.inc();
    let place = Arc::new(Connection { metrics: Arc::clone(&app.metrics), _place: Some(place) });
    tokio::spawn(serve_one(stream, Peer { address, place }, router.clone(), stop.clone()));
}

/// Says no without reading anything.
fn refuse(mut stream: TcpStream, answer: &'static [u8]) {
    tokio::spawn(async move {
        let _ = tokio::time::timeout(ACCEPT_PAUSE, stream.write_all(answer)).await;
        let _ = stream.shutdown().await;
    });
}

async fn serve_one(stream: TcpStream, peer: Peer, router: Router, mut stop: watch::Receiver<bool>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        routes.call(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    // What went wrong on one connection is that peer's business, and nothing to log.
    let _ = connection.await;
}
