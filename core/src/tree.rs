//! Ordered sets, maps and lists without a sort for each kind of item.
//!
//! The standard library compiles its sorts (which `collect` uses for sets and maps, too) for each kind of item anew: five
//! kilobytes of code in every app, for collections that rarely have a hundred items (docs/size.md).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// What `collect` does, for sets and maps that are ordered.
pub trait IntoTree: Iterator + Sized {
    /// All items.
    fn into_set(self) -> BTreeSet<Self::Item>
    where
        Self::Item: Ord,
    {
        let mut set = BTreeSet::new();
        set.extend(self);
        set
    }

    /// All pairs; of those with one key the last counts.
    fn into_map<K: Ord, V>(self) -> BTreeMap<K, V>
    where
        Self: Iterator<Item = (K, V)>,
    {
        let mut map = BTreeMap::new();
        map.extend(self);
        map
    }
}

impl<I: Iterator> IntoTree for I {}

/// What the sorts of slices do, all by one of them: what is equal stays in its order.
pub trait Arrange<T> {
    /// By what compares two items.
    fn arrange_by(&mut self, compare: impl Fn(&T, &T) -> Ordering);

    /// From the least to the greatest.
    fn arrange(&mut self)
    where
        T: Ord,
    {
        self.arrange_by(T::cmp);
    }

    /// By a key of each item, which is asked for again at each comparison.
    fn arrange_by_key<K: Ord>(&mut self, key: impl Fn(&T) -> K) {
        self.arrange_by(|a, b| key(a).cmp(&key(b)));
    }
}

impl<T> Arrange<T> for [T] {
    fn arrange_by(&mut self, compare: impl Fn(&T, &T) -> Ordering) {
        let items: &[T] = self;
        let compare = |a: usize, b: usize| match (items.get(a), items.get(b)) {
            (Some(a), Some(b)) => compare(a, b),
            _ => Ordering::Equal,
        };
        for (a, b) in swaps(items.len(), &compare) {
            self.swap(a, b);
        }
    }
}

/// The swaps that bring so many items into order, one after the other: fewer than there are items.
#[inline(never)]
fn swaps(items: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..items).collect();
    order.sort_by(|a, b| compare(*a, *b));
    // Where the item goes that is at a place now.
    let mut goes = vec![0; items];
    for (to, from) in order.into_iter().enumerate() {
        goes[from] = to;
    }
    let mut swaps = Vec::new();
    for at in 0..items {
        while goes[at] != at {
            let to = goes[at];
            swaps.push((at, to));
            goes.swap(at, to);
        }
    }
    swaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_those_that_collect_makes() {
        let pairs = [(3, 'a'), (1, 'b'), (3, 'c'), (2, 'd')];
        assert_eq!(pairs.into_iter().into_map(), pairs.into_iter().collect());
        let items = [3, 1, 3, 2];
        assert_eq!(items.into_iter().into_set(), items.into_iter().collect());
    }

    proptest::proptest! {
        #[test]
        fn lists_are_in_the_order_that_a_stable_sort_gives(
            items in proptest::collection::vec((0u8..20, proptest::prelude::any::<u16>()), 0..200),
        ) {
            let (mut arranged, mut sorted) = (items.clone(), items.clone());
            arranged.arrange_by_key(|(key, _)| *key);
            sorted.sort_by_key(|(key, _)| *key);
            proptest::prop_assert_eq!(&arranged, &sorted);
            arranged.arrange();
            sorted.sort();
            proptest::prop_assert_eq!(arranged, sorted);
        }
    }
}
