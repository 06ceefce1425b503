//! `prefix` and `keys` of a backend: which raw keys are wanted, and their names in the store. Used by every backend;
//! reads nothing.

use std::rc::Rc;

use crate::store::{Bytes, path};

/// The keys of one backend under its prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The cleaned prefix; empty without a prefix, and for the root.
    base: Vec<u8>,
    effective: Vec<Vec<u8>>,
    prefixes: Vec<Vec<u8>>,
}

/// The name of a raw key in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreKey {
    /// Clean, with a `/` at its start.
    pub key: Bytes,
    /// At most one raw key is exact for a store key. Others may share the name (`//x` and `/x`), so that a change of an
    /// inexact one does not say what the value becomes.
    pub exact: bool,
}

impl Keys {
    /// The `keys` of a backend below its `prefix`, both as the user wrote them.
    pub fn new(prefix: &str, keys: &[String]) -> Keys {
        let base = match path::join(&[prefix.as_bytes()]) {
            root if root == b"/" || root == b"." => Vec::new(),
            base => base,
        };
        let effective: Vec<Vec<u8>> = keys.iter().map(|key| path::join(&[prefix.as_bytes(), key.as_bytes()])).collect();
        let mut prefixes = effective.clone();
        prefixes.sort_unstable();
        // In sorted order a text precedes all texts that begin with it.
        prefixes.dedup_by(|later, kept| later.starts_with(kept));
        Keys { base, effective, prefixes }
    }

    /// Every configured key with the prefix: `path.Join(prefix, key)`.
    pub fn effective(&self) -> &[Vec<u8>] {
        &self.effective
    }

    /// The effective keys as prefixes of strings (`/app` matches `/app2`): sorted, and none is a prefix of another.
    pub fn prefixes(&self) -> &[Vec<u8>] {
        &self.prefixes
    }

    /// Whether a raw key begins with one of the effective keys.
    pub fn covers(&self, raw: &[u8]) -> bool {
        // Only the last prefix that is not greater can match: a prefix between both would itself begin with it.
        let after = self.prefixes.partition_point(|prefix| prefix[..] <= *raw);
        self.prefixes[..after].last().is_some_and(|prefix| raw.starts_with(prefix))
    }

    /// The prefix of the store keys of an effective key.
    fn stored(&self, effective: &[u8]) -> Vec<u8> {
        rooted(effective.strip_prefix(&self.base[..]).unwrap_or(effective)).to_vec()
    }

    /// `path.Join("/", raw without the prefix)`; `None`: the raw key is neither the prefix nor below it.
    pub fn store_key(&self, raw: &[u8]) -> Option<StoreKey> {
        let rest = raw.strip_prefix(&self.base[..])?;
        let is_below = self.base.is_empty() || matches!(rest, [] | [b'/', ..]);
        is_below.then(|| {
            let key = rooted(rest);
            // Under `/app`, both `/app` and `/app/` are called `/`; the first one is more likely.
            let exact = if self.base.is_empty() || *key != *b"/" { *key == *rest } else { rest.is_empty() };
            StoreKey { key, exact }
        })
    }
}

/// A key without any `/*`, which Go remco removes for Redis and ZooKeeper: a key covers all keys below it anyway.
pub fn without_wildcards(key: &[u8]) -> Vec<u8> {
    let mut stripped = Vec::with_capacity(key.len());
    let mut rest = key;
    while let [first, behind @ ..] = rest {
        rest = match rest.strip_prefix(b"/*") {
            Some(rest) => rest,
            None => {
                stripped.push(*first);
                behind
            }
        };
    }
    stripped
}

/// The configured keys that have no key below them. Each is reported once until that changes: a typing error in a key
/// empties a file.
#[derive(Debug, Default)]
pub struct Missing {
    wanted: Vec<Wanted>,
}

#[derive(Debug)]
struct Wanted {
    /// With the prefix, for messages.
    effective: Vec<u8>,
    /// The prefix of its keys in the store.
    stored: Vec<u8>,
    is_missing: bool,
}

impl Missing {
    /// For backends whose store keys are named by [`Keys::store_key`].
    pub fn new(prefix: &str, keys: &[String]) -> Missing {
        let keys = Keys::new(prefix, keys);
        Missing::of(keys.effective().iter().map(|key| (key.clone(), keys.stored(key))))
    }

