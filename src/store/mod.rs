//! The keys of one resource: sorted, one layer for each backend, read as one map. Knows neither the sources of keys nor
//! templates.

pub mod changes;
mod cursor;
pub mod path;
pub mod pattern;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

use changes::{Change, Changes, between};
use cursor::Cursor;
pub use pattern::BadPattern;
use pattern::Pattern;

/// A key or a value. Stores hold bytes and not text: bytes that are not UTF-8 must survive. Templates share the bytes
/// with the store instead of copying them.
pub type Bytes = Rc<[u8]>;

/// The keys and values of one backend. Keys are clean paths that begin with `/`.
pub type Layer = BTreeMap<Bytes, Bytes>;

/// All keys of one resource. The value of a later layer overrides those of earlier layers.
#[derive(Clone, Debug, Default)]
pub struct Store {
    layers: Vec<Layer>,
    collisions: Collisions,
    /// Of the merged map, since [`Store::take_changes`] was called.
    changes: Changes,
}

/// The keys that several layers have, updated with each change: a search through all keys would take ten times as long
/// as the change itself.
#[derive(Clone, Debug, Default)]
struct Collisions {
    now: BTreeSet<Bytes>,
    /// Keys that became collisions since [`Store::take_new_collisions`] was called, and keys that stopped being
    /// collisions.
    begun: BTreeSet<Bytes>,
    ended: BTreeSet<Bytes>,
}

impl Collisions {
    fn begin(&mut self, key: &Bytes) {
        if self.now.insert(key.clone()) && !self.ended.remove(key) {
            self.begun.insert(key.clone());
        }
    }

    fn end(&mut self, key: &[u8]) {
        if let Some(key) = self.now.take(key)
            && !self.begun.remove(&key)
        {
            self.ended.insert(key);
        }
    }
}

impl Store {
    /// An empty store with one empty layer for each backend, in merge order.
    pub fn new(layers: usize) -> Store {
        Store { layers: vec![Layer::new(); layers], collisions: Collisions::default(), changes: Changes::default() }
    }

    /// Replaces all keys of one backend.
    pub fn replace(&mut self, layer: usize, entries: Layer) {
        let old = std::mem::replace(&mut self.layers[layer], entries);
        self.note_replaced(layer, &old);
        let ended = self.collisions.now.iter().filter(|key| self.holders(key) < 2).cloned().collect::<Vec<_>>();
        ended.iter().for_each(|key| self.collisions.end(key));
        let new = &self.layers[layer];
        let others = || self.layers.iter().enumerate().filter(|(index, _)| *index != layer).map(|(_, other)| other);
        // Iterates over the smaller side.
        let begun: Vec<Bytes> = if others().map(Layer::len).sum::<usize>() < new.len() {
            others().flat_map(Layer::keys).filter(|key| new.contains_key(*key)).cloned().collect()
        } else {
            new.keys().filter(|key| others().any(|other| other.contains_key(*key))).cloned().collect()
        };
        begun.iter().for_each(|key| self.collisions.begin(key));
    }

    /// Sets one key. Returns whether its value in this layer changed.
    pub fn put(&mut self, layer: usize, key: Bytes, value: Bytes) -> bool {
        let change = match self.layers[layer].get_mut(&key) {
            Some(old) if *old == value => return false,
            Some(old) => {
                *old = value;
                Change::Value
            }
            None => {
                if self.holders(&key) > 0 {
                    self.collisions.begin(&key);
                }
                self.layers[layer].insert(key.clone(), value);
                Change::Presence
            }
        };
        self.note(layer, key, change);
        true
    }

    /// Removes one key. Returns whether this layer had the key.
    pub fn delete(&mut self, layer: usize, key: &[u8]) -> bool {
        let Some((key, _)) = self.layers[layer].remove_entry(key) else { return false };
        if self.holders(&key) < 2 {
            self.collisions.end(&key);
        }
        self.note(layer, key, Change::Presence);
        true
    }

    /// Counts every key as changed.
    pub fn change_everything(&mut self) {
        self.changes = Changes::Everything;
    }

