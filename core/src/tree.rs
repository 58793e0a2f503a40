//! Ordered sets, maps and lists that cost an app little code.
//!
//! The standard library compiles its trees for each size of key and value anew, six to nine kilobytes where something is ever
//! removed, and its sorts (which `collect` uses for trees, too) for each kind of item, five kilobytes. Most of what is
//! ordered here has a handful of items, some a few thousand (docs/adr/0016). [`Map`] and [`Set`] are lists in order: they
//! find by halving, and move what is behind when something comes or goes. What is large and changes often stays in a
//! `BTreeMap`.

mod map;
mod set;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

pub use map::{Entry, Map};
pub use set::Set;

/// `collect`, by the name of what comes out.
pub trait IntoTree: Iterator + Sized {
    /// All items.
    fn into_set(self) -> Set<Self::Item>
    where
        Self::Item: Ord,
    {
        self.collect()
    }

    /// All pairs; of those with one key the last counts.
    fn into_map<K: Ord, V>(self) -> Map<K, V>
    where
        Self: Iterator<Item = (K, V)>,
    {
        self.collect()
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
