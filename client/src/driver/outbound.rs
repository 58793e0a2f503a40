//! From the engine's outputs to tasks on the runtime: sockets and packets.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use delta_core::engine::{Handover, MAX_HANDOVERS, PostJob};
use delta_core::sync::history::HistoryRequest;
use delta_core::sync::session::{ConnId, SubscribeRequest};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use super::inbox::{ConnectionRoom, Inbox, Message, Room};
use super::workers::{Urgency, Workers};
use crate::net::{Closed, GetError, Http, Sink, SocketContext, run};

/// The tasks of one client. Dropping it closes its sockets.
pub(crate) struct Outbound {
    runtime: Handle,
    http: Http,
    sockets: SocketContext,
    /// Closed with the client: no POST outlives it.
    posts: Arc<Semaphore>,
    /// Each open socket, and each fetch, ends when its sender here is dropped.
    open: HashMap<ConnId, oneshot::Sender<()>>,
}

impl Outbound {
    pub(crate) fn new(runtime: Handle, http: Http, sockets: SocketContext) -> Self {
        let posts = Arc::new(Semaphore::new(MAX_HANDOVERS));
        Self { runtime, http, sockets, posts, open: HashMap::new() }
    }

    /// Connections kept for later use lead through a network that is gone: the next packets open their own.
    pub(super) fn forget_kept(&mut self) {
        match self.http.renewed() {
            Ok(http) => self.http = http,
            Err(error) => tracing::warn!(%error, "kept connections stay: they time out by themselves"),
        }
    }

    /// Opens a WebSocket to the server at this base URL and reads it.
    pub(super) fn connect(&mut self, conn: ConnId, server: &str, request: SubscribeRequest, inbox: &Inbox) {
        let (cancel, cancelled) = oneshot::channel();
        self.open.insert(conn, cancel);
        let sink = EngineSink { conn, room: inbox.connection_room(), inbox: inbox.clone() };
        let (context, base, inbox) = (self.sockets.clone(), server.to_owned(), inbox.clone());
        self.runtime.spawn(async move {
            if let Some(Closed { retry_after_ms, why }) = run(context, base, request, cancelled, sink).await {
                tracing::debug!(conn = conn.0, %why, "a topic's connection ended");
                inbox.send(Message::Disconnected { conn, retry_after_ms });
            }
        });
    }

    /// Asks the server at this base URL for a page of history.
    pub(super) fn fetch(&mut self, conn: ConnId, server: &str, request: HistoryRequest, inbox: &Inbox) {
        let (cancel, cancelled) = oneshot::channel();
        self.open.insert(conn, cancel);
        let (http, url, inbox) = (self.http.clone(), format!("{server}{}", request.path()), inbox.clone());
        self.runtime.spawn(async move {
            let fetching = fetch(&http, &url, conn, &inbox);
            tokio::select! {
                biased;
                _ = cancelled => {}
                retry_after_ms = fetching => inbox.send(Message::Disconnected { conn, retry_after_ms }),
            }
        });
    }

    /// Closes a WebSocket or gives up a fetch, if it is still open.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.open.remove(&conn);
    }

    /// Wraps a packet and POSTs it.
    pub(super) fn post(&self, job: PostJob, workers: &Workers, inbox: &Inbox) {
        let (posts, http) = (Arc::clone(&self.posts), self.http.clone());
        let (workers, inbox) = (workers.clone(), inbox.clone());
        self.runtime.spawn(async move {
            let Ok(_permit) = posts.acquire_owned().await else { return };
            let attempt = job.attempt;
            let handover = post(job, &workers, &http).await;
            inbox.send(Message::Posted { attempt, handover });
        });
    }

    /// Closes every socket.
    pub(super) fn close(&mut self) {
        self.open.clear();
        self.posts.close();
    }
}

/// Hands a page to the engine's thread, if there is one; gives how long the server wants us to wait.
async fn fetch(http: &Http, url: &str, conn: ConnId, inbox: &Inbox) -> u64 {
    match http.page(url).await {
        Ok(page) => {
            if let Some(room) = inbox.connection_room().reserve(page.len()).await {
                inbox.send(Message::Frame { conn, message: page.into(), room });
            }
            0
        }
        Err(error) => {
            tracing::debug!(conn = conn.0, %error, "a page of history did not come");
            match error {
                GetError::Status { retry_after_ms, .. } => retry_after_ms,
                GetError::Http(_) | GetError::TooLong(_) => 0,
            }
        }
    }
}

async fn post(job: PostJob, workers: &Workers, http: &Http) -> Handover {
    let url = job.url.clone();
    let (done, packet) = oneshot::channel();
    workers.spawn(Urgency::Outgoing, move || drop(done.send(job.wrap())));
    let packet = match packet.await {
        Ok(Ok(packet)) => packet,
        Ok(Err(error)) => {
            tracing::warn!(%error, "a packet could not be built; its operations stay queued");
            return Handover::Failed;
        }
        Err(_) => {
            tracing::error!("building a packet panicked; its operations stay queued");
            return Handover::Failed;
        }
    };
    match http.post_packet(&url, packet).await {
        Ok(handover) => handover,
        Err(error) => {
            tracing::debug!(error = %error.without_url(), "an entry relay did not take a packet");
            Handover::Failed
        }
    }
}

/// Hands a socket's messages to the engine's thread.
struct EngineSink {
    conn: ConnId,
    room: ConnectionRoom,
    inbox: Inbox,
}

impl Sink for EngineSink {
    type Room = Room;

    fn connected(&self) {
        self.inbox.send(Message::Connected { conn: self.conn });
    }

    async fn reserve(&self, len: usize) -> Option<Room> {
        self.room.reserve(len).await
    }

    fn message(&self, message: Bytes, room: Room) {
        self.inbox.send(Message::Frame { conn: self.conn, message, room });
    }
}