    /// The keys that have changed since the last call. A key below that a later layer overrides has not changed.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Notes what a change in one layer means for the merged map.
    fn note(&mut self, layer: usize, key: Bytes, change: Change) {
        let has = |layers: &[Layer]| layers.iter().any(|other| other.contains_key(&key));
        if has(&self.layers[layer + 1..]) {
            return;
        }
        let change = if has(&self.layers[..layer]) { Change::Value } else { change };
        self.changes.add(key, change);
    }

    /// Notes what differs between the present layer and its state before. The comparison ends when it has found so much
    /// that everything counts as changed.
    fn note_replaced(&mut self, layer: usize, old: &Layer) {
        let new = &self.layers[layer];
        if old.len().abs_diff(new.len()) > Changes::MOST {
            self.changes = Changes::Everything;
        }
        let changed: Vec<(Bytes, Change)> = match self.changes {
            Changes::Everything => return,
            Changes::Keys(_) => {
                between(old, new).take(Changes::MOST + 1).map(|(key, change)| (key.clone(), change)).collect()
            }
        };
        changed.into_iter().for_each(|(key, change)| self.note(layer, key, change));
    }

    /// The number of layers that have a key.
    fn holders(&self, key: &[u8]) -> usize {
        self.layers.iter().filter(|layer| layer.contains_key(key)).count()
    }

    /// The keys of one layer.
    pub fn layer(&self, layer: usize) -> &Layer {
        &self.layers[layer]
    }

    /// The layers that have a key, in merge order: the value of the last one counts.
    pub fn layers_of<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        self.layers.iter().enumerate().filter(|(_, layer)| layer.contains_key(key)).map(|(index, _)| index)
    }

    /// The number of keys in one layer.
    pub fn count(&self, layer: usize) -> usize {
        self.layers[layer].len()
    }

    /// Whether one layer has a key that begins with these bytes.
    pub fn has_prefix(&self, layer: usize, prefix: &[u8]) -> bool {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.layers[layer].range::<[u8], _>(from).next().is_some_and(|(key, _)| key.starts_with(prefix))
    }

    /// The sum of the numbers of keys in all layers: the cost of an iteration over everything.
    pub fn size(&self) -> usize {
        self.layers.iter().map(Layer::len).sum()
    }

    /// Whether a key exists. A path that only has keys below it is no key.
    pub fn exists(&self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.get_pair(key).map(|(_, value)| value)
    }

    /// A key and its value. The key is the store's own, so that the caller can share it.
    pub fn get_pair(&self, key: &[u8]) -> Option<(&Bytes, &Bytes)> {
        self.layers.iter().rev().find_map(|layer| layer.get_key_value(key))
    }

    /// The pairs whose key matches a pattern (Go's path.Match), in the order of the keys. Reads only the range of the
    /// pattern's literal prefix, and skips everything in it that is deeper than the pattern.
    pub fn gets(&self, pattern: &[u8]) -> Result<impl Iterator<Item = (&Bytes, &Bytes)> + use<'_>, BadPattern> {
        let pattern = Pattern::new(pattern)?;
        let literal = if pattern.is_literal() { self.get_pair(pattern.prefix()) } else { None };
        let matching = (!pattern.is_literal()).then(|| self.matching(pattern));
        Ok(literal.into_iter().chain(matching.into_iter().flatten()))
    }

    fn matching(&self, pattern: Pattern) -> impl Iterator<Item = (&Bytes, &Bytes)> + use<'_> {
        // The number of slashes that a match has after the prefix. Deeper directories are skipped.
        let of_prefix = pattern.prefix().iter().filter(|byte| **byte == b'/').count();
        let slashes = pattern.depth().map(|depth| depth - of_prefix);
        let mut cursor = Cursor::new(&self.layers, pattern.prefix());
        let mut at = cursor.next();
        std::iter::from_fn(move || {
            while let Some((key, value)) = at {
                let rest = key.strip_prefix(pattern.prefix())?;
                let too_deep = slashes.and_then(|slashes| directory(key, pattern.prefix().len(), slashes));
                at = match too_deep {
                    Some(too_deep) => cursor.next_outside(too_deep),
                    None => cursor.next(),
                };
                if too_deep.is_none() && pattern.matches_behind_prefix(rest) {
                    return Some((key, value));
                }
            }
            None
        })
    }

    /// The values whose key matches a pattern, sorted.
    pub fn getvs(&self, pattern: &[u8]) -> Result<Vec<&Bytes>, BadPattern> {
        let mut values: Vec<&Bytes> = self.gets(pattern)?.map(|(_, value)| value).collect();
        values.sort_unstable();
        Ok(values)
    }

    /// All pairs, in the order of the keys.
    pub fn all(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        let mut cursor = Cursor::new(&self.layers, b"");
        std::iter::from_fn(move || cursor.next())
    }

    /// The names directly below a path, sorted. The path is cleaned first. The root has no names, as in Go remco.
    pub fn ls(&self, path: &[u8]) -> Vec<Bytes> {
        self.names(path, Names::All)
    }

    /// Like `ls`, but only names that have keys below them.
    pub fn lsdir(&self, path: &[u8]) -> Vec<Bytes> {
        self.names(path, Names::Directories)
    }

    /// The keys that have become collisions since the last call, in their order.
    pub fn take_new_collisions(&mut self) -> BTreeSet<Bytes> {
        self.collisions.ended.clear();
        std::mem::take(&mut self.collisions.begun)
    }

    fn names(&self, path: &[u8], wanted: Names) -> Vec<Bytes> {
        // The root `/` becomes `//`, and no key is below that.
        let mut below = path::clean(path).into_owned();
        below.push(b'/');
        let mut names = Vec::new();
        let mut cursor = Cursor::new(&self.layers, &below);
        let mut at = cursor.next();
        while let Some((key, rest)) = at.and_then(|(key, _)| Some((key, key.strip_prefix(&below[..])?))) {
            at = match rest.iter().position(|byte| *byte == b'/') {
                Some(end) => {
                    names.push(&rest[..end]);
                    cursor.next_outside(&key[..below.len() + end + 1])
                }
                None => {
                    if matches!(wanted, Names::All) {
                        names.push(rest);
                    }
                    cursor.next()
                }
            };
        }
        // Keys are sorted by byte, and `/` is not the least one: `a`, `a-b/c`, `a/b`.
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(Rc::from).collect()
    }
}