    /// `wanted`: for each key its name in messages, and the prefix of its keys in the store.
    pub fn of(wanted: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Missing {
        let wanted = wanted.into_iter().map(|(effective, stored)| Wanted { effective, stored, is_missing: false });
        Missing { wanted: wanted.collect() }
    }

    /// Checks again. `is_there` returns whether the store has a key with this prefix. Returns the configured keys that
    /// have no key now, and had one or were not checked the last time.
    pub fn look(&mut self, is_there: impl Fn(&[u8]) -> bool) -> Vec<String> {
        let mut new = Vec::new();
        for wanted in &mut self.wanted {
            let was_missing = std::mem::replace(&mut wanted.is_missing, !is_there(&wanted.stored));
            if wanted.is_missing && !was_missing {
                new.push(String::from_utf8_lossy(&wanted.effective).into_owned());
            }
        }
        new
    }
}

/// `path.Join("/", path)`
fn rooted(path: &[u8]) -> Bytes {
    match path {
        [b'/', ..] => Rc::from(&*path::clean(path)),
        _ => Rc::from(path::join(&[b"/", path])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(prefix: &str, keys: &[&str]) -> Keys {
        Keys::new(prefix, &keys.iter().map(|key| key.to_string()).collect::<Vec<_>>())
    }

    fn text(list: &[Vec<u8>]) -> Vec<String> {
        list.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    #[test]
    fn effective_keys() {
        let check = |prefix, given: &[&str], want: &[&str]| {
            assert_eq!(text(keys(prefix, given).effective()), want, "{prefix:?} {given:?}");
        };
        check("", &["/"], &["/"]);
        check("", &[""], &[""]);
        check("", &["/app/", "b"], &["/app", "b"]);
        check("/prod", &["/", "/app", "db/"], &["/prod", "/prod/app", "/prod/db"]);
        check("/prod/", &["/app"], &["/prod/app"]);
        check("prod", &["/app"], &["prod/app"]);
        check("/", &["app"], &["/app"]);
        check("/prod", &[], &[]);
    }

    #[test]
    fn prefixes_do_not_overlap() {
        let check = |given: &[&str], want: &[&str]| assert_eq!(text(keys("", given).prefixes()), want, "{given:?}");
        check(&["/b", "/a"], &["/a", "/b"]);
        check(&["/app2", "/app", "/app/x", "/app"], &["/app"]);
        check(&["/a-b", "/a", "/b/c", "/b/d", "/b"], &["/a", "/b"]);
        check(&["/app/x", "", "/"], &[""]);
        check(&[], &[]);
    }

    #[test]
    fn covers_by_string_prefix() {
        let given = keys("/p", &["/app", "/db/main", "/app/x"]);
        for raw in ["/p/app", "/p/app/x", "/p/app2", "/p/application/z", "/p/db/main", "/p/db/main2/x"] {
            assert!(given.covers(raw.as_bytes()), "{raw}");
        }
        for raw in ["/p", "/p/ap", "/p/db", "/p/db/mai", "/p/e", "/", "", "/app", "/p/aqq"] {
            assert!(!given.covers(raw.as_bytes()), "{raw}");
        }
        assert!(!keys("/p", &[]).covers(b"/p"));
        assert!(keys("", &[""]).covers(b"\xff"));
    }

    #[test]
    fn store_keys() {
        let check = |prefix, raw: &str, want: Option<(&str, bool)>| {
            let got = keys(prefix, &["/"]).store_key(raw.as_bytes());
            let want = want.map(|(key, exact)| StoreKey { key: Rc::from(key.as_bytes()), exact });
            assert_eq!(got, want, "{raw:?} under {prefix:?}");
        };
        check("", "/app/x", Some(("/app/x", true)));
        check("/", "/app/x", Some(("/app/x", true)));
        check("", "app/x", Some(("/app/x", false)));
        check("", "/app//x", Some(("/app/x", false)));
        check("", "/app/x/", Some(("/app/x", false)));
        check("", "/app/../x", Some(("/x", false)));
        check("", "/..", Some(("/", false)));
        check("", "/", Some(("/", true)));
        check("", "", Some(("/", false)));
        check("/app", "/app/x", Some(("/x", true)));
        check("/app/", "/app/x", Some(("/x", true)));
        check("//app", "/app/x", Some(("/x", true)));
        check("/app", "/app//x", Some(("/x", false)));
        check("/app", "/app/../x", Some(("/x", false)));
        check("app", "app/x", Some(("/x", true)));
        check("/app", "/app", Some(("/", true)));
        check("/app", "/app/", Some(("/", false)));
        check("/app", "/ap", None);
        check("/app", "/other/x", None);
        check("/app", "app/x", None);
    }

    #[test]
    fn a_key_with_nothing_below_it_is_reported_once() {
        let mut missing = Missing::new("/prod", &["/app", "db", "/"].map(str::to_owned));
        let mut look = |store: &[&str]| missing.look(|begin| store.iter().any(|key| key.as_bytes().starts_with(begin)));
        assert_eq!(look(&["/app/x"]), ["/prod/db"]);
        assert_eq!(look(&["/app/x"]), [""; 0], "told already");
        assert_eq!(look(&[]), ["/prod/app", "/prod"]);
        assert_eq!(look(&["/db2"]), [""; 0]);
        assert_eq!(look(&["/app"]), ["/prod/db"], "it was there in between");
        let mut all = Missing::new("", &["".to_owned()]);
        assert_eq!(all.look(|begin| begin == b"/"), [""; 0]);
    }

    #[test]
    fn fault_12_a_key_that_only_shares_letters_with_the_prefix_is_left_out() {
        // Go remco has `/lication/x` here.
        let given = keys("/app", &["/"]);
        assert!(given.covers(b"/application/x"));
        assert_eq!(given.store_key(b"/application/x"), None);
        assert_eq!(given.store_key(b"/app2"), None);
    }

    #[test]
    fn exact_raw_keys_never_share_a_store_key() {
        for prefix in ["", "/", "/a", "a", "/a/b"] {
            let given = keys(prefix, &[""]);
            let mut seen = std::collections::BTreeMap::new();
            // All texts of up to seven bytes over these four.
            for number in 0..4usize.pow(7) * 8 {
                let raw: Vec<u8> = (0..number % 8).map(|place| b"/ab."[(number / 8) >> (2 * place) & 3]).collect();
                let Some(StoreKey { key, exact: true }) = given.store_key(&raw) else {
                    continue;
                };
                let other = seen.insert(key, raw.clone());
                assert!(other.is_none_or(|other| other == raw), "{} twice", raw.escape_ascii());
            }
            assert!(seen.len() > 10);
        }
    }
}
