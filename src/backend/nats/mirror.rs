//! Tracks the keys of a bucket that share a store key (`a.b` and `a/b`), and computes what a change of one of them
//! means. Keeps the values of such keys only; all others are in the store. Knows neither messages nor time.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::backend::Change;
use crate::backend::keys::{Keys, StoreKey};
use crate::store::{Bytes, Layer};

/// The keys of a bucket that belong to one resource.
#[derive(Debug, Default)]
pub struct Mirror {
    /// The keys of a read in progress.
    layer: Layer,
    /// Store keys with one key of the bucket, in its usual form.
    exact: BTreeSet<Bytes>,
    /// Store keys with other keys of the bucket, with or without the usual one.
    shared: BTreeMap<Bytes, BTreeMap<Owner, Owned>>,
}

/// A key of the bucket; `None`: the usual form of its store key.
type Owner = Option<Box<str>>;

/// The value of one of several keys with the same store key.
#[derive(Clone, Debug)]
struct Owned {
    /// The sequence number in the stream: the newest of several values wins. 0: before all others.
    sequence: u64,
    /// The value; `None`: it is only in the store.
    value: Option<Bytes>,
}

/// The meaning of a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Applied {
    /// One key of the store changed.
    Change(Change),
    /// The new value is unknown: the bucket must be read again.
    ReadAgain,
}

/// The path of a key: its dots become slashes.
pub fn path(key: &str) -> Vec<u8> {
    let mut path = vec![b'/'];
    path.extend(key.bytes().map(|byte| if byte == b'.' { b'/' } else { byte }));
    path
}

/// The store key of a key with this path. A key that has slashes itself is never exact, because dots are the usual
/// form.
pub fn store_key(keys: &Keys, key: &str, path: &[u8]) -> Option<StoreKey> {
    let StoreKey { key: name, exact } = keys.store_key(path)?;
    Some(StoreKey { key: name, exact: exact && !key.contains('/') })
}

impl Mirror {
    /// Takes a key during a read. `value`: `None` for a removed key.
    pub fn load(&mut self, name: StoreKey, key: &str, sequence: u64, value: Option<Bytes>) {
        match self.apply(name, key, sequence, value) {
            Applied::Change(Change::Put(key, value)) => drop(self.layer.insert(key, value)),
            Applied::Change(Change::Delete(key)) => drop(self.layer.remove(&key)),
            // A read has the values of all keys.
            Applied::ReadAgain => {}
        }
    }

    /// Ends the read, and returns its keys.
    pub fn take(&mut self) -> Layer {
        // A map that grows key by key takes twice the memory of one that is built at once.
        Layer::from_iter(std::mem::take(&mut self.layer))
    }

    /// Takes a change of a key. Changes come in the order of the stream.
    pub fn apply(&mut self, name: StoreKey, key: &str, sequence: u64, value: Option<Bytes>) -> Applied {
        let StoreKey { key: store_key, exact } = name;
        let was_there = self.exact.contains(&store_key);
        if exact && !was_there && value.is_some() {
            self.exact.insert(store_key.clone());
        } else if exact && was_there && value.is_none() {
            self.exact.remove(&store_key);
        }
        let owners = match self.shared.entry(store_key.clone()) {
            Entry::Occupied(owners) => owners.into_mut(),
            Entry::Vacant(_) if exact => {
                return Applied::Change(match value {
                    Some(value) => Change::Put(store_key, value),
                    None => Change::Delete(store_key),
                });
            }
            Entry::Vacant(owners) => {
                let usual = Owned { sequence: 0, value: self.layer.get(&store_key).cloned() };
                owners.insert(was_there.then_some((None, usual)).into_iter().collect())
            }
        };
        let owner = if exact { None } else { Some(Box::from(key)) };
        match value {
            Some(value) => drop(owners.insert(owner, Owned { sequence, value: Some(value) })),
            None => drop(owners.remove(&owner)),
        }
        match owners.values().max_by_key(|owned| owned.sequence) {
            Some(Owned { value: Some(value), .. }) => Applied::Change(Change::Put(store_key, value.clone())),
            Some(Owned { value: None, .. }) => Applied::ReadAgain,
            None => {
                self.shared.remove(&store_key);
                Applied::Change(Change::Delete(store_key))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        keys: Keys,
        mirror: Mirror,
        sequence: u64,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { keys: Keys::new("", &["/".to_owned()]), mirror: Mirror::default(), sequence: 0 }
        }

        fn load(&mut self, key: &str, value: Option<&str>) {
            self.sequence += 1;
            let name = store_key(&self.keys, key, &path(key)).unwrap();
            self.mirror.load(name, key, self.sequence, value.map(|value| Bytes::from(value.as_bytes())));
        }

        #[track_caller]
        fn check(&mut self, key: &str, value: Option<&str>, want: &str) {
            self.sequence += 1;
            let name = store_key(&self.keys, key, &path(key)).unwrap();
            let value = value.map(|value| Bytes::from(value.as_bytes()));
            let text = match self.mirror.apply(name, key, self.sequence, value) {
                Applied::Change(Change::Put(key, value)) => format!("{}={}", key.escape_ascii(), value.escape_ascii()),
                Applied::Change(Change::Delete(key)) => format!("{} gone", key.escape_ascii()),
                Applied::ReadAgain => "again".to_owned(),
            };
            assert_eq!(text, want);
        }

        fn layer(&mut self) -> String {
            let layer = self.mirror.take();
            let pairs = layer.iter().map(|(key, value)| format!("{}={}", key.escape_ascii(), value.escape_ascii()));
            pairs.collect::<Vec<_>>().join(" ")
        }
    }

    #[test]
    fn dots_are_slashes() {
        let mut bench = Bench::new();
        bench.load("app.db", Some("1"));
        bench.load("x", Some("2"));
        bench.load("x", None);
        bench.load("y", None);
        assert_eq!(bench.layer(), "/app/db=1");
        bench.check("app.db", Some("2"), "/app/db=2");
        bench.check("app.db", None, "/app/db gone");
    }

    #[test]
    fn of_keys_with_one_name_the_newest_wins_until_it_is_gone() {
        let mut bench = Bench::new();
        bench.load("a.b", Some("dots"));
        bench.load("a/b", Some("slash"));
        bench.load("c/d", Some("old"));
        bench.load("c.d", Some("new"));
        bench.load("e/f", None);
        bench.load("e.f", Some("1"));
        bench.load("g.h", Some("1"));
        bench.load("g/h", None);
        assert_eq!(bench.layer(), "/a/b=slash /c/d=new /e/f=1 /g/h=1");
        bench.check("a/b", None, "/a/b=dots");
        bench.check("a.b", None, "/a/b gone");
        bench.check("c.d", None, "/c/d=old");
        bench.check("c.d", Some("newer"), "/c/d=newer");
        bench.check("c/d", Some("newest"), "/c/d=newest");
        bench.check("c/d", None, "/c/d=newer");
    }

    #[test]
    fn a_value_that_only_the_store_has_is_read_again() {
        let mut bench = Bench::new();
        bench.load("a.b", Some("1"));
        bench.layer();
        bench.check("a/b", Some("2"), "/a/b=2");
        bench.check("a/b", None, "again");
        // A single key with slashes is not shared.
        bench.check("x/y", Some("1"), "/x/y=1");
        bench.check("x/y", None, "/x/y gone");
        bench.check("x/y", None, "/x/y gone");
    }
}
