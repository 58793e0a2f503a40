//! The session of one topic: connect, hello, reset, gap, replay, ready, live, and back again.
//!
//! Pure: frames and instants in, [`Step`]s, [`Transmit`]s and the next deadline out. The session checks the
//! server's story as it is told (order, chain, signed heads) before anything of it is opened or stored, and keeps
//! the position *received*; the position *stored* is the cursor in the database, from which a new session starts.

use std::collections::VecDeque;

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use thiserror::Error;

use crate::codec::DecodeError;
use crate::entropy::Entropy;
use crate::identity::{EnvelopeHash, Millis};
use crate::sync::backoff::Backoff;
use crate::sync::frame::Frame;
use crate::topic::{Chain, Generation, Seq, SignedHead, TopicId};

/// Time the driver has to open a connection, milliseconds.
pub const CONNECT_TIMEOUT_MS: u64 = 20_000;
/// Time without any frame before `ready` after which the connection is given up, milliseconds.
pub const PROGRESS_TIMEOUT_MS: u64 = 30_000;
/// A connection that was ready this long has proven itself: its loss is answered by an immediate reconnect.
pub const PROVEN_AFTER_MS: u64 = 5_000;
/// Least pause after a server broke the protocol, milliseconds: it must not make us spin.
pub const FAULT_PAUSE_MS: u64 = 1_000;
/// Longest pause a server can ask for, milliseconds: one frame must not silence a topic for weeks.
pub const MAX_RETRY_AFTER_MS: u64 = 15 * 60_000;

/// One connection attempt of this process. Never used twice, so that late frames of an old one are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A position in a server's copy of a topic log: what is stored up to `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The server's copy.
    pub generation: Generation,
    /// Resets this device went through in this topic.
    pub resets: u32,
    /// The last seq taken.
    pub seq: Seq,
    /// The chain value at `seq`.
    pub chain: Chain,
}

/// What the driver asks the server for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// The topic.
    pub topic: TopicId,
    /// The last seq this device has.
    pub since: Seq,
    /// The log it belongs to, with the chain's first bytes; `None` on first contact.
    pub resume: Option<(Generation, [u8; 8])>,
}

impl SubscribeRequest {
    /// The path and query below the server's base URL.
    pub fn path(&self) -> String {
        let path = format!("/topic/{}?since={}", self.topic, self.since);
        match &self.resume {
            None => path,
            Some((generation, chain)) => {
                format!("{path}&generation={generation}&chain={}", hex::encode(chain))
            }
        }
    }
}

/// What the session wants done on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// Open a WebSocket.
    Connect {
        /// The new connection.
        conn: ConnId,
        /// What to ask for.
        request: SubscribeRequest,
    },
    /// Close it and report nothing more of it.
    Close {
        /// The connection.
        conn: ConnId,
    },
}

/// One thing the server said that belongs into the database, in order, with the cursor it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The position once this step is stored.
    pub cursor: Cursor,
    /// What happened.
    pub kind: StepKind,
}

/// See [`Step`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// The log at hand is another one; everything is counted anew.
    Reset {
        /// Its last seq.
        head: Seq,
    },
    /// Operations `from..=to` are evicted.
    Gap {
        /// First missing seq.
        from: Seq,
        /// Last missing seq.
        to: Seq,
    },
    /// An envelope at `cursor.seq`.
    Op {
        /// Its hash.
        hash: EnvelopeHash,
        /// The server's clock when it took it.
        received: Millis,
        /// The envelope.
        envelope: Bytes,
    },
    /// Everything up to the head has been sent; the head is verified.
    Ready(SignedHead),
    /// A later head, verified.
    Head(SignedHead),
    /// A signal's envelope: nothing to store, the position stays.
    Signal(Bytes),
}

