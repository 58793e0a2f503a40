use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What is done to a map or a set of a few keys.
#[derive(Clone, Debug)]
enum Deed {
    Insert(u8, u16),
    Remove(u8),
    Enter(u8),
    Extend(Vec<(u8, u16)>),
    Retain(u8),
    Count,
    PopFirst,
    PopLast,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        (0u8..32, any::<u16>()).prop_map(|(key, value)| Deed::Insert(key, value)),
        (0u8..32).prop_map(Deed::Remove),
        (0u8..32).prop_map(Deed::Enter),
        proptest::collection::vec((0u8..32, any::<u16>()), 0..6).prop_map(Deed::Extend),
        (0u8..32).prop_map(Deed::Retain),
        Just(Deed::Count),
        Just(Deed::PopFirst),
        Just(Deed::PopLast),
    ];
    proptest::collection::vec(deed, 0..64)
}

proptest! {
    #[test]
    fn a_map_is_what_the_standard_librarys_is(deeds in deeds()) {
        let (mut map, mut tree) = (Map::new(), BTreeMap::new());
        for deed in deeds {
            match deed {
                Deed::Insert(key, value) => prop_assert_eq!(map.insert(key, value), tree.insert(key, value)),
                Deed::Remove(key) => prop_assert_eq!(map.remove(&key), tree.remove(&key)),
                Deed::Enter(key) => {
                    let (ours, theirs) = (map.entry(key).or_default(), tree.entry(key).or_default());
                    prop_assert_eq!(&ours, &theirs);
                    *ours = ours.wrapping_add(1);
                    *theirs = theirs.wrapping_add(1);
                    prop_assert_eq!(map.entry(key).or_try_insert_with(|| Err(())).copied(), Ok(tree[&key]));
                }
                Deed::Extend(pairs) => {
                    map.extend(pairs.clone());
                    tree.extend(pairs);
                }
                Deed::Retain(least) => {
                    map.retain(|key, value| *key >= least || *value % 2 == 0);
                    tree.retain(|key, value| *key >= least || *value % 2 == 0);
                }
                Deed::Count => {
                    map.values_mut().for_each(|value| *value = value.wrapping_add(1));
                    tree.values_mut().for_each(|value| *value = value.wrapping_add(1));
                    map.iter_mut().for_each(|(key, value)| *value ^= u16::from(*key));
                    tree.iter_mut().for_each(|(key, value)| *value ^= u16::from(*key));
                }
                Deed::PopFirst => prop_assert_eq!(map.pop_first(), tree.pop_first()),
                Deed::PopLast => prop_assert_eq!(map.pop_last(), tree.pop_last()),
            }
            prop_assert!(map.iter().eq(&tree), "{:?} {:?}", map, tree);
            prop_assert!(map.keys().eq(tree.keys()) && map.values().eq(tree.values()));
            prop_assert_eq!((map.len(), map.is_empty()), (tree.len(), tree.is_empty()));
            prop_assert_eq!(map.first_key_value(), tree.first_key_value());
            prop_assert_eq!(map.last_key_value(), tree.last_key_value());
            for key in 0..32 {
                prop_assert_eq!(map.get(&key), tree.get(&key));
                prop_assert_eq!(map.get_mut(&key), tree.get_mut(&key));
                prop_assert_eq!(map.contains_key(&key), tree.contains_key(&key));
            }
        }
        prop_assert!(map.clone().into_values().eq(tree.clone().into_values()));
        prop_assert!(map.into_iter().eq(tree));
    }

    #[test]
    fn a_set_is_what_the_standard_librarys_is(deeds in deeds()) {
        let (mut set, mut tree) = (Set::new(), BTreeSet::new());
        for deed in deeds {
            match deed {
                Deed::Insert(item, _) | Deed::Enter(item) => {
                    prop_assert_eq!(set.insert(item), tree.insert(item));
                }
                Deed::Remove(item) => prop_assert_eq!(set.remove(&item), tree.remove(&item)),
                Deed::Extend(pairs) => {
                    let items = || pairs.iter().map(|(item, _)| *item);
                    set.extend(items());
                    tree.extend(items());
                    let (ours, theirs): (Set<u8>, BTreeSet<u8>) = (items().collect(), items().collect());
                    prop_assert!(ours.iter().eq(&theirs));
                    prop_assert_eq!(ours.is_subset(&set), theirs.is_subset(&tree));
                    prop_assert_eq!(set.is_subset(&ours), tree.is_subset(&theirs));
                }
                Deed::Retain(least) => {
                    set.retain(|item| *item >= least);
                    tree.retain(|item| *item >= least);
                }
                Deed::Count => {}
                Deed::PopFirst => prop_assert_eq!(set.pop_first(), tree.pop_first()),
                Deed::PopLast => prop_assert_eq!(set.pop_last(), tree.pop_last()),
            }
            prop_assert!(set.iter().eq(&tree), "{:?} {:?}", set, tree);
            prop_assert_eq!((set.len(), set.first(), set.last()), (tree.len(), tree.first(), tree.last()));
            prop_assert!((0..32).all(|item| set.contains(&item) == tree.contains(&item)));
        }
        prop_assert!(set.into_iter().eq(tree));
    }

    #[test]
    fn what_is_collected_is_what_the_standard_library_collects(
        pairs in proptest::collection::vec((0u8..20, any::<u16>()), 0..64),
    ) {
        let tree: BTreeMap<u8, u16> = pairs.iter().copied().collect();
        prop_assert!(pairs.iter().copied().into_map().into_iter().eq(tree));
        let tree: BTreeSet<(u8, u16)> = pairs.iter().copied().collect();
        prop_assert!(pairs.into_iter().into_set().into_iter().eq(tree));
    }

    #[test]
    fn lists_are_in_the_order_that_a_stable_sort_gives(
        items in proptest::collection::vec((0u8..20, any::<u16>()), 0..200),
    ) {
        let (mut arranged, mut sorted) = (items.clone(), items.clone());
        arranged.arrange_by_key(|(key, _)| *key);
        sorted.sort_by_key(|(key, _)| *key);
        prop_assert_eq!(&arranged, &sorted);
        arranged.arrange();
        sorted.sort();
        prop_assert_eq!(arranged, sorted);
    }
}
