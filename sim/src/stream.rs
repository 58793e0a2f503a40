//! WebSockets between devices and the server: ordered, reliable until cut, and cut at any place.

use std::collections::VecDeque;

use bytes::Bytes;
use delta_core::identity::{EnvelopeHash, Millis};
use delta_core::sync::frame::Frame;
use delta_core::sync::history::HistoryRequest;
use delta_core::sync::session::{ConnId, SubscribeRequest};
use delta_core::topic::{Seq, TopicId};
use delta_topic_log::Cursor;

use crate::faults::Fault;
use crate::net::{HTTP_TIMEOUT_MS, Node, PING_TIMEOUT_MS};
use crate::script::Answer;
use crate::server::ServerOutput;
use crate::violation::Violation;
use crate::world::{Event, World};

/// Longest pause a server asks for, milliseconds: beyond what a device believes.
const MAX_RETRY_AFTER_MS: u64 = 20 * 60_000;
/// The pause that a client reads from close code 1013, milliseconds.
const TRY_AGAIN_MS: u64 = 1_000;

/// Names a socket in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub u64);

/// A socket.
#[derive(Debug)]
pub(crate) struct Stream {
    pub device: usize,
    pub life: u64,
    pub conn: ConnId,
    /// The relay that carries it.
    pub via: Option<usize>,
    request: Request,
    /// On the way to the device.
    to_device: VecDeque<Item>,
    /// When the last of them arrives: none overtakes another.
    last: Millis,
    /// Nothing more gets through.
    cut: bool,
}

/// What a device wants of the server.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// A WebSocket.
    Subscribe(SubscribeRequest),
    /// A page of history: one answer, then the end.
    Page(HistoryRequest),
    /// Which of these envelopes stand in a topic: one answer, then the end.
    Has(TopicId, Vec<EnvelopeHash>),
}

/// What arrives at the device.
#[derive(Debug)]
pub(crate) enum Item {
    Open,
    Message(Bytes),
    Closed {
        retry_after_ms: u64,
    },
    /// The relay that carried it is gone, or the way through it.
    TunnelLost,
}

impl Stream {
    /// The topic it is subscribed to.
    pub(crate) const fn topic(&self) -> Option<TopicId> {
        match &self.request {
            Request::Subscribe(request) => Some(request.topic),
            Request::Page(_) | Request::Has(..) => None,
        }
    }
}

impl World {
    /// A device opens a socket, directly or through a tunnel.
    pub(crate) fn open_stream(
        &mut self,
        device: usize,
        life: u64,
        conn: ConnId,
        via: Option<usize>,
        request: Request,
    ) {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        let now = self.now();
        let to_device = VecDeque::new();
        let state = Stream { device, life, conn, via, request, to_device, last: now, cut: false };
        self.streams.insert(stream, state);
        self.devices[device].bind(conn, stream);
        if self.is_cut_off(device, via) || self.faults.strikes(Fault::Loss, 150, &mut self.rng) {
            let after = if self.rng.chance(500) { HTTP_TIMEOUT_MS } else { 20 };
            self.after(after, Event::StreamLost { stream });
            return;
        }
        let latency = self.way(device, via);
        self.after(latency, Event::StreamArrives { stream });
    }

    /// Whether nothing passes between a device and the server.
    pub(crate) fn is_cut_off(&self, device: usize, via: Option<usize>) -> bool {
        let (device, server) = (Node::Device(device), Node::Server);
        match via {
            None => self.net.is_blocked(device, server),
            Some(relay) => {
                let carries = self.relays[relay].actor.is_up();
                let relay = Node::Relay(relay);
                !carries || self.net.is_blocked(device, relay) || self.net.is_blocked(relay, server)
            }
        }
    }

    /// How long one message takes.
    fn way(&mut self, device: usize, via: Option<usize>) -> u64 {
        let stops = [Some(Node::Device(device)), via.map(Node::Relay), Some(Node::Server)];
        let stops: Vec<Node> = stops.into_iter().flatten().collect();
        let legs = stops.windows(2).filter_map(|leg| Some((*leg.first()?, *leg.last()?)));
        legs.map(|(a, b)| self.net.latency(a, b, &mut self.faults, &mut self.rng)).sum()
    }

