//! From packets to operations: a bounded pool of threads opens the last onion layer, checks the write signature and
//! hands the operations to the writer. Whatever fails here is counted and told to nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use delta_core::identity::Millis;
use delta_core::onion::deliver::{self, DeliverError, Delivery, FLAG_CONTROL, FLAG_SIGNAL};
use delta_core::onion::v3::{self, Peeled};
use delta_core::topic::TopicId;
use delta_replay::Admission;
use delta_server_shell::bucket::TokenBucket;
use delta_server_shell::{OnionKeys, platform};
use delta_topic_log::Write;

use crate::health::Permit;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::writer::{Append, ControlWrite, Writer};

/// Buckets of topics kept before full ones are forgotten.
const MAX_BUCKETS: usize = 65_536;
const MINUTE_MS: u64 = 60_000;

/// A packet whose length is a size class.
#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    permit: Permit,
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
}

/// How many signals each topic may pass on.
#[derive(Debug)]
pub struct SignalQuota {
    buckets: Mutex<HashMap<TopicId, TokenBucket>>,
    per_minute: u64,
}

impl SignalQuota {
    /// So many a minute for each topic; 0 for no limit.
    pub fn new(per_minute: u64) -> Self {
        Self { buckets: Mutex::default(), per_minute }
    }

    fn take(&self, topic: &TopicId, now: Millis) -> bool {
        if self.per_minute == 0 {
            return true;
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() > MAX_BUCKETS {
            buckets.retain(|_, bucket| !bucket.is_full(now, self.per_minute));
        }
        let bucket = buckets.entry(*topic).or_insert_with(|| TokenBucket::full(now));
        bucket.take(now, 1, self.per_minute, MINUTE_MS).is_ok()
    }
}

/// Sends packets to the threads.
#[derive(Clone, Debug)]
pub struct Ingress(mpsc::Sender<Option<Packet>>);

impl Ingress {
    /// Starts `count` threads.
    pub fn start(parts: IngressParts, count: usize) -> (Self, Vec<JoinHandle<()>>) {
        let (sender, queue) = mpsc::channel::<Option<Packet>>();
        let (parts, queue) = (Arc::new(parts), Arc::new(Mutex::new(queue)));
        let work = |_| {
            let (parts, queue) = (Arc::clone(&parts), Arc::clone(&queue));
            std::thread::spawn(move || {
                loop {
                    let packet = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    match packet {
                        Ok(Some(packet)) => parts.handle(packet),
                        Ok(None) | Err(mpsc::RecvError) => return,
                    }
                }
            })
        };
        (Self(sender), (0..count).map(work).collect())
    }

    /// Queues a packet. What is in the queue is bounded by the permits.
    pub fn take(&self, bytes: Vec<u8>, permit: Permit) {
        let _ = self.0.send(Some(Packet { bytes, permit }));
    }

    /// Lets one thread end once everything queued so far is opened.
    pub fn stop_one(&self) {
        let _ = self.0.send(None);
    }
}

impl IngressParts {
    fn handle(&self, packet: Packet) {
        let metrics = &self.metrics;
        let keys = self.keys.set();
        let Ok(opened) = v3::open(keys.secrets(), packet.bytes) else { return metrics.drop_seal.inc() };
        let Some(seen) = keys.seen(opened.kid()) else { return metrics.drop_seal.inc() };
        match seen.admit(&opened.replay_tag()) {
            Ok(Admission::Fresh) => {}
            Ok(Admission::Seen | Admission::Full) => return metrics.drop_replay.inc(),
            Err(error) => {
                tracing::warn!("a packet is dropped: {error}");
                return metrics.drop_storage.inc();
            }
        }
        match opened.parse() {
            Ok(Peeled::Deliver { content }) => self.deliver(Bytes::from(content), packet.permit),
            Ok(Peeled::Forward { .. }) => metrics.drop_forward.inc(),
            Ok(Peeled::Drop) => metrics.drop_cover.inc(),
            Err(_) => metrics.drop_slot.inc(),
        }
    }

    fn deliver(&self, content: Bytes, permit: Permit) {
        match deliver::verify(&content).and_then(|delivery| self.hand_on(&content, &delivery, permit)) {
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
