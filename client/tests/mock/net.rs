//! The simulation's actors behind real sockets: a sync server and three relays that misbehave as their scripts say.
//!
//! The client talks HTTP and WebSocket to them; what the relays pass on to each other stays inside this process.

mod serve;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use delta_client::RelayHops;
use delta_core::entropy::SeededEntropy;
use delta_core::identity::{EnvelopeHash, Millis};
use delta_core::onion::directory::NodeKind;
use delta_core::sync::history::HistoryRequest;
use delta_core::sync::proof::Purpose;
use delta_core::topic::{Seq, TopicId};
use delta_noise::Responder;
use delta_relay_core::Limits;
use delta_sim::script::{Answer, Garbage};
use delta_sim::{Backup, NodeIdentity, RelayActor, Rng, ServerActor, ServerOutput, outcome};
use delta_topic_log::Cursor;
use ed25519_dalek::SigningKey;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use serve::{accept, run};

/// Relays in the mock network.
pub const RELAYS: usize = 3;

/// The network. Everything in it is in [`World`].
pub struct Net {
    world: Mutex<World>,
    /// Something is to be done.
    stirred: Notify,
    server: SocketAddr,
    relays: Vec<SocketAddr>,
    /// Where redirects lead. Nobody has any business there.
    pub elsewhere: SocketAddr,
}

pub struct World {
    pub server: ServerActor,
    pub relays: Vec<RelayActor>,
    /// Path and query of every subscribe request, refused ones included.
    pub requests: Vec<String>,
    /// What refused subscribe requests are told, seconds.
    pub retry_after_s: u64,
    /// Packets that the client POSTed.
    pub packets: usize,
    /// How often the server was asked for its record.
    pub infos: usize,
    /// How often a relay was asked for the set of records.
    pub record_sets: usize,
    /// When the server signed the record it gives itself: a newer one, shown before that, would make it an old one. no later than any set that was signed since.
    began: Millis,
    /// When the nodes signed the records that relays serve; `None`: they serve none.
    pub signed: Option<Millis>,
    /// What relays serve instead.
    pub served: Option<String>,
    /// How relays answer who asks for the set of records, and the server who asks for its own.
    pub says: Option<Answer>,
    /// Connections to where redirects lead.
    pub astray: usize,
    /// Endless answers that the client would not listen to any longer.
    pub cut_off: usize,
    /// What the packets that the client POSTed ask their first relay to wait, milliseconds.
    pub delays: Vec<u64>,
    /// Pages of history that were asked for.
    pub pages: usize,
    /// Relays say that they offer tunnels.
    pub offers_tunnels: bool,
    /// Tunnels that were opened.
    pub tunnels: usize,
    /// The next tunnels that are asked for and cut.
    pub cut_tunnels: usize,
    /// Connections that came to the server in the clear, and those in Noise, each of which goes on in the clear.
    pub plain: usize,
    pub sealed: usize,
    /// Who answers in the server's place.
    pub key_of_server: Option<SigningKey>,
    /// What passes through tunnels, both ways.
    pub carried: Vec<u8>,
    /// Bit of what passes from the server through tunnels that is flipped, counted from its first byte.
    pub flip: Option<usize>,
    /// The key readers must prove, where one is set.
    pub read_vk: Option<[u8; 32]>,
    sockets: HashMap<u64, mpsc::UnboundedSender<ServerOutput>>,
    next_conn: u64,
    entropy: SeededEntropy,
}

enum Node {
    Server,
    Relay(usize),
    Elsewhere,
}

pub fn now() -> Millis {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    Millis(since.as_millis() as u64)
}

