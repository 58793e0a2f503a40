//! What one address may use: connections at once, and a rate.
//!
//! An IPv4 address counts for itself; of IPv6 a /64 counts as one, because a subscriber has a whole one.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use delta_core::identity::Millis;
use thiserror::Error;

use crate::bucket::Buckets;
use crate::held::{Held, Part};

/// Buckets of addresses kept before full ones are looked for and forgotten.
const MANY_BUCKETS: usize = 16_384;

/// `limit` as a bound on a count: 0 means none.
pub const fn bound(limit: u64) -> u64 {
    if limit == 0 { u64::MAX } else { limit }
}

/// A quantity that every address may hold so much of at once.
#[derive(Debug)]
pub struct Shares {
    held: Arc<Held<IpAddr>>,
    exempt: Vec<Network>,
}

/// A part of an address's share; given back when dropped.
#[derive(Debug)]
pub struct Share {
    _part: Option<Part<IpAddr>>,
}

impl Shares {
    /// Each address may hold so much; 0 for no limit.
    pub fn new(each: u64) -> Self {
        Self { held: Arc::new(Held::new(bound(each))), exempt: Vec::new() }
    }

    /// These addresses may hold as much as they like: many people stand behind them.
    #[must_use]
    pub fn exempting(self, exempt: &[Network]) -> Self {
        Self { exempt: exempt.to_vec(), ..self }
    }

    /// Takes a part; `None` when the address would hold too much. One part always fits.
    pub fn take(&self, address: IpAddr, amount: u64) -> Option<Share> {
        if self.exempt.iter().any(|network| network.contains(address)) {
            return Some(Share { _part: None });
        }
        self.held.take(group(address), amount).map(|part| Share { _part: Some(part) })
    }
}

/// How often every address may do something.
#[derive(Debug)]
pub struct Rates {
    buckets: Mutex<Buckets<IpAddr>>,
    per_second: u64,
    exempt: Vec<Network>,
}

impl Rates {
    /// So often a second, with as much at once; 0 for no limit.
    pub fn new(per_second: u64) -> Self {
        Self { buckets: Mutex::new(Buckets::new(MANY_BUCKETS)), per_second, exempt: Vec::new() }
    }

    /// These addresses may do it as often as they like: many people stand behind them.
    #[must_use]
    pub fn exempting(self, exempt: &[Network]) -> Self {
        Self { exempt: exempt.to_vec(), ..self }
    }

    /// Counts one time.
    ///
    /// # Errors
    /// It was too often; wait that many milliseconds.
    pub fn take(&self, address: IpAddr, now: Millis) -> Result<(), u64> {
        if self.per_second == 0 || self.exempt.iter().any(|network| network.contains(address)) {
            return Ok(());
        }
        lock(&self.buckets).take(group(address), now, 1, self.per_second, 1_000)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An IPv6 subscriber has a whole /64: it counts as one address.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Addresses that share a prefix: a reverse proxy's, or those of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// This is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected an address, or a network as address/bits")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits: u8 = bits.map_or(Ok(most), str::parse).map_err(|_| NetworkError)?;
        if bits > most {
            return Err(NetworkError);
        }
        // An IPv4 address written as IPv6 is that address.
        let canonical = address.to_canonical();
        let mapped = if canonical.is_ipv4() { most - 32 } else { 0 };
        Ok(Self { address: canonical, bits: bits.checked_sub(mapped).ok_or(NetworkError)? })
    }
}

impl Network {
    /// Whether `address` is one of it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_address_has_a_share_of_its_own_and_a_64_is_one_address() {
        let shares = Shares::new(2);
        let [a, b, other] = ["2001:db8::1", "2001:db8::ffff:0:0:1", "2001:db8:0:1::1"].map(address);
        let held = [shares.take(a, 1).unwrap(), shares.take(b, 1).unwrap()];
        assert!(shares.take(a, 1).is_none(), "one /64 is one address");
        assert!(shares.take(other, 1).is_some());
        drop(held);
        assert!(shares.take(a, 3).is_some(), "one part always fits");
        // An IPv4 address written as IPv6 is that address.
        let one = shares.take(address("192.0.2.1"), 2).unwrap();
        assert!(shares.take(address("::ffff:192.0.2.1"), 1).is_none());
        assert!(shares.take(address("192.0.2.2"), 2).is_some());
        drop(one);
    }

    #[test]
    fn every_address_has_a_rate_of_its_own() {
        let rates = Rates::new(3);
        let [a, b, other] = ["2001:db8::1", "2001:db8::ffff:0:0:1", "2001:db8:0:1::1"].map(address);
        for _ in 0..3 {
            assert_eq!(rates.take(a, Millis(0)), Ok(()));
        }
        assert_eq!(rates.take(b, Millis(0)), Err(334));
        assert_eq!(rates.take(other, Millis(0)), Ok(()));
        assert_eq!(rates.take(b, Millis(334)), Ok(()));
        let endless = Rates::new(0);
        assert!((0..10_000).all(|_| endless.take(a, Millis(0)).is_ok()));
    }

    #[test]
    fn addresses_that_many_stand_behind_are_not_limited_and_others_are() {
        let exempt = ["192.0.2.0/24".parse().unwrap()];
        let shares = Shares::new(2).exempting(&exempt);
        let [relay, other] = ["192.0.2.7", "198.51.100.1"].map(address);
        let held: Vec<_> = (0..100).map(|_| shares.take(relay, 1).unwrap()).collect();
        let of_other = [shares.take(other, 1).unwrap(), shares.take(other, 1).unwrap()];
        assert!(shares.take(other, 1).is_none());
        drop((held, of_other));
        let rates = Rates::new(1).exempting(&exempt);
        assert!((0..100).all(|_| rates.take(relay, Millis(0)).is_ok()));
        assert_eq!(rates.take(other, Millis(0)), Ok(()));
        assert!(rates.take(other, Millis(0)).is_err());
    }

    #[test]
    fn addresses_nobody_asks_for_any_more_are_forgotten() {
        let rates = Rates::new(1);
        for n in 0..=MANY_BUCKETS as u32 {
            rates.take(IpAddr::from(n.to_be_bytes()), Millis(0)).unwrap();
        }
        rates.take(address("192.0.2.1"), Millis(1_000)).unwrap();
        assert_eq!(rates.buckets.lock().unwrap().len(), 1);
    }

    #[test]
    fn networks_are_prefixes() {
        let contains =
            |network: &str, text: &str| network.parse::<Network>().unwrap().contains(address(text));
        assert!(contains("127.0.0.1", "127.0.0.1") && !contains("127.0.0.1", "127.0.0.2"));
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.0.0.1") && !contains("10.0.0.0/8", "::1"));
        assert!(contains("0.0.0.0/0", "203.0.113.9") && contains("::/0", "2001:db8::1"));
        assert!(contains("2001:db8::/32", "2001:db8:1::") && !contains("2001:db8::/32", "2001:db9::"));
        assert!(contains("::ffff:127.0.0.1", "127.0.0.1") && !contains("::ffff:127.0.0.1", "127.0.0.2"));
        assert!(
            contains("::ffff:10.0.0.0/104", "10.255.0.1") && !contains("::ffff:10.0.0.0/104", "11.0.0.1")
        );
        for bad in
            ["::ffff:10.0.0.0/95", "", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/x", "relay.example"]
        {
            assert_eq!(bad.parse::<Network>(), Err(NetworkError), "{bad}");
        }
    }
}
