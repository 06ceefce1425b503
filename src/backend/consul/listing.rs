//! The keys below one key of Consul, and the differences between two answers. Maps keys to their names in the store.
//! Knows neither requests nor time.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::wire::Entry;
use crate::backend::Change;
use crate::backend::keys::{Keys, StoreKey};
use crate::store::{Bytes, Layer};

/// Keys of Consul, each with a leading slash, and their values. The values share their memory with the store.
pub type Listing = BTreeMap<Bytes, Bytes>;

/// The lowest and the highest index of the new writes in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    range: Option<(u64, u64)>,
}

impl Written {
    fn add(&mut self, index: u64) {
        let (oldest, newest) = self.range.unwrap_or((index, index));
        self.range = Some((oldest.min(index), newest.max(index)));
    }

    /// A lower bound of the indexes of all changes between two answers. `last` and `index` are the indexes of the
    /// answers, `deleted` is the number of keys that the second answer lacks.
    pub fn oldest(self, deleted: usize, last: u64, index: u64) -> u64 {
        let (oldest, newest) = self.range.unwrap_or((index, 0));
        // Consul reports no index of a deletion. The index of an answer is the index of its last change.
        let of_deletions = match deleted {
            0 => return oldest,
            1 if newest < index => index,
            _ => last.saturating_add(1),
        };
        oldest.min(of_deletions)
    }
}

/// Adds an entry to a new listing, and to the writes if it differs from the old listing. Equal keys and values share
/// the memory of the old listing.
pub fn add(new: &mut Listing, old: Option<&Listing>, entry: Entry, written: &mut Written) {
    let Entry { key, value, index } = entry;
    match old.and_then(|old| old.get_key_value(&key)) {
        Some((known, was)) if *was == value => new.insert(Rc::clone(known), Rc::clone(was)),
        _ => {
            written.add(index);
            new.insert(key, value)
        }
    };
}

/// The keys that differ between two listings.
pub fn differences(old: &Listing, new: &Listing) -> Vec<Bytes> {
    let is_same = |one: &Bytes, other: &Bytes| Rc::ptr_eq(one, other) || one == other;
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let written = new.iter().filter(|(key, value)| old.get(*key).is_none_or(|was| !is_same(was, value)));
    gone.chain(written.map(|(key, _)| key)).cloned().collect()
}

/// The keys of a resource in the store. If several keys have one name in the store, the exact one wins: `app` before
/// the folder `app/`.
pub fn layer<'a>(keys: &Keys, listings: impl Iterator<Item = &'a Listing>) -> Layer {
    let (mut layer, mut exact) = (Layer::new(), Vec::new());
    for (raw, value) in listings.flatten() {
        match store_key(keys, raw) {
            Some(StoreKey { key, exact: true }) => exact.push((key, Rc::clone(value))),
            Some(StoreKey { key, exact: false }) => _ = layer.insert(key, Rc::clone(value)),
            None => {}
        }
    }
    layer.extend(exact);
    layer
}

/// The changes in the store of a resource that follow from the differences. `listings` are the new ones. `has_folders`:
/// the old or new listings have a key that is spelled differently in the store.
pub fn changes<'a>(
    keys: &Keys,
    differences: &[Bytes],
    has_folders: bool,
    listings: impl Iterator<Item = &'a Listing> + Clone,
) -> Vec<Change> {
    let names: BTreeSet<Bytes> =
        differences.iter().filter_map(|raw| store_key(keys, raw)).map(|name| name.key).collect();
    let change = |name: Bytes, value: Option<Bytes>| match value {
        Some(value) => Change::Put(name, value),
        None => Change::Delete(name),
    };
    if has_folders {
        // Several keys may share a name.
        let layer = layer(keys, listings);
        return names.into_iter().map(|name| change(Rc::clone(&name), layer.get(&name).cloned())).collect();
    }
    let value = |raw: &Bytes| listings.clone().find_map(|listing| listing.get(raw).cloned());
    let changed = differences.iter().filter_map(|raw| Some((store_key(keys, raw)?.key, raw)));
    changed.map(|(name, raw)| change(name, value(raw))).collect()
}

