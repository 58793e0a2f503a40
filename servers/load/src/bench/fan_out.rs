//! How many operations times subscribers a second are pushed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::ensure;
use bytes::Bytes;
use delta_core::sync::frame::Frame;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{Figure, PATIENCE, Running, deliver, finish, ready_subscriber};
use crate::subscriber::{Event, Subscriber};
use crate::workload::{Workload, index_of};

/// Packets on their way at most.
const WINDOW: usize = 64;

/// What all subscribers of one topic must agree on: which operation has which seq.
struct Order {
    sent: Vec<Bytes>,
    /// Index + 1 of the operation at each seq, as the first subscriber saw it.
    at: Vec<AtomicU32>,
}

impl Order {
    fn check(&self, seq: u64, op: &[u8]) -> anyhow::Result<()> {
        let index = index_of(op).filter(|index| self.sent.get(*index).is_some_and(|sent| sent == op));
        let index = index.ok_or_else(|| anyhow::anyhow!("seq {seq} holds what was not sent"))?;
        let place = usize::try_from(seq - 1).ok().and_then(|place| self.at.get(place));
        let place = place.ok_or_else(|| anyhow::anyhow!("seq {seq} of {}", self.sent.len()))?;
        let named = u32::try_from(index + 1)?;
        let before = place.compare_exchange(0, named, Ordering::Relaxed, Ordering::Relaxed);
        ensure!(before.is_ok() || before == Err(named), "two operations at seq {seq}");
        Ok(())
    }
}

/// Delivers `packets` packets of `per_packet` operations to one topic with `subscribers` and waits until each of them
/// has all.
///
/// # Errors
/// Something was lost, doubled, changed, or came in another order to somebody.
pub async fn fan_out(
    program: &Path,
    subscribers: usize,
    packets: usize,
    per_packet: usize,
) -> anyhow::Result<Figure> {
    let running = Running::start(program).await?;
    let server = &running.server;
    let workload = Workload::new(1, packets, per_packet);
    let requests = workload.requests(&server.hop)?;
    let topic = *workload.topics().first().ok_or_else(|| anyhow::anyhow!("no topic"))?;
    let mut sockets = Vec::new();
    for _ in 0..subscribers {
        sockets.push(ready_subscriber(server, &topic).await?);
    }
    let count = workload.ops.len();
    let order = Arc::new(Order { sent: workload.ops, at: (0..count).map(|_| AtomicU32::new(0)).collect() });

    let window = Arc::new(Semaphore::new(WINDOW));
    let before = server.processor_seconds()?;
    let started = Instant::now();
    let mut readers = JoinSet::new();
    for (number, socket) in sockets.into_iter().enumerate() {
        // The first one's progress makes room for more packets.
        let room = (number == 0).then(|| (Arc::clone(&window), per_packet));
        readers.spawn(read(socket, Arc::clone(&order), count, room));
    }
    let connections = deliver(server, requests, &window);
    timeout(PATIENCE, finish(readers)).await.map_err(|_| anyhow::anyhow!("operations are missing"))??;
    let wall = started.elapsed().as_secs_f64();
    let processor = server.processor_seconds()? - before;
    finish(connections).await?;
    let commits = server.metric("delta_sync_commits_total").await?;
    Ok(Figure { count: count * subscribers, wall, processor, commits })
}

/// Reads until `count` operations are there, in order, without a hole.
async fn read(
    mut socket: Subscriber,
    order: Arc<Order>,
    count: usize,
    room: Option<(Arc<Semaphore>, usize)>,
) -> anyhow::Result<()> {
    let (mut last, mut packets) = (0, 0);
    while last < count as u64 {
        match socket.next().await? {
            Event::Frame(Frame::Ops(ops)) => {
                for op in &ops {
                    ensure!(op.seq.0 == last + 1, "seq {} came after {last}", op.seq);
                    last += 1;
                    order.check(last, &op.op)?;
                }
            }
            Event::Frame(Frame::Head(_)) => {}
            other => anyhow::bail!("{other:?} instead of operations"),
        }
        if let Some((window, per_packet)) = &room {
            let done = usize::try_from(last)? / per_packet;
            window.add_permits(done - packets);
            packets = done;
        }
    }
    Ok(())
}
