//! Virtual time: what happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use delta_core::identity::Millis;

/// Events in order of time; what falls on the same instant comes in an order drawn from the seed.
#[derive(Debug)]
pub struct Schedule<E> {
    now: Millis,
    heap: BinaryHeap<Reverse<Entry<E>>>,
    serial: u64,
}

#[derive(Debug)]
struct Entry<E> {
    key: (Millis, u64, u64),
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl<E> Eq for Entry<E> {}
impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl<E> Schedule<E> {
    /// Nothing to do, at `start`.
    pub const fn new(start: Millis) -> Self {
        Self { now: start, heap: BinaryHeap::new(), serial: 0 }
    }

    /// The current instant.
    pub const fn now(&self) -> Millis {
        self.now
    }

    /// Adds an event at `at` (now, when that has passed). `tie` decides among events of one instant.
    pub fn at(&mut self, at: Millis, tie: u64, event: E) {
        self.serial += 1;
        self.heap.push(Reverse(Entry { key: (at.max(self.now), tie, self.serial), event }));
    }

    /// The next event up to `limit`; the clock moves to it. `None` when there is none until then.
    pub fn next_until(&mut self, limit: Millis) -> Option<E> {
        let Reverse(entry) = self.heap.peek()?;
        if entry.key.0 > limit {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        self.now = entry.key.0;
        Some(entry.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_then_tie_then_order_of_arrival() {
        let mut schedule = Schedule::new(Millis(10));
        for (at, tie, name) in [(20, 5, "c"), (20, 1, "b"), (3, 9, "a"), (20, 5, "d"), (30, 0, "e")] {
            schedule.at(Millis(at), tie, name);
        }
        let until = |schedule: &mut Schedule<_>, limit| {
            let mut seen = String::new();
            while let Some(name) = schedule.next_until(Millis(limit)) {
                seen.push_str(name);
            }
            seen
        };
        assert_eq!(until(&mut schedule, 20), "abcd");
        assert_eq!(schedule.now(), Millis(20));
        assert_eq!(until(&mut schedule, 99), "e");
        assert_eq!(schedule.next_until(Millis(u64::MAX)), None);
    }
}
