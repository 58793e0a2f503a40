//! Ordered sets, maps and lists that cost an app little code.
//!
//! The standard library compiles its trees for each size of key and value anew, six to nine kilobytes where something is ever
//! removed, and its sorts (which `collect` uses for trees, too) for each kind of item, five kilobytes. Most of what is
//! ordered here has a handful of items, some a few thousand (docs/adr/0016). [`Map`] and [`Set`] are lists in order: they
//! find by halving, and move what is behind when something comes or goes. What is large and changes often stays in a
//! `BTreeMap`.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::{iter, slice, vec};

type Pair<'a, K, V> = fn(&'a (K, V)) -> (&'a K, &'a V);
type PairMut<'a, K, V> = fn(&'a mut (K, V)) -> (&'a K, &'a mut V);

/// A map in the order of its keys, for some thousand entries at most: a list. What `BTreeMap` has, its functions do the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map<K, V> {
    /// Rising.
    pairs: Vec<(K, V)>,
}

#[allow(missing_docs, reason = "they are BTreeMap's")]
impl<K, V> Map<K, V> {
    pub const fn new() -> Self {
        Self { pairs: Vec::new() }
    }

    pub const fn len(&self) -> usize {
        self.pairs.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub fn clear(&mut self) {
        self.pairs.clear();
    }

    pub fn iter(&self) -> iter::Map<slice::Iter<'_, (K, V)>, Pair<'_, K, V>> {
        self.into_iter()
    }

    pub fn iter_mut(&mut self) -> iter::Map<slice::IterMut<'_, (K, V)>, PairMut<'_, K, V>> {
        self.into_iter()
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator + Clone {
        self.pairs.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator + Clone {
        self.pairs.iter().map(|(_, value)| value)
    }

    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.pairs.iter_mut().map(|(_, value)| value)
    }

    pub fn into_values(self) -> impl DoubleEndedIterator<Item = V> {
        self.pairs.into_iter().map(|(_, value)| value)
    }

    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.pairs.first().map(|(key, value)| (key, value))
    }

    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.pairs.last().map(|(key, value)| (key, value))
    }

    /// Moves all others: for a few.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        (!self.is_empty()).then(|| self.pairs.remove(0))
    }

    pub fn pop_last(&mut self) -> Option<(K, V)> {
        self.pairs.pop()
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.pairs.retain_mut(|(key, value)| keep(key, value));
    }
}

#[allow(missing_docs, reason = "they are BTreeMap's")]
impl<K: Ord, V> Map<K, V> {
    /// Where a key is; where it would go.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.pairs.binary_search_by(|(other, _)| other.borrow().cmp(key))
    }

    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.pairs.get(self.find(key).ok()?).map(|(_, value)| value)
    }

    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        self.pairs.get_mut(at).map(|(_, value)| value)
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => self.pairs.get_mut(at).map(|(_, old)| std::mem::replace(old, value)),
            Err(at) => {
                self.pairs.insert(at, (key, value));
                None
            }
        }
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        Some(self.pairs.remove(at).1)
    }

    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        let at = self.find(&key);
        Entry { map: self, key, at }
    }
}

/// A place in a [`Map`], taken or not.
#[derive(Debug)]
pub struct Entry<'a, K, V> {
    map: &'a mut Map<K, V>,
    key: K,
    at: Result<usize, usize>,
}

#[allow(missing_docs, reason = "they are those of BTreeMap's entry")]
impl<'a, K, V> Entry<'a, K, V> {
    pub fn or_insert_with(self, value: impl FnOnce() -> V) -> &'a mut V {
        let at = match self.at {
            Ok(at) => at,
            Err(at) => {
                self.map.pairs.insert(at, (self.key, value()));
                at
            }
        };
        &mut self.map.pairs[at].1
    }

    /// The same for a value that may not be had.
    ///
    /// # Errors
    /// What `value` fails with; the place stays free.
    pub fn or_try_insert_with<E>(self, value: impl FnOnce() -> Result<V, E>) -> Result<&'a mut V, E> {
        let at = match self.at {
            Ok(at) => at,
            Err(at) => {
                self.map.pairs.insert(at, (self.key, value()?));
                at
            }
        };
        Ok(&mut self.map.pairs[at].1)
    }

    pub fn or_insert(self, value: V) -> &'a mut V {
        self.or_insert_with(|| value)
    }

    pub fn or_default(self) -> &'a mut V
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, K, V> IntoIterator for &'a Map<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = iter::Map<slice::Iter<'a, (K, V)>, Pair<'a, K, V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.pairs.iter().map(|(key, value)| (key, value))
    }
}

