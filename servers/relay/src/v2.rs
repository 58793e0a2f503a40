//! The original packets (docs/wire.md, section 5), where the operator takes them: opened, forwarded and answered while
//! the sender waits.
//!
//! Nothing here touches the path of version 3: a version 2 packet never enters a queue, a window or another replay
//! set, and what is inside one must be version 2 again.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use delta_core::identity::NodeId;
use delta_core::onion::IdentitySecret;
use delta_core::onion::directory::NodeKind;
use delta_core::onion::v2::{self, Peeled};
use delta_relay_core::{Counters, Event, Outcome};
use delta_replay::{Admission, BootId, Opened, Replay, ReplayError, ReplayFile, Untrusted};
use delta_server_shell::NodeFolder;
use delta_server_shell::connect::{Connector, Destination, SystemResolver};
use delta_server_shell::directory::{Directories, View};
use delta_server_shell::held::{Held, Part};
use hyper::StatusCode;
use tokio::sync::Semaphore;

use crate::budget::Share;
use crate::link;
use crate::peel::Pool;

/// Where the ephemeral keys that were seen are kept, in the data folder.
const REPLAY_FILE: &str = "replay-v2";
/// Exchanges at once: each holds a sender's connection and one to the next node.
const EXCHANGES: usize = 256;
/// Of them with one next node, so that one that hangs leaves room for the others.
const EXCHANGES_PER_NODE: u64 = 64;

const JSON: &str = "application/json";

/// Takes packets of version 2.
#[derive(Debug)]
pub struct V2 {
    secret: IdentitySecret,
    me: NodeId,
    server: Option<NodeId>,
    seen: Replay,
    directories: Arc<Directories>,
    connector: Connector<SystemResolver>,
    counters: Arc<Counters>,
    exchanges: Arc<Semaphore>,
    each: Arc<Held<NodeId>>,
}

/// Where an opened packet goes on to.
#[derive(Debug)]
struct Next {
    node: NodeId,
    to: Arc<Destination>,
    kind: &'static str,
    body: Bytes,
}

/// An event to count, and what the sender is told.
type Turned = (Event, StatusCode);

impl V2 {
    /// Opens the replay set. Of one that cannot be trusted everything is kept that can be read: the key it belongs to
    /// is the identity, which never changes, so nothing else keeps old packets out. For the same reason a set with
    /// `capacity` packets in it stays full.
    pub fn open(
        folder: &NodeFolder,
        capacity: usize,
        server: Option<NodeId>,
        directories: Arc<Directories>,
        connector: Connector<SystemResolver>,
        counters: Arc<Counters>,
    ) -> Result<Self, ReplayError> {
        let (path, me) = (folder.path().join(REPLAY_FILE), folder.node_id());
        let file = match ReplayFile::open(&path, &me.0, capacity, BootId::current())? {
            Opened::Trusted(file) => file,
            Opened::Untrusted(Untrusted::Missing) => {
                ReplayFile::create(&path, &me.0, capacity, BootId::current())?
            }
            Opened::Untrusted(why) => {
                let file = ReplayFile::salvage(&path, &me.0, capacity, BootId::current())?;
                let kept = file.set().len();
                tracing::warn!(
                    "{}: {why}; {kept} packets of version 2 are remembered, what is lost of it may be taken again",
                    path.display()
                );
                file
            }
        };
        if file.set().is_full() {
            tracing::error!(
                "the replay set of version 2 is full: raise the limit v2_replay_tags, or its packets get 503"
            );
        }
        let secret = IdentitySecret::from_seed(folder.identity().as_bytes());
        let seen = Replay::start(file)?;
        let (exchanges, each) =
            (Arc::new(Semaphore::new(EXCHANGES)), Arc::new(Held::new(EXCHANGES_PER_NODE)));
        Ok(Self { secret, me, server, seen, directories, connector, counters, exchanges, each })
    }

    /// Whether a body of this length can be a packet.
    pub fn takes(length: u64) -> bool {
        (v2::MIN_PACKET as u64..=v2::MAX_PACKET as u64).contains(&length)
    }

