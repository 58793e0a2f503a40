//! The way into the engine's thread: a channel that never blocks its senders, and the rooms that bound it.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use delta_core::engine::{Command, Handover, Input, OpenedBatch, Reply, SealJob, Sealed, Unreadable, seal};
use delta_core::identity::Millis;
use delta_core::sync::outbox::AttemptId;
use delta_core::sync::session::ConnId;
use delta_core::topic::TopicId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::lanes::Ticket;
use super::sleep::Done;
use super::workers::{Urgency, Workers};
use crate::error::ClientError;
use crate::subscription::Listener;

/// Bytes of frames that were read and are not stored yet, in all connections together. An opened operation takes
/// about three times its envelope, so this keeps a catch-up's memory near 20 MB however long the log is.
pub(crate) const ROOM_BYTES: usize = 6 * 1024 * 1024;
/// The same for one connection, so that one busy topic cannot shut out the others.
pub(crate) const ROOM_BYTES_PER_CONNECTION: usize = 4 * 1024 * 1024;
/// What a frame costs at least: an opened operation is never smaller.
const LEAST_FRAME: usize = 512;
/// Commands that wait for their transaction.
const ROOM_COMMANDS: usize = 4096;
/// Most commands handed over together.
pub(crate) const MAX_TOGETHER: usize = 1024;

/// What can happen to the engine's thread.
pub(crate) enum Message {
    Command { command: Command, reply: oneshot::Sender<Result<Reply, ClientError>> },
    Listen { listener: Arc<Listener>, reply: oneshot::Sender<Result<Reply, ClientError>> },
    Unlisten { topic: TopicId, listener: Arc<Listener> },
    Connected { conn: ConnId },
    Frame { conn: ConnId, message: Bytes, room: Room },
    Opened { ticket: Ticket, batch: OpenedBatch, room: Arc<Room> },
    Ended(End),
    Refused { conn: ConnId, unreadable: Unreadable },
    Posted { attempt: AttemptId, handover: Handover },
    Sealed(Sealed),
    RecordsRenewed { ok: bool },
    NetworkChanged,
    Suspend { done: Done },
    Resume { done: Done },
    NextWork { reply: oneshot::Sender<Option<Millis>> },
    Close { done: oneshot::Sender<()> },
    WorkerPanicked,
}

/// How a connection, or an exchange, came to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) conn: ConnId,
    pub(crate) retry_after_ms: u64,
    /// The relay of its tunnel is to blame.
    pub(crate) tunnel_failed: bool,
}

impl From<End> for Input {
    fn from(end: End) -> Self {
        let End { conn, retry_after_ms, tunnel_failed } = end;
        match tunnel_failed {
            true => Self::TunnelFailed { conn, retry_after_ms },
            false => Self::Disconnected { conn, retry_after_ms },
        }
    }
}

/// The room a frame holds until it is stored.
#[derive(Debug)]
pub(crate) struct Room {
    _of_connection: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// The rooms of one client.
#[derive(Clone, Debug)]
pub(crate) struct Rooms {
    all: Arc<Semaphore>,
    commands: Arc<Semaphore>,
}

impl Rooms {
    fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(ROOM_BYTES)), commands: Arc::new(Semaphore::new(ROOM_COMMANDS)) }
    }
}

/// The room of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionRoom {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl ConnectionRoom {
    /// Waits for room for a frame of `len` bytes.
    pub(crate) async fn reserve(&self, len: usize) -> Option<Room> {
        let len = len.clamp(LEAST_FRAME, ROOM_BYTES_PER_CONNECTION) as u32;
        let of_connection = Arc::clone(&self.own).acquire_many_owned(len).await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_many_owned(len).await.ok()?;
        Some(Room { _of_connection: of_connection, _of_all: of_all })
    }
}

/// Why the thread takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Closed,
    Panicked,
}

/// The senders' side. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    sender: Sender<Message>,
    rooms: Rooms,
    stopped: Arc<Mutex<Option<Stopped>>>,
}

