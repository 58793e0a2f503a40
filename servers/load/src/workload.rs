//! Prepared work: operations that can be told apart, in packets, in requests.

use bytes::Bytes;
use delta_core::onion::deliver;
use delta_core::onion::v3::Hop;
use delta_core::topic::{TopicId, WriteKey};

use crate::http;
use crate::server::packet;

/// Bytes of an operation of the benchmarks: a sealed text message.
pub const OP_BYTES: usize = 460;

/// Operations of some topics, made before the clock starts.
#[derive(Debug)]
pub struct Workload {
    keys: Vec<WriteKey>,
    /// The operations; each begins with its index, so none are equal.
    pub ops: Vec<Bytes>,
    per_packet: usize,
}

impl Workload {
    /// `packets` packets of `per_packet` operations each, dealt to `topics` topics in turn.
    pub fn new(topics: usize, packets: usize, per_packet: usize) -> Self {
        let key = |index: usize| {
            let mut seed = [0x6b; 32];
            seed[..8].copy_from_slice(&(index as u64).to_be_bytes());
            WriteKey::from_seed(seed)
        };
        let ops = (0..packets * per_packet).map(operation).collect();
        Self { keys: (0..topics).map(key).collect(), ops, per_packet }
    }

    /// The topics.
    pub fn topics(&self) -> Vec<TopicId> {
        self.keys.iter().map(WriteKey::topic).collect()
    }

    /// The topic an operation goes to.
    pub fn topic_of(&self, index: usize) -> usize {
        index / self.per_packet % self.keys.len()
    }

    /// Every packet as a whole POST request.
    ///
    /// # Errors
    /// The operations do not fit a packet.
    pub fn requests(&self, hop: &Hop) -> anyhow::Result<Vec<Bytes>> {
        let packets: Vec<(usize, &[Bytes])> = self.ops.chunks(self.per_packet).enumerate().collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let make = |part: &[(usize, &[Bytes])]| -> anyhow::Result<Vec<Bytes>> {
            part.iter().map(|(number, ops)| self.request(hop, ops, *number)).collect()
        };
        let make = &make;
        std::thread::scope(|scope| {
            let parts = packets.chunks(packets.len().div_ceil(threads).max(1));
            let threads: Vec<_> = parts.map(|part| scope.spawn(move || make(part))).collect();
            let parts = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))));
            Ok(parts.collect::<anyhow::Result<Vec<_>>>()?.concat())
        })
    }

    fn request(&self, hop: &Hop, ops: &[Bytes], number: usize) -> anyhow::Result<Bytes> {
        let mut seed = [0x70; 32];
        seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let key = self.keys.get(number % self.keys.len()).ok_or_else(|| anyhow::anyhow!("no topics"))?;
        let content = content(key, ops)?;
        Ok(http::post("/deliver", "application/octet-stream", &packet(hop, &content, seed)?).into())
    }
}

/// Deliver content for operations of one topic.
///
/// # Errors
/// There are none, too many, or one is empty or too large.
pub fn content(key: &WriteKey, ops: &[Bytes]) -> anyhow::Result<Vec<u8>> {
    let ops: Vec<&[u8]> = ops.iter().map(Bytes::as_ref).collect();
    Ok(match ops.as_slice() {
        [op] => deliver::encode_operation(key, op)?,
        ops => deliver::encode_list(key, ops)?,
    })
}

/// Which operation of the benchmarks this is.
pub fn index_of(op: &[u8]) -> Option<usize> {
    op.first_chunk().and_then(|index| usize::try_from(u64::from_be_bytes(*index)).ok())
}

fn operation(index: usize) -> Bytes {
    let mut op = vec![0; OP_BYTES];
    let mut state = index as u64;
    for chunk in op.chunks_mut(8) {
        // Weyl sequence: cheap, and no two operations share their bytes.
        chunk.copy_from_slice(state.to_be_bytes().get(..chunk.len()).unwrap_or_default());
        state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index as u64);
    }
    op.into()
}