    /// Opens a packet, sends it on, and says what came of it: 200, 400 or 502 (503 under load).
    pub async fn answer(self: &Arc<Self>, pool: &Pool, packet: Vec<u8>, share: Share) -> StatusCode {
        let Ok(exchange) = Arc::clone(&self.exchanges).try_acquire_owned() else { return self.busy() };
        // Up to 1 MiB is opened, and a file written: not on a thread that serves.
        let this = Arc::clone(self);
        let open = move || this.next(packet);
        let Some(opening) = pool.submit(open, (exchange, share)) else { return self.busy() };
        self.counters.count(Event::AcceptedV2);
        let Ok((opened, held)) = opening.await else { return StatusCode::SERVICE_UNAVAILABLE };
        let (next, _place) = match opened {
            Ok(next) => next,
            Err((event, code)) => {
                self.counters.count(event);
                return code;
            }
        };
        let outcome = link::send(&self.connector, &mut None, &next.to, next.kind, &next.body).await;
        drop(held);
        let (event, code) = match outcome {
            Outcome::Delivered => (Event::Delivered, StatusCode::OK),
            Outcome::Refused => (Event::Refused, StatusCode::BAD_GATEWAY),
            Outcome::AddressRefused => (Event::AddressRefused, StatusCode::BAD_GATEWAY),
            Outcome::Unreachable => (Event::Exhausted, StatusCode::BAD_GATEWAY),
        };
        self.counters.count(event);
        code
    }

    fn busy(&self) -> StatusCode {
        self.counters.count(Event::Busy);
        StatusCode::SERVICE_UNAVAILABLE
    }

    /// How many packets are remembered.
    pub fn tags(&self) -> usize {
        self.seen.len()
    }

    /// A clean stop.
    pub fn close(&self) {
        if let Err(error) = self.seen.close() {
            tracing::error!("{error}");
        }
    }

    /// Opens a packet and takes a place with the next node. One for which there is none was not taken: it may come again.
    fn next(&self, packet: Vec<u8>) -> Result<(Next, Part<NodeId>), Turned> {
        let opened =
            v2::open(&self.secret, packet).map_err(|_| (Event::NotForUs, StatusCode::BAD_REQUEST))?;
        let epk = *opened.epk();
        let parsed = opened.parse().map_err(|_| (Event::BadSlot, StatusCode::BAD_REQUEST));
        let entered = match parsed.and_then(|peeled| self.route(peeled)) {
            Ok(next) => {
                let place = self.each.take(next.node, 1);
                Ok((next, place.ok_or((Event::Busy, StatusCode::SERVICE_UNAVAILABLE))?))
            }
            Err(turned) => Err(turned),
        };
        self.remember(&epk)?;
        entered
    }

    fn route(&self, peeled: Peeled) -> Result<Next, Turned> {
        let view = self.directories.view();
        match peeled {
            Peeled::Forward { url, packet } => {
                // Never mixed: what a version 3 relay would take is not handed to one.
                if packet.first() != Some(&v2::VERSION) {
                    return Err((Event::BadSlot, StatusCode::BAD_REQUEST));
                }
                let (node, to) = self.relay(&view, &url)?;
                Ok(Next { node, to, kind: link::PACKET, body: packet.into() })
            }
            Peeled::Deliver { topic, op } => {
                let unknown = (Event::UnknownNext, StatusCode::BAD_GATEWAY);
                let (node, to) = self.server(&view).ok_or(unknown)?;
                let op = STANDARD.encode(op);
                let body = serde_json::json!({ "topic_hex": topic.to_string(), "op_base64": op });
                Ok(Next { node, to, kind: JSON, body: body.to_string().into() })
            }
        }
    }

    fn remember(&self, epk: &[u8; 32]) -> Result<(), Turned> {
        let unavailable = (Event::ReplayUnavailable, StatusCode::SERVICE_UNAVAILABLE);
        let tag = epk.first_chunk().ok_or(unavailable)?;
        match self.seen.admit(tag) {
            Ok(Admission::Fresh) => Ok(()),
            Ok(Admission::Seen) => Err((Event::Replayed, StatusCode::BAD_REQUEST)),
            Ok(Admission::Full) | Err(_) => Err(unavailable),
        }
    }

    /// The relay whose `n/hop` is exactly this URL.
    fn relay(&self, view: &View, url: &str) -> Result<(NodeId, Arc<Destination>), Turned> {
        let refused = |event| (event, StatusCode::BAD_REQUEST);
        let mut relays = view.nodes().iter().filter(|node| node.kind == NodeKind::Relay);
        let node = relays.find(|node| node.packet_url() == url).ok_or(refused(Event::UnknownNext))?;
        if node.id == self.me {
            return Err(refused(Event::OwnId));
        }
        let to = view.destination(&node.id).ok_or(refused(Event::UnknownNext))?;
        Ok((node.id, Arc::clone(to)))
    }

    /// The server operations are posted to: the one named, or the directory's only one.
    fn server(&self, view: &View) -> Option<(NodeId, Arc<Destination>)> {
        let mut servers = view.nodes().iter().filter(|node| node.kind == NodeKind::Sync);
        let server = match self.server {
            Some(id) => servers.find(|node| node.id == id)?,
            None => servers.next().filter(|_| servers.next().is_none())?,
        };
        Some((server.id, Arc::clone(view.destination(&server.id)?)))
    }
}

#[cfg(test)]
mod tests;