impl Net {
    pub async fn start() -> Arc<Self> {
        let mut rng = Rng::new(1, "mock network");
        let server = ServerActor::new(NodeIdentity::generate(&mut rng), rng.bytes());
        let mut relays: Vec<RelayActor> = (0..RELAYS)
            .map(|_| RelayActor::new(NodeIdentity::generate(&mut rng), Limits::default()))
            .collect();
        let ids: Vec<_> =
            relays.iter().map(|relay| relay.identity().id()).chain([server.identity().id()]).collect();
        relays.iter_mut().for_each(|relay| relay.set_known(&ids));

        let server_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut relay_listeners = Vec::new();
        for _ in 0..RELAYS {
            relay_listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let net = Arc::new(Self {
            world: Mutex::new(World {
                server,
                relays,
                requests: Vec::new(),
                retry_after_s: 1,
                packets: 0,
                infos: 0,
                record_sets: 0,
                began: now(),
                signed: Some(now()),
                served: None,
                says: None,
                astray: 0,
                cut_off: 0,
                delays: Vec::new(),
                pages: 0,
                offers_tunnels: false,
                tunnels: 0,
                cut_tunnels: 0,
                plain: 0,
                sealed: 0,
                key_of_server: None,
                carried: Vec::new(),
                flip: None,
                read_vk: None,
                sockets: HashMap::new(),
                next_conn: 1,
                entropy: SeededEntropy::new([3; 32]),
            }),
            stirred: Notify::new(),
            server: server_listener.local_addr().unwrap(),
            relays: relay_listeners.iter().map(|listener| listener.local_addr().unwrap()).collect(),
            elsewhere: elsewhere.local_addr().unwrap(),
        });
        tokio::spawn(accept(Arc::clone(&net), elsewhere, Node::Elsewhere));
        tokio::spawn(accept(Arc::clone(&net), server_listener, Node::Server));
        for (index, listener) in relay_listeners.into_iter().enumerate() {
            tokio::spawn(accept(Arc::clone(&net), listener, Node::Relay(index)));
        }
        tokio::spawn(run(Arc::clone(&net)));
        net
    }

    /// The actors and their scripts. What is changed takes effect with the next packet or frame.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// `init_sync`'s arguments.
    pub fn hops(&self) -> RelayHops {
        RelayHops::Pool(self.records(now()))
    }

    /// When the server signed the record it gives itself: a newer one, shown before that, would make it an old one.
    pub fn began(&self) -> Millis {
        self.world().began
    }

    /// The server's record as it was signed then.
    pub fn server_record(&self, signed: Millis) -> String {
        let url = format!("http://{}", self.server);
        self.world().server.identity().record(NodeKind::Sync, &url, "server", signed).to_json()
    }

    /// The relays' records as they were signed then.
    pub fn records(&self, signed: Millis) -> Vec<String> {
        let world = self.world();
        let nodes = world.relays.iter().zip(&self.relays).enumerate();
        let record = |(index, (relay, address)): (usize, (&RelayActor, &SocketAddr))| {
            let operator = format!("operator {index}");
            let url = format!("http://{address}");
            let record = match world.offers_tunnels {
                true => relay.identity().tunnel_record(&url, &operator, signed),
                false => relay.identity().record(NodeKind::Relay, &url, &operator, signed),
            };
            record.to_json()
        };
        nodes.map(record).collect()
    }

    /// `init_sync`'s arguments for the same relays and server, all of them said to be at another address.
    pub fn said_to_be_at(&self, address: SocketAddr) -> (RelayHops, String) {
        let (world, url) = (self.world(), format!("http://{address}"));
        let relays = world.relays.iter().enumerate().map(|(index, relay)| {
            relay.identity().record(NodeKind::Relay, &url, &format!("operator {index}"), now()).to_json()
        });
        let server = world.server.identity().record(NodeKind::Sync, &url, "server", now()).to_json();
        let sync_url = format!("{url}#{}", world.server.identity().id());
        (RelayHops::Pool(relays.chain([server]).collect()), sync_url)
    }

    /// The server's and the relays' addresses.
    pub fn addresses(&self) -> (SocketAddr, Vec<SocketAddr>) {
        (self.server, self.relays.clone())
    }

    pub fn sync_url(&self) -> String {
        format!("http://{}#{}", self.server, self.world().server.identity().id())
    }

    /// A sync URL that pins somebody else.
    pub fn other_pin(&self) -> String {
        format!("http://{}#{}", self.server, self.world().relays[0].identity().id())
    }

    pub fn head(&self, topic: &TopicId) -> u64 {
        self.world().server.log_state(topic).head.0
    }

    /// Kills the server: its sockets are cut, it refuses connections until [`Self::start_server`].
    pub fn kill_server(&self) {
        let mut world = self.world();
        world.server.kill();
        world.sockets.clear();
    }

    pub fn start_server(&self) {
        self.world().server.start();
        self.stirred.notify_one();
    }

    /// The server loses everything; sockets are cut.
    pub fn wipe(&self) {
        let mut world = self.world();
        world.server.kill();
        world.sockets.clear();
        world.server.wipe([77; 32]);
        world.server.start();
    }

    /// The server comes back with an old copy of its logs; sockets are cut.
    pub fn restore(&self, backup: Backup) {
        let mut world = self.world();
        world.server.kill();
        world.sockets.clear();
        world.server.restore(backup);
        world.server.start();
    }

    /// Puts envelopes into a topic's log as any member could: a delivery signed by `key`.
    pub fn plant(&self, key: &delta_core::topic::WriteKey, envelopes: &[&[u8]]) {
        use delta_core::onion::deliver::encode_list;
        use delta_core::onion::v3::{Hop, Terminal, wrap};
        let mut world = self.world();
        let content = encode_list(key, envelopes).unwrap();
        let identity = world.server.identity().clone();
        let hop = Hop { node: identity.id(), key: identity.onion_secret().public(), delay: 0 };
        let packet = wrap(&[hop], Terminal::Deliver(&content), &mut world.entropy).unwrap();
        let answer = world.server.handle_post(now(), &packet.into());
        assert_eq!(answer, Answer::Status(202));
        drop(world);
        self.stirred.notify_one();
    }
}

impl World {
    /// Carries on whatever can be carried on now.
    fn pump(&mut self) {
        let now = now();
        loop {
            let mut moved = false;
            for index in 0..self.relays.len() {
                let relay = &mut self.relays[index];
                relay.handle_timeout(now, &mut self.entropy);
                while let Some(forward) = self.relays[index].poll_transmit(now) {
                    moved = true;
                    let packet = forward.packet().clone();
                    let answer = self.post(forward.next(), &packet);
                    self.relays[index].handle_outcome(now, forward, outcome(answer));
                }
            }
            self.server.handle_timeout(now);
            while let Some(output) = self.server.poll_output() {
                moved = true;
                let (ServerOutput::Frame { conn, .. }
                | ServerOutput::Close { conn, .. }
                | ServerOutput::Cut { conn }) = output;
                if let Some(socket) = self.sockets.get(&conn) {
                    let _ = socket.send(output);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn post(&mut self, to: delta_core::NodeId, packet: &Bytes) -> Answer {
        if self.server.identity().id() == to {
            return self.server.handle_post(now(), packet);
        }
        match self.relays.iter_mut().find(|relay| relay.identity().id() == to) {
            Some(relay) => relay.handle_post(now(), packet),
            None => Answer::Cut,
        }
    }

    fn timeout(&self) -> Option<Millis> {
        self.relays.iter().filter_map(RelayActor::poll_timeout).chain(self.server.poll_timeout()).min()
    }
}