/// Whether other keys may share the name of a key in the store.
pub fn is_folder(keys: &Keys, raw: &Bytes) -> bool {
    store_key(keys, raw).is_some_and(|name| !name.exact)
}

fn store_key(keys: &Keys, raw: &Bytes) -> Option<StoreKey> {
    let mut name = keys.store_key(raw).filter(|_| keys.covers(raw))?;
    if name.key == *raw {
        // The key in the store is equal: one copy is enough.
        name.key = Rc::clone(raw);
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Rc::from(text.as_bytes())
    }

    fn listing(entries: &[(&str, &str)]) -> Listing {
        entries.iter().map(|(key, value)| (bytes(key), bytes(value))).collect()
    }

    #[track_caller]
    fn check(old: &[(&str, &str)], new: &[(&str, &str)], want: &[(&str, Option<&str>)]) {
        let keys = Keys::new("/p", &["/app".to_owned()]);
        let (old, new) = (listing(old), listing(new));
        let differences = differences(&old, &new);
        let has_folders = old.keys().chain(new.keys()).any(|raw| is_folder(&keys, raw));
        let changes = changes(&keys, &differences, has_folders, [&new].into_iter());
        let want: Vec<_> = want
            .iter()
            .map(|(name, value)| match value {
                Some(value) => Change::Put(bytes(name), bytes(value)),
                None => Change::Delete(bytes(name)),
            })
            .collect();
        assert_eq!(changes, want);
        // The changes turn the old layer into the new one.
        let mut applied = layer(&keys, [&old].into_iter());
        for change in changes {
            match change {
                Change::Put(key, value) => _ = applied.insert(key, value),
                Change::Delete(key) => _ = applied.remove(&key),
            }
        }
        assert_eq!(applied, layer(&keys, [&new].into_iter()));
    }

    #[test]
    fn single_changes() {
        check(&[], &[], &[]);
        check(&[("/p/app/x", "1")], &[("/p/app/x", "1")], &[]);
        check(&[("/p/app/x", "1")], &[("/p/app/x", "2")], &[("/app/x", Some("2"))]);
        check(&[("/p/app/x", "1")], &[("/p/app2", "")], &[("/app/x", None), ("/app2", Some(""))]);
        check(&[], &[("/p/other", "1"), ("/app", "1")], &[]);
    }

    #[test]
    fn folders_share_names() {
        check(&[], &[("/p/app/", "")], &[("/app", Some(""))]);
        check(&[("/p/app/", "")], &[("/p/app", "1"), ("/p/app/", "")], &[("/app", Some("1"))]);
        check(&[("/p/app", "1"), ("/p/app/", "")], &[("/p/app/", "")], &[("/app", Some(""))]);
        check(&[("/p/app", "1"), ("/p/app/", "")], &[("/p/app", "1")], &[("/app", Some("1"))]);
        check(&[("/p/app//x", "1")], &[("/p/app/x", "2")], &[("/app/x", Some("2"))]);
    }

    #[test]
    fn what_stays_is_shared() {
        let (old, mut new) = (listing(&[("/a", "1"), ("/b", "1")]), Listing::new());
        let mut written = Written::default();
        for (key, value, index) in [("/a", "1", 3), ("/b", "2", 5)] {
            add(&mut new, Some(&old), Entry { key: bytes(key), value: bytes(value), index }, &mut written);
        }
        assert_eq!(written, Written { range: Some((5, 5)) });
        assert!(Rc::ptr_eq(&old[&bytes("/a")], &new[&bytes("/a")]));
        assert_eq!(new, listing(&[("/a", "1"), ("/b", "2")]));
    }
    #[test]
    fn no_change_is_older_than_the_oldest() {
        let written = |range| Written { range };
        // A write in the answer.
        assert_eq!(written(Some((5, 8))).oldest(0, 3, 9), 5);
        // One deletion: the index of the answer is the index of the deletion.
        assert_eq!(written(None).oldest(1, 3, 9), 9);
        assert_eq!(written(Some((8, 8))).oldest(1, 3, 9), 8);
        // The index of the answer may be that of the write.
        assert_eq!(written(Some((9, 9))).oldest(1, 3, 9), 4);
        // Several deletions: the index of the answer is that of the last one.
        assert_eq!(written(None).oldest(2, 3, 9), 4);
    }
}
