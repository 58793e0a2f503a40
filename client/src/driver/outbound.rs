//! From the engine's outputs to tasks on the runtime: sockets and packets.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use delta_core::engine::{Handover, MAX_HANDOVERS, PostJob, Unreadable};
use delta_core::onion::route::Tunnel;
use delta_core::sync::history::HistoryRequest;
use delta_core::sync::proof::Purpose;
use delta_core::sync::session::{ConnId, SubscribeRequest};
use delta_core::topic::TopicId;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use super::inbox::{ConnectionRoom, End, Inbox, Message, Room};
use super::workers::{Urgency, Workers};
use crate::access::{Server, Unanswered};
use crate::net::{Closed, GetError, Http, Sink, SocketContext, run};
use crate::renew::Renewer;

/// The tasks of one client. Dropping it closes its sockets.
pub(crate) struct Outbound {
    runtime: Handle,
    http: Http,
    sockets: SocketContext,
    renewer: Arc<Renewer>,
    /// Closed with the client: no POST outlives it.
    posts: Arc<Semaphore>,
    /// Never has a permit: to wait for one is to wait for its close, when POSTs on their way are given up.
    ended: Arc<Semaphore>,
    /// Each open socket, and each fetch, ends when its sender here is dropped.
    open: HashMap<ConnId, oneshot::Sender<()>>,
}

impl Outbound {
    pub(crate) fn new(runtime: Handle, http: Http, sockets: SocketContext, renewer: Arc<Renewer>) -> Self {
        let posts = Arc::new(Semaphore::new(MAX_HANDOVERS));
        let ended = Arc::new(Semaphore::new(0));
        Self { runtime, http, sockets, renewer, posts, ended, open: HashMap::new() }
    }

    /// Connections kept for later use lead through a network that is gone: the next packets open their own.
    pub(super) fn forget_kept(&mut self) {
        self.http = self.http.renewed();
    }

    /// Boxed: a task of its own type costs an app a kilobyte of code.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work.boxed());
    }

    /// Opens a WebSocket to the server at this base URL and reads it.
    pub(super) fn connect(
        &mut self,
        conn: ConnId,
        server: &str,
        via: Option<Tunnel>,
        request: SubscribeRequest,
        inbox: &Inbox,
    ) {
        let (cancel, cancelled) = oneshot::channel();
        self.open.insert(conn, cancel);
        let sink = EngineSink { conn, room: inbox.connection_room(), inbox: inbox.clone() };
        let (context, server) = (self.sockets.clone(), self.server(server, via.clone(), inbox));
        self.spawn(async move {
            let message = match socket(&context, &server, via.as_ref(), &request, cancelled, &sink).await {
                None => return,
                Some(Ended::Refused(unreadable)) => Message::Refused { conn, unreadable },
                Some(Ended::Closed(Closed { retry_after_ms, by_server, why, .. })) => {
                    tracing::debug!(conn = conn.0, %why, "a topic's connection ended");
                    let tunnel_failed = via.is_some() && !by_server;
                    Message::Ended(End { conn, retry_after_ms, tunnel_failed })
                }
            };
            server.inbox.send(message);
        });
    }

    /// Asks the server at this base URL for a page of history.
    pub(super) fn fetch(
        &mut self,
        conn: ConnId,
        server: &str,
        via: Option<Tunnel>,
        request: HistoryRequest,
        inbox: &Inbox,
    ) {
        let (cancel, cancelled) = oneshot::channel();
        self.open.insert(conn, cancel);
        let server = self.server(server, via, inbox);
        self.spawn(async move {
            let end = tokio::select! {
                biased;
                _ = cancelled => return,
                end = fetch(&server, &request, conn) => end,
            };
            server.inbox.send(Message::Ended(end));
        });
    }

    /// Asks the server at this base URL which of these envelopes stand in a topic.
    pub(super) fn has(
        &mut self,
        conn: ConnId,
        server: &str,
        via: Option<Tunnel>,
        (topic, body): (TopicId, Bytes),
        inbox: &Inbox,
    ) {
        let (cancel, cancelled) = oneshot::channel();
        self.open.insert(conn, cancel);
        let server = self.server(server, via, inbox);
        self.spawn(async move {
            let end = tokio::select! {
                biased;
                _ = cancelled => return,
                end = has(&server, topic, body, conn) => end,
            };
            server.inbox.send(Message::Ended(end));
        });
    }

    /// Collects the nodes' records anew.
    pub(super) fn renew(&self, sources: Vec<String>, inbox: &Inbox) {
        let (renewer, http, inbox) = (Arc::clone(&self.renewer), self.http.clone(), inbox.clone());
        let ended = Arc::clone(&self.ended);
        self.spawn(async move {
            let ok = tokio::select! {
                biased;
                _ = ended.acquire() => return,
                ok = renewer.renew(sources, &http, &inbox) => ok,
            };
            inbox.send(Message::RecordsRenewed { ok });
        });
    }

    fn server(&self, base: &str, via: Option<Tunnel>, inbox: &Inbox) -> Server {
        Server { http: self.http.through(via), inbox: inbox.clone(), base: base.to_owned() }
    }

    /// Closes a WebSocket or gives up a fetch, if it is still open.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.open.remove(&conn);
    }

    /// Wraps a packet and POSTs it.
    pub(super) fn post(&self, job: PostJob, workers: &Workers, inbox: &Inbox) {
        let (posts, http, ended) = (Arc::clone(&self.posts), self.http.clone(), Arc::clone(&self.ended));
        let (workers, inbox) = (workers.clone(), inbox.clone());
        self.spawn(async move {
            let Ok(_permit) = posts.acquire_owned().await else { return };
            let attempt = job.attempt;
            let handover = tokio::select! {
                biased;
                _ = ended.acquire() => return,
                handover = post(job, &workers, &http) => handover,
            };
            inbox.send(Message::Posted { attempt, handover });
        });
    }

    /// Closes every socket and gives up every POST: a row whose packet may have left is sent again.
    pub(super) fn close(&mut self) {
        self.open.clear();
        self.posts.close();
        self.ended.close();
        self.forget_kept();
    }

    /// After [`Outbound::close`]: new sockets and POSTs may be opened.
    pub(super) fn reopen(&mut self) {
        self.posts = Arc::new(Semaphore::new(MAX_HANDOVERS));
        self.ended = Arc::new(Semaphore::new(0));
    }
}