    /// The request reaches the server.
    pub(crate) fn stream_arrives(&mut self, stream: StreamId) -> Result<(), Violation> {
        let now = self.now();
        let Some(Stream { cut: false, request, .. }) = self.streams.get(&stream) else { return Ok(()) };
        let request = match request {
            Request::Subscribe(request) => request,
            Request::Has(topic, hashes) => {
                let seq = |hash| self.server.find(topic, hash).unwrap_or(Seq(0)).0.to_be_bytes();
                let seqs: Vec<u8> = hashes.iter().flat_map(seq).collect();
                self.push(stream, Item::Message(seqs.into()));
                self.push(stream, Item::Closed { retry_after_ms: 0 });
                return Ok(());
            }
            Request::Page(request) => {
                match self.server.handle_history(request) {
                    Ok(page) => {
                        self.push(stream, Item::Message(page));
                        self.push(stream, Item::Closed { retry_after_ms: 0 });
                    }
                    Err(Answer::Hang | Answer::Late(..)) => {
                        self.after(HTTP_TIMEOUT_MS, Event::StreamLost { stream })
                    }
                    Err(_) => self.push(stream, Item::Closed { retry_after_ms: 0 }),
                }
                return Ok(());
            }
        };
        let cursor = Cursor {
            since: request.since,
            generation: request.resume.map(|(generation, _)| generation),
            chain: request.resume.map(|(_, chain)| chain),
        };
        let topic = request.topic;
        if self.faults.strikes(Fault::Busy, 100, &mut self.rng) {
            let retry_after_ms = self.rng.skewed(1_000, MAX_RETRY_AFTER_MS);
            self.push(stream, Item::Closed { retry_after_ms });
            return Ok(());
        }
        let answer = self.server.handle_subscribe(now, stream.0, topic, &cursor);
        match answer {
            Answer::Status(101) => self.push(stream, Item::Open),
            Answer::Hang | Answer::Late(..) => {}
            Answer::Status(_) | Answer::Redirect | Answer::Bytes(_) | Answer::Cut => {
                self.push(stream, Item::Closed { retry_after_ms: 0 });
            }
        }
        self.drain_server()
    }

