//! Load and health: what is in flight, and whether the disk takes writes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use delta_core::identity::Millis;
use delta_server_shell::limit::bound;

/// While storing fails, one delivery in this many milliseconds is let through to see whether it works again.
const PROBE_EVERY_MS: u64 = 100;

/// Bytes on their way to the disk, bounded.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    shares: AtomicU64,
    limit: u64,
}

/// A share of a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    /// At most `limit` bytes at once; 0 for no limit.
    pub fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), shares: AtomicU64::new(0), limit: bound(limit) }
    }

    /// Takes a share; `None` when the budget is used up.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        let bytes = bytes as u64;
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        self.shares.fetch_add(1, Ordering::Relaxed);
        let permit = Permit { budget: Arc::clone(self), bytes };
        // One share always fits, however small the limit: otherwise nothing could ever be delivered.
        (before == 0 || before.saturating_add(bytes) <= self.limit).then_some(permit)
    }

    /// How many have a share.
    pub fn shares(&self) -> u64 {
        self.shares.load(Ordering::Relaxed)
    }

    /// A budget of a part of this one; without a limit if this one has none.
    pub fn part(&self, divisor: u64) -> Self {
        let limit = if self.limit == u64::MAX { self.limit } else { self.limit / divisor };
        Self { used: AtomicU64::new(0), shares: AtomicU64::new(0), limit }
    }

    /// Bytes in flight.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.shares.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether writes reach the disk.
#[derive(Debug, Default)]
pub struct Disk {
    failing: AtomicBool,
    low: AtomicBool,
    free: AtomicU64,
    probe_at: AtomicU64,
}

impl Disk {
    /// Measures the room left beside a file, and says so when it falls below `least` or is back above it.
    pub fn look(&self, file: &Path, least: u64) {
        // A folder that cannot be asked is not called full; storing will tell.
        let Ok(disk) = rustix::fs::statvfs(file.parent().unwrap_or(file)) else { return };
        self.measured(disk.f_bavail.saturating_mul(disk.f_frsize), least);
    }

    fn measured(&self, free: u64, least: u64) {
        self.free.store(free, Ordering::Relaxed);
        let low = free < least;
        if self.low.swap(low, Ordering::Relaxed) != low {
            match low {
                true => tracing::error!(free, least, "the disk is low, deliveries get 503: make room"),
                false => tracing::info!(free, "the disk has room again"),
            }
        }
    }

    /// Bytes left on the disk, when it was last looked at.
    pub fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Whether deliveries are refused because of the disk.
    pub fn refuses(&self) -> bool {
        self.low.load(Ordering::Relaxed) || self.failing.load(Ordering::Relaxed)
    }

    /// Whether to take a delivery: none on a low disk, and while storing fails ten a second, as probes.
    pub fn admits(&self, now: Millis) -> bool {
        if self.low.load(Ordering::Relaxed) {
            return false;
        }
        if !self.failing.load(Ordering::Relaxed) {
            return true;
        }
        let probe_at = self.probe_at.load(Ordering::Relaxed);
        let next = now.plus(PROBE_EVERY_MS).0;
        let due = now.0 >= probe_at || probe_at > next;
        due && self.probe_at.compare_exchange(probe_at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A commit failed (`true`) or worked; tells whether that is news.
    pub fn report(&self, failing: bool) -> bool {
        self.failing.swap(failing, Ordering::Relaxed) != failing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_bounded_and_given_back_but_never_blocks_the_only_one() {
        let budget = Arc::new(Budget::new(10));
        let first = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        let second = budget.take(4).unwrap();
        assert_eq!((budget.used(), budget.shares()), (10, 2));
        drop((first, second));
        assert_eq!((budget.used(), budget.shares()), (0, 0));
        assert!(budget.take(1000).is_some());
    }

    #[test]
    fn a_failing_disk_is_probed_ten_times_a_second() {
        let disk = Disk::default();
        assert!(disk.admits(Millis(5)) && disk.admits(Millis(5)));
        assert!(disk.report(true) && !disk.report(true));
        assert!(disk.admits(Millis(10)));
        assert!(!disk.admits(Millis(109)));
        assert!(disk.admits(Millis(110)));
        assert!(disk.report(false));
        assert!(disk.admits(Millis(111)) && disk.admits(Millis(111)));
    }

    #[test]
    fn a_low_disk_takes_nothing_until_there_is_room_again() {
        let disk = Disk::default();
        disk.measured(100, 100);
        assert!(disk.admits(Millis(0)) && !disk.refuses());
        disk.measured(99, 100);
        assert!(!disk.admits(Millis(1_000_000)) && disk.refuses());
        disk.measured(100, 100);
        assert!(disk.admits(Millis(1_000_000)));
        let dir = tempfile::tempdir().unwrap();
        disk.look(&dir.path().join("topics.db"), u64::MAX);
        assert!(!disk.admits(Millis(0)) && disk.free() > 0);
    }
}
