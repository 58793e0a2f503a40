//! A sync server as an actor: the server's own topic logs in memory, a script, and a disk that survives a kill.
//!
//! Not here: latency, loss, sockets. The simulation and the mocks of other crates bring those; they drive it with
//! `handle_…`, then drain [`ServerActor::poll_output`] and ask [`ServerActor::poll_timeout`] when to come back.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use delta_core::identity::{EnvelopeHash, Millis};
use delta_core::onion::PacketClass;
use delta_core::onion::deliver;
use delta_core::onion::v3::{self, Peeled};
use delta_core::sync::frame::Frame;
use delta_core::sync::history::HistoryRequest;
use delta_core::topic::{Generation, Seq, TopicId};
use delta_replay::{Admission, ReplaySet};
use delta_topic_log::{
    Cursor, GenerationSecret, HistoryQuery, LogReader, LogState, MemoryStorage, Next, Placed, Subscription,
    TopicLogs, Write,
};

use crate::directory::NodeIdentity;
use crate::script::{Answer, FrameAct, PageAct, PostAct, Script, SubscribeAct};

/// How long deliveries wait for others to share their commit, milliseconds.
const COMMIT_MS: u64 = 3;
/// Tags the replay set holds.
const SEEN_CAPACITY: usize = 1_000_000;

/// What the server wants done on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerOutput {
    /// Send a binary message.
    Frame {
        /// The socket.
        conn: u64,
        /// The message.
        message: Bytes,
    },
    /// Close it with a code.
    Close {
        /// The socket.
        conn: u64,
        /// The close code.
        code: u16,
    },
    /// Cut it without a close.
    Cut {
        /// The socket.
        conn: u64,
    },
}

/// A copy of a server's logs as they were, with the secret that names their generations.
#[derive(Clone, Debug)]
pub struct Backup {
    storage: MemoryStorage,
    secret: [u8; 32],
}

/// One sync server.
#[derive(Debug)]
pub struct ServerActor {
    identity: NodeIdentity,
    secret: [u8; 32],
    seen: ReplaySet,
    state: State,
    outputs: VecDeque<ServerOutput>,
    committed: VecDeque<(TopicId, Bytes)>,
    /// Deliveries that were dropped, by reason: a well-behaved device causes none but `replayed`.
    pub dropped: BTreeMap<&'static str, u64>,
    /// How it misbehaves.
    pub script: Script,
}

#[derive(Debug)]
enum State {
    Up(Box<Up>),
    Down(MemoryStorage),
}

#[derive(Debug)]
struct Up {
    logs: TopicLogs<MemoryStorage>,
    subscribers: BTreeMap<u64, Subscriber>,
    /// Packets answered with 202 and not committed yet.
    accepted: Vec<Bytes>,
    commit_at: Option<Millis>,
}

#[derive(Debug)]
struct Subscriber {
    subscription: Subscription,
    /// Frames so far.
    place: u64,
    /// A frame that waits for the next one to go first.
    held: Option<Bytes>,
    hung: bool,
}

impl ServerActor {
    /// An empty, running server.
    pub fn new(identity: NodeIdentity, secret: [u8; 32]) -> Self {
        let mut server = Self {
            identity,
            secret,
            seen: ReplaySet::new(SEEN_CAPACITY),
            state: State::Down(MemoryStorage::new()),
            outputs: VecDeque::new(),
            committed: VecDeque::new(),
            dropped: BTreeMap::new(),
            script: Script::default(),
        };
        server.start();
        server
    }