/// How a socket came to its end.
enum Ended {
    Closed(Closed),
    Refused(Unreadable),
}

/// Connects and reads; where the server asks for a proof of the read key, once more with it.
async fn socket(
    context: &SocketContext,
    server: &Server,
    via: Option<&Tunnel>,
    request: &SubscribeRequest,
    mut cancelled: oneshot::Receiver<()>,
    sink: &EngineSink,
) -> Option<Ended> {
    let url = server.url(&request.path());
    let closed = run(context, &url, via, &mut cancelled, sink).await?;
    match closed.status {
        Some(401) => {}
        Some(410) => return Some(Ended::Refused(Unreadable::Gone)),
        _ => return Some(Ended::Closed(closed)),
    }
    let proof = match server.prove(request.topic, Purpose::Read).await {
        Ok(proof) => proof,
        Err(Unanswered::Unreadable(unreadable)) => return Some(Ended::Refused(unreadable)),
        Err(Unanswered::Get(_) | Unanswered::Client(_)) => return Some(Ended::Closed(closed)),
    };
    let closed = run(context, &format!("{url}&{proof}"), via, &mut cancelled, sink).await?;
    Some(match closed.status {
        Some(401) => Ended::Refused(Unreadable::WrongReadKey),
        _ => Ended::Closed(closed),
    })
}

/// Hands a page to the engine's thread, if there is one.
async fn fetch(server: &Server, request: &HistoryRequest, conn: ConnId) -> End {
    match server.read(request.topic, &request.path(), async |http, url| http.page(url).await).await {
        Ok(page) => {
            if let Some(room) = server.inbox.connection_room().reserve(page.len()).await {
                server.inbox.send(Message::Frame { conn, message: page.into(), room });
            }
            End { conn, retry_after_ms: 0, tunnel_failed: false }
        }
        Err(error) => {
            tracing::debug!(conn = conn.0, ?error, "a page of history did not come");
            End { conn, retry_after_ms: error.retry_after_ms(), tunnel_failed: error.is_tunnels() }
        }
    }
}

/// Hands the answer to `has` to the engine's thread, if there is one.
async fn has(server: &Server, topic: TopicId, body: Bytes, conn: ConnId) -> End {
    let url = server.url(&format!("/topic/{topic}/has"));
    match server.http.has(&url, body).await {
        Ok(answer) => {
            if let Some(room) = server.inbox.connection_room().reserve(answer.len()).await {
                server.inbox.send(Message::Frame { conn, message: answer.into(), room });
            }
            End { conn, retry_after_ms: 0, tunnel_failed: false }
        }
        Err(error) => {
            tracing::debug!(conn = conn.0, %error, "an answer to `has` did not come");
            let tunnel_failed = matches!(error, GetError::Tunnel { .. });
            End { conn, retry_after_ms: error.retry_after_ms(), tunnel_failed }
        }
    }
}

async fn post(job: PostJob, workers: &Workers, http: &Http) -> Handover {
    let (url, job_is_v2) = (job.url.clone(), job.is_v2());
    let (done, packet) = oneshot::channel();
    workers.spawn(Urgency::Outgoing, move || drop(done.send(job.wrap())));
    let packet = match packet.await {
        Ok(Ok(packet)) => packet,
        Ok(Err(error)) => {
            tracing::warn!(%error, "a packet could not be built; its operations stay queued");
            return Handover::Unreached;
        }
        Err(_) => {
            tracing::error!("building a packet panicked; its operations stay queued");
            return Handover::Unreached;
        }
    };
    match http.post_packet(&url, packet, job_is_v2).await {
        Ok(handover) => handover,
        Err(error) => {
            let unreached = error.is_connect();
            tracing::debug!(%error, "an entry relay did not take a packet");
            if unreached { Handover::Unreached } else { Handover::Failed }
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
