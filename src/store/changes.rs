//! The keys whose merged value has changed since the last look: what an update may have to render again. Knows keys
//! only, no values, and gives up counting where rendering everything is cheaper.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{Bytes, Layer};

/// The keys that have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Any key may have changed.
    Everything,
    /// These keys may have changed, and no other has.
    Keys(BTreeMap<Bytes, Change>),
}

/// How a key has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The key was there before and still is. Its value may be another one.
    Value,
    /// The key may have been created or deleted.
    Presence,
}

impl Default for Changes {
    /// No key has changed.
    fn default() -> Changes {
        Changes::Keys(BTreeMap::new())
    }
}

impl Changes {
    /// With more changed keys than this, everything counts as changed.
    pub const MOST: usize = 1000;

    /// Whether no key has changed.
    pub fn is_empty(&self) -> bool {
        matches!(self, Changes::Keys(keys) if keys.is_empty())
    }

    /// Adds a key. Of two changes of one key the stronger one counts.
    pub fn add(&mut self, key: Bytes, change: Change) {
        let Changes::Keys(keys) = self else { return };
        let known = keys.entry(key).or_insert(change);
        *known = (*known).max(change);
        if keys.len() > Changes::MOST {
            *self = Changes::Everything;
        }
    }

    /// The change of one key; of those that are counted.
    pub fn of(&self, key: &[u8]) -> Option<Change> {
        match self {
            Changes::Everything => Some(Change::Presence),
            Changes::Keys(keys) => keys.get(key).copied(),
        }
    }

    /// The counted keys that begin with these bytes, in their order. None is counted where everything has changed.
    pub fn with_prefix<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a Bytes, Change)> {
        let counted = match self {
            Changes::Everything => None,
            Changes::Keys(keys) => Some(keys.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))),
        };
        let from = counted.into_iter().flatten().map(|(key, change)| (key, *change));
        from.take_while(move |(key, _)| key.starts_with(prefix))
    }
}

