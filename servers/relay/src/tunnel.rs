//! `GET /tunnel`: a byte stream to a sync server of the directory, inside a WebSocket (docs/wire.md, section 7.4).
//!
//! What flows is the client's own TLS or Noise session with the server: the server sees this relay's address, and
//! the relay sees no topic. It can lead nowhere else: destinations are node ids, looked up in the directory and
//! connected to under the same address rules as forwarding.

mod carry;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use delta_core::identity::NodeId;
use delta_core::onion::directory::NodeKind;
use delta_relay_core::{Counters, Event};
use delta_server_shell::connect::{Connector, Destination, SystemResolver};
use delta_server_shell::directory::Directories;
use delta_server_shell::limit::{Shares, bound};
use delta_server_shell::platform::Clock;
use delta_server_shell::serve::{Io, Peer};
use delta_server_shell::websocket;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Request, StatusCode};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::http::{Answer, status};

/// Largest message of a client.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Buffers of the WebSocket library, each way.
const BUFFER: usize = 4 * 1024;
/// A tunnel through which no byte has passed for this long is closed.
pub const IDLE: Duration = Duration::from_secs(300);

/// What tunnels may use.
#[derive(Clone, Copy, Debug)]
pub struct TunnelLimits {
    /// At once; 0 for no limit.
    pub tunnels: u64,
    /// Bytes per second and tunnel, each way.
    pub bytes_per_second: u64,
    /// See [`IDLE`].
    pub idle: Duration,
}

/// Opens tunnels.
#[derive(Debug)]
pub struct Tunnels {
    /// Where they may lead.
    pub directories: Arc<Directories>,
    /// Connects under the address rules.
    pub connector: Connector<SystemResolver>,
    /// How many from one address.
    pub each: Arc<Shares>,
    /// What they may use.
    pub limits: TunnelLimits,
    /// How many there are.
    pub open: AtomicU64,
    /// Turns true when they are to end.
    pub closing: watch::Receiver<bool>,
    /// What happened.
    pub counters: Arc<Counters>,
    /// For rates and idle times.
    pub clock: Clock,
}

impl Tunnels {
    /// Answers a request: 101 once the server is connected.
    pub async fn answer(self: &Arc<Self>, mut request: Request<Incoming>, peer: Peer) -> Answer {
        let Some(to) = destination(request.uri().query()) else { return status(StatusCode::BAD_REQUEST) };
        let view = self.directories.view();
        let server = view.node(&to).filter(|node| node.kind == NodeKind::Sync);
        let Some(server) = server.and_then(|node| Destination::new(&node.url, "")) else {
            return status(StatusCode::NOT_FOUND);
        };
        let Some(accept) = websocket::accept(request.headers()) else {
            return status(StatusCode::UPGRADE_REQUIRED);
        };
        let Some(share) = self.each.take(peer.address, 1) else {
            return self.busy(StatusCode::TOO_MANY_REQUESTS);
        };
        let Some(place) = self.enter() else { return self.busy(StatusCode::SERVICE_UNAVAILABLE) };
        let Ok(stream) = self.connector.connect_plain(&server).await else {
            return status(StatusCode::BAD_GATEWAY);
        };
        self.counters.count(Event::Tunnel);
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            // A client that goes away before the upgrade is done is gone, and nothing to report.
            if let Ok(upgraded) = upgrade.await
                && let Ok(parts) = upgraded.downcast::<hyper_util::rt::TokioIo<Io>>()
            {
                let config = WebSocketConfig::default()
                    .read_buffer_size(BUFFER)
                    .write_buffer_size(BUFFER)
                    .max_message_size(Some(MAX_MESSAGE))
                    .max_frame_size(Some(MAX_MESSAGE));
                let (io, early) = (parts.io.into_inner(), parts.read_buf.to_vec());
                let ws = WebSocketStream::from_partially_read(io, early, Role::Server, Some(config)).await;
                let Tunnels { limits, clock, closing, .. } = &*place.tunnels;
                carry::carry(ws, stream, *limits, *clock, closing.clone()).await;
            }
            drop((peer, share, place));
        });
        websocket::switching(accept, None).map(|()| http_body_util::Full::default())
    }

    fn enter(self: &Arc<Self>) -> Option<Place> {
        let most = bound(self.limits.tunnels);
        let one_more = |open| (open < most).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Place { tunnels: Arc::clone(self) })
    }

    fn busy(&self, code: StatusCode) -> Answer {
        self.counters.count(Event::Busy);
        let mut answer = status(code);
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        answer
    }
}

/// A tunnel's place; given back when dropped.
struct Place {
    tunnels: Arc<Tunnels>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tunnels.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The node id of the one `to` in a query; further parameters are ignored.
fn destination(query: Option<&str>) -> Option<NodeId> {
    let mut named = query?.split('&').filter_map(|pair| pair.strip_prefix("to="));
    match (named.next(), named.next()) {
        (Some(id), None) => id.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_one_node_id() {
        let id = "ab".repeat(32);
        assert_eq!(destination(Some(&format!("to={id}"))), Some(NodeId([0xab; 32])));
        assert_eq!(destination(Some(&format!("x=1&to={id}&y"))), Some(NodeId([0xab; 32])));
        let upper = format!("to={}", id.to_uppercase());
        let twice = format!("to={id}&to={id}");
        for bad in ["", "to=", "to=abcd", "to=http://127.0.0.1", &upper, &twice] {
            assert_eq!(destination(Some(bad)), None, "{bad}");
        }
        assert_eq!(destination(None), None);
    }
}
