//! One subscriber's WebSocket: opening frames, replay from the disk, then the topic's live frames.
//!
//! Messages are written as ready-made bytes shared among subscribers ([`line`]); the WebSocket library reads what the
//! client sends and answers its pings. The subscriber's only buffer is the page or the frames being written: the
//! socket itself is the backpressure.

mod line;
mod page;
mod silence;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Response};
use bytes::Bytes;
use delta_core::sync::frame::{Frame, SUBPROTOCOL};
use delta_core::topic::{Seq, TopicId};
use delta_server_shell::bucket::TokenBucket;
use delta_server_shell::limit::bound;
use delta_server_shell::platform;
use delta_server_shell::serve::Io;
use delta_server_shell::websocket::{self, Accept};
use delta_topic_log::{Cursor, HEAD_AFTER_OPS, LogReader, LogView, Next, Subscription, Write, json};
use futures_util::{FutureExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use self::line::{Gone, Line, Patience};
use self::page::{PAGE_OPS, Page};
use self::silence::{Due, Silence};
use crate::app::App;
use crate::live::{Found, LiveFrame, Membership, Published};
use crate::wire::{self, Wire};

/// Largest client message where clients may publish directly: an operation of 1 MiB in base64.
pub const MAX_DIRECT_MESSAGE: usize = 2 * 1024 * 1024;
/// Buffers of the WebSocket library, three for each socket: it reads what clients send and writes pongs, next to
/// nothing. Four times as much doubles the memory of an idle socket.
const BUFFER: usize = 1024;
/// What a slow subscriber is told to wait, milliseconds.
const SLOW_RETRY_MS: u32 = 1_000;
/// Client messages per ten seconds; above it the socket is closed.
const MESSAGES_PER_10_S: u64 = 200;
/// A topic with so many subscribers is crowded: each of them is written to at most once in [`PACE`] while few
/// operations wait. A commit of one operation would otherwise cost a write, a read and two wake-ups for each of them.
const CROWD: usize = 16;
const PACE: Duration = Duration::from_millis(5);
/// Operations that are not held back, however soon they come.
const PACE_OPS: u32 = 64;

const CLOSE_PROTOCOL: u16 = 1002;
const CLOSE_POLICY: u16 = 1008;
const CLOSE_TOO_BIG: u16 = 1009;
const CLOSE_RESTART: u16 = 1012;
const CLOSE_TRY_LATER: u16 = 1013;

/// Which frames a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Subprotocol `delta.sync.2`.
    Binary,
    /// No subprotocol: the original protocol.
    Json,
}

/// A valid WebSocket request (RFC 6455 §4.2.1).
#[derive(Debug)]
pub struct Handshake {
    accept: Accept,
    /// The frames the client asked for.
    pub mode: Mode,
}

impl Handshake {
    /// `None` when the request is no WebSocket upgrade.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mode = if websocket::offers(headers, SUBPROTOCOL) { Mode::Binary } else { Mode::Json };
        websocket::accept(headers).map(|accept| Self { accept, mode })
    }

    /// The answer that switches protocols.
    pub fn response(self) -> Response<Body> {
        let protocol = (self.mode == Mode::Binary).then_some(SUBPROTOCOL);
        websocket::switching(self.accept, protocol).map(|()| Body::empty())
    }
}

/// What a subscriber has proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderKey {
    /// The server asks for no proofs.
    NotAsked,
    /// This read key; `None`: the topic had none.
    Proved(Option<[u8; 32]>),
}