    /// Its keys.
    pub const fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// Whether it runs.
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Kills it: what was answered but not committed is lost, sockets are gone.
    pub fn kill(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Down(MemoryStorage::new())) {
            State::Up(up) => State::Down(up.logs.into_storage()),
            down @ State::Down(_) => down,
        };
        self.outputs.clear();
    }

    /// Starts it again from its disk.
    pub fn start(&mut self) {
        if let State::Down(storage) = &mut self.state {
            let storage = std::mem::take(storage);
            let logs = TopicLogs::new(storage, GenerationSecret::from_bytes(self.secret));
            let up = Up { logs, subscribers: BTreeMap::new(), accepted: Vec::new(), commit_at: None };
            self.state = State::Up(Box::new(up));
        }
    }

    /// Empties its disk (while it is down or up; sockets are gone): a new generation secret, no operations. Identity,
    /// onion key and replay set stay.
    pub fn wipe(&mut self, secret: [u8; 32]) {
        self.restore(Backup { storage: MemoryStorage::new(), secret });
    }

    /// What its disk holds.
    pub fn backup(&self) -> Backup {
        Backup { storage: self.storage().clone(), secret: self.secret }
    }

    /// Puts an old disk in place.
    pub fn restore(&mut self, backup: Backup) {
        let was_up = self.is_up();
        self.kill();
        self.secret = backup.secret;
        self.state = State::Down(backup.storage);
        if was_up {
            self.start();
        }
    }

    /// Drops a topic's oldest operations.
    pub fn evict(&mut self, topic: &TopicId, up_to: Seq) {
        if let State::Up(up) = &mut self.state {
            let Ok(()) = up.logs.evict(topic, up_to);
            let Ok(()) = up.logs.commit();
        }
    }

    /// `POST /deliver`.
    pub fn handle_post(&mut self, now: Millis, packet: &Bytes) -> Answer {
        let State::Up(up) = &mut self.state else { return Answer::Cut };
        if packet.len() > PacketClass::C4.size() {
            return Answer::Status(413);
        }
        if PacketClass::from_len(packet.len()).is_none() {
            return Answer::Status(400);
        }
        let (times, answer) = match self.script.next_post() {
            None => (1, Answer::Status(202)),
            Some(PostAct::Swallow) => (0, Answer::Status(202)),
            Some(PostAct::Answer(answer)) => (1, answer),
            Some(PostAct::Refuse(answer)) => (0, answer),
            Some(PostAct::Twice) => (2, Answer::Status(202)),
        };
        if times > 0 {
            up.accepted.extend(std::iter::repeat_n(packet.clone(), times));
            up.commit_at.get_or_insert(now.plus(COMMIT_MS));
        }
        answer
    }

    /// `GET /topic/…` with WebSocket upgrade: 101, or what the upgrade is answered with instead.
    pub fn handle_subscribe(&mut self, now: Millis, conn: u64, topic: TopicId, cursor: &Cursor) -> Answer {
        let State::Up(up) = &mut self.state else { return Answer::Cut };
        if let Some(SubscribeAct::Refuse(answer)) = self.script.next_subscribe() {
            return answer;
        }
        let Ok((subscription, frames)) = up.logs.subscribe(now, topic, cursor);
        up.subscribers.insert(conn, Subscriber { subscription, place: 0, held: None, hung: false });
        for frame in frames {
            self.send(conn, frame.encode().into());
        }
        self.serve(now, conn);
        Answer::Status(101)
    }

    /// `GET /topic/…/ops` in binary form: a page, or what is answered instead.
    pub fn handle_history(&mut self, request: &HistoryRequest) -> Result<Bytes, Answer> {
        let State::Up(up) = &mut self.state else { return Err(Answer::Cut) };
        let act = self.script.next_page();
        match act {
            Some(PageAct::Refuse(answer)) => return Err(answer),
            Some(PageAct::Replace(bytes)) => return Ok(bytes),
            Some(PageAct::Forge) | None => {}
        }
        let HistoryRequest { topic, after, limit } = *request;
        let query = HistoryQuery { after: Some(after), limit, ..HistoryQuery::default() };
        let Ok(view) = up.logs.view(&topic);
        let Ok(mut page) = delta_topic_log::history(up.logs.storage(), &view, &topic, &query);
        if act.is_some() {
            page.ops
                .iter_mut()
                .for_each(|op| op.op = Bytes::from(op.op.iter().map(|byte| !byte).collect::<Vec<_>>()));
        }
        Ok(page.encode().into())
    }

    /// The client closed a socket, or it is found dead.
    pub fn handle_closed(&mut self, conn: u64) {
        if let State::Up(up) = &mut self.state {
            up.subscribers.remove(&conn);
        }
    }

    /// Tells a socket nothing more, and leaves it open. Says whether it told it anything so far.
    pub fn mute(&mut self, conn: u64) -> bool {
        let State::Up(up) = &mut self.state else { return false };
        up.subscribers.get_mut(&conn).is_some_and(|one| !std::mem::replace(&mut one.hung, true))
    }

    /// A message from a client, which clients never send: closed with 1008 or 1002 (docs/wire.md, section 9).
    pub fn handle_message(&mut self, conn: u64, first_byte: Option<u8>) {
        let code = if matches!(first_byte, Some(2 | 6)) { 1008 } else { 1002 };
        self.handle_closed(conn);
        self.outputs.push_back(ServerOutput::Close { conn, code });
    }

    /// The next thing to do on a socket.
    pub fn poll_output(&mut self) -> Option<ServerOutput> {
        self.outputs.pop_front()
    }

    /// An envelope that was committed since the last call, duplicates not counted.
    pub fn poll_committed(&mut self) -> Option<(TopicId, Bytes)> {
        self.committed.pop_front()
    }

    /// When [`Self::handle_timeout`] has work.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let State::Up(up) = &self.state else { return None };
        let heads = up.subscribers.values().filter(|one| !one.hung);
        heads.filter_map(|one| one.subscription.head_deadline()).chain(up.commit_at).min()
    }

    /// Commits what is due, and tells the subscribers.
    pub fn handle_timeout(&mut self, now: Millis) {
        let State::Up(up) = &mut self.state else { return };
        if up.commit_at.is_some_and(|at| at <= now) {
            up.commit_at = None;
            let accepted = std::mem::take(&mut up.accepted);
            for packet in accepted {
                if let Err(why) = self.take(now, packet) {
                    *self.dropped.entry(why).or_default() += 1;
                }
            }
            if let State::Up(up) = &mut self.state {
                // One commit for all that waited. Only after it does anyone hear of them.
                let Ok(()) = up.logs.commit();
            }
        }
        self.serve_all(now);
    }

    /// Peels a packet and stages its operations.
    fn take(&mut self, now: Millis, packet: Bytes) -> Result<(), &'static str> {
        let State::Up(up) = &mut self.state else { return Err("down") };
        let opened = v3::open(&[self.identity.onion_secret()], packet.to_vec()).map_err(|_| "not for us")?;
        match self.seen.admit(ReplaySet::prefix(&opened.replay_tag())) {
            Admission::Fresh => {}
            Admission::Seen => return Err("replayed"),
            Admission::Full => return Err("replay set full"),
        }
        let Peeled::Deliver { content } = opened.parse().map_err(|_| "bad slot")? else {
            return Err("no delivery");
        };
        let delivery = deliver::verify(&content).map_err(|_| "bad delivery")?;
        if let Ok(signal) = delivery.signal() {
            self.fan_out(delivery.topic, signal);
            return Ok(());
        }
        let ops = delivery.operations().map_err(|_| "bad list")?;
        let mut placed: Vec<Placed> = Vec::with_capacity(ops.len());
        up.logs.append(now, &delivery.topic, &ops, Write::Signed, &mut placed).map_err(|_| "refused")?;
        let fresh = ops.iter().zip(&placed).filter(|(_, placed)| placed.fresh);
        self.committed.extend(fresh.map(|(op, _)| (delivery.topic, Bytes::copy_from_slice(op))));
        Ok(())
    }

    /// Passes a signal to the topic's subscribers that have had their `ready`.
    fn fan_out(&mut self, topic: TopicId, signal: &[u8]) {
        let State::Up(up) = &self.state else { return };
        let live = up.subscribers.iter().filter(|(_, one)| {
            *one.subscription.topic() == topic && matches!(one.subscription.next(), Next::Live(_))
        });
        let frame = Bytes::from(Frame::Signal(Bytes::copy_from_slice(signal)).encode());
        for conn in live.map(|(conn, _)| *conn).collect::<Vec<_>>() {
            self.send(conn, frame.clone());
        }
    }

    fn serve_all(&mut self, now: Millis) {
        let State::Up(up) = &self.state else { return };
        let conns: Vec<u64> = up.subscribers.keys().copied().collect();
        conns.into_iter().for_each(|conn| self.serve(now, conn));
    }

    /// Sends a subscriber all it lacks.
    fn serve(&mut self, now: Millis, conn: u64) {
        let key = self.identity.signing_key();
        loop {
            let State::Up(up) = &mut self.state else { return };
            let Some(subscriber) = up.subscribers.get_mut(&conn) else { return };
            let Ok(frame) = up.logs.poll(now, &mut subscriber.subscription, &key);
            let Some(frame) = frame else { return };
            self.send(conn, frame.encode().into());
        }
    }

    /// Sends a frame as the script will have it.
    fn send(&mut self, conn: u64, message: Bytes) {
        let State::Up(up) = &mut self.state else { return };
        let Some(subscriber) = up.subscribers.get_mut(&conn) else { return };
        if subscriber.hung {
            return;
        }
        let act = self.script.next_frame(subscriber.place, &message);
        subscriber.place += 1;
        let mut messages = Vec::new();
        match act {
            None => messages.push(message),
            Some(FrameAct::Withhold) => {}
            Some(FrameAct::Repeat) => messages.extend([message.clone(), message]),
            Some(FrameAct::Swap) => {
                subscriber.held = Some(message);
                return;
            }
            Some(FrameAct::Replace(bytes)) => messages.push(bytes),
            Some(FrameAct::Before(bytes)) => messages.extend([bytes, message]),
            Some(FrameAct::Hang) => subscriber.hung = true,
            Some(FrameAct::Close(code)) => return self.end(conn, ServerOutput::Close { conn, code }),
            Some(FrameAct::Cut) => return self.end(conn, ServerOutput::Cut { conn }),
        }
        messages.extend(subscriber.held.take());
        self.outputs.extend(messages.into_iter().map(|message| ServerOutput::Frame { conn, message }));
    }

    fn end(&mut self, conn: u64, output: ServerOutput) {
        self.handle_closed(conn);
        self.outputs.push_back(output);
    }

    fn storage(&self) -> &MemoryStorage {
        match &self.state {
            State::Up(up) => up.logs.storage(),
            State::Down(storage) => storage,
        }
    }

    /// The generation of a topic.
    pub fn generation(&self, topic: &TopicId) -> Generation {
        GenerationSecret::from_bytes(self.secret).generation(topic)
    }

    /// Where a topic's log ends and begins.
    pub fn log_state(&self, topic: &TopicId) -> LogState {
        let Ok(state) = self.storage().state(topic);
        state.unwrap_or(LogState::EMPTY)
    }

    /// The seq an envelope has in a topic's log, evicted or not.
    pub fn find(&self, topic: &TopicId, envelope: &EnvelopeHash) -> Option<Seq> {
        let Ok(seq) = self.storage().find(topic, envelope);
        seq
    }

    /// The envelopes a topic's log retains, in order.
    pub fn envelopes(&self, topic: &TopicId) -> Vec<(Seq, Bytes)> {
        let mut envelopes = Vec::new();
        let Ok(()) = self.storage().ascend(topic, Seq(0), Seq(u64::MAX), &mut |op| {
            envelopes.push((op.seq, Bytes::copy_from_slice(op.op)));
            true
        });
        envelopes
    }
}

