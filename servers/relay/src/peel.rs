//! The worker pool that opens packets: as many threads as cores, a bounded queue in front of them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use delta_core::identity::NodeId;
use delta_core::onion::v3::Opened;
use delta_relay_core::{Counters, Event, gate};
use delta_replay::Admission;
use delta_server_shell::{KeySet, OnionKeys};
use tokio::sync::oneshot;

use crate::budget::Share;
use crate::forward::{Forwarder, Outgoing};
use delta_server_shell::directory::Directories;

/// Packets that wait to be opened, per thread: about 25 ms of work. Above it senders get 503.
const QUEUE_PER_THREAD: usize = 512;
/// Packets a thread takes at once.
const BATCH: usize = 16;

/// What a thread is to do.
pub enum Job {
    /// Open and forward a packet that was answered with 202.
    Packet {
        /// Its bytes.
        packet: Vec<u8>,
        /// Its part of the memory budget.
        share: Share,
    },
    /// Something else of about as much work.
    Other(Box<dyn FnOnce() + Send>),
}

/// The queue in front of the threads.
pub struct Pool {
    queue: Mutex<Queue>,
    wake: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    busy: usize,
    // Threads that wait: waking nobody would still cost a system call per packet.
    asleep: usize,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool(..)")
    }
}

/// What a thread needs to turn a packet into the next one.
#[derive(Debug)]
pub struct Peeler {
    /// This relay.
    pub me: NodeId,
    /// Its keys.
    pub keys: Arc<OnionKeys>,
    /// Whom it forwards to.
    pub directories: Arc<Directories>,
    /// Where peeled packets go.
    pub forwarder: Arc<Forwarder>,
    /// What happened.
    pub counters: Arc<Counters>,
    /// Whether a replay file could not be written: said once, not per packet.
    pub unwritable: AtomicBool,
}

impl Pool {
    /// Starts `threads` threads. They end with the process.
    pub fn start(threads: usize, peeler: Peeler) -> std::io::Result<Arc<Self>> {
        let capacity = threads * QUEUE_PER_THREAD;
        let this = Arc::new(Self { queue: Mutex::default(), wake: Condvar::new(), capacity });
        let peeler = Arc::new(peeler);
        for index in 0..threads {
            let (pool, peeler) = (Arc::clone(&this), Arc::clone(&peeler));
            let thread = std::thread::Builder::new().name(format!("peel-{index}"));
            thread.spawn(move || pool.run(&peeler))?;
        }
        Ok(this)
    }

    /// Queues a job; gives it back when the queue is full.
    pub fn push(&self, job: Job) -> Result<(), Job> {
        let mut queue = self.lock();
        if queue.jobs.len() >= self.capacity {
            return Err(job);
        }
        queue.jobs.push_back(job);
        let wake = queue.asleep > 0;
        drop(queue);
        if wake {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Does something in a thread; `None` when the queue is full. What it needs for that (`held`) is given back with the
    /// outcome, and is held until the work is done even when nobody waits for it any more.
    pub fn submit<T: Send + 'static, H: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        held: H,
    ) -> Option<oneshot::Receiver<(T, H)>> {
        let (done, outcome) = oneshot::channel();
        let work = move || {
            // Nobody waits: nothing is begun.
            if !done.is_closed() {
                drop(done.send((work(), held)));
            }
        };
        self.push(Job::Other(Box::new(work))).ok().map(|()| outcome)
    }

    /// Whether nothing is queued or being opened.
    pub fn is_empty(&self) -> bool {
        let queue = self.lock();
        queue.jobs.is_empty() && queue.busy == 0
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, peeler: &Peeler) {
        let (mut jobs, mut outgoing) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        loop {
            let mut queue = self.lock();
            while queue.jobs.is_empty() {
                queue.asleep += 1;
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.asleep -= 1;
            }
            let count = queue.jobs.len().min(BATCH);
            jobs.extend(queue.jobs.drain(..count));
            queue.busy += 1;
            drop(queue);
            peeler.peel(jobs.drain(..), &mut outgoing);
            self.lock().busy -= 1;
        }
    }
}

impl Peeler {
    fn peel(&self, jobs: impl Iterator<Item = Job>, outgoing: &mut Vec<Outgoing>) {
        let (view, keys) = (self.directories.view(), self.keys.set());
        let mut opened = Vec::with_capacity(BATCH);
        for job in jobs {
            match job {
                Job::Packet { packet, share } => match gate::open(keys.secrets(), packet) {
                    Ok(packet) => opened.push((packet, share)),
                    Err(event) => self.counters.count(event),
                },
                Job::Other(work) => work(),
            }
        }
        let known = |node: &NodeId| view.destination(node).is_some();
        let admitted = self.remember(&keys, &opened);
        for ((opened, share), admitted) in opened.into_iter().zip(admitted) {
            match admitted.and_then(|()| gate::route(opened, &self.me, known)) {
                Ok(routed) => outgoing.push((routed.next, routed.delay_ms, share.attach(routed.packet))),
                Err(event) => self.counters.count(event),
            }
        }
        self.forwarder.submit(outgoing.drain(..));
    }

    /// The tags are in the file before anything is done with the packets: those of one key with one write.
    fn remember(&self, keys: &KeySet, opened: &[(Opened, Share)]) -> Vec<Result<(), Event>> {
        let mut outcomes = vec![Err(Event::ReplayUnavailable); opened.len()];
        for secret in keys.secrets() {
            let kid = secret.kid();
            let Some(seen) = keys.seen(kid) else { continue };
            let of_key = || opened.iter().enumerate().filter(|(_, (packet, _))| packet.kid() == kid);
            let tags: Vec<_> = of_key().map(|(_, (packet, _))| packet.replay_tag()).collect();
            if tags.is_empty() {
                continue;
            }
            match seen.admit_all(&tags) {
                Ok(admissions) => {
                    for ((place, _), admission) in of_key().zip(admissions) {
                        let outcome = match admission {
                            Admission::Fresh => Ok(()),
                            Admission::Seen => Err(Event::Replayed),
                            Admission::Full => Err(Event::ReplayUnavailable),
                        };
                        if let Some(slot) = outcomes.get_mut(place) {
                            *slot = outcome;
                        }
                    }
                }
                Err(error) => {
                    if !self.unwritable.swap(true, Ordering::Relaxed) {
                        tracing::error!("{error}; packets are dropped while it cannot be written");
                    }
                }
            }
        }
        outcomes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Pool {
        /// One whose threads do nothing.
        fn stuck(capacity: usize) -> Self {
            Self { queue: Mutex::default(), wake: Condvar::new(), capacity }
        }

        /// Does what a thread would do next.
        fn step(&self) {
            let job = self.lock().jobs.pop_front();
            match job {
                Some(Job::Other(work)) => work(),
                _ => panic!("nothing to do"),
            }
        }
    }

    #[test]
    fn what_a_job_holds_is_held_until_it_is_done_though_nobody_waits_any_more() {
        let (pool, budget) = (Pool::stuck(2), crate::budget::Budget::new(10));
        let mut waiting = pool.submit(|| 1, budget.take(4)).unwrap();
        let gone = pool.submit(|| panic!("nobody waits for this"), budget.take(6)).unwrap();
        assert!(pool.submit(|| 3, ()).is_none(), "the queue is full");
        drop(gone);
        assert!(budget.take(1).is_none(), "both are in the queue");
        pool.step();
        assert!(budget.take(1).is_none(), "who waits gets it");
        let (outcome, held) = waiting.try_recv().unwrap();
        assert_eq!(outcome, 1);
        drop(held);
        pool.step();
        assert!(budget.take(10).is_some());
    }
}
