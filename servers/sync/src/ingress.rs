//! From packets to operations: a bounded pool of threads opens the last onion layer, checks the write signature and
//! hands the operations to the writer. Whatever fails here is counted and told to nobody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use delta_core::identity::Millis;
use delta_core::onion::deliver::{self, DeliverError, Delivery, FLAG_CONTROL, FLAG_SIGNAL};
use delta_core::onion::v3::{self, Opened, Peeled};
use delta_core::topic::TopicId;
use delta_replay::{Admission, Replay};
use delta_server_shell::bucket::Buckets;
use delta_server_shell::{OnionKeys, platform};
use delta_topic_log::Write;

use crate::health::Permit;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::writer::{Append, ControlWrite, Writer};

/// Buckets of topics kept before full ones are forgotten.
const MANY_BUCKETS: usize = 65_536;
const MINUTE_MS: u64 = 60_000;
/// Packets a thread opens at a time: they share one write to the replay file.
const SHARE: usize = 8;

/// A packet whose length is a size class.
#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    permit: Permit,
    opening: OpeningOne,
}

/// How many packets are on their way to the writer: it may wait a moment for them.
#[derive(Debug, Default)]
pub struct Opening(AtomicUsize);

/// One of them, until dropped.
#[derive(Debug)]
struct OpeningOne(Arc<Opening>);

impl Opening {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn one(self: &Arc<Self>) -> OpeningOne {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpeningOne(Arc::clone(self))
    }
}

impl Drop for OpeningOne {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the threads work with.
#[derive(Debug)]
pub struct IngressParts {
    /// The onion keys, and what they have opened.
    pub keys: Arc<OnionKeys>,
    /// Where operations go.
    pub writer: Writer,
    /// Where signals go.
    pub live: Arc<Live>,
    /// How many signals a topic may pass on.
    pub signals: SignalQuota,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Counts the packets here.
    pub opening: Arc<Opening>,
}

/// How many signals each topic may pass on.
#[derive(Debug)]
pub struct SignalQuota {
    buckets: Mutex<Buckets<TopicId>>,
    per_minute: u64,
}

impl SignalQuota {
    /// So many a minute for each topic; 0 for no limit.
    pub fn new(per_minute: u64) -> Self {
        Self { buckets: Mutex::new(Buckets::new(MANY_BUCKETS)), per_minute }
    }

    fn take(&self, topic: &TopicId, now: Millis) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.take(*topic, now, 1, self.per_minute, MINUTE_MS).is_ok()
    }
}

/// Sends packets to the threads.
#[derive(Clone, Debug)]
pub struct Ingress {
    queue: Arc<Queue<Packet>>,
    opening: Arc<Opening>,
}

impl Ingress {
    /// Packets that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Starts `count` threads.
    pub fn start(parts: IngressParts, count: usize) -> (Self, Vec<JoinHandle<()>>) {
        let (queue, opening) = (Arc::new(Queue::new(count)), Arc::clone(&parts.opening));
        let parts = Arc::new(parts);
        let work = |_| {
            let (parts, queue) = (Arc::clone(&parts), Arc::clone(&queue));
            std::thread::spawn(move || {
                let mut packets = Vec::with_capacity(SHARE);
                while queue.take(&mut packets, SHARE) {
                    // What is in a packet is anybody's: a bug there must not end the thread.
                    if catch_unwind(AssertUnwindSafe(|| parts.handle(&mut packets))).is_err() {
                        tracing::error!("opening packets panicked: this is a bug");
                        packets.clear();
                    }
                }
            })
        };
        let threads = (0..count).map(work).collect();
        (Self { queue, opening }, threads)
    }

    /// Queues a packet. What is in the queue is bounded by the permits.
    pub fn take(&self, bytes: Vec<u8>, permit: Permit) {
        // Stopped threads drop it: a 202 promises nothing.
        let _ = self.queue.push(Packet { bytes, permit, opening: self.opening.one() });
    }

    /// Lets the threads end once everything queued so far is opened.
    pub fn stop(&self) {
        self.queue.stop();
    }
}

