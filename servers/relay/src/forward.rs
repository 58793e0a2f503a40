//! Queues and connections to next nodes around the pure [`Mixer`].
//!
//! Each next node has one queue and a number of workers that grows with the queue; a worker holds one keep-alive
//! connection and has one request on it at a time.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use delta_core::entropy::{Entropy, EntropyError, SeededEntropy};
use delta_core::identity::{Millis, NodeId};
use delta_relay_core::{Counters, Event, Forward, Limits, Mixer, Outcome};
use delta_server_shell::PlatformEntropy;
use delta_server_shell::platform::Clock;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use crate::link::{self, Link};
use delta_server_shell::connect::{Connector, SystemResolver};
use delta_server_shell::directory::Directories;

/// Most connections to one next node.
const MAX_CONNECTIONS: usize = 64;
/// One more connection is opened when this many packets wait per open one.
const BACKLOG: usize = 2;
/// A connection without work is closed after this; servers close theirs later, so that it is seldom used too late.
const IDLE: Duration = Duration::from_secs(20);

/// A packet to forward: where to, after how many milliseconds, what.
pub type Outgoing = (NodeId, u64, Bytes);

/// Everything between peeling and the next node.
pub struct Forwarder {
    mixer: Mutex<Mixer>,
    // A deadline moved forward.
    sooner: Notify,
    hops: Mutex<HashMap<NodeId, Arc<Hop>>>,
    connector: Connector<SystemResolver>,
    directories: Arc<Directories>,
    counters: Arc<Counters>,
    clock: Clock,
    runtime: Handle,
}

struct Hop {
    queue: Mutex<Queue>,
    // As many permits as packets in the queue.
    waiting: Semaphore,
}

#[derive(Default)]
struct Queue {
    packets: VecDeque<Forward>,
    workers: usize,
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Forwarder(..)")
    }
}

