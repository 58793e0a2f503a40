//! The engine's thread and what feeds it.
//!
//! One thread owns the engine. It takes everything that has come since its last turn, lets waiting commands go first
//! in one transaction (which is what makes a thousand concurrent publishes share one fsync), gives received frames
//! to the workers, and stores what they opened in slices short enough that a command never waits long. Sockets,
//! HTTP and callers only ever see its inbox, which never blocks; what bounds it is the room that each frame and each
//! command holds until it is done.

mod idle;
mod inbox;
mod lanes;
mod outbound;
mod sleep;
mod workers;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use delta_core::engine::{
    Command, CommandId, Engine, EngineError, Event, Input, OpenedBatch, Output, Reply, open,
};
use delta_core::store::StoreKey;
use delta_core::sync::session::ConnId;
use delta_core::topic::TopicId;
use tokio::sync::oneshot;

use crate::error::ClientError;
use crate::platform::{Clock, PlatformEntropy, instant, until};
use crate::readers::Readers;
use crate::subscription::Listener;

pub(crate) use inbox::{Inbox, MAX_TOGETHER, Message, inbox};
pub(crate) use outbound::Outbound;
pub(crate) use sleep::Done;
pub(crate) use workers::Workers;

use idle::Idle;
use inbox::{End, Room, Stopped};
use lanes::Lanes;

/// Operations stored in one transaction of an ingest slice: about 5 ms, the longest a command waits for it.
const SLICE_OPERATIONS: usize = 256;
/// Commands of one transaction: a thousand concurrent publishes still share one fsync.
const BATCH_COMMANDS: usize = 1024;
/// Messages taken from the inbox in one turn.
const TURN_MESSAGES: usize = 4096;
/// Pause after a failed transaction, doubled for each further one up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How long a timer that is due waits for what was received before it.
const TIMER_PATIENCE: Duration = Duration::from_millis(250);

/// Who waits for a command.
enum Waiter {
    Caller(oneshot::Sender<Result<Reply, ClientError>>),
    /// A listener that is to be forgotten when subscribing fails.
    Listener(TopicId, Arc<Listener>, oneshot::Sender<Result<Reply, ClientError>>),
    Nobody,
}

/// What a connection brought, in its order.
enum Incoming {
    Frame { conn: ConnId, message: bytes::Bytes, room: Room },
    End(End),
}

/// Who listens to which topic. However the thread ends, their subscriptions end with it.
#[derive(Default)]
struct Listeners(HashMap<TopicId, Vec<Arc<Listener>>>);

impl Listeners {
    /// Removes one; whether it was the topic's last.
    fn remove(&mut self, topic: TopicId, listener: &Arc<Listener>) -> bool {
        let Some(listeners) = self.0.get_mut(&topic) else { return false };
        listeners.retain(|other| !Arc::ptr_eq(other, listener));
        let last = listeners.is_empty();
        if last {
            self.0.remove(&topic);
        }
        last
    }

    /// Tells everybody how the database is.
    fn storage(&self, failing: Option<&EngineError>) {
        self.0.values().flatten().for_each(|listener| listener.storage(failing.cloned()));
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.0.values().flatten().for_each(|listener| listener.close());
    }
}

/// What a frame's jobs opened, with the room the frame holds; or the end of its connection.
enum Received {
    Batch(OpenedBatch, Arc<Room>),
    End(End),
}

/// The thread's state.
pub(crate) struct Driver {
    /// First, so that it is dropped before whoever waits for an answer is let go.
    _obituary: Obituary,
    engine: Engine,
    clock: Arc<Clock>,
    entropy: PlatformEntropy,
    messages: Receiver<Message>,
    inbox: Inbox,
    workers: Workers,
    outbound: Outbound,
    /// What is opened again after a sleep.
    path: PathBuf,
    /// What opens its secrets, where they are sealed.
    store_key: Option<StoreKey>,
    readers: Readers,
    listeners: Listeners,
    waiters: HashMap<CommandId, Waiter>,
    next_command: u64,
    /// Inputs that go with the next transaction, before anything received.
    inputs: Vec<Input>,
    /// What came over the network and was not looked at yet.
    incoming: VecDeque<Incoming>,
    lanes: Lanes<Received>,
    /// Opened and in order, waiting to be stored.
    received: VecDeque<Received>,
    failures: u32,
    paused_until: Option<Instant>,
    /// Since when the engine's timer is due and waits for what was received.
    due_since: Option<Instant>,
    idle: Idle,
    closing: Option<oneshot::Sender<()>>,
    suspending: Option<Done>,
}

