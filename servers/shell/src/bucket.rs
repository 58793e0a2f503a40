//! Token buckets on the caller's clock.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use delta_core::identity::Millis;

/// Most keys with a bucket of their own; strangers beyond that share one.
pub const MAX_BUCKETS: usize = 262_144;
/// Shortest time between two looks for full buckets, milliseconds: however many keys come, they cost little.
const PRUNE_PAUSE_MS: u64 = 1_000;

/// A reading so much older than the last one is of a clock that was put back; less is a thread that came late.
const PUT_BACK_MS: u64 = 1_000;

/// Lets through a burst of `capacity`, then `capacity` per `period_ms` evenly.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    /// Milliseconds' worth of tokens spent; refilled by the passing of time.
    spent_ms: u64,
    at: Millis,
}

impl TokenBucket {
    /// A full bucket.
    pub const fn full(now: Millis) -> Self {
        Self { spent_ms: 0, at: now }
    }

    /// Takes `count` tokens, or none and says how many milliseconds until they are there. A `capacity` of 0 means
    /// no limit. More than the capacity at once is allowed from a full bucket only.
    ///
    /// # Errors
    /// The bucket is empty; wait that many milliseconds.
    pub fn take(&mut self, now: Millis, count: u64, capacity: u64, period_ms: u64) -> Result<(), u64> {
        if capacity == 0 {
            return Ok(());
        }
        self.spent_ms = self.spent_ms.saturating_sub(now.since(self.at).saturating_mul(capacity));
        // From a clock that was put back on, time counts anew: nobody waits until it is where it was.
        self.at = if self.at.since(now) > PUT_BACK_MS { now } else { self.at.max(now) };
        // One token weighs `period_ms`, one millisecond refills `capacity`.
        let room = period_ms.saturating_mul(capacity);
        let weight = count.saturating_mul(period_ms).min(room);
        match (self.spent_ms + weight).checked_sub(room) {
            None | Some(0) => {
                self.spent_ms += weight;
                Ok(())
            }
            Some(over) => Err(over.div_ceil(capacity)),
        }
    }

    /// Whether nothing is spent any more: the bucket may be forgotten.
    pub const fn is_full(&self, now: Millis, capacity: u64) -> bool {
        self.spent_ms <= now.since(self.at).saturating_mul(capacity)
    }
}

/// A bucket for each of many keys, [`MAX_BUCKETS`] at most. Full ones are forgotten when there are more than a given
/// number.
#[derive(Debug)]
pub struct Buckets<K> {
    by_key: HashMap<K, TokenBucket>,
    /// Of all keys for which there is no room.
    strangers: TokenBucket,
    many: usize,
    /// When full ones were looked for.
    pruned: Millis,
}

impl<K: Eq + Hash> Buckets<K> {
    /// None yet. Full ones are looked for when there are more than `many`.
    pub fn new(many: usize) -> Self {
        Self { by_key: HashMap::new(), strangers: TokenBucket::full(Millis(0)), many, pruned: Millis(0) }
    }

    /// Takes from a key's bucket: see [`TokenBucket::take`]. All keys' have the same capacity.
    ///
    /// # Errors
    /// The bucket is empty; wait that many milliseconds.
    pub fn take(
        &mut self,
        key: K,
        now: Millis,
        count: u64,
        capacity: u64,
        period_ms: u64,
    ) -> Result<(), u64> {
        if capacity == 0 {
            return Ok(());
        }
        let due = now.since(self.pruned) >= PRUNE_PAUSE_MS || now < self.pruned;
        if self.by_key.len() > self.many && due {
            self.by_key.retain(|_, bucket| !bucket.is_full(now, capacity));
            self.pruned = now;
        }
        let room = self.by_key.len() < MAX_BUCKETS;
        let bucket = match self.by_key.entry(key) {
            Entry::Occupied(own) => own.into_mut(),
            Entry::Vacant(none) if room => none.insert(TokenBucket::full(now)),
            Entry::Vacant(_) => &mut self.strangers,
        };
        bucket.take(now, count, capacity, period_ms)
    }

