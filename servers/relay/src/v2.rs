//! The original packets (docs/wire.md, section 5), where the operator takes them: opened, forwarded and answered while
//! the sender waits.
//!
//! Nothing here touches the path of version 3: a version 2 packet never enters a queue, a window or another replay
//! set, and what is inside one must be version 2 again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
use hyper::StatusCode;
use tokio::sync::{Semaphore, oneshot};

use crate::budget::Share;
use crate::link;
use crate::peel::{Job, Pool};

/// Where the ephemeral keys that were seen are kept, in the data folder.
const REPLAY_FILE: &str = "replay-v2";
/// Exchanges at once: each holds a sender's connection and one to the next node.
const EXCHANGES: usize = 256;
/// Of them with one next node, so that one that hangs leaves room for the others.
const EXCHANGES_PER_NODE: usize = 64;

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
    each: Arc<Places>,
}

/// Where an opened packet goes on to.
struct Next {
    node: NodeId,
    to: Arc<Destination>,
    kind: &'static str,
    body: Bytes,
}

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
        let (exchanges, each) = (Semaphore::new(EXCHANGES), Arc::new(Places::new(EXCHANGES_PER_NODE)));
        Ok(Self { secret, me, server, seen, directories, connector, counters, exchanges, each })
    }

    /// Whether a body of this length can be a packet.
    pub fn takes(length: u64) -> bool {
        (v2::MIN_PACKET as u64..=v2::MAX_PACKET as u64).contains(&length)
    }

    /// Opens a packet, sends it on, and says what came of it: 200, 400 or 502 (503 under load).
    pub async fn answer(self: &Arc<Self>, pool: &Pool, packet: Vec<u8>, share: Share) -> StatusCode {
        let Ok(_exchange) = self.exchanges.try_acquire() else { return self.busy() };
        // Up to 1 MiB is opened, and a file written: not on a thread that serves.
        let (done, opened) = oneshot::channel();
        let this = Arc::clone(self);
        let open = move || drop(done.send(this.next(packet)));
        if pool.push(Job::Other(Box::new(open))).is_err() {
            return self.busy();
        }
        self.counters.count(Event::AcceptedV2);
        let next = match opened.await {
            Ok(Ok(next)) => next,
            Ok(Err((event, code))) => {
                self.counters.count(event);
                return code;
            }
            Err(_) => return StatusCode::SERVICE_UNAVAILABLE,
        };
        let Some(_place) = self.each.enter(next.node) else { return self.busy() };
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
    fn relay(&self, view: &View, url: &str) -> Result<(NodeId, Arc<Destination>), (Event, StatusCode)> {
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

/// Counts exchanges by next node.
#[derive(Debug)]
struct Places {
    each: usize,
    taken: Mutex<HashMap<NodeId, usize>>,
}

/// One of them; given back when dropped.
struct Place {
    of: Arc<Places>,
    node: NodeId,
}

impl Places {
    fn new(each: usize) -> Self {
        Self { each, taken: Mutex::default() }
    }

    fn enter(self: &Arc<Self>, node: NodeId) -> Option<Place> {
        let mut taken = self.lock();
        let count = taken.entry(node).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(Place { of: Arc::clone(self), node })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.lock();
        if let Entry::Occupied(mut count) = taken.entry(self.node) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_hangs_leaves_room_for_the_others() {
        let (places, slow, other) = (Arc::new(Places::new(2)), NodeId([1; 32]), NodeId([2; 32]));
        let held = [places.enter(slow), places.enter(slow)];
        assert!(held.iter().all(Option::is_some));
        assert!(places.enter(slow).is_none());
        assert!(places.enter(other).is_some());
        drop(held);
        assert!(places.enter(slow).is_some());
        assert!(places.lock().is_empty(), "nodes without an exchange are forgotten");
    }
}
