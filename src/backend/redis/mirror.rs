//! The keys of one resource in Redis by their names in the store. Computes what a change of one key changes in the
//! store. Several keys may share a name (`app` and `/app`). Sends nothing.

use std::collections::BTreeMap;

use crate::backend::Change;
use crate::backend::keys::StoreKey;
use crate::store::{Bytes, Layer};

/// All keys by their names.
#[derive(Debug, Default)]
pub struct Mirror {
    names: BTreeMap<Bytes, Held>,
    /// The size of keys and values.
    bytes: usize,
}

/// The keys of one name with their values. The first one in order has the value of the name: the exact key, or the
/// smallest one.
#[derive(Debug)]
enum Held {
    One(Rank, Bytes),
    Several(BTreeMap<Rank, Bytes>),
}

/// `false` for the exact key, and the key.
type Rank = (bool, Bytes);

impl Held {
    fn value(&self) -> Option<&Bytes> {
        match self {
            Held::One(_, value) => Some(value),
            Held::Several(all) => all.first_key_value().map(|(_, value)| value),
        }
    }
}

impl Mirror {
    /// The number of names.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// The size of the keys and values, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The names with their values.
    pub fn layer(&self) -> Layer {
        self.names.iter().filter_map(|(name, held)| Some((name.clone(), held.value()?.clone()))).collect()
    }

    /// The names with their values. Consumes the mirror.
    pub fn into_layer(self) -> Layer {
        let value = |held| match held {
            Held::One(_, value) => Some(value),
            Held::Several(all) => all.into_values().next(),
        };
        self.names.into_iter().filter_map(|(name, held)| Some((name, value(held)?))).collect()
    }

    /// Sets or removes a key. Returns the change in the store.
    pub fn set(&mut self, named: StoreKey, raw: &Bytes, value: Option<Bytes>) -> Option<Change> {
        let StoreKey { key: name, exact } = named;
        // Most keys equal their names.
        let raw = if **raw == *name { name.clone() } else { raw.clone() };
        let rank = (!exact, raw);
        let before = self.names.get(&name).and_then(Held::value).cloned();
        let size = |value: &Bytes| rank.1.len().saturating_add(value.len());
        let added = value.as_ref().map_or(0, size);
        let removed = match (self.names.get_mut(&name), value) {
            (None, None) => None,
            (None, Some(value)) => {
                self.names.insert(name.clone(), Held::One(rank.clone(), value));
                None
            }
            (Some(Held::One(held, old)), value) if *held == rank => Some(match value {
                Some(value) => std::mem::replace(old, value),
                None => {
                    let old = old.clone();
                    self.names.remove(&name);
                    old
                }
            }),
            (Some(Held::One(..)), None) => None,
            (Some(one @ Held::One(..)), Some(value)) => {
                if let Held::One(held, old) = std::mem::replace(one, Held::Several(BTreeMap::new())) {
                    *one = Held::Several([(held, old), (rank.clone(), value)].into());
                }
                None
            }
            (Some(Held::Several(all)), Some(value)) => all.insert(rank.clone(), value),
            (Some(Held::Several(all)), None) => {
                let old = all.remove(&rank);
                if all.is_empty() {
                    self.names.remove(&name);
                }
                old
            }
        };
        self.bytes = self.bytes.saturating_add(added).saturating_sub(removed.as_ref().map_or(0, size));
        let after = self.names.get(&name).and_then(Held::value);
        match (before, after) {
            (before, Some(after)) if before.as_ref() != Some(after) => Some(Change::Put(name, after.clone())),
            (Some(_), None) => Some(Change::Delete(name)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::keys::Keys;
    use crate::random::Random;

    fn bytes(text: &str) -> Bytes {
        Bytes::from(text.as_bytes())
    }

    fn set(mirror: &mut Mirror, raw: &str, value: Option<&str>) -> Option<Change> {
        let named = Keys::new("", &["/".to_owned()]).store_key(raw.as_bytes()).unwrap();
        mirror.set(named, &bytes(raw), value.map(bytes))
    }

    #[test]
    fn only_what_changes_is_reported() {
        let mut mirror = Mirror::default();
        let put = |name, value| Some(Change::Put(bytes(name), bytes(value)));
        assert_eq!(set(&mut mirror, "/a", Some("1")), put("/a", "1"));
        assert_eq!(set(&mut mirror, "/a", Some("1")), None);
        assert_eq!(set(&mut mirror, "/a", Some("2")), put("/a", "2"));
        assert_eq!(set(&mut mirror, "/b", None), None);
        assert_eq!(set(&mut mirror, "/a", None), Some(Change::Delete(bytes("/a"))));
        assert_eq!(mirror.count(), 0);
    }

    #[test]
    fn a_shared_name_has_the_value_of_its_exact_key() {
        let mut mirror = Mirror::default();
        let put = |value| Some(Change::Put(bytes("/a"), bytes(value)));
        assert_eq!(set(&mut mirror, "a", Some("inexact")), put("inexact"));
        assert_eq!(set(&mut mirror, "/a", Some("exact")), put("exact"));
        assert_eq!(set(&mut mirror, "//a", Some("x")), None);
        assert_eq!(mirror.layer(), [(bytes("/a"), bytes("exact"))].into());
        assert_eq!(set(&mut mirror, "/a", None), put("x"));
        assert_eq!(set(&mut mirror, "//a", None), put("inexact"));
        assert_eq!(set(&mut mirror, "a", None), Some(Change::Delete(bytes("/a"))));
        assert_eq!(mirror.count(), 0);
    }

    /// Changes in any order lead to the result of a fresh read.
    #[test]
    fn changes_end_as_a_fresh_read() {
        let mut random = Random::new(7);
        for _ in 0..200 {
            let (mut mirror, mut store, mut layer) = (Mirror::default(), BTreeMap::new(), Layer::new());
            for step in 0..40 {
                let raw = *random.pick(&["a", "/a", "//a", "/a/", "b", "/b"]);
                let value = (random.below(3) > 0).then(|| (step % 3).to_string());
                match &value {
                    Some(value) => _ = store.insert(raw, value.clone()),
                    None => _ = store.remove(raw),
                }
                match set(&mut mirror, raw, value.as_deref()) {
                    Some(Change::Put(key, value)) => _ = layer.insert(key, value),
                    Some(Change::Delete(key)) => _ = layer.remove(&key),
                    None => {}
                }
            }
            let mut fresh = Mirror::default();
            store.iter().for_each(|(raw, value)| _ = set(&mut fresh, raw, Some(value)));
            let of = |(raw, value): (&&str, &String)| raw.len() + value.len();
            assert_eq!((layer.clone(), mirror.bytes()), (fresh.layer(), store.iter().map(of).sum()));
            assert_eq!((mirror.layer(), mirror.into_layer()), (layer.clone(), layer));
        }
    }
}