/// A panic elsewhere leaves what these locks guard as it was between two calls.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Forwarder {
    /// Starts the timer; connections are opened by `runtime` as packets come.
    pub fn start(
        limits: Limits,
        connector: Connector<SystemResolver>,
        directories: Arc<Directories>,
        counters: Arc<Counters>,
        clock: Clock,
        runtime: Handle,
    ) -> Arc<Self> {
        let this = Arc::new(Self {
            mixer: Mutex::new(Mixer::new(limits)),
            sooner: Notify::new(),
            hops: Mutex::new(HashMap::new()),
            connector,
            directories,
            counters,
            clock,
            runtime,
        });
        this.runtime.spawn(Arc::clone(&this).run_timer());
        this
    }

    /// Takes peeled packets.
    pub fn submit(self: &Arc<Self>, packets: impl Iterator<Item = Outgoing>) {
        let now = self.clock.now();
        let mut mixer = lock(&self.mixer);
        let before = mixer.poll_timeout();
        for (next, delay_ms, packet) in packets {
            if let Err(event) = mixer.push(now, next, delay_ms, packet) {
                self.counters.count(event);
            }
        }
        let ready = drain(&mut mixer, now);
        let sooner = mixer.poll_timeout().is_some_and(|after| before.is_none_or(|before| after < before));
        drop(mixer);
        if sooner {
            self.sooner.notify_one();
        }
        self.send_out(ready);
    }

    /// Whether nothing is held, queued or in flight.
    pub fn is_empty(&self) -> bool {
        lock(&self.mixer).is_empty()
    }

    /// How many packets are held, queued or in flight.
    pub fn len(&self) -> usize {
        lock(&self.mixer).len()
    }

    async fn run_timer(self: Arc<Self>) {
        loop {
            let due = lock(&self.mixer).poll_timeout();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(self.clock.instant(due).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = self.sooner.notified() => continue,
            }
            if let Err(error) = self.handle_timeout() {
                tracing::error!("{error}; packets wait until it works again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    fn handle_timeout(self: &Arc<Self>) -> Result<(), EntropyError> {
        let mut seed = [0; 32];
        PlatformEntropy.fill(&mut seed)?;
        let now = self.clock.now();
        let mut mixer = lock(&self.mixer);
        let shuffled = mixer.handle_timeout(now, &mut SeededEntropy::new(seed));
        let ready = drain(&mut mixer, now);
        drop(mixer);
        self.send_out(ready);
        shuffled
    }

    /// Queues packets at their nodes, and starts workers where the backlog asks for them.
    fn send_out(self: &Arc<Self>, ready: Vec<Forward>) {
        if ready.is_empty() {
            return;
        }
        let mut hops = lock(&self.hops);
        for forward in ready {
            let next = forward.next();
            let hop = hops
                .entry(next)
                .or_insert_with(|| Arc::new(Hop { queue: Mutex::default(), waiting: Semaphore::new(0) }));
            let mut queue = lock(&hop.queue);
            queue.packets.push_back(forward);
            hop.waiting.add_permits(1);
            if queue.workers == 0
                || (queue.workers < MAX_CONNECTIONS && queue.packets.len() > BACKLOG * queue.workers)
            {
                queue.workers += 1;
                self.runtime.spawn(Arc::clone(self).work(next, Arc::clone(hop)));
            }
        }
    }

    /// One worker: packet by packet over one connection, until there has been nothing to do for a while.
    async fn work(self: Arc<Self>, next: NodeId, hop: Arc<Hop>) {
        let mut link: Option<Link> = None;
        while let Some(forward) = hop.take(&mut link).await {
            let outcome = match self.directories.view().destination(&forward.next()) {
                Some(to) => link::send(&self.connector, &mut link, to, link::PACKET, forward.packet()).await,
                // It left the directory while the packet waited.
                None => Outcome::Refused,
            };
            self.finish(forward, outcome);
        }
        forget(&mut lock(&self.hops), &next);
    }

    fn finish(&self, forward: Forward, outcome: Outcome) {
        let event = lock(&self.mixer).handle_outcome(self.clock.now(), forward, outcome);
        self.counters.count(event);
        if event == Event::Retried {
            self.sooner.notify_one();
        }
    }
}

impl Hop {
    /// The next packet; `None` ends the worker.
    async fn take(&self, link: &mut Option<Link>) -> Option<Forward> {
        loop {
            let permit = match self.waiting.try_acquire() {
                Ok(permit) => permit,
                Err(_) => {
                    let closed = async {
                        match link {
                            Some(open) => open.closed().await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        permit = self.waiting.acquire() => permit.ok()?,
                        () = closed => continue,
                        () = tokio::time::sleep(IDLE) => {
                            let mut queue = lock(&self.queue);
                            // A packet may have come meanwhile, counting on this worker.
                            if queue.packets.is_empty() {
                                queue.workers -= 1;
                                return None;
                            }
                            continue;
                        }
                    }
                }
            };
            permit.forget();
            if let Some(forward) = lock(&self.queue).packets.pop_front() {
                return Some(forward);
            }
        }
    }
}

/// Drops a node's queue when nobody uses it, so that nodes that were listed once do not stay for ever.
fn forget(hops: &mut HashMap<NodeId, Arc<Hop>>, node: &NodeId) {
    let is_idle = |hop: &Arc<Hop>| {
        let queue = lock(&hop.queue);
        // A packet may have come meanwhile, and brought a worker.
        queue.workers == 0 && queue.packets.is_empty()
    };
    if hops.get(node).is_some_and(is_idle) {
        hops.remove(node);
    }
}

fn drain(mixer: &mut Mixer, now: Millis) -> Vec<Forward> {
    std::iter::from_fn(|| mixer.poll_transmit(now)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_forgotten_once_it_has_neither_packets_nor_workers() {
        let (mut hops, node) = (HashMap::new(), NodeId([1; 32]));
        let queue = Queue { workers: 1, ..Queue::default() };
        let hop = Arc::new(Hop { queue: Mutex::new(queue), waiting: Semaphore::new(0) });
        hops.insert(node, Arc::clone(&hop));
        forget(&mut hops, &node);
        assert_eq!(hops.len(), 1);
        lock(&hop.queue).workers = 0;
        forget(&mut hops, &node);
        assert!(hops.is_empty());
    }
}