    /// Puts something on its way to the device.
    fn push(&mut self, stream: StreamId, item: Item) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if state.cut {
            return;
        }
        let (device, via) = (state.device, state.via);
        if self.is_cut_off(device, via) {
            // What is sent into a partition never arrives: TCP gives up, the pings find out.
            let _ = self.cut_stream(stream);
            return;
        }
        let latency = self.way(device, via);
        let now = self.now();
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.last = state.last.max(now.plus(latency));
        state.to_device.push_back(item);
        let at = state.last;
        self.at(at, Event::StreamReadable { stream });
    }

    /// The first thing on its way arrives. (Each has its own event; which event brings which does not matter.)
    pub(crate) fn stream_readable(&mut self, stream: StreamId) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        let Some(item) = state.to_device.pop_front() else { return };
        let (device, life, conn) = (state.device, state.life, state.conn);
        let subscribed = state.topic();
        let closed = matches!(item, Item::Closed { .. });
        if let (Item::Closed { retry_after_ms }, Some(topic)) = (&item, subscribed) {
            self.pause(device, life, conn, topic, *retry_after_ms);
        }
        if closed {
            self.streams.remove(&stream);
        }
        self.device_receives(device, life, conn, item);
    }

    /// Cuts a socket in the middle: what is on its way is lost, each end finds out in its own time. Says whether there
    /// was anything to cut.
    pub(crate) fn cut_stream(&mut self, stream: StreamId) -> bool {
        let Some(state) = self.streams.get_mut(&stream) else { return false };
        if std::mem::replace(&mut state.cut, true) {
            return false;
        }
        // The beginning of what is on its way may still arrive.
        let arrives = self.rng.index(state.to_device.len() + 1);
        state.to_device.truncate(arrives);
        let last = state.last;
        let device_after = self.rng.skewed(1, PING_TIMEOUT_MS);
        let server_after = self.rng.skewed(1, PING_TIMEOUT_MS);
        self.at(last.max(self.now().plus(device_after)), Event::StreamLost { stream });
        self.after(server_after, Event::StreamForgotten { stream });
        true
    }

    /// The device's end finds out.
    pub(crate) fn stream_lost(&mut self, stream: StreamId) {
        if let Some(state) = self.streams.remove(&stream) {
            let item = match state.via {
                Some(_) => Item::TunnelLost,
                None => Item::Closed { retry_after_ms: 0 },
            };
            self.device_receives(state.device, state.life, state.conn, item);
        }
    }

    /// The device closes its end, or dies.
    pub(crate) fn close_stream(&mut self, stream: StreamId) {
        if let Some(state) = self.streams.remove(&stream) {
            let after = match self.is_cut_off(state.device, state.via) {
                true => PING_TIMEOUT_MS,
                false => self.way(state.device, state.via),
            };
            self.after(after, Event::StreamForgotten { stream });
        }
    }

    /// The tunnels of a relay break with it.
    pub(crate) fn cut_tunnels(&mut self, relay: usize) {
        let its = self.streams.iter().filter(|(_, stream)| stream.via == Some(relay));
        for stream in its.map(|(id, _)| *id).collect::<Vec<_>>() {
            let _ = self.cut_stream(stream);
        }
    }

    /// Every socket is gone at the server's end.
    pub(crate) fn cut_all_streams(&mut self) {
        let streams: Vec<StreamId> = self.streams.keys().copied().collect();
        for stream in streams {
            let _ = self.cut_stream(stream);
        }
    }

    /// Carries out what the server wants, looks at what it committed, and sets its timer.
    pub(crate) fn drain_server(&mut self) -> Result<(), Violation> {
        while let Some((topic, envelope)) = self.server.poll_committed() {
            self.committed(topic, &envelope)?;
        }
        while let Some(output) = self.server.poll_output() {
            match output {
                ServerOutput::Frame { conn, message } => {
                    self.push(StreamId(conn), Item::Message(message));
                    if self.faults.may_strike(Fault::Busy, 20, &mut self.rng) {
                        self.shed(StreamId(conn));
                    }
                }
                ServerOutput::Close { conn, .. } => {
                    self.push(StreamId(conn), Item::Closed { retry_after_ms: 0 })
                }
                ServerOutput::Cut { conn } => {
                    let _ = self.cut_stream(StreamId(conn));
                }
            }
        }
        let due = self.server.poll_timeout();
        if due != self.server_timer {
            self.server_timer = due;
            due.into_iter().for_each(|at| self.at(at, Event::ServerTimer));
        }
        Ok(())
    }

    /// The server closes a socket with 1013, after it said for how long.
    fn shed(&mut self, stream: StreamId) {
        let Some(Stream { cut: false, .. }) = self.streams.get(&stream) else { return };
        self.faults.count(Fault::Busy, 1);
        let retry_after_ms = self.rng.skewed(1_000, MAX_RETRY_AFTER_MS);
        let slow = Frame::Slow { retry_after_ms: u32::try_from(retry_after_ms).unwrap_or(u32::MAX) };
        self.push(stream, Item::Message(slow.encode().into()));
        self.push(stream, Item::Closed { retry_after_ms: TRY_AGAIN_MS });
        self.server.handle_closed(stream.0);
    }

    pub(crate) fn server_due(&mut self) -> Result<(), Violation> {
        let now = self.now();
        self.server_timer = None;
        self.server.handle_timeout(now);
        self.drain_server()
    }

    pub(crate) fn start_server(&mut self) {
        self.server.start();
        self.trace.line(self.schedule.now(), format_args!("the server starts"));
    }

    /// Kills the server and cuts its sockets. Says whether it ran.
    pub(crate) fn kill_server(&mut self, down_ms: u64) -> bool {
        let ran = self.server.is_up();
        self.server.kill();
        self.server_timer = None;
        self.cut_all_streams();
        self.after(down_ms, Event::ServerStart);
        ran
    }
}
