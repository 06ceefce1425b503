//! Selects the keys of etcd that belong to a resource, and computes what one change of a key means for it. Holds no
//! values: those are in the store. Knows neither requests nor time.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::wire::{Entry, Event, EventKind, Span};
use crate::backend::Change;
use crate::backend::keys::{Keys, StoreKey};
use crate::store::{Bytes, Layer};

/// The keys of one resource.
pub struct Mirror {
    keys: Keys,
    watch_keys: Keys,
    /// No wanted key begins with a slash, so only `app/x` can have the store key `/app/x`.
    relative: bool,
    /// Store keys that more than one raw key may have.
    shared: BTreeSet<Bytes>,
    comparing: Comparing,
    /// The revision of each store key, if a later read is compared with it.
    written: Option<BTreeMap<Bytes, u64>>,
    /// The revision of the last change that triggered an update.
    last_trigger: u64,
}

/// Whether the mirror can compare itself with a later read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparing {
    /// It keeps the revision of every key.
    Yes,
    /// A later read replaces everything.
    No,
}

/// All keys while they are read.
pub struct Loading {
    /// The keys in the order of their arrival, which is mostly sorted. A map that is built from all of them at once
    /// takes half the memory of one that they are inserted into one by one.
    entries: Vec<(Bytes, Bytes)>,
    shared: BTreeSet<Bytes>,
    written: Option<BTreeMap<Bytes, u64>>,
}

/// What an event means.
#[derive(Debug, PartialEq, Eq)]
pub enum Applied {
    /// No key of the store changed.
    Nothing,
    /// The event triggers an update, but its key is not in the store.
    Trigger,
    /// One key of the store changed.
    Change {
        /// The change, with the name of the key in the store.
        change: Change,
        /// Whether it triggers an update.
        trigger: bool,
    },
    /// The event does not show the new value of the store key: all keys must be read again.
    ReadAgain,
}

impl Mirror {
    /// An empty mirror of `keys` below `prefix`. Changes of `watch_keys` trigger an update.
    pub fn new(prefix: &str, keys: &[String], watch_keys: &[String], comparing: Comparing) -> Mirror {
        let keys = Keys::new(prefix, keys);
        Mirror {
            relative: !keys.prefixes().iter().any(|prefix| prefix.is_empty() || prefix.starts_with(b"/")),
            watch_keys: Keys::new(prefix, watch_keys),
            shared: BTreeSet::new(),
            comparing,
            written: None,
            last_trigger: 0,
            keys,
        }
    }

    /// The ranges to read: disjoint and in order.
    pub fn spans(&self) -> Vec<Span> {
        self.keys.prefixes().iter().map(|prefix| Span::of_prefix(prefix)).collect()
    }

    /// The ranges to watch, for `keys` and `watchKeys` together: disjoint, so that each event arrives once.
    pub fn watched(&self) -> Vec<Span> {
        let mut prefixes = [self.keys.prefixes(), self.watch_keys.prefixes()].concat();
        prefixes.sort_unstable();
        // A prefix sorts before all texts that begin with it.
        prefixes.dedup_by(|later, kept| later.starts_with(kept));
        prefixes.iter().map(|prefix| Span::of_prefix(prefix)).collect()
    }

    /// Starts to read all keys.
    pub fn load(&self) -> Loading {
        Loading {
            entries: Vec::new(),
            shared: BTreeSet::new(),
            written: (self.comparing == Comparing::Yes).then(BTreeMap::new),
        }
    }

    /// Adds a key to a read. If several raw keys have one store key, the greatest wins.
    pub fn add(&self, loading: &mut Loading, entry: Entry) {
        let Some(store_key) = self.store_key(&entry.key) else {
            return;
        };
        if !store_key.exact {
            loading.shared.insert(store_key.key.clone());
        }
        if let Some(written) = &mut loading.written {
            written.insert(store_key.key.clone(), entry.mod_revision);
        }
        loading.entries.push((store_key.key, entry.value));
    }

    /// Takes over the result of a read. Returns all keys, and those whose values differ from an earlier read and the
    /// events since. Keys with values that events left open are not among the second.
    pub fn install(&mut self, loading: Loading) -> (Layer, BTreeSet<Bytes>) {
        let mut unknown = match (&self.written, &loading.written) {
            (Some(known), Some(read)) => differing(known, read),
            _ => BTreeSet::new(),
        };
        unknown.retain(|key| !self.shared.contains(key) && !loading.shared.contains(key));
        self.shared = loading.shared;
        self.written = loading.written;
        self.last_trigger = 0;
        // The last one of equal keys stays.
        (Layer::from_iter(loading.entries), unknown)
    }

