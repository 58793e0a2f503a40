//! How fast one subscriber gets a whole log.

use std::path::Path;

use anyhow::ensure;
use delta_core::sync::frame::Frame;
use tokio::time::Instant;

use super::deliveries::store_all;
use super::{Figure, Running, verify};
use crate::subscriber::{Event, Subscriber};
use crate::workload::{Workload, index_of};

/// Stores `packets` packets of `per_packet` operations in one topic, then reads all of them `rounds` times, one
/// subscriber after another.
///
/// # Errors
/// Something was lost, doubled or changed.
pub async fn replay(
    program: &Path,
    packets: usize,
    per_packet: usize,
    rounds: usize,
) -> anyhow::Result<Figure> {
    let running = Running::start(program).await?;
    let server = &running.server;
    let workload = Workload::new(1, packets, per_packet);
    let requests = workload.requests(&server.hop)?;
    let topic = *workload.topics().first().ok_or_else(|| anyhow::anyhow!("no topic"))?;
    let count = workload.ops.len();
    store_all(server, requests, per_packet, count).await?;
    verify(server, &workload).await?;

    let before = server.processor_seconds()?;
    let started = Instant::now();
    for _ in 0..rounds {
        let opened = Subscriber::open(server.address, &topic, "since=0").await?;
        let mut socket = opened.map_err(|status| anyhow::anyhow!("refused with {status}"))?;
        let mut last = 0;
        loop {
            match socket.next().await? {
                Event::Frame(Frame::Ops(ops)) => {
                    for op in &ops {
                        ensure!(op.seq.0 == last + 1, "seq {} came after {last}", op.seq);
                        let sent = index_of(&op.op).and_then(|index| workload.ops.get(index));
                        ensure!(sent.is_some_and(|sent| *sent == op.op), "seq {} was changed", op.seq);
                        last += 1;
                    }
                }
                Event::Frame(Frame::Ready(_)) => break,
                Event::Frame(_) => {}
                other => anyhow::bail!("{other:?} instead of operations"),
            }
        }
        ensure!(last == count as u64, "{last} of {count} operations");
    }
    let wall = started.elapsed().as_secs_f64();
    let processor = server.processor_seconds()? - before;
    Ok(Figure { count: count * rounds, wall, processor, commits: 0 })
}