#[cfg(test)]
mod tests {
    use delta_core::identity::NodeId;
    use delta_core::onion::v3::{Hop, Terminal, wrap};
    use delta_core::topic::WriteKey;
    use delta_relay_core::Limits;

    use super::*;
    use crate::relay::RelayActor;
    use crate::rng::Rng;
    use crate::script::FrameMatch;

    const NOW: Millis = Millis(1_800_000_000_000);

    struct Path {
        rng: Rng,
        relay: RelayActor,
        server: ServerActor,
        key: WriteKey,
    }

    impl Path {
        fn new() -> Self {
            let mut rng = Rng::new(1, "actors");
            let server = ServerActor::new(NodeIdentity::generate(&mut rng), rng.bytes());
            let mut relay = RelayActor::new(NodeIdentity::generate(&mut rng), Limits::default());
            relay.set_known(&[server.identity().id()]);
            let key = WriteKey::from_seed(rng.bytes());
            Self { rng, relay, server, key }
        }

        /// A packet through the relay to the server with one operation.
        fn packet(&mut self, op: &[u8]) -> Bytes {
            let content = deliver::encode_operation(&self.key, op).unwrap();
            let hop =
                |node: &NodeIdentity| Hop { node: node.id(), key: node.onion_secret().public(), delay: 0 };
            let hops = [hop(self.relay.identity()), hop(self.server.identity())];
            wrap(&hops, Terminal::Deliver(&content), &mut self.rng).unwrap().into()
        }

