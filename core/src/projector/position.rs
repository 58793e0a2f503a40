//! Where an operation stands: its place in a topic, and the position it is shown at.

use crate::identity::Author;
use crate::topic::Seq;

/// Where a server put an operation: epoch of the log's topic, this device's resets of that topic, the server's seq.
/// Sorts like [`Place::to_bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Epoch of the topic within its log.
    pub epoch: u32,
    /// Resets of the topic on this device: local, equal on two devices only by chance.
    pub resets: u32,
    /// The server's order within the topic.
    pub seq: Seq,
}

impl Place {
    /// Length of the encoded form.
    pub const LEN: usize = 16;

    /// Stands in for the place of an operation no server has acknowledged yet: after every real one.
    pub const UNPLACED: Self = Self { epoch: u32::MAX, resets: u32::MAX, seq: Seq::MAX };

    /// epoch u32 | resets u32 | seq u64, big-endian: bytes that sort like places.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let (head, seq) = out.split_at_mut(8);
        let (epoch, resets) = head.split_at_mut(4);
        epoch.copy_from_slice(&self.epoch.to_be_bytes());
        resets.copy_from_slice(&self.resets.to_be_bytes());
        seq.copy_from_slice(&self.seq.0.to_be_bytes());
        out
    }

    /// The inverse of [`Place::to_bytes`].
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, seq @ ..] = bytes;
        Self {
            epoch: u32::from_be_bytes([a, b, c, d]),
            resets: u32::from_be_bytes([e, f, g, h]),
            seq: Seq(u64::from_be_bytes(seq)),
        }
    }

    /// Whether a server has acknowledged it.
    pub fn is_placed(&self) -> bool {
        *self != Self::UNPLACED
    }

    /// Which of two places of one operation counts: the one in the earliest epoch, there the newest reset's
    /// ("the newest reset's places replace the older ones"), there the lowest seq.
    #[must_use]
    pub fn prefer(self, other: Self) -> Self {
        let rank = |place: &Self| (place.epoch, std::cmp::Reverse(place.resets), place.seq);
        if rank(&other) < rank(&self) { other } else { self }
    }
}

/// The order messages are shown in: (place, but never before the predecessor's; author; seq_num).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// max(own place, position of the predecessor, or across a hole of the nearest one held below).
    pub place: Place,
    /// Who wrote it.
    pub author: Author,
    /// Its number in the author's log.
    pub seq_num: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(epoch: u32, resets: u32, seq: u64) -> Place {
        Place { epoch, resets, seq: Seq(seq) }
    }

    #[test]
    fn bytes_sort_like_places() {
        let places = [
            place(0, 0, 1),
            place(0, 0, 256),
            place(0, 1, 1),
            place(1, 0, 2),
            place(256, 0, 0),
            Place::UNPLACED,
        ];
        for pair in places.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].to_bytes() < pair[1].to_bytes(), "{pair:?}");
        }
        for place in places {
            assert_eq!(Place::from_bytes(place.to_bytes()), place);
        }
    }

    #[test]
    fn the_newest_reset_of_the_earliest_epoch_counts() {
        let best = |a: Place, b: Place| {
            assert_eq!(a.prefer(b), b.prefer(a));
            a.prefer(b)
        };
        assert_eq!(best(place(0, 0, 5), place(0, 1, 9)), place(0, 1, 9));
        assert_eq!(best(place(0, 1, 9), place(0, 1, 7)), place(0, 1, 7));
        assert_eq!(best(place(1, 3, 1), place(0, 0, 9)), place(0, 0, 9));
        assert_eq!(best(Place::UNPLACED, place(7, 0, 1)), place(7, 0, 1));
    }
}
