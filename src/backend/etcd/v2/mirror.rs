//! Selects the keys of etcd version 2 that belong to a resource, and computes what one change means for it. Holds no
//! values: those are in the store. Knows neither requests nor time. A key stands for itself and all keys below it:
//! `/app` does not cover `/app2`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

use super::wire::{Entry, Event, EventKind};
use crate::backend::Change;
use crate::backend::keys::Keys;
use crate::store::{Bytes, Layer, path};

/// The keys of one resource.
pub struct Mirror {
    keys: Keys,
    /// The keys to read, as configured, and the keys that trigger an update: paths of etcd, which all begin with a
    /// slash.
    read: Vec<Vec<u8>>,
    triggers: Vec<Vec<u8>>,
    tracking: Tracking,
    /// The index of the last change of each key.
    known: BTreeMap<Bytes, u64>,
    /// The index of the last change that triggered an update.
    last_trigger: u64,
}

/// Whether the mirror tracks the keys. It needs them when a directory is deleted, because etcd does not name the keys
/// in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// The mirror keeps the index of every key.
    Yes,
    /// The mirror applies no changes, because the run is a one-shot run.
    No,
}

/// All keys while they are read.
pub struct Loading {
    layer: Layer,
    known: BTreeMap<Bytes, u64>,
}

impl Loading {
    /// Takes over the keys of another one, which replace equal keys.
    pub fn append(&mut self, part: &mut Loading) {
        self.layer.append(&mut part.layer);
        self.known.append(&mut part.known);
    }
}

/// What an event means.
#[derive(Debug, PartialEq, Eq)]
pub enum Applied {
    /// Keys of the store changed. The list may be empty.
    Changes {
        /// The changes, with the names of the keys in the store.
        changes: Vec<Change>,
        /// Whether they trigger an update.
        trigger: bool,
    },
    /// A configured key, or a directory above it, was deleted. A read shows whether that is an error.
    ReadAgain,
}

