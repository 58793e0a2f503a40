//! How long it takes from a delivery to every subscriber's push, at a rate the server does not choose.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use delta_core::sync::frame::Frame;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{CONNECTIONS, Figure, PATIENCE, Running, finish, ready_subscriber};
use crate::http::Connection;
use crate::subscriber::{Event, Subscriber};
use crate::workload::{Workload, index_of};

/// Latencies, milliseconds, and what they cost.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// Of half of the pushes, at most.
    pub p50: f64,
    /// Of 99 of 100 pushes, at most.
    pub p99: f64,
    /// Of the slowest.
    pub max: f64,
    /// The rate that was reached, and the processor time.
    pub figure: Figure,
}

/// Sends `count` single-operation packets, evenly, `rate` a second, to one topic with `subscribers`. A delivery counts
/// from the moment it was due, whether the generator was late or not.
///
/// # Errors
/// Something was lost, doubled or refused.
pub async fn latency(program: &Path, rate: f64, count: usize, subscribers: usize) -> anyhow::Result<Latency> {
    let running = Running::start(program).await?;
    let server = &running.server;
    let workload = Workload::new(1, count, 1);
    let requests = Arc::new(workload.requests(&server.hop)?);
    let topic = *workload.topics().first().ok_or_else(|| anyhow::anyhow!("no topic"))?;
    let mut sockets = Vec::new();
    for _ in 0..subscribers {
        sockets.push(ready_subscriber(server, &topic).await?);
    }

    let before = server.processor_seconds()?;
    let start = Instant::now() + Duration::from_millis(50);
    let due = move |index: usize| start + Duration::from_secs_f64(index as f64 / rate);
    let mut readers = JoinSet::new();
    for socket in sockets {
        readers.spawn(read(socket, count, due));
    }
    let mut connections = JoinSet::new();
    for first in 0..CONNECTIONS {
        let (requests, to) = (Arc::clone(&requests), server.address);
        connections.spawn(async move {
            let mut connection = Connection::open(to).await?;
            for (index, request) in requests.iter().enumerate().skip(first).step_by(CONNECTIONS) {
                tokio::time::sleep_until(due(index)).await;
                let answer = connection.send(request).await?;
                ensure!(answer.status == 202, "a packet was answered with {}", answer.status);
            }
            anyhow::Ok(())
        });
    }
    let read = timeout(PATIENCE, finish(readers)).await;
    let mut all = read.map_err(|_| anyhow::anyhow!("operations are missing"))??.concat();
    let wall = start.elapsed().as_secs_f64();
    let processor = server.processor_seconds()? - before;
    finish(connections).await?;
    let commits = server.metric("delta_sync_commits_total").await?;
    all.sort_unstable_by(f32::total_cmp);
    let at = |share: f64| all.get(((all.len() - 1) as f64 * share) as usize).copied().unwrap_or(0.0).into();
    let figure = Figure { count: count * subscribers, wall, processor, commits };
    Ok(Latency { p50: at(0.5), p99: at(0.99), max: at(1.0), figure })
}

/// The latency of every operation, milliseconds.
async fn read(
    mut socket: Subscriber,
    count: usize,
    due: impl Fn(usize) -> Instant,
) -> anyhow::Result<Vec<f32>> {
    let mut late = Vec::with_capacity(count);
    let mut seen = vec![false; count];
    while late.len() < count {
        let Event::Frame(frame) = socket.next().await? else { anyhow::bail!("no frame") };
        let now = Instant::now();
        let Frame::Ops(ops) = frame else { continue };
        for op in ops {
            ensure!(op.seq.0 == late.len() as u64 + 1, "a hole before seq {}", op.seq);
            let index = index_of(&op.op).filter(|index| *index < count);
            let index = index.ok_or_else(|| anyhow::anyhow!("an operation that was not sent"))?;
            ensure!(!std::mem::replace(&mut seen[index], true), "an operation came twice");
            late.push(now.saturating_duration_since(due(index)).as_secs_f32() * 1e3);
        }
    }
    Ok(late)
}