/// How a session ends.
#[derive(Debug)]
enum End {
    /// With this close code.
    Close(u16, &'static str),
    /// `slow`, then 1013.
    Slow,
    /// The client is gone.
    Gone,
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Serves a subscriber until either side ends it.
pub async fn serve(
    app: Arc<App>,
    upgraded: Upgraded,
    mode: Mode,
    topic: TopicId,
    cursor: Cursor,
    reader: ReaderKey,
) {
    let Ok(parts) = upgraded.downcast::<TokioIo<Io>>() else { return };
    let max = match usize::try_from(bound(app.limits.frame_bytes)).unwrap_or(usize::MAX) {
        max if app.accept_direct_publish => max.max(MAX_DIRECT_MESSAGE),
        max => max,
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(4 * BUFFER)
        .max_message_size(Some(max))
        .max_frame_size(Some(max));
    let (stream, early) = (parts.io.into_inner(), parts.read_buf.to_vec());
    let ws = WebSocketStream::from_partially_read(stream, early, Role::Server, Some(config)).await;
    app.metrics.sockets.inc();
    // Registered before the log is read: what is committed from now on reaches the ring.
    let member = app.live.join(topic);
    let watch = member.topic.watch();
    let published = *watch.borrow();
    let mut session = Session {
        evictions: published.evictions,
        signals: published.signals,
        reader,
        watch,
        closing: app.closing.subscribe(),
        messages: TokenBucket::full(platform::now()),
        silence: Silence::since(Instant::now()),
        rested: Instant::now(),
        member,
        mode,
        line: Line::new(ws, Patience::default(), Arc::clone(&app.metrics)),
        app: Arc::clone(&app),
    };
    let end = match session.open(topic, cursor).await {
        Ok(subscription) => session.run(subscription).await,
        Err(end) => end,
    };
    session.finish(end).await;
    app.metrics.sockets.sub(1);
}

struct Session {
    app: Arc<App>,
    line: Line<Io>,
    mode: Mode,
    member: Membership,
    watch: watch::Receiver<Published>,
    /// The topic's count of evictions when this subscriber joined.
    evictions: u64,
    /// Signals seen, or passed on before `ready`.
    signals: u64,
    reader: ReaderKey,
    closing: watch::Receiver<bool>,
    messages: TokenBucket,
    silence: Silence,
    /// Few operations of a crowded topic wait until this instant.
    rested: Instant,
}

impl Session {
    async fn open(&mut self, topic: TopicId, cursor: Cursor) -> Result<Subscription, End> {
        let secret = self.app.secret.clone();
        let now = platform::now();
        let reader = self.reader;
        let opened = self.app.readers.run(move |sql| {
            let view = LogView::read(sql, &secret, &topic)?;
            // It may have been closed, or got another read key, since the request was looked at.
            let refused = view.closed.is_some()
                || matches!(reader, ReaderKey::Proved(key) if sql.facts(&topic)?.read_key != key);
            if refused {
                return Ok(None);
            }
            Subscription::open(sql, &view, topic, &cursor, now).map(Some)
        });
        let (subscription, frames) = opened.await.map_err(|_| UNREADABLE)?.ok_or(SENT_AWAY)?;
        if frames.iter().any(|frame| matches!(frame, Frame::Reset { .. })) {
            self.app.metrics.resets.inc();
        }
        let wires: Vec<Wire> = frames.iter().filter_map(|frame| self.wire(&subscription, frame)).collect();
        self.line.write(&wires).await?;
        Ok(subscription)
    }

    async fn run(&mut self, mut subscription: Subscription) -> End {
        loop {
            if let Err(end) = self.step(&mut subscription).await {
                return end;
            }
        }
    }

    async fn step(&mut self, subscription: &mut Subscription) -> Result<(), End> {
        if *self.closing.borrow() {
            return Err(End::Close(CLOSE_RESTART, "the server is shutting down"));
        }
        if self.watch.borrow().evictions != self.evictions {
            return Err(SENT_AWAY);
        }
        while let Some(message) = self.line.ws.next().now_or_never() {
            self.hear(message).await?;
        }
        match subscription.next() {
            Next::Replay(after) => self.send_page(subscription, after).await,
            Next::Ready => {
                subscription.set_ready();
                // Signals speak of now: those of the replay's time are stale.
                self.signals = self.watch.borrow().signals;
                let head = self.sign(subscription);
                self.send(subscription, &Frame::Ready(head)).await
            }
            Next::Live(after) => {
                // Seen before it is looked for: what is published later wakes the wait below.
                let published = *self.watch.borrow_and_update();
                if published.signals != self.signals {
                    self.send_signals().await?;
                }
                match self.member.topic.after(after) {
                    Found::Frames(frames) if self.is_early(&frames) => self.rest().await,
                    Found::Frames(frames) => self.send_live(subscription, &frames).await,
                    Found::Disk if self.line.stalled() => Err(End::Slow),
                    Found::Disk => self.send_page(subscription, after).await,
                    Found::Nothing => self.wait(subscription).await,
                }
            }
        }
    }

    /// Whether it is better to wait for more: see [`CROWD`].
    fn is_early(&self, frames: &[Arc<LiveFrame>]) -> bool {
        Instant::now() < self.rested && frames.iter().map(|frame| frame.count).sum::<u32>() < PACE_OPS
    }

    /// Lets a moment pass, but not for a client that speaks or a server that stops.
    async fn rest(&mut self) -> Result<(), End> {
        tokio::select! {
            () = tokio::time::sleep_until(self.rested) => Ok(()),
            message = self.line.ws.next() => self.hear(message).await,
            _ = self.closing.changed() => Ok(()),
        }
    }

    async fn send_live(
        &mut self,
        subscription: &mut Subscription,
        frames: &[Arc<LiveFrame>],
    ) -> Result<(), End> {
        let now = platform::now();
        let mut wires = Vec::with_capacity(frames.len() + 4);
        let mut pushed = 0;
        for frame in frames {
            subscription.sent(frame.last, frame.chain, frame.count, now);
            pushed += u64::from(frame.count);
            match self.mode {
                Mode::Json => wires.push(frame.json().clone()),
                Mode::Binary => {
                    wires.push(frame.binary().clone());
                    if subscription.head_due(now) {
                        let head = || wire::binary(Frame::Head(self.sign(subscription)).encode());
                        wires.push(frame.head(head).clone());
                        subscription.head_sent();
                    }
                }
            }
        }
        self.app.metrics.pushed.add(pushed);
        if self.member.topic.listeners() >= CROWD {
            self.rested = Instant::now() + PACE;
        }
        Ok(self.line.write(&wires).await?)
    }

    async fn send_signals(&mut self) -> Result<(), End> {
        let (signals, seen) = self.member.topic.signals_after(self.signals);
        self.signals = seen;
        match self.mode {
            Mode::Binary => Ok(self.line.write(&signals).await?),
            Mode::Json => Ok(()),
        }
    }

    async fn send_page(&mut self, subscription: &mut Subscription, after: Seq) -> Result<(), End> {
        let (topic, mode, secret) = (*subscription.topic(), self.mode, self.app.secret.clone());
        // What is live is signed as often as when it comes by itself.
        let most = if subscription.is_ready() { HEAD_AFTER_OPS } else { PAGE_OPS };
        let page = self.app.readers.run(move |sql| Page::read(sql, &secret, &topic, after, most, mode)).await;
        let page = page.map_err(|_| UNREADABLE)?;
        if let Some((first, chain)) = page.gap
            && let Some(gap) = subscription.skip_to(first, chain)
        {
            self.send(subscription, &gap).await?;
        }
        let Some(chain) = page.chain else {
            // A page without operations must at least have moved the cursor, or this would never end.
            return if subscription.cursor() > after { Ok(()) } else { Err(UNREADABLE) };
        };
        let now = platform::now();
        subscription.sent(page.last, chain, page.count, now);
        self.app.metrics.replayed.add(page.count.into());
        self.line.write(&page.wires).await?;
        if subscription.head_due(now) {
            return self.send_head(subscription).await;
        }
        Ok(())
    }

    async fn send_head(&mut self, subscription: &mut Subscription) -> Result<(), End> {
        subscription.head_sent();
        let head = self.sign(subscription);
        self.send(subscription, &Frame::Head(head)).await
    }

    /// Nothing to send: waits for something to do.
    async fn wait(&mut self, subscription: &mut Subscription) -> Result<(), End> {
        let now = platform::now();
        let silence = match subscription.head_deadline() {
            Some(deadline) if self.mode == Mode::Binary => Duration::from_millis(deadline.since(now)),
            _ => Duration::MAX,
        };
        let next_ping = self.silence.deadline().saturating_duration_since(Instant::now());
        tokio::select! {
            changed = self.watch.changed() => changed.map_err(|_| End::Gone),
            message = self.line.ws.next() => self.hear(message).await,
            _ = self.closing.changed() => Ok(()),
            () = tokio::time::sleep(silence.min(next_ping)) => {
                if subscription.head_due(platform::now()) && self.mode == Mode::Binary {
                    return self.send_head(subscription).await;
                }
                match self.silence.due(Instant::now()) {
                    Due::Nothing => Ok(()),
                    Due::Ping => Ok(self.line.ping().await?),
                    Due::End => Err(End::Gone),
                }
            }
        }
    }

    /// What a client may say: next to nothing.
    async fn hear(&mut self, message: Option<Result<Message, Error>>) -> Result<(), End> {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(Error::Capacity(_))) => {
                return Err(End::Close(CLOSE_TOO_BIG, "the message is too large"));
            }
            Some(Err(Error::Protocol(_) | Error::Utf8(_))) => {
                return Err(End::Close(CLOSE_PROTOCOL, "not a valid WebSocket message"));
            }
            Some(Err(_)) | None => return Err(End::Gone),
        };
        self.silence = Silence::since(Instant::now());
        if self.messages.take(platform::now(), 1, MESSAGES_PER_10_S, 10_000).is_err() {
            return Err(End::Close(CLOSE_TRY_LATER, "too many messages"));
        }
        match message {
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(self.line.flush().await?),
            Message::Close(_) => {
                self.line.flush().await?;
                Err(End::Gone)
            }
            Message::Binary(bytes) => match bytes.first() {
                Some(2 | 6) => Err(self.refuse_publish()),
                _ => Err(End::Close(CLOSE_PROTOCOL, "clients send no frames")),
            },
            Message::Text(text) => match json::client_message(text.as_str()) {
                json::ClientMessage::Op(op) if self.app.accept_direct_publish => {
                    self.publish(op.into()).await
                }
                json::ClientMessage::Op(_) | json::ClientMessage::MalformedOp => Err(self.refuse_publish()),
                json::ClientMessage::Other => Err(End::Close(CLOSE_PROTOCOL, "clients send no frames")),
            },
        }
    }

    fn refuse_publish(&self) -> End {
        self.app.metrics.refuse_publish.inc();
        End::Close(CLOSE_POLICY, "publishing goes through the onion")
    }

    /// A direct publish, where the operator switched it on. The echo is the answer.
    async fn publish(&mut self, op: Bytes) -> Result<(), End> {
        let permit = self.app.admit(op.len()).ok_or(End::Close(CLOSE_TRY_LATER, "the server is busy"))?;
        let topic = *self.member.id();
        match self.app.writer.store(topic, op, Write::Unsigned, permit).await {
            Ok(_) => Ok(()),
            Err(_) => Err(End::Close(CLOSE_POLICY, "the operation was refused")),
        }
    }

    fn sign(&self, subscription: &Subscription) -> delta_core::topic::SignedHead {
        let (topic, generation) = (subscription.topic(), subscription.generation());
        self.app.sign(topic, generation, subscription.cursor(), *subscription.chain())
    }

    async fn send(&mut self, subscription: &Subscription, frame: &Frame) -> Result<(), End> {
        match self.wire(subscription, frame) {
            Some(wire) => Ok(self.line.write(&[wire]).await?),
            None => Ok(()),
        }
    }

    /// A frame in the client's language; JSON has no word for some.
    fn wire(&self, subscription: &Subscription, frame: &Frame) -> Option<Wire> {
        if self.mode == Mode::Binary {
            return Some(wire::binary(frame.encode()));
        }
        match frame {
            Frame::Ready(head) => Some(wire::text(json::ready(subscription.generation(), head))),
            Frame::Gap { from, to, chain } => Some(wire::text(json::gap(*from, *to, chain))),
            Frame::Reset { generation, head } => Some(wire::text(json::reset(generation, *head))),
            _ => None,
        }
    }

    async fn finish(mut self, end: End) {
        let (code, reason) = match end {
            End::Gone => return,
            End::Close(code, reason) => (code, reason),
            End::Slow => {
                self.app.metrics.slow.inc();
                let slow = wire::binary(Frame::Slow { retry_after_ms: SLOW_RETRY_MS }.encode());
                if self.mode == Mode::Binary && self.line.write(&[slow]).await.is_err() {
                    return;
                }
                (CLOSE_TRY_LATER, "too slow")
            }
        };
        self.line.close(code, reason).await;
    }
}

const SENT_AWAY: End = End::Close(CLOSE_POLICY, "the topic is closed, or has another read key");
const UNREADABLE: End = End::Close(CLOSE_TRY_LATER, "the log cannot be read now");