impl Mirror {
    /// An empty mirror of `keys` below `prefix`. Changes of `watch_keys` trigger an update.
    pub fn new(prefix: &str, keys: &[String], watch_keys: &[String], tracking: Tracking) -> Mirror {
        // etcd takes `app/x` for `/app/x`.
        let prefix = format!("/{prefix}");
        let paths = |keys: &[String]| {
            let mut paths = Vec::new();
            for key in keys {
                let path = path::join(&[prefix.as_bytes(), key.as_bytes()]);
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
            paths
        };
        Mirror {
            read: paths(keys),
            triggers: paths(watch_keys),
            keys: Keys::new(&prefix, keys),
            tracking,
            known: BTreeMap::new(),
            last_trigger: 0,
        }
    }

    /// The keys to read. Each of them must exist.
    pub fn read(&self) -> &[Vec<u8>] {
        &self.read
    }

    /// The keys to watch, for `keys` and `watchKeys` together: none is below another.
    pub fn watched(&self) -> Vec<Vec<u8>> {
        let mut paths = [&self.read[..], &self.triggers[..]].concat();
        paths.sort_unstable();
        paths.dedup();
        let outermost = |path: &Vec<u8>| !paths.iter().any(|other| other != path && is_within(path, other));
        paths.iter().filter(|path| outermost(path)).cloned().collect()
    }

    /// Starts to read all keys.
    pub fn load(&self) -> Loading {
        Loading { layer: Layer::new(), known: BTreeMap::new() }
    }

    /// Adds a key to a read.
    pub fn add(&self, loading: &mut Loading, entry: Entry) {
        let Some(store_key) = self.store_key(&entry.key) else {
            return;
        };
        loading.layer.insert(store_key, entry.value);
        if self.tracking == Tracking::Yes {
            loading.known.insert(entry.key, entry.index);
        }
    }

    /// Takes over the result of a read. Returns it, and the keys of etcd that differ from an earlier read and the
    /// events since.
    pub fn install(&mut self, loading: Loading) -> (Layer, BTreeSet<Bytes>) {
        let known = std::mem::replace(&mut self.known, loading.known);
        let missed = self.known.iter().filter(|(key, index)| known.get(*key) != Some(*index));
        let outlived = known.iter().filter(|(key, _)| !self.known.contains_key(*key));
        let unknown = missed.chain(outlived).map(|(key, _)| key.clone()).collect();
        self.last_trigger = 0;
        (loading.layer, unknown)
    }

    /// Applies an event. The events of one key must come in order.
    pub fn apply(&mut self, event: Event) -> Applied {
        let Event { key, index, kind } = event;
        let is_gone = kind == EventKind::Delete;
        if is_gone && self.read.iter().any(|path| is_within(path, &key)) {
            return Applied::ReadAgain;
        }
        let touched = |path: &Vec<u8>| is_shown(&key, path) || (is_gone && is_within(path, &key));
        // Waits are not ordered among each other: a change that came before the last trigger can arrive after it.
        let trigger = self.triggers.iter().any(touched) || index <= self.last_trigger;
        if trigger {
            self.last_trigger = self.last_trigger.max(index);
        }
        let mut changes = Vec::new();
        match kind {
            EventKind::Put(value) => {
                let is_read = self.read.iter().any(|path| is_shown(&key, path));
                // If two reads cover the key, one of them may deliver it after its event.
                let is_new = self.known.get(&key).is_none_or(|known| *known < index);
                if let Some(store_key) = self.store_key(&key).filter(|_| is_read && is_new) {
                    self.known.insert(key, index);
                    changes.push(Change::Put(store_key, value));
                }
            }
            // The directory may have replaced a key.
            EventKind::Directory => self.remove(&[key], index, &mut changes),
            EventKind::Delete => {
                let below = [&key, &b"/"[..]].concat();
                let from = (Bound::Included(&below[..]), Bound::Unbounded);
                let below =
                    self.known.range::<[u8], _>(from).map(|(key, _)| key).take_while(|key| key.starts_with(&below));
                let gone: Vec<Bytes> = [&key].into_iter().chain(below).cloned().collect();
                self.remove(&gone, index, &mut changes);
            }
        }
        Applied::Changes { changes, trigger }
    }

    /// Removes the known keys among these that were not written later.
    fn remove(&mut self, keys: &[Bytes], index: u64, changes: &mut Vec<Change>) {
        for key in keys {
            if self.known.get(key).is_some_and(|known| *known < index) {
                self.known.remove(key);
                changes.extend(self.store_key(key).map(Change::Delete));
            }
        }
    }

    /// The store key of a key of etcd. Two keys never share a store key, because etcd's paths are clean.
    fn store_key(&self, raw: &Bytes) -> Option<Bytes> {
        let store_key = self.keys.store_key(raw)?.key;
        // The usual case: one copy of the key is enough.
        Some(if store_key == *raw { Rc::clone(raw) } else { store_key })
    }
}

/// Whether a path equals another one or is below it.
pub fn is_within(path: &[u8], top: &[u8]) -> bool {
    match path.strip_prefix(top) {
        Some(rest) => rest.is_empty() || top == b"/" || rest.starts_with(b"/"),
        None => false,
    }
}

/// Whether a read or an open wait of a path shows the key: etcd hides names below the path that begin with an
/// underscore. The history shows them.
fn is_shown(key: &[u8], path: &[u8]) -> bool {
    is_within(key, path) && !key[path.len()..].split(|b| *b == b'/').skip(usize::from(path != b"/")).any(is_hidden)
}

fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(b"_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Rc::from(text.as_bytes())
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| text.to_string()).collect()
    }

    fn mirror(prefix: &str, keys: &[&str], watch_keys: &[&str]) -> Mirror {
        Mirror::new(prefix, &strings(keys), &strings(watch_keys), Tracking::Yes)
    }

    fn put(key: &str, value: &str, index: u64) -> Event {
        Event { key: bytes(key), index, kind: EventKind::Put(bytes(value)) }
    }

    fn delete(key: &str, index: u64) -> Event {
        Event { key: bytes(key), index, kind: EventKind::Delete }
    }

    fn directory(key: &str, index: u64) -> Event {
        Event { key: bytes(key), index, kind: EventKind::Directory }
    }

    fn read(mirror: &mut Mirror, entries: &[(&str, u64)]) -> Vec<String> {
        let mut loading = mirror.load();
        for (key, index) in entries {
            mirror.add(&mut loading, Entry { key: bytes(key), value: bytes("v"), index: *index });
        }
        let (layer, _) = mirror.install(loading);
        layer.keys().map(|key| String::from_utf8(key.to_vec()).unwrap()).collect()
    }

    /// "/a=1 -/b", with a star before it if it is a trigger.
    fn meaning(meaning: Applied) -> String {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let Applied::Changes { changes, trigger } = meaning else {
            return "read again".into();
        };
        let words = changes.iter().map(|change| match change {
            Change::Put(key, value) => format!("{}={}", text(key), text(value)),
            Change::Delete(key) => format!("-{}", text(key)),
        });
        let star = trigger.then(|| "*".to_owned());
        star.into_iter().chain(words).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_read_and_watched() {
        let check = |prefix: &str, keys: &[&str], watch_keys: &[&str], read: &[&str], watched: &[&str]| {
            let mirror = mirror(prefix, keys, watch_keys);
            let text = |paths: &[Vec<u8>]| {
                paths.iter().map(|path| String::from_utf8(path.clone()).unwrap()).collect::<Vec<_>>()
            };
            assert_eq!(text(mirror.read()), read, "{keys:?}");
            assert_eq!(text(&mirror.watched()), watched, "{keys:?} {watch_keys:?}");
        };
        check("", &["/"], &["/"], &["/"], &["/"]);
        check("", &["/b", "/a", "b/"], &["/r"], &["/b", "/a"], &["/a", "/b", "/r"]);
        check("", &["/a", "/a-b", "/a/x"], &["/a/y"], &["/a", "/a-b", "/a/x"], &["/a", "/a-b"]);
        check("", &["/app", "/app2"], &[], &["/app", "/app2"], &["/app", "/app2"]);
        check("p", &["a"], &["/"], &["/p/a"], &["/p"]);
        check("/p/", &["/"], &["/"], &["/p"], &["/p"]);
        check("", &["", "/x"], &[], &["/", "/x"], &["/"]);
        check("", &[], &["/x"], &[], &["/x"]);
    }

    #[test]
    fn what_is_read_gets_its_store_keys() {
        let check = |prefix, key, entries: &[(&str, u64)], want: &[&str]| {
            assert_eq!(read(&mut mirror(prefix, &[key], &[key]), entries), want);
        };
        check("", "/", &[("/b", 1), ("/a/x", 1)], &["/a/x", "/b"]);
        check("/p", "/a", &[("/p/a/x", 1)], &["/a/x"]);
        check("p", "a", &[("/p/a/x", 1)], &["/a/x"]);
        check("/p", "/", &[("/p", 1)], &["/"]);
    }

    #[test]
    fn events() {
        let check = |mirror: &mut Mirror, event, want: &str| assert_eq!(meaning(mirror.apply(event)), want);
        let mut plain = mirror("", &["/a"], &["/a"]);
        check(&mut plain, put("/a/x", "1", 2), "* /a/x=1");
        check(&mut plain, put("/a/x", "2", 3), "* /a/x=2");
        check(&mut plain, delete("/a/never", 4), "*");
        check(&mut plain, delete("/a/x", 5), "* -/a/x");
        check(&mut plain, directory("/a/d", 6), "*");
        check(&mut plain, delete("/a", 7), "read again");
        check(&mut plain, delete("/", 8), "read again");

        let mut prefixed = mirror("/p", &["/a"], &["/reload"]);
        check(&mut prefixed, put("/p/a/x", "1", 2), "/a/x=1");
        check(&mut prefixed, put("/p/reload", "1", 3), "*");
        check(&mut prefixed, put("/p/a/y", "overtaken", 3), "* /a/y=overtaken");
        check(&mut prefixed, delete("/p/a/x", 4), "-/a/x");
        check(&mut prefixed, put("/p/a2/x", "not within", 5), "");
    }

    #[test]
    fn what_etcd_hides_is_not_taken_from_its_history() {
        let check = |mirror: &mut Mirror, key, want: &str| assert_eq!(meaning(mirror.apply(put(key, "1", 2))), want);
        let mut plain = mirror("", &["/a"], &["/a"]);
        check(&mut plain, "/a/_x", "");
        check(&mut plain, "/a/_x/y", "");
        check(&mut plain, "/a/y/_x", "");
        check(&mut plain, "/a/y_x", "* /a/y_x=1");
        check(&mut mirror("", &["/"], &["/"]), "/_x", "");
        check(&mut mirror("", &["/_a"], &["/_a"]), "/_a/x", "* /_a/x=1");
        check(&mut mirror("", &["/_a"], &["/_a"]), "/_a", "* /_a=1");
    }

    #[test]
    fn a_directory_goes_with_its_keys() {
        let mut mirror = mirror("", &["/a"], &["/a"]);
        read(&mut mirror, &[("/a/d", 9), ("/a/d-e", 1), ("/a/d/1", 2), ("/a/d/2", 3), ("/a/d/new", 9), ("/a/e", 1)]);
        assert_eq!(meaning(mirror.apply(delete("/a/d", 8))), "* -/a/d/1 -/a/d/2");
        assert_eq!(meaning(mirror.apply(delete("/a/d", 10))), "* -/a/d -/a/d/new");
        assert_eq!(meaning(mirror.apply(directory("/a/e", 11))), "* -/a/e");
        assert_eq!(meaning(mirror.apply(delete("/a/d-e", 12))), "* -/a/d-e");
    }

    #[test]
    fn what_a_trigger_lost_calls_for_an_update() {
        let mut mirror = mirror("", &["/a"], &["/r/x"]);
        assert_eq!(meaning(mirror.apply(delete("/r", 4))), "*");
        assert_eq!(meaning(mirror.apply(put("/r", "no longer a directory", 5))), "");
    }

    #[test]
    fn what_a_read_had_otherwise() {
        let mut mirror = mirror("", &["/a"], &["/a"]);
        let check = |mirror: &mut Mirror, entries: &[(&str, u64)], want: &[&str]| {
            let mut loading = mirror.load();
            for (key, index) in entries {
                mirror.add(&mut loading, Entry { key: bytes(key), value: bytes("v"), index: *index });
            }
            let (_, unknown) = mirror.install(loading);
            assert_eq!(unknown.into_iter().collect::<Vec<_>>(), want.iter().map(|key| bytes(key)).collect::<Vec<_>>());
        };
        check(&mut mirror, &[("/a/1", 1), ("/a/2", 2)], &["/a/1", "/a/2"]);
        check(&mut mirror, &[("/a/1", 1), ("/a/2", 2)], &[]);
        mirror.apply(put("/a/3", "x", 3));
        mirror.apply(delete("/a/1", 4));
        check(&mut mirror, &[("/a/2", 2), ("/a/3", 3)], &[]);
        check(&mut mirror, &[("/a/2", 5), ("/a/4", 6)], &["/a/2", "/a/3", "/a/4"]);
    }

    #[test]
    fn what_two_reads_had_is_not_undone() {
        let mut mirror = mirror("", &["/a", "/a/x"], &["/a"]);
        read(&mut mirror, &[("/a/x/1", 9)]);
        assert_eq!(meaning(mirror.apply(put("/a/x/1", "old", 7))), "*");
        assert_eq!(meaning(mirror.apply(delete("/a/x/1", 8))), "*");
        assert_eq!(meaning(mirror.apply(put("/a/x/1", "new", 10))), "* /a/x/1=new");
        assert_eq!(meaning(mirror.apply(delete("/a/x", 11))), "read again");
    }
}
