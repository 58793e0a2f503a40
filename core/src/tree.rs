//! Collecting into ordered sets and maps, one item after the other.
//!
//! The standard library's `collect` sorts first, with a merge sort of its own for each kind of item: five kilobytes of code
//! in every app, for collections that rarely have a hundred items (docs/size.md).

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
}
