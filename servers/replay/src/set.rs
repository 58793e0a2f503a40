//! The pure set: 64-bit prefixes of tags, up to a fixed number, nothing ever evicted.

use std::collections::HashSet;

/// What became of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Not seen before, and now remembered: the packet may be acted on.
    Fresh,
    /// Seen before (or a 64-bit collision): drop the packet.
    Seen,
    /// The set is full and the tag is new: refuse, until the key rotates.
    Full,
}

/// The tags one onion key has opened. The hash is seeded per process, because senders choose their tags.
#[derive(Debug)]
pub struct ReplaySet {
    seen: HashSet<u64>,
    capacity: usize,
}

impl ReplaySet {
    /// An empty set that holds at most `capacity` tags (about 9 bytes each, doubled while it grows).
    pub fn new(capacity: usize) -> Self {
        Self { seen: HashSet::new(), capacity }
    }

    /// The part of a tag that is kept: its first eight bytes.
    pub fn prefix(tag: &[u8; 16]) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *tag;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Remembers a prefix, unless it is there or the set is full.
    pub fn admit(&mut self, prefix: u64) -> Admission {
        if self.seen.contains(&prefix) {
            Admission::Seen
        } else if self.is_full() {
            Admission::Full
        } else {
            self.seen.insert(prefix);
            Admission::Fresh
        }
    }

    /// Puts back a prefix that was admitted in an earlier life, past the capacity if need be; `true` when it was
    /// there already.
    pub fn restore(&mut self, prefix: u64) -> bool {
        !self.seen.insert(prefix)
    }

    /// Takes back a prefix whose packet was not acted on.
    pub fn forget(&mut self, prefix: u64) {
        self.seen.remove(&prefix);
    }

    /// Every prefix, in no order.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.seen.iter().copied()
    }

    /// How many tags are remembered.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Whether no new tag can be admitted.
    pub fn is_full(&self) -> bool {
        self.seen.len() >= self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_set_still_knows_what_it_saw() {
        let mut set = ReplaySet::new(2);
        assert_eq!(set.admit(1), Admission::Fresh);
        assert_eq!(set.admit(1), Admission::Seen);
        assert_eq!(set.admit(2), Admission::Fresh);
        assert_eq!(set.admit(3), Admission::Full);
        assert_eq!(set.admit(2), Admission::Seen);
        set.forget(2);
        assert_eq!(set.admit(3), Admission::Fresh);
        assert_eq!(set.len(), 2);
    }

    #[test]
    fn the_prefix_is_the_first_eight_bytes() {
        let mut tag = [0xff; 16];
        tag[..8].copy_from_slice(&[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(ReplaySet::prefix(&tag), 0x0001_0203_0405_0607);
    }
}