/// What the thread is made of.
pub(crate) struct Parts {
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<Clock>,
    pub(crate) messages: Receiver<Message>,
    pub(crate) inbox: Inbox,
    pub(crate) workers: Workers,
    pub(crate) outbound: Outbound,
    pub(crate) path: PathBuf,
    /// What opens the database's secrets, where they are sealed.
    pub(crate) store_key: Option<StoreKey>,
    pub(crate) readers: Readers,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { engine, clock, messages, inbox, workers, outbound, path, store_key, readers } = parts;
        Self {
            _obituary: Obituary(inbox.clone()),
            engine,
            clock,
            entropy: PlatformEntropy,
            messages,
            inbox,
            workers,
            outbound,
            path,
            store_key,
            readers,
            listeners: Listeners::default(),
            waiters: HashMap::new(),
            next_command: 0,
            inputs: Vec::new(),
            incoming: VecDeque::new(),
            lanes: Lanes::new(),
            received: VecDeque::new(),
            failures: 0,
            paused_until: None,
            due_since: None,
            idle: Idle::new(instant()),
            closing: None,
            suspending: None,
        }
    }

    /// Runs until [`Message::Close`], then closes the engine. [`Message::Suspend`] makes it sleep in between.
    pub(crate) fn run(mut self) {
        loop {
            self.publish_outputs();
            while self.closing.is_none() && self.suspending.is_none() {
                self.take_messages();
                self.turn();
            }
            // What was accepted before is still done; its answers go out below.
            while !self.inputs.is_empty() && self.failures == 0 {
                self.store_inputs();
            }
            self.outbound.close();
            match self.suspending.take() {
                Some(done) if self.closing.is_none() => match self.sleep(done) {
                    Some(woken) => self = woken,
                    None => return,
                },
                _ => break,
            }
        }
        drop(std::mem::take(&mut self.listeners));
        if let Err(error) = self.engine.close() {
            tracing::warn!(%error, "the database did not close cleanly; what was committed is safe");
        }
        if let Some(done) = self.closing.take() {
            let _ = done.send(());
        }
    }

    /// One turn: commands and news first, then the workers' next jobs, then one slice of what was received; where there is
    /// nothing of all this, what is left for idle times.
    fn turn(&mut self) {
        if self.paused_until.is_some_and(|until| instant() < until) {
            return;
        }
        self.paused_until = None;
        if self.timer_is_due() {
            self.inputs.push(Input::Timeout);
        }
        if !self.inputs.is_empty() {
            self.store_inputs();
        }
        self.triage_incoming();
        self.store_slice();
        self.follow_index();
    }

    /// Whether the engine's time has come. What was received before is looked at first, for a moment: after a sleep the
    /// echo that a timer waits for has often arrived.
    fn timer_is_due(&mut self) -> bool {
        if self.engine.next_wakeup().is_none_or(|at| at > self.clock.now()) {
            self.due_since = None;
            return false;
        }
        let now = instant();
        let since = *self.due_since.get_or_insert(now);
        let idle = self.incoming.is_empty() && self.received.is_empty() && self.lanes.is_empty();
        let due = idle || now.saturating_duration_since(since) >= TIMER_PATIENCE;
        if due {
            self.due_since = None;
        }
        due
    }

    /// Waits for the first message unless there is work, then takes what else is there.
    fn take_messages(&mut self) {
        let first = match self.patience() {
            Some(Duration::ZERO) => self.messages.try_recv().ok(),
            Some(patience) => match self.messages.recv_timeout(patience) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return self.silence(patience);
                }
            },
            None => self.messages.recv().ok(),
        };
        let Some(first) = first else { return };
        self.idle.disturbed(instant());
        self.take(first);
        for _ in 1..TURN_MESSAGES {
            let Ok(message) = self.messages.try_recv() else { return };
            self.take(message);
        }
    }

    /// How long the thread may sleep; `None` is for ever.
    fn patience(&self) -> Option<Duration> {
        if let Some(until) = self.paused_until {
            return Some(until.saturating_duration_since(instant()));
        }
        if !(self.inputs.is_empty() && self.incoming.is_empty() && self.received.is_empty()) {
            return Some(Duration::ZERO);
        }
        let timer = self.engine.next_wakeup().map(|at| until(self.clock.now(), at));
        // Frames are with the workers: their results come as messages.
        let timer = timer.map(|wait| if self.due_since.is_some() { wait.max(TIMER_PATIENCE) } else { wait });
        timer.into_iter().chain(self.idle.patience()).min()
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Command { command, reply } => self.command(command, Waiter::Caller(reply)),
            Message::Listen { listener, reply } => self.listen(listener, reply),
            Message::Unlisten { topic, listener } => self.unlisten(topic, &listener),
            Message::Connected { conn } => self.inputs.push(Input::Connected { conn }),
            Message::Frame { conn, message, room } => {
                self.incoming.push_back(Incoming::Frame { conn, message, room });
            }
            Message::Opened { ticket, batch, room } => {
                self.lanes.finish(ticket, Received::Batch(batch, room), &mut self.received);
            }
            Message::Ended(end) => {
                self.outbound.forget(end.conn);
                self.incoming.push_back(Incoming::End(end));
            }
            Message::Refused { conn, unreadable } => {
                self.outbound.forget(conn);
                self.inputs.push(Input::Refused { conn, unreadable });
            }
            Message::Posted { attempt, handover } => self.inputs.push(Input::Posted { attempt, handover }),
            Message::Sealed(sealed) => self.inputs.push(Input::Sealed(sealed)),
            Message::RecordsRenewed { ok } => self.inputs.push(Input::RecordsRenewed { ok }),
            Message::NetworkChanged => self.inputs.push(Input::NetworkChanged),
            Message::Suspend { done } => self.suspending = Some(done),
            Message::Resume { done } => drop(done.send(Ok(()))),
            Message::NextWork { reply } => drop(reply.send(self.engine.next_work())),
            Message::Close { done } => self.closing = Some(done),
            Message::WorkerPanicked => panic!("a worker panicked"),
        }
    }

    fn command(&mut self, command: Command, waiter: Waiter) {
        let id = CommandId(self.next_command);
        self.next_command += 1;
        self.waiters.insert(id, waiter);
        self.inputs.push(Input::Command { id, command });
    }

    /// Registers before it subscribes, so that no event falls between.
    fn listen(&mut self, listener: Arc<Listener>, reply: oneshot::Sender<Result<Reply, ClientError>>) {
        let topic = listener.topic();
        self.listeners.0.entry(topic).or_default().push(Arc::clone(&listener));
        self.command(Command::Subscribe { topic }, Waiter::Listener(topic, listener, reply));
    }

    fn unlisten(&mut self, topic: TopicId, listener: &Arc<Listener>) {
        if self.listeners.remove(topic, listener) {
            self.command(Command::Unsubscribe { topic }, Waiter::Nobody);
        }
    }

    /// One transaction for commands and news, up to [`BATCH_COMMANDS`].
    fn store_inputs(&mut self) {
        let rest = self.inputs.split_off(self.inputs.len().min(BATCH_COMMANDS));
        let inputs = std::mem::replace(&mut self.inputs, rest);
        self.handle(inputs);
    }

    /// One transaction of what was received and opened.
    fn store_slice(&mut self) {
        let (mut inputs, mut rooms, mut operations) = (Vec::new(), Vec::new(), 0);
        while operations < SLICE_OPERATIONS {
            match self.received.pop_front() {
                Some(Received::Batch(batch, room)) => {
                    operations += batch.len().max(1);
                    inputs.push(Input::Opened(batch));
                    rooms.push(room);
                }
                Some(Received::End(end)) => inputs.push(end.into()),
                None => break,
            }
        }
        if !inputs.is_empty() {
            self.handle(inputs);
        }
    }

    fn handle(&mut self, inputs: Vec<Input>) {
        let now = self.clock.now();
        match self.engine.handle(now, &mut self.entropy, inputs) {
            Ok(()) => {
                if std::mem::take(&mut self.failures) > 0 {
                    self.listeners.storage(None);
                }
            }
            Err(error) => self.failed(&error),
        }
        self.publish_outputs();
        self.stored();
    }

    /// The engine has rolled back, reloaded and answered whoever waited. A cause that stays must not make us spin.
    fn failed(&mut self, error: &EngineError) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(MAX_PAUSE);
        tracing::warn!(%error, ?pause, "a transaction failed and was rolled back");
        if self.failures == 0 {
            self.listeners.storage(Some(error));
        }
        self.failures += 1;
        self.paused_until = Some(instant() + pause);
    }

    fn triage_incoming(&mut self) {
        // A connection's frames come after the news that it is open, however many commands are ahead of that.
        if self.incoming.is_empty() || !self.inputs.is_empty() {
            return;
        }
        let now = self.clock.now();
        while let Some(incoming) = self.incoming.pop_front() {
            match incoming {
                Incoming::Frame { conn, message, room } => {
                    let room = Arc::new(room);
                    for job in self.engine.triage(now, conn, message, &mut self.entropy) {
                        let ticket = self.lanes.start(conn);
                        self.inbox.spawn_open(&self.workers, ticket, Arc::clone(&room), move || open(job));
                    }
                }
                // What came before the end is stored before it.
                Incoming::End(end) => {
                    let ticket = self.lanes.start(end.conn);
                    self.lanes.finish(ticket, Received::End(end), &mut self.received);
                }
            }
        }
        self.publish_outputs();
    }

    /// Does what the engine wants done. Everything it names is durable.
    fn publish_outputs(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Connect { conn, server, via, request } => {
                    self.outbound.connect(conn, &server, via, request, &self.inbox);
                }
                Output::ForgetConnections => self.outbound.forget_kept(),
                Output::Fetch { conn, server, via, request } => {
                    self.outbound.fetch(conn, &server, via, request, &self.inbox);
                }
                Output::Has { conn, server, via, topic, body } => {
                    self.outbound.has(conn, &server, via, (topic, body), &self.inbox);
                }
                Output::Disconnect { conn } => self.outbound.forget(conn),
                Output::RenewRecords { sources } => self.outbound.renew(sources, &self.inbox),
                Output::Post(job) => self.outbound.post(job, &self.workers, &self.inbox),
                Output::Seal(job) => self.inbox.spawn_seal(&self.workers, *job),
                Output::Reply { id, result } => self.reply(id, result.map_err(ClientError::from)),
                Output::Event(event) => self.tell(event),
            }
        }
    }

    fn reply(&mut self, id: CommandId, result: Result<Reply, ClientError>) {
        match self.waiters.remove(&id) {
            // A caller that went away has its answer in the database.
            Some(Waiter::Caller(reply)) => drop(reply.send(result)),
            Some(Waiter::Listener(topic, listener, reply)) => {
                if result.is_err() {
                    self.listeners.remove(topic, &listener);
                }
                drop(reply.send(result));
            }
            Some(Waiter::Nobody) | None => {}
        }
    }

    fn tell(&self, event: Event) {
        let Some(listeners) = self.listeners.0.get(&event.topic()) else { return };
        let now = instant();
        let Some((last, others)) = listeners.split_last() else { return };
        for listener in others {
            listener.push(event.clone(), now);
        }
        last.push(event, now);
    }
}

/// Says how the thread ended, for callers that come later or still wait.
struct Obituary(Inbox);

impl Drop for Obituary {
    fn drop(&mut self) {
        self.0.stopped(if std::thread::panicking() { Stopped::Panicked } else { Stopped::Closed });
    }
}
