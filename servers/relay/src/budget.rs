//! How many bytes of packets the relay holds at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// A number of bytes that requests share.
#[derive(Clone, Debug)]
pub struct Budget {
    free: Arc<AtomicUsize>,
}

impl Budget {
    /// A budget nobody has taken from.
    pub fn new(bytes: usize) -> Self {
        Self { free: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// Takes `len` bytes, until the share is dropped; `None` when they are not there.
    pub fn take(&self, len: usize) -> Option<Share> {
        let taken = self.free.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |free| free.checked_sub(len));
        taken.ok().map(|_| Share { len, budget: self.clone() })
    }
}

/// Bytes taken from a [`Budget`]; dropping it gives them back.
#[derive(Debug)]
pub struct Share {
    len: usize,
    budget: Budget,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.len, Ordering::AcqRel);
    }
}

impl Share {
    /// Ties the share to a packet: it is given back with the packet's last copy.
    pub fn attach(self, packet: Vec<u8>) -> Bytes {
        Bytes::from_owner(Shared { packet, _share: self })
    }
}

struct Shared {
    packet: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_overdrawn_and_gets_everything_back() {
        let budget = Budget::new(10);
        let first = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        let packet = budget.take(4).unwrap().attach(vec![1; 4]);
        assert!(budget.take(1).is_none());
        let copy = packet.clone();
        drop(packet);
        assert!(budget.take(1).is_none());
        drop(copy);
        drop(first);
        assert!(budget.take(10).is_some());
    }
}