    /// Applies an event. The events of one watch must come in order.
    pub fn apply(&mut self, event: Event) -> Applied {
        let Event { kind, entry: Entry { key: raw, value, mod_revision } } = event;
        // Watches are not ordered among each other: a change that came before the last trigger can arrive after it.
        let trigger = self.watch_keys.covers(&raw) || mod_revision <= self.last_trigger;
        if trigger {
            self.last_trigger = self.last_trigger.max(mod_revision);
        }
        let store_key = if self.keys.covers(&raw) { self.store_key(&raw) } else { None };
        let Some(StoreKey { key, exact }) = store_key else {
            return if trigger { Applied::Trigger } else { Applied::Nothing };
        };
        if !exact || self.shared.contains(&key) {
            return Applied::ReadAgain;
        }
        if let Some(written) = &mut self.written {
            match kind {
                EventKind::Put => written.insert(key.clone(), mod_revision),
                EventKind::Delete => written.remove(&key),
            };
        }
        let change = match kind {
            EventKind::Put => Change::Put(key, value),
            EventKind::Delete => Change::Delete(key),
        };
        Applied::Change { change, trigger }
    }

    /// The store key of a raw key.
    pub fn store_key(&self, raw: &Bytes) -> Option<StoreKey> {
        let mut store_key = self.keys.store_key(raw)?;
        store_key.exact |= self.relative && store_key.key.strip_prefix(b"/") == Some(&**raw);
        if store_key.key == *raw {
            // The usual case: one copy of the key is enough.
            store_key.key = Rc::clone(raw);
        }
        Some(store_key)
    }
}

