//! How many operations a second become durable.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Figure, PATIENCE, Running, deliver, finish, verify};
use crate::server::Server;
use crate::workload::Workload;

/// How often the server is asked how many it has stored: rarely, because asking costs it a little.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes on their way at most: enough that the server never waits for the generator between two looks, and too few
/// for it to refuse any.
const WINDOW_BYTES: usize = 12 << 20;

/// Delivers `packets` packets of `per_packet` operations to `topics` topics and waits until all are committed.
///
/// # Errors
/// Something was lost, changed or refused.
pub async fn deliveries(
    program: &Path,
    topics: usize,
    packets: usize,
    per_packet: usize,
) -> anyhow::Result<Figure> {
    let running = Running::start(program).await?;
    let server = &running.server;
    let workload = Workload::new(topics, packets, per_packet);
    let requests = workload.requests(&server.hop)?;
    let count = workload.ops.len();

    let before = server.processor_seconds()?;
    let started = Instant::now();
    store_all(server, requests, per_packet, count).await?;
    let wall = started.elapsed().as_secs_f64();
    let processor = server.processor_seconds()? - before;
    let commits = server.metric("delta_sync_commits_total").await?;
    verify(server, &workload).await?;
    Ok(Figure { count, wall, processor, commits })
}

/// Delivers requests and waits until all `count` operations in them are committed.
pub(super) async fn store_all(
    server: &Server,
    requests: Vec<Bytes>,
    per_packet: usize,
    count: usize,
) -> anyhow::Result<()> {
    let window = WINDOW_BYTES / requests.first().map_or(1, Bytes::len);
    let window = Arc::new(Semaphore::new(window));
    let mut connections = deliver(server, requests, &window);
    let (mut stored, started) = (0, Instant::now());
    while stored < count {
        tokio::time::sleep(LOOK).await;
        while let Some(done) = connections.try_join_next() {
            done??;
        }
        let now = usize::try_from(server.metric("delta_sync_operations_stored_total").await?)?;
        window.add_permits(now / per_packet - stored / per_packet);
        stored = now;
        anyhow::ensure!(started.elapsed() < PATIENCE, "{} operations are missing", count - stored);
    }
    finish(connections).await.map(drop)
}
