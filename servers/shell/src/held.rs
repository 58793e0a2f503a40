//! How much of something each of many holds at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A quantity that every key may hold so much of at once. Keys that hold nothing are forgotten.
#[derive(Debug)]
pub struct Held<K> {
    held: Mutex<HashMap<K, u64>>,
    each: u64,
}

/// What a key holds; given back when dropped.
#[derive(Debug)]
pub struct Part<K: Copy + Eq + Hash> {
    of: Arc<Held<K>>,
    key: K,
    amount: u64,
}

impl<K: Copy + Eq + Hash> Held<K> {
    /// Each may hold so much.
    pub fn new(each: u64) -> Self {
        Self { held: Mutex::default(), each }
    }

    /// Takes a part; `None` when the key would hold too much. One part always fits.
    pub fn take(self: &Arc<Self>, key: K, amount: u64) -> Option<Part<K>> {
        let mut held = self.lock();
        let before = held.get(&key).copied().unwrap_or(0);
        let after = before.saturating_add(amount);
        if before > 0 && after > self.each {
            return None;
        }
        held.insert(key, after);
        Some(Part { of: Arc::clone(self), key, amount })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Drop for Part<K> {
    fn drop(&mut self) {
        let mut held = self.of.lock();
        if let Some(amount) = held.get_mut(&self.key) {
            *amount = amount.saturating_sub(self.amount);
            if *amount == 0 {
                held.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_holds_all_it_may_leaves_room_for_the_others() {
        let held = Arc::new(Held::new(2));
        let parts = [held.take("slow", 1).unwrap(), held.take("slow", 1).unwrap()];
        assert!(held.take("slow", 1).is_none());
        assert!(held.take("other", 1).is_some());
        drop(parts);
        assert!(held.take("slow", 3).is_some(), "one part always fits");
        assert!(held.lock().is_empty(), "who holds nothing is forgotten");
    }
}