/// The server broke the protocol. The connection is closed, nothing of the faulty frame is used, and a new
/// connection starts from the stored cursor after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// A message that is no frame.
    #[error("the server sent a message that is no frame: {0}")]
    Decode(#[from] DecodeError),
    /// A frame out of order.
    #[error("the server sent `{0}` where the protocol does not allow it")]
    Unexpected(&'static str),
    /// A seq that does not follow the one before.
    #[error("the server sent seq {got} after {last}")]
    Sequence {
        /// The last seq received.
        last: Seq,
        /// The one that came.
        got: Seq,
    },
    /// A head beyond the largest seq there can be.
    #[error("the server claims a head of {0}, which no log can have")]
    HeadTooLarge(Seq),
    /// A head that is not signed by the pinned server.
    #[error("the server's signed head does not verify under the pinned key")]
    HeadSignature,
    /// A head that contradicts the operations sent.
    #[error("the server's signed head contradicts the operations it sent")]
    HeadChain,
    /// A page of history that does not answer what was asked for.
    #[error("the server's page of history is not the one that was asked for")]
    Page,
    /// A page of history that is not what the server sent before.
    #[error("the server's history has another operation at {0} than it sent before")]
    History(Seq),
    /// Nothing came in time.
    #[error("the server sent nothing for {} s", PROGRESS_TIMEOUT_MS / 1000)]
    NoProgress,
}

/// Where a session stands, as shown to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Not wanted, or waiting for the next attempt.
    Offline,
    /// The device has more topics than sockets, and used others later: caught up from time to time.
    Parked,
    /// Connecting or waiting for the server's hello.
    Connecting,
    /// Receiving the stored log.
    Replaying,
    /// Everything up to now is here; new operations arrive as they happen.
    Live,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Stopped,
    Waiting { until: Millis },
    Connecting { conn: ConnId, deadline: Millis },
    Open { conn: ConnId, phase: Phase, deadline: Millis },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    AwaitHello,
    /// Hello came with another generation than the cursor's, or with a lower head: only a reset may follow.
    AwaitReset(Generation),
    /// Hello came, nothing after it: the one place for a reset within the cursor's generation.
    Greeted,
    Replay,
    Live {
        since: Millis,
    },
}

impl Phase {
    /// Once the log itself has begun.
    const fn after_hello(self) -> Self {
        match self {
            Self::Greeted => Self::Replay,
            other => other,
        }
    }
}

/// The session of one topic with one pinned server.
#[derive(Clone, Debug)]
pub struct Session {
    topic: TopicId,
    server: VerifyingKey,
    /// The position received on this connection (ahead of the stored cursor).
    received: Option<Cursor>,
    state: State,
    backoff: Backoff,
    /// What the server asked for before it closes.
    retry_floor_ms: u64,
    /// No connection before this instant, also when the topic is left and wanted again meanwhile.
    not_before: Millis,
    transmits: VecDeque<Transmit>,
    /// What the last hello said of the server's clock, until it is asked for.
    server_time: Option<Millis>,
}

impl Session {
    /// A stopped session.
    pub fn new(topic: TopicId, server: VerifyingKey) -> Self {
        Self {
            topic,
            server,
            received: None,
            state: State::Stopped,
            backoff: Backoff::default(),
            retry_floor_ms: 0,
            not_before: Millis(0),
            transmits: VecDeque::new(),
            server_time: None,
        }
    }

    /// Starts connecting, unless it already does or is: at once, but not before the instant the last connection's end
    /// asked for. Past failures still count.
    pub fn start(&mut self, now: Millis) {
        if matches!(self.state, State::Stopped) {
            // A clock that went back must not stop the topic for good.
            let until = self.not_before.min(now.plus(MAX_RETRY_AFTER_MS)).max(now);
            self.state = State::Waiting { until };
        }
    }

    /// Closes the connection, if any, and stays offline until [`Self::start`].
    pub fn stop(&mut self) {
        if let Some(conn) = self.conn() {
            self.transmits.push_back(Transmit::Close { conn });
        }
        self.state = State::Stopped;
    }