impl<'a, K, V> IntoIterator for &'a mut Map<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = iter::Map<slice::IterMut<'a, (K, V)>, PairMut<'a, K, V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.pairs.iter_mut().map(|(key, value)| (&*key, value))
    }
}

impl<K, V> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.pairs.into_iter()
    }
}

/// One after the other: for a few. Many are collected.
impl<K: Ord, V> Extend<(K, V)> for Map<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        for (key, value) in pairs {
            self.insert(key, value);
        }
    }
}

/// Sorted at once; of pairs with one key the last counts.
impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let (mut all, mut rise) = (Vec::new(), true);
        for pair in pairs {
            rise &= all.last().is_none_or(|(last, _)| *last < pair.0);
            all.push(pair);
        }
        if !rise {
            all.arrange_by(|(a, _), (b, _)| a.cmp(b));
            all.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                if same {
                    std::mem::swap(later, kept);
                }
                same
            });
        }
        Self { pairs: all }
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Map<K, V> {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

/// A set in order, for some thousand items at most: a list. What `BTreeSet` has, its functions do the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Set<T> {
    /// Rising.
    items: Vec<T>,
}

#[allow(missing_docs, reason = "they are BTreeSet's")]
impl<T> Set<T> {
    pub const fn new() -> Self {
        Self { items: Vec::new() }
    }

    pub const fn len(&self) -> usize {
        self.items.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn clear(&mut self) {
        self.items.clear();
    }

    pub fn iter(&self) -> slice::Iter<'_, T> {
        self.items.iter()
    }

    pub fn first(&self) -> Option<&T> {
        self.items.first()
    }

    pub fn last(&self) -> Option<&T> {
        self.items.last()
    }

    /// Moves all others: for a few.
    pub fn pop_first(&mut self) -> Option<T> {
        (!self.is_empty()).then(|| self.items.remove(0))
    }

    pub fn pop_last(&mut self) -> Option<T> {
        self.items.pop()
    }

    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.items.retain(keep);
    }
}

#[allow(missing_docs, reason = "they are BTreeSet's")]
impl<T: Ord> Set<T> {
    fn find<Q: Ord + ?Sized>(&self, item: &Q) -> Result<usize, usize>
    where
        T: Borrow<Q>,
    {
        self.items.binary_search_by(|other| other.borrow().cmp(item))
    }

    pub fn contains<Q: Ord + ?Sized>(&self, item: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.find(item).is_ok()
    }

    pub fn insert(&mut self, item: T) -> bool {
        match self.find(&item) {
            Ok(_) => false,
            Err(at) => {
                self.items.insert(at, item);
                true
            }
        }
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, item: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        let found = self.find(item);
        if let Ok(at) = found {
            self.items.remove(at);
        }
        found.is_ok()
    }

    pub fn is_subset(&self, other: &Self) -> bool {
        self.iter().all(|item| other.contains(item))
    }
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, T> IntoIterator for &'a Set<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<T> IntoIterator for Set<T> {
    type Item = T;
    type IntoIter = vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

/// One after the other: for a few. Many are collected.
impl<T: Ord> Extend<T> for Set<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        for item in items {
            self.insert(item);
        }
    }
}

/// Sorted at once.
impl<T: Ord> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let (mut all, mut rise) = (Vec::new(), true);
        for item in items {
            rise &= all.last().is_none_or(|last| *last < item);
            all.push(item);
        }
        if !rise {
            all.arrange();
            all.dedup();
        }
        Self { items: all }
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for Set<T> {
    fn from(items: [T; N]) -> Self {
        items.into_iter().collect()
    }
}

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