/// The keys with different revisions in two sorted maps.
fn differing(known: &BTreeMap<Bytes, u64>, read: &BTreeMap<Bytes, u64>) -> BTreeSet<Bytes> {
    let unlike = |(key, revision): &(&Bytes, &u64), other: &BTreeMap<Bytes, u64>| other.get(*key) != Some(*revision);
    let missed = read.iter().filter(|entry| unlike(entry, known));
    let outlived = known.iter().filter(|(key, _)| !read.contains_key(*key));
    missed.chain(outlived).map(|(key, _)| key.clone()).collect()
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
        Mirror::new(prefix, &strings(keys), &strings(watch_keys), Comparing::Yes)
    }

    fn entry(key: &str, value: &str, mod_revision: u64) -> Entry {
        Entry { key: bytes(key), value: bytes(value), mod_revision }
    }

    fn put(key: &str, value: &str, revision: u64) -> Event {
        Event { kind: EventKind::Put, entry: entry(key, value, revision) }
    }

    fn delete(key: &str, revision: u64) -> Event {
        Event { kind: EventKind::Delete, entry: entry(key, "", revision) }
    }

    fn changed(change: Change, trigger: bool) -> Applied {
        Applied::Change { change, trigger }
    }

    fn read(mirror: &mut Mirror, entries: &[(&str, &str, u64)]) -> (Vec<(String, String)>, Vec<String>) {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let mut loading = mirror.load();
        entries.iter().for_each(|(key, value, revision)| mirror.add(&mut loading, entry(key, value, *revision)));
        let (layer, unknown) = mirror.install(loading);
        (layer.iter().map(|(key, value)| (text(key), text(value))).collect(), unknown.iter().map(text).collect())
    }

    #[test]
    fn what_is_read_and_watched() {
        let check = |prefix: &str, keys: &[&str], watch_keys: &[&str], read: &[&str], watched: &[&str]| {
            let mirror = mirror(prefix, keys, watch_keys);
            let spans = |list: &[&str]| list.iter().map(|text| Span::of_prefix(text.as_bytes())).collect::<Vec<_>>();
            assert_eq!(mirror.spans(), spans(read), "{keys:?}");
            assert_eq!(mirror.watched(), spans(watched), "{keys:?} {watch_keys:?}");
        };
        check("", &["/"], &["/"], &["/"], &["/"]);
        check("", &["/", "/a"], &["/", "/a"], &["/"], &["/"]);
        check("", &["/b", "/a"], &["/reload"], &["/a", "/b"], &["/a", "/b", "/reload"]);
        check("", &["/app/x"], &["/app"], &["/app/x"], &["/app"]);
        check("/p", &["/a"], &["/a/reload"], &["/p/a"], &["/p/a"]);
        check("", &[""], &["/x"], &[""], &[""]);
        check("", &["/a", "/a/x", "/a-b", "/b"], &[], &["/a", "/b"], &["/a", "/b"]);
        check("", &[], &["/x"], &[], &["/x"]);
        check("", &[], &[], &[], &[]);
    }

    #[test]
    fn what_is_read_gets_its_store_keys() {
        let check = |prefix, keys: &[&str], entries: &[(&str, &str, u64)], want: &[(&str, &str)]| {
            let want: Vec<_> = want.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            assert_eq!(read(&mut mirror(prefix, keys, keys), entries).0, want);
        };
        check("", &["/"], &[("/a", "1", 1), ("/b", "2", 2)], &[("/a", "1"), ("/b", "2")]);
        check("/p", &["/"], &[("/p", "0", 1), ("/p/a", "1", 1), ("/pq/a", "2", 2)], &[("/", "0"), ("/a", "1")]);
        check("", &["/"], &[("/a//b", "1", 2), ("/a/b", "2", 1)], &[("/a/b", "2")]);
        check("", &["a"], &[("a/x", "1", 1)], &[("/a/x", "1")]);
    }

    #[test]
    fn events() {
        let check = |mirror: &mut Mirror, event, want| assert_eq!(mirror.apply(event), want);
        let mut plain = mirror("", &["/a"], &["/a"]);
        check(&mut plain, put("/a/x", "1", 2), changed(Change::Put(bytes("/a/x"), bytes("1")), true));
        check(&mut plain, delete("/a/x", 3), changed(Change::Delete(bytes("/a/x")), true));
        check(&mut plain, delete("/a/never", 4), changed(Change::Delete(bytes("/a/never")), true));
        check(&mut plain, put("/b", "1", 5), Applied::Nothing);

        let mut prefixed = mirror("/p", &["/a"], &["/reload"]);
        check(&mut prefixed, put("/p/a/x", "1", 2), changed(Change::Put(bytes("/a/x"), bytes("1")), false));
        check(&mut prefixed, put("/p/reload", "1", 3), Applied::Trigger);
        check(&mut prefixed, delete("/p/a/x", 4), changed(Change::Delete(bytes("/a/x")), false));
        let mut wide = mirror("/p", &["/"], &["/"]);
        check(&mut wide, put("/p2", "not below the prefix", 2), Applied::Trigger);
    }

    #[test]
    fn what_a_trigger_overtook_calls_for_an_update_too() {
        let mut mirror = mirror("", &["/a", "/b"], &["/reload"]);
        let trigger = |meaning| matches!(meaning, Applied::Trigger | Applied::Change { trigger: true, .. });
        assert!(!trigger(mirror.apply(put("/a", "1", 4))));
        assert!(trigger(mirror.apply(put("/reload", "1", 9))));
        assert!(trigger(mirror.apply(put("/a", "2", 6))));
        assert!(trigger(mirror.apply(put("/b", "1", 9))), "of one transaction");
        assert!(!trigger(mirror.apply(put("/b", "2", 10))));
        // A store that was put back counts from an earlier revision.
        read(&mut mirror, &[]);
        assert!(!trigger(mirror.apply(put("/a", "3", 5))));
    }

    #[test]
    fn keys_that_share_a_store_key_are_read_again() {
        let mut absolute = mirror("", &["/a"], &["/a"]);
        assert_eq!(absolute.apply(put("/a//x", "1", 2)), Applied::ReadAgain);
        assert_eq!(absolute.apply(delete("/a/x/", 2)), Applied::ReadAgain);
        read(&mut absolute, &[("/a//x", "1", 2), ("/a/x", "2", 3)]);
        assert_eq!(absolute.apply(delete("/a/x", 4)), Applied::ReadAgain);
        assert_eq!(absolute.apply(put("/a/y", "1", 5)), changed(Change::Put(bytes("/a/y"), bytes("1")), true));
        read(&mut absolute, &[("/a/x", "2", 3)]);
        assert_eq!(absolute.apply(delete("/a/x", 6)), changed(Change::Delete(bytes("/a/x")), true));

        // Without a leading slash, `app/x` shares its name only if `/app/x` is wanted, too.
        let put_relative = || put("app/x", "1", 2);
        let alone = changed(Change::Put(bytes("/app/x"), bytes("1")), true);
        assert_eq!(mirror("", &["app"], &["app"]).apply(put_relative()), alone);
        assert_eq!(mirror("", &["app", "/app"], &["app"]).apply(put_relative()), Applied::ReadAgain);
        assert_eq!(mirror("", &[""], &[""]).apply(put_relative()), Applied::ReadAgain);
        assert_eq!(mirror("", &["app"], &["app"]).apply(put("app//x", "1", 2)), Applied::ReadAgain);
    }

    #[test]
    fn a_later_read_reports_the_unknown_differences() {
        let mut mirror = mirror("", &["/"], &["/"]);
        let mut check = |events: Vec<Event>, entries: &[(&str, &str, u64)], unknown: &[&str]| {
            events.into_iter().for_each(|event| drop(mirror.apply(event)));
            assert_eq!(read(&mut mirror, entries).1, unknown);
        };
        check(vec![], &[("/a", "1", 2), ("/b", "1", 3)], &[]);
        check(vec![], &[("/a", "1", 2), ("/b", "1", 3)], &[]);
        check(vec![put("/a", "2", 4), delete("/b", 5)], &[("/a", "2", 4)], &[]);
        check(vec![put("/c", "1", 6)], &[("/a", "2", 4), ("/c", "1", 6), ("/d", "1", 7)], &["/d"]);
        check(vec![], &[("/a", "2", 8), ("/c", "1", 6)], &["/a", "/d"]);
        // An event of these keys does not show the new value of the store key.
        check(vec![], &[("/a//b", "1", 9), ("/c", "1", 6)], &["/a"]);
        check(vec![put("/a//b", "2", 10)], &[("/a//b", "2", 10), ("/c", "1", 6)], &[]);
        check(vec![delete("/a//b", 11)], &[("/c", "1", 6)], &[]);
        let mut forgetful = Mirror::new("", &strings(&["/"]), &[], Comparing::No);
        read(&mut forgetful, &[("/a", "1", 2)]);
        assert_eq!(read(&mut forgetful, &[]).1, Vec::<String>::new());
    }

    /// Applies random histories event by event, and compares with reading everything.
    #[test]
    fn events_lead_to_what_a_read_gives() {
        let names =
            ["/a", "/a/", "/a//b", "/a/b", "/a/b/c", "/a/./b", "/ab", "/b", "/b/x", "/c", "a/b", "a", "/reload", "/"];
        let plans: [(&str, &[&str], &[&str]); 7] = [
            ("", &["/"], &["/"]),
            ("", &["/", "/a"], &["/reload"]),
            ("", &["/a", "/b"], &["/a/b", "/reload"]),
            ("/a", &["/"], &["/"]),
            ("", &["a"], &["a"]),
            ("", &[""], &["/b"]),
            ("", &["/b/x", "/c"], &["/"]),
        ];
        let mut random = crate::random::Random::new(42);
        let mut below = |bound| random.below(bound);
        let (mut applied, mut reread) = (0, 0);
        for (prefix, keys, watch_keys) in plans {
            let load = |mirror: &mut Mirror, etcd: &BTreeMap<&str, (String, u64)>| {
                let mut loading = mirror.load();
                for span in mirror.spans() {
                    for (key, (value, revision)) in etcd.iter().filter(|(key, _)| span.holds(key.as_bytes())) {
                        mirror.add(&mut loading, entry(key, value, *revision));
                    }
                }
                mirror.install(loading)
            };
            let mut etcd = BTreeMap::new();
            let mut watching = mirror(prefix, keys, watch_keys);
            let (mut layer, _) = load(&mut watching, &etcd);
            for revision in 1..3000 {
                let name = names[below(names.len())];
                let event = match below(3) {
                    0 => {
                        etcd.remove(name);
                        delete(name, revision)
                    }
                    _ => {
                        etcd.insert(name, (revision.to_string(), revision));
                        put(name, &revision.to_string(), revision)
                    }
                };
                if !watching.watched().iter().any(|span| span.holds(name.as_bytes())) {
                    continue;
                }
                match watching.apply(event) {
                    Applied::Change { change: Change::Put(key, value), .. } => {
                        layer.insert(key, value);
                        applied += 1;
                    }
                    Applied::Change { change: Change::Delete(key), .. } => drop(layer.remove(&key)),
                    Applied::ReadAgain => {
                        layer = load(&mut watching, &etcd).0;
                        reread += 1;
                    }
                    Applied::Trigger | Applied::Nothing => {}
                }
                // The read uses another mirror, so that this one keeps its state.
                let fresh = load(&mut mirror(prefix, keys, watch_keys), &etcd).0;
                assert_eq!(layer, fresh, "revision {revision} of {keys:?} under {prefix:?}");
            }
            let (_, unknown) = load(&mut watching, &etcd);
            assert_eq!(unknown, BTreeSet::new());
        }
        assert!(applied > 1000 && reread > 1000, "{applied} {reread}");
    }
}
