//! The operator's view: counters and the size of what waits, as Prometheus text.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use delta_relay_core::{Counters, Event};
use delta_server_shell::OnionKeys;
use delta_server_shell::serve::Door;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use crate::forward::Forwarder;
use crate::http::{Answer, text};
use crate::tunnel::Tunnels;
use crate::v2::V2;
use delta_server_shell::directory::Directories;

/// What the admin address shows. Numbers only: no addresses, keys, tags or sizes of single packets.
#[derive(Debug)]
pub struct Metrics {
    /// Counted events.
    pub counters: Arc<Counters>,
    /// Packets that wait.
    pub forwarder: Arc<Forwarder>,
    /// Replay sets.
    pub keys: Arc<OnionKeys>,
    /// Known nodes.
    pub directories: Arc<Directories>,
    /// Who is let in.
    pub door: Arc<Door>,
    /// Tunnels, where they are offered.
    pub tunnels: Option<Arc<Tunnels>>,
    /// Version 2, where it is taken.
    pub v2: Option<Arc<V2>>,
}

impl Metrics {
    /// Answers a request on the admin address.
    pub fn answer(&self, request: &Request<Incoming>) -> Answer {
        match request.uri().path() {
            "/metrics" => text(StatusCode::OK, self.page()),
            "/health" => text(StatusCode::OK, "ok\n"),
            _ => text(StatusCode::NOT_FOUND, "/metrics, /health\n"),
        }
    }

    fn page(&self) -> String {
        let mut page = String::new();
        let name = "delta_relay_events_total";
        let _ = writeln!(page, "# HELP {name} What happened to packets.\n# TYPE {name} counter");
        for event in Event::ALL {
            let _ = writeln!(page, "{name}{{event=\"{}\"}} {}", event.label(), self.counters.get(*event));
        }
        for (name, help, value) in [
            ("delta_relay_packets_waiting", "Packets held, queued or in flight.", self.forwarder.len()),
            ("delta_relay_connections", "Open connections.", open(&self.door.open)),
            (
                "delta_relay_tunnels",
                "Open tunnels.",
                self.tunnels.as_ref().map_or(0, |tunnels| open(&tunnels.open)),
            ),
            (
                "delta_relay_replay_tags",
                "Packets remembered so that none is taken twice.",
                self.keys.set().tags(),
            ),
            (
                "delta_relay_v2_replay_tags",
                "Packets of version 2 remembered; at the limit v2_replay_tags no more are taken.",
                self.v2.as_ref().map_or(0, |v2| v2.tags()),
            ),
            (
                "delta_relay_known_nodes",
                "Nodes packets may be forwarded to.",
                self.directories.view().nodes().len(),
            ),
        ] {
            let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        let refused = self.directories.refused();
        let name = "delta_relay_directory_refused_total";
        let help = "New directory files that were refused.";
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {refused}");
        page
    }
}

fn open(count: &AtomicU64) -> usize {
    usize::try_from(count.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
}