        /// Sends a packet; what the relay forwards reaches the server.
        fn send(&mut self, packet: &Bytes) {
            assert_eq!(self.relay.handle_post(NOW, packet), Answer::Status(202));
            while let Some(forward) = self.relay.poll_transmit(NOW) {
                assert_eq!(forward.next(), self.server.identity().id());
                let answer = self.server.handle_post(NOW, forward.packet());
                self.relay.handle_outcome(NOW, forward, crate::relay::outcome(answer));
            }
        }

        fn commit(&mut self) {
            let due = self.server.poll_timeout().expect("a commit is due");
            self.server.handle_timeout(due);
        }

        fn frames(&mut self) -> Vec<Frame> {
            let mut frames = Vec::new();
            while let Some(output) = self.server.poll_output() {
                if let ServerOutput::Frame { message, .. } = output {
                    frames.push(Frame::decode(message).unwrap());
                }
            }
            frames
        }
    }

    fn seqs(frames: &[Frame]) -> Vec<u64> {
        let ops =
            frames.iter().filter_map(|frame| if let Frame::Ops(ops) = frame { Some(ops) } else { None });
        ops.flatten().map(|op| op.seq.0).collect()
    }

    #[test]
    fn an_operation_goes_through_relay_and_server_to_the_subscriber() {
        let mut path = Path::new();
        let topic = path.key.topic();
        let answer = path.server.handle_subscribe(NOW, 7, topic, &Cursor::default());
        assert_eq!(answer, Answer::Status(101));
        assert!(matches!(path.frames()[..], [Frame::Hello { .. }, Frame::Ready(_)]));
        let packet = path.packet(b"one");
        path.send(&packet);
        assert_eq!(path.frames(), [], "nobody hears of an operation before it is committed");
        path.commit();
        assert_eq!(seqs(&path.frames()), [1]);
        assert_eq!(path.server.envelopes(&topic), [(Seq(1), Bytes::from_static(b"one"))]);
        assert_eq!(path.server.poll_committed(), Some((topic, Bytes::from_static(b"one"))));
    }