/// The keys that differ between two states of one layer, in their order.
pub(super) fn between<'a>(old: &'a Layer, new: &'a Layer) -> impl Iterator<Item = (&'a Bytes, Change)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some(before), Some(after)) => before.0.cmp(after.0),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return None,
            };
            match order {
                std::cmp::Ordering::Less => return old.next().map(|(key, _)| (key, Change::Presence)),
                std::cmp::Ordering::Greater => return new.next().map(|(key, _)| (key, Change::Presence)),
                std::cmp::Ordering::Equal => {
                    let (before, after) = (old.next()?, new.next()?);
                    if before.1 != after.1 {
                        return Some((after.0, Change::Value));
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;
    use crate::random::Random;

    fn bytes(text: impl AsRef<[u8]>) -> Bytes {
        Bytes::from(text.as_ref())
    }

    fn layer(pairs: &[(&str, &str)]) -> Layer {
        pairs.iter().map(|(key, value)| (bytes(key), bytes(value))).collect()
    }

    /// `/a`, or `/a!` if the key was created or deleted.
    fn taken(store: &mut Store) -> Vec<String> {
        let Changes::Keys(keys) = store.take_changes() else { return vec!["everything".to_owned()] };
        let mark = |change| if change == Change::Presence { "!" } else { "" };
        keys.into_iter().map(|(key, change)| format!("{}{}", String::from_utf8_lossy(&key), mark(change))).collect()
    }

    #[test]
    fn single_keys_are_counted_once_and_taken_once() {
        let mut store = Store::new(1);
        assert_eq!(taken(&mut store), [""; 0]);
        store.put(0, bytes("/a"), bytes("1"));
        store.put(0, bytes("/b"), bytes("1"));
        assert_eq!(taken(&mut store), ["/a!", "/b!"]);
        store.put(0, bytes("/a"), bytes("1"));
        store.delete(0, b"/none");
        assert_eq!(taken(&mut store), [""; 0]);
        store.put(0, bytes("/a"), bytes("2"));
        assert_eq!(taken(&mut store), ["/a"]);
        store.put(0, bytes("/a"), bytes("3"));
        store.delete(0, b"/a");
        store.put(0, bytes("/a"), bytes("2"));
        assert_eq!(taken(&mut store), ["/a!"], "it went, and came again");
    }

    #[test]
    fn a_change_below_a_later_layer_is_none() {
        let mut store = Store::new(3);
        store.put(1, bytes("/a"), bytes("middle"));
        assert_eq!(taken(&mut store), ["/a!"]);
        store.put(0, bytes("/a"), bytes("low"));
        store.put(0, bytes("/a"), bytes("lower"));
        assert_eq!(taken(&mut store), [""; 0]);
        store.put(2, bytes("/a"), bytes("high"));
        assert_eq!(taken(&mut store), ["/a"]);
        store.delete(1, b"/a");
        store.replace(0, Layer::new());
        assert_eq!(taken(&mut store), [""; 0]);
        store.replace(1, layer(&[("/a", "middle"), ("/b", "new")]));
        assert_eq!(taken(&mut store), ["/b!"]);
        store.delete(2, b"/a");
        assert_eq!(taken(&mut store), ["/a"], "it is uncovered");
    }

    #[test]
    fn a_layer_that_is_read_again_is_compared() {
        let mut store = Store::new(1);
        store.replace(0, layer(&[("/a", "1"), ("/b", "1"), ("/c", "1")]));
        assert_eq!(taken(&mut store), ["/a!", "/b!", "/c!"]);
        store.replace(0, layer(&[("/a", "1"), ("/b", "1"), ("/c", "1")]));
        assert_eq!(taken(&mut store), [""; 0]);
        store.replace(0, layer(&[("/0", "1"), ("/b", "2"), ("/c", "1"), ("/d", "1")]));
        assert_eq!(taken(&mut store), ["/0!", "/a!", "/b", "/d!"]);
        store.replace(0, Layer::new());
        assert_eq!(taken(&mut store), ["/0!", "/b!", "/c!", "/d!"]);
    }

    #[test]
    fn too_many_changes_are_everything() {
        let key = |n: usize| bytes(format!("/{n}"));
        let mut store = Store::new(1);
        (0..Changes::MOST).for_each(|n| _ = store.put(0, key(n), bytes("1")));
        assert_eq!(taken(&mut store).len(), Changes::MOST);
        (0..=Changes::MOST).for_each(|n| _ = store.put(0, key(n), bytes("2")));
        assert_eq!(taken(&mut store), ["everything"]);
        let of = |value: &str| (0..2 * Changes::MOST).map(|n| (key(n), bytes(value))).collect::<Layer>();
        store.replace(0, of("2"));
        assert_eq!(taken(&mut store).len(), Changes::MOST - 1);
        store.replace(0, of("3"));
        assert_eq!(taken(&mut store), ["everything"]);
        store.change_everything();
        store.put(0, key(0), bytes("4"));
        assert_eq!(taken(&mut store), ["everything"]);
    }

    #[test]
    fn what_differs_is_counted_after_random_changes() {
        let mut random = Random::new(4);
        for _ in 0..500 {
            let mut store = Store::new(3);
            for _ in 0..6 {
                let before: BTreeMap<Bytes, Bytes> = store.all().map(|(k, v)| (k.clone(), v.clone())).collect();
                store.take_changes();
                for _ in 0..random.below(6) {
                    let (at, key) = (random.below(3), bytes(format!("/{}", random.below(5))));
                    match random.below(5) {
                        0..2 => _ = store.put(at, key, bytes(random.below(2).to_string())),
                        2..4 => _ = store.delete(at, &key),
                        _ => store
                            .replace(at, (0..random.below(4)).map(|n| (bytes(format!("/{n}")), bytes("1"))).collect()),
                    }
                }
                let changes = store.take_changes();
                let after: BTreeMap<Bytes, Bytes> = store.all().map(|(k, v)| (k.clone(), v.clone())).collect();
                for key in before.keys().chain(after.keys()) {
                    let least = match (before.get(key), after.get(key)) {
                        (Some(old), Some(new)) if old == new => None,
                        (Some(_), Some(_)) => Some(Change::Value),
                        _ => Some(Change::Presence),
                    };
                    assert!(changes.of(key) >= least, "{key:?} {changes:?}");
                }
            }
        }
    }
}