impl IngressParts {
    /// Opens packets and hands on what is in them.
    fn handle(&self, packets: &mut Vec<Packet>) {
        let keys = self.keys.set();
        let mut opened = Vec::with_capacity(packets.len());
        for Packet { bytes, permit, opening } in packets.drain(..) {
            match v3::open(keys.secrets(), bytes) {
                Ok(packet) => opened.push((packet, permit, opening)),
                Err(_) => self.metrics.drop_seal.inc(),
            }
        }
        // Each onion key has a replay file; but for the time of a rotation all packets are of one.
        while let Some(kid) = opened.first().map(|(packet, ..): &(Opened, _, _)| packet.kid()) {
            let others = opened.iter().position(|(packet, ..)| packet.kid() != kid);
            let rest = others.map_or_else(Vec::new, |at| opened.split_off(at));
            let of_key = std::mem::replace(&mut opened, rest);
            match keys.seen(kid) {
                Some(seen) => self.admit(seen, of_key),
                None => self.metrics.drop_seal.add(of_key.len() as u64),
            }
        }
    }

    /// Remembers the tags of packets; none is acted on before its tag is in the replay file.
    fn admit(&self, seen: &Replay, opened: Vec<(Opened, Permit, OpeningOne)>) {
        let tags: Vec<[u8; 16]> = opened.iter().map(|(packet, ..)| packet.replay_tag()).collect();
        let admissions = match seen.admit_all(&tags) {
            Ok(admissions) => admissions,
            Err(error) => {
                tracing::warn!("packets are dropped: {error}");
                return self.metrics.drop_storage.add(opened.len() as u64);
            }
        };
        for ((packet, permit, opening), admission) in opened.into_iter().zip(admissions) {
            match admission {
                Admission::Fresh => self.parse(packet, permit, opening),
                Admission::Seen | Admission::Full => self.metrics.drop_replay.inc(),
            }
        }
    }

    fn parse(&self, opened: Opened, permit: Permit, opening: OpeningOne) {
        match opened.parse() {
            Ok(Peeled::Deliver { content }) => self.deliver(Bytes::from(content), permit, opening),
            Ok(Peeled::Forward { .. }) => self.metrics.drop_forward.inc(),
            Ok(Peeled::Drop) => self.metrics.drop_cover.inc(),
            Err(_) => self.metrics.drop_slot.inc(),
        }
    }

    fn deliver(&self, content: Bytes, permit: Permit, opening: OpeningOne) {
        let verified = deliver::verify(&content);
        // Before the writer has it, or it would wait for what it holds.
        drop(opening);
        match verified.and_then(|delivery| self.hand_on(&content, &delivery, permit)) {
            Ok(()) => {}
            Err(DeliverError::Signature | DeliverError::ForeignKey) => self.metrics.drop_signature.inc(),
            Err(DeliverError::UnknownFlags(_)) => self.metrics.drop_flags.inc(),
            Err(_) => self.metrics.drop_content.inc(),
        }
    }

    fn hand_on(&self, content: &Bytes, delivery: &Delivery<'_>, permit: Permit) -> Result<(), DeliverError> {
        let topic = delivery.topic;
        match delivery.flags {
            FLAG_SIGNAL => self.signal(&topic, content.slice_ref(delivery.signal()?)),
            FLAG_CONTROL => {
                self.writer.control(ControlWrite { topic, control: delivery.control()?, permit });
            }
            _ => {
                let ops = delivery.operations()?.into_iter().map(|op| content.slice_ref(op)).collect();
                self.writer.append(Append { topic, ops, write: Write::Signed, permit, reply: None });
            }
        }
        Ok(())
    }

    /// Nothing is stored, so nothing waits for the writer; whoever is not connected misses it.
    fn signal(&self, topic: &TopicId, signal: Bytes) {
        if !self.signals.take(topic, platform::now()) {
            return self.metrics.drop_quota.inc();
        }
        self.metrics.signals.inc();
        self.live.signal(topic, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_has_a_signal_quota_of_its_own() {
        let quota = SignalQuota::new(2);
        let (a, b) = (TopicId([1; 32]), TopicId([2; 32]));
        assert!(quota.take(&a, Millis(0)) && quota.take(&a, Millis(0)));
        assert!(!quota.take(&a, Millis(29_999)), "one comes back in half a minute");
        assert!(quota.take(&b, Millis(0)));
        assert!(quota.take(&a, Millis(60_000)));
        let endless = SignalQuota::new(0);
        assert!((0..100_000).all(|_| endless.take(&a, Millis(0))));
    }
}