/// The kind of names to return.
enum Names {
    All,
    Directories,
}

/// The prefix of a key up to and including the first `/` that exceeds the allowed number of slashes after a place;
/// `None`: it has no such `/`.
fn directory(key: &[u8], from: usize, slashes: usize) -> Option<&[u8]> {
    let (slash, _) = key[from..].iter().enumerate().filter(|(_, byte)| **byte == b'/').nth(slashes)?;
    Some(&key[..=from + slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &mut Store, layer: usize, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> bool {
        store.put(layer, Bytes::from(key.as_ref()), Bytes::from(value.as_ref()))
    }
    use crate::random::Random;

    /// A store of one layer; the value of each key is its place in the list.
    fn store(keys: &[&str]) -> Store {
        let mut store = Store::new(1);
        for (index, key) in keys.iter().enumerate() {
            put(&mut store, 0, key.as_bytes(), index.to_string().as_bytes());
        }
        store
    }

    fn text<'a>(items: impl IntoIterator<Item = &'a Bytes>) -> Vec<String> {
        items.into_iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    fn keys<'a>(pairs: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) -> Vec<String> {
        text(pairs.map(|(key, _)| key))
    }

    #[test]
    fn a_key_is_found_as_it_is_written() {
        let store = store(&["/features/dark_mode", "/features/blank"]);
        assert_eq!(store.get(b"/features/dark_mode").map(|value| &**value), Some(&b"0"[..]));
        for none in ["/features", "/features/dark_mode/", "features/dark_mode", "/Features/dark_mode", "", "/"] {
            assert!(!store.exists(none.as_bytes()), "{none}");
        }
    }

    #[test]
    fn put_and_delete_return_what_changed() {
        let mut store = Store::new(2);
        assert!(put(&mut store, 0, b"/a", b"1"));
        assert!(!put(&mut store, 0, b"/a", b"1"));
        assert!(put(&mut store, 0, b"/a", b"2"));
        assert!(put(&mut store, 1, b"/a", b"2"));
        assert!(store.delete(1, b"/a"));
        assert!(!store.delete(1, b"/a"));
        assert_eq!(store.get(b"/a").map(|value| &**value), Some(&b"2"[..]));
    }

    #[test]
    fn a_later_layer_wins_and_uncovers_when_it_goes() {
        let mut store = Store::new(3);
        put(&mut store, 0, b"/a", b"first");
        put(&mut store, 2, b"/a", b"third");
        put(&mut store, 1, b"/b", b"second");
        assert_eq!(text(store.all().map(|(_, value)| value)), ["third", "second"]);
        store.replace(2, Layer::new());
        assert_eq!(text(store.getvs(b"/*").unwrap()), ["first", "second"]);
    }

    #[test]
    fn gets_sees_one_level_for_each_slash() {
        let store = store(&["/lb/servers/web1", "/lb/servers/api1", "/lb/blue/weight", "/lb/mode", "/lb", "/x/y"]);
        let check = |pattern: &str, want: &[&str]| {
            assert_eq!(keys(store.gets(pattern.as_bytes()).unwrap()), want, "{pattern}");
        };
        check("/lb/servers/*", &["/lb/servers/api1", "/lb/servers/web1"]);
        check("/lb/*/weight", &["/lb/blue/weight"]);
        check("/*/*", &["/lb/mode", "/x/y"]);
        check("/*", &["/lb"]);
        check("*", &[]);
        check("/lb", &["/lb"]);
        check("/l", &[]);
        check("/l[b]", &["/lb"]);
        check("/lb[^a]mode", &["/lb/mode"]);
        check("/lb\\/mode", &["/lb/mode"]);
        assert!(store.gets(b"/lb/[a-").is_err());
        assert!(Store::new(0).gets(b"[").is_err());
    }

    #[test]
    fn fault_13_queries_read_their_range_and_not_the_whole_store() {
        let mut store = Store::new(1);
        for service in 0..2_000 {
            for name in 0..40 {
                put(&mut store, 0, format!("/services/{service:04}/{name}").as_bytes(), b"");
            }
        }
        let steps = |query: &dyn Fn(&Store) -> usize, found: usize| {
            cursor::tests::TAKEN.set(0);
            assert_eq!(query(&store), found);
            cursor::tests::TAKEN.get()
        };
        let gets = |pattern: &'static [u8]| move |store: &Store| store.gets(pattern).unwrap().count();
        assert!(steps(&gets(b"/services/1000/*"), 40) <= 41);
        assert!(steps(&gets(b"/services/1000/3?"), 10) <= 12);
        assert_eq!(steps(&gets(b"/services/1000/3"), 1), 0);
        assert!(steps(&gets(b"/*"), 0) < 40, "it goes on behind what is deeper than the pattern");
        assert!(steps(&gets(b"/services/*"), 0) < 2_000 * 20);
        assert!(steps(&|store| store.ls(b"/services/1000").len(), 40) <= 41);
        assert!(steps(&|store| store.lsdir(b"/services").len(), 2_000) < 2_000 * 20);
        assert!(steps(&|store| store.lsdir(b"/none").len(), 0) <= 1);
    }

    #[test]
    fn getvs_sorts_and_keeps_duplicates() {
        let mut store = Store::new(1);
        for (key, value) in [("/1", "beta"), ("/2", "Alpha"), ("/3", "alpha"), ("/4", "beta"), ("/5", "_u")] {
            put(&mut store, 0, key.as_bytes(), value.as_bytes());
        }
        assert_eq!(text(store.getvs(b"/*").unwrap()), ["Alpha", "_u", "alpha", "beta", "beta"]);
    }

    #[test]
    fn ls_and_lsdir() {
        let keys = ["/s/shop/domain", "/s/shop/tls/cert", "/s/shop/tls/key", "/s/blog", "/s2/x", "/s", "/s/blog-b/x"];
        let store = store(&keys);
        let check = |path: &str, all: &[&str], directories: &[&str]| {
            assert_eq!(text(&store.ls(path.as_bytes())), all, "ls {path:?}");
            assert_eq!(text(&store.lsdir(path.as_bytes())), directories, "lsdir {path:?}");
        };
        check("/s", &["blog", "blog-b", "shop"], &["blog-b", "shop"]);
        check("/s/", &["blog", "blog-b", "shop"], &["blog-b", "shop"]);
        check("//s/./shop/..", &["blog", "blog-b", "shop"], &["blog-b", "shop"]);
        check("/s/shop", &["domain", "tls"], &["tls"]);
        // A key, a part of a name, a relative path, and paths that do not exist.
        for none in ["/s/blog", "/s/sho", "s", "/none", ".", ".."] {
            check(none, &[], &[]);
        }
        // Go remco lists no names below the root.
        check("/", &[], &[]);
        check("", &[], &[]);
    }

    #[test]
    fn a_name_that_is_a_key_and_a_directory_is_listed_once() {
        let store = store(&["/d/a", "/d/a b", "/d/a-b", "/d/a.b/x", "/d/a/x", "/d/a/y", "/d/a0"]);
        assert_eq!(text(&store.ls(b"/d")), ["a", "a b", "a-b", "a.b", "a0"]);
        assert_eq!(text(&store.lsdir(b"/d")), ["a", "a.b"]);
    }

    #[test]
    fn bytes_survive() {
        let mut store = Store::new(1);
        put(&mut store, 0, b"/\xff/\xfe", b"\x00\xff");
        assert_eq!(*store.ls(b"/\xff")[0], *b"\xfe");
        assert_eq!(**store.getvs(b"/\xff/?").unwrap()[0], *b"\x00\xff");
        assert_eq!(**store.gets(b"/?/*").unwrap().next().unwrap().0, *b"/\xff/\xfe");
    }

    #[test]
    fn a_collision_is_named_once_for_as_long_as_it_lasts() {
        let mut store = Store::new(3);
        assert!(store.take_new_collisions().is_empty());
        for (layer, key) in [(0, "/a"), (0, "/b"), (0, "/c"), (1, "/b"), (2, "/b"), (1, "/x"), (2, "/x")] {
            put(&mut store, layer, key.as_bytes(), b"");
        }
        assert_eq!(text(&store.take_new_collisions()), ["/b", "/x"]);
        put(&mut store, 0, b"/x", b"");
        store.delete(1, b"/b");
        assert!(store.take_new_collisions().is_empty());
        // A collision that ended and began again between two calls is no new one.
        store.replace(1, Layer::new());
        store.delete(0, b"/x");
        put(&mut store, 0, b"/x", b"");
        assert!(store.take_new_collisions().is_empty());
        store.delete(2, b"/b");
        assert!(store.take_new_collisions().is_empty());
        put(&mut store, 2, b"/b", b"");
        assert_eq!(text(&store.take_new_collisions()), ["/b"]);
        // A collision that began and ended between two calls is not reported.
        put(&mut store, 2, b"/c", b"");
        store.delete(2, b"/c");
        assert!(store.take_new_collisions().is_empty());
    }

    #[test]
    fn collisions_are_those_that_a_search_of_all_keys_finds() {
        let mut random = Random::new(11);
        for round in 0..60 {
            let layers = 1 + round % 3;
            let (mut store, mut naive, mut known) = (Store::new(layers), Naive::default(), Vec::new());
            for _ in 0..40 {
                for _ in 0..random.below(6) {
                    let (layer, key) = (random.below(layers), random_key(&mut random));
                    match random.below(8) {
                        0 => {
                            let keys: Vec<_> = (0..random.below(60)).map(|_| random_key(&mut random)).collect();
                            naive.layers[layer] = keys.iter().map(|key| (key.clone(), Vec::new())).collect();
                            store.replace(layer, keys.iter().map(|key| (Rc::from(&key[..]), Rc::from([]))).collect());
                        }
                        1..4 => {
                            naive.layers[layer].remove(&key);
                            store.delete(layer, &key);
                        }
                        _ => {
                            put(&mut store, layer, &key, b"");
                            naive.layers[layer].insert(key, Vec::new());
                        }
                    }
                }
                let now = naive.collisions();
                let new: Vec<_> = now.iter().filter(|key| !known.contains(*key)).cloned().collect();
                assert_eq!(store.take_new_collisions().iter().map(|key| key.to_vec()).collect::<Vec<_>>(), new);
                assert!(store.collisions.now.iter().map(|key| &key[..]).eq(now.iter().map(|key| &key[..])));
                known = now;
            }
        }
    }

    /// A reference implementation over one flat map.
    #[derive(Default)]
    struct Naive {
        layers: [BTreeMap<Vec<u8>, Vec<u8>>; 3],
    }

    impl Naive {
        fn all(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
            self.layers.iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
        }

        fn names(&self, path: &[u8], directories: bool) -> Vec<Vec<u8>> {
            let mut names = BTreeSet::new();
            for key in self.all().into_keys() {
                let Some(rest) = key.strip_prefix(path).and_then(|rest| rest.strip_prefix(b"/")) else {
                    continue;
                };
                let parts: Vec<&[u8]> = rest.split(|byte| *byte == b'/').collect();
                if parts.len() > 1 || !directories {
                    names.insert(parts[0].to_vec());
                }
            }
            names.into_iter().collect()
        }

        fn collisions(&self) -> Vec<Vec<u8>> {
            let holders = |key: &Vec<u8>| self.layers.iter().filter(|layer| layer.contains_key(key)).count();
            self.all().into_keys().filter(|key| holders(key) > 1).collect()
        }
    }

    fn owned<'a>(pairs: impl IntoIterator<Item = (&'a Bytes, &'a Bytes)>) -> Vec<(Vec<u8>, Vec<u8>)> {
        pairs.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    }

    /// A path of up to three names; most paths share a prefix.
    fn random_key(random: &mut Random) -> Vec<u8> {
        let mut key = Vec::new();
        for _ in 0..=random.below(3) {
            key.push(b'/');
            key.extend(*random.pick(&[&b"a"[..], b"b", b"a-", b"ab", b"a0", b"\xff"]));
            if random.below(3) == 0 {
                key.extend(random.below(40).to_string().as_bytes());
            }
        }
        key
    }

    #[test]
    fn random_stores_answer_as_the_naive_one_does() {
        let mut random = Random::new(3);
        let patterns =
            ["/*", "/a/*", "/*/*", "/a*/?", "/a/b/*", "/*/a*/*", "/a[^x]*", "/b/[ab]", "/ab", "*", "/*/*/*/*"];
        for round in 0..60 {
            let layers = 1 + round % 3;
            let (mut store, mut naive) = (Store::new(layers), Naive::default());
            for _ in 0..random.below(600) {
                let (layer, key) = (random.below(layers), random_key(&mut random));
                if random.below(4) == 0 {
                    let had = naive.layers[layer].remove(&key).is_some();
                    assert_eq!(store.delete(layer, &key), had);
                } else {
                    let value = random.below(5).to_string().into_bytes();
                    let changed = put(&mut store, layer, &key, &value);
                    assert_eq!(naive.layers[layer].insert(key, value.clone()) != Some(value), changed);
                }
            }
            let all = naive.all();
            assert_eq!(owned(store.all()), Vec::from_iter(all.clone()));
            for pattern in patterns {
                let built = Pattern::new(pattern.as_bytes()).unwrap();
                let want = all.iter().filter(|(key, _)| built.matches(key));
                let want: Vec<_> = want.map(|(key, value)| (key.clone(), value.clone())).collect();
                assert_eq!(owned(store.gets(pattern.as_bytes()).unwrap()), want, "{pattern}");
            }
            for _ in 0..20 {
                let path = random_key(&mut random);
                assert_eq!(store.get(&path).map(|value| value.to_vec()), all.get(&path).cloned());
                let plain = |names: Vec<Bytes>| names.iter().map(|name| name.to_vec()).collect::<Vec<_>>();
                assert_eq!(plain(store.ls(&path)), naive.names(&path, false));
                assert_eq!(plain(store.lsdir(&path)), naive.names(&path, true));
            }
        }
    }
}