    #[test]
    fn a_packet_counts_once_also_after_the_relay_was_killed() {
        let mut path = Path::new();
        let packet = path.packet(b"one");
        path.send(&packet);
        path.relay.kill();
        assert_eq!(path.relay.handle_post(NOW, &packet), Answer::Cut);
        path.relay.start();
        path.send(&packet);
        assert!(path.relay.poll_transmit(NOW).is_none());
        path.commit();
        assert_eq!(path.server.envelopes(&path.key.topic()).len(), 1);
    }

    #[test]
    fn a_kill_loses_what_was_answered_and_a_wipe_what_was_committed() {
        let mut path = Path::new();
        let topic = path.key.topic();
        let (one, two) = (path.packet(b"one"), path.packet(b"two"));
        path.send(&one);
        path.commit();
        path.send(&two);
        let generation = path.server.generation(&topic);
        path.server.kill();
        path.server.kill();
        assert_eq!(path.server.handle_post(NOW, &two), Answer::Cut);
        path.server.start();
        assert_eq!(path.server.envelopes(&topic).len(), 1);
        assert_eq!(path.server.generation(&topic), generation);
        let backup = path.server.backup();
        path.server.wipe([9; 32]);
        assert_eq!(path.server.log_state(&topic), LogState::EMPTY);
        assert_ne!(path.server.generation(&topic), generation);
        path.server.restore(backup);
        assert_eq!(path.server.envelopes(&topic).len(), 1);
    }

    #[test]
    fn frames_go_as_the_script_says() {
        let mut path = Path::new();
        let topic = path.key.topic();
        path.server.script.frame_after(FrameMatch::Type(2), 0, 1, FrameAct::Swap);
        path.server.script.frame_after(FrameMatch::Type(2), 1, 1, FrameAct::Repeat);
        path.server.handle_subscribe(NOW, 7, topic, &Cursor::default());
        for op in [b"one", b"two", b"tri"] {
            let packet = path.packet(op);
            path.send(&packet);
            path.commit();
        }
        assert_eq!(seqs(&path.frames()), [2, 1, 3, 3]);
        path.server.script.frame(FrameMatch::Any, FrameAct::Close(1013));
        let packet = path.packet(b"four");
        path.send(&packet);
        path.commit();
        assert_eq!(path.server.poll_output(), Some(ServerOutput::Close { conn: 7, code: 1013 }));
    }

    #[test]
    fn what_is_no_packet_is_refused_and_what_is_foreign_is_counted() {
        let mut path = Path::new();
        assert_eq!(path.server.handle_post(NOW, &Bytes::from(vec![3; 4095])), Answer::Status(400));
        assert_eq!(path.server.handle_post(NOW, &Bytes::from(vec![3; 1_052_673])), Answer::Status(413));
        assert_eq!(path.server.handle_post(NOW, &Bytes::from(vec![3; 4096])), Answer::Status(202));
        path.commit();
        assert_eq!(path.server.dropped.get("not for us"), Some(&1));
        path.relay.set_known(&[NodeId([1; 32])]);
        let packet = path.packet(b"one");
        path.send(&packet);
        assert_eq!(path.server.poll_timeout(), None);
    }
}