    /// How many buckets there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_an_even_rate() {
        let mut bucket = TokenBucket::full(Millis(1000));
        for _ in 0..10 {
            assert_eq!(bucket.take(Millis(1000), 1, 10, 1000), Ok(()));
        }
        assert_eq!(bucket.take(Millis(1000), 1, 10, 1000), Err(100));
        assert_eq!(bucket.take(Millis(1099), 1, 10, 1000), Err(1));
        assert_eq!(bucket.take(Millis(1100), 1, 10, 1000), Ok(()));
        assert!(!bucket.is_full(Millis(1200), 10));
        assert!(bucket.is_full(Millis(2100), 10));
    }

    #[test]
    fn zero_is_no_limit_and_a_clock_going_back_gives_nothing() {
        let mut bucket = TokenBucket::full(Millis(1000));
        assert_eq!(bucket.take(Millis(1000), u64::MAX, 0, 1000), Ok(()));
        assert_eq!(bucket.take(Millis(1000), 2, 2, 1000), Ok(()));
        assert_eq!(bucket.take(Millis(0), 1, 2, 1000), Err(500));
        // A little late: its time was counted already.
        assert_eq!(bucket.take(Millis(500), 1, 2, 1000), Err(500));
    }

    #[test]
    fn full_buckets_are_looked_for_once_a_second_at_most() {
        let mut buckets = Buckets::new(2);
        // One a minute: none is full again soon.
        let mut take = |key: u64, now| buckets.take(key, Millis(now), 1, 1, 60_000).map(|()| buckets.len());
        assert_eq!([1, 2, 3].map(|key| take(key, 60_000)), [Ok(1), Ok(2), Ok(3)]);
        assert_eq!(take(3, 60_001), Err(59_999));
        assert_eq!(take(4, 120_000), Ok(1), "the three are full, and looked for");
        assert_eq!([5, 6, 7].map(|key| take(key, 120_500)), [Ok(2), Ok(3), Ok(4)]);
        // A period later two looks would find something; the second one comes too soon.
        assert_eq!([8, 9].map(|key| take(key, 180_100)), [Ok(4), Ok(5)]);
        assert_eq!(take(10, 180_500), Ok(6));
        assert_eq!(take(11, 181_100), Ok(4));
        // A clock that was put back keeps nobody from looking.
        assert_eq!(take(12, 0), Ok(5));
        assert_eq!(buckets.take(9, Millis(0), u64::MAX, 0, 1), Ok(()), "no limit");
    }

    #[test]
    fn beyond_the_most_buckets_strangers_share_one_until_there_is_room() {
        let mut buckets = Buckets::new(2);
        let now = Millis(60_000);
        let mut take = |key: usize, now| buckets.take(key, now, 1, 2, 60_000).map(|()| buckets.len());
        for key in 0..MAX_BUCKETS {
            assert_eq!(take(key, now), Ok(key + 1));
        }
        assert_eq!(take(MAX_BUCKETS, now), Ok(MAX_BUCKETS), "one more has none of its own");
        assert_eq!(take(MAX_BUCKETS + 1, now), Ok(MAX_BUCKETS), "two is what one may");
        assert_eq!(take(MAX_BUCKETS + 2, now), Err(30_000), "another stranger pays for them");
        assert_eq!(take(7, now), Ok(MAX_BUCKETS), "who has a bucket has it still");
        // A period later all are full, and forgotten.
        assert_eq!(take(MAX_BUCKETS + 2, Millis(120_000)), Ok(1));
    }

    #[test]
    fn a_clock_put_back_starts_anew() {
        let mut bucket = TokenBucket::full(Millis(3_600_000));
        assert_eq!(bucket.take(Millis(3_600_000), 2, 2, 1000), Ok(()));
        assert_eq!(bucket.take(Millis(100), 1, 2, 1000), Err(500));
        assert_eq!(bucket.take(Millis(599), 1, 2, 1000), Err(1));
        assert_eq!(bucket.take(Millis(600), 1, 2, 1000), Ok(()));
    }
}