pub(crate) fn inbox() -> (Inbox, Receiver<Message>) {
    let (sender, receiver) = mpsc::channel();
    (Inbox { sender, rooms: Rooms::new(), stopped: Arc::default() }, receiver)
}

impl Inbox {
    /// Hands a command over and waits for its answer. Once this future was polled the command is done even if the
    /// future is dropped.
    pub(crate) async fn command(&self, command: Command) -> Result<Reply, ClientError> {
        let _room = self.rooms.commands.acquire().await;
        let (reply, answer) = oneshot::channel();
        self.send(Message::Command { command, reply });
        answer.await.unwrap_or_else(|_| Err(self.why_stopped()))
    }

    /// Hands commands over, at most [`MAX_TOGETHER`], in this order, and waits for their answers. They share
    /// transactions.
    pub(crate) async fn commands(
        &self,
        commands: impl IntoIterator<Item = Command>,
    ) -> Vec<Result<Reply, ClientError>> {
        let commands: Vec<Command> = commands.into_iter().take(MAX_TOGETHER).collect();
        let _room = self.rooms.commands.acquire_many(u32::try_from(commands.len()).unwrap_or(u32::MAX)).await;
        let hand_over = |command| {
            let (reply, answer) = oneshot::channel();
            self.send(Message::Command { command, reply });
            answer
        };
        // All are on their way before the first answer is waited for.
        let answers: Vec<_> = commands.into_iter().map(hand_over).collect();
        let mut replies = Vec::with_capacity(answers.len());
        for answer in answers {
            replies.push(answer.await.unwrap_or_else(|_| Err(self.why_stopped())));
        }
        replies
    }

    pub(crate) async fn listen(&self, listener: Arc<Listener>) -> Result<Reply, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Listen { listener, reply });
        answer.await.unwrap_or_else(|_| Err(self.why_stopped()))
    }

    pub(crate) fn unlisten(&self, topic: TopicId, listener: &Arc<Listener>) {
        self.send(Message::Unlisten { topic, listener: Arc::clone(listener) });
    }

    /// Sends; a message to a thread that ended is dropped, and with it whoever waits for its answer.
    pub(crate) fn send(&self, message: Message) {
        drop(self.sender.send(message));
    }

    /// The room of a new connection.
    pub(crate) fn connection_room(&self) -> ConnectionRoom {
        let own = Arc::new(Semaphore::new(ROOM_BYTES_PER_CONNECTION));
        ConnectionRoom { own, all: Arc::clone(&self.rooms.all) }
    }

    /// Runs a job on the workers; its result comes back as a message, its panic too.
    pub(super) fn spawn_open(
        &self,
        workers: &Workers,
        ticket: Ticket,
        room: Arc<Room>,
        job: impl FnOnce() -> OpenedBatch + Send + 'static,
    ) {
        let guard = PanicGuard(Some(self.clone()));
        workers.spawn(Urgency::Incoming, move || {
            let batch = job();
            if let Some(inbox) = guard.done() {
                inbox.send(Message::Opened { ticket, batch, room });
            }
        });
    }

    pub(super) fn spawn_seal(&self, workers: &Workers, job: SealJob) {
        let guard = PanicGuard(Some(self.clone()));
        workers.spawn(Urgency::Incoming, move || {
            let sealed = seal(job);
            if let Some(inbox) = guard.done() {
                inbox.send(Message::Sealed(sealed));
            }
        });
    }

    pub(crate) fn stopped(&self, how: Stopped) {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(how);
    }

    pub(crate) fn why_stopped(&self) -> ClientError {
        match *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Stopped::Panicked) => ClientError::EnginePanicked,
            Some(Stopped::Closed) | None => ClientError::Closed,
        }
    }
}

/// Tells the engine's thread when a job ends without an answer.
struct PanicGuard(Option<Inbox>);

impl PanicGuard {
    fn done(mut self) -> Option<Inbox> {
        self.0.take()
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if let Some(inbox) = self.0.take() {
            inbox.send(Message::WorkerPanicked);
        }
    }
}
