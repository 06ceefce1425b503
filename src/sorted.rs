//! A map over a sorted vector, for few entries: subscribers, calls, units. A `BTreeMap` has 3 to 12 KB of code for each
//! type of its entries. Here the values are boxed, so that the compiler can merge the code for different types. Not for
//! the keys of a store: an insertion moves all entries behind it.

use std::borrow::Borrow;
use std::iter::Map;
use std::ops::Index;
use std::{mem, slice, vec};

/// The entries of a map, borrowed.
pub type Iter<'a, K, V> = Map<slice::Iter<'a, (K, Box<V>)>, fn(&'a (K, Box<V>)) -> (&'a K, &'a V)>;

/// The entries of a map, with values to change.
pub type IterMut<'a, K, V> = Map<slice::IterMut<'a, (K, Box<V>)>, fn(&'a mut (K, Box<V>)) -> (&'a K, &'a mut V)>;

/// A map whose entries are in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortedMap<K, V> {
    entries: Vec<(K, Box<V>)>,
}

impl<K: Ord, V> SortedMap<K, V> {
    /// A map without entries.
    pub const fn new() -> SortedMap<K, V> {
        SortedMap { entries: Vec::new() }
    }

    /// The index of the entry of a key, or the index at which it would be inserted.
    fn search<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.entries.binary_search_by(|(other, _)| other.borrow().cmp(key))
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.search(key).ok().map(|index| &*self.entries[index].1)
    }

    /// The value of a key, to change it.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.search(key).ok().map(|index| &mut *self.entries[index].1)
    }

    /// Whether the map has the key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.search(key).is_ok()
    }

    /// Sets the value of a key, and returns the previous one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.search(&key) {
            Ok(index) => Some(mem::replace(&mut *self.entries[index].1, value)),
            Err(index) => {
                self.entries.insert(index, (key, Box::new(value)));
                None
            }
        }
    }

    /// Removes a key, and returns its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.search(key).ok().map(|index| *self.entries.remove(index).1)
    }

    /// The value of a key, made by `make` and inserted where the map has none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let index = self.search(&key).unwrap_or_else(|index| {
            self.entries.insert(index, (key, Box::new(make())));
            index
        });
        &mut self.entries[index].1
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Whether the map has no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries, in the order of their keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.entries.iter().map(|(key, value)| (key, &**value))
    }

    /// The entries whose keys are not below `key`, in the order of their keys.
    pub fn iter_from(&self, key: &K) -> Iter<'_, K, V> {
        let (Ok(index) | Err(index)) = self.search(key);
        self.entries[index..].iter().map(|(key, value)| (key, &**value))
    }

    /// The entries with values to change, in the order of their keys.
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        self.entries.iter_mut().map(|(key, value)| (&*key, &mut **value))
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.entries.iter().map(|(key, _)| key)
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.entries.iter().map(|(_, value)| &**value)
    }

    /// The values to change, in the order of their keys.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|(_, value)| &mut **value)
    }
}

impl<K: Ord, V> Default for SortedMap<K, V> {
    fn default() -> SortedMap<K, V> {
        SortedMap::new()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> SortedMap<K, V> {
        let mut map = SortedMap::new();
        entries.into_iter().for_each(|(key, value)| drop(map.insert(key, value)));
        map
    }
}

/// The value of a key that the map has. Panics without it.
impl<K: Ord, V> Index<&K> for SortedMap<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        self.get(key).expect("the map has the key")
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a SortedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a mut SortedMap<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<K, V> IntoIterator for SortedMap<K, V> {
    type Item = (K, V);
    type IntoIter = Map<vec::IntoIter<(K, Box<V>)>, fn((K, Box<V>)) -> (K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter().map(|(key, value)| (key, *value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::random::Random;

    /// The map and std's have the same entries, in the same order.
    fn check(map: &SortedMap<usize, usize>, model: &BTreeMap<usize, usize>) {
        assert!(map.iter().eq(model), "{map:?}, {model:?}");
        assert!(map.keys().eq(model.keys()) && map.values().eq(model.values()), "{map:?}, {model:?}");
        assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
    }

    #[test]
    fn a_map_behaves_as_a_map_of_std() {
        let (mut map, mut model, mut random) = (SortedMap::new(), BTreeMap::new(), Random::new(1));
        for step in 0..20_000 {
            let key = random.below(40);
            match random.below(4) {
                0 | 1 => assert_eq!(map.insert(key, step), model.insert(key, step)),
                2 => assert_eq!(map.remove(&key), model.remove(&key)),
                _ => {
                    *map.get_or_insert_with(key, || 0) += step;
                    *model.entry(key).or_default() += step;
                }
            }
            check(&map, &model);
            assert_eq!((map.get(&key), map.contains_key(&key)), (model.get(&key), model.contains_key(&key)));
            assert!(map.iter_from(&key).eq(model.range(key..)), "from {key}: {map:?}");
        }
    }

    #[test]
    fn values_can_be_changed() {
        let mut map: SortedMap<usize, usize> = [(3, 30), (1, 10), (2, 20)].into_iter().collect();
        map.values_mut().for_each(|value| *value += 1);
        (&mut map).into_iter().for_each(|(key, value)| *value += *key);
        *map.get_mut(&2).expect("2 is a key") = 0;
        assert_eq!(map[&1], 12);
        assert_eq!(map.into_iter().collect::<Vec<_>>(), [(1, 12), (2, 0), (3, 34)]);
    }
}
