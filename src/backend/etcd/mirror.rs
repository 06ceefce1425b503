//! What of etcd's keys belongs to a resource, and what one change of a key means for it. Holds no values: those are
//! the store's. Knows neither requests nor time.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::wire::{Entry, Event, EventKind, Span};
use crate::backend::Change;
use crate::backend::keys::{Keys, StoreKey};
use crate::store::{Bytes, Layer};

/// The keys of one resource as known here.
pub struct Mirror {
    keys: Keys,
    watch_keys: Keys,
    /// No key begins with a slash, so that `app/x` is the only one that can be called `/app/x`.
    relative: bool,
    /// Store keys that several raw keys could stand for.
    shared: BTreeSet<Bytes>,
    /// The revision each store key was written at, for comparing with a later read.
    written: Option<BTreeMap<Bytes, u64>>,
    /// The revision of the last change that called for an update.
    last_trigger: u64,
}

/// Whether the mirror remembers what it takes to compare itself with a later read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparing {
    Yes,
    No,
}

/// All keys while they are read.
pub struct Loading {
    layer: Layer,
    shared: BTreeSet<Bytes>,
    written: Option<BTreeMap<Bytes, u64>>,
}

/// What an event means.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    Nothing,
    /// Calls for an update, but is in no store.
    Trigger,
    Change {
        change: Change,
        trigger: bool,
    },
    /// What the store key is now cannot be told from the event: the keys must be read again.
    ReadAgain,
}

impl Mirror {
    pub fn new(prefix: &str, keys: &[String], watch_keys: &[String], comparing: Comparing) -> Mirror {
        let keys = Keys::new(prefix, keys);
        Mirror {
            relative: !keys
                .prefixes()
                .iter()
                .any(|prefix| prefix.is_empty() || prefix.starts_with(b"/")),
            watch_keys: Keys::new(prefix, watch_keys),
            shared: BTreeSet::new(),
            written: (comparing == Comparing::Yes).then(BTreeMap::new),
            last_trigger: 0,
            keys,
        }
    }

    /// What is to be read: disjoint and in order.
    pub fn spans(&self) -> Vec<Span> {
        self.keys
            .prefixes()
            .iter()
            .map(|prefix| Span::of_prefix(prefix))
            .collect()
    }

    /// What is to be watched, keys and watchKeys together: disjoint, so that each event comes once.
    pub fn watched(&self) -> Vec<Span> {
        let mut prefixes = [self.keys.prefixes(), self.watch_keys.prefixes()].concat();
        prefixes.sort_unstable();
        // A text stands before all that begin with it.
        prefixes.dedup_by(|later, kept| later.starts_with(kept));
        prefixes.iter().map(|prefix| Span::of_prefix(prefix)).collect()
    }

    /// Starts to read all keys.
    pub fn load(&self) -> Loading {
        Loading {
            layer: Layer::new(),
            shared: BTreeSet::new(),
            written: self.written.is_some().then(BTreeMap::new),
        }
    }

    /// Adds a key to what is being read. Of several raw keys with one store key the greatest wins.
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
        loading.layer.insert(store_key.key, entry.value);
    }

    /// Takes over what was read: all keys, and those that were not known to be so (none, if this is the first read).
    pub fn install(&mut self, loading: Loading) -> (Layer, BTreeSet<Bytes>) {
        let unknown = match (&self.written, &loading.written) {
            (Some(known), Some(read)) => differing(known, read),
            _ => BTreeSet::new(),
        };
        self.shared = loading.shared;
        self.written = loading.written;
        self.last_trigger = 0;
        (loading.layer, unknown)
    }

    /// Applies an event. Those of one watch must come in order.
    pub fn apply(&mut self, event: Event) -> Meaning {
        let Event {
            kind,
            entry: Entry {
                key: raw,
                value,
                mod_revision,
            },
        } = event;
        // Watches are not ordered among each other: a change that came before the last trigger can arrive after it.
        let trigger = self.watch_keys.covers(&raw) || mod_revision <= self.last_trigger;
        if trigger {
            self.last_trigger = self.last_trigger.max(mod_revision);
        }
        let store_key = if self.keys.covers(&raw) {
            self.store_key(&raw)
        } else {
            None
        };
        let Some(StoreKey { key, exact }) = store_key else {
            return if trigger { Meaning::Trigger } else { Meaning::Nothing };
        };
        if !exact || self.shared.contains(&key) {
            return Meaning::ReadAgain;
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
        Meaning::Change { change, trigger }
    }

    /// What a raw key is called in the store.
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

/// The keys that two sorted maps do not agree on.
fn differing(known: &BTreeMap<Bytes, u64>, read: &BTreeMap<Bytes, u64>) -> BTreeSet<Bytes> {
    let unlike = |(key, revision): &(&Bytes, &u64), other: &BTreeMap<Bytes, u64>| other.get(*key) != Some(*revision);
    let missed = read.iter().filter(|entry| unlike(entry, known));
    let outlived = known.iter().filter(|(key, _)| !read.contains_key(*key));
    missed.chain(outlived).map(|(key, _)| key.clone()).collect()
}
