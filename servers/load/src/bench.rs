//! Figures of a sync server: what is measured, and that it is complete.
//!
//! Packets are made before the clock starts. The generator runs on the same cores as the server, so beside the rate on
//! the clock stands the processor time the server's process used for one operation, and the rate it would reach
//! with one core for itself. Every measurement compares what arrived with what was sent before it gives a number.

mod deliveries;
mod fan_out;
mod idle;
mod latency;
mod replay;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use delta_core::topic::Seq;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use deliveries::deliveries;
pub use fan_out::fan_out;
pub use idle::idle;
pub use latency::{Latency, latency};
pub use replay::replay;

use crate::http::Connection;
use crate::server::Server;
use crate::subscriber::{Event, Subscriber};
use crate::view::View;
use crate::workload::{Workload, index_of};

/// No measurement takes longer; then something is lost.
const PATIENCE: Duration = Duration::from_secs(300);
/// Connections that deliver, as so many relays would.
const CONNECTIONS: usize = 32;

/// No limit that one loopback address would reach.
const NO_LIMITS: [&str; 2] = [
    "--limit",
    "deliveries_per_topic_per_minute=0,connections_per_address=0,subscribes_per_second_per_address=0,\
     upload_bytes_per_address=0",
];

/// What a measurement gives.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// How many operations (or pushes of operations).
    pub count: usize,
    /// Seconds on the clock.
    pub wall: f64,
    /// Seconds of processor time of the server.
    pub processor: f64,
    /// Commits the server made for it, warm-up included.
    pub commits: u64,
}

impl Figure {
    /// So many a second on the clock, beside the generator.
    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.wall
    }

    /// So many in a second of one core of the server's.
    pub fn per_core(&self) -> f64 {
        self.count as f64 / self.processor
    }

    /// Microseconds of the server's processor time for one.
    pub fn micros(&self) -> f64 {
        self.processor * 1e6 / self.count as f64
    }
}

/// A server with a fresh data folder.
struct Running {
    server: Server,
    // After the server: a folder is removed when nobody uses it any more.
    _data: tempfile::TempDir,
}

impl Running {
    async fn start(program: &Path) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let log: PathBuf = data.path().join("log");
        let server = Server::start(program, &data.path().join("data"), &log, &NO_LIMITS).await?;
        Ok(Self { server, _data: data })
    }
}

/// Delivers requests over [`CONNECTIONS`] connections, in order on each, as far as `window` has room; room is given
/// back by whoever sees operations arrive.
fn deliver(server: &Server, requests: Vec<Bytes>, window: &Arc<Semaphore>) -> JoinSet<anyhow::Result<()>> {
    let requests = Arc::new(requests);
    let mut connections = JoinSet::new();
    for first in 0..CONNECTIONS {
        let (requests, window, to) = (Arc::clone(&requests), Arc::clone(window), server.address);
        connections.spawn(async move {
            let mut connection = Connection::open(to).await?;
            for request in requests.iter().skip(first).step_by(CONNECTIONS) {
                window.acquire().await?.forget();
                let answer = connection.send(request).await?;
                ensure!(answer.status == 202, "a packet was answered with {}", answer.status);
            }
            Ok(())
        });
    }
    connections
}

/// Waits until all connections are done.
async fn finish<T: 'static>(mut tasks: JoinSet<anyhow::Result<T>>) -> anyhow::Result<Vec<T>> {
    let mut done = Vec::new();
    while let Some(task) = tasks.join_next().await {
        done.push(task??);
    }
    Ok(done)
}

/// Reads every log of a workload and insists that each operation is in the log of its topic, once and unchanged.
async fn verify(server: &Server, workload: &Workload) -> anyhow::Result<()> {
    let mut seen = vec![false; workload.ops.len()];
    for (topic_number, topic) in workload.topics().into_iter().enumerate() {
        let opened = Subscriber::open(server.address, &topic, "since=0").await?;
        let mut socket = opened.map_err(|status| anyhow::anyhow!("refused with {status}"))?;
        let mut view = View::new(topic, server.key);
        while !view.ready {
            let Event::Frame(frame) = socket.next().await? else { anyhow::bail!("no frame") };
            let mut wrong = None;
            view.take(&frame, |seq, _, op| {
                let index =
                    index_of(op).filter(|index| workload.ops.get(*index).is_some_and(|sent| sent == op));
                let first = index.is_some_and(|index| {
                    workload.topic_of(index) == topic_number && !std::mem::replace(&mut seen[index], true)
                });
                if !first {
                    wrong = Some(seq);
                }
            })?;
            ensure!(wrong.is_none(), "{:?} holds what was not sent, or was sent elsewhere", wrong);
        }
        ensure!(view.gaps == 0, "a gap");
    }
    let missing = seen.iter().filter(|seen| !**seen).count();
    ensure!(missing == 0, "{missing} operations are not stored");
    Ok(())
}

/// A fresh subscriber of a topic, past its `ready`.
async fn ready_subscriber(server: &Server, topic: &delta_core::topic::TopicId) -> anyhow::Result<Subscriber> {
    let opened = Subscriber::open(server.address, topic, "since=0").await?;
    let mut socket = opened.map_err(|status| anyhow::anyhow!("refused with {status}"))?;
    let mut view = View::new(*topic, server.key);
    while !view.ready {
        match socket.next().await? {
            Event::Frame(frame) => view.take(&frame, |_, _, _| {})?,
            other => anyhow::bail!("{other:?} before ready"),
        }
    }
    ensure!(view.cursor == Seq(0), "a fresh topic is empty");
    Ok(socket)
}
