//! From packets to operations: a bounded pool of threads opens the last onion layer, checks the write signature and
//! hands the operations to the writer. Whatever fails here is counted and told to nobody.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use delta_core::onion::deliver::{self, DeliverError};
use delta_core::onion::v3::{self, OnionSecret, Peeled};
use delta_replay::{Admission, Replay};
use delta_topic_log::Write;

use crate::health::Permit;
use crate::metrics::Metrics;
use crate::writer::{Append, Writer};

/// A packet whose length is a size class.
#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    permit: Permit,
}

/// What the threads work with.
#[derive(Debug)]
pub struct IngressParts {
    /// The onion keys.
    pub keys: Vec<OnionSecret>,
    /// What they have opened.
    pub replay: Arc<Replay>,
    /// Where operations go.
    pub writer: Writer,
    /// Counters.
    pub metrics: Arc<Metrics>,
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
        let Ok(opened) = v3::open(&self.keys, packet.bytes) else { return metrics.drop_seal.inc() };
        match self.replay.admit(&opened.replay_tag()) {
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
        let checked = deliver::verify(&content).and_then(|delivery| {
            let ops = delivery.operations()?;
            let ops = ops.into_iter().map(|op| content.slice_ref(op)).collect();
            Ok((delivery.topic, ops))
        });
        match checked {
            Ok((topic, ops)) => {
                self.writer.append(Append { topic, ops, write: Write::Signed, permit, reply: None });
            }
            Err(DeliverError::Signature | DeliverError::ForeignKey) => self.metrics.drop_signature.inc(),
            Err(DeliverError::Unsupported(_) | DeliverError::UnknownFlags(_)) => {
                self.metrics.drop_flags.inc()
            }
            Err(_) => self.metrics.drop_content.inc(),
        }
    }
}
