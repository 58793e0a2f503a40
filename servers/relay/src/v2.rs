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
use delta_replay::{Admission, BootId, Opened, Replay, ReplayError, ReplayFile};
use delta_server_shell::NodeFolder;
use delta_server_shell::connect::{Connector, Destination, SystemResolver};
use delta_server_shell::directory::{Directories, View};
use hyper::StatusCode;
use tokio::sync::Semaphore;

use crate::budget::Share;
use crate::link;

/// Where the ephemeral keys that were seen are kept, in the data folder.
const REPLAY_FILE: &str = "replay-v2";
/// Packets remembered. The key is the identity, which never changes: a full set stays full.
pub const CAPACITY: usize = 32_000_000;
/// Exchanges at once: each holds a sender's connection and one to the next node.
const EXCHANGES: usize = 256;

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
    exchanges: Semaphore,
}

/// Where an opened packet goes on to.
struct Next {
    to: Arc<Destination>,
    kind: &'static str,
    body: Bytes,
}

impl V2 {
    /// Opens the replay set; one that cannot be trusted is begun anew, because the key it belongs to never changes.
    pub fn open(
        folder: &NodeFolder,
        server: Option<NodeId>,
        directories: Arc<Directories>,
        connector: Connector<SystemResolver>,
        counters: Arc<Counters>,
    ) -> Result<Self, ReplayError> {
        let (path, me) = (folder.path().join(REPLAY_FILE), folder.node_id());
        let file = match ReplayFile::open(&path, &me.0, CAPACITY, BootId::current())? {
            Opened::Trusted(file) => file,
            Opened::Untrusted(why) => {
                tracing::warn!("{}: {why}; older packets of version 2 may be taken again", path.display());
                ReplayFile::create(&path, &me.0, CAPACITY, BootId::current())?
            }
        };
        let secret = IdentitySecret::from_seed(folder.identity().as_bytes());
        let seen = Replay::start(file)?;
        let exchanges = Semaphore::new(EXCHANGES);
        Ok(Self { secret, me, server, seen, directories, connector, counters, exchanges })
    }

    /// Whether a body of this length can be a packet.
    pub fn takes(length: u64) -> bool {
        (v2::MIN_PACKET as u64..=v2::MAX_PACKET as u64).contains(&length)
    }

    /// Opens a packet, sends it on, and says what came of it: 200, 400 or 502 (503 under load).
    pub async fn answer(&self, packet: Vec<u8>, share: Share) -> StatusCode {
        let Ok(_exchange) = self.exchanges.try_acquire() else {
            self.counters.count(Event::Busy);
            return StatusCode::SERVICE_UNAVAILABLE;
        };
        self.counters.count(Event::AcceptedV2);
        let next = match self.next(packet) {
            Ok(next) => next,
            Err((event, code)) => {
                self.counters.count(event);
                return code;
            }
        };
        let outcome = link::send(&self.connector, &mut None, &next.to, next.kind, &next.body).await;
        drop(share);
        let (event, code) = match outcome {
            Outcome::Delivered => (Event::Delivered, StatusCode::OK),
            Outcome::Refused => (Event::Refused, StatusCode::BAD_GATEWAY),
            Outcome::AddressRefused => (Event::AddressRefused, StatusCode::BAD_GATEWAY),
            Outcome::Unreachable => (Event::Exhausted, StatusCode::BAD_GATEWAY),
        };
        self.counters.count(event);
        code
    }

    /// A clean stop.
    pub fn close(&self) {
        if let Err(error) = self.seen.close() {
            tracing::error!("{error}");
        }
    }

    fn next(&self, packet: Vec<u8>) -> Result<Next, (Event, StatusCode)> {
        let bad = |event| (event, StatusCode::BAD_REQUEST);
        let opened = v2::open(&self.secret, packet).map_err(|_| bad(Event::NotForUs))?;
        self.remember(opened.epk())?;
        let view = self.directories.view();
        match opened.parse().map_err(|_| bad(Event::BadSlot))? {
            Peeled::Forward { url, packet } => {
                // Never mixed: what a version 3 relay would take is not handed to one.
                if packet.first() != Some(&v2::VERSION) {
                    return Err(bad(Event::BadSlot));
                }
                let to = self.relay(&view, &url)?;
                Ok(Next { to, kind: link::PACKET, body: packet.into() })
            }
            Peeled::Deliver { topic, op } => {
                let unknown = (Event::UnknownNext, StatusCode::BAD_GATEWAY);
                let to = self.server(&view).ok_or(unknown)?;
                let op = STANDARD.encode(op);
                let body = serde_json::json!({ "topic_hex": topic.to_string(), "op_base64": op });
                Ok(Next { to, kind: JSON, body: body.to_string().into() })
            }
        }
    }

    fn remember(&self, epk: &[u8; 32]) -> Result<(), (Event, StatusCode)> {
        let unavailable = (Event::ReplayUnavailable, StatusCode::SERVICE_UNAVAILABLE);
        let tag = epk.first_chunk().ok_or(unavailable)?;
        match self.seen.admit(tag) {
            Ok(Admission::Fresh) => Ok(()),
            Ok(Admission::Seen) => Err((Event::Replayed, StatusCode::BAD_REQUEST)),
            Ok(Admission::Full) | Err(_) => Err(unavailable),
        }
    }

    /// The relay whose `n/hop` is exactly this URL.
    fn relay(&self, view: &View, url: &str) -> Result<Arc<Destination>, (Event, StatusCode)> {
        let refused = |event| (event, StatusCode::BAD_REQUEST);
        let mut relays = view.nodes().iter().filter(|node| node.kind == NodeKind::Relay);
        let node = relays.find(|node| node.packet_url() == url).ok_or(refused(Event::UnknownNext))?;
        if node.id == self.me {
            return Err(refused(Event::OwnId));
        }
        view.destination(&node.id).map(Arc::clone).ok_or(refused(Event::UnknownNext))
    }

    /// The server operations are posted to: the one named, or the directory's only one.
    fn server(&self, view: &View) -> Option<Arc<Destination>> {
        let mut servers = view.nodes().iter().filter(|node| node.kind == NodeKind::Sync);
        let server = match self.server {
            Some(id) => servers.find(|node| node.id == id)?,
            None => servers.next().filter(|_| servers.next().is_none())?,
        };
        view.destination(&server.id).map(Arc::clone)
    }
}
