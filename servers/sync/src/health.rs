//! Load and health: what is in flight, whether the disk takes writes, who connects how often.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use delta_core::identity::Millis;
use delta_topic_log::TokenBucket;

use crate::limits::bound;

/// While storing fails, one delivery in this many milliseconds is let through to see whether it works again.
const PROBE_EVERY_MS: u64 = 100;
/// Buckets of addresses kept before full ones are forgotten.
const MAX_BUCKETS: usize = 16_384;

/// Bytes on their way to the disk, bounded.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
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
        Self { used: AtomicU64::new(0), limit: bound(limit) }
    }

    /// Takes a share; `None` when the budget is used up.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        let bytes = bytes as u64;
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let permit = Permit { budget: Arc::clone(self), bytes };
        // One share always fits, however small the limit: otherwise nothing could ever be delivered.
        (before == 0 || before.saturating_add(bytes) <= self.limit).then_some(permit)
    }

    /// Bytes in flight.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
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

/// Connections and subscribe rates by address.
#[derive(Debug)]
pub struct Addresses {
    state: Mutex<State>,
    connections: u64,
    subscribes: u64,
    searches: u64,
}

#[derive(Debug, Default)]
struct State {
    connections: HashMap<IpAddr, u64>,
    subscribes: Buckets,
    searches: Buckets,
}

type Buckets = HashMap<IpAddr, TokenBucket>;

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    /// With a limit of connections, of subscribes and of searches per second; 0 for none.
    pub fn new(connections: u64, subscribes: u64, searches: u64) -> Self {
        Self { state: Mutex::default(), connections: bound(connections), subscribes, searches }
    }

    /// A place for a connection; `None` when the address has too many.
    pub fn connect(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = group(address);
        let mut state = self.lock();
        let count = state.connections.entry(address).or_insert(0);
        if *count >= self.connections {
            return None;
        }
        *count += 1;
        Some(Place { addresses: Arc::clone(self), address })
    }

    /// Counts a subscribe request.
    ///
    /// # Errors
    /// The address has made too many; wait that many milliseconds.
    pub fn subscribe(&self, address: IpAddr, now: Millis) -> Result<(), u64> {
        take(&mut self.lock().subscribes, address, now, self.subscribes)
    }

    /// Counts a search.
    ///
    /// # Errors
    /// The address has made too many; wait that many milliseconds.
    pub fn search(&self, address: IpAddr, now: Millis) -> Result<(), u64> {
        take(&mut self.lock().searches, address, now, self.searches)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.addresses.lock();
        if let Some(count) = state.connections.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                state.connections.remove(&self.address);
            }
        }
    }
}

fn take(buckets: &mut Buckets, address: IpAddr, now: Millis, per_second: u64) -> Result<(), u64> {
    if per_second == 0 {
        return Ok(());
    }
    if buckets.len() > MAX_BUCKETS {
        buckets.retain(|_, bucket| !bucket.is_full(now, per_second));
    }
    let bucket = buckets.entry(group(address)).or_insert_with(|| TokenBucket::full(now));
    bucket.take(now, 1, per_second, 1_000)
}

/// An IPv6 subscriber has a whole /64: it counts as one address.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
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
        assert_eq!(budget.used(), 10);
        drop((first, second));
        assert_eq!(budget.used(), 0);
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

    #[test]
    fn addresses_have_places_and_rates_of_their_own() {
        let addresses = Arc::new(Addresses::new(2, 3, 1));
        let [a, b]: [IpAddr; 2] = ["2001:db8::1", "2001:db8::ffff:0:0:1"].map(|text| text.parse().unwrap());
        let other: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        let places = [addresses.connect(a).unwrap(), addresses.connect(b).unwrap()];
        assert!(addresses.connect(a).is_none(), "one /64 is one address");
        assert!(addresses.connect(other).is_some());
        drop(places);
        assert!(addresses.connect(a).is_some());
        for _ in 0..3 {
            assert_eq!(addresses.subscribe(a, Millis(0)), Ok(()));
        }
        assert_eq!(addresses.subscribe(b, Millis(0)), Err(334));
        assert_eq!(addresses.subscribe(other, Millis(0)), Ok(()));
        assert_eq!(addresses.search(a, Millis(0)), Ok(()));
        assert_eq!(addresses.search(b, Millis(0)), Err(1000));
    }
}