    /// Forgets its connection, which whoever calls this closes, but not what past ones have taught it: failures, and a
    /// pause the server asked for.
    pub fn restart(&mut self) {
        self.transmits.clear();
        self.received = None;
        self.state = State::Stopped;
    }

    /// The connection in use.
    pub const fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Connecting { conn, .. } | State::Open { conn, .. } => Some(conn),
            State::Stopped | State::Waiting { .. } => None,
        }
    }

    /// Where the session stands.
    pub const fn connection(&self) -> Connection {
        match self.state {
            State::Stopped | State::Waiting { .. } => Connection::Offline,
            State::Open { phase: Phase::Live { .. }, .. } => Connection::Live,
            State::Open { phase: Phase::Greeted | Phase::Replay, .. } => Connection::Replaying,
            State::Connecting { .. } | State::Open { .. } => Connection::Connecting,
        }
    }

    /// The network changed: forget past failures and connect now. A connection over the old network may be dead
    /// without anybody having said so, and says nothing until it times out: it is replaced.
    pub fn network_changed(&mut self, now: Millis) {
        self.backoff.reset();
        self.retry_floor_ms = 0;
        self.not_before = Millis(0);
        if let Some(conn) = self.conn() {
            self.transmits.push_back(Transmit::Close { conn });
        }
        if !matches!(self.state, State::Stopped) {
            self.state = State::Waiting { until: now };
        }
    }

    /// The driver opened the connection.
    pub const fn handle_connected(&mut self, now: Millis, conn: ConnId) {
        if let State::Connecting { conn: current, .. } = self.state
            && current.0 == conn.0
        {
            let deadline = now.plus(PROGRESS_TIMEOUT_MS);
            self.state = State::Open { conn, phase: Phase::AwaitHello, deadline };
        }
    }

    /// The connection is gone or could not be opened. `retry_after_ms` is the server's wish, 0 for none.
    pub fn handle_disconnected(
        &mut self,
        now: Millis,
        conn: ConnId,
        retry_after_ms: u64,
        entropy: &mut dyn Entropy,
    ) {
        if self.conn() == Some(conn) {
            self.wait(now, retry_after_ms, entropy);
        }
    }

    /// Deadlines: opens the next connection from `cursor` (the stored one), or gives up one that hangs.
    pub fn handle_timeout(
        &mut self,
        now: Millis,
        cursor: Option<Cursor>,
        fresh: ConnId,
        entropy: &mut dyn Entropy,
    ) -> Option<Fault> {
        match self.state {
            State::Waiting { until } if until <= now => {
                self.received = cursor;
                self.state = State::Connecting { conn: fresh, deadline: now.plus(CONNECT_TIMEOUT_MS) };
                let since = cursor.map_or(Seq(0), |cursor| cursor.seq);
                let resume = cursor.map(|cursor| (cursor.generation, cursor.chain.prefix()));
                let request = SubscribeRequest { topic: self.topic, since, resume };
                self.transmits.push_back(Transmit::Connect { conn: fresh, request });
                None
            }
            State::Connecting { conn, deadline } | State::Open { conn, deadline, .. } if deadline <= now => {
                self.give_up(now, conn, entropy);
                Some(Fault::NoProgress)
            }
            _ => None,
        }
    }

    /// One message of `conn`. The steps belong into the database in this order. On a fault the connection is
    /// already given up.
    pub fn handle_frame(
        &mut self,
        now: Millis,
        conn: ConnId,
        message: Bytes,
        entropy: &mut dyn Entropy,
    ) -> Result<Vec<Step>, Fault> {
        let State::Open { conn: current, phase, deadline } = self.state else { return Ok(Vec::new()) };
        if current != conn {
            return Ok(Vec::new());
        }
        let result = Frame::decode(message).map_err(Fault::from).and_then(|frame| {
            let mut steps = Vec::new();
            self.take(now, phase, frame, &mut steps).map(|phase| (phase, steps))
        });
        match result {
            Ok((phase, steps)) => {
                let live = matches!(phase, Phase::Live { .. });
                let deadline =
                    if live { Millis(u64::MAX) } else { deadline.max(now.plus(PROGRESS_TIMEOUT_MS)) };
                self.state = State::Open { conn, phase, deadline };
                Ok(steps)
            }
            Err(fault) => {
                self.give_up(now, conn, entropy);
                Err(fault)
            }
        }
    }

    /// Gives the connection up because of what the operations on it turned out to be.
    pub fn give_up(&mut self, now: Millis, conn: ConnId, entropy: &mut dyn Entropy) {
        if self.conn() == Some(conn) {
            self.transmits.push_back(Transmit::Close { conn });
            self.wait(now, FAULT_PAUSE_MS, entropy);
        }
    }

    /// The server's clock, once for each hello.
    pub fn take_server_time(&mut self) -> Option<Millis> {
        self.server_time.take()
    }

    /// The next thing to do on the network.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Millis> {
        match self.state {
            State::Stopped => None,
            State::Waiting { until } => Some(until),
            State::Connecting { deadline, .. } | State::Open { deadline, .. } => {
                (deadline.0 < u64::MAX).then_some(deadline)
            }
        }
    }

    fn wait(&mut self, now: Millis, floor_ms: u64, entropy: &mut dyn Entropy) {
        if let State::Open { phase: Phase::Live { since }, .. } = self.state
            && now.since(since) >= PROVEN_AFTER_MS
        {
            self.backoff.reset();
        }
        let floor = floor_ms.max(std::mem::take(&mut self.retry_floor_ms)).min(MAX_RETRY_AFTER_MS);
        self.not_before = now.plus(floor);
        let until = now.plus(self.backoff.next_delay(floor, entropy));
        self.state = State::Waiting { until };
    }

    fn take(
        &mut self,
        now: Millis,
        phase: Phase,
        frame: Frame,
        steps: &mut Vec<Step>,
    ) -> Result<Phase, Fault> {
        match (phase, frame) {
            (Phase::AwaitHello, Frame::Hello { generation, head, server_time, .. }) => {
                self.server_time = Some(server_time);
                self.hello(generation, head)
            }
            (Phase::AwaitHello, _) => Err(Fault::Unexpected("a frame before hello")),
            (_, Frame::Hello { .. }) => Err(Fault::Unexpected("a second hello")),
            (Phase::AwaitReset(expected), Frame::Reset { generation, head }) if generation == expected => {
                self.reset(generation, head, steps)
            }
            (Phase::Greeted, Frame::Reset { generation, head }) => match self.received {
                Some(cursor) if cursor.generation == generation => self.reset(generation, head, steps),
                _ => Err(Fault::Unexpected("reset of another generation than hello's")),
            },
            (_, Frame::Reset { .. }) => Err(Fault::Unexpected("reset")),
            (_, Frame::Slow { retry_after_ms }) => {
                self.retry_floor_ms = u64::from(retry_after_ms);
                Ok(phase)
            }
            (Phase::AwaitReset(_), _) => Err(Fault::Unexpected("a frame before reset")),
            // Also while live: operations can be evicted before a slow subscriber has got them.
            (_, Frame::Gap { from, to, chain }) => {
                self.gap(from, to, chain, steps)?;
                Ok(phase.after_hello())
            }
            (_, Frame::Ops(ops)) => {
                for op in ops {
                    let hash = EnvelopeHash::of(&op.op);
                    let cursor = self.advance(op.seq, &hash)?;
                    let kind = StepKind::Op { hash, received: op.received, envelope: op.op };
                    steps.push(Step { cursor, kind });
                }
                Ok(phase.after_hello())
            }
            (Phase::Greeted | Phase::Replay, Frame::Ready(head)) => {
                let cursor = self.check_head(&head)?;
                steps.push(Step { cursor, kind: StepKind::Ready(head) });
                Ok(Phase::Live { since: now })
            }
            (_, Frame::Ready(_)) => Err(Fault::Unexpected("a second ready")),
            (Phase::Live { .. }, Frame::Head(head)) => {
                let cursor = self.check_head(&head)?;
                steps.push(Step { cursor, kind: StepKind::Head(head) });
                Ok(phase)
            }
            (_, Frame::Head(_)) => Err(Fault::Unexpected("head before ready")),
            (Phase::Live { .. }, Frame::Signal(envelope)) => {
                let Some(cursor) = self.received else { return Err(Fault::Unexpected("signal")) };
                steps.push(Step { cursor, kind: StepKind::Signal(envelope) });
                Ok(phase)
            }
            // Of the moment, and this device is not there yet.
            (_, Frame::Signal(_)) => Ok(phase),
        }
    }

    fn hello(&mut self, generation: Generation, head: Seq) -> Result<Phase, Fault> {
        if head > Seq::MAX {
            return Err(Fault::HeadTooLarge(head));
        }
        match self.received {
            // Another log, or one that is shorter than what was read of it: the server must say so.
            Some(cursor) if cursor.generation != generation || cursor.seq > head => {
                Ok(Phase::AwaitReset(generation))
            }
            Some(_) => Ok(Phase::Greeted),
            None => {
                let chain = Chain::start(&self.topic, &generation);
                self.received = Some(Cursor { generation, resets: 0, seq: Seq(0), chain });
                Ok(Phase::Replay)
            }
        }
    }

    fn reset(&mut self, generation: Generation, head: Seq, steps: &mut Vec<Step>) -> Result<Phase, Fault> {
        if head > Seq::MAX {
            return Err(Fault::HeadTooLarge(head));
        }
        let resets = self.received.map_or(0, |cursor| cursor.resets.saturating_add(1));
        let chain = Chain::start(&self.topic, &generation);
        let cursor = Cursor { generation, resets, seq: Seq(0), chain };
        self.received = Some(cursor);
        steps.push(Step { cursor, kind: StepKind::Reset { head } });
        Ok(Phase::Replay)
    }

    fn gap(&mut self, from: Seq, to: Seq, chain: Chain, steps: &mut Vec<Step>) -> Result<(), Fault> {
        let Some(cursor) = &mut self.received else { return Err(Fault::Unexpected("gap")) };
        if to > Seq::MAX {
            return Err(Fault::HeadTooLarge(to));
        }
        if cursor.seq.next() != Some(from) || to < from {
            return Err(Fault::Sequence { last: cursor.seq, got: from });
        }
        (cursor.seq, cursor.chain) = (to, chain);
        steps.push(Step { cursor: *cursor, kind: StepKind::Gap { from, to } });
        Ok(())
    }

    fn advance(&mut self, seq: Seq, hash: &EnvelopeHash) -> Result<Cursor, Fault> {
        let Some(cursor) = &mut self.received else { return Err(Fault::Unexpected("ops")) };
        if cursor.seq.next() != Some(seq) {
            return Err(Fault::Sequence { last: cursor.seq, got: seq });
        }
        cursor.chain = cursor.chain.next(seq, hash);
        cursor.seq = seq;
        Ok(*cursor)
    }

    fn check_head(&self, head: &SignedHead) -> Result<Cursor, Fault> {
        let Some(cursor) = self.received else { return Err(Fault::Unexpected("head")) };
        if head.head > Seq::MAX {
            return Err(Fault::HeadTooLarge(head.head));
        }
        if head.head != cursor.seq {
            return Err(Fault::Sequence { last: cursor.seq, got: head.head });
        }
        if !head.verify(&self.server, &self.topic, &cursor.generation) {
            return Err(Fault::HeadSignature);
        }
        if head.chain != cursor.chain {
            return Err(Fault::HeadChain);
        }
        Ok(cursor)
    }
}

#[cfg(test)]
mod tests;
