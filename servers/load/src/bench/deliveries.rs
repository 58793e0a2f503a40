//! How many operations a second become durable.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Figure, Running, deliver, finish, verify};
use crate::workload::Workload;

/// How often the server is asked how many it has stored: rarely, because asking costs it a little.
const LOOK: Duration = Duration::from_millis(20);
/// Packets on their way at most: enough that the server never waits for the generator between two looks.
const WINDOW: usize = 2048;

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

    let window = Arc::new(Semaphore::new(WINDOW));
    let before = server.processor_seconds()?;
    let started = Instant::now();
    let connections = deliver(server, requests, &window);
    let mut stored = 0;
    while stored < count {
        tokio::time::sleep(LOOK).await;
        let now = usize::try_from(server.metric("delta_sync_operations_stored_total").await?)?;
        window.add_permits(now / per_packet - stored / per_packet);
        stored = now;
        anyhow::ensure!(started.elapsed() < super::PATIENCE, "{} operations are missing", count - stored);
    }
    let wall = started.elapsed().as_secs_f64();
    let processor = server.processor_seconds()? - before;
    finish(connections).await?;
    let commits = server.metric("delta_sync_commits_total").await?;
    verify(server, &workload).await?;
    Ok(Figure { count, wall, processor, commits })
}
